//! Reading `[[transmitter]]` of `issuers.toml` and `[[stream]]` of `bailiwick.toml`: who tells us of people and agents that must not go
//! on, and whom we tell of what is stopped here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml::Spanned;

use super::fields::{Fields, shown};
use super::issuers::{algorithms, check_url, file_of, keys};
use super::problem::suggest;
use super::{Agent, Issuer, Keys, schema};
use crate::identity::platform::Platform;
use crate::model::AgentName;
use crate::signals::{Action, Kind};

/// How many signals of one transmitter may stop something within an hour, unless the bundle says otherwise.
const PER_HOUR: u64 = 100;

/// Who tells us, and whom we tell.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Who tells us of people and agents, by name.
    pub transmitters: BTreeMap<String, Transmitter>,
    /// Whom we tell of ours, by name.
    pub streams: BTreeMap<String, Stream>,
}

/// Who tells us of people and agents that an issuer vouches for.
#[derive(Clone, Debug)]
pub struct Transmitter {
    /// Its name.
    pub name: String,
    /// Who signs what it sends: its `iss`, and where its keys are.
    pub signer: Issuer,
    /// The name of the issuer whose people and agents it may speak of.
    pub of: String,
    /// The audience that it must name; our own issuer's URL when absent.
    pub audience: Option<String>,
    /// Whether it may stop people.
    pub people: bool,
    /// The agents that it may stop by their SPIFFE ids.
    pub agents: BTreeSet<AgentName>,
    /// How many of its signals may stop something within an hour.
    pub per_hour: usize,
    /// What each event does where that is not what it does by itself.
    pub on: BTreeMap<Kind, Action>,
    /// The file with what its requests must have in their `Authorization` header.
    pub authorization_file: Option<PathBuf>,
    /// Where it is asked; it sends by itself when absent.
    pub poll: Option<Poll>,
}

impl Transmitter {
    /// What an event of this type does.
    pub fn does(&self, kind: Kind) -> Action {
        self.on.get(&kind).copied().unwrap_or_else(|| kind.does())
    }
}

/// Where a transmitter is asked for signals (RFC 8936).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Its address.
    pub url: String,
    /// The file with the value of the `Authorization` header.
    pub authorization_file: Option<PathBuf>,
    /// Where a token for it is had in its place.
    pub token_url: Option<String>,
    /// Our client id there; our issuer's URL when absent.
    pub client_id: Option<String>,
}

/// Somebody who is told of what is stopped here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name, which is its `stream_id`.
    pub name: String,
    /// The `aud` of what is sent.
    pub audience: String,
    /// The events that are sent.
    pub events: BTreeSet<Kind>,
    /// How they reach the receiver.
    pub delivery: Delivery,
}

impl Stream {
    /// Whether it is sent, and not asked for.
    pub const fn is_pushed(&self) -> bool {
        matches!(self.delivery, Delivery::Push { .. })
    }
}

/// How signals reach their receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// They are sent there (RFC 8935).
    Push {
        /// The receiver's address.
        url: String,
        /// The file with the value of the `Authorization` header.
        authorization_file: Option<PathBuf>,
        /// The certificate authorities by which the receiver is believed; the public ones when absent.
        ca_file: Option<PathBuf>,
    },
    /// The receiver asks for them with a credential of this agent (RFC 8936).
    Poll {
        /// The agent.
        by: AgentName,
    },
}

/// Reads the transmitters.
pub(super) fn transmitters(
    file: &Fields<'_>,
    issuers: &BTreeMap<String, Issuer>,
    agents: &BTreeMap<AgentName, Agent>,
) -> BTreeMap<String, Transmitter> {
    let mut all = BTreeMap::<String, Transmitter>::new();
    for table in file.tables::<schema::TransmitterTable>("transmitter") {
        let Some(transmitter) = transmitter(&table, issuers, agents) else { continue };
        if all.contains_key(&transmitter.name) {
            let message = format!("the transmitter `{}` is declared twice", transmitter.name);
            table.source().error(table.span(), message, "give each transmitter a name of its own");
            continue;
        }
        all.insert(transmitter.name.clone(), transmitter);
    }
    all
}

fn transmitter(table: &Fields<'_>, issuers: &BTreeMap<String, Issuer>, agents: &BTreeMap<AgentName, Agent>) -> Option<Transmitter> {
    let name = name(table);
    let of = table.required_text("of", "name the issuer of `issuers.toml` whose people and agents it may speak of");
    let of = of.and_then(|of| {
        let found = issuers.values().find(|issuer| issuer.name == *of.get_ref() || issuer.issuer == *of.get_ref());
        if found.is_none() {
            let message = format!("no issuer `{}` is declared", shown(of.get_ref()));
            table.source().error(of.span(), message, suggest(of.get_ref(), issuers.keys().map(String::as_str)));
        }
        found
    });
    let issuer = table.text("issuer");
    if let Some(issuer) = &issuer {
        check_url(table.source(), issuer, "the transmitter");
    }
    let keys = match keys(table, Platform::Oidc) {
        Keys::Discovery => Keys::SignalsDiscovery,
        keys => keys,
    };
    if let (Keys::SignalsDiscovery, None, Some(Platform::Spiffe)) = (&keys, &issuer, of.map(|of| of.kind)) {
        table.missing("issuer", "write the `iss` of what it sends: a SPIFFE trust domain sends nothing itself");
    }
    let algorithms = algorithms(table, Platform::Oidc);
    let may_stop = |name: Spanned<AgentName>| {
        if !agents.contains_key(name.get_ref()) {
            let message = format!("no agent `{}` is declared", name.get_ref());
            table.source().error(name.span(), message, suggest(name.get_ref().as_str(), agents.keys().map(AgentName::as_str)));
        }
        name.into_inner()
    };
    let may_stop = table.all_parsed("agents", "write the names of agents").into_iter().map(may_stop).collect();
    let per_hour = table.number("per_hour", 1..=10_000).map_or(PER_HOUR, Spanned::into_inner);
    let (on, poll) = (on(table), table.table::<schema::PollTable>("poll").and_then(|table| poll(&table)));
    let authorization_file = file_of(table, "authorization_file");
    if let (Some(value), Some(_)) = (table.value("authorization_file"), &poll) {
        let mend = "take it out, or write it under `poll`, where it says what we send";
        table.source().error(value.span(), "`authorization_file` says what it sends, and it is asked", mend);
    }
    let (name, of) = (name?, of?);
    let signer = Issuer {
        name: name.clone(),
        issuer: issuer.map_or_else(|| of.issuer.clone(), Spanned::into_inner),
        kind: Platform::Oidc,
        keys,
        audience: None,
        algorithms,
        ca_file: file_of(table, "ca_file").or_else(|| of.ca_file.clone()),
        token_file: None,
        review: None,
        account: None,
        endpoint: None,
        bundle_server: None,
    };
    Some(Transmitter {
        name,
        signer,
        of: of.name.clone(),
        audience: table.text("audience").map(Spanned::into_inner),
        people: table.flag("people").is_none_or(Spanned::into_inner),
        agents: may_stop,
        per_hour: usize::try_from(per_hour).unwrap_or(usize::MAX),
        on,
        authorization_file,
        poll,
    })
}

/// What each event does.
fn on(table: &Fields<'_>) -> BTreeMap<Kind, Action> {
    let mut on = BTreeMap::new();
    for (name, value) in table.text_members("on") {
        let kind = Kind::named(&name).filter(|kind| !kind.is_of_stream());
        let action = Action::ALL.into_iter().find(|(word, _)| *word == value.get_ref()).map(|(_, action)| action);
        match (kind, action) {
            (Some(kind), Some(action)) => drop(on.insert(kind, action)),
            (None, _) => {
                let message = format!("`{}` is no event about which anything can be said", shown(&name));
                table.source().error(value.span(), message, suggest(&name, Kind::settable()));
            }
            (_, None) => {
                let message = format!("`{}` is nothing that an event can do", shown(value.get_ref()));
                table.source().error(value.span(), message, "write `revoke`, `quarantine` or `note`");
            }
        }
    }
    on
}

fn poll(table: &Fields<'_>) -> Option<Poll> {
    let url = table.required_text("url", "write where it is asked, such as `https://idp.example/ssf/poll`");
    let token_url = table.text("token_url");
    for (url, what) in [(&url, "the transmitter"), (&token_url, "the token endpoint")] {
        if let Some(url) = url {
            check_url(table.source(), url, what);
        }
    }
    let authorization_file = file_of(table, "authorization_file");
    if let (Some(_), Some(token_url)) = (&authorization_file, &token_url) {
        table.source().error(token_url.span(), "`authorization_file` and `token_url` both say what is shown", "keep one of the two");
    }
    let client_id = table.text("client_id").map(Spanned::into_inner);
    Some(Poll { url: url?.into_inner(), authorization_file, token_url: token_url.map(Spanned::into_inner), client_id })
}

/// Reads the streams.
pub(super) fn streams(file: &Fields<'_>, agents: &BTreeMap<AgentName, Agent>) -> BTreeMap<String, Stream> {
    let mut all = BTreeMap::<String, Stream>::new();
    for table in file.tables::<schema::StreamTable>("stream") {
        let Some(stream) = stream(&table, agents) else { continue };
        if all.contains_key(&stream.name) {
            let message = format!("the stream `{}` is declared twice", stream.name);
            table.source().error(table.span(), message, "give each stream a name of its own");
            continue;
        }
        all.insert(stream.name.clone(), stream);
    }
    all
}

fn stream(table: &Fields<'_>, agents: &BTreeMap<AgentName, Agent>) -> Option<Stream> {
    let name = name(table);
    let audience = table.required_text("audience", "write the `aud` that the receiver wants, such as its issuer's URL");
    let mut events = BTreeSet::from([Kind::SessionRevoked, Kind::RiskLevelChange]);
    if table.value("events").is_some() {
        let all = events.clone();
        events.clear();
        for name in table.texts("events") {
            match Kind::named(name.get_ref()).filter(|kind| all.contains(kind)) {
                Some(kind) => drop(events.insert(kind)),
                None => {
                    let message = format!("`{}` is no event that is sent", shown(name.get_ref()));
                    table.source().error(name.span(), message, "write `session-revoked` or `risk-level-change`");
                }
            }
        }
    }
    let push = table.table::<schema::PushTable>("push").and_then(|push| {
        let url = push.required_text("url", "write the receiver's address")?;
        check_url(push.source(), &url, "the receiver");
        let (authorization_file, ca_file) = (file_of(&push, "authorization_file"), file_of(&push, "ca_file"));
        Some(Delivery::Push { url: url.into_inner(), authorization_file, ca_file })
    });
    let poll = table.parsed::<AgentName>("poll_by", "name an agent").map(|by| {
        if !agents.contains_key(by.get_ref()) {
            let message = format!("no agent `{}` is declared", by.get_ref());
            table.source().error(by.span(), message, suggest(by.get_ref().as_str(), agents.keys().map(AgentName::as_str)));
        }
        Delivery::Poll { by: by.into_inner() }
    });
    let delivery = match (push, poll) {
        (Some(push), None) => Some(push),
        (None, Some(poll)) => Some(poll),
        (Some(_), Some(_)) => {
            table.source().error(table.span(), "`push` and `poll_by` both say how its receiver gets it", "keep one of the two");
            None
        }
        (None, None) => {
            if table.value("push").is_none() && table.value("poll_by").is_none() {
                table.missing("push", "add `push = { url = \"https://…\" }`, or `poll_by` with the agent that asks");
            }
            None
        }
    };
    Some(Stream { name: name?, audience: audience?.into_inner(), events, delivery: delivery? })
}

/// The name, which stands in addresses.
fn name(table: &Fields<'_>) -> Option<String> {
    let name = table.required_text("name", "give it a name of lower-case letters, digits and `-`")?;
    let text = name.get_ref();
    let fits = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        table.source().error(name.span(), format!("`{}` is no name here", shown(text)), "use lower-case letters, digits and `-`");
    }
    fits.then(|| name.into_inner())
}
