//! Which execution of ours an event of CloudTrail is of.
//!
//! A role that is assumed with a token of ours leaves a session whose name, source identity or access key ties every call that it makes
//! to the execution that the token was issued to. A call with a role of ours that nothing ties to an execution was made by somebody
//! who has its credentials without having asked us.

use std::collections::{HashMap, HashSet};

use super::{Happened, Session};
use crate::detect::finding::{Detector, Evidence, Finding, Kind, Response};
use crate::model::{AgentName, ExecutionId, Record, Timestamp};

/// How long after its token was issued a session of AWS may live, in seconds: twelve hours, the longest that a role can grant.
const SESSION_S: i64 = 12 * 60 * 60;

/// How far the clock of AWS and ours may be apart, in seconds.
const CLOCKS_S: i64 = 300;

/// How many calls without an execution wait for the event that says whose their session is.
const WAITING_MAX: usize = 10_000;

/// Which roles are ours, and which executions may have assumed them.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// How the subjects of our tokens begin, `spiffe://<trust domain>/agent/`; empty where it is not known.
    subjects: String,
    /// The ARNs of our roles.
    roles: HashSet<String>,
    executions: HashMap<ExecutionId, Known>,
    /// Access keys of sessions that an execution was seen to begin.
    keys: HashMap<String, ExecutionId>,
    /// Agents and people by whom a session may be named, with their executions.
    named: HashMap<String, Vec<ExecutionId>>,
    /// Findings of calls without an execution, each with the access key that may yet turn out to be of one.
    waiting: Vec<(Session, Finding)>,
}

#[derive(Clone, Debug)]
struct Known {
    agent: AgentName,
    from: Timestamp,
    until: Timestamp,
}

/// A session that was begun with a token, as the event of `AssumeRoleWithWebIdentity` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// The role that was assumed.
    pub role: String,
    /// The subject of the token.
    pub subject: String,
    /// The name that the session was given.
    pub name: String,
    /// The access key that it got.
    pub access_key: String,
}

/// Whose an event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Of no role of ours: not ours to say.
    NotOurs,
    /// Of an execution.
    Execution {
        /// The execution.
        execution: ExecutionId,
        /// Its agent.
        agent: AgentName,
    },
    /// Made with a role of ours, and of no execution.
    NoExecution,
}

impl Sessions {
    /// The sessions of these roles, by their ARNs, and of every role that is assumed with a token for an agent of `trust_domain`.
    pub fn of(roles: impl IntoIterator<Item = String>, trust_domain: Option<&str>) -> Self {
        let subjects = trust_domain.map(|domain| format!("spiffe://{domain}/agent/")).unwrap_or_default();
        Self { roles: roles.into_iter().collect(), subjects, ..Self::default() }
    }

    /// How many roles are known as ours.
    pub fn roles(&self) -> usize {
        self.roles.len()
    }

    /// How many executions are known that may have assumed one.
    pub fn executions(&self) -> usize {
        self.executions.len()
    }

    /// Takes in a record of our log: a token that was issued to an execution for somebody else.
    pub fn learn(&mut self, record: &Record) {
        let Record::TokenIssued(issued) = record else { return };
        let Some(execution) = issued.execution else { return };
        // Until then a session may be begun with the token, and then live for as long as the role grants.
        let (from, until) = (seconds_after(issued.at, -CLOCKS_S), seconds_after(issued.expires, CLOCKS_S));
        let known = self.executions.entry(execution).or_insert_with(|| Known { agent: issued.agent.clone(), from, until });
        (known.from, known.until) = (known.from.min(from), known.until.max(until));
        for name in [Some(issued.agent.as_str()), issued.subject.as_deref()].into_iter().flatten() {
            let executions = self.named.entry(name.to_owned()).or_default();
            if !executions.contains(&execution) {
                executions.push(execution);
            }
        }
    }

    /// Takes in the beginning of a session: the role is ours if the token was for an agent of ours, and the access key is that of the
    /// execution that had a token then.
    pub fn begin(&mut self, begun: &Begun, at: Timestamp) -> Joined {
        let agent = begun.subject.strip_prefix(&self.subjects).filter(|_| !self.subjects.is_empty());
        let Some(agent) = agent else {
            return if self.roles.contains(&begun.role) { Joined::NoExecution } else { Joined::NotOurs };
        };
        self.roles.insert(begun.role.clone());
        let had_token = |execution: &ExecutionId| {
            self.executions.get(execution).filter(|known| known.agent.as_str() == agent && (known.from..=known.until).contains(&at))
        };
        let by_name = execution_in(&begun.name).filter(|execution| had_token(execution).is_some());
        let newest = || {
            let of_agent = self.named.get(agent).into_iter().flatten();
            of_agent.filter_map(|execution| Some((had_token(execution)?.from, *execution))).max().map(|(_, execution)| execution)
        };
        let Some(execution) = by_name.or_else(newest) else { return Joined::NoExecution };
        if !begun.access_key.is_empty() {
            self.keys.insert(begun.access_key.clone(), execution);
        }
        self.whose(execution)
    }

    /// Whose an event is: by the access key, else by the execution that the session's name or its source identity names, else by the
    /// agent or person that the source identity names, if one of their executions had a token that the session may stem from.
    pub fn join(&self, session: &Session, at: impl FnOnce() -> Timestamp) -> Joined {
        if !session.role.as_ref().is_some_and(|role| self.roles.contains(role)) {
            return Joined::NotOurs;
        }
        let by_key = session.access_key.as_ref().and_then(|key| self.keys.get(key)).copied();
        let by_name = || [&session.name, &session.source_identity].into_iter().flatten().find_map(|text| execution_in(text));
        if let Some(execution) = by_key.or_else(by_name).filter(|execution| self.executions.contains_key(execution)) {
            return self.whose(execution);
        }
        let named = session.source_identity.as_ref().and_then(|name| self.named.get(name));
        let at = at();
        let may_be = |execution: &&ExecutionId| {
            self.executions.get(*execution).is_some_and(|known| (known.from..=seconds_after(known.until, SESSION_S)).contains(&at))
        };
        match named.into_iter().flatten().rfind(may_be) {
            Some(execution) => self.whose(*execution),
            None => Joined::NoExecution,
        }
    }

    /// Whose a session is that is told by a role and an access key or a name alone: as [`Self::join`], and by the access key too where the
    /// role is not known as ours, which is named without its path.
    pub fn join_by(&self, session: &Session, at: Timestamp) -> Joined {
        let by_key = session.access_key.as_ref().and_then(|key| self.keys.get(key)).copied();
        by_key.map_or_else(|| self.join(session, || at), |execution| self.whose(execution))
    }

    fn whose(&self, execution: ExecutionId) -> Joined {
        match self.executions.get(&execution) {
            Some(known) => Joined::Execution { execution, agent: known.agent.clone() },
            None => Joined::NoExecution,
        }
    }

    /// Keeps the finding of a call without an execution until the event that may say whose its session is has come too; hands it back
    /// when too many wait.
    pub(super) fn wait(&mut self, session: Session, finding: Finding) -> Option<Finding> {
        self.waiting.push((session, finding));
        (self.waiting.len() > WAITING_MAX).then(|| self.waiting.remove(0).1)
    }

    /// The findings of calls whose sessions nothing has said the execution of.
    pub(super) fn finish(&mut self) -> Vec<Finding> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .into_iter()
            .filter(|(session, finding)| self.join(session, || finding.first) == Joined::NoExecution)
            .map(|(_, finding)| finding)
            .collect()
    }
}

/// The finding that a call with a role of ours and without an execution is.
pub(super) fn without_execution(session: &Session, happened: Happened) -> Finding {
    let detector = Detector {
        id: "aws-session-without-execution".to_owned(),
        catalogue: Some("ID-09".to_owned()),
        title: "AWS session without an execution".to_owned(),
        kind: Kind::Rule,
        tags: ["attack.initial-access", "attack.t1078.004", "atlas.aml.t0012", "owasp.asi03"].map(str::to_owned).to_vec(),
        guardduty: Some("CredentialAccess:IAMUser/AnomalousBehavior".to_owned()),
        falsepositives: vec!["A person or a pipeline that may assume the role beside the agents".to_owned()],
        response: Response::Revoke,
    };
    let Happened { at, proof, about } = happened;
    let operation = about.cloud.as_ref().map(|cloud| format!("{} {}", cloud.service, cloud.operation)).unwrap_or_default();
    let name = session.name.as_deref().or(session.source_identity.as_deref()).unwrap_or_default();
    let seen = format!(
        "The session `{}` of {} called {operation}, and no execution on the log had a token for it.",
        crate::model::shown(name, 64),
        crate::model::shown(session.role.as_deref().unwrap_or_default(), 256)
    );
    let evidence = Evidence { proof, at, says: seen.clone() };
    let expected = "Each session of an agent's role was begun with a token that an execution was issued.".to_owned();
    Finding::new(detector, about, evidence, expected, seen).weighing(8, 0.8)
}

/// The execution whose id stands in a text that AWS lets a session be named by.
fn execution_in(text: &str) -> Option<ExecutionId> {
    const ID_CHARS: usize = 36;
    text.parse().ok().or_else(|| text.get(text.len().checked_sub(ID_CHARS)?..)?.parse().ok())
}

fn seconds_after(at: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(at.as_second().saturating_add(seconds)).unwrap_or(at)
}
