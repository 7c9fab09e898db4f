//! The rest of the chain: a call is made for everybody in it, so everybody in it must be allowed to make it.
//!
//! Each execution above the present one is asked as if it made the call itself: its agent's policies, its grant, its budgets. And
//! nobody may do for another what it may not do alone, so that whatever a policy says of the chain can only take away.

use crate::bundle::Snapshot;
use crate::execution::Execution;
use crate::identity::Admission;
use crate::ledger::{Facts, GrantUse, HistoryUnjudged, Share};
use crate::model::{Call, Code, Member, Timestamp, ToolName};
use crate::policy::{Question, Ruling, RulingOutcome};

use super::Known;

/// What is known of an execution that delegated to the one that makes a call.
#[derive(Clone, Debug)]
pub struct Above<'a> {
    execution: &'a Execution,
    /// What its ledger says, counted as if it made the call itself and were allowed to.
    facts: Result<Facts, HistoryUnjudged>,
    admission: Admission,
}

/// What is known of those that the execution acts for, nearest first.
pub fn above<'a>(snapshot: &Snapshot, execution: &'a Execution, call: &Call, now: Timestamp) -> Vec<Above<'a>> {
    let Some(effect) = snapshot.tool(&call.tool).map(|tool| tool.effect) else { return Vec::new() };
    let known = |execution: &'a Execution| {
        let ledger = execution.ledger();
        let uses = |item| ledger.grant_uses(item);
        let admission = execution.grant().admits(&call.tool, effect, call.arguments.value(), uses);
        let mut facts = ledger.facts(&snapshot.histories, &execution.agent_tracks(), call, now);
        if let (Ok(facts), Admission::Item(item)) = (&mut facts, admission) {
            facts.grant = Some(GrantUse { item, uses: uses(item).saturating_add(1) });
        }
        Above { execution, facts, admission }
    };
    execution.above().map(known).collect()
}

/// Whether some call of `tool` might be allowed to the execution and to all that it acts for, whatever its arguments and what was
/// done before: what a list shows.
pub fn may_ever(snapshot: &Snapshot, execution: &Execution, tool: &ToolName) -> bool {
    let may = |one: &Execution, effect| one.grant().may_ever(tool, effect) && snapshot.policies.may_ever(&one.started().agent, tool);
    !execution.is_stopped()
        && snapshot.tool(tool).is_some_and(|found| std::iter::once(execution).chain(execution.above()).all(|one| may(one, found.effect)))
}

impl Facts {
    /// Takes in those that the call is made for: what they were shown counts as shown, and the call counts for them.
    pub(super) fn take_in(&mut self, above: &[Above<'_>]) {
        for Above { execution, facts, .. } in above {
            let Ok(facts) = facts else { continue };
            self.labels.join(&facts.labels);
            self.above.push(Share {
                agent: execution.started().agent.clone(),
                execution: execution.id(),
                calls: facts.calls,
                history: facts.history.clone(),
                grant: facts.grant,
            });
        }
    }
}

/// What stands against a call in the rest of the chain.
#[derive(Debug)]
pub(super) struct Against {
    /// Why it is denied; where nothing, a person may allow it.
    pub(super) denies: Option<Code>,
    /// Why, in a sentence for the operator.
    pub(super) because: String,
    /// The policies that determined it.
    pub(super) policies: Vec<String>,
    /// What went wrong while judging.
    pub(super) errors: Vec<String>,
}

/// What stands against a call of another agent, if that is what it is: who calls has to be declared to delegate to it, and the chain
/// must have room for one more.
pub(super) fn interaction(known: &Known<'_>, execution: &Execution, call: &Call) -> Option<Against> {
    let to = known.snapshot.servers.get(call.tool.server())?.behind()?.agent.as_ref()?;
    let (started, chain_max) = (execution.started(), known.snapshot.settings.limits.chain_max);
    let because = if !known.snapshot.agents.get(&started.agent).is_some_and(|agent| agent.delegate_to.contains(to)) {
        format!("`{}` is not declared to delegate to `{to}`", started.agent)
    } else if started.chain.len().saturating_add(2) > chain_max {
        format!("the chain would be of more than {chain_max} agents")
    } else {
        return None;
    };
    Some(Against { denies: Some(Code::UndeclaredInteraction), because, policies: Vec::new(), errors: Vec::new() })
}

/// What stands against the call in the rest of the chain, if anything; what denies comes before what asks.
pub(super) fn against(known: &Known<'_>, execution: &Execution, call: &Call, facts: &Facts, now: Timestamp) -> Option<Against> {
    execution.parent()?;
    if let Some(because) = undeclared(known.snapshot, execution) {
        return Some(Against { denies: Some(Code::NotDelegated), because, policies: Vec::new(), errors: Vec::new() });
    }
    let mut asks = None;
    let mut stands = |against: Against| {
        let denies = against.denies.is_some();
        if denies || asks.is_none() {
            asks = Some(against);
        }
        denies
    };
    // The present one was asked with its chain; alone it must be allowed to as well.
    let looks_at_chain = |of: &Execution| known.snapshot.policies.look_at_chain(&of.started().agent, &call.tool);
    let own = looks_at_chain(execution).then(|| refusal(known, execution, &[], call, facts, now)).flatten();
    if own.is_some_and(&mut stands) {
        return asks;
    }
    for Above { execution, facts: own, admission } in known.above {
        let facts = match own {
            Ok(own) => seen_together(facts, own),
            Err(error) => {
                let because = format!("what `{}` has done cannot be added up for this call", execution.started().agent);
                let errors = vec![error.to_string()];
                return Some(Against { denies: Some(Code::InvalidArguments), because, policies: Vec::new(), errors });
            }
        };
        if let Some(against) = outside(execution, *admission) {
            return Some(against);
        }
        let chain = &execution.started().chain;
        let with = (!chain.is_empty() && looks_at_chain(execution)).then(|| refusal(known, execution, chain, call, &facts, now));
        if with.flatten().is_some_and(&mut stands) || refusal(known, execution, &[], call, &facts, now).is_some_and(&mut stands) {
            return asks;
        }
    }
    asks
}

/// What one of the chain has done, and what any of it was shown, as far as policies look at it.
fn seen_together(facts: &Facts, own: &Facts) -> Facts {
    Facts {
        calls: own.calls,
        history: own.history.clone(),
        labels: facts.labels.clone(),
        traced: facts.traced.clone(),
        behavior: facts.behavior.clone(),
        caution: facts.caution.clone(),
        ..Facts::default()
    }
}

/// What the policies have against the call of the execution's agent with that chain.
fn refusal(known: &Known<'_>, of: &Execution, chain: &[Member], call: &Call, facts: &Facts, now: Timestamp) -> Option<Against> {
    let started = of.started();
    let question = Question {
        agent: &started.agent,
        subject: started.subject.as_deref(),
        task: started.task.as_deref(),
        chain,
        tool: &call.tool,
        arguments: call.arguments.value(),
        declared: !of.grant().is_unrestricted(),
        facts,
        now,
    };
    let policies = &known.snapshot.policies;
    // Why is asked where there is something to explain.
    if policies.permit_beside(&question) { None } else { refused(of, &policies.decide_beside(&question)) }
}

fn refused(of: &Execution, ruling: &Ruling) -> Option<Against> {
    let (agent, policies, errors) = (&of.started().agent, ruling.policies.clone(), ruling.errors.clone());
    let against = |denies, because| Some(Against { denies, because, policies, errors });
    match ruling.outcome {
        RulingOutcome::Permitted => None,
        RulingOutcome::NotPermitted => against(
            Some(Code::BeyondDelegation),
            format!("no policy permits `{agent}` this call by itself, so nobody makes it for or as it"),
        ),
        RulingOutcome::Forbidden => {
            against(Some(Code::BeyondDelegation), format!("a policy forbids `{agent}` this call, so nobody makes it for or as it"))
        }
        RulingOutcome::BudgetSpent => against(Some(Code::BudgetSpent), format!("the budget of `{agent}` is spent")),
        RulingOutcome::Asked => against(None, format!("a policy wants a person to approve this call of `{agent}`")),
        RulingOutcome::InvalidArguments => against(Some(Code::InvalidArguments), "the arguments are not what the tool takes".to_owned()),
        RulingOutcome::Failed => against(Some(Code::PolicyFailed), format!("a policy about `{agent}` could not be evaluated")),
    }
}

fn outside(of: &Execution, admission: Admission) -> Option<Against> {
    let agent = &of.started().agent;
    let (code, because) = match admission {
        Admission::Unrestricted | Admission::Item(_) => return None,
        Admission::Spent => (Code::BudgetSpent, format!("what the execution of `{agent}` was granted is spent")),
        Admission::None => (Code::OutsideGrant, format!("the grant of the execution of `{agent}` does not include this call")),
    };
    Some(Against { denies: Some(code), because, policies: Vec::new(), errors: Vec::new() })
}

/// The first hop of the chain that the bundle in force does not declare, in a sentence.
fn undeclared(snapshot: &Snapshot, execution: &Execution) -> Option<String> {
    let started = execution.started();
    let mut to = &started.agent;
    for member in &started.chain {
        let by = member.agent.agent();
        if !snapshot.agents.get(by).is_some_and(|agent| agent.delegate_to.contains(to)) {
            return Some(format!("`{by}` is not declared to delegate to `{to}`"));
        }
        to = by;
    }
    None
}

#[cfg(test)]
mod tests;
