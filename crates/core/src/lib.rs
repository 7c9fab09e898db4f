//! Decides: the words of the domain and the rules over them.
//!
//! Everything here is a pure function of its arguments. There is no socket, file, runtime or clock under this crate;
//! time and randomness are handed in. That is what lets one function serve a live call, `explain`, a replay of last
//! month, a property test and the simulator.

pub mod address;
pub mod approval;
pub mod bundle;
pub mod catalog;
pub mod delegation;
pub mod detect;
pub mod execution;
pub mod flow;
pub mod form;
pub mod identity;
pub mod json;
pub mod judge;
pub mod ledger;
pub mod model;
pub mod policy;
pub mod pressure;
pub mod prose;
pub mod recovery;
pub mod signals;
pub mod tasks;
