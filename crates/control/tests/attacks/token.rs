//! Attacks on the token service by whoever can reach it, over real sockets. The table of `docs/attacks.md` says where each is
//! described.

use bailiwick_core::model::Record;
use serde_json::{Value, json};

use super::support::*;

const HEADER: &str = r#"{"alg":"ES256","kid":"k1"}"#;

fn with_assertion<'a>(assertion: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", assertion)], more].concat()
}

async fn prove(world: &World, assertion: &str) -> Reply {
    world.post("/token", &with_assertion(assertion, &[("grant_type", "client_credentials")]), Some(&world.proof())).await
}

#[tokio::test]
async fn no_token_of_another_kind_or_of_another_issuer_proves_a_client() {
    let world = World::start("").await;
    let first = world.ask(&[]).await;
    let claims = world.claims(BOT);
    let signed = |header: Value| world.bot.sign(&header, &claims);
    for (case, assertion) in [
        ("our own access token", first.token().to_owned()),
        ("a proof", world.proof()),
        ("typ of an access token", signed(json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }))),
        ("typ of an ID-JAG", signed(json!({ "alg": "ES256", "kid": "k1", "typ": "oauth-id-jag+jwt" }))),
        ("typ of a person's logout", signed(json!({ "alg": "ES256", "kid": "k1", "typ": "logout+jwt" }))),
        ("a key in the header", world.device.sign(&json!({ "alg": "ES256", "jwk": world.device.jwk() }), &claims)),
        (
            "keys elsewhere",
            world.device.sign(&json!({ "alg": "ES256", "kid": "k1", "jku": format!("http://{}/jwks", world.address) }), &claims),
        ),
        ("kid of a number", signed(json!({ "alg": "ES256", "kid": 1 }))),
        ("b64 false", signed(json!({ "alg": "ES256", "kid": "k1", "b64": false }))),
        ("the other agent's assertion as bot", world.other.sign_text(HEADER, &claims.to_string())),
    ] {
        let reply = prove(&world, &assertion).await;
        assert_eq!((reply.status, reply.error()), (400, "invalid_client"), "{case}: {reply:?}");
        assert!(reply.headers.contains_key("dpop-nonce") && reply.headers["cache-control"] == "no-store", "{case}");
    }
    // And none of them is an access token's equal where one is read.
    for token in [world.assertion(), world.proof()] {
        let form = [("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", ACCESS_TOKEN)];
        assert_eq!(world.ask(&form).await.error(), "invalid_request");
    }
    assert_eq!(world.executions.len(), 1);
    assert_eq!(prove(&world, &signed(json!({ "alg": "ES256", "kid": "k1", "typ": "client-authentication+jwt" }))).await.status, 200);
}

#[tokio::test]
async fn the_times_of_an_assertion_have_bounds_on_both_sides() {
    let world = World::start("").await;
    let now = world.clock.seconds();
    for (claim, value) in [
        ("exp", json!(now + 331)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(-1)),
        ("exp", json!(i64::MIN)),
        ("exp", json!(-1e300)),
        ("exp", json!((now + 60).to_string())),
        ("exp", json!([now + 60])),
        ("exp", Value::Null),
        ("nbf", json!(now + 31)),
        ("nbf", json!("0")),
        ("nbf", json!(1e300)),
        ("iat", json!(now + 31)),
        ("iat", json!(u64::MAX)),
        ("iat", json!(true)),
    ] {
        let mut claims = world.claims(BOT);
        claims[claim] = value.clone();
        let reply = prove(&world, &world.bot.sign_text(HEADER, &claims.to_string())).await;
        assert_eq!(reply.error(), "invalid_client", "{claim} {value}: {reply:?}");
    }
    let mut claims = world.claims(BOT);
    claims["exp"] = json!(now as f64 + 60.5);
    assert_eq!(prove(&world, &world.bot.sign_text(HEADER, &claims.to_string())).await.status, 200, "a fraction is a time (RFC 7519 §2)");
}

#[tokio::test]
async fn no_form_is_read_in_two_ways() {
    let world = World::start("").await;
    let kind = "application/x-www-form-urlencoded";
    let body = || {
        let form = with_assertion("ASSERTION", &[("grant_type", "client_credentials")]);
        let assertion = world.assertion();
        form.iter()
            .map(|(name, value)| format!("{name}={}", value.replace("ASSERTION", &assertion).replace(':', "%3A")))
            .collect::<Vec<_>>()
            .join("&")
    };
    let send = async |path: &str, headers: &[(&str, &str)], body: String| {
        let proof = world.proof();
        let headers = [headers, &[("dpop", proof.as_str())]].concat();
        world.post_raw(path, &headers, body.into_bytes()).await
    };
    for kind in [kind, "Application/X-WWW-Form-URLEncoded; charset=UTF-8"] {
        assert_eq!(send("/token", &[("content-type", kind)], body()).await.status, 200, "{kind}");
    }
    let before = world.executions.len();
    for (case, headers) in [
        ("no type", vec![]),
        ("JSON", vec![("content-type", "application/json")]),
        ("parts", vec![("content-type", "multipart/form-data; boundary=x")]),
        ("text", vec![("content-type", "text/plain")]),
        ("another charset", vec![("content-type", "application/x-www-form-urlencoded; charset=utf-16")]),
        ("a charset of old", vec![("content-type", "application/x-www-form-urlencoded; charset=utf-7")]),
        ("two types", vec![("content-type", kind), ("content-type", "application/json")]),
        ("compressed", vec![("content-type", kind), ("content-encoding", "gzip")]),
        ("a password beside", vec![("content-type", kind), ("authorization", "Basic Ym90OnNlY3JldA==")]),
        ("a token beside", vec![("content-type", kind), ("authorization", "Bearer x")]),
        ("two proofs", vec![("content-type", kind), ("dpop", "x")]),
    ] {
        let reply = send("/token", &headers, body()).await;
        assert!(matches!(reply.status, 400 | 401), "{case}: {reply:?}");
        let expected: &[&str] = &["invalid_request", "invalid_client", "invalid_dpop_proof"];
        assert!(expected.contains(&reply.error()), "{case}: {reply:?}");
        assert_eq!(reply.status == 401, headers.iter().any(|(name, _)| *name == "authorization"), "{case}");
    }
    for (case, body) in [
        ("a parameter twice", format!("{}&grant_type=client_credentials", body())),
        ("twice, once empty", format!("grant_type=&{}", body())),
        ("twice, once escaped", format!("{}&grant%5Ftype=password", body())),
        ("by semicolons", body().replace('&', ";")),
        ("names in another case", body().replace("grant_type", "Grant_Type")),
        ("names with a space", body().replace("grant_type", "grant_type+")),
        ("names of a list", body().replace("grant_type", "grant_type[]")),
        ("a grant with an end of text", body().replace("client_credentials", "client_credentials%00")),
        ("a grant in another case", body().replace("client_credentials", "Client_Credentials")),
        ("bytes that are no text", format!("{}&scope=%ff%fe", body())),
        ("bytes longer than they need be", format!("{}&scope=%c0%af", body())),
        ("half an escape", format!("{}&scope=%4", body())),
        ("a mark of byte order", format!("\u{feff}{}", body().replace("client_assertion_type", "x"))),
        ("more parameters than there are", format!("{}&{}", body(), (0..64).map(|n| format!("p{n}=")).collect::<Vec<_>>().join("&"))),
        ("without end", format!("{}&scope={}", body(), "x".repeat(200_000))),
        (
            "another's grant: nothing to exchange",
            body().replace("client_credentials", "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"),
        ),
        ("another's grant: no assertion", body().replace("client_credentials", "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer")),
        ("a password", format!("{}&username=ana&password=x", body().replace("client_credentials", "password"))),
        ("a code", format!("{}&code=x", body().replace("client_credentials", "authorization_code"))),
        ("a refresh token", format!("{}&refresh_token=x", body().replace("client_credentials", "refresh_token"))),
        ("nothing", String::new()),
    ] {
        let reply = send("/token", &[("content-type", kind)], body).await;
        assert!(reply.status == 400 && !reply.error().is_empty(), "{case}: {reply:?}");
    }
    // What is in the address is not read: it would be in the logs of all that it passes (RFC 6749 §2.3.1).
    let reply = send(&format!("/token?{}", body()), &[("content-type", kind)], String::new()).await;
    assert_eq!((reply.status, reply.error()), (400, "invalid_request"));
    assert_eq!(world.executions.len(), before);
}

#[tokio::test]
async fn a_binding_is_not_lost_at_renewal() {
    let world = World::start("").await;
    let first = world.ask(&[]).await;
    let renewal = [("grant_type", EXCHANGE), ("subject_token", first.token()), ("subject_token_type", ACCESS_TOKEN)];
    let assertion = world.assertion();
    let reply = world.post("/token", &with_assertion(&assertion, &renewal), None).await;
    assert_eq!((reply.status, reply.error()), (400, "invalid_dpop_proof"));
    // As another type it is no token of an issuer that vouches for anyone.
    let relabelled = [("grant_type", EXCHANGE), ("subject_token", first.token()), ("subject_token_type", JWT)];
    assert_eq!(world.ask(&relabelled).await.error(), "invalid_request");
    let renewed = world.ask(&renewal).await;
    assert_eq!(renewed.claims()["cnf"], first.claims()["cnf"]);
}

#[tokio::test]
async fn nobody_revokes_what_is_anothers() {
    let world = World::start("").await;
    let first = world.ask(&[]).await;
    let execution = first.body["execution"].as_str().unwrap();
    let other = || world.other.sign_text(HEADER, &world.claims("other").to_string());
    for target in [("token", first.token()), ("execution", execution)] {
        let assertion = other();
        let theirs = world.post("/revoke", &with_assertion(&assertion, &[target]), None).await;
        let assertion = other();
        let nothing = world.post("/revoke", &with_assertion(&assertion, &[(target.0, "nothing")]), None).await;
        assert_eq!((theirs.status, &theirs.body), (200, &nothing.body), "the answer does not tell whether there is such a thing");
        assert_eq!(world.post("/revoke", &[target], None).await.error(), "invalid_client", "nobody");
        let bearer = [("content-type", "application/x-www-form-urlencoded"), ("authorization", &format!("Bearer {}", first.token()))];
        let reply = world.post_raw("/revoke", &bearer, format!("{}={}", target.0, target.1).into_bytes()).await;
        assert_eq!((reply.status, reply.error()), (401, "invalid_client"), "the token is no authentication");
    }
    assert!(!world.records().iter().any(|record| matches!(record, Record::Revoked(_))));
    let renewal = [("grant_type", EXCHANGE), ("subject_token", first.token()), ("subject_token_type", ACCESS_TOKEN)];
    assert_eq!(world.ask(&renewal).await.status, 200, "it goes on");
}

#[tokio::test]
async fn what_may_be_kept_is_said() {
    let world = World::start("").await;
    let kept = |reply: &Reply| reply.headers["cache-control"].to_str().unwrap().to_owned();
    for path in ["/jwks", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        assert_eq!(kept(&world.get(path).await), "public, max-age=300", "{path}");
    }
    assert!(!world.get("/jwks").await.body.to_string().contains("\"d\""));
    let first = world.ask(&[]).await;
    assert_eq!((kept(&first).as_str(), first.headers["pragma"].to_str().unwrap()), ("no-store", "no-cache"));
    for path in ["/token", "/introspect", "/revoke"] {
        assert_eq!(kept(&world.post(path, &[], None).await), "no-store", "{path}");
        assert!(!world.post(path, &[], None).await.headers.contains_key("access-control-allow-origin"), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_writes_nothing_of_its_senders_own() {
    let world = World::start("").await;
    let first = world.ask(&[]).await;
    let colours = "https://x/\u{1b}[2J\r\nrecord 5 allow\u{202e}\u{200b}";
    let long = "x".repeat(50_000);
    let details = json!([{ "type": "tool_call", "identifier": colours }]).to_string();
    let deep = "[".repeat(200);
    for (name, value) in [
        ("resource", colours),
        ("resource", long.as_str()),
        ("resource", first.token()),
        ("audience", colours),
        ("authorization_details", details.as_str()),
        ("authorization_details", deep.as_str()),
        ("client_id", colours),
        ("task", long.as_str()),
    ] {
        let reply = world.ask(&[(name, value)]).await;
        assert_eq!(reply.status, 400, "{name} {value}: {reply:?}");
        let detail = world.refusals().pop().unwrap().detail;
        assert!(!detail.is_empty() && detail.len() <= 1000, "{name}: {detail}");
        assert!(detail.chars().all(|c| !c.is_control() && !matches!(c, '\u{200b}' | '\u{202e}')), "{name}: {detail:?}");
        assert!(!detail.contains(first.token()), "{name}: a token is on the log");
        let description = reply.body["error_description"].as_str().unwrap();
        assert!(description.len() <= 300 && description.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name}: {description}");
        world.clock.forward(1);
    }
}
