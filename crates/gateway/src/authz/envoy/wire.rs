//! The messages of Envoy's external authorization (`envoy.service.auth.v3`), as far as they are read or written here. What else a
//! message holds is skipped, as protobuf wants it.

use std::collections::HashMap;

/// `CheckRequest`: may this request pass?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CheckRequest {
    /// What is known of it.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<Attributes>,
}

/// `AttributeContext`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Attributes {
    /// Where it came from.
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    /// The request itself.
    #[prost(message, optional, tag = "4")]
    pub request: Option<Request>,
    /// What the route says beside.
    #[prost(map = "string, string", tag = "10")]
    pub context_extensions: HashMap<String, String>,
}

/// `AttributeContext.Peer`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Peer {
    /// Its address.
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

/// `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Address {
    /// A socket's.
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SocketAddress {
    /// The IP address as a text.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// `AttributeContext.Request`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Request {
    /// As HTTP.
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

/// `AttributeContext.HttpRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HttpRequest {
    /// The method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The headers, each once, by names in lower case; several values of one are joined by commas.
    #[prost(map = "string, string", tag = "3")]
    pub headers: HashMap<String, String>,
    /// The path, with the query.
    #[prost(string, tag = "4")]
    pub path: String,
    /// The body, where it is text.
    #[prost(string, tag = "11")]
    pub body: String,
    /// The body as bytes (`pack_as_bytes`).
    #[prost(bytes = "vec", tag = "12")]
    pub raw_body: Vec<u8>,
    /// The headers as they came (`encode_raw_headers`).
    #[prost(message, optional, tag = "13")]
    pub header_map: Option<HeaderMap>,
}

/// `envoy.config.core.v3.HeaderMap`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeaderMap {
    /// The headers, in order.
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<Header>,
}

/// `envoy.config.core.v3.HeaderValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Header {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value, where it is text.
    #[prost(string, tag = "2")]
    pub value: String,
    /// The value as bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub raw_value: Vec<u8>,
}

/// `CheckResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CheckResponse {
    /// Whether it passes: it does with code 0 alone.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// What else.
    #[prost(oneof = "Verdict", tags = "2, 3")]
    pub verdict: Option<Verdict>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// `OK` is 0, `PERMISSION_DENIED` 7, `UNAUTHENTICATED` 16.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For who reads Envoy's log.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// What goes with the status.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Verdict {
    /// What the client is answered.
    #[prost(message, tag = "2")]
    Denied(Denied),
    /// How the request goes on.
    #[prost(message, tag = "3")]
    Passes(Passes),
}

/// `DeniedHttpResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Denied {
    /// The status of the answer.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Headers of the answer.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderOption>,
    /// Its body.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// `envoy.type.v3.HttpStatus`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HttpStatus {
    /// The number.
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// `OkHttpResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Passes {
    /// Headers that the request gets.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderOption>,
    /// Headers that it loses.
    #[prost(string, repeated, tag = "5")]
    pub headers_to_remove: Vec<String>,
}

/// `envoy.config.core.v3.HeaderValueOption`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeaderOption {
    /// The header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// What becomes of others of its name: 0 keeps them, 2 replaces them.
    #[prost(int32, tag = "3")]
    pub append_action: i32,
}
