//! A form body, read strictly: a parameter that comes twice is refused, except where a standard lets it repeat.

use std::collections::BTreeMap;

/// The most parameters that a form may have.
const PARAMETERS_MAX: usize = 64;

/// Those that may repeat (RFC 8693 §2.1, RFC 8707 §2).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// The parameters of a form by name. Those without a value are left out (RFC 6749 §3.2).
#[derive(Debug, Default)]
pub struct Form(BTreeMap<String, Vec<String>>);

/// Why a form was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidForm {
    /// Not `application/x-www-form-urlencoded` in UTF-8.
    #[error("the body is not a form in UTF-8")]
    Malformed,
    /// More parameters than a form may have.
    #[error("the form has more than {PARAMETERS_MAX} parameters")]
    TooMany,
    /// A parameter repeats that may not.
    #[error("a parameter comes more than once")]
    Repeated,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded`.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidForm> {
        let mut parameters = BTreeMap::<String, Vec<String>>::new();
        for (count, pair) in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).enumerate() {
            if count >= PARAMETERS_MAX {
                return Err(InvalidForm::TooMany);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decoded(halves.next().unwrap_or_default())?;
            let value = decoded(halves.next().unwrap_or_default())?;
            let repeatable = REPEATABLE.contains(&name.as_str());
            let values = parameters.entry(name).or_default();
            if !values.is_empty() && !repeatable {
                return Err(InvalidForm::Repeated);
            }
            values.push(value);
        }
        for values in parameters.values_mut() {
            values.retain(|value| !value.is_empty());
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter that may come once.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// Every value of a parameter that may repeat.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

fn decoded(text: &[u8]) -> Result<String, InvalidForm> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = after.split_first_chunk::<2>().ok_or(InvalidForm::Malformed)?;
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                let byte = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                bytes.push(byte.ok_or(InvalidForm::Malformed)?);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| InvalidForm::Malformed)
}

#[cfg(test)]
mod tests {
    use bailiwick_core::form::encode;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let (name, value) = ("a b&c=d", "Zoë 東京 %+\n~");
        let form = Form::parse(encode(&[(name, value), ("x", "y")]).as_bytes()).unwrap();
        assert_eq!((form.one(name), form.one("x")), (Some(value), Some("y")));
    }

    #[test]
    fn forms() {
        let form = Form::parse(b"a=1+2%263&resource=x&resource=y&empty=&&flag").unwrap();
        assert_eq!((form.one("a"), form.one("empty"), form.one("flag"), form.one("b")), (Some("1 2&3"), None, None, None));
        assert_eq!(form.all("resource"), ["x", "y"]);
        for (body, fault) in [
            (&b"a=1&a=1"[..], InvalidForm::Repeated),
            (b"a=&a=", InvalidForm::Repeated),
            (b"a=1&%61=2", InvalidForm::Repeated),
            (b"a=%", InvalidForm::Malformed),
            (b"a=%4", InvalidForm::Malformed),
            (b"a=%zz", InvalidForm::Malformed),
            (b"a=%ff", InvalidForm::Malformed),
        ] {
            assert_eq!(Form::parse(body).err(), Some(fault), "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(Form::parse("a&".repeat(65).as_bytes()).err(), Some(InvalidForm::Repeated));
    }
}
