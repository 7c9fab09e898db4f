//! The Workload API on a Unix socket: agents of this host get SVIDs, and the kernel says which program asks.
//!
//! gRPC over HTTP/2 by six methods, of which none has a stream of requests: a frame comes, frames and a status go. Whoever asks
//! is attested as on the local socket of the token service. What is given out is recorded first. `FetchWITSVID` and `FetchWITBundles` are
//! unimplemented.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Router, middleware};
use bailiwick_core::bundle::Outbound;
use bailiwick_core::identity::jws::{InvalidJwt, Jws, SKEW_S};
use bailiwick_core::identity::outbound::OutboundToken;
use bailiwick_core::identity::platform::SVID_ALGORITHMS;
use bailiwick_core::identity::{KeySet, spiffe};
use bailiwick_core::model::{AgentName, Digest, Refused, SpiffeId, Timestamp, TokenIssued};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{Stream, stream};
use prost::Message;
use serde_json::json;
use tonic::Status;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::jwt_keys;
use super::message::{
    JwtBundlesResponse, JwtSvid, JwtSvidRequest, JwtSvidResponse, Nothing, ValidateJwtSvidRequest, ValidateJwtSvidResponse,
    X509BundlesResponse, X509Svid, X509SvidResponse,
};
use crate::token::attest::Peer;
use crate::token::{Identity, of_domain};

/// How often what a stream said is said anew: at half the life of an SVID.
const AGAIN: Duration = Duration::from_secs(1_800);

/// How often a stream of bundles looks whether they have changed.
const LOOK: Duration = Duration::from_secs(60);

/// The longest request, in bytes.
const BYTES_MAX: usize = 64 << 10;

/// Whom the record of an X.509-SVID is for, which has no audience.
const X509: &str = "x509-svid";

/// The Workload API of one trust domain.
pub struct WorkloadApi {
    identity: Arc<Identity>,
}

type Shared = State<Arc<WorkloadApi>>;

impl WorkloadApi {
    /// That of this token service.
    pub const fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }

    /// The methods. Serve them over HTTP/2 on a Unix socket, with the process at its other end as `Arc<Peer>` in the request's
    /// extensions.
    pub fn router(self) -> Router {
        Router::new()
            .route("/SpiffeWorkloadAPI/FetchX509SVID", post(fetch_x509_svid))
            .route("/SpiffeWorkloadAPI/FetchX509Bundles", post(fetch_x509_bundles))
            .route("/SpiffeWorkloadAPI/FetchJWTSVID", post(fetch_jwt_svid))
            .route("/SpiffeWorkloadAPI/FetchJWTBundles", post(fetch_jwt_bundles))
            .route("/SpiffeWorkloadAPI/ValidateJWTSVID", post(validate_jwt_svid))
            .fallback(async || Status::unimplemented("this method is not offered").into_http::<Body>())
            .layer(middleware::from_fn(guard))
            .with_state(Arc::new(self))
    }

    fn now(&self) -> Timestamp {
        self.identity.parts().clock.now()
    }

    /// The agents that the program at the other end is, and how that was found; at least one, none of which is quarantined.
    async fn agents(&self, peer: &Arc<Peer>) -> Result<(Vec<AgentName>, String), Status> {
        let snapshot = self.identity.parts().bundle.load();
        let found = self.identity.programs(&snapshot, Arc::clone(peer)).await.and_then(|(mut agents, by)| {
            let quarantined = self.identity.parts().executions.quarantined();
            agents.retain(|agent| !quarantined.contains_key(agent));
            if agents.is_empty() { Err(format!("no agent is this program, or it is quarantined ({by})")) } else { Ok((agents, by)) }
        });
        match found {
            Ok(found) => Ok(found),
            Err(detail) => {
                let (at, stage, code) = (self.now(), "workload".to_owned(), "permission_denied".to_owned());
                let refused = Refused { at, stage, code, detail: detail.clone(), peer: None, agent: None, execution: None };
                self.identity.note_refused(refused, None).await;
                Err(Status::permission_denied(detail))
            }
        }
    }

    fn id(&self, agent: &AgentName) -> SpiffeId {
        SpiffeId::new(self.identity.parts().bundle.load().settings.trust_domain.clone(), agent.clone())
    }

    fn domain(&self) -> String {
        format!("spiffe://{}", self.identity.parts().bundle.load().settings.trust_domain)
    }

    /// Puts on the log that `agent` has something to show to `audience`, durably.
    async fn record(&self, agent: &AgentName, audience: &str, token: &str, by: &str, expires_s: i64) -> Result<(), Status> {
        let parts = self.identity.parts();
        let now = self.now();
        let issued = TokenIssued {
            at: now,
            bundle: parts.bundle.load().digest,
            execution: None,
            agent: agent.clone(),
            subject: None,
            audience: audience.to_owned(),
            token: token.to_owned(),
            by: by.to_owned(),
            expires: Timestamp::from_second(expires_s).unwrap_or(now),
        };
        let unrecorded = |_| Status::unavailable("the log cannot be written");
        let recorded = parts.log.append(issued).await.map_err(unrecorded)?;
        parts.log.durable(recorded).await.map(drop).map_err(unrecorded)
    }

    /// An X.509-SVID of each agent that the program is and that has one by its declaration.
    async fn x509_svids(&self, peer: &Arc<Peer>) -> Result<X509SvidResponse, Status> {
        let (agents, by) = self.agents(peer).await?;
        let snapshot = self.identity.parts().bundle.load();
        let mut svids = Vec::new();
        for agent in agents.iter().filter(|name| snapshot.agents.get(*name).is_some_and(|agent| agent.x509_svid)) {
            let svid =
                self.identity.authority().svid(&self.id(agent), self.now()).map_err(|error| Status::unavailable(error.to_string()))?;
            let digest = Digest::of(&svid.certificate).to_string();
            self.record(agent, X509, &digest, &by, svid.expires_s).await?;
            svids.push(X509Svid {
                spiffe_id: svid.id,
                x509_svid: svid.certificate,
                x509_svid_key: svid.key.to_vec(),
                bundle: self.identity.authority().roots(),
                hint: agent.to_string(),
            });
        }
        if svids.is_empty() {
            return Err(Status::permission_denied(
                "no agent that is this program has an X.509-SVID; its file says so by `x509_svid = true`",
            ));
        }
        Ok(X509SvidResponse { svids, crl: Vec::new(), federated_bundles: HashMap::new() })
    }

    /// A JWT-SVID for one audience of each agent that the program is, or of the one that is asked for.
    ///
    /// It is had outside of any execution, so what the agent has read is not known: only for audiences that the agent's file gives
    /// whatever it has read.
    async fn jwt_svids(&self, peer: &Arc<Peer>, asked: &JwtSvidRequest) -> Result<JwtSvidResponse, Status> {
        let [audience] = asked.audience.as_slice() else {
            return Err(Status::invalid_argument("a JWT-SVID is for exactly one audience here"));
        };
        let (agents, by) = self.agents(peer).await?;
        let snapshot = self.identity.parts().bundle.load();
        let mut svids = Vec::new();
        for name in agents.iter().filter(|agent| asked.spiffe_id.is_empty() || self.id(agent).to_string() == asked.spiffe_id) {
            let Some(agent) = snapshot.agents.get(name) else { continue };
            let is_to = |to: &&Outbound| to.audience == *audience && to.after_untrusted;
            let Some(to) = agent.outbound.iter().find(is_to) else { continue };
            let (now, spiffe_id) = (self.now(), self.id(name));
            let expires_s = now.as_second().saturating_add(i64::try_from(to.ttl.as_secs()).unwrap_or(0));
            let mut random = [0; 16];
            self.identity.parts().entropy.fill(&mut random);
            let id = URL_SAFE_NO_PAD.encode(random);
            let token = OutboundToken {
                issuer: self.identity.issuer().url(),
                agent: &spiffe_id,
                owner: &agent.owner,
                subject: None,
                chain: Vec::new(),
                execution: None,
                id: &id,
                issued_s: now.as_second(),
                expires_s,
                key: None,
                to,
            };
            let signer = self.identity.issuer().signer(to.algorithm, now).ok_or_else(|| Status::unavailable("the issuer has no key"))?;
            let svid = token.sign(signer.as_ref()).map_err(|error| Status::unavailable(error.to_string()))?;
            self.record(name, audience, &id, &by, expires_s).await?;
            svids.push(JwtSvid { spiffe_id: spiffe_id.to_string(), svid, hint: name.to_string() });
        }
        if svids.is_empty() {
            return Err(Status::permission_denied(
                "no agent that is this program has a JWT-SVID for this audience; its file says so by `[[agent.outbound]]` with `after_untrusted = true`",
            ));
        }
        Ok(JwtSvidResponse { svids })
    }

    /// Whether a JWT-SVID, of our trust domain or of one that `issuers.toml` declares, is good for this audience now (Workload API §6.2.3).
    async fn validate(&self, peer: &Arc<Peer>, asked: &ValidateJwtSvidRequest) -> Result<ValidateJwtSvidResponse, Status> {
        self.agents(peer).await?;
        let invalid = |why: &dyn fmt::Display| Status::invalid_argument(format!("the JWT-SVID is not valid: {why}"));
        let svid = Jws::parse(&asked.svid).map_err(|error| invalid(&error))?;
        let id = svid.text("sub").map_err(|error| invalid(&error))?.to_owned();
        let domain = match spiffe::Id::parse(&id) {
            Ok(id) if !id.path().is_empty() => id.trust_domain().to_owned(),
            _ => return Err(invalid(&"its `sub` is no SPIFFE id of a workload")),
        };
        let snapshot = self.identity.parts().bundle.load();
        let now = self.now();
        if domain == snapshot.settings.trust_domain.to_string() {
            check(&svid, &asked.audience, &self.identity.issuer().public_keys(), now).map_err(|error| invalid(&error))?;
        } else {
            let issuer = of_domain(&snapshot, &domain).ok_or_else(|| invalid(&"its trust domain is not known here"))?;
            let published = self.identity.foreign().published(issuer, svid.kid(), now).await;
            let published = published.map_err(|error| Status::unavailable(error.to_string()))?;
            check(&svid, &asked.audience, &published.keys, now).map_err(|error| invalid(&error))?;
        }
        Ok(ValidateJwtSvidResponse { spiffe_id: id, claims: Some(svid.claims().into()) })
    }

    fn x509_bundles(&self) -> X509BundlesResponse {
        X509BundlesResponse { crl: Vec::new(), bundles: HashMap::from([(self.domain(), self.identity.authority().roots())]) }
    }

    fn jwt_bundles(&self) -> JwtBundlesResponse {
        let keys = json!({ "keys": jwt_keys(&self.identity.issuer().jwks()) }).to_string().into_bytes();
        JwtBundlesResponse { bundles: HashMap::from([(self.domain(), keys)]) }
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApi").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Refuses what does not say that it means this API: a page in a browser that is led here cannot (Workload API §4.1).
async fn guard(request: Request, next: middleware::Next) -> Response {
    let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    if request.headers().get("workload.spiffe.io").is_none_or(|header| header != "true") {
        return Status::invalid_argument("the metadata `workload.spiffe.io: true` is missing").into_http::<Body>();
    }
    next.run(request).await
}

type Answer = http::Response<tonic::body::Body>;

async fn fetch_x509_svid(State(api): Shared, Extension(peer): Extension<Arc<Peer>>, request: Request) -> Answer {
    let answer = service_fn(move |_: tonic::Request<Nothing>| {
        let (api, peer) = (Arc::clone(&api), Arc::clone(&peer));
        async move {
            let first = api.x509_svids(&peer).await?;
            let next = move || {
                let (api, peer) = (Arc::clone(&api), Arc::clone(&peer));
                async move { api.x509_svids(&peer).await.map(Some) }
            };
            Ok(tonic::Response::new(saying(first, AGAIN, next)))
        }
    });
    Grpc::new(ProstCodec::<X509SvidResponse, Nothing>::default()).server_streaming(answer, request).await
}

async fn fetch_x509_bundles(State(api): Shared, Extension(peer): Extension<Arc<Peer>>, request: Request) -> Answer {
    bundles(api, peer, WorkloadApi::x509_bundles, request).await
}

async fn fetch_jwt_bundles(State(api): Shared, Extension(peer): Extension<Arc<Peer>>, request: Request) -> Answer {
    bundles(api, peer, WorkloadApi::jwt_bundles, request).await
}

/// Says the bundles that `read` gives, and says them again once they have changed.
async fn bundles<M>(api: Arc<WorkloadApi>, peer: Arc<Peer>, read: fn(&WorkloadApi) -> M, request: Request) -> Answer
where
    M: Message + PartialEq + Clone + Default + 'static,
{
    let answer = service_fn(move |_: tonic::Request<Nothing>| {
        let (api, peer) = (Arc::clone(&api), Arc::clone(&peer));
        async move {
            api.agents(&peer).await?;
            let first = read(&api);
            let mut said = first.clone();
            let next = move || {
                let bundle = read(&api);
                let news = (bundle != said).then(|| bundle.clone());
                said = bundle;
                async move { Ok(news) }
            };
            Ok(tonic::Response::new(saying(first, LOOK, next)))
        }
    });
    Grpc::new(ProstCodec::<M, Nothing>::default()).server_streaming(answer, request).await
}

async fn fetch_jwt_svid(State(api): Shared, Extension(peer): Extension<Arc<Peer>>, request: Request) -> Answer {
    let answer = service_fn(move |asked: tonic::Request<JwtSvidRequest>| {
        let (api, peer) = (Arc::clone(&api), Arc::clone(&peer));
        async move { api.jwt_svids(&peer, asked.get_ref()).await.map(tonic::Response::new) }
    });
    Grpc::new(ProstCodec::<JwtSvidResponse, JwtSvidRequest>::default()).max_decoding_message_size(BYTES_MAX).unary(answer, request).await
}

async fn validate_jwt_svid(State(api): Shared, Extension(peer): Extension<Arc<Peer>>, request: Request) -> Answer {
    let answer = service_fn(move |asked: tonic::Request<ValidateJwtSvidRequest>| {
        let (api, peer) = (Arc::clone(&api), Arc::clone(&peer));
        async move { api.validate(&peer, asked.get_ref()).await.map(tonic::Response::new) }
    });
    let codec = ProstCodec::<ValidateJwtSvidResponse, ValidateJwtSvidRequest>::default();
    Grpc::new(codec).max_decoding_message_size(BYTES_MAX).unary(answer, request).await
}

/// Checks a JWT-SVID by the keys of its trust domain (JWT-SVID §5). One of our own access tokens is of another type.
fn check(svid: &Jws<'_>, audience: &str, keys: &KeySet, now: Timestamp) -> Result<(), InvalidJwt> {
    svid.has_type(&["JWT", "JOSE", ""])?;
    if !SVID_ALGORITHMS.contains(&svid.algorithm().as_str()) {
        return Err(InvalidJwt::Algorithm);
    }
    svid.verify(keys.find(svid.kid(), svid.algorithm()).ok_or(InvalidJwt::UnknownKey)?)?;
    if audience.is_empty() || !svid.audiences()?.contains(&audience) {
        return Err(InvalidJwt::Audience);
    }
    svid.is_current(now.as_second(), SKEW_S).map(drop)
}

/// `first`, and `every` so often what `next` gives, if it gives anything, until the caller leaves or `next` fails.
fn saying<M, N, F>(first: M, every: Duration, next: N) -> Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>
where
    M: Send + 'static,
    N: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<Option<M>, Status>> + Send,
{
    Box::pin(stream::unfold(Some((Some(first), next)), move |state| async move {
        let (first, mut next) = state?;
        if let Some(first) = first {
            return Some((Ok(first), Some((None, next))));
        }
        loop {
            tokio::time::sleep(every).await;
            match next().await {
                Ok(None) => {}
                Ok(Some(message)) => return Some((Ok(message), Some((None, next)))),
                Err(status) => return Some((Err(status), None)),
            }
        }
    }))
}
