//! Lives many worlds and tells of those in which something does not hold. `cargo xtask sim` builds and runs it.

use std::process::ExitCode;

use bailiwick_sim::{Invariant, Objection, Run, run};

/// Every so many seeds, one is lived twice, and both lives must be the same.
const TWICE_EVERY: u64 = 8;

/// After so many seeds that fail, the rest would say the same.
const FAILURES_MAX: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["--seed", seed] => seed.parse().map_err(|_| format!("`{seed}` is not a seed")).and_then(one),
        ["--seeds", count] => many(0, count),
        ["--seeds", count, "--from", from] => {
            from.parse().map_err(|_| format!("`{from}` is not a seed")).and_then(|from| many(from, count))
        }
        _ => Err("bailiwick-sim --seeds N [--from K] | --seed K".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Lives one world and tells its whole story.
fn one(seed: u64) -> Result<bool, String> {
    let run = twice(seed, true)?;
    run.story.iter().for_each(|line| println!("{line}"));
    tell(seed, &run);
    Ok(run.objections.is_empty())
}

/// Lives the worlds of `count` seeds from `from` on.
fn many(from: u64, count: &str) -> Result<bool, String> {
    let count: u64 = count.parse().map_err(|_| format!("`{count}` is not a number of seeds"))?;
    let (mut records, mut forwarded, mut failed) = (0_usize, 0_usize, 0_usize);
    for seed in from..from.saturating_add(count) {
        let run = if seed % TWICE_EVERY == 0 { twice(seed, false)? } else { run(seed, None, false)? };
        records = records.saturating_add(run.records);
        forwarded = forwarded.saturating_add(run.forwarded);
        if !run.objections.is_empty() {
            tell(seed, &run);
            failed = failed.saturating_add(1);
            if failed >= FAILURES_MAX {
                break;
            }
        }
    }
    println!("{count} seeds from {from}: {records} records, {forwarded} calls at tool servers, {failed} seeds failed");
    Ok(failed == 0)
}

/// Lives a world twice, and objects when the lives differ.
fn twice(seed: u64, keeps_story: bool) -> Result<Run, String> {
    let (first, mut second) = (run(seed, None, false)?, run(seed, None, keeps_story)?);
    if first.digest != second.digest {
        let why = format!("two runs of the seed end in {:016x} and {:016x}", first.digest, second.digest);
        second.objections.push(Objection { invariant: Invariant::Replays, why });
    }
    Ok(second)
}

fn tell(seed: u64, run: &Run) {
    for Objection { invariant, why } in &run.objections {
        println!("seed {seed}: {invariant}: {why}");
    }
    if !run.objections.is_empty() {
        println!("seed {seed}: replay it with `cargo xtask sim --seed {seed}`");
    }
}
