//! What is out of the ordinary: what is usual for each agent, rules over what happened, and the findings that they lead to.
//!
//! Nothing here is in the way of a call. It reads what is on the log, or what a cloud says was done in its own, and is a pure
//! function of it: the same records give the same findings, whoever reads them and however often.

pub mod baseline;
pub mod cloudtrail;
pub mod finding;
pub mod guardduty;
pub mod kept;
pub mod known;
pub mod own_log;
pub mod respond;
pub mod rules;
pub mod sentry;
pub mod trees;

pub use finding::{Finding, Findings};
pub use sentry::Sentry;
pub use trees::Trees;
