//! The server: everything introduced to everything else, and kept running.

mod acting;
mod admin;
mod authority;
mod certificate;
mod data;
mod decisions;
mod doors;
mod ext_authz;
mod keys;
pub(crate) mod listen;
mod local;
mod pulse;
mod sentry;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_control::admin::Admin;
use bailiwick_control::approvals::{Answer, Approvals};
use bailiwick_control::bundle::{Directory, Loader};
use bailiwick_control::findings::Findings;
use bailiwick_control::notify::Notifier;
use bailiwick_control::people::People;
use bailiwick_control::reports::Reports;
use bailiwick_control::respond::Responding;
use bailiwick_control::signals::Signals;
use bailiwick_control::token::{Identity, Reason};
use bailiwick_control::webhook::Teller;
use bailiwick_core::bundle::{Live, Problem, Snapshot};
use bailiwick_core::model::{Clock, Digest, Entropy, ExecutionId, Person};
use bailiwick_gateway::authz::Decisions;
use bailiwick_gateway::broker::Broker;
use bailiwick_gateway::recover::{Keep, Recovered, keep_folding};
use bailiwick_log::{Log, Position};
use miette::IntoDiagnostic as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::acting::{Acting, Common};
use self::data::Opened;
use self::doors::{Behind, Doors, Sockets};
use self::listen::DRAIN;
use crate::authorities;
use crate::machine::{MachineClock, MachineEntropy};

/// How often the token service tends its keys and forgets what ended.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// A running server. Dropping it leaves what is under way to the runtime; [`Self::stop`] ends it in order.
pub(crate) struct Server {
    /// Where agents reach it, `http(s)://host:port`.
    pub(crate) origin: String,
    /// The issuer's URL.
    pub(crate) issuer: String,
    /// The page on which people answer asks, where there is one.
    pub(crate) people: Option<String>,
    /// What the start found in the log.
    pub(crate) recovered: Recovered,
    /// The log.
    pub(crate) log: Log,
    /// The bundle that it started with.
    pub(crate) bundle: Digest,
    /// What someone should know of that bundle.
    pub(crate) warnings: Vec<Problem>,
    /// The key by which the log is believed, as text.
    pub(crate) log_key: String,
    acting: Acting,
    approvals: Approvals,
    live: Arc<Live>,
    stopping: watch::Sender<bool>,
    doors: Vec<JoinHandle<()>>,
    chores: Vec<JoinHandle<()>>,
    sockets: Sockets,
}

impl Server {
    /// Starts on the bundle in `bundle`: reads it, opens the log, closes what a crash left open, and listens.
    pub(crate) async fn start(bundle: &Path) -> miette::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(MachineClock);
        let entropy: Arc<dyn Entropy> = Arc::new(MachineEntropy);
        let base = std::fs::canonicalize(bundle)
            .map_err(|error| miette::miette!(help = "make one with `bailiwick init`", "no bundle in `{}`: {error}", bundle.display()))?;
        let directory = Directory::new(&base);
        let read = Loader::read(&directory).map_err(|error| miette::miette!(help = "`bailiwick check` explains it", "{error}"))?;
        let (snapshot, warnings) = (read.snapshot, read.warnings);
        let settings = snapshot.settings.clone();
        let data = directory.resolve(&settings.data_dir);
        let roots = authorities::of_bundle(&base, &settings).into_diagnostic()?;
        // Before anything is changed on disk.
        let doors = Doors::open(&settings, &base).await?;

        let Opened { keys, log, log_key, executions, recovered, keep } =
            data::open(&data, &snapshot, clock.as_ref(), entropy.as_ref()).await?;
        let digest = snapshot.digest;
        let live = Arc::new(Live::new(snapshot));
        let common = Common { base, roots, live, executions, log, clock, entropy };
        let (watched, responder) = sentry::open(&data, &common.log, &common.live.load()).await;
        let acting = Acting::new(&common, keys, Arc::clone(&watched.baselines), recovered.next)?;
        let Common { base, live, executions, log, clock, entropy, .. } = common;
        let identity = &acting.identity;

        // A server's tools are compared with what was reviewed before a call can be judged by the new review.
        let prepared = Arc::clone(&acting.peers);
        let prepare = Box::new(move |snapshot: &Snapshot| prepared.apply(snapshot));
        let loader =
            Arc::new(Loader::new(directory.clone(), warnings.clone(), Arc::clone(&live), log.clone(), Arc::clone(&clock), prepare));
        let approvals = Approvals { bundle: Arc::clone(&live), executions, log: log.clone(), clock: Arc::clone(&clock) };
        let signals = Signals::new(Arc::clone(identity));
        let responding = Responding::new(Arc::clone(identity), responder);
        let findings = Arc::new(Findings::new(Arc::clone(&watched), log.clone(), Arc::clone(&clock)));
        let reports = Reports::new(Arc::clone(identity), Arc::clone(&findings));
        let asked = decisions::router(Arc::clone(identity), Decisions::new(Arc::clone(&acting.gateway), entropy));
        let people = settings.approvals.listen.clone();
        let people = people.map(|listen| People::new(Arc::clone(identity), approvals.clone(), base.clone(), listen));
        let review =
            admin::Review { live: Arc::clone(&live), peers: Arc::clone(&acting.peers), loader: Arc::clone(&loader), base: base.clone() };
        let operators = Admin { identity: Arc::clone(identity), loader: Arc::clone(&loader), approvals: approvals.clone() }.router();
        let behind = Behind {
            identity: identity.router().merge(asked).merge(signals.router()).merge(reports.router()),
            people: people.map(|people| people.router()),
            operators: operators.merge(admin::review(review)).merge(signals.operate()).merge(findings.router()).merge(responding.operate()),
        };
        let (stopping, stopped) = watch::channel(false);
        let sockets = Sockets::of(&data, settings.local_socket.as_ref().map(|path| directory.resolve(path)));
        let doors = doors.serve(&acting, behind, &sockets, &settings.limits, &stopped)?;

        let teller = Teller::new(&approvals, base, identity.parts().fetcher.clone());
        let notifier = Notifier::open(Arc::clone(identity));
        let chores = vec![
            tokio::spawn(tend(Arc::clone(identity))),
            tokio::spawn(async move { loader.watch().await }),
            tokio::spawn(pulse::beat(Arc::clone(&acting.face), Arc::clone(identity))),
            tokio::spawn(tell(teller)),
            tokio::spawn(take_back(Arc::clone(&acting.broker))),
            tokio::spawn(async move { match signals.run().await {} }),
            tokio::spawn(async move { match notifier.run().await {} }),
            tokio::spawn(answer(Arc::clone(&responding))),
            sentry::keep_watching(watched, responding, Arc::clone(&live), log.clone(), Arc::clone(&clock), &data, stopped.clone()),
            keep_folds(log.clone(), Arc::clone(&live), clock, keep, recovered.kept, stopped),
        ];
        Ok(Self {
            origin: settings.data.origin,
            issuer: settings.identity.origin,
            people: settings.approvals.listen.map(|listen| format!("{}/approvals", listen.origin)),
            recovered,
            log,
            bundle: digest,
            warnings,
            log_key,
            acting,
            approvals,
            live,
            stopping,
            doors,
            chores,
            sockets,
        })
    }

    /// Waits until every tool server has said what it offers, so that what differs from the reviewed definitions is held.
    pub(crate) async fn settled(&self) -> miette::Result<()> {
        for name in self.live.load().servers.keys() {
            let peer = self.acting.peers.peer(name).ok_or_else(|| miette::miette!("`{name}` is not connected"))?;
            peer.tools().await.map_err(|error| miette::miette!("`{name}` does not say what it offers: {error}"))?;
        }
        Ok(())
    }

    /// Revokes an execution, as the admin socket does.
    pub(crate) async fn revoke(&self, execution: ExecutionId, by: &str) -> miette::Result<()> {
        let by = Reason::of(by, "");
        self.acting.identity.revoke_execution(execution, by).await.map(drop).into_diagnostic()
    }

    /// Takes a person's answer, as the admin socket and the page do.
    pub(crate) async fn answer(&self, ask: Position, answer: Answer, by: Person) -> miette::Result<Position> {
        self.approvals.answer(ask, answer, by).await.into_diagnostic()
    }

    /// Lets what is under way end, but not for long, and gives everything back.
    pub(crate) async fn stop(self) {
        self.stopping.send_replace(true);
        self.acting.face.front().stop();
        for door in self.doors {
            // A listener that panicked has nothing left to wait for.
            let _ = door.await;
        }
        // What has not ended by now is cancelled, so that its outcome says so.
        if tokio::time::timeout(DRAIN, self.acting.gateway.end()).await.is_err() {
            tracing::warn!("calls were still under way; the next start closes them as `unknown`");
        }
        for chore in self.chores {
            chore.abort();
            let _ = chore.await;
        }
        self.sockets.remove();
    }
}

/// Keeps the token service's keys fresh and forgets what ended, for as long as it is polled.
async fn tend(identity: Arc<Identity>) {
    loop {
        if let Err(error) = identity.tend().await {
            tracing::error!(%error, "the issuer's keys could not be tended");
        }
        tokio::time::sleep(TEND_EVERY).await;
    }
}

/// Takes back at upstreams what was got there for executions that are stopped, for as long as it is polled.
async fn take_back(broker: Arc<Broker>) {
    let error = broker.take_back().await;
    tracing::error!(%error, "nothing more is taken back at upstreams");
}

/// Answers what is found, for as long as it is polled.
async fn answer(responding: Arc<Responding>) {
    match responding.run().await {}
}

/// Tells the webhook of asks and answers for as long as it is polled.
async fn tell(teller: Teller) {
    let error = teller.tell().await;
    tracing::error!(%error, "the webhook is told no more");
}

/// Keeps the fold of the log up to date until `stopped`, on a thread of its own: to write what a hundred thousand executions have
/// done takes longer than a call may wait. The log tells of its own failure where it is written.
fn keep_folds(
    log: Log,
    bundle: Arc<Live>,
    clock: Arc<dyn Clock>,
    keep: Keep,
    kept: Position,
    mut stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        Handle::current().block_on(async {
            tokio::select! {
                _failed = keep_folding(&log, &bundle, clock.as_ref(), &keep, kept) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    })
}
