//! What tool servers offer beside their reviewed tools, as the agents' side shows it: the seam between the two sides.

use std::sync::Arc;

use async_trait::async_trait;
use bailiwick_core::model::ServerName;
use serde_json::{Map, Value};
use tokio::sync::broadcast;

use crate::UpstreamError;

/// What one server offers, as it said so last. Everything in it is untrusted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offered {
    /// Its capabilities, as its `server/discover` or `initialize` declared them.
    pub capabilities: Map<String, Value>,
    /// What it says about its use.
    pub instructions: Option<String>,
    /// Its prompts: MCP `Prompt` objects.
    pub prompts: Vec<Value>,
    /// Its resources: MCP `Resource` objects.
    pub resources: Vec<Value>,
    /// Its resource templates: MCP `ResourceTemplate` objects.
    pub templates: Vec<Value>,
}

/// Something about a server changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its tools did, or which of them are held back.
    Tools(ServerName),
    /// Its prompts did.
    Prompts(ServerName),
    /// Its resources or templates did.
    Resources(ServerName),
    /// The content of a resource did that somebody subscribed to.
    Resource(ServerName, Arc<str>),
}

/// Tells what servers offer, and when that changes.
#[async_trait]
pub trait Offers: Send + Sync {
    /// What `server` offers: remembered until it changes, asked of it otherwise. Fails when it cannot be asked.
    async fn offered(&self, server: &ServerName) -> Result<Arc<Offered>, UpstreamError>;

    /// The changes from now on. Who reads too slowly misses some, is told so, and has to take it that all changed.
    fn changes(&self) -> broadcast::Receiver<Change>;
}
