//! SPIFFE, given out: the trust domain's bundle to others, and SVIDs to the agents of this host.

mod authority;
mod message;
mod workload_api;

use serde_json::{Map, Value, json};

pub use self::authority::{Authority, Svid};
pub use self::workload_api::WorkloadApi;

/// How often others should read the bundle again, in seconds. A key is published for far longer before it signs.
const REFRESH_S: i64 = 300;

/// The bundle (SPIFFE Trust Domain and Bundle §4): the authority's `roots`, the issuer's keys, and `sequence`.
pub(crate) fn bundle(roots: Vec<Value>, issuer: &Value, sequence: i64) -> Value {
    let keys: Vec<Value> = roots.into_iter().chain(jwt_keys(issuer)).collect();
    json!({ "keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": REFRESH_S })
}

/// The issuer's keys as those that JWT-SVIDs are checked by.
pub(crate) fn jwt_keys(issuer: &Value) -> Vec<Value> {
    let keys = issuer.get("keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(Value::as_object)
        .map(|key| {
            let mut key: Map<String, Value> = key.clone();
            key.insert("use".to_owned(), json!("jwt-svid"));
            Value::Object(key)
        })
        .collect()
}
