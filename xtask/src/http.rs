//! As much of an HTTP/1.1 client as a check needs to send one MCP request to a loopback port.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Result;

/// The MCP revision that the checks speak when they speak for themselves.
const REVISION: &str = "2026-07-28";

/// Calls a tool and returns everything that the other side sent.
///
/// # Errors
/// When there is nobody at the port, or the connection ends before an answer has begun.
pub(crate) fn call_tool(port: u16, path: &str, tool: &str, arguments: &serde_json::Value) -> Result<String> {
    let body = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": tool, "arguments": arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "xtask", "version": "1.0.0" },
            },
        },
    })
    .to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {REVISION}\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.is_empty() { Err("the connection ended before an answer".into()) } else { Ok(String::from_utf8_lossy(&answer).into_owned()) }
}
