//! Reading `[respond]` of `bailiwick.toml`: what is done about what is found, and who is told.

use std::path::PathBuf;

use toml::Spanned;

use super::fields::{Fields, shown};
use super::{Webhook, approvals, issuers, schema};
use crate::detect::finding::{Kind, Level, Response};
use crate::detect::respond::{Mode, Orders, Pattern, When};

/// What is done about what is found, and who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Respond {
    /// What is done.
    pub orders: Orders,
    /// Who is told.
    pub notify: Vec<Notify>,
}

/// Somebody who is told of what is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Of findings of this level and above. Of what waits for a person everybody is told.
    pub level: Level,
    /// Where.
    pub to: Destination,
}

/// Where somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A program that takes signed messages (Standard Webhooks).
    Webhook(Webhook),
    /// A channel, by an incoming webhook as Slack has them. Whoever knows its URL may write there, so the URL is a secret, in this file.
    Slack(PathBuf),
    /// A syslog collector (RFC 5424).
    Syslog(Syslog),
    /// A collector of OpenTelemetry logs, over HTTP.
    Otlp {
        /// Its address, up to `/v1/logs`.
        url: String,
        /// The file with the value of the `Authorization` header.
        authorization_file: Option<PathBuf>,
    },
}

/// How a syslog collector is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Syslog {
    /// By datagrams, `host:port` (RFC 5426).
    Udp(String),
    /// By a connection, `host:port`, with octet counting (RFC 6587).
    Tcp(String),
    /// By the datagram socket of this machine's own collector.
    Unix(PathBuf),
}

/// The words of what is done.
const RESPONSES: [(&str, Response); 6] = [
    ("record", Response::Record),
    ("notify", Response::Notify),
    ("lower", Response::Lower),
    ("ask", Response::Ask),
    ("quarantine", Response::Quarantine),
    ("revoke", Response::Revoke),
];

/// The words of levels.
const LEVELS: [(&str, Level); 4] = [("low", Level::Low), ("medium", Level::Medium), ("high", Level::High), ("critical", Level::Critical)];

/// The words of kinds.
const KINDS: [(&str, Kind); 5] = [
    ("rule", Kind::Rule),
    ("correlation", Kind::Correlation),
    ("behaviour", Kind::Behaviour),
    ("reported", Kind::Reported),
    ("sequence", Kind::Sequence),
];

/// Reads the table; without one, it is only recorded what would be done.
pub(super) fn respond(file: &Fields<'_>) -> Respond {
    let Some(table) = file.table::<schema::RespondTable>("respond") else { return Respond::default() };
    let default = Orders::default();
    let mode = table.choice("mode", &[("dry_run", Mode::DryRun), ("act", Mode::Act)]);
    let stops_per_hour = table.number("stops_per_hour", 0..=1_000).and_then(|number| usize::try_from(number.into_inner()).ok());
    let whens = table.tables::<schema::WhenTable>("when");
    for (at, unreached) in whens.iter().zip(whens.iter().skip(1)) {
        if CONDITIONS.iter().all(|condition| at.value(condition).is_none()) {
            let mend = "give the one before it a condition, such as `level = \"high\"`, or put it last";
            unreached.source().error(unreached.span(), "this is never reached: the `[[respond.when]]` before it fits everything", mend);
        }
    }
    let when = whens.iter().filter_map(when).collect();
    let notify: Vec<Notify> = table.tables::<schema::NotifyTable>("notify").iter().filter_map(notify).collect();
    if let Some(mode) = mode.as_ref().filter(|mode| *mode.get_ref() == Mode::Act && table.value("notify").is_none()) {
        let mend = "add `[[respond.notify]]` with `webhook`, `slack`, `syslog` or `otlp`";
        table.source().warning(mode.span(), "agents are stopped by themselves, and nobody is told", mend);
    }
    let orders = Orders {
        mode: mode.map_or(default.mode, Spanned::into_inner),
        stops_per_hour: stops_per_hour.unwrap_or(default.stops_per_hour),
        when,
    };
    Respond { orders, notify }
}

/// What an order may depend on.
const CONDITIONS: [&str; 5] = ["rules", "level", "kinds", "agents", "owners"];

fn when(table: &Fields<'_>) -> Option<When> {
    let patterns = |key| {
        let all: Vec<Spanned<Pattern>> = table.all_parsed(key, "write texts such as `PE-01` or `PE-*`");
        if all.is_empty()
            && let Some(value) = table.value(key)
        {
            table.source().error(value.span(), format!("`{key}` is empty, so nothing would fit"), "name something, or take it out");
        }
        all.into_iter().map(Spanned::into_inner).collect::<Vec<_>>()
    };
    let kind = |word: Spanned<String>| {
        let found = KINDS.iter().find(|(name, _)| name == word.get_ref()).map(|(_, kind)| *kind);
        if found.is_none() {
            let message = format!("`{}` is no kind of detector", shown(word.get_ref()));
            table.source().error(word.span(), message, super::problem::suggest(word.get_ref(), KINDS.iter().map(|(name, _)| *name)));
        }
        found
    };
    if table.value("do").is_none() {
        table.missing("do", "say what is done: `record`, `notify`, `lower`, `ask`, `quarantine` or `revoke`");
    }
    let when = When {
        rules: patterns("rules"),
        level: table.choice("level", &LEVELS).map(Spanned::into_inner),
        kinds: table.texts("kinds").into_iter().filter_map(kind).collect(),
        agents: patterns("agents"),
        owners: patterns("owners"),
        does: table.choice("do", &RESPONSES).map(Spanned::into_inner),
    };
    when.does.is_some().then_some(when)
}

fn notify(table: &Fields<'_>) -> Option<Notify> {
    const WAYS: [&str; 4] = ["webhook", "slack", "syslog", "otlp"];
    let named: Vec<&str> = WAYS.into_iter().filter(|way| table.value(way).is_some()).collect();
    if named.len() != 1 {
        let message = if named.is_empty() { "it is not said who is told" } else { "this tells more than one" };
        table.source().error(table.span(), message, "write one of `webhook`, `slack`, `syslog` and `otlp` in each `[[respond.notify]]`");
        return None;
    }
    let authorization_file = table.text("authorization_file");
    if let Some(file) = authorization_file.as_ref().filter(|_| table.value("otlp").is_none()) {
        table.source().error(file.span(), "`authorization_file` is for `otlp` alone", "take it out");
    }
    let level = table.choice("level", &LEVELS).map_or(Level::Low, Spanned::into_inner);
    let to = match *named.first()? {
        "webhook" => Destination::Webhook(approvals::webhook(&table.table::<schema::WebhookTable>("webhook")?)?),
        "slack" => {
            let table = table.table::<schema::SlackTable>("slack")?;
            let file = table.required_text("url_file", "name the file that holds the incoming webhook's URL, which is a secret")?;
            Destination::Slack(PathBuf::from(file.into_inner()))
        }
        "syslog" => Destination::Syslog(table.required::<Syslog>("syslog", MEND_SYSLOG)?.into_inner()),
        _ => {
            let url = table.required_text("otlp", "write where logs are taken, such as `https://otel.acme.example/v1/logs`")?;
            issuers::check_url(table.source(), &url, "the collector");
            let authorization_file = authorization_file.map(|text| PathBuf::from(text.into_inner()));
            Destination::Otlp { url: url.into_inner(), authorization_file }
        }
    };
    Some(Notify { level, to })
}

const MEND_SYSLOG: &str = "write `udp://host:port`, `tcp://host:port` or `unix:///dev/log`";

/// A text that names no syslog collector.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this is no syslog collector")]
pub struct InvalidSyslog;

impl std::str::FromStr for Syslog {
    type Err = InvalidSyslog;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidSyslog)?;
        let is_place = || {
            let (host, port) = rest.rsplit_once(':')?;
            let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let is_address = plain.parse::<std::net::IpAddr>().is_ok();
            let is_name = !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            (port.parse::<u16>().is_ok_and(|port| port > 0) && (is_address || is_name)).then_some(())
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "udp" if is_place().is_some() => Ok(Self::Udp(rest.to_owned())),
            "tcp" if is_place().is_some() => Ok(Self::Tcp(rest.to_owned())),
            _ => Err(InvalidSyslog),
        }
    }
}
