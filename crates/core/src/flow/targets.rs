//! The values of a call that choose who or what is acted on, and who chose each of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::seen::{self, Seen};
use super::words::{each_word, kind_of, leads_somewhere};
use super::{Carried, Origin, Provenance};
use crate::bundle::Tool;

/// The most values of one call that are traced; a call with more is not traced, and so is asked about.
pub(super) const TRACED_MAX: usize = 256;

/// A value that was judged, and who chose it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// The argument that it is or stands in, as a JSON pointer.
    pub argument: String,
    /// Whether it is the argument, or stands in its text.
    pub is_within: bool,
    /// Who chose it.
    pub provenance: Provenance,
    /// Where it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Whether that one may choose it.
    pub may: bool,
    /// Whether neither anybody who may nor the house itself chose it, while the person's own words name another account, address
    /// or number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contradicts: bool,
}

/// What the values of a call are traced by.
#[derive(Clone, Copy, Debug)]
pub enum Sources<'a> {
    /// What the execution has been shown.
    Seen(&'a Seen),
    /// What the execution has been shown, and after it those that it acts for, nearest first.
    Chain(&'a [&'a Seen]),
    /// What was found when the call was judged, as the record of it says: to judge it again.
    Recorded {
        /// Who chose what the call acts on.
        traced: &'a [Traced],
        /// What it would carry out.
        carried: &'a [Carried],
    },
}

/// Traces what `tool` would act on with these arguments.
pub fn trace(tool: &Tool, arguments: &Value, sources: Sources<'_>) -> Vec<Traced> {
    let seen = match sources {
        Sources::Seen(ref seen) => std::slice::from_ref(seen),
        Sources::Chain(seen) => seen,
        Sources::Recorded { traced, .. } => return traced.to_vec(),
    };
    let mut tracing = Tracing { seen, tool, traced: Vec::new() };
    let mut pointer = String::new();
    tracing.value(&mut pointer, arguments, None);
    tracing.traced
}

/// The links, addresses, accounts and telephone numbers in a text, in their comparable form.
pub(super) fn named_in(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    each_word(text, |word| {
        if leads_somewhere(kind_of(word)) && named.len() < TRACED_MAX {
            named.push(word.to_owned());
        }
    });
    named
}

/// A value as its call says it.
#[derive(Clone, Copy, Debug)]
pub enum Said<'v> {
    /// The text of an argument.
    Text(&'v str),
    /// A link or an address within a text, in its comparable form.
    Form(&'v str),
}

/// The hosts of the links and the domains of the e-mail addresses in a text. `each` is told the host or domain, whether it is that of an
/// e-mail address, and the comparable form of the link or address.
pub(crate) fn hosts_in(text: &str, mut each: impl FnMut(&str, bool, &str)) {
    for form in named_in(text) {
        if let Some(address) = form.strip_prefix("email:") {
            each(address.rsplit('@').next().unwrap_or_default(), true, &form);
        } else if let Some(link) = form.strip_prefix("link:") {
            let rest = link.split_once("://").map_or(link, |(_, rest)| rest);
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            let name = host.split_once(':').map_or(host, |(name, _)| name);
            each(name, false, &form);
        }
    }
}

/// Who said a value, whatever it is for: the source that speaks most for it. Nothing where a record has to tell, which names only
/// those values that a call acts on.
pub fn said_by(said: Said<'_>, sources: Sources<'_>) -> Option<Provenance> {
    let seen = match sources {
        Sources::Seen(ref seen) => std::slice::from_ref(seen),
        Sources::Chain(seen) => seen,
        Sources::Recorded { .. } => return None,
    };
    let value = match said {
        Said::Text(text) => seen::Value::of(text),
        Said::Form(form) => seen::Value::of_form(form),
    };
    let said_it = |source: &Provenance| seen.iter().any(|seen| seen.find(*source, &value).is_some());
    Some(Provenance::SEEN.into_iter().find(said_it).unwrap_or(Provenance::Unknown))
}

/// Does what is to be done with the pointer to the step `name` from where `pointer` points (RFC 6901).
pub(super) fn pointed(pointer: &mut String, name: &str, with: impl FnOnce(&mut String)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
    with(pointer);
    pointer.truncate(length);
}

struct Tracing<'a> {
    /// Never empty; the execution's own first.
    seen: &'a [&'a Seen],
    tool: &'a Tool,
    traced: Vec<Traced>,
}

impl Tracing<'_> {
    /// Everything in `value`, which is at `pointer` and within a target that those in `may` may choose, if any.
    fn value(&mut self, pointer: &mut String, value: &Value, may: Option<&[Provenance]>) {
        let targets = &self.tool.targets;
        let own: Option<Vec<Provenance>> = targets.get(pointer.as_str()).cloned();
        let may = own.as_deref().or(may);
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    // Each of several is judged, and the argument is what was declared.
                    pointed(pointer, &index.to_string(), |pointer| self.value(pointer, item, may));
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    pointed(pointer, name, |pointer| self.value(pointer, member, may));
                }
            }
            Value::Number(number) => {
                if let Some(may) = may {
                    self.target(pointer, &number.to_string(), may);
                }
            }
            Value::String(text) => match may {
                Some(may) => self.target(pointer, text, may),
                None => self.named_in(pointer, text),
            },
        }
    }

    fn target(&mut self, pointer: &str, text: &str, may: &[Provenance]) {
        // What says nothing chooses nothing; `/` and `*` say much, although there is no word in them.
        let has_room = self.traced.len() < TRACED_MAX;
        if let Some(origin) = self.tool.known.leads_to(text).filter(|_| has_room && may.contains(&Provenance::Known)) {
            let (argument, origin) = (pointer.to_owned(), Some(origin));
            self.traced.push(Traced { argument, is_within: false, provenance: Provenance::Known, origin, may: true, contradicts: false });
        } else if !text.trim().is_empty() {
            self.judge(pointer, false, &seen::Value::of(text), may);
        }
    }

    /// Links, addresses, accounts and telephone numbers in a text lead somewhere, whatever the text is for.
    fn named_in(&mut self, pointer: &str, text: &str) {
        for word in named_in(text) {
            self.judge(pointer, true, &seen::Value::of_form(&word), &Provenance::MAY_CHOOSE);
        }
    }

    fn judge(&mut self, pointer: &str, is_within: bool, value: &seen::Value, may: &[Provenance]) {
        if self.traced.len() >= TRACED_MAX {
            if let Some(last) = self.traced.last_mut() {
                *last = Traced { provenance: Provenance::Unknown, origin: None, may: false, contradicts: false, ..last.clone() };
            }
            return;
        }
        let parties = |source: Provenance| (source == Provenance::Known).then(|| self.tool.known.find(value)).flatten();
        let found = |source: Provenance| {
            self.seen.iter().find_map(|seen| seen.find(source, value)).or_else(|| parties(source)).map(|origin| (source, origin))
        };
        let allowed = Provenance::SEEN.into_iter().filter(|source| may.contains(source)).find_map(found);
        let (may, found) = (allowed.is_some(), allowed.or_else(|| Provenance::SEEN.into_iter().find_map(found)));
        let (provenance, origin) = found.map_or((Provenance::Unknown, None), |(source, origin)| (source, Some(origin)));
        // What the house itself knows is at least worth a question.
        let is_nobodys = matches!(provenance, Provenance::Named | Provenance::Untrusted | Provenance::Unknown);
        let contradicts = !may && !is_within && is_nobodys && self.seen.first().is_some_and(|seen| seen.task_names_another(value));
        self.traced.push(Traced { argument: pointer.to_owned(), is_within, provenance, origin, may, contradicts });
    }
}
