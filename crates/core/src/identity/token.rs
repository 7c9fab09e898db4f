//! The access token: what one execution's credential says (RFC 9068), and how it is read back.

use serde_json::{Map, Value, json};

use super::grant::Grant;
use super::jws::{self, InvalidJwt, Jws};
use super::key::{KeySet, Signer, SigningFailed};
use crate::model::{AgentName, ExecutionId, SpiffeId, Timestamp};

/// The key or the certificate that a token is bound to: one of the two where it is bound at all, so that no other confirmation is
/// taken for none.
fn bound_to(token: &Jws<'_>) -> Result<(Option<String>, Option<String>), InvalidJwt> {
    let Some(cnf) = token.claims().get("cnf") else { return Ok((None, None)) };
    let mut members = cnf.as_object().ok_or(InvalidJwt::Claim("cnf"))?.iter();
    match (members.next(), members.next()) {
        (Some((name, Value::String(value))), None) if name == "jkt" => Ok((Some(value.clone()), None)),
        (Some((name, Value::String(value))), None) if name == "x5t#S256" => Ok((None, Some(value.clone()))),
        _ => Err(InvalidJwt::Claim("cnf")),
    }
}

/// The type of a delegation, by which nothing takes it for a credential.
const DELEGATION: &str = "delegation+jwt";

/// The credential of one execution, lasting minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessToken {
    /// Who issued it (`iss`).
    pub issuer: String,
    /// The agent that it was issued to (`client_id`); the actor (`act.sub`) where there is a subject.
    pub agent: SpiffeId,
    /// The agents that it acts for, nearest first (nested `act`, RFC 8693 §4.1).
    pub chain: Vec<SpiffeId>,
    /// On whose behalf (`sub`); without one the first agent of the chain stands there itself.
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
    /// The digest of the certificate that it is bound to in place of a key (`cnf` `x5t#S256`, RFC 8705 §3.1).
    pub certificate: Option<String>,
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
        put("sub", json!(self.sub()));
        put("aud", if let [one] = self.audiences.as_slice() { json!(one) } else { json!(self.audiences) });
        put("client_id", json!(agent));
        if let Some(act) = self.act() {
            put("act", act);
        }
        put("txn", json!(self.execution));
        put("jti", json!(self.id));
        put("iat", json!(self.issued_s));
        put("exp", json!(self.expires_s));
        if let Some(cnf) = self.confirmation() {
            put("cnf", cnf);
        }
        let grant = serde_json::to_value(&self.grant).map_err(|_| SigningFailed)?;
        if grant.as_array().is_some_and(|items| !items.is_empty()) {
            put("authorization_details", grant);
        }
        jws::sign("at+jwt", &claims, signer)
    }

    /// What it is bound to (`cnf`, RFC 7800 §3.1); nothing for a bearer token.
    pub fn confirmation(&self) -> Option<Value> {
        match (&self.key, &self.certificate) {
            (Some(key), _) => Some(json!({ "jkt": key })),
            (None, Some(certificate)) => Some(json!({ "x5t#S256": certificate })),
            (None, None) => None,
        }
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
        let (subject, chain) = (token.text("sub")?, chain_of(&token)?);
        let (key, certificate) = bound_to(&token)?;
        let grant = match token.claims().get("authorization_details") {
            None => Grant::default(),
            Some(details) => serde_json::from_value(details.clone()).map_err(|_| InvalidJwt::Claim("authorization_details"))?,
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            subject: (subject != self::subject(None, &agent, &chain)).then(|| subject.to_owned()),
            agent,
            chain,
            audiences: token.audiences()?.into_iter().map(str::to_owned).collect(),
            execution: token.text("txn")?.parse().map_err(|_| InvalidJwt::Claim("txn"))?,
            id: token.text("jti")?.to_owned(),
            issued_s: token.seconds("iat")?.ok_or(InvalidJwt::Claim("iat"))?,
            expires_s,
            key,
            certificate,
            grant,
        })
    }

    /// Whom it is about: the person, or else the first agent of the chain.
    pub fn sub(&self) -> String {
        subject(self.subject.as_deref(), &self.agent, &self.chain)
    }

    /// Who acts, with each agent that it acts for nested in it; nothing where the agent acts for itself.
    pub fn act(&self) -> Option<Value> {
        (self.subject.is_some() || !self.chain.is_empty()).then(|| act(&self.issuer, &self.agent, &self.chain))
    }

    /// The agent's own name.
    pub const fn agent(&self) -> &AgentName {
        self.agent.agent()
    }
}

/// Whom a token is about: the person, or else the first agent of the chain.
fn subject(person: Option<&str>, agent: &SpiffeId, chain: &[SpiffeId]) -> String {
    person.map_or_else(|| chain.last().unwrap_or(agent).to_string(), str::to_owned)
}

/// Who acts, and within it each agent that it acts for.
pub fn act(issuer: &str, agent: &SpiffeId, chain: &[SpiffeId]) -> Value {
    let of = |agent: &SpiffeId| json!({ "iss": issuer, "sub": agent.to_string(), "sub_profile": "ai_agent" });
    let before = chain.iter().rev().fold(None, |before: Option<Value>, agent| {
        let mut act = of(agent);
        nest(&mut act, before);
        Some(act)
    });
    let mut act = of(agent);
    nest(&mut act, before);
    act
}

fn nest(act: &mut Value, before: Option<Value>) {
    if let (Some(act), Some(before)) = (act.as_object_mut(), before) {
        act.insert("act".to_owned(), before);
    }
}

/// The agents that the present actor acts for, nearest first.
fn chain_of(token: &Jws<'_>) -> Result<Vec<SpiffeId>, InvalidJwt> {
    let mut chain = Vec::new();
    let mut act = token.claims().get("act").and_then(|act| act.get("act"));
    while let Some(before) = act {
        let agent = before.get("sub").and_then(Value::as_str).and_then(|sub| sub.parse().ok());
        chain.push(agent.ok_or(InvalidJwt::Claim("act"))?);
        act = before.get("act");
    }
    Ok(chain)
}

/// What an agent hands to another one so that that acts for it: ours, for that agent alone, lasting a minute, redeemed once. In the
/// hands of any other it is worth nothing, since it is redeemed only by who proves to be the agent that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationToken {
    /// Who issued it (`iss`), and where it is redeemed (`aud`).
    pub issuer: String,
    /// The agent that may redeem it (`may_act.sub`, RFC 8693 §4.4).
    pub to: SpiffeId,
    /// The agents that it acts for then, nearest first (`act`).
    pub chain: Vec<SpiffeId>,
    /// On whose behalf (`sub`); without one the first agent of the chain stands there.
    pub subject: Option<String>,
    /// Where the credential that it is redeemed for may be shown at most (`resource`).
    pub audiences: Vec<String>,
    /// The execution that is delegated (`txn`).
    pub execution: ExecutionId,
    /// The token's own id (`jti`).
    pub id: String,
    /// When it was issued (`iat`), in seconds since the epoch.
    pub issued_s: i64,
    /// When it expires (`exp`), in seconds since the epoch.
    pub expires_s: i64,
}

impl DelegationToken {
    /// The token, signed. Its type is none that the gateway takes for a credential.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, SigningFailed> {
        let (by, before) = self.chain.split_first().ok_or(SigningFailed)?;
        let claims = json!({
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": subject(self.subject.as_deref(), by, before),
            "may_act": { "iss": self.issuer, "sub": self.to.to_string(), "sub_profile": "ai_agent" },
            "act": act(&self.issuer, by, before),
            "resource": self.audiences,
            "txn": self.execution,
            "jti": self.id,
            "iat": self.issued_s,
            "exp": self.expires_s,
        });
        jws::sign(DELEGATION, claims.as_object().ok_or(SigningFailed)?, signer)
    }

    /// Reads a delegation of ours: signature, type, issuer, audience and time; whether it was redeemed is the execution's to say.
    pub fn verify(text: &str, issuer: &str, keys: &KeySet, now: Timestamp) -> Result<Self, InvalidJwt> {
        let token = Jws::parse(text)?;
        token.has_type(&[DELEGATION])?;
        let key = token.kid().and_then(|kid| keys.find(Some(kid), token.algorithm())).ok_or(InvalidJwt::UnknownKey)?;
        token.verify(key)?;
        if token.text("iss")? != issuer {
            return Err(InvalidJwt::Issuer);
        }
        if token.audiences()? != [issuer] {
            return Err(InvalidJwt::Audience);
        }
        let expires_s = token.is_current(now.as_second(), 0)?;
        let agent = |claim: &'static str| {
            let sub = token.claims().get(claim).and_then(|claim| claim.get("sub")).and_then(Value::as_str);
            sub.and_then(|sub| sub.parse::<SpiffeId>().ok()).ok_or(InvalidJwt::Claim(claim))
        };
        let (to, by, before, sub) = (agent("may_act")?, agent("act")?, chain_of(&token)?, token.text("sub")?);
        let resource = token.claims().get("resource").and_then(Value::as_array).ok_or(InvalidJwt::Claim("resource"))?;
        Ok(Self {
            issuer: issuer.to_owned(),
            to,
            subject: (sub != subject(None, &by, &before)).then(|| sub.to_owned()),
            chain: std::iter::once(by).chain(before).collect(),
            audiences: resource.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            execution: token.text("txn")?.parse().map_err(|_| InvalidJwt::Claim("txn"))?,
            id: token.text("jti")?.to_owned(),
            issued_s: token.seconds("iat")?.ok_or(InvalidJwt::Claim("iat"))?,
            expires_s,
        })
    }
}
