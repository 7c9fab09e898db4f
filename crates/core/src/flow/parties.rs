//! Those that the bundle itself says are dealt with: parties by name, and addresses with all that is below them.

use std::sync::Arc;

use super::seen::{self, Seen};
use super::{Origin, Provenance};
use crate::bundle::Below;

/// Whom the house deals with at one server.
#[derive(Debug, Default)]
pub struct Parties {
    named: Seen,
    addresses: Option<(Below, Arc<str>)>,
}

impl From<Seen> for Parties {
    fn from(named: Seen) -> Self {
        Self { named, addresses: None }
    }
}

impl Parties {
    /// The same with these addresses, where there are any; the text says where they are named.
    #[must_use]
    pub fn and_below(self, addresses: Option<(Below, String)>) -> Self {
        Self { addresses: addresses.map(|(below, place)| (below, place.into())), ..self }
    }

    /// Whether `party` is one of them by name.
    pub fn knows(&self, party: &str) -> bool {
        self.named.knows(party)
    }

    /// Where one is named that is this value as a whole.
    pub(super) fn find(&self, value: &seen::Value) -> Option<Origin> {
        self.named.find(Provenance::Known, value)
    }

    /// Where an address is named that this one is, or is below.
    pub(super) fn leads_to(&self, text: &str) -> Option<Origin> {
        let (below, place) = self.addresses.as_ref()?;
        below.covers(text).then(|| Origin { record: None, place: Arc::clone(place) })
    }
}
