//! What a tool server says it is, and in which revision it is spoken to.

use serde_json::{Map, Value};

use super::message::garbage;
use crate::UpstreamError;
use crate::mcp::parse::{LEGACY, MODERN};

/// A revision that is still spoken where a server knows no newer one: over these transports it differs in nothing we use.
const OLDEST: &str = "2024-11-05";

/// What a server says it is; all of it untrusted.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The revision that it is spoken to in.
    pub version: String,
    /// Its capabilities; none where it does not say.
    pub capabilities: Option<Map<String, Value>>,
    /// What it says about its use.
    pub instructions: Option<String>,
    /// Its name and version.
    pub info: Option<Value>,
}

impl Described {
    /// Whether it is spoken to in the revision without sessions.
    pub fn is_modern(&self) -> bool {
        self.version == MODERN
    }

    /// Whether it says that it has this capability; one that says nothing is asked.
    pub(super) fn offers(&self, capability: &str) -> bool {
        self.capabilities.as_ref().is_none_or(|capabilities| capabilities.contains_key(capability))
    }

    /// A modern server that does not describe itself.
    pub(super) fn unknown_modern() -> Self {
        Self { version: MODERN.to_owned(), capabilities: None, instructions: None, info: None }
    }

    /// From the result of `server/discover`; nothing when the server does not speak 2026-07-28.
    pub(super) fn of_discover(result: &Value) -> Option<Self> {
        let versions = result.get("supportedVersions")?.as_array()?;
        let info = result.get("_meta").and_then(|meta| meta.get("io.modelcontextprotocol/serverInfo"));
        versions.iter().any(|version| version.as_str() == Some(MODERN)).then(|| Self::of(MODERN, result, info))
    }

    /// From the result of `initialize`.
    pub(super) fn of_initialize(result: &Value) -> Result<Self, UpstreamError> {
        let version = result.get("protocolVersion").and_then(Value::as_str).ok_or_else(|| garbage("the handshake names no revision"))?;
        if !LEGACY.contains(&version) && version != OLDEST {
            return Err(UpstreamError::Unsupported("it speaks no revision of the protocol that is spoken here".into()));
        }
        Ok(Self::of(version, result, result.get("serverInfo")))
    }

    fn of(version: &str, result: &Value, info: Option<&Value>) -> Self {
        Self {
            version: version.to_owned(),
            capabilities: Some(result.get("capabilities").and_then(Value::as_object).cloned().unwrap_or_default()),
            instructions: result.get("instructions").and_then(Value::as_str).map(str::to_owned),
            info: info.cloned(),
        }
    }

    /// Whether the revision wants `MCP-Protocol-Version` after the handshake.
    pub(super) fn wants_version_header(&self) -> bool {
        self.version.as_str() >= "2025-06-18"
    }
}
