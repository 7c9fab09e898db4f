//! The release build of `bailiwick serve`, on a bundle that is written for the measurement.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::load::Target;
use crate::agent::{Agent, Doors};
use crate::key::Key;
use crate::process::{self, Program, free_port};
use crate::{Result, upstream};

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
    doors: Doors,
    /// One that has a credential, and that is enough.
    pub(super) bearer: Agent,
    /// One that shows a new proof with each request.
    pub(super) proven: Agent,
}

impl Gateway {
    /// Writes the bundle and starts the program beside this one on it.
    pub(super) async fn start(home: &Path, upstream_port: u16, bundle: Bundle) -> Result<Self> {
        let home = home.join(format!("bundle-{}-{}", bundle.policies, bundle.records_arguments));
        let doors = Doors { data: free_port()?, identity: free_port()? };
        let key = Arc::new(Key::new()?);
        let bearer = Agent { name: "bearer", is_bearer: true, key: Arc::clone(&key) };
        let proven = Agent { name: "proven", is_bearer: false, key };
        write(&home, bundle, doors, upstream_port, &[&bearer, &proven])?;
        let program = Program::start(process::bailiwick()?.arg("serve").arg(&home), &home.join("said"))?;
        program.wait_until_it_listens(doors.data).await?;
        program.wait_until_it_listens(doors.identity).await?;
        Ok(Self { program, doors, bearer, proven })
    }

    /// The id of its process.
    pub(super) fn id(&self) -> u32 {
        self.program.id()
    }

    /// The gateway, to be called by `agent`.
    pub(super) fn target(&self, agent: &Agent) -> Target<'_> {
        let caller = Some((agent.clone(), self.doors));
        Target { port: self.doors.data, path: format!("/mcp/{SERVER}"), program: &self.program, caller }
    }
}

fn write(home: &Path, bundle: Bundle, Doors { data, identity }: Doors, upstream: u16, agents: &[&Agent]) -> Result {
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
    for agent in agents {
        let declaration = agent.declaration("ttl = \"15m\"", &format!("call = [\"{SERVER}/*\"]"));
        fs::write(home.join(format!("agents/{}.toml", agent.name)), declaration)?;
    }
    let declared = "[tools.read]\neffect = \"read\"\n[tools.write]\neffect = \"write\"\n[tools.large]\neffect = \"read\"\n";
    fs::write(
        home.join(format!("servers/{SERVER}.toml")),
        format!("[server]\nname = \"{SERVER}\"\nmcp = \"http://127.0.0.1:{upstream}/mcp\"\n{declared}"),
    )?;
    fs::write(home.join(format!("servers/{SERVER}.tools.json")), serde_json::to_vec_pretty(&upstream::definitions(&upstream::TOOLS))?)?;
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
