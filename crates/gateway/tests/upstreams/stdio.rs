//! Standard input and output.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::soon;
use crate::world::{Agent, World, bundle, definition, shown};

const TOOLS: [&str; 7] = ["echo", "die", "twice", "long", "ask", "hang", "child"];

/// A gateway before a program of this era, and the directory that it runs in.
fn world(era: &str) -> World {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret.txt"), "s3cret\n").unwrap();
    let program = std::env::current_exe().unwrap();
    let words = ["program::runs", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    let transport = format!(
        "stdio = [{program:?}, {words}]\nenv = {{ ERA = \"{era}\", SECRET = \"file:secret.txt\" }}",
        words = words.map(|word| format!("{word:?}")).join(", ")
    );
    World::start_in(directory, bundle(&transport, &TOOLS.map(definition)))
}

async fn body(world: &World, tool: &str, arguments: &str, agent: &std::sync::Arc<Agent>) -> Value {
    let answered = world.call_as(tool, arguments, json!({ "_meta": { "progressToken": "mine" } }), agent).await;
    match answered {
        Ok(answer) => answer.into_result().unwrap(),
        refused => panic!("{}", shown(&refused)),
    }
}

/// Waits until a file is there, and reads it.
async fn file(path: &Path) -> String {
    soon(async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn programs_of_both_eras_are_spoken_to_in_their_own() {
    for (era, version) in [("modern", json!("2026-07-28")), ("legacy", Value::Null)] {
        let world = world(era);
        let echoed = body(&world, "echo", "{\"a\":[1,\n2]}", &Agent::silent()).await;
        assert_eq!(echoed["params"]["arguments"], json!({ "a": [1, 2] }));
        assert_eq!(echoed["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], version, "{era}");
        assert_ne!(echoed["params"]["_meta"]["progressToken"], "mine");
    }
}

#[tokio::test]
async fn a_program_finds_only_the_environment_that_was_declared() {
    let world = world("legacy");
    let echoed = body(&world, "echo", "{}", &Agent::silent()).await;
    assert_eq!(echoed["secret"], "s3cret");
    let allowed = |name: &str| matches!(name, "PATH" | "HOME" | "LANG" | "LANGUAGE" | "TZ" | "SECRET" | "ERA") || name.starts_with("LC_");
    for name in echoed["environment"].as_array().unwrap() {
        assert!(allowed(name.as_str().unwrap()), "{name}");
    }
}

#[tokio::test]
async fn arguments_cannot_smuggle_a_second_message_in() {
    let world = world("legacy");
    let arguments = "{\"a\":[\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"die\"}}\n]}";
    let echoed = body(&world, "echo", arguments, &Agent::silent()).await;
    assert_eq!(echoed["params"]["arguments"], serde_json::from_str::<Value>(arguments).unwrap());
}

#[tokio::test]
async fn a_program_that_dies_loses_its_call_and_is_started_again() {
    let world = world("legacy");
    let execution = world.execution();
    let agent = Agent::silent();
    let mut hanging = world.begin(&execution, ("tools/call", "hang"), "{}", json!({ "_meta": { "progressToken": 1 } }), &agent);
    soon(agent.seen.notified()).await;
    assert_eq!(shown(&world.call("die", "{}").await), "error: the tool server was lost before it answered: its program ended");
    assert_eq!(shown(&soon(hanging.ended()).await), "error: the tool server was lost before it answered: its program ended");
    assert_eq!(body(&world, "echo", "{}", &Agent::silent()).await["content"], json!([]));
}

#[tokio::test]
async fn what_a_program_answers_wrongly_has_its_error() {
    let world = world("legacy");
    for (tool, expected) in [
        ("twice", "error: the tool server's answer is not valid: the message holds a key twice in one object"),
        ("hang", "error: the tool server did not answer in time"),
        ("long", "error: the tool server's answer is larger than 20000 bytes"),
    ] {
        assert_eq!(shown(&world.call(tool, "{}").await), expected, "{tool}");
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_and_its_late_answer_reaches_nobody() {
    let world = world("modern");
    let agent = Agent::silent();
    let running = world.begin(&world.execution(), ("tools/call", "hang"), "{}", json!({ "_meta": { "progressToken": "mine" } }), &agent);
    soon(agent.seen.notified()).await;
    assert_eq!(agent.shown.lock().unwrap()[0]["params"]["progressToken"], "mine");
    drop(running);
    file(&world.directory.path().join("cancelled")).await;
    assert_eq!(body(&world, "echo", "{}", &Agent::silent()).await.get("late"), None);
}

#[tokio::test]
async fn a_question_reaches_the_only_call_under_way_and_otherwise_nobody() {
    let world = world("legacy");
    let agent = Agent::answering(json!({ "action": "decline" }));
    assert_eq!(body(&world, "ask", "{}", &agent).await["answered"], json!({ "action": "decline" }));

    let other = Agent::silent();
    let _hanging = world.begin(&world.execution(), ("tools/call", "hang"), "{}", json!({ "_meta": { "progressToken": 1 } }), &other);
    soon(other.seen.notified()).await;
    let refused = body(&world, "ask", "{}", &agent).await;
    assert_eq!(refused["answered"]["message"], "no call is under way that this could be asked of");
    assert_eq!((agent.asked.lock().unwrap().len(), other.asked.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn a_program_ends_in_good_order_and_what_it_started_ends_with_it() {
    let world = world("legacy");
    let pid = body(&world, "child", "{}", &Agent::silent()).await["pid"].as_u64().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let World { gateway, peers, directory } = world;
    drop((gateway, peers));
    assert_eq!(file(&directory.path().join("ended")).await, "in good order");
    soon(async {
        // A child that ended and that nobody has waited for yet is still listed, as a zombie.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_unreachable() {
    let world = World::start(bundle("stdio = [\"./no-such-program\"]", &[definition("echo")]));
    let answered = shown(&world.call("echo", "{}").await);
    assert!(answered.starts_with("error: the tool server could not be reached: "), "{answered}");
}

#[tokio::test]
async fn a_program_that_ignores_what_it_does_not_know_is_given_the_legacy_handshake() {
    let world = world("mute");
    assert_eq!(body(&world, "echo", "{}", &Agent::silent()).await["content"], json!([]));
}
