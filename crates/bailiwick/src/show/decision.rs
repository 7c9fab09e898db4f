//! A decision in words: the four answers, and what led to them.

use std::fmt::Write as _;

use bailiwick_core::approval::Standing;
use bailiwick_core::flow::{Origin, Traced};
use bailiwick_core::model::{Answer, Answered, Answers, Ending, Intent, Outcome, Person};
use bailiwick_log::Position;

use super::{Paint, bytes, duration, safe, time};

/// The four answers, a line each, every line after `indent`.
pub(crate) fn answers(answers: &Answers, indent: &str, paint: Paint) -> String {
    let mut text = String::new();
    for (question, answer) in [
        ("reasonable for this agent, now?", &answers.reasonable),
        ("within the agent's role?", &answers.role),
        ("delegation legitimate?", &answers.delegation),
        ("normal for this agent?", &answers.normal),
    ] {
        let _ = writeln!(text, "{indent}{question:<32} {}  {}", word(answer, paint), paint.faint(safe(&answer.because, 300)));
    }
    text
}

fn word(answer: &Answer, paint: Paint) -> String {
    match answer.holds {
        Some(true) => paint.green("yes"),
        Some(false) => paint.red("no "),
        None => paint.faint("–  "),
    }
}

/// Everything that the log says of one decision.
pub(crate) fn explanation(
    position: Position,
    intent: &Intent,
    task: Option<&str>,
    answer: Option<(Position, &Answered)>,
    outcome: Option<(Position, &Outcome)>,
    paint: Paint,
) -> String {
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
    for traced in &intent.facts.traced {
        fact(if traced.may { "chosen" } else { "not chosen" }, chosen(traced));
    }
    if let Some(standing) = &intent.facts.approval {
        fact("asked", asked(standing, answer));
    }
    let whom = intent.subject.as_deref().map_or_else(|| "itself".to_owned(), |subject| safe(subject, 200));
    fact("execution", format!("{}, for {whom}", intent.execution));
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
fn chosen(traced: &Traced) -> String {
    let within = if traced.is_within { "named in " } else { "" };
    let seen = match &traced.origin {
        Some(Origin { record: Some(record), place }) if place.is_empty() => format!(", first seen in the result of record {record}"),
        Some(Origin { record: Some(record), place }) => format!(", first seen in the result of record {record} at {}", safe(place, 200)),
        Some(Origin { record: None, place }) if place.is_empty() => ", in the person's own words".to_owned(),
        Some(Origin { record: None, place }) => format!(", listed in {}", safe(place, 200)),
        None => ", seen nowhere".to_owned(),
    };
    format!("{within}{}: {}{seen}", safe(&traced.argument, 200), traced.provenance.as_str())
}

/// How a call ended, in words.
pub(super) fn ended(outcome: &Outcome) -> String {
    let ending = match outcome.code {
        Ending::Done => "done",
        Ending::Failed => "failed",
        Ending::Cancelled => "cancelled",
        Ending::Unknown => "unknown",
    };
    let detail = if outcome.detail.is_empty() { String::new() } else { format!(", {}", safe(&outcome.detail, 300)) };
    format!("{ending}{detail}, {} in {}", bytes(outcome.bytes), duration(outcome.duration_us))
}
