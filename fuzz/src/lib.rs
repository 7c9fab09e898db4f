//! Every parser of bytes that somebody else may choose, each as a fuzz target.
//!
//! A target is a function of bytes that must not panic, must end soon, and that holds what is promised of its parser: what
//! was read and is written again is read as the same. It says whether the parser took the bytes, so that its corpus can be
//! shown to reach both sides. `cargo xtask fuzz` lets libFuzzer search; the smoke test walks the kept corpora and mutations
//! of them on every run of the tests.

mod targets;

/// One parser under attack.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus under `fuzz/corpus`.
    pub name: &'static str,
    /// Reads the bytes and says whether they were taken. Panics when something that was promised does not hold.
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "json", run: targets::core::json },
    Target { name: "names", run: targets::core::names },
    Target { name: "record", run: targets::core::record },
    Target { name: "fold", run: targets::core::fold },
    Target { name: "grant", run: targets::core::grant },
    Target { name: "bundle", run: targets::core::bundle },
    Target { name: "definition", run: targets::core::definition },
    Target { name: "flow-value", run: targets::flow::value },
    Target { name: "flow-result", run: targets::flow::result },
    Target { name: "jws", run: targets::identity::jws },
    Target { name: "access-token", run: targets::identity::access_token },
    Target { name: "dpop-proof", run: targets::identity::dpop_proof },
    Target { name: "signal", run: targets::identity::signal },
    Target { name: "jwk", run: targets::identity::jwk },
    Target { name: "form", run: targets::identity::form },
    Target { name: "client", run: targets::identity::client },
    Target { name: "mcp-message", run: targets::mcp::message },
    Target { name: "mcp-headers", run: targets::mcp::headers },
    Target { name: "server-message", run: targets::mcp::server_message },
    Target { name: "server-events", run: targets::mcp::server_events },
    Target { name: "a2a-request", run: targets::a2a::request },
    Target { name: "a2a-card", run: targets::a2a::card },
    Target { name: "cloudtrail", run: targets::detect::cloudtrail },
    Target { name: "cloudtrail-digest", run: targets::detect::digest },
    Target { name: "guardduty", run: targets::detect::guardduty },
    Target { name: "rules", run: targets::detect::rules },
    Target { name: "note", run: targets::log::note },
    Target { name: "receipt", run: targets::log::receipt },
    Target { name: "tile", run: targets::log::tile },
    Target { name: "pending", run: targets::log::pending },
];
