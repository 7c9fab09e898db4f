//! One question, as another enforcement point puts it: which call, of whom, on whose behalf. Pure.
//!
//! | part of the request | is |
//! | --- | --- |
//! | `subject` of type `agent` | the agent: its name, or its SPIFFE id; `properties.on_behalf_of` is the person |
//! | any other `subject` | the asker itself, on behalf of `type:id` |
//! | `resource` of type `tool` | the tool, `server/tool`; its arguments are `context.arguments` |
//! | any other `resource` | the tool `type/ACTION`, where the action is the tool's name; its arguments are `id` and the resource's and the action's `properties`, as far as the tool's reviewed definition has them |
//! | `context.execution` | an execution under way, by whose ledger it is judged |
//! | `context.session` | what tells apart executions of one agent and person, where none is named |
//! | `context.task` | the person's own words, with which a session begins |

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::execution::Execution;
use bailiwick_core::json;
use bailiwick_core::model::{AgentName, Arguments, ExecutionId, SpiffeId, ToolName};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{DEPTH_MAX, Unanswered};

/// The longest name, id or session, in bytes: each is in a record.
const TEXT_BYTES_MAX: usize = 1024;

/// The longest task, in bytes.
const TASK_BYTES_MAX: usize = 16 << 10;

/// A question.
#[derive(Debug)]
pub(super) struct Question<'r> {
    /// The subject's type and id.
    subject: (&'r str, &'r str),
    /// On whose behalf.
    person: Option<String>,
    /// An execution under way.
    pub(super) execution: Option<ExecutionId>,
    pub(super) session: Option<&'r str>,
    pub(super) task: Option<&'r str>,
    /// The tool; nothing where what is named can be none.
    pub(super) tool: Result<ToolName, ()>,
    resource: &'r Map<String, Value>,
    action: &'r Map<String, Value>,
    /// The arguments of a tool that is named as such.
    given: Option<&'r Value>,
}

impl<'r> Question<'r> {
    /// Reads a request. Fails with what is missing in it.
    pub(super) fn of(request: &'r Map<String, Value>) -> Result<Self, Unanswered> {
        let (subject, resource, action) = (object(request, "subject")?, object(request, "resource")?, object(request, "action")?);
        let context = match request.get("context") {
            None | Some(Value::Null) => None,
            Some(Value::Object(context)) => Some(context),
            Some(_) => return Err(Unanswered::Malformed("`context` is no object".to_owned())),
        };
        let of_context = |key: &str| context.and_then(|context| context.get(key)).and_then(Value::as_str);
        let kind = text(subject, "subject", "type")?;
        let subject = (kind, text(subject, "subject", "id")?);
        let person = match kind {
            "agent" => request.get("subject").and_then(|subject| subject.pointer("/properties/on_behalf_of")).map(person).transpose()?,
            kind => Some(format!("{kind}:{}", subject.1)),
        };
        let (kind, id) = (text(resource, "resource", "type")?, text(resource, "resource", "id")?);
        let name = text(action, "action", "name")?;
        let execution = match of_context("execution").map(str::parse) {
            None => None,
            Some(Ok(execution)) => Some(execution),
            Some(Err(_)) => return Err(Unanswered::Malformed("`context.execution` is no execution's id".to_owned())),
        };
        let (session, task) = (of_context("session"), of_context("task"));
        if session.is_some_and(|session| session.len() > TEXT_BYTES_MAX) || task.is_some_and(|task| task.len() > TASK_BYTES_MAX) {
            return Err(Unanswered::Malformed("`context.session` or `context.task` is too long".to_owned()));
        }
        let is_tool = kind == "tool";
        let tool = if is_tool { id.parse() } else { format!("{kind}/{name}").parse() };
        let given = context.filter(|_| is_tool).and_then(|context| context.get("arguments"));
        Ok(Self { subject, person, execution, session, task, tool: tool.map_err(drop), resource, action, given })
    }

    /// Whose call it is. Fails where the asker has no business with that agent's calls.
    pub(super) fn agent(&self, asker: &Execution, snapshot: &Snapshot) -> Result<AgentName, Unanswered> {
        let own = &asker.started().agent;
        let ("agent", id) = self.subject else { return Ok(own.clone()) };
        let in_house = |id: &SpiffeId| *id.domain() == snapshot.settings.trust_domain;
        let named = id.parse().ok().or_else(|| id.parse().ok().filter(in_house).map(|id: SpiffeId| id.agent().clone()));
        let may = |agent: &AgentName| agent == own || snapshot.agents.get(own).is_some_and(|own| own.decide_for.has(agent));
        named.filter(may).ok_or_else(|| {
            Unanswered::NotForIt(format!("`{own}` may not ask about this agent; its declaration says for whom with `decide_for`"))
        })
    }

    /// On whose behalf.
    pub(super) fn person(&self) -> Option<&str> {
        self.person.as_deref()
    }

    /// Whether an execution acts for the person of the question; a question that names none is about whomever it acts for.
    pub(super) fn is_for(&self, execution: &Execution) -> bool {
        self.person.is_none() || self.person == execution.started().subject
    }

    /// Whether it says nothing of what the tool is to be given.
    pub(super) const fn gives_none(&self) -> bool {
        self.given.is_none()
    }

    /// What would be handed to the tool. What was given for a tool is taken as it stands; what stands in entities is taken as far as
    /// the tool knows it, since an enforcement point tells more of them than the call holds.
    pub(super) fn arguments(&self, snapshot: &Snapshot) -> Result<Arguments, Unanswered> {
        let value = match (self.resource.get("type").and_then(Value::as_str), self.given) {
            (Some("tool"), None | Some(Value::Null)) => Value::Object(Map::new()),
            (Some("tool"), Some(given)) => given.clone(),
            _ => Value::Object(self.of_entities(snapshot)),
        };
        let text = RawValue::from_string(value.to_string()).map_err(|error| Unanswered::Malformed(error.to_string()))?;
        let limits = json::Limits { bytes_max: text.get().len(), depth_max: DEPTH_MAX };
        Arguments::parse(&text, &limits).map_err(|error| Unanswered::Malformed(format!("`context.arguments`: {error}")))
    }

    fn of_entities(&self, snapshot: &Snapshot) -> Map<String, Value> {
        let tool = self.tool.as_ref().ok().and_then(|tool| snapshot.tool(tool)).and_then(|tool| tool.pin.as_ref());
        let known = tool.and_then(|pin| pin.definition.pointer("/inputSchema/properties")).and_then(Value::as_object);
        let properties = |entity: &Map<String, Value>| entity.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut arguments = properties(self.action);
        arguments.extend(properties(self.resource));
        arguments.extend(self.resource.get("id").map(|id| ("id".to_owned(), id.clone())));
        arguments.retain(|name, _| known.is_some_and(|known| known.contains_key(name)));
        arguments
    }
}

fn object<'r>(request: &'r Map<String, Value>, name: &str) -> Result<&'r Map<String, Value>, Unanswered> {
    match request.get(name) {
        Some(Value::Object(entity)) => Ok(entity),
        Some(_) => Err(Unanswered::Malformed(format!("`{name}` is no object"))),
        None => Err(Unanswered::Malformed(format!("`{name}` is missing"))),
    }
}

fn text<'r>(entity: &'r Map<String, Value>, name: &str, key: &str) -> Result<&'r str, Unanswered> {
    match entity.get(key) {
        Some(Value::String(text)) if text.is_empty() || text.len() > TEXT_BYTES_MAX => {
            Err(Unanswered::Malformed(format!("`{name}.{key}` is empty or longer than {TEXT_BYTES_MAX} bytes")))
        }
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Unanswered::Malformed(format!("`{name}.{key}` is no text"))),
        None => Err(Unanswered::Malformed(format!("`{name}.{key}` is missing"))),
    }
}

fn person(value: &Value) -> Result<String, Unanswered> {
    match value.as_str() {
        Some(person) if !person.is_empty() && person.len() <= TEXT_BYTES_MAX => Ok(person.to_owned()),
        _ => Err(Unanswered::Malformed("`subject.properties.on_behalf_of` is no text of a person".to_owned())),
    }
}
