//! What a bundle declares, checked: every name resolves, every value is in range.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bailiwick_log::Position;
use serde_json::Value;

use super::{Below, Client, Outbound, Reporter, Respond, Signals, ToolPattern};
use crate::address::Block;
use crate::detect::rules::Pack;
use crate::flow::{self, Parties, Provenance};
use crate::identity::platform::Platform;
use crate::ledger::{History, Integrity, Labels};
use crate::model::{AgentName, Digest, Duration, Effect, ServerName, ToolName, TrustDomain};
use crate::policy::Policies;

/// A whole bundle, checked and compiled; immutable, and named by its digest in every record made under it.
#[derive(Debug)]
pub struct Snapshot {
    /// The digest over all the bundle's files.
    pub digest: Digest,
    /// `bailiwick.toml`.
    pub settings: Settings,
    /// `issuers.toml`, by name.
    pub issuers: BTreeMap<String, Issuer>,
    /// `agents/*.toml`.
    pub agents: BTreeMap<AgentName, Agent>,
    /// `servers/*.toml`.
    pub servers: BTreeMap<ServerName, Server>,
    /// The declared counters and sums.
    pub histories: Vec<History>,
    /// Who tells us of people and agents, and whom we tell of ours.
    pub signals: Signals,
    /// Others who detect, by name.
    pub reporters: BTreeMap<String, Reporter>,
    /// The declarations and `policies/*.cedar`, compiled.
    pub policies: Policies,
    /// The detection rules: the shipped ones, and `rules/*.yml`.
    pub rules: Arc<Pack>,
}

impl Snapshot {
    /// The declaration that governs `tool`: the tool's own, or the longest declared resource or prompt pattern that
    /// covers it. Nothing for a tool that was not declared.
    pub fn tool(&self, name: &ToolName) -> Option<&Tool> {
        self.servers.get(name.server())?.tool(name)
    }

    /// The agent that others reach as `/a2a/{name}`: by its own name where it is declared, by its server's otherwise.
    pub fn reached_as(&self, name: &str) -> Option<(&Server, &Behind)> {
        let named = |behind: &Behind, server: &Server| behind.agent.as_ref().map_or(server.name.as_str(), AgentName::as_str) == name;
        self.servers.values().find_map(|server| server.behind().filter(|behind| named(behind, server)).map(|behind| (server, behind)))
    }
}

/// `bailiwick.toml`: the server itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The root of names.
    pub trust_domain: TrustDomain,
    /// Where the log, keys and index live; absolute, or relative to the bundle.
    pub data_dir: PathBuf,
    /// The socket on which programs of this machine ask for credentials; `identity.sock` in the data directory when absent.
    pub local_socket: Option<PathBuf>,
    /// The PEM file of the certificate authorities that are believed beside the public ones wherever others are called.
    pub ca_file: Option<PathBuf>,
    /// The gateway's listener.
    pub data: Listen,
    /// The token service's listener; its origin is the issuer.
    pub identity: Listen,
    /// Where Envoy asks whether requests may pass (`ext_authz`); absent, nowhere.
    pub ext_authz: Option<Listen>,
    /// How people are asked, and how they answer.
    pub approvals: Approvals,
    /// What is done about what is found, and who is told.
    pub respond: Respond,
    /// Bounds on what is accepted.
    pub limits: Limits,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its address as others see it, `https://host[:port]`, without a path: what tokens, proofs and metadata name.
    pub origin: String,
    /// The certificate chain and key for TLS, as PEM files; absent on loopback or behind a proxy that ends TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The browser origins that may call it (MCP transports, DNS rebinding). Requests without `Origin` are not browsers'.
    pub allowed_origins: Vec<String>,
    /// The proxies before it, whose word counts for where a request came from.
    pub proxies: Vec<Block>,
}

/// How people are asked, and how they answer.
#[derive(Clone, Debug)]
pub struct Approvals {
    /// The listener of the page on which people answer, with its login; absent, they answer over the admin socket alone.
    pub listen: Option<Listen>,
    /// How people prove who they are there.
    pub login: Option<Login>,
    /// Who is told of each ask and each answer.
    pub webhook: Option<Webhook>,
    /// How long an ask waits for an answer.
    pub expires: Duration,
    /// How long an approval can be used.
    pub valid: Duration,
    /// How often one execution may ask, equal asks counted once.
    pub asks_max: usize,
    /// How long a call is held open for an answer before its agent is told to come back.
    pub hold: Duration,
    /// Who may answer.
    pub approver: Approver,
}

/// Who may answer, of those who prove that they are approvers. The agent itself never may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approver {
    /// Each of them, the person for whom the agent acts too.
    #[default]
    Anyone,
    /// Only others than the person for whom the agent acts.
    NotSubject,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            listen: None,
            login: None,
            webhook: None,
            expires: Duration::seconds(900),
            valid: Duration::seconds(300),
            asks_max: 16,
            hold: Duration::seconds(0),
            approver: Approver::Anyone,
        }
    }
}

impl Approvals {
    /// The page of one ask, for a person to open; nothing without a listener.
    pub fn page(&self, ask: Position) -> Option<String> {
        self.listen.as_ref().map(|listen| format!("{}/approvals/{}", listen.origin, ask.0))
    }

    /// Where programs find the task of a denial (AuthZEN Access Request and Approval); nothing without a listener.
    pub fn endpoint(&self) -> Option<String> {
        self.listen.as_ref().map(|listen| format!("{}/access/v1/requests", listen.origin))
    }

    /// Where programs ask how one ask stands.
    pub fn task(&self, ask: Position) -> Option<String> {
        self.endpoint().map(|endpoint| format!("{endpoint}/{}", ask.0))
    }
}

/// How people prove who they are: by OpenID Connect.
#[derive(Clone, Debug)]
pub struct Login {
    /// The issuer's name; one of the declared issuers.
    pub issuer: String,
    /// The id under which it knows us.
    pub client_id: String,
    /// The file with the secret that it knows us by; a public client when absent.
    pub secret_file: Option<PathBuf>,
    /// What is asked for; `openid` is always among it.
    pub scopes: Vec<String>,
    /// The claims that a person who may answer has, at least one. A claim that is a list has to hold the value.
    pub claims: Claims,
}

/// Who is told of each ask and each answer, or of what is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Webhook {
    /// Where.
    pub url: String,
    /// The file with the secret that messages are signed with (Standard Webhooks).
    pub secret_file: PathBuf,
}

/// Bounds on what is accepted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The deepest nesting of a message.
    pub depth_max: usize,
    /// How long a client may take over a request's head, and again over its body; and how long it may leave a connection
    /// without a request, or not take what it is sent.
    pub request_timeout: Duration,
    /// The largest single message that an upstream may send, in bytes.
    pub reply_bytes_max: usize,
    /// How long an upstream may take to begin its answer and between two messages.
    pub upstream_timeout: Duration,
    /// The longest that one call may take altogether.
    pub call_timeout: Duration,
    /// The longest argument text that the log keeps; of longer ones it keeps the digest.
    pub arguments_logged_max: usize,
    /// The most that is kept of what one execution was shown, to trace values by; what falls out is unknown.
    pub ledger_bytes_max: usize,
    /// The most that is kept of what all executions together were shown; beyond it those that are shown more forget.
    pub ledgers_bytes_max: usize,
    /// The most that is kept of what is written to one server under untrusted influence; beyond it a person is asked.
    pub written_bytes_max: usize,
    /// The most calls under way at once.
    pub calls_max: usize,
    /// The most calls of one execution under way at once.
    pub calls_per_execution_max: usize,
    /// The most agents in one chain of delegations, the one that acts included.
    pub chain_max: usize,
    /// In how many executions about one may be told to people as unlike its agent though nothing is wrong.
    pub executions_per_alert: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 4 << 20,
            depth_max: 64,
            request_timeout: Duration::seconds(30),
            reply_bytes_max: 16 << 20,
            upstream_timeout: Duration::seconds(60),
            call_timeout: Duration::seconds(600),
            arguments_logged_max: 32 << 10,
            ledger_bytes_max: flow::BYTES_MAX,
            ledgers_bytes_max: flow::ALL_BYTES_MAX,
            written_bytes_max: flow::WRITTEN_BYTES_MAX,
            calls_max: 10_000,
            calls_per_execution_max: 64,
            chain_max: 5,
            executions_per_alert: 1_000,
        }
    }
}

/// Someone who may vouch for workloads.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The name by which `issuers.toml` declares it.
    pub name: String,
    /// The `iss` of its tokens; compared byte for byte. Of a SPIFFE trust domain its id, of AWS' STS its URL.
    pub issuer: String,
    /// Whose tokens they are, by which it is known what they are like.
    pub kind: Platform,
    /// Where its keys are.
    pub keys: Keys,
    /// The audience that its tokens must name; our own issuer's URL unless declared otherwise.
    pub audience: Option<String>,
    /// The signature algorithms that are accepted; those of its kind unless declared otherwise.
    pub algorithms: Vec<String>,
    /// The certificate authorities that its own servers are believed by, in this PEM file; the public ones when absent.
    pub ca_file: Option<PathBuf>,
    /// A file with the token to show when its keys are read; read each time.
    pub token_file: Option<PathBuf>,
    /// Where each token is shown before it is believed (Kubernetes TokenReview).
    pub review: Option<Review>,
    /// The AWS account whose principals it vouches for.
    pub account: Option<String>,
    /// Where the STS is reached in place of its own URL.
    pub endpoint: Option<String>,
    /// How the server of its SPIFFE bundle proves itself (profile `https_spiffe`); by the Web's authorities when absent.
    pub bundle_server: Option<BundleServer>,
}

/// A bundle endpoint that proves itself by an X.509-SVID (SPIFFE Federation §5.2.2).
#[derive(Clone, Debug)]
pub struct BundleServer {
    /// Its SPIFFE id, of the trust domain whose bundle it serves.
    pub id: String,
    /// The bundle that it is believed by at first; later by the newest that it served.
    pub bootstrap: Box<Keys>,
}

/// Where a Kubernetes API server says whether a token still stands for a service account and a pod that exist.
#[derive(Clone, Debug)]
pub struct Review {
    /// The API server's URL.
    pub url: String,
    /// The certificate authorities that it is believed by, in this PEM file.
    pub ca_file: Option<PathBuf>,
    /// A file with the token of an account that may create token reviews; read each time.
    pub token_file: Option<PathBuf>,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug)]
pub enum Keys {
    /// By OIDC discovery under the issuer.
    Discovery,
    /// By the discovery of the Shared Signals Framework, of a transmitter.
    SignalsDiscovery,
    /// At this URL.
    Url(String),
    /// In the bundle: a JWK set.
    Inline(Value),
    /// In this file, which is read again now and then.
    File(PathBuf),
    /// From the SPIFFE Workload API at this address, `unix:///PATH` or `tcp://IP:PORT`.
    WorkloadApi(String),
}

/// `agents/*.toml`: an agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// Its roles, which policies may speak of.
    pub roles: Vec<String>,
    /// How a workload proves that it is this agent.
    pub federation: Vec<Federation>,
    /// Which tokens of people are meant for it, beside those that name it.
    pub subjects: Vec<Federation>,
    /// The clients of people that are this agent.
    pub clients: Vec<Client>,
    /// The programs of this machine that are this agent.
    pub local: Vec<Local>,
    /// The keys by which it may authenticate with `private_key_jwt`.
    pub keys: Vec<RegisteredKey>,
    /// What its credentials are like.
    pub credential: CredentialRules,
    /// For whom else it may have tokens of ours.
    pub outbound: Vec<Outbound>,
    /// Whether its programs on this machine have an X.509-SVID, by the SPIFFE Workload API.
    pub x509_svid: bool,
    /// What it may ever call.
    pub call: Vec<ToolPattern>,
    /// The agents that it may delegate to.
    pub delegate_to: Vec<AgentName>,
    /// The agents about whose calls it may ask for decisions, beside its own: it enforces them elsewhere.
    pub decide_for: DecideFor,
    /// How many calls one execution may make; absent, as many as it likes.
    pub calls_max: Option<u64>,
}

/// The agents about whose calls another one may ask for decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DecideFor {
    /// None but itself.
    #[default]
    Nobody,
    /// These.
    These(Vec<AgentName>),
    /// Every agent.
    All,
}

impl DecideFor {
    /// Whether `agent` is among them.
    pub fn has(&self, agent: &AgentName) -> bool {
        match self {
            Self::Nobody => false,
            Self::These(agents) => agents.contains(agent),
            Self::All => true,
        }
    }
}

/// A workload's token of this issuer with these claims proves that it is the agent; a person's, that it was meant for the agent.
#[derive(Clone, Debug)]
pub struct Federation {
    /// The `iss`; one of the declared issuers.
    pub issuer: String,
    /// The claims that must be equal.
    pub claims: Claims,
}

/// A program on the gateway's own machine, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The user that it runs as.
    pub uid: u32,
    /// The group that it runs as; any when absent.
    pub gid: Option<u32>,
    /// The file that it runs; absolute, without links.
    pub executable: PathBuf,
    /// The SHA-256 digest of that file in lower-case hexadecimal; any when absent, which `check` reports.
    pub sha256: Option<String>,
}

/// Claims by name, each with the one text that is accepted; a name with dots reaches into objects.
pub type Claims = BTreeMap<String, String>;

/// A public key of an agent.
#[derive(Clone, Debug)]
pub struct RegisteredKey {
    /// The key's id.
    pub kid: String,
    /// The public key as a JWK (RFC 7517).
    pub jwk: Value,
}

/// What an agent's credentials are like.
#[derive(Clone, Debug)]
pub struct CredentialRules {
    /// How long one lives; at most 15 minutes.
    pub ttl: Duration,
    /// What it is bound to.
    pub proof: Proof,
    /// The longest that one execution may be renewed.
    pub execution_max: Duration,
}

impl Default for CredentialRules {
    fn default() -> Self {
        Self { ttl: Duration::seconds(300), proof: Proof::Dpop, execution_max: Duration::seconds(8 * 3600) }
    }
}

/// What a credential is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A key, proven on each request (RFC 9449).
    Dpop,
    /// The certificate that the client shows in its TLS connection (RFC 8705 §3).
    Mtls,
    /// Nothing: whoever holds it may use it. Must be chosen, and `check` reports it.
    Bearer,
}

/// `servers/*.toml`: a tool server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// How it is reached.
    pub transport: Transport,
    /// What the broker presents to it.
    pub auth: BrokerAuth,
    /// Its declared tools, resources (`resource:URI`, also ending in `*`) and prompts (`prompt:NAME`), by their name there.
    pub tools: BTreeMap<String, Tool>,
}

impl Server {
    /// The agent that it is, where it is one.
    pub const fn behind(&self) -> Option<&Behind> {
        match &self.transport {
            Transport::A2a(behind) => Some(behind),
            Transport::Http(_) | Transport::Stdio { .. } | Transport::Elsewhere => None,
        }
    }

    /// The declaration that governs `name`, a tool of this server.
    pub fn tool(&self, name: &ToolName) -> Option<&Tool> {
        let own = name.tool();
        self.tools.get(own).or_else(|| {
            if !own.starts_with("resource:") && !own.starts_with("prompt:") {
                return None;
            }
            let covers = |pattern: &str| pattern.strip_suffix('*').is_some_and(|prefix| own.starts_with(prefix));
            self.tools.iter().filter(|(pattern, _)| covers(pattern)).max_by_key(|(pattern, _)| pattern.len()).map(|(_, tool)| tool)
        })
    }
}

/// How a tool server is reached.
#[derive(Clone, Debug)]
pub enum Transport {
    /// MCP over Streamable HTTP at this URL.
    Http(String),
    /// Not by this gateway: others make its calls and ask for the decisions.
    Elsewhere,
    /// MCP over the standard input and output of a program that the gateway starts: its words, its working directory
    /// and what it finds in its environment, which is otherwise empty but for `PATH`, `HOME` and the locale.
    Stdio {
        /// The program and its arguments.
        command: Vec<String>,
        /// Variables by name; a value `file:PATH` is read from that file, so that secrets stay out of the bundle.
        env: BTreeMap<String, String>,
        /// Where it runs; the bundle's directory when absent.
        directory: Option<PathBuf>,
    },
    /// Another agent, over A2A.
    A2a(Behind),
}

/// An agent that is reached over A2A.
#[derive(Clone, Debug, PartialEq)]
pub struct Behind {
    /// The URL of the agent or of its card.
    pub url: String,
    /// Which declared agent it is; nothing for an agent of others.
    pub agent: Option<AgentName>,
    /// The key that has to have signed its card, as a JWK.
    pub card_key: Option<Value>,
    /// The skills that are shown; all that were reviewed when absent.
    pub skills: Option<BTreeSet<String>>,
    /// Where news of its tasks may be sent, also inside of the house; elsewhere they are sent to public addresses alone.
    pub push: Below,
}

/// What the broker presents to a tool server.
#[derive(Clone, Debug)]
pub enum BrokerAuth {
    /// Nothing.
    None,
    /// A token from an authorization server by the client-credentials grant (RFC 6749 §4.4).
    ClientCredentials {
        /// The token endpoint.
        token_url: String,
        /// The client's id there.
        client_id: String,
        /// How the client authenticates: a secret in this file, or our own `private_key_jwt` when absent.
        secret_file: Option<PathBuf>,
        /// The scopes to ask for.
        scopes: Vec<String>,
        /// The resource to ask for (RFC 8707).
        resource: Option<String>,
    },
    /// A token from the upstream's authorization server in exchange for one of ours (RFC 8693), naming the subject and
    /// the agent as actor.
    TokenExchange {
        /// The token endpoint.
        token_url: String,
        /// The audience to ask for.
        audience: String,
        /// The scopes to ask for.
        scopes: Vec<String>,
    },
    /// A JWT of our own, signed by our issuer, naming the agent and the subject; for servers that trust our issuer.
    OwnJwt {
        /// Its audience.
        audience: String,
        /// `ES256` or `RS256`.
        algorithm: String,
        /// Whether each call is shown with a transaction token besides.
        txn: bool,
    },
    /// A secret from a file, put into a header. A last resort that `check` reports.
    Static {
        /// The header.
        header: String,
        /// Text before the secret, such as `Bearer `.
        prefix: String,
        /// The file that holds the secret.
        secret_file: PathBuf,
    },
}

/// A declared tool, resource or prompt.
#[derive(Clone, Debug)]
pub struct Tool {
    /// What it does.
    pub effect: Effect,
    /// The labels of what it returns; untrusted unless declared.
    pub returns: Returns,
    /// The arguments that say the place in the house which is read, as JSON pointers.
    pub place: Vec<String>,
    /// Its target arguments, by JSON pointer, and who may choose each. The empty pointer is every argument: so it is for a tool
    /// that sends, spends or administers, as long as nobody says which.
    pub targets: BTreeMap<String, Vec<Provenance>>,
    /// What happens to a call whose targets are not known to be chosen by one who may, or which carries what may not leave by it.
    pub otherwise: Otherwise,
    /// The confidentiality labels of data that may leave by it; absent, all may.
    pub audience: Option<BTreeSet<Arc<str>>>,
    /// The parties of its server that the house deals with.
    pub known: Arc<Parties>,
    /// The reviewed definition; a tool without one is held back. Resources and prompts have none and need none.
    pub pin: Option<Arc<Pin>>,
}

impl Returns {
    /// What is known of a result that nobody declared anything of.
    pub fn undeclared() -> Self {
        Self::of(Labels::undeclared())
    }

    /// A result whose fields are all as the whole.
    pub fn of(labels: Labels) -> Self {
        let whole = if labels.integrity == Integrity::Trusted { Provenance::Trusted } else { Provenance::Untrusted };
        Self { labels, fields: flow::Fields::all(whole) }
    }
}

impl Tool {
    /// Whether `party` is one that its server's file names.
    pub fn knows(&self, party: &str) -> bool {
        self.known.knows(party)
    }

    /// Whether its definition has been reviewed; `name` is the name that it was called by. A resource or a prompt has no
    /// definition that could be.
    pub fn is_reviewed(&self, name: &ToolName) -> bool {
        let own = name.tool();
        self.pin.is_some() || own.starts_with("resource:") || own.starts_with("prompt:")
    }
}

/// What a tool returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returns {
    /// The labels of the whole result.
    pub labels: Labels,
    /// Who vouches for its fields.
    pub fields: flow::Fields,
}

/// What happens to a call whose targets may not be what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// A person is asked.
    Ask,
    /// A person is asked where the task points at the place at which the value stands; otherwise it is denied.
    #[serde(rename = "ask-if-named")]
    AskIfNamed,
    /// It is denied.
    Deny,
}

/// A reviewed tool definition, as the server gave it.
#[derive(Clone, Debug)]
pub struct Pin {
    /// The digest of the definition's canonical form (RFC 8785).
    pub digest: Digest,
    /// The definition: an MCP `Tool` object.
    pub definition: Value,
}

impl Pin {
    /// The pin of `definition`. What a server offers is compared to what was reviewed by this digest alone.
    pub fn of(definition: Value) -> Self {
        Self { digest: Digest::of(super::canonical(&definition).as_bytes()), definition }
    }

    /// The names of its arguments and the words that they may be, as its input schema lists them: what any reader of the definition
    /// knows.
    pub fn words(&self) -> BTreeSet<&str> {
        let mut words = BTreeSet::new();
        listed(self.definition.get("inputSchema").unwrap_or(&Value::Null), &mut words);
        words
    }
}

/// Collects the names of members and the listed words of a JSON Schema, however deep.
fn listed<'s>(schema: &'s Value, words: &mut BTreeSet<&'s str>) {
    match schema {
        Value::Object(keywords) => {
            for (keyword, value) in keywords {
                match (keyword.as_str(), value) {
                    ("properties", Value::Object(members)) => words.extend(members.keys().map(String::as_str)),
                    ("enum", Value::Array(listed)) => words.extend(listed.iter().filter_map(Value::as_str)),
                    ("const", Value::String(word)) => drop(words.insert(word)),
                    _ => {}
                }
                listed(value, words);
            }
        }
        Value::Array(schemas) => schemas.iter().for_each(|schema| listed(schema, words)),
        _ => {}
    }
}
