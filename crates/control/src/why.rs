//! Why a token proves an agent, or does not, for a bundle that need not be in force: keys in it are used as they are, others are
//! read where it says.

use std::path::PathBuf;

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::identity::why::Why;
use bailiwick_core::model::Timestamp;

use crate::fetch::Fetcher;
use crate::foreign::Foreign;
use crate::token::{trust, trusted};

/// Explains `token` by the bundle `snapshot`, whose directory is `base`.
pub async fn why(fetcher: Fetcher, base: PathBuf, snapshot: &Snapshot, token: &str, now: Timestamp) -> Why {
    let jws = match Jws::parse(token) {
        Ok(jws) => jws,
        Err(error) => return Why::unreadable(&error),
    };
    let Some(issuer) = trusted(snapshot, &jws) else { return Why::unknown(&jws, snapshot) };
    let audience = issuer.audience.as_deref().unwrap_or(&snapshot.settings.identity.origin);
    match Foreign::new(fetcher, base).published(issuer, jws.kid(), now).await {
        Ok(published) => Why::explain(&jws, snapshot, issuer, Ok(&trust(issuer, audience, &published.keys)), now),
        Err(error) => Why::explain(&jws, snapshot, issuer, Err(error.to_string()), now),
    }
}
