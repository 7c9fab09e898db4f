//! What is done about findings, and the agents that are under caution because of them.

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::{AgentName, Digest, ExecutionId, Timestamp};
use crate::detect::finding::Response;

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseEnd {
    /// It was done.
    Done,
    /// It would have been done, and the bundle says that nothing is done yet.
    DryRun,
    /// Nothing yet: as much was stopped within an hour as may be without a person, who now says what becomes of it.
    Held,
    /// Nothing, as a person said.
    Dismissed,
    /// What was done before was taken back by a person.
    Undone,
    /// It could not be done, and is tried again.
    Failed,
    /// There was nothing to do.
    Nothing,
}

impl ResponseEnd {
    /// The word that records use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::DryRun => "dry_run",
            Self::Held => "held",
            Self::Dismissed => "dismissed",
            Self::Undone => "undone",
            Self::Failed => "failed",
            Self::Nothing => "nothing",
        }
    }
}

/// What was done about a finding, or what a person said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responded {
    /// When.
    pub at: Timestamp,
    /// The finding, by its name.
    pub finding: Digest,
    /// The record of the finding, as it read then.
    pub found: Position,
    /// Whom it is about, where that is an agent of the house.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The execution that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// What was to be done.
    pub response: Response,
    /// What became of it.
    pub code: ResponseEnd,
    /// Why that, in a sentence; empty where the code says it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The records of what was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Position>,
    /// The record of the held response that this settles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settles: Option<Position>,
    /// Who did it: a person, or `bailiwick`.
    pub by: String,
    /// Why, as that person says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How an agent is looked upon that something was found about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Caution {
    /// Policies see that it is suspect.
    Suspect,
    /// Each of its calls with an effect needs a person besides.
    Ask,
}

impl Caution {
    /// The word that records and bundles use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Ask => "ask",
        }
    }
}

/// An agent is under caution, in every execution that it is part of, until it is released. Said again now and then, as a quarantine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cautioned {
    /// When this was written.
    pub at: Timestamp,
    /// The agent.
    pub agent: AgentName,
    /// How it is looked upon.
    pub caution: Caution,
    /// Since when it is under caution.
    pub since: Timestamp,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The finding, by its name, that it is because of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Digest>,
}

/// What a release lifts, where it is not all that holds the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The quarantine.
    Quarantine,
    /// The caution.
    Caution,
}
