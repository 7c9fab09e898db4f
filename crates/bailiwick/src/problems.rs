//! Showing a bundle's problems: to people with the place in the file, to programs as JSON.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use bailiwick_control::bundle::Directory;
use bailiwick_core::bundle::{Bundle, Files, Problem, Severity};
use clap::Args;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use crate::show::say;

/// Which bundle is meant, for commands that do nothing else with a directory.
#[derive(Clone, Debug, Args)]
pub(crate) struct BundleArgs {
    /// The bundle's directory [default: the current one].
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The same, as other commands take it.
    #[arg(long = "dir", short = 'C', value_name = "DIR", id = "dir_flag", env = "BAILIWICK_DIR")]
    flag: Option<PathBuf>,
}

impl BundleArgs {
    /// The bundle's directory.
    pub(crate) fn directory(&self) -> Directory {
        Directory::new(self.dir.clone().or_else(|| self.flag.clone()).unwrap_or_else(|| PathBuf::from(".")))
    }

    /// The bundle's files and what they mean.
    pub(crate) fn read(&self) -> miette::Result<(Files, Result<Bundle, Vec<Problem>>)> {
        let files = self
            .directory()
            .read()
            .map_err(|error| miette::miette!(help = "name the bundle's directory, or make one with `bailiwick init`", "{error}"))?;
        let bundle = bailiwick_core::bundle::read(&files);
        Ok((files, bundle))
    }

    /// The bundle, or all that is wrong with it as an error.
    pub(crate) fn read_whole(&self) -> miette::Result<Bundle> {
        let (_, bundle) = self.read()?;
        bundle.map_err(|problems| {
            let first = problems.iter().find(|problem| problem.severity == Severity::Error).map(ToString::to_string).unwrap_or_default();
            miette::miette!(help = "`bailiwick check` explains every one", "the bundle has mistakes, the first of them: {first}")
        })
    }
}

/// Prints problems for people, each with its place in its file.
pub(crate) fn print(problems: &[Problem], files: &Files) {
    let handler = GraphicalReportHandler::new_themed(theme());
    for problem in problems {
        let shown = Shown::new(problem, files);
        let mut out = String::new();
        // A place that cannot be drawn is still told in words.
        if handler.render_report(&mut out, &shown).is_err() {
            out.clear();
            let _ = writeln!(out, "{problem}");
        }
        say!("{}", out.trim_end());
        say!("");
    }
}

/// Colours and lines where a person looks on, plain text elsewhere.
fn theme() -> GraphicalTheme {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match (std::io::stdout().is_terminal(), colours) {
        (true, true) => GraphicalTheme::unicode(),
        (true, false) => GraphicalTheme::unicode_nocolor(),
        (false, _) => GraphicalTheme::none(),
    }
}

/// How many of them are errors and how many warnings.
pub(crate) fn count(problems: &[Problem]) -> (usize, usize) {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    (errors, problems.len().saturating_sub(errors))
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// A problem as miette shows it.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    source: NamedSource<String>,
    label: Option<LabeledSpan>,
}

impl<'a> Shown<'a> {
    fn new(problem: &'a Problem, files: &Files) -> Self {
        let text = files.get(&problem.file).map(|content| String::from_utf8_lossy(content).into_owned()).unwrap_or_default();
        let span = problem.span.clone().filter(|_| !text.is_empty());
        let label = span.map(|span| {
            let end = span.end.min(text.len());
            // A table's place may go on for many lines, of which the first says enough.
            let line_end = text.get(span.start..end).and_then(|text| text.find('\n')).map_or(end, |at| span.start.saturating_add(at));
            LabeledSpan::new(Some("here".to_owned()), span.start, line_end.saturating_sub(span.start))
        });
        Self { problem, source: NamedSource::new(&problem.file, text), label }
    }
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.label {
            Some(_) => f.write_str(&self.problem.message),
            None => write!(f, "{}: {}", self.problem.file, self.problem.message),
        }
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn std::fmt::Display + 'b>> {
        (!self.problem.mend.is_empty()).then(|| Box::new(&self.problem.mend) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.label.as_ref().map(|_| &self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.label.clone().map(|label| Box::new(std::iter::once(label)) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}
