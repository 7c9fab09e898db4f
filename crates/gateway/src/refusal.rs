//! Why a call did not go through, by who has to act on it.

use bailiwick_core::model::Code;
use bailiwick_log::{Position, StorageError};
use http::StatusCode;

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
        /// The intent that asked: this one, or an earlier one of the same call.
        ask: Position,
    },
    /// The tool's move: it was asked and did not answer as it should.
    #[error("{error} (record {intent})")]
    Upstream {
        /// What happened.
        error: UpstreamError,
        /// The record of the decision.
        intent: Position,
    },
    /// The execution or its credential was revoked, or an agent of its chain quarantined, while the call was under way.
    #[error("{}: the call was cut (record {intent})", code.as_str())]
    Ended {
        /// Which of these.
        code: Code,
        /// The record of the decision.
        intent: Position,
    },
    /// The caller went away; nobody is left to read this.
    #[error("the caller went away (record {intent})")]
    Gone {
        /// The record of the decision.
        intent: Position,
    },
    /// The operator's move: another gateway on the same log took this one for dead and closed the call. Whether it took
    /// effect is unknown, and its answer is not released.
    #[error("another gateway gave the call up before it ended, so no answer is given (record {intent})")]
    GivenUp {
        /// The record of the decision.
        intent: Position,
    },
    /// Nobody's fault, and nothing was done: the call may be made again, and not at once.
    #[error("{}: {}", _0.code(), _0.sentence())]
    Busy(Busy),
    /// The operator's move: nothing is done whose intent cannot be recorded, and no answer released whose outcome cannot be.
    #[error("the gateway could not record the call, so no answer is given; tell the operator")]
    NotRecorded(#[from] StorageError),
    /// The operator's move: the call's own task died. Its outcome is recorded as unknown at the next start.
    #[error("the gateway failed; tell the operator")]
    Crashed,
}

/// What is busy with too much already. Such a call was refused before it was judged: it is neither decided nor done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The execution has as many calls under way as `calls_per_execution_max` allows.
    Execution,
    /// The agent has as many calls under way as leave room for the others.
    Agent,
    /// The tool's server has as many calls under way as leave room for the others; it may hang.
    Server,
    /// The gateway has `calls_max` calls under way, or more arrives than it can serve.
    Gateway,
    /// The log's disk is slower than what arrives.
    Log,
}

impl Busy {
    /// How long a caller should wait before it calls again, in seconds (RFC 9110 §10.2.3).
    pub const RETRY_AFTER_S: u64 = 1;

    /// The code for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Execution | Self::Agent => "too_many_calls",
            Self::Server => "tool_busy",
            Self::Gateway => "gateway_busy",
            Self::Log => "log_busy",
        }
    }

    /// The sentence for whoever reads.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Execution | Self::Agent => "Too many calls are under way. Wait for one to end and call again.",
            Self::Server => "The tool's server has too many calls under way. The call was not made; make it again later.",
            Self::Gateway => "The gateway has too much to do. The call was not made; make it again later.",
            Self::Log => "The log cannot take more at the moment. The call was not made; make it again later.",
        }
    }

    /// The status: 429 where the caller itself is what keeps it busy (RFC 6585 §4), 503 otherwise.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Execution | Self::Agent => StatusCode::TOO_MANY_REQUESTS,
            Self::Server | Self::Gateway | Self::Log => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
