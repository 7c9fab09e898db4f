//! The findings that are on the log, each with how it stands now.

use std::collections::BTreeMap;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::finding::Level;
use crate::model::{AgentName, Digest, ExecutionId, Found, Settled, Settlement, Timestamp};

/// So many findings are known at once; beyond that the one that nothing was heard of for longest is on the log alone.
pub const KNOWN_MAX: usize = 20_000;

/// How a finding stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// Its first record.
    pub first: Position,
    /// Its newest, which says what is known of it.
    pub newest: Position,
    /// What raised it.
    pub detector: String,
    /// How often it happened, as that record says.
    pub count: u64,
    /// How much it matters.
    pub level: Level,
    /// When the last of it happened.
    pub last: Timestamp,
    /// The agent, where it is about one.
    pub agent: Option<AgentName>,
    /// The execution.
    pub execution: Option<ExecutionId>,
    /// What a person said that it is, and in which record.
    pub settled: Option<(Position, Settlement)>,
}

/// The findings on the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    by_id: BTreeMap<Digest, Brief>,
    /// Their newest records.
    by_place: BTreeMap<Position, Digest>,
}

/// What the beginning of an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// One finding.
    One(Digest),
    /// More than one.
    Several,
    /// None.
    Nothing,
}

impl Known {
    /// Folds in the record of a finding.
    pub fn found(&mut self, position: Position, found: &Found) {
        let before = self.by_id.remove(&found.finding.id);
        if let Some(before) = &before {
            self.by_place.remove(&before.newest);
        }
        let brief = Brief {
            first: before.as_ref().map_or(position, |before| before.first),
            newest: position,
            detector: found.finding.detector.id.clone(),
            count: found.finding.count,
            level: found.code,
            last: found.finding.last,
            agent: found.agent.clone(),
            execution: found.execution,
            settled: before.and_then(|before| before.settled),
        };
        self.by_id.insert(found.finding.id, brief);
        self.by_place.insert(position, found.finding.id);
        if self.by_id.len() > KNOWN_MAX
            && let Some((_, oldest)) = self.by_place.pop_first()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// Folds in what a person said of one.
    pub fn settled(&mut self, position: Position, settled: &Settled) {
        if let Some(brief) = self.by_id.get_mut(&settled.finding) {
            brief.settled = Some((position, settled.code));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How one stands.
    pub fn get(&self, id: &Digest) -> Option<&Brief> {
        self.by_id.get(id)
    }

    /// All, those first of which was heard last.
    pub fn newest_first(&self) -> impl Iterator<Item = (&Digest, &Brief)> {
        self.by_place.values().rev().filter_map(|id| self.by_id.get_key_value(id))
    }

    /// The one whose id begins so, with or without `sha256:`; at least six digits, so that what is meant today is meant tomorrow.
    pub fn named(&self, beginning: &str) -> Named {
        let digits = beginning.strip_prefix("sha256:").unwrap_or(beginning);
        if digits.len() < 6 {
            return Named::Nothing;
        }
        let mut named = self.by_id.keys().filter(|id| id.to_string().trim_start_matches("sha256:").starts_with(digits));
        match (named.next(), named.next()) {
            (Some(one), None) => Named::One(*one),
            (Some(_), Some(_)) => Named::Several,
            (None, _) => Named::Nothing,
        }
    }
}
