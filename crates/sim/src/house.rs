//! One gateway of a world: the real path, recovery, authenticator and executions, over simulated parts.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bailiwick_control::approvals::{Answer, AnswerError, Approvals};
use bailiwick_core::bundle::{Live, Snapshot};
use bailiwick_core::delegation::Delegation;
use bailiwick_core::flow::WordSeal;
use bailiwick_core::identity::{AccessToken, Algorithm, Authenticated, Authenticator, Grant, KeySet, Presented, Signer, SigningFailed};
use bailiwick_core::model::{
    AgentName, BundleActivated, Clock as _, Digest, ExecutionId, ExecutionStarted, Person, Quarantined, Released, Revocation, Revoked,
    SpiffeId, Started, Timestamp,
};
use bailiwick_gateway::recover::{Keep, RecoveryError, Shelf, recover};
use bailiwick_gateway::{Gateway, Parts};
use bailiwick_log::{Log, Position, StorageError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::clock::SimClock;
use crate::dice::Dice;
use crate::folds::{Folds, KEPT_EVERY};
use crate::life::Life;
use crate::tools::{Keys, Tools};
use crate::world::World;

const ISSUER: &str = "https://identity.acme.example";
const AUDIENCE: &str = "https://gateway.acme.example/mcp";

/// The credential of an execution, as its client keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) execution: ExecutionId,
    pub(crate) id: String,
    text: String,
}

/// The issuer's key, the same for all gateways of a trust domain.
#[derive(Debug)]
struct Key(Ed25519KeyPair);

impl Signer for Key {
    fn kid(&self) -> &'static str {
        "k"
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDsa
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

fn key() -> Result<Key, SigningFailed> {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).map(Key).map_err(|_| SigningFailed)
}

/// One gateway's process.
pub(crate) struct House {
    pub(crate) index: usize,
    pub(crate) life: Life,
    /// The storage's session that it writes in.
    pub(crate) session: u64,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) gateway: Arc<Gateway>,
    authenticator: Authenticator,
    dice: Dice,
    holding: tokio::sync::Mutex<()>,
}

impl House {
    /// Starts a gateway: folds the log, closes what was left open, says on the log that it started, and follows the log from there.
    pub(crate) async fn open(
        world: &World,
        index: usize,
        clock: Arc<SimClock>,
        snapshot: Arc<Snapshot>,
        life: Life,
    ) -> Result<Self, RecoveryError> {
        let session = world.disk.session();
        let storage = world.disk.handle(life.clone());
        let shared = storage.is_shared();
        let log = Log::new(storage);
        let shelf: Arc<dyn Shelf> = world.folds.get(index).cloned().unwrap_or_else(|| Arc::new(Folds::new(None)));
        let seal = WordSeal::of(b"the house of the simulation").map_err(|_| StorageError::Damaged("no seal".into()))?;
        let every = if world.plan.keeps_folds { KEPT_EVERY } else { u64::MAX };
        let keep = Keep { shelf, every, seal: Arc::new(seal) };
        let (executions, recovered) = recover(&log, &snapshot, clock.now(), &keep).await?;
        log.append(Started { at: clock.now(), version: "sim".to_owned(), bundle: snapshot.digest }).await?;
        world.trace.tell(format_args!("gateway {index} starts: {} records, {} closed", recovered.records, recovered.closed));

        let (plan, dice) = (world.plan.clone(), world.dice.clone());
        let upstream = Tools {
            plan: plan.clone(),
            dice: dice.clone(),
            trace: world.trace.clone(),
            disk: Arc::clone(&world.disk),
            bundles: world.bundles,
            seen: Arc::clone(&world.seen),
            life: life.clone(),
        };
        let parts = Parts {
            bundle: Arc::new(Live::new(snapshot)),
            executions,
            log,
            clock: Arc::<SimClock>::clone(&clock),
            vault: Arc::new(Keys { plan, dice: dice.clone(), life: life.clone() }),
            upstream: Arc::new(upstream),
            held: Arc::new(ArcSwap::default()),
        };
        let gateway = Arc::new(Gateway::new(parts).caught_up_to(recovered.next));
        if shared {
            let following = Arc::clone(&gateway);
            tokio::spawn(async move { following.follow().await });
        }
        let public = key().map(|key| URL_SAFE_NO_PAD.encode(key.0.public_key().as_ref())).unwrap_or_default();
        let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "alg": "EdDSA", "x": public }] });
        let authenticator = Authenticator::new(ISSUER, KeySet::from_jwks(&jwks).unwrap_or_default(), &dice);
        Ok(Self { index, life, session, clock, gateway, authenticator, dice, holding: tokio::sync::Mutex::default() })
    }

    /// Starts an execution, as the token service does: on disk before the credential is handed out.
    pub(crate) async fn issue(&self, agent: &AgentName) -> Result<Token, String> {
        let parts = self.gateway.parts();
        let snapshot = parts.bundle.load();
        let now = self.clock.now();
        let mut random = [0; 10];
        bailiwick_core::model::Entropy::fill(&self.dice, &mut random);
        let execution = ExecutionId::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), random);
        let expires_s = now.as_second().saturating_add(900);
        let token = AccessToken {
            issuer: ISSUER.to_owned(),
            agent: SpiffeId::new(snapshot.settings.trust_domain.clone(), agent.clone()),
            chain: Vec::new(),
            subject: None,
            audiences: vec![AUDIENCE.to_owned()],
            execution,
            id: format!("{:016x}", self.dice.number()),
            issued_s: now.as_second(),
            expires_s,
            certificate: None,
            key: None,
            grant: Grant::default(),
        };
        let text = key().and_then(|key| token.sign(&key)).map_err(|error| error.to_string())?;
        let started = ExecutionStarted {
            at: now,
            bundle: snapshot.digest,
            execution,
            agent: agent.clone(),
            subject: None,
            chain: Vec::new(),
            task: None,
            grant: Grant::default(),
            key: None,
            token: token.id.clone(),
            renewal: false,
            expires: Timestamp::from_second(expires_s).unwrap_or(now),
            proof: "sim".to_owned(),
            sign_in: None,
        };
        let recorded = parts.log.append(started).await.map_err(|error| error.to_string())?;
        let started = parts.log.durable(recorded).await.map_err(|error| error.to_string())?.into_value();
        parts.executions.started(started);
        Ok(Token { execution, id: token.id, text })
    }

    /// Has another agent act for an execution, and redeems what that gives, as the token service does.
    pub(crate) async fn delegate(&self, by: &Token, to: &AgentName) -> Result<Token, String> {
        let parts = self.gateway.parts();
        let (snapshot, now) = (parts.bundle.load(), self.clock.now());
        let parent = parts.executions.find(by.execution).ok_or("the execution is not known")?;
        let mut random = [0; 10];
        bailiwick_core::model::Entropy::fill(&self.dice, &mut random);
        let id = ExecutionId::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), random);
        let delegation = Delegation { parent: &parent, token: Some(&by.id), to, wanted: &Grant::default() };
        let execution = {
            let _turn = parent.turn().await;
            let started =
                delegation.start(&snapshot, id, format!("{:016x}", self.dice.number()), now).map_err(|error| error.to_string())?;
            let recorded = parts.log.append(started).await.map_err(|error| error.to_string())?;
            let started = parts.log.durable(recorded).await.map_err(|error| error.to_string())?.into_value();
            parts.executions.started(started)
        };
        let started = execution.started();
        let token = AccessToken {
            issuer: ISSUER.to_owned(),
            agent: SpiffeId::new(snapshot.settings.trust_domain.clone(), to.clone()),
            chain: started.chain.iter().map(|member| member.agent.clone()).collect(),
            subject: None,
            audiences: vec![AUDIENCE.to_owned()],
            execution: id,
            id: format!("{:016x}", self.dice.number()),
            issued_s: now.as_second(),
            expires_s: parent.expires().as_second(),
            certificate: None,
            key: None,
            grant: Grant::default(),
        };
        let text = key().and_then(|key| token.sign(&key)).map_err(|error| error.to_string())?;
        let expires = parent.expires();
        let renewal = ExecutionStarted { at: now, token: token.id.clone(), renewal: true, expires, ..started.clone() };
        let recorded = parts.log.append(renewal).await.map_err(|error| error.to_string())?;
        let renewal = parts.log.durable(recorded).await.map_err(|error| error.to_string())?.into_value();
        parts.executions.started(renewal);
        Ok(Token { execution: id, id: token.id, text })
    }

    /// Quarantines an agent, or releases it, as the admin API does.
    pub(crate) async fn hold(&self, agent: &AgentName, is_held: bool) -> Result<(), StorageError> {
        let parts = self.gateway.parts();
        let (at, agent, by, reason) = (self.clock.now(), agent.clone(), "sim".to_owned(), "sim".to_owned());
        let _turn = self.holding.lock().await;
        if is_held {
            // First in effect: a log that cannot be written must not keep an agent going.
            let quarantined = Quarantined { at, agent, since: at, by, reason, finding: None };
            parts.executions.quarantine(quarantined.clone());
            let recorded = parts.log.append(quarantined).await?;
            let durable = parts.log.durable(recorded).await?;
            parts.executions.quarantined_at(&durable.value().agent, durable.position());
        } else {
            let recorded = parts.log.append(Released { at, agent, by, reason, only: None }).await?;
            let durable = parts.log.durable(recorded).await?;
            parts.executions.release(durable.position(), durable.value());
        }
        Ok(())
    }

    /// Revokes an execution or one credential, as the admin API and the revocation endpoint do.
    pub(crate) async fn revoke(&self, token: &Token, whole: bool) -> Result<(), StorageError> {
        let parts = self.gateway.parts();
        let what = if whole { Revocation::Execution(token.execution) } else { Revocation::Token(token.id.clone()) };
        let revoked = Revoked {
            at: self.clock.now(),
            what,
            execution: Some(token.execution),
            agent: None,
            by: "sim".to_owned(),
            reason: String::new(),
            finding: None,
        };
        let recorded = parts.log.append(revoked).await?;
        let revoked = parts.log.durable(recorded).await?.into_value();
        parts.executions.revoked(&revoked);
        Ok(())
    }

    /// Takes a person's answer, by the real service for it.
    pub(crate) async fn answer(&self, ask: Position, answer: Answer) -> Result<Position, AnswerError> {
        let Parts { bundle, executions, log, clock, .. } = self.gateway.parts().clone();
        let person = Person { issuer: "people".to_owned(), subject: "ana".to_owned(), name: None };
        Approvals { bundle, executions, log, clock }.answer(ask, answer, person).await
    }

    /// Who shows this token, by the real authenticator.
    pub(crate) fn authenticate(&self, token: &Token) -> Option<Authenticated> {
        let authorization = format!("Bearer {}", token.text);
        let presented =
            Presented { authorization: &[&authorization], dpop: &[], certificate: None, method: "POST", url: AUDIENCE, audience: AUDIENCE };
        self.authenticator.authenticate(&presented, &self.gateway.parts().executions, self.clock.now()).ok()
    }

    /// Brings a bundle into force, as the loader does: recorded first.
    pub(crate) async fn reload(&self, snapshot: Arc<Snapshot>) -> Result<(), StorageError> {
        let parts = self.gateway.parts();
        let before: Option<Digest> = Some(parts.bundle.load().digest);
        parts.log.append(BundleActivated { at: self.clock.now(), bundle: snapshot.digest, before, loosens: Vec::new() }).await?;
        parts.bundle.activate(snapshot);
        Ok(())
    }
}
