//! Webhooks: where news of tasks may be sent, and how they are.
//!
//! The address comes from whoever has the agent act, so it is the one thing by which the gateway could be made to reach what it should
//! not: only public addresses are, by `https`, and those that the bundle names (`push`). What a name leads to is looked at after it was
//! resolved; nothing is followed.

use std::net::IpAddr;
use std::time::Duration;

use bailiwick_core::address::is_public;
use bailiwick_core::bundle::{Below, Limits};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Value, json};

use crate::mcp::upstream::{HttpClient, address};
use crate::{Answer, Extras, ToolFault, UpstreamError};

/// The pauses after which it is tried again.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// How long a webhook may take to answer (1.0 §13.2 recommends 10 to 30 seconds).
const WAIT: Duration = Duration::from_secs(10);

/// The header by which a client knows news of its own again; the official SDKs send it.
const TOKEN: HeaderName = HeaderName::from_static("x-a2a-notification-token");

/// Where news are sent.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    url: Uri,
    /// Whether the bundle names it.
    is_named: bool,
}

impl Hook {
    /// The webhook at `url`, where one may be. Fails with what is wrong, for the client.
    pub(super) fn at(url: &str, named: &Below) -> Result<Self, &'static str> {
        if named.covers(url) {
            return address(url).map(|url| Self { url, is_named: true }).map_err(|_| "`url` is where no news may be sent");
        }
        let uri: Uri = url.parse().map_err(|_| "`url` is not a URL")?;
        if uri.scheme_str() != Some("https") || uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err("`url` is not an `https` URL without a user name");
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_elsewhere = host.parse::<IpAddr>().map_or(!host.is_empty() && !host.eq_ignore_ascii_case("localhost"), is_public);
        if is_elsewhere { Ok(Self { url: uri, is_named: false }) } else { Err("`url` leads to no public address") }
    }

    /// Sends what `extras` hold until it was heard, or is given up.
    pub(super) async fn tell(&self, client: &HttpClient, extras: &Extras, limits: &Limits) -> Result<Answer, UpstreamError> {
        let text = |name: &str| extras.get(name).and_then(Value::as_str);
        let mut headers = HeaderMap::new();
        let media = if extras.contains_key("older") { "application/json" } else { "application/a2a+json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        for (name, value) in [(AUTHORIZATION, text("authorization")), (TOKEN, text("token"))] {
            let Some(value) = value else { continue };
            let unfit = |_| UpstreamError::Unsupported(format!("what was given for `{name}` cannot stand in a header").into());
            let mut value = HeaderValue::from_str(value).map_err(unfit)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let wait = limits.upstream_timeout.std().min(WAIT);
        let body = text("body").unwrap_or_default();
        let mut pauses = PAUSES.iter();
        loop {
            let body = body.as_bytes().to_vec();
            let sent = if self.is_named {
                client.send(Method::POST, &self.url, headers.clone(), body, wait).await
            } else {
                client.send_in_public(Method::POST, &self.url, headers.clone(), body, wait).await
            };
            let (ended, again) = match sent {
                Ok(response) if response.status().is_success() => (Ok(heard()), false),
                Ok(response) => (Ok(unheard(response.status())), may_pass(response.status())),
                Err(error) => (Err(error), true),
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return ended,
            }
        }
    }
}

/// The answer to what only the gateway itself has to do with.
pub(super) fn heard() -> Answer {
    Answer { body: Ok(std::sync::Arc::new(json!({}))), failed: false, bytes: 0 }
}

fn unheard(status: StatusCode) -> Answer {
    let message = format!("the webhook answered with HTTP status {}", status.as_u16());
    Answer { body: Err(ToolFault { code: i64::from(status.as_u16()), message, data: None }), failed: true, bytes: 0 }
}

/// Whether the same may be heard later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_sent_in_public_by_https_alone() {
        for (url, may) in [
            ("https://hooks.example/news", true),
            ("https://1.1.1.1/news", true),
            ("http://hooks.example/news", false),
            ("https://user:secret@hooks.example/", false),
            ("https://localhost/", false),
            ("https://127.0.0.1/", false),
            ("https://10.1.2.3/", false),
            ("https://[::1]/", false),
            ("https://[::ffff:10.0.0.1]/", false),
            ("https://[64:ff9b::7f00:1]/", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("ftp://hooks.example/", false),
            ("/news", false),
            ("", false),
        ] {
            assert_eq!(Hook::at(url, &Below::default()).is_ok(), may, "{url}");
        }
    }
}
