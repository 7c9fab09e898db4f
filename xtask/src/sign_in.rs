//! A person's own MCP client signs in, with parts that nobody here wrote: an OpenID provider with its own pages, the official SDKs and
//! conformance suite, and a client's document on a server of its own.

use std::process::Command;

use crate::Result;
use crate::gateway::{AGENT, Bundle, Reached, bailiwick, private};
use crate::interop::client;
use crate::process::{self, Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// The client's secret at the login service, for this check alone.
const SECRET: &str = "s3cret";

/// A client that has no document, and what its agent's credentials are like.
const INSPECTOR: &str = "inspector";

/// People sign in by the clients, which call a tool; the record says for whom, and one command ends it.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let (login, people, document, answers) = (free_port()?, free_port()?, free_port()?, free_port()?);
    let origin = format!("http://127.0.0.1:{people}");
    let mut provider = Server::start(
        tools,
        "sign-in-login",
        tools.node()?.args(["fixtures/login.mjs", &login.to_string(), &format!("{origin}/callback"), SECRET]),
    )?;
    provider.wait_for_port(login)?;

    let id = format!("https://localhost:{document}/client.json");
    let may_sign_in = "issuer = \"people\"\nclaims = { groups = \"staff\" }\n";
    let by_document = format!("[[agent.client]]\nid = \"{id}\"\n{may_sign_in}ca_file = \"client-ca.pem\"\n");
    let bundle = Bundle::write(tools, "sign-in", "[\"everything/get-sum\"]", &by_document)?;
    let without = format!(
        "[agent]\nname = \"desk\"\nowner = \"checks@acme.example\"\npurpose = \"Be a client that knows no proofs\"\n[agent.credential]\nproof = \"bearer\"\n\
         [[agent.client]]\nid = \"{INSPECTOR}\"\nname = \"Inspector\"\n{may_sign_in}redirect_uris = [\"http://127.0.0.1/callback\"]\n\
         [agent.may]\ncall = [\"everything/get-sum\"]\n"
    );
    bundle.add("agents/desk.toml", &without)?;
    bundle.add_server(tools, "everything", &Reached::Stdio(vec!["mcp-server-everything".to_owned(), "stdio".to_owned()]))?;
    bundle.add("issuers.toml", &format!("[[issuer]]\nname = \"people\"\nissuer = \"http://127.0.0.1:{login}\"\n"))?;
    let settings = process::read(&bundle.directory.join("bailiwick.toml"))?;
    bundle.add(
        "bailiwick.toml",
        &format!(
            "{settings}[approvals]\nlisten = \"127.0.0.1:{people}\"\n[approvals.login]\nissuer = \"people\"\nclient_id = \"bailiwick\"\n\
             secret_file = \"secrets/login\"\nscopes = [\"openid\", \"email\", \"groups\"]\nclaims = {{ groups = \"approvers\" }}\n"
        ),
    )?;
    std::fs::create_dir_all(bundle.directory.join("secrets"))?;
    private(&bundle.directory.join("secrets/login"), SECRET)?;

    let redirect = format!("http://127.0.0.1:{answers}/callback");
    let mut documents = Server::start(
        tools,
        "sign-in-document",
        Command::new(tools.python_program("python")).current_dir(tools.root.join("interop")).args([
            "fixtures/document.py".as_ref(),
            document.to_string().as_ref(),
            bundle.directory.join("client-ca.pem").as_os_str(),
            // As clients on a person's machine write it: the port is found out when they ask.
            "http://127.0.0.1/callback".as_ref(),
        ]),
    )?;
    documents.wait_for_port(document)?;
    let server = bundle.serve(tools)?;
    let resource = format!("http://127.0.0.1:{}/mcp/everything", bundle.data);
    report.merge(client(tools, "sign-in", tools.node()?.args(["clients/sign_in.mjs", &resource, &id, &redirect, INSPECTOR]))?);

    let (issuer, port) = (bundle.issuer(), free_port()?.to_string());
    let suite = ["clients/authorization_suite.mjs", &issuer, &resource, INSPECTOR, &port];
    report.merge(client(tools, "authorization-suite", tools.node()?.args(suite))?);

    // Each call is on the log with the agent and the person.
    let query =
        "select agent, count(*) from records where kind = 'intent' and verdict = 'allow' and subject = 'people:ana' group by 1 order by 1";
    let told = bundle.run(tools, &["log", "query", query])?;
    let says = [AGENT, "desk"].iter().all(|agent| told.output.contains(agent));
    report.check(if says { Ok(()) } else { Err(format!("the log does not say who called for whom:\n{}", told.tail(10))) });
    // One command ends all that a person let in, and it is not found again by a client that comes back.
    let mut revoke = bailiwick(tools);
    revoke.args(["revoke", "--subject", "people:ana", "--reason", "a check", "--dir"]).arg(&bundle.directory);
    let revoked = process::run(tools, "sign-in-revoke", &mut revoke)?;
    report.check(if revoked.success { Ok(()) } else { Err(format!("a person's sign-ins could not be revoked:\n{}", revoked.tail(10))) });
    drop(server);

    let checked = bundle.run(tools, &["check"])?;
    let says = checked.output.contains("whoever holds this agent's credential may use it");
    report.check(if says {
        Ok(())
    } else {
        Err(format!("`check` does not say that a credential is bound to nothing:\n{}", checked.tail(30)))
    });
    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success { Ok(()) } else { Err(format!("the log of all this does not verify:\n{}", verified.tail(20))) });
    Ok(report)
}
