//! Checkpoints: signed statements of how many entries a log holds and what their root is (C2SP tlog-checkpoint).

use std::fmt;

use crate::note::{InvalidNote, Note, Signer, SigningFailed, VerifierKey};
use crate::tree::Hash;

/// What a checkpoint states. Its text is what [`fmt::Display`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many entries it holds.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a checkpoint is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheckpoint {
    /// It is no signed note, or nobody trusted signed it.
    #[error(transparent)]
    Note(#[from] InvalidNote),
    /// Its text is not that of a checkpoint.
    #[error("the signed text is not a checkpoint (C2SP tlog-checkpoint)")]
    Format,
    /// It is of another log.
    #[error("the checkpoint is of the log `{found}`, and the key is that of `{expected}`")]
    Origin {
        /// The log that was meant.
        expected: String,
        /// The log that the checkpoint names.
        found: String,
    },
}

impl Checkpoint {
    /// Signs it. Whoever calls this promises that the state it speaks of is on disk, and that no other of the same log contradicts it.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Note, SigningFailed> {
        Note::sign(self.to_string(), signer)
    }

    /// The checkpoint in `note`, which `key` must have signed and whose name must be the log's origin.
    pub fn verify(note: &Note, key: &VerifierKey) -> Result<Self, InvalidCheckpoint> {
        let checkpoint = Self::from_text(note.verify(std::slice::from_ref(key))?).ok_or(InvalidCheckpoint::Format)?;
        if checkpoint.origin != key.name() {
            return Err(InvalidCheckpoint::Origin { expected: key.name().to_owned(), found: checkpoint.origin });
        }
        Ok(checkpoint)
    }

    /// Parses and verifies the bytes of a checkpoint file.
    pub fn open(bytes: &[u8], key: &VerifierKey) -> Result<Self, InvalidCheckpoint> {
        Self::verify(&Note::parse(bytes)?, key)
    }

    /// Extension lines are allowed and say nothing to us.
    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let origin = lines.next()?.to_owned();
        let digits = lines.next()?;
        let size: u64 = digits.parse().ok()?;
        let root = Hash::from_base64(lines.next()?)?;
        let canonical = size.to_string() == digits && !origin.is_empty() && lines.all(|line| !line.is_empty());
        canonical.then_some(Self { origin, size, root })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Ed25519Signer;

    #[test]
    fn a_checkpoint_reads_back_and_no_other_text_is_one() {
        let signer = Ed25519Signer::from_seed("log.example/audit", &[3; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "log.example/audit".to_owned(), size: 70_000, root: Hash::of_entry(b"x") };
        let note = checkpoint.sign(&signer).unwrap();
        assert_eq!(Checkpoint::open(note.to_string().as_bytes(), signer.verifier()), Ok(checkpoint.clone()));

        let root = checkpoint.root;
        let signed = |text: String| Checkpoint::verify(&Note::sign(text, &signer).unwrap(), signer.verifier());
        assert_eq!(signed(format!("log.example/audit\n70000\n{root}\nextension\n")), Ok(checkpoint));
        for text in [
            "log.example/audit\n".to_owned(),
            format!("log.example/audit\n070000\n{root}\n"),
            format!("log.example/audit\n+70000\n{root}\n"),
            format!("log.example/audit\n70000\n{root}\n\n"),
            format!("log.example/audit\n70000\n{root}A\n"),
            "log.example/audit\n70000\nAAAA\n".to_owned(),
            format!("\n70000\n{root}\n"),
        ] {
            assert_eq!(signed(text.clone()), Err(InvalidCheckpoint::Format), "{text}");
        }
        let other = InvalidCheckpoint::Origin { expected: "log.example/audit".to_owned(), found: "other".to_owned() };
        assert_eq!(signed(format!("other\n1\n{root}\n")), Err(other));
    }
}
