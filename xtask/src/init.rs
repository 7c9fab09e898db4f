//! `bailiwick init --from` on the configuration files of three MCP clients, as their documentation shows them.

use std::fs;

use crate::Result;
use crate::gateway::bailiwick;
use crate::process::{self, Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// Each file, the tool servers that it names, and the secret that stands in it.
const CONFIGURATIONS: &[(&str, &[&str], Option<&str>)] = &[
    ("claude_desktop_config.json", &["everything", "time"], Some("sk-live-3f9a1c5b7d2e4f60")),
    ("vscode_mcp.json", &["everything", "time"], None),
    ("cursor_mcp.json", &["remote", "time"], Some("ghp_16C7e42F292c6912E7710c838347Ae178B4a")),
];

/// Makes a bundle from each and looks whether it checks, lists every server, warns of secrets and keeps them out.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let port = free_port()?;
    let mut remote = Server::start(
        tools,
        "init-remote",
        tools
            .node()?
            .env("PORT", port.to_string())
            .args(["node_modules/@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"]),
    )?;
    remote.wait_for_port(port)?;
    for (file, servers, secret) in CONFIGURATIONS {
        let home = tools.cache().join("run").join(format!("init-{file}"));
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        let from = home.join(file);
        let text = process::read(&tools.root.join("interop/configurations").join(file))?;
        fs::write(&from, text.replace("127.0.0.1:9799", &format!("127.0.0.1:{port}")))?;
        let bundle = home.join("bundle");

        let made = process::run(
            tools,
            &format!("init-{file}"),
            // Keys that it makes go where the person's configuration is, which here is no person's.
            bailiwick(tools).env("XDG_CONFIG_HOME", home.join("config")).arg("init").arg("--from").arg(&from).arg("--dir").arg(&bundle),
        )?;
        report.check(if made.success { Ok(()) } else { Err(format!("{file}: init failed:\n{}", made.tail(30))) });
        for server in *servers {
            let definitions = bundle.join(format!("servers/{server}.tools.json"));
            let listed = process::read(&definitions).is_ok_and(|text| text.contains("inputSchema"));
            report.check(if listed { Ok(()) } else { Err(format!("{file}: the tools of `{server}` were not listed")) });
        }
        if let Some(secret) = secret {
            let warned = made.output.to_lowercase();
            let warned = ["secret", "key"].iter().any(|word| warned.contains(word)) && !made.output.contains(secret);
            report.check(if warned {
                Ok(())
            } else {
                Err(format!("{file}: no warning of the secret, or the warning shows it:\n{}", made.tail(30)))
            });
        }
        for command in ["check", "test"] {
            let done = process::run(tools, &format!("init-{command}-{file}"), bailiwick(tools).arg(command).arg("--dir").arg(&bundle))?;
            report.check(if done.success {
                Ok(())
            } else {
                Err(format!("{file}: `{command}` fails on the new bundle:\n{}", done.tail(30)))
            });
        }
    }
    Ok(report)
}
