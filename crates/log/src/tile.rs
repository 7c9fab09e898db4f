//! Tiles: the pieces in which the tree and its entries are stored, as C2SP tlog-tiles lays them out.
//!
//! A tile holds up to 256 hashes of one level (levels are 8 tree levels apart), an entry bundle up to 256 entries. What is
//! full never changes. [`Edge`] keeps the unfinished tiles at the right of a growing tree.

use std::fmt;
use std::str::FromStr;

use crate::tree::{self, Hash};

/// How many hashes or entries a full tile holds.
pub const WIDTH: u64 = 256;

/// The most bytes that an entry may have, since a bundle gives its length in 16 bits.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holds {
    /// Hashes of this level; 0 are the leaves.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// The place of one tile. Its path is what [`fmt::Display`] writes and [`FromStr`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    /// What it holds.
    pub holds: Holds,
    /// Its number within the level.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256; a tile below 256 is partial.
    pub width: u16,
}

/// A text that is no path of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the path of a tile (C2SP tlog-tiles)")]
pub struct InvalidTilePath;

/// Why a tile's bytes are not a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTile {
    /// The file does not hold as many hashes as its path says.
    #[error("it has {found} bytes and must have {expected}")]
    Size {
        /// The bytes that the path implies.
        expected: usize,
        /// The bytes that are there.
        found: usize,
    },
    /// An entry's length runs past the end of the bundle.
    #[error("entry {entry} of it is cut off")]
    Cut {
        /// Counted from 0 within the bundle.
        entry: usize,
    },
    /// The bundle holds another number of entries than its path says.
    #[error("it holds {found} entries and must hold {expected}")]
    Count {
        /// The entries that the path implies.
        expected: usize,
        /// The entries that are there.
        found: usize,
    },
}

impl TilePath {
    /// The tile that holds number `at` of a level which holds `level_size` of them now, or `None` when it is past the end.
    pub const fn holding(holds: Holds, at: u64, level_size: u64) -> Option<Self> {
        if at >= level_size {
            return None;
        }
        let index = at / WIDTH;
        let left = level_size - index * WIDTH;
        let width = if left < WIDTH { left as u16 } else { WIDTH as u16 };
        Some(Self { holds, index, width })
    }

    /// Whether it holds all it can.
    pub const fn is_full(&self) -> bool {
        self.width as u64 == WIDTH
    }

    /// The full tile in the same place.
    pub const fn full(self) -> Self {
        Self { width: WIDTH as u16, ..self }
    }

    /// The directory that the partial tiles in this place are in.
    pub fn partials(&self) -> String {
        format!("{}.p", self.full())
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holds {
            Holds::Hashes(level) => write!(f, "tile/{level}/")?,
            Holds::Entries => f.write_str("tile/entries/")?,
        }
        // 2^64 has 20 decimal digits, so 7 groups of three.
        let mut groups = [0; 7];
        let mut rest = self.index;
        let mut used = 0;
        for group in &mut groups {
            *group = rest % 1000;
            rest /= 1000;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        for (left, group) in groups.iter().take(used).enumerate().rev() {
            if left == 0 { write!(f, "{group:03}")? } else { write!(f, "x{group:03}/")? }
        }
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for TilePath {
    type Err = InvalidTilePath;

    fn from_str(text: &str) -> Result<Self, InvalidTilePath> {
        let (level, rest) = text.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(InvalidTilePath)?;
        let holds = if level == "entries" { Holds::Entries } else { Holds::Hashes(level.parse().map_err(|_| InvalidTilePath)?) };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| InvalidTilePath)?),
            None => (rest, WIDTH as u16),
        };
        let mut index: u64 = 0;
        for group in number.split('/') {
            let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().map_err(|_| InvalidTilePath)?;
            index = index.checked_mul(1000).and_then(|index| index.checked_add(digits)).ok_or(InvalidTilePath)?;
        }
        let path = Self { holds, index, width };
        // One place has one path: whatever was read another way (a sign, a zero too many) is refused here.
        let in_range = (1..=WIDTH).contains(&u64::from(width)) && !matches!(holds, Holds::Hashes(64..));
        if in_range && path.to_string() == text { Ok(path) } else { Err(InvalidTilePath) }
    }
}

/// Writes hashes as a tile's bytes.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect()
}

/// Reads a tile's bytes as the `width` hashes that its path says.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Result<Vec<Hash>, InvalidTile> {
    let (chunks, rest) = bytes.as_chunks::<{ Hash::SIZE }>();
    if !rest.is_empty() || chunks.len() != usize::from(width) {
        return Err(InvalidTile::Size { expected: usize::from(width) * Hash::SIZE, found: bytes.len() });
    }
    Ok(chunks.iter().copied().map(Hash::new).collect())
}

/// Adds an entry to the end of a bundle. `false`, and nothing is written, when the entry is empty or too long.
pub fn encode_entry(entry: &[u8], bundle: &mut Vec<u8>) -> bool {
    match u16::try_from(entry.len()) {
        Ok(length @ 1..) => {
            bundle.extend_from_slice(&length.to_be_bytes());
            bundle.extend_from_slice(entry);
            true
        }
        _ => false,
    }
}

/// Reads a bundle's bytes as the `width` entries that its path says.
pub fn decode_entries(bundle: &[u8], width: u16) -> Result<Vec<&[u8]>, InvalidTile> {
    let mut entries = Vec::with_capacity(usize::from(width));
    for entry in Entries::new(bundle) {
        entries.push(entry.map_err(|Cut| InvalidTile::Cut { entry: entries.len() })?);
    }
    if entries.len() == usize::from(width) {
        Ok(entries)
    } else {
        Err(InvalidTile::Count { expected: usize::from(width), found: entries.len() })
    }
}

/// The entries of length-prefixed bytes, one by one; ends after a [`Cut`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

/// An entry's length runs past the end of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl<'a> Entries<'a> {
    /// Those in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], Cut>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.rest.split_first_chunk().and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
        let Some((entry, rest)) = entry else {
            self.rest = &[];
            return Some(Err(Cut));
        };
        self.rest = rest;
        Some(Ok(entry))
    }
}

/// The right edge of a growing tree: the unfinished tile of each level. Its size is bounded by 255 hashes a level.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The edge of an empty tree.
    pub const fn new() -> Self {
        Self { size: 0, levels: Vec::new() }
    }

    /// The edge of a tree with `size` entries, from its stored partial tiles.
    pub fn load<E>(size: u64, mut read: impl FnMut(TilePath) -> Result<Vec<Hash>, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        let mut level_size = size;
        while level_size > 0 {
            let level = Holds::Hashes(levels.len() as u8);
            let partial = TilePath::holding(level, level_size - 1, level_size).filter(|tile| !tile.is_full());
            levels.push(partial.map_or(Ok(Vec::new()), &mut read)?);
            level_size /= WIDTH;
        }
        Ok(Self { size, levels })
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. `full` is given each tile that this completes, lowest level first.
    pub fn push(&mut self, leaf: Hash, full: impl FnMut(TilePath, &[Hash])) {
        self.size += 1;
        self.carry(0, leaf, full);
    }

    /// Adds a full tile of leaves by its root. `false`, and nothing is added, when the tree does not end where a tile begins.
    ///
    /// `full` is given each higher tile that this completes, lowest level first.
    pub fn push_tile(&mut self, root: Hash, full: impl FnMut(TilePath, &[Hash])) -> bool {
        if !self.size.is_multiple_of(WIDTH) {
            return false;
        }
        self.size += WIDTH;
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.carry(1, root, full);
        true
    }

    /// Adds a hash to a level, and the root of what that completes to the next.
    fn carry(&mut self, level: usize, mut hash: Hash, mut full: impl FnMut(TilePath, &[Hash])) {
        let mut level_size = self.size / WIDTH.pow(level as u32);
        for level in level.. {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(WIDTH as usize));
            }
            let Some(hashes) = self.levels.get_mut(level) else { return };
            hashes.push(hash);
            if (hashes.len() as u64) < WIDTH {
                return;
            }
            level_size /= WIDTH;
            full(TilePath { holds: Holds::Hashes(level as u8), index: level_size - 1, width: WIDTH as u16 }, hashes);
            hash = tree::root(hashes);
            hashes.clear();
        }
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut below: Option<Hash> = None;
        for hashes in &self.levels {
            // What is unfinished below is the last, smaller, subtree of this level: RFC 6962 splits it off in the same place.
            let all: Vec<Hash> = hashes.iter().copied().chain(below).collect();
            below = if all.is_empty() { None } else { Some(tree::root(&all)) };
        }
        below.unwrap_or_else(Hash::of_nothing)
    }

    /// The partial tiles that a tree of this size has, lowest level first.
    pub fn partials(&self) -> impl Iterator<Item = (TilePath, &[Hash])> {
        let mut level_size = self.size;
        self.levels.iter().enumerate().filter_map(move |(level, hashes)| {
            let path = TilePath { holds: Holds::Hashes(level as u8), index: level_size / WIDTH, width: hashes.len() as u16 };
            level_size /= WIDTH;
            (!hashes.is_empty()).then_some((path, hashes.as_slice()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn paths() {
        for (text, holds, index, width) in [
            ("tile/0/000", Holds::Hashes(0), 0, 256),
            ("tile/0/x001/x234/067", Holds::Hashes(0), 1_234_067, 256),
            ("tile/3/x001/000.p/255", Holds::Hashes(3), 1000, 255),
            ("tile/63/999", Holds::Hashes(63), 999, 256),
            ("tile/entries/017.p/1", Holds::Entries, 17, 1),
            ("tile/entries/x018/x446/x744/x073/x709/x551/615", Holds::Entries, u64::MAX, 256),
        ] {
            let path = TilePath { holds, index, width };
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path));
        }
        for text in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/+0/000",
            "tile/64/000",
            "tile/data/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/001/000",
            "tile/0/x000/001",
            "tile/0/x001",
            "tile/0/+01",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(text.parse::<TilePath>(), Err(InvalidTilePath), "{text}");
        }
    }

    #[test]
    fn a_bundle_reads_back_as_it_was_written_and_no_other_way() {
        let entries: [&[u8]; 3] = [b"a", &[0; 300], &[7; ENTRY_BYTES_MAX]];
        let mut bundle = Vec::new();
        assert!(entries.iter().all(|entry| encode_entry(entry, &mut bundle)));
        assert!(!encode_entry(&[], &mut bundle) && !encode_entry(&[0; ENTRY_BYTES_MAX + 1], &mut bundle));
        assert_eq!(decode_entries(&bundle, 3).unwrap(), entries);
        assert_eq!(decode_entries(&bundle, 4), Err(InvalidTile::Count { expected: 4, found: 3 }));
        bundle.pop();
        assert_eq!(decode_entries(&bundle, 3), Err(InvalidTile::Cut { entry: 2 }));
        bundle.truncate(4);
        assert_eq!(decode_entries(&bundle, 3), Err(InvalidTile::Cut { entry: 1 }));
    }

    #[test]
    fn the_edge_has_the_root_and_the_tiles_of_the_tree_at_every_size() {
        let leaves: Vec<Hash> = (0..70_000_u32).map(|n| Hash::of_entry(&n.to_be_bytes())).collect();
        let (mut edge, mut by_tiles) = (Edge::new(), Edge::new());
        let mut tiles: BTreeMap<TilePath, Vec<Hash>> = BTreeMap::new();
        assert_eq!(edge.root(), Hash::of_nothing());
        for (before, leaf) in leaves.iter().enumerate() {
            edge.push(*leaf, |path, hashes| assert!(tiles.insert(path, hashes.to_vec()).is_none()));
            let size = before + 1;
            assert_eq!(edge.size(), size as u64);
            if size.is_multiple_of(256) {
                assert!(by_tiles.push_tile(tree::root(&leaves[size - 256..size]), |path, hashes| assert_eq!(tiles[&path], hashes)));
                assert_eq!(by_tiles.root(), edge.root(), "{size}");
            }
            if size <= 520 || size % 16_381 == 0 || (65_535..=65_537).contains(&size) {
                assert_eq!(edge.root(), tree::root(&leaves[..size]), "{size}");
                let loaded = Edge::load(size as u64, |path| {
                    edge.partials().find(|(partial, _)| *partial == path).map(|(_, hashes)| hashes.to_vec()).ok_or(path)
                });
                assert_eq!(loaded.unwrap().root(), edge.root(), "{size}");
            }
        }
        assert!(!edge.push_tile(leaves[0], |_, _| ()), "it ends within a tile");
        // The example of C2SP tlog-tiles, "Partial Tiles".
        let full = |level| tiles.keys().filter(|path| path.holds == Holds::Hashes(level)).count();
        assert_eq!((full(0), full(1), full(2)), (273, 1, 0));
        let partials: Vec<_> = edge.partials().map(|(path, _)| path.to_string()).collect();
        assert_eq!(partials, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    }
}
