//! What the compiler cannot hold: who may depend on whom, what must be absent from where, and the habits of the house.
//!
//! Each rule is a function of text, so that its tests can show it the mistake that it is there to find.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::process;
use crate::report::Report;

/// Which crates of this workspace each one may use. Crates on one row do not know each other.
const CRATES: &[(&str, &[&str])] = &[
    ("bailiwick-log", &[]),
    ("bailiwick-core", &["bailiwick-log"]),
    ("bailiwick-gateway", &["bailiwick-core", "bailiwick-log"]),
    ("bailiwick-control", &["bailiwick-core", "bailiwick-log"]),
    ("bailiwick-store", &["bailiwick-core", "bailiwick-log"]),
    ("bailiwick-confine", &["bailiwick-core", "bailiwick-log"]),
    ("bailiwick", &["bailiwick-gateway", "bailiwick-control", "bailiwick-store", "bailiwick-confine", "bailiwick-core", "bailiwick-log"]),
    // Measures and torments: nothing may use them.
    ("bailiwick-bench", &["bailiwick-gateway", "bailiwick-control", "bailiwick-store", "bailiwick-core", "bailiwick-log"]),
    ("bailiwick-sim", &["bailiwick-gateway", "bailiwick-control", "bailiwick-store", "bailiwick-core", "bailiwick-log"]),
    ("bailiwick-fuzz", &["bailiwick-gateway", "bailiwick-control", "bailiwick-store", "bailiwick-core", "bailiwick-log"]),
    ("xtask", &[]),
];

/// Which modules of core each one may use. Nothing knows `judge` but those who stand above core, and the words of
/// `model` know no rule.
const MODULES: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("prose", &["model"]),
    ("form", &[]),
    ("json", &[]),
    ("model", &["json", "identity", "ledger", "detect", "prose", "address"]),
    ("pressure", &[]),
    ("flow", &["bundle", "json", "model"]),
    ("approval", &["flow", "model"]),
    ("identity", &["json", "model", "execution", "ledger", "bundle"]),
    ("catalog", &["json", "model", "bundle"]),
    ("detect", &["flow", "model", "approval", "json"]),
    ("ledger", &["json", "model", "bundle", "flow", "approval", "detect"]),
    ("policy", &["json", "model", "ledger", "bundle", "identity", "catalog", "flow", "detect"]),
    ("bundle", &["json", "model", "ledger", "policy", "identity", "catalog", "flow", "signals", "detect", "prose", "address"]),
    // A bundle's own expectations are judged by the one function that judges calls.
    ("bundle/expect", &["json", "model", "ledger", "policy", "identity", "execution", "judge", "flow"]),
    ("execution", &["json", "model", "ledger", "identity", "bundle", "flow", "tasks", "signals"]),
    ("recovery", &["json", "model", "ledger", "execution", "bundle", "identity", "flow", "tasks", "signals"]),
    ("tasks", &["model"]),
    ("signals", &["json", "model", "identity", "bundle"]),
    ("judge", &["json", "model", "ledger", "policy", "bundle", "identity", "catalog", "execution", "flow", "approval", "detect"]),
    ("delegation", &["model", "bundle", "identity", "execution"]),
];

/// Crates that bring a runtime, a socket, a file or a clock. None may be under core or log, however deep.
const WORLDLY: &[&str] = &[
    "async-io",
    "async-std",
    "axum",
    "curl",
    "diesel",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "mio",
    "notify",
    "polling",
    "quinn",
    "redb",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "sqlx",
    "tempfile",
    "tokio",
    "tower",
    "ureq",
    "walkdir",
];

/// Words of the standard library by which core or log would touch the world by themselves.
const WORLDLY_WORDS: &[&str] = &[
    "std::fs",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "tokio",
    "Zoned::now",
    "println!",
    "eprintln!",
];

/// Marks of unfinished work and of checks switched off.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
    concat!("#[al", "low("),
    concat!("#![al", "low("),
];

/// Folders of one machine and hosts of registries, which a stranger's machine need not have.
const MACHINE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/t", "mp/"),
    concat!("registry.npm", "js.org"),
    concat!("files.python", "hosted.org"),
];

/// The table of attacks, each with the tests that show what becomes of it.
const ATTACKS: &str = "docs/attacks.md";

/// Runs every rule over the repository.
pub(crate) fn check(root: &Path) -> Result<Report> {
    let mut report = Report::default();
    let mut count = |broken: Vec<String>| if broken.is_empty() { report.passed += 1 } else { report.failures.extend(broken) };

    count(crate_directions(&workspace_dependencies(root)?));
    for package in ["bailiwick-core", "bailiwick-log"] {
        count(absent_from_tree(package, &dependency_tree(root, package)?));
    }

    let files = tracked_files(root)?;
    let rust: Vec<&(String, String)> = files.iter().filter(|(path, _)| path.ends_with(".rs")).collect();
    count(rust.iter().flat_map(|(path, text)| pure(path, text)).collect());
    count(rust.iter().flat_map(|(path, text)| module_directions(path, text)).collect());
    count(rust.iter().flat_map(|(path, text)| one_module_knows_cedar(path, text)).collect());
    count(rust.iter().flat_map(|(path, text)| opens_with_a_sentence(path, text)).collect());
    count(rust.iter().flat_map(|(path, text)| finished(path, text)).collect());
    count(files.iter().flat_map(|(path, text)| no_machine(path, text)).collect());
    let attacks = files.iter().find(|(path, _)| path == ATTACKS).map(|(_, text)| text.as_str()).unwrap_or_default();
    count(attacks_are_tested(attacks, &rust));
    Ok(report)
}

/// Every crate uses only those below it.
fn crate_directions(dependencies: &[(String, Vec<String>)]) -> Vec<String> {
    let mut broken = Vec::new();
    for (package, uses) in dependencies {
        match CRATES.iter().find(|(name, _)| name == package) {
            None => broken.push(format!("crate `{package}` has no place in the map of crates; give it one in xtask/src/tidy.rs")),
            Some((_, may)) => broken.extend(
                uses.iter()
                    .filter(|used| !may.contains(&used.as_str()))
                    .map(|used| format!("crate `{package}` must not depend on `{used}`")),
            ),
        }
    }
    broken
}

/// No runtime, socket, file or clock in the dependency tree of a pure crate.
fn absent_from_tree(package: &str, tree: &[String]) -> Vec<String> {
    WORLDLY
        .iter()
        .filter(|name| tree.iter().any(|found| found == *name))
        .map(|name| format!("`{name}` is under `{package}`; see `cargo tree -p {package} -i {name}`"))
        .collect()
}

/// The sources of core and log name nothing that touches the world, outside of tests.
fn pure(path: &str, text: &str) -> Vec<String> {
    if !["crates/core/src/", "crates/log/src/"].iter().any(|crate_| path.starts_with(crate_)) || path.ends_with("/tests.rs") {
        return Vec::new();
    }
    each_line(path, code_before_tests(text), |line| {
        let word = WORLDLY_WORDS.iter().find(|word| has_word(line, word))?;
        Some(format!("`{word}` in a crate that must not touch the world: take what it gives as an argument"))
    })
}

/// The modules of core use only those that [`MODULES`] grants them.
fn module_directions(path: &str, text: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix("crates/core/src/") else { return Vec::new() };
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    if module == "lib" || path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let is_own = |name: &str| inside.strip_prefix(name).is_some_and(|rest| rest.starts_with(['/', '.']));
    let Some((_, may)) = MODULES.iter().filter(|(name, _)| is_own(name)).max_by_key(|(name, _)| name.len()) else {
        return vec![format!("{path}: module `{module}` has no place in the map of core; give it one in xtask/src/tidy.rs")];
    };
    each_line(path, code_before_tests(text), |line| {
        line.match_indices("crate::").find_map(|(at, found)| {
            let used: String =
                line.get(at + found.len()..)?.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            let known = MODULES.iter().any(|(name, _)| *name == used);
            (known && used != module && !may.contains(&used.as_str())).then(|| format!("module `{module}` must not use `{used}`"))
        })
    })
}

/// The policy language is an affair of `core::policy` alone.
fn one_module_knows_cedar(path: &str, text: &str) -> Vec<String> {
    if !path.starts_with("crates/") || path.starts_with("crates/core/src/policy/") || path == "crates/core/src/policy.rs" {
        return Vec::new();
    }
    each_line(path, text, |line| line.contains(concat!("cedar_", "policy")).then(|| "Cedar is named in `core::policy` only".to_owned()))
}

/// A newcomer can open any file and read first what it is.
fn opens_with_a_sentence(path: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") {
        Vec::new()
    } else {
        vec![format!("{path}:1: a file opens with `//!` and a sentence that says what it is")]
    }
}

/// No mark of unfinished work. A test may be left out of a run only because another test runs it as its child.
fn finished(path: &str, text: &str) -> Vec<String> {
    let is_child = |line: &str| line.contains(concat!("#[ig", "nore = \"the other tests run it as a process of its own\"]"));
    each_line(path, text, |line| {
        let mark = UNFINISHED.iter().find(|mark| line.contains(**mark) && !is_child(line))?;
        Some(format!("`{mark}` has no place on main"))
    })
}

/// No path of the author's machine and no registry's host name.
fn no_machine(path: &str, text: &str) -> Vec<String> {
    each_line(path, text, |line| {
        MACHINE.iter().find(|name| line.contains(**name)).map(|name| format!("`{name}` means nothing on another machine"))
    })
}

/// Each row of the table of attacks names tests that exist, and each test of a file `attacks.rs` is in the table.
fn attacks_are_tested(table: &str, rust: &[&(String, String)]) -> Vec<String> {
    let tests: Vec<(&str, String)> = rust.iter().flat_map(|(path, text)| tests_of(text).map(|name| (path.as_str(), name))).collect();
    let mut broken = Vec::new();
    let mut named = Vec::new();
    for (index, line) in table.lines().enumerate() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.trim_end().strip_suffix('|')) else { continue };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if matches!(cells.first(), Some(&("attack" | "---"))) {
            continue;
        }
        let last = cells.last().copied().unwrap_or_default();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if cells.len() != 4 || names.is_empty() {
            broken.push(format!("{ATTACKS}:{}: a row is attack, source, what happens, and the names of its tests", index + 1));
        }
        for name in &names {
            if !tests.iter().any(|(_, test)| test == name) {
                broken.push(format!("{ATTACKS}:{}: there is no test `{name}`", index + 1));
            }
        }
        named.extend(names);
    }
    let is_of_attacks = |path: &str| path.ends_with("/attacks.rs") || path.contains("/attacks/");
    let unnamed = tests.iter().filter(|(path, name)| is_of_attacks(path) && !named.contains(&name.as_str()));
    broken.extend(unnamed.map(|(path, name)| format!("{path}: the test `{name}` is not in {ATTACKS}")));
    broken
}

/// The names of the tests in a file.
fn tests_of(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.contains("::test]") || line.contains("::test(");
            return None;
        }
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        let name = function.filter(|_| is_test)?.split(['(', '<']).next()?;
        is_test = false;
        Some(name.to_owned())
    })
}

/// Applies a rule to each line that is not a comment and says where it was broken.
fn each_line(path: &str, text: &str, rule: impl Fn(&str) -> Option<String>) -> Vec<String> {
    text.lines().enumerate().filter_map(|(index, line)| rule(line).map(|broken| format!("{path}:{}: {broken}", index + 1))).collect()
}

/// The code of a file without its comments and without the tests at its end. Lines keep their numbers.
fn code_before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ").map_or(text, |tests| text.get(..tests).unwrap_or(text))
}

/// Whether a line of code, leaving out its comment, has a name in it that is not a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let code = line.find("//").map_or(line, |comment| line.get(..comment).unwrap_or(line));
    let part_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word).any(|(at, found)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + found.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

/// Each crate of the workspace with those of the same workspace that it uses, its tests left aside.
fn workspace_dependencies(root: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let metadata = output(Command::new("cargo").current_dir(root).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let list = |value: &serde_json::Value, key: &str| value.get(key).and_then(|list| list.as_array()).cloned().unwrap_or_default();
    let text = |value: &serde_json::Value, key: &str| value.get(key).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
    let packages = list(&metadata, "packages");
    let names: Vec<String> = packages.iter().map(|package| text(package, "name")).collect();
    let uses = |package: &serde_json::Value| {
        let dependencies = list(package, "dependencies").into_iter().filter(|used| text(used, "kind") != "dev");
        dependencies.map(|used| text(&used, "name")).filter(|used| names.contains(used)).collect()
    };
    Ok(packages.iter().map(|package| (text(package, "name"), uses(package))).collect())
}

/// The names of all crates that end up under a package, as cargo resolves it alone.
fn dependency_tree(root: &Path, package: &str) -> Result<Vec<String>> {
    let tree = output(Command::new("cargo").current_dir(root).args([
        "tree",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
    ]))?;
    Ok(tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Every text file that git tracks or would track, with its text.
fn tracked_files(root: &Path) -> Result<Vec<(String, String)>> {
    let list = output(Command::new("git").current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let exempt = |path: &&str| !path.ends_with("Cargo.lock");
    Ok(list.lines().filter(exempt).filter_map(|path| Some((path.to_owned(), process::read(&root.join(path)).ok()?))).collect())
}

fn output(command: &mut Command) -> Result<String> {
    let done = command.output()?;
    if done.status.success() {
        Ok(String::from_utf8(done.stdout)?)
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let report = check(root).unwrap();
        assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    }

    /// Each rule, a text that breaks it, and one that does not.
    #[test]
    fn each_rule_finds_the_mistake_that_it_is_there_for() {
        type Rule = fn(&str, &str) -> Vec<String>;
        let core = "crates/core/src/judge.rs";
        let cases: &[(Rule, &str, &str, &str)] = &[
            (pure, core, "use std::fs::File;\n", "// std::fs stays outside\nlet offset: InstantOffset;\n"),
            (pure, "crates/log/src/tree.rs", "let now = SystemTime::now();\n", "fn at(now: Timestamp) {}\n"),
            (pure, core, "tokio::spawn(x);\n", "\nlet x = 1;\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n"),
            (module_directions, "crates/core/src/model/call.rs", "use crate::judge::judge;\n", "use crate::json::Json;\n"),
            (module_directions, "crates/core/src/novelty.rs", "", ""),
            (one_module_knows_cedar, core, concat!("use cedar_", "policy::Entities;\n"), "use crate::policy::Policies;\n"),
            (opens_with_a_sentence, core, "use std::fmt;\n", "//! Decides.\n"),
            (finished, core, concat!("// TO", "DO: more\n"), "// Done.\n"),
            (finished, core, concat!("#[ig", "nore]\n"), "#[test]\n"),
            (no_machine, "docs/guide.md", concat!("cd /wo", "rk/main\n"), "cd bailiwick\n"),
        ];
        for (rule, path, wrong, right) in cases {
            assert_eq!(rule(path, wrong).len(), 1, "{path}: {wrong}");
            if wrong != right {
                assert_eq!(rule(path, right), Vec::<String>::new(), "{path}: {right}");
            }
        }
        assert!(one_module_knows_cedar("crates/core/src/policy/schema.rs", concat!("use cedar_", "policy::Schema;")).is_empty());
    }

    #[test]
    fn an_attack_without_its_test_and_a_test_without_its_attack_are_found() {
        let file = |path: &str| (path.to_owned(), "#[tokio::test]\nasync fn one() {}\nfn helper() {}\n#[test]\nfn two() {}\n".to_owned());
        let (attacks, others) = (file("crates/a/tests/attacks.rs"), file("crates/a/tests/others.rs"));
        let row = |names: &str| format!("| attack | source | what happens | test |\n| --- | --- | --- | --- |\n| a | b | c | {names} |\n");
        let found = |table: &str, file| attacks_are_tested(table, &[file]).len();
        assert_eq!(found(&row("`one`, `two`"), &attacks), 0);
        assert_eq!(found(&row("`one`"), &attacks), 1, "a test that no row names");
        assert_eq!(found(&row("`one`"), &others), 0);
        assert_eq!(found(&row("`helper`"), &others), 1, "not a test");
        assert_eq!(found(&row(""), &others), 1, "a row without a test");
    }

    #[test]
    fn a_crate_that_looks_up_or_sideways_is_found() {
        let uses = |package: &str, used: &str| vec![(package.to_owned(), vec![used.to_owned()])];
        assert_eq!(crate_directions(&uses("bailiwick-log", "bailiwick-core")).len(), 1);
        assert_eq!(crate_directions(&uses("bailiwick-gateway", "bailiwick-control")).len(), 1);
        assert_eq!(crate_directions(&uses("bailiwick-novelty", "bailiwick-core")).len(), 1);
        assert!(crate_directions(&uses("bailiwick-gateway", "bailiwick-core")).is_empty());
    }

    #[test]
    fn a_runtime_deep_under_core_is_found() {
        assert_eq!(absent_from_tree("bailiwick-core", &["serde".to_owned(), "tokio".to_owned()]).len(), 1);
        assert!(absent_from_tree("bailiwick-core", &["serde".to_owned(), "tokio-free".to_owned()]).is_empty());
    }
}
