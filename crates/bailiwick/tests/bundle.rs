//! The commands about bundles, as a person runs them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bailiwick(arguments: &[&str], home: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
    command.args(arguments).env("XDG_CONFIG_HOME", home.join("config")).env_remove("BAILIWICK_DIR");
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap() + &String::from_utf8(output.stderr.clone()).unwrap()
}

/// A copy of the starter bundle.
fn starter() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/starter");
    for folder in ["", "agents", "servers", "policies", "tests"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), dir.path().join(folder).join(entry.file_name())).unwrap();
        }
    }
    let path = dir.path().to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn a_whole_bundle_checks_and_decides_as_it_expects() {
    let (home, path) = starter();
    for command in ["check", "test"] {
        let output = bailiwick(&[command, &path], home.path());
        assert!(output.status.success(), "{}", text(&output));
        assert!(bailiwick(&[command, "--dir", &path], home.path()).status.success());
    }
    assert!(text(&bailiwick(&["policy", "show", &path], home.path())).contains("permit (principal == Agent::\"support-summarizer\""));
    assert!(text(&bailiwick(&["policy", "show", "--schema", &path], home.path())).contains("action"));
}

#[test]
fn a_mistake_fails_the_check_and_is_shown_with_its_place_and_mend() {
    let (home, path) = starter();
    let agent = home.path().join("agents/support-summarizer.toml");
    fs::write(&agent, fs::read_to_string(&agent).unwrap().replace("purpose", "pupose")).unwrap();
    let output = bailiwick(&["check", &path], home.path());
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output);
    for part in ["unknown key `pupose`", "agents/support-summarizer.toml:", "did you mean `purpose`?", "1 error, 0 warnings"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colours where no terminal is");
    let told: Value = serde_json::from_slice(&bailiwick(&["check", "--json", &path], home.path()).stdout).unwrap();
    assert_eq!((&told["errors"], &told["problems"][0]["mend"]), (&1.into(), &"did you mean `purpose`?".into()));
    assert_eq!(bailiwick(&["test", &path], home.path()).status.code(), Some(1));
}

#[test]
fn warnings_fail_only_where_they_are_denied() {
    let (home, path) = starter();
    fs::remove_file(home.path().join("servers/crm.tools.json")).unwrap();
    fs::remove_dir_all(home.path().join("policies")).unwrap();
    let output = bailiwick(&["check", &path], home.path());
    assert!(output.status.success() && text(&output).contains("held back"), "{}", text(&output));
    assert_eq!(bailiwick(&["check", "--deny-warnings", &path], home.path()).status.code(), Some(1));
}

#[test]
fn an_expectation_that_is_not_met_fails_and_shows_the_four_answers() {
    let (home, path) = starter();
    let tests = home.path().join("tests/who-may-what.toml");
    fs::write(&tests, fs::read_to_string(&tests).unwrap().replacen("decision = \"allow\"", "decision = \"ask\"", 1)).unwrap();
    let output = bailiwick(&["test", &path], home.path());
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output);
    for part in ["FAIL", "expected ask, got allow", "reasonable now?", "matches the role?", "legitimate chain?", "as usual?", "1 of "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_first_bundle_is_written_once_and_keeps_secrets_out() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = tempfile::tempdir().unwrap();
    let from = home.path().join("mcp.json");
    let answers = r#"read -r l; echo '{"id":1,"error":{}}'; read -r l; echo '{"id":2,"result":{}}'; read -r l; read -r l;
        echo '{"id":3,"result":{"tools":[{"name":"list","inputSchema":{"type":"object"}},{"name":"drop","inputSchema":{"type":"object"}}]}}'"#;
    let server = serde_json::json!({ "command": "sh", "args": ["-c", answers], "env": { "API_KEY": "sk-live-3f9a1c5b7d2e4f60" } });
    fs::write(&from, serde_json::json!({ "mcpServers": { "shell": server } }).to_string()).unwrap();
    let bundle = home.path().join("bundle");
    let arguments = ["init", "--from", from.to_str().unwrap(), "--out", bundle.to_str().unwrap()];
    let output = bailiwick(&arguments, home.path());
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("`API_KEY`") && !text(&output).contains("sk-live"), "{}", text(&output));

    let secret = bundle.join("secrets/shell.API_KEY");
    let key = home.path().join("config/bailiwick/agents/first-agent.pem");
    for private in [&secret, &key] {
        assert_eq!(fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600, "{}", private.display());
    }
    let agent = fs::read_to_string(bundle.join("agents/first-agent.toml")).unwrap();
    assert!(agent.contains("\"shell/list\"") && !agent.contains("\"shell/drop\""), "{agent}");
    for command in ["check", "test"] {
        let output = bailiwick(&[command, bundle.to_str().unwrap()], home.path());
        assert!(output.status.success(), "{}", text(&output));
    }
    let again = bailiwick(&arguments, home.path());
    assert!(!again.status.success() && text(&again).contains("holds a bundle already"));
}

#[test]
fn every_schema_can_be_printed() {
    let home = tempfile::tempdir().unwrap();
    for file in ["bailiwick", "issuers.toml", "agents/x.toml", "server", "tests"] {
        let schema: Value = serde_json::from_slice(&bailiwick(&["schema", file], home.path()).stdout).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{file}");
    }
}
