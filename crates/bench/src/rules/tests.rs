//! What rules mean, beside what rsigma makes of them.

use bailiwick_core::detect::rules::{Reader, Scratch, Source};
use rsigma_eval::JsonEvent;
use serde_json::Value;

use super::corpus::Corpus;
use super::{compiled, peer, shipped};

/// The titles of the rules that each event is what they describe: by us, and by rsigma.
fn both(files: &[(String, String)], events: &[String]) -> Vec<(Vec<String>, Vec<String>)> {
    let (rules, engine) = (compiled(files, Source::CloudTrail).unwrap(), peer(files).unwrap());
    let (mut reader, mut scratch) = (Reader::new(), Scratch::default());
    let judged = events.iter().map(|text| {
        let matching = rules.matching(reader.read(text.as_bytes()).unwrap(), &mut scratch);
        let mut ours: Vec<String> = matching.iter().map(|number| rules.rule(*number).unwrap().detector.title.clone()).collect();
        let value: Value = serde_json::from_str(text).unwrap();
        let mut theirs: Vec<String> =
            engine.evaluate(&JsonEvent::borrow(&value)).into_iter().map(|found| found.header.rule_title).collect();
        ours.sort();
        theirs.sort();
        (ours, theirs)
    });
    judged.collect()
}

#[test]
fn the_shipped_rules_match_what_rsigma_says_on_every_kept_event() {
    let events: Vec<String> = Corpus::shipped().unwrap().events.into_iter().map(|event| event.text).collect();
    let judged = both(&shipped(), &events);
    for ((ours, theirs), event) in judged.iter().zip(&events) {
        assert_eq!(ours, theirs, "{event}");
    }
    assert!(judged.iter().filter(|(ours, _)| !ours.is_empty()).count() > 100);
}

#[test]
fn each_word_of_the_language_means_what_it_means_to_rsigma() {
    // Whatever a rule can say of one field, over whatever a field can hold.
    let asked = [
        "a: x",
        "a: X",
        "a: ''",
        "a: null",
        "a: 1",
        "a: 1.5",
        "a: true",
        "a: 'true'",
        "a: '1'",
        "a: [x, null]",
        "a: [x, y]",
        "a: 'x*'",
        "a: '*x'",
        "a: '*x*z'",
        "a: 'x?z'",
        "a: '\\*'",
        "a: 'x\\*'",
        "a|contains: x",
        "a|contains: [q, Z]",
        "a|contains|all: [x, z]",
        "a|startswith: X",
        "a|endswith: Z",
        "a|cased: X",
        "a|contains|cased: X",
        "a|re: '^x.z$'",
        "a|re|i: '^X'",
        "a|re|s: 'x.y'",
        "a|exists: true",
        "a|exists: false",
        "a|gt: 1",
        "a|gte: 1",
        "a|lt: 2",
        "a|lte: 1",
        "a|neq: x",
        "a|neq: [x, y]",
        "a|cidr: 10.0.0.0/8",
        "a|cidr: '2001:db8::/32'",
        "a|fieldref: b",
        "a|fieldref|contains: b",
        "a|fieldref|startswith: b",
        "a|base64: foo",
        "a|base64offset|contains: foo",
        "a|wide|base64offset|contains: foo",
        "a|windash|contains: ' -f'",
        "a|expand: '%b%'",
        "a|hour: 10",
        "a|year: 2026",
        "a|week: 48",
        "a.c: x",
        "a.c|contains: x",
        "a.c: null",
        "a.c|exists: true",
        "a.c.d: x",
    ];
    let values = [
        "\"x\"",
        "\"X\"",
        "\"xyz\"",
        "\"xYz\"",
        "\"x\\nz\"",
        "\"\"",
        "\"*\"",
        "\"x*\"",
        "null",
        "1",
        "1.5",
        "-0",
        "1e3",
        "\"1\"",
        "\"1.0\"",
        "true",
        "false",
        "\"yes\"",
        "[]",
        "[\"x\"]",
        "[\"y\",\"z\"]",
        "[null]",
        "[1,\"x\"]",
        "[[\"x\"]]",
        "{}",
        "{\"c\":\"x\"}",
        "{\"c\":null}",
        "[{\"c\":\"x\"},{\"c\":\"y\"}]",
        "[{\"c\":[\"x\"]},{}]",
        "{\"c\":{\"d\":\"x\"}}",
        "\"10.1.2.3\"",
        "\"2001:db8::1\"",
        "\"Zm9v\"",
        "\"xxZm9vYmFy\"",
        "\"eGZvbw==\"",
        "\"cmd /f\"",
        "\"cmd \u{2013}f\"",
        "\"2026-11-25T10:20:30Z\"",
        "\"2026-11-25 10:20:30\"",
        "1795602030",
        "\"\\u00c9\"",
        "\"\u{212a}\"",
    ];
    let rule = |number: usize, asked: &str, condition: &str| {
        let text = format!(
            "title: '{number:03} {condition}'\nlogsource:\n    product: aws\n    service: cloudtrail\ndetection:\n    s:\n        {asked}\n    n:\n        b: q\n    condition: {condition}\n"
        );
        (format!("{number}.yml"), text)
    };
    let mut files: Vec<(String, String)> = Vec::new();
    for (number, asked) in asked.iter().enumerate() {
        for condition in ["s", "not s", "s and not n", "1 of *", "all of them"] {
            files.push(rule(number, asked, condition));
        }
    }
    let keyword = |word: &str| {
        (
            word.to_owned(),
            format!(
                "title: 'word {word}'\nlogsource:\n    product: aws\n    service: cloudtrail\ndetection:\n    k:\n        - '{word}'\n    condition: k\n"
            ),
        )
    };
    files.extend(["x", "y?", "*z", "Y"].map(keyword));
    let mut events: Vec<String> = values.iter().map(|value| format!("{{\"a\":{value},\"b\":\"x\"}}")).collect();
    events.extend(values.iter().map(|value| format!("{{\"b\":{value},\"a\":\"xyz\",\"a.c\":\"x\"}}")));
    events.push("{}".to_owned());
    let judged = both(&files, &events);
    let differ = judged.iter().zip(&events).flat_map(|((ours, theirs), event)| {
        let ours_alone = ours.iter().filter(|title| !theirs.contains(title)).map(move |title| format!("ours: {title}: {event}"));
        ours_alone.chain(theirs.iter().filter(|title| !ours.contains(title)).map(move |title| format!("theirs: {title}: {event}")))
    });
    assert_eq!(differ.collect::<Vec<_>>(), Vec::<String>::new());
}
