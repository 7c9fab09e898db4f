//! One signal: checked, acted on, recorded, and only then acknowledged.

use std::net::IpAddr;

use bailiwick_core::bundle::Transmitter;
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::model::{Refused, Revocation, Signal, SignalEnd, Timestamp};
use bailiwick_core::signals::{Action, InvalidSet, Set, Whom, whom};
use bailiwick_log::{Position, StorageError};

use super::Signals;
use crate::token::{Reason, trust};

/// How many signals of one transmitter are looked at within an hour, whatever they say. A transmitter that has more to say is told to
/// come back.
const ARRIVALS_MAX: u32 = 10_000;

/// How long those are counted, in seconds.
const HOUR_S: i64 = 3_600;

/// The signals of one transmitter in the present hour.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    since_s: i64,
    count: u32,
}

impl Arrivals {
    /// Takes a place for one more; says no when there were as many as are looked at.
    fn take(&mut self, now_s: i64) -> bool {
        if !(0..HOUR_S).contains(&now_s.saturating_sub(self.since_s)) {
            *self = Self { since_s: now_s, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= ARRIVALS_MAX
    }
}

/// Why a signal was not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// It will not be taken however often it comes: the code of RFC 8935 §2.4, and a sentence for the transmitter.
    Refused(&'static str, String),
    /// It cannot be taken now; it has to come again.
    Later(String),
    /// The transmitter says more than is looked at; it has to come again later.
    TooMany,
}

impl Signals {
    /// Takes one signal of `transmitter`. What it means is in effect and on the log once this returns.
    pub(super) async fn take(&self, transmitter: &Transmitter, text: &str, peer: Option<IpAddr>) -> Result<(), NotTaken> {
        let taken = self.taken(transmitter, text).await;
        let (code, detail) = match &taken {
            Ok(()) => return Ok(()),
            Err(NotTaken::Refused(code, detail)) => (*code, detail.clone()),
            Err(NotTaken::Later(detail)) => ("temporarily_unavailable", detail.clone()),
            Err(NotTaken::TooMany) => ("too_many", format!("more than {ARRIVALS_MAX} signals came within an hour")),
        };
        let at = self.identity.parts().clock.now();
        let detail = format!("a signal of `{}` was not taken: {detail}", transmitter.name);
        let peer_text = peer.map(|peer| peer.to_string());
        let refused =
            Refused { at, stage: "signals".to_owned(), code: code.to_owned(), detail, peer: peer_text, agent: None, execution: None };
        self.identity.note_refused(refused, peer).await;
        taken
    }

    async fn taken(&self, transmitter: &Transmitter, text: &str) -> Result<(), NotTaken> {
        let parts = self.identity.parts();
        let now = parts.clock.now();
        let set = self.checked(transmitter, text, now).await?;
        // Of what its transmitter signed alone: what a stranger sends in its name takes nothing from it.
        if !self.arrivals(&transmitter.name, |arrivals| arrivals.take(now.as_second())) {
            return Err(NotTaken::TooMany);
        }
        let _turn = self.turn.lock().await;
        // What came before is acknowledged again and not done again (RFC 8935 §2).
        if parts.executions.heard().has(&transmitter.name, &set.id) {
            return Ok(());
        }
        let snapshot = parts.bundle.load();
        let whom = if set.event.kind.is_of_stream() {
            Whom { named: set.event.state.clone().unwrap_or_default(), ..Whom::default() }
        } else {
            let theirs = whom(&snapshot, transmitter, &set.subject);
            theirs.map_err(|_| NotTaken::Refused("access_denied", "the transmitter may not speak of this subject".to_owned()))?
        };
        self.deal(transmitter, &set, whom, now).await.map_err(|error| NotTaken::Later(error.to_string()))
    }

    async fn checked(&self, transmitter: &Transmitter, text: &str, now: Timestamp) -> Result<Set, NotTaken> {
        let refused = |error: InvalidSet| NotTaken::Refused(error.code(), error.to_string());
        let jws = Jws::parse(text).map_err(|error| refused(InvalidSet::Request(error)))?;
        let published = self.identity.foreign().published(&transmitter.signer, jws.kid(), now).await;
        let published = published.map_err(|error| NotTaken::Later(error.to_string()))?;
        let audience = transmitter.audience.as_deref().unwrap_or_else(|| self.identity.issuer().url());
        Set::verify(text, &trust(&transmitter.signer, audience, &published.keys), now).map_err(refused)
    }

    async fn deal(&self, transmitter: &Transmitter, set: &Set, whom: Whom, now: Timestamp) -> Result<(), StorageError> {
        let action = if set.event.is_grave && !whom.is_nobody() { transmitter.does(set.event.kind) } else { Action::Note };
        let mut signal = Signal {
            at: now,
            transmitter: transmitter.name.clone(),
            token: set.id.clone(),
            issued: Timestamp::from_second(set.issued_s).unwrap_or(now),
            event: set.event.uri.clone(),
            code: SignalEnd::Noted,
            named: if whom.is_nobody() { whom.named.clone() } else { String::new() },
            subject: whom.person.clone(),
            agents: whom.agents.clone(),
            reason: set.event.reason.clone(),
            executions: 0,
            acts: Vec::new(),
            settles: None,
            by: None,
        };
        let heard = self.identity.parts().executions.heard();
        if action != Action::Note && self.would_stop(&whom, action) && heard.stopped_lately(&transmitter.name, now) >= transmitter.per_hour
        {
            tracing::error!(
                transmitter = transmitter.name,
                "a transmitter stopped as much as it may within an hour; `bailiwick signals` asks you"
            );
            signal.code = SignalEnd::Held;
        } else if action != Action::Note {
            let by = Reason::of(format!("transmitter {}", transmitter.name), set.event.reason.clone());
            self.act(&mut signal, action, &by).await?;
        }
        if signal.code == SignalEnd::Noted && set.event.state.as_deref().is_some_and(|state| matches!(state, "paused" | "disabled")) {
            tracing::warn!(transmitter = transmitter.name, "a transmitter says that it sends nothing more");
        }
        self.record(signal).await.map(drop)
    }

    /// Whether it would stop anything: of a person who runs nothing, and of an agent that is quarantined already, there is nothing that
    /// a transmitter gone wrong could take away.
    fn would_stop(&self, whom: &Whom, action: Action) -> bool {
        let executions = &self.identity.parts().executions;
        let quarantined = executions.quarantined();
        if action == Action::Quarantine && whom.agents.iter().any(|agent| !quarantined.contains_key(agent)) {
            return true;
        }
        executions.all().iter().filter(|execution| !execution.is_revoked()).any(|execution| {
            let started = execution.started();
            let of_person = whom.person.is_some() && started.subject == whom.person;
            of_person || (action == Action::Revoke && whom.agents.contains(&started.agent))
        })
    }

    /// Does what a signal means, and notes in it what was done.
    pub(super) async fn act(&self, signal: &mut Signal, action: Action, by: &Reason) -> Result<(), StorageError> {
        signal.code = SignalEnd::Revoked;
        let mut revoked = Vec::new();
        revoked.extend(signal.subject.clone().map(Revocation::Subject));
        if action == Action::Quarantine {
            for agent in signal.agents.clone() {
                signal.code = SignalEnd::Quarantined;
                if self.identity.parts().executions.quarantined().contains_key(&agent) {
                    continue;
                }
                let stopped = self.identity.quarantine(agent, by.clone()).await?;
                signal.executions = signal.executions.saturating_add(stopped.executions as u64);
                signal.acts.push(stopped.record);
            }
        } else {
            revoked.extend(signal.agents.iter().cloned().map(Revocation::Agent));
        }
        for what in revoked {
            let stopped = self.identity.revoke_all(what, by.clone()).await?;
            signal.executions = signal.executions.saturating_add(stopped.executions as u64);
            signal.acts.push(stopped.record);
        }
        Ok(())
    }

    /// Puts what came of a signal on the log, and remembers it.
    pub(super) async fn record(&self, signal: Signal) -> Result<Position, StorageError> {
        let parts = self.identity.parts();
        let recorded = parts.log.append(signal).await?;
        let durable = parts.log.durable(recorded).await?;
        let position = durable.position();
        parts.executions.heard().took(position, durable.value());
        Ok(position)
    }
}
