//! What an operator sees and says of signals: those that wait for a person, and the streams.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use bailiwick_core::bundle::Delivery;
use bailiwick_core::model::{Signal, SignalEnd, shown};
use bailiwick_core::signals::{Action, Kind};
use bailiwick_log::Position;
use serde_json::{Value, json};

use super::Signals;
use super::streams::trial_id;
use crate::admin::{Fault, Operator, number, reason};

pub(super) fn router(signals: Arc<Signals>) -> Router {
    Router::new()
        .route("/api/v1/signals", get(held))
        .route("/api/v1/signals/{id}/act", post(act))
        .route("/api/v1/signals/{id}/dismiss", post(dismiss))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/streams/{name}/verify", post(verify))
        .with_state(signals)
}

async fn held(State(signals): State<Arc<Signals>>) -> Json<Value> {
    let held = signals.identity.parts().executions.heard().held();
    let shown = |(position, signal): &(Position, Signal)| {
        let mut shown = json!(signal);
        if let Some(members) = shown.as_object_mut() {
            members.insert("signal".to_owned(), json!(position));
        }
        shown
    };
    Json(json!({ "signals": held.iter().map(shown).collect::<Vec<_>>() }))
}

async fn act(
    State(signals): State<Arc<Signals>>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    settle(&signals, &operator, &id, &body, true).await
}

async fn dismiss(
    State(signals): State<Arc<Signals>>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    settle(&signals, &operator, &id, &body, false).await
}

async fn settle(signals: &Signals, operator: &Operator, id: &str, body: &[u8], carry_out: bool) -> Result<Json<Value>, Fault> {
    let mut by = reason(operator, body, false)?;
    let position = number(id)?;
    let _turn = signals.turn.lock().await;
    let parts = signals.identity.parts();
    let held = parts.executions.heard().find_held(position);
    let held = held.ok_or_else(|| Fault::unknown(format!("no signal {position} waits for a person")))?;
    let failed = |error: bailiwick_log::StorageError| Fault::failed("not_recorded", &error);
    let settled_by = by.by.clone();
    let mut signal = Signal { at: parts.clock.now(), code: SignalEnd::Dismissed, settles: Some(position), by: Some(settled_by), ..held };
    if carry_out {
        // What it does is what the bundle in force says now; one that would only be noted now is carried out all the same.
        let kind = Kind::of_uri(&signal.event);
        let does = parts.bundle.load().signals.transmitters.get(&signal.transmitter).map_or_else(|| kind.does(), |one| one.does(kind));
        let action = if does == Action::Quarantine { Action::Quarantine } else { Action::Revoke };
        if by.reason.is_empty() {
            by.reason = format!("signal {position} of {}: {}", signal.transmitter, signal.reason);
        }
        signals.act(&mut signal, action, &by).await.map_err(failed)?;
    }
    let done = json!({ "signal": position, "code": signal.code, "executions": signal.executions });
    let record = signals.record(signal).await.map_err(failed)?;
    Ok(Json(json!({ "settled": done, "record": record })))
}

async fn streams(State(signals): State<Arc<Signals>>) -> Json<Value> {
    let parts = signals.identity.parts();
    let (snapshot, end) = (parts.bundle.load(), Position(parts.log.storage().len()));
    let streams = snapshot.signals.streams.values().map(|stream| {
        let to = match &stream.delivery {
            Delivery::Push { url, .. } => json!({ "push": url }),
            Delivery::Poll { by } => json!({ "poll_by": by }),
        };
        json!({ "stream": stream.name, "audience": stream.audience, "to": to, "heard_until": signals.streams.place_of(&stream.name).unwrap_or(end), "log": end })
    });
    Json(json!({ "streams": streams.collect::<Vec<_>>() }))
}

async fn verify(State(signals): State<Arc<Signals>>, Path(name): Path<String>) -> Result<Json<Value>, Fault> {
    let parts = signals.identity.parts();
    if !parts.bundle.load().signals.streams.contains_key(&name) {
        return Err(Fault::unknown(format!("no stream `{}` is declared", shown(&name, 120))));
    }
    let id = trial_id(&signals.identity);
    if !signals.streams.try_out(&name, id.clone(), None, Position(parts.log.storage().len())) {
        return Err(Fault::invalid("the stream is being tried already, and its receiver has not heard that yet"));
    }
    Ok(Json(json!({ "stream": name, "token": id })))
}
