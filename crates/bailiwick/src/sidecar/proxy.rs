//! The sidecar as an HTTP proxy: on loopback or a Unix socket, for any MCP client, which never sees a credential.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bailiwick_gateway::connection::{self, Timely};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, ORIGIN};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::client::is_this_machine;
use super::credential::{Credentials, NoCredential};
use super::forward::{Plain, To, cleaned, forward};
use super::hops::{Hops, NoHop};

/// The largest request that is taken; the gateway's own limit is what counts.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// How long a client may take over a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The most connections of clients; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

type Body = BoxBody<Bytes, hyper::Error>;

/// Where the proxy listens.
#[derive(Debug)]
pub(crate) enum Listener {
    /// On a port of this machine.
    Tcp(TcpListener),
    /// On a socket file that its owner alone may use.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on a loopback address; any other is refused, since whoever can connect acts as the agent.
    pub(crate) async fn tcp(address: SocketAddr) -> miette::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(miette::miette!(
                help = "use 127.0.0.1, or `--socket` for others on this machine",
                "whoever can reach `{address}` would act as the agent"
            ));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| miette::miette!("cannot listen on `{address}`: {error}"))?;
        Ok(Self::Tcp(listener))
    }

    /// Listens on a socket file, replacing one that nobody listens on any more.
    pub(crate) fn unix(path: &Path) -> miette::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |error: std::io::Error| miette::miette!("cannot listen on `{}`: {error}", path.display());
        if std::os::unix::net::UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// What to tell a client.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|error| error.to_string(), |address| format!("http://{address}/mcp")),
            Self::Unix(_, path) => format!("{} (HTTP over a Unix socket, path /mcp)", path.display()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Nothing can be done about a socket file that stays; the next start replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whose credential a request gets.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    /// That of the sidecar's own execution.
    Own(Arc<Credentials>),
    /// That of the execution that the agent acts in now, which somebody delegated to it.
    Hops(Arc<Hops>),
}

impl Whose {
    /// The credentials for a request with these headers, or why there are none.
    fn of(&self, headers: &HeaderMap) -> Result<Arc<Credentials>, NoHop> {
        match self {
            Self::Own(credentials) => Ok(Arc::clone(credentials)),
            Self::Hops(hops) => hops.acting_for(headers),
        }
    }

    /// Resolves when none will be given out any more.
    async fn ended(&self) {
        match self {
            Self::Own(credentials) => drop(credentials.ended().await),
            Self::Hops(_) => std::future::pending().await,
        }
    }
}

/// Serves clients for as long as it is polled.
pub(crate) async fn serve(listener: &Listener, credentials: Whose) -> Infallible {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Nobody closes it.
        let place = Arc::clone(&room).acquire_owned().await.ok();
        let credentials = credentials.clone();
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move { (connection(stream, true, credentials).await, place) })
            }),
            Listener::Unix(listener, _) => listener
                .accept()
                .await
                .map(|(stream, _)| tokio::spawn(async move { (connection(stream, false, credentials).await, place) })),
        };
        if let Err(error) = accepted {
            tracing::warn!("a connection was not accepted: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, is_tcp: bool, credentials: Whose) {
    let ours = credentials.clone();
    let answer = move |request| {
        let credentials = ours.clone();
        async move { answer(request, is_tcp, &credentials).await }
    };
    let served = tokio::select! {
        served = connection::serve(stream, answer, REQUEST_TIMEOUT, std::future::pending()) => served,
        // What is under way ends with the execution, streams too.
        () = credentials.ended() => return,
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn answer(request: Request<Timely>, is_tcp: bool, whose: &Whose) -> Response<Body> {
    if is_tcp && let Err(why) = is_local(request.headers(), request.uri()) {
        return refusal(StatusCode::FORBIDDEN, "not_local", why);
    }
    let Some(to) = to(request.uri().path()) else {
        return refusal(StatusCode::NOT_FOUND, "not_found", "the paths here are `/mcp`, `/mcp/{server}` and `/a2a/{agent}`");
    };
    let credentials = match whose.of(request.headers()) {
        Ok(credentials) => credentials,
        Err(why) => return refusal(StatusCode::FORBIDDEN, why.code(), &why.to_string()),
    };
    let local = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(|host| format!("http://{host}"));
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request is larger than 16 MiB, or broke off");
    };
    let query = parts.uri.query().map(str::to_owned);
    let is_card = matches!(&to, To::Agent(_, path) if path.starts_with("/.well-known/"));
    let plain = Plain { method: parts.method, to, query, headers: parts.headers, body: body.to_bytes() };
    match forward(&credentials, &plain).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            if let (true, StatusCode::OK, Some(local)) = (is_card, parts.status, local) {
                let origin = credentials.resource().rsplit_once("/mcp").map_or("", |(origin, _)| origin);
                return card(body, &parts.headers, origin, &local).await;
            }
            let mut response = Response::new(body.boxed());
            // A client that is told to authenticate would try to; here only the sidecar can.
            let status = if parts.status == StatusCode::UNAUTHORIZED { StatusCode::FORBIDDEN } else { parts.status };
            *response.status_mut() = status;
            *response.headers_mut() = cleaned(&parts.headers);
            response
        }
        Err(error @ NoCredential::Ended(_)) => refusal(StatusCode::FORBIDDEN, "execution_ended", &error.to_string()),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, "no_credential", &error.to_string()),
    }
}

/// What of the gateway a path is for.
fn to(path: &str) -> Option<To> {
    if let Some(rest) = path.strip_prefix("/a2a/") {
        let (agent, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        return (!agent.is_empty()).then(|| To::Agent(agent.to_owned(), path.to_owned()));
    }
    match path.strip_prefix("/mcp")? {
        "" | "/" => Some(To::All),
        rest => rest.strip_prefix('/').filter(|name| !name.contains('/')).map(|name| To::Server(name.to_owned())),
    }
}

/// An agent's card that leads here instead of to `origin`, where no credential is asked for. Its signature was over what it said before,
/// so that goes.
pub(super) async fn card(body: Incoming, headers: &HeaderMap, origin: &str, local: &str) -> Response<Body> {
    let text = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    let card = text.ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let Some(Value::Object(mut card)) = card else { return refusal(StatusCode::BAD_GATEWAY, "no_card", "the agent's card did not come") };
    let lead_here = |url: &mut Value| {
        if let Some(rest) = url.as_str().and_then(|url| url.strip_prefix(origin)) {
            *url = format!("{local}{rest}").into();
        }
    };
    card.get_mut("url").into_iter().for_each(lead_here);
    let interfaces = card.get_mut("supportedInterfaces").and_then(Value::as_array_mut).into_iter().flatten();
    interfaces.filter_map(|interface| interface.get_mut("url")).for_each(lead_here);
    for member in ["signatures", "securitySchemes", "securityRequirements"] {
        card.remove(member);
    }
    let mut response = Response::new(Full::new(Bytes::from(Value::Object(card).to_string())).map_err(|never| match never {}).boxed());
    for name in [CONTENT_TYPE, CACHE_CONTROL, ETAG] {
        if let Some(value) = headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Refuses what a page in a browser could have been tricked into sending (MCP transports, DNS rebinding): a name that is
/// not this machine's, or an origin elsewhere.
fn is_local(headers: &HeaderMap, uri: &Uri) -> Result<(), &'static str> {
    let named = headers.get_all(HOST).iter().map(|host| host.to_str().ok());
    let mut named = named.chain(uri.authority().map(|authority| Some(authority.as_str()))).peekable();
    let is_local = |authority: &str| authority.parse::<http::uri::Authority>().is_ok_and(|authority| is_this_machine(authority.host()));
    // Each of them: whoever reads the first and whoever reads the last must not differ.
    if named.peek().is_none() || !named.all(|host| host.is_some_and(is_local)) {
        return Err("the Host header does not name this machine");
    }
    let from_here = |origin: &http::HeaderValue| {
        origin.to_str().is_ok_and(|origin| origin.split_once("://").is_some_and(|(_, authority)| is_local(authority)))
    };
    if headers.get_all(ORIGIN).iter().all(from_here) { Ok(()) } else { Err("the request comes from a page that is not of this machine") }
}

fn refusal(status: StatusCode, code: &str, why: &str) -> Response<Body> {
    let body = json!({ "error": code, "error_description": why }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_elsewhere_cannot_use_the_agents_credential() {
        for (host, origin, local) in [
            ("127.0.0.1:9000", None, true),
            ("localhost", None, true),
            ("[::1]:9000", None, true),
            ("127.0.0.1:9000", Some("http://localhost:6274"), true),
            ("attacker.example:9000", None, false),
            ("127.0.0.1.attacker.example", None, false),
            ("127.0.0.1:9000", Some("https://attacker.example"), false),
            ("127.0.0.1:9000", Some("http://localhost.attacker.example"), false),
            ("127.0.0.1:9000", Some("null"), false),
            ("", None, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_local(&headers, &Uri::from_static("/mcp")).is_ok(), local, "{host} {origin:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(HOST, "localhost".parse().unwrap());
        assert!(is_local(&headers, &Uri::from_static("http://attacker.example/mcp")).is_err());
        headers.append(HOST, "attacker.example".parse().unwrap());
        assert!(is_local(&headers, &Uri::from_static("/mcp")).is_err());
    }
}
