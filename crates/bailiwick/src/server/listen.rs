//! Listeners: connections in, bounded in number and patience, each served until the program is asked to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bailiwick_control::svid::{AnyCertificate, Shown};
use bailiwick_core::bundle::{Limits, Listen};
use bailiwick_gateway::connection::{self, Timely};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::Certificate;

/// The most connections of one listener; more wait to be accepted.
const CONNECTIONS_MAX: u32 = 8_192;

/// How long what is under way may take to end, once the program is asked to stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// One listener, bound and not yet accepting.
pub(crate) struct Door {
    name: &'static str,
    listener: TcpListener,
    tls: Option<(TlsAcceptor, Arc<Certificate>)>,
    /// How long a client may take over a TLS handshake, and what [`connection::serve`] says.
    patience: Duration,
}

impl Door {
    /// Listens where `listen` says.
    pub(crate) async fn open(name: &'static str, listen: &Listen, limits: &Limits, bundle: &Path) -> miette::Result<Self> {
        Self::bind(name, listen, limits, bundle, Arc::new(rustls::server::NoClientAuth)).await
    }

    /// The same; over TLS it asks clients for a certificate, which they need not have. What they show is with each of their requests
    /// as [`Shown`], and is to be believed by nobody who has not checked it.
    pub(crate) async fn open_asking(name: &'static str, listen: &Listen, limits: &Limits, bundle: &Path) -> miette::Result<Self> {
        let certificates = AnyCertificate::of(&rustls::crypto::aws_lc_rs::default_provider());
        Self::bind(name, listen, limits, bundle, certificates).await
    }

    async fn bind(
        name: &'static str,
        listen: &Listen,
        limits: &Limits,
        bundle: &Path,
        certificates: Arc<dyn ClientCertVerifier>,
    ) -> miette::Result<Self> {
        let address = listen.address;
        let listener = TcpListener::bind(address).await.map_err(|error| {
            miette::miette!(
                help = format!("stop what listens there, or change `listen` under `[{name}]` in bailiwick.toml"),
                "cannot listen on `{address}`: {error}"
            )
        })?;
        let tls = listen.tls.as_ref().map(|(cert, key)| acceptor(bundle.join(cert), bundle.join(key), certificates)).transpose()?;
        Ok(Self { name, listener, tls, patience: limits.request_timeout.std() })
    }

    /// Serves connections with `answer` until `stopping` turns true, then waits for what is under way, but not long.
    pub(crate) async fn serve<A, F, B>(self, answer: A, mut stopping: watch::Receiver<bool>)
    where
        A: Fn(Request<Timely>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
        let (tls, certificate) = self.tls.unzip();
        // It ends with this function.
        let mut fresh = JoinSet::new();
        if let Some(certificate) = certificate {
            fresh.spawn(certificate.keep_fresh());
        }
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { break };
            let stopped = stopping.clone();
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors or the like: others may end soon.
                    tracing::warn!(listener = self.name, "a connection was not accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let (answer, tls, patience) = (answer.clone(), tls.clone(), self.patience);
            tokio::spawn(async move {
                match tls {
                    None => connection(stream, (peer, None), answer, patience, stopped).await,
                    Some(tls) => match tokio::time::timeout(patience, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let shown = shown(&stream);
                            connection(stream, (peer, shown), answer, patience, stopped).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%peer, "no TLS: {error}"),
                        Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
                    },
                }
                drop(place);
            });
        }
        drop(self.listener);
        // Every connection holds a place: when all are free, none is left.
        if tokio::time::timeout(DRAIN, room.acquire_many(CONNECTIONS_MAX)).await.is_err() {
            tracing::warn!(listener = self.name, "connections were still open {} s after the program was asked to stop", DRAIN.as_secs());
        }
    }
}

async fn connection<A, F, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (peer, shown): (SocketAddr, Option<Shown>),
    answer: A,
    patience: Duration,
    mut stopping: watch::Receiver<bool>,
) where
    A: Fn(Request<Timely>, SocketAddr) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stopped = async {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let answer = move |mut request: Request<Timely>| {
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
            if let Some(certificate) = shown.certificate() {
                request.extensions_mut().insert(certificate);
            }
        }
        answer(request, peer)
    };
    if let Err(error) = connection::serve(stream, answer, patience, stopped).await {
        tracing::debug!(%peer, "a connection ended: {error}");
    }
}

/// The certificates that a client showed.
fn shown(stream: &TlsStream<TcpStream>) -> Option<Shown> {
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(Shown(chain.iter().map(|certificate| certificate.clone().into_owned()).collect()))
}

/// TLS by the certificate in two files, and what keeps it fresh.
fn acceptor(chain: PathBuf, key: PathBuf, clients: Arc<dyn ClientCertVerifier>) -> miette::Result<(TlsAcceptor, Arc<Certificate>)> {
    let help = "`tls` names a certificate chain and its private key, both PEM files";
    let unusable = |error: &dyn std::fmt::Display| miette::miette!(help = help, "{error}");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = Certificate::open(chain, key, Arc::clone(&provider)).map_err(|error| unusable(&error))?;
    let certificate = Arc::new(certificate);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::<Certificate>::clone(&certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), certificate))
}
