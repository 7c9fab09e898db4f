//! The file in which one gateway keeps its fold of the log, and what can befall it. No dice are thrown for it: what happens to it
//! turns on how often it was written.

use std::io;
use std::sync::{Mutex, PoisonError};

use bailiwick_core::model::Digest;
use bailiwick_gateway::recover::Shelf;

use crate::plan::Planted;

/// A fold is kept after so few records that most starts find one.
pub(crate) const KEPT_EVERY: u64 = 6;

/// The file.
#[derive(Debug)]
pub(crate) struct Folds {
    state: Mutex<State>,
    /// What of it is changed and sealed again, as if the fold had been wrong.
    planted: Option<Planted>,
}

impl Folds {
    pub(crate) fn new(planted: Option<Planted>) -> Self {
        Self { state: Mutex::default(), planted }
    }
}

#[derive(Debug, Default)]
struct State {
    written: usize,
    kept: Option<Vec<u8>>,
}

impl Shelf for Folds {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).kept.clone())
    }

    fn write(&self, fold: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.written = state.written.wrapping_add(1);
        let mut fold = fold.to_vec();
        match self.planted {
            Some(Planted::FoldForgets) => fold = sealed(&text(&fold).replace("\"untrusted\"", "\"trusted\"")),
            Some(Planted::FoldForgetsWrites) => {
                let lines = text(&fold);
                fold = sealed(&lines.split_inclusive('\n').filter(|line| !line.starts_with("{\"written\"")).collect::<String>());
            }
            Some(Planted::FoldForgetsChains) => fold = sealed(&without_chains(&text(&fold))),
            Some(Planted::FoldForgetsQuarantines) => {
                let lines = text(&fold);
                fold = sealed(&lines.split_inclusive('\n').filter(|line| !line.starts_with("{\"quarantined\"")).collect::<String>());
            }
            _ => {}
        }
        match state.written % 8 {
            // An older one stays.
            3 => return Err(io::Error::other("the disk is full")),
            5 => fold.truncate(fold.len() / 2),
            7 => {
                let middle = fold.len() / 2;
                fold.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
            }
            _ => {}
        }
        state.kept = Some(fold);
        Ok(())
    }
}

/// The lines of a fold but for its seal.
fn text(fold: &[u8]) -> String {
    let text = String::from_utf8_lossy(fold);
    text.trim_end().rsplit_once('\n').map_or_else(String::new, |(text, _)| format!("{text}\n"))
}

/// The lines of a fold whose executions were delegated by nobody.
fn without_chains(lines: &str) -> String {
    let without = |line: &str| {
        let (before, rest) = line.split_once("\"chain\":[")?;
        let (_, after) = rest.split_once("],\"grant\"")?;
        Some(format!("{before}\"grant\"{after}"))
    };
    lines.split_inclusive('\n').map(|line| without(line).unwrap_or_else(|| line.to_owned())).collect()
}

fn sealed(text: &str) -> Vec<u8> {
    format!("{text}{}\n", Digest::of(text.as_bytes())).into_bytes()
}
