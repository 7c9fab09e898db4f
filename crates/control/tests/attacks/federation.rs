//! Attacks by and through other issuers: their tokens in the wrong place, their keys and documents. The table of
//! `docs/attacks.md` says where each is described.

use std::sync::Arc;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use bailiwick_core::bundle;
use serde_json::json;

use super::support::*;
use super::vouch::{Authority, House, Signing, patched};
use super::{Provider, by_workload};

#[tokio::test]
async fn a_token_that_is_also_for_another_is_not_taken() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    for aud in [
        json!([ISSUER, "https://b.example"]),
        json!(["https://b.example", ISSUER]),
        json!([ISSUER, ISSUER]),
        json!([]),
        json!({ "aud": ISSUER }),
        json!(format!("{ISSUER}/")),
        json!(format!("{ISSUER}/token")),
    ] {
        let reply = by_workload(&world, &provider.workload(&world, json!({ "aud": aud }))).await;
        assert_eq!(reply.error(), "invalid_grant", "{aud}: {reply:?}");
        let person = provider.token(&world, "a", json!({ "aud": aud }));
        let reply = world.ask(&[("grant_type", EXCHANGE), ("subject_token", &person), ("subject_token_type", JWT)]).await;
        assert_eq!(reply.error(), "invalid_request", "{aud}: {reply:?}");
    }
    for exp in [json!(1e300), json!(u64::MAX), json!(world.clock.seconds() + 90_000)] {
        let reply = by_workload(&world, &provider.workload(&world, json!({ "exp": exp }))).await;
        assert_eq!(reply.error(), "invalid_grant", "living until {exp}: {reply:?}");
    }
    assert_eq!(world.executions.len(), 0);
    assert_eq!(by_workload(&world, &provider.workload(&world, json!({ "aud": [ISSUER] }))).await.status, 200, "an array of one");
}

#[tokio::test]
async fn one_kid_of_two_issuers_is_two_keys() {
    let (ours, theirs) = (Provider::start().await, Provider::start().await);
    let second = theirs.declared().replace("\"idp\"", "\"second\"");
    let world = World::start(&format!("{}{second}", ours.declared())).await;
    // Signed by the second under the same `kid`, and said to be of the first, whose word is the one that counts.
    let forged = theirs.workload(&world, json!({ "iss": ours.url }));
    assert_eq!(by_workload(&world, &forged).await.error(), "invalid_grant");
    // Truly the second's, with the claims of an agent that only the first may vouch for.
    assert_eq!(by_workload(&world, &theirs.workload(&world, json!({}))).await.error(), "invalid_grant");
    for iss in [format!("{}/", ours.url), ours.url.to_uppercase(), format!(" {}", ours.url), String::new()] {
        assert_eq!(by_workload(&world, &ours.workload(&world, json!({ "iss": iss }))).await.error(), "invalid_grant", "{iss}");
    }
    assert_eq!(world.executions.len(), 0);
    // Two issuers' people of one name are two people.
    for (provider, name) in [(&ours, "idp:ana"), (&theirs, "second:ana")] {
        let person = provider.token(&world, "a", json!({}));
        let reply = world.ask(&[("grant_type", EXCHANGE), ("subject_token", &person), ("subject_token_type", JWT)]).await;
        assert_eq!(reply.claims()["sub"], name);
    }
}

#[tokio::test]
async fn a_token_in_anothers_place_is_exchanged_for_nothing() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let (person, workload) = (provider.token(&world, "a", json!({})), provider.workload(&world, json!({})));
    let own = world.ask(&[]).await.token().to_owned();
    let (assertion, proof) = (world.assertion(), world.proof());
    for (case, subject, subject_type, actor, actor_type) in [
        ("swapped", &workload, JWT, &person, JWT),
        ("a person on both sides", &person, JWT, &person, JWT),
        ("the agent on both sides", &workload, JWT, &workload, JWT),
        ("a person's token said to be ours", &person, ACCESS_TOKEN, &workload, JWT),
        ("ours said to be a person's", &own, JWT, &workload, JWT),
        ("ours as the actor", &person, JWT, &own, JWT),
        ("an actor of another type", &person, JWT, &workload, ACCESS_TOKEN),
        ("a client's assertion as the subject", &assertion, JWT, &workload, JWT),
        ("a client's assertion as the actor", &person, JWT, &assertion, JWT),
        ("a proof as the subject", &proof, JWT, &workload, JWT),
        ("a type of SAML", &person, "urn:ietf:params:oauth:token-type:saml2", &workload, JWT),
        ("a refresh token", &person, "urn:ietf:params:oauth:token-type:refresh_token", &workload, JWT),
    ] {
        let form = [
            ("grant_type", EXCHANGE),
            ("subject_token", subject.as_str()),
            ("subject_token_type", subject_type),
            ("actor_token", actor),
            ("actor_token_type", actor_type),
        ];
        let reply = world.post("/token", &form, Some(&world.proof())).await;
        assert_eq!((reply.status, reply.error()), (400, "invalid_request"), "{case}: {reply:?}");
    }
    // An agent with a key of its own, and another's platform token as the actor.
    let other = world.other.sign(&json!({ "alg": "ES256", "kid": "k1" }), &world.claims("other"));
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token", person.as_str()),
        ("subject_token_type", JWT),
        ("actor_token", workload.as_str()),
        ("actor_token_type", JWT),
        ("client_assertion_type", CLIENT_ASSERTION),
        ("client_assertion", other.as_str()),
    ];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.error(), "invalid_request");
    // A person proves no client, by either grant.
    assert_eq!(by_workload(&world, &person).await.error(), "invalid_grant");
    let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", person.as_str())];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.error(), "invalid_client");
    assert_eq!(world.executions.len(), 1);
}

#[tokio::test]
async fn a_persons_name_that_hides_something_is_refused() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let exchange = async |sub: serde_json::Value| {
        let person = provider.token(&world, "a", json!({ "sub": sub }));
        world.ask(&[("grant_type", EXCHANGE), ("subject_token", &person), ("subject_token_type", JWT)]).await
    };
    for sub in ["an\u{200b}a", "\u{202e}ana", "ana\u{feff}", "ana\u{e0041}", "a\u{ad}na", "ana\u{2028}", "ana\0", "\u{1b}[1mana", "ana\r\n"]
    {
        assert_eq!(exchange(json!(sub)).await.error(), "invalid_request", "{sub:?}");
    }
    for sub in [json!(["ana"]), json!(5), json!(""), json!("x".repeat(257))] {
        assert_eq!(exchange(sub.clone()).await.error(), "invalid_request", "{sub}");
    }
    assert_eq!(exchange(json!("анна@acme.example")).await.claims()["sub"], "idp:анна@acme.example");
}

#[tokio::test]
async fn an_issuers_document_leads_to_no_inner_address() {
    let provider = Provider::start().await;
    let inner = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::start(&provider.declared()).await;
    for keys in [
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://[fd00:ec2::254]/latest".to_owned(),
        "https://[::ffff:10.0.0.1]/keys".to_owned(),
        "https://192.168.0.1/keys".to_owned(),
        "http://b.example/keys".to_owned(),
        format!("http://user@{}/keys", inner.local_addr().unwrap()),
        format!("ftp://{}/keys", inner.local_addr().unwrap()),
        "file:///etc/passwd".to_owned(),
        "/keys".to_owned(),
    ] {
        // As long as it takes until the document is read again.
        world.clock.forward(31);
        *provider.jwks_uri.lock().unwrap() = Some(keys.clone());
        assert_eq!(by_workload(&world, &provider.workload(&world, json!({}))).await.error(), "invalid_grant", "{keys}");
        let detail = world.refusals().pop().unwrap().detail;
        assert!(detail.contains("is not fetched") || detail.contains("no address that may be reached"), "{keys}: {detail}");
    }
    let asked = tokio::time::timeout(std::time::Duration::ZERO, inner.accept()).await;
    assert!(asked.is_err(), "an inner server was asked");
}

#[tokio::test]
async fn a_platforms_token_brings_no_keys_of_its_own() {
    let (signing, evil) = (Signing::rsa(), Signing::ecdsa("P-256"));
    let house = House::publishing(vec![signing.jwk("a")]).await;
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuers = format!(
        "[[issuer]]\nname = \"idp\"\nissuer = \"https://token.actions.githubusercontent.com\"\njwks_uri = \"{}/keys\"\nca_file = \"ca.pem\"\n",
        house.url()
    );
    let world = World::start(&issuers).await;
    house.authority.write(&world.directory.path().join("ca.pem"));
    let now = world.clock.seconds();
    let claims = json!({
        "iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/bot:ref:refs/heads/main", "aud": ISSUER, "iat": now,
        "exp": now + 300, "repository": "acme/bot", "repository_id": "8842", "repository_owner_id": "17",
    });
    assert_eq!(by_workload(&world, &signing.token("a", &claims)).await.status, 200, "{:?}", world.refusals());
    let at = format!("https://localhost:{}/keys", trap.local_addr().unwrap().port());
    for header in [
        json!({ "jwk": evil.jwk("a") }),
        json!({ "jku": at }),
        json!({ "x5u": at }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "kid": at }),
        json!({ "kid": "a", "jku": at, "x5u": at, "jwk": evil.jwk("a") }),
    ] {
        for alg in ["ES256", "RS256", "none", "HS256"] {
            let header = patched(json!({ "alg": alg, "typ": "JWT" }), &header);
            assert_eq!(by_workload(&world, &evil.token_with(&header, &claims)).await.error(), "invalid_grant", "{header}");
        }
        world.clock.forward(31);
    }
    assert!(tokio::time::timeout(std::time::Duration::ZERO, trap.accept()).await.is_err(), "somebody's address was asked for keys");
    // The true signer may write the same into its header; it says nothing.
    let header = json!({ "alg": "RS256", "kid": "a", "jku": at, "jwk": evil.jwk("a") });
    let claims = patched(claims, &json!({ "exp": world.clock.seconds() + 300 }));
    assert_eq!(by_workload(&world, &signing.token_with(&header, &claims)).await.status, 200);
}

#[tokio::test]
async fn an_issuer_that_was_taken_out_vouches_for_nobody() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let token = provider.workload(&world, json!({}));
    assert_eq!(by_workload(&world, &token).await.status, 200);
    let mut files = world.sources.clone();
    files.remove("issuers.toml");
    let agent = String::from_utf8(files["agents/bot.toml"].clone()).unwrap();
    let tables: Vec<&str> = agent.split_inclusive('\n').collect();
    let tables: Vec<&[&str]> = tables.chunk_by(|_, next| !next.starts_with('[')).collect();
    let agent: String = tables.into_iter().filter(|table| !table.contains(&"issuer = \"idp\"\n")).flatten().copied().collect();
    files.insert("agents/bot.toml".to_owned(), agent.into_bytes());
    world.bundle.activate(bundle::read(&files).unwrap().snapshot);
    assert_eq!(by_workload(&world, &token).await.error(), "invalid_grant");
    // And one that comes back under the name with other keys is another.
    let other = Provider::start().await;
    let mut files = world.sources.clone();
    files.insert("issuers.toml".to_owned(), other.declared().into_bytes());
    world.bundle.activate(bundle::read(&files).unwrap().snapshot);
    assert_eq!(by_workload(&world, &token).await.error(), "invalid_grant");
    assert_eq!(by_workload(&world, &other.workload(&world, json!({}))).await.status, 200);
}

#[tokio::test]
async fn no_url_of_an_issuer_leads_inside() {
    let inner = Authority::new();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let count = async move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        axum::Json(json!({ "keys": [] }))
    };
    let port = inner.serve(Router::new().fallback(get(count))).await.port();
    let front = Authority::new();
    let redirect = Router::new().fallback(get(async move || Redirect::temporary(&format!("https://localhost:{port}/keys"))));
    let redirect = front.serve(redirect).await.port();
    let signing = Signing::ecdsa("P-256");
    let federation = "[[agent.federation]]\nissuer = \"idp\"\nclaims = { repository_id = \"8842\" }\n";
    let spiffe = "[[agent.federation]]\nissuer = \"idp\"\nclaims = { sub = \"spiffe://prod.example/bot\" }\n";
    for (case, issuer) in [
        ("mapped", "issuer = \"https://idp.example\"\njwks_uri = \"https://[::ffff:169.254.169.254]/keys\"".to_owned()),
        ("compatible", "issuer = \"https://idp.example\"\njwks_uri = \"https://[::a9fe:a9fe]/keys\"".to_owned()),
        ("NAT64", "issuer = \"https://idp.example\"\njwks_uri = \"https://[64:ff9b::a9fe:a9fe]/keys\"".to_owned()),
        ("6to4", "issuer = \"https://idp.example\"\njwks_uri = \"https://[2002:a9fe:a9fe::]/keys\"".to_owned()),
        ("link-local", "issuer = \"https://idp.example\"\njwks_uri = \"https://[fe80::1]/keys\"".to_owned()),
        ("a cloud's metadata", "issuer = \"https://idp.example\"\njwks_uri = \"https://[fd00:ec2::254]/keys\"".to_owned()),
        ("nowhere", "issuer = \"https://idp.example\"\njwks_uri = \"https://0.0.0.0/keys\"".to_owned()),
        (
            "a redirect",
            format!("issuer = \"https://idp.example\"\njwks_uri = \"https://localhost:{redirect}/keys\"\nca_file = \"front.pem\""),
        ),
        ("discovery by redirect", format!("issuer = \"https://localhost:{redirect}\"\nca_file = \"front.pem\"")),
        ("a bundle endpoint", "issuer = \"spiffe://prod.example\"\njwks_uri = \"https://[::ffff:169.254.169.254]/\"".to_owned()),
        (
            "a bundle endpoint by redirect",
            format!("issuer = \"spiffe://prod.example\"\njwks_uri = \"https://localhost:{redirect}/\"\nca_file = \"front.pem\""),
        ),
    ] {
        let is_spiffe = issuer.contains("spiffe");
        let world =
            World::federated(&format!("[[issuer]]\nname = \"idp\"\n{issuer}\n"), if is_spiffe { spiffe } else { federation }, "").await;
        front.write(&world.directory.path().join("front.pem"));
        let now = world.clock.seconds();
        let iss = issuer.split('"').nth(1).unwrap();
        let sub = if is_spiffe { "spiffe://prod.example/bot" } else { "bot" };
        let claims = json!({ "iss": iss, "sub": sub, "aud": ISSUER, "iat": now, "exp": now + 300, "repository_id": "8842" });
        assert_eq!(by_workload(&world, &signing.token("a", &claims)).await.error(), "invalid_grant", "{case}");
        let detail = world.refusals().pop().unwrap().detail;
        let why = if case.contains("redirect") { "answered 307" } else { "no address that may be reached" };
        assert!(detail.contains(why), "{case}: {detail}");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0, "an inner server was asked");
}
