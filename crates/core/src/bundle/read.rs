//! Reading a whole bundle: all its files are checked, and every problem is told in one run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::agents::{self, Declared};
use super::fields::Fields;
use super::problem::{Problem, Problems, Severity, Source, listed, nearest};
use super::{
    Expectation, Pin, Signals, Snapshot, approvals, clients, expect, issuers, reporters, rules, schema, servers, settings, signals,
};
use crate::model::{Digest, ServerName};
use crate::policy::{self, Policies};
use crate::prose::{self, Mark};

/// The files of a bundle, by their paths within it, with `/` between folders.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A bundle that can be used.
#[derive(Debug)]
pub struct Bundle {
    /// What it declares, compiled.
    pub snapshot: Snapshot,
    /// What it is expected to decide.
    pub expectations: Vec<Expectation>,
    /// What someone should know of it; warnings all.
    pub warnings: Vec<Problem>,
}

/// The digest of a bundle: of one line for each file, sorted by path as bytes, which is the file's digest in
/// hexadecimal, two spaces, its path and a line feed, as `sha256sum` prints it.
pub fn digest(files: &Files) -> Digest {
    let mut lines = String::new();
    for (path, content) in files {
        let digest = Digest::of(content).to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{}  {path}", digest.trim_start_matches("sha256:"));
    }
    Digest::of(lines.as_bytes())
}

/// Whether a path within a bundle's directory is read: a bundle's file, whatever else stands in its folders, and what
/// is nearly called like one of its files. All else is somebody else's, as are hidden files and editors' backups.
pub fn concerns(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let folder = path.split_once('/').map(|(folder, _)| folder);
    match folder {
        _ if name.starts_with('.') || name.ends_with('~') => false,
        Some(folder) => FOLDERS.contains(&folder),
        None => kind(path).is_some() || (path.ends_with(".toml") && nearest(path, ROOT).is_some()),
    }
}

/// The files that stand in the bundle's directory itself.
const ROOT: [&str; 2] = ["bailiwick.toml", "issuers.toml"];

/// The folders of a bundle, which hold nothing but its files.
pub const FOLDERS: [&str; 5] = ["agents", "servers", "policies", "rules", "tests"];

/// What a file of a bundle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Settings,
    Issuers,
    Agent,
    Server,
    Pins,
    Policy,
    Rules,
    Tests,
}

fn kind(path: &str) -> Option<Kind> {
    match path.split_once('/') {
        None if path == "bailiwick.toml" => Some(Kind::Settings),
        None if path == "issuers.toml" => Some(Kind::Issuers),
        Some((_, name)) if name.contains('/') || name.starts_with('.') => None,
        Some(("agents", name)) if name.ends_with(".toml") => Some(Kind::Agent),
        Some(("servers", name)) if name.ends_with(".toml") => Some(Kind::Server),
        Some(("servers", name)) if name.ends_with(".tools.json") => Some(Kind::Pins),
        Some(("policies", name)) if name.ends_with(".cedar") => Some(Kind::Policy),
        Some(("rules", name)) if name.ends_with(".yml") || name.ends_with(".yaml") => Some(Kind::Rules),
        Some(("tests", name)) if name.ends_with(".toml") => Some(Kind::Tests),
        _ => None,
    }
}

/// Reads a bundle. Fails with everything that is wrong with it, warnings included.
pub fn read(files: &Files) -> Result<Bundle, Vec<Problem>> {
    let problems = Problems::default();
    // A file that is no TOML is told as such; what is left of it still counts as declared, so that no other file is
    // blamed for naming what stands in it.
    let broken = Problems::default();
    let texts = texts(files, &problems);
    let documents: Vec<(Kind, Source<'_>, Spanned<DeTable<'_>>)> = texts
        .iter()
        .filter(|(kind, _)| !matches!(kind, Kind::Pins | Kind::Policy | Kind::Rules))
        .map(|(kind, source)| {
            let (table, faults) = DeTable::parse_recoverable(source.text);
            faults.iter().for_each(|fault| source.error(fault.span().unwrap_or(0..0), fault.message(), mend_of_syntax(fault.message())));
            let problems = if faults.is_empty() { &problems } else { &broken };
            (*kind, Source { problems, ..*source }, table)
        })
        .collect();
    let of = |wanted: Kind| documents.iter().filter(move |(kind, ..)| *kind == wanted).map(|(_, source, table)| (*source, table));

    let pins = texts.iter().filter(|(kind, _)| *kind == Kind::Pins).map(|(_, source)| {
        let name = source.path.trim_start_matches("servers/").trim_end_matches(".tools.json");
        (name.to_owned(), servers::pins(*source))
    });
    let pins: BTreeMap<String, servers::Pins> = pins.collect();

    let mut server_files = BTreeMap::new();
    let mut declared_servers = BTreeMap::new();
    for (source, table) in of(Kind::Server) {
        let Some((name, server)) = servers::server(&Fields::of_file::<schema::ServerFile>(source, table), &pins) else { continue };
        if let Some(first) = server_files.insert(name.get_ref().clone(), source.path) {
            let message = format!("the server `{}` is declared twice, first in `{first}`", name.get_ref());
            source.error(name.span(), message, "give each server a name of its own");
            continue;
        }
        declared_servers.insert(name.into_inner(), server);
    }
    orphans(&texts, &declared_servers);
    poisoned(&texts, &declared_servers);

    let mut issuers = BTreeMap::new();
    for (source, table) in of(Kind::Issuers) {
        issuers = issuers::issuers(&Fields::of_file::<schema::IssuersFile>(source, table));
    }

    let agent_files: Vec<Fields<'_>> = of(Kind::Agent).map(|(source, table)| Fields::of_file::<schema::AgentFile>(source, table)).collect();
    let names: BTreeSet<String> = agent_files.iter().filter_map(agents::name).map(Spanned::into_inner).collect();
    for (source, table) in of(Kind::Server) {
        servers::resolve_agents(&Fields::of_file::<schema::ServerFile>(source, table), &declared_servers, &names);
    }
    let declared = Declared { issuers: &issuers, servers: &declared_servers, agents: &names };
    let mut agent_paths = BTreeMap::new();
    let mut declared_agents = BTreeMap::new();
    for file in &agent_files {
        let Some(agent) = agents::agent(file, declared) else { continue };
        if let Some(first) = agent_paths.insert(agent.name.clone(), file.source().path) {
            let at = agents::name(file).map(|name| name.span());
            let message = format!("the agent `{}` is declared twice, first in `{first}`", agent.name);
            file.source().error(at, message, "give each agent a name of its own");
            continue;
        }
        declared_agents.insert(agent.name.clone(), agent);
    }

    let mut all_reporters = BTreeMap::new();
    let mut signals = Signals::default();
    for (source, table) in of(Kind::Issuers) {
        let file = Fields::of_file::<schema::IssuersFile>(source, table);
        signals.transmitters = signals::transmitters(&file, &issuers, &declared_agents);
        all_reporters = reporters::reporters(&file);
    }
    let mut settings = None;
    let mut histories = Vec::new();
    for (source, table) in of(Kind::Settings) {
        let file = Fields::of_file::<schema::BailiwickFile>(source, table);
        settings = settings::settings(&file);
        if let Some(settings) = &mut settings {
            approvals::resolve(&file, &mut settings.approvals, &issuers);
            clients::resolve(&agent_files, settings, &declared_agents, &issuers);
        }
        signals.streams = signals::streams(&file, &declared_agents);
        for declared in settings::histories(&file) {
            declared.tools.iter().for_each(|pattern| agents::resolve(source, pattern, &declared_servers));
            histories.push(declared.history);
        }
    }
    if of(Kind::Settings).next().is_none() && !files.contains_key("bailiwick.toml") {
        let source = Source { path: "bailiwick.toml", text: "", problems: &problems };
        source.error(None, "there is no `bailiwick.toml`", "name the bundle's directory, or begin one with `bailiwick init`");
    }

    if let Some(settings) = settings.as_ref().filter(|settings| settings.data.tls.is_none() || settings.identity.tls.is_none()) {
        let bound = |agent: &super::Agent| agent.credential.proof == super::Proof::Mtls;
        for file in agent_files.iter().filter(|file| {
            agents::name(file)
                .is_some_and(|name| declared_agents.values().any(|agent| bound(agent) && agent.name.as_str() == name.get_ref()))
        }) {
            let without = if settings.data.tls.is_none() { "data" } else { "identity" };
            let message =
                format!("`proof = \"mtls\"` is of no use: `{without}` does not speak TLS itself, so it sees no client's certificate");
            file.source().error(
                agents::name(file).map(|name| name.span()),
                message,
                format!("add `[{without}.tls]` to `bailiwick.toml`, or use `dpop`"),
            );
        }
    }

    let mut expectations = Vec::new();
    for (source, table) in of(Kind::Tests) {
        expectations.extend(expect::expectations(&Fields::of_file::<schema::TestsFile>(source, table), &names, &declared_servers));
    }

    let declared = policy::Declared { agents: &declared_agents, servers: &declared_servers, histories: &histories };
    let policies = policies(&texts, &declared);
    let own: Vec<Source<'_>> = texts.iter().filter(|(kind, _)| *kind == Kind::Rules).map(|(_, source)| *source).collect();
    let settings_file = of(Kind::Settings).next().map(|(source, table)| Fields::of_file::<schema::BailiwickFile>(source, table));
    let rules = rules::rules(&own, settings_file.as_ref());

    let problems = problems.into_sorted();
    let (Some(settings), Some(policies), false) = (settings, policies, problems.iter().any(|problem| problem.severity == Severity::Error))
    else {
        return Err(problems);
    };
    let snapshot = Snapshot {
        digest: digest(files),
        settings,
        issuers,
        agents: declared_agents,
        servers: declared_servers,
        histories,
        signals,
        reporters: all_reporters,
        policies,
        rules,
    };
    Ok(Bundle { snapshot, expectations, warnings: problems })
}

/// The files as texts; what is none, or no file of a bundle, is noted.
fn texts<'a>(files: &'a Files, problems: &'a Problems) -> Vec<(Kind, Source<'a>)> {
    let mut texts = Vec::new();
    for (path, content) in files {
        let nothing = Source { path, text: "", problems };
        let Some(kind) = kind(path) else {
            let mend = match (path.split_once('/'), nearest(path, ROOT)) {
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (Some((folder @ ("agents" | "tests"), _)), _) => format!("`{folder}/` holds files that end in `.toml`"),
                (Some(("servers", _)), _) => "`servers/` holds files that end in `.toml` or `.tools.json`".to_owned(),
                (Some(("rules", _)), _) => "`rules/` holds files that end in `.yml`".to_owned(),
                (Some(("policies", _)), _) => "`policies/` holds files that end in `.cedar`".to_owned(),
                _ => format!("a bundle's folders are {}", listed(&FOLDERS)),
            };
            nothing.error(None, format!("`{path}` is no file of a bundle"), mend);
            continue;
        };
        match std::str::from_utf8(content) {
            Ok(text) => texts.push((kind, Source { path, text, problems })),
            Err(error) => {
                let valid = content.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default();
                let source = Source { path, text: valid, problems };
                source.error(valid.len()..valid.len(), "the file is not UTF-8 from here on", "save it as UTF-8");
            }
        }
    }
    texts
}

/// Notes reviewed definitions that belong to no server.
fn orphans(texts: &[(Kind, Source<'_>)], servers: &BTreeMap<ServerName, super::Server>) {
    for (_, source) in texts.iter().filter(|(kind, _)| *kind == Kind::Pins) {
        let name = source.path.trim_start_matches("servers/").trim_end_matches(".tools.json");
        if !servers.keys().any(|server| server.as_str() == name) {
            let near = nearest(name, servers.keys().map(ServerName::as_str));
            let mend =
                near.map_or_else(|| "remove the file".to_owned(), |near| format!("rename it to `servers/{near}.tools.json`, or remove it"));
            source.warning(None, format!("these definitions belong to a server `{name}`, which is not declared"), mend);
        }
    }
}

/// Notes reviewed definitions that say to a model what a reviewer may not have seen, and names that would be taken for one another.
fn poisoned(texts: &[(Kind, Source<'_>)], servers: &BTreeMap<ServerName, super::Server>) {
    let reviewed = |server: &super::Server| -> Vec<(String, Arc<Pin>)> {
        server.tools.iter().filter_map(|(own, tool)| Some((own.clone(), Arc::clone(tool.pin.as_ref()?)))).collect()
    };
    let all: Vec<(&ServerName, String, Arc<Pin>)> =
        servers.iter().flat_map(|(name, server)| reviewed(server).into_iter().map(move |(own, pin)| (name, own, pin))).collect();
    for (server, own, pin) in &all {
        let path = format!("servers/{server}.tools.json");
        let Some((_, source)) = texts.iter().find(|(_, source)| source.path == path) else { continue };
        let at = source.text.find(&format!("\"{own}\"")).map(|at| at..at.saturating_add(own.len()).saturating_add(2));
        let others = || all.iter().filter(|(other, ..)| other != server);
        for mark in prose::marks(&pin.definition, others().map(|(_, own, _)| own.as_str())) {
            let what = match mark {
                Mark::Hidden => "holds characters that do not show",
                Mark::Instruction => "tells the model what to do",
                Mark::OtherTool => "names a tool of another server",
            };
            let mend = "read it again with `bailiwick servers review`; ask whoever runs the server why";
            source.warning(at.clone(), format!("the reviewed definition of `{server}/{own}` {what}"), mend);
        }
        if let Some((other, name, _)) = others().find(|(other, name, _)| *other > server && prose::looks_like(own, name)) {
            let message = format!("`{server}/{own}` would be taken for `{other}/{name}`");
            source.warning(at, message, "have agents call one of them alone, or ask whoever runs a server to rename its tool");
        }
    }
}

/// Compiles the policies, or notes what is wrong with them.
fn policies(texts: &[(Kind, Source<'_>)], declared: &policy::Declared<'_>) -> Option<Policies> {
    let files = || texts.iter().filter(|(kind, _)| *kind == Kind::Policy).map(|(_, source)| source);
    let sources: Vec<_> = files().map(|source| policy::Source { path: source.path, text: source.text }).collect();
    match Policies::compile(declared, &sources) {
        Ok(policies) => Some(policies),
        Err(faults) => {
            for fault in faults {
                let source = files().find(|source| source.path == fault.path);
                let problems = texts.first().map(|(_, source)| source.problems)?;
                let source = source.copied().unwrap_or(Source { path: "policies", text: "", problems });
                source.error(fault.span, fault.message, fault.help.unwrap_or_default());
            }
            None
        }
    }
}

/// What mends a mistake of TOML's own.
fn mend_of_syntax(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "keep one of the two"
    } else if message.contains("quote") || message.contains("string") {
        "close the text with the quote that it began with"
    } else {
        "write `key = value`, with texts in quotes, and tables as `[name]`"
    }
}
