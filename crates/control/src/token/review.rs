//! Asking a Kubernetes API server whether a token still stands for something (TokenReview, `authentication.k8s.io/v1`).
//!
//! A signature outlives the pod that it was made for; the API server knows which pods and service accounts there are.

use bailiwick_core::bundle::Review;
use bailiwick_core::json;
use bytes::Bytes;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use crate::foreign::Foreign;

/// Why the API server does not stand for a token, or did not say so.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreviewed {
    /// It could not be asked. The operator's move.
    #[error("the API server could not be asked about it: {0}")]
    Unasked(String),
    /// It answered otherwise than with a review. The operator's move.
    #[error("the API server answered {0} and no review; may the account of `token_file` create token reviews (`system:auth-delegator`)?")]
    NoReview(StatusCode),
    /// It does not know the token, or what it stands for is gone.
    #[error("the API server does not stand for it: {0}")]
    Refused(&'static str),
}

/// Shows `token` to the API server, which has to say of it what its verified `claims` say. Fails unless the server says yes.
pub(super) async fn review(
    foreign: &Foreign,
    review: &Review,
    (token, audience): (&str, &str),
    claims: &Map<String, Value>,
) -> Result<(), Unreviewed> {
    let unasked = |error: &dyn std::fmt::Display| Unreviewed::Unasked(error.to_string());
    let fetcher = foreign.fetcher_for(review.ca_file.as_deref()).await.map_err(|error| unasked(&error))?;
    let mut headers = match &review.token_file {
        Some(file) => foreign.bearer(file).await.map_err(|error| unasked(&error))?,
        None => HeaderMap::new(),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let url = format!("{}/apis/authentication.k8s.io/v1/tokenreviews", review.url.trim_end_matches('/'));
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": [audience] },
    });
    let (status, body) = fetcher.post(&url, &review.url, headers, Bytes::from(asked.to_string())).await.map_err(|error| unasked(&error))?;
    if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return Err(Unreviewed::NoReview(status));
    }
    let answer = json::parse(&body, &json::Limits::default()).map_err(|error| unasked(&error))?;
    stands(&answer, audience, claims).map_err(Unreviewed::Refused)
}

/// Whether a review says yes, to us, and of the service account and pod that the token itself names. A server that does not
/// know of audiences answers without ours, and is not believed (TokenReviewStatus).
fn stands(answer: &Value, audience: &str, claims: &Map<String, Value>) -> Result<(), &'static str> {
    let needs = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(what) };
    let at = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
    needs(at("/kind") == Some("TokenReview"), "it answered with something else")?;
    needs(at("/status/error").is_none_or(str::is_empty), "it names an error; the pod or service account may be gone")?;
    let authenticated = answer.pointer("/status/authenticated").and_then(Value::as_bool) == Some(true);
    needs(authenticated, "it is not authenticated; the pod or service account may be gone")?;
    let audiences = answer.pointer("/status/audiences").and_then(Value::as_array);
    let is_ours = audiences.is_some_and(|audiences| audiences.iter().any(|one| one.as_str() == Some(audience)));
    needs(is_ours, "its audiences are not ours")?;
    needs(at("/status/user/username") == claims.get("sub").and_then(Value::as_str), "it is of another service account")?;
    let own = |pointer: &str| claims.get("kubernetes.io").and_then(|own| own.pointer(pointer)).and_then(Value::as_str);
    needs(at("/status/user/uid") == own("/serviceaccount/uid"), "it is of another service account of that name")?;
    let pod = at("/status/user/extra/authentication.kubernetes.io~1pod-uid/0");
    needs(pod.is_none() || pod == own("/pod/uid"), "it is of another pod")
}
