//! Records of what was found out of the ordinary, and of what a person made of it.

use serde::{Deserialize, Serialize};

use super::{AgentName, Date, Digest, ExecutionId, Timestamp, ToolName};
use crate::detect::finding::{Finding, Level};

/// How long the record of a finding may become, in bytes: less than an entry of the log may have.
pub const FOUND_BYTES_MAX: usize = 60_000;

/// How much of one sentence of a finding is recorded where all of it is too long, in characters.
const SENTENCE_CHARS_MAX: usize = 500;

/// Something was found. Written when it is new, and again when it happened twice as often or is of a higher level: the newest record of
/// an id says how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// When this was written.
    pub at: Timestamp,
    /// The agent, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// How much it matters.
    pub code: Level,
    /// Who sent it, where it was not found in this log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What was found.
    pub finding: Finding,
}

impl Found {
    /// The record of a finding. Where it would be longer than [`FOUND_BYTES_MAX`], evidence from the middle is left out, and then the
    /// ends of sentences; the name stays what it is.
    pub fn new(at: Timestamp, mut finding: Finding, by: Option<String>) -> Self {
        while finding.evidence.len() > 2 && length(&finding) > FOUND_BYTES_MAX {
            finding.evidence.remove(finding.evidence.len() / 2);
        }
        if length(&finding) > FOUND_BYTES_MAX {
            let says = finding.evidence.iter_mut().map(|evidence| &mut evidence.says);
            for sentence in says.chain([&mut finding.expected, &mut finding.seen]).chain(&mut finding.detector.falsepositives) {
                *sentence = sentence.chars().take(SENTENCE_CHARS_MAX).collect();
            }
        }
        let about = finding.about.clone();
        let (agent, execution, subject, tool) = (about.agent, about.execution, about.subject, about.tool);
        Self { at, agent, execution, subject, tool, code: finding.level(), by, finding }
    }

    /// Whether it is short enough to be recorded.
    pub fn fits(&self) -> bool {
        length(self) <= FOUND_BYTES_MAX + 4_096
    }
}

fn length(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// What a finding turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// What it looked like.
    TruePositive,
    /// Not what it looked like: what raised it was wrong.
    FalsePositive,
    /// What it looked like, and allowed.
    Benign,
}

impl Settlement {
    /// The word that records use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TruePositive => "true_positive",
            Self::FalsePositive => "false_positive",
            Self::Benign => "benign",
        }
    }
}

/// A person said what a finding is, and closed it: what comes of the kind later is a finding of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// When.
    pub at: Timestamp,
    /// The finding, by its id.
    pub finding: Digest,
    /// What raised it, by its id: so surely is it right from now on.
    pub detector: String,
    /// The agent, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// What it turned out to be.
    pub code: Settlement,
    /// What was said of it before, where this is not the first that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Settlement>,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What was learned of agents went back to what it was at the end of a day: since then somebody taught what is not usual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// When.
    pub at: Timestamp,
    /// Whose baseline, as it is shown: the tenant and the roles; all, where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The day, UTC, whose end it went back to, or the newest before it of which there was a snapshot.
    pub to: Date,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
}
