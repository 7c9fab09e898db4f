//! The path of a call, top to bottom. Every protocol ends here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bailiwick_core::bundle::{Live, Snapshot};
use bailiwick_core::detect::baseline::Watch;
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::flow::{self, Fields, Provenance, Seen, Shown, Sources};
use bailiwick_core::identity::Authenticated;
use bailiwick_core::judge::{Known, above, judge};
use bailiwick_core::ledger::{History, HistoryOf, Integrity, Labels};
use bailiwick_core::model::{AgentName, Call, Clock, Code, Effect, Ending, Network, Outcome, ServerName, Timestamp, ToolName, Verdict};
use bailiwick_core::prose;
use bailiwick_log::{Log, Position, Recorded, StorageError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::Vault;
use crate::catch_up::{self, Followed};
use crate::room::{NoPlace, Place, Room};
use crate::{Answer, Answered, Busy, Caller, Decided, Extras, Permit, Refusal, ToolFault, Upstream, UpstreamError};

/// How often a call is judged again because another gateway went on with its execution meanwhile.
const JUDGED_MAX: usize = 16;

/// A call as its adapter read it.
#[derive(Debug)]
pub struct Arrival {
    /// The call.
    pub call: Call,
    /// What the adapter hands to its protocol's upstream beside it.
    pub extras: Extras,
}

/// What a gateway is made of.
#[derive(Clone)]
pub struct Parts {
    /// The bundle in force.
    pub bundle: Arc<Live>,
    /// The executions under way.
    pub executions: Arc<Executions>,
    /// The log.
    pub log: Log,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The broker.
    pub vault: Arc<dyn Vault>,
    /// The tool servers.
    pub upstream: Arc<dyn Upstream>,
    /// The tools that are held back, because what is offered is not what was reviewed.
    pub held: Arc<ArcSwap<HashSet<ToolName>>>,
}

/// The policy enforcement point: what stands between agents and tools.
pub struct Gateway {
    parts: Parts,
    /// A place for each call that may be under way, shared among the agents: one alone gets at most half.
    agents: Arc<Room<AgentName>>,
    /// The same places shared among the tool servers: one that hangs keeps at most a third.
    servers: Arc<Room<ServerName>>,
    /// A server's places shared among the agents: one alone gets at most half of them, so that it shuts nobody out.
    pairs: Arc<Room<(AgentName, ServerName)>>,
    /// How many calls are under way, and how they are told to end.
    under_way: watch::Sender<usize>,
    ending: watch::Sender<bool>,
    /// How far what other gateways append is folded in.
    followed: Followed,
    /// What is usual for each agent, where anybody learns it.
    watch: Option<Arc<Watch>>,
}

impl Gateway {
    /// A gateway of these parts; its bound on calls under way is the bundle's at this moment.
    pub fn new(parts: Parts) -> Self {
        let places = parts.bundle.load().settings.limits.calls_max;
        let (agents, servers, pairs) = (Room::new(places, 1), Room::new(places, 2), Room::new(places, 1));
        let (under_way, ending) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { parts, agents, servers, pairs, under_way, ending, followed: Followed::default(), watch: None }
    }

    /// The same gateway, whose executions already hold all that the log says before `next`.
    #[must_use]
    pub fn caught_up_to(self, next: Position) -> Self {
        Self { followed: Followed::from(next), ..self }
    }

    /// The same gateway, which judges calls also beside what is usual for their agents.
    #[must_use]
    pub fn watched_by(self, watch: Arc<Watch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// How far what other gateways append is folded in.
    pub(crate) const fn followed(&self) -> &Followed {
        &self.followed
    }

    /// Cancels what is under way, and resolves once every call has its outcome on the log.
    pub async fn end(&self) {
        self.ending.send_replace(true);
        let _ = self.under_way.subscribe().wait_for(|calls| *calls == 0).await;
    }

    /// What the gateway is made of.
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// A call that is made by whoever waits for its end, and on a task of its own once nobody does: a caller that hangs up
    /// loses its answer and never the outcome.
    pub fn call(self: &Arc<Self>, who: Authenticated, arrival: Arrival, caller: Arc<dyn Caller>) -> Running {
        let (hang_up, gone) = watch::channel(false);
        let gateway = Arc::clone(self);
        let counted = Counted::new(self);
        let call = async move {
            let _counted = counted;
            gateway.enforce(&who, arrival, caller.as_ref(), gone).await
        };
        let call = AssertUnwindSafe(call).catch_unwind().map(|ended| ended.unwrap_or(Err(Refusal::Crashed)));
        Running { way: Way::Here(Box::pin(call)), runtime: Handle::current(), hang_up }
    }

    /// A call that is made on a task of its own from the start, whether or not anybody waits.
    pub fn start(self: &Arc<Self>, who: Authenticated, arrival: Arrival, caller: Arc<dyn Caller>) -> Running {
        let mut running = self.call(who, arrival, caller);
        running.go_on_alone();
        running
    }

    /// Makes one call from its judgement to its answer, and has what it was answered taken in beside all else, once the answer is on
    /// its way: whoever judges the execution's next call waits for that.
    async fn enforce(
        &self,
        who: &Authenticated,
        arrival: Arrival,
        caller: &dyn Caller,
        gone: watch::Receiver<bool>,
    ) -> Result<Answer, Refusal> {
        let answer = self.answer(who, arrival, caller, gone).await;
        let execution = Arc::clone(&who.execution);
        match &answer {
            Ok(_) => drop(tokio::spawn(async move { drop(execution.seen()) })),
            Err(_) => drop(execution.seen()),
        }
        answer
    }

    /// Judges one call, records what was decided, does it if it was allowed, and records what came of it.
    async fn answer(
        &self,
        who: &Authenticated,
        arrival: Arrival,
        caller: &dyn Caller,
        gone: watch::Receiver<bool>,
    ) -> Result<Answer, Refusal> {
        let execution = who.execution.as_ref();
        let snapshot = self.parts.bundle.load();
        let of_execution = execution.place(snapshot.settings.limits.calls_per_execution_max);
        let _of_execution = of_execution.ok_or(Refusal::Busy(Busy::Execution))?;
        let _places = self.places(&execution.started().agent, arrival.call.tool.server())?;

        let Arrival { call, extras } = arrival;
        let started = self.parts.clock.now();
        let decided = self.decide(&snapshot, execution, call, who.network).await?; // on the log, denials too
        let made = Made::of(&decided);
        let patience = snapshot.settings.limits.call_timeout.std();
        let Ok(permit) = tokio::time::timeout(patience, Permit::grant(&self.parts.log, decided)).await else {
            let made = Made { returns: Labels::default(), ..made }; // nothing was shown
            self.record(execution, &made, &Ended::NotKept, started).await?;
            return Err(Refusal::Busy(Busy::Log));
        };
        let permit = permit?; // a denial or an ask ends here
        let undeclared = Fields::all(Provenance::Untrusted);
        let fields = snapshot
            .tool(&made.tool)
            .map_or(Cow::Borrowed(&undeclared), |tool| flow::fields_of(tool, permit.call().arguments.value(), &execution.seen()));

        let shown = Learning {
            gateway: self,
            snapshot: &snapshot,
            execution,
            made: &made,
            fields: &fields,
            caller,
            gave_back: AtomicBool::new(false),
        };
        let started = self.parts.clock.now();
        let ended = self.perform(&snapshot, who, permit, extras, &shown, gone).await;
        let gave_back = shown.gave_back.into_inner();

        // The ledger learns before the answer is released: the agent must not be able to act on what it read before we
        // know that it read it.
        let mut made = made;
        // Who vouches for a whole result does not speak for one that tells its reader what to do. What stands in fields that nobody
        // vouches for is untrusted anyhow, and takes nothing from those beside it that the service makes itself.
        made.instructs = made.returns.integrity == Integrity::Trusted
            && matches!(&ended, Ended::Answered(Answer { body: Ok(result), .. }) if prose::is_in(result));
        let fields = if made.instructs { Cow::Borrowed(&undeclared) } else { fields };
        let shows_written = match &ended {
            Ended::Answered(answer) => self.is_shown(&snapshot, execution, &made, fields, answer.body.as_ref()).await,
            _ => Ok(false),
        };
        if gave_back || made.instructs || !matches!(shows_written, Ok(false)) {
            made.returns.integrity = Integrity::Untrusted;
        }
        let is_answered = matches!(ended, Ended::Answered(_));
        let learned = if is_answered { learn(execution, &self.parts.log, made.position, &made.returns).await } else { Ok(()) };
        self.record(execution, &made, &ended, started).await?;
        learned?;
        shows_written?;
        ended.into_reply(made.position)
    }

    /// Judges a call that another enforcement point makes, and records the decision before it may. Nothing is forwarded, and what
    /// comes of the call is not seen here: so all that the tool may return counts as shown as soon as it is allowed.
    pub async fn decide_for_other(&self, execution: &Execution, call: Call, network: Option<Network>) -> Result<Position, Refusal> {
        let snapshot = self.parts.bundle.load();
        let of_execution = execution.place(snapshot.settings.limits.calls_per_execution_max);
        let _of_execution = of_execution.ok_or(Refusal::Busy(Busy::Execution))?;
        let _places = self.places(&execution.started().agent, call.tool.server())?;
        let started = self.parts.clock.now();
        let decided = self.decide(&snapshot, execution, call, network).await?;
        let made = Made::of(&decided);
        Permit::grant(&self.parts.log, decided).await?; // a denial or an ask ends here
        learn(execution, &self.parts.log, made.position, &made.returns).await?;
        self.record(execution, &made, &Ended::Elsewhere, started).await?;
        Ok(made.position)
    }

    /// Notes what the execution is about to be shown, so that values can be traced to it. Says whether it gives back what was
    /// written to its server under untrusted influence: that is untrusted, whatever the bundle says of the tool.
    ///
    /// No result is held back to be taken in, but where the record of this very call hangs on what it says. It is the execution's
    /// from here on, before anybody can see it, and [`Execution::seen`], by which its next call is judged, takes it in first. Where
    /// this process dies before that, or another gateway judges the next call, the values in it are unknown, which is no free
    /// pass; what the ledger learns of the result as a whole is on the log before it is released, as ever.
    async fn is_shown(
        &self,
        snapshot: &Snapshot,
        execution: &Execution,
        made: &Made,
        fields: Cow<'_, Fields>,
        said: Result<&Arc<Value>, &ToolFault>,
    ) -> Result<bool, Refusal> {
        if self.parts.log.storage().is_shared() {
            self.followed.catch_up(&self.parts).await?; // another gateway may have written it
        }
        // What nobody vouches for is believed by nobody, whoever wrote it.
        let written = fields.vouch_for_any().then(|| self.parts.executions.written().get(made.tool.server()).cloned());
        let written = written.flatten().unwrap_or_default();
        let is_open = made.returns.integrity == Integrity::Trusted && !written.is_empty();
        match said {
            Ok(result) => {
                let limits = &snapshot.settings.limits;
                let bytes_max = (limits.ledger_bytes_max, limits.ledgers_bytes_max);
                let (result, fields, record) = (Arc::clone(result), fields.into_owned(), made.position);
                let shown = Shown { result, fields, written, record, bytes_max };
                if is_open {
                    return Ok(shown.take_in(&mut execution.seen()));
                }
                execution.is_shown(shown);
                Ok(false)
            }
            Err(fault) if is_open => {
                Ok(written.shows(&fault.message) || fault.data.as_ref().is_some_and(|data| written.shows(&data.to_string())))
            }
            Err(_) => Ok(false),
        }
    }

    /// A place among the agent's calls, one among the server's and one among the agent's at the server, or why there is
    /// none: asked before anything is judged.
    fn places(&self, agent: &AgentName, server: &ServerName) -> Result<Places, Refusal> {
        if !self.parts.log.storage().has_room() {
            return Err(Refusal::Busy(Busy::Log));
        }
        let busy = |whose: Busy| move |none| Refusal::Busy(if none == NoPlace::All { Busy::Gateway } else { whose });
        let of_agent = self.agents.take(agent).map_err(busy(Busy::Agent))?;
        let left = self.servers.left(server);
        let of_server = self.servers.take(server).map_err(busy(Busy::Server))?;
        let of_both = self.pairs.take_within(&(agent.clone(), server.clone()), left).map_err(busy(Busy::Agent))?;
        Ok((of_agent, of_server, of_both))
    }

    /// Judges the call and appends the intent. Calls of one execution take turns here, and so do those of one agent
    /// where its own histories count: each is judged by a ledger that holds all that was allowed before. Where another
    /// gateway went on with the execution meanwhile, this one catches up and judges again.
    async fn decide(
        &self,
        snapshot: &Snapshot,
        execution: &Execution,
        call: Call,
        network: Option<Network>,
    ) -> Result<Recorded<Decided>, Refusal> {
        let _turn = execution.turn().await;
        if execution.has_kin() && self.parts.log.storage().is_shared() {
            self.followed.catch_up(&self.parts).await?; // no place in a stream guards what others of its chain did elsewhere
        }
        let of_agent = |history: &History| history.of == HistoryOf::Agent && history.seen_by(&call.tool);
        let _agent_turn = if snapshot.histories.iter().any(of_agent) {
            let turn = execution.agent_turns().await;
            if self.parts.log.storage().is_shared() {
                self.followed.catch_up(&self.parts).await?; // no place in a stream guards what an agent did elsewhere
            }
            Some(turn)
        } else {
            None
        };

        for _ in 0..JUDGED_MAX {
            let recorded = match self.parts.log.append(self.judged(snapshot, execution, call.clone(), network)).await {
                Err(StorageError::Stale { .. }) => {
                    self.followed.catch_up(&self.parts).await?;
                    continue;
                }
                recorded => recorded?,
            };
            let (intent, position) = (recorded.value().intent(), recorded.position());
            if let Some(network) = intent.network {
                execution.came_from(network);
            }
            let new = execution.took(position, intent, &snapshot.histories);
            if intent.decision.verdict == Verdict::Allow {
                self.parts.executions.wrote(intent);
                execution.opened(position);
                if new {
                    execution.took_for_agents(intent, &snapshot.histories);
                } else if catch_up::is_ended(&self.parts, position).await? {
                    // It took so long that its record came back by way of the log, and another gateway has closed it already.
                    return Err(Refusal::GivenUp { intent: position });
                }
            }
            return Ok(recorded);
        }
        Err(Refusal::Busy(Busy::Execution))
    }

    /// The call and the intent that is made of it: what was decided, and all that it was decided by.
    fn judged(&self, snapshot: &Snapshot, execution: &Execution, call: Call, network: Option<Network>) -> Decided {
        let now = self.parts.clock.now();
        let held = self.parts.held.load();
        let state = self.followed.state(&self.parts);
        let (mut judged, sequence) = {
            let above = above(snapshot, execution, &call, now);
            let (ledger, seen) = (execution.ledger(), execution.seen());
            let seen_above: Vec<_> = execution.above().map(Execution::seen).collect();
            let all: Vec<&Seen> = std::iter::once(&*seen).chain(seen_above.iter().map(|seen| &**seen)).collect();
            let bytes_max = snapshot.settings.limits.written_bytes_max;
            let remembers = self.parts.executions.remembers(call.tool.server(), &execution.started().agent, bytes_max);
            let sources = Sources::Chain(&all);
            let effect = snapshot.tool(&call.tool).map_or(Effect::Admin, |tool| tool.effect);
            let agent = &execution.started().agent;
            let behavior = self.watch.as_ref().and_then(|watch| watch.judge(agent, execution.id(), effect, &call, sources));
            let known = Known { snapshot, held: &held, sources, remembers, behavior: behavior.as_ref(), above: &above };
            (judge(known, execution, &ledger, &execution.agent_tracks(), &call, now), ledger.sequence())
        };
        let written = judged.written.take();
        let mut intent = judged.into_intent(snapshot, execution, &call, state, sequence, now);
        intent.network = execution.news_of(network);
        intent.written = written.and_then(|words| self.parts.executions.sealed(&intent.arguments_digest, &words));
        Decided::new(intent, call)
    }

    /// Gets the upstream's credential, forwards the call and waits for its end, whichever comes first.
    async fn perform(
        &self,
        snapshot: &Snapshot,
        who: &Authenticated,
        permit: Permit,
        extras: Extras,
        caller: &dyn Caller,
        mut gone: watch::Receiver<bool>,
    ) -> Ended {
        let mut ending = self.ending.subscribe();
        let forward = async {
            let credential = self.parts.vault.credential(&permit).await?;
            self.parts.upstream.forward(permit, credential, extras, caller).await
        };
        tokio::select! {
            biased;
            () = who.execution.stopped(&who.token) => Ended::Cut(who.execution.why_stopped()),
            _ = gone.wait_for(|gone| *gone) => Ended::Gone,
            _ = ending.wait_for(|ending| *ending) => Ended::Stopped,
            answer = forward => match answer {
                Ok(answer) => Ended::Answered(answer),
                Err(error) => Ended::Failed(error),
            },
            () = tokio::time::sleep(snapshot.settings.limits.call_timeout.std()) => Ended::Failed(UpstreamError::TimedOut),
        }
    }

    /// Appends the outcome, catching up as often as another gateway goes on with the execution meanwhile; where that one
    /// gave this gateway up for dead and closed the call, it has its outcome. An answer whose outcome could not be recorded
    /// is not released.
    async fn record(&self, execution: &Execution, made: &Made, ended: &Ended, started: Timestamp) -> Result<(), Refusal> {
        let _turn = execution.turn().await;
        loop {
            let at = self.parts.clock.now();
            let sequence = execution.ledger().sequence();
            if !execution.is_open(made.position) {
                return Err(Refusal::GivenUp { intent: made.position });
            }
            let outcome = Outcome {
                at,
                intent: made.position,
                execution: execution.id(),
                sequence,
                agent: made.agent.clone(),
                tool: made.tool.clone(),
                code: ended.ending(),
                detail: ended.detail(),
                bytes: ended.bytes(),
                duration_us: u64::try_from(at.duration_since(started).as_micros()).unwrap_or(0),
                labels: made.returns.clone(),
                instructs: made.instructs,
            };
            match self.parts.log.append(outcome).await {
                Err(StorageError::Stale { .. }) => self.followed.catch_up(&self.parts).await?,
                appended => {
                    appended?;
                    execution.ended(sequence, &made.returns);
                    execution.closed(made.position);
                    return Ok(());
                }
            }
        }
    }
}

/// What is needed of the intent once the permit is spent.
struct Made {
    position: Position,
    agent: AgentName,
    tool: ToolName,
    /// The labels of what the tool returns.
    returns: Labels,
    /// Whether it tells a model what to do though its server vouches for it.
    instructs: bool,
}

impl Made {
    fn of(decided: &Recorded<Decided>) -> Self {
        let intent = decided.value().intent();
        let (agent, tool, returns) = (intent.agent.clone(), intent.tool.clone(), intent.returns.clone());
        Self { position: decided.position(), agent, tool, returns, instructs: false }
    }
}

/// How a forwarded call came to its end.
enum Ended {
    Answered(Answer),
    Failed(UpstreamError),
    /// The execution or its credential was revoked, or an agent of its chain quarantined.
    Cut(Code),
    Gone,
    Stopped,
    /// The intent was not on disk in time, so that nothing was done.
    NotKept,
    /// Somebody else makes it.
    Elsewhere,
}

impl Ended {
    const fn ending(&self) -> Ending {
        match self {
            Self::Answered(answer) if answer.failed => Ending::Failed,
            Self::Answered(_) => Ending::Done,
            Self::Failed(error) if error.is_uncertain() => Ending::Unknown,
            Self::Failed(_) => Ending::Failed,
            Self::Cut(_) | Self::Gone | Self::Stopped | Self::NotKept => Ending::Cancelled,
            Self::Elsewhere => Ending::Elsewhere,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Answered(Answer { body: Err(fault), .. }) => format!("the tool answered with fault {}", fault.code),
            Self::Answered(_) | Self::Elsewhere => String::new(),
            Self::Failed(error) => error.to_string(),
            Self::Cut(Code::Quarantined) => "an agent of the chain was quarantined".to_owned(),
            Self::Cut(_) => "the execution or its credential was revoked".to_owned(),
            Self::Gone => "the caller went away".to_owned(),
            Self::Stopped => "the gateway was asked to stop".to_owned(),
            Self::NotKept => "the log's disk was too slow, and the call was not made".to_owned(),
        }
    }

    const fn bytes(&self) -> u64 {
        match self {
            Self::Answered(answer) => answer.bytes,
            Self::Failed(_) | Self::Cut(_) | Self::Gone | Self::Stopped | Self::NotKept | Self::Elsewhere => 0,
        }
    }

    fn into_reply(self, intent: Position) -> Result<Answer, Refusal> {
        match self {
            Self::Answered(answer) => Ok(answer),
            Self::Failed(error) => Err(Refusal::Upstream { error, intent }),
            Self::Cut(code) => Err(Refusal::Ended { code, intent }),
            Self::Gone | Self::Stopped => Err(Refusal::Gone { intent }),
            Self::NotKept | Self::Elsewhere => Err(Refusal::Busy(Busy::Log)),
        }
    }
}

/// A call that counts as under way until this is dropped.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(gateway: &Gateway) -> Self {
        gateway.under_way.send_modify(|calls| *calls = calls.saturating_add(1));
        Self(gateway.under_way.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls = calls.saturating_sub(1));
    }
}

/// A caller whose execution learns of what it is shown before it is shown.
struct Learning<'a> {
    gateway: &'a Gateway,
    snapshot: &'a Snapshot,
    execution: &'a Execution,
    made: &'a Made,
    /// Who vouches for the fields of what the tool returns.
    fields: &'a Fields,
    caller: &'a dyn Caller,
    /// Whether something was shown that gives back what was written to the server under untrusted influence.
    gave_back: AtomicBool,
}

/// Learns that the execution is about to be shown what has these labels, as the intent at `position` says. Where that makes its ledger
/// worse, the intent must be on disk first: a crash must not make the ledger forget what the agent remembers.
async fn learn(execution: &Execution, log: &Log, position: Position, returns: &Labels) -> Result<(), StorageError> {
    if !execution.keeps(returns) {
        log.storage().durable(position).await?;
        execution.kept(returns);
    }
    execution.learned(returns);
    Ok(())
}

impl Learning<'_> {
    /// Takes in what is about to be shown: its values, and then its labels.
    async fn learn(&self, shown: &Value) -> Result<(), Refusal> {
        let (fields, said) = (Cow::Borrowed(self.fields), Arc::new(shown.clone()));
        let shows_written = self.gateway.is_shown(self.snapshot, self.execution, self.made, fields, Ok(&said)).await;
        let mut returns = self.made.returns.clone();
        if self.gave_back.load(Ordering::Acquire) || !matches!(shows_written, Ok(false)) {
            self.gave_back.store(true, Ordering::Release);
            returns.integrity = Integrity::Untrusted;
        }
        learn(self.execution, &self.gateway.parts.log, self.made.position, &returns).await?;
        shows_written.map(drop)
    }
}

#[async_trait]
impl Caller for Learning<'_> {
    async fn show(&self, notification: Value) {
        // What cannot be learned is not shown; the same failure then ends the call.
        if self.learn(&notification).await.is_ok() {
            self.caller.show(notification).await;
        }
    }

    async fn ask(&self, method: &str, params: Value) -> Answered {
        self.learn(&params).await.map_err(|error| ToolFault { code: -32603, message: error.to_string(), data: None })?;
        self.caller.ask(method, params).await
    }
}

/// The places that a call has while it is under way.
type Places = (Place<AgentName>, Place<ServerName>, Place<(AgentName, ServerName)>);

/// A call under way. Dropping it tells the path that the caller has gone, and does nothing else.
#[derive(Debug)]
pub struct Running {
    way: Way,
    runtime: Handle,
    hang_up: watch::Sender<bool>,
}

/// Who makes a call.
enum Way {
    /// Whoever waits for it: no other task has to be woken, which is much of what a call costs.
    Here(BoxFuture<'static, Result<Answer, Refusal>>),
    /// A task of its own.
    Alone(JoinHandle<Result<Answer, Refusal>>),
    /// Nobody: it has ended, and its end was told.
    Ended,
}

impl Running {
    /// Waits for the call's end. May be waited for again after the wait was abandoned, but not after the end.
    pub async fn ended(&mut self) -> Result<Answer, Refusal> {
        let ended = match &mut self.way {
            Way::Here(call) => call.await,
            Way::Alone(task) => task.await.unwrap_or(Err(Refusal::Crashed)),
            Way::Ended => return Err(Refusal::Crashed),
        };
        self.way = Way::Ended;
        ended
    }

    /// Goes on by itself from now on: for who does other things than to wait for the end.
    pub fn go_on_alone(&mut self) {
        self.way = match std::mem::replace(&mut self.way, Way::Ended) {
            Way::Here(call) => Way::Alone(self.runtime.spawn(call)),
            other => other,
        };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hang_up.send_replace(true);
        self.go_on_alone();
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here(_) => "Here",
            Self::Alone(_) => "Alone",
            Self::Ended => "Ended",
        })
    }
}
