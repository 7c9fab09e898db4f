//! What both faces of the gateway are tested with: the machine's clock, a signing key, and patience.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::EcdsaKeyPair;
use bailiwick_core::identity::{Algorithm, Signer, SigningFailed};
use bailiwick_core::model::{Clock, Timestamp};

/// How long a test waits for something that should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// Waits for what should happen at once.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.unwrap_or_else(|_| panic!("it did not happen"))
}

/// The time, as the machine tells it.
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    #[expect(clippy::disallowed_methods, reason = "this is the test's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A key pair of an agent or of the issuer.
pub(crate) struct Key(pub(crate) EcdsaKeyPair);

impl Signer for Key {
    fn kid(&self) -> &str {
        "k1"
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Es256
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        self.0.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec()).map_err(|_| SigningFailed)
    }
}
