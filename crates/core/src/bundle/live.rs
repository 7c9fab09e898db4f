//! The bundle in force: one snapshot, replaced as a whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Snapshot;

/// The bundle in force. Whoever loads it keeps what it loaded, however often it is replaced meanwhile.
#[derive(Debug)]
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    /// Begins with `snapshot` in force.
    pub fn new(snapshot: impl Into<Arc<Snapshot>>) -> Self {
        Self(ArcSwap::new(snapshot.into()))
    }

    /// The snapshot in force now.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts `snapshot` in force for all that begins after this, and returns the one before it.
    pub fn activate(&self, snapshot: impl Into<Arc<Snapshot>>) -> Arc<Snapshot> {
        self.0.swap(snapshot.into())
    }
}
