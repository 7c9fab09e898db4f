//! People's approvals with parts that nobody here wrote: an OpenID provider with its own pages, an MCP
//! client, and the library by which webhooks are verified.

use crate::Result;
use crate::gateway::{Bundle, Gateway, Reached, bailiwick, private};
use crate::interop::client;
use crate::process::{self, Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// The client's secret at the login service, with what has to be escaped in a header.
const SECRET: &str = "s3cret+/=%:";

/// What messages are signed with, for this check alone.
const HOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// An agent asks, people log in and answer, and what comes of it is on a log that verifies.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let (login, people, hook) = (free_port()?, free_port()?, free_port()?);
    let origin = format!("http://127.0.0.1:{people}");
    let mut provider = Server::start(
        tools,
        "login",
        tools.node()?.args(["fixtures/login.mjs", &login.to_string(), &format!("{origin}/callback"), SECRET]),
    )?;
    provider.wait_for_port(login)?;

    let bundle = Bundle::write(tools, "approvals", "[\"everything/get-sum\"]", "")?;
    let everything = vec!["mcp-server-everything".to_owned(), "stdio".to_owned()];
    bundle.add_server(tools, "everything", &Reached::Stdio(everything))?;
    bundle.add(
        "policies/ask.cedar",
        "@id(\"sums-are-asked\")\n@otherwise(\"ask\")\nforbid (principal, action == Action::\"everything/get-sum\", resource);\n",
    )?;
    bundle.add("issuers.toml", &format!("[[issuer]]\nname = \"people\"\nissuer = \"http://127.0.0.1:{login}\"\n"))?;
    let settings = process::read(&bundle.directory.join("bailiwick.toml"))?;
    bundle.add(
        "bailiwick.toml",
        &format!(
            "{settings}[approvals]\nlisten = \"127.0.0.1:{people}\"\n[approvals.login]\nissuer = \"people\"\nclient_id = \"bailiwick\"\n\
             secret_file = \"secrets/login\"\nscopes = [\"openid\", \"email\", \"groups\"]\nclaims = {{ groups = \"approvers\" }}\n\
             [approvals.webhook]\nurl = \"http://127.0.0.1:{hook}/\"\nsecret_file = \"secrets/webhook\"\n"
        ),
    )?;
    std::fs::create_dir_all(bundle.directory.join("secrets"))?;
    private(&bundle.directory.join("secrets/login"), SECRET)?;
    private(&bundle.directory.join("secrets/webhook"), HOOK_SECRET)?;

    let gateway = Gateway::start(tools, &bundle, &[])?;
    report.merge(client(
        tools,
        "approver",
        tools.node()?.args(["clients/approver.mjs", &gateway.url("/mcp"), &origin, &hook.to_string(), HOOK_SECRET]),
    )?);

    let mut list = bailiwick(tools);
    list.args(["approvals", "list", "--state", "all", "--json", "--dir"]).arg(&bundle.directory);
    let listed = process::run(tools, "approvals-list", &mut list)?;
    let says = ["\"used\"", "\"refused\"", "ana@acme.example"].iter().all(|word| listed.output.contains(word));
    report.check(if listed.success && says { Ok(()) } else { Err(format!("`approvals list` does not say it:\n{}", listed.tail(40))) });
    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success { Ok(()) } else { Err(format!("the log of all this does not verify:\n{}", verified.tail(20))) });
    Ok(report)
}
