//! What others are told: the events that a record of the log is worth, in the words of CAEP 1.0.

use serde_json::{Map, Value, json};

use super::event::{Kind, Level};
use crate::bundle::Snapshot;
use crate::model::{AgentName, ExecutionId, Hold, Quarantined, Record, Released, Revocation, Revoked, SpiffeId, Timestamp};

/// Who does something because of a signal: what was heard is not told on, or two who tell each other would never end.
const HEARD: &str = "transmitter ";

/// An event to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its type.
    pub kind: Kind,
    /// Whom it is about: the `sub_id`.
    pub subject: Value,
    /// What the event says.
    pub payload: Value,
}

/// The events that `record` is worth; none for nearly all.
pub fn told(record: &Record, snapshot: &Snapshot) -> Vec<Told> {
    let house = House(snapshot);
    match record {
        Record::Revoked(revoked) if !revoked.by.starts_with(HEARD) => house.revoked(revoked),
        // What is said again for those who read back a day is no news.
        Record::Quarantined(Quarantined { at, agent, since, by, reason, .. }) if at == since && !by.starts_with(HEARD) => {
            vec![house.risk(agent, Level::High, Level::Low, (*at, by, reason))]
        }
        Record::Released(released @ Released { at, agent, by, reason, .. }) if released.lifts(Hold::Quarantine) => {
            vec![house.risk(agent, Level::Low, Level::High, (*at, by, reason))]
        }
        _ => Vec::new(),
    }
}

/// The event by which a stream is tried (SSF 1.0 §8.1.4).
pub fn verification(stream: &str, state: Option<&str>) -> Told {
    let payload = state.map_or_else(|| json!({}), |state| json!({ "state": state }));
    Told { kind: Kind::Verification, subject: json!({ "format": "opaque", "id": stream }), payload }
}

/// Who did what when, for the record.
type Done<'a> = (Timestamp, &'a str, &'a str);

struct House<'a>(&'a Snapshot);

impl House<'_> {
    fn revoked(&self, revoked: &Revoked) -> Vec<Told> {
        let done = (revoked.at, revoked.by.as_str(), revoked.reason.as_str());
        let subjects = match &revoked.what {
            Revocation::Execution(execution) => vec![self.session(revoked, *execution)],
            Revocation::Token(token) => vec![json!({ "format": "jwt_id", "iss": self.issuer(), "jti": token })],
            Revocation::Subject(person) => vec![self.person(person)],
            Revocation::Agent(agent) => vec![self.agent(agent)],
            Revocation::Owner { agents, .. } => agents.iter().map(|agent| self.agent(agent)).collect(),
            Revocation::All => vec![json!({ "format": "complex", "tenant": { "format": "uri", "uri": self.domain() } })],
        };
        subjects.into_iter().map(|subject| Told { kind: Kind::SessionRevoked, subject, payload: payload(done, []) }).collect()
    }

    fn risk(&self, agent: &AgentName, now: Level, before: Level, done: Done<'_>) -> Told {
        let more = [("principal", "AGENT"), ("current_level", now.as_str()), ("previous_level", before.as_str()), ("risk_reason", done.2)];
        Told { kind: Kind::RiskLevelChange, subject: self.agent(agent), payload: payload(done, more) }
    }

    /// An execution: the session of an agent, for a person where there is one.
    fn session(&self, revoked: &Revoked, execution: ExecutionId) -> Value {
        let mut subject = json!({ "format": "complex", "session": { "format": "opaque", "id": execution } });
        if let (Some(members), Some(agent)) = (subject.as_object_mut(), &revoked.agent) {
            members.insert("application".to_owned(), self.agent(agent));
        }
        subject
    }

    /// An agent by both its names: as our tokens name it, and as SPIFFE does.
    fn agent(&self, agent: &AgentName) -> Value {
        let id = SpiffeId::new(self.0.settings.trust_domain.clone(), agent.clone()).to_string();
        json!({ "format": "aliases", "identifiers": [
            { "format": "iss_sub", "iss": self.issuer(), "sub": id },
            { "format": "uri", "uri": id },
        ] })
    }

    /// A person as our tokens name them, and as their own issuer does.
    fn person(&self, person: &str) -> Value {
        let ours = json!({ "format": "iss_sub", "iss": self.issuer(), "sub": person });
        let theirs = person.split_once(':').and_then(|(name, sub)| Some((self.0.issuers.get(name)?, sub)));
        match theirs {
            Some((issuer, sub)) => {
                json!({ "format": "aliases", "identifiers": [ours, { "format": "iss_sub", "iss": issuer.issuer, "sub": sub }] })
            }
            None => ours,
        }
    }

    fn issuer(&self) -> &str {
        &self.0.settings.identity.origin
    }

    fn domain(&self) -> String {
        format!("spiffe://{}", self.0.settings.trust_domain)
    }
}

/// What every event says: when, who began it and why (CAEP 1.0 §2).
fn payload<const N: usize>((at, by, reason): Done<'_>, more: [(&str, &str); N]) -> Value {
    let initiating = if by.starts_with("agent ") { "policy" } else { "admin" };
    let mut payload =
        Map::from_iter([("event_timestamp".to_owned(), json!(at.as_second())), ("initiating_entity".to_owned(), json!(initiating))]);
    if !reason.is_empty() {
        payload.insert("reason_admin".to_owned(), json!({ "en": reason }));
    }
    payload.extend(more.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), json!(value))));
    Value::Object(payload)
}
