//! The kept baselines: what was learned of the log's first records, as a file, so that a start need not read those again. The format is
//! in `docs/spec/detection.md`.

use bailiwick_log::tree::Hash;
use serde::{Deserialize, Serialize};

use super::fold::Baselines;
use crate::model::Digest;

/// The first line. What means something else begins with another.
const FORMAT: &str = "bailiwick baselines 1\n";

/// The length of the last line: a digest and a newline.
const SEAL: usize = "sha256:".len() + 64 + 1;

/// Kept baselines that were read whole.
#[derive(Debug)]
pub struct Kept {
    root: String,
    baselines: Baselines,
}

#[derive(Deserialize)]
struct Line {
    root: String,
    baselines: Baselines,
}

#[derive(Serialize)]
struct Borrowed<'a> {
    root: String,
    baselines: &'a Baselines,
}

impl Kept {
    /// Reads what [`Baselines::keep`] wrote; nothing of anything else, nor where a single byte was changed or is missing.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (text, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
        if seal != format!("{}\n", Digest::of(text)).as_bytes() {
            return None;
        }
        let Line { root, baselines } = serde_json::from_slice(text.strip_prefix(FORMAT.as_bytes())?).ok()?;
        Some(Self { root, baselines })
    }

    /// The baselines, if this is the root of the tree over the records that were folded into them.
    pub fn of_tree(self, root: &Hash) -> Option<Baselines> {
        (self.root == root.to_string()).then_some(self.baselines)
    }

    /// How many records were folded.
    pub const fn records(&self) -> u64 {
        self.baselines.next().0
    }
}

impl Baselines {
    /// Writes all that was learned; `root` is the root of the tree over the records before [`Baselines::next`].
    pub fn keep(&self, root: &Hash) -> Vec<u8> {
        let mut text = FORMAT.as_bytes().to_vec();
        let line = Borrowed { root: root.to_string(), baselines: self };
        // What cannot be written is read by nobody: the next start learns from the log.
        if serde_json::to_writer(&mut text, &line).is_err() {
            text.clear();
        }
        text.push(b'\n');
        let seal = format!("{}\n", Digest::of(&text));
        text.extend_from_slice(seal.as_bytes());
        text
    }
}
