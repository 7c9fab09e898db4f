//! `cargo xtask bench`: builds for release and runs the measurements of `crates/bench`.

use crate::Result;
use crate::process;
use crate::tools::Tools;

/// Runs the measurements that are named, or all; their tables go to the terminal and to `.cache/logs/bench-….log`.
pub(crate) fn run(names: &[&str]) -> Result<bool> {
    let tools = Tools::new(true)?;
    // What a whole call is compared with, and what sees where its time goes.
    tools.debian(&[("nginx-light", "/usr/sbin/nginx"), ("linux-perf", "/usr/bin/perf")])?;
    // Together, so that both see the same features of what they share.
    let build = ["build", "--release", "--package", "bailiwick", "--package", "bailiwick-bench"];
    if !process::run(&tools, "bench-build", tools.cargo().args(build))?.success {
        return Ok(false);
    }
    let mut command = std::process::Command::new(crate::gateway::target(&tools).join("release/bailiwick-bench"));
    let log = if names.is_empty() { "bench".to_owned() } else { format!("bench-{}", names.join("-")) };
    Ok(process::run(&tools, &log, command.current_dir(&tools.root).args(names))?.success)
}
