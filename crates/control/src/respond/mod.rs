//! Does what is planned about findings, and what people say of it.
//!
//! What is to be done is [`Responder`]'s to say; here it is done, by the same functions as an operator's commands, and then recorded. In
//! this order: first in effect, then on the log, then on the log why. A crash in between has it done again without harm, since what was
//! done says for which finding; a log that cannot be written leaves what was stopped stopped, and is told later.

mod operate;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use bailiwick_core::detect::finding::Response;
use bailiwick_core::detect::respond::{BY, Known, Planned, Responder, Step};
use bailiwick_core::model::{AgentName, Caution, Digest, ExecutionId, Hold, Record, Responded, ResponseEnd, shown};
use bailiwick_log::{Position, StorageError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::token::{Identity, Reason};

/// The longest pause before something that failed is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Does what is planned about findings.
pub struct Responding {
    identity: Arc<Identity>,
    responder: Mutex<Responder>,
    /// What failed: how often, and when it may be tried again.
    failed: Mutex<HashMap<Digest, (u32, Instant)>>,
    /// One thing is done at a time, by whomever.
    turn: tokio::sync::Mutex<()>,
    due: Notify,
}

/// Why what a person wants was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// There is no such finding, or it was forgotten.
    #[error("no finding `{0}` is known; what it is about can be quarantined and revoked by its name")]
    Unknown(String),
    /// More than one finding is meant.
    #[error("{0} findings are called so; write more of the name")]
    Several(usize),
    /// What is wanted cannot be done about it.
    #[error("{0}")]
    Impossible(String),
    /// The log could not be written. What was stopped is stopped.
    #[error("it is in effect and could not be recorded: {0}")]
    NotRecorded(#[from] StorageError),
}

impl Responding {
    /// One that goes on from what was folded of the log.
    pub fn new(identity: Arc<Identity>, responder: Responder) -> Arc<Self> {
        let (responder, failed) = (Mutex::new(responder), Mutex::default());
        Arc::new(Self { identity, responder, failed, turn: tokio::sync::Mutex::default(), due: Notify::new() })
    }

    /// Takes in the record at `position`, in the order of the log.
    pub fn fold(&self, position: Position, record: &Record) {
        self.responder().fold(position, record);
    }

    /// What was folded so far.
    pub fn folded(&self) -> Responder {
        self.responder().clone()
    }

    /// Has what is due done. Not to be called before all was folded that was on the log at the start: what became of a finding may stand
    /// further on.
    pub fn wake(&self) {
        if self.responder().has_open() {
            self.due.notify_one();
        }
    }

    /// What an operator may see and say, to be merged into the admin API.
    pub fn operate(self: &Arc<Self>) -> Router {
        operate::router(Arc::clone(self))
    }

    /// Does what is due each time that it is woken, for as long as it is polled.
    pub async fn run(self: Arc<Self>) -> Infallible {
        self.due.notified().await;
        loop {
            match self.do_what_is_due().await {
                None => self.due.notified().await,
                Some(again) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(again) => {}
                        () = self.due.notified() => {}
                    }
                }
            }
        }
    }

    /// Does what is due, and says when something that failed may be tried again.
    async fn do_what_is_due(&self) -> Option<Instant> {
        let _turn = self.turn.lock().await;
        let snapshot = self.identity.parts().bundle.load();
        let owner = |agent: &AgentName| snapshot.agents.get(agent).map(|agent| agent.owner.clone());
        let now = self.identity.parts().clock.now();
        let planned = self.responder().due(&snapshot.settings.respond.orders, &owner, now);
        for planned in &planned {
            let finding = planned.case.finding;
            if self.failed().get(&finding).is_some_and(|(_, again)| *again > Instant::now()) {
                self.responder().failed(&finding, now);
                continue;
            }
            if let Err(error) = self.answer_planned(planned).await {
                self.note_failure(planned, &error).await;
            } else {
                self.failed().remove(&finding);
            }
        }
        // What is no longer to be done, since a person has decided about it, is not tried again.
        let mut failed = self.failed();
        failed.retain(|finding, _| planned.iter().any(|planned| planned.case.finding == *finding));
        failed.values().map(|(_, again)| *again).min()
    }

    async fn answer_planned(&self, planned: &Planned) -> Result<(), StorageError> {
        let (code, detail, acts) = match &planned.step {
            Step::Note(code, detail, acts) => (*code, detail.clone(), acts.clone()),
            Step::Do => {
                let finding = planned.case.finding;
                let by = Reason {
                    by: BY.to_owned(),
                    reason: format!("finding {finding}: {}", shown(&planned.case.title, 200)),
                    finding: Some(finding),
                };
                match self.act(planned.response, planned.case.agent.clone(), planned.case.execution, by).await? {
                    Some(act) => (ResponseEnd::Done, String::new(), vec![act]),
                    None => (ResponseEnd::Nothing, "the execution has ended".to_owned(), Vec::new()),
                }
            }
        };
        if code == ResponseEnd::Held {
            tracing::error!(finding = %planned.case.finding, "as much was stopped as may be within an hour; `bailiwick findings held` asks you");
        }
        self.record(planned.record(self.identity.parts().clock.now(), code, detail, acts)).await.map(drop)
    }

    /// Does what is wanted about an agent or an execution. Nothing where it is an execution that has ended.
    async fn act(
        &self,
        response: Response,
        agent: Option<AgentName>,
        execution: Option<ExecutionId>,
        by: Reason,
    ) -> Result<Option<Position>, StorageError> {
        let executions = &self.identity.parts().executions;
        let stopped = match (response, agent, execution) {
            (Response::Quarantine, Some(agent), _) => self.identity.quarantine(agent, by).await?,
            (Response::Ask, Some(agent), _) => self.identity.caution(agent, Caution::Ask, by).await?,
            (Response::Lower, Some(agent), _) => self.identity.caution(agent, Caution::Suspect, by).await?,
            (Response::Revoke, _, Some(execution)) if executions.find(execution).is_some() => {
                self.identity.revoke_execution(execution, by).await?
            }
            _ => return Ok(None),
        };
        Ok(Some(stopped.record))
    }

    async fn note_failure(&self, planned: &Planned, error: &StorageError) {
        let (finding, now) = (planned.case.finding, self.identity.parts().clock.now());
        tracing::error!(%finding, response = planned.response.as_str(), %error, "what is to be done about a finding could not be recorded; it is tried again");
        let is_first = {
            let mut failed = self.failed();
            let (tries, again) = failed.entry(finding).or_insert((0, Instant::now()));
            *tries = tries.saturating_add(1);
            *again = Instant::now() + Duration::from_secs(1 << tries.saturating_sub(1).min(16)).min(PAUSE_MAX);
            *tries == 1
        };
        if is_first {
            // Most likely it cannot be written either; what was wrong may have been over at once.
            let _ = self.record(planned.record(now, ResponseEnd::Failed, error.to_string(), Vec::new())).await;
        }
        self.responder().failed(&finding, now);
    }

    async fn record(&self, responded: Responded) -> Result<Position, StorageError> {
        let log = &self.identity.parts().log;
        let recorded = log.append(responded).await?;
        let position = recorded.position();
        log.durable(recorded).await.map(|_| position)
    }

    /// Does what a person wants about a finding, or nothing where that is `None`, and settles what waits for that. It is not counted to the
    /// ceiling, and stands: nothing more is done about this finding by itself.
    pub async fn answer(&self, name: &str, response: Option<Response>, by: Reason) -> Result<Responded, AnswerError> {
        let _turn = self.turn.lock().await;
        let (finding, known) = self.named(name)?;
        let settles =
            self.responder().held().iter().find(|(_, held)| held.finding == finding).map(|(position, held)| (*position, held.response));
        let (code, acts) = match response {
            None => (ResponseEnd::Dismissed, Vec::new()),
            Some(response) => {
                let lacks = match response {
                    Response::Record | Response::Notify => Some("a person can have `quarantine`, `revoke`, `ask` or `lower` done"),
                    Response::Revoke if known.execution.is_none() => Some("it is about no execution of this house"),
                    Response::Lower | Response::Ask | Response::Quarantine if known.agent.is_none() => {
                        Some("it is about no agent of this house")
                    }
                    _ => None,
                };
                if let Some(lacks) = lacks {
                    return Err(AnswerError::Impossible(lacks.to_owned()));
                }
                // A caution names the finding, as those that are asked about it want to know.
                let named = matches!(response, Response::Lower | Response::Ask).then_some(finding);
                let act = self.act(response, known.agent.clone(), known.execution, Reason { finding: named, ..by.clone() }).await?;
                let act = act.ok_or_else(|| AnswerError::Impossible("the execution has ended".to_owned()))?;
                (ResponseEnd::Done, vec![act])
            }
        };
        let responded = Responded {
            at: self.identity.parts().clock.now(),
            finding,
            found: known.found,
            agent: known.agent,
            execution: known.execution,
            response: response
                .or(settles.map(|(_, response)| response))
                .or(known.answered.map(|(response, _)| response))
                .unwrap_or(Response::Record),
            code,
            detail: String::new(),
            acts,
            settles: settles.map(|(position, _)| position),
            by: by.by,
            reason: by.reason,
        };
        self.settled(responded).await
    }

    /// Takes back what was done about a finding, by itself or by a person: the agent is released from what holds it because of that. An
    /// execution that was revoked stays so. Nothing more is done about this finding by itself.
    pub async fn undo(&self, name: &str, by: Reason) -> Result<Responded, AnswerError> {
        let _turn = self.turn.lock().await;
        let (finding, known) = self.named(name)?;
        let (mut acts, mut details, mut response) = (Vec::new(), Vec::new(), Response::Record);
        let did = |one: Response| known.acts.iter().any(|(done, _)| *done == one);
        let holds = [
            (Hold::Quarantine, did(Response::Quarantine), Response::Quarantine),
            (Hold::Caution, did(Response::Ask) || did(Response::Lower), Response::Ask),
        ];
        for (hold, _, of) in holds.into_iter().filter(|(_, was_done, _)| *was_done) {
            let Some(agent) = &known.agent else { continue };
            let others = self.responder().others(&finding, agent, hold);
            if let Some(act) = self.identity.lift(agent, Some(hold), by.clone()).await? {
                acts.push(act);
                response = response.max(of);
                if !others.is_empty() {
                    let others = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    details.push(format!("it was held because of {others} too"));
                }
            }
        }
        let revoked = known.execution.filter(|_| did(Response::Revoke));
        if let Some(execution) = revoked {
            details.push(format!("execution {execution} stays revoked, which nothing takes back: it has to be started again"));
        }
        if acts.is_empty() {
            let why = if details.is_empty() { "nothing that was done about it holds anybody now".to_owned() } else { details.join("; ") };
            return Err(AnswerError::Impossible(why));
        }
        let responded = Responded {
            at: self.identity.parts().clock.now(),
            finding,
            found: known.found,
            agent: known.agent,
            execution: known.execution,
            response,
            code: ResponseEnd::Undone,
            detail: details.join("; "),
            acts,
            settles: None,
            by: by.by,
            reason: by.reason,
        };
        self.settled(responded).await
    }

    /// Puts what a person said on the log, and in effect at once.
    async fn settled(&self, responded: Responded) -> Result<Responded, AnswerError> {
        let position = self.record(responded.clone()).await?;
        // It comes again by way of the log, and then changes nothing.
        self.responder().fold(position, &Record::Response(responded.clone()));
        Ok(responded)
    }

    /// The responses that wait for a person, oldest first.
    pub fn held(&self) -> Vec<(Position, Responded)> {
        self.responder().held().iter().map(|(position, held)| (*position, held.clone())).collect()
    }

    /// The finding that is called so, by the beginning of its name.
    fn named(&self, name: &str) -> Result<(Digest, Known), AnswerError> {
        let name = if name.starts_with("sha256:") { name.to_owned() } else { format!("sha256:{name}") };
        let responder = self.responder();
        match responder.named(&name).as_slice() {
            [finding] => {
                responder.known(finding).cloned().map(|known| (*finding, known)).ok_or_else(|| AnswerError::Unknown(shown(&name, 80)))
            }
            [] => Err(AnswerError::Unknown(shown(&name, 80))),
            several => Err(AnswerError::Several(several.len())),
        }
    }

    fn responder(&self) -> MutexGuard<'_, Responder> {
        self.responder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<Digest, (u32, Instant)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Responding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responding").finish_non_exhaustive()
    }
}
