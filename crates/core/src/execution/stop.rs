//! Stopping: what is revoked ends for good, and a quarantined agent does nothing until it is released.
//!
//! Each execution knows whether it is stopped, so that a call looks at one number; what is here does the work when somebody stops
//! something.

use super::*;
use crate::model::{Code, Released, Revocation, Revoked};

/// How long it is remembered that a person's older tokens count for nothing, in seconds. Older ones than that are not taken at all.
const PERSON_TOKEN_S_MAX: i64 = 24 * 3_600;

/// Since when the tokens of people were issued that may still be acted on.
#[derive(Debug, Default)]
pub(super) struct Barred {
    pub(super) all: Option<Timestamp>,
    pub(super) of: BTreeMap<String, Timestamp>,
}

impl Execution {
    /// Why a call that was cut was: an agent of the chain is quarantined, and otherwise the execution or its credential was revoked.
    pub fn why_stopped(&self) -> Code {
        if self.stopped.load(Ordering::Acquire) == QUARANTINED { Code::Quarantined } else { Code::ExecutionEnded }
    }

    /// Whether the agent acts in it, or is acted for.
    pub fn involves(&self, agent: &AgentName) -> bool {
        self.started.agent == *agent || self.started.chain.iter().any(|member| member.agent.agent() == agent)
    }

    /// Stops it, or lets it go on, by whether an agent of its chain is quarantined.
    pub(super) fn hold(&self, quarantined: &BTreeMap<AgentName, Quarantined>) {
        if quarantined.keys().any(|agent| self.involves(agent)) {
            self.stopped.fetch_or(QUARANTINED, Ordering::AcqRel);
            self.stop.notify(usize::MAX);
        } else {
            self.stopped.fetch_and(!QUARANTINED, Ordering::AcqRel);
        }
    }
}

impl Executions {
    /// Takes in a revocation, with effect on the next call and on calls under way. An execution that is not known has
    /// ended anyway. Says how many executions it was about.
    pub fn revoked(&self, revoked: &Revoked) -> usize {
        let known = || revoked.execution.and_then(|execution| self.find(execution));
        match &revoked.what {
            Revocation::Execution(_) => known().into_iter().map(|execution| execution.stop()).count(),
            Revocation::Token(token) => known().into_iter().map(|execution| execution.stop_token(token)).count(),
            Revocation::Subject(subject) => {
                self.bar(Some(subject), revoked.at);
                self.stop_all(|execution| execution.started.subject.as_ref() == Some(subject))
            }
            Revocation::Agent(agent) => self.stop_all(|execution| execution.started.agent == *agent),
            Revocation::Owner { agents, .. } => self.stop_all(|execution| agents.contains(&execution.started.agent)),
            Revocation::All => {
                self.bar(None, revoked.at);
                self.stop_all(|_| true)
            }
        }
    }

    fn stop_all(&self, is_meant: impl Fn(&Execution) -> bool) -> usize {
        self.all().into_iter().filter(|execution| is_meant(execution)).map(|execution| execution.stop()).count()
    }

    /// Takes in that an agent is quarantined, with effect on the next call and on calls under way.
    pub fn quarantine(&self, quarantined: Quarantined) {
        let mut all = self.quarantined.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(quarantined.agent.clone(), quarantined);
        // Under the lock, so that two who change it do not undo each other's work.
        self.all().iter().for_each(|execution| execution.hold(&all));
    }

    /// Takes in that an agent was released: what has not ended goes on.
    pub fn release(&self, released: &Released) {
        let mut all = self.quarantined.write().unwrap_or_else(PoisonError::into_inner);
        if all.remove(&released.agent).is_some() {
            self.all().iter().for_each(|execution| execution.hold(&all));
        }
    }

    /// The agents that are quarantined, each as the log said it last.
    pub fn quarantined(&self) -> RwLockReadGuard<'_, BTreeMap<AgentName, Quarantined>> {
        self.quarantined.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing may be done on the strength of a token of `subject` that was issued at this second, in seconds since the epoch: it
    /// was revoked with all else of that person's, or it is so old that this would be forgotten.
    pub fn is_barred(&self, subject: &str, issued_s: i64, now: Timestamp) -> bool {
        let barred = self.barred.read().unwrap_or_else(PoisonError::into_inner);
        let before = |bar: Option<&Timestamp>| bar.is_some_and(|bar| issued_s <= bar.as_second());
        before(barred.all.as_ref()) || before(barred.of.get(subject)) || now.as_second().saturating_sub(issued_s) > PERSON_TOKEN_S_MAX
    }

    /// Bars the tokens of a person, or of all, that were issued until then.
    pub(super) fn bar(&self, subject: Option<&str>, at: Timestamp) {
        let mut barred = self.barred.write().unwrap_or_else(PoisonError::into_inner);
        match subject {
            Some(subject) => {
                let bar = barred.of.entry(subject.to_owned()).or_insert(at);
                *bar = at.max(*bar);
            }
            None => barred.all = barred.all.max(Some(at)),
        }
    }

    pub(super) fn forget_barred(&self, now: Timestamp) {
        let may_come = |bar: &Timestamp| now.as_second().saturating_sub(bar.as_second()) <= PERSON_TOKEN_S_MAX;
        let mut barred = self.barred.write().unwrap_or_else(PoisonError::into_inner);
        barred.of.retain(|_, bar| may_come(bar));
        barred.all = barred.all.filter(may_come);
    }
}
