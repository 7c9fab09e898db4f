//! Reading a bundle's directory: only a bundle's files, of bounded size, and nothing outside of it.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bailiwick_core::bundle::{FOLDERS, Files, concerns};

/// The largest file; reviewed definitions of a large server reach some hundred kilobytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The largest bundle.
const BYTES_MAX: u64 = 64 << 20;
/// The most files of a bundle.
const FILES_MAX: usize = 10_000;

/// Why a directory could not be read. All of it is the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The system said no.
    #[error("`{path}` cannot be read: {error}")]
    Io {
        /// The path.
        path: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A link leads out of the bundle, so what is reviewed with it would not be what is used.
    #[error("`{0}` is a link that leads out of the bundle; put the file itself there")]
    LeadsOut(String),
    /// Neither a file nor a link to one.
    #[error("`{0}` is no regular file")]
    NoFile(String),
    /// A name that is not UTF-8.
    #[error("`{0}` has a name that is not UTF-8")]
    Name(String),
    /// Too much to be a bundle.
    #[error("`{0}` is too large: a file of a bundle holds at most 16 MiB, a bundle 64 MiB in 10,000 files")]
    TooLarge(String),
}

/// A bundle's directory.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

/// What changes when any file of a bundle does, read without opening one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<String, (u64, u64, i64, i64, i64, i64)>);

impl Directory {
    /// The directory at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path that the bundle names: absolute, or relative to the bundle.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    /// Reads all files of the bundle. Blocks.
    pub fn read(&self) -> Result<Files, DirectoryError> {
        let mut files = Files::new();
        let mut left = BYTES_MAX;
        for (name, path) in self.list()? {
            let io = |error| DirectoryError::Io { path: name.clone(), error };
            let file = fs::File::open(&path).map_err(io)?;
            // Asked of the open file, which nobody can exchange any more.
            if !file.metadata().map_err(io)?.is_file() {
                return Err(DirectoryError::NoFile(name));
            }
            let mut content = Vec::new();
            file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut content).map_err(io)?;
            let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
            left = match left.checked_sub(length) {
                Some(left) if length <= FILE_BYTES_MAX => left,
                _ => return Err(DirectoryError::TooLarge(name)),
            };
            files.insert(name, content);
        }
        Ok(files)
    }

    /// What changes when any file does. Blocks.
    pub(super) fn fingerprint(&self) -> Result<Fingerprint, DirectoryError> {
        let mut seen = BTreeMap::new();
        for (name, path) in self.list()? {
            let metadata = fs::metadata(&path).map_err(|error| DirectoryError::Io { path: name.clone(), error })?;
            seen.insert(name, traits(&metadata));
        }
        Ok(Fingerprint(seen))
    }

    /// The bundle's files by their names within it, each with the path at which it is found.
    fn list(&self) -> Result<BTreeMap<String, PathBuf>, DirectoryError> {
        let io = |path: &Path, error| DirectoryError::Io { path: path.display().to_string(), error };
        let root = fs::canonicalize(&self.0).map_err(|error| io(&self.0, error))?;
        let mut found = BTreeMap::new();
        for folder in std::iter::once("").chain(FOLDERS) {
            let within = root.join(folder);
            let entries = match fs::read_dir(&within) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => continue,
                Err(error) => return Err(io(&within, error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| io(&within, error))?;
                let name = entry.file_name();
                let name = name.to_str().ok_or_else(|| DirectoryError::Name(name.to_string_lossy().into_owned()))?;
                let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                if !concerns(&name) {
                    continue;
                }
                let path = fs::canonicalize(entry.path()).map_err(|error| DirectoryError::Io { path: name.clone(), error })?;
                if !path.starts_with(&root) {
                    return Err(DirectoryError::LeadsOut(name));
                }
                // Opening a pipe would wait for a writer.
                if !fs::metadata(&path).map_err(|error| DirectoryError::Io { path: name.clone(), error })?.is_file() {
                    return Err(DirectoryError::NoFile(name));
                }
                found.insert(name, path);
                if found.len() > FILES_MAX {
                    return Err(DirectoryError::TooLarge(folder.to_owned()));
                }
            }
        }
        Ok(found)
    }
}

#[cfg(unix)]
fn traits(metadata: &Metadata) -> (u64, u64, i64, i64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn traits(metadata: &Metadata) -> (u64, u64, i64, i64, i64, i64) {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    (0, metadata.len(), i64::try_from(modified.as_secs()).unwrap_or(0), i64::from(modified.subsec_nanos()), 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("agents")).unwrap();
        fs::write(dir.path().join("bailiwick.toml"), "trust_domain = \"a\"").unwrap();
        fs::write(dir.path().join("README.md"), "about").unwrap();
        fs::write(dir.path().join("agents/.a.toml.swp"), "").unwrap();
        fs::write(dir.path().join("agents/a.toml"), "").unwrap();
        let directory = Directory::new(dir.path());
        (dir, directory)
    }

    #[test]
    fn only_the_bundles_files_are_read() {
        let (_dir, directory) = bundle();
        assert_eq!(directory.read().unwrap().into_keys().collect::<Vec<_>>(), ["agents/a.toml", "bailiwick.toml"]);
    }

    #[test]
    fn a_stray_file_in_a_folder_is_read_so_that_it_is_told() {
        let (dir, directory) = bundle();
        fs::write(dir.path().join("agents/b.yaml"), "").unwrap();
        let problems = bailiwick_core::bundle::read(&directory.read().unwrap()).unwrap_err();
        assert!(problems.iter().any(|problem| problem.file == "agents/b.yaml"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_may_lead_about_the_bundle_and_not_out_of_it() {
        let (dir, directory) = bundle();
        // As Kubernetes mounts a ConfigMap: the files are links into a hidden directory that is exchanged as a whole.
        fs::create_dir(dir.path().join("..data")).unwrap();
        fs::write(dir.path().join("..data/issuers.toml"), "# here").unwrap();
        std::os::unix::fs::symlink("..data/issuers.toml", dir.path().join("issuers.toml")).unwrap();
        assert_eq!(directory.read().unwrap()["issuers.toml"], b"# here");

        let outside = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("agents/out.toml")).unwrap();
        assert!(matches!(directory.read(), Err(DirectoryError::LeadsOut(path)) if path == "agents/out.toml"));
    }

    #[test]
    fn what_is_too_large_or_no_file_is_refused() {
        let (dir, directory) = bundle();
        fs::create_dir(dir.path().join("agents/b.toml")).unwrap();
        assert!(matches!(directory.read(), Err(DirectoryError::NoFile(_))));
        fs::remove_dir(dir.path().join("agents/b.toml")).unwrap();
        fs::File::create(dir.path().join("agents/b.toml")).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(directory.read(), Err(DirectoryError::TooLarge(path)) if path == "agents/b.toml"));
    }

    #[test]
    fn any_change_changes_the_fingerprint() {
        let (dir, directory) = bundle();
        let before = directory.fingerprint().unwrap();
        assert_eq!(directory.fingerprint().unwrap(), before);
        fs::write(dir.path().join("agents/a.toml"), "# more").unwrap();
        let after = directory.fingerprint().unwrap();
        assert_ne!(after, before);
        fs::remove_file(dir.path().join("agents/a.toml")).unwrap();
        assert_ne!(directory.fingerprint().unwrap(), after);
    }
}
