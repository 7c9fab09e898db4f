//! A finding in the shape that Amazon GuardDuty gives its own, for what already reads those from EventBridge.

use serde_json::{Value, json};

use super::{Finding, Level};

/// The account that a finding about our own log is put under.
const NO_ACCOUNT: &str = "000000000000";

/// The finding as an EventBridge event of GuardDuty's shape. Its `source` is our own: it is not GuardDuty that says it.
pub fn guardduty(finding: &Finding) -> Value {
    let cloud = finding.about.cloud.clone().unwrap_or_default();
    let account = if cloud.account.is_empty() { NO_ACCOUNT } else { &cloud.account };
    let id = finding.id.to_string().trim_start_matches("sha256:").chars().take(32).collect::<String>();
    let agent = finding.about.agent.as_ref().map(ToString::to_string).unwrap_or_default();
    let name = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
    json!({
        "version": "0",
        "id": id,
        "detail-type": "GuardDuty Finding",
        "source": "bailiwick",
        "account": account,
        "time": finding.last,
        "region": cloud.region,
        "resources": [],
        "detail": {
            "schemaVersion": "2.0",
            "accountId": account,
            "region": cloud.region,
            "partition": "aws",
            "id": id,
            "arn": format!("arn:aws:guardduty:{}:{account}:detector/bailiwick/finding/{id}", cloud.region),
            "type": finding.detector.guardduty.clone().unwrap_or_else(|| purpose(finding)),
            "title": finding.detector.title,
            "description": format!("{} Expected: {}", finding.seen, finding.expected),
            "severity": finding.severity().max(1.0),
            "confidence": finding.confidence * 100.0,
            "createdAt": finding.first,
            "updatedAt": finding.last,
            "resource": {
                "resourceType": "AccessKey",
                "accessKeyDetails": {
                    "accessKeyId": cloud.access_key,
                    "principalId": name(&cloud.principal_id, &agent),
                    "userName": name(&cloud.principal, &agent),
                    "userType": name(&cloud.principal_type, "Agent"),
                },
            },
            "service": {
                "serviceName": "bailiwick",
                "detectorId": "bailiwick",
                "action": {
                    "actionType": "AWS_API_CALL",
                    "awsApiCallAction": {
                        "api": name(&cloud.operation, &finding.about.tool.as_ref().map(ToString::to_string).unwrap_or_default()),
                        "serviceName": name(&cloud.service, "bailiwick"),
                        "callerType": "Remote IP",
                        "errorCode": cloud.error,
                        "remoteIpDetails": { "ipAddressV4": cloud.address },
                    },
                },
                "resourceRole": "TARGET",
                "additionalInfo": { "type": "default", "value": json!({ "evidence": finding.evidence }).to_string() },
                "eventFirstSeen": finding.first,
                "eventLastSeen": finding.last,
                "archived": false,
                "count": finding.count,
            },
        },
    })
}

/// A type of GuardDuty's grammar for what it has none for: purpose, resource and family.
fn purpose(finding: &Finding) -> String {
    let tactic = finding.tactics().next().unwrap_or("impact");
    let purpose: String =
        tactic.split('-').filter_map(|word| word.split_at_checked(1)).map(|(first, rest)| first.to_uppercase() + rest).collect();
    let family = if finding.level() == Level::Low { "Suspicious" } else { "AnomalousBehavior" };
    format!("{purpose}:Agent/{family}")
}
