//! Reading S3: what is under a prefix, and the objects, one after the other, as they come.
//!
//! Requests are signed by credentials of this machine's; nothing is written. An object passes through in memory of a few chunks.

mod credentials;
mod sign;

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bailiwick_core::model::Clock as _;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use miette::{IntoDiagnostic as _, miette};
use tokio::runtime::Handle;

use self::credentials::AnyNamespace as _;
use self::sign::{Credentials, NO_BODY, Signed, encoded, query};
use crate::machine::MachineClock;
use crate::sidecar::client::Http;

/// How often a request is made that is not answered, and how long after the last.
const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_millis(300);

/// How long the head of an answer, and each next part of an object, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that is read of a page of a list.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// How many chunks of an object wait to be read.
const CHUNKS_MAX: usize = 4;

/// `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

impl Place {
    /// The place that a text names; nothing where it is none in S3.
    pub(crate) fn of(text: &str) -> Option<miette::Result<Self>> {
        let (bucket, prefix) = text.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
        let is_name = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
        Some(match is_name {
            true => Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() }),
            false => Err(miette!(help = "write `s3://bucket/prefix`", "`{bucket}` is no name of a bucket")),
        })
    }
}

/// One bucket, as it is read by a thread that has nothing else to do; within a runtime of several.
pub(crate) struct Bucket {
    handle: Handle,
    http: Http,
    credentials: Credentials,
    name: String,
    region: String,
    /// Where S3 is, in place of AWS' own.
    endpoint: Option<Uri>,
}

/// One object, as it comes.
pub(crate) struct Object {
    /// What S3 keeps beside it: `x-amz-meta-…`, without that.
    pub(crate) metadata: Vec<(String, String)>,
    chunks: Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Bucket {
    /// The bucket of a name; `region` and `endpoint` are as AWS' own tools find them unless they are given.
    pub(crate) fn open(name: &str, region: Option<String>, endpoint: Option<&str>) -> miette::Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let region = region.or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION")).unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = endpoint.map(str::to_owned).or_else(|| set("AWS_ENDPOINT_URL_S3")).or_else(|| set("AWS_ENDPOINT_URL"));
        let endpoint = endpoint.map(|text| text.parse::<Uri>().map_err(|error| miette!("`{text}` is no address: {error}"))).transpose()?;
        let handle = Handle::current();
        let http = Http::new(set("AWS_CA_BUNDLE").as_deref().map(std::path::Path::new)).map_err(|error| miette!("{error}"))?;
        let credentials = wait_for(&handle, credentials::find(&http, &region))?;
        Ok(Self { handle, http, credentials, name: name.to_owned(), region, endpoint })
    }

    /// Calls `take` with the key and the size of each object under `prefix`, in the order of keys, those up to `after` left out.
    pub(crate) fn list(
        &mut self,
        prefix: &str,
        after: &str,
        mut take: impl FnMut(&mut Self, &str, u64) -> miette::Result<()>,
    ) -> miette::Result<()> {
        let mut token = String::new();
        loop {
            let mut parameters = vec![("list-type", "2"), ("prefix", prefix)];
            if !token.is_empty() {
                parameters.push(("continuation-token", &token));
            } else if !after.is_empty() {
                parameters.push(("start-after", after));
            }
            parameters.sort_unstable();
            let text = self.page(&parameters)?;
            let page = Page::read(&text)?;
            for (key, size) in &page.objects {
                take(self, key, *size)?;
            }
            match page.next {
                Some(next) => token = next,
                None => return Ok(()),
            }
        }
    }

    fn page(&mut self, parameters: &[(&str, &str)]) -> miette::Result<String> {
        let response = self.ask("", parameters)?;
        let body = wait_for(&self.handle, async {
            tokio::time::timeout(PATIENCE, Limited::new(response.into_body(), PAGE_BYTES_MAX).collect()).await
        });
        let body = body.into_diagnostic()?.map_err(|error| miette!("the list of `{}` was not read: {error}", self.name))?;
        String::from_utf8(body.to_bytes().to_vec()).into_diagnostic()
    }

    /// The object of a key, to be read as it comes.
    pub(crate) fn object(&mut self, key: &str) -> miette::Result<Object> {
        let response = self.ask(key, &[])?;
        let metadata = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().strip_prefix("x-amz-meta-")?.to_owned(), value.to_str().ok()?.to_owned())));
        let metadata = metadata.collect();
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        self.handle.spawn(pass_on(response.into_body(), sender));
        Ok(Object { metadata, chunks, chunk: Bytes::new() })
    }

    /// Asks for a key, or for the bucket itself; again where nobody answered, and where the bucket is elsewhere.
    fn ask(&mut self, key: &str, parameters: &[(&str, &str)]) -> miette::Result<Response<Incoming>> {
        let mut wait = WAIT;
        let mut moved = false;
        for number in 1..=TRIES {
            let request = self.request(key, parameters)?;
            let http = self.http.clone();
            let sent = wait_for(&self.handle, async { tokio::time::timeout(PATIENCE, http.send(request)).await });
            let why = match sent {
                Ok(Ok(response)) if response.status().is_success() => return Ok(response),
                Ok(Ok(response)) => {
                    let elsewhere = region_in(response.headers()).filter(|region| *region != self.region);
                    if let (Some(region), false) = (elsewhere, moved) {
                        (self.region, moved) = (region, true);
                        continue;
                    }
                    let status = response.status();
                    let why = wait_for(&self.handle, told(response));
                    if !(status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS) {
                        return Err(refused(&self.name, key, status, &why));
                    }
                    format!("{status} {why}")
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it did not answer in time".to_owned(),
            };
            if number == TRIES {
                return Err(miette!(
                    help = "what was read is not lost: run it again with the same `--resume`",
                    "`s3://{}/{key}`: {why}",
                    self.name
                ));
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        Err(miette!("`s3://{}/{key}` is somewhere else each time", self.name))
    }

    fn request(&self, key: &str, parameters: &[(&str, &str)]) -> miette::Result<Request<Full<Bytes>>> {
        let at = MachineClock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let key = encoded(key, true);
        let (origin, host, path) = match &self.endpoint {
            Some(endpoint) => {
                let host = endpoint.authority().map(ToString::to_string).unwrap_or_default();
                (format!("{}://{host}", endpoint.scheme_str().unwrap_or("https")), host, format!("/{}/{key}", self.name))
            }
            // A certificate covers one label alone.
            None if self.name.contains('.') => {
                let host = format!("s3.{}.amazonaws.com", self.region);
                (format!("https://{host}"), host, format!("/{}/{key}", self.name))
            }
            None => {
                let host = format!("{}.s3.{}.amazonaws.com", self.name, self.region);
                (format!("https://{host}"), host, format!("/{key}"))
            }
        };
        let mut headers = vec![("host", host.as_str()), ("x-amz-content-sha256", NO_BODY), ("x-amz-date", &at)];
        if let Some(session) = &self.credentials.session {
            headers.push(("x-amz-security-token", session.as_str()));
        }
        let signed =
            Signed { method: "GET", path: &path, query: parameters, headers: &headers, at: &at, region: &self.region, service: "s3" };
        let address = match parameters.is_empty() {
            true => format!("{origin}{path}"),
            false => format!("{origin}{path}?{}", query(parameters)),
        };
        let mut request = Request::builder().uri(address).header(AUTHORIZATION, signed.authorization(&self.credentials));
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, *value);
        }
        request.body(Full::default()).map_err(|error| miette!("`{}` is no address that can be asked: {error}", self.name))
    }
}

/// Waits for what others answer, where it holds up no other task.
fn wait_for<T>(handle: &Handle, answer: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| handle.block_on(answer))
}

/// Passes a body on, chunk by chunk, until it ends or nobody reads it any more.
async fn pass_on(mut body: Incoming, sender: SyncSender<io::Result<Bytes>>) {
    loop {
        let chunk = match tokio::time::timeout(PATIENCE, body.frame()).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(chunk) => Ok(chunk),
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the rest of it did not come in time")),
        };
        let is_end = chunk.is_err();
        // Whoever reads is a thread that unpacks and judges, so waiting for it here must hold up no other task.
        let sender = sender.clone();
        let sent = tokio::task::spawn_blocking(move || sender.send(chunk)).await;
        if is_end || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.recv() {
                Ok(chunk) => self.chunk = chunk?,
                Err(_) => return Ok(0),
            }
        }
        let taken = self.chunk.len().min(buffer.len());
        let part = self.chunk.split_to(taken);
        if let Some(buffer) = buffer.get_mut(..taken) {
            buffer.copy_from_slice(&part);
        }
        Ok(taken)
    }
}

/// One page of a list.
struct Page {
    objects: Vec<(String, u64)>,
    next: Option<String>,
}

impl Page {
    fn read(text: &str) -> miette::Result<Self> {
        let document = roxmltree::Document::parse(text).map_err(|error| miette!("the list is no XML: {error}"))?;
        let member = |node: roxmltree::Node<'_, '_>, name: &str| {
            node.children().find(|child| child.has_tag_name_in_any(name)).and_then(|child| child.text()).map(str::to_owned)
        };
        let root = document.root_element();
        let objects = root.children().filter(|node| node.has_tag_name_in_any("Contents"));
        let objects = objects.filter_map(|node| Some((member(node, "Key")?, member(node, "Size")?.parse().ok()?))).collect();
        let is_cut = member(root, "IsTruncated").is_some_and(|cut| cut == "true");
        Ok(Self { objects, next: member(root, "NextContinuationToken").filter(|_| is_cut) })
    }
}

fn region_in(headers: &HeaderMap) -> Option<String> {
    headers.get("x-amz-bucket-region")?.to_str().ok().map(str::to_owned)
}

/// What an error of S3 says, in its own words.
async fn told(response: Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), 64 << 10).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let Ok(document) = roxmltree::Document::parse(&text) else { return String::new() };
    let of =
        |name: &str| document.descendants().find(|node| node.has_tag_name_in_any(name)).and_then(|node| node.text()).unwrap_or_default();
    format!("{}: {}", of("Code"), of("Message"))
}

fn refused(bucket: &str, key: &str, status: StatusCode, why: &str) -> miette::Report {
    let help = match status {
        StatusCode::FORBIDDEN => "the credentials need `s3:ListBucket` on the bucket and `s3:GetObject` on what is in it",
        StatusCode::NOT_FOUND => "look at the name of the bucket, and at `--region`",
        _ => "S3 says why",
    };
    miette!(help = help, "`s3://{bucket}/{key}` was refused: {status} {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_s3_is_a_bucket_and_a_prefix() {
        let place = Place::of("s3://acme-trail/AWSLogs/1/").unwrap().unwrap();
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("acme-trail", "AWSLogs/1/"));
        assert_eq!(Place::of("s3://acme-trail").unwrap().unwrap().prefix, "");
        assert!(Place::of("trail/").is_none());
        for wrong in ["s3://", "s3://A/x", "s3://a b/x", "s3://x@evil/y"] {
            assert!(Place::of(wrong).unwrap().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_page_of_a_list_is_read_with_where_it_goes_on() {
        let page = Page::read(
            r#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated>
            <NextContinuationToken>t/1+=</NextContinuationToken><Contents><Key>a&amp;b.json.gz</Key><Size>5</Size></Contents>
            <Contents><Key>c</Key><Size>0</Size></Contents></ListBucketResult>"#,
        )
        .unwrap();
        assert_eq!(page.objects, [("a&b.json.gz".to_owned(), 5), ("c".to_owned(), 0)]);
        assert_eq!(page.next.as_deref(), Some("t/1+="));
        assert!(Page::read("<html>").is_err());
    }
}
