//! Shared signals (SSF 1.0, CAEP 1.0): what those who vouch for people and agents tell us stops here what they mean, and whoever is
//! declared is told of what is stopped here.
//!
//! `receive` takes one signal, whoever brought it: `push` as the transmitter sends it, `poll` as it is asked for. `streams` follows
//! the log and says what there is to be told; `send` pushes it, `serve` answers those who ask. What a signal means, and whom, is
//! `bailiwick_core::signals`.

mod operate;
mod poll;
mod push;
mod receive;
mod send;
mod serve;
mod streams;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::token::Identity;
use streams::Streams;

/// How many requests with signals are dealt with at once.
const REQUESTS_MAX: usize = 16;

/// How often it is looked whether the bundle in force declares another transmitter to be asked, or another stream to be sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Receives signals and sends them.
pub struct Signals {
    identity: Arc<Identity>,
    /// One signal is dealt with at a time, so that none is acted on twice and no ceiling is passed.
    turn: tokio::sync::Mutex<()>,
    room: Semaphore,
    /// How much came from each transmitter lately, whatever it was.
    arrivals: Mutex<HashMap<String, receive::Arrivals>>,
    streams: Streams,
}

impl Signals {
    /// One that acts through `identity`.
    pub fn new(identity: Arc<Identity>) -> Arc<Self> {
        let streams = Streams::open(&identity);
        Arc::new(Self {
            identity,
            turn: tokio::sync::Mutex::default(),
            room: Semaphore::new(REQUESTS_MAX),
            arrivals: Mutex::default(),
            streams,
        })
    }

    /// The endpoints, to be merged into those of the identity listener.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/.well-known/ssf-configuration", get(serve::metadata))
            .route("/signals/{transmitter}", post(push::received))
            .route("/ssf/streams", get(serve::streams))
            .route("/ssf/status", get(serve::status))
            .route("/ssf/verify", post(serve::verify))
            .route("/ssf/poll/{stream}", post(serve::poll))
            .with_state(Arc::clone(self))
    }

    /// What an operator may see and say of signals, to be merged into the admin API.
    pub fn operate(self: &Arc<Self>) -> Router {
        operate::router(Arc::clone(self))
    }

    /// Asks the transmitters that are to be asked, and sends the streams that are to be sent, for as long as it is polled.
    pub async fn run(self: Arc<Self>) -> std::convert::Infallible {
        let mut under_way = HashMap::<String, UnderWay>::new();
        loop {
            let snapshot = self.identity.parts().bundle.load();
            under_way.retain(|_, task| !task.0.is_finished());
            for name in snapshot.signals.transmitters.values().filter(|one| one.poll.is_some()).map(|one| &one.name) {
                let (signals, asked) = (Arc::clone(&self), name.clone());
                under_way
                    .entry(format!("poll {name}"))
                    .or_insert_with(|| UnderWay(tokio::spawn(async move { signals.poll(&asked).await }).abort_handle()));
            }
            for name in snapshot.signals.streams.values().filter(|one| one.is_pushed()).map(|one| &one.name) {
                let (signals, sent) = (Arc::clone(&self), name.clone());
                under_way
                    .entry(format!("send {name}"))
                    .or_insert_with(|| UnderWay(tokio::spawn(async move { signals.send(&sent).await }).abort_handle()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The first entry of the log of which the receiver of this stream may not have heard everything; nothing for a stream that has
    /// no place yet.
    pub fn place_of(&self, stream: &str) -> Option<bailiwick_log::Position> {
        self.streams.place_of(stream)
    }

    fn arrivals<T>(&self, transmitter: &str, look: impl FnOnce(&mut receive::Arrivals) -> T) -> T {
        look(self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).entry(transmitter.to_owned()).or_default())
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

/// A task that ends with whoever began it.
struct UnderWay(AbortHandle);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.abort();
    }
}
