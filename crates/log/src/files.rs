//! The files of a log as an auditor reads them, wherever they come from.

use std::cell::RefCell;

use crate::tile::{self, Holds, InvalidTile, TilePath};
use crate::tree::{self, Hash, Nodes, OutsideTree};

/// Reads the files of one log by their C2SP paths, `checkpoint` and `tile/…`. Implement it over a directory, a download, an archive.
pub trait Files: Sync {
    /// The file's bytes, or `None` where there is no such file.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable>;

    /// The paths of all files, or `None` where they cannot be listed. Only a listing shows files that should not be there.
    fn list(&self) -> Result<Option<Vec<String>>, Unreadable> {
        Ok(None)
    }

    /// Does `work` for each number below `count`, one after the other. A reader that has threads may do them at once, since
    /// nothing is taken from their order; each has been done when this returns.
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }
}

/// A file could not be read, which says nothing about what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot be read: {why}")]
pub struct Unreadable {
    /// The file.
    pub path: String,
    /// Why, in the reader's words.
    pub why: String,
}

/// Why a tile does not give what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// It could not be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is not there.
    #[error("`{0}` is missing")]
    Missing(TilePath),
    /// It is there and is no tile.
    #[error("`{path}`: {why}")]
    Invalid {
        /// The tile.
        path: TilePath,
        /// What is wrong with it.
        why: InvalidTile,
    },
    /// The tree does not reach so far.
    #[error(transparent)]
    Outside(#[from] OutsideTree),
}

/// The tiles of the tree with a certain size.
///
/// As [`Nodes`] it remembers the tile it read last, which makes a proof cost one read a tile.
pub struct Tiles<'a, F: ?Sized> {
    files: &'a F,
    size: u64,
    last: RefCell<Option<(TilePath, Vec<Hash>)>>,
}

impl<'a, F: Files + ?Sized> Tiles<'a, F> {
    /// The tiles in `files` for the tree of `size` entries.
    pub const fn new(files: &'a F, size: u64) -> Self {
        Self { files, size, last: RefCell::new(None) }
    }

    /// The hashes in the tile that holds number `at` of this level.
    pub fn hashes(&self, level: u8, at: u64) -> Result<(TilePath, Vec<Hash>), TileError> {
        let level_size = self.size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let path = TilePath::holding(Holds::Hashes(level), at, level_size).ok_or(OutsideTree { asked: at, size: level_size })?;
        let (read, bytes) = self.bytes(path)?;
        let mut hashes = tile::decode_hashes(&bytes, read.width).map_err(|why| TileError::Invalid { path: read, why })?;
        hashes.truncate(path.width.into());
        Ok((path, hashes))
    }

    /// The entries in the bundle that holds the entry at `position`.
    pub fn entries(&self, position: u64) -> Result<(TilePath, Vec<Vec<u8>>), TileError> {
        let path = TilePath::holding(Holds::Entries, position, self.size).ok_or(OutsideTree { asked: position, size: self.size })?;
        let (read, bytes) = self.bytes(path)?;
        let entries = tile::decode_entries(&bytes, read.width).map_err(|why| TileError::Invalid { path: read, why })?;
        Ok((path, entries.into_iter().take(path.width.into()).map(<[u8]>::to_vec).collect()))
    }

    /// The leaf hashes of the entries in the bundle that holds the entry at `position`.
    pub fn leaves(&self, position: u64) -> Result<(TilePath, Vec<Hash>), TileError> {
        let path = TilePath::holding(Holds::Entries, position, self.size).ok_or(OutsideTree { asked: position, size: self.size })?;
        let (read, bytes) = self.bytes(path)?;
        let entries = tile::decode_entries(&bytes, read.width).map_err(|why| TileError::Invalid { path: read, why })?;
        Ok((path, entries.into_iter().take(path.width.into()).map(Hash::of_entry).collect()))
    }

    /// The tile's bytes; those of the full one where the partial one is gone (C2SP tlog-tiles, "Partial Tiles").
    fn bytes(&self, path: TilePath) -> Result<(TilePath, Vec<u8>), TileError> {
        if let Some(bytes) = self.files.read(&path.to_string())? {
            return Ok((path, bytes));
        }
        let full = path.full();
        match if path.is_full() { None } else { self.files.read(&full.to_string())? } {
            Some(bytes) => Ok((full, bytes)),
            None => Err(TileError::Missing(path)),
        }
    }
}

impl<F: Files + ?Sized> Nodes for Tiles<'_, F> {
    type Error = TileError;

    fn node(&self, level: u32, index: u64) -> Result<Hash, TileError> {
        let (tile_level, below) = ((level / 8) as u8, level % 8);
        let at = index << below;
        let (number, start) = (at / tile::WIDTH, (at % tile::WIDTH) as usize);
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(path, _)| (path.holds, path.index) != (Holds::Hashes(tile_level), number)) {
            *last = Some(self.hashes(tile_level, at)?);
        }
        let hashes = last.as_ref().and_then(|(_, hashes)| hashes.get(start..start + (1 << below)));
        hashes.map(tree::root).ok_or_else(|| OutsideTree { asked: at, size: self.size }.into())
    }
}
