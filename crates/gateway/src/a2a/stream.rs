//! What the events of a stream say: which task they are of, and whether it is at rest. Pure.

use serde_json::{Map, Value};

/// Whether nothing more comes of a task in this state until somebody acts: it has ended, or waits.
pub(super) fn is_at_rest(state: &str) -> bool {
    is_terminal(state) || matches!(state, "TASK_STATE_INPUT_REQUIRED" | "TASK_STATE_AUTH_REQUIRED")
}

/// Whether a task in this state has ended.
pub(super) fn is_terminal(state: &str) -> bool {
    matches!(state, "TASK_STATE_COMPLETED" | "TASK_STATE_FAILED" | "TASK_STATE_CANCELED" | "TASK_STATE_REJECTED")
}

/// The task and the context that an event, or a response that is one, belongs to.
pub(super) fn belongs_to(event: &Map<String, Value>) -> (Option<&str>, Option<&str>) {
    let Some((name, inner)) = event.iter().next() else { return (None, None) };
    let of = |member: &str| inner.get(member).and_then(Value::as_str).filter(|id| !id.is_empty());
    (if name == "task" { of("id") } else { of("taskId") }, of("contextId"))
}
