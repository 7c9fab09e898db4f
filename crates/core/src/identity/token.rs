//! The access token: what one execution's credential says (RFC 9068), and how it is read back.

use serde_json::{Map, Value, json};

use super::grant::Grant;
use super::jws::{self, InvalidJwt, Jws};
use super::key::{KeySet, Signer, SigningFailed};
use crate::model::{AgentName, ExecutionId, SpiffeId, Timestamp};

/// The credential of one execution, lasting minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessToken {
    /// Who issued it (`iss`).
    pub issuer: String,
    /// The agent that it was issued to (`client_id`); the actor (`act.sub`) where there is a subject.
    pub agent: SpiffeId,
    /// On whose behalf (`sub`); without one the agent stands there itself.
    pub subject: Option<String>,
    /// Where it may be shown (`aud`): the gateway's endpoints.
    pub audiences: Vec<String>,
    /// The execution (`txn`).
    pub execution: ExecutionId,
    /// The token's own id (`jti`).
    pub id: String,
    /// When it was issued (`iat`), in seconds since the epoch.
    pub issued_s: i64,
    /// When it expires (`exp`), in seconds since the epoch.
    pub expires_s: i64,
    /// The thumbprint of the key that it is bound to (`cnf.jkt`, RFC 9449 §6.1).
    pub key: Option<String>,
    /// What the execution may do at most (`authorization_details`, RFC 9396 §9.1).
    pub grant: Grant,
}

impl AccessToken {
    /// The token, signed.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, SigningFailed> {
        let agent = self.agent.to_string();
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", json!(self.issuer));
        put("sub", json!(self.subject.as_deref().unwrap_or(&agent)));
        put("aud", if let [one] = self.audiences.as_slice() { json!(one) } else { json!(self.audiences) });
        put("client_id", json!(agent));
        if self.subject.is_some() {
            put("act", json!({ "iss": self.issuer, "sub": agent, "sub_profile": "ai_agent" }));
        }
        put("txn", json!(self.execution));
        put("jti", json!(self.id));
        put("iat", json!(self.issued_s));
        put("exp", json!(self.expires_s));
        if let Some(key) = &self.key {
            put("cnf", json!({ "jkt": key }));
        }
        let grant = serde_json::to_value(&self.grant).map_err(|_| SigningFailed)?;
        if grant.as_array().is_some_and(|items| !items.is_empty()) {
            put("authorization_details", grant);
        }
        jws::sign("at+jwt", &claims, signer)
    }

    /// Reads a token of ours: signature, type, issuer and time (RFC 9068 §4); whom it is for is the caller's to check.
    pub fn verify(text: &str, issuer: &str, keys: &KeySet, now: Timestamp) -> Result<Self, InvalidJwt> {
        let token = Jws::parse(text)?;
        token.has_type(&["at+jwt"])?;
        let key = token.kid().and_then(|kid| keys.find(Some(kid), token.algorithm())).ok_or(InvalidJwt::UnknownKey)?;
        token.verify(key)?;
        if token.text("iss")? != issuer {
            return Err(InvalidJwt::Issuer);
        }
        // Our own clock wrote its end, so there is no difference of clocks to forgive.
        let expires_s = token.is_current(now.as_second(), 0)?;
        let agent: SpiffeId = token.text("client_id")?.parse().map_err(|_| InvalidJwt::Claim("client_id"))?;
        let subject = token.text("sub")?;
        let key = match token.claims().get("cnf") {
            None => None,
            Some(cnf) => Some(cnf.get("jkt").and_then(Value::as_str).ok_or(InvalidJwt::Claim("cnf"))?.to_owned()),
        };
        let grant = match token.claims().get("authorization_details") {
            None => Grant::default(),
            Some(details) => serde_json::from_value(details.clone()).map_err(|_| InvalidJwt::Claim("authorization_details"))?,
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            subject: (subject != agent.to_string()).then(|| subject.to_owned()),
            agent,
            audiences: token.audiences()?.into_iter().map(str::to_owned).collect(),
            execution: token.text("txn")?.parse().map_err(|_| InvalidJwt::Claim("txn"))?,
            id: token.text("jti")?.to_owned(),
            issued_s: token.seconds("iat")?.ok_or(InvalidJwt::Claim("iat"))?,
            expires_s,
            key,
            grant,
        })
    }

    /// The agent's own name.
    pub const fn agent(&self) -> &AgentName {
        self.agent.agent()
    }
}
