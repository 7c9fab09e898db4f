//! The house that the suites are replayed in: their tool servers, the gateway before them, and a key for each agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::score::Case;
use super::{Run, SUITES};
use crate::Result;
use crate::gateway::{SERVING, bailiwick, private};
use crate::process::{self, Server, free_port};
use crate::tools::Tools;

/// A running gateway with the suites' tool servers behind it; all of it ends when this is dropped.
#[derive(Debug)]
pub(super) struct House {
    home: PathBuf,
    data: u16,
    identity: u16,
    /// Over which a person answers.
    admin: PathBuf,
    /// Where each suite's tool server is told which case comes, and says what reached it.
    controls: Vec<(&'static str, u16)>,
    _gateway: Server,
    _suites: Vec<Server>,
}

impl House {
    /// Copies the bundle, gives its agents keys and its listeners free ports, and starts everything.
    pub(super) fn start(tools: &Tools) -> Result<Self> {
        let home = super::fresh_home(tools)?;
        let bundle = home.join("bundle");
        for folder in [&home, &bundle, &bundle.join("agents"), &bundle.join("servers")] {
            fs::create_dir_all(folder)?;
        }
        let (data, identity) = (free_port()?, free_port()?);
        let listen = |text: String| text.replace("127.0.0.1:8480", &at(data)).replace("127.0.0.1:8481", &at(identity));
        let example = tools.root.join("examples/agentdojo");
        copy(&example, &bundle, "bailiwick.toml", listen)?;
        let (mut suites, mut controls) = (Vec::new(), Vec::new());
        for (suite, example_port) in SUITES.iter().zip(["9201", "9202"]) {
            let (port, control) = (free_port()?, free_port()?);
            suites.push(tool_server(tools, suite, port, control)?);
            controls.push((*suite, control));
            let own = at(port);
            copy(&example, &bundle, &format!("servers/{suite}.toml"), |text| text.replace(&format!("127.0.0.1:{example_port}"), &own))?;
            copy(&example, &bundle, &format!("servers/{suite}.tools.json"), |text| text)?;
            let key = key(tools, &home.join(format!("{suite}.pem")))?;
            copy(&example, &bundle, &format!("agents/{suite}.toml"), |text| format!("{text}\n{key}"))?;
        }
        let mut gateway = Server::start(tools, "eval-serve", bailiwick(tools).arg("serve").arg(&bundle))?;
        gateway.wait_for_text(SERVING)?;
        let admin = bundle.join(".bailiwick/admin.sock");
        Ok(Self { home, data, identity, admin, controls, _gateway: gateway, _suites: suites })
    }

    /// Replays a suite and gives what became of each of its cases, with this person to answer what is asked.
    pub(super) fn replay(&self, tools: &Tools, suite: &str, run: &Run, person: &str, only: Option<&str>) -> Result<Vec<Case>> {
        let Run { attacker, declared } = run;
        let control = self.controls.iter().find(|(name, _)| *name == suite).map(|(_, port)| *port).ok_or("no such suite")?;
        let out = self.home.join(format!("{suite}-{person}.jsonl"));
        let mut command = python(tools, "replay.py");
        command.args(["--suite", suite, "--attacker", attacker, "--declare", declared, "--approver", person]);
        command.args(["--gateway", &origin(self.data), "--issuer", &origin(self.identity), "--control", &origin(control)]);
        command.arg("--keys").arg(&self.home).arg("--admin").arg(&self.admin).arg("--out").arg(&out);
        command.args(only.map(|pattern| ["--match", pattern]).into_iter().flatten());
        let ended = process::run(tools, &format!("eval-{suite}-{attacker}-{declared}-{person}"), &mut command)?;
        if !ended.success {
            return Err(format!("{suite} could not be replayed, see {}:\n{}", ended.log.display(), ended.tail(15)).into());
        }
        // Where no case has a name that matches, nothing is written.
        let written = if out.exists() { process::read(&out)? } else { String::new() };
        written.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn origin(port: u16) -> String {
    format!("http://{}", at(port))
}

fn copy(from: &Path, to: &Path, name: &str, change: impl Fn(String) -> String) -> Result<()> {
    Ok(fs::write(to.join(name), change(process::read(&from.join(name))?))?)
}

fn python(tools: &Tools, script: &str) -> Command {
    let mut command = Command::new(tools.evaluation_program("python"));
    command.current_dir(tools.evaluation_folder()).env("PYTHONDONTWRITEBYTECODE", "1").arg(script);
    command
}

fn tool_server(tools: &Tools, suite: &str, port: u16, control: u16) -> Result<Server> {
    let mut command = python(tools, "mcp_server.py");
    command.args(["--suite", suite, "--port", &port.to_string(), "--control-port", &control.to_string()]);
    let mut server = Server::start(tools, &format!("eval-{suite}"), &mut command)?;
    server.wait_for_port(port)?;
    server.wait_for_port(control)?;
    Ok(server)
}

/// Makes a key, keeps the private part in `file` and gives the agent's declaration of the public one.
fn key(tools: &Tools, file: &Path) -> Result<String> {
    let made: Value = serde_json::from_str(&process::run(tools, "eval-key", &mut python(tools, "agent_key.py"))?.output)?;
    let part = |member: &str| made.pointer(&format!("/jwk/{member}")).and_then(Value::as_str).unwrap_or_default();
    private(file, made.get("pem").and_then(Value::as_str).ok_or("no key was made")?)?;
    Ok(format!("[[agent.key]]\nkid = \"k1\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{}\", y = \"{}\" }}\n", part("x"), part("y")))
}
