//! The agents' side of MCP over real sockets: what is refused and how, what is shown, and what becomes of calls.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking, also in its helpers")]

mod approvals;
mod attacks;
mod broken;
mod busy;
#[path = "../common/mod.rs"]
mod common;
mod envoy;
mod private;
mod reload;
mod support;

use bailiwick_core::model::{Code, Ending, Quarantined, Verdict};
use bailiwick_gateway::mcp::Change;
use common::soon;
use http::HeaderValue;
use serde_json::{Value, json};
use support::{MODERN, World, open, open_http2, send};

#[tokio::test]
async fn a_call_is_recorded_before_and_after_it_is_made() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let reply = send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "query", "arguments": { "q": "x" } }))).await;
    assert_eq!((reply.status, reply.text()), (200, r#"{"q":"x"}"#));
    assert_eq!(reply.body["result"]["resultType"], "complete");
    let (intents, outcomes) = (world.intents().await, world.outcomes().await);
    assert_eq!(open_http2(world.modern(&agent, "/mcp/crm", "tools/list", json!({}))).await, 200);
    assert_eq!(
        (intents[0].tool.as_str(), intents[0].decision.verdict, intents[0].execution),
        ("crm/query", Verdict::Allow, agent.execution.id())
    );
    assert_eq!((outcomes[0].code, outcomes[0].intent.0), (Ending::Done, 0));
}

#[tokio::test]
async fn a_page_that_a_legacy_tool_wants_opened_is_asked_for_in_the_modern_way() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let call =
        |capabilities: Value| world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "page", "capabilities": capabilities }));
    let reply = send(call(json!({ "elicitation": { "url": {} } }))).await;
    let request = &reply.body["result"]["inputRequests"]["page-1"];
    assert_eq!(request["params"], json!({ "mode": "url", "message": "Sign in", "url": "https://crm.example/in" }));
    assert_eq!(send(call(json!({ "elicitation": {} }))).await.code(), -32021);
}

#[tokio::test]
async fn lists_show_what_the_caller_may_call_and_nothing_else() {
    let world = World::start().await;
    let names = |reply: &support::Reply, list: &str, key: &str| -> Vec<String> {
        reply.last()["result"][list]
            .as_array()
            .unwrap_or_else(|| panic!("{reply:?}"))
            .iter()
            .map(|item| item[key].as_str().unwrap().to_owned())
            .collect()
    };
    let bot = world.agent("bot");
    for (path, list, key, method, shown) in [
        (
            "/mcp/crm",
            "tools",
            "name",
            "tools/list",
            vec!["ask", "dies", "fails", "floods", "garbage", "gone", "hangs", "modern_ask", "page", "query", "slow"],
        ),
        ("/mcp/crm", "prompts", "name", "prompts/list", vec!["greet"]),
        ("/mcp", "prompts", "name", "prompts/list", vec!["crm__greet"]),
        ("/mcp", "resources", "uri", "resources/list", vec!["test://one"]),
        ("/mcp", "resourceTemplates", "uriTemplate", "resources/templates/list", vec!["test://{id}"]),
    ] {
        let reply = send(world.modern(&bot, path, method, json!({}))).await;
        assert_eq!(names(&reply, list, key), shown, "{method}");
        let result = &reply.body["result"];
        assert_eq!((&result["cacheScope"], result["ttlMs"].is_u64(), &result["resultType"]), (&json!("private"), true, &json!("complete")));
    }
    let plain = world.agent("plain");
    let mut request = world.modern(&plain, "/mcp", "tools/list", json!({}));
    request.headers_mut().insert("authorization", format!("Bearer {}", plain.token).parse().unwrap());
    assert_eq!(names(&send(request).await, "tools", "name"), ["crm__query"]);
    // A tool that is held back by a change is shown to nobody, and again once it was accepted.
    world.held.store(std::sync::Arc::default());
    let reply = send(world.modern(&bot, "/mcp/crm", "tools/list", json!({}))).await;
    assert!(names(&reply, "tools", "name").contains(&"changed".to_owned()));
}

#[tokio::test]
async fn a_tool_that_may_not_be_known_looks_like_one_that_does_not_exist() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let mut shapes = Vec::new();
    for name in ["secret", "missing", "a:b"] {
        let reply = send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": name }))).await;
        let mut body = reply.body;
        let record = body["result"]["_meta"]["dev.bailiwick/decision"]["record"].as_u64().unwrap();
        let text = body["result"]["content"][0]["text"].as_str().unwrap().replace(&format!("(record {record})"), "");
        assert!(text.starts_with("unknown_tool: "), "{text}");
        body["result"]["content"][0]["text"] = json!(text);
        body["result"]["_meta"]["dev.bailiwick/decision"]["record"] = json!(0);
        shapes.push((reply.status, body));
    }
    assert!(shapes.iter().all(|shape| *shape == shapes[0]), "{shapes:#?}");
    let codes: Vec<Code> = world.intents().await.iter().map(|intent| intent.decision.code).collect();
    assert_eq!(codes, [Code::NotInRole, Code::UnknownTool]);
    for (method, params) in [
        ("prompts/get", json!({ "name": "hidden" })),
        ("prompts/get", json!({ "name": "none" })),
        ("resources/read", json!({ "uri": "no://x" })),
    ] {
        assert_eq!(send(world.modern(&agent, "/mcp/crm", method, params)).await.code(), -32602);
    }
    // A changed definition is told only to those who might use the tool.
    let reply = send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "changed" }))).await;
    assert!(reply.text().starts_with("tool_changed: "), "{reply:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_said_to_the_agent_and_recorded_for_the_operator() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let call = json!({ "name": "query", "arguments": { "q": "x" } });
    let valid = || world.modern(&agent, "/mcp/crm", "tools/call", call.clone());
    let body = |text: &str| world.request(&agent, "POST", "/mcp/crm", text.to_owned());
    let with = |name: &'static str, value: &str| {
        let mut request = valid();
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        request
    };
    let twice = |name: &'static str, value: &str| {
        let mut request = valid();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        request
    };
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"a":{}{}}}}}"#, "[".repeat(80), "]".repeat(80));
    for (request, status, code, reason) in [
        (body("{"), 400, -32700, "invalid_json"),
        (body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a":{"b":1,"b":2}}}}"#), 400, -32600, "repeated_key"),
        (body(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#), 400, -32600, "invalid_request"),
        (body(&deep), 400, -32600, "too_deep"),
        (body(&" ".repeat(100_001)), 413, -32600, "too_large"),
        (with("content-type", "text/plain"), 415, -32600, "unsupported_media_type"),
        (with("accept", "application/json"), 406, -32600, "not_acceptable"),
        (with("mcp-name", "other"), 400, -32020, "header_mismatch"),
        (with("mcp-method", "tools/list"), 400, -32020, "header_mismatch"),
        (with("mcp-param-q", "y"), 400, -32020, "header_mismatch"),
        (twice("mcp-name", "query"), 400, -32020, "header_mismatch"),
        (with("mcp-protocol-version", "2025-11-25"), 400, -32020, "header_mismatch"),
        (with("host", "evil.example"), 403, -32600, "host"),
        (with("origin", "https://evil.example"), 403, -32600, "origin"),
        (world.modern(&agent, "/mcp/crm", "tools/destroy", json!({})), 404, -32601, "unknown_method"),
        (world.modern(&agent, "/mcp/crm", "initialize", json!({})), 404, -32601, "unknown_method"),
        (world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "query", "arguments": [] })), 200, -32602, "invalid_params"),
        (world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "query", "requestState": "x" })), 200, -32602, "invalid_state"),
        (world.modern(&agent, "/mcp/crm", "tools/list", json!({ "cursor": "x" })), 200, -32602, "invalid_params"),
        (body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), 400, -32600, "no_session"),
    ] {
        let before = world.refusals().await.len();
        let reply = send(request).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{reason}: {reply:?}");
        let refusals = world.refusals().await;
        let recorded = refusals[before..].iter().map(|refused| (refused.stage.as_str(), refused.code.as_str())).collect::<Vec<_>>();
        assert_eq!(recorded, [("parse", reason)]);
    }
    assert!(world.intents().await.is_empty(), "something of this became a call");
    for origin in [format!("http://localhost:{}", world.address.port()), world.origin.clone()] {
        let reply = send(with("origin", &origin)).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, origin.as_str()));
        let preflight = http::Request::options(format!("{}/mcp/crm", world.origin)).header("origin", &origin);
        assert_eq!(send(preflight.body(http_body_util::Full::default()).unwrap()).await.status, 204);
    }
    assert_eq!(send(world.request(&agent, "POST", "/mcp/none", "{}")).await.status, 404);
    assert_eq!(send(world.request(&agent, "GET", "/mcp/crm", "")).await.status, 405);
}

#[tokio::test]
async fn a_credential_that_is_not_quite_right_is_refused_with_its_code_and_recorded() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let (other, path) = (world.agent("bot"), "/mcp/crm");
    let request = |agent: &support::Agent, scheme: &str, proof: Option<String>| {
        let mut request = world.modern(agent, path, "tools/list", json!({}));
        request.headers_mut().insert("authorization", format!("{scheme} {}", agent.token).parse().unwrap());
        request.headers_mut().remove("dpop");
        if let Some(proof) = proof {
            request.headers_mut().insert("dpop", proof.parse().unwrap());
        }
        request
    };
    let good = || world.proof(&agent, "POST", path, |_| ());
    let used = good();
    assert_eq!(send(request(&agent, "DPoP", Some(used.clone()))).await.status, 200);
    let foreign =
        support::Agent { execution: agent.execution.clone(), token: agent.token.clone(), jti: agent.jti.clone(), key: common::Key::new() };
    let elsewhere = world.agent_with("bot", |token| token.audiences = vec!["http://other.example/mcp".to_owned()]);
    let (issuer, expired) = (
        world.agent_with("bot", |token| token.issuer = "http://other.example".to_owned()),
        world.agent_with("bot", |token| token.expires_s = token.issued_s - 1),
    );
    let revoked = world.agent("bot");
    revoked.execution.stop();
    let mut nothing = world.modern(&agent, path, "tools/list", json!({}));
    nothing.headers_mut().remove("authorization");
    let own = |agent: &support::Agent| Some(world.proof(agent, "POST", path, |_| ()));
    for (what, request, code) in [
        ("nothing", nothing, "missing_credential"),
        ("no proof", request(&agent, "DPoP", None), "invalid_dpop_proof"),
        ("replayed", request(&agent, "DPoP", Some(used)), "invalid_dpop_proof"),
        ("other URL", request(&agent, "DPoP", Some(world.proof(&agent, "POST", "/mcp", |_| ()))), "invalid_dpop_proof"),
        ("other method", request(&agent, "DPoP", Some(world.proof(&agent, "GET", path, |_| ()))), "invalid_dpop_proof"),
        ("other key", request(&agent, "DPoP", Some(world.proof(&foreign, "POST", path, |_| ()))), "invalid_token"),
        ("other token", request(&agent, "DPoP", Some(world.proof(&other, "POST", path, |_| ()))), "invalid_dpop_proof"),
        (
            "no nonce",
            request(&agent, "DPoP", Some(world.proof(&agent, "POST", path, |claims| claims["nonce"] = json!("old")))),
            "use_dpop_nonce",
        ),
        ("as bearer", request(&agent, "Bearer", Some(good())), "invalid_token"),
        ("other audience", request(&elsewhere, "DPoP", own(&elsewhere)), "invalid_token"),
        ("other issuer", request(&issuer, "DPoP", own(&issuer)), "invalid_token"),
        ("expired", request(&expired, "DPoP", own(&expired)), "invalid_token"),
        ("revoked", request(&revoked, "DPoP", own(&revoked)), "invalid_token"),
    ] {
        let reply = send(request).await;
        let challenge = reply.header("www-authenticate");
        assert_eq!(reply.status, 401, "{what}: {reply:?}");
        assert_eq!(challenge.contains(&format!("error=\"{code}\"")), code != "missing_credential", "{what}: {challenge}");
        let metadata = format!("resource_metadata=\"{}/.well-known/oauth-protected-resource/mcp/crm\"", world.origin);
        assert!(challenge.starts_with("DPoP ") && challenge.contains(&metadata), "{what}: {challenge}");
        assert!(!reply.header("dpop-nonce").is_empty(), "{what}");
        let refused = world.refusals().await.pop().unwrap();
        assert_eq!((refused.stage.as_str(), refused.code.as_str()), ("authenticate", code), "{what}");
        assert!(!refused.detail.contains(&agent.token), "{what}");
    }
    assert!(world.intents().await.is_empty());
}

#[tokio::test]
async fn the_resource_says_where_its_tokens_come_from() {
    let world = World::start().await;
    for (path, resource) in [("", "/mcp"), ("/mcp", "/mcp"), ("/mcp/crm", "/mcp/crm")] {
        let uri = format!("{}/.well-known/oauth-protected-resource{path}", world.origin);
        let reply = send(http::Request::get(uri).body(http_body_util::Full::default()).unwrap()).await;
        assert_eq!(reply.body["resource"], json!(format!("{}{resource}", world.origin)));
        assert_eq!(reply.body["authorization_servers"], json!([support::ISSUER]));
    }
    let uri = format!("{}/.well-known/oauth-protected-resource/mcp/none", world.origin);
    assert_eq!(send(http::Request::get(uri).body(http_body_util::Full::default()).unwrap()).await.status, 404);
}

#[tokio::test]
async fn the_network_of_a_call_is_recorded_when_it_is_another_than_before() {
    let world = World::start().await;
    let (one, other) = (world.agent("bot"), world.agent("bot"));
    // What a declared proxy adds is believed, and what stands before it is not; where it says nothing, nothing is known.
    for (agent, forwarded) in [
        (&one, Some("203.0.113.9")),
        (&one, Some("198.51.100.1, 203.0.113.77")),
        (&one, None),
        (&one, Some("198.51.100.1")),
        (&other, Some("198.51.100.2")),
        (&one, Some("203.0.113.9")),
    ] {
        let mut request = world.modern(agent, "/mcp/crm", "tools/call", json!({ "name": "query", "arguments": { "q": "x" } }));
        if let Some(forwarded) = forwarded {
            request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static(forwarded));
        }
        send(request).await;
    }
    let networks: Vec<Option<String>> =
        world.intents().await.iter().map(|intent| intent.network.map(|network| network.to_string())).collect();
    let (here, there) = (Some("203.0.113.0/24".to_owned()), Some("198.51.100.0/24".to_owned()));
    assert_eq!(networks, [here.clone(), None, None, there.clone(), there, here]);
}

#[tokio::test]
async fn a_tool_server_that_breaks_is_told_to_the_agent_in_words_and_to_the_operator_in_full() {
    let world = World::start().await;
    let agent = world.agent("bot");
    for (index, (name, code, ending)) in [
        ("dies", "tool_lost", Ending::Unknown),
        ("garbage", "tool_invalid_answer", Ending::Unknown),
        ("hangs", "tool_timed_out", Ending::Unknown),
        ("gone", "tool_unreachable", Ending::Failed),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": name }))).await;
        assert!(reply.text().starts_with(&format!("{code}: ")), "{reply:?}");
        assert_eq!(reply.last()["result"]["isError"], true);
        let outcome = world.outcome(index + 1).await;
        assert_eq!(outcome.code, ending, "{name}");
        assert!(!outcome.detail.is_empty());
        assert!(!reply.text().contains("connection re"), "what went wrong inside is the operator's to know");
    }
    let reply = send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "fails" }))).await;
    assert_eq!((reply.status, reply.code()), (400, -32021));
}

#[tokio::test]
async fn progress_is_streamed_and_a_client_that_goes_away_cancels_the_call() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let params = json!({ "name": "slow", "_meta": { "progressToken": "mine" } });
    let (head, mut stream) = open(world.modern(&agent, "/mcp/crm", "tools/call", params)).await;
    assert_eq!(head.headers["content-type"], "text/event-stream");
    assert_eq!(head.headers["x-accel-buffering"], "no");
    let progress = stream.next().await.unwrap();
    assert_eq!((&progress["method"], &progress["params"]["progressToken"]), (&json!("notifications/progress"), &json!("mine")));
    soon(world.tools.waiting.notified()).await;
    drop(stream);
    soon(world.tools.dropped.notified()).await;
    assert_eq!(world.outcome(1).await.code, Ending::Cancelled);
}

#[tokio::test]
async fn a_revocation_cuts_what_is_under_way() {
    let world = World::start().await;
    for (number, how) in ["execution", "token", "quarantine"].into_iter().enumerate() {
        let agent = world.agent("bot");
        let params = json!({ "name": "slow", "_meta": { "progressToken": 1 } });
        let (_, mut call) = open(world.modern(&agent, "/mcp/crm", "tools/call", params)).await;
        let (_, mut listen) =
            open(world.modern(&agent, "/mcp/crm", "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }))).await;
        assert_eq!(listen.next().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(call.next().await.unwrap()["method"], "notifications/progress");
        match how {
            "token" => agent.execution.stop_token(&agent.jti),
            "execution" => {
                agent.execution.stop();
            }
            _ => world.gateway.parts().executions.quarantine(Quarantined {
                at: agent.execution.started().at,
                agent: "bot".parse().unwrap(),
                since: agent.execution.started().at,
                by: "test".to_owned(),
                reason: "test".to_owned(),
                finding: None,
            }),
        }
        let code = if how == "quarantine" { "quarantined: " } else { "execution_ended: " };
        let last = call.next().await.unwrap();
        assert!(last["result"]["content"][0]["text"].as_str().unwrap().starts_with(code), "{last}");
        assert_eq!(listen.next().await.unwrap()["result"]["resultType"], "complete");
        assert_eq!(listen.next().await, None);
        assert_eq!(world.outcome(number + 1).await.code, Ending::Cancelled);
    }
}

#[tokio::test]
async fn a_call_whose_client_takes_nothing_is_cut_all_the_same() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let params = json!({ "name": "floods", "_meta": { "io.modelcontextprotocol/logLevel": "debug" } });
    let (_, unread) = open(world.modern(&agent, "/mcp/crm", "tools/call", params)).await;
    soon(world.tools.waiting.notified()).await;
    agent.execution.stop();
    assert_eq!(world.outcome(1).await.detail, "the execution or its credential was revoked");
    drop(unread);
}

#[tokio::test]
async fn a_legacy_tools_question_reaches_a_modern_client_as_an_answer_that_asks() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let ask = |arguments: Value, more: Value| {
        let mut params = json!({ "name": "ask", "arguments": arguments, "capabilities": { "elicitation": {} } });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.modern(&agent, "/mcp/crm", "tools/call", params)
    };
    let first = send(ask(json!({ "q": "x" }), json!({}))).await;
    let result = &first.body["result"];
    assert_eq!(
        (&result["resultType"], &result["inputRequests"]["ask-1"]["method"]),
        (&json!("input_required"), &json!("elicitation/create"))
    );
    let answers = json!({ "ask-1": { "action": "accept", "content": { "name": "Ada" } }, "unasked": 1 });
    let state = &result["requestState"];
    for (arguments, state) in
        [(json!({ "q": "y" }), state.clone()), (json!({ "q": "x" }), json!(format!("{}-TAMPERED", state.as_str().unwrap())))]
    {
        let reply = send(ask(arguments, json!({ "inputResponses": answers, "requestState": state }))).await;
        assert_eq!(reply.code(), -32602);
    }
    let another = world.agent("bot");
    let params = json!({ "name": "ask", "arguments": { "q": "x" }, "requestState": state, "inputResponses": answers, "capabilities": { "elicitation": {} } });
    assert_eq!(send(world.modern(&another, "/mcp/crm", "tools/call", params)).await.code(), -32602);

    let again = send(ask(json!({ "q": "x" }), json!({ "inputResponses": { "ask-1": 5 }, "requestState": state }))).await;
    assert_eq!(again.body["result"]["resultType"], "input_required", "what is no answer is asked again");
    let state = again.body["result"]["requestState"].clone();
    let done = send(ask(json!({ "q": "x" }), json!({ "inputResponses": answers, "requestState": state }))).await;
    assert_eq!(done.text(), "Hello, Ada");
    assert_eq!(send(ask(json!({ "q": "x" }), json!({ "inputResponses": answers, "requestState": state }))).await.code(), -32602);
    assert_eq!(world.intents().await.len(), 1, "it is one call, and was decided once");

    let reply = send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "ask", "arguments": {} }))).await;
    assert_eq!((reply.status, reply.code()), (400, -32021));
    assert_eq!(reply.body["error"]["data"]["requiredCapabilities"], json!({ "elicitation": { "form": {} } }));
    assert_eq!(world.outcome(2).await.code, Ending::Cancelled);
}

#[tokio::test]
async fn a_modern_tools_question_passes_and_its_state_is_sealed() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let call = |more: Value| {
        let mut params = json!({ "name": "modern_ask", "capabilities": { "elicitation": {} } });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.modern(&agent, "/mcp/crm", "tools/call", params)
    };
    let first = send(call(json!({}))).await;
    let result = &first.body["result"];
    assert_eq!(result["inputRequests"]["who"]["method"], "elicitation/create");
    assert_ne!(result["requestState"], "theirs");
    let answers = json!({ "who": { "action": "accept", "content": { "name": "Ada" } } });
    assert_eq!(send(call(json!({ "inputResponses": answers, "requestState": "theirs" }))).await.code(), -32602);
    let done = send(call(json!({ "inputResponses": answers, "requestState": result["requestState"] }))).await;
    assert_eq!(done.text(), "Hello, Ada");
    assert_eq!(world.intents().await.len(), 2, "each call is decided");
}

#[tokio::test]
async fn a_legacy_client_is_asked_on_its_stream_whatever_the_tools_era() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let session = world.session(&agent, "/mcp", json!({ "elicitation": {} })).await;
    for name in ["crm__ask", "crm__modern_ask"] {
        let call = json!({ "jsonrpc": "2.0", "id": name, "method": "tools/call", "params": { "name": name, "arguments": {} } });
        let (_, mut stream) = open(world.legacy(&agent, "/mcp", &session, &call)).await;
        let question = stream.next().await.unwrap();
        assert_eq!(question["method"], "elicitation/create");
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept", "content": { "name": "Ada" } } });
        assert_eq!(send(world.legacy(&agent, "/mcp", &session, &answer)).await.status, 202);
        let last = stream.next().await.unwrap();
        assert_eq!(
            last["result"],
            json!({ "content": [{ "type": "text", "text": "Hello, Ada" }] }),
            "nothing of the modern revision is in it"
        );
        assert_eq!(stream.next().await, None);
    }
    // Without the capability, the tool is told so.
    let session = world.session(&agent, "/mcp", json!({})).await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "crm__ask" } });
    let reply = send(world.legacy(&agent, "/mcp", &session, &call)).await;
    assert!(reply.text().contains("did not say that it answers"), "{reply:?}");
}

#[tokio::test]
async fn a_legacy_session_is_there_for_its_execution_only_until_it_is_ended() {
    let world = World::start().await;
    let (agent, other) = (world.agent("bot"), world.agent("bot"));
    let session = world.session(&agent, "/mcp/crm", json!({})).await;
    let message = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let ping = message("ping", json!({}));
    assert_eq!(send(world.legacy(&agent, "/mcp/crm", &session, &ping)).await.body["result"], json!({}));
    assert_eq!(send(world.legacy(&other, "/mcp/crm", &session, &ping)).await.status, 404);
    assert_eq!(send(world.legacy(&agent, "/mcp", &session, &ping)).await.status, 404);
    let list = send(world.legacy(&agent, "/mcp/crm", &session, &message("tools/list", json!({})))).await;
    assert!(list.body["result"].get("resultType").is_none() && list.body["result"].get("ttlMs").is_none());
    assert_eq!(send(world.legacy(&agent, "/mcp/crm", &session, &message("no/such", json!({})))).await.code(), -32601);
    assert_eq!(
        send(world.legacy(&agent, "/mcp/crm", &session, &message("resources/read", json!({ "uri": "no://x" })))).await.code(),
        -32002
    );

    // Log messages from the level on that was set; progress by the client's own token; cancelled by a notification.
    let level = message("logging/setLevel", json!({ "level": "info" }));
    assert_eq!(send(world.legacy(&agent, "/mcp/crm", &session, &level)).await.body["result"], json!({}));
    let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "slow", "_meta": { "progressToken": 5 } } });
    let (_, mut stream) = open(world.legacy(&agent, "/mcp/crm", &session, &call)).await;
    assert_eq!(stream.next().await.unwrap()["params"]["progressToken"], 5);
    assert_eq!(stream.next().await.unwrap()["method"], "notifications/message");
    assert_eq!(world.tools.extras.lock().unwrap()["_meta"]["io.modelcontextprotocol/logLevel"], "info");
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
    assert_eq!(send(world.legacy(&agent, "/mcp/crm", &session, &cancel)).await.status, 202);
    assert_eq!(stream.next().await, None);
    assert_eq!(world.outcome(1).await.code, Ending::Cancelled);

    let mut listening = world.request(&agent, "GET", "/mcp/crm", "");
    listening.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    let (_, mut changes) = open(listening).await;
    world.change(Change::Tools("crm".parse().unwrap()));
    assert_eq!(changes.next().await.unwrap()["method"], "notifications/tools/list_changed");
    let mut end = world.request(&agent, "DELETE", "/mcp/crm", "");
    end.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    assert_eq!(send(end).await.status, 204);
    assert_eq!(changes.next().await, None);
    assert_eq!(send(world.legacy(&agent, "/mcp/crm", &session, &ping)).await.status, 404);
}

#[tokio::test]
async fn a_subscription_tells_what_was_asked_for_and_no_more() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let params = json!({ "notifications": { "promptsListChanged": true } });
    let (_, mut stream) = open(world.modern(&agent, "/mcp", "subscriptions/listen", params)).await;
    let acknowledged = stream.next().await.unwrap();
    assert_eq!(acknowledged["params"]["notifications"], json!({ "promptsListChanged": true }));
    for change in
        [Change::Tools("crm".parse().unwrap()), Change::Prompts("other".parse().unwrap()), Change::Prompts("crm".parse().unwrap())]
    {
        world.change(change);
    }
    let told = stream.next().await.unwrap();
    assert_eq!(told["method"], "notifications/prompts/list_changed");
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    world.face.front().stop();
    assert_eq!(stream.next().await.unwrap()["result"]["resultType"], "complete");
}

#[tokio::test]
async fn an_execution_has_so_many_streams_and_calls_and_no_more() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let listen = || world.modern(&agent, "/mcp", "subscriptions/listen", json!({ "notifications": {} }));
    let mut streams = Vec::new();
    for _ in 0..world.gateway.parts().bundle.load().settings.limits.calls_per_execution_max {
        let (_, mut stream) = open(listen()).await;
        assert_eq!(stream.next().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
        streams.push(stream);
    }
    for request in [listen(), world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "query" }))] {
        let reply = send(request).await;
        assert!(reply.body["error"]["message"].as_str().unwrap().starts_with("too_many_calls: "), "{reply:?}");
        assert_eq!((reply.status, reply.header("retry-after"), reply.code()), (429, "1", 429));
    }
    assert_eq!(world.refusals().await.pop().unwrap().code, "too_many_calls");
    let another = world.agent("bot");
    assert_eq!(send(world.modern(&another, "/mcp/crm", "tools/call", json!({ "name": "query" }))).await.text(), "{}");
}

#[tokio::test]
async fn a_modern_client_learns_what_is_there() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let reply = send(world.modern(&agent, "/mcp", "server/discover", json!({}))).await;
    let result = &reply.body["result"];
    assert_eq!(result["supportedVersions"][0], MODERN);
    assert_eq!(result["capabilities"]["tools"], json!({ "listChanged": true }));
    assert!(result["capabilities"]["prompts"].is_object() && result["capabilities"].get("completions").is_none());
    assert_eq!(result["instructions"], "crm: Be kind.");
    let read = send(world.modern(&agent, "/mcp", "resources/read", json!({ "uri": "test://one" }))).await;
    assert_eq!((&read.body["result"]["cacheScope"], &read.body["result"]["contents"][0]["text"]), (&json!("private"), &json!("1")));
    let read = send(world.modern(&agent, "/mcp", "resources/read", json!({ "uri": "bailiwick://crm/test://one" }))).await;
    assert_eq!(read.body["result"]["contents"][0]["text"], "1");
    assert_eq!(
        send(world.modern(&agent, "/mcp", "prompts/get", json!({ "name": "crm__greet" }))).await.body["result"]["resultType"],
        "complete"
    );
}
