//! `cargo xtask fuzz`: builds the targets so that libFuzzer sees which code an input reaches, and lets it search.
//!
//! What it finds interesting gathers in `.cache/fuzz/TARGET`; an input that breaks something is kept beside it and its name
//! is printed. Inputs worth keeping are copied to `fuzz/corpus/TARGET`, which every run of the tests walks.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::process;
use crate::tools::Tools;

/// The target triple is named so that only what is fuzzed is instrumented, not what runs while it is compiled.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Counters at every edge and what comparisons compare (LLVM SanitizerCoverage). No address sanitizer: there is no `unsafe`
/// in this workspace to look for. Overflow and other debug assertions are on.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1 --cfg=fuzzing";

/// How long each target is searched when nothing else is said.
const SECONDS: u64 = 60;

/// What was asked for.
#[derive(Default)]
struct Asked {
    target: Option<String>,
    seconds: Option<u64>,
    input: Option<PathBuf>,
}

impl Asked {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut asked = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("`{argument}` wants a value"));
            match *argument {
                "--seconds" => asked.seconds = Some(value()?.parse()?),
                "--input" => asked.input = Some(value()?.into()),
                option if option.starts_with('-') => return Err(format!("unknown option `{option}`\n\n{}", crate::USAGE).into()),
                target => asked.target = Some(target.to_owned()),
            }
        }
        Ok(asked)
    }
}

/// Searches the named target, or one after the other; `false` when something was found.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    let asked = Asked::parse(arguments)?;
    let tools = Tools::new(true)?;
    let targets = targets(&tools)?;
    if let Some(unknown) = asked.target.as_ref().filter(|name| !targets.contains(name)) {
        return Err(format!("no target is called `{unknown}`; there are {}", targets.join(", ")).into());
    }
    // libFuzzer is compiled with the targets.
    tools.debian(&[("g++", "/usr/bin/g++")])?;
    let folder = tools.root.join("target/fuzz");
    let mut build = tools.cargo();
    build.args(["build", "--release", "--package", "bailiwick-fuzz", "--features", "libfuzzer", "--target", TRIPLE]);
    build.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder);
    if !process::run(&tools, "fuzz-build", &mut build)?.success {
        return Err("the targets could not be built".into());
    }
    let program = folder.join(TRIPLE).join("release/bailiwick-fuzz");

    let mut found = Vec::new();
    for target in targets.iter().filter(|name| asked.target.as_ref().is_none_or(|asked| asked == *name)) {
        let gathered = tools.cache().join("fuzz").join(target);
        fs::create_dir_all(&gathered)?;
        let mut search = Command::new(&program);
        search.env("FUZZ_TARGET", target).current_dir(&tools.root);
        match &asked.input {
            Some(input) => drop(search.arg(input)),
            None => {
                search.arg(&gathered).arg(tools.root.join("fuzz/corpus").join(target));
                search.arg(format!("-max_total_time={}", asked.seconds.unwrap_or(SECONDS)));
                search.arg(format!("-artifact_prefix={}-", gathered.display()));
                search.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1", "-verbosity=1"]);
            }
        }
        eprintln!("── {target}");
        if !process::run(&tools, &format!("fuzz-{target}"), &mut search)?.success {
            found.push(target.as_str());
        }
    }
    if !found.is_empty() {
        eprintln!("something was found in {}; the input is named above, and `--input FILE` tries it again", found.join(", "));
    }
    Ok(found.is_empty())
}

/// The targets are known by their corpora; a test of theirs holds the two lists together.
fn targets(tools: &Tools) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(tools.root.join("fuzz/corpus"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
