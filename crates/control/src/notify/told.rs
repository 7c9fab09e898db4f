//! What is told of a finding: one thing, of which each receiver gets its own form.

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::detect::finding::{Level, Proof};
use bailiwick_core::model::{Found, Responded, ResponseEnd, shown};
use bailiwick_log::Position;
use serde_json::{Value, json};

/// How much of one text a person is shown, in characters.
const CHARS_MAX: usize = 600;

/// What is told.
#[derive(Debug)]
pub(super) struct Told {
    /// The record of what was done.
    pub(super) record: Position,
    pub(super) found: Found,
    pub(super) responded: Responded,
    pub(super) trust_domain: String,
    /// The host by which others know this gateway.
    pub(super) host: String,
}

impl Told {
    pub(super) fn new(record: Position, found: Found, responded: Responded, snapshot: &Snapshot) -> Self {
        let settings = &snapshot.settings;
        let host = settings.data.origin.parse::<http::Uri>().ok().and_then(|origin| origin.host().map(str::to_owned));
        Self { record, found, responded, trust_domain: settings.trust_domain.to_string(), host: host.unwrap_or_default() }
    }

    /// The id by which it is known again: the finding's name, and the record of what became of it.
    pub(super) fn id(&self) -> String {
        let name = self.responded.finding.to_string();
        format!("{}-{}", name.trim_start_matches("sha256:"), self.record.0)
    }

    /// How much it matters.
    pub(super) const fn level(&self) -> Level {
        self.found.code
    }

    /// Whom it is about, in a few words.
    pub(super) fn about(&self) -> String {
        let found = &self.found;
        let named = |what: &str, name: Option<String>| name.map(|name| format!("{what} {}", shown(&name, 120)));
        let parts = [
            named("agent", found.agent.as_ref().map(ToString::to_string)),
            named("execution", found.execution.map(|id| id.to_string())),
            named("tool", found.tool.as_ref().map(ToString::to_string)),
            named("principal", found.finding.about.cloud.as_ref().map(|cloud| cloud.principal.clone())),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What was done, in a sentence.
    pub(super) fn done(&self) -> String {
        let Responded { response, code, detail, by, .. } = &self.responded;
        let response = response.as_str();
        let detail = if detail.is_empty() { String::new() } else { format!(": {}", shown(detail, CHARS_MAX)) };
        match code {
            ResponseEnd::Done if response == "notify" => "nothing but this is done".to_owned(),
            ResponseEnd::Done => format!("{response}: done by {}", shown(by, 120)),
            ResponseEnd::DryRun => format!("{response}: would be done, if `respond.mode` were `act`"),
            ResponseEnd::Held => {
                format!("{response}: waits for you{detail}. `bailiwick findings answer {} --do {response}` does it", self.responded.finding)
            }
            ResponseEnd::Dismissed => format!("{response}: dismissed by {}", shown(by, 120)),
            ResponseEnd::Undone => format!("undone by {}{detail}", shown(by, 120)),
            ResponseEnd::Failed => format!("{response}: could not be done, and is tried again{detail}"),
            ResponseEnd::Nothing => format!("{response}: nothing to do{detail}"),
        }
    }

    /// What the detector is called, as people are shown it.
    pub(super) fn title(&self) -> String {
        let detector = &self.found.finding.detector;
        let entry = detector.catalogue.as_ref().map(|entry| format!("{} ", shown(entry, 40))).unwrap_or_default();
        format!("{entry}{}", shown(&detector.title, 200))
    }

    /// What was seen, as people are shown it.
    pub(super) fn seen(&self) -> String {
        shown(&self.found.finding.seen, CHARS_MAX)
    }

    /// What would have been in order, as people are shown it.
    pub(super) fn expected(&self) -> String {
        shown(&self.found.finding.expected, CHARS_MAX)
    }

    /// All of it, for programs.
    pub(super) fn json(&self) -> Value {
        let (finding, responded) = (&self.found.finding, &self.responded);
        let records = finding.evidence.iter().filter_map(|evidence| match &evidence.proof {
            Proof::Record(record) => Some(*record),
            Proof::Event(_) | Proof::File(_) | Proof::Reported(_) => None,
        });
        json!({
            "type": format!("finding.{}", responded.code.as_str()),
            "timestamp": responded.at,
            "data": {
                "trust_domain": self.trust_domain,
                "finding": {
                    "id": finding.id, "record": responded.found, "level": self.level(), "severity": finding.severity(),
                    "impact": finding.impact, "confidence": finding.confidence, "detector": finding.detector.id,
                    "catalogue": finding.detector.catalogue, "title": finding.detector.title, "tags": finding.detector.tags,
                    "agent": self.found.agent, "execution": self.found.execution, "subject": self.found.subject, "tool": self.found.tool,
                    "first": finding.first, "last": finding.last, "count": finding.count, "expected": finding.expected,
                    "seen": finding.seen, "evidence": records.collect::<Vec<_>>(),
                },
                "response": {
                    "record": self.record, "do": responded.response, "code": responded.code, "detail": responded.detail,
                    "acts": responded.acts, "by": responded.by, "reason": responded.reason,
                },
            },
        })
    }
}
