//! Reading `bailiwick.toml`.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::fields::{Fields, wrong_kind};
use super::problem::Source;
use super::{Limits, Listen, Settings, ToolPattern, approvals, respond, schema, url};
use crate::ledger::{History, HistoryOf};
use crate::model::Duration;

/// Reads the file; nothing when an error in it was noted that leaves no settings.
pub(super) fn settings(file: &Fields<'_>) -> Option<Settings> {
    let trust_domain = file.required("trust_domain", "name the root of all agents' names, such as `trust_domain = \"acme.example\"`");
    let data_dir = file.text("data_dir").map_or_else(|| PathBuf::from(".bailiwick"), |text| PathBuf::from(text.into_inner()));
    let local_socket = file.text("local_socket").map(|text| PathBuf::from(text.into_inner()));
    let ca_file = file.text("ca_file").map(|text| PathBuf::from(text.into_inner()));
    let data = listen(file, "data", 8480);
    let identity = listen(file, "identity", 8481);
    if data.address == identity.address && data.address.port() != 0 {
        let message = format!("`data` and `identity` both listen on `{}`", data.address);
        file.source().error(place(file, "identity", "listen"), message, "give each a port of its own");
    } else if data.origin == identity.origin && data.address.port() != 0 {
        let message = format!("`data` and `identity` both have the origin `{}`", data.origin);
        file.source().error(place(file, "identity", "origin"), message, "give each an origin of its own: credentials name them");
    }
    let limits = file.table::<schema::LimitsTable>("limits").map_or_else(Limits::default, |table| limits(&table));
    let ext_authz = file.table::<schema::ListenTable>("ext_authz").map(|table| listener(&table, "ext_authz", 8483));
    let approvals = approvals::approvals(file);
    if let Some(people) = &approvals.listen {
        for (name, other) in [("data", &data), ("identity", &identity)] {
            if people.address == other.address && people.address.port() != 0 {
                let message = format!("`approvals` and `{name}` both listen on `{}`", people.address);
                file.source().error(place(file, "approvals", "listen"), message, "give each a port of its own");
            } else if people.origin == other.origin && people.address.port() != 0 {
                let message = format!("`approvals` and `{name}` both have the origin `{}`", people.origin);
                file.source().error(
                    place(file, "approvals", "origin"),
                    message,
                    "give each an origin of its own: a browser keeps logins by it",
                );
            }
        }
    }
    Some(Settings {
        trust_domain: trust_domain?.into_inner(),
        data_dir,
        local_socket,
        ca_file,
        data,
        identity,
        ext_authz,
        approvals,
        respond: respond::respond(file),
        limits,
    })
}

fn place(file: &Fields<'_>, table: &str, key: &str) -> std::ops::Range<usize> {
    let table = file.value(table);
    let value = table.and_then(|table| table.get_ref().get(key));
    value.or(table).map_or_else(|| file.span(), Spanned::span)
}

fn listen(file: &Fields<'_>, key: &str, port: u16) -> Listen {
    let fallback = SocketAddr::from(([127, 0, 0, 1], port));
    match file.table::<schema::ListenTable>(key) {
        Some(table) => listener(&table, key, port),
        None => {
            Listen { address: fallback, origin: format!("http://{fallback}"), tls: None, allowed_origins: Vec::new(), proxies: Vec::new() }
        }
    }
}

/// The listener that `table`, named `key`, declares; on `port` of this machine unless it says otherwise.
pub(super) fn listener(table: &Fields<'_>, key: &str, port: u16) -> Listen {
    let fallback = SocketAddr::from(([127, 0, 0, 1], port));
    let at = table.value("listen").map_or_else(|| table.span(), Spanned::span);
    let address: SocketAddr = table
        .parsed("listen", "write an address and a port, such as `127.0.0.1:8480` or `[::]:8480`")
        .map_or(fallback, Spanned::into_inner);
    let tls = table.table::<schema::TlsTable>("tls").and_then(|tls| {
        let cert = tls.required_text("cert", "name the PEM file of the certificate chain");
        let key = tls.required_text("key", "name the PEM file of the private key");
        Some((PathBuf::from(cert?.into_inner()), PathBuf::from(key?.into_inner())))
    });
    let origin = match table.text("origin") {
        Some(origin) => {
            let valid = check_origin(table.source(), &origin, "the origin");
            if valid && tls.is_some() && origin.get_ref().starts_with("http://") {
                table.source().error(
                    origin.span(),
                    "the origin is `http`, and the listener speaks TLS",
                    "write `https`, or take `tls` away",
                );
            }
            origin.into_inner()
        }
        None if table.value("origin").is_some() => String::new(),
        None if !address.ip().is_loopback() => {
            let message = format!("`{key}` listens beyond this machine and has no `origin`");
            table.source().error(at, message, "add `origin = \"https://…\"`, its address as others see it: credentials and logins name it");
            String::new()
        }
        None => format!("{}://{address}", if tls.is_some() { "https" } else { "http" }),
    };
    let allowed_origins = table.texts("allowed_origins");
    for origin in &allowed_origins {
        check_origin(table.source(), origin, "an allowed origin");
    }
    let proxies = table.all_parsed("proxies", "write addresses, or blocks such as `10.0.0.0/8` whose other bits are zero");
    let (allowed_origins, proxies) = (allowed_origins.into_iter().map(Spanned::into_inner), proxies.into_iter().map(Spanned::into_inner));
    Listen { address, origin, tls, allowed_origins: allowed_origins.collect(), proxies: proxies.collect() }
}

/// Notes what is wrong with an origin, and says whether nothing is.
fn check_origin(source: Source<'_>, origin: &Spanned<String>, what: &str) -> bool {
    const MEND: &str = "write it like `https://host.example` or `https://host.example:8480`";
    let shown = super::fields::shown(origin.get_ref());
    match url::parse(origin.get_ref()) {
        Ok(url) if url.rest.is_empty() => return true,
        Ok(_) => source.error(origin.span(), format!("{what} `{shown}` goes on after its host"), MEND),
        Err((fault, mend)) => source.error(origin.span(), format!("{what} `{shown}` {fault}"), mend),
    }
    false
}

fn limits(table: &Fields<'_>) -> Limits {
    let default = Limits::default();
    let size = |key, range: RangeInclusive<u64>, default| size(table, key, range).unwrap_or(default);
    let count = |key, range: RangeInclusive<u64>, default: usize| {
        table.number(key, range).and_then(|number| usize::try_from(number.into_inner()).ok()).unwrap_or(default)
    };
    let time = |key, default: Duration| {
        let Some(time) = table.parsed::<Duration>(key, "write a whole number and a unit, such as `60s`") else { return default };
        if time.get_ref().std().is_zero() {
            table.source().error(time.span(), format!("`limits.{key}` is no time at all"), "write at least `1ms`");
        }
        time.into_inner()
    };
    Limits {
        body_bytes_max: size("body_bytes_max", 1 << 10..=1 << 30, default.body_bytes_max),
        depth_max: count("depth_max", 4..=127, default.depth_max),
        request_timeout: time("request_timeout", default.request_timeout),
        reply_bytes_max: size("reply_bytes_max", 1 << 10..=1 << 30, default.reply_bytes_max),
        upstream_timeout: time("upstream_timeout", default.upstream_timeout),
        call_timeout: time("call_timeout", default.call_timeout),
        // An entry of the log holds at most 65,535 bytes (C2SP tlog-tiles), and the rest of a record needs its part.
        arguments_logged_max: size("arguments_logged_max", 0..=48 << 10, default.arguments_logged_max),
        ledger_bytes_max: size("ledger_bytes_max", 16 << 10..=64 << 20, default.ledger_bytes_max),
        ledgers_bytes_max: size("ledgers_bytes_max", 16 << 20..=1 << 40, default.ledgers_bytes_max),
        written_bytes_max: size("written_bytes_max", 64 << 10..=16 << 30, default.written_bytes_max),
        calls_max: count("calls_max", 1..=1_000_000, default.calls_max),
        calls_per_execution_max: count("calls_per_execution_max", 1..=100_000, default.calls_per_execution_max),
        chain_max: count("chain_max", 1..=16, default.chain_max),
        executions_per_alert: count("executions_per_alert", 10..=1_000_000, default.executions_per_alert),
    }
}

/// A size in bytes, as a number or as a text with a unit.
struct Bytes(u64);

#[derive(Debug)]
struct InvalidSize;

impl fmt::Display for InvalidSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no size")
    }
}

impl FromStr for Bytes {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidSize)?);
        let factor = match unit.trim() {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(InvalidSize),
        };
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).map(Self).ok_or(InvalidSize)
    }
}

fn size(table: &Fields<'_>, key: &str, range: RangeInclusive<u64>) -> Option<usize> {
    const MEND: &str = "write a number of bytes, or a text such as `4MiB`";
    let value = table.value(key)?;
    let bytes = match value.get_ref() {
        DeValue::Integer(_) => table.number(key, range.clone())?.into_inner(),
        DeValue::String(_) => table.parsed::<Bytes>(key, MEND)?.into_inner().0,
        _ => {
            wrong_kind(table.source(), value, &format!("`limits.{key}`"), "a number of bytes, or a text such as `4MiB`");
            return None;
        }
    };
    if !range.contains(&bytes) {
        let mend = format!("write a size from {} to {} bytes", range.start(), range.end());
        table.source().error(value.span(), format!("`limits.{key}` is out of range"), mend);
        return None;
    }
    usize::try_from(bytes).ok()
}

/// A history, and the places of its patterns, which are resolved once all servers are known.
pub(super) struct DeclaredHistory {
    pub(super) history: History,
    pub(super) tools: Vec<Spanned<ToolPattern>>,
}

/// Reads the declared counters and sums.
pub(super) fn histories(file: &Fields<'_>) -> Vec<DeclaredHistory> {
    let read = |(name, value): (Spanned<String>, _)| {
        let word = |text: &str| {
            text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !word(name.get_ref()) {
            let message = format!("a history cannot be called `{}`", name.get_ref());
            file.source().error(name.span(), message, "use lower-case letters, digits and `_`: policies write `context.history.<name>`");
        }
        let table = Fields::of_value::<schema::HistoryTable>(file.source(), value, format!("`history.{}`", name.get_ref()))?;
        if table.value("tools").is_none() {
            table.missing("tools", "name the tools whose calls it counts, such as `tools = [\"bank/pay\"]`");
        }
        let tools: Vec<Spanned<ToolPattern>> = table.all_parsed("tools", "write `server/tool` or `server/*`");
        let pointer = |key| {
            let text = table.text(key)?;
            if !text.get_ref().starts_with('/') {
                let mend = format!("write a JSON pointer into the arguments, such as `/{}`", text.get_ref());
                table.source().error(text.span(), format!("`{}` is no JSON pointer", text.get_ref()), mend);
            }
            Some(text.into_inner())
        };
        let within = table.parsed::<Duration>("within", "write a whole number and a unit, such as `1h`");
        if let Some(within) = within.as_ref().filter(|within| within.get_ref().as_secs() == 0) {
            table.source().error(within.span(), "a history covers at least a second", "write at least `1s`");
        }
        let of = table.choice("of", &[("execution", HistoryOf::Execution), ("agent", HistoryOf::Agent)]);
        let of = of.map_or(HistoryOf::Execution, Spanned::into_inner);
        if within.is_none() && of == HistoryOf::Agent && table.value("within").is_none() {
            table.missing("within", "an agent's history has to end some time: add, for example, `within = \"1h\"`");
        }
        let history = History {
            name: Arc::from(name.get_ref().as_str()),
            tools: tools.iter().map(|tool| tool.get_ref().clone()).collect(),
            sum: pointer("sum"),
            by: pointer("by"),
            within: within.map(Spanned::into_inner),
            of,
        };
        Some(DeclaredHistory { history, tools })
    };
    file.members("history").into_iter().filter_map(read).collect()
}
