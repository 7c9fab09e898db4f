//! Events, what they come in, and rules over them.

use bailiwick_core::detect::cloudtrail::digest::{Digests, Keys};
use bailiwick_core::detect::cloudtrail::{Broken, Piece, Session, Sessions, Splitter, Trail};
use bailiwick_core::detect::guardduty::{GuardDuty, Whose};
use bailiwick_core::detect::rules::{Pack, Reader, Source};
use bailiwick_core::model::Timestamp;

/// A stream of CloudTrail's: the events in it are the same in whatever pieces it comes, and each is read as JSON is.
pub(crate) fn cloudtrail(bytes: &[u8]) -> bool {
    let (whole, end) = split(bytes, bytes.len());
    for chunk in [1, 7] {
        assert_eq!(split(bytes, chunk), (whole.clone(), end), "in pieces of {chunk}");
    }
    let mut trail = Trail::new(std::sync::Arc::new(Pack::default().about(Source::CloudTrail).0), Sessions::default());
    let mut reader = Reader::new();
    for event in &whole {
        let read = reader.read(event).is_ok();
        assert_eq!(trail.take(event).is_ok(), read);
        // Deeper or with half of a surrogate pair it may be one and not the other.
        if let Ok(text) = std::str::from_utf8(event)
            && !text.contains("\\u")
            && serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object())
        {
            assert!(read || text.matches(['[', '{']).count() > 64, "{text}");
        }
    }
    end.is_ok() && !whole.is_empty()
}

fn split(bytes: &[u8], chunk: usize) -> (Vec<Vec<u8>>, Result<u64, Broken>) {
    let (mut splitter, mut events) = (Splitter::new(), Vec::new());
    for piece in bytes.chunks(chunk.max(1)) {
        let pushed = splitter.push(piece, |piece| match piece {
            Piece::Event(text) => events.push(text.to_vec()),
            Piece::TooLong(_) => {}
        });
        if let Err(broken) = pushed {
            return (events, Err(broken));
        }
    }
    (events, splitter.end())
}

/// A digest of CloudTrail's, verified with no keys and as its own predecessor.
pub(crate) fn digest(bytes: &[u8]) -> bool {
    let mut digests = Digests::default();
    let taken = digests.take(bytes, Some("00")).is_ok();
    let verified = digests.verify(&Keys::default());
    assert_eq!(verified.signed, 0);
    assert!(!taken || !verified.broken.is_empty() || !verified.unsigned.is_empty());
    taken
}

/// What GuardDuty says: read the same again it says nothing new, and what is made of it is in bounds.
pub(crate) fn guardduty(bytes: &[u8]) -> bool {
    let mut taken = GuardDuty::new();
    let join = |_: &Session, _: Timestamp| Whose::default();
    let Ok(findings) = taken.take(bytes, &[], &join) else { return false };
    for finding in &findings {
        assert!((0.0..=10.0).contains(&finding.severity()) && finding.first <= finding.last && finding.count > 0, "{finding:?}");
        assert!(finding.about.agent.is_none() && finding.seen.chars().count() <= 12_000, "{finding:?}");
    }
    assert_eq!(taken.take(bytes, &[], &join).map(|again| again.len()), Ok(0));
    !findings.is_empty()
}

/// A file of rules, compiled, and run over its own examples.
pub(crate) fn rules(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (pack, problems) = Pack::read([("rules.yml", text)]);
    let compiled = [Source::Record, Source::CloudTrail].map(|source| pack.about(source).1.is_empty());
    let _ = pack.check();
    problems.is_empty() && compiled == [true, true]
}
