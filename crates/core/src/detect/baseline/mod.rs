//! Baselines: from the log, what is usual for each agent, and what is not.
//!
//! There is one for the agents of a tenant that are in a role, and a small overlay for each of them. Nothing is kept but counts, in
//! bounded memory, and every score says in a sentence why. Behaviour ranks; declared effects and provenance decide. What is counted and
//! by which formulas is in `docs/spec/detection.md`.
//!
//! This is not the judgement of a call: that is `judge`, which is told what is said here and may have a person asked.

mod behavior;
mod budget;
mod facet;
mod finding;
mod fold;
mod mandate;
mod oddity;
mod order;
mod rate;
mod reach;
mod realised;
mod role;
mod slot;
#[cfg(test)]
mod tests;
mod watch;
mod window;

pub use self::behavior::{Band, Behavior, Reason, Signal};
pub use self::budget::{Budget, Calibration, Realised};
pub use self::facet::{Chosen, Facet, Facets, Kind, fingerprint};
pub use self::fold::{Baselines, Peers};
pub use self::mandate::{Mandate, Outside};
pub use self::oddity::Oddity;
pub use self::order::{Order, ToolId};
pub use self::rate::{Gaps, Hours, Rate, Volume, WINDOW_S};
pub use self::realised::{AlertRate, LearnedBy};
pub use self::role::{Channel, ENOUGH, Heard, Observed, Overlay, Parts, Role};
pub use self::slot::{KNOWN_AFTER, Novelty, Principal, Slot};
pub use self::watch::Watch;
