//! The demo: an agent does its task through the gateway, is hijacked, and is held.

pub(crate) mod servers;
