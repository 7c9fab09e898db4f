//! JSON-RPC messages as MCP uses them, from a client's side: requests are written, everything else is read (pure).
//!
//! What a server sends is untrusted: bounded in size and depth, without repeated keys, and exactly one of the three kinds
//! of message. Members that we do not know are kept.

use std::fmt;
use std::sync::Arc;

use bailiwick_core::json::{self, InvalidJson};
use serde::Serialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::{Answered, ToolFault, UpstreamError};

/// JSON-RPC 2.0: the method is not known here.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;

/// One message of a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The answer to a request of ours; without an id when the server could not read ours.
    Response {
        /// The id that we gave it.
        id: Option<u64>,
        /// What it came to.
        body: Result<Value, ToolFault>,
    },
    /// A question of the server (revisions up to 2025-11-25).
    Request {
        /// Its id: a text or a number.
        id: Value,
        /// What is asked.
        method: String,
        /// With what.
        params: Value,
    },
    /// Something that wants no answer: the method, and the whole message.
    Notification {
        /// What it tells.
        method: String,
        /// The whole of it.
        message: Map<String, Value>,
    },
}

/// Reads one message (pure; fuzzed). Fails on what is no single JSON-RPC 2.0 message within `limits`.
pub fn read(text: &[u8], limits: &json::Limits) -> Result<Message, UpstreamError> {
    let value = json::parse(text, limits).map_err(|invalid| match invalid {
        InvalidJson::TooLong(bytes_max) => UpstreamError::TooLarge(bytes_max),
        other => UpstreamError::Garbage(other.to_string().into()),
    })?;
    let Value::Object(mut message) = value else { return Err(garbage("the message is not a JSON object")) };
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(garbage("the message does not say that it is JSON-RPC 2.0"));
    }
    match message.get("method") {
        Some(Value::String(method)) => {
            let method = method.clone();
            if message.contains_key("result") || message.contains_key("error") {
                return Err(garbage("the message is both a request and a response"));
            }
            match message.remove("id") {
                None => Ok(Message::Notification { method, message }),
                Some(id @ (Value::String(_) | Value::Number(_))) => {
                    let params = message.remove("params").unwrap_or_else(|| json!({}));
                    Ok(Message::Request { id, method, params })
                }
                Some(_) => Err(garbage("the id of a request is neither a text nor a number")),
            }
        }
        Some(_) => Err(garbage("the method is not a text")),
        None => response(message),
    }
}

fn response(mut message: Map<String, Value>) -> Result<Message, UpstreamError> {
    let id = match message.get("id") {
        Some(Value::Null) | None => None,
        Some(id) => Some(id.as_u64().ok_or_else(|| garbage("the response is to a request that was not made"))?),
    };
    let body = match (message.remove("result"), message.remove("error")) {
        (Some(result @ Value::Object(_)), None) if id.is_some() => Ok(result),
        (Some(_), None) => return Err(garbage("the result is not an object, or to no request")),
        (None, Some(Value::Object(mut error))) => {
            let code = error.get("code").and_then(Value::as_i64).ok_or_else(|| garbage("the error has no code"))?;
            let Some(Value::String(message)) = error.remove("message") else { return Err(garbage("the error has no message")) };
            Err(ToolFault { code, message, data: error.remove("data") })
        }
        _ => return Err(garbage("the message is neither a result nor an error")),
    };
    Ok(Message::Response { id, body })
}

/// The error for what is not the protocol.
pub(crate) fn garbage(what: impl Into<Arc<str>>) -> UpstreamError {
    UpstreamError::Garbage(what.into())
}

/// The parameters of a request of ours, in order; those that came from an agent as the text that came.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, Box<RawValue>)>);

impl Params {
    /// The members of an object, each with its exact text. Fails only for what is not an object.
    pub(super) fn of_object(text: &RawValue) -> Result<Self, UpstreamError> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, Box<RawValue>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = members.next_entry()? {
                    all.push(member);
                }
                Ok(all)
            }
        }
        let mut deserializer = serde_json::Deserializer::from_str(text.get());
        deserializer.deserialize_map(Members).map(Self).map_err(|_| UpstreamError::Unsupported("the parameters are not an object".into()))
    }

    /// Adds a member, or replaces the one of this name.
    pub(super) fn set(&mut self, name: &str, value: &Value) {
        self.set_raw(name, serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned()));
    }

    /// Adds a member as this very text, or replaces the one of this name.
    pub(super) fn set_raw(&mut self, name: &str, value: Box<RawValue>) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value));
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

/// Writes a request.
pub(super) fn request(id: u64, method: &str, params: &Params) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a> {
        jsonrpc: &'static str,
        id: u64,
        method: &'a str,
        params: &'a Params,
    }
    bytes(&Request { jsonrpc: "2.0", id, method, params })
}

/// Writes a notification.
pub(super) fn notification(method: &str, params: &Value) -> Vec<u8> {
    bytes(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

/// Writes the notification that a request of ours is no longer wanted.
pub(super) fn cancelled(id: u64) -> Vec<u8> {
    notification("notifications/cancelled", &json!({ "requestId": id, "reason": "the caller no longer waits for it" }))
}

/// Writes the answer to a question of the server.
pub(super) fn answer(id: &Value, answered: &Answered) -> Vec<u8> {
    match answered {
        Ok(result) => bytes(&json!({ "jsonrpc": "2.0", "id": id, "result": result })),
        Err(fault) => {
            let mut error = json!({ "code": fault.code, "message": fault.message });
            if let (Some(data), Value::Object(members)) = (&fault.data, &mut error) {
                members.insert("data".to_owned(), data.clone());
            }
            bytes(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
        }
    }
}

/// Serialising values that hold only text keys cannot fail; if it did, the message would be empty and refused.
fn bytes(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str) -> String {
        match read(text.as_bytes(), &json::Limits { bytes_max: 200, depth_max: 5 }) {
            Err(error) => error.to_string(),
            Ok(message) => panic!("{text} was read as {message:?}"),
        }
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"\u0061":2}}"#,
            r#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":-1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":"x","message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","method":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":[[[[]]]]}}"#,
        ] {
            assert!(refused(text).starts_with("the tool server's answer is not valid: "), "{text}");
        }
        assert_eq!(refused(&" ".repeat(201)), "the tool server's answer is larger than 200 bytes");
    }

    #[test]
    fn unknown_members_of_a_result_are_kept() {
        let message = read(br#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","x.y/z":[1]}}"#, &json::Limits::default());
        let body = Ok(json!({ "resultType": "complete", "x.y/z": [1] }));
        assert_eq!(message.unwrap(), Message::Response { id: Some(7), body });
    }

    #[test]
    fn the_text_of_arguments_is_sent_as_it_came() {
        let mut params = Params::default();
        params.set("name", &json!("t"));
        params.set_raw("arguments", RawValue::from_string("{\"b\" : 1.0, \"a\":1e2}".to_owned()).unwrap());
        let text = String::from_utf8(request(3, "tools/call", &params)).unwrap();
        assert_eq!(text, r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t","arguments":{"b" : 1.0, "a":1e2}}}"#);
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text: Vec<u8>) {
            let _ = read(&text, &json::Limits::default());
        }

        #[test]
        fn what_looks_like_a_message_never_panics(
            id in "(\"[a-z]\"|[0-9]{1,20}|null|-1|1e3)", rest in "(\"(method|result|error|params|id)\":(\\{\\}|1|\"x\"),?){0,4}"
        ) {
            let _ = read(format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#).as_bytes(), &json::Limits::default());
        }
    }
}
