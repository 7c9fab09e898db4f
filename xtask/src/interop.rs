//! Parts that nobody here wrote, on both sides of the gateway: tool servers behind it, and clients in front of it that
//! know nothing of it.

use std::process::Command;

use crate::Result;
use crate::clouds::{self, AUDIENCE, OUTBOUND};
use crate::gateway::{AGENT, Bundle, Gateway, Reached, sidecar};
use crate::process::{self, Ended, Server, free_port};
use crate::report::Report;
use crate::signals;
use crate::tools::Tools;

/// What the agent may call: all that the clients call but `get-env`, which would show the gateway's environment.
const MAY: &str = r#"[
  "everything/get-sum", "everything/get-structured-content", "everything/get-tiny-image",
  "everything/trigger-long-running-operation", "everything/resource:demo://*", "everything/prompt:simple-prompt",
  "remote/get-sum", "time/convert_time",
]"#;

/// Clients of the sidecar, on loopback, on a Unix socket and over stdio; then one over the network without it.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let remote_port = free_port()?;
    let mut remote = Server::start(
        tools,
        "everything-http",
        tools
            .node()?
            .env("PORT", remote_port.to_string())
            .args(["node_modules/@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"]),
    )?;
    remote.wait_for_port(remote_port)?;
    let issuer_port = free_port()?;
    let mut issuer = Server::start(tools, "issuer", tools.node()?.args(["fixtures/issuer.mjs", &issuer_port.to_string()]))?;
    issuer.wait_for_port(issuer_port)?;
    let third_party = format!("http://127.0.0.1:{issuer_port}");

    let federation = format!(
        "[[agent.federation]]\nissuer = \"{third_party}\"\nclaims = {{ sub = \"workload-7\", repository = \"acme/interop\" }}\n{OUTBOUND}"
    );
    let mut bundle = Bundle::write(tools, "interop", MAY, &federation)?;
    bundle.speak_tls(tools)?;
    signals::declare(tools, &bundle)?;
    bundle.add("issuers.toml", &format!("[[issuer]]\nname = \"third-party\"\nissuer = \"{third_party}\"\nalgorithms = [\"RS256\"]\n"))?;
    let everything = vec!["mcp-server-everything".to_owned(), "stdio".to_owned()];
    bundle.add_server(tools, "everything", &Reached::Stdio(everything))?;
    bundle.add_server(tools, "remote", &Reached::Http(format!("http://127.0.0.1:{remote_port}/mcp")))?;
    let time = vec!["mcp-server-time".to_owned(), "--local-timezone".to_owned(), "UTC".to_owned()];
    bundle.add_server(tools, "time", &Reached::Stdio(time))?;

    let gateway = Gateway::start(tools, &bundle, &[])?;
    let url = gateway.url("/mcp");
    let socket = bundle.directory.with_file_name("mcp.sock");
    let socket_text = socket.display().to_string();
    let _on_socket = sidecar(tools, &bundle, &["--socket", &socket_text])?;
    let mut over_stdio = bundle.connect(tools);
    over_stdio.push("--stdio".to_owned());

    for era in ["auto", "legacy"] {
        report.merge(client(tools, &format!("python-sdk-{era}"), python(tools, "python_sdk.py").args(["http", &url, era]))?);
        report.merge(client(tools, &format!("python-sdk-{era}-unix"), python(tools, "python_sdk.py").args(["unix", &socket_text, era]))?);
    }
    report.merge(client(tools, "python-sdk-stdio", python(tools, "python_sdk.py").arg("stdio").args(&over_stdio))?);
    for generation in ["v1", "v2"] {
        let name = format!("typescript-sdk-{generation}");
        report.merge(client(tools, &name, tools.node()?.args(["clients/typescript_sdk.mjs", generation, "http", &url]))?);
        let stdio = format!("{name}-stdio");
        report.merge(client(tools, &stdio, tools.node()?.args(["clients/typescript_sdk.mjs", generation, "stdio"]).args(&over_stdio))?);
    }
    report.merge(client(tools, "pydantic-ai", python(tools, "agent_framework.py").arg(&url))?);
    let resource = format!("{}/mcp/everything", bundle.origin());
    let mut over_https = tools.node()?;
    over_https.args(["clients/oauth_dpop.mjs", &resource, &third_party, AGENT, AUDIENCE]);
    report.merge(client(tools, "oauth4webapi", bundle.believed_by(&mut over_https))?);
    report.merge(clouds::check(tools, &bundle)?);
    report.merge(clouds::check_spiffe(tools)?);
    // Last, since it quarantines the agent that the others act as.
    report.merge(signals::check(tools, &bundle)?);

    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success { Ok(()) } else { Err(format!("the log of all this does not verify:\n{}", verified.tail(20))) });
    Ok(report)
}

/// A client script in Python.
pub(crate) fn python(tools: &Tools, script: &str) -> Command {
    let mut command = Command::new(tools.python_program("python"));
    command.current_dir(tools.root.join("interop")).arg(format!("clients/{script}"));
    command
}

/// Runs a client and counts what it says of each of its checks.
pub(crate) fn client(tools: &Tools, name: &str, command: &mut Command) -> Result<Report> {
    Ok(read(name, &process::run(tools, &format!("client-{name}"), command)?))
}

/// Reads `ok - SENTENCE` and `not ok - SENTENCE: WHY`, a line a check.
fn read(name: &str, ended: &Ended) -> Report {
    let mut report = Report { passed: ended.output.lines().filter(|line| line.starts_with("ok - ")).count(), ..Report::default() };
    let failures = ended.output.lines().filter_map(|line| line.strip_prefix("not ok - "));
    report.failures.extend(failures.map(|failure| format!("{name}: {}", failure.chars().take(600).collect::<String>())));
    if report.failures.is_empty() && (!ended.success || report.passed == 0) {
        report.failures.push(format!("{name} broke off:\n{}", ended.tail(15)));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(success: bool, output: &str) -> Ended {
        Ended { success, output: output.to_owned(), log: "client.log".into() }
    }

    #[test]
    fn a_client_that_breaks_off_or_checks_nothing_has_failed() {
        assert_eq!(read("x", &ended(true, "ok - a\nok - b\n")).passed, 2);
        assert!(read("x", &ended(true, "ok - a\n")).failures.is_empty());
        for (success, output) in [(false, "ok - a\nTraceback\n"), (true, ""), (false, "not ok - a: saw 1\n")] {
            assert_eq!(read("x", &ended(success, output)).failures.len(), 1, "{output}");
        }
    }
}
