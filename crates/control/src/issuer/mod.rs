//! The issuer: who signs the credentials of executions, and what it publishes about itself.

mod keys;
mod metadata;

pub use keys::{Issuer, IssuerError, KeyFiles};
pub(crate) use metadata::{authorization_server, openid};
