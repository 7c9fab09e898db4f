//! Tests of how a tool's argument schema becomes Cedar types.

use cedar_policy::{Context, EntityUid, Schema, SchemaFragment};
use cedar_policy_mcp_schema_generator::{SchemaGenerator, SchemaGeneratorConfig};
use mcp_tools_sdk::description::ServerDescription;
use proptest::prelude::*;

use super::*;

fn record(input: &Value) -> Record {
    Record::of_definition(&json!({ "name": "t", "inputSchema": input }))
}

/// The arguments `{"a": value}` under the property schema `a`, as Cedar sees them, and what it does not see.
fn read(a: &Value, value: &Value) -> Result<(String, BTreeSet<String>), String> {
    let typed = record(&json!({ "type": "object", "properties": { "a": a } })).typed(&json!({ "a": value }), &Read::all())?;
    let context = Context::from_pairs([("input".to_owned(), typed.input)]).unwrap();
    Ok((context.get("input").unwrap().to_string(), typed.unseen))
}

#[test]
fn arguments_as_policy_sees_them() {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "number" });
    let at = json!({ "type": "string", "format": "date-time" });
    let wait = json!({ "type": "string", "format": "duration" });
    let ip = json!({ "type": "string", "format": "ipv6" });
    let maybe = json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] });
    let closed = json!({ "type": "object", "properties": { "b": { "type": "boolean" } }, "required": ["b"] });
    let open = json!({ "type": "object", "properties": { "b": { "type": "boolean" } }, "additionalProperties": { "type": "string" } });
    for (schema, value, seen, unseen) in [
        (&text, json!("x"), r#"{"a": "x"}"#, ""),
        (&json!({ "type": "integer" }), json!(5.0), r#"{"a": 5}"#, ""),
        (&json!({ "type": ["integer", "null"] }), json!(null), "{}", ""),
        (&maybe, json!(null), "{}", ""),
        (&maybe, json!(-7), r#"{"a": -7}"#, ""),
        (&number, json!(0.1), r#"{"a": decimal("0.1000")}"#, ""),
        (&number, json!(-0.1), r#"{"a": decimal("-0.1000")}"#, ""),
        (&number, json!(5), r#"{"a": decimal("5.0000")}"#, ""),
        (&number, json!(5.000_01), r#"{"a": decimal("5.0001")}"#, "/a"),
        (&number, json!(-5.000_01), r#"{"a": decimal("-5.0001")}"#, "/a"),
        (&number, json!(1e-9), r#"{"a": decimal("0.0001")}"#, "/a"),
        (&at, json!("2026-11-25T10:00:00.5+01:00"), r#"{"a": datetime("2026-11-25T09:00:00.500Z")}"#, ""),
        (&at, json!("2026-11-25T10:00:00"), r#"{"a": datetime("2026-11-25T10:00:00.000Z")}"#, "/a"),
        (&at, json!("2026-11-25"), r#"{"a": datetime("2026-11-25")}"#, ""),
        (&wait, json!("P1DT1M"), r#"{"a": duration("86460000ms")}"#, ""),
        (&ip, json!("::ffff:10.0.0.1"), r#"{"a": ip("10.0.0.1")}"#, ""),
        (&json!({ "enum": ["x", "y"] }), json!("y"), r#"{"a": "y"}"#, ""),
        (&json!({ "type": "array", "items": { "type": "integer" } }), json!([2, 1, 2]), r#"{"a": [1, 2]}"#, ""),
        (
            &json!({ "type": "array", "items": { "type": "number" } }),
            json!([0.1, 0.123_45, 0.123_46]),
            r#"{"a": [decimal("0.1000"), decimal("0.1235")]}"#,
            "/a",
        ),
        (&closed, json!({ "b": true }), r#"{"a": {"b": true}}"#, ""),
        (&open, json!({ "b": true, "c~/": "x" }), r#"{"a": {"b": true}}"#, "/a/c~0~1"),
        (&json!({ "type": ["string", "integer"] }), json!(1), "{}", "/a"),
        (&json!({ "type": "object", "additionalProperties": { "type": "string" } }), json!({ "k": "v" }), r#"{"a": {}}"#, "/a/k"),
        (&json!({}), json!([{}]), "{}", "/a"),
    ] {
        let (found, hidden) = read(schema, &value).unwrap_or_else(|error| panic!("{schema} {value}: {error}"));
        assert_eq!((found.as_str(), hidden.iter().cloned().collect::<Vec<_>>().join(" ").as_str()), (seen, unseen), "{schema} {value}");
    }
    for (schema, value) in [
        (&text, json!(5)),
        (&text, json!(null)),
        (&json!({ "type": "integer" }), json!(5.5)),
        (&json!({ "type": "integer" }), json!(u64::MAX)),
        (&json!({ "type": "integer" }), json!(1e18)),
        (&json!({ "type": "integer" }), json!("5")),
        (&number, json!(1e15)),
        (&number, json!(i64::MAX)),
        (&at, json!("tomorrow")),
        (&at, json!("-000001-01-01T00:00:00Z")),
        (&wait, json!("P1M")),
        (&ip, json!("localhost")),
        (&json!({ "enum": ["x", "y"] }), json!("z")),
        (&json!({ "const": "x" }), json!("y")),
        (&json!({ "type": "array", "items": { "type": "integer" } }), json!([1, "2"])),
        (&closed, json!({})),
        (&closed, json!({ "b": true, "c": 1 })),
        (&closed, json!([])),
    ] {
        let error = read(schema, &value).err().unwrap_or_else(|| panic!("{schema} takes {value}"));
        assert!(error.starts_with("`/a"), "{error}");
    }
}

#[test]
fn undeclared_arguments_are_refused_unless_the_schema_asks_for_them() {
    for (schema, taken) in [
        (json!({ "type": "object", "properties": {} }), false),
        (json!({ "type": "object", "properties": { "a": {} } }), false),
        (json!({ "type": "object", "additionalProperties": false }), false),
        (json!({ "type": "object", "properties": {}, "additionalProperties": false, "anyOf": [{}] }), false),
        (json!({ "type": "object" }), true),
        (json!({ "type": "object", "properties": {}, "additionalProperties": true }), true),
        (json!({ "type": "object", "properties": {}, "patternProperties": { "^x-": {} } }), true),
        (json!({ "type": "object", "properties": {}, "oneOf": [{ "properties": { "b": {} } }] }), true),
        (json!({ "$ref": "#/$defs/args", "$defs": { "args": { "type": "object", "properties": {} } } }), false),
        (json!(true), true),
    ] {
        let typed = record(&schema).typed(&json!({ "b": 1 }), &Read::all());
        assert_eq!(typed.as_ref().map(|typed| typed.unseen.iter().eq(["/b"])).unwrap_or(false), taken, "{schema} {typed:?}");
    }
}

#[test]
fn an_agent_cannot_push_a_place_out_of_what_is_unseen() {
    let schema = json!({ "type": "object" });
    let many = |count: usize| (0..count).map(|key| (key.to_string(), json!(1))).collect::<Map<_, _>>();
    assert!(record(&schema).typed(&Value::Object(many(UNSEEN_MAX)), &Read::nothing()).is_ok());
    assert!(record(&schema).typed(&Value::Object(many(UNSEEN_MAX + 1)), &Read::nothing()).is_err());
}

#[test]
fn a_recursive_schema_ends() {
    let schema = json!({ "type": "object", "properties": { "n": { "$ref": "#" } } });
    let deep = (0..40).fold(json!({}), |inner, _| json!({ "n": inner }));
    assert!(record(&schema).typed(&deep, &Read::all()).is_ok());
}

/// Another reading of the same standard: where the published generator takes a definition, the types agree. It knows no
/// names beyond Cedar's identifiers, makes entities of enumerations, and gives unknown values random names, which is why
/// it is a witness here and not the reader.
#[test]
fn the_types_are_those_of_the_published_generator() {
    let input = json!({ "type": "object", "required": ["text", "on"], "properties": {
        "text": { "type": "string" }, "on": { "type": "boolean" }, "count": { "type": "integer" }, "amount": { "type": "number" },
        "at": { "type": "string", "format": "date-time" }, "day": { "type": "string", "format": "date" },
        "wait": { "type": "string", "format": "duration" }, "four": { "type": "string", "format": "ipv4" },
        "six": { "type": "string", "format": "ipv6" }, "mail": { "type": "string", "format": "email" },
        "texts": { "type": "array", "items": { "type": "string" } }, "grid": { "type": "array", "items": { "type": "array", "items": { "type": "number" } } },
    } });
    let tools = json!({ "result": { "tools": [{ "name": "t", "description": "", "inputSchema": input }] } });
    let stub = r#"namespace N { @mcp_principal("Agent") entity Agent; @mcp_resource("Tool") entity Tool; }"#;
    let config = SchemaGeneratorConfig::default().encode_numbers_as_decimal(true);
    let mut generator = SchemaGenerator::from_cedarschema_str_with_config(stub, config).unwrap();
    generator.add_actions_from_server_description(&ServerDescription::from_json_str(&tools.to_string()).unwrap()).unwrap();
    let (theirs, _) = SchemaFragment::from_cedarschema_str(&generator.get_schema_as_str()).unwrap();
    let theirs = theirs.to_json_value().unwrap()["N"]["commonTypes"]["tInput"].clone();

    let ours = json!({ "": { "commonTypes": { "tInput": record(&input).cedar_type() }, "entityTypes": {}, "actions": {} } });
    let ours = SchemaFragment::from_json_value(ours).unwrap().to_cedarschema().unwrap().replace("__cedar::", "");
    let (ours, _) = SchemaFragment::from_cedarschema_str(&ours).unwrap();
    assert_eq!(ours.to_json_value().unwrap()[""]["commonTypes"]["tInput"], theirs);
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!({ "type": "string" }),
        json!({ "type": "integer" }),
        json!({ "type": "number" }),
        json!({ "type": "boolean" }),
        json!({ "type": ["string", "null"] }),
        json!({ "enum": ["x", "y"] }),
        json!({ "type": "string", "format": "date-time" }),
        json!({ "type": "string", "format": "ipv4" }),
        json!({}),
        json!({ "$ref": "#" }),
    ]);
    leaf.prop_recursive(3, 16, 4, |inner| {
        let members = prop::collection::btree_map(prop::sample::select(vec!["a", "b-c", "in", "_\u{e9}\""]), inner.clone(), 0..4);
        prop_oneof![
            inner.prop_map(|items| json!({ "type": "array", "items": items })),
            (members, any::<bool>(), any::<bool>()).prop_map(|(properties, open, required)| {
                let required: Vec<_> = if required { properties.keys().copied().collect() } else { Vec::new() };
                json!({ "type": "object", "properties": properties, "additionalProperties": open, "required": required })
            }),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(7),
        json!(-2.123_456),
        json!("x"),
        json!("2026-11-25T10:00:00Z"),
        json!("10.0.0.1"),
    ]);
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(prop::sample::select(vec!["a", "b-c", "in", "_\u{e9}\""]), inner, 0..4)
                .prop_map(|object| json!(object)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What the validator was promised is what the evaluator gets, whatever the definition and the arguments.
    #[test]
    fn what_is_read_is_of_the_type_that_was_declared(schema in schema(), arguments in value()) {
        let record = record(&schema);
        let Ok(typed) = record.typed(&arguments, &Read::all()) else { return Ok(()) };
        prop_assert_eq!(&record.typed(&arguments, &Read::nothing()).unwrap().unseen, &typed.unseen);
        let context = json!({ "type": "Record", "attributes": { "input": record.cedar_type() } });
        let cedar = json!({ "": { "entityTypes": { "Agent": {} }, "actions": {
            "t": { "appliesTo": { "principalTypes": ["Agent"], "resourceTypes": ["Agent"], "context": context } }
        } } });
        let cedar = Schema::from_json_value(cedar).unwrap();
        let context = Context::from_pairs([("input".to_owned(), typed.input)]).unwrap();
        let action: EntityUid = r#"Action::"t""#.parse().unwrap();
        prop_assert!(context.validate(&cedar, &action).is_ok());
    }
}

#[test]
fn what_a_policy_looks_at() {
    let only = |names: &[&str]| Names::Only(names.iter().map(ToString::to_string).collect());
    for (condition, context, input) in [
        ("context.ledger.calls > 5", only(&["ledger"]), only(&[])),
        ("context has task && context.input.a > 5 && context.history.input > 5", only(&["task", "input", "history"]), only(&["a"])),
        (r#"context.input has a && context.input["b-c"] == principal.name"#, only(&["input"]), only(&["a", "b-c"])),
        ("context.input.a.b.c", only(&["input"]), only(&["a"])),
        ("context has input", only(&["input"]), Names::All),
        ("context.input has a.b", only(&["input"]), Names::All),
        (r#"context["in\u{70}ut"]["\u{61}"] == 1"#, only(&["input"]), only(&["a"])),
        ("[context.input.a, 1].contains(context.input.b) || {x: context.input.c}.x", only(&["input"]), only(&["a", "b", "c"])),
        ("if context.input.a then context.input.b else context.input.c like \"x*\"", only(&["input"]), only(&["a", "b", "c"])),
        ("context.input == {a: 1}", only(&["input"]), Names::All),
        ("context == {input: 1}", Names::All, Names::All),
        ("(if true then context else context).input.a", Names::All, Names::All),
        ("context.now.toDate() == {now: context.depth}.now", only(&["now", "depth"]), only(&[])),
    ] {
        let policy = cedar_policy::Policy::parse(None, format!("permit (principal, action, resource) when {{ {condition} }};")).unwrap();
        let mut read = Read::nothing();
        read.add(&policy.to_json().unwrap());
        assert_eq!(read, Read { context, input }, "{condition}");
    }
}

#[test]
fn a_hostile_schema_is_read_in_bounded_time_and_leads_nowhere() {
    // 26 properties that are the whole again, at every step: 26^8 subschemas within the depth that is followed.
    let again: Map<String, Value> = ('a'..='z').map(|name| (name.to_string(), json!({ "$ref": "#" }))).collect();
    let recursive = json!({ "type": "object", "properties": again });
    let nested = (0..100).fold(json!({ "type": "string" }), |inner, _| json!({ "type": "object", "properties": { "a": inner } }));
    let words: Vec<String> = (0..50_000).map(|word| word.to_string()).collect();
    for (schema, arguments) in [
        (recursive, json!({ "a": { "b": {} } })),
        (json!({ "$ref": "#" }), json!({ "a": 1 })),
        (json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }), json!({ "a": 1 })),
        (nested, json!({ "a": { "a": {} } })),
        (json!({ "properties": { "a": { "$ref": "https://attacker.example/schema.json" } } }), json!({ "a": 1 })),
        (json!({ "properties": { "a": { "$ref": "file:///etc/passwd" } } }), json!({ "a": 1 })),
        (json!({ "properties": { "a": { "type": "string", "pattern": "^(a+)+$" } } }), json!({ "a": format!("{}!", "a".repeat(50_000)) })),
        (json!({ "properties": { "a": { "enum": words } } }), json!({ "a": "49999" })),
        (json!({ "properties": { "__proto__": { "type": "string" }, "constructor": { "type": "string" } } }), json!({ "__proto__": "x" })),
        (json!({ "properties": { "__entity": { "type": "string" }, "__extn": { "type": "string" } } }), json!({ "__entity": "x" })),
    ] {
        let record = record(&schema);
        let _ = record.cedar_type();
        let typed = record.typed(&arguments, &Read::all()).unwrap_or_else(|error| panic!("{error}"));
        Context::from_pairs([("input".to_owned(), typed.input)]).unwrap();
    }
}
