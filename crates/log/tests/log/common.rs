//! A log in memory, stored as C2SP lays it out.

use std::collections::BTreeMap;

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::files::{Files, Unreadable};
use bailiwick_log::note::Ed25519Signer;
use bailiwick_log::tile::{self, Edge, Holds, TilePath};
use bailiwick_log::tree::Hash;

pub(crate) const ORIGIN: &str = "log.example/audit";

pub(crate) fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed(ORIGIN, &[42; 32]).unwrap()
}

#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) edge: Edge,
    bundle: Vec<u8>,
}

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(self.files.get(path).cloned())
    }

    fn list(&self) -> Result<Option<Vec<String>>, Unreadable> {
        Ok(Some(self.files.keys().cloned().collect()))
    }
}

impl Memory {
    /// A log of these entries with a checkpoint over all of them.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a Vec<u8>>) -> Self {
        let mut log = Self::default();
        log.publish();
        log.grow(entries);
        log
    }

    /// Adds entries and publishes once.
    pub(crate) fn grow<'a>(&mut self, entries: impl IntoIterator<Item = &'a Vec<u8>>) {
        for entry in entries {
            assert!(tile::encode_entry(entry, &mut self.bundle));
            let files = &mut self.files;
            self.edge.push(Hash::of_entry(entry), |path, hashes| {
                files.insert(path.to_string(), tile::encode_hashes(hashes));
            });
            if self.edge.size().is_multiple_of(tile::WIDTH) {
                let path = TilePath { holds: Holds::Entries, index: self.edge.size() / tile::WIDTH - 1, width: 256 };
                self.files.insert(path.to_string(), std::mem::take(&mut self.bundle));
            }
        }
        self.publish();
    }

    pub(crate) fn publish(&mut self) {
        for (path, hashes) in self.edge.partials() {
            self.files.insert(path.to_string(), tile::encode_hashes(hashes));
        }
        if !self.bundle.is_empty() {
            let path = TilePath { holds: Holds::Entries, index: self.edge.size() / 256, width: (self.edge.size() % 256) as u16 };
            self.files.insert(path.to_string(), self.bundle.clone());
        }
        self.files.insert("checkpoint".to_owned(), self.checkpoint().sign(&signer()).unwrap().to_string().into_bytes());
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: ORIGIN.to_owned(), size: self.edge.size(), root: self.edge.root() }
    }
}

pub(crate) fn entries(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("entry {n}").into_bytes()).collect()
}
