//! Telling a secret by its looks, so that it can be pointed out and moved out of a bundle.
//!
//! A guess, and only ever used to warn or to move a value into a file: nothing is allowed because something does not
//! look like a secret.

/// Beginnings by which well-known services mark their keys.
const PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "rk_live_",
    "pk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "hf_",
    "npm_",
    "pypi-",
    "dop_v1_",
    "SG.",
    "shpat_",
    "lin_api_",
    "ntn_",
    "secret_",
    "tvly-",
    "fc-",
    "BSA",
    "Bearer ",
    "Basic ",
    "-----BEGIN ",
];

/// Words in a variable's or header's name that say that its value is a secret.
const WORDS: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "api_key",
    "access_key",
    "private_key",
    "authorization",
    "credential",
];

/// Whether `value`, found under `name`, looks like a secret. A reference (`file:…`, `${…}`, `$NAME`) is none.
pub fn looks_secret(name: &str, value: &str) -> bool {
    let value = value.trim();
    if value.len() < 4 || value.starts_with("file:") || value.starts_with('$') || value.starts_with("{{") {
        return false;
    }
    if has_password(value) || PREFIXES.iter().any(|prefix| value.starts_with(prefix) && value.len() >= prefix.len().saturating_add(8)) {
        return true;
    }
    let is_reference = value.contains("://") || value.starts_with(['/', '.', '~']) || matches!(value, "true" | "false" | "none" | "null");
    !is_reference && (names_secret(name) || is_random(value))
}

/// Whether a name says that what it names is a secret.
fn names_secret(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace('-', "_");
    let about = ["_url", "_uri", "_file", "_path", "_name", "_id", "_type", "_ttl", "_expiry", "_endpoint"];
    if about.iter().any(|end| name.ends_with(end)) {
        return false;
    }
    WORDS.iter().any(|word| name.contains(word)) || name.ends_with("_key") || name == "key" || name.ends_with("_pat") || name == "pat"
}

/// Whether a URL holds a password, as database URLs do.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, password)| !password.is_empty()))
}

/// Whether a text is one long word of letters and digits that nobody would make up: at least 24 characters and 3.5 bits
/// of entropy in each.
fn is_random(value: &str) -> bool {
    let word = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'='));
    let mixed = value.bytes().any(|b| b.is_ascii_digit()) && value.bytes().any(|b| b.is_ascii_alphabetic());
    if !word || !mixed || value.len() < 24 {
        return false;
    }
    let mut counts = std::collections::BTreeMap::<u8, u32>::new();
    for byte in value.bytes() {
        let count = counts.entry(byte).or_default();
        *count = count.saturating_add(1);
    }
    let total = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
    let entropy: f64 = counts.values().map(|count| f64::from(*count) / total).map(|part| -part * part.log2()).sum();
    entropy >= 3.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret() {
        for (name, value, secret) in [
            ("GITHUB_PERSONAL_ACCESS_TOKEN", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", true),
            ("GITHUB_PERSONAL_ACCESS_TOKEN", "<YOUR_TOKEN>", true),
            ("Authorization", "Bearer abcdefgh12345678", true),
            ("BRAVE_API_KEY", "whatever", true),
            ("DATABASE_URL", "postgresql://app:hunter2@db.example/app", true),
            ("X", "f3a9c1d27b6e4580a1b2c3d4e5f60718", true),
            ("--api-key", "abcd1234", true),
            ("DATABASE_URL", "postgresql://localhost/app", false),
            ("TOKEN_URL", "https://idp.example/token", false),
            ("TOKEN", "${input:token}", false),
            ("TOKEN", "file:secrets/token", false),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/credentials.json", false),
            ("LOG_LEVEL", "debug", false),
            ("DEBUG", "true", false),
            ("PACKAGE", "@modelcontextprotocol/server-filesystem", false),
            ("ARG", "modelcontextprotocol-server-everything", false),
        ] {
            assert_eq!(looks_secret(name, value), secret, "{name}={value}");
        }
    }
}
