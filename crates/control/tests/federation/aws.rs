//! AWS: signed requests for `GetCallerIdentity`, before an STS of the test's own that knows one session and keeps what it was sent. That
//! real credentials and real signing work is shown with moto and botocore by `cargo xtask test`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};

use super::support::*;
use super::vouch::patched;

const AWS_CLIENT: &str = "urn:bailiwick:params:oauth:client-assertion-type:aws4_request";

/// What the STS answers, and what it was sent.
struct Sts {
    url: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    sent: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

fn identity(arn: &str, user_id: &str, account: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <GetCallerIdentityResult>\n    \
         <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  \
         <ResponseMetadata><RequestId>01234567-89ab</RequestId></ResponseMetadata>\n</GetCallerIdentityResponse>\n"
    )
}

fn session() -> String {
    identity("arn:aws:sts::111122223333:assumed-role/bot/run-7", "AROAEXAMPLE:run-7", "111122223333")
}

impl Sts {
    async fn start() -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, session())));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (answers, keeps) = (Arc::clone(&answer), Arc::clone(&sent));
        let router = Router::new().route(
            "/",
            post(async move |headers: HeaderMap, body: Bytes| {
                keeps.lock().unwrap().push((headers, body));
                let (status, text) = answers.lock().unwrap().clone();
                (status, [("content-type", "text/xml"), ("location", "/")], text).into_response()
            }),
        );
        Self { url: format!("http://{}", serve(router).await), answer, sent }
    }

    fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    async fn world(&self) -> World {
        let issuers = format!(
            "[[issuer]]\nname = \"aws\"\nissuer = \"https://sts.eu-central-1.amazonaws.com\"\naccount = \"111122223333\"\nendpoint = \"{}\"\n",
            self.url
        );
        let federation = "[[agent.federation]]\nissuer = \"aws\"\nclaims = { role = \"bot\", role_id = \"AROAEXAMPLE\" }\n";
        World::federated(&issuers, federation, "").await
    }

    /// A request as botocore signs it; the signature is not looked at but by AWS.
    fn request(&self, world: &World) -> Value {
        let at = world.now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let serial: u64 = unique().trim_start_matches("id-").parse().unwrap();
        json!({
            "url": format!("{}/", self.url), "method": "POST", "body": "Action=GetCallerIdentity&Version=2011-06-15",
            "headers": {
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "Host": self.authority(), "X-Amz-Date": at,
                "X-Amz-Security-Token": "IQoJb3JpZ2luX2VjE", "X-Bailiwick-Audience": ISSUER,
                "Authorization": format!(
                    "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/{}/eu-central-1/sts/aws4_request, \
                     SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-bailiwick-audience, Signature={serial:064x}",
                    &at[..8]
                ),
            },
        })
    }
}

async fn shows(world: &World, request: &Value) -> Reply {
    let text = request.to_string();
    let form = [("grant_type", "client_credentials"), ("client_assertion_type", AWS_CLIENT), ("client_assertion", text.as_str())];
    world.post("/token", &form, Some(&world.proof())).await
}

#[tokio::test]
async fn a_signed_request_proves_the_role_whose_session_signed_it_once() {
    let sts = Sts::start().await;
    let world = sts.world().await;
    let request = sts.request(&world);
    let reply = shows(&world, &request).await;
    assert_eq!((reply.status, reply.claims()["client_id"].as_str()), (200, Some(BOT)), "{:?}", world.refusals());
    let Some(bailiwick_core::model::Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
    assert_eq!(started.proof, "federation aws arn:aws:sts::111122223333:assumed-role/bot/run-7");
    {
        let sent = sts.sent.lock().unwrap();
        let (headers, body) = &sent[0];
        assert_eq!((sent.len(), &body[..]), (1, &b"Action=GetCallerIdentity&Version=2011-06-15"[..]));
        for name in ["authorization", "x-amz-date", "x-amz-security-token", "x-bailiwick-audience", "host"] {
            let signed = request["headers"].as_object().unwrap().iter().find(|(signed, _)| signed.eq_ignore_ascii_case(name)).unwrap();
            assert_eq!(headers[name], signed.1.as_str().unwrap(), "{name} is sent as it was signed");
        }
    }
    assert_eq!(shows(&world, &request).await.error(), "invalid_client", "a second time");
    assert!(world.refusals().pop().unwrap().detail.contains("used before"));

    // As the actor of an exchange.
    let first = shows(&world, &sts.request(&world)).await;
    let actor = sts.request(&world).to_string();
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token", first.token()),
        ("subject_token_type", ACCESS_TOKEN),
        ("actor_token", actor.as_str()),
        ("actor_token_type", "urn:ietf:params:aws:token-type:aws4_request"),
    ];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.status, 200);
    assert!(!world.log_text().contains("IQoJb3JpZ2luX2VjE"), "the session token is on the log");

    // What was signed before the service was started may have been used before.
    let old = sts.request(&world);
    let world = sts.world().await;
    world.clock.forward(-1);
    let old = patched(old, &json!({ "headers": { "X-Amz-Date": world.now().strftime("%Y%m%dT%H%M%SZ").to_string() } }));
    world.clock.forward(1);
    assert_eq!(shows(&world, &old).await.error(), "invalid_client");
    assert!(world.refusals().pop().unwrap().detail.contains("before the service was started"));
}

#[tokio::test]
async fn a_request_that_asks_for_anything_else_is_not_sent() {
    let sts = Sts::start().await;
    let world = sts.world().await;
    let right = sts.request(&world);
    let authorization = right["headers"]["Authorization"].as_str().unwrap().to_owned();
    let with = |from: &str, to: &str| json!({ "headers": { "Authorization": authorization.replace(from, to) } });
    let at = |seconds: i64| {
        let at = bailiwick_core::model::Timestamp::from_second(world.clock.seconds() + seconds).unwrap();
        json!({ "headers": { "X-Amz-Date": at.strftime("%Y%m%dT%H%M%SZ").to_string() } })
    };
    for (case, patch) in [
        ("another host", json!({ "url": "https://sts.eu-west-1.amazonaws.com/" })),
        ("a host of the attacker's", json!({ "url": "https://sts.eu-central-1.amazonaws.com.evil.example/" })),
        ("a user before the host", json!({ "url": format!("http://evil@{}/", sts.authority()) })),
        ("an inner address", json!({ "url": "http://169.254.169.254/latest/meta-data" })),
        ("a path", json!({ "url": format!("{}/x", sts.url) })),
        ("a query", json!({ "url": format!("{}/?Action=GetSessionToken", sts.url) })),
        ("a fragment", json!({ "url": format!("{}/#", sts.url) })),
        ("two slashes", json!({ "url": format!("{}//", sts.url) })),
        ("another method", json!({ "method": "GET" })),
        ("another action", json!({ "body": "Action=GetSessionToken&Version=2011-06-15" })),
        ("more in the body", json!({ "body": "Action=GetCallerIdentity&Version=2011-06-15&Action=GetSessionToken" })),
        ("no body", json!({ "body": null })),
        ("a member more", json!({ "more": "x" })),
        ("another Host", json!({ "headers": { "Host": "sts.eu-west-1.amazonaws.com" } })),
        ("a header that is not known", json!({ "headers": { "X-Forwarded-Host": "x" } })),
        ("a header twice", json!({ "headers": { "x-bailiwick-audience": ISSUER } })),
        ("a header with a second line", json!({ "headers": { "Content-Type": "a\r\nHost: x" } })),
        ("a header with space around", json!({ "headers": { "X-Bailiwick-Audience": format!(" {ISSUER}") } })),
        ("a header that is no text", json!({ "headers": { "Content-Type": 5 } })),
        ("for another audience", json!({ "headers": { "X-Bailiwick-Audience": "https://other.example" } })),
        ("for no audience", json!({ "headers": { "X-Bailiwick-Audience": null } })),
        ("an audience that is not signed", with(";x-bailiwick-audience,", ",")),
        ("a host that is not signed", with("content-type;host;", "content-type;")),
        ("a date that is not signed", with("x-amz-date;", "")),
        ("a session token that is not signed", with("x-amz-security-token;", "")),
        ("a signed header that is not there", with("SignedHeaders=content-type;", "SignedHeaders=content-type;x-extra;")),
        ("another service", with("/sts/", "/iam/")),
        ("another region", with("/eu-central-1/", "/us-east-1/")),
        ("another algorithm", with("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")),
        ("a signature that is none", with("Signature=0", "Signature=X")),
        ("a signature that is too short", with("Signature=00", "Signature=")),
        ("a date of another day than its scope", with("/20", "/19")),
        ("no authorization", json!({ "headers": { "Authorization": null } })),
        ("an old one", at(-302)),
        ("one of the future", at(90)),
        ("a date that is none", json!({ "headers": { "X-Amz-Date": "yesterday" } })),
    ] {
        let reply = shows(&world, &patched(right.clone(), &patch)).await;
        assert_eq!(reply.error(), "invalid_client", "{case}");
        world.clock.forward(1);
    }
    for text in ["", "{}", "[]", "x", "{\"url\": 5}"] {
        let form = [("grant_type", "client_credentials"), ("client_assertion_type", AWS_CLIENT), ("client_assertion", text)];
        assert!(world.post("/token", &form, Some(&world.proof())).await.error().starts_with("invalid_"), "{text}");
    }
    let twice = right.to_string().replacen("\"method\"", "\"url\":\"http://evil.example/\",\"method\"", 1);
    let form = [("grant_type", "client_credentials"), ("client_assertion_type", AWS_CLIENT), ("client_assertion", twice.as_str())];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.error(), "invalid_client", "a member twice");
    assert!(sts.sent.lock().unwrap().is_empty(), "nothing of it was sent");
    // An STS is no maker of tokens, whatever a token says.
    let token = world.device.sign(
        &json!({ "alg": "ES256", "kid": "a" }),
        &json!({ "iss": "https://sts.eu-central-1.amazonaws.com", "sub": "x", "aud": ISSUER, "exp": world.clock.seconds() + 60 }),
    );
    assert_eq!(super::by_workload(&world, &token).await.error(), "invalid_grant");
    let detail = world.refusals().pop().unwrap().detail;
    assert!(detail.contains("no issuer of that name"), "{detail}");
}

#[tokio::test]
async fn an_answer_that_does_not_say_a_session_of_the_accounts_role_proves_nobody() {
    let sts = Sts::start().await;
    let world = sts.world().await;
    let other = |answer: &str| (StatusCode::OK, answer.to_owned());
    for (case, answer) in [
        ("another role", other(&identity("arn:aws:sts::111122223333:assumed-role/other/run-7", "AROAEXAMPLE:run-7", "111122223333"))),
        (
            "another role of that name",
            other(&identity("arn:aws:sts::111122223333:assumed-role/bot/run-7", "AROAOTHER:run-7", "111122223333")),
        ),
        ("another account", other(&identity("arn:aws:sts::444455556666:assumed-role/bot/run-7", "AROAEXAMPLE:run-7", "444455556666"))),
        (
            "an account that its ARN does not say",
            other(&identity("arn:aws:sts::444455556666:assumed-role/bot/run-7", "AROAEXAMPLE:run-7", "111122223333")),
        ),
        (
            "a session that its id does not say",
            other(&identity("arn:aws:sts::111122223333:assumed-role/bot/run-7", "AROAEXAMPLE:run-8", "111122223333")),
        ),
        ("a role and no session", other(&identity("arn:aws:iam::111122223333:role/bot", "AROAEXAMPLE", "111122223333"))),
        ("a user", other(&identity("arn:aws:iam::111122223333:user/bot", "AIDAEXAMPLE", "111122223333"))),
        ("the root", other(&identity("arn:aws:iam::111122223333:root", "111122223333", "111122223333"))),
        (
            "a role whose name has a path",
            other(&identity("arn:aws:sts::111122223333:assumed-role/x/bot/run-7", "AROAEXAMPLE:run-7", "111122223333")),
        ),
        ("nobody", other(&identity("", "", ""))),
        ("no XML", other("{}")),
        ("another answer", other("<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"/>")),
        ("two at once", other(&format!("{}{}", session(), session()))),
        ("a document type", other(&format!("<!DOCTYPE x>{}", session()))),
        ("without end", other(&"x".repeat(300 << 10))),
        ("refused", (StatusCode::FORBIDDEN, session())),
        ("another success", (StatusCode::ACCEPTED, session())),
        ("elsewhere", (StatusCode::TEMPORARY_REDIRECT, session())),
    ] {
        *sts.answer.lock().unwrap() = answer;
        assert_eq!(shows(&world, &sts.request(&world)).await.error(), "invalid_client", "{case}");
        world.clock.forward(1);
    }
    assert_eq!(sts.sent.lock().unwrap().len(), 18, "each was sent once, and no redirect followed");
    *sts.answer.lock().unwrap() = (StatusCode::OK, session());
    assert_eq!(shows(&world, &sts.request(&world)).await.status, 200);
}
