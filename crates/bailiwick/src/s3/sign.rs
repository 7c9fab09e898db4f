//! AWS Signature Version 4 of requests that have no body, which is all that reading S3 needs.

use aws_lc_rs::hmac;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The digest of no body.
pub(super) const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Credentials of AWS.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The id of the key.
    pub(crate) access_key: String,
    /// The key.
    pub(crate) secret: Zeroizing<String>,
    /// The token of the session, where they are temporary.
    pub(crate) session: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// One request as it is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'r> {
    pub(super) method: &'r str,
    /// The path, each of its segments encoded once.
    pub(super) path: &'r str,
    /// The parameters, by name and in the order of their names; neither encoded.
    pub(super) query: &'r [(&'r str, &'r str)],
    /// The headers that are signed: lower-case names in order.
    pub(super) headers: &'r [(&'r str, &'r str)],
    /// `20261125T100000Z`.
    pub(super) at: &'r str,
    pub(super) region: &'r str,
    pub(super) service: &'r str,
}

impl Signed<'_> {
    /// The value of `Authorization`.
    pub(super) fn authorization(&self, credentials: &Credentials) -> String {
        let day = self.at.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!("{}\n{}\n{}\n{headers}\n{names}\n{NO_BODY}", self.method, self.path, query(self.query));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", self.at, hex(&Sha256::digest(canonical.as_bytes())));
        let secret = Zeroizing::new(format!("AWS4{}", credentials.secret.as_str()));
        let key = [day, self.region, self.service, "aws4_request"]
            .iter()
            .fold(Zeroizing::new(secret.as_bytes().to_vec()), |key, part| Zeroizing::new(mac(&key, part.as_bytes())));
        let signature = hex(&mac(&key, text.as_bytes()));
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", credentials.access_key)
    }
}

/// The parameters as they are signed and sent.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    parameters.iter().map(|(name, value)| format!("{}={}", encoded(name, false), encoded(value, false))).collect::<Vec<_>>().join("&")
}

/// A text as it stands in a URL (RFC 3986, unreserved characters alone as they are); in a path, slashes are kept.
pub(super) fn encoded(text: &str, is_path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if is_path => out.push('/'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session: None,
        }
    }

    /// From AWS' published test suite for Signature Version 4: `get-vanilla` and `get-vanilla-query-order-key-case`.
    #[test]
    fn requests_are_signed_as_the_published_vectors_are() {
        let vector = |query: &[(&str, &str)]| {
            Signed {
                method: "GET",
                path: "/",
                query,
                headers: &[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")],
                at: "20150830T123600Z",
                region: "us-east-1",
                service: "service",
            }
            .authorization(&credentials())
        };
        for (query, signature) in [
            (&[][..], "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (&[("Param1", "value1"), ("Param2", "value2")], "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ] {
            let authorization = vector(query);
            assert!(authorization.ends_with(&format!("Signature={signature}")), "{authorization}");
            assert!(authorization.contains("SignedHeaders=host;x-amz-date, "));
        }
    }

    #[test]
    fn keys_and_parameters_are_encoded_once() {
        assert_eq!(encoded("AWSLogs/1/a b+c=é.json.gz", true), "AWSLogs/1/a%20b%2Bc%3D%C3%A9.json.gz");
        assert_eq!(query(&[("list-type", "2"), ("prefix", "a/b")]), "list-type=2&prefix=a%2Fb");
        assert!(!format!("{:?}", credentials()).contains("wJalr"));
    }
}
