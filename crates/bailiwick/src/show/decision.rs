//! A decision in words: the four answers, and what led to them.

use std::fmt::Write as _;

use bailiwick_core::approval::Standing;
use bailiwick_core::flow::Provenance;
use bailiwick_core::ledger::Integrity;
use bailiwick_core::model::{Answer, Answered, Answers, Ending, Intent, Member, Outcome, Person};
use bailiwick_log::Position;
use serde::Serialize;

use super::{Paint, bytes, duration, safe, time};

/// The four answers, a line each, every line after `indent`.
pub(crate) fn answers(answers: &Answers, indent: &str, paint: Paint) -> String {
    asked_of(answers).map(|(question, answer)| answered(question, answer, indent, paint)).concat()
}

/// Of the four answers those that are no, a line each, every line after `indent`.
pub(crate) fn refusals(answers: &Answers, indent: &str, paint: Paint) -> String {
    let refusals = asked_of(answers).into_iter().filter(|(_, answer)| answer.holds == Some(false));
    refusals.map(|(question, answer)| answered(question, answer, indent, paint)).collect()
}

const fn asked_of(answers: &Answers) -> [(&'static str, &Answer); 4] {
    [
        ("reasonable for this agent, now?", &answers.reasonable),
        ("within the agent's role?", &answers.role),
        ("delegation legitimate?", &answers.delegation),
        ("normal for this agent?", &answers.normal),
    ]
}

fn answered(question: &str, answer: &Answer, indent: &str, paint: Paint) -> String {
    format!("{indent}{question:<32} {}  {}\n", word(answer, paint), paint.faint(safe(&answer.because, 300)))
}

fn word(answer: &Answer, paint: Paint) -> String {
    match answer.holds {
        Some(true) => paint.green("yes"),
        Some(false) => paint.red("no "),
        None => paint.faint("–  "),
    }
}

/// A value that was judged.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    /// The argument that it is or stands in, as a JSON pointer.
    pub(crate) argument: String,
    pub(crate) is_within: bool,
    /// What it is, where the log has the arguments.
    pub(crate) value: Option<String>,
    /// Who chose it.
    pub(crate) provenance: Provenance,
    /// Whether that one may choose it.
    pub(crate) may: bool,
    /// Nothing for what was seen nowhere.
    pub(crate) first_seen: Option<FirstSeen>,
}

/// Where a value was first seen.
#[derive(Debug, Serialize)]
#[serde(tag = "in", rename_all = "snake_case")]
pub(crate) enum FirstSeen {
    /// The person's own words.
    Task,
    /// What a tool returned: the record of the call, and a JSONPath, which is empty for a text as a whole.
    Result { record: u64, tool: String, place: String },
    /// What a person approved.
    Approval { record: u64 },
    /// A file of the bundle.
    Bundle { place: String },
}

/// Everything that the log says of one decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explanation<'a> {
    /// Where the decision is.
    pub(crate) position: Position,
    pub(crate) intent: &'a Intent,
    pub(crate) judged: &'a [Judged],
    /// The person's own words.
    pub(crate) task: Option<&'a str>,
    /// Those that the agent acts for, nearest first.
    pub(crate) chain: &'a [Member],
    pub(crate) answer: Option<(Position, &'a Answered)>,
    pub(crate) outcome: Option<(Position, &'a Outcome)>,
}

impl Explanation<'_> {
    /// It in words, on several lines.
    pub(crate) fn told(self, paint: Paint) -> String {
        let Self { position, intent, judged, task, chain, answer, outcome } = self;
        let mut text = String::new();
        let decision = &intent.decision;
        let _ = writeln!(text, "record {position} · {}\n", time(intent.at));
        let _ = writeln!(
            text,
            "  {}  {} → {}  {}",
            paint.verdict(decision.verdict),
            paint.bold(&intent.agent),
            paint.bold(safe(intent.tool.as_str(), 200)),
            paint.faint(format!("({})", intent.effect.as_str()))
        );
        let _ = writeln!(text, "  {}: {}\n", decision.code.as_str(), decision.code.sentence());
        text.push_str(&answers(&decision.answers, "  ", paint));
        text.push('\n');

        let mut fact = |name: &str, value: String| {
            let _ = writeln!(text, "  {}{value}", paint.faint(format!("{name:<12}")));
        };
        match &intent.arguments {
            Some(arguments) => fact("arguments", safe(arguments.get(), 2_000)),
            None => fact("arguments", format!("{} (too long to be kept)", intent.arguments_digest)),
        }
        if !decision.policies.is_empty() {
            fact("policies", safe(&decision.policies.join(", "), 1_000));
        }
        for error in &decision.errors {
            fact("error", safe(error, 1_000));
        }
        for charge in &intent.facts.history {
            fact("history", format!("{} = {}", charge.name, charge.total));
        }
        match intent.facts.labels.integrity {
            Integrity::Trusted => fact("had read", "nothing that is untrusted".to_owned()),
            Integrity::Untrusted => fact("had read", "untrusted data: who chose what it acts on was judged".to_owned()),
        }
        for judged in judged {
            fact("judged", chosen(judged));
        }
        if let Some(standing) = &intent.facts.approval {
            fact("asked", asked(standing, answer));
        }
        match (chain, intent.subject.as_deref()) {
            ([], None) => fact("execution", format!("{}, for itself", intent.execution)),
            ([], Some(subject)) => fact("execution", format!("{}, for {}", intent.execution, safe(subject, 200))),
            (chain, subject) => {
                fact("execution", intent.execution.to_string());
                for member in chain {
                    fact("acting for", format!("{}, in execution {}", member.agent.agent(), member.execution));
                }
                if let Some(subject) = subject {
                    fact("acting for", safe(subject, 200));
                }
            }
        }
        if let Some(task) = task {
            fact("task", format!("“{}”", safe(task, 500)));
        }
        fact("bundle", intent.bundle.to_string());
        match outcome {
            Some((at, outcome)) => fact("outcome", format!("{} (record {at})", ended(outcome))),
            None if decision.verdict == bailiwick_core::model::Verdict::Allow => fact("outcome", "none yet".to_owned()),
            None => fact("outcome", "nothing was forwarded".to_owned()),
        }
        text
    }
}

/// What became of asking a person, in words.
fn asked(standing: &Standing, answer: Option<(Position, &Answered)>) -> String {
    match standing {
        Standing::Asked { until, .. } => match answer {
            Some((at, answered)) => {
                let word = if answered.approved { "approved" } else { "refused" };
                let endorsed = if answered.endorses { ", and endorsed its values for the execution" } else { "" };
                format!("{} {word} it{endorsed} (record {at})", person(&answered.by))
            }
            None => format!("nobody has answered; it waits until {}", time(*until)),
        },
        Standing::Waits { ask } => format!("it waits already (record {ask})"),
        Standing::Approved { ask, answer } => format!("in record {ask}, and approved in record {answer}, which this call used up"),
        Standing::Refused { ask, answer } => format!("in record {ask}, and refused in record {answer}"),
    }
}

/// How a person is called.
pub(super) fn person(person: &Person) -> String {
    let whole = format!("{}:{}", person.issuer, person.subject);
    safe(&person.name.as_ref().map_or_else(|| whole.clone(), |name| format!("{name} ({whole})")), 200)
}

/// Who chose a value that the call acts on, in words.
fn chosen(judged: &Judged) -> String {
    let value = judged.value.as_deref().map_or_else(String::new, |value| format!(" “{}”", safe(value, 200)));
    let what = if judged.is_within { "named in " } else { "" };
    let seen = match &judged.first_seen {
        None => "seen nowhere before".to_owned(),
        Some(FirstSeen::Task) => "in the person's own words".to_owned(),
        Some(FirstSeen::Bundle { place }) => format!("listed in the bundle as {}", safe(place, 200)),
        Some(FirstSeen::Approval { record }) => format!("approved by a person in record {record}"),
        Some(FirstSeen::Result { record, tool, place }) => {
            let place = if place.is_empty() { "its text".to_owned() } else { safe(place, 200) };
            format!("first seen in what {} returned, in {place} (record {record})", safe(tool, 200))
        }
    };
    let may = if judged.may { "; may choose it" } else { "; may not choose it" };
    format!("{what}{}{value}: {}, {seen}{may}", safe(&judged.argument, 200), judged.provenance.as_str())
}

/// How a call ended, in words.
pub(super) fn ended(outcome: &Outcome) -> String {
    let ending = match outcome.code {
        Ending::Done => "done",
        Ending::Failed => "failed",
        Ending::Cancelled => "cancelled",
        Ending::Unknown => "unknown",
        Ending::Elsewhere => "made elsewhere",
    };
    let detail = if outcome.detail.is_empty() { String::new() } else { format!(", {}", safe(&outcome.detail, 300)) };
    format!("{ending}{detail}, {} in {}", bytes(outcome.bytes), duration(outcome.duration_us))
}
