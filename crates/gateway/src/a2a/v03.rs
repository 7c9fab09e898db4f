//! A2A 0.3 in terms of 1.0, and back. Pure.
//!
//! 0.3 tells objects apart by `kind` where 1.0 tells them apart by what they hold, and writes roles and states in small letters.
//! What comes in is only brought into the other's terms here; whether it is right is for [`super::shape`] to say.

use serde_json::{Map, Value, json};

/// The states as 0.3 writes them, and as 1.0 does.
const STATES: [(&str, &str); 9] = [
    ("unknown", "TASK_STATE_UNSPECIFIED"),
    ("submitted", "TASK_STATE_SUBMITTED"),
    ("working", "TASK_STATE_WORKING"),
    ("completed", "TASK_STATE_COMPLETED"),
    ("failed", "TASK_STATE_FAILED"),
    ("canceled", "TASK_STATE_CANCELED"),
    ("input-required", "TASK_STATE_INPUT_REQUIRED"),
    ("rejected", "TASK_STATE_REJECTED"),
    ("auth-required", "TASK_STATE_AUTH_REQUIRED"),
];

const ROLES: [(&str, &str); 2] = [("user", "ROLE_USER"), ("agent", "ROLE_AGENT")];

/// Where a 1.0 part holds data that is no object, which 0.3 cannot hold: it is wrapped, and this member of its metadata says so. The
/// official SDKs do the same.
const WRAPPED: &str = "data_part_compat";

/// A word of 0.3 as 1.0 writes it; what is not known stays as it is.
fn newer(word: &mut Value, words: &[(&str, &'static str)]) {
    if let Some((_, new)) = words.iter().find(|(old, _)| word.as_str() == Some(*old)) {
        *word = (*new).into();
    }
}

fn older(word: &mut Value, words: &[(&'static str, &str)]) {
    if let Some((old, _)) = words.iter().find(|(_, new)| word.as_str() == Some(*new)) {
        *word = (*old).into();
    }
}

fn each(holder: &mut Map<String, Value>, name: &str, with: impl Fn(&mut Map<String, Value>)) {
    for item in holder.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(item) = item.as_object_mut() {
            with(item);
        }
    }
}

fn member(holder: &mut Map<String, Value>, name: &str, with: impl Fn(&mut Map<String, Value>)) {
    if let Some(member) = holder.get_mut(name).and_then(Value::as_object_mut) {
        with(member);
    }
}

fn rename(holder: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = holder.remove(from) {
        holder.insert(to.to_owned(), value);
    }
}

/// 0.3 to 1.0.
pub(super) mod read {
    use super::*;

    /// The parameters of `message/send` and `message/stream`.
    pub(in crate::a2a) fn send(params: &mut Map<String, Value>) {
        member(params, "message", message);
        member(params, "configuration", |configuration| {
            if let Some(blocking) = configuration.remove("blocking").as_ref().and_then(Value::as_bool) {
                configuration.insert("returnImmediately".to_owned(), (!blocking).into());
            }
            rename(configuration, "pushNotificationConfig", "taskPushNotificationConfig");
            member(configuration, "taskPushNotificationConfig", push);
        });
    }

    /// Where news are sent: 0.3 lists the schemes that may be used, of which the first is.
    pub(in crate::a2a) fn push(config: &mut Map<String, Value>) {
        member(config, "authentication", |authentication| {
            let first = authentication.remove("schemes").and_then(|schemes| schemes.get(0).cloned());
            authentication.extend(first.map(|scheme| ("scheme".to_owned(), scheme)));
        });
    }

    /// A message.
    pub(in crate::a2a) fn message(message: &mut Map<String, Value>) {
        message.remove("kind");
        if let Some(role) = message.get_mut("role") {
            newer(role, &ROLES);
        }
        each(message, "parts", part);
    }

    fn part(part: &mut Map<String, Value>) {
        let kind = part.remove("kind");
        let holds = |part: &Map<String, Value>, name: &str| part.get(name).is_some_and(|value| !value.is_null());
        match kind.as_ref().and_then(Value::as_str) {
            Some("text") => part.retain(|name, _| matches!(name.as_str(), "text" | "metadata")),
            Some("data") => {
                part.retain(|name, _| matches!(name.as_str(), "data" | "metadata"));
                if part.get("metadata").and_then(|metadata| metadata.get(WRAPPED)) == Some(&Value::Bool(true)) {
                    if let Some(inner) = part.get_mut("data").and_then(Value::as_object_mut).and_then(|data| data.remove("value")) {
                        part.insert("data".to_owned(), inner);
                    }
                    member(part, "metadata", |metadata| drop(metadata.remove(WRAPPED)));
                    part.retain(|name, value| name != "metadata" || value.as_object().is_none_or(|metadata| !metadata.is_empty()));
                }
            }
            Some("file") => {
                let file = part.remove("file");
                part.retain(|name, _| name == "metadata");
                let Some(Value::Object(mut file)) = file else { return };
                for (from, to) in [("bytes", "raw"), ("uri", "url"), ("name", "filename"), ("mimeType", "mediaType")] {
                    if holds(&file, from)
                        && let Some(value) = file.remove(from)
                    {
                        part.insert(to.to_owned(), value);
                    }
                }
            }
            // Of no kind that is known, so it holds nothing that is.
            _ => part.clear(),
        }
    }

    fn status(status: &mut Map<String, Value>) {
        if let Some(state) = status.get_mut("state") {
            newer(state, &STATES);
        }
        member(status, "message", message);
    }

    fn artifact(artifact: &mut Map<String, Value>) {
        each(artifact, "parts", part);
    }

    /// A task.
    pub(in crate::a2a) fn task(task: &mut Map<String, Value>) {
        task.remove("kind");
        member(task, "status", status);
        each(task, "artifacts", artifact);
        each(task, "history", message);
    }

    /// A result of `message/send`, or an event of a stream: 1.0 says by a member what it is.
    pub(in crate::a2a) fn event(mut event: Map<String, Value>) -> Value {
        let kind = event.remove("kind");
        let name = match kind.as_ref().and_then(Value::as_str) {
            Some("task") => {
                task(&mut event);
                "task"
            }
            Some("message") => {
                message(&mut event);
                "message"
            }
            Some("status-update") => {
                event.remove("final");
                member(&mut event, "status", status);
                "statusUpdate"
            }
            Some("artifact-update") => {
                member(&mut event, "artifact", artifact);
                "artifactUpdate"
            }
            _ => return json!({}),
        };
        json!({ name: event })
    }
}

/// 1.0 to 0.3.
pub(super) mod write {
    use super::*;
    use crate::a2a::stream::is_at_rest;

    /// The parameters of `SendMessage` and `SendStreamingMessage`.
    pub(in crate::a2a) fn send(params: &mut Map<String, Value>) {
        member(params, "message", message);
        member(params, "configuration", |configuration| {
            if let Some(at_once) = configuration.remove("returnImmediately").as_ref().and_then(Value::as_bool) {
                configuration.insert("blocking".to_owned(), (!at_once).into());
            }
            rename(configuration, "taskPushNotificationConfig", "pushNotificationConfig");
        });
        // 1.0 waits unless it is told not to; 0.3 leaves it to the agent.
        let configuration = params.entry("configuration").or_insert_with(|| json!({}));
        if let Some(configuration) = configuration.as_object_mut() {
            configuration.entry("blocking").or_insert(Value::Bool(true));
        }
    }

    /// Where news of a task are sent.
    pub(in crate::a2a) fn push(mut config: Map<String, Value>) -> Value {
        let task = config.remove("taskId");
        member(&mut config, "authentication", |authentication| {
            let scheme = authentication.remove("scheme");
            authentication.insert("schemes".to_owned(), scheme.into_iter().collect());
        });
        json!({ "taskId": task, "pushNotificationConfig": config })
    }

    /// A message.
    pub(in crate::a2a) fn message(message: &mut Map<String, Value>) {
        message.insert("kind".to_owned(), "message".into());
        if let Some(role) = message.get_mut("role") {
            older(role, &ROLES);
        }
        each(message, "parts", part);
    }

    fn part(part: &mut Map<String, Value>) {
        let take = |part: &mut Map<String, Value>, names: &[(&str, &str)]| {
            let taken = names.iter().filter_map(|(from, to)| Some(((*to).to_owned(), part.remove(*from)?)));
            taken.collect::<Map<_, _>>()
        };
        let kind = if part.contains_key("text") {
            take(part, &[("filename", ""), ("mediaType", "")]);
            "text"
        } else if part.contains_key("data") {
            take(part, &[("filename", ""), ("mediaType", "")]);
            if let Some(data) = part.get_mut("data").filter(|data| !data.is_object()) {
                *data = json!({ "value": data.take() });
                let metadata = part.entry("metadata").or_insert_with(|| json!({}));
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.insert(WRAPPED.to_owned(), true.into());
                }
            }
            "data"
        } else {
            let file = take(part, &[("raw", "bytes"), ("url", "uri"), ("filename", "name"), ("mediaType", "mimeType")]);
            part.insert("file".to_owned(), file.into());
            "file"
        };
        part.insert("kind".to_owned(), kind.into());
    }

    fn status(status: &mut Map<String, Value>) {
        if let Some(state) = status.get_mut("state") {
            older(state, &STATES);
        }
        member(status, "message", message);
    }

    fn artifact(artifact: &mut Map<String, Value>) {
        each(artifact, "parts", part);
    }

    /// A task. 0.3 wants a context of each, where 1.0 may do without.
    pub(in crate::a2a) fn task(task: &mut Map<String, Value>) {
        task.insert("kind".to_owned(), "task".into());
        task.entry("contextId").or_insert_with(|| "".into());
        member(task, "status", status);
        each(task, "artifacts", artifact);
        each(task, "history", message);
    }

    /// A result of `SendMessage`, or an event of a stream.
    pub(in crate::a2a) fn event(event: Map<String, Value>) -> Value {
        let Some((name, Value::Object(mut event))) = event.into_iter().next() else { return Value::Null };
        match name.as_str() {
            "task" => task(&mut event),
            "message" => message(&mut event),
            "statusUpdate" => {
                let state = event.get("status").and_then(|status| status.get("state")).and_then(Value::as_str);
                let is_final = state.is_some_and(is_at_rest);
                event.insert("kind".to_owned(), "status-update".into());
                event.insert("final".to_owned(), is_final.into());
                event.entry("contextId").or_insert_with(|| "".into());
                member(&mut event, "status", status);
            }
            _ => {
                event.insert("kind".to_owned(), "artifact-update".into());
                event.entry("contextId").or_insert_with(|| "".into());
                member(&mut event, "artifact", artifact);
            }
        }
        Value::Object(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::shape::{self, normal};

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_request_of_0_3_is_one_of_1_0() {
        let mut params = object(json!({
            "message": { "kind": "message", "messageId": "m", "role": "user", "contextId": "c", "parts": [
                { "kind": "text", "text": "hello" },
                { "kind": "file", "file": { "bytes": "AA==", "name": "a.bin", "mimeType": "application/octet-stream" } },
                { "kind": "file", "file": { "uri": "https://a.example/x" } },
                { "kind": "data", "data": { "n": 1 }, "metadata": { "k": "v" } },
            ] },
            "configuration": { "blocking": false, "historyLength": 3 },
        }));
        read::send(&mut params);
        let params = normal(Value::Object(params), &shape::SEND, false).map(Value::Object).unwrap();
        assert_eq!(
            params,
            json!({
                "message": { "messageId": "m", "role": "ROLE_USER", "contextId": "c", "parts": [
                    { "text": "hello" },
                    { "raw": "AA==", "filename": "a.bin", "mediaType": "application/octet-stream" },
                    { "url": "https://a.example/x" },
                    { "data": { "n": 1 }, "metadata": { "k": "v" } },
                ] },
                "configuration": { "returnImmediately": true, "historyLength": 3 },
            })
        );
    }

    #[test]
    fn a_part_of_0_3_whose_kind_and_content_differ_is_refused() {
        for part in [
            json!({ "text": "x" }),
            json!({ "kind": "text", "data": {} }),
            json!({ "kind": "file", "text": "x" }),
            json!({ "kind": "new" }),
        ] {
            let mut params = object(json!({ "message": { "kind": "message", "messageId": "m", "role": "user", "parts": [part.clone()] } }));
            read::send(&mut params);
            assert!(normal(Value::Object(params), &shape::SEND, false).is_err(), "{part}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_as_0_3_is_read_back_the_same(
            state in 0..shape::STATES.len(),
            texts in proptest::collection::vec(proptest::prelude::any::<(String, bool, u8)>(), 1..5)
        ) {
            let parts: Vec<Value> = texts
                .iter()
                .map(|(text, flag, kind)| match kind % 5 {
                    0 => json!({ "text": text }),
                    1 => json!({ "data": { text.clone(): flag } }),
                    2 => json!({ "data": [text, flag], "metadata": { "k": text } }),
                    3 => json!({ "raw": "AA==", "filename": text, "mediaType": "a/b" }),
                    _ => json!({ "url": text, "metadata": { "k": flag } }),
                })
                .collect();
            let message = json!({ "messageId": "m", "role": "ROLE_AGENT", "parts": parts, "contextId": "c" });
            let status = json!({ "state": shape::STATES[state], "message": message.clone(), "timestamp": "2026-05-01T00:00:00.000Z" });
            for event in [
                json!({ "message": message }),
                json!({ "task": { "id": "t", "contextId": "c", "status": status, "artifacts": [{ "artifactId": "a", "parts": parts }], "history": [message] } }),
                json!({ "statusUpdate": { "taskId": "t", "contextId": "c", "status": status } }),
                json!({ "artifactUpdate": { "taskId": "t", "contextId": "c", "artifact": { "artifactId": "a", "parts": parts }, "append": true } }),
            ] {
                let older = write::event(object(event.clone()));
                proptest::prop_assert!(older.get("kind").is_some());
                let newer = normal(read::event(object(older)), &shape::STREAM_RESPONSE, true).map(Value::Object);
                proptest::prop_assert_eq!(newer, Ok(event));
            }
        }
    }
}
