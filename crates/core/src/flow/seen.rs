//! What an execution has been shown, as fingerprints by who vouches for it, in bounded memory.
//!
//! A text is kept as the fingerprints of its words in order, so that a value is found where its words stand together and
//! nowhere else: not across two results, and not inside another word. Fingerprints are keyed with a secret of this process, so
//! that nobody can choose a value that is taken for another. What falls out of the memory is unknown, and never trusted.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use super::words::{Kind, each_before_a_run_on_sentence, each_word, is_plain, kind_of_party};
use super::{Origin, Provenance};

/// The key of all fingerprints.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The most words that are kept of each source, unless somebody says otherwise: 32 KiB.
const WORDS_MAX: usize = 4096;

/// Stands between texts: no word has this fingerprint.
const BETWEEN: u64 = 0;

/// A word by itself that is shorter, in characters, is found only where it is all that a text says: it would be in any text by
/// chance.
const CHANCE_MAX: usize = 3;

/// What one execution has been shown; by default nothing, and nothing is kept.
#[derive(Debug, Default)]
pub struct Seen {
    of_source: [Shelf; Provenance::SEEN.len()],
    /// The most fingerprints of each source.
    words_max: usize,
    /// What kinds of parties the person's own words name.
    named_in_task: BTreeSet<Kind>,
}

/// The texts of one source.
#[derive(Debug, Default)]
struct Shelf {
    words: Vec<u64>,
    /// Where each text begins among the words, in order, and where it came from.
    texts: Vec<(usize, Origin)>,
}

/// A value that is looked up.
#[derive(Debug)]
pub(super) struct Value {
    words: Vec<u64>,
    /// Whether it would be found anywhere by chance.
    is_common: bool,
    is_plain: bool,
    /// What it names, if it is one word that names a party.
    kind: Option<Kind>,
}

impl Value {
    /// The value that `text` is.
    pub(super) fn of(text: &str) -> Self {
        let (mut words, mut length, mut kind) = (Vec::new(), 0_usize, None);
        each_word(text, |word| {
            length = length.saturating_add(word.strip_prefix("number:").unwrap_or(word).chars().count());
            words.push(fingerprint(word));
            kind = kind_of_party(word).filter(|_| words.len() == 1);
        });
        let is_common = words.len() == 1 && length <= CHANCE_MAX;
        Self { words, is_common, is_plain: is_plain(text), kind }
    }

    /// The value that is one word, in its comparable form.
    pub(super) fn of_form(word: &str) -> Self {
        Self { words: vec![fingerprint(word)], is_common: false, is_plain: true, kind: None }
    }

    /// Whether there is nothing to look up.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

fn fingerprint(word: &str) -> u64 {
    KEY.hash_one(word).max(1)
}

impl Seen {
    /// Nothing yet; keeps at most `words_max` words of each source, at eight bytes each.
    pub fn new(words_max: usize) -> Self {
        Self { words_max, ..Self::default() }
    }

    /// What an execution has before it was shown anything: the person's own words.
    pub fn of_task(task: Option<&str>) -> Self {
        let mut seen = Self::new(WORDS_MAX);
        let task = task.unwrap_or_default();
        seen.take(Provenance::Task, task, &Origin::default());
        each_before_a_run_on_sentence(task, |word| seen.take_word(Provenance::Task, word, &Origin::default()));
        each_word(task, |word| seen.named_in_task.extend(kind_of_party(word)));
        each_before_a_run_on_sentence(task, |word| seen.named_in_task.extend(kind_of_party(word)));
        seen
    }

    /// The parties that a bundle says are dealt with, however many; `place` is where it says so.
    pub fn of_parties(parties: &[String], place: &str) -> Self {
        let mut seen = Self::new(usize::MAX);
        let origin = Origin { record: None, place: place.into() };
        parties.iter().for_each(|party| seen.take(Provenance::Known, party, &origin));
        seen
    }

    /// Takes in a text, or a field of a result.
    pub fn take(&mut self, source: Provenance, text: &str, origin: &Origin) {
        let words_max = self.words_max;
        let Some(shelf) = self.shelf_mut(source) else { return };
        let begin = shelf.words.len();
        each_word(text, |word| shelf.words.push(fingerprint(word)));
        if shelf.words.len() == begin {
            return;
        }
        shelf.words.push(BETWEEN);
        shelf.texts.push((begin, origin.clone()));
        shelf.keep(words_max);
    }

    /// Takes in one word, in its comparable form, as a value by itself.
    pub(super) fn take_word(&mut self, source: Provenance, word: &str, origin: &Origin) {
        let words_max = self.words_max;
        let Some(shelf) = self.shelf_mut(source) else { return };
        let begin = shelf.words.len();
        shelf.words.extend([fingerprint(word), BETWEEN]);
        shelf.texts.push((begin, origin.clone()));
        shelf.keep(words_max);
    }

    /// Where the value stands in what `source` said: the first place, if anywhere.
    pub(super) fn find(&self, source: Provenance, value: &Value) -> Option<Origin> {
        // What is written so that it may be taken for something else is nobody's choice.
        if !value.is_plain && source != Provenance::Untrusted {
            return None;
        }
        // What a service mints is a value by itself: a word in a name that somebody made up was minted by nobody. So is a party,
        // and what a person endorsed.
        let whole = matches!(source, Provenance::Minted | Provenance::Known | Provenance::Endorsed)
            || (value.is_common && source != Provenance::Task);
        self.shelf(source)?.find(value, whole)
    }

    /// Whether `party` is among the parties that are dealt with, as a whole.
    pub fn knows(&self, party: &str) -> bool {
        self.find(Provenance::Known, &Value::of(party)).is_some()
    }

    /// Whether the value names a party, and the person's own words name another one of the same kind.
    pub(super) fn task_names_another(&self, value: &Value) -> bool {
        value.kind.is_some_and(|kind| self.named_in_task.contains(&kind)) && self.find(Provenance::Task, value).is_none()
    }

    /// The memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.of_source.iter().map(|shelf| shelf.words.capacity() * 8 + shelf.texts.capacity() * size_of::<(usize, Origin)>()).sum()
    }

    fn shelf(&self, source: Provenance) -> Option<&Shelf> {
        self.of_source.get(Provenance::SEEN.iter().position(|seen| *seen == source)?)
    }

    fn shelf_mut(&mut self, source: Provenance) -> Option<&mut Shelf> {
        self.of_source.get_mut(Provenance::SEEN.iter().position(|seen| *seen == source)?)
    }
}

impl Shelf {
    fn find(&self, value: &Value, whole: bool) -> Option<Origin> {
        let (first, rest) = value.words.split_first()?;
        for (at, word) in self.words.iter().enumerate() {
            if word != first {
                continue;
            }
            let end = at.saturating_add(value.words.len());
            if self.words.get(at.saturating_add(1)..end) != Some(rest) {
                continue;
            }
            let is_whole =
                self.words.get(end) == Some(&BETWEEN) && at.checked_sub(1).is_none_or(|before| self.words.get(before) == Some(&BETWEEN));
            if is_whole || !whole {
                let text = self.texts.partition_point(|(begin, _)| *begin <= at).checked_sub(1)?;
                return self.texts.get(text).map(|(_, origin)| origin.clone());
            }
        }
        None
    }

    /// Forgets the oldest texts where there are more words than may be; a text that is too long by itself, altogether.
    fn keep(&mut self, words_max: usize) {
        let Some(over) = self.words.len().checked_sub(words_max).filter(|over| *over > 0) else { return };
        // A quarter at once, so that it is not done again with each text.
        let least = over.saturating_add(words_max / 4);
        let (mut texts, mut words) = (0, 0);
        for (begin, _) in self.texts.iter().skip(1).chain([&(self.words.len(), Origin::default())]) {
            if words >= least {
                break;
            }
            texts += 1;
            words = *begin;
        }
        self.words.drain(..words);
        self.texts.drain(..texts);
        for (begin, _) in &mut self.texts {
            *begin -= words;
        }
        self.words.shrink_to(words_max);
    }
}
