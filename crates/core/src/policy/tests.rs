//! Tests of decisions by compiled policies.

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
        declared: false,
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

/// What the flow of data found is there for policy, argument by argument.
#[test]
fn a_policy_sees_who_chose_an_argument() {
    use crate::flow::{Provenance, Traced};
    let policies = acme()
        .policies(
            r#"
            @id("own-words") forbid (principal, action == Action::"pay/send", resource)
            when { context.provenance has to && !["task", "endorsed"].contains(context.provenance.to) };
            @id("purpose") forbid (principal, action in Action::"spend", resource) unless { context.ledger.declared || context.ledger.calls < 5 };
            "#,
        )
        .compile()
        .unwrap();
    let traced = |argument: &str, provenance| Traced {
        argument: argument.to_owned(),
        is_within: false,
        provenance,
        origin: None,
        may: true,
        contradicts: false,
    };
    use Provenance::*;
    for (found, calls, outcome) in [
        (vec![], 1, RulingOutcome::Permitted),
        (vec![traced("/to", Task)], 1, RulingOutcome::Permitted),
        (vec![traced("/to", Trusted)], 1, RulingOutcome::Forbidden),
        (vec![traced("/to/0", Task), traced("/to/1", Untrusted), traced("/to/2", Task)], 1, RulingOutcome::Forbidden),
        (vec![traced("/total", Untrusted)], 1, RulingOutcome::Permitted),
        (vec![], 5, RulingOutcome::Forbidden),
    ] {
        let facts = Facts { calls, traced: found, ..Facts::default() };
        let ruling = decide(&policies, "support", "pay/send", json!({ "amount": 5, "to": "x" }), &facts);
        assert_eq!(ruling.outcome, outcome, "{facts:?} {ruling:?}");
    }
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
fn mistakes_are_found_however_many_tools_there_are() {
    let number = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    let mut many = Fixture::default().agent("a", &["r"], &["s00/t0"]);
    for server in 0..12 {
        for tool in 0..10 {
            many = many.tool(&format!("s{server:02}/t{tool}"), if tool == 0 { Effect::Spend } else { Effect::Read }, number.clone());
        }
    }
    // One server alone has more tools than are checked together.
    for tool in 0..100 {
        many = many.tool(&format!("big/t{tool}"), Effect::Read, number.clone());
    }
    for (policy, mistakes) in [
        (r#"forbid (principal, action == Action::"s11/t9", resource) when { context.input has n && context.input.n > 1 };"#, 0),
        (r#"forbid (principal, action == Action::"s11/t9", resource) when { context.input.m > 1 };"#, 1),
        (r#"forbid (principal, action in Action::"big/*", resource) when { context.input has n && context.input.n > 1 };"#, 0),
        (r#"forbid (principal, action in Action::"big/*", resource) when { context.input.n > 1 };"#, 1),
        (r#"forbid (principal, action in [Action::"s00/*", Action::"s11/t1"], resource) when { context.input.n > 1 };"#, 1),
        (r#"forbid (principal, action in [Action::"s00/*", Action::"s11/t1"], resource) unless { context.chain.depth > 1 };"#, 0),
        (r#"forbid (principal, action in Action::"s03/*", resource) when { action == Action::"s03/t3" };"#, 0),
        (r#"forbid (principal, action in Action::"s03/*", resource) when { action in Action::"spend" };"#, 0),
        (r#"forbid (principal, action in Action::"s03/*", resource) when { action == Action::"big/t3" };"#, 1),
        (r#"forbid (principal, action in Action::"s03/*", resource) when { action == Action::"s03/none" };"#, 1),
        (r#"forbid (principal, action == Action::"s03/t3", resource) when { context.input has n && context.input.n == "x" };"#, 1),
        (r#"forbid (principal, action in Action::"spend", resource) when { context.input.n > 1 };"#, 1),
        (r#"forbid (principal, action, resource) when { context has n };"#, 1),
    ] {
        let declared = Declared { agents: &many.agents, servers: &many.servers, histories: &many.histories };
        let found = Policies::compile(&declared, &[Source { path: "policies/x.cedar", text: policy }]).err().unwrap_or_default();
        assert_eq!(found.len(), mistakes, "{policy}\n{found:#?}");
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

#[test]
fn a_list_shows_what_some_call_might_do() {
    let policies = acme()
        .agent("clerk", &["clerk"], &["crm/*", "pay/*", "docs/*"])
        .budget("clerk", 5)
        .policies(
            r#"
            @id("no-admin") forbid (principal, action in Action::"admin", resource) unless { principal in Role::"operator" };
            @id("ask") @otherwise("ask") forbid (principal, action == Action::"pay/send", resource);
            @id("small") forbid (principal, action == Action::"crm/query", resource) when { context.input.limit > 5 };
            @id("public") forbid (principal in Role::"clerk", action in Action::"docs/*", resource)
            unless { resource.name like "docs/resource:file:///public/*" };
            "#,
        )
        .compile()
        .unwrap();
    for (agent, tool, shown) in [
        ("clerk", "crm/query", true),
        ("clerk", "crm/drop", false),
        ("clerk", "pay/send", true),
        ("clerk", "docs/resource:file:///public/a", true),
        ("clerk", "docs/resource:file:///private/a", false),
        ("clerk", "crm/none", false),
        ("boss", "crm/drop", true),
        ("boss", "pay/send", false),
        ("nobody", "crm/query", false),
    ] {
        assert_eq!(policies.may_ever(&agent.parse().unwrap(), &tool.parse().unwrap()), shown, "{agent} {tool}");
    }
}

mod index {
    //! The index changes nothing but the time: the whole set and the slice give the same answer, errors included.

    use cedar_policy::{Authorizer, Entities, Policy, Request};
    use proptest::prelude::*;

    use super::super::slice::Kind;
    use super::*;
    use crate::ledger::Labels;

    const AGENTS: [&str; 3] = ["a", "b", "c"];
    const TOOLS: [&str; 4] = ["s/x", "s/y", "t/x", "t/resource:file:///p/*"];

    fn policy() -> impl Strategy<Value = String> {
        let principals = vec![
            "principal",
            r#"principal == Agent::"a""#,
            r#"principal == Agent::"b""#,
            r#"principal in Role::"r""#,
            r#"principal in Role::"q""#,
            "principal is Agent",
            r#"principal is Agent in Role::"r""#,
            r#"principal in Agent::"c""#,
        ];
        let actions = vec![
            "action",
            r#"action == Action::"s/x""#,
            r#"action == Action::"t/resource:file:///p/*""#,
            r#"action in Action::"s/*""#,
            r#"action in [Action::"s/y", Action::"spend"]"#,
            r#"action in Action::"call""#,
            r#"action in Action::"read""#,
        ];
        let resources = vec![
            "resource",
            r#"resource == Tool::"s/x""#,
            r#"resource == Tool::"t/resource:file:///p/1""#,
            r#"resource in Server::"t""#,
            r#"resource in Tool::"s/y""#,
            "resource is Tool",
            r#"resource is Tool in Server::"s""#,
        ];
        // Some fail for some calls: they overflow, read what is not there, or make a decimal of too many places.
        let conditions = vec![
            "",
            "when { context.ledger.calls > 5 }",
            "unless { resource.effect == \"spend\" }",
            "when { context.input has n && context.input.n + 1 > 7 }",
            "when { context.input.m == 1 }",
            r#"when { context.provenance has n && context.provenance.n == "untrusted" }"#,
            r#"unless { context.ledger.declared || context.provenance == {} }"#,
            r#"when { principal in [Role::"q", Agent::"c"] && resource is Tool in Server::"t" }"#,
            r#"unless { action in [Action::"read", Action::"s/y"] || context.task like "*x" }"#,
            r#"when { resource in Server::"s" } unless { context has task && context.task == "x" }"#,
            r#"when { if context.chain.depth > 0 then context.chain.roles.contains(Role::"x") else context.now > datetime("2026-01-01") }"#,
            r#"when { context.history.none > 1 }"#,
            r#"unless { context.behavior.score.lessThan(decimal("3.0")) && context.behavior.band != "strange" }"#,
            r#"when { context.suspect }"#,
            r#"when { principal.name == "a" && decimal("1.23456").lessThan(decimal("2.0")) }"#,
            r#"when { context.ledger has none || context.unseen.isEmpty() } unless { context.subject == "user:ana" }"#,
        ];
        let pick = |of: Vec<&'static str>| prop::sample::select(of);
        (any::<bool>(), pick(principals), pick(actions), pick(resources), pick(conditions))
            .prop_map(|(permit, p, a, r, c)| format!("{} ({p}, {a}, {r}) {c};", if permit { "permit" } else { "forbid" }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn answers_as_the_whole_set(
            texts in prop::collection::vec(policy(), 0..12),
            further in policy(),
            calls in prop::collection::vec((0..3_usize, 0..4_usize, prop::sample::select(vec![0, 5, i64::MAX]), 0..9_u64), 1..12),
        ) {
            let number = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
            let fixture = Fixture::default()
                .agent("a", &["r"], &["s/x"])
                .agent("b", &["r", "q"], &["s/*", "t/resource:file:///p/*"])
                .agent("c", &[], &[])
                .tool("s/x", Effect::Read, number.clone())
                .tool("s/y", Effect::Spend, number.clone())
                .tool("t/x", Effect::Write, number)
                .unpinned("t/resource:file:///p/*", Effect::Read);
            let (mut policies, mut forbidding) = (fixture.compile().unwrap(), fixture.compile().unwrap());
            // Put in without validation, which would refuse the ones that fail.
            for (index, text) in texts.iter().enumerate() {
                let policy = Policy::parse(Some(cedar_policy::PolicyId::new(index.to_string())), text).unwrap();
                let kind = if text.starts_with("permit") { Kind::Permit } else { Kind::Forbid };
                forbidding.index.add(kind, policy.clone());
                policies.index.add(kind, policy);
            }
            let further = Policy::parse(Some(cedar_policy::PolicyId::new("further")), further.replacen("permit", "forbid", 1)).unwrap();
            forbidding.index.add(Kind::Forbid, further);
            let all = cedar_policy::PolicySet::from_policies(policies.index.all().cloned()).unwrap();
            for (agent, tool, n, calls) in calls {
                let name = TOOLS[tool].replace('*', "1");
                let arguments = if name.contains(':') { json!({}) } else { json!({ "n": n }) };
                let facts = Facts { calls, labels: Labels::default(), ..Facts::default() };
                let ruling = decide(&policies, AGENTS[agent], &name, arguments.clone(), &facts);

                let (agent, tool): (AgentName, ToolName) = (AGENTS[agent].parse().unwrap(), name.parse().unwrap());
                let question = Question {
                    agent: &agent, subject: Some("user:ana"), task: None, chain: &[], tool: &tool,
                    arguments: &arguments, declared: false, facts: &facts, now: NOW.parse().unwrap(),
                };
                let entry = &policies.tools[policies.number(&tool).unwrap()];
                let context = context(entry, &question, &Read::all()).unwrap();
                let (principal, action, resource) =
                    (uid("Agent", agent.as_str()).unwrap(), uid("Action", &entry.action).unwrap(), uid("Tool", &name).unwrap());
                // The request also fits the schema, which is not checked again when a call is judged.
                let request = Request::new(principal, action, resource, context, Some(&policies.schema)).unwrap();
                let (slice, _) = policies.slice(&agent, &tool).unwrap();
                let entities = Entities::from_entities(slice.entities_of(&tool), Some(&policies.schema)).unwrap();
                let response = Authorizer::new().is_authorized(&request, &all, &entities);

                let mut reasons: Vec<_> = response.diagnostics().reason().map(ToString::to_string).collect();
                let mut errors: Vec<_> = response.diagnostics().errors().map(ToString::to_string).collect();
                reasons.sort_unstable();
                errors.sort_unstable();
                prop_assert_eq!(&ruling.policies, &reasons);
                prop_assert_eq!(&ruling.errors, &errors);
                let allowed = response.decision() == cedar_policy::Decision::Allow && errors.is_empty();
                prop_assert_eq!(ruling.outcome == RulingOutcome::Permitted, allowed, "{:?}", ruling);
                prop_assert_eq!(ruling.outcome == RulingOutcome::Failed, !errors.is_empty());
                // One more `forbid`, whatever it says, never lets through what was not.
                let narrower = forbidding.decide(&question);
                prop_assert!(allowed || narrower.outcome != RulingOutcome::Permitted);
                // What is allowed is also listed.
                prop_assert!(!allowed || policies.may_ever(&agent, &tool));
            }
        }
    }
}
