//! The chain: an execution that was delegated, those above it that it acts for, and those below it.
//!
//! What a call counts, and what the agent is shown by it, counts for all that are above: delegating neither refills a budget nor
//! washes a label away. So a tree of executions takes its turns together.

use super::*;

impl Execution {
    /// The execution that delegated to it, if any.
    pub const fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// The executions that it acts for, nearest first.
    pub fn above(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.parent.as_deref(), |execution| execution.parent.as_deref())
    }

    /// Whether it was delegated, or has delegated: then what counts for it happens in other executions too.
    pub fn has_kin(&self) -> bool {
        self.parent.is_some() || !self.lock_children().is_empty()
    }

    /// How many executions that it delegated to are known.
    pub fn children_len(&self) -> usize {
        self.children().len()
    }

    /// The labels of all that it has been shown, and those that it acts for.
    pub fn labels(&self) -> Labels {
        let mut labels = self.ledger().labels().clone();
        self.above().for_each(|above| labels.join(above.ledger().labels()));
        labels
    }

    /// Folds in a decision that is on the log at `position`, here and in all above it. Says whether it was new: what was folded in
    /// before changes nothing.
    pub fn took(&self, position: Position, intent: &Intent, histories: &[History]) -> bool {
        let new = self.ledger().took(position, intent, histories);
        if new && intent.decision.verdict == Verdict::Allow {
            for share in &intent.facts.above {
                if let Some(above) = self.above().find(|above| above.id() == share.execution) {
                    above.ledger().took_below(share, histories, intent.at);
                }
            }
        }
        new
    }

    /// Folds in a decision that another gateway appended, as [`Self::took`] does. That gateway may be showing the execution what the
    /// tool returns at this very moment, so it counts as shown.
    pub fn heard(&self, position: Position, intent: &Intent, histories: &[History]) -> bool {
        let new = self.took(position, intent, histories);
        if new && intent.decision.verdict == Verdict::Allow {
            self.learned(&intent.returns);
        }
        new
    }

    /// Learns that the execution is about to be shown data with these labels. Whoever it acts for may hear of it at any time, by ways
    /// that nobody sees, so that they learn it too.
    pub fn learned(&self, labels: &Labels) {
        self.ledger().learned(labels);
        self.above().for_each(|above| above.ledger().learned(labels));
    }

    /// Folds in an outcome that is on the log: what it returned was learned, and its place is taken.
    pub fn ended(&self, sequence: u64, labels: &Labels) {
        self.ledger().ended(sequence, labels);
        self.above().for_each(|above| above.ledger().learned(labels));
    }

    /// Folds an allowed call into what is kept for its agent and for those that it acts for, for each of them once.
    pub fn took_for_agents(&self, intent: &Intent, histories: &[History]) {
        let mut counted: Vec<&Arc<AgentTracks>> = Vec::new();
        let above = self.above().zip(&intent.facts.above).map(|(above, share)| (&above.agent, &share.history));
        for (agent, charges) in std::iter::once((&self.agent, &intent.facts.history)).chain(above) {
            if !counted.iter().any(|other| Arc::ptr_eq(other, agent)) {
                counted.push(agent);
                let mut tracks = agent.tracks.lock().unwrap_or_else(PoisonError::into_inner);
                tracks.fold(histories, HistoryOf::Agent, charges, intent.at);
            }
        }
    }

    /// Spends the delegation, or the code, that the execution began with. Says whether it could still be spent, which it can once.
    pub fn redeem(&self, begun: &str) -> bool {
        let id = TokenId::of(begun);
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        match tokens.iter_mut().find(|token| token.id == id && !token.revoked) {
            Some(token) if self.started.token == begun && (self.parent.is_some() || self.started.sign_in.is_some()) => {
                token.revoked = true;
                true
            }
            _ => false,
        }
    }

    /// The first of the chain: it was not delegated.
    pub(super) fn root(&self) -> &Self {
        self.above().last().unwrap_or(self)
    }

    /// What is kept for its agent and for those that it acts for, each once and in one order for everybody, so that who waits for
    /// several of them cannot wait for each other.
    pub(super) fn agents(&self) -> Vec<&Arc<AgentTracks>> {
        let mut named: Vec<_> = std::iter::once(self).chain(self.above()).map(|one| (&one.started.agent, &one.agent)).collect();
        named.sort_unstable_by_key(|(name, _)| *name);
        named.dedup_by_key(|(name, _)| *name);
        named.into_iter().map(|(_, agent)| agent).collect()
    }

    /// Takes in an execution that it delegated to, which is stopped if it is itself.
    pub(super) fn adopt(&self, child: &Arc<Self>) {
        {
            let mut children = self.lock_children();
            if children.len() == children.capacity() {
                children.retain(|child| child.strong_count() > 0);
            }
            children.push(Arc::downgrade(child));
        }
        if let Some(by) = child.started.chain.first() {
            self.ledger().delegated(by.sequence);
        }
        // Whoever revokes this one says so first and looks at its children then, so that one of the two sees the other.
        if self.is_revoked() {
            child.stop();
        }
    }

    pub(super) fn children(&self) -> Vec<Arc<Self>> {
        self.lock_children().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock_children(&self) -> MutexGuard<'_, Vec<Weak<Self>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
