//! A finding: something out of the ordinary, in words that a person can check.
//!
//! Rules and baselines raise the same shape. A finding says what was expected, what was seen, which records prove it and how sure
//! it is; how it looks to other programs is [`ocsf`], [`guardduty`] and [`asff`].

mod asff;
mod book;
mod guardduty;
mod ocsf;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::asff::asff;
pub use self::book::{Findings, Noted};
pub use self::guardduty::guardduty;
pub use self::ocsf::ocsf;
use crate::model::{AgentName, Digest, ExecutionId, Timestamp, ToolName};

/// How many pieces of evidence a finding keeps: the first ones, by which it is named, and the newest.
pub const EVIDENCE_MAX: usize = 32;

/// Something out of the ordinary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its name: the digest of what raised it, whom it is about and the first thing that proves it. Whoever judges the same records
    /// again gives it the same name.
    pub id: Digest,
    /// What raised it.
    pub detector: Detector,
    /// Whom and what it is about.
    pub about: About,
    /// When the first of it happened.
    pub first: Timestamp,
    /// When the last of it happened.
    pub last: Timestamp,
    /// How often it happened.
    pub count: u64,
    /// What would have been in order.
    pub expected: String,
    /// What was seen instead.
    pub seen: String,
    /// What proves it, in the order of time; at most [`EVIDENCE_MAX`].
    pub evidence: Vec<Evidence>,
    /// How bad it is if it is what it looks like, from 1 to 10.
    pub impact: u8,
    /// How sure it is that it is that, from 0 to 1.
    pub confidence: f64,
}

/// What raised a finding, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// Its stable name: a Sigma rule's `id`, or the name of a baseline's score.
    pub id: String,
    /// The entry of the catalogue that it is, such as `PE-01`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<String>,
    /// What it is called.
    pub title: String,
    /// Of which kind it is.
    pub kind: Kind,
    /// Sigma tags: `attack.t1580`, `attack.discovery`, `atlas.aml.t0084.001`, `owasp.asi02`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The finding type of Amazon GuardDuty that it resembles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardduty: Option<String>,
    /// What else may look like this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub falsepositives: Vec<String>,
    /// What its author would have done about it; whether that is done is the operator's to say.
    pub response: Response,
}

/// How something was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A rule over one record.
    Rule,
    /// A rule over several records and the time between them.
    Correlation,
    /// A learned baseline.
    Behaviour,
    /// Another detector says so, such as Amazon GuardDuty.
    Reported,
    /// Several findings about the same execution or principal within an hour, of at least three tactics.
    Sequence,
}

/// What is to be done about a finding, from nothing but the record to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It is on the record, and that is all.
    Record,
    /// People are told.
    Notify,
    /// Policy sees the agent as suspect.
    Lower,
    /// Each effect of the agent needs a person.
    Ask,
    /// The agent is stopped until it is released.
    Quarantine,
    /// The credentials of the execution and of all that descends from it are taken back.
    Revoke,
}

impl Response {
    /// Every response, from the least to the most.
    pub const ALL: [Self; 6] = [Self::Record, Self::Notify, Self::Lower, Self::Ask, Self::Quarantine, Self::Revoke];

    /// The word that rules and records use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Notify => "notify",
            Self::Lower => "lower",
            Self::Ask => "ask",
            Self::Quarantine => "quarantine",
            Self::Revoke => "revoke",
        }
    }
}

/// Whom and what a finding is about, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// On whose behalf it acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// In a cloud: who acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,
}

/// Who acted in AWS, as CloudTrail has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloud {
    /// The account that the event is in.
    pub account: String,
    /// The region.
    pub region: String,
    /// The role or user, or the service.
    pub principal: String,
    /// What kind of identity it is (`userIdentity.type`).
    pub principal_type: String,
    /// The identifier of the principal (`userIdentity.principalId`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub principal_id: String,
    /// The access key by which it acted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub access_key: String,
    /// The session's name, where a role was assumed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// The service that was called, such as `iam.amazonaws.com`.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// The address that it came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// How it failed, where it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl About {
    /// The one whose findings belong together: the execution, else the agent, else the principal in the cloud.
    pub fn whose(&self) -> String {
        match (&self.execution, &self.agent, &self.cloud) {
            (Some(execution), ..) => execution.to_string(),
            (None, Some(agent), _) => agent.to_string(),
            (None, None, Some(cloud)) => format!("{}|{}", cloud.account, cloud.principal),
            (None, None, None) => String::new(),
        }
    }
}

/// One thing that proves a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub proof: Proof,
    /// When it happened.
    pub at: Timestamp,
    /// What it was, in a sentence.
    pub says: String,
}

/// Where a piece of evidence can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A record of our log, by its position.
    Record(u64),
    /// An event of CloudTrail, by its `eventID`.
    Event(String),
    /// A file that was delivered.
    File(String),
    /// A finding of another detector, by its id there.
    Reported(String),
}

impl Finding {
    /// A finding about one thing that happened.
    pub fn new(detector: Detector, about: About, evidence: Evidence, expected: String, seen: String) -> Self {
        let mut finding = Self {
            id: Digest::of(b""),
            about,
            first: evidence.at,
            last: evidence.at,
            count: 1,
            expected,
            seen,
            evidence: vec![evidence],
            impact: 5,
            confidence: 0.5,
            detector,
        };
        finding.id = finding.name();
        finding
    }

    /// The same, proven by these, which are not all about the same moment. They are put into the order of time.
    #[must_use]
    pub fn proven_by(mut self, mut evidence: Vec<Evidence>) -> Self {
        evidence.sort_by(|one, other| one.at.cmp(&other.at).then_with(|| one.proof.cmp(&other.proof)));
        if let (Some(first), Some(last)) = (evidence.first(), evidence.last()) {
            (self.first, self.last, self.count) = (first.at, last.at, evidence.len() as u64);
            self.evidence = evidence;
            self.cut();
            self.id = self.name();
        }
        self
    }

    /// The same, as bad as `impact` (1 to 10) and as sure as `confidence` (0 to 1).
    #[must_use]
    pub fn weighing(mut self, impact: u8, confidence: f64) -> Self {
        self.impact = impact.clamp(1, 10);
        self.confidence = if confidence.is_finite() { confidence.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// How much it matters, from 0 to 10, to a tenth: the impact, of which 40 % count however unsure it is.
    pub fn severity(&self) -> f64 {
        (f64::from(self.impact) * (0.4 + 0.6 * self.confidence) * 10.0).round() / 10.0
    }

    /// The same as a word.
    pub fn level(&self) -> Level {
        Level::of(self.severity())
    }

    /// Equal findings have the same key: what raised them and whom they are about.
    pub fn key(&self) -> String {
        format!("{}|{}", self.detector.id, self.about.whose())
    }

    /// The tactics of ATT&CK that it is tagged with, as Sigma writes them.
    pub fn tactics(&self) -> impl Iterator<Item = &str> {
        self.detector.tags.iter().filter_map(|tag| tag.strip_prefix("attack.")).filter(|tag| is_tactic(tag))
    }

    /// Takes in an equal finding.
    fn absorb(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        // What an attack consists of is counted anew with each of its steps.
        self.count =
            if self.detector.kind == Kind::Sequence { self.count.max(other.count) } else { self.count.saturating_add(other.count) };
        self.confidence = self.confidence.max(other.confidence);
        self.impact = self.impact.max(other.impact);
        self.evidence.extend(other.evidence);
        self.evidence.sort_by(|one, other| one.at.cmp(&other.at).then_with(|| one.proof.cmp(&other.proof)));
        self.evidence.dedup_by(|one, other| one.proof == other.proof);
        self.cut();
    }

    /// Keeps the first and the newest evidence, and leaves out what is between.
    fn cut(&mut self) {
        if let Some(over) = self.evidence.len().checked_sub(EVIDENCE_MAX) {
            self.evidence.drain(EVIDENCE_MAX / 2..EVIDENCE_MAX / 2 + over);
        }
    }

    fn name(&self) -> Digest {
        let proof = self.evidence.first().map(|evidence| format!("{:?}", evidence.proof)).unwrap_or_default();
        Digest::of(format!("{}\n{proof}", self.key()).as_bytes())
    }
}

/// Whether a Sigma tag names a tactic of ATT&CK rather than a technique, a group or a program.
fn is_tactic(tag: &str) -> bool {
    const TACTICS: [&str; 15] = [
        "reconnaissance",
        "resource-development",
        "initial-access",
        "execution",
        "persistence",
        "privilege-escalation",
        "defense-evasion",
        // Since version 19 of ATT&CK, two in the place of `defense-evasion`.
        "defense-impairment",
        "stealth",
        "credential-access",
        "discovery",
        "lateral-movement",
        "collection",
        "exfiltration",
        "impact",
    ];
    TACTICS.contains(&tag)
}

/// A severity as a word, by the ranges that GuardDuty has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Below 4.
    Low,
    /// 4 to below 7.
    Medium,
    /// 7 to below 9.
    High,
    /// 9 and above.
    Critical,
}

impl Level {
    /// The level of a severity.
    pub fn of(severity: f64) -> Self {
        match severity {
            severity if severity >= 9.0 => Self::Critical,
            severity if severity >= 7.0 => Self::High,
            severity if severity >= 4.0 => Self::Medium,
            _ => Self::Low,
        }
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}
