//! From bytes and headers to one message that can mean only one thing. Pure.
//!
//! The body is the truth. Headers that repeat parts of it (2026-07-28, basic/transports) are compared with it and used
//! for nothing else; a message that could be read in two ways is refused.

use bailiwick_core::json::{self, InvalidJson};
use bailiwick_core::model::Arguments;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The revision without sessions.
pub const MODERN: &str = "2026-07-28";

/// The revisions with sessions, newest first.
pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// The member of `_meta` that names the revision.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// The member of `_meta` that says what the client can be asked.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The member of `_meta` that says from which level on the client wants log messages.
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// The member of `_meta` that names the subscription that a message belongs to.
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// JSON-RPC's and the protocol's own error codes.
pub mod code {
    /// Not JSON.
    pub const PARSE: i64 = -32700;
    /// JSON, but no request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No such method.
    pub const UNKNOWN_METHOD: i64 = -32601;
    /// The parameters are not what the method takes.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Our own fault.
    pub const INTERNAL: i64 = -32603;
    /// A mirrored header is missing, malformed or differs from the body (2026-07-28).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// The client did not declare a capability that is needed (2026-07-28).
    pub const MISSING_CAPABILITY: i64 = -32021;
    /// The revision is not one of ours (2026-07-28).
    pub const UNSUPPORTED_VERSION: i64 = -32022;
    /// No such resource, before 2026-07-28.
    pub const UNKNOWN_RESOURCE: i64 = -32002;
    /// The client has to open pages first; 2025-11-25 only.
    pub const URL_ELICITATION: i64 = -32042;
}

/// Why a message is answered with an error before it became a call. It is the sender's to mend.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The status of the HTTP answer.
    pub status: StatusCode,
    /// The JSON-RPC code.
    pub code: i64,
    /// The code that the log keeps.
    pub reason: &'static str,
    /// What is wrong, for both.
    pub message: String,
    /// What the protocol wants to be said beside it.
    pub data: Option<Value>,
    /// The id of the message, where it could be read.
    pub id: Option<Value>,
}

impl Fault {
    /// A fault with status 400.
    pub fn new(code: i64, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, reason, message: message.into(), data: None, id: None }
    }

    /// The same with another status.
    #[must_use]
    pub const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with more to say.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The same as the answer to the message with this id.
    #[must_use]
    pub fn to(mut self, id: &Value) -> Self {
        self.id = Some(id.clone());
        self
    }
}

impl From<InvalidJson> for Fault {
    fn from(error: InvalidJson) -> Self {
        let (status, code, reason) = match error {
            InvalidJson::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, code::INVALID_REQUEST, "too_large"),
            InvalidJson::TooDeep(_) => (StatusCode::BAD_REQUEST, code::INVALID_REQUEST, "too_deep"),
            InvalidJson::RepeatedKey => (StatusCode::BAD_REQUEST, code::INVALID_REQUEST, "repeated_key"),
            InvalidJson::InexactNumber => (StatusCode::BAD_REQUEST, code::INVALID_REQUEST, "inexact_number"),
            InvalidJson::Syntax { .. } => (StatusCode::BAD_REQUEST, code::PARSE, "invalid_json"),
            InvalidJson::NotAnObject => (StatusCode::BAD_REQUEST, code::INVALID_REQUEST, "invalid_request"),
        };
        Self::new(code, reason, error.to_string()).status(status)
    }
}

/// One message of a client.
#[derive(Clone, Debug)]
pub enum Message {
    /// It wants an answer.
    Request(Request),
    /// It wants none.
    Notification {
        /// The method.
        method: String,
        /// Its parameters.
        params: Map<String, Value>,
    },
    /// It answers a request of ours (legacy only).
    Response {
        /// The id of our request.
        id: Value,
        /// The result, or the error object.
        body: Result<Value, Value>,
    },
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id: a string or an integer.
    pub id: Value,
    /// Its method.
    pub method: String,
    /// Its parameters, without `arguments`.
    pub params: Map<String, Value>,
    /// `params.arguments`, where there is one.
    pub arguments: Option<Arguments>,
}

impl Request {
    /// A member of `_meta`.
    pub fn meta(&self, key: &str) -> Option<&Value> {
        self.params.get("_meta")?.get(key)
    }

    /// A parameter that is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.params.get(key)?.as_str()
    }
}

/// The protocol that a message speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// [`MODERN`].
    Modern,
    /// One of [`LEGACY`].
    Legacy(&'static str),
}

/// Reads one message.
pub fn message(body: &[u8], limits: &json::Limits) -> Result<Message, Fault> {
    let invalid = |message: &str| Fault::new(code::INVALID_REQUEST, "invalid_request", message);
    let (value, arguments) = json::parse_without(body, limits, &["params", "arguments"])?;
    let mut object = match value {
        Value::Object(object) => object,
        Value::Array(_) => return Err(invalid("batches are not accepted; send each message by itself")),
        _ => return Err(invalid("the message is not a JSON object")),
    };
    let id = object.remove("id");
    if !matches!(&id, None | Some(Value::String(_))) && !id.as_ref().is_some_and(|id| id.is_i64() || id.is_u64()) {
        return Err(invalid("`id` is neither a string nor an integer"));
    }
    let with_id = |fault: Fault| match &id {
        Some(id) => fault.to(id),
        None => fault,
    };
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(with_id(invalid("`jsonrpc` is not `2.0`")));
    }
    let params = match object.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(with_id(Fault::new(code::INVALID_PARAMS, "invalid_params", "`params` is not an object"))),
    };
    if params.get("_meta").is_some_and(|meta| !meta.is_object()) {
        return Err(with_id(Fault::new(code::INVALID_PARAMS, "invalid_params", "`_meta` is not an object")));
    }
    let (method, result, error) = (object.remove("method"), object.remove("result"), object.remove("error"));
    match (id, method, result, error) {
        (Some(id), Some(Value::String(method)), None, None) => {
            let arguments = arguments.map(|text| read_arguments(text, limits)).transpose().map_err(|fault| fault.to(&id))?;
            Ok(Message::Request(Request { id, method, params, arguments }))
        }
        (None, Some(Value::String(method)), None, None) => Ok(Message::Notification { method, params }),
        (Some(id), None, Some(result), None) => Ok(Message::Response { id, body: Ok(result) }),
        (Some(id), None, None, Some(error @ Value::Object(_))) => Ok(Message::Response { id, body: Err(error) }),
        (id, ..) => {
            let fault = invalid("the message is neither a request nor a notification nor a response");
            Err(id.map_or(fault.clone(), |id| fault.to(&id)))
        }
    }
}

/// Reads the arguments, which stand two levels deep in the message.
fn read_arguments(text: &RawValue, limits: &json::Limits) -> Result<Arguments, Fault> {
    let inner = json::Limits { depth_max: limits.depth_max.saturating_sub(2), ..*limits };
    Arguments::parse(text, &inner).map_err(|error| match error {
        InvalidJson::NotAnObject => {
            Fault::new(code::INVALID_PARAMS, "invalid_params", "`arguments` is not an object").status(StatusCode::OK)
        }
        InvalidJson::TooDeep(_) => InvalidJson::TooDeep(limits.depth_max).into(),
        other => other.into(),
    })
}

/// Checks that the headers announce JSON, in UTF-8 and as it is, and that the client takes both forms of an answer.
pub fn media(headers: &HeaderMap) -> Result<(), Fault> {
    let unsupported =
        |message| Fault::new(code::INVALID_REQUEST, "unsupported_media_type", message).status(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let content_type = single(headers, header::CONTENT_TYPE.as_str())?.unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/json") {
        return Err(unsupported("the body's `Content-Type` is not `application/json`"));
    }
    let charset = parts.filter_map(|parameter| parameter.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    if charset.is_some_and(|(_, charset)| !charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")) {
        return Err(unsupported("the body is JSON, which is UTF-8 (RFC 8259 §8.1)"));
    }
    // Whoever unpacks it and whoever does not would see different bodies; and what is small here may be large there.
    if single(headers, header::CONTENT_ENCODING.as_str())?.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(unsupported("a compressed body is not accepted; send it as it is"));
    }
    if accepts(headers, "application/json") && accepts(headers, "text/event-stream") {
        return Ok(());
    }
    Err(Fault::new(code::INVALID_REQUEST, "not_acceptable", "`Accept` has to list both `application/json` and `text/event-stream`")
        .status(StatusCode::NOT_ACCEPTABLE))
}

/// Whether `Accept` lists `media`, itself or by a wildcard.
pub fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let kind = media.split('/').next().unwrap_or_default();
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .any(|range| {
            let wild = range.strip_suffix("/*").is_some_and(|prefix| prefix == "*" || prefix.eq_ignore_ascii_case(kind));
            wild || range.eq_ignore_ascii_case(media)
        })
}

/// Tells the revision that a message speaks, and checks what that revision wants of every message: a request of the
/// modern one names revision and capabilities in `_meta`, and repeats method and name in headers.
pub fn era(headers: &HeaderMap, message: &Message) -> Result<Era, Fault> {
    let Message::Request(request) = message else { return announced(headers) };
    check_modern(headers, request).map_err(|fault| fault.to(&request.id))
}

/// The revision that the headers alone announce: 2025-03-26 when they are silent (2025-11-25, basic/transports).
pub fn announced(headers: &HeaderMap) -> Result<Era, Fault> {
    match single(headers, "mcp-protocol-version")? {
        None => Ok(Era::Legacy(LEGACY[2])),
        Some(MODERN) => Ok(Era::Modern),
        Some(version) => legacy(version).ok_or_else(|| unsupported(version)),
    }
}

fn check_modern(headers: &HeaderMap, request: &Request) -> Result<Era, Fault> {
    let header = single(headers, "mcp-protocol-version")?;
    let meta = request.meta(META_VERSION);
    match (header, meta.and_then(Value::as_str)) {
        (None, None) if meta.is_none() => return Ok(Era::Legacy(LEGACY[2])),
        (None, Some(_)) => return Err(mismatch("the header `MCP-Protocol-Version` is missing")),
        (Some(header), Some(version)) if header != version => {
            return Err(mismatch("the header `MCP-Protocol-Version` differs from the body"));
        }
        (Some(MODERN), Some(_)) => {}
        (Some(version), Some(_)) => return legacy(version).ok_or_else(|| unsupported(version)),
        (Some(MODERN), None) | (None, None) => return Err(missing(META_VERSION)),
        (Some(version), None) => return legacy(version).ok_or_else(|| unsupported(version)),
    }
    if !request.meta(META_CAPABILITIES).is_some_and(Value::is_object) {
        return Err(missing(META_CAPABILITIES));
    }
    mirrored(headers, "mcp-method", Some(&request.method))?;
    match request.method.as_str() {
        "tools/call" | "prompts/get" => mirrored(headers, "mcp-name", request.text("name"))?,
        "resources/read" => mirrored(headers, "mcp-name", request.text("uri"))?,
        _ => {
            single(headers, "mcp-name")?;
        }
    }
    Ok(Era::Modern)
}

fn legacy(version: &str) -> Option<Era> {
    LEGACY.into_iter().find(|known| *known == version).map(Era::Legacy)
}

fn unsupported(version: &str) -> Fault {
    let supported: Vec<&str> = std::iter::once(MODERN).chain(LEGACY).collect();
    Fault::new(code::UNSUPPORTED_VERSION, "unsupported_version", "the protocol revision is not supported")
        .data(json!({ "supported": supported, "requested": version }))
}

fn missing(member: &str) -> Fault {
    Fault::new(code::INVALID_PARAMS, "missing_meta", format!("`_meta` lacks `{member}`"))
}

fn mismatch(message: impl Into<String>) -> Fault {
    Fault::new(code::HEADER_MISMATCH, "header_mismatch", message)
}

/// The header's one value; refuses several, since whoever reads the first and whoever reads the last would differ.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Fault> {
    crate::front::single(headers, name).map_err(mismatch)
}

fn mirrored(headers: &HeaderMap, name: &str, body: Option<&str>) -> Result<(), Fault> {
    let header = single(headers, name)?.map(|text| decoded(name, text)).transpose()?;
    match (header, body) {
        (Some(header), Some(body)) if header == body => Ok(()),
        (None, None) => Ok(()),
        (None, Some(_)) => Err(mismatch(format!("the header `{name}` is missing"))),
        (Some(_), _) => Err(mismatch(format!("the header `{name}` differs from the body"))),
    }
}

/// The text that a mirrored header stands for: itself, or base64 between `=?base64?` and `?=`.
fn decoded(name: &str, text: &str) -> Result<String, Fault> {
    let Some(encoded) = text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else { return Ok(text.to_owned()) };
    let bytes = STANDARD.decode(encoded).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| mismatch(format!("the header `{name}` is not valid base64")))
}

/// Compares the headers `Mcp-Param-*` with the arguments that the tool's `inputSchema` mirrors by `x-mcp-header`.
/// Others are nobody's, and are ignored.
pub fn mirrored_arguments(headers: &HeaderMap, schema: &Value, arguments: &Value) -> Result<(), Fault> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (key, property) in properties {
        let argument = arguments.get(key).unwrap_or(&Value::Null);
        if let Some(suffix) = property.get("x-mcp-header").and_then(Value::as_str) {
            let name = format!("mcp-param-{}", suffix.to_ascii_lowercase());
            let header = single(headers, &name)?.map(|text| decoded(&name, text)).transpose()?;
            match (header, argument) {
                (None, Value::Null) => {}
                (Some(header), argument) if says(&header, argument) => {}
                (None, _) => return Err(mismatch(format!("the header `{name}` is missing"))),
                (Some(_), _) => return Err(mismatch(format!("the header `{name}` differs from the body"))),
            }
        }
        mirrored_arguments(headers, property, argument)?;
    }
    Ok(())
}

/// Whether `header` is the text of `argument`; integers are compared as numbers.
fn says(header: &str, argument: &Value) -> bool {
    match argument {
        Value::String(text) => header == text,
        Value::Bool(true) => header == "true",
        Value::Bool(false) => header == "false",
        Value::Number(number) => match number.as_i64() {
            Some(integer) => header.parse::<i64>().is_ok_and(|header| header == integer),
            None => number.as_f64().is_some_and(|number| header.parse::<f64>().is_ok_and(|header| header == number)),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parsed(body: &str) -> Result<Message, Fault> {
        message(body.as_bytes(), &json::Limits::default())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        for (body, reason) in [
            ("[]", "invalid_request"),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, "invalid_request"),
            ("{", "invalid_json"),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#, "repeated_key"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"arguments":{"a":1,"a":2}}}"#, "repeated_key"),
            (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, "invalid_request"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#, "invalid_request"),
            (r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, "invalid_request"),
            (r#"{"id":1,"method":"x"}"#, "invalid_request"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[]}"#, "invalid_params"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":1}}"#, "invalid_params"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, "invalid_request"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#, "invalid_request"),
        ] {
            assert_eq!(parsed(body).unwrap_err().reason, reason, "{body}");
        }
        let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":{}1{}}}}}"#, "[".repeat(65), "]".repeat(65));
        assert_eq!(parsed(&deep).unwrap_err().reason, "too_deep");
    }

    #[test]
    fn arguments_keep_their_exact_text() {
        let Message::Request(request) =
            parsed(r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"t","arguments":{"b": 1.0,  "a":1e2}}}"#).unwrap()
        else {
            panic!("not a request")
        };
        assert_eq!(request.arguments.unwrap().text().get(), r#"{"b": 1.0,  "a":1e2}"#);
    }

    #[test]
    fn a_modern_request_agrees_with_its_headers_or_is_refused() {
        let call = |name: &str| {
            parsed(&format!(
                r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":{},"_meta":{{"{META_VERSION}":"{MODERN}","{META_CAPABILITIES}":{{}}}}}}}}"#,
                Value::from(name)
            ))
            .unwrap()
        };
        let version = ("mcp-protocol-version", MODERN);
        let method = ("mcp-method", "tools/call");
        for (headers, name, answer) in [
            (headers(&[version, method, ("mcp-name", "t")]), "t", Ok(Era::Modern)),
            (headers(&[version, method, ("mcp-name", "=?base64?w6Q=?=")]), "ä", Ok(Era::Modern)),
            (headers(&[version, method, ("mcp-name", "  t ")]), "t", Ok(Era::Modern)),
            (headers(&[version, method, ("mcp-name", "=?base64?!?=")]), "t", Err(code::HEADER_MISMATCH)),
            (headers(&[version, method, ("mcp-name", "T")]), "t", Err(code::HEADER_MISMATCH)),
            (headers(&[version, method]), "t", Err(code::HEADER_MISMATCH)),
            (headers(&[version, method, ("mcp-name", "t"), ("mcp-name", "t")]), "t", Err(code::HEADER_MISMATCH)),
            (headers(&[version, ("mcp-method", "TOOLS/CALL"), ("mcp-name", "t")]), "t", Err(code::HEADER_MISMATCH)),
            (headers(&[method, ("mcp-name", "t")]), "t", Err(code::HEADER_MISMATCH)),
            (headers(&[version, version, method, ("mcp-name", "t")]), "t", Err(code::HEADER_MISMATCH)),
            (headers(&[("mcp-protocol-version", "2025-11-25"), method, ("mcp-name", "t")]), "t", Err(code::HEADER_MISMATCH)),
        ] {
            let era = era(&headers, &call(name)).map_err(|fault| (fault.code, fault.id));
            assert_eq!(era, answer.map_err(|code| (code, Some(Value::from(7)))), "{headers:?}");
        }
    }

    #[test]
    fn the_revision_is_told_from_header_and_body() {
        let request =
            |meta: Value| parsed(&json!({"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":meta}}).to_string()).unwrap();
        let modern = json!({META_VERSION: MODERN, META_CAPABILITIES: {}});
        for (version, meta, answer) in [
            (None, json!({}), Ok(Era::Legacy("2025-03-26"))),
            (Some("2025-06-18"), json!({}), Ok(Era::Legacy("2025-06-18"))),
            (Some(MODERN), modern.clone(), Ok(Era::Modern)),
            (Some(MODERN), json!({}), Err(code::INVALID_PARAMS)),
            (Some(MODERN), json!({META_VERSION: MODERN}), Err(code::INVALID_PARAMS)),
            (Some(MODERN), json!({META_VERSION: MODERN, META_CAPABILITIES: 1}), Err(code::INVALID_PARAMS)),
            (Some(MODERN), json!({META_CAPABILITIES: {}}), Err(code::INVALID_PARAMS)),
            (Some("v999"), json!({META_VERSION: "v999", META_CAPABILITIES: {}}), Err(code::UNSUPPORTED_VERSION)),
            (Some("v999"), json!({}), Err(code::UNSUPPORTED_VERSION)),
            (Some(MODERN), json!({META_VERSION: "v999", META_CAPABILITIES: {}}), Err(code::HEADER_MISMATCH)),
            (None, modern, Err(code::HEADER_MISMATCH)),
        ] {
            let mut pairs = vec![("mcp-method", "tools/list")];
            pairs.extend(version.map(|version| ("mcp-protocol-version", version)));
            assert_eq!(era(&headers(&pairs), &request(meta.clone())).map_err(|fault| fault.code), answer, "{version:?} {meta}");
        }
    }

    #[test]
    fn mirrored_arguments_agree_or_are_refused() {
        let schema = json!({"type": "object", "properties": {
            "account": {"type": "string", "x-mcp-header": "Account"},
            "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "flag": {"type": "boolean", "x-mcp-header": "Flag"},
        }});
        for (pairs, arguments, agrees) in [
            (vec![("mcp-param-account", "A")], json!({"account": "A"}), true),
            (vec![("mcp-param-account", "=?base64?QQ==?=")], json!({"account": "A"}), true),
            (vec![("mcp-param-account", "a")], json!({"account": "A"}), false),
            (vec![("mcp-param-account", "A")], json!({}), false),
            (vec![("mcp-param-account", "A")], json!({"account": null}), false),
            (vec![], json!({"account": "A"}), false),
            (vec![], json!({"account": null}), true),
            (vec![("mcp-param-n", "042")], json!({"deep": {"n": 42}}), true),
            (vec![("mcp-param-n", "43")], json!({"deep": {"n": 42}}), false),
            (vec![], json!({"deep": {"n": 42}}), false),
            (vec![("mcp-param-flag", "true")], json!({"flag": true}), true),
            (vec![("mcp-param-flag", "TRUE")], json!({"flag": true}), false),
            (vec![("mcp-param-other", "x")], json!({}), true),
        ] {
            assert_eq!(mirrored_arguments(&headers(&pairs), &schema, &arguments).is_ok(), agrees, "{pairs:?} {arguments}");
        }
    }

    #[test]
    fn both_forms_of_an_answer_have_to_be_acceptable() {
        for (accept, both) in [
            ("application/json, text/event-stream", true),
            ("*/*", true),
            ("application/*;q=0.5, text/*", true),
            ("application/json", false),
            ("text/event-stream", false),
            ("", false),
        ] {
            let headers = headers(&[("content-type", "application/json; charset=utf-8"), ("accept", accept)]);
            assert_eq!(media(&headers).is_ok(), both, "{accept}");
        }
        for (content_type, coding, taken) in [
            ("application/json", "identity", true),
            ("Application/JSON; charset=\"UTF-8\"", "identity", true),
            ("application/json", "gzip", false),
            ("application/json", "deflate, gzip", false),
            ("application/json; charset=utf-16", "identity", false),
            ("text/plain", "identity", false),
        ] {
            let headers = headers(&[("content-type", content_type), ("content-encoding", coding), ("accept", "*/*")]);
            assert_eq!(media(&headers).is_ok(), taken, "{content_type} {coding}");
        }
    }

    proptest! {
        #[test]
        fn no_body_and_no_header_panics(body: Vec<u8>, version in ".{0,12}", name in ".{0,12}") {
            if let Ok(message) = message(&body, &json::Limits::default()) {
                let mut headers = HeaderMap::new();
                if let (Ok(version), Ok(name)) = (HeaderValue::from_str(&version), HeaderValue::from_str(&name)) {
                    headers.insert("mcp-protocol-version", version);
                    headers.insert("mcp-name", name);
                }
                let _ = era(&headers, &message);
            }
        }

        /// Whatever name a call has, the request is taken exactly when the header says the same name.
        #[test]
        fn a_call_is_taken_exactly_when_header_and_body_name_the_same_tool(body in "\\PC{1,20}", header in "\\PC{1,20}", same: bool) {
            let header = if same { body.clone() } else { header };
            let text = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
                {"name": body, "_meta": {META_VERSION: MODERN, META_CAPABILITIES: {}}}}).to_string();
            let sent = format!("=?base64?{}?=", STANDARD.encode(&header));
            let headers = headers(&[("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", &sent)]);
            prop_assert_eq!(era(&headers, &parsed(&text).unwrap()).is_ok(), header == body);
        }
    }
}
