//! What happened in a run, in order, and one number for all of it: the same seed must give the same number.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// A run's story. Clones tell the same one.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    began: Instant,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug)]
struct Told {
    digest: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// The story of a world that began at `began`; its lines are kept only where someone will read them.
    pub(crate) fn new(began: Instant, keeps_lines: bool) -> Self {
        Self { began, told: Arc::new(Mutex::new(Told { digest: 0xCBF2_9CE4_8422_2325, lines: keeps_lines.then(Vec::new) })) }
    }

    /// Tells one thing.
    pub(crate) fn tell(&self, what: impl Display) {
        let line = format!("{:>8} ms  {what}", self.began.elapsed().as_millis());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // FNV-1a.
        told.digest = line.bytes().fold(told.digest, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        if let Some(lines) = &mut told.lines {
            lines.push(line);
        }
    }

    /// One number for all that was told.
    pub(crate) fn digest(&self) -> u64 {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).digest
    }

    /// The lines, where they were kept.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).lines.clone().unwrap_or_default()
    }
}
