//! From a request to the call that it makes. Pure.

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::json;
use bailiwick_core::model::{Arguments, ToolName};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::parse::{Fault, Request, code};
use super::route::{Route, own};

/// The call that a request makes: method, tool and arguments. The tool is missing when nothing can be called so, and all
/// of it when the method makes no call.
pub(crate) type Called = (&'static str, Option<ToolName>, Arguments);

/// Reads a request as the call that it makes. Fails where the parameters are not what the method takes.
pub(crate) fn called(request: &Request, route: &Route, snapshot: &Snapshot, limits: &json::Limits) -> Result<Option<Called>, Fault> {
    let invalid = |what: &str| Fault::new(code::INVALID_PARAMS, "invalid_params", what).status(StatusCode::OK);
    let text = |key: &str| request.text(key).ok_or_else(|| invalid(&format!("`{key}` is missing or not a text")));
    let as_they_came = || request.arguments.clone().unwrap_or_else(Arguments::none);
    let made = |value: &Value| {
        let text = serde_json::value::to_raw_value(value).map_err(|_| invalid("the parameters cannot be read"))?;
        Arguments::parse(&text, limits).map_err(|_| invalid("the parameters cannot be read"))
    };
    Ok(Some(match request.method.as_str() {
        "tools/call" => ("tools/call", route.tool(text("name")?), as_they_came()),
        "prompts/get" => ("prompts/get", route.prompt(text("name")?), as_they_came()),
        "resources/read" => {
            let tool = route.resource(snapshot, text("uri")?);
            let arguments = made(&json!({ "uri": tool.as_ref().map(own) }))?;
            ("resources/read", tool, arguments)
        }
        "completion/complete" => {
            let reference = request.params.get("ref").ok_or_else(|| invalid("`ref` is missing"))?;
            let named = |key: &str| reference.get(key).and_then(Value::as_str).ok_or_else(|| invalid("`ref` names nothing"));
            let tool = match reference.get("type").and_then(Value::as_str) {
                Some("ref/prompt") => route.prompt(named("name")?),
                Some("ref/resource") => route.resource(snapshot, named("uri")?),
                _ => return Err(invalid("`ref` is neither `ref/prompt` nor `ref/resource`")),
            };
            let mut arguments = Map::new();
            for key in ["argument", "context"] {
                if let Some(value) = request.params.get(key) {
                    arguments.insert(key.to_owned(), value.clone());
                }
            }
            ("completion/complete", tool, made(&Value::Object(arguments))?)
        }
        _ => return Ok(None),
    }))
}
