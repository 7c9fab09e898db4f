//! What the issuer says about itself (RFC 8414 §2, OpenID Connect Discovery 1.0 §3).

use bailiwick_core::identity::Algorithm;
use bailiwick_core::model::Effect;
use serde_json::{Map, Value, json};

use crate::token::{AUTHORIZATION_CODE, CLIENT_CREDENTIALS, JWT_BEARER, REFRESH_TOKEN, TOKEN_EXCHANGE};

/// Authorization-server metadata (RFC 8414 §2), with what RFC 9449 §5.1 and RFC 9396 §10 add. `sign_in` is where people let their clients
/// sign in, if anywhere.
pub(crate) fn authorization_server(issuer: &str, sign_in: Option<&str>, speaks_tls: bool) -> Map<String, Value> {
    let algorithms: Vec<_> = Algorithm::ALL.into_iter().map(Algorithm::as_str).collect();
    let document = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "grant_types_supported": [CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE],
        // Where nobody can sign in no grant uses an authorization endpoint, so RFC 8414 §2 does not ask for one; OpenID Connect
        // Discovery and the MCP SDKs do. Ours then answers that it supports no response type, which is what the next member says.
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
    let mut members = match document {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    if let Some(page) = sign_in {
        let mut put = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
        put("authorization_endpoint", json!(page));
        put("response_types_supported", json!(["code"]));
        put("response_modes_supported", json!(["query"]));
        put("grant_types_supported", json!([AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE]));
        put("token_endpoint_auth_methods_supported", json!(["private_key_jwt", "none"]));
        put("revocation_endpoint_auth_methods_supported", json!(["private_key_jwt", "none"]));
        put("scopes_supported", json!(Effect::ALL.map(Effect::as_str)));
        put("client_id_metadata_document_supported", json!(true));
        put("authorization_response_iss_parameter_supported", json!(true));
    }
    if speaks_tls {
        // RFC 8705 §2.1, §3.3: by the SPIFFE id of a client certificate, and tokens that are bound to one.
        if let Some(methods) = members.get_mut("token_endpoint_auth_methods_supported").and_then(Value::as_array_mut) {
            methods.push(json!("tls_client_auth"));
        }
        members.insert("tls_client_certificate_bound_access_tokens".to_owned(), json!(true));
    }
    members
}

/// The same for those who look by OpenID Connect Discovery; it adds what that requires.
pub(crate) fn openid(issuer: &str, sign_in: Option<&str>, speaks_tls: bool) -> Map<String, Value> {
    let mut document = authorization_server(issuer, sign_in, speaks_tls);
    document.insert("subject_types_supported".to_owned(), json!(["public"]));
    document.insert("id_token_signing_alg_values_supported".to_owned(), json!(["RS256", "ES256"]));
    if sign_in.is_none() {
        // Clouds take no document without one, and never use it: their tokens are had at the token endpoint.
        document.insert("response_types_supported".to_owned(), json!(["id_token"]));
    }
    document.insert("claims_supported".to_owned(), json!(["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]));
    document
}
