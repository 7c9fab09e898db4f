//! What is planned about findings, whatever happens in between.

use proptest::prelude::*;

use super::*;
use crate::detect::finding::{About, Detector, Evidence, Finding, Kind, Proof};
use crate::model::{Cautioned, Revoked};

/// A log, and whoever answers what is found on it.
struct House {
    log: Vec<Record>,
    responder: Responder,
    orders: Orders,
    now: i64,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn agent(number: u8) -> AgentName {
    format!("agent-{number}").parse().unwrap()
}

fn finding(number: u8, response: Response, impact: u8) -> Finding {
    let detector = Detector {
        id: format!("rule-{number}"),
        catalogue: Some(format!("PE-{number:02}")),
        title: "Odd".to_owned(),
        kind: Kind::Rule,
        tags: Vec::new(),
        guardduty: None,
        falsepositives: Vec::new(),
        response,
    };
    let execution = Some(ExecutionId::from_u128(u128::from(number)));
    let about = About { agent: Some(agent(number % 4)), execution, ..About::default() };
    let evidence = Evidence { proof: Proof::Record(u64::from(number)), at: at(0), says: String::new() };
    Finding::new(detector, about, evidence, String::new(), String::new()).weighing(impact, 1.0)
}

impl House {
    fn new(mode: Mode, stops_per_hour: usize) -> Self {
        let orders = Orders { mode, stops_per_hour, when: Vec::new() };
        Self { log: Vec::new(), responder: Responder::default(), orders, now: 0 }
    }

    fn append(&mut self, record: impl Into<Record>) -> Position {
        let record = record.into();
        let position = Position(self.log.len() as u64);
        self.responder.fold(position, &record);
        self.log.push(record);
        position
    }

    fn found(&mut self, mut finding: Finding) -> Position {
        finding.last = finding.last.max(at(self.now));
        self.append(Found::new(at(self.now), finding, None))
    }

    fn due(&mut self) -> Vec<Planned> {
        self.responder.due(&self.orders, &|_| None, at(self.now))
    }

    /// Does what is due. Says no where the log takes no more than so many records of it.
    fn answer(&mut self, records_max: usize) {
        let mut left = records_max;
        for planned in self.due() {
            let finding = planned.case.finding;
            let acts = match &planned.step {
                Step::Do if left == 0 => {
                    self.responder.failed(&finding, at(self.now));
                    continue;
                }
                Step::Do => {
                    left -= 1;
                    vec![self.act(&planned)]
                }
                Step::Note(_, _, acts) => acts.clone(),
            };
            if left == 0 {
                self.responder.failed(&finding, at(self.now));
                continue;
            }
            left -= 1;
            let record = match &planned.step {
                Step::Do => planned.record(at(self.now), ResponseEnd::Done, String::new(), acts),
                Step::Note(code, why, acts) => planned.record(at(self.now), *code, why.clone(), acts.clone()),
            };
            self.append(record);
        }
    }

    fn act(&mut self, planned: &Planned) -> Position {
        let (at, by, reason, finding) = (at(self.now), BY.to_owned(), String::new(), Some(planned.case.finding));
        match planned.response {
            Response::Quarantine => {
                let agent = planned.case.agent.clone().unwrap();
                self.append(Quarantined { at, agent, since: at, by, reason, finding })
            }
            Response::Revoke => {
                let execution = planned.case.execution;
                let what = Revocation::Execution(execution.unwrap());
                self.append(Revoked { at, what, execution, agent: None, by, reason, finding })
            }
            Response::Lower | Response::Ask => {
                let caution = if planned.response == Response::Ask { Caution::Ask } else { Caution::Suspect };
                let agent = planned.case.agent.clone().unwrap();
                self.append(Cautioned { at, agent, caution, since: at, by, reason, finding })
            }
            Response::Record | Response::Notify => panic!("nothing is done"),
        }
    }

    fn release(&mut self, number: u8) {
        let (at, agent) = (at(self.now), agent(number));
        self.append(crate::model::Released { at, agent, by: "unix:ops".to_owned(), reason: String::new(), only: None });
    }

    fn person(&mut self, finding: &Finding, code: ResponseEnd) {
        let known = self.responder.known(&finding.id).unwrap().clone();
        let settles = self.responder.held().iter().find(|(_, held)| held.finding == finding.id).map(|(position, _)| *position);
        let (agent, execution, found) = (known.agent, known.execution, known.found);
        self.append(Responded {
            at: at(self.now),
            finding: finding.id,
            found,
            agent,
            execution,
            response: Response::Quarantine,
            code,
            detail: String::new(),
            acts: Vec::new(),
            settles,
            by: "unix:ops".to_owned(),
            reason: "r".to_owned(),
        });
    }

    /// When something was stopped by itself.
    fn stops(&self) -> Vec<Timestamp> {
        let stop = |record: &Record| match record {
            Record::Quarantined(Quarantined { at, finding: Some(_), .. }) | Record::Revoked(Revoked { at, finding: Some(_), .. }) => {
                Some(*at)
            }
            _ => None,
        };
        self.log.iter().filter_map(stop).collect()
    }

    fn ends(&self) -> Vec<(Response, ResponseEnd)> {
        let end = |record: &Record| match record {
            Record::Response(responded) => Some((responded.response, responded.code)),
            _ => None,
        };
        self.log.iter().filter_map(end).collect()
    }
}

#[test]
fn the_first_order_that_fits_decides_and_otherwise_what_the_detectors_author_says() {
    let pattern = |text: &str| vec![text.parse().unwrap()];
    let when = |rules: &str, does| When { rules: pattern(rules), does: Some(does), ..When::default() };
    let orders = Orders {
        mode: Mode::Act,
        when: vec![
            When { owners: pattern("*@ops.example"), does: Some(Response::Record), ..When::default() },
            When { level: Some(crate::detect::finding::Level::Critical), ..when("PE-*", Response::Revoke) },
            when("PE-01", Response::Ask),
            when("rule-2", Response::Notify),
            When { kinds: vec![Kind::Behaviour], does: Some(Response::Revoke), ..When::default() },
        ],
        ..Orders::default()
    };
    let owner = |name: &AgentName| (name.as_str() == "agent-3").then(|| "ana@ops.example".to_owned());
    for (number, impact, response) in [
        (1, 5, Response::Ask),
        (1, 10, Response::Revoke),
        (2, 5, Response::Notify),
        (3, 10, Response::Record),
        (4, 5, Response::Quarantine),
    ] {
        let case = Case::of(&finding(number, Response::Quarantine, impact));
        assert_eq!(orders.response(&case, &owner), response, "{number} {impact}");
    }
}

#[test]
fn what_goes_beyond_the_ceiling_waits_for_a_person_and_is_settled_once() {
    let mut house = House::new(Mode::Act, 2);
    let found: Vec<Finding> = (0..4).map(|number| finding(number, Response::Quarantine, 9)).collect();
    for finding in found.iter().cloned() {
        house.found(finding);
    }
    house.answer(usize::MAX);
    use ResponseEnd::{Dismissed, Done, Held};
    let ends = |house: &House| house.ends().into_iter().map(|(_, code)| code).collect::<Vec<_>>();
    assert_eq!(ends(&house), [Done, Done, Held, Held]);
    assert_eq!(house.responder.held().len(), 2);
    assert!(house.due().is_empty(), "what is held is not planned again");
    house.person(&found[2], Dismissed);
    house.person(&found[3], Done);
    assert!(house.responder.held().is_empty());
    assert_eq!(house.stops().len(), 2, "what a person does is not counted");
    // An hour later there is room again; what a person decided about stands even as it gets worse.
    house.now = 3_601;
    house.found(finding(2, Response::Revoke, 10));
    house.found(finding(5, Response::Revoke, 10));
    house.answer(usize::MAX);
    assert_eq!(ends(&house)[4..], [Dismissed, Done, Done]);
    assert_eq!(house.stops().len(), 3);
}

#[test]
fn a_finding_that_gets_worse_is_answered_with_more_and_one_that_an_operator_released_is_not() {
    let mut house = House::new(Mode::Act, 5);
    for (response, count) in
        [(Response::Notify, 1), (Response::Notify, 1), (Response::Ask, 2), (Response::Lower, 2), (Response::Quarantine, 3)]
    {
        house.found(finding(1, response, 9));
        house.answer(usize::MAX);
        assert_eq!(house.ends().len(), count, "{response:?}");
    }
    house.release(1);
    house.found(finding(1, Response::Revoke, 10));
    house.answer(usize::MAX);
    assert_eq!((house.ends().len(), house.stops().len()), (3, 1), "the same finding");
    house.found(finding(5, Response::Quarantine, 9));
    house.answer(usize::MAX);
    assert_eq!(house.stops().len(), 2, "another finding about the same agent");
    house.found(finding(9, Response::Quarantine, 9));
    house.answer(usize::MAX);
    assert_eq!(house.ends().last(), Some(&(Response::Quarantine, ResponseEnd::Nothing)), "it is quarantined already");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_what_goes_on_after_it_is_answered() {
    let mut house = House::new(Mode::DryRun, 5);
    house.found(finding(1, Response::Quarantine, 9));
    house.answer(usize::MAX);
    house.orders.mode = Mode::Act;
    house.answer(usize::MAX);
    assert_eq!(house.ends(), [(Response::Quarantine, ResponseEnd::DryRun)], "what was answered is not answered again");
    house.found(finding(1, Response::Quarantine, 9));
    house.answer(usize::MAX);
    assert_eq!(house.ends()[1..], [(Response::Quarantine, ResponseEnd::Done)]);
}

#[test]
fn a_log_that_cannot_be_written_makes_no_room_for_more_stops() {
    let mut house = House::new(Mode::Act, 2);
    for number in 0..4 {
        house.found(finding(number, Response::Quarantine, 9));
        house.answer(0);
        house.now += 4_000;
    }
    house.answer(usize::MAX);
    let done = house.ends().into_iter().filter(|(_, code)| *code == ResponseEnd::Done).count();
    assert_eq!((done, house.responder.held().len()), (2, 2));
}

#[test]
fn what_happened_long_ago_is_for_people() {
    let mut house = House::new(Mode::Act, 5);
    let old = finding(1, Response::Quarantine, 9);
    house.now = STALE_S + 1;
    house.append(Found::new(at(house.now), old, Some("cloudtrail".to_owned())));
    house.answer(usize::MAX);
    assert_eq!(house.ends(), [(Response::Quarantine, ResponseEnd::Nothing)]);
    house.append(Found::new(at(house.now), finding(2, Response::Notify, 9), None));
    house.append(Found::new(at(house.now), Finding { last: at(1), ..finding(5, Response::Quarantine, 9) }, None));
    house.answer(usize::MAX);
    assert_eq!(house.ends()[1..], [(Response::Notify, ResponseEnd::Done), (Response::Quarantine, ResponseEnd::Done)]);
}

#[derive(Clone, Debug)]
enum Deed {
    Found(u8, usize, u8),
    Answer(usize),
    Restart(bool),
    Release(u8),
    Settle(u8),
    Person(u8, bool),
    Wait(i64),
    Mode(bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (0..24_u8, 0..6_usize, 1..=10_u8).prop_map(|(number, response, impact)| Deed::Found(number, response, impact)),
        5 => prop_oneof![Just(usize::MAX), 0..4_usize].prop_map(Deed::Answer),
        1 => any::<bool>().prop_map(Deed::Restart),
        1 => (0..4_u8).prop_map(Deed::Release),
        1 => (0..24_u8).prop_map(Deed::Settle),
        1 => (0..24_u8, any::<bool>()).prop_map(|(number, yes)| Deed::Person(number, yes)),
        2 => prop_oneof![0..900_i64, 3_000..4_000_i64, -2_000..0_i64].prop_map(Deed::Wait),
        1 => any::<bool>().prop_map(Deed::Mode),
    ];
    prop::collection::vec(deed, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is found, and whatever fails, crashes or is decided by people in between: never more than the ceiling within an hour,
    /// nothing in a dry run, no act for one that a person has decided about, and the log alone says all of it again.
    #[test]
    fn never_more_than_the_ceiling_and_never_in_a_dry_run(deeds in deeds(), ceiling in 0..4_usize) {
        let mut house = House::new(Mode::Act, ceiling);
        for deed in deeds {
            let acts = house.stops().len();
            match deed {
                Deed::Found(number, response, impact) => {
                    house.found(finding(number, Response::ALL[response], impact));
                }
                Deed::Answer(records) => {
                    house.answer(records);
                    if house.orders.mode == Mode::DryRun {
                        prop_assert_eq!(house.stops().len(), acts);
                    }
                }
                // From what was kept, or by reading the log again.
                Deed::Restart(kept) => house.responder = if kept {
                    serde_json::from_str(&serde_json::to_string(&house.responder).unwrap()).unwrap()
                } else {
                    let mut again = Responder::default();
                    house.log.iter().zip(0..).for_each(|(record, position)| again.fold(Position(position), record));
                    again
                },
                Deed::Release(number) => house.release(number),
                Deed::Settle(number) => {
                    let (finding, at) = (finding(number, Response::Notify, 1).id, at(house.now));
                    if house.responder.known(&finding).is_some() {
                        let (by, reason, code) = ("unix:ops".to_owned(), "r".to_owned(), Settlement::Benign);
                        house.append(Settled { at, finding, detector: "d".into(), agent: None, execution: None, code, before: None, by, reason });
                    }
                }
                Deed::Person(number, yes) => {
                    let finding = finding(number, Response::Notify, 1);
                    if house.responder.known(&finding.id).is_some() {
                        house.person(&finding, if yes { ResponseEnd::Done } else { ResponseEnd::Dismissed });
                    }
                }
                // A clock that is set back between a stop and its record makes the record look earlier than the stop was.
                Deed::Wait(seconds) if seconds < 0 && house.responder.under_way.values().any(|under_way| under_way.stops) => {}
                Deed::Wait(seconds) => house.now += seconds,
                Deed::Mode(acts) => house.orders.mode = if acts { Mode::Act } else { Mode::DryRun },
            }
        }
        let stops = house.stops();
        for from in &stops {
            let within = stops.iter().filter(|at| (0..=HOUR_S).contains(&at.duration_since(*from).as_secs())).count();
            prop_assert!(within <= ceiling, "{within} within an hour");
        }
        // Once all is answered the log alone says so.
        house.answer(usize::MAX);
        let mut again = Responder::default();
        house.log.iter().zip(0..).for_each(|(record, position)| again.fold(Position(position), record));
        prop_assert_eq!(again.due(&house.orders, &|_| None, at(house.now)), Vec::new());
        // No act stands after a person's decision about the same finding.
        let mut decided = BTreeSet::new();
        for record in &house.log {
            match record {
                Record::Response(responded) if responded.by != BY => drop(decided.insert(responded.finding)),
                Record::Settled(settled) => drop(decided.insert(settled.finding)),
                Record::Quarantined(Quarantined { finding: Some(finding), .. }) | Record::Revoked(Revoked { finding: Some(finding), .. }) => {
                    prop_assert!(!decided.contains(finding));
                }
                _ => {}
            }
        }
    }
}
