//! To a syslog collector: RFC 5424, by datagrams (RFC 5426), a connection with octet counting (RFC 6587 §3.4.1) or this machine's socket.

use std::time::Duration;

use bailiwick_core::bundle::Syslog;
use bailiwick_core::detect::finding::Level;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};

use super::told::Told;
use crate::fetch::Fetcher;

/// The facility: security and authorization messages (RFC 5424 §6.2.1, 10).
const FACILITY: u8 = 10;

/// The longest message that every receiver of datagrams should take (RFC 5424 §6.1), and what one by a connection may have.
const DATAGRAM_BYTES_MAX: usize = 2_048;
const CONNECTION_BYTES_MAX: usize = 8_192;

/// How long one message may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends it once. Of a datagram nobody knows whether it came.
pub(super) async fn send(fetcher: &Fetcher, to: &Syslog, told: &Told) -> Result<(), String> {
    let sent = async {
        match to {
            Syslog::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.send_to(&message(told, DATAGRAM_BYTES_MAX), path).await.map(drop)
            }
            Syslog::Udp(place) => {
                let address = fetcher.address(place).await?;
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.send_to(&message(told, DATAGRAM_BYTES_MAX), address).await.map(drop)
            }
            Syslog::Tcp(place) => {
                let mut stream = TcpStream::connect(fetcher.address(place).await?).await?;
                let message = message(told, CONNECTION_BYTES_MAX);
                let framed = [format!("{} ", message.len()).as_bytes(), &message].concat();
                stream.write_all(&framed).await?;
                stream.shutdown().await
            }
        }
    };
    match tokio::time::timeout(TIMEOUT, sent).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("it did not take the message in time".to_owned()),
    }
}

/// The message: its text is cut so that the whole is of at most so many bytes.
fn message(told: &Told, bytes_max: usize) -> Vec<u8> {
    let severity = match told.level() {
        Level::Critical => 2,
        Level::High => 3,
        Level::Medium => 4,
        Level::Low => 5,
    };
    let priority = FACILITY.saturating_mul(8).saturating_add(severity);
    let at = told.responded.at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
    let id = std::process::id();
    let host = header(&told.host);
    let mut line = format!("<{priority}>1 {at} {host} bailiwick {id} finding {} \u{feff}", data(told));
    let text = format!("{}: {}; {}; {}", told.title(), told.about(), told.seen(), told.done());
    let room = bytes_max.saturating_sub(line.len());
    let end = text.char_indices().map(|(at, c)| at.saturating_add(c.len_utf8())).take_while(|end| *end <= room).last().unwrap_or(0);
    line.push_str(text.get(..end).unwrap_or_default());
    line.into_bytes()
}

/// The structured data (§6.3). The enterprise number is the one that the standard keeps for examples: there is none of our own.
fn data(told: &Told) -> String {
    let (found, responded) = (&told.found, &told.responded);
    let mut data = "[finding@32473".to_owned();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let value: String = bailiwick_core::model::shown(&value, 120);
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
            data.push_str(&format!(" {name}=\"{escaped}\""));
        }
    };
    put("id", Some(responded.finding.to_string()));
    put("rule", Some(found.finding.detector.id.clone()));
    put("catalogue", found.finding.detector.catalogue.clone());
    put("level", Some(told.level().as_str().to_owned()));
    put("severity", Some(found.finding.severity().to_string()));
    put("agent", found.agent.as_ref().map(ToString::to_string));
    put("execution", found.execution.map(|id| id.to_string()));
    put("tool", found.tool.as_ref().map(ToString::to_string));
    put("response", Some(responded.response.as_str().to_owned()));
    put("code", Some(responded.code.as_str().to_owned()));
    put("record", Some(told.record.to_string()));
    data.push(']');
    data
}

/// A field of the header: printable ASCII, at most 255 bytes, or the nil value (§6).
fn header(text: &str) -> String {
    let field: String = text.chars().filter(char::is_ascii_graphic).take(255).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

#[cfg(test)]
pub(super) mod tests {
    use bailiwick_core::detect::finding::{About, Detector, Evidence, Finding, Kind, Proof, Response};
    use bailiwick_core::model::{Found, Responded, ResponseEnd, Timestamp};
    use bailiwick_log::Position;

    use super::*;

    /// A finding in which all that an attacker can choose is spiteful.
    pub(in crate::notify) fn spiteful() -> Told {
        let spite = "\u{202e}a\"]\\\n<2>1 - - - - - -\r\u{0}`<!channel>` https://evil.example é";
        let at: Timestamp = "2026-11-25T10:00:00.123456Z".parse().unwrap();
        let detector = Detector {
            id: "rule\"]".to_owned(),
            catalogue: Some("TU-10".to_owned()),
            title: "Secret in arguments".to_owned(),
            kind: Kind::Rule,
            tags: Vec::new(),
            guardduty: None,
            falsepositives: Vec::new(),
            response: Response::Quarantine,
        };
        let about = About { agent: "bot".parse().ok(), ..About::default() };
        let evidence = Evidence { proof: Proof::Record(3), at, says: spite.to_owned() };
        let finding = Finding::new(detector, about, evidence, "none".to_owned(), spite.repeat(99)).weighing(8, 1.0);
        let found = Found::new(at, finding, None);
        let responded = Responded {
            at,
            finding: found.finding.id,
            found: Position(4),
            agent: found.agent.clone(),
            execution: None,
            response: Response::Quarantine,
            code: ResponseEnd::Done,
            detail: String::new(),
            acts: vec![Position(5)],
            settles: None,
            by: "bailiwick".to_owned(),
            reason: String::new(),
        };
        Told { record: Position(6), found, responded, trust_domain: "acme.example".to_owned(), host: "gateway.acme.example".to_owned() }
    }

    #[test]
    fn a_message_is_one_of_rfc_5424_however_spiteful_what_was_found_is() {
        let told = spiteful();
        assert!(message(&told, DATAGRAM_BYTES_MAX).len() <= DATAGRAM_BYTES_MAX);
        let bytes = message(&told, 700);
        assert!((697..=700).contains(&bytes.len()), "cut between characters: {}", bytes.len());
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.chars().any(|c| c.is_control() || (bailiwick_core::model::hides(c) && c != '\u{feff}')), "{text}");
        let (head, message) = text.split_once(" \u{feff}").unwrap();
        let id = told.responded.finding;
        let start = format!("<83>1 2026-11-25T10:00:00.123456Z gateway.acme.example bailiwick {} finding ", std::process::id());
        let data = head.strip_prefix(&start).unwrap_or_else(|| panic!("{head}"));
        assert!(data.starts_with(&format!("[finding@32473 id=\"{id}\" rule=\"rule\\\"\\]\" catalogue=\"TU-10\" level=\"high\"")), "{data}");
        assert!(data.ends_with("code=\"done\" record=\"6\"]"), "{data}");
        assert!(message.starts_with("TU-10 Secret in arguments: agent bot; \\u{202e}a\"]\\\\n<2>1"), "{message}");
    }
}
