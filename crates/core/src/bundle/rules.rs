//! Reading `rules/*.yml` and `[rules]` of `bailiwick.toml`: the detection rules of a bundle, beside the shipped ones or in their place.

use std::ops::Range;
use std::sync::Arc;

use super::fields::Fields;
use super::problem::{Source, suggest};
use super::schema;
use crate::detect::rules::{self, Pack};

/// What mends a mistake in a rule.
const MEND: &str = "`docs/spec/rules.md` says what rules may say; `bailiwick rules test` runs each over its own events";

/// The rules that the bundle runs on. What is wrong with its own is noted.
pub(super) fn rules(own: &[Source<'_>], settings: Option<&Fields<'_>>) -> Arc<Pack> {
    let shipped = Pack::shipped();
    let (read, mut problems) = Pack::read(own.iter().map(|source| (source.path, source.text)));
    for rule in
        read.described().filter(|rule| rule.source == rules::Source::Other && rule.detector.kind == crate::detect::finding::Kind::Rule)
    {
        if let Some(source) = own.iter().find(|source| source.path == rule.file) {
            let message = format!("`{}` is about a log that is not read here", rule.detector.title);
            let mend = "write `logsource: { product: bailiwick }` for our own log, or `{ product: aws, service: cloudtrail }`";
            source.warning(place(source.text, Some(&rule.detector.title)), message, mend);
        }
    }
    let (mut pack, clashes) = shipped.with(read);
    problems.extend(clashes);
    if !own.is_empty() {
        // What is shipped compiles by itself, as a test holds.
        let sources = [rules::Source::Record, rules::Source::CloudTrail, rules::Source::Other];
        problems.extend(sources.iter().flat_map(|source| pack.about(*source).1));
    }
    for problem in problems {
        // A rule of the bundle may break a shipped one that counts it; it is told where it is.
        let source = own.iter().find(|source| source.path == problem.file).or(own.first());
        if let Some(source) = source {
            source.error(place(source.text, problem.title.as_deref()), problem.what, MEND);
        }
    }
    let table = settings.and_then(|file| file.table::<schema::RulesTable>("rules"));
    for off in table.iter().flat_map(|table| table.texts("off").into_iter().map(move |off| (table, off))) {
        let (table, off) = off;
        pack = pack.without(off.get_ref()).unwrap_or_else(|pack| {
            let message = format!("there is no rule `{}` to switch off", super::fields::shown(off.get_ref()));
            table.source().error(off.span(), message, suggest(off.get_ref(), pack.names()));
            pack
        });
    }
    Arc::new(pack)
}

/// Where a rule of a title begins in its file.
fn place(text: &str, title: Option<&str>) -> Option<Range<usize>> {
    let line = text
        .lines()
        .find(|line| line.trim_start().strip_prefix("title:").is_some_and(|said| Some(said.trim().trim_matches(['\'', '"'])) == title))?;
    let start = line.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    Some(start..start.saturating_add(line.len()))
}
