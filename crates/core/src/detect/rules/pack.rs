//! Files of rules, read.

use std::collections::BTreeMap;
use std::sync::Arc;

use rsigma_parser::{CorrelationRule, Level, SigmaRule};
use serde::Deserialize;
use serde_json::Value;

use super::Rules;
use super::compile;
use super::correlation::Correlation;
use super::event::Path;
use super::examples::Example;
use super::index::Index;
use crate::detect::finding::{Detector, Kind, Response};

/// What files of rules say.
#[derive(Clone, Debug, Default)]
pub struct Pack {
    rules: Vec<(String, SigmaRule, Rule)>,
    correlations: Vec<(String, CorrelationRule, Rule)>,
}

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
    /// What is wrong, and how it may be mended.
    pub what: String,
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
            let mut wrong = |what: String| problems.push(Problem { file: file.to_owned(), what });
            let read = match rsigma_parser::parse_sigma_yaml(text) {
                Ok(read) => read,
                Err(error) => {
                    wrong(error.to_string());
                    continue;
                }
            };
            read.errors.into_iter().for_each(&mut wrong);
            if !read.filters.is_empty() {
                wrong("a filter is no rule here; put what it leaves out into the rule's condition".to_owned());
            }
            if read.rules.is_empty() && read.correlations.is_empty() {
                wrong("there is no rule in it".to_owned());
            }
            for rule in read.rules {
                match describe(file, Parts::of_rule(&rule), Kind::Rule) {
                    Ok(said) => pack.rules.push((file.to_owned(), rule, said)),
                    Err(what) => wrong(format!("`{}`: {what}", rule.title)),
                }
            }
            for rule in read.correlations {
                match describe(file, Parts::of_correlation(&rule), Kind::Correlation) {
                    Ok(said) => pack.correlations.push((file.to_owned(), rule, said)),
                    Err(what) => wrong(format!("`{}`: {what}", rule.title)),
                }
            }
        }
        problems.extend(pack.named_twice());
        (pack, problems)
    }

    /// What every rule says beside its condition, in the order of the files.
    pub fn described(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|(_, _, rule)| rule).chain(self.correlations.iter().map(|(_, _, rule)| rule))
    }

    /// The rules that are about one log. What cannot be compiled is said beside the rest.
    pub fn about(&self, source: Source) -> (Rules, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        let mut conditions = Vec::new();
        let mut names = BTreeMap::new();
        for (file, parsed, said) in self.rules.iter().filter(|(_, _, said)| said.source == source) {
            match compile::condition(&parsed.detection) {
                Ok(condition) => {
                    let number = u32::try_from(rules.len()).unwrap_or(u32::MAX);
                    names.extend(parsed.id.iter().chain(&parsed.name).map(|name| (name.as_str(), number)));
                    rules.push(said.clone());
                    conditions.push(condition);
                }
                Err(what) => problems.push(Problem { file: file.clone(), what: format!("`{}`: {what}", parsed.title) }),
            }
        }
        let mut correlations = Vec::new();
        let mut over = vec![Vec::new(); rules.len()];
        for (file, parsed, said) in self.correlations.iter().filter(|(_, parsed, _)| self.source_of(parsed) == source) {
            match Correlation::of(parsed, |name| names.get(name).copied()) {
                Ok(correlation) => {
                    let number = u32::try_from(correlations.len()).unwrap_or(u32::MAX);
                    for rule in &correlation.rules {
                        if let Some(rule) = rules.get_mut(*rule as usize) {
                            rule.alone = rule.alone && parsed.generate;
                        }
                        if let Some(over) = over.get_mut(*rule as usize).filter(|over: &&mut Vec<u32>| over.last() != Some(&number)) {
                            over.push(number);
                        }
                    }
                    correlations.push((Arc::new(Rule { source, ..said.clone() }), correlation));
                }
                Err(what) => problems.push(Problem { file: file.clone(), what: format!("`{}`: {what}", parsed.title) }),
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
        self.rules.iter().find(|(_, rule, _)| is_named(rule)).map_or(Source::Other, |(_, _, said)| said.source)
    }

    fn named_twice(&self) -> Vec<Problem> {
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        let mut problems = Vec::new();
        for rule in self.described() {
            if let Some(other) = known.insert(&rule.detector.id, &rule.file) {
                let what =
                    format!("the `id` {} is that of a rule in `{other}` too; findings would be taken for each other's", rule.detector.id);
                problems.push(Problem { file: rule.file.clone(), what });
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
