//! Whose the tasks and contexts of other agents are.
//!
//! A task, and the context it is in, belong to the agent that began it together with whom it acted for and through which agents: a
//! later execution of the same finds it again, and to everybody else it is as if it were not there. It is a view of the log, bounded:
//! of what is forgotten nobody knows the owner, so nobody finds it.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::model::{AgentName, Digest, ExecutionStarted, ServerName, SpiffeId, TaskBegun};

/// The most tasks and contexts whose owners are known; the oldest are forgotten. Each takes some 70 bytes.
const KNOWN_MAX: usize = 1 << 17;

/// Half of a digest: what stands for a task or a context, or for an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Half([u8; 16]);

impl Half {
    fn of(digest: &Digest) -> Self {
        Self(digest.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

impl From<Half> for String {
    fn from(half: Half) -> Self {
        format!("{:032x}", u128::from_be_bytes(half.0))
    }
}

impl TryFrom<String> for Half {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(|number| Self(number.to_be_bytes()))
    }
}

/// What of another agent's belongs to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned<'a> {
    /// A task, by its id there.
    Task(&'a str),
    /// A context.
    Context(&'a str),
}

impl Owned<'_> {
    fn key(self, server: &ServerName) -> Half {
        let text = match self {
            Self::Task(id) => format!("task\n{server}\n{id}"),
            Self::Context(id) => format!("context\n{server}\n{id}"),
        };
        Half::of(&Digest::of(text.as_bytes()))
    }
}

/// The one who owns what is begun in this execution.
pub fn owner(started: &ExecutionStarted) -> Digest {
    let chain: Vec<&SpiffeId> = started.chain.iter().map(|member| &member.agent).collect();
    let of: (&AgentName, &Option<String>, _) = (&started.agent, &started.subject, chain);
    Digest::of(serde_json::json!(of).to_string().as_bytes())
}

/// The owners that are known.
#[derive(Debug, Default)]
pub struct Tasks(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    owners: HashMap<Half, Half>,
    /// The oldest first.
    order: VecDeque<Half>,
}

impl Tasks {
    /// Whether it is known to belong to `owner`; nothing where nobody is known to own it.
    pub fn is_of(&self, server: &ServerName, what: Owned<'_>, owner: &Digest) -> Option<bool> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.owners.get(&what.key(server)).map(|of| *of == Half::of(owner))
    }

    /// Takes in what is on the log. Whoever was first stays the owner.
    pub fn begun(&self, begun: &TaskBegun) {
        let task = begun.task.as_deref().map(Owned::Task);
        for what in task.into_iter().chain(begun.context.as_deref().map(Owned::Context)) {
            self.restore(what.key(&begun.server), Half::of(&begun.owner));
        }
    }

    /// What is known, oldest first.
    pub fn kept(&self) -> Vec<(Half, Half)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.order.iter().filter_map(|what| Some((*what, *known.owners.get(what)?))).collect()
    }

    /// Puts one back.
    pub fn restore(&self, what: Half, owner: Half) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.owners.contains_key(&what) {
            return;
        }
        if known.order.len() >= KNOWN_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.owners.remove(&oldest);
        }
        known.owners.insert(what, owner);
        known.order.push_back(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn begun(task: &str, owner: &str) -> TaskBegun {
        TaskBegun {
            at: Timestamp::UNIX_EPOCH,
            server: "writer".parse().unwrap(),
            execution: crate::model::ExecutionId::from_parts(1, [0; 10]),
            agent: "asker".parse().unwrap(),
            subject: None,
            task: Some(task.to_owned()),
            context: Some(format!("of {task}")),
            owner: Digest::of(owner.as_bytes()),
        }
    }

    #[test]
    fn who_was_first_owns_it_and_what_is_forgotten_is_nobodys() {
        let tasks = Tasks::default();
        let is_of = |server: &str, what, owner: &str| tasks.is_of(&server.parse().unwrap(), what, &Digest::of(owner.as_bytes()));
        tasks.begun(&begun("t", "ana"));
        tasks.begun(&begun("t", "bo"));
        assert_eq!(is_of("writer", Owned::Task("t"), "ana"), Some(true));
        assert_eq!(is_of("writer", Owned::Task("t"), "bo"), Some(false));
        assert_eq!(is_of("writer", Owned::Context("of t"), "ana"), Some(true));
        assert_eq!(is_of("writer", Owned::Context("t"), "ana"), None);
        assert_eq!(is_of("reader", Owned::Task("t"), "ana"), None);
        for more in 0..KNOWN_MAX {
            tasks.begun(&TaskBegun { context: None, ..begun(&more.to_string(), "bo") });
        }
        assert_eq!(is_of("writer", Owned::Task("t"), "ana"), None);
        assert_eq!(tasks.kept().len(), KNOWN_MAX);
    }
}
