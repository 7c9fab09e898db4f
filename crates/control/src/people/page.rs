//! The pages: what a person sees who is asked. Plain HTML that works without scripts, of which there are none.
//!
//! All that came from outside goes through [`text`]: escaped for HTML, and what would hide or move made visible.

use bailiwick_core::approval::State;
use bailiwick_core::bundle::Snapshot;
use bailiwick_core::model::{Timestamp, hides};

use super::asked::{Asked, Carries, Chosen, Shown, called, doing};

/// The style of all pages.
pub(super) const STYLE: &str = include_str!("style.css");

/// Who sees a page, and what their forms carry.
pub(super) struct Reader {
    /// How the person is called.
    pub(super) name: String,
    /// For the form that logs out.
    pub(super) log_out: String,
}

/// What is answered to a request that shows no ask.
pub(super) fn notice(title: &str, sentence: &str, link: Option<(&str, &str)>, reader: Option<&Reader>) -> String {
    let link = link.map(|(to, words)| format!("<p><a href=\"{}\">{}</a></p>", text(to), text(words))).unwrap_or_default();
    let body = format!("<div class=\"card\"><h1>{}</h1><p>{}</p>{link}</div>", text(title), text(sentence));
    whole(title, &body, reader)
}

/// The asks: those that wait first, then what became of the others.
pub(super) fn list(asks: &[Asked], listed_max: usize, reader: &Reader, now: Timestamp) -> String {
    let (waiting, others): (Vec<_>, Vec<_>) = asks.iter().partition(|asked| asked.state == State::Pending);
    let item = |asked: &&Asked| {
        let started = asked.execution.started();
        let whom = started.subject.as_ref().map(|subject| format!(" for {}", text(subject))).unwrap_or_default();
        let until = if asked.state == State::Pending { format!(", waits {}", left(asked.ask.until, now)) } else { String::new() };
        format!(
            "<li>{} <a href=\"/approvals/{}\"><strong>{}</strong></a> <span class=\"soft\">{}</span><br>{}{whom}: {}<br><span class=\"soft\">record {}, asked {}{until}</span></li>",
            tag(asked.state),
            asked.ask.id.0,
            text(asked.ask.tool.as_str()),
            doing(asked.ask.effect),
            text(started.agent.as_str()),
            text(&asked.ask.because),
            asked.ask.id.0,
            time(asked.ask.at),
        )
    };
    let mut body = format!("<div class=\"card\"><h1>{} for an answer</h1>", count(waiting.len()));
    if waiting.is_empty() {
        body.push_str("<p class=\"soft\">Nothing waits. Load this page again to see what came since.</p>");
    } else {
        body.push_str(&format!("<ul class=\"asks\">{}</ul>", waiting.iter().take(listed_max).map(item).collect::<String>()));
        if waiting.len() > listed_max {
            body.push_str(&format!("<p>These are the newest {listed_max} of them; <code>bailiwick approvals list</code> has all.</p>"));
        }
    }
    body.push_str("</div>");
    if !others.is_empty() {
        let items: String = others.iter().take(listed_max).map(item).collect();
        body.push_str(&format!("<div class=\"card\"><h2>What became of others</h2><ul class=\"asks\">{items}</ul></div>"));
    }
    whole("Approvals", &body, Some(reader))
}

fn count(waiting: usize) -> String {
    match waiting {
        0 => "Nothing waits".to_owned(),
        1 => "One call waits".to_owned(),
        more => format!("{more} calls wait"),
    }
}

/// One ask, with the form that answers it while it waits.
pub(super) fn ask(asked: &Asked, snapshot: &Snapshot, form: &str, reader: &Reader, now: Timestamp) -> String {
    let tool = text(asked.ask.tool.as_str());
    let mut body = format!(
        "<div class=\"card\"><p>{} <span class=\"soft\">record {}</span></p><h1>{} wants to use <code>{tool}</code></h1><p>This tool <strong>{}</strong>.</p>{}</div>",
        tag(asked.state),
        asked.ask.id.0,
        text(asked.execution.started().agent.as_str()),
        doing(asked.ask.effect),
        standing(asked, now),
    );
    body.push_str(&format!(
        "<section class=\"card\"><h2>Why you are asked</h2><p>{}</p>{}</section>",
        text(&asked.ask.because),
        policies(asked)
    ));
    body.push_str(&format!("<section class=\"card\"><h2>What exactly would be done</h2>{}</section>", values(asked)));
    body.push_str(&format!("<section class=\"card\"><h2>Who asks</h2>{}</section>", who(asked, snapshot)));
    if asked.state == State::Pending {
        body.push_str(&answers(asked, form));
    }
    body.push_str("<p><a href=\"/approvals\">All approvals</a></p>");
    whole(&format!("Approval {}", asked.ask.id.0), &body, Some(reader))
}

fn standing(asked: &Asked, now: Timestamp) -> String {
    let answered = asked.ask.answer.as_ref().map(|given| {
        let endorsed = if given.endorses { ", and endorsed its values for this execution" } else { "" };
        let word = if given.approved { "approved" } else { "refused" };
        format!("{} {word} it {}{endorsed} (record {}).", text(&called(&given.by)), time(given.at), given.record.0)
    });
    let more = match (asked.state, &asked.ask.answer) {
        (State::Pending, _) => format!("It waits until {} ({}).", time(asked.ask.until), left(asked.ask.until, now)),
        (State::Approved, Some(given)) => format!("It may be made once, until {}.", time(given.until)),
        (State::Used, _) => asked.ask.used.map(|used| format!("It was made (record {}).", used.0)).unwrap_or_default(),
        (State::Expired, None) => {
            "Nobody answered in time, or the execution has ended. If it is still wanted, the agent has to ask again.".to_owned()
        }
        (State::Expired, Some(_)) => "The approval was not used in time.".to_owned(),
        _ => String::new(),
    };
    format!("<p>{} {more}</p>", answered.unwrap_or_default())
}

fn policies(asked: &Asked) -> String {
    if asked.ask.policies.is_empty() {
        return String::new();
    }
    let named: Vec<String> = asked.ask.policies.iter().map(|policy| format!("<code>{}</code>", text(policy))).collect();
    format!("<p class=\"soft\">Policy: {}</p>", named.join(", "))
}

/// Each argument with its value, and who chose it. What the agent wrote is marked as that.
fn values(asked: &Asked) -> String {
    let Some(arguments) = asked.ask.arguments.as_deref() else {
        return "<p class=\"bad\">The arguments are longer than the log keeps, so they cannot be shown here. This call can only be refused.</p>"
            .to_owned();
    };
    if asked.values.is_empty() {
        return "<p>It has no arguments.</p>".to_owned();
    }
    // Before an execution has read anything untrusted, and for a read, nothing is traced.
    let own = if asked.ask.traced.is_empty() {
        "Written by the agent. Who chose it was not judged."
    } else {
        "Written by the agent. The bundle names it no target, and nothing in it leads anywhere."
    };
    let row = |shown: &Shown| {
        let name = if shown.argument.is_empty() { "all of it" } else { shown.argument.trim_start_matches('/') };
        let chosen = if shown.chosen.is_empty() && !shown.carries.is_empty() {
            String::new()
        } else if shown.chosen.is_empty() {
            format!("<span class=\"tag warm\">agent's words</span><br><span class=\"soft\">{own}</span>")
        } else {
            shown.chosen.iter().map(chosen).collect::<Vec<_>>().join("<hr>")
        };
        let carries: String = shown.carries.iter().map(carries).collect();
        format!(
            "<tr><th scope=\"row\">{}</th><td><span class=\"value\">{}</span>{}</td><td>{chosen}{carries}</td></tr>",
            text(name),
            prose(&shown.text),
            odd(shown)
        )
    };
    let rows: String = asked.values.iter().map(row).collect();
    format!(
        "<table><thead><tr><th scope=\"col\">Argument</th><th scope=\"col\">Value</th><th scope=\"col\">Who chose it</th></tr></thead><tbody>{rows}</tbody></table>\
         <details><summary>The exact text</summary><pre>{}</pre></details>",
        text(arguments)
    )
}

fn chosen(chosen: &Chosen) -> String {
    let within = if chosen.traced.is_within { "A link, address or account in this text: " } else { "" };
    let (class, word) = if chosen.traced.may { ("good", "may choose") } else { ("bad", "may not choose") };
    format!("<span class=\"tag {class}\">{} · {word}</span><br>{within}{}.", chosen.traced.provenance.as_str(), text(&chosen.sentence()))
}

fn carries(carries: &Carries) -> String {
    let labels = carries.carried.labels.iter().map(|label| text(label)).collect::<Vec<_>>().join(", ");
    format!("<p><span class=\"tag bad\">{labels} · may not leave here</span><br>{}.</p>", text(&carries.sentence()))
}

/// Letters that look like others are a way to deceive: what is acted on is told of them, by number.
fn odd(shown: &Shown) -> String {
    if shown.chosen.is_empty() {
        return String::new();
    }
    let mut odd: Vec<char> = shown.text.chars().filter(|c| !c.is_ascii()).collect();
    odd.sort_unstable();
    odd.dedup();
    if odd.is_empty() {
        return String::new();
    }
    let named: Vec<String> = odd.iter().take(8).map(|c| format!("U+{:04X}", u32::from(*c))).collect();
    let more = if odd.len() > 8 { " and more" } else { "" };
    format!(
        "<br><span class=\"tag warm\">not ASCII</span> <span class=\"soft\">{}{more}: letters that may look like others.</span>",
        named.join(" ")
    )
}

fn who(asked: &Asked, snapshot: &Snapshot) -> String {
    let started = asked.execution.started();
    let mut facts = vec![("Agent", text(started.agent.as_str()))];
    if let Some(agent) = snapshot.agents.get(&started.agent) {
        facts.push(("Its purpose", text(&agent.purpose)));
        facts.push(("Its owner", text(&agent.owner)));
    }
    facts.push(("On behalf of", started.subject.as_deref().map_or_else(|| "itself".to_owned(), text)));
    for member in &started.chain {
        facts.push(("Asked by the agent", text(&member.agent.to_string())));
    }
    facts.push(("Execution", format!("<code>{}</code>, begun {}", started.execution, time(started.at))));
    let (calls, asks) = {
        let ledger = asked.execution.ledger();
        (ledger.calls(), ledger.asks().len())
    };
    facts.push(("So far", format!("{calls} calls made, people asked {asks} times")));
    let task = started
        .task
        .as_deref()
        .map_or_else(|| "<em>none was given</em>".to_owned(), |task| format!("<blockquote>{}</blockquote>", prose(task)));
    facts.push(("Task, as given when it began", task));
    let facts: String = facts.into_iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect();
    format!("<dl>{facts}</dl>")
}

fn answers(asked: &Asked, form: &str) -> String {
    let answer = |value: &str, class: &str, label: &str, means: &str| {
        format!(
            "<div><button type=\"submit\" class=\"{class}\" name=\"answer\" value=\"{value}\">{label}</button><span class=\"soft\">{means}</span></div>"
        )
    };
    let mut answers = String::new();
    if asked.ask.arguments.is_some() {
        answers.push_str(&answer("approve", "yes", "Approve this once", "Exactly this call, once. Anything else is asked anew."));
        if asked.has_unchosen() {
            let means = "Also lets this execution use the values marked “may not choose” again, in any call.";
            answers.push_str(&answer("endorse", "", "Approve and endorse these values", means));
        }
    }
    answers.push_str(&answer("refuse", "no", "Refuse", "The agent is told, and cannot make this call."));
    format!(
        "<section class=\"card\"><h2>Your answer</h2><form method=\"post\" action=\"/approvals/{}\"><input type=\"hidden\" name=\"form\" value=\"{}\"><div class=\"answers\">{answers}</div></form></section>",
        asked.ask.id.0,
        text(form)
    )
}

fn tag(state: State) -> String {
    let (class, word) = match state {
        State::Pending => ("warm", "waits for an answer"),
        State::Approved => ("good", "approved"),
        State::Used => ("good", "approved and made"),
        State::Refused => ("bad", "refused"),
        State::Expired => ("", "expired"),
    };
    format!("<span class=\"tag {class}\">{word}</span>")
}

pub(super) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    // To the second, as people read it.
    let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
    format!("<time datetime=\"{text}\">{date} {} UTC</time>", rest.get(..8).unwrap_or(rest))
}

fn left(until: Timestamp, now: Timestamp) -> String {
    let seconds = until.as_second().saturating_sub(now.as_second()).max(0);
    if seconds >= 120 { format!("{} minutes more", seconds / 60) } else { format!("{seconds} seconds more") }
}

pub(super) fn whole(title: &str, body: &str, reader: Option<&Reader>) -> String {
    let reader = reader.map_or_else(String::new, |reader| {
        format!(
            "<div class=\"soft\">{} <form method=\"post\" action=\"/logout\"><input type=\"hidden\" name=\"form\" value=\"{}\"><button type=\"submit\" class=\"plain\">Log out</button></form></div>",
            text(&reader.name),
            text(&reader.log_out)
        )
    });
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{} · Bailiwick</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><link rel=\"stylesheet\" href=\"/style.css\"></head>\
         <body><header><strong>Bailiwick</strong>{reader}</header><main>{body}</main></body></html>\n",
        text(title)
    )
}

/// A text from outside: what would hide or move is made visible, and nothing of it is HTML.
pub(super) fn text(from: &str) -> String {
    escaped(&bailiwick_core::model::shown(from, usize::MAX))
}

/// The same of a longer text, whose lines stay lines; each end of one is marked, so that nothing is pushed out of sight unseen.
fn prose(from: &str) -> String {
    let mut marked = String::with_capacity(from.len());
    for c in from.chars() {
        match c {
            '\n' => marked.push_str("↵\n"),
            c if hides(c) => marked.extend(c.escape_unicode()),
            c => marked.push(c),
        }
    }
    escaped(&marked)
}

fn escaped(from: &str) -> String {
    let mut out = String::with_capacity(from.len());
    for c in from.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_html_or_hides() {
        let evil = "<script>alert(1)</script>\" onload='x' &amp; \u{202e}evil\u{200b}\n\n";
        for shown in [text(evil), prose(evil)] {
            assert!(!shown.contains(['<', '>', '"', '\'']), "{shown}");
            assert!(shown.contains("&amp;amp;") && shown.contains("\\u{202e}evil\\u{200b}"), "{shown}");
        }
        assert!(prose(evil).ends_with("↵\n↵\n"));
        let page = notice(evil, evil, Some((evil, evil)), Some(&Reader { name: evil.to_owned(), log_out: evil.to_owned() }));
        assert!(!page.contains("<script") && !page.contains("onload='"), "{page}");
    }
}
