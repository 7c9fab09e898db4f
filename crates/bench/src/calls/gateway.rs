//! The release build of `bailiwick serve`, on a bundle that is written for the measurement.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::agent::{Agent, Key};
use super::echo;
use super::load::{Caller, Target};
use super::process::{Program, free_port};
use crate::Result;

/// The name of the tool server.
pub(super) const SERVER: &str = "echo";

/// What differs between the bundles.
#[derive(Clone, Copy)]
pub(super) struct Bundle {
    /// How many policies there are; two concern the calls.
    pub(super) policies: usize,
    /// Whether the log keeps the arguments' text, or its digest alone.
    pub(super) records_arguments: bool,
}

/// A running gateway.
pub(super) struct Gateway {
    program: Program,
    data: u16,
    identity: u16,
    key: Arc<Key>,
}

impl Gateway {
    /// Writes the bundle and starts the program beside this one on it.
    pub(super) async fn start(home: &Path, upstream_port: u16, bundle: Bundle) -> Result<Self> {
        let home = home.join(format!("bundle-{}-{}", bundle.policies, bundle.records_arguments));
        let (data, identity, key) = (free_port()?, free_port()?, Arc::new(Key::generate()?));
        write(&home, bundle, (data, identity, upstream_port), &key)?;
        let program = std::env::current_exe()?.with_file_name("bailiwick");
        if !program.exists() {
            return Err(format!("there is no {}: `cargo xtask bench` builds it", program.display()).into());
        }
        let program = Program::start(Command::new(program).arg("serve").arg(&home), &home.join("said"))?;
        program.wait_until_it_listens(data).await?;
        program.wait_until_it_listens(identity).await?;
        Ok(Self { program, data, identity, key })
    }

    /// The gateway, to be called by `agent`.
    pub(super) fn target(&self, agent: Agent) -> Target<'_> {
        let caller = Caller { agent, key: Arc::clone(&self.key), data: self.data, identity: self.identity };
        Target { port: self.data, path: format!("/mcp/{SERVER}"), program: &self.program, caller: Some(caller) }
    }
}

fn write(home: &Path, bundle: Bundle, (data, identity, upstream): (u16, u16, u16), key: &Key) -> Result {
    for directory in ["agents", "servers", "policies"] {
        fs::create_dir_all(home.join(directory))?;
    }
    let logged = if bundle.records_arguments { "" } else { "[limits]\narguments_logged_max = 0\n" };
    fs::write(
        home.join("bailiwick.toml"),
        format!(
            "trust_domain = \"acme.example\"\n[data]\nlisten = \"127.0.0.1:{data}\"\n[identity]\nlisten = \"127.0.0.1:{identity}\"\n{logged}"
        ),
    )?;
    for (agent, proof) in [(Agent::Bearer, "bearer"), (Agent::Proven, "dpop")] {
        fs::write(
            home.join(format!("agents/{}.toml", agent.name())),
            format!(
                "[agent]\nname = \"{}\"\nowner = \"bench@acme.example\"\npurpose = \"Call as fast as it goes\"\nroles = [\"caller\"]\n\
                 [agent.credential]\nttl = \"15m\"\nproof = \"{proof}\"\n[agent.may]\ncall = [\"{SERVER}/*\"]\n\
                 [[agent.key]]\nkid = \"k1\"\njwk = {}\n",
                agent.name(),
                key.jwk_toml(),
            ),
        )?;
    }
    let declared = "[tools.read]\neffect = \"read\"\n[tools.write]\neffect = \"write\"\n[tools.large]\neffect = \"read\"\n";
    fs::write(
        home.join(format!("servers/{SERVER}.toml")),
        format!("[server]\nname = \"{SERVER}\"\nmcp = \"http://127.0.0.1:{upstream}/mcp\"\n{declared}"),
    )?;
    fs::write(home.join(format!("servers/{SERVER}.tools.json")), serde_json::to_vec_pretty(&echo::definitions())?)?;
    // One that every call is compared with, and the others for roles that nobody has.
    let mut policies = format!(
        "@id(\"no-long-texts\")\nforbid (principal in Role::\"caller\", action == Action::\"{SERVER}/read\", resource)\n\
         when {{ context.input.text == \"forbidden\" }};\n"
    );
    for number in 2..bundle.policies {
        let role = json!(format!("role-{number}"));
        write!(
            policies,
            "@id(\"other-{number}\")\nforbid (principal in Role::{role}, action == Action::\"{SERVER}/read\", resource)\n\
             when {{ context.input.text == \"forbidden\" }};\n"
        )?;
    }
    fs::write(home.join("policies/bench.cedar"), policies)?;
    Ok(())
}
