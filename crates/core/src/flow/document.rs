//! Texts that are documents, as most of what tools return is: JSON, and YAML.

mod json;
mod yaml;

use std::borrow::Cow;

use serde_json::{Number, Value};

/// The longest text that is read as a document; a longer one counts as a whole.
pub(super) const DOCUMENT_MAX: usize = 64 << 10;

/// Something that has fields, or is one.
pub(super) trait Tree: Sized {
    /// What it is.
    fn shape(&self) -> Shape<'_, Self>;

    /// The members of an object, each with its name; none of anything else.
    fn members(&self) -> impl Iterator<Item = (&str, &Self)>;

    /// All of it as one text.
    fn as_text(&self) -> String;
}

/// What something with fields is.
pub(super) enum Shape<'v, T> {
    Null,
    Truth(bool),
    Number(&'v Number),
    Text(&'v str),
    List(&'v [T]),
    Object,
}

impl Tree for Value {
    fn shape(&self) -> Shape<'_, Self> {
        match self {
            Self::Null => Shape::Null,
            Self::Bool(truth) => Shape::Truth(*truth),
            Self::Number(number) => Shape::Number(number),
            Self::String(text) => Shape::Text(text),
            Self::Array(items) => Shape::List(items),
            Self::Object(_) => Shape::Object,
        }
    }

    fn members(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.as_object().into_iter().flatten().map(|(name, member)| (name.as_str(), member))
    }

    fn as_text(&self) -> String {
        self.to_string()
    }
}

/// A part of a document that was read, whose texts are the document's own where they stand in it as they are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node<'t> {
    Null,
    Truth(bool),
    Number(Number),
    Text(Cow<'t, str>),
    List(Vec<Self>),
    Object(Vec<(Cow<'t, str>, Self)>),
}

impl Tree for Node<'_> {
    fn shape(&self) -> Shape<'_, Self> {
        match self {
            Self::Null => Shape::Null,
            Self::Truth(truth) => Shape::Truth(*truth),
            Self::Number(number) => Shape::Number(number),
            Self::Text(text) => Shape::Text(text),
            Self::List(items) => Shape::List(items),
            Self::Object(_) => Shape::Object,
        }
    }

    fn members(&self) -> impl Iterator<Item = (&str, &Self)> {
        let members = if let Self::Object(members) = self { members.as_slice() } else { &[] };
        members.iter().map(|(name, member)| (name.as_ref(), member))
    }

    fn as_text(&self) -> String {
        self.to_value().to_string()
    }
}

impl Node<'_> {
    fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Truth(truth) => Value::Bool(*truth),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.as_ref().to_owned()),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(members) => members.iter().map(|(name, member)| (name.as_ref().to_owned(), member.to_value())).collect(),
        }
    }
}

/// A document with fields.
pub(super) enum Document<'t> {
    /// Whose texts stand in the text that was read.
    Read(Node<'t>),
    /// Which a whole parser made.
    Parsed(Value),
}

impl<'t> Document<'t> {
    /// The document that `text` is, if it is one with fields.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        // Of JSON nothing else has fields, and what is anything else in JSON is nothing else in YAML.
        if text.trim_start().starts_with(['{', '[']) {
            match json::read(text) {
                Ok(node) => return Some(Self::Read(node)),
                // Where two readers would read different fields nobody vouches for either.
                Err(json::Unread::Ambiguous) => return None,
                Err(json::Unread::NotJson) => {}
            }
        }
        // Nothing that writes documents merges fields into others, and who does hides where they come from.
        if !may_be_yaml(text) || text.contains("<<") {
            return None;
        }
        if let Some(node) = yaml::read(text) {
            return Some(Self::Read(node));
        }
        serde_saphyr::from_str::<Value>(text).ok().filter(|value| value.is_array() || value.is_object()).map(Self::Parsed)
    }
}

/// Whether `text` may be a document in YAML with fields, as its first line tells: where that begins with a letter or a digit, it
/// is a name with its colon behind it (YAML 1.2 §7.4.2), or all of the text is one scalar.
fn may_be_yaml(text: &str) -> bool {
    let first = text.split(['\n', '\r']).map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        !line.starts_with(|c: char| c.is_ascii_alphanumeric()) || {
            let colons = line.match_indices(':').map(|(at, _)| line.get(at.saturating_add(1)..).unwrap_or_default());
            colons.into_iter().any(|after| after.chars().next().is_none_or(char::is_whitespace))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_cannot_be_yaml_is_none_with_fields(text in "([a-z]{1,3}|[0-9]|: |:|\n|\r|  |- |#|\"|'|\\[|\\{|\\}|,|---\n|\\? |&|!|\t|é){0,16}") {
            if !may_be_yaml(&text) {
                let read = serde_saphyr::from_str::<Value>(&text);
                proptest::prop_assert!(!read.as_ref().is_ok_and(|value| value.is_array() || value.is_object()), "{:?}", read);
            }
        }
    }
}
