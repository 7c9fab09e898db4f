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

/// Compiles one policy file over [`acme`] and shows each problem as `text|message|help`.
fn problems(text: &str) -> Vec<String> {
    let problems = acme().policies(text).compile().err().unwrap_or_default();
    let show = |problem: &PolicyProblem| {
        assert_eq!(problem.path, "policies/test.cedar");
        format!("{}|{}|{}", &text[problem.span.clone()], problem.message, problem.help.as_deref().unwrap_or(""))
    };
    problems.iter().map(show).collect()
}

#[test]
fn every_mistake_has_its_place_and_mend() {
    for (text, expected) in [
        ("permit (principal, action, resource) when { true", "|unexpected end of input|expected `!=`"),
        (
            r#"forbid (principal, action == Action::"crm/query", resource) when { context.input.limt > 5 };"#,
            r#"context.input.limt|attribute `input.limt` in context for Action::"crm/query" not found|did you mean `limit`?"#,
        ),
        (
            r#"forbid (principal, action == Action::"crm/query", resource) when { context.input.who == "x" };"#,
            "context.input.who|unable to guarantee safety of access to optional attribute `input.who`",
        ),
        (
            r#"forbid (principal, action == Action::"crm/query", resource) when { context.input.limit == "x" };"#,
            r#"context.input.limit == "x"|the types Long and String are not compatible|both operands"#,
        ),
        ("forbid (principal, action, resource) when { context.ledgr.calls > 5 };", "context.ledgr.calls|attribute `ledgr` in context"),
        (r#"forbid (principal == Agent::"suport", action, resource);"#, r#""suport"|there is no agent `suport`|did you mean `support`?"#),
        (r#"forbid (principal in Role::"raeder", action, resource);"#, r#""raeder"|no agent has the role `raeder`|did you mean `reader`?"#),
        (r#"forbid (principal, action == Action::"crm/qery", resource);"#, r#"Action::"crm/qery"|unrecognized action"#),
        (
            r#"forbid (principal, action, resource == Tool::"crm/qury");"#,
            r#""crm/qury"|there is no tool `crm/qury`|did you mean `crm/query`?"#,
        ),
        (r#"forbid (principal, action, resource in Server::"cmr");"#, r#""cmr"|there is no server `cmr`|did you mean `crm`?"#),
        ("forbid (principal is User, action, resource);", "User|unrecognized entity type `User`|"),
        (r#"@otherwise("aks") forbid (principal, action, resource);"#, "@otherwise|`@otherwise` says neither `ask` nor `deny`|"),
        (
            r#"@otherwhise("ask") forbid (principal, action, resource);"#,
            "@otherwhise|there is no annotation `@otherwhise`|did you mean `@otherwise`?",
        ),
        (r#"@otherwise("ask") permit (principal, action, resource);"#, "@otherwise|`@otherwise` on a `permit` has no meaning|"),
        (r#"@id("agent:x") permit (principal, action, resource);"#, "@id|an `@id` that begins with `agent:` is kept"),
        (
            r#"@id("a") forbid (principal, action, resource); @id("a") forbid (principal, action, resource);"#,
            "@id|another policy has the id `a`|give each policy its own",
        ),
        (
            "permit (principal == ?principal, action, resource);",
            "permit (principal == ?principal, action, resource);|templates are not used here|",
        ),
        (
            "permit (principal, action, resource) when { context.input has amuont && context.input.amuont > 5 };",
            "permit (principal, action, resource) when { context.input has amuont && context.input.amuont > 5 };|policy is impossible",
        ),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\n{found:#?}");
        assert!(!found[0].ends_with('|'), "no mend: {found:#?}");
    }
}

#[test]
fn what_is_no_mistake() {
    for text in [
        // A role and an effect that nothing has yet.
        r#"forbid (principal in Role::"nobody-yet", action, resource);"#,
        r#"forbid (principal, action in Action::"write", resource);"#,
        r#"permit (principal, action, resource == Tool::"docs/resource:file:///x");"#,
        r#"@id("a") @description("why") @otherwise("ask") forbid (principal, action, resource in Server::"docs");"#,
        "",
    ] {
        assert!(problems(text).is_empty(), "{text}\n{:#?}", problems(text));
    }
}

#[test]
fn all_mistakes_of_all_files_are_found_in_one_run() {
    let acme = acme();
    let declared = Declared { agents: &acme.agents, servers: &acme.servers, histories: &acme.histories };
    let sources = [
        Source { path: "policies/a.cedar", text: "permit (principal, action, resource) when { 1 + };" },
        Source {
            path: "policies/b.cedar",
            text: "forbid (principal == Agent::\"x\", action, resource);\n@od(\"1\") forbid (principal is User, action, resource);",
        },
    ];
    let problems = Policies::compile(&declared, &sources).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| (problem.path.as_str(), problem.span.start)).collect();
    assert_eq!(
        places,
        [("policies/a.cedar", 48), ("policies/b.cedar", 28), ("policies/b.cedar", 52), ("policies/b.cedar", 82)],
        "{problems:#?}"
    );
}
