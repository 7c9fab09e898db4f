//! Crashes, and disks and clocks that fail, under load and for real: processes that are killed, a power that is cut, a disk
//! that is full or read-only, a clock that is set back.
//!
//! A tool server keeps a journal of what really reached it. After each misfortune the gateway is started again; in the end
//! journal, clients' answers and log are laid side by side. `cargo xtask test` does some of it with the program as it is
//! quickly built, `cargo xtask crash` as much as is asked for with the program as it is shipped.

mod clock;
mod compare;
mod disk;
mod kill;
mod volume;
mod world;

use crate::process;
use crate::report::Report;
use crate::tools::Tools;
use crate::{Result, steps};

/// How much is to be done, and from which seed the moments are drawn.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kills: usize,
    cuts: usize,
    seed: u64,
}

/// What `cargo xtask test` does of it.
const SHORT: Plan = Plan { kills: 20, cuts: 3, seed: 1 };

/// What `cargo xtask crash` does when it is not told otherwise.
const LONG: Plan = Plan { kills: 500, cuts: 50, seed: 1 };

/// The short form, as a step of `cargo xtask test`.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    Ok(all(tools, SHORT))
}

/// `cargo xtask crash [--kills N] [--cuts N] [--seed N]`.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    let mut plan = LONG;
    for pair in arguments.chunks(2) {
        let [option, number] = pair else { return Err(crate::USAGE.into()) };
        match *option {
            "--kills" => plan.kills = number.parse()?,
            "--cuts" => plan.cuts = number.parse()?,
            "--seed" => plan.seed = number.parse()?,
            _ => return Err(crate::USAGE.into()),
        }
    }
    let mut tools = Tools::new(false)?;
    tools.release = true;
    tools.must_set_up()?;
    let built = process::run(&tools, "crash-build", tools.cargo().args(["build", "--release", "--bin", "bailiwick"]))?;
    if !built.success {
        return Err(format!("the program cannot be built:\n{}", built.tail(30)).into());
    }
    let report = all(&tools, plan);
    steps::tell_report(&report);
    Ok(report.failures.is_empty())
}

/// Everything; a part that cannot go on does not keep the next from its turn.
fn all(tools: &Tools, plan: Plan) -> Report {
    let mut report = Report::default();
    let mut part = |name: &str, found: Result<Report>| match found {
        Ok(found) => report.merge(found),
        Err(why) => report.check(Err(format!("{name}: {why}"))),
    };
    part("killed", kill::kills(tools, plan));
    part("without power", kill::cuts(tools, plan));
    part("a full disk", disk::full(tools));
    part("a read-only disk", disk::read_only(tools));
    part("a clock set back", clock::set_back(tools));
    report
}

/// Moments drawn from a seed (SplitMix64): which calls they meet is the machine's affair, so a run repeats only roughly.
#[derive(Debug)]
struct Moments(u64);

impl Moments {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Lets a time of less than `milliseconds` pass.
    fn pass(&mut self, milliseconds: u64) {
        std::thread::sleep(std::time::Duration::from_micros(self.below(milliseconds * 1_000)));
    }
}
