//! What a rule asks of one field.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use regex::Regex;

use super::event::{Event, Found, Path, Value};
use crate::model::Timestamp;

/// A question about the value of one field.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    /// A text, or a number or truth value as it is written.
    Text(Text),
    /// A regular expression finds something.
    Regex(Regex),
    /// An address of a network.
    Network(Network),
    /// A number, or a text that is one.
    Number(Compare, f64),
    /// Another field.
    Field { path: Path, place: Place, cased: bool },
    /// Nothing, or `null`.
    Null,
    /// Something that is not `null`.
    Exists(bool),
    /// A truth value, or a text that says one.
    Bool(bool),
    /// A text with the values of other fields in it.
    Filled { parts: Vec<Filled>, cased: bool },
    /// A part of a time.
    Time(Part, f64),
    /// Any of these.
    Any(Vec<Matcher>),
    /// All of these.
    All(Vec<Matcher>),
    /// Not this.
    Not(Box<Matcher>),
}

/// Where in a value a text is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is all of it.
    Whole,
    /// Anywhere.
    Inside,
    /// At the beginning.
    Start,
    /// At the end.
    End,
}

/// A text that is looked for.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// Where.
    pub(super) place: Place,
    /// Whether capitals differ from small letters. If not, `parts` are of small letters.
    pub(super) cased: bool,
    /// The text, apart where it has wildcards.
    pub(super) parts: Vec<Piece>,
}

/// A piece of a text with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Itself.
    Plain(Box<str>),
    /// Anything but the end of a line (`*`).
    Many,
    /// Any one letter but the end of a line (`?`).
    One,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// A piece of a text that is filled from the event.
#[derive(Clone, Debug)]
pub(super) enum Filled {
    Plain(String),
    Field(Path),
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Matcher {
    /// Whether what was found in the field answers the question. `found` is what the event has there.
    pub(super) fn matches(&self, found: &Found<'_>, event: Event<'_>) -> bool {
        match self {
            Self::Exists(expected) => found.single().map_or(!found.is_empty(), |value| !value.is_null()) == *expected,
            // A field that is not there answers no other question, not even whether it is different from something.
            Self::Null => found.is_empty() || found.single().is_some_and(Value::is_null),
            _ if found.is_empty() => false,
            _ => self.asks(found, event),
        }
    }

    fn asks(&self, found: &Found<'_>, event: Event<'_>) -> bool {
        let any = |test: &mut dyn FnMut(&str) -> bool| found.any(&mut |value| value.as_comparable().is_some_and(|text| test(&text)));
        match self {
            Self::Text(text) => any(&mut |value| text.is_in(value)),
            Self::Regex(regex) => any(&mut |value| regex.is_match(value)),
            Self::Network(network) => any(&mut |value| value.parse().is_ok_and(|address| network.has(address))),
            Self::Number(compare, number) => found.any(&mut |value| value.as_number().is_some_and(|value| compare.holds(value, *number))),
            Self::Field { path, place: Place::Whole, cased } => {
                // Two values, and not one of several: lists are the same or they are not.
                let other = event.at(path);
                let (Some(value), Some(other)) = (found.single(), other.single()) else { return false };
                match (value.as_comparable(), other.as_comparable()) {
                    (Some(value), Some(other)) => folded(&value, *cased) == folded(&other, *cased),
                    (None, None) => value.raw() == other.raw(),
                    _ => false,
                }
            }
            Self::Field { path, place, cased } => {
                let Some(other) = event.at(path).single().and_then(Value::as_comparable) else { return false };
                let text = Text { place: *place, cased: *cased, parts: vec![Piece::Plain(folded(&other, *cased).into())] };
                any(&mut |value| text.is_in(value))
            }
            Self::Null => found.single().is_some_and(Value::is_null),
            Self::Exists(expected) => *expected,
            Self::Bool(expected) => found.any(&mut |value| truth(value) == Some(*expected)),
            Self::Filled { parts, cased } => {
                let text: String = parts
                    .iter()
                    .map(|part| match part {
                        Filled::Plain(text) => Cow::Borrowed(text.as_str()),
                        Filled::Field(path) => event.at(path).single().and_then(Value::as_comparable).unwrap_or_default(),
                    })
                    .collect();
                let text = folded(&text, *cased);
                any(&mut |value| folded(value, *cased) == text)
            }
            Self::Time(part, number) => found.any(&mut |value| part.of(value).is_some_and(|value| (value - number).abs() < f64::EPSILON)),
            Self::Any(matchers) => matchers.iter().any(|matcher| matcher.asks(found, event)),
            Self::All(matchers) => matchers.iter().all(|matcher| matcher.asks(found, event)),
            Self::Not(matcher) => !matcher.asks(found, event),
        }
    }

    /// Whether a text that stands anywhere in the event answers the question.
    pub(super) fn matches_text(&self, text: &str) -> bool {
        match self {
            Self::Text(wanted) => wanted.is_in(text),
            Self::Regex(regex) => regex.is_match(text),
            Self::Any(matchers) => matchers.iter().any(|matcher| matcher.matches_text(text)),
            Self::All(matchers) => matchers.iter().all(|matcher| matcher.matches_text(text)),
            Self::Not(matcher) => !matcher.matches_text(text),
            _ => false,
        }
    }

    /// The texts of which the field has to be one for this to hold, in small letters; none where others do as well.
    pub(super) fn literals(&self) -> Option<Vec<String>> {
        match self {
            Self::Text(Text { place: Place::Whole, parts, .. }) => match parts.as_slice() {
                [Piece::Plain(text)] => Some(vec![text.to_lowercase()]),
                [] => Some(vec![String::new()]),
                _ => None,
            },
            Self::Any(matchers) => {
                let all: Option<Vec<_>> = matchers.iter().map(Self::literals).collect();
                all.map(|all| all.concat())
            }
            Self::All(matchers) => matchers.iter().find_map(Self::literals),
            _ => None,
        }
    }
}

/// The text in small letters, unless capitals count.
pub(super) fn folded(text: &str, cased: bool) -> Cow<'_, str> {
    if cased || !text.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        Cow::Borrowed(text)
    } else if text.is_ascii() {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

fn truth(value: Value<'_>) -> Option<bool> {
    if let Some(said) = value.as_bool() {
        return Some(said);
    }
    match value.as_string()?.to_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

impl Text {
    fn is_in(&self, value: &str) -> bool {
        match self.parts.as_slice() {
            [] => self.place != Place::Whole || value.is_empty(),
            // The most common by far, without making anything.
            [Piece::Plain(text)] if self.place == Place::Whole && value.is_ascii() => {
                if self.cased {
                    value == &**text
                } else {
                    value.eq_ignore_ascii_case(text)
                }
            }
            [Piece::Plain(text)] => {
                let value = folded(value, self.cased);
                match self.place {
                    Place::Whole => *value == **text,
                    Place::Inside => value.contains(&**text),
                    Place::Start => value.starts_with(&**text),
                    Place::End => value.ends_with(&**text),
                }
            }
            parts => {
                let value = folded(value, self.cased);
                let open_start = matches!(self.place, Place::Inside | Place::End);
                let open_end = matches!(self.place, Place::Inside | Place::Start);
                if open_start {
                    let starts = value.char_indices().map(|(at, _)| at).chain([value.len()]);
                    starts.into_iter().any(|at| wild(parts, value.get(at..).unwrap_or_default(), open_end))
                } else {
                    wild(parts, &value, open_end)
                }
            }
        }
    }
}

/// Whether `text` begins with (`open`) or is what the pieces describe. Only the last `*` is ever tried again, so that it ends in
/// time of the product of both lengths.
fn wild(parts: &[Piece], text: &str, open: bool) -> bool {
    let (mut parts, mut text) = (parts, text);
    // Where to go back to: the pieces after the last `*`, and the text that they have not been tried at.
    let mut back: Option<(&[Piece], &str)> = None;
    loop {
        let step = match parts.split_first() {
            None if open || text.is_empty() => return true,
            None => None,
            Some((Piece::Many, rest)) => {
                back = Some((rest, text));
                Some((rest, text))
            }
            Some((Piece::One, rest)) => {
                let mut letters = text.chars();
                letters.next().filter(|letter| *letter != '\n').map(|_| (rest, letters.as_str()))
            }
            Some((Piece::Plain(plain), rest)) => text.strip_prefix(&**plain).map(|text| (rest, text)),
        };
        match step {
            Some(next) => (parts, text) = next,
            None => {
                let Some((rest, from)) = back else { return false };
                let mut letters = from.chars();
                if letters.next().is_none_or(|letter| letter == '\n') {
                    return false;
                }
                back = Some((rest, letters.as_str()));
                (parts, text) = (rest, letters.as_str());
            }
        }
    }
}

impl Compare {
    fn holds(self, value: f64, number: f64) -> bool {
        match self {
            Self::Equal => (value - number).abs() < f64::EPSILON,
            Self::Greater => value > number,
            Self::GreaterOrEqual => value >= number,
            Self::Less => value < number,
            Self::LessOrEqual => value <= number,
        }
    }
}

impl Part {
    fn of(self, value: Value<'_>) -> Option<f64> {
        let text = value.as_comparable()?;
        let at = match text.parse::<f64>() {
            // Milliseconds, where they are too many to be seconds.
            Ok(number) if number > 1e12 => Timestamp::from_second((number / 1e3) as i64).ok()?,
            Ok(number) => Timestamp::from_second(number as i64).ok()?,
            Err(_) => match text.parse::<Timestamp>() {
                Ok(at) => at,
                Err(_) => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
            },
        };
        let at = at.to_zoned(TimeZone::UTC);
        Some(match self {
            Self::Minute => f64::from(at.minute()),
            Self::Hour => f64::from(at.hour()),
            Self::Day => f64::from(at.day()),
            Self::Week => f64::from(at.date().iso_week_date().week()),
            Self::Month => f64::from(at.month()),
            Self::Year => f64::from(at.year()),
        })
    }
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or one address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        (bits <= most).then_some(Self { address, bits })
    }

    fn has(self, address: IpAddr) -> bool {
        let of = |address: IpAddr| match address {
            IpAddr::V4(address) => (4, u128::from(u32::from(address)) << 96),
            IpAddr::V6(address) => (6, u128::from(address)),
        };
        let ((kind, network), (other_kind, address)) = (of(self.address), of(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
        kind == other_kind && (network ^ address) & mask == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: &str, place: Place) -> Text {
        let mut parts = Vec::new();
        for piece in pattern.split_inclusive(['*', '?']) {
            let plain = piece.trim_end_matches(['*', '?']);
            if !plain.is_empty() {
                parts.push(Piece::Plain(plain.to_lowercase().into()));
            }
            match piece.chars().last() {
                Some('*') => parts.push(Piece::Many),
                Some('?') => parts.push(Piece::One),
                _ => {}
            }
        }
        Text { place, cased: false, parts }
    }

    #[test]
    fn wildcards_reach_to_the_end_of_a_line() {
        for (pattern, value, is_in) in [
            ("a*b", "AxxB", true),
            ("a*b", "ab", true),
            ("a*b", "axbx", false),
            ("a?b", "aéb", true),
            ("a?b", "ab", false),
            ("*a*b*c", "zzabxbc", true),
            ("*a*b*c", "zzabxb", false),
            ("a*b", "a\nb", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(text(pattern, Place::Whole).is_in(value), is_in, "{pattern} {value}");
        }
        assert!(text("b*d", Place::Inside).is_in("abcde"));
        assert!(text("b*d", Place::Start).is_in("bcdx") && !text("b*d", Place::Start).is_in("abcd"));
        assert!(text("b*d", Place::End).is_in("abcd") && !text("b*d", Place::End).is_in("abcdx"));
        assert!(text("K", Place::Whole).is_in("\u{212a}"), "the sign for kelvin is a capital k");
        assert!(!text(&"*a".repeat(40), Place::Whole).is_in(&"a".repeat(39)), "and it ends");
    }

    #[test]
    fn a_network_has_the_addresses_of_its_kind_under_its_mask() {
        let has = |network: &str, address: &str| Network::parse(network).unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("0.0.0.0/0", "1.2.3.4") && !has("0.0.0.0/0", "::1") && has("::/0", "::1"));
        assert!(has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7", "192.0.2.8"));
        assert!(has("2001:db8::/32", "2001:db8:1::") && !has("2001:db8::/32", "2001:db9::"));
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("x/8").is_none());
    }
}
