//! The SPIFFE Workload API as a client: the bundle of a trust domain, as the agent of this machine gives it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use spiffe::{TrustDomain, WorkloadApiClient, WorkloadApiError};

/// How long the agent of this machine may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the Workload API gave no bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoBundle {
    /// It did not answer in time.
    #[error("the Workload API did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// It knows of no such trust domain.
    #[error("the Workload API has no bundle of `{0}`; does its server federate with that trust domain?")]
    Unknown(String),
    /// It answered with an error, or nobody did.
    #[error("the Workload API gave no bundle: {0}")]
    Failed(String),
}

/// The bundle of the trust domain `domain`, a SPIFFE id without a path, in the form of a bundle endpoint's document. What the
/// Workload API does not have, keys for JWT-SVIDs or roots for X.509-SVIDs, is not in it; one of the two it has to have.
pub(crate) async fn bundle(address: &str, domain: &str) -> Result<Value, NoBundle> {
    let failed = |error: &dyn std::fmt::Display| NoBundle::Failed(error.to_string());
    let trust_domain = TrustDomain::new(domain).map_err(|error| failed(&error))?;
    let asked = async {
        let client = WorkloadApiClient::connect_to(address).await?;
        let jwt = client.fetch_jwt_bundles().await;
        let x509 = client.fetch_x509_bundles().await;
        match (jwt, x509) {
            (Err(error), Err(_)) => Err(error),
            (jwt, x509) => Ok((jwt.ok(), x509.ok())),
        }
    };
    let answered: Result<_, WorkloadApiError> = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| NoBundle::TimedOut)?;
    let (jwt, x509) = answered.map_err(|error| failed(&error))?;
    let (jwt, x509) = (jwt.and_then(|set| set.get(&trust_domain)), x509.and_then(|set| set.get(&trust_domain)));
    if jwt.is_none() && x509.is_none() {
        return Err(NoBundle::Unknown(domain.to_owned()));
    }
    let mut keys: Vec<Value> = Vec::new();
    for authority in jwt.iter().flat_map(|bundle| bundle.jwt_authorities()) {
        let mut key: Value = serde_json::from_slice(authority.jwk_json()).map_err(|error| failed(&error))?;
        if let Some(members) = key.as_object_mut() {
            // The set that it came in says what it is for (Workload API §6.2.2).
            members.insert("use".to_owned(), json!("jwt-svid"));
        }
        keys.push(key);
    }
    for root in x509.iter().flat_map(|bundle| bundle.authorities()) {
        keys.push(json!({ "use": "x509-svid", "x5c": [STANDARD.encode(root.as_bytes())] }));
    }
    Ok(json!({ "keys": keys }))
}
