//! Connections to tool servers, kept for the next request.
//!
//! Over HTTP/1 one request is under way on a connection, so whoever waits for its answer drives it: no other task has to
//! be woken twice in every call. An HTTP/2 connection is shared, and has a task of its own.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::ServiceExt;

use super::reach::{Reachable, Within};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept unused, and how many are for one server.
const IDLE_MAX: Duration = Duration::from_secs(60);
const IDLE_COUNT_MAX: usize = 256;

type Sent = Full<Bytes>;
type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Connections to any number of servers.
#[derive(Clone)]
pub(super) struct Connections {
    connector: HttpsConnector<HttpConnector<Reachable<GaiResolver>>>,
    kept: Arc<Kept>,
}

/// The connections that nobody drives now, and those that all share.
#[derive(Default)]
struct Kept {
    servers: Mutex<HashMap<Origin, OfServer>>,
    sweeper: OnceLock<()>,
}

#[derive(Default)]
struct OfServer {
    /// The last used at the end.
    idle: Vec<(Box<Line>, Instant)>,
    shared: Option<http2::SendRequest<Sent>>,
}

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin(Scheme, Authority);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// No connection stands, so nothing was sent.
    Connect(Box<dyn std::error::Error + Send + Sync>),
    /// The connection was lost, perhaps after the server had the request.
    Lost(hyper::Error),
}

/// How a request travels.
enum Way {
    Own(Box<Line>),
    Shared(http2::SendRequest<Sent>),
}

impl Connections {
    /// Connections that believe servers by these certificate authorities, and lead where names may `within`. Fails when the cryptography cannot be set up.
    pub(super) fn new(roots: RootCertStore, within: Within) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let mut connector = HttpConnector::new_with_resolver(Reachable(GaiResolver::new(), within));
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(connector);
        Ok(Self { connector, kept: Arc::default() })
    }

    /// Sends a request, whose address is absolute, and waits for the head of the answer. A request that provably was not
    /// sent, because a kept connection had ended, is sent on another.
    pub(super) async fn send(&self, mut request: Request<Sent>) -> Result<Response<Received>, Failed> {
        let url = request.uri().clone();
        let origin = Origin::of(&url).ok_or_else(|| Failed::Connect("the address names no server".into()))?;
        loop {
            let kept = self.kept.take(&origin);
            let is_new = kept.is_none();
            let way = match kept {
                Some(way) => way,
                None => self.connect(&url, &origin).await.map_err(Failed::Connect)?,
            };
            let sent = match way {
                Way::Own(line) => line.send(in_origin_form(request, &origin)).await,
                Way::Shared(mut sender) => match sender.ready().await {
                    Ok(()) => sender.try_send_request(in_absolute_form(request, &url)).await.map(|response| response.map(Received::shared)),
                    Err(_) => {
                        self.kept.forget(&origin);
                        continue;
                    }
                },
            };
            match sent {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(Failed::Lost(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self, url: &Uri, origin: &Origin) -> Result<Way, Box<dyn std::error::Error + Send + Sync>> {
        self.kept.sweep_now_and_then();
        let io = self.connector.clone().oneshot(url.clone()).await?;
        if !io.connected().is_negotiated_h2() {
            let (sender, connection) = http1::handshake(io).await?;
            let (kept, origin) = (Arc::downgrade(&self.kept), origin.clone());
            return Ok(Way::Own(Box::new(Line { sender, connection: Some(Box::pin(connection)), kept, origin })));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).handshake(io).await?;
        tokio::spawn(connection); // whatever ends it, those who wait on it are told
        self.kept.servers().entry(origin.clone()).or_default().shared = Some(sender.clone());
        Ok(Way::Shared(sender))
    }
}

impl Kept {
    fn servers(&self) -> MutexGuard<'_, HashMap<Origin, OfServer>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that still stands.
    fn take(&self, origin: &Origin) -> Option<Way> {
        let mut servers = self.servers();
        let of_server = servers.get_mut(origin)?;
        if let Some(sender) = of_server.shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Some(Way::Shared(sender.clone()));
        }
        of_server.shared = None;
        while let Some((mut line, _)) = of_server.idle.pop() {
            if line.is_free() {
                return Some(Way::Own(line));
            }
        }
        None
    }

    fn forget(&self, origin: &Origin) {
        if let Some(of_server) = self.servers().get_mut(origin) {
            of_server.shared = None;
        }
    }

    fn keep(&self, mut line: Box<Line>) {
        if !line.is_free() {
            return;
        }
        let mut servers = self.servers();
        let idle = &mut servers.entry(line.origin.clone()).or_default().idle;
        if idle.len() < IDLE_COUNT_MAX {
            idle.push((line, Instant::now()));
        }
    }

    /// Sees to it that a connection which the other side has closed, or nobody used for long, is let go.
    fn sweep_now_and_then(self: &Arc<Self>) {
        self.sweeper.get_or_init(|| {
            let kept = Arc::downgrade(self);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(IDLE_MAX / 4).await;
                    let Some(kept) = Weak::upgrade(&kept) else { return };
                    kept.servers().retain(|_, of_server| {
                        of_server.idle.retain_mut(|(line, since)| since.elapsed() < IDLE_MAX && line.is_free());
                        of_server.shared.as_ref().is_some_and(|sender| !sender.is_closed()) || !of_server.idle.is_empty()
                    });
                }
            });
        });
    }
}

impl Origin {
    fn of(url: &Uri) -> Option<Self> {
        Some(Self(url.scheme()?.clone(), url.authority()?.clone()))
    }

    /// The server's name as `Host` says it: without who calls, and without the port that its scheme implies.
    fn host(&self) -> Option<HeaderValue> {
        let implied = if self.0 == Scheme::HTTPS { 443 } else { 80 };
        match self.1.port_u16() {
            Some(port) if port != implied => HeaderValue::from_str(&format!("{}:{port}", self.1.host())).ok(),
            _ => HeaderValue::from_str(self.1.host()).ok(),
        }
    }
}

/// The request as HTTP/1 has it (RFC 9112 §3.2.1).
fn in_origin_form(mut request: Request<Sent>, origin: &Origin) -> Request<Sent> {
    let path = request.uri().path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    *request.uri_mut() = path;
    *request.version_mut() = Version::HTTP_11;
    if let Some(host) = origin.host() {
        request.headers_mut().insert(HOST, host);
    }
    request
}

/// The request as HTTP/2 has it (RFC 9113 §8.3.1).
fn in_absolute_form(mut request: Request<Sent>, url: &Uri) -> Request<Sent> {
    *request.uri_mut() = url.clone();
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(HOST);
    request
}

/// One HTTP/1 connection and what sends on it.
struct Line {
    sender: http1::SendRequest<Sent>,
    /// Nothing once it has ended.
    connection: Option<Pin<Box<http1::Connection<Io, Sent>>>>,
    /// Where it is kept; that is what owns it then.
    kept: Weak<Kept>,
    origin: Origin,
}

impl Line {
    /// Lets the connection do what it can do now.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // How it ended is told by what waits on it.
        if self.connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
            self.connection = None;
        }
    }

    /// Whether another request may be sent on it. Nobody is woken for it any more.
    fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    async fn send(mut self: Box<Self>, request: Request<Sent>) -> Result<Response<Received>, TrySendError<Request<Sent>>> {
        let answer = self.sender.try_send_request(request);
        let mut answer = pin!(answer);
        let response = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await?;
        Ok(response.map(|body| Received { body, line: Some(self) }))
    }
}

/// The body of an answer. Read to its end it keeps the connection for others; dropped before, it closes it.
pub(crate) struct Received {
    body: Incoming,
    /// What it comes over, where it has to be driven.
    line: Option<Box<Line>>,
}

impl Received {
    const fn shared(body: Incoming) -> Self {
        Self { body, line: None }
    }

    fn give_back(&mut self) {
        if let Some(line) = self.line.take()
            && let Some(kept) = line.kept.upgrade()
        {
            kept.keep(line);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        if let (true, Some(line)) = (frame.is_pending(), &mut this.line) {
            line.drive(cx); // now that the connection knows that more is wanted
            frame = Pin::new(&mut this.body).poll_frame(cx);
        }
        if matches!(frame, Poll::Ready(None)) {
            this.give_back();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // Whoever knows that nothing follows does not read it.
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;
    use hyper::service::service_fn;
    use hyper_util::server::conn::auto;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server that says which of its connections a request came by, whose address it was sent to and in which version,
    /// and that ends all connections when it is told to.
    struct Server {
        url: Uri,
        hang_up: Arc<Notify>,
        /// How many connections it has ended.
        ended: Arc<AtomicUsize>,
    }

    impl Server {
        async fn start(tls: Option<ServerConfig>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let scheme = if tls.is_some() { "https" } else { "http" };
            let url = format!("{scheme}://localhost:{}/mcp?x=1", listener.local_addr().unwrap().port()).parse().unwrap();
            let (hang_up, ended) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
            let (told, counted) = (Arc::clone(&hang_up), Arc::clone(&ended));
            let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
            tokio::spawn(async move {
                for number in 1.. {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (told, counted, tls) = (Arc::clone(&told), Arc::clone(&counted), tls.clone());
                    tokio::spawn(async move {
                        let service = service_fn(move |request: Request<Incoming>| async move {
                            let host = request.headers().get(HOST).map(|host| host.to_str().unwrap().contains("localhost:"));
                            let said = format!("{number} {:?} {} {host:?}", request.version(), request.uri().path_and_query().unwrap());
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
                        });
                        let builder = auto::Builder::new(TokioExecutor::new());
                        tokio::select! {
                            () = told.notified() => {}
                            () = async {
                                let _ = match tls {
                                    Some(tls) => builder.serve_connection(TokioIo::new(tls.accept(stream).await.unwrap()), service).await,
                                    None => builder.serve_connection(TokioIo::new(stream), service).await,
                                };
                            } => {}
                        }
                        counted.fetch_add(1, Ordering::SeqCst);
                    });
                }
            });
            Self { url, hang_up, ended }
        }

        async fn has_ended(&self, count: usize) {
            while self.ended.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        }

        fn request(&self) -> Request<Sent> {
            Request::post(self.url.clone()).body(Full::from("{}")).unwrap()
        }
    }

    async fn said(response: Response<Received>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_once_its_answer_was_read_and_replaced_once_it_has_ended() {
        let (server, connections) = (Server::start(None).await, Connections::new(RootCertStore::empty(), Within::House).unwrap());
        let sent = |number: usize| format!("{number} HTTP/1.1 /mcp?x=1 Some(true)");
        for _ in 0..3 {
            assert_eq!(said(connections.send(server.request()).await.unwrap()).await, sent(1));
        }
        // While the first answer is not read, its connection is nobody else's.
        let first = connections.send(server.request()).await.unwrap();
        assert_eq!(said(connections.send(server.request()).await.unwrap()).await, sent(2));
        drop(first);
        server.has_ended(1).await;
        assert_eq!(said(connections.send(server.request()).await.unwrap()).await, sent(2));
        server.hang_up.notify_waiters();
        server.has_ended(2).await;
        assert_eq!(said(connections.send(server.request()).await.unwrap()).await, sent(3));
    }

    #[tokio::test]
    async fn over_http_2_all_share_one_connection() {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut server = server.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let connections = Connections::new(roots, Within::House).unwrap();

        let server = Server::start(Some(server)).await;
        let sent = |number: usize| format!("{number} HTTP/2.0 /mcp?x=1 None");
        let first = connections.send(server.request()).await.unwrap();
        assert_eq!(said(connections.send(server.request()).await.unwrap()).await, sent(1));
        assert_eq!(said(first).await, sent(1));
        server.hang_up.notify_waiters();
        server.has_ended(1).await;
        // Whether it is known by now that the connection has ended or not, nothing is lost but what was perhaps sent on it.
        while connections.send(server.request()).await.is_err() {}
        assert_eq!(said(connections.send(server.request()).await.unwrap()).await, sent(2));
    }

    #[tokio::test]
    async fn a_server_that_does_not_listen_was_sent_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let failed =
            Connections::new(RootCertStore::empty(), Within::House).unwrap().send(Request::get(url).body(Full::default()).unwrap()).await;
        assert!(matches!(failed, Err(Failed::Connect(_))), "{failed:?}");
    }
}
