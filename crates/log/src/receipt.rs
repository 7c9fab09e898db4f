//! Receipts: what proves offline that one entry is in a log (C2SP tlog-proof).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, InvalidCheckpoint};
use crate::files::{Files, TileError, Tiles, Unreadable};
use crate::note::{Note, VerifierKey};
use crate::tree::{self, Hash, InvalidProof};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A proof of 2^64 entries has no more hashes than this.
const PROOF_MAX: usize = 64;

/// The place of an entry, the way from it to the root, and a checkpoint with that root. Its text is what [`fmt::Display`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    index: u64,
    proof: Vec<Hash>,
    extra: Option<Vec<u8>>,
    checkpoint: Note,
}

/// A text that is no [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a receipt (C2SP tlog-proof): {0}")]
pub struct MalformedReceipt(&'static str);

/// Why a receipt proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReceipt {
    /// The checkpoint in it is not to be believed.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// The entry is not where the receipt says, or is another one.
    #[error("the receipt is not for this entry: {0}")]
    Proof(#[from] InvalidProof),
}

/// Why no receipt can be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The entry is not under the newest checkpoint.
    #[error("the newest checkpoint covers {size} entries, and not yet number {position}; a checkpoint follows an entry within seconds")]
    NotCovered {
        /// The entry that was asked for.
        position: u64,
        /// How many entries are covered.
        size: u64,
    },
    /// There is no checkpoint.
    #[error("there is no checkpoint here: this is not a log")]
    NoCheckpoint,
    /// The checkpoint is not to be believed.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// The tiles are incomplete.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The tiles and entries do not lead to the root that was signed.
    #[error("the stored log does not lead to the root of its checkpoint; verify the whole log to see where")]
    Damaged,
}

impl From<Unreadable> for ProveError {
    fn from(error: Unreadable) -> Self {
        Self::Tile(error.into())
    }
}

impl Receipt {
    /// Proves the entry at `position` from the files of a log. What is returned verifies: a damaged log gives none.
    pub fn prove(files: &(impl Files + ?Sized), position: u64, key: &VerifierKey) -> Result<Self, ProveError> {
        let bytes = files.read("checkpoint")?.ok_or(ProveError::NoCheckpoint)?;
        let note = Note::parse(&bytes).map_err(InvalidCheckpoint::from)?;
        let checkpoint = Checkpoint::verify(&note, key)?;
        if position >= checkpoint.size {
            return Err(ProveError::NotCovered { position, size: checkpoint.size });
        }
        let tiles = Tiles::new(files, checkpoint.size);
        let proof = tree::prove_inclusion(&tiles, position, checkpoint.size)?;
        let (path, entries) = tiles.entries(position)?;
        let entry = entries.get((position - path.index * crate::tile::WIDTH) as usize).ok_or(ProveError::Damaged)?;
        let receipt = Self { index: position, proof, extra: None, checkpoint: note };
        receipt.verify(entry, key).map_err(|_| ProveError::Damaged)?;
        Ok(receipt)
    }

    /// The place that the receipt claims for its entry; true only once it is verified.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Data that somebody put beside the proof. Nothing authenticates it.
    pub fn extra(&self) -> Option<&[u8]> {
        self.extra.as_deref()
    }

    /// The same receipt with `extra` beside the proof.
    #[must_use]
    pub fn with_extra(self, extra: Vec<u8>) -> Self {
        Self { extra: Some(extra), ..self }
    }

    /// Checks that `entry` is in the log whose key is `key`, in the place that the receipt says. Returns the checkpoint that
    /// it is under.
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, InvalidReceipt> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, key)?;
        tree::verify_inclusion(&Hash::of_entry(entry), self.index, checkpoint.size, &self.proof, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for Receipt {
    type Err = MalformedReceipt;

    fn from_str(text: &str) -> Result<Self, MalformedReceipt> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(MalformedReceipt("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(MalformedReceipt("the first line is not that of a receipt"));
        }
        let mut line = lines.next();
        let extra = match line.and_then(|line| line.strip_prefix("extra ")) {
            Some(extra) => {
                line = lines.next();
                Some(STANDARD.decode(extra).map_err(|_| MalformedReceipt("the extra data is not base64"))?)
            }
            None => None,
        };
        let digits = line.and_then(|line| line.strip_prefix("index ")).ok_or(MalformedReceipt("there is no index"))?;
        let index: u64 = digits.parse().map_err(|_| MalformedReceipt("the index is not a number"))?;
        if index.to_string() != digits {
            return Err(MalformedReceipt("the index is not written as a number is"));
        }
        let proof: Vec<Hash> = lines.map(Hash::from_base64).collect::<Option<_>>().ok_or(MalformedReceipt("a line is not a hash"))?;
        if proof.len() > PROOF_MAX {
            return Err(MalformedReceipt("it has more hashes than any proof"));
        }
        let checkpoint = Note::parse(checkpoint.as_bytes()).map_err(|_| MalformedReceipt("its checkpoint is not a signed note"))?;
        Ok(Self { index, proof, extra, checkpoint })
    }
}
