//! Executions: the runs of agents that are under way, each with its ledger and a way to stop it at once.

mod caution;
mod chain;
mod kept;
mod revoked;
mod sign_in;
mod stop;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use arc_swap::ArcSwap;
use bailiwick_log::Position;
use event_listener::Event;
use serde::{Deserialize, Serialize};

use crate::flow::{Seen, Shown, Together, WordSeal, Written, endorse, words_of};
use crate::identity::{Grant, Replays, Room, dpop};
use crate::ledger::{History, HistoryOf, Integrity, Labels, Ledger, Tracks, UnderCaution};
use crate::model::{
    AgentName, Answered, Cautioned, Digest, Effect, ExecutionId, ExecutionStarted, Intent, Network, Quarantined, ServerName, Timestamp,
    Verdict,
};
use crate::signals::Heard;
use crate::tasks::Tasks;
pub(crate) use kept::KeptExecution;
use revoked::RevokedIds;
use sign_in::GoesOn;
pub use sign_in::Standing;
use stop::{Barred, Said};

/// How many parts the table has, so that unrelated executions rarely meet at a lock, and then only to look one up.
const SHARDS: usize = 64;

/// How many credentials one execution may have at once that have neither expired nor been revoked.
pub const TOKENS_MAX: usize = 32;

/// How many proofs of possession one execution may show within one nonce's slot; the memory for it is taken as it is used.
const PROOFS_PER_SLOT_MAX: usize = 1 << 18;

/// How many proofs are remembered of all executions together, which takes at most 160 MiB: 34,000 a second for two minutes.
/// What comes above that is refused.
const PROOFS_MAX: usize = 1 << 22;

/// How many revoked executions each part of the table keeps whole, to be shown to people; of more, it keeps the id alone.
const REVOKED_WHOLE_MAX: usize = 16;

/// Why an execution is stopped: it was revoked, with all that descends from it.
const REVOKED: u8 = 1;

/// Why an execution is stopped: an agent of its chain is quarantined.
const QUARANTINED: u8 = 2;

/// How many ids of revoked executions each part of the table keeps; more are kept whole, and so count as executions.
const REVOKED_IDS_MAX: usize = 1 << 15;

/// One run of an agent, as its start is recorded on the log, with what it has seen and done since.
#[derive(Debug)]
pub struct Execution {
    started: ExecutionStarted,
    grant: ArcSwap<Grant>,
    /// The agent's series of histories, shared by its executions.
    agent: Arc<AgentTracks>,
    ledger: Mutex<Ledger>,
    seen: Mutex<Seen>,
    /// What it was shown and `seen` does not hold yet.
    shown: Mutex<Vec<Shown>>,
    turn: async_lock::Mutex<()>,
    calls_under_way: AtomicUsize,
    /// Why nothing more is done in it, as [`REVOKED`] and [`QUARANTINED`]; nothing while it may go on.
    stopped: AtomicU8,
    /// Whether an agent of its chain is under caution, so that a call looks at one number.
    is_cautioned: AtomicBool,
    /// The caution, where there is one.
    caution: Mutex<Option<Box<UnderCaution>>>,
    /// The execution that delegated to it. It stays known for as long as what descends from it is.
    parent: Option<Arc<Self>>,
    /// The executions that it delegated to.
    children: Mutex<Vec<Weak<Self>>>,
    tokens: RwLock<Vec<Token>>,
    /// The intents of this gateway's calls that have no outcome yet.
    open: Mutex<Vec<Position>>,
    /// The labels that no crash can make its ledger forget, since an intent that names them is on disk.
    kept: Mutex<Labels>,
    proofs: Mutex<Replays>,
    stop: Event,
    /// Told of each answer of a person.
    answers: Event,
    /// When the newest credential expires, in microseconds since the epoch.
    expires_us: AtomicI64,
    /// Until when somebody may go on with it, which a refresh token lets later than its credentials, in microseconds since the epoch.
    known_until_us: AtomicI64,
    /// How a person's client goes on with it.
    goes_on: Mutex<Option<Box<GoesOn>>>,
    /// The network that its last call at this gateway came from, as the log says.
    came_from: Mutex<Option<Network>>,
}

/// A credential that has not expired.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    id: TokenId,
    expires_us: i64,
    revoked: bool,
}

/// What stands for a token's `jti`: half of its digest, which takes less memory than most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct TokenId([u8; 16]);

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        format!("{:032x}", u128::from_be_bytes(id.0))
    }
}

impl TryFrom<String> for TokenId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(|number| Self(number.to_be_bytes()))
    }
}

impl TokenId {
    fn of(jti: &str) -> Self {
        let digest = Digest::of(jti.as_bytes());
        Self(digest.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

impl Execution {
    /// What is to be recorded of a network that a call of it comes from: nothing where the one before it came from there too.
    pub fn news_of(&self, network: Option<Network>) -> Option<Network> {
        network.filter(|network| *self.came_from.lock().unwrap_or_else(PoisonError::into_inner) != Some(*network))
    }

    /// Notes that the log says from where a call came.
    pub fn came_from(&self, network: Network) {
        *self.came_from.lock().unwrap_or_else(PoisonError::into_inner) = Some(network);
    }

    /// What the log says of its start: agent, subject, chain, task, key.
    pub const fn started(&self) -> &ExecutionStarted {
        &self.started
    }

    /// Its id.
    pub const fn id(&self) -> ExecutionId {
        self.started.execution
    }

    /// What it may do at most now. A renewal may have narrowed what it started with; nothing widens it.
    pub fn grant(&self) -> Arc<Grant> {
        self.grant.load_full()
    }

    /// When its newest credential expires.
    pub fn expires(&self) -> Timestamp {
        Timestamp::from_microsecond(self.expires_us.load(Ordering::Acquire)).unwrap_or(Timestamp::MIN)
    }

    /// Its ledger. Held while a call is judged and its intent appended, and never across an await.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic while the lock was held cannot leave a ledger that allows more: it only ever grows.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has been shown, in fingerprints: all that [`Self::is_shown`] was told of before. Taken after the ledger, held as
    /// briefly. Nothing of it is on the log, so after a restart all that was shown before is unknown.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What somebody else has taken from here he took under the lock above, and so has taken in.
        let shown = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        for shown in shown {
            shown.take_in(&mut seen);
        }
        seen
    }

    /// Notes that it is about to be shown a result, at once: the result is taken in when somebody next looks at [`Self::seen`], as
    /// whoever judges its next call must, and not before it may be released.
    pub fn is_shown(&self, shown: Shown) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
    }

    /// The series kept for its agent over all executions. Taken after the ledger, held as briefly.
    pub fn agent_tracks(&self) -> MutexGuard<'_, Tracks> {
        self.agent.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a person answered, which is on the log at `position`: with effect on the next call, and whoever waits in
    /// [`Self::heard_from_people`] wakes. Says whether it counts.
    pub fn answered(&self, position: Position, answered: &Answered) -> bool {
        let counts = self.ledger().answered(position, answered);
        if counts {
            self.endorse(answered.ask);
            self.answers.notify(usize::MAX);
        }
        counts
    }

    /// Takes the values of a call that was approved so into what the execution was shown, as endorsed.
    fn endorse(&self, ask: Position) {
        let ledger = self.ledger();
        let Some(ask) = ledger.asks().find(ask) else { return };
        if let (Some(given), Some(arguments)) = (ask.answer.as_ref().filter(|given| given.endorses), &ask.arguments) {
            endorse(&mut self.seen(), arguments, &ask.traced, given.record);
        }
    }

    /// Resolves once a person has answered what was asked with the intent at `ask`.
    pub async fn heard_from_people(&self, ask: Position) {
        let is_answered = || self.ledger().asks().find(ask).is_none_or(|ask| ask.answer.is_some());
        while !is_answered() {
            let listener = self.answers.listen();
            if is_answered() {
                return;
            }
            listener.await;
        }
    }

    /// Notes that this gateway has an allowed call under way, whose outcome it owes.
    pub fn opened(&self, intent: Position) {
        self.open().push(intent);
    }

    /// Notes that the log says how the call ended, whoever wrote it.
    pub fn closed(&self, intent: Position) {
        self.open().retain(|open| *open != intent);
    }

    /// Whether this gateway still owes the call's outcome.
    pub fn is_open(&self, intent: Position) -> bool {
        self.open().contains(&intent)
    }

    fn open(&self) -> MutexGuard<'_, Vec<Position>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a crash would leave these labels on its ledger, because what says so is on disk.
    pub fn keeps(&self, labels: &Labels) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).covers(labels)
    }

    /// Notes that an intent which names these labels is on disk.
    pub fn kept(&self, labels: &Labels) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).join(labels);
    }

    /// The proofs of possession that were used.
    pub(crate) fn proofs(&self) -> MutexGuard<'_, Replays> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this execution's turn: whoever holds it may judge and append, and nobody else of this execution may. All that
    /// descends from one execution takes turns with it, since each call counts for those above it too.
    pub async fn turn(&self) -> async_lock::MutexGuard<'_, ()> {
        self.root().turn.lock().await
    }

    /// Waits for this agent's turn, over all its executions, and for those of the agents that it acts for. Taken after the
    /// execution's own.
    pub async fn agent_turns(&self) -> Vec<async_lock::MutexGuard<'_, ()>> {
        let mut turns = Vec::new();
        for agent in self.agents() {
            turns.push(agent.turn.lock().await);
        }
        turns
    }

    /// A place among this execution's calls under way, given back when it is dropped; nothing when `calls_max` are.
    pub fn place(&self, calls_max: usize) -> Option<Place<'_>> {
        let room = |calls: usize| (calls < calls_max).then_some(calls.saturating_add(1));
        self.calls_under_way.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok().map(|_| Place(self))
    }

    /// Whether nothing more is done in it: it was revoked, or an agent of its chain is quarantined.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) != 0
    }

    /// Whether it was revoked, which is for good.
    pub fn is_revoked(&self) -> bool {
        self.stopped.load(Ordering::Acquire) & REVOKED != 0
    }

    /// Stops it with all that descends from it: no further call is allowed, and whoever waits in [`Self::stopped`] wakes. Says how many
    /// executions went on until then.
    pub fn stop(&self) -> usize {
        let before = self.stopped.fetch_or(REVOKED, Ordering::AcqRel);
        self.stop.notify(usize::MAX);
        usize::from(before & REVOKED == 0) + self.children().iter().map(|child| child.stop()).sum::<usize>()
    }

    /// Resolves once the execution, or the credential with this `jti`, is revoked.
    pub async fn stopped(&self, token: &str) {
        while !self.is_stopped_for(token) {
            let listener = self.stop.listen();
            if self.is_stopped_for(token) {
                return;
            }
            listener.await;
        }
    }

    /// Whether the execution, or the credential with this `jti`, is revoked. A credential that merely expired is not.
    pub fn is_stopped_for(&self, token: &str) -> bool {
        self.is_stopped() || self.is_token(token, true)
    }

    /// Stops what was started with one credential, and what was delegated by it; the execution goes on with another.
    pub fn stop_token(&self, token: &str) {
        let id = TokenId::of(token);
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        match tokens.iter_mut().find(|known| known.id == id) {
            Some(known) => known.revoked = true,
            None => tokens.push(Token { id, expires_us: self.expires_us.load(Ordering::Acquire), revoked: true }),
        }
        drop(tokens);
        self.stop.notify(usize::MAX);
        let by_token = |child: &&Arc<Self>| child.started.chain.first().is_some_and(|by| by.token.as_deref() == Some(token));
        for child in self.children().iter().filter(by_token) {
            child.stop();
        }
    }

    /// Whether `token` is a credential of this execution that is on the log and was not revoked.
    pub fn has_token(&self, token: &str) -> bool {
        self.is_token(token, false)
    }

    /// Whether `token` is a credential of this execution, revoked or not.
    fn is_token(&self, token: &str, revoked: bool) -> bool {
        let id = TokenId::of(token);
        self.tokens().iter().any(|known| known.id == id && known.revoked == revoked)
    }

    /// How many credentials it has that have neither expired nor been revoked.
    pub fn tokens_live(&self, now: Timestamp) -> usize {
        self.tokens().iter().filter(|token| !token.revoked && token.expires_us > now.as_microsecond()).count()
    }

    /// Whether it was revoked, or nobody can go on with it: its last credential has expired, and its refresh token if it had one.
    pub fn is_ended(&self, now: Timestamp) -> bool {
        self.is_revoked() || self.known_until_us.load(Ordering::Acquire) <= now.as_microsecond()
    }

    /// Whether it has no credential now: it was revoked, or the last one has expired. One that a person's client may go on with is then
    /// not ended yet.
    pub fn is_without_credential(&self, now: Timestamp) -> bool {
        self.is_revoked() || self.expires() <= now
    }

    /// Takes in a further credential that is on the log; one that is known changes nothing.
    fn renewed(&self, renewal: ExecutionStarted) {
        self.expires_us.fetch_max(renewal.expires.as_microsecond(), Ordering::AcqRel);
        self.known_until_us.fetch_max(renewal.expires.as_microsecond(), Ordering::AcqRel);
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let id = TokenId::of(&renewal.token);
        if tokens.iter().any(|token| token.id == id) {
            return;
        }
        // The delegation, or the code, that an execution began with is spent by its first credential.
        if !self.started.chain.is_empty() || self.started.sign_in.is_some() {
            let begun = TokenId::of(&self.started.token);
            tokens.iter_mut().filter(|token| token.id == begun).for_each(|token| token.revoked = true);
        }
        tokens.retain(|token| token.expires_us > renewal.at.as_microsecond());
        tokens.push(Token { id, expires_us: renewal.expires.as_microsecond(), revoked: false });
        drop(tokens);
        self.refreshed(&renewal);
        self.grant.store(Arc::new(renewal.grant));
    }

    fn tokens(&self) -> RwLockReadGuard<'_, Vec<Token>> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among an execution's calls under way.
#[derive(Debug)]
pub struct Place<'a>(&'a Execution);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.calls_under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is kept for one agent over all its executions.
#[derive(Debug, Default)]
struct AgentTracks {
    turn: async_lock::Mutex<()>,
    tracks: Mutex<Tracks>,
}

/// The executions under way.
#[derive(Debug)]
pub struct Executions {
    hasher: RandomState,
    shards: [RwLock<Shard>; SHARDS],
    agents: Mutex<HashMap<AgentName, Arc<AgentTracks>>>,
    /// Whose the tasks of other agents are.
    tasks: Tasks,
    /// What others told of people and agents.
    heard: Heard,
    /// What was written to each server under untrusted influence.
    written: RwLock<HashMap<ServerName, Arc<Written>>>,
    /// Opens what the log keeps of arguments that it does not keep.
    seal: Option<Arc<WordSeal>>,
    /// The agents in whose executions nothing is done.
    quarantined: RwLock<BTreeMap<AgentName, Quarantined>>,
    /// The agents that are under caution.
    cautioned: RwLock<BTreeMap<AgentName, Cautioned>>,
    /// Where the log says of each agent what holds it, and that it was released. Taken while one of those above is held.
    said: Mutex<BTreeMap<AgentName, Said>>,
    /// Which tokens of people are too old to act for them.
    barred: RwLock<Barred>,
    proofs: Arc<Room>,
    /// What all executions together keep of what they were shown.
    ledgers: Arc<Together>,
}

/// One part of the table.
#[derive(Debug, Default)]
struct Shard {
    under_way: HashMap<ExecutionId, Arc<Execution>>,
    /// The revoked ones that are not kept whole.
    revoked: RevokedIds,
}

impl Default for Executions {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| RwLock::default()),
            agents: Mutex::default(),
            tasks: Tasks::default(),
            heard: Heard::default(),
            written: RwLock::default(),
            seal: None,
            quarantined: RwLock::default(),
            cautioned: RwLock::default(),
            said: Mutex::default(),
            barred: RwLock::default(),
            proofs: Arc::new(Room::new(PROOFS_MAX)),
            ledgers: Arc::default(),
        }
    }
}

impl Executions {
    /// The same, of a house with this seal.
    #[must_use]
    pub fn sealed_by(self, seal: Arc<WordSeal>) -> Self {
        Self { seal: Some(seal), ..self }
    }

    /// Takes in the start of an execution, or the renewal of its credential, that is on the log. One that was revoked stays
    /// so.
    pub fn started(&self, started: ExecutionStarted) -> Arc<Execution> {
        // Who is above it is looked up first: it may be in the same part of the table.
        let parent = started.chain.first().map(|by| self.find(by.execution));
        let mut shard = self.shard(started.execution).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(execution) = shard.under_way.get(&started.execution) {
            execution.renewed(started);
            return Arc::clone(execution);
        }
        let agent = self.agent(&started.agent);
        let expires_us = started.expires.as_microsecond();
        let execution = Arc::new(Execution {
            grant: ArcSwap::from_pointee(started.grant.clone()),
            expires_us: AtomicI64::new(expires_us),
            known_until_us: AtomicI64::new(expires_us),
            goes_on: Mutex::default(),
            came_from: Mutex::default(),
            agent,
            seen: Mutex::new(Seen::of_task(started.task.as_deref()).among(&self.ledgers)),
            shown: Mutex::default(),
            ledger: Mutex::default(),
            turn: async_lock::Mutex::new(()),
            calls_under_way: AtomicUsize::new(0),
            // Without the execution that it was delegated by nobody knows what it may do.
            is_cautioned: AtomicBool::new(false),
            caution: Mutex::default(),
            stopped: AtomicU8::new(if shard.revoked.contains(started.execution) || matches!(parent, Some(None)) { REVOKED } else { 0 }),
            parent: parent.flatten(),
            children: Mutex::default(),
            open: Mutex::default(),
            kept: Mutex::default(),
            tokens: RwLock::new(vec![Token { id: TokenId::of(&started.token), expires_us, revoked: false }]),
            proofs: Mutex::new(Replays::new(PROOFS_PER_SLOT_MAX, &self.proofs)),
            stop: Event::new(),
            answers: Event::new(),
            started,
        });
        if !execution.is_stopped() {
            shard.under_way.insert(execution.id(), Arc::clone(&execution));
        }
        drop(shard);
        if let Some(parent) = &execution.parent {
            parent.adopt(&execution);
        }
        execution.hold(&self.quarantined());
        execution.heed(&self.cautioned());
        execution
    }

    /// Takes in a decision that is on the log: what an execution that has read untrusted data is allowed to write to a server is
    /// read back from there as untrusted, by whoever reads it.
    pub fn wrote(&self, intent: &Intent) {
        let is_untrusted = intent.facts.labels.integrity == Integrity::Untrusted;
        if intent.decision.verdict == Verdict::Allow && intent.effect != Effect::Read && is_untrusted {
            let sealed = || self.seal.as_ref()?.open(&intent.arguments_digest, intent.written.as_deref()?);
            let words = match &intent.arguments {
                Some(arguments) => words_of(arguments.get(), &intent.facts.traced),
                None => sealed(),
            };
            let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
            let of_server = written.entry(intent.tool.server().clone()).or_default();
            Arc::make_mut(of_server).take(&intent.agent, words.as_deref());
        }
    }

    /// What the record of a call with these arguments keeps in their place, by their words: for [`Self::wrote`] to know what was
    /// written. Nothing where the house has no seal.
    pub fn sealed(&self, arguments: &Digest, words: &[u64]) -> Option<String> {
        self.seal.as_ref()?.close(arguments, words)
    }

    /// Whether there is room to remember more that `agent` writes to `server` under untrusted influence, where `bytes_max` may be
    /// kept of that server.
    pub fn remembers(&self, server: &ServerName, agent: &AgentName, bytes_max: usize) -> bool {
        self.written().get(server).is_none_or(|written| written.has_room(agent, bytes_max))
    }

    /// Whose the tasks of other agents are.
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// What others told of people and agents.
    pub const fn heard(&self) -> &Heard {
        &self.heard
    }

    /// What was written to each server under untrusted influence.
    pub fn written(&self) -> RwLockReadGuard<'_, HashMap<ServerName, Arc<Written>>> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a person answered, which is on the log at `position`. Says whether it counts.
    pub fn answered(&self, position: Position, answered: &Answered) -> bool {
        self.find(answered.execution).is_some_and(|execution| execution.answered(position, answered))
    }

    /// The execution that the credential with this `jti` belongs to. Looks through all of them.
    pub fn find_token(&self, token: &str) -> Option<Arc<Execution>> {
        let id = TokenId::of(token);
        self.all().into_iter().find(|execution| execution.tokens().iter().any(|known| known.id == id))
    }

    /// What all of them together keep of what they were shown.
    pub const fn ledgers(&self) -> &Arc<Together> {
        &self.ledgers
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).under_way.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The execution with this id, if it is under way. One that was revoked is still found for a while.
    pub fn find(&self, id: ExecutionId) -> Option<Arc<Execution>> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).under_way.get(&id).cloned()
    }

    /// Whether the execution with this id was revoked, as long as a credential of it has not expired.
    pub fn is_revoked(&self, id: ExecutionId) -> bool {
        let shard = self.shard(id).read().unwrap_or_else(PoisonError::into_inner);
        shard.revoked.contains(id) || shard.under_way.get(&id).is_some_and(|execution| execution.is_revoked())
    }

    /// Every execution in the table, in no order.
    pub fn all(&self) -> Vec<Arc<Execution>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).under_way.values().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// Forgets the executions whose last credential, and whose refresh token, expired before `now`, of revoked ones all but their ids,
    /// and the proofs that can no longer come.
    ///
    /// What somebody holds stays: its credential may be about to be renewed, and must then find its ledger again.
    pub fn forget_expired(&self, now: Timestamp) {
        let (now_us, slot) = (now.as_microsecond(), dpop::slot(now));
        self.forget_barred(now);
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let Shard { under_way, revoked } = &mut *shard;
            revoked.forget_expired(now_us);
            let (mut whole, mut more) = (0, Vec::new());
            under_way.retain(|id, execution| {
                execution.proofs().pass(slot);
                let expires_us = execution.known_until_us.load(Ordering::Acquire);
                if Arc::strong_count(execution) > 1 {
                    return true;
                }
                if expires_us < now_us || !execution.is_revoked() {
                    return expires_us >= now_us;
                }
                whole += 1;
                if whole <= REVOKED_WHOLE_MAX || revoked.len() + more.len() >= REVOKED_IDS_MAX {
                    return true;
                }
                more.push((*id, expires_us));
                false
            });
            revoked.extend(more);
        }
    }

    /// Folds an intent that is on the log into what is kept for its agent, whether or not its execution is known.
    pub fn took_for_agent(&self, intent: &Intent, histories: &[History]) {
        if intent.decision.verdict != Verdict::Allow || !histories.iter().any(|history| history.of == HistoryOf::Agent) {
            return;
        }
        let mut counted = Vec::new();
        let above = intent.facts.above.iter().map(|share| (&share.agent, &share.history));
        for (name, charges) in std::iter::once((&intent.agent, &intent.facts.history)).chain(above) {
            if !counted.contains(&name) {
                counted.push(name);
                let agent = self.agent(name);
                let mut tracks = agent.tracks.lock().unwrap_or_else(PoisonError::into_inner);
                tracks.fold(histories, HistoryOf::Agent, charges, intent.at);
            }
        }
    }

    fn agent(&self, name: &AgentName) -> Arc<AgentTracks> {
        Arc::clone(self.agents.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default())
    }

    fn shard(&self, id: ExecutionId) -> &RwLock<Shard> {
        #[expect(clippy::indexing_slicing, reason = "the index is a remainder by the array's length")]
        &self.shards[self.shard_of(id)]
    }

    fn shard_of(&self, id: ExecutionId) -> usize {
        usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or(0)
    }
}
