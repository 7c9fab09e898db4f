//! Opening a log: what a crash left behind is put in order, and what nobody can have left by a crash is damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bailiwick_log::StorageError;
use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::Signer;
use bailiwick_log::tile::{self, Edge, Entries, Holds, TilePath};
use bailiwick_log::tree::Hash;

use super::pending::{self, Pending};
use super::publish::Publisher;
use crate::disk::{Disk, Lock};
use crate::files::{create_directories, replace};

/// A log that was found in order.
pub(super) struct Opened {
    /// Held as long as the log is open: one process writes.
    pub(super) lock: Box<dyn Lock>,
    pub(super) published: u64,
    pub(super) pending: Pending,
    pub(super) publisher: Publisher,
}

/// Opens the log in `directory`, creating it where there is none.
pub(super) fn open(disk: &Arc<dyn Disk>, directory: &Path, signer: Arc<dyn Signer>) -> Result<Opened, StorageError> {
    let machine = disk;
    let disk = &**machine;
    let pending_directory = directory.join("pending");
    create_directories(disk, &pending_directory).map_err(|error| failed("the directory cannot be created", &error))?;
    let lock = lock(disk, directory)?;
    let mut pending = pending::read(disk, &pending_directory)?;

    // A process that was killed may have left its newest checkpoint under its name, and the name not on disk.
    disk.sync(directory).map_err(|error| failed("the directory cannot be written", &error))?;
    let checkpoint = match disk.read(&directory.join("checkpoint")) {
        Ok(bytes) => Some(Checkpoint::open(&bytes, signer.verifier()).map_err(|error| damaged(format!("`checkpoint`: {error}")))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("`checkpoint` cannot be read", &error)),
    };
    let Some(checkpoint) = checkpoint else {
        // The first checkpoint is signed before the first entry is taken.
        if disk.exists(&directory.join("tile")) || !pending.segments.is_empty() {
            return Err(damaged("`checkpoint` is missing".to_owned()));
        }
        let mut publisher = Publisher::new(Arc::clone(machine), directory, signer, Edge::new(), Vec::new());
        let published = publisher.publish().map_err(|error| failed("the first checkpoint cannot be written", &error))?;
        return Ok(Opened { lock, published, pending, publisher });
    };

    let edge = Edge::load(checkpoint.size, |path| {
        tile::decode_hashes(&read_tile(disk, directory, path)?, path.width).map_err(|error| damaged(format!("`{path}`: {error}")))
    })?;
    if edge.root() != checkpoint.root {
        return Err(damaged(format!("the tiles at the end do not have the root of `checkpoint` at size {}", checkpoint.size)));
    }
    let bundle = last_bundle(disk, directory, &edge)?;
    check_pending(disk, directory, &pending, checkpoint.size)?;
    settle(disk, &pending_directory, &mut pending)?;
    remove_unpublished(disk, directory, checkpoint.size, pending.batches.last().map_or(0, pending::Batch::end))?;
    let publisher = Publisher::new(Arc::clone(machine), directory, signer, edge, bundle);
    Ok(Opened { lock, published: checkpoint.size, pending, publisher })
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn Lock>, StorageError> {
    let lock = disk.lock(&directory.join("lock")).map_err(|error| failed("`lock` cannot be locked", &error))?;
    lock.ok_or_else(|| StorageError::Failed("another process has it open".into()))
}

/// Takes away what a crash left unfinished, and writes the last segment anew, without a batch that was never acknowledged.
///
/// That it can be read does not say that it is on disk: its writer may have ended before its last sync, or by a failed one,
/// after which the system shows bytes that it will never write. What follows it would then be after a gap.
fn settle(disk: &dyn Disk, directory: &Path, pending: &mut Pending) -> Result<(), StorageError> {
    let cannot = |error: io::Error| failed("what a crash left unfinished cannot be put in order", &error);
    for name in disk.list(directory).map_err(cannot)?.into_iter().filter(|name| pending::is_unfinished(name)) {
        disk.remove(&directory.join(name)).map_err(cannot)?;
    }
    if let Some((path, _, torn)) = pending.torn.take() {
        tracing::warn!(segment = %path.display(), bytes = torn, "a crash cut off a batch that nobody was told of; it is dropped");
    }
    for (path, ..) in pending.segments.extract_if(.., |(_, first, end)| first == end) {
        disk.remove(&path).map_err(cannot)?;
    }
    if let Some((path, first, _)) = pending.segments.last() {
        let batches = pending.batches.iter().filter(|batch| batch.first >= *first);
        replace(disk, path, &pending::segment(*first, batches)).map_err(cannot)?;
    }
    Ok(())
}

/// The entries of the unfinished bundle, which must be those whose hashes the edge holds.
fn last_bundle(disk: &dyn Disk, directory: &Path, edge: &Edge) -> Result<Vec<u8>, StorageError> {
    let Some((path, hashes)) = edge.partials().find(|(path, _)| path.holds == Holds::Hashes(0)) else { return Ok(Vec::new()) };
    let path = TilePath { holds: Holds::Entries, ..path };
    let mut bundle = read_tile(disk, directory, path)?;
    if bundle_at(&mut bundle, path.width) && entries_have(&bundle, hashes) {
        return Ok(bundle);
    }
    Err(damaged(format!("the entries in `{path}` are not those of the tree")))
}

/// Cuts a bundle to its first `width` entries, since the full one may stand in for it.
fn bundle_at(bundle: &mut Vec<u8>, width: u16) -> bool {
    let mut bytes = 0;
    for entry in Entries::new(bundle).take(width.into()) {
        let Ok(entry) = entry else { return false };
        bytes += 2 + entry.len();
    }
    bundle.truncate(bytes);
    true
}

fn entries_have(bundle: &[u8], hashes: &[Hash]) -> bool {
    let mut entries = Entries::new(bundle);
    let same = hashes.iter().all(|hash| matches!(entries.next(), Some(Ok(entry)) if Hash::of_entry(entry) == *hash));
    same && entries.next().is_none()
}

/// The pending entries must reach the checkpoint, and those that are under it must be the published ones.
pub(crate) fn check_pending(disk: &dyn Disk, directory: &Path, pending: &Pending, published: u64) -> Result<(), StorageError> {
    let Some(((_, first, _), (_, _, end))) = pending.segments.first().zip(pending.segments.last()) else { return Ok(()) };
    if *first > published {
        return Err(damaged(format!("`checkpoint` ends at {published}, and `pending` begins at {first}: the checkpoint is an old one")));
    }
    if *end < published {
        return Err(damaged(format!("`checkpoint` ends at {published}, and `pending` at {end}: signed entries are missing there")));
    }
    let mut tile: Option<(TilePath, Vec<Hash>)> = None;
    for batch in pending.batches.iter().filter(|batch| batch.first < published) {
        for (entry, position) in Entries::new(batch.entries()).zip(batch.first..published) {
            let Some(path) = TilePath::holding(Holds::Hashes(0), position, published) else { break };
            if tile.as_ref().is_none_or(|(read, _)| *read != path) {
                let bytes = read_tile(disk, directory, path)?;
                let hashes = tile::decode_hashes(&bytes, path.width).map_err(|error| damaged(format!("`{path}`: {error}")))?;
                tile = Some((path, hashes));
            }
            let expected = tile.as_ref().and_then(|(path, hashes)| hashes.get((position - path.index * tile::WIDTH) as usize));
            if !matches!((entry, expected), (Ok(entry), Some(hash)) if Hash::of_entry(entry) == *hash) {
                return Err(damaged(format!("entry {position} in `pending` is not the one in `{path}`")));
            }
        }
    }
    Ok(())
}

/// Removes partial tiles of a checkpoint that was never signed; full ones are written again from the same entries.
///
/// That they are gone is on disk before anything else is published: one that a crash left in part and then brought back would
/// stand below a later checkpoint, and never be looked at again.
///
/// Tiles of entries that are not pending either are no leftover: they were signed, and the checkpoint was put back.
fn remove_unpublished(disk: &dyn Disk, directory: &Path, published: u64, end: u64) -> Result<(), StorageError> {
    let (mut published, mut end) = (published, end.max(published));
    for level in 0..64 {
        for holds in [Some(Holds::Hashes(level)), (level == 0).then_some(Holds::Entries)].into_iter().flatten() {
            for index in published / tile::WIDTH..=end / tile::WIDTH + 1 {
                let full = TilePath { holds, index, width: tile::WIDTH as u16 };
                if (index + 1) * tile::WIDTH > end && disk.exists(&directory.join(full.to_string())) {
                    return Err(put_back(full));
                }
                let mut removed = false;
                for (path, partial) in partials(disk, directory, full).map_err(|error| failed("a directory cannot be read", &error))? {
                    let covers = partial.map_or(u64::MAX, |partial| index * tile::WIDTH + u64::from(partial.width));
                    match partial {
                        Some(partial) if covers > end => return Err(put_back(partial)),
                        _ if covers > published => {
                            disk.remove(&path).map_err(|error| failed("an unfinished tile cannot be removed", &error))?;
                            removed = true;
                        }
                        _ => {}
                    }
                }
                if removed {
                    let gone = disk.sync(&directory.join(full.partials()));
                    gone.map_err(|error| failed("that an unfinished tile is gone cannot be brought to disk", &error))?;
                }
            }
        }
        published /= tile::WIDTH;
        end /= tile::WIDTH;
        if end == 0 {
            break;
        }
    }
    Ok(())
}

fn put_back(path: TilePath) -> StorageError {
    damaged(format!("`{path}` holds what `checkpoint` does not cover and `pending` does not hold: the checkpoint is an old one"))
}

/// The files in a tile's directory of partial tiles; `None` beside what is not one.
fn partials(disk: &dyn Disk, directory: &Path, full: TilePath) -> io::Result<Vec<(PathBuf, Option<TilePath>)>> {
    let partials = directory.join(full.partials());
    let listed = match disk.list(&partials) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let tile = |name: &str| format!("{}/{name}", full.partials()).parse().ok();
    Ok(listed.into_iter().map(|name| (partials.join(&name), name.to_str().and_then(tile))).collect())
}

/// The bytes of a tile, from the full one (cut to width) when the partial one is gone.
pub(super) fn read_tile(disk: &dyn Disk, directory: &Path, path: TilePath) -> Result<Vec<u8>, StorageError> {
    let read = |path: TilePath| disk.read(&directory.join(path.to_string()));
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if missing(&error) && !path.is_full() => {
            let mut bytes = read(path.full()).map_err(|_| damaged(format!("`{path}` is missing")))?;
            match path.holds {
                Holds::Hashes(_) => bytes.truncate(usize::from(path.width) * Hash::SIZE),
                Holds::Entries if !bundle_at(&mut bytes, path.width) => return Err(damaged(format!("`{}` is cut off", path.full()))),
                Holds::Entries => {}
            }
            Ok(bytes)
        }
        Err(error) if missing(&error) => Err(damaged(format!("`{path}` is missing"))),
        Err(error) => Err(failed(&format!("`{path}` cannot be read"), &error)),
    }
}

/// The entries of a bundle, which must be those whose hashes the tile of the same place holds: what rotted is not served.
pub(super) fn read_entries(disk: &dyn Disk, directory: &Path, path: TilePath) -> Result<Vec<u8>, StorageError> {
    let bundle = read_tile(disk, directory, path)?;
    let hashes = TilePath { holds: Holds::Hashes(0), ..path };
    let hashes =
        tile::decode_hashes(&read_tile(disk, directory, hashes)?, path.width).map_err(|error| damaged(format!("`{hashes}`: {error}")))?;
    if entries_have(&bundle, &hashes) { Ok(bundle) } else { Err(damaged(format!("the entries in `{path}` are not those of the tree"))) }
}

pub(super) fn damaged(what: String) -> StorageError {
    StorageError::Damaged(what.into())
}

pub(super) fn failed(what: &str, error: &io::Error) -> StorageError {
    StorageError::Failed(format!("{what}: {error}").into())
}

/// A segment of the pending file and the position after its last entry.
pub(super) type Segment = (PathBuf, u64);
