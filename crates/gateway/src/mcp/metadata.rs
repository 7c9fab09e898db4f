//! What the gateway says of itself as a protected resource (RFC 9728), and how it challenges (RFC 6750 §3, RFC 9449 §7.1).

use bailiwick_core::bundle::{Proof, Snapshot};
use bailiwick_core::identity::{Algorithm, Unauthenticated};
use serde_json::{Value, json};

use super::route::Route;

/// The path under which metadata stands.
pub(crate) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The route that a metadata path is about (RFC 9728 §3.1); the bare path is about `/mcp`.
pub(super) fn route(path: &str, snapshot: &Snapshot) -> Option<Route> {
    match path.strip_prefix(WELL_KNOWN)? {
        "" => Some(Route::All),
        rest => Route::of(rest, snapshot),
    }
}

/// The metadata of a route (RFC 9728 §2).
pub(super) fn document(route: &Route, snapshot: &Snapshot) -> Value {
    let name = match route {
        Route::All => "Bailiwick".to_owned(),
        Route::One(server) => format!("Bailiwick: {server}"),
    };
    of_resource(&route.path(), &name, snapshot)
}

/// The metadata of the resource at a path.
pub(crate) fn of_resource(path: &str, name: &str, snapshot: &Snapshot) -> Value {
    let algorithms: Vec<&str> = Algorithm::ALL.into_iter().map(Algorithm::as_str).collect();
    json!({
        "resource": format!("{}{path}", snapshot.settings.data.origin),
        "authorization_servers": [snapshot.settings.identity.origin],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": algorithms,
        "dpop_bound_access_tokens_required": !takes_bearer(snapshot),
        "tls_client_certificate_bound_access_tokens": snapshot.settings.data.tls.is_some(),
        "authorization_details_types_supported": ["tool_call"],
        "resource_name": name,
    })
}

/// The challenges for one who was not authenticated. What was wrong in particular is for the operator only.
pub(crate) fn challenges(error: &Unauthenticated, resource: &str, snapshot: &Snapshot) -> Vec<String> {
    let metadata = format!("{}{WELL_KNOWN}{resource}", snapshot.settings.data.origin);
    let algorithms: Vec<&str> = Algorithm::ALL.into_iter().map(Algorithm::as_str).collect();
    let code = error.code().map(|code| format!("error=\"{code}\", error_description=\"{}\", ", sentence(code))).unwrap_or_default();
    let mut challenges = vec![format!("DPoP {code}algs=\"{}\", resource_metadata=\"{metadata}\"", algorithms.join(" "))];
    if takes_bearer(snapshot) {
        // RFC 9449 §7.1: the codes that are about proofs mean nothing to bearer tokens.
        let code = if error.code() == Some("invalid_token") { code } else { String::new() };
        challenges.push(format!("Bearer {code}resource_metadata=\"{metadata}\""));
    }
    challenges
}

/// What a refused caller is told.
pub(crate) fn sentence(code: &str) -> &'static str {
    match code {
        "use_dpop_nonce" => "the proof needs the nonce that DPoP-Nonce carries",
        "invalid_dpop_proof" => "the proof of possession was not accepted",
        _ => "the access token was not accepted",
    }
}

/// Whether a token may come as a bearer token, as one that is bound to a certificate does (RFC 8705 §3).
fn takes_bearer(snapshot: &Snapshot) -> bool {
    snapshot.agents.values().any(|agent| agent.credential.proof != Proof::Dpop)
}
