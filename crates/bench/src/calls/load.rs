//! Load over HTTP/1.1: as little work as possible for each request, and every answer looked at.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use super::agent::{Agent, Key};
use super::process::Program;
use crate::{Result, clock};

/// Calls on each connection before those that count.
const WARMING: usize = 20;

/// What is called.
pub(super) struct Target<'a> {
    pub(super) port: u16,
    pub(super) path: String,
    /// Whose CPU time counts.
    pub(super) program: &'a Program,
    /// Who calls, where that is asked.
    pub(super) caller: Option<Caller>,
}

/// Who calls a gateway.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) agent: Agent,
    pub(super) key: Arc<Key>,
    pub(super) data: u16,
    pub(super) identity: u16,
}

impl<'a> Target<'a> {
    /// One that asks nobody who they are.
    pub(super) fn plain(port: u16, program: &'a Program) -> Self {
        Self { port, path: "/mcp".to_owned(), program, caller: None }
    }
}

/// Calls to be made.
pub(super) struct Load<'a> {
    pub(super) target: Target<'a>,
    pub(super) tool: &'static str,
    /// The bytes of the one argument.
    pub(super) size_bytes: usize,
    pub(super) connections: usize,
    /// How many calls in all.
    pub(super) calls: usize,
}

/// What came of them.
pub(super) struct Measured {
    took: Duration,
    cpu: Duration,
    /// Sorted.
    each: Vec<Duration>,
}

impl Measured {
    /// Calls in a second.
    pub(super) fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.took.as_secs_f64()
    }

    /// The time that this share of the calls took at most.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let index = (self.each.len() as f64 * share) as usize;
        self.each.get(index.min(self.each.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// The CPU time of the measured program for one call.
    pub(super) fn cpu_each(&self) -> Duration {
        self.cpu / u32::try_from(self.each.len().max(1)).unwrap_or(u32::MAX)
    }
}

impl Load<'_> {
    /// Makes the calls. Fails when an answer is not that of a call that was done.
    pub(super) async fn run(self) -> Result<Measured> {
        let each = self.calls / self.connections;
        let (ready, go, done) =
            (Arc::new(Barrier::new(self.connections + 1)), Arc::new(Barrier::new(self.connections + 1)), self.connections);
        let mut tasks = Vec::new();
        for connection in 0..done {
            let requests = self.requests(connection, each + WARMING).await?;
            let (ready, go, port) = (Arc::clone(&ready), Arc::clone(&go), self.target.port);
            tasks.push(tokio::spawn(async move {
                let prepared = connect(port, requests).await;
                ready.wait().await;
                go.wait().await;
                call(prepared?).await
            }));
        }
        ready.wait().await;
        let (cpu, began) = (self.target.program.cpu()?, clock::now());
        go.wait().await;
        let mut all = Vec::with_capacity(self.calls);
        for task in tasks {
            all.extend(task.await??);
        }
        let (took, cpu) = (began.elapsed(), self.target.program.cpu()?.saturating_sub(cpu));
        all.sort_unstable();
        Ok(Measured { took, cpu, each: all })
    }

    /// What one connection sends: a credential of its own, and with each request a proof of its own.
    async fn requests(&self, connection: usize, calls: usize) -> Result<Requests> {
        let Target { port, path, caller, .. } = &self.target;
        let text = "x".repeat(self.size_bytes);
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
        let params = json!({ "name": self.tool, "arguments": { "text": text }, "_meta": meta });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n\
             mcp-name: {}\r\n",
            body.len(),
            self.tool
        );
        let mut proofs = Vec::new();
        if let Some(Caller { agent, key, data, identity }) = caller {
            // No number is ever used twice: a proof is good once, whoever shows it.
            let number = format!("{connection}-{:?}", clock::now());
            let token = key.credential(*agent, *data, *identity, path, &number).await?;
            match agent {
                Agent::Bearer => head.push_str(&format!("authorization: Bearer {token}\r\n")),
                Agent::Proven => {
                    head.push_str(&format!("authorization: DPoP {token}\r\n"));
                    let answer = post(*data, path, "", b"").await?;
                    let nonce = answer.header("dpop-nonce");
                    let url = format!("http://127.0.0.1:{data}{path}");
                    for call in 0..calls {
                        let proof = key.proof(&url, Some(&token), nonce.as_deref(), &format!("{number}-{call}"))?;
                        proofs.push(format!("dpop: {proof}\r\n"));
                    }
                }
            }
        }
        Ok(Requests { head, proofs, body, calls })
    }
}

/// What one connection sends.
struct Requests {
    head: String,
    proofs: Vec<String>,
    body: String,
    calls: usize,
}

impl Requests {
    fn write(&self, call: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.proofs.get(call).map_or(&[][..], String::as_bytes));
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.as_bytes());
    }
}

/// A connection on which the first calls were made.
struct Prepared {
    connection: Connection,
    requests: Requests,
    /// The length of the answers' bodies, which are all alike.
    length: usize,
}

async fn connect(port: u16, requests: Requests) -> Result<Prepared> {
    let mut connection = Connection::open(port).await?;
    let (mut out, mut length) = (Vec::new(), 0);
    for warming in 0..WARMING {
        requests.write(warming, &mut out);
        let answer = connection.send(&out).await?;
        let text = String::from_utf8_lossy(&answer.body);
        if !answer.head.starts_with("HTTP/1.1 200") || text.contains("isError") || !text.contains("xx") && !text.contains("\"x\"") {
            return Err(undone(&answer));
        }
        length = answer.body.len();
    }
    Ok(Prepared { connection, requests, length })
}

async fn call(prepared: Prepared) -> Result<Vec<Duration>> {
    let Prepared { mut connection, requests, length } = prepared;
    let (mut out, mut all) = (Vec::new(), Vec::with_capacity(requests.calls));
    for call in WARMING..requests.calls {
        requests.write(call, &mut out);
        let began = clock::now();
        let answer = connection.send(&out).await?;
        all.push(began.elapsed());
        // A refusal has another length or another status than a call that was done.
        if !answer.head.starts_with("HTTP/1.1 200") || answer.body.len() != length {
            return Err(undone(&answer));
        }
    }
    Ok(all)
}

fn undone(answer: &Answer) -> Box<dyn std::error::Error + Send + Sync> {
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(600).collect();
    format!("a call was not done; {} bytes: {}{text}", answer.body.len(), answer.head).into()
}

/// An answer.
pub(super) struct Answer {
    head: String,
    /// The body, out of its chunks where it came in any.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

/// Posts once, on a connection of its own.
pub(super) async fn post(port: u16, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    Connection::open(port).await?.send(&request).await
}

/// One connection, with the bytes that came.
struct Connection {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, came: Vec::with_capacity(64 << 10) })
    }

    async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.came.clear();
        let head = loop {
            if let Some(end) = self.came.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8(self.came.get(..head).unwrap_or_default().to_vec())?;
        let mut answer = Answer { head: text, body: Vec::new() };
        match answer.header("content-length") {
            Some(length) => {
                let length: usize = length.parse()?;
                while self.came.len() < head + length {
                    self.more().await?;
                }
            }
            // The last chunk is empty, and no body here holds what ends it.
            None => {
                while !self.came.ends_with(b"\r\n0\r\n\r\n") {
                    self.more().await?;
                }
            }
        }
        let mut rest = self.came.get(head..).unwrap_or_default();
        if answer.header("content-length").is_some() {
            answer.body.extend_from_slice(rest);
            return Ok(answer);
        }
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (size, after) = rest.split_at(end + 1);
            let bytes = usize::from_str_radix(std::str::from_utf8(size)?.trim_ascii(), 16)?;
            if bytes == 0 {
                break;
            }
            let (chunk, after) = after.split_at_checked(bytes).ok_or("a chunk is cut off")?;
            answer.body.extend_from_slice(chunk);
            rest = after.strip_prefix(b"\r\n").ok_or("a chunk does not end where it should")?;
        }
        Ok(answer)
    }

    async fn more(&mut self) -> Result {
        if self.stream.read_buf(&mut self.came).await? == 0 {
            return Err("the connection was closed before the answer".into());
        }
        Ok(())
    }
}
