//! The sidecar's HTTP client: TLS unless the other side is this machine, no redirects, no proxies from the environment.

use std::path::Path;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::authorities::{self, Unreadable};

/// The largest document that is read whole: metadata, tokens, errors.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// An HTTP client that sends whole bodies and receives streams.
#[derive(Clone, Debug)]
pub(crate) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What is asked is not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The address would carry credentials in the clear.
    #[error("`{0}` is neither https nor on this machine, and credentials do not travel in the clear; give an https address")]
    InTheClear(Uri),
    /// Nobody answered.
    #[error("nobody answers at `{uri}`: {error}; is `bailiwick serve` running there?")]
    Unreachable {
        /// The address.
        uri: Uri,
        /// Why.
        error: Error,
    },
    /// The answer is not a document that can be read.
    #[error("`{uri}` answered {status} with something that is no JSON document of at most 1 MiB")]
    NoDocument {
        /// The address.
        uri: Uri,
        /// The status.
        status: http::StatusCode,
    },
    /// Nobody answered on a socket.
    #[error(
        "nobody answers at the socket `{socket}`: {error}; is `bailiwick serve` running on this machine, and may this user reach the file?"
    )]
    Socket {
        /// The socket.
        socket: String,
        /// Why.
        error: String,
    },
    /// The certificates could not be read.
    #[error(transparent)]
    Authorities(#[from] Unreadable),
    /// The cryptography for TLS cannot be set up.
    #[error("the cryptography for TLS cannot be set up: {0}")]
    Tls(rustls::Error),
}

impl Http {
    /// A client that trusts the usual authorities, or those of `authorities` instead.
    pub(crate) fn new(authorities: Option<&Path>) -> Result<Self, HttpError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => authorities::add(&mut roots, file)?,
        }
        let tls = authorities::client(roots).map_err(HttpError::Tls)?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().build();
        Ok(Self(Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)))
    }

    /// Sends one request.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, HttpError> {
        let uri = request.uri().clone();
        if uri.scheme_str() != Some("https") && !uri.host().is_some_and(is_this_machine) {
            return Err(HttpError::InTheClear(uri));
        }
        self.0.request(request).await.map_err(|error| HttpError::Unreachable { uri, error })
    }

    /// Sends one request over a Unix socket of this machine, where no TLS is needed.
    pub(crate) async fn send_over(&self, socket: &Path, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, HttpError> {
        let failed = |error: &dyn std::fmt::Display| HttpError::Socket { socket: socket.display().to_string(), error: error.to_string() };
        let stream = UnixStream::connect(socket).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // It ends with its one answer.
        tokio::spawn(connection);
        let (mut head, body) = request.into_parts();
        if let Some(authority) = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
            head.headers.insert(HOST, authority);
        }
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        head.uri = head.uri.path().parse().unwrap_or_default();
        sender.send_request(Request::from_parts(head, body)).await.map_err(|error| failed(&error))
    }

    /// Gets a JSON document.
    pub(crate) async fn document(&self, uri: &Uri) -> Result<Value, HttpError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri.clone();
        let response = self.send(request).await?;
        let status = response.status();
        let document = document(response).await.filter(|_| status.is_success());
        document.ok_or_else(|| HttpError::NoDocument { uri: uri.clone(), status })
    }
}

/// The JSON document that a response is, if it is one.
pub(crate) async fn document(response: Response<Incoming>) -> Option<Value> {
    let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

/// Whether a host's name or address is this machine's loopback.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}
