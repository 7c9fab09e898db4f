//! `cargo xtask eval detection`: what the baselines find of what real agents did under attack, and how often they are wrong.

use crate::tools::Tools;
use crate::{Result, gateway, process};

/// The traces that are kept with the evaluation.
const TRACES: [&str; 2] = ["agentdojo_calls.jsonl.gz", "taubench_airline_calls.jsonl.gz"];

/// Builds what evaluates and has it print the figures of the traces in `files`, or of those that are kept with it.
pub(super) fn run(files: &[&str]) -> Result<bool> {
    let tools = Tools::new(true)?;
    let built = process::run(&tools, "eval-detection-build", tools.cargo().args(["build", "--package", "bailiwick-bench"]))?;
    if !built.success {
        return Ok(false);
    }
    let folder = tools.root.join("eval/detection");
    let kept = TRACES.iter().map(|name| folder.join(name));
    let files =
        if files.is_empty() { kept.collect() } else { files.iter().map(|file| (*file).into()).collect::<Vec<std::path::PathBuf>>() };
    let mut command = std::process::Command::new(gateway::target(&tools).join("debug/bailiwick-bench"));
    command.arg("eval-detection").args(files);
    Ok(process::run(&tools, "eval-detection", &mut command)?.success)
}
