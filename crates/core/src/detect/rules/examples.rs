//! The events that a rule brings with it: some that it is about, others that only look like it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Happened, Pack, Reader, Rule, Rules, Scratch, Source, Watch};
use crate::detect::finding::{About, Proof};
use crate::model::Timestamp;

/// How far apart the events of an example are that say no time, in seconds.
const STEP_S: i64 = 1;

/// One example: an event or several, one after the other, and whether the rule is about them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// Whether the rule raises a finding.
    pub fires: bool,
    /// The events. One with `repeat` and `event` stands for so many, in which `{n}` in a text is the number of each.
    pub events: Vec<Value>,
}

/// What came of an example.
#[derive(Clone, Debug)]
pub struct Checked<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The example; none where a rule has not both an event that it is about and one that it is not.
    pub example: Option<&'r Example>,
    /// What is wrong; none where all is as the example says.
    pub wrong: Option<String>,
}

impl Pack {
    /// Runs every rule over its own examples. A rule of ours without one of each kind is wrong; others need none.
    pub fn check(&self) -> Vec<Checked<'_>> {
        // What is switched off is tested all the same.
        let compiled = [Source::Record, Source::CloudTrail].map(|source| (source, Arc::new(self.switched_on().about(source).0)));
        let mut checked = Vec::new();
        for rule in self.described() {
            let kinds = [true, false].map(|fires| rule.examples.iter().any(|example| example.fires == fires));
            if rule.detector.catalogue.is_some() && kinds != [true, true] {
                let wrong = "it wants an example that it is about and one that it is not".to_owned();
                checked.push(Checked { rule, example: None, wrong: Some(wrong) });
            }
            for example in &rule.examples {
                let fired = compiled.iter().map(|(_, rules)| run(rules, rule, example)).collect::<Result<Vec<_>, _>>();
                let wrong = match fired {
                    Err(why) => Some(why),
                    Ok(fired) => match (example.fires, fired.contains(&true)) {
                        (true, false) => Some("it should raise a finding, and does not".to_owned()),
                        (false, true) => Some("it should raise nothing, and raises a finding".to_owned()),
                        _ => None,
                    },
                };
                checked.push(Checked { rule, example: Some(example), wrong });
            }
        }
        checked
    }
}

/// Whether the rule raises a finding in the course of an example.
fn run(rules: &Arc<Rules>, rule: &Rule, example: &Example) -> Result<bool, String> {
    let mut watch = Watch::new(Arc::clone(rules));
    let (mut reader, mut scratch) = (Reader::new(), Scratch::default());
    let mut fired = false;
    for (place, event) in expanded(&example.events)?.iter().enumerate() {
        let text = event.to_string();
        let event = reader.read(text.as_bytes()).map_err(|why| format!("event {place}: {why}"))?;
        let said = ["at", "eventTime"].into_iter().find_map(|name| event.string(&super::Path::new(name)));
        let at = match said {
            Some(said) => said.parse().map_err(|error| format!("event {place}: {error}"))?,
            None => Timestamp::UNIX_EPOCH + std::time::Duration::from_secs((place as i64 * STEP_S).unsigned_abs()),
        };
        let happened = || Happened { at, proof: Proof::Record(place as u64), about: About::default() };
        fired |= watch.see(event, &mut scratch, true, happened).iter().any(|finding| finding.detector.id == rule.detector.id);
    }
    Ok(fired)
}

fn expanded(events: &[Value]) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for event in events {
        match (event.get("repeat").and_then(Value::as_u64), event.get("event")) {
            (Some(times @ 1..=1_000), Some(each)) => {
                let text = each.to_string();
                for number in 0..times {
                    let text = text.replace("{n}", &number.to_string());
                    all.push(serde_json::from_str(&text).map_err(|error| error.to_string())?);
                }
            }
            (Some(_), _) => return Err("`repeat` is a number from 1 to 1000, beside an `event`".to_owned()),
            _ => all.push(event.clone()),
        }
    }
    Ok(all)
}
