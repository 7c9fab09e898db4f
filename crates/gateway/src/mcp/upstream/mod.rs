//! MCP tool servers, as a client of them: both eras of the protocol, over Streamable HTTP and over the standard input and
//! output of a program.
//!
//! What the path hands over goes out as it was decided on; what comes back is bounded, must be the protocol, and is passed
//! on unchanged. Before a tool is called, what its server offers under that name is compared with what was reviewed.

mod asking;
mod connections;
mod converse;
mod described;
mod http;
mod ids;
pub mod message;
pub mod mirror;
mod news;
mod peer;
mod peers;
mod process;
mod reach;
mod remote;
pub mod sse;
mod under_way;

pub(crate) use self::http::{HttpClient, Messages, Replied, address, body, replied};
pub use described::Described;
pub use peers::{House, Peers};
pub(crate) use process::read_secret;
