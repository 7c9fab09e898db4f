//! Public keys as bundles hold them: a JWK (RFC 7517) that can verify, and nothing private.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Whether `jwk` is a public key that is strong enough; fails with what is wrong and what would mend it.
pub(super) fn check_public(jwk: &Value) -> Result<(), (&'static str, &'static str)> {
    const EC: &str = "write `{ kty = \"EC\", crv = \"P-256\", x = \"…\", y = \"…\" }` (RFC 7518 §6.2)";
    const RSA: &str = "write `{ kty = \"RSA\", n = \"…\", e = \"AQAB\" }` with at least 2048 bits (RFC 7518 §6.3)";
    const OKP: &str = "write `{ kty = \"OKP\", crv = \"Ed25519\", x = \"…\" }` (RFC 8037 §2)";
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|member| jwk.get(member).is_some()) {
        return Err(("holds its private part", "take it out at once, make a new key, and keep only the public part here"));
    }
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    let bytes = |member: &str| text(member).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let is_long = |member: &str, length: usize| bytes(member).is_some_and(|bytes| bytes.len() == length);
    match (text("kty"), text("crv")) {
        (Some("EC"), Some("P-256")) if is_long("x", 32) && is_long("y", 32) => Ok(()),
        (Some("EC"), Some("P-384")) if is_long("x", 48) && is_long("y", 48) => Ok(()),
        (Some("EC"), Some("P-521")) if is_long("x", 66) && is_long("y", 66) => Ok(()),
        (Some("EC"), _) => Err(("is no complete EC key", EC)),
        (Some("OKP"), Some("Ed25519")) if is_long("x", 32) => Ok(()),
        (Some("OKP"), _) => Err(("is no complete Ed25519 key", OKP)),
        (Some("RSA"), _) if bytes("n").is_some_and(|n| (256..=1024).contains(&n.len())) && bytes("e").is_some() => Ok(()),
        (Some("RSA"), _) => Err(("is no complete RSA key of 2048 bits or more", RSA)),
        _ => Err(("is of no kind that is known here", EC)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_public_keys_are_taken() {
        let coordinate = URL_SAFE_NO_PAD.encode([7; 32]);
        let whole = serde_json::json!({"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate});
        assert_eq!(check_public(&whole), Ok(()));
        for (member, value) in [("d", coordinate.as_str()), ("y", "AA"), ("crv", "secp256k1"), ("kty", "oct")] {
            let mut broken = whole.clone();
            broken[member] = value.into();
            assert!(check_public(&broken).is_err(), "{member}");
        }
    }
}
