//! Rules: what is known to be out of the ordinary, in Sigma.
//!
//! A [`Pack`] is what files of rules say. [`Rules`] are those of a pack that are about one log, compiled and indexed, and never
//! change. A [`Watch`] is rules and what they remember of the events before. Which fields our own records have, what a rule says
//! beyond Sigma, and what of Sigma is not done is in `docs/spec/rules.md`.

mod compile;
mod correlation;
pub mod event;
mod examples;
mod index;
mod matcher;
mod pack;
mod shipped;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::correlation::Windows;
pub use self::correlation::{GROUPS_MAX, HITS_MAX};
pub use self::event::{Event, NotAnEvent, Path, Reader};
pub use self::examples::{Checked, Example};
use self::index::Index;
pub use self::pack::{Pack, Problem, Rule, Source};
pub use self::shipped::SHIPPED;
use super::finding::{About, Evidence, Finding, Proof};
use crate::model::{Timestamp, shown};

/// How much of one value a sentence shows.
const VALUE_CHARS_MAX: usize = 120;

/// The rules of a pack that are about one log.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
    conditions: Vec<compile::Condition>,
    correlations: Vec<(Arc<Rule>, correlation::Correlation)>,
    /// For each rule, the correlations that are over it.
    over: Vec<Vec<u32>>,
    index: Index,
}

/// Rules, and what they remember of the events before. Where it is kept, the memory is: whoever reads it back says by which rules it
/// goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Watch {
    #[serde(skip)]
    rules: Arc<Rules>,
    windows: Windows,
}

/// Memory that is used again from event to event.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    candidates: Vec<u32>,
}

/// What happened, as findings name it.
#[derive(Clone, Debug)]
pub struct Happened {
    /// When.
    pub at: Timestamp,
    /// Where it can be looked up.
    pub proof: Proof,
    /// Whom it is about.
    pub about: About,
}

impl Rules {
    /// How many rules there are, and how many correlations.
    pub fn len(&self) -> (usize, usize) {
        (self.rules.len(), self.correlations.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule of a number.
    pub fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(number as usize).map(AsRef::as_ref)
    }

    /// Whether any rule counts only the first time that somebody does something.
    pub fn any_is_gated(&self) -> bool {
        self.rules.iter().any(|rule| rule.first_time)
    }

    /// The numbers of the rules that `event` is what they describe, in their order.
    pub fn matching<'s>(&self, event: Event<'_>, scratch: &'s mut Scratch) -> &'s [u32] {
        self.index.candidates(event, &mut scratch.candidates);
        scratch.candidates.retain(|rule| self.conditions.get(*rule as usize).is_some_and(|condition| condition.holds(event)));
        &scratch.candidates
    }
}

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules, windows: Windows::default() }
    }

    /// Goes on by these rules. What is remembered for correlations that they do not have goes.
    pub fn go_by(&mut self, rules: Arc<Rules>) {
        self.windows.keep_only(&rules.correlations.iter().map(|(_, correlation)| correlation.name).collect());
        self.rules = rules;
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// How many events the correlations keep.
    pub fn kept(&self) -> usize {
        self.windows.hits()
    }

    /// Looks at one event. `happened` is asked only where a rule is about it; `is_first` says whether its actor does this for the first
    /// time.
    ///
    /// A rule that only serves correlations raises nothing by itself.
    pub fn see(&mut self, event: Event<'_>, scratch: &mut Scratch, is_first: bool, happened: impl FnOnce() -> Happened) -> Vec<Finding> {
        let rules = Arc::clone(&self.rules);
        let matching = rules.matching(event, scratch);
        if matching.is_empty() {
            return Vec::new();
        }
        let happened = happened();
        let mut findings = Vec::new();
        for number in matching {
            let (Some(rule), Some(over)) = (rules.rules.get(*number as usize), rules.over.get(*number as usize)) else { continue };
            let evidence = Evidence { proof: happened.proof.clone(), at: happened.at, says: rule.says(event) };
            for correlation in over {
                let Some((by, correlated)) = rules.correlations.get(*correlation as usize) else { continue };
                if let Some(proof) = self.windows.hit(correlated, *number, event, &evidence) {
                    findings.push(by.finding(&happened, event, evidence.clone()).proven_by(proof));
                }
            }
            if rule.alone && (is_first || !rule.first_time) {
                findings.push(rule.finding(&happened, event, evidence));
            }
        }
        findings
    }
}

impl Rule {
    /// What was seen, with the event's own values; safe to show.
    fn says(&self, event: Event<'_>) -> String {
        let mut said = String::with_capacity(self.seen.len() + 64);
        for (before, path) in &self.sentence {
            said.push_str(before);
            if let Some(path) = path {
                match event.at(path).single().and_then(|value| value.as_comparable()) {
                    Some(value) => said.push_str(&shown(&value, VALUE_CHARS_MAX)),
                    None => said.push('?'),
                }
            }
        }
        said
    }

    fn finding(&self, happened: &Happened, event: Event<'_>, evidence: Evidence) -> Finding {
        Finding::new(self.detector.clone(), happened.about.clone(), evidence, self.expected.clone(), self.says(event))
            .weighing(self.impact, self.confidence)
    }
}
