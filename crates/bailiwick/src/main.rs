//! The program `bailiwick`: commands, configuration and wiring. Nothing is decided here.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod admin;
mod authorities;
mod cli;
mod cloudtrail;
mod commands;
mod demo;
mod findings;
mod house;
mod init;
mod labels;
mod machine;
mod problems;
mod records;
mod rules;
mod s3;
mod server;
mod show;
mod sidecar;
mod signal;

use std::process::ExitCode;

use clap::Parser;

use self::show::complain;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("error: the runtime did not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(report) => {
            complain!("{report:?}");
            ExitCode::FAILURE
        }
    }
}
