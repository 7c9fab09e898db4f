//! The scopes of clients that people sign in by (RFC 6749 §3.3): the effects that the agent's tools have, and names of tools. They stand
//! for `authorization_details`, as `effects` does.

use std::collections::BTreeSet;

use bailiwick_core::bundle::{Agent, Snapshot};
use bailiwick_core::identity::Grant;
use bailiwick_core::model::{Effect, ToolName};
use serde_json::Value;

use super::REFRESH_TOKEN;
use super::answer::Refusal;
use super::form::Form;
use super::issue::effect_details;

/// What clients add to be given a refresh token, which they are given anyway.
const OFFLINE_ACCESS: &str = "offline_access";

/// The details that the `scope` of a form stands for, where it has one that says anything: at the authorization endpoint, and with a refresh
/// token. Elsewhere `scope` is not looked at.
pub(super) fn details(agent: &Agent, form: &Form) -> Result<Option<Value>, Refusal> {
    let is_looked_at = form.one("response_type").is_some() || form.one("grant_type") == Some(REFRESH_TOKEN);
    let words = form.one("scope").filter(|_| is_looked_at).unwrap_or_default().split_ascii_whitespace();
    let words: Vec<&str> = words.filter(|word| *word != OFFLINE_ACCESS).collect();
    if words.is_empty() {
        return Ok(None);
    }
    effect_details(agent, &words.join(" ")).map(Some).map_err(|_| {
        Refusal::new(
            "invalid_scope",
            "`scope` is a list of `read`, `write`, `send`, `spend`, `admin` and names of tools, with spaces between",
        )
    })
}

/// The effects of all that an execution may ever do: what it was granted, in words of a scope.
pub(super) fn granted(agent: &Agent, snapshot: &Snapshot, grant: &Grant) -> String {
    let declared =
        snapshot.servers.values().flat_map(|server| server.tools.iter().map(move |(own, tool)| (&server.name, own, tool.effect)));
    let may = |(server, own, effect): (_, &String, Effect)| {
        let tool: ToolName = format!("{server}/{}", own.trim_end_matches('*')).parse().ok()?;
        (agent.call.iter().any(|pattern| pattern.matches(&tool)) && grant.may_ever(&tool, effect)).then_some(effect)
    };
    let effects: BTreeSet<Effect> = declared.filter_map(may).collect();
    let words: Vec<&str> = effects.into_iter().map(Effect::as_str).collect();
    words.join(" ")
}
