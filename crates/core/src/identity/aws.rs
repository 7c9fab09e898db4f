//! A signed request for `GetCallerIdentity` as the proof of an AWS principal: whoever holds the credentials signs a request that
//! asks AWS who they are, and we send it.
//!
//! Pure: what is asked of the request, and how the answer is read. The secret never leaves the workload, and what it signs is good
//! for nothing but this one question, at this one place: the request names our audience under its signature.

use serde_json::{Map, Value, json};

use super::assertion::Asserted;
use super::jws::SKEW_S;
use super::platform::{arn_account, host};
use super::{assertion, replay};
use crate::bundle::Issuer;
use crate::json;
use crate::model::Timestamp;

/// The longest request that is read, in bytes; session tokens have no stated length.
const REQUEST: json::Limits = json::Limits { bytes_max: 24 << 10, depth_max: 4 };

/// The whole body; any other question is not passed on.
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The header that says whom the request is for.
pub const AUDIENCE_HEADER: &str = "x-bailiwick-audience";

/// How old a request may be, in seconds. AWS itself takes one for fifteen minutes.
const AGE_S_MAX: i64 = 300;

/// The headers that are passed on; a request that has others is refused, since they may ask for something else.
const HEADERS: [&str; 7] =
    ["authorization", "content-type", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", AUDIENCE_HEADER];

/// The headers that the signature has to cover.
const SIGNED: [&str; 3] = ["host", "x-amz-date", AUDIENCE_HEADER];

/// Why a signed request is not sent, or its answer not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// It is not the JSON object that is asked for.
    #[error("it is not one JSON object with `url`, `method`, `headers` and `body`, all texts, and nothing else")]
    Malformed,
    /// It asks for something else, or somewhere else.
    #[error("it is no `POST` of `GetCallerIdentity` to the STS that its issuer names")]
    Request,
    /// It has a header that is not known, twice or empty.
    #[error("a header of it is not known, comes twice or has no value")]
    Header,
    /// Its signature is not one of AWS Signature Version 4 for this STS.
    #[error("its `Authorization` is no AWS Signature Version 4 of the service `sts` in the STS' own region")]
    Authorization,
    /// The signature leaves something out.
    #[error("its signature does not cover `host`, `x-amz-date`, `{AUDIENCE_HEADER}` and the session token")]
    Unsigned,
    /// It is for somebody else.
    #[error("its `{AUDIENCE_HEADER}` is another")]
    Audience,
    /// Its time is over, or has not come.
    #[error("it was not signed within the last {AGE_S_MAX} s")]
    Time,
    /// AWS does not say who it is.
    #[error("the STS did not say who signed it: {0}")]
    Unknown(String),
    /// It is signed by somebody who is no assumed role.
    #[error("it is signed by {0}; only the session of a role proves an agent")]
    Principal(&'static str),
    /// It is of another account.
    #[error("it is of another AWS account than its issuer")]
    Account,
}

/// A signed request that may be sent, once.
#[derive(Debug)]
pub struct SignedRequest {
    /// Where it was meant to go.
    url: String,
    /// Its headers, in lower case.
    headers: Vec<(String, String)>,
    /// Stands for it among what was used.
    pub asserted: Asserted,
    /// When it was signed, in seconds since the epoch.
    pub signed_s: i64,
}

impl SignedRequest {
    /// Whether `text` may be such a request, and of which URL it says that it is.
    pub fn url_of(text: &str) -> Result<String, InvalidRequest> {
        let request = json::parse(text.as_bytes(), &REQUEST).map_err(|_| InvalidRequest::Malformed)?;
        request.get("url").and_then(Value::as_str).map(str::to_owned).ok_or(InvalidRequest::Malformed)
    }

    /// Reads one that is to prove a principal to `audience` by the STS that `issuer` names, or by its `endpoint` where one is set.
    pub fn parse(text: &str, issuer: &Issuer, audience: &str, now: Timestamp) -> Result<Self, InvalidRequest> {
        let Ok(Value::Object(request)) = json::parse(text.as_bytes(), &REQUEST) else { return Err(InvalidRequest::Malformed) };
        let member = |name: &str| request.get(name).and_then(Value::as_str).ok_or(InvalidRequest::Malformed);
        if request.len() != 4 {
            return Err(InvalidRequest::Malformed);
        }
        let (url, method, body) = (member("url")?, member("method")?, member("body")?);
        let place = place(issuer);
        // Byte for byte, so that no two readers of URLs can differ: the origin, and at most a slash.
        if method != "POST" || body != BODY || url.strip_suffix('/').unwrap_or(url) != place {
            return Err(InvalidRequest::Request);
        }
        let headers = headers(request.get("headers").and_then(Value::as_object).ok_or(InvalidRequest::Malformed)?)?;
        let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let authority = place.split_once("://").map_or("", |(_, authority)| authority);
        if header("host").is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
            return Err(InvalidRequest::Request);
        }
        let date = header("x-amz-date").ok_or(InvalidRequest::Unsigned)?;
        let authorization = Authorization::parse(header("authorization").ok_or(InvalidRequest::Authorization)?)?;
        if authorization.region != region(issuer) || date.get(..8) != Some(authorization.date) {
            return Err(InvalidRequest::Authorization);
        }
        let is_signed = |name: &str| authorization.signed.contains(&name);
        let covers =
            SIGNED.iter().all(|name| is_signed(name)) && (header("x-amz-security-token").is_none() || is_signed("x-amz-security-token"));
        // What is signed and not sent would fail at AWS; here it would not be clear what was signed.
        let known = authorization.signed.iter().all(|name| *name == "host" || header(name).is_some());
        if !covers || !known {
            return Err(InvalidRequest::Unsigned);
        }
        if header(AUDIENCE_HEADER) != Some(audience) {
            return Err(InvalidRequest::Audience);
        }
        let signed_s = seconds(date).ok_or(InvalidRequest::Time)?;
        let age_s = now.as_second().saturating_sub(signed_s);
        if !(-SKEW_S..=AGE_S_MAX).contains(&age_s) {
            return Err(InvalidRequest::Time);
        }
        let asserted = Asserted { id: replay::id(&["aws4_request", authorization.signature]), slot: assertion::slot(now) };
        Ok(Self { url: format!("{place}/"), headers, asserted, signed_s })
    }

    /// Where it is sent.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its headers; `host` is the connection's own.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().filter(|(name, _)| name != "host").map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Its body.
    pub const fn body() -> &'static str {
        BODY
    }
}

/// Who AWS says signed a request: an ARN, a user id and an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The ARN.
    pub arn: &'a str,
    /// The unique id; of a session the role's id, a colon and the session's name.
    pub user_id: &'a str,
    /// The account.
    pub account: &'a str,
}

impl Caller<'_> {
    /// What it can be matched by: `account`, `role`, `role_id`, `session`, `arn` and `user_id`. Only the session of a role of the
    /// issuer's account: a user signs with a secret that somebody keeps, and the root may do everything.
    pub fn claims(&self, issuer: &Issuer) -> Result<Map<String, Value>, InvalidRequest> {
        if issuer.account.as_deref() != Some(self.account) || arn_account(self.arn) != Some(self.account) {
            return Err(InvalidRequest::Account);
        }
        let resource = self.arn.splitn(6, ':').nth(5).unwrap_or_default();
        let parts: Vec<&str> = resource.split('/').collect();
        let (role, session) = match parts.as_slice() {
            ["assumed-role", role, session] if !role.is_empty() && !session.is_empty() => (*role, *session),
            ["user", ..] => return Err(InvalidRequest::Principal("a user, whose secret somebody keeps")),
            ["root"] => return Err(InvalidRequest::Principal("the root of the account")),
            _ => return Err(InvalidRequest::Principal("a principal that is no session of a role")),
        };
        let (role_id, of_session) = self.user_id.split_once(':').unwrap_or_default();
        if role_id.is_empty() || of_session != session {
            return Err(InvalidRequest::Unknown("its user id is not that of its session".to_owned()));
        }
        let claims = json!({
            "sub": self.arn, "arn": self.arn, "user_id": self.user_id, "account": self.account,
            "role": role, "role_id": role_id, "session": session,
        });
        if let Value::Object(claims) = claims { Ok(claims) } else { Err(InvalidRequest::Malformed) }
    }
}

/// The origin at which an issuer's STS is reached: its `endpoint`, or itself.
pub fn place(issuer: &Issuer) -> &str {
    issuer.endpoint.as_deref().unwrap_or(&issuer.issuer).trim_end_matches('/')
}

/// The region that requests to an issuer's STS are signed for; the global one's is `us-east-1`.
fn region(issuer: &Issuer) -> &str {
    let mut parts = host(&issuer.issuer).split('.').skip(1);
    parts.next().filter(|part| *part != "amazonaws").unwrap_or("us-east-1")
}

fn headers(members: &Map<String, Value>) -> Result<Vec<(String, String)>, InvalidRequest> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in members {
        let (name, value) = (name.to_ascii_lowercase(), value.as_str().unwrap_or_default());
        // A value that is written with white space around it is signed without, so that two texts would be one.
        let is_plain = !value.is_empty() && value.bytes().all(|b| (b' '..=b'~').contains(&b)) && value.trim() == value;
        if !HEADERS.contains(&name.as_str()) || !is_plain || headers.iter().any(|(known, _)| *known == name) {
            return Err(InvalidRequest::Header);
        }
        headers.push((name, value.to_owned()));
    }
    Ok(headers)
}

/// The parts of an `Authorization` header of AWS Signature Version 4.
struct Authorization<'a> {
    date: &'a str,
    region: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Self, InvalidRequest> {
        let parts: Vec<&str> =
            text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(InvalidRequest::Authorization)?.split(',').map(str::trim).collect();
        let &[credential, signed, signature] = parts.as_slice() else { return Err(InvalidRequest::Authorization) };
        let part = |text: &'a str, name: &str| text.strip_prefix(name).ok_or(InvalidRequest::Authorization);
        let scope: Vec<&str> = part(credential, "Credential=")?.split('/').collect();
        let &[_, date, region, "sts", "aws4_request"] = scope.as_slice() else { return Err(InvalidRequest::Authorization) };
        let signature = part(signature, "Signature=")?;
        if signature.len() != 64 || !signature.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(InvalidRequest::Authorization);
        }
        Ok(Self { date, region, signed: part(signed, "SignedHeaders=")?.split(';').collect(), signature })
    }
}

/// The time of `x-amz-date` (ISO 8601, basic, in UTC), in seconds since the epoch.
fn seconds(date: &str) -> Option<i64> {
    let is_basic = date.len() == 16
        && date.bytes().enumerate().all(|(at, b)| match at {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        });
    if !is_basic {
        return None;
    }
    let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
    let extended = format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15));
    extended.parse::<Timestamp>().ok().map(|at| at.as_second())
}
