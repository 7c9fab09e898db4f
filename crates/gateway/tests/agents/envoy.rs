//! What Envoy is told of an agent's request: what passes, as what, and everything by which something else would.

use std::collections::HashMap;

use bailiwick_core::model::{Code, Ending, Protocol};
use bailiwick_gateway::authz::envoy::Envoy;
use bailiwick_gateway::authz::envoy::wire::{Attributes, CheckRequest, CheckResponse, Denied, HttpRequest, Passes, Request, Verdict};
use serde_json::{Value, json};

use crate::support::{Agent, World};

/// Where agents reach the server behind Envoy.
const MESH: &str = "https://crm.mesh.example";

impl World {
    fn envoy(&self) -> Envoy {
        Envoy::new(std::sync::Arc::clone(self.face.front()))
    }

    /// A request of `agent` with a good proof, as Envoy hands it over; `spoil` changes it before.
    fn asked(&self, agent: &Agent, body: &Value, spoil: impl FnOnce(&mut HttpRequest, &mut HashMap<String, String>)) -> CheckRequest {
        let proof = self.proof(agent, "POST", "", |claims| claims["htu"] = json!(format!("{MESH}/mcp")));
        let headers = [
            ("authorization", format!("DPoP {}", agent.token)),
            ("dpop", proof),
            ("content-type", "application/json".to_owned()),
            ("accept", "application/json, text/event-stream".to_owned()),
            (":authority", "crm.mesh.example".to_owned()),
        ];
        let mut http = HttpRequest {
            method: "POST".to_owned(),
            path: "/mcp?x=1".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            raw_body: body.to_string().into_bytes(),
            ..HttpRequest::default()
        };
        let mut route =
            HashMap::from([("bailiwick_server".to_owned(), "crm".to_owned()), ("bailiwick_origin".to_owned(), MESH.to_owned())]);
        spoil(&mut http, &mut route);
        let attributes = Attributes { request: Some(Request { http: Some(http) }), context_extensions: route, source: None };
        CheckRequest { attributes: Some(attributes) }
    }
}

fn call(tool: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": { "q": "x" } } })
}

fn passes(response: &CheckResponse) -> &Passes {
    match (&response.status, &response.verdict) {
        (Some(status), Some(Verdict::Passes(passes))) if status.code == 0 => passes,
        _ => panic!("it does not pass: {response:?}"),
    }
}

fn denied(response: &CheckResponse) -> (i32, &Denied) {
    match (&response.status, &response.verdict) {
        (Some(status), Some(Verdict::Denied(denied))) if status.code != 0 => (denied.status.as_ref().unwrap().code, denied),
        _ => panic!("it passes: {response:?}"),
    }
}

#[tokio::test]
async fn a_call_passes_envoy_as_it_would_the_gateway_and_without_the_agents_credential() {
    let world = World::start().await;
    let (envoy, agent) = (world.envoy(), world.agent("bot"));
    let response = envoy.check(world.asked(&agent, &call("query"), |_, _| ())).await;
    let passing = passes(&response);
    assert_eq!(passing.headers_to_remove, ["authorization", "dpop"]);
    let told = passing.headers[0].header.as_ref().unwrap();
    assert_eq!((told.key.as_str(), passing.headers[0].append_action), ("x-bailiwick-decision", 2));
    let intent = world.intents().await.pop().unwrap();
    assert_eq!((intent.protocol, intent.decision.code, intent.tool.as_str()), (Protocol::ExtAuthz, Code::Allowed, "crm/query"));
    assert_eq!(world.outcome(1).await.code, Ending::Elsewhere);

    let response = envoy.check(world.asked(&agent, &call("secret"), |_, _| ())).await;
    let (status, denied_by) = denied(&response);
    let body: Value = serde_json::from_str(&denied_by.body).unwrap();
    assert_eq!((status, &body["id"], &body["result"]["isError"]), (200, &json!(7), &json!(true)), "{body}");
    assert_eq!(world.intents().await.pop().unwrap().decision.code, Code::NotInRole);

    let list = json!({ "jsonrpc": "2.0", "id": 8, "method": "tools/list" });
    let response = envoy.check(world.asked(&agent, &list, |_, _| ())).await;
    assert_eq!(passes(&response).headers_to_remove, ["authorization", "dpop", "x-bailiwick-decision"], "nobody else says what was decided");
}

#[tokio::test]
async fn what_envoy_does_not_show_whole_or_an_agent_says_of_the_way_does_not_pass() {
    let world = World::start().await;
    let (envoy, agent, other) = (world.envoy(), world.agent("bot"), world.agent("second"));
    let query = call("query");
    let elsewhere = world.proof(&agent, "POST", "", |claims| claims["htu"] = json!("https://evil.example/mcp"));
    let of_other = format!("DPoP {}", other.token);
    type Spoil<'a> = Box<dyn FnOnce(&mut HttpRequest, &mut HashMap<String, String>) + 'a>;
    let cases: Vec<(&str, i32, Spoil<'_>)> = vec![
        ("a route that does not say what it leads to", 403, Box::new(|_, route| drop(route.remove("bailiwick_server")))),
        ("a route that does not say where it is", 403, Box::new(|_, route| drop(route.remove("bailiwick_origin")))),
        ("a route to what is not declared", 403, Box::new(|_, route| drop(route.insert("bailiwick_server".into(), "none".into())))),
        ("a credential for another server", 401, Box::new(|_, route| drop(route.insert("bailiwick_server".into(), "other".into())))),
        (
            "a proof made for another place, with that place as host",
            401,
            Box::new(|http, _| {
                http.headers.insert("dpop".into(), elsewhere);
                http.headers.insert(":authority".into(), "evil.example".into());
            }),
        ),
        ("another's credential", 401, Box::new(|http, _| drop(http.headers.insert("authorization".into(), of_other)))),
        ("no credential", 401, Box::new(|http, _| drop(http.headers.remove("authorization")))),
        (
            "two credentials in one line",
            401,
            Box::new(|http, _| drop(http.headers.entry("authorization".into()).and_modify(|line| *line = format!("{line},{line}")))),
        ),
        ("a part of a body", 413, Box::new(|http, _| drop(http.headers.insert("x-envoy-auth-partial-body".into(), "true".into())))),
        ("no body at all", 400, Box::new(|http, _| http.raw_body.clear())),
        ("a body that is no JSON", 400, Box::new(|http, _| http.raw_body = b"{".to_vec())),
        ("another method", 405, Box::new(|http, _| http.method = "PUT".into())),
        ("a header that is none", 400, Box::new(|http, _| drop(http.headers.insert("a b".into(), "c".into())))),
        (
            "a method of the protocol that is not known here",
            400,
            Box::new(|http, _| {
                http.raw_body = br#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"test://one"}}"#.to_vec()
            }),
        ),
    ];
    for (what, expected, spoil) in cases {
        let method =
            |request: &CheckRequest| request.attributes.as_ref().unwrap().request.as_ref().unwrap().http.as_ref().unwrap().method.clone();
        let mut asked = world.asked(&agent, &query, spoil);
        if method(&asked) == "PUT" {
            // The proof names the method.
            let proof = world.proof(&agent, "PUT", "", |claims| claims["htu"] = json!(format!("{MESH}/mcp")));
            let http = asked.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
            http.headers.insert("dpop".into(), proof);
        }
        let response = envoy.check(asked).await;
        let (status, told) = denied(&response);
        assert_eq!(status, expected, "{what}: {told:?}");
        assert!(!told.body.contains(&agent.token), "{what}");
    }
    let asked = world.asked(&agent, &query, |_, _| ());
    passes(&envoy.check(asked.clone()).await);
    assert_eq!(denied(&envoy.check(asked).await).0, 401, "a proof is good for one request");
    assert!(envoy.check(CheckRequest::default()).await.status.unwrap().code != 0, "nothing at all does not pass");
    assert_eq!(world.intents().await.len(), 1, "what does not pass is no call");
}
