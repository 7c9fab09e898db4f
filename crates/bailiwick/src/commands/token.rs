//! `bailiwick token`: one credential, for a script that adds it to its requests itself; and why another's token proves an agent, or
//! does not.

use std::process::ExitCode;

use std::io::Read as _;
use std::path::PathBuf;

use bailiwick_control::bundle::Directory;
use bailiwick_control::fetch::Fetcher;
use bailiwick_control::why::why;
use bailiwick_core::identity::why::Why as Explained;
use bailiwick_core::model::Clock as _;
use clap::{Args, Subcommand};
use http::Method;
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use zeroize::Zeroizing;

use super::connect::Execution;
use crate::authorities;
use crate::machine::MachineClock;
use crate::show::{self, safe, say};

/// The longest file that is read as a token, in bytes.
const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "A credential is bound to a key that exists only while this command runs; so ask for the proof of the request that you are \
about to send as well, or, for an agent that is declared with `proof = \"bearer\"`, for a credential that is bound to nothing:
  bailiwick token --agent assistant --proof-for POST http://127.0.0.1:8480/mcp --json"
)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Option<TokenCommand>,
    #[command(flatten)]
    execution: Option<Execution>,
    /// Add a proof for one request with this method to this address.
    #[arg(long, num_args = 2, value_names = ["METHOD", "URL"])]
    proof_for: Option<Vec<String>>,
    /// Get a credential that is bound to no key, so that whoever holds it may use it.
    #[arg(long, conflicts_with = "proof_for")]
    bearer: bool,
    /// Get a token to show to somebody else, such as `sts.amazonaws.com`, whom the agent's file names under `[[agent.outbound]]`.
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "proof_for")]
    audience: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What else can be done with a token.
#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Explain which agent a platform's token proves, or why none.
    Why(Why),
}

/// Arguments of `token why`.
#[derive(Debug, Args)]
#[command(after_help = "Neither the token nor its signature is printed, and of its claims those alone that a federation asks for.
Keys that are not in the bundle are read where it says; a Kubernetes API server is not asked.

Example:
  bailiwick token why /var/run/secrets/tokens/bailiwick --bundle acme")]
struct Why {
    /// The file that holds the token; `-` reads standard input.
    file: PathBuf,
    /// The bundle's directory [default: the current one].
    #[arg(
        long,
        visible_alias = "dir",
        short = 'C',
        value_name = "DIR",
        env = "BAILIWICK_DIR",
        default_value = ".",
        hide_default_value = true
    )]
    bundle: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Why {
    /// Explains; fails unless the token proves exactly one agent.
    async fn run(self) -> miette::Result<ExitCode> {
        let directory = Directory::new(&self.bundle);
        let files = directory.read().map_err(|error| miette!(help = "name the bundle's directory with `--bundle`", "{error}"))?;
        let bundle = bailiwick_core::bundle::read(&files)
            .map_err(|_| miette!(help = "`bailiwick check` explains every one", "the bundle has mistakes"))?;
        let text = Zeroizing::new(self.read().map_err(|error| miette!("`{}` cannot be read: {error}", self.file.display()))?);
        let fetcher = Fetcher::new(authorities::of_bundle(&self.bundle, &bundle.snapshot.settings).into_diagnostic()?).into_diagnostic()?;
        let explained = why(fetcher, self.bundle, &bundle.snapshot, text.trim(), MachineClock.now()).await;
        if self.json {
            show::json(&serde_json::to_value(&explained).into_diagnostic()?);
        } else {
            print(&explained);
        }
        Ok(if explained.proves.len() == 1 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn read(&self) -> std::io::Result<String> {
        let mut text = String::new();
        if self.file.as_os_str() == "-" {
            std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
        } else {
            std::fs::File::open(&self.file)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

/// Prints an explanation for people: the verdict, what is asked of every token of the issuer, and what each agent asks besides.
fn print(why: &Explained) {
    let mark = |holds: bool| if holds { "yes" } else { "no " };
    say!("{}", safe(&why.verdict, 1_000));
    if let (Some(issuer), Some(kind)) = (&why.issuer, why.kind) {
        say!("\nissuer {} ({kind})", safe(issuer, 200));
    }
    for asked in &why.asked {
        say!("  {} {:<10} {}", mark(asked.holds), asked.question, safe(&asked.found, 1_000));
    }
    for federation in &why.federations {
        let other = if federation.is_issuer { "" } else { ", another issuer" };
        say!("\nagent {} by {}{other}", federation.agent, safe(&federation.issuer, 200));
        for claim in federation.claims.iter().filter(|_| federation.is_issuer) {
            let found = claim.found.as_deref().unwrap_or("absent");
            say!("  {} {} is {}, wanted \"{}\"", mark(claim.holds), safe(&claim.name, 200), safe(found, 300), safe(&claim.wanted, 200));
        }
    }
}

impl Token {
    /// Starts an execution and prints its credential.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        if let Some(TokenCommand::Why(why)) = self.command {
            return why.run().await;
        }
        let execution = self.execution.ok_or_else(|| miette!("name the agent with `--agent`"))?;
        let credentials = execution.start(!self.bearer).await?;
        let credential = credentials.current(credentials.resource()).await.into_diagnostic()?;
        if let Some(audience) = &self.audience {
            let (token, expires_in) = credentials.for_others(&credential, audience).await.into_diagnostic()?;
            match self.json {
                true => show::json(&json!({ "token": token.as_str(), "expires_in": expires_in, "execution": credential.execution })),
                false => say!("{}", token.as_str()),
            }
            return Ok(ExitCode::SUCCESS);
        }
        let proof = match self.proof_for.as_deref() {
            Some([method, url]) => {
                let method: Method = method.to_uppercase().parse().map_err(|_| miette::miette!("`{method}` is no HTTP method"))?;
                credentials.learn_nonce().await;
                Some(credentials.proof(&credential, &method, url).into_diagnostic()?)
            }
            _ => None,
        };
        if self.json {
            let answer = json!({
                "token_type": credential.scheme(),
                "access_token": credential.dangerous_text(),
                "execution": credential.execution,
                "expires": credential.expires.to_string(),
                "proof": proof,
            });
            show::json(&answer);
        } else {
            say!("{}", credential.dangerous_text());
            if let Some(proof) = proof {
                say!("{proof}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
