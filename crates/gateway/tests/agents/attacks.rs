//! Bytes that no library would send: framing that two readers read differently, clients that keep a connection busy without
//! a request, and HTTP/2 frames as they must not be.

mod identity;

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::soon;
use crate::support::{MODERN, World, send};

/// What is behind the attack on the same connection: it is answered only if the connection is still believed.
const NEXT: &str = "/.well-known/oauth-protected-resource";

/// Sends bytes and returns the status of every answer until the other side closes.
async fn statuses(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // One that closes before it has read everything is a refusal too.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    answer.match_indices("HTTP/1.").map(|(at, _)| answer[at + 9..at + 12].parse().unwrap()).collect()
}

/// A good call of `agent`, its body framed as `framing` says.
async fn call(world: &World, agent: &crate::support::Agent, framing: impl Fn(&str) -> (String, String)) -> Vec<u8> {
    let request = world.modern(agent, "/mcp/crm", "tools/call", json!({ "name": "query", "arguments": { "q": "x" } }));
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let (framing, body) = framing(&body);
    let fields: String = head.headers.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
    let host = world.address;
    format!(
        "POST /mcp/crm HTTP/1.1\r\nhost: {host}\r\n{fields}{framing}\r\n{body}GET {NEXT} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn a_request_that_two_readers_would_end_in_two_places_is_refused_and_nothing_behind_it_is_read() {
    let world = World::limited("call_timeout = \"1s\"\nrequest_timeout = \"300ms\"\n").await;
    let agent = world.agent("bot");
    type Framing = Box<dyn Fn(&str) -> (String, String)>;
    let length = |text: &'static str| -> Framing { Box::new(move |body| (text.replace('L', &body.len().to_string()), body.to_owned())) };
    let chunked = |head: &'static str, size: &'static str, end: &'static str| -> Framing {
        Box::new(move |body| {
            let size = size.replace("HEX", &format!("{:x}", body.len()));
            (head.to_owned(), format!("{size}{body}{end}"))
        })
    };
    const CHUNKED: &str = "transfer-encoding: chunked\r\n";
    const END: &str = "\r\n0\r\n\r\n";
    let mut wrong = Vec::new();
    for (what, framing, answers) in [
        ("a length", length("content-length: L\r\n"), vec![200, 200]),
        ("chunks", chunked(CHUNKED, "HEX\r\n", END), vec![200, 200]),
        ("an extension of a chunk", chunked(CHUNKED, "HEX;a=b\r\n", END), vec![200, 200]),
        ("trailers", chunked(CHUNKED, "HEX\r\n", "\r\n0\r\nauthorization: Bearer x\r\n\r\n"), vec![200, 200]),
        // Chunks win over a length (RFC 9112 §6.3), and the connection ends, so that nothing can hide behind it.
        ("chunks and a length", chunked("transfer-encoding: chunked\r\ncontent-length: 4\r\n", "HEX\r\n", END), vec![200]),
        ("a length and chunks", chunked("content-length: 4\r\ntransfer-encoding: chunked\r\n", "HEX\r\n", END), vec![200]),
        ("two lengths", length("content-length: L\r\ncontent-length: 4\r\n"), vec![400]),
        ("two lengths in one", length("content-length: L, 4\r\n"), vec![400]),
        ("a length with a sign", length("content-length: +L\r\n"), vec![400]),
        ("a negative length", length("content-length: -1\r\n"), vec![400]),
        ("a length in hex", length("content-length: 0xL\r\n"), vec![400]),
        ("a length with a space", length("content-length: 1 L\r\n"), vec![400]),
        ("a length that overflows", length("content-length: 18446744073709551617\r\n"), vec![400]),
        ("no length", length(""), vec![400, 400]),
        ("a space before the colon", length("content-length : L\r\n"), vec![400]),
        ("a folded line", length("x: a\r\n content-length: 4\r\ncontent-length: L\r\n"), vec![400]),
        ("a bare return", length("x: a\rcontent-length: 4\r\ncontent-length: L\r\n"), vec![400]),
        ("a NUL", length("x: a\0b\r\ncontent-length: L\r\n"), vec![400]),
        ("a name with a space", length("x y: a\r\ncontent-length: L\r\n"), vec![400]),
        ("another coding", chunked("transfer-encoding: gzip, chunked\r\n", "HEX\r\n", END), vec![501]),
        ("another coding on its own line", chunked("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", "HEX\r\n", END), vec![501]),
        ("a coding after chunks", chunked("transfer-encoding: chunked, identity\r\n", "HEX\r\n", END), vec![400]),
        ("a coding that is none", chunked("transfer-encoding: xchunked\r\n", "HEX\r\n", END), vec![400]),
        ("a coding with a parameter", chunked("transfer-encoding: chunked;q=1\r\n", "HEX\r\n", END), vec![400]),
        ("a size with a sign", chunked(CHUNKED, "+HEX\r\n", END), vec![400]),
        ("a negative size", chunked(CHUNKED, "-1\r\n", END), vec![400]),
        ("a size with 0x", chunked(CHUNKED, "0xHEX\r\n", END), vec![400]),
        ("a size after a space", chunked(CHUNKED, " HEX\r\n", END), vec![400]),
        ("no size", chunked(CHUNKED, "\r\n", END), vec![400]),
        ("a size that overflows", chunked(CHUNKED, "1000000000000000000HEX\r\n", END), vec![400]),
        ("a size that is too small", chunked(CHUNKED, "4\r\n", END), vec![400]),
        ("a size that ends in a newline", chunked(CHUNKED, "HEX\n", END), vec![400]),
        ("an extension with a newline", chunked(CHUNKED, "HEX;a\nb\r\n", END), vec![400]),
        ("a chunk without its end", chunked(CHUNKED, "HEX\r\n", "0\r\n\r\n"), vec![400]),
    ] {
        let bytes = call(&world, &agent, framing).await;
        let answered = statuses(world.address, &bytes).await;
        if answered != answers {
            wrong.push((what, answered, answers));
        }
    }
    assert!(wrong.is_empty(), "what, was answered, should have been: {wrong:#?}");
    let compressed =
        call(&world, &agent, |body| (format!("content-encoding: gzip\r\ncontent-length: {}\r\n", body.len()), body.to_owned())).await;
    assert_eq!(statuses(world.address, &compressed).await, [415, 200], "a compressed body");
    assert_eq!(world.outcomes().await.len(), 6, "something of this became a call that should not have");
}

#[tokio::test]
async fn a_request_line_or_a_host_that_can_be_read_in_two_ways_is_refused() {
    let world = World::start().await;
    let host = world.address;
    let long = "a".repeat(70_000);
    let many = "x: y\r\n".repeat(200);
    let mut wrong = Vec::new();
    for (request, answers) in [
        (format!("GET {NEXT} HTTP/1.1\r\nhost: {host}\r\n"), vec![200]),
        (format!("GET http://{host}{NEXT} HTTP/1.1\r\nhost: {host}\r\n"), vec![200]),
        (format!("GET http://evil.example{NEXT} HTTP/1.1\r\nhost: {host}\r\n"), vec![403]),
        (format!("GET http://{host}{NEXT} HTTP/1.1\r\nhost: evil.example\r\n"), vec![403]),
        (format!("GET http://{host}@evil.example{NEXT} HTTP/1.1\r\nhost: {host}\r\n"), vec![403]),
        (format!("GET {NEXT} HTTP/1.1\r\nhost: {host}\r\nhost: {host}\r\n"), vec![400]),
        (format!("GET {NEXT} HTTP/1.1\r\nhost: evil.example\r\nhost: {host}\r\n"), vec![400]),
        (format!("GET {NEXT} HTTP/1.1\r\nhost: {host}.evil.example\r\n"), vec![403]),
        (format!("GET {NEXT} HTTP/1.1\r\nhost: evil@{host}\r\n"), vec![403]),
        (format!("GET {NEXT} HTTP/1.1\r\nhost: {host}, evil.example\r\n"), vec![403]),
        (format!("GET {NEXT} HTTP/1.1\r\n"), vec![403]),
        (format!("GET {NEXT} HTTP/1.0\r\n"), vec![403]),
        (format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n"), vec![404]),
        ("CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: 169.254.169.254:80\r\n".to_owned(), vec![403]),
        (format!("GET {NEXT} {NEXT} HTTP/1.1\r\nhost: {host}\r\n"), vec![400]),
        (format!("GET mcp HTTP/1.1\r\nhost: {host}\r\n"), vec![403]),
        (format!("GET\t{NEXT} HTTP/1.1\r\nhost: {host}\r\n"), vec![400]),
        (format!("GET {NEXT} HTTP/2.0\r\nhost: {host}\r\n"), vec![400]),
        (format!("GET {NEXT} HTTP/1.1 \r\nhost: {host}\r\n"), vec![400]),
        (format!("GET /{long} HTTP/1.1\r\nhost: {host}\r\n"), vec![431]),
        (format!("GET {NEXT} HTTP/1.1\r\nhost: {host}\r\nx: {long}\r\n"), vec![431]),
        (format!("GET {NEXT} HTTP/1.1\r\nhost: {host}\r\n{many}"), vec![431]),
        // Nobody is upgraded: what comes behind is read as HTTP/1.1.
        (format!("GET {NEXT} HTTP/1.1\r\nhost: {host}\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"), vec![200]),
    ] {
        let connection = if request.contains("h2c") { "connection: upgrade, http2-settings, close" } else { "connection: close" };
        let answered = statuses(world.address, format!("{request}{connection}\r\n\r\n").as_bytes()).await;
        if answered != answers {
            wrong.push((request.chars().take(120).collect::<String>(), answered, answers));
        }
    }
    assert!(wrong.is_empty(), "what, was answered, should have been: {wrong:#?}");
    let agent = world.agent("bot");
    for path in [
        "/mcp/%63rm",
        "/mcp/crm/",
        "/mcp//crm",
        "//mcp/crm",
        "/mcp/CRM",
        "/mcp/crm%00",
        "/mcp/../mcp/crm",
        "/mcp/crm%2f",
        "/MCP",
        "/mcp/c%D1%81rm",
    ] {
        assert_eq!(send(world.request(&agent, "POST", path, "{}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_however_it_passes_the_time() {
    let world = World::limited("call_timeout = \"1s\"\nrequest_timeout = \"300ms\"\n").await;
    let head = format!("GET {NEXT} HTTP/1.1\r\nhost: {}\r\nx: ", world.address);
    let whole = format!("GET {NEXT} HTTP/1.1\r\nhost: {}\r\n\r\n", world.address);
    let stall = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 0, 1, &[0x82])].concat();
    for (what, first, drip) in [
        ("silent", &b""[..], false),
        ("half a preface", b"PRI * HTTP", false),
        ("a preface alone", PREFACE, false),
        ("a head that does not end", head.as_bytes(), true),
        ("an HTTP/2 head that does not end", &stall, false),
        ("an HTTP/2 connection without a request", &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat(), false),
        ("a request, then nothing", whole.as_bytes(), false),
    ] {
        let (mut read, mut write) = TcpStream::connect(world.address).await.unwrap().into_split();
        write.write_all(first).await.unwrap();
        let dripping = tokio::spawn(async move {
            let mut every = tokio::time::interval(std::time::Duration::from_millis(20));
            while drip && write.write_all(b"a").await.is_ok() {
                every.tick().await;
            }
            write // a half-closed connection would end by that
        });
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(20), read.read_to_end(&mut rest))
            .await
            .unwrap_or_else(|_| panic!("{what}"));
        dripping.abort();
    }
}

#[tokio::test]
async fn a_body_at_a_drip_is_given_up_and_recorded_and_a_long_call_is_not() {
    let world = World::limited("call_timeout = \"1s\"\nrequest_timeout = \"300ms\"\n").await;
    let agent = world.agent("bot");
    let mut bytes = call(&world, &agent, |body| (format!("content-length: {}\r\n", body.len() + 1000), body.to_owned())).await;
    let next = bytes.windows(5).rposition(|window| window == b"GET /").unwrap();
    bytes.truncate(next);
    assert_eq!(statuses(world.address, &bytes).await, [408]);
    assert_eq!(world.refusals().await.pop().unwrap().code, "too_slow");
    // A call takes a second here before it is given up, and says nothing meanwhile: it is not the client's fault.
    let reply = send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "hangs" }))).await;
    assert!(reply.text().starts_with("tool_timed_out: "), "{reply:?}");
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_is_cut_off() {
    let world = World::limited("call_timeout = \"1s\"\nrequest_timeout = \"300ms\"\n").await;
    let agent = world.agent("plain");
    let bearer = |session: &str, message: &serde_json::Value| {
        let mut request = world.legacy(&agent, "/mcp/crm", session, message);
        request.headers_mut().insert("authorization", format!("Bearer {}", agent.token).parse().unwrap());
        request.headers_mut().remove("dpop");
        request
    };
    let begin = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let begun = send(bearer("", &json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": begin }))).await;
    let call = json!({ "name": "query", "arguments": { "q": "x".repeat(60_000) } });
    let call = bearer(begun.header("mcp-session-id"), &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call }));
    let (head, body) = call.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let fields: String = head.headers.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
    let head = format!("POST /mcp/crm HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n{fields}\r\n", world.address, body.len());
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // More than the kernel keeps for a reader that does not read; the gateway stops reading when it cannot write.
    let flooding = async {
        for _ in 0..2_000 {
            if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
                return true;
            }
        }
        false
    };
    assert!(soon(flooding).await, "120 MB of calls were taken from a client that reads nothing");
}

/// A good call of `query`, its body changed as text.
fn changed(world: &World, agent: &crate::support::Agent, from: &str, to: &str) -> http::Request<Full<Bytes>> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "query", "arguments": { "q": "x" }, "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {} } } });
    let text = body.to_string();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let (head, _) = world.modern(agent, "/mcp/crm", "tools/call", json!({ "name": "query", "arguments": { "q": "x" } })).into_parts();
    http::Request::from_parts(head, Full::from(text.replace(from, to)))
}

#[tokio::test]
async fn a_number_that_policy_would_round_is_refused_before_anything_is_decided() {
    let world = World::start().await;
    let agent = world.agent("bot");
    for (number, code) in [
        ("100.00000000000000001", -32600),
        ("9007199254740993.0", -32600),
        ("1000000000000000000000000000001", -32600),
        ("1e-400", -32600),
        ("1e400", -32700),
        ("NaN", -32700),
        ("01", -32700),
        ("+1", -32700),
    ] {
        let reply = send(changed(&world, &agent, r#""q":"x""#, &format!(r#""q":"x","n":[{{"n":{number}}}]"#))).await;
        assert_eq!((reply.status, reply.code()), (400, code), "{number}: {reply:?}");
    }
    assert!(world.intents().await.is_empty());
    assert_eq!(world.refusals().await.iter().filter(|refused| refused.code == "inexact_number").count(), 4);
    // These are judged: the tool does not declare the argument.
    for number in ["1E1", "-0", "0.1", "9007199254740993", "1.7976931348623157e308"] {
        let reply = send(changed(&world, &agent, r#""q":"x""#, &format!(r#""q":"x","n":{number}"#))).await;
        assert!(reply.text().starts_with("invalid_arguments: "), "{number}: {reply:?}");
    }
}

#[tokio::test]
async fn ids_that_two_readers_read_differently_are_refused() {
    let world = World::start().await;
    let agent = world.agent("bot");
    for id in ["null", "1.5", "1.0", "1e3", "18446744073709551616", "-9223372036854775809", "true", "[1]", "{}", r#""\ud800""#] {
        let reply = send(changed(&world, &agent, r#""id":1"#, &format!(r#""id":{id}"#))).await;
        assert_eq!(reply.status, 400, "{id}: {reply:?}");
    }
    assert!(world.intents().await.is_empty());
    for id in ["1", r#""1""#, r#""""#, "18446744073709551615", "-1", r#""\u0000\u202e""#] {
        let reply = send(changed(&world, &agent, r#""id":1"#, &format!(r#""id":{id}"#))).await;
        assert_eq!(reply.text(), r#"{"q":"x"}"#);
        assert_eq!(reply.body["id"], serde_json::from_str::<serde_json::Value>(id).unwrap(), "text and number are two ids");
    }
}

// HTTP/2, by hand (RFC 9113), its header blocks without compression (RFC 7541 §6.2.2).

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127);
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The frames that the other side sends, until it closes or `enough`.
async fn frames(stream: &mut (impl tokio::io::AsyncRead + Unpin), enough: impl Fn(u8, u32) -> bool) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        if soon(stream.read_exact(&mut head)).await.is_err() {
            return frames;
        }
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
        if soon(stream.read_exact(&mut payload)).await.is_err() {
            return frames;
        }
        let (kind, id) = (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff);
        frames.push((kind, id, payload));
        if enough(kind, id) {
            return frames;
        }
    }
}

#[tokio::test]
async fn http2_heads_that_no_http1_server_would_read_alike_are_refused() {
    let world = World::limited("call_timeout = \"1s\"\nrequest_timeout = \"2s\"\n").await;
    let host = world.address.to_string();
    let good = [(":method", "GET"), (":scheme", "http"), (":path", NEXT), (":authority", &host)];
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    let without = |name: &str| good.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let instead = |name: &'static str, value: &'static str| [without(name), vec![(name, value)]].concat();
    for (what, fields, is_answered) in [
        ("good", good.to_vec(), true),
        ("two paths", with(&[(":path", "/mcp")]), false),
        ("two methods", with(&[(":method", "POST")]), false),
        ("two authorities", with(&[(":authority", "evil.example")]), false),
        ("an unknown pseudo-header", with(&[(":evil", "x")]), false),
        ("a status", with(&[(":status", "200")]), false),
        ("a pseudo-header after others", [vec![("x", "y")], good.to_vec()].concat(), false),
        ("no method", without(":method"), false),
        ("no path", without(":path"), false),
        ("no scheme", without(":scheme"), false),
        ("an empty path", instead(":path", ""), false),
        ("a path without a slash", instead(":path", "mcp"), false),
        ("a path with a line in it", instead(":path", "/mcp HTTP/1.1\r\nx: y"), false),
        ("a method with a space", instead(":method", "GET / HTTP/1.1"), false),
        ("another authority", instead(":authority", "evil.example"), false),
        ("no authority", without(":authority"), false),
        ("a host that differs", with(&[("host", "evil.example")]), false),
        ("two hosts", with(&[("host", "a"), ("host", "b")]), false),
        ("an upper-case name", with(&[("Accept", "x")]), false),
        ("an empty name", with(&[("", "x")]), false),
        ("a name with a colon", with(&[("x: y", "x")]), false),
        ("connection", with(&[("connection", "close")]), false),
        ("keep-alive", with(&[("keep-alive", "x")]), false),
        ("proxy-connection", with(&[("proxy-connection", "x")]), false),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), false),
        ("upgrade", with(&[("upgrade", "h2c")]), false),
        ("te", with(&[("te", "gzip")]), false),
        ("a line in a value", with(&[("x", "a\r\ny: z")]), false),
        ("a newline in a value", with(&[("x", "a\nb")]), false),
        ("a NUL in a value", with(&[("x", "a\0b")]), false),
        ("a length and no body", with(&[("content-length", "5")]), false),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "5")]), false),
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields));
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat()).await.unwrap();
        let seen = frames(&mut stream, |kind, id| (kind, id) == (HEADERS, 1) || kind == RST_STREAM || kind == GOAWAY).await;
        // `:status: 200` is the static table's entry 8 (RFC 7541, appendix A).
        let answered = seen.iter().any(|(kind, id, block)| (*kind, *id) == (HEADERS, 1) && block.first() == Some(&0x88));
        assert_eq!(answered, is_answered, "{what}: {seen:?}");
    }
}

#[tokio::test]
async fn http2_floods_end_their_connection_and_nobody_elses() {
    let world = World::start().await;
    const ROUNDS: u32 = 1_000;
    let host = world.address.to_string();
    let good = block(&[(":method", "GET"), (":scheme", "http"), (":path", NEXT), (":authority", &host)]);
    let endless = [frame(HEADERS, END_STREAM, 1, &good), frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(100))]).repeat(100))];
    let resets = |stream: u32| [frame(HEADERS, END_HEADERS, stream, &good), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    for (what, first, again) in [
        ("continuation", endless[0].clone(), Box::new(move |_| endless[1].clone()) as Box<dyn Fn(u32) -> Vec<u8>>),
        ("rapid reset", Vec::new(), Box::new(move |round| (0..100).flat_map(|n| resets(1 + 2 * (round * 100 + n))).collect())),
    ] {
        let (mut read, mut write) = TcpStream::connect(world.address).await.unwrap().into_split();
        write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &first].concat()).await.unwrap();
        let (said, rounds) = tokio::join!(frames(&mut read, |kind, _| kind == GOAWAY), async {
            for round in 0..ROUNDS {
                if soon(write.write_all(&again(round))).await.is_err() {
                    return round;
                }
                // The other half reads meanwhile.
                tokio::task::yield_now().await;
            }
            ROUNDS
        });
        assert!(rounds < ROUNDS || said.iter().any(|(kind, ..)| *kind == GOAWAY), "{what}: all of it was taken");
        let request = http::Request::get(format!("{}{NEXT}", world.origin)).body(Full::<Bytes>::default()).unwrap();
        assert_eq!(send(request).await.status, 200, "{what}");
    }
    let agent = world.agent("bot");
    assert_eq!(send(world.modern(&agent, "/mcp/crm", "tools/call", json!({ "name": "query" }))).await.text(), "{}", "{MODERN}");
}
