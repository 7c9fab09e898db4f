//! What is said of a record that is unlike what is usual, and when it is worth telling a person.

use std::sync::Arc;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::behavior::Reason;
use super::fold::Peers;
use super::role::Channel;
use crate::model::{AgentName, Effect, ExecutionId, Timestamp, ToolName};

/// Something that is unlike what is usual, enough to tell a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Oddity {
    /// The record that brought it to light.
    pub record: Position,
    /// When that was written.
    pub at: Timestamp,
    /// Who acted.
    pub agent: AgentName,
    /// In which execution, where it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// On whose behalf, where that is somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// The tool of the call that brought it to light, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// What that tool does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Whether the execution had read anything confidential by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_confidential: bool,
    /// Whom the agent was compared with.
    pub peers: Peers,
    /// What kind of thing is calibrated together.
    pub channel: Channel,
    /// How far it is from what is usual, on that channel.
    pub score: f32,
    /// The share of the executions that score more, as far as the tail tells.
    pub share: f32,
    /// Why, the greatest surprise first; never empty.
    pub because: Vec<Reason>,
}

/// The record at which something is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'m> {
    pub(super) record: Position,
    pub(super) at: Timestamp,
    pub(super) execution: Option<ExecutionId>,
    pub(super) tool: Option<&'m ToolName>,
    pub(super) effect: Option<Effect>,
    pub(super) is_confidential: bool,
}

impl Moment<'_> {
    /// A record that is no call, of an execution.
    pub(super) const fn of(record: Position, at: Timestamp, execution: ExecutionId) -> Self {
        Self { record, at, execution: Some(execution), tool: None, effect: None, is_confidential: false }
    }
}

/// A surprise in nats, and how to say it: the words are made only where somebody is told.
pub(super) struct Doubt<F>(pub(super) f32, pub(super) F);
