//! What an operator sees and says of responses.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use bailiwick_core::detect::finding::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AnswerError, Responding};
use crate::admin::{Fault, Operator, reason};

pub(super) fn router(responding: Arc<Responding>) -> Router {
    Router::new()
        .route("/api/v1/responses/held", get(held))
        .route("/api/v1/findings/{id}/answer", post(answer))
        .route("/api/v1/findings/{id}/undo", post(undo))
        .with_state(responding)
}

async fn held(State(responding): State<Arc<Responding>>) -> Json<Value> {
    let held = responding.held().into_iter().map(|(position, held)| {
        let mut shown = json!(held);
        if let Some(members) = shown.as_object_mut() {
            members.insert("record".to_owned(), json!(position));
        }
        shown
    });
    Json(json!({ "held": held.collect::<Vec<_>>() }))
}

/// What is done, by a person's hand.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hand {
    Lower,
    Ask,
    Quarantine,
    Revoke,
    Dismiss,
}

#[derive(Debug, Deserialize)]
struct Said {
    r#do: Hand,
}

async fn answer(
    State(responding): State<Arc<Responding>>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let by = reason(&operator, &body, true)?;
    let said: Said =
        serde_json::from_slice(&body).map_err(|_| Fault::invalid("`do` is one of `lower`, `ask`, `quarantine`, `revoke` and `dismiss`"))?;
    let response = match said.r#do {
        Hand::Lower => Some(Response::Lower),
        Hand::Ask => Some(Response::Ask),
        Hand::Quarantine => Some(Response::Quarantine),
        Hand::Revoke => Some(Response::Revoke),
        Hand::Dismiss => None,
    };
    Ok(Json(json!({ "response": responding.answer(&id, response, by).await? })))
}

async fn undo(
    State(responding): State<Arc<Responding>>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let by = reason(&operator, &body, true)?;
    Ok(Json(json!({ "response": responding.undo(&id, by).await? })))
}

impl From<AnswerError> for Fault {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Unknown(_) => Self::unknown(error.to_string()),
            AnswerError::Several(_) => Self::invalid(error.to_string()),
            AnswerError::Impossible(_) => Self::conflict("impossible", &error),
            AnswerError::NotRecorded(_) => Self::failed("not_recorded", &error),
        }
    }
}
