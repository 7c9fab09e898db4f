//! The tool servers of a world, the connection to them, and the broker that has the keys to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::ledger::{Integrity, Labels};
use bailiwick_core::model::{Effect, Intent, Record, ServerName, Verdict};
use bailiwick_gateway::broker::{BrokerError, Credential, Vault};
use bailiwick_gateway::{Answer, Caller, Extras, Permit, ToolFault, Upstream, UpstreamError};
use bailiwick_log::Position;
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::bundle::Bundles;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::life::Life;
use crate::plan::{Plan, Planted};
use crate::trace::Trace;

/// The secret that must never be seen anywhere but at a tool server.
pub(crate) const CANARY: &str = "canary-7f3a9c";

/// The shop shows so many notes, the newest.
const NOTES_SHOWN: usize = 20;

/// One call that reached a tool server.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    /// Its intent, as the permit names it.
    pub(crate) position: Position,
    /// What it does.
    pub(crate) effect: Effect,
    /// Whether that position held an allowed intent for it, on disk, at that moment.
    pub(crate) was_durable: bool,
    /// Whether it came with the key to the server.
    pub(crate) had_key: bool,
}

/// What the tool servers of a world saw, and the labels of what each call returns.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    forwarded: Mutex<Vec<Forwarded>>,
    returns: Mutex<BTreeMap<u64, Labels>>,
    /// What was noted at the shop, with a payment too, and whether whoever noted it had read untrusted data.
    notes: Mutex<Vec<(String, Integrity)>>,
    /// The calls that were shown something which such a one had noted.
    back: Mutex<BTreeSet<Position>>,
}

impl Seen {
    /// Every call that arrived, in order.
    pub(crate) fn forwarded(&self) -> Vec<Forwarded> {
        self.forwarded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the call of this record was shown what somebody had noted who had read untrusted data.
    pub(crate) fn shows_back(&self, position: Position) -> bool {
        self.back.lock().unwrap_or_else(PoisonError::into_inner).contains(&position)
    }

    /// The labels of what the tool returns to the call with this number.
    pub(crate) fn returns(&self, number: u64) -> Labels {
        self.returns.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned().unwrap_or_else(Labels::undeclared)
    }
}

/// What one gateway's process sees of the tool servers.
#[derive(Debug)]
pub(crate) struct Tools {
    /// The world's plan.
    pub(crate) plan: Plan,
    /// Its dice.
    pub(crate) dice: Dice,
    /// Its story.
    pub(crate) trace: Trace,
    /// Its storage, to see what is on disk when a call arrives.
    pub(crate) disk: Arc<Disk>,
    /// Its bundles.
    pub(crate) bundles: &'static Bundles,
    /// What all servers saw.
    pub(crate) seen: Arc<Seen>,
    /// The gateway's life.
    pub(crate) life: Life,
}

impl Tools {
    fn fails(&self) -> bool {
        self.dice.chance(self.plan.tools_fail)
    }

    async fn work(&self) {
        let time = if self.dice.chance(self.plan.slow) { self.dice.up_to_ms(15_000) } else { self.dice.up_to_ms(40) };
        sleep(time).await;
        self.life.pass().await;
    }

    /// The call has arrived: from here on it has its effect. Gives what it is shown.
    fn arrive(&self, permit: &Permit, credential: &Credential) -> String {
        let (intent, position) = (permit.intent(), permit.position());
        let stored = self.disk.durable_entry(position).and_then(|entry| Record::read(&entry).ok());
        let was_durable = matches!(&stored, Some(Record::Intent(stored)) if is_for(stored, intent));
        let mut headers = HeaderMap::new();
        let attached = credential.attach(&mut headers).is_ok();
        let had_key = attached && headers.get("authorization").is_some_and(|value| value.as_bytes().ends_with(CANARY.as_bytes()));
        self.trace.tell(format_args!("{} arrives for record {position}", intent.tool));
        let forwarded = Forwarded { position, effect: intent.effect, was_durable, had_key };
        self.seen.forwarded.lock().unwrap_or_else(PoisonError::into_inner).push(forwarded);
        let labels = self.bundles.named(intent.bundle).and_then(|bundle| bundle.tool(&intent.tool));
        let labels = labels.map_or_else(Labels::undeclared, |tool| tool.returns.labels.clone());
        let mut notes = self.seen.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = "data".to_owned();
        match (intent.tool.tool(), permit.call().arguments.value().get("text").and_then(Value::as_str)) {
            ("note" | "pay", Some(text)) => notes.push((text.to_owned(), intent.facts.labels.integrity)),
            ("look", _) => {
                let newest = notes.iter().rev().take(NOTES_SHOWN);
                if newest.clone().any(|(_, integrity)| *integrity == Integrity::Untrusted) {
                    self.seen.back.lock().unwrap_or_else(PoisonError::into_inner).insert(position);
                }
                newest.for_each(|(note, _)| shown.push_str(&format!("\n{note}")));
            }
            _ => {}
        }
        drop(notes);
        if let Some(number) = permit.call().arguments.value().get("n").and_then(Value::as_u64) {
            self.seen.returns.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default().join(&labels);
        }
        shown
    }
}

/// Whether what is on the log is the allowed intent that the permit names.
fn is_for(stored: &Intent, intent: &Intent) -> bool {
    stored.decision.verdict == Verdict::Allow
        && (stored.execution, stored.sequence, &stored.tool, stored.arguments_digest)
            == (intent.execution, intent.sequence, &intent.tool, intent.arguments_digest)
}

#[async_trait]
impl Upstream for Tools {
    async fn forward(&self, permit: Permit, credential: Credential, _: Extras, caller: &dyn Caller) -> Result<Answer, UpstreamError> {
        self.life.pass().await;
        if self.fails() && self.dice.chance(300) {
            return Err(UpstreamError::Unreachable("connection refused".into()));
        }
        sleep(self.dice.up_to_ms(5)).await;
        self.life.pass().await;
        let (shown, position) = (self.arrive(&permit, &credential), permit.position());
        let number = permit.call().arguments.value().get("n").and_then(Value::as_u64);
        if self.plan.planted == Some(Planted::ForwardsTwice) && self.dice.chance(100) {
            self.arrive(&permit, &credential);
        }
        for part in 0..self.dice.below(3) {
            self.work().await;
            if self.dice.chance(200) {
                let _answered = caller.ask("elicitation/create", json!({ "message": "which?" })).await;
            } else {
                caller.show(json!({ "method": "notifications/progress", "params": { "part": part } })).await;
            }
            self.life.pass().await;
            if self.fails() {
                return Err(UpstreamError::Lost("the stream broke off".into()));
            }
        }
        self.work().await;
        if self.fails() {
            return match self.dice.below(4) {
                0 => Err(UpstreamError::Lost("connection reset".into())),
                1 => Err(UpstreamError::Garbage("not JSON".into())),
                2 => Ok(Answer {
                    body: Err(ToolFault { code: -32000, message: "the tool failed".to_owned(), data: None }),
                    failed: true,
                    bytes: 15,
                }),
                _ => {
                    // It never answers; the path's own deadline ends the call.
                    sleep(Duration::from_secs(3_600)).await;
                    Err(UpstreamError::TimedOut)
                }
            };
        }
        // What is shown before the answer carries the tool's labels alone.
        if let (true, Some(number)) = (self.seen.shows_back(position), number) {
            let mut returns = self.seen.returns.lock().unwrap_or_else(PoisonError::into_inner);
            returns.entry(number).or_default().integrity = Integrity::Untrusted;
        }
        let bytes = u64::try_from(shown.len()).unwrap_or(0);
        Ok(Answer { body: Ok(Arc::new(json!({ "content": [{ "type": "text", "text": shown }] }))), failed: false, bytes })
    }
}

/// A broker that has the same secret for every server.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The world's plan.
    pub(crate) plan: Plan,
    /// Its dice.
    pub(crate) dice: Dice,
    /// The gateway's life.
    pub(crate) life: Life,
}

#[async_trait]
impl Vault for Keys {
    async fn credential(&self, permit: &Permit) -> Result<Credential, BrokerError> {
        self.own(permit.intent().tool.server()).await
    }

    async fn own(&self, server: &ServerName) -> Result<Credential, BrokerError> {
        sleep(self.dice.up_to_ms(10)).await;
        self.life.pass().await;
        let secret = format!("Bearer {CANARY}");
        tracing::debug!(%server, "a credential is given out");
        if self.plan.planted == Some(Planted::LeakingVault) && self.dice.chance(100) {
            return Err(BrokerError(format!("`{secret}` was refused").into()));
        }
        if self.dice.chance(self.plan.tools_fail / 4) {
            return Err(BrokerError("the token endpoint is not to be reached".into()));
        }
        Ok(Credential::header(HeaderName::from_static("authorization"), Zeroizing::new(secret)))
    }
}
