//! The endpoints of AuthZEN's Authorization API on the identity listener: HTTP in, HTTP out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, RequestExt as _, Router};
use bailiwick_control::caller;
use bailiwick_control::token::Identity;
use bailiwick_gateway::authz::{self, Decisions, Entity, Unanswered};
use serde_json::Value;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The largest request, in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;

/// What answers.
struct Desk {
    identity: Arc<Identity>,
    decisions: Decisions,
}

/// The endpoints, to be merged into those of the identity listener.
pub(super) fn router(identity: Arc<Identity>, decisions: Decisions) -> Router {
    Router::new()
        .route("/.well-known/authzen-configuration", get(metadata))
        .route("/access/v1/evaluation", post(answer))
        .route("/access/v1/evaluations", post(answer))
        .route("/access/v1/search/subject", post(answer))
        .route("/access/v1/search/resource", post(answer))
        .route("/access/v1/search/action", post(answer))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(Desk { identity, decisions }))
}

async fn metadata(State(desk): State<Arc<Desk>>) -> Response {
    Json(authz::metadata(&desk.identity.parts().bundle.load())).into_response()
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let mut response = desk.answered(request).await.unwrap_or_else(|refused| refused);
    let headers = response.headers_mut();
    headers.extend(id.map(|id| (REQUEST_ID, id)));
    headers.extend(
        HeaderValue::try_from(desk.identity.authenticator().nonce(desk.identity.parts().clock.now())).map(|nonce| (DPOP_NONCE, nonce)),
    );
    response
}

impl Desk {
    async fn answered(&self, request: Request) -> Result<Response, Response> {
        let path = request.uri().path().to_owned();
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let (head, body) = request.into_parts();
        let asking = caller::Asking { method: "POST", path: &path, peer, stage: "access" };
        let asker = caller::caller(&self.identity, &head, &asking).await;
        let asker = asker.map_err(|nobody| nobody.into_answer("a credential of an execution is needed"))?;
        let (headers, request) = (head.headers.clone(), Request::from_parts(head, body));
        let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
        if !media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
            return Err(refused(StatusCode::BAD_REQUEST, "the content type is not `application/json`"));
        }
        let body: Bytes = request.extract().await.map_err(|_| refused(StatusCode::BAD_REQUEST, "the body did not arrive whole"))?;
        let answer = match path.rsplit('/').next() {
            Some("evaluation") => self.decisions.evaluation(&asker, &body).await,
            Some("evaluations") => self.decisions.evaluations(&asker, &body).await,
            Some("subject") => self.decisions.search(&asker, Entity::Subject, &body),
            Some("resource") => self.decisions.search(&asker, Entity::Resource, &body),
            _ => self.decisions.search(&asker, Entity::Action, &body),
        };
        match answer {
            Ok(answer) => Ok(Json(answer).into_response()),
            Err(Unanswered::Malformed(message)) => Err(refused(StatusCode::BAD_REQUEST, &message)),
            Err(Unanswered::NotForIt(message)) => Err(refused(StatusCode::FORBIDDEN, &message)),
            Err(Unanswered::Failed(message)) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, &message)),
        }
    }
}

/// An error: a message as a text (§10.1.2).
fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(Value::from(message))).into_response()
}
