//! What one agent does in a window of time, and what is learned of it when that is over.

use serde::{Deserialize, Serialize};

use super::order::ToolId;
use super::rate::WINDOW_S;
use super::role::{Overlay, Role};

/// The most tools and destinations that are told apart in one window.
const TOOLS_MAX: usize = 64;
const DESTINATIONS_MAX: usize = 16;

/// Words in the names of tools that destroy something.
const DESTROYING: [&str; 9] = ["delete", "remove", "destroy", "drop", "purge", "truncate", "wipe", "erase", "cancel"];

/// What one agent does in a window of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) number: i64,
    pub(super) calls: u32,
    pub(super) denials: u32,
    pub(super) failures: u32,
    /// A bit for each tool, of 64.
    tools: u64,
    /// How often each tool was called that its role knows.
    of_tools: Vec<(ToolId, u32)>,
    pub(super) destroyed: u32,
    pub(super) spent: u64,
    pub(super) out: u64,
    pub(super) read: u64,
    /// How many bytes went to each destination, and to all young ones.
    to: Vec<(u64, u64)>,
    pub(super) young: u64,
    /// Whether anything happened for which it is not learned.
    pub(super) is_barred: bool,
}

impl Window {
    /// The window of this number.
    pub(super) fn of(number: i64) -> Self {
        Self { number, ..Self::default() }
    }

    /// When it began, in seconds since 1970.
    pub(super) const fn began_s(&self) -> i64 {
        self.number.saturating_mul(WINDOW_S)
    }

    /// Counts a call of a tool, and says how many of it there were; nothing of a tool that its role does not know.
    pub(super) fn called(&mut self, id: ToolId, tool: &str) -> Option<u32> {
        self.calls = self.calls.saturating_add(1);
        self.tools |= 1 << (if id == ToolId::OTHER { hash(tool) } else { id.number() } % 64);
        if id == ToolId::OTHER {
            return None;
        }
        if let Some((_, count)) = self.of_tools.iter_mut().find(|(of, _)| *of == id) {
            *count = count.saturating_add(1);
            return Some(*count);
        }
        if self.of_tools.len() < TOOLS_MAX {
            self.of_tools.push((id, 1));
        }
        Some(1)
    }

    /// How many different tools were called, of 64.
    pub(super) const fn tools(&self) -> u32 {
        self.tools.count_ones()
    }

    /// Counts bytes that went to a destination, and says how many there were.
    pub(super) fn sent(&mut self, destination: u64, bytes: u64) -> u64 {
        if let Some((_, all)) = self.to.iter_mut().find(|(to, _)| *to == destination) {
            *all = all.saturating_add(bytes);
            return *all;
        }
        if self.to.len() < DESTINATIONS_MAX {
            self.to.push((destination, bytes));
        }
        bytes
    }

    /// How many KiB went to young destinations.
    pub(super) fn young_kib(&self) -> f32 {
        self.young as f32 / 1024.0
    }

    /// How many bytes it takes beside itself.
    pub(super) const fn bytes(&self) -> usize {
        let of_tools = self.of_tools.capacity().saturating_mul(size_of::<(ToolId, u32)>());
        of_tools.saturating_add(self.to.capacity().saturating_mul(size_of::<(u64, u64)>()))
    }

    /// Teaches the agent and its role what it was, now that it is over and nothing in it was out of order.
    pub(super) fn teach(&self, overlay: &mut Overlay, role: &mut Role) {
        let ended_s = self.began_s();
        for rates in [&mut overlay.rates, &mut role.rates] {
            rates.calls.learn(self.calls as f32, ended_s);
            rates.tools.learn(self.tools() as f32, ended_s);
            rates.failures.learn(self.failures as f32, ended_s);
            rates.read.learn(self.read, ended_s);
            rates.destroyed.learn(self.destroyed as f32, ended_s);
            rates.trickle.learn(self.young_kib(), ended_s);
            if self.out > 0 {
                rates.out.learn(self.out, ended_s);
            }
            if self.spent > 0 {
                rates.spent.learn(self.spent, ended_s);
            }
        }
        self.of_tools.iter().for_each(|(tool, count)| role.learn_calls(*tool, *count, ended_s));
        self.to.iter().for_each(|(destination, bytes)| role.destinations.learn(*destination, *bytes, ended_s));
        overlay.hours.learn(ended_s);
        overlay.since_s.get_or_insert(ended_s);
    }
}

/// Whether a tool destroys something, as far as its name tells.
pub(super) fn destroys(tool: &str) -> bool {
    let starts = |at: usize, word: &str| {
        tool.as_bytes().get(at..at.saturating_add(word.len())).is_some_and(|here| here.eq_ignore_ascii_case(word.as_bytes()))
    };
    (0..tool.len()).any(|at| DESTROYING.iter().any(|word| starts(at, word)))
}

/// A number for a name that has none (Fowler, Noll and Vo's hash); nothing hangs on it but one bit of a count.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
