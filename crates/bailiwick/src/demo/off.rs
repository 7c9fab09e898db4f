//! Switches that turn one protection off, so that a test can see the demo fail without it. They exist only in builds with
//! the feature `test-switches`; in all others every protection is on.
//!
//! `role`, `policy`, `flow`, `pin`, `chain`, `narrow` and `declared` change the bundle, `proof` and `grant` what the sidecar asks for,
//! `revocation`, `subtree`, `respond` and `release` what the play does, `record` what the log's storage keeps, `tamper` what is stored. That a call is handed to the log before it is
//! done has no switch: the other order does not compile.

/// Whether the protection `name` is off.
#[cfg(feature = "test-switches")]
pub(crate) fn is_off(name: &str) -> bool {
    std::env::var("BAILIWICK_TEST_OFF").is_ok_and(|off| off == name)
}

/// Whether the protection `name` is off: never, in this build.
#[cfg(not(feature = "test-switches"))]
pub(crate) const fn is_off(_name: &str) -> bool {
    false
}

/// The bundle's file `name` without the protection that is off; nothing for a file that is left out.
pub(super) fn changed(name: &str, text: String) -> Option<String> {
    match name {
        "policies/payment-details.cedar" if is_off("policy") => None,
        "policies/for-whom.cedar" if is_off("chain") => None,
        "agents/front-desk.toml" if is_off("narrow") => Some(text.replace("\"crm/query_complaints\"", "\"crm/*\", \"analytics/export\"")),
        "agents/front-desk.toml" if is_off("declared") => Some(text.replace("[\"back-office\"]", "[\"back-office\", \"payroll\"]")),
        "agents/support-summarizer.toml" if is_off("role") => Some(text.replace("call   = [", "call   = [ \"crm/*\", \"analytics/*\",")),
        name if name.starts_with("agents/") && is_off("proof") => Some(text.replace("\"dpop\"", "\"bearer\"")),
        // By its fields: who vouches for a whole result does not speak for one that tells its reader what to do.
        "servers/tickets.toml" if is_off("flow") => {
            Some(text.replace("integrity = \"untrusted\"", "integrity = \"untrusted\", trusted = [\"$\"]"))
        }
        "servers/analytics.tools.json" if is_off("pin") => Some(super::servers::offered_analytics()),
        _ => Some(text),
    }
}

/// A storage that says that it kept what was decided, and did not.
#[cfg(feature = "test-switches")]
pub(crate) fn forgetful(storage: impl bailiwick_log::Storage + 'static) -> Forgetful {
    Forgetful { storage: Box::new(storage), forgets: is_off("record") }
}

/// See [`forgetful`].
#[cfg(feature = "test-switches")]
pub(crate) struct Forgetful {
    storage: Box<dyn bailiwick_log::Storage>,
    forgets: bool,
}

#[cfg(feature = "test-switches")]
mod storage {
    use async_trait::async_trait;
    use bailiwick_log::tree::Hash;
    use bailiwick_log::{Expected, Position, Storage, StorageError};

    #[async_trait]
    impl Storage for super::Forgetful {
        async fn append(&self, bytes: Vec<u8>, expected: Option<Expected>) -> Result<Position, StorageError> {
            // Intents and outcomes are the entries that claim a place in an execution's stream.
            if self.forgets && expected.is_some() { Ok(Position(self.storage.len())) } else { self.storage.append(bytes, expected).await }
        }

        async fn durable(&self, position: Position) -> Result<(), StorageError> {
            if position.0 < self.storage.len() { self.storage.durable(position).await } else { Ok(()) }
        }

        async fn read(&self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
            self.storage.read(from, entries_max).await
        }

        async fn reached(&self, position: Position) -> Result<(), StorageError> {
            self.storage.reached(position).await
        }

        async fn root(&self, size: u64) -> Result<Option<Hash>, StorageError> {
            self.storage.root(size).await
        }

        fn len(&self) -> u64 {
            self.storage.len()
        }
    }
}
