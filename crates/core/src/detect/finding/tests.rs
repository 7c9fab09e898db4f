//! Findings: their names, their groups and the shapes that others read.

use super::*;

fn detector(id: &str, tactic: &str) -> Detector {
    Detector {
        id: id.to_owned(),
        catalogue: Some("PE-01".to_owned()),
        title: format!("Title of {id}"),
        kind: Kind::Rule,
        tags: vec![format!("attack.{tactic}"), "attack.t1098.003".to_owned(), "owasp.asi03".to_owned()],
        guardduty: None,
        falsepositives: Vec::new(),
        response: Response::Notify,
    }
}

fn finding(id: &str, tactic: &str, second: i64, record: u64) -> Finding {
    let about = About { agent: "reports".parse().ok(), execution: "01a2133f-7502-75c9-ae35-ca48651d1289".parse().ok(), ..About::default() };
    let evidence = Evidence { proof: Proof::Record(record), at: Timestamp::from_second(second).unwrap(), says: "It happened.".to_owned() };
    Finding::new(detector(id, tactic), about, evidence, "Nothing.".to_owned(), "Something.".to_owned()).weighing(8, 0.5)
}

#[test]
fn the_same_records_give_the_same_name_and_severity_is_impact_times_sureness() {
    assert_eq!(finding("a", "impact", 1, 7).id, finding("a", "impact", 1, 7).id);
    assert_ne!(finding("a", "impact", 1, 7).id, finding("a", "impact", 1, 8).id);
    assert_ne!(finding("a", "impact", 1, 7).id, finding("b", "impact", 1, 7).id);
    let one = finding("a", "impact", 1, 7);
    assert_eq!((one.severity(), one.level()), (5.6, Level::Medium));
    assert_eq!(one.clone().weighing(10, 1.0).level(), Level::Critical);
    assert_eq!(one.clone().weighing(10, 0.0).severity(), 4.0);
    assert_eq!(one.weighing(99, f64::NAN).severity(), 4.0);
}

#[test]
fn equal_findings_are_one_with_a_timeline_and_those_a_day_later_are_another() {
    let mut findings = Findings::new();
    assert!(matches!(findings.note(finding("a", "impact", 100_000, 5)).as_slice(), [Noted::New(_)]));
    let [Noted::Grown(one)] = &findings.note(finding("a", "impact", 99_000, 4))[..] else { panic!() };
    assert_eq!((one.count, one.first.as_second(), one.last.as_second()), (2, 99_000, 100_000));
    assert_eq!(one.evidence.iter().map(|evidence| evidence.proof.clone()).collect::<Vec<_>>(), [4, 5].map(Proof::Record));
    for record in 10..200 {
        findings.note(finding("a", "impact", 100_000 + record, record as u64));
    }
    let one = findings.open().next().unwrap();
    assert_eq!((one.count, one.evidence.len()), (192, EVIDENCE_MAX));
    assert_eq!(one.evidence.first().unwrap().proof, Proof::Record(4));
    assert_eq!(one.evidence.last().unwrap().proof, Proof::Record(199));
    assert!(matches!(findings.note(finding("a", "impact", 300_000, 900)).as_slice(), [Noted::Closed(_), Noted::New(_)]));
    assert_eq!(findings.len(), 1);
}

#[test]
fn three_tactics_within_an_hour_are_an_attack() {
    let mut findings = Findings::new();
    findings.note(finding("a", "discovery", 1_000, 1));
    findings.note(finding("b", "credential-access", 1_500, 2));
    assert_eq!(findings.note(finding("a", "discovery", 1_600, 3)).len(), 1, "the same again is no third step");
    assert_eq!(findings.note(finding("c", "exfiltration", 9_000, 4)).len(), 1, "two hours later");
    let noted = findings.note(finding("d", "exfiltration", 2_000, 5));
    let Noted::New(attack) = &noted[1] else { panic!("{noted:?}") };
    assert_eq!(attack.detector.kind, Kind::Sequence);
    assert!(attack.severity() >= 9.0);
    assert_eq!(attack.evidence.len(), 4);
}

#[test]
fn an_open_finding_is_told_again_when_it_is_twice_as_often_or_worse_and_no_more_once_a_person_closed_it() {
    let mut findings = Findings::new();
    let mut told = Vec::new();
    for record in 0..20 {
        told.extend(findings.note(finding("a", "impact", 1_000, record)).into_iter().filter_map(|noted| match noted {
            Noted::New(one) | Noted::Grown(one) => Some(one.count),
            _ => None,
        }));
    }
    assert_eq!(told, [1, 2, 4, 8, 16]);
    let worse = finding("a", "impact", 1_000, 20).weighing(10, 1.0);
    let [Noted::Grown(one)] = &findings.note(worse)[..] else { panic!() };
    assert_eq!((one.count, one.level()), (21, Level::Critical));
    assert!(findings.close(&one.id, false) && !findings.close(&one.id, false));
    let [Noted::New(again)] = &findings.note(finding("a", "impact", 1_000, 21))[..] else { panic!() };
    assert!(again.id != one.id && again.count == 1);
}

#[test]
fn what_was_not_what_it_looked_like_is_no_step_of_an_attack() {
    let mut findings = Findings::new();
    findings.note(finding("a", "discovery", 1_000, 1));
    let [Noted::New(wrong)] = &findings.note(finding("b", "credential-access", 1_100, 2))[..] else { panic!() };
    findings.close(&wrong.id, false);
    assert_eq!(findings.note(finding("c", "exfiltration", 1_200, 3)).len(), 1);
    assert!(findings.note_step(&finding("d", "exfiltration", 1_300, 4)).is_empty(), "still two tactics");
    let [Noted::New(attack)] = &findings.note_step(&finding("e", "impact", 1_400, 5))[..] else { panic!() };
    assert_eq!((attack.detector.kind, attack.count), (Kind::Sequence, 4));
    let [Noted::More(attack)] = &findings.note_step(&finding("e", "impact", 1_500, 6))[..] else { panic!() };
    assert_eq!(attack.count, 5, "its steps, and not the sum of all sums");
}

#[test]
fn open_findings_are_bounded_and_none_is_lost() {
    let mut findings = Findings::new();
    let mut closed = 0;
    for number in 0..12_000_u64 {
        let noted = findings.note(finding(&format!("r{number}"), "impact", 1_000 + number as i64 * 10_000, number));
        closed += noted.iter().filter(|noted| matches!(noted, Noted::Closed(_))).count();
    }
    assert_eq!(findings.len() + closed, 12_000);
    assert!(findings.len() <= 10_000);
}

#[test]
fn each_shape_says_what_was_expected_seen_and_what_proves_it() {
    let one = finding("a", "privilege-escalation", 1_000, 7);
    let event = ocsf(&one, true, "0.1.0");
    assert_eq!(
        (event["class_uid"].as_u64(), event["type_uid"].as_u64(), event["severity_id"].as_u64()),
        (Some(2004), Some(200_401), Some(3))
    );
    assert_eq!(event["finding_info"]["attacks"][0]["sub_technique"]["uid"], "T1098.003");
    assert_eq!(event["finding_info"]["attacks"][1]["tactic"]["name"], "Privilege Escalation");
    let duty = guardduty(&one);
    assert_eq!(duty["detail"]["type"], "PrivilegeEscalation:Agent/AnomalousBehavior");
    assert_eq!(duty["source"], "bailiwick");
    let security_hub = asff(&one, "111122223333", "eu-west-1");
    assert_eq!(security_hub["Severity"]["Label"], "MEDIUM");
    for shape in [event, duty, security_hub] {
        let text = shape.to_string();
        assert!(text.contains("Something.") && text.contains("Nothing.") && text.contains('7'), "{text}");
    }
}
