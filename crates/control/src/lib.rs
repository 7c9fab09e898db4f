//! Governs: the bundle on disk, the issuer and its token service, revocation. What it decides, core decides.

pub mod admin;
pub mod approvals;
pub mod bundle;
pub mod caller;
pub mod fetch;
pub mod findings;
mod foreign;
mod hook;
pub mod issuer;
pub mod notify;
mod outbox;
pub mod people;
pub mod reports;
pub mod respond;
mod secret;
pub mod signals;
pub mod spiffe;
pub mod svid;
pub mod token;
pub mod webhook;
pub mod why;
#[cfg(feature = "spiffe")]
mod workload;
