//! A mandate: the tools with an effect that a task needs, and the values beside its own words that it may hand to them.
//!
//! Behaviour ranks; a mandate decides. It is declared, or taken from runs of the same task that were in order; it is not learned from
//! the run that is judged by it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::facet::{Chosen, Facet, Kind};
use super::role::Observed;

/// An argument of a tool, what of it is counted, and its value.
type Admitted = (Box<str>, Kind, u64);

/// What a task may do beside reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mandate {
    tools: BTreeMap<Arc<str>, HashSet<Admitted>>,
}

/// How a call is outside of a mandate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The task needs no such tool.
    Tool(Arc<str>),
    /// The task does not say the value of this argument, and neither did runs that were in order.
    Value {
        /// The tool.
        tool: Arc<str>,
        /// The argument, and what of it.
        argument: String,
    },
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(tool) => write!(f, "the task needs no `{tool}`"),
            Self::Value { tool, argument } => {
                write!(f, "`{argument}` of `{tool}` was chosen by a tool's result, and the task's mandate does not hold it")
            }
        }
    }
}

impl Mandate {
    /// Adds what a call of a run that was in order did.
    pub fn admit(&mut self, call: Observed<'_>) {
        if call.acts {
            let values = self.tools.entry(Arc::from(call.tool)).or_default();
            let chosen = call.facets.iter().filter(|facet| matches!(facet.chosen, Chosen::Result | Chosen::Own));
            values.extend(chosen.map(|facet| admitted(&facet)));
        }
    }

    /// Whether a call is outside of it, and how; a call that only reads never is.
    pub fn outside(&self, call: Observed<'_>) -> Option<Outside> {
        if !call.acts {
            return None;
        }
        let Some(values) = self.tools.get(call.tool) else { return Some(Outside::Tool(Arc::from(call.tool))) };
        let strange = call.facets.iter().filter(|facet| facet.chosen == Chosen::Result);
        let mut strange = strange.filter(|facet| !values.contains(&admitted(facet)));
        strange.next().map(|facet| Outside::Value { tool: Arc::from(call.tool), argument: facet.to_string() })
    }
    /// Whether it holds this value for this tool, beside what the task's own words say.
    pub fn admits(&self, tool: &str, facet: &Facet<'_>) -> bool {
        self.tools.get(tool).is_some_and(|values| values.contains(&admitted(facet)))
    }
}

fn admitted(facet: &Facet<'_>) -> Admitted {
    (Box::from(facet.argument), facet.kind, facet.value)
}
