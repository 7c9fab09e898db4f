//! The ledger: what an execution has seen and done, as the next decision needs it.
//!
//! It is a view of the log: [`Ledger::took`] and [`Ledger::learned`] fold records in, and folding the same records
//! again gives the same ledger. Each step costs the same however long the execution runs.

mod history;

use std::collections::BTreeSet;
use std::sync::Arc;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

pub use history::{Charge, History, HistoryOf, HistoryUnjudged, Tracks};

use crate::approval::{Asks, Standing};
use crate::detect::baseline::Behavior;
use crate::flow::{Carried, Traced};
use crate::model::{AgentName, Answered, Call, Caution, Digest, ExecutionId, Intent, Timestamp, Verdict};

/// Whether data may be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// The server vouches for it.
    #[default]
    Trusted,
    /// A third party wrote it, or nobody said who did.
    Untrusted,
}

/// The labels of data: whether it may be believed, and who it is for. Joining keeps the worse of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Whether it may be believed.
    pub integrity: Integrity,
    /// The confidentiality labels that it carries, as the bundle names them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub confidentiality: BTreeSet<Arc<str>>,
}

impl Labels {
    /// What is known of data that nobody declared anything of.
    pub fn undeclared() -> Self {
        Self { integrity: Integrity::Untrusted, confidentiality: BTreeSet::new() }
    }

    /// Whether it is no more than what is known of undeclared data.
    pub(crate) fn is_undeclared(&self) -> bool {
        *self == Self::undeclared()
    }

    /// Whether taking on the labels of `other` would change nothing.
    pub fn covers(&self, other: &Self) -> bool {
        self.integrity >= other.integrity && self.confidentiality.is_superset(&other.confidentiality)
    }

    /// Takes on the labels of `other` as well.
    pub fn join(&mut self, other: &Self) {
        self.integrity = self.integrity.max(other.integrity);
        self.confidentiality.extend(other.confidentiality.iter().cloned());
    }
}

/// What the ledger said about one call when it was judged. It is in the record of the decision, so that the decision
/// can be computed again, and is all that the ledger needs to fold the call in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The allowed calls of this execution, this one included.
    pub calls: u64,
    /// The labels of all that the execution has been shown.
    pub labels: Labels,
    /// The declared counters and sums that concern this call, this call included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Charge>,
    /// Which item of the execution's grant admitted the call, and how often it has, this call included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantUse>,
    /// Who chose what the call acts on; of a call with an effect, once the execution has read anything untrusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traced: Vec<Traced>,
    /// What the call would carry out, once the execution was shown what may not leave by its tool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
    /// Whether there is no room to remember what the call writes under untrusted influence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unremembered: bool,
    /// How the call stands, where a person has to approve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Standing>,
    /// What was said of the call beside what is usual for its agent; absent where nobody looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Behavior>,
    /// The caution under which an agent of the chain is; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caution: Option<Box<UnderCaution>>,
    /// What the call counts for the executions that it is made for, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<Share>,
}

/// That an agent which makes a call, or for which it is made, is under caution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderCaution {
    /// How it is looked upon.
    pub caution: Caution,
    /// The agent; of several, one that is looked upon worst.
    pub agent: AgentName,
    /// The finding that it is because of, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Digest>,
}

impl UnderCaution {
    /// Why the call is not as usual, in a sentence.
    pub fn sentence(&self) -> String {
        let Self { caution, agent, finding } = self;
        let asks = if *caution == Caution::Ask { ", and a person looks at each call of it that does more than read" } else { "" };
        match finding {
            Some(finding) => format!("`{agent}` is under caution because of the finding {finding}{asks}"),
            None => format!("`{agent}` is under caution{asks}"),
        }
    }
}

/// What one call counts for an execution that delegated to the one which makes it: as much as if that had made it itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The agent that delegated.
    pub agent: AgentName,
    /// The execution in which it did.
    pub execution: ExecutionId,
    /// The allowed calls of that execution and of all that descends from it, this one included.
    pub calls: u64,
    /// The declared counters and sums that concern this call, this call included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Charge>,
    /// Which item of that execution's grant admitted the call, and how often it has, this call included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantUse>,
}

/// Which item of a grant admitted a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantUse {
    /// The item's place in `authorization_details`, from 0.
    pub item: usize,
    /// How often it has admitted a call, this one included.
    pub uses: u64,
}

/// What one execution has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    sequence: u64,
    calls: u64,
    labels: Labels,
    #[serde(default, skip_serializing_if = "Tracks::is_empty")]
    tracks: Tracks,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grant_uses: Vec<u64>,
    #[serde(default, skip_serializing_if = "Asks::is_empty")]
    asks: Asks,
}

impl Ledger {
    /// The place that the execution's next record takes.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The labels of all that the execution has been shown.
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }

    /// How many calls were allowed, of the execution and of all that descends from it.
    pub const fn calls(&self) -> u64 {
        self.calls
    }

    /// The calls that people were asked about.
    pub const fn asks(&self) -> &Asks {
        &self.asks
    }

    /// How often item `item` of the grant has admitted a call.
    pub fn grant_uses(&self, item: usize) -> u64 {
        self.grant_uses.get(item).copied().unwrap_or(0)
    }

    /// The facts about `call`, counted as if it were allowed. `agent` holds the series that are kept for the agent
    /// over all its executions. Fails when a declared sum has no amount to add.
    pub fn facts(&self, histories: &[History], agent: &Tracks, call: &Call, now: Timestamp) -> Result<Facts, HistoryUnjudged> {
        let history = histories
            .iter()
            .filter_map(|history| {
                let tracks = match history.of {
                    HistoryOf::Execution => &self.tracks,
                    HistoryOf::Agent => agent,
                };
                tracks.charge(history, call, now).transpose()
            })
            .collect::<Result<_, _>>()?;
        Ok(Facts { calls: self.calls.saturating_add(1), labels: self.labels.clone(), history, ..Facts::default() })
    }

    /// Folds in a decision that is on the log at `position`. Says whether it was new: what was folded in before changes nothing.
    pub fn took(&mut self, position: Position, intent: &Intent, histories: &[History]) -> bool {
        if intent.sequence < self.sequence {
            return false;
        }
        self.sequence = intent.sequence.saturating_add(1);
        self.asks.took(position, intent);
        if intent.decision.verdict != Verdict::Allow {
            return true;
        }
        self.charged(&intent.facts.history, intent.facts.grant, histories, intent.at);
        true
    }

    /// Folds in an allowed call of an execution that descends from this one; to be done once for each.
    pub fn took_below(&mut self, share: &Share, histories: &[History], at: Timestamp) {
        self.charged(&share.history, share.grant, histories, at);
    }

    fn charged(&mut self, charges: &[Charge], grant: Option<GrantUse>, histories: &[History], at: Timestamp) {
        self.calls = self.calls.saturating_add(1);
        self.tracks.fold(histories, HistoryOf::Execution, charges, at);
        if let Some(used) = grant {
            if self.grant_uses.len() <= used.item {
                self.grant_uses.resize(used.item.saturating_add(1), 0);
            }
            if let Some(uses) = self.grant_uses.get_mut(used.item) {
                *uses = uses.saturating_add(1);
            }
        }
    }

    /// Folds in what a person answered, which is on the log at `position`. Says whether it counts: the first answer does.
    pub fn answered(&mut self, position: Position, answered: &Answered) -> bool {
        self.asks.answered(position, answered)
    }

    /// Folds in a delegation that took this place.
    pub fn delegated(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence.saturating_add(1));
    }

    /// Folds in an outcome that is on the log: what it returned was learned, and its place is taken.
    pub fn ended(&mut self, sequence: u64, labels: &Labels) {
        self.sequence = self.sequence.max(sequence.saturating_add(1));
        self.labels.join(labels);
    }

    /// Learns that the execution is about to be shown data with these labels.
    pub fn learned(&mut self, labels: &Labels) {
        self.labels.join(labels);
    }
}
