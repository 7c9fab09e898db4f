//! Tests of grants: what may be asked for, and that it only narrows.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::fixture::Fixture;

fn grant(items: Value) -> Grant {
    Grant::parse(items).unwrap()
}

fn admits(grant: &Grant, tool: &str, effect: Effect, arguments: &Value) -> bool {
    let tool = tool.parse().unwrap();
    let admits = matches!(grant.admits(&tool, effect, arguments, |_| 0), Admission::Item(_) | Admission::Unrestricted);
    assert!(!admits || grant.may_ever(&tool, effect), "what a list hides is admitted: {tool}");
    admits
}

#[test]
fn a_list_shows_what_some_arguments_would_be_admitted_for() {
    let grant = grant(json!([{ "type": "tool_call", "identifier": "pay/send", "effects": ["spend"],
        "constraints": { "arguments": { "amount": { "max": 5 } } } }]));
    for (tool, effect, shown) in
        [("pay/send", Effect::Spend, true), ("pay/send", Effect::Admin, false), ("pay/refund", Effect::Spend, false)]
    {
        assert_eq!(grant.may_ever(&tool.parse().unwrap(), effect), shown, "{tool}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let item = |more: Value| {
        let mut item = json!({ "type": "tool_call", "identifier": "pay/send" });
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([item])
    };
    for details in [
        json!([]),
        json!({}),
        json!("x"),
        json!([{ "type": "payment" }]),
        json!([{ "type": "tool_call" }]),
        json!([{ "type": "tool_call", "identifier": "*" }]),
        json!([{ "type": "tool_call", "identifier": "pay" }]),
        item(json!({ "until": 5 })),
        item(json!({ "actions": ["read"] })),
        item(json!({ "effects": [] })),
        item(json!({ "effects": ["fly"] })),
        item(json!({ "max_uses": 0 })),
        item(json!({ "max_uses": -1 })),
        item(json!({ "item": 3 })),
        item(json!({ "constraints": { "result": {} } })),
        item(json!({ "constraints": { "arguments": { "amount": {} } } })),
        item(json!({ "constraints": { "arguments": { "amount": { "maximum": 5 } } } })),
        item(json!({ "constraints": { "arguments": { "amount": { "max": "5" } } } })),
        item(json!({ "constraints": { "arguments": { "amount": { "max": 5 }, "/amount": { "max": 6 } } } })),
    ] {
        assert!(Grant::parse(details.clone()).is_err(), "{details}");
    }
    for details in [
        item(json!({})),
        item(json!({ "locations": ["https://gw.example/mcp"], "actions": ["call"], "effects": ["spend"], "max_uses": 1 })),
        item(json!({ "constraints": { "arguments": { "amount": { "max": 500 }, "/to/0": { "one_of": ["a"] } } } })),
    ] {
        assert_eq!(serde_json::to_value(grant(details.clone())).unwrap(), details, "what is granted reads as what was asked");
    }
}

#[test]
fn what_an_item_admits() {
    let with = |constraint: Value| {
        grant(json!([{ "type": "tool_call", "identifier": "pay/*", "constraints": { "arguments": { "a": constraint } } }]))
    };
    for (constraint, value, admitted) in [
        (json!({ "max": 500 }), json!(500), true),
        (json!({ "max": 500 }), json!(500.0), true),
        (json!({ "max": 500 }), json!(500.000_001), false),
        (json!({ "max": 500 }), json!("1"), false),
        (json!({ "max": 500 }), json!(null), false),
        (json!({ "max": 9_007_199_254_740_992.0 }), json!(9_007_199_254_740_993_u64), false),
        (json!({ "min": 0, "max": 5 }), json!(-1), false),
        (json!({ "equals": 5 }), json!(5.0), true),
        (json!({ "equals": [1, { "x": 2 }] }), json!([1.0, { "x": 2.0 }]), true),
        (json!({ "equals": "a" }), json!("A"), false),
        (json!({ "one_of": ["a", "b"] }), json!("b"), true),
        (json!({ "one_of": ["a", "b"] }), json!(["a", "b"]), false),
        (json!({ "prefix": "/public/" }), json!("/public/a"), true),
        (json!({ "prefix": "/public/" }), json!("/private/a"), false),
        (json!({ "prefix": "/public/" }), json!("/public/../private/a"), false),
        (json!({ "prefix": "/public/" }), json!("/public/%2E%2e/private/a"), false),
    ] {
        assert_eq!(admits(&with(constraint.clone()), "pay/send", Effect::Spend, &json!({ "a": value })), admitted, "{constraint} {value}");
    }
    assert!(!admits(&with(json!({ "max": 5 })), "pay/send", Effect::Spend, &json!({})), "a missing argument is not within a bound");
    let reads = grant(json!([{ "type": "tool_call", "identifier": "crm/*", "effects": ["read"] }]));
    assert!(admits(&reads, "crm/query", Effect::Read, &json!({})));
    assert!(!admits(&reads, "crm/drop", Effect::Admin, &json!({})));
    assert!(!admits(&reads, "pay/send", Effect::Read, &json!({})));
}

#[test]
fn uses_are_counted_through_a_narrowing() {
    let first = grant(json!([
        { "type": "tool_call", "identifier": "crm/query", "max_uses": 1 },
        { "type": "tool_call", "identifier": "pay/send", "max_uses": 2 },
    ]));
    let pay: ToolName = "pay/send".parse().unwrap();
    let spent = |item: usize| if item == 1 { 2 } else { 0 };
    assert_eq!(first.admits(&pay, Effect::Spend, &json!({}), spent), Admission::Spent);
    let narrower = first.narrow(&grant(json!([{ "type": "tool_call", "identifier": "pay/send", "max_uses": 9 }]))).unwrap();
    assert_eq!(narrower.admits(&pay, Effect::Spend, &json!({}), spent), Admission::Spent);
    assert_eq!(narrower.admits(&pay, Effect::Spend, &json!({}), |_| 1), Admission::Item(1));
    let read_back: Grant = serde_json::from_value(serde_json::to_value(&narrower).unwrap()).unwrap();
    assert_eq!(read_back, narrower);
    assert!(first.narrow(&grant(json!([{ "type": "tool_call", "identifier": "docs/x" }]))).is_err(), "nothing left is not everything");
}

#[test]
fn a_grant_that_widens_is_refused() {
    let fixture = Fixture::default()
        .tool("crm/query", Effect::Read, json!({}))
        .tool("crm/drop", Effect::Admin, json!({}))
        .tool("pay/send", Effect::Spend, json!({}))
        .unpinned("docs/resource:file:///*", Effect::Read);
    let call: Vec<ToolPattern> =
        ["crm/query", "crm/drop", "docs/resource:file:///public/*"].iter().map(|text| text.parse().unwrap()).collect();
    for (identifier, within) in [
        ("crm/query", true),
        ("crm/*", true),
        ("crm/other", false),
        ("pay/send", false),
        ("pay/*", false),
        ("docs/*", false),
        ("docs/resource:file:///public/a", true),
        ("docs/resource:file:///public/a/*", true),
        ("docs/resource:file:///*", false),
        ("none/*", false),
    ] {
        let grant = grant(json!([{ "type": "tool_call", "identifier": identifier }]));
        assert_eq!(grant.is_within(&call, &fixture.servers).is_ok(), within, "{identifier}");
    }
    assert!(grant(json!([{ "type": "tool_call", "identifier": "crm/*" }])).is_within(&call[..1], &fixture.servers).is_err());
}

#[test]
fn a_location_is_an_audience_that_serves_the_tool() {
    let at = |location: &str| grant(json!([{ "type": "tool_call", "identifier": "crm/query", "locations": [location] }]));
    let audiences = ["https://gw.example/mcp", "https://gw.example/mcp/crm", "https://gw.example/mcp/pay"];
    for (location, fits) in [(audiences[0], true), (audiences[1], true), (audiences[2], false), ("https://evil.example/mcp", false)] {
        assert_eq!(at(location).is_for(&audiences).is_ok(), fits, "{location}");
    }
}

fn constraint() -> impl Strategy<Value = Value> {
    let values = prop::sample::select(vec![json!(1), json!(2), json!(2.5), json!("/a"), json!("/a/b")]);
    prop_oneof![
        (0..4i64).prop_map(|max| json!({ "max": max })),
        (0..4i64).prop_map(|min| json!({ "min": min, "max": 3 })),
        values.clone().prop_map(|value| json!({ "equals": value })),
        prop::collection::vec(values, 1..4).prop_map(|values| json!({ "one_of": values })),
        prop::sample::select(vec!["/a", "/a/b", "/c"]).prop_map(|prefix| json!({ "prefix": prefix })),
    ]
}

fn some_grant() -> impl Strategy<Value = Grant> {
    let identifiers = vec!["s/a", "s/b", "s/*", "t/a", "t/resource:x*", "t/resource:xy*", "t/*"];
    let effects = prop::option::of(prop::sample::subsequence(vec!["read", "write"], 1..=2));
    let constraints = prop::collection::btree_map(prop::sample::select(vec!["x", "/y"]), constraint(), 0..2);
    let item = (prop::sample::select(identifiers), effects, constraints).prop_map(|(identifier, effects, constraints)| {
        let mut item = json!({ "type": "tool_call", "identifier": identifier, "constraints": { "arguments": constraints } });
        if let Some(effects) = effects {
            item["effects"] = json!(effects);
        }
        item
    });
    prop::collection::vec(item, 1..4).prop_map(|items| grant(json!(items)))
}

fn some_call() -> impl Strategy<Value = (&'static str, Effect, Value)> {
    let values = prop::sample::select(vec![json!(0), json!(1), json!(2.0), json!(2.5), json!("/a"), json!("/a/b/c"), json!(null)]);
    let tools = prop::sample::select(vec!["s/a", "s/b", "t/a", "t/resource:x", "t/resource:xyz"]);
    let effects = prop::sample::select(vec![Effect::Read, Effect::Write]);
    (tools, effects, prop::collection::btree_map(prop::sample::select(vec!["x", "y"]), values, 0..3))
        .prop_map(|(tool, effect, arguments)| (tool, effect, json!(arguments)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_narrowed_grant_admits_exactly_what_both_admit(a in some_grant(), b in some_grant(), calls in prop::collection::vec(some_call(), 1..16)) {
        let narrowed = a.narrow(&b).ok();
        for (tool, effect, arguments) in calls {
            let both = admits(&a, tool, effect, &arguments) && admits(&b, tool, effect, &arguments);
            let now = narrowed.as_ref().is_some_and(|narrowed| admits(narrowed, tool, effect, &arguments));
            prop_assert_eq!(now, both, "{} {:?} {}\n{:?}\n{:?}\n{:?}", tool, effect, arguments, a, b, narrowed);
        }
    }
}
