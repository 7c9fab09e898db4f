//! Stopping: what is revoked ends for good, and a quarantined agent does nothing until it is released.
//!
//! Each execution knows whether it is stopped, so that a call looks at one number; what is here does the work when somebody stops
//! something.

use super::*;
use crate::model::{Code, Hold, Released, Revocation, Revoked};

/// How long it is remembered that a person's older tokens count for nothing, in seconds. Older ones than that are not taken at all.
const PERSON_TOKEN_S_MAX: i64 = 24 * 3_600;

/// Since when the tokens of people were issued that may still be acted on.
#[derive(Debug, Default)]
pub(super) struct Barred {
    pub(super) all: Option<Timestamp>,
    pub(super) of: BTreeMap<String, Timestamp>,
}

/// Where the log says of an agent what holds it, and that it was released.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) quarantine: Stands,
    pub(super) caution: Stands,
}

/// Where the log says that something began to hold an agent, and that the agent was released from it, each for the last time.
#[derive(Debug, Default)]
pub(super) struct Stands {
    /// Nothing where it does not say so yet.
    began: Option<Position>,
    released: Option<Position>,
}

impl Stands {
    /// It begins here, and is on its way to the log.
    pub(super) const fn begins_here(&mut self) {
        self.began = None;
    }

    /// It stands there on the log. Says whether it is over, by a release that stands after it and was heard of before this was known.
    pub(super) fn stands_at(&mut self, position: Position) -> bool {
        self.began = Some(position);
        self.released.is_some_and(|released| released > position)
    }

    /// The log says there that it holds. Says whether that is news, where it `is_held` already by what is known.
    pub(super) fn hears(&mut self, position: Position, is_held: bool) -> bool {
        let is_released = self.released.is_some_and(|released| released > position);
        let is_older = is_held && self.began.is_none_or(|known| known > position);
        if !is_released && !is_older {
            self.began = Some(position);
        }
        !is_released && !is_older
    }

    /// The log says there that the agent was released. Says whether that ends it: one that is on its way to the log ends by a release
    /// that was said here alone.
    pub(super) fn is_released(&mut self, position: Position, is_own: bool) -> bool {
        self.released = self.released.max(Some(position));
        self.began.map_or(is_own, |began| began < position)
    }
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
    /// ended anyway. Says how many executions went on until then, those that descend from one counted too; of a credential, whether its
    /// execution is known.
    pub fn revoked(&self, revoked: &Revoked) -> usize {
        let known = || revoked.execution.and_then(|execution| self.find(execution));
        match &revoked.what {
            Revocation::Execution(_) => known().map_or(0, |execution| execution.stop()),
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
        self.all().into_iter().filter(|execution| is_meant(execution)).map(|execution| execution.stop()).sum()
    }

    /// Quarantines an agent before the log says so, with effect on the next call and on calls under way. No release that is heard of undoes
    /// it before [`Self::quarantined_at`] has said where it stands.
    pub fn quarantine(&self, quarantined: Quarantined) {
        let mut all = self.quarantined.write().unwrap_or_else(PoisonError::into_inner);
        self.said(&quarantined.agent, |said| said.quarantine.begins_here());
        self.hold(&mut all, quarantined);
    }

    /// Notes where the log says what [`Self::quarantine`] did. A release that stands after it, and was heard of before this was known, has
    /// effect now.
    pub fn quarantined_at(&self, agent: &AgentName, position: Position) {
        let mut all = self.quarantined.write().unwrap_or_else(PoisonError::into_inner);
        if self.said(agent, |said| said.quarantine.stands_at(position)) {
            self.let_go(&mut all, agent);
        }
    }

    /// Takes in that the log says at `position` that an agent is quarantined.
    pub fn heard_quarantine(&self, position: Position, quarantined: Quarantined) {
        let mut all = self.quarantined.write().unwrap_or_else(PoisonError::into_inner);
        let is_held = all.contains_key(&quarantined.agent);
        if self.said(&quarantined.agent, |said| said.quarantine.hears(position, is_held)) {
            self.hold(&mut all, quarantined);
        }
    }

    /// Takes in that the log says at `position` that an agent was released: what has not ended goes on, unless the agent was quarantined
    /// after that.
    pub fn heard_release(&self, position: Position, released: &Released) {
        self.let_go_at(position, released, false);
    }

    /// Takes in the same of a release that was said here, where no quarantine is on its way to the log: one that could not be written ends too.
    pub fn release(&self, position: Position, released: &Released) {
        self.let_go_at(position, released, true);
    }

    fn let_go_at(&self, position: Position, released: &Released, is_own: bool) {
        if released.lifts(Hold::Quarantine) {
            let mut all = self.quarantined.write().unwrap_or_else(PoisonError::into_inner);
            if self.said(&released.agent, |said| said.quarantine.is_released(position, is_own)) {
                self.let_go(&mut all, &released.agent);
            }
        }
        if released.lifts(Hold::Caution) {
            self.lift_caution(position, &released.agent, is_own);
        }
    }

    fn hold(&self, all: &mut BTreeMap<AgentName, Quarantined>, quarantined: Quarantined) {
        all.insert(quarantined.agent.clone(), quarantined);
        // Under the lock, so that two who change it do not undo each other's work.
        self.all().iter().for_each(|execution| execution.hold(all));
    }

    fn let_go(&self, all: &mut BTreeMap<AgentName, Quarantined>, agent: &AgentName) {
        if all.remove(agent).is_some() {
            self.all().iter().for_each(|execution| execution.hold(all));
        }
    }

    pub(super) fn said<T>(&self, agent: &AgentName, look: impl FnOnce(&mut Said) -> T) -> T {
        look(self.said.lock().unwrap_or_else(PoisonError::into_inner).entry(agent.clone()).or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_undoes_no_quarantine_that_is_newer_whichever_is_heard_of_first() {
        let agent: AgentName = "bot".parse().unwrap();
        let quarantined = || Quarantined {
            at: Timestamp::UNIX_EPOCH,
            agent: agent.clone(),
            since: Timestamp::UNIX_EPOCH,
            by: "a".into(),
            reason: String::new(),
            finding: None,
        };
        let released = || Released { at: Timestamp::UNIX_EPOCH, agent: agent.clone(), by: "a".into(), reason: String::new(), only: None };
        let is_held = |executions: &Executions| executions.quarantined().contains_key(&agent);
        // Said here while another gateway's older release is on its way: that one comes before and after it is known where this stands.
        for comes_late in [false, true] {
            let executions = Executions::default();
            executions.heard_quarantine(Position(1), quarantined());
            executions.quarantine(quarantined());
            if comes_late {
                executions.quarantined_at(&agent, Position(9));
            }
            executions.heard_release(Position(5), &released());
            assert!(is_held(&executions));
            executions.quarantined_at(&agent, Position(9));
            assert!(is_held(&executions));
            executions.heard_release(Position(12), &released());
            assert!(!is_held(&executions));
        }
        // One that stands after it, heard of before it is known where it stands.
        let executions = Executions::default();
        executions.quarantine(quarantined());
        executions.heard_release(Position(12), &released());
        assert!(is_held(&executions));
        executions.quarantined_at(&agent, Position(9));
        assert!(!is_held(&executions));
        // What another gateway said before it was released does not come back, and one that the log never took ends by an own release.
        executions.heard_quarantine(Position(3), quarantined());
        assert!(!is_held(&executions));
        executions.quarantine(quarantined());
        executions.release(Position(20), &released());
        assert!(!is_held(&executions));
    }
}
