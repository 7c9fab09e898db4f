//! Turning requests away when more arrives than can be served, before they cost anything, and from those who ask the most.
//!
//! What is measured is how late a regular beat comes: everything else that is ready waits as long for a processor. Like
//! CoDel (RFC 8289), only delay that stands counts: the least of a window, so that a burst that drains is no overload. What is
//! then held back is each caller's rate, by one share for all that is lowered until the delay is gone: who asks less than
//! that is not refused at all, however much the others ask ("Approximate Fairness through Differential Dropping", Pan et
//! al., 2003). When the delay is gone the share rises until nobody feels it.
//!
//! Nothing here waits or allocates. Callers are counted in a fixed number of buckets; two who meet in one share its share.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a beat should take.
pub const BEAT: Duration = Duration::from_millis(10);

/// How late beats may be without anybody being refused.
pub const TARGET: Duration = Duration::from_millis(10);

/// How long a refusal waits that is told to one who is refused all the time, and so does not heed `Retry-After`.
pub const LATE: Duration = Duration::from_millis(250);

/// How long is counted before the share is set anew.
const WINDOW: Duration = Duration::from_millis(100);

/// Requests in a window that are never too many: a machine that is busy with something else refuses no trickle.
const FEW: u64 = 32;

/// Refusals that one caller is told at once in a window.
const PROMPT: u32 = 16;

/// Refusals that may wait at once.
const WAITING_MAX: usize = 4096;

const BUCKETS: usize = 1024;

/// The share while there is no overload.
const OPEN: u64 = u64::MAX;

/// Shares are counted in 256ths of a request.
const ONE: u64 = 256;

/// What is under way at a door: how much arrives, whether it is too much, and who has to come back later.
#[derive(Debug)]
pub struct Pressure {
    hasher: RandomState,
    /// What arrived in this window and in the one before, by the window's number modulo two.
    arrivals: [Buckets; 2],
    refusals: Buckets,
    window: AtomicUsize,
    /// How much one caller may do in a window, in 256ths of a request.
    share: AtomicU64,
    arrived: AtomicU64,
    admitted: AtomicU64,
    refused: AtomicU64,
    waiting: Arc<AtomicUsize>,
    beats: Mutex<Beats>,
}

type Buckets = Box<[AtomicU32]>;

#[derive(Debug)]
struct Beats {
    elapsed: Duration,
    least: Duration,
    /// The least delay in the window before.
    stood: Duration,
    /// The most that was admitted in one window of late.
    best: u64,
}

impl Beats {
    const fn begin(stood: Duration, best: u64) -> Self {
        Self { elapsed: Duration::ZERO, least: Duration::MAX, stood, best }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Admission {
    /// It is served.
    Granted,
    /// It is refused at once.
    Refused,
    /// It is refused after [`LATE`], during which this is held: its caller does not wait of its own accord.
    RefusedLate(Waiting),
}

/// A refusal that waits.
#[derive(Debug)]
pub struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Default for Pressure {
    fn default() -> Self {
        let buckets = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self {
            hasher: RandomState::new(),
            arrivals: [buckets(), buckets()],
            refusals: buckets(),
            window: AtomicUsize::new(0),
            share: AtomicU64::new(OPEN),
            arrived: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            waiting: Arc::default(),
            beats: Mutex::new(Beats::begin(Duration::ZERO, 0)),
        }
    }
}

impl Pressure {
    /// Decides on one request. `whose` is asked for only while there is overload; the door is open until the first beat.
    pub fn admit<K: Hash>(&self, whose: impl FnOnce() -> K) -> Admission {
        self.arrived.fetch_add(1, Relaxed);
        let share = self.share.load(Relaxed);
        if share == OPEN {
            self.admitted.fetch_add(1, Relaxed);
            return Admission::Granted;
        }
        let window = self.window.load(Relaxed);
        let bucket = self.bucket(whose());
        let [even, odd] = &self.arrivals;
        let (now, before) = if window.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let (Some(now), Some(before)) = (now.get(bucket), before.get(bucket)) else {
            return Admission::Granted; // there is no such bucket
        };
        let nth = u64::from(now.fetch_add(1, Relaxed)).saturating_add(1);
        let before = u64::from(before.load(Relaxed));
        // Who asked for more than the share gets it spread evenly over as much as it asked before; the phase lets fractions
        // of a request come to somebody.
        let phase = self.hasher.hash_one((bucket, window)) % ONE;
        let quota = |n: u64| {
            let flooded = before.saturating_mul(ONE) > share;
            let due = if flooded { n.min(before).saturating_mul(share) / before.max(1) } else { n.saturating_mul(ONE).min(share) };
            due.saturating_add(phase) / ONE
        };
        if quota(nth) > quota(nth.saturating_sub(1)) {
            self.admitted.fetch_add(1, Relaxed);
            return Admission::Granted;
        }
        self.refused.fetch_add(1, Relaxed);
        self.refusal_in(bucket).map_or(Admission::Refused, Admission::RefusedLate)
    }

    /// Counts a refusal that was decided elsewhere, for want of room. To whoever does not wait of its own accord it is told
    /// after [`LATE`], during which what is returned is held: else refusals take the time of those who are served.
    pub fn refused(&self, whose: impl Hash) -> Option<Waiting> {
        self.refusal_in(self.bucket(whose))
    }

    fn refusal_in(&self, bucket: usize) -> Option<Waiting> {
        if self.refusals.get(bucket)?.fetch_add(1, Relaxed) < PROMPT {
            return None;
        }
        let waiting = Waiting(Arc::clone(&self.waiting));
        (self.waiting.fetch_add(1, Relaxed) < WAITING_MAX).then_some(waiting)
    }

    fn bucket(&self, whose: impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(whose) % BUCKETS as u64).unwrap_or(0)
    }

    /// Takes in that a beat came `late`. When a window is over, the share is set by the least delay in it.
    pub fn beat(&self, late: Duration) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.elapsed = beats.elapsed.saturating_add(BEAT).saturating_add(late);
        beats.least = beats.least.min(late);
        if beats.elapsed < WINDOW {
            return;
        }
        let (arrived, admitted) = (self.arrived.swap(0, Relaxed), self.admitted.swap(0, Relaxed));
        let best = admitted.max(beats.best.saturating_sub(beats.best / 64));
        let (standing, stood, elapsed) = (beats.least.as_secs_f64(), beats.stood.as_secs_f64(), beats.elapsed.as_secs_f64());
        *beats = Beats::begin(beats.least, best);
        let share = self.share.load(Relaxed);
        let (callers, busiest) = self.turn();
        let excess = standing - TARGET.as_secs_f64();
        // Delay that grows by a tenth of the time that passes says that a tenth too much was let in; and what stands already
        // is to be gone within four windows.
        let factor = (1.0 - excess / (4.0 * WINDOW.as_secs_f64())) / (1.0 + (standing - stood) / elapsed);
        let next = if excess > 0.0 && arrived >= FEW {
            let from = if share == OPEN { admitted.saturating_mul(ONE) } else { share };
            // However late beats are, a quarter of what can be done is done: the delay may have other causes.
            let floor = best.saturating_mul(ONE / 4) / callers.max(1);
            scaled(from, factor.clamp(0.5, 1.25)).max(floor).max(1)
        } else if share == OPEN {
            OPEN
        } else {
            let raised = scaled(share, factor.clamp(0.9, 1.25)).saturating_add(ONE);
            if raised > busiest.saturating_mul(2 * ONE) { OPEN } else { raised }
        };
        self.share.store(next, Relaxed);
    }

    /// Whether requests are being refused.
    pub fn is_high(&self) -> bool {
        self.share.load(Relaxed) != OPEN
    }

    /// How many requests were refused since this was last asked.
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Relaxed)
    }

    /// Begins the next window, and says how many callers there were in the last one and how much the busiest of them asked.
    fn turn(&self) -> (u64, u64) {
        let window = self.window.load(Relaxed);
        let [even, odd] = &self.arrivals;
        let (last, next) = if window.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        for bucket in next.iter().chain(&self.refusals) {
            bucket.store(0, Relaxed);
        }
        self.window.store(window.wrapping_add(1), Relaxed);
        last.iter()
            .map(|bucket| u64::from(bucket.load(Relaxed)))
            .fold((0, 0), |(callers, busiest), asked| (callers.saturating_add(u64::from(asked > 0)), busiest.max(asked)))
    }
}

/// `share` times `factor`.
fn scaled(share: u64, factor: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a factor between a half and 1.25")]
    let parts = (factor * 1024.0) as u64;
    share.saturating_mul(parts) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves ten requests in the time of a beat; whatever else was let in waits, and delays the next beat.
    #[derive(Default)]
    struct Server {
        pressure: Pressure,
        queue: u64,
        due: u64,
        now: u64,
    }

    #[derive(Debug, Default)]
    struct Seen {
        admitted: [u64; 2],
        refused: [u64; 2],
        delays: Vec<Duration>,
    }

    impl Server {
        /// As long as so many beats, with so many requests of the noisy caller in each, and one of the quiet one in every third.
        fn run(&mut self, beats: u64, noisy: u64) -> Seen {
            let mut seen = Seen::default();
            for _ in 0..beats {
                self.now += 1;
                for (who, requests) in [noisy, u64::from(self.now.is_multiple_of(3))].into_iter().enumerate() {
                    for _ in 0..requests {
                        match self.pressure.admit(|| who) {
                            Admission::Granted => {
                                seen.admitted[who] += 1;
                                self.queue += 1;
                            }
                            Admission::Refused | Admission::RefusedLate(_) => seen.refused[who] += 1,
                        }
                    }
                }
                self.queue = self.queue.saturating_sub(10);
                let late = BEAT.mul_f64(self.queue as f64 / 10.0);
                seen.delays.push(late);
                if self.now >= self.due {
                    self.pressure.beat(late);
                    self.due = self.now + 1 + self.queue / 10;
                }
            }
            seen.delays.sort();
            seen
        }
    }

    #[test]
    fn ten_times_what_can_be_served_delays_nobody_for_long_and_costs_only_who_floods() {
        let mut server = Server::default();
        let calm = server.run(300, 8);
        assert_eq!((calm.refused, server.pressure.is_high()), ([0, 0], false));
        let onset = server.run(300, 100);
        assert!(server.pressure.is_high());
        assert_eq!(onset.refused[1], 0, "whoever asks less than the share is not refused, not even at the onset");
        let flood = server.run(3_000, 100);
        assert_eq!(flood.refused[1], 0);
        assert!(flood.delays[1_500] <= 3 * TARGET, "{:?}", flood.delays[1_500]);
        assert!(flood.delays[2_970] <= 10 * TARGET, "{:?}", flood.delays[2_970]);
        let served = flood.admitted[0] + flood.admitted[1];
        assert!((20_000..=30_000).contains(&served), "what can be served is served, {served} of 30,000");
        let waits = server.pressure.waiting.load(Relaxed);
        assert_eq!(waits, 0, "no refusal waits that was dropped");
        server.run(20, 5);
        let after = server.run(300, 8);
        assert_eq!((after.refused, server.pressure.is_high()), ([0, 0], false), "it recovers");
    }

    #[test]
    fn a_late_beat_refuses_nobody_where_little_arrives() {
        let mut server = Server { queue: 1_000_000, ..Server::default() };
        assert_eq!(server.run(300, 1).refused, [0, 0]);
        assert!(!server.pressure.is_high());
    }

    #[test]
    fn who_does_not_heed_a_refusal_is_told_the_next_ones_late_and_only_so_many_wait() {
        let pressure = Pressure::default();
        for _ in 0..100 {
            assert!(matches!(pressure.admit(|| "noisy"), Admission::Granted));
        }
        pressure.beat(TARGET * 100);
        let answers: Vec<_> = (0..20_000).map(|_| pressure.admit(|| "noisy")).collect();
        let late = answers.iter().filter(|answer| matches!(answer, Admission::RefusedLate(_))).count();
        let prompt = answers.iter().filter(|answer| matches!(answer, Admission::Refused)).count();
        assert_eq!(late, WAITING_MAX);
        assert!(prompt > 5_000, "{prompt}");
        assert!(pressure.take_refused() > 10_000);
        drop(answers);
        assert_eq!(pressure.waiting.load(Relaxed), 0);
        let for_want_of_room: Vec<_> = (0..PROMPT + 4).filter_map(|_| pressure.refused("other")).collect();
        assert_eq!((for_want_of_room.len(), pressure.waiting.load(Relaxed)), (4, 4));
    }
}
