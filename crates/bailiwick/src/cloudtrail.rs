//! CloudTrail's files, read from a disk: unpacked as they come, their events judged, their hashes kept for the chain of digests.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use bailiwick_core::detect::Finding;
use bailiwick_core::detect::cloudtrail::digest::{DIGEST_BYTES_MAX, Digests, Verified};
use bailiwick_core::detect::cloudtrail::{Piece, Splitter, Trail};
use flate2::read::MultiGzDecoder;

/// How much is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// How many complaints are kept of one file; the others are counted.
const COMPLAINTS_MAX: usize = 5;

/// What came of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// Events in it, those that were seen before included.
    pub(crate) events: u64,
    /// Why some of it could not be read, in sentences.
    pub(crate) wrong: Vec<String>,
    /// How many more sentences there would be.
    pub(crate) more_wrong: u64,
}

/// Reads files, and judges the events in them.
pub(crate) struct Files<'t> {
    trail: &'t mut Trail,
    digests: Digests,
    chunk: Vec<u8>,
}

impl<'t> Files<'t> {
    /// Files for a trail.
    pub(crate) fn new(trail: &'t mut Trail) -> Self {
        Self { trail, digests: Digests::default(), chunk: vec![0; CHUNK_BYTES] }
    }

    /// Reads one file. What is whole of it is judged, also where the rest is not.
    pub(crate) fn read(&mut self, path: &Path, found: &mut dyn FnMut(Finding)) -> Done {
        match File::open(path) {
            Ok(file) => {
                let signature = std::fs::read_to_string(beside(path)).ok();
                self.take(&path.to_string_lossy(), file, signature.as_deref(), found)
            }
            Err(error) => {
                let mut done = Done::default();
                done.complain(error.to_string());
                done
            }
        }
    }

    /// Reads one file of a name, however it comes; `signature` is what S3 keeps beside a digest.
    pub(crate) fn take(
        &mut self,
        name: &str,
        content: impl Read + 'static,
        signature: Option<&str>,
        found: &mut dyn FnMut(Finding),
    ) -> Done {
        let mut done = Done::default();
        let content: Box<dyn Read> = if name.ends_with(".gz") { Box::new(MultiGzDecoder::new(content)) } else { Box::new(content) };
        if name.split('/').any(|part| part == "CloudTrail-Digest") {
            self.digest(content, signature, &mut done);
        } else {
            self.events(name, content, found, &mut done);
        }
        done
    }

    /// The digests that were read, with the hashes of the files.
    pub(crate) fn digests(&self) -> &Digests {
        &self.digests
    }

    fn events(&mut self, name: &str, mut reader: impl Read, found: &mut dyn FnMut(Finding), done: &mut Done) {
        let mut splitter = Splitter::new();
        let mut sha256 = digest::Context::new(&digest::SHA256);
        let ended = loop {
            let read = match reader.read(&mut self.chunk) {
                Ok(0) => break Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(cut_short(&error)),
            };
            let bytes = self.chunk.get(..read).unwrap_or_default();
            sha256.update(bytes);
            let trail = &mut *self.trail;
            let pushed = splitter.push(bytes, |piece| match piece {
                Piece::Event(text) => {
                    done.events += 1;
                    match trail.take(text) {
                        Ok(findings) => findings.into_iter().for_each(&mut *found),
                        Err(why) => done.complain(format!("event {} was left out: {why}", done.events)),
                    }
                }
                Piece::TooLong(at) => done.complain(format!("the event at byte {at} was left out: it is longer than any is")),
            });
            if let Err(broken) = pushed {
                break Err(broken.to_string());
            }
        };
        match ended {
            Err(why) => done.complain(format!("{why}; {} events before that were judged", done.events)),
            Ok(()) => {
                if let Err(broken) = splitter.end() {
                    done.complain(broken.to_string());
                }
            }
        }
        self.digests.file(name, sha256_of(sha256));
    }

    fn digest(&mut self, reader: impl Read, signature: Option<&str>, done: &mut Done) {
        let mut bytes = Vec::new();
        let read = reader.take(DIGEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        match read {
            Err(error) => done.complain(cut_short(&error)),
            Ok(read) if read > DIGEST_BYTES_MAX => done.complain("it is longer than any digest is".to_owned()),
            Ok(_) => {
                if let Err(why) = self.digests.take(&bytes, signature) {
                    done.complain(why.to_string());
                }
            }
        }
    }
}

/// The digest of what was read.
fn sha256_of(context: digest::Context) -> [u8; 32] {
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

impl Done {
    fn complain(&mut self, why: String) {
        if self.wrong.len() < COMPLAINTS_MAX {
            self.wrong.push(why);
        } else {
            self.more_wrong += 1;
        }
    }
}

/// The file that may hold the signature of a digest: what S3 keeps as `x-amz-meta-signature`.
fn beside(digest: &Path) -> PathBuf {
    let mut name = digest.as_os_str().to_owned();
    name.push(".signature");
    name.into()
}

fn cut_short(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the packed file is cut off; copy it again".to_owned(),
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => format!("the packed file is damaged: {error}"),
        _ => error.to_string(),
    }
}

/// What was verified, in lines for people.
pub(crate) fn verified_lines(verified: &Verified) -> Vec<String> {
    const LISTED_MAX: usize = 5;
    let listed = |names: &[String]| {
        let more = names.len().saturating_sub(LISTED_MAX);
        let mut text = names.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        text
    };
    let mut lines = vec![format!("digests: {} signed; {} files are what they say", verified.signed, verified.files)];
    if !verified.unsigned.is_empty() {
        lines.push(format!(
            "nobody has the signature of {}: put what `aws s3api head-object` says (`x-amz-meta-signature`) into the file's name and `.signature`, or wait for the next digest",
            listed(&verified.unsigned)
        ));
    }
    if !verified.uncovered.is_empty() {
        lines.push(format!("no digest names {}", listed(&verified.uncovered)));
    }
    lines.extend(verified.broken.iter().map(|why| format!("BROKEN: {why}")));
    lines
}
