//! The log, watched as it grows: what is usual for each agent, what is out of the ordinary, and that what was found is on the log.
//!
//! One follower does it, behind the path and on a thread of its own. What it made of the log is kept on disk, so that a start goes on
//! from there; whatever of it is lost is read from the log again. Nothing that it finds is recorded before it has read all that was on the
//! log when it started, since it may be there already.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_control::findings::Watched;
use bailiwick_control::respond::Responding;
use bailiwick_core::bundle::{Live, Snapshot};
use bailiwick_core::detect::Sentry;
use bailiwick_core::detect::baseline::{Baselines, Budget, Watch};
use bailiwick_core::detect::kept::{self, Kept};
use bailiwick_core::detect::respond::Responder;
use bailiwick_core::detect::rules::Source;
use bailiwick_core::detect::sentry::Outbox;
use bailiwick_core::model::{Clock, Digest, Found};
use bailiwick_log::{FollowError, Follower, Log, Position, Recorded, StorageError, catch_up};
use bailiwick_store::whole::WholeFile;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The file that says what was made of the log (`docs/spec/detection.md`).
const FILE: &str = "watch";

/// After so many records it is written again.
const KEPT_EVERY: u64 = 100_000;

/// How long what nobody waits for is left to be on disk by itself, before the disk is hurried so that it can be watched.
const SOON: Duration = Duration::from_millis(4);

/// How long to wait before the log is tried again that could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// What is kept, as it is read.
#[derive(Deserialize)]
struct State {
    baselines: Baselines,
    sentry: Sentry,
    #[serde(default)]
    responder: Responder,
}

/// The same, as it is written.
#[derive(Serialize)]
struct Borrowed<'a> {
    baselines: &'a Baselines,
    sentry: &'a Sentry,
    responder: &'a Responder,
}

/// Reads the log.
struct Watcher {
    watched: Arc<Watched>,
    /// Answers what is found.
    responding: Arc<Responding>,
    live: Arc<Live>,
    log: Log,
    clock: Arc<dyn Clock>,
    file: WholeFile,
    outbox: Outbox,
    /// The end of the log at the start.
    until: Position,
    /// The bundle that is gone by.
    bundle: Option<Digest>,
    next: Position,
    kept: u64,
    /// The writing of what was made of the log, while it is under way.
    keeping: Option<JoinHandle<()>>,
}

/// What was made of the log as it was kept in `data`, where that is of this log and can be read; otherwise nothing yet.
pub(super) async fn open(data: &Path, log: &Log, snapshot: &Snapshot) -> (Arc<Watched>, Responder) {
    let kept = match WholeFile::new(data.join(FILE)).read() {
        Ok(bytes) => bytes.as_deref().and_then(Kept::<State>::read),
        Err(error) => {
            tracing::warn!(%error, "what was made of the log cannot be read, and the log is read again");
            None
        }
    };
    // The two are of one place, or something else wrote them.
    let kept = kept.filter(|kept| kept.state().sentry.next() == kept.state().baselines.next());
    let root = match kept.as_ref().map(|kept| kept.state().sentry.next().0) {
        Some(records) if records <= log.storage().len() => log.storage().root(records).await.ok().flatten(),
        _ => None,
    };
    let state = kept.zip(root).and_then(|(kept, root)| kept.of_tree(&root));
    let new = || State {
        baselines: Baselines::new(snapshot.settings.trust_domain.as_str(), budget(snapshot)),
        sentry: Sentry::default(),
        responder: Responder::default(),
    };
    let State { baselines, sentry, responder } = state.unwrap_or_else(new);
    (Arc::new(Watched::new(Arc::new(Watch::new(baselines)), sentry)), responder)
}

/// Watches the log until `stopped`, on a thread of its own. That it cannot is said loudly: on standard error, on the log as a finding,
/// and to whoever asks.
pub(super) fn keep_watching(
    watched: Arc<Watched>,
    responding: Arc<Responding>,
    live: Arc<Live>,
    log: Log,
    clock: Arc<dyn Clock>,
    data: &Path,
    mut stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let next = watched.sentry().next();
    let until = Position(log.storage().len());
    let file = WholeFile::new(data.join(FILE));
    let outbox = Outbox::new(until);
    let mut watcher =
        Watcher { watched, responding, live, log, clock, file, outbox, until, bundle: None, next, kept: next.0, keeping: None };
    tokio::task::spawn_blocking(move || {
        let handle = Handle::current();
        let watching = panic::catch_unwind(AssertUnwindSafe(|| {
            handle.block_on(async {
                tokio::select! {
                    never = watcher.watch() => match never {},
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
                if let Some(keeping) = watcher.keeping.take() {
                    let _ = keeping.await;
                }
                if watcher.next.0 > watcher.kept
                    && let Some(keeping) = watcher.keep()
                {
                    let _ = keeping.await;
                }
            });
        }));
        if watching.is_err() {
            handle.block_on(watcher.broke());
        }
    })
}

/// How many false alerts the bundle says can be borne.
fn budget(snapshot: &Snapshot) -> Budget {
    Budget::one_in(u32::try_from(snapshot.settings.limits.executions_per_alert).unwrap_or(u32::MAX))
}

impl Watcher {
    /// Goes by the bundle in force: its roles, its budget and its rules.
    fn go_by_bundle(&mut self) {
        let snapshot = self.live.load();
        if self.bundle != Some(snapshot.digest) {
            let members = snapshot.agents.iter().map(|(name, agent)| (name.clone(), agent.roles.iter().cloned().collect()));
            self.watched.baselines.set(members.collect(), budget(&snapshot));
            let (rules, problems) = snapshot.rules.about(Source::Record);
            problems.iter().for_each(|problem| tracing::error!(%problem, "a rule of the bundle is not watched by"));
            self.watched.sentry().go_by(Arc::new(rules));
            self.bundle = Some(snapshot.digest);
        }
    }

    async fn watch(&mut self) -> std::convert::Infallible {
        // What was found before the last end and is not on the log waits for no further record; nor does what was not answered.
        self.record().await;
        self.answer();
        loop {
            let log = self.log.clone();
            let error = self.follow_closely(&log).await;
            tracing::error!(%error, next = self.next.0, "the log is not watched; it is tried again");
            self.watched.set_trouble(Some(error.to_string()));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Follows the log until it cannot be read.
    async fn follow_closely(&mut self, log: &Log) -> FollowError {
        loop {
            let next = match catch_up(log, self).await {
                Ok(next) => next,
                Err(error) => return error,
            };
            let more = tokio::select! {
                reached = log.storage().reached(next) => reached,
                hurried = hurried(log, next) => hurried,
            };
            if let Err(error) = more {
                return error.into();
            }
        }
    }

    /// Appends what is found and is not on the log.
    async fn record(&mut self) {
        let (due, is_ahead) = {
            let sentry = self.watched.sentry();
            (self.outbox.due(&sentry), sentry.next() < self.until)
        };
        let mut appended = Vec::new();
        for finding in due {
            let found = Found::new(self.clock.now(), finding, None);
            let (id, count) = (found.finding.id, found.finding.count);
            if !found.fits() {
                tracing::error!(%id, detector = found.finding.detector.id, "a finding is longer than a record may be, and is not recorded");
                self.watched.sentry().is_recorded(&id, count);
                continue;
            }
            match self.log.append(found).await {
                Ok(recorded) => {
                    let Found { code, finding, .. } = recorded.value();
                    let (level, title) = (code.as_str(), &finding.detector.title);
                    tracing::warn!(record = recorded.position().0, %id, count, level, title, "found: {}", finding.seen);
                    appended.push((id, count, recorded));
                }
                Err(error) => {
                    tracing::error!(%error, %id, "a finding could not be recorded");
                    self.outbox.failed(&id, count);
                }
            }
        }
        if is_ahead {
            // Where the log is caught up with, what is recorded early does not wait in memory until it is read back.
            for (id, count, recorded) in appended {
                if self.log.durable(recorded).await.is_ok() {
                    self.watched.sentry().is_recorded(&id, count);
                }
            }
        }
    }

    /// Has what was found answered, once all was read that was on the log at the start.
    fn answer(&self) {
        if self.next >= self.until {
            self.responding.wake();
        }
    }

    /// Says loudly that nothing is watched any more: something in here is broken.
    async fn broke(&self) {
        let (next, why) = (self.next, "this program has a fault; start it anew, and report it");
        tracing::error!(next = next.0, "the log is not watched any more: {why}");
        self.watched.set_trouble(Some(why.to_owned()));
        let now = self.clock.now();
        let found = Found::new(now, Sentry::stopped(next, now, why), Some("bailiwick".to_owned()));
        if let Err(error) = self.log.append(found).await {
            tracing::error!(%error, "that the log is not watched any more could not be recorded");
        }
    }

    /// Writes what was made of the log so far, while the watching goes on: the root of the tree is there only once a checkpoint is.
    fn keep(&mut self) -> Option<JoinHandle<()>> {
        self.kept = self.next.0;
        let state = {
            let (sentry, baselines) = (self.watched.sentry(), self.watched.baselines.read());
            to_raw_value(&Borrowed { baselines: &baselines, sentry: &sentry, responder: &self.responding.folded() })
        };
        // What cannot be written is read from the log by the next start.
        let state = state.inspect_err(|error| tracing::warn!(%error, "what was made of the log could not be kept")).ok()?;
        let (log, file, records) = (self.log.clone(), self.file.clone(), self.next.0);
        Some(tokio::spawn(async move {
            let written = match log.storage().root(records).await {
                Ok(Some(root)) => {
                    tokio::task::spawn_blocking(move || file.write(&kept::keep(&state, &root)).map_err(|error| error.to_string()))
                        .await
                        .map_err(|error| error.to_string())
                        .flatten()
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = written {
                tracing::warn!(%error, "what was made of the log could not be kept; the next start reads the log again");
            }
        }))
    }
}

/// Resolves once there is something at `next`. What came soon after the last that was watched is brought to disk at once: where all only
/// read nobody else waits for that, and a finding would come as late as a read may be on disk.
async fn hurried(log: &Log, next: Position) -> Result<(), StorageError> {
    tokio::time::sleep(SOON).await;
    match log.storage().len().checked_sub(1).map(Position).filter(|last| *last >= next) {
        Some(last) => log.storage().durable(last).await,
        None => log.storage().reached(next).await,
    }
}

#[async_trait]
impl Follower for Watcher {
    fn name(&self) -> &str {
        "watch"
    }

    fn next(&self) -> Position {
        self.next
    }

    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError> {
        self.go_by_bundle();
        {
            let mut sentry = self.watched.sentry();
            for entry in entries {
                if let Some(record) = sentry.fold(&self.watched.baselines, entry.position(), entry.value()) {
                    self.responding.fold(entry.position(), &record);
                }
            }
            self.next = sentry.next();
        }
        self.watched.set_trouble(None);
        self.record().await;
        self.answer();
        let is_kept = self.keeping.as_ref().is_none_or(JoinHandle::is_finished);
        if is_kept && self.next.0.saturating_sub(self.kept) >= KEPT_EVERY {
            self.keeping = self.keep();
        }
        Ok(())
    }
}
