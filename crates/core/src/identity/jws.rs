//! A signed token in compact form (RFC 7515 §3.1), read strictly: one meaning or refused (RFC 8725).
//!
//! [`Jws::parse`] reads the parts; nothing in them may be believed before [`Jws::verify`] has said yes, but the header's
//! `kid` and the claims' `iss` have to be read first, to know whose key it should be.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::key::{Algorithm, PublicKey, Signer, SigningFailed};
use crate::json;

/// The longest token that is read, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// How far another's clock may be from ours, in seconds.
pub const SKEW_S: i64 = 30;

const LIMITS: json::Limits = json::Limits { bytes_max: TOKEN_BYTES_MAX, depth_max: 16 };

/// Why a token was refused; for the operator's eyes, it never repeats the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwt {
    /// It is not three parts of base64url, or too long.
    #[error("it is not a compact JWS of at most {TOKEN_BYTES_MAX} bytes")]
    Malformed,
    /// Its header or claims are not one JSON object without repeated keys.
    #[error("its header or claims are not one JSON object within bounds and without repeated keys")]
    Json,
    /// Its algorithm is `none`, symmetric, unknown, or not one that this issuer or key may use.
    #[error("its algorithm is not accepted")]
    Algorithm,
    /// It calls for what is not understood here: a critical extension (RFC 7515 §4.1.11), a payload that is not encoded
    /// (`b64`, RFC 7797), compressed (`zip`) or encrypted (`enc`).
    #[error("its header calls for an extension that is not understood")]
    Critical,
    /// It is another kind of token (RFC 8725 §3.11).
    #[error("its `typ` is that of another kind of token")]
    Type,
    /// No key of its issuer has its `kid`.
    #[error("no key of its issuer has its `kid`")]
    UnknownKey,
    /// The signature is not that key's.
    #[error("its signature is wrong")]
    Signature,
    /// A claim that is needed is absent or of the wrong type.
    #[error("its claim `{0}` is absent or not what it should be")]
    Claim(&'static str),
    /// It is for someone else.
    #[error("its audience is another")]
    Audience,
    /// It is from someone else.
    #[error("its issuer is another")]
    Issuer,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYet,
    /// It would live longer than such a token may.
    #[error("it lives longer than such a token may")]
    TooLong,
    /// It is not of the kind that its platform makes for what it is shown for.
    #[error("{0}")]
    Platform(&'static str),
}

/// A signed token, parsed and not yet verified.
#[derive(Debug)]
pub struct Jws<'a> {
    algorithm: Algorithm,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Reads a token. Refuses what is malformed, repeats a key, names no accepted algorithm or any critical extension.
    pub fn parse(text: &'a str) -> Result<Self, InvalidJwt> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(InvalidJwt::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(InvalidJwt::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(InvalidJwt::Malformed)?;
        let header = object(header)?;
        if ["crit", "b64", "zip", "enc"].iter().any(|member| header.contains_key(*member)) {
            return Err(InvalidJwt::Critical);
        }
        // A `kid` of another type would otherwise read as none, which may choose another key (RFC 7515 §4.1.4).
        if header.get("kid").is_some_and(|kid| !kid.is_string()) {
            return Err(InvalidJwt::UnknownKey);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::named).ok_or(InvalidJwt::Algorithm)?;
        let claims = object(claims)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidJwt::Malformed)?;
        Ok(Self { algorithm, header, claims, signed: signed.as_bytes(), signature })
    }

    /// The algorithm that its header names.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The id of the key that signed it, as its header says.
    pub fn kid(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// The key that its header carries.
    pub fn jwk(&self) -> Option<&Value> {
        self.header.get("jwk")
    }

    /// Its claims; to be believed only after [`Self::verify`].
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Its issuer as it says itself; to choose the key by.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Fails unless its `typ` is one of `types`, compared as RFC 7515 §4.1.9 says; `""` stands for none.
    pub fn has_type(&self, types: &[&str]) -> Result<(), InvalidJwt> {
        let typ = match self.header.get("typ") {
            None => "",
            Some(typ) => typ.as_str().ok_or(InvalidJwt::Type)?,
        };
        let typ = match typ.split_at_checked("application/".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
            _ => typ,
        };
        if types.iter().any(|one| one.eq_ignore_ascii_case(typ)) { Ok(()) } else { Err(InvalidJwt::Type) }
    }

    /// Fails unless `key` signed it with an algorithm that the key is for.
    pub fn verify(&self, key: &PublicKey) -> Result<(), InvalidJwt> {
        if !key.is_for(self.algorithm) {
            return Err(InvalidJwt::Algorithm);
        }
        if key.verifies(self.algorithm, self.signed, &self.signature) { Ok(()) } else { Err(InvalidJwt::Signature) }
    }

    /// A claim that has to be a text.
    pub fn text(&self, claim: &'static str) -> Result<&str, InvalidJwt> {
        self.claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(InvalidJwt::Claim(claim))
    }

    /// A claim that is a time, in seconds since the epoch (NumericDate, RFC 7519 §2), if it is there.
    pub fn seconds(&self, claim: &'static str) -> Result<Option<i64>, InvalidJwt> {
        match self.claims.get(claim) {
            None => Ok(None),
            Some(value) => number(value).map(Some).ok_or(InvalidJwt::Claim(claim)),
        }
    }

    /// The texts of `aud`, which may be one or an array (RFC 7519 §4.1.3).
    pub fn audiences(&self) -> Result<Vec<&str>, InvalidJwt> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(many)) => many.iter().map(|one| one.as_str().ok_or(InvalidJwt::Claim("aud"))).collect(),
            _ => Err(InvalidJwt::Claim("aud")),
        }
    }

    /// The time of `exp`, which has to be there. Fails when that is over by `grace_s`, or when `nbf` or `iat` are yet to come.
    pub fn is_current(&self, now_s: i64, grace_s: i64) -> Result<i64, InvalidJwt> {
        let expires = self.seconds("exp")?.ok_or(InvalidJwt::Claim("exp"))?;
        if now_s >= expires.saturating_add(grace_s) {
            return Err(InvalidJwt::Expired);
        }
        for begin in ["nbf", "iat"] {
            if self.seconds(begin)?.is_some_and(|begin| begin > now_s.saturating_add(SKEW_S)) {
                return Err(InvalidJwt::NotYet);
            }
        }
        Ok(expires)
    }
}

/// Signs `claims` as a token of type `typ`.
pub fn sign(typ: &str, claims: &impl serde::Serialize, signer: &dyn Signer) -> Result<String, SigningFailed> {
    let header = serde_json::json!({ "typ": typ, "alg": signer.algorithm().as_str(), "kid": signer.kid() });
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).map_err(|_| SigningFailed)?, &mut token);
    let signature = signer.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

fn object(part: &str) -> Result<Map<String, Value>, InvalidJwt> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidJwt::Malformed)?;
    match json::parse(&bytes, &LIMITS) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(InvalidJwt::Json),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and no time near the bounds is current")]
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|seconds| seconds.is_finite()).map(|seconds| seconds as i64))
}
