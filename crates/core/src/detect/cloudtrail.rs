//! What AWS says was done in it: the events of CloudTrail, read from what it delivers, judged by rules and joined to executions.
//!
//! Everything is a function of bytes that are handed in; whoever reads files, or unpacks them, is outside.

mod client;
pub mod digest;
mod join;
mod known;
mod split;
#[cfg(test)]
mod tests;
mod used;

use std::sync::Arc;

pub use self::client::Client;
use self::join::without_execution;
pub use self::join::{Begun, Joined, Sessions};
use self::known::Known;
pub use self::split::{Broken, Piece, Splitter};
use self::used::{Uses, used_elsewhere};
use super::finding::{About, Cloud, Finding, Proof};
use super::rules::{Event, Happened, NotAnEvent, Path, Reader, Rules, Scratch, Watch};
use crate::model::Timestamp;

/// How many of the newest events are known by their ids, so that one that is delivered twice counts once.
const IDS_MAX: usize = 1 << 20;

/// How many of the newest triples of principal, client and API are known.
const TRIPLES_MAX: usize = 1 << 18;

/// Rules over the events of CloudTrail, and what they remember.
#[derive(Debug)]
pub struct Trail {
    watch: Watch,
    sessions: Sessions,
    fields: Fields,
    reader: Reader,
    scratch: Scratch,
    ids: Known,
    triples: Known,
    uses: Uses,
    /// Whether any rule wants to know what somebody does for the first time.
    is_gated: bool,
    seen: Seen,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events, each once.
    pub events: u64,
    /// Events that were delivered again.
    pub duplicates: u64,
    /// Events of a version of the format that is newer than any that was known when this was written; read like the others.
    pub unknown_versions: u64,
    /// Events without a time that can be read; their findings are at the epoch.
    pub without_time: u64,
}

/// The newest major version of the format of events that is known.
const EVENT_VERSION_MAJOR: &str = "1.";

#[derive(Debug)]
struct Fields {
    id: Path,
    time: Path,
    version: Path,
    source: Path,
    name: Path,
    agent: Path,
    region: Path,
    address: Path,
    error: Path,
    account: Path,
    recipient: Path,
    identity: Path,
    principal_id: Path,
    arn: Path,
    issuer: Path,
    invoked_by: Path,
    access_key: Path,
    source_identity: Path,
    user_name: Path,
    begun_role: Path,
    begun_name: Path,
    begun_subject: Path,
    begun_key: Path,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            id: Path::new("eventID"),
            time: Path::new("eventTime"),
            version: Path::new("eventVersion"),
            source: Path::new("eventSource"),
            name: Path::new("eventName"),
            agent: Path::new("userAgent"),
            region: Path::new("awsRegion"),
            address: Path::new("sourceIPAddress"),
            error: Path::new("errorCode"),
            account: Path::new("userIdentity.accountId"),
            recipient: Path::new("recipientAccountId"),
            identity: Path::new("userIdentity.type"),
            principal_id: Path::new("userIdentity.principalId"),
            arn: Path::new("userIdentity.arn"),
            issuer: Path::new("userIdentity.sessionContext.sessionIssuer.arn"),
            invoked_by: Path::new("userIdentity.invokedBy"),
            access_key: Path::new("userIdentity.accessKeyId"),
            source_identity: Path::new("userIdentity.sessionContext.sourceIdentity"),
            user_name: Path::new("userIdentity.userName"),
            begun_role: Path::new("requestParameters.roleArn"),
            begun_name: Path::new("requestParameters.roleSessionName"),
            begun_subject: Path::new("responseElements.subjectFromWebIdentityToken"),
            begun_key: Path::new("responseElements.credentials.accessKeyId"),
        }
    }
}

impl Trail {
    /// Rules that have seen nothing, and the sessions that executions of ours may have.
    pub fn new(rules: Arc<Rules>, sessions: Sessions) -> Self {
        Self {
            is_gated: rules.any_is_gated(),
            watch: Watch::new(rules),
            sessions,
            fields: Fields::default(),
            reader: Reader::new(),
            scratch: Scratch::default(),
            ids: Known::of(IDS_MAX),
            triples: Known::of(TRIPLES_MAX),
            uses: Uses::default(),
            seen: Seen::default(),
        }
    }

    /// What was read so far.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Judges one event: what the rules find, and whether it was done by an execution of ours. Events may come in any order, and
    /// more than once.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Finding>, NotAnEvent> {
        let Self { watch, sessions, fields, reader, scratch, ids, triples, uses, is_gated, seen } = self;
        let event = reader.read(bytes)?;
        if let Some(id) = event.string(&fields.id)
            && !ids.is_new(&[&id])
        {
            seen.duplicates += 1;
            return Ok(Vec::new());
        }
        seen.events += 1;
        if !event.string(&fields.version).is_some_and(|version| version.starts_with(EVENT_VERSION_MAJOR)) {
            seen.unknown_versions += 1;
        }
        let is_first = !*is_gated || {
            let [agent, source, name] = [&fields.agent, &fields.source, &fields.name].map(|path| event.string(path).unwrap_or_default());
            triples.is_new(&[&fields.principal(event), Client::of(&agent).as_str(), &source, &name])
        };
        let time = || event.string(&fields.time).and_then(|time| time.parse::<Timestamp>().ok());
        let mut without_time = false;
        let mut happened = || {
            let at = time();
            without_time |= at.is_none();
            Happened { at: at.unwrap_or(Timestamp::UNIX_EPOCH), proof: fields.proof(event), about: fields.about(event) }
        };
        let begun = fields.begun(event);
        let session = match &begun {
            Some(begun) => Session { role: Some(begun.role.clone()), name: Some(begun.name.clone()), ..Session::default() },
            None => fields.session(event),
        };
        let joined = match &begun {
            Some(begun) => sessions.begin(begun, time().unwrap_or(Timestamp::UNIX_EPOCH)),
            None => sessions.join(&session, || time().unwrap_or(Timestamp::UNIX_EPOCH)),
        };
        let mut findings = watch.see(event, scratch, is_first, &mut happened);
        if let Joined::Execution { execution, agent } = &joined {
            for finding in &mut findings {
                (finding.about.execution, finding.about.agent) = (Some(*execution), Some(agent.clone()));
            }
        }
        if let (Joined::Execution { .. }, Some(key)) = (&joined, &session.access_key) {
            let address = event.string(&fields.address).unwrap_or_default();
            let agent = event.string(&fields.agent).unwrap_or_default();
            if let Some(seen) = uses.used(key, &address, &agent) {
                let mut finding = used_elsewhere(&session, happened(), seen);
                if let Joined::Execution { execution, agent } = &joined {
                    (finding.about.execution, finding.about.agent) = (Some(*execution), Some(agent.clone()));
                }
                findings.push(finding);
            }
        }
        if joined == Joined::NoExecution {
            let finding = without_execution(&session, happened());
            // What begins a session says all that there is to say of it; of a call, another event may.
            findings.extend(if begun.is_some() { Some(finding) } else { sessions.wait(session, finding) });
        }
        seen.without_time += u64::from(without_time);
        Ok(findings)
    }

    /// What is found once everything was read: the calls whose session no event has tied to an execution, wherever in the files that
    /// event may have stood.
    pub fn finish(&mut self) -> Vec<Finding> {
        self.sessions.finish()
    }

    /// How many rules there are, and how many correlations.
    pub fn rules(&self) -> (usize, usize) {
        self.watch.rules().len()
    }

    /// The sessions of our roles.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

/// By what an event can be told to be of an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The role that was assumed, by its ARN.
    pub role: Option<String>,
    /// The name of the session.
    pub name: Option<String>,
    /// The source identity.
    pub source_identity: Option<String>,
    /// The access key.
    pub access_key: Option<String>,
}

impl Fields {
    /// Who acted: the role rather than one session of it, else the user, else the service.
    fn principal<'a>(&self, event: Event<'a>) -> std::borrow::Cow<'a, str> {
        let ways = [&self.issuer, &self.arn, &self.principal_id, &self.invoked_by, &self.user_name];
        ways.into_iter().find_map(|path| event.string(path)).unwrap_or_default()
    }

    fn proof(&self, event: Event<'_>) -> Proof {
        match event.string(&self.id) {
            Some(id) => Proof::Event(crate::model::shown(&id, 64)),
            // Nothing names it but its own text.
            None => Proof::Event(crate::model::Digest::of(event.text().as_bytes()).to_string()),
        }
    }

    fn session(&self, event: Event<'_>) -> Session {
        let text = |path: &Path| event.string(path).map(std::borrow::Cow::into_owned);
        let role = text(&self.issuer).or_else(|| text(&self.arn).and_then(|arn| role_of(&arn)));
        let Some(role) = role else { return Session::default() };
        let name = text(&self.arn).and_then(|arn| Some(arn.split_once(":assumed-role/")?.1.split_once('/')?.1.to_owned()));
        Session { role: Some(role), name, source_identity: text(&self.source_identity), access_key: text(&self.access_key) }
    }

    /// The session that the event is the beginning of.
    fn begun(&self, event: Event<'_>) -> Option<Begun> {
        if event.string(&self.name)? != "AssumeRoleWithWebIdentity" {
            return None;
        }
        let text = |path: &Path| event.string(path).map(std::borrow::Cow::into_owned).unwrap_or_default();
        Some(Begun {
            role: text(&self.begun_role),
            subject: text(&self.begun_subject),
            name: text(&self.begun_name),
            access_key: text(&self.begun_key),
        })
    }

    fn about(&self, event: Event<'_>) -> About {
        let text = |path: &Path| event.string(path).map(|text| crate::model::shown(&text, 256)).unwrap_or_default();
        let arn = text(&self.arn);
        About {
            cloud: Some(Cloud {
                account: event.string(&self.recipient).or_else(|| event.string(&self.account)).unwrap_or_default().into_owned(),
                region: text(&self.region),
                principal: crate::model::shown(&self.principal(event), 256),
                principal_type: text(&self.identity),
                principal_id: text(&self.principal_id),
                access_key: text(&self.access_key),
                session: arn
                    .split_once(":assumed-role/")
                    .and_then(|(_, rest)| rest.split_once('/'))
                    .map(|(_, name)| name.to_owned())
                    .unwrap_or_default(),
                service: text(&self.source),
                operation: text(&self.name),
                address: text(&self.address),
                error: text(&self.error),
            }),
            ..About::default()
        }
    }
}

/// The role of `arn:aws:sts::111122223333:assumed-role/Role/session`, as IAM names it.
fn role_of(arn: &str) -> Option<String> {
    let (before, rest) = arn.split_once(":assumed-role/")?;
    let (role, _) = rest.split_once('/')?;
    Some(format!("{}:role/{role}", before.replacen(":sts:", ":iam:", 1)))
}
