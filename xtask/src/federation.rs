//! Workloads that prove themselves by parts that nobody here wrote: AWS' STS as moto answers for it, and boto3 and botocore as they
//! are.

use std::process::Command;

use crate::Result;
use crate::gateway::Bundle;
use crate::interop::client;
use crate::process::{Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// The account that moto plays.
const ACCOUNT: &str = "123456789012";

/// A role's session signs a request, which is traded for a credential; and what is refused.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    tools.python_environment("aws", &tools.root.join("interop/aws.txt"))?;
    let program = |name: &str| Command::new(tools.cache().join("aws/bin").join(name));
    let mut report = Report::default();
    let port = free_port()?;
    let mut sts = Server::start(tools, "moto", program("moto_server").args(["-H", "127.0.0.1", "-p", &port.to_string()]))?;
    sts.wait_for_port(port)?;
    let endpoint = format!("http://127.0.0.1:{port}");
    let federation = "[[agent.federation]]\nissuer = \"sts\"\nclaims = { role = \"bot\", session = \"run-7\" }\n";
    let bundle = Bundle::write(tools, "federation", "[\"none/*\"]", federation)?;
    bundle.add("servers/none.toml", "[server]\nname = \"none\"\nmcp = \"https://none.acme.example/mcp\"\n")?;
    bundle.add(
        "issuers.toml",
        &format!(
            "[[issuer]]\nname = \"sts\"\nissuer = \"https://sts.eu-central-1.amazonaws.com\"\naccount = \"{ACCOUNT}\"\nendpoint = \"{endpoint}\"\n"
        ),
    )?;
    let server = bundle.serve(tools)?;
    let mut workload = program("python");
    workload.current_dir(tools.root.join("interop")).args(["clients/aws_caller.py", &bundle.issuer(), &endpoint]);
    report.merge(client(tools, "aws-caller", &mut workload)?);
    drop(server);

    // `check` says that somebody else than AWS answers.
    let checked = bundle.run(tools, &["check"])?;
    let says = checked.output.contains("whoever answers at this address");
    report.check(if says { Ok(()) } else { Err(format!("`check` does not say that the STS is another:\n{}", checked.tail(30))) });
    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success { Ok(()) } else { Err(format!("the log of all this does not verify:\n{}", verified.tail(20))) });
    Ok(report)
}
