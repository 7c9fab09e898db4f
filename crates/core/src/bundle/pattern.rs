//! Patterns over tools: one tool by name, or all the declared tools of one server.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{InvalidName, ServerName, ToolName};

/// `server/tool` for one tool, `server/*` for all the declared tools of a server, or `server/resource:PREFIX*` for all
/// its declared resources whose URI begins so. There is no pattern over servers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ToolPattern {
    /// One tool.
    One(ToolName),
    /// All the declared tools of a server.
    Server(ServerName),
    /// All declared tools whose name begins with this text, such as `docs/resource:file:///public/`.
    Prefix(ServerName, String),
}

impl ToolPattern {
    /// Whether `tool` is meant.
    pub fn matches(&self, tool: &ToolName) -> bool {
        match self {
            Self::One(one) => one == tool,
            Self::Server(server) => server == tool.server(),
            Self::Prefix(server, prefix) => server == tool.server() && tool.as_str().starts_with(prefix),
        }
    }

    /// The server that the pattern is about.
    pub const fn server(&self) -> &ServerName {
        match self {
            Self::One(tool) => tool.server(),
            Self::Server(server) | Self::Prefix(server, _) => server,
        }
    }
}

impl FromStr for ToolPattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((server, "*")) => Ok(Self::Server(server.parse()?)),
            Some((server, rest)) if rest.ends_with('*') && (rest.starts_with("resource:") || rest.starts_with("prompt:")) => {
                Ok(Self::Prefix(server.parse()?, text.trim_end_matches('*').to_owned()))
            }
            _ => Ok(Self::One(text.parse()?)),
        }
    }
}

/// Any number of patterns, asked for a tool in the time of one look, however many they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolPatterns {
    tools: HashSet<ToolName>,
    servers: HashSet<ServerName>,
    prefixes: HashMap<ServerName, Vec<String>>,
}

impl ToolPatterns {
    /// Whether one of them means `tool`.
    pub fn matches(&self, tool: &ToolName) -> bool {
        self.tools.contains(tool)
            || self.servers.contains(tool.server())
            || self
                .prefixes
                .get(tool.server())
                .is_some_and(|prefixes| prefixes.iter().any(|prefix| tool.as_str().starts_with(prefix.as_str())))
    }

    /// Whether one of them is about this server.
    pub fn speaks_of(&self, server: &ServerName) -> bool {
        self.servers.contains(server) || self.prefixes.contains_key(server) || self.tools.iter().any(|tool| tool.server() == server)
    }
}

impl Serialize for ToolPatterns {
    /// The patterns in the order of their texts.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tools = self.tools.iter().cloned().map(ToolPattern::One);
        let servers = self.servers.iter().cloned().map(ToolPattern::Server);
        let prefixes = self
            .prefixes
            .iter()
            .flat_map(|(server, prefixes)| prefixes.iter().map(|prefix| ToolPattern::Prefix(server.clone(), prefix.clone())));
        serializer.collect_seq(tools.chain(servers).chain(prefixes).map(|pattern| pattern.to_string()).collect::<BTreeSet<_>>())
    }
}

impl FromIterator<ToolPattern> for ToolPatterns {
    fn from_iter<I: IntoIterator<Item = ToolPattern>>(patterns: I) -> Self {
        let mut own = Self::default();
        for pattern in patterns {
            match pattern {
                ToolPattern::One(tool) => drop(own.tools.insert(tool)),
                ToolPattern::Server(server) => drop(own.servers.insert(server)),
                ToolPattern::Prefix(server, prefix) => own.prefixes.entry(server).or_default().push(prefix),
            }
        }
        own
    }
}

impl fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(tool) => write!(f, "{tool}"),
            Self::Server(server) => write!(f, "{server}/*"),
            Self::Prefix(_, prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Serialize for ToolPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ToolPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
