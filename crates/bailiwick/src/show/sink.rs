//! The only ways to standard output and standard error. Much of what is printed was written by agents, models and tool
//! servers; whatever it holds, it stays on its line, moves no cursor, hides nothing, and is valid JSON where JSON was asked
//! for.

use std::io::{self, Write};

use bailiwick_core::model::hides;
use serde_json::Value;

use super::Paint;

/// Prints lines for people, as `println!` does.
macro_rules! say {
    ($($text:tt)*) => { $crate::show::out(&format!($($text)*)) };
}

/// Prints lines for people on standard error, as `eprintln!` does.
macro_rules! complain {
    ($($text:tt)*) => { $crate::show::complaint(&format!($($text)*)) };
}

pub(crate) use {complain, say};

/// Prints lines for people.
#[expect(clippy::print_stdout, reason = "this is where it is printed")]
pub(crate) fn out(text: &str) {
    println!("{}", lines(text, Paint::stdout()));
}

/// Prints lines for people on standard error.
#[expect(clippy::print_stderr, reason = "this is where it is printed")]
pub(crate) fn complaint(text: &str) {
    eprintln!("{}", lines(text, Paint::stderr()));
}

/// Prints one JSON value on a line of its own.
#[expect(clippy::print_stdout, reason = "this is where it is printed")]
pub(crate) fn json(value: &Value) {
    println!("{}", json_line(&value.to_string()));
}

/// Text that has lines and, where it is painted, colours; everything else that hides or moves is escaped. What is put into it
/// from outside has gone through [`super::safe`] already; this is for what was forgotten, and for the errors of libraries.
pub(crate) fn lines(text: &str, paint: Paint) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = if paint.is_on() { colour(rest) } else { None };
        let (taken, left) = rest.split_at(colour.unwrap_or_else(|| c.len_utf8()));
        match c {
            '\n' => shown.push('\n'),
            _ if colour.is_some() => shown.push_str(taken),
            c if hides(c) => shown.push_str(&bailiwick_core::model::shown(taken, 1)),
            c => shown.push(c),
        }
        rest = left;
    }
    shown
}

/// The length of a colour (ECMA-48 SGR) that `text` begins with.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    parameters.get(end..)?.starts_with('m').then(|| end.saturating_add(3))
}

/// JSON on one line, meaning the same. Control characters stand between its tokens only, as white space; what else hides is
/// within its strings, and has a form of its own there.
pub(crate) fn json_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if hides(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| line.push_str(&format!("\\u{unit:04x}"))),
            c => line.push(c),
        }
    }
    line
}

/// Where what the program says while it serves goes: an event a line. Each is written at once.
#[derive(Debug)]
pub(crate) struct Events {
    /// Whether events are JSON.
    pub(crate) json: bool,
}

impl Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let line = if self.json { json_line(text) } else { bailiwick_core::model::shown(text, usize::MAX) };
        writeln!(io::stderr().lock(), "{line}")?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "a\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}b\u{9b}c\r\u{e0041}";

    #[test]
    fn lines_keep_their_ends_and_their_colours_and_nothing_else_that_moves_or_hides() {
        let plain = lines(&format!("one\ntwo {EVIL}\u{1b}[1;31mred"), Paint::off());
        assert_eq!(plain.lines().count(), 2);
        assert!(!plain.chars().any(|c| hides(c) && c != '\n'), "{plain}");
        let painted = lines(&format!("\u{1b}[1;31mred\u{1b}[0m {EVIL}"), Paint::on());
        assert!(painted.starts_with("\u{1b}[1;31mred\u{1b}[0m a\\u{1b}]0;title"), "{painted}");
        assert_eq!(painted.matches('\u{1b}').count(), 2, "{painted}");
    }

    #[test]
    fn json_stays_on_one_line_and_means_the_same() {
        let value = serde_json::json!({ "text": EVIL, "more": "\u{2028}\n" });
        let forged = format!("{{\n\"a\":\n{value}\r\n}}");
        let line = json_line(&forged);
        assert!(!line.chars().any(hides), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["a"], value);
    }
}
