//! What must hold between what a tool did, what clients heard, and what the log says, whatever crashed in between.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::report::Report;

/// The promises: no payment without its intent, none twice, nothing that was denied, no answer without its payment, and one
/// outcome for each allowed intent.
pub(super) fn compare(journal: &str, answered: &BTreeSet<u64>, records: &[Value]) -> Report {
    let paid: BTreeSet<u64> = journal.lines().filter_map(|line| line.parse().ok()).collect();
    let payments = journal.lines().count();
    let mut intents = BTreeSet::new();
    let mut open = BTreeMap::new();
    for (position, record) in records.iter().enumerate() {
        match text(record, "kind") {
            "intent" if text(record, "verdict") == "allow" => {
                intents.extend(number(record));
                open.insert(position as u64, 0_usize);
            }
            "outcome" => {
                if let Some(ends) = record.get("intent").and_then(Value::as_u64).and_then(|intent| open.get_mut(&intent)) {
                    *ends += 1;
                }
            }
            _ => {}
        }
    }
    let mut report = Report::default();
    let unheard: Vec<&u64> = paid.difference(&intents).collect();
    report.check(if unheard.is_empty() && !paid.is_empty() {
        Ok(())
    } else {
        Err(format!("reached the tool without an intent on the log: {unheard:?} of {}", paid.len()))
    });
    report.check(if payments == paid.len() {
        Ok(())
    } else {
        Err(format!("{} lines of the journal are not one payment made once", payments - paid.len()))
    });
    let unpaid: Vec<&u64> = answered.difference(&paid).collect();
    report.check(if unpaid.is_empty() { Ok(()) } else { Err(format!("answered and never paid: {unpaid:?}")) });
    let wrong: Vec<(&u64, &usize)> = open.iter().filter(|(_, ends)| **ends != 1).take(10).collect();
    report.check(if wrong.is_empty() && !open.is_empty() {
        Ok(())
    } else {
        Err(format!("intents that do not have exactly one outcome (record, outcomes): {wrong:?} of {}", open.len()))
    });
    report
}

fn text<'a>(record: &'a Value, member: &str) -> &'a str {
    record.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// The payment's number in an intent's arguments.
fn number(record: &Value) -> Option<u64> {
    match record.pointer("/arguments")? {
        Value::String(text) => serde_json::from_str::<Value>(text).ok()?.get("number")?.as_u64(),
        arguments => arguments.get("number")?.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payment_without_an_intent_and_an_intent_without_an_end_are_found() {
        let intent = |number: u64| json!({ "kind": "intent", "verdict": "allow", "arguments": { "number": number } });
        let outcome = |intent: u64| json!({ "kind": "outcome", "intent": intent });
        let failures = |journal: &str, answered: &[u64], records: &[Value]| {
            compare(journal, &answered.iter().copied().collect(), records).failures.len()
        };
        assert_eq!(failures("1\n2\n", &[1], &[intent(1), outcome(0), intent(2), outcome(2)]), 0);
        assert_eq!(failures("1\n2\n", &[], &[intent(1), outcome(0)]), 1, "a payment without its intent");
        assert_eq!(failures("1\n1\n", &[], &[intent(1), outcome(0)]), 1, "a payment made twice");
        assert_eq!(failures("1\nburned 2\n", &[], &[intent(1), outcome(0)]), 1, "a call that was denied");
        assert_eq!(failures("1\n", &[2], &[intent(1), outcome(0)]), 1, "an answer without its payment");
        assert_eq!(failures("1\n", &[], &[intent(1)]), 1, "an intent without an outcome");
        assert_eq!(failures("1\n", &[], &[intent(1), outcome(0), outcome(0)]), 1, "an intent with two outcomes");
        assert_eq!(failures("", &[], &[]), 2, "nothing happened at all");
    }
}
