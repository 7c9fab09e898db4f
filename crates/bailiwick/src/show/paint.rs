//! Colours, or none: on a terminal unless `NO_COLOR` is set.

use std::fmt::Display;
use std::io::IsTerminal;

use bailiwick_core::model::Verdict;

/// Puts colour on words, or leaves them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// Whether there are colours.
    pub(crate) const fn is_on(self) -> bool {
        self.0
    }

    /// Colours, whatever is written to.
    #[cfg(test)]
    pub(crate) const fn on() -> Self {
        Self(true)
    }

    /// No colours, whatever is written to.
    #[cfg(test)]
    pub(crate) const fn off() -> Self {
        Self(false)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    pub(crate) fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    pub(crate) fn faint(self, text: impl Display) -> String {
        self.with("2", text)
    }

    pub(crate) fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }

    pub(crate) fn red(self, text: impl Display) -> String {
        self.with("31", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.with("33", text)
    }

    /// A verdict's word in its colour, padded to one width.
    pub(crate) fn verdict(self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Allow => self.with("1;32", "allowed"),
            Verdict::Deny => self.with("1;31", "denied "),
            Verdict::Ask => self.with("1;33", "asks   "),
        }
    }
}
