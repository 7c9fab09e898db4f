//! The sentry: reads the log record by record, holds each against the rules and against what is usual, and says what is to be recorded.
//!
//! It is a fold of the log: who folds the same records has the same findings, whenever and however often, and wherever it stopped in
//! between and went on from what it kept. Its time is that of the records. What it finds becomes a record too, and so something that it
//! reads: that is how it knows what was recorded already.

mod outbox;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

pub use self::outbox::{Outbox, PENDING_MAX};
use super::baseline::{self, Oddity};
use super::finding::{About, Detector, Evidence, Finding, Findings, Kind, Noted, Proof, Response};
use super::known::Known;
use super::rules::{Event, Happened, Path, Reader, Rules, Scratch, Watch};
use super::trees::Trees;
use crate::model::{Digest, Found, Record, Settled, Settlement, Timestamp};

/// Of so many detectors it is kept how often they were right. There are as many as there are rules, and those of others.
const DETECTORS_MAX: usize = 4_096;

/// What is found in the log, and what was recorded of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sentry {
    rules: Watch,
    book: Findings,
    /// What was found and is not on the log yet, oldest first.
    pending: VecDeque<Finding>,
    known: Known,
    verdicts: BTreeMap<String, Verdicts>,
    #[serde(default)]
    trees: Trees,
    next: Position,
    /// The time of the last record that has one.
    heard: Timestamp,
    #[serde(skip)]
    reading: Reading,
}

/// Memory that is used again from record to record.
#[derive(Debug, Default)]
struct Reading {
    reader: Reader,
    scratch: Scratch,
}

impl Clone for Reading {
    /// What is in it is of no use to another.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// How often people said of a detector that it was right, and that it was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// It was what it looked like.
    pub right: u64,
    /// It was not.
    pub wrong: u64,
}

impl Verdicts {
    /// How sure the detector's findings are, where its author thinks `prior`: the mean of a Beta distribution that begins as two verdicts.
    pub fn confidence(self, prior: f64) -> f64 {
        let (right, wrong) = (self.right as f64, self.wrong as f64);
        (2.0 * prior + right) / (2.0 + right + wrong)
    }
}

impl Sentry {
    /// One that has seen nothing, with these rules.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules: Watch::new(rules), ..Self::default() }
    }

    /// Goes on by these rules. What correlations remember is kept for those that are as before.
    pub fn go_by(&mut self, rules: Arc<Rules>) {
        self.rules.go_by(rules);
    }

    /// The record that is folded next.
    pub const fn next(&self) -> Position {
        self.next
    }

    /// What was found and is not on the log, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Finding> {
        self.pending.iter()
    }

    /// The findings that are on the log.
    pub const fn known(&self) -> &Known {
        &self.known
    }

    /// How often each detector was right, as far as people said.
    pub fn verdicts(&self) -> impl Iterator<Item = (&str, Verdicts)> {
        self.verdicts.iter().map(|(detector, verdicts)| (detector.as_str(), *verdicts))
    }

    /// Folds in the record at `position`, and gives it to the baselines. What was folded before changes nothing. Returns the record as it
    /// was read, for others who fold it.
    ///
    /// An entry of a kind that this version does not know is held against the rules, and that is all.
    pub fn fold(&mut self, baselines: &baseline::Watch, position: Position, entry: &[u8]) -> Option<Record> {
        let record = Record::read(entry).ok();
        if position < self.next {
            return record;
        }
        self.next = Position(position.0.saturating_add(1));
        let odd = record.as_ref().map(|record| baselines.fold(position, record)).unwrap_or_default();
        match &record {
            // What was found is no event: a rule about it would raise what it is about.
            Some(Record::Finding(found)) => self.recorded(position, found),
            Some(Record::Settled(settled)) => self.settled(position, settled),
            Some(Record::Response(_) | Record::Cautioned(_)) => {}
            _ => {
                self.heard = record.as_ref().map_or(self.heard, Record::at);
                let across = record.as_ref().map(|record| self.trees.fold(position, record)).unwrap_or_default();
                let by_rules = self.hold_against_rules(position, entry);
                odd.iter().map(Oddity::finding).chain(across).chain(by_rules).for_each(|finding| self.found(finding));
            }
        }
        record
    }

    /// What is found when the watch itself stops before the record at `next`: whoever is in the way of being seen begins with that.
    pub fn stopped(next: Position, at: Timestamp, why: &str) -> Finding {
        let detector = Detector {
            id: "watch-stopped".to_owned(),
            catalogue: Some("CP-01".to_owned()),
            title: "The log is not watched any more".to_owned(),
            kind: Kind::Rule,
            tags: ["attack.defense-impairment", "attack.t1685.002", "atlas.aml.t0107", "owasp.asi10"].map(str::to_owned).to_vec(),
            guardduty: Some("Stealth:IAMUser/CloudTrailLoggingDisabled".to_owned()),
            falsepositives: vec!["A fault of this program: the gateway goes on, and what it does is recorded".to_owned()],
            response: Response::Notify,
        };
        let seen = format!("The watch ended before record {next}: {why}.");
        let evidence = Evidence { proof: Proof::Record(next.0), at, says: seen.clone() };
        let expected = "Each record is held against the rules within moments.".to_owned();
        Finding::new(detector, About::default(), evidence, expected, seen).weighing(10, 1.0)
    }

    fn hold_against_rules(&mut self, position: Position, entry: &[u8]) -> Vec<Finding> {
        let Reading { reader, scratch } = &mut self.reading;
        let Ok(event) = reader.read(entry) else { return Vec::new() };
        let heard = &mut self.heard;
        self.rules.see(event, scratch, true, || {
            // A time that cannot be read is taken to be that of the record before.
            *heard = event.string(&FIELDS.at).and_then(|at| at.parse().ok()).unwrap_or(*heard);
            Happened { at: *heard, proof: Proof::Record(position.0), about: about(event) }
        })
    }

    /// Takes in what was found just now.
    fn found(&mut self, mut finding: Finding) {
        if let Some(verdicts) = self.verdicts.get(&finding.detector.id) {
            finding.confidence = verdicts.confidence(finding.confidence);
        }
        let noted = self.book.note(finding);
        self.put(noted);
    }

    fn put(&mut self, noted: Vec<Noted>) {
        for noted in noted {
            match noted {
                Noted::New(mut finding) => {
                    // What was closed may begin again with the same proof, when more of it comes late. It is another finding all the same.
                    if self.known.get(&finding.id).is_some() || self.pending.iter().any(|pending| pending.id == finding.id) {
                        finding.id = self.book.rename(&finding, self.next);
                    }
                    self.pending.push_back(finding);
                }
                Noted::Grown(finding) => self.pending.push_back(finding),
                Noted::More(_) | Noted::Closed(_) => {}
            }
        }
    }

    /// A finding is on the log.
    fn recorded(&mut self, position: Position, found: &Found) {
        self.known.found(position, found);
        if found.by.is_some() {
            let noted = self.book.note_step(&found.finding);
            self.put(noted);
        } else {
            self.is_recorded(&found.finding.id, found.finding.count);
        }
    }

    /// That it happened so often is on the log, further on than was read yet, and would survive a crash: it does not wait any more.
    pub fn is_recorded(&mut self, id: &Digest, count: u64) {
        self.pending.retain(|pending| pending.id != *id || pending.count > count);
    }

    fn settled(&mut self, position: Position, settled: &Settled) {
        self.known.settled(position, settled);
        self.book.close(&settled.finding, settled.code == Settlement::TruePositive);
        if self.verdicts.len() >= DETECTORS_MAX && !self.verdicts.contains_key(&settled.detector) {
            return;
        }
        let verdicts = self.verdicts.entry(settled.detector.clone()).or_default();
        // Who says something else of the same finding takes back what was said before.
        match settled.before {
            Some(Settlement::TruePositive) => verdicts.right = verdicts.right.saturating_sub(1),
            Some(Settlement::FalsePositive) => verdicts.wrong = verdicts.wrong.saturating_sub(1),
            Some(Settlement::Benign) | None => {}
        }
        match settled.code {
            Settlement::TruePositive => verdicts.right = verdicts.right.saturating_add(1),
            Settlement::FalsePositive => verdicts.wrong = verdicts.wrong.saturating_add(1),
            Settlement::Benign => {}
        }
    }
}

/// The fields that say when something happened and whom it is about.
struct Fields {
    at: Path,
    agent: Path,
    execution: Path,
    subject: Path,
    tool: Path,
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| Fields {
    at: Path::new("at"),
    agent: Path::new("agent"),
    execution: Path::new("execution"),
    subject: Path::new("subject"),
    tool: Path::new("tool"),
});

/// Whom a record is about.
fn about(event: Event<'_>) -> About {
    About {
        agent: event.string(&FIELDS.agent).and_then(|agent| agent.parse().ok()),
        execution: event.string(&FIELDS.execution).and_then(|execution| execution.parse().ok()),
        subject: event.string(&FIELDS.subject).map(Cow::into_owned),
        tool: event.string(&FIELDS.tool).and_then(|tool| tool.parse().ok()),
        cloud: None,
    }
}
