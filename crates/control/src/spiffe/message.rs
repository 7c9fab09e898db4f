//! The messages of the Workload API (SPIFFE Workload API, `workload.proto`).

use std::collections::HashMap;

use prost::Message;

/// `X509SVIDRequest`, `X509BundlesRequest` and `JWTBundlesRequest`, which say nothing.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<X509Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "3")]
    pub(super) federated_bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) hint: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509BundlesResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "2")]
    pub(super) bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvidRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) audience: Vec<String>,
    #[prost(string, tag = "2")]
    pub(super) spiffe_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<JwtSvid>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    #[prost(string, tag = "2")]
    pub(super) svid: String,
    #[prost(string, tag = "3")]
    pub(super) hint: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtBundlesResponse {
    #[prost(map = "string, bytes", tag = "1")]
    pub(super) bundles: HashMap<String, Vec<u8>>,
}
