//! `bailiwick connect`: the sidecar, in front of which an unmodified MCP client works.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use miette::IntoDiagnostic;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::show::complain;
use crate::sidecar::client::Http;
use crate::sidecar::credential::{AgentProof, Credentials, NoCredential, Redeemer, Wanted};
use crate::sidecar::front::Front;
use crate::sidecar::hops::Hops;
use crate::sidecar::key::Key;
use crate::sidecar::proxy::Whose;
use crate::sidecar::{proxy, stdio};

/// Arguments of `connect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bailiwick connect --agent assistant --task \"Summarise the complaints of May\"
      then point any MCP client at the address that is printed
  bailiwick connect --agent assistant --stdio
      as the command of a stdio server in a client's own configuration
  bailiwick connect --agent report-writer --serve 127.0.0.1:9443 --in-front-of http://127.0.0.1:9000
      for an agent that others have act for them over A2A: messages come in by 9443, and its calls go out for whoever sent them")]
pub(crate) struct Connect {
    #[command(flatten)]
    execution: Execution,
    /// Speak MCP over standard input and output, as a client's configuration of a stdio server wants it.
    #[arg(long, group = "face")]
    stdio: bool,
    /// Listen on this address of this machine.
    #[arg(long, group = "face", value_name = "ADDRESS", default_value = "127.0.0.1:8490")]
    listen: SocketAddr,
    /// Listen on this Unix socket, which its owner alone may use.
    #[arg(long, group = "face", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Take the messages of other agents on this address of this machine; its calls are made for whoever sent the message.
    #[arg(long, value_name = "ADDRESS", requires = "in_front_of", conflicts_with_all = ["stdio", "task", "subject_token_file"])]
    serve: Option<SocketAddr>,
    /// Where the agent itself takes messages over A2A; nobody else should be able to reach it.
    #[arg(long, value_name = "URL", requires = "serve")]
    in_front_of: Option<http::Uri>,
    /// The address at which the gateway reaches `--serve` [default: that address itself].
    #[arg(long, value_name = "URL", requires = "serve")]
    public_url: Option<String>,
    /// How many messages the agent works on at once: more than one only if it passes on `traceparent`.
    #[arg(long, value_name = "COUNT", requires = "serve", default_value_t = 1)]
    at_once: usize,
}

/// What an execution is started with; shared with `token`.
#[derive(Debug, Args)]
pub(crate) struct Execution {
    /// The agent to act as.
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// The gateway's origin.
    #[arg(long, value_name = "URL", env = "BAILIWICK_URL", default_value = "http://127.0.0.1:8480")]
    url: String,
    /// What the execution is for, in the person's own words.
    #[arg(long, value_name = "TEXT")]
    task: Option<String>,
    /// A file with the token of the person on whose behalf the agent acts.
    #[arg(long, value_name = "FILE")]
    subject_token_file: Option<PathBuf>,
    /// Reach this one tool server, with its tools under their own names.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The agent's registered private key [default: the one that `init` wrote, ~/.config/bailiwick/agents/NAME.pem].
    #[arg(long, value_name = "FILE", conflicts_with = "assertion_file")]
    key: Option<PathBuf>,
    /// A file into which the platform puts the workload's own token, read again at each renewal.
    #[arg(long, value_name = "FILE")]
    assertion_file: Option<PathBuf>,
    /// The gateway's socket on this machine, over which it knows this program without a key or a token.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["key", "assertion_file"])]
    local: Option<PathBuf>,
    /// What the execution may do at most: an RFC 9396 array.
    #[arg(long, value_name = "JSON", value_parser = json, conflicts_with = "effects")]
    authorization_details: Option<Value>,
    /// What the execution may do beside reading: `write`, `send`, `spend`, `admin` and names of tools, with commas between.
    #[arg(long, value_name = "EFFECT", value_delimiter = ',')]
    effects: Vec<String>,
    /// Trust the certificate authorities of this PEM file instead of the usual ones.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Execution {
    /// Starts the execution and gets its first credential, bound to a key or not.
    pub(crate) async fn start(&self, bound: bool) -> miette::Result<Arc<Credentials>> {
        Credentials::start(self.http()?, &self.url, self.wanted(bound)?).await.into_diagnostic()
    }

    fn http(&self) -> miette::Result<Http> {
        Http::new(self.ca.as_deref()).into_diagnostic()
    }

    fn wanted(&self, bound: bool) -> miette::Result<Wanted> {
        let proof = match (&self.assertion_file, &self.local) {
            (Some(file), _) => AgentProof::Workload(file.clone()),
            (None, Some(socket)) => AgentProof::Local(socket.clone()),
            (None, None) => AgentProof::Key(Arc::new(Key::read(&self.key_file()).into_diagnostic()?)),
        };
        Ok(Wanted {
            agent: self.agent.clone(),
            proof,
            delegation: None,
            subject_token: self.subject_token_file.clone(),
            task: self.task.clone(),
            authorization_details: self.authorization_details.clone(),
            effects: self.effects.clone(),
            server: self.server.clone(),
            bound,
        })
    }

    fn key_file(&self) -> PathBuf {
        self.key.clone().unwrap_or_else(|| default_key_file(&self.agent))
    }
}

/// Where an agent's private key is kept unless somebody says otherwise: outside the bundle, which others may read.
pub(crate) fn default_key_file(agent: &str) -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".config"));
    config.join("bailiwick").join("agents").join(format!("{agent}.pem"))
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Standard input, read on a thread that nothing waits for: the runtime's own would keep a sidecar whose execution has
/// ended from stopping until its client says something.
fn stdin() -> tokio::io::DuplexStream {
    let (reader, mut writer) = tokio::io::duplex(64 << 10);
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        let (mut input, mut buffer) = (std::io::stdin().lock(), vec![0; 64 << 10]);
        while let Ok(length @ 1..) = input.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            if runtime.block_on(writer.write_all(bytes)).is_err() {
                return;
            }
        }
    });
    reader
}

impl Connect {
    /// Stands in front of an agent that others have act for them, until a signal comes.
    async fn act_for_others(
        &self,
        serve: SocketAddr,
        agent: &http::Uri,
        listener: &proxy::Listener,
        mut stop: crate::signal::Stop,
    ) -> miette::Result<ExitCode> {
        if !serve.ip().is_loopback() {
            return Err(miette::miette!(
                help = "use 127.0.0.1, and let what ends TLS on this machine pass on what comes from the gateway",
                "whoever can reach `{serve}` could look at the agent's tasks"
            ));
        }
        let messages =
            tokio::net::TcpListener::bind(serve).await.map_err(|error| miette::miette!("cannot listen on `{serve}`: {error}"))?;
        let (http, wanted) = (self.execution.http()?, self.execution.wanted(true)?);
        let redeemer = Redeemer::new(http.clone(), &self.execution.url, wanted).await.into_diagnostic()?;
        let public = self.public_url.clone().unwrap_or_else(|| format!("http://{serve}"));
        let hops = Arc::new(Hops::new(redeemer, self.at_once));
        let front = Arc::new(Front { hops: Arc::clone(&hops), http, agent: agent.clone(), public });
        complain!("{} acts for whoever sends it a message at http://{serve}", self.execution.agent);
        complain!("MCP clients connect to {}", listener.address());
        tokio::select! {
            never = proxy::serve(listener, Whose::Hops(hops)) => match never {},
            never = front.serve(messages) => match never {},
            () = stop.asked() => Ok(ExitCode::SUCCESS),
        }
    }

    /// Serves the client until it leaves, the execution ends or a signal comes.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let mut stop = crate::signal::Stop::listen()?;
        let listener = match (&self.socket, self.stdio) {
            (_, true) => None,
            (Some(path), _) => Some(proxy::Listener::unix(path)?),
            (None, _) => Some(proxy::Listener::tcp(self.listen).await?),
        };
        if let (Some(serve), Some(agent), Some(listener)) = (self.serve, &self.in_front_of, &listener) {
            return self.act_for_others(serve, agent, listener, stop).await;
        }
        let credentials = self.execution.start(true).await?;
        let keeper = Arc::clone(&credentials);
        tokio::spawn(async move { keeper.keep().await });

        let ended = match listener {
            None => {
                let input = tokio::io::BufReader::new(stdin());
                tokio::select! {
                    ended = stdio::serve(credentials, self.execution.server, input, tokio::io::stdout()) => ended,
                    () = stop.asked() => Ok(()),
                }
            }
            Some(listener) => {
                let execution = credentials.current(credentials.resource()).await.into_diagnostic()?.execution.clone();
                complain!("{} acts in execution {execution}", self.execution.agent);
                complain!("MCP clients connect to {}", listener.address());
                tokio::select! {
                    never = proxy::serve(&listener, Whose::Own(Arc::clone(&credentials))) => match never {},
                    why = credentials.ended() => Err(NoCredential::Ended(why)),
                    () = stop.asked() => Ok(()),
                }
            }
        };
        match ended {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(why) => {
                complain!("{why}");
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
