//! A day in miniature: full load while executions begin and end, and the memory that is then in use.

use std::time::Duration;

use crate::house::House;
use crate::load::{Callers, Pace};
use crate::table::Table;
use crate::upstream::Upstream;
use crate::{Result, clock};

/// The variable that says how long it lasts, in seconds.
const SECONDS: &str = "BENCH_SECONDS";

/// How long it lasts where nobody says.
const LASTS: Duration = Duration::from_secs(600);

/// How many callers call at once, and how long with one credential, which lives a little longer.
const CALLERS: usize = 32;
const EXECUTION: Duration = Duration::from_secs(4);
const CREDENTIAL: &str = "ttl = \"10s\"";

/// Measures everything and prints a table.
pub(crate) fn measure() -> Result {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(measured())
}

async fn measured() -> Result {
    let lasts = match std::env::var(SECONDS) {
        Ok(text) => Duration::from_secs(text.parse().map_err(|_| format!("{SECONDS} is no number of seconds"))?),
        Err(_) => LASTS,
    };
    let echo = Upstream::start().await?;
    let house = House::start(CREDENTIAL, "", &[("echo", &echo)]).await?;
    let began = clock::now();
    let (mut calls, mut executions) = (0, 0);
    let mut samples = Vec::new();
    while began.elapsed() < lasts {
        let mut tokens = Vec::new();
        for _ in 0..8 {
            tokens.push(house.noisy().await?);
        }
        executions += tokens.len();
        let callers = Callers::start(house.port(), &tokens, CALLERS, "echo__read", Pace::Heeding);
        callers.count();
        tokio::time::sleep(EXECUTION).await;
        calls += callers.stop().await?.answered.len();
        samples.push((began.elapsed().as_secs_f64(), house.resident_kib()? as f64 / 1024.0));
    }
    // What is filled once, caches and the allocator's pools, is filled in the first part.
    let settled = samples.split_off(samples.len() / 4);
    let mut table = Table::new(&["time", "calls", "executions", "memory at a quarter", "in the end", "at most", "slope"]);
    let of = |sample: Option<&(f64, f64)>| sample.map_or(0.0, |(_, memory)| *memory);
    let most = settled.iter().map(|(_, memory)| *memory).fold(0.0, f64::max);
    let mib = |memory: f64| format!("{memory:.1} MiB");
    table.row([
        format!("{} s", began.elapsed().as_secs()),
        calls.to_string(),
        executions.to_string(),
        mib(of(settled.first())),
        mib(of(settled.last())),
        mib(most),
        format!("{:+.2} MiB/min", slope(&settled) * 60.0),
    ]);
    println!("{table}");
    Ok(())
}

/// The slope of the straight line that these points lie on best.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        let from = point.0 - x;
        (from.mul_add(point.1 - y, above), from.mul_add(from, below))
    });
    if below > 0.0 { above / below } else { 0.0 }
}
