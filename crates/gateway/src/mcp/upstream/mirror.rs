//! What a request to a modern server over HTTP repeats in its headers (MCP 2026-07-28, basic/transports), pure.
//!
//! `Mcp-Method`, `Mcp-Name` and, where a tool's schema asks for it by `x-mcp-header`, its arguments as `Mcp-Param-*`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde_json::Value;

/// Beyond this an integer is not the same in every language, so it is not mirrored (2^53 - 1).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// How deep an annotation may be, and how many a tool may have. A schema is untrusted.
const DEPTH_MAX: usize = 16;
const MIRRORS_MAX: usize = 64;

/// One argument that is repeated in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    header: HeaderName,
    /// The members that lead to it from the arguments' root.
    path: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Boolean,
}

/// A tool whose annotations break the rules; a client must not use it (MCP 2026-07-28, `x-mcp-header`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its `x-mcp-header` {0}")]
pub struct InvalidMirror(&'static str);

/// The arguments that a tool's input schema wants repeated in headers.
pub fn of_schema(schema: &Value) -> Result<Vec<Mirror>, InvalidMirror> {
    let mut mirrors = Vec::new();
    reachable(schema, &mut Vec::new(), &mut mirrors)?;
    // Every annotation must be one of those that were reachable; one elsewhere makes the tool invalid.
    if annotations(schema, false, 0) != mirrors.len() {
        return Err(InvalidMirror("stands where no single argument can be meant"));
    }
    Ok(mirrors)
}

/// Collects the annotations that are reachable through `properties` alone.
fn reachable(schema: &Value, path: &mut Vec<String>, mirrors: &mut Vec<Mirror>) -> Result<(), InvalidMirror> {
    if path.len() > DEPTH_MAX {
        return Ok(());
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(annotation) = property.get("x-mcp-header") {
            let token = annotation.as_str().filter(|text| !text.is_empty()).ok_or(InvalidMirror("is not a text"))?;
            let header = HeaderName::from_bytes(format!("mcp-param-{token}").as_bytes())
                .map_err(|_| InvalidMirror("is not a header's name (RFC 9110 §5.1)"))?;
            let kind = match property.get("type").and_then(Value::as_str) {
                Some("string") => Kind::Text,
                Some("integer") => Kind::Integer,
                Some("boolean") => Kind::Boolean,
                _ => return Err(InvalidMirror("stands on something else than a string, an integer or a boolean")),
            };
            if mirrors.iter().any(|mirror| mirror.header == header) {
                return Err(InvalidMirror("names one header twice"));
            }
            if mirrors.len() >= MIRRORS_MAX {
                return Err(InvalidMirror("stands on too many arguments"));
            }
            mirrors.push(Mirror { header, path: path.clone(), kind });
        }
        reachable(property, path, mirrors)?;
        path.pop();
    }
    Ok(())
}

/// How many schemas anywhere in `value` carry the annotation. A property that is *named* `x-mcp-header` is none.
fn annotations(value: &Value, names: bool, depth: usize) -> usize {
    if depth > 127 {
        return usize::MAX;
    }
    let sum = |counts: &mut dyn Iterator<Item = usize>| counts.fold(0, usize::saturating_add);
    match value {
        Value::Object(members) => {
            let own = usize::from(!names && members.contains_key("x-mcp-header"));
            let data = |key: &str| !names && matches!(key, "const" | "enum" | "default" | "examples" | "x-mcp-header");
            let map =
                |key: &str| !names && matches!(key, "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas");
            let inner = members.iter().filter(|(key, _)| !data(key)).map(|(key, inner)| annotations(inner, map(key), depth + 1));
            own.saturating_add(sum(&mut { inner }))
        }
        Value::Array(items) => sum(&mut items.iter().map(|item| annotations(item, false, depth + 1))),
        _ => 0,
    }
}

/// The headers for these arguments. An argument that is absent or null has none; one of the wrong type neither, for the
/// server will refuse the arguments themselves.
pub fn headers(mirrors: &[Mirror], arguments: &Value) -> Vec<(HeaderName, HeaderValue)> {
    mirrors.iter().filter_map(|mirror| Some((mirror.header.clone(), value(&text(mirror, arguments)?)?))).collect()
}

fn text(mirror: &Mirror, arguments: &Value) -> Option<String> {
    let argument = mirror.path.iter().try_fold(arguments, |value, member| value.as_object()?.get(member))?;
    match (mirror.kind, argument) {
        (Kind::Text, Value::String(text)) => Some(text.clone()),
        (Kind::Boolean, Value::Bool(truth)) => Some(truth.to_string()),
        (Kind::Integer, Value::Number(number)) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            let whole = |float: &f64| float.fract() == 0.0 && float.abs() <= INTEGER_MAX as f64;
            match magnitude {
                Some(magnitude) => (magnitude <= INTEGER_MAX).then(|| number.to_string()),
                None => number.as_f64().filter(whole).map(|float| format!("{float:.0}")),
            }
        }
        _ => None,
    }
}

/// A header's value for any text: as it is where it can stand in a header unchanged, otherwise base64 within markers.
pub fn value(text: &str) -> Option<HeaderValue> {
    let plain = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let trimmed = text.trim_matches([' ', '\t']).len() == text.len();
    let looks_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    if plain && trimmed && !looks_encoded {
        HeaderValue::from_str(text).ok()
    } else {
        HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(text))).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_mirrored_as_the_schema_asks() {
        let schema = json!({ "type": "object", "properties": {
            "account": { "type": "string", "x-mcp-header": "Account" },
            "amount": { "type": "integer", "x-mcp-header": "Amount" },
            "where": { "type": "object", "properties": { "now": { "type": "boolean", "x-mcp-header": "Now" } } },
            "x-mcp-header": { "type": "string", "default": { "x-mcp-header": "not an annotation" } }
        } });
        let mirrors = of_schema(&schema).unwrap();
        for (arguments, expected) in [
            (json!({ "account": "ACC-19", "amount": 120, "where": { "now": true } }), vec!["ACC-19", "120", "true"]),
            (json!({ "account": null, "amount": -3.0 }), vec!["-3"]),
            (json!({ "amount": 9_007_199_254_740_992_u64 }), vec![]),
            (json!({ "amount": "120", "account": 1, "where": { "now": "x" } }), vec![]),
            (json!({ "account": "Zoë" }), vec!["=?base64?Wm/Dqw==?="]),
            (json!({ "account": " x" }), vec!["=?base64?IHg=?="]),
            (json!({ "account": "=?base64?eA==?=" }), vec!["=?base64?PT9iYXNlNjQ/ZUE9PT89?="]),
            (json!({ "account": "a\r\nx: y" }), vec!["=?base64?YQ0KeDogeQ==?="]),
            (json!({ "account": "" }), vec![""]),
        ] {
            let mut values: Vec<_> = headers(&mirrors, &arguments).into_iter().map(|(_, value)| value).collect();
            values.sort_by_key(|value| !value.as_bytes().first().is_some_and(u8::is_ascii_uppercase));
            assert_eq!(values, expected, "{arguments}");
        }
    }

    #[test]
    fn a_tool_with_an_invalid_annotation_is_not_used() {
        for property in [
            json!({ "type": "number", "x-mcp-header": "A" }),
            json!({ "x-mcp-header": "A" }),
            json!({ "type": "string", "x-mcp-header": "" }),
            json!({ "type": "string", "x-mcp-header": "a b" }),
            json!({ "type": "string", "x-mcp-header": "a\r\nb" }),
            json!({ "type": "string", "x-mcp-header": 1 }),
            json!({ "type": "array", "items": { "type": "string", "x-mcp-header": "A" } }),
            json!({ "anyOf": [{ "type": "string", "x-mcp-header": "A" }] }),
            json!({ "type": "object", "properties": { "a": { "type": "string", "x-mcp-header": "Dup" }, "b": { "type": "string", "x-mcp-header": "dup" } } }),
        ] {
            assert!(of_schema(&json!({ "type": "object", "properties": { "p": property } })).is_err(), "{property}");
        }
        assert!(of_schema(&json!({ "$defs": { "p": { "type": "string", "x-mcp-header": "A" } } })).is_err());
        assert_eq!(of_schema(&json!({ "type": "object" })), Ok(vec![]));
    }

    proptest::proptest! {
        #[test]
        fn every_text_can_be_mirrored_and_read_back(text: String) {
            let value = value(&text).unwrap();
            let shown = value.to_str().unwrap();
            let encoded = shown.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
            let read = encoded.map_or(shown.to_owned(), |encoded| String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap());
            proptest::prop_assert_eq!(read, text);
        }
    }
}
