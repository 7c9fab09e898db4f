//! The demo's A2A client (1.0 over JSON-RPC), by which one agent has another one act. It knows nothing of Bailiwick: it is told where the
//! other agent is, and reads the rest from its card.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Uri};
use http_body_util::Full;
use miette::{IntoDiagnostic, miette};
use serde_json::{Value, json};

use super::agent::Answer;
use crate::sidecar::client::{Http, document};

/// Another agent, as its card describes it.
#[derive(Debug)]
pub(super) struct Peer {
    http: Http,
    /// Where it takes messages.
    url: Uri,
    next_id: u64,
}

impl Peer {
    /// The agent whose card stands below `base`.
    pub(super) async fn at(base: &str) -> miette::Result<Self> {
        let http = Http::new(None).into_diagnostic()?;
        let card = http.document(&format!("{base}/.well-known/agent-card.json").parse().into_diagnostic()?).await.into_diagnostic()?;
        let interfaces = card.get("supportedInterfaces").and_then(Value::as_array).into_iter().flatten();
        let text = |interface: &Value, member: &str| interface.get(member).and_then(Value::as_str).map(str::to_owned);
        let mut spoken = interfaces
            .filter(|one| text(one, "protocolBinding").as_deref() == Some("JSONRPC"))
            .filter(|one| text(one, "protocolVersion").as_deref() == Some("1.0"));
        let url = spoken.next().and_then(|one| text(one, "url")).ok_or_else(|| miette!("the agent at {base} does not speak A2A 1.0"))?;
        Ok(Self { http, url: url.parse().into_diagnostic()?, next_id: 0 })
    }

    /// Sends a message and waits for what the agent says; with `at_once`, only until it has begun.
    pub(super) async fn send(&mut self, text: &str, at_once: bool) -> miette::Result<Answer> {
        self.next_id += 1;
        let message = json!({ "messageId": format!("m-{}", self.next_id), "role": "ROLE_USER", "parts": [{ "text": text }] });
        let params = json!({ "message": message, "configuration": { "returnImmediately": at_once } });
        let body = json!({ "jsonrpc": "2.0", "id": self.next_id, "method": "SendMessage", "params": params }).to_string();
        let request = Request::post(self.url.clone()).header(CONTENT_TYPE, "application/json").header("a2a-version", "1.0");
        let response = self.http.send(request.body(Full::new(Bytes::from(body))).into_diagnostic()?).await.into_diagnostic()?;
        let answer = document(response).await.ok_or_else(|| miette!("the agent's answer is not JSON"))?;
        let data = answer.get("result").cloned().unwrap_or_default();
        Ok(match answer.get("error") {
            // What is refused says why in the error's details.
            Some(error) => Answer { failed: true, text: error.to_string(), data },
            None => Answer { failed: false, text: said(&data), data },
        })
    }
}

/// What an agent says in its answer to a message, in words.
fn said(result: &Value) -> String {
    let parts = result.pointer("/message/parts").and_then(Value::as_array).into_iter().flatten();
    parts.filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join("\n")
}
