//! What is usual for each agent, kept up to date from the log, and kept on disk so that a start need not learn it again.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bailiwick_core::bundle::{Live, Snapshot};
use bailiwick_core::detect::baseline::{Baselines, Budget, Kept, Watch};
use bailiwick_core::model::{Digest, Record};
use bailiwick_log::{FollowError, Follower, Log, Position, Recorded, follow};
use bailiwick_store::whole::WholeFile;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The file that says what was learned of the log (`docs/spec/detection.md`).
const FILE: &str = "baselines";

/// After so many records it is written again.
const KEPT_EVERY: u64 = 100_000;

/// Reads the log into the baselines.
struct Learner {
    watch: Arc<Watch>,
    live: Arc<Live>,
    log: Log,
    file: WholeFile,
    /// The bundle whose roles are counted by.
    bundle: Option<Digest>,
    next: Position,
    kept: u64,
}

/// The baselines as they were kept in `data`, where that is of this log and can be read; otherwise nothing is learned yet.
pub(super) async fn open(data: &Path, log: &Log, snapshot: &Snapshot) -> Arc<Watch> {
    let kept = match WholeFile::new(data.join(FILE)).read() {
        Ok(bytes) => bytes.as_deref().and_then(Kept::read),
        Err(error) => {
            tracing::warn!(%error, "what was learned of agents cannot be read, and is learned again");
            None
        }
    };
    let root = match &kept {
        Some(kept) if kept.records() <= log.storage().len() => log.storage().root(kept.records()).await.ok().flatten(),
        _ => None,
    };
    let baselines = kept.zip(root).and_then(|(kept, root)| kept.of_tree(&root));
    let baselines = baselines.unwrap_or_else(|| Baselines::new(snapshot.settings.trust_domain.as_str(), budget(snapshot)));
    Arc::new(Watch::new(baselines))
}

/// Keeps the baselines up to date until `stopped`, on a thread of its own.
pub(super) fn keep_learning(
    watch: Arc<Watch>,
    live: Arc<Live>,
    log: Log,
    data: &Path,
    mut stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let next = watch.read().next();
    let file = WholeFile::new(data.join(FILE));
    let mut learner = Learner { watch, live, log: log.clone(), file, bundle: None, next, kept: next.0 };
    tokio::task::spawn_blocking(move || {
        Handle::current().block_on(async {
            tokio::select! {
                error = follow(&log, &mut learner) => tracing::warn!(%error, "nothing more is learned of agents"),
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            if learner.next.0 > learner.kept {
                learner.keep().await;
            }
        });
    })
}

/// How many false alerts the bundle says can be borne.
fn budget(snapshot: &Snapshot) -> Budget {
    Budget::one_in(u32::try_from(snapshot.settings.limits.executions_per_alert).unwrap_or(u32::MAX))
}

impl Learner {
    /// Goes by the bundle in force.
    fn go_by_bundle(&mut self) {
        let snapshot = self.live.load();
        if self.bundle != Some(snapshot.digest) {
            let members = snapshot.agents.iter().map(|(name, agent)| (name.clone(), agent.roles.iter().cloned().collect()));
            self.watch.set(members.collect(), budget(&snapshot));
            self.bundle = Some(snapshot.digest);
        }
    }

    /// Writes what was learned so far.
    async fn keep(&mut self) {
        self.kept = self.next.0;
        let written = match self.log.storage().root(self.next.0).await {
            Ok(Some(root)) => {
                let bytes = self.watch.read().keep(&root);
                self.file.write(&bytes).map_err(|error| error.to_string())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "what was learned of agents could not be kept; the next start learns it again");
        }
    }
}

#[async_trait]
impl Follower for Learner {
    fn name(&self) -> &str {
        "baselines"
    }

    fn next(&self) -> Position {
        self.next
    }

    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError> {
        self.go_by_bundle();
        for entry in entries {
            // A record of a later version says nothing that is counted here.
            if let Ok(record) = Record::read(entry.value()) {
                for odd in self.watch.fold(entry.position(), &record) {
                    let because: Vec<String> = odd.because.iter().map(|reason| reason.sentence()).collect();
                    tracing::warn!(record = odd.record.0, agent = %odd.agent, score = odd.score, "unlike its agent: {}", because.join("; "));
                }
            }
            self.next = Position(entry.position().0.saturating_add(1));
        }
        if self.next.0.saturating_sub(self.kept) >= KEPT_EVERY {
            self.keep().await;
        }
        Ok(())
    }
}
