//! Switches that turn one protection off, so that a test can see the demo fail without it. They exist only in builds with
//! the feature `test-switches`; in all others every protection is on.
//!
//! `role`, `policy`, `flow`, `pin` change the bundle, `proof` and `grant` what the sidecar asks for, `revocation` what the
//! play does, `tamper` the log. That a call is recorded before it is done has no switch: the other order does not compile.

/// Whether the protection `name` is off.
#[cfg(feature = "test-switches")]
pub(crate) fn is_off(name: &str) -> bool {
    std::env::var("BAILIWICK_TEST_OFF").is_ok_and(|off| off == name)
}

/// Whether the protection `name` is off: never, in this build.
#[cfg(not(feature = "test-switches"))]
pub(crate) const fn is_off(_name: &str) -> bool {
    false
}

/// The bundle's file `name` without the protection that is off; nothing for a file that is left out.
pub(super) fn changed(name: &str, text: String) -> Option<String> {
    match name {
        "policies/payment-details.cedar" if is_off("policy") => None,
        "agents/support-summarizer.toml" if is_off("role") => Some(text.replace("call   = [", "call   = [ \"crm/*\", \"analytics/*\",")),
        "agents/support-summarizer.toml" if is_off("proof") => Some(text.replace("\"dpop\"", "\"bearer\"")),
        "servers/reports.toml" if is_off("flow") => {
            Some(text.lines().filter(|line| !line.starts_with("targets") && !line.starts_with("otherwise")).collect::<Vec<_>>().join("\n"))
        }
        "servers/analytics.tools.json" if is_off("pin") => Some(super::servers::offered_analytics()),
        _ => Some(text),
    }
}
