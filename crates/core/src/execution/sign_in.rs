//! Executions that began with a person's sign-in: the code that they began with, and the refresh token by which they go on.
//!
//! Both are good once. Whoever shows one that was used has stolen it, or was stolen from, and nobody can tell which of the two: so the
//! execution ends, with all that descends from it (RFC 6749 §4.1.2, RFC 9700 §4.14.2).

use super::*;
use crate::model::{Allowed, Refresh, SignIn};

/// How the client of a person goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoesOn {
    refresh: Refresh,
    /// The key that its credentials are bound to.
    key: Option<String>,
    /// Whether the refresh token was shown; then there is none until the next is on the log.
    #[serde(skip)]
    is_spent: bool,
}

/// What somebody shows who wants a credential for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is good now; a refresh token, with this key.
    Good(Option<String>),
    /// It was used before.
    Used,
    /// It is too late.
    Expired,
    /// It is none of this execution's.
    Unknown,
}

impl Execution {
    /// What the person allowed, where the execution began with a sign-in.
    pub fn allowed(&self) -> Option<&Allowed> {
        match self.started.sign_in.as_deref() {
            Some(SignIn::Allowed(allowed)) => Some(allowed),
            _ => None,
        }
    }

    /// How a code stands, by the digest of its secret.
    pub fn code(&self, digest: &str, now: Timestamp) -> Standing {
        match () {
            () if self.allowed().is_none() || self.started.token != digest => Standing::Unknown,
            () if self.goes_on().is_some() || self.is_token(digest, true) => Standing::Used,
            () if self.started.expires <= now => Standing::Expired,
            () => Standing::Good(None),
        }
    }

    /// How a refresh token stands, by the digests of its two parts.
    pub fn refresh(&self, family: &Digest, present: &Digest, now: Timestamp) -> Standing {
        match &*self.goes_on() {
            Some(known) if known.refresh.family == *family => match () {
                () if known.is_spent || known.refresh.present != *present => Standing::Used,
                () if known.refresh.expires <= now => Standing::Expired,
                () => Standing::Good(known.key.clone()),
            },
            _ => Standing::Unknown,
        }
    }

    /// Spends the refresh token. Says whether it could still be spent, which it can once.
    pub fn spend_refresh(&self, present: &Digest) -> bool {
        match &mut *self.goes_on() {
            Some(known) if known.refresh.present == *present && !known.is_spent => {
                known.is_spent = true;
                true
            }
            _ => false,
        }
    }

    /// Takes in the refresh token that came with a credential.
    pub(super) fn refreshed(&self, renewal: &ExecutionStarted) {
        if let Some(SignIn::Refresh(refresh)) = renewal.sign_in.as_deref() {
            self.known_until_us.fetch_max(refresh.expires.as_microsecond(), Ordering::AcqRel);
            *self.goes_on() = Some(Box::new(GoesOn { refresh: refresh.clone(), key: renewal.key.clone(), is_spent: false }));
        }
    }

    pub(super) fn kept_goes_on(&self) -> Option<Box<GoesOn>> {
        self.goes_on().clone()
    }

    pub(super) fn restore_goes_on(&self, kept: Option<Box<GoesOn>>) {
        if let Some(kept) = kept {
            self.known_until_us.fetch_max(kept.refresh.expires.as_microsecond(), Ordering::AcqRel);
            *self.goes_on() = Some(kept);
        }
    }

    fn goes_on(&self) -> MutexGuard<'_, Option<Box<GoesOn>>> {
        self.goes_on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
