//! What tool servers say beside any call: that their lists or resources changed, and questions of legacy servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bailiwick_gateway::mcp::{Change, Offers as _};
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;

use crate::common::soon;
use crate::world::{Agent, Request, Server, Step, World, bundle, definition, http, legacy, modern, result, shown, stream};

/// Waits until this is told.
async fn told(changes: &mut Receiver<Change>, wanted: &Change) {
    soon(async { while changes.recv().await.unwrap() != *wanted {} }).await;
}

fn event(message: &serde_json::Value) -> Step {
    Step::Write(format!("data: {message}\n\n").into_bytes())
}

#[tokio::test]
async fn a_modern_server_that_changes_its_tools_is_listed_again_and_they_are_held_back() {
    let (change, changed) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (when, is_changed) = (Arc::clone(&change), Arc::clone(&changed));
    let server = Server::start(move |request| match request.rpc() {
        "server/discover" => {
            result(request, json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": { "listChanged": true } } }))
        }
        "subscriptions/listen" => {
            let meta = json!({ "io.modelcontextprotocol/subscriptionId": request.body["id"] });
            let notification = |method: &str| json!({ "jsonrpc": "2.0", "method": method, "params": { "_meta": meta } });
            let acknowledged = format!("data: {}\n\n", notification("notifications/subscriptions/acknowledged"));
            vec![stream(&acknowledged), Step::Wait(Arc::clone(&when)), event(&notification("notifications/tools/list_changed")), Step::Hang]
        }
        "tools/list" => {
            let mut tool = definition("t");
            if is_changed.load(Ordering::SeqCst) {
                tool["description"] = json!("t, but worse");
            }
            result(request, json!({ "tools": [tool], "ttlMs": 60000 }))
        }
        _ => result(request, json!({ "content": [] })),
    })
    .await;
    let world = World::start(bundle(&format!("mcp = \"{}\"", server.url), &[definition("t")]));
    let listen = server.request(|request| request.rpc() == "subscriptions/listen").await;
    assert_eq!(listen.body["params"]["notifications"]["toolsListChanged"], true);
    assert_eq!(shown(&world.call("t", "{}").await), r#"{"content":[]}"#);

    let mut changes = world.peers.changes();
    changed.store(true, Ordering::SeqCst);
    change.notify_one();
    told(&mut changes, &Change::Tools("s".parse().unwrap())).await;
    let answered = shown(&world.call("t", "{}").await);
    let held = answered == "error: the tool's definition is not the reviewed one, so the call was not sent"
        || answered.starts_with("refused: tool_changed");
    assert!(held, "{answered}");
    assert_eq!(world.held_records(1).await, [("s/t".to_owned(), true)]);
}

#[tokio::test]
async fn an_execution_hears_of_the_resources_of_a_modern_server_that_it_subscribed_to() {
    let server = Server::start(|request| {
        if request.rpc() == "subscriptions/listen" {
            let updated = json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated", "params": { "uri": "test://1" } });
            return vec![stream(&format!("data: {updated}\n\n")), Step::Hang];
        }
        modern(request, &[]).unwrap_or_else(|| panic!("{request:?}"))
    })
    .await;
    let world = World::start(bundle(&format!("mcp = \"{}\"", server.url), &[]));
    let mut changes = world.peers.changes();
    let (execution, agent) = (world.execution(), Agent::silent());
    let arguments = json!({ "uri": "test://1" }).to_string();
    let mut subscribe = world.begin(&execution, ("resources/subscribe", "resource:test://1"), &arguments, json!({}), &agent);
    assert_eq!(shown(&soon(subscribe.ended()).await), r#"{"resultType":"complete"}"#);
    told(&mut changes, &Change::Resource("s".parse().unwrap(), "test://1".into())).await;
    let listen = server.request(|request| request.rpc() == "subscriptions/listen").await;
    assert_eq!(listen.body["params"]["notifications"]["resourceSubscriptions"], json!(["test://1"]));

    let mut hung_up = server.hung_up.clone();
    let mut unsubscribe = world.begin(&execution, ("resources/unsubscribe", "resource:test://1"), &arguments, json!({}), &agent);
    assert_eq!(shown(&soon(unsubscribe.ended()).await), r#"{"resultType":"complete"}"#);
    soon(hung_up.wait_for(|count| *count == 1)).await.unwrap();
}

/// A legacy server whose stream beside the calls says `beside` once a call has come, and which then answers the call.
async fn with_stream(beside: serde_json::Value, wants_answer: bool) -> (World, Server) {
    let (called, answered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = AtomicBool::new(false);
    let tools = [definition("t")];
    let offered = tools.clone();
    let server = Server::start(move |request: &Request| {
        let session = request.header("mcp-session-id");
        if request.method == "GET" {
            // The first is the gateway's own, on which nobody could be asked.
            if !first.swap(true, Ordering::SeqCst) && wants_answer {
                return vec![http("405 Method Not Allowed", "", "")];
            }
            return vec![stream(": open\n\n"), Step::Wait(Arc::clone(&called)), event(&beside), Step::Hang];
        }
        if request.body.get("method").is_none() {
            answered.notify_one();
            return vec![http("202 Accepted", "", "")];
        }
        if let Some(steps) = legacy(request, &offered) {
            return steps;
        }
        assert!(!session.is_empty());
        called.notify_one();
        let body = json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": { "content": [] } });
        let head = stream("");
        if wants_answer { vec![head, Step::Wait(Arc::clone(&answered)), event(&body)] } else { vec![head, event(&body)] }
    })
    .await;
    let world = World::start(bundle(&format!("mcp = \"{}\"", server.url), &tools));
    (world, server)
}

#[tokio::test]
async fn a_question_beside_the_call_reaches_the_only_call_of_its_session() {
    let question = json!({ "jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": { "message": "Who?" } });
    let (world, server) = with_stream(question, true).await;
    server.request(|request| request.method == "GET").await; // the gateway's own stream
    let agent = Agent::answering(json!({ "action": "accept" }));
    let extras = json!({ "_meta": { "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} } } });
    assert_eq!(shown(&world.call_as("t", "{}", extras, &agent).await), r#"{"content":[]}"#);
    assert_eq!(agent.asked.lock().unwrap().len(), 1);
    let session = server.requests(|request| request.rpc() == "tools/call")[0].header("mcp-session-id").to_owned();
    let answer = server.requests(|request| request.body["id"] == "q" && request.header("mcp-session-id") == session);
    assert_eq!(answer[0].body["result"], json!({ "action": "accept" }));
}

#[tokio::test]
async fn a_change_beside_the_call_of_a_legacy_server_is_news() {
    let (world, server) = with_stream(json!({ "jsonrpc": "2.0", "method": "notifications/prompts/list_changed" }), false).await;
    let mut changes = world.peers.changes();
    server.request(|request| request.method == "GET").await; // the gateway's own stream
    assert_eq!(shown(&world.call("t", "{}").await), r#"{"content":[]}"#);
    told(&mut changes, &Change::Prompts("s".parse().unwrap())).await;
}
