//! The token service over HTTP: who gets a credential, who does not, and what the log says of both.

#[cfg(test)]
#[path = "attacks/token.rs"]
mod attacks;
#[cfg(test)]
#[path = "token/delegation.rs"]
mod delegation;
#[cfg(test)]
#[path = "token/outbound.rs"]
mod outbound;
#[cfg(test)]
mod support;

use bailiwick_core::model::Record;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use support::*;

#[tokio::test]
async fn a_registered_key_gets_a_bound_credential_that_is_on_the_log_first() {
    let world = World::start("").await;
    let reply = world.ask(&[("task", "Summarise the complaints"), ("resource", GATEWAY)]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!((reply.body["token_type"].as_str(), reply.body["expires_in"].as_i64()), (Some("DPoP"), Some(300)));
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(reply.headers.contains_key("dpop-nonce"));

    // A library that is not ours checks the token by the keys that are published.
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(world.get("/jwks").await.body).unwrap();
    let header = jsonwebtoken::decode_header(reply.token()).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(header.kid.as_deref().unwrap()).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&[GATEWAY]);
    validation.set_issuer(&[ISSUER]);
    validation.validate_exp = false; // the test's clock is not the machine's
    let claims = jsonwebtoken::decode::<Value>(reply.token(), &key, &validation).unwrap().claims;
    assert_eq!((claims["sub"].as_str(), claims["client_id"].as_str()), (Some(BOT), Some(BOT)));
    assert_eq!(claims["txn"], reply.body["execution"]);
    assert!(claims["cnf"]["jkt"].is_string() && claims.get("act").is_none());

    let [Record::ExecutionStarted(started)] = &world.records()[..] else { panic!("{:?}", world.records()) };
    assert_eq!(json!(started.execution), claims["txn"]);
    assert_eq!(json!(started.key), claims["cnf"]["jkt"]);
    assert_eq!((started.token.as_str(), started.task.as_deref()), (claims["jti"].as_str().unwrap(), Some("Summarise the complaints")));
    assert_eq!(started.proof, "private_key_jwt k1");
    assert!(world.executions.find(started.execution).is_some());
}

#[tokio::test]
async fn whatever_is_wrong_with_an_assertion_the_answer_is_the_same() {
    let world = World::start("").await;
    let header = json!({ "alg": "ES256", "typ": "client-authentication+jwt", "kid": "k1" });
    let spoilt = |spoil: &dyn Fn(&mut Value, &mut Value)| {
        let (mut header, mut claims) = (header.clone(), world.claims(BOT));
        spoil(&mut header, &mut claims);
        world.bot.sign(&header, &claims)
    };
    let now = world.clock.seconds();
    let unsigned = |alg: &str, signature: &[u8]| {
        let header = json!({ "alg": alg, "typ": "JWT", "kid": "k1" }).to_string();
        format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(world.claims(BOT).to_string()),
            URL_SAFE_NO_PAD.encode(signature)
        )
    };
    let hs256 = {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, world.bot.public());
        let token = unsigned("HS256", b"");
        let signed = token.trim_end_matches('.');
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    let cases: Vec<(&str, String)> = vec![
        ("an unknown client", spoilt(&|_, claims| (claims["iss"], claims["sub"]) = (json!("nobody"), json!("nobody")))),
        (
            "another trust domain",
            spoilt(&|_, claims| {
                (claims["iss"], claims["sub"]) = (json!("spiffe://b.example/agent/bot"), json!("spiffe://b.example/agent/bot"))
            }),
        ),
        ("another's key", world.other.sign(&header, &world.claims(BOT))),
        ("an unknown key", spoilt(&|header, _| header["kid"] = json!("k2"))),
        ("expired", spoilt(&|_, claims| claims["exp"] = json!(now - 31))),
        ("living too long", spoilt(&|_, claims| claims["exp"] = json!(now + 3600))),
        ("without an end", spoilt(&|_, claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("not yet valid", spoilt(&|_, claims| claims["nbf"] = json!(now + 120))),
        ("for the token endpoint", spoilt(&|_, claims| claims["aud"] = json!(format!("{ISSUER}/token")))),
        ("for another issuer", spoilt(&|_, claims| claims["aud"] = json!("https://b.example"))),
        ("for two issuers", spoilt(&|_, claims| claims["aud"] = json!([ISSUER, "https://b.example"]))),
        ("about someone else", spoilt(&|_, claims| claims["sub"] = json!("spiffe://acme.example/agent/other"))),
        ("without an id", spoilt(&|_, claims| drop(claims.as_object_mut().unwrap().remove("jti")))),
        ("of another kind", spoilt(&|header, _| header["typ"] = json!("dpop+jwt"))),
        ("with a critical extension", spoilt(&|header, _| header["crit"] = json!(["exp"]))),
        ("alg none", unsigned("none", b"")),
        ("alg none with a signature", unsigned("none", b"x")),
        ("HS256 with the public key", hs256),
        ("alg of another family", spoilt(&|header, _| header["alg"] = json!("RS256"))),
        ("a claim twice", {
            let claims = world.claims(BOT).to_string();
            world.bot.sign_text(&header.to_string(), &claims.replacen('{', "{\"sub\":\"nobody\",", 1))
        }),
        (
            "a header member twice",
            world.bot.sign_text(&header.to_string().replacen('{', "{\"alg\":\"none\",", 1), &world.claims(BOT).to_string()),
        ),
        ("no token at all", "x".to_owned()),
        ("too long", "x".repeat(20_000)),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for (case, assertion) in &cases {
        // A second each, so that every one of them is on the log.
        world.clock.forward(1);
        let before = world.refusals().len();
        let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", assertion)];
        let reply = world.post("/token", &form, Some(&world.proof())).await;
        assert_eq!((reply.status, reply.error()), (400, "invalid_client"), "{case}: {reply:?}");
        answers.insert(reply.body.to_string());
        let refusals = world.refusals();
        assert_eq!(refusals.len(), before + 1, "{case}");
        let refused = refusals.last().unwrap();
        assert_eq!(
            (refused.stage.as_str(), refused.code.as_str(), refused.peer.as_deref()),
            ("token", "invalid_client", Some("127.0.0.1")),
            "{case}"
        );
        assert!(!refused.detail.is_empty() && !refused.detail.contains("eyJ"), "{case}: {}", refused.detail);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(world.executions.len(), 0);

    let assertion = world.assertion();
    let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.status, 200);
    let reply = world.post("/token", &form, Some(&world.proof())).await;
    assert_eq!(reply.error(), "invalid_client", "a replayed assertion");
    assert!(answers.contains(&reply.body.to_string()));
    assert!(world.refusals().last().unwrap().detail.contains("used before"));
}

#[tokio::test]
async fn a_restart_does_not_make_an_assertion_or_a_proof_new_again() {
    let mut world = World::start("").await;
    world.clock.forward(1);
    let (assertion, proof) = (world.assertion(), world.proof());
    let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
    assert_eq!(world.post("/token", &form, Some(&proof)).await.status, 200);
    world.clock.forward(1);
    world.identity = bailiwick_control::token::Identity::open(world.identity.parts().clone()).unwrap();
    world.address = serve(world.identity.router()).await;
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.error(), "invalid_client");
    let fresh = world.assertion();
    let form = [form[0], form[1], ("client_assertion", &fresh)];
    assert_eq!(world.post("/token", &form, Some(&proof)).await.error(), "use_dpop_nonce");
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.status, 200);
}

#[tokio::test]
async fn proofs_that_do_not_prove_are_refused_and_a_missing_nonce_is_asked_for() {
    let world = World::start("").await;
    let hmac_jwk = json!({ "kty": "oct", "k": "c2VjcmV0" });
    let mut private = world.device.jwk();
    private["d"] = json!("c2VjcmV0");
    let foreign = Key::new().jwk();
    let now = world.clock.seconds();
    let cases: Vec<(&str, &str, Option<String>)> = vec![
        ("missing", "invalid_dpop_proof", None),
        ("no nonce", "use_dpop_nonce", Some(world.proof_with(|_, claims| drop(claims.as_object_mut().unwrap().remove("nonce"))))),
        ("another's nonce", "use_dpop_nonce", Some(world.proof_with(|_, claims| claims["nonce"] = json!("AAAAAAAAAAAAAAAAAAAAAA")))),
        ("another method", "invalid_dpop_proof", Some(world.proof_with(|_, claims| claims["htm"] = json!("GET")))),
        (
            "another address",
            "invalid_dpop_proof",
            Some(world.proof_with(|_, claims| claims["htu"] = json!("http://127.0.0.1:8481/revoke"))),
        ),
        ("another host", "invalid_dpop_proof", Some(world.proof_with(|_, claims| claims["htu"] = json!("https://b.example/token")))),
        ("another time", "invalid_dpop_proof", Some(world.proof_with(|_, claims| claims["iat"] = json!(now - 301)))),
        ("no id", "invalid_dpop_proof", Some(world.proof_with(|_, claims| drop(claims.as_object_mut().unwrap().remove("jti"))))),
        ("another kind", "invalid_dpop_proof", Some(world.proof_with(|header, _| header["typ"] = json!("JWT")))),
        ("another's key", "invalid_dpop_proof", Some(world.proof_with(|header, _| header["jwk"] = foreign))),
        ("a private key", "invalid_dpop_proof", Some(world.proof_with(|header, _| header["jwk"] = private))),
        ("a shared secret", "invalid_dpop_proof", Some(world.proof_with(|header, _| header["jwk"] = hmac_jwk))),
        ("alg none", "invalid_dpop_proof", Some(world.proof_with(|header, _| header["alg"] = json!("none")))),
        ("no token", "invalid_dpop_proof", Some("x".to_owned())),
    ];
    for (case, code, proof) in cases {
        world.clock.forward(0);
        let assertion = world.assertion();
        let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
        let reply = world.post("/token", &form, proof.as_deref()).await;
        assert_eq!((reply.status, reply.error()), (400, code), "{case}: {reply:?}");
        // The nonce of the refusal is one to go on with, and the assertion was not used up.
        let nonce = reply.headers["dpop-nonce"].to_str().unwrap();
        let again = world.proof_with(|_, claims| claims["nonce"] = json!(nonce));
        if code == "use_dpop_nonce" {
            assert_eq!(world.post("/token", &form, Some(&again)).await.status, 200, "{case}");
        }
    }
    let refusals = world.refusals();
    assert!(!refusals.is_empty() && refusals.iter().all(|refused| refused.code == "invalid_dpop_proof"), "{refusals:?}");

    let proof = world.proof();
    let with = async |proof: &str| {
        let assertion = world.assertion();
        let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
        world.post("/token", &form, Some(proof)).await
    };
    assert_eq!(with(&proof).await.status, 200);
    assert_eq!(with(&proof).await.error(), "invalid_dpop_proof", "a replayed proof");
    world.clock.forward(180);
    assert_eq!(with(&proof).await.error(), "use_dpop_nonce", "a replayed proof, once its use is forgotten");
}

#[tokio::test]
async fn what_is_asked_for_is_held_against_what_there_is() {
    let world = World::start("").await;
    let item = |identifier: &str| json!([{ "type": "tool_call", "identifier": identifier }]).to_string();
    for (case, code, more) in [
        ("another resource", "invalid_target", [("resource", "https://b.example/mcp".to_owned())]),
        ("an unknown server", "invalid_target", [("resource", format!("{GATEWAY}/mail"))]),
        ("the issuer", "invalid_target", [("resource", ISSUER.to_owned())]),
        ("details that widen", "invalid_authorization_details", [("authorization_details", item("crm/drop"))]),
        ("details that widen to a server", "invalid_authorization_details", [("authorization_details", item("crm/*"))]),
        ("details of another kind", "invalid_authorization_details", [("authorization_details", "[{\"type\":\"payment\"}]".to_owned())]),
        (
            "details with a key twice",
            "invalid_authorization_details",
            [("authorization_details", item("crm/query").replacen('{', "{\"identifier\":\"crm/list\",", 1))],
        ),
        ("no details", "invalid_authorization_details", [("authorization_details", "[]".to_owned())]),
        ("a task without end", "invalid_request", [("task", "x".repeat(20_000))]),
        ("a task that grows when it is written", "invalid_request", [("task", "\u{1}".repeat(5_000))]),
        ("another grant", "unsupported_grant_type", [("grant_type", "password".to_owned())]),
    ] {
        let more: Vec<_> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = world.ask(&more).await;
        assert_eq!((reply.status, reply.error()), (400, code), "{case}: {reply:?}");
        let refused = world.refusals().pop().unwrap();
        assert_eq!(refused.code, code, "{case}");
        world.clock.forward(1);
    }
    assert_eq!(world.executions.len(), 0);

    let narrower = item("crm/query");
    let both = world.ask(&[("authorization_details", narrower.as_str()), ("effects", "send")]).await;
    assert_eq!((both.status, both.error()), (400, "invalid_request"));
    for (effects, error) in [("sned", "invalid_request"), ("crm/drop", "invalid_authorization_details")] {
        assert_eq!(world.ask(&[("effects", effects)]).await.error(), error, "{effects}");
    }
    let reply = world.ask(&[("effects", "send crm/query")]).await;
    let details = &reply.body["authorization_details"];
    assert_eq!(details[0]["effects"], json!(["read", "send"]), "{reply:?}");
    assert_eq!(details.as_array().unwrap().last().unwrap()["identifier"], "crm/query");

    let reply = world.ask(&[("authorization_details", &narrower), ("resource", GATEWAY), ("resource", &format!("{GATEWAY}/crm"))]).await;
    assert_eq!(reply.claims()["aud"], json!([GATEWAY, format!("{GATEWAY}/crm")]));
    assert_eq!(reply.body["authorization_details"], reply.claims()["authorization_details"]);
    assert_eq!(reply.body["authorization_details"][0]["identifier"], "crm/query");
}

#[tokio::test]
async fn malformed_requests_are_refused_before_anything_else() {
    let world = World::start("").await;
    let twice = world.ask(&[("task", "a"), ("task", "b")]).await;
    assert_eq!(twice.error(), "invalid_request");
    let secret = world.ask(&[("client_secret", "s3cret")]).await;
    assert_eq!(secret.error(), "invalid_client");
    let large = "x".repeat(200_000);
    assert_eq!(world.ask(&[("scope", &large)]).await.error(), "invalid_request");
    assert_eq!(world.post("/token", &[("grant_type", "client_credentials")], None).await.error(), "invalid_client");
    assert!(!world.log_text().contains("s3cret"));
    assert_eq!(world.get("/token").await.status, 405);
}

#[tokio::test]
async fn an_agent_that_chose_a_bearer_credential_gets_one() {
    let world = World::start("").await;
    let claims = world.claims("plain");
    let assertion = world.bot.sign(&json!({ "alg": "ES256", "kid": "k1" }), &claims);
    let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
    let reply = world.post("/token", &form, None).await;
    assert_eq!(reply.body["token_type"], "Bearer");
    assert!(reply.claims().get("cnf").is_none());
}

#[tokio::test]
async fn a_renewal_goes_on_with_the_same_execution_and_only_narrows() {
    let world = World::start("").await;
    let first = world.ask(&[("task", "Summarise")]).await;
    let execution = first.body["execution"].clone();
    let token = first.token().to_owned();
    let renew = async |more: &[(&str, &str)]| {
        let mut form = vec![("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", ACCESS_TOKEN)];
        form.extend(more);
        world.ask(&form).await
    };
    world.clock.forward(200);
    let renewed = renew(&[]).await;
    assert_eq!((renewed.status, &renewed.body["execution"]), (200, &execution), "{renewed:?}");
    assert_eq!(renewed.body["issued_token_type"], ACCESS_TOKEN);
    assert_ne!(renewed.claims()["jti"], first.claims()["jti"]);
    let Some(Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
    assert!(started.renewal && started.task.as_deref() == Some("Summarise"));

    let item = |identifier: &str| json!([{ "type": "tool_call", "identifier": identifier }]).to_string();
    assert_eq!(renew(&[("authorization_details", &item("crm/drop"))]).await.error(), "invalid_authorization_details");
    assert_eq!(renew(&[("authorization_details", &item("crm/query"))]).await.status, 200);
    assert_eq!(renew(&[("authorization_details", &item("crm/list"))]).await.error(), "invalid_authorization_details", "it was narrowed");
    let kept = renew(&[]).await;
    assert_eq!(kept.body["authorization_details"][0]["identifier"], "crm/query", "what was narrowed stays so");
    assert_eq!(renew(&[("task", "Delete everything")]).await.error(), "invalid_request");

    // From all servers to one, and not back.
    let one = renew(&[("resource", &format!("{GATEWAY}/crm"))]).await;
    assert_eq!(one.claims()["aud"], json!(format!("{GATEWAY}/crm")), "{one:?}");
    let widened = [("grant_type", EXCHANGE), ("subject_token", one.token()), ("subject_token_type", ACCESS_TOKEN), ("resource", GATEWAY)];
    assert_eq!(world.ask(&widened).await.error(), "invalid_target");

    // Another key, and another agent.
    let foreign = Key::new();
    let form = |assertion: String| {
        vec![
            ("grant_type", EXCHANGE.to_owned()),
            ("subject_token", token.clone()),
            ("subject_token_type", ACCESS_TOKEN.to_owned()),
            ("client_assertion_type", CLIENT_ASSERTION.to_owned()),
            ("client_assertion", assertion),
        ]
    };
    let send = async |form: Vec<(&str, String)>, proof: Option<String>| {
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        world.post("/token", &form, proof.as_deref()).await
    };
    let nonce = world.identity.authenticator().nonce(world.now());
    let other_proof = foreign.sign(
        &json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": foreign.jwk() }),
        &json!({ "htm": "POST", "htu": format!("{ISSUER}/token"), "iat": world.clock.seconds(), "jti": unique(), "nonce": nonce }),
    );
    assert_eq!(send(form(world.assertion()), Some(other_proof)).await.error(), "invalid_dpop_proof");
    let other = world.other.sign(&json!({ "alg": "ES256", "kid": "k1" }), &world.claims("other"));
    assert_eq!(send(form(other), Some(world.proof())).await.error(), "invalid_request");
    let nobody =
        send(form(world.assertion()).into_iter().filter(|(name, _)| !name.starts_with("client_")).collect(), Some(world.proof())).await;
    assert_eq!(nobody.error(), "invalid_client", "the credential alone renews nothing");

    // The execution's own end.
    let mut last = kept.token().to_owned();
    for _ in 0..40 {
        world.clock.forward(200);
        let form = [("grant_type", EXCHANGE), ("subject_token", last.as_str()), ("subject_token_type", ACCESS_TOKEN)];
        let reply = world.ask(&form).await;
        if reply.status != 200 {
            assert_eq!(reply.error(), "invalid_request");
            break;
        }
        last = reply.token().to_owned();
    }
    let started = first.claims()["iat"].as_i64().unwrap();
    assert_eq!(claims(&last)["exp"].as_i64(), Some(started + 3600));
}

#[tokio::test]
async fn a_revoked_credential_and_a_revoked_execution_end_at_once_and_stay_so() {
    let world = World::start("").await;
    let first = world.ask(&[]).await;
    let as_bot = async |path: &str, more: &[(&str, &str)]| {
        let assertion = world.assertion();
        let mut form = vec![("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
        form.extend(more);
        world.post(path, &form, None).await
    };
    let active = as_bot("/introspect", &[("token", first.token())]).await;
    assert_eq!((active.body["active"].as_bool(), &active.body["txn"]), (Some(true), &first.body["execution"]));
    let other = world.other.sign(&json!({ "alg": "ES256", "kid": "k1" }), &world.claims("other"));
    let form = [("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", other.as_str()), ("token", first.token())];
    assert_eq!(world.post("/introspect", &form, None).await.body, json!({ "active": false }), "another's token");
    assert_eq!(world.post("/introspect", &[("token", first.token())], None).await.error(), "invalid_client");

    let execution = world.executions.find(first.body["execution"].as_str().unwrap().parse().unwrap()).unwrap();
    let id = first.claims()["jti"].as_str().unwrap().to_owned();
    let waiting = tokio::spawn({
        let execution = execution.clone();
        async move { execution.stopped(&id).await }
    });
    assert_eq!(as_bot("/revoke", &[("token", "unknown")]).await.status, 200);
    let again = |token: &str| {
        vec![("grant_type", EXCHANGE.to_owned()), ("subject_token", token.to_owned()), ("subject_token_type", ACCESS_TOKEN.to_owned())]
    };
    let renew = async |token: &str| {
        let form = again(token);
        world.ask(&form.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>()).await
    };
    let second = renew(first.token()).await;
    assert_eq!(as_bot("/revoke", &[("token", first.token())]).await.status, 200);
    waiting.await.unwrap();
    assert!(matches!(world.records().last(), Some(Record::Revoked(revoked)) if revoked.by == "agent bot"));
    assert_eq!(as_bot("/introspect", &[("token", first.token())]).await.body, json!({ "active": false }));
    assert_eq!(renew(first.token()).await.error(), "invalid_request");
    assert_eq!(as_bot("/introspect", &[("token", second.token())]).await.body["active"], true, "the other credential goes on");

    assert_eq!(as_bot("/revoke", &[("execution", first.body["execution"].as_str().unwrap())]).await.status, 200);
    assert!(execution.is_stopped());
    assert_eq!(renew(second.token()).await.error(), "invalid_request");
    let refused = world.refusals().pop().unwrap();
    assert_eq!((refused.agent.unwrap().as_str(), refused.detail.as_str()), ("bot", "its execution was revoked"));
    assert!(!world.log_text().contains("eyJ"), "no token is on the log");
}

#[tokio::test]
async fn without_a_log_there_is_no_credential_and_revoking_still_stops() {
    let world = World::start("").await;
    let first = world.ask(&[]).await;
    world.storage.fail();
    let reply = world.ask(&[]).await;
    assert_eq!((reply.status, reply.error()), (503, "temporarily_unavailable"));
    assert_eq!(world.executions.len(), 1);
    let assertion = world.assertion();
    let execution = first.body["execution"].as_str().unwrap();
    let form = [("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", assertion.as_str()), ("execution", execution)];
    assert_eq!(world.post("/revoke", &form, None).await.status, 503);
    assert!(world.executions.find(execution.parse().unwrap()).unwrap().is_stopped());
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_does_not_fill_the_log() {
    let world = World::start("").await;
    for _ in 0..40 {
        world.post("/token", &[("grant_type", "client_credentials")], None).await;
    }
    assert_eq!(world.refusals().len(), 10);
    world.clock.forward(1);
    world.identity.tend().await.unwrap();
    let refusals = world.refusals();
    assert_eq!(refusals.len(), 11);
    assert!(refusals[10].detail.starts_with("30 more"), "{:?}", refusals[10]);
}

#[tokio::test]
async fn the_metadata_say_what_the_service_does() {
    let world = World::start("").await;
    let oauth = world.get("/.well-known/oauth-authorization-server").await.body;
    let openid = world.get("/.well-known/openid-configuration").await.body;
    assert_eq!((&oauth["issuer"], &openid["issuer"]), (&json!(ISSUER), &json!(ISSUER)));
    for member in ["authorization_endpoint", "token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"] {
        let path = oauth[member].as_str().unwrap().strip_prefix(ISSUER).unwrap();
        assert_ne!(world.get(path).await.status, 404, "{member}");
    }
    assert_eq!(openid["subject_types_supported"], json!(["public"]));
    let algorithms: Vec<_> = world.get("/jwks").await.body["keys"].as_array().unwrap().iter().map(|key| key["alg"].clone()).collect();
    assert_eq!(algorithms, ["ES256", "RS256"]);
}
