//! What is said at a place that the person's own words point at.

use std::borrow::Cow;

use serde_json::Value;

use super::{Fields, Provenance, Seen, seen};
use crate::bundle::Tool;

/// The fields of what `tool` returns to a call with these arguments. Those that are declared as `named` count so only where the
/// task holds the whole of every argument that says the place; otherwise they are what they are without.
pub fn fields_of<'a>(tool: &'a Tool, arguments: &Value, seen: &Seen) -> Cow<'a, Fields> {
    let fields = &tool.returns.fields;
    let is_named = !fields.named.is_empty() && !tool.place.is_empty();
    if is_named && tool.place.iter().all(|place| arguments.pointer(place).is_some_and(|value| is_in_task(value, seen))) {
        Cow::Owned(fields.at_named_place())
    } else {
        Cow::Borrowed(fields)
    }
}

fn is_in_task(place: &Value, seen: &Seen) -> bool {
    let said = |text: &str| seen.find(Provenance::Task, &seen::Value::of(text)).is_some();
    match place {
        Value::String(text) => said(text),
        Value::Number(number) => said(&number.to_string()),
        Value::Array(places) => !places.is_empty() && places.iter().all(|place| is_in_task(place, seen)),
        Value::Null | Value::Bool(_) | Value::Object(_) => false,
    }
}
