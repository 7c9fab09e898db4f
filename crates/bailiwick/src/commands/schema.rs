//! `bailiwick schema`: prints the JSON Schema of a bundle's file, for editors.

use std::process::ExitCode;

use bailiwick_core::bundle::schema::schemas;
use clap::Args;

use crate::show::say;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// The kind of file, or the path of one within a bundle: `bailiwick`, `issuers`, `agent`, `server`, `tests`.
    file: Option<String>,
}

impl Schema {
    /// Prints the schema, or the kinds of files there are.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let schemas = schemas();
        let Some(file) = self.file else {
            for (kind, schema) in &schemas {
                say!("{kind:<10} {}", schema.get("description").and_then(serde_json::Value::as_str).unwrap_or_default());
            }
            return Ok(ExitCode::SUCCESS);
        };
        let kind = kind(&file);
        let Some((_, schema)) = schemas.iter().find(|(name, _)| *name == kind) else {
            let kinds: Vec<String> = schemas.iter().map(|(kind, _)| format!("`{kind}`")).collect();
            return Err(miette::miette!(help = format!("there is {}", kinds.join(", ")), "no schema for `{file}`"));
        };
        say!("{}", serde_json::to_string_pretty(schema).map_err(|error| miette::miette!("{error}"))?);
        Ok(ExitCode::SUCCESS)
    }
}

/// The kind of the file at a path within a bundle; a kind is its own.
fn kind(file: &str) -> &str {
    match file.trim_start_matches("./").split_once('/') {
        Some(("agents", _)) => "agent",
        Some(("servers", _)) => "server",
        Some(("tests", _)) => "tests",
        _ => file.trim_start_matches("./").trim_end_matches(".toml"),
    }
}
