//! What the token service answers when it refuses: the standard's code for the caller, the reason for the operator.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bailiwick_core::model::{AgentName, ExecutionId};
use serde_json::json;

/// A refusal. A caller who has not proven who it is gets one text for each code, whatever was wrong.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The code (RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 8707 §2, RFC 9396 §5, RFC 9449 §5).
    pub(super) code: &'static str,
    /// A sentence for the caller.
    pub(super) description: String,
    /// What the operator should know; never a credential.
    pub(super) detail: String,
    /// The agent that the caller was, or said to be.
    pub(super) agent: Option<AgentName>,
    /// The execution, where it is known.
    pub(super) execution: Option<ExecutionId>,
}

impl Refusal {
    /// A refusal that tells the caller what it tells the operator.
    pub(super) fn new(code: &'static str, description: impl Into<String>) -> Self {
        let description = description.into();
        Self { code, detail: description.clone(), description, agent: None, execution: None }
    }

    /// The request itself is malformed.
    pub(super) fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    /// The caller did not prove who it is. What was wrong is for the operator only.
    pub(super) fn client(detail: impl Into<String>) -> Self {
        Self::hidden("invalid_client", "the client was not authenticated", detail)
    }

    /// A token that was handed in is not accepted. What was wrong with it is for the operator only.
    pub(super) fn hidden(code: &'static str, description: &'static str, detail: impl Into<String>) -> Self {
        Self { code, description: description.to_owned(), detail: detail.into(), agent: None, execution: None }
    }

    /// The service cannot answer now.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::hidden("temporarily_unavailable", "the service cannot answer now; try again later", detail)
    }

    /// The same, of this agent.
    pub(super) fn of(mut self, agent: &AgentName) -> Self {
        self.agent = Some(agent.clone());
        self
    }

    /// The same, about this execution.
    pub(super) fn about(mut self, execution: ExecutionId) -> Self {
        self.execution = Some(execution);
        self
    }

    /// Whether it belongs on the log. A call for a nonce is a step of the protocol and not a refusal.
    pub(super) fn is_recorded(&self) -> bool {
        self.code != "use_dpop_nonce"
    }

    /// The answer; `challenged` when the caller tried to authenticate by the `Authorization` header (RFC 6749 §5.2).
    pub(super) fn into_answer(self, challenged: bool) -> Response {
        let status = match self.code {
            "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            "invalid_client" if challenged => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = Json(json!({ "error": self.code, "error_description": printable(&self.description) }));
        let mut answer = (status, body).into_response();
        let headers = answer.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"use private_key_jwt\""));
        }
        uncached(answer)
    }
}

/// Marks an answer as one that nobody may keep (RFC 6749 §5.1).
pub(super) fn uncached(mut answer: Response) -> Response {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}

/// The text in the characters that `error_description` may have (RFC 6749 §5.2).
pub(super) fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '\'' }).collect()
}
