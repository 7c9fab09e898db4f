//! What a world is made of and what may go wrong in it, chosen by its seed.

use crate::dice::Dice;

/// A fault that is planted on purpose, so that a test sees the invariant that must find it find it. None is ever chosen by a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The storage says that an entry would survive a crash when it would not.
    AcksTooEarly,
    /// The storage says so of reads only, and is slow to write what nobody waits for.
    AcksReadsTooEarly,
    /// The storage takes an entry for any place in its stream.
    IgnoresExpected,
    /// The storage writes outcomes twice.
    WritesOutcomesTwice,
    /// The storage changes an amount in an intent.
    RewritesAmounts,
    /// The tool server's connection sends a permitted call twice.
    ForwardsTwice,
    /// The broker puts the secret into its error.
    LeakingVault,
    /// What a gateway keeps of the log between starts says that nothing untrusted was read.
    FoldForgets,
    /// What a gateway keeps of the log between starts lacks what was written under untrusted influence.
    FoldForgetsWrites,
    /// What a gateway keeps of the log between starts lacks the chains of executions.
    FoldForgetsChains,
    /// What a gateway keeps of the log between starts lacks who is quarantined.
    FoldForgetsQuarantines,
    /// A run depends on something that its seed does not decide.
    OtherDice,
}

impl Planted {
    /// Whether it is in what gateways keep between starts.
    pub(crate) const fn is_of_folds(self) -> bool {
        matches!(self, Self::FoldForgets | Self::FoldForgetsWrites | Self::FoldForgetsChains | Self::FoldForgetsQuarantines)
    }

    /// Whether only a world in which executions delegate shows it.
    pub(crate) const fn is_of_chains(self) -> bool {
        matches!(self, Self::FoldForgetsChains | Self::FoldForgetsQuarantines)
    }
}

/// A world's measures.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many gateways share the log.
    pub gateways: usize,
    /// How many clients call.
    pub clients: usize,
    /// How many things each client does.
    pub steps: u64,
    /// How many faults come over the world from outside: kills, restarts, jumps of clocks, reloads.
    pub blows: u64,
    /// How often in a thousand times a write fails, fills the disk, or finds an entry rotten.
    pub disk_fails: u64,
    /// How often in a thousand times something takes very long.
    pub slow: u64,
    /// How often in a thousand times a message is lost, or comes twice.
    pub messages_fail: u64,
    /// How often in a thousand calls the caller hangs up.
    pub hang_ups: u64,
    /// How often in a thousand calls the tool server fails.
    pub tools_fail: u64,
    /// Whether gateways keep their fold of the log between starts. No die decides it, so that seeds which are known by name go on
    /// to mean what they meant.
    pub keeps_folds: bool,
    /// Whether people answer what calls ask, and agents then make them again. No die decides it either.
    pub people_answer: bool,
    /// Whether executions delegate, and agents are quarantined and released. Nor does one decide this.
    pub delegates: bool,
    /// The planted fault.
    pub planted: Option<Planted>,
}

impl Plan {
    /// The plan of a seed: from one peaceful gateway to three under every fault at once.
    pub(crate) fn of(dice: &Dice) -> Self {
        let some = |chance: u64, most: u64| if dice.chance(chance) { dice.below(most) } else { 0 };
        Self {
            gateways: 1,
            clients: 0,
            steps: 0,
            blows: some(800, 12),
            disk_fails: some(500, 40),
            slow: some(500, 150),
            messages_fail: some(600, 200),
            hang_ups: some(700, 300),
            tools_fail: some(700, 300),
            keeps_folds: false,
            people_answer: false,
            delegates: false,
            planted: None,
        }
        .sized(dice)
    }

    fn sized(self, dice: &Dice) -> Self {
        let gateways = if dice.chance(400) { 1 } else { 2 + usize::from(dice.chance(300)) };
        Self { gateways, clients: 1 + usize::try_from(dice.below(3)).unwrap_or(0), steps: 4 + dice.below(14), ..self }
    }
}
