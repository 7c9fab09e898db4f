//! What was approved and what was done (PE-07): an approval is for one exact call, once.

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::{Code, Kept, Who};
use crate::approval::Standing;
use crate::detect::finding::{Finding, Response};
use crate::model::{Answered, Digest, ExecutionId, Intent, Timestamp, ToolName, Verdict, call_digest};

/// How many answers are known.
const ANSWERS_MAX: usize = 16_384;

pub(super) const LAUNDERED: Code = Code {
    id: "approval-laundered",
    catalogue: "PE-07",
    title: "Another call is made than the one that was approved",
    expected: "What a person approved is what is done, once.",
    tags: &["attack.defense-impairment", "attack.t1565", "atlas.aml.t0067", "owasp.asi09"],
    guardduty: None,
    falsepositives: &["A log that was written by a program of another version"],
    response: Response::Revoke,
    impact: 9,
    confidence: 0.9,
};

/// What people answered of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Approvals(Kept<Position, Approved>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Approved {
    execution: ExecutionId,
    tool: ToolName,
    call: Digest,
    approved: bool,
    until: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Position>,
}

impl Approvals {
    pub(super) fn answered(&mut self, position: Position, answered: &Answered) {
        let Answered { execution, tool, call, approved, until, .. } = answered.clone();
        self.0.entry(position, ANSWERS_MAX, || Approved { execution, tool, call, approved, until, used: None });
    }

    pub(super) fn judged(&mut self, position: Position, intent: &Intent) -> Option<Finding> {
        let Some(Standing::Approved { answer, .. }) = &intent.facts.approval else { return None };
        if intent.decision.verdict != Verdict::Allow {
            return None;
        }
        let given = self.0.get_mut(answer)?;
        let wrong = given.wrong_with(position, intent)?;
        let Intent { agent, execution, subject, tool, .. } = intent;
        let who = Who { agent, execution: *execution, subject: subject.as_deref(), tool: Some(tool) };
        Some(LAUNDERED.finding(position, intent.at, who, format!("{agent} called {tool} by the approval in record {}, {wrong}.", answer.0)))
    }
}

impl Approved {
    fn wrong_with(&mut self, position: Position, intent: &Intent) -> Option<String> {
        if let Some(used) = self.used.filter(|used| *used != position) {
            return Some(format!("which record {} had used up", used.0));
        }
        self.used = Some(position);
        if !self.approved {
            return Some("which is a refusal".to_owned());
        }
        if self.execution != intent.execution {
            return Some(format!("which was given to execution {}", self.execution));
        }
        if self.tool != intent.tool {
            return Some(format!("which was given for {}", self.tool));
        }
        if intent.at > self.until {
            return Some(format!("which had ended at {}", self.until));
        }
        // Arguments that the log does not keep can be compared with nothing here.
        let made = intent.arguments.as_ref().and_then(|text| serde_json::from_str(text.get()).ok());
        let digest = made.map(|arguments| call_digest(&intent.method, &intent.tool, &arguments))?;
        (digest != self.call).then(|| "which was given for other arguments".to_owned())
    }
}
