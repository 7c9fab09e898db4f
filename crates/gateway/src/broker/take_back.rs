//! What was got at an upstream for an execution is taken back there once that execution is stopped (RFC 7009), where the upstream can.
//!
//! The call is cut first; this ends what somebody who has the token could still do. What all executions share is not taken
//! back, since the others go on. Tokens are in memory alone: after a crash those of before live out their minutes.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::form::encode;
use bailiwick_core::json::{self, Limits};
use bailiwick_core::model::{CredentialTakenBack, ServerName, TakenBack, Timestamp};
use bailiwick_log::{FollowError, Follower, Position, Recorded, follow};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::real::{ENDPOINT_TIMEOUT, Named, by_assertion, said};
use super::{Broker, BrokerError, Credential};
use crate::mcp::upstream::{address, body};

/// How many credentials may wait to be taken back; of more it is recorded that they were not.
const WAITING_MAX: usize = 4_096;

/// How many are taken back at once, so that one slow endpoint does not keep the others waiting.
const AT_ONCE: usize = 8;

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long it is believed what an authorization server said of itself, in seconds.
const FRESH_S: i64 = 600;

/// What the records begin with that stop executions.
const KINDS: [&[u8]; 2] = [b"{\"kind\":\"revoked\"", b"{\"kind\":\"quarantined\""];

/// A credential that was got for one execution.
pub(super) struct Got {
    pub(super) credential: Credential,
    pub(super) server: ServerName,
    /// The token endpoint that gave it.
    pub(super) token_url: String,
    pub(super) named: Named,
    /// When it is over by itself.
    pub(super) ends: Timestamp,
}

/// One that waits.
struct Wanted {
    got: Got,
    tries: u32,
    due: Instant,
}

/// What waits to be taken back, and where that is done.
#[derive(Default)]
pub(super) struct Back {
    waiting: Mutex<VecDeque<Wanted>>,
    more: Notify,
    /// The revocation endpoint of each token endpoint, and when it was looked for.
    endpoints: tokio::sync::Mutex<HashMap<String, (Option<Uri>, i64)>>,
}

/// Why a credential was not taken back.
enum Kept {
    /// It never will be.
    Never(&'static str),
    /// It may be later.
    Yet(BrokerError),
}

impl Broker {
    /// Takes back what was got for executions that are stopped, for as long as it is polled. Returns only when the log can no longer
    /// be read.
    pub async fn take_back(self: Arc<Self>) -> FollowError {
        let log = &self.sources.log;
        let mut reading = Reading { broker: &self, next: Position(log.storage().len()) };
        let workers = futures_util::future::select_all((0..AT_ONCE).map(|_| Box::pin(self.work())));
        tokio::select! {
            ended = follow(log, &mut reading) => ended,
            (never, ..) = workers => match never {},
        }
    }

    /// Has one taken back. What was stopped while its credential was on its way comes here too.
    pub(super) async fn give_back(&self, got: Got) {
        if let Err(got) = self.back.put(got) {
            self.record(&got, TakenBack::Failed, "too many wait to be taken back").await;
        }
    }

    async fn work(&self) -> Infallible {
        loop {
            let more = self.back.more.notified();
            let (wanted, next) = self.back.take_due(Instant::now());
            let Some(mut wanted) = wanted else {
                match next {
                    None => more.await,
                    Some(next) => tokio::select! {
                        () = tokio::time::sleep_until(next) => {}
                        () = more => {}
                    },
                }
                continue;
            };
            // There may be another for the next worker.
            self.back.more.notify_one();
            wanted.tries = wanted.tries.saturating_add(1);
            match self.revoke(&wanted.got).await {
                Ok(()) => self.record(&wanted.got, TakenBack::Done, "").await,
                Err(Kept::Never(why)) => self.record(&wanted.got, TakenBack::Impossible, why).await,
                Err(Kept::Yet(error)) if wanted.got.ends <= self.sources.clock.now() => {
                    self.record(&wanted.got, TakenBack::Failed, &format!("{error}; it has ended by itself")).await;
                }
                Err(Kept::Yet(error)) => {
                    let pause = Duration::from_secs(1 << (wanted.tries - 1).min(6)).min(PAUSE_MAX);
                    tracing::warn!(server = wanted.got.server.as_str(), %error, "a credential was not taken back; tried again in {} s", pause.as_secs());
                    wanted.due = Instant::now() + pause;
                    self.back.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(wanted);
                }
            }
        }
    }

    async fn revoke(&self, got: &Got) -> Result<(), Kept> {
        let form = got.credential.to_revoke().ok_or(Kept::Never("it is no token"))?;
        let endpoint = self.endpoint(&got.token_url).await?;
        let endpoint = endpoint.ok_or(Kept::Never("the authorization server's metadata names no revocation endpoint of its own"))?;
        let now = self.sources.clock.now();
        let assertion = self.assertion(&self.sources.issuer, &got.token_url, now).map_err(Kept::Yet)?;
        let client = encode(&[&[("client_id", self.sources.issuer.as_str())], &by_assertion(&assertion)[..]].concat());
        let text = [form.as_bytes(), b"&", client.as_bytes()].concat();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let sent = self.client.send(Method::POST, &endpoint, headers, text, ENDPOINT_TIMEOUT).await;
        match sent.map(|response| response.status().as_u16()) {
            // What is unknown there is over (RFC 7009 §2.2).
            Ok(200) => Ok(()),
            Ok(status @ (400 | 401 | 403 | 404)) => Err(Kept::Never(if status == 400 {
                "the revocation endpoint refused it"
            } else {
                "the revocation endpoint does not take it from us"
            })),
            Ok(status) => Err(Kept::Yet(said(format!("the revocation endpoint answered HTTP status {status}")))),
            Err(_) => Err(Kept::Yet(said("the revocation endpoint could not be reached"))),
        }
    }

    /// The revocation endpoint that belongs to this token endpoint: the one that metadata beside it names (RFC 8414 §2), if it is of the
    /// same origin, so that a document leads no token elsewhere.
    async fn endpoint(&self, token_url: &str) -> Result<Option<Uri>, Kept> {
        let now_s = self.sources.clock.now().as_second();
        let mut endpoints = self.back.endpoints.lock().await;
        if let Some((endpoint, at_s)) = endpoints.get(token_url)
            && (0..FRESH_S).contains(&now_s.saturating_sub(*at_s))
        {
            return Ok(endpoint.clone());
        }
        let token = address(token_url).map_err(|why| Kept::Yet(said(format!("the token endpoint {why}"))))?;
        let origin =
            format!("{}://{}", token.scheme_str().unwrap_or("https"), token.authority().map_or("", |authority| authority.as_str()));
        let mut found = None;
        for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
            let Some(document) = self.document(&format!("{origin}{path}")).await? else { continue };
            let named = |member: &str| document.get(member).and_then(Value::as_str);
            if named("token_endpoint") != Some(token_url) {
                continue;
            }
            let endpoint = named("revocation_endpoint").and_then(|url| address(url).ok());
            found = endpoint.filter(|url| url.scheme() == token.scheme() && url.authority() == token.authority());
            break;
        }
        endpoints.insert(token_url.to_owned(), (found.clone(), now_s));
        Ok(found)
    }

    /// A JSON document; nothing where there is none.
    async fn document(&self, url: &str) -> Result<Option<Value>, Kept> {
        let url = address(url).map_err(|why| Kept::Yet(said(format!("the metadata {why}"))))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let unreached = |_| Kept::Yet(said("the authorization server could not be reached"));
        let response = self.client.send(Method::GET, &url, headers, Vec::new(), ENDPOINT_TIMEOUT).await.map_err(unreached)?;
        match response.status().as_u16() {
            200 => {
                let read = tokio::time::timeout(ENDPOINT_TIMEOUT, body(response, 64 << 10)).await;
                let Ok(Ok(bytes)) = read else { return Err(Kept::Yet(said("the authorization server's metadata did not come whole"))) };
                Ok(json::parse(&bytes, &Limits { bytes_max: 64 << 10, depth_max: 16 }).ok())
            }
            400..=499 => Ok(None),
            status => Err(Kept::Yet(said(format!("the authorization server answered HTTP status {status}")))),
        }
    }

    async fn record(&self, got: &Got, code: TakenBack, detail: &str) {
        let record = CredentialTakenBack {
            at: self.sources.clock.now(),
            execution: got.named.execution,
            agent: got.named.agent.clone(),
            subject: got.named.subject.clone(),
            server: got.server.clone(),
            code,
            detail: detail.to_owned(),
        };
        if let Err(error) = self.sources.log.append(record).await {
            tracing::error!(%error, "it could not be recorded what became of a credential");
        }
    }
}

impl Back {
    /// Puts one in; gives it back where too many wait.
    fn put(&self, got: Got) -> Result<(), Got> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            return Err(got);
        }
        waiting.push_back(Wanted { got, tries: 0, due: Instant::now() });
        drop(waiting);
        self.more.notify_one();
        Ok(())
    }

    /// The first that is due, or when the next will be.
    fn take_due(&self, now: Instant) -> (Option<Wanted>, Option<Instant>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.iter().position(|wanted| wanted.due <= now) {
            Some(place) => (waiting.remove(place), None),
            None => (None, waiting.iter().map(|wanted| wanted.due).min()),
        }
    }
}

/// Sees on the log that something was stopped.
struct Reading<'a> {
    broker: &'a Broker,
    next: Position,
}

#[async_trait]
impl Follower for Reading<'_> {
    fn name(&self) -> &str {
        "broker"
    }

    fn next(&self) -> Position {
        self.next
    }

    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError> {
        if entries.iter().any(|entry| KINDS.iter().any(|kind| entry.value().starts_with(kind))) {
            for got in self.broker.collect() {
                self.broker.give_back(got).await;
            }
        }
        self.next = entries.last().map_or(self.next, |last| Position(last.position().0.saturating_add(1)));
        Ok(())
    }
}
