//! What Amazon GuardDuty found, as findings of ours: read from EventBridge's events, from what it exports to S3 and from what
//! `aws guardduty get-findings` prints, and joined to executions as the events of CloudTrail are.
//!
//! GuardDuty says the same finding again when more of it happens, and EventBridge may deliver an event twice. Each is known by
//! GuardDuty's id; what is older than what was taken in, or the same, is left out.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde_json::Value;

use super::cloudtrail::{Joined, Session};
use super::finding::{About, Cloud, Detector, Evidence, Finding, Kind, Proof, Response};
use crate::json;
use crate::model::{AgentName, ExecutionId, Timestamp, shown};

/// The longest finding that is read, in bytes: four times what EventBridge carries.
pub const FINDING_BYTES_MAX: usize = 1 << 20;

/// How many findings are known by their ids.
const KNOWN_MAX: usize = 100_000;

const DEPTH_MAX: usize = 48;

/// A text that is no finding of GuardDuty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAFinding {
    /// It is not one JSON object within bounds.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is an event of something else.
    #[error("it is no finding of GuardDuty, but {0}")]
    Other(String),
    /// A member is missing or is not what it should be.
    #[error("`{0}` is missing, or is not what it should be")]
    Member(&'static str),
}

/// Whose a session of AWS is, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// The execution that had it.
    pub execution: Option<ExecutionId>,
    /// The agent.
    pub agent: Option<AgentName>,
    /// Whether it is of a role of the agents.
    pub is_ours: bool,
}

impl From<Joined> for Whose {
    fn from(joined: Joined) -> Self {
        match joined {
            Joined::NotOurs => Self::default(),
            Joined::Execution { execution, agent } => Self { execution: Some(execution), agent: Some(agent), is_ours: true },
            Joined::NoExecution => Self { is_ours: true, ..Self::default() },
        }
    }
}

/// Says whose a session of AWS is that was in use at a time.
pub type Join<'a> = &'a dyn Fn(&Session, Timestamp) -> Whose;

/// Takes in what GuardDuty found.
#[derive(Clone, Debug, Default)]
pub struct GuardDuty {
    /// Of each finding, by its id: how often it had happened when it was taken in last, and when that was said.
    known: HashMap<String, (u64, Timestamp)>,
    seen: Seen,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Findings, each as often as it said something new.
    pub findings: u64,
    /// Those that said nothing new.
    pub repeated: u64,
    /// Those that somebody had put aside in GuardDuty, which are left out.
    pub archived: u64,
    /// Those that are of an account that is not taken.
    pub of_others: u64,
}

impl GuardDuty {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was read so far.
    pub const fn seen(&self) -> Seen {
        self.seen
    }

    /// Takes in one text: an event of EventBridge, a finding, or a list of findings under `Findings`. Of `accounts`, where any is
    /// named, the others' are left out. Fails without having taken in anything.
    pub fn take(&mut self, bytes: &[u8], accounts: &[String], join: Join<'_>) -> Result<Vec<Finding>, NotAFinding> {
        let limits = json::Limits { bytes_max: FINDING_BYTES_MAX, depth_max: DEPTH_MAX };
        let value = json::parse(bytes, &limits).map_err(|error| NotAFinding::NotJson(error.to_string()))?;
        let all: Vec<&Value> = match (get(&value, &["detail"]), get(&value, &["Findings"]).and_then(Value::as_array)) {
            (Some(detail), _) => {
                let kind = text(&value, &["detail-type"]);
                if kind != "GuardDuty Finding" {
                    return Err(NotAFinding::Other(format!("`{}`", shown(&kind, 80))));
                }
                vec![detail]
            }
            (None, Some(list)) => list.iter().collect(),
            (None, None) => vec![&value],
        };
        // All of it or nothing: what was not taken in is not known either.
        let read: Vec<Read> = all.into_iter().map(Read::of).collect::<Result<_, _>>()?;
        Ok(read.into_iter().filter_map(|read| self.one(read, accounts, join)).collect())
    }

    fn one(&mut self, read: Read, accounts: &[String], join: Join<'_>) -> Option<Finding> {
        if !accounts.is_empty() && !accounts.contains(&read.cloud.account) {
            self.seen.of_others += 1;
            return None;
        }
        if read.is_archived {
            self.seen.archived += 1;
            return None;
        }
        let newest = (read.count, read.updated);
        match self.known.get(&read.id) {
            Some(known) if newest.0 <= known.0 && newest.1 <= known.1 => {
                self.seen.repeated += 1;
                return None;
            }
            _ => {}
        }
        if self.known.len() >= KNOWN_MAX {
            // Which go makes little difference: one that comes again is told of again, under the name that it had.
            self.known.clear();
        }
        self.known.insert(read.id.clone(), newest);
        self.seen.findings += 1;
        let whose = join(&read.session, read.last);
        Some(read.into_finding(whose))
    }
}

/// What is read of one finding.
struct Read {
    id: String,
    kind: String,
    title: String,
    description: String,
    severity: f64,
    count: u64,
    first: Timestamp,
    last: Timestamp,
    updated: Timestamp,
    is_archived: bool,
    is_sample: bool,
    session: Session,
    cloud: Cloud,
}

impl Read {
    fn of(said: &Value) -> Result<Self, NotAFinding> {
        let wanted =
            |path: &'static [&'static str], name| Some(text(said, path)).filter(|text| !text.is_empty()).ok_or(NotAFinding::Member(name));
        let time = |path: &[&str]| text(said, path).parse::<Timestamp>().ok();
        let id = wanted(&["id"], "id")?;
        let kind = wanted(&["type"], "type")?;
        let severity = get(said, &["severity"]).and_then(Value::as_f64).filter(|severity| (0.0..=10.0).contains(severity));
        let severity = severity.ok_or(NotAFinding::Member("severity"))?;
        let updated = time(&["updatedAt"]).or_else(|| time(&["createdAt"])).ok_or(NotAFinding::Member("updatedAt"))?;
        let last = time(&["service", "eventLastSeen"]).unwrap_or(updated);
        let first = time(&["service", "eventFirstSeen"]).unwrap_or(last).min(last);
        let key = |name: &str| text(said, &["resource", "accessKeyDetails", name]);
        let account = text(said, &["accountId"]);
        let (user, user_type, principal) = (key("userName"), key("userType"), key("principalId"));
        // `AROA…:session` of a role, `AIDA…` of a user.
        let session = principal.split_once(':').map(|(_, name)| name.to_owned()).unwrap_or_default();
        let partition = Some(text(said, &["partition"])).filter(|text| !text.is_empty()).unwrap_or_else(|| "aws".to_owned());
        let is_role = user_type == "AssumedRole" || user_type == "Role";
        let arn = match (user.is_empty(), is_role) {
            (true, _) => String::new(),
            (false, true) => format!("arn:{partition}:iam::{account}:role/{user}"),
            (false, false) => format!("arn:{partition}:iam::{account}:user/{user}"),
        };
        let call = |name: &str| text(said, &["service", "action", "awsApiCallAction", name]);
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let address = |action: &str| text(said, &["service", "action", action, "remoteIpDetails", "ipAddressV4"]);
        let address = ["awsApiCallAction", "networkConnectionAction", "kubernetesApiCallAction", "rdsLoginAttemptAction"]
            .into_iter()
            .map(address)
            .find(|address| !address.is_empty());
        let cut = |text: String| shown(&text, 256);
        Ok(Self {
            session: Session {
                role: some(&arn).filter(|_| is_role),
                name: some(&session),
                source_identity: None,
                access_key: some(&key("accessKeyId")),
            },
            cloud: Cloud {
                account: cut(account),
                region: cut(text(said, &["region"])),
                principal: cut(if arn.is_empty() { text(said, &["resource", "resourceType"]) } else { arn }),
                principal_type: cut(user_type),
                principal_id: cut(principal),
                access_key: cut(key("accessKeyId")),
                session: cut(session),
                service: cut(call("serviceName")),
                operation: cut(call("api")),
                address: cut(address.unwrap_or_default()),
                error: cut(call("errorCode")),
            },
            id: shown(&id, 128),
            kind: shown(&kind, 128),
            title: shown(&text(said, &["title"]), 300),
            description: shown(&text(said, &["description"]), 1_000),
            severity,
            count: get(said, &["service", "count"]).and_then(Value::as_u64).unwrap_or(1).max(1),
            first,
            last,
            updated,
            is_archived: get(said, &["service", "archived"]).and_then(Value::as_bool).unwrap_or(false),
            is_sample: is_sample(said),
        })
    }

    fn into_finding(self, whose: Whose) -> Finding {
        let Whose { execution, agent, is_ours } = whose;
        let response = match (self.is_sample, is_ours, self.severity) {
            (true, ..) => Response::Record,
            (_, true, severity) if severity >= 7.0 => Response::Revoke,
            (_, _, severity) if severity >= 4.0 => Response::Notify,
            _ => Response::Record,
        };
        let mut falsepositives = vec!["What GuardDuty's own documentation lists for this type".to_owned()];
        if self.is_sample {
            falsepositives.insert(0, "It is a sample, as somebody asked GuardDuty for".to_owned());
        }
        let detector = Detector {
            id: format!("guardduty/{}", self.kind),
            catalogue: None,
            title: if self.title.is_empty() { self.kind.clone() } else { self.title.clone() },
            kind: Kind::Reported,
            tags: tactic(&self.kind).map(|tactic| format!("attack.{tactic}")).into_iter().collect(),
            guardduty: Some(self.kind.clone()),
            falsepositives,
            response,
        };
        let about = About { agent, execution, subject: None, tool: None, cloud: Some(self.cloud) };
        let seen = if self.description.is_empty() { detector.title.clone() } else { self.description };
        let evidence = Evidence { proof: Proof::Reported(self.id), at: self.last, says: format!("GuardDuty found {}.", self.kind) };
        let expected = "GuardDuty finds nothing.".to_owned();
        // Its severity is the one of ours that this impact and confidence come to.
        let impact = self.severity.ceil().clamp(1.0, 10.0);
        let confidence = (self.severity / impact - 0.4) / 0.6;
        let mut finding = Finding::new(detector, about, evidence, expected, seen).weighing(impact as u8, confidence);
        (finding.first, finding.last, finding.count) = (self.first, self.last, self.count);
        finding
    }
}

/// The tactic of ATT&CK that a type's purpose is, `UnauthorizedAccess` of `UnauthorizedAccess:IAMUser/…`.
fn tactic(kind: &str) -> Option<&'static str> {
    Some(match kind.split(':').next()? {
        "Recon" | "Discovery" => "discovery",
        "UnauthorizedAccess" | "InitialAccess" => "initial-access",
        "CredentialAccess" => "credential-access",
        "DefenseEvasion" | "Stealth" => "stealth",
        "Policy" => "defense-impairment",
        "Execution" | "Trojan" => "execution",
        "Exfiltration" => "exfiltration",
        "Impact" | "CryptoCurrency" => "impact",
        "Persistence" | "Backdoor" => "persistence",
        "PrivilegeEscalation" => "privilege-escalation",
        _ => return None,
    })
}

/// Whether it is one that GuardDuty made up when somebody asked for samples.
fn is_sample(said: &Value) -> bool {
    let additional = get(said, &["service", "additionalInfo"]);
    let own = additional.and_then(|info| get(info, &["sample"])).and_then(Value::as_bool).unwrap_or(false);
    // `get-findings` has the same as a text of JSON.
    let value = additional.map(|info| text(info, &["value"])).unwrap_or_default();
    own || serde_json::from_str::<Value>(&value).is_ok_and(|value| value.get("sample") == Some(&Value::Bool(true)))
}

/// The member at the end of a path. EventBridge and the export begin names with a small letter, the command line with a capital one.
fn get<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| {
        value.get(name).or_else(|| {
            let (first, rest) = name.split_at_checked(1)?;
            value.get(format!("{}{rest}", first.to_ascii_uppercase()))
        })
    })
}

fn text(value: &Value, path: &[&str]) -> String {
    get(value, path).and_then(Value::as_str).unwrap_or_default().to_owned()
}
