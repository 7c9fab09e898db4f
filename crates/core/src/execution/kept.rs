//! What is kept of executions between starts: all that the log says of them, and nothing of what only a running gateway knows.

use serde::{Deserialize, Serialize};

use super::*;

/// An execution as it is kept between starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptExecution {
    started: ExecutionStarted,
    /// What its newest renewal left of its grant.
    grant: Grant,
    /// When its newest credential expires, in microseconds since the epoch.
    expires_us: i64,
    tokens: Vec<Token>,
    stopped: bool,
    /// How a person's client goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    goes_on: Option<Box<GoesOn>>,
    ledger: Ledger,
}

impl Executions {
    /// Every execution, each after the one that delegated to it.
    pub(crate) fn kept(&self) -> impl Iterator<Item = KeptExecution> {
        let mut all = self.all();
        all.sort_unstable_by_key(|execution| (execution.started.chain.len(), execution.id()));
        all.into_iter().map(|execution| KeptExecution {
            started: execution.started.clone(),
            grant: Grant::clone(&execution.grant()),
            expires_us: execution.expires_us.load(Ordering::Acquire),
            tokens: execution.tokens().clone(),
            stopped: execution.is_revoked(),
            goes_on: execution.kept_goes_on(),
            ledger: execution.ledger().clone(),
        })
    }

    /// The ids of those that were revoked and are not there whole, in order, each with the second after which nothing of it is
    /// valid.
    pub(crate) fn kept_revoked(&self) -> Vec<(ExecutionId, u32)> {
        let ids = |shard: &RwLock<Shard>| shard.read().unwrap_or_else(PoisonError::into_inner).revoked.iter().collect::<Vec<_>>();
        let mut all: Vec<_> = self.shards.iter().flat_map(ids).collect();
        all.sort_unstable();
        all
    }

    /// The series of every agent of whom something was counted, in the order of their names.
    pub(crate) fn kept_tracks(&self) -> Vec<(AgentName, Tracks)> {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let tracks = |agent: &AgentTracks| agent.tracks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<_> = agents.iter().map(|(name, agent)| (name.clone(), tracks(agent))).collect();
        all.retain(|(_, tracks)| !tracks.is_empty());
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// What was written to each server under untrusted influence, in the order of the servers' names.
    pub(crate) fn kept_written(&self) -> Vec<(ServerName, Written)> {
        let mut all: Vec<_> = self.written().iter().map(|(server, written)| (server.clone(), Written::clone(written))).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// The agents that are quarantined, in the order of their names.
    pub(crate) fn kept_quarantined(&self) -> Vec<Quarantined> {
        self.quarantined().values().cloned().collect()
    }

    /// The agents that are under caution, in the order of their names.
    pub(crate) fn kept_cautioned(&self) -> Vec<Cautioned> {
        self.cautioned().values().cloned().collect()
    }

    /// Since when the tokens of each person, and first of all people, were issued that may still be acted on.
    pub(crate) fn kept_barred(&self) -> Vec<(Option<String>, Timestamp)> {
        let barred = self.barred.read().unwrap_or_else(PoisonError::into_inner);
        let of = barred.of.iter().map(|(subject, at)| (Some(subject.clone()), *at));
        barred.all.map(|at| (None, at)).into_iter().chain(of).collect()
    }

    /// Puts back since when tokens of people may be acted on.
    pub(crate) fn restore_barred(&self, subject: Option<&str>, at: Timestamp) {
        self.bar(subject, at);
    }

    /// Puts back what was written to a server.
    pub(crate) fn restore_written(&self, server: ServerName, written: Written) {
        self.written.write().unwrap_or_else(PoisonError::into_inner).insert(server, Arc::new(written));
    }

    /// Puts back an execution that was kept.
    pub(crate) fn restore(&self, kept: KeptExecution) {
        let execution = self.started(kept.started);
        execution.grant.store(Arc::new(kept.grant));
        execution.expires_us.store(kept.expires_us, Ordering::Release);
        execution.known_until_us.store(kept.expires_us, Ordering::Release);
        execution.restore_goes_on(kept.goes_on);
        *execution.tokens.write().unwrap_or_else(PoisonError::into_inner) = kept.tokens;
        *execution.ledger() = kept.ledger;
        let answered: Vec<Position> = execution.ledger().asks().iter().filter(|ask| ask.answer.is_some()).map(|ask| ask.id).collect();
        answered.into_iter().for_each(|ask| execution.endorse(ask));
        if kept.stopped {
            execution.stop();
        }
    }

    /// Puts back the id of an execution that was revoked.
    pub(crate) fn restore_revoked(&self, ids: Vec<(ExecutionId, u32)>) {
        let mut of_shards: HashMap<usize, Vec<(ExecutionId, i64)>> = HashMap::new();
        for (id, expires_s) in ids {
            let expires_us = i64::from(expires_s).saturating_mul(1_000_000);
            of_shards.entry(self.shard_of(id)).or_default().push((id, expires_us));
        }
        for ids in of_shards.into_values() {
            let Some((first, _)) = ids.first() else { continue };
            self.shard(*first).write().unwrap_or_else(PoisonError::into_inner).revoked.extend(ids);
        }
    }

    /// Puts back the series of an agent.
    pub(crate) fn restore_tracks(&self, agent: &AgentName, tracks: Tracks) {
        *self.agent(agent).tracks.lock().unwrap_or_else(PoisonError::into_inner) = tracks;
    }
}
