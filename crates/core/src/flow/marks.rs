//! A set that forgets nothing, in a few bytes for each thing that is in it.
//!
//! A Bloom filter that grows: it never says that something is not there which is, and says that something is there which is not
//! about once in a million times.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// The bytes that one thing takes.
pub(super) const BYTES_EACH: usize = 4;

/// How many bits stand for one thing.
const BITS_EACH: u64 = 12;

/// The words of the first part; each further one has twice as many.
const FIRST: usize = 256;

/// What was put in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Marks(Vec<Part>);

/// A part of a fixed size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KeptPart", into = "KeptPart")]
struct Part {
    /// As many as a power of two.
    bits: Vec<u64>,
    len: usize,
}

/// The same as text: the bits in little-endian base64.
#[derive(Serialize, Deserialize)]
struct KeptPart {
    bits: String,
    len: usize,
}

impl From<Part> for KeptPart {
    fn from(Part { bits, len }: Part) -> Self {
        let bytes: Vec<u8> = bits.into_iter().flat_map(u64::to_le_bytes).collect();
        Self { bits: STANDARD_NO_PAD.encode(bytes), len }
    }
}

impl TryFrom<KeptPart> for Part {
    type Error = &'static str;

    fn try_from(KeptPart { bits, len }: KeptPart) -> Result<Self, Self::Error> {
        let bytes = STANDARD_NO_PAD.decode(bits).map_err(|_| "not in base64")?;
        let (words, rest) = bytes.as_chunks();
        let bits: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        if rest.is_empty() && bits.len().is_power_of_two() { Ok(Self { bits, len }) } else { Err("not as many as a power of two") }
    }
}

impl Marks {
    /// Puts `thing` in; says whether it was not there.
    pub(super) fn put(&mut self, thing: u64) -> bool {
        if self.has(thing) {
            return false;
        }
        if self.0.last().is_none_or(Part::is_full) {
            let words = self.0.last().map_or(FIRST, |last| last.bits.len().saturating_mul(2));
            self.0.push(Part { bits: vec![0; words], len: 0 });
        }
        if let Some(last) = self.0.last_mut() {
            last.put(thing);
        }
        true
    }

    /// Whether `thing` was put in.
    pub(super) fn has(&self, thing: u64) -> bool {
        self.0.iter().any(|part| part.has(thing))
    }

    /// Whether nothing was.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Part {
    const fn is_full(&self) -> bool {
        self.len.saturating_mul(BYTES_EACH) >= self.bits.len().saturating_mul(size_of::<u64>())
    }

    fn put(&mut self, thing: u64) {
        self.len = self.len.saturating_add(1);
        for (word, bit) in places(thing, self.bits.len()) {
            if let Some(bits) = self.bits.get_mut(word) {
                *bits |= bit;
            }
        }
    }

    fn has(&self, thing: u64) -> bool {
        places(thing, self.bits.len()).all(|(word, bit)| self.bits.get(word).is_none_or(|bits| bits & bit != 0))
    }
}

/// The bits that stand for `thing` among `words`.
fn places(thing: u64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let (mut at, mask) = (thing, words.saturating_sub(1));
    (0..BITS_EACH).map(move |_| {
        at = mix(at.wrapping_add(0x9E37_79B9_7F4A_7C15));
        (usize::try_from(at >> 6).map_or(0, |word| word & mask), 1 << (at & 63))
    })
}

/// Spreads a number over all numbers.
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_there_and_hardly_anything_else() {
        let mut marks = Marks::default();
        let thing = |number: u64| mix(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let new = (0..100_000).filter(|number| marks.put(thing(*number))).count();
        assert!(new > 99_990, "{new}");
        assert!((0..100_000).all(|number| marks.has(thing(number)) && !marks.put(thing(number))));
        let wrong = (100_000..400_000).filter(|number| marks.has(thing(*number))).count();
        assert!(wrong < 10, "{wrong}");
        assert_eq!(serde_json::from_str::<Marks>(&serde_json::to_string(&marks).unwrap()).unwrap(), marks);
    }
}
