//! The bundle: the declarations and policies that a trust domain runs on.
//!
//! What a person writes is read and checked in [`read`]; what the rest of the house uses is the [`Snapshot`], which is
//! whole, valid, immutable and named by its digest. Nothing declared means nothing allowed.

mod agents;
mod approvals;
mod canonical;
mod clients;
mod declared;
mod expect;
mod fields;
mod issuers;
mod jwk;
mod live;
mod loosened;
mod outbound;
mod pattern;
mod problem;
mod read;
mod reporters;
mod respond;
mod rules;
pub mod schema;
mod secret;
mod servers;
mod settings;
mod signals;
mod url;

#[cfg(test)]
mod tests;

pub use canonical::canonical;
pub use clients::Client;
pub use declared::{
    Agent, Approvals, Approver, Behind, BrokerAuth, BundleServer, Claims, CredentialRules, DecideFor, Federation, Issuer, Keys, Limits,
    Listen, Local, Login, Otherwise, Pin, Proof, RegisteredKey, Returns, Review, Server, Settings, Snapshot, Tool, Transport, Webhook,
};
pub use expect::Expectation;
pub use live::Live;
pub use loosened::loosened;
pub use outbound::{IdJag, Outbound, Said};
pub use pattern::{ToolPattern, ToolPatterns};
pub use problem::{Problem, Severity};
pub use read::{Bundle, FOLDERS, Files, concerns, digest, read};
pub use reporters::Reporter;
pub use respond::{Destination, InvalidSyslog, Notify, Respond, Syslog};
pub use secret::looks_secret;
pub use signals::{Delivery, Poll, Signals, Stream, Transmitter};
pub use url::Below;
