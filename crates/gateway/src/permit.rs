//! The permit: proof that one call was allowed and that its intent is on the log. Without one, nothing is forwarded.
//!
//! A call that only reads may go once its intent has its place in the log; any other only once the intent would survive
//! a crash. Making a permit by hand, or forwarding without one, does not compile:
//!
//! ```compile_fail,E0451
//! use bailiwick_gateway::Permit;
//! fn forge(call: bailiwick_core::model::Call, intent: bailiwick_core::model::Intent) -> Permit {
//!     Permit { call, intent, position: bailiwick_log::Position(0) }
//! }
//! ```
//!
//! ```compile_fail,E0308
//! # use bailiwick_gateway::{broker::Credential, Caller, Decided, Upstream};
//! async fn jump(upstream: &dyn Upstream, decided: Decided, credential: Credential, caller: &dyn Caller) {
//!     upstream.forward(decided, credential, Default::default(), caller).await.unwrap();
//! }
//! ```

use bailiwick_core::approval::Standing;
use bailiwick_core::model::{Call, Effect, Intent, Verdict};
use bailiwick_log::{Entry, Expected, Log, Position, Recorded};

use crate::Refusal;

/// A call that was judged: what goes on the log is its intent, what goes to the tool is the call.
#[derive(Debug)]
pub struct Decided {
    intent: Intent,
    call: Call,
}

impl Decided {
    /// Joins a call to the intent that was made of it; only the path does.
    pub(crate) const fn new(intent: Intent, call: Call) -> Self {
        Self { intent, call }
    }

    /// The intent.
    pub const fn intent(&self) -> &Intent {
        &self.intent
    }
}

impl Entry for Decided {
    fn encode(&self, out: &mut Vec<u8>) {
        self.intent.encode(out);
    }

    fn expected(&self) -> Option<Expected> {
        self.intent.expected()
    }
}

/// Proof that one call was allowed and that the intent to make it is on the log.
#[derive(Debug)]
pub struct Permit {
    call: Call,
    intent: Intent,
    position: Position,
}

impl Permit {
    /// Turns a recorded decision into a permit, waiting for the disk where the call does more than read. A denial or an
    /// ask ends here.
    pub async fn grant(log: &Log, decided: Recorded<Decided>) -> Result<Self, Refusal> {
        let position = decided.position();
        let decision = &decided.value().intent.decision;
        match decision.verdict {
            Verdict::Allow => {}
            Verdict::Ask => {
                let ask = match decided.value().intent.facts.approval {
                    Some(Standing::Waits { ask }) => ask,
                    _ => position,
                };
                return Err(Refusal::Asked { code: decision.code, intent: position, ask });
            }
            Verdict::Deny => return Err(Refusal::Denied { code: decision.code, intent: position }),
        }
        let Decided { intent, call } = match decided.value().intent.effect {
            Effect::Read => decided.into_value(),
            Effect::Write | Effect::Send | Effect::Spend | Effect::Admin => log.durable(decided).await?.into_value(),
        };
        Ok(Self { call, intent, position })
    }

    /// The call, exactly as it was decided on.
    pub const fn call(&self) -> &Call {
        &self.call
    }

    /// The intent that is on the log: who acts, for whom, under which execution.
    pub const fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Where the intent is on the log.
    pub const fn position(&self) -> Position {
        self.position
    }
}
