//! Delegation at the token endpoint: an agent has another one act for it, and nobody else can.

use super::*;

const OTHER: &str = "spiffe://acme.example/agent/other";

/// A client: an agent with its own key for assertions, and one for proofs.
struct Client<'a> {
    world: &'a World,
    id: &'a str,
    key: &'a Key,
    device: Key,
}

impl<'a> Client<'a> {
    fn new(world: &'a World, id: &'a str, key: &'a Key) -> Self {
        Self { world, id, key, device: Key::new() }
    }

    async fn ask(&self, more: &[(&str, &str)]) -> Reply {
        let assertion = self.key.sign(&json!({ "alg": "ES256", "kid": "k1" }), &self.world.claims(self.id));
        let mut form = vec![("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
        form.extend(more);
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.device.jwk() });
        let nonce = self.world.identity.authenticator().nonce(self.world.now());
        let claims = json!({
            "htm": "POST", "htu": format!("{ISSUER}/token"), "iat": self.world.clock.seconds(), "jti": unique(), "nonce": nonce
        });
        self.world.post("/token", &form, Some(&self.device.sign(&header, &claims))).await
    }

    async fn start(&self, task: &str) -> Reply {
        self.ask(&[("grant_type", "client_credentials"), ("task", task)]).await
    }

    /// Has `to` act for the execution of `token`.
    async fn delegate(&self, token: &str, to: &str, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", ACCESS_TOKEN), ("audience", to)];
        form.extend(more);
        self.ask(&form).await
    }

    async fn redeem(&self, delegation: &str, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![("grant_type", EXCHANGE), ("subject_token", delegation), ("subject_token_type", JWT)];
        form.extend(more);
        self.ask(&form).await
    }

    async fn renew(&self, token: &str) -> Reply {
        self.ask(&[("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", ACCESS_TOKEN)]).await
    }
}

#[tokio::test]
async fn an_agent_acts_for_another_that_meant_it_to() {
    let world = World::start("").await;
    let (bot, other) = (Client::new(&world, BOT, &world.bot), Client::new(&world, OTHER, &world.other));
    let first = bot.start("Summarise").await;
    let query = json!([{ "type": "tool_call", "identifier": "crm/query" }]).to_string();
    let delegated = bot.delegate(first.token(), OTHER, &[("authorization_details", &query)]).await;
    assert_eq!((delegated.status, delegated.body["token_type"].as_str()), (200, Some("N_A")), "{delegated:?}");
    assert_eq!((delegated.body["issued_token_type"].as_str(), delegated.body["expires_in"].as_i64()), (Some(JWT), Some(60)));
    let claims = delegated.claims();
    assert_eq!((claims["may_act"]["sub"].as_str(), claims["act"]["sub"].as_str()), (Some(OTHER), Some(BOT)));
    // The log says it before anybody has it.
    let Some(Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
    assert_eq!((started.agent.as_str(), started.renewal, started.task.as_deref()), ("other", false, Some("Summarise")));
    assert_eq!((&json!(started.execution), started.chain.len()), (&delegated.body["execution"], 1));
    let member = &started.chain[0];
    assert_eq!((member.agent.to_string().as_str(), member.owner.as_str()), (BOT, "o@acme.example"));
    assert_eq!((json!(member.execution), json!(member.token)), (first.body["execution"].clone(), first.claims()["jti"].clone()));

    let redeemed = other.redeem(delegated.token(), &[]).await;
    assert_eq!((redeemed.status, &redeemed.body["execution"]), (200, &delegated.body["execution"]), "{redeemed:?}");
    let claims = redeemed.claims();
    assert_eq!((claims["client_id"].as_str(), claims["sub"].as_str()), (Some(OTHER), Some(BOT)), "nobody else is acted for");
    assert_eq!((claims["act"]["sub"].as_str(), claims["act"]["act"]["sub"].as_str()), (Some(OTHER), Some(BOT)));
    assert!(claims["cnf"]["jkt"].is_string() && claims["cnf"] != first.claims()["cnf"], "each member has its own key");
    assert_eq!(claims["authorization_details"][0]["identifier"], "crm/query");

    // And on: back to the first agent, by what it may not hand on itself.
    let again = other.delegate(redeemed.token(), BOT, &[]).await;
    let third = bot.redeem(again.token(), &[]).await.claims();
    let acts = ["/act/sub", "/act/act/sub", "/act/act/act/sub"].map(|act| third.pointer(act).and_then(Value::as_str));
    assert_eq!(acts, [Some(BOT), Some(OTHER), Some(BOT)]);
    assert_eq!(world.executions.all().iter().filter(|execution| execution.started().chain.len() == 2).count(), 1);

    // A renewal goes on with the same chain, and no longer than the execution above.
    let renewed = other.renew(redeemed.token()).await;
    assert_eq!((&renewed.body["execution"], &renewed.claims()["act"]), (&delegated.body["execution"], &claims["act"]));
    world.clock.forward(290);
    assert_eq!(other.renew(renewed.token()).await.body["expires_in"], 10);
    bot.renew(first.token()).await;
    assert_eq!(other.renew(renewed.token()).await.body["expires_in"], 300);
}

#[tokio::test]
async fn what_was_stolen_is_worth_nothing() {
    let world = World::start("").await;
    let (bot, other) = (Client::new(&world, BOT, &world.bot), Client::new(&world, OTHER, &world.other));
    let plain = Client::new(&world, "plain", &world.bot);
    let first = bot.start("Summarise").await;
    let delegated = bot.delegate(first.token(), OTHER, &[]).await;
    let foreign = Client::new(&world, BOT, &world.bot); // the agent, with a key that the credential is not bound to
    let spoilt = |token: &str| {
        let (head, rest) = token.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let claims = claims(token).to_string().replace("agent/other", "agent/plain");
        assert!(!body.is_empty());
        format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims))
    };
    let token = delegated.token();
    for (case, reply, error) in [
        ("another's credential is not exchanged", other.renew(first.token()).await, "invalid_request"),
        ("nor delegated", other.delegate(first.token(), BOT, &[]).await, "invalid_request"),
        ("nor without its key", foreign.delegate(first.token(), OTHER, &[]).await, "invalid_dpop_proof"),
        ("a delegation is for another agent", plain.redeem(token, &[]).await, "invalid_request"),
        ("nor the one who delegated", bot.redeem(token, &[]).await, "invalid_request"),
        ("and is no credential", other.renew(token).await, "invalid_request"),
        ("for somebody else by its text", plain.redeem(&spoilt(token), &[]).await, "invalid_request"),
        ("a credential is no delegation", other.redeem(first.token(), &[]).await, "invalid_request"),
        ("an agent that is not declared", other.delegate(first.token(), "spiffe://acme.example/agent/plain", &[]).await, "invalid_request"),
        ("an agent that is not there", bot.delegate(first.token(), "spiffe://acme.example/agent/nobody", &[]).await, "invalid_target"),
        ("itself, undeclared", bot.delegate(first.token(), BOT, &[]).await, "invalid_target"),
        ("another house's agent", bot.delegate(first.token(), "spiffe://b.example/agent/other", &[]).await, "invalid_target"),
        ("two agents", bot.delegate(first.token(), OTHER, &[("audience", "spiffe://acme.example/agent/plain")]).await, "invalid_target"),
        ("more than the other may", bot.delegate(first.token(), OTHER, &[("effects", "crm/drop")]).await, "invalid_authorization_details"),
        ("a place that it is not for", bot.delegate(first.token(), OTHER, &[("resource", "https://b.example")]).await, "invalid_target"),
        ("another task", other.redeem(token, &[("task", "Delete everything")]).await, "invalid_request"),
        ("nobody's start names an agent", bot.ask(&[("grant_type", "client_credentials"), ("audience", OTHER)]).await, "invalid_target"),
    ] {
        assert_eq!((reply.status, reply.error()), (400, error), "{case}: {reply:?}");
        world.clock.forward(1);
    }
    let refused = |case: &str, reply: Reply| assert_eq!((reply.status, reply.error()), (400, "invalid_request"), "{case}: {reply:?}");

    // None of it has spent the delegation, which is spent once, also after what is on the log was folded again.
    let redeemed = other.redeem(token, &[]).await;
    assert_eq!(redeemed.status, 200, "{redeemed:?}");
    refused("twice", other.redeem(token, &[]).await);
    let mut recovery = bailiwick_core::recovery::Recovery::new(&[]);
    for (position, record) in world.records().into_iter().enumerate() {
        recovery.fold(bailiwick_log::Position(position as u64), record);
    }
    let jti = delegated.claims()["jti"].as_str().unwrap().to_owned();
    let after = recovery.executions().find(redeemed.body["execution"].as_str().unwrap().parse().unwrap()).unwrap();
    assert!(!after.has_token(&jti) && after.has_token(redeemed.claims()["jti"].as_str().unwrap()));

    // What is not redeemed in time, and what comes from an execution that was revoked, is none.
    let late = bot.delegate(first.token(), OTHER, &[]).await;
    world.clock.forward(61);
    refused("late", other.redeem(late.token(), &[]).await);
    let delegated = bot.delegate(first.token(), OTHER, &[]).await;
    world
        .identity
        .revoke_execution(first.body["execution"].as_str().unwrap().parse().unwrap(), bailiwick_control::token::Reason::of("test", ""))
        .await
        .unwrap();
    refused("of what was revoked", other.redeem(delegated.token(), &[]).await);
    refused("after it", other.renew(redeemed.token()).await);
    refused("or by it", bot.delegate(first.token(), OTHER, &[]).await);
}
