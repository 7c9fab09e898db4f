//! The requests that are under way on one connection, and which of them a message belongs to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::message::Message;
use crate::UpstreamError;

/// How many messages may wait for a caller that is slow; further notifications are lost.
const WAITING_MAX: usize = 256;

/// A message, and how many bytes it took.
pub(super) type Counted = (Message, u64);

/// The requests under way on one connection.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    requests: HashMap<u64, Ends>,
    /// Why the connection ended, once it did.
    ended: Option<UpstreamError>,
}

#[derive(Debug)]
struct Ends {
    messages: mpsc::Sender<Counted>,
    last: Option<oneshot::Sender<Result<Counted, UpstreamError>>>,
}

/// Where one request hears what belongs to it. Dropping it ends the request's part in the connection.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) id: u64,
    table: Arc<UnderWay>,
    messages: mpsc::Receiver<Counted>,
    last: oneshot::Receiver<Result<Counted, UpstreamError>>,
}

impl UnderWay {
    /// Begins to listen for what belongs to the request `id`.
    pub(super) fn begin(self: &Arc<Self>, id: u64) -> Ear {
        let (messages, heard) = mpsc::channel(WAITING_MAX);
        let (last, ended) = oneshot::channel();
        let mut table = self.table();
        match &table.ended {
            Some(error) => drop(last.send(Err(error.clone()))),
            None => drop(table.requests.insert(id, Ends { messages, last: Some(last) })),
        }
        drop(table);
        Ear { id, table: Arc::clone(self), messages: heard, last: ended }
    }

    /// Hands the end of the request `id` over; false when no such request is under way.
    pub(super) fn end(&self, id: u64, last: Result<Counted, UpstreamError>) -> bool {
        let sender = self.table().requests.get_mut(&id).and_then(|ends| ends.last.take());
        sender.is_some_and(|sender| sender.send(last).is_ok())
    }

    /// Hands a message to the request `id`; gives it back when there is none, or no room.
    pub(super) fn hand(&self, id: u64, message: Counted) -> Result<(), Counted> {
        match self.table().requests.get(&id) {
            Some(ends) => ends.messages.try_send(message).map_err(|error| match error {
                mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message) => message,
            }),
            None => Err(message),
        }
    }

    /// Hands a message that names no request to the one request that is under way, if it is exactly one.
    pub(super) fn hand_to_only(&self, message: Counted) -> Result<(), Counted> {
        let only = {
            let table = self.table();
            if table.requests.len() == 1 { table.requests.keys().next().copied() } else { None }
        };
        match only {
            Some(id) => self.hand(id, message),
            None => Err(message),
        }
    }

    /// Ends every request with this error, also those that begin later.
    pub(super) fn end_all(&self, error: &UpstreamError) {
        let mut table = self.table();
        table.ended = Some(error.clone());
        for ends in table.requests.values_mut() {
            if let Some(last) = ends.last.take() {
                let _ = last.send(Err(error.clone()));
            }
        }
    }

    /// Whether the connection ended.
    pub(super) fn is_ended(&self) -> bool {
        self.table().ended.is_some()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear {
    /// The next message; the end of the request comes after all that came before it. May be dropped at any await.
    pub(super) async fn hear(&mut self) -> Result<Counted, UpstreamError> {
        tokio::select! {
            biased;
            Some(message) = self.messages.recv() => Ok(message),
            last = &mut self.last => last.unwrap_or_else(|_| Err(UpstreamError::Lost("its connection ended".into()))),
        }
    }

    /// The next message that came beside the request's own stream.
    pub(super) async fn overhear(&mut self) -> Message {
        match self.messages.recv().await {
            Some((message, _)) => message,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.table.table().requests.remove(&self.id);
    }
}
