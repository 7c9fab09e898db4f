//! What executions wrote to a tool server under untrusted influence, so that it is read back as untrusted by whoever reads it.
//!
//! It is made from the log alone, so that it outlives restarts and is the same for every gateway. Nothing of it is ever forgotten:
//! what an agent may write so is bounded before it is written ([`Written::has_room`]), and so this is. Fingerprints here are not
//! secret: whoever found two words with one fingerprint would only have more of what a server says be untrusted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Traced;
use super::marks::{BYTES_EACH, Marks, mix};
use super::seen::polynomial;
use super::words::{each_word, kind_of, leads_somewhere};
use crate::model::AgentName;

/// The most bytes that are kept of what is written to one server, unless the bundle says otherwise (`written_bytes_max`).
pub const WRITTEN_BYTES_MAX: usize = 32 << 20;

/// The most words of arguments that the log does not keep which their record keeps in their place.
const RECORDED_MAX: usize = 2_048;

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

/// Marks a word that leads somewhere; fingerprints do not reach so far.
const LEADS: u64 = 1 << 63;

/// What was written to one server under untrusted influence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    marks: Marks,
    /// How many of the marks each agent made.
    by: BTreeMap<AgentName, usize>,
    /// How many words the texts have that were written: one bit for each number.
    lengths: u64,
    /// Whether something was written of which nothing is known.
    is_unknown: bool,
}

/// What is said of words that were written.
#[derive(Clone, Copy)]
enum Said {
    /// They stand in a text, one after the other.
    InRow,
    /// It is a word of a name.
    InName,
    /// It is all that a text says.
    Alone,
    /// It leads somewhere.
    Leads,
    /// They are a text.
    Whole,
}

impl Said {
    /// What stands for its being said of `words`.
    fn of(self, words: &[u64]) -> u64 {
        words.iter().fold(self.of_none(), |sum, word| and(sum, *word))
    }

    const fn of_none(self) -> u64 {
        mix(self as u64 + 1)
    }
}

/// What stands for its being said of one word more.
const fn and(sum: u64, word: u64) -> u64 {
    mix(sum ^ word).wrapping_add(word)
}

/// The words of all texts in `arguments`, by which they are known again: but for targets that somebody chose who may. Nothing where
/// that is not JSON.
pub fn words_of(arguments: &str, traced: &[Traced]) -> Option<Vec<u64>> {
    let arguments: Value = serde_json::from_str(arguments).ok()?;
    let mut taking = Taking { traced, words: Vec::new(), most: usize::MAX };
    taking.value(&mut String::new(), &arguments);
    Some(taking.words)
}

/// The same of a call whose arguments the log does not keep; nothing where there are more than its record can hold.
pub(crate) fn words_to_record(arguments: &Value, traced: &[Traced]) -> Option<Vec<u64>> {
    let mut taking = Taking { traced, words: Vec::new(), most: RECORDED_MAX };
    taking.value(&mut String::new(), arguments);
    (taking.words.len() <= RECORDED_MAX).then_some(taking.words)
}

impl Written {
    /// Takes in what `agent` wrote, by its words as [`words_of`] gives them. Where they are not known, all that the server says
    /// counts as written so from then on.
    pub fn take(&mut self, agent: &AgentName, words: Option<&[u64]>) {
        let Some(words) = words else {
            self.is_unknown = true;
            return;
        };
        let texts = words.split(|word| *word == BETWEEN).filter(|text| !text.is_empty());
        let made = texts.fold(0_usize, |made, text| made.saturating_add(self.add(text)));
        if made > 0 {
            let by = self.by.entry(agent.clone()).or_default();
            *by = by.saturating_add(made);
        }
    }

    /// Whether nothing was written so.
    pub fn is_empty(&self) -> bool {
        !self.is_unknown && self.marks.is_empty()
    }

    /// Whether there is room for more that `agent` writes so, where `bytes_max` may be kept for all agents together. One may have
    /// a quarter of what the others leave, so that none takes the room of all.
    pub fn has_room(&self, agent: &AgentName, bytes_max: usize) -> bool {
        let own = self.by.get(agent).copied().unwrap_or(0);
        let others = self.by.values().fold(0_usize, |sum, marks| sum.saturating_add(*marks)).saturating_sub(own);
        own < (bytes_max / BYTES_EACH).saturating_sub(others) / 4
    }

    /// Whether `text` shows something that was written so: it is, holds, or is a part of it. One word by itself counts within a
    /// name, and within a longer text only where it leads somewhere.
    pub fn shows(&self, text: &str) -> bool {
        if self.is_empty() || self.is_unknown {
            return self.is_unknown;
        }
        let (mut words, mut leads) = (Vec::new(), false);
        each_word(text, |word| {
            let fingerprint = polynomial(word, POINT);
            leads |= leads_somewhere(kind_of(word)) && self.says(Said::Leads, &[fingerprint]);
            words.push(fingerprint);
        });
        let is_name = words.len() <= NAME_WORDS_MAX;
        leads
            || match words.as_slice() {
                [] => false,
                [word] => self.says(Said::InName, &[*word]),
                two @ [_, _] => self.says(Said::InRow, two),
                more => more.windows(3).all(|three| self.says(Said::InRow, three)),
            }
            || (is_name && words.iter().any(|word| self.says(Said::Alone, &[*word])))
            || (0..words.len()).any(|at| self.begins(words.get(at..).unwrap_or_default()))
    }

    /// Whether `words` begin with a text that was written, of more than one word.
    fn begins(&self, words: &[u64]) -> bool {
        let is_begun = words.get(..2).is_some_and(|two| self.says(Said::InRow, two));
        let mut sum = Said::Whole.of_none();
        is_begun
            && words.iter().take(TEXT_WORDS_MAX).zip(1_u32..).any(|(word, length)| {
                sum = and(sum, *word);
                self.lengths & (1 << (length % 64)) != 0 && self.marks.has(sum)
            })
    }

    fn says(&self, said: Said, words: &[u64]) -> bool {
        self.marks.has(said.of(words))
    }

    /// Adds a text; says how many marks it made.
    fn add(&mut self, text: &[u64]) -> usize {
        let words: Vec<u64> = text.iter().map(|word| word & !LEADS).collect();
        let in_rows = words.windows(2).chain(words.windows(3)).map(|row| Said::InRow.of(row));
        let leads = text.iter().filter(|word| **word & LEADS != 0).map(|word| Said::Leads.of(&[word & !LEADS]));
        let in_name = words.iter().filter(|_| words.len() <= NAME_WORDS_MAX).map(|word| Said::InName.of(&[*word]));
        let whole = match words.as_slice() {
            [] => None,
            [word] => Some(Said::Alone.of(&[*word])),
            more => Some(Said::Whole.of(more)),
        };
        self.lengths |= 1 << (words.len() % 64);
        in_rows.chain(leads).chain(in_name).chain(whole).filter(|thing| self.marks.put(*thing)).count()
    }
}

/// Takes the texts out of arguments.
struct Taking<'a> {
    traced: &'a [Traced],
    /// Their words, marked where they lead somewhere, with [`BETWEEN`] after each text.
    words: Vec<u64>,
    /// When there are more, no more are taken.
    most: usize,
}

impl Taking<'_> {
    fn value(&mut self, pointer: &mut String, value: &Value) {
        let length = pointer.len();
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => self.leaf(pointer, &number.to_string(), self.traced),
            Value::String(text) => self.leaf(pointer, text, self.traced),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    pointer.push_str(&format!("/{index}"));
                    self.value(pointer, item);
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
                    self.value(pointer, member);
                    pointer.truncate(length);
                }
            }
        }
    }

    fn leaf(&mut self, pointer: &str, text: &str, traced: &[Traced]) {
        let is_chosen = traced.iter().any(|traced| traced.may && !traced.is_within && traced.argument == pointer);
        if is_chosen || self.words.len() > self.most {
            return;
        }
        let (mut words, mut later, mut letters) = (Vec::new(), Vec::new(), 0_usize);
        each_word(text, |word| {
            letters = letters.saturating_add(word.strip_prefix("number:").unwrap_or(word).chars().count());
            let leads = leads_somewhere(kind_of(word));
            let fingerprint = polynomial(word, POINT) | if leads { LEADS } else { 0 };
            if words.len() < TEXT_WORDS_MAX {
                words.push(fingerprint);
            } else if leads {
                later.push(fingerprint);
            }
        });
        if letters > CHANCE_MAX {
            self.words.extend(words);
            self.words.push(BETWEEN);
            self.words.extend(later.into_iter().flat_map(|word| [word, BETWEEN]));
        }
    }
}
