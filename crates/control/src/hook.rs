//! A signed message to a program of others: Standard Webhooks.

use std::path::Path;

use aws_lc_rs::hmac;
use bailiwick_core::bundle::Webhook;
use bailiwick_core::model::Clock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::fetch::Fetcher;
use crate::secret;

/// What a secret may weigh, in bytes (Standard Webhooks).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Posts `body` under this id, signed with the secret in the hook's file, which is relative to the bundle in `base`. Fails with a sentence
/// where it was not heard.
pub(crate) async fn post(fetcher: &Fetcher, base: &Path, clock: &dyn Clock, hook: &Webhook, id: &str, body: Bytes) -> Result<(), String> {
    let secret = secret::read(base, &hook.secret_file).await?;
    let secret = decoded(&secret).ok_or("its secret is not `whsec_` and the base64 of 24 to 64 bytes")?;
    let seconds = clock.now().as_second();
    let signature = signature(&secret, id, seconds, &body);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [("webhook-id", id.to_owned()), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signature)] {
        let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
        headers.insert(HeaderName::from_static(name), value);
    }
    match fetcher.post(&hook.url, &hook.url, headers, body).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, _)) => Err(format!("it answered {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The secret's bytes.
fn decoded(secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?);
    SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
}

/// `v1,` and the base64 of HMAC-SHA256 over id, time and body.
fn signature(secret: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &signed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the Standard Webhooks specification prints.
    #[test]
    fn a_message_is_signed_as_the_standard_says() {
        let secret = decoded("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = b"{\"test\": 2432232314}";
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_?"] {
            assert!(decoded(bad).is_none(), "{bad}");
        }
    }
}
