//! People who answer: how they log in, what they are shown, and everything by which somebody else would answer for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_lc_rs::{digest, hmac};
use axum::extract::State;
use axum::routing::post;
use bailiwick_control::fetch::{Fetcher, public_roots};
use bailiwick_control::people::People;
use bailiwick_control::webhook::Teller;
use bailiwick_core::approval::State as Stands;
use bailiwick_core::execution::Execution;
use bailiwick_core::flow::{Carried, Origin, Provenance, Traced};
use bailiwick_core::ledger::Facts;
use bailiwick_core::model::{Answered, Record};
use bailiwick_log::Position;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::*;

/// A login service that gives codes bound to a PKCE challenge, each for one ID token, as RFC 7636 and OpenID Connect say.
pub(super) struct Login {
    pub(super) url: String,
    pub(super) key: Arc<Key>,
    /// By code: the challenge that it was given for, and the ID token that it is worth.
    pub(super) codes: Arc<Mutex<HashMap<String, (String, String)>>>,
    /// How often its metadata was read.
    pub(super) read: Arc<AtomicUsize>,
    /// What the token endpoint was sent.
    pub(super) redeemed: Arc<Mutex<Vec<(String, String)>>>,
}

impl Login {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (key, codes, redeemed) =
            (Arc::new(Key::new()), Arc::<Mutex<HashMap<_, (String, String)>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let metadata = json!({
            "issuer": url, "jwks_uri": format!("{url}/keys"), "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"), "authorization_response_iss_parameter_supported": true,
        });
        let mut jwk = key.jwk();
        jwk["kid"] = json!("k");
        let keys = json!({ "keys": [jwk] });
        let redeem = {
            let (codes, redeemed) = (Arc::clone(&codes), Arc::clone(&redeemed));
            move |headers: http::HeaderMap, body: String| async move {
                let form: BTreeMap<_, _> = body.split('&').filter_map(|pair| pair.split_once('=')).collect();
                let client = headers["authorization"].to_str().unwrap().to_owned();
                redeemed.lock().unwrap().push((client, body.clone()));
                let worth = codes.lock().unwrap().remove(form["code"]);
                let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, form["code_verifier"].as_bytes()));
                match worth.filter(|(expected, _)| *expected == challenge) {
                    Some((_, token)) => (http::StatusCode::OK, axum::Json(json!({ "access_token": "x", "id_token": token }))),
                    None => (http::StatusCode::BAD_REQUEST, axum::Json(json!({ "error": "invalid_grant" }))),
                }
            }
        };
        let read = Arc::new(AtomicUsize::new(0));
        let reading = Arc::clone(&read);
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(move || async move {
                    reading.fetch_add(1, Ordering::SeqCst);
                    axum::Json(metadata)
                }),
            )
            .route("/keys", get(move || async move { axum::Json(keys) }))
            .route("/token", post(redeem));
        serve_on(listener, router);
        Self { url, key, codes, read, redeemed }
    }

    /// A code for the login that `address` begins, worth an ID token of ana that `spoil` has changed.
    pub(super) fn code(&self, world: &World, address: &Address, spoil: impl FnOnce(&mut Value, &mut Value)) -> String {
        let now = world.clock.seconds();
        let (mut header, mut claims) = (
            json!({ "alg": "ES256", "typ": "JWT", "kid": "k" }),
            json!({
                "iss": self.url, "sub": "ana", "aud": "bailiwick", "iat": now, "exp": now + 300, "nonce": address.query["nonce"],
                "email": "ana@acme.example", "email_verified": true, "groups": ["staff", "approvers"],
            }),
        );
        spoil(&mut header, &mut claims);
        let token = self.key.sign(&header, &claims);
        let code = unique();
        self.codes.lock().unwrap().insert(code.clone(), (address.query["code_challenge"].clone(), token));
        code
    }
}

/// Where a browser was sent to log in.
pub(super) struct Address {
    pub(super) query: BTreeMap<String, String>,
}

/// Approvals on a socket, with their login service.
struct Desk {
    world: World,
    login: Login,
    origin: String,
    secrets: tempfile::TempDir,
}

impl Desk {
    async fn open(more: &str) -> Self {
        let login = Login::start().await;
        let secrets = tempfile::tempdir().unwrap();
        secret(&secrets, "login", "s3cret+/=");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = format!(
            "[approvals]\nlisten = \"{address}\"\n{more}\n[approvals.login]\nissuer = \"people\"\nclient_id = \"bailiwick\"\nsecret_file = \"login\"\nclaims = {{ groups = \"approvers\" }}\n"
        );
        let issuers = format!(
            "[[issuer]]\nname = \"idp\"\nissuer = \"https://idp.example\"\n[[issuer]]\nname = \"people\"\nissuer = \"{}\"\n",
            login.url
        );
        let world = World::start_with(&issuers, &settings).await;
        let listen = world.bundle.load().settings.approvals.listen.clone().unwrap();
        let people = People::new(Arc::clone(&world.identity), world.approvals(), secrets.path().to_owned(), listen);
        serve_on(listener, people.router());
        Self { world, login, origin: format!("http://{address}"), secrets }
    }

    /// An execution of `bot`, and its credential.
    async fn execution(&self) -> (Arc<Execution>, String) {
        let reply = self.world.ask(&[("task", "Tell <b>ana</b>")]).await;
        let (_, execution) = self.world.identity.authenticator().read(reply.token(), &self.world.executions, self.world.now()).unwrap();
        (execution, reply.token().to_owned())
    }

    async fn ask(&self) -> Position {
        let (execution, _) = self.execution().await;
        let to = Traced {
            argument: "/to".to_owned(),
            is_within: false,
            provenance: Provenance::Untrusted,
            origin: None,
            may: false,
            contradicts: false,
        };
        self.world.ask_people(&execution, &json!({ "to": unique() }), vec![to]).await
    }

    fn stands(&self, ask: Position) -> Stands {
        self.world.approvals().find(ask).unwrap().1.state(self.world.now())
    }

    fn answers(&self) -> Vec<Answered> {
        let answered = |record| if let Record::Answered(answered) = record { Some(answered) } else { None };
        self.world.records().into_iter().filter_map(answered).collect()
    }

    /// The stage and the code of the newest refusal.
    fn refused(&self) -> (String, String) {
        let refused = self.world.refusals().pop().expect("a refusal is recorded");
        (refused.stage, refused.code)
    }

    /// A browser in which a person is logged in.
    async fn logged_in(&self, subject: &str) -> Browser {
        let mut browser = Browser::new(&self.origin);
        let address = browser.begin("/login").await;
        let code = self.login.code(&self.world, &address, |_, claims| claims["sub"] = json!(subject));
        let reply = browser.come_back(&address, &code, &self.login.url).await;
        assert_eq!((reply.status, reply.location.as_deref()), (303, Some("/approvals")), "{}", reply.text);
        browser
    }
}

pub(super) fn secret(directory: &tempfile::TempDir, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = directory.path().join(name);
    std::fs::write(&file, format!("{text}\n")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A browser: it keeps cookies and follows nothing by itself.
#[derive(Clone)]
pub(super) struct Browser {
    pub(super) origin: String,
    pub(super) cookies: BTreeMap<String, String>,
    /// What it sends besides.
    pub(super) headers: Vec<(&'static str, String)>,
}

pub(super) struct Page {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) headers: http::HeaderMap,
    pub(super) text: String,
}

impl Page {
    /// What the form of the page carries that answers `ask`, or that logs out.
    pub(super) fn form(&self, action: &str) -> String {
        let form = self.text.split_once(&format!("action=\"{action}\"")).expect("the page has the form").1;
        form.split_once("name=\"form\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
    }
}

impl Browser {
    pub(super) fn new(origin: &str) -> Self {
        Self { origin: origin.to_owned(), cookies: BTreeMap::new(), headers: Vec::new() }
    }

    pub(super) async fn get(&mut self, path: &str) -> Page {
        self.send("GET", path, String::new()).await
    }

    pub(super) async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.send("POST", path, body.join("&")).await
    }

    pub(super) async fn send(&mut self, method: &str, path: &str, body: String) -> Page {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.origin));
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (head, body) = client.request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        for cookie in head.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Lax") && cookie.contains("; Path=/;"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = head.headers.get("location").map(|place| place.to_str().unwrap().to_owned());
        Page { status: head.status.as_u16(), location, headers: head.headers, text }
    }

    /// Begins a login.
    pub(super) async fn begin(&mut self, path: &str) -> Address {
        let page = self.get(path).await;
        assert_eq!(page.status, 303, "{}", page.text);
        let place = page.location.unwrap();
        let query = place.split_once('?').unwrap().1.split('&').map(|pair| pair.split_once('=').unwrap());
        Address { query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// Comes back from the login service.
    pub(super) async fn come_back(&mut self, address: &Address, code: &str, issuer: &str) -> Page {
        self.get(&format!("/callback?state={}&code={code}&iss={issuer}", address.query["state"])).await
    }
}

#[tokio::test]
async fn a_person_logs_in_sees_the_call_and_where_its_values_came_from_and_answers() {
    let desk = Desk::open("").await;
    let (execution, _) = desk.execution().await;
    let started = execution.started();
    let shown_by = desk.world.ask_people(&execution, &json!({ "read": "this" }), Vec::new()).await;
    let traced = |argument: &str, provenance, may, origin| Traced {
        argument: argument.to_owned(),
        is_within: false,
        provenance,
        origin,
        may,
        contradicts: false,
    };
    let ask = desk
        .world
        .ask_people_about(
            &execution,
            &json!({ "to": "eve@pаy.example", "cc": "ana@acme.example", "text": "Approve me!</td><script>alert(1)</script>\u{202e}\n\nx" }),
            Facts {
                traced: vec![
                    traced("/to", Provenance::Untrusted, false, Some(Origin { record: Some(shown_by), place: "$.body".into() })),
                    traced("/cc", Provenance::Task, true, None),
                ],
                carried: vec![
                    Carried { argument: "/cc".to_owned(), labels: BTreeSet::new(), origin: None },
                    Carried {
                        argument: "/text".to_owned(),
                        labels: ["custo<mer".into()].into(),
                        origin: Some(Origin { record: Some(shown_by), place: "$.iban".into() }),
                    },
                ],
                ..Facts::default()
            },
        )
        .await;

    // A link leads to the login, and back to what it was for.
    let mut browser = Browser::new(&desk.origin);
    let page = browser.get(&format!("/approvals/{ask}")).await;
    assert_eq!(page.location, Some(format!("/login?to={ask}")));
    let address = browser.begin(&format!("/login?to={ask}")).await;
    assert_eq!((address.query["response_type"].as_str(), address.query["code_challenge_method"].as_str()), ("code", "S256"));
    let code = desk.login.code(&desk.world, &address, |_, _| ());
    let page = browser.come_back(&address, &code, &desk.login.url).await;
    assert_eq!(page.location, Some(format!("/approvals/{ask}")), "{}", page.text);
    let (client, form) = desk.login.redeemed.lock().unwrap().pop().unwrap();
    assert_eq!(client, format!("Basic {}", STANDARD.encode("bailiwick:s3cret%2B%2F%3D")), "the secret goes in the header alone");
    assert!(form.contains("code_verifier=") && !form.contains("s3cret"), "{form}");

    let page = browser.get(&format!("/approvals/{ask}")).await;
    for said in [
        "wants to use <code>crm/query</code>",
        "sends something out",
        "the recipient was not chosen by one who may",
        "eve@pаy.example",
        "U+0430",
        "A third party wrote or chose it, first seen in the result of crm/query (record",
        "at $.body",
        "in the person&#39;s own words",
        "custo&lt;mer · may not leave here",
        &format!("first seen in the result of crm/query (record {shown_by}), at $.iban"),
        "Tell &lt;b&gt;ana&lt;/b&gt;",
        "ana@acme.example (people:ana)",
        "Approve and endorse these values",
        &started.execution.to_string(),
    ] {
        assert!(page.text.contains(said), "the page does not say `{said}`:\n{}", page.text);
    }
    assert!(!page.text.contains("<script") && !page.text.contains('\u{202e}'), "what the agent wrote is text");
    let header = |name: &str| page.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
    assert!(
        header("content-security-policy").contains("default-src 'none'")
            && header("content-security-policy").contains("frame-ancestors 'none'")
    );
    assert_eq!((header("x-frame-options"), header("cache-control"), header("referrer-policy")), ("DENY", "no-store", "same-origin"));
    let list = browser.get("/approvals").await;
    assert!(list.text.contains("2 calls wait") && list.text.contains(&format!("/approvals/{ask}")), "{}", list.text);

    let form = page.form(&format!("/approvals/{ask}"));
    assert_eq!(browser.post(&format!("/approvals/{ask}"), &[("form", &form), ("answer", "endorse")]).await.status, 303);
    let answer = desk.answers().pop().unwrap();
    assert_eq!(
        (answer.ask, answer.approved, answer.endorses, answer.call),
        (ask, true, true, desk.world.approvals().find(ask).unwrap().1.call)
    );
    assert_eq!(
        (answer.by.issuer.as_str(), answer.by.subject.as_str(), answer.by.name.as_deref()),
        ("people", "ana", Some("ana@acme.example"))
    );
    assert_eq!(desk.stands(ask), Stands::Approved);
    let page = browser.get(&format!("/approvals/{ask}")).await;
    assert!(page.text.contains("approved it") && !page.text.contains("Your answer"), "{}", page.text);

    let log_out = page.form("/logout");
    assert_eq!(browser.post("/logout", &[("form", &log_out)]).await.status, 200);
    assert_eq!(browser.get("/approvals").await.location.as_deref(), Some("/login"));
    assert!(!desk.world.log_text().contains("s3cret"), "a secret is on the log");
}

#[tokio::test]
async fn a_login_that_was_begun_elsewhere_took_too_long_or_was_finished_logs_nobody_in() {
    let desk = Desk::open("").await;
    let issuer = desk.login.url.clone();
    let refused = async |browser: &mut Browser, address: &Address, code: &str, what: &str, expected: &str| {
        let page = browser.come_back(address, code, &issuer).await;
        assert_eq!(page.status, 403, "{what}");
        assert!(!browser.cookies.contains_key("bailiwick-session"), "{what}");
        assert_eq!(desk.refused(), ("login".to_owned(), expected.to_owned()), "{what}");
    };

    let mut attacker = Browser::new(&desk.origin);
    let theirs = attacker.begin("/login").await;
    let code = desk.login.code(&desk.world, &theirs, |_, _| ());
    let mut victim = Browser::new(&desk.origin);
    refused(&mut victim, &theirs, &code, "a login begun in another browser", "invalid_state").await;
    victim.begin("/login").await;
    refused(&mut victim, &theirs, &code, "the state of another browser", "invalid_state").await;
    let mut own = victim.begin("/login").await;
    own.query.insert("state".to_owned(), "guessed".to_owned());
    refused(&mut victim, &own, &code, "a guessed state", "invalid_state").await;
    let own = victim.begin("/login").await;
    refused(&mut victim, &own, &code, "a code of another login, which PKCE tells apart", "login_refused").await;
    for forged in ["", "x", "x.y", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let own = victim.begin("/login").await;
        victim.cookies.insert("bailiwick-login".to_owned(), forged.to_owned());
        refused(&mut victim, &own, &code, "a forged cookie", "invalid_state").await;
    }
    let own = victim.begin("/login").await;
    let late = desk.login.code(&desk.world, &own, |_, _| ());
    desk.world.clock.forward(601);
    refused(&mut victim, &own, &late, "a login that took too long", "invalid_state").await;

    let own = victim.begin("/login").await;
    let code = desk.login.code(&desk.world, &own, |_, _| ());
    let before = victim.clone();
    assert_eq!(victim.come_back(&own, &code, &issuer).await.status, 303);
    refused(&mut before.clone(), &own, &code, "the same answer again", "invalid_state").await;
    let another = desk.login.code(&desk.world, &own, |_, _| ());
    refused(&mut before.clone(), &own, &another, "another code for a finished login", "invalid_state").await;
    let mut again = Browser::new(&desk.origin);
    let fresh = again.begin("/login").await;
    refused(&mut again, &fresh, &code, "a code that was used", "login_refused").await;
    let fresh = again.begin("/login").await;
    assert_eq!(again.get(&format!("/callback?state={}&error=access_denied&iss={issuer}", fresh.query["state"])).await.status, 403);
    assert_eq!(desk.refused().1, "login_refused");
    // Once in each ten minutes for where people log in, and once for its keys.
    assert_eq!(desk.login.read.load(Ordering::SeqCst), 3, "the login service is asked as often as anybody likes");
}

#[tokio::test]
async fn where_there_is_tls_cookies_belong_to_this_very_host_and_never_go_without_it() {
    let desk = Desk::open("").await;
    let mut listen = desk.world.bundle.load().settings.approvals.listen.clone().unwrap();
    "https://approvals.acme.example".clone_into(&mut listen.origin);
    let people = People::new(Arc::clone(&desk.world.identity), desk.world.approvals(), desk.secrets.path().to_owned(), listen);
    let mut browser = Browser::new(&format!("http://{}", serve(people.router()).await));
    browser.headers = vec![("host", "approvals.acme.example".to_owned())];
    let page = browser.get("/login").await;
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-bailiwick-login=") && cookie.ends_with("; Secure") && !cookie.contains("Domain"), "{cookie}");
    assert!(page.headers.contains_key("strict-transport-security"));
    assert!(page.location.unwrap().contains("redirect_uri=https%3A%2F%2Fapprovals.acme.example%2Fcallback"));
}

#[tokio::test]
async fn an_id_token_that_does_not_hold_logs_nobody_in() {
    let desk = Desk::open("").await;
    let now = desk.world.clock.seconds();
    type Spoil = Box<dyn Fn(&mut Value, &mut Value)>;
    let claim = |name: &'static str, value: Value| -> Spoil { Box::new(move |_, claims| claims[name] = value.clone()) };
    let header = |name: &'static str, value: Value| -> Spoil { Box::new(move |header, _| header[name] = value.clone()) };
    for (what, spoil, code) in [
        ("another nonce", claim("nonce", json!("another")), "invalid_token"),
        ("no nonce", claim("nonce", Value::Null), "invalid_token"),
        ("another audience", claim("aud", json!("https://b.example")), "invalid_token"),
        ("a second audience", claim("aud", json!(["bailiwick", "b"])), "invalid_token"),
        ("another party", claim("azp", json!("b")), "invalid_token"),
        ("another issuer", claim("iss", json!("https://b.example")), "invalid_token"),
        ("no person", claim("sub", json!("")), "invalid_token"),
        ("a person whose name hides", claim("sub", json!("ana\u{202e}")), "invalid_token"),
        ("a time that is over", claim("exp", json!(now - 31)), "invalid_token"),
        ("an old one", claim("iat", json!(now - 400)), "invalid_token"),
        ("one of tomorrow", claim("iat", json!(now + 400)), "invalid_token"),
        ("an unknown key", header("kid", json!("other")), "invalid_token"),
        ("no signature", header("alg", json!("none")), "invalid_token"),
        ("a symmetric signature", header("alg", json!("HS256")), "invalid_token"),
        ("an access token", header("typ", json!("at+jwt")), "invalid_token"),
        ("no groups", claim("groups", Value::Null), "not_an_approver"),
        ("other groups", claim("groups", json!(["staff"])), "not_an_approver"),
        ("a group that begins so", claim("groups", json!(["approvers2", "approver"])), "not_an_approver"),
    ] {
        // So many of one peer are recorded one by one in a second.
        desk.world.clock.forward(1);
        let mut browser = Browser::new(&desk.origin);
        let address = browser.begin("/login").await;
        let given = desk.login.code(&desk.world, &address, spoil);
        let page = browser.come_back(&address, &given, &desk.login.url).await;
        assert_eq!((page.status, desk.refused()), (403, ("login".to_owned(), code.to_owned())), "{what}: {}", page.text);
        assert_eq!(browser.get("/approvals").await.location.as_deref(), Some("/login"), "{what}");
    }
    // Signed by a key that is not the issuer's, under the name of one that is.
    let mut browser = Browser::new(&desk.origin);
    let address = browser.begin("/login").await;
    let forged = Key::new().sign(
        &json!({ "alg": "ES256", "typ": "JWT", "kid": "k" }),
        &json!({ "iss": desk.login.url, "sub": "ana", "aud": "bailiwick", "iat": now, "exp": now + 300, "nonce": address.query["nonce"], "groups": ["approvers"] }),
    );
    desk.login.codes.lock().unwrap().insert("forged".to_owned(), (address.query["code_challenge"].clone(), forged));
    assert_eq!(browser.come_back(&address, "forged", &desk.login.url).await.status, 403);
    assert_eq!(desk.refused().1, "invalid_token");
    // An answer that another issuer gave, or that hides who gave it (mix-up, RFC 9207).
    for from in ["&iss=https://b.example", ""] {
        let address = browser.begin("/login").await;
        let code = desk.login.code(&desk.world, &address, |_, _| ());
        assert_eq!(browser.get(&format!("/callback?state={}&code={code}{from}", address.query["state"])).await.status, 403);
        assert_eq!(desk.refused().1, "login_refused");
        assert!(desk.login.codes.lock().unwrap().contains_key(&code), "the code was given away");
    }
}

#[tokio::test]
async fn a_form_answers_nothing_in_another_session_for_another_ask_or_from_another_page() {
    let desk = Desk::open("").await;
    let (ask, other) = (desk.ask().await, desk.ask().await);
    let (mut ana, mut bo) = (desk.logged_in("ana").await, desk.logged_in("bo").await);
    let place = format!("/approvals/{ask}");
    let form = ana.get(&place).await.form(&place);
    let for_other = bo.get(&format!("/approvals/{other}")).await.form(&format!("/approvals/{other}"));

    for (browser, given, what) in
        [(&bo, form.as_str(), "the form of another's session"), (&bo, for_other.as_str(), "the form of another ask"), (&ana, "", "no form")]
    {
        assert_eq!(browser.clone().post(&place, &[("form", given), ("answer", "approve")]).await.status, 403, "{what}");
        assert_eq!(desk.refused(), ("approve".to_owned(), "invalid_form".to_owned()), "{what}");
    }
    assert_eq!(ana.get(&format!("{place}?form={form}&answer=approve")).await.status, 200, "a GET changes nothing");
    let mut nobody = Browser::new(&desk.origin);
    assert_eq!(nobody.post(&place, &[("form", &form), ("answer", "approve")]).await.status, 403);
    assert_eq!(desk.refused().1, "no_session");
    let mut elsewhere = ana.clone();
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example")] {
        elsewhere.headers = vec![(name, value.to_owned())];
        assert_eq!(elsewhere.post(&place, &[("form", &form), ("answer", "approve")]).await.status, 403, "{name}: {value}");
    }
    assert!(desk.answers().is_empty() && desk.stands(ask) == Stands::Pending);

    // The session ends by itself; its form goes with it.
    desk.world.clock.forward(1_801);
    assert_eq!(ana.post(&place, &[("form", &form), ("answer", "approve")]).await.status, 403);
    assert_eq!(desk.refused().1, "no_session");
    assert!(desk.answers().is_empty());
}

#[tokio::test]
async fn who_may_not_answer_or_comes_late_or_second_changes_nothing() {
    let desk = Desk::open("approver = \"not-subject\"").await;
    let ask = desk.ask().await;
    let (mut ana, mut bo) = (desk.logged_in("ana").await, desk.logged_in("bo").await);
    let answer = async |browser: &mut Browser, ask: Position, answer: &str| {
        let place = format!("/approvals/{ask}");
        let form = browser.get(&place).await.form(&place);
        browser.post(&place, &[("form", &form), ("answer", answer)]).await.status
    };
    // Both have the form before either answers.
    let place = format!("/approvals/{ask}");
    let held = bo.get(&place).await.form(&place);
    assert_eq!(answer(&mut ana, ask, "refuse").await, 303);
    assert_eq!(bo.post(&place, &[("form", &held), ("answer", "approve")]).await.status, 409);
    assert_eq!((desk.refused().1.as_str(), desk.stands(ask)), ("answered_already", Stands::Refused));

    let late = desk.ask().await;
    let place = format!("/approvals/{late}");
    let form = ana.get(&place).await.form(&place);
    desk.world.clock.forward(901);
    assert_eq!(ana.post(&place, &[("form", &form), ("answer", "approve")]).await.status, 409);
    assert_eq!(desk.refused().1, "ask_expired");
    assert_eq!(desk.answers().len(), 1);
}

#[tokio::test]
async fn the_person_for_whom_an_agent_acts_cannot_answer_where_the_bundle_says_so() {
    let desk = Desk::open("approver = \"not-subject\"").await;
    // The agent acts for ana, as the same issuer says.
    let now = desk.world.clock.seconds();
    let subject = desk.login.key.sign(
        &json!({ "alg": "ES256", "typ": "JWT", "kid": "k" }),
        &json!({ "iss": desk.login.url, "sub": "ana", "azp": "bot", "aud": ISSUER, "iat": now, "exp": now + 300 }),
    );
    let reply = desk.world.ask(&[("grant_type", EXCHANGE), ("subject_token", &subject), ("subject_token_type", JWT)]).await;
    let (_, execution) = desk.world.identity.authenticator().read(reply.token(), &desk.world.executions, desk.world.now()).unwrap();
    assert_eq!(execution.started().subject.as_deref(), Some("people:ana"));
    let ask = desk.world.ask_people(&execution, &json!({}), Vec::new()).await;
    let place = format!("/approvals/{ask}");
    let mut ana = desk.logged_in("ana").await;
    let form = ana.get(&place).await.form(&place);
    assert_eq!(ana.post(&place, &[("form", &form), ("answer", "approve")]).await.status, 409);
    assert_eq!(desk.refused(), ("approve".to_owned(), "not_yours".to_owned()));
    assert_eq!(desk.stands(ask), Stands::Pending);
    let mut bo = desk.logged_in("bo").await;
    let form = bo.get(&place).await.form(&place);
    assert_eq!(bo.post(&place, &[("form", &form), ("answer", "approve")]).await.status, 303);
    assert_eq!(desk.stands(ask), Stands::Approved);
}

#[tokio::test]
async fn an_execution_hears_how_its_own_asks_stand_and_of_no_others() {
    let desk = Desk::open("valid = \"1m\"").await;
    let (execution, token) = desk.execution().await;
    let ask = desk.world.ask_people(&execution, &json!({ "to": "a" }), Vec::new()).await;
    let foreign = desk.ask().await;
    let world = &desk.world;
    let call = async |method: &str, path: &str, body: &str, address: &str| {
        let proof = world.proof_with(|_, claims| {
            claims["htm"] = json!(method);
            claims["htu"] = json!(address);
            claims["ath"] = json!(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes())));
        });
        let mut browser = Browser::new(&desk.origin);
        browser.headers = vec![("authorization", format!("DPoP {token}")), ("dpop", proof)];
        let page = browser.send(method, path, body.to_owned()).await;
        (page.status, serde_json::from_str::<Value>(&page.text).unwrap(), page.headers)
    };
    let own = |path: &str| format!("{}{path}", desk.origin);
    let (all, one) = ("/access/v1/requests".to_owned(), format!("/access/v1/requests/{ask}"));

    let (status, body, headers) =
        call("POST", &all, &json!({ "denial": { "evaluation_id": ask.0.to_string() } }).to_string(), &own(&all)).await;
    assert_eq!((status, &body["task"]["status"], headers["retry-after"].to_str().unwrap()), (202, &json!("pending"), "5"), "{body}");
    assert_eq!(body["task"]["status_endpoint"], json!(own(&one)));
    assert_eq!(body["task"]["links"]["review"], json!(own(&format!("/approvals/{ask}"))));
    for denial in [json!({}), json!({ "denial": { "evaluation_id": foreign.0.to_string() } }), json!({ "denial": { "evaluation_id": 5 } })]
    {
        let (status, body, _) = call("POST", &all, &denial.to_string(), &own(&all)).await;
        let kind = "urn:openid:authzen:access-request:error:invalid_denial_binding";
        assert_eq!((status, body["type"].as_str()), (400, Some(kind)), "{denial}");
    }
    let (status, body, _) =
        call("GET", &format!("/access/v1/requests/{foreign}"), "", &own(&format!("/access/v1/requests/{foreign}"))).await;
    assert_eq!((status, body["type"].as_str()), (404, Some("urn:openid:authzen:access-request:error:unknown_task")));

    let mut ana = desk.logged_in("ana").await;
    let place = format!("/approvals/{ask}");
    let form = ana.get(&place).await.form(&place);
    assert_eq!(ana.post(&place, &[("form", &form), ("answer", "approve")]).await.status, 303);
    let (status, body, headers) = call("GET", &one, "", &own(&one)).await;
    let approval = &body["task"]["result"]["approval"];
    assert_eq!((status, &body["task"]["status"], &approval["state"]), (200, &json!("approved"), &json!("active")), "{body}");
    assert!(!headers.contains_key("retry-after") && approval["approved_until"].is_string());
    world.clock.forward(61);
    let (_, body, _) = call("GET", &one, "", &own(&one)).await;
    assert_eq!((&body["task"]["status"], body["task"].get("result")), (&json!("expired"), None));

    // A credential alone, or with a proof for another address, is nobody's.
    let (status, _, headers) = call("GET", &one, "", "http://b.example/access/v1/requests/1").await;
    assert!(status == 401 && headers.contains_key("dpop-nonce"));
    assert_eq!(desk.refused(), ("access".to_owned(), "invalid_dpop_proof".to_owned()));
    assert_eq!(Browser::new(&desk.origin).get(&one).await.status, 401);
    assert_eq!(ana.get(&one).await.status, 401, "a person's session is no execution's credential");
}

#[tokio::test]
async fn each_ask_and_each_answer_is_told_signed_and_again_until_it_is_heard() {
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    let heard = tokio::sync::watch::Sender::new(Vec::<(http::HeaderMap, Bytes)>::new());
    let receiver = Router::new()
        .route(
            "/hook",
            post(|State(heard): State<tokio::sync::watch::Sender<Vec<_>>>, headers: http::HeaderMap, body: Bytes| async move {
                heard.send_modify(|heard| heard.push((headers, body)));
                // The first time it does not listen.
                if heard.borrow().len() == 1 { http::StatusCode::SERVICE_UNAVAILABLE } else { http::StatusCode::NO_CONTENT }
            }),
        )
        .with_state(heard.clone());
    let hook = serve(receiver).await;
    let directory = tempfile::tempdir().unwrap();
    secret(&directory, "hook", &format!("whsec_{}", STANDARD.encode(SECRET)));
    let world = World::start_with("", &format!("[approvals.webhook]\nurl = \"http://{hook}/hook\"\nsecret_file = \"hook\"\n")).await;
    let reply = world.ask(&[]).await;
    let (_, execution) = world.identity.authenticator().read(reply.token(), &world.executions, world.now()).unwrap();
    // Asked before anybody was there to tell, as before a restart.
    let ask = world.ask_people(&execution, &json!({ "to": "secret@b.example" }), Vec::new()).await;
    let teller = Teller::new(&world.approvals(), directory.path().to_owned(), Fetcher::new(public_roots()).unwrap());
    let telling = tokio::spawn(teller.tell());
    let by = bailiwick_core::model::Person { issuer: "people".to_owned(), subject: "ana".to_owned(), name: None };
    let mut heard = heard.subscribe();
    heard.wait_for(|heard| !heard.is_empty()).await.unwrap();
    world.approvals().answer(ask, bailiwick_control::approvals::Answer::Refuse, by).await.unwrap();
    heard.wait_for(|heard| heard.len() >= 3).await.unwrap();
    telling.abort();

    let heard = heard.borrow();
    let mut told = BTreeMap::<String, Vec<Value>>::new();
    for (headers, body) in heard.iter() {
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        let signed = format!("{}.{}.{}", text("webhook-id"), text("webhook-timestamp"), std::str::from_utf8(body).unwrap());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
        assert_eq!(text("webhook-signature"), format!("v1,{}", STANDARD.encode(tag)));
        assert!(!signed.contains("secret@b.example"), "arguments are not told");
        told.entry(text("webhook-id")).or_default().push(serde_json::from_slice(body).unwrap());
    }
    let of = |kind: &str| told.values().find(|told| told[0]["type"] == kind).unwrap();
    let (requested, answered) = (of("approval.requested"), of("approval.answered"));
    assert_eq!((requested.len(), answered.len()), (2, 1), "the one that was not heard came again under its own id");
    assert_eq!((&requested[0]["data"]["ask"], &requested[0]["data"]["tool"]), (&json!(ask), &json!("crm/query")));
    assert_eq!((&answered[0]["data"]["approved"], &answered[0]["data"]["by"]["subject"]), (&json!(false), &json!("ana")));
}
