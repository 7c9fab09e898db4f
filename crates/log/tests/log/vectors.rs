//! The vectors beside `docs/spec/log.md`: written by this crate, and read as a second implementation would read them.
//!
//! `UPDATE_VECTORS=1 cargo test -p bailiwick-log --test log vectors` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::files::{Files, Unreadable};
use bailiwick_log::note::{Signer as _, VerifierKey, private_text};
use bailiwick_log::receipt::Receipt;
use bailiwick_log::verify::{Audit, Fault, verify};

use crate::common::{Memory, ORIGIN, entries, signer};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/vectors/log")
}

struct Stored(PathBuf);

impl Files for Stored {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(fs::read(self.0.join(path)).ok())
    }
}

#[test]
fn the_vectors_are_what_is_written() {
    let all = entries(259);
    let log = Memory::of(&all);
    let mut rewritten = all.clone();
    rewritten[123] = b"nothing happened here".to_vec();
    let mut files: BTreeMap<String, Vec<u8>> = log.files.iter().map(|(path, bytes)| (format!("log/{path}"), bytes.clone())).collect();
    let mut text = |name: &str, text: String| files.insert(name.to_owned(), text.into_bytes());
    text("vkey", format!("{}\n", signer().verifier()));
    text("private-key", format!("{}\n", private_text(ORIGIN, &[42; 32]).unwrap()));
    text("kept/honest-200", String::from_utf8(Memory::of(&all[..200]).files["checkpoint"].clone()).unwrap());
    text("kept/rewritten-200", String::from_utf8(Memory::of(&rewritten[..200]).files["checkpoint"].clone()).unwrap());
    for position in [0, 123, 256, 258] {
        let receipt = Receipt::prove(&log, position, signer().verifier()).unwrap();
        text(&format!("receipts/{position}.tlog-proof"), receipt.to_string());
    }
    for (path, bytes) in files {
        let path = vectors().join(path);
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(fs::read(&path).ok(), Some(bytes), "{}", path.display());
    }
}

#[test]
fn the_vectors_are_read() {
    let text = |name: &str| fs::read_to_string(vectors().join(name)).unwrap();
    let key: VerifierKey = text("vkey").trim_end().parse().unwrap();
    let kept = |name: &str| Checkpoint::open(text(name).as_bytes(), &key).unwrap();
    let log = Stored(vectors().join("log"));
    let faults = |kept: Checkpoint| verify(&log, &Audit { key: &key, kept: &[kept], growing: false }).unwrap().faults;
    assert_eq!(faults(kept("kept/honest-200")), []);
    assert_eq!(faults(kept("kept/rewritten-200")), [Fault::Rewritten { kept: 200 }]);
    for position in [0, 123, 256, 258_u64] {
        let receipt: Receipt = text(&format!("receipts/{position}.tlog-proof")).parse().unwrap();
        assert_eq!(receipt.index(), position);
        assert_eq!(receipt.verify(format!("entry {position}").as_bytes(), &key).unwrap().size, 259);
        assert!(receipt.verify(b"another", &key).is_err());
    }
}
