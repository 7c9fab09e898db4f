//! The findings of late: equal ones are one, and those of several tactics within an hour are an attack.

use std::collections::{BTreeMap, VecDeque};

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::{Detector, Evidence, Finding, Kind, Level, Response};
use crate::model::{Digest, Timestamp};

/// How long after the last of it an equal finding is the same one rather than a new one, in seconds.
const SAME_S: i64 = 24 * 60 * 60;

/// Within how much time findings about one execution or principal belong together, in seconds.
const SEQUENCE_S: i64 = 60 * 60;

/// How many tactics make an attack of several findings.
const SEQUENCE_TACTICS: usize = 3;

/// How many findings are open at most, and how many executions and principals are watched for sequences.
const OPEN_MAX: usize = 10_000;

/// How many findings of one execution or principal are kept for its sequence.
const STEPS_MAX: usize = 64;

/// The findings that are open, each by what it is equal to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    open: BTreeMap<String, Open>,
    /// The keys of `open`, oldest first.
    order: VecDeque<String>,
    /// What each execution or principal was found to do of late.
    steps: BTreeMap<String, Vec<Step>>,
    /// The keys of `steps`, oldest first.
    watched: VecDeque<String>,
}

/// An open finding, and how it stood when it was told last.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    finding: Finding,
    told: (u64, Level),
}

/// One finding, as its sequence needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Step {
    at: Timestamp,
    tactics: Vec<String>,
    detector: String,
    confidence: f64,
    evidence: Option<Evidence>,
}

/// What became of a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Noted {
    /// It is a new one.
    New(Finding),
    /// It is more of one that is open, which now reads like this. Nobody need be told again.
    More(Finding),
    /// The same, and it is twice as often as when it was told last, or of a higher level: it is told again.
    Grown(Finding),
    /// One that was open is closed, and reads like this for good: it is over, or too many are open.
    Closed(Finding),
}

impl Findings {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The open ones, in the order in which they were first noted.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.order.iter().filter_map(|key| self.open.get(key)).map(|open| &open.finding)
    }

    /// Takes a finding in, and says what became of it and of the attack that it may be a step of.
    ///
    /// Times may come out of order: a finding is more of an open one when it is within a day of it, before or after. Beyond
    /// 10,000 open findings the one noted first is closed.
    pub fn note(&mut self, finding: Finding) -> Vec<Noted> {
        let sequence = self.step(&finding);
        let mut noted = Vec::new();
        self.put(finding, &mut noted);
        if let Some(sequence) = sequence {
            self.put(sequence, &mut noted);
        }
        noted
    }

    /// Takes in a finding that others have noted, as a step of what its execution or principal does.
    pub fn note_step(&mut self, finding: &Finding) -> Vec<Noted> {
        let mut noted = Vec::new();
        if let Some(sequence) = self.step(finding) {
            self.put(sequence, &mut noted);
        }
        noted
    }

    /// Closes a finding, since a person said what it is: more of it is a new one. One that was not what it looked like is no step of an
    /// attack either. Says whether it was open.
    pub fn close(&mut self, id: &Digest, was_right: bool) -> bool {
        let Some(key) = self.open.iter().find(|(_, open)| open.finding.id == *id).map(|(key, _)| key.clone()) else { return false };
        self.order.retain(|other| *other != key);
        let Some(Open { finding, .. }) = self.open.remove(&key) else { return false };
        if !was_right && let Some(steps) = self.steps.get_mut(&finding.about.whose()) {
            steps.retain(|step| step.detector != finding.detector.title);
        }
        true
    }

    /// Gives an open finding a name of its own, since another had the same; `at` is where in the log that was seen.
    pub fn rename(&mut self, finding: &Finding, at: Position) -> Digest {
        let id = Digest::of(format!("{}\n{at}", finding.id).as_bytes());
        if let Some(open) = self.open.get_mut(&finding.key()) {
            open.finding.id = id;
        }
        id
    }

    fn put(&mut self, finding: Finding, noted: &mut Vec<Noted>) {
        let key = finding.key();
        let new = || Open { told: (finding.count, finding.level()), finding: finding.clone() };
        match self.open.get_mut(&key) {
            Some(open) if is_within(finding.first, open.finding.first, open.finding.last, SAME_S) => {
                open.finding.absorb(finding);
                let (count, level) = (open.finding.count, open.finding.level());
                let is_grown = count >= open.told.0.saturating_mul(2) || level > open.told.1;
                if is_grown {
                    open.told = (count, level);
                }
                return noted.push(if is_grown { Noted::Grown } else { Noted::More }(open.finding.clone()));
            }
            Some(open) => noted.push(Noted::Closed(std::mem::replace(open, new()).finding)),
            None => {
                let open = new();
                if self.open.len() >= OPEN_MAX {
                    let oldest = self.order.pop_front().and_then(|oldest| self.open.remove(&oldest));
                    noted.extend(oldest.map(|oldest| Noted::Closed(oldest.finding)));
                }
                self.order.push_back(key.clone());
                self.open.insert(key, open);
            }
        }
        noted.push(Noted::New(finding));
    }

    /// Adds a finding to what its execution or principal was found to do within the hour; an attack where that is of enough tactics.
    fn step(&mut self, finding: &Finding) -> Option<Finding> {
        let whose = finding.about.whose();
        if whose.is_empty() || finding.detector.kind == Kind::Sequence {
            return None;
        }
        if !self.steps.contains_key(&whose) {
            if self.steps.len() >= OPEN_MAX
                && let Some(oldest) = self.watched.pop_front()
            {
                self.steps.remove(&oldest);
            }
            self.watched.push_back(whose.clone());
        }
        let steps = self.steps.entry(whose).or_default();
        steps.push(Step {
            at: finding.last,
            tactics: finding.tactics().map(str::to_owned).collect(),
            detector: finding.detector.title.clone(),
            confidence: finding.confidence,
            evidence: finding.evidence.last().cloned(),
        });
        if steps.len() > STEPS_MAX {
            steps.remove(0);
        }
        let near: Vec<&Step> = steps.iter().filter(|step| is_within(step.at, finding.first, finding.last, SEQUENCE_S)).collect();
        sequence(finding, &near)
    }
}

/// The attack that these findings are together, where they are of enough tactics.
fn sequence(last: &Finding, steps: &[&Step]) -> Option<Finding> {
    let tactics: std::collections::BTreeSet<&str> = steps.iter().flat_map(|step| step.tactics.iter().map(String::as_str)).collect();
    // Each detector counts once, by the surest of what it found: the same thing ten times is no better proof of an attack.
    let mut surest: BTreeMap<&str, f64> = BTreeMap::new();
    for step in steps {
        let sure = surest.entry(&step.detector).or_default();
        *sure = sure.max(step.confidence);
    }
    if tactics.len() < SEQUENCE_TACTICS || surest.len() < SEQUENCE_TACTICS {
        return None;
    }
    let confidence = 1.0 - surest.values().map(|sure| 1.0 - sure).product::<f64>();
    let names = tactics.iter().copied().collect::<Vec<_>>().join(", ");
    let detector = Detector {
        id: "sequence".to_owned(),
        catalogue: None,
        title: "Attack of several steps".to_owned(),
        kind: Kind::Sequence,
        tags: tactics.iter().map(|tactic| format!("attack.{tactic}")).collect(),
        guardduty: Some("AttackSequence:IAM/CompromisedCredentials".to_owned()),
        falsepositives: vec!["A test of the house's defences".to_owned()],
        response: Response::Quarantine,
    };
    let evidence: Vec<Evidence> = steps.iter().filter_map(|step| step.evidence.clone()).collect();
    let seen = format!("{} findings within an hour, of the tactics {names}.", surest.len());
    let expected = "What one execution or principal does within an hour is of one kind.".to_owned();
    let first = evidence.first()?.clone();
    Some(Finding::new(detector, last.about.clone(), first, expected, seen).proven_by(evidence).weighing(10, confidence.max(0.9)))
}

/// Whether a time is between two others, or no more than so many seconds away from them.
fn is_within(at: Timestamp, first: Timestamp, last: Timestamp, seconds: i64) -> bool {
    at.as_second() >= first.as_second().saturating_sub(seconds) && at.as_second() <= last.as_second().saturating_add(seconds)
}
