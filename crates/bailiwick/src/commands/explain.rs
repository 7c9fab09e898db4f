//! `bailiwick explain RECORD`: why one call was decided as it was, and what came of it.

use std::process::ExitCode;

use bailiwick_core::flow::{Origin, Traced, values_of};
use bailiwick_core::model::{Answered, Intent, Outcome, Record};
use bailiwick_log::Position;
use clap::Args;
use serde_json::{Value, json};

use crate::records::Records;
use crate::show::{self, Explanation, FirstSeen, Judged, Paint, say};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The record of the call, or of what came of it.
    record: u64,
    #[command(flatten)]
    records: Records,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    /// Prints the explanation.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let position = match self.records.record(Position(self.record))? {
            Record::Outcome(outcome) => outcome.intent,
            Record::Answered(answered) => answered.ask,
            _ => Position(self.record),
        };
        let Record::Intent(intent) = self.records.record(position)? else {
            say!("{}", show::line(position, &self.records.record(position)?, Paint::stdout()));
            return Ok(ExitCode::SUCCESS);
        };
        // Everything else that the log says of the execution; the id is ours, so it cannot be more than one word of SQL.
        let sql = format!(
            "select position from records where execution = '{}' and kind in ('execution_started', 'outcome', 'answered') order by position",
            intent.execution
        );
        let (mut task, mut chain) = (None, Vec::new());
        let mut outcome: Option<(Position, Outcome)> = None;
        let mut answer: Option<(Position, Answered)> = None;
        for row in self.records.query(&sql)?.rows {
            let Some(at) = row.first().and_then(Value::as_u64).map(Position) else { continue };
            match self.records.record(at)? {
                Record::ExecutionStarted(started) if at < position => (task, chain) = (started.task.or(task), started.chain),
                Record::Outcome(found) if found.intent == position => outcome = Some((at, found)),
                // The first answer counts.
                Record::Answered(found) if found.ask == position && answer.is_none() => answer = Some((at, found)),
                _ => {}
            }
        }
        let judged = self.judged(&intent)?;
        if self.json {
            let came = outcome.map(|(at, outcome)| json!({ "record": at.0, "outcome": outcome }));
            let answered = answer.map(|(at, answer)| json!({ "record": at.0, "answered": answer }));
            show::json(&json!({
                "record": position.0, "intent": intent, "judged": judged, "task": task, "chain": chain, "answer": answered,
                "came_of_it": came
            }));
        } else {
            let outcome = outcome.as_ref().map(|(at, outcome)| (*at, outcome));
            let answer = answer.as_ref().map(|(at, answer)| (*at, answer));
            let explanation =
                Explanation { position, intent: &intent, judged: &judged, task: task.as_deref(), chain: &chain, answer, outcome };
            show::out(explanation.told(Paint::stdout()).trim_end());
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Every value that was judged: what it is, who chose it, and where it was first seen.
    fn judged(&self, intent: &Intent) -> miette::Result<Vec<Judged>> {
        let traced = &intent.facts.traced;
        let values = intent.arguments.as_ref().map(|arguments| values_of(arguments.get(), traced)).unwrap_or_default();
        let mut judged = Vec::with_capacity(traced.len());
        for (traced, value) in traced.iter().zip(values.into_iter().chain(std::iter::repeat(None))) {
            let first_seen = match &traced.origin {
                None => None,
                Some(Origin { record: Some(record), place }) => Some(match self.records.record(*record)? {
                    Record::Intent(call) => FirstSeen::Result { record: record.0, tool: call.tool.to_string(), place: place.to_string() },
                    _ => FirstSeen::Approval { record: record.0 },
                }),
                Some(Origin { record: None, place }) if place.is_empty() => Some(FirstSeen::Task),
                Some(Origin { record: None, place }) => Some(FirstSeen::Bundle { place: place.to_string() }),
            };
            let Traced { argument, is_within, provenance, may, .. } = traced.clone();
            judged.push(Judged { argument, is_within, value, provenance, may, first_seen });
        }
        Ok(judged)
    }
}
