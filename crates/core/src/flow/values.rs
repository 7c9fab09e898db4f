//! The values that were judged, for people to read: what was traced says where a value stands, and the arguments what it is.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Traced;
use super::targets::named_in;

/// The values of a call with these arguments that were traced so, each in its place; of what is named within a text, in its comparable
/// form. Nothing for one that the arguments do not hold.
pub fn values_of(arguments: &str, traced: &[Traced]) -> Vec<Option<String>> {
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    let mut within: BTreeMap<&str, usize> = BTreeMap::new();
    let mut values = Vec::with_capacity(traced.len());
    for traced in traced {
        let number = within.entry(&traced.argument).or_default();
        values.push(match arguments.pointer(&traced.argument) {
            Some(Value::String(text)) if traced.is_within => {
                // Its form begins with what kind it is of.
                let named = named_in(text).into_iter().nth(*number);
                named.map(|form| form.split_once(':').map_or(form.clone(), |(_, value)| value.to_owned()))
            }
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
            None => None,
        });
        *number = number.saturating_add(1);
    }
    values
}
