//! `bailiwick init`: writes a first bundle, from the MCP configuration that a person already has.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bailiwick_control::fetch::public_roots;
use bailiwick_core::bundle::schema::schemas;
use bailiwick_core::bundle::{self, Files};
use bailiwick_core::model::{AgentName, ServerName, TrustDomain};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Args;
use miette::{IntoDiagnostic as _, WrapErr as _};
use rustls::RootCertStore;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::authorities;
use crate::init::plan::{Plan, Surroundings, plan};
use crate::init::{ask, clients, write};
use crate::problems::{self, counted};
use crate::show::say;

/// Policies that fit any bundle.
const STARTER: &str = include_str!("../../../../policies/starter.cedar");

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads the configuration of Claude Desktop, Claude Code, Cursor, Windsurf, Cline, Visual Studio Code, Zed, Codex and
others, recognised by what is in it. It starts or calls each server once, to ask it for its tools."
)]
pub(crate) struct Init {
    /// The MCP configuration to begin from; without one, an empty bundle is written.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The directory that the bundle is written to; it may exist, but hold no bundle.
    #[arg(long = "out", visible_alias = "dir", short = 'C', value_name = "DIR", default_value = "bailiwick")]
    dir: PathBuf,
    /// The root of all agents' names.
    #[arg(long, value_name = "NAME", default_value = "bailiwick.internal")]
    trust_domain: TrustDomain,
    /// The name of the first agent.
    #[arg(long, value_name = "NAME", default_value = "first-agent")]
    agent: AgentName,
    /// The certificate authorities to believe beside the public ones, a PEM file.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Do not start or call the servers; their tools stay unknown.
    #[arg(long)]
    offline: bool,
}

impl Init {
    /// Writes the bundle, tells what to review, and checks it.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        if self.dir.join("bailiwick.toml").exists() {
            let help = "name another directory with `--out`; `bailiwick check` looks at this one";
            return Err(miette::miette!(help = help, "`{}` holds a bundle already", self.dir.display()));
        }
        let ca = self.ca.as_deref().map(fs::canonicalize).transpose().into_diagnostic().wrap_err("`--ca` names no file")?;
        let mut roots = public_roots();
        if let Some(file) = &ca {
            authorities::add(&mut roots, file).into_diagnostic()?;
        }
        let plan = match &self.from {
            Some(file) => plan_from(file)?,
            None => Plan::default(),
        };
        fs::create_dir_all(&self.dir).into_diagnostic().wrap_err_with(|| format!("`{}` cannot be made", self.dir.display()))?;
        // As a path that a program which runs elsewhere can use.
        let dir = fs::canonicalize(&self.dir).into_diagnostic()?;
        for (file, secret) in &plan.secrets {
            write_secret(&dir.join(file), secret)?;
        }
        let definitions = if self.offline { BTreeMap::new() } else { definitions(&plan, &dir, &roots).await };

        let (key_file, jwk) = agent_key(&self.agent)?;
        let owner = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        let from = self.from.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let facts = write::Facts {
            trust_domain: self.trust_domain.as_str(),
            ca_file: ca.as_deref(),
            from: &from,
            owner: &owner,
            agent: self.agent.as_str(),
            jwk: &jwk,
            definitions: &definitions,
        };
        let (mut files, notes) = write::bundle(&plan, &facts);
        files.insert("policies/starter.cedar".to_owned(), STARTER.as_bytes().to_vec());
        write_all(&dir, &files)?;
        self.tell(&plan, &notes, &definitions, &files, &key_file);
        Ok(if bundle::read(&files).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn tell(&self, plan: &Plan, notes: &[String], definitions: &BTreeMap<ServerName, Vec<Value>>, files: &Files, key: &Path) {
        let tools = definitions.values().map(Vec::len).sum();
        let dir = self.dir.display();
        say!("wrote `{dir}`: {}, {}\n", counted(plan.servers.len(), "server"), counted(tools, "tool"));
        for note in plan.notes.iter().chain(notes) {
            say!("  ! {note}");
        }
        if !plan.notes.is_empty() || !notes.is_empty() {
            say!("");
        }
        let (Ok(bundle::Bundle { warnings: found, .. }) | Err(found)) = bundle::read(files);
        problems::print(&found, files);
        say!("`{}` may call what was guessed to only read. Its private key is `{}`.\n", self.agent, key.display());
        say!("next:");
        say!("  1. review what is marked `review` in `{dir}/servers` and `{dir}/agents`");
        say!("  2. bailiwick check --dir {dir} && bailiwick test --dir {dir}");
        say!("  3. bailiwick serve {dir}");
        say!("  4. bailiwick connect --agent {}, and point the MCP client at it", self.agent);
    }
}

/// Reads a configuration and plans the bundle.
fn plan_from(file: &Path) -> miette::Result<Plan> {
    let text = fs::read_to_string(file).into_diagnostic().wrap_err_with(|| format!("`{}` cannot be read", file.display()))?;
    let configured = clients::parse(&text).map_err(|error| {
        let help =
            "give the configuration of an MCP client, such as `claude_desktop_config.json`, `.mcp.json`, `mcp.json` or `config.toml`";
        miette::miette!(help = help, "`{}` is no MCP configuration: {error}", file.display())
    })?;
    Ok(plan(&configured, &Machine { file }))
}

/// What references in a configuration stand for on this machine.
struct Machine<'a> {
    file: &'a Path,
}

impl Surroundings for Machine<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn workspace(&self) -> String {
        let file = fs::canonicalize(self.file).unwrap_or_else(|_| self.file.to_owned());
        let parent = file.parent().unwrap_or(Path::new("/"));
        // `.vscode/mcp.json` and `.cursor/mcp.json` are about the directory that they are in.
        let hidden = parent.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        parent.parent().filter(|_| hidden).unwrap_or(parent).display().to_string()
    }
}

/// Asks every server at once; tells of those that do not answer.
async fn definitions(plan: &Plan, dir: &Path, roots: &RootCertStore) -> BTreeMap<ServerName, Vec<Value>> {
    let mut asked = tokio::task::JoinSet::new();
    for planned in plan.servers.clone() {
        let (dir, roots) = (dir.to_owned(), roots.clone());
        asked.spawn(async move { (planned.name, ask::definitions(&planned.way, &dir, &roots).await) });
    }
    let mut definitions = BTreeMap::new();
    while let Some(Ok((name, answer))) = asked.join_next().await {
        match answer {
            Ok(tools) => {
                say!("asked `{name}`: {}", counted(tools.len(), "tool"));
                definitions.insert(name, tools);
            }
            Err(why) => say!("asked `{name}`: {why}"),
        }
    }
    definitions
}

/// Writes a file that its owner alone may read, in a directory that its owner alone may open.
fn write_secret(path: &Path, secret: &str) -> miette::Result<()> {
    let written = (|| {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(secret.as_bytes())
    })();
    written.into_diagnostic().wrap_err_with(|| format!("`{}` cannot be written", path.display()))
}

/// The first agent's key: the one that is there, or a new one. Its file and its public part.
fn agent_key(agent: &AgentName) -> miette::Result<(PathBuf, Map<String, Value>)> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".config"));
    let file = config.join("bailiwick").join("agents").join(format!("{agent}.pem"));
    let unusable = |why: &str| {
        miette::miette!(help = "move it away, or give the agent another name with `--agent`", "the key `{}` {why}", file.display())
    };
    let pair = match fs::read_to_string(&file).map(Zeroizing::new) {
        Ok(pem) => {
            let body: Zeroizing<String> = Zeroizing::new(pem.lines().filter(|line| !line.starts_with("-----")).collect());
            let der = Zeroizing::new(STANDARD.decode(body.trim()).map_err(|_| unusable("is no PEM file"))?);
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| unusable("is no P-256 key"))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let failed = |_| miette::miette!("the key of `{agent}` could not be made");
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            let der = pair.to_pkcs8v1().map_err(failed)?;
            let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
            let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
            for line in body.as_bytes().chunks(64) {
                pem.push_str(&String::from_utf8_lossy(line));
                pem.push('\n');
            }
            pem.push_str("-----END PRIVATE KEY-----\n");
            write_secret(&file, &pem)?;
            pair
        }
        Err(error) => return Err(unusable(&format!("cannot be read: {error}"))),
    };
    let point = pair.public_key().as_ref();
    let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
    let Value::Object(jwk) = json!({ "kty": "EC", "crv": "P-256", "x": part(1..33), "y": part(33..65) }) else {
        return Err(unusable("has no public part"));
    };
    Ok((file, jwk))
}

/// Writes the bundle, what editors complete it from, and what keeps secrets out of a repository.
fn write_all(dir: &Path, files: &Files) -> miette::Result<()> {
    let mut all: BTreeMap<String, Vec<u8>> = files.clone();
    for (kind, schema) in schemas() {
        let text = serde_json::to_string_pretty(&schema).into_diagnostic()?;
        all.insert(format!(".schema/{kind}.schema.json"), (text + "\n").into_bytes());
    }
    all.insert(".gitignore".to_owned(), b"/.bailiwick/\n/secrets/\n".to_vec());
    for (name, content) in all {
        let path = dir.join(&name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content));
        written.into_diagnostic().wrap_err_with(|| format!("`{name}` cannot be written"))?;
    }
    Ok(())
}
