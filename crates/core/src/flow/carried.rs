//! What a call would carry out of the house, of that which not everybody may see.
//!
//! A value is free where one who may choose said it in a text that may leave: the task, a public address book. Any other may be
//! what the execution was shown, in whatever words the agent put it, and so carries all the labels of the execution that may not
//! leave by the tool. That private data is *not* in a text can be seen by no comparison.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::seen::{self, Marks, Seen};
use super::targets::{Sources, TRACED_MAX, named_in, pointed};
use super::{Origin, Parties};
use crate::bundle::Tool;

/// A value that a call would carry to its tool, after the execution was shown what may not leave by that tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The argument that it is, as a JSON pointer.
    pub argument: String,
    /// The labels that it carries, or may carry, and that may not leave by the tool; none where it is free.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<Arc<str>>,
    /// Where it was seen: of a free one, where it may be taken from; of another, in what is labelled. Nothing where the agent put it
    /// into words of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Carried {
    /// Whether it may leave.
    pub fn may(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Everything that a call of `tool` with these arguments would carry out, by an execution whose labels are `labels`; nothing where
/// all that it was shown may leave by the tool. What the tool's own definition says is no news, and neither is yes or no.
pub fn carried(tool: &Tool, arguments: &Value, labels: &BTreeSet<Arc<str>>, sources: Sources<'_>) -> Vec<Carried> {
    let seen = match sources {
        Sources::Seen(ref seen) => std::slice::from_ref(seen),
        Sources::Chain(seen) => seen,
        Sources::Recorded { carried, .. } => return carried.to_vec(),
    };
    let Some(audience) = &tool.audience else { return Vec::new() };
    let barred: BTreeSet<Arc<str>> = labels.difference(audience).cloned().collect();
    if barred.is_empty() {
        return Vec::new();
    }
    let own = tool.pin.as_ref().map(|pin| pin.words()).unwrap_or_default();
    let seen = seen.iter().map(|seen| (*seen, seen.marks_beside(audience))).collect();
    let mut carrying = Carrying { seen, known: &tool.known, own, barred, carried: Vec::new() };
    carrying.value(&mut String::new(), arguments);
    carrying.carried
}

struct Carrying<'a> {
    /// What each of the chain was shown, with the marks of what may not leave in it.
    seen: Vec<(&'a Seen, Marks)>,
    known: &'a Parties,
    /// The words of the tool's own definition.
    own: BTreeSet<&'a str>,
    barred: BTreeSet<Arc<str>>,
    carried: Vec<Carried>,
}

impl Carrying<'_> {
    fn value(&mut self, pointer: &mut String, value: &Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => self.text(pointer, &number.to_string()),
            Value::String(text) => self.text(pointer, text),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    pointed(pointer, &index.to_string(), |pointer| self.value(pointer, item));
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    pointed(pointer, name, |pointer| {
                        self.text(pointer, name);
                        self.value(pointer, member);
                    });
                }
            }
        }
    }

    /// A text, or a member's name.
    fn text(&mut self, pointer: &str, text: &str) {
        if text.trim().is_empty() || self.own.contains(text) {
            return;
        }
        let value = seen::Value::of(text);
        let free = self
            .find(|seen, marks| seen.find_without(marks, &value))
            .or_else(|| self.known.find(&value))
            .or_else(|| self.known.leads_to(text));
        let argument = pointer.to_owned();
        let carried = match free {
            _ if self.carried.len() >= TRACED_MAX => return self.too_many(),
            Some(origin) => Carried { argument, labels: BTreeSet::new(), origin: Some(origin) },
            None => {
                let shown = self.find(|seen, marks| seen.find_with(marks, &value));
                // Of a longer text, what leads somewhere is the easiest to know again.
                let within = |word: &String| self.find(|seen, marks| seen.find_with(marks, &seen::Value::of_form(word)));
                let shown = shown.or_else(|| named_in(text).iter().find_map(within));
                let (labels, origin) = shown.map_or_else(|| (BTreeSet::new(), None), |(labels, origin)| (labels, Some(origin)));
                let labels: BTreeSet<_> = labels.intersection(&self.barred).cloned().collect();
                Carried { argument, labels: if labels.is_empty() { self.barred.clone() } else { labels }, origin }
            }
        };
        self.carried.push(carried);
    }

    /// What the first of the chain was shown of which something is found.
    fn find<T>(&self, found: impl Fn(&Seen, Marks) -> Option<T>) -> Option<T> {
        self.seen.iter().find_map(|(seen, marks)| found(seen, *marks))
    }

    /// What is not looked at is taken to carry everything.
    fn too_many(&mut self) {
        if let Some(last) = self.carried.last_mut() {
            *last = Carried { argument: last.argument.clone(), labels: self.barred.clone(), origin: None };
        }
    }
}
