//! Rules: what an event costs, beside rsigma on the same events, and how that grows with rules that are not about it.

pub(crate) mod corpus;
pub(crate) mod eval;
#[cfg(test)]
mod tests;

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::detect::cloudtrail::{Piece, Sessions, Splitter, Trail};
use bailiwick_core::detect::finding::{About, Proof};
use bailiwick_core::detect::rules::{Happened, Pack, Reader, Rules, SHIPPED, Scratch, Source, Watch};
use bailiwick_core::model::Timestamp;
use rsigma_eval::{Engine, JsonEvent};

use self::corpus::Corpus;
use crate::Result;
use crate::clock::cpu;
use crate::process::resident_kib;
use crate::table::Table;

/// How much processor time one figure is taken from, at least.
const ENOUGH: Duration = Duration::from_secs(2);

/// How many rules more there are in the tables that say what rules cost.
const MORE: usize = 1_000;

/// How many copies of the rules are made to tell what memory one takes.
const COPIES: u64 = 10;

/// Measures the rules.
pub(crate) fn measure() -> Result {
    // First the one that tells memory, while none was let go of that could be used again.
    record()?;
    cloudtrail()
}

/// Runs `judge`, which judges so many events, until enough time has passed; how many events a second of one processor.
fn per_second(events: usize, mut judge: impl FnMut() -> Result<u64>) -> Result<f64> {
    judge()?;
    let (start, mut rounds) = (cpu()?, 0_u32);
    loop {
        black_box(judge()?);
        rounds += 1;
        let passed = cpu()?.saturating_sub(start);
        if passed >= ENOUGH {
            return Ok(events as f64 * f64::from(rounds) / passed.as_secs_f64());
        }
    }
}

/// The events of CloudTrail, with the shipped rules, with those that the environment names, and with a thousand more.
fn cloudtrail() -> Result {
    let corpus = Corpus::shipped()?;
    let lines: Vec<String> = corpus.events.iter().map(|event| event.text.clone()).collect();
    let bytes: usize = lines.iter().map(String::len).sum();
    let delivered = format!("{{\"Records\":[{}]}}", lines.join(","));
    let mut sets = vec![("shipped", shipped())];
    if let Some(folder) = std::env::var_os("BENCH_SIGMA") {
        let sigma = corpus::rules_in(&PathBuf::from(folder))?;
        sets.insert(0, ("those of BENCH_SIGMA", sigma.clone()));
        sets.push(("both", [shipped(), sigma].concat()));
    }
    sets.push(("shipped and 1,000 more", [shipped(), more("aws\n    service: cloudtrail", "eventName")].concat()));
    println!("{} events of {} bytes on average; events a second of one processor\n", lines.len(), bytes / lines.len().max(1));
    let mut table = Table::new(&["rules", "number", "rsigma", "ours", "times", "ours, as delivered", "with findings and joins"]);
    for (name, files) in sets {
        let rules = compiled(&files, Source::CloudTrail)?;
        let (number, _) = rules.len();
        let engine = peer(&files)?;
        let theirs = per_second(lines.len(), || {
            let mut matches = 0;
            for line in &lines {
                let value: serde_json::Value = serde_json::from_str(line)?;
                matches += engine.evaluate(&JsonEvent::borrow(&value)).len() as u64;
            }
            Ok(matches)
        })?;
        let (mut reader, mut scratch) = (Reader::new(), Scratch::default());
        let ours = per_second(lines.len(), || {
            let mut matches = 0;
            for line in &lines {
                matches += rules.matching(reader.read(line.as_bytes())?, &mut scratch).len() as u64;
            }
            Ok(matches)
        })?;
        let as_delivered = per_second(lines.len(), || {
            let mut matches = 0;
            Splitter::new().push(delivered.as_bytes(), |piece| {
                if let Piece::Event(text) = piece
                    && let Ok(event) = reader.read(text)
                {
                    matches += rules.matching(event, &mut scratch).len() as u64;
                }
            })?;
            Ok(matches)
        })?;
        let rules = Arc::new(rules);
        let whole = per_second(lines.len(), || {
            let mut trail = Trail::new(Arc::clone(&rules), Sessions::default());
            let mut findings = 0;
            Splitter::new().push(delivered.as_bytes(), |piece| {
                if let Piece::Event(text) = piece {
                    findings += trail.take(text).map_or(0, |found| found.len()) as u64;
                }
            })?;
            Ok(findings)
        })?;
        let cell = |rate: f64| format!("{rate:.0}");
        table.row([
            name.to_owned(),
            number.to_string(),
            cell(theirs),
            cell(ours),
            format!("{:.1}", ours / theirs),
            cell(as_delivered),
            cell(whole),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// Our own records, with the shipped rules and with a thousand more; and the memory of those.
fn record() -> Result {
    let lines = corpus::records();
    println!("Our own records, {} kinds of them in the share that calls have\n", lines.len());
    let mut table = Table::new(&["rules", "number", "records a second", "µs each", "rules' memory, MiB"]);
    let mut sets = Vec::new();
    for (name, files) in [("shipped", shipped()), ("shipped and 1,000 more", [shipped(), more("bailiwick", "tool")].concat())] {
        let before = resident_kib(std::process::id())?;
        let copies = (0..COPIES).map(|_| compiled(&files, Source::Record).map(Arc::new)).collect::<Result<Vec<_>>>()?;
        sets.push((name, copies, resident_kib(std::process::id())?.saturating_sub(before) / COPIES));
    }
    for (name, copies, memory) in &sets {
        let rules = copies.first().ok_or("no rules were compiled")?;
        let (number, correlations) = rules.len();
        let mut watch = Watch::new(Arc::clone(rules));
        let (mut reader, mut scratch, mut position) = (Reader::new(), Scratch::default(), 0_u64);
        let rate = per_second(lines.len(), || {
            let mut findings = 0;
            for line in &lines {
                position += 1;
                // A record each ten milliseconds.
                let at = Timestamp::from_millisecond(1_790_000_000_000 + position as i64 * 10)?;
                let happened = || Happened { at, proof: Proof::Record(position), about: About::default() };
                findings += watch.see(reader.read(line.as_bytes())?, &mut scratch, true, happened).len() as u64;
            }
            Ok(findings)
        })?;
        let number = format!("{number} and {correlations} correlations");
        table.row([
            (*name).to_owned(),
            number,
            format!("{rate:.0}"),
            format!("{:.2}", 1e6 / rate),
            format!("{:.1}", *memory as f64 / 1_024.0),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// The rules that come with the program.
pub(crate) fn shipped() -> Vec<(String, String)> {
    SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// A thousand rules about other values of a field, of the shapes that rules have: a few values, a text within another, a filter.
fn more(product: &str, field: &str) -> Vec<(String, String)> {
    let rule = |number: usize| {
        format!(
            "title: More {number}\nid: more-{number}\nlogsource:\n    product: {product}\ndetection:\n    selection:\n        {field}:\n            - 'DoThis{number}'\n            - 'DoThat{number}'\n        requestParameters.name|contains:\n            - 'a{number}'\n            - 'b{number}*c'\n    filter:\n        userIdentity.arn|endswith: '/deploy{number}'\n    condition: selection and not filter\nlevel: low\n"
        )
    };
    (0..MORE).map(|number| (format!("more-{number}.yml"), rule(number))).collect()
}

/// The rules about one log, compiled.
pub(crate) fn compiled(files: &[(String, String)], source: Source) -> Result<Rules> {
    let (pack, problems) = Pack::read(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let (rules, uncompiled) = pack.about(source);
    match problems.into_iter().chain(uncompiled).next() {
        Some(problem) => Err(problem.into()),
        None => Ok(rules),
    }
}

/// The same rules in rsigma, those about CloudTrail and without correlations.
pub(crate) fn peer(files: &[(String, String)]) -> Result<Engine> {
    let mut engine = Engine::new();
    for (name, text) in files {
        let collection = rsigma_parser::parse_sigma_yaml(text).map_err(|error| format!("{name}: {error}"))?;
        for rule in collection.rules.iter().filter(|rule| rule.logsource.product.as_deref() == Some("aws")) {
            engine.add_rule(rule).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(engine)
}
