//! From declarations and hand-written Cedar to [`Policies`], with every mistake found in one run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, ValidationWarning, Validator,
};
use miette::Diagnostic;

use super::declared::{self, BUDGET};
use super::schema::{CALL, ToolEntry, schema, schema_of, server_action};
use super::slice::{Index, Kind, Row, Slices};
use super::{Declared, Policies};
use crate::model::{self, Digest};

/// The annotations that have a meaning; any other is a mistake.
const ANNOTATIONS: [&str; 3] = ["id", "otherwise", "description"];

/// A file of hand-written policies.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file's name within the bundle, `policies/x.cedar`.
    pub path: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// A mistake in a policy, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The file's name within the bundle; empty when the mistake is in none of them.
    pub path: String,
    /// The place in the file's text, in bytes.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
}

/// A policy on its way in.
struct Written<'a> {
    source: Source<'a>,
    span: Range<usize>,
    kind: Kind,
    policy: Policy,
}

pub(super) fn compile(declared: &Declared<'_>, sources: &[Source<'_>]) -> Result<Policies, Vec<PolicyProblem>> {
    let nowhere = |message: String| vec![PolicyProblem { path: String::new(), span: 0..0, message, help: None }];
    let tools: Vec<ToolEntry> = declared
        .servers
        .values()
        .flat_map(|server| server.tools.iter().map(|(own, tool)| ToolEntry::new(server, own, tool, declared.histories)))
        .collect();
    let (schema, schema_text) = schema(declared, &tools).map_err(nowhere)?;

    let declared_text = declared::text(declared);
    let mut index = Index::default();
    declared_policies(&declared_text).map_err(nowhere)?.into_iter().for_each(|(kind, policy)| index.add(kind, policy));
    let written = written(sources, &schema, declared, &tools)?;
    let by_hand = written.iter().map(|written| {
        let permits = written.policy.effect() == Effect::Permit;
        (written.policy.id().to_string(), (permits, Digest::of(written.policy.to_string().as_bytes())))
    });
    let by_hand = by_hand.collect();
    written.into_iter().for_each(|written| index.add(written.kind, written.policy));

    let rows = declared.agents.iter().enumerate().map(|(number, (name, agent))| Ok((name.clone(), Row::new(number, agent)?)));
    let rows = rows.collect::<Result<_, String>>().map_err(nowhere)?;
    let by_name = tools.iter().enumerate().map(|(number, tool)| (tool.action.clone(), number)).collect();
    let is_covering =
        |tool: &ToolEntry| tool.action.split_once('/').is_some_and(|(_, own)| own.starts_with("resource:") || own.starts_with("prompt:"));
    let mut by_prefix: Vec<(String, usize)> = tools
        .iter()
        .enumerate()
        .filter(|(_, tool)| is_covering(tool))
        .filter_map(|(number, tool)| Some((tool.action.strip_suffix('*')?.to_owned(), number)))
        .collect();
    by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    Ok(Policies { schema, schema_text, declared_text, index, rows, slices: Slices::default(), tools, by_name, by_prefix, written: by_hand })
}

/// What the declarations mean. It is our own text, so a failure here is a mistake in this program.
fn declared_policies(text: &str) -> Result<Vec<(Kind, Policy)>, String> {
    let set: PolicySet = text.parse().map_err(|error| format!("the declarations do not compile: {error}"))?;
    let named = set.policies().map(|policy| {
        let id = policy.annotation("id").unwrap_or_default().to_owned();
        let kind = match policy.effect() {
            Effect::Permit => Kind::Permit,
            Effect::Forbid if id.ends_with(BUDGET) => Kind::Budget,
            Effect::Forbid => Kind::Forbid,
        };
        (kind, policy.new_id(PolicyId::new(id)))
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by(|(_, a), (_, b)| a.id().cmp(b.id()));
    // One permit for each pattern; a bundle may name one twice.
    named.dedup_by(|(_, a), (_, b)| a.id() == b.id());
    Ok(named)
}

/// Reads the hand-written policies, or says all that is wrong with them.
fn written<'a>(
    sources: &[Source<'a>],
    schema: &Schema,
    declared: &Declared<'_>,
    tools: &[ToolEntry],
) -> Result<Vec<Written<'a>>, Vec<PolicyProblem>> {
    let (mut written, mut problems) = (Vec::new(), Vec::new());
    for source in sources {
        match source.text.parse::<PolicySet>() {
            Ok(set) => written.extend(policies_of(*source, &set, &mut problems)),
            Err(errors) => problems.extend(errors.iter().map(|error| problem(*source, &(0..source.text.len()), error))),
        }
    }
    unique_ids(&mut written, &mut problems);
    for (policies, tools, schema) in neighbourhoods(&written, schema, tools) {
        validate(&policies, &schema, tools, &mut problems);
    }
    let roles = declared.agents.values().flat_map(|agent| &agent.roles).map(String::as_str).collect();
    for policy in &written {
        name_check(policy, declared, &roles, &mut problems);
    }
    problems.sort_by(|a, b| (&a.path, a.span.start, a.span.end).cmp(&(&b.path, b.span.start, b.span.end)));
    problems.dedup();
    if problems.is_empty() { Ok(written) } else { Err(problems) }
}

/// The policies of one file in their order, each with its place and its own id.
fn policies_of<'a>(source: Source<'a>, set: &PolicySet, problems: &mut Vec<PolicyProblem>) -> Vec<Written<'a>> {
    for template in set.templates() {
        let text = template.to_string();
        let span = place(source.text, 0, &text);
        problems.push(own_problem(source, span, "templates are not used here", "write a policy without `?principal` and `?resource`"));
    }
    let number = |policy: &Policy| policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX);
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(|policy| number(policy));
    let mut from = 0;
    let mut found = Vec::new();
    for (index, policy) in policies.into_iter().enumerate() {
        let span = place(source.text, from, &policy.to_string());
        from = span.end;
        let id =
            policy.annotation("id").filter(|id| !id.is_empty()).map_or_else(|| format!("{}#{}", source.path, index + 1), str::to_owned);
        let kind = kind(source, policy, &span, problems);
        found.push(Written { source, span, kind, policy: policy.new_id(PolicyId::new(id)) });
    }
    found
}

/// What a policy does when it applies, by its effect and annotations.
fn kind(source: Source<'_>, policy: &Policy, span: &Range<usize>, problems: &mut Vec<PolicyProblem>) -> Kind {
    for (name, value) in policy.annotations() {
        let here = || place_within(source.text, span, &format!("@{name}"));
        match (name, value) {
            ("otherwise", "ask" | "deny") if policy.effect() == Effect::Forbid => {}
            ("otherwise", "ask" | "deny") => {
                problems.push(own_problem(source, here(), "`@otherwise` on a `permit` has no meaning", "put it on a `forbid`"));
            }
            ("otherwise", _) => {
                let message = "`@otherwise` says neither `ask` nor `deny`";
                problems.push(own_problem(source, here(), message, "write `@otherwise(\"ask\")` for calls that a person may allow"));
            }
            ("id", id) if id.starts_with("agent:") => {
                let message = "an `@id` that begins with `agent:` is kept for what agents' declarations mean";
                problems.push(own_problem(source, here(), message, "choose another id"));
            }
            (name, _) if !ANNOTATIONS.contains(&name) => {
                let help = nearest(name, ANNOTATIONS)
                    .map_or_else(|| format!("known are `{}`", ANNOTATIONS.join("`, `")), |near| format!("did you mean `@{near}`?"));
                problems.push(own_problem(source, here(), &format!("there is no annotation `@{name}`"), &help));
            }
            _ => {}
        }
    }
    match (policy.effect(), policy.annotation("otherwise")) {
        (Effect::Permit, _) => Kind::Permit,
        (Effect::Forbid, Some("ask")) => Kind::Ask,
        (Effect::Forbid, _) => Kind::Forbid,
    }
}

/// Policies are named in every record, so no two may have one name.
fn unique_ids(written: &mut [Written<'_>], problems: &mut Vec<PolicyProblem>) {
    let mut taken = BTreeSet::new();
    for (index, policy) in written.iter_mut().enumerate() {
        let id = policy.policy.id().to_string();
        if !taken.insert(id.clone()) {
            let span = place_within(policy.source.text, &policy.span, "@id");
            problems.push(own_problem(policy.source, span, &format!("another policy has the id `{id}`"), "give each policy its own"));
            policy.policy = policy.policy.new_id(PolicyId::new(format!("{id}#{index}")));
        }
    }
}

/// How many tools a neighbourhood has, unless one server alone has more.
const NEIGHBOURHOOD: usize = 64;

/// The policies in groups, each with the tools that they speak of and the schema of these.
///
/// Cedar checks each policy against each action of the schema, also those that its scope excludes, so that all against all
/// takes time by the product of both. A policy whose scope and conditions name only actions of a few neighbouring servers
/// is checked against those alone, with the same result. The others are checked against everything.
fn neighbourhoods<'w, 't>(
    written: &'w [Written<'w>],
    schema: &Schema,
    tools: &'t [ToolEntry],
) -> Vec<(Vec<&'w Written<'w>>, &'t [ToolEntry], Schema)> {
    // Where one neighbourhood ends and the next begins: between two servers, the tools of one standing together.
    let mut bounds = vec![0];
    for group in tools.chunk_by(|a, b| a.server == b.server) {
        let (begun, ended) = (bounds.last().copied().unwrap_or(0), bounds.len());
        let start = tools.partition_point(|tool| group.first().is_some_and(|first| tool.server < first.server));
        if start > begun && start + group.len() - begun > NEIGHBOURHOOD {
            bounds.insert(ended, start);
        }
    }
    let mut homes = HashMap::new();
    for (number, tool) in tools.iter().enumerate() {
        let home = bounds.partition_point(|bound| *bound <= number);
        homes.insert(tool.action.clone(), home);
        homes.insert(server_action(&tool.server), home);
    }
    let everywhere = |uid: &EntityUid| {
        let id = uid.id().unescaped();
        id == CALL || model::Effect::ALL.iter().any(|effect| effect.as_str() == id)
    };
    let home = |uid: &EntityUid| homes.get(uid.id().unescaped()).copied();
    let home_of = |policy: &Policy| {
        let named = match policy.action_constraint() {
            ActionConstraint::Any => return None,
            ActionConstraint::Eq(uid) => vec![uid],
            ActionConstraint::In(uids) => uids,
        };
        let first = home(named.first()?)?;
        let literals = policy.entity_literals();
        let mut actions = literals.iter().filter(|uid| uid.type_name().to_string() == "Action");
        let is_local = named.iter().all(|uid| home(uid) == Some(first)) && actions.all(|uid| everywhere(uid) || home(uid) == Some(first));
        is_local.then_some(first)
    };
    let mut groups: BTreeMap<Option<usize>, Vec<&Written<'_>>> = BTreeMap::new();
    for policy in written {
        groups.entry(home_of(&policy.policy)).or_default().push(policy);
    }
    let mut neighbourhoods = Vec::new();
    let mut all = groups.remove(&None).unwrap_or_default();
    for (home, policies) in groups {
        let range = home.and_then(|home| Some(*bounds.get(home.checked_sub(1)?)?..bounds.get(home).copied().unwrap_or(tools.len())));
        let near = range.and_then(|range| tools.get(range));
        match near.and_then(|near| Some((near, schema_of(near).ok()?))) {
            Some((near, schema)) => neighbourhoods.push((policies, near, schema)),
            None => all.extend(policies),
        }
    }
    neighbourhoods.push((all, tools, schema.clone()));
    neighbourhoods
}

/// Checks the policies' types, strictly. A policy that can never apply is a mistake too, unless it speaks of a group of
/// tools that has no member yet.
fn validate(written: &[&Written<'_>], schema: &Schema, tools: &[ToolEntry], problems: &mut Vec<PolicyProblem>) {
    let by_id: HashMap<&PolicyId, &Written<'_>> = written.iter().map(|written| (written.policy.id(), *written)).collect();
    let Ok(set) = PolicySet::from_policies(written.iter().map(|written| written.policy.clone())) else { return };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let mut found: Vec<PolicyProblem> = Vec::new();
    for error in result.validation_errors() {
        let Some(policy) = by_id.get(error.policy_id()) else { continue };
        found.push(problem(policy.source, &policy.span, error));
    }
    let mistaken: BTreeSet<&PolicyId> = result.validation_errors().map(|error| error.policy_id()).collect();
    for warning in result.validation_warnings() {
        let Some(policy) = by_id.get(warning.policy_id()) else { continue };
        let never = matches!(warning, ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_));
        // A policy with a mistake never applies because of it.
        if never && (mistaken.contains(warning.policy_id()) || speaks_of_no_tool(&policy.policy.action_constraint(), tools)) {
            continue;
        }
        let mut problem = problem(policy.source, &policy.span, warning);
        if never {
            let help = "no declared tool can meet it: check its scope, and the arguments that it tests with `has`; or remove it";
            problem.help = Some(help.to_owned());
        }
        found.push(problem);
    }
    // One mistake is found once for each tool that the policy is checked against.
    found.sort_by(|a, b| (&a.path, a.span.start, a.span.end, &a.message).cmp(&(&b.path, b.span.start, b.span.end, &b.message)));
    found.dedup_by(|a, b| a.path == b.path && a.span == b.span);
    problems.extend(found);
}

/// Whether an action constraint names only groups that no declared tool is in.
fn speaks_of_no_tool(constraint: &ActionConstraint, tools: &[ToolEntry]) -> bool {
    match constraint {
        ActionConstraint::Any => tools.is_empty(),
        ActionConstraint::Eq(_) => false,
        ActionConstraint::In(uids) => !tools.iter().any(|tool| {
            let own = [CALL.to_owned(), tool.effect.as_str().to_owned(), server_action(&tool.server), tool.action.clone()];
            uids.iter().any(|uid| own.iter().any(|id| uid.id().unescaped() == id))
        }),
    }
}

/// Checks the entities that a policy names: Cedar knows their types, only we know which exist. `roles` are those held.
fn name_check(written: &Written<'_>, declared: &Declared<'_>, roles: &BTreeSet<&str>, problems: &mut Vec<PolicyProblem>) {
    let literals: BTreeSet<EntityUid> = written.policy.entity_literals().into_iter().collect();
    for literal in literals {
        let (kind, id) = (literal.type_name().to_string(), literal.id().unescaped().to_owned());
        // A likely name is looked for only where one is missing: it takes a look at all of them.
        let (known, near) = match kind.as_str() {
            "Agent" if id.parse().is_ok_and(|name: model::AgentName| declared.agents.contains_key(&name)) => continue,
            "Agent" => (false, nearest(&id, declared.agents.keys().map(model::AgentName::as_str))),
            "Server" if id.parse().is_ok_and(|name: model::ServerName| declared.servers.contains_key(&name)) => continue,
            "Server" => (false, nearest(&id, declared.servers.keys().map(model::ServerName::as_str))),
            "Tool" => {
                let name = id.parse::<model::ToolName>().ok();
                if name.and_then(|name| declared.servers.get(name.server())?.tool(&name)).is_some() {
                    continue;
                }
                let names = declared.servers.values().flat_map(|server| server.tools.keys().map(|own| format!("{}/{own}", server.name)));
                (false, nearest(&id, names))
            }
            "Role" if roles.contains(id.as_str()) => continue,
            "Role" => {
                // A role exists by being held. One that nobody holds is no mistake, unless it is nearly one that somebody holds.
                let near = nearest(&id, roles);
                (near.is_none(), near)
            }
            _ => continue,
        };
        if !known {
            let span = place_within(written.source.text, &written.span, &format!("{id:?}"));
            let what = kind.to_lowercase();
            let message = if kind == "Role" { format!("no agent has the role `{id}`") } else { format!("there is no {what} `{id}`") };
            let help = near.map_or_else(|| format!("declare the {what}, or remove the policy"), |near| format!("did you mean `{near}`?"));
            problems.push(own_problem(written.source, span, &message, &help));
        }
    }
}

/// The name that is most like `text`, if one is like it.
fn nearest<T: AsRef<str>>(text: &str, names: impl IntoIterator<Item = T>) -> Option<String> {
    let is_like = |name: &str| strsim::jaro_winkler(text, name) > 0.85 || (text.len() > 2 && strsim::osa_distance(text, name) <= 2);
    let like = names.into_iter().filter(|name| is_like(name.as_ref()));
    like.min_by_key(|name| strsim::osa_distance(text, name.as_ref())).map(|name| name.as_ref().to_owned())
}

/// Puts one of Cedar's diagnostics into our words; `span` is its place when it names none.
fn problem(source: Source<'_>, span: &Range<usize>, diagnostic: &dyn Diagnostic) -> PolicyProblem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let span = label.as_ref().map_or(span.clone(), |label| label.offset()..label.offset().saturating_add(label.len()));
    let help = diagnostic.help().map(|help| help.to_string()).or_else(|| label.and_then(|label| label.label().map(str::to_owned)));
    let (message, help) = (without_id(&diagnostic.to_string()), help.as_deref().map(without_id));
    PolicyProblem { path: source.path.to_owned(), span: span.start.min(source.text.len())..span.end.min(source.text.len()), message, help }
}

/// What Cedar says without the policy's id, with which it begins; the place says it better.
fn without_id(text: &str) -> String {
    let rest = text.split_once("`, ").filter(|(start, _)| start.starts_with("for policy `")).map_or(text, |(_, rest)| rest);
    rest.to_owned()
}

fn own_problem(source: Source<'_>, span: Range<usize>, message: &str, help: &str) -> PolicyProblem {
    PolicyProblem { path: source.path.to_owned(), span, message: message.to_owned(), help: Some(help.to_owned()) }
}

/// Where `part` stands in `text` from `from` on; the whole text if it is not found.
fn place(text: &str, from: usize, part: &str) -> Range<usize> {
    let part = part.trim();
    let found = text.get(from..).and_then(|rest| rest.find(part));
    found.map_or(0..text.len(), |offset| from + offset..from + offset + part.len())
}

/// Where `part` stands within `span`; the span if it is not found.
fn place_within(text: &str, span: &Range<usize>, part: &str) -> Range<usize> {
    let found = text.get(span.clone()).and_then(|within| within.find(part));
    found.map_or(span.clone(), |offset| span.start + offset..span.start + offset + part.len())
}
