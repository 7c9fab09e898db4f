//! A decision: the whole of `judge`, with ever more agents and policies, and the histories of an execution and its agent; and
//! beside it Dogwood's local engine, in a program of its own (`peers/dogwood`).

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::bundle::{
    Agent, Approvals, BrokerAuth, CredentialRules, DecideFor, Limits, Listen, Otherwise, Pin, Returns, Server, Settings, Signals, Snapshot,
    Tool, Transport,
};
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::flow::Sources;
use bailiwick_core::identity::Grant;
use bailiwick_core::json;
use bailiwick_core::judge::{Judged, Known, judge};
use bailiwick_core::ledger::{Facts, History, HistoryOf, Labels};
use bailiwick_core::model::{
    AgentName, Arguments, Call, Digest, Effect, ExecutionId, ExecutionStarted, Protocol, ServerName, Timestamp, ToolName, Verdict,
};
use bailiwick_core::policy::{Declared, Policies, Question, Source};
use bailiwick_log::Position;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Result;
use crate::clock::now;
use crate::table::{Table, micros, share};

/// How many calls are judged at least, by one agent after the other.
pub(crate) const CALLS: usize = 20_000;

/// How long Dogwood decides, for each number of agents.
const DOGWOOD_SECONDS: u32 = 10;

/// Measures decisions.
pub(crate) fn measure() -> Result {
    let mut table = Table::new(&["agents", "policies", "compile ms", "first decision µs", "decision p50 µs", "p99 µs", "list one tool µs"]);
    let mut beside = Table::new(&["agents", "Dogwood's policies", "compile ms", "decisions", "decision p50 µs", "p99 µs", "times ours"]);
    for agents in [10, 100, 1_000, 10_000] {
        let world = World::new(agents)?;
        let first = world.judge_all(agents)?;
        world.make_history()?;
        let times = world.judge_all(CALLS.max(agents))?;
        let listed = world.list();
        table.row([
            agents.to_string(),
            format!("{} by hand, {} declared", world.by_hand, world.declared),
            format!("{:.0}", micros(world.compiled) / 1e3),
            format!("{:.0}", micros(share(&first, 0.5))),
            format!("{:.1}", micros(share(&times, 0.5))),
            format!("{:.1}", micros(share(&times, 0.99))),
            format!("{:.0}", micros(listed)),
        ]);
        drop(world);
        beside.row(dogwood(agents, share(&times, 0.5))?);
    }
    println!("{table}\n{beside}");
    large()
}

/// What Dogwood's local engine takes for the same calls, as a row. `ours` is our median.
fn dogwood(agents: usize, ours: Duration) -> Result<[String; 7]> {
    let program = std::env::var_os("BENCH_DOGWOOD").ok_or("BENCH_DOGWOOD names no program; `cargo xtask bench decision` builds it")?;
    let done = Command::new(program).arg(agents.to_string()).arg(DOGWOOD_SECONDS.to_string()).output()?;
    let figures = String::from_utf8_lossy(&done.stdout).split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
    match figures.as_deref() {
        Ok(&[policies, decisions, compiled, p50, p99]) => {
            let (p50, p99) = (Duration::from_nanos(p50), Duration::from_nanos(p99));
            let times = p50.as_secs_f64() / ours.as_secs_f64();
            let [policies, decisions, compiled] = [policies, decisions, compiled].map(|count| count.to_string());
            let [p50, p99] = [p50, p99].map(|time| format!("{:.1}", micros(time)));
            Ok([agents.to_string(), policies, compiled, decisions, p50, p99, format!("{times:.1}")])
        }
        _ => Err(format!("Dogwood decides otherwise: {}", String::from_utf8_lossy(&done.stderr)).into()),
    }
}

/// A bundle in force, and an execution of each of its agents with the call that it makes.
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    executions: Vec<(Arc<Execution>, Call)>,
    compiled: Duration,
    by_hand: usize,
    declared: usize,
}

impl World {
    pub(crate) fn new(agents: usize) -> Result<Self> {
        Self::of(bundle(agents)?)
    }

    pub(crate) fn of((agents, servers, text): Bundle) -> Result<Self> {
        let histories = histories(&servers)?;
        let declared = Declared { agents: &agents, servers: &servers, histories: &histories };
        let began = now();
        let policies =
            Policies::compile(&declared, &[Source { path: "policies/bench.cedar", text: &text }]).map_err(|p| format!("{p:?}"))?;
        let compiled = began.elapsed();
        let count = |text: &str| text.matches("permit (").count() + text.matches("forbid (").count();
        let (by_hand, declared) = (count(&text), count(policies.declared_text()));
        let snapshot = snapshot(agents, servers, histories, policies)?;

        let (table, mut executions) = (Executions::default(), Vec::new());
        for (number, agent) in snapshot.agents.keys().enumerate() {
            let tool: ToolName = format!("{}/pay", agent.as_str().replace("agent", "server")).parse()?;
            let arguments = json!({ "amount": 12.5, "to": "someone", "tags": ["a", "b"], "urgent": false });
            executions.push((table.started(start(&snapshot, agent, u64::try_from(number)?)), call(&tool, &arguments)?));
        }
        Ok(Self { snapshot, executions, compiled, by_hand, declared })
    }

    /// Judges a few calls of each execution and folds them into its ledger and its agent's, as the path does.
    fn make_history(&self) -> Result {
        for (execution, call) in &self.executions {
            for second in 0..3 {
                let now = Timestamp::from_second(second)?;
                let judged = self.judge(execution, call, now);
                take(&self.snapshot, execution, call, judged, now)?;
            }
        }
        Ok(())
    }

    fn judge(&self, execution: &Execution, call: &Call, now: Timestamp) -> Judged {
        let seen = execution.seen();
        let known = Known {
            snapshot: &self.snapshot,
            held: &HashSet::new(),
            sources: Sources::Seen(&seen),
            remembers: true,
            behavior: None,
            above: &[],
        };
        judge(known, execution, &execution.ledger(), &execution.agent_tracks(), call, now)
    }

    /// Judges this many calls, one agent after the other, and sorts how long each took.
    fn judge_all(&self, calls: usize) -> Result<Vec<Duration>> {
        let at = Timestamp::from_second(60)?;
        let mut times = Vec::with_capacity(calls);
        for (execution, call) in self.executions.iter().cycle().take(calls) {
            let began = now();
            let judged = black_box(self.judge(execution, black_box(call), at));
            times.push(began.elapsed());
            if judged.decision.verdict != Verdict::Allow || judged.facts.history.len() != 2 {
                return Err(format!("{judged:?}").into());
            }
        }
        times.sort_unstable();
        Ok(times)
    }

    /// How long it takes to say of one tool whether the first agent sees it in a list.
    fn list(&self) -> Duration {
        let tools: Vec<&ToolName> = self.executions.iter().map(|(_, call)| &call.tool).take(1_000).collect();
        let Some(agent) = self.snapshot.agents.keys().next() else { return Duration::ZERO };
        let began = now();
        black_box(tools.iter().filter(|tool| self.snapshot.policies.may_ever(agent, tool)).count());
        began.elapsed() / u32::try_from(tools.len()).unwrap_or(u32::MAX)
    }
}

/// Folds an allowed call into the ledger of its execution and the histories of its agent.
pub(crate) fn take(snapshot: &Snapshot, execution: &Execution, call: &Call, judged: Judged, now: Timestamp) -> Result {
    if judged.decision.verdict != Verdict::Allow {
        return Err(format!("{judged:?}").into());
    }
    let sequence = execution.ledger().sequence();
    let intent = judged.into_intent(snapshot, execution, call, Position(0), sequence, now);
    execution.ledger().took(Position(0), &intent, &snapshot.histories);
    execution.agent_tracks().fold(&snapshot.histories, HistoryOf::Agent, &intent.facts.history, now);
    Ok(())
}

/// A call with large arguments: the time grows with them and with nothing else.
fn large() -> Result {
    let mut table = Table::new(&["list items that no policy reads", "decision ms"]);
    let world = World::new(10)?;
    let Some((execution, own)) = world.executions.first() else { return Ok(()) };
    for tags in [100, 10_000, 100_000] {
        let arguments = json!({ "tags": (0..tags).map(|tag| format!("tag-{tag}")).collect::<Vec<_>>() });
        let facts = Facts { calls: 3, ..Facts::default() };
        let question = Question {
            agent: &execution.started().agent,
            subject: None,
            task: None,
            chain: &[],
            tool: &own.tool,
            arguments: &arguments,
            declared: false,
            facts: &facts,
            now: Timestamp::UNIX_EPOCH,
        };
        let began = now();
        black_box(world.snapshot.policies.decide(&question));
        table.row([tags.to_string(), format!("{:.1}", micros(began.elapsed()) / 1e3)]);
    }
    println!("{table}");
    Ok(())
}

/// The start of an execution of `agent`.
pub(crate) fn start(snapshot: &Snapshot, agent: &AgentName, number: u64) -> ExecutionStarted {
    let [high @ .., _, _] = number.to_be_bytes();
    let mut random = [0; 10];
    random.iter_mut().zip(high).for_each(|(random, byte)| *random = byte);
    ExecutionStarted {
        at: Timestamp::UNIX_EPOCH,
        bundle: snapshot.digest,
        execution: ExecutionId::from_parts(number, random),
        agent: agent.clone(),
        subject: Some("user:ana".to_owned()),
        chain: Vec::new(),
        task: Some("Pay the invoices of this week".to_owned()),
        grant: Grant::default(),
        key: Some("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".to_owned()),
        token: format!("token-{number:016}"),
        renewal: false,
        expires: Timestamp::MAX,
        proof: "private_key_jwt 1".to_owned(),
        sign_in: None,
    }
}

pub(crate) fn call(tool: &ToolName, arguments: &Value) -> Result<Call> {
    let text = RawValue::from_string(arguments.to_string())?;
    let arguments = Arguments::parse(&text, &json::Limits::default())?;
    Ok(Call { tool: tool.clone(), protocol: Protocol::Mcp, method: "tools/call", arguments })
}

/// What an execution paid to whom within the hour, and how often its agent paid within the day.
fn histories(servers: &BTreeMap<ServerName, Server>) -> Result<Vec<History>> {
    let tools = || servers.keys().map(|server| format!("{server}/pay").parse()).collect::<Result<_, _>>();
    let paid = History {
        name: "paid".into(),
        tools: tools()?,
        sum: Some("/amount".to_owned()),
        by: Some("/to".to_owned()),
        within: Some("1h".parse()?),
        of: HistoryOf::Execution,
    };
    let payments =
        History { name: "payments".into(), tools: tools()?, sum: None, by: None, within: Some("24h".parse()?), of: HistoryOf::Agent };
    Ok(vec![paid, payments])
}

fn snapshot(
    agents: BTreeMap<AgentName, Agent>,
    servers: BTreeMap<ServerName, Server>,
    histories: Vec<History>,
    policies: Policies,
) -> Result<Snapshot> {
    let listen = Listen {
        address: "127.0.0.1:8480".parse()?,
        origin: "https://gw.acme.example".to_owned(),
        tls: None,
        allowed_origins: Vec::new(),
        proxies: Vec::new(),
    };
    let identity = Listen { origin: "https://id.acme.example".to_owned(), ..listen.clone() };
    Ok(Snapshot {
        digest: Digest::of(b"bench"),
        settings: Settings {
            trust_domain: "acme.example".parse()?,
            data_dir: ".bailiwick".into(),
            local_socket: None,
            ca_file: None,
            data: listen,
            identity,
            ext_authz: None,
            respond: bailiwick_core::bundle::Respond::default(),
            approvals: Approvals::default(),
            limits: Limits::default(),
        },
        issuers: BTreeMap::new(),
        agents,
        servers,
        histories,
        signals: Signals::default(),
        reporters: BTreeMap::new(),
        policies,
        rules: Arc::default(),
    })
}

pub(crate) type Bundle = (BTreeMap<AgentName, Agent>, BTreeMap<ServerName, Server>, String);

/// A bundle of so many agents and tools, each agent with a server of its own, and as many policies by hand and two more.
pub(crate) fn bundle(count: usize) -> Result<Bundle> {
    let (mut agents, mut servers) = (BTreeMap::new(), BTreeMap::new());
    let mut text = String::from(
        r#"forbid (principal, action in Action::"spend", resource) when { context.ledger.integrity == "untrusted" };
           forbid (principal, action in Action::"spend", resource)
           when { context.history has paid && context.history.paid > 100000 || context.history has payments && context.history.payments > 1000000 };
           "#,
    );
    let definition = json!({ "name": "pay", "inputSchema": { "type": "object", "properties": {
        "amount": { "type": "number" }, "to": { "type": "string" }, "tags": { "type": "array", "items": { "type": "string" } },
        "urgent": { "type": "boolean" },
    } } });
    for number in 0..count {
        let server: ServerName = format!("server-{number}").parse()?;
        let tool = Tool {
            effect: Effect::Spend,
            returns: Returns::of(Labels::default()),
            place: Vec::new(),
            targets: BTreeMap::new(),
            otherwise: Otherwise::Deny,
            audience: None,
            known: Arc::default(),
            pin: Some(Arc::new(Pin { digest: Digest::of(b"pay"), definition: definition.clone() })),
        };
        let agent = Agent {
            name: format!("agent-{number}").parse()?,
            owner: "owner@acme.example".to_owned(),
            purpose: "Measure".to_owned(),
            roles: vec!["payer".to_owned()],
            federation: Vec::new(),
            subjects: Vec::new(),
            clients: Vec::new(),
            local: Vec::new(),
            keys: Vec::new(),
            credential: CredentialRules::default(),
            outbound: Vec::new(),
            x509_svid: false,
            call: vec![format!("{server}/*").parse()?],
            delegate_to: Vec::new(),
            decide_for: DecideFor::Nobody,
            calls_max: Some(200),
        };
        writeln!(
            text,
            r#"forbid (principal, action == Action::"{server}/pay", resource)
               when {{ context.input has amount && context.input.amount.greaterThan(decimal("100.0")) }};"#
        )?;
        agents.insert(agent.name.clone(), agent);
        let tools = BTreeMap::from([("pay".to_owned(), tool)]);
        servers.insert(
            server.clone(),
            Server { name: server, transport: Transport::Http("https://tools.acme.example/mcp".to_owned()), auth: BrokerAuth::None, tools },
        );
    }
    Ok((agents, servers, text))
}
