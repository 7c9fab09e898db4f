//! What an operator does while the program runs: over the admin socket, and by the passing of time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[cfg(test)]
mod support;

use std::sync::Arc;

use bailiwick_control::admin::{Admin, Operator};
use bailiwick_control::bundle::{Directory, Loader};
use bailiwick_control::issuer::{Issuer, KeyFiles};
use bailiwick_control::respond::Responding;
use bailiwick_core::detect::finding::{About, Detector, Evidence, Finding, Kind, Proof, Response};
use bailiwick_core::detect::respond::Responder;
use bailiwick_core::flow::{Origin, Provenance, Traced};
use bailiwick_core::identity::{AccessToken, Algorithm};
use bailiwick_core::model::{self as core, Clock, Found, Person, Record, ResponseEnd};
use bailiwick_log::{FollowError, Follower, Position, Recorded, Storage as _, follow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use support::*;
use tokio::net::{UnixListener, UnixStream};

/// An admin socket over `world`.
struct Socket {
    directory: tempfile::TempDir,
}

impl Socket {
    fn open(world: &World) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in &world.sources {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let loader = Loader::new(
            Directory::new(directory.path()),
            Vec::new(),
            Arc::clone(&world.bundle),
            world.log.clone(),
            clock,
            Box::new(|_| ()),
        );
        let admin = Admin { identity: Arc::clone(&world.identity), loader: Arc::new(loader), approvals: world.approvals() };
        let router =
            admin.router().layer(axum::Extension(Operator(Person { issuer: "unix".to_owned(), subject: "ops".to_owned(), name: None })));
        let listener = UnixListener::bind(directory.path().join("admin.sock")).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { directory }
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let stream = UnixStream::connect(self.directory.path().join("admin.sock")).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri(path).header("host", "admin");
        let reply = sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await.unwrap();
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn an_operator_sees_what_people_are_asked_and_answers_as_the_user_at_the_socket() {
    let world = World::start("").await;
    let socket = Socket::open(&world);
    let reply = world.ask(&[("task", "Mail ana the report")]).await;
    let (_, execution) = world.identity.authenticator().read(reply.token(), &world.executions, world.now()).unwrap();
    let seen = world.log.append(core::Started { at: world.now(), version: "x".to_owned(), bundle: world.bundle.load().digest });
    let origin = Origin { record: Some(seen.await.unwrap().position()), place: "$.body".into() };
    let traced = |may| Traced {
        argument: "/to".to_owned(),
        is_within: false,
        provenance: Provenance::Untrusted,
        origin: Some(origin.clone()),
        may,
        contradicts: false,
    };
    let first = world.ask_people(&execution, &json!({ "to": "eve@b.example", "text": "hello" }), vec![traced(false)]).await;
    let second = world.ask_people(&execution, &json!({ "to": "bo@b.example" }), Vec::new()).await;

    let (_, listed) = socket.send("GET", "/api/v1/approvals?state=pending", "").await;
    assert_eq!(
        listed["approvals"].as_array().unwrap().iter().map(|ask| ask["id"].clone()).collect::<Vec<_>>(),
        [json!(second), json!(first)]
    );
    let (_, shown) = socket.send("GET", &format!("/api/v1/approvals/{first}"), "").await;
    assert_eq!((&shown["agent"], &shown["tool"], &shown["arguments"]["to"]), (&json!("bot"), &json!("crm/query"), &json!("eve@b.example")));
    assert_eq!((&shown["task"], &shown["because"]), (&json!("Mail ana the report"), &json!("the recipient was not chosen by one who may")));
    let to = shown["values"].as_array().unwrap().iter().find(|value| value["argument"] == "/to").unwrap();
    let chosen = &to["chosen"][0];
    assert_eq!((&chosen["provenance"], &chosen["may"], &chosen["place"]), (&json!("untrusted"), &json!(false), &json!("$.body")));
    let (_, seen) = socket.send("GET", &format!("/api/v1/executions/{}", execution.id()), "").await;
    assert_eq!((&seen["asks"], &seen["asks_pending"]), (&json!(2), &json!(2)));

    let (status, answered) = socket.send("POST", &format!("/api/v1/approvals/{first}/approve"), "{\"endorse\":true}").await;
    assert_eq!((status, &answered["endorses"]), (200, &json!(true)), "{answered}");
    assert_eq!(socket.send("POST", &format!("/api/v1/approvals/{second}/refuse"), "").await.0, 200);
    let answers: Vec<_> = world
        .records()
        .into_iter()
        .filter_map(|record| if let Record::Answered(answered) = record { Some(answered) } else { None })
        .collect();
    assert_eq!(
        answers.iter().map(|answer| (answer.ask, answer.approved, answer.endorses)).collect::<Vec<_>>(),
        [(first, true, true), (second, false, false)]
    );
    assert!(answers.iter().all(|answer| answer.by.issuer == "unix" && answer.by.subject == "ops"));
    for (path, status, code) in [
        (format!("/api/v1/approvals/{first}/refuse"), 409, "answered_already"),
        ("/api/v1/approvals/777/approve".to_owned(), 404, "unknown_ask"),
        ("/api/v1/approvals/x/approve".to_owned(), 400, "invalid"),
    ] {
        let (answered, body) = socket.send("POST", &path, "").await;
        assert_eq!((answered, body["error"].as_str()), (status, Some(code)), "{path}");
    }
    let refused: Vec<_> = world.refusals().into_iter().map(|refused| (refused.stage, refused.code)).collect();
    assert_eq!(refused, [("approve", "answered_already"), ("approve", "unknown_ask")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let (_, listed) = socket.send("GET", "/api/v1/approvals?state=refused", "").await;
    assert_eq!(listed["approvals"][0]["answer"]["by"]["subject"], "ops");
    assert_eq!(socket.send("GET", "/api/v1/approvals?state=nonsense", "").await.0, 400);
}

#[tokio::test]
async fn an_operator_sees_executions_and_revokes_them() {
    let world = World::start("").await;
    let socket = Socket::open(&world);
    let (first, second) = (world.ask(&[("task", "Summarise")]).await, world.ask(&[]).await);
    let (_, listed) = socket.send("GET", "/api/v1/executions", "").await;
    let listed = listed["executions"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    let shown = listed.iter().find(|one| one["execution"] == first.body["execution"]).unwrap();
    assert_eq!((&shown["agent"], &shown["task"], &shown["state"]), (&json!("bot"), &json!("Summarise"), &json!("under_way")));

    let id = first.body["execution"].as_str().unwrap();
    assert_eq!(socket.send("POST", &format!("/api/v1/executions/{id}/revoke"), "{\"by\":\"ana\"}").await.0, 200);
    let Some(Record::Revoked(revoked)) = world.records().pop() else { panic!() };
    assert_eq!(revoked.by, "unix:ops, for ana");
    assert_eq!(socket.send("GET", &format!("/api/v1/executions/{id}"), "").await.1["state"], "revoked");
    assert!(world.identity.authenticator().read(first.token(), &world.executions, world.now()).is_err());

    let jti = second.claims()["jti"].as_str().unwrap().to_owned();
    assert!(world.identity.authenticator().read(second.token(), &world.executions, world.now()).is_ok());
    assert_eq!(socket.send("POST", &format!("/api/v1/tokens/{jti}/revoke"), "").await.0, 200);
    assert!(world.identity.authenticator().read(second.token(), &world.executions, world.now()).is_err());

    for (method, path, body, status) in [
        ("GET", "/api/v1/executions/x", "", 400),
        ("GET", "/api/v1/executions/01939b4c-0000-7000-8000-000000000000", "", 404),
        ("POST", "/api/v1/tokens/unknown/revoke", "", 404),
        ("POST", &format!("/api/v1/executions/{id}/revoke"), "{\"by\":\"a\",\"by\":\"b\"}", 400),
        ("POST", &format!("/api/v1/executions/{id}/revoke"), "{\"by\":\"a\\nb\"}", 400),
        ("GET", "/api/v1/nothing", "", 404),
    ] {
        assert_eq!(socket.send(method, path, body).await.0, status, "{method} {path} {body}");
    }
    world.storage.fail();
    assert_eq!(socket.send("POST", &format!("/api/v1/executions/{id}/revoke"), "").await.0, 503);
}

#[tokio::test]
async fn an_operator_reloads_the_bundle_and_hears_why_a_broken_one_is_not_taken() {
    let world = World::start("").await;
    let socket = Socket::open(&world);
    let (_, health) = socket.send("GET", "/api/v1/health", "").await;
    assert_eq!((&health["issuer"], &health["bundle"]), (&json!(ISSUER), &json!(world.bundle.load().digest)));
    assert_eq!(socket.send("POST", "/api/v1/bundle/reload", "").await.1["changed"], false);
    let path = socket.directory.path().join("agents/other.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("Tests", "Other tests")).unwrap();
    let (status, reloaded) = socket.send("POST", "/api/v1/bundle/reload", "").await;
    assert_eq!((status, &reloaded["changed"]), (200, &json!(true)), "{reloaded}");
    assert_eq!(reloaded["bundle"], json!(world.bundle.load().digest));
    std::fs::write(&path, "nonsense").unwrap();
    assert_eq!(socket.send("POST", "/api/v1/bundle/reload", "").await.0, 422);
    let (_, bundle) = socket.send("GET", "/api/v1/bundle", "").await;
    assert!(bundle["refused"].is_string() && bundle["bundle"] == reloaded["bundle"], "{bundle}");
}

#[tokio::test]
async fn rotated_keys_overlap_and_replaced_ones_do_not() {
    let world = World::start("").await;
    let socket = Socket::open(&world);
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let reads = |reply: &Reply| world.identity.authenticator().read(reply.token(), &world.executions, world.now()).is_ok();

    let first = world.ask(&[]).await;
    let (_, published) = socket.send("POST", "/api/v1/keys/rotate", "").await;
    assert_eq!(published["keys"].as_array().unwrap().len(), 4, "the new keys are published");
    let second = world.ask(&[]).await;
    assert_eq!(kid(second.token()), kid(first.token()), "and do not sign yet");
    world.clock.forward(3_600);
    let third = world.ask(&[]).await;
    assert_ne!(kid(third.token()), kid(first.token()));
    world.identity.tend().await.unwrap();
    assert_eq!(world.get("/jwks").await.body["keys"].as_array().unwrap().len(), 4, "the old keys are kept for a while");
    world.clock.forward(200);
    assert!(reads(&third));
    world.clock.forward(3_600);
    world.identity.tend().await.unwrap();
    assert_eq!(world.get("/jwks").await.body["keys"].as_array().unwrap().len(), 2);
    assert!(world.executions.is_empty(), "executions that ended are forgotten");

    let fourth = world.ask(&[]).await;
    assert!(reads(&fourth));
    assert_eq!(socket.send("POST", "/api/v1/keys/replace", "").await.0, 200);
    assert!(!reads(&fourth), "a key that is no longer secret vouches for nothing");
    assert!(reads(&world.ask(&[]).await));
}

#[tokio::test]
async fn the_issuers_keys_survive_a_restart_and_are_renewed_by_time() {
    let world = World::start("").await;
    let token = world.ask(&[]).await.token().to_owned();
    let files = Arc::clone(&world.files) as Arc<dyn KeyFiles>;
    let again = Issuer::open(ISSUER, Arc::clone(&files), world.now()).unwrap();
    assert!(AccessToken::verify(&token, ISSUER, &again.public_keys(), world.now()).is_ok());
    let kid = |issuer: &Issuer| issuer.signer(Algorithm::Rs256, world.now()).unwrap().kid().to_owned();

    let before = kid(&again);
    world.clock.forward(30 * 86_400 - 3_600);
    assert!(again.tend(world.now()).unwrap() && !again.tend(world.now()).unwrap());
    assert_eq!(kid(&again), before, "published before it signs");
    world.clock.forward(3_600);
    assert_ne!(kid(&again), before);

    files.save("issuer.json", b"[{}]").unwrap();
    assert!(Issuer::open(ISSUER, files, world.now()).is_err(), "damaged keys are not silently replaced");
    assert!(!format!("{again:?} {:?}", world.identity).contains("pkcs8"));
}

/// What GuardDuty found about a session, as EventBridge sends it.
fn guardduty(id: &str, count: u64, session: &str, account: &str) -> Vec<u8> {
    let detail = json!({
        "schemaVersion": "2.0", "accountId": account, "region": "eu-west-1", "partition": "aws", "id": id,
        "type": "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS", "severity": 8,
        "resource": { "resourceType": "AccessKey", "accessKeyDetails": {
            "accessKeyId": "ASIAOURS", "principalId": format!("AROAEXAMPLE:{session}"), "userType": "AssumedRole", "userName": "bot"
        } },
        "service": { "count": count, "eventFirstSeen": "2026-11-25T10:01:00Z", "eventLastSeen": "2026-11-25T10:20:00Z", "archived": false },
        "createdAt": "2026-11-25T10:25:00.000Z", "updatedAt": "2026-11-25T10:25:00.000Z", "title": "t", "description": "d"
    });
    json!({ "detail-type": "GuardDuty Finding", "source": "aws.guardduty", "account": account, "detail": detail }).to_string().into_bytes()
}

#[tokio::test]
async fn what_another_detector_found_is_recorded_once_for_who_shows_its_secret() {
    use std::os::unix::fs::PermissionsExt as _;

    use bailiwick_control::findings::{Findings, Watched};
    use bailiwick_control::reports::Reports;
    use bailiwick_core::detect::Sentry;
    use bailiwick_core::detect::baseline::{Baselines, Budget, Watch};

    let secrets = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    const SECRET: &str = "a-secret-that-is-long-enough-to-be-one";
    let reporters = format!(
        "[[reporter]]\nname = \"guardduty\"\nauthorization_file = \"{}\"\naccounts = [\"111122223333\"]\nroles = [\"arn:aws:iam::111122223333:role/bot\"]\n\
         [[reporter]]\nname = \"short\"\nauthorization_file = \"{}\"\n",
        secret("long", SECRET),
        secret("short", "password")
    );
    let world = World::federated(&reporters, "", "").await;
    let reply = world.ask(&[]).await;
    let (_, execution) = world.identity.authenticator().read(reply.token(), &world.executions, world.now()).unwrap();
    let watched = Watched::new(Arc::new(Watch::new(Baselines::new("acme.example", Budget::one_in(1_000)))), Sentry::default());
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let findings = Arc::new(Findings::new(Arc::new(watched), world.log.clone(), clock));
    let address = serve(Reports::new(Arc::clone(&world.identity), findings).router()).await;
    let send = async |to: &str, authorization: &str, body: Vec<u8>| {
        post_to(&format!("http://{address}/reports/{to}"), &[("authorization", authorization), ("content-type", "application/json")], body)
            .await
            .status
    };
    let session = execution.id().to_string();
    assert_eq!(send("guardduty", SECRET, guardduty("f1", 1, &session, "111122223333")).await, 202);
    assert_eq!(send("guardduty", SECRET, guardduty("f1", 1, &session, "111122223333")).await, 202, "EventBridge sends it again");
    assert_eq!(send("guardduty", SECRET, guardduty("f1", 4, &session, "111122223333")).await, 202, "and more of it");
    assert_eq!(send("guardduty", SECRET, guardduty("f2", 1, &session, "999988887777")).await, 202, "of another account");
    let found = |record: Record| match record {
        Record::Finding(found) => {
            Some((found.by.unwrap(), found.agent.map(|agent| agent.to_string()), found.execution, found.finding.count))
        }
        _ => None,
    };
    let recorded: Vec<_> = world.records().into_iter().filter_map(found).collect();
    let of = |count| ("guardduty".to_owned(), Some(execution.started().agent.to_string()), Some(execution.id()), count);
    assert_eq!(recorded, [of(1), of(4)]);

    for (to, authorization, body, status) in [
        ("guardduty", "another", guardduty("f3", 1, &session, "111122223333"), 401),
        ("guardduty", "", guardduty("f3", 1, &session, "111122223333"), 401),
        ("short", "password", guardduty("f3", 1, &session, "111122223333"), 401),
        ("nobody", SECRET, guardduty("f3", 1, &session, "111122223333"), 404),
        ("guardduty", SECRET, b"{\"detail-type\":\"Scheduled Event\",\"detail\":{}}".to_vec(), 400),
        ("guardduty", SECRET, vec![b' '; 2 << 20], 413),
    ] {
        assert_eq!(send(to, authorization, body).await, status, "{to} {authorization}");
    }
    let refused: Vec<String> =
        world.refusals().into_iter().filter(|refused| refused.stage == "reports").map(|refused| refused.code).collect();
    assert_eq!(refused, ["authentication_failed", "authentication_failed", "authentication_failed", "invalid_request", "invalid_request"]);
    assert!(!world.log_text().contains(SECRET) && !world.log_text().contains("password"));
}

/// Has what comes onto the log answered, as the watch does.
struct Watch {
    responding: Arc<Responding>,
    next: Position,
}

#[async_trait::async_trait]
impl Follower for Watch {
    fn name(&self) -> &str {
        "watch"
    }

    fn next(&self) -> Position {
        self.next
    }

    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError> {
        for entry in entries {
            self.responding.fold(entry.position(), &Record::read(entry.value()).unwrap());
            self.next = Position(entry.position().0 + 1);
        }
        self.responding.wake();
        Ok(())
    }
}

/// Waits until `state` holds.
async fn wait_until(state: impl Fn() -> bool) {
    let waited = async {
        while !state() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), waited).await.unwrap();
}

/// What is in effect before the log can be told stays so and counts; what goes beyond the ceiling waits, whenever that can be written.
#[tokio::test]
async fn a_log_that_cannot_be_written_leaves_what_was_stopped_stopped_and_is_told_later() {
    let world = World::start_with("", "[respond]\nmode = \"act\"\nstops_per_hour = 1\n").await;
    let found = |agent: &str| {
        let detector = Detector {
            id: "odd".to_owned(),
            catalogue: None,
            title: "Odd".to_owned(),
            kind: Kind::Rule,
            tags: Vec::new(),
            guardduty: None,
            falsepositives: Vec::new(),
            response: Response::Quarantine,
        };
        let about = About { agent: agent.parse().ok(), ..About::default() };
        let at = world.clock.now();
        let evidence = Evidence { proof: Proof::Record(0), at, says: String::new() };
        Found::new(at, Finding::new(detector, about, evidence, String::new(), String::new()), None)
    };
    for agent in ["bot", "other"] {
        world.log.append(found(agent)).await.unwrap();
    }
    world.storage.fail();
    let responding = Responding::new(Arc::clone(&world.identity), Responder::default());
    let mut watch = Watch { responding: Arc::clone(&responding), next: Position(0) };
    let log = world.log.clone();
    let watching = tokio::spawn(async move { follow(&log, &mut watch).await });
    let answering = tokio::spawn(Arc::clone(&responding).run());
    let is_held = |agent: &str| world.executions.quarantined().contains_key(&agent.parse().unwrap());
    wait_until(|| is_held("bot")).await;
    assert_eq!(world.storage.len(), 2, "nothing could be written");

    world.storage.mend();
    let codes = || {
        let records = world.records();
        let responses = records.into_iter().filter_map(|record| match record {
            Record::Response(responded) => Some(responded.code),
            _ => None,
        });
        responses.collect::<Vec<_>>()
    };
    wait_until(|| codes().len() == 2).await;
    let (mut codes, records) = (codes(), world.records());
    codes.sort_by_key(|code| code.as_str());
    assert_eq!(codes, [ResponseEnd::Done, ResponseEnd::Held]);
    assert!(is_held("bot") && !is_held("other"));
    assert_eq!(responding.held().len(), 1);
    watching.abort();
    answering.abort();

    // Whoever reads the log finds nothing left to do, and the same that waits.
    let mut again = Responder::default();
    records.iter().zip(0..).for_each(|(record, position)| again.fold(Position(position), record));
    assert!(again.due(&world.bundle.load().settings.respond.orders, &|_| None, world.clock.now()).is_empty());
    assert_eq!(again.held().len(), 1);
}
