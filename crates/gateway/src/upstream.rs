//! Tools' servers, as the path sees them: something that takes a permit and gives an answer.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::broker::{BrokerError, Credential};
use crate::{Caller, Permit};

/// What an adapter hands to its protocol's upstream beside the call itself, such as MCP's `_meta` and `inputResponses`;
/// opaque to the path, and never what a decision rests on.
pub type Extras = Map<String, Value>;

/// A fault in the words of the protocol: a code, a message and what the tool adds to it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolFault {
    /// The protocol's own code: for MCP, JSON-RPC's.
    pub code: i64,
    /// The message; written by the other side, so untrusted.
    pub message: String,
    /// What else the other side says of it.
    pub data: Option<Value>,
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The protocol's result, or its fault. The result is shared, so that it can be answered with while it is still being taken in.
    pub body: Result<Arc<Value>, ToolFault>,
    /// Whether the tool says that it failed: a fault, or a result that reports one.
    pub failed: bool,
    /// How many bytes the tool sent for this call.
    pub bytes: u64,
}

impl Answer {
    /// The result by itself; copied where it is still being taken in.
    pub fn into_result(self) -> Result<Value, ToolFault> {
        self.body.map(Arc::unwrap_or_clone)
    }
}

/// Why a tool did not answer. Whether the call took effect is known only for some of these.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The server could not be reached; the call was not sent.
    #[error("the tool server could not be reached: {0}")]
    Unreachable(Arc<str>),
    /// The upstream credential could not be had; the call was not sent.
    #[error("no credential for the tool server: {0}")]
    NoCredential(#[from] BrokerError),
    /// The server refused our credential.
    #[error("the tool server refused the credential that the broker presented: {0}")]
    Refused(Arc<str>),
    /// The server was lost after the call was sent, so nobody knows whether it took effect.
    #[error("the tool server was lost before it answered: {0}")]
    Lost(Arc<str>),
    /// The server took too long, so nobody knows whether the call took effect.
    #[error("the tool server did not answer in time")]
    TimedOut,
    /// The server answered with something that is not the protocol.
    #[error("the tool server's answer is not valid: {0}")]
    Garbage(Arc<str>),
    /// The server answered with more than is accepted.
    #[error("the tool server's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The server cannot do this: it is of another era of the protocol, or lacks a capability.
    #[error("the tool server cannot do this: {0}")]
    Unsupported(Arc<str>),
    /// What the server offers under the tool's name is not what was reviewed; the call was not sent.
    #[error("the tool's definition is not the reviewed one, so the call was not sent")]
    Changed,
}

impl UpstreamError {
    /// Whether the call may have taken effect.
    pub const fn is_uncertain(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::TimedOut | Self::Garbage(_) | Self::TooLarge(_))
    }
}

/// Reaches tool servers.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Forwards one permitted call and resolves when the tool has answered; until then, what the tool shows and asks goes
    /// to `caller`. Dropping the future cancels the call at the server.
    async fn forward(&self, permit: Permit, credential: Credential, extras: Extras, caller: &dyn Caller) -> Result<Answer, UpstreamError>;
}
