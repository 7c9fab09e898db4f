//! Text as words that can be compared: what two texts have in common is found whatever case, spacing or separators they use,
//! and nothing is found inside something else.
//!
//! A word is what stands between spaces, without the punctuation around it. Addresses, numbers, dates, account and telephone
//! numbers have one form however they are written, each of a kind of its own: `15` is neither in `2024-05-15` nor in `1500`.

mod typed;

use unicode_normalization::UnicodeNormalization;

pub(super) use self::typed::{Kind, kind_of, kind_of_party};
use crate::model::hides;

/// The longest word that is compared, in bytes; a longer one is like no other.
const WORD_MAX: usize = 2048;

/// What a word that is too long is told as, and one that may be an address. No word holds this character.
const TOO_LONG: &str = "\0";
const TOO_LONG_LINK: &str = "link:\0";

/// Whether a word is one that is too long, and so like no other.
pub(super) fn is_too_long(form: &str) -> bool {
    form == TOO_LONG || form == TOO_LONG_LINK
}

/// Calls `each` with the comparable form of every word of `text`, in order.
pub(super) fn each_word(text: &str, mut each: impl FnMut(&str)) {
    let (mut room, mut lower) = (Room::default(), String::new());
    let mut words = Words::of(text, &mut room);
    while let Some(word) = words.next() {
        each(word.form(&mut lower));
    }
}

/// A word of a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word<'w> {
    /// Its comparable form.
    Form(&'w str),
    /// ASCII whose comparable form is that in lower case.
    Written(&'w str),
    /// At most seven letters: the bytes of their comparable form as one number, the first in front, and how many.
    Short(u64, usize),
}

impl<'w> Word<'w> {
    /// A word of ASCII that has no other form than its letters; a genitive is that of its word.
    fn written(text: &'w str) -> Self {
        Self::Written(text.strip_suffix("'s").or_else(|| text.strip_suffix("'S")).unwrap_or(text))
    }

    /// The comparable form, for which there may be need of `lower`.
    fn form<'f>(self, lower: &'f mut String) -> &'f str
    where
        'w: 'f,
    {
        match self {
            Self::Form(form) => form,
            Self::Written(text) => {
                fold(text, lower);
                lower
            }
            Self::Short(number, length) => {
                lower.clear();
                lower.extend(number.to_be_bytes().iter().skip(size_of::<u64>().saturating_sub(length)).copied().map(char::from));
                lower
            }
        }
    }

    /// Whether it is one that is too long, and so like no other.
    pub(super) fn is_too_long(self) -> bool {
        matches!(self, Self::Form(form) if is_too_long(form))
    }

    /// Folds `step` over the bytes of its comparable form by sevens, each as one number with the first byte in front, from how
    /// many bytes there are.
    #[inline]
    pub(super) fn fold_sevens(self, step: impl Fn(u64, u64) -> u64) -> u64 {
        let of = |text: &'w str| (text.as_bytes(), u64::try_from(text.len()).unwrap_or(u64::MAX));
        match self {
            Self::Short(number, length) => step(u64::try_from(length).unwrap_or(u64::MAX), number),
            Self::Written(text) => {
                let (bytes, length) = of(text);
                bytes.chunks(7).fold(length, |sum, seven| step(sum, lower_case(number_of(seven))))
            }
            Self::Form(form) => {
                let (bytes, length) = of(form);
                bytes.chunks(7).fold(length, |sum, seven| step(sum, number_of(seven)))
            }
        }
    }
}

/// At most seven bytes as one number with the first in front.
fn number_of(bytes: &[u8]) -> u64 {
    // Two reads that may overlap: what they share is the same in both.
    let shift = |bytes: usize| 8 * u32::try_from(bytes).unwrap_or(0);
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (u64::from(u32::from_be_bytes(*first)) << shift(bytes.len().saturating_sub(4))) | u64::from(u32::from_be_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        (u64::from(u16::from_be_bytes(*first)) << shift(bytes.len().saturating_sub(2))) | u64::from(u16::from_be_bytes(*last))
    } else {
        bytes.first().copied().map_or(0, u64::from)
    }
}

/// The same byte eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// ASCII characters, as many as there are in a number, in lower case.
const fn lower_case(characters: u64) -> u64 {
    characters | (are_between(characters, b'A', b'Z') >> 2)
}

/// Which of the characters of ASCII are from `first` to `last`: the highest bit of each that is.
const fn are_between(characters: u64, first: u8, last: u8) -> u64 {
    // Below 0x80 nothing carries into the next character.
    let from_first = characters.wrapping_add(each(0x80 - first));
    let above_last = characters.wrapping_add(each(0x7f - last));
    from_first & !above_last & each(0x80)
}

/// Room for the forms of words, to be used again for the next text.
#[derive(Debug, Default)]
pub(super) struct Room {
    folded: String,
    form: String,
}

/// The words of a text, in order.
pub(super) struct Words<'t, 'r> {
    parts: Parts<'t>,
    room: &'r mut Room,
}

impl<'t, 'r> Words<'t, 'r> {
    /// The words of `text`.
    pub(super) const fn of(text: &'t str, room: &'r mut Room) -> Self {
        Self { parts: Parts { rest: text, second: None }, room }
    }

    /// The next word, if there is one.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Word<'_>> {
        // Inline, so that the usual word never leaves the registers.
        match self.parts.next_short() {
            Some((number, length)) => Some(Word::Short(number, length)),
            None => self.next_long(),
        }
    }

    #[inline(never)]
    fn next_long(&mut self) -> Option<Word<'_>> {
        if let Some(plain) = self.parts.next_plain() {
            return Some(match plain {
                Plain::Letters(word) => Word::written(word),
                Plain::Typed(kind, value) => {
                    self.room.form.clear();
                    self.room.form.push_str(kind);
                    self.room.form.push_str(value);
                    Word::Form(&self.room.form)
                }
            });
        }
        let part = self.parts.next()?;
        Some(Word::Form(if part.len() > WORD_MAX {
            if part.contains(['.', ':', '@']) { TOO_LONG_LINK } else { TOO_LONG }
        } else if let Some((form, after)) = typed::grouped(part, &self.parts) {
            self.parts = after;
            self.room.form = form;
            &self.room.form
        } else {
            fold(part, &mut self.room.folded);
            let Room { folded, form } = self.room;
            if typed::single(part, folded, form) { form } else { folded.strip_suffix("'s").unwrap_or(folded) }
        }))
    }
}

/// Calls `each` with the comparable form of every address, account and telephone number that a sentence runs on from without a
/// space, as in `see www.acme.example.They say`: the last label alone begins with a capital, and the sentence goes on. Good for
/// what one person wrote alone: others may write an address in capitals on purpose.
pub(super) fn each_before_a_run_on_sentence(text: &str, mut each: impl FnMut(&str)) {
    let (mut folded, mut form, mut rest) = (String::new(), String::new(), Parts { rest: text, second: None });
    while let Some(part) = rest.next() {
        let Some((value, sentence)) = part.rsplit_once(['.', '!', '?']).filter(|_| part.len() <= WORD_MAX) else { continue };
        let begins = sentence.starts_with(char::is_uppercase) && sentence.chars().skip(1).all(char::is_lowercase);
        let ends = value.ends_with(|c: char| c.is_lowercase() || c.is_ascii_digit())
            && value.split('.').skip(1).all(|label| !label.starts_with(char::is_uppercase));
        let goes_on = rest.clone().next().is_some_and(|next| next.starts_with(char::is_lowercase));
        if !(begins && ends && goes_on) {
            continue;
        }
        fold(value, &mut folded);
        if typed::single(value, &folded, &mut form) && leads_somewhere(kind_of(&form)) {
            each(&form);
        }
    }
}

/// Whether a word of this kind says where something goes, whatever it is said for.
pub(super) const fn leads_somewhere(kind: Kind) -> bool {
    matches!(kind, Kind::Link | Kind::Email | Kind::Account | Kind::Phone)
}

/// The comparable forms of the words of `text`.
#[cfg(test)]
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    each_word(text, |word| words.push(word.to_owned()));
    words
}

/// Whether `text` is written as it is compared, but for case: nothing hidden in it, no character that stands for others, no pattern
/// and no path that climbs.
/// What is not may look like one thing to a person and be another to a tool, so it is like nothing.
pub(super) fn is_plain(text: &str) -> bool {
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.chars().any(is_odd) || text.contains('*') || text.contains("/..") || text.contains("\\..") {
        return false;
    }
    text.is_ascii() || (!text.chars().any(|c| hides(c) && !c.is_whitespace()) && unicode_normalization::is_nfkc(text))
}

/// Letters in the form and case in which they are compared (NFKC, lower case), and one kind of apostrophe.
fn fold(part: &str, folded: &mut String) {
    folded.clear();
    if part.is_ascii() {
        folded.push_str(part);
        folded.make_ascii_lowercase();
    } else {
        // A host is read without what is hidden in it, and with one kind of full stop (UTS #46 §4).
        let shown = part.chars().filter(|c| !hides(*c)).nfkc().flat_map(char::to_lowercase);
        folded.extend(shown.map(|c| match c {
            '’' => '\'',
            '。' => '.',
            c => c,
        }));
    }
}

/// The parts of a text between spaces and separators, without the punctuation around each.
#[derive(Clone)]
struct Parts<'t> {
    rest: &'t str,
    /// The value of `name:value`, of which the name was told.
    second: Option<&'t str>,
}

/// A part whose form one look at its bytes tells.
#[derive(Clone, Copy, Debug)]
enum Plain<'t> {
    /// It has no other form than its letters.
    Letters(&'t str),
    /// It is of a kind, of which this is how its form begins and goes on.
    Typed(&'static str, &'t str),
}

impl<'t> Parts<'t> {
    /// The next part, where it is at most seven letters of ASCII between two separators, and nothing else: every other one is.
    /// Otherwise nothing is taken.
    #[inline(always)]
    fn next_short(&mut self) -> Option<(u64, usize)> {
        let text = self.rest.as_bytes();
        let begin = usize::from(class(*text.first()?) == SEPARATOR);
        let word = text.get(begin..).filter(|_| self.second.is_none())?;
        let eight = match word.first_chunk() {
            Some(eight) => u64::from_be_bytes(*eight),
            None => number_of(word) << (8 * (8 - word.len()).min(7)),
        };
        let letters = are_between((eight | each(0x20)) & each(0x7f), b'a', b'z') & !eight;
        let length = usize::try_from((!letters & each(0x80)).leading_zeros() / 8).ok()?;
        // What follows the last one is a zero.
        if !(1..=7).contains(&length) || class(word.get(length).copied().unwrap_or_default()) != SEPARATOR {
            return None;
        }
        let number = (eight | each(0x20)) >> (8 * (8 - length));
        let after = word.get(length..)?;
        // An account number may begin with two letters, and a day with its month.
        let may_go_on = if length == 2 { goes_on_with_digit(after) } else { typed::begins_with_month(word) };
        if may_go_on {
            return None;
        }
        self.rest = self.rest.get(begin.saturating_add(length)..)?;
        Some((number, length))
    }

    /// The next part, where it is of ASCII and a word, an id, a time, a number or a day that stands by itself: most are. Otherwise
    /// nothing is taken. What it tells is what the long way would.
    fn next_plain(&mut self) -> Option<Plain<'t>> {
        if self.second.is_some() {
            return None;
        }
        let (text, bytes) = (self.rest, self.rest.as_bytes());
        let mut at = 0_usize;
        loop {
            let from = bytes.get(at..)?;
            at = at.saturating_add(from.iter().position(|byte| class(*byte) != SEPARATOR)?);
            let (length, classes) = first_part(bytes.get(at..)?);
            let end = at.saturating_add(length);
            let bare = Bare::of(bytes.get(at..end)?, classes)?;
            if bare.begin == bare.end {
                at = end;
                continue;
            }
            let word = text.get(at.saturating_add(bare.begin)..at.saturating_add(bare.end))?;
            let after = text.get(end..)?;
            let plain = plain(word, &bare, after.as_bytes()).filter(|_| word.len() <= WORD_MAX)?;
            self.rest = after;
            return Some(plain);
        }
    }
}

/// How long the part is that a text begins with, and the classes of its bytes.
fn first_part(text: &[u8]) -> (usize, u8) {
    let mut classes = 0;
    for (at, byte) in text.iter().enumerate() {
        let class = class(*byte);
        if class == SEPARATOR {
            return (at, classes);
        }
        classes |= class;
    }
    (text.len(), classes)
}

/// A part of ASCII without the punctuation around it.
struct Bare {
    begin: usize,
    end: usize,
    /// The classes of its bytes.
    classes: u8,
    /// The byte before it.
    before: Option<u8>,
}

impl Bare {
    /// What is bare of a part, unless that is two words, or may be, or not of ASCII.
    fn of(part: &[u8], classes: u8) -> Option<Self> {
        let (mut begin, mut end) = (0, part.len());
        if classes & !(LETTER | DIGIT) == 0 {
            return Some(Self { begin, end, classes, before: None });
        }
        if classes & (OTHER | COLON) != 0 {
            let name = part.iter().take_while(|byte| class(**byte) == LETTER).count();
            let is_colon = |at: usize| part.get(at).is_some_and(|byte| class(*byte) == COLON);
            let is_named = name > 0 && is_colon(name) && name.saturating_add(1) < part.len();
            // A scheme ends with a slash.
            if classes & OTHER != 0 || is_named || part.ends_with(b"/") {
                return None;
            }
        }
        let is_around = |byte: &u8| class(*byte) & AROUND != 0;
        begin = part.iter().position(|byte| !is_around(byte)).unwrap_or(part.len());
        end = part.iter().rposition(|byte| !is_around(byte)).map_or(begin, |last| last.saturating_add(1));
        let bare = part.get(begin..end)?;
        let classes = if bare.len() < part.len() { bare.iter().fold(0, |classes, byte| classes | class(*byte)) } else { classes };
        Some(Self { begin, end, classes, before: begin.checked_sub(1).and_then(|before| part.get(before).copied()) })
    }
}

/// What a bare part is, where its classes tell.
fn plain<'t>(bare: &'t str, Bare { classes, before, .. }: &Bare, after: &[u8]) -> Option<Plain<'t>> {
    let (classes, before) = (*classes, *before);
    let letters = Some(Plain::Letters(bare));
    // A path begins with its slash.
    if before == Some(b'/') || classes & MIXED != 0 {
        return None;
    }
    if classes & DIGIT == 0 {
        // Others are addresses, or may be.
        let is_word = classes & (DOT | COLON) == 0;
        // An account number may begin with two letters, and a day with its month.
        let may_go_on = bare.len() == 2 || typed::is_month(bare);
        return letters.filter(|_| is_word && !(may_go_on && goes_on_with_digit(after)));
    }
    let begins_with = bare.as_bytes();
    let is_digit = |at: usize| begins_with.get(at).is_some_and(u8::is_ascii_digit);
    if is_digit(0) && (before == Some(b'-') || bare.starts_with("00") || goes_on_with_month(after)) {
        return None;
    }
    if classes & LETTER != 0 || classes & COLON != 0 {
        // What begins with two letters may be an account number, and with a name may be an address.
        let may_be_account = !is_digit(0) && !is_digit(1) && (bare.len() == 4 || bare.len() >= ACCOUNT_MIN);
        let may_be_named =
            classes & COLON != 0 && bare.bytes().take_while(|byte| !matches!(byte, b':' | b'=')).all(|byte| class(byte) == LETTER);
        return letters.filter(|_| classes & DOT == 0 && !may_be_account && !may_be_named);
    }
    match classes {
        DIGIT if bare.len() == 1 || !bare.starts_with('0') => Some(Plain::Typed("number:", bare)),
        DIGIT => letters,
        DIGITS_AND_DOT => typed::decimal(bare).map(|number| Plain::Typed("number:", number)),
        DIGITS_AND_INNER => typed::is_day(bare).then_some(Plain::Typed("date:", bare)),
        _ => None,
    }
}

/// The shortest account number.
const ACCOUNT_MIN: usize = 15;

/// Whether what comes next begins with a digit, as far as ASCII tells, or with what is not ASCII.
fn goes_on_with_digit(after: &[u8]) -> bool {
    next_of(after).first().is_some_and(|byte| class(*byte) & (DIGIT | OTHER) != 0)
}

/// Whether what comes next begins as a month does, as far as ASCII tells, or with what is not ASCII.
fn goes_on_with_month(after: &[u8]) -> bool {
    let next = next_of(after);
    next.first().is_some_and(|byte| class(*byte) & OTHER != 0) || typed::begins_with_month(next)
}

/// What comes after spaces and punctuation.
fn next_of(after: &[u8]) -> &[u8] {
    let begin = after.iter().position(|byte| class(*byte) & (SEPARATOR | AROUND) == 0);
    begin.and_then(|begin| after.get(begin..)).unwrap_or_default()
}

// What a byte of a text is to the words in it, as far as one byte tells: a set of these.

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
/// Is no part of a word at its ends, and as a letter within it.
const INNER: u8 = 4;
/// Is no part of a word at its ends, and a sign of an address, a number or a time within it.
const DOT: u8 = 8;
const COLON: u8 = 16;
/// Is no part of a word at its ends, and one of another kind within it.
const MIXED: u8 = 32;
/// Stands between words.
const SEPARATOR: u8 = 64;
/// A sign, a part of a character that is not ASCII.
const OTHER: u8 = 128;

/// All that is no part of a word at its ends.
const AROUND: u8 = INNER | DOT | COLON | MIXED;
const DIGITS_AND_DOT: u8 = DIGIT | DOT;
const DIGITS_AND_INNER: u8 = DIGIT | INNER;

/// The class of each byte; of ASCII, what [`separates`] and [`surrounds`] say.
#[expect(clippy::indexing_slicing, reason = "there is one for each byte")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = class_of(byte);
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

const fn class_of(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' => LETTER,
        b'0'..=b'9' => DIGIT,
        0..=b' ' | 0x7f | b'"' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'|' | b';' | b'`' | b'\\' => SEPARATOR,
        b'\'' | b'-' | b'_' => INNER,
        b'.' => DOT,
        b':' | b'=' => COLON,
        b',' | b'!' | b'?' | b'*' | b'#' | b'~' | b'/' | b'@' => MIXED,
        _ => OTHER,
    }
}

#[expect(clippy::indexing_slicing, reason = "there is one for each byte")]
const fn class(byte: u8) -> u8 {
    CLASSES[byte as usize]
}

/// Where a text that does not begin with a separator has its first one, or its end.
fn end_of_part(text: &str) -> usize {
    let other = |byte: u8| !byte.is_ascii() || class(byte) == SEPARATOR;
    match text.bytes().position(other) {
        Some(at) if text.as_bytes().get(at).is_some_and(u8::is_ascii) => at,
        Some(_) => text.find(separates).unwrap_or(text.len()),
        None => text.len(),
    }
}

impl<'t> Iterator for Parts<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            let part = match self.second.take() {
                Some(second) => second,
                None => {
                    self.rest = self.rest.trim_start_matches(separates);
                    if self.rest.is_empty() {
                        return None;
                    }
                    let (part, rest) = self.rest.split_at(end_of_part(self.rest));
                    self.rest = rest;
                    part
                }
            };
            // `account:DE89…` is two words; `10:30` and `https://…` are one.
            let named = part.split_once([':', '=']).filter(|(name, value)| {
                !name.is_empty() && name.chars().all(char::is_alphabetic) && !value.is_empty() && !value.starts_with("//")
            });
            let part = match named {
                Some((name, value)) if name != "mailto" && !typed::is_script(name, value) => {
                    self.second = Some(value);
                    name
                }
                _ => part,
            };
            if part.strip_suffix("://").is_some_and(|scheme| scheme.ends_with(|c: char| c.is_ascii_alphanumeric())) {
                return Some(part); // an address goes on behind a bracket
            }
            let until_its_end = part.trim_end_matches(surrounds);
            let bare = until_its_end.trim_start_matches(surrounds);
            if bare.is_empty() {
                continue;
            }
            // A minus belongs to its number.
            let begins = until_its_end.len().saturating_sub(bare.len());
            let signed = part
                .get(begins.saturating_sub(1)..)
                .filter(|signed| signed.starts_with('-') && bare.starts_with(|c: char| c.is_ascii_digit()));
            // So does what a path begins with: `/`, `../`, `~/`.
            let before =
                part.get(..begins).filter(|before| before.ends_with('/')).map(|before| before.trim_end_matches(['/', '.', '~']).len());
            let path = before.and_then(|from| part.get(from..));
            return Some(signed.or(path).map_or(bare, |longer| longer.trim_end_matches(surrounds)));
        }
    }
}

fn separates(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | ';' | '`' | '\\')
}

fn surrounds(c: char) -> bool {
    matches!(
        c,
        '.' | ',' | '!' | '?' | ':' | '\'' | '’' | '‘' | '“' | '”' | '*' | '_' | '#' | '~' | '-' | '–' | '—' | '…' | '/' | '@' | '='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a text, without the short way for those that are all letters.
    fn words_the_long_way(text: &str) -> Vec<String> {
        let (mut words, mut folded, mut rest) = (Vec::new(), String::new(), Parts { rest: text, second: None });
        while let Some(part) = rest.next() {
            if let Some((form, after)) = typed::grouped(part, &rest) {
                rest = after;
                words.push(form);
            } else {
                fold(part, &mut folded);
                let mut form = String::new();
                let is_typed = typed::single(part, &folded, &mut form);
                words.push(if is_typed { form } else { folded.strip_suffix("'s").unwrap_or(&folded).to_owned() });
            }
        }
        words
    }

    #[test]
    fn a_byte_is_of_the_class_that_its_character_is_of() {
        for byte in 0..=127_u8 {
            let c = char::from(byte);
            assert_eq!(class(byte) == SEPARATOR, separates(c), "{c:?}");
            assert_eq!(class(byte) & AROUND != 0, surrounds(c), "{c:?}");
            assert_eq!(class(byte) == LETTER, c.is_ascii_alphabetic(), "{c:?}");
            assert_eq!(class(byte) == DIGIT, c.is_ascii_digit(), "{c:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_finds_what_the_long_way_finds(
            text in "([a-zA-Z]{1,6}|May|june|[0-9]{1,4}|[-'_.,:=/@ #+é’“\u{200b}\n\"]|'s|://|mailto:){0,30}",
            shaped in "(May|june |sept|th|of|x|[0-9]{1,4}|2024|0|00|-05-1|12:30|data:|javascript=|,|IBAN|GB29| NWBK|6016 1331 9268 19|GB|29NW| BK60|16133192681|9|[-'_.,:=/ +$é]){0,12}",
        ) {
            proptest::prop_assert_eq!(words(&text), words_the_long_way(&text));
            proptest::prop_assert_eq!(words(&shaped), words_the_long_way(&shaped));
        }

        /// A word that was never written out has the fingerprint of its form.
        #[test]
        fn the_bytes_of_a_word_are_those_of_its_form(text in "([a-zA-Z]{1,20}|[0-9]{1,4}|[-'_.:=/@ é]){0,20}") {
            let numbers = |word: Word<'_>| {
                let numbers = std::cell::RefCell::new(Vec::new());
                word.fold_sevens(|sum, number| {
                    numbers.borrow_mut().push((sum, number));
                    0
                });
                numbers.into_inner()
            };
            let (mut room, mut lower) = (Room::default(), String::new());
            let mut all = Words::of(&text, &mut room);
            while let Some(word) = all.next() {
                let told = numbers(word);
                let form = word.form(&mut lower);
                let sevens = form.as_bytes().chunks(7).map(|seven| seven.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)));
                let lengths = std::iter::once(form.len() as u64).chain(std::iter::repeat(0));
                proptest::prop_assert_eq!(told, lengths.zip(sevens).collect::<Vec<_>>(), "{}", form);
            }
        }
    }
}
