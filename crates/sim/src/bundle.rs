//! The bundles that a world runs on: small, real, and read once for all worlds of a process.

use std::sync::{Arc, OnceLock};

use bailiwick_core::bundle::{Files, Snapshot, read};
use bailiwick_core::model::Digest;

/// The agents of a world.
pub(crate) const AGENTS: [&str; 2] = ["buyer", "clerk"];

/// The tools that clients call, one of which is not declared and one of which no role includes.
pub(crate) const TOOLS: [&str; 7] = ["shop/look", "shop/browse", "shop/note", "shop/mail", "shop/pay", "shop/purge", "shop/nothing"];

const SETTINGS: &str = r#"
trust_domain = "acme.example"
[limits]
call_timeout = "20s"
calls_per_execution_max = 6
[history.paid]
tools = ["shop/pay"]
sum = "/amount"
of = "execution"
[history.paid_by_agent]
tools = ["shop/pay"]
sum = "/amount"
within = "365d"
of = "agent"
"#;

const AGENT: &str = r#"
[agent]
name = "NAME"
owner = "owner@acme.example"
purpose = "Buys"
roles = ["buyer"]
[[agent.federation]]
issuer = "platform"
claims = { sub = "NAME" }
[agent.credential]
proof = "bearer"
ttl = "15m"
execution_max = "24h"
[agent.may]
call = ["shop/look", "shop/browse", "shop/note", "shop/mail", "shop/pay"]
delegate_to = ["buyer", "clerk"]
budget = { calls = 30, per = "execution" }
"#;

const ISSUERS: &str = r#"
[[issuer]]
name = "platform"
issuer = "https://platform.acme.example"
jwks_uri = "https://platform.acme.example/jwks"
"#;

const SERVER: &str = r#"
[server]
name = "shop"
mcp = "https://shop.acme.example/mcp"
auth = { static = { header = "authorization", secret_file = "secrets/shop" } }
[tools.look]
effect = "read"
returns = { integrity = "trusted" }
[tools.browse]
effect = "read"
returns = { integrity = "untrusted", confidentiality = "CONFIDENTIALITY" }
[tools.note]
effect = "write"
returns = { integrity = "trusted" }
[tools.mail]
effect = "send"
returns = { integrity = "trusted" }
targets = { to = ["task", "trusted"] }
otherwise = "ask"
[tools.pay]
effect = "spend"
targets = {}
returns = { integrity = "trusted" }
[tools.purge]
effect = "admin"
targets = {}
returns = { integrity = "trusted" }
"#;

const POLICY: &str = r#"
@id("little-by-one")
forbid (principal, action == Action::"shop/pay", resource) when { context.history.paid > LIMIT };
@id("little-by-all")
@otherwise("ask")
forbid (principal, action == Action::"shop/pay", resource) when { context.history.paid_by_agent > 60 };
@id("little-far-from-home")
forbid (principal == Agent::"clerk", action == Action::"shop/pay", resource) when { context.chain.depth > 1 };
@id("not-after-browsing")
forbid (principal, action == Action::"shop/note", resource)
when { context.ledger.integrity == "untrusted" && context.ledger.confidentiality.contains("customer") };
"#;

/// Every bundle that may come into force.
#[derive(Debug)]
pub(crate) struct Bundles(Vec<Arc<Snapshot>>);

impl Bundles {
    /// The bundles, read at the first time.
    pub(crate) fn all() -> Result<&'static Self, String> {
        static ALL: OnceLock<Result<Bundles, String>> = OnceLock::new();
        ALL.get_or_init(|| {
            // The later ones differ in a policy, and in what is known of what a tool returns.
            let snapshots =
                [("25", "customer"), ("40", "customer"), ("25", "payment")].map(|(limit, confidentiality)| bundle(limit, confidentiality));
            snapshots.into_iter().collect::<Result<_, _>>().map(Bundles)
        })
        .as_ref()
        .map_err(Clone::clone)
    }

    /// All of them.
    pub(crate) fn snapshots(&self) -> &[Arc<Snapshot>] {
        &self.0
    }

    /// The one with this digest.
    pub(crate) fn named(&self, digest: Digest) -> Option<&Arc<Snapshot>> {
        self.0.iter().find(|snapshot| snapshot.digest == digest)
    }
}

fn bundle(limit: &str, confidentiality: &str) -> Result<Arc<Snapshot>, String> {
    let mut files = Files::new();
    let mut put = |path: &str, text: String| files.insert(path.to_owned(), text.into_bytes());
    put("bailiwick.toml", SETTINGS.to_owned());
    put("issuers.toml", ISSUERS.to_owned());
    for agent in AGENTS {
        put(&format!("agents/{agent}.toml"), AGENT.replace("NAME", agent));
    }
    put("servers/shop.toml", SERVER.replace("CONFIDENTIALITY", confidentiality));
    put("servers/shop.tools.json", definitions());
    put("policies/shop.cedar", POLICY.replace("LIMIT", limit));
    let read = read(&files).map_err(|problems| format!("{problems:?}"))?;
    Ok(Arc::new(read.snapshot))
}

/// The reviewed definitions: every tool takes the number of its call, and three take more.
fn definitions() -> String {
    let definition = |name: &str, more: &str| {
        format!(
            r#"{{ "name": "{name}", "description": "A tool.", "inputSchema": {{ "type": "object",
               "properties": {{ "n": {{ "type": "integer" }}{more} }}, "required": ["n"] }} }}"#
        )
    };
    let definitions = [
        definition("look", ""),
        definition("browse", ""),
        definition("note", r#", "text": { "type": "string" }"#),
        definition("mail", r#", "to": { "type": "string" }"#),
        definition("pay", r#", "amount": { "type": "integer" }, "text": { "type": "string" }"#),
        definition("purge", ""),
    ];
    format!("[{}]", definitions.join(","))
}
