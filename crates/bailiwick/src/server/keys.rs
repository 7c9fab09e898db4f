//! The issuer's keys among the other key files of the data directory.

use std::io;

use bailiwick_control::issuer::KeyFiles;
use bailiwick_store::keys::Keys;
use zeroize::Zeroizing;

/// The directory of keys, as the issuer sees it.
#[derive(Debug)]
pub(super) struct IssuerFiles(pub(super) Keys);

impl KeyFiles for IssuerFiles {
    fn load(&self, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        self.0.load(name).map_err(io::Error::other)
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.replace(name, bytes).map_err(io::Error::other)
    }
}
