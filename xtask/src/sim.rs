//! `cargo xtask sim`: lives worlds of `crates/sim`, many or one, and the step of `cargo xtask test` that lives a thousand.

use std::process::Command;

use crate::Result;
use crate::process;
use crate::report::Report;
use crate::tools::Tools;

/// So many seeds are lived by `cargo xtask test`; a night has room for many more.
const SEEDS: &str = "1000";

/// Lives the worlds that the arguments name, built for release.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    let tools = Tools::new(true)?;
    let build = ["build", "--release", "--package", "bailiwick-sim"];
    if !process::run(&tools, "sim-build", tools.cargo().args(build))?.success {
        return Ok(false);
    }
    let mut command = Command::new(crate::gateway::target(&tools).join("release/bailiwick-sim"));
    Ok(process::run(&tools, "sim", command.args(arguments))?.success)
}

/// The step: the program is the one that the step `build` has built.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let mut command = Command::new(crate::gateway::target(tools).join("debug/bailiwick-sim"));
    let ended = process::run(tools, "sim", command.args(["--seeds", SEEDS]))?;
    let mut report = Report::default();
    report.check(if ended.success { Ok(()) } else { Err(format!("{}\n(all of it: {})", ended.tail(60), ended.log.display())) });
    Ok(report)
}
