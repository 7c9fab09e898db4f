//! A tool server of this process, 2026-07-28 over HTTP/1.1, that does as little as possible and can be made to hang.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Result;

/// One that listens.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    hangs: watch::Sender<bool>,
}

/// Its one tool.
pub(crate) fn definition() -> Value {
    let text = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] });
    json!({ "name": "read", "description": "Answers", "inputSchema": text })
}

impl Upstream {
    /// Listens on a free port for as long as the runtime runs.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (hangs, hung) = watch::channel(false);
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hung = hung.clone();
                tokio::spawn(async move {
                    // A connection that ends badly is its client's to notice.
                    let _ = serve(stream, hung).await;
                });
            }
        });
        Ok(Self { port, hangs })
    }

    /// From now on calls are not answered, or are again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }
}

async fn serve(mut stream: TcpStream, mut hung: watch::Receiver<bool>) -> Result {
    stream.set_nodelay(true)?;
    let mut waiting = Vec::new();
    loop {
        let Some(body) = read_message(&mut stream, &mut waiting).await?.map(|(_, body)| body) else { return Ok(()) };
        let message: Value = serde_json::from_slice(&body)?;
        let result = match message.get("method").and_then(Value::as_str) {
            Some("server/discover") => {
                json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "resultType": "complete" })
            }
            Some("tools/list") => json!({ "tools": [definition()], "resultType": "complete", "ttlMs": 3_600_000 }),
            _ => {
                hung.wait_for(|hung| !*hung).await?;
                json!({ "content": [{ "type": "text", "text": "done" }], "resultType": "complete" })
            }
        };
        let answer = json!({ "jsonrpc": "2.0", "id": message.get("id"), "result": result }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(format!("{head}{answer}").as_bytes()).await?;
    }
}

/// Reads the head and the body of the next message of a connection; `waiting` keeps what came beyond it.
pub(crate) async fn read_message(stream: &mut TcpStream, waiting: &mut Vec<u8>) -> Result<Option<(String, Vec<u8>)>> {
    loop {
        if let Some(end) = waiting.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(waiting.get(..end).unwrap_or_default()).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")).map_or(Ok(0), |text| text.trim().parse::<usize>())?;
            let whole = end + 4 + length;
            if waiting.len() >= whole {
                let rest = waiting.split_off(whole);
                let body = waiting.split_off(end + 4);
                *waiting = rest;
                return Ok(Some((head, body)));
            }
        }
        if stream.read_buf(waiting).await? == 0 {
            return Ok(None);
        }
    }
}
