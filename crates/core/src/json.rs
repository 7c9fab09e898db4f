//! JSON that can mean only one thing: bounded, and without repeated keys.
//!
//! Parsers disagree about `{"a":1,"a":2}`. One that decides and one that acts must not, so it is refused at any depth.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
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
    /// It holds a number that not every reader reads alike.
    #[error("the message holds a number that not every reader reads alike; write at most 15 digits, or write it as a text")]
    InexactNumber,
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
    parse_without(text, limits, &[]).map(|(value, _)| value)
}

/// Parses `text` but for what is found at the `path` of keys: that is left out of the value and given as its exact text,
/// which is JSON and no more is known of it, so that nothing large has to be read twice.
pub fn parse_without<'t>(text: &'t [u8], limits: &Limits, path: &[&str]) -> Result<(Value, Option<&'t RawValue>), InvalidJson> {
    if text.len() > limits.bytes_max {
        return Err(InvalidJson::TooLong(limits.bytes_max));
    }
    let (mut fault, mut left_out) = (None, None);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let strict = Strict { depth_left: limits.depth_max.min(127), limits, path, fault: &mut fault, left_out: &mut left_out };
    match strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok((value, left_out)),
        Err(error) => Err(fault.unwrap_or(InvalidJson::Syntax { line: error.line(), column: error.column() })),
    }
}

/// Fails when `text`, which `value` was read from, holds a number that readers read differently.
///
/// One that decides reads a double, and one that acts may read every digit: `100.00000000000000001` would be decided on as
/// 100. So a number has to be whole and within 64 bits, or have exactly the digits by which its double is written (RFC 7493
/// §2.2; every number of at most 15 digits has).
pub fn exact(text: &[u8], value: &Value) -> Result<(), InvalidJson> {
    // A whole number within 64 bits was read as it is, and texts hardly ever hold another.
    if !has_float(value) {
        return Ok(());
    }
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' => rest = after_string(after),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).unwrap_or(rest.len());
                let (number, after) = rest.split_at(length);
                if !std::str::from_utf8(number).is_ok_and(is_exact) {
                    return Err(InvalidJson::InexactNumber);
                }
                rest = after;
            }
            _ => rest = after,
        }
    }
    Ok(())
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// What follows a string, of which the opening quote was taken already.
fn after_string(text: &[u8]) -> &[u8] {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'"' if !escaped => return text.get(index.saturating_add(1)..).unwrap_or_default(),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    &[]
}

fn is_exact(number: &str) -> bool {
    let is_whole = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
    is_whole || number.parse::<f64>().is_ok_and(|double| double.is_finite() && is_written_as(double, number))
}

/// Whether writers write `double` with the digits of `number`. Of two shortest forms that are equally near to it, some
/// writers take the even one (ECMA-262, Number::toString) and some the larger.
fn is_written_as(double: f64, number: &str) -> bool {
    let even = Number::from_f64(double).map(|even| even.to_string());
    let digits_of_number = digits(number);
    digits(&format!("{double:e}")) == digits_of_number || even.is_some_and(|even| digits(&even) == digits_of_number)
}

/// A number's digits without zeros at either end, and the power of ten that the last of them counts.
fn digits(number: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, places) = mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa.trim_start_matches('-'), ""));
    let all = format!("{whole}{places}");
    let kept = all.trim_end_matches('0');
    if kept.is_empty() {
        return Some((String::new(), 0));
    }
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(places.len()).ok()?)?;
    let power = exponent.checked_add(i64::try_from(all.len().saturating_sub(kept.len())).ok()?)?;
    Some((kept.trim_start_matches('0').to_owned(), power))
}

/// Builds a value and remembers which of our own rules it broke, since serde's errors are only text.
struct Strict<'a, 'de> {
    depth_left: usize,
    limits: &'a Limits,
    /// The keys that lead from here to what is left out; none where nothing is.
    path: &'a [&'a str],
    fault: &'a mut Option<InvalidJson>,
    left_out: &'a mut Option<&'de RawValue>,
}

impl<'de> Strict<'_, 'de> {
    fn deeper<'s, E: serde::de::Error>(&'s mut self, path: &'s [&'s str]) -> Result<Strict<'s, 'de>, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Strict { depth_left, limits: self.limits, path, fault: self.fault, left_out: self.left_out }),
            None => {
                *self.fault = Some(InvalidJson::TooDeep(self.limits.depth_max));
                Err(E::custom("too deep"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_, 'de> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_, 'de> {
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
            let seed = self.deeper(&[])?;
            match items.next_element_seed(seed)? {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let on_path = self.path.split_first().filter(|(next, _)| **next == key).map(|(_, rest)| rest);
            let is_left_out = on_path.is_some_and(<[_]>::is_empty);
            if object.contains_key(&key) || (is_left_out && self.left_out.is_some()) {
                *self.fault = Some(InvalidJson::RepeatedKey);
                return Err(serde::de::Error::custom("repeated key"));
            }
            if is_left_out {
                *self.left_out = Some(members.next_value()?);
                continue;
            }
            let seed = self.deeper(on_path.unwrap_or_default())?;
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

    #[test]
    fn a_number_is_exact_when_every_reader_reads_it_alike() {
        for (text, is_exact) in [
            ("0", true),
            ("-0", true),
            ("-0.0", true),
            ("0e5", true),
            ("1E1", true),
            ("1e+2", true),
            ("1.0", true),
            ("100.10", true),
            ("0.1", true),
            ("0.30000000000000004", true),
            ("6.62607015e-34", true),
            ("1e300", true),
            ("5e-324", true),
            ("194301820609233.61", false),
            ("194301820609233.62", true),
            ("194301820609233.63", true),
            ("9007199254740993", true),
            ("18446744073709551615", true),
            ("-9223372036854775808", true),
            ("18446744073709551616", false),
            ("1000000000000000000000000000001", false),
            ("-9223372036854775809", false),
            ("9007199254740993.0", false),
            ("0.1000000000000000000001", false),
            ("100.00000000000000001", false),
            ("5.00000000000000000000000001", false),
            ("1e-400", false),
            ("4.9e-324", false),
        ] {
            for text in [text.to_owned(), format!(r#"{{"a\\\"9":["-1\\",{text}],"b":"0.1000000000000000000001"}}"#)] {
                let value = parse(text.as_bytes(), &Limits::default()).unwrap();
                assert_eq!(exact(text.as_bytes(), &value).is_ok(), is_exact, "{text}");
            }
        }
        for text in ["NaN", "Infinity", "1e400", "-1e400", "01", "+1", ".5", "5.", "0x10", "1_000", "١"] {
            assert!(parse(text.as_bytes(), &Limits::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_json_is_not_read() {
        for text in [
            b"\xef\xbb\xbf{}".as_slice(),
            b"{} {}",
            b"{}\0",
            b"{\"a\":\"\xc0\xaf\"}",
            b"{\"a\":\"\xed\xa0\x80\"}",
            b"{\"a\":\"\xff\"}",
            b"{\"\xc0\x80\":1}",
            br#"{"a":"\ud800"}"#,
            br#"{"\udc00":1}"#,
            br#"{"a":"\udc00\ud800"}"#,
            b"{\"a\":\"\n\"}",
            b"{'a':1}",
            b"{a:1}",
            b"{\"a\":1,}",
            b"[1,]",
            b"/**/{}",
            b"\x00{\x00}",
            b"",
        ] {
            assert!(matches!(parse(text, &Limits::default()), Err(InvalidJson::Syntax { .. })), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_left_out_is_given_as_it_came_and_once() {
        let limits = Limits { bytes_max: 100, depth_max: 3 };
        let without =
            |text: &'static str| parse_without(text.as_bytes(), &limits, &["p", "a"]).map(|(value, text)| (value, text.map(RawValue::get)));
        let json = |value: serde_json::Value| value;
        for (text, value, left_out) in [
            (r#"{"p":{"a": {"x" : 1.0} ,"b":2},"a":3}"#, json(serde_json::json!({"p":{"b":2},"a":3})), Some(r#"{"x" : 1.0}"#)),
            (r#"{"p":{"\u0061":[1]}}"#, json(serde_json::json!({"p":{}})), Some("[1]")),
            (r#"{"q":{"a":1},"p":{"b":{"a":1}}}"#, json(serde_json::json!({"q":{"a":1},"p":{"b":{"a":1}}})), None),
            (r#"[{"p":{"a":1}}]"#, json(serde_json::json!([{"p":{"a":1}}])), None),
            (r#"{"p":[{"a":1}]}"#, json(serde_json::json!({"p":[{"a":1}]})), None),
        ] {
            assert_eq!(without(text), Ok((value, left_out)), "{text}");
        }
        assert_eq!(without(r#"{"p":{"a":1,"a":1}}"#), Err(InvalidJson::RepeatedKey));
        assert_eq!(without(r#"{"p":{"a":1},"p":{}}"#), Err(InvalidJson::RepeatedKey));
        assert!(matches!(without(r#"{"p":{"a":{]}}"#), Err(InvalidJson::Syntax { .. })));
    }

    proptest::proptest! {
        #[test]
        fn a_number_that_is_written_shortest_is_exact(double in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let text = serde_json::to_string(&double).unwrap();
            proptest::prop_assert!(is_exact(&text), "{}", text);
        }

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
