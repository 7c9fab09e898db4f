//! The chain of digests by which CloudTrail's files can be told from what somebody made of them.
//!
//! Every hour CloudTrail writes a digest: the names and hashes of the files that it delivered, the hash of the digest before, and a
//! signature. The signature stands beside the file in S3 (`x-amz-meta-signature`) and, of every digest but the last, in the next
//! one, so that a copy of the files is enough to verify all of them but the last.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::detect::finding::{About, Detector, Evidence, Finding, Kind, Proof, Response};
use crate::model::Timestamp;

/// The longest digest that is read, in bytes. A digest names the files of an hour.
pub const DIGEST_BYTES_MAX: usize = 16 << 20;

/// What a digest says, as far as it is verified.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    digest_start_time: String,
    digest_end_time: String,
    digest_s3_bucket: String,
    digest_s3_object: String,
    digest_public_key_fingerprint: String,
    digest_signature_algorithm: String,
    #[serde(default)]
    previous_digest_s3_object: Option<String>,
    #[serde(default)]
    previous_digest_hash_value: Option<String>,
    #[serde(default)]
    previous_digest_hash_algorithm: Option<String>,
    #[serde(default)]
    previous_digest_signature: Option<String>,
    #[serde(default)]
    log_files: Vec<File>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    s3_object: String,
    hash_value: String,
    hash_algorithm: String,
}

/// A digest that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no digest of CloudTrail: {0}")]
pub struct NotADigest(String);

/// A list of public keys that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not what `aws cloudtrail list-public-keys` prints: {0}")]
pub struct NotKeys(String);

/// The keys that CloudTrail signs with, by their fingerprints.
#[derive(Clone, Debug, Default)]
pub struct Keys(HashMap<String, Vec<u8>>);

/// Digests, to be verified once all have come.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    /// By their names in S3.
    digests: BTreeMap<String, (Said, String)>,
    /// Signatures that were kept beside their digests.
    signatures: HashMap<String, String>,
    /// The hashes of files that were read, by their names as far as they are known.
    files: BTreeMap<String, String>,
}

/// What the chain says of the files that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Digests whose signature holds.
    pub signed: u64,
    /// Digests whose signature nobody has: the last of each chain, unless it was kept beside it.
    pub unsigned: Vec<String>,
    /// Files that are what a digest says.
    pub files: u64,
    /// Files that no digest names.
    pub uncovered: Vec<String>,
    /// What does not hold, in sentences: each is somebody's doing, or a damage.
    pub broken: Vec<String>,
}

impl Keys {
    /// Reads what `aws cloudtrail list-public-keys` prints.
    pub fn read(text: &str) -> Result<Self, NotKeys> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct List {
            public_key_list: Vec<Key>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Key {
            value: String,
            fingerprint: String,
        }
        let list: List = serde_json::from_str(text).map_err(|error| NotKeys(error.to_string()))?;
        let keys = list.public_key_list.into_iter().map(|key| {
            let der = STANDARD.decode(&key.value).map_err(|error| NotKeys(format!("the key {}: {error}", key.fingerprint)))?;
            Ok((key.fingerprint.to_ascii_lowercase(), der))
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Digests {
    /// Takes in a digest, unpacked, and the signature that was kept beside it, in hexadecimal digits.
    pub fn take(&mut self, bytes: &[u8], signature: Option<&str>) -> Result<(), NotADigest> {
        let said: Said = serde_json::from_slice(bytes).map_err(|error| NotADigest(error.to_string()))?;
        let name = said.digest_s3_object.clone();
        if let Some(signature) = signature {
            self.signatures.insert(name.clone(), signature.trim().to_owned());
        }
        self.digests.insert(name, (said, hexadecimal(&Sha256::digest(bytes))));
        Ok(())
    }

    /// Takes in the SHA-256 of a file's content, unpacked. Its name is the end of a path: whatever is before it in S3.
    pub fn file(&mut self, name: &str, sha256: [u8; 32]) {
        self.files.insert(name.to_owned(), hexadecimal(&sha256));
    }

    /// Whether there is any digest.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Verifies the chain, and what it says of the files.
    pub fn verify(&self, keys: &Keys) -> Verified {
        let mut verified = Verified::default();
        let mut signatures: HashMap<&str, &str> = self.signatures.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        for (said, _) in self.digests.values() {
            self.follow(said, &mut signatures, &mut verified);
        }
        for (name, (said, hash)) in &self.digests {
            match signatures.get(name.as_str()) {
                None => verified.unsigned.push(name.clone()),
                Some(signature) => match is_signed(said, hash, signature, keys) {
                    Ok(()) => verified.signed += 1,
                    Err(why) => verified.broken.push(format!("the signature of the digest `{name}` does not hold: {why}")),
                },
            }
        }
        self.compare_files(&mut verified);
        verified
    }

    /// Follows the chain from a digest to the one before: it has to be there, be what was hashed and end where this one begins.
    fn follow<'d>(&'d self, said: &'d Said, signatures: &mut HashMap<&'d str, &'d str>, verified: &mut Verified) {
        let name = &said.digest_s3_object;
        let Some(before) = &said.previous_digest_s3_object else { return };
        if let Some(signature) = &said.previous_digest_signature {
            signatures.entry(before).or_insert(signature);
        }
        let Some((previous, hash)) = self.digests.get(before) else {
            // The first one that was copied has one before it that was not.
            let is_first =
                self.digests.values().all(|(other, _)| chain(other) != chain(said) || other.digest_end_time >= said.digest_end_time);
            if !is_first {
                verified.broken.push(format!("the digest `{before}`, which comes before `{name}`, is missing"));
            }
            return;
        };
        if said.previous_digest_hash_algorithm.as_deref().is_some_and(|algorithm| algorithm != "SHA-256") {
            verified.broken.push(format!("`{name}` hashes the one before it by an unknown algorithm"));
        } else if said.previous_digest_hash_value.as_deref().is_none_or(|said| !said.eq_ignore_ascii_case(hash)) {
            verified.broken.push(format!("the digest `{before}` is not what `{name}` says that it was"));
        }
        if previous.digest_end_time != said.digest_start_time {
            verified.broken.push(format!("between the digests `{before}` and `{name}` there is a gap"));
        }
    }

    fn compare_files(&self, verified: &mut Verified) {
        let mut said: BTreeMap<&str, &File> = BTreeMap::new();
        for (digest, _) in self.digests.values() {
            said.extend(digest.log_files.iter().map(|file| (base(&file.s3_object), file)));
        }
        for (name, hash) in &self.files {
            match said.remove(base(name)) {
                None => verified.uncovered.push(name.clone()),
                Some(file) if file.hash_algorithm != "SHA-256" => {
                    verified.broken.push(format!("`{name}` is hashed by the unknown algorithm `{}`", file.hash_algorithm));
                }
                Some(file) if file.hash_value.eq_ignore_ascii_case(hash) => verified.files += 1,
                Some(_) => {
                    verified.broken.push(format!("`{name}` is not what CloudTrail delivered: its hash is another than its digest says"))
                }
            }
        }
        verified.broken.extend(said.values().map(|file| format!("`{}`, which a digest names, is missing", file.s3_object)));
    }
}

/// One chain: the folder of a trail and a region, which ends with the date.
fn chain(said: &Said) -> &str {
    let folder = said.digest_s3_object.rsplitn(5, '/').nth(4).unwrap_or_default();
    if folder.is_empty() { &said.digest_s3_bucket } else { folder }
}

/// The last part of a name: CloudTrail's are told apart by it.
fn base(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

fn is_signed(said: &Said, hash: &str, signature: &str, keys: &Keys) -> Result<(), String> {
    if said.digest_signature_algorithm != "SHA256withRSA" {
        return Err(format!("it is by the unknown algorithm `{}`", said.digest_signature_algorithm));
    }
    let fingerprint = said.digest_public_key_fingerprint.to_ascii_lowercase();
    let key = keys.0.get(&fingerprint).ok_or_else(|| format!("there is no key {fingerprint} among those given"))?;
    let previous = said.previous_digest_signature.as_deref().unwrap_or("null");
    let text = format!("{}\n{}/{}\n{hash}\n{previous}", said.digest_end_time, said.digest_s3_bucket, said.digest_s3_object);
    let signature = from_hexadecimal(signature).ok_or("it is not in hexadecimal digits")?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    key.verify(text.as_bytes(), &signature).map_err(|_| "another key signed it, or it was changed".to_owned())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    text.len().is_multiple_of(2).then(|| (0..text.len()).step_by(2).map(digit).collect())?
}

impl Verified {
    /// What does not hold, as a finding each: somebody has changed, removed or forged what CloudTrail recorded.
    pub fn findings(&self, at: Timestamp) -> Vec<Finding> {
        let finding = |why: &String| {
            let detector = Detector {
                id: "cloudtrail-digest-broken".to_owned(),
                catalogue: Some("CP-01".to_owned()),
                title: "CloudTrail's files are not what it delivered".to_owned(),
                kind: Kind::Rule,
                tags: ["attack.defense-impairment", "attack.stealth", "attack.t1070", "atlas.aml.t0107", "owasp.asi10"]
                    .map(str::to_owned)
                    .to_vec(),
                guardduty: Some("Stealth:IAMUser/CloudTrailLoggingDisabled".to_owned()),
                falsepositives: vec!["A copy that is not whole".to_owned()],
                response: Response::Notify,
            };
            let evidence = Evidence { proof: Proof::File(why.clone()), at, says: why.clone() };
            let expected = "Each file is what CloudTrail's chain of digests says of it.".to_owned();
            Finding::new(detector, About::default(), evidence, expected, why.clone()).weighing(10, 0.8)
        };
        self.broken.iter().map(finding).collect()
    }
}
