//! A finding in the AWS Security Finding Format, as `BatchImportFindings` of Security Hub takes it.

use serde_json::{Map, Value, json};

use super::{Finding, Level};

/// How long a title and a description may be.
const TITLE_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 1_024;

/// The finding as an ASFF object (2018-10-08). `account` and `region` are those that it is imported into.
pub fn asff(finding: &Finding, account: &str, region: &str) -> Value {
    let about = &finding.about;
    let mut fields = Map::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            fields.insert(format!("bailiwick/{name}"), json!(value));
        }
    };
    put("expected", finding.expected.clone());
    put("response", finding.detector.response.as_str().to_owned());
    put("agent", about.agent.as_ref().map(ToString::to_string).unwrap_or_default());
    put("execution", about.execution.as_ref().map(ToString::to_string).unwrap_or_default());
    put("count", finding.count.to_string());
    put("evidence", finding.evidence.iter().map(|evidence| format!("{:?}", evidence.proof)).collect::<Vec<_>>().join(" "));
    json!({
        "SchemaVersion": "2018-10-08",
        "Id": format!("bailiwick/{}", finding.id),
        "ProductArn": format!("arn:aws:securityhub:{region}:{account}:product/{account}/default"),
        "GeneratorId": format!("bailiwick/{}", finding.detector.id),
        "AwsAccountId": account,
        "Types": [format!("TTPs/{}", category(finding.tactics().next().unwrap_or("impact")))],
        "CreatedAt": finding.first,
        "UpdatedAt": finding.last,
        "FirstObservedAt": finding.first,
        "LastObservedAt": finding.last,
        "Severity": { "Label": label(finding.level()), "Original": finding.severity().to_string() },
        "Confidence": (finding.confidence * 100.0).round() as i64,
        "Title": cut(&finding.detector.title, TITLE_CHARS_MAX),
        "Description": cut(&finding.seen, DESCRIPTION_CHARS_MAX),
        "ProductFields": fields,
        "Resources": [resource(finding)],
        "Workflow": { "Status": "NEW" },
        "RecordState": "ACTIVE",
    })
}

fn resource(finding: &Finding) -> Value {
    match (&finding.about.cloud, &finding.about.agent) {
        (Some(cloud), _) if cloud.access_key.is_empty() => {
            json!({ "Type": "Other", "Id": cloud.principal, "Partition": "aws", "Region": cloud.region })
        }
        (Some(cloud), _) => json!({
            "Type": "AwsIamAccessKey",
            "Id": format!("AWS::IAM::AccessKey:{}", cloud.access_key),
            "Partition": "aws",
            "Region": cloud.region,
            "Details": { "AwsIamAccessKey": {
                "AccessKeyId": cloud.access_key,
                "AccountId": cloud.account,
                "PrincipalId": cloud.principal_id,
                "PrincipalName": cloud.principal,
                "PrincipalType": cloud.principal_type,
            } },
        }),
        (None, Some(agent)) => json!({ "Type": "Other", "Id": agent }),
        (None, None) => json!({ "Type": "Other", "Id": "bailiwick" }),
    }
}

/// A tactic as the taxonomy of types writes it: `Initial Access`.
fn category(tactic: &str) -> String {
    let words = tactic.split('-').filter_map(|word| word.split_at_checked(1));
    words.map(|(first, rest)| first.to_uppercase() + rest).collect::<Vec<_>>().join(" ")
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

const fn label(level: Level) -> &'static str {
    match level {
        Level::Low => "LOW",
        Level::Medium => "MEDIUM",
        Level::High => "HIGH",
        Level::Critical => "CRITICAL",
    }
}
