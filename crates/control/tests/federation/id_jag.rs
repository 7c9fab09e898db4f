//! Identity assertions between domains (ID-JAG): what another's is taken for here, and what ours says to others.

use super::support::*;
use super::*;

const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
const AUTHORIZATION_SERVER: &str = "https://as.partner.example";

impl Provider {
    /// An assertion of ana for `bot`, that `spoil` has changed.
    fn id_jag(&self, world: &World, spoil: impl FnOnce(&mut Value, &mut Value)) -> String {
        let now = world.clock.seconds();
        let mut header = json!({ "alg": "ES256", "typ": "oauth-id-jag+jwt", "kid": "a" });
        let mut claims = json!({
            "iss": self.url, "sub": "ana", "aud": ISSUER, "client_id": BOT, "resource": GATEWAY, "jti": unique(), "iat": now, "exp": now + 300,
        });
        spoil(&mut header, &mut claims);
        self.keys.lock().unwrap()[0].1.sign(&header, &claims)
    }
}

async fn present(world: &World, assertion: &str, more: &[(&str, &str)]) -> Reply {
    world.ask(&[&[("grant_type", JWT_BEARER), ("assertion", assertion)], more].concat()).await
}

#[tokio::test]
async fn a_person_whose_own_provider_asserts_it_is_acted_for() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let assertion = provider.id_jag(&world, |_, _| ());
    let reply = present(&world, &assertion, &[]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let claims = reply.claims();
    assert_eq!(
        (claims["sub"].as_str(), claims["act"]["sub"].as_str(), claims["aud"].as_str()),
        (Some("idp:ana"), Some(BOT), Some(GATEWAY))
    );
    assert!(reply.body.get("refresh_token").is_none());
    assert_eq!(present(&world, &assertion, &[]).await.status, 200, "its client may show it again until it expires");
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-dpop");
    assert_eq!(world.ask(&[grant, ("assertion", &assertion)]).await.status, 200);

    let narrow = provider.id_jag(&world, |_, claims| claims["resource"] = json!(format!("{GATEWAY}/crm")));
    assert_eq!(present(&world, &narrow, &[]).await.claims()["aud"], format!("{GATEWAY}/crm"), "no more than it is for");
    assert_eq!(present(&world, &narrow, &[("resource", GATEWAY)]).await.error(), "invalid_target");

    let query = json!([{ "type": "tool_call", "identifier": "crm/query" }]);
    let bounded = provider.id_jag(&world, |_, claims| claims["authorization_details"] = query.clone());
    assert_eq!(present(&world, &bounded, &[]).await.body["authorization_details"][0]["identifier"], "crm/query");
    let list = json!([{ "type": "tool_call", "identifier": "crm/list" }]).to_string();
    assert_eq!(present(&world, &bounded, &[("authorization_details", &list)]).await.error(), "invalid_authorization_details");
    let scoped = provider.id_jag(&world, |_, claims| claims["scope"] = json!("openid write everything.there.is"));
    let details = present(&world, &scoped, &[]).await.body["authorization_details"].clone();
    assert_eq!(details[0]["effects"], json!(["read", "write"]), "a scope that is none of ours allows nothing");
    assert_eq!(details.as_array().unwrap().len(), 2, "{details}");
}

#[tokio::test]
async fn an_assertion_that_is_not_for_this_agent_here_and_now_is_refused() {
    let provider = Provider::start().await;
    let world = World::start(&provider.declared()).await;
    let now = world.clock.seconds();
    type Spoil = Box<dyn FnOnce(&mut Value, &mut Value)>;
    let claim = |name: &'static str, value: Value| -> Spoil { Box::new(move |_, claims| claims[name] = value) };
    let absent = |name: &'static str| -> Spoil { Box::new(move |_, claims| drop(claims.as_object_mut().unwrap().remove(name))) };
    for (case, spoil) in [
        ("for another server", claim("aud", json!(AUTHORIZATION_SERVER))),
        ("for two servers", claim("aud", json!([ISSUER, AUTHORIZATION_SERVER]))),
        ("for our token endpoint", claim("aud", json!(format!("{ISSUER}/token")))),
        ("of another client", claim("client_id", json!("other"))),
        ("of no client", absent("client_id")),
        ("without an id", absent("jti")),
        ("without an end", absent("exp")),
        ("without a beginning", absent("iat")),
        ("expired", claim("exp", json!(now - 31))),
        ("for a resource elsewhere", claim("resource", json!("https://mcp.partner.example/mcp"))),
        ("for a resource that is no text", claim("resource", json!({ "a": 1 }))),
        ("bound to another key", claim("cnf", json!({ "jkt": "another" }))),
        ("bound in a way that is not understood", claim("cnf", json!({ "x5t#S256": "another" }))),
        ("with a scope that is no text", claim("scope", json!(["read"]))),
        ("with details that are not understood", claim("authorization_details", json!([{ "type": "payment" }]))),
        ("of an issuer that is not trusted", claim("iss", json!("https://evil.example"))),
        ("about nobody", claim("sub", json!(""))),
        ("by a key that is not published", Box::new(|header, _| header["kid"] = json!("z"))),
        ("of another kind", Box::new(|header, _| header["typ"] = json!("dpop+jwt"))),
    ] {
        let reply = present(&world, &provider.id_jag(&world, spoil), &[]).await;
        assert_eq!((reply.status, reply.error()), (400, "invalid_grant"), "{case}: {reply:?}");
    }
    let assertion = provider.id_jag(&world, |_, _| ());
    assert_eq!(by_workload(&world, &assertion).await.error(), "invalid_grant", "it proves no client");
    let stolen = {
        let client = world.other.sign(&json!({ "alg": "ES256", "kid": "k1" }), &world.claims("other"));
        let form = [
            ("client_assertion_type", CLIENT_ASSERTION),
            ("client_assertion", client.as_str()),
            ("grant_type", JWT_BEARER),
            ("assertion", assertion.as_str()),
        ];
        world.post("/token", &form, Some(&world.proof())).await
    };
    assert_eq!(stolen.error(), "invalid_grant", "another agent has it");
    assert_eq!(world.executions.len(), 0);
}

#[tokio::test]
async fn another_domain_is_told_for_whom_an_agent_acts() {
    let provider = Provider::start().await;
    let outbound = format!(
        "[[agent.federation]]\nissuer = \"idp\"\nclaims = {{ repository_id = \"8842\" }}\n[[agent.outbound]]\naudience = \"{AUTHORIZATION_SERVER}\"\nid_jag = {{ client_id = \"acme-bot\", resource = \"https://mcp.partner.example/mcp\", scopes = [\"read\"] }}\n"
    );
    let world = World::federated(&provider.declared(), &outbound, "").await;
    let person = provider.token(&world, "a", json!({}));
    let acting = world.ask(&[("grant_type", EXCHANGE), ("subject_token", &person), ("subject_token_type", JWT)]).await;
    let exchange = async |token: &str, kind: &str, more: &[(&str, &str)]| {
        let form = [
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", kind),
            ("audience", AUTHORIZATION_SERVER),
        ];
        world.ask(&[&form[..], more].concat()).await
    };
    let issued = exchange(acting.token(), ID_JAG, &[("resource", "https://mcp.partner.example/mcp")]).await;
    assert_eq!((issued.body["issued_token_type"].as_str(), issued.body["token_type"].as_str()), (Some(ID_JAG), Some("N_A")), "{issued:?}");
    assert_eq!(jsonwebtoken::decode_header(issued.token()).unwrap().typ.as_deref(), Some("oauth-id-jag+jwt"));
    let claims = issued.claims();
    for (name, value) in [
        ("iss", json!(ISSUER)),
        ("sub", json!("idp:ana")),
        ("aud", json!(AUTHORIZATION_SERVER)),
        ("client_id", json!("acme-bot")),
        ("resource", json!("https://mcp.partner.example/mcp")),
        ("scope", json!("read")),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    assert_eq!((&claims["act"]["sub"], &claims["cnf"]["jkt"]), (&json!(BOT), &acting.claims()["cnf"]["jkt"]), "bound to the agent's key");
    let Some(Record::TokenIssued(record)) = world.records().pop() else { panic!() };
    assert_eq!((record.subject.as_deref(), record.audience.as_str()), (Some("idp:ana"), AUTHORIZATION_SERVER));

    assert_eq!(exchange(acting.token(), ID_JAG, &[("resource", GATEWAY)]).await.error(), "invalid_target", "another resource");
    assert_eq!(exchange(acting.token(), JWT, &[]).await.error(), "invalid_target", "another kind of token for the same audience");
    let alone = world.ask(&[]).await;
    assert_eq!(exchange(alone.token(), ID_JAG, &[]).await.error(), "invalid_target", "nobody is acted for");
}
