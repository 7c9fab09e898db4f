//! The stage of both acts: what is said aloud, what is promised, and what the log has of each call.

use std::fmt::Write as _;
use std::path::PathBuf;

use bailiwick_core::model::{Answers, Code, Intent, Outcome, Record, Verdict};
use bailiwick_log::{Log, Position};
use miette::IntoDiagnostic;
use serde_json::Value;

use super::agent::Answer as Heard;
use crate::show::{self, Paint, safe, say};

/// Where the play takes place, and how it goes.
pub(super) struct Stage {
    pub(super) log: Log,
    /// Where the data of the tool servers behind the gateway is.
    pub(super) data: PathBuf,
    pub(super) paint: Paint,
    /// Whether to print, or to stay silent for `--json`.
    aloud: bool,
    /// How much of the log was read.
    read: u64,
    /// What was done so far.
    pub(super) scenes: Vec<Scene>,
    /// What was promised and did not hold.
    pub(super) broken: Vec<String>,
}

/// What was done, and what it led to.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Scene {
    pub(super) what: &'static str,
    pub(super) agent: String,
    pub(super) tool: String,
    pub(super) arguments: Value,
    pub(super) verdict: Option<Verdict>,
    pub(super) code: Option<Code>,
    pub(super) record: Option<u64>,
    pub(super) answers: Option<Answers>,
    pub(super) kept: bool,
    /// What the agent heard.
    #[serde(skip)]
    pub(super) heard: String,
}

/// A call of somebody, and how it should be decided.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) what: &'static str,
    pub(super) agent: &'static str,
    pub(super) tool: String,
    pub(super) arguments: Value,
    pub(super) code: Code,
}

/// The records of one call.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) intent: Option<(Position, Intent)>,
    pub(super) outcome: Option<Outcome>,
}

impl Stage {
    pub(super) fn new(log: Log, data: PathBuf, aloud: bool) -> Self {
        Self { log, data, paint: Paint::stdout(), aloud, read: 0, scenes: Vec::new(), broken: Vec::new() }
    }

    /// Prints, unless asked to be silent.
    pub(super) fn say(&self, text: &str) {
        if self.aloud {
            say!("{text}");
        }
    }

    /// Promises that `holds`; what does not is remembered and fails the demo.
    pub(super) fn promise(&mut self, what: &str, holds: bool) {
        let mark = if holds { self.paint.green("✓") } else { self.paint.red("✗") };
        self.say(&format!("    {mark} {what}"));
        if !holds {
            self.broken.push(what.to_owned());
        }
    }

    /// Whether all went as promised.
    pub(super) fn is_kept(&self) -> bool {
        self.broken.is_empty() && self.scenes.iter().all(|scene| scene.kept)
    }

    /// What the log has of the calls that were made since it was read last, in their order.
    pub(super) async fn recorded(&mut self) -> miette::Result<Vec<Recorded>> {
        let storage = self.log.storage();
        let mut recorded: Vec<Recorded> = Vec::new();
        while self.read < storage.len() {
            for entry in storage.read(Position(self.read), 64).await.into_diagnostic()? {
                let position = Position(self.read);
                self.read += 1;
                match Record::read(&entry).into_diagnostic()? {
                    Record::Intent(intent) => recorded.push(Recorded { intent: Some((position, intent)), outcome: None }),
                    Record::Outcome(outcome) => {
                        let of = |one: &&mut Recorded| one.intent.as_ref().is_some_and(|(intent, _)| *intent == outcome.intent);
                        if let Some(of) = recorded.iter_mut().find(of) {
                            of.outcome = Some(outcome);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(recorded)
    }

    /// Adds a scene: `recorded` is what the log has of a call, which should be decided as `expected`, and `answer` what its agent heard.
    pub(super) fn scene(&mut self, expected: Expected, recorded: &Recorded, answer: &Heard) {
        let intent = recorded.intent.as_ref().map(|(_, intent)| intent);
        let (verdict, code) = intent.map(|intent| (intent.decision.verdict, intent.decision.code)).unzip();
        let ended = recorded.outcome.is_some() == (verdict == Some(Verdict::Allow));
        // A tool that is not the agent's looks to it like one that does not exist; the operator sees which.
        let told = if expected.code == Code::NotInRole { Code::UnknownTool } else { expected.code };
        let answered = answer.failed == (expected.code != Code::Allowed) && (!answer.failed || answer.text.contains(told.as_str()));
        let kept = code == Some(expected.code) && ended && answered;
        if !kept {
            let Expected { what, tool, code: expected, .. } = &expected;
            let got = code.map_or("no record", Code::as_str);
            let heard = safe(&answer.text, 200);
            self.promise(&format!("{what}: `{tool}` should be {}, and was {got}; the agent heard: {heard}", expected.as_str()), false);
        }
        self.scenes.push(Scene {
            what: expected.what,
            agent: expected.agent.to_owned(),
            tool: expected.tool,
            arguments: expected.arguments,
            verdict,
            code,
            record: recorded.intent.as_ref().map(|(position, _)| position.0),
            answers: intent.map(|intent| intent.decision.answers.clone()),
            kept,
            heard: format!("{}{}", answer.text, answer.data),
        });
    }

    /// Prints a call with its four answers.
    pub(super) fn tell(&self, expected: &Expected, recorded: &Recorded, answer: &Heard) {
        let mut text = self.head(expected, recorded);
        if let Some((_, intent)) = &recorded.intent {
            text.push_str(&show::answers(&intent.decision.answers, "          ", self.paint));
        }
        if answer.failed {
            let _ = writeln!(text, "          the agent hears: {}", safe(&answer.text, 240));
        }
        self.say(&text);
    }

    /// Prints a call in short: with what stands against it, if anything does.
    pub(super) fn tell_shortly(&self, expected: &Expected, recorded: &Recorded) {
        let mut text = self.head(expected, recorded);
        if let Some((_, intent)) = &recorded.intent {
            text.push_str(&show::refusals(&intent.decision.answers, "          ", self.paint));
        }
        self.say(text.trim_end());
    }

    fn head(&self, Expected { what, tool, arguments, .. }: &Expected, recorded: &Recorded) -> String {
        let paint = self.paint;
        let message = arguments.pointer("/message/parts/0/text").and_then(Value::as_str);
        let shown = message.map_or_else(|| arguments.to_string(), |message| format!("“{message}”"));
        match &recorded.intent {
            None => format!("  {}  {what}: {tool}\n", paint.red("NOT RECORDED")),
            Some((position, intent)) => format!(
                "  {} {}\n          {tool} {}  {}\n",
                paint.verdict(intent.decision.verdict),
                paint.bold(what),
                paint.faint(safe(&shown, 76)),
                paint.faint(format!("record {position}")),
            ),
        }
    }

    /// The position of the first denial, to prove.
    pub(super) fn first_denial(&self) -> Option<Position> {
        self.scenes.iter().find(|scene| scene.verdict == Some(Verdict::Deny)).and_then(|scene| scene.record).map(Position)
    }
}
