//! A call: one attempt to use a tool, whatever protocol it came by.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Digest, ToolName};
use crate::json::{self, InvalidJson};

/// What a tool does, in order of consequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Looks, and changes nothing.
    Read,
    /// Changes something inside the house.
    Write,
    /// Lets data leave the house.
    Send,
    /// Costs money.
    Spend,
    /// Changes who may do what, or what nothing else is known of.
    Admin,
}

impl Effect {
    /// Every effect, in order.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Send, Self::Spend, Self::Admin];

    /// The word that bundles, policies and records use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Send => "send",
            Self::Spend => "spend",
            Self::Admin => "admin",
        }
    }
}

/// The protocol that a call came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Model Context Protocol.
    Mcp,
    /// Agent2Agent.
    A2a,
    /// AuthZEN Authorization API: another enforcement point asks for the decision, and makes the call.
    Authzen,
    /// Envoy's external authorization: a mesh asks for the decision, and lets the call through.
    ExtAuthz,
}

/// One attempt to use a tool, as its adapter read it; not yet known to be allowed, nor that the tool exists.
#[derive(Clone, Debug)]
pub struct Call {
    /// The tool that the caller named.
    pub tool: ToolName,
    /// The protocol that it came by.
    pub protocol: Protocol,
    /// The protocol's own method, such as `tools/call`.
    pub method: &'static str,
    /// What the caller handed to the tool.
    pub arguments: Arguments,
}

/// The arguments of a call: the exact text that came, and what it means.
///
/// What is decided on is what is forwarded: the text is sent on as it came, and it cannot mean two things, because
/// parsing refuses repeated keys.
#[derive(Clone, Debug)]
pub struct Arguments {
    text: Arc<RawValue>,
    value: Arc<Value>,
}

impl Call {
    /// The digest of what the call would do: method, tool, and the arguments by what they mean, since a client may write them
    /// anew. Two calls that a tool could tell apart never share it: numbers count as they are written, keys in any order.
    pub fn digest(&self) -> Digest {
        call_digest(self.method, &self.tool, self.arguments.value())
    }
}

/// The digest of what a call of `tool` by `method` with these arguments would do, as [`Call::digest`] has it.
pub fn call_digest(method: &str, tool: &ToolName, arguments: &Value) -> Digest {
    let mut text = format!("{method}\n{tool}\n");
    write_sorted(arguments, &mut text);
    Digest::of(text.as_bytes())
}

/// Writes `value` with the keys of its objects in order and everything else as it is.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (key, member) in members {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_sorted(member, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_sorted(item, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

impl Arguments {
    /// No arguments, `{}`.
    pub fn none() -> Self {
        Self {
            text: Arc::from(RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())),
            value: Arc::new(Value::Object(serde_json::Map::new())),
        }
    }

    /// Reads arguments; fails when the text is not one JSON object within `limits`, repeats a key, or holds a number that not
    /// every reader reads alike.
    pub fn parse(text: &RawValue, limits: &json::Limits) -> Result<Self, InvalidJson> {
        let value = json::parse(text.get().as_bytes(), limits)?;
        if !value.is_object() {
            return Err(InvalidJson::NotAnObject);
        }
        json::exact(text.get().as_bytes(), &value)?;
        Ok(Self { text: Arc::from(text.to_owned()), value: Arc::new(value) })
    }

    /// The exact text that came.
    pub fn text(&self) -> &RawValue {
        &self.text
    }

    /// What it means: always an object.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The digest of the exact text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.get().as_bytes())
    }
}
