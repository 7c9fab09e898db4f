//! What a tool's result shows, field by field, each with who vouches for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bailiwick_log::Position;
use serde_json::Value;

use super::{Origin, Provenance, Seen};

/// The most bytes of one result that are looked at: a call must not wait long for its result to be taken in, and more falls out
/// of the memory anyway. A text that is longer than what is left is not read as a document either.
const BYTES_MAX: usize = 256 << 10;

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
        let is_bare = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        match self {
            Self::Name(name) if is_bare(name) => write!(f, ".{name}"),
            Self::Name(name) => write!(f, "['{name}']"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Each => f.write_str("[*]"),
        }
    }
}

impl Field {
    /// Whether it names the place `at`, or something that holds it.
    fn covers(&self, at: &[Step]) -> bool {
        self.0.len() <= at.len()
            && self.0.iter().zip(at).all(|(step, at)| match step {
                Step::Each => true,
                step => step == at,
            })
    }
}

impl Fields {
    /// Results whose fields are all alike.
    pub const fn all(whole: Provenance) -> Self {
        Self { whole, fields: Vec::new(), named: Vec::new() }
    }

    /// The same of a result that was read at a place which the person's own words say.
    pub fn at_named_place(&self) -> Self {
        let named = self.named.iter().map(|field| (field.clone(), Provenance::Named));
        Self { whole: self.whole, fields: named.chain(self.fields.iter().cloned()).collect(), named: Vec::new() }
    }

    fn source(&self, at: &[Step]) -> Provenance {
        self.fields.iter().rev().find(|(field, _)| field.covers(at)).map_or(self.whole, |(_, source)| *source)
    }
}

/// Takes in what the result of the call at `record` shows: a `CallToolResult` of MCP or any other. Its structured content is
/// read by fields, and so are texts that are JSON or YAML; any other text counts as a whole.
pub fn take_result(seen: &mut Seen, fields: &Fields, record: Position, result: &Value) {
    let mut taking = Taking { seen, fields, record, at: Vec::new(), bytes_left: BYTES_MAX };
    if let Some(structured) = result.get("structuredContent") {
        taking.value(structured);
    }
    let Some(content) = result.get("content").and_then(Value::as_array) else {
        // A resource, a prompt: nobody declares the fields of those.
        return Taking { fields: &Fields::all(fields.whole), ..taking }.value(result);
    };
    for item in content {
        let text = item.get("text").or_else(|| item.pointer("/resource/text")).and_then(Value::as_str);
        match (text, item.get("type").and_then(Value::as_str)) {
            (Some(text), _) => taking.text(text),
            // Nothing in it is text.
            (None, Some("image" | "audio")) => {}
            (None, _) => taking.whole(item),
        }
    }
}

struct Taking<'a> {
    seen: &'a mut Seen,
    fields: &'a Fields,
    record: Position,
    at: Vec<Step>,
    bytes_left: usize,
}

impl Taking<'_> {
    /// A text item: by fields where it is a document.
    fn text(&mut self, text: &str) {
        // Whose fields nobody told apart need not be read as fields.
        let is_told_apart = !self.fields.fields.is_empty() && text.len() <= self.bytes_left;
        match is_told_apart.then(|| document(text)).flatten() {
            Some(document) => self.value(&document),
            None => self.leaf(text),
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(truth) => self.leaf(if *truth { "true" } else { "false" }),
            Value::Number(number) => self.leaf(&number.to_string()),
            Value::String(text) => self.leaf(text),
            Value::Array(_) | Value::Object(_) if self.at.len() >= DEPTH_MAX => self.whole(value),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(Step::Index(index), |taking| taking.value(item));
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.leaf(name);
                    self.within(Step::Name(name.clone()), |taking| taking.value(member));
                }
            }
        }
    }

    fn within(&mut self, step: Step, take: impl FnOnce(&mut Self)) {
        self.at.push(step);
        take(self);
        self.at.pop();
    }

    /// Something whose fields are not told apart.
    fn whole(&mut self, value: &Value) {
        let text = value.to_string();
        self.leaf(&text);
    }

    fn leaf(&mut self, text: &str) {
        let Some(left) = self.bytes_left.checked_sub(text.len()) else { return };
        self.bytes_left = left;
        let source = self.fields.source(&self.at);
        let place: Arc<str> = if self.at.is_empty() { Arc::from("") } else { Field(self.at.clone()).to_string().into() };
        self.seen.take(source, text, &Origin { record: Some(self.record), place });
    }
}

/// A text that is a JSON or YAML document with fields.
fn document(text: &str) -> Option<Value> {
    let is_document = |value: &Value| value.is_array() || value.is_object();
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return Some(value).filter(is_document);
    }
    serde_saphyr::from_str::<Value>(text).ok().filter(is_document)
}
