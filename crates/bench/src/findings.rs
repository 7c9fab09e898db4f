//! From a record to its finding: how soon what is out of the ordinary is on the log, while the server is under load.

use std::collections::HashMap;
use std::time::Duration;

use bailiwick_core::detect::finding::Proof;
use bailiwick_core::model::{Found, Record, Timestamp};
use tokio::task::JoinSet;

use crate::Result;
use crate::house::House;
use crate::http::{Connection, tools_call};
use crate::load::{Callers, Pace};
use crate::process::bailiwick;
use crate::table::{Table, micros, share};
use crate::upstream::{self, Upstream};

/// How long each stranger waits before the next: one agent may use no more than 8,192 assertions within a slot of time.
const STRANGE_EVERY: Duration = Duration::from_millis(10);

/// Who calls what it may, at once after each answer.
const CALLERS: usize = 16;
/// Who makes one call after the other that it may not, each for a new execution, so that each is found.
const STRANGERS: usize = 4;
/// How long.
const LOADED: Duration = Duration::from_secs(8);

const SERVER: &str = "[tools.read]\neffect = \"read\"\nreturns = { integrity = \"trusted\" }\n\
                      [tools.write]\neffect = \"write\"\ntargets = {}\nreturns = { integrity = \"trusted\" }\n";

const RULES: &str = "title: A call is denied\nid: each-denial\nlogsource: { product: bailiwick }\n\
                     detection: { selection: { kind: intent, verdict: deny }, condition: selection }\n\
                     bailiwick: { impact: 5, confidence: 0.5, seen: '{agent} was denied {tool}.' }\n";

/// Measures under calls that write, each of which waits for the disk, and under calls that read, none of which does.
pub(crate) fn measure() -> Result {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(measured())
}

async fn measured() -> Result {
    let mut table = Table::new(&["load", "calls/s", "records", "findings", "p50 ms", "p90 ms", "p99 ms", "largest ms"]);
    for tool in ["write", "read"] {
        let echo = Upstream::start().await?;
        let server = format!("[server]\nname = \"echo\"\nmcp = \"http://127.0.0.1:{}/mcp\"\n{SERVER}", echo.port);
        let definitions = upstream::definitions(&["read", "write"]).to_string();
        let files = [("servers/echo.toml", server.as_str()), ("servers/echo.tools.json", &definitions), ("rules/denied.yml", RULES)];
        let house = House::start_with("ttl = \"15m\"", "", &[("echo", &echo)], &files).await?;
        let (records, answered, times) = loaded(&house, tool).await?;
        let millis = |time: Duration| format!("{:.1}", micros(time) / 1e3);
        table.row([
            format!("{CALLERS} that {tool}"),
            format!("{:.0}", answered as f64 / LOADED.as_secs_f64()),
            records.to_string(),
            times.len().to_string(),
            millis(share(&times, 0.5)),
            millis(share(&times, 0.9)),
            millis(share(&times, 0.99)),
            millis(times.last().copied().unwrap_or_default()),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// How many records there are after the load, how many calls were answered, and from each record that was found to its finding, sorted.
async fn loaded(house: &House, tool: &str) -> Result<(usize, usize, Vec<Duration>)> {
    let mut tokens = Vec::new();
    for _ in 0..CALLERS {
        tokens.push(house.quiet().await?);
    }
    let callers = Callers::start(house.port(), &tokens, CALLERS, &format!("echo__{tool}"), Pace::AtOnce);
    callers.count();
    let until = crate::clock::now() + LOADED;
    let mut strangers = JoinSet::<Result>::new();
    for _ in 0..STRANGERS {
        let ((noisy, doors), port) = (house.noisy_agent(), house.port());
        strangers.spawn(async move {
            while crate::clock::now() < until {
                let token = noisy.credential(doors, "/mcp").await?;
                let (head, body) = tools_call(port, "/mcp", "echo__nothing", "x");
                let request = format!("{head}authorization: Bearer {token}\r\n\r\n{body}");
                Connection::open(port).await?.send(request.as_bytes()).await?;
                tokio::time::sleep(STRANGE_EVERY).await;
            }
            Ok(())
        });
    }
    while let Some(done) = strangers.join_next().await {
        done??;
    }
    let answered = callers.stop().await?.answered.len();
    house.is_watched().await?;
    let printed = bailiwick()?.args(["log", "tail", "--json", "--from", "0", "--dir"]).arg(house.bundle()).output()?;
    let records: Vec<Record> = printed.stdout.split(|byte| *byte == b'\n').filter_map(|line| Record::read(line).ok()).collect();
    let mut times = Vec::new();
    let mut first: HashMap<_, Timestamp> = HashMap::new();
    for record in &records {
        let Record::Finding(Found { at, finding, .. }) = record else { continue };
        let Some(Proof::Record(place)) = finding.evidence.last().map(|evidence| evidence.proof.clone()) else { continue };
        let found = records.get(usize::try_from(place)?).ok_or("a finding is proven by a record that is not there")?;
        if first.insert(finding.id, *at).is_none() {
            times.push(Duration::try_from(at.duration_since(found.at()))?);
        }
    }
    times.sort_unstable();
    Ok((records.len(), answered, times))
}
