//! Names: of trust domains, agents, servers, tools and executions. Parsing is the only way in.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not the name it was meant to be; the message says what such a name looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: {rule}")]
pub struct InvalidName {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

/// Makes a name that is one shared text with one rule, and every conversion that such a name has.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { text: shown(text), kind: $kind, rule: $rule })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The root of names: `acme.example`. Lower-case letters, digits, `.`, `-`, `_`; at most 255 bytes (SPIFFE ID §2.1).
    TrustDomain,
    "a trust domain",
    "use lower-case letters, digits, `.`, `-` and `_`, at most 255 of them",
    |text| (1..=255).contains(&text.len()) && text.bytes().all(|b| plain(b) || b == b'.')
);

name!(
    /// The name of an agent within its trust domain: lower-case letters, digits, `-`, `_`; at most 64 bytes.
    AgentName,
    "an agent's name",
    "use lower-case letters, digits, `-` and `_`, at most 64 of them",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(plain)
);

name!(
    /// The name of a tool server: lower-case letters, digits, `-`, single `_`; at most 64 bytes.
    ///
    /// It begins and ends with a letter or a digit and holds no `__`, since `/mcp` joins it to a tool's name with that.
    ServerName,
    "a tool server's name",
    "use lower-case letters, digits, `-` and single `_`, beginning and ending with a letter or digit, at most 64 of them",
    |text| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (1..=64).contains(&text.len())
            && text.bytes().all(plain)
            && edge(text.bytes().next())
            && edge(text.bytes().last())
            && !text.contains("__")
    }
);

fn plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
}

/// Whether a text that reads as a path climbs out of where it begins, by dot segments (RFC 3986 §5.2.4): plain, encoded, or
/// separated by what only becomes a separator when it is decoded, once or more often.
pub(crate) fn climbs(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // `%25` encodes the sign that begins an encoding: it stands for text that means something else each time it is decoded.
    let encoded = |what: &str| text.contains(&format!("%{what}")) || text.contains(&format!("%25{what}")) || text.contains("%2525");
    text.split(['/', '\\', '?', '#']).any(|segment| segment == "..") || ["2e", "2f", "5c"].into_iter().any(encoded)
}

/// What an error may show of a text that came from outside.
fn shown(text: &str) -> String {
    super::shown(text, 80)
}

/// The name of a tool as bundles, policies and records use it: `server/tool`.
///
/// The part after the first `/` is one of: an MCP tool's own name (1 to 128 of `A-Z a-z 0-9 _ - .`, case-sensitive,
/// MCP 2026-07-28 server/tools); `resource:` and a URI; `prompt:` and a prompt's name. The latter two stand for reading
/// that resource and getting that prompt, which are calls like any other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolName {
    text: Arc<str>,
    server: ServerName,
}

impl ToolName {
    /// The tool of `server` that the server itself calls `tool`.
    pub fn new(server: &ServerName, tool: &str) -> Result<Self, InvalidName> {
        format!("{server}/{tool}").parse()
    }

    /// The whole name, `server/tool`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The server's part.
    pub const fn server(&self) -> &ServerName {
        &self.server
    }

    /// The tool's part, as the server itself calls it.
    pub fn tool(&self) -> &str {
        self.text.split_once('/').map_or("", |(_, tool)| tool)
    }
}

impl FromStr for ToolName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidName {
            text: shown(text),
            kind: "a tool's name",
            rule: "write `server/tool`, the tool's part being 1 to 128 of `A-Z a-z 0-9 _ - .`, or `resource:` and a URI, or `prompt:` and a name",
        };
        let (server, tool) = text.split_once('/').ok_or_else(invalid)?;
        let server = server.parse()?;
        let printable = |text: &str| !text.is_empty() && text.len() <= 2048 && !text.chars().any(char::is_control);
        let valid = match tool.split_once(':') {
            // A pattern such as `resource:file:///public/*` must not cover what climbs out of it.
            Some(("resource", uri)) => printable(uri) && !climbs(uri),
            Some(("prompt", name)) => printable(name),
            _ => (1..=128).contains(&tool.len()) && tool.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')),
        };
        if valid { Ok(Self { text: text.into(), server }) } else { Err(invalid()) }
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ToolName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ToolName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of an agent anywhere: `spiffe://<trust domain>/agent/<name>` (SPIFFE ID §2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    domain: TrustDomain,
    agent: AgentName,
}

impl SpiffeId {
    /// The id of `agent` in `domain`.
    pub const fn new(domain: TrustDomain, agent: AgentName) -> Self {
        Self { domain, agent }
    }

    /// The agent's part.
    pub const fn agent(&self) -> &AgentName {
        &self.agent
    }

    /// The trust domain's part.
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (domain, agent) = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/agent/")).ok_or_else(|| InvalidName {
            text: shown(text),
            kind: "an agent's id",
            rule: "write `spiffe://<trust domain>/agent/<name>`",
        })?;
        Ok(Self { domain: domain.parse()?, agent: agent.parse()? })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/agent/{}", self.domain, self.agent)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The id of one execution, a UUID; it rides in the credential as `txn`, never in a header that the agent chooses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionId(Uuid);

impl ExecutionId {
    /// An id from a time and 10 random bytes (UUID version 7, RFC 9562 §5.7), so that ids sort by start.
    pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// The id that this number is.
    pub const fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }

    /// The id as a number, which is how the log's storage keys it.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidName { text: shown(text), kind: "an execution's id", rule: "it is a UUID" })
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_names() {
        for (text, valid) in [
            ("crm/query_complaints", true),
            ("a-b/Tool.v2", true),
            ("docs/resource:test://static/text", true),
            ("docs/prompt:summarise this", true),
            ("docs/resource:file:///public/../private", false),
            ("docs/resource:file:///public/%2E%2e/private", false),
            ("docs/resource:file:///public/a..b", true),
            ("docs/resource:file:///public/..%2Fprivate", false),
            ("docs/resource:file:///public/..%5cprivate", false),
            ("docs/resource:file:///public/%252e%252e/private", false),
            ("docs/resource:file:///public/%25252e%25252e/private", false),
            ("docs/resource:file:///public/..\\private", false),
            ("docs/resource:file:///public/a%20b", true),
            ("crm/qu\u{435}ry", false),
            ("crm/que\u{301}ry", false),
            ("crm/query\u{200b}", false),
            ("crm/\u{202e}yreuq", false),
            ("crm/query\0", false),
            ("crm/%71uery", false),
            ("c\u{441}rm/query", false),
            ("crm", false),
            ("CRM/x", false),
            ("crm/", false),
            ("crm/a b", false),
            ("crm/a/b", false),
            ("crm/prompt:", false),
            ("crm/prompt:a\nb", false),
            ("a__b/x", false),
            ("_a/x", false),
        ] {
            assert_eq!(text.parse::<ToolName>().is_ok(), valid, "{text}");
        }
        let name: ToolName = "crm/query".parse().unwrap();
        assert_eq!((name.server().as_str(), name.tool()), ("crm", "query"));
    }

    #[test]
    fn an_error_shows_no_control_characters() {
        let error = "a\u{1b}[31m\nb".parse::<AgentName>().unwrap_err().to_string();
        assert!(!error.chars().any(char::is_control), "{error}");
    }

    #[test]
    fn agents_are_named_by_spiffe_ids() {
        let id: SpiffeId = "spiffe://acme.example/agent/support-summarizer".parse().unwrap();
        assert_eq!(id.agent().as_str(), "support-summarizer");
        assert!("spiffe://acme.example/other/x".parse::<SpiffeId>().is_err());
    }
}
