//! Answering: what a person says of a call that waits for them, checked, recorded, and then in effect.

use std::fmt;
use std::sync::Arc;

use bailiwick_core::approval::{Ask, State};
use bailiwick_core::bundle::{Approver, Live};
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::model::{Answered, Clock, Person, Refused, Timestamp};
use bailiwick_log::{Log, Position, StorageError};

/// What answers are given with.
#[derive(Clone)]
pub struct Approvals {
    /// The bundle in force.
    pub bundle: Arc<Live>,
    /// The executions under way, whose ledgers hold what was asked.
    pub executions: Arc<Executions>,
    /// The log.
    pub log: Log,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// What a person answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call may be made, once. With `endorse`, the values that nobody who may had chosen are endorsed for the execution,
    /// so that nobody is asked about them again.
    Approve {
        /// Whether the values are endorsed.
        endorse: bool,
    },
    /// It may not.
    Refuse,
}

/// Why an answer does not count. Nothing has changed then, and the attempt is on the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// No execution under way has asked that.
    #[error("record {0} is no ask of an execution that is under way")]
    Unknown(Position),
    /// Somebody answered before.
    #[error("it was answered already (record {0})")]
    Answered(Position),
    /// The ask, or the execution, has ended.
    #[error("nobody answered in time, or the execution has ended; the agent may ask again")]
    Expired,
    /// Nobody can approve what cannot be shown.
    #[error("the call's arguments are longer than the log keeps, so they cannot be shown; it can only be refused")]
    NotShown,
    /// The agent itself may not answer, nor may the subject where the bundle says so.
    #[error("{0}")]
    NotYours(&'static str),
    /// The answer could not be recorded, and so has no effect.
    #[error("the answer could not be recorded, so it has no effect: {0}")]
    NotRecorded(#[from] StorageError),
}

impl AnswerError {
    /// The code that the log and programs have.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown_ask",
            Self::Answered(_) => "answered_already",
            Self::Expired => "ask_expired",
            Self::NotShown => "not_shown",
            Self::NotYours(_) => "not_yours",
            Self::NotRecorded(_) => "not_recorded",
        }
    }
}

impl Approvals {
    /// Everything that executions under way have asked, the newest first, each with its execution.
    pub fn list(&self) -> Vec<(Arc<Execution>, Ask)> {
        let now = self.clock.now();
        let mut asks: Vec<(Arc<Execution>, Ask)> = Vec::new();
        for execution in self.executions.all().into_iter().filter(|execution| !execution.is_ended(now)) {
            let own: Vec<Ask> = execution.ledger().asks().iter().cloned().collect();
            asks.extend(own.into_iter().map(|ask| (Arc::clone(&execution), ask)));
        }
        asks.sort_by_key(|(_, ask)| std::cmp::Reverse(ask.id));
        asks
    }

    /// What was asked with the intent at `ask`, with its execution. Looks through all executions.
    pub fn find(&self, ask: Position) -> Option<(Arc<Execution>, Ask)> {
        self.executions.all().into_iter().find_map(|execution| {
            let found = execution.ledger().asks().find(ask).cloned()?;
            Some((execution, found))
        })
    }

    /// Takes a person's answer: checked, on disk, and then in effect. Returns its record.
    ///
    /// The first answer counts. Whoever calls this has made sure that `by` is that person.
    pub async fn answer(&self, ask: Position, answer: Answer, by: Person) -> Result<Position, AnswerError> {
        let found = self.find(ask);
        let execution = found.as_ref().map(|(execution, _)| Arc::clone(execution));
        let answered = match found {
            Some((execution, ask)) => self.answered(&execution, ask.id, answer, by.clone()).await,
            None => Err(AnswerError::Unknown(ask)),
        };
        if let Err(error) = &answered {
            self.turned_away(ask, error, &by, execution.as_deref()).await;
        }
        answered
    }

    /// The execution's turn is held meanwhile: no call of it is judged between the answer's record and its effect.
    async fn answered(&self, execution: &Execution, ask: Position, answer: Answer, by: Person) -> Result<Position, AnswerError> {
        let _turn = execution.turn().await;
        let (now, settings) = (self.clock.now(), &self.bundle.load().settings.approvals);
        let ask = execution.ledger().asks().find(ask).cloned().ok_or(AnswerError::Unknown(ask))?;
        may_answer(execution, &ask, answer, &by, settings.approver, now)?;
        let (approved, endorses) = match answer {
            Answer::Approve { endorse } => (true, endorse),
            Answer::Refuse => (false, false),
        };
        let valid = if approved { settings.valid.std() } else { std::time::Duration::ZERO };
        let started = execution.started();
        let record = Answered {
            at: now,
            ask: ask.id,
            execution: execution.id(),
            agent: started.agent.clone(),
            subject: started.subject.clone(),
            tool: ask.tool,
            call: ask.call,
            approved,
            endorses,
            until: now.checked_add(valid).unwrap_or(now),
            by,
        };
        let recorded = self.log.append(record.clone()).await?;
        let position = recorded.position();
        self.log.durable(recorded).await?;
        execution.answered(position, &record);
        Ok(position)
    }

    async fn turned_away(&self, ask: Position, error: &AnswerError, by: &Person, execution: Option<&Execution>) {
        let refused = Refused {
            at: self.clock.now(),
            stage: "approve".to_owned(),
            code: error.code().to_owned(),
            detail: format!("`{}` of `{}` answered record {ask}: {error}", by.subject, by.issuer),
            peer: None,
            agent: execution.map(|execution| execution.started().agent.clone()),
            execution: execution.map(Execution::id),
        };
        if let Err(error) = self.log.append(refused).await {
            tracing::error!(%error, "that an answer was turned away could not be recorded");
        }
    }
}

impl fmt::Debug for Approvals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Approvals").finish_non_exhaustive()
    }
}

fn may_answer(
    execution: &Execution,
    ask: &Ask,
    answer: Answer,
    by: &Person,
    approver: Approver,
    now: Timestamp,
) -> Result<(), AnswerError> {
    let started = execution.started();
    let is = |who: &str| {
        by.subject == who || by.name.as_deref() == Some(who) || who.split_once(':') == Some((by.issuer.as_str(), by.subject.as_str()))
    };
    let agent = started.agent.as_str();
    if is(agent) || by.subject.rsplit_once("/agent/").is_some_and(|(_, name)| name == agent) {
        return Err(AnswerError::NotYours("the agent that asks may not answer"));
    }
    if approver == Approver::NotSubject && started.subject.as_deref().is_some_and(is) {
        return Err(AnswerError::NotYours("the person for whom the agent acts may not answer here; another approver has to"));
    }
    match ask.state(now) {
        _ if execution.is_ended(now) => Err(AnswerError::Expired),
        State::Pending if matches!(answer, Answer::Approve { .. }) && ask.arguments.is_none() => Err(AnswerError::NotShown),
        State::Pending => Ok(()),
        State::Expired if ask.answer.is_none() => Err(AnswerError::Expired),
        _ => Err(AnswerError::Answered(ask.answer.as_ref().map_or(ask.id, |given| given.record))),
    }
}
