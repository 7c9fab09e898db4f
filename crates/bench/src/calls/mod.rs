//! A whole call, from the agent's bytes to the answer's: credential, proof, policy, ledger, log, upstream. Beside it the
//! upstream asked directly and nginx as a plain proxy before it, in the same run and by the same load.
//!
//! Everything that is measured is a process of its own, reached over loopback, and its CPU time is the kernel's count.
//! Credentials and proofs are made beforehand and in this process, so that no agent's work is counted.

pub(crate) mod flame;
mod gateway;
mod load;
mod nginx;

use std::path::PathBuf;
use std::time::Duration;

use gateway::{Bundle, Gateway};
use load::{Load, Measured, Target};
use nginx::Nginx;

use crate::process::{Program, free_port};
use crate::table::Table;
use crate::{Result, upstream};

/// How many connections call at once.
const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// What is sent and what comes back.
#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    tool: &'static str,
    /// The bytes of the one argument.
    argument_bytes: usize,
    /// How many calls are made with 1, 8 and 64 connections.
    calls: [usize; 3],
}

const SIZES: [Size; 3] = [
    Size { name: "200 B", tool: "read", argument_bytes: 200, calls: [3_000, 12_000, 16_000] },
    Size { name: "10 KB", tool: "read", argument_bytes: 10_000, calls: [2_000, 6_000, 8_000] },
    Size { name: "1 MB result", tool: "large", argument_bytes: 1, calls: [40, 160, 320] },
];

/// Measures everything and prints three tables.
pub(crate) fn measure() -> Result {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measured())
}

async fn measured() -> Result {
    let home = home()?;
    let upstream_port = free_port()?;
    let echo = Program::start(
        std::process::Command::new(std::env::current_exe()?).args([upstream::COMMAND, &upstream_port.to_string()]),
        &home.join("upstream.log"),
    )?;
    echo.wait_until_it_listens(upstream_port).await?;
    let nginx = Nginx::start(&home, upstream_port).await?;
    if nginx.is_none() {
        println!("**nginx is not installed, so there is nothing to compare with: `apt-get install nginx`, then run this again.**\n");
    }
    let gateway = Gateway::start(&home, upstream_port, Bundle { policies: 2, records_arguments: true }).await?;

    let mut table = Table::new(&["call", "connections", "way", "requests/s", "p50", "p99", "CPU per request", "to nginx", "p99 to nginx"]);
    for size in SIZES {
        for (connections, calls) in CONNECTIONS.into_iter().zip(size.calls) {
            let load = |target| Load { target, size_bytes: size.argument_bytes, tool: size.tool, connections, calls };
            let direct = load(Target::plain(upstream_port, &echo)).run().await?;
            let by_nginx = match &nginx {
                Some(nginx) => Some(load(Target::plain(nginx.port, &nginx.program)).run().await?),
                None => None,
            };
            let bearer = load(gateway.target(&gateway.bearer)).run().await?;
            let proven = load(gateway.target(&gateway.proven)).run().await?;
            let mut row = |way: &str, measured: &Measured, compared: bool| {
                let against = by_nginx.as_ref().filter(|_| compared);
                table.row([
                    size.name.to_owned(),
                    connections.to_string(),
                    way.to_owned(),
                    format!("{:.0}", measured.per_second()),
                    micros(measured.quantile(0.5)),
                    micros(measured.quantile(0.99)),
                    micros(measured.cpu_each()),
                    against.map_or_else(String::new, |nginx| ratio(measured.cpu_each(), nginx.cpu_each())),
                    against.map_or_else(String::new, |nginx| ratio(measured.quantile(0.99), nginx.quantile(0.99))),
                ]);
            };
            row("upstream alone", &direct, false);
            if let Some(nginx) = &by_nginx {
                row("nginx, plain", nginx, false);
            }
            row("bailiwick, known bearer token", &bearer, true);
            row("bailiwick, fresh ES256 proof", &proven, true);
        }
    }
    println!("{table}");
    prices(&home, upstream_port, gateway).await
}

/// What each feature costs: everything on, then one thing another way.
async fn prices(home: &std::path::Path, upstream_port: u16, gateway: Gateway) -> Result {
    let everything = priced(gateway.target(&gateway.proven), "read").await?;
    let mut table = Table::new(&["8 connections, 200 B", "requests/s", "p50", "CPU per request", "against everything on"]);
    let mut row = |what: &str, measured: &Measured| {
        let difference = measured.cpu_each().as_secs_f64() * 1e6 - everything.cpu_each().as_secs_f64() * 1e6;
        table.row([
            what.to_owned(),
            format!("{:.0}", measured.per_second()),
            micros(measured.quantile(0.5)),
            micros(measured.cpu_each()),
            format!("{difference:+.0} µs"),
        ]);
    };
    row("everything on: fresh proof, policy, ledger, log, arguments recorded", &everything);
    row("no proof: a bearer token", &priced(gateway.target(&gateway.bearer), "read").await?);
    row("an effect: the intent is on the disk before the call", &priced(gateway.target(&gateway.proven), "write").await?);
    drop(gateway);
    for (what, bundle) in [
        ("arguments not recorded", Bundle { policies: 2, records_arguments: false }),
        ("1,000 policies", Bundle { policies: 1_000, records_arguments: true }),
    ] {
        let gateway = Gateway::start(home, upstream_port, bundle).await?;
        row(what, &priced(gateway.target(&gateway.proven), "read").await?);
    }
    println!("{table}");
    Ok(())
}

async fn priced(target: Target<'_>, tool: &'static str) -> Result<Measured> {
    Load { target, size_bytes: 200, tool, connections: 8, calls: 12_000 }.run().await
}

/// An empty directory beside the program, on a disk and not in memory: the log's syncs are part of what is measured.
fn home() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let home = program.parent().ok_or("this program is in no directory")?.join("bench-calls");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::create_dir_all(&home)?;
    Ok(home)
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

fn ratio(one: Duration, other: Duration) -> String {
    format!("{:.1} ×", one.as_secs_f64() / other.as_secs_f64())
}
