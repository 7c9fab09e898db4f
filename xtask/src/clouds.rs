//! Others who accept our tokens and certificates: AWS' STS as moto answers for it, behind boto3 as it is, a relying party on `authlib`, and a
//! workload on the Python library `spiffe`.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::gateway::{AGENT, Bundle, private};
use crate::interop::{client, python};
use crate::process::{Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// Whom the tokens are for.
pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";

/// What an agent's file says of it.
pub(crate) const OUTBOUND: &str =
    "[[agent.outbound]]\naudience = \"sts.amazonaws.com\"\ntags = { agent = \"{agent}\" }\nsource_identity = \"agent\"\n";

/// Gets a token from the running gateway of `bundle`, and shows it around.
pub(crate) fn check(tools: &Tools, bundle: &Bundle) -> Result<Report> {
    tools.python_environment("aws", &tools.root.join("interop/aws.txt"))?;
    let program = |name: &str| Command::new(tools.cache().join("aws/bin").join(name));
    let port = free_port()?;
    let mut sts = Server::start(tools, "moto-clouds", program("moto_server").args(["-H", "127.0.0.1", "-p", &port.to_string()]))?;

    let file = bundle.directory.with_file_name("aws-token");
    if file.exists() {
        fs::remove_file(&file)?;
    }
    private(&file, &bundle.token_for(tools, AUDIENCE)?)?;
    let file = file.display().to_string();
    let mut relying = python(tools, "clouds.py");
    let mut report = client(tools, "authlib", bundle.believed_by(relying.args([&bundle.issuer(), &file, AUDIENCE])))?;

    sts.wait_for_port(port)?;
    let mut workload = program("python");
    workload.current_dir(tools.root.join("interop"));
    workload.args(["clients/aws_web_identity.py", &file, &format!("http://127.0.0.1:{port}")]);
    report.merge(client(tools, "aws-web-identity", &mut workload)?);
    Ok(report)
}

/// A workload that asks the Workload API of a gateway on this machine.
pub(crate) fn check_spiffe(tools: &Tools) -> Result<Report> {
    tools.python_environment("spiffe", &tools.root.join("interop/spiffe.txt"))?;
    let python = tools.cache().join("spiffe/bin/python");
    // The kernel names the file itself, and whose process it is.
    let (executable, uid) = (fs::canonicalize(&python)?, std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self")?));
    let declared = format!(
        "[[agent.federation]]\nlocal = {{ uid = {uid}, executable = \"{}\" }}\n[[agent.outbound]]\naudience = \"peer\"\nafter_untrusted = true\n",
        executable.display()
    );
    let mut bundle = Bundle::write_with(tools, "spiffe", "[\"none/*\"]", "x509_svid = true\n", &declared)?;
    bundle.speak_tls(tools)?;
    bundle.add("servers/none.toml", "[server]\nname = \"none\"\nmcp = \"https://none.acme.example/mcp\"\n")?;
    let _server = bundle.serve(tools)?;
    let socket = bundle.directory.join(".bailiwick/spiffe.sock").display().to_string();
    let agent = format!("spiffe://acme.example/agent/{AGENT}");
    let mut workload = Command::new(python);
    workload.current_dir(tools.root.join("interop"));
    workload.args(["clients/spiffe_workload.py", &bundle.issuer(), &socket, &agent, "peer"]);
    client(tools, "spiffe-workload", bundle.believed_by(&mut workload))
}
