//! What a person endorses by approving a call: the values that stood in its way, and nothing beside them.

use bailiwick_log::Position;
use serde_json::Value;

use super::targets::named_in;
use super::{Origin, Provenance, Seen, Traced};

/// Takes the values that nobody who may had chosen, of a call with these arguments, into `seen` as endorsed by the answer at
/// `record`: a target as a whole, of any other text the links, addresses and numbers in it.
pub fn endorse(seen: &mut Seen, arguments: &str, traced: &[Traced], record: Position) {
    let Ok(arguments) = serde_json::from_str::<Value>(arguments) else { return };
    for traced in traced.iter().filter(|traced| !traced.may) {
        let origin = Origin { record: Some(record), place: traced.argument.as_str().into() };
        match arguments.pointer(&traced.argument) {
            Some(Value::String(text)) if traced.is_within => {
                named_in(text).iter().for_each(|word| seen.take_word(Provenance::Endorsed, word, &origin));
            }
            Some(Value::String(text)) => seen.take(Provenance::Endorsed, text, &origin),
            Some(Value::Number(number)) => seen.take(Provenance::Endorsed, &number.to_string(), &origin),
            _ => {}
        }
    }
}
