//! An upstream credential: its text can be attached to a request, and read nowhere else.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::BrokerError;

/// What a tool server is shown to let a call in. Its text is readable in this module only.
pub struct Credential {
    header: Option<(HeaderName, Zeroizing<String>)>,
}

impl Credential {
    /// Nothing: the server wants none, or finds it in its environment.
    pub const fn none() -> Self {
        Self { header: None }
    }

    /// A header with a secret value.
    pub const fn header(name: HeaderName, value: Zeroizing<String>) -> Self {
        Self { header: Some((name, value)) }
    }

    /// Adds it to a request; fails, without showing it, when the secret cannot stand in a header.
    pub fn attach(self, headers: &mut HeaderMap) -> Result<(), BrokerError> {
        let Some((name, secret)) = self.header else { return Ok(()) };
        let mut value = HeaderValue::from_str(&secret)
            .map_err(|_| BrokerError(format!("the secret for `{name}` has characters that a header cannot hold").into()))?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
