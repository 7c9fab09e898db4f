//! What an execution may do at most: `authorization_details` (RFC 9396) of type `tool_call`.
//!
//! A grant only ever takes away from what the agent may do, and a grant made from another only ever takes away from that.
//! What is not understood is refused, never ignored: an ignored narrowing would widen. The format is in
//! `docs/spec/grants.md`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::bundle::{Server, ToolPattern};
use crate::model::{Effect, ServerName, ToolName, climbs};

#[cfg(test)]
mod tests;

/// The most items that one grant may have; each call may have to be held against all.
const ITEMS_MAX: usize = 64;

/// What an execution may do at most. No items mean all that the agent may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grant(Vec<Item>);

/// `authorization_details` that are not what this server takes; the answer is `invalid_authorization_details`
/// (RFC 9396 §5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidGrant(String);

/// One member of `authorization_details`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(rename = "type")]
    kind: Kind,
    /// The audiences at which it may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    locations: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Action>,
    /// The tool or tools.
    identifier: ToolPattern,
    /// The effects that a tool may have; absent, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effects: Option<Vec<Effect>>,
    #[serde(default, skip_serializing_if = "Constraints::is_empty")]
    constraints: Constraints,
    /// How many calls it admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_uses: Option<u64>,
    /// Whose uses it counts, where a narrower grant took the place of another: that one's item. Only we write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    item: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ToolCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Call,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Constraints {
    /// By JSON pointer, or by the name of a top-level argument.
    #[serde(default)]
    arguments: BTreeMap<String, Constraint>,
}

/// What one argument must be. It must be there, and every word must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Constraint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<Value>>,
    /// The text begins so, and has no `..` segment by which it could leave what it begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
}

/// What a grant says to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The grant does not restrict the agent.
    Unrestricted,
    /// This item admits it: the number by which its uses are counted.
    Item(usize),
    /// Items would admit it, but their uses are spent.
    Spent,
    /// No item admits it.
    None,
}

impl Grant {
    /// Reads what a client asks for. Fails on anything that is not understood, and on an empty list, which could be
    /// taken for nothing as well as for everything.
    pub fn parse(details: Value) -> Result<Self, InvalidGrant> {
        let grant: Self =
            serde_json::from_value(details).map_err(|error| InvalidGrant(format!("`authorization_details` is not understood: {error}")))?;
        if grant.0.is_empty() || grant.0.len() > ITEMS_MAX {
            return Err(InvalidGrant(format!(
                "`authorization_details` must name 1 to {ITEMS_MAX} items; leave it out to ask for no restriction"
            )));
        }
        grant.0.iter().try_for_each(Item::check)?;
        Ok(grant)
    }

    /// Whether it leaves the agent all that it may do.
    pub const fn is_unrestricted(&self) -> bool {
        self.0.is_empty()
    }

    /// Which item admits the call, if any; `uses` says how often each item has admitted one.
    pub fn admits(&self, tool: &ToolName, effect: Effect, arguments: &Value, uses: impl Fn(usize) -> u64) -> Admission {
        if self.0.is_empty() {
            return Admission::Unrestricted;
        }
        let mut spent = false;
        for (index, item) in self.0.iter().enumerate().filter(|(_, item)| item.admits(tool, effect, arguments)) {
            let counted = item.item.unwrap_or(index);
            if item.max_uses.is_none_or(|max| uses(counted) < max) {
                return Admission::Item(counted);
            }
            spent = true;
        }
        if spent { Admission::Spent } else { Admission::None }
    }

    /// Whether some call of `tool` might be admitted, whatever its arguments and the uses so far: what a list shows.
    pub fn may_ever(&self, tool: &ToolName, effect: Effect) -> bool {
        let names = |item: &Item| item.identifier.matches(tool) && item.effects.as_ref().is_none_or(|effects| effects.contains(&effect));
        self.0.is_empty() || self.0.iter().any(names)
    }

    /// Whether it names only what an agent that may call `call` may call. Fails for one that would widen; what is
    /// inside a server is known from `servers`.
    pub fn is_within(&self, call: &[ToolPattern], servers: &BTreeMap<ServerName, Server>) -> Result<(), InvalidGrant> {
        let widens = |item: &&Item| !is_covered(&item.identifier, call, servers);
        match self.0.iter().find(widens) {
            Some(item) => Err(InvalidGrant(format!("`{}` widens what the agent may do", item.identifier))),
            None => Ok(()),
        }
    }

    /// Whether every location that it names is one of the token's audiences, and serves the tool that it is named for:
    /// an audience that ends in `/mcp/NAME` serves the server of that name alone.
    pub fn is_for(&self, audiences: &[&str]) -> Result<(), InvalidGrant> {
        for item in &self.0 {
            for location in &item.locations {
                if !audiences.contains(&location.as_str()) {
                    return Err(InvalidGrant(format!("location `{location}` is not a resource that the token is for")));
                }
                let serves = location.rsplit_once("/mcp/").is_none_or(|(_, server)| server == item.identifier.server().as_str());
                if !serves {
                    return Err(InvalidGrant(format!("`{}` is not to be had at `{location}`", item.identifier)));
                }
            }
        }
        Ok(())
    }

    /// What both this grant and `other` admit, with this one's uses counted on. Fails when nothing is left, since a grant
    /// without items would mean everything.
    pub fn narrow(&self, other: &Self) -> Result<Self, InvalidGrant> {
        if self.is_unrestricted() {
            return Ok(other.clone());
        }
        if other.is_unrestricted() {
            return Ok(self.clone());
        }
        let pairs = self.0.iter().enumerate().flat_map(|(index, own)| other.0.iter().map(move |theirs| own.meet(index, theirs)));
        let items: Vec<Item> = pairs.flatten().collect();
        match items.len() {
            0 => Err(InvalidGrant("nothing is left of the grant that is being narrowed".to_owned())),
            1..=ITEMS_MAX => Ok(Self(items)),
            _ => Err(InvalidGrant(format!("more than {ITEMS_MAX} items are left of the grant that is being narrowed"))),
        }
    }
}

impl Item {
    /// What the types do not hold.
    fn check(&self) -> Result<(), InvalidGrant> {
        let invalid = |text: String| Err(InvalidGrant(text));
        if self.item.is_some() {
            return invalid("`item` is not for clients to set".to_owned());
        }
        if self.max_uses == Some(0) || self.effects.as_ref().is_some_and(Vec::is_empty) {
            return invalid(format!("the item for `{}` admits nothing", self.identifier));
        }
        let mut pointers = Vec::new();
        for (name, constraint) in &self.constraints.arguments {
            let pointer = pointer(name);
            if pointers.contains(&pointer) {
                return invalid(format!("argument `{name}` is constrained twice"));
            }
            pointers.push(pointer);
            if *constraint == Constraint::default() {
                return invalid(format!("the constraint on argument `{name}` says nothing"));
            }
        }
        Ok(())
    }

    fn admits(&self, tool: &ToolName, effect: Effect, arguments: &Value) -> bool {
        self.identifier.matches(tool)
            && self.effects.as_ref().is_none_or(|effects| effects.contains(&effect))
            && self
                .constraints
                .arguments
                .iter()
                .all(|(name, constraint)| arguments.pointer(&pointer(name)).is_some_and(|value| constraint.holds(value)))
    }

    /// What both admit; nothing when they have nothing in common.
    fn meet(&self, index: usize, other: &Self) -> Option<Self> {
        let effects = match (&self.effects, &other.effects) {
            (Some(own), Some(theirs)) => Some(own.iter().copied().filter(|effect| theirs.contains(effect)).collect::<Vec<_>>()),
            (own, theirs) => own.clone().or_else(|| theirs.clone()),
        };
        if effects.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let locations = match (self.locations.is_empty(), other.locations.is_empty()) {
            (true, _) => other.locations.clone(),
            (_, true) => self.locations.clone(),
            _ => {
                let both: Vec<_> = self.locations.iter().filter(|location| other.locations.contains(location)).cloned().collect();
                (!both.is_empty()).then_some(both)?
            }
        };
        let mut constraints = self.constraints.clone();
        for (name, theirs) in &other.constraints.arguments {
            let same = constraints.arguments.iter_mut().find(|(own, _)| pointer(own) == pointer(name));
            match same {
                Some((_, own)) => *own = own.meet(theirs)?,
                None => {
                    constraints.arguments.insert(name.clone(), theirs.clone());
                }
            }
        }
        Some(Self {
            kind: self.kind,
            locations,
            actions: if self.actions.is_empty() { other.actions.clone() } else { self.actions.clone() },
            identifier: common(&self.identifier, &other.identifier)?,
            effects,
            constraints,
            max_uses: self.max_uses.into_iter().chain(other.max_uses).min(),
            item: Some(self.item.unwrap_or(index)),
        })
    }
}

impl Constraints {
    fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }
}

impl Constraint {
    fn holds(&self, value: &Value) -> bool {
        let is = |number: &Option<Number>, wanted: Ordering| {
            number.as_ref().is_none_or(|bound| {
                let Value::Number(number) = value else { return false };
                compare(number, bound).is_some_and(|order| order == wanted || order == Ordering::Equal)
            })
        };
        let begins = |prefix: &String| value.as_str().is_some_and(|text| text.starts_with(prefix.as_str()) && !climbs(text));
        is(&self.max, Ordering::Less)
            && is(&self.min, Ordering::Greater)
            && self.equals.as_ref().is_none_or(|wanted| same(value, wanted))
            && self.one_of.as_ref().is_none_or(|wanted| wanted.iter().any(|wanted| same(value, wanted)))
            && self.prefix.as_ref().is_none_or(begins)
    }

    /// What satisfies both; nothing when that is plainly impossible.
    fn meet(&self, other: &Self) -> Option<Self> {
        let tighter = |own: &Option<Number>, theirs: &Option<Number>, wanted: Ordering| match (own, theirs) {
            (Some(own), Some(theirs)) if compare(theirs, own) == Some(wanted) => Some(theirs.clone()),
            (own, theirs) => own.clone().or_else(|| theirs.clone()),
        };
        let equals = match (&self.equals, &other.equals) {
            (Some(own), Some(theirs)) if !same(own, theirs) => return None,
            (own, theirs) => own.clone().or_else(|| theirs.clone()),
        };
        let one_of = match (&self.one_of, &other.one_of) {
            (Some(own), Some(theirs)) => {
                let both: Vec<_> = own.iter().filter(|value| theirs.iter().any(|other| same(value, other))).cloned().collect();
                Some((!both.is_empty()).then_some(both)?)
            }
            (own, theirs) => own.clone().or_else(|| theirs.clone()),
        };
        let prefix = match (&self.prefix, &other.prefix) {
            (Some(own), Some(theirs)) if theirs.starts_with(own.as_str()) => Some(theirs.clone()),
            (Some(own), Some(theirs)) if !own.starts_with(theirs.as_str()) => return None,
            (own, theirs) => own.clone().or_else(|| theirs.clone()),
        };
        let (max, min) = (tighter(&self.max, &other.max, Ordering::Less), tighter(&self.min, &other.min, Ordering::Greater));
        Some(Self { max, min, equals, one_of, prefix })
    }
}

/// Whether all that `wanted` names is among what `call` names.
fn is_covered(wanted: &ToolPattern, call: &[ToolPattern], servers: &BTreeMap<ServerName, Server>) -> bool {
    let within = |pattern: &ToolPattern| common(wanted, pattern).is_some_and(|common| common == *wanted);
    if call.iter().any(within) {
        return true;
    }
    // All the tools of a server may also be named one by one.
    let ToolPattern::Server(name) = wanted else { return false };
    let Some(server) = servers.get(name) else { return false };
    !server.tools.is_empty()
        && server.tools.keys().all(|own| {
            let pattern = format!("{name}/{own}").parse::<ToolPattern>();
            pattern.is_ok_and(|pattern| call.iter().any(|call| common(&pattern, call).is_some_and(|common| common == pattern)))
        })
}

/// The tools that both patterns name, as a pattern.
fn common(a: &ToolPattern, b: &ToolPattern) -> Option<ToolPattern> {
    match (a, b) {
        (ToolPattern::One(tool), other) | (other, ToolPattern::One(tool)) => other.matches(tool).then(|| ToolPattern::One(tool.clone())),
        _ if a.server() != b.server() => None,
        (ToolPattern::Server(_), other) | (other, ToolPattern::Server(_)) => Some(other.clone()),
        (ToolPattern::Prefix(_, own), ToolPattern::Prefix(_, theirs)) if own.starts_with(theirs.as_str()) => Some(a.clone()),
        (ToolPattern::Prefix(_, own), ToolPattern::Prefix(_, theirs)) => theirs.starts_with(own.as_str()).then(|| b.clone()),
    }
}

/// A JSON pointer (RFC 6901) as it is, or the one to the top-level argument of this name.
fn pointer(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{}", name.replace('~', "~0").replace('/', "~1")) }
}

/// Equality of JSON values in which `5` is `5.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b))),
        (a, b) => a == b,
    }
}

/// The order of two numbers, exact also where one is a float and the other too large for one.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        // One has a fraction, so it is below 2^53, and rounding the other cannot move it past.
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn integer(number: &Number) -> Option<i128> {
    let whole = |float: f64| (float.fract() == 0.0 && float.abs() < 1e38).then_some(float as i128);
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(|| whole(number.as_f64()?))
}
