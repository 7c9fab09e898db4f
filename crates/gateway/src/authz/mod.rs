//! Decisions for others: an existing mesh, gateway or application asks before it makes a call itself (AuthZEN Authorization
//! API 1.0).
//!
//! Who asks is an agent like any other, with a credential, and asks about its own calls and about those of the agents that its
//! declaration lists (`decide_for`). An evaluation is judged and recorded as a call through the gateway is, by the ledger of an
//! execution: the one that the question names, or one that stands for all that this asker asks about this agent, person and
//! session. A search looks at what a new execution could do, and records nothing.

pub mod envoy;
mod question;
mod search;
mod standing;

use std::sync::Arc;

use bailiwick_core::bundle::{Approvals, Snapshot};
use bailiwick_core::execution::Execution;
use bailiwick_core::json::{self, InvalidJson};
use bailiwick_core::model::{Call, Code, Entropy, Protocol};
use bailiwick_log::{Position, StorageError};
use serde_json::{Map, Value, json};

pub use self::search::Entity;

use self::question::Question;
use self::standing::Standing;
use crate::{Gateway, Refusal};

/// The most evaluations of one request.
const EVALUATIONS_MAX: usize = 256;

/// The deepest request that is read.
const DEPTH_MAX: usize = 64;

/// Answers the questions of other enforcement points.
pub struct Decisions {
    gateway: Arc<Gateway>,
    standing: Standing,
}

/// Why a request as a whole has no answer. A denial is an answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The asker's move: the request is not what the API takes.
    #[error("{0}")]
    Malformed(String),
    /// The operator's move: it may not ask about this agent.
    #[error("{0}")]
    NotForIt(String),
    /// Nobody's fault, or the operator's move: nothing is decided that cannot be recorded.
    #[error("{0}")]
    Failed(String),
}

impl From<InvalidJson> for Unanswered {
    fn from(error: InvalidJson) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<StorageError> for Unanswered {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl std::fmt::Debug for Decisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decisions").finish_non_exhaustive()
    }
}

impl Decisions {
    /// Answers by this gateway. The executions that stood for what was asked before are taken up again.
    pub fn new(gateway: Arc<Gateway>, entropy: Arc<dyn Entropy>) -> Self {
        let standing = Standing::new(&gateway, entropy);
        Self { gateway, standing }
    }

    /// `POST /access/v1/evaluation`: one decision (§6).
    pub async fn evaluation(&self, asker: &Execution, body: &[u8]) -> Result<Value, Unanswered> {
        let request = read(body)?;
        self.evaluate(asker, &request).await
    }

    /// `POST /access/v1/evaluations`: several, one after the other, each in the order in which it stands (§7).
    pub async fn evaluations(&self, asker: &Execution, body: &[u8]) -> Result<Value, Unanswered> {
        let request = read(body)?;
        let items = match request.get("evaluations") {
            None => return self.evaluate(asker, &request).await,
            Some(Value::Array(items)) if items.is_empty() => return self.evaluate(asker, &request).await,
            Some(Value::Array(items)) if items.len() <= EVALUATIONS_MAX => items,
            Some(Value::Array(_)) => return Err(Unanswered::Malformed(format!("at most {EVALUATIONS_MAX} evaluations are taken at once"))),
            Some(_) => return Err(Unanswered::Malformed("`evaluations` is no list".to_owned())),
        };
        let until = match request.get("options").and_then(|options| options.get("evaluations_semantic")).and_then(Value::as_str) {
            None | Some("execute_all") => None,
            Some("deny_on_first_deny") => Some(false),
            Some("permit_on_first_permit") => Some(true),
            Some(_) => {
                let semantics = "`execute_all`, `deny_on_first_deny` or `permit_on_first_permit`";
                return Err(Unanswered::Malformed(format!("`options.evaluations_semantic` is none of {semantics}")));
            }
        };
        let mut questions = Vec::new();
        for item in items {
            let item = item.as_object().ok_or_else(|| Unanswered::Malformed("an evaluation is no object".to_owned()))?;
            let mut whole: Map<String, Value> = request.clone();
            whole.retain(|key, _| matches!(key.as_str(), "subject" | "action" | "resource" | "context"));
            whole.extend(item.clone());
            // What is required and missing is the fault of the request as a whole, and nothing of it is done.
            Question::of(&whole)?;
            questions.push(whole);
        }
        let mut decisions = Vec::new();
        for question in &questions {
            let decision = match self.evaluate(asker, question).await {
                Ok(decision) => decision,
                Err(Unanswered::Failed(message)) => return Err(Unanswered::Failed(message)),
                Err(error @ Unanswered::NotForIt(_)) => failed(403, &error),
                Err(error @ Unanswered::Malformed(_)) => failed(400, &error),
            };
            let permitted = decision.get("decision").and_then(Value::as_bool);
            decisions.push(decision);
            if until.is_some() && permitted == until {
                break;
            }
        }
        Ok(json!({ "evaluations": decisions }))
    }

    /// `POST /access/v1/search/{subject,resource,action}`: which entities would be permitted (§8).
    pub fn search(&self, asker: &Execution, wanted: Entity, body: &[u8]) -> Result<Value, Unanswered> {
        search::search(&self.gateway, asker, wanted, &read(body)?)
    }

    async fn evaluate(&self, asker: &Execution, request: &Map<String, Value>) -> Result<Value, Unanswered> {
        let question = Question::of(request)?;
        let snapshot = self.gateway.parts().bundle.load();
        let agent = question.agent(asker, &snapshot)?;
        let Ok(tool) = &question.tool else {
            return Ok(denied(Code::UnknownTool, None, json!({})));
        };
        let execution = match question.execution {
            Some(id) => {
                let found = self.gateway.parts().executions.find(id);
                let own = found.filter(|execution| execution.started().agent == agent && question.is_for(execution));
                match own.filter(|execution| !execution.is_ended(self.gateway.parts().clock.now())) {
                    Some(execution) => execution,
                    None => return Ok(denied(Code::ExecutionEnded, None, json!({}))),
                }
            }
            None => self.standing.execution(&self.gateway, asker, &agent, &question).await?,
        };
        let arguments = question.arguments(&snapshot)?;
        let call = Call { tool: tool.clone(), protocol: Protocol::Authzen, method: "evaluation", arguments };
        match self.gateway.decide_for_other(&execution, call, None).await {
            Ok(record) => Ok(json!({ "decision": true, "context": { "evaluation_id": record.to_string(), "execution": execution.id() } })),
            Err(Refusal::Denied { code, intent }) => Ok(denied(code, Some(intent), json!({ "execution": execution.id() }))),
            Err(Refusal::Asked { code, ask, .. }) => Ok(denied(code, None, denial(&execution, &snapshot.settings.approvals, code, ask))),
            Err(Refusal::NotRecorded(error)) => Err(error.into()),
            Err(error) => Err(Unanswered::Failed(error.to_string())),
        }
    }
}

/// What programs find of a call that waits for a person: the context of a denied evaluation (AuthZEN Access Request and Approval
/// §2).
pub(crate) fn denial(execution: &Execution, approvals: &Approvals, code: Code, ask: Position) -> Value {
    let ledger = execution.ledger();
    let (at, until) = ledger.asks().find(ask).map(|ask| (ask.at, ask.until)).unzip();
    let mut request = json!({ "expires_at": until });
    if let (Some(request), Some(endpoint), Some(form)) = (request.as_object_mut(), approvals.endpoint(), approvals.page(ask)) {
        request.insert("endpoint".to_owned(), endpoint.into());
        request.insert("form_url".to_owned(), form.into());
    }
    json!({ "evaluation_id": ask.to_string(), "evaluated_at": at, "reason": code.as_str(), "access_request": request })
}

/// What the service says of itself (§9), at `/.well-known/authzen-configuration` of `origin`.
pub fn metadata(snapshot: &Snapshot) -> Value {
    let origin = &snapshot.settings.identity.origin;
    let mut document = json!({
        "policy_decision_point": origin,
        "access_evaluation_endpoint": format!("{origin}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{origin}/access/v1/evaluations"),
        "search_subject_endpoint": format!("{origin}/access/v1/search/subject"),
        "search_resource_endpoint": format!("{origin}/access/v1/search/resource"),
        "search_action_endpoint": format!("{origin}/access/v1/search/action"),
    });
    if let (Some(members), Some(endpoint)) = (document.as_object_mut(), snapshot.settings.approvals.endpoint()) {
        members.insert("access_request_endpoint".to_owned(), endpoint.into());
        members.insert("capabilities".to_owned(), json!(["urn:openid:authzen:capability:access-request"]));
    }
    document
}

fn denied(code: Code, record: Option<Position>, mut context: Value) -> Value {
    if let Some(members) = context.as_object_mut() {
        members.entry("reason").or_insert_with(|| code.as_str().into());
        members.insert("reason_user".to_owned(), json!({ "en": code.sentence() }));
        if let Some(record) = record {
            members.insert("evaluation_id".to_owned(), record.to_string().into());
        }
    }
    json!({ "decision": false, "context": context })
}

/// An evaluation among several that could not be made (§7.2.1).
fn failed(status: u16, error: &Unanswered) -> Value {
    json!({ "decision": false, "context": { "error": { "status": status, "message": error.to_string() } } })
}

fn read(body: &[u8]) -> Result<Map<String, Value>, Unanswered> {
    match json::parse(body, &json::Limits { bytes_max: body.len(), depth_max: DEPTH_MAX })? {
        Value::Object(request) => Ok(request),
        _ => Err(Unanswered::Malformed("the request is no JSON object".to_owned())),
    }
}
