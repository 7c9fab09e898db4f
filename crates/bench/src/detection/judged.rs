//! Runs that were judged by a role's baseline, and how well one method tells them apart.

use std::sync::Arc;

use bailiwick_core::detect::baseline::{Band, Budget, Channel, Observed, Overlay, Parts, Principal, Role, ToolId};

use super::splits::Part;
use super::traces::Run;

/// What a run is ranked by: the product's score, and what it is made of by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    /// The product's: values and who chose them, and tools in context, of calls with an effect.
    Score,
    /// The same for values whoever chose them.
    AnyValue,
    /// New values that only a tool's result showed.
    NewValue,
    /// Values that were chosen by a tool's result where that is unusual.
    ChosenByResult,
    /// Tools in context, of calls with an effect.
    Order,
    /// Tools in context, of all calls.
    OrderOfAll,
    /// The product's with other weights.
    Weighted(Weights),
}

/// How much each part of the score counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weights {
    pub(super) values_max: f32,
    pub(super) result: f32,
    pub(super) order: f32,
}

impl Method {
    pub(super) const ALL: [Self; 6] = [Self::Score, Self::AnyValue, Self::NewValue, Self::ChosenByResult, Self::Order, Self::OrderOfAll];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Score => "the score",
            Self::AnyValue => "the score without provenance",
            Self::NewValue => "new value from a result alone",
            Self::ChosenByResult => "chosen by a result, alone",
            Self::Order => "tool in context, calls with an effect",
            Self::OrderOfAll => "tool in context, all calls",
            Self::Weighted(_) => "the score with other weights",
        }
    }
}

/// What was said of one call.
#[derive(Clone, Copy, Debug)]
struct Said {
    acts: bool,
    parts: Parts,
    /// The greatest surprise of any value, whoever chose it.
    any: f32,
    /// How much of a surprise it is what the call does for the first time.
    first: f32,
}

impl Said {
    fn by(&self, method: Method) -> f32 {
        match method {
            Method::OrderOfAll => self.parts.order,
            _ if !self.acts => 0.0,
            Method::Score => self.parts.score(),
            Method::AnyValue => Parts { value: self.any, result: 0.0, ..self.parts }.score(),
            Method::NewValue => self.parts.value,
            Method::ChosenByResult => self.parts.result,
            Method::Order => self.parts.order,
            Method::Weighted(weights) => {
                let Parts { order, value, result } = self.parts;
                (value + weights.result * result).min(weights.values_max) + weights.order * order
            }
        }
    }
}

/// A run that was judged.
#[derive(Debug)]
pub(super) struct Execution<'r> {
    pub(super) run: &'r Run,
    said: Vec<Said>,
    /// The first call with a new value in a closed slot.
    pub(super) closed: Option<usize>,
    role: Arc<Role>,
}

impl Execution<'_> {
    /// The first call for which the baseline would raise an alert on a channel, by the threshold that it fitted to what it learned.
    pub(super) fn alert(&self, channel: Channel, budget: Budget) -> Option<usize> {
        let threshold = self.role.fitted(channel, budget.share() * channel.share())?;
        match channel {
            Channel::First => self.said.iter().position(|said| said.first > threshold),
            _ => self.first_above(Method::Score, threshold),
        }
    }

    /// Whether its role has learned enough for a person to be told.
    pub(super) fn is_enough(&self) -> bool {
        self.role.is_enough()
    }

    /// The first call above a threshold.
    pub(super) fn first_above(&self, method: Method, threshold: f32) -> Option<usize> {
        self.said.iter().position(|said| said.by(method) > threshold)
    }

    fn greatest(&self, method: Method) -> f32 {
        self.said.iter().map(|said| said.by(method)).fold(0.0, f32::max)
    }
}

/// Learns the runs that teach, each scored before it is learned, and judges the others.
pub(super) fn judge<'r>(part: &Part<'r>) -> Vec<Execution<'r>> {
    let role = learn(&part.taught);
    part.judged.iter().map(|run| execution(&role, run)).collect()
}

/// A role that has learned these runs, each scored before it was learned.
pub(super) fn learn(taught: &[&Run]) -> Arc<Role> {
    let (mut role, mut overlay) = (Role::default(), Overlay::default());
    for (minute, run) in (0..).zip(taught) {
        let scores = scores(&role, run);
        role.learn(&mut overlay, run.principal, minute * 60, &run.calls, scores);
    }
    Arc::new(role)
}

/// A role that has learned these runs as the product does it: not what is strange, nor too much of one principal. Says too how many of
/// the attacked ones it learned.
pub(super) fn learn_guarded(taught: &[(&Run, Principal)]) -> (Arc<Role>, usize) {
    let (mut role, mut overlay, mut attacked) = (Role::default(), Overlay::default(), 0);
    for (minute, (run, principal)) in (0..).zip(taught) {
        let scores = scores(&role, run);
        let is_strange = |(channel, score): (Channel, f32)| role.band(channel, score, Budget::default()) == Band::Strange;
        if Channel::ALL.into_iter().zip(scores).any(is_strange) || !role.may_learn_from(*principal) {
            continue;
        }
        attacked += usize::from(run.attacked);
        role.learn(&mut overlay, *principal, minute * 60, &run.calls, scores);
    }
    (Arc::new(role), attacked)
}

/// A run, judged by a role.
pub(super) fn execution<'r>(role: &Arc<Role>, run: &'r Run) -> Execution<'r> {
    Execution {
        run,
        said: said(role, run),
        closed: run.calls.iter().position(|call| role.is_new_in_closed(call.observed())),
        role: Arc::clone(role),
    }
}

/// The largest score of a run on each channel.
fn scores(role: &Role, run: &Run) -> [f32; Channel::ALL.len()] {
    let said = said(role, run);
    let greatest = |of: &dyn Fn(&Said) -> f32| said.iter().map(of).fold(0.0, f32::max);
    Channel::ALL.map(|channel| match channel {
        Channel::Call => greatest(&|said| said.by(Method::Score)),
        Channel::First => greatest(&|said| said.first),
        _ => 0.0,
    })
}

/// What the baseline says of each call of a run; whose run it is, it was not told.
fn said(role: &Role, run: &Run) -> Vec<Said> {
    let mut before = ToolId::BEGINNING;
    let one = |call: Observed<'_>, before| {
        let surprises = call.facets.iter().filter(|facet| facet.kind.is_value());
        let surprises = surprises.filter_map(|facet| Some(role.slot(call.tool, &facet)?.novelty(facet.value).surprise));
        Said { acts: call.acts, parts: role.parts(None, before, call), any: surprises.fold(0.0, f32::max), first: role.first(call) }
    };
    let each = run.calls.iter().map(|call| {
        let said = one(call.observed(), before);
        before = role.after(&call.tool);
        said
    });
    each.collect()
}

/// What is found at a share of false alerts, and how much of that at or before the first call that the attacker wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) found: f64,
    pub(super) inline: f64,
}

/// All runs of one parting, ranked by one method.
#[derive(Debug)]
pub(super) struct Pool<'e> {
    method: Method,
    benign: Vec<f32>,
    attacked: Vec<(f32, &'e Execution<'e>)>,
}

impl<'e> Pool<'e> {
    pub(super) fn of(executions: &'e [Execution<'e>], method: Method) -> Self {
        let of = |attacked: bool| executions.iter().filter(move |one| one.run.attacked == attacked);
        let mut benign: Vec<f32> = of(false).map(|one| one.greatest(method)).collect();
        benign.sort_unstable_by(|one, other| other.total_cmp(one));
        Self { method, benign, attacked: of(true).map(|one| (one.greatest(method), one)).collect() }
    }

    /// The chance that an attacked run is ranked before another; half where both are ranked alike.
    pub(super) fn auroc(&self) -> f64 {
        let before = |score: f32| {
            let above = self.benign.partition_point(|benign| *benign > score);
            let level = self.benign.partition_point(|benign| *benign >= score) - above;
            (self.benign.len() - above - level) as f64 + level as f64 / 2.0
        };
        let pairs = (self.benign.len() * self.attacked.len()).max(1) as f64;
        self.attacked.iter().map(|(score, _)| before(*score)).sum::<f64>() / pairs
    }

    /// The threshold that at most this share of the runs without an attack are above.
    fn threshold(&self, share: f64) -> f32 {
        let allowed = (share * self.benign.len() as f64) as usize;
        self.benign.get(allowed).copied().unwrap_or(0.0)
    }

    pub(super) fn found(&self, share: f64) -> Found {
        let threshold = self.threshold(share);
        let found: Vec<_> = self.attacked.iter().filter_map(|(_, one)| Some((one, one.first_above(self.method, threshold)?))).collect();
        let inline = found.iter().filter(|(one, call)| one.run.first_bad.is_some_and(|bad| *call <= bad)).count();
        let all = self.attacked.len().max(1) as f64;
        Found { found: found.len() as f64 / all, inline: inline as f64 / found.len().max(1) as f64 }
    }

    /// How many calls after the first that the attacker wanted each alert comes; none for one before it.
    pub(super) fn delays(&self, share: f64) -> Vec<usize> {
        let threshold = self.threshold(share);
        let late = |(_, one): &(f32, &Execution<'_>)| Some(one.first_above(self.method, threshold)?.saturating_sub(one.run.first_bad?));
        self.attacked.iter().filter_map(late).collect()
    }
}

/// Numbers in order.
#[derive(Debug)]
pub(super) struct Quantiles(Vec<usize>);

impl Quantiles {
    pub(super) fn of(numbers: impl Iterator<Item = usize>) -> Self {
        let mut numbers: Vec<usize> = numbers.collect();
        numbers.sort_unstable();
        Self(numbers)
    }

    pub(super) fn at(&self, share: f64) -> Option<usize> {
        let place = ((self.0.len() as f64 * share) as usize).min(self.0.len().checked_sub(1)?);
        self.0.get(place).copied()
    }
}
