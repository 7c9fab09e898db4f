//! Attacks by and on those who tell us of people and agents. The table of `docs/attacks.md` says where each is described.

use bailiwick_core::model::SignalEnd;

use super::signals::{CAEP, Hearing, post_set};
use super::support::*;
use super::vouch::{Signing, patched};
use super::*;

#[tokio::test]
async fn a_signal_that_its_transmitter_did_not_make_for_us_stops_nobody() {
    let house = Hearing::start("").await;
    let running = house.acting_for("ana").await;
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}/keys", trap.local_addr().unwrap());
    let (now, evil) = (house.world.clock.seconds(), Signing::ecdsa("P-256"));
    let event = format!("{CAEP}session-revoked");
    let good = claims(&house.session_revoked("ana"));
    let header = json!({ "alg": "ES256", "typ": "secevent+jwt", "kid": "a" });
    let spoiled = |header_patch: Value, claims_patch: Value| {
        let claims = patched(good.clone(), &patched(claims_patch, &json!({ "jti": unique() })));
        house.provider.keys.lock().unwrap()[0].1.sign(&patched(header.clone(), &header_patch), &claims)
    };
    let own_header = |patch: Value| evil.token_with(&patched(header.clone(), &patch), &good);
    let cases = [
        ("forged", own_header(json!({})), "invalid_key"),
        ("a key in its header", own_header(json!({ "jwk": evil.jwk("a") })), "invalid_key"),
        ("keys elsewhere", own_header(json!({ "jku": at, "x5u": at })), "invalid_key"),
        ("an unknown key", own_header(json!({ "kid": at })), "invalid_key"),
        ("no algorithm", own_header(json!({ "alg": "none" })), "invalid_request"),
        ("a shared secret", own_header(json!({ "alg": "HS256" })), "invalid_request"),
        ("an algorithm that is not accepted", own_header(json!({ "alg": "ES384" })), "invalid_key"),
        ("an access token's type", spoiled(json!({ "typ": "at+jwt" }), json!({})), "invalid_request"),
        ("a token's type", spoiled(json!({ "typ": "JWT" }), json!({})), "invalid_request"),
        ("no type", spoiled(json!({ "typ": null }), json!({})), "invalid_request"),
        ("a critical extension", spoiled(json!({ "crit": ["b64"], "b64": false }), json!({})), "invalid_request"),
        ("another issuer", spoiled(json!({}), json!({ "iss": "https://b.example" })), "invalid_issuer"),
        ("no issuer", spoiled(json!({}), json!({ "iss": null })), "invalid_issuer"),
        ("another audience", spoiled(json!({}), json!({ "aud": "https://b.example" })), "invalid_audience"),
        ("an audience that begins like ours", spoiled(json!({}), json!({ "aud": format!("{ISSUER}/") })), "invalid_audience"),
        ("no audience", spoiled(json!({}), json!({ "aud": null })), "invalid_request"),
        ("an end, as other tokens have", spoiled(json!({}), json!({ "exp": now + 300 })), "invalid_request"),
        ("a subject, as other tokens have", spoiled(json!({}), json!({ "sub": "ana" })), "invalid_request"),
        ("of the day before yesterday", spoiled(json!({}), json!({ "iat": now - 86_401 })), "invalid_request"),
        ("of tomorrow", spoiled(json!({}), json!({ "iat": now + 86_400 })), "invalid_request"),
        ("of no time", spoiled(json!({}), json!({ "iat": null })), "invalid_request"),
        ("no subject", spoiled(json!({}), json!({ "sub_id": null })), "invalid_request"),
        ("a subject of no format", spoiled(json!({}), json!({ "sub_id": { "format": null } })), "invalid_request"),
        ("a subject that hides", spoiled(json!({}), json!({ "sub_id": { "sub": "an\u{200b}a" } })), "invalid_request"),
        ("no event", spoiled(json!({}), json!({ "events": { event.as_str(): null } })), "invalid_request"),
        ("two events", spoiled(json!({}), json!({ "events": { "https://b.example/event": {} } })), "invalid_request"),
        ("an event that is none", spoiled(json!({}), json!({ "events": { event.as_str(): "x" } })), "invalid_request"),
        (
            "a level of no scale",
            spoiled(
                json!({}),
                json!({ "events": { event.as_str(): null, format!("{CAEP}risk-level-change"): { "principal": "USER", "current_level": "EXTREME" } } }),
            ),
            "invalid_request",
        ),
        ("no token", "x.y.z".to_owned(), "invalid_request"),
    ];
    for (case, set, code) in cases {
        let reply = house.send(&set).await;
        assert_eq!((reply.status, reply.body["err"].as_str()), (400, Some(code)), "{case}: {reply:?}");
        assert!(reply.body["description"].is_string() && reply.headers["content-language"] == "en", "{case}");
        assert_eq!(house.world.refusals().last().map(|refused| refused.stage.clone()).as_deref(), Some("signals"), "{case}");
        house.world.clock.forward(1);
    }
    assert!(!running.is_revoked() && house.heard().is_empty());
    assert!(tokio::time::timeout(std::time::Duration::ZERO, trap.accept()).await.is_err(), "somebody's address was asked for keys");

    // Sent in another way, to somebody else's place, or where nobody sends.
    let set = house.session_revoked("ana");
    for media in ["application/jwt", "application/json", "application/secevent+jwt, application/json"] {
        let reply = post_to(&format!("http://{}/signals/idp", house.address), &[("content-type", media)], set.clone().into_bytes()).await;
        assert_eq!((reply.status, reply.body["err"].as_str()), (400, Some("invalid_request")), "{media}");
    }
    for path in ["/signals/other", "/signals/..%2fidp", "/signals/"] {
        assert_eq!(post_set(house.address, path, &set, &[]).await.status, 404, "{path}");
    }
    assert_eq!(post_set(house.address, "/signals/idp", &"x".repeat(17 << 10), &[]).await.status, 400);
    assert!(!running.is_revoked());
    assert_eq!(house.send(&set).await.status, 202);
    assert!(running.is_revoked(), "the same as its transmitter made it");
}

#[tokio::test]
async fn a_transmitter_speaks_of_its_own_issuers_people_and_agents_alone() {
    let house = Hearing::start("agents = [\"plain\"]\n").await;
    let running = house.acting_for("ana").await;
    let risk = json!({ "principal": "AGENT", "current_level": "HIGH" });
    let named = |iss: &str, sub: &str| json!({ "format": "iss_sub", "iss": iss, "sub": sub });
    let agent = |name: &str| format!("spiffe://acme.example/agent/{name}");
    for (case, subject, status) in [
        ("another issuer's person", named("https://b.example", "ana"), 400),
        ("our own name of a person", named(ISSUER, "idp:ana"), 400),
        ("our agent by its id", named(ISSUER, &agent("other")), 400),
        ("our agent by its URI", json!({ "format": "uri", "uri": agent("other") }), 400),
        ("our agent as an application", json!({ "format": "complex", "application": named(ISSUER, &agent("other")) }), 400),
        (
            "several names, all of others",
            json!({ "format": "aliases", "identifiers": [named(ISSUER, &agent("other")), named("https://b.example", "7")] }),
            400,
        ),
        (
            "names within names",
            json!({ "format": "aliases", "identifiers": [{ "format": "aliases", "identifiers": [named(ISSUER, &agent("other"))] }] }),
            400,
        ),
        ("another house's agent", json!({ "format": "uri", "uri": "spiffe://b.example/agent/plain" }), 400),
        ("the whole house", json!({ "format": "complex", "tenant": { "format": "uri", "uri": "spiffe://acme.example" } }), 202),
        ("a name of no house", json!({ "format": "uri", "uri": "https://acme.example/other" }), 202),
        ("the agent that it may speak of", json!({ "format": "uri", "uri": agent("plain") }), 202),
    ] {
        let reply = house.send(&house.set(&format!("{CAEP}risk-level-change"), risk.clone(), subject, |_, _| ())).await;
        assert_eq!(reply.status, status, "{case}: {reply:?}");
        let quarantined: Vec<_> = house.world.executions.quarantined().keys().map(ToString::to_string).collect();
        assert_eq!(quarantined, if case.starts_with("the agent that") { vec!["plain"] } else { vec![] }, "{case}");
    }
    assert!(!running.is_stopped());

    // One that may stop no people stops none.
    let house = Hearing::start("people = false\n").await;
    let running = house.acting_for("ana").await;
    assert_eq!(house.send(&house.session_revoked("ana")).await.status, 202);
    assert!(!running.is_revoked());
    assert_eq!(house.heard()[0].code, SignalEnd::Noted);
}

#[tokio::test]
async fn a_transmitter_gone_wrong_stops_so_many_an_hour_and_then_a_person_is_asked() {
    let house = Hearing::start("per_hour = 3\n").await;
    let mut running = Vec::new();
    for person in 0..5 {
        running.push(house.acting_for(&format!("p{person}")).await);
    }
    for person in 0..5 {
        // Of somebody who runs nothing there is nothing to be taken away, so that counts for nothing.
        assert_eq!(house.send(&house.session_revoked(&format!("nobody{person}"))).await.status, 202);
        assert_eq!(house.send(&house.session_revoked(&format!("p{person}"))).await.status, 202);
    }
    let stopped: Vec<bool> = running.iter().map(|execution| execution.is_revoked()).collect();
    assert_eq!(stopped, [true, true, true, false, false]);
    let held = house.world.executions.heard().held();
    assert_eq!(held.iter().map(|(_, signal)| signal.subject.as_deref().unwrap()).collect::<Vec<_>>(), ["idp:p3", "idp:p4"]);
    // An hour later it may go on, and what waits still waits for a person.
    house.world.clock.forward(3_601);
    let late = house.acting_for("late").await;
    assert_eq!(house.send(&house.session_revoked("late")).await.status, 202);
    assert!(late.is_revoked());
    assert_eq!(house.world.executions.heard().held().len(), 2);

    let operate =
        serve(house.signals.operate().layer(axum::Extension(bailiwick_control::admin::Operator(bailiwick_core::model::Person {
            issuer: "unix".to_owned(),
            subject: "ops".to_owned(),
            name: None,
        }))))
        .await;
    let settle = async |id: u64, what: &str| post_to(&format!("http://{operate}/api/v1/signals/{id}/{what}"), &[], Vec::new()).await;
    let (third, fourth) = (held[0].0.0, held[1].0.0);
    assert_eq!(settle(third, "act").await.body["settled"]["code"], "revoked");
    assert_eq!(settle(fourth, "dismiss").await.body["settled"]["code"], "dismissed");
    assert_eq!(settle(fourth, "act").await.status, 404, "it is settled");
    assert!(house.world.executions.heard().held().is_empty());
    let last = house.heard();
    let [.., acted, dismissed] = last.as_slice() else { panic!() };
    assert_eq!((acted.settles.map(|at| at.0), acted.by.as_deref(), acted.code), (Some(third), Some("unix:ops"), SignalEnd::Revoked));
    assert_eq!((dismissed.settles.map(|at| at.0), dismissed.code), (Some(fourth), SignalEnd::Dismissed));
}

#[tokio::test]
async fn no_signal_is_a_credential_and_no_credential_is_a_signal() {
    let house = Hearing::start("authorization_file = \"idp.secret\"\n").await;
    let world = &house.world;
    let file = world.directory.path().join("idp.secret");
    std::fs::write(&file, "Bearer s3cret\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let set = house.session_revoked("ana");
    for more in [&[][..], &[("authorization", "Bearer other")], &[("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")]] {
        let reply = post_set(house.address, "/signals/idp", &set, more).await;
        assert_eq!((reply.status, reply.body["err"].as_str()), (400, Some("authentication_failed")), "{more:?}");
    }
    let shown = [("authorization", "Bearer s3cret")];
    let own = world.ask(&[]).await.token().to_owned();
    for (case, token) in [
        ("our access token", own),
        ("a person's token", house.provider.token(world, "a", json!({}))),
        ("a client's assertion", world.assertion()),
        ("a proof", world.proof()),
    ] {
        let reply = post_set(house.address, "/signals/idp", &token, &shown).await;
        assert_eq!((reply.status, reply.body["err"].as_str()), (400, Some("invalid_request")), "{case}: {reply:?}");
    }
    // A signal, its own subject and all, in the place of each credential.
    let pretending = house.set(&format!("{CAEP}session-revoked"), json!({}), house.person("ana"), |_, claims| {
        let now = claims["iat"].as_i64().unwrap();
        *claims = patched(claims.clone(), &json!({ "sub": "ana", "azp": "bot", "exp": now + 300, "client_id": BOT, "txn": "x" }));
    });
    for kind in [ACCESS_TOKEN, JWT, "urn:ietf:params:oauth:token-type:id_token"] {
        let reply = world.ask(&[("grant_type", EXCHANGE), ("subject_token", &pretending), ("subject_token_type", kind)]).await;
        assert_eq!(reply.error(), "invalid_request", "{kind}");
    }
    assert_eq!(by_workload(world, &pretending).await.error(), "invalid_grant");
    let form =
        [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", pretending.as_str())];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.error(), "invalid_client");
    // And where a stream is asked for, nobody but its agent is answered.
    for authorization in [format!("Bearer {pretending}"), format!("DPoP {pretending}"), "Bearer s3cret".to_owned()] {
        let reply = post_to(&format!("http://{}/ssf/poll/x", house.address), &[("authorization", &authorization)], b"{}".to_vec()).await;
        assert_eq!(reply.status, 401, "{authorization}");
    }
    assert_eq!(post_set(house.address, "/signals/idp", &set, &shown).await.status, 202);
}
