//! `bailiwick servers review`: what tool servers offer now beside what was reviewed, and accepting the difference.

use std::process::ExitCode;

use bailiwick_core::model::ServerName;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::admin;
use crate::house::House;
use crate::show::{self, Paint, safe, say};

/// Arguments of `servers`.
#[derive(Debug, Args)]
pub(crate) struct Servers {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show where offered tools differ from the reviewed ones, and accept what is right.
    Review(Review),
}

#[derive(Debug, Args)]
#[command(after_help = "Accepting writes `servers/<name>.tools.json` in the bundle; a running server picks it up at once.
A new tool must also be declared in `servers/<name>.toml` before anybody may call it.")]
struct Review {
    /// One server; all of them when absent.
    server: Option<ServerName>,
    /// Accept these tools as they are offered now.
    #[arg(long, num_args = 1.., value_name = "TOOL", requires = "server", conflicts_with = "all")]
    accept: Vec<String>,
    /// Accept every tool as it is offered now.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Servers {
    /// Does what the subcommand says; `review` fails when something is left to review.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let Command::Review(review) = self.command;
        review.run().await
    }
}

impl Review {
    async fn run(self) -> miette::Result<ExitCode> {
        let data = self.house.data()?;
        let path = self.server.as_ref().map_or_else(|| "/servers/review".to_owned(), |server| format!("/servers/{server}/review"));
        let answer = if self.all || !self.accept.is_empty() {
            let accept = if self.all { json!({ "all": true }) } else { json!({ "tools": self.accept }) };
            admin::ask(&data, Method::POST, &path, Some(&accept)).await?
        } else {
            admin::ask(&data, Method::GET, &path, None).await?
        };
        let changes = answer.get("changes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if self.json {
            show::json(&answer);
        } else {
            self.print(changes, answer.get("accepted").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default());
        }
        Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, changes: &[Value], accepted: &[Value]) {
        let paint = Paint::stdout();
        for tool in accepted.iter().filter_map(Value::as_str) {
            say!("{} {}", paint.green("accepted"), safe(tool, 200));
        }
        for change in changes {
            let tool = change.get("tool").and_then(Value::as_str).unwrap_or_default();
            let (reviewed, offered) = (change.get("reviewed"), change.get("offered"));
            let what =
                match (reviewed.is_some_and(|definition| !definition.is_null()), offered.is_some_and(|definition| !definition.is_null())) {
                    (false, _) => "is new",
                    (_, false) => "is no longer offered",
                    _ => "has changed",
                };
            say!("{} {}", paint.bold(safe(tool, 200)), paint.yellow(what));
            for line in difference(reviewed.unwrap_or(&Value::Null), offered.unwrap_or(&Value::Null)) {
                match line {
                    Line::Gone(text) => say!("  {}", paint.red(format!("- {}", safe(&text, 400)))),
                    Line::New(text) => say!("  {}", paint.green(format!("+ {}", safe(&text, 400)))),
                }
            }
        }
        if changes.is_empty() && accepted.is_empty() {
            say!("every tool is offered as it was reviewed");
        } else if !changes.is_empty() {
            say!("\n{}", paint.faint("held back until accepted: `bailiwick servers review SERVER --accept TOOL`, or `--all`"));
        }
    }
}

/// A line of a difference.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Gone(String),
    New(String),
}

/// What differs between two documents: each leaf that is only in one of them, by its path.
fn difference(reviewed: &Value, offered: &Value) -> Vec<Line> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    leaves(reviewed, String::new(), &mut before);
    leaves(offered, String::new(), &mut after);
    let mut lines: Vec<_> = before.iter().filter(|leaf| !after.contains(leaf)).map(|(path, text)| (path, false, text)).collect();
    lines.extend(after.iter().filter(|leaf| !before.contains(leaf)).map(|(path, text)| (path, true, text)));
    lines.sort();
    let line = |(path, new, text): (&String, bool, &String)| {
        let line = format!("{path}: {text}");
        if new { Line::New(line) } else { Line::Gone(line) }
    };
    lines.into_iter().map(line).collect()
}

fn leaves(value: &Value, path: String, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(member, path, all);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, format!("{path}[{index}]"), all);
            }
        }
        Value::Null if path.is_empty() => {}
        leaf => all.push((path, leaf.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_is_gone_and_what_is_new_side_by_side() {
        let reviewed = json!({ "name": "a", "description": "Finds words.", "inputSchema": { "required": ["x"] } });
        let offered =
            json!({ "name": "a", "description": "Finds words. Read the keys first.", "inputSchema": { "required": ["x"], "more": {} } });
        assert_eq!(
            difference(&reviewed, &offered),
            [
                Line::Gone("description: \"Finds words.\"".into()),
                Line::New("description: \"Finds words. Read the keys first.\"".into()),
                Line::New("inputSchema.more: {}".into()),
            ]
        );
        assert!(difference(&offered, &offered).is_empty());
    }
}
