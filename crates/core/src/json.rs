//! JSON that can mean only one thing: bounded, and without repeated keys.
//!
//! Parsers disagree about `{"a":1,"a":2}`. One that decides and one that acts must not, so it is refused at any depth.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How large a JSON text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that are read.
    pub bytes_max: usize,
    /// The deepest nesting of arrays and objects; a scalar has depth 0. At most 127, which is where the parser itself stops.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 4 << 20, depth_max: 64 }
    }
}

/// Why a text was refused. All of it is the sender's to mend.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
    /// It is longer than the limit.
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
    /// It nests deeper than the limit.
    #[error("the message nests deeper than {0} levels")]
    TooDeep(usize),
    /// An object holds a key twice.
    #[error("the message holds a key twice in one object")]
    RepeatedKey,
    /// It is not JSON.
    #[error("the message is not valid JSON (line {line}, column {column})")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
    /// It is JSON, but not the object that was expected.
    #[error("the message is not a JSON object")]
    NotAnObject,
}

/// Parses `text`; the whole of it must be one value.
pub fn parse(text: &[u8], limits: &Limits) -> Result<Value, InvalidJson> {
    if text.len() > limits.bytes_max {
        return Err(InvalidJson::TooLong(limits.bytes_max));
    }
    let mut fault = None;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let strict = Strict { depth_left: limits.depth_max.min(127), limits, fault: &mut fault };
    let parsed = strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| fault.unwrap_or(InvalidJson::Syntax { line: error.line(), column: error.column() }))
}

/// Builds a value and remembers which of our own rules it broke, since serde's errors are only text.
struct Strict<'a> {
    depth_left: usize,
    limits: &'a Limits,
    fault: &'a mut Option<InvalidJson>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(&mut self) -> Result<Strict<'_>, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Strict { depth_left, limits: self.limits, fault: self.fault }),
            None => {
                *self.fault = Some(InvalidJson::TooDeep(self.limits.depth_max));
                Err(E::custom("too deep"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let seed = self.deeper()?;
            match items.next_element_seed(seed)? {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                *self.fault = Some(InvalidJson::RepeatedKey);
                return Err(serde::de::Error::custom("repeated key"));
            }
            let seed = self.deeper()?;
            let value = members.next_value_seed(seed)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        let limits = Limits { bytes_max: 100, depth_max: 3 };
        for (text, fault) in [
            (r#"{"a":1,"a":1}"#, InvalidJson::RepeatedKey),
            (r#"[{"b":{"a":1,"\u0061":2}}]"#, InvalidJson::RepeatedKey),
            ("[[[[1]]]]", InvalidJson::TooDeep(3)),
            ("{", InvalidJson::Syntax { line: 1, column: 1 }),
            ("1 2", InvalidJson::Syntax { line: 1, column: 3 }),
            ("1e999", InvalidJson::Syntax { line: 1, column: 5 }),
            ("\"\\ud800\"", InvalidJson::Syntax { line: 1, column: 8 }),
        ] {
            assert_eq!(parse(text.as_bytes(), &limits), Err(fault), "{text}");
        }
        assert_eq!(parse(&[b' '; 101], &limits), Err(InvalidJson::TooLong(100)));
        assert_eq!(parse(b"[[[1]]]", &limits), Ok(serde_json::json!([[[1]]])));
    }

    proptest::proptest! {
        #[test]
        fn what_serde_prints_is_read_back(keys in proptest::collection::btree_map(".*", proptest::num::i64::ANY, 0..8)) {
            let value = serde_json::to_value(&keys).unwrap();
            let text = serde_json::to_vec(&value).unwrap();
            proptest::prop_assert_eq!(parse(&text, &Limits::default()), Ok(value));
        }

        #[test]
        fn nothing_panics(text: Vec<u8>) {
            let _ = parse(&text, &Limits::default());
        }
    }
}
