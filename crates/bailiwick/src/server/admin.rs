//! The admin socket: the operator's API on a Unix socket that only the program's own user may open, with the review of
//! what tool servers offer.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Extension, Path as Named, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bailiwick_control::admin::Operator;
use bailiwick_control::bundle::Loader;
use bailiwick_core::bundle::Live;
use bailiwick_core::model::{Person, ServerName};
use bailiwick_gateway::mcp::upstream::Peers;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// What a review looks at and changes.
#[derive(Clone)]
pub(super) struct Review {
    pub(super) live: Arc<Live>,
    pub(super) peers: Arc<Peers>,
    pub(super) loader: Arc<Loader>,
    /// The bundle's directory.
    pub(super) base: PathBuf,
}

/// What is accepted: these tools, or all.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Accept {
    tools: Vec<String>,
    all: bool,
}

/// Listens on the socket and serves until the program is asked to stop.
pub(super) fn serve(
    socket: &Path,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> miette::Result<impl Future<Output = ()> + Send + 'static> {
    let failed = |error: std::io::Error| miette::miette!("cannot listen on `{}`: {error}", socket.display());
    // The log is locked by us, so a socket file that is there is from a server that is gone.
    if socket.exists() {
        std::fs::remove_file(socket).map_err(failed)?;
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            if let Ok((stream, _)) = accepted {
                let router = match stream.peer_cred() {
                    Ok(peer) => router.clone().layer(Extension(Operator(user(peer.uid())))),
                    Err(error) => {
                        tracing::warn!(%error, "the kernel does not say who connected to the admin socket");
                        continue;
                    }
                };
                let service = TowerToHyperService::new(router);
                tokio::spawn(async move {
                    if let Err(error) = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!("an operator's connection ended: {error}");
                    }
                });
            }
        }
    })
}

/// A user of this machine: by name where the machine's own list has one, by number otherwise.
fn user(uid: u32) -> Person {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    });
    Person { issuer: "unix".to_owned(), subject: named.unwrap_or_else(|| uid.to_string()), name: None }
}

/// `GET` shows where offered tools differ from the reviewed ones; `POST` accepts them as they are offered now.
pub(super) fn review(review: Review) -> Router {
    Router::new()
        .route("/api/v1/servers/review", get(show_all).post(accept_all))
        .route("/api/v1/servers/{server}/review", get(show_one).post(accept_one))
        .with_state(review)
}

async fn show_all(State(review): State<Review>) -> Response {
    review.answer(None, &Accept::default()).await
}

async fn show_one(State(review): State<Review>, Named(server): Named<String>) -> Response {
    review.answer(Some(server), &Accept::default()).await
}

async fn accept_all(State(review): State<Review>, Json(accept): Json<Accept>) -> Response {
    review.answer(None, &accept).await
}

async fn accept_one(State(review): State<Review>, Named(server): Named<String>, Json(accept): Json<Accept>) -> Response {
    review.answer(Some(server), &accept).await
}

impl Review {
    async fn answer(&self, server: Option<String>, accept: &Accept) -> Response {
        match self.done(server, accept).await {
            Ok(answer) => Json(answer).into_response(),
            Err((status, why)) => (status, Json(json!({ "error": "not_reviewed", "detail": why }))).into_response(),
        }
    }

    async fn done(&self, server: Option<String>, accept: &Accept) -> Result<Value, (StatusCode, String)> {
        let snapshot = self.live.load();
        let servers: Vec<ServerName> = match server {
            Some(name) => {
                let unknown = || (StatusCode::NOT_FOUND, format!("no server `{name}` is declared"));
                let name: ServerName = name.parse().map_err(|_| unknown())?;
                vec![snapshot.servers.get(&name).ok_or_else(unknown)?.name.clone()]
            }
            None => snapshot.servers.keys().cloned().collect(),
        };
        let (mut changes, mut accepted) = (Vec::new(), Vec::new());
        for name in &servers {
            let peer = self.peers.peer(name).ok_or_else(|| (StatusCode::NOT_FOUND, format!("`{name}` is not connected")))?;
            let offered =
                peer.tools().await.map_err(|error| (StatusCode::BAD_GATEWAY, format!("`{name}` did not say what it offers: {error}")))?;
            let file = self.base.join("servers").join(format!("{name}.tools.json"));
            let mut reviewed =
                read(&file).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("`{}`: {error}", file.display())))?;
            let mut changed = false;
            for (tool, before, now) in differences(&reviewed, &offered) {
                if accept.all || accept.tools.contains(&tool) {
                    reviewed.retain(|definition| named(definition) != tool);
                    reviewed.extend(now);
                    accepted.push(json!(format!("{name}/{tool}")));
                    changed = true;
                } else {
                    changes.push(json!({ "tool": format!("{name}/{tool}"), "reviewed": before, "offered": now }));
                }
            }
            if changed {
                write(&file, &reviewed).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("`{}`: {error}", file.display())))?;
            }
        }
        if !accepted.is_empty() {
            self.loader.reload().await.map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
            for peer in servers.iter().filter_map(|name| self.peers.peer(name)) {
                // Compares again, so that what was accepted may be called once this has answered. A server that does not
                // answer now is compared when it does.
                let _ = peer.tools().await;
            }
        }
        Ok(json!({ "changes": changes, "accepted": accepted }))
    }
}

/// Each tool whose reviewed and offered definitions are not equal.
fn differences(reviewed: &[Value], offered: &[Value]) -> Vec<(String, Option<Value>, Option<Value>)> {
    let of = |list: &[Value], name: &str| list.iter().find(|definition| named(definition) == name).cloned();
    let mut names: Vec<&str> = reviewed.iter().chain(offered).map(named).collect();
    names.sort_unstable();
    names.dedup();
    let both = names.into_iter().map(|name| (name.to_owned(), of(reviewed, name), of(offered, name)));
    both.filter(|(_, before, now)| before != now).collect()
}

fn named(definition: &Value) -> &str {
    definition.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn read(file: &Path) -> std::io::Result<Vec<Value>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// As a whole, so that a bundle that is read meanwhile has the old or the new.
fn write(file: &Path, definitions: &[Value]) -> std::io::Result<()> {
    let new = file.with_extension("json.new");
    std::fs::write(&new, format!("{}\n", serde_json::to_string_pretty(definitions)?))?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_shows_what_is_new_gone_or_changed_and_nothing_else() {
        let tool = |name: &str, description: &str| json!({ "name": name, "description": description });
        let reviewed = [tool("same", "a"), tool("changed", "a"), tool("gone", "a")];
        let offered = [tool("same", "a"), tool("changed", "b"), tool("new", "a")];
        let found: Vec<_> =
            differences(&reviewed, &offered).into_iter().map(|(name, before, now)| (name, before.is_some(), now.is_some())).collect();
        assert_eq!(found, [("changed".to_owned(), true, true), ("gone".to_owned(), true, false), ("new".to_owned(), false, true)]);
    }
}
