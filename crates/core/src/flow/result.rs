//! What a tool's result shows, field by field, each with who vouches for it.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use bailiwick_log::Position;
use serde_json::Value;

use super::seen::{Lately, Marks};
use super::written::Written;
use super::{Provenance, Seen};
use crate::json::{self, InvalidJson};

/// The most bytes of one result that are looked at, of what third parties may have written and of all else each: a call must not
/// wait long for its result to be taken in, and more falls out of the memory anyway.
const BYTES_MAX: usize = 32 << 10;

/// The longest text that is read as a document; a longer one counts as a whole.
const DOCUMENT_MAX: usize = 64 << 10;

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
pub struct Field(Vec<Step>);

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
        Ok(Self(steps))
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
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let (before, after) = if is_bare { (".", "") } else { ("['", "']") };
    to.write_str(before)?;
    to.write_str(name)?;
    to.write_str(after)
}

impl Field {
    /// The whole of a result.
    pub const fn whole() -> Self {
        Self(Vec::new())
    }

    /// Whether it names the place `at`, or something that holds it.
    fn covers(&self, at: &[At<'_>]) -> bool {
        self.0.len() <= at.len()
            && self.0.iter().zip(at).all(|(step, at)| match (step, at) {
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

    /// Whether some field of a result differs from the rest of it.
    fn are_told_apart(&self) -> bool {
        !self.fields.is_empty() || self.private.iter().any(|(field, _)| *field != Field::whole())
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
    let mut taking = Taking { written, shows: false, seen, record, place: "$".to_owned(), lately: Lately::default(), bytes_left };
    taking.result(fields, result);
    taking.shows
}

/// One step from the whole of a result to a place in it.
#[derive(Clone, Copy)]
enum At<'v> {
    Name(&'v str),
    Index(usize),
}

/// How many bytes of a result may still be looked at: what strangers write must not keep the rest from being seen.
struct Left {
    untrusted: usize,
    others: usize,
}

struct Taking<'a> {
    written: &'a Written,
    shows: bool,
    seen: &'a mut Seen,
    record: Position,
    /// Where it is, as a JSONPath.
    place: String,
    /// What was said lately, so that it is not kept again.
    lately: Lately,
    bytes_left: Left,
}

impl Taking<'_> {
    /// Everything that a result says.
    fn result(&mut self, fields: &Fields, result: &Value) {
        if let Some(structured) = result.get("structuredContent") {
            self.value(fields, &mut Vec::new(), structured);
        }
        let Some(content) = result.get("content").and_then(Value::as_array) else {
            // A resource, a prompt: nobody declares the fields of those.
            return self.value(&fields.alike(), &mut Vec::new(), result);
        };
        for item in content {
            let text = item.get("text").or_else(|| item.pointer("/resource/text")).and_then(Value::as_str);
            match (text, item.get("type").and_then(Value::as_str)) {
                (Some(text), _) => self.text(fields, text),
                // Nothing in it is text.
                (None, Some("image" | "audio")) => {}
                (None, _) => self.leaf(fields, None, fields.whole, &item.to_string()),
            }
        }
    }

    /// A text item: by fields where it is a document.
    fn text(&mut self, fields: &Fields, text: &str) {
        // Whose fields nobody told apart need not be read as fields, but to tell what was written there before.
        let is_told_apart = (fields.are_told_apart() || !self.written.is_empty()) && text.len() <= DOCUMENT_MAX;
        match is_told_apart.then(|| document(text)).flatten() {
            Some(document) => self.value(fields, &mut Vec::new(), &document),
            None => self.leaf(fields, None, fields.source_of_text(), text),
        }
    }

    fn value<'v>(&mut self, fields: &Fields, at: &mut Vec<At<'v>>, value: &'v Value) {
        match value {
            Value::Null => {}
            Value::Bool(truth) => self.leaf(fields, Some(at), fields.source(at), if *truth { "true" } else { "false" }),
            Value::Number(number) => self.leaf(fields, Some(at), fields.source(at), &number.to_string()),
            Value::String(text) => self.leaf(fields, Some(at), fields.source(at), text),
            // Something whose fields are not told apart.
            Value::Array(_) | Value::Object(_) if at.len() >= DEPTH_MAX => self.leaf(fields, None, fields.source(at), &value.to_string()),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let length = self.place.len();
                    let _ = write!(self.place, "[{index}]");
                    self.within(fields, at, At::Index(index), item);
                    self.place.truncate(length);
                }
            }
            Value::Object(members) => {
                let names = fields.source(at);
                for (name, member) in members {
                    self.leaf(fields, Some(at), names, name);
                    let length = self.place.len();
                    let _ = write_name(&mut self.place, name);
                    self.within(fields, at, At::Name(name), member);
                    self.place.truncate(length);
                }
            }
        }
    }

    fn within<'v>(&mut self, fields: &Fields, at: &mut Vec<At<'v>>, step: At<'v>, value: &'v Value) {
        if self.bytes_left.untrusted > 0 || self.bytes_left.others > 0 {
            at.push(step);
            self.value(fields, at, value);
            at.pop();
        } else {
            self.shows |= !self.written.is_empty();
        }
    }

    /// A text by itself: at a place, or not told apart from what is around it.
    fn leaf(&mut self, fields: &Fields, at: Option<&[At<'_>]>, source: Provenance, text: &str) {
        let is_back = source != Provenance::Untrusted && self.written.shows(text);
        self.shows |= is_back;
        let source = if is_back { Provenance::Untrusted } else { source };
        let is_untrusted = source == Provenance::Untrusted;
        let left = if is_untrusted { &mut self.bytes_left.untrusted } else { &mut self.bytes_left.others };
        let looked_at = if let Some(less) = left.checked_sub(text.len()) {
            *left = less;
            text
        } else if is_untrusted {
            // Where a text is cut off a word may become another, which matters only if anybody believed it.
            text.get(..text.floor_char_boundary(std::mem::take(left))).unwrap_or_default()
        } else {
            *left = 0;
            return;
        };
        let place = if self.place.len() > 1 { self.place.as_str() } else { "" };
        let labels = if fields.private.is_empty() { Marks::NONE } else { self.seen.marks(fields.labels(at)) };
        self.seen.take_at(source, looked_at, labels, Some(self.record), place, &mut self.lately);
    }
}

/// A text that is a JSON or YAML document with fields.
fn document(text: &str) -> Option<Value> {
    let is_document = |value: &Value| value.is_array() || value.is_object();
    match json::parse(text.as_bytes(), &json::Limits { bytes_max: DOCUMENT_MAX, depth_max: 127 }) {
        Ok(value) => return Some(value).filter(is_document),
        // Where two readers would read different fields nobody vouches for either.
        Err(InvalidJson::RepeatedKey | InvalidJson::TooDeep(_)) => return None,
        Err(_) => {}
    }
    // Nothing that writes documents merges fields into others, and who does hides where they come from.
    if text.contains("<<") {
        return None;
    }
    serde_saphyr::from_str::<Value>(text).ok().filter(is_document)
}
