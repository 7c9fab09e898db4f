//! Bringing a changed bundle into force: recorded first, then exchanged as a whole; a broken one changes nothing.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bailiwick_core::bundle::{self, Bundle, Live, Problem, Settings, Snapshot};
use bailiwick_core::model::{BundleActivated, Clock, Digest};
use bailiwick_log::{Log, StorageError};
use tokio::sync::Mutex;

use super::directory::Fingerprint;
use super::{Directory, DirectoryError};

/// How often the directory is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Why a bundle did not come into force. What was in force stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its directory cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It has mistakes.
    #[error("the bundle has {}", counted(.0))]
    Broken(Vec<Problem>),
    /// It changes what cannot change while the server runs.
    #[error("restart to change {}: the bundle in force stays until then", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// That it comes into force could not be recorded.
    #[error("that the bundle comes into force could not be recorded: {0}")]
    NotRecorded(#[from] StorageError),
    /// The program is shutting down.
    #[error("the bundle was not read: the program is shutting down")]
    ShuttingDown,
}

fn counted(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == bundle::Severity::Error).count();
    let first = problems.iter().find(|problem| problem.severity == bundle::Severity::Error).map(ToString::to_string).unwrap_or_default();
    match errors {
        1 => format!("a mistake: {first}"),
        _ => format!("{errors} mistakes, the first of them: {first}"),
    }
}

/// What a look at the directory led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The bundle in force is what is there.
    Unchanged(Digest),
    /// Another bundle came into force.
    Activated {
        /// The bundle before it.
        before: Digest,
        /// The bundle in force.
        now: Digest,
    },
}

/// How the directory stands to what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Why what is in the directory is not in force; nothing when it is.
    pub refused: Option<String>,
    /// What someone should know of the bundle in force.
    pub warnings: Vec<Problem>,
}

/// Watches a bundle's directory for one running server.
pub struct Loader {
    directory: Directory,
    live: Arc<Live>,
    log: Log,
    clock: Arc<dyn Clock>,
    prepare: Prepare,
    /// Held while a bundle is read and put into force, so that two do not overtake each other.
    seen: Mutex<Seen>,
    status: RwLock<Status>,
}

/// What must be ready for a bundle before it is in force, such as connections to its tool servers.
pub type Prepare = Box<dyn Fn(&Snapshot) + Send + Sync>;

/// What the last looks at the directory saw.
#[derive(Debug, Default)]
struct Seen {
    /// What the last look saw.
    last: Fingerprint,
    /// What was read last.
    read: Option<Fingerprint>,
}

impl Loader {
    /// Reads the bundle that a server starts with. Blocks.
    pub fn read(directory: &Directory) -> Result<Bundle, LoadError> {
        bundle::read(&directory.read()?).map_err(LoadError::Broken)
    }

    /// A loader for a bundle that was read from `directory` and is in force. `prepare` is called with each further bundle just
    /// before that is in force.
    pub fn new(directory: Directory, warnings: Vec<Problem>, live: Arc<Live>, log: Log, clock: Arc<dyn Clock>, prepare: Prepare) -> Self {
        let status = RwLock::new(Status { refused: None, warnings });
        Self { directory, live, log, clock, prepare, seen: Mutex::default(), status }
    }

    /// How the directory stands to what is in force.
    pub fn status(&self) -> Status {
        self.status.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the directory every second, for as long as it is polled.
    pub async fn watch(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    /// Looks at the directory once. A change is read at the second look that sees it, so that a bundle that is just being
    /// written is not taken half.
    pub async fn look(&self) -> Option<Result<Loaded, LoadError>> {
        let mut seen = self.seen.lock().await;
        let directory = self.directory.clone();
        // What cannot be looked at is read, which then says why.
        let now = blocking(move || directory.fingerprint()).await.and_then(|now| now.map_err(LoadError::from)).unwrap_or_default();
        let settled = seen.last == now;
        seen.last = now.clone();
        if !settled || seen.read.as_ref() == Some(&now) {
            return None;
        }
        seen.read = Some(now);
        Some(self.load().await)
    }

    /// Reads the bundle now and brings it into force if it is another one.
    pub async fn reload(&self) -> Result<Loaded, LoadError> {
        let _alone = self.seen.lock().await;
        self.load().await
    }

    async fn load(&self) -> Result<Loaded, LoadError> {
        let loaded = self.bring_into_force().await;
        let mut status = self.status.write().unwrap_or_else(PoisonError::into_inner);
        match &loaded {
            Ok((Loaded::Activated { before, now }, warnings)) => {
                tracing::info!(%before, %now, warnings = warnings.len(), "another bundle is in force");
                *status = Status { refused: None, warnings: warnings.clone() };
            }
            Ok((Loaded::Unchanged(_), warnings)) => *status = Status { refused: None, warnings: warnings.clone() },
            Err(error) => {
                tracing::error!(%error, in_force = %self.live.load().digest, "the changed bundle is not in force");
                status.refused = Some(error.to_string());
            }
        }
        loaded.map(|(loaded, _)| loaded)
    }

    async fn bring_into_force(&self) -> Result<(Loaded, Vec<Problem>), LoadError> {
        let directory = self.directory.clone();
        let Bundle { snapshot, warnings, .. } = blocking(move || Self::read(&directory)).await??;
        let in_force = self.live.load();
        if snapshot.digest == in_force.digest {
            return Ok((Loaded::Unchanged(in_force.digest), warnings));
        }
        let fixed = fixed_differences(&in_force, &snapshot);
        if !fixed.is_empty() {
            return Err(LoadError::NeedsRestart(fixed));
        }
        let (before, now) = (in_force.digest, snapshot.digest);
        let loosens = bundle::loosened(&in_force, &snapshot);
        // Recorded first: no record may name a bundle that the log does not know.
        self.log.append(BundleActivated { at: self.clock.now(), bundle: now, before: Some(before), loosens }).await?;
        (self.prepare)(&snapshot);
        self.live.activate(snapshot);
        Ok((Loaded::Activated { before, now }, warnings))
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Runs what blocks where it blocks nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| LoadError::ShuttingDown)
}

/// What differs of that which a running server cannot change: its names are in credentials, its sockets are open.
fn fixed_differences<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Vec<&'static str> {
    let (before, after) = (&before.settings, &after.settings);
    let of = |settings: &'a Settings| settings.approvals.listen.as_ref();
    [
        ("`trust_domain`", before.trust_domain == after.trust_domain),
        ("`data_dir`", before.data_dir == after.data_dir),
        ("`local_socket`", before.local_socket == after.local_socket),
        ("`ca_file`", before.ca_file == after.ca_file),
        ("`data.listen`", before.data.address == after.data.address),
        ("`data.origin`", before.data.origin == after.data.origin),
        ("`data.tls`", before.data.tls == after.data.tls),
        ("`identity.listen`", before.identity.address == after.identity.address),
        ("`identity.origin`", before.identity.origin == after.identity.origin),
        ("`identity.tls`", before.identity.tls == after.identity.tls),
        ("`approvals.listen`", of(before).map(|listen| listen.address) == of(after).map(|listen| listen.address)),
        ("`approvals.origin`", of(before).map(|listen| &listen.origin) == of(after).map(|listen| &listen.origin)),
        ("`approvals.tls`", of(before).and_then(|listen| listen.tls.as_ref()) == of(after).and_then(|listen| listen.tls.as_ref())),
        ("`limits.calls_max`", before.limits.calls_max == after.limits.calls_max),
    ]
    .into_iter()
    .filter(|(_, same)| !same)
    .map(|(name, _)| name)
    .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex as StdMutex;

    use async_trait::async_trait;
    use bailiwick_core::model::Timestamp;
    use bailiwick_log::{Expected, Position, Storage};

    use super::*;

    /// A log in memory, which can be made to fail.
    #[derive(Default)]
    struct Memory(StdMutex<(Vec<Vec<u8>>, bool)>);

    #[async_trait]
    impl Storage for Memory {
        async fn append(&self, bytes: Vec<u8>, _expected: Option<Expected>) -> Result<Position, StorageError> {
            let mut kept = self.0.lock().unwrap();
            if kept.1 {
                return Err(StorageError::Failed("full".into()));
            }
            kept.0.push(bytes);
            Ok(Position(kept.0.len() as u64 - 1))
        }

        async fn durable(&self, _position: Position) -> Result<(), StorageError> {
            Ok(())
        }

        async fn read(&self, _from: Position, _entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
            Ok(self.0.lock().unwrap().0.clone())
        }

        async fn reached(&self, _position: Position) -> Result<(), StorageError> {
            Ok(())
        }

        fn len(&self) -> u64 {
            self.0.lock().unwrap().0.len() as u64
        }
    }

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    struct World {
        dir: tempfile::TempDir,
        storage: Arc<Memory>,
        live: Arc<Live>,
        prepared: Arc<Mutex<Vec<Digest>>>,
        loader: Loader,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("bailiwick.toml"), "trust_domain = \"acme.example\"\n").unwrap();
            let directory = Directory::new(dir.path());
            let bundle = Loader::read(&directory).unwrap();
            let live = Arc::new(Live::new(bundle.snapshot));
            let storage = Arc::new(Memory::default());
            let log = Log::new(Arc::clone(&storage) as Arc<dyn Storage>);
            let prepared = Arc::new(Mutex::new(Vec::new()));
            let (preparing, in_force) = (Arc::clone(&prepared), Arc::clone(&live));
            let prepare = Box::new(move |next: &Snapshot| {
                assert_ne!(in_force.load().digest, next.digest, "it is prepared before it is in force");
                preparing.try_lock().unwrap().push(next.digest);
            });
            let loader = Loader::new(directory, bundle.warnings, Arc::clone(&live), log, Arc::new(Epoch), prepare);
            Self { dir, storage, live, prepared, loader }
        }

        fn write(&self, more: &str) {
            fs::write(self.dir.path().join("bailiwick.toml"), format!("trust_domain = \"acme.example\"\n{more}")).unwrap();
        }
    }

    #[tokio::test]
    async fn a_changed_bundle_is_recorded_and_comes_into_force_at_the_second_look() {
        let world = World::new();
        while world.loader.look().await.is_none() {}
        let before = world.live.load().digest;
        world.write("[limits]\ndepth_max = 9\n[rules]\noff = [\"canary_called\"]\n");
        assert!(world.loader.look().await.is_none());
        let loaded = world.loader.look().await.unwrap().unwrap();
        let now = world.live.load();
        assert_eq!(loaded, Loaded::Activated { before, now: now.digest });
        assert_eq!(*world.prepared.lock().await, [now.digest]);
        assert_eq!(now.settings.limits.depth_max, 9);
        let record: serde_json::Value = serde_json::from_slice(&world.storage.0.lock().unwrap().0[0]).unwrap();
        assert_eq!((&record["kind"], &record["bundle"]), (&"bundle_activated".into(), &now.digest.to_string().into()));
        let canary = "7604ca15-551b-5005-a27b-7275ac22c520";
        assert_eq!(record["loosens"], serde_json::json!([format!("rule_off:{canary}")]));
        assert!(now.rules.is_off(canary));
        assert!(world.loader.look().await.is_none());
    }

    #[tokio::test]
    async fn a_broken_bundle_changes_nothing_and_says_so() {
        let world = World::new();
        let before = world.live.load().digest;
        world.write("[limits]\ndepth = 9\n");
        assert!(matches!(world.loader.reload().await, Err(LoadError::Broken(_))));
        assert_eq!((world.live.load().digest, world.storage.len()), (before, 0));
        assert!(world.loader.status().refused.unwrap().contains("unknown key `depth`"));
        world.write("");
        assert_eq!(world.loader.reload().await.unwrap(), Loaded::Unchanged(before));
        assert_eq!(world.loader.status().refused, None);
    }

    #[tokio::test]
    async fn what_a_running_server_cannot_change_is_refused_by_name() {
        let world = World::new();
        world.write("data_dir = \"elsewhere\"\n[data]\nlisten = \"127.0.0.1:9000\"\n");
        let error = world.loader.reload().await.unwrap_err().to_string();
        assert!(error.contains("restart to change `data_dir`, `data.listen`, `data.origin`"), "{error}");
    }

    #[tokio::test]
    async fn a_bundle_that_cannot_be_recorded_does_not_come_into_force() {
        let world = World::new();
        let before = world.live.load().digest;
        world.storage.0.lock().unwrap().1 = true;
        world.write("[limits]\ndepth_max = 9\n");
        assert!(matches!(world.loader.reload().await, Err(LoadError::NotRecorded(_))));
        assert_eq!(world.live.load().digest, before);
    }
}
