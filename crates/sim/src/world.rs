//! A world: gateways, clients, tool servers and a storage, on one thread and in simulated time, and the blows that fall on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::ledger::Labels;
use bailiwick_core::model::ExecutionId;
use tokio::time::{Instant, sleep, timeout};

use crate::bundle::Bundles;
use crate::client::{self, Sent};
use crate::clock::SimClock;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::folds::Folds;
use crate::house::House;
use crate::life::Life;
use crate::lines::Lines;
use crate::plan::Plan;
use crate::tools::Seen;
use crate::trace::Trace;
use crate::{Invariant, Objection, check};

/// No world lasts longer than this, in simulated time.
const LASTS_AT_MOST: Duration = Duration::from_secs(6 * 3_600);

/// A world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) disk: Arc<Disk>,
    pub(crate) bundles: &'static Bundles,
    pub(crate) seen: Arc<Seen>,
    houses: Mutex<Vec<Option<Arc<House>>>>,
    /// Where each gateway keeps its fold of the log.
    pub(crate) folds: Vec<Arc<Folds>>,
    clocks: Vec<Arc<SimClock>>,
    in_force: Mutex<Arc<Snapshot>>,
    sent: Mutex<Vec<Sent>>,
    replies: Mutex<Vec<String>>,
    objections: Mutex<Vec<Objection>>,
    numbers: AtomicU64,
    pub(crate) lines: Lines,
}

impl World {
    /// An empty world by this plan.
    pub(crate) fn new(plan: Plan, dice: Dice, lines: Lines, keeps_lines: bool) -> Result<Arc<Self>, String> {
        let began = Instant::now();
        let trace = Trace::new(began, keeps_lines);
        let bundles = Bundles::all()?;
        let first = bundles.snapshots().first().ok_or("no bundle")?;
        trace.tell(format_args!("{plan:?}"));
        Ok(Arc::new(Self {
            disk: Disk::new(plan.clone(), dice.clone(), trace.clone()),
            bundles,
            seen: Arc::default(),
            houses: Mutex::new((0..plan.gateways).map(|_| None).collect()),
            folds: (0..plan.gateways).map(|_| Arc::new(Folds::new(plan.planted))).collect(),
            clocks: (0..plan.gateways).map(|_| Arc::new(SimClock::new(began))).collect(),
            in_force: Mutex::new(Arc::clone(first)),
            sent: Mutex::default(),
            replies: Mutex::default(),
            objections: Mutex::default(),
            numbers: AtomicU64::new(1),
            lines,
            plan,
            dice,
            trace,
        }))
    }

    /// Lets the world live to its end, calms it down, starts one gateway on what is left, and judges.
    pub(crate) async fn live(self: &Arc<Self>) -> Vec<Objection> {
        if timeout(LASTS_AT_MOST, self.story()).await.is_err() {
            self.object(Invariant::Whole, "the world does not come to an end".to_owned());
        }
        check::check(self);
        std::mem::take(&mut *self.objections.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn story(self: &Arc<Self>) {
        self.open_all().await;
        let mut clients = Vec::new();
        for _ in 0..self.plan.clients {
            clients.push(tokio::spawn(client::live(Arc::clone(self))));
        }
        for _ in 0..self.plan.blows {
            sleep(self.dice.up_to_ms(600)).await;
            self.blow().await;
        }
        for client in clients {
            while !client.is_finished() {
                // A failed storage or a killed gateway does not come back by itself.
                self.open_all().await;
                sleep(Duration::from_millis(100)).await;
            }
            if client.await.is_err() {
                self.object(Invariant::Whole, "a client died".to_owned());
            }
        }
        self.disk.calm();
        self.disk.mend();
        self.open_all().await;
        // Longer than any call may take, and any tool is silent: what is under way ends by itself.
        sleep(Duration::from_secs(60)).await;
        self.kill_all();
        self.disk.crash();
        self.open_all().await;
        sleep(Duration::from_secs(1)).await;
        if self.some_house().is_none() {
            self.object(Invariant::Whole, "no gateway starts on what is left".to_owned());
        }
    }

    /// One blow from outside.
    async fn blow(self: &Arc<Self>) {
        let index = usize::try_from(self.dice.below(self.plan.gateways as u64)).unwrap_or(0);
        match self.dice.below(12) {
            0..=2 => self.kill(index),
            3 => {
                self.kill_all();
                self.disk.crash();
            }
            4 => {
                // The storage goes away under living gateways.
                self.disk.crash();
            }
            5 => self.disk.rot(),
            6 => self.disk.mend(),
            7 | 8 => {
                let milliseconds = i64::try_from(self.dice.below(240_000)).unwrap_or(0) - 120_000;
                self.trace.tell(format_args!("the clock of gateway {index} jumps by {milliseconds} ms"));
                if let Some(clock) = self.clocks.get(index) {
                    clock.jump_ms(milliseconds);
                }
            }
            9 | 10 => self.reload(index).await,
            _ => self.open_all().await,
        }
    }

    /// Another bundle for the world, of which at first one gateway hears; the others do when they are started again.
    async fn reload(&self, index: usize) {
        let Some(snapshot) = self.dice.pick(self.bundles.snapshots()).cloned() else { return };
        self.trace.tell(format_args!("gateway {index} loads bundle {}", snapshot.digest));
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&snapshot);
        if let Some(house) = self.house(index) {
            tokio::select! {
                biased;
                () = house.life.over() => {}
                // A log that cannot be written leaves the bundle as it was.
                _ = house.reload(snapshot) => {}
            }
        }
    }

    /// Starts every gateway that is not alive, after opening a storage that failed. A start may be cut off like anything else.
    async fn open_all(&self) {
        if self.disk.has_failed() {
            self.kill_all();
            self.disk.crash();
        }
        for index in 0..self.plan.gateways {
            if self.house(index).is_some_and(|house| house.session == self.disk.session()) {
                continue;
            }
            self.kill(index);
            let snapshot = Arc::clone(&self.in_force.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(clock) = self.clocks.get(index).cloned() else { continue };
            let life = Life::begin();
            let patience = if !self.disk.is_calm() && self.dice.chance(self.plan.blows * 10) {
                self.dice.up_to_ms(40)
            } else {
                Duration::from_secs(600)
            };
            let opened = tokio::select! {
                biased;
                opened = House::open(self, index, clock, snapshot, life.clone()) => opened.map_err(|error| error.to_string()),
                () = sleep(patience) => Err("it is killed while it starts".to_owned()),
            };
            match opened {
                Ok(house) => self.put(index, Some(Arc::new(house))),
                Err(why) => {
                    life.end();
                    self.trace.tell(format_args!("gateway {index} does not start: {why}"));
                    // Whoever operates it looks at the disk before the next try.
                    self.disk.mend();
                }
            }
        }
    }

    fn kill_all(&self) {
        (0..self.plan.gateways).for_each(|index| self.kill(index));
    }

    fn kill(&self, index: usize) {
        if let Some(house) = self.house(index) {
            self.trace.tell(format_args!("gateway {index} is killed"));
            house.life.end();
            self.put(index, None);
            if self.plan.gateways == 1 {
                // The storage of a gateway that has it for itself lives and dies in the same process.
                self.disk.crash();
            }
        }
    }

    fn put(&self, index: usize, house: Option<Arc<House>>) {
        if let Some(place) = self.houses.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            *place = house;
        }
    }

    fn house(&self, index: usize) -> Option<Arc<House>> {
        self.houses.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned().flatten()
    }

    /// Some gateway that is alive.
    pub(crate) fn some_house(&self) -> Option<Arc<House>> {
        let alive: Vec<_> = self.houses.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect();
        self.dice.pick(&alive).cloned()
    }

    /// Numbers a call that a client sends.
    pub(crate) fn sends(&self, execution: ExecutionId, shown: Labels) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(Sent { number, execution, shown });
        number
    }

    /// Keeps what a client was told.
    pub(crate) fn reply(&self, text: &str) {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    /// Every call that was sent.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that clients were told.
    pub(crate) fn replies(&self) -> Vec<String> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that an invariant does not hold.
    pub(crate) fn object(&self, invariant: Invariant, why: String) {
        self.trace.tell(format_args!("BROKEN {invariant}: {why}"));
        self.objections.lock().unwrap_or_else(PoisonError::into_inner).push(Objection { invariant, why });
    }
}
