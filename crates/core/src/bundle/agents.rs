//! Reading `agents/*.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml::Spanned;

use super::fields::{Fields, text};
use super::problem::{Source, suggest};
use super::{
    Agent, Claims, CredentialRules, DecideFor, Federation, Issuer, Local, Proof, RegisteredKey, Server, ToolPattern, clients, jwk,
    outbound, schema,
};
use crate::identity::platform::{self, Platform};
use crate::identity::spiffe;
use crate::model::{AgentName, Duration, ServerName};

/// The longest that a credential may live: what is stolen is worth little, and revocation need not be waited for.
const TTL_MAX: Duration = Duration::seconds(15 * 60);
/// The shortest, below which agents would do little but renew.
const TTL_MIN: Duration = Duration::seconds(10);

/// What the declarations of agents may refer to.
#[derive(Clone, Copy)]
pub(super) struct Declared<'a> {
    pub(super) issuers: &'a BTreeMap<String, Issuer>,
    pub(super) servers: &'a BTreeMap<ServerName, Server>,
    pub(super) agents: &'a BTreeSet<String>,
}

/// The name that the file gives its agent, whether or not the rest is right.
pub(super) fn name(file: &Fields<'_>) -> Option<Spanned<String>> {
    let name = file.value("agent")?.get_ref().get("name")?;
    Some(Spanned::new(name.span(), name.get_ref().as_str()?.to_owned()))
}

/// Reads one file; nothing when an error in it was noted that leaves no agent.
pub(super) fn agent(file: &Fields<'_>, declared: Declared<'_>) -> Option<Agent> {
    if file.value("agent").is_none() {
        file.missing("agent", "begin the file with `[agent]`");
    }
    let table = file.table::<schema::AgentTable>("agent")?;
    let name = table.required::<AgentName>("name", "give the agent a name");
    let owner = table.required_text("owner", "say who answers for the agent, such as `owner = \"team@acme.example\"`");
    let purpose = table.required_text("purpose", "say in a sentence what the agent is for");
    let roles = table.texts("roles").into_iter().map(Spanned::into_inner).collect();
    let keys = keys(&table);
    let subjects = subjects(&table, declared.issuers);
    let (federation, local) = federation(&table, declared.issuers);
    let clients = clients::clients(&table, declared.issuers);
    if keys.is_empty()
        && federation.is_empty()
        && local.is_empty()
        && ["key", "federation", "client"].iter().all(|key| table.value(key).is_none())
    {
        let mend = "add `[[agent.key]]` with its public key, or `[[agent.federation]]` with an issuer that vouches for it";
        table.source().warning(table.span(), "no workload can prove that it is this agent", mend);
    }
    let credential = table.table::<schema::CredentialTable>("credential").map_or_else(CredentialRules::default, |table| credential(&table));
    let may = table.table::<schema::MayTable>("may");
    let (call, delegate_to, decide_for, calls_max) = may.map(|may| permissions(&may, declared)).unwrap_or_default();
    Some(Agent {
        name: name?.into_inner(),
        owner: owner?.into_inner(),
        purpose: purpose?.into_inner(),
        roles,
        federation,
        subjects,
        clients,
        local,
        keys,
        credential,
        outbound: outbound::outbound(&table),
        x509_svid: table.flag("x509_svid").is_some_and(Spanned::into_inner),
        call,
        delegate_to,
        decide_for,
        calls_max,
    })
}

fn keys(agent: &Fields<'_>) -> Vec<RegisteredKey> {
    let mut keys = Vec::<RegisteredKey>::new();
    for table in agent.tables::<schema::KeyTable>("key") {
        let kid = table.required_text("kid", "give the key an id");
        let jwk = table.json("jwk");
        match &jwk {
            Some(jwk) => {
                if let Err((fault, mend)) = jwk::check_public(jwk.get_ref()) {
                    table.source().error(jwk.span(), format!("the key {fault}"), mend);
                }
            }
            None => table.missing("jwk", "write the public key as a JWK"),
        }
        let (Some(kid), Some(jwk)) = (kid, jwk) else { continue };
        if keys.iter().any(|key| key.kid == *kid.get_ref()) {
            table.source().error(kid.span(), format!("the key `{}` is declared twice", kid.get_ref()), "give each key an id of its own");
            continue;
        }
        keys.push(RegisteredKey { kid: kid.into_inner(), jwk: jwk.into_inner() });
    }
    keys
}

/// Which tokens of people are meant for the agent, beside those that name it.
fn subjects(agent: &Fields<'_>, issuers: &BTreeMap<String, Issuer>) -> Vec<Federation> {
    let read = |table: Fields<'_>| {
        if let Some(local) = table.value("local") {
            table.source().error(local.span(), "no person is a program", "write `issuer` and `claims`");
        }
        federated(&table, issuers, false)
    };
    agent.tables::<schema::FederationTable>("subject").into_iter().filter_map(read).collect()
}

/// How a workload proves that it is the agent: by whose tokens with which claims, and as which programs of this machine.
fn federation(agent: &Fields<'_>, issuers: &BTreeMap<String, Issuer>) -> (Vec<Federation>, Vec<Local>) {
    let (mut federations, mut programs) = (Vec::new(), Vec::new());
    for table in agent.tables::<schema::FederationTable>("federation") {
        match table.value("local") {
            Some(_) => programs.extend(local(&table)),
            None => federations.extend(federated(&table, issuers, true)),
        }
    }
    (federations, programs)
}

/// A program of this machine, and what is not safe about it.
fn local(table: &Fields<'_>) -> Option<Local> {
    for key in ["issuer", "claims"] {
        if let Some(value) = table.value(key) {
            table.source().error(
                value.span(),
                format!("`{key}` means nothing with `local`"),
                "give each a `[[agent.federation]]` of its own",
            );
        }
    }
    let local = table.table::<schema::LocalTable>("local")?;
    let id = |key| local.number(key, 0..=u64::from(u32::MAX - 1)).and_then(|number| u32::try_from(number.into_inner()).ok());
    if local.value("uid").is_none() {
        local.missing("uid", "say as whom the program runs: `id --user NAME` prints the number");
    }
    let (uid, gid) = (id("uid"), id("gid"));
    let executable = local.required_text("executable", "write the path of the file that the program runs")?;
    let path = PathBuf::from(executable.get_ref());
    if !path.is_absolute() || path.components().any(|part| matches!(part, std::path::Component::ParentDir)) {
        local.source().error(executable.span(), "this is no absolute path", "write it from `/` on, as `readlink -f` prints it");
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if is_interpreter(name) {
        let mend = "build the agent as a program of its own, or run it as a user that runs nothing else";
        local.source().warning(executable.span(), "whatever script this program is given is the agent", mend);
    }
    let sha256 = local.text("sha256");
    match &sha256 {
        None if local.value("sha256").is_none() => {
            let mend = format!("add `sha256 = \"…\"`, as `sha256sum {}` prints it", super::fields::shown(executable.get_ref()));
            local.source().warning(local.span(), "whoever can replace the file is the agent", mend);
        }
        Some(digest) if digest.get_ref().len() != 64 || !digest.get_ref().bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
            local.source().error(
                digest.span(),
                "this is no SHA-256 digest",
                "write its 64 lower-case hexadecimal digits, as `sha256sum` prints them",
            );
        }
        _ => {}
    }
    Some(Local { uid: uid?, gid, executable: path, sha256: sha256.map(Spanned::into_inner) })
}

/// Whether a program does what a script says, whoever wrote that.
fn is_interpreter(name: &str) -> bool {
    const INTERPRETERS: [&str; 16] = [
        "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "java", "bash", "dash", "sh", "zsh", "busybox", "dotnet",
    ];
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&name)
}

/// An issuer and the claims of its tokens that prove the agent (`is_own`), or are meant for it.
fn federated(table: &Fields<'_>, issuers: &BTreeMap<String, Issuer>, is_own: bool) -> Option<Federation> {
    let named = table.required_text("issuer", "name an issuer of `issuers.toml`, or its URL");
    let claims: Claims = table.text_members("claims").into_iter().map(|(name, value)| (name, value.into_inner())).collect();
    if claims.is_empty() && table.value("claims").is_none_or(|value| value.get_ref().as_table().is_some_and(|table| table.is_empty())) {
        let (message, mend) = if is_own {
            (
                "every token of the issuer would be this agent",
                "add claims that only this agent's workload has, such as `claims = { sub = \"…\" }`",
            )
        } else {
            (
                "every person's token of the issuer would be this agent's to use",
                "add a claim that only tokens for this agent have, such as `claims = { azp = \"…\" }`",
            )
        };
        table.source().error(table.span(), message, mend);
    }
    let issuer = declared_issuer(table, &named?, issuers)?;
    if is_own {
        check_claims(table, issuer, &claims);
    }
    Some(Federation { issuer: issuer.issuer.clone(), claims })
}

/// The issuer of this name or URL; noted where there is none.
pub(super) fn declared_issuer<'i>(
    table: &Fields<'_>,
    named: &Spanned<String>,
    issuers: &'i BTreeMap<String, Issuer>,
) -> Option<&'i Issuer> {
    let issuer = issuers.values().find(|issuer| issuer.name == *named.get_ref() || issuer.issuer == *named.get_ref());
    if issuer.is_none() {
        let known = issuers.values().flat_map(|issuer| [issuer.name.as_str(), issuer.issuer.as_str()]);
        let message = format!("no issuer `{}` is declared", super::fields::shown(named.get_ref()));
        let mend = match known.clone().next() {
            Some(_) => suggest(named.get_ref(), known),
            None => "declare it in `issuers.toml` with `[[issuer]]`, `name` and `issuer`".to_owned(),
        };
        table.source().error(named.span(), message, mend);
    }
    issuer
}

/// Notes claims that no token of the issuer can have, and those that do not pin one workload for good.
fn check_claims(table: &Fields<'_>, issuer: &Issuer, claims: &Claims) {
    let at = table.value("claims").map_or_else(|| table.span(), Spanned::span);
    if issuer.kind == Platform::Spiffe {
        let id = claims.get("sub").and_then(|sub| spiffe::Id::parse(sub).ok());
        let domain = spiffe::trust_domain(&issuer.issuer).unwrap_or_default();
        if id.is_none_or(|id| id.trust_domain() != domain || id.path().is_empty()) {
            let mend = format!("write `claims = {{ sub = \"spiffe://{domain}/…\" }}`, the workload's whole SPIFFE id");
            table.source().error(at, format!("no SVID of `{}` has these claims", issuer.name), mend);
        }
        return;
    }
    if let Some((message, mend)) = platform::pinning(issuer, claims).filter(|_| !claims.is_empty()) {
        table.source().warning(at, message, mend);
    }
}

fn credential(table: &Fields<'_>) -> CredentialRules {
    let default = CredentialRules::default();
    let ttl = table.parsed::<Duration>("ttl", "write a whole number and a unit, such as `5m`");
    if let Some(ttl) = ttl.as_ref().filter(|ttl| !(TTL_MIN..=TTL_MAX).contains(ttl.get_ref())) {
        let message = format!("a credential cannot live `{}`", ttl.get_ref());
        table.source().error(ttl.span(), message, "write from `10s` to `15m`; agents renew it as they go");
    }
    let proof = table.choice("proof", &[("dpop", Proof::Dpop), ("mtls", Proof::Mtls), ("bearer", Proof::Bearer)]);
    if let Some(proof) = proof.as_ref().filter(|proof| *proof.get_ref() == Proof::Bearer) {
        let mend = "use `dpop`, unless the client cannot; `bailiwick connect` adds the proof for clients that do not know it";
        table.source().warning(proof.span(), "whoever holds this agent's credential may use it", mend);
    }
    let longest = table.parsed::<Duration>("execution_max", "write a whole number and a unit, such as `8h`");
    let ttl = ttl.map_or(default.ttl, Spanned::into_inner);
    if let Some(longest) = longest.as_ref().filter(|longest| *longest.get_ref() < ttl.min(TTL_MAX)) {
        let message = format!("an execution of `{}` ends before its first credential", longest.get_ref());
        table.source().error(longest.span(), message, format!("write at least `{ttl}`"));
    }
    CredentialRules {
        ttl,
        proof: proof.map_or(default.proof, Spanned::into_inner),
        execution_max: longest.map_or(default.execution_max, Spanned::into_inner),
    }
}

fn permissions(may: &Fields<'_>, declared: Declared<'_>) -> (Vec<ToolPattern>, Vec<AgentName>, DecideFor, Option<u64>) {
    let call: Vec<Spanned<ToolPattern>> = may.all_parsed("call", "write `server/tool` or `server/*`");
    call.iter().for_each(|pattern| resolve(may.source(), pattern, declared.servers));
    let delegate_to = agents(may, "delegate_to", declared);
    let everybody = may.texts("decide_for").iter().any(|name| name.get_ref() == "*");
    let decide_for = if everybody {
        DecideFor::All
    } else {
        match agents(may, "decide_for", declared) {
            agents if agents.is_empty() => DecideFor::Nobody,
            agents => DecideFor::These(agents),
        }
    };
    let budget = may.table::<schema::BudgetTable>("budget");
    let calls_max = budget.and_then(|budget| {
        if budget.value("calls").is_none() {
            budget.missing("calls", "say how many calls, such as `{ calls = 200, per = \"execution\" }`");
        }
        let _ = budget.choice("per", &[("execution", ())]);
        budget.number("calls", 1..=1_000_000_000)
    });
    (call.into_iter().map(Spanned::into_inner).collect(), delegate_to, decide_for, calls_max.map(Spanned::into_inner))
}

/// Declared agents, by name.
fn agents(may: &Fields<'_>, key: &str, declared: Declared<'_>) -> Vec<AgentName> {
    let agents: Vec<Spanned<AgentName>> = may.all_parsed(key, "write the names of agents");
    for agent in agents.iter().filter(|agent| !declared.agents.contains(agent.get_ref().as_str())) {
        let mend = suggest(agent.get_ref().as_str(), declared.agents.iter().map(String::as_str));
        may.source().error(agent.span(), format!("no agent `{}` is declared", agent.get_ref()), mend);
    }
    agents.into_iter().map(Spanned::into_inner).collect()
}

/// Notes a pattern that means no declared tool.
pub(super) fn resolve(source: Source<'_>, pattern: &Spanned<ToolPattern>, servers: &BTreeMap<ServerName, Server>) {
    let name = pattern.get_ref().server();
    let Some(server) = servers.get(name) else {
        let mend = match servers.len() {
            0 => format!("declare it in `servers/{name}.toml`"),
            _ => suggest(name.as_str(), servers.keys().map(ServerName::as_str)),
        };
        source.error(pattern.span(), format!("no server `{name}` is declared"), mend);
        return;
    };
    let unknown = |own: &str, message: String| {
        let mend = suggest(own, server.tools.keys().map(String::as_str));
        source.error(pattern.span(), message, format!("{mend}; or declare it in the file of `{name}`"));
    };
    match pattern.get_ref() {
        ToolPattern::Server(_) => {}
        ToolPattern::One(tool) if server.tool(tool).is_some() => {}
        ToolPattern::One(tool) => unknown(tool.tool(), format!("the server `{name}` declares no `{}`", tool.tool())),
        ToolPattern::Prefix(_, prefix) => {
            let own = prefix.split_once('/').map_or("", |(_, own)| own);
            let meets = |declared: &String| {
                let declared = declared.trim_end_matches('*');
                declared.starts_with(own) || own.starts_with(declared)
            };
            if !server.tools.keys().any(meets) {
                unknown(own, format!("the server `{name}` declares nothing that begins with `{own}`"));
            }
        }
    }
}

/// The texts of a list or one text alone.
pub(super) fn one_or_more(fields: &Fields<'_>, key: &str) -> Vec<Spanned<String>> {
    match fields.value(key) {
        Some(value) if value.get_ref().is_str() => text(fields.source(), value, key).into_iter().collect(),
        _ => fields.texts(key),
    }
}
