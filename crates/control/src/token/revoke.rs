//! `/revoke`: an agent gives up a credential, or a whole execution (RFC 7009); and what an operator stops.

use bailiwick_core::model::{
    AgentName, Caution, Cautioned, Digest, ExecutionId, Hold, Quarantined, Released, Revocation, Revoked, Timestamp,
};
use bailiwick_log::{Entry, Position, StorageError};
use serde_json::{Value, json};

use super::answer::Refusal;
use super::{Asked, Identity};

/// After how long the log is told again that an agent is quarantined, in seconds.
const SAID_AGAIN_S: i64 = 12 * 3_600;

/// Who stops something, and why.
#[derive(Clone, Debug)]
pub struct Reason {
    /// Who.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// The finding that it is done for, by its name, where nobody in particular does it.
    pub finding: Option<Digest>,
}

impl Reason {
    /// Somebody, who says why.
    pub fn of(by: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { by: by.into(), reason: reason.into(), finding: None }
    }
}

/// What was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// How many executions went on until then, those counted that descend from others; of a credential, its own.
    pub executions: usize,
    /// The record that says so.
    pub record: Position,
}

impl Identity {
    /// Answers a revocation request. A token that is unknown, expired or another's is answered like one that was revoked
    /// (RFC 7009 §2.2), and a client that people sign in by gives up its own. The parameter `execution` in place of `token` names a whole execution of the caller.
    pub(super) async fn revoke(&self, asked: &Asked) -> Result<Value, Refusal> {
        let Asked { form, now, .. } = asked;
        let snapshot = self.parts.bundle.load();
        let is_a_persons = |id: &str| snapshot.agents.values().flat_map(|agent| &agent.clients).any(|client| client.id == id);
        if form.one("client_id").is_some_and(is_a_persons) {
            if let Some((execution, what)) = self.given_up(&snapshot, asked).await? {
                let by = Reason::of(format!("client {}", form.one("client_id").unwrap_or_default()), "");
                self.revoke_by(Some(execution), what, by).await.map_err(|error| Refusal::unavailable(error.to_string()))?;
            }
            return Ok(json!({}));
        }
        let client = self.client(&snapshot, asked).await?.ok_or_else(|| Refusal::client("the client did not authenticate"))?;
        let name = &client.agent.name;
        let done = json!({});
        let (execution, what) = match (form.one("token"), form.one("execution")) {
            (Some(text), None) => {
                let Ok((token, _)) = self.authenticator.read(text, &self.parts.executions, *now) else { return Ok(done) };
                if token.agent() != name {
                    return Ok(done);
                }
                (token.execution, Revocation::Token(token.id))
            }
            (None, Some(id)) => {
                let execution = id.parse().ok().and_then(|id: ExecutionId| self.parts.executions.find(id));
                let Some(execution) = execution.filter(|execution| execution.started().agent == *name) else { return Ok(done) };
                (execution.id(), Revocation::Execution(execution.id()))
            }
            _ => return Err(Refusal::request("either `token` or `execution` is needed").of(name)),
        };
        let by = Reason::of(format!("agent {name}"), "");
        self.revoke_by(Some(execution), what, by).await.map_err(|error| Refusal::unavailable(error.to_string()).of(name))?;
        Ok(done)
    }

    /// Revokes an execution with all that descends from it, at once for whoever is under way, and for good once this returns.
    pub async fn revoke_execution(&self, execution: ExecutionId, by: Reason) -> Result<Stopped, StorageError> {
        self.revoke_by(Some(execution), Revocation::Execution(execution), by).await
    }

    /// Revokes one credential of an execution in the same way, with what was delegated by it; the execution goes on with another.
    pub async fn revoke_token(&self, execution: ExecutionId, token: String, by: Reason) -> Result<Stopped, StorageError> {
        self.revoke_by(Some(execution), Revocation::Token(token), by).await
    }

    /// Revokes every execution for one person, of one owner's agents, or all of them.
    pub async fn revoke_all(&self, of: Revocation, by: Reason) -> Result<Stopped, StorageError> {
        self.revoke_by(None, of, by).await
    }

    /// Quarantines an agent: from now on nothing is done in any execution that it is part of, what is under way is cut, and it gets no
    /// credentials, until it is released. Survives a restart once this returns.
    pub async fn quarantine(&self, agent: AgentName, by: Reason) -> Result<Stopped, StorageError> {
        let _turn = self.holding.lock().await;
        let at = self.parts.clock.now();
        let since = self.parts.executions.quarantined().get(&agent).map_or(at, |known| known.since);
        let quarantined = Quarantined { at, agent, since, by: by.by, reason: by.reason, finding: by.finding };
        self.parts.executions.quarantine(quarantined.clone());
        let executions = self.parts.executions.all().iter().filter(|execution| execution.involves(&quarantined.agent)).count();
        let agent = quarantined.agent.clone();
        let record = self.durably(quarantined).await?;
        self.parts.executions.quarantined_at(&agent, record);
        Ok(Stopped { executions, record })
    }

    /// Puts an agent under caution, in every execution that it is part of, until it is released; one that is looked upon worse already
    /// stays so. In effect at once, and for good once this returns.
    pub async fn caution(&self, agent: AgentName, caution: Caution, by: Reason) -> Result<Stopped, StorageError> {
        let _turn = self.holding.lock().await;
        let at = self.parts.clock.now();
        let known = self.parts.executions.cautioned().get(&agent).cloned();
        let since = known.as_ref().map_or(at, |known| known.since);
        let caution = known.map_or(caution, |known| known.caution.max(caution));
        let cautioned = Cautioned { at, agent: agent.clone(), caution, since, by: by.by, reason: by.reason, finding: by.finding };
        self.parts.executions.caution(cautioned.clone());
        let executions = self.parts.executions.all().iter().filter(|execution| execution.involves(&agent)).count();
        let record = self.durably(cautioned).await?;
        self.parts.executions.cautioned_at(&agent, record);
        Ok(Stopped { executions, record })
    }

    /// Releases an agent that is quarantined or under caution, once that is on the log; its executions that have not ended go on. Nothing
    /// where nothing holds it.
    pub async fn release(&self, agent: &AgentName, by: Reason) -> Result<Option<Position>, StorageError> {
        self.lift(agent, None, by).await
    }

    /// The same of `only` one of the two.
    pub async fn lift(&self, agent: &AgentName, only: Option<Hold>, by: Reason) -> Result<Option<Position>, StorageError> {
        let _turn = self.holding.lock().await;
        let executions = &self.parts.executions;
        let (is_quarantined, is_cautioned) = (executions.quarantined().contains_key(agent), executions.caution_of(agent).is_some());
        let (is_quarantined, is_cautioned) =
            (is_quarantined && only != Some(Hold::Caution), is_cautioned && only != Some(Hold::Quarantine));
        let only = match (is_quarantined, is_cautioned) {
            (false, false) => return Ok(None),
            (false, true) => Some(Hold::Caution),
            _ => only,
        };
        let released = Released { at: self.parts.clock.now(), agent: agent.clone(), by: by.by, reason: by.reason, only };
        let record = self.durably(released.clone()).await?;
        self.parts.executions.release(record, &released);
        Ok(Some(record))
    }

    /// Says again on the log who is quarantined or under caution, so that it is found by whoever reads back a day of it.
    pub(super) async fn say_holds_again(&self, now: Timestamp) {
        let is_due = |at: Timestamp| now.as_second().saturating_sub(at.as_second()) >= SAID_AGAIN_S;
        let due: Vec<_> = self.parts.executions.cautioned().values().filter(|known| is_due(known.at)).cloned().collect();
        for known in due {
            let _turn = self.holding.lock().await;
            if self.parts.executions.caution_of(&known.agent).is_none() {
                continue; // it was released meanwhile
            }
            let agent = known.agent.clone();
            let again = Cautioned { at: now, ..known };
            match self.durably(again.clone()).await {
                Ok(position) => self.parts.executions.heard_caution(position, again),
                Err(error) => tracing::error!(%error, "the log could not be told again that `{agent}` is under caution"),
            }
        }
        let due: Vec<_> = self.parts.executions.quarantined().values().filter(|known| is_due(known.at)).cloned().collect();
        for known in due {
            let _turn = self.holding.lock().await;
            if !self.parts.executions.quarantined().contains_key(&known.agent) {
                continue; // it was released meanwhile
            }
            let agent = known.agent.clone();
            let again = Quarantined { at: now, ..known };
            match self.durably(again.clone()).await {
                Ok(position) => self.parts.executions.heard_quarantine(position, again),
                Err(error) => tracing::error!(%error, "the log could not be told again that `{agent}` is quarantined"),
            }
        }
    }

    async fn revoke_by(&self, execution: Option<ExecutionId>, what: Revocation, by: Reason) -> Result<Stopped, StorageError> {
        let agent = execution.and_then(|id| self.parts.executions.find(id)).map(|execution| execution.started().agent.clone());
        let revoked = Revoked { at: self.parts.clock.now(), what, execution, agent, by: by.by, reason: by.reason, finding: by.finding };
        // First in effect, then on the log: a log that cannot be written must not keep an agent going.
        let executions = self.parts.executions.revoked(&revoked);
        Ok(Stopped { executions, record: self.durably(revoked).await? })
    }

    async fn durably<T: Entry + Send>(&self, record: T) -> Result<Position, StorageError> {
        let recorded = self.parts.log.append(record).await?;
        let position = recorded.position();
        self.parts.log.durable(recorded).await.map(|_| position)
    }
}
