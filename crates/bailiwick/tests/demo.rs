//! The demo keeps its promises, and breaks them with each protection switched off in turn, so that it can fail.

use std::process::Command;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
    command.env("NO_COLOR", "1").args(["demo", "--json"]);
    command
}

#[test]
fn the_demo_keeps_its_promises() {
    let output = demo().output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let verdicts: Vec<&str> = told["scenes"].as_array().unwrap().iter().map(|scene| scene["verdict"].as_str().unwrap()).collect();
    assert_eq!(
        verdicts,
        ["allow", "allow", "allow", "allow", "deny", "deny", "deny", "deny", "ask", "deny", "deny", "ask", "allow", "ask"]
    );
}

#[cfg(feature = "test-switches")]
#[test]
fn with_any_one_protection_off_the_demo_fails_and_says_what_broke() {
    for protection in ["role", "policy", "flow", "pin", "proof", "grant", "revocation", "record", "tamper"] {
        let output = demo().env("BAILIWICK_TEST_OFF", protection).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(output.status.code(), Some(1), "without `{protection}`: {told}");
        assert!(!told["broken"].as_array().unwrap().is_empty(), "without `{protection}`: {told}");
    }
}
