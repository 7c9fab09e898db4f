//! The events that are known: CAEP 1.0, RISC 1.0 and the framework's own, and what each does unless the bundle says otherwise.

use serde_json::{Map, Value};

use crate::model::shown;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// The most characters of another's reason that are kept.
const REASON_CHARS_MAX: usize = 300;

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Action {
    /// Every execution under way for the person, or of the agent, is revoked.
    Revoke,
    /// The agent is quarantined until a person releases it. Of a person, the same as [`Action::Revoke`].
    Quarantine,
    /// It is recorded and nothing else.
    Note,
}

impl Action {
    /// Each with the word for it in a bundle.
    pub const ALL: [(&str, Self); 3] = [("revoke", Self::Revoke), ("quarantine", Self::Quarantine), ("note", Self::Note)];
}

/// A type of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CAEP: a session was revoked.
    SessionRevoked,
    /// CAEP: claims in tokens changed.
    TokenClaimsChange,
    /// CAEP: a credential was made, changed, revoked or deleted.
    CredentialChange,
    /// CAEP: how sure the transmitter is of somebody changed.
    AssuranceLevelChange,
    /// CAEP: a device began or ceased to comply.
    DeviceComplianceChange,
    /// CAEP: a session began.
    SessionEstablished,
    /// CAEP: a session was used.
    SessionPresented,
    /// CAEP: the risk of somebody or something changed.
    RiskLevelChange,
    /// RISC: an account was disabled.
    AccountDisabled,
    /// RISC: an account was deleted for good.
    AccountPurged,
    /// RISC: a credential was found in the wrong hands.
    CredentialCompromise,
    /// RISC: all sessions of an account were revoked (replaced by CAEP's).
    SessionsRevoked,
    /// The framework's own: a stream is tried.
    Verification,
    /// The framework's own: a stream was paused, disabled or enabled.
    StreamUpdated,
    /// Any other.
    Other,
}

impl Kind {
    /// Each that is known, with its name and the beginning of its URI.
    const KNOWN: [(Self, &str, &str); 14] = [
        (Self::SessionRevoked, CAEP, "session-revoked"),
        (Self::TokenClaimsChange, CAEP, "token-claims-change"),
        (Self::CredentialChange, CAEP, "credential-change"),
        (Self::AssuranceLevelChange, CAEP, "assurance-level-change"),
        (Self::DeviceComplianceChange, CAEP, "device-compliance-change"),
        (Self::SessionEstablished, CAEP, "session-established"),
        (Self::SessionPresented, CAEP, "session-presented"),
        (Self::RiskLevelChange, CAEP, "risk-level-change"),
        (Self::AccountDisabled, RISC, "account-disabled"),
        (Self::AccountPurged, RISC, "account-purged"),
        (Self::CredentialCompromise, RISC, "credential-compromise"),
        (Self::SessionsRevoked, RISC, "sessions-revoked"),
        (Self::Verification, SSF, "verification"),
        (Self::StreamUpdated, SSF, "stream-updated"),
    ];

    /// The type with this URI.
    pub fn of_uri(uri: &str) -> Self {
        let known = Self::KNOWN.iter().find(|(_, base, name)| uri.strip_prefix(base) == Some(name));
        known.map_or(Self::Other, |(kind, ..)| *kind)
    }

    /// Its URI; nothing for [`Kind::Other`].
    pub fn uri(self) -> Option<String> {
        Self::KNOWN.iter().find(|(kind, ..)| *kind == self).map(|(_, base, name)| format!("{base}{name}"))
    }

    /// Its name in a bundle, such as `session-revoked`.
    pub fn name(self) -> &'static str {
        Self::KNOWN.iter().find(|(kind, ..)| *kind == self).map_or("other", |(.., name)| name)
    }

    /// The type with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::KNOWN.iter().find(|(.., known)| *known == name).map(|(kind, ..)| *kind)
    }

    /// The names of those about which a bundle may say what they do.
    pub fn settable() -> impl Iterator<Item = &'static str> {
        Self::KNOWN.iter().filter(|(_, base, _)| *base != SSF).map(|(.., name)| *name)
    }

    /// Whether it is about a stream and not about anybody.
    pub const fn is_of_stream(self) -> bool {
        matches!(self, Self::Verification | Self::StreamUpdated)
    }

    /// What it does unless the bundle says otherwise. What says that somebody must not go on stops, all else is noted.
    pub const fn does(self) -> Action {
        match self {
            Self::SessionRevoked
            | Self::SessionsRevoked
            | Self::CredentialChange
            | Self::CredentialCompromise
            | Self::AccountDisabled
            | Self::AccountPurged => Action::Revoke,
            Self::RiskLevelChange => Action::Quarantine,
            _ => Action::Note,
        }
    }
}

/// A level of risk (CAEP 1.0 §3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
}

impl Level {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }
}

/// What happened, as a transmitter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub kind: Kind,
    /// The type as it was written.
    pub uri: String,
    /// Whether it says that somebody must not go on: a risk that is high, a credential that was taken back, an assurance that sank. What
    /// is of a type that always says so, or never, is told apart by the type alone.
    pub is_grave: bool,
    /// Why, in the transmitter's words, bounded and without what hides; empty where it does not say.
    pub reason: String,
    /// The state that a verification brings back, or the status of a stream.
    pub state: Option<String>,
}

impl Event {
    /// Reads an event; fails, with the member that is amiss, where one that its type calls for is not there.
    pub(super) fn parse(uri: &str, payload: &Map<String, Value>) -> Result<Self, &'static str> {
        let kind = Kind::of_uri(uri);
        let text = |member: &'static str| payload.get(member).and_then(Value::as_str);
        let needed = |member: &'static str| text(member).ok_or(member);
        let is_grave = match kind {
            Kind::RiskLevelChange => {
                needed("principal")?;
                match needed("current_level")? {
                    "HIGH" => true,
                    "MEDIUM" | "LOW" => false,
                    _ => return Err("current_level"),
                }
            }
            Kind::CredentialChange => {
                needed("credential_type")?;
                match needed("change_type")? {
                    "revoke" | "delete" => true,
                    "create" | "update" => false,
                    _ => return Err("change_type"),
                }
            }
            // A level that is only compared by a namespace's own order sank unless it is said that it rose.
            Kind::AssuranceLevelChange => {
                needed("current_level")?;
                text("change_direction") != Some("increase")
            }
            Kind::DeviceComplianceChange => needed("current_status")? != "compliant",
            _ => true,
        };
        let said = |member: &str| match payload.get(member)? {
            Value::String(text) => Some(text.as_str()),
            // By language (BCP 47); English where it is there.
            Value::Object(by_language) => by_language.get("en").or_else(|| by_language.values().next()).and_then(Value::as_str),
            _ => None,
        };
        let reason = ["risk_reason", "reason_admin", "reason", "reason_user"].into_iter().find_map(said).unwrap_or_default();
        let state = match kind {
            Kind::Verification => text("state"),
            Kind::StreamUpdated => Some(needed("status")?),
            _ => None,
        };
        Ok(Self {
            kind,
            uri: shown(uri, 200),
            is_grave,
            reason: shown(reason, REASON_CHARS_MAX),
            state: state.map(|state| shown(state, 200)),
        })
    }
}
