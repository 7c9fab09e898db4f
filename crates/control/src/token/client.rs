//! Which agent is calling: by its own registered key, or by the token of an issuer that is trusted to vouch for it.

use bailiwick_core::bundle::{Agent, Issuer as Trusted, Snapshot};
use bailiwick_core::identity::assertion::{self, ASSERTION_SLOT_S, Trust};
use bailiwick_core::identity::jws::{InvalidJwt, Jws};
use bailiwick_core::identity::platform::{self, Platform};
use bailiwick_core::identity::{KeySet, PublicKey, spiffe};
use bailiwick_core::model::{AgentName, SpiffeId, Timestamp, hides};
use serde_json::{Map, Value};

use super::answer::Refusal;
use super::form::Form;
use super::meant::meant_for;
use super::{Identity, JWT_BEARER_CLIENT, JWT_SPIFFE_CLIENT, review};

/// The longest name of a person that is taken from another's token, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

const NO_ISSUER: &str = "no issuer of that name is trusted";

/// An agent that has proven itself.
#[derive(Debug)]
pub(super) struct Proven<'a> {
    /// Its declaration.
    pub(super) agent: &'a Agent,
    /// How it proved itself, for the record.
    pub(super) by: String,
}

impl Identity {
    /// The agent that the request's client assertion proves (RFC 7523 §2.2); nothing when there is none.
    pub(super) async fn client<'a>(&self, snapshot: &'a Snapshot, form: &Form, now: Timestamp) -> Result<Option<Proven<'a>>, Refusal> {
        if form.one("client_secret").is_some() {
            return Err(Refusal::client("the client sent a secret; there are none here"));
        }
        let (kind, text) = match (form.one("client_assertion_type"), form.one("client_assertion")) {
            (None, None) => return Ok(None),
            (Some(kind), Some(text)) => (kind, text),
            _ => return Err(Refusal::client("`client_assertion` and `client_assertion_type` come together")),
        };
        if kind != JWT_BEARER_CLIENT && kind != JWT_SPIFFE_CLIENT {
            return Err(Refusal::client("the `client_assertion_type` is not supported"));
        }
        let jws = Jws::parse(text).map_err(|error| Refusal::client(error.to_string()))?;
        let named = form.one("client_id").and_then(|id| named(snapshot, id));
        let proven = match trusted(snapshot, &jws) {
            Some(issuer) => self.vouched(snapshot, issuer, (text, &jws), named.as_ref(), now).await,
            None => self.registered(snapshot, &jws, now),
        };
        let proven = proven.map_err(|detail| {
            let refusal = Refusal::client(detail);
            let claimed = jws.issuer().and_then(|issuer| self::named(snapshot, issuer)).or_else(|| named.clone());
            match claimed {
                Some(agent) => refusal.of(&agent),
                None => refusal,
            }
        })?;
        if form.one("client_id").is_some() && named.as_ref() != Some(&proven.agent.name) {
            return Err(Refusal::client("the `client_id` is another than the assertion's").of(&proven.agent.name));
        }
        Ok(Some(proven))
    }

    /// The agent that a workload's token proves, where that token itself is the grant or the actor (RFC 7523 §2.1).
    pub(super) async fn workload<'a>(
        &self,
        snapshot: &'a Snapshot,
        form: &Form,
        token: &str,
        now: Timestamp,
    ) -> Result<Proven<'a>, String> {
        let jws = Jws::parse(token).map_err(|error| error.to_string())?;
        let issuer = trusted(snapshot, &jws).ok_or(NO_ISSUER)?;
        let named = match form.one("client_id") {
            None => None,
            Some(id) => Some(named(snapshot, id).ok_or("the `client_id` is no agent's")?),
        };
        self.vouched(snapshot, issuer, (token, &jws), named.as_ref(), now).await
    }

    /// The person that a trusted issuer's token names: the issuer's name in the bundle, a colon, and the token's `sub`.
    pub(super) async fn person(&self, snapshot: &Snapshot, actor: &Agent, token: &str, now: Timestamp) -> Result<String, String> {
        let jws = Jws::parse(token).map_err(|error| error.to_string())?;
        let issuer = trusted(snapshot, &jws).ok_or(NO_ISSUER)?;
        let claims = self.vouching(issuer, &jws, now).await?;
        platform::person(issuer, claims).map_err(|error| error.to_string())?;
        if matching(snapshot, issuer, claims).next().is_some() {
            return Err("the token proves an agent, and names no person".to_owned());
        }
        meant_for(snapshot, actor, issuer, claims)?;
        let sub = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if sub.is_empty() || sub.len() > SUBJECT_BYTES_MAX || sub.chars().any(hides) {
            return Err("the token's `sub` is empty, too long or not printable".to_owned());
        }
        let subject = format!("{}:{sub}", issuer.name);
        let issued_s = jws.seconds("iat").ok().flatten().ok_or("the token does not say when it was issued")?;
        if self.parts.executions.is_barred(&subject, issued_s, now) {
            return Err("the token was issued before the person's sessions were revoked, or more than a day ago".to_owned());
        }
        Ok(subject)
    }

    fn registered<'a>(&self, snapshot: &'a Snapshot, jws: &Jws<'_>, now: Timestamp) -> Result<Proven<'a>, String> {
        let client = jws.issuer().unwrap_or_default();
        let agent = named(snapshot, client).and_then(|name| snapshot.agents.get(&name));
        let key = agent.and_then(|agent| match jws.kid() {
            Some(kid) => agent.keys.iter().find(|key| key.kid == kid),
            None => agent.keys.first().filter(|_| agent.keys.len() == 1),
        });
        let public = key.map_or_else(|| self.nobody.clone(), |key| key.jwk.clone());
        let public = PublicKey::from_jwk(&public).map_err(|error| error.to_string())?;
        // An unknown client costs the same work as a known one, so that time does not tell them apart.
        let checked = match assertion::client(jws, client, self.issuer.url(), &public, now) {
            Err(InvalidJwt::Algorithm) if key.is_none() => Err(InvalidJwt::UnknownKey),
            checked => checked,
        };
        let (Some(agent), Some(key)) = (agent, key) else { return Err("no such client, or no key of it has that `kid`".to_owned()) };
        let asserted = checked.map_err(|error| format!("the client's assertion was refused: {error}"))?;
        // What was used before this process began is not known, so what may be as old as that is not taken.
        let since_opened_s = now.as_second().saturating_sub(self.opened_s);
        let issued_s = jws.seconds("iat").ok().flatten();
        if since_opened_s < ASSERTION_SLOT_S && issued_s.is_none_or(|issued_s| issued_s < self.opened_s) {
            return Err("the client's assertion may have been used before the service was started".to_owned());
        }
        self.used(&agent.name, |used| used.assertions.first_use(asserted.id, asserted.slot))
            .map_err(|error| format!("the client's assertion was refused: {error}"))?;
        Ok(Proven { agent, by: format!("private_key_jwt {}", key.kid) })
    }

    /// The agent that the token of a trusted issuer proves: the one named, or the only one whose claims match.
    async fn vouched<'a>(
        &self,
        snapshot: &'a Snapshot,
        issuer: &Trusted,
        (text, jws): (&str, &Jws<'_>),
        named: Option<&AgentName>,
        now: Timestamp,
    ) -> Result<Proven<'a>, String> {
        let claims = self.vouching(issuer, jws, now).await?;
        let refused = |why: &dyn std::fmt::Display| format!("the token of `{}` was refused: {why}", issuer.name);
        platform::workload(issuer, claims).map_err(|error| refused(&error))?;
        let mut agents = matching(snapshot, issuer, claims).filter(|agent| named.is_none_or(|name| *name == agent.name));
        let agent = match (agents.next(), agents.next()) {
            (Some(agent), None) => agent,
            (None, _) => return Err("the token's claims are those of no agent".to_owned()),
            (Some(_), Some(_)) => return Err("the token's claims are those of several agents; name one by `client_id`".to_owned()),
        };
        // Last, so that nobody makes the platform work for a token that is refused anyway.
        if let Some(review) = &issuer.review {
            review::review(&self.foreign, review, (text, self.audience(issuer)), claims).await.map_err(|error| refused(&error))?;
        }
        Ok(Proven { agent, by: format!("federation {}", issuer.name) })
    }

    async fn vouching<'a>(&self, issuer: &Trusted, jws: &'a Jws<'_>, now: Timestamp) -> Result<&'a Map<String, Value>, String> {
        let published = self.foreign.published(issuer, jws.kid(), now).await.map_err(|error| error.to_string())?;
        let trust = trust(issuer, self.audience(issuer), &published.keys);
        assertion::foreign(jws, &trust, now).map_err(|error| format!("the token of `{}` was refused: {error}", issuer.name))
    }

    /// The audience that tokens of `issuer` have to name.
    fn audience<'a>(&'a self, issuer: &'a Trusted) -> &'a str {
        issuer.audience.as_deref().unwrap_or_else(|| self.issuer.url())
    }
}

/// What is asked of a token of `issuer`.
pub(crate) fn trust<'a>(issuer: &'a Trusted, audience: &'a str, keys: &'a KeySet) -> Trust<'a> {
    let named = (issuer.kind != Platform::Spiffe).then_some(issuer.issuer.as_str());
    Trust { issuer: named, audience, algorithms: &issuer.algorithms, keys }
}

/// The agents that `claims` of a token of `issuer` prove.
fn matching<'a>(snapshot: &'a Snapshot, issuer: &Trusted, claims: &Map<String, Value>) -> impl Iterator<Item = &'a Agent> {
    snapshot.agents.values().filter(move |agent| {
        agent.federation.iter().any(|federation| federation.issuer == issuer.issuer && assertion::claims_match(claims, &federation.claims))
    })
}

/// The issuer that a token says it is of: by its `iss`, or, of a SPIFFE trust domain, by the domain of its `sub`. It says so
/// itself; what it says is believed once the key of that issuer has signed it.
pub(crate) fn trusted<'a>(snapshot: &'a Snapshot, token: &Jws<'_>) -> Option<&'a Trusted> {
    let named = token
        .issuer()
        .and_then(|issuer| snapshot.issuers.values().find(|trusted| trusted.issuer == issuer && trusted.kind != Platform::Spiffe));
    named.or_else(|| {
        // What names its subject as its issuer is an agent's own assertion.
        let sub = token.text("sub").ok().filter(|sub| token.issuer() != Some(sub))?;
        let domain = spiffe::Id::parse(sub).ok()?.trust_domain();
        let of_domain = |trusted: &&Trusted| spiffe::trust_domain(&trusted.issuer) == Some(domain);
        snapshot.issuers.values().filter(|trusted| trusted.kind == Platform::Spiffe).find(of_domain)
    })
}

/// The agent that a client id names: the agent's SPIFFE id, or its bare name.
fn named(snapshot: &Snapshot, id: &str) -> Option<AgentName> {
    match id.parse::<SpiffeId>() {
        Ok(spiffe) => (*spiffe.domain() == snapshot.settings.trust_domain).then(|| spiffe.agent().clone()),
        Err(_) => id.parse().ok(),
    }
}
