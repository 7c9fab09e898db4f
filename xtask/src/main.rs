//! `cargo xtask`: the checks of this repository, with everything that they need set up by themselves.
//!
//! `cargo xtask test` is what the build machine runs. It installs the other languages' parts into `.cache/`, starts and
//! stops every server that a check needs, and ends with one line that counts what passed and what failed.

mod a2a;
mod approvals;
mod bench;
mod clouds;
mod crash;
mod envoy;
mod eval;
mod federation;
mod findings;
mod fuzz;
mod gateway;
mod http;
mod init;
mod interop;
mod process;
mod report;
mod sign_in;
mod signals;
mod sim;
mod steps;
mod suite;
mod tidy;
mod tools;

use std::process::ExitCode;

/// Why a check could not be done or did not pass, in words that say what to do next.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Failure> = std::result::Result<T, E>;

const USAGE: &str = "\
cargo xtask test [--only STEP]... [--without STEP]... [--verbose]
                         run every check, or some; a step left out is named and counted as skipped
cargo xtask test --list  the steps, in the order in which they run
cargo xtask bench [NAME]...
                         what it costs: measure everything, or some; `--list` names what
cargo xtask eval [--signals] [--plain] [--match PATTERN] [--json]
                         how far a hijacked agent gets and how often an honest one is asked: AgentDojo, replayed without a
                         model, with effects declared and not; `--plain` leaves out the attackers who hide
cargo xtask eval detection [FILE]...
                         what the baselines find of what real agents did under attack, and how often they are wrong
cargo xtask eval cloudtrail [--sigma DIR] [--data FILE] [--list]
                         how many attacks the rules find in CloudTrail and what else they flag; with Sigma rules of others, whether
                         each match is one of rsigma's too; `--list` names what was flagged and was no attack
cargo xtask sim --seeds N [--from K]
                         torment the path in N worlds made from one seed each; `--seed K` replays one and tells its story
cargo xtask crash [--kills N] [--cuts N] [--seed N]
                         kill -9, cuts of the power, full and read-only disks, a clock set back; on the program as shipped
cargo xtask fuzz [TARGET] [--seconds N]
                         let libFuzzer search for what breaks a parser; every target if none is named
cargo xtask fuzz TARGET --input FILE
                         try one input again
cargo xtask tidy         what the compiler cannot hold: directions, absences, habits
cargo xtask setup        install what the other steps need, and nothing else";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test", rest @ ..] => steps::Selection::parse(rest).and_then(|selection| steps::run(&selection)),
        ["bench", rest @ ..] => bench::run(rest),
        ["eval", "cloudtrail", rest @ ..] => eval::cloudtrail(rest),
        ["eval", rest @ ..] => eval::run(rest),
        ["sim", rest @ ..] => sim::run(rest),
        ["crash", rest @ ..] => crash::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["tidy"] => steps::run(&steps::Selection::only("tidy")),
        ["setup"] => steps::run(&steps::Selection::only("setup")),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(2)
        }
    }
}
