//! The broker: gets what a tool server wants to see, so that no agent ever holds a key.
//!
//! It knows the permit and the bundle. The credential that an agent came with never reaches it, so it cannot be passed on.

mod credential;
mod form;
mod real;
mod take_back;

use std::sync::Arc;

use async_trait::async_trait;
use bailiwick_core::model::ServerName;
pub use credential::Credential;
pub use real::{Broker, Chains, Signers, Sources, Stopped};

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
