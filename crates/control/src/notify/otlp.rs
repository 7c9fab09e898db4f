//! To a collector of OpenTelemetry logs: OTLP over HTTP, in JSON.

use std::path::Path;

use bailiwick_core::detect::finding::Level;
use bailiwick_core::model::Timestamp;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::told::Told;
use crate::outbox::Unheard;
use crate::secret;
use crate::token::Parts;

/// Posts it once. What the collector says it will not take is not tried again, as OTLP has it.
pub(super) async fn post(parts: &Parts, url: &str, authorization: Option<&Path>, told: &Told) -> Result<(), Unheard> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(file) = authorization {
        let secret = secret::read(&parts.base, file).await?;
        let mut value =
            HeaderValue::try_from(secret.as_str()).map_err(|_| "its `authorization_file` holds no header's value".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let observed = parts.clock.now();
    let (status, body) = match parts.fetcher.post(url, url, headers, request(told, observed).to_string().into()).await {
        Ok(answer) => answer,
        Err(error) => return Err(Unheard::Later(error.to_string())),
    };
    let answered = format!("it answered {status}");
    match status {
        status if status.is_success() => {
            let partial = serde_json::from_slice::<Value>(&body).ok();
            let rejected = partial.as_ref().and_then(|answer| answer.pointer("/partialSuccess/rejectedLogRecords"));
            let is_rejected = rejected.is_some_and(|count| count.as_str().map_or_else(|| count.as_u64() != Some(0), |count| count != "0"));
            if is_rejected { Err(Unheard::Never("it took the request and rejected the record".to_owned())) } else { Ok(()) }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Err(Unheard::Later(answered))
        }
        _ => Err(Unheard::Never(answered)),
    }
}

/// The request: one log record.
fn request(told: &Told, observed: Timestamp) -> Value {
    let (number, severity) = match told.level() {
        Level::Low => (10, "INFO2"),
        Level::Medium => (13, "WARN"),
        Level::High => (17, "ERROR"),
        Level::Critical => (21, "FATAL"),
    };
    let (found, responded, finding) = (&told.found, &told.responded, &told.found.finding);
    let text = |key: &str, value: Option<String>| value.map(|value| json!({ "key": key, "value": { "stringValue": value } }));
    let attributes: Vec<Value> = [
        text("bailiwick.finding.id", Some(finding.id.to_string())),
        text("bailiwick.finding.detector", Some(finding.detector.id.clone())),
        text("bailiwick.finding.catalogue", finding.detector.catalogue.clone()),
        text("bailiwick.finding.title", Some(finding.detector.title.clone())),
        text("bailiwick.finding.level", Some(told.level().as_str().to_owned())),
        Some(json!({ "key": "bailiwick.finding.severity", "value": { "doubleValue": finding.severity() } })),
        Some(json!({ "key": "bailiwick.finding.count", "value": { "intValue": finding.count.to_string() } })),
        text("bailiwick.finding.expected", Some(finding.expected.clone())),
        text("bailiwick.agent", found.agent.as_ref().map(ToString::to_string)),
        text("bailiwick.execution", found.execution.map(|id| id.to_string())),
        text("bailiwick.subject", found.subject.clone()),
        text("bailiwick.tool", found.tool.as_ref().map(ToString::to_string)),
        text("bailiwick.response", Some(responded.response.as_str().to_owned())),
        text("bailiwick.response.code", Some(responded.code.as_str().to_owned())),
        text("bailiwick.response.detail", Some(responded.detail.clone()).filter(|detail| !detail.is_empty())),
        text("bailiwick.response.by", Some(responded.by.clone())),
        Some(json!({ "key": "bailiwick.record", "value": { "intValue": told.record.0.to_string() } })),
    ]
    .into_iter()
    .flatten()
    .collect();
    let resource = [
        text("service.name", Some("bailiwick".to_owned())),
        text("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        text("service.namespace", Some(told.trust_domain.clone())),
        text("server.address", Some(told.host.clone())),
    ];
    json!({ "resourceLogs": [{
        "resource": { "attributes": resource.into_iter().flatten().collect::<Vec<_>>() },
        "scopeLogs": [{
            "scope": { "name": "bailiwick.findings", "version": env!("CARGO_PKG_VERSION") },
            "logRecords": [{
                "timeUnixNano": responded.at.as_nanosecond().to_string(),
                "observedTimeUnixNano": observed.as_nanosecond().to_string(),
                "severityNumber": number,
                "severityText": severity,
                "eventName": format!("bailiwick.finding.{}", responded.code.as_str()),
                "body": { "stringValue": finding.seen },
                "attributes": attributes,
            }],
        }],
    }] })
}
