//! A record in one line, for those who watch the log.

use bailiwick_core::detect::finding::{Level, Response};
use bailiwick_core::model::{Caution, Hold, Record, ResponseEnd, Revocation, Signal, SignalEnd, TakenBack, Verdict};
use bailiwick_log::Position;

use super::decision::{ended, person};
use super::{Paint, safe, time};

/// `record` in one line.
pub(crate) fn line(position: Position, record: &Record, paint: Paint) -> String {
    let place = paint.faint(format!("{:>7}  {}", position.0, record.at().strftime("%H:%M:%S%.3f")));
    format!("{place}  {}", told(record, paint))
}

fn told(record: &Record, paint: Paint) -> String {
    match record {
        Record::Started(started) => format!("{}  bailiwick {}, bundle {}", paint.bold("started"), started.version, started.bundle),
        Record::BundleActivated(activated) => {
            let loosens = activated.loosens.iter().map(|what| safe(what, 120)).collect::<Vec<_>>().join(", ");
            let loosens = if loosens.is_empty() { String::new() } else { format!("  {}", paint.yellow(format!("loosens {loosens}"))) };
            format!("{}  {}{loosens}", paint.bold("bundle "), activated.bundle)
        }
        Record::ToolHeld(held) => {
            let why = match (held.reviewed, held.offered) {
                (None, _) => "was never reviewed",
                (_, None) => "is no longer offered",
                _ => "differs from the reviewed definition",
            };
            format!("{}  {} {why}", paint.yellow("held   "), safe(held.tool.as_str(), 200))
        }
        Record::ExecutionStarted(started) => {
            let word = if started.renewal { "renewed" } else { "begins " };
            let task = started.task.as_deref().map(|task| format!(", “{}”", safe(task, 80))).unwrap_or_default();
            let whom = started.subject.as_deref().map(|subject| format!(" for {}", safe(subject, 80))).unwrap_or_default();
            let through = started.chain.iter().map(|member| format!(" through {}", member.agent.agent())).collect::<String>();
            format!("{}  {}{whom}{through}, execution {}{task}", paint.bold(word), started.agent, started.execution)
        }
        Record::TokenIssued(issued) => {
            let whom = issued.subject.as_deref().map(|subject| format!(" for {}", safe(subject, 80))).unwrap_or_default();
            format!("{}  {}{whom}, to show to {}", paint.bold("token  "), issued.agent, safe(&issued.audience, 200))
        }
        Record::Intent(intent) => {
            let code = &intent.decision.code;
            let why = if intent.decision.verdict == Verdict::Allow { String::new() } else { format!("  {}", paint.faint(code.as_str())) };
            format!("{}  {} → {}{why}", paint.verdict(intent.decision.verdict), intent.agent, safe(intent.tool.as_str(), 200))
        }
        Record::Outcome(outcome) => {
            format!("{}  {}", paint.faint("outcome"), paint.faint(format!("of {}: {}", outcome.intent, ended(outcome))))
        }
        Record::Refused(refused) => {
            let who = refused.agent.as_ref().map(|agent| format!("{agent} ")).unwrap_or_default();
            let (stage, code) = (safe(&refused.stage, 40), safe(&refused.code, 80));
            format!("{}  {who}at {stage}: {code}  {}", paint.red("refused"), paint.faint(safe(&refused.detail, 200)))
        }
        Record::Revoked(revoked) => {
            let what = match &revoked.what {
                Revocation::Execution(id) => format!("execution {id}"),
                Revocation::Token(token) => {
                    let of = revoked.execution.map(|execution| format!(" of execution {execution}")).unwrap_or_default();
                    format!("token {}{of}", safe(token, 80))
                }
                Revocation::Subject(subject) => format!("all for {}", safe(subject, 120)),
                Revocation::Agent(agent) => format!("all of {agent}"),
                Revocation::Owner { owner, agents } => format!("all of {}, {} agents", safe(owner, 120), agents.len()),
                Revocation::All => "all".to_owned(),
            };
            format!("{}  {what}{}", paint.yellow("revoked"), by(&revoked.by, &revoked.reason))
        }
        Record::TaskBegun(begun) => {
            let what = begun.task.as_ref().or(begun.context.as_ref()).map(|id| safe(id, 80)).unwrap_or_default();
            format!("{}  {what} of {} for {}", paint.faint("task   "), begun.server, begun.agent)
        }
        Record::Quarantined(quarantined) => {
            let since = if quarantined.since == quarantined.at { String::new() } else { format!(" since {}", time(quarantined.since)) };
            format!("{}  {}{since}{}", paint.red("stopped"), quarantined.agent, by(&quarantined.by, &quarantined.reason))
        }
        Record::Released(released) => {
            let only = match released.only {
                None => "",
                Some(Hold::Quarantine) => " from quarantine",
                Some(Hold::Caution) => " from caution",
            };
            format!("{}  {}{only}{}", paint.green("release"), released.agent, by(&released.by, &released.reason))
        }
        Record::Cautioned(cautioned) => {
            let how = if cautioned.caution == Caution::Ask { "its effects need a person" } else { "is suspect to policy" };
            let since = if cautioned.since == cautioned.at { String::new() } else { format!(" since {}", time(cautioned.since)) };
            format!("{}  {}: {how}{since}{}", paint.yellow("caution"), cautioned.agent, by(&cautioned.by, &cautioned.reason))
        }
        Record::Answered(answered) => {
            let word = if answered.approved { paint.green("approve") } else { paint.red("refuse ") };
            let endorsed = if answered.endorses { ", its values endorsed" } else { "" };
            let tool = safe(answered.tool.as_str(), 200);
            format!("{word}  {}: {} → {tool} of record {}{endorsed}", person(&answered.by), answered.agent, answered.ask)
        }
        Record::Signal(signal) => {
            let word = match signal.code {
                SignalEnd::Revoked | SignalEnd::Quarantined => paint.red("signal "),
                SignalEnd::Held => paint.yellow("signal "),
                _ => paint.faint("signal "),
            };
            format!("{word}  {}", signalled(signal))
        }
        Record::CredentialTakenBack(taken) => {
            let end = match taken.code {
                TakenBack::Done => "taken back".to_owned(),
                _ => format!("not taken back: {}", safe(&taken.detail, 200)),
            };
            format!("{}  what {} had at {} is {end}", paint.yellow("upstrm "), taken.agent, taken.server)
        }
        Record::ServerDescribed(described) => {
            let said = described.name.iter().chain(&described.version).map(|text| safe(text, 120)).collect::<Vec<_>>().join(" ");
            format!("{}  {} calls itself {}", paint.faint("server "), described.server, if said.is_empty() { "nothing" } else { &said })
        }
        Record::Finding(found) => {
            let finding = &found.finding;
            let more = if finding.count > 1 { format!(", {} times", finding.count) } else { String::new() };
            let level = match found.code {
                Level::Low => paint.faint(found.code.as_str()),
                Level::Medium => paint.yellow(found.code.as_str()),
                Level::High | Level::Critical => paint.red(found.code.as_str()),
            };
            format!("{}  {level}: {}{more}: {}", paint.yellow("finding"), safe(&finding.detector.title, 120), safe(&finding.seen, 200))
        }
        Record::Settled(settled) => {
            let word = settled.code.as_str().replace('_', " ");
            format!("{}  finding {} is {word}{}", paint.bold("settled"), settled.finding, by(&settled.by, &settled.reason))
        }
        Record::Response(responded) => {
            let (response, code) = (responded.response.as_str(), responded.code.as_str().replace('_', " "));
            let code = match responded.code {
                ResponseEnd::Held | ResponseEnd::Failed => paint.yellow(code),
                ResponseEnd::Done if responded.response > Response::Notify => paint.red(code),
                _ => paint.faint(code),
            };
            let of = responded.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
            let detail = if responded.detail.is_empty() { String::new() } else { format!(": {}", safe(&responded.detail, 200)) };
            let why = by(&responded.by, &responded.reason);
            format!("{}  {response}{of} because of finding {}: {code}{detail}{why}", paint.bold("answer "), responded.found)
        }
        Record::BaselinesRolledBack(back) => {
            let role = back
                .role
                .as_deref()
                .map_or_else(|| "all that was learned".to_owned(), |role| format!("what was learned of {}", safe(role, 120)));
            format!("{}  {role} is what it was on {}{}", paint.bold("back   "), back.to, by(&back.by, &back.reason))
        }
        _ => paint.faint("a record of a newer version"),
    }
}

/// What a signal says and what came of it.
fn signalled(signal: &Signal) -> String {
    let event = safe(signal.event.rsplit('/').next().unwrap_or_default(), 60);
    let agents = signal.agents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let of = match &signal.subject {
        Some(person) => safe(person, 120),
        None if agents.is_empty() => safe(&signal.named, 120),
        None => agents,
    };
    let end = match signal.code {
        SignalEnd::Revoked => format!("revoked, {} executions", signal.executions),
        SignalEnd::Quarantined => "quarantined".to_owned(),
        SignalEnd::Noted => "noted".to_owned(),
        SignalEnd::Held => "held for a person to say".to_owned(),
        SignalEnd::Dismissed => "dismissed".to_owned(),
    };
    let settled = signal.by.as_deref().map(|by| format!(", said {}", safe(by, 120))).unwrap_or_default();
    format!("{event} of {of}, from {}: {end}{settled}", safe(&signal.transmitter, 80))
}

/// Who did something, and why.
fn by(who: &str, reason: &str) -> String {
    let reason = if reason.is_empty() { String::new() } else { format!(": {}", safe(reason, 200)) };
    format!(", by {}{reason}", safe(who, 120))
}
