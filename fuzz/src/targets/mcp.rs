//! MCP: what agents and tool servers send.

use bailiwick_core::json::Limits;
use bailiwick_gateway::mcp::parse::{self, Message};
use bailiwick_gateway::mcp::upstream::message;
use bailiwick_gateway::mcp::upstream::mirror;
use bailiwick_gateway::mcp::upstream::sse::{Event, Parser};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// A message of an agent: the arguments' text is the very text that came.
pub(crate) fn message(bytes: &[u8]) -> bool {
    let Ok(message) = parse::message(bytes, &Limits::default()) else { return false };
    if let Message::Request(request) = &message {
        assert!(request.id.is_string() || request.id.is_number(), "an id of another kind: {}", request.id);
        if let Some(arguments) = &request.arguments {
            let text = arguments.text().get().as_bytes();
            assert!(bytes.windows(text.len()).any(|window| window == text), "the arguments are not as they came");
        }
    }
    let _ = parse::era(&HeaderMap::new(), &message);
    true
}

/// The head of a request, line by line, and after an empty line its body.
pub(crate) fn headers(bytes: &[u8]) -> bool {
    let split = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(split);
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let _ = (parse::media(&headers), parse::announced(&headers), parse::accepts(&headers, "text/event-stream"));
    let Ok(message) = parse::message(body.get(2..).unwrap_or_default(), &Limits::default()) else { return false };
    if let Message::Request(request) = &message {
        let schema = request.params.get("schema").unwrap_or(&Value::Null);
        let arguments = request.params.get("arguments").unwrap_or(&Value::Null);
        let _ = parse::mirrored_arguments(&headers, schema, arguments);
        if let Ok(mirrors) = mirror::of_schema(schema) {
            let _ = mirror::headers(&mirrors, arguments);
        }
    }
    parse::era(&headers, &message).is_ok()
}

/// A message of a tool server.
pub(crate) fn server_message(bytes: &[u8]) -> bool {
    message::read(bytes, &Limits::default()).is_ok()
}

/// A stream of events: however it is cut, the same events come out.
pub(crate) fn server_events(bytes: &[u8]) -> bool {
    const BYTES_MAX: usize = 1 << 16;
    let whole = {
        let (mut parser, mut events) = (Parser::new(BYTES_MAX), Vec::new());
        parser.read(bytes, &mut events).map(|()| events)
    };
    let mut cut = Ok(Vec::new());
    let mut parser = Parser::new(BYTES_MAX);
    for piece in bytes.chunks(3) {
        let mut events = Vec::new();
        let read = parser.read(piece, &mut events);
        cut = cut.and_then(|mut before: Vec<Event>| {
            before.extend(events);
            read.map(|()| before)
        });
    }
    assert_eq!(whole, cut);
    whole.is_ok_and(|events| events.iter().any(|event| matches!(event, Event::Message(_))))
}
