//! Model Context Protocol: the agents' side and the tool servers' side of it.
//!
//! Both speak the revision 2026-07-28 (stateless; "modern" in what follows) and those from 2025-11-25 down to 2025-03-26
//! ("legacy"), whatever the other side speaks.

pub mod upstream;
