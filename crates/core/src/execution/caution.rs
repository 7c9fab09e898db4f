//! Caution: what an agent does that something was found about is looked at twice, until it is released.
//!
//! As with a quarantine each execution knows whether it is concerned, so that a call looks at one number.

use super::*;
use crate::model::Caution;

impl Execution {
    /// The caution under which an agent of its chain is; the strictest of several.
    pub fn caution(&self) -> Option<Box<UnderCaution>> {
        if !self.is_cautioned.load(Ordering::Acquire) {
            return None;
        }
        self.caution.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in which agents are under caution.
    pub(super) fn heed(&self, cautioned: &BTreeMap<AgentName, Cautioned>) {
        let of_chain = cautioned.values().filter(|cautioned| self.involves(&cautioned.agent));
        let strictest = of_chain.max_by_key(|cautioned| cautioned.caution).map(|Cautioned { caution, agent, finding, .. }| {
            Box::new(UnderCaution { caution: *caution, agent: agent.clone(), finding: *finding })
        });
        let mut known = self.caution.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_cautioned.store(strictest.is_some(), Ordering::Release);
        *known = strictest;
    }
}

impl Executions {
    /// Puts an agent under caution before the log says so, with effect on the next call. As with [`Self::quarantine`], no release that is
    /// heard of undoes it before [`Self::cautioned_at`] has said where it stands.
    pub fn caution(&self, cautioned: Cautioned) {
        let mut all = self.cautioned.write().unwrap_or_else(PoisonError::into_inner);
        self.said(&cautioned.agent, |said| said.caution.begins_here());
        self.heed(&mut all, cautioned);
    }

    /// Notes where the log says what [`Self::caution`] did.
    pub fn cautioned_at(&self, agent: &AgentName, position: Position) {
        let mut all = self.cautioned.write().unwrap_or_else(PoisonError::into_inner);
        if self.said(agent, |said| said.caution.stands_at(position)) {
            self.heed_no_more(&mut all, agent);
        }
    }

    /// Takes in that the log says at `position` that an agent is under caution.
    pub fn heard_caution(&self, position: Position, cautioned: Cautioned) {
        let mut all = self.cautioned.write().unwrap_or_else(PoisonError::into_inner);
        let is_held = all.contains_key(&cautioned.agent);
        if self.said(&cautioned.agent, |said| said.caution.hears(position, is_held)) {
            self.heed(&mut all, cautioned);
        }
    }

    /// Lifts the caution of an agent by a release that stands at `position`, unless it came under caution after that.
    pub(super) fn lift_caution(&self, position: Position, agent: &AgentName, is_own: bool) {
        let mut all = self.cautioned.write().unwrap_or_else(PoisonError::into_inner);
        if self.said(agent, |said| said.caution.is_released(position, is_own)) {
            self.heed_no_more(&mut all, agent);
        }
    }

    fn heed(&self, all: &mut BTreeMap<AgentName, Cautioned>, cautioned: Cautioned) {
        all.insert(cautioned.agent.clone(), cautioned);
        // Under the lock, so that two who change it do not undo each other's work.
        self.all().iter().for_each(|execution| execution.heed(all));
    }

    fn heed_no_more(&self, all: &mut BTreeMap<AgentName, Cautioned>, agent: &AgentName) {
        if all.remove(agent).is_some() {
            self.all().iter().for_each(|execution| execution.heed(all));
        }
    }

    /// The agents that are under caution, each as the log said it last.
    pub fn cautioned(&self) -> RwLockReadGuard<'_, BTreeMap<AgentName, Cautioned>> {
        self.cautioned.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How an agent is looked upon; nothing where it is not under caution.
    pub fn caution_of(&self, agent: &AgentName) -> Option<Caution> {
        self.cautioned().get(agent).map(|cautioned| cautioned.caution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hold, Released};

    fn cautioned(agent: &str, caution: Caution) -> Cautioned {
        let (at, agent) = (Timestamp::UNIX_EPOCH, agent.parse().unwrap());
        Cautioned { at, agent, caution, since: at, by: "a".into(), reason: String::new(), finding: Some(Digest::of(b"f")) }
    }

    #[test]
    fn a_release_lifts_the_quarantine_the_caution_or_both_and_nothing_newer() {
        let agent: AgentName = "bot".parse().unwrap();
        let released = |only| Released { at: Timestamp::UNIX_EPOCH, agent: agent.clone(), by: "a".into(), reason: String::new(), only };
        let quarantined = || Quarantined {
            at: Timestamp::UNIX_EPOCH,
            agent: agent.clone(),
            since: Timestamp::UNIX_EPOCH,
            by: "a".into(),
            reason: String::new(),
            finding: None,
        };
        for (only, at, held) in [
            (None, 5, (false, false)),
            (Some(Hold::Quarantine), 5, (false, true)),
            (Some(Hold::Caution), 5, (true, false)),
            (None, 2, (false, true)),
            (None, 0, (true, true)),
        ] {
            let executions = Executions::default();
            executions.heard_quarantine(Position(1), quarantined());
            executions.heard_caution(Position(3), cautioned("bot", Caution::Ask));
            executions.heard_release(Position(at), &released(only));
            assert_eq!((executions.quarantined().contains_key(&agent), executions.caution_of(&agent).is_some()), held, "{only:?} at {at}");
        }
        // Said here, and not yet known where: an older release on its way does not undo it, an own one does.
        let executions = Executions::default();
        executions.caution(cautioned("bot", Caution::Suspect));
        executions.heard_release(Position(9), &released(None));
        assert!(executions.caution_of(&agent).is_some());
        executions.cautioned_at(&agent, Position(7));
        assert!(executions.caution_of(&agent).is_none(), "the release that was heard of stands after it");
    }
}
