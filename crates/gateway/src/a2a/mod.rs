//! Agent2Agent: the side of the agents that call, and the side of those that are called.
//!
//! Spoken are 1.0 over JSON-RPC and HTTP+JSON, and 0.3 over JSON-RPC, with streams, on both sides and whatever the other side speaks.
//! The specification is "Agent2Agent (A2A) Protocol"; its data model is the package `lf.a2a.v1`. News of tasks are the gateway's to tell
//! (`push.rs`), and nothing that agents are asked for. Not supported: gRPC, and tenants of our own.
//!
//! # How a request becomes a call
//!
//! | operation | tool |
//! | --- | --- |
//! | `SendMessage`, `SendStreamingMessage` | `server/message` |
//! | `GetTask` | `server/get_task` |
//! | `ListTasks` | `server/list_tasks` |
//! | `CancelTask` | `server/cancel_task` |
//! | `SubscribeToTask` | `server/subscribe_to_task` |
//! | those of push notifications | `server/push_notifications` |
//! | `GetExtendedAgentCard` | `server/extended_card` |
//!
//! Its arguments are those of the request in the one form of 1.0, whatever version and binding it came in; the extras hold the
//! extensions that were asked for.

mod agent;
mod asked;
pub mod card;
mod face;
mod fault;
mod hook;
pub mod parse;
mod push;
mod shape;
mod stream;
mod v03;

pub(crate) use agent::{Agent, Around};
pub use agent::{DELEGATION, Delegator};
pub use face::{Face, is_for};
