//! An agent: it starts executions, calls tools at any gateway, hangs up, and has some of what it holds revoked. It remembers
//! what it has been shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_control::approvals::Answer;
use bailiwick_core::json::Limits;
use bailiwick_core::ledger::Labels;
use bailiwick_core::model::{AgentName, Arguments, Call, ExecutionId, Protocol, ToolName};
use bailiwick_gateway::{Answered, Arrival, Caller, Extras, Gateway, Refusal, Running};
use bailiwick_log::Position;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Invariant;
use crate::bundle::{AGENTS, TOOLS};
use crate::house::{House, Token};
use crate::plan::Planted;
use crate::tools::Seen;
use crate::world::World;

/// One call, as its client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Its number, which its arguments carry.
    pub(crate) number: u64,
    /// The execution that it was made in.
    pub(crate) execution: ExecutionId,
    /// The labels of all that the execution had been shown when the call was sent.
    pub(crate) shown: Labels,
}

/// What one execution has been shown. Clones are of the same execution.
type Shown = Arc<Mutex<Labels>>;

/// An execution that the client holds a credential of.
#[derive(Clone)]
struct Held {
    token: Token,
    shown: Shown,
}

/// The client's end of one call.
struct End {
    world: Arc<World>,
    number: u64,
    held: Held,
    house: Arc<House>,
}

impl End {
    fn sees(&self, text: &str) {
        self.world.reply(text);
        saw(&self.held.shown, &self.world.seen, self.number);
    }
}

fn saw(shown: &Shown, seen: &Seen, number: u64) {
    shown.lock().unwrap_or_else(PoisonError::into_inner).join(&seen.returns(number));
}

#[async_trait]
impl Caller for End {
    async fn show(&self, notification: Value) {
        self.house.life.pass().await;
        self.world.trace.tell(format_args!("call {} is shown something", self.number));
        self.sees(&notification.to_string());
        sleep(self.world.dice.up_to_ms(3)).await;
    }

    async fn ask(&self, method: &str, params: Value) -> Answered {
        self.house.life.pass().await;
        self.sees(&format!("{method} {params}"));
        sleep(self.world.dice.up_to_ms(30)).await;
        Ok(json!({ "action": "accept" }))
    }
}

/// Lives one client's life.
pub(crate) async fn live(world: Arc<World>) {
    let dice = world.dice.clone();
    let mut held: Vec<Held> = Vec::new();
    for _ in 0..world.plan.steps {
        if world.plan.planted == Some(Planted::OtherDice) {
            sleep(other_dice()).await;
        }
        sleep(dice.up_to_ms(if dice.chance(300) { 400 } else { 10 })).await;
        let Some(house) = world.some_house() else { continue };
        if world.plan.delegates {
            match dice.below(10) {
                0 | 1 => delegate(&world, &house, &mut held).await,
                // Which of two gateways' words came last is not known to either at once.
                2 if world.plan.gateways == 1 => hold(&world, &house, dice.chance(400)).await,
                _ => {}
            }
        }
        match dice.below(20) {
            0 | 1 => start(&world, &house, &mut held).await,
            2 => {
                if let Some(one) = dice.pick(&held) {
                    let whole = dice.chance(500);
                    let done = unless_dead(&house, house.revoke(&one.token, whole)).await;
                    world.trace.tell(format_args!("revoked at gateway {}: {}", house.index, done.is_some_and(|done| done.is_ok())));
                }
            }
            _ if held.is_empty() => start(&world, &house, &mut held).await,
            _ => {
                let Some(one) = dice.pick(&held).cloned() else { continue };
                if dice.chance(400) {
                    // Several calls of one execution at once, at any gateways.
                    let other = world.some_house().unwrap_or_else(|| Arc::clone(&house));
                    tokio::join!(call(&world, &house, &one), call(&world, &other, &one));
                } else {
                    call(&world, &house, &one).await;
                }
            }
        }
    }
}

/// A time that no seed decides: it counts the worlds of this process.
fn other_dice() -> Duration {
    static THROWN: AtomicU64 = AtomicU64::new(0);
    Duration::from_millis(THROWN.fetch_add(1, Ordering::Relaxed))
}

async fn start(world: &Arc<World>, house: &House, held: &mut Vec<Held>) {
    let agent = world.dice.pick(&AGENTS).and_then(|name| name.parse::<AgentName>().ok());
    let Some(agent) = agent else { return };
    match unless_dead(house, house.issue(&agent)).await {
        Some(Ok(token)) => {
            world.trace.tell(format_args!("{agent} starts execution {} at gateway {}", token.execution, house.index));
            held.push(Held { token, shown: Shown::default() });
        }
        Some(Err(why)) => world.trace.tell(format_args!("no execution: {why}")),
        None => {}
    }
}

/// Has some agent act for an execution. What either is shown, the other may be told.
async fn delegate(world: &Arc<World>, house: &House, held: &mut Vec<Held>) {
    let to = world.dice.pick(&AGENTS).and_then(|name| name.parse::<AgentName>().ok());
    let (Some(to), Some(by)) = (to, world.dice.pick(held).cloned()) else { return };
    match unless_dead(house, house.delegate(&by.token, &to)).await {
        Some(Ok(token)) => {
            world.trace.tell(format_args!("{} delegates to {to}, execution {}", by.token.execution, token.execution));
            held.push(Held { token, shown: Arc::clone(&by.shown) });
        }
        Some(Err(why)) => world.trace.tell(format_args!("nothing is delegated: {why}")),
        None => {}
    }
}

/// Quarantines or releases some agent.
async fn hold(world: &Arc<World>, house: &House, is_held: bool) {
    let agent = world.dice.pick(&AGENTS).and_then(|name| name.parse::<AgentName>().ok());
    let Some(agent) = agent else { return };
    let done = unless_dead(house, house.hold(&agent, is_held)).await.is_some_and(|done| done.is_ok());
    world.trace.tell(format_args!("{agent} is {} at gateway {}: {done}", if is_held { "quarantined" } else { "released" }, house.index));
}

/// Sends one call, perhaps twice, and waits for its end or does not.
async fn call(world: &Arc<World>, house: &Arc<House>, held: &Held) {
    let dice = &world.dice;
    sleep(dice.up_to_ms(3)).await;
    if dice.chance(world.plan.messages_fail / 2) {
        return; // lost on the way
    }
    let Some((number, call)) = some_call(world, held) else { return };
    let copies = if dice.chance(world.plan.messages_fail / 4) { 2 } else { 1 };
    let asked = send(world, house, held, number, &call, copies).await;
    if let Some(ask) = asked.filter(|_| world.plan.people_answer) {
        answer(world, ask).await;
        // It comes again, perhaps more often than it may, at any gateways.
        let copies = 1 + dice.below(3);
        let again = world.some_house().unwrap_or_else(|| Arc::clone(house));
        send(world, &again, held, number, &call, copies).await;
    }
}

/// A person answers what was asked, or does not.
async fn answer(world: &Arc<World>, ask: Position) {
    sleep(world.dice.up_to_ms(2_000)).await;
    let answer = match world.dice.below(10) {
        0 => return,
        1 => Answer::Refuse,
        _ => Answer::Approve { endorse: world.dice.chance(300) },
    };
    let Some(house) = world.some_house() else { return };
    let answered = unless_dead(&house, house.answer(ask, answer)).await;
    let told = answered.map(|answered| answered.map_err(|error| error.to_string()));
    world.trace.tell(format_args!("a person answers record {ask} at gateway {}: {answer:?}, {told:?}", house.index));
}

/// Sends a call so many times and sees each through; what asked, if a person was asked.
async fn send(world: &Arc<World>, house: &Arc<House>, held: &Held, number: u64, call: &Call, copies: u64) -> Option<Position> {
    let mut running: Vec<Running> = Vec::new();
    for _ in 0..copies {
        // A message may come again much later, or elsewhere.
        let house = if running.is_empty() { Arc::clone(house) } else { world.some_house().unwrap_or_else(|| Arc::clone(house)) };
        let Some(who) = house.authenticate(&held.token) else {
            world.trace.tell(format_args!("gateway {} does not know the credential", house.index));
            continue;
        };
        let end = End { world: Arc::clone(world), number, held: held.clone(), house: Arc::clone(&house) };
        let arrival = Arrival { call: call.clone(), extras: Extras::new() };
        // Whoever waits for one call may make it itself, and hands it over in whatever state it is when it hangs up.
        let makes_it_itself = copies == 1 && number.is_multiple_of(2);
        let making = if makes_it_itself { Gateway::call } else { Gateway::start };
        running.push(making(&house.gateway, who, arrival, Arc::new(end)));
    }
    let mut asked = None;
    for running in running {
        asked = finish(world, house, held, number, running).await.or(asked);
    }
    asked
}

/// Some call, with its number.
fn some_call(world: &Arc<World>, held: &Held) -> Option<(u64, Call)> {
    let dice = &world.dice;
    let shown = held.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let number = world.sends(held.token.execution, shown);
    let mut tool = *dice.pick(&TOOLS)?;
    if world.plan.people_answer && dice.chance(500) {
        // What makes a person be asked, and what asks.
        tool = if dice.chance(300) { "shop/browse" } else { "shop/mail" };
    }
    let arguments = match tool {
        "shop/pay" => json!({ "n": number, "amount": 10 + dice.below(10), "text": format!("memo{number} of today") }),
        "shop/note" => json!({ "n": number, "text": format!("memo{number} of today") }),
        "shop/mail" => json!({ "n": number, "to": "someone" }),
        "shop/look" if dice.chance(50) => json!({ "n": "one" }),
        _ => json!({ "n": number }),
    };
    let text = RawValue::from_string(arguments.to_string()).ok()?;
    let arguments = Arguments::parse(&text, &Limits::default()).ok()?;
    Some((number, Call { tool: tool.parse::<ToolName>().ok()?, protocol: Protocol::Mcp, method: "tools/call", arguments }))
}

/// Sees a call through, or hangs up; what asked, if a person was asked.
async fn finish(world: &Arc<World>, house: &House, held: &Held, number: u64, mut running: Running) -> Option<Position> {
    let patience = if world.dice.chance(world.plan.hang_ups) { world.dice.up_to_ms(60) } else { Duration::from_secs(7_200) };
    let ended = tokio::select! {
        biased;
        () = house.life.over() => None,
        ended = running.ended() => Some(ended),
        () = sleep(patience) => None,
    };
    drop(running);
    let lost = world.dice.chance(world.plan.messages_fail / 2);
    match ended {
        None => world.trace.tell(format_args!("call {number} gets no answer")),
        Some(_) if lost => world.trace.tell(format_args!("the answer to call {number} is lost")),
        Some(Ok(answer)) => {
            world.reply(&format!("{answer:?}"));
            saw(&held.shown, &world.seen, number);
            world.trace.tell(format_args!("call {number} is answered"));
        }
        Some(Err(refusal)) => {
            if matches!(refusal, Refusal::Crashed) {
                world.object(Invariant::Whole, format!("the task of call {number} died"));
            }
            world.reply(&format!("{refusal} {refusal:?}"));
            world.trace.tell(format_args!("call {number}: {refusal}"));
            if let Refusal::Asked { ask, .. } = refusal {
                return Some(ask);
            }
        }
    }
    None
}

/// Waits for something that a gateway does, for as long as the gateway lives.
async fn unless_dead<T>(house: &House, doing: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = house.life.over() => None,
        done = doing => Some(done),
    }
}
