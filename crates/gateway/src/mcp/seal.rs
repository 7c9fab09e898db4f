//! Sealing `requestState`: what a client keeps for us, and cannot read, change, or use for another call.
//!
//! `requestState` comes back from the agent, so it is an attacker's (2026-07-28, basic/patterns/mrtr). It is encrypted and
//! authenticated with a key that lives as long as the process, and bound to the execution and to the call that it is for.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use bailiwick_core::model::{Call, Digest, Entropy, ExecutionId};
use bailiwick_log::Position;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Extras;

/// What is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// A call of ours waits for the answers, under this id.
    Parked(String),
    /// The tool server's own state.
    Upstream(String),
    /// A person was asked with this intent; the call is made again with what it had beside its arguments.
    Approval {
        ask: Position,
        #[serde(default)]
        extras: Extras,
    },
}

/// What a sealed state is bound to: one execution's one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    execution: ExecutionId,
    call: Digest,
}

impl Bound {
    /// The binding of `call` to `execution`. Arguments are compared by what they mean: a client may write them anew.
    pub(super) fn of(execution: ExecutionId, call: &Call) -> Self {
        Self { execution, call: call.digest() }
    }

    fn aad(&self) -> Aad<[u8; 48]> {
        let mut bytes = [0; 48];
        let (execution, call) = bytes.split_at_mut(16);
        execution.copy_from_slice(&self.execution.as_u128().to_be_bytes());
        call.copy_from_slice(self.call.as_bytes());
        Aad::from(bytes)
    }
}

/// Seals and opens.
pub(super) struct Seal {
    key: LessSafeKey,
}

impl Seal {
    /// A seal of a new key. Fails only if the cryptographic library does.
    pub(super) fn new(entropy: &dyn Entropy) -> Result<Self, Unspecified> {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key)?) })
    }

    /// Seals `state`.
    pub(super) fn close(&self, state: &State, bound: &Bound, entropy: &dyn Entropy) -> Result<String, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut sealed = serde_json::to_vec(state).map_err(|_| Unspecified)?;
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound.aad(), &mut sealed)?;
        Ok(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Opens what was sealed for the same execution and call; nothing else opens.
    pub(super) fn open(&self, sealed: &str, bound: &Bound) -> Option<State> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, bound.aad(), sealed).ok()?;
        serde_json::from_slice(opened).ok()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

#[cfg(test)]
mod tests {
    use bailiwick_core::json;
    use bailiwick_core::model::{Arguments, Protocol};
    use serde_json::value::RawValue;

    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[test]
    fn a_sealed_state_opens_for_its_own_call_only() {
        let entropy = Counting(std::sync::atomic::AtomicU8::new(0));
        let seal = Seal::new(&entropy).unwrap();
        let bound = |execution: u64, tool: &str, arguments: &str| {
            let arguments = RawValue::from_string(arguments.to_owned()).unwrap();
            let call = Call {
                tool: tool.parse().unwrap(),
                protocol: Protocol::Mcp,
                method: "tools/call",
                arguments: Arguments::parse(&arguments, &json::Limits::default()).unwrap(),
            };
            Bound::of(ExecutionId::from_parts(execution, [1; 10]), &call)
        };
        let state = State::Upstream("theirs".to_owned());
        let sealed = seal.close(&state, &bound(1, "a/b", r#"{"x":1,"y":2}"#), &entropy).unwrap();
        assert_eq!(seal.open(&sealed, &bound(1, "a/b", r#"{"y":2, "x":1}"#)), Some(state));
        assert!(!sealed.contains("theirs"));
        for other in [bound(2, "a/b", r#"{"x":1,"y":2}"#), bound(1, "a/c", r#"{"x":1,"y":2}"#), bound(1, "a/b", r#"{"x":1,"y":3}"#)] {
            assert_eq!(seal.open(&sealed, &other), None);
        }
        let same = bound(1, "a/b", r#"{"x":1,"y":2}"#);
        assert_eq!(seal.open(&format!("{sealed}-TAMPERED"), &same), None);
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(seal.open(std::str::from_utf8(&bytes).unwrap(), &same), None, "{at}");
        }
    }
}
