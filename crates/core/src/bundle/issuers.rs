//! Reading `issuers.toml`.

use std::collections::BTreeMap;

use toml::Spanned;

use super::fields::Fields;
use super::problem::{Source, listed};
use super::{Issuer, Keys, jwk, schema, url};

/// The signature algorithms that an issuer may use: asymmetric ones alone, so that no public key can serve as a secret.
const ALGORITHMS: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// Reads the file.
pub(super) fn issuers(file: &Fields<'_>) -> BTreeMap<String, Issuer> {
    let mut issuers = BTreeMap::<String, Issuer>::new();
    for table in file.tables::<schema::IssuerTable>("issuer") {
        let name = table.required_text("name", "give it a name that agents can refer to");
        let issuer = table.required_text("issuer", "write the `iss` of its tokens, such as `https://idp.example`");
        if let Some(issuer) = &issuer {
            check_url(table.source(), issuer, "the issuer");
        }
        let keys = keys(&table);
        let algorithms = algorithms(&table);
        let audience = table.text("audience").map(Spanned::into_inner);
        let (Some(name), Some(issuer)) = (name, issuer) else { continue };
        if let Some(other) = issuers.values().find(|other| other.name == *name.get_ref() || other.issuer == *issuer.get_ref()) {
            let message = format!("the issuer `{}` is declared twice", other.name);
            table.source().error(name.span(), message, "keep one of the two, or give each a name and a URL of its own");
            continue;
        }
        let name = name.into_inner();
        issuers.insert(name.clone(), Issuer { name, issuer: issuer.into_inner(), keys, audience, algorithms });
    }
    issuers
}

fn keys(table: &Fields<'_>) -> Keys {
    let uri = table.text("jwks_uri");
    let set = table.json("jwks");
    if let (Some(uri), Some(_)) = (&uri, &set) {
        table.source().error(uri.span(), "both `jwks_uri` and `jwks` say where the keys are", "keep one of the two");
    }
    if let Some(set) = set {
        let keys = set.get_ref().get("keys").and_then(serde_json::Value::as_array);
        match keys {
            Some(keys) if !keys.is_empty() => {
                for key in keys {
                    if let Err((fault, mend)) = jwk::check_public(key) {
                        table.source().error(set.span(), format!("a key of `jwks` {fault}"), mend);
                    }
                }
            }
            _ => table.source().error(set.span(), "`jwks` holds no keys", "write `jwks = { keys = [ { kty = … } ] }`"),
        }
        return Keys::Inline(set.into_inner());
    }
    let Some(uri) = uri else { return Keys::Discovery };
    check_url(table.source(), &uri, "the address of the keys");
    Keys::Url(uri.into_inner())
}

fn algorithms(table: &Fields<'_>) -> Vec<String> {
    if table.value("algorithms").is_none() {
        return vec!["RS256".to_owned(), "ES256".to_owned()];
    }
    let algorithms = table.texts("algorithms");
    for algorithm in algorithms.iter().filter(|algorithm| !ALGORITHMS.contains(&algorithm.get_ref().as_str())) {
        let message = format!("the algorithm `{}` is not accepted", algorithm.get_ref());
        table.source().error(algorithm.span(), message, format!("use {}", listed(ALGORITHMS)));
    }
    algorithms.into_iter().map(Spanned::into_inner).collect()
}

/// Notes what is wrong with a URL, if anything.
pub(super) fn check_url(source: Source<'_>, text: &Spanned<String>, what: &str) {
    if let Err((fault, mend)) = url::parse(text.get_ref()) {
        source.error(text.span(), format!("{what} `{}` {fault}", super::fields::shown(text.get_ref())), mend);
    }
}
