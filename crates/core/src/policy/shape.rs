//! The shape of a tool's arguments: its JSON Schema, read as the Cedar types that policies see.
//!
//! One reading serves both the Cedar schema and each call, so that what the validator promised about `context.input` is
//! what the evaluator finds there. It is not a JSON Schema validator: it checks presence, types and the words of an
//! enumeration, and leaves ranges and patterns to the tool. Why unknown arguments are refused is in
//! `docs/decisions/0005-arguments-that-policy-cannot-see.md`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cedar_policy::RestrictedExpression;
use serde_json::{Map, Number, Value, json};

/// How deep a schema is followed before the rest is taken as unreadable; also what ends a recursive one.
const DEPTH_MAX: usize = 16;

/// How many subschemas of one tool are read before the rest is taken as unreadable: one that refers to itself from several
/// places doubles at each step.
const SCHEMAS_MAX: usize = 10_000;

/// How many places of one call's arguments may be invisible; an agent must not be able to push one out of the list.
const UNSEEN_MAX: usize = 256;

/// What an argument is to policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Bool,
    Long,
    Decimal,
    /// Text, and its allowed words where they are listed.
    Text(Option<Vec<String>>),
    /// RFC 3339, with or without a time of day.
    Datetime,
    /// ISO 8601.
    Duration,
    Ip,
    Set(Box<Self>),
    Record(Record),
    /// Nothing that Cedar has a type for: accepted, and invisible.
    Opaque,
}

/// An object's members.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    members: BTreeMap<String, Member>,
    /// Whether the schema says in so many words that it takes members that it does not list.
    open: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Member {
    shape: Shape,
    required: bool,
    nullable: bool,
}

/// Arguments as policies see them.
#[derive(Debug)]
pub(super) struct Typed {
    /// `context.input`, with the arguments that were asked for.
    pub(super) input: RestrictedExpression,
    /// JSON pointers of what `context.input` does not show, or shows rounded. What is in a list is named without its place.
    pub(super) unseen: BTreeSet<String>,
}

impl Typed {
    /// For whoever looks at no argument.
    pub(super) fn nothing() -> Self {
        Self { input: RestrictedExpression::new_bool(false), unseen: BTreeSet::new() }
    }
}

/// What some policy looks at: of the context, and of the arguments in it. What nobody looks at is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    context: Names,
    input: Names,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Only(BTreeSet<String>),
}

impl Names {
    fn hold(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    fn add(&mut self, name: String) {
        if let Self::Only(names) = self {
            names.insert(name);
        }
    }
}

impl Read {
    /// Nothing.
    pub(super) const fn nothing() -> Self {
        Self { context: Names::Only(BTreeSet::new()), input: Names::Only(BTreeSet::new()) }
    }

    /// Everything.
    pub(super) const fn all() -> Self {
        Self { context: Names::All, input: Names::All }
    }

    /// Whether some policy looks at `context.<name>`.
    pub(super) fn context(&self, name: &str) -> bool {
        self.context.hold(name)
    }

    /// Whether some policy looks at `context.input.<name>`.
    fn input(&self, name: &str) -> bool {
        self.input.hold(name)
    }

    /// Adds what a policy, in Cedar's JSON form, looks at.
    pub(super) fn add(&mut self, json: &Value) {
        let attribute_of = |value: &Value, is_left: &dyn Fn(&Value) -> bool| {
            let value = value.get(".").or_else(|| value.get("has")).unwrap_or(value);
            value.get("left").is_some_and(is_left).then(|| value.get("attr").and_then(Value::as_str).map(str::to_owned)).flatten()
        };
        let is_context = |value: &Value| value.get("Var").is_some_and(|name| name == "context");
        let is_input = |value: &Value| attribute_of(value, &is_context).is_some_and(|name| name == "input");
        if let Some(name) = attribute_of(json, &is_input) {
            self.context.add("input".to_owned());
            self.input.add(name);
        } else if let Some(name) = attribute_of(json, &is_context) {
            if name == "input" {
                // The arguments in another way than by one of their names.
                self.input = Names::All;
            }
            self.context.add(name);
        } else if is_context(json) {
            // In a way that is not understood.
            *self = Self::all();
        } else {
            match json {
                Value::Object(object) => object.values().for_each(|value| self.add(value)),
                Value::Array(values) => values.iter().for_each(|value| self.add(value)),
                _ => {}
            }
        }
    }
}

/// The reading of one call's arguments.
struct Reading {
    /// Where it is.
    at: String,
    unseen: BTreeSet<String>,
    /// Whether anyone will look at the values; otherwise they are checked only.
    keep: bool,
}

impl Record {
    /// The shape of the arguments that an MCP tool definition takes; open and without members when it says nothing.
    pub(super) fn of_definition(definition: &Value) -> Self {
        let Some(schema) = definition.get("inputSchema") else { return Self::unknown() };
        let (shape, _) = Reader { root: schema, left: Cell::new(SCHEMAS_MAX) }.read(schema, DEPTH_MAX);
        match shape {
            Shape::Record(record) => record,
            _ => Self::unknown(),
        }
    }

    /// Nothing is known of the members.
    pub(super) fn unknown() -> Self {
        Self { members: BTreeMap::new(), open: true }
    }

    /// The names of the members that are known.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The Cedar type, in the JSON form of schemas.
    pub(super) fn cedar_type(&self) -> Value {
        let attributes: Map<String, Value> = self
            .members
            .iter()
            .filter_map(|(name, member)| {
                let mut attribute = member.shape.cedar_type()?;
                attribute.as_object_mut()?.insert("required".to_owned(), Value::Bool(member.required && !member.nullable));
                Some((name.clone(), attribute))
            })
            .collect();
        json!({ "type": "Record", "attributes": attributes })
    }

    /// Reads the arguments of one call. Fails with a sentence that names the place when they are not of this shape.
    /// Arguments that no policy looks at are checked only, so that large ones cost little.
    pub(super) fn typed(&self, arguments: &Value, read: &Read) -> Result<Typed, String> {
        let mut reading = Reading { at: String::new(), unseen: BTreeSet::new(), keep: true };
        let input = self.read(arguments, &mut reading, Some(read))?;
        Ok(Typed { input, unseen: reading.unseen })
    }

    /// Reads an object; `read` says of which of its members policy looks at the values, where that is known.
    fn read(&self, value: &Value, reading: &mut Reading, read: Option<&Read>) -> Result<RestrictedExpression, String> {
        let Value::Object(object) = value else { return Err(reading.wrong("an object")) };
        let mut fields = Vec::new();
        for (name, value) in object {
            let length = reading.at.len();
            push(&mut reading.at, name);
            if let Some(read) = read {
                reading.keep = read.input(name);
            }
            match self.members.get(name) {
                None if self.open => reading.unseen()?,
                None => return Err(reading.wrong("an argument that the tool declares")),
                Some(member) if value.is_null() && member.nullable => {}
                Some(member) => match member.shape.read(value, reading)? {
                    Some(field) if reading.keep => fields.push((name.clone(), field)),
                    Some(_) => {}
                    None => reading.unseen()?,
                },
            }
            reading.at.truncate(length);
        }
        if let Some((name, _)) = self.members.iter().find(|(name, member)| member.required && !object.contains_key(*name)) {
            push(&mut reading.at, name);
            return Err(format!("`{}` is missing", reading.at));
        }
        RestrictedExpression::new_record(fields).map_err(|error| format!("`{}`: {error}", reading.at))
    }
}

impl Reading {
    /// What a value is to policies, where one looks at it. To make it may cost more than all that is looked at: Cedar parses the name of
    /// an extension's function each time.
    fn kept(&self, made: impl FnOnce() -> RestrictedExpression) -> RestrictedExpression {
        if self.keep { made() } else { RestrictedExpression::new_bool(false) }
    }

    fn wrong(&self, what: &str) -> String {
        format!("`{}` is not {what}", self.at)
    }

    /// Notes that policy does not see what is here, or does not see it exactly.
    fn unseen(&mut self) -> Result<(), String> {
        if !self.unseen.contains(&self.at) {
            self.unseen.insert(self.at.clone());
        }
        if self.unseen.len() > UNSEEN_MAX {
            Err("more arguments than can be told are such that policy cannot see".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Shape {
    /// The Cedar type, in the JSON form of schemas; none for what is invisible.
    fn cedar_type(&self) -> Option<Value> {
        Some(match self {
            Self::Bool => json!({ "type": "Boolean" }),
            Self::Long => json!({ "type": "Long" }),
            Self::Decimal => json!({ "type": "Extension", "name": "decimal" }),
            Self::Text(_) => json!({ "type": "String" }),
            Self::Datetime => json!({ "type": "Extension", "name": "datetime" }),
            Self::Duration => json!({ "type": "Extension", "name": "duration" }),
            Self::Ip => json!({ "type": "Extension", "name": "ipaddr" }),
            Self::Set(element) => json!({ "type": "Set", "element": element.cedar_type()? }),
            Self::Record(record) => record.cedar_type(),
            Self::Opaque => return None,
        })
    }

    /// One value; nothing when it is invisible.
    fn read(&self, value: &Value, reading: &mut Reading) -> Result<Option<RestrictedExpression>, String> {
        Ok(Some(match (self, value) {
            (Self::Opaque, _) => return Ok(None),
            (Self::Bool, Value::Bool(value)) => RestrictedExpression::new_bool(*value),
            (Self::Bool, _) => return Err(reading.wrong("a boolean")),
            (Self::Long, Value::Number(number)) => {
                RestrictedExpression::new_long(whole(number).ok_or_else(|| reading.wrong("a whole number of at most 64 bits"))?)
            }
            (Self::Long, _) => return Err(reading.wrong("a whole number")),
            (Self::Decimal, Value::Number(number)) => {
                let what = "a number that policy can compare (±922337203685477)";
                let (text, exact) = decimal(number).ok_or_else(|| reading.wrong(what))?;
                if !exact {
                    reading.unseen()?;
                }
                reading.kept(|| RestrictedExpression::new_decimal(text))
            }
            (Self::Decimal, _) => return Err(reading.wrong("a number")),
            (Self::Text(Some(words)), Value::String(text)) if !words.contains(text) => {
                return Err(reading.wrong("one of the words that the tool declares"));
            }
            (Self::Text(_), Value::String(text)) => reading.kept(|| RestrictedExpression::new_string(text.clone())),
            (Self::Text(_), _) => return Err(reading.wrong("text")),
            (Self::Datetime, Value::String(text)) => {
                let (text, exact) = datetime(text).ok_or_else(|| reading.wrong("a date and time (RFC 3339)"))?;
                if !exact {
                    reading.unseen()?;
                }
                reading.kept(|| RestrictedExpression::new_datetime(text))
            }
            (Self::Datetime, _) => return Err(reading.wrong("a date and time")),
            (Self::Duration, Value::String(text)) => {
                let milliseconds = duration(text).ok_or_else(|| reading.wrong("a duration (ISO 8601) of days or less"))?;
                reading.kept(|| RestrictedExpression::new_duration(format!("{milliseconds}ms")))
            }
            (Self::Duration, _) => return Err(reading.wrong("a duration")),
            (Self::Ip, Value::String(text)) => {
                let address: IpAddr = text.parse().map_err(|_| reading.wrong("an IP address"))?;
                reading.kept(|| RestrictedExpression::new_ip(address.to_canonical().to_string()))
            }
            (Self::Ip, _) => return Err(reading.wrong("an IP address")),
            (Self::Set(element), Value::Array(values)) => {
                let mut elements = Vec::new();
                for value in values {
                    let element = element.read(value, reading)?;
                    elements.extend(element.filter(|_| reading.keep));
                }
                RestrictedExpression::new_set(elements)
            }
            (Self::Set(_), _) => return Err(reading.wrong("a list")),
            (Self::Record(record), value) => record.read(value, reading, None)?,
        }))
    }
}

/// Adds one step to a JSON pointer (RFC 6901 §3).
fn push(pointer: &mut String, step: &str) {
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// Reads JSON Schema (2020-12, and what older drafts share with it).
struct Reader<'a> {
    root: &'a Value,
    /// How many more subschemas are read.
    left: Cell<usize>,
}

impl Reader<'_> {
    /// The shape, and whether `null` is allowed too.
    fn read(&self, schema: &Value, depth: usize) -> (Shape, bool) {
        let (Some(depth), Some(left), Value::Object(object)) = (depth.checked_sub(1), self.left.get().checked_sub(1), schema) else {
            return (Shape::Opaque, true);
        };
        self.left.set(left);
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or((Shape::Opaque, true), |target| self.read(target, depth));
        }
        for word in ["anyOf", "oneOf"] {
            if let (Some(choices), false) = (object.get(word).and_then(Value::as_array), object.contains_key("properties")) {
                return self.choice(choices, depth);
            }
        }
        if let (Some([only]), false) = (object.get("allOf").and_then(Value::as_array).map(Vec::as_slice), object.contains_key("properties"))
        {
            return self.read(only, depth);
        }
        if let Some(words) = object.get("enum").and_then(Value::as_array) {
            return Self::words(words);
        }
        if let Some(word) = object.get("const") {
            return Self::words(std::slice::from_ref(word));
        }
        let (name, nullable) = Self::type_of(object);
        let shape = match name {
            Some("boolean") => Shape::Bool,
            Some("integer") => Shape::Long,
            Some("number") => Shape::Decimal,
            Some("string") => match object.get("format").and_then(Value::as_str) {
                Some("date" | "date-time") => Shape::Datetime,
                Some("duration") => Shape::Duration,
                Some("ipv4" | "ipv6") => Shape::Ip,
                _ => Shape::Text(None),
            },
            Some("array") if !object.contains_key("prefixItems") => match object.get("items").map(|items| self.read(items, depth)) {
                Some((Shape::Opaque, _) | (_, true)) | None => Shape::Opaque,
                Some((element, false)) => Shape::Set(Box::new(element)),
            },
            Some("object") => self.record(object, depth),
            _ => Shape::Opaque,
        };
        // What may be anything may also be `null`.
        (shape.clone(), nullable || shape == Shape::Opaque)
    }

    /// The one type that is declared, or that the other words imply, and whether `null` is beside it.
    fn type_of(object: &Map<String, Value>) -> (Option<&str>, bool) {
        match object.get("type") {
            Some(Value::String(name)) => (Some(name), false),
            Some(Value::Array(names)) => {
                let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
                let others: Vec<_> = names.iter().copied().filter(|name| *name != "null").collect();
                let one = match others.as_slice() {
                    [one] => Some(*one),
                    ["integer", "number"] | ["number", "integer"] => Some("number"),
                    _ => None,
                };
                (one, names.len() > others.len())
            }
            _ if object.contains_key("properties") => (Some("object"), false),
            _ if object.contains_key("items") => (Some("array"), false),
            _ => (None, false),
        }
    }

    fn record(&self, object: &Map<String, Value>, depth: usize) -> Shape {
        let declared = object.get("properties").and_then(Value::as_object);
        let says_open = match object.get("additionalProperties") {
            Some(additional) => *additional != Value::Bool(false),
            // Words by which further members may be allowed elsewhere in the schema, or no word about members at all.
            None => {
                declared.is_none()
                    || ["patternProperties", "anyOf", "oneOf", "allOf", "if", "dependentSchemas", "$dynamicRef"]
                        .iter()
                        .any(|word| object.contains_key(*word))
                    || object.get("unevaluatedProperties").is_some_and(|unevaluated| *unevaluated != Value::Bool(false))
            }
        };
        let required: Vec<_> = object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let members = declared
            .into_iter()
            .flatten()
            .map(|(name, schema)| {
                let (shape, nullable) = self.read(schema, depth);
                (name.clone(), Member { shape, required: required.contains(&name.as_str()), nullable })
            })
            .collect();
        Shape::Record(Record { members, open: says_open })
    }

    /// One of several: of one shape when all are, beside `null`; otherwise opaque.
    fn choice(&self, choices: &[Value], depth: usize) -> (Shape, bool) {
        let is_null = |choice: &&Value| choice.get("type").is_some_and(|name| name == "null");
        let nullable = choices.iter().any(|choice| is_null(&choice));
        let mut shapes = choices.iter().filter(|choice| !is_null(choice)).map(|choice| self.read(choice, depth));
        let Some((first, first_nullable)) = shapes.next() else { return (Shape::Opaque, true) };
        let mut nullable = nullable || first_nullable;
        for (shape, more) in shapes {
            nullable |= more;
            if shape != first {
                return (Shape::Opaque, true);
            }
        }
        (first, nullable)
    }

    /// An enumeration: of texts, or invisible.
    fn words(words: &[Value]) -> (Shape, bool) {
        let nullable = words.iter().any(Value::is_null);
        let texts: Option<Vec<String>> = words.iter().filter(|word| !word.is_null()).map(|word| word.as_str().map(str::to_owned)).collect();
        match texts {
            Some(texts) if !texts.is_empty() => (Shape::Text(Some(texts)), nullable),
            _ if !words.is_empty() && words.iter().all(Value::is_i64) => (Shape::Long, nullable),
            _ => (Shape::Opaque, true),
        }
    }
}

/// A whole number, also where it is written `5.0` (JSON Schema 2020-12 core §4.2.3).
fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        // From 2^53 on a float no longer says which whole number was meant.
        let is_whole = !number.is_u64() && float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
        is_whole.then_some(float as i64)
    })
}

/// A number as a Cedar decimal, which has four places, and whether that is exact. What has more places is rounded away
/// from zero, so that an amount is never seen as smaller than it is. Nothing when it is out of range.
fn decimal(number: &Number) -> Option<(String, bool)> {
    let text = match number.as_f64() {
        _ if number.is_i64() || number.is_u64() => number.to_string(),
        Some(float) if float.abs() < 1e15 => float.to_string(),
        _ => return None,
    };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    let (kept, rest) = places.split_at(places.len().min(4));
    let exact = rest.bytes().all(|digit| digit == b'0');
    let units: i64 = format!("{whole}{kept:0<4}").parse().ok()?;
    let units = units.checked_add(i64::from(!exact))?;
    Some((format!("{sign}{}.{:04}", units / 10_000, units % 10_000), exact))
}

/// A date, or a date and time, as a Cedar datetime, and whether that is exact: milliseconds are kept, and a time without
/// an offset is taken as UTC, which is a guess. Nothing when it is not one or its year has not four digits.
fn datetime(text: &str) -> Option<(String, bool)> {
    if text.len() == 10 {
        let date: jiff::civil::Date = text.parse().ok()?;
        return (date.year() >= 0).then(|| (date.strftime("%Y-%m-%d").to_string(), true));
    }
    let (at, known) = match text.parse::<jiff::Timestamp>() {
        Ok(at) => (at, true),
        Err(_) => (text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(), false),
    };
    let exact = at.subsec_nanosecond() % 1_000_000 == 0;
    let utc = at.to_zoned(jiff::tz::TimeZone::UTC);
    (utc.year() >= 0).then(|| (utc.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(), known && exact))
}

/// A duration in milliseconds. A day is 24 hours; a month or a year has no length.
fn duration(text: &str) -> Option<i64> {
    let span: jiff::Span = text.parse().ok()?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    i64::try_from(exact.as_millis()).ok()
}

#[cfg(test)]
mod tests;
