//! The one way in which the program reads what others publish: keys and metadata, and nothing inside our own network.
//!
//! Only `https`, no redirects, no proxies, bounded in size and time. The name is resolved first, every address that is
//! not a public one is left out, and the connection goes to exactly the addresses that were looked at, so a name cannot
//! mean one thing when it is checked and another when it is used. An address of this machine is reached, also by `http`,
//! only where the URL itself says so, which only the operator's own bundle can.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;

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
    #[error("`{0}` leads to no public address")]
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
    #[error("`{0}` did not answer within {seconds} s", seconds = TIMEOUT.as_secs())]
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

/// Reads what others publish.
#[derive(Clone, Debug)]
pub struct Fetcher {
    public: Client<HttpsConnector<HttpConnector<Public>>, Empty<Bytes>>,
    local: Client<HttpsConnector<HttpConnector<Local>>, Empty<Bytes>>,
}

impl Fetcher {
    /// One that resolves as this machine is configured to, and trusts the certificate authorities that browsers do.
    pub fn new() -> io::Result<Self> {
        // Without a resolver configuration only literal addresses can be reached; that is an error of each fetch.
        let resolver = TokioResolver::builder_tokio().ok().and_then(|builder| builder.build().ok());
        Ok(Self { public: client(Public(resolver))?, local: client(Local)? })
    }

    /// The body of the answer to a GET. With `may_be_local`, a URL that names this machine is read too; that is for what the
    /// bundle itself names, never for what an answer led to, unless that came from this machine as well.
    pub async fn get(&self, url: &str, may_be_local: bool) -> Result<Bytes, FetchError> {
        let refused = || FetchError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let host = uri.host().ok_or_else(refused)?;
        let is_local = may_be_local && is_loopback(host);
        let is_secure = uri.scheme_str() == Some("https");
        let is_allowed = is_secure || (is_local && uri.scheme_str() == Some("http"));
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) || !is_allowed {
            return Err(refused());
        }
        // A literal address is not resolved, so it is looked at here; `localhost` is resolved to no public address.
        if !is_local && literal(host).is_some_and(|address| !is_public(address)) {
            return Err(FetchError::Address(host.to_owned()));
        }
        let request = Request::get(uri.clone())
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::USER_AGENT, concat!("bailiwick/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|_| refused())?;
        let answer = async {
            let answer = if is_local { self.local.request(request).await } else { self.public.request(request).await };
            let answer = answer.map_err(|error| FetchError::Unreachable { url: url.to_owned(), source: Box::new(error) })?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status { url: url.to_owned(), status: answer.status() });
            }
            let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
            Ok(body.map_err(|source| FetchError::Unreachable { url: url.to_owned(), source })?.to_bytes())
        };
        tokio::time::timeout(TIMEOUT, answer).await.map_err(|_| FetchError::TimedOut(url.to_owned()))?
    }
}

fn client<R>(resolver: R) -> io::Result<Client<HttpsConnector<HttpConnector<R>>, Empty<Bytes>>>
where
    R: tower::Service<Name, Response = std::vec::IntoIter<SocketAddr>, Error = io::Error> + Clone + Send + Sync + 'static,
    R::Future: Send,
{
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_connect_timeout(Some(Duration::from_secs(5)));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(provider)
        .map_err(io::Error::other)?
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    // Nothing is kept open: keys are read once in minutes, and a kept connection would outlive the look at its address.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https))
}

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

/// Resolves names to public addresses only.
#[derive(Clone)]
struct Public(Option<TokioResolver>);

impl std::fmt::Debug for Public {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Public")
    }
}

impl tower::Service<Name> for Public {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let resolver = resolver.ok_or_else(|| io::Error::other("this machine has no resolver configuration"))?;
            let found = resolver.lookup_ip(name.as_str()).await.map_err(io::Error::other)?;
            let public: Vec<_> = found.iter().filter(|address| is_public(*address)).map(|address| SocketAddr::new(address, 0)).collect();
            if public.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, FetchError::Address(name.as_str().to_owned())));
            }
            Ok(public.into_iter())
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
pub(crate) fn is_local(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || literal(host).is_some_and(|address| address.is_loopback())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Whether an address is none of those with a special use (RFC 6890 and the IANA registries that it made).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            // An address that carries an IPv4 one may lead there: mapped, NAT64 (RFC 6052), 6to4.
            if let Some(inner) = carried(address) {
                return is_public_v4(inner);
            }
            (first & 0xe000) == 0x2000 && !(first == 0x2001 && second < 0x0200) && !(first == 0x2001 && second == 0x0db8) && first != 0x3fff
        }
    }
}

fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0x2002, ..) => Some(join(b, c)),
        _ => None,
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a == 10
        || a == 127
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached() {
        for (address, public) in [
            ("1.1.1.1", true),
            ("172.15.0.1", true),
            ("2606:4700::1111", true),
            ("::ffff:1.1.1.1", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("172.31.255.1", false),
            ("192.168.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:7f00:1::", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("2001:db8::1", false),
            ("2001::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[tokio::test]
    async fn what_is_never_fetched() {
        let fetcher = Fetcher::new().unwrap();
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
            let error = fetcher.get(url, false).await.unwrap_err();
            assert!(matches!(error, FetchError::Url(_) | FetchError::Address(_)), "{url}: {error}");
        }
    }
}
