//! Text as words that can be compared: what two texts have in common is found whatever case, spacing or separators they use,
//! and nothing is found inside something else.
//!
//! A word is what stands between spaces, without the punctuation around it. Addresses, numbers, dates, account and telephone
//! numbers have one form however they are written, each of a kind of its own: `15` is neither in `2024-05-15` nor in `1500`.

mod typed;

use std::ops::ControlFlow;

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
    let _ = try_each_word(text, |word| {
        each(word);
        ControlFlow::Continue(())
    });
}

/// Calls `each` with the comparable form of every word of `text`, in order, until it has had enough.
pub(super) fn try_each_word(text: &str, mut each: impl FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
    let mut folded = String::with_capacity(64);
    let mut rest = Parts { rest: text, second: None };
    loop {
        if let Some(word) = rest.next_of_letters() {
            fold(word, &mut folded);
            each(folded.strip_suffix("'s").unwrap_or(&folded))?;
            continue;
        }
        let Some(part) = rest.next() else { return ControlFlow::Continue(()) };
        if part.len() > WORD_MAX {
            each(if part.contains(['.', ':', '@']) { TOO_LONG_LINK } else { TOO_LONG })?;
        } else if let Some((form, after)) = typed::grouped(part, &rest) {
            rest = after;
            each(&form)?;
        } else {
            fold(part, &mut folded);
            match typed::single(part, &folded) {
                Some(form) => each(&form)?,
                None => each(folded.strip_suffix("'s").unwrap_or(&folded))?,
            }
        }
    }
}

/// Calls `each` with the comparable form of every address, account and telephone number that a sentence runs on from without a
/// space, as in `see www.acme.example.They say`: the last label alone begins with a capital, and the sentence goes on. Good for
/// what one person wrote alone: others may write an address in capitals on purpose.
pub(super) fn each_before_a_run_on_sentence(text: &str, mut each: impl FnMut(&str)) {
    let (mut folded, mut rest) = (String::new(), Parts { rest: text, second: None });
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
        if let Some(form) = typed::single(value, &folded).filter(|form| leads_somewhere(kind_of(form))) {
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

impl<'t> Parts<'t> {
    /// The next part, where it is nothing but ASCII letters, and apostrophes and hyphens between them, and begins no date: most
    /// are, and such a part has no other form than its letters. Otherwise nothing is taken.
    fn next_of_letters(&mut self) -> Option<&'t str> {
        if self.second.is_some() {
            return None;
        }
        let mut rest = self.rest.as_bytes().iter().map(|byte| class(*byte)).enumerate();
        let begin = rest.find(|(_, class)| !matches!(class, Class::Separator | Class::Surround | Class::Inner)).filter(is_letter)?.0;
        let mut end = begin.saturating_add(1);
        let after = loop {
            match rest.next() {
                Some((at, Class::Letter)) => end = at.saturating_add(1),
                Some((_, Class::Inner)) => {}
                Some((_, Class::Surround)) => match rest.find(|(_, class)| !matches!(class, Class::Surround | Class::Inner)) {
                    Some((at, Class::Separator)) => break at,
                    None => break self.rest.len(),
                    Some(_) => return None,
                },
                Some((at, Class::Separator)) => break at,
                None => break self.rest.len(),
                Some((_, Class::Other)) => return None,
            }
        };
        let word = self.rest.get(begin..end).filter(|word| word.len() <= WORD_MAX && !typed::begins_as_a_month(word))?;
        let is_at = |at: usize, is: fn(&u8) -> bool| self.rest.as_bytes().get(at).is_some_and(is);
        // A path begins with its slash, a scheme ends with its own, and an account number may begin with two letters.
        if begin.checked_sub(1).is_some_and(|before| is_at(before, |byte| *byte == b'/'))
            || after.checked_sub(1).is_some_and(|before| is_at(before, |byte| *byte == b'/'))
            || (word.len() == 2 && is_at(after.saturating_add(1), u8::is_ascii_digit))
        {
            return None;
        }
        self.rest = self.rest.get(after..)?;
        Some(word)
    }
}

const fn is_letter((_, class): &(usize, Class)) -> bool {
    matches!(class, Class::Letter)
}

/// What a byte of a text is to the words in it, as far as one byte tells.
#[derive(Clone, Copy)]
enum Class {
    Letter,
    /// Stands between words.
    Separator,
    /// Is no part of a word at its ends, and one of another kind within it.
    Surround,
    /// Is no part of a word at its ends, and any letter within it.
    Inner,
    /// A digit, a sign, a part of a character that is not ASCII.
    Other,
}

/// The class of a byte; of ASCII, what [`separates`] and [`surrounds`] say.
const fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
        0..=b' ' | 0x7f | b'"' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'|' | b';' | b'`' | b'\\' => Class::Separator,
        b'\'' | b'-' | b'_' => Class::Inner,
        b'.' | b',' | b'!' | b'?' | b':' | b'*' | b'#' | b'~' | b'/' | b'@' | b'=' => Class::Surround,
        _ => Class::Other,
    }
}

/// Where a text that does not begin with a separator has its first one, or its end.
fn end_of_part(text: &str) -> usize {
    let other = |byte: u8| !byte.is_ascii() || matches!(class(byte), Class::Separator);
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
            let bare = part.trim_end_matches(surrounds).trim_start_matches(surrounds);
            if bare.is_empty() {
                continue;
            }
            // A minus belongs to its number.
            let begins = part.find(bare).unwrap_or(0);
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
                let single = typed::single(part, &folded);
                words.push(single.unwrap_or_else(|| folded.strip_suffix("'s").unwrap_or(&folded).to_owned()));
            }
        }
        words
    }

    #[test]
    fn a_byte_is_of_the_class_that_its_character_is_of() {
        for byte in 0..=127_u8 {
            let c = char::from(byte);
            assert_eq!(matches!(class(byte), Class::Separator), separates(c), "{c:?}");
            assert_eq!(matches!(class(byte), Class::Surround | Class::Inner), surrounds(c), "{c:?}");
            assert_eq!(matches!(class(byte), Class::Letter), c.is_ascii_alphabetic(), "{c:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_finds_what_the_long_way_finds(
            text in "([a-zA-Z]{1,6}|May|june|[0-9]{1,4}|[-'_.,:=/@ #+é’“\u{200b}\n\"]|'s|://|mailto:){0,30}",
        ) {
            proptest::prop_assert_eq!(words(&text), words_the_long_way(&text));
        }
    }
}
