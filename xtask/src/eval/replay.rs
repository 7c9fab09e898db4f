//! The house that the suites are replayed in: their tool servers, the gateway before them, and a key for each agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::score::Case;
use super::signals::Signal;
use super::{Run, SUITES};
use crate::Result;
use crate::gateway::{SERVING, bailiwick, private};
use crate::process::{self, Server, free_port};
use crate::tools::Tools;

/// The suites' tool servers and the agents' keys; a server ends when this is dropped.
#[derive(Debug)]
pub(super) struct Suites(Vec<Suite>);

#[derive(Debug)]
struct Suite {
    name: &'static str,
    /// The port that the example's bundle has for its tool server, and the one that it is at.
    port: (u16, u16),
    /// Where the tool server is told which case comes, and says what reached it.
    control: u16,
    key: Key,
    _server: Server,
}

/// A running gateway before the suites; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct House<'a> {
    suites: &'a Suites,
    home: PathBuf,
    data: u16,
    identity: u16,
    /// Over which a person answers.
    admin: PathBuf,
    off: Option<Signal>,
    _gateway: Server,
}

impl Suites {
    /// Starts the tool servers.
    pub(super) fn start(tools: &Tools) -> Result<Self> {
        let suite = |(name, example): (&'static str, u16)| -> Result<Suite> {
            let (port, control) = (free_port()?, free_port()?);
            let server = tool_server(tools, name, port, control)?;
            Ok(Suite { name, port: (example, port), control, key: Key::make(tools)?, _server: server })
        };
        Ok(Self(SUITES.into_iter().zip([9201, 9202]).map(suite).collect::<Result<_>>()?))
    }
}

impl<'a> House<'a> {
    /// Copies the bundle, without the signal that is off, gives its agents keys and its listeners free ports, and starts the gateway.
    pub(super) fn start(tools: &Tools, suites: &'a Suites, off: Option<Signal>) -> Result<Self> {
        let home = super::fresh_home(tools)?;
        let bundle = home.join("bundle");
        for folder in [&home, &bundle, &bundle.join("agents"), &bundle.join("servers")] {
            fs::create_dir_all(folder)?;
        }
        let (data, identity) = (free_port()?, free_port()?);
        let example = tools.root.join("examples/agentdojo");
        let listen = |text: String| Ok(text.replace(&at(8480), &at(data)).replace(&at(8481), &at(identity)));
        copy(&example, &bundle, "bailiwick.toml", listen)?;
        for Suite { name, port: (example_port, port), key, .. } in &suites.0 {
            copy(&example, &bundle, &format!("servers/{name}.toml"), |text| {
                let labels = text.replace(&at(*example_port), &at(*port));
                off.map_or_else(|| Ok(labels.clone()), |signal| signal.off(&labels))
            })?;
            copy(&example, &bundle, &format!("servers/{name}.tools.json"), Ok)?;
            copy(&example, &bundle, &format!("agents/{name}.toml"), |text| Ok(format!("{text}\n{}", key.declared)))?;
            private(&home.join(format!("{name}.pem")), &key.pem)?;
        }
        let mut gateway = Server::start(tools, "eval-serve", bailiwick(tools).arg("serve").arg(&bundle))?;
        gateway.wait_for_text(SERVING)?;
        let admin = bundle.join(".bailiwick/admin.sock");
        Ok(Self { suites, home, data, identity, admin, off, _gateway: gateway })
    }

    /// Makes the runs one after another, those of the suites at once, and gives what became of the cases of each run. A tool server
    /// holds one environment, but the suites do not know each other.
    pub(super) fn replay(&self, tools: &Tools, declared: &str, runs: &[Run], only: Option<&str>) -> Result<Vec<Vec<Case>>> {
        let replayed = std::thread::scope(|scope| {
            let of = |suite| scope.spawn(move || self.replay_suite(tools, suite, declared, runs, only).map_err(|why| why.to_string()));
            let under_way: Vec<_> = self.suites.0.iter().map(of).collect();
            under_way.into_iter().map(|suite| suite.join().map_err(|_| "a replay broke off".to_owned())?).collect::<Vec<_>>()
        });
        let mut of_runs: Vec<Vec<Case>> = runs.iter().map(|_| Vec::new()).collect();
        for cases in replayed {
            for case in cases? {
                let run = runs.iter().zip(&mut of_runs).find(|(run, _)| run.name() == case.run);
                run.ok_or("a run that nobody asked for")?.1.push(case);
            }
        }
        Ok(of_runs)
    }

    fn replay_suite(&self, tools: &Tools, suite: &Suite, declared: &str, runs: &[Run], only: Option<&str>) -> Result<Vec<Case>> {
        let name = suite.name;
        let out = self.home.join(format!("{name}-{declared}.jsonl"));
        let mut command = python(tools, "replay.py");
        command.args(["--suite", name, "--declare", declared]);
        command.args(runs.iter().flat_map(|run| ["--run".to_owned(), run.name()]));
        command.args(["--gateway", &origin(self.data), "--issuer", &origin(self.identity), "--control", &origin(suite.control)]);
        command.arg("--keys").arg(&self.home).arg("--admin").arg(&self.admin).arg("--out").arg(&out);
        command.args(only.map(|pattern| ["--match", pattern]).into_iter().flatten());
        command.args((self.off == Some(Signal::Task)).then_some("--no-task"));
        command.args((self.off == Some(Signal::Endorsement)).then_some("--no-endorse"));
        let ended = process::run(tools, &format!("eval-{name}-{declared}"), &mut command)?;
        if !ended.success {
            return Err(format!("{name} could not be replayed, see {}:\n{}", ended.log.display(), ended.tail(15)).into());
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

fn copy(from: &Path, to: &Path, name: &str, change: impl FnOnce(String) -> Result<String>) -> Result<()> {
    Ok(fs::write(to.join(name), change(process::read(&from.join(name))?)?)?)
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

/// An agent's key.
#[derive(Debug)]
struct Key {
    pem: String,
    /// The public part, as the agent's file declares it.
    declared: String,
}

impl Key {
    fn make(tools: &Tools) -> Result<Self> {
        let made: Value = serde_json::from_str(&process::run(tools, "eval-key", &mut python(tools, "agent_key.py"))?.output)?;
        let part = |member: &str| made.pointer(&format!("/jwk/{member}")).and_then(Value::as_str).unwrap_or_default();
        let pem = made.get("pem").and_then(Value::as_str).ok_or("no key was made")?.to_owned();
        let (x, y) = (part("x"), part("y"));
        let declared = format!("[[agent.key]]\nkid = \"k1\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{x}\", y = \"{y}\" }}\n");
        Ok(Self { pem, declared })
    }
}
