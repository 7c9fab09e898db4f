//! From where credentials for AWS come: as its own tools look for them, in their order.

use std::path::Path;
use std::time::Duration;

use bailiwick_core::model::Clock as _;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper_util::rt::TokioIo;
use miette::miette;
use serde::Deserialize;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::sign::{Credentials, encoded};
use crate::machine::MachineClock;
use crate::sidecar::client::Http;

/// The most that is read of an answer.
const BYTES_MAX: usize = 64 << 10;

/// How long the host's own service may take: where there is none, nobody answers.
const HOST_TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses at which a host, or a container, is given credentials.
const INSTANCE: &str = "169.254.169.254:80";
const CONTAINER: &str = "169.254.170.2:80";

/// What the services of hosts answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: String,
}

impl From<Given> for Credentials {
    fn from(given: Given) -> Self {
        Self { access_key: given.access_key_id, secret: given.secret_access_key.into(), session: Some(given.token.into()) }
    }
}

/// Credentials: from the environment; for a token of ours, or another's, in `AWS_WEB_IDENTITY_TOKEN_FILE`; from the container; from
/// the instance.
pub(super) async fn find(http: &Http, region: &str) -> miette::Result<Credentials> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let (Some(access_key), Some(secret)) = (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY")) {
        return Ok(Credentials { access_key, secret: secret.into(), session: set("AWS_SESSION_TOKEN").map(Into::into) });
    }
    if let (Some(file), Some(role)) = (set("AWS_WEB_IDENTITY_TOKEN_FILE"), set("AWS_ROLE_ARN")) {
        return for_token(http, region, Path::new(&file), &role).await;
    }
    if let Some(path) = set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return given(CONTAINER, &path, None).await.ok_or_else(|| miette!("the container was given no credentials at `{path}`"));
    }
    if set("AWS_EC2_METADATA_DISABLED").is_none_or(|disabled| disabled != "true")
        && let Some(credentials) = of_instance().await
    {
        return Ok(credentials);
    }
    Err(miette!(
        help = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE with a token for `sts.amazonaws.com`",
        "there are no credentials for AWS here"
    ))
}

/// Exchanges the token in `file` at the STS for a session of `role`.
async fn for_token(http: &Http, region: &str, file: &Path, role: &str) -> miette::Result<Credentials> {
    let token = std::fs::read_to_string(file).map(Zeroizing::new).map_err(|error| miette!("`{}`: {error}", file.display()))?;
    let name = std::env::var("AWS_ROLE_SESSION_NAME").unwrap_or_else(|_| format!("bailiwick-import-{}", MachineClock.now().as_second()));
    let endpoint = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| std::env::var(name).ok());
    let endpoint = endpoint.unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"));
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", &name),
        ("WebIdentityToken", token.trim()),
    ];
    let body = form.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect::<Vec<_>>().join("&");
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/", endpoint.trim_end_matches('/')))
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| miette!("the STS has no address: {error}"))?;
    let response = http.send(request).await.map_err(|error| miette!("the STS was not reached: {error}"))?;
    let status = response.status();
    let text = whole(response.into_body()).await.ok_or_else(|| miette!("the STS answered {status} and no document"))?;
    let document = roxmltree::Document::parse(&text).map_err(|error| miette!("the STS answered {status} with no XML: {error}"))?;
    let of =
        |name: &str| document.descendants().find(|node| node.has_tag_name_in_any(name)).and_then(|node| node.text()).map(str::to_owned);
    match (of("AccessKeyId"), of("SecretAccessKey"), of("SessionToken")) {
        (Some(access_key), Some(secret), Some(session)) if status.is_success() => {
            Ok(Credentials { access_key, secret: secret.into(), session: Some(session.into()) })
        }
        _ => Err(miette!(
            "the STS gave no session of `{role}`: {} {}",
            of("Code").unwrap_or_else(|| status.to_string()),
            of("Message").unwrap_or_default()
        )),
    }
}

/// Names are compared without their namespace, which the services of AWS and those that play them write differently.
pub(super) trait AnyNamespace {
    fn has_tag_name_in_any(&self, name: &str) -> bool;
}

impl AnyNamespace for roxmltree::Node<'_, '_> {
    fn has_tag_name_in_any(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

/// Those of the instance's own role, by a session of its metadata service (IMDSv2).
async fn of_instance() -> Option<Credentials> {
    let token = ask(INSTANCE, Method::PUT, "/latest/api/token", &[("x-aws-ec2-metadata-token-ttl-seconds", "300")]).await?;
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let header = [("x-aws-ec2-metadata-token", token.trim())];
    let role = ask(INSTANCE, Method::GET, ROLES, &header).await?;
    given(INSTANCE, &format!("{ROLES}{}", role.lines().next()?.trim()), Some(token.trim())).await
}

async fn given(address: &str, path: &str, token: Option<&str>) -> Option<Credentials> {
    let headers: Vec<(&str, &str)> = token.map(|token| ("x-aws-ec2-metadata-token", token)).into_iter().collect();
    let text = ask(address, Method::GET, path, &headers).await?;
    serde_json::from_str::<Given>(&text).ok().map(Into::into)
}

/// Asks what hands out a host's credentials, which is on the host's own link and speaks no TLS.
async fn ask(address: &str, method: Method, path: &str, headers: &[(&str, &str)]) -> Option<Zeroizing<String>> {
    let asked = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(http::header::HOST, address.trim_end_matches(":80"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
        let text = if response.status().is_success() { whole(response.into_body()).await } else { None };
        connection.abort();
        text.map(Zeroizing::new)
    };
    tokio::time::timeout(HOST_TIMEOUT, asked).await.ok().flatten()
}

/// A short answer as text.
async fn whole(body: hyper::body::Incoming) -> Option<String> {
    let body = Limited::new(body, BYTES_MAX).collect().await.ok()?;
    String::from_utf8(body.to_bytes().to_vec()).ok()
}
