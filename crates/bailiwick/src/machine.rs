//! The machine's own clock and dice: the only place where the program asks for either.

use bailiwick_core::model::{Clock, Entropy, Timestamp};

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that all others are told to ask")]
        Timestamp::now()
    }
}

/// The random number generator of the cryptographic library, seeded by the operating system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachineEntropy;

impl Entropy for MachineEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if aws_lc_rs::rand::fill(bytes).is_err() {
            // Without randomness there are no keys, nonces or ids: nothing may go on with guessable ones.
            std::process::abort();
        }
    }
}
