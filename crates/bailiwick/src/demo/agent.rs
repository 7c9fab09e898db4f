//! The demo's agent: a small MCP client (revision 2026-07-28) that knows nothing of Bailiwick and holds no credential.

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use miette::{IntoDiagnostic, miette};
use serde_json::{Value, json};

use crate::sidecar::client::Http;

const VERSION: &str = "2026-07-28";
const REPLY_BYTES_MAX: usize = 8 << 20;

/// The client, connected to an address.
#[derive(Debug)]
pub(super) struct Agent {
    http: Http,
    address: String,
    next_id: u64,
}

/// What a tool answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Whether the tool, or what stands before it, says that it failed.
    pub(super) failed: bool,
    /// The text of it.
    pub(super) text: String,
    /// The data of it.
    pub(super) data: Value,
}

impl Agent {
    pub(super) fn new(address: String) -> miette::Result<Self> {
        Ok(Self { http: Http::new(None).into_diagnostic()?, address, next_id: 0 })
    }

    /// The names of the tools that are offered.
    pub(super) async fn tools(&mut self) -> miette::Result<Vec<String>> {
        let result = self.ask("tools/list", json!({}), None).await?.map_err(|error| miette!("tools/list failed: {error}"))?;
        let tools = result.get("tools").and_then(Value::as_array).ok_or_else(|| miette!("tools/list gave no tools"))?;
        Ok(tools.iter().filter_map(|tool| tool.get("name")?.as_str().map(str::to_owned)).collect())
    }

    /// Calls a tool.
    pub(super) async fn call(&mut self, tool: &str, arguments: &Value) -> miette::Result<Answer> {
        let answered = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }), Some(tool)).await?;
        Ok(match answered {
            Ok(result) => Answer {
                failed: result.get("isError").and_then(Value::as_bool).unwrap_or(false),
                text: result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default().to_owned(),
                data: result.get("structuredContent").cloned().unwrap_or_default(),
            },
            Err(error) => Answer { failed: true, text: error, data: Value::Null },
        })
    }

    /// Sends one request and reads its answer, which may come as one document or at the end of a stream.
    async fn ask(&mut self, method: &str, mut params: Value, name: Option<&str>) -> miette::Result<Result<Value, String>> {
        self.next_id += 1;
        if let Value::Object(params) = &mut params {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": VERSION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "support-summarizer", "version": "1.0" },
            });
            params.insert("_meta".to_owned(), meta);
        }
        let body = json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params }).to_string();
        let mut request = Request::post(&self.address)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", VERSION)
            .header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
        let response = self.http.send(request.body(Full::new(Bytes::from(body))).into_diagnostic()?).await.into_diagnostic()?;
        let status = response.status();
        let body = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| miette!("the answer broke off: {error}"))?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let documents = if text.trim_start().starts_with('{') {
            vec![&*text]
        } else {
            text.lines().filter_map(|line| line.strip_prefix("data:")).collect()
        };
        let answer = documents.into_iter().filter_map(|document| serde_json::from_str::<Value>(document).ok()).find(|message| {
            message.get("id").and_then(Value::as_u64) == Some(self.next_id) || message.get("id").is_none() && !status.is_success()
        });
        let Some(mut answer) = answer else { return Ok(Err(format!("{status}: {}", text.trim()))) };
        let said = answer.pointer("/error/message").or_else(|| answer.get("error_description")).and_then(Value::as_str);
        if let Some(said) = said {
            return Ok(Err(said.to_owned()));
        }
        Ok(answer.get_mut("result").map(Value::take).ok_or_else(|| format!("{status}: {}", text.trim())))
    }
}
