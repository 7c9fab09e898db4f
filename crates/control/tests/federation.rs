//! Tokens of other issuers, fetched keys and all: workloads that prove an agent, and people on whose behalf it acts.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, also in its helpers")]

#[cfg(test)]
#[path = "attacks/federation.rs"]
mod attacks;
#[cfg(test)]
#[path = "federation/aws.rs"]
mod aws;
#[cfg(test)]
#[path = "federation/id_jag.rs"]
mod id_jag;
#[cfg(test)]
#[path = "federation/kubernetes.rs"]
mod kubernetes;
#[cfg(test)]
#[path = "federation/local.rs"]
mod local;
#[cfg(test)]
#[path = "attacks/people.rs"]
mod people;
#[cfg(test)]
#[path = "federation/platforms.rs"]
mod platforms;
#[cfg(test)]
#[path = "attacks/sign_in.rs"]
mod sign_in;
#[cfg(test)]
#[path = "attacks/signals.rs"]
mod signal_attacks;
#[cfg(test)]
#[path = "federation/signals.rs"]
mod signals;
#[cfg(test)]
#[path = "federation/spiffe.rs"]
mod spiffe;
#[cfg(test)]
mod support;
#[cfg(test)]
#[path = "federation/vouch.rs"]
mod vouch;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use bailiwick_core::model::Record;
use serde_json::{Value, json};
use support::*;

/// Another issuer, with a discovery document and keys that it may exchange.
struct Provider {
    url: String,
    keys: Arc<Mutex<Vec<(String, Key)>>>,
    /// How often its keys were read.
    read: Arc<AtomicUsize>,
    /// The `issuer` that its document names.
    named: Arc<Mutex<String>>,
    /// Where its document says that its keys are, when that is not the truth.
    jwks_uri: Arc<Mutex<Option<String>>>,
}

impl Provider {
    async fn start() -> Self {
        let keys = Arc::new(Mutex::new(vec![("a".to_owned(), Key::new())]));
        let read = Arc::new(AtomicUsize::new(0));
        let named = Arc::new(Mutex::new(String::new()));
        let jwks_uri = Arc::new(Mutex::new(None));
        let discovery = {
            let (named, jwks_uri) = (Arc::clone(&named), Arc::clone(&jwks_uri));
            move || async move {
                let issuer = named.lock().unwrap().clone();
                let keys = jwks_uri.lock().unwrap().clone().unwrap_or_else(|| format!("{issuer}/keys"));
                axum::Json(json!({ "issuer": issuer, "jwks_uri": keys }))
            }
        };
        let jwks = {
            let (keys, read) = (Arc::clone(&keys), Arc::clone(&read));
            move || async move {
                read.fetch_add(1, Ordering::SeqCst);
                let keys = keys.lock().unwrap();
                let jwks = keys.iter().map(|(kid, key)| {
                    let mut jwk = key.jwk();
                    jwk["kid"] = json!(kid);
                    jwk
                });
                axum::Json(json!({ "keys": jwks.collect::<Vec<_>>() }))
            }
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(jwks))
            .route("/elsewhere", get(|| async { Redirect::temporary("/keys").into_response() }))
            .route("/large", get(|| async { "x".repeat(1 << 20) }));
        let url = format!("http://{}", serve(router).await);
        url.clone_into(&mut named.lock().unwrap());
        Self { url, keys, read, named, jwks_uri }
    }

    fn token(&self, world: &World, kid: &str, more: Value) -> String {
        let now = world.clock.seconds();
        let mut claims = json!({ "iss": self.url, "sub": "ana", "azp": "bot", "aud": ISSUER, "iat": now, "exp": now + 300 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let keys = self.keys.lock().unwrap();
        let key = keys.iter().find(|(known, _)| known == kid).map_or(&keys[0].1, |(_, key)| key);
        key.sign(&json!({ "alg": "ES256", "typ": "JWT", "kid": kid }), &claims)
    }

    fn workload(&self, world: &World, more: Value) -> String {
        let mut claims = json!({ "sub": "repo:acme/bot", "repository_id": "8842" });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.token(world, "a", claims)
    }

    fn declared(&self) -> String {
        format!("[[issuer]]\nname = \"idp\"\nissuer = \"{}\"\n", self.url)
    }
}

async fn by_workload(world: &World, assertion: &str) -> Reply {
    world.post("/token", &[("grant_type", JWT_BEARER), ("assertion", assertion)], Some(&world.proof())).await
}

#[tokio::test]
async fn a_workloads_token_proves_the_agent_whose_claims_it_has_and_no_other() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let reply = by_workload(&world, &provider.workload(&world, json!({}))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.claims()["client_id"], BOT);
    let Some(Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
    assert_eq!((started.proof.as_str(), started.subject), ("federation idp", None));

    let now = world.clock.seconds();
    for (case, more) in [
        ("other claims", json!({ "repository_id": "8843" })),
        ("claims of another type", json!({ "repository_id": ["8842"] })),
        ("another audience", json!({ "aud": "https://b.example" })),
        ("no audience", json!({ "aud": null })),
        ("another issuer", json!({ "iss": "https://b.example" })),
        ("expired", json!({ "exp": now - 31 })),
        ("without an end", json!({ "exp": null })),
        ("not yet valid", json!({ "nbf": now + 120 })),
    ] {
        let reply = by_workload(&world, &provider.workload(&world, more)).await;
        assert_eq!(
            (reply.error(), reply.body["error_description"].as_str()),
            ("invalid_grant", Some("the assertion was not accepted")),
            "{case}"
        );
        assert_eq!(world.refusals().last().unwrap().code, "invalid_grant", "{case}");
        world.clock.forward(1);
    }
    let forged = Key::new().sign(&json!({ "alg": "ES256", "kid": "a" }), &claims(&provider.workload(&world, json!({}))));
    assert_eq!(by_workload(&world, &forged).await.error(), "invalid_grant");

    // The same token as a client's assertion (the other grants, with the platform's word in place of a key).
    let assertion = provider.workload(&world, json!({}));
    let form =
        [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", assertion.as_str())];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.status, 200);
    let form = [&form[..], &[("client_id", "other")]].concat();
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.error(), "invalid_client");
    assert!(provider.read.load(Ordering::SeqCst) <= 2, "keys are kept");
}

#[tokio::test]
async fn an_agent_acts_for_the_person_whose_token_it_shows() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let person = provider.token(&world, "a", json!({}));
    let exchange = async |token: &str| {
        world.ask(&[("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", JWT), ("task", "Summarise")]).await
    };
    let reply = exchange(&person).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let claims = reply.claims();
    assert_eq!((claims["sub"].as_str(), claims["act"]["sub"].as_str()), (Some("idp:ana"), Some(BOT)));
    let Some(Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
    assert_eq!(started.subject.as_deref(), Some("idp:ana"));

    // By the platform's word for the agent, and by the assertion grant.
    let actor = provider.workload(&world, json!({}));
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token", person.as_str()),
        ("subject_token_type", JWT),
        ("actor_token", actor.as_str()),
        ("actor_token_type", JWT),
    ];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.claims()["sub"], "idp:ana");
    assert_eq!(world.ask(&[("grant_type", JWT_BEARER), ("assertion", &person)]).await.claims()["sub"], "idp:ana");

    for (case, token) in [
        ("a workload is no person", actor.clone()),
        ("another may act", provider.token(&world, "a", json!({ "may_act": { "sub": "spiffe://acme.example/agent/other" } }))),
        ("a name that is not printable", provider.token(&world, "a", json!({ "sub": "ana\n" }))),
        ("for another audience", provider.token(&world, "a", json!({ "aud": "https://b.example" }))),
        ("unknown", "x".to_owned()),
    ] {
        let reply = exchange(&token).await;
        assert_eq!(
            (reply.error(), reply.body["error_description"].as_str()),
            ("invalid_request", Some("the subject token was not accepted")),
            "{case}"
        );
        assert_eq!(world.refusals().last().unwrap().agent.as_ref().unwrap().as_str(), "bot", "{case}");
    }
    assert_eq!(exchange(&provider.token(&world, "a", json!({ "may_act": { "sub": BOT } }))).await.status, 200);

    // Nobody acts by a token that was meant for somebody else, or for nobody.
    let other = "spiffe://acme.example/agent/other";
    for (case, claims, may) in [
        ("meant for it by its name", json!({ "azp": "bot" }), true),
        ("by its id", json!({ "azp": BOT }), true),
        ("by the client's id", json!({ "azp": null, "client_id": BOT }), true),
        ("by what the bundle declares", json!({ "azp": "complaints-app" }), true),
        ("by who may act", json!({ "azp": "other-app", "may_act": { "sub": "bot" } }), true),
        ("for nobody", json!({ "azp": null }), false),
        ("for another application", json!({ "azp": "other-app" }), false),
        ("for another agent", json!({ "azp": "other" }), false),
        ("for another agent by its id", json!({ "azp": other }), false),
        ("for another agent, of the declared application", json!({ "azp": "complaints-app", "client_id": other }), false),
        ("another may act", json!({ "may_act": { "sub": other } }), false),
        ("nobody may act", json!({ "may_act": {} }), false),
        ("some may act", json!({ "may_act": [{ "sub": BOT }] }), false),
        ("without a time", json!({ "iat": null }), false),
        ("of the day before yesterday", json!({ "iat": world.clock.seconds() - 86_401 }), false),
    ] {
        let reply = exchange(&provider.token(&world, "a", claims)).await;
        assert_eq!((reply.status, reply.error()), if may { (200, "") } else { (400, "invalid_request") }, "{case}: {reply:?}");
        world.clock.forward(1);
    }
    // What the agent may use, another that got hold of it may not, as itself.
    let claims = world.claims("other");
    let assertion = world.other.sign(&json!({ "alg": "ES256", "kid": "k1" }), &claims);
    let form = [
        ("client_assertion_type", CLIENT_ASSERTION),
        ("client_assertion", assertion.as_str()),
        ("grant_type", EXCHANGE),
        ("subject_token", person.as_str()),
        ("subject_token_type", JWT),
    ];
    let stolen = world.post("/token", &form, Some(&world.proof())).await;
    assert_eq!((stolen.status, stolen.error()), (400, "invalid_request"), "{stolen:?}");
    assert_eq!(world.refusals().last().unwrap().detail, "the token was issued to another agent");

    // When all that is under way for a person is revoked, the person's tokens so far are worth nothing any more.
    let execution = world.executions.find(reply.body["execution"].as_str().unwrap().parse().unwrap()).unwrap();
    let by = || bailiwick_control::token::Reason::of("unix:ops", "left the company");
    let stopped = world.identity.revoke_all(bailiwick_core::model::Revocation::Subject("idp:ana".to_owned()), by()).await.unwrap();
    assert!(stopped.executions > 3 && execution.is_revoked());
    assert_eq!(exchange(&person).await.error(), "invalid_request");
    world.clock.forward(1);
    let again = provider.token(&world, "a", json!({}));
    assert_eq!(exchange(&again).await.status, 200, "a new session of the person's");
    assert_eq!(world.ask(&[("grant_type", EXCHANGE)]).await.error(), "invalid_request");
}

#[tokio::test]
async fn a_new_key_is_read_when_a_token_names_it_and_not_more_often_than_that() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let workload = |kid: &str| provider.token(&world, kid, json!({ "repository_id": "8842" }));
    assert_eq!(by_workload(&world, &workload("a")).await.status, 200);
    assert_eq!(provider.read.load(Ordering::SeqCst), 1);

    // Tokens that name keys that are not there make it read again, but not each of them.
    for n in 0..5 {
        assert_eq!(by_workload(&world, &workload(&format!("x{n}"))).await.error(), "invalid_grant");
    }
    assert_eq!(provider.read.load(Ordering::SeqCst), 1);
    *provider.keys.lock().unwrap() = vec![("b".to_owned(), Key::new())];
    world.clock.forward(31);
    assert_eq!(by_workload(&world, &workload("b")).await.status, 200);
    let old = provider.token(&world, "a", json!({ "repository_id": "8842" }));
    assert_eq!(by_workload(&world, &old).await.error(), "invalid_grant", "the key that is gone");
    assert_eq!(provider.read.load(Ordering::SeqCst), 2);

    // A provider that cannot be read is believed as before for a day.
    "https://b.example".clone_into(&mut provider.named.lock().unwrap());
    world.clock.forward(3600);
    assert_eq!(by_workload(&world, &workload("b")).await.status, 200);
    world.clock.forward(86_400);
    assert_eq!(by_workload(&world, &workload("b")).await.error(), "invalid_grant", "its document names another issuer");
    assert!(world.refusals().last().unwrap().detail.contains("names another issuer"));
}

#[tokio::test]
async fn redirects_and_endless_answers_are_not_keys() {
    let provider = Provider::start().await;
    for (path, why) in [("/elsewhere", "answered 307"), ("/large", "could not be read"), ("/nothing", "answered 404")] {
        let declared = format!("{}jwks_uri = \"{}{path}\"\n", provider.declared(), provider.url);
        let world = World::start(&declared).await;
        assert_eq!(by_workload(&world, &provider.workload(&world, json!({}))).await.error(), "invalid_grant", "{path}");
        let detail = world.refusals().pop().unwrap().detail;
        assert!(detail.contains(why), "{path}: {detail}");
    }
}
