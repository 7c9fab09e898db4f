//! What others assert about who calls: an agent's own signed assertion, and the tokens of issuers that are trusted.

use serde_json::{Map, Value};

use super::jws::{InvalidJwt, Jws, SKEW_S};
use super::key::{KeySet, PublicKey};
use super::replay;
use crate::bundle::Claims;
use crate::model::Timestamp;

/// The longest that a client's assertion may live, in seconds.
pub const ASSERTION_LIFE_S_MAX: i64 = 300;

/// How long a slot of used assertions is, in seconds: an assertion is forgotten only after it has expired.
pub const ASSERTION_SLOT_S: i64 = ASSERTION_LIFE_S_MAX + 2 * SKEW_S;

/// The longest that a trusted issuer's token may still live, in seconds: a day, as the longest of the platforms'.
pub const FOREIGN_LIFE_S_MAX: i64 = 86_400;

/// A client's assertion that held, except that it may have been used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asserted {
    /// What stands for it in [`Replays`](super::Replays).
    pub id: u128,
    /// The slot of now there.
    pub slot: u64,
}

/// Checks a client's assertion (`private_key_jwt`, RFC 7523 §3 and draft-ietf-oauth-rfc7523bis-11): `iss` and `sub` are
/// the client, `aud` is exactly our issuer, it lives at most five minutes, and it has a `jti`.
pub fn client(assertion: &Jws<'_>, client: &str, issuer: &str, key: &PublicKey, now: Timestamp) -> Result<Asserted, InvalidJwt> {
    assertion.verify(key)?;
    assertion.has_type(&["client-authentication+jwt", "JWT", ""])?;
    if assertion.text("iss")? != client {
        return Err(InvalidJwt::Issuer);
    }
    if assertion.text("sub")? != client {
        return Err(InvalidJwt::Claim("sub"));
    }
    if assertion.audiences()? != [issuer] {
        return Err(InvalidJwt::Audience);
    }
    let now_s = now.as_second();
    let expires = assertion.is_current(now_s, SKEW_S)?;
    if expires > now_s.saturating_add(ASSERTION_LIFE_S_MAX + SKEW_S) {
        return Err(InvalidJwt::TooLong);
    }
    let jti = assertion.text("jti")?;
    Ok(Asserted { id: replay::id(&[client, jti]), slot: slot(now) })
}

/// The slot of this moment.
pub fn slot(now: Timestamp) -> u64 {
    u64::try_from(now.as_second().div_euclid(ASSERTION_SLOT_S)).unwrap_or(0)
}

/// What is asked of a trusted issuer's token.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Its `iss`, byte for byte; nothing of a SPIFFE trust domain, whose tokens are known by their `sub`.
    pub issuer: Option<&'a str>,
    /// The audience that it has to name, and no other: one that also serves another could be used by that other.
    pub audience: &'a str,
    /// The names of the algorithms that are accepted.
    pub algorithms: &'a [String],
    /// The issuer's keys.
    pub keys: &'a KeySet,
}

/// The longest that an ID token may have been on its way, in seconds: it comes straight from the token endpoint.
const ID_TOKEN_AGE_S_MAX: i64 = 300;

/// Checks a trusted issuer's token (RFC 7523 §3, RFC 8725) and gives its claims.
pub fn foreign<'a>(token: &'a Jws<'_>, trust: &Trust<'_>, now: Timestamp) -> Result<&'a Map<String, Value>, InvalidJwt> {
    trusted(token, trust, TYPES, now)
}

/// Checks an identity assertion of a trusted issuer (ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant §4.3) and gives its claims.
pub fn id_jag<'a>(token: &'a Jws<'_>, trust: &Trust<'_>, now: Timestamp) -> Result<&'a Map<String, Value>, InvalidJwt> {
    let claims = trusted(token, trust, &[super::outbound::ID_JAG], now)?;
    token.text("jti")?;
    token.text("client_id")?;
    Ok(claims)
}

/// Checks the ID token of a login that began with `nonce` (OpenID Connect Core 1.0 §3.1.3.7) and gives its claims: the audience
/// is our client alone, and it was issued just now.
pub fn id_token<'a>(token: &'a Jws<'_>, trust: &Trust<'_>, nonce: &str, now: Timestamp) -> Result<&'a Map<String, Value>, InvalidJwt> {
    let claims = trusted(token, trust, &["JWT", ""], now)?;
    if token.text("nonce")? != nonce {
        return Err(InvalidJwt::Claim("nonce"));
    }
    if claims.get("azp").is_some_and(|party| party.as_str() != Some(trust.audience)) {
        return Err(InvalidJwt::Claim("azp"));
    }
    let issued_s = token.seconds("iat")?.ok_or(InvalidJwt::Claim("iat"))?;
    if issued_s < now.as_second().saturating_sub(ID_TOKEN_AGE_S_MAX) {
        return Err(InvalidJwt::Expired);
    }
    Ok(claims)
}

/// What is asked of a trusted issuer's token beside its `sub`, each by a name that people are shown.
type Question = fn(&Jws<'_>, &Trust<'_>, &[&str], Timestamp) -> Result<(), InvalidJwt>;

/// In the order in which they are asked: nothing that the token says is believed before its signature.
const QUESTIONS: [(&str, Question); 6] =
    [("algorithm", algorithm), ("signature", signature), ("type", kind), ("issuer", issuer), ("audience", audience), ("time", time)];

/// The `typ` that a trusted issuer's tokens may have.
const TYPES: &[&str] = &["JWT", "JOSE", "at+jwt", ""];

/// Each question that [`foreign`] asks, with its answer, for whoever wants to know why a token is refused.
pub(super) fn answers(token: &Jws<'_>, trust: &Trust<'_>, now: Timestamp) -> impl Iterator<Item = (&'static str, Result<(), InvalidJwt>)> {
    QUESTIONS.into_iter().map(move |(name, ask)| (name, ask(token, trust, TYPES, now)))
}

fn trusted<'a>(token: &'a Jws<'_>, trust: &Trust<'_>, types: &[&str], now: Timestamp) -> Result<&'a Map<String, Value>, InvalidJwt> {
    for (_, ask) in QUESTIONS {
        ask(token, trust, types, now)?;
    }
    token.text("sub")?;
    Ok(token.claims())
}

fn algorithm(token: &Jws<'_>, trust: &Trust<'_>, _: &[&str], _: Timestamp) -> Result<(), InvalidJwt> {
    let accepted = trust.algorithms.iter().any(|name| super::Algorithm::named(name) == Some(token.algorithm()));
    if accepted { Ok(()) } else { Err(InvalidJwt::Algorithm) }
}

fn signature(token: &Jws<'_>, trust: &Trust<'_>, _: &[&str], _: Timestamp) -> Result<(), InvalidJwt> {
    token.verify(trust.keys.find(token.kid(), token.algorithm()).ok_or(InvalidJwt::UnknownKey)?)
}

fn kind(token: &Jws<'_>, _: &Trust<'_>, types: &[&str], _: Timestamp) -> Result<(), InvalidJwt> {
    token.has_type(types)
}

fn issuer(token: &Jws<'_>, trust: &Trust<'_>, _: &[&str], _: Timestamp) -> Result<(), InvalidJwt> {
    match trust.issuer {
        Some(issuer) if token.text("iss")? != issuer => Err(InvalidJwt::Issuer),
        _ => Ok(()),
    }
}

fn audience(token: &Jws<'_>, trust: &Trust<'_>, _: &[&str], _: Timestamp) -> Result<(), InvalidJwt> {
    if token.audiences()? == [trust.audience] { Ok(()) } else { Err(InvalidJwt::Audience) }
}

fn time(token: &Jws<'_>, _: &Trust<'_>, _: &[&str], now: Timestamp) -> Result<(), InvalidJwt> {
    let expires_s = token.is_current(now.as_second(), SKEW_S)?;
    if expires_s > now.as_second().saturating_add(FOREIGN_LIFE_S_MAX + SKEW_S) { Err(InvalidJwt::TooLong) } else { Ok(()) }
}

/// Whether `claims` has every one of `expected`, each with exactly that value. A name with dots reaches into objects, and
/// a name that itself has dots is found first.
pub fn claims_match(claims: &Map<String, Value>, expected: &Claims) -> bool {
    !expected.is_empty() && expected.iter().all(|(name, expected)| reach(claims, name).is_some_and(|found| is(found, expected)))
}

/// The same of a person, whose groups and roles are lists: a claim that is a list has to hold the value.
pub fn claims_hold(claims: &Map<String, Value>, expected: &Claims) -> bool {
    !expected.is_empty()
        && expected.iter().all(|(name, expected)| match reach(claims, name) {
            Some(Value::Array(items)) => items.iter().any(|item| is(item, expected)),
            found => found.is_some_and(|found| is(found, expected)),
        })
}

pub(super) fn is(found: &Value, expected: &str) -> bool {
    match found {
        Value::String(text) => text == expected,
        Value::Number(_) | Value::Bool(_) => {
            let text = found.to_string();
            text == expected
        }
        _ => false,
    }
}

pub(super) fn reach<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let (outer, inner) = (name.get(..dot)?, name.get(dot + 1..)?);
            reach(claims.get(outer)?.as_object()?, inner)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_matched_exactly_and_into_objects() {
        let claims = serde_json::json!({
            "repository_id": "8842", "run": 7, "list": ["a"],
            "kubernetes.io": { "serviceaccount": { "name": "bot" } },
        });
        for (name, value, matches) in [
            ("repository_id", "8842", true),
            ("repository_id", "88420", false),
            ("run", "7", true),
            ("list", "a", false),
            ("kubernetes.io.serviceaccount.name", "bot", true),
            ("kubernetes.io.serviceaccount", "bot", false),
            ("absent", "", false),
        ] {
            let expected = Claims::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(claims_match(claims.as_object().unwrap(), &expected), matches, "{name} = {value}");
        }
        assert!(!claims_match(claims.as_object().unwrap(), &Claims::new()), "no claims prove nothing");
        for (name, value, holds) in [("list", "a", true), ("list", "b", false), ("list", "[\"a\"]", false), ("run", "7", true)] {
            let expected = Claims::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(claims_hold(claims.as_object().unwrap(), &expected), holds, "{name} = {value}");
        }
        assert!(!claims_hold(claims.as_object().unwrap(), &Claims::new()), "no claims prove nothing");
    }
}
