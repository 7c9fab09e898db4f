//! What a tool's result shows, field by field, each with who vouches for it.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use bailiwick_log::Position;
use serde_json::Value;

use super::document::{DOCUMENT_MAX, Document, Shape, Tree};
use super::seen::{Lately, Marks, Said};
use super::words;
use super::written::Written;
use super::{Provenance, Seen};

/// The most bytes of one result that are looked at, of what third parties may have written and of all else each: a call must not
/// wait long for its result to be taken in, and more falls out of the memory anyway.
const BYTES_MAX: usize = 32 << 10;

/// The deepest place in a result that is looked at by itself; what is deeper counts as its container does.
const DEPTH_MAX: usize = 32;

/// Who vouches for what a tool returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// For what no field says otherwise.
    pub whole: Provenance,
    /// Fields that differ; of several that cover a place the last counts.
    pub fields: Vec<(Field, Provenance)>,
    /// Fields that count as [`Provenance::Named`] where the person's own words say the place that was read and nothing in
    /// `fields` covers them.
    pub named: Vec<Field>,
    /// The fields that not everybody may see, each with a label that says who may.
    pub private: Vec<(Field, Arc<str>)>,
}

/// The fields of a result that a JSONPath names (RFC 9535): names, indexes and `*`, as `$.events[*].description`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(Arc<[Step]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
    Each,
}

/// What is wrong with a JSONPath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only names, indexes and `*` are understood, as in `$.events[*].id` or `$['first name']`")]
pub struct InvalidField;

impl FromStr for Field {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let mut rest = text.strip_prefix('$').ok_or(InvalidField)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest).ok_or(InvalidField)?;
            steps.push(step);
            rest = after;
        }
        Ok(Self(steps.into()))
    }
}

/// The first step of a path, and what follows it.
fn step(path: &str) -> Option<(Step, &str)> {
    if let Some(name) = path.strip_prefix('.') {
        let (name, after) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
        return match name {
            "" => None,
            "*" => Some((Step::Each, after)),
            name => Some((Step::Name(name.to_owned()), after)),
        };
    }
    let inner = path.strip_prefix('[')?;
    for quote in ['\'', '"'] {
        if let Some(quoted) = inner.strip_prefix(quote) {
            let (name, after) = quoted.split_once(quote)?;
            return Some((Step::Name(name.to_owned()), after.strip_prefix(']')?));
        }
    }
    let (index, after) = inner.split_once(']')?;
    Some((if index == "*" { Step::Each } else { Step::Index(index.parse().ok()?) }, after))
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        self.0.iter().try_for_each(|step| step.fmt(f))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write_name(f, name),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Each => f.write_str("[*]"),
        }
    }
}

/// A member's name as a step of a path.
fn write_name(to: &mut impl fmt::Write, name: &str) -> fmt::Result {
    let is_bare = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_ascii_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_bare = !name.is_empty() && (name.bytes().all(is_ascii_bare) || name.chars().all(is_bare));
    let (before, after) = if is_bare { (".", "") } else { ("['", "']") };
    to.write_str(before)?;
    to.write_str(name)?;
    to.write_str(after)
}

impl Field {
    /// The whole of a result.
    pub fn whole() -> Self {
        Self(Arc::default())
    }

    /// Whether it names the place `at`, or something that holds it.
    fn covers(&self, at: &[At<'_>]) -> bool {
        // Places differ in their last step before all others.
        self.0.len() <= at.len()
            && self.0.iter().zip(at).rev().all(|(step, at)| match (step, at) {
                (Step::Each, _) => true,
                (Step::Name(name), At::Name(at)) => name == at,
                (Step::Index(index), At::Index(at)) => index == at,
                _ => false,
            })
    }
}

impl Fields {
    /// Results whose fields are all alike.
    pub const fn all(whole: Provenance) -> Self {
        Self { whole, fields: Vec::new(), named: Vec::new(), private: Vec::new() }
    }

    /// The same of a result that was read at a place which the person's own words say.
    pub fn at_named_place(&self) -> Self {
        let named = self.named.iter().map(|field| (field.clone(), Provenance::Named));
        let fields = named.chain(self.fields.iter().cloned()).collect();
        Self { whole: self.whole, fields, named: Vec::new(), private: self.private.clone() }
    }

    /// The same of a result whose fields nobody tells apart: all of it carries every label.
    fn alike(&self) -> Self {
        let private = self.private.iter().map(|(_, label)| (Field::whole(), Arc::clone(label))).collect();
        Self { private, ..Self::all(self.whole) }
    }

    /// Whether anybody vouches for any of it.
    pub fn vouch_for_any(&self) -> bool {
        self.sources().any(|source| source != Provenance::Untrusted)
    }

    /// Whether strangers may have written any of it.
    fn have_strangers(&self) -> bool {
        self.sources().any(|source| source == Provenance::Untrusted)
    }

    fn sources(&self) -> impl Iterator<Item = Provenance> {
        let named = self.named.iter().map(|_| Provenance::Named);
        std::iter::once(self.whole).chain(self.fields.iter().map(|(_, source)| *source)).chain(named)
    }

    /// Whether some field of a result differs from the rest of it.
    fn are_told_apart(&self) -> bool {
        !self.fields.is_empty() || self.private.iter().any(|(field, _)| !field.0.is_empty())
    }

    /// The confidentiality labels of what is at a place; of what is not told apart, all.
    fn labels<'s>(&'s self, at: Option<&'s [At<'_>]>) -> impl Iterator<Item = &'s Arc<str>> {
        let covers = move |(field, _): &&(Field, Arc<str>)| at.is_none_or(|at| field.covers(at));
        self.private.iter().filter(covers).map(|(_, label)| label)
    }

    /// Who a text as a whole is from. That all of it was said at a place, or is a stranger's, holds of any text; that a service made
    /// or vouches for its fields holds of no text that has none.
    fn source_of_text(&self) -> Provenance {
        let of_any_text = |source: Provenance| matches!(source, Provenance::Named | Provenance::Untrusted);
        let whole = self.fields.iter().rev().find(|(field, source)| field.covers(&[]) && of_any_text(*source));
        whole.map_or(self.whole, |(_, source)| *source)
    }

    fn source(&self, at: &[At<'_>]) -> Provenance {
        self.fields.iter().rev().find(|(field, _)| field.covers(at)).map_or(self.whole, |(_, source)| *source)
    }
}

/// Takes in what the result of the call at `record` shows: a `CallToolResult` of MCP or any other. Its structured content is
/// read by fields, and so are texts that are JSON or YAML; any other text counts as a whole, of whose labels `named` and `untrusted`
/// on `$` hold too.
pub fn take_result(seen: &mut Seen, fields: &Fields, record: Position, result: &Value) {
    take_result_of(&Written::default(), seen, fields, record, result);
}

/// Takes in a result as [`take_result`] does, of a server to which this was written under untrusted influence. What shows any of
/// it is untrusted, whatever the server vouches for. Says whether anything did that the server vouches for, or was not looked at.
pub fn take_result_of(written: &Written, seen: &mut Seen, fields: &Fields, record: Position, result: &Value) -> bool {
    let bytes_left = Left { untrusted: BYTES_MAX, others: BYTES_MAX };
    let (place, lately, room) = (Place::default(), Lately::default(), words::Room::default());
    let mut taking = Taking { written, shows: false, seen, record, place, lately, room, number: String::new(), bytes_left };
    taking.result(fields, result);
    taking.shows
}

/// A result that an execution is shown, with all that it is taken in by.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The result.
    pub result: Arc<Value>,
    /// Who vouches for its fields.
    pub fields: Fields,
    /// What was written to its server under untrusted influence.
    pub written: Arc<Written>,
    /// The record of the call.
    pub record: Position,
    /// The most bytes that are kept of all that the execution was shown, and that all executions together keep.
    pub bytes_max: (usize, usize),
}

impl Shown {
    /// Takes the result in as [`take_result_of`] does, and says the same.
    pub fn take_in(&self, seen: &mut Seen) -> bool {
        let (bytes_max, all_max) = self.bytes_max;
        seen.keep_among(bytes_max, all_max);
        let shows = take_result_of(&self.written, seen, &self.fields, self.record, &self.result);
        seen.settle();
        shows
    }
}

/// One step from the whole of a result to a place in it.
#[derive(Clone, Copy)]
enum At<'v> {
    Name(&'v str),
    Index(usize),
}

/// The way to a place in something with fields.
#[derive(Default)]
struct Walk<'v> {
    at: Vec<At<'v>>,
    /// The names that stood last at each number among the members of an object, who vouched for them and which labels they carried:
    /// records are alike.
    names: [Option<(Provenance, Marks, &'v str)>; 16],
}

impl<'v> Walk<'v> {
    /// Whether a member's name is another than the last one at its number. To say one again says nothing.
    fn is_new(&mut self, number: usize, name: (Provenance, Marks, &'v str)) -> bool {
        self.names.get_mut(number % 16).is_none_or(|last| last.replace(name) != Some(name))
    }
}

/// How many bytes of a result may still be looked at: what strangers write must not keep the rest from being seen.
struct Left {
    untrusted: usize,
    others: usize,
}

/// A place in a result as a JSONPath, which is written only as far as it is asked for.
#[derive(Default)]
struct Place {
    path: String,
    /// Where each step ends in it.
    ends: Vec<usize>,
}

impl Place {
    /// The path of a place; nothing for the whole.
    fn of(&mut self, at: &[At<'_>]) -> &str {
        if at.is_empty() {
            return "";
        }
        if self.ends.is_empty() {
            self.path.clear();
            self.path.reserve(64);
            self.path.push('$');
        }
        for step in at.iter().skip(self.ends.len()) {
            let _ = match step {
                At::Index(index) => write!(self.path, "[{index}]"),
                At::Name(name) => write_name(&mut self.path, name),
            };
            self.ends.push(self.path.len());
        }
        &self.path
    }

    /// Forgets what is deeper than so many steps.
    fn back_to(&mut self, steps: usize) {
        self.ends.truncate(steps);
        self.path.truncate(self.ends.last().copied().unwrap_or(0));
    }
}

struct Taking<'a> {
    written: &'a Written,
    shows: bool,
    seen: &'a mut Seen,
    record: Position,
    place: Place,
    /// What was said lately, so that it is not kept again.
    lately: Lately,
    /// Room for the forms of words, and for a number.
    room: words::Room,
    number: String,
    bytes_left: Left,
}

impl Taking<'_> {
    /// Everything that a result says.
    fn result(&mut self, fields: &Fields, result: &Value) {
        if let Some(structured) = result.get("structuredContent") {
            self.value(fields, &mut Walk::default(), structured);
        }
        let Some(content) = result.get("content").and_then(Value::as_array) else {
            // A resource, a prompt: nobody declares the fields of those.
            return self.value(&fields.alike(), &mut Walk::default(), result);
        };
        for item in content {
            let text = item.get("text").or_else(|| item.pointer("/resource/text")).and_then(Value::as_str);
            match (text, item.get("type").and_then(Value::as_str)) {
                (Some(text), _) => self.text(fields, text),
                // Nothing in it is text.
                (None, Some("image" | "audio")) => {}
                (None, _) => self.whole(fields, fields.whole, &item.to_string()),
            }
        }
    }

    /// A text item: by fields where it is a document.
    fn text(&mut self, fields: &Fields, text: &str) {
        // Whose fields nobody told apart need not be read as fields, but to tell what was written there before.
        let is_told_apart = (fields.are_told_apart() || !self.written.is_empty()) && text.len() <= DOCUMENT_MAX;
        match is_told_apart.then(|| Document::read(text)).flatten() {
            Some(Document::Read(document)) => self.value(fields, &mut Walk::default(), &document),
            Some(Document::Parsed(document)) => self.value(fields, &mut Walk::default(), &document),
            None => self.whole(fields, fields.source_of_text(), text),
        }
    }

    fn value<'v>(&mut self, fields: &Fields, walk: &mut Walk<'v>, value: &'v impl Tree) {
        let at = walk.at.as_slice();
        match value.shape() {
            Shape::Null => {}
            Shape::Truth(truth) => self.at_place(fields, at, if truth { "true" } else { "false" }),
            Shape::Number(number) => {
                let mut text = std::mem::take(&mut self.number);
                text.clear();
                let _ = write!(text, "{number}");
                self.at_place(fields, at, &text);
                self.number = text;
            }
            Shape::Text(text) => self.at_place(fields, at, text),
            // Something whose fields are not told apart.
            Shape::List(_) | Shape::Object if at.len() >= DEPTH_MAX => {
                let marks = self.marks(fields, None);
                self.leaf(fields.source(at), marks, at, &value.as_text());
            }
            Shape::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(fields, walk, At::Index(index), item);
                }
            }
            Shape::Object => {
                let (source, marks) = (fields.source(at), self.marks(fields, Some(at)));
                for (number, (name, member)) in value.members().enumerate() {
                    if walk.is_new(number, (source, marks, name)) {
                        self.leaf(source, marks, &walk.at, name);
                    }
                    self.within(fields, walk, At::Name(name), member);
                }
            }
        }
    }

    /// The labels of what is at a place, or of what is not told apart.
    fn marks(&mut self, fields: &Fields, at: Option<&[At<'_>]>) -> Marks {
        if fields.private.is_empty() { Marks::NONE } else { self.seen.marks(fields.labels(at)) }
    }

    /// A text that is the whole of what is at a place.
    fn at_place(&mut self, fields: &Fields, at: &[At<'_>], text: &str) {
        let marks = self.marks(fields, Some(at));
        self.leaf(fields.source(at), marks, at, text);
    }

    /// A text that is not told apart from what is around it.
    fn whole(&mut self, fields: &Fields, source: Provenance, text: &str) {
        let marks = self.marks(fields, None);
        self.leaf(source, marks, &[], text);
    }

    fn within<'v>(&mut self, fields: &Fields, walk: &mut Walk<'v>, step: At<'v>, value: &'v impl Tree) {
        if self.bytes_left.others > 0 || (self.bytes_left.untrusted > 0 && fields.have_strangers()) {
            walk.at.push(step);
            self.value(fields, walk, value);
            walk.at.pop();
            self.place.back_to(walk.at.len());
        } else {
            self.shows |= !self.written.is_empty();
        }
    }

    /// A text by itself, at a place.
    fn leaf(&mut self, source: Provenance, marks: Marks, at: &[At<'_>], text: &str) {
        // What is vouched for and too much to be looked at may be anything that was written.
        let is_too_much = source != Provenance::Untrusted && text.len() > self.bytes_left.others;
        if is_too_much {
            self.shows |= !self.written.is_empty();
            self.bytes_left.others = 0;
            return;
        }
        let is_back = source != Provenance::Untrusted && self.written.shows(text);
        self.shows |= is_back;
        let source = if is_back { Provenance::Untrusted } else { source };
        let looked_at = if source == Provenance::Untrusted {
            let left = &mut self.bytes_left.untrusted;
            // Where a text is cut off a word may become another, which matters only if anybody believed it.
            let looked_at = text.get(..text.floor_char_boundary(*left)).unwrap_or_default();
            *left = left.saturating_sub(text.len());
            looked_at
        } else {
            self.bytes_left.others = self.bytes_left.others.saturating_sub(text.len());
            text
        };
        let place = &mut self.place;
        let said = Said { source, marks, record: Some(self.record) };
        self.seen.take_at(said, looked_at, || place.of(at), &mut self.lately, &mut self.room);
    }
}
