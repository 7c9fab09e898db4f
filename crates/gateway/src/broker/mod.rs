//! The broker: gets what a tool server wants to see, so that no agent ever holds a key.

mod credential;

use std::sync::Arc;

use async_trait::async_trait;
pub use credential::Credential;

use bailiwick_core::model::ServerName;

use crate::Permit;

/// Why an upstream credential could not be had. The operator's move; the text never holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BrokerError(pub Arc<str>);

/// Gives out upstream credentials.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The narrowest credential for this very call.
    async fn credential(&self, permit: &Permit) -> Result<Credential, BrokerError>;

    /// The gateway's own credential at `server`, by which it reads what the server offers: on nobody's behalf, for no call.
    async fn own(&self, server: &ServerName) -> Result<Credential, BrokerError>;
}
