//! Load over HTTP/1.1: as little work as possible for each request, and every answer looked at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;

use bailiwick_core::model::Clock as _;

use crate::agent::{Agent, Doors};
use crate::clock::WallClock;
use crate::http::{Answer, Connection, post, tools_call};
use crate::process::Program;
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
    pub(super) caller: Option<(Agent, Doors)>,
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
        for _ in 0..done {
            let requests = self.requests(each + WARMING).await?;
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
    async fn requests(&self, calls: usize) -> Result<Requests> {
        let Target { port, path, caller, .. } = &self.target;
        let (mut head, body) = tools_call(*port, path, self.tool, &"x".repeat(self.size_bytes));
        let mut proofs = Vec::new();
        if let Some((agent, doors)) = caller {
            let token = agent.credential(*doors, path).await?;
            if agent.is_bearer {
                head.push_str(&format!("authorization: Bearer {token}\r\n"));
            } else {
                head.push_str(&format!("authorization: DPoP {token}\r\n"));
                let nonce = post(*port, path, "", b"").await?.header("dpop-nonce");
                let url = format!("http://127.0.0.1:{port}{path}");
                for _ in 0..calls {
                    let proof = agent.key.proof(&url, Some(&token), nonce.as_deref(), WallClock.now())?;
                    proofs.push(format!("dpop: {proof}\r\n"));
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
