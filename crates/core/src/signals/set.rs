//! A Security Event Token (RFC 8417), read as the Shared Signals Framework 1.0 §4.1 wants it and checked as any other's token is.

use serde_json::Value;

use super::event::Event;
use super::subject::Subject;
use crate::identity::Algorithm;
use crate::identity::assertion::Trust;
use crate::identity::jws::{InvalidJwt, Jws, SKEW_S};
use crate::model::{Timestamp, hides};

/// The `typ` of one (RFC 8417 §2.3).
pub const TYPE: &str = "secevent+jwt";

/// How old one may be, in seconds. Whatever an older one could have stopped has ended by itself: no execution, and no token of a
/// person, lives a day.
pub const SET_LIFE_S_MAX: i64 = 24 * 3_600;

/// The longest `jti`, in bytes.
const ID_BYTES_MAX: usize = 256;

/// Why a token is no signal that is acted on, by the codes of RFC 8935 §2.4.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSet {
    /// It is malformed, of another kind, or lacks a member.
    #[error("{0}")]
    Request(InvalidJwt),
    /// An event's member is absent or not what it should be.
    #[error("the event's `{0}` is absent or not what it should be")]
    Event(&'static str),
    /// Its key is unknown, or its signature is not that key's.
    #[error("{0}")]
    Key(InvalidJwt),
    /// It is of another issuer than this transmitter.
    #[error("it is of another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("it is for another audience")]
    Audience,
}

impl InvalidSet {
    /// The code that the transmitter is told.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Request(_) | Self::Event(_) => "invalid_request",
            Self::Key(_) => "invalid_key",
            Self::Issuer => "invalid_issuer",
            Self::Audience => "invalid_audience",
        }
    }
}

/// A signal that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its id with its transmitter (`jti`).
    pub id: String,
    /// When it was issued, in seconds since the epoch.
    pub issued_s: i64,
    /// What happened.
    pub event: Event,
    /// To whom.
    pub subject: Subject,
}

impl Set {
    /// Checks a token of a transmitter and reads it. The key is one of `trust`'s and never one that the token brings or names.
    pub fn verify(text: &str, trust: &Trust<'_>, now: Timestamp) -> Result<Self, InvalidSet> {
        let token = Jws::parse(text).map_err(InvalidSet::Request)?;
        token.has_type(&[TYPE]).map_err(InvalidSet::Request)?;
        if !trust.algorithms.iter().any(|name| Algorithm::named(name) == Some(token.algorithm())) {
            return Err(InvalidSet::Key(InvalidJwt::Algorithm));
        }
        let key = trust.keys.find(token.kid(), token.algorithm()).ok_or(InvalidSet::Key(InvalidJwt::UnknownKey))?;
        token.verify(key).map_err(InvalidSet::Key)?;
        if trust.issuer.is_none_or(|issuer| token.issuer() != Some(issuer)) {
            return Err(InvalidSet::Issuer);
        }
        // For several at once is as good as for us alone: it says the same to each, and each may act on it once.
        if !token.audiences().map_err(InvalidSet::Request)?.contains(&trust.audience) {
            return Err(InvalidSet::Audience);
        }
        Self::read(&token, now)
    }

    fn read(token: &Jws<'_>, now: Timestamp) -> Result<Self, InvalidSet> {
        let claim = |name: &'static str| InvalidSet::Request(InvalidJwt::Claim(name));
        // What names its subject or its end so is a token of another kind (SSF 1.0 §4.1.2, §4.1.7).
        for never in ["sub", "exp"] {
            if token.claims().contains_key(never) {
                return Err(claim(never));
            }
        }
        let id = token.text("jti").map_err(InvalidSet::Request)?;
        if id.len() > ID_BYTES_MAX || id.chars().any(hides) {
            return Err(claim("jti"));
        }
        let issued_s = token.seconds("iat").map_err(InvalidSet::Request)?.ok_or_else(|| claim("iat"))?;
        if issued_s > now.as_second().saturating_add(SKEW_S) {
            return Err(InvalidSet::Request(InvalidJwt::NotYet));
        }
        if issued_s < now.as_second().saturating_sub(SET_LIFE_S_MAX) {
            return Err(InvalidSet::Request(InvalidJwt::Expired));
        }
        let subject = token.claims().get("sub_id").and_then(Subject::parse).ok_or_else(|| claim("sub_id"))?;
        let events = token.claims().get("events").and_then(Value::as_object).ok_or_else(|| claim("events"))?;
        let mut events = events.iter();
        let (Some((uri, Value::Object(payload))), None) = (events.next(), events.next()) else { return Err(claim("events")) };
        let event = Event::parse(uri, payload).map_err(InvalidSet::Event)?;
        Ok(Self { id: id.to_owned(), issued_s, event, subject })
    }
}
