//! What the log keeps of arguments that it does not keep: by which words they are known again, and for nobody else to read.
//!
//! A fingerprint of a word tells the word to whoever tries all words, and the log is read by many. So they are encrypted, under a key
//! of the house which all gateways of one log have. Who folds the log without it does not know what was written, and believes
//! nothing that the server says.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::model::Digest;

/// Seals words, and opens what was sealed under the same key.
pub struct WordSeal {
    key: LessSafeKey,
    nonces: hmac::Key,
}

impl WordSeal {
    /// The seal of a house that has this `secret`; whatever else that is for tells nothing of it. Fails only if the cryptographic
    /// library does.
    pub fn of(secret: &[u8]) -> Result<Self, Unspecified> {
        let of_house = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let key = UnboundKey::new(&AES_256_GCM, hmac::sign(&of_house, b"bailiwick written words, key").as_ref())?;
        let nonces = hmac::sign(&of_house, b"bailiwick written words, nonces");
        Ok(Self { key: LessSafeKey::new(key), nonces: hmac::Key::new(hmac::HMAC_SHA256, nonces.as_ref()) })
    }

    /// Seals the words of a call whose arguments have this digest. The same words of the same call are sealed to the same text.
    pub(crate) fn close(&self, call: &Digest, words: &[u64]) -> Option<String> {
        let mut text: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        // Made from all that it is used for: no two different texts share one, and none has to be remembered.
        let tag = hmac::sign(&self.nonces, &[call.as_bytes().as_slice(), &text].concat());
        let nonce: [u8; NONCE_LEN] = *tag.as_ref().first_chunk()?;
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(call.as_bytes()), &mut text).ok()?;
        Some(STANDARD_NO_PAD.encode([nonce.as_slice(), &text].concat()))
    }

    /// The words that were sealed for the same call; nothing else opens.
    pub(crate) fn open(&self, call: &Digest, sealed: &str) -> Option<Vec<u64>> {
        let mut bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.key.open_in_place(nonce, Aad::from(call.as_bytes()), sealed).ok()?;
        let (words, rest) = text.as_chunks();
        rest.is_empty().then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

impl fmt::Debug for WordSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WordSeal(..)")
    }
}
