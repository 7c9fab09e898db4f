//! A token for somebody who accepts ours, such as a cloud, in exchange for an execution's own credential (RFC 8693).
//!
//! What is done with it elsewhere is neither judged nor seen here. So there is one only for whom the bundle names, for the agent and
//! for each that it acts for; only for an execution whose grant is not narrowed to some tools; and only before it has read what could
//! make it act there for somebody else, or what must not leave.

use std::sync::Arc;

use bailiwick_core::bundle::{Agent, Outbound, Snapshot};
use bailiwick_core::execution::Execution;
use bailiwick_core::identity::AccessToken;
use bailiwick_core::identity::dpop::Proof;
use bailiwick_core::identity::outbound::{OutboundToken, SUB_BYTES_MAX};
use bailiwick_core::ledger::{Integrity, Labels};
use bailiwick_core::model::{SpiffeId, Timestamp, TokenIssued};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::form::Form;
use super::issue::{ACCESS_TOKEN, ID_JAG, ID_TOKEN, JWT};
use super::{Asked, Identity};

impl Identity {
    /// Answers a request for such a token, of the type `kind`: records it, then signs it.
    #[expect(clippy::too_many_arguments, reason = "they are all that was proven of the request, and nothing would be the same two")]
    pub(super) async fn issue_for_others(
        &self,
        snapshot: &Snapshot,
        asked: &Asked,
        agent: &Agent,
        kind: &'static str,
        execution: &Arc<Execution>,
        token: &AccessToken,
        proof: Option<Proof>,
    ) -> Result<Value, Refusal> {
        let Asked { form, now, .. } = asked;
        let key = self.binding(agent, Some(token), asked, proof, false)?.key;
        let to = declared(snapshot, form, agent, execution, kind).map_err(|refusal| refusal.about(execution.id()))?;
        may_have(execution, to).map_err(|refusal| refusal.about(execution.id()))?;
        let name = SpiffeId::new(snapshot.settings.trust_domain.clone(), agent.name.clone());
        if name.to_string().len() > SUB_BYTES_MAX {
            let sentence =
                format!("the agent's SPIFFE id is longer than the {SUB_BYTES_MAX} bytes that clouds take; give it a shorter name");
            return Err(Refusal::new("invalid_target", sentence).about(execution.id()));
        }

        let expires_s = expiry(agent, execution, to, *now);
        if expires_s <= now.as_second() {
            return Err(Refusal::request("the execution has lasted as long as it may; start another").about(execution.id()));
        }
        let mut random = [0; 16];
        self.parts.entropy.fill(&mut random);
        let id = URL_SAFE_NO_PAD.encode(random);
        let started = execution.started();
        let outbound = OutboundToken {
            issuer: self.issuer.url(),
            agent: &name,
            owner: &agent.owner,
            subject: started.subject.as_deref(),
            chain: started.chain.iter().map(|member| member.agent.clone()).collect(),
            execution: Some(execution.id()),
            id: &id,
            issued_s: now.as_second(),
            expires_s,
            key: key.as_deref(),
            to,
        };
        let signer = self.issuer.signer(to.algorithm, *now).ok_or_else(|| Refusal::unavailable("the issuer has no key"))?;
        let signed = outbound.sign(signer.as_ref()).map_err(|error| Refusal::unavailable(error.to_string()))?;

        let issued = TokenIssued {
            at: *now,
            bundle: snapshot.digest,
            execution: Some(execution.id()),
            agent: agent.name.clone(),
            subject: started.subject.clone(),
            audience: to.audience.clone(),
            token: id.clone(),
            by: token.id.clone(),
            expires: Timestamp::from_second(expires_s).unwrap_or(*now),
        };
        let unrecorded = |error: bailiwick_log::StorageError| Refusal::unavailable(error.to_string());
        let recorded = self.parts.log.append(issued).await.map_err(unrecorded)?;
        self.parts.log.durable(recorded).await.map_err(unrecorded)?;
        // While the log was written it may have been revoked, or have read something.
        if execution.is_stopped() {
            let detail = "its execution was revoked";
            return Err(Refusal::hidden("invalid_request", "the subject token was not accepted", detail).about(execution.id()));
        }
        may_have(execution, to).map_err(|refusal| refusal.about(execution.id()))?;
        Ok(json!({
            "access_token": signed,
            "issued_token_type": kind,
            "token_type": "N_A",
            "expires_in": expires_s.saturating_sub(now.as_second()),
        }))
    }
}

/// The type of the token for others that a request asks for; nothing where it asks for an access token of ours.
pub(super) fn requested(form: &Form) -> Result<Option<&'static str>, Refusal> {
    match form.one("requested_token_type") {
        None | Some(ACCESS_TOKEN) => Ok(None),
        Some(JWT) => Ok(Some(JWT)),
        Some(ID_TOKEN) => Ok(Some(ID_TOKEN)),
        Some(ID_JAG) => Ok(Some(ID_JAG)),
        Some(_) => Err(Refusal::request("what can be requested is an access token, or a JWT, an ID token or an ID-JAG for others")),
    }
}

/// What the bundle says of whom the token is to be for: the agent's own declaration, where each agent that it acts for has one too.
fn declared<'a>(snapshot: &Snapshot, form: &Form, agent: &'a Agent, execution: &Execution, kind: &str) -> Result<&'a Outbound, Refusal> {
    let invalid = |sentence: String| Refusal::new("invalid_target", sentence);
    let [audience] = form.all("audience") else {
        return Err(invalid("a token for others is for exactly one `audience`".to_owned()));
    };
    // What is asked for is not repeated: it may be a credential in the wrong place.
    let is_kind = |to: &&Outbound| to.id_jag.is_some() == (kind == ID_JAG);
    let own = agent.outbound.iter().filter(is_kind).find(|to| to.audience == *audience).ok_or_else(|| {
        invalid(format!("`{}` has no tokens for this audience; its operator can declare it under `[[agent.outbound]]`", agent.name))
    })?;
    match (form.all("resource"), &own.id_jag) {
        ([], _) => {}
        ([resource], Some(to)) if *resource == to.resource => {}
        (_, Some(_)) => return Err(invalid("the assertion is for another `resource`; leave it out, or ask the operator".to_owned())),
        (_, None) => return Err(invalid("a token for others is for an `audience` and for no `resource`".to_owned())),
    }
    if own.id_jag.is_some() && execution.started().subject.is_none() {
        return Err(invalid("this execution acts for no person, and an ID-JAG asserts one".to_owned()));
    }
    let lacks = |name| snapshot.agents.get(name).is_none_or(|above| above.outbound.iter().all(|to| to.audience != own.audience));
    match execution.started().chain.iter().map(|member| member.agent.agent()).find(|name| lacks(name)) {
        Some(name) => Err(invalid(format!("this execution acts for `{name}`, which has no tokens for this audience itself"))),
        None => Ok(own),
    }
}

/// Refuses an execution that may do less than its agent, or that something else may speak through by now.
fn may_have(execution: &Execution, to: &Outbound) -> Result<(), Refusal> {
    if !execution.grant().is_unrestricted() {
        let sentence = "this execution may use only what its grant names, and that is nothing elsewhere; start one without `authorization_details` and `effects`";
        return Err(Refusal::new("invalid_target", sentence));
    }
    let Labels { integrity, confidentiality } = execution.ledger().labels().clone();
    if to.after_untrusted || (integrity == Integrity::Trusted && confidentiality.is_empty()) {
        return Ok(());
    }
    let sentence =
        "this execution has read what a third party may have written, or what is confidential; ask before it reads that, or start another";
    Err(Refusal::new("invalid_target", sentence))
}

/// When the token expires: after its own time, and never past the execution's end.
fn expiry(agent: &Agent, execution: &Execution, to: &Outbound, now: Timestamp) -> i64 {
    let seconds = |duration: bailiwick_core::model::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let end_s = execution.started().at.as_second().saturating_add(seconds(agent.credential.execution_max));
    now.as_second().saturating_add(seconds(to.ttl)).min(end_s)
}
