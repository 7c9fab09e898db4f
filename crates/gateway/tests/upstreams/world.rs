//! A gateway with the real line, log and client of tool servers, and tool servers on real sockets that do as they are told.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bailiwick_core::bundle::{self, Live, Snapshot};
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::identity::{Authenticated, Grant};
use bailiwick_core::json;
use bailiwick_core::model::{
    Arguments, Call, Clock, Digest, ExecutionId, ExecutionStarted, Protocol, Record, ServerName, Timestamp, ToolName,
};
use bailiwick_gateway::broker::{BrokerError, Credential, Vault};
use bailiwick_gateway::mcp::upstream::{House, Peers};
use bailiwick_gateway::{Answer, Answered, Arrival, Caller, Extras, Gateway, Parts, Permit, Refusal, Running, ToolFault, Upstream};
use bailiwick_log::note::Ed25519Signer;
use bailiwick_log::{Log, Position};
use bailiwick_store::embedded;
use rustls::RootCertStore;
use serde_json::value::RawValue;
use serde_json::{Value, json as object};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::common::{MachineClock, soon};

pub(crate) struct NoSecrets;

#[async_trait]
impl Vault for NoSecrets {
    async fn credential(&self, _: &Permit) -> Result<Credential, BrokerError> {
        Ok(Credential::none())
    }

    async fn own(&self, _: &ServerName) -> Result<Credential, BrokerError> {
        Ok(Credential::none())
    }
}

/// A gateway in front of the tool servers of a bundle.
pub(crate) struct World {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) directory: tempfile::TempDir,
}

/// A tool's definition as it is both reviewed and offered.
pub(crate) fn definition(name: &str) -> Value {
    object!({ "name": name, "description": name, "inputSchema": { "type": "object" } })
}

/// A bundle with one tool server, `s`, and an agent that may call all of it.
pub(crate) fn bundle(transport: &str, tools: &[Value]) -> Snapshot {
    bundle_for(transport, tools, "30s")
}

/// The same, with the longest time that a call may take.
pub(crate) fn bundle_for(transport: &str, tools: &[Value], call_timeout: &str) -> Snapshot {
    let declared: String = tools.iter().map(|tool| format!("[tools.{}]\neffect = \"read\"\n", tool["name"].as_str().unwrap())).collect();
    let files = BTreeMap::from([
        (
            "bailiwick.toml",
            format!(
                "trust_domain = \"acme.example\"\n[limits]\nreply_bytes_max = 20000\nupstream_timeout = \"2s\"\ncall_timeout = \"{call_timeout}\"\n"
            ),
        ),
        (
            "agents/bot.toml",
            "[agent]\nname = \"bot\"\nowner = \"o@acme.example\"\npurpose = \"Tests\"\n[agent.may]\ncall = [\"s/*\"]\n".to_owned(),
        ),
        ("servers/s.toml", format!("[server]\nname = \"s\"\n{transport}\n{declared}[resources.\"test://*\"]\n[prompts.greet]\n")),
        ("servers/s.tools.json", object!(tools).to_string()),
    ]);
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.into_bytes())).collect();
    bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot
}

/// What a broker is put among.
pub(crate) struct Around<'a> {
    pub(crate) bundle: &'a Arc<Live>,
    pub(crate) base: &'a Path,
    pub(crate) log: &'a Log,
    pub(crate) executions: &'a Arc<Executions>,
}

impl World {
    /// Begins with `snapshot` in force.
    pub(crate) fn start(snapshot: Snapshot) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), snapshot)
    }

    /// The same, with the bundle's directory.
    pub(crate) fn start_in(directory: tempfile::TempDir, snapshot: Snapshot) -> Self {
        Self::start_with(directory, snapshot, |_| Arc::new(NoSecrets))
    }

    /// The same, with a broker of its own.
    pub(crate) fn start_with(directory: tempfile::TempDir, snapshot: Snapshot, vault: impl FnOnce(Around<'_>) -> Arc<dyn Vault>) -> Self {
        let signer = Arc::new(Ed25519Signer::from_seed("log.example/audit", &[1; 32]).unwrap());
        let storage = embedded::open(&directory.path().join("log"), signer, embedded::Options::default()).unwrap();
        let log = Log::new(Arc::new(storage));
        let bundle = Arc::new(Live::new(snapshot));
        let executions = Arc::new(Executions::default());
        let around = Around { bundle: &bundle, base: directory.path(), log: &log, executions: &executions };
        let (clock, vault): (Arc<dyn Clock>, _) = (Arc::new(MachineClock), vault(around));
        let held = Arc::new(ArcSwap::from_pointee(HashSet::new()));
        let house = House {
            base: directory.path().to_owned(),
            roots: RootCertStore::empty(),
            log: log.clone(),
            clock: Arc::clone(&clock),
            vault: Arc::clone(&vault),
            held: Arc::clone(&held),
            executions: Arc::clone(&executions),
            delegator: None,
        };
        let peers = Arc::new(Peers::new(house).unwrap());
        peers.apply(&bundle.load());
        let upstream = Arc::clone(&peers) as Arc<dyn Upstream>;
        let gateway = Arc::new(Gateway::new(Parts { bundle, executions, log, clock, vault, upstream, held }));
        Self { gateway, peers, directory }
    }

    /// Puts another snapshot in force.
    pub(crate) fn activate(&self, snapshot: Snapshot) {
        self.peers.apply(&snapshot);
        self.gateway.parts().bundle.activate(snapshot);
    }

    /// A new execution of the agent.
    pub(crate) fn execution(&self) -> Arc<Execution> {
        self.execution_for(None)
    }

    /// The same, on behalf of a person.
    pub(crate) fn execution_for(&self, subject: Option<&str>) -> Arc<Execution> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let now = MachineClock.now();
        self.gateway.parts().executions.started(ExecutionStarted {
            at: now,
            bundle: Digest::of(b""),
            execution: ExecutionId::from_parts(1_795_000_000_000 + SERIAL.fetch_add(1, Ordering::SeqCst), [7; 10]),
            agent: "bot".parse().unwrap(),
            subject: subject.map(str::to_owned),
            chain: Vec::new(),
            task: None,
            grant: Grant::default(),
            key: None,
            token: "t".to_owned(),
            renewal: false,
            expires: Timestamp::from_second(now.as_second() + 300).unwrap(),
            proof: "test".to_owned(),
            sign_in: None,
        })
    }

    /// Starts a call on behalf of `execution`.
    pub(crate) fn begin(
        &self,
        execution: &Arc<Execution>,
        (method, tool): (&'static str, &str),
        arguments: &str,
        extras: Value,
        caller: &Arc<Agent>,
    ) -> Running {
        let server: ServerName = "s".parse().unwrap();
        let text = RawValue::from_string(arguments.to_owned()).unwrap();
        let call = Call {
            tool: ToolName::new(&server, tool).unwrap(),
            protocol: Protocol::Mcp,
            method,
            arguments: Arguments::parse(&text, &json::Limits::default()).unwrap(),
        };
        let Value::Object(extras) = extras else { panic!("extras are an object") };
        let who = Authenticated { execution: Arc::clone(execution), token: "t".into(), expires: Timestamp::MAX, network: None };
        let extras: Extras = extras;
        self.gateway.start(who, Arrival { call, extras }, Arc::clone(caller) as Arc<dyn Caller>)
    }

    /// Calls a tool and waits for what comes of it.
    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Result<Answer, Refusal> {
        self.call_as(tool, arguments, object!({}), &Agent::silent()).await
    }

    /// The same, with extras and an agent that can be asked.
    pub(crate) async fn call_as(&self, tool: &str, arguments: &str, extras: Value, agent: &Arc<Agent>) -> Result<Answer, Refusal> {
        soon(self.begin(&self.execution(), ("tools/call", tool), arguments, extras, agent).ended()).await
    }

    /// The tools that are on the log as held back, once they are `count`: the name, and whether something was offered.
    pub(crate) async fn held_records(&self, count: usize) -> Vec<(String, bool)> {
        let storage = self.gateway.parts().log.storage();
        let held = |entry: &Vec<u8>| match Record::read(entry).unwrap() {
            Record::ToolHeld(held) => Some((held.tool.as_str().to_owned(), held.offered.is_some())),
            _ => None,
        };
        soon(async {
            loop {
                let length = storage.len();
                if let Some(last) = length.checked_sub(1) {
                    storage.durable(Position(last)).await.unwrap();
                }
                let entries = storage.read(Position(0), usize::MAX).await.unwrap();
                let held: Vec<_> = entries.iter().filter_map(held).collect();
                if held.len() >= count {
                    return held;
                }
                storage.reached(Position(length)).await.unwrap();
            }
        })
        .await
    }
}

/// What a call came to, in one line.
pub(crate) fn shown(answered: &Result<Answer, Refusal>) -> String {
    match answered {
        Ok(Answer { body: Ok(result), failed, .. }) => format!("{}{result}", if *failed { "failed " } else { "" }),
        Ok(Answer { body: Err(fault), .. }) => format!("fault {} {}", fault.code, fault.message),
        Err(Refusal::Upstream { error, .. }) => format!("error: {error}"),
        Err(other) => format!("refused: {other}"),
    }
}

/// The agent's end of a call: it remembers what it was shown, and answers what it is asked with `answer`.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) shown: Mutex<Vec<Value>>,
    pub(crate) asked: Mutex<Vec<(String, Value)>>,
    pub(crate) answer: Option<Value>,
    /// Whether it never takes what it is shown, nor answers.
    pub(crate) is_deaf: bool,
    pub(crate) seen: Notify,
}

impl Agent {
    pub(crate) fn silent() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn answering(answer: Value) -> Arc<Self> {
        Arc::new(Self { answer: Some(answer), ..Self::default() })
    }
}

#[async_trait]
impl Caller for Agent {
    async fn show(&self, notification: Value) {
        if self.is_deaf {
            std::future::pending::<()>().await;
        }
        self.shown.lock().unwrap().push(notification);
        self.seen.notify_one();
    }

    async fn ask(&self, method: &str, params: Value) -> Answered {
        self.asked.lock().unwrap().push((method.to_owned(), params));
        if self.is_deaf {
            std::future::pending::<()>().await;
        }
        self.answer.clone().ok_or_else(|| ToolFault { code: -32601, message: "cannot be asked".to_owned(), data: None })
    }
}

/// One request as a server on a raw socket read it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
    /// The body's exact text.
    pub(crate) text: String,
}

impl Request {
    /// The JSON-RPC method.
    pub(crate) fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What a server on a raw socket does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Writes these bytes again and again, until the other side closes; counts them.
    Repeat(Vec<u8>, Arc<AtomicU64>),
    /// Waits until the other side closes.
    Hang,
    /// Waits until the test says so.
    Wait(Arc<Notify>),
}

/// A server on a raw socket, which remembers what it was asked.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    came: watch::Sender<usize>,
    /// How many connections were closed by the other side while the server hung.
    pub(crate) hung_up: watch::Receiver<usize>,
}

/// A whole HTTP answer.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> Step {
    Step::Write(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// A JSON answer.
pub(crate) fn reply(body: &Value) -> Vec<Step> {
    vec![http("200 OK", "content-type: application/json\r\n", &body.to_string())]
}

/// The result of a request.
pub(crate) fn result(request: &Request, result: Value) -> Vec<Step> {
    reply(&object!({ "jsonrpc": "2.0", "id": request.body["id"], "result": result }))
}

/// The head of an event stream, which ends with the connection.
pub(crate) fn stream(events: &str) -> Step {
    Step::Write(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}").into_bytes())
}

/// Answers what a modern server with these tools is asked beside calls.
pub(crate) fn modern(request: &Request, tools: &[Value]) -> Option<Vec<Step>> {
    match request.rpc() {
        "server/discover" => Some(result(
            request,
            object!({ "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "ttlMs": 60000, "cacheScope": "private" }),
        )),
        "tools/list" => {
            Some(result(request, object!({ "resultType": "complete", "tools": tools, "ttlMs": 60000, "cacheScope": "private" })))
        }
        _ => None,
    }
}

/// Answers what a legacy server with these tools is asked beside calls.
pub(crate) fn legacy(request: &Request, tools: &[Value]) -> Option<Vec<Step>> {
    match (request.method.as_str(), request.rpc()) {
        ("GET" | "DELETE", _) => Some(vec![http("405 Method Not Allowed", "", "")]),
        (_, "server/discover") => Some(vec![http("400 Bad Request", "content-type: text/plain\r\n", "no session")]),
        (_, "initialize") => {
            let body = object!({ "jsonrpc": "2.0", "id": request.body["id"], "result": {
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} }, "serverInfo": { "name": "s", "version": "1" } } });
            static SESSIONS: AtomicU64 = AtomicU64::new(1);
            let session = SESSIONS.fetch_add(1, Ordering::SeqCst);
            let headers = format!("content-type: application/json\r\nmcp-session-id: session-{session}\r\n");
            Some(vec![http("200 OK", &headers, &body.to_string())])
        }
        (_, "tools/list") => Some(result(request, object!({ "tools": tools }))),
        (_, method) if method.starts_with("notifications/") => Some(vec![http("202 Accepted", "", "")]),
        _ => None,
    }
}

impl Server {
    /// A server that answers each request as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (came, _) = watch::channel(0);
        let (hang_up, hung_up) = watch::channel(0);
        let answer = Arc::new(answer);
        let (seen, counter) = (Arc::clone(&requests), came.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (answer, seen, counter, hang_up) = (Arc::clone(&answer), Arc::clone(&seen), counter.clone(), hang_up.clone());
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut socket).await {
                        seen.lock().unwrap().push(request.clone());
                        counter.send_modify(|count| *count += 1);
                        let steps = answer(&request);
                        let closes = closes(&steps);
                        for step in steps {
                            match step {
                                Step::Write(bytes) => {
                                    if socket.write_all(&bytes).await.is_err() {
                                        return;
                                    }
                                }
                                Step::Repeat(bytes, written) => loop {
                                    if socket.write_all(&bytes).await.is_err() {
                                        return;
                                    }
                                    written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                                },
                                Step::Wait(told) => told.notified().await,
                                Step::Hang => {
                                    let mut rest = [0; 64];
                                    while !matches!(socket.read(&mut rest).await, Ok(0) | Err(_)) {}
                                    hang_up.send_modify(|count| *count += 1);
                                    return;
                                }
                            }
                        }
                        if closes {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, requests, came, hung_up }
    }

    /// The address of another path of it.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url.strip_suffix("/mcp").unwrap())
    }

    /// The requests so far that `wanted` picks.
    pub(crate) fn requests(&self, wanted: impl Fn(&Request) -> bool) -> Vec<Request> {
        self.requests.lock().unwrap().iter().filter(|request| wanted(request)).cloned().collect()
    }

    /// Waits for a request that `wanted` picks.
    pub(crate) async fn request(&self, wanted: impl Fn(&Request) -> bool) -> Request {
        let mut came = self.came.subscribe();
        soon(async {
            loop {
                if let Some(request) = self.requests(&wanted).into_iter().next() {
                    return request;
                }
                came.changed().await.unwrap();
            }
        })
        .await
    }
}

/// Whether the server closes the connection after these steps: where it writes no length, or nothing.
fn closes(steps: &[Step]) -> bool {
    let written: Vec<u8> =
        steps.iter().filter_map(|step| if let Step::Write(bytes) = step { Some(bytes) } else { None }).flatten().copied().collect();
    !String::from_utf8_lossy(&written).contains("content-length: ")
}

async fn read_request(socket: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
    let path = rest.split(' ').next().unwrap().to_owned();
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if socket.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8(body).unwrap();
    Some(Request { method: method.to_owned(), path, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
}
