//! Stopping an agent, and an execution with all that descends from it: from the command to the last byte of what it cut, among
//! ten times as many streams of others that go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::task::JoinSet;

use crate::clock::now;
use crate::house::House;
use crate::table::{Table, micros, share};
use crate::upstream::Upstream;
use crate::{Result, clock};

/// The streams that are cut, each on a connection of its own.
const CUT: usize = 1_000;
/// The streams of others, 200 on a connection (HTTP/2): a listener takes 8,192 connections.
const OTHERS: usize = 10_000;
const PER_CONNECTION: usize = 200;
/// How many streams an execution has.
const PER_EXECUTION: usize = 50;
/// How often each is measured.
const RUNS: usize = 2;
/// How many agents are in the longest chain of the tree, and how many executions each in it delegates to.
const DEPTH: u32 = 5;
const BRANCHES: usize = 2;
/// How long after the command the others are looked at again.
const AFTER: Duration = Duration::from_secs(1);

/// Measures both and prints a table.
pub(crate) fn measure() -> Result {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(measured())
}

async fn measured() -> Result {
    let echo = Upstream::start().await?;
    let house = House::start("ttl = \"15m\"", "", &[("echo", &echo)]).await?;
    let ended = Arc::<AtomicUsize>::default();
    let mut others = JoinSet::new();
    let mut client = client(true);
    for number in 0..OTHERS / PER_EXECUTION {
        if (number * PER_EXECUTION).is_multiple_of(PER_CONNECTION) {
            client = self::client(true);
        }
        let token = house.quiet().await?;
        for body in try_join_all((0..PER_EXECUTION).map(|_| open(&client, house.port(), &token))).await? {
            let ended = Arc::clone(&ended);
            others.spawn(async move {
                let _ = until_it_ends(body).await;
                ended.fetch_add(1, Ordering::AcqRel);
            });
        }
    }

    let mut table = Table::new(&["what", "streams cut", "of others", "p50 ms", "p99 ms", "last ms", "answered ms", "others that ended"]);
    for _ in 0..RUNS {
        let tree = tree(&house).await?;
        let root = tree.first().map(|(_, execution)| execution.clone()).ok_or("there is no root")?;
        let streams = streams(&house, &tree).await?;
        let path = format!("/executions/{root}/revoke");
        table.row(stopped(&house, &format!("an execution and {} that descend from it", tree.len() - 1), &path, streams, &ended).await?);

        let mut executions = Vec::new();
        for _ in 0..CUT / PER_EXECUTION {
            executions.push(house.noisy().await.map(|token| (token, String::new()))?);
        }
        let streams = self::streams(&house, &executions).await?;
        table.row(stopped(&house, "an agent", "/agents/noisy/quarantine", streams, &ended).await?);
        house.admin("/agents/noisy/release", &json!({ "reason": "measured" })).await?;
    }
    println!("{table}");
    Ok(())
}

/// A tree of executions, [`DEPTH`] deep, the root first: the credential and the id of each.
async fn tree(house: &House) -> Result<Vec<(String, String)>> {
    let root = house.noisy().await?;
    let id = house.executions().await?.into_iter().next().ok_or("there is no execution")?;
    let (mut all, mut last) = (vec![(root, id)], 0..1);
    for _ in 1..DEPTH {
        let begun = all.len();
        for parent in last {
            for _ in 0..BRANCHES {
                let token = all.get(parent).map(|(token, _)| token.clone()).ok_or("there is no parent")?;
                all.push(house.delegated(&token).await?);
            }
        }
        last = begun..all.len();
    }
    Ok(all)
}

/// [`CUT`] streams of these executions, each on a connection of its own.
async fn streams(house: &House, executions: &[(String, String)]) -> Result<Vec<Incoming>> {
    let client = client(false);
    let tokens: Vec<_> = executions.iter().map(|(token, _)| token).cycle().take(CUT).collect();
    let mut streams = Vec::with_capacity(CUT);
    for tokens in tokens.chunks(PER_EXECUTION) {
        streams.extend(try_join_all(tokens.iter().map(|token| open(&client, house.port(), token))).await?);
    }
    Ok(streams)
}

/// Stops what the admin API has at `path`, and waits for the end of each of its streams.
async fn stopped(house: &House, what: &str, path: &str, streams: Vec<Incoming>, ended: &AtomicUsize) -> Result<Vec<String>> {
    let mut cut = JoinSet::new();
    streams.into_iter().for_each(|body| drop(cut.spawn(until_it_ends(body))));
    tokio::time::sleep(Duration::from_millis(200)).await; // all of them wait
    let before = ended.load(Ordering::Acquire);
    let began = now();
    house.admin(path, &json!({ "reason": "measured" })).await?;
    let answered = began.elapsed();
    let mut times = Vec::new();
    while let Some(end) = cut.join_next().await {
        times.push(end??.duration_since(began));
    }
    times.sort_unstable();
    tokio::time::sleep(AFTER).await;
    let disturbed = ended.load(Ordering::Acquire) - before;
    let ms = |time: Duration| format!("{:.1}", micros(time) / 1e3);
    Ok(vec![
        what.to_owned(),
        times.len().to_string(),
        OTHERS.to_string(),
        ms(share(&times, 0.5)),
        ms(share(&times, 0.99)),
        ms(times.last().copied().unwrap_or_default()),
        ms(answered),
        disturbed.to_string(),
    ])
}

type Caller = Client<HttpConnector, Full<Bytes>>;

/// A client with one connection for all its requests (HTTP/2), or with one for each that is under way.
fn client(shares: bool) -> Caller {
    Client::builder(TokioExecutor::new()).http2_only(shares).build_http()
}

/// Opens a stream of changes, which says nothing after its beginning until it ends.
async fn open(client: &Caller, port: u16, token: &str) -> Result<Incoming> {
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    let params = json!({ "notifications": { "toolsListChanged": true }, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params }).to_string();
    for _ in 0..100 {
        let request = Request::post(format!("http://127.0.0.1:{port}/mcp"))
            .header(HOST, format!("127.0.0.1:{port}"))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "subscriptions/listen")
            .body(Full::new(Bytes::from(body.clone())))?;
        let mut response = client.request(request).await?;
        match response.status() {
            // It is open once it has begun.
            StatusCode::OK if response.body_mut().frame().await.is_some() => return Ok(response.into_body()),
            StatusCode::OK => return Err("a stream ended before it began".into()),
            // More arrives than can be served at this moment.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => tokio::time::sleep(Duration::from_millis(50)).await,
            status => {
                let said = response.into_body().collect().await?.to_bytes();
                return Err(format!("a stream was refused: {status} {}", String::from_utf8_lossy(&said)).into());
            }
        }
    }
    Err("a stream was refused a hundred times".into())
}

/// When the last byte of a stream has come.
async fn until_it_ends(mut body: Incoming) -> Result<Instant> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(clock::now())
}
