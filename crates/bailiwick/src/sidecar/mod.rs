//! The sidecar: holds an agent's key, gets and renews the credential of one execution, and adds a fresh proof to each
//! request, so that an unmodified MCP client can use the gateway and never sees a credential.

pub(crate) mod client;
pub(crate) mod credential;
pub(crate) mod forward;
pub(crate) mod front;
pub(crate) mod hops;
pub(crate) mod key;
pub(crate) mod proxy;
pub(crate) mod stdio;
