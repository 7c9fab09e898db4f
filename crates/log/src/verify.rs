//! The offline verifier: whether a whole stored log is what was signed, and if not, where not.
//!
//! It needs the files and the log's public key. An auditor who kept earlier checkpoints also learns whether the log only grew
//! since: that is what a log with a key in the wrong hands cannot fake.

use std::fmt;
use std::sync::OnceLock;

use crate::checkpoint::{Checkpoint, InvalidCheckpoint};
use crate::files::{Files, TileError, Tiles, Unreadable};
use crate::tile::{self, Edge, Holds, InvalidTile, TilePath};
use crate::tree::{self, Hash};

/// So many faults are told apart; of a log with more, their number is enough.
const FAULTS_MAX: usize = 1000;

/// So many bundles are read at once at most, some 30 MB.
const BUNDLES_AT_ONCE: u64 = 128;

/// What the auditor knows.
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    /// The key of the log; its name is the log's origin.
    pub key: &'a crate::note::VerifierKey,
    /// Checkpoints of this log that were kept earlier, verified when they were.
    pub kept: &'a [Checkpoint],
    /// Whether the log is being written while it is read. Files beyond the checkpoint are then no fault.
    pub growing: bool,
}

/// What the audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint, if its signature holds.
    pub checkpoint: Option<Checkpoint>,
    /// How many entries were read and hashed.
    pub entries: u64,
    /// What is wrong, in the order it was found; the log is in order only when this is empty.
    pub faults: Vec<Fault>,
    /// How many faults more there were.
    pub faults_untold: u64,
}

/// One thing that is wrong with a stored log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// There is no checkpoint.
    NoCheckpoint,
    /// The checkpoint is forged, damaged or of another log.
    Checkpoint(InvalidCheckpoint),
    /// The log has fewer entries than it had when a checkpoint was kept: its end, or the checkpoint, was put back.
    Shrunk {
        /// How many it had.
        kept: u64,
        /// How many it has.
        now: u64,
    },
    /// The first entries are not those of a kept checkpoint: history was rewritten.
    Rewritten {
        /// The size of the kept checkpoint.
        kept: u64,
    },
    /// A kept checkpoint is of another log and proves nothing here.
    OtherLog(String),
    /// A tile or bundle that the checkpoint covers is not there.
    Missing(TilePath),
    /// A file is not a tile.
    Invalid {
        /// The tile.
        path: TilePath,
        /// What is wrong with it.
        why: InvalidTile,
    },
    /// An entry is not the one that the tree has in its place.
    Entry {
        /// The entry's position.
        position: u64,
        /// Where it is stored.
        bundle: TilePath,
        /// Where its hash is stored.
        tile: TilePath,
    },
    /// A hash in a tile is not that of the tile below it.
    Hash {
        /// The tile.
        path: TilePath,
        /// Which of its hashes, from 0.
        at: usize,
        /// The tile below.
        below: TilePath,
    },
    /// The tree does not have the root that was signed.
    Root {
        /// Whether the stored entries have it.
        entries: bool,
        /// Whether the stored hashes have it.
        tiles: bool,
    },
    /// A partial tile is not the beginning of the tile that took its place.
    Partial(TilePath),
    /// A file holds something that no checkpoint covers: the checkpoint is an old one, or growth is faked.
    Beyond(TilePath),
    /// A file does not belong to a log.
    Foreign(String),
}

impl Report {
    /// Whether nothing is wrong.
    pub const fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_untold += 1;
        }
    }
}

/// Verifies a whole log: the checkpoint's signature, each entry against its hash, each tile against the one above, the root
/// against the checkpoint, and the kept checkpoints against the root at their size.
///
/// `Err` only when a file could not be read; whatever is wrong with what was read is in the report.
pub fn verify(files: &(impl Files + ?Sized), audit: &Audit<'_>) -> Result<Report, Unreadable> {
    let mut report = Report { checkpoint: None, entries: 0, faults: Vec::new(), faults_untold: 0 };
    let Some(bytes) = files.read("checkpoint")? else {
        report.fault(Fault::NoCheckpoint);
        return Ok(report);
    };
    let checkpoint = match Checkpoint::open(&bytes, audit.key) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            report.fault(Fault::Checkpoint(error));
            return Ok(report);
        }
    };
    report.checkpoint = Some(checkpoint.clone());
    let kept = comparable(audit.kept, &checkpoint, &mut report);
    verify_tree(files, &checkpoint, kept, &mut report)?;
    if let Some(paths) = files.list()? {
        for path in paths {
            verify_listed(files, &path, checkpoint.size, audit.growing, &mut report)?;
        }
    }
    Ok(report)
}

/// The kept checkpoints that the tree must pass through, smallest last.
fn comparable<'a>(kept: &'a [Checkpoint], now: &Checkpoint, report: &mut Report) -> Vec<&'a Checkpoint> {
    let mut comparable = Vec::new();
    for kept in kept {
        if kept.origin != now.origin {
            report.fault(Fault::OtherLog(kept.origin.clone()));
        } else if kept.size > now.size {
            report.fault(Fault::Shrunk { kept: kept.size, now: now.size });
        } else {
            comparable.push(kept);
        }
    }
    comparable.sort_by_key(|kept| std::cmp::Reverse(kept.size));
    comparable
}

/// Builds the tree twice, from the stored entries and from the stored leaf hashes, so that it can be said which were changed.
fn verify_tree(
    files: &(impl Files + ?Sized),
    checkpoint: &Checkpoint,
    mut kept: Vec<&Checkpoint>,
    report: &mut Report,
) -> Result<(), Unreadable> {
    let tiles = Tiles::new(files, checkpoint.size);
    let (mut of_entries, mut of_hashes) = (Edge::new(), Edge::new());
    let bundles = checkpoint.size.div_ceil(tile::WIDTH);
    let mut index = 0;
    while index < bundles {
        let until = bundles.min(index + BUNDLES_AT_ONCE);
        for bundle in read_bundles(files, checkpoint.size, index..until) {
            let Bundle { entries, hashes, faults } = bundle?;
            faults.into_iter().for_each(|fault| report.fault(fault));
            report.entries += entries.as_ref().map_or(0, |entries| entries.leaves.len() as u64);
            // What cannot be read on one side is taken from the other, so that one missing file is one fault and the root still tells.
            let Some(entries) = entries.as_ref().or(hashes.as_ref()) else { return Ok(()) };
            let hashes = hashes.as_ref().unwrap_or(entries);
            let end = of_entries.size() + tile::WIDTH;
            let mut finished = Vec::new();
            reach(&mut kept, &of_entries, &of_hashes, report);
            // A full tile is taken as a whole, unless a kept checkpoint ends within it.
            if let (Some(entries), Some(hashes)) = (entries.root, hashes.root)
                && kept.last().is_none_or(|kept| kept.size >= end)
            {
                of_entries.push_tile(entries, |_, _| ());
                of_hashes.push_tile(hashes, |path, hashes| finished.push((path, hashes.to_vec())));
            } else {
                for (entry, hash) in entries.leaves.iter().zip(&hashes.leaves) {
                    of_entries.push(*entry, |_, _| ());
                    of_hashes.push(*hash, |path, hashes| finished.push((path, hashes.to_vec())));
                    reach(&mut kept, &of_entries, &of_hashes, report);
                }
            }
            for (path, hashes) in finished {
                verify_tile(&tiles, path, &hashes, report)?;
            }
        }
        index = until;
    }
    reach(&mut kept, &of_entries, &of_hashes, report);
    let partials: Vec<_> = of_hashes.partials().map(|(path, hashes)| (path, hashes.to_vec())).collect();
    for (path, hashes) in partials {
        verify_tile(&tiles, path, &hashes, report)?;
    }
    let (entries, tiles) = (of_entries.root() == checkpoint.root, of_hashes.root() == checkpoint.root);
    if !(entries && tiles) {
        report.fault(Fault::Root { entries, tiles });
    }
    Ok(())
}

/// Compares the kept checkpoints of this size with the tree as far as it is built.
fn reach(kept: &mut Vec<&Checkpoint>, of_entries: &Edge, of_hashes: &Edge, report: &mut Report) {
    while let Some(reached) = kept.pop_if(|kept| kept.size == of_entries.size()) {
        if of_entries.root() != reached.root && of_hashes.root() != reached.root {
            report.fault(Fault::Rewritten { kept: reached.size });
        }
    }
}

/// Up to 256 leaf hashes from two sources, either of which may be unreadable.
struct Bundle {
    entries: Option<Leaves>,
    /// Absent also when they are those of the entries.
    hashes: Option<Leaves>,
    faults: Vec<Fault>,
}

/// Leaf hashes and, of a full tile, their root.
struct Leaves {
    leaves: Vec<Hash>,
    root: Option<Hash>,
}

impl Leaves {
    fn new(leaves: Vec<Hash>) -> Self {
        let root = (leaves.len() as u64 == tile::WIDTH).then(|| tree::root(&leaves));
        Self { leaves, root }
    }
}

/// Reads bundles and the tiles beside them, in the order of the log; many at once where `files` can.
fn read_bundles(files: &(impl Files + ?Sized), size: u64, indices: std::ops::Range<u64>) -> Vec<Result<Bundle, Unreadable>> {
    let bundles: Vec<OnceLock<_>> = indices.clone().map(|_| OnceLock::new()).collect();
    let read = |number: usize| Bundle::read(&Tiles::new(files, size), (indices.start + number as u64) * tile::WIDTH);
    files.each(bundles.len(), &|number| {
        bundles.get(number).map(|bundle| bundle.get_or_init(|| read(number)));
    });
    bundles.into_iter().enumerate().map(|(number, bundle)| bundle.into_inner().unwrap_or_else(|| read(number))).collect()
}

impl Bundle {
    /// The leaf hashes of one bundle, computed from its entries, and those of the tile beside it; compares the two.
    fn read(tiles: &Tiles<'_, impl Files + ?Sized>, from: u64) -> Result<Self, Unreadable> {
        let mut faults = Vec::new();
        let mut found = |read: Result<(TilePath, Vec<Hash>), TileError>| match read {
            Ok(read) => Ok(Some(read)),
            Err(error) => fault_of(error).map(|fault| {
                faults.push(fault);
                None
            }),
        };
        let (entries, hashes) = (found(tiles.leaves(from))?, found(tiles.hashes(0, from))?);
        if let (Some((bundle, computed)), Some((tile, stored))) = (&entries, &hashes) {
            if computed == stored {
                return Ok(Self { entries: entries.map(|(_, leaves)| Leaves::new(leaves)), hashes: None, faults });
            }
            for (position, (computed, stored)) in (from..).zip(computed.iter().zip(stored)) {
                if computed != stored {
                    faults.push(Fault::Entry { position, bundle: *bundle, tile: *tile });
                }
            }
        }
        let leaves = |read: Option<(TilePath, Vec<Hash>)>| read.map(|(_, leaves)| Leaves::new(leaves));
        Ok(Self { entries: leaves(entries), hashes: leaves(hashes), faults })
    }
}

/// What is wrong with a tile; `Err` when it could not be read, which says nothing of what is in it.
fn fault_of(error: TileError) -> Result<Fault, Unreadable> {
    match error {
        TileError::Unreadable(error) => Err(error),
        TileError::Missing(path) => Ok(Fault::Missing(path)),
        TileError::Invalid { path, why } => Ok(Fault::Invalid { path, why }),
        // INVARIANT: only tiles that the checkpoint covers are asked for.
        TileError::Outside(outside) => Err(Unreadable { path: "checkpoint".to_owned(), why: outside.to_string() }),
    }
}

/// Compares a stored tile of a higher level with the hashes of the tiles below it.
fn verify_tile(tiles: &Tiles<'_, impl Files + ?Sized>, path: TilePath, computed: &[Hash], report: &mut Report) -> Result<(), Unreadable> {
    let Holds::Hashes(level @ 1..) = path.holds else { return Ok(()) };
    let start = path.index * tile::WIDTH;
    match tiles.hashes(level, start) {
        Ok((path, stored)) => {
            for (at, (stored, computed)) in stored.iter().zip(computed).enumerate() {
                if stored != computed {
                    let below = TilePath { holds: Holds::Hashes(level - 1), index: start + at as u64, width: tile::WIDTH as u16 };
                    report.fault(Fault::Hash { path, at, below });
                }
            }
        }
        Err(error) => report.fault(fault_of(error)?),
    }
    Ok(())
}

/// Looks at one file that is there. Those that make up the tree are verified already.
fn verify_listed(files: &(impl Files + ?Sized), path: &str, size: u64, growing: bool, report: &mut Report) -> Result<(), Unreadable> {
    if path == "checkpoint" {
        return Ok(());
    }
    let Ok(tile) = path.parse::<TilePath>() else {
        report.fault(Fault::Foreign(path.to_owned()));
        return Ok(());
    };
    let level_size = match tile.holds {
        Holds::Hashes(level) => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
        Holds::Entries => size,
    };
    let covering = TilePath::holding(tile.holds, tile.index.saturating_mul(tile::WIDTH), level_size);
    match covering {
        Some(covering) if covering == tile => {}
        Some(covering) if covering.width > tile.width => {
            let whole = match files.read(&covering.to_string())? {
                None => files.read(&covering.full().to_string())?,
                whole => whole,
            };
            if let (Some(part), Some(whole)) = (files.read(path)?, whole)
                && !is_beginning(tile, &part, &whole)
            {
                report.fault(Fault::Partial(tile));
            }
        }
        _ if growing => {}
        _ => report.fault(Fault::Beyond(tile)),
    }
    Ok(())
}

fn is_beginning(tile: TilePath, part: &[u8], whole: &[u8]) -> bool {
    let is_whole_tile = match tile.holds {
        Holds::Hashes(_) => tile::decode_hashes(part, tile.width).is_ok(),
        Holds::Entries => tile::decode_entries(part, tile.width).is_ok(),
    };
    is_whole_tile && whole.starts_with(part)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCheckpoint => f.write_str("`checkpoint` is missing"),
            Self::Checkpoint(why) => write!(f, "`checkpoint`: {why}"),
            Self::Shrunk { kept, now } => {
                write!(f, "the log had {kept} entries when a checkpoint was kept and has {now} now: its end was removed")
            }
            Self::Rewritten { kept } => {
                write!(f, "the first {kept} entries are not those that a kept checkpoint was signed for: history was rewritten")
            }
            Self::OtherLog(origin) => write!(f, "a kept checkpoint is of the log `{}`, not of this one", origin.escape_debug()),
            Self::Missing(path) => write!(f, "`{path}` is missing"),
            Self::Invalid { path, why } => write!(f, "`{path}`: {why}"),
            Self::Entry { position, bundle, tile } => {
                write!(f, "entry {position}: what is stored in `{bundle}` is not what `{tile}` has the hash of")
            }
            Self::Hash { path, at, below } => write!(f, "`{path}`: hash {at} of it is not that of `{below}`"),
            Self::Root { entries: true, .. } => f.write_str("the entries have the signed root and the tiles do not: tiles were changed"),
            Self::Root { tiles: true, .. } => f.write_str("the tiles have the signed root and the entries do not: entries were changed"),
            Self::Root { .. } => f.write_str("neither the entries nor the tiles have the signed root"),
            Self::Partial(path) => write!(f, "`{path}` is not the beginning of the tile that came after it"),
            Self::Beyond(path) => {
                write!(f, "`{path}` holds what the checkpoint does not cover: the checkpoint is old, or the growth is faked")
            }
            Self::Foreign(path) => write!(f, "`{}` is not a file of a log", path.escape_debug()),
        }
    }
}
