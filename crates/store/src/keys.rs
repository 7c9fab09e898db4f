//! Private keys as files that only their owner can read.
//!
//! A key is bytes under a name; what they mean is its user's. The directory is 0700 and each file 0600: anything wider is
//! refused rather than narrowed, since whoever could read it may have done so. Files appear whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bailiwick_core::model::Entropy;
use bailiwick_log::note::{Ed25519Signer, InvalidKey, Signer as _, private_text};
use zeroize::Zeroizing;

use crate::disk::{Disk as _, MachineDisk};
use crate::files::{missing, sync_parents};

/// The name of the key that signs checkpoints.
const LOG_KEY: &str = "log.key";

/// Larger than any key: a limit on what is read into memory.
const KEY_BYTES_MAX: u64 = 1 << 20;

/// Why a key could not be used. All of it is the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Somebody other than the owner can read the file or change the directory.
    #[error("`{path}` has mode {mode:04o}, so others may have read it; make it {wanted:04o}, and replace the key if they could")]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they must be at most.
        wanted: u32,
    },
    /// A key of this name exists; it is never overwritten.
    #[error("a key named `{0}` exists already")]
    Exists(String),
    /// The name is not one for a key.
    #[error("`{0}` cannot name a key: use letters, digits, `-`, `_` and `.`, and do not begin with a dot")]
    Name(String),
    /// The file is not the key that it should be.
    #[error("`{path}` does not hold the key it should: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidKey,
    },
    /// The key belongs to another log.
    #[error("`{path}` signs for the log `{found}`, and this one is `{expected}`")]
    Origin {
        /// The file.
        path: PathBuf,
        /// The log that was opened.
        expected: String,
        /// The log that the key names.
        found: String,
    },
    /// The file system refused.
    #[error("`{path}` cannot be used: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A directory of keys.
#[derive(Clone, Debug)]
pub struct Keys {
    directory: PathBuf,
}

impl Keys {
    /// Opens the directory, creating it where there is none. Fails when others may enter it.
    pub fn open(directory: &Path) -> Result<Self, KeyError> {
        let at = |source| KeyError::File { path: directory.to_owned(), source };
        let missing = missing(&MachineDisk, directory);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at)?;
        sync_parents(&MachineDisk, &missing).map_err(at)?;
        check_mode(directory, fs::metadata(directory).map_err(at)?.mode(), 0o700)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The key called `name`, or `None` where there is none.
    pub fn load(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
        let path = self.path(name)?;
        let at = |source| KeyError::File { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(error)),
        };
        let metadata = file.metadata().map_err(at)?;
        check_mode(&path, metadata.mode(), 0o600)?;
        if !metadata.is_file() || metadata.len() > KEY_BYTES_MAX {
            return Err(at(io::Error::other("it is not a file, or too large for a key")));
        }
        let mut secret = Zeroizing::new(Vec::with_capacity(metadata.len() as usize));
        io::Read::read_to_end(&mut file, &mut secret).map_err(at)?;
        Ok(Some(secret))
    }

    /// Stores `secret` as a new key called `name`, on disk when this returns. Never overwrites.
    pub fn create(&self, name: &str, secret: &[u8]) -> Result<(), KeyError> {
        let path = self.path(name)?;
        let unfinished = self.unfinished(&path, secret)?;
        // A link, unlike a rename, does not replace what is there.
        let linked = fs::hard_link(&unfinished, &path);
        let removed = fs::remove_file(&unfinished);
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(KeyError::Exists(name.to_owned())),
            linked => {
                linked.and(removed).and_then(|()| MachineDisk.sync(&self.directory)).map_err(|source| KeyError::File { path, source })
            }
        }
    }

    /// Stores `secret` as the key called `name`, in place of one that may be there.
    pub fn replace(&self, name: &str, secret: &[u8]) -> Result<(), KeyError> {
        let path = self.path(name)?;
        let unfinished = self.unfinished(&path, secret)?;
        let renamed = fs::rename(unfinished, &path).and_then(|()| MachineDisk.sync(&self.directory));
        renamed.map_err(|source| KeyError::File { path, source })
    }

    /// Removes the key called `name`, if there is one.
    pub fn remove(&self, name: &str) -> Result<(), KeyError> {
        let path = self.path(name)?;
        match fs::remove_file(&path).and_then(|()| MachineDisk.sync(&self.directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KeyError::File { path, source: error }),
            _ => Ok(()),
        }
    }

    /// The names of the keys, in order.
    pub fn names(&self) -> Result<Vec<String>, KeyError> {
        let at = |source| KeyError::File { path: self.directory.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(at)? {
            names.extend(entry.map_err(at)?.file_name().into_string().ok().filter(|name| name_is_valid(name)));
        }
        names.sort();
        Ok(names)
    }

    /// The 32 bytes of the key called `name`, which is for this house's own use; made from `entropy` when there is none yet.
    pub fn secret(&self, name: &str, entropy: &dyn Entropy) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        if let Some(secret) = self.load(name)? {
            return Ok(secret);
        }
        let mut secret = Zeroizing::new(vec![0; 32]);
        entropy.fill(&mut secret);
        self.create(name, &secret)?;
        Ok(secret)
    }

    /// The signer of the log `origin`; its key is made from `entropy` when there is none yet.
    pub fn log_signer(&self, origin: &str, entropy: &dyn Entropy) -> Result<Ed25519Signer, KeyError> {
        let path = self.path(LOG_KEY)?;
        let content = |source| KeyError::Content { path: path.clone(), source };
        let text = match self.load(LOG_KEY)? {
            Some(bytes) => Zeroizing::new(String::from_utf8(bytes.to_vec()).map_err(|_| content(InvalidKey::Format))?),
            None => {
                let mut seed = Zeroizing::new([0; 32]);
                entropy.fill(&mut *seed);
                let text = Zeroizing::new(private_text(origin, &seed).map_err(content)?);
                self.create(LOG_KEY, text.as_bytes())?;
                text
            }
        };
        let signer = Ed25519Signer::from_private_text(text.trim_end()).map_err(content)?;
        if signer.verifier().name() != origin {
            return Err(KeyError::Origin { path, expected: origin.to_owned(), found: signer.verifier().name().to_owned() });
        }
        Ok(signer)
    }

    fn path(&self, name: &str) -> Result<PathBuf, KeyError> {
        if name_is_valid(name) { Ok(self.directory.join(name)) } else { Err(KeyError::Name(name.escape_debug().to_string())) }
    }

    /// Writes the secret beside its place. The leading dot keeps it out of [`Keys::names`] if a crash leaves it there.
    fn unfinished(&self, path: &Path, secret: &[u8]) -> Result<PathBuf, KeyError> {
        let name = path.file_name().unwrap_or_default().display();
        let unfinished = self.directory.join(format!(".{name}.{}", std::process::id()));
        let written = || {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(secret)?;
            file.sync_all()
        };
        written().map_err(|source| KeyError::File { path: unfinished.clone(), source })?;
        Ok(unfinished)
    }
}

fn name_is_valid(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(allowed)
}

fn check_mode(path: &Path, mode: u32, wanted: u32) -> Result<(), KeyError> {
    let mode = mode & 0o7777;
    if mode & !wanted == 0 { Ok(()) } else { Err(KeyError::Open { path: path.to_owned(), mode, wanted }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.iter_mut().zip(1..).for_each(|(byte, n)| *byte = n);
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_kept_is_private_and_is_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data/keys");
        let keys = Keys::open(&directory).unwrap();
        assert_eq!(keys.load("issuer-1").unwrap(), None);
        keys.create("issuer-1", b"secret").unwrap();
        assert!(matches!(keys.create("issuer-1", b"other"), Err(KeyError::Exists(_))));
        assert_eq!(**keys.load("issuer-1").unwrap().unwrap(), *b"secret");
        keys.replace("issuer-1", b"new").unwrap();
        assert_eq!(**keys.load("issuer-1").unwrap().unwrap(), *b"new");
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::metadata(directory.join("issuer-1")).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(keys.names().unwrap(), ["issuer-1"]);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        keys.remove("issuer-1").unwrap();
        keys.remove("issuer-1").unwrap();
        assert_eq!(keys.load("issuer-1").unwrap(), None);
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::open(&directory.path().join("keys")).unwrap();
        keys.create("k", b"secret").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o700] {
            set_mode(&directory.path().join("keys/k"), mode);
            assert!(matches!(keys.load("k"), Err(KeyError::Open { .. })), "{mode:o}");
        }
        set_mode(&directory.path().join("keys/k"), 0o400);
        assert!(keys.load("k").unwrap().is_some());
        set_mode(&directory.path().join("keys"), 0o750);
        assert!(matches!(Keys::open(&directory.path().join("keys")), Err(KeyError::Open { .. })));
        set_mode(&directory.path().join("keys"), 0o700);
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::open(&directory.path().join("keys")).unwrap();
        for name in ["", ".", "..", "../k", "a/b", ".hidden", "a b", "a\0b"] {
            assert!(matches!(keys.create(name, b"x"), Err(KeyError::Name(_))), "{name}");
        }
    }

    #[test]
    fn the_log_keeps_its_key_and_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::open(&directory.path().join("keys")).unwrap();
        let first = keys.log_signer("log.example", &Counting).unwrap();
        assert_eq!(keys.log_signer("log.example", &Counting).unwrap().verifier(), first.verifier());
        assert!(matches!(keys.log_signer("other.example", &Counting), Err(KeyError::Origin { .. })));
        keys.replace(LOG_KEY, b"rubbish").unwrap();
        let error = keys.log_signer("log.example", &Counting).unwrap_err();
        assert!(matches!(error, KeyError::Content { .. }) && !error.to_string().contains("rubbish"));
    }
}
