//! A decision: building the request and asking Cedar, with ever more agents, tools and policies that do not concern it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use bailiwick_core::bundle::{Agent, BrokerAuth, CredentialRules, Otherwise, Pin, Returns, Server, Tool, Transport};
use bailiwick_core::ledger::{Facts, Labels};
use bailiwick_core::model::{Digest, Effect, Timestamp, ToolName};
use bailiwick_core::policy::{Declared, Policies, Question, RulingOutcome, Source};
use serde_json::json;

use crate::Result;
use crate::clock::now;
use crate::table::Table;

const ROUNDS: u32 = 20_000;

/// Measures decisions.
pub(crate) fn measure() -> Result {
    let mut table = Table::new(&["agents", "tools", "policies", "compile ms", "decide µs", "list one µs"]);
    for scale in [1_usize, 10, 100] {
        let (agents, servers, text) = bundle(scale)?;
        let declared = Declared { agents: &agents, servers: &servers, histories: &[] };
        let began = now();
        let policies =
            Policies::compile(&declared, &[Source { path: "policies/bench.cedar", text: &text }]).map_err(|p| format!("{p:?}"))?;
        let compiled = began.elapsed();

        let (agent, tool): (_, ToolName) = ("agent-0".parse()?, "server-0/pay".parse()?);
        let arguments = json!({ "amount": 12.5, "to": "someone", "tags": ["a", "b"], "urgent": false });
        let facts = Facts { calls: 3, ..Facts::default() };
        let question = Question {
            agent: &agent,
            subject: Some("user:ana"),
            task: Some("Pay the invoices of this week"),
            chain: &[],
            tool: &tool,
            arguments: &arguments,
            facts: &facts,
            now: Timestamp::UNIX_EPOCH,
        };
        let ruling = policies.decide(&question);
        if ruling.outcome != RulingOutcome::Permitted {
            return Err(format!("{ruling:?}").into());
        }
        let began = now();
        for _ in 0..ROUNDS {
            black_box(policies.decide(black_box(&question)));
        }
        let decided = began.elapsed() / ROUNDS;

        let tools: Vec<ToolName> =
            servers.values().flat_map(|s| s.tools.keys().map(|own| ToolName::new(&s.name, own))).collect::<Result<_, _>>()?;
        let began = now();
        black_box(tools.iter().filter(|tool| policies.may_ever(&agent, tool)).count());
        let listed = began.elapsed() / u32::try_from(tools.len())?;
        let count = agents.len() + text.matches("forbid").count();
        let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
        table.row([
            agents.len().to_string(),
            tools.len().to_string(),
            count.to_string(),
            format!("{:.1}", compiled.as_secs_f64() * 1e3),
            format!("{:.1}", micros(decided)),
            format!("{:.1}", micros(listed)),
        ]);
    }
    println!("{table}");
    large()
}

/// A call with large arguments: the time grows with them and with nothing else.
fn large() -> Result {
    let (agents, servers, text) = bundle(1)?;
    let declared = Declared { agents: &agents, servers: &servers, histories: &[] };
    let policies = Policies::compile(&declared, &[Source { path: "policies/bench.cedar", text: &text }]).map_err(|p| format!("{p:?}"))?;
    let (agent, tool): (_, ToolName) = ("agent-0".parse()?, "server-0/pay".parse()?);
    let facts = Facts { calls: 3, ..Facts::default() };
    for tags in [100, 10_000, 100_000] {
        let arguments = json!({ "tags": (0..tags).map(|tag| format!("tag-{tag}")).collect::<Vec<_>>() });
        let question = Question {
            agent: &agent,
            subject: None,
            task: None,
            chain: &[],
            tool: &tool,
            arguments: &arguments,
            facts: &facts,
            now: Timestamp::UNIX_EPOCH,
        };
        let began = now();
        let ruling = policies.decide(&question);
        println!("{tags} list items: {:.1} ms ({:?})", began.elapsed().as_secs_f64() * 1e3, ruling.outcome);
    }
    Ok(())
}

type Bundle = (BTreeMap<bailiwick_core::model::AgentName, Agent>, BTreeMap<bailiwick_core::model::ServerName, Server>, String);

/// A bundle of `10 * scale` agents and tools, each agent with a server of its own, and as many policies by hand.
fn bundle(scale: usize) -> Result<Bundle> {
    let (mut agents, mut servers) = (BTreeMap::new(), BTreeMap::new());
    let mut text = String::from(
        r#"forbid (principal, action in Action::"spend", resource) when { context.ledger.integrity == "untrusted" };
           forbid (principal, action in Action::"call", resource) when { context.depth > 3 };"#,
    );
    let definition = json!({ "name": "pay", "inputSchema": { "type": "object", "properties": {
        "amount": { "type": "number" }, "to": { "type": "string" }, "tags": { "type": "array", "items": { "type": "string" } },
        "urgent": { "type": "boolean" },
    } } });
    for number in 0..10 * scale {
        let server: bailiwick_core::model::ServerName = format!("server-{number}").parse()?;
        let tool = Tool {
            effect: Effect::Spend,
            returns: Returns { labels: Labels::default() },
            targets: BTreeMap::new(),
            otherwise: Otherwise::Deny,
            pin: Some(Arc::new(Pin { digest: Digest::of(b"pay"), definition: definition.clone() })),
        };
        let agent = Agent {
            name: format!("agent-{number}").parse()?,
            owner: "owner@acme.example".to_owned(),
            purpose: "Measure".to_owned(),
            roles: vec!["payer".to_owned()],
            federation: Vec::new(),
            keys: Vec::new(),
            credential: CredentialRules::default(),
            call: vec![format!("{server}/*").parse()?],
            delegate_to: Vec::new(),
            calls_max: Some(200),
        };
        text.push_str(&format!(
            "forbid (principal, action == Action::\"{server}/pay\", resource) when {{ context.input has amount && context.input.amount.greaterThan(decimal(\"100.0\")) }};\n"
        ));
        agents.insert(agent.name.clone(), agent);
        let tools = BTreeMap::from([("pay".to_owned(), tool)]);
        servers.insert(
            server.clone(),
            Server { name: server, transport: Transport::Http("https://tools.acme.example/mcp".to_owned()), auth: BrokerAuth::None, tools },
        );
    }
    Ok((agents, servers, text))
}
