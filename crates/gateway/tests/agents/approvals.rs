//! A call that a person has to approve, from the agent's side: what each kind of client is told, and what an approval is good for.

use bailiwick_core::approval::Standing;
use bailiwick_core::model::{Answered, Code, Intent, Person, Verdict};
use bailiwick_log::Position;
use serde_json::{Value, json};

use crate::common::soon;
use crate::support::{Agent, Reply, World, send};

/// The page's origin, and a login for it.
const PAGE: &str =
    "listen = \"127.0.0.1:8482\"\n[approvals.login]\nissuer = \"people\"\nclient_id = \"bailiwick\"\nclaims = { groups = \"approvers\" }\n";
const ACCOUNT: &str = "DE89370400440532013000";

impl World {
    /// An execution that has read the letter, which anybody may have written.
    async fn misled(&self) -> Agent {
        let agent = self.agent("payer");
        let read = send(self.modern(&agent, "/mcp", "tools/call", json!({ "name": "bank__letter", "arguments": {} }))).await;
        assert!(read.text().contains(ACCOUNT), "{read:?}");
        agent
    }

    /// Calls `bank/pay` as a client that opens pages, or not, with what comes beside the arguments.
    async fn pay(&self, agent: &Agent, to: &str, amount: f64, opens: bool, more: Value) -> Reply {
        let capabilities = if opens { json!({ "elicitation": { "url": {} } }) } else { json!({}) };
        let mut params = json!({ "name": "bank__pay", "arguments": { "to": to, "amount": amount }, "capabilities": capabilities });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        send(self.modern(agent, "/mcp", "tools/call", params)).await
    }

    /// Answers what was asked with the intent at `ask`, as the approval service does.
    async fn say(&self, agent: &Agent, ask: Position, approved: bool, endorses: bool, valid_s: i64) -> Position {
        let parts = self.gateway.parts();
        let asked = agent.execution.ledger().asks().find(ask).cloned().unwrap();
        let answered = Answered {
            at: self.now(),
            ask,
            execution: agent.execution.id(),
            agent: agent.execution.started().agent.clone(),
            subject: None,
            tool: asked.tool,
            call: asked.call,
            approved,
            endorses,
            until: self.now().checked_add(std::time::Duration::from_secs(u64::try_from(valid_s).unwrap())).unwrap(),
            by: Person { issuer: "people".to_owned(), subject: "ana".to_owned(), name: None },
        };
        let record = parts.log.append(answered.clone()).await.unwrap().position();
        assert!(agent.execution.answered(record, &answered));
        record
    }

    async fn last(&self) -> Intent {
        self.intents().await.pop().unwrap()
    }
}

fn ask_of(agent: &Agent) -> Position {
    agent.execution.ledger().asks().iter().last().unwrap().id
}

fn decision(reply: &Reply) -> &Value {
    let result = &reply.last()["result"]["_meta"]["dev.bailiwick/decision"];
    if result.is_null() { &reply.last()["error"]["data"]["dev.bailiwick/decision"] } else { result }
}

#[tokio::test]
async fn a_client_that_opens_pages_is_asked_to_and_makes_the_same_call_again() {
    let world = World::asking(PAGE).await;
    let agent = world.misled().await;
    let asked = world.pay(&agent, ACCOUNT, 90.0, true, json!({})).await;
    let (result, ask) = (&asked.body["result"], ask_of(&agent));
    let request = &result["inputRequests"]["approval"];
    assert_eq!((&result["resultType"], &request["params"]["mode"]), (&json!("input_required"), &json!("url")), "{asked:?}");
    assert_eq!(request["params"]["url"], format!("http://127.0.0.1:8482/approvals/{ask}"));
    assert!(!request.to_string().contains(ACCOUNT), "the page says what is approved, to whom it may see it");
    assert_eq!(decision(&asked)["context"]["access_request"]["form_url"], request["params"]["url"]);

    let state = result["requestState"].clone();
    let opened = json!({ "requestState": state, "inputResponses": { "approval": { "action": "accept" } } });
    let (again, ()) = tokio::join!(world.pay(&agent, ACCOUNT, 90.0, true, opened.clone()), async {
        // Whoever opened the page is held until it is answered: the second intent joins the first.
        while world.intents().await.len() < 3 {
            tokio::task::yield_now().await;
        }
        world.say(&agent, ask, true, false, 60).await;
    });
    assert_eq!(again.text(), format!("{{\"to\":\"{ACCOUNT}\",\"amount\":90.0}}"), "{again:?}");
    let used = world.last().await;
    assert!(matches!(used.facts.approval, Some(Standing::Approved { ask: of, .. }) if of == ask), "{:?}", used.facts);
    assert_eq!(agent.execution.ledger().asks().len(), 1, "equal asks are joined");

    let replayed = world.pay(&agent, ACCOUNT, 90.0, true, opened).await;
    assert_eq!(replayed.last()["result"]["resultType"], "input_required", "an approval is used once: {replayed:?}");
    assert_eq!(agent.execution.ledger().asks().len(), 2);
}

#[tokio::test]
async fn an_approval_is_of_no_use_for_any_other_call() {
    let world = World::asking(PAGE).await;
    let (agent, other) = (world.misled().await, world.misled().await);
    let asked = world.pay(&agent, ACCOUNT, 90.0, true, json!({})).await;
    let (state, ask) = (asked.body["result"]["requestState"].clone(), ask_of(&agent));
    world.say(&agent, ask, true, false, 60).await;

    let opened = |state: &Value| json!({ "requestState": state, "inputResponses": { "approval": { "action": "accept" } } });
    let forged = json!(format!("{}A", state.as_str().unwrap()));
    for (agent, to, amount, state) in [
        (&agent, ACCOUNT, 91.0, &state), // another argument
        (&agent, "GB33BUKB20201555555555", 90.0, &state),
        (&other, ACCOUNT, 90.0, &state), // another execution
        (&agent, ACCOUNT, 90.0, &forged),
        (&agent, ACCOUNT, 90.0, &json!("theirs")),
    ] {
        let refused = world.pay(agent, to, amount, true, opened(state)).await;
        assert_eq!(refused.code(), -32602, "{refused:?}");
    }
    let recorded = world.refusals().await;
    assert_eq!(recorded.iter().filter(|refused| refused.code == "invalid_state").count(), 5, "{recorded:?}");
    // Without the state it is judged as a call of its own, and asked about.
    for (agent, to, amount) in [(&agent, ACCOUNT, 91.0), (&other, ACCOUNT, 90.0)] {
        world.pay(agent, to, amount, false, json!({})).await;
        let intent = world.last().await;
        assert_eq!((intent.decision.verdict, intent.decision.code), (Verdict::Ask, Code::ApprovalRequired));
        assert!(matches!(intent.facts.approval, Some(Standing::Asked { .. })));
    }
    assert_eq!(world.outcomes().await.len(), 2, "only the letters were read");
}

#[tokio::test]
async fn an_approval_that_has_ended_is_asked_for_anew_and_a_refusal_stands() {
    let world = World::asking(PAGE).await;
    let agent = world.misled().await;
    world.pay(&agent, ACCOUNT, 1.0, false, json!({})).await;
    world.say(&agent, ask_of(&agent), true, false, 0).await;
    world.pay(&agent, ACCOUNT, 1.0, false, json!({})).await;
    assert!(matches!(world.last().await.facts.approval, Some(Standing::Asked { .. })), "the approval was over");

    world.pay(&agent, ACCOUNT, 2.0, false, json!({})).await;
    let refused = world.say(&agent, ask_of(&agent), false, false, 0).await;
    let again = world.pay(&agent, ACCOUNT, 2.0, false, json!({})).await;
    assert!(again.text().starts_with("approval_refused"), "{again:?}");
    let intent = world.last().await;
    assert_eq!(intent.decision.verdict, Verdict::Deny);
    assert!(matches!(intent.facts.approval, Some(Standing::Refused { answer, .. }) if answer == refused));
}

#[tokio::test]
async fn an_endorsed_value_is_not_asked_about_again_and_nothing_beside_it_is_endorsed() {
    let world = World::asking(PAGE).await;
    let agent = world.misled().await;
    world.pay(&agent, ACCOUNT, 1.0, false, json!({})).await;
    let answer = world.say(&agent, ask_of(&agent), true, true, 60).await;
    for amount in [1.0, 2.0, 3.0] {
        assert!(!world.pay(&agent, ACCOUNT, amount, false, json!({})).await.last()["result"]["isError"].as_bool().unwrap_or(false));
        let traced = &world.last().await.facts.traced[0];
        assert_eq!((traced.provenance.as_str(), traced.origin.as_ref().unwrap().record), ("endorsed", Some(answer)));
    }
    let other = world.pay(&agent, &ACCOUNT[..ACCOUNT.len() - 1], 1.0, false, json!({})).await;
    assert!(other.text().starts_with("approval_required"), "{other:?}");
    let elsewhere = world.misled().await;
    world.pay(&elsewhere, ACCOUNT, 1.0, false, json!({})).await;
    assert_eq!(world.last().await.decision.verdict, Verdict::Ask, "it is endorsed for one execution");
}

#[tokio::test]
async fn an_execution_that_asks_too_often_is_denied() {
    let world = World::asking(&format!("asks_max = 2\n{PAGE}")).await;
    let agent = world.misled().await;
    for amount in [1.0, 1.0, 2.0] {
        assert!(world.pay(&agent, ACCOUNT, amount, false, json!({})).await.text().starts_with("approval_required"));
    }
    let denied = world.pay(&agent, ACCOUNT, 3.0, false, json!({})).await;
    assert!(denied.text().starts_with("asked_too_often"), "{denied:?}");
    assert_eq!(world.last().await.decision.verdict, Verdict::Deny);
}

#[tokio::test]
async fn a_client_that_opens_no_pages_hears_where_a_person_can_answer() {
    let world = World::asking(PAGE).await;
    let agent = world.misled().await;
    let asked = world.pay(&agent, ACCOUNT, 1.0, false, json!({})).await;
    let page = format!("http://127.0.0.1:8482/approvals/{}", ask_of(&agent));
    assert!(asked.text().starts_with("approval_required") && asked.text().ends_with(&page), "{asked:?}");
    assert_eq!(decision(&asked)["context"]["evaluation_id"], ask_of(&agent).to_string());

    let declined = json!({ "requestState": Value::Null, "inputResponses": { "approval": { "action": "decline" } } });
    let first = world.pay(&agent, ACCOUNT, 2.0, true, json!({})).await;
    let mut back = declined;
    back["requestState"] = first.body["result"]["requestState"].clone();
    let told = world.pay(&agent, ACCOUNT, 2.0, true, back).await;
    assert!(told.text().starts_with("approval_required"), "whoever would not open it is not asked to again: {told:?}");
}

#[tokio::test]
async fn a_client_of_2025_11_25_gets_the_error_that_this_revision_has_for_pages() {
    let world = World::asking(PAGE).await;
    let agent = world.misled().await;
    for (capabilities, number) in [(json!({ "elicitation": { "url": {} } }), -32042), (json!({}), 0)] {
        let session = world.session(&agent, "/mcp", capabilities).await;
        let params = json!({ "name": "bank__pay", "arguments": { "to": ACCOUNT, "amount": 1 } });
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let reply = send(world.legacy(&agent, "/mcp", &session, &call)).await;
        assert_eq!(reply.code(), number, "{reply:?}");
        if number != 0 {
            let page = &reply.last()["error"]["data"]["elicitations"][0];
            assert_eq!(
                (&page["mode"], page["url"].as_str().unwrap()),
                (&json!("url"), &*format!("http://127.0.0.1:8482/approvals/{}", ask_of(&agent)))
            );
        }
    }
}

#[tokio::test]
async fn a_call_is_held_open_for_its_answer_where_the_bundle_says_so() {
    let world = World::asking(&format!("hold = \"5m\"\n{PAGE}")).await;
    let agent = world.misled().await;
    let (held, ()) = tokio::join!(world.pay(&agent, ACCOUNT, 1.0, false, json!({})), async {
        while agent.execution.ledger().asks().is_empty() {
            tokio::task::yield_now().await;
        }
        world.say(&agent, ask_of(&agent), true, false, 60).await;
    });
    assert!(held.text().contains(ACCOUNT), "{held:?}");

    // Revoking the execution ends the waiting too.
    let (ended, ()) = tokio::join!(soon(world.pay(&agent, ACCOUNT, 2.0, false, json!({}))), async {
        while agent.execution.ledger().asks().len() < 2 {
            tokio::task::yield_now().await;
        }
        agent.execution.stop();
    });
    assert!(ended.text().starts_with("approval_required"), "{ended:?}");
}
