//! The executions that stand for what an asker asks about: one for each agent, person and session, begun at the first question.

use std::collections::HashMap;
use std::sync::Arc;

use bailiwick_core::execution::Execution;
use bailiwick_core::identity::Grant;
use bailiwick_core::model::{AgentName, Digest, Entropy, ExecutionId, ExecutionStarted, Timestamp};
use serde_json::json;
use tokio::sync::Mutex;

use super::Unanswered;
use super::question::Question;
use crate::Gateway;

/// What the record of such an execution gives as its proof, before what tells it from others.
const PROOF: &str = "asked about, ";

/// The most of them at once.
const EXECUTIONS_MAX: usize = 16_384;

/// The executions, by what their records say that they stand for.
pub(super) struct Standing {
    entropy: Arc<dyn Entropy>,
    by_proof: Mutex<HashMap<String, ExecutionId>>,
}

impl Standing {
    /// Those of `gateway` that stood for something before.
    pub(super) fn new(gateway: &Gateway, entropy: Arc<dyn Entropy>) -> Self {
        let all = gateway.parts().executions.all();
        let of_ours = all.iter().filter(|execution| execution.started().proof.starts_with(PROOF));
        let by_proof = of_ours.map(|execution| (execution.started().proof.clone(), execution.id())).collect();
        Self { entropy, by_proof: Mutex::new(by_proof) }
    }

    /// The execution by whose ledger the question is judged; on the log, and there after a crash, before anything is judged by it.
    pub(super) async fn execution(
        &self,
        gateway: &Gateway,
        asker: &Execution,
        agent: &AgentName,
        question: &Question<'_>,
    ) -> Result<Arc<Execution>, Unanswered> {
        let parts = gateway.parts();
        let (now, own) = (parts.clock.now(), &asker.started().agent);
        let key = json!([own, agent, question.person(), question.session]);
        let proof = format!("{PROOF}by {own} ({})", Digest::of(key.to_string().as_bytes()));
        let mut by_proof = self.by_proof.lock().await;
        let known = by_proof.get(&proof).and_then(|id| parts.executions.find(*id));
        if let Some(execution) = known.filter(|execution| execution.is_stopped() || !execution.is_ended(now)) {
            return Ok(execution); // one that was revoked stays so until its time is over
        }
        by_proof.retain(|_, id| parts.executions.find(*id).is_some());
        if by_proof.len() >= EXECUTIONS_MAX {
            return Err(Unanswered::Failed("too many sessions are asked about at once".to_owned()));
        }
        let snapshot = parts.bundle.load();
        let longest = snapshot.agents.get(agent).map(|agent| agent.credential.execution_max.std()).unwrap_or_default();
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        let execution = ExecutionId::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), random);
        let started = ExecutionStarted {
            at: now,
            bundle: snapshot.digest,
            execution,
            agent: agent.clone(),
            subject: question.person().map(str::to_owned),
            chain: Vec::new(),
            task: question.task.map(str::to_owned),
            grant: Grant::default(),
            key: None,
            // No credential is ever made of it.
            token: format!("none of {execution}"),
            renewal: false,
            expires: now.checked_add(longest).unwrap_or(Timestamp::MAX),
            proof: proof.clone(),
            sign_in: None,
        };
        let recorded = parts.log.append(started).await?;
        let started = parts.log.durable(recorded).await?.into_value();
        by_proof.insert(proof, execution);
        Ok(parts.executions.started(started))
    }
}
