//! Delegation: an agent has another one act for it (RFC 8693, in two steps).
//!
//! An agent exchanges its own credential, with proof of its key, for a *delegation* to one other agent, and hands that over. The
//! other one exchanges it, as itself and with its own key, for a credential of the execution that was delegated. So whoever takes an
//! agent's credential or its delegation away has nothing: a credential is exchanged by the agent that it was issued to, a delegation
//! by the agent that it names, once, and both prove who they are.

use std::sync::Arc;

use bailiwick_core::bundle::{Agent, Snapshot};
use bailiwick_core::delegation::{Delegation, NotDelegated};
use bailiwick_core::execution::Execution;
use bailiwick_core::identity::dpop::Proof;
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::identity::{AccessToken, Algorithm, DelegationToken, Grant};
use bailiwick_core::model::{AgentName, ExecutionId, SpiffeId, Timestamp};
use bailiwick_log::StorageError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::form::Form;
use super::issue::{self, EXECUTIONS_MAX, JWT, Purpose, Spends};
use super::{Asked, Identity};

/// What was delegated.
#[derive(Clone, Debug)]
pub struct Delegated {
    /// The execution of the agent that acts now: it is on the log, with the whole chain.
    pub execution: Arc<Execution>,
    /// What that agent redeems at the token endpoint, as itself, within a minute and once, for a credential of the execution.
    pub token: String,
}

/// Why nothing was delegated.
#[derive(Debug, thiserror::Error)]
pub enum DelegateError {
    /// It may not be.
    #[error(transparent)]
    NotDelegated(#[from] NotDelegated),
    /// There are too many executions, or the issuer has no key.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The log could not be written.
    #[error(transparent)]
    NotRecorded(#[from] StorageError),
}

impl Identity {
    /// Has `to` act for the execution `parent`, with at most what `wanted` leaves of that one's grant, at most at `audiences`. Who
    /// calls this has authenticated the execution; `token` is the `jti` of the credential that showed it, where one did.
    ///
    /// On return the start of the new execution, with the chain, would survive a crash.
    pub async fn delegate(
        &self,
        parent: &Arc<Execution>,
        token: Option<&str>,
        to: &AgentName,
        wanted: &Grant,
        audiences: Vec<String>,
    ) -> Result<Delegated, DelegateError> {
        let (snapshot, now) = (self.parts.bundle.load(), self.parts.clock.now());
        if self.parts.executions.len() >= EXECUTIONS_MAX {
            return Err(DelegateError::Unavailable("there are too many executions under way"));
        }
        let mut random = [0; 26];
        self.parts.entropy.fill(&mut random);
        let (for_execution, for_token) = random.split_first_chunk::<10>().ok_or(DelegateError::Unavailable("no randomness"))?;
        let execution = ExecutionId::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), *for_execution);
        let id = URL_SAFE_NO_PAD.encode(for_token);
        // It takes a place among the delegating execution's records, so it waits for that one's turn.
        let _turn = parent.turn().await;
        let started = Delegation { parent, token, to, wanted }.start(&snapshot, execution, id.clone(), now)?;

        let delegation = DelegationToken {
            issuer: self.issuer.url().to_owned(),
            to: SpiffeId::new(snapshot.settings.trust_domain.clone(), to.clone()),
            chain: started.chain.iter().map(|member| member.agent.clone()).collect(),
            subject: started.subject.clone(),
            audiences,
            execution,
            id,
            issued_s: now.as_second(),
            expires_s: started.expires.as_second(),
        };
        let signer = self.issuer.signer(Algorithm::Es256, now).ok_or(DelegateError::Unavailable("the issuer has no key"))?;
        let token = delegation.sign(signer.as_ref()).map_err(|_| DelegateError::Unavailable("the issuer's key does not sign"))?;

        let recorded = match self.parts.log.append(started).await {
            Err(StorageError::Stale { .. }) => {
                return Err(DelegateError::Unavailable("another gateway went on with the execution meanwhile; try again"));
            }
            recorded => recorded?,
        };
        let started = self.parts.log.durable(recorded).await?.into_value();
        let execution = self.parts.executions.started(started);
        // It may have been revoked while the log was written.
        if execution.is_stopped() {
            return Err(NotDelegated::Ended.into());
        }
        Ok(Delegated { execution, token })
    }

    /// Answers the first step: the agent shows its own credential, proves that it has the key, and names another agent.
    #[expect(clippy::too_many_arguments, reason = "they are all that was proven of the request, and nothing would be the same two")]
    pub(super) async fn delegate_for(
        &self,
        snapshot: &Snapshot,
        asked: &Asked,
        agent: &Agent,
        to: &AgentName,
        execution: &Arc<Execution>,
        token: &AccessToken,
        proof: Option<Proof>,
    ) -> Result<Value, Refusal> {
        let Asked { form, now, .. } = asked;
        self.binding(agent, Some(token), asked, proof, false)?;
        // Whether the other agent exists is told to those only that may delegate to it.
        let refused = |detail: String| {
            Refusal::hidden("invalid_target", "this execution cannot be delegated to that agent", detail).about(execution.id())
        };
        let other = snapshot.agents.get(to).filter(|_| agent.delegate_to.contains(to));
        let other = other.ok_or_else(|| refused(format!("`{}` is not declared to delegate to `{to}`", agent.name)))?;
        let audiences = issue::audiences(snapshot, form, Some(&token.audiences))?;
        let wanted = issue::grant(snapshot, other, form, &Grant::default(), &audiences)?;
        let delegated = self.delegate(execution, Some(&token.id), to, &wanted, audiences).await.map_err(|error| match error {
            DelegateError::NotDelegated(NotDelegated::Grant(error)) => Refusal::new("invalid_authorization_details", error.to_string()),
            DelegateError::NotDelegated(error) => refused(error.to_string()),
            DelegateError::Unavailable(why) => Refusal::unavailable(why),
            DelegateError::NotRecorded(error) => Refusal::unavailable(error.to_string()),
        })?;
        let expires_s = delegated.execution.expires().as_second();
        Ok(json!({
            "access_token": delegated.token,
            "issued_token_type": JWT,
            "token_type": "N_A",
            "expires_in": expires_s.saturating_sub(now.as_second()),
            "execution": delegated.execution.id(),
        }))
    }

    /// Whether a token says that it is ours; nothing of it is believed for that.
    pub(super) fn is_ours(&self, token: &str) -> bool {
        Jws::parse(token).is_ok_and(|jws| jws.issuer() == Some(self.issuer.url()))
    }

    /// Reads the second step: what `actor` was delegated. The execution goes on as that agent's own.
    pub(super) fn redeemed(&self, token: &str, actor: &Agent, now: Timestamp) -> Result<Purpose, String> {
        let (delegation, execution) =
            self.authenticator.read_delegation(token, &self.parts.executions, now).map_err(|error| error.detail())?;
        if *delegation.to.agent() != actor.name || execution.started().agent != actor.name {
            return Err("the delegation is for another agent".to_owned());
        }
        let subject = execution.started().subject.clone();
        let credential = AccessToken {
            issuer: delegation.issuer,
            agent: delegation.to,
            chain: delegation.chain,
            subject: subject.clone(),
            audiences: delegation.audiences,
            execution: delegation.execution,
            id: delegation.id.clone(),
            issued_s: delegation.issued_s,
            expires_s: delegation.expires_s,
            certificate: None,
            key: None,
            grant: Grant::default(),
        };
        Ok(Purpose {
            subject,
            renewed: Some((execution, credential)),
            spends: Some(Spends::Delegation(delegation.id)),
            ..Purpose::default()
        })
    }
}

/// The agents that the request names as its audience: those that the credential is to be delegated to.
pub(super) fn named_agents(form: &Form) -> Vec<SpiffeId> {
    form.all("audience").iter().filter_map(|name| name.parse().ok()).collect()
}
