//! Searches: which agents, tools or actions would be permitted, each judged as the first call of a new execution. Nothing is recorded.

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::flow::Sources;
use bailiwick_core::identity::Grant;
use bailiwick_core::judge::{Known, judge};
use bailiwick_core::ledger::{Ledger, Tracks};
use bailiwick_core::model::{AgentName, Call, Code, ExecutionId, ExecutionStarted, Protocol, Verdict};
use serde_json::{Map, Value, json};

use super::Unanswered;
use super::question::Question;
use crate::Gateway;

/// How many results stand on a page, unless the request says fewer.
const PAGE_MAX: usize = 1_000;

/// What is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// Who could: agents.
    Subject,
    /// With what: tools.
    Resource,
    /// How.
    Action,
}

/// Answers a search.
pub(super) fn search(gateway: &Gateway, asker: &Execution, wanted: Entity, request: &Map<String, Value>) -> Result<Value, Unanswered> {
    let snapshot = gateway.parts().bundle.load();
    let candidates = candidates(asker, wanted, request, &snapshot)?;
    let permitted: Vec<Value> = candidates
        .into_iter()
        .map(|Candidate { entity, request }| Ok(is_permitted(gateway, &snapshot, asker, &request)?.then_some(entity)))
        .filter_map(Result::transpose)
        .collect::<Result<_, Unanswered>>()?;
    page(&permitted, request.get("page"))
}

/// An entity that may be a result, and the request with it in the place of what is searched for.
struct Candidate {
    entity: Value,
    request: Map<String, Value>,
}

/// The entities that may be results.
fn candidates(asker: &Execution, wanted: Entity, request: &Map<String, Value>, snapshot: &Snapshot) -> Result<Vec<Candidate>, Unanswered> {
    let key = match wanted {
        Entity::Subject => "subject",
        Entity::Resource => "resource",
        Entity::Action => "action",
    };
    let kind = |entity: &str| request.get(entity).and_then(|entity| entity.get("type")).and_then(Value::as_str);
    let entities: Vec<Value> = match wanted {
        Entity::Subject => match kind("subject") {
            None => return Err(Unanswered::Malformed("`subject.type` is missing".to_owned())),
            Some("agent") => {
                let own = &asker.started().agent;
                let may = |agent: &&AgentName| *agent == own || snapshot.agents.get(own).is_some_and(|own| own.decide_for.has(agent));
                snapshot.agents.keys().filter(may).map(|agent| json!({ "type": "agent", "id": agent })).collect()
            }
            Some(_) => Vec::new(), // who the people are is known to those who vouch for them
        },
        Entity::Resource => match kind("resource") {
            None => return Err(Unanswered::Malformed("`resource.type` is missing".to_owned())),
            Some("tool") => tools(snapshot).map(|tool| json!({ "type": "tool", "id": tool })).collect(),
            Some(_) => Vec::new(), // what a server holds is known to the server
        },
        Entity::Action => match kind("resource") {
            None => return Err(Unanswered::Malformed("`resource` is missing".to_owned())),
            Some("tool") => vec![json!({ "name": "tools/call" })],
            Some(server) => {
                let of_server = tools(snapshot).filter_map(|tool| tool.strip_prefix(server)?.strip_prefix('/').map(str::to_owned));
                of_server.map(|name| json!({ "name": name })).collect()
            }
        },
    };
    let with = |entity: Value| {
        let mut request = request.clone();
        let properties = request.get(key).and_then(|given| given.get("properties")).cloned();
        let mut whole = entity.clone();
        if let (Some(members), Some(properties)) = (whole.as_object_mut(), properties) {
            members.insert("properties".to_owned(), properties);
        }
        request.insert(key.to_owned(), whole);
        Candidate { entity, request }
    };
    Ok(entities.into_iter().map(with).collect())
}

/// The declared tools, but no resources and prompts, of which a pattern may stand for many.
fn tools(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    snapshot.servers.values().flat_map(|server| {
        let names = server.tools.keys().filter(|name| !name.contains(':'));
        names.map(|name| format!("{}/{name}", server.name))
    })
}

fn is_permitted(gateway: &Gateway, snapshot: &Snapshot, asker: &Execution, request: &Map<String, Value>) -> Result<bool, Unanswered> {
    let question = Question::of(request)?;
    let agent = question.agent(asker, snapshot)?;
    let Ok(tool) = question.tool.clone() else { return Ok(false) };
    let call = Call { tool, protocol: Protocol::Authzen, method: "evaluation", arguments: question.arguments(snapshot)? };
    let now = gateway.parts().clock.now();
    let execution = Executions::default().started(ExecutionStarted {
        at: now,
        bundle: snapshot.digest,
        execution: ExecutionId::from_parts(0, [0; 10]),
        agent,
        subject: question.person().map(str::to_owned),
        chain: Vec::new(),
        task: question.task.map(str::to_owned),
        grant: Grant::default(),
        key: None,
        token: String::new(),
        renewal: false,
        expires: now,
        proof: String::new(),
        sign_in: None,
    });
    let (held, seen) = (gateway.parts().held.load(), execution.seen());
    let known = Known { snapshot, held: &held, sources: Sources::Seen(&seen), remembers: true, behavior: None, above: &[] };
    let judged = judge(known, &execution, &Ledger::default(), &Tracks::default(), &call, now);
    // Who searches need not know what the tool must be given.
    let lacks_arguments = judged.decision.code == Code::InvalidArguments && question.gives_none();
    let may_ever = || snapshot.policies.may_ever(&execution.started().agent, &call.tool);
    Ok(judged.decision.verdict == Verdict::Allow || (lacks_arguments && may_ever()))
}

/// One page of the results (§8.2). The token is the place of the next result; between two pages the bundle may change.
fn page(results: &[Value], page: Option<&Value>) -> Result<Value, Unanswered> {
    let of_page = |key: &str| page.and_then(|page| page.get(key)).filter(|value| !value.is_null());
    let begin = match of_page("token").map(|token| token.as_str().map(str::parse::<usize>)) {
        None => 0,
        Some(Some(Ok(begin))) => begin,
        Some(_) => return Err(Unanswered::Malformed("`page.token` is none that was given".to_owned())),
    };
    let limit = match of_page("limit").map(Value::as_u64) {
        None => PAGE_MAX,
        Some(Some(limit)) if limit > 0 => usize::try_from(limit).unwrap_or(PAGE_MAX).min(PAGE_MAX),
        Some(_) => return Err(Unanswered::Malformed("`page.limit` is no number above 0".to_owned())),
    };
    let shown: Vec<&Value> = results.iter().skip(begin).take(limit).collect();
    let next = begin.saturating_add(shown.len());
    let next_token = if next < results.len() { next.to_string() } else { String::new() };
    Ok(json!({ "page": { "next_token": next_token, "count": shown.len(), "total": results.len() }, "results": shown }))
}
