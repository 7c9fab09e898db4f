//! The life of one gateway's process. Killing it stops every task of it at the next place where it would touch the world.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a process is alive. Clones are of the same process.
///
/// Not a watch channel: that one wakes in an order which the runtime's own dice decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life(Arc<(AtomicBool, Notify)>);

impl Life {
    /// A process that begins to live.
    pub(crate) fn begin() -> Self {
        Self::default()
    }

    /// `kill -9`.
    pub(crate) fn end(&self) {
        let (over, told) = &*self.0;
        over.store(true, Ordering::Release);
        told.notify_waiters();
    }

    /// Whether it was killed.
    pub(crate) fn is_over(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    /// Resolves when it is killed.
    pub(crate) async fn over(&self) {
        let told = self.0.1.notified();
        if !self.is_over() {
            told.await;
        }
    }

    /// Lets a living process pass, and never returns to a dead one: whatever it would have done next is not done.
    pub(crate) async fn pass(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }
}
