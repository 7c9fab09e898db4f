//! HTTP/1.1 as little as is needed: one connection, one request at a time, and every answer read whole.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// An answer.
pub(crate) struct Answer {
    /// The status line and the headers.
    pub(crate) head: String,
    /// The body, out of its chunks where it came in any.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

/// Posts once, on a connection of its own.
pub(crate) async fn post(port: u16, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    Connection::open(port).await?.send(&request).await
}

/// One connection, with the bytes that came.
pub(crate) struct Connection {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Connection {
    /// Connects to a port on loopback.
    pub(crate) async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, came: Vec::with_capacity(64 << 10) })
    }

    /// Sends a whole request and waits for its whole answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.came.clear();
        let head = loop {
            if let Some(end) = self.came.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8(self.came.get(..head).unwrap_or_default().to_vec())?;
        let mut answer = Answer { head: text, body: Vec::new() };
        match answer.header("content-length") {
            Some(length) => {
                let length: usize = length.parse()?;
                while self.came.len() < head + length {
                    self.more().await?;
                }
            }
            // The last chunk is empty, and no body here holds what ends it.
            None => {
                while !self.came.ends_with(b"\r\n0\r\n\r\n") {
                    self.more().await?;
                }
            }
        }
        let mut rest = self.came.get(head..).unwrap_or_default();
        if answer.header("content-length").is_some() {
            answer.body.extend_from_slice(rest);
            return Ok(answer);
        }
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (size, after) = rest.split_at(end + 1);
            let bytes = usize::from_str_radix(std::str::from_utf8(size)?.trim_ascii(), 16)?;
            if bytes == 0 {
                break;
            }
            let (chunk, after) = after.split_at_checked(bytes).ok_or("a chunk is cut off")?;
            answer.body.extend_from_slice(chunk);
            rest = after.strip_prefix(b"\r\n").ok_or("a chunk does not end where it should")?;
        }
        Ok(answer)
    }

    async fn more(&mut self) -> Result {
        if self.stream.read_buf(&mut self.came).await? == 0 {
            return Err("the connection was closed before the answer".into());
        }
        Ok(())
    }
}

/// The head, up to where further headers may follow, and the body of a `tools/call` of 2026-07-28.
pub(crate) fn tools_call(port: u16, path: &str, tool: &str, text: &str) -> (String, String) {
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    let params = json!({ "name": tool, "arguments": { "text": text }, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n\
         mcp-name: {tool}\r\n",
        body.len()
    );
    (head, body)
}
