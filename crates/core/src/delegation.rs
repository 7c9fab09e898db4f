//! Delegation: what an execution hands to another agent, as the start of an execution of that agent.
//!
//! Authority only shrinks: the new execution acts for the same person and task, holds at most the grant of the one above it, and ends
//! with it. Nothing here asks whether the agents want to; the bundle says whether they may (`delegate_to`).

use std::sync::Arc;

use crate::bundle::{Agent, Snapshot};
use crate::execution::Execution;
use crate::identity::{Grant, InvalidGrant};
use crate::model::{AgentName, ExecutionId, ExecutionStarted, Member, SpiffeId, Timestamp};

/// How many executions one may have delegated to at once that are still known.
const CHILDREN_MAX: usize = 256;

/// How long a delegation may wait to be redeemed, in seconds.
const REDEEM_S: i64 = 60;

/// What is delegated, by whom and to whom.
#[derive(Clone, Debug)]
pub struct Delegation<'a> {
    /// The execution that delegates.
    pub parent: &'a Arc<Execution>,
    /// The `jti` of the credential by which it does; none where the gateway does it.
    pub token: Option<&'a str>,
    /// The agent that is to act for it.
    pub to: &'a AgentName,
    /// What that may do at most; it is narrowed to what the delegating execution may do.
    pub wanted: &'a Grant,
}

/// Why nothing is delegated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDelegated {
    /// The bundle in force has no such agent.
    #[error("there is no agent `{0}`")]
    Unknown(AgentName),
    /// The delegating agent's declaration does not name the other.
    #[error("`{by}` is not declared to delegate to `{to}`")]
    Undeclared {
        /// Who would delegate.
        by: AgentName,
        /// To whom.
        to: AgentName,
    },
    /// The chain would be longer than the bundle allows.
    #[error("the chain would be of more than {0} agents")]
    TooLong(usize),
    /// It has delegated to as many as it may at once.
    #[error("the execution has delegated to {CHILDREN_MAX} others already")]
    TooMany,
    /// The delegating execution was revoked, or has ended.
    #[error("the execution that delegates has ended")]
    Ended,
    /// Nothing is left of what is asked for.
    #[error(transparent)]
    Grant(#[from] InvalidGrant),
}

impl Delegation<'_> {
    /// The start of the execution that is delegated, to be put on the log before anybody hears of it, in the delegating one's own turn:
    /// it takes a place among that one's records. Its first credential is the
    /// delegation itself, with the `jti` `id`, which the agent redeems within a minute for one of its own.
    pub fn start(&self, snapshot: &Snapshot, execution: ExecutionId, id: String, now: Timestamp) -> Result<ExecutionStarted, NotDelegated> {
        let above = self.parent.started();
        if self.parent.is_stopped() || self.parent.is_without_credential(now) {
            return Err(NotDelegated::Ended);
        }
        let by = snapshot.agents.get(&above.agent).ok_or_else(|| NotDelegated::Unknown(above.agent.clone()))?;
        let to = snapshot.agents.get(self.to).ok_or_else(|| NotDelegated::Unknown(self.to.clone()))?;
        if !by.delegate_to.contains(self.to) {
            return Err(NotDelegated::Undeclared { by: by.name.clone(), to: to.name.clone() });
        }
        // The present member, those above it, and the one that is to come.
        if above.chain.len().saturating_add(2) > snapshot.settings.limits.chain_max {
            return Err(NotDelegated::TooLong(snapshot.settings.limits.chain_max));
        }
        if self.parent.children_len() >= CHILDREN_MAX {
            return Err(NotDelegated::TooMany);
        }
        let expires_s = self.parent.expires().as_second().min(now.as_second().saturating_add(REDEEM_S));
        Ok(ExecutionStarted {
            at: now,
            bundle: snapshot.digest,
            execution,
            agent: to.name.clone(),
            subject: above.subject.clone(),
            chain: std::iter::once(self.member(snapshot, by)).chain(above.chain.iter().cloned()).collect(),
            task: above.task.clone(),
            grant: self.parent.grant().narrow(self.wanted)?,
            key: None,
            token: id,
            renewal: false,
            expires: Timestamp::from_second(expires_s).unwrap_or(now),
            proof: format!("delegated by {}", by.name),
            sign_in: None,
        })
    }

    fn member(&self, snapshot: &Snapshot, by: &Agent) -> Member {
        Member {
            agent: SpiffeId::new(snapshot.settings.trust_domain.clone(), by.name.clone()),
            owner: by.owner.clone(),
            roles: by.roles.clone(),
            execution: self.parent.id(),
            sequence: self.parent.ledger().sequence(),
            token: self.token.map(str::to_owned),
        }
    }
}
