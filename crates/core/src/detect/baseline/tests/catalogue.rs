//! Each entry of the catalogue that a baseline raises: what is one, and what only looks like it.

use super::*;

/// What is raised, by the entries of the catalogue.
fn entries(odd: &[Oddity]) -> Vec<String> {
    odd.iter().map(|odd| odd.finding().detector.catalogue.unwrap()).collect()
}

/// One execution of these calls, and what is raised.
fn run(world: &mut World, who: u32, calls: &[(&str, Value)]) -> Vec<Oddity> {
    let execution = world.start(&name(who), &format!("user:{who}"));
    calls.iter().flat_map(|(tool, arguments)| world.call((&name(who), &execution), tool, arguments.clone(), "allow", &[])).collect()
}

/// A role that has learned enough of what `calls` says of each round and agent, a round an hour.
fn learned(rounds: u32, calls: impl Fn(u32, u32) -> Vec<(&'static str, Value)>) -> World {
    let mut world = World::new();
    for round in 0..rounds {
        for number in 0..20 {
            run(&mut world, number, &calls(round, number));
            world.now_s += 10;
        }
        world.now_s += 3400;
    }
    world.settle();
    assert!(world.role().is_enough());
    world
}

fn pay(to: &str) -> Value {
    json!({ "to": to, "amount": 12 })
}

#[test]
fn a_tool_with_an_effect_that_its_role_never_used_is_told_and_one_that_only_reads_is_not() {
    let mut world = settled();
    assert_eq!(run(&mut world, 1, &[("bank/peek", json!({ "n": 10 })), ("bank/send", pay("payee-1"))]), []);
    let odd = run(&mut world, 2, &[("bank/look", json!({ "n": 10 })), ("bank/send_all", pay("payee-1"))]);
    assert_eq!(entries(&odd), ["TU-01"], "{odd:?}");
    let finding = odd[0].finding();
    assert!(finding.seen.contains("`bank/send_all` has an effect, and no agent in this role ever used it"), "{}", finding.seen);
    assert_eq!(finding.impact, 6, "it sends");
}

#[test]
fn arguments_of_another_shape_or_a_size_far_from_any_are_told_and_a_size_next_to_a_known_one_is_not() {
    let mut world = settled();
    assert_eq!(run(&mut world, 1, &[("bank/send", json!({ "to": "payee-1", "amount": 25 }))]), [], "twice as much");
    for arguments in [json!({ "to": "payee-1", "amount": 12, "also": "x" }), json!({ "to": "payee-1", "amount": 90_000 })] {
        let odd = run(&mut world, 2, &[("bank/send", arguments)]);
        assert_eq!(entries(&odd), ["TU-05"], "{odd:?}");
    }
}

#[test]
fn a_burst_of_one_tool_among_as_many_calls_as_ever_is_told() {
    let calls = |_, _| {
        let looks = (0..20).map(|_| ("bank/look", json!({ "n": 10 })));
        looks.chain([("bank/send", pay("payee-1"))]).collect::<Vec<_>>()
    };
    let mut world = learned(15, calls);
    assert_eq!(run(&mut world, 1, &calls(0, 0)), []);
    let odd = run(&mut world, 2, &(0..20).map(|_| ("bank/send", pay("payee-1"))).collect::<Vec<_>>());
    assert_eq!(entries(&odd), ["TU-06"], "{odd:?}");
    assert_eq!(odd[0].because[0].signal, Signal::CallsOfTool);
}

#[test]
fn an_effect_at_an_hour_at_which_people_never_start_the_agent_is_told_after_two_weeks() {
    // 20 days, each from eight to five, four times an hour.
    let build = |days: i64| {
        let mut world = World::new();
        let midnight = world.now_s - world.now_s % 86_400;
        for day in 0..days {
            for quarter in 0..36 {
                world.now_s = midnight + day * 86_400 + 8 * 3600 + quarter * 900;
                run(&mut world, 1, &[("bank/send", pay("payee-1"))]);
            }
        }
        world.settle();
        world.now_s = midnight + days * 86_400 + 12 * 3600;
        assert_eq!(run(&mut world, 1, &[("bank/send", pay("payee-1"))]), [], "at noon");
        world.now_s = midnight + (days + 1) * 86_400 + 3 * 3600;
        world
    };
    let mut world = build(20);
    assert_eq!(run(&mut world, 1, &[("bank/look", json!({ "n": 10 }))]), [], "it may look at any time");
    let odd = run(&mut world, 1, &[("bank/send", pay("payee-1"))]);
    assert_eq!(entries(&odd), ["TU-07"], "{odd:?}");
    assert_eq!(run(&mut build(10), 1, &[("bank/send", pay("payee-1"))]), [], "nobody knows its weeks yet");
}

#[test]
fn far_more_destroyed_or_spent_than_usual_is_told() {
    let calls = |_, _| {
        let looks = (0..30).map(|_| ("bank/look", json!({ "n": 10 })));
        looks.chain([("bank/delete_draft", json!({ "id": 4 })), ("bank/buy", json!({ "amount": 5 }))]).collect::<Vec<_>>()
    };
    let mut world = learned(15, calls);
    assert_eq!(run(&mut world, 1, &calls(0, 0)), []);
    let odd = run(&mut world, 2, &(0..30).map(|_| ("bank/delete_draft", json!({ "id": 4 }))).collect::<Vec<_>>());
    assert_eq!(entries(&odd), ["TU-08"], "{odd:?}");
    world.settle();
    // Each of them by itself is as many calls of one tool as well; what is spent is told beside that.
    let odd = run(&mut world, 3, &(0..40).map(|_| ("bank/buy", json!({ "amount": 5 }))).collect::<Vec<_>>());
    assert_eq!(entries(&odd), ["TU-06", "CO-01"], "{odd:?}");
}

#[test]
fn far_more_to_one_destination_is_told_though_no_more_than_ever_is_sent_in_all() {
    let post = |host: &str, letters: usize| ("bank/send_post", json!({ "url": format!("https://{host}/x"), "body": "b".repeat(letters) }));
    let calls = |_, _| vec![post("large.example", 20_000), post("small.example", 100)];
    let mut world = learned(40, calls);
    assert_eq!(run(&mut world, 1, &calls(0, 0)), []);
    let odd = run(&mut world, 2, &[post("small.example", 20_000)]);
    assert_eq!(entries(&odd), ["EX-01"], "{odd:?}");
    assert_eq!(odd[0].because[0].signal, Signal::BytesTo);
}

#[test]
fn a_little_at_a_time_to_a_new_destination_is_told_within_the_week_and_to_an_old_one_is_not() {
    let post = |host: &str| ("bank/send_post", json!({ "url": format!("https://{host}/x"), "body": "b".repeat(2_000) }));
    let build = || {
        let mut world = World::new();
        for _ in 0..150 {
            for number in 0..20 {
                run(&mut world, number, &[post("old.example")]);
                world.now_s += 10;
            }
            world.now_s += 86_200;
        }
        world.settle();
        world
    };
    let days = |host: &str| {
        let mut world = build();
        (0..7 * 24).find_map(|hour| {
            let odd = run(&mut world, 2, &[post(host)]);
            world.now_s += 3600;
            (!odd.is_empty()).then(|| (hour / 24, entries(&odd)))
        })
    };
    assert_eq!(days("old.example"), None);
    let (day, told) = days("drop.example").unwrap();
    assert_eq!(told, ["EX-03"]);
    assert!(day < 7, "on day {day}");
}

#[test]
fn a_gap_that_is_usual_once_in_ten_thousand_is_told_and_one_of_two_weeks_that_is_not_is_not() {
    let mut world = World::new();
    // Twice a month: two weeks are nothing to it.
    for round in 0..240 {
        run(&mut world, round % 20, &[("bank/send", pay("payee-1"))]);
        world.now_s += 18 * 3600;
    }
    world.settle();
    world.now_s += 16 * 24 * 3600;
    assert_eq!(run(&mut world, 1, &[("bank/send", pay("payee-1"))]), [], "16 days are usual for it");
    world.now_s += 500 * 24 * 3600;
    let odd = run(&mut world, 2, &[("bank/send", pay("payee-1"))]);
    assert_eq!(entries(&odd), ["ID-07"], "{odd:?}");
}

#[test]
fn what_was_told_is_not_learned_by_its_window_either() {
    let mut world = settled();
    assert_eq!(entries(&run(&mut world, 2, &[("bank/send_all", pay("payee-1"))])), ["TU-01"]);
    let before = world.baselines.overlay(&agent(2)).unwrap().calls().windows();
    world.settle();
    run(&mut world, 2, &[("bank/look", json!({ "n": 10 }))]);
    assert_eq!(world.baselines.overlay(&agent(2)).unwrap().calls().windows(), before);
}

#[test]
fn a_network_from_which_no_agent_of_the_role_came_is_told_and_one_that_is_known_is_not() {
    let call = |world: &mut World, who: u32, network: &str| {
        let execution = world.start(&name(who), &format!("user:{who}"));
        let answer = json!({ "holds": null, "because": "" });
        world.record(
            json!({ "kind": "intent", "bundle": DIGEST, "state": 0, "execution": execution, "sequence": 0, "agent": name(who),
            "tool": "bank/look", "effect": "read", "protocol": "mcp", "method": "tools/call", "arguments_digest": DIGEST, "network": network,
            "facts": { "calls": 1, "labels": { "integrity": "trusted" } }, "verdict": "allow", "code": "allowed",
            "answers": { "reasonable": answer, "role": answer, "delegation": answer, "normal": answer } }),
        )
    };
    let mut world = World::new();
    for number in 0..300 {
        call(&mut world, number % 20, if number % 3 == 0 { "10.1.2.0/24" } else { "10.1.3.0/24" });
        world.now_s += 600;
    }
    world.settle();
    assert_eq!(call(&mut world, 1, "10.1.2.0/24"), []);
    let odd = call(&mut world, 2, "203.0.113.0/24");
    assert_eq!(entries(&odd), ["ID-08"], "{odd:?}");
    assert!(odd[0].finding().seen.contains("203.0.113.0/24"), "{odd:?}");
}
