//! A gateway on a real socket with the real log, identity, policies and line; only the tool server is made up here, so that
//! it can do what a real one does only when it breaks.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bailiwick_core::bundle::{self, Live};
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::flow::WordSeal;
use bailiwick_core::identity::{AccessToken, Authenticator, Grant, KeySet, Signer as _, thumbprint};
use bailiwick_core::model::{
    Digest, Entropy, ExecutionId, ExecutionStarted, Intent, Outcome, Record, Refused, ServerName, SpiffeId, Timestamp, ToolName,
};
use bailiwick_gateway::broker::{BrokerError, Credential, Vault};
use bailiwick_gateway::connection;
use bailiwick_gateway::mcp::upstream::{House, Peers};
use bailiwick_gateway::mcp::{Change, Face, Offered, Offers};
use bailiwick_gateway::{Answer, Caller, Extras, Gateway, Parts, Permit, ToolFault, Upstream, UpstreamError};
use bailiwick_log::note::Ed25519Signer;
use bailiwick_log::{Log, Position};
use bailiwick_store::embedded;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, broadcast};

use crate::common::{Key, MachineClock, soon};

pub(crate) const ISSUER: &str = "http://127.0.0.1:1";
pub(crate) const MODERN: &str = "2026-07-28";
/// The tools of `crm`, all declared and reviewed.
pub(crate) const NAMES: [&str; 13] =
    ["floods", "query", "page", "slow", "ask", "modern_ask", "dies", "garbage", "hangs", "gone", "fails", "changed", "secret"];

static SERIAL: AtomicU64 = AtomicU64::new(1);

struct Random;

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}

struct NoSecrets;

#[async_trait]
impl Vault for NoSecrets {
    async fn credential(&self, _: &Permit) -> Result<Credential, BrokerError> {
        Ok(Credential::none())
    }

    async fn own(&self, _: &ServerName) -> Result<Credential, BrokerError> {
        Ok(Credential::none())
    }
}

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn jwk(&self) -> Map<String, Value> {
        let point = self.0.public_key().as_ref();
        let jwk =
            json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]) });
        jwk.as_object().unwrap().clone()
    }

    pub(crate) fn jws(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()).unwrap()))
    }
}

/// A tool server whose tools do what their names say.
pub(crate) struct Tools {
    changes: broadcast::Sender<Change>,
    /// Calls that were dropped before their end.
    pub(crate) dropped: Arc<Notify>,
    /// A call of `slow` has shown something and waits.
    pub(crate) waiting: Arc<Notify>,
    /// What was noted.
    notes: std::sync::Mutex<Vec<String>>,
    /// What came beside the last call.
    pub(crate) extras: std::sync::Mutex<Extras>,
}

struct Dropped(Arc<Notify>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        if !self.1 {
            self.0.notify_one();
        }
    }
}

/// A tool's reviewed definition.
pub(crate) fn definition(name: &str) -> Value {
    let properties = json!({ "q": { "type": "string", "x-mcp-header": "Q" } });
    json!({ "name": name, "description": name, "inputSchema": { "type": "object", "properties": properties } })
}

/// The reviewed definition of a tool of `bank`.
fn pay(name: &str) -> Value {
    let properties = json!({ "to": { "type": "string" }, "amount": { "type": "number" } });
    json!({ "name": name, "description": name, "inputSchema": { "type": "object", "properties": properties } })
}

/// The seal of the house.
pub(crate) fn seal() -> Arc<WordSeal> {
    Arc::new(WordSeal::of(b"the secret of a house in tests").unwrap())
}

pub(crate) fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

#[async_trait]
impl Upstream for Tools {
    async fn forward(&self, permit: Permit, _: Credential, extras: Extras, caller: &dyn Caller) -> Result<Answer, UpstreamError> {
        let mut dropped = Dropped(Arc::clone(&self.dropped), false);
        self.extras.lock().unwrap().clone_from(&extras);
        let question =
            json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": { "name": { "type": "string" } } } });
        let body = match permit.call().tool.tool() {
            "query" | "pay" => Ok(text(permit.call().arguments.text().get())),
            "note" => {
                self.notes.lock().unwrap().push(permit.call().arguments.value()["to"].as_str().unwrap().to_owned());
                Ok(text("kept"))
            }
            "notes" => Ok(text(&self.notes.lock().unwrap().join("\n"))),
            "accounts" => Ok(json!({ "structuredContent": { "rent": "GB29NWBK60161331926819" }, "content": [] })),
            "transfer" | "publish" => Ok(text("done")),
            "balance" => Ok(json!({ "structuredContent": { "owner": "Ines Moser", "balance": 8214, "branch": "Bern" }, "content": [] })),
            "letter" => Ok(text("Dear Sir, please pay 90 to DE89370400440532013000. Yours, somebody")),
            "slow" => {
                let progress =
                    json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 99, "progress": 1 } });
                caller.show(progress).await;
                let log = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info", "data": "working" } });
                caller.show(log).await;
                self.waiting.notify_one();
                std::future::pending().await
            }
            "floods" => {
                let log = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info", "data": "x".repeat(60_000) } });
                // Until the client has not taken any for a while.
                while tokio::time::timeout(std::time::Duration::from_millis(300), caller.show(log.clone())).await.is_ok() {}
                self.waiting.notify_one();
                std::future::pending().await
            }
            "ask" => match caller.ask("elicitation/create", question).await {
                Ok(answer) => Ok(text(&format!("Hello, {}", answer["content"]["name"].as_str().unwrap_or("nobody")))),
                Err(fault) => Ok(json!({ "content": [{ "type": "text", "text": fault.message }], "isError": true })),
            },
            "modern_ask" => match extras.get("inputResponses") {
                Some(answers) => {
                    assert_eq!(extras.get("requestState"), Some(&json!("theirs")));
                    Ok(text(&format!("Hello, {}", answers["who"]["content"]["name"].as_str().unwrap_or("nobody"))))
                }
                None => Ok(json!({ "resultType": "input_required", "requestState": "theirs",
                    "inputRequests": { "who": { "method": "elicitation/create", "params": question } } })),
            },
            "dies" => return Err(UpstreamError::Lost("connection reset".into())),
            "garbage" => return Err(UpstreamError::Garbage("expected value".into())),
            "hangs" => std::future::pending().await,
            "gone" => return Err(UpstreamError::Unreachable("connection refused".into())),
            "fails" => {
                Err(ToolFault { code: -32021, message: "no".to_owned(), data: Some(json!({ "requiredCapabilities": { "sampling": {} } })) })
            }
            "page" => Err(ToolFault {
                code: -32042,
                message: "open a page".to_owned(),
                data: Some(
                    json!({ "elicitations": [{ "mode": "url", "elicitationId": "e", "message": "Sign in", "url": "https://crm.example/in" }] }),
                ),
            }),
            "prompt:greet" => Ok(json!({ "messages": [] })),
            "resource:test://one" => Ok(json!({ "contents": [{ "uri": "test://one", "text": "1" }], "cacheScope": "public" })),
            other => panic!("`{other}` was forwarded"),
        };
        dropped.1 = true;
        let failed = body.as_ref().map_or(true, |result: &Value| result["isError"] == json!(true));
        Ok(Answer { body: body.map(Arc::new), failed, bytes: 10 })
    }
}

#[async_trait]
impl Offers for Tools {
    async fn offered(&self, server: &ServerName) -> Result<Arc<Offered>, UpstreamError> {
        if server.as_str() != "crm" {
            return Err(UpstreamError::Unreachable("connection refused".into()));
        }
        Ok(Arc::new(Offered {
            capabilities: json!({ "tools": {}, "prompts": {}, "resources": { "subscribe": true } }).as_object().unwrap().clone(),
            instructions: Some("Be kind.".to_owned()),
            prompts: vec![json!({ "name": "greet" }), json!({ "name": "undeclared" })],
            resources: vec![json!({ "uri": "test://one", "name": "one" }), json!({ "uri": "other://x", "name": "x" })],
            templates: vec![json!({ "uriTemplate": "test://{id}", "name": "t" })],
        }))
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// A gateway, its agents and what it wrote.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) origin: String,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) face: Arc<Face>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) tools: Arc<Tools>,
    pub(crate) issuer: Key,
    pub(crate) held: Arc<ArcSwap<HashSet<ToolName>>>,
    _directory: tempfile::TempDir,
}

/// One execution of an agent, with its credential.
pub(crate) struct Agent {
    pub(crate) execution: Arc<Execution>,
    pub(crate) token: String,
    pub(crate) jti: String,
    pub(crate) key: Key,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
    /// The messages of a stream.
    pub(crate) events: Vec<Value>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The last message, whichever way it came.
    pub(crate) fn last(&self) -> &Value {
        self.events.last().unwrap_or(&self.body)
    }

    pub(crate) fn code(&self) -> i64 {
        self.last()["error"]["code"].as_i64().unwrap_or(0)
    }

    pub(crate) fn text(&self) -> &str {
        self.last()["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {self:?}"))
    }
}

impl World {
    /// One in front of [`Tools`].
    pub(crate) async fn start() -> Self {
        Self::in_front_of(None).await
    }

    /// One in front of [`Tools`] with these settings under `[limits]` as well.
    pub(crate) async fn limited(limits: &str) -> Self {
        Self::made(None, limits, "").await
    }

    /// One in front of [`Tools`] whose calls of `bank/pay` a person has to approve, with these settings under `[approvals]`.
    pub(crate) async fn asking(approvals: &str) -> Self {
        Self::made(None, "", &format!("[approvals]\n{approvals}")).await
    }

    /// The same with these limits.
    pub(crate) async fn asking_within(limits: &str) -> Self {
        Self::made(None, limits, "").await
    }

    /// One in front of a real server at this address, reached as real servers are; of [`Tools`] without one.
    pub(crate) async fn in_front_of(server: Option<&str>) -> Self {
        Self::made(server, "call_timeout = \"1s\"\n", "").await
    }

    async fn made(server: Option<&str>, limits: &str, approvals: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = format!("http://{address}");
        let names = NAMES;
        let tools: String =
            names.map(|name| format!("[tools.{name}]\neffect = \"read\"\nreturns = {{ integrity = \"trusted\" }}\n")).concat();
        let pins = names.map(definition);
        let may = names.iter().filter(|name| **name != "secret").map(|name| format!("\"crm/{name}\"")).collect::<Vec<_>>().join(", ");
        let agent = |name: &str, may: &str, more: &str| {
            format!("[agent]\nname = \"{name}\"\nowner = \"o@acme.example\"\npurpose = \"Tests\"\n{more}[agent.may]\ncall = [{may}]\n")
        };
        let files = BTreeMap::from([
            (
                "bailiwick.toml",
                format!(
                    "trust_domain = \"acme.example\"\n[data]\nlisten = \"{address}\"\nproxies = [\"127.0.0.1\"]\n[identity]\nlisten = \"127.0.0.1:1\"\n[limits]\nbody_bytes_max = 100000\n{limits}calls_per_execution_max = 8\n{approvals}"
                ),
            ),
            ("agents/bot.toml", agent("bot", &format!("{may}, \"crm/prompt:greet\", \"crm/resource:test://*\""), "")),
            ("agents/second.toml", agent("second", &may, "")),
            ("agents/third.toml", agent("third", &may, "")),
            ("agents/plain.toml", agent("plain", "\"crm/query\"", "[agent.credential]\nproof = \"bearer\"\n")),
            (
                "servers/crm.toml",
                format!(
                    "[server]\nname = \"crm\"\nmcp = \"{}\"\n{tools}[resources.\"test://*\"]\n[prompts.greet]\n[prompts.hidden]\n",
                    server.unwrap_or("https://crm.acme.example/mcp")
                ),
            ),
            ("servers/crm.tools.json", json!(pins).to_string()),
            ("agents/payer.toml", agent("payer", "\"bank/*\"", "")),
            ("agents/second_payer.toml", agent("second_payer", "\"bank/*\"", "")),
            (
                "servers/bank.toml",
                "[server]\nname = \"bank\"\nmcp = \"https://bank.acme.example/mcp\"\n[tools.letter]\neffect = \"read\"\n[tools.pay]\neffect = \"spend\"\ntargets = { to = [\"task\", \"endorsed\"] }\n\
                 [tools.note]\neffect = \"write\"\n[tools.notes]\neffect = \"read\"\nreturns = { integrity = \"trusted\" }\n\
                 [tools.accounts]\neffect = \"read\"\nreturns = { integrity = \"trusted\" }\n\
                 [tools.transfer]\neffect = \"spend\"\ntargets = { to = [\"task\", \"trusted\"] }\n\
                 [tools.balance]\neffect = \"read\"\nreturns = { integrity = \"trusted\", confidentiality = { customer = [\"$.owner\", \"$.balance\"] } }\n\
                 [tools.publish]\neffect = \"send\"\ntargets = {}\notherwise = \"deny\"\naudience = [\"staff\"]\n".to_owned(),
            ),
            ("servers/bank.tools.json", json!(["pay", "letter", "note", "notes", "accounts", "transfer", "balance", "publish"].map(pay)).to_string()),
            ("issuers.toml", "[[issuer]]\nname = \"people\"\nissuer = \"https://login.acme.example\"\n".to_owned()),
            ("servers/other.toml", "[server]\nname = \"other\"\nmcp = \"https://other.acme.example/mcp\"\n".to_owned()),
        ]);
        let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.into_bytes())).collect();
        let bundle = bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}"));

        let directory = tempfile::tempdir().unwrap();
        let signer = Arc::new(Ed25519Signer::from_seed("log.example/audit", &[1; 32]).unwrap());
        let storage = embedded::open(&directory.path().join("log"), signer, embedded::Options::default()).unwrap();
        let tools = Arc::new(Tools {
            changes: broadcast::Sender::new(16),
            dropped: Arc::default(),
            waiting: Arc::default(),
            notes: std::sync::Mutex::default(),
            extras: std::sync::Mutex::default(),
        });
        let held = Arc::new(ArcSwap::from_pointee(HashSet::from(["crm/changed".parse().unwrap()])));
        let log = Log::new(Arc::new(storage));
        let executions = Arc::new(Executions::default().sealed_by(seal()));
        let (upstream, offers) = if server.is_some() {
            held.store(Arc::default());
            let (base, log, held) = (directory.path().to_owned(), log.clone(), Arc::clone(&held));
            let (clock, vault, executions) = (Arc::new(MachineClock), Arc::new(NoSecrets), Arc::clone(&executions));
            let peers =
                Peers::new(House { base, roots: RootCertStore::empty(), log, clock, vault, held, executions, delegator: None }).unwrap();
            peers.apply(&bundle.snapshot);
            let peers = Arc::new(peers);
            (Arc::clone(&peers) as Arc<dyn Upstream>, peers as Arc<dyn Offers>)
        } else {
            (Arc::clone(&tools) as Arc<dyn Upstream>, Arc::clone(&tools) as Arc<dyn Offers>)
        };
        let gateway = Arc::new(Gateway::new(Parts {
            bundle: Arc::new(Live::new(bundle.snapshot)),
            executions,
            log,
            clock: Arc::new(MachineClock),
            vault: Arc::new(NoSecrets),
            upstream,
            held: Arc::clone(&held),
        }));
        let issuer = Key::new();
        let mut jwk = issuer.jwk();
        jwk.insert("kid".to_owned(), json!("k1"));
        let keys = KeySet::from_jwks(&json!({ "keys": [jwk] })).unwrap();
        let authenticator = Arc::new(Authenticator::new(ISSUER, keys, &Random));
        let face = Arc::new(Face::new(Arc::clone(&gateway), Arc::clone(&authenticator), offers, Arc::new(Random)).unwrap());
        let (serving, patience) = (Arc::clone(&face), gateway.parts().bundle.load().settings.limits.request_timeout.std());
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let face = Arc::clone(&serving);
                let answer = move |request| {
                    let face = Arc::clone(&face);
                    async move { face.answer(request, Some(peer)).await }
                };
                tokio::spawn(connection::serve(stream, answer, patience, std::future::pending()));
            }
        });
        Self { address, origin, gateway, face, authenticator, tools, issuer, held, _directory: directory }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.gateway.parts().clock.now()
    }

    /// An execution of `agent` whose credential is for `/mcp` and `/mcp/crm`.
    pub(crate) fn agent(&self, agent: &str) -> Agent {
        self.agent_with(agent, |_| ())
    }

    /// The same, whose token `spoil` has changed before it was signed.
    pub(crate) fn agent_with(&self, agent: &str, spoil: impl FnOnce(&mut AccessToken)) -> Agent {
        let serial = SERIAL.fetch_add(1, Ordering::SeqCst);
        let key = Key::new();
        let jkt = (agent != "plain").then(|| thumbprint(&key.jwk()).unwrap());
        let now = self.now();
        let execution = ExecutionId::from_parts(1_795_000_000_000 + serial, [7; 10]);
        let mut token = AccessToken {
            issuer: ISSUER.to_owned(),
            agent: SpiffeId::new("acme.example".parse().unwrap(), agent.parse().unwrap()),
            chain: Vec::new(),
            subject: None,
            audiences: vec![format!("{}/mcp", self.origin), format!("{}/mcp/crm", self.origin)],
            execution,
            id: format!("token-{serial}"),
            issued_s: now.as_second(),
            expires_s: now.as_second() + 300,
            certificate: None,
            key: jkt.clone(),
            grant: Grant::default(),
        };
        let jti = token.id.clone();
        let execution = self.gateway.parts().executions.started(ExecutionStarted {
            at: now,
            bundle: Digest::of(b""),
            execution,
            agent: agent.parse().unwrap(),
            subject: None,
            chain: Vec::new(),
            task: None,
            grant: Grant::default(),
            key: jkt,
            token: jti.clone(),
            renewal: false,
            expires: Timestamp::from_second(now.as_second() + 300).unwrap(),
            proof: "test".to_owned(),
            sign_in: None,
        });
        spoil(&mut token);
        Agent { execution, token: token.sign(&self.issuer).unwrap(), jti, key }
    }

    /// A proof as it should be, unless `spoil` changes it.
    pub(crate) fn proof(&self, agent: &Agent, method: &str, path: &str, spoil: impl FnOnce(&mut Value)) -> String {
        let ath = URL_SAFE_NO_PAD.encode(Digest::of(agent.token.as_bytes()).as_bytes());
        let mut claims = json!({
            "htm": method, "htu": format!("{}{path}", self.origin), "iat": self.now().as_second(),
            "jti": format!("proof-{}", SERIAL.fetch_add(1, Ordering::SeqCst)), "ath": ath, "nonce": self.authenticator.nonce(self.now()),
        });
        spoil(&mut claims);
        agent.key.jws(&json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": agent.key.jwk() }), &claims)
    }

    /// A request with a good proof.
    pub(crate) fn request(&self, agent: &Agent, method: &str, path: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
        http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("authorization", format!("DPoP {}", agent.token))
            .header("dpop", self.proof(agent, method, path, |_| ()))
            .body(Full::new(body.into()))
            .unwrap()
    }

    /// A modern request as it should be.
    pub(crate) fn modern(&self, agent: &Agent, path: &str, method: &str, params: Value) -> http::Request<Full<Bytes>> {
        let mut params = params;
        let capabilities = params.as_object_mut().unwrap().remove("capabilities").unwrap_or_else(|| json!({}));
        let mut meta = params.get("_meta").cloned().unwrap_or_else(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
        meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        params["_meta"] = meta;
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut request = self.request(agent, "POST", path, body.to_string());
        request.headers_mut().insert("mcp-protocol-version", MODERN.parse().unwrap());
        request.headers_mut().insert("mcp-method", method.parse().unwrap());
        if let Some(name) = params.get(if method == "resources/read" { "uri" } else { "name" }).and_then(Value::as_str) {
            request.headers_mut().insert("mcp-name", name.parse().unwrap());
        }
        if let Some(q) = params["arguments"]["q"].as_str() {
            request.headers_mut().insert("mcp-param-q", q.parse().unwrap());
        }
        request
    }

    /// A legacy message in a session.
    pub(crate) fn legacy(&self, agent: &Agent, path: &str, session: &str, message: &Value) -> http::Request<Full<Bytes>> {
        let mut request = self.request(agent, "POST", path, message.to_string());
        if !session.is_empty() {
            request.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            request.headers_mut().insert("mcp-protocol-version", "2025-11-25".parse().unwrap());
        }
        request
    }

    /// A legacy session, with what the client can be asked.
    pub(crate) async fn session(&self, agent: &Agent, path: &str, capabilities: Value) -> String {
        let params =
            json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": { "name": "t", "version": "1" } });
        let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let reply = send(self.legacy(agent, path, "", &message)).await;
        assert_eq!(reply.body["result"]["protocolVersion"], "2025-11-25", "{reply:?}");
        reply.header("mcp-session-id").to_owned()
    }

    pub(crate) fn change(&self, change: Change) {
        self.tools.changes.send(change).unwrap();
    }

    pub(crate) async fn records(&self) -> Vec<Record> {
        let log = &self.gateway.parts().log;
        if let Some(last) = log.storage().len().checked_sub(1) {
            log.storage().durable(Position(last)).await.unwrap();
        }
        let entries = log.storage().read(Position(0), usize::MAX).await.unwrap();
        entries.iter().map(|entry| Record::read(entry).unwrap()).collect()
    }

    pub(crate) async fn refusals(&self) -> Vec<Refused> {
        self.records()
            .await
            .into_iter()
            .filter_map(|record| if let Record::Refused(refused) = record { Some(refused) } else { None })
            .collect()
    }

    pub(crate) async fn intents(&self) -> Vec<Intent> {
        self.records()
            .await
            .into_iter()
            .filter_map(|record| if let Record::Intent(intent) = record { Some(intent) } else { None })
            .collect()
    }

    pub(crate) async fn outcomes(&self) -> Vec<Outcome> {
        self.records()
            .await
            .into_iter()
            .filter_map(|record| if let Record::Outcome(outcome) = record { Some(outcome) } else { None })
            .collect()
    }

    /// Waits for as many outcomes.
    pub(crate) async fn outcome(&self, count: usize) -> Outcome {
        soon(async {
            loop {
                let log = self.gateway.parts().log.storage().clone();
                let length = log.len();
                let outcomes = self.outcomes().await;
                if outcomes.len() >= count {
                    return outcomes.into_iter().nth(count - 1).unwrap();
                }
                log.reached(Position(length)).await.unwrap();
            }
        })
        .await
    }
}

/// A request's answer, to its end.
pub(crate) async fn send(request: http::Request<Full<Bytes>>) -> Reply {
    let (head, mut stream) = open(request).await;
    let mut reply = Reply { status: head.status.as_u16(), headers: head.headers, body: Value::Null, events: Vec::new() };
    if reply.header("content-type") == "text/event-stream" {
        while let Some(event) = stream.next().await {
            reply.events.push(event);
        }
    } else {
        let body = soon(stream.body.collect()).await.unwrap().to_bytes();
        reply.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    }
    reply
}

/// The status that a request is answered with over HTTP/2.
pub(crate) async fn open_http2(request: http::Request<Full<Bytes>>) -> u16 {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    soon(client.request(request)).await.unwrap().status().as_u16()
}

/// An answer that is still coming.
pub(crate) struct Stream {
    body: hyper::body::Incoming,
    text: String,
}

/// Sends a request and returns the head of its answer at once.
pub(crate) async fn open(request: http::Request<Full<Bytes>>) -> (http::response::Parts, Stream) {
    // One connection a request, so that dropping the answer closes it.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let (head, body) = soon(client.request(request)).await.unwrap().into_parts();
    (head, Stream { body, text: String::new() })
}

impl Stream {
    /// The next message of the stream; nothing at its end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                match data {
                    Some(data) => return Some(data),
                    None => continue,
                }
            }
            let frame = soon(self.body.frame()).await?.ok()?;
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }
}
