//! Acts: stands between agents and their tools, and lets nothing through that was not decided and recorded first.
//!
//! Whatever the protocol, a call walks the one straight line of [`Gateway::enforce`]. An adapter (one folder a protocol)
//! turns wire into a call and the answer back into wire; it does not decide, record or hold credentials.

pub mod a2a;
pub mod authz;
pub mod broker;
mod caller;
mod catch_up;
pub mod connection;
mod front;
pub mod mcp;
mod path;
mod permit;
pub mod recover;
mod refusal;
mod room;
mod upstream;

pub use caller::{Answered, Caller};
pub use front::{Body, Front};
pub use path::{Arrival, Gateway, Parts, Running};
pub use permit::{Decided, Permit};
pub use refusal::{Busy, Refusal};
pub use upstream::{Answer, Extras, ToolFault, Upstream, UpstreamError};
