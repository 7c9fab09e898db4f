use serde_json::{Value, json};

use super::fixture::Fixture;
use super::*;
use crate::model::Effect;

const NOW: &str = "2026-11-25T10:00:00Z";

fn decide(policies: &Policies, agent: &str, tool: &str, arguments: Value, facts: &Facts) -> Ruling {
    policies.decide(&Question {
        agent: &agent.parse().unwrap(),
        subject: Some("user:ana"),
        task: None,
        chain: &[],
        tool: &tool.parse().unwrap(),
        arguments: &arguments,
        facts,
        now: NOW.parse().unwrap(),
    })
}

fn acme() -> Fixture {
    let object = |properties: Value, required: &[&str]| json!({ "type": "object", "properties": properties, "required": required });
    Fixture::default()
        .agent("support", &["reader"], &["crm/query", "docs/resource:file:///public/*", "pay/*"])
        .agent("boss", &["operator"], &["crm/*"])
        .tool("crm/query", Effect::Read, object(json!({ "limit": { "type": "integer" }, "who": { "type": "string" } }), &["limit"]))
        .tool("crm/drop", Effect::Admin, object(json!({}), &[]))
        .tool("pay/send", Effect::Spend, object(json!({ "amount": { "type": "number" }, "to": { "type": "string" } }), &["amount"]))
        .unpinned("docs/resource:file:///*", Effect::Read)
}

#[test]
fn who_may_what() {
    use RulingOutcome::*;
    let policies = acme()
        .budget("support", 10)
        .policies(
            r#"
            @id("large") @otherwise("ask")
            forbid (principal, action == Action::"pay/send", resource) when { context.input.amount.greaterThan(decimal("100.0")) };
            @id("huge")
            forbid (principal, action == Action::"pay/send", resource) when { context.input.amount.greaterThan(decimal("1000.0")) };
            @id("no-admin")
            forbid (principal, action in Action::"admin", resource) unless { principal in Role::"operator" };
            @id("overflow")
            forbid (principal, action == Action::"crm/query", resource) when { context.input.limit + 1 > 1000 };
            "#,
        )
        .compile()
        .unwrap();
    let overflow = i64::MAX;
    let calls = |calls| Facts { calls, ..Facts::default() };
    for (agent, tool, arguments, facts, outcome) in [
        ("support", "crm/query", json!({ "limit": 5 }), calls(1), Permitted),
        ("support", "crm/query", json!({ "limit": 5.0, "who": "x" }), calls(1), Permitted),
        ("support", "crm/query", json!({ "limit": 1000 }), calls(1), Forbidden),
        ("support", "crm/query", json!({ "limit": overflow }), calls(1), Failed),
        ("support", "crm/query", json!({}), calls(1), InvalidArguments),
        ("support", "crm/query", json!({ "limit": "5" }), calls(1), InvalidArguments),
        ("support", "crm/query", json!({ "limit": 5, "hidden": 1 }), calls(1), InvalidArguments),
        ("support", "crm/query", json!({ "limit": 5 }), calls(10), Permitted),
        ("support", "crm/query", json!({ "limit": 5 }), calls(11), BudgetSpent),
        ("support", "crm/query", json!({ "limit": 1000 }), calls(11), Forbidden),
        ("support", "crm/drop", json!({}), calls(1), NotPermitted),
        ("support", "crm/drop", json!({ "hidden": 1 }), calls(1), NotPermitted),
        ("support", "crm/none", json!({}), calls(1), NotPermitted),
        ("nobody", "crm/query", json!({ "limit": 5 }), calls(1), NotPermitted),
        ("boss", "crm/query", json!({ "limit": 5 }), calls(11), Permitted),
        ("boss", "crm/drop", json!({}), calls(1), Permitted),
        ("boss", "pay/send", json!({ "amount": 1 }), calls(1), NotPermitted),
        ("boss", "pay/send", json!({ "amount": 2000 }), calls(1), NotPermitted),
        ("support", "pay/send", json!({ "amount": 100 }), calls(1), Permitted),
        ("support", "pay/send", json!({ "amount": 100.00001 }), calls(1), Asked),
        ("support", "pay/send", json!({ "amount": 1001 }), calls(1), Forbidden),
        ("support", "pay/send", json!({ "amount": 1e300 }), calls(1), InvalidArguments),
        ("support", "docs/resource:file:///public/a", json!({}), calls(1), Permitted),
        ("support", "docs/resource:file:///public/a", json!({ "uri": "file:///public/a" }), calls(1), Permitted),
        ("support", "docs/resource:file:///private/a", json!({}), calls(1), NotPermitted),
        ("support", "docs/resource:http://x", json!({}), calls(1), NotPermitted),
    ] {
        let ruling = decide(&policies, agent, tool, arguments.clone(), &facts);
        assert_eq!(ruling.outcome, outcome, "{agent} {tool} {arguments} {ruling:?}");
        assert_eq!(ruling.errors.is_empty(), !matches!(outcome, Failed | InvalidArguments), "{ruling:?}");
    }
    let ruling = decide(&policies, "support", "crm/query", json!({ "limit": 5 }), &calls(1));
    assert_eq!(ruling.policies, ["agent:support/may:crm/query"]);
}
