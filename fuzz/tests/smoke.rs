//! Every target over its kept corpus, and over mutations of it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking, also in its helpers")]

use std::path::Path;
use std::{fmt, fs};

use bailiwick_fuzz::TARGETS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

/// How many mutations of each corpus are tried, fewer where inputs are long; libFuzzer tries millions (`cargo xtask fuzz`).
const MUTATIONS: usize = 2_000;
const BYTES: usize = 4 << 20;

/// What parsers stumble over, put anywhere.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b".",
    b"/",
    b"..",
    b"%2e",
    b"*",
    b"-0",
    b"1e400",
    b"9007199254740993",
    b"null",
    b"\xff",
    b"\xc0\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"data:",
    b"=",
    b"&",
    b"\xff\xff",
];

/// The kept inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()));
    let mut paths: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// An input as a failure shows it.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One change to an input.
#[derive(Clone, Debug)]
enum Edit {
    Put(Index, Vec<u8>),
    Take(Index, usize),
    Double(Index, usize),
    Flip(Index, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), prop_oneof![select(TOKENS).prop_map(<[u8]>::to_vec), vec(any::<u8>(), 1..4)])
            .prop_map(|(at, bytes)| Edit::Put(at, bytes)),
        (any::<Index>(), 1..16_usize).prop_map(|(at, length)| Edit::Take(at, length)),
        (any::<Index>(), 1..64_usize).prop_map(|(at, length)| Edit::Double(at, length)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
    ]
}

fn mutated(input: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut output = input.to_vec();
    for edit in edits {
        let (Edit::Put(at, _) | Edit::Take(at, _) | Edit::Double(at, _) | Edit::Flip(at, _)) = edit;
        let at = at.index(output.len() + 1);
        let piece = |length: &usize| at..(at + length).min(output.len());
        match edit {
            Edit::Put(_, bytes) => drop(output.splice(at..at, bytes.iter().copied())),
            Edit::Take(_, length) => drop(output.drain(piece(length))),
            Edit::Double(_, length) => {
                let piece = output[piece(length)].to_vec();
                output.splice(at..at, piece);
            }
            Edit::Flip(_, bit) => output.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit),
        }
    }
    output
}

#[test]
fn no_parser_panics_or_breaks_its_promise_on_its_corpus_and_mutations_of_it() {
    for target in TARGETS {
        let corpus = corpus(target.name);
        for input in &corpus {
            (target.run)(input);
        }
        let longest = corpus.iter().map(Vec::len).max().unwrap_or(1);
        let cases = (BYTES / longest).clamp(100, MUTATIONS) as u32;
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let inputs = (select(corpus), vec(edit(), 1..4)).prop_map(|(input, edits)| Input(mutated(&input, &edits)));
        let run = runner.run(&inputs, |input| {
            (target.run)(&input.0);
            Ok(())
        });
        if let Err(failure) = run {
            panic!("target `{}`: {failure}", target.name);
        }
    }
}

#[test]
fn every_corpus_holds_what_is_taken_and_what_is_refused() {
    for target in TARGETS {
        let verdicts: Vec<bool> = corpus(target.name).iter().map(|input| (target.run)(input)).collect();
        assert!(verdicts.contains(&true) && verdicts.contains(&false), "the corpus of `{}` shows one side only: {verdicts:?}", target.name);
    }
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "no target is called `{name}`");
    }
}
