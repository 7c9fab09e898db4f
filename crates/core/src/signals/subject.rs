//! Whom a signal is about (RFC 9493, Shared Signals Framework 1.0 §3): as it is written, and who of this house that is.
//!
//! A transmitter speaks for one issuer. It can name people as that issuer's tokens name them, agents that prove themselves by that
//! issuer's tokens, and those agents of the house that the operator lets it speak of; to name anybody else is refused.

use serde_json::Value;

use crate::bundle::{Issuer, Snapshot, Transmitter};
use crate::identity::platform::Platform;
use crate::identity::spiffe;
use crate::model::{AgentName, SpiffeId, hides, shown};

/// The most identifiers that one `aliases` may hold; more are not read.
const ALIASES_MAX: usize = 16;

/// The longest text of an identifier, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// The longest name of a person that is taken from others, in bytes.
const PERSON_BYTES_MAX: usize = 256;

/// One name of somebody or something (RFC 9493 §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// `iss_sub`: as the tokens of an issuer name it.
    IssSub {
        /// The issuer.
        iss: String,
        /// The subject there.
        sub: String,
    },
    /// `uri`, such as a SPIFFE id.
    Uri(String),
    /// `aliases`: several names of the same.
    Aliases(Vec<Identifier>),
    /// Any other format, by its name: nobody of this house is known by it.
    Other(String),
}

impl Identifier {
    fn parse(value: &Value, may_nest: bool) -> Option<Self> {
        let text = |member: &str| {
            let text = value.get(member).and_then(Value::as_str)?;
            (!text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(hides)).then(|| text.to_owned())
        };
        match text("format")?.as_str() {
            "iss_sub" => Some(Self::IssSub { iss: text("iss")?, sub: text("sub")? }),
            "uri" => text("uri").map(Self::Uri),
            "aliases" if may_nest => {
                let names = value.get("identifiers").and_then(Value::as_array).filter(|names| (1..=ALIASES_MAX).contains(&names.len()))?;
                names.iter().map(|name| Self::parse(name, false)).collect::<Option<_>>().map(Self::Aliases)
            }
            "aliases" | "complex" => None,
            other => Some(Self::Other(other.to_owned())),
        }
    }
}

/// Whom an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One principal.
    Simple(Identifier),
    /// Several things that together say which (`complex`): what is known here of them.
    Complex {
        /// The person.
        user: Option<Identifier>,
        /// The agent.
        application: Option<Identifier>,
    },
}

impl Subject {
    /// Reads a `sub_id`; nothing where it is none.
    pub(super) fn parse(value: &Value) -> Option<Self> {
        if value.get("format").and_then(Value::as_str) != Some("complex") {
            return Identifier::parse(value, true).map(Self::Simple);
        }
        let member = |name: &str| match value.get(name) {
            None => Some(None),
            Some(value) => Identifier::parse(value, true).map(Some),
        };
        Some(Self::Complex { user: member("user")?, application: member("application")? })
    }
}

/// Who of this house is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whom {
    /// A person, as this house names people.
    pub person: Option<String>,
    /// Agents.
    pub agents: Vec<AgentName>,
    /// What was named, for the record.
    pub named: String,
}

impl Whom {
    /// Whether nobody of this house is meant.
    pub const fn is_nobody(&self) -> bool {
        self.person.is_none() && self.agents.is_empty()
    }
}

/// Who of this house `subject` is, as far as `transmitter` may speak of them. Fails where all that is named is another's.
///
/// A person and something of theirs, such as one session or one device, is the person: which executions are of which session of
/// another's is not known here.
pub fn whom(snapshot: &Snapshot, transmitter: &Transmitter, subject: &Subject) -> Result<Whom, NotTheirs> {
    let Some(issuer) = snapshot.issuers.get(&transmitter.of) else { return Err(NotTheirs) };
    let house = House { snapshot, transmitter, issuer };
    match subject {
        Subject::Simple(name) => house.find(name),
        Subject::Complex { user: Some(user), .. } => house.find(user),
        Subject::Complex { user: None, application: Some(application) } => house.find(application),
        Subject::Complex { user: None, application: None } => {
            Ok(Whom { named: "neither a user nor an application".to_owned(), ..Whom::default() })
        }
    }
}

/// The transmitter may not speak of this subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTheirs;

/// Where names are looked up.
struct House<'a> {
    snapshot: &'a Snapshot,
    transmitter: &'a Transmitter,
    issuer: &'a Issuer,
}

impl House<'_> {
    fn find(&self, name: &Identifier) -> Result<Whom, NotTheirs> {
        match name {
            Identifier::IssSub { iss, sub } if *iss == self.issuer.issuer => Ok(self.of_issuer(sub)),
            Identifier::IssSub { iss, sub } if *iss == self.snapshot.settings.identity.origin => self.own(sub),
            Identifier::IssSub { .. } => Err(NotTheirs),
            Identifier::Uri(uri) => match spiffe::Id::parse(uri) {
                Ok(id) if self.issuer.kind == Platform::Spiffe && spiffe::trust_domain(&self.issuer.issuer) == Some(id.trust_domain()) => {
                    Ok(self.of_issuer(uri))
                }
                Ok(_) => self.own(uri),
                Err(_) => Ok(Whom { named: shown(uri, 200), ..Whom::default() }),
            },
            Identifier::Aliases(names) => {
                // The same one under other names: those that it may not speak of say nothing.
                let mut found = names.iter().filter_map(|name| self.find(name).ok());
                let first = found.next().ok_or(NotTheirs)?;
                Ok(found.fold(first, |mut whom, more| {
                    whom.person = whom.person.or(more.person);
                    whom.agents.extend(more.agents);
                    whom.agents.sort();
                    whom.agents.dedup();
                    whom
                }))
            }
            Identifier::Other(format) => {
                Ok(Whom { named: format!("an identifier of the format `{}`", shown(format, 60)), ..Whom::default() })
            }
        }
    }

    /// Whom the issuer calls by this `sub`: the agents that are federated by it, or else a person.
    fn of_issuer(&self, sub: &str) -> Whom {
        let is_federated = |agent: &&crate::bundle::Agent| {
            agent
                .federation
                .iter()
                .any(|federation| federation.issuer == self.issuer.issuer && federation.claims.get("sub").map(String::as_str) == Some(sub))
        };
        let agents: Vec<AgentName> = self.snapshot.agents.values().filter(is_federated).map(|agent| agent.name.clone()).collect();
        let is_person = agents.is_empty() && self.transmitter.people && self.issuer.kind.knows_people() && sub.len() <= PERSON_BYTES_MAX;
        let person = is_person.then(|| format!("{}:{sub}", self.issuer.name));
        Whom { person, agents, named: shown(sub, 200) }
    }

    /// An agent of the house that the transmitter may speak of, by its own SPIFFE id.
    fn own(&self, id: &str) -> Result<Whom, NotTheirs> {
        let id: SpiffeId = id.parse().map_err(|_| NotTheirs)?;
        let may = *id.domain() == self.snapshot.settings.trust_domain && self.transmitter.agents.contains(id.agent());
        if !may {
            return Err(NotTheirs);
        }
        Ok(Whom { person: None, agents: vec![id.agent().clone()], named: id.to_string() })
    }
}
