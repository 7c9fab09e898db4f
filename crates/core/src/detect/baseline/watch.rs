//! The baselines as calls are judged by them, while a follower of the log keeps them up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bailiwick_log::Position;

use super::behavior::Behavior;
use super::budget::Budget;
use super::fold::Baselines;
use super::oddity::Oddity;
use crate::flow::Sources;
use crate::model::{AgentName, Call, Effect, ExecutionId, Record};

/// Baselines that many calls are judged by at once, and that one follower of the log folds records into.
#[derive(Debug)]
pub struct Watch(RwLock<Baselines>);

impl Watch {
    /// Goes on with these.
    pub const fn new(baselines: Baselines) -> Self {
        Self(RwLock::new(baselines))
    }

    /// The baselines as they are now. No record is folded in for as long as they are held.
    pub fn read(&self) -> RwLockReadGuard<'_, Baselines> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said of a call before it is decided; nothing of one that only reads, which costs nothing.
    pub fn judge(&self, agent: &AgentName, execution: ExecutionId, effect: Effect, call: &Call, sources: Sources<'_>) -> Option<Behavior> {
        (effect != Effect::Read).then(|| self.read().judge(agent, execution, effect, call, sources))
    }

    /// Folds in the record at `position`.
    pub fn fold(&self, position: Position, record: &Record) -> Vec<Oddity> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).fold(position, record)
    }

    /// Goes on with the roles that a bundle gives its agents, and with its budget.
    pub fn set(&self, members: BTreeMap<AgentName, BTreeSet<String>>, budget: Budget) {
        let mut baselines = self.0.write().unwrap_or_else(PoisonError::into_inner);
        baselines.set_members(members);
        baselines.set_budget(budget);
    }
}
