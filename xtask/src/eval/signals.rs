//! What each signal is worth: the same figures with it switched off.
//!
//! None has a switch in the product. Each is taken away where it comes from: the labels of the bundle that is run, the words and
//! effects that an execution starts with, what a person answers. What cannot be taken away like that is counted in the records.

use std::fmt::Write as _;

use serde_json::{Value, json};
use toml::{Table, Value as Toml};

use super::score::{Cases, percent};
use crate::Result;

/// What a decision goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Task,
    Known,
    Fields,
    Places,
    Contradiction,
    Otherwise,
    Effects,
    Endorsement,
    WithinTexts,
    Flow,
}

impl Signal {
    /// Those that can be switched off.
    pub(super) const SWITCHED: [Self; 9] = [
        Self::Task,
        Self::Known,
        Self::Fields,
        Self::Places,
        Self::Contradiction,
        Self::Otherwise,
        Self::Effects,
        Self::Endorsement,
        Self::Flow,
    ];

    /// Its name in the table.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "the task's words",
            Self::Known => "known parties",
            Self::Fields => "trusted and minted fields",
            Self::Places => "named places",
            Self::Contradiction => "contradiction of the task",
            Self::Otherwise => "denial instead of a question",
            Self::Effects => "declared effects",
            Self::Endorsement => "endorsement",
            Self::WithinTexts => "links and numbers in texts",
            Self::Flow => "all labels of results",
        }
    }

    /// How it is switched off.
    pub(super) const fn how(self) -> &'static str {
        match self {
            Self::Task => "executions start without a task",
            Self::Known => "no server lists whom it knows",
            Self::Fields => "every result is untrusted as a whole",
            Self::Places => "no tool has a `place`, and `named` may choose nothing",
            Self::Contradiction => "tools that spend or administer are labelled `send`, which is not judged by it",
            Self::Otherwise => "no tool has an `otherwise`",
            Self::Effects => "executions declare nothing",
            Self::Endorsement => "people approve the call alone",
            Self::WithinTexts => "has no label to leave out: counted in the records, by the calls that nothing else stood in the way of",
            Self::Flow => "every result is trusted, so that only what is declared is left",
        }
    }

    /// The labels of a server without it.
    pub(super) fn off(self, labels: &str) -> Result<String> {
        let mut file: Table = labels.parse()?;
        if let (Self::Known, Some(Toml::Table(server))) = (self, file.get_mut("server")) {
            server.remove("known");
        }
        let tools = file.get_mut("tools").and_then(Toml::as_table_mut).ok_or("a server without tools")?;
        for (_, tool) in tools.iter_mut() {
            self.off_in(tool.as_table_mut().ok_or("a tool that is no table")?);
        }
        Ok(toml::to_string(&file)?)
    }

    fn off_in(self, tool: &mut Table) {
        match self {
            Self::Fields => {
                if let Some(returns) = tool.get_mut("returns").and_then(Toml::as_table_mut) {
                    returns.insert("integrity".to_owned(), "untrusted".into());
                    for words in ["minted", "trusted"] {
                        returns.remove(words);
                    }
                }
            }
            Self::Places => {
                tool.remove("place");
                if let Some(returns) = tool.get_mut("returns").and_then(Toml::as_table_mut) {
                    returns.remove("named");
                }
                for (_, may) in tool.get_mut("targets").and_then(Toml::as_table_mut).into_iter().flatten() {
                    if let Some(may) = may.as_array_mut() {
                        may.retain(|word| word.as_str() != Some("named"));
                    }
                }
            }
            Self::Contradiction if matches!(tool.get("effect").and_then(Toml::as_str), Some("spend" | "admin")) => {
                tool.insert("effect".to_owned(), "send".into());
            }
            Self::Otherwise => {
                tool.remove("otherwise");
            }
            Self::Flow => {
                tool.remove("place");
                let trusted = Table::from_iter([("integrity".to_owned(), "trusted".into())]);
                tool.insert("returns".to_owned(), Toml::Table(trusted));
            }
            Self::Contradiction | Self::Task | Self::Known | Self::Effects | Self::Endorsement | Self::WithinTexts => {}
        }
    }
}

/// The figures of both suites without a signal, or with every one.
#[derive(Debug)]
pub(super) struct Row {
    off: Option<Signal>,
    /// As `Score::json` gives them.
    figures: Value,
}

impl Row {
    pub(super) const HEAD: &'static str =
        "without                          U auto  U+human  asks/task |      ASR  any effect  ASR, all approved\n";

    pub(super) fn of(off: Option<Signal>, cases: &Cases) -> Self {
        Self { off, figures: cases.score(None).json() }
    }

    fn name(&self) -> &'static str {
        self.off.map_or("nothing: everything is judged", Signal::as_str)
    }

    pub(super) fn text(&self) -> String {
        let figure = |name: &str| self.figures.get(name).and_then(Value::as_f64);
        let mut line = format!(
            "{:30} {:>8} {:>8} {:>10} | {:>8} {:>11} {:>18}",
            self.name(),
            percent(figure("utility_auto")),
            percent(figure("utility_human")),
            figure("asks_per_task").map_or_else(|| "-".to_owned(), |asks| format!("{asks:.2}")),
            percent(figure("attack_success")),
            percent(figure("attack_any_effect")),
            percent(figure("attack_success_all_approved")),
        );
        if let Some(signal) = self.off {
            // A text grows without failing.
            let _ = write!(line, "\n    {}", signal.how());
        }
        line.push('\n');
        line
    }

    pub(super) fn json(&self) -> Value {
        json!({ "without": self.name(), "how": self.off.map(Signal::how), "score": self.figures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: &str = r#"
        [server]
        name = "bank"
        known = ["Zoe"]
        [tools.read]
        effect = "read"
        place = "path"
        returns = { integrity = "untrusted", named = ["$"], minted = ["$[*].id"] }
        [tools.pay]
        effect = "spend"
        targets = { to = ["task", "named"] }
        otherwise = "deny"
    "#;

    #[test]
    fn a_signal_is_taken_out_of_the_labels_and_nothing_else_is() {
        let without = |signal: Signal| signal.off(LABELS).unwrap().parse::<Table>().unwrap();
        let whole = without(Signal::Task);
        assert_eq!(whole, LABELS.parse().unwrap());
        for (signal, gone) in [
            (Signal::Known, vec!["/server/known"]),
            (Signal::Fields, vec!["/tools/read/returns/minted"]),
            (Signal::Places, vec!["/tools/read/place", "/tools/read/returns/named", "/tools/pay/targets/to/1"]),
            (Signal::Otherwise, vec!["/tools/pay/otherwise"]),
        ] {
            let (mut expected, left) = (serde_json::to_value(&whole).unwrap(), serde_json::to_value(without(signal)).unwrap());
            for pointer in gone {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                match expected.pointer_mut(parent).unwrap() {
                    serde_json::Value::Object(members) => assert!(members.remove(name).is_some(), "{pointer}"),
                    serde_json::Value::Array(items) => drop(items.remove(name.parse().unwrap())),
                    other => panic!("{other}"),
                }
            }
            assert_eq!(left, expected, "{signal:?}");
        }
        assert_eq!(without(Signal::Contradiction)["tools"]["pay"]["effect"].as_str(), Some("send"));
        assert_eq!(without(Signal::Flow)["tools"]["read"]["returns"].as_table().unwrap().len(), 1);
    }
}
