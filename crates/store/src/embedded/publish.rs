//! Publishing: from entries that are on disk to tiles and a signed checkpoint, behind the appends.
//!
//! The order is what keeps the log from ever contradicting itself: entries are in the pending file, then the tiles that hold
//! them are on disk, then the checkpoint is signed, then it is on disk, then the pending file is let go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::Signer;
use bailiwick_log::tile::{self, Edge, Entries, Holds, TilePath};
use bailiwick_log::tree::Hash;

use super::pending::Batch;
use crate::disk::Disk;
use crate::files::{Unsynced, replace};

/// Builds the tree and publishes it. After an error it must not be used again.
pub(super) struct Publisher {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    signer: Arc<dyn Signer>,
    edge: Edge,
    /// The unfinished entry bundle.
    bundle: Vec<u8>,
    unsynced: Unsynced,
    /// The partial tiles of the newest checkpoint; they may go when the full ones are published.
    partials: Vec<TilePath>,
}

impl Publisher {
    /// Goes on from a log whose newest checkpoint has the tree that `edge` is the edge of.
    pub(super) fn new(disk: Arc<dyn Disk>, directory: &Path, signer: Arc<dyn Signer>, edge: Edge, bundle: Vec<u8>) -> Self {
        let mut publisher = Self {
            unsynced: Unsynced::new(Arc::clone(&disk), directory.to_owned()),
            disk,
            directory: directory.to_owned(),
            signer,
            edge,
            bundle,
            partials: Vec::new(),
        };
        publisher.partials = publisher.partials_now();
        publisher
    }

    /// Takes in the entries of `batch`. What the tree has already is passed over.
    pub(super) fn add(&mut self, batch: &Batch) -> io::Result<()> {
        let known = self.edge.size().saturating_sub(batch.first);
        for entry in Entries::new(batch.entries()).skip(usize::try_from(known).unwrap_or(usize::MAX)) {
            let entry = entry.map_err(|_| io::Error::other("a batch holds a cut entry"))?;
            tile::encode_entry(entry, &mut self.bundle);
            let mut full = Vec::new();
            self.edge.push(Hash::of_entry(entry), |path, hashes| full.push((path, tile::encode_hashes(hashes))));
            if full.is_empty() {
                continue;
            }
            let bundle = std::mem::take(&mut self.bundle);
            let index = self.edge.size() / tile::WIDTH - 1;
            full.push((TilePath { holds: Holds::Entries, index, width: tile::WIDTH as u16 }, bundle));
            for (path, bytes) in full {
                self.unsynced.write(&path.to_string(), &bytes)?;
            }
        }
        Ok(())
    }

    /// Publishes all that was added: partial tiles, then, with every tile on disk, the checkpoint. Returns its size.
    pub(super) fn publish(&mut self) -> io::Result<u64> {
        // What the newest checkpoint covers stays as it is: a crash amid writing it again could take it away.
        for (path, hashes) in self.edge.partials().filter(|(path, _)| !self.partials.contains(path)) {
            self.unsynced.write(&path.to_string(), &tile::encode_hashes(hashes))?;
        }
        if let Some(path) = self.bundle_path().filter(|path| !self.partials.contains(path)) {
            self.unsynced.write(&path.to_string(), &self.bundle)?;
        }
        self.unsynced.sync()?;
        let checkpoint = Checkpoint { origin: self.signer.verifier().name().to_owned(), size: self.edge.size(), root: self.edge.root() };
        let note = checkpoint.sign(&*self.signer).map_err(io::Error::other)?;
        replace(&*self.disk, &self.directory.join("checkpoint"), note.to_string().as_bytes())?;

        let partials = self.partials_now();
        let before = std::mem::replace(&mut self.partials, partials);
        for finished in
            before.iter().filter(|before| !self.partials.iter().any(|now| (now.holds, now.index) == (before.holds, before.index)))
        {
            // Only room is lost if this fails: partial tiles may stay.
            let _ = self.disk.remove_directory(&self.directory.join(finished.partials()));
        }
        Ok(self.edge.size())
    }

    fn partials_now(&self) -> Vec<TilePath> {
        self.edge.partials().map(|(path, _)| path).chain(self.bundle_path()).collect()
    }

    fn bundle_path(&self) -> Option<TilePath> {
        let size = self.edge.size();
        TilePath::holding(Holds::Entries, size.checked_sub(1)?, size).filter(|path| !path.is_full())
    }
}
