//! Signals: what tells the program to stop.

use miette::IntoDiagnostic;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask the program to stop, SIGTERM and SIGINT: from when this is made on they no longer end it at once.
#[derive(Debug)]
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Begins to listen.
    pub(crate) fn listen() -> miette::Result<Self> {
        let listen = |kind| signal(kind).into_diagnostic();
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Resolves once one came, also one that came before.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
