//! JSON as it stands in a text: read once, with nothing copied that stands there as it is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::Node;

/// With more members than this the names of an object are sorted to find those that come again.
const PAIRWISE_MAX: usize = 16;

/// Why a text was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is not JSON, or nests deeper than the parser goes.
    NotJson,
    /// It holds a name twice in one object.
    Ambiguous,
}

/// Reads a text that is one value.
pub(super) fn read(text: &str) -> Result<Node<'_>, Unread> {
    let mut is_ambiguous = false;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Any(&mut is_ambiguous).deserialize(&mut deserializer).and_then(|node| deserializer.end().map(|()| node));
    read.map_err(|_| if is_ambiguous { Unread::Ambiguous } else { Unread::NotJson })
}

/// Reads any value; remembers whether it is ambiguous, since serde's errors are only text.
struct Any<'a>(&'a mut bool);

impl Any<'_> {
    fn ambiguous<E: Error>(&mut self) -> E {
        *self.0 = true;
        E::custom("ambiguous")
    }
}

impl<'t> DeserializeSeed<'t> for Any<'_> {
    type Value = Node<'t>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Node<'t>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Any<'_> {
    type Value = Node<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node<'t>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Node<'t>, E> {
        Ok(Node::Truth(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node<'t>, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node<'t>, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Node<'t>, E> {
        Number::from_f64(number).map(Node::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Node<'t>, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'t>, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut items: A) -> Result<Node<'t>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Any(self.0))? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'t>>(mut self, mut given: A) -> Result<Node<'t>, A::Error> {
        let mut members: Vec<(Cow<'t, str>, Node<'t>)> = Vec::with_capacity(8);
        while let Some(name) = given.next_key_seed(Name)? {
            if members.len() < PAIRWISE_MAX && members.iter().any(|(other, _)| *other == name) {
                return Err(self.ambiguous());
            }
            members.push((name, given.next_value_seed(Any(self.0))?));
        }
        if members.len() > PAIRWISE_MAX {
            let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
            names.sort_unstable();
            if names.windows(2).any(|pair| pair.first() == pair.last()) {
                return Err(self.ambiguous());
            }
        }
        Ok(Node::Object(members))
    }
}

/// Reads the name of a member.
struct Name;

impl<'t> DeserializeSeed<'t> for Name {
    type Value = Cow<'t, str>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'t> Visitor<'t> for Name {
    type Value = Cow<'t, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'t str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{self, InvalidJson};

    /// The same by the reader that decides what is one thing only.
    fn strictly(text: &str) -> Result<serde_json::Value, Unread> {
        json::parse(text.as_bytes(), &json::Limits { bytes_max: text.len(), depth_max: 127 }).map_err(|error| match error {
            InvalidJson::RepeatedKey | InvalidJson::TooDeep(_) => Unread::Ambiguous,
            _ => Unread::NotJson,
        })
    }

    #[test]
    fn what_two_readers_would_read_apart_is_not_read() {
        let many = |last: usize| format!("{{{}\"{last}\":0}}", (0..40).map(|n| format!("\"{n}\":0,")).collect::<String>());
        for (text, unread) in [
            (r#"{"a":1,"\u0061":2}"#.to_owned(), Some(Unread::Ambiguous)),
            (r#"[{"b":{"a":1,"a":1}}]"#.to_owned(), Some(Unread::Ambiguous)),
            (many(7), Some(Unread::Ambiguous)),
            (many(40), None),
            ("[".repeat(127) + &"]".repeat(127), None),
            ("[".repeat(128) + &"]".repeat(128), Some(Unread::NotJson)),
            ("{'a':1}".to_owned(), Some(Unread::NotJson)),
            (r#"{"a":1} x"#.to_owned(), Some(Unread::NotJson)),
        ] {
            assert_eq!(read(&text).err(), unread, "{text}");
            assert_eq!(strictly(&text).err(), unread, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_strict_reader_reads(text in r#"([\[\]{},:]|"[a-c]"|"\\u0061"|-?[0-9]{1,3}|1e3|2.50|null|true| |\n){0,24}"#) {
            let read = read(&text).map(|node| node.to_value());
            prop_assert!(read == strictly(&text) || read.is_err() && strictly(&text).is_err(), "{:?}", read);
        }
    }
}
