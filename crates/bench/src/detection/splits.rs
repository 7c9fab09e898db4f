//! What is learned from and what is judged: no run is judged by what was learned from it.

use std::collections::BTreeSet;

use super::traces::Run;

/// How the runs are parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// The same tasks by other agents: half of the agents teach, and the others are judged; then the other way round.
    Recurring,
    /// Tasks that were never seen: each fifth of the tasks is judged by what the others taught.
    Novel,
    /// An agent that is new in its role: each is judged by what all others taught.
    NewAgent,
}

/// Runs to learn from, in the order in which they are learned, and runs to judge, of one role.
#[derive(Debug)]
pub(super) struct Part<'r> {
    pub(super) taught: Vec<&'r Run>,
    pub(super) judged: Vec<&'r Run>,
}

impl Split {
    pub(super) const ALL: [Self; 3] = [Self::Recurring, Self::Novel, Self::NewAgent];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Recurring => "Recurring tasks",
            Self::Novel => "Tasks never seen",
            Self::NewAgent => "A new agent",
        }
    }

    /// The parts, for each role and each set of runs that is judged together.
    pub(super) fn part(self, runs: &[Run], seed: u64) -> Vec<Part<'_>> {
        let mut dice = Dice(seed.wrapping_mul(2).wrapping_add(1));
        let roles: BTreeSet<&str> = runs.iter().map(|run| run.role.as_str()).collect();
        let mut parts = Vec::new();
        for role in roles {
            let of_role: Vec<&Run> = runs.iter().filter(|run| run.role == role).collect();
            let key = |run: &Run| if self == Self::Novel { run.task.clone() } else { run.agent.clone() };
            let mut keys: Vec<String> = of_role.iter().map(|run| key(run)).collect::<BTreeSet<_>>().into_iter().collect();
            dice.shuffle(&mut keys);
            let folds = match self {
                Self::Recurring => 2,
                Self::Novel => 5,
                Self::NewAgent => keys.len(),
            };
            for fold in 0..folds {
                let is_judged = |run: &Run| keys.iter().position(|known| *known == key(run)).is_some_and(|place| place % folds == fold);
                let (judged, mut taught): (Vec<_>, Vec<_>) = of_role.iter().copied().partition(|run| is_judged(run));
                taught.retain(|run| run.is_benign());
                dice.shuffle(&mut taught);
                parts.push(Part { taught, judged: judged.into_iter().filter(|run| run.is_benign() || run.attacked).collect() });
            }
        }
        parts
    }
}

/// Numbers that are the same each time (Vigna's SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            let place = usize::try_from(self.next() % u64::try_from(end + 1).unwrap_or(u64::MAX)).unwrap_or(0);
            list.swap(end, place);
        }
    }
}
