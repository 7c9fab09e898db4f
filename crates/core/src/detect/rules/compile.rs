//! From the Sigma language to questions about fields.
//!
//! `rsigma-parser` reads the language; what each word of it means is here, and is held to what `rsigma-eval` makes of it by a test
//! that runs both. What Sigma 2 does not have, or what we do not do, is refused: a rule that would mean something else than its
//! author thinks is worse than none.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::RegexBuilder;
use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SelectorPattern, SigmaString, SigmaValue, SpecialChar,
    StringPart,
};

use super::event::{Event, Path};
use super::matcher::{Compare, Filled, Matcher, Network, Part, Piece, Place, Text, folded};

/// How large one regular expression may become, in bytes.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// How many ways of writing the dashes of one value are tried at most (`windash`).
const DASHES_MAX: u32 = 4;

/// What an event has to be for a rule.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// A field answers a question.
    Field(Path, Matcher),
    /// Any text of the event does.
    Anywhere(Matcher),
    /// All of these hold.
    All(Vec<Condition>),
    /// At least so many of these hold.
    AtLeast(usize, Vec<Condition>),
    /// This does not hold.
    Not(Box<Condition>),
}

/// The values of which a field has to be one, by its path, for a condition to hold.
pub(super) type Needed = BTreeMap<Path, Vec<String>>;

impl Condition {
    /// Whether it holds for an event.
    pub(super) fn holds(&self, event: Event<'_>) -> bool {
        match self {
            Self::Field(path, matcher) => matcher.matches(&event.at(path), event),
            Self::Anywhere(matcher) => event.any_string(|text| matcher.matches_text(text)),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(event)),
            Self::AtLeast(number, conditions) => {
                *number == 0 || conditions.iter().filter(|condition| condition.holds(event)).nth(number - 1).is_some()
            }
            Self::Not(condition) => !condition.holds(event),
        }
    }

    /// What an event must have for this to hold: by any one of these fields it can be told that it does not.
    pub(super) fn needs(&self) -> Needed {
        match self {
            Self::Field(path, matcher) => matcher.literals().map(|literals| (path.clone(), literals)).into_iter().collect(),
            Self::Anywhere(_) | Self::Not(_) | Self::AtLeast(0, _) => Needed::new(),
            Self::All(conditions) => {
                let mut all = Needed::new();
                for (path, literals) in conditions.iter().flat_map(Self::needs) {
                    let fewest = all.entry(path).or_insert_with(|| literals.clone());
                    if literals.len() < fewest.len() {
                        *fewest = literals;
                    }
                }
                all
            }
            Self::AtLeast(_, conditions) => {
                let mut each = conditions.iter().map(Self::needs);
                let Some(mut common) = each.next() else { return Needed::new() };
                for other in each {
                    common.retain(|path, _| other.contains_key(path));
                    for (path, literals) in &mut common {
                        literals.extend(other.get(path).cloned().unwrap_or_default());
                    }
                }
                common
            }
        }
    }
}

/// The condition of a rule, or what is wrong with it.
pub(super) fn condition(detections: &Detections) -> Result<Condition, String> {
    let mut named = BTreeMap::new();
    for (name, each) in &detections.named {
        named.insert(name.as_str(), detection(each).map_err(|why| format!("`{name}`: {why}"))?);
    }
    if detections.timeframe.is_some() {
        return Err("`timeframe` belongs to the old way of counting; write a correlation rule".to_owned());
    }
    let conditions: Vec<_> = detections.conditions.iter().map(|expression| of_expression(expression, &named)).collect::<Result<_, _>>()?;
    match conditions.len() {
        0 => Err("there is no condition".to_owned()),
        _ => Ok(one_of(conditions)),
    }
}

fn of_expression(expression: &ConditionExpr, named: &BTreeMap<&str, Condition>) -> Result<Condition, String> {
    let all = |of: &[ConditionExpr]| of.iter().map(|each| of_expression(each, named)).collect::<Result<Vec<_>, _>>();
    Ok(match expression {
        ConditionExpr::And(of) => Condition::All(all(of)?),
        ConditionExpr::Or(of) => one_of(all(of)?),
        ConditionExpr::Not(of) => Condition::Not(Box::new(of_expression(of, named)?)),
        ConditionExpr::Identifier(name) => {
            named.get(name.as_str()).cloned().ok_or_else(|| format!("the condition names `{name}`, which is not there"))?
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let chosen: Vec<Condition> =
                named.iter().filter(|(name, _)| pattern.matches_detection_name(name)).map(|(_, condition)| condition.clone()).collect();
            if chosen.is_empty() {
                let pattern = match pattern {
                    SelectorPattern::Them => "them",
                    SelectorPattern::Pattern(pattern) => pattern,
                };
                return Err(format!("the condition means `{pattern}`, of which there is none"));
            }
            match quantifier {
                Quantifier::Any => one_of(chosen),
                Quantifier::All => Condition::All(chosen),
                Quantifier::Count(number) => Condition::AtLeast(usize::try_from(*number).unwrap_or(usize::MAX), chosen),
            }
        }
    })
}

fn one_of(mut conditions: Vec<Condition>) -> Condition {
    match (conditions.len(), conditions.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            conditions.extend(last);
            Condition::AtLeast(1, conditions)
        }
    }
}

fn detection(of: &Detection) -> Result<Condition, String> {
    Ok(match of {
        Detection::AllOf(items) if items.is_empty() => return Err("it asks for nothing".to_owned()),
        Detection::AllOf(items) => Condition::All(items.iter().map(item).collect::<Result<_, _>>()?),
        Detection::AnyOf(of) if of.is_empty() => return Err("it asks for nothing".to_owned()),
        Detection::AnyOf(of) => one_of(of.iter().map(detection).collect::<Result<_, _>>()?),
        Detection::And(of) => Condition::All(of.iter().map(detection).collect::<Result<_, _>>()?),
        Detection::Keywords(values) => {
            // A word is looked for anywhere in a text.
            let word = Modifiers { place: Place::Inside, ..Modifiers::default() };
            Condition::Anywhere(any(values.iter().map(|value| word.value(value)).collect::<Result<_, _>>()?))
        }
        Detection::ArrayMatch { field, .. } => {
            return Err(format!("`{field}[..]` as a block is not in Sigma 2; write the path to the member instead"));
        }
        Detection::Conditional { .. } => return Err("a condition inside a detection is not in Sigma 2".to_owned()),
    })
}

fn item(item: &DetectionItem) -> Result<Condition, String> {
    let name = item.field.name.as_deref().unwrap_or("(any text)");
    let modifiers = Modifiers::of(&item.field.modifiers).map_err(|why| format!("`{name}`: {why}"))?;
    let matcher = modifiers.matcher(&item.values).map_err(|why| format!("`{name}`: {why}"))?;
    Ok(match &item.field.name {
        Some(name) => Condition::Field(Path::new(name), matcher),
        None => Condition::Anywhere(matcher),
    })
}

fn any(mut matchers: Vec<Matcher>) -> Matcher {
    match (matchers.len(), matchers.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            matchers.extend(last);
            Matcher::Any(matchers)
        }
    }
}

/// What is compared with the value, where it is not a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Regex,
    Network,
    Exists,
    Field,
    Number(&'static str),
    Time(&'static str),
    Filled,
}

/// What is done to the value before it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Wide,
    Utf16Be,
    Utf16,
    Base64,
    Base64Offset,
    Dashes,
}

/// The modifiers of a field.
#[derive(Clone, Debug)]
struct Modifiers {
    kind: Kind,
    place: Place,
    written: Vec<Written>,
    all: bool,
    cased: bool,
    negated: bool,
    /// Flags of a regular expression: small letters are capitals, lines, dots are line ends.
    flags: [bool; 3],
}

impl Default for Modifiers {
    fn default() -> Self {
        Self { kind: Kind::Text, place: Place::Whole, written: Vec::new(), all: false, cased: false, negated: false, flags: [false; 3] }
    }
}

impl Modifiers {
    fn of(modifiers: &[Modifier]) -> Result<Self, String> {
        let mut read = Self::default();
        for modifier in modifiers {
            let (kind, place, written) = match modifier {
                Modifier::Contains => (None, Some(Place::Inside), None),
                Modifier::StartsWith => (None, Some(Place::Start), None),
                Modifier::EndsWith => (None, Some(Place::End), None),
                Modifier::Re => (Some(Kind::Regex), None, None),
                Modifier::Cidr => (Some(Kind::Network), None, None),
                Modifier::Exists => (Some(Kind::Exists), None, None),
                Modifier::FieldRef => (Some(Kind::Field), None, None),
                Modifier::Expand => (Some(Kind::Filled), None, None),
                Modifier::Gt => (Some(Kind::Number("gt")), None, None),
                Modifier::Gte => (Some(Kind::Number("gte")), None, None),
                Modifier::Lt => (Some(Kind::Number("lt")), None, None),
                Modifier::Lte => (Some(Kind::Number("lte")), None, None),
                Modifier::Minute => (Some(Kind::Time("minute")), None, None),
                Modifier::Hour => (Some(Kind::Time("hour")), None, None),
                Modifier::Day => (Some(Kind::Time("day")), None, None),
                Modifier::Week => (Some(Kind::Time("week")), None, None),
                Modifier::Month => (Some(Kind::Time("month")), None, None),
                Modifier::Year => (Some(Kind::Time("year")), None, None),
                Modifier::Wide => (None, None, Some(Written::Wide)),
                Modifier::Utf16be => (None, None, Some(Written::Utf16Be)),
                Modifier::Utf16 => (None, None, Some(Written::Utf16)),
                Modifier::Base64 => (None, None, Some(Written::Base64)),
                Modifier::Base64Offset => (None, None, Some(Written::Base64Offset)),
                Modifier::WindAsh => (None, None, Some(Written::Dashes)),
                Modifier::All | Modifier::Cased | Modifier::Neq => (None, None, None),
                Modifier::IgnoreCase | Modifier::Multiline | Modifier::DotAll => (None, None, None),
            };
            match modifier {
                Modifier::All => read.all = true,
                Modifier::Cased => read.cased = true,
                Modifier::Neq => read.negated = true,
                Modifier::IgnoreCase => read.flags[0] = true,
                Modifier::Multiline => read.flags[1] = true,
                Modifier::DotAll => read.flags[2] = true,
                _ => {}
            }
            if let Some(kind) = kind {
                if read.kind != Kind::Text || read.place != Place::Whole {
                    return Err("two modifiers say in two ways how it is compared".to_owned());
                }
                read.kind = kind;
            }
            if let Some(place) = place {
                if read.place != Place::Whole || !matches!(read.kind, Kind::Text | Kind::Field) {
                    return Err("two modifiers say in two ways how it is compared".to_owned());
                }
                read.place = place;
            }
            read.written.extend(written);
        }
        if !read.written.is_empty() && read.kind != Kind::Text {
            return Err("a modifier changes how the value is written, and it is not compared as a text".to_owned());
        }
        if read.flags.contains(&true) && read.kind != Kind::Regex {
            return Err("`i`, `m` and `s` belong to `re`".to_owned());
        }
        Ok(read)
    }

    fn matcher(&self, values: &[SigmaValue]) -> Result<Matcher, String> {
        if self.kind == Kind::Exists {
            return Ok(Matcher::Exists(match values.first() {
                Some(SigmaValue::Bool(expected)) => *expected,
                Some(SigmaValue::String(text)) => !matches!(text.original.as_str(), "false" | "no"),
                _ => true,
            }));
        }
        if values.is_empty() {
            return Err("there is no value".to_owned());
        }
        if self.all && values.len() == 1 {
            return Err("`all` wants more than one value".to_owned());
        }
        let matchers: Vec<Matcher> = values.iter().map(|value| self.value(value)).collect::<Result<_, _>>()?;
        let matcher = if self.all { Matcher::All(matchers) } else { any(matchers) };
        Ok(if self.negated { Matcher::Not(Box::new(matcher)) } else { matcher })
    }

    fn value(&self, value: &SigmaValue) -> Result<Matcher, String> {
        match self.kind {
            Kind::Regex => {
                let [ignore_case, multi_line, dot_all] = self.flags;
                let regex = RegexBuilder::new(&plain(value)?)
                    .case_insensitive(ignore_case)
                    .multi_line(multi_line)
                    .dot_matches_new_line(dot_all)
                    .size_limit(REGEX_BYTES_MAX)
                    .build();
                regex.map(Matcher::Regex).map_err(|error| error.to_string())
            }
            Kind::Network => {
                let text = plain(value)?;
                Network::parse(&text).map(Matcher::Network).ok_or_else(|| format!("`{text}` is no network in CIDR notation"))
            }
            Kind::Field => Ok(Matcher::Field { path: Path::new(&plain(value)?), place: self.place, cased: self.cased }),
            Kind::Filled => Ok(Matcher::Filled { parts: filled(&plain(value)?), cased: self.cased }),
            Kind::Number(compare) => {
                let compare = match compare {
                    "gt" => Compare::Greater,
                    "gte" => Compare::GreaterOrEqual,
                    "lt" => Compare::Less,
                    _ => Compare::LessOrEqual,
                };
                Ok(Matcher::Number(compare, number(value)?))
            }
            Kind::Time(part) => {
                let part = match part {
                    "minute" => Part::Minute,
                    "hour" => Part::Hour,
                    "day" => Part::Day,
                    "week" => Part::Week,
                    "month" => Part::Month,
                    _ => Part::Year,
                };
                Ok(Matcher::Time(part, number(value)?))
            }
            Kind::Text | Kind::Exists => self.text(value),
        }
    }

    fn text(&self, value: &SigmaValue) -> Result<Matcher, String> {
        let text = match value {
            SigmaValue::Null => return Ok(Matcher::Null),
            SigmaValue::Bool(expected) if self.place == Place::Whole => return Ok(Matcher::Bool(*expected)),
            SigmaValue::Integer(number) if self.place == Place::Whole => return Ok(Matcher::Number(Compare::Equal, *number as f64)),
            SigmaValue::Float(number) if self.place == Place::Whole => return Ok(Matcher::Number(Compare::Equal, *number)),
            SigmaValue::String(text) => text,
            other => &SigmaString::from_raw(&plain(other)?),
        };
        if self.written.is_empty() {
            return Ok(Matcher::Text(Text { place: self.place, cased: self.cased, parts: self.pieces(text) }));
        }
        let mut bytes = text.as_plain().unwrap_or_else(|| text.original.clone()).into_bytes();
        let mut texts = None;
        for written in &self.written {
            let units = || String::from_utf8_lossy(&bytes).encode_utf16().collect::<Vec<u16>>();
            match written {
                Written::Wide => bytes = units().into_iter().flat_map(u16::to_le_bytes).collect(),
                Written::Utf16Be => bytes = units().into_iter().flat_map(u16::to_be_bytes).collect(),
                Written::Utf16 => bytes = [0xFF, 0xFE].into_iter().chain(units().into_iter().flat_map(u16::to_le_bytes)).collect(),
                Written::Base64 => texts = Some(vec![STANDARD.encode(&bytes)]),
                Written::Base64Offset => texts = Some(offsets(&bytes)),
                Written::Dashes => texts = Some(dashes(&String::from_utf8_lossy(&bytes))?),
            }
        }
        let texts = texts.unwrap_or_else(|| vec![String::from_utf8_lossy(&bytes).into_owned()]);
        let place = if self.written.contains(&Written::Base64Offset) { Place::Inside } else { self.place };
        let texts = texts.into_iter().map(|text| {
            let parts = self.pieces(&SigmaString::from_raw(&text));
            Matcher::Text(Text { place, cased: self.cased, parts })
        });
        Ok(any(texts.collect()))
    }

    fn pieces(&self, text: &SigmaString) -> Vec<Piece> {
        let piece = |part: &StringPart| match part {
            StringPart::Plain(text) => Piece::Plain(folded(text, self.cased).into()),
            StringPart::Special(SpecialChar::WildcardMulti) => Piece::Many,
            StringPart::Special(SpecialChar::WildcardSingle) => Piece::One,
        };
        text.parts.iter().map(piece).collect()
    }
}

fn plain(value: &SigmaValue) -> Result<String, String> {
    match value {
        SigmaValue::String(text) => Ok(text.as_plain().unwrap_or_else(|| text.original.clone())),
        SigmaValue::Null => Err("nothing cannot be compared like this".to_owned()),
        other => Ok(other.to_string()),
    }
}

fn number(value: &SigmaValue) -> Result<f64, String> {
    let text = plain(value)?;
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// `C:\Users\%user%` apart at its fields.
fn filled(text: &str) -> Vec<Filled> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let Some((name, behind)) = after.split_once('%') else { break };
        if !before.is_empty() {
            parts.push(Filled::Plain(before.to_owned()));
        }
        if !name.is_empty() {
            parts.push(Filled::Field(Path::new(name)));
        }
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Filled::Plain(rest.to_owned()));
    }
    parts
}

/// What of the base64 of something stays the same at each of the three places that it may have in what is around it.
fn offsets(bytes: &[u8]) -> Vec<String> {
    let at = |offset: usize| {
        let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
        let encoded = STANDARD.encode(padded);
        let stays = encoded.trim_end_matches('=').get((offset * 4).div_ceil(3)..).unwrap_or_default();
        stays.to_owned()
    };
    (0..3).map(at).filter(|text| !text.is_empty()).collect()
}

/// Each way of writing the dashes of an option: with any of the characters that Windows takes for one.
fn dashes(text: &str) -> Result<Vec<String>, String> {
    const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];
    let mut all = vec![String::new()];
    let mut count = 0;
    for letter in text.chars() {
        if letter == '-' {
            count += 1;
            if count > DASHES_MAX {
                return Err(format!("`windash` with more than {DASHES_MAX} dashes in one value"));
            }
            all = all.iter().flat_map(|begun| DASHES.map(|dash| format!("{begun}{dash}"))).collect();
        } else {
            all.iter_mut().for_each(|begun| begun.push(letter));
        }
    }
    Ok(all)
}
