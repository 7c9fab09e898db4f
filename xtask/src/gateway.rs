//! A gateway that a check puts in front of tool servers: its bundle, its processes, and the sidecar before it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::process::{self, Ended, Server, free_port};
use crate::tools::Tools;

/// The agent that the checks act as.
pub(crate) const AGENT: &str = "interop";

/// What a gateway prints once it serves.
pub(crate) const SERVING: &str = "log key";

/// How a tool server is reached.
#[derive(Clone, Debug)]
pub(crate) enum Reached {
    /// At this URL.
    Http(String),
    /// As a program with its arguments.
    Stdio(Vec<String>),
}

/// A bundle on disk, with an agent whose key is beside it.
#[derive(Debug)]
pub(crate) struct Bundle {
    name: String,
    /// The bundle's directory.
    pub(crate) directory: PathBuf,
    key: PathBuf,
    /// The gateway's port.
    pub(crate) data: u16,
    identity: u16,
    /// The authority by which the gateway is believed, where it speaks TLS.
    authority: Option<PathBuf>,
}

impl Bundle {
    /// Writes a bundle with one agent that may call what `may` says, a TOML array of patterns; `more` is added to the
    /// agent's file.
    pub(crate) fn write(tools: &Tools, name: &str, may: &str, more: &str) -> Result<Self> {
        Self::write_with(tools, name, may, "", more)
    }

    /// The same, where the agent's own table says `own` besides.
    pub(crate) fn write_with(tools: &Tools, name: &str, may: &str, own: &str, more: &str) -> Result<Self> {
        let home = tools.cache().join("run").join(name);
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        let bundle = Self {
            name: name.to_owned(),
            directory: home.join("bundle"),
            key: home.join("key.pem"),
            data: free_port()?,
            identity: free_port()?,
            authority: None,
        };
        bundle.keep_data_in(Path::new(".bailiwick"))?;
        let made: Value = serde_json::from_str(&process::run(tools, "key", tools.node()?.arg("fixtures/key.mjs"))?.output)?;
        let part = |member: &str| made.pointer(&format!("/jwk/{member}")).and_then(Value::as_str).unwrap_or_default();
        private(&bundle.key, made.get("pem").and_then(Value::as_str).ok_or("no key was made")?)?;
        bundle.add(
            &format!("agents/{AGENT}.toml"),
            &format!(
                "[agent]\nname = \"{AGENT}\"\nowner = \"checks@acme.example\"\npurpose = \"Show that others' parts work\"\nroles = [\"checker\"]\n{own}\
                 [agent.may]\ncall = {may}\n\
                 [[agent.key]]\nkid = \"k1\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{}\", y = \"{}\" }}\n{more}",
                part("x"),
                part("y")
            ),
        )?;
        Ok(bundle)
    }

    /// Adds another agent that may call what `may` says, and gives where its key is.
    pub(crate) fn add_agent(&self, tools: &Tools, name: &str, may: &str) -> Result<PathBuf> {
        let made: Value = serde_json::from_str(&process::run(tools, "key", tools.node()?.arg("fixtures/key.mjs"))?.output)?;
        let part = |member: &str| made.pointer(&format!("/jwk/{member}")).and_then(Value::as_str).unwrap_or_default();
        let key = self.key_of(name);
        private(&key, made.get("pem").and_then(Value::as_str).ok_or("no key was made")?)?;
        let text = format!(
            "[agent]\nname = \"{name}\"\nowner = \"checks@acme.example\"\npurpose = \"Act for others\"\nroles = [\"checker\"]\n\
             [agent.may]\ncall = {may}\n\
             [[agent.key]]\nkid = \"k1\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{}\", y = \"{}\" }}\n",
            part("x"),
            part("y")
        );
        self.add(&format!("agents/{name}.toml"), &text)?;
        Ok(key)
    }

    /// Lets the agent that the checks act as have these others act for it.
    pub(crate) fn may_delegate(&self, to: &[&str]) -> Result<()> {
        let file = format!("agents/{AGENT}.toml");
        let text = process::read(&self.directory.join(&file))?;
        self.add(&file, &text.replace("[agent.may]\n", &format!("[agent.may]\ndelegate_to = {to:?}\n")))
    }

    /// Says where the gateway keeps its data; before it is started for the first time.
    pub(crate) fn keep_data_in(&self, directory: &Path) -> Result<()> {
        let (data, identity) = (self.data, self.identity);
        self.add(
            "bailiwick.toml",
            &format!(
                "trust_domain = \"acme.example\"\ndata_dir = \"{}\"\n[data]\nlisten = \"127.0.0.1:{data}\"\n[identity]\nlisten = \"127.0.0.1:{identity}\"\n",
                directory.display()
            ),
        )
    }

    /// Lets the gateway speak TLS, by a certificate of an authority that is made here; before it is started for the first time.
    pub(crate) fn speak_tls(&mut self, tools: &Tools) -> Result<()> {
        tools.python_environment("spiffe", &tools.root.join("interop/spiffe.txt"))?;
        let mut make = Command::new(tools.cache().join("spiffe/bin/python"));
        make.current_dir(tools.root.join("interop")).arg("fixtures/certificate.py").arg(&self.directory);
        let made = process::run(tools, &format!("{}-certificate", self.name), &mut make)?;
        if !made.success {
            return Err(format!("no certificate was made:\n{}", made.tail(10)).into());
        }
        let (data, identity) = (self.data, self.identity);
        let listen = |name: &str, port: u16| {
            format!("[{name}]\nlisten = \"127.0.0.1:{port}\"\ntls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n")
        };
        let text = format!(
            "trust_domain = \"acme.example\"\ndata_dir = \".bailiwick\"\nca_file = \"ca.pem\"\n{}{}",
            listen("data", data),
            listen("identity", identity)
        );
        self.authority = Some(self.directory.join("ca.pem"));
        self.add("bailiwick.toml", &text)
    }

    /// Lets a client of others believe the gateway's certificate, as its own language's way is.
    pub(crate) fn believed_by<'c>(&self, client: &'c mut Command) -> &'c mut Command {
        match &self.authority {
            Some(authority) => client.env("NODE_EXTRA_CA_CERTS", authority).env("SSL_CERT_FILE", authority),
            None => client,
        }
    }

    /// The origin of agents' calls.
    pub(crate) fn origin(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.data)
    }

    /// The identity origin.
    pub(crate) fn issuer(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.identity)
    }

    fn scheme(&self) -> &'static str {
        if self.authority.is_some() { "https" } else { "http" }
    }

    /// What asks for a credential of an agent by this key.
    pub(crate) fn ask_token(&self, tools: &Tools, agent: &str, key: &Path) -> Command {
        let mut ask = bailiwick(tools);
        ask.args(["token", "--agent", agent, "--url", &self.origin(), "--key"]).arg(key);
        if let Some(authority) = &self.authority {
            ask.arg("--ca").arg(authority);
        }
        ask
    }

    /// Where the key is of an agent that was added.
    pub(crate) fn key_of(&self, agent: &str) -> PathBuf {
        self.key.with_file_name(format!("{agent}.pem"))
    }

    /// A token of the agent to show to `audience`.
    pub(crate) fn token_for(&self, tools: &Tools, audience: &str) -> Result<String> {
        let mut ask = self.ask_token(tools, AGENT, &self.key);
        ask.args(["--audience", audience]);
        let ended = process::run(tools, &format!("{}-token", self.name), &mut ask)?;
        if ended.success { Ok(ended.output.trim().to_owned()) } else { Err(format!("no token was given:\n{}", ended.tail(10)).into()) }
    }

    /// Adds to the end of a file of the bundle.
    pub(crate) fn append(&self, name: &str, text: &str) -> Result<()> {
        let before = process::read(&self.directory.join(name))?;
        self.add(name, &format!("{before}{text}"))
    }

    /// Adds a file to the bundle.
    pub(crate) fn add(&self, name: &str, text: &str) -> Result<()> {
        let file = self.directory.join(name);
        fs::create_dir_all(file.parent().unwrap_or(&self.directory))?;
        Ok(fs::write(file, text)?)
    }

    /// Adds a tool server with everything that it offers: its tools as it defines them now, its resources and prompts.
    pub(crate) fn add_server(&self, tools: &Tools, name: &str, reached: &Reached) -> Result<()> {
        let mut ask = tools.node()?;
        ask.arg("fixtures/definitions.mjs");
        let transport = match reached {
            Reached::Http(url) => {
                ask.args(["http", url]);
                format!("mcp = \"{url}\"")
            }
            Reached::Stdio(command) => {
                ask.arg("stdio").args(command);
                format!("stdio = {}", Value::from(command.clone()))
            }
        };
        let answer = process::run(tools, &format!("definitions-{name}"), &mut ask)?;
        let line = answer
            .output
            .lines()
            .find(|line| line.starts_with('{'))
            .ok_or_else(|| format!("`{name}` did not say what it offers:\n{}", answer.tail(20)))?;
        let offers: Value = serde_json::from_str(line)?;
        let list = |what: &str| offers.get(what).and_then(Value::as_array).cloned().unwrap_or_default();

        let mut text = format!("[server]\nname = \"{name}\"\n{transport}\n");
        for tool in list("tools") {
            let tool_name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            let effect = if tool.pointer("/annotations/readOnlyHint") == Some(&Value::Bool(true)) { "read" } else { "write" };
            write!(text, "[tools.\"{tool_name}\"]\neffect = \"{effect}\"\n")?;
        }
        let schemes = list("resources")
            .iter()
            .filter_map(|uri| Some(format!("{}://*", uri.as_str()?.split_once("://")?.0)))
            .collect::<std::collections::BTreeSet<_>>();
        for pattern in schemes {
            writeln!(text, "[resources.\"{pattern}\"]")?;
        }
        for prompt in list("prompts") {
            writeln!(text, "[prompts.{prompt}]")?;
        }
        self.add(&format!("servers/{name}.toml"), &text)?;
        self.add(&format!("servers/{name}.tools.json"), &serde_json::to_string_pretty(&list("tools"))?)
    }

    /// Runs a command of the program on this bundle.
    pub(crate) fn run(&self, tools: &Tools, arguments: &[&str]) -> Result<Ended> {
        process::run(
            tools,
            &format!("{}-{}", self.name, arguments.first().unwrap_or(&"run")),
            bailiwick(tools).args(arguments).arg("--dir").arg(&self.directory),
        )
    }

    /// Starts the gateway on this bundle and waits until it answers.
    pub(crate) fn serve(&self, tools: &Tools) -> Result<Server> {
        let mut server = Server::start(tools, &format!("{}-serve", self.name), bailiwick(tools).arg("serve").arg(&self.directory))?;
        // Its ports are taken before the log is opened; it greets once what a crash left open is closed and it answers.
        server.wait_for_text(SERVING)?;
        Ok(server)
    }

    /// The command line of a sidecar before this gateway.
    pub(crate) fn connect(&self, tools: &Tools) -> Vec<String> {
        let program = program(tools).display().to_string();
        let key = self.key.display().to_string();
        let mut line = [&program, "connect", "--agent", AGENT, "--key", &key, "--url", &self.origin()].map(str::to_owned).to_vec();
        if let Some(authority) = &self.authority {
            line.extend(["--ca".to_owned(), authority.display().to_string()]);
        }
        line
    }
}

/// A running gateway with a sidecar on loopback before it.
#[derive(Debug)]
pub(crate) struct Gateway {
    // In the order in which they are to be stopped.
    _sidecar: Server,
    _server: Server,
    port: u16,
}

impl Gateway {
    /// Starts both; `reach` are arguments of the sidecar that say what it is to reach.
    pub(crate) fn start(tools: &Tools, bundle: &Bundle, reach: &[&str]) -> Result<Self> {
        let server = bundle.serve(tools)?;
        let port = free_port()?;
        let sidecar = sidecar(tools, bundle, &[&["--listen", &format!("127.0.0.1:{port}")], reach].concat())?;
        let gateway = Self { _sidecar: sidecar, _server: server, port };
        Ok(gateway)
    }

    /// A URL at the sidecar.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// Starts a sidecar and waits until clients can connect to it.
pub(crate) fn sidecar(tools: &Tools, bundle: &Bundle, face: &[&str]) -> Result<Server> {
    let line = bundle.connect(tools);
    let (program, arguments) = line.split_first().ok_or("an empty command line")?;
    let mut sidecar = Server::start(tools, &format!("{}-connect", bundle.name), Command::new(program).args(arguments).args(face))?;
    sidecar.wait_for_text("MCP clients connect to")?;
    Ok(sidecar)
}

/// The bundle for the conformance suite: everything that the fixture at a port offers is granted.
pub(crate) fn fixture_bundle(tools: &Tools, era: &str, port: u16) -> Result<Bundle> {
    let bundle = Bundle::write(tools, &format!("suite-{era}"), "[\"fixture/*\"]", "")?;
    bundle.add_server(tools, "fixture", &Reached::Http(format!("http://127.0.0.1:{port}/mcp")))?;
    Ok(bundle)
}

/// The built program.
pub(crate) fn program(tools: &Tools) -> PathBuf {
    target(tools).join(if tools.release { "release" } else { "debug" }).join("bailiwick")
}

/// Where cargo puts what it builds.
pub(crate) fn target(tools: &Tools) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools.root.join("target"), PathBuf::from)
}

/// The built program, to be run with what the tool servers need on its search path.
pub(crate) fn bailiwick(tools: &Tools) -> Command {
    let mut command = Command::new(program(tools));
    command.current_dir(&tools.root).env("NO_COLOR", "1").env("PATH", tools.search_path());
    command
}

/// Writes a file that its owner alone may read.
pub(crate) fn private(file: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    Ok(file.write_all(text.as_bytes())?)
}
