//! The starter bundle: it is valid, decides what it says it decides, and its matrix of who may do what is the reviewed one. And the
//! example of federation, which the guide shows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bailiwick_core::bundle::{self, Files};
use bailiwick_core::policy::matrix;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The files of the example of this name.
fn files(example: &str) -> Files {
    let bundle = root().join("examples").join(example);
    let (mut files, mut folders) = (Files::new(), vec![bundle.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&bundle).unwrap().to_str().unwrap().to_owned();
            if bundle::concerns(&name) {
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn starter() -> bundle::Bundle {
    bundle::read(&files("starter")).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn who_may_do_what_is_what_was_reviewed() {
    let snapshot = starter().snapshot;
    let printed = matrix(&snapshot);
    let path = root().join("policies/matrix.txt");
    if std::env::var_os("UPDATE_MATRIX").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(printed, reviewed, "review the change and run the test with UPDATE_MATRIX=1");

    let rows: BTreeSet<&str> = reviewed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    for server in snapshot.servers.values() {
        for tool in server.tools.keys() {
            assert!(rows.contains(format!("{}/{tool}", server.name).as_str()), "`{tool}` is missing from the matrix");
        }
    }
}

#[test]
fn it_decides_what_it_says() {
    let starter = starter();
    assert!(starter.warnings.is_empty(), "{:#?}", starter.warnings);
    assert!(!starter.expectations.is_empty());
    for expectation in &starter.expectations {
        let judged = expectation.judge(&starter.snapshot, "2026-11-25T10:00:00Z".parse().unwrap());
        assert!(expectation.is_met_by(&judged), "{}:{} {:?}", expectation.file, expectation.line, judged.decision);
    }
}

#[test]
fn it_has_the_starter_policies() {
    assert_eq!(text("examples/starter/policies/starter.cedar"), text("policies/starter.cedar"));
}

/// What the guide to federation shows is what the example holds, and `check` has nothing to say about that.
#[test]
fn the_guide_to_federation_shows_a_bundle_without_a_warning() {
    let files = files("federation");
    let bundle = bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(bundle.warnings.is_empty(), "{:#?}", bundle.warnings);
    let texts: Vec<String> = files.into_values().map(|text| String::from_utf8(text).unwrap()).collect();
    let guide = text("docs/guides/federation.md");
    let snippets: Vec<&str> = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(snippets.len() >= 18, "{}", snippets.len());
    for snippet in snippets {
        assert!(texts.iter().any(|text| text.contains(snippet)), "no file of the example holds\n{snippet}");
    }
}
