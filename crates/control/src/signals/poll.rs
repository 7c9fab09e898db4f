//! Transmitters that are asked for signals (RFC 8936): one question at a time, which they hold until there is something to say.

use std::collections::BTreeMap;
use std::time::Duration;

use bailiwick_core::bundle::{Poll, Transmitter};
use bailiwick_core::form::encode;
use bailiwick_core::identity::{Algorithm, jws};
use bailiwick_core::json::{self, Limits};
use bailiwick_core::model::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Signals;
use super::receive::NotTaken;
use crate::secret;

/// How many signals are asked for at once; as many of the longest fit into one answer.
const SETS_MAX: usize = 8;

/// How long a transmitter may hold a question.
const HELD: Duration = Duration::from_secs(60);

/// The least time from one question to the next that nothing came of.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long an assertion of ours lives, in seconds.
const ASSERTION_LIFE_S: i64 = 60;

/// How long before its end a token is not shown any more, in seconds.
const MARGIN_S: i64 = 15;

/// What was heard and the transmitter does not know yet that it was.
#[derive(Default)]
struct Owed {
    ack: Vec<String>,
    errors: BTreeMap<String, Value>,
}

/// A token for a transmitter, and until when it is shown.
struct Token {
    header: Zeroizing<String>,
    until_s: i64,
}

impl Signals {
    /// Asks the transmitter with this name for as long as the bundle in force says that it is asked.
    pub(super) async fn poll(&self, name: &str) {
        let (mut owed, mut token, mut failures) = (Owed::default(), None, 0_u32);
        loop {
            let snapshot = self.identity.parts().bundle.load();
            let Some((transmitter, poll)) = snapshot.signals.transmitters.get(name).and_then(|one| Some((one, one.poll.as_ref()?))) else {
                return;
            };
            match self.ask(transmitter, poll, &mut owed, &mut token).await {
                Ok(0) => {
                    failures = 0;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(_) => failures = 0,
                Err(why) => {
                    let pause = Duration::from_secs(1 << failures.min(6)).min(PAUSE_MAX);
                    failures = failures.saturating_add(1);
                    tracing::warn!(transmitter = name, why, "a transmitter was not heard; it is asked again in {} s", pause.as_secs());
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Asks once, takes what comes, and says how many that were.
    async fn ask(&self, transmitter: &Transmitter, poll: &Poll, owed: &mut Owed, token: &mut Option<Token>) -> Result<usize, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(value) = self.shown(transmitter, poll, token).await? {
            headers.insert(AUTHORIZATION, value);
        }
        // What is owed is said at once, and not first when there is something new.
        let is_owing = !owed.ack.is_empty() || !owed.errors.is_empty();
        let mut question = json!({ "maxEvents": SETS_MAX, "returnImmediately": is_owing });
        if let Some(members) = question.as_object_mut() {
            if !owed.ack.is_empty() {
                members.insert("ack".to_owned(), json!(owed.ack));
            }
            if !owed.errors.is_empty() {
                members.insert("setErrs".to_owned(), json!(owed.errors));
            }
        }
        let fetcher =
            self.identity.foreign().fetcher_for(transmitter.signer.ca_file.as_deref()).await.map_err(|error| error.to_string())?;
        let answered = fetcher.post_within(HELD, &poll.url, &poll.url, headers, Bytes::from(question.to_string())).await;
        let (status, body) = match answered {
            Ok(answered) => answered,
            // It had nothing to say for as long as we wait.
            Err(crate::fetch::FetchError::TimedOut(_)) => return Ok(0),
            Err(error) => return Err(error.to_string()),
        };
        if status == StatusCode::UNAUTHORIZED {
            *token = None;
        }
        if status != StatusCode::OK {
            return Err(format!("it answered {status}"));
        }
        *owed = Owed::default();
        let answer = json::parse(&body, &Limits { bytes_max: body.len(), depth_max: 8 }).map_err(|error| error.to_string())?;
        let Some(sets) = answer.get("sets").and_then(Value::as_object) else { return Err("its answer has no `sets`".to_owned()) };
        for (jti, set) in sets.iter().take(SETS_MAX) {
            let text = set.as_str().unwrap_or_default();
            match self.take(transmitter, text, None).await {
                Ok(()) => owed.ack.push(jti.clone()),
                Err(NotTaken::Refused(code, why)) => {
                    owed.errors.insert(jti.clone(), json!({ "err": code, "description": why }));
                }
                Err(NotTaken::Later(why)) => return Err(why),
                Err(NotTaken::TooMany) => return Err("it says more than is looked at within an hour".to_owned()),
            }
        }
        Ok(sets.len())
    }

    /// What is shown to the transmitter.
    async fn shown(&self, transmitter: &Transmitter, poll: &Poll, token: &mut Option<Token>) -> Result<Option<HeaderValue>, String> {
        let text = match (&poll.authorization_file, &poll.token_url) {
            (None, None) => return Ok(None),
            (Some(file), _) => secret::read(&self.identity.parts().base, file).await?,
            (None, Some(url)) => {
                let now_s = self.identity.parts().clock.now().as_second();
                if token.as_ref().is_none_or(|token| token.until_s <= now_s) {
                    *token = Some(self.fetch_token(transmitter, poll, url).await?);
                }
                token.as_ref().map(|token| token.header.clone()).unwrap_or_default()
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| "what is to be shown is no header's value".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// A token by the client-credentials grant, for which our issuer's key proves us (RFC 7523 §2.2).
    async fn fetch_token(&self, transmitter: &Transmitter, poll: &Poll, url: &str) -> Result<Token, String> {
        let parts = self.identity.parts();
        let (now, issuer) = (parts.clock.now(), self.identity.issuer());
        let client = poll.client_id.as_deref().unwrap_or_else(|| issuer.url());
        let mut id = [0; 16];
        parts.entropy.fill(&mut id);
        // The audience is the issuer, and no address of it (draft-ietf-oauth-rfc7523bis).
        let claims = json!({
            "iss": issuer.url(), "sub": client, "aud": transmitter.signer.issuer, "iat": now.as_second(),
            "exp": now.as_second().saturating_add(ASSERTION_LIFE_S), "jti": URL_SAFE_NO_PAD.encode(id),
        });
        let signer = issuer.signer(Algorithm::Es256, now).ok_or("the issuer has no key")?;
        let assertion = jws::sign("JWT", &claims, signer.as_ref()).map_err(|error| error.to_string())?;
        let mut parameters = vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
        ];
        parameters.extend(poll.client_id.as_deref().map(|id| ("client_id", id)));
        let form = encode(&parameters);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let fetcher =
            self.identity.foreign().fetcher_for(transmitter.signer.ca_file.as_deref()).await.map_err(|error| error.to_string())?;
        let (status, body) =
            fetcher.post(url, url, headers, Bytes::copy_from_slice(form.as_bytes())).await.map_err(|error| error.to_string())?;
        let body = Zeroizing::new(body.to_vec());
        if status != StatusCode::OK {
            return Err(format!("its token endpoint answered {status}"));
        }
        read_token(&body, now).ok_or_else(|| "its token endpoint gave no bearer token".to_owned())
    }
}

fn read_token(body: &[u8], now: Timestamp) -> Option<Token> {
    let answer = json::parse(body, &Limits::default()).ok()?;
    let answer: &Map<String, Value> = answer.as_object()?;
    let token = answer.get("access_token").and_then(Value::as_str)?;
    answer.get("token_type").and_then(Value::as_str).filter(|kind| kind.eq_ignore_ascii_case("bearer"))?;
    let life_s = answer.get("expires_in").and_then(Value::as_i64).unwrap_or(60);
    Some(Token {
        header: Zeroizing::new(format!("Bearer {token}")),
        until_s: now.as_second().saturating_add(life_s.saturating_sub(MARGIN_S)),
    })
}
