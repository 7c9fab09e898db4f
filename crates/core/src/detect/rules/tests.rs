//! Rules as they are run.

use std::fs;
use std::path::{Path as File, PathBuf};
use std::sync::Arc;

use super::*;

fn read(files: &[(&str, &str)]) -> Pack {
    let (pack, problems) = Pack::read(files.iter().copied());
    assert_eq!(problems, Vec::new());
    pack
}

/// A watch over rules about our own log.
fn watch(text: &str) -> Watch {
    let (rules, problems) = read(&[("rules.yml", text)]).about(Source::Record);
    assert_eq!(problems, Vec::new());
    Watch::new(Arc::new(rules))
}

/// What a watch finds in an event at a second, by the names of the rules.
fn see(watch: &mut Watch, second: i64, proof: u64, event: &str) -> Vec<Finding> {
    let mut reader = Reader::new();
    let happened = || Happened { at: Timestamp::from_second(second).unwrap(), proof: Proof::Record(proof), about: About::default() };
    watch.see(reader.read(event.as_bytes()).unwrap(), &mut Scratch::default(), true, happened)
}

#[test]
fn every_file_of_rules_is_shipped_and_nothing_else() {
    fn walk(folder: &File, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let root = File::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let mut files: Vec<String> = files
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .map(|path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
}

#[test]
fn each_shipped_rule_raises_what_its_examples_say_and_says_what_to_do() {
    let pack = read(SHIPPED);
    for source in [Source::Record, Source::CloudTrail] {
        assert_eq!(pack.about(source).1, Vec::new());
    }
    let wrong: Vec<String> = pack
        .check()
        .into_iter()
        .filter_map(|checked| {
            Some(format!("{}: {:?}: {}", checked.rule.file, checked.example.map(|example| &example.name), checked.wrong?))
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    for rule in pack.described().filter(|rule| rule.detector.catalogue.is_some()) {
        let tags = &rule.detector.tags;
        assert!(tags.iter().any(|tag| tag.starts_with("attack.t1")), "{}: no technique", rule.file);
        assert!(tags.iter().any(|tag| tag.starts_with("owasp.asi")), "{}: no entry of the OWASP list", rule.file);
        assert!(!rule.detector.falsepositives.is_empty() && !rule.expected.starts_with("Nothing that"), "{}", rule.file);
    }
}

const COUNT: &str = "
title: base
name: base
logsource: { product: bailiwick }
detection: { selection: { kind: intent }, condition: selection }
---
title: burst
id: burst
correlation: { type: event_count, rules: [base], group-by: [agent], timespan: 10s, condition: { gte: 3 } }
";

#[test]
fn a_window_counts_by_the_time_of_events_late_and_doubled_ones_included() {
    let event = r#"{"kind":"intent","agent":"a"}"#;
    // In order; the third within ten seconds.
    let mut in_order = watch(COUNT);
    assert!(see(&mut in_order, 100, 0, event).is_empty() && see(&mut in_order, 105, 1, event).is_empty());
    assert!(see(&mut in_order, 110, 2, event).is_empty(), "the first is ten seconds away");
    let found = see(&mut in_order, 111, 3, event);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].evidence.iter().map(|evidence| evidence.proof.clone()).collect::<Vec<_>>(), [1, 2, 3].map(Proof::Record));
    assert!(see(&mut in_order, 112, 4, event).is_empty(), "the same burst goes on, and is told of once");
    assert_eq!(see(&mut in_order, 130, 5, event).len() + see(&mut in_order, 131, 6, event).len(), 0);
    assert_eq!(see(&mut in_order, 132, 7, event).len(), 1, "another burst");

    // Late, and from another century, and twice.
    let mut late = watch(COUNT);
    assert!(see(&mut late, 4_000_000_000, 9, event).is_empty());
    assert!(
        see(&mut late, 111, 3, event).is_empty() && see(&mut late, 111, 3, event).is_empty() && see(&mut late, 111, 3, event).is_empty()
    );
    assert!(see(&mut late, 105, 1, event).is_empty());
    let found = see(&mut late, 107, 2, event);
    assert_eq!(found.len(), 1, "what comes late completes the window that it belongs to");
    assert_eq!((found[0].first.as_second(), found[0].last.as_second(), found[0].count), (105, 111, 3));

    // Of other groups, or without what groups are told by.
    let mut apart = watch(COUNT);
    for (proof, agent) in [r#""agent":"a""#, r#""agent":"b""#, r#""agent":"c""#, r#""x":1"#, r#""x":1"#, r#""x":1"#].iter().enumerate() {
        assert!(see(&mut apart, 100, proof as u64, &format!(r#"{{"kind":"intent",{agent}}}"#)).is_empty());
    }
}

#[test]
fn the_memory_of_correlations_is_bounded_and_keeps_what_is_newest() {
    let mut watch = watch(COUNT);
    for number in 0..45_000_u64 {
        see(&mut watch, 1_000, number, &format!(r#"{{"kind":"intent","agent":"a{number}"}}"#));
        assert!(watch.kept() <= HITS_MAX);
    }
    let last = r#"{"kind":"intent","agent":"a44999"}"#;
    assert!(see(&mut watch, 1_001, 200_000, last).is_empty());
    assert_eq!(see(&mut watch, 1_002, 200_001, last).len(), 1);
}

#[test]
fn events_of_several_rules_are_told_in_any_order_and_in_theirs() {
    let rules = |kind: &str| {
        format!(
            "
title: read
name: read
logsource: {{ product: bailiwick }}
detection: {{ selection: {{ effect: read }}, condition: selection }}
---
title: send
name: send
logsource: {{ product: bailiwick }}
detection: {{ selection: {{ effect: send }}, condition: selection }}
---
title: both
id: both
correlation: {{ type: {kind}, rules: [read, send], group-by: [agent], timespan: 1m }}
"
        )
    };
    let (read, send) = (r#"{"effect":"read","agent":"a"}"#, r#"{"effect":"send","agent":"a"}"#);
    for (kind, forwards, backwards) in [("temporal", 1, 1), ("temporal_ordered", 1, 0)] {
        let mut one = watch(&rules(kind));
        assert_eq!(see(&mut one, 1, 1, read).len() + see(&mut one, 2, 2, send).len(), forwards, "{kind}");
        let mut other = watch(&rules(kind));
        assert_eq!(see(&mut other, 1, 1, send).len() + see(&mut other, 2, 2, read).len(), backwards, "{kind}");
        let mut late = watch(&rules(kind));
        assert_eq!(see(&mut late, 2, 2, send).len() + see(&mut late, 1, 1, read).len(), forwards, "{kind}, the first event last");
    }
}

#[test]
fn a_rule_that_would_mean_something_else_than_it_says_is_refused() {
    let rule = |detection: &str| format!("title: t\nlogsource: {{ product: bailiwick }}\ndetection:\n{detection}\n");
    for (text, why) in [
        (rule("  s: { a: 1 }\n  condition: other"), "names `other`"),
        (rule("  s: { a: 1 }\n  condition: 1 of x_*"), "of which there is none"),
        (rule("  s: { 'a|re|contains': x }\n  condition: s"), "in two ways"),
        (rule("  s: { 'a|cidr': x }\n  condition: s"), "no network"),
        (rule("  s: { 'a|re': '(' }\n  condition: s"), "regex"),
        (rule("  s: { 'a|gt': x }\n  condition: s"), "no number"),
        (rule("  s: { 'a|i': x }\n  condition: s"), "belong to `re`"),
        (rule("  s: { 'a|contains|all': x }\n  condition: s"), "more than one"),
        (rule("  s: { 'a|re': 'x{1000}{1000}' }\n  condition: s"), "size"),
        (rule("  s: { a: 1 }\n  timeframe: 5m\n  condition: s"), "correlation"),
        (COUNT.replace("rules: [base]", "rules: [nobody]"), "there is no rule `nobody`"),
        (COUNT.replace("timespan: 10s", "timespan: 0s"), "no time"),
        (COUNT.replace("event_count", "value_avg"), "not one of"),
    ] {
        let (pack, mut problems) = Pack::read([("rules.yml", text.as_str())]);
        problems.extend([Source::Record, Source::Other].iter().flat_map(|source| pack.about(*source).1));
        let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(said.contains(why), "{text}: {said}");
    }
    let (_, problems) = Pack::read([(
        "a.yml",
        "title: t\nlogsource: { product: bailiwick }\ndetection: { s: { a: 1 }, condition: s }\nbailiwick: { sevrity: 3 }",
    )]);
    assert!(problems[0].to_string().contains("sevrity"), "{problems:?}");
}

#[test]
fn words_of_proofs_that_rules_look_for_are_those_that_are_recorded() {
    use crate::identity::Replayed;
    assert_eq!(Replayed::Before.to_string(), "it was used before");
}

/// The rows of `docs/spec/catalogue.md`: an entry, what raises it, and the tests that show it.
fn catalogue() -> Vec<(String, Vec<String>, Vec<String>)> {
    let page = File::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/catalogue.md");
    let page = fs::read_to_string(page).unwrap();
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    page.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [entry, _, by, tests] = cells.as_slice() else { return None };
            let is_entry = entry.len() == 5 && entry.as_bytes()[2] == b'-';
            is_entry.then(|| ((*entry).to_owned(), ticked(by), ticked(tests)))
        })
        .collect()
}

fn texts_under(folder: &File, texts: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts_under(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            texts.push((path, text));
        }
    }
}

#[test]
fn every_entry_of_the_catalogue_is_raised_by_what_the_catalogue_says() {
    use std::collections::{BTreeMap, BTreeSet};

    let detect = File::new(env!("CARGO_MANIFEST_DIR")).join("src/detect");
    let mut sources = Vec::new();
    texts_under(&File::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let mut raised: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in Pack::shipped().described() {
        if let Some(entry) = &rule.detector.catalogue {
            raised.entry(entry.clone()).or_default().insert(rule.file.clone());
        }
    }
    let is_test = |path: &File| path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    for (path, text) in sources.iter().filter(|(path, _)| path.starts_with(&detect) && !is_test(path)) {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        // An entry in code is a text of its own: two letters of capitals, a line, two digits.
        for word in text.split('"').skip(1).step_by(2).filter(|word| word.len() == 5) {
            let bytes = word.as_bytes();
            if bytes[..2].iter().all(u8::is_ascii_uppercase) && bytes[2] == b'-' && bytes[3..].iter().all(u8::is_ascii_digit) {
                let file = path.strip_prefix(&detect).unwrap().to_string_lossy().into_owned();
                raised.entry(word.to_owned()).or_default().insert(file);
            }
        }
    }
    let page = catalogue();
    assert_eq!(page.len(), 52);
    assert_eq!(page.iter().map(|(entry, ..)| entry).collect::<BTreeSet<_>>().len(), 52);
    for (entry, by, tests) in &page {
        let by: BTreeSet<String> = by.iter().cloned().collect();
        assert_eq!(raised.remove(entry).unwrap_or_default(), by, "{entry}");
        assert!(!by.is_empty(), "{entry} is raised by nothing");
        for test in tests {
            assert!(sources.iter().any(|(_, text)| text.contains(&format!("fn {test}("))), "{entry}: there is no test `{test}`");
        }
        assert!(!tests.is_empty() || by.iter().any(|by| by.ends_with(".yml")), "{entry}: nothing shows it");
    }
    assert_eq!(raised, BTreeMap::new(), "entries that the page does not have");
}
