//! `/revoke`: an agent gives up a credential, or a whole execution (RFC 7009).

use bailiwick_core::model::{ExecutionId, Revocation, Revoked, Timestamp};
use bailiwick_log::StorageError;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::{Asked, Identity};

impl Identity {
    /// Answers a revocation request. A token that is unknown, expired or another's is answered like one that was revoked
    /// (RFC 7009 §2.2). The parameter `execution` in place of `token` names a whole execution of the caller.
    pub(super) async fn revoke(&self, asked: &Asked) -> Result<Value, Refusal> {
        let Asked { form, now, .. } = asked;
        let snapshot = self.parts.bundle.load();
        let client = self.client(&snapshot, form, *now).await?.ok_or_else(|| Refusal::client("the client did not authenticate"))?;
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
        let by = format!("agent {name}");
        self.revoked(execution, what, by, *now).await.map_err(|error| Refusal::unavailable(error.to_string()).of(name))?;
        Ok(done)
    }

    /// Revokes an execution, at once for whoever is under way, and for good once this returns.
    pub async fn revoke_execution(&self, execution: ExecutionId, by: String) -> Result<(), StorageError> {
        self.revoked(execution, Revocation::Execution(execution), by, self.parts.clock.now()).await
    }

    /// Revokes one credential of an execution in the same way; the execution goes on with another.
    pub async fn revoke_token(&self, execution: ExecutionId, token: String, by: String) -> Result<(), StorageError> {
        self.revoked(execution, Revocation::Token(token), by, self.parts.clock.now()).await
    }

    async fn revoked(&self, execution: ExecutionId, what: Revocation, by: String, now: Timestamp) -> Result<(), StorageError> {
        let revoked = Revoked { at: now, what, execution, by };
        // First in effect, then on the log: a log that cannot be written must not keep an agent going.
        self.parts.executions.revoked(&revoked);
        let recorded = self.parts.log.append(revoked).await?;
        self.parts.log.durable(recorded).await.map(drop)
    }
}
