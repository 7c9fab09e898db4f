//! What the operator orders to be done about what is found: the first rule that fits, and otherwise what the detector's author says.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::detect::finding::{Finding, Kind, Level, Response};
use crate::model::{AgentName, Digest, ExecutionId, Timestamp};

/// Whether what is ordered is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is only recorded what would be done. People are told all the same.
    #[default]
    DryRun,
    /// It is done.
    Act,
}

/// What is to be done about what is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Whether it is done.
    pub mode: Mode,
    /// How much may be stopped within an hour before a person says what becomes of the rest.
    pub stops_per_hour: usize,
    /// What is done when; the first that fits decides.
    pub when: Vec<When>,
}

impl Default for Orders {
    fn default() -> Self {
        Self { mode: Mode::DryRun, stops_per_hour: 5, when: Vec::new() }
    }
}

/// What is done about findings that are like this. What is empty fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// What raised it: the id of a rule or of a baseline's score, or an entry of the catalogue.
    pub rules: Vec<Pattern>,
    /// The least level.
    pub level: Option<Level>,
    /// The kinds of detector.
    pub kinds: Vec<Kind>,
    /// The agents that it is about.
    pub agents: Vec<Pattern>,
    /// Who answers for them.
    pub owners: Vec<Pattern>,
    /// What is done.
    pub does: Option<Response>,
}

/// A text in which each `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// A text that is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is a text of 1 to 256 bytes, in which `*` stands for any text")]
pub struct InvalidPattern;

impl Pattern {
    /// Whether `text` is meant.
    pub fn fits(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (1..=256).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(InvalidPattern) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What orders look at of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name.
    pub finding: Digest,
    /// The agent that it is about.
    pub agent: Option<AgentName>,
    /// The execution that it is about.
    pub execution: Option<ExecutionId>,
    /// What raised it.
    pub detector: String,
    /// The entry of the catalogue that it is.
    pub catalogue: Option<String>,
    /// What it is called.
    pub title: String,
    /// How it was detected.
    pub kind: Kind,
    /// How much it matters.
    pub level: Level,
    /// When the last of it happened.
    pub last: Timestamp,
    /// What its author would have done.
    pub advised: Response,
}

impl Case {
    /// The case of a finding.
    pub fn of(finding: &Finding) -> Self {
        Self {
            finding: finding.id,
            agent: finding.about.agent.clone(),
            execution: finding.about.execution,
            detector: finding.detector.id.clone(),
            catalogue: finding.detector.catalogue.clone(),
            title: finding.detector.title.clone(),
            kind: finding.detector.kind,
            level: finding.level(),
            last: finding.last,
            advised: finding.detector.response,
        }
    }
}

impl Orders {
    /// What is to be done about a case. `owner` says who answers for an agent.
    pub fn response(&self, case: &Case, owner: &dyn Fn(&AgentName) -> Option<String>) -> Response {
        let ordered = self.when.iter().find(|when| when.fits(case, owner)).and_then(|when| when.does);
        ordered.unwrap_or(case.advised)
    }
}

impl When {
    fn fits(&self, case: &Case, owner: &dyn Fn(&AgentName) -> Option<String>) -> bool {
        let any = |patterns: &[Pattern], text: Option<&str>| {
            patterns.is_empty() || text.is_some_and(|text| patterns.iter().any(|pattern| pattern.fits(text)))
        };
        let is_rule = any(&self.rules, Some(&case.detector)) || any(&self.rules, case.catalogue.as_deref());
        let agent = case.agent.as_ref();
        is_rule
            && self.level.is_none_or(|least| case.level >= least)
            && (self.kinds.is_empty() || self.kinds.contains(&case.kind))
            && any(&self.agents, agent.map(AgentName::as_str))
            && (self.owners.is_empty() || any(&self.owners, agent.and_then(owner).as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, fits) in [
            ("PE-01", "PE-01", true),
            ("PE-01", "PE-011", false),
            ("PE-*", "PE-01", true),
            ("*", "", true),
            ("*-01", "PE-01", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "ac", false),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*@acme.example", "ops@acme.example", true),
            ("*@acme.example", "ops@acme.example.evil", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().fits(text), fits, "{pattern} {text}");
        }
        assert!("".parse::<Pattern>().is_err());
    }
}
