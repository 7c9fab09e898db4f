//! What must hold after every run, judged from the log alone and from what the outside saw.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use bailiwick_core::approval::Standing;
use bailiwick_core::execution::Executions;
use bailiwick_core::flow::Sources;
use bailiwick_core::judge::{Known, above, judge};
use bailiwick_core::ledger::{Facts, History, HistoryOf, Integrity, Labels, Ledger, Share, Tracks};
use bailiwick_core::model::{
    AgentName, Answered, Arguments, Call, Cautioned, Effect, Ending, ExecutionId, ExecutionStarted, Intent, Quarantined, Record,
    Revocation, Revoked, Timestamp, Verdict,
};
use bailiwick_core::policy::{Question, RulingOutcome};
use bailiwick_log::Position;
use serde_json::Value;

use crate::tools::CANARY;
use crate::world::World;

/// Something that must hold in every world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Nothing with an effect was forwarded without an allowed intent on disk, and nothing twice for one intent.
    RecordedBeforeDone,
    /// Every allowed intent has exactly one outcome.
    OneOutcome,
    /// Every decision computes again from the log to the same answer.
    Recomputes,
    /// No upstream secret is in a record, a log line or a reply.
    NoSecret,
    /// The ledger that a call was judged by holds everything that its execution had been shown.
    KnowsWhatWasShown,
    /// What was written under untrusted influence is never read back as trusted, by whomever and through whichever gateway.
    ReadBackUntrusted,
    /// No two records of an execution extend it from the same point.
    OneLine,
    /// Nothing was done for an agent that it may not do itself, and all that was done counted for it.
    ChainNarrows,
    /// Nothing of a quarantined agent, nor for one, was decided once the gateway knew of the quarantine.
    StaysStopped,
    /// Every approval that a call used was given by a person, for this call, and used by no other.
    ApprovedOnce,
    /// The same seed gives the same run.
    Replays,
    /// Nothing dies or hangs by itself, and the log reads back.
    Whole,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RecordedBeforeDone => "recorded before done",
            Self::OneOutcome => "one outcome",
            Self::Recomputes => "recomputes",
            Self::NoSecret => "no secret",
            Self::KnowsWhatWasShown => "knows what was shown",
            Self::ReadBackUntrusted => "read back untrusted",
            Self::OneLine => "one line",
            Self::ChainNarrows => "a chain narrows",
            Self::StaysStopped => "stays stopped",
            Self::ApprovedOnce => "approved once",
            Self::Replays => "replays",
            Self::Whole => "whole",
        })
    }
}

/// What the log says of one execution, folded as far as it was read.
struct Replay {
    started: ExecutionStarted,
    ledger: Ledger,
    /// The allowed calls that had no outcome yet, and the labels of what they return.
    open: BTreeMap<Position, Labels>,
    next: u64,
    /// What allowed calls counted for it: its own, and those of what descends from it.
    own: Vec<Counted>,
    below: Vec<Counted>,
    /// What people answered, in the order of the log.
    answers: Vec<(Position, Answered)>,
}

/// What one allowed call counted for an execution or an agent.
#[derive(Clone)]
struct Counted {
    position: Position,
    at: Timestamp,
    share: Share,
}

impl Counted {
    fn own(position: Position, intent: &Intent) -> Self {
        let Facts { calls, history, grant, .. } = intent.facts.clone();
        let share = Share { agent: intent.agent.clone(), execution: intent.execution, calls, history, grant };
        Self { position, at: intent.at, share }
    }
}

/// The log, folded as far as it was read.
#[derive(Default)]
struct Folded {
    executions: BTreeMap<ExecutionId, Replay>,
    /// What allowed calls counted for each agent, in order.
    allowed: BTreeMap<AgentName, Vec<Counted>>,
    outcomes: BTreeMap<Position, usize>,
    intents: BTreeMap<Position, Intent>,
    revoked: Vec<(Position, ExecutionId)>,
    /// The credentials that were revoked, which ends what was delegated by them.
    tokens: HashSet<String>,
    /// When each agent was quarantined, or released.
    held: Vec<(Position, AgentName, bool)>,
    answers: BTreeMap<Position, Answered>,
}

/// Objects to whatever does not hold.
pub(crate) fn check(world: &World) {
    let entries = world.disk.entries();
    let mut folded = Folded::default();
    let records: Vec<(Position, Record)> = (0..)
        .map(Position)
        .zip(&entries)
        .filter_map(|(position, entry)| match Record::read(entry) {
            Ok(record) => Some((position, record)),
            Err(error) => {
                world.object(Invariant::Whole, format!("record {position} does not read back: {error}"));
                None
            }
        })
        .collect();
    folded.revoked = records
        .iter()
        .filter_map(|(position, record)| match record {
            Record::Revoked(revoked) if matches!(revoked.what, Revocation::Execution(_)) => {
                revoked.execution.map(|execution| (*position, execution))
            }
            _ => None,
        })
        .collect();
    folded.tokens = records
        .iter()
        .filter_map(|(_, record)| match record {
            Record::Revoked(Revoked { what: Revocation::Token(token), .. }) => Some(token.clone()),
            _ => None,
        })
        .collect();
    folded.held = records
        .iter()
        .filter_map(|(position, record)| match record {
            Record::Quarantined(quarantined) => Some((*position, quarantined.agent.clone(), true)),
            Record::Released(released) => Some((*position, released.agent.clone(), false)),
            _ => None,
        })
        .collect();
    for (position, record) in records {
        folded.fold(world, position, record);
    }
    for (position, intent) in &folded.intents {
        let outcomes = folded.outcomes.get(position).copied().unwrap_or(0);
        let expected = usize::from(intent.decision.verdict == Verdict::Allow);
        if outcomes != expected {
            world.object(Invariant::OneOutcome, format!("intent {position} ({}) has {outcomes} outcomes", intent.decision.code.as_str()));
        }
    }
    approved(world, &folded);
    forwarded(world, &folded);
    shown(world, &folded);
    secret(world, &entries);
}

impl Folded {
    fn fold(&mut self, world: &World, position: Position, record: Record) {
        match record {
            Record::ExecutionStarted(started) if started.renewal => {}
            Record::ExecutionStarted(started) => {
                if let Some(by) = started.chain.first() {
                    let Some(parent) = self.executions.get_mut(&by.execution) else {
                        world.object(Invariant::Whole, format!("record {position} is of an execution that nobody could delegate"));
                        return;
                    };
                    parent.extends(world, position, by.sequence);
                    parent.ledger.delegated(by.sequence);
                }
                let (id, ledger, open, answers) = (started.execution, Ledger::default(), BTreeMap::new(), Vec::new());
                self.executions.insert(id, Replay { started, ledger, open, next: 0, own: Vec::new(), below: Vec::new(), answers });
            }
            Record::Intent(intent) => self.intent(world, position, intent),
            Record::Outcome(outcome) => {
                let ends = self.outcomes.entry(outcome.intent).or_default();
                *ends = ends.saturating_add(1);
                let Some(replay) = self.executions.get_mut(&outcome.execution) else { return };
                replay.extends(world, position, outcome.sequence);
                replay.open.remove(&outcome.intent);
                let chain: Vec<_> = replay.started.chain.iter().map(|member| member.execution).collect();
                let was_shown = outcome.code == Ending::Done && world.seen.shows_back(outcome.intent);
                if was_shown && outcome.labels.integrity == Integrity::Trusted {
                    let why = format!("the call of record {} was shown what was written under untrusted influence", outcome.intent);
                    world.object(Invariant::ReadBackUntrusted, format!("{why}, and record {position} calls it trusted"));
                }
                replay.ledger.ended(outcome.sequence, &outcome.labels);
                for above in chain {
                    let Some(above) = self.executions.get_mut(&above) else { continue };
                    above.open.remove(&outcome.intent);
                    above.ledger.learned(&outcome.labels);
                }
            }
            Record::Answered(answered) => {
                self.answers.insert(position, answered.clone());
                if let Some(replay) = self.executions.get_mut(&answered.execution) {
                    replay.answers.push((position, answered));
                }
            }
            _ => {}
        }
    }

    fn intent(&mut self, world: &World, position: Position, intent: Intent) {
        let Some(replay) = self.executions.get_mut(&intent.execution) else {
            world.object(Invariant::Whole, format!("intent {position} is of an execution that never started"));
            return;
        };
        replay.extends(world, position, intent.sequence);
        if let Err(why) = self.recompute(world, position, &intent) {
            world.object(Invariant::Recomputes, format!("intent {position}: {why}"));
        }
        self.narrows(world, position, &intent);
        let Some(replay) = self.executions.get_mut(&intent.execution) else { return };
        if let Some(snapshot) = world.bundles.named(intent.bundle) {
            replay.ledger.took(position, &intent, &snapshot.histories);
        }
        if intent.decision.verdict == Verdict::Allow {
            let mut returns = intent.returns.clone();
            if world.seen.shows_back(position) {
                returns.integrity = Integrity::Untrusted;
            }
            replay.open.insert(position, returns.clone());
            let own = Counted::own(position, &intent);
            replay.own.push(own.clone());
            let mut agents = vec![own];
            for share in &intent.facts.above {
                let counted = Counted { position, at: intent.at, share: share.clone() };
                if let Some(above) = self.executions.get_mut(&share.execution) {
                    above.open.insert(position, returns.clone());
                    above.below.push(counted.clone());
                }
                if agents.iter().all(|known| known.share.agent != share.agent) {
                    agents.push(counted);
                }
            }
            for counted in agents {
                self.allowed.entry(counted.share.agent.clone()).or_default().push(counted);
            }
        }
        self.intents.insert(position, intent);
    }

    /// Looks at what was allowed for others: each of the chain is counted for, and may do it itself.
    fn narrows(&self, world: &World, position: Position, intent: &Intent) {
        if intent.decision.verdict != Verdict::Allow {
            return;
        }
        let Some(replay) = self.executions.get(&intent.execution) else { return };
        let chain = replay.started.chain.iter().map(|member| member.execution);
        if !chain.eq(intent.facts.above.iter().map(|share| share.execution)) {
            world.object(Invariant::ChainNarrows, format!("the call of record {position} did not count for its chain"));
        }
        let (Some(snapshot), Some(text)) = (world.bundles.named(intent.bundle), intent.arguments.as_deref()) else { return };
        let Ok(arguments) = serde_json::from_str::<Value>(text.get()) else { return };
        for share in &intent.facts.above {
            let facts = Facts { calls: share.calls, history: share.history.clone(), above: Vec::new(), ..intent.facts.clone() };
            let ruling = snapshot.policies.decide(&Question {
                agent: &share.agent,
                subject: None,
                task: None,
                chain: &[],
                tool: &intent.tool,
                arguments: &arguments,
                declared: false,
                facts: &facts,
                now: intent.at,
            });
            let may =
                ruling.outcome == RulingOutcome::Permitted || (ruling.outcome == RulingOutcome::Asked && intent.facts.approval.is_some());
            if !may {
                world.object(Invariant::ChainNarrows, format!("record {position} does for {} what it may not: {ruling:?}", share.agent));
            }
        }
        if self.is_held(intent.state, position, &replay.agents()) {
            world.object(Invariant::StaysStopped, format!("record {position} allows what a quarantine forbids"));
        }
    }

    /// Whether one of the agents was certainly quarantined for who had heard of everything before `state` when the record at
    /// `position` was made: nothing released it since.
    fn is_held(&self, state: Position, position: Position, agents: &[&AgentName]) -> bool {
        agents.iter().any(|agent| {
            let mut events = self.held.iter().filter(|(_, of, _)| of == *agent);
            let last = self.held.iter().rev().find(|(at, of, _)| of == *agent && *at < state && *at < position);
            last.is_some_and(|(_, _, held)| *held) && !events.any(|(at, _, held)| !held && *at >= state && *at < position)
        })
    }

    /// What was counted for an agent before `state`.
    fn tracks(&self, agent: &AgentName, histories: &[History], state: Position) -> Tracks {
        let mut tracks = Tracks::default();
        for counted in self.allowed.get(agent).into_iter().flatten().filter(|counted| counted.position < state) {
            tracks.fold(histories, HistoryOf::Agent, &counted.share.history, counted.at);
        }
        tracks
    }
}

impl Replay {
    /// The agents of its chain, its own first.
    fn agents(&self) -> Vec<&AgentName> {
        std::iter::once(&self.started.agent).chain(self.started.chain.iter().map(|member| member.agent.agent())).collect()
    }

    /// Takes the execution's next place.
    fn extends(&mut self, world: &World, position: Position, sequence: u64) {
        if sequence != self.next {
            let why = format!("record {position} extends execution {} from {sequence}, and {} was next", self.started.execution, self.next);
            world.object(Invariant::OneLine, why);
        }
        self.next = sequence.saturating_add(1);
    }
}

impl Folded {
    /// Judges the intent's call again, by what the log says before it.
    fn recompute(&self, world: &World, position: Position, intent: &Intent) -> Result<(), String> {
        let replay = self.executions.get(&intent.execution).ok_or("its execution is not known")?;
        let chain: Vec<&Replay> = replay.started.chain.iter().filter_map(|member| self.executions.get(&member.execution)).collect();
        let snapshot = world.bundles.named(intent.bundle).ok_or("its bundle is not known")?;
        let text = intent.arguments.as_deref().ok_or("its arguments were not kept")?;
        let arguments = Arguments::parse(text, &bailiwick_core::json::Limits::default()).map_err(|error| error.to_string())?;
        let call = Call { tool: intent.tool.clone(), protocol: intent.protocol, method: "tools/call", arguments };

        // What is shown is learned before its outcome is on the log, so the labels lie between those that the log says
        // and those with every open call's on top.
        let (mut least, recorded) = (replay.ledger.labels().clone(), &intent.facts.labels);
        chain.iter().for_each(|above| least.join(above.ledger.labels()));
        let mut most = least.clone();
        std::iter::once(&replay).chain(&chain).flat_map(|one| one.open.values()).for_each(|labels| most.join(labels));
        if !recorded.covers(&least) || !most.covers(recorded) {
            return Err(format!("it was judged by the labels {recorded:?}, which are not between {least:?} and {most:?}"));
        }
        let heard = |counted: &&Counted| counted.position < intent.state;
        let count = |ledger: &mut Ledger, counted: &Counted| ledger.took_below(&counted.share, &snapshot.histories, counted.at);
        let mut ledger = replay.ledger.clone();
        replay.below.iter().filter(heard).for_each(|counted| count(&mut ledger, counted));
        ledger.learned(recorded);
        let (known, later): (Vec<_>, Vec<_>) = replay.answers.iter().partition(|(at, _)| *at < intent.state);
        for (at, answered) in known {
            ledger.answered(*at, answered);
        }

        let tracks = self.tracks(&intent.agent, &snapshot.histories, intent.state);
        let held = HashSet::new();
        // A revocation counts from when the gateway hears of it, which is at the latest when it has read so far.
        let ids: Vec<_> = std::iter::once(&replay).chain(&chain).map(|one| one.started.execution).collect();
        let mut revoked = self.revoked.iter().filter(|(_, execution)| ids.contains(execution));
        let by_token = replay.started.chain.iter().filter_map(|by| by.token.as_ref()).any(|token| self.tokens.contains(token));
        let may_be_stopped = by_token || revoked.clone().next().is_some();
        let must_be_stopped = revoked.any(|(at, _)| *at < intent.state && *at < position);
        let agents = replay.agents();
        // A quarantine is in effect before it is on the log, and also where it could not be put there.
        let may_be_held = world.plan.delegates;
        let must_be_held = self.is_held(intent.state, position, &agents);
        let stops = [(false, false), (false, true), (true, false)].into_iter();
        let stops = stops.filter(|(revoked, held)| {
            let is_free = !revoked && !held;
            (!revoked || may_be_stopped) && (!held || may_be_held) && (*revoked || !must_be_stopped) && !(is_free && must_be_held)
        });
        // So does what a person answered: of the answers that came since, the first few were heard of.
        let answered = (0..=later.len()).map(|heard| {
            let mut ledger = ledger.clone();
            for (at, answered) in later.iter().take(heard) {
                ledger.answered(*at, answered);
            }
            ledger
        });
        let ways: Vec<_> = stops.flat_map(|stopped| answered.clone().map(move |ledger| (stopped, ledger))).collect();
        let mut why = String::new();
        for ((revoked, is_held), ledger) in ways {
            let executions = Executions::default();
            for above in chain.iter().rev() {
                let execution = executions.started(above.started.clone());
                above.own.iter().chain(&above.below).filter(heard).for_each(|counted| count(&mut execution.ledger(), counted));
                *execution.agent_tracks() = self.tracks(&above.started.agent, &snapshot.histories, intent.state);
            }
            let execution = executions.started(replay.started.clone());
            if let Some(under) = intent.facts.caution.as_deref().cloned() {
                let (at, by, reason) = (intent.at, String::new(), String::new());
                let (agent, caution, finding) = (under.agent, under.caution, under.finding);
                executions.caution(Cautioned { at, agent, caution, since: at, by, reason, finding });
            }
            if revoked {
                execution.stop();
            }
            if is_held {
                let (at, agent) = (intent.at, intent.agent.clone());
                executions.quarantine(Quarantined { at, agent, since: at, by: String::new(), reason: String::new(), finding: None });
            }
            let above = above(snapshot, &execution, &call, intent.at);
            let known = Known {
                snapshot,
                held: &held,
                sources: Sources::Recorded { traced: &intent.facts.traced, carried: &intent.facts.carried },
                remembers: !intent.facts.unremembered,
                behavior: intent.facts.behavior.as_ref(),
                above: &above,
            };
            let judged = judge(known, &execution, &ledger, &tracks, &call, intent.at);
            if judged.decision == intent.decision && judged.facts == intent.facts && judged.effect == intent.effect {
                return Ok(());
            }
            why =
                format!("it was {:?} by {:?}, and is {:?} by {:?}", intent.decision.code, intent.facts, judged.decision.code, judged.facts);
        }
        Err(why)
    }
}

/// Every approval that was used is one.
fn approved(world: &World, folded: &Folded) {
    let mut used = HashSet::new();
    for (position, intent) in &folded.intents {
        let Some(Standing::Approved { ask, answer }) = &intent.facts.approval else { continue };
        let given = folded.answers.get(answer).filter(|given| {
            (given.approved, given.ask, given.execution) == (true, *ask, intent.execution) && given.until > intent.at && answer < position
        });
        let asked =
            folded.intents.get(ask).filter(|asked| (&asked.tool, asked.arguments_digest) == (&intent.tool, intent.arguments_digest));
        if given.is_none() || asked.is_none() {
            world.object(Invariant::ApprovedOnce, format!("intent {position} used record {answer}, which does not approve it"));
        }
        if !used.insert(*ask) {
            world.object(Invariant::ApprovedOnce, format!("intent {position} used what record {ask} asked a second time"));
        }
    }
}

/// Everything that reached a tool server was allowed to.
fn forwarded(world: &World, folded: &Folded) {
    let mut done = HashSet::new();
    for call in world.seen.forwarded() {
        if !call.had_key {
            world.object(Invariant::Whole, format!("record {} was forwarded without the server's key", call.position));
        }
        if call.effect == Effect::Read {
            continue; // its intent has a place in the log, and a crash may take both
        }
        let is_allowed = folded.intents.get(&call.position).is_some_and(|intent| intent.decision.verdict == Verdict::Allow);
        if !call.was_durable || !is_allowed {
            world.object(Invariant::RecordedBeforeDone, format!("record {} was not on disk when its call was forwarded", call.position));
        }
        if !done.insert(call.position) {
            world.object(Invariant::RecordedBeforeDone, format!("the call of record {} was forwarded twice", call.position));
        }
    }
}

/// Every call was judged by a ledger that holds what its client had been shown when it sent the call.
fn shown(world: &World, folded: &Folded) {
    let sent: BTreeMap<_, _> = world.sent().into_iter().map(|sent| (sent.number, sent)).collect();
    for (position, intent) in &folded.intents {
        let arguments: Option<Value> = intent.arguments.as_deref().and_then(|text| serde_json::from_str(text.get()).ok());
        let number = arguments.as_ref().and_then(|arguments| arguments.get("n")).and_then(Value::as_u64);
        let Some(sent) = number.and_then(|number| sent.get(&number)) else { continue };
        if sent.execution == intent.execution && !intent.facts.labels.covers(&sent.shown) {
            let why = format!("intent {position} was judged by {:?} after its agent had been shown {:?}", intent.facts.labels, sent.shown);
            world.object(Invariant::KnowsWhatWasShown, why);
        }
    }
}

/// The canary is nowhere.
fn secret(world: &World, entries: &[Vec<u8>]) {
    let has = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    if let Some(position) = entries.iter().position(|entry| has(entry)) {
        world.object(Invariant::NoSecret, format!("record {position} holds the secret"));
    }
    if world.replies().iter().any(|reply| has(reply.as_bytes())) {
        world.object(Invariant::NoSecret, "a reply holds the secret".to_owned());
    }
    if has(&world.lines.taken()) {
        world.object(Invariant::NoSecret, "a log line holds the secret".to_owned());
    }
}
