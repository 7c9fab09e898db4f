//! The pending file: where entries first reach the disk, one batch and one `fdatasync` at a time.
//!
//! A segment is `pending/<first position, 20 digits>`: a header, then batches. A batch is written only after the one before
//! it is on disk, so whatever is wrong before the last batch is damage. The format is in `docs/spec/log.md`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bailiwick_log::StorageError;

use super::open::{damaged, failed};
use crate::disk::{Append, Disk};
use crate::files::UNFINISHED;

/// What a segment begins with.
const MAGIC: [u8; 8] = *b"bwpend1\n";

/// The bytes of a segment's header: magic, first position, CRC-32 of both, four zero bytes.
const SEGMENT_HEADER: usize = 24;

/// The bytes of a batch's header: CRC-32 of the header's other bytes, CRC-32 of the body, length of the body, count, first position.
pub(super) const BATCH_HEADER: usize = 24;

/// The smallest piece that a disk writes whole.
const SECTOR: usize = 512;

/// Consecutive entries that reach the disk together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The position of its first entry.
    pub(crate) first: u64,
    /// How many entries it holds.
    pub(crate) count: u64,
    /// The header and then the entries, each with its length before it.
    frame: Vec<u8>,
}

impl Batch {
    /// Finishes a batch from a frame whose first [`BATCH_HEADER`] bytes are still to be written.
    pub(super) fn seal(first: u64, count: u64, mut frame: Vec<u8>) -> Option<Self> {
        let (header, body) = frame.split_first_chunk_mut::<BATCH_HEADER>()?;
        let (count_field, length) = (u32::try_from(count).ok()?, u32::try_from(body.len()).ok()?);
        *header = batch_header(first, count_field, length, crc32fast::hash(body));
        Some(Self { first, count, frame })
    }

    /// The position after its last entry.
    pub(crate) const fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Its entries, each with its length before it.
    pub(crate) fn entries(&self) -> &[u8] {
        self.frame.get(BATCH_HEADER..).unwrap_or_default()
    }

    /// How many bytes it holds in memory and on disk.
    pub(super) fn len(&self) -> usize {
        self.frame.len()
    }
}

fn batch_header(first: u64, count: u32, length: u32, body: u32) -> [u8; BATCH_HEADER] {
    let fields = [&body.to_be_bytes()[..], &length.to_be_bytes(), &count.to_be_bytes(), &first.to_be_bytes()].concat();
    let crc = crc32fast::hash(&fields).to_be_bytes();
    let mut header = [0; BATCH_HEADER];
    header.iter_mut().zip(crc.into_iter().chain(fields)).for_each(|(to, from)| *to = from);
    header
}

/// Writes segments. After an error it must not be used again: what is on disk is then unknown.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    current: Option<(Box<dyn Append>, usize)>,
    segment_bytes_max: usize,
}

impl Writer {
    pub(super) const fn new(disk: Arc<dyn Disk>, directory: PathBuf, segment_bytes_max: usize) -> Self {
        Self { disk, directory, current: None, segment_bytes_max }
    }

    /// Appends `batch` and waits for the disk. `true` when it began a new segment with it.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<bool> {
        let begun = match &self.current {
            Some((_, written)) if *written < self.segment_bytes_max => false,
            _ => {
                self.current = Some((create_segment(&*self.disk, &self.directory, batch.first)?, SEGMENT_HEADER));
                true
            }
        };
        let Some((file, written)) = &mut self.current else { return Err(io::Error::other("no segment is open")) };
        file.append(&batch.frame)?;
        file.sync()?;
        *written += batch.frame.len();
        Ok(begun)
    }
}

fn create_segment(disk: &dyn Disk, directory: &Path, first: u64) -> io::Result<Box<dyn Append>> {
    let mut file = disk.create(&directory.join(segment_name(first)))?;
    file.append(&segment_header(first))?;
    file.sync()?;
    disk.sync(directory)?;
    Ok(file)
}

/// The bytes of a segment that begins at `first` and holds these batches.
pub(super) fn segment<'a>(first: u64, batches: impl Iterator<Item = &'a Batch>) -> Vec<u8> {
    let mut bytes = segment_header(first);
    batches.for_each(|batch| bytes.extend_from_slice(&batch.frame));
    bytes
}

fn segment_header(first: u64) -> Vec<u8> {
    let mut header = [&MAGIC[..], &first.to_be_bytes()].concat();
    let crc = crc32fast::hash(&header);
    header.extend(crc.to_be_bytes());
    header.extend([0; 4]);
    header
}

/// The name of the segment whose first entry is at `first`.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:020}")
}

/// What is in the pending directory.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// The batches, in order and without a gap.
    pub(crate) batches: Vec<Batch>,
    /// The segments: path, first position, the position after the last, in order.
    pub(crate) segments: Vec<(PathBuf, u64, u64)>,
    /// A last batch that a crash cut off: its segment, how many bytes of that are whole, how many follow.
    pub(crate) torn: Option<(PathBuf, u64, u64)>,
}

/// Reads all segments. What cannot be read is no damage: it may be there when it is asked for again.
pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Pending, StorageError> {
    let unreadable = |name: &str, error: &io::Error| failed(&format!("`{name}` cannot be read"), error);
    let mut names: Vec<(u64, PathBuf)> = Vec::new();
    let listed = match disk.list(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pending::default()),
        Err(error) => return Err(unreadable("pending", &error)),
    };
    for name in listed.into_iter().filter(|name| !is_unfinished(name)) {
        let first = name.to_str().and_then(|name| name.parse().ok().filter(|first| segment_name(*first) == name));
        let Some(first) = first else { return Err(damaged(format!("`pending/{}` is no segment", name.display()))) };
        names.push((first, directory.join(name)));
    }
    names.sort();
    let mut pending = Pending::default();
    let count = names.len();
    for (number, (first, path)) in names.into_iter().enumerate() {
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            // The log's own process may have folded it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&format!("pending/{}", segment_name(first)), &error)),
        };
        if pending.segments.last().is_some_and(|(_, _, end)| *end != first) {
            return Err(damaged(format!("`pending/{}` does not begin where the segment before it ends", segment_name(first))));
        }
        read_segment(&bytes, first, &path, number + 1 == count, &mut pending)
            .map_err(|what| damaged(format!("`pending/{}`: {what}", segment_name(first))))?;
    }
    Ok(pending)
}

/// Whether a name is that of a file which was never whole.
pub(super) fn is_unfinished(name: &OsStr) -> bool {
    Path::new(name).extension() == Some(OsStr::new(UNFINISHED))
}

/// Reads the bytes of the last segment, whose first entry is `first`, and says how many entries are whole (pure; fuzzed).
/// Fails where it was changed, as opposed to cut off by a crash.
pub fn check_segment(bytes: &[u8], first: u64) -> Result<u64, String> {
    let mut pending = Pending::default();
    read_segment(bytes, first, Path::new(&segment_name(first)), true, &mut pending)?;
    Ok(pending.batches.iter().map(|batch| batch.count).sum())
}

/// Reads one segment into `pending`. Only the last one may end in a torn batch.
fn read_segment(bytes: &[u8], first: u64, path: &Path, is_last: bool, pending: &mut Pending) -> Result<(), String> {
    let header = segment_header(first);
    let torn = |offset: usize| Some((path.to_owned(), offset as u64, (bytes.len() - offset) as u64));
    if !bytes.starts_with(&header) {
        // The header is on disk before anything follows it.
        if is_last && bytes.len() <= SEGMENT_HEADER && (header.starts_with(bytes) || bytes.iter().all(|byte| *byte == 0)) {
            pending.segments.push((path.to_owned(), first, first));
            pending.torn = torn(0);
            return Ok(());
        }
        return Err("its header was changed".to_owned());
    }
    let (mut offset, mut next) = (SEGMENT_HEADER, first);
    while offset < bytes.len() {
        let rest = bytes.get(offset..).unwrap_or_default();
        match read_batch(rest, next) {
            Ok(batch) => {
                offset += batch.len();
                next = batch.end();
                pending.batches.push(batch);
            }
            Err(Bad::Missing) if is_last => {
                pending.torn = torn(offset);
                break;
            }
            // What is there but wrong is torn only where the disk shows that it was never written: a sector without a bit set.
            Err(Bad::Changed { end, header }) if is_last && end == rest.len() && never_written(rest, offset, header) => {
                pending.torn = torn(offset);
                break;
            }
            Err(Bad::Missing) => return Err(format!("the batch with entry {next}, at byte {offset}, is cut off")),
            Err(Bad::Changed { .. }) => return Err(format!("the batch with entry {next}, at byte {offset}, was changed")),
        }
    }
    pending.segments.push((path.to_owned(), first, next));
    Ok(())
}

enum Bad {
    /// The bytes end before the batch does.
    Missing,
    /// A check sum does not fit: the header's own, or the body's. `end` is where the batch would end, as far as that is known.
    Changed { end: usize, header: bool },
}

fn read_batch(rest: &[u8], expected_first: u64) -> Result<Batch, Bad> {
    let (header, body) = rest.split_first_chunk::<BATCH_HEADER>().ok_or(Bad::Missing)?;
    let number = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    let (crc, length, count) = (number(4), number(8), number(12));
    if *header != batch_header(expected_first, count, length, crc) {
        // How far a torn header reaches is known by its own sectors alone.
        return Err(Bad::Changed { end: rest.len(), header: true });
    }
    let body = body.get(..length as usize).ok_or(Bad::Missing)?;
    let end = BATCH_HEADER + body.len();
    if crc32fast::hash(body) != crc || count == 0 {
        return Err(Bad::Changed { end, header: false });
    }
    let frame = rest.get(..end).ok_or(Bad::Missing)?.to_vec();
    Ok(Batch { first: expected_first, count: count.into(), frame })
}

/// Whether the disk shows that a last batch, or its header, was never wholly written.
fn never_written(rest: &[u8], offset: usize, header: bool) -> bool {
    let sectors_of_header = (offset + BATCH_HEADER).next_multiple_of(SECTOR) - offset;
    let looked_at = if header { rest.len().min(sectors_of_header) } else { rest.len() };
    lacks_a_sector(rest.get(..looked_at).unwrap_or_default(), offset)
}

/// Whether a whole sector of a file, or the part of it that `bytes` covers from `offset` on, is zero.
fn lacks_a_sector(bytes: &[u8], offset: usize) -> bool {
    let (head, rest) = bytes.split_at(bytes.len().min((SECTOR - offset % SECTOR) % SECTOR));
    [head].into_iter().chain(rest.chunks(SECTOR)).any(|sector| !sector.is_empty() && sector.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::MachineDisk;

    #[test]
    fn the_segment_of_the_specification_is_written_and_read() {
        let vector = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/vectors/log/pending");
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(Arc::new(MachineDisk), directory.path().to_owned(), 1 << 20);
        for range in [259..261_u64, 261..262] {
            let mut frame = vec![0; BATCH_HEADER];
            for n in range.clone() {
                assert!(bailiwick_log::tile::encode_entry(format!("entry {n}").as_bytes(), &mut frame));
            }
            writer.append(&Batch::seal(range.start, range.end - range.start, frame).unwrap()).unwrap();
        }
        let written = fs::read(directory.path().join(segment_name(259))).unwrap();
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            fs::create_dir_all(&vector).unwrap();
            fs::write(vector.join(segment_name(259)), &written).unwrap();
        }
        assert_eq!(fs::read(vector.join(segment_name(259))).ok(), Some(written));
        let read = super::read(&MachineDisk, &vector).unwrap();
        assert_eq!(read.batches.iter().map(|batch| (batch.first, batch.end())).collect::<Vec<_>>(), [(259, 261), (261, 262)]);
        assert!(read.torn.is_none());
    }
}
