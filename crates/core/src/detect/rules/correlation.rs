//! Rules over several events and the time between them: Sigma's correlations, in memory that is bounded.
//!
//! Time is that of the events, not that of whoever reads them. An event that comes late is put where it belongs and every window
//! that it falls into is looked at again; one that comes twice counts once; one from another century takes its own place and pushes
//! nothing out.

use std::collections::{BTreeSet, HashMap, VecDeque};

use rsigma_parser::{ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, WindowMode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::event::{Event, Path};
use crate::detect::finding::Evidence;
use crate::model::{Digest, shown};

/// How many events one group keeps at most, and how many in any case.
const GROUP_HITS_MAX: usize = 512;
const GROUP_HITS_MIN: usize = 64;

/// How many events all groups of all rules keep.
pub const HITS_MAX: usize = 50_000;

/// How many groups there are at most.
pub const GROUPS_MAX: usize = 20_000;

/// How much of a value a group is told by.
const VALUE_CHARS_MAX: usize = 256;

/// What several events have to be.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    /// The digest of what it says, by which what is remembered for it is found again.
    pub(super) name: Digest,
    kind: Kind,
    /// The rules that it is over, by their numbers.
    pub(super) rules: Vec<u32>,
    /// By which fields events belong together: for each, its path in the events of each of the rules.
    group_by: Vec<Vec<Path>>,
    span_ms: i64,
    /// How many events one group keeps.
    keeps: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    /// So many events.
    Events(Vec<(ConditionOperator, u64)>),
    /// So many different values of a field.
    Values(Vec<(ConditionOperator, u64)>, Path),
    /// Events of the rules, in any order.
    Together(Needs),
    /// Events of all rules, in their order.
    InOrder,
}

/// Of which rules there have to be events.
#[derive(Clone, Debug)]
enum Needs {
    All,
    /// So many of them.
    Some(Vec<(ConditionOperator, u64)>),
    Those(Expression),
}

#[derive(Clone, Debug)]
enum Expression {
    Rule(usize),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
}

/// An event that one of a correlation's rules is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Hit {
    at_ms: i64,
    /// Which of the correlation's rules.
    rule: usize,
    value: Box<str>,
    evidence: Evidence,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Group {
    /// In the order of time.
    hits: VecDeque<Hit>,
    /// The time of the window that led to a finding last.
    fired_ms: Option<i64>,
    touched: u64,
}

/// The events of late of every correlation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Windows {
    #[serde(serialize_with = "in_order", deserialize_with = "from_list")]
    groups: HashMap<Key, Group>,
    hits: usize,
    turn: u64,
}

/// A correlation, by its name, and the values by which a group of its events belong together.
type Key = (Digest, Box<str>);

/// Groups are kept as a list, in the order of their keys.
fn in_order<S: Serializer>(groups: &HashMap<Key, Group>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_unstable_by_key(|(key, _)| *key);
    groups.serialize(serializer)
}

fn from_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashMap<Key, Group>, D::Error> {
    Ok(Vec::deserialize(deserializer)?.into_iter().collect())
}

impl Correlation {
    /// What a rule says, with `number_of` telling the number of the rule of a name or an id.
    pub(super) fn of(rule: &CorrelationRule, number_of: impl Fn(&str) -> Option<u32>) -> Result<Self, String> {
        if rule.window != WindowMode::Sliding {
            return Err("only windows that slide are known".to_owned());
        }
        let rules: Vec<u32> = rule
            .rules
            .iter()
            .map(|name| number_of(name).ok_or_else(|| format!("there is no rule `{name}`, by its `name` or `id`, for the same log")))
            .collect::<Result<_, _>>()?;
        if rules.is_empty() {
            return Err("it is over no rule".to_owned());
        }
        let paths = |field: &String| -> Vec<Path> {
            let alias = rule.aliases.iter().find(|alias| alias.alias == *field);
            let of = |name: &String| alias.and_then(|alias| alias.mapping.get(name)).unwrap_or(field);
            rule.rules.iter().map(|name| Path::new(of(name))).collect()
        };
        let predicates = || match &rule.condition {
            CorrelationCondition::Threshold { predicates, field, .. } => Ok((predicates.clone(), field.clone().unwrap_or_default())),
            CorrelationCondition::Extended(_) => Err("this type wants a number".to_owned()),
        };
        let kind = match rule.correlation_type {
            CorrelationType::EventCount => Kind::Events(predicates()?.0),
            CorrelationType::ValueCount => {
                let (predicates, fields) = predicates()?;
                let [field] = fields.as_slice() else { return Err("`value_count` wants one field".to_owned()) };
                Kind::Values(predicates, Path::new(field))
            }
            CorrelationType::Temporal => Kind::Together(match &rule.condition {
                CorrelationCondition::Threshold { predicates, .. } if predicates.is_empty() => Needs::All,
                CorrelationCondition::Threshold { predicates, .. } => Needs::Some(predicates.clone()),
                CorrelationCondition::Extended(expression) => Needs::Those(of_expression(expression, &rule.rules)?),
            }),
            CorrelationType::TemporalOrdered => Kind::InOrder,
            other => return Err(format!("`{}` is not one of event_count, value_count, temporal and temporal_ordered", other.as_str())),
        };
        if rule.timespan.seconds == 0 {
            return Err("a window of no time has no events in it".to_owned());
        }
        let span_ms = i64::try_from(rule.timespan.seconds.saturating_mul(1_000)).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        let group_by: Vec<Vec<Path>> = rule.group_by.iter().map(paths).collect();
        let name = Digest::of(format!("{:?}\n{:?}\n{kind:?}\n{group_by:?}\n{span_ms}", rule.id, rule.rules).as_bytes());
        let keeps = kind.keeps();
        Ok(Self { name, kind, rules, group_by, span_ms, keeps })
    }

    /// The group that an event of its rule number `rule` belongs to; none where a field is missing. Of several values the first counts.
    fn group(&self, rule: usize, event: Event<'_>) -> Option<Box<str>> {
        let mut key = String::new();
        for paths in &self.group_by {
            let value = event.at(paths.get(rule)?).first()?.as_comparable()?;
            key.push_str(&shown(&value, VALUE_CHARS_MAX));
            key.push('\u{1f}');
        }
        Some(key.into())
    }

    /// Whether the events of one window are what it wants.
    fn holds<'h>(&self, hits: impl ExactSizeIterator<Item = &'h Hit> + Clone) -> bool {
        let rules = || hits.clone().map(|hit| hit.rule).collect::<BTreeSet<_>>();
        match &self.kind {
            Kind::Events(predicates) => all_hold(predicates, hits.len()),
            Kind::Values(predicates, _) => all_hold(predicates, hits.map(|hit| &hit.value).collect::<BTreeSet<_>>().len()),
            Kind::Together(Needs::All) => rules().len() == self.rules.len(),
            Kind::Together(Needs::Some(predicates)) => all_hold(predicates, rules().len()),
            Kind::Together(Needs::Those(expression)) => expression.holds(&rules()),
            Kind::InOrder => {
                // Where a rule is named more than once, one event is only one of those that it asks for.
                let (mut next, mut before) = (0, None);
                for hit in hits {
                    if hit.rule == next && before != Some(&hit.evidence.proof) {
                        (next, before) = (next + 1, Some(&hit.evidence.proof));
                    }
                }
                next == self.rules.len()
            }
        }
    }
}

impl Kind {
    /// How many events of a group it takes to tell: of a count that is to be reached, twice as many as reach it.
    fn keeps(&self) -> usize {
        use ConditionOperator::{Gt, Gte};
        match self {
            Self::Events(predicates) if predicates.iter().all(|(operator, _)| matches!(operator, Gt | Gte)) => {
                let most = predicates.iter().map(|(_, wanted)| *wanted).max().unwrap_or_default().saturating_mul(2);
                usize::try_from(most).unwrap_or(usize::MAX).clamp(GROUP_HITS_MIN, GROUP_HITS_MAX)
            }
            _ => GROUP_HITS_MAX,
        }
    }
}

fn all_hold(predicates: &[(ConditionOperator, u64)], number: usize) -> bool {
    let number = number as u64;
    predicates.iter().all(|(operator, wanted)| match operator {
        ConditionOperator::Lt => number < *wanted,
        ConditionOperator::Lte => number <= *wanted,
        ConditionOperator::Gt => number > *wanted,
        ConditionOperator::Gte => number >= *wanted,
        ConditionOperator::Eq => number == *wanted,
        ConditionOperator::Neq => number != *wanted,
    })
}

fn of_expression(expression: &ConditionExpr, rules: &[String]) -> Result<Expression, String> {
    let all = |of: &[ConditionExpr]| of.iter().map(|each| of_expression(each, rules)).collect::<Result<Vec<_>, _>>();
    Ok(match expression {
        ConditionExpr::And(of) => Expression::All(all(of)?),
        ConditionExpr::Or(of) => Expression::Any(all(of)?),
        ConditionExpr::Not(of) => Expression::Not(Box::new(of_expression(of, rules)?)),
        ConditionExpr::Identifier(name) => Expression::Rule(
            rules.iter().position(|rule| rule == name).ok_or_else(|| format!("the condition names `{name}`, which is not in `rules`"))?,
        ),
        ConditionExpr::Selector { .. } => return Err("`of` is not for the condition of a correlation".to_owned()),
    })
}

impl Expression {
    fn holds(&self, rules: &BTreeSet<usize>) -> bool {
        match self {
            Self::Rule(rule) => rules.contains(rule),
            Self::All(of) => of.iter().all(|each| each.holds(rules)),
            Self::Any(of) => of.iter().any(|each| each.holds(rules)),
            Self::Not(of) => !of.holds(rules),
        }
    }
}

impl Windows {
    /// How many events are kept.
    pub(super) fn hits(&self) -> usize {
        self.hits
    }

    /// Lets go of what is remembered for any other correlations than these.
    pub(super) fn keep_only(&mut self, names: &BTreeSet<Digest>) {
        self.groups.retain(|(name, _), _| names.contains(name));
        self.hits = self.groups.values().map(|group| group.hits.len()).sum();
    }

    /// Takes in an event that the correlation's rule `rule` is about. The events of the window that now is what the correlation
    /// wants, where there is one and none near it was one before.
    pub(super) fn hit(&mut self, correlation: &Correlation, rule: u32, event: Event<'_>, evidence: &Evidence) -> Option<Vec<Evidence>> {
        self.turn += 1;
        let mut found = None;
        // A rule may be named more than once: first this, then that, then this again.
        for place in correlation.rules.iter().enumerate().filter(|(_, named)| **named == rule).map(|(place, _)| place) {
            let Some(key) = correlation.group(place, event) else { continue };
            let value = match &correlation.kind {
                Kind::Values(_, path) => match event.at(path).single().and_then(|value| value.as_comparable()) {
                    Some(value) => value.as_ref().into(),
                    None => continue,
                },
                _ => Box::default(),
            };
            let hit = Hit { at_ms: evidence.at.as_millisecond(), rule: place, value, evidence: evidence.clone() };
            self.make_room();
            let group = self.groups.entry((correlation.name, key)).or_default();
            group.touched = self.turn;
            let before = group.hits.len();
            let fired = group.take(hit, correlation);
            self.hits = self.hits + group.hits.len() - before;
            found = fired.or(found);
        }
        found
    }

    /// Lets go of the groups that nothing happened in for longest, half of them, when there are too many.
    fn make_room(&mut self) {
        if self.groups.len() < GROUPS_MAX && self.hits < HITS_MAX {
            return;
        }
        let mut touched: Vec<u64> = self.groups.values().map(|group| group.touched).collect();
        touched.sort_unstable();
        let median = touched.get(touched.len() / 2).copied().unwrap_or_default();
        self.groups.retain(|_, group| group.touched > median);
        self.hits = self.groups.values().map(|group| group.hits.len()).sum();
    }
}

impl Group {
    fn take(&mut self, hit: Hit, correlation: &Correlation) -> Option<Vec<Evidence>> {
        let (at, span) = (hit.at_ms, correlation.span_ms);
        let place = self.hits.partition_point(|other| other.at_ms <= at);
        // What comes twice comes with the same time.
        let is_same = |other: &Hit| other.rule == hit.rule && other.evidence.proof == hit.evidence.proof;
        if self.hits.range(..place).rev().take_while(|other| other.at_ms == at).any(is_same) {
            return None;
        }
        self.hits.insert(place, hit);
        // Each window that ends with this event or with one within its span is one that this event may have completed. One that is
        // near the window that led to a finding last leads to none.
        let ends = self.hits.iter().enumerate().skip(place).take_while(|(_, end)| end.at_ms.saturating_sub(at) < span);
        let ends = ends.map(|(end, last)| (end, last.at_ms));
        let mut ends = ends.filter(|(_, last)| self.fired_ms.is_none_or(|fired| last.abs_diff(fired) >= span.unsigned_abs()));
        let found = ends.find_map(|(end, last)| {
            let from = self.hits.partition_point(|other| other.at_ms <= last.saturating_sub(span));
            let window = || self.hits.range(from..=end);
            correlation.holds(window()).then(|| (last, window().map(|hit| hit.evidence.clone()).collect::<Vec<_>>()))
        });
        if self.hits.len() > correlation.keeps {
            // The oldest goes, unless that is the one that just came.
            self.hits.remove(usize::from(place == 0));
        }
        let (last, mut evidence) = found?;
        evidence.dedup_by(|one, other| one.proof == other.proof);
        self.fired_ms = Some(last);
        Some(evidence)
    }
}
