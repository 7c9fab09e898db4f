//! What agents send and show over A2A.

use bailiwick_gateway::a2a;

/// A request, in both versions and bindings: what is read is in its one form, and is read back as what was judged.
pub(crate) fn request(bytes: &[u8]) -> bool {
    a2a::parse::fuzz(bytes)
}

/// A card: what is read can be reviewed, and leads to the declared address.
pub(crate) fn card(bytes: &[u8]) -> bool {
    a2a::card::fuzz(bytes)
}
