//! What there is to be told, from the log: each stream has a place up to which its receiver has heard everything, which is on disk, so
//! that a crash tells something twice rather than never, and twice under the same id.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bailiwick_core::bundle::{Snapshot, Stream};
use bailiwick_core::identity::{Algorithm, jws};
use bailiwick_core::model::Record;
use bailiwick_core::signals::{TYPE, Told, told, verification};
use bailiwick_log::{Position, StorageError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::sync::Notify;

use crate::issuer::KeyFiles;
use crate::token::Identity;

/// The file with the place of each stream.
const FILE: &str = "signals.json";

/// How many entries of the log are read at once.
const READ_AT_ONCE: usize = 512;

/// After so many entries with nothing to tell the place is written too, so that a start need not read them again.
const SAVED_EVERY: u64 = 10_000;

/// How often a stream may be tried at once.
const TRIALS_MAX: usize = 8;

/// What the entries begin with that may be worth telling. All others are not parsed.
const KINDS: [&[u8]; 3] = [b"{\"kind\":\"revoked\"", b"{\"kind\":\"quarantined\"", b"{\"kind\":\"released\""];

/// The places of all streams.
pub(super) struct Streams {
    files: Arc<dyn KeyFiles>,
    of: Mutex<HashMap<String, Place>>,
    saving: tokio::sync::Mutex<()>,
    /// Somebody wants a stream to be tried.
    pub(super) trials: Notify,
}

/// Where one stream is.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The first entry of which its receiver may not have heard everything.
    next: Position,
    /// The place that is on disk, and whether one is.
    saved: Position,
    is_saved: bool,
    /// What was handed out from there on and not acknowledged.
    given: BTreeSet<String>,
    /// What was acknowledged from there on, out of order.
    acked: BTreeSet<String>,
    /// Verifications that wait, with their ids.
    trials: BTreeMap<String, Told>,
}

/// Something to be told, under its id (`jti`).
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) told: Told,
}

/// What there is to be told from one place on.
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// The entry after the last that was looked at.
    pub(super) end: Position,
    /// Whether there is more than was asked for.
    pub(super) more: bool,
}

impl Streams {
    /// The places as they were saved.
    pub(super) fn open(identity: &Identity) -> Self {
        let files = Arc::clone(&identity.parts().keys);
        let saved = match files.load(FILE) {
            Ok(bytes) => bytes.and_then(|bytes| serde_json::from_slice::<BTreeMap<String, Position>>(&bytes).ok()).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "`{FILE}` cannot be read: streams begin with what happens from now on");
                BTreeMap::new()
            }
        };
        let of = saved.into_iter().map(|(name, next)| (name, Place { next, saved: next, is_saved: true, ..Place::default() })).collect();
        Self { files, of: Mutex::new(of), saving: tokio::sync::Mutex::default(), trials: Notify::new() }
    }

    /// The place of a stream; one that is new begins with what happens from now on, also after a crash.
    pub(super) async fn place(&self, stream: &str, end: Position) -> Position {
        let (is_new, next) = {
            let mut of = self.of();
            let is_new = of.get(stream).is_none_or(|place| !place.is_saved);
            (is_new, of.entry(stream.to_owned()).or_insert_with(|| Place { next: end, ..Place::default() }).next)
        };
        if is_new {
            self.save().await;
        }
        next
    }

    /// The place of a stream, if it has one.
    pub(super) fn place_of(&self, stream: &str) -> Option<Position> {
        self.of().get(stream).map(|place| place.next)
    }

    /// Notes that the receiver has heard all before `next`; on disk once this returns, where that is worth it.
    pub(super) async fn heard_until(&self, stream: &str, next: Position, is_worth: bool) {
        let is_due = {
            let mut of = self.of();
            let place = of.entry(stream.to_owned()).or_default();
            place.next = place.next.max(next);
            place.next > place.saved && (is_worth || place.next.0.saturating_sub(place.saved.0) >= SAVED_EVERY)
        };
        if is_due {
            self.save().await;
        }
    }

    async fn save(&self) {
        let _one_at_a_time = self.saving.lock().await;
        let places: BTreeMap<String, Position> = self.of().iter().map(|(name, place)| (name.clone(), place.next)).collect();
        let Ok(bytes) = serde_json::to_vec(&places) else { return };
        let files = Arc::clone(&self.files);
        let saved =
            tokio::task::spawn_blocking(move || files.save(FILE, &bytes)).await.map_err(std::io::Error::other).and_then(|saved| saved);
        if let Err(error) = saved {
            // What was heard is told once more after a restart.
            tracing::error!(%error, "the places of the streams could not be saved");
            return;
        }
        let mut of = self.of();
        for (name, next) in places {
            if let Some(place) = of.get_mut(&name) {
                place.saved = place.saved.max(next);
                place.is_saved = true;
            }
        }
    }

    /// Wants `stream` to be tried, with the state that its receiver gave; says no when it is being tried too often.
    pub(super) fn try_out(&self, stream: &str, id: String, state: Option<&str>, end: Position) -> bool {
        let mut of = self.of();
        let place = of.entry(stream.to_owned()).or_insert_with(|| Place { next: end, ..Place::default() });
        if place.trials.len() >= TRIALS_MAX {
            return false;
        }
        place.trials.insert(id, verification(stream, state));
        drop(of);
        self.trials.notify_waiters();
        true
    }

    /// The verifications that wait.
    pub(super) fn waiting_trials(&self, stream: &str) -> Vec<Item> {
        let of = self.of();
        let trials = of.get(stream).into_iter().flat_map(|place| place.trials.iter());
        trials.map(|(id, told)| Item { id: id.clone(), told: told.clone() }).collect()
    }

    /// Notes that a verification was heard.
    pub(super) fn tried(&self, stream: &str, id: &str) -> bool {
        self.of().get_mut(stream).is_some_and(|place| place.trials.remove(id).is_some())
    }

    /// Notes what a receiver that asks has acknowledged, of what it was given.
    pub(super) fn acknowledged<'i>(&self, stream: &str, ids: impl Iterator<Item = &'i str>) {
        let mut of = self.of();
        let Some(place) = of.get_mut(stream) else { return };
        for id in ids {
            if place.trials.remove(id).is_none() && place.given.remove(id) {
                place.acked.insert(id.to_owned());
            }
        }
    }

    /// What a receiver that asks is given: the first `max` that it has not acknowledged. Moves its place past what it has.
    pub(super) async fn give(
        &self,
        identity: &Identity,
        snapshot: &Snapshot,
        stream: &Stream,
        max: usize,
    ) -> Result<(Vec<Item>, bool), StorageError> {
        let log = &identity.parts().log;
        let start = self.place(&stream.name, Position(log.storage().len())).await;
        let acked = self.of().get(&stream.name).map(|place| place.acked.clone()).unwrap_or_default();
        let trials = self.waiting_trials(&stream.name);
        let wanted = max.saturating_sub(trials.len());
        let (mut items, mut next, mut front, mut more) = (trials, start, true, false);
        let (begun, mut done) = (items.len(), BTreeSet::new());
        loop {
            let batch = tell(identity, snapshot, stream, next, 1).await?;
            let outstanding: Vec<Item> = batch.items.iter().filter(|item| !acked.contains(&item.id)).cloned().collect();
            if batch.items.is_empty() && batch.end == next {
                break;
            }
            front &= outstanding.is_empty();
            if front {
                done.extend(batch.items.into_iter().map(|item| item.id));
                self.heard_until(&stream.name, batch.end, !done.is_empty()).await;
            }
            if items.len().saturating_sub(begun) >= wanted && !outstanding.is_empty() {
                more = true;
                break;
            }
            items.extend(outstanding);
            next = batch.end;
        }
        if let Some(place) = self.of().get_mut(&stream.name) {
            place.acked.retain(|id| !done.contains(id));
            place.given.extend(items.iter().skip(begun).map(|item| item.id.clone()));
        }
        Ok((items, more))
    }

    fn of(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is to be told to `stream` from `next` on: all that up to `records_max` entries are worth. Looks at no more than it has to.
pub(super) async fn tell(
    identity: &Identity,
    snapshot: &Snapshot,
    stream: &Stream,
    next: Position,
    records_max: usize,
) -> Result<Batch, StorageError> {
    let (mut items, mut end, mut records) = (Vec::new(), next, 0);
    loop {
        let entries = identity.parts().log.storage().read(end, READ_AT_ONCE).await?;
        if entries.is_empty() {
            return Ok(Batch { items, end, more: false });
        }
        for entry in entries {
            let position = end;
            end = Position(end.0.saturating_add(1));
            let found = worth(&entry, snapshot, stream);
            if found.is_empty() {
                continue;
            }
            let id = |place: usize| format!("{}-{}-{place}", snapshot.settings.trust_domain, position.0);
            items.extend(found.into_iter().enumerate().map(|(place, told)| Item { id: id(place), told }));
            records += 1;
            if records >= records_max {
                return Ok(Batch { items, end, more: true });
            }
        }
    }
}

fn worth(entry: &[u8], snapshot: &Snapshot, stream: &Stream) -> Vec<Told> {
    if !KINDS.iter().any(|kind| entry.starts_with(kind)) {
        return Vec::new();
    }
    let Ok(record) = Record::read(entry) else { return Vec::new() };
    told(&record, snapshot).into_iter().filter(|told| stream.events.contains(&told.kind)).collect()
}

/// `item` as a token for the receiver of `stream` (RFC 8417). It says now that it was issued, and always the same id.
pub(super) fn signed(identity: &Identity, stream: &Stream, item: &Item) -> Result<String, String> {
    let now = identity.parts().clock.now();
    let uri = item.told.kind.uri().unwrap_or_default();
    let claims = json!({
        "iss": identity.issuer().url(),
        "aud": stream.audience,
        "iat": now.as_second(),
        "jti": item.id,
        "sub_id": item.told.subject,
        "events": { uri: item.told.payload },
    });
    // What every receiver has to understand (CAEP Interoperability Profile 1.0 §2.6).
    let signer = identity.issuer().signer(Algorithm::Rs256, now).ok_or("the issuer has no key")?;
    jws::sign(TYPE, &claims, signer.as_ref()).map_err(|error| error.to_string())
}

/// An id for a verification.
pub(super) fn trial_id(identity: &Identity) -> String {
    let mut id = [0; 16];
    identity.parts().entropy.fill(&mut id);
    URL_SAFE_NO_PAD.encode(id)
}
