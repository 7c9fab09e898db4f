//! What the issuer says about itself (RFC 8414 §2, OpenID Connect Discovery 1.0 §3).

use bailiwick_core::identity::Algorithm;
use serde_json::{Map, Value, json};

use crate::token::{CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE};

/// Authorization-server metadata (RFC 8414 §2), with what RFC 9449 §5.1 and RFC 9396 §10 add.
pub(crate) fn authorization_server(issuer: &str) -> Map<String, Value> {
    let algorithms: Vec<_> = Algorithm::ALL.into_iter().map(Algorithm::as_str).collect();
    let document = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "grant_types_supported": [CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE],
        // No grant here uses an authorization endpoint, so RFC 8414 §2 does not ask for one; OpenID Connect Discovery and
        // the MCP SDKs do. Ours answers that it supports no response type, which is what the next member says.
        "authorization_endpoint": format!("{issuer}/authorize"),
        "response_types_supported": [],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": ["private_key_jwt"],
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": ["private_key_jwt"],
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": algorithms,
        "authorization_details_types_supported": ["tool_call"],
        "authorization_grant_profiles_supported": ["urn:ietf:params:oauth:grant-profile:id-jag"],
        "identity_chaining_requested_token_types_supported": ["urn:ietf:params:oauth:token-type:id-jag", "urn:ietf:params:oauth:token-type:jwt"],
    });
    match document {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The same for those who look by OpenID Connect Discovery; it adds what that requires.
pub(crate) fn openid(issuer: &str) -> Map<String, Value> {
    let mut document = authorization_server(issuer);
    document.insert("subject_types_supported".to_owned(), json!(["public"]));
    document.insert("id_token_signing_alg_values_supported".to_owned(), json!(["RS256", "ES256"]));
    // Clouds take no document without one, and never use it: their tokens are had at the token endpoint.
    document.insert("response_types_supported".to_owned(), json!(["id_token"]));
    document.insert("claims_supported".to_owned(), json!(["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]));
    document
}
