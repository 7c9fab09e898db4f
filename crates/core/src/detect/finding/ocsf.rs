//! A finding as OCSF has it: Detection Finding, class 2004, of version 1.8.0.

use serde_json::{Map, Value, json};

use super::{Evidence, Finding, Kind, Level, Proof};

/// The version of OCSF that is written.
const VERSION: &str = "1.8.0";

/// The class: Detection Finding.
const CLASS: u32 = 2004;

/// The finding as an OCSF event. `is_new` tells one that nobody was told of from more of one that is open; `version` is the program's.
///
/// The agent stands under `unmapped`, since OCSF has had a place for agents only from 1.9 on.
pub fn ocsf(finding: &Finding, is_new: bool, version: &str) -> Value {
    let activity = if is_new { 1 } else { 2 };
    let level = finding.level();
    let mut event = json!({
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "category_uid": 2,
        "category_name": "Findings",
        "activity_id": activity,
        "activity_name": if is_new { "Create" } else { "Update" },
        "type_uid": CLASS * 100 + activity,
        "type_name": if is_new { "Detection Finding: Create" } else { "Detection Finding: Update" },
        "severity_id": severity_id(level),
        "severity": severity(level),
        "status_id": 1,
        "status": "New",
        "is_alert": true,
        "time": finding.last.as_millisecond(),
        "start_time": finding.first.as_millisecond(),
        "end_time": finding.last.as_millisecond(),
        "count": finding.count,
        "message": format!("{} Expected: {}", finding.seen, finding.expected),
        "confidence_score": (finding.confidence * 100.0).round() as i64,
        "confidence_id": match finding.confidence { sure if sure >= 0.7 => 3, sure if sure >= 0.4 => 2, _ => 1 },
        "impact_score": u32::from(finding.impact) * 10,
        "impact_id": match finding.impact { 1..=3 => 1, 4..=6 => 2, 7..=8 => 3, _ => 4 },
        "risk_score": (finding.severity() * 10.0).round() as i64,
        "metadata": {
            "version": VERSION,
            "product": { "name": "Bailiwick", "vendor_name": "Bailiwick", "version": version },
            "uid": finding.id.to_string(),
        },
        "finding_info": information(finding),
        "evidences": finding.evidence.iter().map(evidence).collect::<Vec<_>>(),
        "unmapped": {
            "expected": finding.expected,
            "response": finding.detector.response.as_str(),
            "severity": finding.severity(),
            "about": finding.about,
            "false_positives": finding.detector.falsepositives,
            "guardduty_type": finding.detector.guardduty,
        },
    });
    if let Some(members) = event.as_object_mut() {
        let resources = resources(finding);
        if !resources.is_empty() {
            members.insert("resources".to_owned(), Value::Array(resources));
        }
        if let Some(execution) = finding.about.execution
            && let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("correlation_uid".to_owned(), json!(execution.to_string()));
        }
    }
    event
}

fn information(finding: &Finding) -> Value {
    let detector = &finding.detector;
    // OCSF 1.8 `analytic.type_id`: 1 is a rule, 2 behavioural.
    let (type_id, kind) = if detector.kind == Kind::Behaviour { (2, "Behavioral") } else { (1, "Rule") };
    let mut information = json!({
        "uid": finding.id.to_string(),
        "title": detector.title,
        "desc": finding.seen,
        "types": detector.catalogue.iter().chain(&detector.guardduty).collect::<Vec<_>>(),
        "analytic": { "uid": detector.id, "name": detector.title, "type_id": type_id, "type": kind },
        "created_time": finding.first.as_millisecond(),
        "first_seen_time": finding.first.as_millisecond(),
        "last_seen_time": finding.last.as_millisecond(),
        "related_events": finding.evidence.iter().map(|evidence| json!({
            "uid": place(&evidence.proof),
            "desc": evidence.says,
            "first_seen_time": evidence.at.as_millisecond(),
        })).collect::<Vec<_>>(),
        "related_events_count": finding.count,
    });
    let attacks = attacks(finding);
    if let Some(members) = information.as_object_mut().filter(|_| !attacks.is_empty()) {
        members.insert("attacks".to_owned(), Value::Array(attacks));
    }
    information
}

/// The techniques and tactics of ATT&CK that the finding is tagged with.
fn attacks(finding: &Finding) -> Vec<Value> {
    let techniques = finding.detector.tags.iter().filter_map(|tag| tag.strip_prefix("attack.t")).map(|number| format!("T{number}"));
    let mut attacks: Vec<Value> = techniques
        .map(|uid| match uid.split_once('.') {
            Some((technique, _)) => json!({ "technique": { "uid": technique }, "sub_technique": { "uid": uid } }),
            None => json!({ "technique": { "uid": uid } }),
        })
        .collect();
    attacks.extend(finding.tactics().map(|tactic| json!({ "tactic": { "name": capitals(tactic) } })));
    attacks
}

/// `privilege-escalation` as ATT&CK writes it: `Privilege Escalation`.
fn capitals(tactic: &str) -> String {
    let word = |word: &str| word.split_at_checked(1).map(|(first, rest)| format!("{}{rest}", first.to_uppercase())).unwrap_or_default();
    tactic.split('-').map(word).collect::<Vec<_>>().join(" ")
}

fn evidence(evidence: &Evidence) -> Value {
    let mut data = Map::new();
    data.insert("at".to_owned(), json!(evidence.at));
    data.insert("says".to_owned(), json!(evidence.says));
    data.insert(
        match evidence.proof {
            Proof::Record(_) => "record",
            Proof::Event(_) => "event",
            Proof::File(_) => "file",
            Proof::Reported(_) => "reported",
        }
        .to_owned(),
        json!(place(&evidence.proof)),
    );
    json!({ "data": data, "uid": place(&evidence.proof) })
}

fn place(proof: &Proof) -> String {
    match proof {
        Proof::Record(position) => position.to_string(),
        Proof::Event(id) | Proof::Reported(id) => id.clone(),
        Proof::File(name) => name.clone(),
    }
}

fn resources(finding: &Finding) -> Vec<Value> {
    let about = &finding.about;
    let agent = about.agent.as_ref().map(|agent| json!({ "type": "agent", "name": agent, "uid": agent }));
    let tool = about.tool.as_ref().map(|tool| json!({ "type": "tool", "name": tool, "uid": tool }));
    let cloud = about.cloud.as_ref().map(|cloud| {
        json!({
            "type": cloud.principal_type,
            "uid": cloud.principal,
            "name": if cloud.session.is_empty() { &cloud.principal } else { &cloud.session },
        })
    });
    [agent, tool, cloud].into_iter().flatten().collect()
}

const fn severity_id(level: Level) -> u8 {
    match level {
        Level::Low => 2,
        Level::Medium => 3,
        Level::High => 4,
        Level::Critical => 5,
    }
}

const fn severity(level: Level) -> &'static str {
    match level {
        Level::Low => "Low",
        Level::Medium => "Medium",
        Level::High => "High",
        Level::Critical => "Critical",
    }
}
