//! What one bundle allows that the one before it did not: what whoever loosens the house's own rules changes.
//!
//! Only what existed before and is looser now is told. That there are more agents, servers or rules is told by nothing here, and
//! neither is what became stricter.

use std::collections::BTreeSet;

use super::{Agent, Approver, Proof, Respond, Snapshot, Tool};
use crate::detect::finding::Response;
use crate::detect::respond::{Mode, When};
use crate::ledger::Integrity;

/// The most that is told; what is beyond is counted in the last one.
const TOLD_MAX: usize = 64;

/// What is looser in `after` than in `before`, each as a word and what it is about, such as `effect:bank/pay`, in order. The words
/// are listed in `docs/spec/rules.md`.
pub fn loosened(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut told = BTreeSet::new();
    for (name, was) in &before.agents {
        if let Some(agent) = after.agents.get(name) {
            told.extend(of_agent(was, agent).map(|word| format!("{word}:{name}")));
        }
    }
    for (name, was) in &before.servers {
        let Some(server) = after.servers.get(name) else { continue };
        for (own, was) in &was.tools {
            if let Some(tool) = server.tools.get(own) {
                told.extend(of_tool(was, tool).map(|word| format!("{word}:{name}/{own}")));
            }
        }
    }
    told.extend(after.policies.looser_than(&before.policies));
    told.extend(of_rules(before, after));
    told.extend(of_respond(&before.settings.respond, &after.settings.respond));
    let (was, is) = (&before.settings, &after.settings);
    for (word, looser) in [
        ("approver", was.approvals.approver == Approver::NotSubject && is.approvals.approver == Approver::Anyone),
        ("asks_max", is.approvals.asks_max > was.approvals.asks_max),
        ("login", was.approvals.login.as_ref().map(|login| &login.claims) != is.approvals.login.as_ref().map(|login| &login.claims)),
        ("chain_max", is.limits.chain_max > was.limits.chain_max),
        ("alerts", is.limits.executions_per_alert > was.limits.executions_per_alert),
    ] {
        told.extend(looser.then(|| format!("{word}:bailiwick.toml")));
    }
    for (name, was) in &before.issuers {
        let is = after.issuers.get(name);
        let differs = is.is_some_and(|is| format!("{:?}", (&was.issuer, &was.keys)) != format!("{:?}", (&is.issuer, &is.keys)));
        told.extend(differs.then(|| format!("issuer:{name}")));
    }
    let beyond = told.len().saturating_sub(TOLD_MAX);
    let mut told: Vec<String> = told.into_iter().take(TOLD_MAX).collect();
    if beyond > 0 {
        told.push(format!("more:{beyond}"));
    }
    told
}

fn of_agent(was: &Agent, is: &Agent) -> impl Iterator<Item = &'static str> {
    let more = |was: &[_], is: &[_]| is.iter().any(|pattern| !was.contains(pattern));
    let longer = is.credential.ttl > was.credential.ttl || is.credential.execution_max > was.credential.execution_max;
    [
        ("may_call", more(&was.call, &is.call)),
        ("may_delegate", is.delegate_to.iter().any(|to| !was.delegate_to.contains(to))),
        ("budget", was.calls_max.is_some_and(|was| is.calls_max.is_none_or(|is| is > was))),
        ("proof", is.credential.proof == Proof::Bearer && was.credential.proof != Proof::Bearer),
        ("credential", longer),
        // Who may be the agent: another key, issuer, claim, program or client than before.
        ("who_may_be", identities(is).any(|one| identities(was).all(|other| other != one))),
    ]
    .into_iter()
    .filter_map(|(word, looser)| looser.then_some(word))
}

fn identities(agent: &Agent) -> impl Iterator<Item = String> {
    let Agent { keys, federation, local, clients, .. } = agent;
    let keys = keys.iter().map(|one| format!("{one:?}"));
    let federations = federation.iter().map(|one| format!("{one:?}"));
    keys.chain(federations).chain(local.iter().map(|one| format!("{one:?}"))).chain(clients.iter().map(|one| format!("{one:?}")))
}

fn of_tool(was: &Tool, is: &Tool) -> impl Iterator<Item = &'static str> {
    let (before, after) = (&was.returns.labels, &is.returns.labels);
    let targets = was.targets.iter().any(|(argument, who)| match is.targets.get(argument) {
        None => true,
        Some(now) => now.iter().any(|one| !who.contains(one)),
    });
    [
        ("effect", is.effect < was.effect),
        ("otherwise", (is.otherwise as u8) < was.otherwise as u8),
        ("targets", targets),
        ("integrity", before.integrity == Integrity::Untrusted && after.integrity == Integrity::Trusted),
        ("confidentiality", !before.confidentiality.is_subset(&after.confidentiality)),
        ("audience", was.audience.as_ref().is_some_and(|was| is.audience.as_ref().is_none_or(|is| !is.is_subset(was)))),
        ("definition", was.pin.as_ref().is_some_and(|was| is.pin.as_ref().is_some_and(|is| is.digest != was.digest))),
    ]
    .into_iter()
    .filter_map(|(word, looser)| looser.then_some(word))
}

/// What is done about what is found: less than before, or fewer are told.
fn of_respond(was: &Respond, is: &Respond) -> impl Iterator<Item = String> {
    // What is new and does less than stop anybody may take the place of what a rule asks for.
    let spares = |when: &&When| when.does.is_some_and(|does| does < Response::Ask) && !was.orders.when.contains(when);
    [
        ("mode", was.orders.mode == Mode::Act && is.orders.mode == Mode::DryRun),
        ("stops_per_hour", is.orders.stops_per_hour < was.orders.stops_per_hour),
        ("when", is.orders.when.iter().any(|when| spares(&when))),
        ("notify", was.notify.iter().any(|one| !is.notify.contains(one))),
    ]
    .into_iter()
    .filter(|(_, looser)| *looser)
    .map(|(word, _)| format!("respond:{word}"))
}

/// Detection rules that raised findings and do not any more, or say something else now.
fn of_rules(before: &Snapshot, after: &Snapshot) -> impl Iterator<Item = String> {
    let raises = |snapshot: &Snapshot| -> BTreeSet<(String, String)> {
        let rules = snapshot.rules.described().filter(|rule| !snapshot.rules.is_off(&rule.detector.id));
        rules.map(|rule| (rule.detector.id.clone(), rule.file.clone())).collect()
    };
    let (was, is) = (raises(before), raises(after));
    let gone: Vec<String> = was
        .into_iter()
        .filter(|rule| !is.contains(rule))
        .map(|(id, _)| match is.iter().any(|(other, _)| *other == id) {
            true => format!("rule_replaced:{id}"),
            false => format!("rule_off:{id}"),
        })
        .collect();
    gone.into_iter()
}
