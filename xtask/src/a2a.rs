//! Agents that others made, on both sides of the gateway: the official A2A SDK as client and as agent, unmodified.
//!
//! What passes with an agent directly has to pass through the gateway, in each binding and version, whatever the agent speaks. Then three
//! hops: a person has one agent act, which has another one act, which calls a tool; none of them knows of the gateway.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::gateway::{AGENT, Bundle, bailiwick, program, sidecar};
use crate::interop::client;
use crate::process::{Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// What of an agent is a tool, and what each does.
const TOOLS: &str = "[tools.message]\neffect = \"send\"\n[tools.get_task]\neffect = \"read\"\n[tools.list_tasks]\neffect = \"read\"\n\
                     [tools.cancel_task]\neffect = \"write\"\n[tools.subscribe_to_task]\neffect = \"read\"\n[tools.extended_card]\neffect = \"read\"\n";

/// How clients speak.
const CLIENTS: [(&str, &str); 3] = [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3")];

/// An agent behind: what it is called, how it speaks, and the clients that are put before it.
type Behind = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

/// What 0.3 cannot say, no gateway makes of it: the agent of 0.3 lists no tasks.
const AGENTS: [Behind; 3] = [
    ("writer", &[], &CLIENTS),
    ("older", &["--older"], &[("JSONRPC", "1.0-unlisted"), ("HTTP+JSON", "1.0-unlisted")]),
    ("rest", &["--rest"], &[("JSONRPC", "1.0"), ("JSONRPC", "0.3")]),
];

/// Runs all of it.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let mut report = through(tools)?;
    report.merge(hops(tools)?);
    Ok(report)
}

/// Each client against each agent, directly where the agent speaks as the client does, and through the gateway.
fn through(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let calls =
        AGENTS.map(|(name, ..)| name).into_iter().chain(["theirs"]).map(|name| format!("\"{name}/*\"")).collect::<Vec<_>>().join(", ");
    let bundle = Bundle::write(tools, "a2a", &format!("[{calls}]"), "")?;
    let mut agents = Vec::new();
    for (name, how, clients) in AGENTS {
        let (url, agent) = start_agent(tools, name, how)?;
        bundle.add(
            &format!("servers/{name}.toml"),
            &format!("[server]\nname = \"{name}\"\na2a = \"{url}\"\nskills = [\"words\"]\n{TOOLS}"),
        )?;
        agents.push((name, url, clients, agent));
    }
    let others = [bundle.add_agent(tools, "other", "[\"writer/*\"]")?, bundle.add_agent(tools, "asker", "[\"writer/*\"]")?];
    let writer = agents.first().map(|(_, url, ..)| url.clone()).ok_or("there is no agent")?;
    // The same agent, as one of ours that nobody may have act.
    bundle.add("servers/theirs.toml", &format!("[server]\nname = \"theirs\"\na2a = \"{writer}\"\nagent = \"other\"\n{TOOLS}"))?;
    bundle.add(
        "policies/ask.cedar",
        "@id(\"asker-is-asked\")\n@otherwise(\"ask\")\nforbid (principal == Agent::\"asker\", action == Action::\"writer/message\", resource);\n",
    )?;
    let _server = bundle.serve(tools)?;
    report.check(accept(tools, &bundle));
    let port = free_port()?;
    let _sidecar = sidecar(tools, &bundle, &["--listen", &format!("127.0.0.1:{port}")])?;
    for (index, (name, url, clients, _)) in agents.iter().enumerate() {
        for (binding, version) in *clients {
            if index == 0 {
                report.merge(sdk(tools, &format!("directly-{version}-{binding}"), url, binding, version)?);
            }
            let through = format!("http://127.0.0.1:{port}/a2a/{name}");
            report.merge(sdk(tools, &format!("{name}-{version}-{binding}"), &through, binding, version)?);
        }
    }
    let mut fronts = vec![(format!("http://127.0.0.1:{port}"), None)];
    for (name, key) in ["other", "asker"].into_iter().zip(&others) {
        let port = free_port()?;
        let (gateway, listen) = (format!("http://127.0.0.1:{}", bundle.data), format!("127.0.0.1:{port}"));
        let mut command = bailiwick(tools);
        command.args(["connect", "--agent", name, "--url", &gateway, "--listen", &listen, "--key"]).arg(key);
        let mut front = Server::start(tools, &format!("a2a-connect-{name}"), &mut command)?;
        front.wait_for_text("MCP clients connect to")?;
        fronts.push((format!("http://{listen}"), Some(front)));
    }
    let mut guard = python(tools, "a2a_guard.py");
    guard
        .args(fronts.iter().map(|(url, _)| url))
        .arg(&bundle.directory)
        .arg(program(tools))
        .arg(format!("http://127.0.0.1:{}", bundle.data));
    report.merge(client(tools, "a2a-guard", &mut guard)?);
    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success { Ok(()) } else { Err(format!("the log of all this does not verify:\n{}", verified.tail(20))) });
    Ok(report)
}

/// A person, an agent, another agent, and a tool.
fn hops(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let may = r#"["back/message", "back/get_task", "time/convert_time"]"#;
    let bundle = Bundle::write(tools, "a2a-hops", may, "")?;
    // Whose word it is that a person stands behind the first agent.
    let issuer_port = free_port()?;
    let mut issuer = Server::start(tools, "a2a-issuer", tools.node()?.args(["fixtures/issuer.mjs", &issuer_port.to_string()]))?;
    issuer.wait_for_port(issuer_port)?;
    let time = vec!["mcp-server-time".to_owned(), "--local-timezone".to_owned(), "UTC".to_owned()];
    bundle.add_server(tools, "time", &crate::gateway::Reached::Stdio(time))?;
    let key = bundle.add_agent(tools, "back", r#"["time/get_current_time", "time/convert_time"]"#)?;
    bundle.may_delegate(&["back"])?;

    let (mcp, messages) = (free_port()?, free_port()?);
    let (behind, _agent) = start_agent(tools, "back", &["--tools", &format!("http://127.0.0.1:{mcp}/mcp")])?;
    // The card leads to where the sidecar takes messages, as it does for whoever deploys one.
    let url = format!("http://127.0.0.1:{messages}");
    bundle.add("servers/back.toml", &format!("[server]\nname = \"back\"\na2a = \"{url}\"\nagent = \"back\"\n{TOOLS}"))?;
    let _server = bundle.serve(tools)?;
    let gateway = format!("http://127.0.0.1:{}", bundle.data);
    let mut front = bailiwick(tools);
    front.args(["connect", "--agent", "back", "--url", &gateway, "--key"]).arg(&key);
    front.args(["--listen", &format!("127.0.0.1:{mcp}"), "--serve", &format!("127.0.0.1:{messages}"), "--in-front-of", &behind]);
    let mut front = Server::start(tools, "a2a-front", &mut front)?;
    front.wait_for_text("MCP clients connect to")?;
    report.check(accept(tools, &bundle));

    let port = free_port()?;
    let _sidecar = sidecar(tools, &bundle, &["--listen", &format!("127.0.0.1:{port}")])?;
    let through = format!("http://127.0.0.1:{port}/a2a/back");
    report.merge(client(
        tools,
        "a2a-hops",
        python(tools, "a2a_hops.py").args([&through, &behind, &format!("http://127.0.0.1:{mcp}/mcp")]),
    )?);

    let logged = bundle.run(tools, &["log", "tail", "--from", "0", "--json"])?;
    report.check(chain_in(&logged.output));
    Ok(report)
}

/// Whether the record of a call of the tool names the whole chain.
fn chain_in(log: &str) -> std::result::Result<(), String> {
    let records: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let started = |execution: &Value| {
        records
            .iter()
            .find(|record| record.pointer("/kind") == Some(&"execution_started".into()) && record.pointer("/execution") == Some(execution))
    };
    let called = records.iter().find(|record| {
        record.pointer("/kind") == Some(&"intent".into())
            && record.pointer("/tool") == Some(&"time/convert_time".into())
            && record.pointer("/verdict") == Some(&"allow".into())
    });
    let execution = called.and_then(|called| called.pointer("/execution")).ok_or("no call of the tool is on the log")?;
    let started = started(execution).ok_or("the execution of the call is not on the log")?;
    let chain = started.pointer("/chain/0/agent").and_then(Value::as_str).unwrap_or_default();
    let agent = started.pointer("/agent").and_then(Value::as_str).unwrap_or_default();
    if agent == "back" && chain.ends_with(&format!("/agent/{AGENT}")) {
        Ok(())
    } else {
        Err(format!("the record shows no chain: {started}"))
    }
}

fn start_agent(tools: &Tools, name: &str, how: &[&str]) -> Result<(String, Server)> {
    let port = free_port()?;
    let mut command = Command::new(tools.python_program("python"));
    command.current_dir(tools.root.join("interop")).args(["fixtures/a2a_agent.py", &port.to_string(), name]).args(how);
    let mut agent = Server::start(tools, &format!("a2a-agent-{name}"), &mut command)?;
    agent.wait_for_port(port)?;
    Ok((format!("http://127.0.0.1:{port}"), agent))
}

/// Reviews what the agents show, as an operator does, and lets it stand.
fn accept(tools: &Tools, bundle: &Bundle) -> std::result::Result<(), String> {
    let reviewed = bundle.run(tools, &["servers", "review", "--all"]).map_err(|why| why.to_string())?;
    if reviewed.success || reviewed.output.contains("accepted") {
        Ok(())
    } else {
        Err(format!("the cards could not be reviewed:\n{}", reviewed.tail(20)))
    }
}

fn sdk(tools: &Tools, name: &str, url: &str, binding: &str, version: &str) -> Result<Report> {
    client(tools, &format!("a2a-{}", name.replace('+', "-")), python(tools, "a2a_sdk.py").args([url, binding, version]))
}

fn python(tools: &Tools, script: &str) -> Command {
    let mut command = Command::new(tools.python_program("python"));
    command.current_dir(tools.root.join("interop")).arg(PathBuf::from("clients").join(script));
    command
}
