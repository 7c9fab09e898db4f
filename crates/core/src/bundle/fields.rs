//! Walking a TOML table: each key is asked for by name and kind; what does not fit is noted with its place, and reading
//! goes on, so that one run finds every mistake.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use schemars::JsonSchema;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Source, listed, nearest, suggest};
use super::schema;

/// A table of a file, whose keys are those of its schema.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    source: Source<'a>,
    table: &'a DeTable<'a>,
    name: String,
    span: Range<usize>,
    /// The known keys that unknown ones were probably meant to be.
    mistyped: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The whole file as a table shaped like `T`.
    pub(super) fn of_file<T: JsonSchema>(source: Source<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self::open::<T>(source, table.get_ref(), "the file".to_owned(), 0..0)
    }

    /// A value as a table shaped like `T`; `name` is what problems call it.
    pub(super) fn of_value<T: JsonSchema>(source: Source<'a>, value: &'a Spanned<DeValue<'a>>, name: String) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            wrong_kind(source, value, &name, "a table");
            return None;
        };
        Some(Self::open::<T>(source, table, name, value.span()))
    }

    fn open<T: JsonSchema>(source: Source<'a>, table: &'a DeTable<'a>, name: String, span: Range<usize>) -> Self {
        let known = schema::keys::<T>();
        let mut mistyped = Vec::new();
        for key in table.keys() {
            if !known.iter().any(|known| known == key.get_ref().as_ref()) {
                let names = known.iter().map(String::as_str);
                mistyped.extend(nearest(key.get_ref(), names.clone()).map(str::to_owned));
                let mend = suggest(key.get_ref(), names);
                source.error(key.span(), format!("unknown key `{}` in {name}", shown(key.get_ref())), mend);
            }
        }
        Self { source, table, name, span, mistyped }
    }

    /// The file that the table is in.
    pub(super) const fn source(&self) -> Source<'a> {
        self.source
    }

    /// Where the table begins, for problems of the table as a whole.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value of `key`, whatever it is.
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// What problems call `key`: with its table, unless that is the file.
    fn named(&self, key: &str) -> String {
        match self.name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) {
            Some(name) => format!("`{name}.{key}`"),
            None => format!("`{key}`"),
        }
    }

    /// Notes that `key` is needed and is not there, unless it is there and mistyped, which was noted.
    pub(super) fn missing(&self, key: &str, mend: &str) {
        if self.mistyped.iter().any(|mistyped| mistyped == key) {
            return;
        }
        self.source.error(self.span(), format!("{} has no `{key}`", self.name), mend);
    }

    /// The text under `key`.
    pub(super) fn text(&self, key: &str) -> Option<Spanned<String>> {
        text(self.source, self.value(key)?, &self.named(key))
    }

    /// The text under `key`, which must be there and say something.
    pub(super) fn required_text(&self, key: &str, mend: &str) -> Option<Spanned<String>> {
        if self.value(key).is_none() {
            self.missing(key, mend);
        }
        let text = self.text(key)?;
        if text.get_ref().trim().is_empty() {
            self.source.error(text.span(), format!("{} is empty", self.named(key)), mend);
            return None;
        }
        Some(text)
    }

    /// The text under `key`, read as a `T`.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str, mend: &str) -> Option<Spanned<T>> {
        let text = self.text(key)?;
        match text.get_ref().parse() {
            Ok(value) => Some(Spanned::new(text.span(), value)),
            Err(error) => {
                self.source.error(text.span(), format!("{}: {error}", self.named(key)), mend);
                None
            }
        }
    }

    /// The text under `key`, which must be there, read as a `T`.
    pub(super) fn required<T: FromStr<Err: fmt::Display>>(&self, key: &str, mend: &str) -> Option<Spanned<T>> {
        if self.value(key).is_none() {
            self.missing(key, mend);
        }
        self.parsed(key, mend)
    }

    /// The word under `key`, one of `choices`.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        let text = self.text(key)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| word == text.get_ref()) {
            return Some(Spanned::new(text.span(), *value));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let message = format!("{} cannot be `{}`", self.named(key), shown(text.get_ref()));
        self.source.error(text.span(), message, format!("write one of {}", listed(&words)));
        None
    }

    /// The truth under `key`.
    pub(super) fn flag(&self, key: &str) -> Option<Spanned<bool>> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            wrong_kind(self.source, value, &self.named(key), "`true` or `false`");
        }
        Some(Spanned::new(value.span(), flag?))
    }

    /// The whole number under `key`, within `range`.
    pub(super) fn number(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<Spanned<u64>> {
        let value = self.value(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            wrong_kind(self.source, value, &self.named(key), "a whole number");
            return None;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(Spanned::new(value.span(), number)),
            _ => {
                let message = format!("{} is out of range", self.named(key));
                self.source.error(value.span(), message, format!("write a whole number from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// The texts under `key`: an array, or nothing when the key is absent.
    pub(super) fn texts(&self, key: &str) -> Vec<Spanned<String>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        texts(self.source, value, &self.named(key))
    }

    /// The texts under `key`, each read as a `T`.
    pub(super) fn all_parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str, mend: &str) -> Vec<Spanned<T>> {
        let read = |text: Spanned<String>| match text.get_ref().parse() {
            Ok(value) => Some(Spanned::new(text.span(), value)),
            Err(error) => {
                self.source.error(text.span(), format!("{}: {error}", self.named(key)), mend);
                None
            }
        };
        self.texts(key).into_iter().filter_map(read).collect()
    }

    /// The table under `key`, shaped like `T`.
    pub(super) fn table<T: JsonSchema>(&self, key: &str) -> Option<Self> {
        Fields::of_value::<T>(self.source, self.value(key)?, self.named(key))
    }

    /// The tables under `key`, an array, each shaped like `T`.
    pub(super) fn tables<T: JsonSchema>(&self, key: &str) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            wrong_kind(self.source, value, &self.named(key), &format!("a list of tables, each begun by `[[{key}]]`"));
            return Vec::new();
        };
        items.iter().filter_map(|item| Fields::of_value::<T>(self.source, item, self.named(key))).collect()
    }

    /// The members of the table under `key`, whose keys are the user's own names.
    pub(super) fn members(&self, key: &str) -> Vec<(Spanned<String>, &'a Spanned<DeValue<'a>>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            wrong_kind(self.source, value, &self.named(key), "a table");
            return Vec::new();
        };
        table.iter().map(|(name, value)| (Spanned::new(name.span(), name.get_ref().as_ref().to_owned()), value)).collect()
    }

    /// The members of the table under `key`, each a text.
    pub(super) fn text_members(&self, key: &str) -> BTreeMap<String, Spanned<String>> {
        let read = |(name, value): (Spanned<String>, &'a Spanned<DeValue<'a>>)| {
            let value = text(self.source, value, &format!("{} in {}", backticked(name.get_ref()), self.named(key)))?;
            Some((name.into_inner(), value))
        };
        self.members(key).into_iter().filter_map(read).collect()
    }

    /// The value under `key` as JSON.
    pub(super) fn json(&self, key: &str) -> Option<Spanned<Value>> {
        let value = self.value(key)?;
        Some(Spanned::new(value.span(), json(self.source, value)?))
    }
}

/// A value that must be a text.
pub(super) fn text(source: Source<'_>, value: &Spanned<DeValue<'_>>, name: &str) -> Option<Spanned<String>> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        wrong_kind(source, value, name, "a text in quotes");
    }
    Some(Spanned::new(value.span(), text?.to_owned()))
}

/// A value that must be an array of texts.
pub(super) fn texts(source: Source<'_>, value: &Spanned<DeValue<'_>>, name: &str) -> Vec<Spanned<String>> {
    let Some(items) = value.get_ref().as_array() else {
        wrong_kind(source, value, name, "a list of texts, such as `[\"a\", \"b\"]`");
        return Vec::new();
    };
    items.iter().filter_map(|item| text(source, item, &format!("each of {name}"))).collect()
}

/// A TOML value as JSON, which has no dates and no infinities.
fn json(source: Source<'_>, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let whole = |number: &toml::de::DeInteger<'_>| i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::from);
    let made = match value.get_ref() {
        DeValue::String(text) => Some(Value::from(text.as_ref())),
        DeValue::Integer(number) => whole(number),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number),
        DeValue::Boolean(flag) => Some(Value::from(*flag)),
        DeValue::Datetime(_) => None,
        DeValue::Array(items) => Some(items.iter().filter_map(|item| json(source, item)).collect()),
        DeValue::Table(table) => {
            let members = table.iter().filter_map(|(name, value)| Some((name.get_ref().as_ref().to_owned(), json(source, value)?)));
            Some(Value::Object(members.collect::<Map<_, _>>()))
        }
    };
    if made.is_none() {
        source.error(value.span(), "this value has no form in JSON", "write it as a text or a plain number");
    }
    made
}

/// Notes that a value is of another kind than it must be.
pub(super) fn wrong_kind(source: Source<'_>, value: &Spanned<DeValue<'_>>, name: &str, wanted: &str) {
    let message = format!("{name} is {}", kind(value.get_ref()));
    source.error(value.span(), message, format!("write {wanted}"));
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A name between backticks.
pub(super) fn backticked(text: &str) -> String {
    format!("`{}`", shown(text))
}

/// What a problem may show of a text: its beginning, with control characters escaped.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
