//! The tool server behind everything that is measured: 2026-07-28 over HTTP, stateless, and as little work as possible.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::Result;

/// The command by which this program is the tool server, followed by the port.
pub(crate) const COMMAND: &str = "serve-echo";

/// The size of the result of `large`, and of the pieces in which it comes.
const LARGE_BYTES: usize = 1_000_000;
const PIECE_BYTES: usize = 16_000;

/// The tools, as the bundle declares them and `tools/list` offers them.
pub(super) fn definitions() -> serde_json::Value {
    let tool = |name: &str| {
        let text = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] });
        json!({ "name": name, "description": "Answers with what it was given", "inputSchema": text })
    };
    json!([tool("read"), tool("write"), tool("large")])
}

/// Serves until the process is ended.
pub(crate) fn serve(port: &str) -> Result {
    let port: u16 = port.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                // A connection that ends badly is its client's to notice.
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    })
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    name: Option<&'a str>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let Message { id, method, params } = serde_json::from_slice(&body)?;
    let id = id.map_or("null", RawValue::get);
    let result = match (method, &params) {
        ("server/discover", _) => {
            json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "resultType": "complete" }).to_string()
        }
        ("tools/list", _) => json!({ "tools": definitions(), "resultType": "complete", "ttlMs": 3_600_000 }).to_string(),
        ("tools/call", Some(Params { name: Some("large"), .. })) => {
            return Ok(reply("text/event-stream", Either::Right(StreamBody::new(large(id)))));
        }
        ("tools/call", Some(Params { arguments: Some(Arguments { text: Some(text) }), .. })) => {
            format!(r#"{{"content":[{{"type":"text","text":{text}}}],"resultType":"complete"}}"#)
        }
        _ => return Err(format!("`{method}` is not done here").into()),
    };
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    Ok(reply("application/json", Either::Left(Full::new(Bytes::from(message)))))
}

fn reply<B>(media: &'static str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media));
    response
}

/// One event of a megabyte, piece by piece.
fn large(id: &str) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
    let head = format!(r#"data: {{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#);
    let pieces = std::iter::repeat_n(Bytes::from_static(&[b'x'; PIECE_BYTES]), LARGE_BYTES / PIECE_BYTES);
    let tail = Bytes::from_static(b"\"}],\"resultType\":\"complete\"}}\n\n");
    let all = std::iter::once(Bytes::from(head)).chain(pieces).chain(std::iter::once(tail));
    futures_util::stream::iter(all.map(|piece| Ok(Frame::data(piece))))
}
