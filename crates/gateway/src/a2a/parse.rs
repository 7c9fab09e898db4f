//! From a request in either binding and either version to one operation with its arguments in one form. Pure; fuzzed.

use bailiwick_core::json::{self, InvalidJson};
use http::{HeaderMap, Method, header};
use serde_json::{Map, Value, json};

use super::fault::{self, Fault};
use super::shape::{self, Object, normal};
use super::v03;
use crate::front::single;

/// What can be done with an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Send,
    SendStreaming,
    Get,
    List,
    Cancel,
    Subscribe,
    CreatePush,
    GetPush,
    ListPush,
    DeletePush,
    /// Nobody asks for it: the gateway itself tells what an execution wanted to be told.
    Notify,
    ExtendedCard,
}

/// Every operation: its method in 1.0, which is the line's word for it too, its method in 0.3, its tool, and its arguments.
const OPERATIONS: [(Operation, &str, Option<&str>, &str, &Object); 12] = [
    (Operation::Send, "SendMessage", Some("message/send"), "message", &shape::SEND),
    (Operation::SendStreaming, "SendStreamingMessage", Some("message/stream"), "message", &shape::SEND),
    (Operation::Get, "GetTask", Some("tasks/get"), "get_task", &shape::GET),
    (Operation::List, "ListTasks", None, "list_tasks", &shape::LIST),
    (Operation::Cancel, "CancelTask", Some("tasks/cancel"), "cancel_task", &shape::CANCEL),
    (Operation::Subscribe, "SubscribeToTask", Some("tasks/resubscribe"), "subscribe_to_task", &shape::SUBSCRIBE),
    (
        Operation::CreatePush,
        "CreateTaskPushNotificationConfig",
        Some("tasks/pushNotificationConfig/set"),
        "push_notifications",
        &shape::PUSH_CONFIG,
    ),
    (
        Operation::GetPush,
        "GetTaskPushNotificationConfig",
        Some("tasks/pushNotificationConfig/get"),
        "push_notifications",
        &shape::ONE_PUSH_CONFIG,
    ),
    (
        Operation::ListPush,
        "ListTaskPushNotificationConfigs",
        Some("tasks/pushNotificationConfig/list"),
        "push_notifications",
        &shape::LIST_PUSH_CONFIGS,
    ),
    (
        Operation::DeletePush,
        "DeleteTaskPushNotificationConfig",
        Some("tasks/pushNotificationConfig/delete"),
        "push_notifications",
        &shape::ONE_PUSH_CONFIG,
    ),
    (Operation::Notify, "PushNotification", None, "push_notifications", &shape::NOTHING),
    (Operation::ExtendedCard, "GetExtendedAgentCard", Some("agent/getAuthenticatedExtendedCard"), "extended_card", &shape::NOTHING),
];

impl Operation {
    fn row(self) -> (&'static str, Option<&'static str>, &'static str, &'static Object) {
        let row = OPERATIONS.iter().find(|(operation, ..)| *operation == self);
        row.map_or(("", None, "", &shape::NOTHING), |(_, method, older, tool, arguments)| (*method, *older, *tool, arguments))
    }

    /// Its method in 1.0.
    pub(super) fn method(self) -> &'static str {
        self.row().0
    }

    /// Its method in 0.3, where that has it.
    pub(super) fn older_method(self) -> Option<&'static str> {
        self.row().1
    }

    /// The tool that it is.
    pub(super) fn tool(self) -> &'static str {
        self.row().2
    }

    /// The operation with this method in 1.0.
    pub(super) fn of_method(method: &str) -> Option<Self> {
        OPERATIONS.iter().find(|(_, name, ..)| *name == method).map(|(operation, ..)| *operation)
    }

    /// Whether it is answered by a stream.
    pub(super) const fn streams(self) -> bool {
        matches!(self, Self::SendStreaming | Self::Subscribe)
    }

    /// Whether it is about push notifications.
    pub(super) const fn is_push(self) -> bool {
        matches!(self, Self::CreatePush | Self::GetPush | Self::ListPush | Self::DeletePush | Self::Notify)
    }
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 1.0.
    V1,
    /// 0.3.
    V03,
}

impl Version {
    /// How `A2A-Version` names it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V03 => "0.3",
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    /// The id of a JSON-RPC request; null over HTTP+JSON.
    pub(super) id: Value,
    /// The arguments, in the one form of 1.0.
    pub(super) arguments: Map<String, Value>,
}

/// What a request's headers say beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) version: Version,
    /// The extensions that the client asks for.
    pub(super) extensions: Vec<String>,
}

/// The most extensions of one request, and the longest of their URIs.
const EXTENSIONS_MAX: usize = 32;
const EXTENSION_BYTES_MAX: usize = 512;

/// Reads the service parameters (1.0 §3.2.6): an absent or empty version means 0.3.
pub(super) fn parameters(headers: &HeaderMap, query: &str) -> Result<Parameters, Fault> {
    let one = |name: &str| single(headers, name).map_err(|message| Fault::new(fault::INVALID_REQUEST, message));
    let in_query = pairs(query).into_iter().find(|(name, _)| name == "A2A-Version").map(|(_, value)| value);
    let version = match (one("a2a-version")?, in_query) {
        (Some(header), Some(query)) if header != query => {
            return Err(Fault::new(fault::INVALID_REQUEST, "the header `A2A-Version` differs from the query"));
        }
        (Some(header), _) => header.to_owned(),
        (None, Some(query)) => query,
        (None, None) => String::new(),
    };
    let version = match version.as_str() {
        "" => Version::V03,
        version => match version.split('.').collect::<Vec<_>>().as_slice() {
            // A patch says nothing of the protocol (1.0 §3.6).
            ["1", "0"] | ["1", "0", _] => Version::V1,
            ["0", "3"] | ["0", "3", _] => Version::V03,
            _ => return Err(unsupported("the version of A2A is not supported")),
        },
    };
    let all = headers.get_all("a2a-extensions").iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let extensions: Vec<String> = all.map(str::trim).filter(|uri| !uri.is_empty()).map(str::to_owned).collect();
    if extensions.len() > EXTENSIONS_MAX || extensions.iter().any(|uri| uri.len() > EXTENSION_BYTES_MAX) {
        return Err(Fault::new(fault::INVALID_REQUEST, "too many extensions are asked for"));
    }
    Ok(Parameters { version, extensions })
}

fn unsupported(message: &str) -> Fault {
    let metadata = Map::from_iter([("supported".to_owned(), json!("1.0,0.3"))]);
    Fault::with(fault::VERSION_NOT_SUPPORTED, message, metadata).logged("unsupported_version")
}

/// Checks that the body is JSON as it is; `HTTP+JSON` has a media type of its own.
pub(super) fn media(headers: &HeaderMap) -> Result<(), Fault> {
    let unsupported = |message: &str| Fault::new(fault::CONTENT_TYPE, message).logged("unsupported_media_type").status(415);
    let content_type = single(headers, header::CONTENT_TYPE.as_str()).map_err(|message| Fault::new(fault::INVALID_REQUEST, message))?;
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(essence.as_str(), "application/json" | "application/a2a+json") {
        return Err(unsupported("the body's `Content-Type` is neither `application/json` nor `application/a2a+json`"));
    }
    match headers.get(header::CONTENT_ENCODING).map(|coding| coding.as_bytes().to_ascii_lowercase()).as_deref() {
        None | Some(b"identity") => Ok(()),
        Some(_) => Err(unsupported("a compressed body is not accepted; send it as it is")),
    }
}

/// Reads a JSON-RPC request. The error comes with the request's id, where that could be read.
pub(super) fn rpc(body: &[u8], version: Version, limits: &json::Limits) -> Result<Request, (Fault, Value)> {
    let invalid = |message: &str| Fault::new(fault::INVALID_REQUEST, message);
    let value = json::parse(body, limits).map_err(|error| (error.into(), Value::Null))?;
    let exact = json::exact(body, &value);
    let Value::Object(mut object) = value else {
        return Err((invalid("the request is not a JSON object; batches are not accepted"), Value::Null));
    };
    let id = object.remove("id").unwrap_or(Value::Null);
    if !id.is_string() && !id.is_i64() && !id.is_u64() {
        return Err((invalid("`id` is neither a text nor a whole number"), Value::Null));
    }
    let request = || {
        exact?;
        if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(invalid("`jsonrpc` is not `2.0`"));
        }
        let Some(Value::String(method)) = object.get("method") else { return Err(invalid("`method` is not a text")) };
        let named = |(operation, newer, older, ..): &&(Operation, &str, Option<&str>, &str, &Object)| match version {
            Version::V1 => newer == method && *operation != Operation::Notify,
            Version::V03 => older.as_deref() == Some(method.as_str()),
        };
        let Some((operation, ..)) = OPERATIONS.iter().find(named) else {
            if version == Version::V03 && Operation::of_method(method).is_some() {
                return Err(unsupported("this method is of 1.0; a request without the header `A2A-Version: 1.0` is of 0.3"));
            }
            let shown = bailiwick_core::model::shown(method, 80);
            return Err(Fault::new(fault::UNKNOWN_METHOD, format!("no method `{shown}`")).logged("unknown_method"));
        };
        let params = match object.remove("params") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => return Err(Fault::new(fault::INVALID_PARAMS, "`params` is not an object")),
        };
        let params = if version == Version::V03 { of_older(*operation, params)? } else { params };
        arguments(*operation, params)
    };
    match request() {
        Ok((operation, arguments)) => Ok(Request { operation, id, arguments }),
        Err(fault) => Err((fault, id)),
    }
}

/// The parameters of a 0.3 method in terms of 1.0.
fn of_older(operation: Operation, mut params: Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    let rename = |params: &mut Map<String, Value>, from: &str, to: &str| {
        if let Some(value) = params.remove(from) {
            params.insert(to.to_owned(), value);
        }
    };
    match operation {
        Operation::Send | Operation::SendStreaming => v03::read::send(&mut params),
        Operation::CreatePush => {
            let task = params.remove("taskId");
            let Some(Value::Object(config)) = params.remove("pushNotificationConfig") else {
                return Err(Fault::new(fault::INVALID_PARAMS, "`pushNotificationConfig` is not an object"));
            };
            params = config;
            v03::read::push(&mut params);
            params.extend(task.map(|task| ("taskId".to_owned(), task)));
        }
        Operation::GetPush | Operation::DeletePush => {
            rename(&mut params, "id", "taskId");
            rename(&mut params, "pushNotificationConfigId", "id");
            // 0.3 may leave out which; its first is named after its task.
            if let (Operation::GetPush, false, Some(task)) = (operation, params.contains_key("id"), params.get("taskId").cloned()) {
                params.insert("id".to_owned(), task);
            }
        }
        Operation::ListPush => rename(&mut params, "id", "taskId"),
        _ => {}
    }
    Ok(params)
}

fn arguments(operation: Operation, params: Map<String, Value>) -> Result<(Operation, Map<String, Value>), Fault> {
    let mut arguments = normal(Value::Object(params), operation.row().3, false)?;
    // Our interfaces are of no tenant; which one the agent behind has is not for the client to say.
    arguments.remove("tenant");
    if operation == Operation::CreatePush && !arguments.contains_key("taskId") {
        return Err(Fault::new(fault::INVALID_PARAMS, "`taskId` is missing").logged("invalid_params"));
    }
    if operation == Operation::List && arguments.get("pageSize").and_then(Value::as_i64).is_some_and(|size| !(1..=100).contains(&size)) {
        return Err(Fault::new(fault::INVALID_PARAMS, "`pageSize` is not from 1 to 100").logged("invalid_params"));
    }
    Ok((operation, arguments))
}

/// An operation, and the members of its arguments that a path holds.
pub(super) type Routed = (Operation, Map<String, Value>);

/// The operation at a path of HTTP+JSON; nothing where there is none. The error says which methods a path has.
pub(super) fn route(method: &Method, path: &str) -> Option<Result<Routed, &'static str>> {
    let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let only = |wanted: Method, allowed: &'static str, operation: Operation, held: &[(&str, String)]| {
        let held = held.iter().map(|(name, value)| ((*name).to_owned(), Value::String(value.clone()))).collect();
        Some(if *method == wanted { Ok((operation, held)) } else { Err(allowed) })
    };
    match steps.as_slice() {
        ["message:send"] => only(Method::POST, "POST", Operation::Send, &[]),
        ["message:stream"] => only(Method::POST, "POST", Operation::SendStreaming, &[]),
        ["extendedAgentCard"] => only(Method::GET, "GET", Operation::ExtendedCard, &[]),
        ["tasks"] => only(Method::GET, "GET", Operation::List, &[]),
        ["tasks", task] => {
            let decoded = decoded(task)?;
            match decoded.rsplit_once(':') {
                Some((id, "cancel")) => only(Method::POST, "POST", Operation::Cancel, &[("id", id.to_owned())]),
                // The prose of 1.0 says POST, its proto file GET.
                Some((id, "subscribe")) if *method == Method::POST => {
                    only(Method::POST, "", Operation::Subscribe, &[("id", id.to_owned())])
                }
                Some((id, "subscribe")) => only(Method::GET, "GET, POST", Operation::Subscribe, &[("id", id.to_owned())]),
                _ => only(Method::GET, "GET", Operation::Get, &[("id", decoded)]),
            }
        }
        ["tasks", task, "pushNotificationConfigs"] => {
            let held = [("taskId", decoded(task)?)];
            match *method {
                Method::POST => only(Method::POST, "", Operation::CreatePush, &held),
                _ => only(Method::GET, "GET, POST", Operation::ListPush, &held),
            }
        }
        ["tasks", task, "pushNotificationConfigs", config] => {
            let held = [("taskId", decoded(task)?), ("id", decoded(config)?)];
            match *method {
                Method::DELETE => only(Method::DELETE, "", Operation::DeletePush, &held),
                _ => only(Method::GET, "GET, DELETE", Operation::GetPush, &held),
            }
        }
        _ => None,
    }
}

/// Reads a request of HTTP+JSON whose path was found to mean `operation`.
pub(super) fn http((operation, held): Routed, query: &str, body: &[u8], version: Version, limits: &json::Limits) -> Result<Request, Fault> {
    if version == Version::V03 {
        return Err(unsupported("over HTTP+JSON, 1.0 alone is spoken here: send the header `A2A-Version: 1.0`"));
    }
    let mut params = if body.is_empty() {
        Map::new()
    } else {
        let value = json::parse(body, limits)?;
        json::exact(body, &value)?;
        match value {
            Value::Object(params) => params,
            _ => return Err(InvalidJson::NotAnObject.into()),
        }
    };
    for (name, value) in pairs(query) {
        if name == "A2A-Version" {
            continue;
        }
        let value = match value.as_str() {
            "true" | "false" if name == "includeArtifacts" => Value::Bool(value == "true"),
            // A number may stand in quotes, and an empty value stands for none.
            "" => continue,
            _ => Value::String(value),
        };
        if params.insert(name.clone(), value).is_some() {
            let shown = bailiwick_core::model::shown(&name, 80);
            return Err(Fault::new(fault::INVALID_PARAMS, format!("`{shown}` is there more than once")).logged("invalid_params"));
        }
    }
    // The body must not say another task than the path (AIP-127).
    for (name, value) in held {
        for spelling in [name.as_str(), if name == "taskId" { "task_id" } else { name.as_str() }] {
            if params.remove(spelling).is_some_and(|other| other != value && other.as_str() != Some("")) {
                return Err(Fault::new(fault::INVALID_PARAMS, format!("`{name}` differs from the path")).logged("invalid_params"));
            }
        }
        params.insert(name, value);
    }
    let (operation, arguments) = arguments(operation, params)?;
    Ok(Request { operation, id: Value::Null, arguments })
}

/// A segment of a path, decoded; nothing for what is no text, or is more than a segment.
fn decoded(segment: &str) -> Option<String> {
    let bytes = percent_decoded(segment, false)?;
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.contains(['/', '\\']) && !text.chars().any(char::is_control) && text != "." && text != "..").then_some(text)
}

/// The pairs of a query, decoded.
fn pairs(query: &str) -> Vec<(String, String)> {
    let text = |part: &str| percent_decoded(part, true).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(64);
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (text(name), text(value))).collect()
}

fn percent_decoded(text: &str, is_form: bool) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'))?, 16).ok()?
            }
            b'+' if is_form => b' ',
            byte => byte,
        });
    }
    Some(decoded)
}

/// Reads whatever comes, as a fuzzer's target: what is read must be in its one form.
///
/// Says whether a request was read.
pub fn fuzz(data: &[u8]) -> bool {
    let mut is_read = false;
    let limits = json::Limits { bytes_max: 1 << 16, depth_max: 32 };
    for version in [Version::V1, Version::V03] {
        let Ok(request) = rpc(data, version, &limits) else { continue };
        is_read = true;
        let again = normal(Value::Object(request.arguments.clone()), request.operation.row().3, false);
        assert_eq!(again.as_ref(), Ok(&request.arguments), "what is read is in its one form");
        let written = json!({ "jsonrpc": "2.0", "id": request.id, "method": request.operation.method(), "params": request.arguments });
        let read = rpc(written.to_string().as_bytes(), Version::V1, &limits).map(|request| request.arguments);
        assert_eq!(read.ok(), Some(request.arguments), "what is forwarded is read as what was judged");
    }
    if let Some((path, body)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        for method in [Method::GET, Method::POST, Method::DELETE] {
            if let Some(Ok(route)) = route(&method, path) {
                is_read |= http(route, query, body.as_bytes(), Version::V1, &limits).is_ok();
            }
        }
    }
    is_read
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: json::Limits = json::Limits { bytes_max: 1 << 16, depth_max: 32 };

    #[test]
    fn an_absent_version_is_0_3_and_an_unknown_one_is_refused() {
        for (header, expected) in [
            (None, Some(Version::V03)),
            (Some(""), Some(Version::V03)),
            (Some("0.3"), Some(Version::V03)),
            (Some("1.0"), Some(Version::V1)),
            (Some("1.0.1"), Some(Version::V1)),
            (Some("1.1"), None),
            (Some("2.0"), None),
            (Some("1"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("a2a-version", header.parse().unwrap());
            }
            assert_eq!(parameters(&headers, "").map(|parameters| parameters.version).ok(), expected, "{header:?}");
        }
        assert_eq!(parameters(&HeaderMap::new(), "A2A-Version=1.0").unwrap().version, Version::V1);
        let mut headers = HeaderMap::new();
        headers.insert("a2a-version", "0.3".parse().unwrap());
        assert!(parameters(&headers, "A2A-Version=1.0").is_err());
    }

    #[test]
    fn a_path_names_an_operation_and_its_task_and_the_body_no_other() {
        for (method, path, expected) in [
            (Method::POST, "/message:send", Some(Ok(Operation::Send))),
            (Method::GET, "/message:send", Some(Err("POST"))),
            (Method::GET, "/tasks", Some(Ok(Operation::List))),
            (Method::GET, "/tasks/a%3Ab", Some(Ok(Operation::Get))),
            (Method::POST, "/tasks/t:cancel", Some(Ok(Operation::Cancel))),
            (Method::GET, "/tasks/t:subscribe", Some(Ok(Operation::Subscribe))),
            (Method::POST, "/tasks/t:subscribe", Some(Ok(Operation::Subscribe))),
            (Method::DELETE, "/tasks/t/pushNotificationConfigs/c", Some(Ok(Operation::DeletePush))),
            (Method::GET, "/tasks/%2e%2e", None),
            (Method::GET, "/tasks/a%2Fb", None),
            (Method::GET, "/tasks/%", None),
            (Method::GET, "/tenant/tasks", None),
            (Method::GET, "/other", None),
        ] {
            let found = route(&method, path).map(|route| route.map(|(operation, _)| operation));
            assert_eq!(found, expected, "{method} {path}");
        }
        let cancel = || route(&Method::POST, "/tasks/t:cancel").unwrap().unwrap();
        let read = |body: &str| http(cancel(), "", body.as_bytes(), Version::V1, &LIMITS).map(|request| Value::Object(request.arguments));
        assert_eq!(read("").unwrap(), json!({ "id": "t" }));
        assert_eq!(read(r#"{"id":"t","metadata":{}}"#).unwrap(), json!({ "id": "t", "metadata": {} }));
        assert!(read(r#"{"id":"another"}"#).is_err());
        let push = route(&Method::POST, "/tasks/t/pushNotificationConfigs").unwrap().unwrap();
        assert!(http(push, "", br#"{"task_id":"another","url":"https://a.example"}"#, Version::V1, &LIMITS).is_err());
        let list = route(&Method::GET, "/tasks").unwrap().unwrap();
        let list = http(list, "pageSize=5&includeArtifacts=true&contextId=a%20b", b"", Version::V1, &LIMITS).unwrap();
        assert_eq!(Value::Object(list.arguments), json!({ "pageSize": 5, "includeArtifacts": true, "contextId": "a b" }));
    }

    #[test]
    fn a_method_is_of_the_version_that_the_header_says() {
        let send = |method: &str| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "id": "t" } }).to_string();
        assert_eq!(rpc(send("GetTask").as_bytes(), Version::V1, &LIMITS).unwrap().operation, Operation::Get);
        assert_eq!(rpc(send("tasks/get").as_bytes(), Version::V03, &LIMITS).unwrap().operation, Operation::Get);
        assert_eq!(rpc(send("tasks/get").as_bytes(), Version::V1, &LIMITS).unwrap_err().0.rpc()["code"], -32601);
        assert_eq!(rpc(send("GetTask").as_bytes(), Version::V03, &LIMITS).unwrap_err().0.rpc()["code"], -32009);
        assert_eq!(rpc(send("Get").as_bytes(), Version::V1, &LIMITS).unwrap_err().0.rpc()["code"], -32601);
        assert_eq!(rpc(b"{", Version::V1, &LIMITS).unwrap_err().0.rpc()["code"], -32700);
        for request in [
            "[]",
            "1",
            r#"{"jsonrpc":"1.0","id":1,"method":"GetTask"}"#,
            r#"{"jsonrpc":"2.0","method":"GetTask"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"GetTask"}"#,
        ] {
            assert_eq!(rpc(request.as_bytes(), Version::V1, &LIMITS).unwrap_err().0.rpc()["code"], -32600, "{request}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics_and_what_is_read_is_in_its_one_form(bytes: Vec<u8>, text: String) {
            fuzz(&bytes);
            fuzz(text.as_bytes());
        }
    }
}
