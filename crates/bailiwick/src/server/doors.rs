//! The listeners: taken before anything is changed on disk, and opened once all is ready behind them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use bailiwick_control::spiffe::WorkloadApi;
use bailiwick_core::bundle::{Limits, Settings};
use bailiwick_gateway::a2a;
use bailiwick_gateway::authz::envoy::Envoy;
use bailiwick_gateway::connection::Timely;
use http::Request;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::acting::Acting;
use super::listen::Door;
use super::{admin, ext_authz, local};

/// The socket's name in the data directory, on which programs of this machine ask for credentials.
const LOCAL_SOCKET: &str = "identity.sock";

/// The socket of the SPIFFE Workload API, beside that one.
const SPIFFE_SOCKET: &str = "spiffe.sock";

/// The listeners of the network.
pub(super) struct Doors {
    data: Door,
    identity: Door,
    envoy: Option<Door>,
    people: Option<Door>,
}

/// What stands behind them beside what acts on calls.
pub(super) struct Behind {
    /// Where agents prove who they are, and others ask for decisions and send signals and findings.
    pub(super) identity: Router,
    /// Where people answer and sign in, where they can.
    pub(super) people: Option<Router>,
    /// What operators use.
    pub(super) operators: Router,
}

/// The files of the sockets of this machine.
pub(super) struct Sockets {
    operators: PathBuf,
    identity: PathBuf,
    spiffe: PathBuf,
}

impl Doors {
    /// Takes them: a second server on the same ports ends here.
    pub(super) async fn open(settings: &Settings, base: &Path) -> miette::Result<Self> {
        let limits = &settings.limits;
        let data = Door::open_asking("data", &settings.data, limits, base).await?;
        // Agents may prove themselves here by the certificate of their connection.
        let identity = Door::open_asking("identity", &settings.identity, limits, base).await?;
        let envoy = match &settings.ext_authz {
            Some(listen) => Some(Door::open("ext_authz", listen, limits, base).await?),
            None => None,
        };
        let people = match &settings.approvals.listen {
            Some(listen) => Some(Door::open("approvals", listen, limits, base).await?),
            None => None,
        };
        Ok(Self { data, identity, envoy, people })
    }

    /// Serves all of them, and the sockets, until `stopped`.
    pub(super) fn serve(
        self,
        acting: &Acting,
        behind: Behind,
        sockets: &Sockets,
        limits: &Limits,
        stopped: &watch::Receiver<bool>,
    ) -> miette::Result<Vec<JoinHandle<()>>> {
        let (face, agents) = (Arc::clone(&acting.face), Arc::clone(&acting.agents));
        let calls = move |request: Request<Timely>, peer| {
            let (face, agents) = (Arc::clone(&face), Arc::clone(&agents));
            async move {
                if a2a::is_for(request.uri().path()) {
                    agents.answer(request, Some(peer)).await
                } else {
                    face.answer(request, Some(peer)).await
                }
            }
        };
        let workloads = WorkloadApi::new(Arc::clone(&acting.identity)).router();
        let mut doors = vec![
            tokio::spawn(self.data.serve(calls, stopped.clone())),
            tokio::spawn(self.identity.serve(router_answers(behind.identity), stopped.clone())),
            tokio::spawn(local::serve(&sockets.identity, acting.identity.router(), limits, stopped.clone())?),
            tokio::spawn(local::serve(&sockets.spiffe, workloads, limits, stopped.clone())?),
            tokio::spawn(admin::serve(&sockets.operators, behind.operators, stopped.clone())?),
        ];
        if let Some(door) = self.envoy {
            let envoy = ext_authz::router(Arc::new(Envoy::new(Arc::clone(acting.face.front()))));
            doors.push(tokio::spawn(door.serve(router_answers(envoy), stopped.clone())));
        }
        if let Some((door, people)) = self.people.zip(behind.people) {
            doors.push(tokio::spawn(door.serve(router_answers(people), stopped.clone())));
        }
        Ok(doors)
    }
}

impl Sockets {
    /// Those of a server whose data is in `data`, with programs asking for credentials where the bundle says, if it does.
    pub(super) fn of(data: &Path, identity: Option<PathBuf>) -> Self {
        let identity = identity.unwrap_or_else(|| data.join(LOCAL_SOCKET));
        Self { operators: data.join(crate::admin::SOCKET), spiffe: identity.with_file_name(SPIFFE_SOCKET), identity }
    }

    /// Removes the files; the next start replaces one that stays.
    pub(super) fn remove(&self) {
        for socket in [&self.operators, &self.identity, &self.spiffe] {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Answers by a router that wants to know the peer's address.
fn router_answers(
    router: Router,
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
