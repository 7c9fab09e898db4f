//! Approvals: the calls that a person is asked about, and what people answered.
//!
//! An ask is an intent whose verdict is `ask`; its place in the log is its id. It lives in the ledger of its execution, so
//! it is a view of the log like everything that a decision is made by. What a person answered is a record of its own,
//! [`Answered`]. An approval is bound to the digest of the exact call of one execution, is used up by the first call that it
//! allows, and ends by itself.

use std::sync::Arc;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use crate::flow::{Carried, Traced};
use crate::model::{Answered, Digest, Effect, Intent, Person, Timestamp, ToolName};

/// How a call that a person has to approve stands; the record of its decision says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// It is asked about with this very decision.
    Asked {
        /// The call, by [`crate::model::Call::digest`].
        call: Digest,
        /// How long the ask waits for an answer.
        until: Timestamp,
    },
    /// The same call was asked about before, and nobody has answered yet.
    Waits {
        /// The intent that asked first.
        ask: Position,
    },
    /// A person approved it; this decision uses the approval up.
    Approved {
        /// The intent that asked.
        ask: Position,
        /// The record of the answer.
        answer: Position,
    },
    /// A person refused it.
    Refused {
        /// The intent that asked.
        ask: Position,
        /// The record of the answer.
        answer: Position,
    },
}

/// The calls of one execution that people were asked about, the oldest first. As many as an execution may ask in all, so
/// that it needs no bound of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asks(Vec<Ask>);

/// A call that a person is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The place of the intent that asked.
    pub id: Position,
    /// The call, by [`crate::model::Call::digest`].
    pub call: Digest,
    /// The tool.
    pub tool: ToolName,
    /// What the tool does.
    pub effect: Effect,
    /// The arguments' exact text; absent where it is longer than the log keeps. Nobody can approve what cannot be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Arc<str>>,
    /// Who chose what the call acts on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traced: Vec<Traced>,
    /// What the call would carry out that not everybody may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
    /// The policies that want a person's approval; empty where the flow of data does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Why a person is asked, in a sentence.
    pub because: String,
    /// When it was asked.
    pub at: Timestamp,
    /// How long it waits for an answer.
    pub until: Timestamp,
    /// What a person answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Given>,
    /// The intent that used the approval up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Position>,
}

/// What a person answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The record of the answer.
    pub record: Position,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Person,
    /// Whether the call may be made.
    pub approved: bool,
    /// Whether the values that nobody who may had chosen are endorsed for the execution.
    pub endorses: bool,
    /// How long the approval can be used.
    pub until: Timestamp,
}

/// How far an ask has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits for a person.
    Pending,
    /// A person approved it, and the call was not made yet.
    Approved,
    /// A person refused it.
    Refused,
    /// The call that was approved was made.
    Used,
    /// Nobody answered in time, or the approval was not used in time.
    Expired,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Refused, Self::Used, Self::Expired];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Used => "used",
            Self::Expired => "expired",
        }
    }
}

impl Ask {
    /// How far it has come.
    pub fn state(&self, now: Timestamp) -> State {
        match &self.answer {
            _ if self.used.is_some() => State::Used,
            Some(given) if !given.approved => State::Refused,
            Some(given) if given.until > now => State::Approved,
            None if self.until > now => State::Pending,
            Some(_) | None => State::Expired,
        }
    }
}

impl Asks {
    /// All of them, the oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Ask> {
        self.0.iter()
    }

    /// How many there were.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there were none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ask with this id.
    pub fn find(&self, id: Position) -> Option<&Ask> {
        self.0.iter().find(|ask| ask.id == id)
    }

    /// How the call with this digest stands; nothing where it has to be asked about anew.
    pub fn standing(&self, call: &Digest, now: Timestamp) -> Option<Standing> {
        let ask = self.0.iter().rev().find(|ask| ask.call == *call)?;
        match (ask.state(now), &ask.answer) {
            (State::Pending, _) => Some(Standing::Waits { ask: ask.id }),
            (State::Approved, Some(given)) => Some(Standing::Approved { ask: ask.id, answer: given.record }),
            (State::Refused, Some(given)) => Some(Standing::Refused { ask: ask.id, answer: given.record }),
            _ => None,
        }
    }

    /// Folds in a decision that is on the log: a new ask, or the use of an approval.
    pub(crate) fn took(&mut self, position: Position, intent: &Intent) {
        match &intent.facts.approval {
            Some(Standing::Asked { call, until }) => self.0.push(Ask {
                id: position,
                call: *call,
                tool: intent.tool.clone(),
                effect: intent.effect,
                arguments: intent.arguments.as_ref().map(|arguments| arguments.get().into()),
                traced: intent.facts.traced.clone(),
                carried: intent.facts.carried.clone(),
                policies: intent.decision.policies.clone(),
                because: intent.decision.answers.because_of_ask().to_owned(),
                at: intent.at,
                until: *until,
                answer: None,
                used: None,
            }),
            Some(Standing::Approved { ask, .. }) => {
                if let Some(ask) = self.0.iter_mut().find(|known| known.id == *ask) {
                    ask.used = Some(position);
                }
            }
            Some(Standing::Waits { .. } | Standing::Refused { .. }) | None => {}
        }
    }

    /// Folds in an answer that is on the log. The first one counts; says whether this was it.
    pub(crate) fn answered(&mut self, record: Position, answered: &Answered) -> bool {
        let Some(ask) = self.0.iter_mut().find(|ask| ask.id == answered.ask && ask.call == answered.call) else { return false };
        if ask.answer.is_some() {
            return false;
        }
        ask.answer = Some(Given {
            record,
            at: answered.at,
            by: answered.by.clone(),
            approved: answered.approved,
            endorses: answered.approved && answered.endorses,
            until: answered.until,
        });
        true
    }
}

#[cfg(test)]
mod tests;
