//! Tokens: telling who is calling, and issuing credentials, beside the bare signatures that both are made of.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use axum::body::Body;
use bailiwick_control::fetch::{Fetcher, public_roots};
use bailiwick_control::issuer::KeyFiles;
use bailiwick_control::token::{Identity, Parts};
use bailiwick_core::bundle::{self, Live};
use bailiwick_core::execution::Executions;
use bailiwick_core::identity::{AccessToken, Authenticator, Grant, KeySet, Presented};
use bailiwick_core::model::{Clock, Entropy, ExecutionStarted, SpiffeId, Timestamp};
use bailiwick_log::Log;
use bailiwick_log::note::Ed25519Signer;
use bailiwick_store::embedded::{self, Options};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::Result;
use crate::clock::{WallClock, cpu, now};
use crate::decision::{World, start};
use crate::key::{Key, unique};
use crate::table::{Table, micros, share};

const ISSUER: &str = "https://id.acme.example";
const PEOPLE: &str = "https://people.acme.example";
const ENDPOINT: &str = "https://gw.acme.example/mcp";

/// How many tokens are shown, and how many are asked for.
const TOKENS: u64 = 6_000;

/// How many requests for a credential are under way at once.
const CLIENTS: usize = 128;

/// Measures tokens.
pub(crate) fn measure() -> Result {
    shown()?;
    let mut table = Table::new(&["credentials issued", "for", "one worker, log on disk, per s", "CPU µs each", "per s and core"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for (whom, person) in [("the agent itself", None), ("a person (token exchange)", Some(Key::new()?))] {
        table.row(runtime.block_on(issued(whom, person.as_ref()))?);
    }
    println!("{table}");
    Ok(())
}

/// What it takes to tell who is calling.
fn shown() -> Result {
    let (issuer, device, executions) = (Key::new()?, Key::new()?, Executions::default());
    let keys = KeySet::from_jwks(&json!({ "keys": [issuer.jwk()] }))?;
    let authenticator = Authenticator::new(ISSUER, keys, &Random);
    let (world, at) = (World::new(10)?, Timestamp::from_second(1_800_000_000)?);
    let agent = world.snapshot.agents.keys().next().ok_or("there is no agent")?;
    let mut tokens = Vec::new();
    for number in 0..TOKENS {
        let started = start(&world.snapshot, agent, number);
        tokens.push(token_for(&started, &issuer, &device, at)?);
        executions.started(started);
    }
    let nonce = authenticator.nonce(at);
    let show = |token: &str| -> Result<Duration> {
        let (authorization, proof) = (format!("DPoP {token}"), device.proof(ENDPOINT, Some(token), Some(&nonce), at)?);
        let began = now();
        black_box(authenticator.authenticate(black_box(&presented(&[&authorization], &[&proof])), &executions, at)?);
        Ok(began.elapsed())
    };
    let new = tokens.iter().map(|token| show(token)).collect::<Result<Vec<_>>>()?;
    let one = tokens.first().ok_or("there is no token")?;
    let known = tokens.iter().map(|_| show(one)).collect::<Result<Vec<_>>>()?;

    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, device.point())?;
    let proof = device.proof(ENDPOINT, Some(one), Some(&nonce), at)?;
    let (signed, signature) = proof.rsplit_once('.').ok_or("the proof is no token")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let bare = (0..TOKENS).map(|_| {
        let began = now();
        black_box(public.verify_sig(black_box(signed.as_bytes()), &signature)).map_err(|_| "the signature is wrong")?;
        Ok(began.elapsed())
    });
    let bare = bare.collect::<Result<Vec<_>>>()?;

    let mut table = Table::new(&["what", "p50 µs", "p99 µs", "times one ES256 verification"]);
    let one = micros(middle(&bare).0);
    for (what, times) in [("one ES256 verification", bare), ("a new token with its proof", new), ("a known token with a new proof", known)]
    {
        let (p50, p99) = middle(&times);
        table.row([what.to_owned(), format!("{:.1}", micros(p50)), format!("{:.1}", micros(p99)), format!("{:.2}", micros(p50) / one)]);
    }
    println!("{table}");
    Ok(())
}

fn middle(times: &[Duration]) -> (Duration, Duration) {
    let mut times = times.to_vec();
    times.sort_unstable();
    (share(&times, 0.5), share(&times, 0.99))
}

/// What it takes to issue a credential: the whole endpoint but the socket, with the log on disk.
async fn issued(whom: &str, issuer: Option<&Key>) -> Result<[String; 5]> {
    let (agent, device) = (Key::new()?, Key::new()?);
    let directory = tempfile::tempdir()?;
    let mut seed = Zeroizing::new([0; 32]);
    Random.fill(&mut *seed);
    let signer = Arc::new(Ed25519Signer::from_seed("bench.acme.example", &seed)?);
    let log = Log::new(Arc::new(embedded::open(directory.path(), signer, Options::default())?));
    let parts = Parts {
        bundle: Arc::new(Live::new(bundle::read(&files(&agent, issuer)).map_err(|problems| format!("{problems:?}"))?.snapshot)),
        executions: Arc::new(Executions::default()),
        log,
        clock: Arc::new(WallClock),
        entropy: Arc::new(Random),
        keys: Arc::new(Nowhere::default()),
        fetcher: Fetcher::new(public_roots())?,
        base: directory.path().to_owned(),
    };
    let identity = Identity::open(parts)?;
    let at = WallClock.now();
    let nonce = identity.authenticator().nonce(at);
    // The clients' own work is done before.
    let mut requests = Vec::new();
    for _ in 0..TOKENS {
        let id = "spiffe://acme.example/agent/bot";
        let second = at.as_second();
        let claims = json!({ "iss": id, "sub": id, "aud": ISSUER, "iat": second, "exp": second + 60, "jti": unique() });
        let assertion = agent.token(&json!({ "alg": "ES256", "typ": "client-authentication+jwt", "kid": "k1" }), &claims)?;
        let grant = match issuer {
            None => "grant_type=client_credentials".to_owned(),
            Some(issuer) => {
                let claims = json!({ "iss": PEOPLE, "sub": "ana", "azp": "bot", "aud": ISSUER, "iat": second, "exp": second + 300 });
                let person = issuer.token(&json!({ "alg": "ES256", "typ": "JWT", "kid": "p" }), &claims)?;
                format!(
                    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={person}\
                     &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt"
                )
            }
        };
        let form = format!(
            "{grant}&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={assertion}&task=Pay+the+invoices"
        );
        let proof = device.proof(&format!("{ISSUER}/token"), None, Some(&nonce), at)?;
        let request = http::Request::post("/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("dpop", proof)
            .body(Body::from(form))?;
        requests.push(request);
    }
    let (router, requests) = (identity.router(), Arc::new(Mutex::new(requests)));
    let (began, used) = (now(), cpu()?);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (router, requests) = (router.clone(), Arc::clone(&requests));
        clients.spawn(async move {
            loop {
                let Some(request) = requests.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
                let response =
                    router.clone().oneshot(request).await.map_err(|never: std::convert::Infallible| -> String { match never {} })?;
                if !response.status().is_success() {
                    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.map_err(|error| error.to_string())?;
                    return Err(String::from_utf8_lossy(&body).into_owned());
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let (elapsed, used) = (began.elapsed(), cpu()?.saturating_sub(used));
    let count = TOKENS as f64;
    Ok([
        TOKENS.to_string(),
        whom.to_owned(),
        format!("{:.0}", count / elapsed.as_secs_f64()),
        format!("{:.0}", micros(used) / count),
        format!("{:.0}", count / used.as_secs_f64()),
    ])
}

/// The bundle of the token service: one agent with a registered key, and who vouches for people, if anybody.
fn files(agent: &Key, issuer: Option<&Key>) -> bundle::Files {
    let declared = format!(
        "[agent]\nname = \"bot\"\nowner = \"o@acme.example\"\npurpose = \"Measure\"\n[[agent.key]]\nkid = \"k1\"\njwk = {}\n[agent.may]\ncall = [\"crm/query\"]\n",
        agent.jwk_toml(),
    );
    let settings = format!(
        "trust_domain = \"acme.example\"\n[data]\nlisten = \"127.0.0.1:8480\"\norigin = \"https://gw.acme.example\"\n[identity]\nlisten = \"127.0.0.1:8481\"\norigin = \"{ISSUER}\"\n"
    );
    let server = "[server]\nname = \"crm\"\nmcp = \"https://crm.acme.example/mcp\"\n[tools.query]\neffect = \"read\"\n";
    let people = issuer.map(|key| {
        let jwk = key.jwk_toml().replacen('{', "{ kid = \"p\", ", 1);
        ("issuers.toml", format!("[[issuer]]\nname = \"people\"\nissuer = \"{PEOPLE}\"\njwks = {{ keys = [{jwk}] }}\n"))
    });
    [("bailiwick.toml", settings), ("agents/bot.toml", declared), ("servers/crm.toml", server.to_owned())]
        .into_iter()
        .chain(people)
        .map(|(path, text)| (path.to_owned(), text.into_bytes()))
        .collect()
}

/// The token that the start of an execution stands for, bound to `device`.
pub(crate) fn token_for(started: &ExecutionStarted, issuer: &Key, device: &Key, at: Timestamp) -> Result<String> {
    let token = AccessToken {
        issuer: ISSUER.to_owned(),
        agent: SpiffeId::new("acme.example".parse()?, started.agent.clone()),
        chain: Vec::new(),
        subject: started.subject.clone(),
        audiences: vec![ENDPOINT.to_owned()],
        execution: started.execution,
        id: started.token.clone(),
        issued_s: at.as_second(),
        expires_s: at.as_second() + 300,
        certificate: None,
        key: Some(device.thumbprint()?),
        grant: Grant::default(),
    };
    Ok(token.sign(issuer)?)
}

/// A request as the gateway's endpoint gets it.
pub(crate) const fn presented<'a>(authorization: &'a [&'a str], dpop: &'a [&'a str]) -> Presented<'a> {
    Presented { authorization, dpop, certificate: None, method: "POST", url: ENDPOINT, audience: ENDPOINT }
}

/// Randomness from the signature library.
pub(crate) struct Random;

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        if aws_lc_rs::rand::fill(bytes).is_err() {
            // Nothing here is a secret that anybody relies on, but a measurement with equal ids would be wrong.
            std::process::abort();
        }
    }
}

/// Key files that die with the process.
#[derive(Default)]
struct Nowhere(Mutex<HashMap<String, Vec<u8>>>);

impl KeyFiles for Nowhere {
    fn load(&self, name: &str) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().map(Zeroizing::new))
    }

    fn save(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}
