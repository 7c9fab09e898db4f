//! What executions wrote to a tool server under untrusted influence, so that it is read back as untrusted by whoever reads it.
//!
//! It is made from the log alone, so that it outlives restarts and is the same for every gateway. Fingerprints here are not secret:
//! whoever found two words with one fingerprint would only have more of what a server says be untrusted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Traced;
use super::seen::polynomial;
use super::words::{each_word, kind_of, leads_somewhere};

/// The most words that are kept of one server.
const WORDS_MAX: usize = 1 << 16;

/// Of a longer text, only so many words are kept, and what leads somewhere.
const TEXT_WORDS_MAX: usize = 64;

/// A text of at most so many words is a name, or a list of some: any word of it may be what matters.
const NAME_WORDS_MAX: usize = 8;

/// A word that is shorter, in characters, is in any text by chance.
const CHANCE_MAX: usize = 3;

/// Where the fingerprints of words are taken.
const POINT: u64 = 0x0123_4567_89AB_CDEF;

/// Stands between texts: no word has this fingerprint.
const BETWEEN: u64 = 0;

/// What was written to one server under untrusted influence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Written {
    words: Vec<u64>,
    /// Each word, and where it stands; of those that begin a text, too.
    places: BTreeSet<(u64, u32)>,
    begins: BTreeSet<(u64, u32)>,
    is_full: bool,
}

/// The same as it is kept between starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    words: Vec<u64>,
    is_full: bool,
}

impl From<Kept> for Written {
    fn from(Kept { words, is_full }: Kept) -> Self {
        let mut written = Self { is_full, ..Self::default() };
        words.split(|word| *word == BETWEEN).filter(|text| !text.is_empty()).for_each(|text| written.add(text));
        written
    }
}

impl From<Written> for Kept {
    fn from(Written { words, is_full, .. }: Written) -> Self {
        Self { words, is_full }
    }
}

impl Written {
    /// Takes in the arguments of a call, but for targets that somebody chose who may. Where they are not known, since they were
    /// too long to be recorded, or are too many, all that the server says counts as written so from then on.
    pub fn take(&mut self, arguments: Option<&str>, traced: &[Traced]) {
        match arguments.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            Some(arguments) => self.value(&mut String::new(), &arguments, traced),
            None => self.is_full = true,
        }
    }

    /// Whether nothing was written so.
    pub fn is_empty(&self) -> bool {
        !self.is_full && self.words.is_empty()
    }

    /// Whether `text` shows something that was written so: it is, holds, or is a part of it. One word by itself counts within a
    /// name, and within a longer text only where it leads somewhere.
    pub fn shows(&self, text: &str) -> bool {
        if self.is_empty() || self.is_full {
            return self.is_full;
        }
        let (mut words, mut leads) = (Vec::new(), Vec::new());
        each_word(text, |word| {
            words.push(polynomial(word, POINT));
            leads.push(leads_somewhere(kind_of(word)));
        });
        let is_name = words.len() <= NAME_WORDS_MAX;
        self.holds(&words, leads.iter().any(|leads| *leads))
            || words.iter().zip(&leads).enumerate().any(|(at, (word, leads))| {
                let tail = words.get(at..).unwrap_or_default();
                (*leads && self.stand(*word, &self.places).next().is_some())
                    || self.stand(*word, &self.begins).any(|begin| {
                        let text = self.text_at(begin);
                        (text.len() > 1 || is_name) && tail.starts_with(text)
                    })
            })
    }

    /// Whether these words stand together in a text that was written.
    fn holds(&self, words: &[u64], leads: bool) -> bool {
        let Some((first, rest)) = words.split_first() else { return false };
        self.stand(*first, &self.places).any(|at| {
            let after = at.saturating_add(1);
            let is_there = self.words.get(after..after.saturating_add(rest.len())) == Some(rest);
            let begin = self.words.get(..at).and_then(|before| before.iter().rposition(|word| *word == BETWEEN));
            let of_name = || self.text_at(begin.map_or(0, |before| before.saturating_add(1))).len() <= NAME_WORDS_MAX;
            is_there && (!rest.is_empty() || leads || of_name())
        })
    }

    fn stand<'a>(&'a self, word: u64, among: &'a BTreeSet<(u64, u32)>) -> impl Iterator<Item = usize> + 'a {
        among.range((word, 0)..=(word, u32::MAX)).filter_map(|(_, at)| usize::try_from(*at).ok())
    }

    fn text_at(&self, begin: usize) -> &[u64] {
        let rest = self.words.get(begin..).unwrap_or_default();
        rest.split(|word| *word == BETWEEN).next().unwrap_or_default()
    }

    fn value(&mut self, pointer: &mut String, value: &Value, traced: &[Traced]) {
        let length = pointer.len();
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => self.leaf(pointer, &number.to_string(), traced),
            Value::String(text) => self.leaf(pointer, text, traced),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    pointer.push_str(&format!("/{index}"));
                    self.value(pointer, item, traced);
                    pointer.truncate(length);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    // The names of the arguments themselves are the tool's.
                    if length > 0 {
                        self.leaf(pointer, name, &[]);
                    }
                    self.value(pointer, member, traced);
                    pointer.truncate(length);
                }
            }
        }
    }

    fn leaf(&mut self, pointer: &str, text: &str, traced: &[Traced]) {
        if traced.iter().any(|traced| traced.may && !traced.is_within && traced.argument == pointer) {
            return;
        }
        let (mut words, mut later, mut letters) = (Vec::new(), Vec::new(), 0_usize);
        each_word(text, |word| {
            letters = letters.saturating_add(word.strip_prefix("number:").unwrap_or(word).chars().count());
            if words.len() < TEXT_WORDS_MAX {
                words.push(polynomial(word, POINT));
            } else if leads_somewhere(kind_of(word)) {
                later.push(polynomial(word, POINT));
            }
        });
        if letters > CHANCE_MAX {
            self.add(&words);
            later.iter().for_each(|word| self.add(&[*word]));
        }
    }

    /// Adds a text, unless it is there.
    fn add(&mut self, text: &[u64]) {
        let Some(first) = text.first() else { return };
        if self.stand(*first, &self.begins).any(|begin| self.text_at(begin) == text) {
            return;
        }
        if self.words.len().saturating_add(text.len()) >= WORDS_MAX {
            self.is_full = true;
            return;
        }
        for (number, word) in text.iter().enumerate() {
            let Ok(at) = u32::try_from(self.words.len()) else { return };
            self.words.push(*word);
            self.places.insert((*word, at));
            if number == 0 {
                self.begins.insert((*word, at));
            }
        }
        self.words.push(BETWEEN);
    }
}
