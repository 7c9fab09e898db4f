//! A stream of bytes apart at its events.
//!
//! What CloudTrail delivers is one object, `{"Records":[…]}`, on one line, however long; other tools write a list, or an event a line.
//! All are read as they come, in memory of one event.

use super::super::rules::event::EVENT_BYTES_MAX;

/// What a stream holds, piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The text of one event, or of another object in its place.
    Event(&'a [u8]),
    /// An event that is too long to be one, which was skipped: where it began.
    TooLong(u64),
}

/// Why a stream ended before its time or is no stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It ends in the middle of an event, or of what holds the events.
    #[error("it ends in the middle: {events} events are whole, and what began at byte {at} is not")]
    Ends {
        /// How many events came before.
        events: u64,
        /// Where what is not whole begins.
        at: u64,
    },
    /// Something stands where an event should begin.
    #[error("there is no event at byte {at}, after {events} that are whole; what comes after it was not read")]
    NoEvent {
        /// How many events came before.
        events: u64,
        /// Where.
        at: u64,
    },
}

/// Takes a stream apart.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    state: State,
    /// What the list is called that an object may hold its events in.
    list_name: &'static str,
    /// The list that events stand in, where they stand in one.
    list: Option<List>,
    in_string: bool,
    is_escaped: bool,
    /// What has come of the object that is being read.
    held: Vec<u8>,
    is_too_long: bool,
    /// Where in `held` the last string among the members of the outermost object began, and whether a colon came after it.
    name: Option<(usize, bool)>,
    /// How many bytes came before those that are being read.
    at: u64,
    /// Where the object, or the list, that is being read began.
    began: u64,
    events: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before an event, or after the last.
    #[default]
    Between,
    /// In an object, under so many brackets.
    Object(u32),
    /// After the list of `Records`, in the object that holds it, under so many brackets.
    Behind(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    /// The stream is a list.
    Itself,
    /// The member `Records` of the outermost object.
    Records,
}

impl Splitter {
    /// A stream of CloudTrail's events of which nothing has come.
    pub fn new() -> Self {
        Self::of_list("Records")
    }

    /// A stream whose events may stand in a list of this name.
    pub fn of_list(name: &'static str) -> Self {
        Self { list_name: name, ..Self::default() }
    }

    /// Reads on, and hands out each event that is whole. Fails at what is no event; do not push more after that.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Piece<'_>)) -> Result<(), Broken> {
        // Where in `bytes` that begins which is of the object and is not held yet.
        let mut from = 0;
        let mut place = 0;
        while let Some(byte) = bytes.get(place).copied() {
            if self.in_string {
                place = self.pass_string(bytes, place);
                continue;
            }
            match (self.state, byte) {
                (State::Between, b' ' | b'\t' | b'\r' | b'\n' | b',') => {}
                (State::Between, b'{') => {
                    self.begin(place);
                    from = place;
                }
                (State::Between, b'[') if self.list.is_none() => {
                    (self.list, self.began) = (Some(List::Itself), self.at + place as u64);
                }
                (State::Between, b']') => match self.list {
                    Some(List::Itself) => self.list = None,
                    Some(List::Records) => self.state = State::Behind(1),
                    None => return self.broken(place),
                },
                (State::Between, _) => return self.broken(place),
                (State::Object(1), b'[') if self.list.is_none() && self.is_records(bytes.get(from..place).unwrap_or_default()) => {
                    (self.list, self.state) = (Some(List::Records), State::Between);
                }
                (State::Object(depth), b'{' | b'[') => self.state = State::Object(depth.saturating_add(1)),
                (State::Object(1), b'}' | b']') => {
                    self.state = State::Between;
                    self.hand_out(bytes.get(from..=place).unwrap_or_default(), &mut take);
                }
                (State::Object(depth), b'}' | b']') => self.state = State::Object(depth - 1),
                (State::Object(depth), b'"') => {
                    self.in_string = true;
                    if depth == 1 && self.list.is_none() {
                        self.name = Some((self.held.len() + place - from, false));
                    }
                }
                (State::Object(1), b':') => self.name = self.name.map(|(at, _)| (at, true)),
                (State::Object(1), b',') => self.name = None,
                (State::Behind(_), b'"') => self.in_string = true,
                (State::Behind(depth), b'{' | b'[') => self.state = State::Behind(depth.saturating_add(1)),
                (State::Behind(1), b'}' | b']') => (self.list, self.state) = (None, State::Between),
                (State::Behind(depth), b'}' | b']') => self.state = State::Behind(depth - 1),
                (State::Object(_) | State::Behind(_), _) => {}
            }
            place += 1;
        }
        self.at += bytes.len() as u64;
        if let State::Object(_) = self.state {
            self.hold(bytes.get(from..).unwrap_or_default());
        }
        Ok(())
    }

    /// Says whether the stream ended where it may, between events, and how many there were.
    pub fn end(self) -> Result<u64, Broken> {
        match (self.state, self.list) {
            (State::Between, None) => Ok(self.events),
            _ => Err(Broken::Ends { events: self.events, at: self.began }),
        }
    }

    fn begin(&mut self, place: usize) {
        (self.state, self.began, self.is_too_long, self.name) = (State::Object(1), self.at + place as u64, false, None);
        self.held.clear();
    }

    /// Passes over the inside of a string, up to its end or that of `bytes`; where to go on.
    fn pass_string(&mut self, bytes: &[u8], from: usize) -> usize {
        let mut place = from;
        if std::mem::take(&mut self.is_escaped) {
            place += 1;
        }
        loop {
            let rest = bytes.get(place..).unwrap_or_default();
            let Some(found) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else { return bytes.len() };
            place += found;
            if bytes.get(place) == Some(&b'"') {
                self.in_string = false;
                return place + 1;
            }
            place += 2;
            if place > bytes.len() {
                self.is_escaped = true;
                return bytes.len();
            }
        }
    }

    /// Whether the list that begins behind `rest` is the member of the outermost object that holds the events.
    fn is_records(&self, rest: &[u8]) -> bool {
        let Some((at, true)) = self.name.filter(|_| !self.is_too_long) else { return false };
        let text: Vec<u8> = self.held.iter().chain(rest).skip(at).copied().collect();
        let behind = text
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_prefix(self.list_name.as_bytes()))
            .and_then(|rest| rest.strip_prefix(b"\""));
        behind.is_some_and(|rest| rest.iter().all(|byte| byte.is_ascii_whitespace() || *byte == b':'))
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.is_too_long |= self.held.len() + bytes.len() > EVENT_BYTES_MAX;
        if self.is_too_long {
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    fn hand_out(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        if self.is_too_long || self.held.len() + rest.len() > EVENT_BYTES_MAX {
            return take(Piece::TooLong(self.began));
        }
        self.events += 1;
        if self.held.is_empty() {
            take(Piece::Event(rest));
        } else {
            self.held.extend_from_slice(rest);
            take(Piece::Event(&self.held));
        }
    }

    fn broken(&self, place: usize) -> Result<(), Broken> {
        Err(Broken::NoEvent { events: self.events, at: self.at + place as u64 })
    }
}
