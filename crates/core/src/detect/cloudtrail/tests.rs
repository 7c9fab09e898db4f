//! CloudTrail: what is read of it, and what is tolerated.

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::digest::{Digests, Keys};
use super::*;
use crate::detect::rules::{Pack, SHIPPED, Source};
use crate::model::Record;

/// The events of a stream that comes in chunks of a size, and how it ends.
fn split(stream: &[u8], chunk: usize) -> (Vec<String>, Result<u64, Broken>) {
    let mut splitter = Splitter::new();
    let mut events = Vec::new();
    for bytes in stream.chunks(chunk.max(1)) {
        let pushed = splitter.push(bytes, |piece| {
            events.push(match piece {
                Piece::Event(text) => String::from_utf8_lossy(text).into_owned(),
                Piece::TooLong(at) => format!("too long at {at}"),
            });
        });
        if let Err(broken) = pushed {
            return (events, Err(broken));
        }
    }
    (events, splitter.end())
}

#[test]
fn events_are_read_from_all_that_holds_them() {
    let one = r#"{"eventID":"1","a":{"b":["}]\"{"]}}"#;
    let two = r#"{"eventID":"2"}"#;
    for (stream, expected) in [
        (format!("{{\"Records\":[{one},{two}]}}"), vec![one, two]),
        (format!("{{ \"Version\": [1,{{}}], \"Records\" : [ {one} , {two} ] , \"more\": {{\"x\":[\"]}}\"]}} }}\n"), vec![one, two]),
        (format!("{one}\n{two}\n"), vec![one, two]),
        (format!("[{one},\n {two}]"), vec![one, two]),
        (format!("{one}{two}"), vec![one, two]),
        (format!("{{\"Records\":[{one}]}}{{\"Records\":[{two}]}}"), vec![one, two]),
        ("{\"Records\":[]}".to_owned(), vec![]),
        (String::new(), vec![]),
        ("{\"a\":\"Records\",\"b\":[{}]}".to_owned(), vec!["{\"a\":\"Records\",\"b\":[{}]}"]),
        ("{\"a\":{\"Records\":[{}]}}".to_owned(), vec!["{\"a\":{\"Records\":[{}]}}"]),
    ] {
        for chunk in [1, 2, 3, 7, 4096] {
            let (events, end) = split(stream.as_bytes(), chunk);
            assert_eq!(events, expected, "{stream} by {chunk}");
            assert_eq!(end, Ok(expected.len() as u64), "{stream} by {chunk}");
        }
    }
}

#[test]
fn a_stream_that_breaks_off_says_what_came_before() {
    let whole = r#"{"Records":[{"eventID":"1"},{"eventID":"2"}]}"#;
    for end in 1..whole.len() {
        let (events, ended) = split(&whole.as_bytes()[..end], 5);
        assert!(matches!(ended, Err(Broken::Ends { events: told, .. }) if told == events.len() as u64), "{end}: {ended:?}");
    }
    assert_eq!(split(b"{\"Records\":[{\"a\":1},17]}", 4).1, Err(Broken::NoEvent { events: 1, at: 20 }));
    assert_eq!(split(b"<html>", 4).1, Err(Broken::NoEvent { events: 0, at: 0 }));
}

#[test]
fn an_event_that_is_too_long_is_skipped_in_memory_of_one_event_and_the_rest_is_read() {
    let mut splitter = Splitter::new();
    let mut pieces = Vec::new();
    let mut take = |piece: Piece<'_>| pieces.push(format!("{piece:?}"));
    splitter.push(br#"{"Records":[{"eventID":"1"},{"eventID":""#, &mut take).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..40 {
        splitter.push(&chunk, &mut take).unwrap();
    }
    splitter.push(br#""},{"eventID":"3"}]}"#, &mut take).unwrap();
    assert_eq!(splitter.end(), Ok(2));
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[1], "TooLong(28)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_size_of_the_chunks_makes_no_difference(bytes in prop::collection::vec(prop::sample::select(b"{}[]\"\\:,R \na".to_vec()), 0..60), chunk in 1_usize..9) {
        prop_assert_eq!(split(&bytes, chunk), split(&bytes, 1_000));
    }
}

fn trail(roles: &[&str], records: &[Record]) -> Trail {
    let (pack, _) = Pack::read(SHIPPED.iter().copied());
    let mut sessions = Sessions::of(roles.iter().map(|role| (*role).to_owned()), Some("acme.example"));
    records.iter().for_each(|record| sessions.learn(record));
    Trail::new(Arc::new(pack.about(Source::CloudTrail).0), sessions)
}

fn found(trail: &mut Trail, event: &str) -> Vec<String> {
    trail.take(event.as_bytes()).unwrap().into_iter().map(|finding| finding.detector.title).collect()
}

#[test]
fn the_first_time_counts_for_each_principal_kind_of_program_and_operation() {
    let mut trail = trail(&[], &[]);
    let event = |id: u32, user: &str, agent: &str| {
        format!(
            r#"{{"eventVersion":"1.08","eventID":"{id}","eventTime":"2026-11-25T10:00:00Z","eventSource":"iam.amazonaws.com","eventName":"CreateUser","userAgent":"{agent}","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/{user}"}}}}"#
        )
    };
    let title = "A user is created";
    assert_eq!(found(&mut trail, &event(1, "ana", "aws-cli/2.1")), [title]);
    assert_eq!(found(&mut trail, &event(2, "ana", "aws-cli/2.2")), [""; 0], "the same again");
    assert_eq!(found(&mut trail, &event(3, "ana", "Mozilla/5.0")), [title], "in a browser");
    assert_eq!(found(&mut trail, &event(4, "ben", "aws-cli/2.2")), [title], "somebody else");
    assert_eq!(found(&mut trail, &event(5, "ben", "some-tool-nobody-knows/1")), [title]);
    assert_eq!(found(&mut trail, &event(6, "ben", "another-one/2 (x)")), [""; 0], "a program is a program, whatever it calls itself");
}

#[test]
fn what_comes_twice_without_time_or_in_a_new_version_is_counted_and_lost_is_nothing() {
    let mut trail = trail(&[], &[]);
    let stop = r#"{"eventVersion":"1.08","eventID":"1","eventTime":"2026-11-25T10:00:00Z","eventSource":"cloudtrail.amazonaws.com","eventName":"StopLogging"}"#;
    assert_eq!(found(&mut trail, stop).len(), 1);
    assert_eq!(found(&mut trail, stop).len(), 0, "delivered twice");
    assert_eq!(found(&mut trail, &stop.replace("\"1.08\"", "\"2.0\"").replace("\"eventID\":\"1\"", "\"eventID\":\"2\"")).len(), 1);
    let timeless = stop.replace("2026-11-25T10:00:00Z", "yesterday").replace("\"eventID\":\"1\"", "\"eventID\":\"3\"");
    let finding = trail.take(timeless.as_bytes()).unwrap().remove(0);
    assert_eq!(finding.first, Timestamp::UNIX_EPOCH);
    assert_eq!(trail.seen(), Seen { events: 3, duplicates: 1, unknown_versions: 1, without_time: 1 });
    assert!(trail.take(b"[1]").is_err() && trail.take(b"{\"a\":}").is_err());
}

const EXECUTION: &str = "01a2133f-7502-75c9-ae35-ca48651d1289";

/// A token for AWS that an execution of the agent `reports` was issued.
fn issued(at: &str) -> Record {
    let record = format!(
        r#"{{"kind":"token_issued","at":"{at}","bundle":"sha256:{:064}","execution":"{EXECUTION}","agent":"reports","audience":"sts.amazonaws.com","token":"t","by":"c","expires":"2026-11-25T10:05:00Z"}}"#,
        0
    );
    Record::read(record.as_bytes()).unwrap()
}

fn begins(id: u32, at: &str, key: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.08","eventID":"{id}","eventTime":"{at}","eventSource":"sts.amazonaws.com","eventName":"AssumeRoleWithWebIdentity","userIdentity":{{"type":"WebIdentityUser"}},"requestParameters":{{"roleArn":"arn:aws:iam::111122223333:role/reports","roleSessionName":"s"}},"responseElements":{{"subjectFromWebIdentityToken":"spiffe://acme.example/agent/reports","credentials":{{"accessKeyId":"{key}"}}}}}}"#
    )
}

fn calls(id: u32, at: &str, key: &str, more: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.08","eventID":"{id}","eventTime":"{at}","eventSource":"s3.amazonaws.com","eventName":"GetObject","userIdentity":{{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/reports/s","accessKeyId":"{key}"{more}}}}}"#
    )
}

#[test]
fn a_call_with_a_role_of_ours_is_of_an_execution_or_a_finding() {
    let role = "arn:aws:iam::111122223333:role/reports";
    let without = "AWS session without an execution";
    let mut trail = trail(&[role], &[issued("2026-11-25T10:00:00Z")]);
    // By the access key of a session that was begun with a token; the event that says so may come later.
    assert_eq!(found(&mut trail, &calls(1, "2026-11-25T10:02:00Z", "ASIAOURS", "")), [""; 0]);
    assert_eq!(found(&mut trail, &begins(2, "2026-11-25T10:01:00Z", "ASIAOURS")), [""; 0]);
    // By what the source identity names.
    assert_eq!(found(&mut trail, &calls(3, "2026-11-25T11:00:00Z", "ASIAX", r#","sessionContext":{"sourceIdentity":"reports"}"#)), [""; 0]);
    // By none: a key that nobody was issued, a session that was begun when no execution had a token, one that is long over.
    found(&mut trail, &calls(4, "2026-11-25T10:02:00Z", "ASIATHEIRS", ""));
    assert_eq!(found(&mut trail, &begins(5, "2026-11-26T10:01:00Z", "ASIALATE")), [without]);
    found(&mut trail, &calls(6, "2026-11-27T11:00:00Z", "ASIAY", r#","sessionContext":{"sourceIdentity":"reports"}"#));
    // Another role is not ours to say anything of.
    found(&mut trail, &calls(7, "2026-11-25T10:02:00Z", "ASIAZ", "").replace("assumed-role/reports", "assumed-role/other"));
    let findings = trail.finish();
    let proofs: Vec<_> = findings.iter().map(|finding| finding.evidence[0].proof.clone()).collect();
    assert_eq!(proofs, ["4", "6"].map(|id| Proof::Event(id.to_owned())));
    assert!(findings.iter().all(|finding| finding.detector.title == without && finding.detector.catalogue.as_deref() == Some("ID-09")));
}

#[test]
fn a_finding_in_a_session_of_ours_names_the_execution() {
    let mut trail = trail(&[], &[issued("2026-11-25T10:00:00Z")]);
    found(&mut trail, &begins(1, "2026-11-25T10:01:00Z", "ASIAOURS"));
    let stop = calls(2, "2026-11-25T10:02:00Z", "ASIAOURS", "")
        .replace("s3.amazonaws", "cloudtrail.amazonaws")
        .replace("GetObject", "StopLogging");
    let finding = trail.take(stop.as_bytes()).unwrap().remove(0);
    assert_eq!(finding.about.execution, EXECUTION.parse().ok());
    assert_eq!(finding.about.agent.unwrap().as_str(), "reports");
}

/// A digest and its signature.
type Signed = (Vec<u8>, String);

/// A chain of digests as CloudTrail writes them, by a key of our own.
struct Chain {
    key: RsaKeyPair,
    digests: Vec<Signed>,
}

impl Chain {
    fn name(hour: usize) -> String {
        format!("AWSLogs/1/CloudTrail-Digest/eu-west-1/2026/11/25/1_CloudTrail-Digest_eu-west-1_t_{hour}.json.gz")
    }

    fn of(hours: usize, file: &[u8]) -> Self {
        let mut chain = Self { key: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), digests: Vec::new() };
        for hour in 0..hours {
            let hash = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let before = chain.digests.last().cloned();
            let digest = serde_json::json!({
                "digestStartTime": format!("2026-11-25T0{hour}:00:00Z"), "digestEndTime": format!("2026-11-25T0{}:00:00Z", hour + 1),
                "digestS3Bucket": "logs", "digestS3Object": Self::name(hour),
                "digestPublicKeyFingerprint": "f1", "digestSignatureAlgorithm": "SHA256withRSA",
                "previousDigestS3Bucket": "logs", "previousDigestS3Object": (hour > 0).then(|| Self::name(hour - 1)),
                "previousDigestHashValue": before.as_ref().map(|(digest, _)| hash(digest)), "previousDigestHashAlgorithm": "SHA-256",
                "previousDigestSignature": before.as_ref().map(|(_, signature)| signature),
                "logFiles": if hour == 0 { serde_json::json!([{ "s3Bucket": "logs", "s3Object": "AWSLogs/1/CloudTrail/a.json.gz", "hashValue": hash(file), "hashAlgorithm": "SHA-256" }]) } else { serde_json::json!([]) },
            });
            let digest = digest.to_string().into_bytes();
            let previous = before.map_or_else(|| "null".to_owned(), |(_, signature)| signature);
            let text = format!("2026-11-25T0{}:00:00Z\nlogs/{}\n{}\n{previous}", hour + 1, Self::name(hour), hash(&digest));
            let mut signature = vec![0; chain.key.public_modulus_len()];
            chain.key.sign(&RSA_PKCS1_SHA256, &aws_lc_rs::rand::SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
            chain.digests.push((digest, signature.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        chain
    }

    fn keys(&self) -> Keys {
        let key = STANDARD.encode(self.key.public_key().as_ref());
        Keys::read(&format!(r#"{{"PublicKeyList":[{{"Value":"{key}","Fingerprint":"F1","ValidityStartTime":"x"}}]}}"#)).unwrap()
    }
}

#[test]
fn a_chain_of_digests_holds_or_says_where_it_does_not() {
    let file = br#"{"Records":[]}"#;
    let sha256 = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes));
    let chain = Chain::of(4, file);
    let verify = |change: &dyn Fn(&mut Vec<Signed>), content: &[u8], last: bool| {
        let mut given = chain.digests.clone();
        change(&mut given);
        let mut digests = Digests::default();
        let count = given.len();
        for (place, (digest, signature)) in given.iter().enumerate() {
            digests.take(digest, (last && place + 1 == count).then_some(signature.as_str())).unwrap();
        }
        digests.file("copy/AWSLogs/1/CloudTrail/a.json.gz", sha256(content));
        digests.verify(&chain.keys())
    };
    let whole = verify(&|_| {}, file, true);
    assert_eq!((whole.signed, whole.files, whole.unsigned.len(), whole.broken.len()), (4, 1, 0, 0), "{whole:?}");
    let last = verify(&|_| {}, file, false);
    assert_eq!((last.signed, &last.unsigned), (3, &vec![Chain::name(3)]), "the last is signed beside the file alone");
    let changed = verify(&|_| {}, br#"{"Records":[{}]}"#, true);
    assert!(changed.broken[0].contains("is not what CloudTrail delivered"), "{changed:?}");
    let gap = verify(&|given| drop(given.remove(2)), file, true);
    assert!(gap.broken.iter().any(|why| why.contains("is missing")), "{gap:?}");
    let rewritten = verify(&|given| given[1].0 = String::from_utf8_lossy(&given[1].0).replace("T01:00", "T01:01").into_bytes(), file, true);
    assert!(
        rewritten.broken.iter().any(|why| why.contains("is not what")) && rewritten.broken.iter().any(|why| why.contains("signature")),
        "{rewritten:?}"
    );
    let forged = verify(&|given| given[3].1 = given[2].1.clone(), file, true);
    assert!(forged.broken.iter().any(|why| why.contains("another key signed it")), "{forged:?}");
    let beginning_cut = verify(&|given| drop(given.remove(0)), file, true);
    assert_eq!((beginning_cut.broken.len(), beginning_cut.uncovered.len()), (0, 1), "{beginning_cut:?}");
    assert!(Digests::default().take(b"{}", None).is_err() && Keys::read("{}").is_err());
}

#[test]
fn what_comes_late_again_or_from_another_century_changes_nothing_that_is_found() {
    let secret = |id: u32, second: u32| {
        format!(
            r#"{{"eventVersion":"1.08","eventID":"{id}","eventTime":"2026-11-25T10:00:{second:02}Z","eventSource":"secretsmanager.amazonaws.com","eventName":"GetSecretValue","userAgent":"x/1","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/ana"}},"requestParameters":{{"secretId":"s{id}"}}}}"#
        )
    };
    let stray = |id: u32, year: u32| secret(id, 0).replace("2026-11", &format!("{year}-11"));
    let in_order: Vec<String> = (0..10).map(|id| secret(id, id)).collect();
    // Backwards, each twice, with clocks that jump to other centuries in between.
    let mut jumbled: Vec<String> = Vec::new();
    for (place, event) in in_order.iter().rev().enumerate() {
        jumbled.extend([event.clone(), stray(100 + place as u32, 1970), event.clone(), stray(200 + place as u32, 2199)]);
    }
    let findings = |events: &[String]| {
        let mut trail = trail(&[], &[]);
        let found: Vec<Finding> = events.iter().flat_map(|event| trail.take(event.as_bytes()).unwrap()).collect();
        let many = found.into_iter().filter(|finding| finding.detector.title == "Many secrets are read");
        (many.map(|finding| (finding.id, finding.first, finding.last, finding.count)).collect::<Vec<_>>(), trail.seen().duplicates)
    };
    let (found, _) = findings(&in_order);
    assert_eq!(found.len(), 1);
    let (found_jumbled, duplicates) = findings(&jumbled);
    // Those of 1970, and of 2199, are as many as those of now, and a finding each.
    assert_eq!(found_jumbled.len(), 3);
    assert!(found_jumbled.contains(&found[0]), "{found_jumbled:?}");
    assert_eq!(duplicates, 10);
}

#[test]
fn a_session_of_ours_that_is_used_from_elsewhere_is_a_finding() {
    let role = "arn:aws:iam::111122223333:role/reports";
    let mut trail = trail(&[role], &[issued("2026-11-25T10:00:00Z")]);
    found(&mut trail, &begins(1, "2026-11-25T10:01:00Z", "ASIAOURS"));
    let from = |id: u32, address: &str, agent: &str| {
        calls(id, "2026-11-25T10:02:00Z", "ASIAOURS", "").replacen(
            '{',
            &format!(r#"{{"sourceIPAddress":"{address}","userAgent":"{agent}","#),
            1,
        )
    };
    let elsewhere = "A session of an agent is used from elsewhere";
    assert_eq!(found(&mut trail, &from(2, "192.0.2.7", "aws-sdk-rust/1")), [""; 0]);
    assert_eq!(found(&mut trail, &from(3, "192.0.2.9", "aws-sdk-rust/1")), [""; 0], "the same network");
    assert_eq!(found(&mut trail, &from(4, "s3.amazonaws.com", "s3.amazonaws.com")), [""; 0], "a service acts for it");
    assert_eq!(found(&mut trail, &from(5, "198.51.100.7", "aws-sdk-rust/1")), [elsewhere]);
    assert_eq!(found(&mut trail, &from(6, "192.0.2.7", "aws-cli/2.1")), [elsewhere], "by hand");
    assert_eq!(found(&mut trail, &from(7, "198.51.100.8", "aws-cli/2.2")), [""; 0], "both are known now");
    // Whose session it is nobody knows: then it is a matter for another finding.
    let other = from(8, "203.0.113.5", "x").replace("ASIAOURS", "ASIAX").replace("role/reports", "role/other");
    assert_eq!(found(&mut trail, &other.replace("assumed-role/reports", "assumed-role/other")), [""; 0]);
}
