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
    let scenes = told["scenes"].as_array().unwrap().iter();
    let scenes: Vec<[&str; 3]> = scenes.map(|scene| ["agent", "tool", "code"].map(|member| scene[member].as_str().unwrap())).collect();
    let (first, second): (Vec<_>, Vec<_>) = scenes.into_iter().partition(|[agent, ..]| *agent == "support-summarizer");
    let first: Vec<&str> = first.into_iter().map(|[_, _, code]| code).collect();
    assert_eq!(first[..4], ["allowed"; 4]);
    assert_eq!(first[4..10], ["not_in_role", "forbidden", "not_in_role", "outside_grant", "approval_required", "tool_changed"]);
    assert_eq!(first[10..14], ["approval_refused", "approval_required", "allowed", "approval_required"]);
    assert_eq!(first[14..], ["allowed", "not_in_role", "approval_required", "quarantined", "allowed"]);
    assert_eq!(
        second,
        [
            ["front-desk", "tickets/list", "allowed"],
            ["front-desk", "back-office/message", "allowed"],
            ["back-office", "crm/query_complaints", "allowed"],
            ["back-office", "analytics/sentiment", "allowed"],
            ["back-office", "reports/create", "allowed"],
            // What the ticket says, through the one to the other.
            ["front-desk", "back-office/message", "allowed"],
            ["back-office", "crm/customer_record", "forbidden"],
            ["back-office", "analytics/export", "beyond_delegation"],
            ["back-office", "crm/close_complaint", "beyond_delegation"],
            ["back-office", "reports/publish", "approval_required"],
            ["front-desk", "payroll/message", "undeclared_interaction"],
        ]
    );
}

#[cfg(feature = "test-switches")]
#[test]
fn with_any_one_protection_off_the_demo_fails_and_says_what_broke() {
    let of_the_first = ["role", "policy", "flow", "pin", "proof", "grant", "revocation", "record", "tamper"];
    let of_the_second = ["chain", "narrow", "declared", "subtree"];
    let of_the_third = ["respond", "release"];
    for protection in of_the_first.into_iter().chain(of_the_second).chain(of_the_third) {
        let output = demo().env("BAILIWICK_TEST_OFF", protection).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(output.status.code(), Some(1), "without `{protection}`: {told}");
        assert!(!told["broken"].as_array().unwrap().is_empty(), "without `{protection}`: {told}");
    }
}
