//! An upstream credential: its text can be attached to a request, and read nowhere else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bailiwick_core::form::encode;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::BrokerError;

/// What a tool server is shown to let a call in. Its text is readable in this module only.
///
/// Clones are the same credential: what is refused for one is refused for all.
#[derive(Clone)]
pub struct Credential {
    shown: Option<Arc<Shown>>,
    /// The transaction token of one call, beside it.
    txn: Option<Arc<Zeroizing<String>>>,
}

/// The header of a transaction token (draft-ietf-oauth-transaction-tokens-10).
const TXN_TOKEN: HeaderName = HeaderName::from_static("txn-token");

struct Shown {
    header: HeaderName,
    secret: Zeroizing<String>,
    refused: AtomicBool,
}

impl Credential {
    /// Nothing: the server wants none, or finds it in its environment.
    pub const fn none() -> Self {
        Self { shown: None, txn: None }
    }

    /// A header with a secret value.
    pub fn header(name: HeaderName, value: Zeroizing<String>) -> Self {
        Self { shown: Some(Arc::new(Shown { header: name, secret: value, refused: AtomicBool::new(false) })), txn: None }
    }

    /// The same with the transaction token of one call. It says what the call is, and lets nobody in.
    #[must_use]
    pub fn with_txn(self, token: Zeroizing<String>) -> Self {
        Self { txn: Some(Arc::new(token)), ..self }
    }

    /// Adds it to a request; fails, without showing it, when the secret cannot stand in a header.
    pub fn attach(&self, headers: &mut HeaderMap) -> Result<(), BrokerError> {
        if let Some(token) = &self.txn {
            let mut value = HeaderValue::from_str(token).map_err(|_| BrokerError("the transaction token is no header's value".into()))?;
            value.set_sensitive(true);
            headers.insert(TXN_TOKEN, value);
        }
        let Some(shown) = &self.shown else { return Ok(()) };
        let mut value = HeaderValue::from_str(&shown.secret)
            .map_err(|_| BrokerError(format!("the secret for `{}` has characters that a header cannot hold", shown.header).into()))?;
        value.set_sensitive(true);
        headers.insert(shown.header.clone(), value);
        Ok(())
    }

    /// The form by which its token is revoked (RFC 7009 §2.1); nothing where it is none.
    pub(super) fn to_revoke(&self) -> Option<Zeroizing<String>> {
        let token = self.shown.as_ref()?.secret.strip_prefix("Bearer ")?;
        Some(encode(&[("token", token), ("token_type_hint", "access_token")]))
    }

    /// Remembers that the server did not accept it, so that the broker does not give it out again.
    pub fn refuse(&self) {
        if let Some(shown) = &self.shown {
            shown.refused.store(true, Ordering::Release);
        }
    }

    /// Whether the server did not accept it.
    pub fn is_refused(&self) -> bool {
        self.shown.as_ref().is_some_and(|shown| shown.refused.load(Ordering::Acquire))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
