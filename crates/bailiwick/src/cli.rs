//! The command line: which commands there are, each in a file of its own under `commands`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    approvals, check, connect, executions, explain, findings, init, keys, labels, log, policy, rules, schema, serve, servers, signals,
    stop, test, token,
};
use crate::demo::Demo;
use crate::demo::servers::DemoServer;

/// The zero-trust plane for agents.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A command. Each variant is the arguments of one, as its file declares them.
#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first bundle, from the MCP configuration that you already have.
    Init(init::Init),
    /// Check a bundle and explain every mistake in it.
    Check(check::Check),
    /// Judge a bundle's expectations as live calls would be judged.
    Test(test::Test),
    /// Propose tighter labels from what happened.
    Labels(labels::Labels),
    /// Show what a bundle's declarations mean as Cedar.
    Policy(policy::Policy),
    /// Print the JSON Schema of a bundle's file, for editors.
    Schema(schema::Schema),
    /// Run the gateway and the token service.
    Serve(serve::Serve),
    /// Give an unmodified MCP client a way in: hold the agent's key, add a proof to each request.
    Connect(connect::Connect),
    /// Print one credential, for scripts.
    Token(token::Token),
    /// Show, query, verify and prove what happened.
    Log(log::Log),
    /// Explain one decision: the four answers, and what led to them.
    Explain(explain::Explain),
    /// Show the executions under way.
    Executions(executions::Executions),
    /// See what is out of the ordinary, what proves it, and say what it is.
    Findings(findings::Findings),
    /// See what agents ask people, and answer.
    Approvals(approvals::Approvals),
    /// Stop an agent at once, until it is released.
    Quarantine(stop::Quarantine),
    /// Let a quarantined agent go on.
    Release(stop::Release),
    /// Stop an execution with all that descends from it, or all of a person or an owner, or take back one credential, at once.
    Revoke(stop::Revoke),
    /// Say what becomes of others' signals that wait for a person, and see whom is told of what is stopped here.
    Signals(signals::Signals),
    /// Show and test the rules that tell what is out of the ordinary.
    Rules(rules::Rules),
    /// Review what tool servers offer.
    Servers(servers::Servers),
    /// Rotate the issuer's signing keys.
    Keys(keys::Keys),
    /// Play the demo: an agent does its task, is hijacked by what it reads, and is held.
    Demo(Demo),
    /// Be one of the demo's tool servers.
    #[command(hide = true)]
    DemoServer(DemoServer),
}

impl Cli {
    /// Runs the command. A failure that the command explains by its own output is an exit code; any other is a report.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Command::Init(command) => command.run().await,
            Command::Check(command) => command.run(),
            Command::Test(command) => command.run(),
            Command::Labels(command) => command.run(),
            Command::Policy(command) => command.run(),
            Command::Schema(command) => command.run(),
            Command::Serve(command) => command.run().await,
            Command::Connect(command) => command.run().await,
            Command::Token(command) => command.run().await,
            Command::Log(command) => command.run().await,
            Command::Explain(command) => command.run(),
            Command::Executions(command) => command.run().await,
            Command::Findings(command) => command.run().await,
            Command::Approvals(command) => command.run().await,
            Command::Quarantine(command) => command.run().await,
            Command::Release(command) => command.run().await,
            Command::Revoke(command) => command.run().await,
            Command::Signals(command) => command.run().await,
            Command::Rules(command) => command.run(),
            Command::Servers(command) => command.run().await,
            Command::Keys(command) => command.run().await,
            Command::Demo(command) => command.run().await,
            Command::DemoServer(command) => command.run().await,
        }
    }
}
