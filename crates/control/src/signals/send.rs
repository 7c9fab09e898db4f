//! Streams that are sent to their receivers (RFC 8935): in order, each until it is heard.

use std::time::Duration;

use bailiwick_core::bundle::{Delivery, Stream};
use bailiwick_core::json::{self, Limits};
use bailiwick_core::model::{Refused, shown};
use bailiwick_log::Position;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::Signals;
use super::streams::{Item, signed, tell};
use crate::secret;

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// How a try ended that was no success.
enum Unheard {
    /// The receiver will not take it however often it comes.
    Refused(String),
    /// It may take it later.
    Later(String),
}

impl Signals {
    /// Sends the stream with this name for as long as the bundle in force says that it is sent.
    pub(super) async fn send(&self, name: &str) {
        let log = self.identity.parts().log.clone();
        let mut next = self.streams.place(name, Position(log.storage().len())).await;
        loop {
            let trials = self.streams.waiting_trials(name);
            for item in &trials {
                if !self.send_one(name, item).await {
                    return;
                }
                self.streams.tried(name, &item.id);
            }
            let snapshot = self.identity.parts().bundle.load();
            let Some(stream) = snapshot.signals.streams.get(name).filter(|stream| stream.is_pushed()) else { return };
            let batch = match tell(&self.identity, &snapshot, stream, next, 1).await {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::error!(%error, stream = name, "the log cannot be read, so nothing is sent");
                    return tokio::time::sleep(PAUSE_MAX).await;
                }
            };
            for item in &batch.items {
                if !self.send_one(name, item).await {
                    return;
                }
            }
            next = batch.end;
            self.streams.heard_until(name, next, !batch.items.is_empty()).await;
            if !batch.more {
                let tried = self.streams.trials.notified();
                tokio::select! {
                    reached = log.storage().reached(next) => if reached.is_err() { return tokio::time::sleep(PAUSE_MAX).await },
                    () = tried => {}
                    // A trial may have been wanted in between, and the bundle may name the stream no more.
                    () = tokio::time::sleep(super::LOOK_EVERY) => {}
                }
            }
        }
    }

    /// Sends one until its receiver has answered; says no when the stream is sent no more.
    async fn send_one(&self, name: &str, item: &Item) -> bool {
        let mut tries = 0_u32;
        loop {
            let snapshot = self.identity.parts().bundle.load();
            let Some(stream) = snapshot.signals.streams.get(name).filter(|stream| stream.is_pushed()) else { return false };
            match self.post(stream, item).await {
                Ok(()) => return true,
                Err(Unheard::Refused(why)) => {
                    let detail = format!("the receiver of the stream `{name}` refused `{}`: {why}", item.id);
                    tracing::error!(stream = name, id = item.id, why, "a receiver refused a signal");
                    let at = self.identity.parts().clock.now();
                    let code = "refused_by_receiver".to_owned();
                    let refused = Refused { at, stage: "signals".to_owned(), code, detail, peer: None, agent: None, execution: None };
                    self.identity.note_refused(refused, None).await;
                    return true;
                }
                Err(Unheard::Later(why)) => {
                    let pause = Duration::from_secs(1 << tries.min(9)).min(PAUSE_MAX);
                    tries = tries.saturating_add(1);
                    tracing::warn!(stream = name, id = item.id, why, "a signal was not heard; it is sent again in {} s", pause.as_secs());
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn post(&self, stream: &Stream, item: &Item) -> Result<(), Unheard> {
        let Delivery::Push { url, authorization_file, ca_file } = &stream.delivery else {
            return Err(Unheard::Later("it is asked for".to_owned()));
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/secevent+jwt"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(file) = authorization_file {
            let text = secret::read(&self.identity.parts().base, file).await.map_err(Unheard::Later)?;
            let value = HeaderValue::from_str(&text).map_err(|_| Unheard::Later("its secret is no header's value".to_owned()));
            let mut value = value?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let token = signed(&self.identity, stream, item).map_err(Unheard::Later)?;
        let fetcher = self.identity.foreign().fetcher_for(ca_file.as_deref()).await.map_err(|error| Unheard::Later(error.to_string()))?;
        match fetcher.post(url, url, headers, Bytes::from(token)).await {
            Ok((StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT, _)) => Ok(()),
            Ok((StatusCode::BAD_REQUEST, body)) => Err(read(&body)),
            Ok((status, _)) => Err(Unheard::Later(format!("it answered {status}"))),
            Err(error) => Err(Unheard::Later(error.to_string())),
        }
    }
}

/// What a receiver says was wrong (RFC 8935 §2.3). What its operator may mend is tried again.
fn read(body: &[u8]) -> Unheard {
    let answer = json::parse(body, &Limits::default()).ok();
    let said = answer.as_ref().and_then(|answer| answer.get("err")).and_then(Value::as_str).unwrap_or("nothing that is understood");
    let why = format!("it says `{}`", shown(said, 60));
    if said == "invalid_request" || said == "access_denied" { Unheard::Refused(why) } else { Unheard::Later(why) }
}
