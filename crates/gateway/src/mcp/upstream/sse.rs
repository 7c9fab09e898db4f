//! Server-sent events (WHATWG HTML §9.2.6), as far as MCP uses them: bytes in, events out (pure; fuzzed).
//!
//! Ids and `retry` are read over: a stream that breaks is not resumed, because nobody could tell whether what it was about
//! took effect.

/// What a stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The data of one event of the type `message`.
    Message(Vec<u8>),
    /// A comment, or an event that carries nothing for us: the other side is alive.
    Alive,
}

/// An event is larger than was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Splits a stream into events, however it is cut into chunks.
#[derive(Debug)]
pub struct Parser {
    bytes_max: usize,
    /// The line that has begun.
    line: Vec<u8>,
    /// The data of the event that has begun, each line ended by a newline.
    data: Vec<u8>,
    /// Whether the event that has begun is of another type than `message`.
    other_type: bool,
    /// Whether the last byte was a carriage return, so that a newline now belongs to it.
    after_return: bool,
    /// Whether this is the first line, which may begin with a byte-order mark.
    first_line: bool,
}

impl Parser {
    /// A parser of events of at most `bytes_max` bytes.
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, line: Vec::new(), data: Vec::new(), other_type: false, after_return: false, first_line: true }
    }

    /// Reads the next bytes of the stream and adds what they complete to `events`.
    pub fn read(&mut self, bytes: &[u8], events: &mut impl Extend<Event>) -> Result<(), TooLarge> {
        for &byte in bytes {
            let newline_of_return = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            if newline_of_return {
                continue;
            }
            if matches!(byte, b'\r' | b'\n') {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_of_line(&line));
                // The buffer is kept for the next line.
                self.line = line;
                self.line.clear();
            } else if self.line.len() + self.data.len() > self.bytes_max {
                return Err(TooLarge);
            } else {
                self.line.push(byte);
            }
        }
        Ok(())
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Event> {
        let line = if std::mem::take(&mut self.first_line) { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon.and_then(|at| line.split_at_checked(at)) {
            Some((b"", _)) => return Some(Event::Alive),
            Some((field, rest)) => {
                let value = rest.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, [].as_slice()),
        };
        match field {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => self.other_type = !value.is_empty() && value != b"message",
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let other_type = std::mem::take(&mut self.other_type);
        let mut data = std::mem::take(&mut self.data);
        data.pop()?; // the newline of the last line; without any there is no event
        if other_type || data.is_empty() { Some(Event::Alive) } else { Some(Event::Message(data)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::new(1000);
        let mut events = Vec::new();
        for chunk in chunks {
            parser.read(chunk, &mut events).unwrap();
        }
        events
    }

    fn messages(text: &str) -> Vec<String> {
        let text_of = |event| if let Event::Message(data) = event { Some(String::from_utf8(data).unwrap()) } else { None };
        all(&[text.as_bytes()]).into_iter().filter_map(text_of).collect()
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("data: a\n\n", vec!["a"]),
            ("data:a\r\n\r\n", vec!["a"]),
            ("data: a\rdata: b\r\r", vec!["a\nb"]),
            ("data:  a\n\n", vec![" a"]),
            ("data: {\ndata: }\n\n", vec!["{\n}"]),
            (": comment\ndata: a\n: another\n\n", vec!["a"]),
            ("id: 1\nretry: 10\nevent: message\ndata: a\n\n", vec!["a"]),
            ("event: ping\ndata: a\n\ndata: b\n\n", vec!["b"]),
            ("id: 1\ndata:\n\ndata: b\n\n", vec!["b"]),
            ("id: 1\n\ndata: b\n\n", vec!["b"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("data\ndata: x\n\n", vec!["\nx"]),
            ("unknown: field\ndata: a\n\n", vec!["a"]),
            ("data: never ended\n", vec![]),
            ("data: never ended", vec![]),
        ] {
            assert_eq!(messages(text), expected, "{text:?}");
        }
        assert_eq!(all(&[b": keep-alive\n\n"]), [Event::Alive]);
    }

    #[test]
    fn an_event_has_a_largest_size_however_it_is_cut_into_lines() {
        for text in ["data: 0123456789".to_owned(), "data: 0\n".repeat(8), ":".repeat(12), "\u{20}".repeat(12)] {
            assert_eq!(Parser::new(10).read(text.as_bytes(), &mut Vec::new()), Err(TooLarge), "{text:?}");
        }
        let mut events = Vec::new();
        assert_eq!(Parser::new(10).read("data: 1\n\n".repeat(100).as_bytes(), &mut events), Ok(()));
        assert_eq!(events.len(), 100);
    }

    proptest::proptest! {
        #[test]
        fn how_a_stream_is_cut_does_not_matter(
            text in "((data|event|id|retry|:|x)(: ?)?[a-z:\u{e9}]{0,3}(\r|\n|\r\n)|\r|\n|\r\n){0,20}",
            cuts in proptest::collection::vec(proptest::num::usize::ANY, 0..8)
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            proptest::prop_assert_eq!(all(&chunks), all(&[bytes]));
        }

        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            let _ = Parser::new(100).read(&bytes, &mut Vec::new());
        }
    }
}
