//! Model Context Protocol: the agents' side and the tool servers' side of it.
//!
//! Both sides speak the revision 2026-07-28 ("modern": stateless, mirrored headers, answers that ask for input) and those
//! from 2025-11-25 down to 2025-03-26 ("legacy": a handshake, sessions, requests from the server), whatever the other
//! side speaks. The specification is "Model Context Protocol", by revision; the authorization of this side is RFC 9728,
//! RFC 6750 and RFC 9449. Not supported: JSON-RPC batches, resumable streams, tasks, and the HTTP+SSE transport of
//! 2024-11-05.
//!
//! # How a request becomes a call
//!
//! | method | tool | arguments | extras, each where the agent sent it |
//! | --- | --- | --- | --- |
//! | `tools/call` | `server/NAME` | its `arguments`, as they came | `_meta`, `inputResponses`, `requestState` |
//! | `prompts/get` | `server/prompt:NAME` | its `arguments`, as they came | the same |
//! | `resources/read` | `server/resource:URI` | `{"uri": URI}` | the same |
//! | `completion/complete` | `server/prompt:NAME` or `server/resource:URI-TEMPLATE` | `{"argument": …, "context": …}` | `_meta` |
//! | `resources/subscribe`, `resources/unsubscribe` | `server/resource:URI` | `{"uri": URI}` | `_meta` |
//!
//! `_meta` always has the members that 2026-07-28 wants of a request, also when a legacy client sent it: what that client
//! declared in its handshake stands there. Names and URIs are those of the server, without the prefixes of `/mcp`.

mod approve;
mod called;
mod exchange;
mod listen;
mod lists;
pub(crate) mod metadata;
mod offers;
mod parked;
pub mod parse;
pub mod reply;
mod route;
mod seal;
mod serve;
mod session;
mod under_way;
pub mod upstream;

pub(crate) use called::called;
pub(crate) use metadata::challenges;
pub use offers::{Change, Offered, Offers};
pub(crate) use route::Route;
pub use serve::Face;
