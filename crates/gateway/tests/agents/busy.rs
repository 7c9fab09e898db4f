//! When there is too much: who is refused, by what words, and who is not.

use bailiwick_core::model::Ending;
use bailiwick_core::pressure::{BEAT, TARGET};
use bailiwick_log::Position;
use serde_json::json;

use crate::common::soon;
use crate::support::{Agent, Reply, World, open, send};

fn query(world: &World, agent: &Agent) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    world.modern(agent, "/mcp/crm", "tools/call", json!({ "name": "query", "arguments": {} }))
}

/// Begins a call that has shown something and does not end.
async fn begin(world: &World, agent: &Agent) -> crate::support::Stream {
    let params = json!({ "name": "slow", "arguments": {}, "_meta": { "progressToken": 1 } });
    let (_, mut stream) = open(world.modern(agent, "/mcp/crm", "tools/call", params)).await;
    assert_eq!(stream.next().await.unwrap()["method"], "notifications/progress");
    stream
}

#[tokio::test]
async fn who_fills_the_room_is_refused_while_others_get_through_and_goes_on_when_calls_have_ended() {
    let world = World::limited("calls_max = 13\n").await;
    let noisy = [world.agent("bot"), world.agent("bot")];
    let said = |reply: &Reply| (reply.status, reply.header("retry-after").to_owned(), reply.code());
    // One server alone gets a third of the room, and a place more where that is not whole; one agent half of that.
    let mut calls = Vec::new();
    for number in 0..3 {
        calls.push(begin(&world, &noisy[number % 2]).await);
    }
    let refused = send(query(&world, &noisy[0])).await;
    assert_eq!(said(&refused), (429, "1".to_owned(), 429), "{refused:?}");
    assert!(refused.body["error"]["message"].as_str().unwrap().starts_with("too_many_calls: "), "{refused:?}");
    let others = [world.agent("second"), world.agent("third")];
    assert_eq!(send(query(&world, &others[1])).await.status, 200, "another agent is not shut out");
    for other in &others {
        calls.push(begin(&world, other).await);
    }
    let refused = send(query(&world, &noisy[0])).await;
    assert_eq!(said(&refused), (503, "1".to_owned(), 503), "{refused:?}");
    assert!(refused.body["error"]["message"].as_str().unwrap().starts_with("tool_busy: "), "{refused:?}");
    assert_eq!(refused.body["error"]["data"]["dev.bailiwick/failure"], json!({ "code": "tool_busy", "retryAfter": 1 }));
    assert_eq!(world.intents().await.len(), 6, "what is refused for want of room is not judged");
    assert_eq!(world.refusals().await.pop().unwrap().code, "tool_busy", "and yet it is on the log");

    calls.pop();
    assert_eq!(world.outcome(2).await.code, Ending::Cancelled);
    // The place is given back a moment after the outcome is on the log.
    soon(async { while send(query(&world, &others[1])).await.status != 200 {} }).await;
    drop(calls);
    world.outcome(7).await;
    soon(async { while send(query(&world, &noisy[1])).await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_gateway_that_stops_cancels_what_does_not_end_and_every_intent_has_its_outcome() {
    let world = World::limited("").await;
    let agent = world.agent("bot");
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(begin(&world, &agent).await);
    }
    soon(world.gateway.end()).await;
    let outcomes = world.outcomes().await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.code).collect::<Vec<_>>(), [Ending::Cancelled; 3]);
    assert_eq!(outcomes[0].detail, "the gateway was asked to stop");
}

#[tokio::test]
async fn under_pressure_who_asks_the_most_is_turned_away_unseen_and_nobody_else() {
    let world = World::start().await;
    let (noisy, quiet) = (world.agent("bot"), world.agent("plain"));
    assert_eq!(send(query(&world, &noisy)).await.status, 200);
    let bearer = || {
        let mut request = query(&world, &quiet);
        request.headers_mut().insert("authorization", format!("Bearer {}", quiet.token).parse().unwrap());
        request.headers_mut().remove("dpop");
        request
    };
    assert_eq!(send(bearer()).await.status, 200);
    // As a machine that is behind would: what is ready waits a second, and much has arrived.
    let pressure = world.face.front().pressure();
    for _ in 0..100 {
        pressure.admit(|| "something");
    }
    for _ in 0..12 {
        pressure.beat(100 * TARGET);
        for _ in 0..100 {
            pressure.admit(|| "something");
        }
    }
    assert!(pressure.is_high());
    let length = world.gateway.parts().log.storage().len();
    let mut refused = None;
    for _ in 0..200 {
        // Its proof is made once: what is turned away is not looked at so closely.
        let reply = send(query(&world, &noisy)).await;
        if reply.status == 503 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("one of many is turned away");
    assert_eq!((refused.header("retry-after"), refused.code()), ("1", 503));
    assert!(refused.body["error"]["message"].as_str().unwrap().starts_with("gateway_busy: "), "{refused:?}");
    assert!(refused.header("dpop-nonce").is_empty(), "nobody has looked at its credential");
    assert_eq!(send(bearer()).await.status, 200, "who asks little is served");
    world.face.front().record_turned_away().await;
    let told = world.refusals().await.pop().unwrap();
    assert_eq!((told.stage.as_str(), told.code.as_str()), ("admit", "gateway_busy"));
    assert!(world.gateway.parts().log.storage().durable(Position(length)).await.is_ok());
    for _ in 0..2_000 {
        pressure.beat(BEAT / 100);
    }
    assert!(!pressure.is_high());
    assert_eq!(send(query(&world, &noisy)).await.status, 200, "it recovers");
}
