//! Which rules may be about an event, told by the values of a few of its fields.
//!
//! Nearly every rule says what one field has to be: which API, which kind of record. It is found under that value, so that an event
//! costs what the rules about its own kind cost, however many there are.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::compile::{Condition, Needed};
use super::event::{Event, Path};
use super::matcher::folded;

/// So many rules under one value are few: to tell them apart would cost more than to try them.
const FEW: usize = 8;

/// The rules, each under the values of one field that it needs, or always.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    fields: Vec<Field>,
    /// Rules that no value can rule out.
    always: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Field {
    path: Path,
    by_value: HashMap<Box<str>, Vec<u32>>,
}

impl Index {
    /// Puts each rule under a field whose values few others name, so that an event which has one of them is likely about it; of such
    /// fields under the one that tells most rules apart, so that few fields are looked at.
    pub(super) fn of<'r>(conditions: impl Iterator<Item = &'r Condition>) -> Self {
        let needs: Vec<Needed> = conditions.map(Condition::needs).collect();
        let mut named: HashMap<(&Path, &str), usize> = HashMap::new();
        let mut telling: HashMap<&Path, usize> = HashMap::new();
        for (path, literals) in needs.iter().flatten() {
            for literal in literals {
                let count = named.entry((path, literal)).or_default();
                *count += 1;
                if *count == 1 {
                    *telling.entry(path).or_default() += 1;
                }
            }
        }
        let mut index = Self::default();
        for (rule, needed) in needs.iter().enumerate() {
            let rule = u32::try_from(rule).unwrap_or(u32::MAX);
            let crowd = |path: &Path, literal: &str| named.get(&(path, literal)).copied().unwrap_or_default();
            let best = needed.iter().min_by_key(|(path, literals)| {
                let most = literals.iter().map(|literal| crowd(path, literal)).max().unwrap_or_default();
                (most.max(FEW), Reverse(telling.get(path).copied().unwrap_or_default()))
            });
            match best {
                Some((path, literals)) => index.put(path, literals, rule),
                None => index.always.push(rule),
            }
        }
        index
    }

    fn put(&mut self, path: &Path, literals: &[String], rule: u32) {
        let place = self.fields.iter().position(|field| field.path == *path).unwrap_or_else(|| {
            self.fields.push(Field { path: path.clone(), by_value: HashMap::new() });
            self.fields.len() - 1
        });
        let Some(field) = self.fields.get_mut(place) else { return };
        for literal in literals {
            let rules = field.by_value.entry(literal.as_str().into()).or_default();
            if rules.last() != Some(&rule) {
                rules.push(rule);
            }
        }
    }

    /// Puts into `candidates` the rules that may be about `event`, each once, in their order.
    pub(super) fn candidates(&self, event: Event<'_>, candidates: &mut Vec<u32>) {
        candidates.clear();
        for Field { path, by_value } in &self.fields {
            event.at(path).any(&mut |value| {
                let rules = value.as_comparable().and_then(|text| by_value.get(&*folded(&text, false)));
                candidates.extend(rules.into_iter().flatten());
                false
            });
        }
        candidates.extend(&self.always);
        candidates.sort_unstable();
        candidates.dedup();
    }
}
