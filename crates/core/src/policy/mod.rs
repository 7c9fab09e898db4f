//! The policy: Cedar, over what the bundle declares and what it adds by hand.
//!
//! Deny by default, and any evaluation error is a deny: Cedar alone would skip a policy that fails, also a `forbid`.

use serde_json::Value;

use crate::ledger::Facts;
use crate::model::{AgentName, Effect, Timestamp, ToolName};

/// A bundle's policies, compiled and indexed; immutable.
#[derive(Debug)]
pub struct Policies {}

/// One question to the policies.
#[derive(Debug)]
pub struct Question<'a> {
    /// Who acts.
    pub agent: &'a AgentName,
    /// On whose behalf.
    pub subject: Option<&'a str>,
    /// The person's own words.
    pub task: Option<&'a str>,
    /// How many agents acted before the present one in the delegation chain.
    pub depth: usize,
    /// The tool; declared, or the answer is that nothing permits it.
    pub tool: &'a ToolName,
    /// What the tool does.
    pub effect: Effect,
    /// The arguments: an object.
    pub arguments: &'a Value,
    /// What the ledger says.
    pub facts: &'a Facts,
    /// When.
    pub now: Timestamp,
}

/// What the policies answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The answer.
    pub outcome: RulingOutcome,
    /// The policies that determined it.
    pub policies: Vec<String>,
    /// What went wrong while evaluating; not empty exactly when the outcome is `Failed`.
    pub errors: Vec<String>,
}

/// The answer of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulingOutcome {
    /// Something permits it and nothing forbids it.
    Permitted,
    /// Nothing permits it.
    NotPermitted,
    /// A policy forbids it.
    Forbidden,
    /// The only policies that forbid it say, by the annotation `@otherwise("ask")`, that a person may allow it.
    Asked,
    /// The budget that the agent's declaration sets is spent.
    BudgetSpent,
    /// The arguments are not what the tool's reviewed definition takes, so no policy could be asked.
    InvalidArguments,
    /// A policy could not be evaluated.
    Failed,
}

impl Policies {
    /// Answers one question. Never panics, never allows on an error.
    pub fn decide(&self, _question: &Question<'_>) -> Ruling {
        Ruling { outcome: RulingOutcome::NotPermitted, policies: Vec::new(), errors: Vec::new() }
    }

    /// Whether some call of `tool` by `agent` might be allowed, whatever its arguments and history: what a list shows.
    pub fn may_ever(&self, _agent: &AgentName, _tool: &ToolName) -> bool {
        false
    }
}
