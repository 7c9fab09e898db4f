//! Reading `issuers.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::fields::{Fields, shown};
use super::problem::{Source, listed};
use super::{BundleServer, Issuer, Keys, Review, jwk, schema, url};
use crate::identity::platform::{self, Platform};
use crate::identity::{Algorithm, spiffe};

/// Reads the file.
pub(super) fn issuers(file: &Fields<'_>) -> BTreeMap<String, Issuer> {
    let mut issuers = BTreeMap::<String, Issuer>::new();
    for table in file.tables::<schema::IssuerTable>("issuer") {
        let name = table.required_text("name", "give it a name that agents can refer to");
        let issuer = table.required_text("issuer", "write the `iss` of its tokens, such as `https://idp.example`");
        let kind = table.choice("kind", &Platform::ALL).map(Spanned::into_inner);
        let kind = kind.unwrap_or_else(|| issuer.as_ref().map_or(Platform::Oidc, |issuer| Platform::of_issuer(issuer.get_ref())));
        if let Some(issuer) = &issuer {
            check_issuer(table.source(), issuer, kind);
        }
        let keys = keys(&table, kind);
        let algorithms = algorithms(&table, kind);
        let audience = audience(&table, issuer.as_ref(), kind);
        let (ca_file, token_file) = (file_of(&table, "ca_file"), file_of(&table, "token_file"));
        let review = review(&table, kind, (&ca_file, &token_file));
        let account = account(&table, kind);
        let endpoint = endpoint(&table, issuer.as_ref(), kind);
        let (keys, bundle_server) = bundle_server(&table, issuer.as_ref(), keys);
        let (Some(name), Some(issuer)) = (name, issuer) else { continue };
        if let Some(other) = issuers.values().find(|other| other.name == *name.get_ref() || other.issuer == *issuer.get_ref()) {
            let message = format!("the issuer `{}` is declared twice", other.name);
            table.source().error(name.span(), message, "keep one of the two, or give each a name and a URL of its own");
            continue;
        }
        let (name, issuer) = (name.into_inner(), issuer.into_inner());
        let issuer =
            Issuer { name, issuer, kind, keys, audience, algorithms, ca_file, token_file, review, account, endpoint, bundle_server };
        issuers.insert(issuer.name.clone(), issuer);
    }
    issuers
}

/// Notes an issuer whose tokens could not be told from others'.
fn check_issuer(source: Source<'_>, issuer: &Spanned<String>, kind: Platform) {
    let text = issuer.get_ref();
    match kind {
        Platform::Spiffe => {
            if spiffe::trust_domain(text).is_none() {
                let message = format!("`{}` is no SPIFFE trust domain", shown(text));
                source.error(issuer.span(), message, "write it like `spiffe://prod.acme.example`, in lower case and without a path");
            }
            return;
        }
        Platform::Kubernetes if matches!(text.as_str(), "kubernetes/serviceaccount") => {
            let mend = "use projected tokens, and write the cluster's `--service-account-issuer` here";
            source.error(issuer.span(), "this is the issuer of tokens of secrets, which have no end", mend);
            return;
        }
        Platform::Azure if ["/common", "/organizations", "/consumers", "{tenantid}"].iter().any(|all| text.contains(all)) => {
            let mend =
                "write the tenant's own issuer, `https://sts.windows.net/TENANT/` or `https://login.microsoftonline.com/TENANT/v2.0`";
            source.error(issuer.span(), "every tenant in the world would be trusted", mend);
        }
        _ => {}
    }
    check_url(source, issuer, "the issuer");
}

pub(super) fn keys(table: &Fields<'_>, kind: Platform) -> Keys {
    let is_bootstrap = |way: &&str| table.value("endpoint_id").is_some() && *way != "jwks_uri";
    let all = ["jwks_uri", "jwks", "jwks_file", "workload_api"];
    let ways: Vec<&str> = all.into_iter().filter(|way| table.value(way).is_some() && !is_bootstrap(way)).collect();
    if let [_, second, ..] = ways.as_slice() {
        let at = table.value(second).map_or_else(|| table.span(), Spanned::span);
        table.source().error(at, format!("{} say where the keys are", listed(&ways)), "keep one of them");
    }
    if ways.is_empty() && kind == Platform::Spiffe {
        let mend = "add `jwks_uri` with the URL of its bundle endpoint, `workload_api`, or `jwks_file` or `jwks` with its bundle";
        table.source().error(table.span(), "nothing says where the bundle of the trust domain is", mend);
    }
    for key in ["workload_api", "endpoint_id"] {
        if let (Some(value), true) = (table.value(key), kind != Platform::Spiffe) {
            table.source().error(value.span(), format!("`{key}` means nothing but for `kind = \"spiffe\"`"), "take it out");
        }
    }
    if let Some(address) = table.text("workload_api") {
        let is_socket = address.get_ref().strip_prefix("unix://").is_some_and(|path| path.starts_with('/'));
        let is_literal = address
            .get_ref()
            .strip_prefix("tcp://")
            .is_some_and(|at| at.parse::<std::net::SocketAddr>().is_ok_and(|at| at.ip().is_loopback()));
        if !is_socket && !is_literal {
            let message = format!("`{}` is no address of a Workload API", shown(address.get_ref()));
            table.source().error(
                address.span(),
                message,
                "write `unix:///PATH`, or `tcp://127.0.0.1:PORT`: nothing protects it on a network",
            );
        }
        return Keys::WorkloadApi(address.into_inner());
    }
    if table.value("endpoint_id").is_some()
        && let Some(uri) = table.text("jwks_uri")
    {
        check_url(table.source(), &uri, "the bundle endpoint");
        return Keys::Url(uri.into_inner());
    }
    if let Some(set) = table.json("jwks") {
        let keys = set.get_ref().get("keys").and_then(serde_json::Value::as_array);
        match keys {
            Some(keys) if !keys.is_empty() => {
                for key in keys.iter().filter(|key| key.get("x5c").is_none()) {
                    if let Err((fault, mend)) = jwk::check_public(key) {
                        table.source().error(set.span(), format!("a key of `jwks` {fault}"), mend);
                    }
                }
            }
            _ => table.source().error(set.span(), "`jwks` holds no keys", "write `jwks = { keys = [ { kty = … } ] }`"),
        }
        return Keys::Inline(set.into_inner());
    }
    if let Some(file) = file_of(table, "jwks_file") {
        return Keys::File(file);
    }
    let Some(uri) = table.text("jwks_uri") else { return Keys::Discovery };
    check_url(table.source(), &uri, "the address of the keys");
    Keys::Url(uri.into_inner())
}

/// The algorithms that are accepted: asymmetric ones alone, so that no public key can serve as a secret.
pub(super) fn algorithms(table: &Fields<'_>, kind: Platform) -> Vec<String> {
    if table.value("algorithms").is_none() {
        return kind.algorithms().iter().map(|name| (*name).to_owned()).collect();
    }
    let known: Vec<&str> = match kind {
        Platform::Spiffe => platform::SVID_ALGORITHMS.to_vec(),
        _ => Algorithm::ALL.into_iter().map(Algorithm::as_str).collect(),
    };
    let algorithms = table.texts("algorithms");
    for algorithm in algorithms.iter().filter(|algorithm| !known.contains(&algorithm.get_ref().as_str())) {
        let message = format!("the algorithm `{}` is not accepted", algorithm.get_ref());
        table.source().error(algorithm.span(), message, format!("use {}", listed(&known)));
    }
    algorithms.into_iter().map(Spanned::into_inner).collect()
}

/// The audience, if it is another than our own issuer's URL; one that others' tokens have too is noted.
fn audience(table: &Fields<'_>, issuer: Option<&Spanned<String>>, kind: Platform) -> Option<String> {
    const MEND: &str = "take `audience` out, so that it is our own issuer's URL, and ask the platform for a token with that";
    let audience = table.text("audience")?;
    let fault = platform::shared_audience(issuer.map_or("", |issuer| issuer.get_ref()), audience.get_ref());
    match fault {
        Some(fault) if kind == Platform::Kubernetes => table.source().error(audience.span(), fault, MEND),
        Some(fault) => table.source().warning(audience.span(), fault, MEND),
        None => {}
    }
    Some(audience.into_inner())
}

fn review(table: &Fields<'_>, kind: Platform, of_issuer: (&Option<PathBuf>, &Option<PathBuf>)) -> Option<Review> {
    let review = table.table::<schema::ReviewTable>("review")?;
    if kind != Platform::Kubernetes {
        table.source().error(
            review.span(),
            "only a Kubernetes API server reviews tokens",
            "take `review` out, or write `kind = \"kubernetes\"`",
        );
    }
    let url = review.required_text("url", "write the API server's URL, such as `https://kubernetes.default.svc`")?;
    check_url(table.source(), &url, "the API server");
    let token_file = file_of(&review, "token_file").or_else(|| of_issuer.1.clone());
    if token_file.is_none() {
        let mend = "add `token_file` with the token of an account that is bound to `system:auth-delegator`";
        table.source().error(review.span(), "`review` says nobody who may ask", mend);
    }
    let ca_file = file_of(&review, "ca_file").or_else(|| of_issuer.0.clone());
    Some(Review { url: url.into_inner(), ca_file, token_file })
}

fn account(table: &Fields<'_>, kind: Platform) -> Option<String> {
    let account = table.text("account");
    match (&account, kind) {
        (None, Platform::Aws) if table.value("account").is_none() => {
            table.missing("account", "say whose principals it vouches for, such as `account = \"111122223333\"`");
        }
        (Some(account), Platform::Aws) if !platform::is_account(account.get_ref()) => {
            table.source().error(account.span(), "this is no number of an AWS account", "write its twelve digits in quotes");
        }
        (Some(account), kind) if kind != Platform::Aws => {
            table.source().error(account.span(), "`account` means nothing but for `kind = \"aws\"`", "take it out");
        }
        _ => {}
    }
    account.map(Spanned::into_inner)
}

/// Where the STS is reached in place of its own URL, which is noted: whoever answers there says who everybody is.
fn endpoint(table: &Fields<'_>, issuer: Option<&Spanned<String>>, kind: Platform) -> Option<String> {
    let endpoint = table.text("endpoint")?;
    check_url(table.source(), &endpoint, "the endpoint");
    let is_sts = issuer.is_some_and(|issuer| platform::is_sts(platform::host(issuer.get_ref())));
    if kind != Platform::Aws || !is_sts {
        let mend = "take it out, or name an STS as `issuer`, such as `https://sts.eu-central-1.amazonaws.com`";
        table.source().error(endpoint.span(), "`endpoint` means nothing but for an AWS STS", mend);
    } else {
        let message = "whoever answers at this address says which role everybody has";
        table.source().warning(endpoint.span(), message, "take it out unless it is a VPC endpoint of your own, or a test");
    }
    Some(endpoint.into_inner())
}

/// How the server of a SPIFFE bundle proves itself where that is by an SVID, and the keys without the bundle that it is first
/// believed by.
fn bundle_server(table: &Fields<'_>, issuer: Option<&Spanned<String>>, keys: Keys) -> (Keys, Option<BundleServer>) {
    let Some(id) = table.text("endpoint_id") else { return (keys, None) };
    let domain = issuer.and_then(|issuer| spiffe::trust_domain(issuer.get_ref()));
    if spiffe::Id::parse(id.get_ref()).ok().is_none_or(|id| Some(id.trust_domain()) != domain || id.path().is_empty()) {
        let mend = format!("write it like `spiffe://{}/spire/server`", domain.unwrap_or("prod.acme.example"));
        table.source().error(id.span(), format!("`{}` is no id of a server of the trust domain", shown(id.get_ref())), mend);
    }
    let bootstrap = match (table.json("jwks"), file_of(table, "jwks_file")) {
        (Some(set), None) => Keys::Inline(set.into_inner()),
        (None, Some(file)) => Keys::File(file),
        _ => {
            let mend = "add the trust domain's present bundle as `jwks_file` or `jwks`, one of the two";
            table.source().error(id.span(), "nothing says by which bundle the server is believed at first", mend);
            return (keys, None);
        }
    };
    if !matches!(keys, Keys::Url(_)) {
        table.missing("jwks_uri", "write the URL of the bundle endpoint");
    }
    (keys, Some(BundleServer { id: id.into_inner(), bootstrap: Box::new(bootstrap) }))
}

pub(super) fn file_of(table: &Fields<'_>, key: &str) -> Option<PathBuf> {
    table.text(key).map(|text| PathBuf::from(text.into_inner()))
}

/// Notes what is wrong with a URL, if anything.
pub(super) fn check_url(source: Source<'_>, text: &Spanned<String>, what: &str) {
    if let Err((fault, mend)) = url::parse(text.get_ref()) {
        source.error(text.span(), format!("{what} `{}` {fault}", shown(text.get_ref())), mend);
    }
}
