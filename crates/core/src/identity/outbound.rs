//! A token of ours for somebody who accepts them: a cloud, a Kubernetes API server.
//!
//! It says what all of them can read: one `aud`, a stable `sub`, flat claims. What AWS makes of it besides, session tags and the
//! source identity of all that a session does, is in AWS' own claims.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::jws;
use super::key::{Signer, SigningFailed};
use super::token::act;
use crate::bundle::{IdJag, Outbound, Said};
use crate::model::{Digest, ExecutionId, SpiffeId};

/// The type of an identity assertion for another domain's authorization server.
pub const ID_JAG: &str = "oauth-id-jag+jwt";

/// The longest `sub` that all of them take, in bytes (Google's `google.subject`).
pub const SUB_BYTES_MAX: usize = 127;

/// The longest name of a session tag, in characters (AWS STS, `Tag.Key`).
pub const TAG_NAME_CHARS_MAX: usize = 128;

/// The longest value of a session tag, in characters (AWS STS, `Tag.Value`).
pub const TAG_CHARS_MAX: usize = 256;

/// How long a source identity is, in characters (AWS STS, `SourceIdentity`).
const SOURCE_IDENTITY_CHARS: RangeInclusive<usize> = 2..=64;

/// What a token for others says.
#[derive(Clone, Debug)]
pub struct OutboundToken<'a> {
    /// The issuer (`iss`).
    pub issuer: &'a str,
    /// The agent (`sub`): the same in every token that it ever has.
    pub agent: &'a SpiffeId,
    /// Who answers for it.
    pub owner: &'a str,
    /// On whose behalf it acts.
    pub subject: Option<&'a str>,
    /// The agents that it acts for, nearest first.
    pub chain: Vec<SpiffeId>,
    /// The execution, where there is one.
    pub execution: Option<ExecutionId>,
    /// The token's own id (`jti`).
    pub id: &'a str,
    /// When it was issued (`iat`, `nbf`), in seconds since the epoch.
    pub issued_s: i64,
    /// When it expires (`exp`), in seconds since the epoch.
    pub expires_s: i64,
    /// The thumbprint of the key that an assertion is bound to.
    pub key: Option<&'a str>,
    /// For whom it is, and what the bundle says of it.
    pub to: &'a Outbound,
}

impl OutboundToken<'_> {
    /// The token, signed; with a `kid`, and of the type that nobody takes for a credential of ours.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, SigningFailed> {
        match &self.to.id_jag {
            Some(to) => jws::sign(ID_JAG, &self.asserted(to), signer),
            None => jws::sign("JWT", &self.claims(), signer),
        }
    }

    /// What another domain's authorization server is told: the person, and that the agent acts (ID-JAG §3).
    fn asserted(&self, to: &IdJag) -> Value {
        let mut claims = json!({
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.to.audience,
            "client_id": to.client_id,
            "resource": to.resource,
            "iat": self.issued_s,
            "exp": self.expires_s,
            "jti": self.id,
            "act": act(self.issuer, self.agent, &self.chain),
        });
        if let Some(claims) = claims.as_object_mut() {
            if !to.scopes.is_empty() {
                claims.insert("scope".to_owned(), json!(to.scopes.join(" ")));
            }
            if let Some(key) = self.key {
                claims.insert("cnf".to_owned(), json!({ "jkt": key }));
            }
        }
        claims
    }

    fn claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", json!(self.issuer));
        put("sub", json!(self.agent.to_string()));
        put("aud", json!(self.to.audience));
        put("iat", json!(self.issued_s));
        put("nbf", json!(self.issued_s));
        put("exp", json!(self.expires_s));
        put("jti", json!(self.id));
        put("agent", json!(self.agent.agent().as_str()));
        put("owner", json!(self.owner));
        if let Some(execution) = self.execution {
            put("execution", json!(execution.to_string()));
        }
        if let Some(subject) = self.subject {
            put("person", json!(subject));
        }
        if !self.chain.is_empty() {
            let names: Vec<_> = self.chain.iter().map(|agent| agent.agent().as_str()).collect();
            put("chain", json!(names.join(" ")));
        }
        if !self.to.tags.is_empty() {
            let tags: Map<_, _> = self.to.tags.iter().map(|(name, said)| (name.clone(), json!([self.tag(said)]))).collect();
            let names: Vec<_> = self.to.tags.keys().collect();
            // Transitive, so that a role which is assumed from this session can neither drop nor replace them.
            put("https://aws.amazon.com/tags", json!({ "principal_tags": tags, "transitive_tag_keys": names }));
        }
        if let Some(said) = &self.to.source_identity {
            // A person is written `issuer:sub`, and AWS takes no colon there.
            let text = self.said(said).replacen(':', "=", 1);
            put("https://aws.amazon.com/source_identity", json!(fitted(&text, SOURCE_IDENTITY_CHARS, is_source_identity_text)));
        }
        claims
    }

    fn tag(&self, said: &Said) -> String {
        fitted(&self.said(said), 0..=TAG_CHARS_MAX, is_tag_text)
    }

    fn said(&self, said: &Said) -> String {
        match said {
            Said::Agent => self.agent.agent().to_string(),
            Said::Owner => self.owner.to_owned(),
            Said::Subject => self.subject.map_or_else(|| self.agent.agent().to_string(), str::to_owned),
            Said::Execution => self.execution.map(|execution| execution.to_string()).unwrap_or_default(),
            Said::Text(text) => text.clone(),
        }
    }
}

/// The text where AWS takes it, or else its digest, which whoever has the text can find again.
fn fitted(text: &str, chars: RangeInclusive<usize>, fits: fn(&str) -> bool) -> String {
    if chars.contains(&text.chars().count()) && fits(text) {
        return text.to_owned();
    }
    format!("sha256={}", URL_SAFE_NO_PAD.encode(Digest::of(text.as_bytes()).as_bytes()))
}

/// Whether a text has only characters that AWS takes in a session tag: letters, digits, spaces and `_.:/=+-@`.
pub fn is_tag_text(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
}

/// Whether a text has only characters that AWS takes in a source identity.
fn is_source_identity_text(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_does_not_take_is_told_by_its_digest() {
        let source = |text: &str| fitted(text, SOURCE_IDENTITY_CHARS, is_source_identity_text);
        assert_eq!(source("login=ana@acme.example"), "login=ana@acme.example");
        for text in ["login=auth0|7", "é", "x", "", &"x".repeat(65)] {
            let fitted = source(text);
            assert!(fitted.starts_with("sha256=") && fitted.len() == 50 && is_source_identity_text(&fitted), "{fitted}");
        }
        assert_ne!(source("a|b"), source("a;b"));
        assert!(is_tag_text("Größe: team=a/b+c-d@e_f.g 1") && !is_tag_text("a|b") && !is_tag_text("a\nb"));
    }
}
