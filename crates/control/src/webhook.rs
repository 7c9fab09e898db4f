//! The webhook: tells a program of others of each new ask and each answer, signed, again and again until it is heard.
//!
//! It follows the log, so nothing waits for it: a call is asked about and an answer is given whether or not anybody can be told.
//! A message names ids, the tool and the page, and no argument: those are for who has logged in. Its format is that of Standard
//! Webhooks (`docs/spec/approvals.md`).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use bailiwick_core::approval::State;
use bailiwick_core::bundle::{Live, Webhook};
use bailiwick_core::model::{Clock, Record, Timestamp, Verdict};
use bailiwick_log::{FollowError, Follower, Log, Position, Recorded, follow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::approvals::Approvals;
use crate::fetch::Fetcher;
use crate::secret;

/// The most messages that wait; the oldest makes room.
const WAITING_MAX: usize = 1_024;

/// How often a message is tried.
const TRIES_MAX: u32 = 12;

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// How often it is looked whether the bundle in force names somebody to tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a secret may weigh, in bytes (Standard Webhooks).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Tells a program of others of asks and answers.
pub struct Teller {
    bundle: Arc<Live>,
    /// The bundle's directory.
    base: PathBuf,
    clock: Arc<dyn Clock>,
    log: Log,
    fetcher: Fetcher,
    /// Where reading begins.
    from: Position,
    waiting: Waiting,
}

/// A message on its way.
struct Message {
    id: String,
    body: Bytes,
    /// After this nobody needs to be told.
    until: Option<Timestamp>,
    tries: u32,
    due: Instant,
}

/// The messages that wait, by when they are due.
#[derive(Default)]
struct Waiting {
    messages: Mutex<VecDeque<Message>>,
    more: Notify,
}

impl Teller {
    /// One that begins with the asks that wait now, and else with what comes from now on.
    pub fn new(approvals: &Approvals, base: PathBuf, fetcher: Fetcher) -> Self {
        let now = approvals.clock.now();
        let pending = approvals.list().into_iter().filter(|(_, ask)| ask.state(now) == State::Pending).map(|(_, ask)| ask.id).min();
        Self {
            bundle: Arc::clone(&approvals.bundle),
            base,
            clock: Arc::clone(&approvals.clock),
            from: pending.unwrap_or(Position(approvals.log.storage().len())),
            log: approvals.log.clone(),
            fetcher,
            waiting: Waiting::default(),
        }
    }

    /// Tells for as long as it is polled. Returns only if the log can no longer be read.
    pub async fn tell(self) -> FollowError {
        let mut reading = Reading { teller: &self, next: self.from };
        // Where nobody is to be told, the log is not read either: a bundle may name somebody at any time.
        while self.bundle.load().settings.approvals.webhook.is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
            reading.next = Position(self.log.storage().len());
        }
        tokio::select! {
            ended = follow(&self.log, &mut reading) => ended,
            never = self.send_all() => match never {},
        }
    }

    async fn send_all(&self) -> std::convert::Infallible {
        loop {
            let Some(due) = self.waiting.first_due() else {
                self.waiting.more.notified().await;
                continue;
            };
            if due > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.waiting.more.notified() => {}
                }
                continue;
            }
            let Some(message) = self.waiting.take_due(due) else { continue };
            let Some(webhook) = self.bundle.load().settings.approvals.webhook.clone() else { continue };
            self.send(message, &webhook).await;
        }
    }

    /// Sends one message, or puts it back for later.
    async fn send(&self, mut message: Message, webhook: &Webhook) {
        if message.until.is_some_and(|until| until <= self.clock.now()) {
            tracing::warn!(id = message.id, "the webhook was not told in time of an ask that has expired");
            return;
        }
        message.tries = message.tries.saturating_add(1);
        let why = match self.post(&message, webhook).await {
            Ok(()) => return,
            Err(why) => why,
        };
        if message.tries >= TRIES_MAX {
            tracing::error!(id = message.id, why, "the webhook was tried {TRIES_MAX} times and is given up");
            return;
        }
        let pause = Duration::from_secs(1 << (message.tries - 1).min(16)).min(PAUSE_MAX);
        tracing::warn!(id = message.id, why, "the webhook was not heard; it is tried again in {} s", pause.as_secs());
        message.due = Instant::now() + pause;
        self.waiting.put(message);
    }

    async fn post(&self, message: &Message, webhook: &Webhook) -> Result<(), String> {
        let secret = secret::read(&self.base, &webhook.secret_file).await?;
        let secret = decoded(&secret).ok_or("its secret is not `whsec_` and the base64 of 24 to 64 bytes")?;
        let seconds = self.clock.now().as_second();
        let signature = signature(&secret, &message.id, seconds, &message.body);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in
            [("webhook-id", message.id.clone()), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signature)]
        {
            let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
            headers.insert(HeaderName::from_static(name), value);
        }
        match self.fetcher.post(&webhook.url, &webhook.url, headers, message.body.clone()).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, _)) => Err(format!("it answered {status}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The message that a record is worth, if any.
    fn message(&self, position: Position, entry: &[u8]) -> Option<Message> {
        // Nearly all records are calls that nobody is asked about; those are not parsed.
        let may_matter = [&b"\"verdict\":\"ask\""[..], b"\"kind\":\"answered\""].iter().any(|mark| has(entry, mark));
        if !may_matter {
            return None;
        }
        let snapshot = self.bundle.load();
        let approvals = &snapshot.settings.approvals;
        approvals.webhook.as_ref()?;
        let (kind, at, until, data) = match Record::read(entry).ok()? {
            Record::Intent(intent) if intent.decision.verdict == Verdict::Ask => {
                let until = asked_until(&intent.facts.approval?)?;
                let data = json!({
                    "ask": position, "execution": intent.execution, "agent": intent.agent, "subject": intent.subject, "tool": intent.tool,
                    "effect": intent.effect, "expires": until, "link": approvals.page(position),
                });
                ("approval.requested", intent.at, Some(until), data)
            }
            Record::Answered(answered) => {
                let data = json!({
                    "ask": answered.ask, "record": position, "execution": answered.execution, "agent": answered.agent,
                    "subject": answered.subject, "tool": answered.tool, "approved": answered.approved, "endorses": answered.endorses,
                    "by": answered.by,
                });
                ("approval.answered", answered.at, None, data)
            }
            _ => return None,
        };
        let body: Value = json!({ "type": kind, "timestamp": at, "data": data });
        let id = format!("{}-{}", snapshot.settings.trust_domain, position.0);
        Some(Message { id, body: Bytes::from(body.to_string()), until, tries: 0, due: Instant::now() })
    }
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").field("from", &self.from).finish_non_exhaustive()
    }
}

/// How long the ask waits that this decision made; nothing where it only met one that waits.
fn asked_until(standing: &bailiwick_core::approval::Standing) -> Option<Timestamp> {
    match standing {
        bailiwick_core::approval::Standing::Asked { until, .. } => Some(*until),
        _ => None,
    }
}

/// Makes messages of what comes onto the log.
struct Reading<'a> {
    teller: &'a Teller,
    next: Position,
}

#[async_trait]
impl Follower for Reading<'_> {
    fn name(&self) -> &str {
        "webhook"
    }

    fn next(&self) -> Position {
        self.next
    }

    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError> {
        for entry in entries {
            if let Some(message) = self.teller.message(entry.position(), entry.value()) {
                self.teller.waiting.put(message);
            }
            self.next = Position(entry.position().0.saturating_add(1));
        }
        Ok(())
    }
}

impl Waiting {
    fn put(&self, message: Message) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() >= WAITING_MAX
            && let Some(oldest) = messages.pop_front()
        {
            tracing::error!(id = oldest.id, "more messages wait for the webhook than are kept; the oldest is given up");
        }
        messages.push_back(message);
        drop(messages);
        self.more.notify_one();
    }

    fn first_due(&self) -> Option<Instant> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|message| message.due).min()
    }

    fn take_due(&self, due: Instant) -> Option<Message> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let place = messages.iter().position(|message| message.due == due)?;
        messages.remove(place)
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

fn has(entry: &[u8], mark: &[u8]) -> bool {
    entry.windows(mark.len()).any(|window| window == mark)
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

    #[tokio::test]
    async fn what_waits_stays_within_its_bound_and_goes_by_when_it_is_due() {
        let waiting = Waiting::default();
        let start = Instant::now();
        let message = |n: usize, seconds: u64| Message {
            id: n.to_string(),
            body: Bytes::new(),
            until: None,
            tries: 0,
            due: start + Duration::from_secs(seconds),
        };
        for n in 0..=WAITING_MAX {
            waiting.put(message(n, 100));
        }
        assert_eq!(waiting.messages.lock().unwrap().len(), WAITING_MAX);
        assert_eq!(waiting.messages.lock().unwrap().front().unwrap().id, "1", "the oldest made room");
        waiting.put(message(7777, 5));
        let due = waiting.first_due().unwrap();
        assert_eq!(waiting.take_due(due).unwrap().id, "7777");
    }
}
