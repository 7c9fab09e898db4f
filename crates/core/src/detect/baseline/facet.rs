//! What is counted of a call's arguments: for each value the thing itself, or the host or domain that it names, and for the whole its
//! shape. A value is kept as a fingerprint alone.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::flow::{Provenance, Said, hosts_in};
use crate::model::Digest;

/// The longest text that is counted as a value, in bytes; of a longer one, what it names is counted.
const VALUE_MAX: usize = 64;

/// The most words of a text that is counted as a value.
const WORDS_MAX: usize = 8;

/// The longest text that is looked through for what it names, in bytes.
const LOOKED_THROUGH_MAX: usize = 16 << 10;

/// The most facets of one call, and the longest name of an argument; the rest is not counted.
const FACETS_MAX: usize = 96;
const ARGUMENT_MAX: usize = 96;

/// The deepest that arguments are looked into.
const DEPTH_MAX: usize = 8;

/// What of an argument is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The value itself.
    Value,
    /// The host of an address that the value is.
    Host,
    /// The domain of an e-mail address that the value is.
    Domain,
    /// The host of an address that stands in the text.
    HostWithin,
    /// The domain of an e-mail address that stands in the text.
    DomainWithin,
    /// Which arguments there are.
    Keys,
    /// How long the text is: the logarithm of it, to base 2.
    Length,
    /// How large the number is: the logarithm of it, to base 2.
    Magnitude,
    /// How many entries the list has: the logarithm of it, to base 2.
    Count,
}

impl Kind {
    /// What stands behind the argument's name where a facet is named, as in `to@domain`.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Value => "",
            Self::Host => "@host",
            Self::Domain => "@domain",
            Self::HostWithin => "@inhost",
            Self::DomainWithin => "@indomain",
            Self::Keys => "#keys",
            Self::Length => "#len",
            Self::Magnitude => "#mag",
            Self::Count => "#n",
        }
    }

    /// Whether it is a value, or a part of one, and no shape.
    pub const fn is_value(self) -> bool {
        matches!(self, Self::Value | Self::Host | Self::Domain | Self::HostWithin | Self::DomainWithin)
    }

    /// The kind and the argument that a facet's name means.
    pub fn of_name(name: &str) -> (Self, &str) {
        const SUFFIXED: [Kind; 8] =
            [Kind::Host, Kind::Domain, Kind::HostWithin, Kind::DomainWithin, Kind::Keys, Kind::Length, Kind::Magnitude, Kind::Count];
        let of = |kind: Self| Some((kind, name.strip_suffix(kind.suffix())?));
        SUFFIXED.into_iter().find_map(of).unwrap_or((Self::Value, name))
    }
}

/// Who a value was chosen by, as far as it matters to what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    /// Somebody who may: the task names it, a person endorsed it, or the subject dealt with that party before.
    Task,
    /// Only an earlier result of a tool shows it.
    Result,
    /// Nothing shows it: the model made it.
    Own,
    /// It was not looked for: it is a shape and no value, or the call does nothing but read.
    #[default]
    Unjudged,
}

impl From<Provenance> for Chosen {
    fn from(provenance: Provenance) -> Self {
        match provenance {
            Provenance::Task | Provenance::Endorsed | Provenance::Known => Self::Task,
            Provenance::Trusted | Provenance::Minted | Provenance::Named | Provenance::Untrusted => Self::Result,
            Provenance::Unknown => Self::Own,
        }
    }
}

/// One thing that is counted of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facet<'f> {
    /// The argument's name; of what is in an object, with the names above it and dots between.
    pub argument: &'f str,
    /// What of it.
    pub kind: Kind,
    /// The value's fingerprint, or the number that it is.
    pub value: u64,
    /// Who chose it.
    pub chosen: Chosen,
}

impl fmt::Display for Facet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.argument, self.kind.suffix())
    }
}

/// The facets of one call, or of several one after the other, in little memory that can be used again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facets {
    names: String,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    start: u32,
    length: u16,
    kind: Kind,
    chosen: Chosen,
    value: u64,
}

impl Facets {
    /// The facets of a call with these arguments. `chosen` says who chose a value.
    pub fn of<'de, A>(arguments: A, mut chosen: impl FnMut(Said<'_>) -> Chosen) -> Self
    where
        A: Deserializer<'de>,
    {
        let mut facets = Self::default();
        facets.read(arguments, &mut chosen);
        facets
    }

    /// Becomes the facets of a call with these arguments. What cannot be read is not counted.
    pub fn read<'de, A: Deserializer<'de>>(&mut self, arguments: A, chosen: &mut dyn FnMut(Said<'_>) -> Chosen) {
        self.clear();
        let mut reading = Reading { facets: self, path: String::new(), keys: Vec::new(), chosen };
        // A text that breaks off is counted as far as it goes: a call's arguments were parsed before.
        let _ = Seed { reading: &mut reading, depth: 0 }.deserialize(arguments);
        let mut keys = std::mem::take(&mut reading.keys);
        keys.sort_unstable();
        keys.dedup();
        self.push("", Kind::Keys, fingerprint(&keys.join("|")), Chosen::Unjudged);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.names.clear();
        self.items.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        self.names.capacity().saturating_add(self.items.capacity().saturating_mul(size_of::<Item>()))
    }

    /// Adds one.
    pub fn push(&mut self, argument: &str, kind: Kind, value: u64, chosen: Chosen) {
        let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(argument.len())) else { return };
        if argument.len() <= ARGUMENT_MAX {
            self.names.push_str(argument);
            self.items.push(Item { start, length, kind, chosen, value });
        }
    }

    /// All of them, in the order of the arguments.
    pub fn iter(&self) -> impl Iterator<Item = Facet<'_>> {
        self.items.iter().map(|item| {
            let start = usize::try_from(item.start).unwrap_or(usize::MAX);
            let argument = self.names.get(start..start.saturating_add(item.length.into())).unwrap_or_default();
            Facet { argument, kind: item.kind, value: item.value, chosen: item.chosen }
        })
    }

    /// The numbers of those that only a tool's result showed: what a record keeps of who chose what.
    pub fn from_results(&self) -> Vec<u16> {
        let numbered = (0..).zip(&self.items);
        numbered.filter(|(_, item)| item.chosen == Chosen::Result).map(|(number, _)| number).collect()
    }

    /// Takes those with these numbers, in order, as shown by a tool's result alone, and all other values as not.
    pub fn set_from_results(&mut self, numbers: &[u16]) {
        for (number, item) in (0..).zip(&mut self.items) {
            item.chosen = match (numbers.binary_search(&number).is_ok(), item.kind.is_value()) {
                (true, true) => Chosen::Result,
                (false, true) => Chosen::Task,
                (_, false) => Chosen::Unjudged,
            };
        }
    }
}

/// What stands for a value: a quarter of its digest, so that nobody finds another value that is taken for one that is known.
pub fn fingerprint(text: &str) -> u64 {
    u64::from_be_bytes(Digest::of(text.as_bytes()).as_bytes().first_chunk().copied().unwrap_or_default())
}

/// The fingerprint of a text however it is spaced and whichever case it is in.
fn fingerprint_of_value(text: &str) -> u64 {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
    if is_plain {
        return fingerprint(text);
    }
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        if word.is_ascii() {
            folded.extend(word.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
        } else {
            folded.push_str(&word.to_lowercase());
        }
    }
    fingerprint(&folded)
}

/// The logarithm of one more than this, to base 2, rounded down.
fn size(number: u64) -> u64 {
    number.saturating_add(1).ilog2().into()
}

struct Reading<'r> {
    facets: &'r mut Facets,
    path: String,
    keys: Vec<String>,
    chosen: &'r mut dyn FnMut(Said<'_>) -> Chosen,
}

impl Reading<'_> {
    fn push(&mut self, kind: Kind, value: u64, chosen: Chosen) {
        if self.facets.len() < FACETS_MAX {
            self.facets.push(&self.path, kind, value, chosen);
        }
    }

    fn text(&mut self, text: &str) {
        let text = text.trim();
        self.push(Kind::Length, size(u64::try_from(text.chars().count()).unwrap_or(u64::MAX)), Chosen::Unjudged);
        if text.is_empty() {
            return;
        }
        let one = text.len() <= VALUE_MAX && text.split_whitespace().nth(WORDS_MAX).is_none();
        // Nothing is named without a dot in it, and most texts are a word or two.
        let names = text.contains('.') && text.len() <= LOOKED_THROUGH_MAX;
        let is_single = names && !text.contains(char::is_whitespace);
        let mut is_host = false;
        if names {
            let mut seen: Vec<(Kind, u64)> = Vec::new();
            hosts_in(text, |host, is_address, form| {
                let kind = match (is_single, is_address) {
                    (true, true) => Kind::Domain,
                    (true, false) => Kind::Host,
                    (false, true) => Kind::DomainWithin,
                    (false, false) => Kind::HostWithin,
                };
                is_host |= kind == Kind::Host;
                let facet = (kind, fingerprint(host));
                if !seen.contains(&facet) {
                    seen.push(facet);
                    let chosen = (self.chosen)(if is_single { Said::Text(text) } else { Said::Form(form) });
                    self.push(facet.0, facet.1, chosen);
                }
            });
        }
        if one && !is_host {
            let chosen = (self.chosen)(Said::Text(text));
            self.push(Kind::Value, fingerprint_of_value(text), chosen);
        }
    }

    fn number(&mut self, size: u64, is_negative: bool) {
        self.push(Kind::Magnitude, size | u64::from(is_negative) << 8, Chosen::Unjudged);
    }
}

struct Seed<'s, 'r> {
    reading: &'s mut Reading<'r>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the arguments of a call")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.reading.push(Kind::Value, value.into(), Chosen::Unjudged);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.reading.number(size(value.unsigned_abs()), value < 0);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.reading.number(size(value), false);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        // An amount's size is what is counted; a saturating conversion says that of any.
        self.reading.number(size(value.abs() as u64), value < 0.0);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.reading.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut count = 0_u64;
        let depth = self.depth.saturating_add(1);
        loop {
            let more = if depth > DEPTH_MAX {
                entries.next_element::<serde::de::IgnoredAny>()?.is_some()
            } else {
                entries.next_element_seed(Seed { reading: &mut *self.reading, depth })?.is_some()
            };
            if !more {
                break;
            }
            count = count.saturating_add(1);
        }
        self.reading.push(Kind::Count, size(count), Chosen::Unjudged);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.depth.saturating_add(1);
        loop {
            let length = self.reading.path.len();
            if length > 0 {
                self.reading.path.push('.');
            }
            if members.next_key_seed(Name(&mut self.reading.path))?.is_none() {
                self.reading.path.truncate(length);
                return Ok(());
            }
            if self.reading.keys.len() < FACETS_MAX {
                let key = self.reading.path.clone();
                self.reading.keys.push(key);
            }
            if depth > DEPTH_MAX {
                members.next_value::<serde::de::IgnoredAny>()?;
            } else {
                members.next_value_seed(Seed { reading: &mut *self.reading, depth })?;
            }
            self.reading.path.truncate(length);
        }
    }
}

/// Writes the name of a member behind those above it.
struct Name<'p>(&'p mut String);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an argument")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.0.push_str(name);
        Ok(())
    }
}
