//! What an execution has been shown, as fingerprints by who vouches for it, in bounded memory.
//!
//! A text is kept as the fingerprints of its words in order, so that a value is found where its words stand together and
//! nowhere else: not across two results, and not inside another word. What falls out of the memory is unknown, and never trusted.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use bailiwick_log::Position;

use super::together::{Share, Together};
use super::words::{self, Kind, Word, Words, each_before_a_run_on_sentence, each_word, is_plain, kind_of_party};
use super::{Origin, Provenance};

/// The most bytes that are kept for an execution, unless the bundle says otherwise (`ledger_bytes_max`).
pub const BYTES_MAX: usize = 256 << 10;

/// The most bytes that are kept for all executions together, unless the bundle says otherwise (`ledgers_bytes_max`).
pub const ALL_BYTES_MAX: usize = 1 << 30;

/// Of sixteen parts of the memory, how many each source has, so that what strangers write pushes out only what strangers wrote.
const PARTS: [usize; Provenance::SEEN.len()] = [4, 1, 1, 3, 3, 2, 2];

/// Stands between texts: no word has this fingerprint.
const BETWEEN: u64 = 0;

/// Stands where a text goes on that was too long to be kept: no word has this fingerprint either.
const CUT: u64 = 1;

/// A word by itself that is shorter, in characters, is found only where it is all that a text says: it would be in any text by
/// chance.
const CHANCE_MAX: usize = 3;

/// The longest place of a text that is kept, in bytes.
const PLACE_MAX: usize = 256;

/// What one execution has been shown; by default nothing, and nothing is kept.
#[derive(Debug, Default)]
pub struct Seen {
    of_source: [Shelf; Provenance::SEEN.len()],
    /// What kinds of parties the person's own words name.
    named_in_task: BTreeSet<Kind>,
    /// The confidentiality labels that texts carry, each by its place here.
    labels: Vec<Arc<str>>,
    share: Share,
}

/// The texts of one source, oldest first, within its part of the memory.
#[derive(Debug, Default)]
struct Shelf {
    room: Room,
    words: Vec<u64>,
    texts: Vec<Text>,
    /// The places of the texts, one after the other.
    places: String,
}

/// How much a shelf holds at most.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    words: usize,
    texts: usize,
    places: usize,
}

/// Where a text begins among the words and among the places, the labels that it carries, and the record of the call whose result
/// showed it.
#[derive(Clone, Copy, Debug)]
struct Text {
    words: u32,
    place: u32,
    marks: Marks,
    record: Option<Position>,
}

/// Confidentiality labels, a bit each. The last bit stands for all those for which there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u32);

impl Marks {
    /// No label.
    pub(super) const NONE: Self = Self(0);

    fn of_place(place: usize) -> Self {
        Self(u32::try_from(place).ok().and_then(|place| 1_u32.checked_shl(place)).unwrap_or(1 << 31))
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has_any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Who said a text, which labels it carries, and the record of the call whose result showed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) source: Provenance,
    pub(super) marks: Marks,
    pub(super) record: Option<Position>,
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
            words.push(fingerprint(Word::Form(word), *POINT));
            kind = kind_of_party(word).filter(|_| words.len() == 1);
        });
        let is_common = words.len() == 1 && length <= CHANCE_MAX;
        Self { words, is_common, is_plain: is_plain(text), kind }
    }

    /// The value that is one word, in its comparable form.
    pub(super) fn of_form(word: &str) -> Self {
        Self { words: vec![fingerprint(Word::Form(word), *POINT)], is_common: false, is_plain: true, kind: None }
    }
}

/// What a word is kept as: the value at a secret point of the polynomial, modulo 2^61 - 1, whose coefficients are the word's
/// length and its bytes by sevens. Two different words of at most 2,048 bytes have the same with a chance of less than 2^-52,
/// whoever chose them, since the point is drawn anew in each process and nobody is shown a fingerprint.
#[inline]
fn fingerprint(word: Word<'_>, point: u64) -> u64 {
    if word.is_too_long() { CUT } else { at_point(word, point) }
}

/// The secret point.
static POINT: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish() % MODULUS);

/// The value at `point` of the polynomial of a word in its comparable form; neither 0 nor 1.
pub(super) fn polynomial(form: &str, point: u64) -> u64 {
    at_point(Word::Form(form), point % MODULUS)
}

/// Of the field in which polynomials are computed: a prime.
const MODULUS: u64 = (1 << 61) - 1;

/// The value of a word's polynomial at a point below [`MODULUS`].
#[inline]
fn at_point(word: Word<'_>, point: u64) -> u64 {
    let step = |sum: u64, coefficient: u64| {
        let product = u128::from(sum).wrapping_mul(u128::from(point)).wrapping_add(u128::from(coefficient));
        let folded = (low(product) & MODULUS).wrapping_add(low(product >> 61));
        if folded >= MODULUS { folded.wrapping_sub(MODULUS) } else { folded }
    };
    word.fold_sevens(step).wrapping_add(CUT).wrapping_add(1)
}

/// The lower half of a number.
#[expect(clippy::cast_possible_truncation, reason = "that is what is wanted")]
const fn low(number: u128) -> u64 {
    number as u64
}

impl Seen {
    /// Nothing yet; keeps at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        let mut seen = Self::default();
        seen.keep_within(bytes_max);
        seen
    }

    /// What an execution has before it was shown anything: the person's own words.
    pub fn of_task(task: Option<&str>) -> Self {
        let mut seen = Self::new(BYTES_MAX);
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
        parties.iter().for_each(|party| seen.take_by_itself(Provenance::Known, party, None, place));
        seen
    }

    /// Keeps at most `bytes_max` bytes from now on, and forgets what is more.
    pub fn keep_within(&mut self, bytes_max: usize) {
        for (shelf, parts) in self.of_source.iter_mut().zip(PARTS) {
            shelf.keep_within(Room::of(bytes_max / 16 * parts));
        }
    }

    /// The same, as one of those that share their memory.
    #[must_use]
    pub fn among(mut self, together: &Arc<Together>) -> Self {
        self.share = Share::of(together);
        self.settle();
        self
    }

    /// Keeps at most `bytes_max` bytes from now on, and less where all together would keep more than `all_max`: then whatever was
    /// shown is forgotten first, and never the task nor what a person endorsed.
    pub fn keep_among(&mut self, bytes_max: usize, all_max: usize) {
        let of_shown = self.share.max(all_max).min(bytes_max);
        for ((shelf, parts), source) in self.of_source.iter_mut().zip(PARTS).zip(Provenance::SEEN) {
            let is_given = matches!(source, Provenance::Task | Provenance::Endorsed);
            shelf.keep_within(Room::of(if is_given { bytes_max } else { of_shown } / 16 * parts));
        }
    }

    /// Counts what it keeps now among what all together keep.
    pub fn settle(&mut self) {
        self.share.holds(self.bytes());
    }

    /// Takes in a text, or a field of a result.
    pub fn take(&mut self, source: Provenance, text: &str, origin: &Origin) {
        self.take_by_itself(source, text, origin.record, &origin.place);
    }

    fn take_by_itself(&mut self, source: Provenance, text: &str, record: Option<Position>, place: &str) {
        let (mut lately, mut room) = (Lately::default(), words::Room::default());
        self.take_at(Said { source, marks: Marks::NONE, record }, text, || place, &mut lately, &mut room);
    }

    /// Takes in a text that stands at a `place` of a result, unless it is one word that was said `lately`. What is too long is kept
    /// as far as there is room, and the rest is not even read.
    pub(super) fn take_at<'p>(
        &mut self,
        said: Said,
        text: &str,
        place: impl FnOnce() -> &'p str,
        lately: &mut Lately,
        room: &mut words::Room,
    ) {
        let Some(shelf) = self.shelf_mut(said.source) else { return };
        let (point, mut words) = (*POINT, Words::of(text, room));
        let (mut held, mut all, mut place) = (None, ControlFlow::Continue(()), Some(place));
        while all.is_continue() {
            let next = words.next().map(|word| fingerprint(word, point));
            // One is held back, to see whether it is all that the text says.
            if let Some(word) = held {
                if let Some(place) = place.take()
                    && ((next.is_none() && lately.is_again(&said, word)) || !shelf.begin(said.record, place(), said.marks))
                {
                    return;
                }
                all = shelf.push(word);
            } else if next.is_none() {
                return;
            }
            if next.is_none() {
                break;
            }
            held = next;
        }
        shelf.end(all.is_break());
    }

    /// Takes in one word, in its comparable form, as a value by itself.
    pub(super) fn take_word(&mut self, source: Provenance, word: &str, origin: &Origin) {
        let Some(shelf) = self.shelf_mut(source) else { return };
        if !shelf.begin(origin.record, &origin.place, Marks::NONE) {
            return;
        }
        let all = shelf.push(fingerprint(Word::Form(word), *POINT));
        shelf.end(all.is_break());
    }

    /// Where the value stands in what `source` said: the first place, if anywhere.
    pub(super) fn find(&self, source: Provenance, value: &Value) -> Option<Origin> {
        self.find_if(source, value, |_| true)
    }

    /// The same of those texts whose labels suit.
    fn find_if(&self, source: Provenance, value: &Value, suits: impl FnMut(Marks) -> bool) -> Option<Origin> {
        // What is written so that it may be taken for something else is nobody's choice.
        if (!value.is_plain && source != Provenance::Untrusted) || value.words.contains(&CUT) {
            return None;
        }
        // What a service mints is a value by itself: a word in a name that somebody made up was minted by nobody. So is a party,
        // and what a person endorsed.
        let whole = matches!(source, Provenance::Minted | Provenance::Known | Provenance::Endorsed)
            || (value.is_common && source != Provenance::Task);
        self.shelf(source)?.find(value, whole, suits)
    }

    /// Where one who may choose said the value in a text that carries none of these labels, if anywhere: who may see that text may
    /// see the value too. What a stranger wrote does not count: he may have written a book of signs to choose from.
    pub(super) fn find_without(&self, barred: Marks, value: &Value) -> Option<Origin> {
        Provenance::MAY_CHOOSE.into_iter().find_map(|source| self.find_if(source, value, |marks| !marks.has_any_of(barred)))
    }

    /// Where the value stands in a text that carries any of these labels, and which of them it carries.
    pub(super) fn find_with(&self, barred: Marks, value: &Value) -> Option<(BTreeSet<Arc<str>>, Origin)> {
        let mut carried = Marks::NONE;
        let origin = Provenance::SEEN.into_iter().find_map(|source| {
            self.shelf(source)?.find(value, value.is_common, |marks| {
                carried = marks;
                marks.has_any_of(barred)
            })
        })?;
        let labels = self.labels.iter().enumerate().filter(|(place, _)| carried.has_any_of(Marks::of_place(*place)));
        Some((labels.map(|(_, label)| Arc::clone(label)).collect(), origin))
    }

    /// The marks of these labels, each of which has a mark from now on.
    pub(super) fn marks<'l>(&mut self, labels: impl Iterator<Item = &'l Arc<str>>) -> Marks {
        labels.fold(Marks::NONE, |marks, label| {
            let place = self.labels.iter().position(|known| known == label).unwrap_or_else(|| {
                if self.labels.len() < 31 {
                    self.labels.push(Arc::clone(label));
                    self.labels.len().saturating_sub(1)
                } else {
                    31
                }
            });
            marks.and(Marks::of_place(place))
        })
    }

    /// The marks of every label but these; among them those for which there was no mark left.
    pub(super) fn marks_beside(&self, audience: &BTreeSet<Arc<str>>) -> Marks {
        let beside = self.labels.iter().enumerate().filter(|(_, label)| !audience.contains(*label));
        beside.fold(Marks::of_place(31), |marks, (place, _)| marks.and(Marks::of_place(place)))
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
        self.of_source.iter().map(Shelf::bytes).sum()
    }

    fn shelf(&self, source: Provenance) -> Option<&Shelf> {
        self.of_source.get(Provenance::SEEN.iter().position(|seen| *seen == source)?)
    }

    fn shelf_mut(&mut self, source: Provenance) -> Option<&mut Shelf> {
        self.of_source.get_mut(Provenance::SEEN.iter().position(|seen| *seen == source)?)
    }
}

impl Room {
    /// How the bytes of a shelf are shared out: half for words, as much again for where they came from.
    const fn of(bytes: usize) -> Self {
        Self { words: bytes / 2 / size_of::<u64>(), texts: bytes / 3 / size_of::<Text>(), places: bytes / 6 }
    }
}

impl Shelf {
    /// Begins a text, unless there is no room for any.
    #[inline]
    fn begin(&mut self, record: Option<Position>, place: &str, marks: Marks) -> bool {
        let place = if place.len() > PLACE_MAX { place.get(..place.floor_char_boundary(PLACE_MAX)).unwrap_or_default() } else { place };
        if place.len().saturating_mul(2) > self.room.places || self.room.texts < 2 || self.room.words < 4 {
            return false;
        }
        while self.texts.len() >= self.room.texts || self.places.len().saturating_add(place.len()) > self.room.places {
            self.forget(0);
        }
        let (Ok(words), Ok(at)) = (u32::try_from(self.words.len()), u32::try_from(self.places.len())) else { return false };
        grow(&mut self.texts, self.room.texts);
        self.texts.push(Text { words, place: at, marks, record });
        if self.places.capacity().saturating_sub(self.places.len()) < place.len() {
            let more = self.places.len().max(place.len()).max(64).min(self.room.places.saturating_sub(self.places.len()));
            self.places.reserve_exact(more);
        }
        self.places.push_str(place);
        true
    }

    /// Adds a word to the text that was begun; breaks where it has all the room that it may have.
    #[inline]
    fn push(&mut self, word: u64) -> ControlFlow<()> {
        let begin = self.texts.last().map_or(0, |text| index(text.words));
        if self.words.len().saturating_sub(begin) >= self.room.words / 4 * 3 {
            return ControlFlow::Break(());
        }
        self.add(word);
        ControlFlow::Continue(())
    }

    /// Ends the text that was begun.
    #[inline]
    fn end(&mut self, is_cut: bool) {
        let Some(text) = self.texts.last().copied() else { return };
        if index(text.words) == self.words.len() {
            self.take_back(); // it had no words
        } else {
            self.add(if is_cut { CUT } else { BETWEEN });
        }
    }

    /// Forgets the newest text.
    fn take_back(&mut self) {
        let Some(text) = self.texts.pop() else { return };
        self.words.truncate(index(text.words));
        self.places.truncate(index(text.place));
    }

    #[inline]
    fn add(&mut self, word: u64) {
        if self.words.len() >= self.room.words {
            self.forget(1);
        }
        grow(&mut self.words, self.room.words);
        self.words.push(word);
    }

    /// Forgets the oldest texts, a quarter of all at once, so that it is seldom done; but never the newest `spared` ones.
    fn forget(&mut self, spared: usize) {
        let least = self.words.len() / 4;
        let old = self.texts.iter().take_while(|text| index(text.words) < least).count();
        let old = old.max(self.texts.len() / 4).max(1).min(self.texts.len().saturating_sub(spared));
        let Some(first) = self.texts.get(old).copied() else {
            self.words.clear();
            self.places.clear();
            return self.texts.clear();
        };
        self.words.drain(..index(first.words));
        self.places.drain(..index(first.place));
        self.texts.drain(..old);
        for text in &mut self.texts {
            text.words = text.words.saturating_sub(first.words);
            text.place = text.place.saturating_sub(first.place);
        }
    }

    fn keep_within(&mut self, room: Room) {
        let is_less = room.words < self.room.words || room.texts < self.room.texts || room.places < self.room.places;
        self.room = room;
        if is_less {
            while self.texts.len() > room.texts || self.words.len() > room.words || self.places.len() > room.places {
                self.forget(0);
            }
            self.words.shrink_to(room.words);
            self.texts.shrink_to(room.texts);
            self.places.shrink_to(room.places);
        }
    }

    const fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>() + self.texts.capacity() * size_of::<Text>() + self.places.capacity()
    }

    fn find(&self, value: &Value, whole: bool, mut suits: impl FnMut(Marks) -> bool) -> Option<Origin> {
        let (first, rest) = value.words.split_first()?;
        for at in places_of(*first, &self.words) {
            let end = at.saturating_add(value.words.len());
            if self.words.get(at.saturating_add(1)..end) != Some(rest) {
                continue;
            }
            let begins = at.checked_sub(1).and_then(|before| self.words.get(before)).is_none_or(|before| *before <= CUT);
            if whole && !(begins && self.words.get(end) == Some(&BETWEEN)) {
                continue;
            }
            let text = self.texts.partition_point(|text| index(text.words) <= at).checked_sub(1)?;
            if suits(self.texts.get(text)?.marks) {
                return self.origin(text);
            }
        }
        None
    }

    fn origin(&self, text: usize) -> Option<Origin> {
        let Text { place, record, .. } = *self.texts.get(text)?;
        let end = self.texts.get(text.saturating_add(1)).map_or(self.places.len(), |next| index(next.place));
        Some(Origin { record, place: Arc::from(self.places.get(index(place)..end)?) })
    }
}

/// Texts of one word that a result said of late, and of which source they were: names of fields, states, the same few parties.
/// To keep them again would say nothing new, since the first place of a value is the one that counts.
#[derive(Debug)]
pub(super) struct Lately([(u64, Provenance, Marks); 64]);

impl Default for Lately {
    fn default() -> Self {
        Self([(BETWEEN, Provenance::Unknown, Marks::NONE); 64])
    }
}

impl Lately {
    /// Whether it was said before, as far as that is remembered; it is from now on.
    fn is_again(&mut self, Said { source, marks, .. }: &Said, word: u64) -> bool {
        let Some(place) = usize::try_from(word % 64).ok().and_then(|at| self.0.get_mut(at)) else { return false };
        let said = (word, *source, *marks);
        std::mem::replace(place, said) == said
    }
}

/// Where `word` stands among `words`: looked for by blocks, since it stands in few.
fn places_of(word: u64, words: &[u64]) -> impl Iterator<Item = usize> {
    const BLOCK: usize = 64;
    let has = move |block: &&[u64]| block.iter().fold(false, |has, other| has | (*other == word));
    let blocks = words.chunks(BLOCK).enumerate().filter(move |(_, block)| has(block));
    blocks.flat_map(move |(number, block)| {
        let places = block.iter().enumerate().filter(move |(_, other)| **other == word);
        places.map(move |(at, _)| number.saturating_mul(BLOCK).saturating_add(at))
    })
}

/// Makes room for one more, doubling as a vector does, but never beyond `max`.
fn grow<T>(vec: &mut Vec<T>, max: usize) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(vec.len().max(16).min(max.saturating_sub(vec.len())));
    }
}

const fn index(at: u32) -> usize {
    at as usize
}
