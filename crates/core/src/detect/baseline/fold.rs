//! The baselines: a view of the log, folded from its records in order.
//!
//! An execution is learned once nothing was heard of it for half an hour, as a whole or not at all: never one in which anything was
//! denied or refused, that was revoked or quarantined, or in which something was found.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::behavior::{Band, Behavior, Reason, Signal};
use super::budget::{Budget, Realised};
use super::facet::{Facets, fingerprint};
use super::oddity::{Doubt, Moment, Oddity};
use super::order::ToolId;
use super::rate::{Rate, WINDOW_S};
use super::role::{Channel, Heard, Observed, Overlay, Role};
use super::slot::{Principal, Support};
use crate::flow::{Said, Sources, said_by};
use crate::model::{
    AgentName, Answered, Call, Effect, Ending, ExecutionId, ExecutionStarted, Intent, Outcome, Record, Refused, Revocation, Verdict,
};

/// How long nothing is heard of an execution before it is learned, in seconds.
const SETTLED_AFTER_S: i64 = 30 * 60;

/// The most calls of an execution that is learned.
const CALLS_MAX: usize = 256;

/// The most executions that are watched at once, and the most bytes that is kept of them. Beyond that an execution is not learned.
const RUNS_MAX: usize = 100_000;
const RUNS_BYTES_MAX: usize = 64 << 20;

/// The most agents and roles; those beyond have no baseline, so nothing is said of them.
const AGENTS_MAX: usize = 100_000;
const ROLES_MAX: usize = 4_096;

/// The most calls of one execution that a person is asked about and that may still be learned.
const ASKS_MAX: usize = 16;

/// How many daily snapshots are kept.
const SNAPSHOTS: usize = 7;

const DAY_S: i64 = 24 * 3600;

/// From which gap on an agent is dormant, whatever is usual, in seconds.
const DORMANT_FROM_S: i64 = 14 * DAY_S;

/// What is usual of denials, which are never learned: one in five windows.
const DENIALS: Rate = Rate::of(1.0, 5.0);

/// Those who are compared with one another: the agents of a tenant that are in a role. The log of a trust domain is of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Peers(Arc<str>);

impl Peers {
    /// The peers in these roles; an agent without a role has no peer.
    pub fn new(tenant: &str, roles: &BTreeSet<String>, agent: &AgentName) -> Self {
        if roles.is_empty() {
            return Self(format!("{tenant}/agent:{agent}").into());
        }
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        Self(format!("{tenant}/{}", roles.join("+")).into())
    }

    /// The tenant and the roles, as they are shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One execution that is watched.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    agent: AgentName,
    /// On whose behalf, where that is somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Arc<str>>,
    peers: Peers,
    principal: Principal,
    before: ToolId,
    calls: Vec<Heard>,
    maxima: [f32; Channel::ALL.len()],
    alerted: [bool; Channel::ALL.len()],
    /// Whether anything happened for which it is not learned.
    is_barred: bool,
    /// Calls that a person was asked about and that nobody has answered.
    asks: Vec<(Position, Arc<str>, Facets)>,
    children: u32,
    last_s: i64,
}

/// What one agent does in a window of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    number: i64,
    calls: u32,
    denials: u32,
    failures: u32,
    tools: u64,
    out: u64,
    read: u64,
    is_barred: bool,
}

/// What is kept of one agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Watched {
    peers: Peers,
    overlay: Arc<Overlay>,
    window: Window,
}

/// What was learned by the end of a day.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Snapshot {
    /// Days since 1970.
    day: i64,
    roles: BTreeMap<Peers, Arc<Role>>,
    overlays: BTreeMap<AgentName, (Peers, Arc<Overlay>)>,
}

/// The baselines of all roles and agents of one log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Baselines {
    tenant: String,
    budget: Budget,
    /// Whom the bundle gives each agent as peers.
    members: BTreeMap<AgentName, Peers>,
    roles: BTreeMap<Peers, Arc<Role>>,
    agents: BTreeMap<AgentName, Watched>,
    #[serde(with = "by_id")]
    runs: HashMap<ExecutionId, Run>,
    runs_bytes: usize,
    /// When each execution was last heard of, as far as was looked.
    quiet: VecDeque<(i64, ExecutionId)>,
    snapshots: VecDeque<Snapshot>,
    day: Option<i64>,
    next: Position,
    #[serde(skip)]
    scratch: Facets,
}

impl Baselines {
    /// Nothing learned, for the log of this tenant.
    pub fn new(tenant: &str, budget: Budget) -> Self {
        Self { tenant: tenant.to_owned(), budget, ..Self::default() }
    }

    /// Goes on with the roles that a bundle gives its agents.
    pub fn set_members(&mut self, members: BTreeMap<AgentName, BTreeSet<String>>) {
        let peers = |(agent, roles): (AgentName, BTreeSet<String>)| (agent.clone(), Peers::new(&self.tenant, &roles, &agent));
        self.members = members.into_iter().map(peers).collect();
    }

    /// Goes on with another budget.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// How many false alerts the operator can bear.
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// The record that is folded next.
    pub const fn next(&self) -> Position {
        self.next
    }

    /// Whom an agent is compared with.
    pub fn peers(&self, agent: &AgentName) -> Peers {
        let alone = || Peers::new(&self.tenant, &BTreeSet::new(), agent);
        self.members.get(agent).cloned().unwrap_or_else(alone)
    }

    /// What was learned of the agents in a role.
    pub fn role(&self, peers: &Peers) -> Option<&Role> {
        self.roles.get(peers).map(|role| &**role)
    }

    /// Every role of which anything was learned.
    pub fn roles(&self) -> impl Iterator<Item = (&Peers, &Role)> {
        self.roles.iter().map(|(peers, role)| (peers, &**role))
    }

    /// What was learned of one agent beside its role.
    pub fn overlay(&self, agent: &AgentName) -> Option<&Overlay> {
        self.agents.get(agent).map(|watched| &*watched.overlay)
    }

    /// The alerts that there were, over all roles, on one channel.
    pub fn realised(&self, channel: Channel) -> Realised {
        self.roles.values().map(|role| role.realised(channel)).fold(Realised::default(), |sum, one| Realised {
            executions: sum.executions.saturating_add(one.executions),
            alerts: sum.alerts.saturating_add(one.alerts),
        })
    }

    /// What is said of a call of an execution before it is decided. `sources` is what the execution was shown.
    pub fn judge(&self, agent: &AgentName, execution: ExecutionId, effect: Effect, call: &Call, sources: Sources<'_>) -> Behavior {
        let acts = effect != Effect::Read;
        let chosen = |said: Said<'_>| if acts { said_by(said, sources).map(Into::into).unwrap_or_default() } else { Default::default() };
        let facets = Facets::of(call.arguments.value(), chosen);
        let peers = self.peers(agent);
        let Some(role) = self.roles.get(&peers) else {
            return Behavior { from_results: facets.from_results(), ..Behavior::default() };
        };
        let before = self.runs.get(&execution).map_or(ToolId::BEGINNING, |run| run.before);
        let overlay = self.overlay_in(agent, &peers);
        role.judge(overlay, before, Observed { tool: call.tool.as_str(), acts, facets: &facets }, self.budget)
    }

    fn overlay_in(&self, agent: &AgentName, peers: &Peers) -> Option<&Overlay> {
        self.agents.get(agent).filter(|watched| watched.peers == *peers).map(|watched| &*watched.overlay)
    }

    /// Folds in the record at `position`. What was folded before changes nothing. Says what is unlike what is usual.
    pub fn fold(&mut self, position: Position, record: &Record) -> Vec<Oddity> {
        if position < self.next {
            return Vec::new();
        }
        self.next = Position(position.0.saturating_add(1));
        let at_s = record.at().as_second();
        self.settle(at_s);
        match record {
            Record::ExecutionStarted(started) => self.started(position, started, at_s),
            Record::Intent(intent) => self.intended(position, intent, at_s),
            Record::Outcome(outcome) => self.ended(position, outcome, at_s),
            Record::Refused(refused) => self.refused(position, refused, at_s),
            Record::Answered(answered) => {
                self.answered(answered);
                Vec::new()
            }
            Record::Revoked(revoked) => {
                // Where one credential is replaced, or somebody is logged out, nothing is said of what was done.
                if let Revocation::Execution(execution) = &revoked.what {
                    self.found(*execution);
                }
                Vec::new()
            }
            Record::Finding(found) => {
                if let Some(execution) = found.execution {
                    self.found(execution);
                }
                Vec::new()
            }
            Record::Quarantined(quarantined) => {
                self.runs.values_mut().filter(|run| run.agent == quarantined.agent).for_each(|run| run.is_barred = true);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Something was found in the execution: it is not learned.
    pub fn found(&mut self, execution: ExecutionId) {
        if let Some(run) = self.runs.get_mut(&execution) {
            run.is_barred = true;
        }
    }

    /// Goes back to what was learned by the end of a day, in seconds since 1970, of one role or of all. Says whether there is such a
    /// snapshot. Executions under way are not learned any more.
    pub fn roll_back(&mut self, peers: Option<&Peers>, before_s: i64) -> bool {
        let before = before_s.div_euclid(DAY_S);
        let Some(snapshot) = self.snapshots.iter().rev().find(|snapshot| snapshot.day < before) else { return false };
        let is_meant = |of: &Peers| peers.is_none_or(|peers| peers == of);
        self.roles.retain(|of, _| !is_meant(of));
        self.roles.extend(snapshot.roles.iter().filter(|(of, _)| is_meant(of)).map(|(of, role)| (of.clone(), Arc::clone(role))));
        for (agent, watched) in &mut self.agents {
            if is_meant(&watched.peers) {
                let kept = snapshot.overlays.get(agent).filter(|(peers, _)| *peers == watched.peers);
                watched.overlay = kept.map(|(_, overlay)| Arc::clone(overlay)).unwrap_or_default();
            }
        }
        self.runs.values_mut().filter(|run| is_meant(&run.peers)).for_each(|run| run.is_barred = true);
        self.snapshots.retain(|snapshot| snapshot.day < before);
        true
    }

    /// The days, since 1970, of which there is a snapshot.
    pub fn snapshots(&self) -> impl Iterator<Item = i64> {
        self.snapshots.iter().map(|snapshot| snapshot.day)
    }

    /// Learns what has settled by now, and keeps a snapshot when a day has ended.
    fn settle(&mut self, at_s: i64) {
        let day = at_s.div_euclid(DAY_S);
        if self.day.is_some_and(|before| day > before) {
            self.keep_snapshot();
        }
        // A clock that is set back ends no day again.
        self.day = Some(self.day.map_or(day, |before| before.max(day)));
        while let Some((heard_s, execution)) = self.quiet.front().copied() {
            if at_s.saturating_sub(heard_s) < SETTLED_AFTER_S {
                break;
            }
            self.quiet.pop_front();
            let Some(run) = self.runs.get(&execution) else { continue };
            if at_s.saturating_sub(run.last_s) < SETTLED_AFTER_S {
                self.quiet.push_back((run.last_s, execution));
                continue;
            }
            if let Some(run) = self.runs.remove(&execution) {
                self.runs_bytes = self.runs_bytes.saturating_sub(run.calls.iter().map(Heard::bytes).sum());
                self.learn(&run);
            }
        }
    }

    /// Learns all that is under way as if it had settled: for whoever has no more records.
    pub fn finish(&mut self) {
        let mut runs: Vec<(ExecutionId, Run)> = std::mem::take(&mut self.runs).into_iter().collect();
        runs.sort_unstable_by_key(|(id, run)| (run.last_s, *id));
        self.quiet.clear();
        self.runs_bytes = 0;
        runs.iter().for_each(|(_, run)| self.learn(run));
    }

    fn keep_snapshot(&mut self) {
        let Some(day) = self.day else { return };
        let overlays = self.agents.iter().map(|(agent, watched)| (agent.clone(), (watched.peers.clone(), Arc::clone(&watched.overlay))));
        let snapshot = Snapshot { day, roles: self.roles.clone(), overlays: overlays.collect() };
        if self.snapshots.len() >= SNAPSHOTS {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back(snapshot);
    }

    fn learn(&mut self, run: &Run) {
        let Some(role) = self.roles.get_mut(&run.peers) else { return };
        let Some(watched) = self.agents.get_mut(&run.agent).filter(|watched| watched.peers == run.peers) else { return };
        let role = Arc::make_mut(role);
        if role.is_enough() {
            for (channel, alerted) in Channel::ALL.into_iter().zip(run.alerted) {
                role.calibration_mut(channel).judged(alerted);
            }
        }
        let is_in_order = !run.is_barred && run.asks.is_empty() && !run.alerted.contains(&true);
        if !is_in_order || !role.may_learn_from(run.principal) {
            return;
        }
        role.rates.children.learn(run.children as f32, run.last_s);
        role.learn(Arc::make_mut(&mut watched.overlay), run.principal, run.last_s, &run.calls, run.maxima);
    }

    fn started(&mut self, position: Position, started: &ExecutionStarted, at_s: i64) -> Vec<Oddity> {
        if started.renewal {
            if let Some(run) = self.runs.get_mut(&started.execution) {
                run.last_s = run.last_s.max(at_s);
            }
            return Vec::new();
        }
        let peers = self.peers(&started.agent);
        let principal = started.subject.as_deref().unwrap_or(started.agent.as_str());
        self.watch(&started.agent, &peers);
        if self.runs.len() < RUNS_MAX && !self.runs.contains_key(&started.execution) {
            let run = Run {
                agent: started.agent.clone(),
                subject: started.subject.as_deref().map(Arc::from),
                peers: peers.clone(),
                principal: Principal((fingerprint(principal) >> 32) as u32),
                before: ToolId::BEGINNING,
                calls: Vec::new(),
                maxima: Default::default(),
                alerted: Default::default(),
                is_barred: false,
                asks: Vec::new(),
                children: 0,
                last_s: at_s,
            };
            self.runs.insert(started.execution, run);
            self.quiet.push_back((at_s, started.execution));
        }
        let mut odd = Vec::new();
        if let Some(by) = started.chain.first() {
            let moment = Moment::of(position, started.at, by.execution);
            odd.extend(self.delegated(moment, started, by.agent.agent(), by.execution, at_s));
        }
        odd
    }

    /// An execution was begun by another, of the agent `by`.
    fn delegated(
        &mut self,
        moment: Moment<'_>,
        started: &ExecutionStarted,
        by: &AgentName,
        execution: ExecutionId,
        at_s: i64,
    ) -> Vec<Oddity> {
        let (of, to) = (self.peers(by), self.peers(&started.agent));
        let mut odd = Vec::new();
        let Some(role) = self.roles.get_mut(&of) else { return odd };
        let role = Arc::make_mut(role);
        let edge = fingerprint(to.as_str());
        let novelty = role.peers.novelty(edge);
        let Some(run) = self.runs.get_mut(&execution) else { return odd };
        let because = Doubt(novelty.surprise, || Reason {
            signal: Signal::NewEdge,
            surprise: novelty.surprise,
            seen: format!("`{by}` delegated to `{}`", started.agent),
            expected: format!(
                "of {} delegations in its role {:.1} % were to a role not delegated to before",
                novelty.taken,
                novelty.new * 100.0
            ),
        });
        odd.extend(run.doubt(role, self.budget, moment, Channel::Standing, because));
        if !run.is_barred {
            let principal = run.principal;
            role.peers.learn(edge, super::facet::Chosen::Unjudged, Support { principal, at_s, may_repeat: true });
        }
        run.children = run.children.saturating_add(1);
        run.last_s = run.last_s.max(at_s);
        let surprise = role.rates.children.surprise(run.children as f32, 1.0);
        let children = run.children;
        let because = Doubt(surprise, || Reason {
            signal: Signal::FanOut,
            surprise,
            seen: format!("one execution of `{by}` delegated {children} times"),
            expected: format!("{:.1} times is usual in its role", role.rates.children.mean()),
        });
        odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        odd
    }

    fn intended(&mut self, position: Position, intent: &Intent, at_s: i64) -> Vec<Oddity> {
        let peers = self.peers(&intent.agent);
        self.watch(&intent.agent, &peers);
        self.roll_window(&intent.agent, at_s);
        let mut odd = Vec::new();
        let (Some(watched), Some(role)) = (self.agents.get_mut(&intent.agent), self.roles.get(&peers)) else { return odd };
        let run = self.runs.get_mut(&intent.execution).filter(|run| run.agent == intent.agent);
        let is_confidential = !intent.facts.labels.confidentiality.is_empty();
        let moment = Moment {
            tool: Some(&intent.tool),
            effect: Some(intent.effect),
            is_confidential,
            ..Moment::of(position, intent.at, intent.execution)
        };
        if intent.decision.verdict == Verdict::Deny {
            watched.window.denials = watched.window.denials.saturating_add(1);
            watched.window.is_barred = true;
            let Some(run) = run else { return odd };
            run.is_barred = true;
            let denials = watched.window.denials;
            odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, of_denials(&intent.agent, denials)));
            return odd;
        }
        let Some(run) = run else { return odd };
        run.last_s = run.last_s.max(at_s);
        let acts = intent.effect != Effect::Read;
        let facets = &mut self.scratch;
        facets.clear();
        if let Some(arguments) = &intent.arguments {
            facets.read(&mut serde_json::Deserializer::from_str(arguments.get()), &mut |_| Default::default());
            if let Some(behavior) = intent.facts.behavior.as_ref().filter(|_| acts) {
                facets.set_from_results(&behavior.from_results);
            }
        }
        let tool = intent.tool.as_str();
        let overlay = (watched.peers == peers).then_some(&*watched.overlay);
        if acts {
            let call = Observed { tool, acts, facets };
            let score = role.score(overlay, run.before, call);
            let before = run.before;
            let says = || role.judge(overlay, before, call, self.budget).because;
            odd.extend(run.score(role, self.budget, moment, Channel::Call, score, says));
            let dormant_s = watched.overlay.last_s.map_or(0, |last_s| at_s.saturating_sub(last_s));
            let surprise = watched.overlay.rates.gaps.surprise(dormant_s);
            let is_dormant = dormant_s >= DORMANT_FROM_S;
            let because = Doubt(if is_dormant { surprise } else { 0.0 }, || Reason {
                signal: Signal::Dormancy,
                surprise,
                seen: format!("`{}` did nothing for {} days, and now has an effect", intent.agent, dormant_s / DAY_S),
                expected: format!("{:.1} hours between executions are usual for it", watched.overlay.rates.gaps.usual_hours()),
            });
            odd.extend(run.doubt(role, self.budget, moment, Channel::Standing, because));
        }
        if intent.decision.verdict == Verdict::Ask {
            if run.asks.len() < ASKS_MAX {
                run.asks.push((position, Arc::from(tool), facets.clone()));
            }
            run.is_barred |= run.asks.len() >= ASKS_MAX;
            return odd;
        }
        run.before = role.after(tool);
        if run.calls.len() < CALLS_MAX && self.runs_bytes < RUNS_BYTES_MAX {
            let heard = Heard { tool: Arc::from(tool), acts, facets: facets.clone() };
            self.runs_bytes = self.runs_bytes.saturating_add(heard.bytes());
            run.calls.push(heard);
        } else {
            run.is_barred = true;
        }
        let window = &mut watched.window;
        window.calls = window.calls.saturating_add(1);
        window.tools |= 1 << (fingerprint(tool) % 64);
        if intent.effect >= Effect::Send {
            let bytes = intent.arguments.as_ref().map_or(0, |arguments| arguments.get().len());
            window.out = window.out.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        let (usual, peers_usual) = (&watched.overlay.rates, &role.rates);
        let factor = watched.overlay.hours.factor(at_s);
        let calls = usual.calls.with_prior(&peers_usual.calls);
        let because = of_rate(Signal::Calls, "calls", &intent.agent, window.calls, calls, factor);
        odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        let tools = usual.tools.with_prior(&peers_usual.tools);
        let because = of_rate(Signal::Tools, "different tools", &intent.agent, window.tools.count_ones(), tools, 1.0);
        odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        if intent.effect >= Effect::Send {
            let out = usual.out.with_prior(&peers_usual.out);
            let because = of_volume(Signal::BytesOut, "sent", &intent.agent, window.out, out);
            odd.extend(run.doubt(role, self.budget, moment, Channel::Volume, because));
        }
        odd
    }

    fn ended(&mut self, position: Position, outcome: &Outcome, at_s: i64) -> Vec<Oddity> {
        self.roll_window(&outcome.agent, at_s);
        let mut odd = Vec::new();
        let Some(watched) = self.agents.get_mut(&outcome.agent) else { return odd };
        let Some(role) = self.roles.get(&watched.peers) else { return odd };
        let Some(run) = self.runs.get_mut(&outcome.execution).filter(|run| run.agent == outcome.agent) else { return odd };
        run.last_s = run.last_s.max(at_s);
        let moment = Moment { tool: Some(&outcome.tool), ..Moment::of(position, outcome.at, outcome.execution) };
        let window = &mut watched.window;
        window.read = window.read.saturating_add(outcome.bytes);
        let read = watched.overlay.rates.read.with_prior(&role.rates.read);
        let because = of_volume(Signal::BytesIn, "read", &outcome.agent, window.read, read);
        odd.extend(run.doubt(role, self.budget, moment, Channel::Volume, because));
        if outcome.code == Ending::Failed {
            window.failures = window.failures.saturating_add(1);
            let failures = watched.overlay.rates.failures.with_prior(&role.rates.failures);
            let because = of_rate(Signal::Failures, "failures", &outcome.agent, window.failures, failures, 1.0);
            odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        }
        odd
    }

    fn refused(&mut self, position: Position, refused: &Refused, at_s: i64) -> Vec<Oddity> {
        let Some(agent) = &refused.agent else { return Vec::new() };
        self.roll_window(agent, at_s);
        let Some(watched) = self.agents.get_mut(agent) else { return Vec::new() };
        watched.window.denials = watched.window.denials.saturating_add(1);
        watched.window.is_barred = true;
        let Some(execution) = refused.execution else { return Vec::new() };
        let (Some(role), Some(run)) = (self.roles.get(&watched.peers), self.runs.get_mut(&execution)) else { return Vec::new() };
        run.is_barred = true;
        let moment = Moment::of(position, refused.at, execution);
        run.doubt(role, self.budget, moment, Channel::Rate, of_denials(agent, watched.window.denials)).into_iter().collect()
    }

    fn answered(&mut self, answered: &Answered) {
        let Some(run) = self.runs.get_mut(&answered.execution) else { return };
        let Some(place) = run.asks.iter().position(|(ask, ..)| *ask == answered.ask) else { return };
        let (_, tool, facets) = run.asks.remove(place);
        run.is_barred |= !answered.approved;
        // What a person approved is known in the agent's role from now on.
        if let Some(role) = self.roles.get_mut(&run.peers).filter(|_| answered.approved) {
            Arc::make_mut(role).approve(&tool, &facets, answered.at.as_second());
        }
    }

    fn watch(&mut self, agent: &AgentName, peers: &Peers) {
        if !self.roles.contains_key(peers) && self.roles.len() < ROLES_MAX {
            self.roles.insert(peers.clone(), Arc::default());
        }
        let is_full = self.agents.len() >= AGENTS_MAX;
        match self.agents.get_mut(agent) {
            Some(watched) if watched.peers == *peers => {}
            // In another role it begins anew.
            Some(watched) => *watched = Watched { peers: peers.clone(), overlay: Arc::default(), window: Window::default() },
            None if is_full => {}
            None => {
                let watched = Watched { peers: peers.clone(), overlay: Arc::default(), window: Window::default() };
                self.agents.insert(agent.clone(), watched);
            }
        }
    }

    /// Begins a new window where the agent's last has ended, and learns that if it was in order.
    fn roll_window(&mut self, agent: &AgentName, at_s: i64) {
        let Some(watched) = self.agents.get_mut(agent) else { return };
        let number = at_s.div_euclid(WINDOW_S);
        if number <= watched.window.number {
            return;
        }
        let ended = std::mem::replace(&mut watched.window, Window { number, ..Window::default() });
        let ended_s = ended.number.saturating_mul(WINDOW_S);
        if ended.calls == 0 {
            return;
        }
        let overlay = Arc::make_mut(&mut watched.overlay);
        if let Some(last_s) = overlay.last_s.filter(|_| !ended.is_barred) {
            overlay.rates.gaps.learn(ended_s.saturating_sub(last_s));
        }
        overlay.last_s = Some(ended_s);
        if ended.is_barred {
            return;
        }
        let Some(role) = self.roles.get_mut(&watched.peers) else { return };
        for rates in [&mut overlay.rates, &mut Arc::make_mut(role).rates] {
            rates.calls.learn(ended.calls as f32, ended_s);
            rates.tools.learn(ended.tools.count_ones() as f32, ended_s);
            rates.failures.learn(ended.failures as f32, ended_s);
            rates.read.learn(ended.read, ended_s);
            if ended.out > 0 {
                rates.out.learn(ended.out, ended_s);
            }
        }
        overlay.hours.learn(ended_s);
    }
}

/// What is said of denials.
fn of_denials(agent: &AgentName, denials: u32) -> Doubt<impl FnOnce() -> Reason> {
    of_rate(Signal::Denials, "denials", agent, denials, DENIALS, 1.0)
}

/// What is said of a count in the window.
fn of_rate<'a>(
    signal: Signal,
    what: &'a str,
    agent: &'a AgentName,
    count: u32,
    usual: Rate,
    factor: f32,
) -> Doubt<impl FnOnce() -> Reason + 'a> {
    let surprise = usual.surprise(count as f32, factor);
    Doubt(surprise, move || Reason {
        signal,
        surprise,
        seen: format!("`{agent}` has {count} {what} in five minutes"),
        expected: format!("{:.1} are usual", usual.mean() * factor),
    })
}

/// What is said of bytes in the window.
fn of_volume<'a>(
    signal: Signal,
    what: &'a str,
    agent: &'a AgentName,
    bytes: u64,
    usual: super::rate::Volume,
) -> Doubt<impl FnOnce() -> Reason + 'a> {
    let surprise = usual.surprise(bytes);
    Doubt(surprise, move || Reason {
        signal,
        surprise,
        seen: format!("`{agent}` {what} {bytes} bytes in five minutes"),
        expected: format!("{:.0} are usual", usual.usual()),
    })
}

impl Run {
    /// Notes a doubt, and says whether it is strange.
    fn doubt(
        &mut self,
        role: &Role,
        budget: Budget,
        moment: Moment<'_>,
        channel: Channel,
        doubt: Doubt<impl FnOnce() -> Reason>,
    ) -> Option<Oddity> {
        let Doubt(score, because) = doubt;
        if score > 0.0 { self.score(role, budget, moment, channel, score, || vec![because()]) } else { None }
    }

    /// Notes a score, and says whether it is strange: once for each channel of an execution.
    fn score(
        &mut self,
        role: &Role,
        budget: Budget,
        moment: Moment<'_>,
        channel: Channel,
        score: f32,
        because: impl FnOnce() -> Vec<Reason>,
    ) -> Option<Oddity> {
        let place = channel as usize;
        let most = self.maxima.get_mut(place)?;
        *most = most.max(score);
        let alerted = self.alerted.get_mut(place)?;
        if *alerted || role.band(channel, score, budget) != Band::Strange {
            return None;
        }
        let because = because();
        if because.is_empty() {
            return None;
        }
        *alerted = true;
        Some(Oddity {
            record: moment.record,
            at: moment.at,
            agent: self.agent.clone(),
            execution: moment.execution,
            subject: self.subject.clone(),
            tool: moment.tool.cloned(),
            effect: moment.effect,
            is_confidential: moment.is_confidential,
            peers: self.peers.clone(),
            channel,
            score,
            share: role.share_beyond(channel, score).unwrap_or(1.0),
            because,
        })
    }
}

/// Executions are kept in the order of their ids.
mod by_id {
    use std::collections::{BTreeMap, HashMap};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ExecutionId, Run};

    pub(super) fn serialize<S: Serializer>(runs: &HashMap<ExecutionId, Run>, serializer: S) -> Result<S::Ok, S::Error> {
        runs.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashMap<ExecutionId, Run>, D::Error> {
        HashMap::deserialize(deserializer)
    }
}
