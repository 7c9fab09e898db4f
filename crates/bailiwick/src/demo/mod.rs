//! The demo, in three acts: an agent does its task through the gateway, is hijacked by what it reads, and is held; then another one has a
//! privileged agent act for it, and is held as well; then the first is hijacked again, and is found out and stopped.
//!
//! Nothing in it is a mock: the tool servers are processes that speak MCP, the CRM is a SQLite file, the gateway and the
//! token service are those of `serve`, the agent reaches them through the sidecar, and the log is verified by what `log
//! verify` uses.

mod agent;
mod bundle;
mod first;
pub(crate) mod off;
mod office;
mod second;
pub(crate) mod servers;
mod stage;
mod talk;
mod third;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::model::ExecutionId;
use bailiwick_store::audit;
use bytes::Bytes;
use clap::Args;
use http::Request;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http_body_util::Full;
use miette::{IntoDiagnostic, miette};
use serde_json::{Value, json};

use self::agent::Agent;
use self::bundle::Places;
use self::first::First;
use self::off::is_off;
use self::second::Second;
use self::stage::Stage;
use crate::records::Records;
use crate::server::Server;
use crate::show::{self, say};
use crate::sidecar::client::Http;
use crate::sidecar::credential::{AgentProof, Credentials, Wanted};
use crate::sidecar::key::Key;
use crate::sidecar::proxy::{self, Whose};

const AGENT: &str = "support-summarizer";
const TASK: &str = "Summarize customer complaints from the last 30 days";

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave it running afterwards, to be played with.
    #[arg(long)]
    keep: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Demo {
    /// Plays the demo; fails when anything is not as promised.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let home = tempfile::tempdir().into_diagnostic()?;
        let (home, places) = (home.path(), Places::take().await?);
        bundle::write(home, &places).await?;
        let bundle = home.join(bundle::DIRECTORY);
        let server = Server::start(&bundle).await?;
        let second = Second::set_up(&server, home, places).await?;

        let mut stage = Stage::new(server.log.clone(), bundle.join("data"), !self.json);
        stage.say(&stage.paint.bold("First act: an agent is hijacked by what it reads\n"));
        first_act(&mut stage, &server, home).await?;
        stage.say(&stage.paint.bold("\nSecond act: a hijacked agent has a privileged one act\n"));
        second.play(&mut stage).await?;
        stage.say(&stage.paint.bold("\nThird act: the first agent is hijacked again, while somebody watches\n"));
        third::play(&mut stage, &server, home).await?;
        stage.say("\nThe log of all three, verified offline by what `bailiwick log verify` uses:\n");
        verify(&mut stage, &server, &bundle).await?;

        let kept = stage.is_kept();
        if self.json {
            show::json(&json!({ "kept": kept, "scenes": stage.scenes, "broken": stage.broken }));
        } else {
            let paint = stage.paint;
            let word = if kept { paint.green("Everything is as promised.") } else { paint.red("NOT everything is as promised.") };
            say!("\n{word}");
        }
        if self.keep {
            stay(&server, home, &bundle).await;
        }
        server.stop().await;
        Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The first act: the agent behind its sidecar, and what becomes of it.
async fn first_act(stage: &mut Stage, server: &Server, home: &Path) -> miette::Result<()> {
    let key = Arc::new(Key::read(&bundle::key_file(home, AGENT)).into_diagnostic()?);
    let credentials = Credentials::start(Http::new(None).into_diagnostic()?, &server.origin, wanted(key)).await.into_diagnostic()?;
    let execution = credentials.current(credentials.resource()).await.into_diagnostic()?.execution.clone();
    let listener = proxy::Listener::tcp(([127, 0, 0, 1], 0).into()).await?;
    let mut agent = Agent::at(listener.address())?;
    let sidecar = Arc::clone(&credentials);
    tokio::spawn(async move { proxy::serve(&listener, Whose::Own(sidecar)).await });

    stage.say(&format!("{}: “{TASK}”\n", stage.paint.bold(AGENT)));
    let mut play = First { stage, agent: &mut agent };
    play.task().await?;
    play.stage.say("\nA ticket that the agent read tells it to do other things. It obeys.\n");
    play.hijacked().await?;
    play.stage.say("\nA person is shown what it asked, and who chose each value.\n");
    play.people(server).await?;
    play.stage.say("\nSomebody steals the credential, and then the execution is revoked.\n");
    let stolen = stolen(server, &credentials).await?;
    play.stage.promise("the stolen credential is worth nothing without its key", stolen == http::StatusCode::UNAUTHORIZED);
    if !is_off("revocation") {
        let execution: ExecutionId = execution.parse().map_err(|_| miette!("`{execution}` is no execution's id"))?;
        server.revoke(execution, "the demo").await?;
    }
    play.after_revocation().await
}

/// What the person's execution is for: to read, and to write one report. Closing complaints is the agent's to do on other
/// days, not on this one.
fn wanted(key: Arc<Key>) -> Wanted {
    let call = |tool: &str| json!({ "type": "tool_call", "actions": ["call"], "identifier": tool });
    let grant = ["crm/query_complaints", "analytics/sentiment", "analytics/keywords", "tickets/list", "reports/create", "reports/publish"];
    Wanted {
        delegation: None,
        agent: AGENT.to_owned(),
        proof: AgentProof::Key(key),
        subject_token: None,
        task: Some(TASK.to_owned()),
        effects: Vec::new(),
        authorization_details: (!is_off("grant")).then(|| Value::Array(grant.map(call).to_vec())),
        server: None,
        bound: true,
    }
}

/// Sends the credential from elsewhere, as whoever stole it would: without the key. Returns what the gateway says.
async fn stolen(server: &Server, credentials: &Credentials) -> miette::Result<http::StatusCode> {
    let credential = credentials.current(credentials.resource()).await.into_diagnostic()?;
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/list",
        "params": { "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        } },
    });
    let request = Request::post(format!("{}/mcp", server.origin))
        .header(AUTHORIZATION, format!("Bearer {}", credential.dangerous_text()))
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/list")
        .body(Full::new(Bytes::from(body.to_string())));
    let response = Http::new(None).into_diagnostic()?.send(request.into_diagnostic()?).await.into_diagnostic()?;
    Ok(response.status())
}

/// Verifies the whole log, and proves one denial with a receipt that would hold anywhere.
async fn verify(stage: &mut Stage, server: &Server, bundle: &Path) -> miette::Result<()> {
    const PAUSE: Duration = Duration::from_millis(50);
    const PAUSES_MAX: u32 = 200;
    let records = Records::of(bundle);
    let (directory, key) = (records.directory()?, records.key()?);
    match stage.first_denial() {
        None => stage.promise("a denial is on the log", false),
        Some(position) => {
            let mut receipt = audit::prove(&directory, position, &key);
            for _ in 0..PAUSES_MAX {
                // A checkpoint follows an entry within a second.
                if receipt.is_ok() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
                receipt = audit::prove(&directory, position, &key);
            }
            let receipt = receipt.into_diagnostic()?;
            let entries = server.log.storage().read(position, 1).await.into_diagnostic()?;
            let proven = entries.first().is_some_and(|entry| receipt.verify(entry, &key).is_ok());
            stage.promise(&format!("a receipt proves the denial in record {position}"), proven);
        }
    }
    if is_off("tamper") {
        tamper(&directory)?;
    }
    let verified = audit::verify(&directory, &key, &[]).into_diagnostic()?;
    stage.promise(&verified.to_string(), verified.is_sound());
    Ok(())
}

/// Changes one letter of what is stored, as somebody with access to the disk could.
fn tamper(directory: &Path) -> miette::Result<()> {
    let entries = directory.join("tile/entries");
    for file in files(&entries)? {
        let mut bytes = std::fs::read(&file).into_diagnostic()?;
        if let Some(letter) = bytes.iter_mut().find(|byte| **byte == b'd') {
            *letter = b'D';
            return std::fs::write(&file, bytes).into_diagnostic();
        }
    }
    Err(miette!("there is nothing to tamper with"))
}

/// The newest files below a directory, deepest last.
fn files(directory: &Path) -> miette::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_diagnostic()? {
        let path = entry.into_diagnostic()?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

/// Runs this program on the demo's bundle, and gives what it printed.
async fn run(bundle: &Path, arguments: &[&str]) -> miette::Result<String> {
    let program = std::env::current_exe().into_diagnostic()?;
    let output = tokio::process::Command::new(program).args(arguments).arg("--dir").arg(bundle).output().await.into_diagnostic()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(miette!("`bailiwick {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// Leaves everything running and says how to play with it.
async fn stay(server: &Server, home: &Path, bundle: &Path) {
    let (key, bundle) = (bundle::key_file(home, AGENT).display().to_string(), bundle.display().to_string());
    say!("\nIt is still running; stop it with Ctrl-C. Try:");
    say!("  bailiwick connect --agent {AGENT} --key {key} --url {}", server.origin);
    say!("  bailiwick log tail --follow --dir {bundle}");
    say!("  bailiwick log query \"select verdict, count(*) from records group by 1\" --dir {bundle}");
    say!("  bailiwick executions --dir {bundle}");
    if let Ok(mut stop) = crate::signal::Stop::listen() {
        stop.asked().await;
    }
}
