//! A receiver of shared signals that nobody here wrote the checking of: `PyJWT` takes what the gateway tells it.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::gateway::{AGENT, Bundle, private, program};
use crate::interop::client;
use crate::process;
use crate::report::Report;
use crate::tools::Tools;

/// The stream, the agent whose credential its receiver shows, and whom it is for.
const STREAM: &str = "siem";
const AUDIENCE: &str = "https://siem.acme.example";

/// Declares the receiver, before the gateway is started.
pub(crate) fn declare(tools: &Tools, bundle: &Bundle) -> Result<()> {
    bundle.add_agent(tools, STREAM, "[]")?;
    bundle.append(&format!("agents/{STREAM}.toml"), "[agent.credential]\nproof = \"bearer\"\n")?;
    bundle.append("bailiwick.toml", &format!("[[stream]]\nname = \"{STREAM}\"\naudience = \"{AUDIENCE}\"\npoll_by = \"{STREAM}\"\n"))
}

/// Has the receiver ask the running gateway of `bundle`.
pub(crate) fn check(tools: &Tools, bundle: &Bundle) -> Result<Report> {
    let mut ask = bundle.ask_token(tools, STREAM, &bundle.key_of(STREAM));
    let ended = process::run(tools, "signals-token", ask.arg("--bearer"))?;
    if !ended.success {
        return Err(format!("no token was given:\n{}", ended.tail(10)).into());
    }
    let file = bundle.directory.with_file_name("siem-token");
    if file.exists() {
        fs::remove_file(&file)?;
    }
    private(&file, ended.output.trim())?;
    let agent = format!("spiffe://acme.example/agent/{AGENT}");
    let mut receiver = Command::new(tools.cache().join("spiffe/bin/python"));
    receiver.current_dir(tools.root.join("interop")).arg("clients/signals.py").arg(bundle.issuer()).arg(&file);
    receiver.args([STREAM, AUDIENCE, &agent]).arg("sh").args(["-c", "exec \"$0\" \"$@\" --dir \"$BUNDLE\""]).arg(program(tools));
    receiver.env("BUNDLE", &bundle.directory);
    client(tools, "signals", bundle.believed_by(&mut receiver))
}
