//! One tool server: what it offers, whether that is what was reviewed, and calls of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bailiwick_core::bundle::{Limits, Server, Transport};
use bailiwick_core::catalog;
use bailiwick_core::model::{Digest, ExecutionId, ServerDescribed, ServerName, ToolHeld, ToolName, shown};
use bailiwick_core::prose::{self, Mark};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::asking::Asking;
use super::described::Described;
use super::http::{HttpClient, address};
use super::ids::Ids;
use super::message::{METHOD_NOT_FOUND, Params, garbage};
use super::mirror::{self, Mirror};
use super::news::News;
use super::peers::House;
use super::process::{Local, Program};
use super::remote::Remote;
use crate::a2a::{Agent, Around};
use crate::broker::Credential;
use crate::mcp::parse::code;
use crate::mcp::{Change, Offered};
use crate::{Answer, Caller, Extras, Permit, UpstreamError};

/// How long what a server offers is remembered, whatever it says, if no change is heard of.
const KEPT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How soon a server that failed is asked again in the background, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How far apart two changes are that are followed in the background.
const CHANGES_APART: Duration = Duration::from_millis(100);

/// How many executions may be subscribed to resources of one server.
const SUBSCRIBED_MAX: usize = 256;

/// Bounds on one list: its pages and its items.
const PAGES_MAX: usize = 100;
const ITEMS_MAX: usize = 10_000;

/// One tool server.
pub struct Peer {
    name: ServerName,
    house: Arc<House>,
    declared: ArcSwap<Declared>,
    link: Arc<Link>,
    news: Arc<News>,
    tools: ArcSwapOption<Tools>,
    others: ArcSwapOption<Others>,
    /// Held while a list is fetched, so that it is fetched once for all who wait.
    fetching: tokio::sync::Mutex<()>,
    /// What was last recorded of each tool that is held back.
    recorded: tokio::sync::Mutex<BTreeMap<String, Seen>>,
    /// What was last recorded of what it says of itself: its name and its version.
    said: tokio::sync::Mutex<Option<(Option<String>, Option<String>)>>,
    /// The tools that the bundle declares, of all servers.
    names: Names,
    /// The streams that tell a modern server's executions of the resources that they subscribed to.
    subscribed: tokio::sync::Mutex<HashMap<ExecutionId, Subscribed>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// The names of the tools that a bundle declares.
pub(super) type Names = Arc<ArcSwap<Vec<ToolName>>>;

/// How much of what a server says of itself is recorded.
const SAID_CHARS_MAX: usize = 120;

/// The digests of what was reviewed and of what is offered.
type Seen = (Option<Digest>, Option<Digest>);

struct Declared {
    server: Server,
    limits: Limits,
}

enum Link {
    Remote(Remote),
    Local(Local),
    /// Another agent, over A2A.
    Agent(Agent),
    /// Its address cannot be used; why.
    Nowhere(Arc<str>),
}

/// The tools that a server offers.
struct Tools {
    definitions: Vec<Value>,
    mirrors: HashMap<String, Vec<Mirror>>,
    kept: Kept,
}

struct Others {
    offered: Arc<Offered>,
    kept: Kept,
}

/// How long something is remembered.
#[derive(Clone, Copy)]
struct Kept {
    /// How often it had changed when it was asked for.
    changes: u64,
    until: Instant,
}

impl Kept {
    fn is_current(self, changes: u64) -> bool {
        self.changes == changes
    }

    fn is_fresh(self, changes: u64) -> bool {
        self.is_current(changes) && Instant::now() < self.until
    }
}

impl Link {
    async fn ask(&self, asking: &Asking<'_>, credential: &Credential) -> Result<Answer, UpstreamError> {
        match self {
            Self::Remote(remote) => remote.ask(asking, credential).await,
            Self::Local(local) => local.ask(asking).await,
            Self::Agent(_) => Err(other_protocol()),
            Self::Nowhere(why) => Err(UpstreamError::Unreachable(Arc::clone(why))),
        }
    }

    /// Listens to what a modern server says of changes, until the stream ends. What is heard is news.
    async fn listen(&self, params: Params, credential: &Credential, limits: &Limits) -> Result<(), UpstreamError> {
        // Nothing may change for long.
        let limits = Limits { upstream_timeout: bailiwick_core::model::Duration::seconds(366 * 86_400), ..limits.clone() };
        let asking = Asking::own("subscriptions/listen", params, &limits);
        match self {
            Self::Remote(remote) => remote.listen(&asking, credential).await,
            Self::Local(local) => local.ask(&asking).await.map(drop),
            Self::Agent(_) => Err(other_protocol()),
            Self::Nowhere(why) => Err(UpstreamError::Unreachable(Arc::clone(why))),
        }
    }
}

struct Subscribed {
    uris: BTreeSet<String>,
    task: AbortHandle,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// Begins to speak to a server, in the background.
    pub(super) fn start(
        server: Server,
        limits: Limits,
        house: &Arc<House>,
        client: &HttpClient,
        changes: &broadcast::Sender<Change>,
        names: &Names,
    ) -> Arc<Self> {
        let name = server.name.clone();
        let news = Arc::new(News::new(name.clone(), changes.clone()));
        let ids = Arc::new(Ids::new());
        let link = match &server.transport {
            Transport::Http(url) => match address(url) {
                Ok(url) => Link::Remote(Remote::new(client.clone(), url, Arc::clone(&news), ids)),
                Err(why) => Link::Nowhere(why.into()),
            },
            Transport::Elsewhere => Link::Nowhere("its calls are made elsewhere".into()),
            Transport::A2a(behind) => match Agent::new(&server, behind, client.clone()) {
                Ok(agent) => Link::Agent(agent),
                Err(why) => Link::Nowhere(why.into()),
            },
            Transport::Stdio { command, env, directory } => {
                let directory = directory.as_ref().map_or_else(|| house.base.clone(), |directory| house.base.join(directory));
                let program = Program { command: command.clone(), env: env.clone(), directory, base: house.base.clone() };
                Link::Local(Local::new(name.clone(), program, Arc::clone(&news), ids))
            }
        };
        let peer = Arc::new(Self {
            name,
            house: Arc::clone(house),
            declared: ArcSwap::from_pointee(Declared { server, limits }),
            link: Arc::new(link),
            news,
            tools: ArcSwapOption::empty(),
            others: ArcSwapOption::empty(),
            fetching: tokio::sync::Mutex::default(),
            recorded: tokio::sync::Mutex::default(),
            said: tokio::sync::Mutex::default(),
            names: Arc::clone(names),
            subscribed: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        });
        let mut tasks = vec![tokio::spawn(watch(Arc::downgrade(&peer), Arc::clone(&peer.news))).abort_handle()];
        if !matches!(*peer.link, Link::Agent(_)) {
            tasks.push(tokio::spawn(listen(Arc::downgrade(&peer))).abort_handle());
        }
        peer.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
        peer
    }

    /// Whether this is how `server` is reached, and with what credential.
    pub(super) fn is_reached_as(&self, server: &Server) -> bool {
        let declared = self.declared.load();
        format!("{:?}", (&declared.server.transport, &declared.server.auth)) == format!("{:?}", (&server.transport, &server.auth))
    }

    /// Goes on under another declaration: its tools may have been reviewed anew.
    pub(super) fn redeclare(&self, server: Server, limits: Limits) {
        self.declared.store(Arc::new(Declared { server, limits }));
        // What was compared was compared with the former pins.
        self.news.tell(Change::Tools(self.name.clone()));
    }

    /// What the server says it is.
    pub async fn described(&self) -> Result<Arc<Described>, UpstreamError> {
        let declared = self.declared.load_full();
        match self.link.as_ref() {
            Link::Remote(remote) => {
                let credential = self.house.vault.own(&self.name).await?;
                remote.described(&credential, &declared.limits).await
            }
            Link::Local(local) => local.described(&declared.limits).await,
            Link::Agent(_) => Err(other_protocol()),
            Link::Nowhere(why) => Err(UpstreamError::Unreachable(Arc::clone(why))),
        }
    }

    /// The tools that the server offers now: MCP `Tool` objects. Compared with what was reviewed whenever they are fetched.
    pub async fn tools(&self) -> Result<Vec<Value>, UpstreamError> {
        Ok(self.current_tools(None, Kept::is_fresh).await?.definitions.clone())
    }

    /// What else the server offers.
    pub(super) async fn offered(&self) -> Result<Arc<Offered>, UpstreamError> {
        let fresh = |others: &Others| others.kept.is_fresh(self.news.others());
        if let Some(others) = self.others.load_full().filter(|others| fresh(others)) {
            return Ok(Arc::clone(&others.offered));
        }
        let _one = self.fetching.lock().await;
        if let Some(others) = self.others.load_full().filter(|others| fresh(others)) {
            return Ok(Arc::clone(&others.offered));
        }
        let described = self.described().await?;
        let changes = self.news.others();
        let (mut offered, mut kept) = (Offered::default(), KEPT.1);
        offered.capabilities = described.capabilities.clone().unwrap_or_default();
        offered.instructions = described.instructions.clone();
        for (capability, method, key, list) in [
            ("prompts", "prompts/list", "prompts", &mut offered.prompts),
            ("resources", "resources/list", "resources", &mut offered.resources),
            ("resources", "resources/templates/list", "resourceTemplates", &mut offered.templates),
        ] {
            if described.offers(capability) {
                let (items, ttl) = self.list(method, key, None).await?;
                *list = items;
                kept = kept.min(ttl);
            }
        }
        let offered = Arc::new(offered);
        let kept = Kept { changes, until: Instant::now() + kept };
        self.others.store(Some(Arc::new(Others { offered: Arc::clone(&offered), kept })));
        Ok(offered)
    }

    /// Forwards one permitted call.
    pub(super) async fn forward(
        &self,
        permit: Permit,
        credential: Credential,
        mut extras: Extras,
        caller: &dyn Caller,
    ) -> Result<Answer, UpstreamError> {
        let declared = self.declared.load_full();
        let call = permit.call();
        let execution = permit.intent().execution;
        let own = call.tool.tool();
        if let Link::Agent(agent) = self.link.as_ref() {
            self.current_tools(Some((execution, &credential)), Kept::is_current).await?;
            if self.house.held.load().contains(&call.tool) {
                return Err(UpstreamError::Changed);
            }
            let around = Around {
                executions: &self.house.executions,
                log: &self.house.log,
                clock: self.house.clock.as_ref(),
                delegator: self.house.delegator.as_deref(),
            };
            return agent.forward(&permit, &credential, &extras, caller, (&declared.limits, &around)).await;
        }
        if let Link::Local(local) = self.link.as_ref() {
            local.described(&declared.limits).await?; // it runs, or is started
        }
        let mut mirrors = Vec::new();
        if call.method == "tools/call" {
            // What is offered must have been compared with what was reviewed since it last changed.
            let tools = self.current_tools(Some((execution, &credential)), Kept::is_current).await?;
            if self.house.held.load().contains(&call.tool) {
                return Err(UpstreamError::Changed);
            }
            mirrors = tools.mirrors.get(own).cloned().unwrap_or_default();
        }
        let (params, name) = params(call.method, own, call.arguments.text(), call.arguments.value())?;
        let meta = match extras.remove("_meta") {
            Some(Value::Object(meta)) => meta,
            _ => Map::new(),
        };
        extras.retain(|name, _| matches!(name.as_str(), "inputResponses" | "requestState"));
        let asking = Asking {
            method: call.method,
            params,
            answers: extras,
            meta,
            name,
            mirrored: (!mirrors.is_empty()).then_some((mirrors.as_slice(), call.arguments.value())),
            caller: Some(caller),
            execution: Some(execution),
            limits: &declared.limits,
        };
        if matches!(call.method, "resources/subscribe" | "resources/unsubscribe") && self.described().await?.is_modern() {
            return self.subscribe(execution, call.method == "resources/subscribe", name.unwrap_or_default(), &credential).await;
        }
        let answer = self.link.ask(&asking, &credential).await?;
        if answer.body.as_ref().is_err_and(|fault| fault.code == code::HEADER_MISMATCH) {
            // What has to be repeated in headers changed; the next call will know it.
            self.news.tell(Change::Tools(self.name.clone()));
        }
        if let Ok(result) = &answer.body
            && !matches!(result.get("resultType").map(Value::as_str), None | Some(Some("complete" | "input_required" | "task")))
        {
            return Err(garbage("the result is of a type that is not known"));
        }
        Ok(answer)
    }

    /// The tools as they were last fetched if that is recent `enough`, fetched otherwise: on behalf of `who`, or our own.
    async fn current_tools(
        &self,
        who: Option<(ExecutionId, &Credential)>,
        enough: fn(Kept, u64) -> bool,
    ) -> Result<Arc<Tools>, UpstreamError> {
        let known = || self.tools.load_full().filter(|tools| enough(tools.kept, self.news.tools()));
        if let Some(tools) = known() {
            return Ok(tools);
        }
        let _one = self.fetching.lock().await;
        if let Some(tools) = known() {
            return Ok(tools);
        }
        let described = match (who, self.link.as_ref()) {
            (Some(_), _) | (None, Link::Agent(_)) => None,
            (None, _) => Some(self.described().await?),
        };
        if let Some(described) = &described {
            self.record_described(described).await;
        }
        let changes = self.news.tools();
        let (definitions, ttl) = match (self.link.as_ref(), described) {
            // A card is what the agent shows to everybody, so it is asked for on nobody's behalf.
            (Link::Agent(agent), _) => {
                let credential = self.house.vault.own(&self.name).await?;
                agent.definitions(&credential, &self.declared.load_full().limits).await?
            }
            (_, Some(described)) if !described.offers("tools") => (Vec::new(), KEPT.1),
            _ => self.list("tools/list", "tools", who).await?,
        };
        let mut tools = Tools { definitions, mirrors: HashMap::new(), kept: Kept { changes, until: Instant::now() + ttl } };
        if matches!(*self.link, Link::Remote(_)) {
            tools.read_mirrors(&self.name);
        }
        let tools = Arc::new(tools);
        self.compare(&tools.definitions).await;
        self.tools.store(Some(Arc::clone(&tools)));
        Ok(tools)
    }

    /// Compares what is offered with what was reviewed, holds back what differs and records it, once for each difference.
    async fn compare(&self, offered: &[Value]) {
        let declared = self.declared.load_full();
        let mut differences = catalog::compare(&declared.server, offered);
        differences.retain(|difference| declared.server.tools.contains_key(difference.tool.tool()));
        let differing: HashSet<_> = differences.iter().map(|difference| difference.tool.clone()).collect();
        let before = self.house.held.rcu(|held| {
            let others = held.iter().filter(|tool| *tool.server() != self.name).cloned();
            others.chain(differing.iter().cloned()).collect::<HashSet<_>>()
        });
        let held_before: HashSet<_> = before.iter().filter(|tool| *tool.server() == self.name).cloned().collect();
        if held_before != differing {
            self.news.announce_tools();
        }
        let mut recorded = self.recorded.lock().await;
        recorded.retain(|own, _| differences.iter().any(|difference| difference.tool.tool() == own));
        for difference in differences {
            let seen = (difference.reviewed, difference.offered);
            if recorded.get(difference.tool.tool()) == Some(&seen) {
                continue;
            }
            let names = self.names.load();
            let others = || names.iter().filter(|name| name.server() != &self.name);
            let own = difference.tool.tool();
            let shown = offered.iter().filter(|definition| definition.get("name").and_then(Value::as_str) == Some(own));
            let marks: BTreeSet<Mark> = shown.flat_map(|definition| prose::marks(definition, others().map(ToolName::tool))).collect();
            let like = others().filter(|_| difference.reviewed.is_none()).filter(|other| prose::looks_like(own, other.tool())).take(8);
            let held = ToolHeld {
                at: self.house.clock.now(),
                tool: difference.tool.clone(),
                reviewed: difference.reviewed,
                offered: difference.offered,
                marks: marks.into_iter().collect(),
                like: like.cloned().collect(),
            };
            tracing::warn!(server = %self.name, "held back: {difference}");
            match self.house.log.append(held).await {
                Ok(_) => drop(recorded.insert(difference.tool.tool().to_owned(), seen)),
                Err(error) => tracing::error!(server = %self.name, %error, "a tool that is held back could not be recorded"),
            }
        }
    }

    /// Records what the server says of itself, when it is first heard and when it says something else.
    async fn record_described(&self, described: &Described) {
        let said = |key: &str| described.info.as_ref()?.get(key)?.as_str().map(|text| shown(text, SAID_CHARS_MAX));
        let record = ServerDescribed {
            at: self.house.clock.now(),
            server: self.name.clone(),
            name: said("name"),
            version: said("version"),
            place: place(&self.declared.load().server.transport),
        };
        let mut recorded = self.said.lock().await;
        let now = (record.name.clone(), record.version.clone());
        if recorded.as_ref() == Some(&now) {
            return;
        }
        match self.house.log.append(record).await {
            Ok(_) => *recorded = Some(now),
            Err(error) => tracing::error!(server = %self.name, %error, "what a server says of itself could not be recorded"),
        }
    }

    /// All pages of one list, and how long they may be remembered.
    async fn list(
        &self,
        method: &str,
        key: &str,
        who: Option<(ExecutionId, &Credential)>,
    ) -> Result<(Vec<Value>, Duration), UpstreamError> {
        let declared = self.declared.load_full();
        let own = match (who, self.link.as_ref()) {
            (None, Link::Remote(_)) => self.house.vault.own(&self.name).await?,
            _ => Credential::none(),
        };
        let credential = who.map_or(&own, |(_, credential)| credential);
        let (mut items, mut kept, mut cursor) = (Vec::new(), KEPT.1, None::<Value>);
        for _ in 0..PAGES_MAX {
            let mut params = Params::default();
            if let Some(cursor) = &cursor {
                params.set("cursor", cursor);
            }
            let mut asking = Asking::own(method, params, &declared.limits);
            asking.execution = who.map(|(execution, _)| execution);
            let mut result = match self.link.ask(&asking, credential).await?.into_result() {
                Ok(Value::Object(result)) => result,
                Ok(_) => return Err(garbage("the list is not an object")),
                Err(fault) if fault.code == METHOD_NOT_FOUND => return Ok((Vec::new(), kept)),
                Err(fault) => return Err(UpstreamError::Unsupported(format!("it answered `{method}` with fault {}", fault.code).into())),
            };
            let Some(Value::Array(page)) = result.remove(key) else { return Err(garbage("the list is not in its answer")) };
            items.extend(page);
            if items.len() > ITEMS_MAX {
                return Err(garbage("the list is too long"));
            }
            if let Some(ttl) = result.get("ttlMs").and_then(Value::as_u64) {
                kept = kept.min(Duration::from_millis(ttl)).max(KEPT.0);
            }
            cursor = result.remove("nextCursor").filter(Value::is_string);
            if cursor.is_none() {
                return Ok((items, kept));
            }
        }
        Err(garbage("the list has too many pages"))
    }

    /// Subscribes an execution to a resource of a modern server, which tells of changes on a stream alone.
    async fn subscribe(&self, execution: ExecutionId, wanted: bool, uri: &str, credential: &Credential) -> Result<Answer, UpstreamError> {
        let mut subscribed = self.subscribed.lock().await;
        if subscribed.len() >= SUBSCRIBED_MAX && !subscribed.contains_key(&execution) {
            return Err(UpstreamError::Unsupported("too many executions are subscribed to its resources".into()));
        }
        let mut uris = subscribed.get(&execution).map(|subscribed| subscribed.uris.clone()).unwrap_or_default();
        if wanted {
            uris.insert(uri.to_owned())
        } else {
            uris.remove(uri)
        };
        subscribed.remove(&execution);
        if !uris.is_empty() {
            let mut params = Params::default();
            params.set("notifications", &json!({ "resourceSubscriptions": uris }));
            let (link, credential, limits) = (Arc::clone(&self.link), credential.clone(), self.declared.load().limits.clone());
            let task = tokio::spawn(async move {
                let mut wait = RETRY.0;
                loop {
                    let began = Instant::now();
                    let _ = link.listen(params.clone(), &credential, &limits).await;
                    wait = if began.elapsed() > RETRY.1 { RETRY.0 } else { (wait * 2).min(RETRY.1) };
                    tokio::time::sleep(wait).await;
                }
            });
            subscribed.insert(execution, Subscribed { uris, task: task.abort_handle() });
        }
        let body = Ok(Arc::new(json!({ "resultType": "complete" })));
        Ok(Answer { body, failed: false, bytes: 0 })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Tools {
    /// Reads which arguments are to be repeated in headers, and drops the tools that ask for it wrongly (MCP 2026-07-28,
    /// `x-mcp-header`).
    fn read_mirrors(&mut self, server: &ServerName) {
        let mirrors = &mut self.mirrors;
        self.definitions.retain(|definition| {
            let Some(name) = definition.get("name").and_then(Value::as_str) else { return false };
            match mirror::of_schema(definition.get("inputSchema").unwrap_or(&Value::Null)) {
                Ok(of_tool) => {
                    mirrors.insert(name.to_owned(), of_tool);
                    true
                }
                Err(invalid) => {
                    tracing::warn!(%server, tool = name.escape_debug().to_string(), %invalid, "a tool is not used");
                    false
                }
            }
        });
    }
}

/// Where a server is reached, as far as it is anybody's business: scheme and host of its address, or its program.
fn place(transport: &Transport) -> String {
    let host = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/");
    match transport {
        Transport::Http(url) => host(url),
        Transport::A2a(behind) => host(&behind.url),
        Transport::Stdio { command, .. } => command.first().cloned().unwrap_or_default(),
        Transport::Elsewhere => String::new(),
    }
}

/// What is meant for a tool server cannot be asked of an agent.
fn other_protocol() -> UpstreamError {
    UpstreamError::Unsupported("it is an agent, which is reached over A2A".into())
}

/// The parameters of a call, and what of them is repeated as `Mcp-Name`. What the server is asked for is what the decision
/// was about: the name that was decided on, never one from the arguments.
fn params<'a>(method: &str, own: &'a str, text: &RawValue, arguments: &Value) -> Result<(Params, Option<&'a str>), UpstreamError> {
    let disagree = || UpstreamError::Unsupported("the call is not one of what was decided on".into());
    let prompt = own.strip_prefix("prompt:");
    let resource = own.strip_prefix("resource:");
    let mut params = Params::default();
    match (method, prompt, resource) {
        ("tools/call", None, None) => {
            params.set("name", &own.into());
            params.set_raw("arguments", text.to_owned());
            Ok((params, Some(own)))
        }
        ("prompts/get", Some(prompt), _) => {
            params.set("name", &prompt.into());
            params.set_raw("arguments", text.to_owned());
            Ok((params, Some(prompt)))
        }
        ("resources/read" | "resources/subscribe" | "resources/unsubscribe", _, Some(uri)) => {
            if arguments.get("uri").is_some_and(|named| named.as_str() != Some(uri)) {
                return Err(disagree());
            }
            params.set("uri", &uri.into());
            Ok((params, Some(uri)))
        }
        ("completion/complete", Some(prompt), _) => {
            let mut params = Params::of_object(text)?;
            params.set("ref", &json!({ "type": "ref/prompt", "name": prompt }));
            Ok((params, None))
        }
        ("completion/complete", _, Some(uri)) => {
            let mut params = Params::of_object(text)?;
            params.set("ref", &json!({ "type": "ref/resource", "uri": uri }));
            Ok((params, None))
        }
        _ => Err(disagree()),
    }
}

/// Keeps what is known of a server's tools current, and with it which of them are held back, while nobody calls.
async fn watch(peer: Weak<Peer>, news: Arc<News>) {
    let mut wait = RETRY.0;
    loop {
        let pause = {
            let Some(peer) = peer.upgrade() else { return };
            match peer.current_tools(None, Kept::is_fresh).await {
                Ok(tools) => {
                    wait = RETRY.0;
                    tools.kept.until.saturating_duration_since(Instant::now()).max(KEPT.0)
                }
                Err(error) => {
                    tracing::warn!(server = %peer.name, %error, "a tool server does not say what it offers");
                    wait = (wait * 2).min(RETRY.1);
                    wait
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // A server that never stops telling of changes is not listed without end.
            () = news.stirred() => tokio::time::sleep(CHANGES_APART).await,
        }
    }
}

/// Listens to what a modern server says of changes to its lists, for as long as it has such a stream.
async fn listen(peer: Weak<Peer>) {
    let mut wait = RETRY.0;
    loop {
        let found = {
            let Some(peer) = peer.upgrade() else { return };
            let (link, limits) = (Arc::clone(&peer.link), peer.declared.load().limits.clone());
            let credential = peer.house.vault.own(&peer.name).await;
            (peer.described().await, credential, link, limits)
        };
        let began = Instant::now();
        if let (Ok(described), Ok(credential), link, limits) = found {
            let changes = |capability: &str| {
                let capability = described.capabilities.as_ref().and_then(|capabilities| capabilities.get(capability));
                capability.and_then(|capability| capability.get("listChanged")).and_then(Value::as_bool) == Some(true)
            };
            let wanted = json!({
                "toolsListChanged": changes("tools"), "promptsListChanged": changes("prompts"), "resourcesListChanged": changes("resources"),
            });
            if described.is_modern() && wanted.as_object().is_some_and(|wanted| wanted.values().any(|wanted| *wanted == json!(true))) {
                let mut params = Params::default();
                params.set("notifications", &wanted);
                let _ = link.listen(params, &credential, &limits).await;
                // What changed while nobody listened was not heard.
                if let Some(peer) = peer.upgrade() {
                    peer.news.all_changed();
                }
            }
        }
        wait = if began.elapsed() > RETRY.1 { RETRY.0 } else { (wait * 2).min(RETRY.1) };
        tokio::time::sleep(wait).await;
    }
}
