//! Our own log, where it does not verify (CP-01): whoever rewrites what happened begins with that.

use super::finding::{About, Detector, Evidence, Finding, Kind, Proof, Response};
use crate::model::{Timestamp, shown};

/// How much of one fault is said, in characters.
const FAULT_CHARS_MAX: usize = 400;

/// The finding that these faults of our log are, which were seen at that time; nothing where there is none.
pub fn broken(faults: &[String], at: Timestamp) -> Option<Finding> {
    let evidence: Vec<Evidence> = faults
        .iter()
        .map(|fault| {
            let says = shown(fault, FAULT_CHARS_MAX);
            Evidence { proof: Proof::File(says.clone()), at, says }
        })
        .collect();
    let first = evidence.first()?.clone();
    let detector = Detector {
        id: "own-log-broken".to_owned(),
        catalogue: Some("CP-01".to_owned()),
        title: "Our own log is not what was written".to_owned(),
        kind: Kind::Rule,
        tags: ["attack.defense-impairment", "attack.t1685.002", "atlas.aml.t0107", "owasp.asi10"].map(str::to_owned).to_vec(),
        guardduty: Some("Stealth:IAMUser/CloudTrailLoggingDisabled".to_owned()),
        falsepositives: vec!["A disk that is damaged".to_owned(), "A copy of the log that is not whole".to_owned()],
        response: Response::Notify,
    };
    let seen = format!("The log does not verify: {}", first.says);
    let expected = "The log has grown from what was kept of it, and every record is the one that was written.".to_owned();
    Some(Finding::new(detector, About::default(), first, expected, seen).proven_by(evidence).weighing(10, 0.9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_does_not_verify_is_a_finding_with_what_is_wrong() {
        assert_eq!(broken(&[], Timestamp::UNIX_EPOCH), None);
        let faults = ["record 7 was changed".to_owned(), "there is a gap after record 9\u{1b}[2J".to_owned()];
        let finding = broken(&faults, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((finding.detector.catalogue.as_deref(), finding.count, finding.level().as_str()), (Some("CP-01"), 2, "critical"));
        assert!(finding.evidence.iter().any(|evidence| evidence.says == "there is a gap after record 9\\u{1b}[2J"), "{finding:?}");
    }
}
