//! What Bailiwick costs, measured. `cargo xtask bench` builds this program for release and runs it.
//!
//! Each measurement stands in a module of its own and prints the tables that `docs/performance.md` shows, so that a figure
//! there is the output of a command. What another program would need for the same work is measured beside it in the same run:
//! ratios survive a busy or a slow machine, times do not.

mod agent;
mod calls;
mod chain;
mod clock;
mod decision;
mod detect;
mod detection;
mod findings;
mod flow;
mod house;
mod http;
mod key;
mod load;
mod log;
mod memory;
mod overload;
mod process;
mod records;
mod revoke;
mod rules;
mod soak;
mod start;
mod table;
mod tokens;
mod upstream;

use std::error::Error;
use std::process::ExitCode;

// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// One thing that is measured.
struct Measurement {
    name: &'static str,
    /// What its figures tell, for the list.
    tells: &'static str,
    run: fn() -> Result,
}

const MEASUREMENTS: &[Measurement] = &[
    Measurement { name: "decision", tells: "one decision, with ever more policies and agents", run: decision::measure },
    Measurement { name: "chain", tells: "the same decision for ever longer chains of agents", run: chain::measure },
    Measurement { name: "calls", tells: "a whole call, beside nginx, and the price of each feature", run: calls::measure },
    Measurement {
        name: "flame",
        tells: "where the time of a call goes; BENCH_FLAME says where the graph is written",
        run: calls::flame::measure,
    },
    Measurement { name: "memory", tells: "what executions, revoked ids, remembered tokens and proofs take", run: memory::measure },
    Measurement { name: "flow", tells: "taking in what tools return, looking values up, and the memory for it", run: flow::measure },
    Measurement { name: "tokens", tells: "telling who is calling, and issuing credentials", run: tokens::measure },
    Measurement { name: "detect", tells: "folding records into what is usual, and saying it of a call", run: detect::measure },
    Measurement { name: "findings", tells: "from a record to its finding, while the server is under load", run: findings::measure },
    Measurement { name: "log", tells: "durable appends, beside the disk, SQLite and redb; verifying and proving", run: log::measure },
    Measurement {
        name: "start",
        tells: "from the start to the first answer, with 10 million records; memory when idle",
        run: start::measure,
    },
    Measurement { name: "overload", tells: "ten times the callers that can be served, and a server that hangs", run: overload::measure },
    Measurement {
        name: "revoke",
        tells: "from the command to the last byte of a thousand streams, among ten thousand",
        run: revoke::measure,
    },
    Measurement {
        name: "detect-rules",
        tells: "rules over CloudTrail, beside rsigma, and over our own records; BENCH_SIGMA names a folder of Sigma rules",
        run: rules::measure,
    },
    Measurement {
        name: "soak",
        tells: "memory at full load while executions come and go; BENCH_SECONDS says for how long",
        run: soak::measure,
    },
];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let measured = match names.as_slice() {
        // Not measurements, but what some are made of: each is started by its measurement, as a process of its own.
        [command, port] if command == upstream::COMMAND => upstream::serve(port),
        [case, number] if case == memory::CASE => memory::case(number),
        [command, files @ ..] if command == detection::COMMAND => detection::evaluate(files),
        [command, rest @ ..] if command == rules::eval::COMMAND => rules::eval::run(rest),
        names => measure(names),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is named, one after the other, or everything.
fn measure(names: &[String]) -> Result {
    if names.iter().any(|name| name == "--list") {
        for Measurement { name, tells, .. } in MEASUREMENTS {
            println!("{name:<12} {tells}");
        }
        return Ok(());
    }
    if let Some(unknown) = names.iter().find(|name| MEASUREMENTS.iter().all(|known| known.name != **name)) {
        return Err(format!("nothing is measured under the name `{unknown}`; `--list` names what is").into());
    }
    for Measurement { name, tells, run } in MEASUREMENTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            println!("## {name}: {tells}\n");
            run().map_err(|why| format!("{name}: {why}"))?;
        }
    }
    Ok(())
}
