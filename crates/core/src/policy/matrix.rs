//! Who may do what: every agent against every declared tool, as text that a person can review.

use std::fmt::Write as _;

use super::slice::Prospect;
use crate::bundle::Snapshot;
use crate::model::ToolName;

/// Prints what each agent has to expect of each declared tool: `allow`, `deny`, `ask`, or `depends` on the arguments and
/// on what the execution has done. Budgets and grants, which only ever take away, are left out.
pub fn matrix(snapshot: &Snapshot) -> String {
    let agents: Vec<_> = snapshot.agents.keys().collect();
    let tools = snapshot.servers.values().flat_map(|server| server.tools.iter().map(move |(own, tool)| (server, own, tool)));
    let mut rows =
        vec![["tool", "effect"].into_iter().map(str::to_owned).chain(agents.iter().map(ToString::to_string)).collect::<Vec<_>>()];
    for (server, own, tool) in tools {
        let name = format!("{}/{own}", server.name);
        let verdicts = agents.iter().map(|agent| {
            let Ok(tool_name) = name.parse::<ToolName>() else { return "deny" };
            if !tool.is_reviewed(&tool_name) {
                return "deny";
            }
            match snapshot.policies.prospect(agent, &tool_name) {
                Prospect::Deny => "deny",
                Prospect::Ask => "ask",
                // A target that nothing vouches for stops the call once the execution has read untrusted data.
                Prospect::Allow if !tool.targets.is_empty() => "depends",
                Prospect::Allow => "allow",
                Prospect::Depends => "depends",
            }
        });
        rows.push([name.clone(), tool.effect.as_str().to_owned()].into_iter().chain(verdicts.map(str::to_owned)).collect());
    }
    table(&rows)
}

/// Pads the columns to one width each.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
}
