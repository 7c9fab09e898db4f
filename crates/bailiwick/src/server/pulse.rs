//! The pulse: a regular beat whose delay says how long everything else waits for a processor.

use std::sync::Arc;
use std::time::Duration;

use bailiwick_control::token::Identity;
use bailiwick_core::pressure::BEAT;
use bailiwick_gateway::mcp::Face;
use tokio::time::Instant;

/// How often it is said and recorded that requests are turned away.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Tells both doors the beat for as long as it is polled.
pub(super) async fn beat(face: Arc<Face>, identity: Arc<Identity>) {
    let (mut told, mut was_high) = (Instant::now(), false);
    loop {
        let due = Instant::now() + BEAT;
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        // A timer may be a millisecond late without anybody having waited.
        let late = now.saturating_duration_since(due).saturating_sub(Duration::from_millis(1));
        face.front().pressure().beat(late);
        identity.pressure().beat(late);
        if now.saturating_duration_since(told) >= TELL_EVERY {
            told = now;
            let is_high = face.front().pressure().is_high() || identity.pressure().is_high();
            if is_high && !was_high {
                tracing::warn!("more arrives than can be served; whoever asks the most is turned away");
            } else if was_high && !is_high {
                tracing::info!("everybody is served again");
            }
            was_high = is_high;
            face.front().record_turned_away().await;
        }
    }
}
