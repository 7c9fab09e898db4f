//! People's clients that sign in, and everything by which another would get what a person allows them. The table of `docs/attacks.md` says
//! where each is described.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest;
use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bailiwick_control::people::People;
use bailiwick_control::token::Reason;
use bailiwick_core::bundle;
use bailiwick_core::execution::Executions;
use bailiwick_core::form::encode;
use bailiwick_core::model::{Record, Revocation, SignIn};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::people::{Browser, Login, Page, secret};
use super::support::*;
use super::vouch::{Authority, patched};

const VERIFIER: &str = "a-verifier-of-the-client-that-nobody-else-can-know-0";
const SERVER: &str = "http://127.0.0.1:8480/mcp/crm";

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// A page on which people let clients sign in, with their login service, and a client that describes itself over HTTPS.
struct Door {
    world: World,
    login: Login,
    origin: String,
    /// The client's id, and what stands there.
    id: String,
    document: Arc<Mutex<(u16, Vec<u8>)>>,
    read: Arc<AtomicUsize>,
    redirect: String,
    _secrets: tempfile::TempDir,
}

impl Door {
    async fn open() -> Self {
        Self::open_with("", &json!({})).await
    }

    /// The same with `more` in the agent's file, and the client's document changed as `patch` says.
    async fn open_with(more: &str, patch: &Value) -> Self {
        let login = Login::start().await;
        let (document, read) = (Arc::new(Mutex::new((200, Vec::new()))), Arc::new(AtomicUsize::new(0)));
        let (served, reading) = (Arc::clone(&document), Arc::clone(&read));
        let router = Router::new().route(
            "/client.json",
            get(async move || {
                reading.fetch_add(1, Ordering::SeqCst);
                let (status, body) = served.lock().unwrap().clone();
                let status = http::StatusCode::from_u16(status).unwrap();
                (status, [("location", "/elsewhere.json")], body).into_response()
            }),
        );
        let authority = Authority::new();
        let host = format!("https://localhost:{}", authority.serve(router).await.port());
        let (id, redirect) = (format!("{host}/client.json"), format!("{host}/callback"));
        let described = json!({
            "client_id": id, "client_name": "Desk <b>helper</b>", "logo_uri": format!("{host}/logo.png"),
            "redirect_uris": [redirect, "http://127.0.0.1/callback"], "token_endpoint_auth_method": "none",
        });
        document.lock().unwrap().1 = patched(described, patch).to_string().into_bytes();

        let secrets = tempfile::tempdir().unwrap();
        secret(&secrets, "login", "s3cret");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = format!(
            "[approvals]\nlisten = \"{address}\"\n[approvals.login]\nissuer = \"people\"\nclient_id = \"bailiwick\"\nsecret_file = \"login\"\nclaims = {{ groups = \"approvers\" }}\n"
        );
        let issuers = format!("[[issuer]]\nname = \"people\"\nissuer = \"{}\"\n", login.url);
        let client = format!(
            "[[agent.client]]\nid = \"{id}\"\nissuer = \"people\"\nclaims = {{ groups = \"staff\" }}\nca_file = \"ca.pem\"\n{more}"
        );
        let world = World::federated(&issuers, &client, &settings).await;
        authority.write(&world.directory.path().join("ca.pem"));
        let listen = world.bundle.load().settings.approvals.listen.clone().unwrap();
        let people = People::new(Arc::clone(&world.identity), world.approvals(), secrets.path().to_owned(), listen);
        serve_on(listener, people.router());
        Self { world, login, origin: format!("http://{address}"), id, document, read, redirect, _secrets: secrets }
    }

    /// Puts another bundle in force, in which `change` has changed a file.
    fn reload(&self, file: &str, change: impl FnOnce(String) -> String) {
        let mut files = self.world.sources.clone();
        let text = String::from_utf8(files[file].clone()).unwrap();
        files.insert(file.to_owned(), change(text).into_bytes());
        self.world.bundle.activate(bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot);
    }

    /// The query of a request as it should be, with these parameters in place of its own, or without those that are empty.
    fn query(&self, other: &[(&str, &str)]) -> String {
        let challenge = challenge(VERIFIER);
        let mut parameters = BTreeMap::from([
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", &self.redirect),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", SERVER),
            ("state", "st&te"),
        ]);
        parameters.extend(other.iter().copied());
        let parameters: Vec<_> = parameters.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        encode(&parameters).to_string()
    }

    /// A browser in which a person is logged in, who was led there by this request; and the page that it is shown.
    async fn asked(&self, subject: &str, query: &str) -> (Browser, Page) {
        let mut browser = Browser::new(&self.origin);
        let place = format!("/authorize?{query}");
        let address = browser.begin(&place).await;
        let code = self.login.code(&self.world, &address, |_, claims| {
            claims["sub"] = json!(subject);
            claims["groups"] = if subject == "eve" { json!(["guests"]) } else { json!(["staff"]) };
        });
        let page = browser.come_back(&address, &code, &self.login.url).await;
        assert_eq!((page.status, page.location.as_deref()), (303, Some(place.as_str())), "{}", page.text);
        let page = browser.get(&place).await;
        (browser, page)
    }

    /// The code that ana allows for this request.
    async fn code(&self, other: &[(&str, &str)]) -> String {
        let query = self.query(other);
        let (mut browser, page) = self.asked("ana", &query).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let page = allow(&mut browser, &page, &query).await;
        answered(&page)["code"].clone()
    }

    /// Redeems a code as its client does, with these parameters in place of its own.
    async fn redeem(&self, code: &str, other: &[(&str, &str)]) -> Reply {
        let form = BTreeMap::from([
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", &self.id),
            ("redirect_uri", &self.redirect),
            ("code_verifier", VERIFIER),
        ]);
        self.token(form, other, Some(&self.world.proof())).await
    }

    async fn refresh(&self, token: &str, other: &[(&str, &str)]) -> Reply {
        let form = BTreeMap::from([("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", &self.id)]);
        self.token(form, other, Some(&self.world.proof())).await
    }

    async fn token(&self, mut form: BTreeMap<&str, &str>, other: &[(&str, &str)], proof: Option<&str>) -> Reply {
        form.extend(other.iter().copied());
        let form: Vec<_> = form.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        self.world.post("/token", &form, proof).await
    }

    /// Whether a credential is good.
    fn is_good(&self, token: &str) -> bool {
        self.world.identity.authenticator().read(token, &self.world.executions, self.world.now()).is_ok()
    }

    fn refused(&self) -> (String, String) {
        let refused = self.world.refusals().pop().expect("a refusal is recorded");
        (refused.stage, refused.code)
    }
}

/// Answers the page that asks.
async fn allow(browser: &mut Browser, page: &Page, query: &str) -> Page {
    let form = page.form("/authorize");
    browser.post("/authorize", &[("form", &form), ("request", &escaped(query)), ("answer", "allow")]).await
}

/// The parameters of an answer, and where it went.
fn answered(page: &Page) -> BTreeMap<String, String> {
    let place = page.location.as_deref().unwrap_or_else(|| panic!("{} {}", page.status, page.text));
    let (to, query) = place.split_once('?').unwrap();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned()));
    pairs.chain([("to".to_owned(), to.to_owned())]).collect()
}

fn refresh_token(reply: &Reply) -> String {
    reply.body["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {reply:?}")).to_owned()
}

#[tokio::test]
async fn a_persons_client_signs_in_by_its_own_document_and_acts_for_the_person() {
    let door = Door::open().await;
    let metadata = door.world.get("/.well-known/oauth-authorization-server").await.body;
    assert_eq!(metadata["authorization_endpoint"], json!(format!("{}/authorize", door.origin)));
    for (member, value) in [
        ("response_types_supported", json!(["code"])),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("client_id_metadata_document_supported", json!(true)),
        ("authorization_response_iss_parameter_supported", json!(true)),
    ] {
        assert_eq!(metadata[member], value, "{member}");
        assert_eq!(door.world.get("/.well-known/openid-configuration").await.body[member], value, "{member}");
    }
    for (member, value) in [
        ("grant_types_supported", "authorization_code"),
        ("grant_types_supported", "refresh_token"),
        ("token_endpoint_auth_methods_supported", "none"),
    ] {
        assert!(metadata[member].as_array().unwrap().contains(&json!(value)), "{member} {value}");
    }

    let query = door.query(&[("scope", "read offline_access")]);
    let (mut browser, page) = door.asked("ana", &query).await;
    for said in [
        "Let <span class=\"value\">localhost",
        "“Desk &lt;b&gt;helper&lt;/b&gt;”",
        "ana@acme.example (people:ana)",
        "the agent <strong>bot</strong>",
        "the tool server <strong>crm</strong>",
        "<code>crm/query</code>",
        "up to 1h, in credentials of 5m each",
        &door.redirect,
    ] {
        assert!(page.text.contains(said), "the page does not say `{said}`:\n{}", page.text);
    }
    assert!(!page.text.contains("crm/drop") && !page.text.contains("logo.png") && !page.text.contains("<script"), "{}", page.text);
    assert!(!page.text.contains("take care"), "its own host is no danger:\n{}", page.text);

    let answer = answered(&allow(&mut browser, &page, &query).await);
    assert_eq!(
        (answer["to"].as_str(), answer["state"].as_str(), answer["iss"].as_str()),
        (door.redirect.as_str(), "st%26te", "http%3A%2F%2F127.0.0.1%3A8481")
    );
    let first = door.redeem(&answer["code"], &[]).await;
    assert_eq!(
        (first.status, first.body["token_type"].as_str(), first.body["scope"].as_str()),
        (200, Some("DPoP"), Some("read")),
        "{first:?}"
    );
    let claims = first.claims();
    assert_eq!(
        (claims["sub"].as_str(), claims["act"]["sub"].as_str(), claims["aud"].as_str()),
        (Some("people:ana"), Some(BOT), Some(SERVER))
    );
    assert!(door.is_good(first.token()) && claims["cnf"]["jkt"].is_string());

    // It goes on while it is used, and after it slept longer than a credential lives.
    let second = door.refresh(&refresh_token(&first), &[]).await;
    assert_eq!((second.status, &second.claims()["txn"]), (200, &claims["txn"]), "{second:?}");
    door.world.clock.forward(1_200);
    door.world.identity.tend().await.unwrap();
    assert!(!door.is_good(second.token()));
    let third = door.refresh(&refresh_token(&second), &[]).await;
    assert_eq!((third.status, &third.claims()["txn"], &third.claims()["cnf"]), (200, &claims["txn"], &claims["cnf"]), "{third:?}");
    door.world.clock.forward(2_401);
    let last = door.refresh(&refresh_token(&third), &[]).await;
    assert_eq!((last.status, last.error()), (400, "invalid_grant"), "no longer than an hour");

    let started: Vec<_> = door
        .world
        .records()
        .into_iter()
        .filter_map(|record| if let Record::ExecutionStarted(started) = record { Some(started) } else { None })
        .collect();
    let Some(SignIn::Allowed(allowed)) = started[0].sign_in.as_deref() else { panic!("{started:?}") };
    assert_eq!((allowed.client.as_str(), allowed.by.name.as_deref()), (door.id.as_str(), Some("ana@acme.example")));
    assert_eq!((started.len(), started[0].renewal, started[1].renewal, started[3].renewal), (4, false, true, true));
    let log = door.world.log_text();
    for secret in [answer["code"].clone(), refresh_token(&first), refresh_token(&third), VERIFIER.to_owned(), "s3cret".to_owned()] {
        assert!(!log.contains(&secret), "a secret is on the log");
    }
    assert_eq!(door.read.load(Ordering::SeqCst), 1, "the document is read once in ten minutes, and not to redeem or renew");
}

#[tokio::test]
async fn a_code_is_good_once_for_the_client_the_verifier_the_place_and_the_key_that_it_was_given_for() {
    let other = "[[agent.client]]\nid = \"other\"\nissuer = \"people\"\nclaims = { groups = \"staff\" }\nredirect_uris = [\"https://other.example/cb\"]\n";
    let door = Door::open_with(other, &json!({})).await;
    let thumbprint = URL_SAFE_NO_PAD.encode([7; 32]);
    let bound = door.code(&[("dpop_jkt", &thumbprint)]).await;
    let refused = door.redeem(&bound, &[]).await;
    assert_eq!(refused.error(), "invalid_dpop_proof", "another key than the request named: {refused:?}");

    let code = door.code(&[]).await;
    for (what, spoil, error) in [
        ("another client", vec![("client_id", "other")], "invalid_grant"),
        ("no client", vec![("client_id", "")], "invalid_grant"),
        ("an agent's own id", vec![("client_id", BOT)], "invalid_grant"),
        ("another redirect URI", vec![("redirect_uri", "http://127.0.0.1/callback")], "invalid_grant"),
        ("another verifier", vec![("code_verifier", "b-verifier-of-the-client-that-nobody-else-can-know-0")], "invalid_grant"),
        ("no verifier", vec![("code_verifier", "")], "invalid_grant"),
        ("the challenge as the verifier", vec![("code_verifier", "challenge")], "invalid_grant"),
        ("another server", vec![("resource", GATEWAY)], "invalid_target"),
        ("another's server", vec![("resource", "https://evil.example/mcp")], "invalid_target"),
        (
            "more than the agent may",
            vec![("authorization_details", "[{\"type\":\"tool_call\",\"identifier\":\"crm/drop\"}]")],
            "invalid_authorization_details",
        ),
        ("a secret", vec![("client_secret", "x")], "invalid_client"),
        ("an assertion of nobody", vec![("client_assertion", "x"), ("client_assertion_type", CLIENT_ASSERTION)], "invalid_client"),
    ] {
        let given = challenge(VERIFIER);
        let spoil: Vec<_> =
            spoil.into_iter().map(|(name, value)| (name, if value == "challenge" { given.as_str() } else { value })).collect();
        let reply = door.redeem(&code, &spoil).await;
        assert_eq!((reply.status, reply.error()), (400, error), "{what}: {reply:?}");
        door.world.clock.forward(1);
    }
    let form = BTreeMap::from([
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("client_id", &door.id),
        ("redirect_uri", &door.redirect),
        ("code_verifier", VERIFIER),
    ]);
    assert_eq!(door.token(form, &[], None).await.error(), "invalid_dpop_proof", "a stolen code without a key");
    let mut near = URL_SAFE_NO_PAD.decode(&code).unwrap();
    near[31] ^= 1;
    for made_up in ["x", &code[..42], &URL_SAFE_NO_PAD.encode(near), &URL_SAFE_NO_PAD.encode([0; 32])] {
        assert_eq!(door.redeem(made_up, &[]).await.error(), "invalid_grant", "{made_up}");
    }
    assert_eq!(door.redeem("", &[]).await.error(), "invalid_request");

    // None of that has used it up. Once it is, whoever comes with it again ends what it began.
    let first = door.redeem(&code, &[]).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert!(door.is_good(first.token()));
    assert_eq!(door.redeem(&code, &[("code_verifier", "")]).await.error(), "invalid_grant");
    assert!(!door.is_good(first.token()), "a code that came again ends what it began");
    assert_eq!(door.refresh(&refresh_token(&first), &[]).await.error(), "invalid_grant");
    let revoked = door
        .world
        .records()
        .into_iter()
        .any(|record| matches!(record, Record::Revoked(revoked) if revoked.reason == "the code came again"));
    assert!(revoked);

    let late = door.code(&[]).await;
    door.world.clock.forward(60);
    assert_eq!(door.redeem(&late, &[]).await.error(), "invalid_grant", "a code of a minute ago");

    // Two redeem one code at the same time: at most one has something, and not for long.
    let code = door.code(&[]).await;
    let (one, two) = tokio::join!(door.redeem(&code, &[]), door.redeem(&code, &[]));
    assert!([&one, &two].iter().filter(|reply| reply.status == 200).all(|reply| !door.is_good(reply.token())), "{one:?} {two:?}");
}

#[tokio::test]
async fn a_refresh_token_is_good_once_with_its_key_and_for_its_client_also_after_a_restart() {
    let door = Door::open().await;
    let first = door.redeem(&door.code(&[]).await, &[]).await;
    let token = refresh_token(&first);
    for (what, reply, error) in [
        ("another client", door.refresh(&token, &[("client_id", BOT)]).await, "invalid_grant"),
        ("a scope beyond", door.refresh(&token, &[("scope", "crm/drop")]).await, "invalid_scope"),
        ("another server", door.refresh(&token, &[("resource", GATEWAY)]).await, "invalid_target"),
        ("a made up one", door.refresh(&URL_SAFE_NO_PAD.encode([1; 48]), &[]).await, "invalid_grant"),
        ("an access token", door.refresh(first.token(), &[]).await, "invalid_grant"),
    ] {
        assert_eq!(reply.error(), error, "{what}: {reply:?}");
    }
    let mut thief = Door { ..door };
    let own = std::mem::replace(&mut thief.world.device, Key::new());
    assert_eq!(thief.refresh(&token, &[]).await.error(), "invalid_dpop_proof", "another key");
    thief.world.device = own;
    let door = thief;

    let second = door.refresh(&token, &[]).await;
    assert_eq!(second.status, 200, "{second:?}");
    let next = refresh_token(&second);
    // What the log says is enough to know both again.
    let after = Executions::default();
    for record in door.world.records() {
        if let Record::ExecutionStarted(started) = record {
            after.started(started);
        }
    }
    let bytes = |token: &str| URL_SAFE_NO_PAD.decode(token).unwrap();
    let execution = after.find(second.body["execution"].as_str().unwrap().parse().unwrap()).unwrap();
    let stands = |token: &str| {
        let (family, present) = (bytes(token)[16..32].to_vec(), bytes(token)[32..].to_vec());
        execution.refresh(&bailiwick_core::model::Digest::of(&family), &bailiwick_core::model::Digest::of(&present), door.world.now())
    };
    assert_eq!(stands(&token), bailiwick_core::execution::Standing::Used);
    assert_eq!(execution.code(&execution.started().token, door.world.now()), bailiwick_core::execution::Standing::Used, "the code too");
    assert!(matches!(stands(&next), bailiwick_core::execution::Standing::Good(Some(_))));

    assert_eq!(door.refresh(&token, &[]).await.error(), "invalid_grant", "one that was used");
    assert!(!door.is_good(second.token()), "whoever has a used one has the family");
    assert_eq!(door.refresh(&next, &[]).await.error(), "invalid_grant");

    // A client gives up what it has (RFC 7009), and nobody else gives it up.
    let first = door.redeem(&door.code(&[]).await, &[]).await;
    let token = refresh_token(&first);
    assert_eq!(door.world.post("/revoke", &[("token", &token), ("client_id", "other")], None).await.status, 400);
    assert!(door.is_good(first.token()));
    assert_eq!(door.world.post("/revoke", &[("token", &token), ("client_id", &door.id)], None).await.status, 200);
    assert!(!door.is_good(first.token()));
    assert_eq!(door.refresh(&token, &[]).await.error(), "invalid_grant");
    assert_eq!(door.world.post("/revoke", &[("token", &token), ("client_id", &door.id)], None).await.status, 200, "again");
}

#[tokio::test]
async fn a_request_for_less_protection_or_another_server_goes_back_to_the_client_as_an_error() {
    let door = Door::open().await;
    let plain = VERIFIER;
    for (what, other, error) in [
        ("no response type", vec![("response_type", "")], "invalid_request"),
        ("the implicit flow", vec![("response_type", "token")], "unsupported_response_type"),
        ("the hybrid flow", vec![("response_type", "code id_token")], "unsupported_response_type"),
        ("no challenge", vec![("code_challenge", "")], "invalid_request"),
        ("no method, which would be plain", vec![("code_challenge_method", "")], "invalid_request"),
        ("a plain challenge", vec![("code_challenge", plain), ("code_challenge_method", "plain")], "invalid_request"),
        ("a plain challenge that says S256", vec![("code_challenge", plain)], "invalid_request"),
        ("the method in another case", vec![("code_challenge_method", "s256")], "invalid_request"),
        ("no server", vec![("resource", "")], "invalid_target"),
        ("another's server", vec![("resource", "https://evil.example/mcp")], "invalid_target"),
        ("an unknown server", vec![("resource", "http://127.0.0.1:8480/mcp/nothing")], "invalid_target"),
        ("the answer in a fragment", vec![("response_mode", "fragment")], "invalid_request"),
        ("a request object", vec![("request", "x.y.z")], "request_not_supported"),
        ("a request object elsewhere", vec![("request_uri", "http://169.254.169.254/")], "request_uri_not_supported"),
        ("nobody asked", vec![("prompt", "none")], "interaction_required"),
        ("no key's thumbprint", vec![("dpop_jkt", "x")], "invalid_request"),
    ] {
        let page = Browser::new(&door.origin).get(&format!("/authorize?{}", door.query(&other))).await;
        let answer = answered(&page);
        assert_eq!((page.status, answer["error"].as_str(), answer["to"].as_str()), (303, error, door.redirect.as_str()), "{what}");
        assert_eq!((answer["state"].as_str(), answer["iss"].as_str()), ("st%26te", "http%3A%2F%2F127.0.0.1%3A8481"), "{what}");
        assert_eq!(door.refused(), ("authorize".to_owned(), error.to_owned()), "{what}");
        door.world.clock.forward(1);
    }
    for scope in ["nonsense", "crm/drop", "openid"] {
        let query = door.query(&[("scope", scope)]);
        let (_, page) = door.asked("ana", &query).await;
        assert_eq!(answered(&page)["error"], "invalid_scope", "{scope}");
    }
    assert_eq!(door.world.executions.len(), 0);
}

#[tokio::test]
async fn nobody_is_sent_anywhere_before_the_client_and_where_its_answers_go_are_known() {
    let private = "[[agent.client]]\nid = \"https://localhost:1/c.json\"\nissuer = \"people\"\nclaims = { groups = \"staff\" }\n\
                   [[agent.client]]\nid = \"https://169.254.169.254/c.json\"\nissuer = \"people\"\nclaims = { groups = \"staff\" }\n\
                   [[agent.client]]\nid = \"https://[::ffff:10.0.0.1]/c.json\"\nissuer = \"people\"\nclaims = { groups = \"staff\" }\n";
    let door = Door::open_with(private, &json!({})).await;
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.example%2Fcb", door.query(&[]));
    let encoded = format!("{}&%63lient_id=x", door.query(&[]));
    let long = door.query(&[("state", &"x".repeat(3_000))]);
    let mut cases = vec![
        (String::new(), "invalid_request"),
        (twice, "invalid_request"),
        (encoded, "invalid_request"),
        (long, "invalid_request"),
        (door.query(&[("client_id", "")]), "invalid_request"),
        (door.query(&[("client_id", "https://evil.example/client.json")]), "unauthorized_client"),
        (door.query(&[("client_id", "bot")]), "unauthorized_client"),
        (door.query(&[("client_id", "https://localhost:1/c.json")]), "temporarily_unavailable"),
        (door.query(&[("client_id", "https://169.254.169.254/c.json")]), "temporarily_unavailable"),
        (door.query(&[("client_id", "https://[::ffff:10.0.0.1]/c.json")]), "temporarily_unavailable"),
    ];
    for redirect in [
        "",
        "https://evil.example/callback",
        "//evil.example/callback",
        "javascript:alert(1)",
        &format!("{}/", door.redirect),
        &format!("{}?x=1", door.redirect),
        &format!("{}#x", door.redirect),
        &door.redirect.replace("https://", "http://"),
        &door.redirect.replace("https://", "https://x@"),
        &door.redirect.replace("localhost", "LOCALHOST"),
        "http://127.0.0.1:5/other",
        "http://127.0.0.1:5@evil.example/callback",
        "http://localhost/callback",
    ] {
        cases.push((door.query(&[("redirect_uri", redirect)]), "invalid_redirect_uri"));
    }
    for (query, code) in cases {
        let page = Browser::new(&door.origin).get(&format!("/authorize?{query}")).await;
        assert!(page.location.is_none() && matches!(page.status, 400 | 503), "{query}: {} {:?}", page.status, page.location);
        assert_eq!(door.refused(), ("authorize".to_owned(), code.to_owned()), "{query}");
        assert!(!page.text.contains("evil.example"), "{query}: what was sent is not repeated");
        door.world.clock.forward(1);
    }
    // The port of the machine itself is free, and only that.
    let mut browser = Browser::new(&door.origin);
    assert_eq!(
        browser.get(&format!("/authorize?{}", door.query(&[("redirect_uri", "http://127.0.0.1:50123/callback")]))).await.status,
        303
    );

    let whole = door.document.lock().unwrap().1.clone();
    let with = |patch: Value| patched(serde_json::from_slice(&whole).unwrap(), &patch).to_string().into_bytes();
    for (what, status, body, code) in [
        ("a redirect", 302, whole.clone(), "temporarily_unavailable"),
        ("an error", 404, whole.clone(), "temporarily_unavailable"),
        ("no JSON", 200, b"<html>".to_vec(), "temporarily_unavailable"),
        ("one without end", 200, with(json!({ "more": "x".repeat(6_000) })), "temporarily_unavailable"),
        ("members twice", 200, [b"{\"client_id\":1,".as_slice(), &whole[1..]].concat(), "temporarily_unavailable"),
        ("another's id", 200, with(json!({ "client_id": "https://localhost/other.json" })), "invalid_client_metadata"),
        ("no id", 200, with(json!({ "client_id": null })), "invalid_client_metadata"),
        ("a secret", 200, with(json!({ "client_secret": "x" })), "invalid_client_metadata"),
        ("a secret to come", 200, with(json!({ "token_endpoint_auth_method": "client_secret_basic" })), "invalid_client_metadata"),
        ("nowhere to go", 200, with(json!({ "redirect_uris": [] })), "invalid_client_metadata"),
        ("only a scheme of its own", 200, with(json!({ "redirect_uris": ["app://callback"] })), "invalid_redirect_uri"),
    ] {
        *door.document.lock().unwrap() = (status, body);
        door.world.clock.forward(601);
        let page = Browser::new(&door.origin).get(&format!("/authorize?{}", door.query(&[]))).await;
        assert!(page.location.is_none(), "{what}");
        assert_eq!(door.refused().1, code, "{what}");
    }
    let read = door.read.load(Ordering::SeqCst);
    for _ in 0..5 {
        Browser::new(&door.origin).get(&format!("/authorize?{}", door.query(&[]))).await;
    }
    assert_eq!(door.read.load(Ordering::SeqCst), read, "a document is not read as often as anybody likes");
}

#[tokio::test]
async fn a_consent_counts_in_the_session_that_was_shown_it_and_for_the_request_that_it_showed() {
    let door = Door::open().await;
    let (query, second) = (door.query(&[]), door.query(&[("state", "second")]));
    let (mut ana, page) = door.asked("ana", &query).await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none';") && policy.ends_with("frame-ancestors 'none'") && !policy.contains("script"),
        "{policy}"
    );
    assert_eq!((page.headers["x-frame-options"].to_str().unwrap(), page.headers["cache-control"].to_str().unwrap()), ("DENY", "no-store"));
    let form = page.form("/authorize");
    let (mut bo, other) = door.asked("bo", &query).await;
    let theirs = other.form("/authorize");

    let begun = door.world.executions.len();
    for (what, browser, given, request) in [
        ("the form of another's session", &ana, theirs.as_str(), query.as_str()),
        ("one's own in another's session", &bo, form.as_str(), query.as_str()),
        ("the form of another request", &ana, form.as_str(), second.as_str()),
        ("no form", &ana, "", query.as_str()),
        ("no request", &ana, form.as_str(), ""),
    ] {
        let page = browser.clone().post("/authorize", &[("form", given), ("request", &escaped(request)), ("answer", "allow")]).await;
        assert_eq!((page.status, page.location), (403, None), "{what}");
        assert_eq!(door.refused(), ("authorize".to_owned(), "invalid_form".to_owned()), "{what}");
    }
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example")] {
        let mut elsewhere = ana.clone();
        elsewhere.headers = vec![(name, value.to_owned())];
        let page = elsewhere.post("/authorize", &[("form", &form), ("request", &escaped(&query)), ("answer", "allow")]).await;
        assert_eq!((page.status, page.location), (403, None), "{name}: {value}");
    }
    let page = ana.get(&format!("/authorize?{query}&form={form}&answer=allow")).await;
    assert_eq!((page.status, page.location), (200, None), "a link allows nothing");
    let mut nobody = Browser::new(&door.origin);
    assert_eq!(nobody.post("/authorize", &[("form", &form), ("request", &escaped(&query)), ("answer", "allow")]).await.status, 403);
    // A cookie that somebody planted before the login is not the session's afterwards.
    let mut planted = Browser::new(&door.origin);
    planted.cookies.insert("bailiwick-session".to_owned(), "planted".to_owned());
    assert!(
        planted.get(&format!("/authorize?{query}")).await.location.unwrap().starts_with(&door.login.url),
        "a session that nobody opened"
    );
    assert_eq!(door.world.executions.len(), begun);

    // Two windows of one browser: each is answered for what it showed.
    let page = ana.get(&format!("/authorize?{second}")).await;
    let first =
        answered(&allow(&mut ana, &Page { text: format!("action=\"/authorize\" name=\"form\" value=\"{form}\""), ..page }, &query).await);
    assert_eq!(first["state"], "st%26te");
    // The code is for whose session it was.
    let theirs = answered(&allow(&mut bo, &other, &query).await);
    for (answer, sub) in [(first, "people:ana"), (theirs, "people:bo")] {
        assert_eq!(door.redeem(&answer["code"], &[]).await.claims()["sub"], sub);
    }
    // A person refuses, and the client hears of it.
    let page = ana.get(&format!("/authorize?{query}")).await;
    let page = ana.post("/authorize", &[("form", &page.form("/authorize")), ("request", &escaped(&query)), ("answer", "refuse")]).await;
    assert_eq!(answered(&page)["error"], "access_denied");
    // Who signed in by a client, and is no approver, answers nothing.
    assert_eq!(ana.get("/approvals").await.status, 403);
    assert_eq!(ana.get("/approvals/1").await.status, 403);
}

#[tokio::test]
async fn who_may_not_sign_in_or_is_stopped_has_nothing() {
    let door = Door::open().await;
    let query = door.query(&[]);
    let (mut eve, page) = door.asked("eve", &query).await;
    assert!(page.status == 403 && page.text.contains("not one of those who may sign in"), "{}", page.text);
    assert_eq!(door.refused(), ("authorize".to_owned(), "access_denied".to_owned()));
    assert!(page.text.contains(&format!("href=\"{}?error=access_denied", door.redirect)), "{}", page.text);
    let log_out = page.form("/logout");
    assert_eq!(eve.post("/logout", &[("form", &log_out)]).await.status, 200);

    let by = || Reason::of("tests", "");
    let bot: bailiwick_core::model::AgentName = "bot".parse().unwrap();
    let owner = || Revocation::Owner { owner: "o@acme.example".to_owned(), agents: vec![bot.clone()] };
    for (what, revocation) in
        [("the person", Revocation::Subject("people:ana".to_owned())), ("the owner", owner()), ("all", Revocation::All)]
    {
        let (mut ana, page) = door.asked("ana", &query).await;
        let code = answered(&allow(&mut ana, &page, &query).await)["code"].clone();
        let first = door.redeem(&code, &[]).await;
        let page = ana.get(&format!("/authorize?{query}")).await;
        let pending = answered(&allow(&mut ana, &page, &query).await)["code"].clone();
        door.world.identity.revoke_all(revocation, by()).await.unwrap();
        assert!(!door.is_good(first.token()), "{what}");
        assert_eq!(door.refresh(&refresh_token(&first), &[]).await.error(), "invalid_grant", "{what}");
        assert_eq!(door.redeem(&pending, &[]).await.error(), "invalid_grant", "{what}: a code that was not redeemed yet");
        if what != "the owner" {
            assert!(
                ana.get(&format!("/authorize?{query}")).await.location.unwrap().starts_with(&door.login.url),
                "{what}: the session is over too"
            );
        }
        door.world.clock.forward(2);
    }

    let code = door.code(&[]).await;
    let first = door.redeem(&door.code(&[]).await, &[]).await;
    door.world.identity.quarantine(bot.clone(), by()).await.unwrap();
    assert_eq!(door.redeem(&code, &[]).await.error(), "unauthorized_client");
    assert_eq!(door.refresh(&refresh_token(&first), &[]).await.error(), "unauthorized_client");
    let (_, page) = door.asked("ana", &query).await;
    assert_eq!(answered(&page)["error"], "access_denied", "an agent in quarantine");
    door.world.identity.release(&bot, by()).await.unwrap();

    // What one person may have at once by one client is bounded: the oldest makes room.
    let (mut ana, page) = door.asked("ana", &query).await;
    let first = door.refresh(&refresh_token(&first), &[]).await;
    door.world.clock.forward(1);
    for _ in 0..32 {
        assert_eq!(allow(&mut ana, &page, &query).await.status, 303);
    }
    let live =
        || door.world.executions.all().into_iter().filter(|execution| !execution.is_revoked() && execution.allowed().is_some()).count();
    assert_eq!(live(), 32);
    assert!(!door.is_good(first.token()), "the first of them");
    let first = door.redeem(&door.code(&[]).await, &[]).await;

    // A client that is declared no more goes on with nothing, whatever it has.
    let first = door.refresh(&refresh_token(&first), &[]).await;
    door.reload("agents/bot.toml", |text| text.replace(&format!("id = \"{}\"", door.id), "id = \"https://localhost/another.json\""));
    assert_eq!(door.refresh(&refresh_token(&first), &[]).await.error(), "invalid_grant");
    let page = Browser::new(&door.origin).get(&format!("/authorize?{query}")).await;
    assert_eq!((page.status, page.location), (400, None));
}

#[tokio::test]
async fn a_client_with_keys_of_its_own_proves_itself_by_them() {
    let key = Key::new();
    let mut jwk = key.jwk();
    jwk["kid"] = json!("c");
    let door = Door::open_with("", &json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [jwk] } })).await;
    let header = json!({ "alg": "ES256", "typ": "client-authentication+jwt", "kid": "c" });
    let code = door.code(&[]).await;
    let by = |assertion: &str, code: String| {
        let (assertion, door) = (assertion.to_owned(), &door);
        async move { door.redeem(&code, &[("client_assertion", &assertion), ("client_assertion_type", CLIENT_ASSERTION)]).await }
    };
    assert_eq!(door.redeem(&code, &[]).await.error(), "invalid_client", "it does not prove itself");
    let claims = || door.world.claims(&door.id);
    for (what, assertion) in [
        ("another's key", Key::new().sign(&header, &claims())),
        ("an agent's assertion", door.world.assertion()),
        ("another audience", key.sign(&header, &patched(claims(), &json!({ "aud": "https://b.example" })))),
        ("another subject", key.sign(&header, &patched(claims(), &json!({ "sub": BOT })))),
        ("no signature", key.sign(&json!({ "alg": "none" }), &claims())),
    ] {
        assert_eq!(by(&assertion, code.clone()).await.error(), "invalid_client", "{what}");
    }
    let assertion = key.sign(&header, &claims());
    let first = by(&assertion, code).await;
    assert_eq!(first.status, 200, "{first:?}");
    let token = refresh_token(&first);
    assert_eq!(door.refresh(&token, &[]).await.error(), "invalid_client");
    let again = [("client_assertion", assertion.as_str()), ("client_assertion_type", CLIENT_ASSERTION)];
    assert_eq!(door.refresh(&token, &again).await.error(), "invalid_client", "an assertion is good once");
    let fresh = key.sign(&header, &claims());
    assert_eq!(door.refresh(&token, &[("client_assertion", &fresh), ("client_assertion_type", CLIENT_ASSERTION)]).await.status, 200);
}

#[tokio::test]
async fn a_client_without_a_document_or_a_key_is_let_in_where_the_operator_says_so_and_its_dangers_are_shown() {
    let door = Door::open().await;
    let client = "[[agent.client]]\nid = \"inspector\"\nname = \"Inspector\"\nissuer = \"people\"\nclaims = { groups = \"staff\" }\nredirect_uris = [\"http://127.0.0.1/cb\"]\n";
    door.reload("agents/plain.toml", |text| text.replace("[agent.credential]", &format!("{client}[agent.credential]")));
    let redirect = ("redirect_uri", "http://127.0.0.1:49152/cb");
    let query = door.query(&[("client_id", "inspector"), redirect]);
    let (mut ana, page) = door.asked("ana", &query).await;
    for said in
        ["“Inspector”", "a program on the machine that you sit at", "127.0.0.1:49152", "Nothing vouches for this client", "bound to no key"]
    {
        assert!(page.text.contains(said), "the page does not say `{said}`:\n{}", page.text);
    }
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("form-action 'self' https: http://127.0.0.1:49152;"));
    let answer = answered(&allow(&mut ana, &page, &query).await);
    assert_eq!(answer["to"], "http://127.0.0.1:49152/cb");
    let form = BTreeMap::from([
        ("grant_type", "authorization_code"),
        ("code", answer["code"].as_str()),
        ("code_verifier", VERIFIER),
        ("client_id", "inspector"),
        redirect,
    ]);
    let first = door.token(form, &[], None).await;
    assert_eq!((first.status, first.body["token_type"].as_str()), (200, Some("Bearer")), "{first:?}");
    assert_eq!(first.claims()["act"]["sub"], "spiffe://acme.example/agent/plain");
    let token = refresh_token(&first);
    let form = |token| BTreeMap::from([("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "inspector")]);
    let second = door.token(form(&token), &[], None).await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(door.token(form(&token), &[], None).await.error(), "invalid_grant");
    assert!(!door.is_good(second.token()), "a used one ends the family, the more where nothing is bound to a key");

    // One client that would be two agents for a person is neither.
    door.reload("agents/other.toml", |text| {
        let client = format!(
            "[[agent.client]]\nid = \"{}\"\nissuer = \"people\"\nclaims = {{ groups = \"staff\" }}\nca_file = \"ca.pem\"\n",
            door.id
        );
        text.replace("[agent.may]", &format!("{client}[agent.may]"))
    });
    let (_, page) = door.asked("ana", &door.query(&[])).await;
    assert!(page.status == 403 && page.text.contains("several agents"), "{}", page.text);
}
