//! What is usual for agents in one role, and how one of them differs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::behavior::{Band, Behavior, Reason, Signal};
use super::budget::{Budget, Calibration, Realised};
use super::facet::{Chosen, Facet, Facets, Kind};
use super::order::{Order, ToolId, entry};
use super::rate::{Gaps, Hours, Rate, Volume};
use super::reach::{Destinations, Trickle};
use super::slot::{Novelty, Principal, Slot, Support};

/// The most slots of one tool, and of a role; of more, no value is known.
const SLOTS_OF_TOOL_MAX: usize = 64;
const SLOTS_MAX: usize = 4096;

/// How much the role weighs beside what an agent did itself, in calls.
const ROLE_WEIGHS: f32 = 20.0;

/// The most that the values of a call add to its score, and how much each surprise counts: as was measured, see
/// `docs/spec/detection.md`.
const VALUES_MAX: f32 = 4.0;
const RESULT_WEIGHS: f32 = 0.5;
const ORDER_WEIGHS: f32 = 0.25;

/// The least surprise that is worth a sentence, in nats.
const SAID_FROM: f32 = 1.0;

/// The most pairs of tools that are kept of one agent.
const PAIRS_OF_AGENT_MAX: usize = 512;

/// Of how many of the last executions that were learned it is known whose they were, and how many of them one principal may have made
/// in any case.
const LEARNED_FROM: usize = 256;
const OF_ONE_MIN: usize = 16;

/// How many principals are few: with no more, one may support a value again after a day.
const FEW: usize = 3;

/// By how much at most what an agent did itself makes a tool less of a surprise than it is to its role, in nats.
const OWN_LOWERS_MAX: f32 = 2.0;

/// The smallest share of what was learned of late that one principal may have.
const SHARE_OF_ONE: f32 = 0.05;

/// From how many executions on a role's behaviour counts; before, it advises.
pub const ENOUGH: u64 = 200;

/// From how many executions on their scores tell what is usual: before, everything is new.
const SCORED_AFTER: u64 = 50;

/// From how many executions on anything is said at all.
const SAID_AFTER: u64 = 20;

/// How many things are said that a call does for the first time.
const FIRSTS_SAID: usize = 3;

/// How many tools may be looked at for how often they are called, and after how many windows in which they are.
const TOOLS_LOOKED_AT: f32 = 100.0;
const CALLS_OF_AFTER: f32 = 10.0;

/// What is calibrated by itself, each with its share of the alerts that can be borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// What a call is: tool in context, values, who chose them.
    Call,
    /// How often something is done.
    Rate,
    /// How much is moved.
    Volume,
    /// Who comes back after long, who delegates to whom, what goes on for days.
    Standing,
    /// What is done for the first time: a tool with an effect, a shape of arguments, an hour of the week, a network.
    First,
}

impl Channel {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Call, Self::Rate, Self::Volume, Self::Standing, Self::First];

    /// Its share of the alerts.
    pub const fn share(self) -> f32 {
        match self {
            Self::Call => 0.7,
            Self::Rate | Self::Volume => 0.1,
            Self::Standing | Self::First => 0.05,
        }
    }

    /// Below this nothing is strange, in nats: a chance of 1 in 10,000 where the score is the surprise of a chance. A tool by itself, out
    /// of its usual order, never is.
    const fn least(self) -> f32 {
        match self {
            Self::Call => 2.0,
            Self::Rate | Self::Volume => 9.2,
            Self::Standing | Self::First => 4.0,
        }
    }
}

/// A call as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'o> {
    /// The tool, as records name it.
    pub tool: &'o str,
    /// Whether it does anything but read.
    pub acts: bool,
    /// What is counted of its arguments.
    pub facets: &'o Facets,
}

/// A call that was made, to be learned with its execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// The tool, as records name it.
    pub tool: Arc<str>,
    /// Whether it does anything but read.
    pub acts: bool,
    /// What is counted of its arguments.
    pub facets: Facets,
}

impl Heard {
    /// The call as it is counted.
    pub fn observed(&self) -> Observed<'_> {
        Observed { tool: &self.tool, acts: self.acts, facets: &self.facets }
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>().saturating_add(self.tool.len()).saturating_add(self.facets.bytes())
    }
}

/// What a call's score is made of: surprises in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// That the tool comes after the one before it.
    pub order: f32,
    /// That a slot takes a value which only a tool's result showed, the greatest of them.
    pub value: f32,
    /// That only a tool's result showed what a slot takes, the greatest of them.
    pub result: f32,
}

impl Parts {
    /// How far the call is from what is usual, as one number: `min(4, value + result/2) + order/4`.
    pub fn score(self) -> f32 {
        (self.value + RESULT_WEIGHS * self.result).min(VALUES_MAX) + ORDER_WEIGHS * self.order
    }
}

/// What was learned of one tool's arguments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slots(Vec<(Box<str>, Kind, Slot)>);

impl Slots {
    fn get(&self, facet: &Facet<'_>) -> Option<&Slot> {
        self.0.iter().find(|(argument, kind, _)| *kind == facet.kind && **argument == *facet.argument).map(|(_, _, slot)| slot)
    }

    fn get_mut(&mut self, facet: &Facet<'_>) -> Option<&mut Slot> {
        self.0.iter_mut().find(|(argument, kind, _)| *kind == facet.kind && **argument == *facet.argument).map(|(_, _, slot)| slot)
    }

    /// The slot of a facet and its number, a new one as long as there is room for it.
    fn get_or_add(&mut self, facet: &Facet<'_>, all: &mut usize) -> Option<(usize, &mut Slot)> {
        let found = self.0.iter().position(|(argument, kind, _)| *kind == facet.kind && **argument == *facet.argument);
        let place = found.unwrap_or(self.0.len());
        if found.is_none() {
            if place >= SLOTS_OF_TOOL_MAX || *all >= SLOTS_MAX {
                return None;
            }
            self.0.push((facet.argument.into(), facet.kind, Slot::default()));
            *all = all.saturating_add(1);
        }
        self.0.get_mut(place).map(|(_, _, slot)| (place, slot))
    }
}

/// What is usual for the agents in a role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// How many executions were learned.
    executions: u64,
    order: Order,
    slots: BTreeMap<Arc<str>, Slots>,
    all_slots: usize,
    /// Whom the last executions were learned from, the newest at `next` less one.
    learned_from: Vec<Principal>,
    next: usize,
    /// How many principals there are among them.
    principals: usize,
    pub(super) rates: Rates,
    pub(super) peers: Slot,
    /// The tools with an effect, by their numbers.
    effects: Slot,
    /// The networks that agents come from.
    pub(super) sources: Slot,
    /// How often each tool is called in a window in which it is, by its number.
    calls_of: Vec<Rate>,
    pub(super) destinations: Destinations,
    calibrations: [Calibration; Channel::ALL.len()],
}

/// What is counted by time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rates {
    pub(super) calls: Rate,
    pub(super) denials: Rate,
    pub(super) tools: Rate,
    pub(super) failures: Rate,
    pub(super) out: Volume,
    pub(super) read: Volume,
    pub(super) children: Rate,
    pub(super) gaps: Gaps,
    pub(super) destroyed: Rate,
    pub(super) spent: Volume,
    pub(super) trickle: Trickle,
}

/// What is usual for one agent beside its role, in at most 8 KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlay {
    /// How many executions of it were learned.
    pub(super) executions: u64,
    /// Which tool came how often after which, in order.
    pairs: Vec<(ToolId, ToolId, u32)>,
    pub(super) rates: Rates,
    pub(super) hours: Hours,
    /// When an execution of it was first learned and last under way, in seconds since 1970.
    pub(super) since_s: Option<i64>,
    pub(super) last_s: Option<i64>,
}

impl Overlay {
    /// How often the tool followed `before` in what this agent did, and how many calls did.
    fn followed(&self, before: ToolId, tool: ToolId) -> (u32, u32) {
        let from = self.pairs.partition_point(|(of, ..)| *of < before);
        let after = self.pairs.iter().skip(from).take_while(|(of, ..)| *of == before);
        after.fold((0, 0), |(pair, all), (_, next, count)| (if *next == tool { *count } else { pair }, all.saturating_add(*count)))
    }

    fn learn_pair(&mut self, before: ToolId, tool: ToolId) {
        match self.pairs.binary_search_by_key(&(before, tool), |(before, tool, _)| (*before, *tool)) {
            Ok(place) => {
                if let Some((_, _, count)) = self.pairs.get_mut(place) {
                    *count = count.saturating_add(1);
                }
            }
            Err(place) if self.pairs.len() < PAIRS_OF_AGENT_MAX => self.pairs.insert(place, (before, tool, 1)),
            Err(_) => {}
        }
    }

    /// How many executions of it were learned.
    pub const fn executions(&self) -> u64 {
        self.executions
    }

    /// How many calls in five minutes are usual for it.
    pub const fn calls(&self) -> &Rate {
        &self.rates.calls
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.pairs.capacity().saturating_mul(size_of::<(ToolId, ToolId, u32)>()))
            .saturating_add(self.hours.bytes())
    }
}

impl Role {
    /// How many executions were learned of agents in this role.
    pub const fn executions(&self) -> u64 {
        self.executions
    }

    /// Whether enough was learned for behaviour to count.
    pub const fn is_enough(&self) -> bool {
        self.executions >= ENOUGH
    }

    /// The alerts that there were on one channel.
    pub fn realised(&self, channel: Channel) -> Realised {
        self.calibration(channel).realised()
    }

    /// The score from which on an alert is raised on a channel, once enough was learned.
    pub fn threshold(&self, channel: Channel, budget: Budget) -> Option<f32> {
        self.fitted(channel, budget.share() * channel.share()).filter(|_| self.is_enough())
    }

    /// The score beyond which this share of the executions is, as far as those that were learned tell, on a channel.
    pub fn fitted(&self, channel: Channel, share: f32) -> Option<f32> {
        self.calibration(channel).threshold(share).map(|threshold| threshold.max(channel.least()))
    }

    /// In which band a score on a channel is.
    pub fn band(&self, channel: Channel, score: f32, budget: Budget) -> Band {
        let Some(strange) = self.threshold(channel, budget) else { return Band::Learning };
        let unusual = self.calibration(channel).threshold(budget.share() * channel.share() * 10.0).unwrap_or(strange);
        if score > strange {
            Band::Strange
        } else if score > unusual.min(strange) && score > 0.0 {
            Band::Unusual
        } else {
            Band::Usual
        }
    }

    /// The share of executions that score more on a channel, as far as the tail tells.
    pub fn share_beyond(&self, channel: Channel, score: f32) -> Option<f32> {
        self.calibration(channel).share_beyond(score)
    }

    // INVARIANT: there is a calibration for each channel.
    #[expect(clippy::indexing_slicing, reason = "a channel's number is less than how many there are")]
    fn calibration(&self, channel: Channel) -> &Calibration {
        &self.calibrations[channel as usize]
    }

    // INVARIANT: as above.
    #[expect(clippy::indexing_slicing, reason = "a channel's number is less than how many there are")]
    pub(super) fn calibration_mut(&mut self, channel: Channel) -> &mut Calibration {
        &mut self.calibrations[channel as usize]
    }

    /// How far a call is from what is usual, as one number: 0 of one that only reads.
    pub fn score(&self, overlay: Option<&Overlay>, before: ToolId, call: Observed<'_>) -> f32 {
        if call.acts && self.executions > 0 { self.parts(overlay, before, call).score() } else { 0.0 }
    }

    /// What the score of a call with an effect is made of.
    pub fn parts(&self, overlay: Option<&Overlay>, before: ToolId, call: Observed<'_>) -> Parts {
        let mut parts = Parts { order: Order::surprise(self.chance(overlay, before, call.tool)), ..Parts::default() };
        self.each_from_result(call, |_, novelty| {
            parts.value = parts.value.max(novelty.surprise);
            parts.result = parts.result.max(novelty.from_result.min(VALUES_MAX));
        });
        parts
    }

    /// What was learned of a facet of a tool's calls.
    pub fn slot(&self, tool: &str, facet: &Facet<'_>) -> Option<&Slot> {
        self.slots.get(tool)?.get(facet)
    }

    /// The number that a tool has after another in an execution: what the next call is judged by.
    pub fn after(&self, tool: &str) -> ToolId {
        self.order.id(tool)
    }

    /// The name of a tool, as it is kept already where it is.
    pub(super) fn name_of(&self, tool: &str) -> Arc<str> {
        self.slots.get_key_value(tool).map_or_else(|| Arc::from(tool), |(name, _)| Arc::clone(name))
    }

    /// Whether a value of a call with an effect that was never known and that only a tool's result showed is in a closed slot.
    pub fn is_new_in_closed(&self, call: Observed<'_>) -> bool {
        let mut found = false;
        if call.acts {
            self.each_from_result(call, |_, novelty| found |= novelty.is_closed && novelty.supports < super::slot::KNOWN_AFTER);
        }
        found
    }

    /// How much of a surprise it is, in nats, what a call with an effect does that agents in this role never did: a tool that none of
    /// them used, or arguments of a shape that the tool is never given.
    pub fn first(&self, call: Observed<'_>) -> f32 {
        let mut most = 0.0_f32;
        self.each_first(call, |_, surprise| most = most.max(surprise));
        most
    }

    /// Why, the greatest surprise first.
    pub(super) fn first_reasons(&self, call: Observed<'_>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        self.each_first(call, |facet, surprise| {
            let chance = (-surprise).exp() * 100.0;
            reasons.push(match facet {
                None => Reason {
                    signal: Signal::FirstTool,
                    surprise,
                    seen: format!("`{}` has an effect, and no agent in this role ever used it", call.tool),
                    expected: format!("in {} executions {chance:.1} % of the tools with an effect were new", self.executions),
                },
                Some(facet) => Reason {
                    signal: Signal::Shape,
                    surprise,
                    seen: match facet.kind {
                        Kind::Keys => format!("`{}` is given a set of arguments that it never was", call.tool),
                        _ => format!("`{}` of `{}` is of a size that is far from any before", facet.argument, call.tool),
                    },
                    expected: format!("a new one is seen in {chance:.1} % of the calls"),
                },
            });
        });
        reasons.sort_by(|one, other| other.surprise.total_cmp(&one.surprise));
        reasons.truncate(FIRSTS_SAID);
        reasons
    }

    fn each_first<'c>(&self, call: Observed<'c>, mut each: impl FnMut(Option<Facet<'c>>, f32)) {
        if !call.acts || self.executions < SAID_AFTER {
            return;
        }
        let tool = self.order.id(call.tool).number();
        if !self.effects.took(tool) {
            return each(None, self.effects.novelty(tool).surprise);
        }
        let Some(slots) = self.slots.get(call.tool) else { return };
        for facet in call.facets.iter() {
            let by = match facet.kind {
                Kind::Keys => 0,
                // A size that is next to a known one is none that anybody need look at.
                Kind::Length | Kind::Magnitude | Kind::Count => 1,
                _ => continue,
            };
            if let Some(slot) = slots.get(&facet).filter(|slot| !slot.took(facet.value) && slot.is_far(facet.value, by)) {
                each(Some(facet), slot.novelty(facet.value).surprise);
            }
        }
    }

    /// The surprise of so many calls of one tool in a window. As a hundred tools may be looked at, it counts for as much less.
    pub(super) fn surprise_of_calls(&self, tool: ToolId, count: u32) -> f32 {
        let usual = self.calls_of.get(tool.number() as usize).copied().unwrap_or_default();
        if usual.windows() < CALLS_OF_AFTER { 0.0 } else { usual.surprise(count as f32, 1.0) - TOOLS_LOOKED_AT.ln() }
    }

    /// How many calls of one tool are usual in a window in which there is any.
    pub(super) fn usual_calls(&self, tool: ToolId) -> f32 {
        self.calls_of.get(tool.number() as usize).map_or(0.0, Rate::mean)
    }

    pub(super) fn learn_calls(&mut self, tool: ToolId, count: u32, at_s: i64) {
        entry(&mut self.calls_of, tool).learn(count as f32, at_s);
    }

    /// All that is said of a call before it is decided.
    pub fn judge(&self, overlay: Option<&Overlay>, before: ToolId, call: Observed<'_>, budget: Budget) -> Behavior {
        let score = self.score(overlay, before, call);
        let band = self.band(Channel::Call, score, budget);
        let closed = self.is_new_in_closed(call) && self.executions >= SAID_AFTER;
        let per_thousand = self.share_beyond(Channel::Call, score).map(|share| share * 1000.0);
        let because = if call.acts && self.executions >= SAID_AFTER { self.reasons(overlay, before, call) } else { Vec::new() };
        Behavior { score, band, closed, executions: self.executions, per_thousand, because, from_results: call.facets.from_results() }
    }

    fn reasons(&self, overlay: Option<&Overlay>, before: ToolId, call: Observed<'_>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let surprise = Order::surprise(self.chance(overlay, before, call.tool));
        if surprise >= SAID_FROM {
            let (pair, all) = self.order.followed(before, self.order.id(call.tool));
            let used = self.order.used(self.order.id(call.tool));
            let place = if before == ToolId::BEGINNING { "first" } else { "after the tool before it" };
            let expected = if used == 0 || self.order.id(call.tool) == ToolId::OTHER {
                format!("no agent in this role used it in {} executions", self.executions)
            } else {
                format!("agents in this role did so {pair} of {all} times")
            };
            reasons.push(Reason { signal: Signal::ToolInContext, surprise, expected, seen: format!("`{}` is used {place}", call.tool) });
        }
        self.each_from_result(call, |facet, novelty| {
            if novelty.surprise >= SAID_FROM || (novelty.is_closed && novelty.surprise > 0.0) {
                let signal = if novelty.is_closed { Signal::NewValueInClosedSlot } else { Signal::NewValue };
                let known = if novelty.supports == 0 { "never" } else { "hardly ever" };
                let seen = format!("`{facet}` of `{}` is a value that only a tool's result showed, and {known} taken before", call.tool);
                let expected = format!("of {} values {:.1} % were new", novelty.taken, novelty.new * 100.0);
                reasons.push(Reason { signal, surprise: novelty.surprise, expected, seen });
            }
            if novelty.from_result >= SAID_FROM {
                let seen = format!("`{facet}` of `{}` was chosen by a tool's result", call.tool);
                let expected = format!("that is so in {:.1} % of the calls", (-novelty.from_result).exp() * 100.0);
                reasons.push(Reason { signal: Signal::ChosenByResult, surprise: novelty.from_result, expected, seen });
            }
        });
        reasons.sort_by(|one, other| other.surprise.total_cmp(&one.surprise));
        // Of each kind the greatest: an entry of the log has only so much room.
        let mut told = HashSet::new();
        reasons.retain(|reason| told.insert(reason.signal));
        reasons
    }

    fn each_from_result<'c>(&self, call: Observed<'c>, mut each: impl FnMut(Facet<'c>, Novelty)) {
        let Some(slots) = self.slots.get(call.tool) else { return };
        for facet in call.facets.iter().filter(|facet| facet.chosen == Chosen::Result) {
            if let Some(slot) = slots.get(&facet) {
                each(facet, slot.novelty(facet.value));
            }
        }
    }

    /// The chance of the tool here: what the agent itself did, and its role for as much as twenty calls.
    fn chance(&self, overlay: Option<&Overlay>, before: ToolId, tool: &str) -> f32 {
        let tool = self.order.id(tool);
        let of_role = self.order.chance(before, tool);
        match overlay.map(|overlay| overlay.followed(before, tool)) {
            None | Some((_, 0)) => of_role,
            Some((pair, all)) => {
                let own = (pair as f32 + ROLE_WEIGHS * of_role) / (all as f32 + ROLE_WEIGHS);
                own.min(of_role * OWN_LOWERS_MAX.exp())
            }
        }
    }

    /// Whether one more execution of this principal may be learned: of the last 256 one alone may have made no more than a twentieth,
    /// or twice what would be its part if all had made as many, and sixteen in any case.
    pub fn may_learn_from(&self, by: Principal) -> bool {
        let of_one = self.learned_from.iter().filter(|from| **from == by).count();
        if of_one < OF_ONE_MIN {
            return true;
        }
        let share = (2.0 / self.principals.max(1) as f32).clamp(SHARE_OF_ONE, 1.0);
        of_one as f32 <= share * self.learned_from.len() as f32
    }

    /// Counts the principals of the last executions again.
    fn count_principals(&mut self) {
        let mut all = self.learned_from.clone();
        all.sort_unstable();
        all.dedup();
        self.principals = all.len();
    }

    /// Learns an execution that was in order: its calls, and its largest score on each channel before it was learned.
    pub fn learn(&mut self, overlay: &mut Overlay, principal: Principal, at_s: i64, calls: &[Heard], scores: [f32; Channel::ALL.len()]) {
        if self.executions >= SCORED_AFTER {
            for (channel, score) in Channel::ALL.into_iter().zip(scores) {
                self.calibration_mut(channel).learn(score, at_s);
            }
        }
        let by = Support { principal, at_s, may_repeat: self.principals <= FEW };
        let mut before = ToolId::BEGINNING;
        let mut taken = HashSet::new();
        for Heard { tool, acts, facets } in calls {
            let id = self.order.learn(before, tool);
            overlay.learn_pair(before, id);
            before = id;
            if *acts && id != ToolId::OTHER && taken.insert((id, usize::MAX, 0)) {
                self.effects.learn(id.number(), Chosen::Unjudged, by);
            }
            if !self.slots.contains_key(tool) && self.slots.len() < SLOTS_MAX {
                self.slots.insert(Arc::clone(tool), Slots::default());
            }
            let Some(slots) = self.slots.get_mut(tool) else { continue };
            for facet in facets.iter() {
                let Some((number, slot)) = slots.get_or_add(&facet, &mut self.all_slots) else { continue };
                // In one execution a value counts once.
                if taken.insert((id, number, facet.value)) {
                    slot.learn(facet.value, if *acts { facet.chosen } else { Chosen::Unjudged }, by);
                }
            }
        }
        self.executions = self.executions.saturating_add(1);
        overlay.executions = overlay.executions.saturating_add(1);
        self.learned_from(principal);
    }

    /// Learns the networks that an execution came from.
    pub(super) fn learn_sources(&mut self, sources: &[u64], principal: Principal, at_s: i64) {
        let by = Support { principal, at_s, may_repeat: self.principals <= FEW };
        sources.iter().for_each(|source| self.sources.learn(*source, Chosen::Unjudged, by));
    }

    fn learned_from(&mut self, principal: Principal) {
        match self.learned_from.get_mut(self.next) {
            Some(oldest) => *oldest = principal,
            None => self.learned_from.push(principal),
        }
        self.next = self.next.wrapping_add(1) % LEARNED_FROM;
        if self.executions < 64 || self.executions.is_multiple_of(8) {
            self.count_principals();
        }
    }

    /// Takes the values that a call hands over as known, since a person approved it.
    pub(super) fn approve(&mut self, tool: &str, facets: &Facets, at_s: i64) {
        let Some(slots) = self.slots.get_mut(tool) else { return };
        for facet in facets.iter().filter(|facet| facet.kind.is_value()) {
            if let Some(slot) = slots.get_mut(&facet) {
                slot.approve(facet.value, at_s);
            }
        }
    }

    /// How many slots, values and tools it keeps.
    pub fn kept(&self) -> (usize, usize) {
        let values = self.slots.values().flat_map(|slots| &slots.0).map(|(_, _, slot)| slot.kept()).sum();
        (self.all_slots, values)
    }
}
