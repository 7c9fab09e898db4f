//! URLs as bundles may name them: `https`, or `http` to this machine alone, and never with a password inside.

/// A URL's parts, as far as a bundle needs them checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    /// Whether it is `https`.
    pub(super) is_https: bool,
    /// The host, without brackets or port.
    pub(super) host: &'a str,
    /// The port, where it is written.
    pub(super) port: Option<u16>,
    /// Path, query and fragment.
    pub(super) rest: &'a str,
}

impl<'a> Url<'a> {
    fn path(&self) -> &'a str {
        self.rest.split(['?', '#']).next().unwrap_or_default()
    }

    fn port_or_implied(&self) -> u16 {
        self.port.unwrap_or(if self.is_https { 443 } else { 80 })
    }
}

/// Reads a URL; fails with what is wrong and what would mend it.
pub(super) fn parse(text: &str) -> Result<Url<'_>, (&'static str, &'static str)> {
    const EXAMPLE: &str = "write it like `https://host.example/path`";
    let (is_https, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return Err(("is not an `https` URL", EXAMPLE)),
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '"' | '<' | '>')) {
        return Err(("holds a character that no URL may hold", EXAMPLE));
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(("holds a user name or a password", "take it out, and say under `auth` what is presented to the server"));
    }
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (host, port) = inner.split_once(']').ok_or(("has no `]` after its address", EXAMPLE))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(("names no IPv6 address between brackets", EXAMPLE));
        }
        (host, port.strip_prefix(':').or(if port.is_empty() { Some("") } else { None }).ok_or(("has no port after its address", EXAMPLE))?)
    } else {
        authority.split_once(':').unwrap_or((authority, ""))
    };
    let host_valid = authority.starts_with('[') || host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if host.is_empty() || !host_valid {
        return Err(("names no host", EXAMPLE));
    }
    let port = if port.is_empty() { None } else { Some(port.parse().map_err(|_| ("has a port that is no number up to 65535", EXAMPLE))?) };
    if !is_https && !is_loopback(host) {
        return Err(("is not encrypted", "use `https`; `http` is for this machine alone (`127.0.0.1`, `::1`, `localhost`)"));
    }
    Ok(Url { is_https, host, port, rest })
}

/// Addresses that a bundle names, each with all that is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Below(Vec<String>);

impl Below {
    /// Those that are these URLs, which were checked, or below them.
    pub(crate) const fn of(urls: Vec<String>) -> Self {
        Self(urls)
    }

    /// Whether `url` is one of them: of the same scheme, host and port, at the path or below it. One that names this machine without a
    /// port stands for any of its ports, since programs take what is free (RFC 8252 §7.3). What a server might read as another path,
    /// such as `..`, is none.
    pub fn covers(&self, url: &str) -> bool {
        let Ok(wanted) = parse(url) else { return false };
        let path = wanted.path().to_ascii_lowercase();
        let is_plain = !["/.", "%2e", "%2f", "%5c", "//"].iter().any(|odd| path.contains(odd));
        let is_below = |named: &String| {
            let Ok(named) = parse(named) else { return false };
            let is_there = named.is_https == wanted.is_https && named.host.eq_ignore_ascii_case(wanted.host);
            let any_port = named.port.is_none() && is_loopback(named.host);
            let under = wanted.path().strip_prefix(named.path().trim_end_matches('/'));
            is_there
                && (any_port || named.port_or_implied() == wanted.port_or_implied())
                && under.is_some_and(|under| under.is_empty() || under.starts_with('/'))
        };
        is_plain && self.0.iter().any(is_below)
    }
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_urls_are_taken() {
        for (text, taken) in [
            ("https://tickets.internal.acme.example/mcp", true),
            ("https://h:8443", true),
            ("http://127.0.0.1:3001/mcp", true),
            ("http://[::1]:3001/mcp", true),
            ("http://localhost/mcp", true),
            ("http://localhost.evil.example/mcp", false),
            ("http://tickets.example/mcp", false),
            ("ftp://h/", false),
            ("tickets.example", false),
            ("https://", false),
            ("https://user:secret@h/", false),
            ("https://h:99999/", false),
            ("https://h\n.example/", false),
            ("https://[::1/", false),
            ("https://[x]/", false),
            ("https://[::1]x/", false),
        ] {
            assert_eq!(parse(text).is_ok(), taken, "{text}");
        }
    }

    #[test]
    fn what_is_below_a_named_address() {
        let below = Below::of(["https://hooks.example/a2a/", "http://localhost", "https://h.example:8443"].map(str::to_owned).into());
        for (url, covered) in [
            ("https://hooks.example/a2a/news", true),
            ("https://hooks.example/a2a", true),
            ("https://HOOKS.example:443/a2a/news?x=1", true),
            ("https://hooks.example/a2abc", false),
            ("https://hooks.example/", false),
            ("https://hooks.example/a2a/../admin", false),
            ("https://hooks.example/a2a/%2e%2e/admin", false),
            ("https://hooks.example/a2a//x", false),
            ("https://hooks.example.evil.example/a2a/", false),
            ("https://hooks.example@evil.example/a2a/", false),
            ("https://hooks.example:8443/a2a/", false),
            ("http://hooks.example/a2a/", false),
            ("http://localhost:4711/webhook", true),
            ("http://localhost/", true),
            ("https://localhost/", false),
            ("http://127.0.0.1:4711/", false),
            ("https://h.example:8443/x", true),
            ("https://h.example/x", false),
            ("", false),
        ] {
            assert_eq!(below.covers(url), covered, "{url}");
        }
    }
}
