//! Whom a person's token was meant for: nobody acts for a person by a token that merely came its way.

use bailiwick_core::bundle::{Agent, Issuer, Snapshot};
use bailiwick_core::identity::assertion;
use bailiwick_core::model::SpiffeId;
use serde_json::{Map, Value};

/// Whether the token of a person with these `claims`, of `issuer`, is meant for `agent`: it says who may act (`may_act`, RFC 8693
/// §4.4) and that is the agent, or it was issued to the agent (`azp` or `client_id`), or the bundle says by which claims it is known.
/// What names another in any of these ways is not the agent's, whatever else it has.
pub(super) fn meant_for(snapshot: &Snapshot, agent: &Agent, issuer: &Issuer, claims: &Map<String, Value>) -> Result<(), String> {
    let id = SpiffeId::new(snapshot.settings.trust_domain.clone(), agent.name.clone()).to_string();
    let is_agent = |named: &Value| named.as_str().is_some_and(|named| named == id || named == agent.name.as_str());
    let another_agent = |named: &Value| {
        let named = named.as_str().unwrap_or_default();
        let name = named.parse::<SpiffeId>().map_or_else(|_| named.parse().ok(), |spiffe| Some(spiffe.agent().clone()));
        !is_agent(&Value::from(named)) && name.is_some_and(|name| snapshot.agents.contains_key(&name))
    };
    if let Some(may_act) = claims.get("may_act") {
        return match may_act.get("sub") {
            Some(sub) if is_agent(sub) => Ok(()),
            _ => Err("the token's `may_act` names another actor".to_owned()),
        };
    }
    let parties = || ["azp", "client_id"].into_iter().filter_map(|name| claims.get(name));
    if parties().any(another_agent) {
        return Err("the token was issued to another agent".to_owned());
    }
    let is_declared = || {
        let mut declared = agent.subjects.iter().filter(|subject| subject.issuer == issuer.issuer);
        declared.any(|subject| assertion::claims_match(claims, &subject.claims))
    };
    if parties().any(is_agent) || is_declared() {
        return Ok(());
    }
    Err(format!(
        "nothing in the token says that it is meant for `{}`: no `may_act`, `azp` or `client_id` names it, and no `[[agent.subject]]` matches",
        agent.name
    ))
}
