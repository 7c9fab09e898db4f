//! What is unlike an agent, in the shape that rules have too: a finding, with its entry of the catalogue.

use super::behavior::{Reason, Signal};
use super::oddity::Oddity;
use super::role::Channel;
use crate::detect::finding::{About, Detector, Evidence, Finding, Kind, Proof, Response};
use crate::model::Effect;

/// The share of the executions at and below which nobody doubts: one in ten thousand.
const SURE_AT: f64 = 1e-4;

/// What is known of a way to be unlike what is usual.
struct Entry {
    /// The detector's stable name.
    id: &'static str,
    catalogue: &'static str,
    title: &'static str,
    /// ATT&CK, ATLAS and OWASP's list for agents, as Sigma writes them.
    tags: &'static [&'static str],
    guardduty: Option<&'static str>,
    falsepositives: &'static [&'static str],
    response: Response,
    /// How bad it is if it is what it looks like, where no call says that: 1 to 10.
    impact: u8,
}

impl Oddity {
    /// It as a finding: the same for whoever folds the same records.
    ///
    /// How bad it is goes by what the call does, and by one more where the execution has read anything confidential; of what is no call
    /// by its entry of the catalogue. How sure it is goes by the share of the executions that score more: wholly at one in 10,000, by
    /// three quarters at one in 1,000.
    pub fn finding(&self) -> Finding {
        let entry = entry(self);
        let says = |part: fn(&Reason) -> &str| self.because.iter().map(part).collect::<Vec<_>>().join("; ");
        let seen = match (&self.tool, self.channel) {
            (Some(tool), Channel::Call | Channel::First) => format!("`{}` called `{tool}`: {}", self.agent, says(|reason| &reason.seen)),
            _ => says(|reason| &reason.seen),
        };
        let (seen, expected) = (sentence(&seen), sentence(&says(|reason| &reason.expected)));
        let about = About {
            agent: Some(self.agent.clone()),
            execution: self.execution,
            subject: self.subject.as_deref().map(str::to_owned),
            tool: self.tool.clone(),
            cloud: None,
        };
        let evidence = Evidence { proof: Proof::Record(self.record.0), at: self.at, says: seen.clone() };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let detector = Detector {
            id: entry.id.to_owned(),
            catalogue: Some(entry.catalogue.to_owned()),
            title: entry.title.to_owned(),
            kind: Kind::Behaviour,
            tags: words(entry.tags),
            guardduty: entry.guardduty.map(str::to_owned),
            falsepositives: words(entry.falsepositives),
            response: entry.response,
        };
        let confidence = f64::from(self.share.clamp(f32::MIN_POSITIVE, 1.0)).log10() / SURE_AT.log10();
        Finding::new(detector, about, evidence, expected, seen).weighing(self.impact(&entry), confidence)
    }

    fn impact(&self, entry: &Entry) -> u8 {
        let of_effect = match self.effect.filter(|_| matches!(self.channel, Channel::Call | Channel::First)) {
            None => entry.impact,
            Some(Effect::Read) => 2,
            Some(Effect::Write) => 4,
            Some(Effect::Send) => 6,
            Some(Effect::Spend) => 8,
            Some(Effect::Admin) => 10,
        };
        of_effect.saturating_add(u8::from(self.is_confidential)).min(10)
    }
}

/// The words as a sentence: with a capital, unless it begins with a name, and a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// The entry of the catalogue: of a call by whether a value is in a closed slot, of all else by what was looked at.
fn entry(odd: &Oddity) -> Entry {
    let has = |signal| odd.because.iter().any(|reason| reason.signal == signal);
    match (odd.channel, odd.because.first().map(|reason| reason.signal)) {
        (Channel::Call, _) if has(Signal::NewValueInClosedSlot) => NEW_VALUE_IN_CLOSED_SLOT,
        (Channel::Call, _) | (_, None) => CALL,
        (_, Some(signal)) => of_signal(signal),
    }
}

const fn of_signal(signal: Signal) -> Entry {
    match signal {
        Signal::NewValueInClosedSlot => NEW_VALUE_IN_CLOSED_SLOT,
        Signal::ToolInContext | Signal::NewValue | Signal::ChosenByResult => CALL,
        Signal::Calls => CALLS,
        Signal::Tools => TOOLS,
        Signal::Denials => DENIALS,
        Signal::Failures => FAILURES,
        Signal::BytesOut => BYTES_OUT,
        Signal::BytesIn => BYTES_IN,
        Signal::Dormancy => DORMANCY,
        Signal::NewEdge => NEW_EDGE,
        Signal::FanOut => FAN_OUT,
        Signal::FirstTool => FIRST_TOOL,
        Signal::Shape => SHAPE,
        Signal::CallsOfTool => CALLS_OF_TOOL,
        Signal::Destroyed => DESTROYED,
        Signal::Spent => SPENT,
        Signal::BytesTo => BYTES_TO,
        Signal::SlowBytes => SLOW_BYTES,
        Signal::OffHours => OFF_HOURS,
        Signal::NewSource => NEW_SOURCE,
    }
}

const NEW_VALUE_IN_CLOSED_SLOT: Entry = Entry {
    id: "behavior.new_value_in_closed_slot",
    catalogue: "TU-02",
    title: "A tool's result chose a value that is new where values are known",
    tags: &["attack.exfiltration", "attack.t1567", "atlas.aml.t0051.001", "atlas.aml.t0053", "owasp.asi01"],
    guardduty: Some("Exfiltration:IAMUser/AnomalousBehavior"),
    falsepositives: &["A new customer, supplier or colleague whom nobody named in the task"],
    response: Response::Ask,
    impact: 7,
};

const CALL: Entry = Entry {
    id: "behavior.call",
    catalogue: "TU-04",
    title: "A call is unlike what agents in this role do",
    tags: &["attack.impact", "atlas.aml.t0053", "owasp.asi01", "owasp.asi10"],
    guardduty: Some("Impact:IAMUser/AnomalousBehavior"),
    falsepositives: &["A kind of task that is new to the role", "A new version of the agent"],
    response: Response::Lower,
    impact: 6,
};

const CALLS: Entry = Entry {
    id: "behavior.calls",
    catalogue: "TU-06",
    title: "An agent calls far more often than it does",
    tags: &["attack.collection", "attack.t1119", "atlas.aml.t0034.000", "owasp.asi08"],
    guardduty: Some("Discovery:IAMUser/AnomalousBehavior"),
    falsepositives: &["Work that was put off and is caught up with", "More work than ever"],
    response: Response::Notify,
    impact: 5,
};

const TOOLS: Entry = Entry {
    id: "behavior.tools",
    catalogue: "TU-06",
    title: "An agent uses far more different tools than it does",
    tags: &["attack.discovery", "attack.t1526", "atlas.aml.t0084.001", "owasp.asi02"],
    guardduty: Some("Discovery:IAMUser/AnomalousBehavior"),
    falsepositives: &["A new version of the agent that looks at each of its tools"],
    response: Response::Notify,
    impact: 5,
};

const DENIALS: Entry = Entry {
    id: "behavior.denials",
    catalogue: "PE-01",
    title: "An agent is denied far more often than any should be",
    tags: &["attack.discovery", "attack.t1580", "attack.t1526", "atlas.aml.t0084.001", "owasp.asi02"],
    guardduty: Some("Discovery:IAMUser/AnomalousBehavior"),
    falsepositives: &["A policy that was narrowed, and an agent that does not know yet", "A loop around a call that cannot succeed"],
    response: Response::Notify,
    impact: 6,
};

const FAILURES: Entry = Entry {
    id: "behavior.failures",
    catalogue: "TU-09",
    title: "An agent's calls fail far more often than they do",
    tags: &["attack.impact", "attack.t1499", "atlas.aml.t0029", "owasp.asi08"],
    guardduty: None,
    falsepositives: &["A tool server that is down"],
    response: Response::Notify,
    impact: 3,
};

const BYTES_OUT: Entry = Entry {
    id: "behavior.bytes_out",
    catalogue: "EX-01",
    title: "An agent sends far more than it does",
    tags: &["attack.exfiltration", "attack.t1567", "atlas.aml.t0086", "owasp.asi02"],
    guardduty: Some("Behavior:EC2/TrafficVolumeUnusual"),
    falsepositives: &["A report or an attachment that is larger than any before"],
    response: Response::Ask,
    impact: 7,
};

const BYTES_IN: Entry = Entry {
    id: "behavior.bytes_in",
    catalogue: "EX-06",
    title: "An agent reads far more than it does",
    tags: &["attack.collection", "attack.t1530", "owasp.asi03"],
    guardduty: Some("Exfiltration:S3/AnomalousBehavior"),
    falsepositives: &["A table or a document that has grown"],
    response: Response::Notify,
    impact: 7,
};

const DORMANCY: Entry = Entry {
    id: "behavior.dormancy",
    catalogue: "ID-07",
    title: "An agent that did nothing for long has an effect",
    tags: &["attack.initial-access", "attack.t1078.004", "atlas.aml.t0012", "owasp.asi10"],
    guardduty: Some("InitialAccess:IAMUser/AnomalousBehavior"),
    falsepositives: &["Work that is done once a quarter or once a year"],
    response: Response::Ask,
    impact: 5,
};

const NEW_EDGE: Entry = Entry {
    id: "behavior.new_edge",
    catalogue: "XA-01",
    title: "An agent delegates to a role to which its own never did",
    tags: &["attack.initial-access", "attack.t1199", "atlas.aml.t0108", "owasp.asi07"],
    guardduty: None,
    falsepositives: &["Agents that were told to work together today"],
    response: Response::Ask,
    impact: 5,
};

const FAN_OUT: Entry = Entry {
    id: "behavior.fan_out",
    catalogue: "XA-04",
    title: "An execution delegates far more often than those of its role do",
    tags: &["attack.impact", "attack.t1499", "atlas.aml.t0034.002", "owasp.asi08"],
    guardduty: None,
    falsepositives: &["A task that is split into more parts than ever"],
    response: Response::Ask,
    impact: 6,
};

const FIRST_TOOL: Entry = Entry {
    id: "behavior.first_tool",
    catalogue: "TU-01",
    title: "A tool with an effect that no agent in this role ever used",
    tags: &["attack.execution", "attack.t1059.009", "atlas.aml.t0053", "owasp.asi02"],
    guardduty: Some("Execution:Runtime/NewBinaryExecuted"),
    falsepositives: &["A tool that was added today", "A kind of task that is new to the role"],
    response: Response::Ask,
    impact: 4,
};

const SHAPE: Entry = Entry {
    id: "behavior.shape",
    catalogue: "TU-05",
    title: "A tool is given arguments of another shape than ever",
    tags: &["attack.initial-access", "attack.t1190", "atlas.aml.t0043", "owasp.asi02"],
    guardduty: None,
    falsepositives: &["A new version of the agent or of the tool", "A text that is longer than any before"],
    response: Response::Notify,
    impact: 4,
};

const CALLS_OF_TOOL: Entry = Entry {
    id: "behavior.calls_of_tool",
    catalogue: "TU-06",
    title: "An agent calls one tool far more often than any in its role does",
    tags: &["attack.collection", "attack.t1119", "atlas.aml.t0034.000", "owasp.asi08"],
    guardduty: Some("Discovery:IAMUser/AnomalousBehavior"),
    falsepositives: &["A list that is longer than ever, and is gone through entry by entry"],
    response: Response::Notify,
    impact: 5,
};

const DESTROYED: Entry = Entry {
    id: "behavior.destroyed",
    catalogue: "TU-08",
    title: "An agent destroys far more than it does",
    tags: &["attack.impact", "attack.t1485", "atlas.aml.t0101", "owasp.asi02"],
    guardduty: Some("Impact:S3/AnomalousBehavior.Delete"),
    falsepositives: &["Clearing up once a quarter or once a year"],
    response: Response::Ask,
    impact: 8,
};

const SPENT: Entry = Entry {
    id: "behavior.spent",
    catalogue: "CO-01",
    title: "An agent spends far more than it does",
    tags: &["attack.impact", "attack.t1496.004", "atlas.aml.t0034.002", "owasp.asi08"],
    guardduty: Some("Impact:IAMUser/AnomalousBehavior"),
    falsepositives: &["The end of a month, of a quarter or of a sale"],
    response: Response::Ask,
    impact: 5,
};

const BYTES_TO: Entry = Entry {
    id: "behavior.bytes_to",
    catalogue: "EX-01",
    title: "An agent sends far more to one destination than goes there",
    tags: &["attack.exfiltration", "attack.t1567", "atlas.aml.t0086", "owasp.asi02"],
    guardduty: Some("Behavior:EC2/TrafficVolumeUnusual"),
    falsepositives: &["A report or an attachment that is larger than any before"],
    response: Response::Ask,
    impact: 7,
};

const SLOW_BYTES: Entry = Entry {
    id: "behavior.slow_bytes",
    catalogue: "EX-03",
    title: "An agent sends more and more to new destinations, a little at a time",
    tags: &["attack.exfiltration", "attack.t1030", "atlas.aml.t0086", "owasp.asi10"],
    guardduty: Some("Exfiltration:IAMUser/AnomalousBehavior"),
    falsepositives: &["A new customer, supplier or service to which much is sent from now on"],
    response: Response::Notify,
    impact: 6,
};

const OFF_HOURS: Entry = Entry {
    id: "behavior.off_hours",
    catalogue: "TU-07",
    title: "An agent that people start has an effect at an hour at which nobody starts it",
    tags: &["attack.initial-access", "attack.t1078.004", "atlas.aml.t0012", "owasp.asi10"],
    guardduty: Some("InitialAccess:IAMUser/AnomalousBehavior"),
    falsepositives: &["Somebody who works late, or from another continent"],
    response: Response::Ask,
    impact: 4,
};

const NEW_SOURCE: Entry = Entry {
    id: "behavior.new_source",
    catalogue: "ID-08",
    title: "An agent comes from a network from which it never came",
    tags: &["attack.initial-access", "attack.t1078.004", "atlas.aml.t0012", "owasp.asi03"],
    guardduty: Some("InitialAccess:IAMUser/AnomalousBehavior"),
    falsepositives: &["A move to other machines, or to another provider"],
    response: Response::Notify,
    impact: 5,
};
