//! What is said of a call, or of what an agent does in a time, beside what is usual: a score, and why in a sentence each.

use serde::{Deserialize, Serialize};

/// How far what is done is from what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Too little was seen of agents in this role to say: what is said advises, and decides nothing.
    #[default]
    Learning,
    /// As ever.
    Usual,
    /// Such as ten times as many executions do as may raise an alert.
    Unusual,
    /// Such as raises an alert.
    Strange,
}

impl Band {
    /// The word that policies and records use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Usual => "usual",
            Self::Unusual => "unusual",
            Self::Strange => "strange",
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// A tool after the one before it.
    ToolInContext,
    /// A value that an argument never took, shown only by a tool's result.
    NewValue,
    /// The same, of an argument that takes known values.
    NewValueInClosedSlot,
    /// A value that only a tool's result showed, of an argument that is usually chosen otherwise.
    ChosenByResult,
    /// How many calls in five minutes.
    Calls,
    /// How many denials and refusals in five minutes.
    Denials,
    /// How many different tools in five minutes.
    Tools,
    /// How many failures in five minutes.
    Failures,
    /// How many bytes were sent in five minutes.
    BytesOut,
    /// How many bytes were read in five minutes.
    BytesIn,
    /// An agent that did nothing for long.
    Dormancy,
    /// An agent that delegates to another to which its role never did.
    NewEdge,
    /// How many executions one delegated to.
    FanOut,
    /// A tool with an effect that no agent in this role ever used.
    FirstTool,
    /// Arguments of a shape that a tool is never given: other names, or a size that is far from all that were.
    Shape,
    /// How many calls of one tool in five minutes.
    CallsOfTool,
    /// How many calls that destroy something in five minutes.
    Destroyed,
    /// How much was spent in five minutes.
    Spent,
    /// How many bytes were sent to one destination in five minutes.
    BytesTo,
    /// How many bytes were sent within a week to destinations that are new to the role, a few at a time.
    SlowBytes,
    /// An effect at an hour of the week at which a person never had the agent work.
    OffHours,
    /// A network from which the agent never came.
    NewSource,
}

impl Signal {
    /// The word that policies and records use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToolInContext => "tool_in_context",
            Self::NewValue => "new_value",
            Self::NewValueInClosedSlot => "new_value_in_closed_slot",
            Self::ChosenByResult => "chosen_by_result",
            Self::Calls => "calls",
            Self::Denials => "denials",
            Self::Tools => "tools",
            Self::Failures => "failures",
            Self::BytesOut => "bytes_out",
            Self::BytesIn => "bytes_in",
            Self::Dormancy => "dormancy",
            Self::NewEdge => "new_edge",
            Self::FanOut => "fan_out",
            Self::FirstTool => "first_tool",
            Self::Shape => "shape",
            Self::CallsOfTool => "calls_of_tool",
            Self::Destroyed => "destroyed",
            Self::Spent => "spent",
            Self::BytesTo => "bytes_to",
            Self::SlowBytes => "slow_bytes",
            Self::OffHours => "off_hours",
            Self::NewSource => "new_source",
        }
    }
}

/// One thing that is unlike what is usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// What was looked at.
    pub signal: Signal,
    /// How much of a surprise it is, in nats.
    pub surprise: f32,
    /// What is usual, as the sentence says it.
    pub expected: String,
    /// What was seen.
    pub seen: String,
}

impl Reason {
    /// It as one sentence.
    pub fn sentence(&self) -> String {
        format!("{}; {}", self.seen, self.expected)
    }
}

/// What is said of a call beside what is usual for its agent, before it is decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Behavior {
    /// How far it is from what is usual; 0 of a call that only reads.
    pub score: f32,
    /// The score in a word.
    pub band: Band,
    /// Whether a value that only a tool's result showed is in an argument that takes known values, of a call with an effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// How many executions were learned of agents in this role.
    pub executions: u64,
    /// Of how many executions in a thousand that are in order a call scores more, as far as the tail tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_thousand: Option<f32>,
    /// Why, the greatest surprise first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Reason>,
    /// Of the values that the call hands over, the numbers of those that only a tool's result showed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from_results: Vec<u16>,
}

// INVARIANT: no score and no surprise is ever NaN, so each equals itself.
impl Eq for Behavior {}

impl Behavior {
    /// It as one sentence.
    pub fn sentence(&self) -> String {
        let because: Vec<String> = self.because.iter().map(Reason::sentence).collect();
        match (self.band, because.is_empty()) {
            (Band::Learning, _) => format!("only {} executions of this role were learned, too few to say", self.executions),
            (_, true) => format!("nothing is unlike the {} executions of this role", self.executions),
            (_, false) => because.join("; "),
        }
    }
}
