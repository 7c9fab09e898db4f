//! A problem in a bundle: where it is, what is wrong, and what would mend it.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The bundle cannot be used.
    Error,
    /// The bundle can be used, and someone should know.
    Warning,
}

/// One problem in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, by its path within the bundle.
    pub file: String,
    /// The place in the file, in bytes; none when the problem is the file itself.
    pub span: Option<Range<usize>>,
    /// The line of its beginning, from 1.
    pub line: usize,
    /// The column of its beginning, in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would mend it.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.message)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, "\n  mend: {}", self.mend) }
    }
}

/// Where problems are gathered, so that one run finds them all.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// The problems in the order of their places.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
        problems.dedup();
        problems
    }
}

/// One file that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// Its path within the bundle.
    pub(super) path: &'a str,
    /// Its text.
    pub(super) text: &'a str,
    /// Where its problems go.
    pub(super) problems: &'a Problems,
}

impl Source<'_> {
    /// Notes an error.
    pub(super) fn error(&self, span: impl Into<Option<Range<usize>>>, message: impl Into<String>, mend: impl Into<String>) {
        self.note(Severity::Error, span.into(), message.into(), mend.into());
    }

    /// Notes a warning.
    pub(super) fn warning(&self, span: impl Into<Option<Range<usize>>>, message: impl Into<String>, mend: impl Into<String>) {
        self.note(Severity::Warning, span.into(), message.into(), mend.into());
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        line_and_column(self.text, byte).0
    }

    fn note(&self, severity: Severity, span: Option<Range<usize>>, message: String, mend: String) {
        let (line, column) = span.as_ref().map_or((1, 1), |span| line_and_column(self.text, span.start));
        self.problems.0.borrow_mut().push(Problem { severity, file: self.path.to_owned(), span, line, column, message, mend });
    }
}

/// The line and column of a byte, both from 1. A byte past the end is at the end.
fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let mut end = byte.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let before = text.get(..end).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count().saturating_add(1), line.chars().count().saturating_add(1))
}

/// The candidate that `text` was probably meant to be.
pub(super) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let near = (text.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= near && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// A mend that names the nearest candidate, or lists what there is.
pub(super) fn suggest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    const LISTED_MAX: usize = 12;
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(candidate) = nearest(text, candidates.iter().copied()) {
        return format!("did you mean `{candidate}`?");
    }
    match candidates.len() {
        0 => "none is declared".to_owned(),
        1..=LISTED_MAX => format!("there is {}", listed(&candidates)),
        _ => {
            let some: Vec<&str> = candidates.into_iter().take(LISTED_MAX).collect();
            format!("there is {}, and more", listed(&some))
        }
    }
}

/// Names between backticks, with commas.
pub(super) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        for (byte, place) in [(0, (1, 1)), (3, (1, 3)), (4, (2, 1)), (6, (2, 2)), (99, (2, 3))] {
            assert_eq!(line_and_column("aé\nßb", byte), place, "{byte}");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("ownr", ["owner", "purpose"]), Some("owner"));
        assert_eq!(nearest("zzz", ["owner", "purpose"]), None);
        assert_eq!(nearest("x", ["a", "b"]), None);
    }
}
