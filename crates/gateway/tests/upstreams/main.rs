//! Tool servers of both eras over real sockets and pipes: what is sent to them, and what comes of it when they misbehave.

mod http;
mod world;
