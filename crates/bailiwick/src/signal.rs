//! Signals: what tells the program to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves once the program is asked to stop, by SIGTERM or SIGINT.
pub(crate) async fn stop() {
    let mut term = match signal(SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => {
            tracing::warn!("SIGTERM cannot be waited for: {error}");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
