//! Torments: the real path, policy, ledger, recovery and authenticator in a world made from one number.
//!
//! One thread, simulated time. What is real, what is simulated and what must hold is in `docs/architecture.md`, section
//! "Simulation". [`run`] lives one world; the program of this crate lives many, and `cargo xtask sim` builds and runs it.

mod bundle;
mod check;
mod client;
mod clock;
mod dice;
mod disk;
mod folds;
mod house;
mod life;
mod lines;
mod plan;
mod tools;
mod trace;
mod world;

pub use check::Invariant;
pub use plan::{Plan, Planted};

use crate::dice::Dice;
use crate::lines::Lines;
use crate::world::World;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Which.
    pub invariant: Invariant,
    /// What was found.
    pub why: String,
}

/// What came of one world.
#[derive(Clone, Debug)]
pub struct Run {
    /// One number for all that happened.
    pub digest: u64,
    /// What does not hold; empty when all does.
    pub objections: Vec<Objection>,
    /// How many records the log held at the end.
    pub records: usize,
    /// How many calls reached a tool server.
    pub forwarded: usize,
    /// All that happened, line by line, where that was asked for.
    pub story: Vec<String>,
}

/// Lives the world of one seed, with a fault planted or none. Fails only when a world cannot be made.
pub fn run(seed: u64, planted: Option<Planted>, keeps_story: bool) -> Result<Run, String> {
    let dice = Dice::new(seed);
    let keeps_folds = planted.map_or(!matches!(seed % 5, 0 | 2), |planted| planted.is_of_folds());
    let delegates = planted.map_or(seed % 6 == 4, Planted::is_of_chains);
    let people_answer = planted.map_or(matches!(seed % 4, 1 | 2), |planted| planted == Planted::IgnoresExpected);
    let plan = Plan { planted, keeps_folds, people_answer, delegates, ..Plan::of(&dice) };
    live(plan, dice, keeps_story)
}

/// Lives a world by a plan of one's own.
pub fn run_plan(seed: u64, plan: Plan) -> Result<Run, String> {
    live(plan, Dice::new(seed), false)
}

fn live(plan: Plan, dice: Dice, keeps_story: bool) -> Result<Run, String> {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(lines.clone()).finish();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().map_err(|error| error.to_string())?;
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let world = World::new(plan, dice, lines, keeps_story)?;
            let objections = world.live().await;
            Ok(Run {
                digest: world.trace.digest(),
                objections,
                records: world.disk.entries().len(),
                forwarded: world.seen.forwarded().len(),
                story: world.trace.lines(),
            })
        })
    })
}
