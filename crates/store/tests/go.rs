//! The stored log and its receipts, verified by a program in Go that is built on the Go project's own packages.
//!
//! It needs Debian's `golang-go` and `golang-golang-x-mod-dev`, and no network.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::{Ed25519Signer, Signer};
use bailiwick_log::tile::{decode_entries, encode_entry};
use bailiwick_log::{Position, Storage as _};
use bailiwick_store::audit;
use bailiwick_store::embedded::{self, Options};

const ORIGIN: &str = "log.example/audit";

fn signer() -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed(ORIGIN, &[9; 32]).unwrap())
}

/// Where Debian puts the packages that Go programs are built from.
const DEBIAN_GOPATH: &str = "/usr/share/gocode";

struct Golog {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Golog {
    fn build() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("golog");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/interop/golog/main.go");
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(source)
            .env("GO111MODULE", "off")
            .env("GOPATH", DEBIAN_GOPATH)
            .env("GOCACHE", std::env::temp_dir().join("bailiwick-go-cache"))
            .env("GOFLAGS", "")
            .output();
        let missing = "this test needs Debian's packages golang-go and golang-golang-x-mod-dev (apt-get install them)";
        let Ok(built) = built else { panic!("there is no `go`: {missing}") };
        assert!(built.status.success(), "{missing}: {}", String::from_utf8_lossy(&built.stderr));
        Self { program, directory }
    }

    /// What it says is wrong; empty when nothing is.
    fn says(&self, arguments: &[&Path]) -> String {
        let (command, arguments) = arguments.split_first().unwrap();
        let output = Command::new(&self.program).arg(signer().verifier().to_string()).arg(command).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        said
    }

    fn log(&self, log: &Path) -> String {
        self.says(&[Path::new("log"), log])
    }

    fn log_since(&self, log: &Path, kept: &Path) -> String {
        self.says(&[Path::new("log"), log, kept])
    }

    fn receipt(&self, receipt: &str, entry: &[u8]) -> String {
        let [receipt_path, entry_path] = ["receipt", "entry"].map(|name| self.directory.path().join(name));
        fs::write(&receipt_path, receipt).unwrap();
        fs::write(&entry_path, entry).unwrap();
        self.says(&[Path::new("receipt"), &receipt_path, &entry_path])
    }
}

fn entry(n: u64) -> Vec<u8> {
    format!("entry {n}").into_bytes()
}

/// Brings the log to `count` entries and closes it.
async fn grow(directory: &Path, count: u64, entry: impl Fn(u64) -> Vec<u8>) {
    let log = embedded::open(directory, signer(), Options::default()).unwrap();
    for n in log.len()..count {
        assert_eq!(log.append(entry(n), None).await.unwrap(), Position(n));
    }
    log.close().unwrap();
}

fn sign(directory: &Path, checkpoint: &Checkpoint, signer: &dyn Signer) {
    fs::write(directory.join("checkpoint"), checkpoint.sign(signer).unwrap().to_string()).unwrap();
}

fn checkpoint(directory: &Path) -> Checkpoint {
    Checkpoint::open(&fs::read(directory.join("checkpoint")).unwrap(), signer().verifier()).unwrap()
}

/// Changes the file, looks, and puts it back.
fn with_changed<T>(path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>, look: impl FnOnce() -> T) -> T {
    let honest = fs::read(path).unwrap();
    fs::write(path, change(honest.clone())).unwrap();
    let seen = look();
    fs::write(path, honest).unwrap();
    seen
}

fn rebundle(bundle: &[u8], width: u16, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut entries: Vec<_> = decode_entries(bundle, width).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    change(&mut entries);
    let mut bundle = Vec::new();
    assert!(entries.iter().all(|entry| encode_entry(entry, &mut bundle)));
    bundle
}

#[tokio::test]
async fn an_honest_log_and_its_receipts_verify_in_go_and_tampered_ones_do_not() {
    let golog = Golog::build();
    let log = tempfile::tempdir().unwrap();
    let log = log.path();
    let kept = golog.directory.path().join("kept");
    for size in [0, 1, 2, 255, 256, 257, 600] {
        grow(log, size, entry).await;
        assert_eq!(golog.log(log), "", "{size}");
        if kept.exists() {
            assert_eq!(golog.log_since(log, &kept), "", "growth to {size}");
        }
        fs::copy(log.join("checkpoint"), &kept).unwrap();
        for position in [0, size / 2, size.saturating_sub(1)].into_iter().filter(|position| *position < size) {
            let receipt = audit::prove(log, Position(position), signer().verifier()).unwrap();
            assert_eq!(golog.receipt(&receipt.to_string(), &entry(position)), "", "{position} of {size}");
            assert_eq!(golog.receipt(&receipt.clone().with_extra(vec![1]).to_string(), &entry(position)), "");
            assert!(!golog.receipt(&receipt.to_string(), b"another").is_empty());
            let moved = receipt.to_string().replace(&format!("index {position}\n"), &format!("index {}\n", position + 1));
            assert!(!golog.receipt(&moved, &entry(position)).is_empty());
        }
    }
    grow(log, 700, entry).await;

    // Entries changed, swapped, removed.
    let bundle = log.join("tile/entries/001");
    let look = || golog.log(log);
    assert!(
        with_changed(&bundle, |b| rebundle(&b, 256, |e| e[44] = b"entry 3OO".to_vec()), look)
            .contains("entry 300 is not the one in the tree")
    );
    assert!(with_changed(&bundle, |b| rebundle(&b, 256, |e| e.swap(1, 2)), look).contains("entry 257 is not the one in the tree"));
    assert!(with_changed(&bundle, |b| rebundle(&b, 256, |e| drop(e.remove(9))), look).contains("255 entries"));
    // A tile changed, at the bottom and above.
    for tile in ["tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"] {
        let flip = |mut bytes: Vec<u8>| {
            bytes[40] ^= 1;
            bytes
        };
        assert!(!with_changed(&log.join(tile), flip, look).is_empty(), "{tile}");
    }
    // The end cut off.
    assert!(!with_changed(&log.join("tile/0/002.p/188"), |bytes| bytes[..32].to_vec(), look).is_empty());
    // The checkpoint forged, or an older one put back where a newer one was kept.
    let honest = checkpoint(log);
    let forger = Ed25519Signer::from_seed(ORIGIN, &[8; 32]).unwrap();
    sign(log, &honest, &forger);
    assert!(golog.log(log).contains("checkpoint"));
    let older = tempfile::tempdir().unwrap();
    grow(older.path(), 400, entry).await;
    assert!(golog.log_since(older.path(), &kept).contains("shrank from 600 to 400"));
    // Growth faked: more entries signed than there are.
    sign(log, &Checkpoint { size: 900, ..honest.clone() }, &*signer());
    assert!(!golog.log(log).is_empty());
    sign(log, &honest, &*signer());
    assert_eq!(golog.log_since(log, &kept), "");

    // History rewritten with the right key: sound in itself, and not the log whose checkpoint was kept.
    let rewritten = tempfile::tempdir().unwrap();
    grow(rewritten.path(), 700, |n| if n == 123 { b"nothing happened".to_vec() } else { entry(n) }).await;
    assert_eq!(golog.log(rewritten.path()), "");
    assert!(golog.log_since(rewritten.path(), &kept).contains("history was rewritten"));
}
