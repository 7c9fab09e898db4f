//! The admin API of a running server, over its Unix socket in the data directory.

use std::path::Path;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use miette::{IntoDiagnostic, miette};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::sidecar::client::document;

/// The socket's name in the data directory.
pub(crate) const SOCKET: &str = "admin.sock";

/// Asks the server whose data is in `data`; a refusal is an error that says what the server said.
pub(crate) async fn ask(data: &Path, method: Method, path: &str, body: Option<&Value>) -> miette::Result<Value> {
    let socket = data.join(SOCKET);
    let stream = UnixStream::connect(&socket).await.map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "run this as the user that runs the server",
            _ => "start it with `bailiwick serve`",
        };
        miette!(help = help, "no server answers at `{}`: {error}", socket.display())
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.into_diagnostic()?;
    let connection = tokio::spawn(connection);
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header(HOST, "admin")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .into_diagnostic()?;
    let response = sender.send_request(request).await.into_diagnostic()?;
    let status = response.status();
    let answer = document(response).await;
    connection.abort();
    if status.is_success() {
        return Ok(answer.unwrap_or(Value::Null));
    }
    let said = answer.as_ref().and_then(|answer| answer.get("detail").or_else(|| answer.get("error")));
    match (said.and_then(Value::as_str), status) {
        (Some(said), _) => Err(miette!("{said}")),
        (None, StatusCode::NOT_FOUND) => Err(miette!("the server does not know that")),
        (None, status) => Err(miette!("the server answered {status}")),
    }
}
