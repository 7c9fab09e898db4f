//! The decision: one pure function from what is known to what is answered.
//!
//! The gateway, `explain`, the bundle's tests, a replay and the simulator all call [`judge`]. The same snapshot, held
//! tools, execution, ledger, call and time give the same answer, which is how a decision can be checked again from the
//! log years later. It allows in one place, narrowly; everything else denies.

mod chain;

use std::collections::{BTreeSet, HashSet};

use bailiwick_log::Position;

pub use self::chain::{Above, above, may_ever};
use crate::approval::Standing;
use crate::bundle::{Otherwise, Snapshot, Tool};
use crate::detect::baseline::{Band, Behavior};
use crate::execution::Execution;
use crate::flow::{Carried, Provenance, Sources, Traced, carried, trace, words_to_record};
use crate::identity::Admission;
use crate::ledger::{Facts, GrantUse, Integrity, Labels, Ledger, Tracks};
use crate::model::{Answer, Answers, Call, Caution, Code, Decision, Effect, ExecutionStarted, Intent, Timestamp, ToolName, Verdict};
use crate::policy::{Question, RulingOutcome};

/// What is known when a call is judged, beside the execution itself.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The bundle in force.
    pub snapshot: &'a Snapshot,
    /// The tools whose offered definition differs from the reviewed one.
    pub held: &'a HashSet<ToolName>,
    /// What the execution has been shown, by which the targets of its call are traced.
    pub sources: Sources<'a>,
    /// What is said of the call beside what is usual for its agent, where anybody looks.
    pub behavior: Option<&'a Behavior>,
    /// Whether there is room to remember what the agent writes to the tool's server under untrusted influence, so that it is not
    /// believed when it is read back.
    pub remembers: bool,
    /// The executions that it acts for, nearest first, as [`above`] finds them.
    pub above: &'a [Above<'a>],
}

/// A judged call: the decision, and what the record keeps beside it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The decision.
    pub decision: Decision,
    /// What the tool does; [`Effect::Admin`] when nobody declared it.
    pub effect: Effect,
    /// What the ledger said.
    pub facts: Facts,
    /// The words by which arguments are known again that the log does not keep: for [`Intent::written`], once they are sealed.
    pub written: Option<Vec<u64>>,
}

impl Judged {
    /// The record of it: what was decided, and all that it was decided by. The call was judged `at` that time, by a ledger
    /// whose next place was `sequence`, when the log was known up to `state`.
    pub fn into_intent(
        self,
        snapshot: &Snapshot,
        execution: &Execution,
        call: &Call,
        state: Position,
        sequence: u64,
        at: Timestamp,
    ) -> Intent {
        let started = execution.started();
        let logged = is_logged(snapshot, call);
        Intent {
            at,
            bundle: snapshot.digest,
            state,
            execution: execution.id(),
            sequence,
            agent: started.agent.clone(),
            subject: started.subject.clone(),
            tool: call.tool.clone(),
            effect: self.effect,
            protocol: call.protocol,
            method: call.method.to_owned(),
            network: None,
            arguments_digest: call.arguments.digest(),
            arguments: logged.then(|| call.arguments.text().to_owned()),
            written: None,
            facts: self.facts,
            returns: snapshot.tool(&call.tool).map_or_else(Labels::undeclared, |tool| tool.returns.labels.clone()),
            decision: self.decision,
        }
    }
}

/// Decides one call.
pub fn judge(known: Known<'_>, execution: &Execution, ledger: &Ledger, agent: &Tracks, call: &Call, now: Timestamp) -> Judged {
    let started = execution.started();
    let denied = |code, effect, role| {
        let mut judged = denied(code, effect, started, ledger, role);
        execution.above().for_each(|above| judged.facts.labels.join(above.ledger().labels()));
        judged
    };
    if execution.is_stopped() && !execution.is_revoked() {
        return denied(Code::Quarantined, Effect::Admin, Answer::unjudged("an agent of the chain is quarantined"));
    }
    if execution.is_stopped() {
        return denied(Code::ExecutionEnded, Effect::Admin, Answer::unjudged("the execution was revoked"));
    }
    let Some(tool) = known.snapshot.tool(&call.tool) else {
        return denied(Code::UnknownTool, Effect::Admin, Answer::no(format!("no tool `{}` is declared", call.tool)));
    };
    let effect = tool.effect;
    // What is wrong with a tool or its arguments is told only to agents that might use it.
    let may_ever = || known.snapshot.policies.may_ever(&started.agent, &call.tool);
    let not_in_role = || denied(Code::NotInRole, effect, role(RulingOutcome::NotPermitted, call, started));
    if known.held.contains(&call.tool) || !tool.is_reviewed(&call.tool) {
        let because = format!("the definition of `{}` is not the reviewed one", call.tool);
        return if may_ever() { denied(Code::ToolChanged, effect, Answer::unjudged(because)) } else { not_in_role() };
    }

    let mut facts = match ledger.facts(&known.snapshot.histories, agent, call, now) {
        Ok(facts) => facts,
        Err(_) if !may_ever() => return not_in_role(),
        Err(error) => {
            let mut judged = denied(Code::InvalidArguments, effect, Answer::unjudged("a declared sum had nothing to add"));
            judged.decision.errors.push(error.to_string());
            return judged;
        }
    };
    let admission = execution.grant().admits(&call.tool, effect, call.arguments.value(), |item| ledger.grant_uses(item));
    if let Admission::Item(item) = admission {
        facts.grant = Some(GrantUse { item, uses: ledger.grant_uses(item).saturating_add(1) });
    }
    facts.take_in(known.above);
    facts.behavior = known.behavior.cloned();
    facts.caution = execution.caution();
    // What is only written inside the house leads nobody anywhere, as far as nobody says that it does.
    let acts = effect > Effect::Write || !tool.targets.is_empty();
    if acts && facts.labels.integrity == Integrity::Untrusted {
        facts.traced = trace(tool, call.arguments.value(), known.sources);
    }
    facts.carried = carried(tool, call.arguments.value(), &facts.labels.confidentiality, known.sources);
    let ruling = known.snapshot.policies.decide(&Question {
        agent: &started.agent,
        subject: started.subject.as_deref(),
        task: started.task.as_deref(),
        chain: &started.chain,
        tool: &call.tool,
        arguments: call.arguments.value(),
        declared: admission != Admission::Unrestricted,
        facts: &facts,
        now,
    });
    let (unmemorable, written) = memory(&known, effect, call, &mut facts);
    let against = chain::interaction(&known, execution, call).or_else(|| chain::against(&known, execution, call, &facts, now));
    let cautious = needs_a_look(effect, &facts).then_some(Code::ApprovalRequired);
    let code = match (ruling.outcome, admission, stronger(stronger(flow(tool, &facts), unmemorable), cautious)) {
        (RulingOutcome::Permitted, Admission::Unrestricted | Admission::Item(_), None) if against.is_none() => Code::Allowed,
        (RulingOutcome::Failed, ..) => Code::PolicyFailed,
        (RulingOutcome::InvalidArguments, ..) => Code::InvalidArguments,
        (RulingOutcome::NotPermitted, ..) => Code::NotInRole,
        (RulingOutcome::Forbidden, ..) => Code::Forbidden,
        (RulingOutcome::BudgetSpent, ..) | (_, Admission::Spent, _) => Code::BudgetSpent,
        (_, Admission::None, _) => Code::OutsideGrant,
        (_, _, Some(code)) if code != Code::ApprovalRequired => code,
        _ if let Some(code) = against.as_ref().and_then(|against| against.denies) => code,
        (RulingOutcome::Asked | RulingOutcome::Permitted, ..) => approval(known.snapshot, ledger, call, now, &mut facts),
    };
    let verdict = match code {
        Code::Allowed => Verdict::Allow,
        Code::ApprovalRequired => Verdict::Ask,
        _ => Verdict::Deny,
    };
    let answers = Answers {
        reasonable: reasonable(code, admission, &facts, tool),
        role: role(ruling.outcome, call, started),
        delegation: against.as_ref().map_or_else(|| delegation(started), |against| Answer::no(against.because.clone())),
        normal: normal(&facts),
    };
    let mut ruling = ruling;
    if let Some(against) = against {
        ruling.policies.extend(against.policies);
        ruling.errors.extend(against.errors);
    }
    Judged { decision: Decision { verdict, code, policies: ruling.policies, errors: ruling.errors, answers }, effect, facts, written }
}

/// What is against the call since it would not be remembered what it writes under untrusted influence, and the words that its record
/// keeps in the place of arguments which the log does not keep.
fn memory(known: &Known<'_>, effect: Effect, call: &Call, facts: &mut Facts) -> (Option<Code>, Option<Vec<u64>>) {
    if effect == Effect::Read || facts.labels.integrity == Integrity::Trusted {
        return (None, None);
    }
    facts.unremembered = !known.remembers;
    let asks = facts.unremembered.then_some(Code::ApprovalRequired);
    if is_logged(known.snapshot, call) {
        return (asks, None);
    }
    // Nobody can approve what cannot be shown.
    let words = words_to_record(call.arguments.value(), &facts.traced).filter(|_| asks.is_none());
    (words.is_none().then_some(Code::ArgumentsTooLong), words)
}

/// What counts of two things that are against a call: a denial before a question.
fn stronger(one: Option<Code>, other: Option<Code>) -> Option<Code> {
    if one == Some(Code::ApprovalRequired) { other.or(one) } else { one.or(other) }
}

/// Whether the log keeps the call's arguments.
fn is_logged(snapshot: &Snapshot, call: &Call) -> bool {
    call.arguments.text().get().len() <= snapshot.settings.limits.arguments_logged_max
}

/// How a call that a person has to approve stands, which becomes one of its facts.
fn approval(snapshot: &Snapshot, ledger: &Ledger, call: &Call, now: Timestamp, facts: &mut Facts) -> Code {
    let (digest, settings) = (call.digest(), &snapshot.settings.approvals);
    let (code, standing) = match ledger.asks().standing(&digest, now) {
        Some(approved @ Standing::Approved { .. }) => (Code::Allowed, Some(approved)),
        Some(refused @ Standing::Refused { .. }) => (Code::ApprovalRefused, Some(refused)),
        Some(waits) => (Code::ApprovalRequired, Some(waits)),
        None if ledger.asks().len() >= settings.asks_max => (Code::AskedTooOften, None),
        None => {
            let until = now.checked_add(settings.expires.std()).unwrap_or(now);
            (Code::ApprovalRequired, Some(Standing::Asked { call: digest, until }))
        }
    };
    facts.approval = standing;
    code
}

/// What the flow of data says against the call: a target was not chosen by one who may, or the call would carry out what may not
/// leave by its tool.
fn flow(tool: &Tool, facts: &Facts) -> Option<Code> {
    let of_targets = flow_of_targets(tool, &facts.traced);
    let is_carried = facts.carried.iter().any(|carried| !carried.may());
    match of_targets {
        None | Some(Code::ApprovalRequired) if is_carried && tool.otherwise != Otherwise::Ask => Some(Code::Confidential),
        None if is_carried => Some(Code::ApprovalRequired),
        code => code,
    }
}

/// After an untrusted read, a target was not chosen by one who may.
fn flow_of_targets(tool: &Tool, traced: &[Traced]) -> Option<Code> {
    let mut against = traced.iter().filter(|traced| !traced.may).peekable();
    against.peek()?;
    // Who said which account is not asked whether another one will do.
    if tool.effect >= Effect::Spend && traced.iter().any(|traced| traced.contradicts) {
        return Some(Code::ContradictsTask);
    }
    Some(match tool.otherwise {
        Otherwise::Deny => Code::Untraced,
        Otherwise::AskIfNamed if against.any(|traced| traced.provenance != Provenance::Named) => Code::Untraced,
        Otherwise::Ask | Otherwise::AskIfNamed => Code::ApprovalRequired,
    })
}

fn reasonable(code: Code, admission: Admission, facts: &Facts, tool: &Tool) -> Answer {
    match code {
        Code::OutsideGrant => Answer::no("the execution's grant does not include this call"),
        Code::BudgetSpent => Answer::no(format!("what the execution was given is spent after {} calls", facts.calls.saturating_sub(1))),
        Code::InvalidArguments => Answer::no("the arguments are not what the tool's reviewed definition takes"),
        Code::Allowed if let Some(Standing::Approved { answer, .. }) = facts.approval => {
            Answer::yes(format!("a person approved this very call (record {answer})"))
        }
        Code::ApprovalRefused if let Some(Standing::Refused { answer, .. }) = facts.approval => {
            Answer::no(format!("a person refused this very call (record {answer})"))
        }
        Code::AskedTooOften => Answer::no("the execution has asked people as often as it may"),
        Code::ContradictsTask => Answer::no(format!("the task names another one; {}", untraced(facts))),
        Code::Untraced | Code::ApprovalRequired | Code::Confidential if flow(tool, facts).is_some() => Answer::no(against(facts)),
        Code::ArgumentsTooLong => Answer::no(UNRECORDED),
        Code::ApprovalRequired if facts.unremembered => Answer::no(UNREMEMBERED),
        _ => match admission {
            Admission::Item(item) => {
                Answer::yes(format!("item {item} of the execution's grant includes it; call {} of the execution", facts.calls))
            }
            Admission::Unrestricted => {
                Answer::yes(format!("the execution was started without a narrower grant; call {} of the execution", facts.calls))
            }
            Admission::Spent | Admission::None => Answer::no("the execution's grant does not include this call"),
        },
    }
}

/// Why a person is asked about what leads nobody anywhere.
const UNREMEMBERED: &str = "the execution has read untrusted data, and there is no room left to remember what its agent writes to this \
    server, so that it would be believed when it is read back (`limits.written_bytes_max`)";

/// Why not even a person is asked.
const UNRECORDED: &str = "the execution has read untrusted data, and the log keeps too little of arguments as long as these to show them to a \
    person, or to know them again when they are read back (`limits.arguments_logged_max`)";

/// What stands in a call's way, of where its data comes from and where it would go.
fn against(facts: &Facts) -> String {
    let barred: Vec<_> = facts.carried.iter().filter(|carried| !carried.may()).collect();
    if barred.is_empty() {
        return untraced(facts);
    }
    let labels: BTreeSet<&str> = barred.iter().flat_map(|carried| &carried.labels).map(|label| &**label).collect();
    let labels = labels.into_iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    let (shown, unseen): (Vec<_>, Vec<_>) = barred.into_iter().partition(|carried| carried.origin.is_some());
    let named = |carried: Vec<&Carried>| carried.iter().map(|carried| format!("`{}`", carried.argument)).collect::<Vec<_>>().join(", ");
    let mut carries = Vec::new();
    if !shown.is_empty() {
        carries.push(format!("{} shows some", named(shown)));
    }
    if !unseen.is_empty() {
        carries.push(format!("{} may hold some", named(unseen)));
    }
    let carries = format!("the execution was shown {labels}, which may not leave by this tool, and {}", carries.join(", "));
    if facts.traced.iter().all(|traced| traced.may) { carries } else { format!("{}; {carries}", untraced(facts)) }
}

/// Which of a call's targets stand in its way, and who chose them.
fn untraced(facts: &Facts) -> String {
    let of = |traced: &Traced| {
        let (place, chose) = (if traced.is_within { "what is named in " } else { "" }, traced.provenance.as_str());
        format!("{place}`{}` ({chose})", traced.argument)
    };
    let mut targets: Vec<String> = facts.traced.iter().filter(|traced| !traced.may).map(of).collect();
    targets.dedup();
    format!("the execution has read untrusted data, and nobody who may chose {}", targets.join(", "))
}

fn role(outcome: RulingOutcome, call: &Call, started: &ExecutionStarted) -> Answer {
    let (agent, tool) = (&started.agent, &call.tool);
    match outcome {
        RulingOutcome::Permitted => Answer::yes(format!("policy permits `{agent}` to call `{tool}`")),
        RulingOutcome::NotPermitted => Answer::no(format!("no policy permits `{agent}` to call `{tool}`")),
        RulingOutcome::Forbidden => Answer::no(format!("a policy forbids `{agent}` this call of `{tool}`")),
        RulingOutcome::Asked => Answer::no(format!("a policy wants a person to approve this call of `{tool}`")),
        RulingOutcome::BudgetSpent => Answer::yes(format!("the role of `{agent}` includes `{tool}`, but its budget is spent")),
        RulingOutcome::InvalidArguments => Answer::unjudged("the arguments do not fit the tool's reviewed definition"),
        RulingOutcome::Failed => Answer::unjudged("a policy could not be evaluated"),
    }
}

fn delegation(started: &ExecutionStarted) -> Answer {
    match (&started.subject, started.chain.len()) {
        (None, 0) => Answer::yes(format!("`{}` acts for itself", started.agent)),
        (Some(subject), 0) => Answer::yes(format!("`{}` acts directly for `{subject}`", started.agent)),
        (subject, _) => {
            let whom = subject.as_ref().map(|subject| format!(", for `{subject}`")).unwrap_or_default();
            let chain: Vec<&str> = started.chain.iter().rev().map(|member| member.agent.agent().as_str()).collect();
            Answer::yes(format!("verified at each hop: {} → {}{whom}", chain.join(" → "), started.agent))
        }
    }
}

/// Whether a person has to look at the call because of what was found about an agent of the chain.
fn needs_a_look(effect: Effect, facts: &Facts) -> bool {
    effect != Effect::Read && facts.caution.as_ref().is_some_and(|under| under.caution == Caution::Ask)
}

/// Whether the call is as is usual for its agent: what would raise an alert is not, and nothing is of an agent under caution.
fn normal(facts: &Facts) -> Answer {
    if let Some(under) = &facts.caution {
        return Answer::no(under.sentence());
    }
    match facts.behavior.as_ref() {
        None => unlearned(),
        Some(behavior) if behavior.band == Band::Learning => Answer::unjudged(behavior.sentence()),
        Some(behavior) if behavior.band == Band::Strange => Answer::no(behavior.sentence()),
        Some(behavior) => Answer::yes(behavior.sentence()),
    }
}

fn unlearned() -> Answer {
    Answer::unjudged("nothing was said of it beside what is usual")
}

/// A denial that needs no policy.
fn denied(code: Code, effect: Effect, started: &ExecutionStarted, ledger: &Ledger, role: Answer) -> Judged {
    let answers = Answers { reasonable: Answer::unjudged(code.sentence()), role, delegation: delegation(started), normal: unlearned() };
    let decision = Decision { verdict: Verdict::Deny, code, policies: Vec::new(), errors: Vec::new(), answers };
    let facts = Facts { calls: ledger.calls(), labels: ledger.labels().clone(), ..Facts::default() };
    Judged { decision, effect, facts, written: None }
}

#[cfg(test)]
mod tests;
