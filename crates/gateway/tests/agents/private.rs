//! What not everybody may see does not leave by a tool that is not for it.

use bailiwick_core::model::{Code, Intent, Verdict};
use serde_json::{Value, json};

use crate::support::{Agent, Reply, World, send};

impl World {
    async fn says(&self, agent: &Agent, tool: &str, arguments: Value) -> Reply {
        send(self.modern(agent, "/mcp", "tools/call", json!({ "name": format!("bank__{tool}"), "arguments": arguments }))).await
    }

    async fn judged(&self) -> Intent {
        self.intents().await.pop().unwrap()
    }
}

#[tokio::test]
async fn what_an_execution_was_shown_of_a_customer_is_not_published_in_any_words() {
    let world = World::asking("").await;
    let agent = world.agent("payer");
    let published = world.says(&agent, "publish", json!({ "to": "whatever it likes" })).await;
    assert_eq!(published.text(), "done", "nothing private was shown yet: {published:?}");

    world.says(&agent, "balance", json!({})).await;
    for (to, seen_at) in [("Ines Moser", Some("$.owner")), ("8214", Some("$.balance")), ("she has about eight thousand", None)] {
        let refused = world.says(&agent, "publish", json!({ "to": to })).await;
        let judged = world.judged().await;
        assert_eq!((judged.decision.verdict, judged.decision.code), (Verdict::Deny, Code::Confidential), "{to}: {refused:?}");
        assert!(refused.last().to_string().contains("\"confidential\""), "{refused:?}");
        assert!(!refused.last().to_string().contains("customer"), "what the label is called is the operator's affair: {refused:?}");
        let carried = &judged.facts.carried[0];
        assert_eq!((carried.argument.as_str(), carried.may()), ("/to", false));
        assert_eq!(carried.origin.as_ref().map(|origin| &*origin.place), seen_at, "{to}");
        assert!(judged.decision.answers.reasonable.because.contains("`customer`"), "{:?}", judged.decision.answers.reasonable);
    }
    let published = world.says(&agent, "publish", json!({ "to": "Bern" })).await;
    assert_eq!(published.text(), "done", "where the branch is, everybody may know: {published:?}");
}
