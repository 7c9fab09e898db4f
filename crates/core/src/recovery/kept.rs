//! The kept fold: what was folded of the log's first records, as a file, so that a start need not read them again.
//!
//! It says how many records it is of, the root of the tree over them, and by which histories they were counted; whoever
//! resumes from it must find all three as they are now. The format is in `docs/spec/fold.md`.

use bailiwick_log::Position;
use bailiwick_log::tree::Hash;
use serde::{Deserialize, Serialize};

use super::{Open, Recovery};
use crate::execution::KeptExecution;
use crate::flow::Written;
use crate::ledger::{History, Tracks};
use crate::model::{AgentName, Cautioned, Digest, ExecutionId, Quarantined, ServerName, Signal, Timestamp};
use crate::signals::HeardOf;
use crate::tasks::Half;

/// The first line. A fold that means something else begins with another.
const FORMAT: &str = "bailiwick fold 2\n";

/// The length of the last line: a digest and a newline.
const SEAL: usize = "sha256:".len() + 64 + 1;

/// A kept fold that was read whole.
#[derive(Debug)]
pub struct Kept {
    head: Head,
    items: Vec<Item>,
}

/// Why bytes are no kept fold.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// They are of another format.
    #[error("it is of another format")]
    Format,
    /// Bytes are missing or changed.
    #[error("it is damaged")]
    Damaged,
    /// A line is not what it should be.
    #[error("line {line} is not understood: {error}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// The first record that was folded.
    first: Position,
    /// The record after the last that was folded.
    next: Position,
    /// The root of the tree over all records before `next`.
    root: String,
    histories: Digest,
    /// When the last of the records was written.
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Execution(Box<KeptExecution>),
    /// The id of a revoked execution, and the second after which nothing of it is valid.
    Revoked(ExecutionId, u32),
    Agent(AgentName, Tracks),
    Quarantined(Quarantined),
    Cautioned(Cautioned),
    /// Since when the tokens of a person, or of all people, were issued that may still be acted on.
    Barred(Option<String>, Timestamp),
    /// A task or a context of another agent, and its owner.
    Task(Half, Half),
    /// A signal of a transmitter that was acted on or is held.
    Heard(String, HeardOf),
    /// A signal that waits for a person, and the place of its record.
    Held(Position, Signal),
    Written(ServerName, Written),
    /// An allowed call without an end, the place of its intent, and the next free one in its execution's stream.
    Open(Position, Open, u64),
}

impl Kept {
    /// Reads what [`Recovery::keep`] wrote. Fails on anything else, on a single changed or missing byte too.
    pub fn read(bytes: &[u8]) -> Result<Self, NotKept> {
        if !bytes.starts_with(FORMAT.as_bytes()) {
            return Err(NotKept::Format);
        }
        let (text, seal) = bytes.len().checked_sub(SEAL).and_then(|end| bytes.split_at_checked(end)).ok_or(NotKept::Damaged)?;
        if seal != self::seal(text).as_bytes() || text.last() != Some(&b'\n') {
            return Err(NotKept::Damaged);
        }
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').zip(1..).skip(1);
        let (head, _) = lines.next().ok_or(NotKept::Damaged)?;
        let head = serde_json::from_slice(head).map_err(|error| NotKept::Line { line: 2, error })?;
        let item = |(text, line)| serde_json::from_slice(text).map_err(|error| NotKept::Line { line, error });
        Ok(Self { head, items: lines.map(item).collect::<Result<_, _>>()? })
    }

    /// The first record that was folded.
    pub const fn first(&self) -> Position {
        self.head.first
    }

    /// Where folding goes on.
    pub const fn next(&self) -> Position {
        self.head.next
    }

    /// Whether this is the root of the tree over the records that were folded and those before them.
    pub fn is_of_tree(&self, root: &Hash) -> bool {
        self.head.root == root.to_string()
    }

    /// Whether the records were counted by these histories.
    pub fn is_of_histories(&self, histories: &[History]) -> bool {
        self.head.histories == digest(histories)
    }
}

impl<'a> Recovery<'a> {
    /// Goes on from where `kept` ends.
    pub fn resume(histories: &'a [History], kept: Kept) -> Self {
        let mut recovery = Self { resumed: true, last: Some(kept.head.at), ..Self::new(histories) };
        let mut revoked = Vec::new();
        for item in kept.items {
            match item {
                Item::Execution(execution) => recovery.executions.restore(*execution),
                Item::Revoked(id, expires_s) => revoked.push((id, expires_s)),
                Item::Written(server, written) => recovery.executions.restore_written(server, written),
                Item::Task(what, owner) => recovery.executions.tasks().restore(what, owner),
                Item::Heard(transmitter, heard) => recovery.executions.heard().restore(&transmitter, heard),
                Item::Held(position, signal) => recovery.executions.heard().hold(position, signal),
                // Whatever is folded on stands after it.
                Item::Quarantined(quarantined) => recovery.executions.heard_quarantine(kept.head.first, quarantined),
                Item::Cautioned(cautioned) => recovery.executions.heard_caution(kept.head.first, cautioned),
                Item::Barred(subject, at) => recovery.executions.restore_barred(subject.as_deref(), at),
                Item::Agent(agent, tracks) => recovery.executions.restore_tracks(&agent, tracks),
                Item::Open(position, open, next) => {
                    recovery.next.insert(open.execution, next);
                    recovery.open.insert(position, open);
                }
            }
        }
        recovery.executions.restore_revoked(revoked);
        recovery
    }

    /// Writes all that was folded from the record at `first` on up to that before `next`, where the tree's root is `root`. The
    /// same fold is always written in the same bytes.
    pub fn keep(&self, first: Position, next: Position, root: &Hash) -> Vec<u8> {
        let at = self.last.unwrap_or(Timestamp::UNIX_EPOCH);
        let head = Head { first, next, root: root.to_string(), histories: digest(self.histories), at };
        let mut text = FORMAT.as_bytes().to_vec();
        line(&head, &mut text);
        for execution in self.executions.kept() {
            line(&Item::Execution(Box::new(execution)), &mut text);
        }
        for (id, expires_s) in self.executions.kept_revoked() {
            line(&Item::Revoked(id, expires_s), &mut text);
        }
        for (agent, tracks) in self.executions.kept_tracks() {
            line(&Item::Agent(agent, tracks), &mut text);
        }
        for (what, owner) in self.executions.tasks().kept() {
            line(&Item::Task(what, owner), &mut text);
        }
        for (transmitter, heard) in self.executions.heard().kept() {
            line(&Item::Heard(transmitter, heard), &mut text);
        }
        for (position, signal) in self.executions.heard().held() {
            line(&Item::Held(position, signal), &mut text);
        }
        for quarantined in self.executions.kept_quarantined() {
            line(&Item::Quarantined(quarantined), &mut text);
        }
        for cautioned in self.executions.kept_cautioned() {
            line(&Item::Cautioned(cautioned), &mut text);
        }
        for (subject, at) in self.executions.kept_barred() {
            line(&Item::Barred(subject, at), &mut text);
        }
        for (server, written) in self.executions.kept_written() {
            line(&Item::Written(server, written), &mut text);
        }
        for (position, open) in &self.open {
            let next = self.next.get(&open.execution).copied().unwrap_or_default();
            line(&Item::Open(*position, open.clone(), next), &mut text);
        }
        let seal = seal(&text);
        text.extend_from_slice(seal.as_bytes());
        text
    }
}

/// Writes `value` as a line. Serialising these types cannot fail; if it did, the line would be empty and not be understood.
fn line(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
    }
    out.push(b'\n');
}

fn seal(text: &[u8]) -> String {
    format!("{}\n", Digest::of(text))
}

fn digest(histories: &[History]) -> Digest {
    let mut text = Vec::new();
    histories.iter().for_each(|history| line(history, &mut text));
    Digest::of(&text)
}
