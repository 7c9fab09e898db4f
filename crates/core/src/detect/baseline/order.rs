//! Tools in context: which tool an execution uses after which.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The most tools that are told apart, and the most pairs of them that are counted; what comes later is one tool, and no pair.
const TOOLS_MAX: usize = 1024;
const PAIRS_MAX: usize = 16_384;

/// Among how many tools that were never used a surprise is shared.
const TOOLS_THOUGHT_OF: f32 = 500.0;

/// The largest surprise, in nats.
const SURPRISE_MAX: f32 = 8.0;

/// A tool, or the beginning of an execution, by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolId(u16);

impl ToolId {
    /// Before the first call of an execution.
    pub const BEGINNING: Self = Self(0);

    /// A tool that has no number of its own.
    pub const OTHER: Self = Self(1);

    /// The number itself.
    pub(super) fn number(self) -> u64 {
        self.0.into()
    }
}

/// How often each tool was used, and after which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    ids: BTreeMap<Arc<str>, ToolId>,
    /// How often each tool was used, by number.
    used: Vec<u32>,
    all: u32,
    tools: u32,
    #[serde(with = "pairs")]
    pairs: BTreeMap<(ToolId, ToolId), u32>,
    /// For each tool, by number: how many calls followed it, and of how many tools.
    after: Vec<(u32, u32)>,
}

impl Order {
    /// The number of a tool; [`ToolId::OTHER`] for one that was never learned.
    pub fn id(&self, tool: &str) -> ToolId {
        self.ids.get(tool).copied().unwrap_or(ToolId::OTHER)
    }

    /// How often the tool was used.
    pub fn used(&self, tool: ToolId) -> u32 {
        self.used.get(usize::from(tool.0)).copied().unwrap_or(0)
    }

    /// How many calls were learned.
    pub const fn calls(&self) -> u32 {
        self.all
    }

    /// How often the tool followed `before`, and how many calls did.
    pub fn followed(&self, before: ToolId, tool: ToolId) -> (u32, u32) {
        let pair = self.pairs.get(&(before, tool)).copied().unwrap_or(0);
        (pair, self.after.get(usize::from(before.0)).map_or(0, |(calls, _)| *calls))
    }

    /// The chance that `tool` comes after `before`, by Witten and Bell: what was seen in this context, and for the rest how often the
    /// tool is used at all.
    pub fn chance(&self, before: ToolId, tool: ToolId) -> f32 {
        let tools = self.tools as f32;
        let alone = if self.all == 0 {
            1.0 / TOOLS_THOUGHT_OF
        } else {
            (self.used(tool) as f32 + tools / TOOLS_THOUGHT_OF) / (self.all as f32 + tools)
        };
        let (pair, _) = self.followed(before, tool);
        let (calls, kinds) = self.after.get(usize::from(before.0)).map_or((0.0, 0.0), |(calls, kinds)| (*calls as f32, *kinds as f32));
        if calls + kinds == 0.0 { alone } else { (pair as f32 + kinds * alone) / (calls + kinds) }
    }

    /// The surprise of a chance, in nats, up to a bound.
    pub fn surprise(chance: f32) -> f32 {
        (-chance.max(f32::MIN_POSITIVE).ln()).clamp(0.0, SURPRISE_MAX)
    }

    /// Learns that `tool` came after `before`, and says its number.
    pub(super) fn learn(&mut self, before: ToolId, tool: &Arc<str>) -> ToolId {
        let id = match self.ids.get(tool) {
            Some(id) => *id,
            None => {
                let number = u16::try_from(self.ids.len().saturating_add(2)).unwrap_or(u16::MAX);
                if self.ids.len() < TOOLS_MAX {
                    self.ids.insert(Arc::clone(tool), ToolId(number));
                    ToolId(number)
                } else {
                    ToolId::OTHER
                }
            }
        };
        let used = entry(&mut self.used, id);
        self.tools = self.tools.saturating_add(u32::from(*used == 0));
        *used = used.saturating_add(1);
        self.all = self.all.saturating_add(1);
        let is_full = self.pairs.len() >= PAIRS_MAX;
        let is_new = match self.pairs.get_mut(&(before, id)) {
            Some(pair) => {
                *pair = pair.saturating_add(1);
                false
            }
            None if is_full => false,
            None => self.pairs.insert((before, id), 1).is_none(),
        };
        let (calls, kinds) = entry(&mut self.after, before);
        *calls = calls.saturating_add(1);
        *kinds = kinds.saturating_add(u32::from(is_new));
        id
    }
}

/// The entry of a tool in a list by numbers, which grows as far as it has to.
pub(super) fn entry<T: Default + Clone>(list: &mut Vec<T>, id: ToolId) -> &mut T {
    let place = usize::from(id.0);
    if list.len() <= place {
        list.resize(place.saturating_add(1), T::default());
    }
    // INVARIANT: the list was just made long enough.
    #[expect(clippy::indexing_slicing, reason = "the list was just made long enough")]
    &mut list[place]
}

/// Pairs are kept as a list: a pair is no name of a member.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ToolId;

    pub(super) fn serialize<S: Serializer>(pairs: &BTreeMap<(ToolId, ToolId), u32>, serializer: S) -> Result<S::Ok, S::Error> {
        pairs.iter().map(|((before, tool), count)| (*before, *tool, *count)).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<(ToolId, ToolId), u32>, D::Error> {
        let list = Vec::<(ToolId, ToolId, u32)>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|(before, tool, count)| ((before, tool), count)).collect())
    }
}
