//! Requests to a token endpoint (RFC 6749 §3.2) and its answers, as bytes. Pure.

use bailiwick_core::json;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use super::BrokerError;

/// The longest that a token is used, whatever its endpoint says, and how long one is used that does not say, in seconds.
const LIFE_S_MAX: u64 = 3600;
const LIFE_S_UNSAID: u64 = 60;

/// A token that an endpoint gave.
pub(super) struct Granted {
    /// The token.
    pub(super) token: Zeroizing<String>,
    /// How long it may be used, in seconds.
    pub(super) life_s: u64,
}

/// Reads what an endpoint answered. An error names its code alone: descriptions are the other side's words.
pub(super) fn granted(status: u16, body: &[u8]) -> Result<Granted, BrokerError> {
    let parsed = json::parse(body, &json::Limits { bytes_max: 64 << 10, depth_max: 16 });
    let Ok(Value::Object(mut answer)) = parsed else {
        return Err(BrokerError(format!("the token endpoint answered HTTP status {status} and nothing that is an OAuth answer").into()));
    };
    if status != 200 {
        let code = answer.get("error").and_then(Value::as_str).filter(|code| is_code(code)).unwrap_or("no error code");
        return Err(BrokerError(format!("the token endpoint refused with `{code}` (HTTP status {status})").into()));
    }
    let Some(Value::String(token)) = answer.remove("access_token") else {
        return Err(BrokerError("the token endpoint's answer has no `access_token`".into()));
    };
    let token = Zeroizing::new(token);
    let bearer = answer.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !bearer {
        return Err(BrokerError("the token endpoint gave a token that is no bearer token".into()));
    }
    let life_s = answer.get("expires_in").and_then(Value::as_u64).unwrap_or(LIFE_S_UNSAID).min(LIFE_S_MAX);
    if let Some(Value::String(refresh)) = answer.get_mut("refresh_token") {
        refresh.zeroize(); // not used: a new token is asked for instead
    }
    Ok(Granted { token, life_s })
}

fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_endpoint_answers_is_read_strictly_and_repeated_never() {
        for (status, body, expected) in [
            (200, r#"{"access_token":"s3cret","token_type":"bearer","expires_in":120}"#, Ok(120)),
            (200, r#"{"access_token":"s3cret","token_type":"Bearer"}"#, Ok(60)),
            (200, r#"{"access_token":"s3cret","token_type":"Bearer","expires_in":999999}"#, Ok(3600)),
            (200, r#"{"access_token":"s3cret","token_type":"DPoP"}"#, Err("the token endpoint gave a token that is no bearer token")),
            (200, r#"{"token_type":"Bearer"}"#, Err("the token endpoint's answer has no `access_token`")),
            (
                200,
                r#"{"access_token":"s3cret","access_token":"other","token_type":"Bearer"}"#,
                Err("the token endpoint answered HTTP status 200 and nothing that is an OAuth answer"),
            ),
            (
                401,
                r#"{"error":"invalid_client","error_description":"s3cret"}"#,
                Err("the token endpoint refused with `invalid_client` (HTTP status 401)"),
            ),
            (400, r#"{"error":"<s3cret>"}"#, Err("the token endpoint refused with `no error code` (HTTP status 400)")),
            (500, "s3cret", Err("the token endpoint answered HTTP status 500 and nothing that is an OAuth answer")),
        ] {
            match (granted(status, body.as_bytes()), expected) {
                (Ok(granted), Ok(life_s)) => assert_eq!((granted.token.as_str(), granted.life_s), ("s3cret", life_s), "{body}"),
                (Err(error), Err(said)) => assert_eq!(error.to_string(), said, "{body}"),
                (Ok(_), Err(said)) => panic!("{body} should be refused: {said}"),
                (Err(error), Ok(_)) => panic!("{body} should be taken: {error}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(status: u16, body: Vec<u8>) {
            let _ = granted(status, &body);
        }
    }
}
