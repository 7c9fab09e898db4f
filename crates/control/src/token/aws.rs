//! Sending a workload's signed request to AWS, and reading who AWS says it is (STS `GetCallerIdentity`).

use bailiwick_core::bundle::Issuer;
use bailiwick_core::identity::aws::{Caller, InvalidRequest, SignedRequest, place};
use bytes::Bytes;
use http::header::{ACCEPT, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::fetch::Fetcher;

/// The namespace of the STS' answers.
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The claims of whoever signed `request`, as the STS of `issuer` says. Sent once, without following redirects.
pub(super) async fn caller(fetcher: &Fetcher, issuer: &Issuer, request: &SignedRequest) -> Result<Map<String, Value>, InvalidRequest> {
    let unknown = |why: String| InvalidRequest::Unknown(why);
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let name: HeaderName = name.parse().map_err(|_| InvalidRequest::Header)?;
        let mut value: HeaderValue = value.parse().map_err(|_| InvalidRequest::Header)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("text/xml"));
    let body = Bytes::from_static(SignedRequest::body().as_bytes());
    let (status, answer) = fetcher.post(request.url(), place(issuer), headers, body).await.map_err(|error| unknown(error.to_string()))?;
    if status != StatusCode::OK {
        return Err(unknown(format!("it answered {status}")));
    }
    let text = std::str::from_utf8(&answer).map_err(|_| unknown("its answer is no text".to_owned()))?;
    // A document type, and with it every entity of a sender's own, is refused by the parser.
    let document = roxmltree::Document::parse(text).map_err(|error| unknown(format!("its answer is no XML: {error}")))?;
    read(&document).ok_or_else(|| unknown("its answer is none to `GetCallerIdentity`".to_owned()))?.claims(issuer)
}

/// Reads `GetCallerIdentityResponse`, in which each of the three stands once.
fn read<'a>(document: &'a roxmltree::Document<'_>) -> Option<Caller<'a>> {
    let root = document.root_element();
    if !root.has_tag_name((NAMESPACE, "GetCallerIdentityResponse")) {
        return None;
    }
    let result = only(root, "GetCallerIdentityResult")?;
    let text = |name: &str| only(result, name)?.text();
    Some(Caller { arn: text("Arn")?, user_id: text("UserId")?, account: text("Account")? })
}

/// The one child element of that name.
fn only<'a, 'i>(parent: roxmltree::Node<'a, 'i>, name: &str) -> Option<roxmltree::Node<'a, 'i>> {
    let mut children = parent.children().filter(|child| child.has_tag_name((NAMESPACE, name)));
    children.next().filter(|_| children.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_question_is_read() {
        let answer = |inner: &str| {
            format!(
                "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult>{inner}</GetCallerIdentityResult>\
                 <ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
            )
        };
        let whole = answer("<Arn>a</Arn><UserId>u</UserId><Account>c</Account>");
        let read_text = |text: &str| {
            let document = roxmltree::Document::parse(text).ok()?;
            read(&document).map(|caller| [caller.arn, caller.user_id, caller.account].map(str::to_owned))
        };
        assert_eq!(read_text(&whole), Some(["a", "u", "c"].map(str::to_owned)));
        for text in [
            String::new(),
            "<GetCallerIdentityResponse/>".to_owned(),
            whole.replace(NAMESPACE, "https://evil.example/"),
            whole.replace("GetCallerIdentityResponse", "AssumeRoleResponse"),
            answer("<Arn>a</Arn><UserId>u</UserId>"),
            answer("<Arn>a</Arn><Arn>b</Arn><UserId>u</UserId><Account>c</Account>"),
            answer("<Arn/><UserId>u</UserId><Account>c</Account>"),
            answer("<X><Arn>a</Arn></X><UserId>u</UserId><Account>c</Account>"),
            format!("<!DOCTYPE x [<!ENTITY e \"a\">]>{}", answer("<Arn>&e;</Arn><UserId>u</UserId><Account>c</Account>")),
        ] {
            assert_eq!(read_text(&text), None, "{text}");
        }
    }
}
