//! URLs as bundles may name them: `https`, or `http` to this machine alone, and never with a password inside.

/// A URL's parts, as far as a bundle needs them checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    /// Whether it is `https`.
    pub(super) is_https: bool,
    /// The host, without brackets or port.
    pub(super) host: &'a str,
    /// Path, query and fragment.
    pub(super) rest: &'a str,
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
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return Err(("has a port that is no number up to 65535", EXAMPLE));
    }
    if !is_https && !is_loopback(host) {
        return Err(("is not encrypted", "use `https`; `http` is for this machine alone (`127.0.0.1`, `::1`, `localhost`)"));
    }
    Ok(Url { is_https, host, rest })
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
}
