//! Callers over HTTP/1.1, each on a connection of its own and one call at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::http::{Answer, Connection, tools_call};
use crate::{Result, clock};

/// How a caller goes on after an answer.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// At once, whatever the answer was.
    AtOnce,
    /// At once after an answer, and after the time that a refusal names.
    Heeding,
    /// So long after the last call.
    Every(Duration),
}

/// Callers that call until they are stopped.
pub(crate) struct Callers {
    told: Arc<Told>,
    tasks: JoinSet<Result<Seen>>,
}

/// What callers are told.
#[derive(Default)]
struct Told {
    /// From now on calls count.
    count: AtomicBool,
    stop: AtomicBool,
}

/// What callers saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// How long each answered call took, sorted.
    pub(crate) answered: Vec<Duration>,
    /// Refused with 429 or 503 and `Retry-After`.
    pub(crate) refused: u64,
}

impl Seen {
    /// The time that this share of the answered calls took at most.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let index = (self.answered.len() as f64 * share) as usize;
        self.answered.get(index.min(self.answered.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Callers {
    /// Starts `connections` callers of the tool `tool`, sharing `tokens`. Their calls count from [`Self::count`] on.
    pub(crate) fn start(port: u16, tokens: &[String], connections: usize, tool: &str, pace: Pace) -> Self {
        let told = Arc::<Told>::default();
        let mut tasks = JoinSet::new();
        for token in tokens.iter().cycle().take(connections) {
            tasks.spawn(call(port, request(port, token, tool), pace, Arc::clone(&told)));
        }
        Self { told, tasks }
    }

    /// Counts from now on.
    pub(crate) fn count(&self) {
        self.told.count.store(true, Ordering::Relaxed);
    }

    /// Stops them and returns what they saw.
    pub(crate) async fn stop(mut self) -> Result<Seen> {
        self.told.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        while let Some(seen) = self.tasks.join_next().await {
            let seen = seen??;
            all.answered.extend(seen.answered);
            all.refused += seen.refused;
        }
        all.answered.sort_unstable();
        Ok(all)
    }

    /// Ends them where they are.
    pub(crate) async fn cut_off(mut self) {
        self.tasks.shutdown().await;
    }
}

fn request(port: u16, token: &str, tool: &str) -> Vec<u8> {
    let (head, body) = tools_call(port, "/mcp", tool, &"x".repeat(20));
    format!("{head}authorization: Bearer {token}\r\n\r\n{body}").into_bytes()
}

async fn call(port: u16, request: Vec<u8>, pace: Pace, told: Arc<Told>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut connection = None;
    while !told.stop.load(Ordering::Relaxed) {
        let open = match &mut connection {
            Some(open) => open,
            None => connection.insert(Connection::open(port).await?),
        };
        let (began, counts) = (clock::now(), told.count.load(Ordering::Relaxed));
        let Answer { head, body } = open.send(&request).await?;
        let head = head.to_ascii_lowercase();
        let was_refused = head.starts_with("http/1.1 503") || head.starts_with("http/1.1 429");
        if was_refused {
            if !head.contains("\r\nretry-after: 1") {
                return Err(format!("a refusal without `Retry-After`: {head}").into());
            }
            seen.refused += u64::from(counts);
        } else if head.starts_with("http/1.1 200") && !String::from_utf8_lossy(&body).contains("isError\":true") {
            seen.answered.extend(counts.then(|| began.elapsed()));
        } else {
            return Err(format!("neither an answer nor a refusal: {head} {}", String::from_utf8_lossy(&body)).into());
        }
        if head.contains("\r\nconnection: close") {
            connection = None;
        }
        match pace {
            Pace::AtOnce => {}
            Pace::Heeding if was_refused => tokio::time::sleep(Duration::from_secs(1)).await,
            Pace::Heeding => {}
            Pace::Every(pause) => tokio::time::sleep(pause).await,
        }
    }
    Ok(seen)
}
