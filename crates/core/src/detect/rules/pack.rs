//! Files of rules, read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use rsigma_parser::{CorrelationRule, Level, SigmaRule};
use serde::Deserialize;
use serde_json::Value;

use super::Rules;
use super::compile;
use super::correlation::Correlation;
use super::event::Path;
use super::examples::Example;
use super::index::Index;
use super::shipped::SHIPPED;
use crate::detect::finding::{Detector, Kind, Response};

/// What files of rules say.
#[derive(Clone, Debug, Default)]
pub struct Pack {
    rules: Vec<Arc<Entry<SigmaRule>>>,
    correlations: Vec<Arc<Entry<CorrelationRule>>>,
    /// The ids of those that are switched off.
    off: BTreeSet<String>,
}

/// One rule: as Sigma has it, and what it says beside its condition.
#[derive(Debug)]
struct Entry<Sigma> {
    sigma: Sigma,
    said: Rule,
}

/// The shipped ones, read once.
static SHIPPED_PACK: LazyLock<Pack> = LazyLock::new(|| Pack::read(SHIPPED.iter().copied()).0);

/// The log that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Our own (`product: bailiwick`).
    Record,
    /// AWS CloudTrail (`product: aws`, `service: cloudtrail`).
    CloudTrail,
    /// Another, of which we read none.
    Other,
}

/// What a rule says beside its condition.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The file that it is in.
    pub file: String,
    /// What its findings say of it.
    pub detector: Detector,
    /// What would have been in order.
    pub expected: String,
    /// What was seen: a sentence with the paths of fields in braces.
    pub seen: String,
    /// The same, apart: what stands before each field, and the field.
    pub(super) sentence: Vec<(Box<str>, Option<Path>)>,
    /// How bad it is, from 1 to 10.
    pub impact: u8,
    /// How sure its author is that it is that, from 0 to 1.
    pub confidence: f64,
    /// Whether it counts only the first time that somebody does something.
    pub first_time: bool,
    /// Whether it raises findings by itself, rather than for correlations alone.
    pub alone: bool,
    /// The log that it is about.
    pub source: Source,
    /// Events that it is about, and others that it is not.
    pub examples: Vec<Example>,
}

/// Something wrong with a file of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{file}`: {what}")]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The title of the rule, where it is one rather than the file.
    pub title: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl Problem {
    fn of_file(file: &str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), title: None, what: what.into() }
    }

    fn of_rule(file: &str, title: &str, why: impl std::fmt::Display) -> Self {
        Self { file: file.to_owned(), title: Some(title.to_owned()), what: format!("`{title}`: {why}") }
    }
}

/// What a rule of ours says beyond Sigma, under `bailiwick`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beyond {
    catalogue: Option<String>,
    expected: Option<String>,
    seen: Option<String>,
    impact: Option<u8>,
    confidence: Option<f64>,
    #[serde(default)]
    first_time: bool,
    guardduty: Option<String>,
    response: Option<Response>,
    #[serde(default)]
    examples: Vec<Example>,
}

impl Pack {
    /// Reads files of rules: their names, and what is in them. What is wrong is said beside what could be read, and the rest goes on.
    pub fn read<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> (Self, Vec<Problem>) {
        let mut pack = Self::default();
        let mut problems = Vec::new();
        for (file, text) in files {
            let read = match rsigma_parser::parse_sigma_yaml(text) {
                Ok(read) => read,
                Err(error) => {
                    problems.push(Problem::of_file(file, error.to_string()));
                    continue;
                }
            };
            problems.extend(read.errors.into_iter().map(|what| Problem::of_file(file, what)));
            if !read.filters.is_empty() {
                let what = "a filter is no rule here; put what it leaves out into the rule's condition";
                problems.push(Problem::of_file(file, what));
            }
            if read.rules.is_empty() && read.correlations.is_empty() {
                problems.push(Problem::of_file(file, "there is no rule in it"));
            }
            for sigma in read.rules {
                match describe(file, Parts::of_rule(&sigma), Kind::Rule) {
                    Ok(said) => pack.rules.push(Arc::new(Entry { sigma, said })),
                    Err(what) => problems.push(Problem::of_rule(file, &sigma.title, what)),
                }
            }
            for sigma in read.correlations {
                match describe(file, Parts::of_correlation(&sigma), Kind::Correlation) {
                    Ok(said) => pack.correlations.push(Arc::new(Entry { sigma, said })),
                    Err(what) => problems.push(Problem::of_rule(file, &sigma.title, what)),
                }
            }
        }
        problems.extend(pack.named_twice());
        (pack, problems)
    }

    /// The rules that come with the program.
    pub fn shipped() -> &'static Self {
        &SHIPPED_PACK
    }

    /// These rules and others of `own`, of which one with the `id` of one of these takes its place. What of `own` cannot stand
    /// beside these is said, and left out.
    pub fn with(&self, own: Self) -> (Self, Vec<Problem>) {
        let mut pack = self.clone();
        let is_replaced = |said: &Rule| own.described().any(|rule| rule.detector.id == said.detector.id);
        pack.rules.retain(|rule| !is_replaced(&rule.said));
        pack.correlations.retain(|rule| !is_replaced(&rule.said));
        let mut problems = Vec::new();
        let taken: BTreeMap<&str, &Rule> = pack.rules.iter().filter_map(|rule| Some((rule.sigma.name.as_deref()?, &rule.said))).collect();
        for rule in &own.rules {
            if let Some(other) = rule.sigma.name.as_deref().and_then(|name| taken.get(name)) {
                let why =
                    format!("its `name` is that of a rule in `{}` with another `id`; correlations could not tell them apart", other.file);
                problems.push(Problem::of_rule(&rule.said.file, &rule.sigma.title, why));
            }
        }
        drop(taken);
        pack.rules.extend(own.rules);
        pack.correlations.extend(own.correlations);
        (pack, problems)
    }

    /// The same with the rule of an `id` or a `name` switched off: it raises nothing, and serves correlations as before. Fails where
    /// there is none.
    pub fn without(mut self, rule: &str) -> Result<Self, Self> {
        let named = |id: &str, name: Option<&str>| id == rule || name == Some(rule);
        let rules = self.rules.iter().map(|entry| (&entry.said.detector.id, entry.sigma.name.as_deref()));
        let correlations = self.correlations.iter().map(|entry| (&entry.said.detector.id, entry.sigma.name.as_deref()));
        match rules.chain(correlations).find(|(id, name)| named(id, *name)).map(|(id, _)| id.clone()) {
            Some(id) => {
                self.off.insert(id);
                Ok(self)
            }
            None => Err(self),
        }
    }

    /// The same with nothing switched off.
    pub(super) fn switched_on(&self) -> Self {
        Self { off: BTreeSet::new(), ..self.clone() }
    }

    /// What a person may call the rules by: the `name` of each, or its `id` where it has none.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.iter().map(|entry| (entry.sigma.name.as_deref(), &entry.said));
        let correlations = self.correlations.iter().map(|entry| (entry.sigma.name.as_deref(), &entry.said));
        rules.chain(correlations).map(|(name, said)| name.unwrap_or(&said.detector.id))
    }

    /// Whether the rule of an `id` is switched off.
    pub fn is_off(&self, id: &str) -> bool {
        self.off.contains(id)
    }

    /// What every rule says beside its condition, in the order of the files.
    pub fn described(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|entry| &entry.said).chain(self.correlations.iter().map(|entry| &entry.said))
    }

    /// The rules that are about one log. What cannot be compiled is said beside the rest.
    pub fn about(&self, source: Source) -> (Rules, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        let mut conditions = Vec::new();
        let mut names = BTreeMap::new();
        for entry in self.rules.iter().filter(|entry| entry.said.source == source) {
            let Entry { sigma, said } = entry.as_ref();
            match compile::condition(&sigma.detection) {
                Ok(condition) => {
                    let number = u32::try_from(rules.len()).unwrap_or(u32::MAX);
                    names.extend(sigma.id.iter().chain(&sigma.name).map(|name| (name.as_str(), number)));
                    rules.push(Rule { alone: said.alone && !self.is_off(&said.detector.id), ..said.clone() });
                    conditions.push(condition);
                }
                Err(what) => problems.push(Problem::of_rule(&said.file, &sigma.title, what)),
            }
        }
        let mut correlations = Vec::new();
        let mut over = vec![Vec::new(); rules.len()];
        for entry in self.correlations.iter().filter(|entry| self.source_of(&entry.sigma) == source) {
            let Entry { sigma, said } = entry.as_ref();
            match Correlation::of(sigma, |name| names.get(name).copied()) {
                Ok(correlation) => {
                    let is_off = self.is_off(&said.detector.id);
                    let number = u32::try_from(correlations.len()).unwrap_or(u32::MAX);
                    for rule in &correlation.rules {
                        if let Some(rule) = rules.get_mut(*rule as usize) {
                            rule.alone = rule.alone && sigma.generate;
                        }
                        let over = over.get_mut(*rule as usize).filter(|over: &&mut Vec<u32>| !is_off && over.last() != Some(&number));
                        over.into_iter().for_each(|over| over.push(number));
                    }
                    if !is_off {
                        correlations.push((Arc::new(Rule { source, ..said.clone() }), correlation));
                    }
                }
                Err(what) => problems.push(Problem::of_rule(&said.file, &sigma.title, what)),
            }
        }
        let index = Index::of(conditions.iter());
        (Rules { rules: rules.into_iter().map(Arc::new).collect(), conditions, correlations, over, index }, problems)
    }

    /// A correlation is about the log that the first of its rules is about.
    fn source_of(&self, correlation: &CorrelationRule) -> Source {
        let is_named = |rule: &SigmaRule| {
            correlation.rules.first().is_some_and(|name| [&rule.id, &rule.name].into_iter().flatten().any(|known| known == name))
        };
        self.rules.iter().find(|entry| is_named(&entry.sigma)).map_or(Source::Other, |entry| entry.said.source)
    }

    fn named_twice(&self) -> Vec<Problem> {
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        let mut problems = Vec::new();
        for rule in self.described() {
            let Detector { id, title, .. } = &rule.detector;
            if let Some(other) = known.insert(id, &rule.file) {
                let why = format!("the `id` {id} is that of a rule in `{other}` too; findings would be taken for each other's");
                problems.push(Problem::of_rule(&rule.file, title, why));
            }
        }
        problems
    }
}

/// A sentence apart at the fields that stand in it in braces.
fn sentence_of(seen: &str) -> Vec<(Box<str>, Option<Path>)> {
    let mut parts = Vec::new();
    let mut rest = seen;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((path, behind)) = after.split_once('}') else { break };
        parts.push((before.into(), Some(Path::new(path))));
        rest = behind;
    }
    parts.push((rest.into(), None));
    parts
}

/// What a level asks for: below medium, to be on the record.
fn asks_for(level: Option<Level>) -> Option<Response> {
    matches!(level, Some(Level::Informational | Level::Low)).then_some(Response::Record)
}

/// What both kinds of rules say alike.
struct Parts<'r> {
    id: Option<&'r str>,
    title: &'r str,
    description: Option<&'r str>,
    level: Option<Level>,
    tags: &'r [String],
    falsepositives: &'r [String],
    beyond: Option<Value>,
    source: Source,
}

impl<'r> Parts<'r> {
    fn of_rule(rule: &'r SigmaRule) -> Self {
        let is = |said: &Option<String>, word: &str| said.as_deref().is_some_and(|said| said.eq_ignore_ascii_case(word));
        let source = match &rule.logsource {
            logsource if is(&logsource.product, "bailiwick") => Source::Record,
            logsource if is(&logsource.product, "aws") && is(&logsource.service, "cloudtrail") => Source::CloudTrail,
            _ => Source::Other,
        };
        Self {
            id: rule.id.as_deref(),
            title: &rule.title,
            description: rule.description.as_deref(),
            level: rule.level,
            tags: &rule.tags,
            falsepositives: &rule.falsepositives,
            beyond: rule.custom_attributes.get("bailiwick").and_then(|said| serde_json::to_value(said).ok()),
            source,
        }
    }

    fn of_correlation(rule: &'r CorrelationRule) -> Self {
        Self {
            id: rule.id.as_deref(),
            title: &rule.title,
            description: rule.description.as_deref(),
            level: rule.level,
            tags: &rule.tags,
            falsepositives: &rule.falsepositives,
            beyond: rule.custom_attributes.get("bailiwick").and_then(|said| serde_json::to_value(said).ok()),
            source: Source::Other,
        }
    }
}

fn describe(file: &str, parts: Parts<'_>, kind: Kind) -> Result<Rule, String> {
    let beyond: Beyond = match parts.beyond {
        Some(said) => serde_json::from_value(said).map_err(|error| format!("under `bailiwick`: {error}"))?,
        // A rule of somebody else, who does not know what is usual here: it counts the first time, and if it matters at all.
        None => Beyond { first_time: true, response: asks_for(parts.level), ..Beyond::default() },
    };
    let impact = match (beyond.impact, parts.level) {
        (Some(impact @ 1..=10), _) => impact,
        (Some(impact), _) => return Err(format!("under `bailiwick`: an impact is from 1 to 10, not {impact}")),
        (None, Some(Level::Informational)) => 1,
        (None, Some(Level::Low)) => 3,
        (None, Some(Level::Medium) | None) => 5,
        (None, Some(Level::High)) => 7,
        (None, Some(Level::Critical)) => 9,
    };
    let confidence = beyond.confidence.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&confidence) {
        return Err(format!("under `bailiwick`: a confidence is from 0 to 1, not {confidence}"));
    }
    let sentence = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let seen = beyond.seen.as_deref().or(parts.description).map_or_else(|| format!("{}.", parts.title), sentence);
    Ok(Rule {
        file: file.to_owned(),
        detector: Detector {
            id: parts.id.unwrap_or(parts.title).to_owned(),
            catalogue: beyond.catalogue,
            title: parts.title.to_owned(),
            kind,
            tags: parts.tags.to_vec(),
            guardduty: beyond.guardduty,
            falsepositives: parts.falsepositives.to_vec(),
            response: beyond.response.unwrap_or(Response::Notify),
        },
        expected: beyond.expected.as_deref().map_or_else(|| "Nothing that the rule describes.".to_owned(), sentence),
        sentence: sentence_of(&seen),
        seen,
        impact,
        confidence,
        first_time: beyond.first_time,
        alone: true,
        source: parts.source,
        examples: beyond.examples,
    })
}
