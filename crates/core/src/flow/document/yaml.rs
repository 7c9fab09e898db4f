//! YAML as programs write it: records in blocks, a value on each line. What else YAML has is left to a whole parser, which takes
//! twelve times as long.

use std::borrow::Cow;

use serde_json::Number;

use super::Node;

/// The deepest nesting that is read here.
const DEPTH_MAX: usize = 24;

/// The most members of an object that is read here, since each name is compared with those before it.
const MEMBERS_MAX: usize = 64;

/// Words that are no texts, or to some readers none.
const NO_TEXTS: [&str; 11] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];

/// Reads a text that is a list or an object, where it says nothing but what is read here; otherwise nothing.
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    let is_plain = |byte: u8| matches!(byte, b'\n' | b' '..=b'~');
    let is_odd = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !text.bytes().all(is_plain) && text.contains(is_odd) {
        return None;
    }
    let mut lines = Lines { line: None, rest: text.trim_end_matches('\n') };
    lines.pass()?;
    let node = lines.line.filter(|line| line.indent == 0 && (line.is_item() || line.member().is_some())).and_then(|_| lines.block(0))?;
    lines.line.is_none().then_some(node)
}

/// A line, or what of it was not read yet.
#[derive(Clone, Copy)]
struct Line<'t> {
    indent: usize,
    text: &'t str,
}

struct Lines<'t> {
    /// The line that is to be read; nothing behind the last.
    line: Option<Line<'t>>,
    rest: &'t str,
}

impl<'t> Line<'t> {
    fn is_item(&self) -> bool {
        self.text.starts_with("- ")
    }

    /// A member's name, and its value where that is on the same line.
    fn member(&self) -> Option<(&'t str, &'t str)> {
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let (name, value) = self.text.split_at(self.text.bytes().take_while(|byte| is_of_name(byte)).count());
        let value = value.strip_prefix(':').filter(|value| value.is_empty() || value.starts_with(' '))?;
        let is_text = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_no_text(name);
        is_text.then_some((name, value.trim_matches(' ')))
    }
}

impl<'t> Lines<'t> {
    /// Goes to the next line; nothing where that is blank.
    fn pass(&mut self) -> Option<()> {
        if self.rest.is_empty() {
            self.line = None;
            return Some(());
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        let text = line.trim_start_matches(' ');
        self.line = Some(Line { indent: line.len().saturating_sub(text.len()), text: text.trim_end_matches(' ') });
        self.rest = rest;
        (!text.is_empty()).then_some(())
    }

    /// How deep the line is that is to be read.
    fn indent(&self) -> Option<usize> {
        self.line.map(|line| line.indent)
    }

    /// What begins with the line that is to be read.
    fn block(&mut self, depth: usize) -> Option<Node<'t>> {
        let first = self.line.filter(|_| depth < DEPTH_MAX)?;
        if first.is_item() { self.list(first.indent, depth) } else { self.object(first.indent, depth) }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Option<Node<'t>> {
        let mut items = Vec::new();
        while let Some(line) = self.line.filter(|line| line.indent == indent && line.is_item()) {
            let text = line.text.strip_prefix('-')?.trim_start_matches(' ');
            let item = Line { indent: indent.saturating_add(line.text.len()).saturating_sub(text.len()), text };
            self.line = Some(item);
            items.push(if item.is_item() || item.member().is_some() {
                self.block(depth.saturating_add(1))?
            } else {
                self.value(text, indent)?
            });
        }
        Some(Node::List(items))
    }

    fn object(&mut self, indent: usize, depth: usize) -> Option<Node<'t>> {
        let mut members: Vec<(Cow<'t, str>, Node<'t>)> = Vec::with_capacity(8);
        while let Some(line) = self.line.filter(|line| line.indent == indent && !line.is_item()) {
            let (name, value) = line.member()?;
            if members.len() >= MEMBERS_MAX || members.iter().any(|(other, _)| other == name) {
                return None;
            }
            let value = if value.is_empty() {
                self.pass()?;
                let is_item = self.line.is_some_and(|line| line.is_item());
                match self.indent() {
                    Some(inner) if inner > indent || (inner == indent && is_item) => self.block(depth.saturating_add(1))?,
                    _ => Node::Null,
                }
            } else {
                self.value(value, indent)?
            };
            members.push((Cow::Borrowed(name), value));
        }
        // What is deeper than the members of an object goes on with a value.
        self.indent().is_none_or(|next| next <= indent).then_some(Node::Object(members))
    }

    /// A value that begins on the line that is to be read, within what is at this depth; goes to the line behind it.
    fn value(&mut self, text: &'t str, indent: usize) -> Option<Node<'t>> {
        self.pass()?;
        if self.indent().is_some_and(|next| next > indent) {
            return None;
        }
        if let Some(quoted) = text.strip_prefix('\'') {
            let quoted = quoted.strip_suffix('\'')?;
            let is_one = quoted.split("''").all(|part| !part.contains('\''));
            let text = if quoted.contains('\'') { Cow::Owned(quoted.replace("''", "'")) } else { Cow::Borrowed(quoted) };
            return is_one.then_some(Node::Text(text));
        }
        if let Some(quoted) = text.strip_prefix('"') {
            let quoted = quoted.strip_suffix('"')?;
            return (!quoted.contains(['"', '\\'])).then_some(Node::Text(Cow::Borrowed(quoted)));
        }
        match text {
            "null" => Some(Node::Null),
            "true" => Some(Node::Truth(true)),
            "false" => Some(Node::Truth(false)),
            "[]" => Some(Node::List(Vec::new())),
            "{}" => Some(Node::Object(Vec::new())),
            _ if text.starts_with(|c: char| c.is_ascii_alphabetic()) => plain(text).filter(|_| !is_no_text(text)),
            _ if is_day(text.as_bytes()) => plain(text),
            _ => number(text).map(Node::Number),
        }
    }
}

/// A text without quotes.
fn plain(text: &str) -> Option<Node<'_>> {
    let sign = |(at, _): (usize, &str)| text.as_bytes().get(at.saturating_add(1)).is_none_or(|next| *next == b' ');
    let ends = text.match_indices(':').any(sign) || text.contains(" #");
    (!ends).then_some(Node::Text(Cow::Borrowed(text)))
}

fn is_no_text(text: &str) -> bool {
    text.len() <= 8 && (NO_TEXTS.iter().any(|no| text.eq_ignore_ascii_case(no)) || text.eq_ignore_ascii_case("infinity"))
}

/// A number of at most fifteen digits, as everybody reads it.
fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() > 15 || !is_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    match fraction {
        Some(fraction) if is_digits(fraction) => Number::from_f64(text.parse().ok()?),
        Some(_) => None,
        None if text == "-0" => None,
        None => text.parse::<i64>().ok().map(|number| u64::try_from(number).map_or(number.into(), Number::from)),
    }
}

/// Whether a text is a day, or begins with one and goes on with a time.
fn is_day(text: &[u8]) -> bool {
    let Some((day, time)) = text.split_at_checked(10) else { return false };
    let is_day = day.iter().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() });
    let is_time = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'+' | b'-' | b'Z');
    is_day && (time.is_empty() || (matches!(time, [b'T' | b' ', b'0'..=b'9', ..]) && time.iter().skip(1).all(is_time)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn wholly(text: &str) -> Option<Value> {
        serde_saphyr::from_str(text).ok()
    }

    #[test]
    fn what_programs_write_is_read() {
        for (text, value) in [
            ("- id: 7\n  at: 2024-05-15 10:30\n- id: -8.50\n", json!([{ "id": 7, "at": "2024-05-15 10:30" }, { "id": -8.5 }])),
            ("a:\n- 'it''s: x'\n-   b: \"#1\"\n    c:\nd: {}\n", json!({ "a": ["it's: x", { "b": "#1", "c": null }], "d": {} })),
            (
                "all:\n  of-it:\n    - x: see http://a.example/b#c, é\n  y_1: true",
                json!({ "all": { "of-it": [{ "x": "see http://a.example/b#c, é" }], "y_1": true } }),
            ),
        ] {
            assert_eq!(read(text).map(|node| node.to_value()), Some(value.clone()), "{text}");
            assert_eq!(wholly(text), Some(value), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// What is read here is what the whole parser reads.
        #[test]
        fn what_is_read_is_what_the_whole_parser_reads(
            lines in prop::collection::vec(
                "( {0,4})(- ){0,2}([a-c]: |[ab]:|)(|[a-c]{1,3}|[0-9.:-]{1,6}|-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?|2024-05-1[0-9]([T ]10:30(:00Z?)?)?|null|True|no|''|'[a ':#]{0,4}'|\"[a \\\\#:]{0,3}\"|\\[\\]|\\{\\}|[a#: '-]{1,5}|é|~|1e3|0x1)( {0,1})", 0..8
            ),
        ) {
            let text = lines.join("\n");
            if let Some(node) = read(&text) {
                prop_assert_eq!(Some(node.to_value()), wholly(&text), "{}", text);
            }
        }
    }
}
