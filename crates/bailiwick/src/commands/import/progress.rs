//! How far a bucket was read: shown while it is, and kept so that the next run goes on from there.

use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};

use miette::miette;
use serde::{Deserialize, Serialize};

use crate::s3::Place;

/// After so many objects it is written anew.
const WRITTEN_EVERY: u64 = 100;

/// How far a bucket was read.
pub(super) struct Progress {
    file: Option<PathBuf>,
    bucket: String,
    prefix: String,
    /// The last key that was read; what comes after it is to be read.
    pub(super) after: String,
    objects: u64,
    bytes: u64,
    since_written: u64,
}

/// The same, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    bucket: String,
    prefix: String,
    after: String,
}

impl Progress {
    /// What `file` says of this place; the beginning where there is no file yet.
    pub(super) fn open(file: Option<&Path>, place: &Place) -> miette::Result<Self> {
        let mut progress = Self {
            file: file.map(Path::to_owned),
            bucket: place.bucket.clone(),
            prefix: place.prefix.clone(),
            after: String::new(),
            objects: 0,
            bytes: 0,
            since_written: 0,
        };
        let Some(file) = file else { return Ok(progress) };
        match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(progress),
            Err(error) => Err(miette!("`{}`: {error}", file.display())),
            Ok(text) => {
                let kept: Kept = serde_json::from_str(&text)
                    .map_err(|error| miette!(help = "remove it to begin anew", "`{}` says nothing of a bucket: {error}", file.display()))?;
                if (&kept.bucket, &kept.prefix) != (&place.bucket, &place.prefix) {
                    return Err(miette!(
                        help = "give each place a file of its own",
                        "`{}` is about s3://{}/{}",
                        file.display(),
                        kept.bucket,
                        kept.prefix
                    ));
                }
                progress.after = kept.after;
                Ok(progress)
            }
        }
    }

    /// An object of so many bytes was read.
    pub(super) const fn read(&mut self, bytes: u64) {
        self.objects = self.objects.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// All up to `key` was read.
    pub(super) fn is_at(&mut self, key: &str) -> miette::Result<()> {
        key.clone_into(&mut self.after);
        self.since_written = self.since_written.saturating_add(1);
        if self.since_written >= WRITTEN_EVERY { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> miette::Result<()> {
        self.since_written = 0;
        let Some(file) = &self.file else { return Ok(()) };
        let kept = Kept { bucket: self.bucket.clone(), prefix: self.prefix.clone(), after: self.after.clone() };
        let text = serde_json::to_string(&kept).map_err(|error| miette!("{error}"))?;
        // Whole or not at all: half a key would leave objects out.
        let mut new = file.clone().into_os_string();
        new.push(".new");
        std::fs::write(&new, text + "\n")
            .and_then(|()| std::fs::rename(&new, file))
            .map_err(|error| miette!("`{}`: {error}", file.display()))
    }

    /// Shows it to a person, on the line that it stands on.
    pub(super) fn show(&self) {
        let _ = write!(stderr(), "\r{} objects, {} MiB", self.objects, self.bytes >> 20);
    }

    /// Nothing more is to be read.
    pub(super) fn finish(mut self, is_shown: bool) -> miette::Result<()> {
        if is_shown && self.objects > 0 {
            let _ = writeln!(stderr());
        }
        if self.after.is_empty() { Ok(()) } else { self.write() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_goes_on_where_the_last_one_was_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("progress");
        let place = Place { bucket: "acme-trail".to_owned(), prefix: "AWSLogs/".to_owned() };
        let mut progress = Progress::open(Some(&file), &place).unwrap();
        assert_eq!(progress.after, "");
        progress.is_at("AWSLogs/a").unwrap();
        progress.finish(false).unwrap();
        assert_eq!(Progress::open(Some(&file), &place).unwrap().after, "AWSLogs/a");
        assert!(Progress::open(Some(&file), &Place { prefix: "other/".to_owned(), ..place.clone() }).is_err());
        std::fs::write(&file, "half").unwrap();
        assert!(Progress::open(Some(&file), &place).is_err());
    }
}
