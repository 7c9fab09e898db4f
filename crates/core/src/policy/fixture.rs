//! Small bundles for tests, built without files.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Declared, Policies, PolicyProblem, Source};
use crate::bundle::{
    Agent, BrokerAuth, CredentialRules, Limits, Listen, Otherwise, Pin, Returns, Server, Settings, Snapshot, Tool, Transport,
};
use crate::ledger::History;
use crate::model::{Digest, Effect};

/// A bundle in the making.
#[derive(Default)]
pub(crate) struct Fixture {
    pub(crate) agents: BTreeMap<crate::model::AgentName, Agent>,
    pub(crate) servers: BTreeMap<crate::model::ServerName, Server>,
    pub(crate) histories: Vec<History>,
    policies: String,
}

impl Fixture {
    pub(crate) fn agent(mut self, name: &str, roles: &[&str], call: &[&str]) -> Self {
        let agent = Agent {
            name: name.parse().unwrap(),
            owner: "owner@acme.example".to_owned(),
            purpose: "Test".to_owned(),
            roles: roles.iter().map(ToString::to_string).collect(),
            federation: Vec::new(),
            subjects: Vec::new(),
            clients: Vec::new(),
            local: Vec::new(),
            keys: Vec::new(),
            credential: CredentialRules::default(),
            outbound: Vec::new(),
            x509_svid: false,
            call: call.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            delegate_to: Vec::new(),
            decide_for: crate::bundle::DecideFor::Nobody,
            calls_max: None,
        };
        self.agents.insert(agent.name.clone(), agent);
        self
    }

    pub(crate) fn delegates(mut self, from: &str, to: &[&str]) -> Self {
        self.agents.get_mut(&from.parse().unwrap()).unwrap().delegate_to = to.iter().map(|to| to.parse().unwrap()).collect();
        self
    }

    pub(crate) fn budget(mut self, agent: &str, calls_max: u64) -> Self {
        self.agents.get_mut(&agent.parse().unwrap()).unwrap().calls_max = Some(calls_max);
        self
    }

    /// Declares `server/tool` with this input schema.
    pub(crate) fn tool(self, name: &str, effect: Effect, input: Value) -> Self {
        let definition = json!({ "name": name, "inputSchema": input });
        let pin = Pin { digest: Digest::of(definition.to_string().as_bytes()), definition };
        self.declare(name, effect, Some(Arc::new(pin)))
    }

    /// Declares a resource, a prompt, or a tool that nobody has reviewed.
    pub(crate) fn unpinned(self, name: &str, effect: Effect) -> Self {
        self.declare(name, effect, None)
    }

    fn declare(mut self, name: &str, effect: Effect, pin: Option<Arc<Pin>>) -> Self {
        let (server, own) = name.split_once('/').unwrap();
        let tool = Tool {
            effect,
            returns: Returns::undeclared(),
            place: Vec::new(),
            targets: BTreeMap::new(),
            otherwise: Otherwise::Deny,
            audience: None,
            known: Arc::default(),
            pin,
        };
        let entry = self.servers.entry(server.parse().unwrap()).or_insert_with(|| Server {
            name: server.parse().unwrap(),
            transport: Transport::Http("https://tools.acme.example/mcp".to_owned()),
            auth: BrokerAuth::None,
            tools: BTreeMap::new(),
        });
        entry.tools.insert(own.to_owned(), tool);
        self
    }

    pub(crate) fn targets(mut self, name: &str, otherwise: Otherwise) -> Self {
        let (server, own) = name.split_once('/').unwrap();
        let tool = self.servers.get_mut(&server.parse().unwrap()).unwrap().tools.get_mut(own).unwrap();
        tool.targets.insert("/to".to_owned(), vec![crate::flow::Provenance::Task]);
        tool.otherwise = otherwise;
        self
    }

    /// What may leave by the tool, and whether a person is asked about the rest.
    pub(crate) fn audience(mut self, name: &str, labels: &[&str], otherwise: Otherwise) -> Self {
        let (server, own) = name.split_once('/').unwrap();
        let tool = self.servers.get_mut(&server.parse().unwrap()).unwrap().tools.get_mut(own).unwrap();
        tool.audience = Some(labels.iter().map(|label| Arc::from(*label)).collect());
        tool.otherwise = otherwise;
        self
    }

    pub(crate) fn history(mut self, history: History) -> Self {
        self.histories.push(history);
        self
    }

    pub(crate) fn policies(mut self, text: &str) -> Self {
        self.policies.push_str(text);
        self
    }

    pub(crate) fn compile(&self) -> Result<Policies, Vec<PolicyProblem>> {
        let declared = Declared { agents: &self.agents, servers: &self.servers, histories: &self.histories };
        Policies::compile(&declared, &[Source { path: "policies/test.cedar", text: &self.policies }])
    }

    pub(crate) fn snapshot(self) -> Snapshot {
        let listen = Listen {
            address: "127.0.0.1:8480".parse().unwrap(),
            origin: "http://127.0.0.1:8480".to_owned(),
            tls: None,
            allowed_origins: Vec::new(),
            proxies: Vec::new(),
        };
        let policies = self.compile().unwrap();
        Snapshot {
            digest: Digest::of(b"test"),
            settings: Settings {
                trust_domain: "acme.example".parse().unwrap(),
                data_dir: ".bailiwick".into(),
                local_socket: None,
                ca_file: None,
                data: listen.clone(),
                identity: listen,
                ext_authz: None,
                approvals: crate::bundle::Approvals::default(),
                respond: crate::bundle::Respond::default(),
                limits: Limits::default(),
            },
            issuers: BTreeMap::new(),
            agents: self.agents,
            servers: self.servers,
            histories: self.histories,
            signals: crate::bundle::Signals::default(),
            reporters: BTreeMap::new(),
            policies,
            rules: std::sync::Arc::default(),
        }
    }
}
