//! Listeners: connections in, bounded in number and patience, each served until the program is asked to stop.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// The most connections of one listener; more wait to be accepted.
const CONNECTIONS_MAX: usize = 8_192;

/// How long a client may take over a TLS handshake, and over the headers of a request.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long what is under way may take to end, once the program is asked to stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// One listener, bound and not yet accepting.
pub(crate) struct Door {
    name: &'static str,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Door {
    /// Listens where `listen` says.
    pub(crate) async fn open(name: &'static str, listen: &bailiwick_core::bundle::Listen, bundle: &Path) -> miette::Result<Self> {
        let address = listen.address;
        let listener = TcpListener::bind(address).await.map_err(|error| {
            miette::miette!(
                help = format!("stop what listens there, or change `listen` under `[{name}]` in bailiwick.toml"),
                "cannot listen on `{address}`: {error}"
            )
        })?;
        let tls = listen.tls.as_ref().map(|(cert, key)| acceptor(&bundle.join(cert), &bundle.join(key))).transpose()?;
        Ok(Self { name, listener, tls })
    }

    /// Serves connections with `answer` until `stopping` turns true, then waits for what is under way, but not long.
    pub(crate) async fn serve<A, F, B>(self, answer: A, mut stopping: watch::Receiver<bool>)
    where
        A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { break };
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
            let (answer, watcher, tls) = (answer.clone(), graceful.watcher(), self.tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => connection(stream, peer, answer, watcher).await,
                    Some(tls) => match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, peer, answer, watcher).await,
                        Ok(Err(error)) => tracing::debug!(%peer, "no TLS: {error}"),
                        Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
                    },
                }
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!(listener = self.name, "connections were still open {} s after the program was asked to stop", DRAIN.as_secs());
        }
    }
}

async fn connection<A, F, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    answer: A,
    watcher: hyper_util::server::graceful::Watcher,
) where
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |request| {
        let answer = answer(request, peer);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(true);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256).keep_alive_interval(Duration::from_secs(60));
    let served = watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await;
    if let Err(error) = served {
        tracing::debug!(%peer, "a connection ended: {error}");
    }
}

fn acceptor(certificates: &Path, key: &Path) -> miette::Result<TlsAcceptor> {
    let unreadable = |file: &Path, error: &dyn std::fmt::Display| {
        miette::miette!(help = "`tls` names a certificate chain and its private key, both PEM files", "`{}`: {error}", file.display())
    };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect).map_err(|error| unreadable(certificates, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| unreadable(certificates, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
