//! Kubernetes: projected tokens, offline by the cluster's keys and online by its API server, which this answers as.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::by_workload;
use super::support::*;
use super::vouch::{Authority, Signing, patched};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";

/// What a cluster knows, and what it was asked.
#[derive(Default)]
struct Cluster {
    /// The uids of the pods that exist.
    pods: Mutex<BTreeSet<String>>,
    /// Says something else of each token than the truth.
    lie: Mutex<Option<Value>>,
    status: Mutex<Option<StatusCode>>,
    asked: Mutex<Vec<Value>>,
    keys: Mutex<Vec<Value>>,
}

/// Answers as `kube-apiserver` does: to who may ask, of tokens whose pod exists, for the audiences that were asked for.
async fn review(State(cluster): State<Arc<Cluster>>, headers: HeaderMap, Json(asked): Json<Value>) -> (StatusCode, Json<Value>) {
    if headers.get("authorization").is_none_or(|token| token != "Bearer reviewer") {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403 });
        return (StatusCode::FORBIDDEN, Json(status));
    }
    cluster.asked.lock().unwrap().push(asked.clone());
    let own = claims(asked["spec"]["token"].as_str().unwrap());
    let bound = &own["kubernetes.io"];
    let exists = cluster.pods.lock().unwrap().contains(bound["pod"]["uid"].as_str().unwrap());
    let status = if exists {
        json!({
            "authenticated": true,
            "audiences": asked["spec"]["audiences"],
            "user": {
                "username": own["sub"], "uid": bound["serviceaccount"]["uid"],
                "groups": ["system:serviceaccounts", "system:serviceaccounts:agents", "system:authenticated"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": [bound["pod"]["name"]],
                    "authentication.kubernetes.io/pod-uid": [bound["pod"]["uid"]],
                    "authentication.kubernetes.io/credential-id": [format!("JTI={}", own["jti"].as_str().unwrap())],
                },
            },
        })
    } else {
        json!({ "user": {}, "error": "[invalid bearer token, service account token has been invalidated]" })
    };
    let status = cluster.lie.lock().unwrap().as_ref().map_or(status.clone(), |lie| patched(status, lie));
    let answer =
        json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": asked["spec"], "status": status });
    let code = cluster.status.lock().unwrap().unwrap_or(StatusCode::CREATED);
    (code, Json(answer))
}

/// The cluster's keys, for who shows a token of its own, as a cluster without anonymous access wants it.
async fn keys(State(cluster): State<Arc<Cluster>>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    if headers.get("authorization").is_none_or(|token| token != "Bearer reviewer") {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    (StatusCode::OK, Json(json!({ "keys": *cluster.keys.lock().unwrap() })))
}

async fn cluster() -> (Arc<Cluster>, Authority, String) {
    let cluster = Arc::new(Cluster::default());
    let router = Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
        .route("/openid/v1/jwks", get(keys))
        .with_state(Arc::clone(&cluster));
    let authority = Authority::new();
    let address = authority.serve(router).await;
    (cluster, authority, format!("https://localhost:{}", address.port()))
}

async fn world(url: &str, authority: &Authority, review: &str) -> World {
    let issuers = format!(
        "[[issuer]]\nname = \"cluster\"\nkind = \"kubernetes\"\nissuer = \"{CLUSTER}\"\njwks_uri = \"{url}/openid/v1/jwks\"\n\
         ca_file = \"ca.pem\"\ntoken_file = \"reviewer\"\n{review}\n"
    );
    let federation = "[[agent.federation]]\nissuer = \"cluster\"\nclaims = { sub = \"system:serviceaccount:agents:bot\", \
                      \"kubernetes.io.serviceaccount.uid\" = \"6f7b1c3a\" }\n";
    let world = World::federated(&issuers, federation, "").await;
    authority.write(&world.directory.path().join("ca.pem"));
    std::fs::write(world.directory.path().join("reviewer"), "reviewer\n").unwrap();
    world
}

fn projected(world: &World, pod: &str) -> Value {
    let now = world.clock.seconds();
    json!({
        "iss": CLUSTER, "sub": "system:serviceaccount:agents:bot", "aud": [ISSUER], "iat": now, "nbf": now, "exp": now + 3600,
        "jti": unique(),
        "kubernetes.io": {
            "namespace": "agents", "serviceaccount": { "name": "bot", "uid": "6f7b1c3a" },
            "pod": { "name": "bot-7d4", "uid": pod }, "node": { "name": "n1", "uid": "n-1" }, "warnafter": now + 3000,
        },
    })
}

#[tokio::test]
async fn a_projected_token_is_accepted_offline_and_each_wrong_one_refused() {
    let (cluster, authority, url) = cluster().await;
    let signing = Signing::rsa();
    *cluster.keys.lock().unwrap() = vec![signing.jwk("a")];
    let world = world(&url, &authority, "").await;
    let right = projected(&world, "pod-1");
    let reply = by_workload(&world, &signing.token("a", &right)).await;
    assert_eq!((reply.status, reply.claims()["client_id"].as_str()), (200, Some(BOT)), "{:?}", world.refusals());
    let bound = |patch: Value| json!({ "kubernetes.io": patch });
    for (case, patch) in [
        ("for the API server itself", json!({ "aud": ["https://kubernetes.default.svc"] })),
        ("for the API server too", json!({ "aud": [ISSUER, "https://kubernetes.default.svc"] })),
        ("another account", json!({ "sub": "system:serviceaccount:agents:other" })),
        ("another account of that name", bound(json!({ "serviceaccount": { "uid": "0" } }))),
        ("another namespace", json!({ "sub": "system:serviceaccount:evil:bot", "kubernetes.io": { "namespace": "evil" } })),
        ("a namespace that its subject does not say", bound(json!({ "namespace": "evil" }))),
        ("a user of that name", json!({ "sub": "system:serviceaccount:agents:bot", "kubernetes.io": null })),
        ("an account without uid", bound(json!({ "serviceaccount": { "uid": null } }))),
        ("without an end, as of a secret", json!({ "exp": null })),
        ("a token of a secret", json!({ "kubernetes.io/serviceaccount/secret.name": "bot-token-x", "kubernetes.io": null })),
        ("a token of a secret with new claims", json!({ "kubernetes.io/serviceaccount/namespace": "agents" })),
        ("the issuer of secrets", json!({ "iss": "kubernetes/serviceaccount" })),
        ("no time of issue", json!({ "iat": null })),
        ("a year", json!({ "exp": world.clock.seconds() + 365 * 86_400 })),
        ("another cluster", json!({ "iss": "https://kubernetes.default.svc" })),
        ("a list for its subject", json!({ "sub": ["system:serviceaccount:agents:bot"] })),
    ] {
        let token = signing.token("a", &patched(right.clone(), &patch));
        assert_eq!(by_workload(&world, &token).await.error(), "invalid_grant", "{case}");
        world.clock.forward(1);
    }
    let person = signing.token("a", &right);
    let reply = world.ask(&[("grant_type", EXCHANGE), ("subject_token", &person), ("subject_token_type", JWT)]).await;
    assert_eq!(reply.error(), "invalid_request", "a service account is no person");
    assert!(cluster.asked.lock().unwrap().is_empty(), "nobody is asked without `review`");
}

#[tokio::test]
async fn a_deleted_pods_token_is_refused_at_the_start_and_at_renewal() {
    let (cluster, authority, url) = cluster().await;
    let signing = Signing::ecdsa("P-256");
    *cluster.keys.lock().unwrap() = vec![signing.jwk("a")];
    let world = world(&url, &authority, &format!("review = {{ url = \"{url}\" }}")).await;
    cluster.pods.lock().unwrap().insert("pod-1".to_owned());
    let (here, gone) = (signing.token("a", &projected(&world, "pod-1")), signing.token("a", &projected(&world, "pod-2")));
    let first = by_workload(&world, &here).await;
    assert_eq!(first.status, 200, "{:?}", world.refusals());
    {
        let asked = cluster.asked.lock().unwrap();
        assert_eq!((asked.len(), &asked[0]["spec"]["audiences"], &asked[0]["spec"]["token"]), (1, &json!([ISSUER]), &json!(here)));
    }
    assert_eq!(by_workload(&world, &gone).await.error(), "invalid_grant");
    let detail = world.refusals().pop().unwrap().detail;
    assert!(detail.contains("may be gone") && !detail.contains(&gone), "{detail}");

    let renew = async || {
        let form = [
            ("grant_type", EXCHANGE),
            ("subject_token", first.token()),
            ("subject_token_type", ACCESS_TOKEN),
            ("client_assertion_type", CLIENT_ASSERTION),
            ("client_assertion", here.as_str()),
        ];
        world.post("/token", &form, Some(&world.proof())).await
    };
    assert_eq!(renew().await.status, 200);
    for (case, lie) in [
        ("not for us", json!({ "audiences": ["https://kubernetes.default.svc"] })),
        ("a server that knows no audiences", json!({ "audiences": null })),
        ("no audiences", json!({ "audiences": [] })),
        ("not authenticated", json!({ "authenticated": false })),
        ("a text for a truth", json!({ "authenticated": "true" })),
        ("an error beside", json!({ "error": "x" })),
        ("another account", json!({ "user": { "username": "system:serviceaccount:agents:other" } })),
        ("another account of that name", json!({ "user": { "uid": "0" } })),
        ("another pod", json!({ "user": { "extra": { "authentication.kubernetes.io/pod-uid": ["pod-3"] } } })),
    ] {
        *cluster.lie.lock().unwrap() = Some(lie);
        assert_eq!(renew().await.error(), "invalid_client", "{case}");
        world.clock.forward(1);
    }
    *cluster.lie.lock().unwrap() = None;
    for status in [StatusCode::ACCEPTED, StatusCode::FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
        *cluster.status.lock().unwrap() = Some(status);
        assert_eq!(renew().await.error(), "invalid_client", "{status}");
    }
    *cluster.status.lock().unwrap() = None;
    // Who may not ask gets no answer, and nobody is believed without one.
    std::fs::write(world.directory.path().join("reviewer"), "somebody\n").unwrap();
    assert_eq!(renew().await.error(), "invalid_client");
    assert!(world.refusals().pop().unwrap().detail.contains("system:auth-delegator"));
    std::fs::write(world.directory.path().join("reviewer"), "reviewer\n").unwrap();
    assert_eq!(renew().await.status, 200);
    cluster.pods.lock().unwrap().clear();
    assert_eq!(renew().await.error(), "invalid_client", "the pod was deleted while its execution went on");
}
