//! A record: one entry of the log.
//!
//! A record is one JSON object. `kind`, `at`, `execution`, `agent`, `subject`, `tool`, `effect`, `verdict` and `code`
//! are its top-level members wherever they apply, so that an index needs to know nothing more of it.

use bailiwick_log::{Entry, Expected, Position};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::response::{Cautioned, Hold, Responded};
use super::{
    AgentName, Decision, Digest, Effect, ExecutionId, Found, Network, Protocol, RolledBack, ServerName, Settled, SpiffeId, Timestamp,
    ToolName,
};
use crate::identity::Grant;
use crate::ledger::Labels;
use crate::prose::Mark;

/// One entry of the log.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// The server started.
    Started(Started),
    /// A bundle came into force.
    BundleActivated(BundleActivated),
    /// A tool's definition differs from the reviewed one and is held back.
    ToolHeld(ToolHeld),
    /// An execution began, or its credential was renewed.
    ExecutionStarted(ExecutionStarted),
    /// A token for somebody else was issued to an execution.
    TokenIssued(TokenIssued),
    /// A call was decided. Written before anything is done.
    Intent(Intent),
    /// What came of an allowed call.
    Outcome(Outcome),
    /// Something was turned away before it was a call: an unknown credential, a malformed message.
    Refused(Refused),
    /// Something was revoked.
    Revoked(Revoked),
    /// An agent was quarantined, or still is.
    Quarantined(Quarantined),
    /// An agent was released.
    Released(Released),
    /// A person answered what a call was asked about.
    Answered(Answered),
    /// Another agent began a task.
    TaskBegun(TaskBegun),
    /// Somebody who vouches for people or agents told of one of them.
    Signal(Signal),
    /// What became of an upstream credential whose execution was stopped.
    CredentialTakenBack(CredentialTakenBack),
    /// What a tool server says of itself.
    ServerDescribed(ServerDescribed),
    /// Something was found out of the ordinary, or more of it.
    Finding(Found),
    /// A person said what a finding is.
    Settled(Settled),
    /// Something was done about a finding, or a person said what becomes of it.
    Response(Responded),
    /// An agent came under caution, or still is.
    Cautioned(Cautioned),
    /// What was learned of agents went back to an earlier day.
    BaselinesRolledBack(RolledBack),
}

impl Record {
    /// Reads an entry of the log; fails when it is not a record that this version knows.
    pub fn read(entry: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(entry)
    }

    /// When it was written.
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Started(Started { at, .. })
            | Self::BundleActivated(BundleActivated { at, .. })
            | Self::ToolHeld(ToolHeld { at, .. })
            | Self::ExecutionStarted(ExecutionStarted { at, .. })
            | Self::TokenIssued(TokenIssued { at, .. })
            | Self::Intent(Intent { at, .. })
            | Self::Outcome(Outcome { at, .. })
            | Self::Refused(Refused { at, .. })
            | Self::Revoked(Revoked { at, .. })
            | Self::Quarantined(Quarantined { at, .. })
            | Self::Released(Released { at, .. })
            | Self::Answered(Answered { at, .. })
            | Self::TaskBegun(TaskBegun { at, .. })
            | Self::Signal(Signal { at, .. })
            | Self::CredentialTakenBack(CredentialTakenBack { at, .. })
            | Self::ServerDescribed(ServerDescribed { at, .. })
            | Self::Finding(Found { at, .. })
            | Self::Settled(Settled { at, .. })
            | Self::Response(Responded { at, .. })
            | Self::Cautioned(Cautioned { at, .. })
            | Self::BaselinesRolledBack(RolledBack { at, .. }) => *at,
        }
    }
}

/// The server started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// When.
    pub at: Timestamp,
    /// The program's version.
    pub version: String,
    /// The bundle that it started with.
    pub bundle: Digest,
}

/// A bundle came into force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleActivated {
    /// When.
    pub at: Timestamp,
    /// The bundle's digest.
    pub bundle: Digest,
    /// The digest of the bundle before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// What it allows that the one before it did not, each as a word and what it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loosens: Vec<String>,
}

/// A tool's definition differs from the reviewed one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToolHeld {
    /// When it was seen.
    pub at: Timestamp,
    /// The tool.
    pub tool: ToolName,
    /// The digest of the reviewed definition; none when the tool was never reviewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed: Option<Digest>,
    /// The digest of the definition that the server offers now; none when it no longer offers the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Digest>,
    /// What is in the offered definition that is meant for a model and not for whoever reviews it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// The tools of other servers that it would be taken for, where it was never reviewed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub like: Vec<ToolName>,
}

/// What a tool server says of itself, when it is first spoken to since the start and whenever that changes. None of it is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDescribed {
    /// When.
    pub at: Timestamp,
    /// The server.
    pub server: ServerName,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it is reached: scheme and host of a URL, or the program.
    pub place: String,
}

/// One member of a delegation chain, as the bundle described it when it delegated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The agent.
    pub agent: SpiffeId,
    /// Who answers for it.
    pub owner: String,
    /// Its roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The execution in which it delegated.
    pub execution: ExecutionId,
    /// The place that the delegation takes among the records of that execution.
    pub sequence: u64,
    /// The `jti` of the credential by which it did; absent where the gateway delegated for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// An execution began, or its credential was renewed: what its credential says and how the agent proved itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecutionStarted {
    /// When.
    pub at: Timestamp,
    /// The bundle in force.
    pub bundle: Digest,
    /// The execution.
    pub execution: ExecutionId,
    /// Who acts now.
    pub agent: AgentName,
    /// On whose behalf; absent when the agent acts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The agents before the present one, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Member>,
    /// The person's own words, given when the execution started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What the execution may do at most; narrower than the agent's own permissions or equal to them.
    pub grant: Grant,
    /// The thumbprint (RFC 7638) of the key that the credential is bound to; absent for a bearer credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The `jti` of the credential; where `chain` is not empty and this is no renewal, of the delegation that the agent redeems
    /// for its first one.
    pub token: String,
    /// Whether this only renews the credential of an execution that began earlier.
    #[serde(default)]
    pub renewal: bool,
    /// When the credential expires.
    pub expires: Timestamp,
    /// How the agent proved itself, such as `private_key_jwt` with the key's id, or an issuer.
    pub proof: String,
    /// What a person allowed it by, or how the client that the person allowed goes on; absent where nobody signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<Box<SignIn>>,
}

/// A person's sign-in: the authorization-code flow, in which the client that a person uses is the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    /// A person allowed it, and a code was given out: `token` is the digest of the code's secret, and `expires` is the code's.
    Allowed(Allowed),
    /// The client has a refresh token beside its credential.
    Refresh(Refresh),
}

/// What a person allowed, which is all that the code is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The client: the URL of its metadata document, or the id that the bundle declares.
    pub client: String,
    /// Who allowed it.
    pub by: Person,
    /// Where the code was sent.
    pub redirect_uri: String,
    /// The challenge (RFC 7636, `S256`) whose verifier the client has to bring.
    pub challenge: String,
    /// Where credentials may be shown at most (RFC 8707).
    pub resources: Vec<String>,
    /// Whether the client proves itself by keys of its own (`private_key_jwt`).
    #[serde(default)]
    pub proves_itself: bool,
    /// The thumbprint of the key that the client named beforehand (RFC 9449 §10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The refresh token that is good now, by digests: whoever reads the log has no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// The digest of the part that all refresh tokens of the execution share.
    pub family: Digest,
    /// The digest of the part that this one has alone.
    pub present: Digest,
    /// When it expires.
    pub expires: Timestamp,
}

/// A token for somebody else, such as a cloud, was issued to an execution. Written before the token leaves the house; what is done with
/// it elsewhere is not seen here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenIssued {
    /// When.
    pub at: Timestamp,
    /// The bundle in force.
    pub bundle: Digest,
    /// The execution; absent for what a program of this host gets by the SPIFFE Workload API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// Who acts.
    pub agent: AgentName,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whom the token is for (`aud`); `x509-svid` for a certificate.
    pub audience: String,
    /// Its `jti`, or the certificate's digest.
    pub token: String,
    /// The `jti` of the credential that it was exchanged for, or what the kernel says of the program.
    pub by: String,
    /// When it expires.
    pub expires: Timestamp,
}

/// A call was decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// When.
    pub at: Timestamp,
    /// The bundle that it was decided under.
    pub bundle: Digest,
    /// The position of the log that the runtime state was folded up to.
    pub state: Position,
    /// The execution.
    pub execution: ExecutionId,
    /// The place of this record among those of its execution, from 0.
    pub sequence: u64,
    /// Who acts.
    pub agent: AgentName,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The tool that was asked for.
    pub tool: ToolName,
    /// What the tool does, as the bundle declares it.
    pub effect: Effect,
    /// The protocol that the call came by.
    pub protocol: Protocol,
    /// The protocol's own method.
    pub method: String,
    /// The network that it came from, where that is not the one that the execution's call before it came from at the same gateway;
    /// absent too where it is not known, as behind a proxy that nobody declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The digest of the arguments' exact text.
    pub arguments_digest: Digest,
    /// The arguments' exact text, unless it is longer than the log keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Box<RawValue>>,
    /// In their place, of a call that writes under untrusted influence: the words by which they are known again when they are read
    /// back, sealed for the house alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// What the ledger said when the call was judged.
    pub facts: crate::ledger::Facts,
    /// The labels of what the tool returns, as the bundle declares them: with the intent on disk, no crash makes the
    /// execution's ledger forget what the execution was shown. Absent for what nobody declared.
    #[serde(default = "Labels::undeclared", skip_serializing_if = "Labels::is_undeclared")]
    pub returns: Labels,
    /// The decision; its members stand beside these.
    #[serde(flatten)]
    pub decision: Decision,
}

/// How a forwarded call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The tool answered.
    Done,
    /// The tool answered that it failed, or did not answer.
    Failed,
    /// The caller went away, or the execution was revoked, before the tool had answered.
    Cancelled,
    /// Nobody knows: the gateway died in between.
    Unknown,
    /// Whoever asked for the decision makes the call; what came of it is not known here.
    Elsewhere,
}

/// What came of an allowed call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// When.
    pub at: Timestamp,
    /// The intent that it ends.
    pub intent: Position,
    /// The execution.
    pub execution: ExecutionId,
    /// The place of this record among those of its execution.
    pub sequence: u64,
    /// Who acted.
    pub agent: AgentName,
    /// The tool.
    pub tool: ToolName,
    /// How it ended.
    pub code: Ending,
    /// What the operator should know of it; empty when all went well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How many bytes the tool returned.
    pub bytes: u64,
    /// How long the tool took, in microseconds.
    pub duration_us: u64,
    /// The labels of what it returned.
    pub labels: Labels,
    /// Whether it tells a model what to do though its server vouches for it, for which it counts as untrusted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub instructs: bool,
}

/// Something was turned away before it was a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// Where: `token`, `authenticate`, `parse`, `introspect`, `revoke`, `authorize`, `login`, `approve`, `access`.
    pub stage: String,
    /// Why, as a stable code: the protocol's own error code where it has one.
    pub code: String,
    /// What the operator should know; never a credential.
    pub detail: String,
    /// The network address that it came from, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The agent that it claimed to be or was, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The execution, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
}

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// A whole execution, with every credential it has and all that descends from it.
    Execution(ExecutionId),
    /// One credential, by its `jti`, with what was delegated by it; the execution goes on with another.
    Token(String),
    /// Every execution that is under way for this person, and every token of the person's that was issued before.
    Subject(String),
    /// Every execution that is under way of this agent.
    Agent(AgentName),
    /// Every execution that is under way of the agents that this owner answers for.
    Owner {
        /// The owner.
        owner: String,
        /// The agents that the bundle in force gives that owner.
        agents: Vec<AgentName>,
    },
    /// Every execution that is under way, and every person's token that was issued before.
    All,
}

/// Something was revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revoked {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Revocation,
    /// The execution that it concerns, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// Who acts in that execution, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Who did it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The finding that it was done for by itself, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Digest>,
}

/// An agent was quarantined: nothing is done in any execution that it is part of until it is released. Said again now and then for as
/// long as it lasts, so that whoever reads back no more than a day of the log finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// When this was written.
    pub at: Timestamp,
    /// The agent.
    pub agent: AgentName,
    /// Since when it is quarantined.
    pub since: Timestamp,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The finding that it was done for by itself, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Digest>,
}

/// An agent was released from its quarantine and from any caution: its executions that have not ended go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// When.
    pub at: Timestamp,
    /// The agent.
    pub agent: AgentName,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What alone was lifted; absent, all that held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Hold>,
}

impl Released {
    /// Whether it lifts that.
    pub fn lifts(&self, hold: Hold) -> bool {
        self.only.is_none_or(|only| only == hold)
    }
}

/// A person, as whoever vouches for them says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who vouches: the issuer of the login, or `unix` for the machine's own users at the admin socket.
    pub issuer: String,
    /// The person's identifier with that issuer (OIDC `sub`), or the user's name.
    pub subject: String,
    /// How others know the person, such as an e-mail address that the issuer has verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A person answered what a call was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// When.
    pub at: Timestamp,
    /// The intent that asked.
    pub ask: Position,
    /// The execution that asked.
    pub execution: ExecutionId,
    /// Who acts.
    pub agent: AgentName,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The tool.
    pub tool: ToolName,
    /// The exact call, by [`super::Call::digest`].
    pub call: Digest,
    /// Whether it may be made, once.
    pub approved: bool,
    /// Whether the values that nobody who may had chosen are endorsed for the rest of the execution.
    #[serde(default)]
    pub endorses: bool,
    /// How long the approval can be used; the time of the answer where it was refused.
    pub until: Timestamp,
    /// Who answered.
    pub by: Person,
}

/// Another agent began a task, or a context, which belong to whom they were begun for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskBegun {
    /// When it was heard of.
    pub at: Timestamp,
    /// The server that the other agent is.
    pub server: ServerName,
    /// The execution that it was begun for.
    pub execution: ExecutionId,
    /// Who acts.
    pub agent: AgentName,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The task's id there; absent where only its context is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The context's id there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whose they are: the agent, whom it acts for and through which agents, as one digest.
    pub owner: Digest,
}

/// What came of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalEnd {
    /// Executions were revoked, and what was issued for the person before counts no more.
    Revoked,
    /// Agents were quarantined.
    Quarantined,
    /// Nothing: it is of a type that is only noted, or nobody of this house is meant.
    Noted,
    /// Nothing yet: its transmitter stopped too much within an hour, so a person says whether it is carried out.
    Held,
    /// Nothing, as a person said.
    Dismissed,
}

/// Somebody who vouches for people or agents told of one of them (a Security Event Token, RFC 8417), or a person said what becomes of
/// such a signal that was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// When it was dealt with.
    pub at: Timestamp,
    /// Who told of it, by its name in the bundle.
    pub transmitter: String,
    /// Its `jti`.
    pub token: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// The event's type.
    pub event: String,
    /// What came of it.
    pub code: SignalEnd,
    /// The person whom it is about, as this house names people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The agents that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentName>,
    /// Whom it names, where that is nobody of this house.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub named: String,
    /// Why, as the transmitter says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How many executions under way it stopped.
    #[serde(default)]
    pub executions: u64,
    /// The records of what was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Position>,
    /// The record of the held signal that this settles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settles: Option<Position>,
    /// Who settled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Whether an upstream credential was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenBack {
    /// The authorization server that gave it says so (RFC 7009).
    Done,
    /// That authorization server cannot, or does not for us.
    Impossible,
    /// It could not be asked before the credential was over by itself, or too many waited.
    Failed,
}

/// What became of the credential that the broker had got at an upstream for an execution which was then stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialTakenBack {
    /// When.
    pub at: Timestamp,
    /// The execution.
    pub execution: ExecutionId,
    /// Who acted.
    pub agent: AgentName,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The tool server that it was for.
    pub server: ServerName,
    /// Whether it was taken back.
    pub code: TakenBack,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

macro_rules! entry {
    ($($name:ident($of:ty) = $kind:literal),*) => {
        // By hand, since a derived one keeps each member in a buffer first, and a raw value cannot be read from that.
        impl<'de> Deserialize<'de> for Record {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                struct Tag {
                    kind: String,
                }
                let text = Box::<RawValue>::deserialize(deserializer)?;
                let Tag { kind } = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
                match kind.as_str() {
                    $($kind => serde_json::from_str(text.get()).map(Self::$name).map_err(serde::de::Error::custom),)*
                    _ => Err(serde::de::Error::unknown_variant(&kind, &[$($kind),*])),
                }
            }
        }

        $(
            impl From<$of> for Record {
                fn from(value: $of) -> Self {
                    Self::$name(value)
                }
            }

            impl Entry for $of {
                fn encode(&self, out: &mut Vec<u8>) {
                    // The derive on `Record` writes the same: its `kind`, then the members. This spares a clone.
                    #[derive(Serialize)]
                    #[serde(tag = "kind", rename_all = "snake_case")]
                    enum Borrowed<'a> {
                        $name(&'a $of),
                    }
                    write(&Borrowed::$name(self), out);
                }

                fn expected(&self) -> Option<Expected> {
                    Expects::expects(self)
                }
            }
        )*
    };
}

entry!(
    Started(Started) = "started",
    BundleActivated(BundleActivated) = "bundle_activated",
    ToolHeld(ToolHeld) = "tool_held",
    ExecutionStarted(ExecutionStarted) = "execution_started",
    TokenIssued(TokenIssued) = "token_issued",
    Intent(Intent) = "intent",
    Outcome(Outcome) = "outcome",
    Refused(Refused) = "refused",
    Revoked(Revoked) = "revoked",
    Quarantined(Quarantined) = "quarantined",
    Released(Released) = "released",
    Answered(Answered) = "answered",
    TaskBegun(TaskBegun) = "task_begun",
    Signal(Signal) = "signal",
    CredentialTakenBack(CredentialTakenBack) = "credential_taken_back",
    ServerDescribed(ServerDescribed) = "server_described",
    Finding(Found) = "finding",
    Settled(Settled) = "settled",
    Response(Responded) = "response",
    Cautioned(Cautioned) = "cautioned",
    BaselinesRolledBack(RolledBack) = "baselines_rolled_back"
);

/// Writes `value` as JSON. Serialising these types cannot fail; if it did, the entry would be empty and refused.
fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
    }
}

/// Which place of its execution a record claims.
trait Expects {
    fn expects(&self) -> Option<Expected> {
        None
    }
}

impl Expects for Started {}
impl Expects for BundleActivated {}
impl Expects for ToolHeld {}
impl Expects for TokenIssued {}
impl Expects for Refused {}
impl Expects for Revoked {}
impl Expects for Quarantined {}
impl Expects for Released {}
impl Expects for Answered {}
impl Expects for TaskBegun {}
impl Expects for Signal {}
impl Expects for CredentialTakenBack {}
impl Expects for ServerDescribed {}
impl Expects for Found {}
impl Expects for Settled {}
impl Expects for Responded {}
impl Expects for Cautioned {}
impl Expects for RolledBack {}

impl Expects for ExecutionStarted {
    /// A delegation is something that the delegating execution does: whoever goes on with that one has to know of it.
    fn expects(&self) -> Option<Expected> {
        let by = self.chain.first().filter(|_| !self.renewal)?;
        Some(Expected { stream: by.execution.as_u128(), sequence: by.sequence })
    }
}

impl Expects for Intent {
    fn expects(&self) -> Option<Expected> {
        Some(Expected { stream: self.execution.as_u128(), sequence: self.sequence })
    }
}

impl Expects for Outcome {
    fn expects(&self) -> Option<Expected> {
        Some(Expected { stream: self.execution.as_u128(), sequence: self.sequence })
    }
}
