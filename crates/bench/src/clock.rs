//! The only clock here.

use std::time::Instant;

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "this program measures time and nothing else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
