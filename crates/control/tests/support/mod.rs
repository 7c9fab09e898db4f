//! A token service on a real socket, a clock that tests set, and clients that can also do everything wrong.

#![expect(dead_code, reason = "each test file uses its own part of this")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use bailiwick_control::approvals::Approvals;
use bailiwick_control::fetch::{Fetcher, public_roots};
use bailiwick_control::issuer::KeyFiles;
use bailiwick_control::token::{Identity, Parts};
use bailiwick_core::approval::Standing;
use bailiwick_core::bundle::{self, Live};
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::flow::Traced;
use bailiwick_core::ledger::{Facts, Labels};
use bailiwick_core::model::{self as core, Clock, Digest, Entropy, Record, Refused, Timestamp};
use bailiwick_log::{Expected, Log, Position, Storage, StorageError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub(crate) const ISSUER: &str = "http://127.0.0.1:8481";
pub(crate) const GATEWAY: &str = "http://127.0.0.1:8480/mcp";
pub(crate) const BOT: &str = "spiffe://acme.example/agent/bot";
pub(crate) const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A log in memory, with the order and the refusals of the real ones.
#[derive(Default)]
pub(crate) struct Memory {
    entries: Mutex<Vec<Vec<u8>>>,
    grown: tokio::sync::Notify,
    failed: std::sync::atomic::AtomicBool,
}

impl Memory {
    /// Makes every later append fail.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Lets appends succeed again.
    pub(crate) fn mend(&self) {
        self.failed.store(false, Ordering::SeqCst);
    }
}

#[async_trait]
impl Storage for Memory {
    async fn append(&self, bytes: Vec<u8>, _: Option<Expected>) -> Result<Position, StorageError> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(StorageError::Failed("no space is left".into()));
        }
        let mut entries = self.entries.lock().unwrap();
        entries.push(bytes);
        self.grown.notify_waiters();
        Ok(Position(entries.len() as u64 - 1))
    }

    async fn durable(&self, _: Position) -> Result<(), StorageError> {
        Ok(())
    }

    async fn read(&self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
        Ok(self.entries.lock().unwrap().iter().skip(from.0 as usize).take(entries_max).cloned().collect())
    }

    async fn reached(&self, position: Position) -> Result<(), StorageError> {
        loop {
            let grown = self.grown.notified();
            if self.len() > position.0 {
                return Ok(());
            }
            grown.await;
        }
    }

    fn len(&self) -> u64 {
        self.entries.lock().unwrap().len() as u64
    }
}

/// A clock that tests set; it stands still otherwise.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn seconds(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds()).unwrap()
    }
}

struct Random;

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}

/// Key files in memory.
#[derive(Default)]
pub(crate) struct Files(Mutex<BTreeMap<String, Vec<u8>>>);

impl KeyFiles for Files {
    fn load(&self, name: &str) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.0.lock().unwrap().get(name).cloned().map(Zeroizing::new))
    }

    fn save(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

/// An ES256 key pair of a client, a person's device or another issuer.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]) })
    }

    /// The public key's bytes, which someone may try as the secret of an HMAC.
    pub(crate) fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// An id that no other has.
pub(crate) fn unique() -> String {
    format!("id-{}", SERIAL.fetch_add(1, Ordering::SeqCst))
}

/// A token service on a socket, for the agent `bot` and more.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Arc<Identity>,
    pub(crate) executions: Arc<Executions>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) storage: Arc<Memory>,
    pub(crate) files: Arc<Files>,
    pub(crate) bundle: Arc<Live>,
    pub(crate) log: Log,
    /// The bundle's files.
    pub(crate) sources: bundle::Files,
    /// The registered key of `bot`.
    pub(crate) bot: Key,
    /// The key that proofs are made with.
    pub(crate) device: Key,
    /// The key of the agent `other`.
    pub(crate) other: Key,
    /// The bundle's directory, for the files that it names.
    pub(crate) directory: tempfile::TempDir,
}

impl World {
    /// Starts one whose `issuers.toml` is `issuers`.
    pub(crate) async fn start(issuers: &str) -> Self {
        Self::start_with(issuers, "").await
    }

    /// The same, with `more` in its `bailiwick.toml`.
    pub(crate) async fn start_with(issuers: &str, more: &str) -> Self {
        let federation = "[[agent.federation]]\nissuer = \"idp\"\nclaims = { repository_id = \"8842\" }\n[[agent.subject]]\nissuer = \"idp\"\nclaims = { azp = \"complaints-app\" }\n";
        Self::federated(issuers, if issuers.is_empty() { "" } else { federation }, more).await
    }

    /// The same, where `bot` is whoever `federation` says.
    pub(crate) async fn federated(issuers: &str, federated: &str, more: &str) -> Self {
        let (bot, other) = (Key::new(), Key::new());
        let registered = |key: &Key| {
            let jwk = key.jwk();
            format!("jwk = {{ kty = \"EC\", crv = \"P-256\", x = {}, y = {} }}", jwk["x"], jwk["y"])
        };
        let agent = |name: &str, rest: &str| {
            format!(
                "[agent]\nname = \"{name}\"\nowner = \"o@acme.example\"\npurpose = \"Tests\"\n{rest}\n[agent.may]\ncall = [\"crm/query\", \"crm/list\"]\n"
            )
        };
        let mut files = BTreeMap::from([
            ("bailiwick.toml", format!("trust_domain = \"acme.example\"\n[data]\nlisten = \"127.0.0.1:8480\"\n[identity]\nlisten = \"127.0.0.1:8481\"\n{more}")),
            ("agents/bot.toml", agent("bot", &format!("[[agent.key]]\nkid = \"k1\"\n{}\n{federated}[agent.credential]\nttl = \"5m\"\nexecution_max = \"1h\"", registered(&bot))) + "delegate_to = [\"other\", \"plain\"]\n"),
            ("agents/other.toml", agent("other", &format!("[[agent.key]]\nkid = \"k1\"\n{}", registered(&other))) + "delegate_to = [\"bot\"]\n"),
            ("agents/plain.toml", agent("plain", &format!("[[agent.key]]\nkid = \"k1\"\n{}\n[agent.credential]\nproof = \"bearer\"", registered(&bot)))),
            ("servers/crm.toml", "[server]\nname = \"crm\"\nmcp = \"https://crm.acme.example/mcp\"\n[tools.query]\neffect = \"read\"\n[tools.list]\neffect = \"read\"\n[tools.drop]\neffect = \"admin\"\n".to_owned()),
        ]);
        if !issuers.is_empty() {
            files.insert("issuers.toml", issuers.to_owned());
        }
        let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.into_bytes())).collect();
        let bundle = bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}"));

        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(1_795_000_000)));
        let storage = Arc::new(Memory::default());
        let executions = Arc::new(Executions::default());
        let keys = Arc::new(Files::default());
        let live = Arc::new(Live::new(bundle.snapshot));
        let log = Log::new(Arc::clone(&storage) as Arc<dyn Storage>);
        let identity = Identity::open(Parts {
            bundle: Arc::clone(&live),
            executions: Arc::clone(&executions),
            log: log.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(Random),
            keys: Arc::clone(&keys) as Arc<dyn KeyFiles>,
            fetcher: Fetcher::new(public_roots()).unwrap(),
            base: directory.path().to_owned(),
        })
        .unwrap();
        let address = serve(identity.router()).await;
        Self {
            address,
            identity,
            executions,
            clock,
            storage,
            files: keys,
            bundle: live,
            log,
            sources: files,
            bot,
            device: Key::new(),
            other,
            directory,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A client's assertion as it should be, for a test to spoil.
    pub(crate) fn claims(&self, client: &str) -> Value {
        let now = self.clock.seconds();
        json!({ "iss": client, "sub": client, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": unique() })
    }

    pub(crate) fn assertion(&self) -> String {
        self.bot.sign(&json!({ "alg": "ES256", "typ": "client-authentication+jwt", "kid": "k1" }), &self.claims(BOT))
    }

    /// A proof as it should be, with the nonce of now.
    pub(crate) fn proof(&self) -> String {
        self.proof_with(|_, _| ())
    }

    /// A proof that `spoil` has changed.
    pub(crate) fn proof_with(&self, spoil: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.device.jwk() });
        let nonce = self.identity.authenticator().nonce(self.now());
        let mut claims =
            json!({ "htm": "POST", "htu": format!("{ISSUER}/token"), "iat": self.clock.seconds(), "jti": unique(), "nonce": nonce });
        spoil(&mut header, &mut claims);
        self.device.sign(&header, &claims)
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)], proof: Option<&str>) -> Reply {
        let body: Vec<_> = form.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
        let mut request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body.join("&"))))
            .unwrap();
        if let Some(proof) = proof {
            request.headers_mut().insert("dpop", proof.parse().unwrap());
        }
        send(request).await
    }

    /// A POST with exactly these headers and bytes.
    pub(crate) async fn post_raw(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        post_to(&format!("http://{}{path}", self.address), headers, body).await
    }

    /// A request for a credential of `bot` by its registered key and a good proof, with `more` parameters.
    pub(crate) async fn ask(&self, more: &[(&str, &str)]) -> Reply {
        let assertion = self.assertion();
        let mut form = vec![("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
        if !more.iter().any(|(name, _)| *name == "grant_type") {
            form.push(("grant_type", "client_credentials"));
        }
        form.extend(more);
        self.post("/token", &form, Some(&self.proof())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(http::Request::get(format!("http://{}{path}", self.address)).body(Full::default()).unwrap()).await
    }

    /// What people are asked here.
    pub(crate) fn approvals(&self) -> Approvals {
        Approvals {
            bundle: Arc::clone(&self.bundle),
            executions: Arc::clone(&self.executions),
            log: self.log.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        }
    }

    /// Lets the execution of a credential ask people about a call of `crm/query`, as the gateway does when it decides so.
    pub(crate) async fn ask_people(&self, execution: &Execution, arguments: &Value, traced: Vec<Traced>) -> Position {
        self.ask_people_about(execution, arguments, Facts { traced, ..Facts::default() }).await
    }

    /// The same with all that was found.
    pub(crate) async fn ask_people_about(&self, execution: &Execution, arguments: &Value, facts: Facts) -> Position {
        let (now, started) = (self.now(), execution.started());
        let text = RawValue::from_string(arguments.to_string()).unwrap();
        let sequence = execution.ledger().sequence();
        let unjudged = || core::Answer::unjudged("not judged here");
        let answers = core::Answers {
            reasonable: core::Answer::no("the recipient was not chosen by one who may"),
            role: unjudged(),
            delegation: unjudged(),
            normal: unjudged(),
        };
        let call = Digest::of(arguments.to_string().as_bytes());
        let until = now.checked_add(std::time::Duration::from_secs(900)).unwrap();
        let facts = Facts { approval: Some(Standing::Asked { call, until }), ..facts };
        let intent = core::Intent {
            at: now,
            bundle: self.bundle.load().digest,
            state: Position(0),
            execution: execution.id(),
            sequence,
            agent: started.agent.clone(),
            subject: started.subject.clone(),
            tool: "crm/query".parse().unwrap(),
            effect: core::Effect::Send,
            protocol: core::Protocol::Mcp,
            method: "tools/call".to_owned(),
            network: None,
            arguments_digest: Digest::of(text.get().as_bytes()),
            arguments: Some(text),
            written: None,
            facts,
            returns: Labels::undeclared(),
            decision: core::Decision {
                verdict: core::Verdict::Ask,
                code: core::Code::ApprovalRequired,
                policies: Vec::new(),
                errors: Vec::new(),
                answers,
            },
        };
        let position = self.log.append(intent.clone()).await.unwrap().position();
        execution.ledger().took(position, &intent, &[]);
        position
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.storage.entries.lock().unwrap().iter().map(|entry| Record::read(entry).unwrap()).collect()
    }

    pub(crate) fn refusals(&self) -> Vec<Refused> {
        self.records().into_iter().filter_map(|record| if let Record::Refused(refused) = record { Some(refused) } else { None }).collect()
    }

    pub(crate) fn log_text(&self) -> String {
        self.storage.entries.lock().unwrap().iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
    }
}

/// Serves `router` on a free port of this machine.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    serve_on(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), router)
}

pub(crate) fn serve_on(listener: tokio::net::TcpListener, router: Router) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await });
    address
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or("")
    }

    pub(crate) fn token(&self) -> &str {
        self.body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}"))
    }

    pub(crate) fn claims(&self) -> Value {
        claims(self.token())
    }
}

pub(crate) fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// A POST to this URL with exactly these headers and bytes.
pub(crate) async fn post_to(url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
    let mut request = http::Request::post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(Full::new(Bytes::from(body))).unwrap()).await
}

async fn send(request: http::Request<Full<Bytes>>) -> Reply {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply { status: head.status.as_u16(), headers: head.headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}

pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
