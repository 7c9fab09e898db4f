//! For whom an agent acts now, when others have it act for them.
//!
//! The agent knows nothing of it: a message comes in with what was delegated, and what the agent calls while it works on that message
//! is done in the execution that was delegated. So that no call is ever made for another than it is meant for, messages are worked on
//! one after the other, unless the agent passes on the trace that each comes with (W3C Trace Context); a call that could be for more
//! than one is refused. When nobody has the agent act, it can do nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bailiwick_core::model::Entropy;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::credential::{Credentials, NoCredential, Redeemer};
use crate::machine::MachineEntropy;

/// How long a message waits for those before it.
const TURN: Duration = Duration::from_secs(60);

/// Why a call of the agent gets no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoHop {
    /// It acts for nobody.
    #[error("nobody has this agent act now, so it can do nothing; it acts while it works on a message")]
    Nobody,
    /// It acts for several, and the call does not say for whom.
    #[error("this agent acts for several now, and the call does not say for whom: pass on the `traceparent` of the message that it is for")]
    Ambiguous,
}

impl NoHop {
    /// The code for programs.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Nobody => "nobody_to_act_for",
            Self::Ambiguous => "ambiguous_delegation",
        }
    }
}

/// Why a message is not worked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Those before it take too long.
    #[error("the agent works on other messages; send this one again later")]
    Busy,
    /// What came with it is not good for anything.
    #[error("what was delegated could not be redeemed: {0}")]
    NotRedeemed(#[from] NoCredential),
}

/// All executions that the agent acts in now.
#[derive(Debug)]
pub(crate) struct Hops {
    redeemer: Redeemer,
    turns: Arc<Semaphore>,
    now: Mutex<Vec<Acting>>,
}

#[derive(Debug)]
struct Acting {
    trace: String,
    credentials: Arc<Credentials>,
}

/// One message that the agent works on. Dropping it ends what may be done for it.
#[derive(Debug)]
pub(crate) struct Hop {
    hops: Arc<Hops>,
    /// The trace that the message comes with, 32 hexadecimal digits.
    pub(crate) trace: String,
    credentials: Arc<Credentials>,
    _turn: OwnedSemaphorePermit,
}

impl Hops {
    /// None yet; at most `at_once` at a time.
    pub(crate) fn new(redeemer: Redeemer, at_once: usize) -> Self {
        Self { redeemer, turns: Arc::new(Semaphore::new(at_once.max(1))), now: Mutex::default() }
    }

    /// Waits for the message's turn and redeems what was delegated with it.
    pub(crate) async fn begin(self: &Arc<Self>, delegation: Zeroizing<String>) -> Result<Hop, NotTaken> {
        // Redeemed at once, since it is good for a minute; nothing is done with it before its turn.
        let credentials = self.redeemer.redeem(delegation).await?;
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(NotTaken::Busy) };
        let mut random = [0; 16];
        MachineEntropy.fill(&mut random);
        let trace = format!("{:032x}", u128::from_be_bytes(random));
        self.now().push(Acting { trace: trace.clone(), credentials: Arc::clone(&credentials) });
        let keeper = Arc::clone(&credentials);
        let hop = Hop { hops: Arc::clone(self), trace, credentials, _turn: turn };
        tokio::spawn(async move { keeper.keep().await });
        Ok(hop)
    }

    /// The credentials for a call of the agent with these headers.
    pub(crate) fn acting_for(&self, headers: &HeaderMap) -> Result<Arc<Credentials>, NoHop> {
        let traces: Vec<&str> = headers.get_all("traceparent").iter().filter_map(|value| value.to_str().ok()?.split('-').nth(1)).collect();
        let now = self.now();
        if let [trace] = traces.as_slice()
            && let Some(acting) = now.iter().find(|acting| acting.trace == *trace)
        {
            return Ok(Arc::clone(&acting.credentials));
        }
        match now.as_slice() {
            [] => Err(NoHop::Nobody),
            [only] => Ok(Arc::clone(&only.credentials)),
            _ => Err(NoHop::Ambiguous),
        }
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Vec<Acting>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hop {
    /// The header by which the agent may tell whose a call is.
    pub(crate) fn traceparent(&self) -> String {
        let mut random = [0; 8];
        MachineEntropy.fill(&mut random);
        format!("00-{}-{:016x}-01", self.trace, u64::from_be_bytes(random) | 1)
    }

    /// Resolves when the execution that was delegated has ended.
    pub(crate) async fn ended(&self) {
        let _ = self.credentials.ended().await;
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.hops.now().retain(|acting| acting.trace != self.trace);
        self.credentials.end();
    }
}
