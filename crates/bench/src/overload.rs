//! More than can be served: what becomes of it, of those who ask for little meanwhile, and how soon it is over.

use std::time::Duration;

use crate::house::House;
use crate::load::{Callers, Pace, Seen};
use crate::table::Table;
use crate::upstream::Upstream;
use crate::{Result, clock};

/// How long each state lasts, and how long until it is one.
const LASTS: Duration = Duration::from_secs(6);
const SETTLES: Duration = Duration::from_secs(2);

/// As many callers as keep the gateway busy, and ten times as many.
const BUSY: usize = 64;
const TOO_MANY: usize = 640;

/// Calls of the quiet agent.
const QUIET: Pace = Pace::Every(Duration::from_millis(50));

/// Measures everything and prints two tables.
pub(crate) fn measure() -> Result {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(measured())
}

async fn measured() -> Result {
    let (echo, slow) = (Upstream::start().await?, Upstream::start().await?);
    let house = House::start("ttl = \"15m\"", "calls_max = 300", &[("echo", &echo), ("slow", &slow)]).await?;
    // An execution has at most 64 calls under way, so ten times as many callers are ten executions of one agent and more.
    let mut tokens = Vec::new();
    for _ in 0..16 {
        tokens.push(house.noisy().await?);
    }
    let quiet = [house.quiet().await?];
    let port = house.port();
    let noisy = |connections, tool, pace| (connections > 0).then(|| Callers::start(port, &tokens, connections, tool, pace));

    let mut table = Table::new(&[
        "noisy callers",
        "answered/s",
        "refused/s",
        "p50",
        "p99",
        "CPU per request",
        "quiet p50",
        "quiet p99",
        "quiet refused",
    ]);
    let mut cpu_of_a_call = Duration::ZERO;
    let mut refusal = None;
    for (name, connections, pace) in [
        ("none", 0, Pace::AtOnce),
        ("64", BUSY, Pace::AtOnce),
        ("640, refusals heeded", TOO_MANY, Pace::Heeding),
        ("640, refusals ignored", TOO_MANY, Pace::AtOnce),
    ] {
        let state = state(&house, noisy(connections, "echo__read", pace), &quiet, name).await?;
        if connections == BUSY {
            cpu_of_a_call = state.cpu_each();
        } else if state.noisy.refused > 0 {
            let calls = u32::try_from(state.noisy.answered.len())?;
            refusal = Some(state.cpu.saturating_sub(cpu_of_a_call * calls) / u32::try_from(state.noisy.refused)?);
        }
        table.row(state.cells());
    }
    slow.hang(true);
    let hung = noisy(TOO_MANY, "slow__read", Pace::Heeding);
    let state = state(&house, hung, &quiet, "640 at a server that hangs").await?;
    table.row(state.cells());
    println!("{table}");
    if let Some(refusal) = refusal {
        println!("A refusal costs {} of CPU, an answered call {}.\n", micros(refusal), micros(cpu_of_a_call));
    }

    slow.hang(false);
    tokio::time::sleep(SETTLES).await;
    println!("After a flood of {TOO_MANY} callers for {} s, all of whom stop at once, {} of them go on:\n", LASTS.as_secs(), BUSY / 8);
    let flood = Callers::start(port, &tokens, TOO_MANY, "echo__read", Pace::AtOnce);
    tokio::time::sleep(LASTS).await;
    flood.cut_off().await;
    let mut table = Table::new(&["after", "answered", "refused", "p99"]);
    let began = clock::now();
    for _ in 0..5 {
        let few = Callers::start(port, &tokens, BUSY / 8, "echo__read", Pace::AtOnce);
        few.count();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let after = began.elapsed();
        let seen = few.stop().await?;
        table.row([
            format!("{} ms", after.as_millis()),
            seen.answered.len().to_string(),
            seen.refused.to_string(),
            millis(seen.quantile(0.99)),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// What was seen in one state.
struct State {
    name: String,
    noisy: Seen,
    quiet: Seen,
    took: Duration,
    cpu: Duration,
}

impl State {
    fn cpu_each(&self) -> Duration {
        let requests = self.noisy.answered.len() + self.quiet.answered.len() + usize::try_from(self.noisy.refused).unwrap_or(usize::MAX);
        self.cpu / u32::try_from(requests.max(1)).unwrap_or(u32::MAX)
    }

    fn cells(&self) -> [String; 9] {
        let each_second = |count: f64| format!("{:.0}", count / self.took.as_secs_f64());
        [
            self.name.clone(),
            each_second(self.noisy.answered.len() as f64),
            each_second(self.noisy.refused as f64),
            millis(self.noisy.quantile(0.5)),
            millis(self.noisy.quantile(0.99)),
            micros(self.cpu_each()),
            millis(self.quiet.quantile(0.5)),
            millis(self.quiet.quantile(0.99)),
            format!("{} of {}", self.quiet.refused, self.quiet.refused + self.quiet.answered.len() as u64),
        ]
    }
}

/// Lets `noisy` settle and watches it together with a quiet caller.
async fn state(house: &House, noisy: Option<Callers>, quiet: &[String], name: &str) -> Result<State> {
    tokio::time::sleep(SETTLES).await;
    let (began, cpu) = (clock::now(), house.cpu()?);
    let quiet = Callers::start(house.port(), quiet, 1, "echo__read", QUIET);
    quiet.count();
    if let Some(noisy) = &noisy {
        noisy.count();
    }
    tokio::time::sleep(LASTS).await;
    let quiet = quiet.stop().await?;
    let (took, cpu) = (began.elapsed(), house.cpu()?.saturating_sub(cpu));
    let noisy = match noisy {
        // Calls that hang do not end when they are asked to.
        Some(callers) if name.contains("hangs") => {
            callers.cut_off().await;
            Seen::default()
        }
        Some(callers) => callers.stop().await?,
        None => Seen::default(),
    };
    Ok(State { name: name.to_owned(), noisy, quiet, took, cpu })
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}
