//! What tools return, and the values that calls act on.

use std::sync::Arc;

use bailiwick_core::bundle::{Otherwise, Returns, Tool};
use bailiwick_core::flow::{Fields, Provenance, Seen, Sources, Written, take_result, take_result_of, trace, words_of};
use bailiwick_core::model::Effect;
use bailiwick_log::Position;
use serde_json::{Value, json};

/// The most that is kept in these.
const BYTES_MAX: usize = 64 << 10;

/// A tool that acts on `to`, which everybody who may choose anything may choose.
fn tool() -> Tool {
    Tool {
        effect: Effect::Send,
        returns: Returns::undeclared(),
        place: Vec::new(),
        targets: [("/to".to_owned(), Provenance::MAY_CHOOSE.to_vec())].into(),
        otherwise: Otherwise::Ask,
        audience: None,
        known: Arc::default(),
        pin: None,
    }
}

fn may(seen: &Seen, arguments: &Value) -> bool {
    trace(&tool(), arguments, Sources::Seen(seen)).iter().all(|traced| traced.may)
}

/// A value of any text is judged, is nobody's where nothing was said, and is the task's only where the task says it. Says whether
/// the task's own text is a value that it may choose.
pub(crate) fn value(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let target = json!({ "to": text });
    assert!(text.trim().is_empty() || !may(&Seen::of_task(None), &target), "{text:?} was chosen by nobody");
    may(&Seen::of_task(Some(text)), &target)
}

/// Nothing of a result that strangers wrote may be chosen by anybody else, in bounded memory; and nothing that was written so comes
/// back as vouched for. Says whether the bytes are JSON.
pub(crate) fn result(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return false };
    let absent = "$.no.such.field".parse().ok().map(|field| (field, Provenance::Minted));
    let fields = Fields { fields: absent.into_iter().collect(), ..Fields::all(Provenance::Untrusted) };
    let text = json!({ "content": [{ "type": "text", "text": String::from_utf8_lossy(bytes) }] });
    let mut written = Written::default();
    let Ok(writer) = "writer".parse() else { return false };
    written.take(&writer, words_of(&value.to_string(), &[]).as_deref());
    for result in [&value, &json!({ "structuredContent": value }), &text] {
        let (mut strangers, mut vouched) = (Seen::of_task(None), Seen::of_task(None));
        strangers.keep_within(BYTES_MAX);
        take_result(&mut strangers, &fields, Position(1), result);
        take_result_of(&written, &mut vouched, &Fields::all(Provenance::Minted), Position(2), result);
        assert!(strangers.bytes() <= BYTES_MAX, "{} bytes are kept", strangers.bytes());
        leaves(&value, &mut |leaf| {
            let target = json!({ "to": leaf });
            assert!(leaf.trim().is_empty() || !may(&strangers, &target), "{leaf:?} was a stranger's");
        });
    }
    true
}

/// The first texts of a value.
fn leaves(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().take(8).for_each(|item| leaves(item, each)),
        Value::Object(members) => members.values().take(8).for_each(|member| leaves(member, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
