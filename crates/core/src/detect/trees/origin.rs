//! From where agents call (ID-08): a network that an agent never came from, where it has come from few.

use std::collections::HashMap;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::{Code, Who};
use crate::detect::baseline::places::Places;
use crate::detect::finding::{Finding, Response};
use crate::model::{AgentName, Intent};

/// How many agents are watched.
const AGENTS_MAX: usize = 20_000;

pub(super) const NEW_SOURCE: Code = Code {
    id: "new-source",
    catalogue: "ID-08",
    title: "An agent calls from another network than ever",
    expected: "An agent that calls from few networks calls from those.",
    tags: &["attack.initial-access", "attack.t1078.004", "atlas.aml.t0012", "owasp.asi03"],
    guardduty: Some("InitialAccess:IAMUser/AnomalousBehavior"),
    falsepositives: &["An agent that was moved", "A proxy that is new and not declared"],
    response: Response::Notify,
    impact: 5,
    confidence: 0.4,
};

/// The networks of each agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Origins(HashMap<AgentName, Places>);

impl Origins {
    pub(super) fn judged(&mut self, position: Position, intent: &Intent) -> Option<Finding> {
        let network = intent.network?;
        if self.0.len() >= AGENTS_MAX && !self.0.contains_key(&intent.agent) {
            return None;
        }
        let Intent { agent, execution, subject, tool, at, .. } = intent;
        let places = self.0.entry(agent.clone()).or_default();
        let is_new = places.comes_from(&network.to_string(), &execution.to_string(), at.as_second());
        let who = Who { agent, execution: *execution, subject: subject.as_deref(), tool: Some(tool) };
        is_new.then(|| NEW_SOURCE.finding(position, *at, who, format!("{agent} called from {network}, from where it hardly ever did.")))
    }
}
