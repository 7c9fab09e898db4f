//! What acts on calls: the token service, the broker, the tool servers and the gateway between, introduced to each other.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bailiwick_control::fetch::Fetcher;
use bailiwick_control::token::{self, Identity};
use bailiwick_core::bundle::Live;
use bailiwick_core::detect::baseline;
use bailiwick_core::execution::Executions;
use bailiwick_core::identity::Grant;
use bailiwick_core::model::{AgentName, Clock, Entropy, ExecutionId};
use bailiwick_gateway::a2a;
use bailiwick_gateway::broker::{Broker, Signers, Sources, Vault};
use bailiwick_gateway::mcp::Face;
use bailiwick_gateway::mcp::upstream::{House, Peers};
use bailiwick_gateway::{Gateway, Parts};
use bailiwick_log::{Log, Position};
use bailiwick_store::keys::Keys;
use miette::IntoDiagnostic as _;
use rustls::RootCertStore;
use zeroize::Zeroizing;

use super::keys::IssuerFiles;

/// What all parts share.
pub(super) struct Common {
    /// The bundle's directory.
    pub(super) base: PathBuf,
    /// The certificate authorities by which others are believed.
    pub(super) roots: RootCertStore,
    pub(super) live: Arc<Live>,
    pub(super) executions: Arc<Executions>,
    pub(super) log: Log,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// What acts on calls.
pub(super) struct Acting {
    pub(super) identity: Arc<Identity>,
    pub(super) broker: Arc<Broker>,
    pub(super) peers: Arc<Peers>,
    pub(super) gateway: Arc<Gateway>,
    /// What agents reach as MCP.
    pub(super) face: Arc<Face>,
    /// The same as A2A.
    pub(super) agents: Arc<a2a::Face>,
}

impl Acting {
    /// Calls are judged by these baselines beside all else, and the log was folded up to `next` before.
    pub(super) fn new(common: &Common, keys: Keys, baselines: Arc<baseline::Watch>, next: Position) -> miette::Result<Self> {
        let identity = common.identity(keys)?;
        let (signing, clock) = (Arc::clone(&identity), Arc::clone(&common.clock));
        let signers: Signers = Arc::new(move |algorithm| signing.issuer().signer(algorithm, clock.now()));
        let broker = common.broker(&identity, &signers)?;
        let vault: Arc<dyn Vault> = Arc::<Broker>::clone(&broker);
        let held = Arc::new(ArcSwap::default());
        let peers = Peers::new(House {
            base: common.base.clone(),
            roots: common.roots.clone(),
            log: common.log.clone(),
            clock: Arc::clone(&common.clock),
            vault: Arc::clone(&vault),
            held: Arc::clone(&held),
            executions: Arc::clone(&common.executions),
            delegator: Some(Arc::new(Delegations(Arc::clone(&identity)))),
        });
        let peers = Arc::new(peers.into_diagnostic()?);
        peers.apply(&common.live.load());
        let parts = Parts {
            bundle: Arc::clone(&common.live),
            executions: Arc::clone(&common.executions),
            log: common.log.clone(),
            clock: Arc::clone(&common.clock),
            vault,
            upstream: Arc::<Peers>::clone(&peers),
            held,
        };
        let gateway = Arc::new(Gateway::new(parts).caught_up_to(next).watched_by(baselines));
        let (authenticator, entropy) = (Arc::clone(identity.authenticator()), Arc::clone(&common.entropy));
        let face = Face::new(Arc::clone(&gateway), authenticator, Arc::<Peers>::clone(&peers), entropy).into_diagnostic()?;
        let face = Arc::new(face);
        let agents = Arc::new(a2a::Face::new(Arc::clone(face.front()), signers, Arc::clone(&common.entropy)));
        Ok(Self { identity, broker, peers, gateway, face, agents })
    }
}

impl Common {
    fn identity(&self, keys: Keys) -> miette::Result<Arc<Identity>> {
        let parts = token::Parts {
            bundle: Arc::clone(&self.live),
            executions: Arc::clone(&self.executions),
            log: self.log.clone(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            keys: Arc::new(IssuerFiles(keys)),
            fetcher: Fetcher::new(self.roots.clone()).into_diagnostic()?,
            base: self.base.clone(),
        };
        Identity::open(parts).into_diagnostic()
    }

    fn broker(&self, identity: &Identity, signers: &Signers) -> miette::Result<Arc<Broker>> {
        let (of_chain, of_stopped) = (Arc::clone(&self.executions), Arc::clone(&self.executions));
        let chain = move |id| {
            let execution = of_chain.find(id);
            execution.map(|execution| execution.started().chain.iter().map(|member| member.agent.clone()).collect()).unwrap_or_default()
        };
        let sources = Sources {
            bundle: Arc::clone(&self.live),
            base: self.base.clone(),
            roots: self.roots.clone(),
            issuer: identity.issuer().url().to_owned(),
            signers: Arc::clone(signers),
            chains: Arc::new(chain),
            stopped: Arc::new(move |id| of_stopped.find(id).is_none_or(|execution| execution.is_stopped())),
            log: self.log.clone(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        };
        Ok(Arc::new(Broker::new(sources).into_diagnostic()?))
    }
}

/// The token service, as that which has one of our agents act for another.
struct Delegations(Arc<Identity>);

#[async_trait]
impl a2a::Delegator for Delegations {
    async fn delegate(&self, by: ExecutionId, to: &AgentName) -> Result<Zeroizing<String>, String> {
        let parts = self.0.parts();
        let parent = parts.executions.find(by).ok_or_else(|| "the execution has ended".to_owned())?;
        let tools = format!("{}/mcp", parts.bundle.load().settings.data.origin);
        let delegated = self.0.delegate(&parent, None, to, &Grant::default(), vec![tools]).await.map_err(|error| error.to_string())?;
        Ok(Zeroizing::new(delegated.token))
    }
}
