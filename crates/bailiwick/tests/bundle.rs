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
fn rules_of_the_bundle_are_listed_and_tested_with_the_shipped_ones() {
    let (home, path) = starter();
    fs::create_dir(home.path().join("rules")).unwrap();
    let rule = "title: The vault is opened\nid: 5a4c\nlogsource: { product: bailiwick }\ndetection: { s: { kind: intent, tool: vault/open }, condition: s }\n\
                bailiwick: { examples: [{ name: opened, fires: true, events: [{ kind: intent, tool: vault/open }] }] }\n";
    fs::write(home.path().join("rules/vault.yml"), rule).unwrap();
    let listed = bailiwick(&["rules", "list", "--dir", &path], home.path());
    assert!(listed.status.success() && text(&listed).contains("The vault is opened") && text(&listed).contains("A canary is called"));
    let tested = bailiwick(&["rules", "test", "--dir", &path], home.path());
    assert!(tested.status.success(), "{}", text(&tested));
    fs::write(home.path().join("rules/vault.yml"), rule.replace("fires: true", "fires: false")).unwrap();
    let tested = bailiwick(&["rules", "test", "--dir", &path], home.path());
    assert!(!tested.status.success() && text(&tested).contains("rules/vault.yml"), "{}", text(&tested));
    fs::write(home.path().join("rules/vault.yml"), rule.replace("condition: s", "condition: x")).unwrap();
    let checked = bailiwick(&["check", "--dir", &path], home.path());
    assert!(!checked.status.success() && text(&checked).contains("names `x`") && text(&checked).contains("docs/spec/rules.md"));
}

/// The most memory that a process had, in bytes, as the kernel counts it.
fn peak_memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn a_gigabyte_on_one_line_is_read_in_memory_that_does_not_grow_with_it() {
    use std::io::Write as _;

    const BYTES: usize = 1 << 30;
    let home = tempfile::tempdir().unwrap();
    let pipe = home.path().join("trail.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
    command.args(["log", "import", "cloudtrail"]).arg(&pipe).args(["--json", "--all", "--dir"]).arg(home.path());
    let import =
        command.env_remove("BAILIWICK_DIR").stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let stop = |id: u32| {
        format!(
            r#"{{"eventVersion":"1.08","eventID":"{id}","eventTime":"2026-11-25T10:00:00Z","eventSource":"cloudtrail.amazonaws.com","eventName":"StopLogging","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::1:user/u{id}"}}"#
        )
    };
    // One line: an event, one of half a gigabyte, which is longer than any is, and then as many of three megabytes as fill the rest.
    let mut out = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let filler = vec![b'x'; 3 << 20];
    let mut sent = 0;
    let mut send = |bytes: &[u8]| {
        out.write_all(bytes).unwrap();
        sent += bytes.len();
        sent
    };
    send(format!("{{\"Records\":[{}}},{},\"padding\":\"", stop(0), stop(1)).as_bytes());
    while send(&filler) < BYTES / 2 {}
    send(b"\"}");
    let mut events = 1;
    loop {
        events += 1;
        send(format!(",{},\"padding\":\"", stop(events)).as_bytes());
        send(&filler);
        if send(b"\"}") >= BYTES {
            break;
        }
    }
    // All but the end was taken, or it would not fit into the pipe.
    let peak = peak_memory(import.id());
    send(b"]}\n");
    drop(out);
    let output = import.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["events"], events, "{}", text(&output));
    let found =
        report["findings"].as_array().unwrap().iter().filter(|finding| finding["detector"]["title"] == "CloudTrail stopped or deleted");
    assert_eq!(found.map(|finding| finding["count"].as_u64().unwrap()).sum::<u64>(), u64::from(events), "{report}");
    let wrong = report["files"][0]["wrong"].as_array().unwrap();
    assert!(wrong.len() == 1 && wrong[0].as_str().unwrap().contains("longer than any is"), "{wrong:?}");
    assert!(peak < 96 << 20, "{} MiB", peak >> 20);
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

#[test]
fn why_a_token_proves_an_agent_or_does_not_is_told_claim_by_claim_and_never_the_token() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    let (home, path) = starter();
    let key = rcgen::KeyPair::generate().unwrap();
    let point = &key.public_key_raw()[1..];
    let encode_part = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let issuers = home.path().join("issuers.toml");
    fs::write(
        &issuers,
        format!(
            "{}\nalgorithms = [\"ES256\"]\njwks = {{ keys = [{{ kty = \"EC\", crv = \"P-256\", kid = \"a\", x = \"{}\", y = \"{}\" }}] }}\n",
            fs::read_to_string(&issuers).unwrap(),
            encode_part(&point[..32]),
            encode_part(&point[32..])
        ),
    )
    .unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let token = |more: Value| {
        let mut claims = json!({
            "iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/bot:environment:production", "aud": "http://127.0.0.1:8481",
            "iat": now, "exp": now + 300, "repository": "acme/bot", "repository_id": "8842", "repository_owner_id": "17", "environment": "production",
            "actor": "a-private-thing",
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("a".to_owned());
        encode(&header, &claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
    };
    let file = home.path().join("token");
    let why = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        bailiwick(&[&["token", "why", file.to_str().unwrap(), "--bundle", &path], more].concat(), home.path())
    };
    let right = token(json!({}));
    let output = why(&right, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).starts_with("it proves the agent `support-summarizer`"), "{}", text(&output));
    for (case, token, parts) in [
        (
            "another repository",
            token(json!({ "repository_id": "8843" })),
            &["its claims are those of no agent", "no  repository_id is \"8843\", wanted \"8842\""][..],
        ),
        (
            "another environment",
            token(json!({ "environment": null })),
            &["no  environment is null, wanted \"production\"", "yes repository_id"],
        ),
        ("expired", token(json!({ "exp": now - 100 })), &["has the claims of `support-summarizer`, and is refused: it expired 1"]),
        ("for another", token(json!({ "aud": ["x", "y"] })), &["`aud` is [\"x\",\"y\"], and has to be \"http://127.0.0.1:8481\""]),
        ("a contradiction", token(json!({ "sub": "repo:evil/bot:x" })), &["no  kind", "another than in its claims"]),
        ("an unknown issuer", token(json!({ "iss": "https://x.example" })), &["no issuer `https://x.example` is declared"]),
        ("a forged one", format!("{}AAAA", &right[..right.len() - 4]), &["no  signature", "its signature is wrong; its `kid` is `a`"]),
        ("no token", "hello".to_owned(), &["it is not a compact JWS"]),
    ] {
        let output = why(&token, &[]);
        assert_eq!(output.status.code(), Some(1), "{case}");
        let shown = text(&output);
        for part in parts {
            assert!(shown.contains(part), "{case}: {part}: {shown}");
        }
        let told: Value = serde_json::from_slice(&why(&token, &["--json"]).stdout).unwrap();
        assert!(told["proves"].as_array().unwrap().is_empty() && told["verdict"].is_string(), "{case}: {told}");
        for shown in [shown, told.to_string()] {
            let secret = |part: &str| !part.is_empty() && shown.contains(part);
            assert!(!token.split('.').any(|part| part.len() > 5 && secret(part)), "{case}: the token is shown");
            assert!(!shown.contains("a-private-thing"), "{case}: a claim that nobody asks for is shown");
        }
    }
}
