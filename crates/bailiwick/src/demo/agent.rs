//! The demo's MCP client (revision 2026-07-28), by which its agents use tools. It knows nothing of Bailiwick and holds no credential: it is
//! told an address, or which programs to start, as any client is by its configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use miette::{IntoDiagnostic, miette};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::sidecar::client::Http;

const VERSION: &str = "2026-07-28";
/// The method that opens a stream of changes.
const LISTEN: &str = "subscriptions/listen";
const REPLY_BYTES_MAX: usize = 8 << 20;

/// The client, connected.
#[derive(Debug)]
pub(super) struct Agent {
    way: Way,
    next_id: u64,
}

/// How tools are reached.
#[derive(Debug)]
enum Way {
    /// At an address, which is that of a sidecar.
    Http(Box<Http>, String),
    /// By programs that were started for it, as is usual where nothing stands between.
    Programs(BTreeMap<&'static str, Program>),
}

/// A tool server that speaks over its standard input and output.
#[derive(Debug)]
struct Program {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Ends when it is dropped.
    _process: Child,
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
    /// Reaches all tools at this address.
    pub(super) fn at(address: String) -> miette::Result<Self> {
        Ok(Self { way: Way::Http(Box::new(Http::new(None).into_diagnostic()?), address), next_id: 0 })
    }

    /// Starts the demo's `servers` for itself, on the data in this directory.
    pub(super) fn starting(servers: &[&'static str], data: &Path) -> miette::Result<Self> {
        let program = std::env::current_exe().into_diagnostic()?;
        let start = |server: &'static str| {
            let mut command = Command::new(&program);
            command.args(["demo-server", server, "--data"]).arg(data).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut process = command.spawn().into_diagnostic()?;
            let pipes = process.stdin.take().zip(process.stdout.take());
            let (input, output) = pipes.ok_or_else(|| miette!("`{server}` has no standard input and output"))?;
            Ok((server, Program { input, output: BufReader::new(output).lines(), _process: process }))
        };
        Ok(Self { way: Way::Programs(servers.iter().map(|server| start(server)).collect::<miette::Result<_>>()?), next_id: 0 })
    }

    /// The names of the tools that are offered.
    pub(super) async fn tools(&mut self) -> miette::Result<Vec<String>> {
        let result = self.ask("tools/list", Map::new(), None).await?.map_err(|error| miette!("tools/list failed: {error}"))?;
        let tools = result.get("tools").and_then(Value::as_array).ok_or_else(|| miette!("tools/list gave no tools"))?;
        Ok(tools.iter().filter_map(|tool| tool.get("name")?.as_str().map(str::to_owned)).collect())
    }

    /// Calls a tool, by its name as clients of a gateway see it: `server__tool`.
    pub(super) async fn call(&mut self, tool: &str, arguments: &Value) -> miette::Result<Answer> {
        let params = Map::from_iter([("name".to_owned(), tool.into()), ("arguments".to_owned(), arguments.clone())]);
        let answered = self.ask("tools/call", params, Some(tool)).await?;
        Ok(match answered {
            Ok(result) => Answer {
                failed: result.get("isError").and_then(Value::as_bool).unwrap_or(false),
                text: result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default().to_owned(),
                data: result.get("structuredContent").cloned().unwrap_or_default(),
            },
            Err(error) => Answer { failed: true, text: error, data: Value::Null },
        })
    }

    /// Opens a stream of changes, as clients do, and waits until it has begun. What is given resolves once it has ended.
    pub(super) async fn listen(&self) -> miette::Result<impl Future<Output = ()> + Send + 'static> {
        let Way::Http(http, address) = &self.way else { return Err(miette!("only over HTTP")) };
        let params = json!({ "notifications": { "toolsListChanged": true }, "_meta": meta() });
        let message = json!({ "jsonrpc": "2.0", "id": "changes", "method": LISTEN, "params": params });
        let mut response = http.send(request(address, LISTEN, None, &message)?).await.into_diagnostic()?;
        let begun = response.body_mut().frame().await;
        if !response.status().is_success() || !matches!(begun, Some(Ok(_))) {
            return Err(miette!("the stream of changes did not begin: {}", response.status()));
        }
        let mut body = response.into_body();
        Ok(async move { while let Some(Ok(_)) = body.frame().await {} })
    }

    /// Makes one request, about the tool of this `name` if it is about one.
    async fn ask(&mut self, method: &str, mut params: Map<String, Value>, name: Option<&str>) -> miette::Result<Result<Value, String>> {
        self.next_id += 1;
        params.insert("_meta".to_owned(), meta());
        match &mut self.way {
            Way::Http(http, address) => {
                let request = json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params });
                post(http, address, method, name, &request).await
            }
            Way::Programs(programs) => {
                let (server, tool) = name.and_then(|name| name.split_once("__")).unwrap_or_default();
                params.insert("name".to_owned(), tool.into());
                let request = json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params });
                let program = programs.get_mut(server).ok_or_else(|| miette!("there is no program for `{server}`"))?;
                program.exchange(&request).await
            }
        }
    }
}

impl Program {
    /// Sends one request and reads until its answer comes.
    async fn exchange(&mut self, request: &Value) -> miette::Result<Result<Value, String>> {
        self.input.write_all(format!("{request}\n").as_bytes()).await.into_diagnostic()?;
        while let Some(line) = self.output.next_line().await.into_diagnostic()? {
            if let Ok(message) = serde_json::from_str::<Value>(&line)
                && message.get("id") == request.get("id")
            {
                return Ok(result(message));
            }
        }
        Err(miette!("a tool server ended"))
    }
}

/// What each request carries of the client.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "demo-agent", "version": "1.0" },
    })
}

/// One message as a request over HTTP.
fn request(address: &str, method: &str, name: Option<&str>, message: &Value) -> miette::Result<Request<Full<Bytes>>> {
    let mut request = Request::post(address)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", VERSION)
        .header("mcp-method", method);
    if let Some(name) = name {
        request = request.header("mcp-name", name);
    }
    request.body(Full::new(Bytes::from(message.to_string()))).into_diagnostic()
}

/// Sends one request over HTTP and reads its answer, which may come as one document or at the end of a stream.
async fn post(http: &Http, address: &str, method: &str, name: Option<&str>, message: &Value) -> miette::Result<Result<Value, String>> {
    let response = http.send(request(address, method, name, message)?).await.into_diagnostic()?;
    let status = response.status();
    let body = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| miette!("the answer broke off: {error}"))?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    let documents = if text.trim_start().starts_with('{') {
        vec![&*text]
    } else {
        text.lines().filter_map(|line| line.strip_prefix("data:")).collect()
    };
    let answer = documents.into_iter().filter_map(|document| serde_json::from_str::<Value>(document).ok());
    let mut answer = answer.filter(|answer| answer.get("id") == message.get("id") || answer.get("id").is_none() && !status.is_success());
    Ok(answer.next().map_or_else(|| Err(format!("{status}: {}", text.trim())), result))
}

/// The result that a message holds, or what it says went wrong.
fn result(mut message: Value) -> Result<Value, String> {
    let said = message.pointer("/error/message").or_else(|| message.get("error_description")).and_then(Value::as_str);
    match said {
        Some(said) => Err(said.to_owned()),
        None => message.get_mut("result").map(Value::take).ok_or_else(|| message.to_string()),
    }
}
