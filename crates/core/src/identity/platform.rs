//! What the tokens of each platform are like: the claims that a workload's always has, what tells it from a person's, and
//! which claims pin one workload for good.
//!
//! A signature says that a platform made a token; it does not say that the token is of the kind that the bundle means. A name
//! can be given to another, an id cannot: [`pinning`] says which of the two a declaration relies on.

use serde_json::{Map, Value};

use super::jws::InvalidJwt;
use super::spiffe;
use crate::bundle::{Claims, Issuer};

/// Who makes an issuer's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Platform {
    /// Kubernetes: projected tokens of service accounts.
    Kubernetes,
    /// GitHub Actions.
    Github,
    /// GitLab CI/CD: `id_tokens`.
    Gitlab,
    /// Google Cloud: identity tokens of service accounts and of instances.
    Google,
    /// Microsoft Entra: tokens of managed identities and service principals.
    Azure,
    /// Amazon Web Services: the tokens of `GetWebIdentityToken`, or signed requests for `GetCallerIdentity`.
    Aws,
    /// SPIFFE: JWT-SVIDs and X.509-SVIDs of one trust domain.
    Spiffe,
    /// Any other issuer of JSON Web Tokens, of workloads or of people.
    Oidc,
}

/// How one claim, or a set of them, fails to pin a workload: what may happen, and what to write instead.
pub(crate) type Unpinned = (&'static str, &'static str);

/// Where AWS hands out tokens of its own accounts (`GetWebIdentityToken`).
const AWS_TOKENS: &str = ".tokens.sts.global.api.aws";

/// The member of an AWS token that says whose it is.
const AWS_CLAIMS: &str = "https://sts.amazonaws.com/";

impl Platform {
    /// Each with the word for it in a bundle.
    pub const ALL: [(&str, Self); 8] = [
        ("kubernetes", Self::Kubernetes),
        ("github", Self::Github),
        ("gitlab", Self::Gitlab),
        ("google", Self::Google),
        ("azure", Self::Azure),
        ("aws", Self::Aws),
        ("spiffe", Self::Spiffe),
        ("oidc", Self::Oidc),
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, platform)| *platform == self).map_or("oidc", |(word, _)| word)
    }

    /// The platform whose public issuers have such a URL; any other is [`Platform::Oidc`].
    pub fn of_issuer(issuer: &str) -> Self {
        let host = host(issuer);
        let path = issuer.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        match host {
            _ if issuer.starts_with("spiffe://") => Self::Spiffe,
            "token.actions.githubusercontent.com" => Self::Github,
            _ if path == "_services/token" => Self::Github,
            "gitlab.com" => Self::Gitlab,
            "accounts.google.com" => Self::Google,
            "sts.windows.net" | "login.microsoftonline.com" | "login.microsoftonline.us" | "login.partner.microsoftonline.cn" => {
                Self::Azure
            }
            "container.googleapis.com" => Self::Kubernetes,
            _ if host == "kubernetes.default.svc" || host.starts_with("kubernetes.default.svc.") => Self::Kubernetes,
            _ if host.starts_with("oidc.eks.") || host.starts_with("oidc-eks.") || host.ends_with(".oic.prod-aks.azure.com") => {
                Self::Kubernetes
            }
            _ if host.ends_with(AWS_TOKENS) || is_sts(host) => Self::Aws,
            _ => Self::Oidc,
        }
    }

    /// The algorithms that it signs with; those that a bundle accepts unless it says otherwise.
    pub const fn algorithms(self) -> &'static [&'static str] {
        match self {
            Self::Kubernetes | Self::Oidc => &["RS256", "ES256"],
            Self::Github | Self::Gitlab | Self::Google | Self::Azure => &["RS256"],
            Self::Aws => &["RS256", "ES384"],
            Self::Spiffe => SVID_ALGORITHMS,
        }
    }

    /// Whether its tokens may name people at all. A platform that knows workloads alone never vouches for a person.
    pub const fn knows_people(self) -> bool {
        matches!(self, Self::Gitlab | Self::Google | Self::Azure | Self::Oidc)
    }
}

/// The algorithms that a JWT-SVID may have (JWT-SVID §2.1).
pub const SVID_ALGORITHMS: &[&str] = &["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

/// Whether an issuer is the AWS Security Token Service, to which workloads sign requests, and no maker of tokens.
pub fn is_asked(issuer: &Issuer) -> bool {
    issuer.kind == Platform::Aws && is_sts(host(&issuer.issuer))
}

/// The host of a URL, without its port.
pub(crate) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

/// Whether a host is one of the AWS Security Token Service: the global one, or that of a region, in any partition.
pub(crate) fn is_sts(host: &str) -> bool {
    let Some(rest) = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn")) else { return false };
    let (service, region) = rest.split_once('.').map_or((rest, None), |(service, region)| (service, Some(region)));
    let is_region = |region: &str| {
        region.contains('-')
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !region.starts_with('-')
    };
    matches!(service, "sts" | "sts-fips") && region.is_none_or(is_region)
}

/// Whether the claims of a token of `issuer`, whose signature, audience and time held, are those of a workload of its
/// platform. Fails for a person's token, for one of an older kind, and where two claims contradict each other.
pub fn workload(issuer: &Issuer, claims: &Map<String, Value>) -> Result<(), InvalidJwt> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let needs = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(InvalidJwt::Platform(what)) };
    match issuer.kind {
        Platform::Kubernetes => kubernetes(claims),
        Platform::Github => {
            for id in ["repository_id", "repository_owner_id"] {
                needs(is_number(text(id)), "it has no `repository_id` or `repository_owner_id`")?;
            }
            let Some(sub) = GithubSub::parse(text("sub")) else { return Ok(()) };
            let named = |id: Option<&str>, claim: &str| id.is_none_or(|id| id == text(claim));
            needs(
                named(sub.owner_id, "repository_owner_id") && named(sub.repository_id, "repository_id"),
                "the ids in its `sub` are others than its claims",
            )?;
            let repository = format!("{}/{}", sub.owner, sub.repository);
            needs(text("repository").eq_ignore_ascii_case(&repository), "the repository in its `sub` is another than in its claims")
        }
        Platform::Gitlab => {
            // GitLab signs people's logins under the same issuer; only a job's token says which job.
            let is_job = ["project_id", "pipeline_id", "job_id"].iter().all(|id| is_number(text(id)));
            needs(is_job, "it has no `project_id`, `pipeline_id` and `job_id`: it is no job's token")
        }
        Platform::Google => {
            needs(is_number(text("sub")), "its `sub` is no numeric id")?;
            let is_login = text("azp").ends_with(".apps.googleusercontent.com");
            needs(!is_login, "its `azp` is an application that people sign in to")?;
            let verified = claims.get("email_verified").and_then(Value::as_bool).unwrap_or_default();
            needs(!claims.contains_key("email") || verified, "its `email` is not verified")?;
            let is_service = !claims.contains_key("email") || text("email").ends_with(".gserviceaccount.com");
            needs(is_service, "its `email` is no service account's")
        }
        Platform::Azure => {
            needs(
                issuer.issuer.split('/').skip(3).any(|part| part == text("tid") && !part.is_empty()),
                "its `tid` is not the tenant of its issuer",
            )?;
            needs(!text("oid").is_empty(), "it has no `oid`")?;
            needs(!claims.contains_key("scp"), "it has `scp`: somebody signed in, and an application acts for them")?;
            needs(matches!(text("idtyp"), "" | "app"), "its `idtyp` is not `app`")
        }
        Platform::Aws => {
            let own = claims.get(AWS_CLAIMS).and_then(Value::as_object);
            let account = own.and_then(|own| own.get("aws_account")).and_then(Value::as_str).unwrap_or_default();
            needs(!account.is_empty(), "it does not say its `aws_account`")?;
            needs(issuer.account.as_deref() == Some(account), "it is of another AWS account")?;
            needs(arn_account(text("sub")) == Some(account), "its `sub` is no ARN of its own account")
        }
        Platform::Spiffe => {
            let id = spiffe::Id::parse(text("sub")).map_err(|_| InvalidJwt::Platform("its `sub` is no SPIFFE id"))?;
            needs(Some(id.trust_domain()) == spiffe::trust_domain(&issuer.issuer), "its `sub` is of another trust domain")?;
            needs(!id.path().is_empty(), "its `sub` is a trust domain itself and no workload")
        }
        Platform::Oidc => Ok(()),
    }
}

/// Whether the claims of a token of `issuer`, whose signature, audience and time held, may name a person: not where its
/// platform knows workloads alone, and not where they are a workload's.
pub fn person(issuer: &Issuer, claims: &Map<String, Value>) -> Result<(), InvalidJwt> {
    if !issuer.kind.knows_people() {
        return Err(InvalidJwt::Platform("its platform knows workloads, and no people"));
    }
    match issuer.kind {
        Platform::Oidc => Ok(()),
        Platform::Azure if claims.get("idtyp").is_none_or(|kind| kind.as_str() == Some("user")) && claims.contains_key("scp") => Ok(()),
        _ if workload(issuer, claims).is_ok() => Err(InvalidJwt::Platform("it is a workload's token, and names no person")),
        _ => Ok(()),
    }
}

/// What a projected token of a service account has (Kubernetes, bound service account tokens). A token of a secret, as
/// clusters made them before, has no end and names its secret.
fn kubernetes(claims: &Map<String, Value>) -> Result<(), InvalidJwt> {
    const OLD: InvalidJwt = InvalidJwt::Platform("it is a token of a secret (`kubernetes.io/serviceaccount/…`), which has no end");
    if claims.keys().any(|name| name.starts_with("kubernetes.io/serviceaccount/")) {
        return Err(OLD);
    }
    let bound = claims.get("kubernetes.io").and_then(Value::as_object);
    let bound = bound.ok_or(InvalidJwt::Platform("it has no `kubernetes.io`: it is not bound to a service account"))?;
    let account = |member: &str| bound.get("serviceaccount")?.get(member)?.as_str();
    let (Some(namespace), Some(name), Some(_)) = (bound.get("namespace").and_then(Value::as_str), account("name"), account("uid")) else {
        return Err(InvalidJwt::Platform("its `kubernetes.io` names no service account with namespace and uid"));
    };
    if claims.get("sub").and_then(Value::as_str) != Some(&format!("system:serviceaccount:{namespace}:{name}")) {
        return Err(InvalidJwt::Platform("its `sub` is another service account than its `kubernetes.io`"));
    }
    if !claims.contains_key("iat") {
        return Err(InvalidJwt::Platform("it does not say when it was issued"));
    }
    Ok(())
}

/// The `sub` of a GitHub token in its usual forms: `repo:OWNER/NAME:…`, and since 2026 `repo:OWNER@ID/NAME@ID:…`, which stays
/// true when a repository is renamed. Owners may choose other forms, which are no contradiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GithubSub<'a> {
    /// The owner's name.
    pub owner: &'a str,
    /// The owner's id, in the newer form.
    pub owner_id: Option<&'a str>,
    /// The repository's name.
    pub repository: &'a str,
    /// The repository's id, in the newer form.
    pub repository_id: Option<&'a str>,
}

impl<'a> GithubSub<'a> {
    /// Reads one; nothing when it has neither form.
    pub fn parse(sub: &'a str) -> Option<Self> {
        let (repository, _) = sub.strip_prefix("repo:")?.split_once(':')?;
        let (owner, repository) = repository.split_once('/')?;
        let with_id = |name: &'a str| match name.split_once('@') {
            Some((name, id)) => is_number(id).then_some((name, Some(id))),
            None => Some((name, None)),
        };
        let ((owner, owner_id), (repository, repository_id)) = (with_id(owner)?, with_id(repository)?);
        Some(Self { owner, owner_id, repository, repository_id })
    }
}

/// What may happen to an agent that is declared by these claims of this issuer although every token is genuine: that a name is
/// given to another workload, or that the claims are those of many. Nothing where they pin one workload for good.
pub(crate) fn pinning(issuer: &Issuer, expected: &Claims) -> Option<Unpinned> {
    let has = |names: &[&str]| names.iter().any(|name| expected.contains_key(*name));
    let only = |names: &[&str]| expected.keys().all(|name| names.contains(&name.as_str()));
    match issuer.kind {
        Platform::Kubernetes if has(&["kubernetes.io.serviceaccount.uid", "kubernetes.io.pod.uid"]) => None,
        Platform::Kubernetes if has(&["sub", "kubernetes.io.serviceaccount.name", "kubernetes.io.pod.name"]) => Some((
            "a service account that is deleted and made again under its name is this agent too",
            "add its uid, which no other ever has: `\"kubernetes.io.serviceaccount.uid\" = \"…\"` (`kubectl get serviceaccount NAME -o jsonpath='{.metadata.uid}'`)",
        )),
        Platform::Kubernetes => Some((
            "nothing here says which service account: many are this agent",
            "add `sub = \"system:serviceaccount:NAMESPACE:NAME\"` and `\"kubernetes.io.serviceaccount.uid\"`",
        )),
        Platform::Github => github_pinning(expected),
        Platform::Gitlab if !has(&["project_id"]) => Some((
            "a project that is moved or deleted leaves its name to another, whose jobs are then this agent",
            "match `project_id` (and `environment` or `ref_protected`) instead of names",
        )),
        Platform::Gitlab if only(&["project_id", "namespace_id", "project_path", "namespace_path"]) => Some((
            "every job of the project is this agent, on whatever branch anybody pushes",
            "add `environment`, `ref_protected = \"true\"` or `ci_config_ref_uri`",
        )),
        Platform::Google if has(&["sub", "google.compute_engine.instance_id"]) => None,
        Platform::Google if has(&["email"]) => Some((
            "a service account that is deleted leaves its address to a new one, which is then this agent",
            "match `sub`, its unique id (`gcloud iam service-accounts describe ADDRESS --format='value(uniqueId)'`)",
        )),
        Platform::Google => Some(("nothing here says which service account: many are this agent", "match `sub`, its unique id")),
        Platform::Azure if has(&["oid", "sub"]) => None,
        Platform::Azure if has(&["appid", "azp", "xms_mirid"]) => Some((
            "an application or a resource can be made again under this name, with another principal",
            "match `oid`, the object id of the managed identity or service principal",
        )),
        Platform::Azure => Some(("nothing here says which identity: every one of the tenant is this agent", "match `oid`")),
        Platform::Aws if is_asked(issuer) && has(&["role_id"]) => None,
        Platform::Aws if is_asked(issuer) && has(&["role", "arn"]) => Some((
            "a role that is deleted and made again under its name is this agent too",
            "add `role_id`, the role's unique id (`aws iam get-role --role-name NAME --query Role.RoleId`)",
        )),
        Platform::Aws if !is_asked(issuer) && has(&["sub"]) => None,
        Platform::Aws => Some(("every principal of the account is this agent", "match `sub`, or `role` and `role_id` of a signed request")),
        Platform::Oidc
            if only(&["iss", "aud", "exp", "iat", "nbf", "jti", "typ", "scope", "azp", "client_id"]) && !has(&["azp", "client_id"]) =>
        {
            Some((
                "these claims say nothing of who shows the token: every one of the issuer is this agent",
                "match `sub`, or an id of the workload",
            ))
        }
        Platform::Oidc if only(&["email"]) => {
            Some(("an address can be given to another, who is then this agent", "match `sub`, which an issuer gives once"))
        }
        Platform::Gitlab | Platform::Spiffe | Platform::Oidc => None,
    }
}

fn github_pinning(expected: &Claims) -> Option<Unpinned> {
    let has = |names: &[&str]| names.iter().any(|name| expected.contains_key(*name));
    let sub = expected.get("sub").and_then(|sub| GithubSub::parse(sub));
    let is_fixed = sub.is_some_and(|sub| sub.repository_id.is_some() && sub.owner_id.is_some());
    if !has(&["repository_id"]) && !is_fixed {
        let named = has(&["sub", "repository", "workflow_ref", "job_workflow_ref"]);
        return Some(if named {
            (
                "a repository that is renamed or deleted leaves its name to another, whose workflows are then this agent",
                "match `repository_id` (`gh api repos/OWNER/NAME --jq .id`) with `environment`, `ref` or `job_workflow_ref`, and no name",
            )
        } else {
            (
                "workflows of more than one repository are this agent",
                "match `repository_id` with `environment`, `ref` or `job_workflow_ref`",
            )
        });
    }
    if has(&["sub"]) && !is_fixed {
        return Some((
            "GitHub writes `sub` in two forms, and a repository that is renamed or moved to the newer one is this agent no more",
            "take `sub` out and match `repository_id` with `environment`, `ref` or `job_workflow_ref`",
        ));
    }
    let narrowed =
        is_fixed || has(&["environment", "ref", "job_workflow_ref", "workflow_ref", "job_workflow_sha", "workflow_sha", "ref_protected"]);
    (!narrowed).then_some((
        "every workflow of the repository is this agent, on whatever branch anybody pushes",
        "add `environment`, `ref` or `job_workflow_ref`",
    ))
}

/// What is wrong with an audience that tokens for others have too, if anything: such a token, taken from where it was meant to
/// go, would be taken here.
pub(crate) fn shared_audience(issuer: &str, audience: &str) -> Option<&'static str> {
    const OTHERS: &[&str] = &[
        "sts.amazonaws.com",
        "api://AzureADTokenExchange",
        "sigstore",
        "vault",
        "pypi",
        "https://kubernetes.default.svc",
        "https://management.azure.com/",
        "https://management.azure.com",
        "https://graph.microsoft.com",
        "https://vault.azure.net",
    ];
    let kubernetes = host(audience) == "kubernetes.default.svc" || host(audience).starts_with("kubernetes.default.svc.");
    if kubernetes || audience == issuer {
        return Some("tokens for the issuer's own API have this audience");
    }
    let is_github_default = audience.strip_prefix("https://github.com/").is_some();
    let is_shared = OTHERS.contains(&audience) || audience.contains("iam.googleapis.com/") || is_github_default;
    is_shared.then_some("tokens that are meant for others have this audience")
}

/// The account in an ARN (`arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`).
pub fn arn_account(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let (head, account, resource) = (parts.next()?, parts.nth(3)?, parts.next()?);
    (head == "arn" && is_account(account) && !resource.is_empty()).then_some(account)
}

/// Whether a text is the number of an AWS account.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && is_number(text)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_known_by_its_issuers() {
        for (issuer, platform) in [
            ("https://token.actions.githubusercontent.com", Platform::Github),
            ("https://github.acme.example/_services/token", Platform::Github),
            ("https://gitlab.com", Platform::Gitlab),
            ("https://accounts.google.com", Platform::Google),
            ("https://login.microsoftonline.com/72f988bf/v2.0", Platform::Azure),
            ("https://oidc.eks.eu-central-1.amazonaws.com/id/5C", Platform::Kubernetes),
            ("https://kubernetes.default.svc.cluster.local", Platform::Kubernetes),
            ("https://container.googleapis.com/v1/projects/p/locations/l/clusters/c", Platform::Kubernetes),
            ("https://0f3e2b1a.tokens.sts.global.api.aws", Platform::Aws),
            ("https://sts.eu-central-1.amazonaws.com", Platform::Aws),
            ("https://sts.amazonaws.com", Platform::Aws),
            ("https://sts.cn-north-1.amazonaws.com.cn", Platform::Aws),
            ("spiffe://prod.acme.example", Platform::Spiffe),
            ("https://idp.acme.example", Platform::Oidc),
            ("https://gitlab.com.evil.example", Platform::Oidc),
            ("https://evil.example/gitlab.com", Platform::Oidc),
            ("https://sts.eu-central-1.amazonaws.com.evil.example", Platform::Oidc),
            ("https://sts.evil.example.amazonaws.com", Platform::Oidc),
            ("https://s3.eu-central-1.amazonaws.com", Platform::Oidc),
        ] {
            assert_eq!(Platform::of_issuer(issuer), platform, "{issuer}");
        }
    }

    #[test]
    fn both_forms_of_githubs_sub_are_read() {
        let read = GithubSub::parse("repo:acme@1/bot@8842:ref:refs/heads/main").unwrap();
        assert_eq!((read.owner, read.owner_id, read.repository, read.repository_id), ("acme", Some("1"), "bot", Some("8842")));
        let read = GithubSub::parse("repo:acme/bot:environment:production").unwrap();
        assert_eq!((read.owner, read.owner_id, read.repository, read.repository_id), ("acme", None, "bot", None));
        for sub in ["", "repo:acme/bot", "repo:acme:x", "repo:acme@x/bot@8842:x", "repository_id:8842", "acme/bot:x"] {
            assert_eq!(GithubSub::parse(sub), None, "{sub}");
        }
    }

    #[test]
    fn the_account_of_an_arn() {
        for (arn, account) in [
            ("arn:aws:iam::111122223333:role/bot", Some("111122223333")),
            ("arn:aws:sts::111122223333:assumed-role/bot/run", Some("111122223333")),
            ("arn:aws:s3:::bucket", None),
            ("arn:aws:iam::11112222333:role/bot", None),
            ("arn:aws:iam::111122223333:", None),
            ("111122223333", None),
        ] {
            assert_eq!(arn_account(arn), account, "{arn}");
        }
    }
}
