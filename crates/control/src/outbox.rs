//! What waits to be told to somebody: a bounded queue, tried again and again until it is heard.
//!
//! Nothing waits for it. Who is told too much, too slowly, is told the newest.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::model::{Clock, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most messages that wait; the oldest makes room.
pub(crate) const WAITING_MAX: usize = 1_024;

/// How often a message is tried.
const TRIES_MAX: u32 = 12;

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Why a message was not heard.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// It may be heard later.
    Later(String),
    /// It will not be heard however often it is tried.
    Never(String),
}

impl From<String> for Unheard {
    fn from(why: String) -> Self {
        Self::Later(why)
    }
}

/// Brings messages to somebody.
#[async_trait]
pub(crate) trait Deliver<M>: Send + Sync {
    /// Whom, as the operator knows it; no secret.
    fn whom(&self) -> &str;

    /// Brings one message, once.
    async fn deliver(&self, message: &Message<M>) -> Result<(), Unheard>;
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Message<M> {
    /// Its id, by which whoever hears it twice knows it again.
    pub(crate) id: String,
    /// After this nobody needs to be told.
    pub(crate) until: Option<Timestamp>,
    /// What it says.
    pub(crate) says: M,
    tries: u32,
    due: Instant,
}

impl<M> Message<M> {
    /// One that is due at once.
    pub(crate) fn new(id: String, until: Option<Timestamp>, says: M) -> Self {
        Self { id, until, says, tries: 0, due: Instant::now() }
    }
}

/// The messages that wait for one receiver.
#[derive(Debug)]
pub(crate) struct Outbox<M> {
    waiting: Mutex<Waiting<M>>,
    more: Notify,
}

#[derive(Debug)]
struct Waiting<M> {
    /// In the order in which they came.
    messages: BTreeMap<u64, Message<M>>,
    next: u64,
}

impl<M> Default for Outbox<M> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { messages: BTreeMap::new(), next: 0 }), more: Notify::new() }
    }
}

impl<M: Clone + Send + Sync> Outbox<M> {
    /// Takes one in.
    pub(crate) fn put(&self, message: Message<M>) {
        let mut waiting = self.waiting();
        if waiting.messages.len() >= WAITING_MAX
            && let Some((_, oldest)) = waiting.messages.pop_first()
        {
            tracing::error!(id = oldest.id, "more messages wait to be told than are kept; the oldest is given up");
        }
        let number = waiting.next;
        waiting.next = number.saturating_add(1);
        waiting.messages.insert(number, message);
        drop(waiting);
        self.more.notify_one();
    }

    /// What the oldest says of all that were not heard yet, by `of`; nothing where none waits.
    pub(crate) fn least<T: Ord>(&self, of: impl Fn(&M) -> T) -> Option<T> {
        self.waiting().messages.values().map(|message| of(&message.says)).min()
    }

    /// Brings what waits to `to`, for as long as it is polled.
    pub(crate) async fn deliver(&self, to: &dyn Deliver<M>, clock: &dyn Clock) -> Infallible {
        loop {
            let Some((number, message)) = self.first_due() else {
                self.more.notified().await;
                continue;
            };
            if message.due > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(message.due) => {}
                    () = self.more.notified() => {}
                }
                continue;
            }
            let whom = to.whom();
            if message.until.is_some_and(|until| until <= clock.now()) {
                tracing::warn!(whom, id = message.id, "it was not told in time of what is over now");
                self.waiting().messages.remove(&number);
                continue;
            }
            // It stays in the queue meanwhile, so that what waits is known at any time.
            let again = self.bring(to, &message).await;
            let mut waiting = self.waiting();
            match again.zip(waiting.messages.get_mut(&number)) {
                Some((pause, waits)) => (waits.tries, waits.due) = (message.tries.saturating_add(1), Instant::now() + pause),
                None => drop(waiting.messages.remove(&number)),
            }
        }
    }

    /// Tries one, and says after which pause it is to be tried again; nothing where it was heard or is given up.
    async fn bring(&self, to: &dyn Deliver<M>, message: &Message<M>) -> Option<Duration> {
        let (whom, id) = (to.whom(), message.id.as_str());
        let why = match to.deliver(message).await {
            Ok(()) => return None,
            Err(Unheard::Never(why)) => {
                tracing::error!(whom, id, why, "a message was refused and is given up");
                return None;
            }
            Err(Unheard::Later(why)) => why,
        };
        if message.tries.saturating_add(1) >= TRIES_MAX {
            tracing::error!(whom, id, why, "a message was tried {TRIES_MAX} times and is given up");
            return None;
        }
        let pause = Duration::from_secs(1 << message.tries.min(16)).min(PAUSE_MAX);
        tracing::warn!(whom, id, why, "a message was not heard; it is tried again in {} s", pause.as_secs());
        Some(pause)
    }

    fn first_due(&self) -> Option<(u64, Message<M>)> {
        let waiting = self.waiting();
        let first = waiting.messages.iter().min_by_key(|(_, message)| message.due)?;
        Some((*first.0, first.1.clone()))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<M>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_stays_within_its_bound_and_goes_by_when_it_is_due() {
        let outbox = Outbox::default();
        let start = Instant::now();
        let message =
            |n: usize, seconds: u64| Message { due: start + Duration::from_secs(seconds), ..Message::new(n.to_string(), None, n) };
        for n in 0..=WAITING_MAX {
            outbox.put(message(n, 100));
        }
        assert_eq!(outbox.waiting().messages.len(), WAITING_MAX);
        assert_eq!(outbox.least(|n| *n), Some(1), "the oldest made room");
        outbox.put(message(7777, 5));
        assert_eq!(outbox.first_due().unwrap().1.id, "7777");
    }
}
