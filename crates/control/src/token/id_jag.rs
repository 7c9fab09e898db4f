//! Identity assertions of other domains (ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant): a person's own identity provider says
//! that an agent may act for the person here, and what at most.
//!
//! MCP calls this enterprise-managed authorization. The issuer is one of the bundle; the assertion names us as its only audience and
//! the agent, which authenticates by itself, as its client. It may be shown again until it expires, by that agent alone.

use bailiwick_core::bundle::{Agent, Snapshot, ToolPattern};
use bailiwick_core::identity::assertion::{self, Trust};
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::identity::outbound::ID_JAG;
use bailiwick_core::identity::{Grant, platform};
use bailiwick_core::model::{Effect, Timestamp};
use serde_json::{Map, Value};

use super::Identity;
use super::client::{NO_ISSUER, named, trusted};
use super::issue::{effect_details, is_ours};

/// What an assertion bounds.
pub(super) struct Asserted {
    /// The name of its issuer in the bundle.
    pub(super) issuer: String,
    /// The endpoints of ours that it is for; none where it names none.
    audiences: Vec<String>,
    /// The thumbprint of the key that it is bound to.
    pub(super) key: Option<String>,
    /// What it allows at most.
    pub(super) grant: Grant,
}

impl Asserted {
    /// The endpoints that a credential for it may be for, where it names any.
    pub(super) fn reach(&self) -> Option<&[String]> {
        (!self.audiences.is_empty()).then_some(self.audiences.as_slice())
    }
}

/// Whether a token says that it is an identity assertion.
pub(super) fn is_one(token: &str) -> bool {
    Jws::parse(token).is_ok_and(|token| token.has_type(&[ID_JAG]).is_ok())
}

impl Identity {
    /// The person whom an assertion names to `agent`, and what it bounds.
    pub(super) async fn asserted(
        &self,
        snapshot: &Snapshot,
        agent: &Agent,
        token: &str,
        now: Timestamp,
    ) -> Result<(String, Asserted), String> {
        let jws = Jws::parse(token).map_err(|error| error.to_string())?;
        let issuer = trusted(snapshot, &jws).ok_or(NO_ISSUER)?;
        let refused = |why: &dyn std::fmt::Display| format!("the ID-JAG of `{}` was refused: {why}", issuer.name);
        let published = self.foreign.published(issuer, jws.kid(), now).await.map_err(|error| refused(&error))?;
        // Its audience is our issuer itself, whatever the bundle wants of other tokens of that issuer.
        let trust =
            Trust { issuer: Some(&issuer.issuer), audience: self.issuer.url(), algorithms: &issuer.algorithms, keys: &published.keys };
        let claims = assertion::id_jag(&jws, &trust, now).map_err(|error| refused(&error))?;
        platform::person(issuer, claims).map_err(|error| refused(&error))?;
        let client = claims.get("client_id").and_then(Value::as_str).unwrap_or_default();
        if named(snapshot, client).as_ref() != Some(&agent.name) {
            return Err(refused(&"its `client_id` is another than the client's"));
        }
        let key = match claims.get("cnf") {
            None => None,
            Some(cnf) => Some(cnf.get("jkt").and_then(Value::as_str).ok_or_else(|| refused(&"its `cnf` has no `jkt`"))?.to_owned()),
        };
        let audiences = texts(claims.get("resource")).ok_or_else(|| refused(&"its `resource` is no text"))?;
        if let Some(other) = audiences.iter().find(|resource| !is_ours(snapshot, resource)) {
            let shown: String = other.chars().take(120).collect();
            return Err(refused(&format!("its resource `{shown}` is none of this gateway")));
        }
        let grant = grant(agent, claims).map_err(|why| refused(&why))?;
        Ok((self.subject_of(issuer, &jws, now)?, Asserted { issuer: issuer.name.clone(), audiences, key, grant }))
    }
}

/// What an assertion allows: its `authorization_details`, or what its `scope` names of what we know. A scope that is none of ours
/// allows nothing.
fn grant(agent: &Agent, claims: &Map<String, Value>) -> Result<Grant, String> {
    if let Some(details) = claims.get("authorization_details") {
        return Grant::parse(details.clone()).map_err(|error| error.to_string());
    }
    let Some(scope) = claims.get("scope") else { return Ok(Grant::default()) };
    let scope = scope.as_str().ok_or("its `scope` is no text")?;
    let is_known = |word: &&str| Effect::ALL.iter().any(|effect| effect.as_str() == *word) || word.parse::<ToolPattern>().is_ok();
    let known = scope.split_ascii_whitespace().filter(is_known).collect::<Vec<_>>().join(" ");
    let details = effect_details(agent, &known).map_err(|refusal| refusal.detail)?;
    Grant::parse(details).map_err(|error| error.to_string())
}

/// One text or several.
fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value {
        None => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(Value::Array(many)) => many.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}
