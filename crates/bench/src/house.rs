//! The release build of `bailiwick serve` on a bundle with a noisy agent, a quiet one, and tool servers of this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::Result;
use crate::agent::{Agent, Doors};
use crate::key::Key;
use crate::process::{self, Program, free_port};
use crate::upstream::{self, Upstream};

/// The one tool of each server that is declared.
const TOOL: &str = "read";

/// A running server, killed when this is dropped.
pub(crate) struct House {
    server: Program,
    doors: Doors,
    noisy: Agent,
    quiet: Agent,
    home: TempDir,
}

impl House {
    /// Writes the bundle to a directory of its own and starts the server. `credential` and `limits` are lines of TOML.
    pub(crate) async fn start(credential: &str, limits: &str, servers: &[(&str, &Upstream)]) -> Result<Self> {
        Self::start_with(credential, limits, servers, &[]).await
    }

    /// The same with these files of the bundle beside the others, or in their place.
    pub(crate) async fn start_with(credential: &str, limits: &str, servers: &[(&str, &Upstream)], files: &[(&str, &str)]) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let doors = Doors { data: free_port()?, identity: free_port()? };
        let key = Arc::new(Key::new()?);
        let noisy = Agent { name: "noisy", is_bearer: true, key: Arc::clone(&key) };
        let quiet = Agent { name: "quiet", is_bearer: true, key };
        let bundle = home.path().join("bundle");
        write(&bundle, doors, limits, servers)?;
        let may: Vec<String> = servers.iter().map(|(name, _)| format!("\"{name}/*\"")).collect();
        for agent in [&noisy, &quiet] {
            let may = format!("call = [{}]\ndelegate_to = [\"{}\"]", may.join(", "), agent.name);
            let declaration = agent.declaration(credential, &may);
            fs::write(bundle.join(format!("agents/{}.toml", agent.name)), declaration)?;
        }
        for (name, text) in files {
            let file = bundle.join(name);
            fs::create_dir_all(file.parent().ok_or("a file of the bundle is in it")?)?;
            fs::write(file, text)?;
        }
        let server = Program::start(process::bailiwick()?.arg("serve").arg(bundle), &home.path().join("said"))?;
        server.wait_until_it_listens(doors.data).await?;
        server.wait_until_it_listens(doors.identity).await?;
        Ok(Self { server, doors, noisy, quiet, home })
    }

    /// Where agents reach it.
    pub(crate) const fn port(&self) -> u16 {
        self.doors.data
    }

    /// A credential of a new execution of the noisy agent.
    pub(crate) async fn noisy(&self) -> Result<String> {
        self.credential(&self.noisy).await
    }

    /// The noisy agent, for a task of its own that gets credentials.
    pub(crate) fn noisy_agent(&self) -> (Agent, Doors) {
        (self.noisy.clone(), self.doors)
    }

    /// Waits until all that was found is on the log.
    pub(crate) async fn is_watched(&self) -> Result {
        loop {
            let state = self.ask(Method::GET, "/findings/watch", Bytes::new()).await?;
            let number = |name: &str| state.get(name).and_then(Value::as_u64);
            if number("waiting") == Some(0) && number("watched_until") == number("log") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The bundle's directory.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.home.path().join("bundle")
    }

    /// A credential of a new execution of the quiet agent.
    pub(crate) async fn quiet(&self) -> Result<String> {
        self.credential(&self.quiet).await
    }

    /// Has the noisy agent act for its own execution of this credential: the credential and the id of the execution that began.
    pub(crate) async fn delegated(&self, token: &str) -> Result<(String, String)> {
        self.noisy.delegated(self.doors, token).await
    }

    /// The executions under way, newest first.
    pub(crate) async fn executions(&self) -> Result<Vec<String>> {
        let answer = self.ask(Method::GET, "/executions", Bytes::new()).await?;
        let executions = answer.get("executions").and_then(Value::as_array).ok_or("there are no executions")?;
        Ok(executions.iter().filter_map(|one| one.get("execution").and_then(Value::as_str).map(str::to_owned)).collect())
    }

    /// Posts to the admin API, as the commands do.
    pub(crate) async fn admin(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::POST, path, Bytes::from(body.to_string())).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let stream = UnixStream::connect(self.home.path().join("bundle/.bailiwick/admin.sock")).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(format!("/api/v1{path}")).header("host", "admin").body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
        if !status.is_success() {
            return Err(format!("the admin API answered {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }

    async fn credential(&self, agent: &Agent) -> Result<String> {
        agent.credential(self.doors, "/mcp").await
    }

    /// The CPU time of the server up to now.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.server.cpu()
    }

    /// The server's resident memory now, in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.server.resident_kib()
    }
}

fn write(bundle: &Path, Doors { data, identity }: Doors, limits: &str, servers: &[(&str, &Upstream)]) -> Result {
    for directory in ["agents", "servers"] {
        fs::create_dir_all(bundle.join(directory))?;
    }
    fs::write(
        bundle.join("bailiwick.toml"),
        format!(
            "trust_domain = \"acme.example\"\n[data]\nlisten = \"127.0.0.1:{data}\"\n[identity]\nlisten = \"127.0.0.1:{identity}\"\n\
             [limits]\n{limits}\n"
        ),
    )?;
    for (name, upstream) in servers {
        let declared =
            format!("[server]\nname = \"{name}\"\nmcp = \"http://127.0.0.1:{}/mcp\"\n[tools.{TOOL}]\neffect = \"read\"\n", upstream.port);
        fs::write(bundle.join(format!("servers/{name}.toml")), declared)?;
        fs::write(bundle.join(format!("servers/{name}.tools.json")), upstream::definitions(&[TOOL]).to_string())?;
    }
    Ok(())
}
