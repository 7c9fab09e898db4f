//! The page that asks a person whether a client may sign in: who it is, as which agent, at what, for how long, and what is dangerous
//! about it. What the client says of itself is marked as that.

use bailiwick_core::bundle::{Agent, Proof, Snapshot};
use bailiwick_core::identity::Grant;
use bailiwick_core::identity::client::{self, Redirect};
use bailiwick_core::model::{Person, ToolName};

use super::asked::{called, doing};
use super::authorize::{Asked, Wanted};
use super::page::{Reader, text, whole};

/// The most tools that are named.
const TOOLS_MAX: usize = 40;

/// What the page shows.
pub(super) struct Shown<'a> {
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) asked: &'a Asked,
    pub(super) agent: &'a Agent,
    pub(super) grant: &'a Grant,
    /// The request, which the form carries.
    pub(super) query: &'a str,
    pub(super) form: &'a str,
    pub(super) person: &'a Person,
}

/// The page.
pub(super) fn page(shown: &Shown<'_>, snapshot: &Snapshot, reader: &Reader) -> String {
    let Shown { wanted, agent, person, .. } = shown;
    let id = &wanted.client.id;
    let host = client::check_id(id).ok();
    let who = host.unwrap_or(id);
    let mut body = format!(
        "<div class=\"card\"><p><span class=\"tag warm\">wants to sign in</span></p><h1>Let <span class=\"value\">{}</span> act for you?</h1>\
         <p>What it does then counts as done for you, {}, by the agent <strong>{}</strong>. Allow it only if you began this yourself, just now.</p>{}</div>",
        text(who),
        text(&called(person)),
        text(agent.name.as_str()),
        dangers(shown, host),
    );
    body.push_str(&format!("<section class=\"card\"><h2>Who asks</h2><dl>{}</dl></section>", facts(&client_facts(shown, host))));
    body.push_str(&format!("<section class=\"card\"><h2>What it may do</h2><dl>{}</dl></section>", facts(&reach_facts(shown, snapshot))));
    body.push_str(&answers(shown));
    whole("Sign in", &body, Some(reader))
}

fn facts(facts: &[(&str, String)]) -> String {
    facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect()
}

fn client_facts(shown: &Shown<'_>, host: Option<&str>) -> Vec<(&'static str, String)> {
    let Shown { wanted, agent, .. } = shown;
    let mut facts = vec![match host {
        Some(host) => ("The client, vouched for by its host", format!("<strong class=\"value\">{}</strong>", text(host))),
        None => ("The client, as the operator set it up", format!("<strong>{}</strong>", text(&wanted.client.id))),
    }];
    if let Some(name) = &wanted.document.name {
        let label = if host.is_some() { "It calls itself" } else { "The operator calls it" };
        facts.push((label, format!("“{}”", text(name))));
    }
    if host.is_some() {
        facts.push(("Its id", format!("<span class=\"value\">{}</span>", text(&wanted.client.id))));
    }
    facts.push(("The answer goes to", format!("<span class=\"value\">{}</span>", text(wanted.redirect.as_str()))));
    facts.push(("It would be the agent", text(agent.name.as_str())));
    facts.push(("Whose purpose is", text(&agent.purpose)));
    facts.push(("For which answers", text(&agent.owner)));
    facts
}

fn reach_facts(shown: &Shown<'_>, snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let Shown { asked, agent, .. } = shown;
    let place = |resource: &String| {
        let words = resource.rsplit_once("/mcp/").map_or_else(
            || if resource.ends_with("/mcp") { "all tool servers".to_owned() } else { "an agent".to_owned() },
            |(_, server)| format!("the tool server <strong>{}</strong>", text(server)),
        );
        format!("{words} <span class=\"soft value\">{}</span>", text(resource))
    };
    let places: Vec<_> = asked.resources.iter().map(place).collect();
    let minutes = |duration: bailiwick_core::model::Duration| text(&duration.to_string());
    let lasts = format!(
        "up to {}, in credentials of {} each. Tell the operator to end it sooner.",
        minutes(agent.credential.execution_max),
        minutes(agent.credential.ttl)
    );
    vec![("Where", places.join("<br>")), ("At most", tools(shown, snapshot)), ("How long", lasts)]
}

/// The tools that it may ever use there.
fn tools(shown: &Shown<'_>, snapshot: &Snapshot) -> String {
    let Shown { asked, agent, grant, .. } = shown;
    let serves = |server: &str| asked.resources.iter().any(|resource| resource.rsplit_once("/mcp/").is_none_or(|(_, one)| one == server));
    let mut named = Vec::new();
    for (server, declared) in snapshot.servers.iter().filter(|(server, _)| serves(server.as_str())) {
        for (own, tool) in &declared.tools {
            let Ok(name) = format!("{server}/{}", own.trim_end_matches('*')).parse::<ToolName>() else { continue };
            if agent.call.iter().any(|pattern| pattern.matches(&name)) && grant.may_ever(&name, tool.effect) {
                named.push(format!("<code>{}</code> <span class=\"soft\">{}</span>", text(&format!("{server}/{own}")), doing(tool.effect)));
            }
        }
    }
    let more = named.len().saturating_sub(TOOLS_MAX);
    named.truncate(TOOLS_MAX);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    if named.is_empty() { "nothing that is declared today".to_owned() } else { named.join("<br>") }
}

/// What a person should be warned of.
fn dangers(shown: &Shown<'_>, host: Option<&str>) -> String {
    let Shown { wanted, agent, .. } = shown;
    let mut dangers = Vec::new();
    match (&wanted.redirect, host) {
        (redirect, _) if redirect.is_loopback() => dangers.push(format!(
            "The answer goes to a program on the machine that you sit at (<span class=\"value\">{}</span>). Any program there could have asked in \
             this name. If you did not just start this client here, refuse.",
            text(redirect.authority())
        )),
        (redirect, Some(host)) if !is_same_host(redirect, host) => dangers.push(format!(
            "The answer goes to <span class=\"value\">{}</span>, which is another host than the client’s own.",
            text(redirect.authority())
        )),
        _ => {}
    }
    if host.is_none() {
        dangers.push("Nothing vouches for this client: whoever knows its id can ask in its name.".to_owned());
    }
    if agent.credential.proof == Proof::Bearer {
        dangers.push("What it is given is bound to no key: whoever steals it can use it.".to_owned());
    }
    dangers.iter().map(|danger| format!("<p class=\"danger\"><span class=\"tag bad\">take care</span> {danger}</p>")).collect()
}

fn is_same_host(redirect: &Redirect, host: &str) -> bool {
    redirect.authority().eq_ignore_ascii_case(host)
}

fn answers(shown: &Shown<'_>) -> String {
    let answer = |value: &str, class: &str, label: &str, means: &str| {
        format!(
            "<div><button type=\"submit\" class=\"{class}\" name=\"answer\" value=\"{value}\">{label}</button><span class=\"soft\">{means}</span></div>"
        )
    };
    let allow = answer("allow", "yes", "Allow", "This once. The next time it signs in you are asked again.");
    let refuse = answer("refuse", "no", "Refuse", "The client is told, and gets nothing.");
    format!(
        "<section class=\"card\"><h2>Your answer</h2><form method=\"post\" action=\"/authorize\"><input type=\"hidden\" name=\"form\" value=\"{}\">\
         <input type=\"hidden\" name=\"request\" value=\"{}\"><div class=\"answers\">{allow}{refuse}</div></form></section>",
        text(shown.form),
        text(shown.query)
    )
}
