//! Reading `[[agent.outbound]]`: for whom else, beside the gateway, an agent may have tokens of ours.

use std::collections::BTreeMap;

use toml::Spanned;

use super::fields::Fields;
use super::{schema, url};
use crate::identity::Algorithm;
use crate::identity::outbound::{TAG_CHARS_MAX, TAG_NAME_CHARS_MAX, is_tag_text};
use crate::model::Duration;

/// The longest that such a token may live: it is good wherever it is shown, and nobody there asks whether it was revoked.
const TTL_MAX: Duration = Duration::seconds(60 * 60);
/// The shortest that clouds take without trouble between clocks.
const TTL_MIN: Duration = Duration::seconds(60);
/// The most tags that AWS takes for one session.
const TAGS_MAX: usize = 50;

/// Somebody who accepts our tokens: a cloud, a Kubernetes API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The one `aud` of the token, as the other side wants it.
    pub audience: String,
    /// What it is signed with; RS256 is what all of them take.
    pub algorithm: Algorithm,
    /// How long it lives.
    pub ttl: Duration,
    /// The AWS session tags that it carries; none where there are none.
    pub tags: BTreeMap<String, Said>,
    /// The AWS source identity that it carries.
    pub source_identity: Option<Said>,
    /// Whether an execution gets it also after it has read what a third party may have written, or what is confidential.
    pub after_untrusted: bool,
    /// What is asserted to an authorization server of another domain in place of a token; then the audience is its issuer.
    pub id_jag: Option<IdJag>,
}

/// What an identity assertion for another domain's authorization server says (ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdJag {
    /// The agent's client id at that authorization server.
    pub client_id: String,
    /// The resource there, such as an MCP server.
    pub resource: String,
    /// The scopes that the assertion names; none, and the server decides.
    pub scopes: Vec<String>,
}

/// What a token says at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The agent's name.
    Agent,
    /// Who answers for it.
    Owner,
    /// The person on whose behalf it acts, or else the agent's name.
    Subject,
    /// The execution.
    Execution,
    /// This text.
    Text(String),
}

/// Reads them all.
pub(super) fn outbound(agent: &Fields<'_>) -> Vec<Outbound> {
    let mut all = Vec::<Outbound>::new();
    for table in agent.tables::<schema::OutboundTable>("outbound") {
        let mend = "write the `aud` that the other side asks for, such as `sts.amazonaws.com`";
        let audience = table.required_text("audience", mend);
        if let Some(audience) = audience.as_ref().filter(|audience| all.iter().any(|other| other.audience == *audience.get_ref())) {
            let message = format!("the audience `{}` is declared twice", super::fields::shown(audience.get_ref()));
            table.source().error(audience.span(), message, "keep one of the two");
        }
        let algorithm = table.choice("algorithm", &[("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256)]);
        let ttl = table.parsed::<Duration>("ttl", "write a whole number and a unit, such as `5m`");
        if let Some(ttl) = ttl.as_ref().filter(|ttl| !(TTL_MIN..=TTL_MAX).contains(ttl.get_ref())) {
            let message = format!("a token for others cannot live `{}`", ttl.get_ref());
            table.source().error(ttl.span(), message, "write from `1m` to `1h`; nobody who takes it asks whether it was revoked");
        }
        let after_untrusted = table.flag("after_untrusted");
        if let Some(flag) = after_untrusted.as_ref().filter(|flag| *flag.get_ref()) {
            let mend = "leave it out, so that the token has to be had before the execution reads such things";
            table.source().warning(flag.span(), "whoever wrote what the agent read may have it act there, out of sight", mend);
        }
        let source_identity = table.choice("source_identity", &[("subject", ()), ("agent", ())]).map(|_| said(&table, "source_identity"));
        let tags = tags(&table);
        let id_jag = id_jag(&table);
        let Some(audience) = audience else { continue };
        all.push(Outbound {
            audience: audience.into_inner(),
            algorithm: algorithm.map_or(Algorithm::Rs256, Spanned::into_inner),
            ttl: ttl.map_or(Duration::seconds(300), Spanned::into_inner),
            tags,
            source_identity: source_identity.flatten(),
            after_untrusted: after_untrusted.is_some_and(Spanned::into_inner),
            id_jag,
        });
    }
    all
}

fn id_jag(outbound: &Fields<'_>) -> Option<IdJag> {
    let table = outbound.table::<schema::IdJagTable>("id_jag")?;
    for key in ["tags", "source_identity"] {
        if let Some(value) = outbound.value(key) {
            table.source().error(value.span(), format!("`{key}` means nothing with `id_jag`"), "take it out");
        }
    }
    let client_id = table.required_text("client_id", "write the agent's client id at that authorization server");
    let resource = table.required_text("resource", "write the identifier of the resource, such as the MCP server's URL");
    if let Some(resource) = &resource
        && let Err((fault, mend)) = url::parse(resource.get_ref())
    {
        table.source().error(resource.span(), format!("the resource {fault}"), mend);
    }
    let scopes = table.texts("scopes").into_iter().map(Spanned::into_inner).collect();
    Some(IdJag { client_id: client_id?.into_inner(), resource: resource?.into_inner(), scopes })
}

/// The word under `key`, without braces.
fn said(table: &Fields<'_>, key: &str) -> Option<Said> {
    match table.value(key)?.get_ref().as_str()? {
        "subject" => Some(Said::Subject),
        _ => Some(Said::Agent),
    }
}

fn tags(table: &Fields<'_>) -> BTreeMap<String, Said> {
    let members = table.text_members("tags");
    let at = table.value("tags").map_or_else(|| table.span(), Spanned::span);
    if members.len() > TAGS_MAX {
        table.source().error(at.clone(), "AWS takes no more than 50 tags for a session", "leave some out");
    }
    let read = |(name, value): (String, Spanned<String>)| {
        if name.is_empty() || name.chars().count() > TAG_NAME_CHARS_MAX || !is_tag_text(&name) {
            let message = format!("`{}` is no tag's name that AWS takes", super::fields::shown(&name));
            table.source().error(at.clone(), message, "write letters, digits, spaces and `_.:/=+-@`, at most 128 of them");
        }
        let said = match value.get_ref().as_str() {
            "{agent}" => Said::Agent,
            "{owner}" => Said::Owner,
            "{subject}" => Said::Subject,
            "{execution}" => Said::Execution,
            text => {
                if text.chars().count() > TAG_CHARS_MAX || !is_tag_text(text) {
                    let message = format!("`{}` is no tag's value that AWS takes", super::fields::shown(text));
                    let mend = "write letters, digits, spaces and `_.:/=+-@`, at most 256 of them; or all of it `{agent}`, `{owner}`, `{subject}` or `{execution}`";
                    table.source().error(value.span(), message, mend);
                }
                Said::Text(text.to_owned())
            }
        };
        (name, said)
    };
    members.into_iter().map(read).collect()
}
