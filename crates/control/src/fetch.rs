//! The one way in which this crate reaches others: to read what they publish, to redeem a login's code, to tell a webhook.
//!
//! Only `https`, no redirects, no proxies, bounded in size and time. The name is resolved first, every address that may not
//! be reached is left out, and the connection goes to exactly the addresses that were looked at, so a name cannot mean one
//! thing when it is checked and another when it is used. What others led to is reached at public addresses alone; what the
//! bundle names may be inside the house too. An address of this machine is reached, also by `http`, only where the URL itself
//! says so, which only the operator's own bundle can.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bailiwick_core::address::{is_public, may_lead_to, meant};
use bytes::Bytes;
use hickory_resolver::TokioResolver;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::svid::SvidServer;

/// The most bytes of one answer.
const BYTES_MAX: usize = 256 << 10;

/// The longest that one fetch takes.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The URL is not one that is fetched.
    #[error("`{0}` is not fetched: it must be an https URL without user information")]
    Url(String),
    /// The name leads to no address that may be reached.
    #[error("`{0}` leads to no address that may be reached")]
    Address(String),
    /// The server could not be reached, or did not answer as HTTP.
    #[error("`{url}` could not be read: {source}")]
    Unreachable {
        /// The URL.
        url: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server did not answer in time.
    #[error("`{0}` did not answer in time")]
    TimedOut(String),
    /// The server answered something other than 200; redirects are not followed.
    #[error("`{url}` answered {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: StatusCode,
    },
}

/// Reaches others.
#[derive(Clone, Debug)]
pub struct Fetcher {
    resolver: Option<TokioResolver>,
    public: Client<HttpsConnector<HttpConnector<Filtered>>, Full<Bytes>>,
    house: Client<HttpsConnector<HttpConnector<Filtered>>, Full<Bytes>>,
    local: Client<HttpsConnector<HttpConnector<Local>>, Full<Bytes>>,
}

/// What is sent.
struct Sent {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    /// The longest that it may take.
    time: Duration,
}

impl Fetcher {
    /// One that resolves as this machine is configured to, and believes servers by these certificate authorities.
    pub fn new(roots: RootCertStore) -> io::Result<Self> {
        // Without a resolver configuration only literal addresses can be reached; that is an error of each fetch.
        let resolver = TokioResolver::builder_tokio().ok().and_then(|builder| builder.build().ok());
        Self::over(resolver, &trusting(roots)?)
    }

    /// One that believes servers by these certificate authorities and no others.
    pub(crate) fn by_authorities(&self, authorities: Vec<CertificateDer<'static>>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(io::Error::other)?;
        }
        Self::over(self.resolver.clone(), &trusting(roots)?)
    }

    /// One that believes the server with this SPIFFE id, vouched for by these roots, and no other.
    pub(crate) fn by_svid(&self, id: String, roots: Vec<CertificateDer<'static>>) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(SvidServer::new(id, roots, &provider));
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Self::over(self.resolver.clone(), &config)
    }

    fn over(resolver: Option<TokioResolver>, tls: &ClientConfig) -> io::Result<Self> {
        Ok(Self {
            public: client(Filtered { resolver: resolver.clone(), may: is_public }, tls),
            house: client(Filtered { resolver: resolver.clone(), may: is_in_house }, tls),
            local: client(Local, tls),
            resolver,
        })
    }

    /// The body of the answer to a GET. `named` is the URL that the bundle itself writes, from which this one came: one on the
    /// same host may be inside the house, and one on this machine is reached only where `named` is on it too.
    pub async fn get(&self, url: &str, named: &str) -> Result<Bytes, FetchError> {
        self.get_with(url, named, HeaderMap::new()).await
    }

    /// The same with these headers beside.
    pub(crate) async fn get_with(&self, url: &str, named: &str, mut headers: HeaderMap) -> Result<Bytes, FetchError> {
        headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
        let (status, body) = self.send(url, named, Sent { method: Method::GET, headers, body: Bytes::new(), time: TIMEOUT }).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(FetchError::Status { url: url.to_owned(), status }) }
    }

    /// The same for a POST; the answer's status, whatever it is, and its body.
    pub async fn post(&self, url: &str, named: &str, headers: HeaderMap, body: Bytes) -> Result<(StatusCode, Bytes), FetchError> {
        self.post_within(TIMEOUT, url, named, headers, body).await
    }

    /// The same of a server that may take so long: one that is asked to wait until there is something to say.
    pub(crate) async fn post_within(
        &self,
        time: Duration,
        url: &str,
        named: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        self.send(url, named, Sent { method: Method::POST, headers, body, time }).await
    }

    /// The first address of a place that the bundle names, `host:port`, that may be reached: by the same rules as a URL's.
    pub(crate) async fn address(&self, place: &str) -> io::Result<SocketAddr> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{place}` is no host and port"));
        let (host, port) = place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))).ok_or_else(invalid)?;
        let refused = || io::Error::new(io::ErrorKind::PermissionDenied, FetchError::Address(host.to_owned()));
        if is_loopback(host) {
            return Ok(SocketAddr::new(literal(host).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port));
        }
        if let Some(address) = literal(host) {
            return if is_in_house(address) { Ok(SocketAddr::new(address, port)) } else { Err(refused()) };
        }
        let name: Name = host.parse().map_err(|_| invalid())?;
        let resolver = Filtered { resolver: self.resolver.clone(), may: is_in_house };
        let address = tower::ServiceExt::oneshot(resolver, name).await?.next().ok_or_else(refused)?;
        Ok(SocketAddr::new(address.ip(), port))
    }

    async fn send(&self, url: &str, named: &str, sent: Sent) -> Result<(StatusCode, Bytes), FetchError> {
        let refused = || FetchError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let host = uri.host().ok_or_else(refused)?;
        let is_local = is_local(named) && is_loopback(host);
        let is_named = named.parse::<Uri>().is_ok_and(|named| named.host().is_some_and(|named| named.eq_ignore_ascii_case(host)));
        let (client, may): (_, fn(IpAddr) -> bool) = if is_named { (&self.house, is_in_house) } else { (&self.public, is_public) };
        let is_secure = uri.scheme_str() == Some("https");
        let is_allowed = is_secure || (is_local && uri.scheme_str() == Some("http"));
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) || !is_allowed {
            return Err(refused());
        }
        // A literal address is not resolved, so it is looked at here; `localhost` is resolved to no address that may be.
        if !is_local && literal(host).is_some_and(|address| !may(address)) {
            return Err(FetchError::Address(host.to_owned()));
        }
        let mut request = Request::new(Full::new(sent.body));
        *request.method_mut() = sent.method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = sent.headers;
        let agent = concat!("bailiwick/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(http::header::USER_AGENT, http::HeaderValue::from_static(agent));
        let answer = async {
            let answer = if is_local { self.local.request(request).await } else { client.request(request).await };
            let answer = answer.map_err(|error| FetchError::Unreachable { url: url.to_owned(), source: Box::new(error) })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
            Ok((status, body.map_err(|source| FetchError::Unreachable { url: url.to_owned(), source })?.to_bytes()))
        };
        tokio::time::timeout(sent.time, answer).await.map_err(|_| FetchError::TimedOut(url.to_owned()))?
    }
}

/// The certificate authorities that browsers believe.
#[must_use]
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// What believes servers by `roots`.
fn trusting(roots: RootCertStore) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn client<R>(resolver: R, tls: &ClientConfig) -> Client<HttpsConnector<HttpConnector<R>>, Full<Bytes>>
where
    R: tower::Service<Name, Response = std::vec::IntoIter<SocketAddr>, Error = io::Error> + Clone + Send + Sync + 'static,
    R::Future: Send,
{
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_connect_timeout(Some(Duration::from_secs(5)));
    let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_http1().wrap_connector(http);
    // Nothing is kept open: keys are read once in minutes, and a kept connection would outlive the look at its address.
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https)
}

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

/// Resolves names to those addresses only that may be reached.
#[derive(Clone)]
struct Filtered {
    resolver: Option<TokioResolver>,
    may: fn(IpAddr) -> bool,
}

impl std::fmt::Debug for Filtered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filtered")
    }
}

impl tower::Service<Name> for Filtered {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        let Self { resolver, may } = self.clone();
        Box::pin(async move {
            let resolver = resolver.ok_or_else(|| io::Error::other("this machine has no resolver configuration"))?;
            let found = resolver.lookup_ip(name.as_str()).await.map_err(io::Error::other)?;
            let reached: Vec<_> = found.iter().filter(|address| may(*address)).map(|address| SocketAddr::new(address, 0)).collect();
            if reached.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, FetchError::Address(name.as_str().to_owned())));
            }
            Ok(reached.into_iter())
        })
    }
}

/// Resolves every name to this machine; only `localhost` comes here.
#[derive(Clone, Debug)]
struct Local;

impl tower::Service<Name> for Local {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Resolving {
        let addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        Box::pin(async move { Ok(addresses.into_iter()) })
    }
}

/// Whether a URL says in so many words that it leads to this machine.
fn is_local(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || literal(host).is_some_and(|address| address.is_loopback())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Whether what the bundle names may be there; this machine is named in so many words, or not reached.
fn is_in_house(address: IpAddr) -> bool {
    may_lead_to(address) && !meant(address).is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_never_fetched() {
        let fetcher = Fetcher::new(public_roots()).unwrap();
        for url in [
            "http://issuer.example/jwks",
            "https://user:secret@issuer.example/jwks",
            "https://10.0.0.1/jwks",
            "https://[fd00::1]/jwks",
            "https://169.254.169.254/latest/meta-data",
            "https://0.0.0.0/",
            "http://127.0.0.1/jwks",
            "https://127.0.0.1/jwks",
            "https://[::1]/jwks",
            "file:///etc/passwd",
            "ftp://issuer.example/",
            "/jwks",
        ] {
            let error = fetcher.get(url, "https://issuer.example").await.unwrap_err();
            assert!(matches!(error, FetchError::Url(_) | FetchError::Address(_)), "{url}: {error}");
        }
        for place in ["169.254.169.254:514", "0.0.0.0:514", "[::ffff:127.0.0.1]:514", "nowhere"] {
            assert!(fetcher.address(place).await.is_err(), "{place}");
        }
        assert_eq!(fetcher.address("[::1]:514").await.unwrap(), "[::1]:514".parse().unwrap());
        for url in ["http://hook.example/", "https://169.254.169.254/", "https://[::ffff:169.254.169.254]/", "https://0.0.0.0/"] {
            let error = fetcher.post(url, url, HeaderMap::new(), Bytes::new()).await.unwrap_err();
            assert!(matches!(error, FetchError::Url(_) | FetchError::Address(_)), "{url}: {error}");
        }
    }
}
