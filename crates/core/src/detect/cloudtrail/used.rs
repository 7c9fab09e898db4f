//! From where, and with what kind of program, a session that an execution of ours has is used.
//!
//! Whoever has the keys of a session without the agent's machine uses them from another network, or by hand. That counts for sessions
//! of executions alone: of others it is not known who should have them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use super::{Client, Happened, Session};
use crate::detect::finding::{Detector, Evidence, Finding, Kind, Response};
use crate::model::{Network, shown};

/// How many sessions are known, of which the oldest go, and how many networks of each.
const SESSIONS_MAX: usize = 16_384;
const NETWORKS_MAX: usize = 16;

/// How each session was used, by its access key.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    of: HashMap<String, Use>,
    order: VecDeque<String>,
}

#[derive(Clone, Debug, Default)]
struct Use {
    networks: HashSet<Network>,
    clients: HashSet<Client>,
}

impl Uses {
    /// Takes in a call with an access key; what is news about it, in words, where it was used before in another way. What a service of AWS
    /// does for the session is not.
    pub(super) fn used(&mut self, key: &str, address: &str, agent: &str) -> Option<String> {
        let network = Network::of(address.parse::<IpAddr>().ok()?);
        let client = Client::of(agent);
        if client == Client::Service {
            return None;
        }
        if !self.of.contains_key(key) {
            if self.order.len() >= SESSIONS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.of.remove(&oldest);
            }
            self.order.push_back(key.to_owned());
        }
        let known = self.of.entry(key.to_owned()).or_default();
        let is_first = known.networks.is_empty();
        if known.networks.len() >= NETWORKS_MAX {
            known.networks.clear();
        }
        let (new_network, new_client) = (known.networks.insert(network), known.clients.insert(client));
        match (is_first, new_network, new_client) {
            (true, ..) | (_, false, false) => None,
            (_, true, false) => Some(format!("from {}, another network than before", shown(address, 64))),
            (_, false, true) => Some(format!("with another kind of program than before: {}", client.as_str())),
            (_, true, true) => Some(format!(
                "from {}, another network than before, and with another kind of program: {}",
                shown(address, 64),
                client.as_str()
            )),
        }
    }
}

/// The finding that this is.
pub(super) fn used_elsewhere(session: &Session, happened: Happened, how: String) -> Finding {
    let detector = Detector {
        id: "aws-session-used-elsewhere".to_owned(),
        catalogue: Some("ID-10".to_owned()),
        title: "A session of an agent is used from elsewhere".to_owned(),
        kind: Kind::Correlation,
        tags: ["attack.credential-access", "attack.t1552.005", "attack.t1550.001", "atlas.aml.t0055", "owasp.asi03"]
            .map(str::to_owned)
            .to_vec(),
        guardduty: Some("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS".to_owned()),
        falsepositives: vec!["An agent with several ways out, or that runs programs of several kinds".to_owned()],
        response: Response::Revoke,
    };
    let Happened { at, proof, about } = happened;
    let role = shown(session.role.as_deref().unwrap_or_default(), 256);
    let seen = format!("A session of {role} was used {how}.");
    let evidence = Evidence { proof, at, says: seen.clone() };
    let expected = "A session is used where it was begun, by the program that began it.".to_owned();
    Finding::new(detector, about, evidence, expected, seen).weighing(8, 0.5)
}
