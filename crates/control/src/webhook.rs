//! The webhook: tells a program of others of each new ask and each answer, signed, again and again until it is heard.
//!
//! It follows the log, so nothing waits for it: a call is asked about and an answer is given whether or not anybody can be told.
//! A message names ids, the tool and the page, and no argument: those are for who has logged in. Its format is that of Standard
//! Webhooks (`docs/spec/approvals.md`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::approval::State;
use bailiwick_core::bundle::Live;
use bailiwick_core::model::{Clock, Record, Timestamp, Verdict};
use bailiwick_log::{FollowError, Follower, Log, Position, Recorded, follow};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::approvals::Approvals;
use crate::fetch::Fetcher;
use crate::hook;
use crate::outbox::{Deliver, Message, Outbox, Unheard};

/// How often it is looked whether the bundle in force names somebody to tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    waiting: Outbox<Bytes>,
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
            waiting: Outbox::default(),
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
            never = self.waiting.deliver(&self, self.clock.as_ref()) => match never {},
        }
    }

    /// The message that a record is worth, if any.
    fn message(&self, position: Position, entry: &[u8]) -> Option<Message<Bytes>> {
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
        Some(Message::new(id, until, Bytes::from(body.to_string())))
    }
}

#[async_trait]
impl Deliver<Bytes> for Teller {
    fn whom(&self) -> &str {
        "the webhook of approvals"
    }

    async fn deliver(&self, message: &Message<Bytes>) -> Result<(), Unheard> {
        // Where nobody is to be told any more, nobody waits for it.
        let Some(webhook) = self.bundle.load().settings.approvals.webhook.clone() else { return Ok(()) };
        let body = message.says.clone();
        Ok(hook::post(&self.fetcher, &self.base, self.clock.as_ref(), &webhook, &message.id, body).await?)
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

fn has(entry: &[u8], mark: &[u8]) -> bool {
    entry.windows(mark.len()).any(|window| window == mark)
}
