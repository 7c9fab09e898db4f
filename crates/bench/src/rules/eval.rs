//! How many attacks the rules find in CloudTrail, and how much else they flag.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bailiwick_core::detect::cloudtrail::{Sessions, Trail};
use bailiwick_core::detect::finding::Response;
use bailiwick_core::detect::rules::{Reader, Scratch, Source};
use rsigma_eval::JsonEvent;
use serde_json::Value;

use super::corpus::{Corpus, Labelled, rules_in};
use super::{compiled, peer, shipped};
use crate::Result;
use crate::table::Table;

/// The argument that asks this program for the evaluation.
pub(crate) const COMMAND: &str = "--eval-cloudtrail";

/// What the tool that made the attacks calls itself, by which they were labelled.
const MARK: &str = "stratus-red-team";

/// The SDK that it is made with.
const SDK: &str = "aws-sdk-go-v2/1.17.0 os/linux lang/go/1.18.10";

/// Judges what is kept, and the files that `arguments` name, with the shipped rules and with those that they name.
pub(crate) fn run(arguments: &[String]) -> Result {
    let (mut sigma, mut data, mut is_listing) = (Vec::new(), Vec::new(), false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().map(PathBuf::from).ok_or_else(|| format!("`{argument}` wants a path"));
        match argument.as_str() {
            "--sigma" => sigma.push(value()?),
            "--data" => data.push(value()?),
            "--list" => is_listing = true,
            other => return Err(format!("unknown option `{other}`: --sigma DIR, --data FILE, --list").into()),
        }
    }
    let mut corpora = Corpus::kept()?;
    for file in data {
        corpora.push(Corpus::read(&file)?);
    }
    let sigma: Vec<(String, String)> = sigma.iter().map(|folder| rules_in(folder)).collect::<Result<Vec<_>>>()?.concat();
    for corpus in &corpora {
        judge(corpus, &sigma, is_listing)?;
    }
    Ok(())
}

/// Which events are flagged, by what.
struct Flagged {
    /// For each event, the titles of what flags it.
    by: Vec<Vec<String>>,
}

fn judge(corpus: &Corpus, sigma: &[(String, String)], is_listing: bool) -> Result {
    let attacks: BTreeSet<&String> = corpus.events.iter().filter_map(|event| event.attack.as_ref()).collect();
    let labels: BTreeMap<&str, usize> = corpus.events.iter().fold(BTreeMap::new(), |mut labels, event| {
        *labels.entry(event.label.as_str()).or_default() += 1;
        labels
    });
    println!("### {}: {} events, {} attacks\n", corpus.name, corpus.events.len(), attacks.len());
    let mut table = Table::new(&["rules", "what is counted", "attacks found", "events flagged: attack", "benign", "setup", "other"]);
    let mut row = |rules: &str, what: &str, flagged: &Flagged| {
        let with = |label: &str| {
            let count = corpus.events.iter().zip(&flagged.by).filter(|(event, by)| event.label == label && !by.is_empty()).count();
            labels.get(label).map_or_else(String::new, |all| format!("{count} of {all}"))
        };
        let found: BTreeSet<&String> =
            corpus.events.iter().zip(&flagged.by).filter(|(_, by)| !by.is_empty()).filter_map(|(event, _)| event.attack.as_ref()).collect();
        let known = ["attack", "benign", "setup"];
        let other: usize =
            corpus.events.iter().zip(&flagged.by).filter(|(event, by)| !known.contains(&event.label.as_str()) && !by.is_empty()).count();
        table.row([
            rules.to_owned(),
            what.to_owned(),
            format!("{} of {}", found.len(), attacks.len()),
            with("attack"),
            with("benign"),
            with("setup"),
            other.to_string(),
        ]);
    };
    if !sigma.is_empty() {
        let (ours, theirs) = (matches(corpus, sigma)?, peer_matches(corpus, sigma)?);
        let name = format!("Sigma, {}", sigma.len());
        row(&name, "matches", &ours);
        row(&name, "matches of rsigma", &theirs);
        row(&name, "findings", &findings(corpus, sigma)?);
        let differ = ours.by.iter().zip(&theirs.by).filter(|(ours, theirs)| ours != theirs).count();
        let all: usize = ours.by.iter().map(Vec::len).sum();
        row("shipped", "findings", &findings(corpus, &shipped())?);
        row("both", "findings", &findings(corpus, &[shipped(), sigma.to_vec()].concat())?);
        println!("{all} matches of the Sigma rules; {differ} events on which rsigma says something else\n");
        if differ > 0 {
            return Err(format!("{differ} events are not judged as rsigma judges them").into());
        }
    } else {
        row("shipped", "findings", &findings(corpus, &shipped())?);
    }
    println!("{table}");
    let all = findings(corpus, &[shipped(), sigma.to_vec()].concat())?;
    let found: BTreeSet<&String> =
        corpus.events.iter().zip(&all.by).filter(|(_, by)| !by.is_empty()).filter_map(|(event, _)| event.attack.as_ref()).collect();
    for attack in attacks.iter().filter(|attack| !found.contains(**attack)) {
        let names: BTreeSet<String> = corpus.events.iter().filter(|event| event.attack.as_ref() == Some(attack)).map(name_of).collect();
        println!("not found: {attack}: {}", names.into_iter().collect::<Vec<_>>().join(", "));
    }
    if is_listing {
        for (event, by) in corpus.events.iter().zip(&all.by).filter(|(event, by)| event.attack.is_none() && !by.is_empty()) {
            println!("flagged: {}: {}: {}", event.label, name_of(event), by.join("; "));
        }
    }
    println!();
    Ok(())
}

fn name_of(event: &Labelled) -> String {
    let value: Value = serde_json::from_str(&event.text).unwrap_or_default();
    value.get("eventName").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A user agent without the word by which events were labelled; the SDK, where it is nothing else.
fn unmarked(agent: &str) -> String {
    let words: Vec<&str> = agent.trim_matches(['[', ']']).split(' ').filter(|word| !word.contains(MARK)).collect();
    if words.is_empty() { SDK.to_owned() } else { words.join(" ") }
}

/// The rules of which each event is what they describe, whatever they ask for.
fn matches(corpus: &Corpus, files: &[(String, String)]) -> Result<Flagged> {
    let rules = compiled(files, Source::CloudTrail)?;
    let (mut reader, mut scratch) = (Reader::new(), Scratch::default());
    let of = |event: &Labelled| {
        let matching = rules.matching(reader.read(event.text.as_bytes())?, &mut scratch);
        let mut titles: Vec<String> = matching.iter().filter_map(|number| Some(rules.rule(*number)?.detector.title.clone())).collect();
        titles.sort();
        Ok(titles)
    };
    Ok(Flagged { by: corpus.events.iter().map(of).collect::<Result<_>>()? })
}

/// The same, as rsigma says.
fn peer_matches(corpus: &Corpus, files: &[(String, String)]) -> Result<Flagged> {
    let engine = peer(files)?;
    let of = |event: &Labelled| {
        let value: Value = serde_json::from_str(&event.text)?;
        let mut titles: Vec<String> =
            engine.evaluate(&JsonEvent::borrow(&value)).into_iter().map(|found| found.header.rule_title).collect();
        titles.sort();
        Ok(titles)
    };
    Ok(Flagged { by: corpus.events.iter().map(of).collect::<Result<_>>()? })
}

/// The findings that ask for something, under the event that raised each. Nothing can be told by the name of the tool that attacked.
fn findings(corpus: &Corpus, files: &[(String, String)]) -> Result<Flagged> {
    let mut trail = Trail::new(Arc::new(compiled(files, Source::CloudTrail)?), Sessions::default());
    let mut of = |event: &Labelled| {
        let mut value: Value = serde_json::from_str(&event.text)?;
        if let Some(Value::String(agent)) = value.get_mut("userAgent") {
            *agent = unmarked(agent);
        }
        let found = trail.take(value.to_string().as_bytes())?;
        Ok(found.into_iter().filter(|finding| finding.detector.response > Response::Record).map(|finding| finding.detector.title).collect())
    };
    Ok(Flagged { by: corpus.events.iter().map(&mut of).collect::<Result<_>>()? })
}
