//! Why a call did not go through, by who has to act on it.

use bailiwick_core::model::Code;
use bailiwick_log::{Position, StorageError};

use crate::UpstreamError;

/// Why a call did not go through.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The agent's move: the decision was to deny.
    #[error("{}: {} (record {intent})", code.as_str(), code.sentence())]
    Denied {
        /// Why.
        code: Code,
        /// The record of the decision.
        intent: Position,
    },
    /// A person's move: the call needs an approval.
    #[error("{}: {} (record {intent})", code.as_str(), code.sentence())]
    Asked {
        /// Why.
        code: Code,
        /// The record of the decision.
        intent: Position,
    },
    /// The tool's move: it was asked and did not answer as it should.
    #[error("{error} (record {intent})")]
    Upstream {
        /// What happened.
        error: UpstreamError,
        /// The record of the decision.
        intent: Position,
    },
    /// The execution or its credential was revoked while the call was under way.
    #[error("the execution was ended while the call was under way (record {intent})")]
    Ended {
        /// The record of the decision.
        intent: Position,
    },
    /// The caller went away; nobody is left to read this.
    #[error("the caller went away (record {intent})")]
    Gone {
        /// The record of the decision.
        intent: Position,
    },
    /// The agent's move: it has as many calls under way as it may.
    #[error("too many calls are under way; wait for one to end and call again")]
    Busy,
    /// The operator's move: nothing is done whose intent cannot be recorded, and no answer released whose outcome cannot be.
    #[error("the gateway could not record the call, so no answer is given; tell the operator")]
    NotRecorded(#[from] StorageError),
    /// The operator's move: the call's own task died. Its outcome is recorded as unknown at the next start.
    #[error("the gateway failed; tell the operator")]
    Crashed,
}
