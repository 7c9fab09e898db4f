//! Decisions for others, asked by a client that nobody here wrote (`authzen-rs`) over HTTPS.

use authzen_rs::client::AuthZenClient;
use authzen_rs::{
    Action, ActionSearchRequest, AuthZenError, Context, EvaluationOptions, EvaluationRequest, EvaluationsRequest, EvaluationsSemantic,
    PageRequest, Resource, ResourceSearchRequest, Subject, SubjectSearchRequest,
};
use serde_json::{Value, json};

use super::common::{House, wait_for};

const ASKER: &str =
    "[agent.credential]\nproof = \"bearer\"\n[agent.may]\ncall = [\"account/can_read\", \"account/can_write\"]\ndecide_for = [\"clerk\"]";

/// A bundle of whose tools none is reached through the gateway, and a client that trusts its certificate.
fn house() -> (House, String, reqwest::Client) {
    let mut house = House::start("");
    assert!(house.stop());
    let settings = std::fs::read_to_string(house.bundle().join("bailiwick.toml")).unwrap();
    let address = settings.rsplit('"').nth(1).unwrap().to_owned();
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    house.write("tls.pem", &cert.pem());
    house.write("tls.key", &signing_key.serialize_pem());
    house.write("bailiwick.toml", &format!("{settings}tls = {{ cert = \"tls.pem\", key = \"tls.key\" }}\n"));
    house.write(
        "servers/account.toml",
        "[server]\nname = \"account\"\nelsewhere = true\n[tools.can_read]\neffect = \"read\"\nreturns = { integrity = \"trusted\" }\n\
         [tools.can_write]\neffect = \"write\"\n[tools.can_pay]\neffect = \"spend\"\ntargets = { to = [\"task\"] }\n",
    );
    let definition = |name: &str| json!({ "name": name, "inputSchema": { "type": "object", "properties": { "id": { "type": "string" }, "to": { "type": "string" } } } });
    house.write("servers/account.tools.json", &json!(["can_read", "can_write", "can_pay"].map(definition)).to_string());
    house.write(
        "policies/account.cedar",
        "@id(\"closed\") forbid (principal, action == Action::\"account/can_read\", resource) when { context.input has id && context.input.id == \"closed\" };\n\
         @id(\"writers\") forbid (principal, action == Action::\"account/can_write\", resource) unless { context has subject && context.subject == \"user:bob@example.com\" };\n",
    );
    let helper = std::fs::read_to_string(house.bundle().join("agents/helper.toml")).unwrap();
    house.write("agents/helper.toml", &format!("{helper}{ASKER}"));
    let clerk = helper.replace("helper", "clerk");
    house.write("agents/clerk.toml", &format!("{clerk}[agent.may]\ncall = [\"tickets/list\", \"account/can_pay\"]\n"));
    house.write("agents/other.toml", &clerk.replace("clerk", "other"));
    house.serve();
    let tls = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let tls = tls.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    (house, format!("https://{address}"), reqwest::Client::builder().pool_max_idle_per_host(0).use_preconfigured_tls(tls).build().unwrap())
}

fn token(house: &House) -> String {
    let ca = house.bundle().join("tls.pem");
    let printed = house.agent("token", &["--json", "--bearer", "--ca", ca.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    let said: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&printed.stderr)));
    said["access_token"].as_str().unwrap().to_owned()
}

fn context(context: Value) -> Context {
    context.as_object().unwrap().clone()
}

/// What the specification prints: may this user read that account?
fn may(user: &str, action: &str, account: &str) -> EvaluationRequest {
    let action = Action::new(action).with_property("method", "GET");
    let asked = EvaluationRequest::new(Subject::new("user", user), action, Resource::new("account", account));
    asked.with_context(context(json!({ "time": "1985-10-26T01:22-07:00" })))
}

/// May the clerk make this call, within this session?
fn clerk(tool: &str, arguments: Value, session: &str) -> EvaluationRequest {
    let asked = EvaluationRequest::new(Subject::new("agent", "clerk"), Action::new("tools/call"), Resource::new("tool", tool));
    asked.with_context(context(json!({ "arguments": arguments, "session": session, "task": "Pay what is due." })))
}

#[tokio::test]
async fn another_enforcement_point_gets_the_decisions_that_the_gateway_would_make() {
    let (house, origin, http) = house();
    let builder = || AuthZenClient::builder(&origin).http_client(http.clone());
    let client = builder().bearer_token(token(&house)).discover().build().await.unwrap();

    for (user, action, account, allowed) in [
        ("alice@example.com", "can_read", "123", true),
        ("alice@example.com", "can_read", "closed", false),
        ("alice@example.com", "can_write", "123", false),
        ("bob@example.com", "can_write", "123", true),
        ("bob@example.com", "can_delete", "123", false),
        ("bob@example.com", "can_pay", "123", false),
    ] {
        let decision = client.evaluate(may(user, action, account)).await.unwrap();
        assert_eq!(decision.allowed(), allowed, "{user} {action} {account}: {decision:?}");
    }
    let written = house.records();
    let judged =
        written.iter().find(|record| record["kind"] == "intent" && record["tool"] == "account/can_write" && record["verdict"] == "allow");
    let judged = judged.unwrap();
    assert_eq!(
        (&judged["agent"], &judged["subject"], &judged["protocol"]),
        (&json!("helper"), &json!("user:bob@example.com"), &json!("authzen"))
    );
    // Nobody waits for an outcome to be on the disk, from where the records are read here.
    let ended = loop {
        let of_call = |record: &Value| record["kind"] == "outcome" && record["execution"] == judged["execution"];
        match house.records().into_iter().find(of_call) {
            Some(ended) => break ended,
            None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert_eq!(ended["code"], "elsewhere");

    // Several at once, with what they have in common said once, and until the first that is so.
    for (semantic, accounts, decisions) in [
        (EvaluationsSemantic::ExecuteAll, ["1", "closed", "2"], vec![true, false, true]),
        (EvaluationsSemantic::DenyOnFirstDeny, ["1", "closed", "2"], vec![true, false]),
        (EvaluationsSemantic::PermitOnFirstPermit, ["closed", "2", "3"], vec![false, true]),
    ] {
        let items = accounts.map(|account| serde_json::from_value(json!({ "resource": { "type": "account", "id": account } })).unwrap());
        let request = EvaluationsRequest::new(items.to_vec())
            .with_defaults(Some(Subject::new("user", "alice@example.com")), Some(Action::new("can_read")), None, None)
            .with_options(EvaluationOptions::new(semantic));
        let answer = client.evaluations(request).await.unwrap();
        assert_eq!(answer.evaluations().iter().map(|decision| decision.allowed()).collect::<Vec<_>>(), decisions, "{semantic:?}");
    }
    let single = EvaluationsRequest::new(Vec::new()).with_defaults(
        Some(Subject::new("user", "alice@example.com")),
        Some(Action::new("can_read")),
        Some(Resource::new("account", "1")),
        None,
    );
    assert_eq!(client.evaluations(single).await.unwrap().decision(), Some(true));

    // Who, what and how.
    let action = || Action::new("tools/call");
    let agents =
        client.search_subjects(SubjectSearchRequest::new(Subject::query("agent"), action(), Resource::new("tool", "tickets/list")));
    assert_eq!(agents.await.unwrap().results(), [Subject::new("agent", "clerk")]);
    let tools = ResourceSearchRequest::new(Subject::new("agent", "clerk"), action(), Resource::query("tool"));
    let first = client.search_resources(tools.clone().with_page(PageRequest::new().with_limit(1))).await.unwrap();
    assert_eq!(first.results(), [Resource::new("tool", "account/can_pay")]);
    let next = first.page().unwrap().next_token().to_owned();
    let second = client.search_resources(tools.with_page(PageRequest::new().with_token(next))).await.unwrap();
    assert_eq!((second.results(), second.page().unwrap().next_token()), (&[Resource::new("tool", "tickets/list")][..], ""));
    let actions = client.search_actions(ActionSearchRequest::new(Subject::new("user", "bob@example.com"), Resource::new("account", "1")));
    assert_eq!(actions.await.unwrap().results(), [Action::new("can_read"), Action::new("can_write")]);

    // A session is an execution: what it was shown counts, in it and in no other.
    let pay = |session: &str| clerk("account/can_pay", json!({ "to": "DE89370400440532013000" }), session);
    assert!(client.evaluate(pay("monday")).await.unwrap().allowed(), "nothing untrusted was read yet");
    assert!(client.evaluate(clerk("tickets/list", json!({ "since_days": 1 }), "monday")).await.unwrap().allowed());
    let asked = client.evaluate(pay("monday")).await.unwrap();
    let why = asked.context().unwrap();
    assert_eq!((asked.allowed(), &why["reason"]), (false, &json!("approval_required")), "{why:?}");
    assert!(why["access_request"]["expires_at"].is_string(), "{why:?}");
    assert!(client.evaluate(pay("tuesday")).await.unwrap().allowed());

    // About whom it may not ask, it gets no decision; nor does one who does not say who he is.
    let about_other = EvaluationRequest::new(Subject::new("agent", "other"), action(), Resource::new("tool", "tickets/list"));
    match client.evaluate(about_other).await.unwrap_err() {
        AuthZenError::Pdp { status, message } => assert_eq!(status, 403, "{message}"),
        error => panic!("{error:?}"),
    }
    match builder().build().await.unwrap().evaluate(may("alice@example.com", "can_read", "1")).await.unwrap_err() {
        AuthZenError::Pdp { status, message } => assert_eq!(status, 401, "{message}"),
        error => panic!("{error:?}"),
    }
    let token = token(&house);
    let sent = |body: &str| {
        http.post(format!("{origin}/access/v1/evaluation"))
            .bearer_auth(&token)
            .header("content-type", "application/json")
            .header("x-request-id", "r-1")
            .body(body.to_owned())
            .send()
    };
    for (body, said) in [
        (r#"{"subject":{"type":"user","id":"a"},"action":{"name":"x"}}"#, "`resource` is missing"),
        (r#"{"subject":{"type":"user"},"action":{"name":"x"},"resource":{"type":"account","id":"1"}}"#, "`subject.id` is missing"),
        (r#"{"subject":{"type":"user","id":5},"action":{"name":"x"},"resource":{"type":"account","id":"1"}}"#, "`subject.id` is no text"),
        (r#"{"subject":{"type":"user","id":"a","id":"b"},"action":{"name":"x"},"resource":{"type":"account","id":"1"}}"#, "twice"),
        ("[]", "no JSON object"),
    ] {
        let answer = sent(body).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["x-request-id"].to_str().unwrap()), (400, "r-1"), "{body}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(said), "{body}: {text}");
    }
}

#[tokio::test]
async fn a_session_goes_on_after_a_crash() {
    let (mut house, origin, http) = house();
    let client =
        async |house: &House| AuthZenClient::builder(&origin).http_client(http.clone()).bearer_token(token(house)).build().await.unwrap();
    let before = client(&house).await;
    assert!(before.evaluate(clerk("tickets/list", json!({ "since_days": 1 }), "monday")).await.unwrap().allowed());
    house.kill();
    house.serve();
    wait_for("the server to answer", || std::net::TcpStream::connect(house.data).is_ok());
    let after = client(&house).await.evaluate(clerk("account/can_pay", json!({ "to": "DE89370400440532013000" }), "monday")).await.unwrap();
    assert_eq!((after.allowed(), &after.context().unwrap()["reason"]), (false, &json!("approval_required")));
}
