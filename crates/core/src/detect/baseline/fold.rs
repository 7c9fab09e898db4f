//! The baselines: a view of the log, folded from its records in order.
//!
//! An execution is learned once nothing was heard of it for half an hour, as a whole or not at all: never one in which anything was
//! denied or refused, that was revoked or quarantined, or in which something was found.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bailiwick_log::Position;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::behavior::{Band, Behavior, Reason, Signal};
use super::budget::{Budget, Realised};
use super::facet::{Facets, Kind, fingerprint};
use super::oddity::{Doubt, Moment, Oddity};
use super::order::ToolId;
use super::rate::{Rate, WINDOW_S};
use super::reach::Odds;
use super::role::{Channel, Heard, Observed, Overlay, Role};
use super::slot::{Principal, Support};
use super::window::{Window, destroys};
use crate::flow::{Said, Sources, said_by};
use crate::model::{
    AgentName, Answered, Call, Digest, Effect, Ending, ExecutionId, ExecutionStarted, Intent, Outcome, Record, Refused, Revocation,
    Settled, Settlement, Verdict,
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

/// Of how many findings it is known by what they were raised, for when a person says what they are.
const RAISED_MAX: usize = 1_024;

/// How many daily snapshots are kept.
const SNAPSHOTS: usize = 7;

const DAY_S: i64 = 24 * 3600;

/// From which gap on an agent is dormant, whatever is usual, in seconds.
const DORMANT_FROM_S: i64 = 14 * DAY_S;

/// From which surprise on: a gap of which there is one in ten thousand.
const DORMANT_SURPRISE: f32 = 9.2;

/// The share of an agent's windows below which an hour of the week is none of its own, and how long it has to be known for that.
const OFF_HOURS_SHARE: f32 = 0.001;
const OFF_HOURS_AFTER_S: i64 = 14 * DAY_S;

/// Fewer bytes in a window are no volume, however few are usual.
const BYTES_LEAST: u64 = 4 << 10;

/// The most networks of one execution that are learned.
const SOURCES_MAX: usize = 8;

/// The most destinations of one call.
const DESTINATIONS_MAX: usize = 8;

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
    /// Whether it was begun for somebody, and by no other agent.
    is_by_person: bool,
    /// The networks that its calls came from.
    sources: Vec<u64>,
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

/// What is kept of one agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Watched {
    peers: Peers,
    overlay: Arc<Overlay>,
    window: Window,
    odds: Odds,
}

impl Watched {
    fn new(peers: Peers) -> Self {
        Self { peers, overlay: Arc::default(), window: Window::default(), odds: Odds::default() }
    }
}

/// What was learned by the end of a day.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Snapshot {
    /// Days since 1970.
    day: i64,
    roles: BTreeMap<Peers, Arc<Role>>,
    overlays: BTreeMap<AgentName, (Peers, Arc<Overlay>)>,
}

impl Snapshot {
    /// Puts the roles that are meant into the place of others.
    fn put_back(&self, roles: &mut BTreeMap<Peers, Arc<Role>>, is_meant: impl Fn(&Peers) -> bool) {
        roles.retain(|of, _| !is_meant(of));
        roles.extend(self.roles.iter().filter(|(of, _)| is_meant(of)).map(|(of, role)| (of.clone(), Arc::clone(role))));
    }
}

/// The baselines of all roles and agents of one log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Baselines {
    tenant: String,
    budget: Budget,
    /// Whom the bundle gives each agent as peers.
    #[serde(with = "in_order")]
    members: HashMap<AgentName, Peers>,
    roles: BTreeMap<Peers, Arc<Role>>,
    #[serde(with = "in_order")]
    agents: HashMap<AgentName, Watched>,
    #[serde(with = "in_order")]
    runs: HashMap<ExecutionId, Run>,
    runs_bytes: usize,
    /// When each execution was last heard of, as far as was looked.
    quiet: VecDeque<(i64, ExecutionId)>,
    snapshots: VecDeque<Snapshot>,
    day: Option<i64>,
    /// What was raised of late: the findings that it became, by which role on which channel.
    raised: VecDeque<(Digest, Peers, Channel)>,
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
            confirmed: sum.confirmed.saturating_add(one.confirmed),
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

    /// How many bytes all takes that is kept of one agent beside its role.
    pub fn bytes_of(&self, agent: &AgentName) -> Option<usize> {
        let Watched { overlay, window, .. } = self.agents.get(agent)?;
        Some(overlay.bytes().saturating_add(size_of::<Watched>()).saturating_add(window.bytes()))
    }

    /// Folds in the record at `position`. What was folded before changes nothing. Says what is unlike what is usual.
    pub fn fold(&mut self, position: Position, record: &Record) -> Vec<Oddity> {
        if position < self.next {
            return Vec::new();
        }
        self.next = Position(position.0.saturating_add(1));
        let at_s = record.at().as_second();
        self.settle(at_s);
        let odd = self.folded(position, record, at_s);
        for odd in &odd {
            self.bar_window(&odd.agent);
            if self.raised.len() >= RAISED_MAX {
                self.raised.pop_front();
            }
            self.raised.push_back((odd.finding().id, odd.peers.clone(), odd.channel));
        }
        odd
    }

    /// A person said what a finding is. Where it was raised here, it counts as an alert that was right, or no more as one.
    fn settled(&mut self, settled: &Settled) {
        let (was, is) = (settled.before == Some(Settlement::TruePositive), settled.code == Settlement::TruePositive);
        let raised = self.raised.iter().find(|(id, ..)| *id == settled.finding);
        if let Some((_, peers, channel)) = raised.filter(|_| was != is)
            && let Some(role) = self.roles.get_mut(peers)
        {
            Arc::make_mut(role).calibration_mut(*channel).confirm(is);
        }
    }

    /// What an agent does in this window is not learned.
    fn bar_window(&mut self, agent: &AgentName) {
        if let Some(watched) = self.agents.get_mut(agent) {
            watched.window.is_barred = true;
        }
    }

    fn folded(&mut self, position: Position, record: &Record, at_s: i64) -> Vec<Oddity> {
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
                self.bar_window(&quarantined.agent);
                Vec::new()
            }
            Record::Settled(settled) => {
                self.settled(settled);
                Vec::new()
            }
            Record::BaselinesRolledBack(back) => {
                let to = back.to.duration_since(Date::constant(1970, 1, 1)).as_secs().div_euclid(DAY_S);
                let meant = back.role.as_deref().map(|role| self.roles.keys().find(|peers| peers.as_str() == role).cloned());
                match meant {
                    None => self.roll_back(None, to),
                    Some(peers) => peers.and_then(|peers| self.roll_back(Some(&peers), to)),
                };
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Something was found in the execution: it is not learned.
    pub fn found(&mut self, execution: ExecutionId) {
        if let Some(run) = self.runs.get_mut(&execution) {
            run.is_barred = true;
            let agent = run.agent.clone();
            self.bar_window(&agent);
        }
    }

    /// Goes back to what was learned by the end of a day, in days since 1970, or of the newest day before it of which there is a snapshot;
    /// of one role or of all. Says which day that was, where there is one. Executions under way are not learned any more.
    pub fn roll_back(&mut self, peers: Option<&Peers>, to: i64) -> Option<i64> {
        let (mut older, newer): (VecDeque<_>, VecDeque<_>) = self.snapshots.drain(..).partition(|snapshot| snapshot.day <= to);
        let Some(snapshot) = older.back().cloned() else {
            self.snapshots = newer;
            return None;
        };
        let is_meant = |of: &Peers| peers.is_none_or(|peers| peers == of);
        snapshot.put_back(&mut self.roles, is_meant);
        for (agent, watched) in &mut self.agents {
            if is_meant(&watched.peers) {
                let kept = snapshot.overlays.get(agent).filter(|(peers, _)| *peers == watched.peers);
                watched.overlay = kept.map(|(_, overlay)| Arc::clone(overlay)).unwrap_or_default();
                (watched.window, watched.odds) = (Window::of(watched.window.number), Odds::default());
            }
        }
        self.runs.values_mut().filter(|run| is_meant(&run.peers)).for_each(|run| run.is_barred = true);
        // Of a role that did not go back the newer days stay.
        for mut later in newer.into_iter().filter(|_| peers.is_some()) {
            snapshot.put_back(&mut later.roles, is_meant);
            later.overlays.retain(|_, (of, _)| !is_meant(of));
            let kept = snapshot.overlays.iter().filter(|(_, (of, _))| is_meant(of));
            later.overlays.extend(kept.map(|(agent, kept)| (agent.clone(), kept.clone())));
            older.push_back(later);
        }
        self.snapshots = older;
        Some(snapshot.day)
    }

    /// The days, since 1970, of which there is a snapshot.
    pub fn snapshots(&self) -> impl Iterator<Item = i64> {
        self.snapshots.iter().map(|snapshot| snapshot.day)
    }

    /// For each snapshot its day, and how many executions of the roles that are meant were learned by then.
    pub(super) fn snapshots_learned(&self, is_meant: impl Fn(&Peers) -> bool) -> impl Iterator<Item = (i64, u64)> {
        self.snapshots.iter().map(move |snapshot| {
            let roles = snapshot.roles.iter().filter(|(peers, _)| is_meant(peers));
            (snapshot.day, roles.map(|(_, role)| role.executions()).sum())
        })
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
        role.learn_sources(&run.sources, run.principal, run.last_s);
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
                is_by_person: started.subject.is_some() && started.chain.is_empty(),
                sources: Vec::new(),
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
        odd.extend(run.came_from(role, self.budget, moment, intent));
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
            let is_dormant = dormant_s >= DORMANT_FROM_S && surprise >= DORMANT_SURPRISE;
            let because = Doubt(if is_dormant { surprise } else { 0.0 }, || Reason {
                signal: Signal::Dormancy,
                surprise,
                seen: format!("`{}` did nothing for {} days, and now has an effect", intent.agent, dormant_s / DAY_S),
                expected: format!("{:.1} hours between executions are usual for it", watched.overlay.rates.gaps.usual_hours()),
            });
            odd.extend(run.doubt(role, self.budget, moment, Channel::Standing, because));
            odd.extend(run.score(role, self.budget, moment, Channel::First, role.first(call), || role.first_reasons(call)));
            let share = watched.overlay.hours.share(at_s);
            let is_known = watched.overlay.since_s.is_some_and(|since_s| at_s.saturating_sub(since_s) >= OFF_HOURS_AFTER_S);
            let is_off = run.is_by_person && is_known && share < OFF_HOURS_SHARE;
            let because = Doubt(if is_off { -share.ln() } else { 0.0 }, || Reason {
                signal: Signal::OffHours,
                surprise: -share.ln(),
                seen: format!("`{}`, which people start, has an effect at an hour of the week at which it never did", intent.agent),
                expected: format!("less than {:.2} % of what it does is around this hour", share * 100.0),
            });
            odd.extend(run.doubt(role, self.budget, moment, Channel::First, because));
        }
        if intent.decision.verdict == Verdict::Ask {
            if run.asks.len() < ASKS_MAX {
                run.asks.push((position, Arc::from(tool), facets.clone()));
            }
            run.is_barred |= run.asks.len() >= ASKS_MAX;
            return odd;
        }
        let id = role.after(tool);
        run.before = id;
        if run.calls.len() < CALLS_MAX && self.runs_bytes < RUNS_BYTES_MAX {
            let heard = Heard { tool: role.name_of(tool), acts, facets: facets.clone() };
            self.runs_bytes = self.runs_bytes.saturating_add(heard.bytes());
            run.calls.push(heard);
        } else {
            run.is_barred = true;
        }
        let (usual, peers_usual, window) = (&watched.overlay.rates, &role.rates, &mut watched.window);
        let of_tool = window.called(id, tool);
        // Of several that are too many the one that says most is told.
        if acts && destroys(tool) {
            window.destroyed = window.destroyed.saturating_add(1);
            let destroyed = usual.destroyed.with_prior(&peers_usual.destroyed);
            let because = of_rate(Signal::Destroyed, "calls that destroy", &intent.agent, window.destroyed, destroyed, 1.0);
            odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        }
        if let Some(count) = of_tool {
            let because = Doubt(role.surprise_of_calls(id, count), || Reason {
                signal: Signal::CallsOfTool,
                surprise: role.surprise_of_calls(id, count),
                seen: format!("`{}` called `{tool}` {count} times in five minutes", intent.agent),
                expected: format!("{:.1} times are usual in its role", role.usual_calls(id)),
            });
            odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        }
        let calls = usual.calls.with_prior(&peers_usual.calls);
        let because = of_rate(Signal::Calls, "calls", &intent.agent, window.calls, calls, watched.overlay.hours.factor(at_s));
        odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        let tools = usual.tools.with_prior(&peers_usual.tools);
        let because = of_rate(Signal::Tools, "different tools", &intent.agent, window.tools(), tools, 1.0);
        odd.extend(run.doubt(role, self.budget, moment, Channel::Rate, because));
        if !acts {
            return odd;
        }
        if intent.effect == Effect::Spend {
            window.spent = window.spent.saturating_add(spent(intent));
            let usual = usual.spent.with_prior(&peers_usual.spent);
            let because = of_volume(Signal::Spent, "spent", "", &intent.agent, window.spent, usual);
            odd.extend(run.doubt(role, self.budget, moment, Channel::Volume, because));
        }
        if intent.effect < Effect::Send {
            return odd;
        }
        odd.extend(watched.sent(run, role, self.budget, moment, intent, facets));
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
        let because = of_volume(Signal::BytesIn, "read", " bytes", &outcome.agent, window.read, read);
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
            Some(watched) => *watched = Watched::new(peers.clone()),
            None if is_full => {}
            None => {
                self.agents.insert(agent.clone(), Watched::new(peers.clone()));
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
        let ended = std::mem::replace(&mut watched.window, Window::of(number));
        let Some(role) = self.roles.get_mut(&watched.peers).filter(|_| ended.calls > 0) else { return };
        let (ended_s, overlay) = (ended.began_s(), Arc::make_mut(&mut watched.overlay));
        // Whoever sends little at a time may be denied now and then.
        watched.odds.take(ended.young_kib(), overlay.rates.trickle.usual(&role.rates.trickle), ended_s);
        if let Some(last_s) = overlay.last_s.filter(|_| !ended.is_barred) {
            overlay.rates.gaps.learn(ended_s.saturating_sub(last_s));
        }
        overlay.last_s = Some(ended_s);
        if !ended.is_barred {
            ended.teach(overlay, Arc::make_mut(role));
        }
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

/// What a call spends, as far as what the bundle adds up tells; one where it adds up nothing.
fn spent(intent: &Intent) -> u64 {
    let amounts = intent.facts.history.iter().filter_map(|charge| u64::try_from(charge.amount).ok());
    amounts.fold(0_u64, u64::saturating_add).max(1)
}

/// Where a call sends to: the hosts and domains that its arguments name; where they name none, the tool itself.
fn destinations(facets: &Facets, tool: ToolId) -> impl Iterator<Item = u64> {
    let is_named = |kind| matches!(kind, Kind::Host | Kind::Domain | Kind::HostWithin | Kind::DomainWithin);
    let mut named = facets.iter().filter(move |facet| is_named(facet.kind)).map(|facet| facet.value).peekable();
    let tool = named.peek().is_none().then(|| tool.number());
    named.take(DESTINATIONS_MAX).chain(tool)
}

/// What is said of bytes in the window.
fn of_volume<'a>(
    signal: Signal,
    what: &'a str,
    unit: &'a str,
    agent: &'a AgentName,
    bytes: u64,
    usual: super::rate::Volume,
) -> Doubt<impl FnOnce() -> Reason + 'a> {
    let is_counted = signal == Signal::Spent || bytes >= BYTES_LEAST;
    let surprise = if is_counted { usual.surprise(bytes) } else { 0.0 };
    Doubt(surprise, move || Reason {
        signal,
        surprise,
        seen: format!("`{agent}` {what} {bytes}{unit} in five minutes"),
        expected: format!("{:.0} are usual", usual.usual()),
    })
}

impl Watched {
    /// Says of a call that sends something how much that is, in all, to one destination, and little by little.
    fn sent(&mut self, run: &mut Run, role: &Role, budget: Budget, moment: Moment<'_>, intent: &Intent, facets: &Facets) -> Vec<Oddity> {
        let mut odd = Vec::new();
        let (usual, peers_usual, window, at_s) = (&self.overlay.rates, &role.rates, &mut self.window, intent.at.as_second());
        let bytes = intent.arguments.as_ref().map_or(0, |arguments| arguments.get().len());
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        window.out = window.out.saturating_add(bytes);
        let out = usual.out.with_prior(&peers_usual.out);
        let because = of_volume(Signal::BytesOut, "sent", " bytes", &intent.agent, window.out, out);
        odd.extend(run.doubt(role, budget, moment, Channel::Volume, because));
        let mut is_any_young = false;
        for destination in destinations(facets, run.before) {
            let all = window.sent(destination, bytes);
            is_any_young |= role.destinations.is_young(destination, at_s);
            let surprise = if all >= BYTES_LEAST { role.destinations.surprise(destination, all) } else { 0.0 };
            let because = Doubt(surprise, || Reason {
                signal: Signal::BytesTo,
                surprise,
                seen: format!("`{}` sent {all} bytes to one destination in five minutes, by `{}`", intent.agent, intent.tool),
                expected: format!("{:.0} are usual", role.destinations.usual(destination)),
            });
            odd.extend(run.doubt(role, budget, moment, Channel::Volume, because));
        }
        if is_any_young {
            window.young = window.young.saturating_add(bytes);
            let usual = usual.trickle.usual(&peers_usual.trickle);
            let log = self.odds.with(window.young_kib(), usual, at_s);
            let because = Doubt(if Odds::are_said(log) { log } else { 0.0 }, || Reason {
                signal: Signal::SlowBytes,
                surprise: log,
                seen: format!(
                    "`{}` sent {:.1} KiB within a week to destinations that its role has known for less than a month",
                    intent.agent,
                    self.odds.kib(at_s) + window.young_kib()
                ),
                expected: format!(
                    "at most {usual:.2} KiB in five minutes may be usual, against which there are odds of {:.0} to one",
                    log.exp()
                ),
            });
            if let Some(slow) = run.doubt(role, budget, moment, Channel::Standing, because) {
                // It is said once; the odds begin anew.
                self.odds = Odds::default();
                odd.push(slow);
            }
        }
        odd
    }
}

impl Run {
    /// Says of a call that it comes from a network from which no agent in the role came.
    fn came_from(&mut self, role: &Role, budget: Budget, moment: Moment<'_>, intent: &Intent) -> Option<Oddity> {
        let network = intent.network.as_ref()?;
        let source = fingerprint(&network.to_string());
        let novelty = role.sources.novelty(source);
        let is_new = novelty.is_closed && !role.sources.took(source);
        let because = Doubt(if is_new { novelty.surprise } else { 0.0 }, || Reason {
            signal: Signal::NewSource,
            surprise: novelty.surprise,
            seen: format!("`{}` comes from {network}, from which no agent in its role ever came", intent.agent),
            expected: format!("of {} executions {:.1} % came from a new network", novelty.taken, novelty.new * 100.0),
        });
        let odd = self.doubt(role, budget, moment, Channel::First, because);
        if self.sources.len() < SOURCES_MAX && !self.sources.contains(&source) {
            self.sources.push(source);
        }
        odd
    }

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

/// What is looked up often is kept in the order of its keys, so that the same state is the same bytes.
mod in_order {
    use std::collections::{BTreeMap, HashMap};
    use std::hash::Hash;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K, V, S>(map: &HashMap<K, V>, serializer: S) -> Result<S::Ok, S::Error>
    where
        K: Ord + Serialize,
        V: Serialize,
        S: Serializer,
    {
        map.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<HashMap<K, V>, D::Error>
    where
        K: Eq + Hash + Deserialize<'de>,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        HashMap::deserialize(deserializer)
    }
}
