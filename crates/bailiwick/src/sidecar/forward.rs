//! Forwarding: one request to the gateway with the execution's credential and a fresh proof, tried again where the gateway
//! asks for its nonce or the credential has just expired.

use std::sync::Arc;

use bailiwick_gateway::a2a::DELEGATION;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::credential::{Credential, Credentials, NoCredential};

/// Headers of one hop (RFC 9110 §7.6.1), and those that the sidecar sets itself or that are not the gateway's business.
const NOT_FORWARDED: [HeaderName; 15] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    // What an agent was delegated is for its own sidecar, and nobody hands on what it made up.
    DELEGATION,
];

/// What of the gateway a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// All tool servers.
    All,
    /// One tool server.
    Server(String),
    /// An agent, at this path below its address, which is empty or begins with `/`.
    Agent(String, String),
}

/// One request, without anything that proves who sends it.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    /// The method.
    pub(crate) method: Method,
    /// What is meant.
    pub(crate) to: To,
    /// The query, if any.
    pub(crate) query: Option<String>,
    /// The headers; what must not be forwarded is left out.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

/// Sends `plain` to the gateway.
pub(crate) async fn forward(credentials: &Credentials, plain: &Plain) -> Result<Response<Incoming>, NoCredential> {
    let (resource, address) = resource(credentials, &plain.to)?;
    let mut credential = credentials.current(&resource).await?;
    let mut response = send(credentials, &credential, &address, plain).await?;
    // Each reason to try again is good once.
    for reason in [Again::Nonce, Again::Credential, Again::Nonce] {
        if Again::of(&response) != Some(reason) {
            continue;
        }
        if reason == Again::Credential {
            credential = credentials.replace(&resource, &credential).await?;
        }
        response = send(credentials, &credential, &address, plain).await?;
    }
    Ok(response)
}

/// Why a request is sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// The proof needs the gateway's nonce (RFC 9449 §9).
    Nonce,
    /// The credential was not accepted.
    Credential,
}

impl Again {
    fn of(response: &Response<Incoming>) -> Option<Self> {
        if response.status() != StatusCode::UNAUTHORIZED {
            return None;
        }
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let wants_nonce = challenges.iter().filter_map(|challenge| challenge.to_str().ok()).any(|text| text.contains("use_dpop_nonce"));
        Some(if wants_nonce { Self::Nonce } else { Self::Credential })
    }
}

/// The audience of the credential for what is meant, and the address of the request.
fn resource(credentials: &Credentials, to: &To) -> Result<(String, String), NoCredential> {
    let own = credentials.resource();
    let other = |what: &str| NoCredential::Failed(format!("this sidecar was started for another server than `{what}`").into());
    let both = |resource: String| (resource.clone(), resource);
    match to {
        To::All => Ok(both(own.to_owned())),
        To::Server(server) if own.ends_with(&format!("/mcp/{server}")) => Ok(both(own.to_owned())),
        To::Server(server) if own.ends_with("/mcp") => Ok(both(format!("{own}/{server}"))),
        To::Server(server) => Err(other(server)),
        To::Agent(agent, path) => {
            let origin = own.strip_suffix("/mcp").ok_or_else(|| other(agent))?;
            let resource = format!("{origin}/a2a/{agent}");
            let address = format!("{resource}{path}");
            Ok((resource, address))
        }
    }
}

async fn send(
    credentials: &Credentials,
    credential: &Arc<Credential>,
    address: &str,
    plain: &Plain,
) -> Result<Response<Incoming>, NoCredential> {
    let uri = plain.query.as_ref().map_or_else(|| address.to_owned(), |query| format!("{address}?{query}"));
    let uri: Uri = uri.parse().map_err(|_| NoCredential::Failed(format!("`{address}` is not an address").into()))?;
    let mut request = Request::new(Full::new(plain.body.clone()));
    *request.method_mut() = plain.method.clone();
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    let named = connection_headers(&plain.headers);
    for (name, value) in &plain.headers {
        if !NOT_FORWARDED.contains(name) && name != "dpop" && !named.iter().any(|named| named == name.as_str()) {
            headers.append(name, value.clone());
        }
    }
    credentials.attach(credential, &plain.method, address, headers)?;
    let response = credentials.http().send(request).await?;
    credentials.learn(response.headers());
    Ok(response)
}

/// The headers that `Connection` names as being of this hop only.
fn connection_headers(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// Leaves in a response's headers only what concerns the client: no challenge that would make it look for credentials.
pub(crate) fn cleaned(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &HeaderName| {
        !NOT_FORWARDED.contains(name) && *name != header::WWW_AUTHENTICATE && name != "dpop-nonce" && *name != header::SET_COOKIE
    };
    headers.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
