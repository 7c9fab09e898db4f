//! The words of the domain, each once. What they mean is in `docs/architecture.md`.
//!
//! These types carry no behaviour beyond being valid: what is parsed here need not be checked again.

mod call;
mod decision;
mod digest;
mod found;
mod name;
mod network;
mod record;
mod response;
mod shown;
mod time;

pub use call::{Arguments, Call, Effect, Protocol, call_digest};
pub use decision::{Answer, Answers, Code, Decision, Verdict};
pub use digest::{Digest, InvalidDigest};
pub use found::{FOUND_BYTES_MAX, Found, RolledBack, Settled, Settlement};
pub(crate) use name::climbs;
pub use name::{AgentName, ExecutionId, InvalidName, ServerName, SpiffeId, ToolName, TrustDomain};
pub use network::{Network, NotANetwork};
pub use record::{
    Allowed, Answered, BundleActivated, CredentialTakenBack, Ending, ExecutionStarted, Intent, Member, Outcome, Person, Quarantined,
    Record, Refresh, Refused, Released, Revocation, Revoked, ServerDescribed, SignIn, Signal, SignalEnd, Started, TakenBack, TaskBegun,
    TokenIssued, ToolHeld,
};
pub use response::{Caution, Cautioned, Hold, Responded, ResponseEnd};
pub use shown::{hides, shown};
pub use time::{Clock, Date, Duration, Entropy, InvalidDuration, Timestamp};
