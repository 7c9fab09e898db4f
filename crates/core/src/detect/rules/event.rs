//! An event as rules look at it: a JSON object that is read once, and never copied.
//!
//! Its values stand in one list in the order of the text, each with the place of the one after it, so that a field is found
//! without a map and nothing is kept that no rule asks for. The list is used again for the next event.

use std::borrow::Cow;

/// The longest event that is read, in bytes.
pub const EVENT_BYTES_MAX: usize = 4 << 20;

/// How deep an event may be nested.
const DEPTH_MAX: u32 = 64;

/// The last step of a path that stands for the text of what it is in: `arguments.@text`.
const TEXT: &str = "@text";

/// A text that is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It is not one JSON object.
    #[error("it is not JSON from byte {0} on")]
    NotJson(usize),
    /// It is JSON, and no object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// It is nested deeper than anything of the kind is.
    #[error("it is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// It is longer than anything of the kind is.
    #[error("it is longer than {EVENT_BYTES_MAX} bytes")]
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    True,
    False,
    Number,
    Text,
    /// A text with escapes in it.
    Escaped,
    List,
    Object,
}

/// One value: where its text is, and which value comes after it and all that is in it.
#[derive(Clone, Copy, Debug)]
struct Node {
    key: (u32, u32),
    at: (u32, u32),
    next: u32,
    /// What tells most names apart, of a member.
    tag: u32,
    kind: Kind,
    key_is_escaped: bool,
}

/// What tells most names apart without comparing them: how long it is, and three of its bytes.
fn tag(name: &[u8]) -> u32 {
    let at = |place: usize| name.get(place).copied().unwrap_or_default();
    u32::from_le_bytes([name.len() as u8, at(0), at(name.len() / 2), at(name.len().saturating_sub(1))])
}

/// Reads events, one after the other, into the same memory.
#[derive(Debug, Default)]
pub struct Reader {
    nodes: Vec<Node>,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    text: &'a str,
    nodes: &'a [Node],
    /// Whether a member of it may have a dot in its name.
    has_dots: bool,
}

/// One value of an event.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    event: Event<'a>,
    place: usize,
    /// Whether its own text is meant, rather than what it is.
    as_text: bool,
}

/// The way to a field: `eventName`, `userIdentity.sessionContext.sessionIssuer.arn`, `resources[0].ARN`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    whole: Box<str>,
    tag: u32,
    /// Whether it is the name of a member, and no more.
    is_simple: bool,
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    Key(Box<str>, u32),
    Index(i64),
    Text,
}

/// What is at the end of a path. Where the path crosses a list, that is one value of each of its elements.
#[derive(Clone, Debug, Default)]
pub struct Found<'a> {
    first: Option<Value<'a>>,
    others: Vec<Value<'a>>,
}

impl Reader {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one event.
    pub fn read<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Event<'a>, NotAnEvent> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(NotAnEvent::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NotAnEvent::NotUtf8)?;
        self.nodes.clear();
        let mut scan = Scan { bytes, at: 0, nodes: &mut self.nodes, has_dots: false };
        scan.space();
        if scan.peek() != Some(b'{') {
            return Err(NotAnEvent::NotAnObject);
        }
        scan.value((0, 0), false, 0)?;
        scan.space();
        if scan.at < bytes.len() {
            return Err(NotAnEvent::NotJson(scan.at));
        }
        let has_dots = scan.has_dots;
        Ok(Event { text, nodes: &self.nodes, has_dots })
    }
}

struct Scan<'t, 'n> {
    bytes: &'t [u8],
    at: usize,
    nodes: &'n mut Vec<Node>,
    /// Whether a name of the outermost members has a dot or an escape in it.
    has_dots: bool,
}

impl Scan<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn wrong<T>(&self) -> Result<T, NotAnEvent> {
        Err(NotAnEvent::NotJson(self.at))
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotAnEvent> {
        if self.peek() != Some(byte) {
            return self.wrong();
        }
        self.at += 1;
        Ok(())
    }

    /// Reads the value that begins here, with all that is in it.
    fn value(&mut self, key: (u32, u32), key_is_escaped: bool, depth: u32) -> Result<(), NotAnEvent> {
        if depth > DEPTH_MAX {
            return Err(NotAnEvent::TooDeep);
        }
        let place = self.nodes.len();
        let start = self.at;
        let name = self.bytes.get(key.0 as usize..key.1 as usize).unwrap_or_default();
        let tag = tag(name);
        self.has_dots |= depth == 1 && (key_is_escaped || name.contains(&b'.') || name.contains(&b'['));
        let node = |kind, at| Node { key, at, next: 0, tag, kind, key_is_escaped };
        match self.peek() {
            Some(b'{') => {
                self.nodes.push(node(Kind::Object, (0, 0)));
                self.members(depth)?;
            }
            Some(b'[') => {
                self.nodes.push(node(Kind::List, (0, 0)));
                self.elements(depth)?;
            }
            Some(b'"') => {
                let (at, escaped) = self.string()?;
                self.nodes.push(node(if escaped { Kind::Escaped } else { Kind::Text }, at));
            }
            Some(b't') => self.word(b"true", node(Kind::True, (0, 0)))?,
            Some(b'f') => self.word(b"false", node(Kind::False, (0, 0)))?,
            Some(b'n') => self.word(b"null", node(Kind::Null, (0, 0)))?,
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                self.nodes.push(node(Kind::Number, (0, 0)));
            }
            _ => return self.wrong(),
        }
        let next = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(place) {
            node.next = next;
            if !matches!(node.kind, Kind::Text | Kind::Escaped) {
                node.at = (start as u32, self.at as u32);
            }
        }
        Ok(())
    }

    fn members(&mut self, depth: u32) -> Result<(), NotAnEvent> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let (key, escaped) = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            self.value(key, escaped, depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong(),
            }
        }
    }

    fn elements(&mut self, depth: u32) -> Result<(), NotAnEvent> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value((0, 0), false, depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong(),
            }
        }
    }

    /// Reads a string; where its inside is, and whether there are escapes in it.
    fn string(&mut self) -> Result<((u32, u32), bool), NotAnEvent> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            self.at += plain(rest);
            match self.peek() {
                Some(b'"') => {
                    let inside = (start as u32, self.at as u32);
                    self.at += 1;
                    return Ok((inside, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') if self.hexadecimal(self.at + 1) => self.at += 5,
                        _ => return self.wrong(),
                    }
                }
                _ => return self.wrong(),
            }
        }
    }

    fn hexadecimal(&self, from: usize) -> bool {
        self.bytes.get(from..from + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    }

    fn word(&mut self, word: &[u8], node: Node) -> Result<(), NotAnEvent> {
        if !self.bytes.get(self.at..).unwrap_or_default().starts_with(word) {
            return self.wrong();
        }
        self.at += word.len();
        self.nodes.push(node);
        Ok(())
    }

    /// Reads a number by the grammar of RFC 8259 §6.
    fn number(&mut self) -> Result<(), NotAnEvent> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.wrong(),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), NotAnEvent> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.wrong();
        }
        self.digits();
        Ok(())
    }
}

/// How many bytes a string goes on with before its end, an escape, or what may not be in one.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    // Eight at a time: the top bit of each byte that is below 32, or that is the one looked for.
    let below = |eight: u64| eight.wrapping_sub(ONES * 0x20) & !eight;
    let is = |eight: u64, byte: u8| (eight ^ (ONES * u64::from(byte))).wrapping_sub(ONES) & !(eight ^ (ONES * u64::from(byte)));
    let mut done = 0;
    for eight in bytes.as_chunks::<8>().0 {
        let eight = u64::from_le_bytes(*eight);
        let found = (below(eight) | is(eight, b'"') | is(eight, b'\\')) & TOPS;
        if found != 0 {
            // The lowest one that is found is true; those above it may be carried.
            return done + (found.trailing_zeros() / 8) as usize;
        }
        done += 8;
    }
    let rest = bytes.get(done..).unwrap_or_default();
    done + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

impl<'a> Event<'a> {
    /// The whole event.
    pub fn root(self) -> Value<'a> {
        Value { event: self, place: 0, as_text: false }
    }

    /// Its exact text.
    pub fn text(self) -> &'a str {
        self.text.trim_ascii()
    }

    /// What is at the end of `path`. A member whose name is the whole path goes before the way that the path describes.
    pub fn at(self, path: &Path) -> Found<'a> {
        let mut found = Found::default();
        let whole = if path.is_simple || self.has_dots { self.root().member(&path.whole, path.tag) } else { None };
        match whole {
            Some(value) => found.push(value),
            None if path.is_simple => {}
            None => self.root().follow(&path.steps, &mut found),
        }
        found
    }

    /// The text at the end of `path`, where there is exactly one.
    pub fn string(self, path: &Path) -> Option<Cow<'a, str>> {
        self.at(path).single().and_then(Value::as_string)
    }

    /// Calls `test` with each text in the event until it says yes; names of members are not texts.
    pub fn any_string(self, mut test: impl FnMut(&str) -> bool) -> bool {
        (0..self.nodes.len()).any(|place| Value { event: self, place, as_text: false }.as_string().is_some_and(|text| test(&text)))
    }

    fn slice(self, (from, to): (u32, u32)) -> &'a str {
        self.text.get(from as usize..to as usize).unwrap_or_default()
    }
}

impl<'a> Value<'a> {
    fn node(self) -> Option<&'a Node> {
        self.event.nodes.get(self.place)
    }

    fn kind(self) -> Kind {
        self.node().map_or(Kind::Null, |node| node.kind)
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        !self.as_text && self.kind() == Kind::Null
    }

    /// The text that it is; none where it is no text.
    pub fn as_string(self) -> Option<Cow<'a, str>> {
        let node = self.node()?;
        if self.as_text {
            return Some(Cow::Borrowed(self.event.slice(node.at)));
        }
        match node.kind {
            Kind::Text => Some(Cow::Borrowed(self.event.slice(node.at))),
            Kind::Escaped => Some(Cow::Owned(unescape(self.event.slice(node.at)))),
            _ => None,
        }
    }

    /// The text that it is compared by: its own, or a number or a truth value as it is written.
    pub fn as_comparable(self) -> Option<Cow<'a, str>> {
        match self.kind() {
            _ if self.as_text => self.as_string(),
            Kind::Text | Kind::Escaped => self.as_string(),
            Kind::True => Some(Cow::Borrowed("true")),
            Kind::False => Some(Cow::Borrowed("false")),
            Kind::Number => {
                let text = self.event.slice(self.node()?.at);
                // A whole number stands as it is written; any other as the nearest that a machine has.
                match text.parse::<i64>() {
                    Ok(_) if text != "-0" => Some(Cow::Borrowed(text)),
                    _ => Some(Cow::Owned(text.parse::<f64>().ok()?.to_string())),
                }
            }
            Kind::Null | Kind::List | Kind::Object => None,
        }
    }

    /// The number that it is, or that its text is.
    pub fn as_number(self) -> Option<f64> {
        match self.kind() {
            Kind::Number => self.event.slice(self.node()?.at).parse().ok(),
            Kind::Text | Kind::Escaped => self.as_string()?.parse().ok(),
            _ => None,
        }
    }

    /// The truth value that it is; texts do not count.
    pub fn as_bool(self) -> Option<bool> {
        match self.kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// What is in it, where it is a list.
    pub fn elements(self) -> Option<impl Iterator<Item = Value<'a>>> {
        (self.kind() == Kind::List && !self.as_text).then(|| self.children())
    }

    /// Whether it is a list.
    pub fn is_list(self) -> bool {
        self.kind() == Kind::List && !self.as_text
    }

    /// Its exact text: a string's without the quotes and with its escapes.
    pub fn raw(self) -> &'a str {
        self.node().map(|node| self.event.slice(node.at)).unwrap_or_default()
    }

    fn children(self) -> impl Iterator<Item = Value<'a>> {
        let end = self.node().map_or(0, |node| node.next as usize);
        let mut place = self.place + 1;
        std::iter::from_fn(move || {
            let child = Value { place, ..self };
            let node = child.node().filter(|_| place < end)?;
            place = node.next as usize;
            Some(child)
        })
    }

    /// The member of this name; the last one, where there are several.
    fn member(self, name: &str, tag: u32) -> Option<Value<'a>> {
        let Event { text, nodes, .. } = self.event;
        let object = nodes.get(self.place).filter(|node| node.kind == Kind::Object)?;
        let (mut place, mut found) = (self.place + 1, None);
        while let Some(node) = nodes.get(place).filter(|_| place < object.next as usize) {
            let is_it = if node.key_is_escaped {
                unescape(self.event.slice(node.key)) == name
            } else {
                node.tag == tag && text.as_bytes().get(node.key.0 as usize..node.key.1 as usize) == Some(name.as_bytes())
            };
            if is_it {
                found = Some(Value { place, ..self });
            }
            place = node.next as usize;
        }
        found
    }

    fn follow(self, steps: &[Step], found: &mut Found<'a>) {
        let Some((step, rest)) = steps.split_first() else { return found.push(self) };
        match step {
            Step::Text => found.push(Value { as_text: true, ..self }),
            Step::Key(..) if self.kind() == Kind::List => {
                self.children().for_each(|element| element.follow(steps, found));
            }
            Step::Key(name, tag) => {
                if let Some(member) = self.member(name, *tag) {
                    member.follow(rest, found);
                }
            }
            Step::Index(index) if self.kind() == Kind::List => {
                let count = self.children().count() as i64;
                let place = if *index < 0 { count + index } else { *index };
                if let Some(element) = usize::try_from(place).ok().and_then(|place| self.children().nth(place)) {
                    element.follow(rest, found);
                }
            }
            Step::Index(_) => {}
        }
    }
}

impl<'a> Found<'a> {
    fn push(&mut self, value: Value<'a>) {
        if self.first.is_none() {
            self.first = Some(value);
        } else {
            self.others.push(value);
        }
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The value, where there is exactly one.
    pub fn single(&self) -> Option<Value<'a>> {
        self.first.filter(|_| self.others.is_empty())
    }

    /// The first value, where there is any.
    pub fn first(&self) -> Option<Value<'a>> {
        self.first
    }

    /// Each value; the elements of lists, however deep, in the place of the lists.
    pub fn any(&self, test: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
        self.first.iter().chain(&self.others).any(|value| any_of(*value, test))
    }
}

fn any_of<'a>(value: Value<'a>, test: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
    match value.elements() {
        Some(mut elements) => elements.any(|element| any_of(element, test)),
        None => test(value),
    }
}

impl Path {
    /// The path that `text` describes. A backslash before a bracket makes it a part of the name.
    pub fn new(text: &str) -> Self {
        let steps = text.split('.').flat_map(|part| match part {
            TEXT => vec![Step::Text],
            part => steps_of(part),
        });
        let steps: Box<[Step]> = steps.collect();
        Self { whole: text.into(), tag: tag(text.as_bytes()), is_simple: steps.len() <= 1 && !text.contains('\\'), steps }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.whole
    }
}

/// `name`, `name[0]`, `name[0][-1]`.
fn steps_of(part: &str) -> Vec<Step> {
    let name = |text: &str| {
        let name = text.replace("\\[", "[").replace("\\]", "]");
        let tag = tag(name.as_bytes());
        Step::Key(name.into(), tag)
    };
    let bracket = part.match_indices('[').map(|(at, _)| at).find(|at| !part.get(..*at).unwrap_or_default().ends_with('\\'));
    let Some((before, indices)) = bracket.and_then(|at| part.split_at_checked(at)) else { return vec![name(part)] };
    let numbers: Option<Vec<i64>> = indices
        .strip_prefix('[')
        .and_then(|indices| indices.strip_suffix(']'))
        .and_then(|indices| indices.split("][").map(|number| number.parse().ok()).collect());
    match numbers {
        Some(numbers) => (!before.is_empty()).then(|| name(before)).into_iter().chain(numbers.into_iter().map(Step::Index)).collect(),
        None => vec![name(part)],
    }
}

/// The text of a JSON string's inside. A half of a surrogate pair without its other is the replacement character.
fn unescape(inside: &str) -> String {
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut letters = escape.chars();
        match letters.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let unit = |text: &str| text.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
                let first = unit(letters.as_str()).unwrap_or(0xFFFD);
                letters = letters.as_str().get(4..).unwrap_or_default().chars();
                let second = letters.as_str().strip_prefix("\\u").and_then(unit).filter(|second| (0xDC00..0xE000).contains(second));
                if let (0xD800..0xDC00, Some(second)) = (first, second) {
                    letters = letters.as_str().get(6..).unwrap_or_default().chars();
                    text.extend(char::decode_utf16([first, second]).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)));
                } else {
                    text.push(char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
            }
            Some(letter) => text.push(letter),
            None => {}
        }
        rest = letters.as_str();
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str, path: &str) -> Vec<String> {
        let mut reader = Reader::new();
        let event = reader.read(text.as_bytes()).unwrap();
        let mut strings = Vec::new();
        event.at(&Path::new(path)).any(&mut |value| {
            strings.extend(value.as_comparable().map(Cow::into_owned));
            false
        });
        strings
    }

    #[test]
    fn a_path_leads_through_objects_and_lists_and_a_whole_name_goes_first() {
        let event = r#" {"a":{"b":[{"c":"x"},{"c":["y",2,-1.50,true,null]},{"d":1}]},"a.b":"flat","n":1,"n":2,"q\"k":"k"} "#;
        assert_eq!(strings(event, "a.b.c"), ["x", "y", "2", "-1.5", "true"]);
        assert_eq!(strings(event, "a.b"), ["flat"]);
        assert_eq!(strings(event, "a.b[0].c"), ["x"]);
        assert_eq!(strings(event, "a.b[-2].c[0]"), ["y"]);
        assert_eq!(strings(event, "n"), ["2"], "the last of equal names");
        assert_eq!(strings(event, "q\"k"), ["k"]);
        assert_eq!(strings(event, "a.x"), Vec::<String>::new());
        assert_eq!(strings(event, "a.b[0].@text"), [r#"{"c":"x"}"#]);
        assert_eq!(strings(r#"{"t":"a\u00e9\ud83d\ude00\ud800x\n\/"}"#, "t"), ["aé😀\u{fffd}x\n/"]);
    }

    #[test]
    fn a_string_ends_at_the_first_byte_that_may_not_be_in_it_wherever_that_is() {
        let naive = |bytes: &[u8]| bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(bytes.len());
        for byte in 0..=255 {
            for other in [b'a', 0x1f, 0x20, b'!', b'"', b'#', b'[', b'\\', b']', 0x7f, 0x80, 0xff] {
                for place in 0..20 {
                    let mut bytes = [other, b'x'].repeat(10);
                    bytes[place] = byte;
                    assert_eq!(plain(&bytes), naive(&bytes), "{bytes:?}");
                    let mut bytes = [b'x'; 20];
                    (bytes[place], bytes[19]) = (byte, other);
                    assert_eq!(plain(&bytes), naive(&bytes), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_read_is_what_serde_reads() {
        for text in [
            "{}",
            "{\"a\":1e5,\"b\":[],\"c\":{}}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":}",
            "{\"a\"}",
            "{\"a\":1,}",
            "{\"a\":[1,]}",
            "{\"a\":tru}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":1} x",
            "{\"a\":1",
            "{\"a\":-}",
            "{ \"a\" : [ { } , null , false ] }",
        ] {
            let serde = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(Reader::new().read(text.as_bytes()).is_ok(), serde, "{text}");
        }
        assert_eq!(Reader::new().read(b"[]").err(), Some(NotAnEvent::NotAnObject));
        assert_eq!(Reader::new().read(b"{\"a\":\"\xff\"}").err(), Some(NotAnEvent::NotUtf8));
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(Reader::new().read(deep.as_bytes()).err(), Some(NotAnEvent::TooDeep));
    }
}
