//! All the tool servers of the bundle in force.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bailiwick_core::bundle::{Server, Snapshot};
use bailiwick_core::execution::Executions;
use bailiwick_core::model::{Clock, ServerName, ToolName};
use bailiwick_log::Log;
use rustls::RootCertStore;
use tokio::sync::broadcast;

use super::http::HttpClient;
use super::peer::{Names, Peer};
use crate::a2a::Delegator;
use crate::broker::{Credential, Vault};
use crate::mcp::{Change, Offered, Offers};
use crate::{Answer, Caller, Extras, Permit, Upstream, UpstreamError};

/// What tool servers need of the house.
#[derive(Clone)]
pub struct House {
    /// The bundle's directory, which files and working directories are named relative to.
    pub base: PathBuf,
    /// The certificate authorities by which servers are believed.
    pub roots: RootCertStore,
    /// The log, for tools that are held back.
    pub log: Log,
    /// The clock, for those records.
    pub clock: Arc<dyn Clock>,
    /// The broker, for the gateway's own credentials.
    pub vault: Arc<dyn Vault>,
    /// The tools that are held back; the same as the gateway's.
    pub held: Arc<ArcSwap<HashSet<ToolName>>>,
    /// The executions under way; the same as the gateway's.
    pub executions: Arc<Executions>,
    /// What has one of our agents act for another; nothing where none is reached.
    pub delegator: Option<Arc<dyn Delegator>>,
}

/// All the tool servers of the bundle in force.
pub struct Peers {
    house: Arc<House>,
    client: HttpClient,
    changes: broadcast::Sender<Change>,
    peers: ArcSwap<BTreeMap<ServerName, Arc<Peer>>>,
    /// The tools that the bundle declares.
    names: Names,
}

impl Peers {
    /// No servers yet; [`Self::apply`] brings them. Fails when the cryptography for TLS cannot be set up.
    pub fn new(house: House) -> Result<Self, rustls::Error> {
        let client = HttpClient::new(house.roots.clone())?;
        Ok(Self {
            house: Arc::new(house),
            client,
            changes: broadcast::Sender::new(256),
            names: Names::default(),
            peers: ArcSwap::default(),
        })
    }

    /// Brings the servers that `snapshot` declares, and lets go of those that it does not. One that is reached as before
    /// keeps its connections. Call it before the snapshot comes into force, within the runtime; it does not wait.
    ///
    /// Each server is connected to, and what it offers compared with what was reviewed, in the background: one that is
    /// dead holds up nobody else.
    pub fn apply(&self, snapshot: &Snapshot) {
        let tools =
            |server: &Server| -> Vec<ToolName> { server.tools.keys().filter_map(|own| ToolName::new(&server.name, own).ok()).collect() };
        self.names.store(Arc::new(snapshot.servers.values().flat_map(tools).collect()));
        let before = self.peers.load();
        let mut after = BTreeMap::new();
        for server in snapshot.servers.values() {
            let kept = before.get(&server.name).filter(|peer| peer.is_reached_as(server));
            let peer = match kept {
                Some(peer) => {
                    peer.redeclare(server.clone(), snapshot.settings.limits.clone());
                    Arc::clone(peer)
                }
                None => {
                    Peer::start(server.clone(), snapshot.settings.limits.clone(), &self.house, &self.client, &self.changes, &self.names)
                }
            };
            after.insert(server.name.clone(), peer);
        }
        self.peers.store(Arc::new(after));
        self.house
            .held
            .rcu(|held| held.iter().filter(|tool| snapshot.servers.contains_key(tool.server())).cloned().collect::<HashSet<_>>());
    }

    /// The server of this name.
    pub fn peer(&self, server: &ServerName) -> Option<Arc<Peer>> {
        self.peers.load().get(server).cloned()
    }

    fn known(&self, server: &ServerName) -> Result<Arc<Peer>, UpstreamError> {
        self.peer(server).ok_or_else(|| UpstreamError::Unreachable("it is no longer declared".into()))
    }
}

#[async_trait]
impl Upstream for Peers {
    async fn forward(&self, permit: Permit, credential: Credential, extras: Extras, caller: &dyn Caller) -> Result<Answer, UpstreamError> {
        let peer = self.known(permit.call().tool.server())?;
        peer.forward(permit, credential, extras, caller).await
    }
}

#[async_trait]
impl Offers for Peers {
    async fn offered(&self, server: &ServerName) -> Result<Arc<Offered>, UpstreamError> {
        self.known(server)?.offered().await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
