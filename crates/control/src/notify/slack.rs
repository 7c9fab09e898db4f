//! To a channel, by an incoming webhook as Slack has them and others take them.
//!
//! Whatever comes from a finding is shown as code, in which nothing is a link, a mention or a form: what an attacker wrote pages nobody
//! and leads nobody anywhere. The URL is a secret, and so in no error.

use std::path::Path;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::told::Told;
use crate::fetch::FetchError;
use crate::outbox::Unheard;
use crate::secret;
use crate::token::Parts;

/// Posts it once.
pub(super) async fn post(parts: &Parts, file: &Path, told: &Told) -> Result<(), Unheard> {
    let url = secret::read(&parts.base, file).await?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match parts.fetcher.post(&url, &url, headers, body(told).to_string().into()).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT), _)) => {
            Err(Unheard::Later(format!("it answered {status}")))
        }
        Ok((status, _)) if status.is_client_error() => Err(Unheard::Never(format!("it answered {status}"))),
        Ok((status, _)) => Err(Unheard::Later(format!("it answered {status}"))),
        Err(error) => Err(Unheard::Later(without_url(&error).to_owned())),
    }
}

/// What went wrong, without the URL, which is a secret.
const fn without_url(error: &FetchError) -> &'static str {
    match error {
        FetchError::Url(_) => "the URL in its file is no `https` URL without user information",
        FetchError::Address(_) => "the host of the URL in its file leads to no address that may be reached",
        FetchError::TimedOut(_) => "it did not answer in time",
        _ => "it could not be reached",
    }
}

/// The message, in the form that all who are like Slack take.
pub(super) fn body(told: &Told) -> Value {
    let id = told.responded.finding.to_string();
    let mut lines = vec![
        format!("*{}* finding: {}", told.level().as_str(), code(&told.title())),
        format!("about {}", code(&told.about())),
        format!("seen: {}", code(&told.seen())),
        format!("expected: {}", code(&told.expected())),
        format!("what is done: {}", code(&told.done())),
        format!("{} in {}, record {}", code(&id), code(&told.trust_domain), told.responded.found),
    ];
    lines.retain(|line| !line.ends_with("``"));
    json!({ "text": lines.join("\n"), "mrkdwn": true, "parse": "none", "link_names": false, "unfurl_links": false, "unfurl_media": false })
}

/// A text as code: one line, and nothing in it means anything.
fn code(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().saturating_add(2));
    safe.push('`');
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '`' => safe.push('\''),
            c => safe.push(c),
        }
    }
    safe.push('`');
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attacker_wrote_is_no_mention_no_link_and_no_end_of_the_code() {
        let text = code("x` <!channel> @here <https://evil.example|click> `y");
        assert_eq!(text, "`x' &lt;!channel&gt; @here &lt;https://evil.example|click&gt; 'y`");
        assert_eq!(text.matches('`').count(), 2);
    }
}
