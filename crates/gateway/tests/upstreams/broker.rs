//! The broker, before a real tool server and a token endpoint on real sockets: what the server is shown, what is asked for
//! it, and that no secret shows anywhere else.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey};
use bailiwick_core::identity::{Algorithm, Signer};
use bailiwick_core::model::{Clock as _, CredentialTakenBack, Entropy, Record, Revocation, Revoked, TakenBack};
use bailiwick_gateway::broker::{Broker, Sources, Vault};
use bailiwick_log::Position;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::RootCertStore;
use serde_json::{Value, json};

use crate::common::{Key, MachineClock, soon};
use crate::world::{Agent, Around, Request, Server, World, bundle, definition, http, modern, reply, result, shown};

const ISSUER: &str = "https://issuer.acme.example";

/// What must show nowhere but where it belongs.
const SECRET: &str = "s3cr:et+";

struct Random;

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}

/// A gateway before a tool server that wants `auth`, with our issuer's public key.
struct Brokered {
    world: World,
    server: Server,
    public: Vec<u8>,
}

impl Brokered {
    async fn start(auth: &str, refused: fn(&Request) -> bool) -> Self {
        let tools = [definition("t")];
        let offered = tools.clone();
        let server = Server::start(move |request| {
            if refused(request) {
                return vec![http("401 Unauthorized", "", "")];
            }
            modern(request, &offered).unwrap_or_else(|| result(request, json!({ "content": [] })))
        })
        .await;
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("secret.txt", 0o600), ("open.txt", 0o644)] {
            let path = directory.path().join(name);
            std::fs::write(&path, format!("{SECRET}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let key = Arc::new(Key(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()));
        let public = key.0.public_key().as_ref().to_vec();
        let broker = |around: Around<'_>| {
            let (signer, executions): (Arc<dyn Signer>, _) = (key, Arc::clone(around.executions));
            let sources = Sources {
                bundle: Arc::clone(around.bundle),
                base: around.base.to_owned(),
                roots: RootCertStore::empty(),
                log: around.log.clone(),
                stopped: Arc::new(move |id| executions.find(id).is_none_or(|execution| execution.is_stopped())),
                issuer: ISSUER.to_owned(),
                chains: Arc::new(|_| vec!["spiffe://acme.example/agent/front".parse().unwrap()]),
                signers: Arc::new(move |algorithm| (algorithm == Algorithm::Es256).then(|| Arc::clone(&signer))),
                clock: Arc::new(MachineClock),
                entropy: Arc::new(Random),
            };
            let broker = Arc::new(Broker::new(sources).unwrap());
            tokio::spawn(Arc::clone(&broker).take_back());
            broker as Arc<dyn Vault>
        };
        let snapshot = bundle(&format!("mcp = \"{}\"\nauth = {auth}", server.url), &tools);
        Self { world: World::start_with(directory, snapshot, broker), server, public }
    }

    /// One call, and the credential that the server was shown for it.
    async fn call(&self, subject: Option<&str>) -> Result<String, String> {
        let execution = self.world.execution_for(subject);
        self.call_of(&execution).await
    }

    async fn call_of(&self, execution: &Arc<bailiwick_core::execution::Execution>) -> Result<String, String> {
        let mut running = self.world.begin(execution, ("tools/call", "t"), "{}", json!({}), &Agent::silent());
        let answered = soon(running.ended()).await;
        let said = shown(&answered);
        assert!(!said.contains(SECRET) && !said.contains("token-"), "{said}");
        if answered.is_err() {
            return Err(said);
        }
        let call = self.server.requests(|request| request.rpc() == "tools/call").pop().unwrap();
        Ok(call.header("authorization").to_owned())
    }

    /// The claims of a token of ours, whose signature holds.
    fn claims(&self, token: &str) -> Value {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public).verify(signed.as_bytes(), &signature).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap()).unwrap();
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert!((1..=300).contains(&life) && claims["jti"].as_str().unwrap().len() == 22, "{claims}");
        claims
    }
}

/// A token endpoint that numbers its tokens.
async fn endpoint(life_s: u64) -> Server {
    let tokens = std::sync::atomic::AtomicUsize::new(1);
    Server::start(move |_| {
        let number = tokens.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        reply(&json!({ "access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": life_s }))
    })
    .await
}

/// A parameter of a form.
fn parameter(request: &Request, name: &str) -> String {
    let value = request.text.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or_default();
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_token_of_our_own_names_the_agent_the_person_and_the_execution() {
    let brokered = Brokered::start("{ jwt = { audience = \"crm\", algorithm = \"ES256\" } }", |_| false).await;
    let execution = brokered.world.execution_for(Some("ada@acme.example"));
    let shown = brokered.call_of(&execution).await.unwrap();
    let claims = brokered.claims(shown.strip_prefix("Bearer ").unwrap());
    let agent = "spiffe://acme.example/agent/bot";
    for (claim, value) in [
        ("iss", json!(ISSUER)),
        ("aud", json!("crm")),
        ("sub", json!("ada@acme.example")),
        ("client_id", json!(agent)),
        ("txn", json!(execution.id())),
    ] {
        assert_eq!(claims[claim], value, "{claim}");
    }
    assert_eq!((&claims["act"]["sub"], &claims["act"]["act"]["sub"]), (&json!(agent), &json!("spiffe://acme.example/agent/front")));

    assert_eq!(brokered.call_of(&execution).await.unwrap(), shown, "one execution is given one token while it lasts");
    let alone = brokered.call(None).await.unwrap();
    let claims = brokered.claims(alone.strip_prefix("Bearer ").unwrap());
    assert_eq!((&claims["sub"], &claims["act"]["sub"]), (&json!("spiffe://acme.example/agent/front"), &json!(agent)));

    let list = brokered.server.requests(|request| request.rpc() == "tools/list").remove(0);
    let claims = brokered.claims(list.header("authorization").strip_prefix("Bearer ").unwrap());
    assert_eq!((&claims["sub"], claims.get("txn")), (&json!("spiffe://acme.example/gateway"), None), "lists are read on nobody's behalf");
}

#[tokio::test]
async fn a_server_that_wants_it_is_told_of_each_call_by_a_transaction_token() {
    let brokered = Brokered::start("{ jwt = { audience = \"crm\", txn = true } }", |_| false).await;
    let execution = brokered.world.execution_for(Some("ada@acme.example"));
    let (first, again) = (brokered.call_of(&execution).await.unwrap(), brokered.call_of(&execution).await.unwrap());
    assert_eq!(first, again, "one execution is given one credential while it lasts");
    let calls = brokered.server.requests(|request| request.rpc() == "tools/call");
    let tokens: Vec<_> = calls.iter().map(|call| call.header("txn-token").to_owned()).collect();
    let [claims, later] = [&tokens[0], &tokens[1]].map(|token| brokered.claims(token));
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(tokens[0].split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header["typ"], "txntoken+jwt", "so that nobody takes it for a credential");
    let decision = |claims: &Value| claims["tctx"]["decision"].as_u64().unwrap();
    assert!(decision(&later) > decision(&claims) && later["jti"] != claims["jti"], "each call has its own");
    for (pointer, value) in [
        ("/aud", json!("acme.example")),
        ("/txn", json!(execution.id())),
        ("/sub", json!("ada@acme.example")),
        ("/act/sub", json!("spiffe://acme.example/agent/bot")),
        ("/act/act/sub", json!("spiffe://acme.example/agent/front")),
        ("/req_wl", json!("spiffe://acme.example/gateway")),
        ("/scope", claims["tctx"]["tool"].clone()),
        ("/agentic_ctx/chain_depth", json!(1)),
    ] {
        assert_eq!(claims.pointer(pointer), Some(&value), "{pointer}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    let list = brokered.server.requests(|request| request.rpc() == "tools/list").remove(0);
    assert_eq!(list.header("txn-token"), "", "a list is no transaction");
}

#[tokio::test]
async fn client_credentials_are_asked_for_once_and_shared_by_all_calls() {
    let endpoint = endpoint(300).await;
    let auth = format!(
        "{{ oauth = \"client-credentials\", token_url = \"{}\", client_id = \"us:1\", secret_file = \"secret.txt\", scopes = [\"a\", \"b\"], resource = \"https://crm.example\" }}",
        endpoint.url
    );
    let brokered = Brokered::start(&auth, |_| false).await;
    let (one, other) = tokio::join!(brokered.call(None), brokered.call(Some("ada")));
    assert_eq!((one.unwrap(), other.unwrap()), ("Bearer token-1".to_owned(), "Bearer token-1".to_owned()));
    let asked = endpoint.requests(|_| true);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].text, "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fcrm.example");
    // RFC 6749 §2.3.1: `us:1` and the secret, each form-encoded, then together in base64.
    assert_eq!(asked[0].header("authorization"), "Basic dXMlM0ExOnMzY3IlM0FldCUyQg==");
}

#[tokio::test]
async fn without_a_secret_we_prove_who_we_are_with_our_key() {
    let endpoint = endpoint(300).await;
    let auth = format!("{{ oauth = \"client-credentials\", token_url = \"{}\", client_id = \"us\" }}", endpoint.url);
    let brokered = Brokered::start(&auth, |_| false).await;
    assert_eq!(brokered.call(None).await.unwrap(), "Bearer token-1");
    let asked = endpoint.requests(|_| true).remove(0);
    assert_eq!(parameter(&asked, "client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let claims = brokered.claims(&parameter(&asked, "client_assertion"));
    assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&json!("us"), &json!("us"), &json!(endpoint.url)));
}

#[tokio::test]
async fn a_token_is_exchanged_for_each_execution_and_says_who_acts_for_whom() {
    let endpoint = endpoint(300).await;
    let auth = format!("{{ oauth = \"token-exchange\", token_url = \"{}\", audience = \"crm\", scopes = [\"read\"] }}", endpoint.url);
    let brokered = Brokered::start(&auth, |_| false).await;
    let one = brokered.call(Some("ada")).await.unwrap();
    let other = brokered.call(Some("ada")).await.unwrap();
    assert_ne!(one, other, "another execution has another token");
    let of_ada = |request: &Request| brokered.claims(&parameter(request, "subject_token"))["sub"] == "ada";
    let asked = endpoint.requests(of_ada);
    assert_eq!(asked.len(), 2);
    assert_eq!(parameter(&asked[0], "grant_type"), "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(parameter(&asked[0], "subject_token_type"), "urn:ietf:params:oauth:token-type:jwt");
    assert_eq!((parameter(&asked[0], "audience"), parameter(&asked[0], "scope")), ("crm".to_owned(), "read".to_owned()));
    let claims = brokered.claims(&parameter(&asked[0], "subject_token"));
    assert_eq!((&claims["act"]["sub"], &claims["aud"]), (&json!("spiffe://acme.example/agent/bot"), &json!(endpoint.url)));
}

#[tokio::test]
async fn a_token_that_the_server_refuses_or_that_is_over_is_not_given_out_again() {
    let first = endpoint(300).await;
    let auth = |url: &str| format!("{{ oauth = \"client-credentials\", token_url = \"{url}\", client_id = \"us\" }}");
    let brokered =
        Brokered::start(&auth(&first.url), |request| request.rpc() == "tools/call" && request.header("authorization") == "Bearer token-1")
            .await;
    let refused = brokered.call(None).await.unwrap_err();
    assert_eq!(refused, "error: the tool server refused the credential that the broker presented: HTTP status 401");
    assert_eq!(brokered.call(None).await.unwrap(), "Bearer token-2");

    let short = endpoint(0).await;
    let brokered = Brokered::start(&auth(&short.url), |_| false).await;
    assert_ne!(brokered.call(None).await.unwrap(), brokered.call(None).await.unwrap());
}

#[tokio::test]
async fn a_secret_from_a_file_is_put_where_it_was_declared_and_one_that_others_can_read_is_not_used() {
    let auth = |file: &str| format!("{{ static = {{ header = \"Authorization\", prefix = \"Key \", secret_file = \"{file}\" }} }}");
    let brokered = Brokered::start(&auth("secret.txt"), |_| false).await;
    assert_eq!(brokered.call(None).await.unwrap(), format!("Key {SECRET}"));
    for (file, said) in [
        ("open.txt", "the secret file `open.txt` can be read by others; run `chmod 600` on it"),
        ("none.txt", "the secret file `none.txt` cannot be read: "),
    ] {
        let refused = Brokered::start(&auth(file), |_| false).await.call(None).await.unwrap_err();
        assert!(refused.starts_with(&format!("error: no credential for the tool server: {said}")), "{refused}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_named_without_what_it_said() {
    for (answer, said) in [
        (
            http("400 Bad Request", "content-type: application/json\r\n", r#"{"error":"invalid_client","error_description":"s3cr:et+"}"#),
            "the token endpoint refused with `invalid_client` (HTTP status 400)",
        ),
        (http("200 OK", "", "s3cr:et+"), "the token endpoint answered HTTP status 200 and nothing that is an OAuth answer"),
        (
            http("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
            "the token endpoint answered HTTP status 302 and nothing that is an OAuth answer",
        ),
    ] {
        let endpoint = Server::start(move |_| vec![answer.clone()]).await;
        let auth = format!("{{ oauth = \"client-credentials\", token_url = \"{}\", client_id = \"us\" }}", endpoint.url);
        let brokered = Brokered::start(&auth, |_| false).await;
        assert_eq!(brokered.call(None).await.unwrap_err(), format!("error: no credential for the tool server: {said}"));
        assert!(brokered.server.requests(|_| true).is_empty(), "nothing goes out without the credential");
    }
}

/// An authorization server whose metadata names `revocation` as its revocation endpoint, and where revoking answers with `status`, by
/// how often it was asked.
async fn authorization_server(revocation: &'static str, status: fn(usize) -> &'static str) -> Server {
    let (tokens, revoked) = (std::sync::atomic::AtomicUsize::new(1), std::sync::atomic::AtomicUsize::new(1));
    Server::start(move |request| {
        let origin = format!("http://{}", request.header("host"));
        let count = |of: &std::sync::atomic::AtomicUsize| of.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match request.path.as_str() {
            "/.well-known/oauth-authorization-server" => {
                let revocation = revocation.replace("ORIGIN", &origin);
                reply(&json!({ "issuer": origin, "token_endpoint": format!("{origin}/token"), "revocation_endpoint": revocation }))
            }
            "/revoke" => vec![http(status(count(&revoked)), "", "")],
            "/token" => reply(&json!({ "access_token": format!("token-{}", count(&tokens)), "token_type": "Bearer", "expires_in": 300 })),
            _ => vec![http("404 Not Found", "", "")],
        }
    })
    .await
}

/// What the log says became of credentials, once it says so of `count`.
async fn taken_back(brokered: &Brokered, count: usize) -> Vec<CredentialTakenBack> {
    let log = &brokered.world.gateway.parts().log;
    loop {
        let end = log.storage().len();
        let entries = log.storage().read(Position(0), 10_000).await.unwrap();
        let taken: Vec<_> = entries
            .iter()
            .filter_map(|entry| if let Ok(Record::CredentialTakenBack(taken)) = Record::read(entry) { Some(taken) } else { None })
            .collect();
        if taken.len() >= count {
            return taken;
        }
        soon(log.storage().reached(Position(end))).await.unwrap();
    }
}

impl Brokered {
    /// Stops an execution as an operator does: in effect, then on the log.
    async fn stop(&self, execution: &bailiwick_core::execution::Execution) {
        let id = execution.id();
        let revoked = Revoked {
            at: MachineClock.now(),
            what: Revocation::Execution(id),
            execution: Some(id),
            agent: None,
            by: "test".to_owned(),
            reason: String::new(),
            finding: None,
        };
        self.world.gateway.parts().executions.revoked(&revoked);
        self.world.gateway.parts().log.append(revoked).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_got_for_an_execution_is_taken_back_at_its_upstream_once_it_is_stopped_and_nobody_elses() {
    let upstream = authorization_server("ORIGIN/revoke", |asked| if asked == 1 { "503 Service Unavailable" } else { "200 OK" }).await;
    let auth = format!("{{ oauth = \"token-exchange\", token_url = \"{}\", audience = \"crm\" }}", upstream.at("/token"));
    let brokered = Brokered::start(&auth, |_| false).await;
    let [one, other] = [Some("ada"), Some("bo")].map(|subject| brokered.world.execution_for(subject));
    let shown = [brokered.call_of(&one).await.unwrap(), brokered.call_of(&other).await.unwrap()];
    brokered.stop(&one).await;
    let taken = taken_back(&brokered, 1).await;
    assert_eq!((taken[0].execution, taken[0].code, taken[0].subject.as_deref()), (one.id(), TakenBack::Done, Some("ada")), "{taken:?}");
    let asked = upstream.requests(|request| request.path == "/revoke");
    assert_eq!(asked.len(), 2, "what did not go at first is tried again");
    assert_eq!(Some(parameter(&asked[1], "token").as_str()), shown[0].strip_prefix("Bearer "));
    assert_eq!(parameter(&asked[1], "token_type_hint"), "access_token");
    let claims = brokered.claims(&parameter(&asked[1], "client_assertion"));
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(ISSUER), &json!(ISSUER)));
    assert_eq!(brokered.call_of(&other).await.unwrap(), shown[1], "the others go on with what they have");
}

#[tokio::test]
async fn a_token_goes_to_no_endpoint_but_that_of_the_server_that_gave_it() {
    let elsewhere = Server::start(|_| vec![http("200 OK", "", "")]).await;
    let named: &'static str = Box::leak(elsewhere.at("/revoke").into_boxed_str());
    for (revocation, why) in [
        (named, "the authorization server's metadata names no revocation endpoint of its own"),
        ("http://169.254.169.254/revoke", "the authorization server's metadata names no revocation endpoint of its own"),
        ("ORIGIN/nowhere", "the revocation endpoint does not take it from us"),
    ] {
        let upstream = authorization_server(revocation, |_| "200 OK").await;
        let auth = format!("{{ oauth = \"token-exchange\", token_url = \"{}\", audience = \"crm\" }}", upstream.at("/token"));
        let brokered = Brokered::start(&auth, |_| false).await;
        let execution = brokered.world.execution_for(None);
        brokered.call_of(&execution).await.unwrap();
        brokered.stop(&execution).await;
        let taken = taken_back(&brokered, 1).await;
        assert_eq!((taken[0].code, taken[0].detail.as_str()), (TakenBack::Impossible, why), "{revocation}");
    }
    assert!(elsewhere.requests(|_| true).is_empty());
}
