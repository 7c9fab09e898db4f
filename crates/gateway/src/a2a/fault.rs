//! Errors as A2A defines them, in both bindings (1.0 §5.4, §9.5, §11.6). Pure.

use bailiwick_core::json::InvalidJson;
use bailiwick_core::model::Code;
use bailiwick_log::Position;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::shape::Misshapen;
use crate::front::Unfit;
use crate::{Busy, Refusal, ToolFault, UpstreamError};

/// The domain of A2A's own reasons.
const DOMAIN: &str = "a2a-protocol.org";

/// The domain of ours.
const OURS: &str = "dev.bailiwick";

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// How one kind of error is told in each binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// JSON-RPC's code.
    pub(super) code: i64,
    /// The status of an HTTP answer.
    pub(super) status: u16,
    /// The name of that status in `google.rpc.Code`.
    name: &'static str,
    /// The reason in `ErrorInfo`.
    pub(super) reason: &'static str,
}

const fn told(code: i64, status: u16, name: &'static str, reason: &'static str) -> Told {
    Told { code, status, name, reason }
}

pub(super) const PARSE: Told = told(-32700, 400, "INVALID_ARGUMENT", "PARSE_ERROR");
pub(super) const INVALID_REQUEST: Told = told(-32600, 400, "INVALID_ARGUMENT", "INVALID_REQUEST");
pub(super) const UNKNOWN_METHOD: Told = told(-32601, 404, "NOT_FOUND", "METHOD_NOT_FOUND");
pub(super) const INVALID_PARAMS: Told = told(-32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS");
pub(super) const INTERNAL: Told = told(-32603, 500, "INTERNAL", "INTERNAL_ERROR");
pub(super) const TASK_NOT_FOUND: Told = told(-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND");
pub(super) const TASK_NOT_CANCELABLE: Told = told(-32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE");
pub(super) const PUSH_NOT_SUPPORTED: Told = told(-32003, 400, "FAILED_PRECONDITION", "PUSH_NOTIFICATION_NOT_SUPPORTED");
pub(super) const UNSUPPORTED: Told = told(-32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION");
pub(super) const CONTENT_TYPE: Told = told(-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED");
pub(super) const INVALID_AGENT_RESPONSE: Told = told(-32006, 500, "INTERNAL", "INVALID_AGENT_RESPONSE");
pub(super) const NO_EXTENDED_CARD: Told = told(-32007, 400, "FAILED_PRECONDITION", "EXTENDED_AGENT_CARD_NOT_CONFIGURED");
pub(super) const EXTENSION_REQUIRED: Told = told(-32008, 400, "FAILED_PRECONDITION", "EXTENSION_SUPPORT_REQUIRED");
pub(super) const VERSION_NOT_SUPPORTED: Told = told(-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED");

/// A denial. A2A has no code of its own for it on JSON-RPC; this is outside of those that JSON-RPC and A2A keep for themselves.
const DENIED: Told = told(403, 403, "PERMISSION_DENIED", "DENIED");
const NOT_ANSWERED: Told = told(502, 502, "UNAVAILABLE", "AGENT_FAILED");

/// All that A2A and JSON-RPC define.
const DEFINED: [Told; 14] = [
    PARSE,
    INVALID_REQUEST,
    UNKNOWN_METHOD,
    INVALID_PARAMS,
    INTERNAL,
    TASK_NOT_FOUND,
    TASK_NOT_CANCELABLE,
    PUSH_NOT_SUPPORTED,
    UNSUPPORTED,
    CONTENT_TYPE,
    INVALID_AGENT_RESPONSE,
    NO_EXTENDED_CARD,
    EXTENSION_REQUIRED,
    VERSION_NOT_SUPPORTED,
];

/// The code of an error that is told by this reason, where A2A defines it.
pub(super) fn code_of(reason: &str) -> Option<i64> {
    DEFINED.iter().find(|told| told.reason == reason).map(|told| told.code)
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    told: Told,
    /// What is wrong, for whoever reads.
    pub(super) message: String,
    /// The code that the log keeps, where it was refused before it was a call.
    pub(super) logged: &'static str,
    /// The details, each an object with its `@type`.
    details: Vec<Value>,
    /// After how many seconds the same may be tried again.
    pub(super) retry_after_s: Option<u64>,
}

impl Fault {
    /// An error that A2A or JSON-RPC defines.
    pub(super) fn new(told: Told, message: impl Into<String>) -> Self {
        Self::with(told, message, Map::new())
    }

    /// The same with more to say.
    pub(super) fn with(told: Told, message: impl Into<String>, metadata: Map<String, Value>) -> Self {
        let mut info = json!({ "@type": ERROR_INFO, "reason": told.reason, "domain": DOMAIN });
        if let (Some(info), false) = (info.as_object_mut(), metadata.is_empty()) {
            info.insert("metadata".to_owned(), metadata.into());
        }
        Self { told, message: message.into(), logged: "invalid_request", details: vec![info], retry_after_s: None }
    }

    /// The same under another code in the log.
    #[must_use]
    pub(super) const fn logged(mut self, logged: &'static str) -> Self {
        self.logged = logged;
        self
    }

    /// The same with another HTTP status.
    #[must_use]
    pub(super) const fn status(mut self, status: u16) -> Self {
        self.told.status = status;
        self
    }

    /// An error of our own; `metadata` says what was decided, in texts.
    fn ours(told: Told, message: String, metadata: Value) -> Self {
        let info = json!({ "@type": ERROR_INFO, "reason": told.reason, "domain": OURS, "metadata": metadata });
        Self { told, message, logged: "refused", details: vec![info], retry_after_s: None }
    }

    /// What was refused because of too much else.
    pub(super) fn busy(busy: Busy) -> Self {
        let status = busy.status().as_u16();
        let name = if status == 429 { "RESOURCE_EXHAUSTED" } else { "UNAVAILABLE" };
        let told = told(i64::from(status), status, name, "BUSY");
        let message = format!("{}: {}", busy.code(), busy.sentence());
        Self { retry_after_s: Some(Busy::RETRY_AFTER_S), ..Self::ours(told, message, json!({ "code": busy.code() })) }
    }

    /// A decision that the call does not go ahead. `more` is said besides the sentence.
    pub(super) fn decided(verdict: &str, code: Code, record: Position, more: &str) -> Self {
        let message = format!("{}: {} (record {record}){more}", code.as_str(), code.sentence());
        Self::ours(DENIED, message, json!({ "verdict": verdict, "code": code.as_str(), "record": record.to_string() }))
    }

    /// A call that did not go through. `unknown` says that the agent may not know of the tool.
    pub(super) fn refused(refusal: &Refusal, unknown: bool) -> Self {
        match refusal {
            Refusal::Denied { intent, .. } if unknown => Self::decided("deny", Code::UnknownTool, *intent, ""),
            Refusal::Denied { code, intent } => Self::decided("deny", *code, *intent, ""),
            Refusal::Asked { code, intent, .. } => Self::decided("ask", *code, *intent, ""),
            Refusal::Ended { code, intent } => Self::decided("deny", *code, *intent, ""),
            Refusal::Upstream { error: UpstreamError::Changed, intent } => Self::decided("deny", Code::ToolChanged, *intent, ""),
            Refusal::Upstream { error: UpstreamError::Garbage(_) | UpstreamError::TooLarge(_), intent } => {
                let message = format!("the agent's answer is not the protocol, or too large (record {intent})");
                Self::new(INVALID_AGENT_RESPONSE, message)
            }
            Refusal::Upstream { error: UpstreamError::Unsupported(_), intent } => {
                Self::new(UNSUPPORTED, format!("the agent cannot do this (record {intent})"))
            }
            Refusal::Upstream { error, intent } => {
                let uncertain = if error.is_uncertain() {
                    "nobody knows whether it took the request; look before you repeat it"
                } else {
                    "the request was not made; it may be made again later"
                };
                let metadata = json!({ "code": "agent_failed", "record": intent.to_string() });
                Self::ours(NOT_ANSWERED, format!("the agent did not answer as it should: {uncertain} (record {intent})"), metadata)
            }
            Refusal::Gone { intent } | Refusal::GivenUp { intent } => {
                let metadata = json!({ "code": "cancelled", "record": intent.to_string() });
                Self::ours(NOT_ANSWERED, format!("the call was given up before its end (record {intent})"), metadata)
            }
            Refusal::Busy(busy) => Self::busy(*busy),
            Refusal::NotRecorded(_) | Refusal::Crashed => {
                let told = told(503, 503, "UNAVAILABLE", "NOT_RECORDED");
                let message = "the gateway could not record the call, so there is no answer; tell the operator, and do not retry it";
                Self::ours(told, message.to_owned(), json!({ "code": "not_recorded" }))
            }
        }
    }

    /// What the agent behind answered with, as far as A2A defines it.
    pub(super) fn of_agent(fault: ToolFault) -> Self {
        let told = DEFINED.iter().find(|told| told.code == fault.code).copied().unwrap_or(INTERNAL);
        let mut passed = Self::new(told, fault.message);
        if let Some(Value::Array(details)) = fault.data {
            let typed = |detail: &Value| detail.get("@type").is_some_and(Value::is_string);
            let details: Vec<Value> = details.into_iter().filter(typed).take(16).collect();
            if details.iter().any(|detail| detail.get("@type").and_then(Value::as_str) == Some(ERROR_INFO)) {
                passed.details = details;
            } else {
                passed.details.extend(details);
            }
        }
        passed
    }

    /// The status of an answer over HTTP+JSON.
    pub(super) fn http_status(&self) -> StatusCode {
        StatusCode::from_u16(self.told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// JSON-RPC's error object.
    pub(super) fn rpc(&self) -> Value {
        json!({ "code": self.told.code, "message": self.message, "data": self.details })
    }

    /// The body of an answer over HTTP+JSON (AIP-193).
    pub(super) fn http(&self) -> Value {
        let Told { status, name, .. } = self.told;
        json!({ "error": { "code": status, "status": name, "message": self.message, "details": self.details } })
    }
}

impl From<Misshapen> for Fault {
    fn from(misshapen: Misshapen) -> Self {
        let mut fault = Self::new(INVALID_PARAMS, misshapen.to_string()).logged("invalid_params");
        let violation = json!({ "field": misshapen.place, "description": misshapen.what });
        fault.details.push(json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation] }));
        fault
    }
}

impl From<InvalidJson> for Fault {
    fn from(error: InvalidJson) -> Self {
        let (told, status, logged) = match error {
            InvalidJson::TooLong(_) => (INVALID_REQUEST, 413, "too_large"),
            InvalidJson::TooDeep(_) => (INVALID_REQUEST, 400, "too_deep"),
            InvalidJson::RepeatedKey => (INVALID_REQUEST, 400, "repeated_key"),
            InvalidJson::InexactNumber => (INVALID_PARAMS, 400, "inexact_number"),
            InvalidJson::Syntax { .. } => (PARSE, 400, "invalid_json"),
            InvalidJson::NotAnObject => (INVALID_REQUEST, 400, "invalid_request"),
        };
        Self::new(told, error.to_string()).logged(logged).status(status)
    }
}

impl From<Unfit> for Fault {
    fn from(unfit: Unfit) -> Self {
        Self::new(INVALID_REQUEST, unfit.message).logged(unfit.reason).status(unfit.status.as_u16())
    }
}
