//! Agents that others made, on both sides of the gateway: the official A2A SDK as client and as agent, unmodified.
//!
//! What passes with an agent directly has to pass through the gateway, in each binding and version, whatever the agent speaks. Then three
//! hops: a person has one agent act, which has another one act, which calls a tool; none of them knows of the gateway.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::gateway::{AGENT, Bundle, bailiwick, private, program, sidecar};
use crate::interop::client;
use crate::process::{self, Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// What of an agent is a tool, and what each does.
const TOOLS: &str = "[tools.message]\neffect = \"send\"\n[tools.get_task]\neffect = \"read\"\n[tools.list_tasks]\neffect = \"read\"\n\
                     [tools.cancel_task]\neffect = \"write\"\n[tools.subscribe_to_task]\neffect = \"read\"\n[tools.extended_card]\neffect = \"read\"\n\
                     [tools.push_notifications]\neffect = \"send\"\n";

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
    let calls = AGENTS
        .map(|(name, ..)| name)
        .into_iter()
        .chain(["theirs", "signed", "forged"])
        .map(|name| format!("\"{name}/*\""))
        .collect::<Vec<_>>()
        .join(", ");
    let bundle = Bundle::write(tools, "a2a", &format!("[{calls}]"), "")?;
    let mut agents = Vec::new();
    for (name, how, clients) in AGENTS {
        let (url, agent) = start_agent(tools, name, how)?;
        bundle.add(
            &format!("servers/{name}.toml"),
            &format!("[server]\nname = \"{name}\"\na2a = \"{url}\"\nskills = [\"words\"]\npush = [\"http://localhost\"]\n{TOOLS}"),
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
    let (signer, _signed) = declare_signed(tools, &bundle)?;
    let mut server = bundle.serve(tools)?;
    for name in agents.iter().map(|(name, ..)| *name).chain(["theirs", "signed"]) {
        report.check(accept(tools, &bundle, &[name, "--all"]));
    }
    let port = free_port()?;
    let _sidecar = sidecar(tools, &bundle, &["--listen", &format!("127.0.0.1:{port}")])?;
    for (index, (name, url, clients, _)) in agents.iter().enumerate() {
        for (binding, version) in *clients {
            if index == 0 {
                report.merge(sdk(tools, &format!("directly-{version}-{binding}"), &[url, binding, version])?);
            }
            let through = format!("http://127.0.0.1:{port}/a2a/{name}");
            report.merge(sdk(tools, &format!("{name}-{version}-{binding}"), &[&through, binding, version, "gateway"])?);
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
    let own = format!("http://127.0.0.1:{port}");
    let directory = bundle.directory.display().to_string();
    let by = program(tools).display().to_string();
    report.merge(client(tools, "a2a-cards", python(tools, "a2a_cards.py").args([&own, &signer, &directory, &by]))?);
    report.merge(restart(tools, &bundle, &mut server, &fronts)?);
    let mut guard = python(tools, "a2a_guard.py");
    guard
        .args(fronts.iter().map(|(url, _)| url))
        .arg(&bundle.directory)
        .arg(program(tools))
        .arg(format!("http://127.0.0.1:{}", bundle.data))
        .arg(&writer);
    report.merge(client(tools, "a2a-guard", &mut guard)?);
    let logged = bundle.run(tools, &["log", "tail", "--from", "0", "--json"])?.output;
    report.check(if ["opensesame", "known-again"].iter().any(|secret| logged.contains(secret)) {
        Err("what news are authenticated by is on the log".to_owned())
    } else if !logged.contains("PushNotification") {
        Err("news were told of which the log knows nothing".to_owned())
    } else {
        Ok(())
    });
    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success { Ok(()) } else { Err(format!("the log of all this does not verify:\n{}", verified.tail(20))) });
    Ok(report)
}

/// Declares an agent that signs its card, once with its key and once with another.
fn declare_signed(tools: &Tools, bundle: &Bundle) -> Result<(String, Server)> {
    let mut keys = Vec::new();
    for name in ["signer", "other-signer"] {
        let made: Value = serde_json::from_str(&process::run(tools, "key", tools.node()?.arg("fixtures/key.mjs"))?.output)?;
        let part = |member: &str| made.pointer(&format!("/jwk/{member}")).and_then(Value::as_str).unwrap_or_default().to_owned();
        let file = bundle.directory.with_file_name(format!("{name}.pem"));
        private(&file, made.get("pem").and_then(Value::as_str).unwrap_or_default())?;
        keys.push((file, format!("{{ kty = \"EC\", crv = \"P-256\", x = \"{}\", y = \"{}\" }}", part("x"), part("y"))));
    }
    let [(file, own), (_, other)] = keys.as_slice() else { return Err("there are not two keys".into()) };
    let (url, agent) = start_agent(tools, "signed", &["--key", &file.display().to_string()])?;
    for (name, key) in [("signed", own), ("forged", other)] {
        bundle.add(
            &format!("servers/{name}.toml"),
            &format!("[server]\nname = \"{name}\"\na2a = \"{url}\"\ncard_key = {key}\n[tools.message]\neffect = \"send\"\n"),
        )?;
    }
    Ok((url, agent))
}

/// Ends the gateway as a crash does, and looks whose tasks are whose after it.
fn restart(tools: &Tools, bundle: &Bundle, server: &mut Server, fronts: &[(String, Option<Server>)]) -> Result<Report> {
    let kept = bundle.directory.with_file_name("task");
    let look = |name: &str| {
        let mut command = python(tools, "a2a_restart.py");
        command.args(fronts.iter().take(2).map(|(url, _)| url)).arg(&kept);
        client(tools, name, &mut command)
    };
    let mut report = look("a2a-before-a-crash")?;
    server.kill();
    *server = bundle.serve(tools)?;
    report.merge(look("a2a-after-a-crash")?);
    Ok(report)
}

/// A person, an agent, another agent, and a tool.
fn hops(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let may = r#"["back/message", "back/get_task", "team/message", "time/convert_time", "clock/get_current_time"]"#;
    let bundle = Bundle::write(tools, "a2a-hops", may, "")?;
    // Whose word it is that a person stands behind the first agent.
    let issuer_port = free_port()?;
    let mut issuer = Server::start(tools, "a2a-issuer", tools.node()?.args(["fixtures/issuer.mjs", &issuer_port.to_string()]))?;
    issuer.wait_for_port(issuer_port)?;
    let idp = format!("http://127.0.0.1:{issuer_port}");
    bundle.add("issuers.toml", &format!("[[issuer]]\nname = \"idp\"\nissuer = \"{idp}\"\naudience = \"checks\"\n"))?;
    let person = bundle.directory.with_file_name("person.jwt");
    private(&person, &persons_token(tools, &idp)?)?;
    let time = vec!["mcp-server-time".to_owned(), "--local-timezone".to_owned(), "UTC".to_owned()];
    for name in ["time", "clock"] {
        bundle.add_server(tools, name, &crate::gateway::Reached::Stdio(time.clone()))?;
    }
    let may = r#"["time/get_current_time", "time/convert_time"]"#;
    let keys = [bundle.add_agent(tools, "back", may)?, bundle.add_agent(tools, "team", may)?];
    bundle.may_delegate(&["back", "team"])?;

    // The card leads to where the sidecar takes messages, as it does for whoever deploys one.
    let mut agents = Vec::new();
    for (name, more) in [("back", &[][..]), ("team", &["--trace"])] {
        let (mcp, messages) = (free_port()?, free_port()?);
        let endpoint = format!("http://127.0.0.1:{mcp}/mcp");
        let (behind, agent) = start_agent(tools, name, &[&["--tools", &endpoint], more].concat())?;
        let url = format!("http://127.0.0.1:{messages}");
        bundle
            .add(&format!("servers/{name}.toml"), &format!("[server]\nname = \"{name}\"\na2a = \"{url}\"\nagent = \"{name}\"\n{TOOLS}"))?;
        agents.push((name, mcp, messages, behind, agent));
    }
    let _server = bundle.serve(tools)?;
    let gateway = format!("http://127.0.0.1:{}", bundle.data);
    let mut fronts = Vec::new();
    for ((name, mcp, messages, behind, _), key) in agents.iter().zip(&keys) {
        let mut front = bailiwick(tools);
        front.args(["connect", "--agent", name, "--url", &gateway, "--key"]).arg(key);
        front.args(["--listen", &format!("127.0.0.1:{mcp}"), "--serve", &format!("127.0.0.1:{messages}"), "--in-front-of", behind]);
        if *name == "team" {
            front.args(["--at-once", "2"]);
        }
        let mut front = Server::start(tools, &format!("a2a-front-{name}"), &mut front)?;
        front.wait_for_text("MCP clients connect to")?;
        fronts.push(front);
    }
    report.check(accept(tools, &bundle, &["--all"]));

    let port = free_port()?;
    let person = person.display().to_string();
    let _sidecar = sidecar(tools, &bundle, &["--listen", &format!("127.0.0.1:{port}"), "--subject-token-file", &person])?;
    let through = |agent: &str| format!("http://127.0.0.1:{port}/a2a/{agent}");
    let (_, mcp, _, behind, _) = agents.first().ok_or("there is no agent")?;
    let tools_of = format!("http://127.0.0.1:{mcp}/mcp");
    let mut client_of = python(tools, "a2a_hops.py");
    report.merge(client(tools, "a2a-hops", client_of.args([&through("back"), behind, &tools_of, &through("team")]))?);

    let logged = bundle.run(tools, &["log", "tail", "--from", "0", "--json"])?;
    report.check(chain_in(&logged.output));
    // The second agent may have seen the person's token, and it is not meant for it.
    let [key, _] = &keys;
    let mut alone = bailiwick(tools);
    alone.args(["token", "--agent", "back", "--url", &gateway, "--subject-token-file", &person, "--key"]).arg(key);
    let alone = process::run(tools, "a2a-alone", &mut alone)?;
    let is_refused = !alone.success && alone.output.contains("the subject token was not");
    report.check(if is_refused { Ok(()) } else { Err(format!("the second agent acts for the person by itself:\n{}", alone.tail(10))) });
    Ok(report)
}

/// A token by which the first agent, and no other, may act for a person.
fn persons_token(tools: &Tools, idp: &str) -> Result<String> {
    let claims = format!(r#"{{"sub":"ana","aud":"checks","azp":"{AGENT}"}}"#);
    let ask = format!(
        "const answer = await fetch('{idp}/mint', {{ method: 'POST', body: '{claims}' }}); console.log((await answer.json()).token);"
    );
    let minted = process::run(tools, "a2a-person", tools.node()?.args(["--input-type=module", "-e", &ask]))?;
    Ok(minted.output.trim().to_owned())
}

/// Whether the record of a call of the tool names the person and the whole chain.
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
    let subjects =
        [started, called.unwrap_or(started)].map(|record| record.pointer("/subject").and_then(Value::as_str).unwrap_or_default());
    let is_hers = subjects.iter().all(|subject| subject.contains("ana"));
    if is_hers && agent == "back" && chain.ends_with(&format!("/agent/{AGENT}")) {
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
fn accept(tools: &Tools, bundle: &Bundle, what: &[&str]) -> std::result::Result<(), String> {
    let reviewed = bundle.run(tools, &[&["servers", "review"], what].concat()).map_err(|why| why.to_string())?;
    if reviewed.success || reviewed.output.contains("accepted") {
        Ok(())
    } else {
        Err(format!("the cards could not be reviewed:\n{}", reviewed.tail(20)))
    }
}

fn sdk(tools: &Tools, name: &str, how: &[&str]) -> Result<Report> {
    client(tools, &format!("a2a-{}", name.replace('+', "-")), python(tools, "a2a_sdk.py").args(how))
}

fn python(tools: &Tools, script: &str) -> Command {
    let mut command = Command::new(tools.python_program("python"));
    command.current_dir(tools.root.join("interop")).arg(PathBuf::from("clients").join(script));
    command
}
