//! HTTP to one tool server: requests out, messages in. It knows nothing of what the messages mean.
//!
//! Nothing is followed (redirects), decompressed or proxied; sizes and times are bounded. Plain `http` is for loopback only.

use std::collections::VecDeque;
use std::time::Duration;

use bailiwick_core::address::may_lead_to;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use rustls::RootCertStore;

use super::connections::{Connections, Failed, Received};
use super::message::garbage;
use super::reach::{Within, is_localhost};
use super::sse::{Event, Parser};
use crate::UpstreamError;

/// The most bytes that are read of a body that goes with an error status.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// A client that is shared by all that is reached over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    house: Connections,
    public: Connections,
}

impl HttpClient {
    /// A client that believes servers by these certificate authorities. Fails when the cryptography cannot be set up.
    pub(crate) fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        Ok(Self { house: Connections::new(roots.clone(), Within::House)?, public: Connections::new(roots, Within::Public)? })
    }

    /// Sends one request to what the bundle names, and waits at most `wait` for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<Response<Received>, UpstreamError> {
        send(&self.house, method, url, headers, body, wait).await
    }

    /// The same to an address that somebody else chose: what its name leads to must be public. A literal one is for the caller to look at.
    pub(crate) async fn send_in_public(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<Response<Received>, UpstreamError> {
        send(&self.public, method, url, headers, body, wait).await
    }
}

async fn send(
    connections: &Connections,
    method: Method,
    url: &Uri,
    headers: HeaderMap,
    body: Vec<u8>,
    wait: Duration,
) -> Result<Response<Received>, UpstreamError> {
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    *request.uri_mut() = url.clone();
    *request.headers_mut() = headers;
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    match tokio::time::timeout(wait, connections.send(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(Failed::Connect(error))) => Err(UpstreamError::Unreachable(causes(error.as_ref()).into())),
        Ok(Err(Failed::Lost(error))) => Err(UpstreamError::Lost(causes(&error).into())),
        Err(_) => Err(UpstreamError::TimedOut),
    }
}

/// Reads the address of a server: `https`, or `http` to this machine. What its name leads to is looked at on connecting.
pub(crate) fn address(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is not a URL"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let literal = host.parse::<std::net::IpAddr>().ok();
    if literal.is_some_and(|address| !may_lead_to(address)) {
        return Err(format!("`{url}` is where no tool server may be"));
    }
    let loopback = is_localhost(host) || literal.is_some_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(uri),
        Some("http") if loopback => Ok(uri),
        _ => Err(format!("`{url}` is neither `https` nor on this machine")),
    }
}

/// An error with what caused it; the outermost alone is hardly ever what the operator needs.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The headers that every message of ours has.
pub(super) fn message_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers
}

/// What the head of an answer says.
#[derive(Debug)]
pub(crate) enum Replied {
    /// Messages follow.
    Messages(Messages),
    /// It was taken, and nothing follows.
    Accepted,
    /// An error status, and the body that goes with it.
    Status(StatusCode, Vec<u8>),
}

/// Reads the head of an answer, and the body where the status is an error.
pub(crate) async fn replied(response: Response<Received>, bytes_max: usize, wait: Duration) -> Result<Replied, UpstreamError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(UpstreamError::Unsupported("it redirects to another address, which is not followed; declare that address".into()));
    }
    if !matches!(response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes), None | Some(b"identity" | b"")) {
        return Err(garbage("the body is compressed, which was not asked for"));
    }
    if !status.is_success() {
        let body = tokio::time::timeout(wait, body(response, ERROR_BYTES_MAX)).await.unwrap_or(Err(UpstreamError::TimedOut));
        return Ok(Replied::Status(status, body.unwrap_or_default()));
    }
    if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        return Ok(Replied::Accepted);
    }
    let essence = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let form = match essence.as_str() {
        "application/json" | "application/a2a+json" => Form::Whole(Vec::new()),
        "text/event-stream" => Form::Events(Parser::new(bytes_max)),
        _ => return Err(garbage("the body is neither JSON nor an event stream")),
    };
    let declared = response.headers().get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if matches!(form, Form::Whole(_)) && declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(UpstreamError::TooLarge(bytes_max));
    }
    Ok(Replied::Messages(Messages { body: response.into_body(), form, bytes_max, ready: VecDeque::new(), ended: false, bytes: 0 }))
}

/// Reads a whole body.
pub(crate) async fn body(response: Response<Received>, bytes_max: usize) -> Result<Vec<u8>, UpstreamError> {
    let mut body = response.into_body();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| UpstreamError::Lost(causes(&error).into()))?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > bytes_max {
                return Err(UpstreamError::TooLarge(bytes_max));
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole)
}

/// The messages of one answer, as they come. Dropping it closes the stream.
#[derive(Debug)]
pub(crate) struct Messages {
    body: Received,
    form: Form,
    bytes_max: usize,
    ready: VecDeque<Event>,
    ended: bool,
    /// How many bytes came so far.
    pub(crate) bytes: u64,
}

#[derive(Debug)]
enum Form {
    /// The body is one message.
    Whole(Vec<u8>),
    /// The body is events, each with a message.
    Events(Parser),
}

impl Messages {
    /// The next message or sign of life; nothing at the end. May be dropped at any await without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, UpstreamError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let Some(frame) = self.body.frame().await else {
                self.ended = true;
                if let Form::Whole(whole) = &mut self.form {
                    self.ready.push_back(Event::Message(std::mem::take(whole)));
                }
                continue;
            };
            let frame = frame.map_err(|error| UpstreamError::Lost(causes(&error).into()))?;
            let Some(data) = frame.data_ref() else { continue };
            self.bytes += data.len() as u64;
            match &mut self.form {
                Form::Whole(whole) if whole.len() + data.len() > self.bytes_max => return Err(UpstreamError::TooLarge(self.bytes_max)),
                Form::Whole(whole) => whole.extend_from_slice(data),
                Form::Events(parser) => {
                    parser.read(data, &mut self.ready).map_err(|_| UpstreamError::TooLarge(self.bytes_max))?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (url, accepted) in [
            ("https://tickets.acme.example/mcp", true),
            ("http://127.0.0.1:9/mcp", true),
            ("http://[::1]:9/mcp", true),
            ("http://localhost/mcp", true),
            ("http://tickets.acme.example/mcp", false),
            ("http://127.0.0.1.acme.example/", false),
            ("https://10.0.0.1/mcp", true),
            ("https://127.0.0.1/mcp", true),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://[::ffff:169.254.169.254]/", false),
            ("https://[fd00:ec2::254]/", false),
            ("https://0.0.0.0/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("http://127.1/", false),
            ("http://2130706433/", false),
            ("http://user@tickets.acme.example/", false),
            ("ftp://127.0.0.1/", false),
            ("/mcp", false),
            ("", false),
        ] {
            assert_eq!(address(url).is_ok(), accepted, "{url}");
        }
    }
}
