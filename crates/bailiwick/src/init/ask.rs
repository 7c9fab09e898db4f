//! Asking a tool server for its tools, once, before anything stands in front of it.
//!
//! The revision 2026-07-28 is tried first and the handshake of 2025-11-25 after it, as the gateway does: what is pinned
//! must be what the gateway will be offered, and a server of both eras may describe its tools differently in each.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bailiwick_core::json;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use serde_json::{Value, json as object};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::plan::Way;
use crate::authorities;

/// How long a program may take: its first start may have to fetch it.
const PROGRAM: Duration = Duration::from_secs(180);
/// How long a server at a URL may take.
const URL: Duration = Duration::from_secs(30);
/// How long a program of before 2026-07-28 may ignore a question that it does not know.
const UNKNOWN: Duration = Duration::from_secs(60);
/// How much a server may say.
const BYTES_MAX: usize = 16 << 20;
/// How many pages of tools it may have.
const PAGES_MAX: usize = 100;

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// The definitions of a server's tools. `bundle` is where the files are that its environment and headers name; a server at a URL is
/// believed by `roots`. Fails with a sentence for the person, which shows no secret.
pub(crate) async fn definitions(way: &Way, bundle: &Path, roots: &RootCertStore) -> Result<Vec<Value>, String> {
    let asked = async {
        let mut line = Line::open(way, bundle, roots)?;
        let listed = list(&mut line).await;
        line.close().await;
        listed
    };
    let patience = if matches!(way, Way::Url { .. }) { URL } else { PROGRAM };
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(format!("it did not answer within {} s", patience.as_secs())))
}

/// Finds the era that the server speaks, and asks.
async fn list(line: &mut Line) -> Result<Vec<Value>, String> {
    line.version = MODERN;
    let discovered = match line {
        Line { way: Wire::Program(_), .. } => tokio::time::timeout(UNKNOWN, line.ask("server/discover", object!({}))).await.ok(),
        Line { way: Wire::Url(_), .. } => Some(line.ask("server/discover", object!({})).await),
    };
    if discovered.is_none_or(|answer| answer.is_err()) {
        line.version = LEGACY;
        let client = object!({ "name": "bailiwick", "version": env!("CARGO_PKG_VERSION") });
        let hello = object!({ "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client });
        line.ask("initialize", hello).await?;
        line.tell("notifications/initialized").await?;
    }
    let mut definitions = Vec::new();
    let mut cursor = Value::Null;
    for _ in 0..PAGES_MAX {
        let params = if cursor.is_null() { object!({}) } else { object!({ "cursor": cursor }) };
        let mut page = line.ask("tools/list", params).await?;
        match page.get_mut("tools").map(Value::take) {
            Some(Value::Array(tools)) => definitions.extend(tools),
            _ => return Err("its answer holds no list of tools".to_owned()),
        }
        cursor = page.get_mut("nextCursor").map(Value::take).unwrap_or_default();
        if cursor.is_null() {
            return Ok(definitions);
        }
    }
    Err(format!("it has more than {PAGES_MAX} pages of tools"))
}

/// A line to one server.
struct Line {
    way: Wire,
    version: &'static str,
    id: u64,
}

enum Wire {
    Program(Program),
    Url(Remote),
}

struct Program {
    child: Child,
    input: ChildStdin,
    output: tokio::io::Take<BufReader<ChildStdout>>,
}

struct Remote {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
    secret: Option<(HeaderName, HeaderValue)>,
    session: Option<HeaderValue>,
}

impl Line {
    fn open(way: &Way, bundle: &Path, roots: &RootCertStore) -> Result<Self, String> {
        let way = match way {
            Way::Program { command, env, directory } => {
                let (program, arguments) = command.split_first().ok_or("it names no program")?;
                let mut started = Command::new(program);
                started.args(arguments).env_clear().current_dir(directory.as_ref().map_or(bundle, Path::new));
                // What the gateway passes on too.
                for name in ["PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"] {
                    started.envs(std::env::var_os(name).map(|value| (name, value)));
                }
                for (name, value) in env {
                    started.env(name, resolved(value, bundle)?);
                }
                started.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
                let mut child = started.spawn().map_err(|error| format!("`{program}` did not start: {error}"))?;
                let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                    return Err("it has no input".to_owned());
                };
                Wire::Program(Program { child, input, output: BufReader::new(output).take(BYTES_MAX as u64) })
            }
            Way::Url { url, header } => {
                let tls = authorities::client(roots.clone()).map_err(|error| error.to_string())?;
                let connector =
                    hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().build();
                let secret = header.as_ref().map(|header| -> Result<_, String> {
                    let value = header.prefix.clone() + &resolved(&format!("file:{}", header.file), bundle)?;
                    let name = HeaderName::try_from(&header.name).map_err(|_| format!("`{}` is no header", header.name))?;
                    let mut value =
                        HeaderValue::try_from(value).map_err(|_| format!("what `{}` holds is no header's value", header.file))?;
                    value.set_sensitive(true);
                    Ok((name, value))
                });
                let client = Client::builder(TokioExecutor::new()).build(connector);
                Wire::Url(Remote { client, url: url.clone(), secret: secret.transpose()?, session: None })
            }
        };
        Ok(Self { way, version: MODERN, id: 0 })
    }

    /// Asks, and returns the result.
    async fn ask(&mut self, method: &str, mut params: Value) -> Result<Value, String> {
        self.id = self.id.saturating_add(1);
        if let (MODERN, Some(params)) = (self.version, params.as_object_mut()) {
            let client = object!({ "name": "bailiwick", "version": env!("CARGO_PKG_VERSION") });
            params.insert(
                "_meta".to_owned(),
                object!({
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientInfo": client,
                    "io.modelcontextprotocol/clientCapabilities": {},
                }),
            );
        }
        let message = object!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params });
        let id = self.id;
        let answer = match &mut self.way {
            Wire::Program(program) => {
                program.write(&message).await?;
                program.answer(id).await?
            }
            Wire::Url(remote) => remote.post(&message, method, self.version, Some(id)).await?,
        };
        match answer {
            Value::Object(mut answer) if answer.contains_key("result") => Ok(answer.remove("result").unwrap_or_default()),
            answer => {
                let text = answer.pointer("/error/message").and_then(Value::as_str).unwrap_or("nothing that can be read");
                Err(format!("it answered to `{method}`: {}", text.chars().filter(|c| !c.is_control()).take(200).collect::<String>()))
            }
        }
    }

    async fn tell(&mut self, method: &str) -> Result<(), String> {
        let message = object!({ "jsonrpc": "2.0", "method": method });
        match &mut self.way {
            Wire::Program(program) => program.write(&message).await,
            Wire::Url(remote) => remote.post(&message, method, self.version, None).await.map(drop),
        }
    }

    /// Ends the program in the way that MCP asks for, or the session.
    async fn close(self) {
        match self.way {
            Wire::Program(Program { mut child, input, output }) => {
                drop((input, output));
                if tokio::time::timeout(Duration::from_secs(2), child.wait()).await.is_err() {
                    // What it is told then may fail only if it has gone already.
                    let _ = child.kill().await;
                }
            }
            Wire::Url(remote) => remote.leave().await,
        }
    }
}

/// A value, or what the file that it names holds.
fn resolved(value: &str, bundle: &Path) -> Result<String, String> {
    let Some(file) = value.strip_prefix("file:") else { return Ok(value.to_owned()) };
    let text = std::fs::read_to_string(bundle.join(file)).map_err(|error| format!("`{file}` cannot be read: {error}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl Program {
    async fn write(&mut self, message: &Value) -> Result<(), String> {
        let gone = |_| "it ended before it answered".to_owned();
        self.input.write_all(format!("{message}\n").as_bytes()).await.map_err(gone)?;
        self.input.flush().await.map_err(gone)
    }

    async fn answer(&mut self, id: u64) -> Result<Value, String> {
        let mut text = Vec::new();
        loop {
            text.clear();
            if self.output.read_until(b'\n', &mut text).await.unwrap_or(0) == 0 {
                return Err("it ended, or said too much, before it answered".to_owned());
            }
            let Some(message) = read(&text) else { continue };
            if is_answer(&message, id) {
                return Ok(message);
            }
            if let (Some(asked), Some(method)) = (message.get("id"), message.get("method")) {
                let answer = match method.as_str() {
                    Some("ping") => object!({ "jsonrpc": "2.0", "id": asked, "result": {} }),
                    _ => object!({ "jsonrpc": "2.0", "id": asked, "error": { "code": -32601, "message": "not offered" } }),
                };
                self.write(&answer).await?;
            }
        }
    }
}

impl Remote {
    fn headers(&self, method: &str, version: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if version == MODERN {
            headers.extend(HeaderValue::try_from(method).map(|method| (HeaderName::from_static("mcp-method"), method)));
        }
        if method != "initialize" {
            headers.insert("mcp-protocol-version", HeaderValue::from_static(version));
        }
        headers.extend(self.session.clone().map(|session| (HeaderName::from_static("mcp-session-id"), session)));
        headers.extend(self.secret.clone());
        headers
    }

    async fn post(&mut self, message: &Value, method: &str, version: &'static str, id: Option<u64>) -> Result<Value, String> {
        let mut request = Request::new(Full::new(Bytes::from(message.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.parse().map_err(|_| "its URL cannot be used".to_owned())?;
        *request.headers_mut() = self.headers(method, version);
        let response = self.client.request(request).await.map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("it cannot be reached: {source}"),
            None => format!("it cannot be reached: {error}"),
        })?;
        let status = response.status();
        if let Some(session) = response.headers().get("mcp-session-id").filter(|_| method == "initialize") {
            self.session = Some(session.clone());
        }
        let Some(id) = id else { return Ok(Value::Null) };
        let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let mut body = Limited::new(response.into_body(), BYTES_MAX);
        let mut text = Vec::new();
        // A stream may stay open after the answer, so it is looked at as it comes.
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| "its answer broke off or was too long".to_owned())?;
            text.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
            if let Some(answer) = is_stream.then(|| in_stream(&text, id)).flatten() {
                return Ok(answer);
            }
        }
        match read(&text) {
            Some(answer) if is_answer(&answer, id) => Ok(answer),
            _ if status == http::StatusCode::UNAUTHORIZED => Err("it wants a credential (401): say under `auth` which".to_owned()),
            _ => Err(format!("it answered to `{method}` with {status} and no message")),
        }
    }

    async fn leave(self) {
        if self.session.is_none() {
            return;
        }
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::DELETE;
        *request.headers_mut() = self.headers("", LEGACY);
        if let Ok(uri) = self.url.parse() {
            *request.uri_mut() = uri;
            // A server need not let sessions be ended.
            let _ = self.client.request(request).await;
        }
    }
}

/// The answer among the events of a stream so far (WHATWG HTML §9.2.6, as far as MCP uses it).
fn in_stream(text: &[u8], id: u64) -> Option<Value> {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n");
    text.split_inclusive("\n\n").filter(|event| event.ends_with("\n\n")).find_map(|event| {
        let data: Vec<&str> =
            event.lines().filter_map(|line| line.strip_prefix("data:")).map(|data| data.strip_prefix(' ').unwrap_or(data)).collect();
        read(data.join("\n").as_bytes()).filter(|message| is_answer(message, id))
    })
}

fn read(text: &[u8]) -> Option<Value> {
    json::parse(text, &json::Limits { bytes_max: BYTES_MAX, depth_max: 100 }).ok()
}

fn is_answer(message: &Value, id: u64) -> bool {
    message.get("method").is_none() && message.get("id").and_then(Value::as_u64) == Some(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A server in `sh`, which answers each line of its input by the next of these.
    async fn asked(answers: &[&str]) -> Result<Vec<Value>, String> {
        let script: String = answers.iter().map(|answer| format!("read -r line; echo '{answer}'; ")).collect();
        let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
        definitions(&Way::Program { command, env: BTreeMap::new(), directory: None }, Path::new("."), &RootCertStore::empty()).await
    }

    #[tokio::test]
    async fn a_server_of_the_present_era_is_asked_in_pages() {
        let found = asked(&[
            r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"]}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"a"}],"nextCursor":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"b"}]}}"#,
        ])
        .await;
        assert_eq!(found, Ok(vec![object!({ "name": "a" }), object!({ "name": "b" })]));
    }

    #[tokio::test]
    async fn a_server_of_the_era_before_is_greeted_first() {
        let found = asked(&[
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"a"}]}}"#,
        ])
        .await;
        assert_eq!(found, Ok(vec![object!({ "name": "a" })]));
    }

    #[tokio::test]
    async fn what_went_wrong_is_told() {
        let way = Way::Program { command: vec!["no-such-program-here".to_owned()], env: BTreeMap::new(), directory: None };
        assert!(definitions(&way, Path::new("."), &RootCertStore::empty()).await.unwrap_err().contains("did not start"));
        assert!(asked(&[]).await.unwrap_err().contains("ended"));
        let way = Way::Url { url: "http://127.0.0.1:1/mcp".to_owned(), header: None };
        assert!(definitions(&way, Path::new("."), &RootCertStore::empty()).await.unwrap_err().contains("cannot be reached"));
    }

    #[test]
    fn an_answer_is_found_in_a_stream() {
        let text = b"id: 1\r\ndata:\r\n\r\nevent: message\r\ndata: {\"id\":2,\"result\":{}}\r\n\r\ndata: {\"id\":3,";
        assert_eq!(in_stream(text, 2), Some(object!({ "id": 2, "result": {} })));
        assert_eq!(in_stream(text, 3), None);
    }
}
