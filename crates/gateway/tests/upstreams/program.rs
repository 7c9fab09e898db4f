//! An MCP server over standard input and output, which breaks on demand. It runs as a child of the other tests.
//!
//! It uses nothing of this project, so that what it reads and writes is only what it says here.

use std::io::{BufRead as _, Write as _};

use serde_json::{Value, json};

#[test]
#[ignore = "the other tests run it as a process of its own"]
fn runs() {
    let Ok(era) = std::env::var("ERA") else { return };
    let mut children = Vec::new();
    println!("a line that is not the protocol");
    eprintln!("a word to the operator \u{1b}[31m");
    let mut lines = std::io::stdin().lock().lines();
    while let Some(Ok(line)) = lines.next() {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { panic!("not JSON: {line}") };
        let id = &message["id"];
        match (message["method"].as_str().unwrap_or_default(), era.as_str()) {
            ("server/discover", "modern") => {
                answer(id, &json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": { "listChanged": true } } }));
            }
            ("server/discover", "mute") => {}
            ("server/discover", _) => say(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "what?" } })),
            ("initialize", _) => {
                let version = message["params"]["protocolVersion"].clone();
                answer(
                    id,
                    &json!({ "protocolVersion": version, "capabilities": { "tools": {} }, "serverInfo": { "name": "t", "version": "1" } }),
                );
            }
            ("subscriptions/listen", _) => {
                let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
                say(&json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": { "_meta": meta } }));
            }
            ("tools/list", _) => {
                let tools = ["echo", "die", "twice", "long", "ask", "hang", "child"]
                    .map(|name| json!({ "name": name, "description": name, "inputSchema": { "type": "object" } }));
                answer(id, &json!({ "tools": tools }));
            }
            ("tools/call", _) => {
                let params = &message["params"];
                match params["name"].as_str().unwrap_or_default() {
                    "echo" => {
                        let environment: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
                        let secret = std::env::var("SECRET").ok();
                        answer(id, &json!({ "content": [], "params": params, "environment": environment, "secret": secret }));
                    }
                    "die" => std::process::exit(3),
                    "twice" => line_out(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"a\":1,\"a\":2}}}}")),
                    "long" => line_out(&"x".repeat(100_000)),
                    "ask" => {
                        say(&json!({ "jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": { "message": "Who?" } }));
                        let answered: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                        answer(id, &json!({ "content": [], "answered": answered.get("result").or(answered.get("error")) }));
                    }
                    "hang" => {
                        let token = &params["_meta"]["progressToken"];
                        let progress = json!({ "progressToken": token, "progress": 1 });
                        say(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": progress }));
                    }
                    "child" => {
                        // Kept, not waited for: it is to end when this program does.
                        children.push(std::process::Command::new("sleep").arg("1000").spawn().unwrap());
                        answer(id, &json!({ "content": [], "pid": children.last().unwrap().id() }));
                    }
                    other => panic!("`{other}` was called"),
                }
            }
            // What was given up is answered here after all, which nobody must mistake for the answer to anything else.
            ("notifications/cancelled", _) => {
                std::fs::write("cancelled", message["params"]["requestId"].to_string()).unwrap();
                answer(&message["params"]["requestId"], &json!({ "content": [], "late": true }));
            }
            _ => {}
        }
    }
    std::fs::write("ended", "in good order").unwrap();
}

fn answer(id: &Value, result: &Value) {
    say(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
}

fn say(message: &Value) {
    line_out(&message.to_string());
}

fn line_out(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
