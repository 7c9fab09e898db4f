//! `cargo xtask bench`: builds for release and runs the measurements of `crates/bench`.

use std::path::PathBuf;

use crate::process;
use crate::tools::Tools;
use crate::{Result, gateway};

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
    let mut command = std::process::Command::new(gateway::target(&tools).join("release/bailiwick-bench"));
    if names.is_empty() || names.contains(&"decision") {
        let Some(dogwood) = dogwood(&tools)? else { return Ok(false) };
        command.env("BENCH_DOGWOOD", dogwood);
    }
    let log = if names.is_empty() { "bench".to_owned() } else { format!("bench-{}", names.join("-")) };
    Ok(process::run(&tools, &log, command.current_dir(&tools.root).args(names))?.success)
}

/// Builds the program that decides with Dogwood. It is a workspace of its own, as Dogwood wants another version of Cedar.
fn dogwood(tools: &Tools) -> Result<Option<PathBuf>> {
    let target = gateway::target(tools).join("peers/dogwood");
    let manifest = tools.root.join("crates/bench/peers/dogwood/Cargo.toml");
    let mut build = tools.cargo();
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
    let built = process::run(tools, "bench-dogwood", &mut build)?;
    Ok(built.success.then(|| target.join("release/bailiwick-bench-dogwood")))
}
