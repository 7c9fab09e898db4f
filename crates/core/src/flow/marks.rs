//! A set of numbers that forgets nothing.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// The bytes that one number takes, as tables grow.
pub(super) const BYTES_EACH: usize = 16;

/// What was put in. Hashed with the process's own key, since whoever writes chooses the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Marks(HashSet<u64>);

/// As text: in order, eight bytes each in little-endian base64.
impl From<Marks> for String {
    fn from(Marks(numbers): Marks) -> Self {
        let mut numbers: Vec<u64> = numbers.into_iter().collect();
        numbers.sort_unstable();
        STANDARD_NO_PAD.encode(numbers.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
    }
}

impl TryFrom<String> for Marks {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| "not in base64")?;
        let (numbers, rest) = bytes.as_chunks();
        if rest.is_empty() { Ok(Self(numbers.iter().map(|number| u64::from_le_bytes(*number)).collect())) } else { Err("cut off") }
    }
}

impl Marks {
    /// Puts `number` in; says whether it was not there.
    pub(super) fn put(&mut self, number: u64) -> bool {
        self.0.insert(number)
    }

    /// Whether `number` was put in.
    pub(super) fn has(&self, number: u64) -> bool {
        self.0.contains(&number)
    }

    /// Whether nothing was.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Spreads a number over all numbers.
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
