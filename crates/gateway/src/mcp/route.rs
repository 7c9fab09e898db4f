//! Which servers an endpoint serves, and under which names. Pure.
//!
//! `/mcp/{server}` serves one server under its own names. `/mcp` joins all: tools and prompts are named `server__name`,
//! which is unambiguous since no server's name holds `__`. A resource keeps its URI, because URIs occur inside results
//! and must stay what they are; it belongs to the server whose declaration covers it. A URI that several servers declare
//! is listed as `bailiwick://server/URI`, and every resource may be asked for in that form.

use bailiwick_core::bundle::{Server, Snapshot};
use bailiwick_core::model::{ServerName, ToolName};

/// The scheme of a URI that names its server.
const SCHEME: &str = "bailiwick://";

/// What an endpoint serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// All servers, `/mcp`.
    All,
    /// One server, `/mcp/{server}`.
    One(ServerName),
}

impl Route {
    /// The route of a path; nothing for a server that is not declared.
    pub(super) fn of(path: &str, snapshot: &Snapshot) -> Option<Self> {
        if path == "/mcp" {
            return Some(Self::All);
        }
        let server = path.strip_prefix("/mcp/")?.parse().ok()?;
        // Agents are reached over their own protocol.
        snapshot.servers.get(&server).filter(|server| server.behind().is_none()).map(|server| Self::One(server.name.clone()))
    }

    /// The path.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::All => "/mcp".to_owned(),
            Self::One(server) => format!("/mcp/{server}"),
        }
    }

    /// The servers behind it, in order.
    pub(super) fn servers<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Server> {
        snapshot.servers.values().filter(|server| server.behind().is_none() && self.has(&server.name))
    }

    /// Whether `server` is behind it.
    pub(super) fn has(&self, server: &ServerName) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == server,
        }
    }

    /// The name under which it shows a tool or prompt of `server`.
    pub(super) fn shown(&self, server: &ServerName, name: &str) -> String {
        match self {
            Self::All => format!("{server}__{name}"),
            Self::One(_) => name.to_owned(),
        }
    }

    /// The URI under which it shows a resource of `server`.
    pub(super) fn shown_uri(&self, snapshot: &Snapshot, server: &ServerName, uri: &str) -> String {
        match self {
            Self::All if self.declaring(snapshot, uri).nth(1).is_some() => format!("{SCHEME}{server}/{uri}"),
            Self::All | Self::One(_) => uri.to_owned(),
        }
    }

    /// The tool that is shown as `shown`; nothing for what cannot be a tool's name.
    pub(super) fn tool(&self, shown: &str) -> Option<ToolName> {
        let (server, name) = self.server_of(shown)?;
        // A colon is what tells resources and prompts from tools, so no tool's own name has one.
        if name.contains(':') { None } else { ToolName::new(&server, name).ok() }
    }

    /// The prompt that is shown as `shown`, as the line names it.
    pub(super) fn prompt(&self, shown: &str) -> Option<ToolName> {
        let (server, name) = self.server_of(shown)?;
        ToolName::new(&server, &format!("prompt:{name}")).ok()
    }

    /// The resource that is shown as `shown`, as the line names it. One that nobody declares is named after the first
    /// server, so that it is judged, and denied, like any other.
    pub(super) fn resource(&self, snapshot: &Snapshot, shown: &str) -> Option<ToolName> {
        let named = |server: &ServerName, uri: &str| ToolName::new(server, &format!("resource:{uri}")).ok();
        match self {
            Self::One(server) => named(server, shown),
            Self::All => match shown.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')) {
                Some((server, uri)) => named(&server.parse().ok()?, uri),
                None => {
                    let server = self.declaring(snapshot, shown).next().or_else(|| snapshot.servers.values().next())?;
                    named(&server.name, shown)
                }
            },
        }
    }

    fn server_of<'a>(&self, shown: &'a str) -> Option<(ServerName, &'a str)> {
        match self {
            Self::One(server) => Some((server.clone(), shown)),
            Self::All => shown.split_once("__").and_then(|(server, name)| Some((server.parse().ok()?, name))),
        }
    }

    fn declaring<'a>(&'a self, snapshot: &'a Snapshot, uri: &'a str) -> impl Iterator<Item = &'a Server> {
        self.servers(snapshot)
            .filter(move |server| ToolName::new(&server.name, &format!("resource:{uri}")).is_ok_and(|name| server.tool(&name).is_some()))
    }
}

/// The URI of a resource, or the name of a prompt, as its server calls it.
pub(super) fn own(name: &ToolName) -> &str {
    let own = name.tool();
    own.strip_prefix("resource:").or_else(|| own.strip_prefix("prompt:")).unwrap_or(own)
}
