//! The server: everything introduced to everything else, and kept running.

mod admin;
mod authority;
mod certificate;
mod data;
mod decisions;
mod ext_authz;
mod keys;
pub(crate) mod listen;
mod local;
mod pulse;
mod sentry;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::extract::ConnectInfo;
use bailiwick_control::admin::Admin;
use bailiwick_control::approvals::{Answer, Approvals};
use bailiwick_control::bundle::{Directory, Loader};
use bailiwick_control::fetch::Fetcher;
use bailiwick_control::findings::Findings;
use bailiwick_control::notify::Notifier;
use bailiwick_control::people::People;
use bailiwick_control::reports::Reports;
use bailiwick_control::respond::Responding;
use bailiwick_control::signals::Signals;
use bailiwick_control::spiffe::WorkloadApi;
use bailiwick_control::token::{self, Identity, Reason};
use bailiwick_control::webhook::Teller;
use bailiwick_core::bundle::{Live, Problem, Snapshot};
use bailiwick_core::identity::Grant;
use bailiwick_core::model::{AgentName, Clock, Digest, Entropy, ExecutionId, Person};
use bailiwick_gateway::a2a;
use bailiwick_gateway::authz::Decisions;
use bailiwick_gateway::authz::envoy::Envoy;
use bailiwick_gateway::broker::{Broker, Signers, Sources, Vault};
use bailiwick_gateway::connection::Timely;
use bailiwick_gateway::mcp::Face;
use bailiwick_gateway::mcp::upstream::{House, Peers};
use bailiwick_gateway::recover::{Keep, Recovered, keep_folding};
use bailiwick_gateway::{Gateway, Parts};
use bailiwick_log::{Log, Position};
use http::Request;
use miette::IntoDiagnostic as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use zeroize::Zeroizing;

use self::data::Opened;
use self::keys::IssuerFiles;
use self::listen::{DRAIN, Door};
use crate::authorities;
use crate::machine::{MachineClock, MachineEntropy};

/// The socket's name in the data directory, on which programs of this machine ask for credentials.
const LOCAL_SOCKET: &str = "identity.sock";

/// The socket of the SPIFFE Workload API, beside that one.
const SPIFFE_SOCKET: &str = "spiffe.sock";

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
    identity: Arc<Identity>,
    approvals: Approvals,
    live: Arc<Live>,
    peers: Arc<Peers>,
    stopping: watch::Sender<bool>,
    gateway: Arc<Gateway>,
    face: Arc<Face>,
    doors: Vec<JoinHandle<()>>,
    chores: Vec<JoinHandle<()>>,
    sockets: [PathBuf; 3],
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

        // Before anything is changed on disk: a second server on the same ports ends here.
        let data_door = Door::open_asking("data", &settings.data, &settings.limits, &base).await?;
        // Agents may prove themselves here by the certificate of their connection.
        let identity_door = Door::open_asking("identity", &settings.identity, &settings.limits, &base).await?;
        let envoy_door = match &settings.ext_authz {
            Some(listen) => Some(Door::open("ext_authz", listen, &settings.limits, &base).await?),
            None => None,
        };
        let people_door = match &settings.approvals.listen {
            Some(listen) => Some(Door::open("approvals", listen, &settings.limits, &base).await?),
            None => None,
        };

        let Opened { keys, log, log_key, executions, recovered, keep } =
            data::open(&data, &snapshot, clock.as_ref(), entropy.as_ref()).await?;
        let digest = snapshot.digest;
        let live = Arc::new(Live::new(snapshot));
        let identity = Identity::open(token::Parts {
            bundle: Arc::clone(&live),
            executions: Arc::clone(&executions),
            log: log.clone(),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            keys: Arc::new(IssuerFiles(keys)),
            fetcher: Fetcher::new(roots.clone()).into_diagnostic()?,
            base: base.clone(),
        })
        .into_diagnostic()?;
        let (signing, signing_clock) = (Arc::clone(&identity), Arc::clone(&clock));
        let signers: Signers = Arc::new(move |algorithm| signing.issuer().signer(algorithm, signing_clock.now()));
        let chained = Arc::clone(&executions);
        let stopping_executions = Arc::clone(&executions);
        let broker = Arc::new(
            Broker::new(Sources {
                bundle: Arc::clone(&live),
                base: base.clone(),
                roots: roots.clone(),
                issuer: identity.issuer().url().to_owned(),
                signers: Arc::clone(&signers),
                chains: Arc::new(move |id| {
                    let execution = chained.find(id);
                    execution
                        .map(|execution| execution.started().chain.iter().map(|member| member.agent.clone()).collect())
                        .unwrap_or_default()
                }),
                stopped: Arc::new(move |id| stopping_executions.find(id).is_none_or(|execution| execution.is_stopped())),
                log: log.clone(),
                clock: Arc::clone(&clock),
                entropy: Arc::clone(&entropy),
            })
            .into_diagnostic()?,
        );
        let vault: Arc<dyn Vault> = Arc::<Broker>::clone(&broker);
        let held = Arc::new(ArcSwap::default());
        let peers = Peers::new(House {
            base: base.clone(),
            roots,
            log: log.clone(),
            clock: Arc::clone(&clock),
            vault: Arc::clone(&vault),
            held: Arc::clone(&held),
            executions: Arc::clone(&executions),
            delegator: Some(Arc::new(Delegations(Arc::clone(&identity)))),
        });
        let peers = Arc::new(peers.into_diagnostic()?);
        peers.apply(&live.load());
        let parts = Parts {
            bundle: Arc::clone(&live),
            executions: Arc::clone(&executions),
            log: log.clone(),
            clock: Arc::clone(&clock),
            vault,
            upstream: Arc::<Peers>::clone(&peers),
            held,
        };
        let (watched, responder) = sentry::open(&data, &log, &live.load()).await;
        let responding = Responding::new(Arc::clone(&identity), responder);
        let notifier = Notifier::open(Arc::clone(&identity));
        let gateway = Arc::new(Gateway::new(parts).caught_up_to(recovered.next).watched_by(Arc::clone(&watched.baselines)));
        let authenticator = Arc::clone(identity.authenticator());
        let face = Face::new(Arc::clone(&gateway), authenticator, Arc::<Peers>::clone(&peers), Arc::clone(&entropy)).into_diagnostic()?;
        let face = Arc::new(face);
        let agents_face = Arc::new(a2a::Face::new(Arc::clone(face.front()), signers, Arc::clone(&entropy)));
        // A server's tools are compared with what was reviewed before a call can be judged by the new review.
        let prepared = Arc::clone(&peers);
        let prepare = Box::new(move |snapshot: &Snapshot| prepared.apply(snapshot));
        let loader =
            Arc::new(Loader::new(directory.clone(), warnings.clone(), Arc::clone(&live), log.clone(), Arc::clone(&clock), prepare));

        let (stopping, stopped) = watch::channel(false);
        let answering = Arc::clone(&face);
        let agents = data_door.serve(
            move |request, peer| {
                let (face, agents) = (Arc::clone(&answering), Arc::clone(&agents_face));
                async move {
                    if a2a::is_for(request.uri().path()) {
                        agents.answer(request, Some(peer)).await
                    } else {
                        face.answer(request, Some(peer)).await
                    }
                }
            },
            stopped.clone(),
        );
        let asked = decisions::router(Arc::clone(&identity), Decisions::new(Arc::clone(&gateway), entropy));
        let signals = Signals::new(Arc::clone(&identity));
        let findings = Arc::new(Findings::new(Arc::clone(&watched), log.clone(), Arc::clone(&clock)));
        let reports = Reports::new(Arc::clone(&identity), Arc::clone(&findings));
        let tokens = identity_door
            .serve(router_answers(identity.router().merge(asked).merge(signals.router()).merge(reports.router())), stopped.clone());
        let local_socket = settings.local_socket.as_ref().map_or_else(|| data.join(LOCAL_SOCKET), |path| directory.resolve(path));
        let programs = local::serve(&local_socket, identity.router(), &settings.limits, stopped.clone())?;
        let spiffe_socket = local_socket.with_file_name(SPIFFE_SOCKET);
        let workloads = local::serve(&spiffe_socket, WorkloadApi::new(Arc::clone(&identity)).router(), &settings.limits, stopped.clone())?;
        let socket = data.join(crate::admin::SOCKET);
        let approvals = Approvals { bundle: Arc::clone(&live), executions, log: log.clone(), clock: Arc::clone(&clock) };
        let router = Admin { identity: Arc::clone(&identity), loader: Arc::clone(&loader), approvals: approvals.clone() }.router();
        let router = router.merge(admin::review(admin::Review {
            live: Arc::clone(&live),
            peers: Arc::clone(&peers),
            loader: Arc::clone(&loader),
            base: base.clone(),
        }));
        let router = router.merge(signals.operate());
        let router = router.merge(findings.router());
        let router = router.merge(responding.operate());
        let operators = admin::serve(&socket, router, stopped.clone())?;
        let mut doors =
            vec![tokio::spawn(agents), tokio::spawn(tokens), tokio::spawn(programs), tokio::spawn(workloads), tokio::spawn(operators)];
        if let Some(door) = envoy_door {
            let envoy = Arc::new(Envoy::new(Arc::clone(face.front())));
            doors.push(tokio::spawn(door.serve(router_answers(ext_authz::router(envoy)), stopped.clone())));
        }
        if let Some((door, listen)) = people_door.zip(settings.approvals.listen.clone()) {
            let people = People::new(Arc::clone(&identity), approvals.clone(), base.clone(), listen);
            doors.push(tokio::spawn(door.serve(router_answers(people.router()), stopped.clone())));
        }
        let teller = Teller::new(&approvals, base, identity.parts().fetcher.clone());

        let chores = vec![
            tokio::spawn(tend(Arc::clone(&identity))),
            tokio::spawn(async move { loader.watch().await }),
            tokio::spawn(pulse::beat(Arc::clone(&face), Arc::clone(&identity))),
            tokio::spawn(tell(teller)),
            tokio::spawn(take_back(broker)),
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
            identity,
            approvals,
            live,
            peers,
            stopping,
            gateway,
            face,
            doors,
            chores,
            sockets: [socket, local_socket, spiffe_socket],
        })
    }

    /// Waits until every tool server has said what it offers, so that what differs from the reviewed definitions is held.
    pub(crate) async fn settled(&self) -> miette::Result<()> {
        for name in self.live.load().servers.keys() {
            let peer = self.peers.peer(name).ok_or_else(|| miette::miette!("`{name}` is not connected"))?;
            peer.tools().await.map_err(|error| miette::miette!("`{name}` does not say what it offers: {error}"))?;
        }
        Ok(())
    }

    /// Revokes an execution, as the admin socket does.
    pub(crate) async fn revoke(&self, execution: ExecutionId, by: &str) -> miette::Result<()> {
        let by = Reason::of(by, "");
        self.identity.revoke_execution(execution, by).await.map(drop).into_diagnostic()
    }

    /// Takes a person's answer, as the admin socket and the page do.
    pub(crate) async fn answer(&self, ask: Position, answer: Answer, by: Person) -> miette::Result<Position> {
        self.approvals.answer(ask, answer, by).await.into_diagnostic()
    }

    /// Lets what is under way end, but not for long, and gives everything back.
    pub(crate) async fn stop(self) {
        self.stopping.send_replace(true);
        self.face.front().stop();
        for door in self.doors {
            // A listener that panicked has nothing left to wait for.
            let _ = door.await;
        }
        // What has not ended by now is cancelled, so that its outcome says so.
        if tokio::time::timeout(DRAIN, self.gateway.end()).await.is_err() {
            tracing::warn!("calls were still under way; the next start closes them as `unknown`");
        }
        for chore in self.chores {
            chore.abort();
            let _ = chore.await;
        }
        // The next start replaces a socket file that stays.
        for socket in self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// The token service, as that which has one of our agents act for another.
struct Delegations(Arc<Identity>);

#[async_trait]
impl a2a::Delegator for Delegations {
    async fn delegate(&self, by: ExecutionId, to: &AgentName) -> Result<Zeroizing<String>, String> {
        let parts = self.0.parts();
        let parent = parts.executions.find(by).ok_or_else(|| "the execution has ended".to_owned())?;
        let tools = format!("{}/mcp", parts.bundle.load().settings.data.origin);
        let delegated = self.0.delegate(&parent, None, to, &Grant::default(), vec![tools]).await.map_err(|error| error.to_string())?;
        Ok(Zeroizing::new(delegated.token))
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

/// Answers by a router that wants to know the peer's address.
fn router_answers(
    router: axum::Router,
) -> impl Fn(Request<Timely>, SocketAddr) -> std::pin::Pin<Box<dyn Future<Output = axum::response::Response> + Send>>
+ Clone
+ Send
+ Sync
+ 'static {
    move |mut request, peer| {
        let router = router.clone();
        request.extensions_mut().insert(ConnectInfo(peer));
        Box::pin(async move {
            let answered: Result<_, Infallible> = router.oneshot(request.map(axum::body::Body::new)).await;
            match answered {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}
