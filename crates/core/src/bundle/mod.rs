//! The bundle: the declarations and policies that a trust domain runs on.
//!
//! What a person writes is read and checked in [`read`]; what the rest of the house uses is the [`Snapshot`], which is
//! whole, valid, immutable and named by its digest. Nothing declared means nothing allowed.

mod declared;
mod live;
mod pattern;

pub use declared::{
    Agent, BrokerAuth, Claims, CredentialRules, Federation, Issuer, Keys, Limits, Listen, Otherwise, Pin, Proof, RegisteredKey, Returns,
    Server, Settings, Snapshot, Tool, Transport,
};
pub use live::Live;
pub use pattern::ToolPattern;
