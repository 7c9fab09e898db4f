//! From answers, refusals and faults to messages. Pure.
//!
//! One shape for what an agent may not know of: a call of a tool that does not exist, and one of a tool that the agent may
//! never use, are answered with the same words, by a result that says `isError`. The specification would have an error
//! -32602 for the first; but whoever answers the two differently tells agents what else there is, and models read a
//! result and mend their ways where client libraries throw an error away. Resources and prompts have no such result: both
//! cases are -32602 there.

use std::sync::Arc;

use bailiwick_core::model::Code;
use bailiwick_log::Position;
use bytes::Bytes;
use http::StatusCode;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::parse::{Era, Fault, META_SUBSCRIPTION, code};
use crate::{Answer, Busy, Refusal, ToolFault, UpstreamError};

/// The member of `_meta` in which a denial says what was decided.
pub const META_DECISION: &str = "dev.bailiwick/decision";

/// The member of `_meta`, or of an error's data, in which a failure says what it is.
const META_FAILURE: &str = "dev.bailiwick/failure";

/// JSON-RPC's code for a call that was denied where there is no result that could say so: outside the codes that JSON-RPC
/// and MCP keep for themselves.
const DENIED: i64 = 403;

/// JSON-RPC's code for a tool server that did not answer as it should.
const UPSTREAM: i64 = 502;

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The status, where it can still be chosen.
    pub status: StatusCode,
    /// The result, or the error object.
    pub body: Result<Told, Value>,
}

/// A result as a client is told it: as it stands, but for a few of its members. It may be large and is shared with who takes it
/// in, so it is never copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    result: Arc<Value>,
    /// Members that it has instead of those of these names; nothing for one that is left out.
    instead: Vec<(&'static str, Option<Value>)>,
}

impl Told {
    fn new(result: Arc<Value>) -> Self {
        Self { result, instead: Vec::new() }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let instead = self.instead.iter().find(|(other, _)| *other == name);
        instead.map_or_else(|| self.result.get(name), |(_, instead)| instead.as_ref())
    }

    fn put(&mut self, name: &'static str, member: Option<Value>) {
        self.instead.retain(|(other, _)| *other != name);
        self.instead.push((name, member));
    }
}

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(members) = self.result.as_object() else { return self.result.serialize(serializer) };
        let is_replaced = |name: &str| self.instead.iter().any(|(other, _)| *other == name);
        let instead = self.instead.iter().filter_map(|(name, member)| Some((*name, member.as_ref()?)));
        let kept = members.iter().filter(|(name, _)| !is_replaced(name)).map(|(name, member)| (name.as_str(), member));
        serializer.collect_map(kept.chain(instead))
    }
}

impl Settled {
    /// A result.
    pub fn result(result: Value) -> Self {
        Self { status: StatusCode::OK, body: Ok(Told::new(Arc::new(result))) }
    }

    /// The text of the message that answers the request with this id. The result is written as it stands and never copied
    /// into another value first: it may be large.
    pub fn message(&self, id: &Value) -> Bytes {
        #[derive(Serialize)]
        struct Message<'a> {
            jsonrpc: &'static str,
            id: &'a Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            result: Option<&'a Told>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a Value>,
        }
        let (result, error) = (self.body.as_ref().ok(), self.body.as_ref().err());
        text(&Message { jsonrpc: "2.0", id, result, error })
    }
}

impl From<Fault> for Settled {
    fn from(fault: Fault) -> Self {
        Self { status: fault.status, body: Err(error(fault.code, &fault.message, fault.data)) }
    }
}

/// The message that answers what could not be read, or was refused before it was a call.
pub fn fault(fault: Fault) -> (StatusCode, Value) {
    let mut message = json!({ "jsonrpc": "2.0", "error": error(fault.code, &fault.message, fault.data) });
    // An id that is not known is left out: MCP's schema has no `null` there.
    if let (Some(id), Some(object)) = (fault.id, message.as_object_mut()) {
        object.insert("id".to_owned(), id);
    }
    (fault.status, message)
}

/// A message as text.
pub fn text(message: &impl Serialize) -> Bytes {
    crate::front::text(message)
}

/// A message's text as an event of a stream. JSON text holds no line break of its own.
pub fn event(message: &[u8]) -> Bytes {
    [b"event: message\ndata: ", message, b"\n\n"].concat().into()
}

fn error(code: i64, message: &str, data: Option<Value>) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(data), Some(object)) = (data, error.as_object_mut()) {
        object.insert("data".to_owned(), data);
    }
    error
}

/// Answers with what a tool server answered.
pub fn answered(answer: Answer, method: &str, era: Era) -> Settled {
    match answer.body {
        Ok(result) if result.is_object() => {
            let mut told = Told::new(result);
            match era {
                Era::Modern => modern(&mut told, method),
                Era::Legacy(_) => legacy(&mut told),
            }
            Settled { status: StatusCode::OK, body: Ok(told) }
        }
        Ok(_) => failed("tool_invalid_answer", "The tool's server answered with something that is not the protocol.", None, method),
        Err(fault) => faulted(fault, method, era),
    }
}

/// A tool server's error, passed on in the codes of the client's revision.
fn faulted(fault: ToolFault, method: &str, era: Era) -> Settled {
    let ToolFault { code, message, data } = fault;
    let (code, status) = match (era, code) {
        // Codes that this revision no longer has.
        (Era::Modern, code::UNKNOWN_RESOURCE) if method.starts_with("resources/") => (code::INVALID_PARAMS, StatusCode::OK),
        (Era::Modern, code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION) => (code, StatusCode::BAD_REQUEST),
        (Era::Modern, code::UNKNOWN_METHOD) => (code, StatusCode::NOT_FOUND),
        // Codes that this revision does not have yet.
        (Era::Legacy(_), code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION) => {
            (code::INVALID_REQUEST, StatusCode::OK)
        }
        (_, code) => (code, StatusCode::OK),
    };
    Settled { status, body: Err(error(code, &message, data)) }
}

fn modern(told: &mut Told, method: &str) {
    if told.get("resultType").is_none() {
        told.put("resultType", Some("complete".into()));
    }
    if method == "resources/read" && told.get("resultType").and_then(Value::as_str) == Some("complete") {
        // What one caller may read another may not, whatever the server thinks of its own callers.
        told.put("cacheScope", Some("private".into()));
        if told.get("ttlMs").is_none() {
            told.put("ttlMs", Some(0.into()));
        }
    }
}

/// Takes away what the legacy revisions do not have.
fn legacy(told: &mut Told) {
    for member in ["resultType", "ttlMs", "cacheScope"] {
        told.put(member, None);
    }
    if let Some(Value::Object(meta)) = told.get("_meta") {
        let kept = meta.iter().filter(|(key, _)| !key.starts_with("io.modelcontextprotocol/"));
        let kept: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        told.put("_meta", (!kept.is_empty()).then_some(Value::Object(kept)));
    }
    if told.get("structuredContent").is_some_and(|content| !content.is_object()) {
        told.put("structuredContent", None);
    }
}

/// A definition of a tool for a legacy client, whose output schemas are of objects only.
pub fn legacy_tool(tool: &mut Map<String, Value>) {
    if tool.get("outputSchema").is_some_and(|schema| schema.get("type").and_then(Value::as_str) != Some("object")) {
        tool.remove("outputSchema");
    }
}

/// A result of our own in the client's revision: `list` for what may be kept for a while, by this client only.
pub fn own(mut result: Map<String, Value>, era: Era, list: bool) -> Settled {
    if era == Era::Modern {
        result.insert("resultType".to_owned(), "complete".into());
        if list {
            result.insert("ttlMs".to_owned(), LIST_TTL_MS.into());
            result.insert("cacheScope".to_owned(), "private".into());
        }
    }
    Settled::result(Value::Object(result))
}

/// How long a client may keep a list: as long as it may take until a changed permission shows.
const LIST_TTL_MS: u64 = 10_000;

/// Answers a call that did not go through. `unknown` says that the agent may not know of the tool.
pub fn refused(refusal: &Refusal, unknown: bool, method: &str, era: Era) -> Settled {
    match refusal {
        Refusal::Denied { intent, .. } if unknown => decided("deny", Code::UnknownTool, *intent, method, era),
        Refusal::Denied { code, intent } => decided("deny", *code, *intent, method, era),
        Refusal::Asked { code, intent, .. } => decided("ask", *code, *intent, method, era),
        Refusal::Ended { code, intent } => decided("deny", *code, *intent, method, era),
        Refusal::Upstream { error: UpstreamError::Changed, intent } => decided("deny", Code::ToolChanged, *intent, method, era),
        Refusal::Upstream { error, intent } => {
            let (code, sentence) = upstream(error);
            failed(code, sentence, Some(*intent), method)
        }
        Refusal::Gone { intent } => failed("cancelled", "The call was cancelled.", Some(*intent), method),
        Refusal::GivenUp { intent } => failed(
            "given_up",
            "The gateway was taken for dead while the call was under way; nobody knows whether the call took effect.",
            Some(*intent),
            method,
        ),
        Refusal::Busy(what) => busy(*what),
        // Until an operator acts, no call here will fare better: whoever spreads calls over several gateways has to see that.
        Refusal::NotRecorded(_) => Settled {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..failed(
                "not_recorded",
                "The gateway could not record the call, so there is no answer. Tell the operator, and do not retry it.",
                None,
                method,
            )
        },
        Refusal::Crashed => failed("gateway_failed", "The gateway failed; nobody knows whether the call took effect.", None, method),
    }
}

/// A request that was refused because of too much else. Said by the status of the answer too, in either era: what stands
/// between a client and us understands that, and a client's library waits instead of the model.
pub fn busy(busy: Busy) -> Settled {
    let text = format!("{}: {}", busy.code(), busy.sentence());
    let data = json!({ META_FAILURE: { "code": busy.code(), "retryAfter": Busy::RETRY_AFTER_S } });
    Settled { status: busy.status(), body: Err(error(i64::from(busy.status().as_u16()), &text, Some(data))) }
}

/// A denial of a tool that cannot even be named, so that no call could be made of it.
pub fn unknown(record: Position, method: &str, era: Era) -> Settled {
    decided("deny", Code::UnknownTool, record, method, era)
}

/// The answer to a call that a person was asked about, of a client that cannot open a page by itself: where that is, and what
/// programs find of it (AuthZEN Access Request and Approval).
pub fn asked(asked: &Asked<'_>, method: &str, era: Era) -> Settled {
    let Asked { code, record, context, page } = asked;
    let mut text = format!("{}: {} (record {record})", code.as_str(), code.sentence());
    if let Some(page) = page {
        text.push_str(&format!(" It can be answered at {page}"));
    }
    let decision = json!({ "verdict": "ask", "code": code.as_str(), "record": record, "context": context });
    settled_by(*code, &text, decision, method, era)
}

/// A call that a person was asked about.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Why.
    pub code: Code,
    /// The record of the decision.
    pub record: Position,
    /// What programs find of it.
    pub context: Value,
    /// Where it can be answered.
    pub page: Option<&'a str>,
}

fn decided(verdict: &str, code: Code, record: Position, method: &str, era: Era) -> Settled {
    let text = format!("{}: {} (record {record})", code.as_str(), code.sentence());
    settled_by(code, &text, json!({ "verdict": verdict, "code": code.as_str(), "record": record }), method, era)
}

fn settled_by(code: Code, text: &str, decision: Value, method: &str, era: Era) -> Settled {
    if method == "tools/call" {
        return errored(text, &json!({ META_DECISION: decision }));
    }
    let number = match (code, method, era) {
        (Code::UnknownTool, "resources/read" | "resources/subscribe", Era::Legacy(_)) => code::UNKNOWN_RESOURCE,
        (Code::UnknownTool, ..) => code::INVALID_PARAMS,
        _ => DENIED,
    };
    Settled { status: StatusCode::OK, body: Err(error(number, text, Some(json!({ META_DECISION: decision })))) }
}

/// What the agent hears of a tool server that did not answer as it should; the operator finds more in the outcome.
const fn upstream(error: &UpstreamError) -> (&'static str, &'static str) {
    match error {
        UpstreamError::Unreachable(_) => {
            ("tool_unreachable", "The tool's server could not be reached; the call was not made. It may be tried again later.")
        }
        UpstreamError::NoCredential(_) | UpstreamError::Refused(_) => {
            ("tool_unavailable", "The tool's server did not let the gateway in; the call was not made. Tell the operator.")
        }
        UpstreamError::Lost(_) => (
            "tool_lost",
            "The tool's server was lost before it answered; nobody knows whether the call took effect. Look before you repeat it.",
        ),
        UpstreamError::TimedOut => (
            "tool_timed_out",
            "The tool's server did not answer in time; nobody knows whether the call took effect. Look before you repeat it.",
        ),
        UpstreamError::Garbage(_) => (
            "tool_invalid_answer",
            "The tool's server answered with something that is not the protocol; nobody knows whether the call took effect.",
        ),
        UpstreamError::TooLarge(_) => {
            ("tool_answer_too_large", "The tool's answer is larger than is accepted. Ask for less; the call may have taken effect.")
        }
        UpstreamError::Unsupported(_) => ("tool_unsupported", "The tool's server cannot do this."),
        UpstreamError::Changed => ("tool_changed", Code::ToolChanged.sentence()),
    }
}

/// A call that was not denied and yet has no answer.
pub fn failed(reason: &str, sentence: &str, record: Option<Position>, method: &str) -> Settled {
    let mut failure = json!({ "code": reason });
    let mut text = format!("{reason}: {sentence}");
    if let Some(record) = record {
        text.push_str(&format!(" (record {record})"));
        failure = json!({ "code": reason, "record": record });
    }
    let meta = json!({ META_FAILURE: failure });
    if method == "tools/call" {
        return errored(&text, &meta);
    }
    Settled { status: StatusCode::OK, body: Err(error(UPSTREAM, &text, Some(meta))) }
}

fn errored(text: &str, meta: &Value) -> Settled {
    Settled::result(json!({
        "content": [{ "type": "text", "text": text }],
        "isError": true,
        "resultType": "complete",
        "_meta": meta,
    }))
}

/// A notification on a subscription of 2026-07-28.
pub fn subscribed(method: &str, mut params: Map<String, Value>, subscription: &Value) -> Value {
    params.insert("_meta".to_owned(), json!({ META_SUBSCRIPTION: subscription }));
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// The same result without what only 2026-07-28 has, for results of our own.
#[must_use]
pub fn in_era(settled: Settled, era: Era) -> Settled {
    match (settled.body, era) {
        (Ok(mut told), Era::Legacy(_)) => {
            legacy(&mut told);
            Settled { status: settled.status, body: Ok(told) }
        }
        (Err(error), Era::Legacy(_)) if !is_busy(settled.status) => Settled { status: StatusCode::OK, body: Err(error) },
        (body, _) => Settled { status: settled.status, body },
    }
}

/// Whether a message says that the same request may be made again later, as it is: what is not recorded may not.
pub fn may_be_repeated(message: &Value) -> bool {
    let failure = message.get("error").and_then(|error| error.get("data")).and_then(|data| data.get(META_FAILURE));
    failure.is_some_and(|failure| failure.get("retryAfter").is_some())
}

/// Whether this status is one of those that say that there is too much.
pub fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}
