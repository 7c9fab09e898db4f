//! A kept state: what was made of the log's first records, as a file, so that a start need not read those again. The format is in
//! `docs/spec/detection.md`.

use bailiwick_log::tree::Hash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// The first line. What means something else begins with another.
const FORMAT: &str = "bailiwick watch 1\n";

/// The length of the last line: a digest and a newline.
const SEAL: usize = "sha256:".len() + 64 + 1;

/// A kept state that was read whole.
#[derive(Debug, Deserialize)]
pub struct Kept<S> {
    root: String,
    state: S,
}

#[derive(Serialize)]
struct Borrowed<'a, S> {
    root: String,
    state: &'a S,
}

impl<S> Kept<S> {
    /// The state, of which nobody has said yet that it is of this log.
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// The state, if this is the root of the tree over the records that were folded into it.
    pub fn of_tree(self, root: &Hash) -> Option<S> {
        (self.root == root.to_string()).then_some(self.state)
    }
}

impl<S: DeserializeOwned> Kept<S> {
    /// Reads what [`keep`] wrote; nothing of anything else, nor where a single byte was changed or is missing.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (text, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
        if seal != format!("{}\n", Digest::of(text)).as_bytes() {
            return None;
        }
        serde_json::from_slice(text.strip_prefix(FORMAT.as_bytes())?).ok()
    }
}

/// Writes `state`; `root` is the root of the tree over the records that were folded into it.
pub fn keep<S: Serialize>(state: &S, root: &Hash) -> Vec<u8> {
    let mut text = FORMAT.as_bytes().to_vec();
    // What cannot be written is read by nobody: the next start learns from the log.
    if serde_json::to_writer(&mut text, &Borrowed { root: root.to_string(), state }).is_err() {
        text.clear();
    }
    text.push(b'\n');
    let seal = format!("{}\n", Digest::of(&text));
    text.extend_from_slice(seal.as_bytes());
    text
}
