//! Which agent is calling: by its own registered key, by the word of an issuer that is trusted to vouch for it, or by what the
//! connection itself shows.

use std::sync::Arc;

use bailiwick_core::bundle::{Agent, Issuer as Trusted, Snapshot};
use bailiwick_core::identity::assertion::{self, ASSERTION_SLOT_S, Asserted, Trust};
use bailiwick_core::identity::aws::{SignedRequest, place};
use bailiwick_core::identity::jws::{InvalidJwt, Jws};
use bailiwick_core::identity::platform::{self, Platform};
use bailiwick_core::identity::{KeySet, PublicKey, spiffe};
use bailiwick_core::model::{AgentName, SpiffeId, Timestamp, hides};
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};

use super::answer::Refusal;
use super::attest::{Attested, Peer};
use super::form::Form;
use super::meant::meant_for;
use super::{AWS_CLIENT, Asked, Identity, JWT_BEARER_CLIENT, JWT_SPIFFE_CLIENT, aws, review};
use crate::svid::{self, Shown};

/// The longest name of a person that is taken from another's token, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

pub(super) const NO_ISSUER: &str = "no issuer of that name is trusted";

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
    ///
    /// Where the request brings no assertion, the connection may prove one: by the X.509-SVID that the client showed, or as a program
    /// of this machine.
    pub(super) async fn client<'a>(&self, snapshot: &'a Snapshot, asked: &Asked) -> Result<Option<Proven<'a>>, Refusal> {
        let Asked { form, now, .. } = asked;
        let now = *now;
        if form.one("client_secret").is_some() {
            return Err(Refusal::client("the client sent a secret; there are none here"));
        }
        let (kind, text) = match (form.one("client_assertion_type"), form.one("client_assertion")) {
            (None, None) => return self.connected(snapshot, asked).await,
            (Some(kind), Some(text)) => (kind, text),
            _ => return Err(Refusal::client("`client_assertion` and `client_assertion_type` come together")),
        };
        if kind == AWS_CLIENT {
            return self.signer(snapshot, form, text, now).await.map(Some).map_err(Refusal::client);
        }
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
        let named = client_id(snapshot, form)?;
        self.vouched(snapshot, issuer, (token, &jws), named.as_ref(), now).await
    }

    /// The agent whose role's session signed a request, as AWS says (see `aws`). Each request is good once.
    pub(super) async fn signer<'a>(
        &self,
        snapshot: &'a Snapshot,
        form: &Form,
        request: &str,
        now: Timestamp,
    ) -> Result<Proven<'a>, String> {
        let named = client_id(snapshot, form)?;
        let url = SignedRequest::url_of(request).map_err(|error| error.to_string())?;
        let asked = |issuer: &&Trusted| platform::is_asked(issuer) && place(issuer) == url.trim_end_matches('/');
        let issuer = snapshot.issuers.values().find(asked).ok_or("the request is for no STS that is an issuer")?;
        let refused = |why: &dyn std::fmt::Display| format!("the request to `{}` was refused: {why}", issuer.name);
        let request = SignedRequest::parse(request, issuer, self.audience(issuer), now).map_err(|error| refused(&error))?;
        let fetcher = self.foreign.fetcher_for(issuer.ca_file.as_deref()).await.map_err(|error| refused(&error))?;
        let claims = {
            let _room = self.asking.try_acquire().map_err(|_| refused(&"too many are being sent on"))?;
            aws::caller(&fetcher, issuer, &request).await.map_err(|error| refused(&error))?
        };
        let agent = only(matching(snapshot, issuer, &claims), named.as_ref(), "the role's session")?;
        self.first_use(agent, &request.asserted, Some(request.signed_s), now).map_err(|error| refused(&error))?;
        let session = claims.get("arn").and_then(Value::as_str).unwrap_or_default();
        Ok(Proven { agent, by: format!("federation {} {session}", issuer.name) })
    }

    /// The agent that the connection itself proves; nothing when it shows none.
    async fn connected<'a>(&self, snapshot: &'a Snapshot, asked: &Asked) -> Result<Option<Proven<'a>>, Refusal> {
        let named = client_id(snapshot, &asked.form).map_err(Refusal::client)?;
        if let Some(peer) = &asked.peer {
            let programs = snapshot.agents.values().filter(|agent| named.as_ref().is_none_or(|name| *name == agent.name));
            let programs: Vec<&Agent> = programs.filter(|agent| !agent.local.is_empty()).collect();
            return self.attested(programs, Arc::clone(peer)).await.map(Some).map_err(Refusal::client);
        }
        let Some(Shown(chain)) = &asked.shown else { return Ok(None) };
        let id = svid::claimed(chain).ok();
        let domain = id.as_deref().and_then(|id| spiffe::Id::parse(id).ok()).map(|id| id.trust_domain());
        // A certificate that a mesh shows for its own purposes is no attempt to prove an agent.
        let Some(issuer) = domain.and_then(|domain| of_domain(snapshot, domain)) else { return Ok(None) };
        let proven = self.shown(snapshot, issuer, chain, named.as_ref(), asked.now).await;
        let refused = |why| Refusal::client(format!("the certificate of `{}` was refused: {why}", issuer.name));
        proven.map(Some).map_err(refused)
    }

    /// The agent that an X.509-SVID proves.
    async fn shown<'a>(
        &self,
        snapshot: &'a Snapshot,
        issuer: &Trusted,
        chain: &[CertificateDer<'_>],
        named: Option<&AgentName>,
        now: Timestamp,
    ) -> Result<Proven<'a>, String> {
        let published = self.foreign.published(issuer, None, now).await.map_err(|error| error.to_string())?;
        let id = svid::check(chain, &published.roots, now).map_err(|error| error.to_string())?;
        let claims = Map::from_iter([("sub".to_owned(), Value::from(id.as_str()))]);
        let agent = only(matching(snapshot, issuer, &claims), named, "the certificate's SPIFFE id")?;
        Ok(Proven { agent, by: format!("x509-svid {} {id}", issuer.name) })
    }

    /// What the kernel says of the program at the other end of the socket.
    async fn attest(&self, peer: Arc<Peer>) -> Result<Attested, String> {
        let _room = self.attesting.acquire().await.map_err(|error| error.to_string())?;
        let attested = tokio::task::spawn_blocking(move || peer.attest()).await.map_err(|error| error.to_string())?;
        attested.map_err(|error| error.to_string())
    }

    /// The agents that the program at the other end of the socket is, and what the kernel says of it.
    pub(crate) async fn programs(&self, snapshot: &Snapshot, peer: Arc<Peer>) -> Result<(Vec<AgentName>, String), String> {
        let attested = self.attest(peer).await?;
        let matching = snapshot.agents.values().filter(|agent| agent.local.iter().any(|local| attested.is(local)));
        Ok((matching.map(|agent| agent.name.clone()).collect(), format!("local {}", attested.shown())))
    }

    /// The agent among `agents` whose declared program is at the other end of the socket.
    async fn attested<'a>(&self, agents: Vec<&'a Agent>, peer: Arc<Peer>) -> Result<Proven<'a>, String> {
        let attested = self.attest(peer).await?;
        let shown = attested.shown();
        let matching = agents.into_iter().filter(|agent| agent.local.iter().any(|local| attested.is(local)));
        let agent = only(matching, None, &format!("the program that asked ({shown})"))?;
        Ok(Proven { agent, by: format!("local {shown}") })
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
        self.subject_of(issuer, &jws, now)
    }

    /// Whom the token of `issuer`, which was verified, is about, as a person; unless that person's tokens were revoked since.
    pub(super) fn subject_of(&self, issuer: &Trusted, jws: &Jws<'_>, now: Timestamp) -> Result<String, String> {
        let sub = jws.claims().get("sub").and_then(Value::as_str).unwrap_or_default();
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
        self.first_use(agent, &asserted, jws.seconds("iat").ok().flatten(), now)
            .map_err(|error| format!("the client's assertion was refused: {error}"))?;
        Ok(Proven { agent, by: format!("private_key_jwt {}", key.kid) })
    }

    /// Takes note of what may be used once, and was made at `issued_s`. What was used before this process began is not known, so what
    /// may be as old as that is not taken.
    pub(super) fn first_use(&self, agent: &Agent, asserted: &Asserted, issued_s: Option<i64>, now: Timestamp) -> Result<(), String> {
        let since_opened_s = now.as_second().saturating_sub(self.opened_s);
        if since_opened_s < ASSERTION_SLOT_S && issued_s.is_none_or(|issued_s| issued_s < self.opened_s) {
            return Err("it may have been used before the service was started".to_owned());
        }
        self.used(&agent.name, |used| used.assertions.first_use(asserted.id, asserted.slot)).map_err(|error| error.to_string())
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
        let agent = only(matching(snapshot, issuer, claims), named, "the token")?;
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

/// The one agent that `whose` proves: of those that match the one that is named, or the only one.
fn only<'a>(agents: impl Iterator<Item = &'a Agent>, named: Option<&AgentName>, whose: &str) -> Result<&'a Agent, String> {
    let mut agents = agents.filter(|agent| named.is_none_or(|name| *name == agent.name));
    match (agents.next(), agents.next()) {
        (Some(agent), None) => Ok(agent),
        (None, _) => Err(format!("{whose} is that of no agent")),
        (Some(_), Some(_)) => Err(format!("{whose} is that of several agents; name one by `client_id`")),
    }
}

/// The agent that the form names, if it names one.
fn client_id(snapshot: &Snapshot, form: &Form) -> Result<Option<AgentName>, &'static str> {
    match form.one("client_id") {
        None => Ok(None),
        Some(id) => named(snapshot, id).map(Some).ok_or("the `client_id` is no agent's"),
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
    let makes_tokens = |trusted: &&Trusted| trusted.kind != Platform::Spiffe && !platform::is_asked(trusted);
    let named = token.issuer().and_then(|issuer| snapshot.issuers.values().filter(makes_tokens).find(|trusted| trusted.issuer == issuer));
    named.or_else(|| {
        // What names its subject as its issuer is an agent's own assertion.
        let sub = token.text("sub").ok().filter(|sub| token.issuer() != Some(sub))?;
        of_domain(snapshot, spiffe::Id::parse(sub).ok()?.trust_domain())
    })
}

/// The issuer that stands for a SPIFFE trust domain.
pub(crate) fn of_domain<'a>(snapshot: &'a Snapshot, domain: &str) -> Option<&'a Trusted> {
    let of_domain = |trusted: &&Trusted| spiffe::trust_domain(&trusted.issuer) == Some(domain);
    snapshot.issuers.values().filter(|trusted| trusted.kind == Platform::Spiffe).find(of_domain)
}

/// The agent that a client id names: the agent's SPIFFE id, or its bare name.
pub(super) fn named(snapshot: &Snapshot, id: &str) -> Option<AgentName> {
    match id.parse::<SpiffeId>() {
        Ok(spiffe) => (*spiffe.domain() == snapshot.settings.trust_domain).then(|| spiffe.agent().clone()),
        Err(_) => id.parse().ok(),
    }
}
