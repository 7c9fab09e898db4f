//! Signed notes: a text with signatures below it that name their keys (C2SP signed-note, Ed25519 keys).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// The identifier of Ed25519 signatures over the text itself (C2SP signed-note, "Signature types").
const ED25519_TYPE: u8 = 1;

/// More than any note of ours has; C2SP asks for at least 16.
const SIGNATURES_MAX: usize = 100;

/// Bounds what is looked at before any signature was verified.
const NOTE_BYTES_MAX: usize = 1 << 20;

/// A public key under a name: what a verifier trusts. Its text is a C2SP `vkey`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

/// A text that is no key of a signed note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The name is empty or has a space, a control character or a plus sign.
    #[error("`{0}` cannot name a key: a name is not empty and has no spaces, control characters or plus signs")]
    Name(String),
    /// The text is not a key.
    #[error("this is not a verifier key of the form `name+id+key` (C2SP signed-note)")]
    Format,
    /// The key is of a type other than Ed25519.
    #[error("the key is not an Ed25519 key")]
    Type,
    /// The id in the text is not the key's.
    #[error("the key's id does not fit its name and public key")]
    Id,
}

impl VerifierKey {
    /// The key `public` under `name`.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, InvalidKey> {
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(InvalidKey::Name(name.escape_debug().to_string()));
        }
        Ok(Self { name: name.to_owned(), public })
    }

    /// The key's name; of a log, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short id that signatures carry beside the name (C2SP signed-note, "Signatures"). It identifies, it does not authenticate.
    pub fn id(&self) -> u32 {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519_TYPE]).chain_update(self.public).finalize();
        let hash: [u8; 32] = hash.into();
        hash.first_chunk().copied().map_or(0, u32::from_be_bytes)
    }

    /// The public key (RFC 8032).
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id(), encode_key(&self.public))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (name, id, key) = split_key(text)?;
        let key = Self::new(name, decode_key(key)?)?;
        if key.id() == id { Ok(key) } else { Err(InvalidKey::Id) }
    }
}

/// Signs for the log. The key may be in this process or elsewhere.
pub trait Signer: Send + Sync {
    /// The key that its signatures verify with.
    fn verifier(&self) -> &VerifierKey;

    /// Signs `message` with Ed25519 (RFC 8032): 64 bytes.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed>;
}

/// The signer could not sign.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the signer failed: {0}")]
pub struct SigningFailed(pub String);

/// A signer that holds its key in memory.
pub struct Ed25519Signer {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
}

impl Ed25519Signer {
    /// The signer called `name` with this private key: 32 unpredictable bytes (RFC 8032 §5.1.5).
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| InvalidKey::Format)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| InvalidKey::Format)?;
        Ok(Self { verifier: VerifierKey::new(name, public)?, pair })
    }

    /// Reads the private key of the form `PRIVATE+KEY+name+id+key`, which Go's `sumdb/note` made common.
    pub fn from_private_text(text: &str) -> Result<Self, InvalidKey> {
        let (name, id, key) = split_key(text.strip_prefix("PRIVATE+KEY+").ok_or(InvalidKey::Format)?)?;
        let signer = Self::from_seed(name, &decode_key(key)?)?;
        if signer.verifier.id() == id { Ok(signer) } else { Err(InvalidKey::Id) }
    }
}

impl Signer for Ed25519Signer {
    fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Signer({})", self.verifier)
    }
}

/// Writes a private key in the form that [`Ed25519Signer::from_private_text`] reads. The text is the secret.
pub fn private_text(name: &str, seed: &[u8; 32]) -> Result<String, InvalidKey> {
    let signer = Ed25519Signer::from_seed(name, seed)?;
    Ok(format!("PRIVATE+KEY+{name}+{:08x}+{}", signer.verifier.id(), encode_key(seed)))
}

/// A text and the signatures below it. Parsing it verifies nothing; [`Note::verify`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

/// Why a note is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNote {
    /// The bytes are not a signed note.
    #[error("this is not a signed note: {0}")]
    Format(&'static str),
    /// A signature by a key that the verifier knows does not hold.
    #[error("the signature by `{0}` does not fit the text: the text or the signature was changed")]
    Signature(String),
    /// None of the keys that the verifier knows signed the note.
    #[error("no known key signed this note; it names {0}")]
    Unsigned(String),
}

impl Note {
    /// Signs `text`, which must end in a newline and have no control characters beside it.
    pub fn sign(text: String, signer: &dyn Signer) -> Result<Self, SigningFailed> {
        if !text_is_valid(&text) {
            return Err(SigningFailed("the text cannot be that of a signed note".to_owned()));
        }
        let bytes = signer.sign(text.as_bytes())?;
        let verifier = signer.verifier();
        Ok(Self { text, signatures: vec![Signature { name: verifier.name.clone(), id: verifier.id(), bytes }] })
    }

    /// Reads a note. Nothing is verified yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidNote> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(InvalidNote::Format("it is longer than a note may be"));
        }
        let whole = str::from_utf8(bytes).map_err(|_| InvalidNote::Format("it is not UTF-8"))?;
        // The text ends with the newline before the last empty line.
        let split = whole.rfind("\n\n").ok_or(InvalidNote::Format("no empty line separates the text from the signatures"))?;
        let (text, signatures) = whole.split_at(split + 1);
        if !text_is_valid(text) {
            return Err(InvalidNote::Format("the text holds a control character"));
        }
        let lines = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(InvalidNote::Format("it does not end in a newline"))?.split('\n');
        let signatures: Vec<_> = lines.take(SIGNATURES_MAX + 1).map(Signature::parse).collect::<Option<_>>().ok_or(BAD_LINE)?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(InvalidNote::Format("it has more signatures than a note may have"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, once a key in `trusted` has signed it and none of them has signed anything else there.
    pub fn verify(&self, trusted: &[VerifierKey]) -> Result<&str, InvalidNote> {
        let mut verified = false;
        for signature in &self.signatures {
            let key = trusted.iter().find(|key| key.name == signature.name && key.id() == signature.id);
            // Signatures by unknown keys say nothing, also under a known name (C2SP signed-note, "Signatures").
            let Some(key) = key else { continue };
            if !key.verifies(&self.text, &signature.bytes) {
                return Err(InvalidNote::Signature(key.name.clone()));
            }
            verified = true;
        }
        if verified { Ok(&self.text) } else { Err(InvalidNote::Unsigned(self.signers())) }
    }

    /// The text, which nobody may have signed.
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    fn signers(&self) -> String {
        let names: Vec<_> = self.signatures.iter().map(|by| format!("`{}+{:08x}`", by.name.escape_debug(), by.id)).collect();
        names.join(", ")
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let bytes: Vec<u8> = signature.id.to_be_bytes().into_iter().chain(signature.bytes.iter().copied()).collect();
            writeln!(f, "— {} {}", signature.name, STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

const BAD_LINE: InvalidNote = InvalidNote::Format("a line below the text is not a signature");

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        if bytes.is_empty() || name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
            return None;
        }
        Some(Self { name: name.to_owned(), id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }
}

fn text_is_valid(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|c| c < ' ' && c != '\n')
}

fn encode_key(key: &[u8; 32]) -> String {
    let typed: Vec<u8> = [ED25519_TYPE].into_iter().chain(key.iter().copied()).collect();
    STANDARD.encode(typed)
}

fn decode_key(text: &str) -> Result<[u8; 32], InvalidKey> {
    let typed = STANDARD.decode(text).map_err(|_| InvalidKey::Format)?;
    match typed.split_first() {
        Some((&ED25519_TYPE, key)) => key.try_into().map_err(|_| InvalidKey::Format),
        Some(_) => Err(InvalidKey::Type),
        None => Err(InvalidKey::Format),
    }
}

/// Splits `name+id+key`. Base64 has plus signs too, so the first two separate.
fn split_key(text: &str) -> Result<(&str, u32, &str), InvalidKey> {
    let (name, rest) = text.split_once('+').ok_or(InvalidKey::Format)?;
    let (id, key) = rest.split_once('+').ok_or(InvalidKey::Format)?;
    if id.len() != 8 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(InvalidKey::Format);
    }
    Ok((name, u32::from_str_radix(id, 16).map_err(|_| InvalidKey::Format)?, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of C2SP signed-note.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_of_the_standard_verifies() {
        let key: VerifierKey = VKEY.parse().unwrap();
        assert_eq!((key.to_string(), key.id()), (VKEY.to_owned(), 0x530d_903a));
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(note.verify(&[key]), Ok("This is an example message.\n"));
        assert_eq!(note.to_string(), NOTE);
    }

    #[test]
    fn a_note_with_any_byte_changed_is_refused() {
        let key: VerifierKey = VKEY.parse().unwrap();
        for at in 0..NOTE.len() {
            for bit in 0..8 {
                let mut bytes = NOTE.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                assert!(Note::parse(&bytes).and_then(|note| note.verify(std::slice::from_ref(&key)).map(str::len)).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn what_is_no_note() {
        let signature = NOTE.lines().last().unwrap();
        for text in [
            "",
            "\n",
            "\n\n",
            "text\n",
            "text\n\n",
            &format!("text\n{signature}\n"),
            &format!("text\n\n{signature}"),
            &format!("te\txt\n\n{signature}\n"),
            &format!("text\n\n{signature}\n\n"),
            "text\n\n— a b\n",
            "text\n\n—  AAAAAAA=\n",
            "text\n\n— a+b AAAAAAA=\n",
        ] {
            assert!(Note::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let many = format!("text\n\n{}", format!("{signature}\n").repeat(SIGNATURES_MAX + 1));
        assert!(Note::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn unknown_signatures_are_ignored_and_wrong_ones_are_not() {
        let [ours, other] = [1, 2].map(|seed| Ed25519Signer::from_seed("log.example", &[seed; 32]).unwrap());
        let mut note = Note::sign("text\n".to_owned(), &ours).unwrap();
        let foreign = Note::sign("text\n".to_owned(), &other).unwrap();
        note.signatures.extend(foreign.signatures);
        assert_eq!(note.verify(&[ours.verifier().clone()]), Ok("text\n"));
        note.text = "other\n".to_owned();
        assert_eq!(note.verify(&[ours.verifier().clone()]), Err(InvalidNote::Signature("log.example".to_owned())));
        assert!(matches!(foreign_only(&other).verify(&[ours.verifier().clone()]), Err(InvalidNote::Unsigned(_))));
    }

    fn foreign_only(signer: &Ed25519Signer) -> Note {
        Note::parse(Note::sign("text\n".to_owned(), signer).unwrap().to_string().as_bytes()).unwrap()
    }

    #[test]
    fn keys_read_back_and_others_are_refused() {
        let text = private_text("log.example", &[7; 32]).unwrap();
        let signer = Ed25519Signer::from_private_text(&text).unwrap();
        assert_eq!(signer.verifier().to_string().parse(), Ok(signer.verifier().clone()));
        assert!(!format!("{signer:?}").contains(&STANDARD.encode([7; 32])[..8]));
        for (text, error) in [
            (VKEY.replace("530d903a", "530d903b"), InvalidKey::Id),
            (VKEY.replace("+Ae", "+Be"), InvalidKey::Type),
            (VKEY.replace("530d903a", "+30d903a"), InvalidKey::Format),
            (VKEY.replace("U2k", ""), InvalidKey::Format),
            (VKEY.replace("example.com/foo", "a b"), InvalidKey::Name("a b".to_owned())),
        ] {
            assert_eq!(text.parse::<VerifierKey>(), Err(error), "{text}");
        }
    }
}
