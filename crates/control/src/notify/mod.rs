//! Tells people of what was found and what was done about it: by signed messages, to a channel, to syslog, as OpenTelemetry logs.
//!
//! It follows the log, so nothing waits for it, and it has a place on disk up to which everybody was told or given up, so that a crash tells
//! something twice rather than never, and twice under the same id. Each receiver has a queue of its own: one that is slow is in nobody's
//! way. Texts that were found may be an attacker's, and each form is made so that they stay texts. `docs/spec/responses.md` has the formats.

mod otlp;
mod slack;
mod syslog;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::bundle::{Destination, Syslog};
use bailiwick_core::detect::finding::Response;
use bailiwick_core::model::{Record, Responded, ResponseEnd};
use bailiwick_log::{FollowError, Follower, Position, Recorded, StorageError, follow};
use tokio::task::AbortHandle;

use self::told::Told;
use crate::hook;
use crate::outbox::{Deliver, Message, Outbox, Unheard};
use crate::token::Identity;

/// The file with the place up to which everybody was told.
const FILE: &str = "notified.json";

/// How often it is looked whether the bundle in force names others to be told, and whether the place has moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After so many entries with nothing to tell the place is written too, so that a start need not read them again.
const SAVED_EVERY: u64 = 10_000;

/// What the entries begin with that may be worth telling. All others are not parsed.
const KIND: &[u8] = b"{\"kind\":\"response\"";

/// Tells people of what was found.
pub struct Notifier {
    identity: Arc<Identity>,
    outboxes: Mutex<BTreeMap<Destination, Arc<Outbox<Arc<Told>>>>>,
    /// The first entry that was not looked at.
    next: AtomicU64,
    /// The place that is on disk.
    saved: AtomicU64,
    /// Whether something was put into a queue since.
    told: AtomicBool,
}

impl Notifier {
    /// One that goes on where it was, or else begins with what is found from now on.
    pub fn open(identity: Arc<Identity>) -> Arc<Self> {
        let parts = identity.parts();
        let saved = match parts.keys.load(FILE) {
            Ok(bytes) => bytes.and_then(|bytes| serde_json::from_slice::<Position>(&bytes).ok()),
            Err(error) => {
                tracing::error!(%error, "`{FILE}` cannot be read: people are told of what is found from now on");
                None
            }
        };
        let end = parts.log.storage().len();
        // A log that is shorter than that is another one.
        let next = saved.map_or(end, |saved| saved.0.min(end));
        let saved = if saved.is_some() { next } else { u64::MAX };
        let (outboxes, told) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { identity, outboxes, next: AtomicU64::new(next), saved: AtomicU64::new(saved), told })
    }

    /// Tells for as long as it is polled.
    pub async fn run(self: Arc<Self>) -> Infallible {
        self.save().await;
        tokio::select! {
            never = self.read() => never,
            never = self.keep() => never,
        }
    }

    /// Puts what is worth telling into the queues.
    async fn read(self: &Arc<Self>) -> Infallible {
        loop {
            let error = follow(&self.identity.parts().log, &mut Reading(self)).await;
            tracing::error!(%error, "the log cannot be read to tell people what is found; it is tried again");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Keeps a queue for each receiver that the bundle in force names, and the place on disk.
    async fn keep(self: &Arc<Self>) -> Infallible {
        let mut under_way = BTreeMap::<Destination, UnderWay>::new();
        loop {
            let wanted = self.wanted();
            under_way.retain(|to, task| wanted.contains(to) && !task.0.is_finished());
            self.outboxes().retain(|to, _| wanted.contains(to));
            for to in wanted {
                under_way.entry(to.clone()).or_insert_with(|| {
                    let (outbox, courier) = (self.outbox(&to), Courier { notifier: Arc::clone(self), whom: named(&to), to });
                    let clock = Arc::clone(&self.identity.parts().clock);
                    UnderWay(tokio::spawn(async move { outbox.deliver(&courier, clock.as_ref()).await }).abort_handle())
                });
            }
            let place = self.place();
            let moved = place.saturating_sub(self.saved.load(Ordering::Acquire));
            if moved >= SAVED_EVERY || (moved > 0 && self.told.swap(false, Ordering::AcqRel)) {
                self.save().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn wanted(&self) -> Vec<Destination> {
        self.identity.parts().bundle.load().settings.respond.notify.iter().map(|notify| notify.to.clone()).collect()
    }

    /// The first entry of which not everybody was told.
    fn place(&self) -> u64 {
        let next = self.next.load(Ordering::Acquire);
        let waiting = self.outboxes().values().filter_map(|outbox| outbox.least(|told| told.record.0)).min();
        if waiting.is_some() {
            self.told.store(true, Ordering::Release);
        }
        waiting.unwrap_or(next).min(next)
    }

    async fn save(&self) {
        let place = self.place();
        if self.saved.load(Ordering::Acquire) == place {
            return;
        }
        let (files, bytes) = (Arc::clone(&self.identity.parts().keys), Position(place).0.to_string());
        let saved = tokio::task::spawn_blocking(move || files.save(FILE, bytes.as_bytes())).await;
        match saved.map_err(std::io::Error::other).and_then(|saved| saved) {
            Ok(()) => self.saved.store(place, Ordering::Release),
            // What was heard is told once more after a restart.
            Err(error) => tracing::error!(%error, "it could not be saved of what people were told"),
        }
    }

    /// Puts a record into the queues of those who are to be told of it.
    async fn take(&self, position: Position, responded: Responded) -> Result<(), StorageError> {
        let snapshot = self.identity.parts().bundle.load();
        let notify = &snapshot.settings.respond.notify;
        if responded.response < Response::Notify || notify.is_empty() {
            return Ok(());
        }
        let entry = self.identity.parts().log.storage().read(responded.found, 1).await?;
        let Some(Record::Finding(found)) = entry.first().and_then(|entry| Record::read(entry).ok()) else { return Ok(()) };
        let is_held = responded.code == ResponseEnd::Held;
        let told = Arc::new(Told::new(position, found, responded, &snapshot));
        // Who is named twice is told once.
        let wanted: BTreeSet<&Destination> =
            notify.iter().filter(|notify| is_held || told.found.code >= notify.level).map(|notify| &notify.to).collect();
        for to in wanted {
            self.told.store(true, Ordering::Release);
            self.outbox(to).put(Message::new(told.id(), None, Arc::clone(&told)));
        }
        Ok(())
    }

    fn outbox(&self, to: &Destination) -> Arc<Outbox<Arc<Told>>> {
        Arc::clone(self.outboxes().entry(to.clone()).or_default())
    }

    fn outboxes(&self) -> MutexGuard<'_, BTreeMap<Destination, Arc<Outbox<Arc<Told>>>>> {
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Looks at what comes onto the log.
struct Reading<'a>(&'a Notifier);

#[async_trait]
impl Follower for Reading<'_> {
    fn name(&self) -> &str {
        "notify"
    }

    fn next(&self) -> Position {
        Position(self.0.next.load(Ordering::Acquire))
    }

    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError> {
        for entry in entries {
            if entry.value().starts_with(KIND)
                && let Ok(Record::Response(responded)) = Record::read(entry.value())
            {
                self.0.take(entry.position(), responded).await?;
            }
            self.0.next.store(entry.position().0.saturating_add(1), Ordering::Release);
        }
        Ok(())
    }
}

/// A task that ends with whoever began it.
struct UnderWay(AbortHandle);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Brings messages to one receiver.
struct Courier {
    notifier: Arc<Notifier>,
    to: Destination,
    whom: String,
}

/// What a receiver is called where operators read it; never a secret.
fn named(to: &Destination) -> String {
    match to {
        Destination::Webhook(hook) => hook.url.clone(),
        Destination::Slack(file) => format!("the channel of `{}`", file.display()),
        Destination::Syslog(Syslog::Udp(place)) => format!("udp://{place}"),
        Destination::Syslog(Syslog::Tcp(place)) => format!("tcp://{place}"),
        Destination::Syslog(Syslog::Unix(path)) => format!("unix://{}", path.display()),
        Destination::Otlp { url, .. } => url.clone(),
    }
}

#[async_trait]
impl Deliver<Arc<Told>> for Courier {
    fn whom(&self) -> &str {
        &self.whom
    }

    async fn deliver(&self, message: &Message<Arc<Told>>) -> Result<(), Unheard> {
        let parts = self.notifier.identity.parts();
        let told = &message.says;
        match &self.to {
            Destination::Webhook(hook) => {
                let body = told.json().to_string().into();
                Ok(hook::post(&parts.fetcher, &parts.base, parts.clock.as_ref(), hook, &message.id, body).await?)
            }
            Destination::Slack(file) => slack::post(parts, file, told).await,
            Destination::Syslog(to) => Ok(syslog::send(&parts.fetcher, to, told).await?),
            Destination::Otlp { url, authorization_file } => otlp::post(parts, url, authorization_file.as_deref(), told).await,
        }
    }
}
