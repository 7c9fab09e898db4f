//! The log's files, which an auditor reads without trusting whoever keeps them.

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::{Note, VerifierKey};
use bailiwick_log::receipt::Receipt;
use bailiwick_log::tile::{self, Entries, TilePath};

/// A key that signed nothing: what is under it may be read and must never be believed.
fn stranger() -> Option<VerifierKey> {
    VerifierKey::new("stranger.example/log", [7; 32]).ok()
}

/// A signed note, its key as text, and the checkpoint in it.
pub(crate) fn note(bytes: &[u8]) -> bool {
    if let Some(key) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<VerifierKey>().ok()) {
        assert_eq!(key.to_string().parse::<VerifierKey>().as_ref().map(ToString::to_string).ok(), Some(key.to_string()));
        return true;
    }
    let Ok(note) = Note::parse(bytes) else { return false };
    assert_eq!(note.to_string().as_bytes(), bytes, "a note is written as it came");
    if let Some(key) = stranger() {
        assert!(Checkpoint::verify(&note, &key).is_err(), "a checkpoint was believed that the key did not sign");
    }
    true
}

/// A receipt.
pub(crate) fn receipt(bytes: &[u8]) -> bool {
    let Some(receipt) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Receipt>().ok()) else { return false };
    let again: Option<Receipt> = receipt.to_string().parse().ok();
    assert_eq!(again.map(|again| again.to_string()), Some(receipt.to_string()));
    if let Some(key) = stranger() {
        assert!(receipt.verify(b"an entry", &key).is_err(), "a receipt was believed that the key did not sign");
    }
    true
}

/// A bundle of entries, a tile of hashes and the path of either.
pub(crate) fn tile(bytes: &[u8]) -> bool {
    if let Some(path) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<TilePath>().ok()) {
        assert_eq!(path.to_string().as_bytes(), bytes, "a path is written in one way");
        return true;
    }
    let entries: Vec<&[u8]> = Entries::new(bytes).map_while(Result::ok).collect();
    if let Ok(hashes) = tile::decode_hashes(bytes, u16::try_from(bytes.len() / 32).unwrap_or(u16::MAX)) {
        assert_eq!(tile::encode_hashes(&hashes), bytes);
    }
    let mut written = Vec::new();
    for entry in &entries {
        // An empty entry can be stored by others and is never written by us.
        if !tile::encode_entry(entry, &mut written) {
            return false;
        }
    }
    assert!(bytes.starts_with(&written), "entries are written as they came");
    tile::decode_entries(bytes, u16::try_from(entries.len()).unwrap_or(0)).is_ok()
}

/// The last segment of a pending file, as a crash or somebody else left it.
pub(crate) fn pending(bytes: &[u8]) -> bool {
    bailiwick_store::embedded::check_segment(bytes, 0).is_ok()
}
