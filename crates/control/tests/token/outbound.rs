//! Tokens for others: who gets one, what it says, and what an execution must not have read before.

use bailiwick_core::bundle;
use bailiwick_core::ledger::Labels;

use super::*;

const AWS: &str = "sts.amazonaws.com";
const AZURE: &str = "api://AzureADTokenExchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const OUTBOUND: &str = r#"
[[agent.outbound]]
audience = "sts.amazonaws.com"
tags = { agent = "{agent}", team = "billing", person = "{subject}" }
source_identity = "subject"
[[agent.outbound]]
audience = "api://AzureADTokenExchange"
algorithm = "ES256"
ttl = "1h"
after_untrusted = true
"#;

async fn world() -> World {
    World::federated("", OUTBOUND, "").await
}

async fn exchange(world: &World, token: &str, audience: &str) -> Reply {
    exchange_for(world, token, &[("audience", audience), ("requested_token_type", JWT)]).await
}

async fn exchange_for(world: &World, token: &str, more: &[(&str, &str)]) -> Reply {
    let mut form = vec![("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", ACCESS_TOKEN)];
    form.extend(more);
    world.ask(&form).await
}

fn execution(world: &World, reply: &Reply) -> std::sync::Arc<bailiwick_core::execution::Execution> {
    world.executions.find(reply.body["execution"].as_str().unwrap().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_cloud_reads_a_token_of_ours_by_what_is_published_alone() {
    let world = world().await;
    let first = world.ask(&[]).await;
    let issued = exchange(&world, first.token(), AWS).await;
    assert_eq!((issued.status, issued.body["token_type"].as_str()), (200, Some("N_A")), "{issued:?}");
    assert_eq!((issued.body["issued_token_type"].as_str(), issued.body["expires_in"].as_i64()), (Some(JWT), Some(300)));

    // As a cloud does it: the discovery document, the key set that it names, the key of the token's `kid`.
    let discovery = world.get("/.well-known/openid-configuration").await.body;
    for member in ["issuer", "jwks_uri", "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported"] {
        assert!(discovery[member].is_string() || discovery[member].as_array().is_some_and(|values| !values.is_empty()), "{member}");
    }
    let path = discovery["jwks_uri"].as_str().unwrap().strip_prefix(discovery["issuer"].as_str().unwrap()).unwrap();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(world.get(path).await.body).unwrap();
    let header = jsonwebtoken::decode_header(issued.token()).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (jsonwebtoken::Algorithm::RS256, Some("JWT")));
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(header.kid.as_deref().unwrap()).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&[AWS]);
    validation.set_issuer(&[discovery["issuer"].as_str().unwrap()]);
    validation.validate_exp = false; // the test's clock is not the machine's
    let claims = jsonwebtoken::decode::<Value>(issued.token(), &key, &validation).unwrap().claims;
    assert_eq!((claims["sub"].as_str(), claims["aud"].as_str()), (Some(BOT), Some(AWS)), "one audience, as a text");
    let now = world.clock.seconds();
    assert_eq!(["iat", "nbf", "exp"].map(|name| claims[name].as_i64().unwrap()), [now, now, now + 300]);
    let tags = &claims["https://aws.amazon.com/tags"];
    assert_eq!(tags["principal_tags"], json!({ "agent": ["bot"], "team": ["billing"], "person": ["bot"] }));
    assert_eq!(tags["transitive_tag_keys"], json!(["agent", "person", "team"]));
    assert_eq!(claims["https://aws.amazon.com/source_identity"], "bot");
    let nested =
        claims.as_object().unwrap().iter().filter(|(name, claim)| !name.starts_with("https://") && !claim.is_string() && !claim.is_i64());
    assert_eq!(nested.count(), 0, "{claims}");

    let Some(Record::TokenIssued(record)) = world.records().pop() else { panic!("{:?}", world.records()) };
    assert_eq!((record.agent.as_str(), record.audience.as_str(), json!(record.token)), ("bot", AWS, claims["jti"].clone()));
    assert_eq!((json!(record.execution), json!(record.by)), (first.body["execution"].clone(), first.claims()["jti"].clone()));

    let azure = exchange_for(&world, first.token(), &[("audience", AZURE), ("requested_token_type", ID_TOKEN)]).await;
    assert_eq!((azure.status, azure.body["issued_token_type"].as_str()), (200, Some(ID_TOKEN)), "{azure:?}");
    assert_eq!(jsonwebtoken::decode_header(azure.token()).unwrap().alg, jsonwebtoken::Algorithm::ES256);
    assert_eq!(
        (azure.claims()["sub"].as_str(), azure.body["expires_in"].as_i64()),
        (Some(BOT), Some(3600)),
        "the same `sub`, and the hour that the execution has left"
    );
    world.clock.forward(100);
    let later = exchange(&world, first.token(), AZURE).await;
    assert_eq!(later.body["expires_in"].as_i64(), Some(3500), "never past the execution's end");

    // It is nothing here: neither a credential, nor to be exchanged again, nor to be delegated by.
    for kind in [ACCESS_TOKEN, JWT, ID_TOKEN] {
        let form = [("grant_type", EXCHANGE), ("subject_token", issued.token()), ("subject_token_type", kind)];
        let reply = world.ask(&form).await;
        assert_eq!((reply.status, reply.error()), (400, "invalid_request"), "{kind}: {reply:?}");
    }
}

#[tokio::test]
async fn nobody_gets_a_token_for_others_that_the_bundle_does_not_name() {
    let world = world().await;
    let first = world.ask(&[]).await;
    for (case, more, error) in [
        ("an audience that is not declared", vec![("audience", "sts.evil.example")], "invalid_target"),
        ("two audiences", vec![("audience", AWS), ("audience", AZURE)], "invalid_target"),
        ("no audience", vec![], "invalid_target"),
        ("a resource beside it", vec![("audience", AWS), ("resource", GATEWAY)], "invalid_target"),
        ("a resource in its place", vec![("resource", AWS)], "invalid_target"),
        ("in other case", vec![("audience", "STS.amazonaws.com")], "invalid_target"),
    ] {
        let reply = exchange_for(&world, first.token(), &[&more[..], &[("requested_token_type", JWT)]].concat()).await;
        assert_eq!((reply.status, reply.error()), (400, error), "{case}: {reply:?}");
    }
    let refresh = exchange_for(
        &world,
        first.token(),
        &[("audience", AWS), ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")],
    );
    assert_eq!(refresh.await.error(), "invalid_request");
    // Without the type it asks for a credential of ours, and there is no such server.
    assert_eq!(exchange_for(&world, first.token(), &[("audience", AWS)]).await.error(), "invalid_target");

    let stolen = {
        let assertion = world.other.sign(&json!({ "alg": "ES256", "kid": "k1" }), &world.claims("spiffe://acme.example/agent/other"));
        let form = [
            ("client_assertion_type", CLIENT_ASSERTION),
            ("client_assertion", assertion.as_str()),
            ("grant_type", EXCHANGE),
            ("subject_token", first.token()),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", AWS),
            ("requested_token_type", JWT),
        ];
        world.post("/token", &form, Some(&world.proof())).await
    };
    assert_eq!((stolen.status, stolen.error()), (400, "invalid_request"), "another agent's credential");
    let assertion = world.assertion();
    let form = [
        ("client_assertion_type", CLIENT_ASSERTION),
        ("client_assertion", assertion.as_str()),
        ("grant_type", EXCHANGE),
        ("subject_token", first.token()),
        ("subject_token_type", ACCESS_TOKEN),
        ("audience", AWS),
        ("requested_token_type", JWT),
    ];
    assert_eq!(world.post("/token", &form, None).await.error(), "invalid_dpop_proof", "without the key");
    assert!(world.records().iter().all(|record| !matches!(record, Record::TokenIssued(_))));
}

#[tokio::test]
async fn what_an_execution_may_not_do_here_it_gets_no_token_to_do_elsewhere() {
    let world = world().await;
    let query = json!([{ "type": "tool_call", "identifier": "crm/query" }]).to_string();
    let narrow = world.ask(&[("authorization_details", &query)]).await;
    assert_eq!(exchange(&world, narrow.token(), AWS).await.error(), "invalid_target", "a grant that names tools");

    let read = world.ask(&[]).await;
    execution(&world, &read).ended(0, &Labels::undeclared());
    let refused = exchange(&world, read.token(), AWS).await;
    assert_eq!(refused.error(), "invalid_target", "untrusted data was read");
    assert!(refused.body["error_description"].as_str().unwrap().contains("third party"), "{refused:?}");
    assert_eq!(exchange(&world, read.token(), AZURE).await.status, 200, "unless the bundle says so");

    let secret = world.ask(&[]).await;
    let labels = Labels { confidentiality: ["secret".into()].into(), ..Labels::default() };
    execution(&world, &secret).ended(0, &labels);
    assert_eq!(exchange(&world, secret.token(), AWS).await.error(), "invalid_target", "confidential data was read");

    let revoked = world.ask(&[]).await;
    execution(&world, &revoked).stop();
    assert_eq!(exchange(&world, revoked.token(), AWS).await.error(), "invalid_request", "a revoked execution");
}

#[tokio::test]
async fn an_agent_that_acts_for_another_has_tokens_only_for_whom_both_have() {
    let world = world().await;
    let first = world.ask(&[]).await;
    let other = "spiffe://acme.example/agent/other";
    let as_other = async |form: &[(&str, &str)]| {
        let assertion = world.other.sign(&json!({ "alg": "ES256", "kid": "k1" }), &world.claims(other));
        let form = [&[("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)], form].concat();
        world.post("/token", &form, Some(&world.proof())).await
    };
    let exchanged = async |bot: &str, other: &str| {
        let mut files = world.sources.clone();
        for (name, outbound) in [("agents/bot.toml", bot), ("agents/other.toml", other)] {
            let text = String::from_utf8(files[name].clone()).unwrap().replace(OUTBOUND, "");
            files.insert(name.to_owned(), format!("{text}\n{outbound}").into_bytes());
        }
        world.bundle.activate(bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot);
        let delegated = exchange_for(&world, first.token(), &[("audience", "spiffe://acme.example/agent/other")]).await;
        let redeemed = as_other(&[("grant_type", EXCHANGE), ("subject_token", delegated.token()), ("subject_token_type", JWT)]).await;
        let form = [
            ("grant_type", EXCHANGE),
            ("subject_token", redeemed.token()),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", AWS),
            ("requested_token_type", JWT),
        ];
        as_other(&form).await
    };
    assert_eq!(exchanged("", OUTBOUND).await.error(), "invalid_target", "the one above has none");
    assert_eq!(exchanged(OUTBOUND, "").await.error(), "invalid_target", "the one that acts has none");
    let both = exchanged(OUTBOUND, OUTBOUND).await;
    let claims = both.claims();
    assert_eq!((claims["sub"].as_str(), claims["chain"].as_str()), (Some(other), Some("bot")), "{both:?}");
}
