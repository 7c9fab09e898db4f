//! `/token`: from who asks and what is asked for to the credential of one execution.

use std::collections::BTreeSet;
use std::sync::Arc;

use bailiwick_core::bundle::{Agent, Proof as Binding, Snapshot, ToolPattern};
use bailiwick_core::execution::{Execution, TOKENS_MAX};
use bailiwick_core::identity::dpop::Proof;
use bailiwick_core::identity::{AccessToken, Algorithm, Grant};
use bailiwick_core::json;
use bailiwick_core::model::{AgentName, Digest, Effect, ExecutionId, ExecutionStarted, SignIn, SpiffeId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::client::Proven;
use super::delegate::named_agents;
use super::form::Form;
use super::id_jag::{self, Asserted};
use super::sign_in::Refreshed;
use super::{
    AUTHORIZATION_CODE, AWS_REQUEST, Asked, CLIENT_CREDENTIALS, Identity, JWT_BEARER, JWT_DPOP, REFRESH_TOKEN, TOKEN_EXCHANGE, outbound,
    scope,
};
use crate::svid::Shown;

pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub(super) const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
pub(super) const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The longest that any credential lives, in seconds.
const TTL_S_MAX: i64 = 900;

/// The longest task, in bytes as JSON; it is in every record of a start, and an entry of the log is bounded.
const TASK_BYTES_MAX: usize = 16 << 10;

/// The longest `authorization_details`, in bytes, for the same reason.
const DETAILS: json::Limits = json::Limits { bytes_max: 16 << 10, depth_max: 16 };

/// The most executions at once; each costs memory until its last credential has expired.
pub(super) const EXECUTIONS_MAX: usize = 100_000;

/// What an execution is started or renewed for.
#[derive(Default)]
pub(super) struct Purpose {
    pub(super) subject: Option<String>,
    /// The execution to go on with, and the credential that it is renewed by.
    pub(super) renewed: Option<(Arc<Execution>, AccessToken)>,
    /// What is spent by it.
    pub(super) spends: Option<Spends>,
    /// The agent that is to act for the execution: what is asked for is a delegation, and no credential.
    pub(super) delegate_to: Option<AgentName>,
    /// What is asked for is a token for somebody else, of this type, and no credential.
    pub(super) outbound: Option<&'static str>,
    /// What another domain asserted, which bounds what there is.
    pub(super) asserted: Option<Asserted>,
}

/// What is good for one credential.
pub(super) enum Spends {
    /// The delegation that the execution began with.
    Delegation(String),
    /// The code that it began with, by the digest of its secret.
    Code(String),
    /// The refresh token that came with the last credential: the part that all of the execution share, and the digest of its own.
    Refresh { family: [u8; 16], present: Digest },
}

impl Identity {
    /// Answers a token request.
    pub(super) async fn issue(&self, asked: &Asked) -> Result<Value, Refusal> {
        let Asked { form, headers, now, .. } = asked;
        let snapshot = self.parts.bundle.load();
        // The proof comes first: a client that only lacks a nonce has then not used up its assertion.
        let proof = self.proof(headers, "/token", *now)?;
        let (proven, purpose) = match form.one("grant_type") {
            Some(AUTHORIZATION_CODE) => self.redeemed_code(&snapshot, asked).await?,
            Some(REFRESH_TOKEN) => self.refreshed(&snapshot, asked).await?,
            _ => {
                let proven = self.client(&snapshot, asked).await?;
                self.purpose(&snapshot, form, proven, *now).await?
            }
        };
        let agent = proven.agent;
        self.is_free(agent, &purpose).map_err(|refusal| refusal.of(&agent.name))?;
        if let Purpose { delegate_to: Some(to), renewed: Some((execution, token)), .. } = &purpose {
            let delegated = self.delegate_for(&snapshot, asked, agent, to, execution, token, proof);
            return delegated.await.map_err(|refusal| refusal.of(&agent.name));
        }
        if let Purpose { outbound: Some(kind), renewed: Some((execution, token)), .. } = &purpose {
            let issued = self.issue_for_others(&snapshot, asked, agent, kind, execution, token, proof);
            return issued.await.map_err(|refusal| refusal.of(&agent.name));
        }
        self.issue_to(&snapshot, asked, &proven, purpose, proof).await.map_err(|refusal| refusal.of(&agent.name))
    }

    /// Refuses an agent that is quarantined, or that acts for one which is.
    fn is_free(&self, agent: &Agent, purpose: &Purpose) -> Result<(), Refusal> {
        let quarantined = self.parts.executions.quarantined();
        let within = |(execution, _): &(Arc<Execution>, AccessToken)| quarantined.keys().any(|agent| execution.involves(agent));
        if quarantined.contains_key(&agent.name) || purpose.renewed.as_ref().is_some_and(within) {
            let sentence = "this agent, or one that it acts for, is quarantined; start again once its operator has released it";
            return Err(Refusal::new("unauthorized_client", sentence));
        }
        Ok(())
    }

    /// Who acts, and what for, by the grant that is asked for.
    async fn purpose<'a>(
        &self,
        snapshot: &'a Snapshot,
        form: &Form,
        client: Option<Proven<'a>>,
        now: Timestamp,
    ) -> Result<(Proven<'a>, Purpose), Refusal> {
        let nobody = || Refusal::client("the client did not authenticate");
        match form.one("grant_type") {
            None => Err(Refusal::request("`grant_type` is missing")),
            Some(CLIENT_CREDENTIALS) => Ok((client.ok_or_else(nobody)?, Purpose::default())),
            Some(JWT_BEARER | JWT_DPOP) => {
                let assertion = form.one("assertion").ok_or_else(|| Refusal::request("`assertion` is missing"))?;
                let refused = |detail| Refusal::hidden("invalid_grant", "the assertion was not accepted", detail);
                // Who has authenticated brings the word of a person; who has not brings that of the agent's own platform.
                match client {
                    Some(client) if id_jag::is_one(assertion) => {
                        let asserted = self.asserted(snapshot, client.agent, assertion, now).await;
                        let (subject, asserted) = asserted.map_err(|detail| refused(detail).of(&client.agent.name))?;
                        Ok((client, Purpose { subject: Some(subject), asserted: Some(asserted), ..Purpose::default() }))
                    }
                    Some(client) => {
                        let subject = self.person(snapshot, client.agent, assertion, now).await;
                        let subject = subject.map_err(|detail| refused(detail).of(&client.agent.name))?;
                        Ok((client, Purpose { subject: Some(subject), ..Purpose::default() }))
                    }
                    None => {
                        let proven = self.workload(snapshot, form, assertion, now).await.map_err(refused)?;
                        Ok((proven, Purpose::default()))
                    }
                }
            }
            Some(TOKEN_EXCHANGE) => {
                let actor = match (client, form.one("actor_token")) {
                    (Some(client), None) => client,
                    (client, Some(token)) => {
                        let refused = |detail| Refusal::hidden("invalid_request", "the actor token was not accepted", detail);
                        let actor = match form.one("actor_token_type") {
                            Some(JWT | ID_TOKEN) => self.workload(snapshot, form, token, now).await,
                            Some(AWS_REQUEST) => self.signer(snapshot, form, token, now).await,
                            _ => return Err(Refusal::request("`actor_token_type` must be that of a JWT or of a signed AWS request")),
                        };
                        let actor = actor.map_err(refused)?;
                        if client.is_some_and(|client| client.agent.name != actor.agent.name) {
                            return Err(refused("the actor is another agent than the client".to_owned()).of(&actor.agent.name));
                        }
                        actor
                    }
                    (None, None) => return Err(nobody()),
                };
                let purpose = self.exchanged(snapshot, form, actor.agent, now).await;
                let purpose = purpose.map_err(|refusal| refusal.of(&actor.agent.name))?;
                Ok((actor, purpose))
            }
            Some(_) => Err(Refusal::new("unsupported_grant_type", "the `grant_type` is not supported")),
        }
    }

    /// What a subject token is exchanged for (RFC 8693 §2.1): our own, to go on, or to have another agent act; what another agent
    /// delegated, to act for that one; a person's, to act for that person.
    async fn exchanged(&self, snapshot: &Snapshot, form: &Form, actor: &Agent, now: Timestamp) -> Result<Purpose, Refusal> {
        let outbound = outbound::requested(form)?;
        let token = form.one("subject_token").ok_or_else(|| Refusal::request("`subject_token` is missing"))?;
        let refused = |detail: String| Refusal::hidden("invalid_request", "the subject token was not accepted", detail);
        match form.one("subject_token_type") {
            Some(ACCESS_TOKEN) => {
                let read = self.authenticator.read(token, &self.parts.executions, now);
                let (token, execution) = read.map_err(|error| refused(error.detail()))?;
                if *token.agent() != actor.name || execution.started().agent != actor.name {
                    return Err(refused("the subject token is another agent's".to_owned()));
                }
                let subject = execution.started().subject.clone();
                let delegate_to = match named_agents(form).as_slice() {
                    [] => None,
                    [to] if *to.domain() == snapshot.settings.trust_domain => Some(to.agent().clone()),
                    _ => return Err(Refusal::new("invalid_target", "a delegation is for one agent of this trust domain")),
                };
                let outbound = outbound.filter(|_| delegate_to.is_none());
                Ok(Purpose { subject, renewed: Some((execution, token)), delegate_to, outbound, ..Purpose::default() })
            }
            // Only an execution that is on the log already has tokens for others.
            Some(JWT | ID_TOKEN) if outbound.is_some() => {
                Err(Refusal::request("a token for others is exchanged for the execution's own access token; get that first"))
            }
            Some(JWT) if self.is_ours(token) => self.redeemed(token, actor, now).map_err(refused),
            Some(JWT | ID_TOKEN) => {
                let subject = self.person(snapshot, actor, token, now).await.map_err(refused)?;
                Ok(Purpose { subject: Some(subject), ..Purpose::default() })
            }
            _ => Err(Refusal::request("`subject_token_type` must be that of an access token, a JWT or an ID token")),
        }
    }

    /// Decides what the credential says, puts the execution on the log, and signs.
    async fn issue_to(
        &self,
        snapshot: &Snapshot,
        asked: &Asked,
        proven: &Proven<'_>,
        purpose: Purpose,
        proof: Option<Proof>,
    ) -> Result<Value, Refusal> {
        let Asked { form, now, .. } = asked;
        let (agent, now) = (proven.agent, *now);
        let renewed = purpose.renewed.as_ref();
        // An SVID lives less long than an execution may, so the one that an agent has now takes the place of the one before.
        let by_svid = proven.by.starts_with("x509-svid ");
        let bound = self.binding(agent, renewed.map(|(_, token)| token), asked, proof, by_svid)?;
        let key = bound.key;
        let asserted = purpose.asserted.as_ref();
        if let Some(asserted) = asserted.filter(|asserted| asserted.key.is_some() && asserted.key != key) {
            let detail = format!("the ID-JAG of `{}` is bound to another key than that of the proof", asserted.issuer);
            return Err(Refusal::hidden("invalid_grant", "the assertion was not accepted", detail));
        }
        let reach = renewed.map(|(_, token)| token.audiences.as_slice()).or(asserted.and_then(Asserted::reach));
        let audiences = audiences(snapshot, form, reach)?;
        let present = match (renewed, asserted) {
            (Some((execution, _)), _) => execution.grant(),
            (None, asserted) => Arc::new(asserted.map(|asserted| asserted.grant.clone()).unwrap_or_default()),
        };
        let grant = grant(snapshot, agent, form, &present, &audiences)?;
        let task = task(form, renewed.map(|(execution, _)| execution.as_ref()))?;
        let expires_s = expiry(agent, renewed.map(|(execution, _)| execution.as_ref()), now)?;
        if renewed.is_none() && self.parts.executions.len() >= EXECUTIONS_MAX {
            return Err(Refusal::unavailable("there are too many executions under way"));
        }

        let mut random = [0; 26];
        self.parts.entropy.fill(&mut random);
        let (for_execution, for_token) = random.split_first_chunk::<10>().ok_or_else(|| Refusal::unavailable("no randomness"))?;
        let execution = match renewed {
            Some((execution, _)) => execution.id(),
            None => ExecutionId::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), *for_execution),
        };
        let token = AccessToken {
            issuer: self.issuer.url().to_owned(),
            agent: SpiffeId::new(snapshot.settings.trust_domain.clone(), agent.name.clone()),
            chain: renewed.map(|(execution, _)| chain(execution)).unwrap_or_default(),
            subject: purpose.subject.clone(),
            audiences,
            execution,
            id: URL_SAFE_NO_PAD.encode(for_token),
            issued_s: now.as_second(),
            expires_s,
            key: key.clone(),
            certificate: bound.certificate.clone(),
            grant: grant.clone(),
        };
        // Nothing can be wrong with the request from here on, so that no delegation is spent in vain.
        let refreshed = match (&purpose.spends, renewed) {
            (Some(spends), Some((execution, _))) => {
                self.spend(execution, spends).await?;
                self.next_refresh(agent, execution, spends)
            }
            _ => None,
        };
        let signer = self.issuer.signer(Algorithm::Es256, now).ok_or_else(|| Refusal::unavailable("the issuer has no key"))?;
        let access_token = token.sign(signer.as_ref()).map_err(|error| Refusal::unavailable(error.to_string()))?;

        let started = ExecutionStarted {
            at: now,
            bundle: snapshot.digest,
            execution,
            agent: agent.name.clone(),
            subject: purpose.subject,
            chain: renewed.map(|(execution, _)| execution.started().chain.clone()).unwrap_or_default(),
            task,
            grant,
            key: key.clone().or_else(|| bound.certificate.map(|digest| format!("{BY_CERTIFICATE}{digest}"))),
            token: token.id.clone(),
            renewal: renewed.is_some(),
            expires: Timestamp::from_second(expires_s).unwrap_or(now),
            proof: proven.by.clone(),
            sign_in: refreshed.as_ref().map(|refreshed| Box::new(SignIn::Refresh(refreshed.refresh.clone()))),
        };
        let unrecorded = |error: bailiwick_log::StorageError| Refusal::unavailable(error.to_string());
        let recorded = self.parts.log.append(started).await.map_err(unrecorded)?;
        let started = self.parts.log.durable(recorded).await.map_err(unrecorded)?.into_value();
        if self.parts.executions.started(started).is_stopped() {
            return Err(
                Refusal::hidden("invalid_request", "the subject token was not accepted", "its execution was revoked").about(execution)
            );
        }

        let mut body = json!({
            "access_token": access_token,
            "token_type": if key.is_some() { "DPoP" } else { "Bearer" },
            "expires_in": expires_s.saturating_sub(now.as_second()),
            "execution": execution,
        });
        if let Some(members) = body.as_object_mut() {
            if form.one("grant_type") == Some(TOKEN_EXCHANGE) {
                members.insert("issued_token_type".to_owned(), json!(ACCESS_TOKEN));
            }
            if !token.grant.is_unrestricted() {
                members.insert("authorization_details".to_owned(), json!(token.grant));
            }
            if let Some(Refreshed { text, .. }) = refreshed {
                members.insert("refresh_token".to_owned(), json!(text));
                members.insert("scope".to_owned(), json!(scope::granted(agent, snapshot, &token.grant)));
            }
        }
        Ok(body)
    }

    /// Spends what is good for one credential.
    async fn spend(&self, execution: &Arc<Execution>, spends: &Spends) -> Result<(), Refusal> {
        match spends {
            Spends::Delegation(delegation) if !execution.redeem(delegation) => {
                let detail = "the delegation was redeemed meanwhile";
                Err(Refusal::hidden("invalid_request", "the subject token was not accepted", detail).about(execution.id()))
            }
            Spends::Code(code) if !execution.redeem(code) => Err(self.came_again(execution, "the code").await),
            Spends::Refresh { present, .. } if !execution.spend_refresh(present) => {
                Err(self.came_again(execution, "the refresh token").await)
            }
            _ => Ok(()),
        }
    }

    /// What the credential is bound to; a renewed one stays with its own key, and with its own certificate unless `may_change` it.
    pub(super) fn binding(
        &self,
        agent: &Agent,
        renewed: Option<&AccessToken>,
        asked: &Asked,
        proof: Option<Proof>,
        may_change: bool,
    ) -> Result<Bound, Refusal> {
        let failed = |detail: &str| Refusal::hidden("invalid_dpop_proof", "the DPoP proof was not accepted", detail);
        if agent.credential.proof == Binding::Mtls {
            return certificate(renewed, asked, proof.is_some(), may_change);
        }
        if renewed.is_some_and(|token| token.certificate.is_some()) {
            return Err(Refusal::request(
                "what is exchanged is bound to a certificate, and this agent's credentials are no more; start again",
            ));
        }
        let Some(proof) = proof else {
            if agent.credential.proof == Binding::Dpop || renewed.is_some_and(|token| token.key.is_some()) {
                return Err(Refusal::new("invalid_dpop_proof", "a DPoP proof is needed, and there is none"));
            }
            return Ok(Bound::default());
        };
        if renewed.is_some_and(|token| token.key.as_ref().is_some_and(|key| *key != proof.thumbprint)) {
            return Err(failed("the proof is by another key than the credential is bound to"));
        }
        let used = self.used(&agent.name, |used| used.proofs.first_use(proof.id, proof.slot));
        used.map_err(|error| failed(&format!("the proof was refused: {error}")))?;
        Ok(Bound { key: Some(proof.thumbprint), certificate: None })
    }
}

/// What stands before the digest of a certificate where the log names what a credential is bound to.
pub(super) const BY_CERTIFICATE: &str = "x5t#S256 ";

/// What a credential is bound to; nothing for a bearer credential.
#[derive(Default)]
pub(super) struct Bound {
    /// The thumbprint of a key.
    pub(super) key: Option<String>,
    /// The digest of a certificate.
    certificate: Option<String>,
}

/// The certificate of the connection that a credential was asked for over (RFC 8705 §3).
fn certificate(renewed: Option<&AccessToken>, asked: &Asked, has_proof: bool, may_change: bool) -> Result<Bound, Refusal> {
    let Some(shown) = asked.shown.as_ref().and_then(Shown::certificate) else {
        return Err(Refusal::request("this agent's credentials are bound to its client certificate, and the connection showed none"));
    };
    if has_proof {
        return Err(Refusal::request("this agent's credentials are bound to its client certificate: send no DPoP proof"));
    }
    // A delegation that is redeemed is bound to nothing yet.
    let before = renewed.and_then(|token| token.certificate.as_deref());
    if renewed.is_some_and(|token| token.key.is_some()) || (!may_change && before.is_some_and(|before| before != shown.digest())) {
        let detail = "what was exchanged is bound to another certificate, or to a key";
        return Err(Refusal::hidden("invalid_request", "the subject token was not accepted", detail));
    }
    Ok(Bound { key: None, certificate: Some(shown.digest().to_owned()) })
}

/// The agents that an execution acts for, nearest first.
fn chain(execution: &Execution) -> Vec<SpiffeId> {
    execution.started().chain.iter().map(|member| member.agent.clone()).collect()
}

/// The endpoints that the credential is for (RFC 8707 §2): ours only, and on renewal none that it did not reach before. A
/// credential for all servers reaches each of them, so one for a single server is narrower.
pub(super) fn audiences(snapshot: &Snapshot, form: &Form, reach: Option<&[String]>) -> Result<Vec<String>, Refusal> {
    let all = everywhere(snapshot);
    let mut audiences: Vec<String> = Vec::new();
    let logical = form.all("audience").iter().filter(|name| reach.is_none() || name.parse::<SpiffeId>().is_err());
    for wanted in form.all("resource").iter().chain(logical) {
        if !is_ours(snapshot, wanted) {
            // What is no address may be a credential in the wrong place, and this is shown and recorded.
            let shown = if wanted.starts_with("http") { wanted.chars().take(120).collect() } else { "what is no address".to_owned() };
            return Err(Refusal::new("invalid_target", format!("`{shown}` is no resource of this gateway")));
        }
        if reach.is_some_and(|reach| !reach.contains(wanted) && !reach.contains(&all)) {
            return Err(Refusal::new("invalid_target", format!("what is exchanged is not for `{wanted}`")));
        }
        if !audiences.contains(wanted) {
            audiences.push(wanted.clone());
        }
    }
    match (audiences.is_empty(), reach) {
        (false, _) => Ok(audiences),
        (true, Some(reach)) => Ok(reach.to_vec()),
        (true, None) => Ok(vec![all]),
    }
}

/// The endpoint for all servers.
fn everywhere(snapshot: &Snapshot) -> String {
    format!("{}/mcp", snapshot.settings.data.origin)
}

/// Whether this is an endpoint of the gateway.
pub(super) fn is_ours(snapshot: &Snapshot, resource: &str) -> bool {
    let all = everywhere(snapshot);
    let server = resource.strip_prefix(&all).and_then(|rest| rest.strip_prefix('/')).and_then(|server| server.parse().ok());
    let agents = format!("{}/a2a/", snapshot.settings.data.origin);
    let is_agent = resource.strip_prefix(&agents).is_some_and(|name| snapshot.reached_as(name).is_some());
    resource == all || is_agent || server.is_some_and(|server| snapshot.servers.contains_key(&server))
}

/// What the execution may do at most: never more than the agent, nor than the execution so far.
pub(super) fn grant(snapshot: &Snapshot, agent: &Agent, form: &Form, present: &Grant, audiences: &[String]) -> Result<Grant, Refusal> {
    let by_scope = scope::details(agent, form)?;
    let code = if by_scope.is_some() { "invalid_scope" } else { "invalid_authorization_details" };
    let invalid = |text: String| Refusal::new(code, text);
    let details = match (form.one("authorization_details"), form.one("effects")) {
        (Some(_), _) | (_, Some(_)) if by_scope.is_some() => {
            return Err(Refusal::request("`scope` and `authorization_details` say the same: send one of them"));
        }
        (None, None) => match by_scope {
            Some(details) => details,
            None => return Ok(present.clone()),
        },
        (Some(_), Some(_)) => return Err(Refusal::request("`effects` and `authorization_details` say the same: send one of them")),
        (Some(text), None) => json::parse(text.as_bytes(), &DETAILS).map_err(|error| invalid(error.to_string()))?,
        (None, Some(effects)) => effect_details(agent, effects)?,
    };
    let wanted = Grant::parse(details).map_err(|error| invalid(error.to_string()))?;
    wanted.is_within(&agent.call, &snapshot.servers).map_err(|error| invalid(error.to_string()))?;
    let audiences: Vec<_> = audiences.iter().map(String::as_str).collect();
    wanted.is_for(&audiences).map_err(|error| invalid(error.to_string()))?;
    present.narrow(&wanted).map_err(|error| invalid(error.to_string()))
}

/// The details that a list of effects stands for: what the agent may read, and of what it may do besides, these effects, or these
/// tools whatever they do.
pub(super) fn effect_details(agent: &Agent, effects: &str) -> Result<Value, Refusal> {
    let mut kinds = BTreeSet::from([Effect::Read]);
    let mut details = Vec::new();
    for word in effects.split_ascii_whitespace() {
        match Effect::ALL.into_iter().find(|effect| effect.as_str() == word) {
            Some(effect) => drop(kinds.insert(effect)),
            None if word.parse::<ToolPattern>().is_ok() => details.push(json!({ "type": "tool_call", "identifier": word })),
            None => {
                let word: String = word.chars().take(80).collect();
                return Err(Refusal::request(format!(
                    "`effects` holds `{word}`: it is a list of `read`, `write`, `send`, `spend`, `admin` and names of tools, with spaces between"
                )));
            }
        }
    }
    let of_kinds = agent.call.iter().map(|pattern| json!({ "type": "tool_call", "identifier": pattern.to_string(), "effects": kinds }));
    Ok(of_kinds.chain(details).collect())
}

/// The person's own words. They are fixed when the execution starts, before it has read anything.
fn task(form: &Form, renewed: Option<&Execution>) -> Result<Option<String>, Refusal> {
    let task = form.one("task");
    if let Some(execution) = renewed {
        let present = execution.started().task.as_deref();
        if task.is_some() && task != present {
            return Err(Refusal::request("the `task` of an execution cannot be changed"));
        }
        return Ok(present.map(str::to_owned));
    }
    match task {
        Some(task) if json!(task).to_string().len() > TASK_BYTES_MAX => {
            Err(Refusal::request(format!("the `task` is longer than {TASK_BYTES_MAX} bytes")))
        }
        task => Ok(task.map(str::to_owned)),
    }
}

/// When the credential expires: after the agent's own time, never more than 15 minutes, never past the execution's end.
fn expiry(agent: &Agent, renewed: Option<&Execution>, now: Timestamp) -> Result<i64, Refusal> {
    let seconds = |duration: bailiwick_core::model::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let ttl_s = seconds(agent.credential.ttl).min(TTL_S_MAX);
    let began = renewed.map_or(now, |execution| execution.started().at);
    let end_s = began.as_second().saturating_add(seconds(agent.credential.execution_max));
    let mut expires_s = now.as_second().saturating_add(ttl_s).min(end_s);
    if let Some(execution) = renewed {
        // What was delegated ends with the execution that delegated it.
        if let Some(parent) = execution.parent() {
            expires_s = expires_s.min(parent.expires().as_second());
        }
        if execution.tokens_live(now) >= TOKENS_MAX {
            return Err(Refusal::request("the execution has too many credentials that have not expired").about(execution.id()));
        }
        if expires_s <= now.as_second() {
            return Err(Refusal::request("the execution has lasted as long as it may; start another").about(execution.id()));
        }
    }
    Ok(expires_s)
}
