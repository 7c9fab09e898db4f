//! What is remembered of signals, and what a house tells of itself is what another reads.

use bailiwick_log::Position;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::bundle::{self, Snapshot};
use crate::model::{Quarantined, Record, Released, Revocation, Revoked, Signal, SignalEnd, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A house whose agents are `bot`, who is another house's agent of that name, and `front`.
fn house(name: &str, of: &str) -> Snapshot {
    let agent = |name: &str, rest: &str| format!("[agent]\nname = \"{name}\"\nowner = \"o@a.example\"\npurpose = \"Tests\"\n{rest}");
    let federated = format!("[[agent.federation]]\nissuer = \"there\"\nclaims = {{ sub = \"spiffe://{of}.example/agent/bot\" }}\n");
    let files = [
        (
            "bailiwick.toml",
            format!(
                "trust_domain = \"{name}.example\"\n[identity]\norigin = \"https://{name}.example\"\n[[stream]]\nname = \"s\"\naudience = \"https://{of}.example\"\npush = {{ url = \"https://{of}.example/signals/there\" }}\n"
            ),
        ),
        (
            "issuers.toml",
            format!(
                "[[issuer]]\nname = \"there\"\nissuer = \"https://{of}.example\"\n[[issuer]]\nname = \"idp\"\nissuer = \"https://idp.example\"\n[[transmitter]]\nname = \"there\"\nof = \"there\"\n"
            ),
        ),
        ("agents/bot.toml", agent("bot", &federated)),
        ("agents/front.toml", agent("front", "")),
    ];
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.into_bytes())).collect();
    bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot
}

/// Whom `there` means by what `here` tells of a record.
fn understood(here: &Snapshot, there: &Snapshot, record: impl Into<Record>) -> Vec<(Kind, bool, Whom)> {
    let transmitter = &there.signals.transmitters["there"];
    let read = |told: Told| {
        let event = Event::parse(&told.kind.uri().unwrap(), told.payload.as_object().unwrap()).unwrap();
        assert_eq!(event.kind, told.kind);
        let subject = Subject::parse(&told.subject).unwrap();
        (event.kind, event.is_grave, whom(there, transmitter, &subject).unwrap_or_default())
    };
    told(&record.into(), here).into_iter().map(read).collect()
}

#[test]
fn what_one_house_tells_another_understands_and_what_was_heard_is_not_told_on() {
    let (a, b) = (house("a", "b"), house("b", "a"));
    let quarantined = |by: &str, since: i64| Quarantined {
        at: at(9),
        agent: "bot".parse().unwrap(),
        since: at(since),
        by: by.into(),
        reason: "r".into(),
        finding: None,
    };
    let revoked =
        |what, by: &str| Revoked { at: at(9), what, execution: None, agent: None, by: by.into(), reason: "r".into(), finding: None };
    let bot = Whom { agents: vec!["bot".parse().unwrap()], named: "spiffe://a.example/agent/bot".into(), ..Whom::default() };
    let ana = Whom { person: Some("there:idp:ana".into()), named: "idp:ana".into(), ..Whom::default() };
    assert_eq!(understood(&a, &b, quarantined("unix:ops", 9)), [(Kind::RiskLevelChange, true, bot.clone())]);
    let released = Released { at: at(9), agent: "bot".parse().unwrap(), by: "unix:ops".into(), reason: "r".into(), only: None };
    assert_eq!(understood(&a, &b, released), [(Kind::RiskLevelChange, false, bot.clone())]);
    assert_eq!(understood(&a, &b, revoked(Revocation::Subject("idp:ana".into()), "unix:ops")), [(Kind::SessionRevoked, true, ana)]);
    assert_eq!(
        understood(&a, &b, revoked(Revocation::Agent("bot".parse().unwrap()), "agent bot")),
        [(Kind::SessionRevoked, true, bot.clone())]
    );
    let owner = Revocation::Owner { owner: "o@a.example".into(), agents: vec!["bot".parse().unwrap(), "front".parse().unwrap()] };
    let told = understood(&a, &b, revoked(owner, "unix:ops"));
    assert_eq!((told.len(), &told[0].2), (2, &bot));
    // By the name that their own issuer gives, for whoever hears of people from that one.
    let told = super::told(&revoked(Revocation::Subject("idp:ana".into()), "unix:ops").into(), &a);
    assert_eq!(told[0].subject["identifiers"][1], json!({ "format": "iss_sub", "iss": "https://idp.example", "sub": "ana" }));
    assert_eq!(told[0].payload["initiating_entity"], "admin");
    // Said again for those who read back a day, and heard from another: not told.
    for silent in [quarantined("unix:ops", 3), quarantined("transmitter there", 9)] {
        assert!(understood(&a, &b, silent).is_empty());
    }
    assert!(understood(&a, &b, revoked(Revocation::All, "transmitter there")).is_empty());
}

fn signal(number: u64, at_s: i64, code: SignalEnd, executions: u64) -> Signal {
    let acts = if code == SignalEnd::Revoked { vec![Position(number)] } else { Vec::new() };
    Signal {
        at: at(at_s),
        transmitter: "idp".into(),
        token: number.to_string(),
        issued: at(at_s),
        event: "e".into(),
        code,
        subject: None,
        agents: Vec::new(),
        named: String::new(),
        reason: String::new(),
        executions,
        acts,
        settles: None,
        by: None,
    }
}

#[test]
fn what_was_acted_on_is_known_for_as_long_as_it_could_come_again_and_counts_for_an_hour() {
    let heard = Heard::default();
    for number in 0..5 {
        heard.took(Position(number), &signal(number, 100, SignalEnd::Revoked, number % 2));
    }
    heard.took(Position(5), &signal(5, 100, SignalEnd::Noted, 0));
    heard.took(Position(6), &signal(6, 100, SignalEnd::Held, 0));
    assert_eq!(heard.stopped_lately("idp", at(3_699)), 2);
    assert_eq!(heard.stopped_lately("idp", at(3_700)), 0);
    assert!(heard.has("idp", "0") && heard.has("idp", "6") && !heard.has("idp", "5") && !heard.has("other", "0"));
    let settled = Signal { settles: Some(Position(6)), ..signal(6, 200, SignalEnd::Dismissed, 0) };
    assert_eq!(heard.held().len(), 1);
    heard.took(Position(7), &settled);
    assert!(heard.held().is_empty());
    // A day and an hour later a signal so old is refused for its age.
    heard.took(Position(8), &signal(8, 100 + SET_LIFE_S_MAX + 3_601, SignalEnd::Revoked, 1));
    assert!(!heard.has("idp", "0") && heard.has("idp", "8"));
    let kept = heard.kept();
    let again = Heard::default();
    kept.iter().for_each(|(transmitter, heard)| again.restore(transmitter, *heard));
    assert_eq!(again.kept(), kept);
    for number in 10..2_000 {
        heard.took(Position(number), &signal(number, 200_000, SignalEnd::Held, 0));
    }
    assert_eq!((heard.held().len(), heard.held()[0].0), (1_024, Position(976)), "the oldest made room");
}

proptest! {
    #[test]
    fn reading_a_subject_or_an_event_never_panics(text in "[\\PC{}\":,\\[\\]a-z_]{0,200}", kind in 0_usize..12) {
        let kinds = ["complex", "aliases", "iss_sub", "uri"];
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "format": kinds[kind % 4], "uri": text, "identifiers": [text] }));
        let _ = Subject::parse(&value);
        let payload = value.as_object().cloned().unwrap_or_default();
        let name = Kind::settable().nth(kind).unwrap_or_default();
        let uri = Kind::named(name).and_then(Kind::uri).unwrap_or_default();
        let _ = Event::parse(&uri, &payload);
    }
}
