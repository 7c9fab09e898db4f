//! What a person writes, as types whose JSON Schemas editors complete from and whose keys the reader knows.
//!
//! These types are read by nobody but [`schemars`]: their comments are what an editor shows. The reader takes the keys
//! that a table may have from here, so that the two cannot drift apart; `docs/spec/schema/` holds the schemas as files.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::{Approver, Otherwise, Proof};
use crate::detect::finding::{Kind, Level, Response};
use crate::detect::respond::Mode;
use crate::identity::platform::Platform;
use crate::ledger::{HistoryOf, Integrity};
use crate::model::{Caution, Effect};
use crate::signals::Action;

/// The keys that a table shaped like `T` may have.
pub(super) fn keys<T: JsonSchema>() -> Vec<String> {
    let schema = T::json_schema(&mut SchemaGenerator::default());
    schema.get("properties").and_then(Value::as_object).map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// The schemas by the kind of file, `bailiwick`, `issuers`, `agent`, `server` and `tests`.
pub fn schemas() -> [(&'static str, Schema); 5] {
    [
        ("bailiwick", of::<BailiwickFile>()),
        ("issuers", of::<IssuersFile>()),
        ("agent", of::<AgentFile>()),
        ("server", of::<ServerFile>()),
        ("tests", of::<TestsFile>()),
    ]
}

fn of<T: JsonSchema>() -> Schema {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>();
    without_null(schema.ensure_object());
    schema
}

/// TOML has no null: a key that may be absent is only not required.
fn without_null(object: &mut serde_json::Map<String, Value>) {
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            object.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(any)) = object.get_mut("anyOf") {
        any.retain(|one| one.get("type").and_then(Value::as_str) != Some("null"));
        if let [Value::Object(only)] = any.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
    for value in object.values_mut() {
        match value {
            Value::Object(inner) => without_null(inner),
            Value::Array(items) => items.iter_mut().filter_map(Value::as_object_mut).for_each(without_null),
            _ => {}
        }
    }
}

/// `bailiwick.toml`: the server itself.
#[derive(Debug, JsonSchema)]
#[schemars(title = "bailiwick.toml", deny_unknown_fields)]
pub struct BailiwickFile {
    /// The root of names, such as `acme.example`: agents are `spiffe://<trust domain>/agent/<name>`.
    pub trust_domain: String,
    /// Where the log, keys and index live; relative to the bundle. `.bailiwick` unless set.
    pub data_dir: Option<String>,
    /// The Unix socket on which programs of this machine ask for credentials; `identity.sock` in the data directory unless set.
    pub local_socket: Option<String>,
    /// The PEM file of your own certificate authorities, which are believed beside the public ones wherever this server calls
    /// others over TLS: tool servers, agents, token endpoints, issuers, webhooks.
    pub ca_file: Option<String>,
    /// The gateway's listener, which agents call.
    pub data: Option<ListenTable>,
    /// The token service's listener; its origin is the issuer of the credentials.
    pub identity: Option<ListenTable>,
    /// Where Envoy asks whether the requests of agents may pass (`ext_authz`, gRPC).
    pub ext_authz: Option<ListenTable>,
    /// How people are asked to approve calls, and how they answer.
    pub approvals: Option<ApprovalsTable>,
    /// What is done about what is found out of the ordinary, and who is told.
    pub respond: Option<RespondTable>,
    /// Bounds on what is accepted.
    pub limits: Option<LimitsTable>,
    /// Counters and sums over past calls, by name; policies see them as `context.history.<name>`.
    pub history: Option<BTreeMap<String, HistoryTable>>,
    /// Who is told of what is revoked, quarantined and released here (Shared Signals Framework).
    pub stream: Option<Vec<StreamTable>>,
    /// Detection rules; those of the bundle itself are files in `rules/`.
    pub rules: Option<RulesTable>,
}

/// Detection rules.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RulesTable {
    /// The rules that raise nothing, shipped ones or others, each by its `name` or `id`.
    pub off: Option<Vec<String>>,
}

/// Somebody who is told of what is revoked, quarantined and released here.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StreamTable {
    /// The stream's name, which is its `stream_id`: lower-case letters, digits and `-`.
    pub name: String,
    /// The `aud` of what is sent, as the receiver wants it.
    pub audience: String,
    /// The events that are sent: `session-revoked`, `risk-level-change`; both unless set.
    pub events: Option<Vec<String>>,
    /// Where they are sent; without it the receiver asks for them.
    pub push: Option<PushTable>,
    /// The agent whose credentials the receiver shows when it asks for them; in place of `push`.
    pub poll_by: Option<String>,
}

/// Where events are sent (RFC 8935).
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PushTable {
    /// The receiver's address.
    pub url: String,
    /// The file with the value of the `Authorization` header that the receiver wants, such as `Bearer …`; none is sent unless set.
    pub authorization_file: Option<String>,
    /// The PEM file of the certificate authorities by which the receiver is believed; the public ones unless set.
    pub ca_file: Option<String>,
}

/// A listener.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ListenTable {
    /// An address and a port, such as `127.0.0.1:8480`.
    pub listen: Option<String>,
    /// Its address as others see it, `https://host[:port]`, without a path. Derived from `listen` unless set.
    pub origin: Option<String>,
    /// The certificate and key for TLS; needed beyond loopback unless a proxy ends TLS.
    pub tls: Option<TlsTable>,
    /// The browser origins that may call it.
    pub allowed_origins: Option<Vec<String>>,
    /// The proxies before it, as addresses or blocks such as `10.0.0.0/8`: of a request that comes from one, what it adds to
    /// `X-Forwarded-For` says where it came from. Nobody else's word counts. Only `data` uses it.
    pub proxies: Option<Vec<String>>,
}

/// A certificate and its key.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TlsTable {
    /// The certificate chain, a PEM file.
    pub cert: String,
    /// The private key, a PEM file.
    pub key: String,
}

/// How people are asked to approve calls, and how they answer.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ApprovalsTable {
    /// Where the page listens on which people answer, such as `127.0.0.1:8482`; without it they answer by `bailiwick approvals`.
    pub listen: Option<String>,
    /// Its address as people see it, `https://host[:port]`, without a path. Derived from `listen` unless set.
    pub origin: Option<String>,
    /// The certificate and key for TLS; needed beyond loopback unless a proxy ends TLS.
    pub tls: Option<TlsTable>,
    /// How people prove who they are on that page.
    pub login: Option<LoginTable>,
    /// Who is told of each ask and each answer.
    pub webhook: Option<WebhookTable>,
    /// How long an ask waits for an answer; `"15m"` unless set.
    pub expires: Option<String>,
    /// How long an approval can be used; `"5m"` unless set.
    pub valid: Option<String>,
    /// How often one execution may ask, equal asks counted once; 16 unless set. Beyond it, what needs an approval is denied.
    pub asks_max: Option<u64>,
    /// How long a call is held open for an answer before its agent is told to come back; not at all unless set.
    pub hold: Option<String>,
    /// Who may answer: `anyone` who is an approver (unless set), or `not-subject`, only others than the person acted for.
    pub approver: Option<Approver>,
}

/// How people prove who they are: by OpenID Connect.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LoginTable {
    /// The issuer, by its name in `issuers.toml` or its URL.
    pub issuer: String,
    /// The id under which it knows Bailiwick; the redirect URI there is the page's origin and `/callback`.
    pub client_id: String,
    /// The file that holds the client's secret; a public client unless set.
    pub secret_file: Option<String>,
    /// The scopes to ask for; `openid`, `profile` and `email` unless set.
    pub scopes: Option<Vec<String>>,
    /// The claims that a person who may answer has, at least one; of a claim that is a list, one of its values.
    pub claims: BTreeMap<String, String>,
}

/// What is done about what is found out of the ordinary, and who is told.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RespondTable {
    /// Whether it is done: `dry_run` (unless set) only records what would be; `act` does it. People are told in both.
    pub mode: Option<Mode>,
    /// How many agents and executions may be stopped within an hour before a person says what becomes of the rest; 5 unless set.
    pub stops_per_hour: Option<u64>,
    /// What is done when, in order: the first that fits decides, and otherwise what the detector's author says.
    pub when: Option<Vec<WhenTable>>,
    /// Who is told.
    pub notify: Option<Vec<NotifyTable>>,
}

/// What is done about findings that are like this; what is not said fits all.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WhenTable {
    /// What raised it: ids of rules, names of scores or entries of the catalogue, in which `*` stands for any text.
    pub rules: Option<Vec<String>>,
    /// The least level: `low`, `medium`, `high` or `critical`.
    pub level: Option<Level>,
    /// The kinds of detector: `rule`, `correlation`, `behaviour`, `sequence`.
    pub kinds: Option<Vec<Kind>>,
    /// The agents that it is about, in which `*` stands for any text.
    pub agents: Option<Vec<String>>,
    /// Who answers for those agents, in which `*` stands for any text.
    pub owners: Option<Vec<String>>,
    /// What is done: `record`, `notify`, `lower` (policies see the agent as suspect), `ask` (its effects need a person), `quarantine`,
    /// `revoke` (its execution and all that descends from it).
    #[schemars(rename = "do")]
    pub does: Response,
}

/// Somebody who is told of what is found: one of `webhook`, `slack`, `syslog` and `otlp`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NotifyTable {
    /// The least level of findings; `low` unless set. Of what waits for a person everybody is told.
    pub level: Option<Level>,
    /// A program that takes signed messages (Standard Webhooks).
    pub webhook: Option<WebhookTable>,
    /// A channel, by an incoming webhook as Slack has them.
    pub slack: Option<SlackTable>,
    /// A syslog collector (RFC 5424): `udp://host:port`, `tcp://host:port` or `unix:///dev/log`.
    pub syslog: Option<String>,
    /// A collector of OpenTelemetry logs: `https://host/v1/logs`.
    pub otlp: Option<String>,
    /// The file with the value of the `Authorization` header that the collector of `otlp` wants; none is sent unless set.
    pub authorization_file: Option<String>,
}

/// A channel.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SlackTable {
    /// The file that holds the incoming webhook's URL, which is a secret.
    pub url_file: String,
}

/// Where signed messages are posted.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WebhookTable {
    /// Where a message is posted.
    pub url: String,
    /// The file that holds the secret that messages are signed with: `whsec_` and base64 (Standard Webhooks).
    pub secret_file: String,
}

/// A number of bytes, or a text such as `"4MiB"`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// A whole number and `B`, `KiB`, `MiB` or `GiB`.
    Text(String),
}

/// Bounds on what is accepted.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LimitsTable {
    /// The largest request body.
    pub body_bytes_max: Option<Size>,
    /// The deepest nesting of a message.
    pub depth_max: Option<u64>,
    /// How long a client may take over a request's head, and again over its body, such as `"30s"`. Read at start only.
    pub request_timeout: Option<String>,
    /// The largest single message that an upstream may send.
    pub reply_bytes_max: Option<Size>,
    /// How long an upstream may take to begin its answer and between two messages, such as `"60s"`.
    pub upstream_timeout: Option<String>,
    /// The longest that one call may take altogether, such as `"10m"`.
    pub call_timeout: Option<String>,
    /// The longest argument text that the log keeps; of longer ones it keeps the digest.
    pub arguments_logged_max: Option<Size>,
    /// The most that is kept of what one execution was shown, to trace values by: from 16 KiB to 64 MiB. What falls out is unknown.
    pub ledger_bytes_max: Option<Size>,
    /// The most that is kept of what all executions together were shown: from 16 MiB to 1 TiB. Each may keep a 1024th of what is left.
    pub ledgers_bytes_max: Option<Size>,
    /// The most that is kept of what is written to one server under untrusted influence: from 64 KiB to 16 GiB. Beyond it, people are asked.
    pub written_bytes_max: Option<Size>,
    /// The most calls under way at once.
    pub calls_max: Option<u64>,
    /// The most calls of one execution under way at once.
    pub calls_per_execution_max: Option<u64>,
    /// The most agents in one chain of delegations, the one that acts included; 1 lets nobody delegate.
    pub chain_max: Option<u64>,
    /// In how many executions about one may be told to people as unlike its agent though nothing is wrong; 1000 unless said otherwise.
    pub executions_per_alert: Option<u64>,
}

/// A counter or sum over past calls.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HistoryTable {
    /// The tools whose allowed calls it counts: `server/tool` or `server/*`.
    pub tools: Vec<String>,
    /// The argument whose value is added up, as a JSON pointer; calls are counted unless set.
    pub sum: Option<String>,
    /// The argument by whose value calls are told apart, as a JSON pointer.
    pub by: Option<String>,
    /// How long a call counts, such as `"1h"`; until the execution ends unless set.
    pub within: Option<String>,
    /// Whether it is kept for each execution (unless set) or for the agent over all its executions.
    pub of: Option<HistoryOf>,
}

/// `issuers.toml`: who may vouch for workloads.
#[derive(Debug, JsonSchema)]
#[schemars(title = "issuers.toml", deny_unknown_fields)]
pub struct IssuersFile {
    /// The issuers.
    pub issuer: Vec<IssuerTable>,
    /// Those of them, or others for them, who tell of people and agents that must not go on (Shared Signals Framework).
    pub transmitter: Option<Vec<TransmitterTable>>,
    /// Others who detect, and send what they found: Amazon GuardDuty, by EventBridge.
    pub reporter: Option<Vec<ReporterTable>>,
}

/// Somebody else who detects, and sends what was found.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReporterTable {
    /// Its name, which is the end of the address that it sends to, `/reports/NAME`: lower-case letters, digits and `-`.
    pub name: String,
    /// The file with the value of the `Authorization` header that it has to send along.
    pub authorization_file: String,
    /// The accounts of AWS whose findings are taken; of every one unless set.
    pub accounts: Option<Vec<String>>,
    /// The roles of the agents, by their ARNs: what is found about a session of one is of the execution or the agent that names it.
    pub roles: Option<Vec<String>>,
}

/// Who tells of people and agents that an issuer vouches for.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TransmitterTable {
    /// Its name, by which it is told apart in records and in the address that it sends to: lower-case letters, digits and `-`.
    pub name: String,
    /// The issuer whose people and agents it may speak of, by its name or URL.
    pub of: String,
    /// The `iss` of what it sends; the URL of that issuer unless set.
    pub issuer: Option<String>,
    /// Where its keys are; found by the discovery of the Shared Signals Framework unless this, `jwks` or `jwks_file` is set.
    pub jwks_uri: Option<String>,
    /// Its keys themselves, a JWK set.
    pub jwks: Option<BTreeMap<String, Value>>,
    /// The file that holds its keys, a JWK set.
    pub jwks_file: Option<String>,
    /// The PEM file of the certificate authorities by which its servers are believed; the issuer's unless set.
    pub ca_file: Option<String>,
    /// The audience that it must name; our own issuer's URL unless set.
    pub audience: Option<String>,
    /// The signature algorithms that are accepted; `RS256` and `ES256` unless set.
    pub algorithms: Option<Vec<String>>,
    /// Whether it may stop people; unless set, it may.
    pub people: Option<bool>,
    /// The agents that it may stop by their SPIFFE ids, beside those that prove themselves by its issuer's tokens.
    pub agents: Option<Vec<String>>,
    /// How many of its signals may stop something within an hour, before a person is asked; 100 unless set.
    pub per_hour: Option<u64>,
    /// What each event does, by its name such as `session-revoked`.
    pub on: Option<BTreeMap<String, Action>>,
    /// The file with the value of the `Authorization` header that it has to send along; none is asked for unless set.
    pub authorization_file: Option<String>,
    /// Where it is asked for signals; without it, it sends them.
    pub poll: Option<PollTable>,
}

/// Where a transmitter is asked for signals (RFC 8936).
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PollTable {
    /// Its address.
    pub url: String,
    /// The file with the value of the `Authorization` header that it wants, such as `Bearer …`; read each time.
    pub authorization_file: Option<String>,
    /// Where a token for it is had, by the client-credentials grant; we prove ourselves by our own issuer's key.
    pub token_url: Option<String>,
    /// Our client id there; our own issuer's URL unless set.
    pub client_id: Option<String>,
}

/// An issuer.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct IssuerTable {
    /// The name by which agents refer to it.
    pub name: String,
    /// The `iss` of its tokens; `spiffe://<trust domain>` of a SPIFFE trust domain.
    pub issuer: String,
    /// Whose tokens they are, which says what they are like: known from `issuer` for the public ones, else `oidc`.
    pub kind: Option<Platform>,
    /// Where its keys are; found by OIDC discovery unless this, `jwks` or `jwks_file` is set.
    pub jwks_uri: Option<String>,
    /// Its keys themselves, a JWK set.
    pub jwks: Option<BTreeMap<String, Value>>,
    /// The file that holds its keys, a JWK set.
    pub jwks_file: Option<String>,
    /// With `kind = "spiffe"`: the SPIFFE id of the server at `jwks_uri`, which then proves itself by an X.509-SVID; `jwks` or
    /// `jwks_file` is the bundle that it is believed by at first.
    pub endpoint_id: Option<String>,
    /// With `kind = "spiffe"`: the address of the Workload API that its bundle is read from, such as `unix:///run/spire/agent.sock`.
    pub workload_api: Option<String>,
    /// The audience that its tokens must name; our own issuer's URL unless set.
    pub audience: Option<String>,
    /// The signature algorithms that are accepted; those that its kind signs with unless set.
    pub algorithms: Option<Vec<String>>,
    /// The PEM file of the certificate authorities by which its servers are believed; the public ones unless set.
    pub ca_file: Option<String>,
    /// The file with a bearer token to show when its keys are read, as a Kubernetes API server wants it.
    pub token_file: Option<String>,
    /// With `kind = "kubernetes"`: ask the API server about each token too, so that one of a deleted pod is refused.
    pub review: Option<ReviewTable>,
    /// With `kind = "aws"`: the account whose principals it vouches for.
    pub account: Option<String>,
    /// With `kind = "aws"` and an STS as `issuer`: where that STS is reached in its place, such as a VPC endpoint.
    pub endpoint: Option<String>,
}

/// Where a Kubernetes API server reviews tokens.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReviewTable {
    /// The API server's URL, such as `https://kubernetes.default.svc`.
    pub url: String,
    /// The PEM file of the certificate authorities by which it is believed; the issuer's `ca_file` unless set.
    pub ca_file: Option<String>,
    /// The file with the token of an account that may create token reviews; the issuer's `token_file` unless set.
    pub token_file: Option<String>,
}

/// `agents/*.toml`: an agent.
#[derive(Debug, JsonSchema)]
#[schemars(title = "agents/*.toml", deny_unknown_fields)]
pub struct AgentFile {
    /// The agent.
    pub agent: AgentTable,
}

/// An agent.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AgentTable {
    /// Its name: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// Its roles, which policies may speak of.
    pub roles: Option<Vec<String>>,
    /// The public keys by which it may prove itself.
    pub key: Option<Vec<KeyTable>>,
    /// The tokens of others by which a workload proves that it is this agent.
    pub federation: Option<Vec<FederationTable>>,
    /// The tokens of people that are meant for it, beside those that name it (`may_act`, `azp` or `client_id`).
    pub subject: Option<Vec<FederationTable>>,
    /// The clients of people that are this agent: who signs in by one acts through it.
    pub client: Option<Vec<ClientTable>>,
    /// What its credentials are like.
    pub credential: Option<CredentialTable>,
    /// For whom else it may have tokens of ours: clouds, Kubernetes API servers.
    pub outbound: Option<Vec<OutboundTable>>,
    /// Whether its programs on this machine have an X.509-SVID of our trust domain, by the SPIFFE Workload API.
    pub x509_svid: Option<bool>,
    /// What it may do; nothing unless set.
    pub may: Option<MayTable>,
}

/// A public key of an agent.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeyTable {
    /// The key's id.
    pub kid: String,
    /// The public key as a JWK.
    pub jwk: BTreeMap<String, Value>,
}

/// A token of this issuer with these claims proves that a workload is the agent, or that a person meant the agent to act. As a federation,
/// a program of the gateway's own machine may be the agent in its place.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FederationTable {
    /// The issuer, by its name in `issuers.toml` or its URL.
    pub issuer: Option<String>,
    /// The claims that must be equal, at least one.
    pub claims: Option<BTreeMap<String, String>>,
    /// In their place: the program that asks over the socket `identity.sock` in the data directory.
    pub local: Option<LocalTable>,
}

/// A client of a person's, such as an MCP client, that is the agent once the person has signed in by it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClientTable {
    /// Its client id: the `https` URL of its metadata document, or, of a client that has none, an id that it is set up with.
    pub id: String,
    /// The issuer of `approvals.login`, by its name in `issuers.toml` or its URL: where the people log in.
    pub issuer: String,
    /// The claims of the people who may sign in, at least one; of a claim that is a list, one of its values.
    pub claims: BTreeMap<String, String>,
    /// What people are told that it is; for a client without a document.
    pub name: Option<String>,
    /// Where its answers go; for a client without a document. On the person's own machine any port will do.
    pub redirect_uris: Option<Vec<String>>,
    /// The PEM file of the certificate authorities by which the server of its document is believed, which may then be inside the house;
    /// the public ones, at public addresses, unless set.
    pub ca_file: Option<String>,
}

/// A program on the gateway's own machine.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LocalTable {
    /// The number of the user that it runs as.
    pub uid: u32,
    /// The number of the group that it runs as; any unless set.
    pub gid: Option<u32>,
    /// The file that it runs: an absolute path, without links.
    pub executable: String,
    /// The SHA-256 digest of that file, as `sha256sum` prints it; any unless set.
    pub sha256: Option<String>,
}

/// What an agent's credentials are like.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CredentialTable {
    /// How long one lives, at most `"15m"`; `"5m"` unless set.
    pub ttl: Option<String>,
    /// What it is bound to; `"dpop"` unless set.
    pub proof: Option<Proof>,
    /// The longest that one execution may be renewed; `"8h"` unless set.
    pub execution_max: Option<String>,
}

/// Somebody who accepts our tokens of this agent.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OutboundTable {
    /// The one audience of the token, such as `sts.amazonaws.com` or `api://AzureADTokenExchange`.
    pub audience: String,
    /// What it is signed with: `"RS256"`, which all clouds take, unless set to `"ES256"`.
    pub algorithm: Option<OutboundAlgorithm>,
    /// How long it lives, at most `"1h"`; `"5m"` unless set.
    pub ttl: Option<String>,
    /// The AWS session tags that it carries; `"{agent}"`, `"{owner}"`, `"{subject}"` and `"{execution}"` stand for what they name.
    pub tags: Option<BTreeMap<String, String>>,
    /// The AWS source identity that it carries: the person (or the agent where it acts for none), or the agent.
    pub source_identity: Option<OutboundIdentity>,
    /// Whether an execution gets it also after it has read what a third party may have written, or what is confidential.
    pub after_untrusted: Option<bool>,
    /// The audience is another domain's authorization server, and is given an identity assertion (ID-JAG).
    pub id_jag: Option<IdJagTable>,
}

/// What an identity assertion for another domain's authorization server says.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct IdJagTable {
    /// The agent's client id at that authorization server.
    pub client_id: String,
    /// The resource there, such as an MCP server's URL.
    pub resource: String,
    /// The scopes that the assertion names; the server decides unless set.
    pub scopes: Option<Vec<String>>,
}

/// What a token for others is signed with.
#[derive(Clone, Copy, Debug, JsonSchema)]
pub enum OutboundAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[schemars(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[schemars(rename = "ES256")]
    Es256,
}

/// Whom a token for others names as the source of what is done with it.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum OutboundIdentity {
    /// The person on whose behalf the agent acts.
    Subject,
    /// The agent.
    Agent,
}

/// What an agent may do.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MayTable {
    /// What it may ever call: `server/tool`, `server/*`, `server/resource:URI`, `server/prompt:NAME`.
    pub call: Option<Vec<String>>,
    /// The agents that it may delegate to.
    pub delegate_to: Option<Vec<String>>,
    /// The agents about whose calls it may ask for decisions, because it enforces them elsewhere; `["*"]` for all.
    pub decide_for: Option<Vec<String>>,
    /// How many calls it may make.
    pub budget: Option<BudgetTable>,
}

/// How many calls an agent may make.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BudgetTable {
    /// How many.
    pub calls: u64,
    /// In what.
    pub per: Option<BudgetPer>,
}

/// What a budget is for.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum BudgetPer {
    /// One execution.
    Execution,
}

/// `servers/*.toml`: a tool server.
#[derive(Debug, JsonSchema)]
#[schemars(title = "servers/*.toml", deny_unknown_fields)]
pub struct ServerFile {
    /// The server.
    pub server: ServerTable,
    /// Its tools by name. A tool that is not here may not be called.
    pub tools: Option<BTreeMap<String, ToolTable>>,
    /// Its resources by URI, or by the beginning of a URI and `*`.
    pub resources: Option<BTreeMap<String, ReadTable>>,
    /// Its prompts by name, or `*`.
    pub prompts: Option<BTreeMap<String, ReadTable>>,
}

/// A tool server.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ServerTable {
    /// Its name: lower-case letters, digits, `-` and single `_`.
    pub name: String,
    /// The URL of an MCP server over Streamable HTTP. One of this, `stdio`, `a2a` and `elsewhere`.
    pub mcp: Option<String>,
    /// The program that is an MCP server, and its arguments.
    pub stdio: Option<Vec<String>>,
    /// The URL of another agent that speaks A2A, or of its agent card. Instead of `mcp`, `stdio` and `elsewhere`.
    pub a2a: Option<String>,
    /// With `a2a`: the declared agent that is behind it. Who sends it a message needs `delegate_to`, and what it then does is done for
    /// the sender. Without it, it is an agent of others.
    pub agent: Option<String>,
    /// With `a2a`: the public key, as a JWK, that has to have signed its card.
    pub card_key: Option<BTreeMap<String, Value>>,
    /// With `a2a`: the skills that others are shown; those that were reviewed unless set.
    pub skills: Option<Vec<String>>,
    /// With `a2a`: URLs that those who have it act may be sent news of its tasks at, or below. They may be inside of the house, and who
    /// chose them is not asked.
    pub push: Option<Vec<String>>,
    /// Others make its calls, and only ask for the decisions (AuthZEN).
    pub elsewhere: Option<bool>,
    /// With `stdio`: variables of its environment; a value `file:PATH` is read from that file.
    pub env: Option<BTreeMap<String, String>>,
    /// With `stdio`: where it runs; the bundle's directory unless set.
    pub directory: Option<String>,
    /// What the gateway presents to it; nothing unless set.
    pub auth: Option<AuthTable>,
    /// The parties with whom those for whom agents act deal here, as its tools name them: accounts, members, addresses. A target
    /// that is one of them as a whole is `known`.
    pub known: Option<Vec<String>>,
}

/// What the gateway presents to a tool server: exactly one of `none`, `oauth`, `jwt` and `static`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AuthTable {
    /// Nothing.
    pub none: Option<bool>,
    /// A token from an authorization server.
    pub oauth: Option<OauthGrant>,
    /// With `oauth`: the token endpoint.
    pub token_url: Option<String>,
    /// With `oauth = "client-credentials"`: the client's id.
    pub client_id: Option<String>,
    /// With `oauth = "client-credentials"`: the file that holds the client's secret; `private_key_jwt` unless set.
    pub secret_file: Option<String>,
    /// With `oauth`: the scopes to ask for.
    pub scopes: Option<Vec<String>>,
    /// With `oauth = "client-credentials"`: the resource to ask for.
    pub resource: Option<String>,
    /// With `oauth = "token-exchange"`: the audience to ask for.
    pub audience: Option<String>,
    /// A JWT of our own, for servers that trust our issuer.
    pub jwt: Option<JwtTable>,
    /// A secret from a file, put into a header: a last resort.
    pub r#static: Option<StaticTable>,
}

/// How a token is got.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum OauthGrant {
    /// The client-credentials grant.
    ClientCredentials,
    /// In exchange for one of ours.
    TokenExchange,
}

/// A JWT of our own.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct JwtTable {
    /// Its audience.
    pub audience: String,
    /// `ES256` (unless set) or `RS256`.
    pub algorithm: Option<String>,
    /// Whether each call brings a transaction token too, in the header `Txn-Token`: who acts, through whom, and which call it is.
    pub txn: Option<bool>,
}

/// A secret in a header.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StaticTable {
    /// The header; `Authorization` unless set.
    pub header: Option<String>,
    /// Text before the secret; `Bearer ` for the header `Authorization`, and otherwise nothing, unless set.
    pub prefix: Option<String>,
    /// The file that holds the secret.
    pub secret_file: String,
}

/// A tool.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ToolTable {
    /// What it does.
    pub effect: Effect,
    /// The labels of what it returns; untrusted unless set.
    pub returns: Option<ReturnsTable>,
    /// The argument, or several, that says which place in the house is read; with `returns.named`.
    pub place: Option<OneOrMore>,
    /// The arguments that choose who or what is acted on, each with who may choose it: `task`, `trusted`, `minted`,
    /// `known`, `endorsed`, `named`.
    /// Left out of a tool that sends, spends or administers, every argument is a target; `{}` is none.
    pub targets: Option<BTreeMap<String, Vec<Provenance>>>,
    /// What happens to a call whose targets were not chosen by one who may; `ask` unless set. With `ask-if-named`, a person is
    /// asked only about what stands at a place that the task points at.
    pub otherwise: Option<Otherwise>,
    /// The labels of data that may leave by this tool: one or several; `[]` is none. Left out, all may.
    pub audience: Option<OneOrMore>,
}

/// A resource or a prompt, which is only read.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReadTable {
    /// The labels of what it returns; untrusted unless set.
    pub returns: Option<ReturnsTable>,
}

/// The labels of what a tool returns.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReturnsTable {
    /// Whether it may be believed; `untrusted` unless set.
    pub integrity: Option<Integrity>,
    /// Who it is for: a label or several, or each label with the fields that carry it.
    pub confidentiality: Option<Confidentiality>,
    /// The fields that the service itself makes, such as ids, times and amounts, as JSONPaths (names, indexes and `*`).
    pub minted: Option<Vec<String>>,
    /// The fields that the server vouches for, in a result that is otherwise untrusted.
    pub trusted: Option<Vec<String>>,
    /// The fields, in a result that is otherwise untrusted, that say what was said at the place which `place` names: where the
    /// task names the place too, they may choose what grants it to `named`.
    pub named: Option<Vec<String>>,
    /// The fields that a third party writes or chooses, such as a description or a sender's name, in one that is otherwise trusted.
    pub untrusted: Option<Vec<String>>,
}

/// Who a result is for.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Confidentiality {
    /// All of it carries this label.
    One(String),
    /// All of it carries these labels.
    More(Vec<String>),
    /// Each label, with the fields that carry it, as JSONPaths (names, indexes and `*`).
    Fields(BTreeMap<String, Vec<String>>),
}

/// One text or several.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

/// Who may choose a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Provenance {
    /// The person's own words.
    Task,
    /// Results that the server vouches for.
    Trusted,
    /// Fields that the service itself makes.
    Minted,
    /// Parties that the subject dealt with before.
    Known,
    /// Values that a named person approved.
    Endorsed,
    /// What is said at a place that the person's own words point at.
    Named,
}

/// `tests/*.toml`: what the bundle is expected to decide.
#[derive(Debug, JsonSchema)]
#[schemars(title = "tests/*.toml", deny_unknown_fields)]
pub struct TestsFile {
    /// The expectations.
    pub expect: Vec<ExpectTable>,
}

/// This agent, this call: this decision.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExpectTable {
    /// The agent.
    pub agent: String,
    /// The agents that it acts for, nearest first; none unless set.
    pub acts_for: Option<Vec<String>>,
    /// On whose behalf.
    pub subject: Option<String>,
    /// The person's own words.
    pub task: Option<String>,
    /// The tool, `server/tool`.
    pub tool: String,
    /// The arguments; none unless set.
    pub arguments: Option<BTreeMap<String, Value>>,
    /// Tools that the execution has called before, whose results it has read.
    pub after: Option<Vec<String>>,
    /// The caution under which the agent is, since something was found about it: `suspect` or `ask`; none unless set.
    pub caution: Option<Caution>,
    /// When, as RFC 3339; now unless set.
    pub at: Option<String>,
    /// What is decided.
    pub decision: ExpectedVerdict,
    /// The code of the decision, such as `not_in_role`.
    pub code: Option<String>,
}

/// What is decided.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ExpectedVerdict {
    /// The call goes ahead.
    Allow,
    /// The call ends here.
    Deny,
    /// A person is asked.
    Ask,
}
