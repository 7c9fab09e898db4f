//! The policy: Cedar, over what the bundle declares and what it adds by hand.
//!
//! Deny by default, and any evaluation error is a deny: Cedar alone would skip a policy that fails, also a `forbid`.
//! How agents, tools and calls look to Cedar is in `docs/spec/policy.md`.

mod compile;
mod declared;
#[cfg(test)]
pub(crate) mod fixture;
mod matrix;
mod schema;
mod shape;
mod slice;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cedar_policy::{Context, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use serde_json::Value;

pub use compile::{PolicyProblem, Source};
pub use matrix::matrix;

use self::schema::ToolEntry;
use self::shape::{Read, Typed};
use self::slice::{Index, Prospect, Row, Slice, Slices};
use crate::bundle::{Agent, Server};
use crate::detect::baseline::Behavior;
use crate::flow::Provenance;
use crate::ledger::{Facts, History, Integrity};
use crate::model::{AgentName, Digest, Member, ServerName, Timestamp, ToolName};

/// The declarations that policies are compiled from.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// The agents.
    pub agents: &'a BTreeMap<AgentName, Agent>,
    /// The tool servers.
    pub servers: &'a BTreeMap<ServerName, Server>,
    /// The counters and sums.
    pub histories: &'a [History],
}

/// A bundle's policies, compiled and indexed; immutable.
#[derive(Debug)]
pub struct Policies {
    schema: Schema,
    schema_text: String,
    declared_text: String,
    index: Index,
    rows: HashMap<AgentName, Row>,
    slices: Slices,
    tools: Vec<ToolEntry>,
    /// The place in `tools` of each declared name.
    by_name: HashMap<String, usize>,
    /// The declared resource and prompt patterns, without their star, longest first.
    by_prefix: Vec<(String, usize)>,
    /// Of each policy that was written by hand, by its id: whether it permits, and the digest of its text.
    written: BTreeMap<String, (bool, Digest)>,
}

/// One question to the policies.
#[derive(Debug)]
pub struct Question<'a> {
    /// Who acts.
    pub agent: &'a AgentName,
    /// On whose behalf.
    pub subject: Option<&'a str>,
    /// The person's own words.
    pub task: Option<&'a str>,
    /// The agents that it acts for, nearest first.
    pub chain: &'a [Member],
    /// The tool; declared, or the answer is that nothing permits it.
    pub tool: &'a ToolName,
    /// The arguments: an object.
    pub arguments: &'a Value,
    /// Whether the execution said what it is for: effects, or `authorization_details`.
    pub declared: bool,
    /// What the ledger says.
    pub facts: &'a Facts,
    /// When.
    pub now: Timestamp,
}

/// What the policies answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The answer.
    pub outcome: RulingOutcome,
    /// The policies that determined it.
    pub policies: Vec<String>,
    /// What went wrong; not empty exactly when the outcome is `Failed` or `InvalidArguments`.
    pub errors: Vec<String>,
}

/// The answer of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulingOutcome {
    /// Something permits it and nothing forbids it.
    Permitted,
    /// Nothing permits it.
    NotPermitted,
    /// Something permits it, and a policy forbids it.
    Forbidden,
    /// The only policies that forbid it say, by the annotation `@otherwise("ask")`, that a person may allow it.
    Asked,
    /// The only policies that forbid it are the budget of the agent's declaration, or also ones that a person may lift.
    BudgetSpent,
    /// The arguments are not what the tool's reviewed definition takes, so no policy could be asked.
    InvalidArguments,
    /// A policy could not be evaluated.
    Failed,
}

impl Policies {
    /// Compiles what is declared and what is written by hand. Fails with everything that is wrong with it.
    pub fn compile(declared: &Declared<'_>, sources: &[Source<'_>]) -> Result<Self, Vec<PolicyProblem>> {
        compile::compile(declared, sources)
    }

    /// The Cedar policies that the declarations mean, with an `@id` and a comment each.
    pub fn declared_text(&self) -> &str {
        &self.declared_text
    }

    /// What the policies that were written by hand let pass and those of `before` did not: `forbid:ID` where one that forbids is gone or
    /// reads otherwise, `permit:ID` where one that permits is new or reads otherwise.
    pub fn looser_than(&self, before: &Self) -> Vec<String> {
        let gone = before.written.iter().filter(|(id, was)| !was.0 && self.written.get(*id) != Some(*was));
        let new = self.written.iter().filter(|(id, is)| is.0 && before.written.get(*id) != Some(*is));
        gone.map(|(id, _)| format!("forbid:{id}")).chain(new.map(|(id, _)| format!("permit:{id}"))).collect()
    }

    /// The Cedar schema that policies are checked against, in Cedar's syntax.
    pub fn schema_text(&self) -> &str {
        &self.schema_text
    }

    /// Answers one question. Never panics, never allows on an error.
    pub fn decide(&self, question: &Question<'_>) -> Ruling {
        let Some((slice, tool)) = self.slice(question.agent, question.tool) else {
            return Ruling { outcome: RulingOutcome::NotPermitted, policies: Vec::new(), errors: Vec::new() };
        };
        match context(tool, question, slice.read()) {
            Ok(context) => slice.rule(question.tool, context),
            // What an agent has no part in is not explained to it either.
            Err(_) if !slice.permits_anything() => {
                Ruling { outcome: RulingOutcome::NotPermitted, policies: Vec::new(), errors: Vec::new() }
            }
            Err(error) => Ruling { outcome: RulingOutcome::InvalidArguments, policies: Vec::new(), errors: vec![error] },
        }
    }

    /// Whether the answer is [`RulingOutcome::Permitted`] to a question about a call that was asked for another agent already, with the
    /// same arguments, labels, subject and task, and was not refused to that one: what says the same of both is not asked again.
    pub fn permit_beside(&self, question: &Question<'_>) -> bool {
        let Some((slice, tool)) = self.slice(question.agent, question.tool) else { return false };
        slice.permits_beside(question.tool, question.facts.calls, |read| context_beside(tool, question, read))
    }

    /// Answers such a question, with what explains the answer.
    pub fn decide_beside(&self, question: &Question<'_>) -> Ruling {
        let Some((slice, tool)) = self.slice(question.agent, question.tool) else {
            return Ruling { outcome: RulingOutcome::NotPermitted, policies: Vec::new(), errors: Vec::new() };
        };
        let ruled = slice.rule_beside(question.tool, question.facts.calls, |read| context_beside(tool, question, read));
        ruled.unwrap_or_else(|error| Ruling { outcome: RulingOutcome::InvalidArguments, policies: Vec::new(), errors: vec![error] })
    }

    /// Whether some call of `tool` by `agent` might be allowed or asked about, whatever its arguments and history: what
    /// a list shows. Says yes where it cannot tell.
    pub fn may_ever(&self, agent: &AgentName, tool: &ToolName) -> bool {
        self.slice(agent, tool).is_some_and(|(slice, _)| slice.may_ever(tool, &self.schema))
    }

    /// Whether some policy that can concern calls of `tool` by `agent` looks at the chain.
    pub fn look_at_chain(&self, agent: &AgentName, tool: &ToolName) -> bool {
        self.slice(agent, tool).is_some_and(|(slice, _)| slice.read().context("chain"))
    }

    /// What every call of `tool` by `agent` has to expect, before its arguments and history are known.
    fn prospect(&self, agent: &AgentName, tool: &ToolName) -> Prospect {
        self.slice(agent, tool).map_or(Prospect::Deny, |(slice, _)| slice.prospect(&self.schema))
    }

    /// The policies that can concern calls of `tool` by `agent`, and what is known of the tool.
    fn slice(&self, agent: &AgentName, tool: &ToolName) -> Option<(Arc<Slice>, &ToolEntry)> {
        let number = self.number(tool)?;
        let (entry, row) = (self.tools.get(number)?, self.rows.get(agent)?);
        Some((self.slices.of(row, number, || row.cut(entry, &self.index))?, entry))
    }

    /// The place of the declaration that governs `tool`; the same that [`Server::tool`] finds.
    fn number(&self, tool: &ToolName) -> Option<usize> {
        let name = tool.as_str();
        self.by_name.get(name).copied().or_else(|| {
            let (_, number) = self.by_prefix.iter().find(|(prefix, _)| name.starts_with(prefix.as_str()))?;
            Some(*number)
        })
    }
}

/// What policies see as `context`, as far as some policy looks at it. Fails with a sentence when the arguments are not what
/// the tool takes, whether or not some policy looks at them.
fn context(tool: &ToolEntry, question: &Question<'_>, read: &Read) -> Result<Context, String> {
    let typed = tool.shape.typed(question.arguments, read)?;
    context_with(tool, question, read, typed)
}

/// The same where the arguments are known to be what the tool takes, since another agent was asked about them.
fn context_beside(tool: &ToolEntry, question: &Question<'_>, read: &Read) -> Result<Context, String> {
    if read.context("input") || read.context("unseen") {
        context(tool, question, read)
    } else {
        context_with(tool, question, read, Typed::nothing())
    }
}

fn context_with(tool: &ToolEntry, question: &Question<'_>, read: &Read, typed: Typed) -> Result<Context, String> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let texts = |texts: &mut dyn Iterator<Item = String>| RestrictedExpression::new_set(texts.map(RestrictedExpression::new_string));
    let number = |number: u64| RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX));
    let record = |fields: Vec<(String, RestrictedExpression)>| RestrictedExpression::new_record(fields).map_err(|error| error.to_string());
    let facts = question.facts;
    let mut fields = Vec::new();
    let mut put = |name: &str, value: RestrictedExpression| fields.push((name.to_owned(), value));
    if read.context("input") {
        put("input", typed.input);
    }
    if read.context("unseen") {
        put("unseen", texts(&mut typed.unseen.into_iter()));
    }
    if read.context("ledger") {
        let ledger = vec![
            ("calls".to_owned(), number(facts.calls)),
            ("declared".to_owned(), RestrictedExpression::new_bool(question.declared)),
            ("integrity".to_owned(), text(integrity(facts.labels.integrity))),
            ("confidentiality".to_owned(), texts(&mut facts.labels.confidentiality.iter().map(|label| label.to_string()))),
        ];
        put("ledger", record(ledger)?);
    }
    if read.context("provenance") {
        let chosen = tool.shape.names().filter_map(|name| Some((name.to_owned(), text(provenance(facts, name)?.as_str()))));
        put("provenance", record(chosen.collect())?);
    }
    if read.context("history") {
        let history = tool.histories.iter().filter_map(|(name, _)| {
            let charge = facts.history.iter().find(|charge| *charge.name == **name)?;
            Some((name.clone(), RestrictedExpression::new_long(charge.total)))
        });
        put("history", record(history.collect())?);
    }
    if read.context("behavior") {
        put("behavior", record(behavior(facts)?)?);
    }
    if read.context("suspect") {
        put("suspect", RestrictedExpression::new_bool(facts.caution.is_some()));
    }
    if read.context("chain") {
        put("chain", record(chain(question)?)?);
    }
    if read.context("now") {
        put("now", RestrictedExpression::new_datetime(question.now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()));
    }
    if let Some(subject) = question.subject.filter(|_| read.context("subject")) {
        put("subject", text(subject));
    }
    if let Some(task) = question.task.filter(|_| read.context("task")) {
        put("task", text(task));
    }
    Context::from_pairs(fields).map_err(|error| error.to_string())
}

/// Who chose what was judged of an argument; of several values, the one that speaks least for it.
fn provenance(facts: &Facts, argument: &str) -> Option<Provenance> {
    let is_of = |pointer: &str| pointer.strip_prefix('/').is_some_and(|steps| unescaped(steps.split('/').next()) == argument);
    facts.traced.iter().filter(|traced| is_of(&traced.argument)).map(|traced| traced.provenance).max()
}

/// A step of a JSON pointer as the name that it stands for (RFC 6901 §4).
fn unescaped(step: Option<&str>) -> String {
    step.unwrap_or_default().replace("~1", "/").replace("~0", "~")
}

/// What policies see as `context.behavior`: of a call of which nothing was said, that too little was learned to say anything.
fn behavior(facts: &Facts) -> Result<Vec<(String, RestrictedExpression)>, String> {
    let unsaid = Behavior::default();
    let said = facts.behavior.as_ref().unwrap_or(&unsaid);
    let signals = said.because.iter().map(|reason| RestrictedExpression::new_string(reason.signal.as_str().to_owned()));
    Ok(vec![
        ("score".to_owned(), RestrictedExpression::new_decimal(format!("{:.2}", said.score))),
        ("band".to_owned(), RestrictedExpression::new_string(said.band.as_str().to_owned())),
        ("closed".to_owned(), RestrictedExpression::new_bool(said.closed)),
        ("executions".to_owned(), RestrictedExpression::new_long(i64::try_from(said.executions).unwrap_or(i64::MAX))),
        ("signals".to_owned(), RestrictedExpression::new_set(signals)),
    ])
}

/// What policies see as `context.chain`: those that the agent acts for, as the bundle described them when they delegated.
fn chain(question: &Question<'_>) -> Result<Vec<(String, RestrictedExpression)>, String> {
    let members = || question.chain.iter();
    let entities = |kind: &str, ids: &mut dyn Iterator<Item = &str>| {
        let uids = ids.map(|id| uid(kind, id).map(RestrictedExpression::new_entity_uid));
        uids.collect::<Result<Vec<_>, _>>().map(RestrictedExpression::new_set)
    };
    let root = question.chain.last().map_or(question.agent, |member| member.agent.agent());
    let owners = members().map(|member| RestrictedExpression::new_string(member.owner.clone()));
    Ok(vec![
        ("agents".to_owned(), entities("Agent", &mut members().map(|member| member.agent.agent().as_str()))?),
        ("roles".to_owned(), entities("Role", &mut members().flat_map(|member| &member.roles).map(String::as_str))?),
        ("owners".to_owned(), RestrictedExpression::new_set(owners)),
        ("root".to_owned(), RestrictedExpression::new_string(root.to_string())),
        ("depth".to_owned(), RestrictedExpression::new_long(i64::try_from(question.chain.len()).unwrap_or(i64::MAX))),
    ])
}

const fn integrity(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::Trusted => "trusted",
        Integrity::Untrusted => "untrusted",
    }
}

/// The name of the entity `kind::"id"`; `kind` is one of our own words.
fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = kind.parse().map_err(|_| format!("`{kind}` is not an entity type"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
