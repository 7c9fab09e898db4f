//! What an execution may do at most: `authorization_details` (RFC 9396) of type `tool_call`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Effect, ToolName};

/// What an execution may do at most. No items mean all that the agent may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grant(Vec<Value>);

/// `authorization_details` that are not what this server takes; the answer is `invalid_authorization_details`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidGrant(String);

impl Grant {
    /// Which item admits the call, if any; `uses` says how often each item has admitted one.
    pub fn admits(&self, _tool: &ToolName, _effect: Effect, _arguments: &Value, _uses: impl Fn(usize) -> u64) -> Admission {
        if self.0.is_empty() { Admission::Unrestricted } else { Admission::None }
    }
}

/// What a grant says to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The grant does not restrict the agent.
    Unrestricted,
    /// This item admits it.
    Item(usize),
    /// Items would admit it, but their uses are spent.
    Spent,
    /// No item admits it.
    None,
}
