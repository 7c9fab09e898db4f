//! The local socket: programs of this machine ask for credentials here, and the kernel says which program asks.
//!
//! Whoever can reach the file may ask; what they get depends on what they are, so the file itself guards nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use bailiwick_control::token::attest::Peer;
use bailiwick_core::bundle::Limits;
use bailiwick_gateway::connection::{self, Timely};
use http::Request;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::authority::Mended;

/// The most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// Listens on `socket` and serves `router` until the program is asked to stop. A socket file that is there is replaced, if no server
/// answers on it.
pub(super) fn serve(
    socket: &Path,
    router: Router,
    limits: &Limits,
    mut stopping: watch::Receiver<bool>,
) -> miette::Result<impl Future<Output = ()> + Send + 'static> {
    let failed = |error: std::io::Error| {
        miette::miette!(help = "change `local_socket` in bailiwick.toml", "cannot listen on `{}`: {error}", socket.display())
    };
    if socket.exists() {
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return Err(failed(std::io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(socket).map_err(failed)?;
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    let patience = limits.request_timeout.std();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    Ok(async move {
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors or the like: others may end soon.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // At once, before the process can end and its number become another's.
            let peer = match stream.peer_cred().and_then(|credentials| Peer::of(&credentials)) {
                Ok(peer) => Arc::new(peer),
                Err(error) => {
                    tracing::debug!(%error, "the kernel does not say which process connected to the local socket");
                    continue;
                }
            };
            let router = router.clone().layer(Extension(peer));
            let mut stopped = stopping.clone();
            tokio::spawn(async move {
                let answer = move |request: Request<Timely>| {
                    let router = router.clone();
                    async move {
                        match router.oneshot(request.map(axum::body::Body::new)).await {
                            Ok(response) => response,
                            Err(never) => match never {},
                        }
                    }
                };
                let stopped = async move {
                    let _ = stopped.wait_for(|stopping| *stopping).await;
                };
                if let Err(error) = connection::serve(Mended::new(stream), answer, patience, stopped).await {
                    tracing::debug!("a local connection ended: {error}");
                }
                drop(place);
            });
        }
    })
}
