//! The tool server behind everything that is measured: 2026-07-28 over HTTP, stateless, and as little work as possible;
//! as a process of its own where its cost must not be counted, within this one where it has to hang on request.

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
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Result;

/// The command by which this program is the tool server, followed by the port.
pub(crate) const COMMAND: &str = "serve-upstream";

/// Its tools: `large` answers with a stream, the others with what they were given.
pub(crate) const TOOLS: [&str; 3] = ["read", "write", "large"];

/// The size of the result of `large`, and of the pieces in which it comes.
const LARGE_BYTES: usize = 1_000_000;
const PIECE_BYTES: usize = 16_000;

/// The definitions of `tools`, as they are reviewed and as `tools/list` offers them.
pub(crate) fn definitions(tools: &[&str]) -> Value {
    let text = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] });
    let tool = |name| json!({ "name": name, "description": "Answers with what it was given", "inputSchema": text });
    tools.iter().map(tool).collect()
}

/// Serves until the process is ended.
pub(crate) fn serve(port: &str) -> Result {
    let port: u16 = port.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (_hangs, hung) = watch::channel(false);
        listen(TcpListener::bind(("127.0.0.1", port)).await?, hung).await
    })
}

/// One within this process, for as long as the runtime runs.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    hangs: watch::Sender<bool>,
}

impl Upstream {
    /// Listens on a free port.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (hangs, hung) = watch::channel(false);
        let port = listener.local_addr()?.port();
        tokio::spawn(listen(listener, hung));
        Ok(Self { port, hangs })
    }

    /// From now on calls are not answered, or are again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }
}

async fn listen(listener: TcpListener, hung: watch::Receiver<bool>) -> Result {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let hung = hung.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, hung.clone()));
            // A connection that ends badly is its client's to notice.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
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
    mut hung: watch::Receiver<bool>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let Message { id, method, params } = serde_json::from_slice(&body)?;
    let id = id.map_or("null", RawValue::get);
    if method == "tools/call" {
        hung.wait_for(|hung| !*hung).await?;
    }
    let result = match (method, &params) {
        ("server/discover", _) => {
            json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "resultType": "complete" }).to_string()
        }
        ("tools/list", _) => json!({ "tools": definitions(&TOOLS), "resultType": "complete", "ttlMs": 3_600_000 }).to_string(),
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
