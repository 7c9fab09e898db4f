//! The objects of A2A 1.0 as ProtoJSON has them: read in whatever spelling ProtoJSON allows, written in one. Pure; fuzzed.
//!
//! A reader of ProtoJSON takes `taskId` and `task_id` for the same member, numbers in quotes for numbers, and passes over what it
//! does not know. What is judged must be what the other side reads, so each object is brought into its one form first: known members
//! alone, in camel case, each once. The data model is `lf.a2a.v1` of the specification's `a2a.proto`.

use bailiwick_core::model::Timestamp;
use serde_json::{Map, Value};

/// What a member holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Flag,
    /// A whole number of 32 bits, not negative.
    Count,
    Time,
    /// Any JSON.
    Any,
    /// Any JSON object (`google.protobuf.Struct`).
    Struct,
    /// One of these names.
    Word(&'static [&'static str]),
    List(&'static Self),
    /// An object whose members all are of one kind.
    Map(&'static Self),
    Object(&'static Object),
}

/// One kind of object.
#[derive(Debug)]
pub(super) struct Object {
    fields: &'static [(&'static str, Kind)],
    /// The members that it must have. A text or list among them must not be empty.
    required: &'static [&'static str],
    /// Of these it must have exactly one, where there are any.
    one_of: &'static [&'static str],
}

/// Why a value is not what it should be: the place, as a JSON pointer, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` {what}")]
pub(super) struct Misshapen {
    pub(super) place: String,
    pub(super) what: &'static str,
}

/// The states of a task, in the order of their numbers.
pub(super) const STATES: &[&str] = &[
    "TASK_STATE_UNSPECIFIED",
    "TASK_STATE_SUBMITTED",
    "TASK_STATE_WORKING",
    "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED",
    "TASK_STATE_INPUT_REQUIRED",
    "TASK_STATE_REJECTED",
    "TASK_STATE_AUTH_REQUIRED",
];

/// The roles, in the order of their numbers.
const ROLES: &[&str] = &["ROLE_UNSPECIFIED", "ROLE_USER", "ROLE_AGENT"];

const TEXTS: Kind = Kind::List(&Kind::Text);

const fn plain(fields: &'static [(&'static str, Kind)], required: &'static [&'static str]) -> Object {
    Object { fields, required, one_of: &[] }
}

pub(super) static PART: Object = Object {
    fields: &[
        ("text", Kind::Text),
        ("raw", Kind::Text),
        ("url", Kind::Text),
        ("data", Kind::Any),
        ("metadata", Kind::Struct),
        ("filename", Kind::Text),
        ("mediaType", Kind::Text),
    ],
    required: &[],
    one_of: &["text", "raw", "url", "data"],
};

pub(super) static MESSAGE: Object = plain(
    &[
        ("messageId", Kind::Text),
        ("contextId", Kind::Text),
        ("taskId", Kind::Text),
        ("role", Kind::Word(ROLES)),
        ("parts", Kind::List(&Kind::Object(&PART))),
        ("metadata", Kind::Struct),
        ("extensions", TEXTS),
        ("referenceTaskIds", TEXTS),
    ],
    &["messageId", "role", "parts"],
);

static ARTIFACT: Object = plain(
    &[
        ("artifactId", Kind::Text),
        ("name", Kind::Text),
        ("description", Kind::Text),
        ("parts", Kind::List(&Kind::Object(&PART))),
        ("metadata", Kind::Struct),
        ("extensions", TEXTS),
    ],
    &["artifactId", "parts"],
);

static STATUS: Object = plain(&[("state", Kind::Word(STATES)), ("message", Kind::Object(&MESSAGE)), ("timestamp", Kind::Time)], &["state"]);

pub(super) static TASK: Object = plain(
    &[
        ("id", Kind::Text),
        ("contextId", Kind::Text),
        ("status", Kind::Object(&STATUS)),
        ("artifacts", Kind::List(&Kind::Object(&ARTIFACT))),
        ("history", Kind::List(&Kind::Object(&MESSAGE))),
        ("metadata", Kind::Struct),
    ],
    &["id", "status"],
);

static STATUS_UPDATE: Object = plain(
    &[("taskId", Kind::Text), ("contextId", Kind::Text), ("status", Kind::Object(&STATUS)), ("metadata", Kind::Struct)],
    &["taskId", "status"],
);

static ARTIFACT_UPDATE: Object = plain(
    &[
        ("taskId", Kind::Text),
        ("contextId", Kind::Text),
        ("artifact", Kind::Object(&ARTIFACT)),
        ("append", Kind::Flag),
        ("lastChunk", Kind::Flag),
        ("metadata", Kind::Struct),
    ],
    &["taskId", "artifact"],
);

pub(super) static SEND_RESPONSE: Object =
    Object { fields: &[("task", Kind::Object(&TASK)), ("message", Kind::Object(&MESSAGE))], required: &[], one_of: &["task", "message"] };

pub(super) static STREAM_RESPONSE: Object = Object {
    fields: &[
        ("task", Kind::Object(&TASK)),
        ("message", Kind::Object(&MESSAGE)),
        ("statusUpdate", Kind::Object(&STATUS_UPDATE)),
        ("artifactUpdate", Kind::Object(&ARTIFACT_UPDATE)),
    ],
    required: &[],
    one_of: &["task", "message", "statusUpdate", "artifactUpdate"],
};

/// The tasks themselves are looked at one by one: those of others matter to nobody.
pub(super) static LIST_RESPONSE: Object =
    plain(&[("tasks", Kind::List(&Kind::Any)), ("nextPageToken", Kind::Text), ("pageSize", Kind::Count), ("totalSize", Kind::Count)], &[]);

static AUTHENTICATION: Object = plain(&[("scheme", Kind::Text), ("credentials", Kind::Text)], &["scheme"]);

pub(super) static PUSH_CONFIG: Object = plain(
    &[
        ("tenant", Kind::Text),
        ("id", Kind::Text),
        ("taskId", Kind::Text),
        ("url", Kind::Text),
        ("token", Kind::Text),
        ("authentication", Kind::Object(&AUTHENTICATION)),
    ],
    &["url"],
);

static SEND_CONFIGURATION: Object = plain(
    &[
        ("acceptedOutputModes", TEXTS),
        ("taskPushNotificationConfig", Kind::Object(&PUSH_CONFIG)),
        ("historyLength", Kind::Count),
        ("returnImmediately", Kind::Flag),
    ],
    &[],
);

pub(super) static SEND: Object = plain(
    &[
        ("tenant", Kind::Text),
        ("message", Kind::Object(&MESSAGE)),
        ("configuration", Kind::Object(&SEND_CONFIGURATION)),
        ("metadata", Kind::Struct),
    ],
    &["message"],
);

pub(super) static GET: Object = plain(&[("tenant", Kind::Text), ("id", Kind::Text), ("historyLength", Kind::Count)], &["id"]);

pub(super) static LIST: Object = plain(
    &[
        ("tenant", Kind::Text),
        ("contextId", Kind::Text),
        ("status", Kind::Word(STATES)),
        ("pageSize", Kind::Count),
        ("pageToken", Kind::Text),
        ("historyLength", Kind::Count),
        ("statusTimestampAfter", Kind::Time),
        ("includeArtifacts", Kind::Flag),
    ],
    &[],
);

pub(super) static CANCEL: Object = plain(&[("tenant", Kind::Text), ("id", Kind::Text), ("metadata", Kind::Struct)], &["id"]);

pub(super) static SUBSCRIBE: Object = plain(&[("tenant", Kind::Text), ("id", Kind::Text)], &["id"]);

pub(super) static ONE_PUSH_CONFIG: Object = plain(&[("tenant", Kind::Text), ("taskId", Kind::Text), ("id", Kind::Text)], &["taskId", "id"]);

pub(super) static LIST_PUSH_CONFIGS: Object =
    plain(&[("tenant", Kind::Text), ("taskId", Kind::Text), ("pageSize", Kind::Count), ("pageToken", Kind::Text)], &["taskId"]);

pub(super) static NOTHING: Object = plain(&[("tenant", Kind::Text)], &[]);

static INTERFACE: Object = plain(
    &[("url", Kind::Text), ("protocolBinding", Kind::Text), ("tenant", Kind::Text), ("protocolVersion", Kind::Text)],
    &["url", "protocolBinding", "protocolVersion"],
);

static EXTENSION: Object =
    plain(&[("uri", Kind::Text), ("description", Kind::Text), ("required", Kind::Flag), ("params", Kind::Struct)], &["uri"]);

static CAPABILITIES: Object = plain(
    &[
        ("streaming", Kind::Flag),
        ("pushNotifications", Kind::Flag),
        ("extensions", Kind::List(&Kind::Object(&EXTENSION))),
        ("extendedAgentCard", Kind::Flag),
    ],
    &[],
);

static REQUIREMENT: Object = plain(&[("schemes", Kind::Map(&Kind::Any))], &[]);

static SKILL: Object = plain(
    &[
        ("id", Kind::Text),
        ("name", Kind::Text),
        ("description", Kind::Text),
        ("tags", TEXTS),
        ("examples", TEXTS),
        ("inputModes", TEXTS),
        ("outputModes", TEXTS),
        ("securityRequirements", Kind::List(&Kind::Object(&REQUIREMENT))),
    ],
    &["id", "name", "description", "tags"],
);

static SIGNATURE: Object =
    plain(&[("protected", Kind::Text), ("signature", Kind::Text), ("header", Kind::Struct)], &["protected", "signature"]);

static PROVIDER: Object = plain(&[("url", Kind::Text), ("organization", Kind::Text)], &["url", "organization"]);

pub(super) static CARD: Object = plain(
    &[
        ("name", Kind::Text),
        ("description", Kind::Text),
        ("supportedInterfaces", Kind::List(&Kind::Object(&INTERFACE))),
        ("provider", Kind::Object(&PROVIDER)),
        ("version", Kind::Text),
        ("documentationUrl", Kind::Text),
        ("capabilities", Kind::Object(&CAPABILITIES)),
        ("securitySchemes", Kind::Map(&Kind::Any)),
        ("securityRequirements", Kind::List(&Kind::Object(&REQUIREMENT))),
        ("defaultInputModes", TEXTS),
        ("defaultOutputModes", TEXTS),
        ("skills", Kind::List(&Kind::Object(&SKILL))),
        ("signatures", Kind::List(&Kind::Object(&SIGNATURE))),
        ("iconUrl", Kind::Text),
    ],
    &["name", "description", "supportedInterfaces", "version", "capabilities", "defaultInputModes", "defaultOutputModes", "skills"],
);

/// Brings `value` into the one form of `object`. A required text or list that is empty is passed where `lenient` says so: what an
/// agent answers is not made unreadable over it.
pub(super) fn normal(value: Value, object: &'static Object, lenient: bool) -> Result<Map<String, Value>, Misshapen> {
    let mut place = String::new();
    match (Shaping { lenient }).kind(value, Kind::Object(object), &mut place)? {
        Value::Object(members) => Ok(members),
        _ => Err(misshapen(&place, "is not an object")),
    }
}

struct Shaping {
    lenient: bool,
}

impl Shaping {
    fn kind(&self, value: Value, kind: Kind, place: &mut String) -> Result<Value, Misshapen> {
        match (kind, value) {
            (Kind::Any, value) => Ok(value),
            (Kind::Text, Value::String(text)) => Ok(Value::String(text)),
            (Kind::Text, _) => Err(misshapen(place, "is not a text")),
            (Kind::Flag, Value::Bool(flag)) => Ok(Value::Bool(flag)),
            (Kind::Flag, _) => Err(misshapen(place, "is neither `true` nor `false`")),
            (Kind::Count, value) => count(&value).map(Value::from).ok_or_else(|| misshapen(place, "is not a whole number from 0")),
            (Kind::Time, Value::String(text)) if text.parse::<Timestamp>().is_ok() => Ok(Value::String(text)),
            (Kind::Time, _) => Err(misshapen(place, "is not a time (RFC 3339)")),
            (Kind::Struct, Value::Object(members)) => Ok(Value::Object(members)),
            (Kind::Struct, _) => Err(misshapen(place, "is not an object")),
            (Kind::Word(words), value) => word(&value, words).map(Value::from).ok_or_else(|| misshapen(place, "is no word that is known")),
            (Kind::List(kind), Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| within(place, &index.to_string(), |place| self.kind(item, *kind, place)))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array),
            (Kind::List(_), _) => Err(misshapen(place, "is not a list")),
            (Kind::Map(kind), Value::Object(members)) => members
                .into_iter()
                .map(|(name, member)| within(place, &name, |place| self.kind(member, *kind, place)).map(|member| (name.clone(), member)))
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object),
            (Kind::Map(_), _) => Err(misshapen(place, "is not an object")),
            (Kind::Object(object), Value::Object(members)) => self.object(members, object, place).map(Value::Object),
            (Kind::Object(_), _) => Err(misshapen(place, "is not an object")),
        }
    }

    fn object(&self, members: Map<String, Value>, object: &'static Object, place: &mut String) -> Result<Map<String, Value>, Misshapen> {
        let mut normal = Map::new();
        for (name, member) in members {
            let known = |(field, _): &&(&str, Kind)| *field == name || is_snake_of(&name, field);
            let Some((field, kind)) = object.fields.iter().find(known) else { continue };
            // `null` is an absent member, but where any JSON may stand (ProtoJSON, "null").
            if member.is_null() && !matches!(kind, Kind::Any) {
                continue;
            }
            let member = within(place, field, |place| self.kind(member, *kind, place))?;
            if normal.insert((*field).to_owned(), member).is_some() {
                return Err(within_error(place, field, "is there in two spellings"));
            }
        }
        let held = object.one_of.iter().filter(|name| normal.contains_key(**name)).count();
        // A part without content is passed, where what agents answer is read; what it might hold is still one thing.
        let may_be_empty = self.lenient && std::ptr::eq(object, &PART);
        if !object.one_of.is_empty() && held != 1 && !(held == 0 && may_be_empty) {
            return Err(misshapen(place, "holds none, or more than one, of what it can hold one of"));
        }
        for name in object.required {
            let is_there = match normal.get(*name) {
                None => false,
                Some(Value::String(text)) => self.lenient || !text.is_empty(),
                Some(Value::Array(items)) => self.lenient || !items.is_empty(),
                Some(_) => true,
            };
            let may_lack = self.lenient && object.fields.iter().any(|(field, kind)| field == name && matches!(kind, Kind::List(_)));
            if !is_there && !may_lack {
                return Err(within_error(place, name, "is missing or empty"));
            }
        }
        Ok(normal)
    }
}

/// Whether `name` is the name of `field`, which is in camel case, as the proto file spells it.
fn is_snake_of(name: &str, field: &str) -> bool {
    let mut name = name.bytes();
    for letter in field.bytes() {
        if letter.is_ascii_uppercase() && name.next() != Some(b'_') {
            return false;
        }
        if name.next() != Some(letter.to_ascii_lowercase()) {
            return false;
        }
    }
    name.next().is_none()
}

/// A 32-bit number that is not negative, as a number or in quotes.
fn count(value: &Value) -> Option<i32> {
    let number = match value {
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole,
            None => number.as_f64().filter(|float| float.fract() == 0.0).and_then(|float| format!("{float:.0}").parse().ok())?,
        },
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    i32::try_from(number).ok().filter(|number| *number >= 0)
}

/// A word by its name or its number.
fn word(value: &Value, words: &'static [&'static str]) -> Option<&'static str> {
    match value {
        Value::String(name) => words.iter().find(|word| *word == name).copied(),
        Value::Number(number) => words.get(usize::try_from(number.as_u64()?).ok()?).copied(),
        _ => None,
    }
}

fn misshapen(place: &str, what: &'static str) -> Misshapen {
    Misshapen { place: bailiwick_core::model::shown(if place.is_empty() { "/" } else { place }, 200), what }
}

fn within_error(place: &mut String, name: &str, what: &'static str) -> Misshapen {
    let error: Result<(), _> = within(place, name, |place| Err(misshapen(place, what)));
    error.err().unwrap_or_else(|| misshapen("", what))
}

fn within<T>(place: &mut String, step: &str, look: impl FnOnce(&mut String) -> Result<T, Misshapen>) -> Result<T, Misshapen> {
    let length = place.len();
    place.push('/');
    place.push_str(&step.replace('~', "~0").replace('/', "~1"));
    let looked = look(place);
    place.truncate(length);
    looked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_has_one_form_whatever_spelling_it_came_in() {
        let form = json!({ "message": { "messageId": "m", "role": "ROLE_USER", "taskId": "t", "parts": [{ "text": "" }] },
            "configuration": { "historyLength": 2 } });
        for spelling in [
            json!({ "message": { "messageId": "m", "role": "ROLE_USER", "taskId": "t", "parts": [{ "text": "" }] },
                "configuration": { "historyLength": 2, "taskPushNotificationConfig": null } }),
            json!({ "message": { "message_id": "m", "role": 1, "task_id": "t", "parts": [{ "text": "", "url": null }] },
                "configuration": { "history_length": "2" }, "unknown": { "task_id": "another" } }),
        ] {
            assert_eq!(normal(spelling, &SEND, false).map(Value::Object).unwrap(), form);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_not_at_all_is_refused() {
        let message = |member: &str, value: Value| {
            let mut message = json!({ "messageId": "m", "role": "ROLE_USER", "taskId": "mine", "parts": [{ "text": "x" }] });
            message[member] = value;
            json!({ "message": message })
        };
        for (request, place) in [
            (message("task_id", json!("yours")), "/message/taskId"),
            (message("role", json!("user")), "/message/role"),
            (message("role", json!(7)), "/message/role"),
            (message("messageId", json!("")), "/message/messageId"),
            (message("parts", json!([])), "/message/parts"),
            (message("parts", json!([{ "text": "x", "url": "https://a.example" }])), "/message/parts/0"),
            (message("parts", json!([{}])), "/message/parts/0"),
            (message("parts", json!("x")), "/message/parts"),
            (message("metadata", json!([])), "/message/metadata"),
            (json!({}), "/message"),
            (json!([]), "/"),
        ] {
            assert_eq!(normal(request.clone(), &SEND, false).unwrap_err().place, place, "{request}");
        }
        for length in [json!(-1), json!(1.5), json!("x"), json!(2_147_483_648_u64), json!(true)] {
            assert!(normal(json!({ "id": "t", "historyLength": length }), &GET, false).is_err(), "{length}");
        }
        assert!(normal(json!({ "statusTimestampAfter": "yesterday" }), &LIST, false).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_in_its_form_stays_as_it_is(text: String, number in 0..i32::MAX, flag: bool) {
            let request = json!({ "message": { "messageId": format!("m{text}"), "role": "ROLE_AGENT", "parts": [{ "data": { "n": number, text.clone(): flag } }] },
                "configuration": { "returnImmediately": flag, "historyLength": number }, "metadata": { "task_id": text } });
            let once = normal(request.clone(), &SEND, false).map(Value::Object);
            proptest::prop_assert_eq!(once, Ok(request));
        }
    }
}
