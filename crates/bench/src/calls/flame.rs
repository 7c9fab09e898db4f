//! Where the time of a call goes: the gateway's stacks while it is called with fresh proofs, by the part of the path that they
//! are in, as a table and as a flame graph. The kernel takes the samples (`perf`, of the package `linux-perf`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::gateway::{Bundle, Gateway};
use super::load::Load;
use crate::process::{Program, free_port};
use crate::table::Table;
use crate::{Result, upstream};

/// The variable that says where the graph is written.
const GRAPH: &str = "BENCH_FLAME";

const CONNECTIONS: usize = 8;
const CALLS: usize = 24_000;

/// Samples a second: enough for a per cent, and no multiple of what timers do.
const SAMPLES_PER_SECOND: &str = "1499";

/// Parts of the path by a function that only they have; of a stack's functions, the innermost that is named here counts.
const PARTS: [(&str, &str); 12] = [
    ("Authenticator::authenticate", "who calls: token and proof"),
    ("Pressure::admit", "whether there is time and room"),
    ("bailiwick_gateway::mcp::parse::", "reading the request's message"),
    ("bailiwick_core::judge::judge", "the decision"),
    ("bailiwick_log::append::", "handing records to the log"),
    ("bailiwick_store::embedded::", "handing records to the log"),
    ("bailiwick_gateway::mcp::upstream::converse", "reading the tool server's answer"),
    ("bailiwick_gateway::mcp::upstream::connections::", "HTTP with the tool server"),
    ("bailiwick_gateway::mcp::upstream::", "writing the tool server's request"),
    ("bailiwick_gateway::path::", "the path around them: turns, ledger, outcome"),
    ("bailiwick_gateway::mcp::", "MCP with the client"),
    ("hyper::proto::h1::", "HTTP with the client"),
];

/// Where everything else belongs.
const REST: &str = "tasks, timers, threads";

/// Measures and prints a table; writes the graph where [`GRAPH`] says.
pub(crate) fn measure() -> Result {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measured())
}

async fn measured() -> Result {
    let home = super::home()?;
    let upstream_port = free_port()?;
    let echo = Program::start(
        Command::new(std::env::current_exe()?).args([upstream::COMMAND, &upstream_port.to_string()]),
        &home.join("upstream.log"),
    )?;
    echo.wait_until_it_listens(upstream_port).await?;
    let gateway = Gateway::start(&home, upstream_port, Bundle { policies: 2, records_arguments: true }).await?;
    let load = |calls| Load { target: gateway.target(&gateway.proven), size_bytes: 200, tool: "read", connections: CONNECTIONS, calls };
    load(2_000).run().await?; // so that what is filled once is filled
    let samples = home.join("samples");
    let mut perf = Command::new("perf")
        .args(["record", "--quiet", "--freq", SAMPLES_PER_SECOND, "--call-graph", "dwarf,48000", "--pid", &gateway.id().to_string()])
        .arg("--output")
        .arg(&samples)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("perf does not start: {error}; `apt-get install linux-perf`"))?;
    let measured = load(CALLS).run().await;
    drop(gateway); // which ends the recording
    perf.wait()?;
    let cpu = measured?.cpu_each();

    let stacks = stacks(&samples)?;
    let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut graph = Node::default();
    for (stack, time) in &stacks {
        let (part, inner) = part(stack);
        *parts.entry(part).or_default() += time;
        graph.add(std::iter::once(part).chain(inner.iter().map(String::as_str)), *time);
    }
    let all: u64 = parts.values().sum();
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    let mut table = Table::new(&["part of a call", "share", "CPU"]);
    for (part, time) in parts {
        let share = time as f64 / all.max(1) as f64;
        table.row([part.to_owned(), format!("{:.1} %", share * 100.0), super::micros(cpu.mul_f64(share))]);
    }
    table.row(["all".to_owned(), format!("{} samples", stacks.len()), super::micros(cpu)]);
    println!("{table}");
    if let Some(path) = std::env::var_os(GRAPH) {
        std::fs::write(&path, graph.drawn())?;
        println!("\nThe graph is in {}.", Path::new(&path).display());
    }
    Ok(())
}

/// Every sample: its functions from the outermost to the innermost, and the time that it stands for.
fn stacks(samples: &Path) -> Result<Vec<(Vec<String>, u64)>> {
    let mut perf = Command::new("perf");
    perf.args(["script", "--fields", "comm,period,ip,sym", "--input"]).arg(samples).stderr(Stdio::null());
    let script = perf.output()?;
    let text = String::from_utf8_lossy(&script.stdout);
    let mut stacks = Vec::new();
    for sample in text.split("\n\n") {
        let mut lines = sample.trim_start_matches('\n').lines();
        let Some(time) = lines.next().and_then(|head| head.split_whitespace().last()?.parse().ok()) else { continue };
        let mut stack: Vec<String> = lines.filter_map(|line| Some(shortened(line.trim_start().split_once(' ')?.1))).collect();
        stack.reverse();
        stacks.push((stack, time));
    }
    Ok(stacks)
}

/// A function without what says nothing to a reader.
fn shortened(function: &str) -> String {
    function.replace("::{{closure}}", "").replace(" (inlined)", "").replace(" as core::future::future::Future>::poll", ">::poll")
}

/// The part of the path that a stack is in, and what of the stack is within it.
fn part(stack: &[String]) -> (&'static str, &[String]) {
    for (depth, function) in stack.iter().enumerate().rev() {
        for (named, part) in PARTS {
            // A connection's own functions are within the part that drives it.
            if function.contains(named) && !named.starts_with("hyper") {
                return (part, stack.get(depth..).unwrap_or_default());
            }
        }
    }
    match stack.iter().position(|function| function.contains("hyper::proto::h1::")) {
        Some(depth) => ("HTTP with the client", stack.get(depth..).unwrap_or_default()),
        None => (REST, stack),
    }
}

/// One function of the graph, in its place.
#[derive(Default)]
struct Node {
    time: u64,
    called: BTreeMap<String, Node>,
}

/// The graph's measures, in pixels.
const WIDTH: f64 = 1400.0;
const ROW: f64 = 17.0;
const NARROWEST: f64 = 1.5;
const LETTER: f64 = 6.6;

impl Node {
    fn add<'a>(&mut self, mut stack: impl Iterator<Item = &'a str>, time: u64) {
        self.time += time;
        if let Some(function) = stack.next() {
            self.called.entry(function.to_owned()).or_default().add(stack, time);
        }
    }

    /// How many rows stand on this one, but for what is too narrow to see.
    fn height(&self, scale: f64) -> usize {
        self.called.values().filter(|node| node.time as f64 * scale >= NARROWEST).map(|node| node.height(scale) + 1).max().unwrap_or(0)
    }

    /// An SVG in which what is called stands on what calls it, as wide as its time.
    fn drawn(&self) -> String {
        let scale = WIDTH / self.time.max(1) as f64;
        let height = self.height(scale) as f64 * ROW;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"11\">\n"
        );
        self.draw(&mut svg, 0.0, height, scale, self.time);
        svg.push_str("</svg>\n");
        svg
    }

    fn draw(&self, svg: &mut String, mut left: f64, floor: f64, scale: f64, all: u64) {
        let mut called: Vec<_> = self.called.iter().collect();
        called.sort_by_key(|(_, node)| std::cmp::Reverse(node.time));
        for (function, node) in called {
            let width = node.time as f64 * scale;
            if width < NARROWEST {
                continue;
            }
            let top = floor - ROW;
            let share = 100.0 * node.time as f64 / all.max(1) as f64;
            let hue = function.bytes().fold(0_u32, |hue, byte| hue.wrapping_mul(31).wrapping_add(u32::from(byte))) % 45 + 15;
            let shown: String = function.chars().take((width / LETTER) as usize).collect();
            let (function, shown) = (escaped(function), escaped(&shown));
            // Writing to a text cannot fail.
            let _ = writeln!(
                svg,
                "<g><title>{function}: {share:.1} %</title><rect x=\"{left:.1}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"{:.0}\" \
                 fill=\"hsl({hue},80%,72%)\"/><text x=\"{:.1}\" y=\"{:.0}\">{shown}</text></g>",
                width - 0.5,
                ROW - 1.0,
                left + 2.0,
                floor - 5.0,
            );
            node.draw(svg, left, top, scale, all);
            left += width;
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
