//! What GuardDuty says, in the three forms that it is said in.

use serde_json::json;

use super::*;
use crate::detect::cloudtrail::Sessions;
use crate::model::Record;

const EXECUTION: &str = "01a2133f-7502-75c9-ae35-ca48651d1289";

/// A finding as it is documented, about a session that a role of ours had.
fn detail() -> Value {
    json!({
        "schemaVersion": "2.0", "accountId": "111122223333", "region": "eu-west-1", "partition": "aws",
        "id": "1ab92989eaf0e742df4a014d5qaexample",
        "arn": "arn:aws:guardduty:eu-west-1:111122223333:detector/d/finding/1ab92989eaf0e742df4a014d5qaexample",
        "type": "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
        "resource": { "resourceType": "AccessKey", "accessKeyDetails": {
            "accessKeyId": "ASIAOURS", "principalId": format!("AROAEXAMPLE:{EXECUTION}"), "userType": "AssumedRole", "userName": "reports"
        } },
        "service": {
            "serviceName": "guardduty", "detectorId": "d", "resourceRole": "TARGET", "archived": false, "count": 3,
            "eventFirstSeen": "2026-11-25T10:01:00Z", "eventLastSeen": "2026-11-25T10:20:00Z",
            "action": { "actionType": "AWS_API_CALL", "awsApiCallAction": {
                "api": "GetObject", "serviceName": "s3.amazonaws.com", "callerType": "Remote IP",
                "remoteIpDetails": { "ipAddressV4": "198.51.100.7", "country": { "countryName": "Nowhere" } }
            } },
            "additionalInfo": { "type": "default", "value": "{}" }
        },
        "severity": 8, "createdAt": "2026-11-25T10:25:00.000Z", "updatedAt": "2026-11-25T10:25:00.000Z",
        "title": "Credentials for reports were used from an external address.",
        "description": "Credentials of the role reports were used from 198.51.100.7."
    })
}

fn event(detail: &Value) -> String {
    json!({
        "version": "0", "id": "cd2d702e-ab31-411b-9344-793ce56b1bc7", "detail-type": "GuardDuty Finding", "source": "aws.guardduty",
        "account": "111122223333", "time": "2026-11-25T10:26:00Z", "region": "eu-west-1", "resources": [], "detail": detail
    })
    .to_string()
}

/// The same with names as `aws guardduty get-findings` writes them.
fn capitals(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name[..1].to_uppercase() + &name[1..], capitals(value))).collect(),
        Value::Array(items) => items.iter().map(capitals).collect(),
        other => other.clone(),
    }
}

fn sessions() -> Sessions {
    let mut sessions = Sessions::of(["arn:aws:iam::111122223333:role/reports".to_owned()], Some("acme.example"));
    let issued = format!(
        r#"{{"kind":"token_issued","at":"2026-11-25T10:00:00Z","bundle":"sha256:{:064}","execution":"{EXECUTION}","agent":"reports","audience":"sts.amazonaws.com","token":"t","by":"c","expires":"2026-11-25T10:05:00Z"}}"#,
        0
    );
    sessions.learn(&Record::read(issued.as_bytes()).unwrap());
    sessions
}

fn ours(session: &Session, at: Timestamp) -> Whose {
    sessions().join_by(session, at).into()
}

#[test]
fn a_finding_is_read_in_each_form_and_tied_to_its_execution() {
    let list = json!({ "Findings": [capitals(&detail())] }).to_string();
    for text in [event(&detail()), detail().to_string(), list] {
        let findings = GuardDuty::new().take(text.as_bytes(), &[], &ours).unwrap();
        let [finding] = findings.as_slice() else { panic!("{text}") };
        assert_eq!(finding.detector.kind, Kind::Reported);
        assert_eq!(finding.detector.guardduty.as_deref(), Some("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"));
        assert_eq!((finding.severity(), finding.count), (8.0, 3));
        assert_eq!(finding.evidence[0].proof, Proof::Reported("1ab92989eaf0e742df4a014d5qaexample".to_owned()));
        assert_eq!(finding.about.agent.as_ref().unwrap().as_str(), "reports");
        assert_eq!(finding.about.execution, EXECUTION.parse().ok());
        assert_eq!((finding.first.to_string().as_str(), finding.detector.response), ("2026-11-25T10:01:00Z", Response::Revoke));
        let cloud = finding.about.cloud.as_ref().unwrap();
        assert_eq!((cloud.address.as_str(), cloud.operation.as_str()), ("198.51.100.7", "GetObject"));
        assert_eq!(finding.tactics().collect::<Vec<_>>(), ["initial-access"]);
    }
}

#[test]
fn what_is_said_again_is_taken_in_when_more_happened_and_under_the_same_name() {
    let mut taken = GuardDuty::new();
    let mut said = |change: &dyn Fn(&mut Value)| {
        let mut detail = detail();
        change(&mut detail);
        taken.take(event(&detail).as_bytes(), &["111122223333".to_owned()], &ours).unwrap()
    };
    let first = said(&|_| {});
    assert_eq!(said(&|_| {}), [], "delivered twice");
    assert_eq!(said(&|detail| detail["service"]["count"] = 2.into()), [], "and late");
    let more = said(&|detail| {
        detail["service"]["count"] = 9.into();
        detail["updatedAt"] = "2026-11-25T12:00:00.000Z".into();
    });
    assert_eq!((more[0].id, more[0].count), (first[0].id, 9));
    assert_eq!(said(&|detail| (detail["service"]["archived"], detail["id"]) = (true.into(), "2".into())), []);
    assert_eq!(said(&|detail| (detail["accountId"], detail["id"]) = ("999988887777".into(), "3".into())), []);
    assert_eq!(taken.seen(), Seen { findings: 2, repeated: 2, archived: 1, of_others: 1 });
}

#[test]
fn samples_and_what_is_not_ours_are_told_and_not_acted_on() {
    let answered = |change: &dyn Fn(&mut Value)| {
        let mut detail = detail();
        change(&mut detail);
        let finding = GuardDuty::new().take(event(&detail).as_bytes(), &[], &ours).unwrap().remove(0);
        (finding.detector.response, finding.about.agent.is_some(), finding.severity())
    };
    assert_eq!(answered(&|detail| detail["service"]["additionalInfo"] = json!({ "sample": true })), (Response::Record, true, 8.0));
    assert_eq!(answered(&|detail| detail["service"]["additionalInfo"] = json!({ "value": "{\"sample\":true}" })).0, Response::Record);
    assert_eq!(answered(&|detail| detail["resource"] = json!({ "resourceType": "Instance" })), (Response::Notify, false, 8.0));
    for (severity, response) in [(2.0, Response::Record), (5.5, Response::Notify), (8.9, Response::Revoke), (9.5, Response::Revoke)] {
        assert_eq!(answered(&|detail| detail["severity"] = severity.into()), (response, true, severity));
    }
}

#[test]
fn what_is_no_finding_says_why() {
    let take = |text: &str| GuardDuty::new().take(text.as_bytes(), &[], &ours).unwrap_err().to_string();
    assert!(take("[1]").contains("`id` is missing"));
    assert!(take("{\"detail\":").contains("not JSON"));
    assert!(take(&json!({ "detail-type": "EC2 Instance State-change Notification", "detail": {} }).to_string()).contains("EC2 Instance"));
    for member in ["id", "type", "severity", "updatedAt"] {
        let mut detail = detail();
        detail.as_object_mut().unwrap().remove(member);
        detail.as_object_mut().unwrap().remove("createdAt");
        assert!(take(&detail.to_string()).contains(&format!("`{member}` is missing")), "{member}");
    }
    let mut wild = detail();
    wild["severity"] = json!(1e300);
    assert!(take(&wild.to_string()).contains("`severity`"));
    assert!(take(&format!("{}1{}", "[".repeat(100), "]".repeat(100))).contains("not JSON"));
}
