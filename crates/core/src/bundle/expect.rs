//! What a bundle is expected to decide, and whether it does: `tests/*.toml`, judged by the function that judges live calls.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use toml::Spanned;

use super::fields::Fields;
use super::problem::{nearest, suggest};
use super::{Server, Snapshot, schema};
use crate::execution::{Execution, Executions};
use crate::flow::{Seen, Sources};
use crate::identity::Grant;
use crate::json;
use crate::judge::{Judged, Known, above, judge};
use crate::model::{
    AgentName, Arguments, Call, Caution, Cautioned, Code, ExecutionId, ExecutionStarted, Member, Protocol, ServerName, SpiffeId, Timestamp,
    ToolName, Verdict,
};

/// This agent, this call: this decision.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The file that it is in, by its path within the bundle.
    pub file: String,
    /// The line that it begins at.
    pub line: usize,
    /// The agent.
    pub agent: AgentName,
    /// The agents that it acts for, nearest first.
    pub acts_for: Vec<AgentName>,
    /// On whose behalf.
    pub subject: Option<String>,
    /// The person's own words.
    pub task: Option<String>,
    /// The tool.
    pub tool: ToolName,
    /// The arguments.
    pub arguments: Arguments,
    /// The tools whose results the execution has read before.
    pub after: Vec<ToolName>,
    /// The caution under which the agent is.
    pub caution: Option<Caution>,
    /// When; absent, whenever it is asked.
    pub at: Option<Timestamp>,
    /// What is to be decided.
    pub decision: Verdict,
    /// The code of the decision, where it is told.
    pub code: Option<Code>,
}

impl Expectation {
    /// Judges the call under `snapshot`, for an execution that has done nothing but read what `after` says, and for those that it acts
    /// for, which have done nothing else either.
    pub fn judge(&self, snapshot: &Snapshot, now: Timestamp) -> Judged {
        let now = self.at.unwrap_or(now);
        let executions = Executions::default();
        if let Some(caution) = self.caution {
            let (agent, by, reason) = (self.agent.clone(), "expectation".to_owned(), String::new());
            executions.caution(Cautioned { at: now, agent, caution, since: now, by, reason, finding: None });
        }
        let execution = self.start(snapshot, &executions, now);
        for read in self.after.iter().filter_map(|tool| snapshot.tool(tool)) {
            execution.learned(&read.returns.labels);
        }
        let method = match self.tool.tool().split_once(':') {
            Some(("resource", _)) => "resources/read",
            Some(("prompt", _)) => "prompts/get",
            _ => "tools/call",
        };
        let call = Call { tool: self.tool.clone(), protocol: Protocol::Mcp, method, arguments: self.arguments.clone() };
        let above = above(snapshot, &execution, &call, now);
        let seen: Vec<_> = std::iter::once(&*execution).chain(execution.above()).map(Execution::seen).collect();
        let seen: Vec<&Seen> = seen.iter().map(|seen| &**seen).collect();
        let known =
            Known { snapshot, held: &HashSet::new(), sources: Sources::Chain(&seen), remembers: true, behavior: None, above: &above };
        judge(known, &execution, &execution.ledger(), &execution.agent_tracks(), &call, now)
    }

    /// Starts the execution, after those that it acts for.
    fn start(&self, snapshot: &Snapshot, executions: &Executions, now: Timestamp) -> Arc<Execution> {
        let mut chain: Vec<Member> = Vec::new();
        for (agent, number) in self.acts_for.iter().rev().zip(1..) {
            let execution = executions.started(self.started(snapshot, agent, chain.clone(), number, now)).id();
            let (owner, roles) = snapshot.agents.get(agent).map(|agent| (agent.owner.clone(), agent.roles.clone())).unwrap_or_default();
            let agent = SpiffeId::new(snapshot.settings.trust_domain.clone(), agent.clone());
            chain.insert(0, Member { agent, owner, roles, execution, sequence: 0, token: None });
        }
        executions.started(self.started(snapshot, &self.agent, chain, 0, now))
    }

    fn started(&self, snapshot: &Snapshot, agent: &AgentName, chain: Vec<Member>, number: u64, now: Timestamp) -> ExecutionStarted {
        ExecutionStarted {
            at: now,
            bundle: snapshot.digest,
            execution: ExecutionId::from_parts(number, [0; 10]),
            agent: agent.clone(),
            subject: self.subject.clone(),
            chain,
            task: self.task.clone(),
            grant: Grant::default(),
            key: None,
            token: String::new(),
            renewal: false,
            expires: now,
            proof: "expectation".to_owned(),
            sign_in: None,
        }
    }

    /// Whether `judged` is what was expected.
    pub fn is_met_by(&self, judged: &Judged) -> bool {
        judged.decision.verdict == self.decision && self.code.is_none_or(|code| code == judged.decision.code)
    }
}

/// Reads one file.
pub(super) fn expectations(file: &Fields<'_>, agents: &BTreeSet<String>, servers: &BTreeMap<ServerName, Server>) -> Vec<Expectation> {
    if file.value("expect").is_none() {
        file.missing("expect", "begin each expectation with `[[expect]]`");
    }
    file.tables::<schema::ExpectTable>("expect").iter().filter_map(|table| expectation(table, agents, servers)).collect()
}

fn expectation(table: &Fields<'_>, agents: &BTreeSet<String>, servers: &BTreeMap<ServerName, Server>) -> Option<Expectation> {
    let source = table.source();
    let agent = table.required::<AgentName>("agent", "name the agent");
    let acts_for: Vec<Spanned<AgentName>> = table.all_parsed("acts_for", "write the names of agents");
    for agent in agent.iter().chain(&acts_for).filter(|agent| !agents.contains(agent.get_ref().as_str())) {
        let mend = suggest(agent.get_ref().as_str(), agents.iter().map(String::as_str));
        source.error(agent.span(), format!("no agent `{}` is declared", agent.get_ref()), mend);
    }
    let tool = table.required::<ToolName>("tool", "write `server/tool`");
    let after: Vec<Spanned<ToolName>> = table.all_parsed("after", "write `server/tool`");
    let is_declared = |tool: &ToolName| servers.get(tool.server()).is_some_and(|server| server.tool(tool).is_some());
    let declared = || servers.values().flat_map(|server| server.tools.keys().map(move |tool| format!("{}/{tool}", server.name)));
    for tool in after.iter().filter(|tool| !is_declared(tool.get_ref())) {
        let declared: Vec<String> = declared().collect();
        let mend = suggest(tool.get_ref().as_str(), declared.iter().map(String::as_str));
        source.error(tool.span(), format!("no tool `{}` is declared", tool.get_ref()), mend);
    }
    let verdicts = [("allow", Verdict::Allow), ("deny", Verdict::Deny), ("ask", Verdict::Ask)];
    if table.value("decision").is_none() {
        table.missing("decision", "say what is to be decided: `allow`, `deny` or `ask`");
    }
    let decision = table.choice("decision", &verdicts);
    let code = table.choice("code", &CODES.map(|code| (code.as_str(), code)));
    if let Some(tool) = tool.as_ref().filter(|tool| !is_declared(tool.get_ref())) {
        let declared: Vec<String> = declared().collect();
        let near = nearest(tool.get_ref().as_str(), declared.iter().map(String::as_str));
        let mend = near.map_or_else(|| "declare it".to_owned(), |near| format!("did you mean `{near}`?"));
        let message = format!("no tool `{}` is declared", tool.get_ref());
        // That an undeclared tool is denied may be expected on purpose, and then the code says so.
        match (&decision, &code) {
            (_, Some(code)) if *code.get_ref() == Code::UnknownTool => {}
            (Some(decision), _) if *decision.get_ref() == Verdict::Deny => {
                source.warning(tool.span(), message, format!("{mend}; or add `code = \"unknown_tool\"` if that is what is expected"));
            }
            _ => source.error(tool.span(), message, mend),
        }
    }
    let arguments = table.json("arguments");
    if let Some(arguments) = arguments.as_ref().filter(|arguments| !arguments.get_ref().is_object()) {
        source.error(arguments.span(), "`arguments` is no table", "write `arguments = { name = \"value\" }`");
    }
    Some(Expectation {
        file: source.path.to_owned(),
        line: source.line(table.span().start),
        agent: agent?.into_inner(),
        acts_for: acts_for.into_iter().map(Spanned::into_inner).collect(),
        subject: table.text("subject").map(Spanned::into_inner),
        task: table.text("task").map(Spanned::into_inner),
        tool: tool?.into_inner(),
        arguments: arguments.and_then(|value| read(value.get_ref())).unwrap_or_else(Arguments::none),
        after: after.into_iter().map(Spanned::into_inner).collect(),
        caution: table.choice("caution", &[Caution::Suspect, Caution::Ask].map(|one| (one.as_str(), one))).map(Spanned::into_inner),
        at: table.parsed::<Timestamp>("at", "write it as RFC 3339, such as `2026-11-25T09:30:00Z`").map(Spanned::into_inner),
        decision: decision?.into_inner(),
        code: code.map(Spanned::into_inner),
    })
}

fn read(value: &Value) -> Option<Arguments> {
    let text = Arc::<RawValue>::from(serde_json::value::to_raw_value(value).ok()?);
    Arguments::parse(&text, &json::Limits::default()).ok()
}

/// The codes that a decision may have.
const CODES: [Code; 18] = [
    Code::Allowed,
    Code::UnknownTool,
    Code::NotInRole,
    Code::Forbidden,
    Code::PolicyFailed,
    Code::ToolChanged,
    Code::InvalidArguments,
    Code::OutsideGrant,
    Code::BudgetSpent,
    Code::ContradictsTask,
    Code::Untraced,
    Code::Confidential,
    Code::ArgumentsTooLong,
    Code::ApprovalRequired,
    Code::BeyondDelegation,
    Code::NotDelegated,
    Code::UndeclaredInteraction,
    Code::ExecutionEnded,
];
