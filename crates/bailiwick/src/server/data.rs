//! The data directory: keys and log opened, and what the log still says of executions read back.

use std::path::Path;
use std::sync::Arc;

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::execution::Executions;
use bailiwick_core::flow::WordSeal;
use bailiwick_core::model::{Clock, Entropy, Started};
use bailiwick_gateway::recover::{Keep, Recovered, Shelf, recover};
use bailiwick_log::Log;
use bailiwick_log::note::Signer as _;
use bailiwick_store::embedded;
use bailiwick_store::keys::Keys;
use bailiwick_store::whole::WholeFile;

/// What a server finds in its data directory.
pub(super) struct Opened {
    pub(super) keys: Keys,
    pub(super) log: Log,
    /// The log's public key, as text.
    pub(super) log_key: String,
    pub(super) executions: Arc<Executions>,
    pub(super) recovered: Recovered,
    /// Where the fold of the log is kept.
    pub(super) keep: Keep,
}

/// The file that says what was folded of the log, so that a start need not read that again (`docs/spec/fold.md`).
const FOLD: &str = "fold";

/// The key by which the log keeps words of arguments that it does not keep.
const WORDS_KEY: &str = "words.key";

/// After so many records it is written again: a start that reads as many takes less than a second.
const KEPT_EVERY: u64 = 250_000;

/// The file with the fold.
struct FoldFile(WholeFile);

impl Shelf for FoldFile {
    fn read(&self) -> std::io::Result<Option<Vec<u8>>> {
        self.0.read()
    }

    fn write(&self, fold: &[u8]) -> std::io::Result<()> {
        self.0.write(fold)
    }
}

/// Opens the directory, or makes it, and closes what a crash left open. When this returns, the start is on the disk.
pub(super) async fn open(data: &Path, snapshot: &Snapshot, clock: &dyn Clock, entropy: &dyn Entropy) -> miette::Result<Opened> {
    let keys = Keys::open(&data.join("keys")).map_err(unusable(data))?;
    let signer = keys.log_signer(&format!("{}/log", snapshot.settings.trust_domain), entropy).map_err(unusable(data))?;
    // Whoever verifies the log needs its public key, and must not need the private one.
    let log_key = signer.verifier().to_string();
    publish_key(&data.join(crate::records::PUBLIC_KEY), &log_key).map_err(unusable(data))?;
    let storage = embedded::open(&data.join("log"), Arc::new(signer), embedded::Options::default()).map_err(unusable(data))?;
    #[cfg(feature = "test-switches")]
    let storage = crate::demo::off::forgetful(storage);
    let log = Log::new(Arc::new(storage));
    let secret = keys.secret(WORDS_KEY, entropy).map_err(unusable(data))?;
    let seal = WordSeal::of(&secret).map_err(|_| unusable(data)("the cryptographic library made no key"))?;
    let keep = Keep { shelf: Arc::new(FoldFile(WholeFile::new(data.join(FOLD)))), every: KEPT_EVERY, seal: Arc::new(seal) };
    let (executions, recovered) = recover(&log, snapshot, clock.now(), &keep).await.map_err(unusable(data))?;
    let started = Started { at: clock.now(), version: env!("CARGO_PKG_VERSION").to_owned(), bundle: snapshot.digest };
    let started = log.append(started).await.map_err(unusable(data))?;
    // A disk that takes nothing is found out here and not by the first call.
    log.durable(started).await.map_err(unusable(data))?;
    Ok(Opened { keys, log, log_key, executions, recovered, keep })
}

/// Says what cannot be done in the data directory, and what may help.
fn unusable<E: std::fmt::Display>(data: &Path) -> impl Fn(E) -> miette::Report {
    let data = data.to_owned();
    move |error| {
        miette::miette!(
            help = "free space on its disk, mount it writable, or let this user write there; nothing was recorded half, and what was \
                    recorded is kept. Of a log that is damaged, `bailiwick log verify` says all that is wrong",
            "the data directory `{}` cannot be used: {error}",
            data.display()
        )
    }
}

/// Writes the log's public key, whole and only where it is another, so that a full disk does not take it away.
fn publish_key(path: &Path, key: &str) -> std::io::Result<()> {
    let text = format!("{key}\n");
    if std::fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(unfinished, path)
}
