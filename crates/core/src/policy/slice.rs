//! The index: for each agent and tool, the policies whose scope can match; all others cost a call nothing.
//!
//! A slice is made when it is first asked for. A bounded number is kept, so that the memory follows what is used and no
//! agent can fill it by asking for everything.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Entities, Entity, EntityUid, PartialEntities, PartialEntityUid, PartialRequest,
    Policy, PolicyId, PolicySet, PrincipalConstraint, Request, ResourceConstraint, RestrictedExpression, Schema,
};

use serde_json::Value;

use super::schema::{CALL, ToolEntry, server_action};
use super::shape::Read;
use super::{Ruling, RulingOutcome, integrity, uid};
use crate::bundle::Agent;
use crate::model::ToolName;

/// What a policy does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It permits.
    Permit,
    /// It forbids.
    Forbid,
    /// It forbids, unless a person allows it.
    Ask,
    /// It forbids because the declared budget is spent.
    Budget,
}

/// All policies, found by one word of their scope, so that a slice is cut without looking at those of other agents and tools.
#[derive(Debug, Default)]
pub(super) struct Index {
    policies: Vec<(Kind, Policy)>,
    /// Those for one agent.
    by_agent: HashMap<EntityUid, Vec<usize>>,
    /// Of the others, those for one action or group of actions.
    by_action: HashMap<EntityUid, Vec<usize>>,
    /// All others.
    for_any: Vec<usize>,
}

impl Index {
    pub(super) fn add(&mut self, kind: Kind, policy: Policy) {
        let number = self.policies.len();
        match (policy.principal_constraint(), policy.action_constraint()) {
            (PrincipalConstraint::Eq(agent), _) => self.by_agent.entry(agent).or_default().push(number),
            (_, ActionConstraint::Eq(action)) => self.by_action.entry(action).or_default().push(number),
            (_, ActionConstraint::In(actions)) => {
                actions.into_iter().for_each(|action| self.by_action.entry(action).or_default().push(number));
            }
            (_, ActionConstraint::Any) => self.for_any.push(number),
        }
        self.policies.push((kind, policy));
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|(_, policy)| policy)
    }

    /// Every policy that may concern the agent and the action, and perhaps some that do not, each once.
    fn near(&self, agent: &EntityUid, place: &Place) -> impl Iterator<Item = &(Kind, Policy)> {
        let of_actions = place.groups.iter().chain([&place.action]).filter_map(|action| self.by_action.get(action));
        let numbers: BTreeSet<usize> =
            self.by_agent.get(agent).into_iter().chain(of_actions).chain([&self.for_any]).flatten().copied().collect();
        numbers.into_iter().filter_map(|number| self.policies.get(number))
    }
}

/// How many parts the kept slices are in, so that unrelated calls rarely meet at a lock, and then only to look one up.
const SHARDS: usize = 64;

/// How many slices each part keeps; 32,768 altogether.
const SLICES_PER_SHARD_MAX: usize = 512;

/// The slices that were made.
#[derive(Debug)]
pub(super) struct Slices([RwLock<HashMap<(usize, usize), Kept>>; SHARDS]);

/// A slice, or nothing for one that cannot be made, which denies.
type Kept = Option<Arc<Slice>>;

impl Default for Slices {
    fn default() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }
}

impl Slices {
    /// The slice of an agent for the tool with this number; nothing if it cannot be made, which denies.
    pub(super) fn of(&self, row: &Row, tool: usize, cut: impl FnOnce() -> Result<Slice, String>) -> Kept {
        let shard = row.number.wrapping_add(tool) % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "the index is a remainder by the array's length")]
        let shard = &self.0[shard];
        if let Some(kept) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&(row.number, tool)) {
            return kept.clone();
        }
        let kept = cut().ok().map(Arc::new);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= SLICES_PER_SHARD_MAX {
            shard.clear();
        }
        shard.insert((row.number, tool), kept.clone());
        kept
    }
}

/// One agent's part of the index.
#[derive(Debug)]
pub(super) struct Row {
    number: usize,
    agent: Entity,
    uid: EntityUid,
    roles: HashSet<EntityUid>,
    calls_max: Option<u64>,
}

impl Row {
    /// The part of the agent that is declared as the one with this number.
    pub(super) fn new(number: usize, agent: &Agent) -> Result<Self, String> {
        let own = uid("Agent", agent.name.as_str())?;
        let roles = agent.roles.iter().map(|role| uid("Role", role)).collect::<Result<HashSet<_>, _>>()?;
        let attributes = HashMap::from([
            ("name".to_owned(), RestrictedExpression::new_string(agent.name.to_string())),
            ("owner".to_owned(), RestrictedExpression::new_string(agent.owner.clone())),
        ]);
        let entity = Entity::new(own.clone(), attributes, roles.clone()).map_err(|error| error.to_string())?;
        Ok(Self { number, agent: entity, uid: own, roles, calls_max: agent.calls_max })
    }

    /// The policies that can concern calls of `tool` by this agent.
    pub(super) fn cut(&self, tool: &ToolEntry, index: &Index) -> Result<Slice, String> {
        let place = Place::new(tool)?;
        let chosen = index.near(&self.uid, &place).filter(|(_, policy)| {
            self.is_principal(&policy.principal_constraint())
                && place.is_action(&policy.action_constraint())
                && place.is_resource(&policy.resource_constraint())
        });
        let chosen: Vec<_> = chosen.collect();
        Slice::new(self, tool, place, &chosen)
    }

    fn is_principal(&self, constraint: &PrincipalConstraint) -> bool {
        match constraint {
            PrincipalConstraint::Eq(uid) => *uid == self.uid,
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => *uid == self.uid || self.roles.contains(uid),
            // The type of every principal is `Agent`; keeping another costs a little and cannot be wrong.
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
        }
    }
}

/// Where a tool stands among actions and resources.
#[derive(Debug)]
struct Place {
    action: EntityUid,
    groups: HashSet<EntityUid>,
    server: EntityUid,
    /// The resource; nothing for a pattern, whose calls each have their own.
    resource: Option<EntityUid>,
}

impl Place {
    fn new(tool: &ToolEntry) -> Result<Self, String> {
        let server = server_action(&tool.server);
        let groups = [CALL, tool.effect.as_str(), &server].into_iter().map(|id| uid("Action", id));
        Ok(Self {
            action: uid("Action", &tool.action)?,
            groups: groups.collect::<Result<_, _>>()?,
            server: uid("Server", tool.server.as_str())?,
            resource: if tool.is_pattern { None } else { Some(uid("Tool", &tool.action)?) },
        })
    }

    fn is_action(&self, constraint: &ActionConstraint) -> bool {
        let within = |uid: &EntityUid| *uid == self.action || self.groups.contains(uid);
        match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => *uid == self.action,
            ActionConstraint::In(uids) => uids.iter().any(within),
        }
    }

    fn is_resource(&self, constraint: &ResourceConstraint) -> bool {
        match (constraint, &self.resource) {
            (ResourceConstraint::Eq(uid), Some(resource)) => uid == resource,
            (ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid), Some(resource)) => uid == resource || *uid == self.server,
            // Any, a type that can only be `Tool`, or a pattern's resource, which each call names: kept.
            _ => true,
        }
    }
}

/// The policies and entities that can concern calls of one tool by one agent.
#[derive(Debug)]
pub(super) struct Slice {
    kinds: HashMap<PolicyId, Kind>,
    all: PolicySet,
    /// Of these, those that permit; made when first needed.
    permits: OnceLock<PolicySet>,
    /// What some policy looks at; found out at the first call.
    read: OnceLock<Read>,
    /// What of it depends on who acts; found out when it is first asked beside another.
    own: OnceLock<Own>,
    calls_max: Option<u64>,
    principal: EntityUid,
    place: Place,
    /// Agent, action and, unless the tool is a pattern, the tool.
    entities: Entities,
    tool: ToolAttributes,
    /// The answer of [`Slice::may_ever`], where it is the same for every call.
    may_ever: OnceLock<bool>,
}

/// What of a slice depends on who acts: the rest says the same of a call to everybody who makes it.
#[derive(Debug)]
struct Own {
    /// A policy that permits every call, where none that permits has a condition.
    permit: Option<String>,
    /// The policies that forbid or ask, with those that permit; nothing where none forbids or asks.
    policies: Option<PolicySet>,
    /// What these look at.
    read: Read,
}

/// What the entity of a called tool is made from.
#[derive(Debug)]
struct ToolAttributes {
    server: String,
    effect: &'static str,
    integrity: &'static str,
    confidentiality: Vec<String>,
}

/// What policies say to every call of a tool by an agent, before its arguments and history are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// Each call is allowed, until the budget is spent.
    Allow,
    /// Each call is denied.
    Deny,
    /// Each call waits for a person.
    Ask,
    /// It depends on the arguments or on what the execution has done.
    Depends,
}

impl Slice {
    fn new(row: &Row, tool: &ToolEntry, place: Place, policies: &[&(Kind, Policy)]) -> Result<Self, String> {
        let error = |error: &dyn std::error::Error| error.to_string();
        let kinds = policies.iter().map(|(kind, policy)| (policy.id().clone(), *kind)).collect();
        let all = PolicySet::from_policies(policies.iter().map(|(_, policy)| policy.clone())).map_err(|e| error(&e))?;
        let attributes = ToolAttributes {
            server: tool.server.to_string(),
            effect: tool.effect.as_str(),
            integrity: integrity(tool.labels.integrity),
            confidentiality: tool.labels.confidentiality.iter().map(|label| label.to_string()).collect(),
        };
        let action = Entity::new_no_attrs(place.action.clone(), place.groups.clone());
        let resource = place.resource.as_ref().map(|_| attributes.entity(&tool.action, &place.server)).transpose()?;
        let entities = [row.agent.clone(), action].into_iter().chain(resource);
        let entities = Entities::from_entities(entities, None).map_err(|e| error(&e))?;
        Ok(Self {
            kinds,
            all,
            permits: OnceLock::new(),
            principal: row.uid.clone(),
            place,
            entities,
            read: OnceLock::new(),
            own: OnceLock::new(),
            calls_max: row.calls_max,
            tool: attributes,
            may_ever: OnceLock::new(),
        })
    }

    /// What some policy looks at.
    pub(super) fn read(&self) -> &Read {
        self.read.get_or_init(|| {
            let mut read = Read::nothing();
            for policy in self.all.policies() {
                match policy.to_json() {
                    Ok(json) => read.add(&json),
                    Err(_) => read = Read::all(),
                }
            }
            read
        })
    }

    /// Whether some policy's scope permits.
    pub(super) fn permits_anything(&self) -> bool {
        self.kinds.values().any(|kind| *kind == Kind::Permit)
    }

    /// The policies of these kinds. They were one set, so they are one here too.
    fn those(&self, is_wanted: impl Fn(Kind) -> bool) -> PolicySet {
        let wanted = self.all.policies().filter(|policy| self.kinds.get(policy.id()).is_some_and(|kind| is_wanted(*kind)));
        PolicySet::from_policies(wanted.cloned()).unwrap_or_default()
    }

    /// All but those that a person may lift and the budget's.
    fn standing(&self) -> PolicySet {
        self.those(|kind| matches!(kind, Kind::Permit | Kind::Forbid))
    }

    /// Rules on one call of `tool`, which the slice was made for.
    pub(super) fn rule(&self, tool: &ToolName, context: Context) -> Ruling {
        self.rule_by(&self.all, tool, context)
    }

    /// Rules on a call of `tool` beside another agent, which was ruled on with the same arguments and the same labels: only by what
    /// depends on who acts. The agent has made so many `calls`, this one included.
    pub(super) fn rule_beside(
        &self,
        tool: &ToolName,
        calls: u64,
        context: impl FnOnce(&Read) -> Result<Context, String>,
    ) -> Result<Ruling, String> {
        let own = self.own.get_or_init(|| self.cut_own());
        let mut ruling = match (&own.policies, &own.permit) {
            (Some(policies), _) => self.rule_by(policies, tool, context(&own.read)?),
            (None, Some(permit)) => Ruling { outcome: RulingOutcome::Permitted, policies: vec![permit.clone()], errors: Vec::new() },
            (None, None) => self.rule_by(&self.those(|kind| kind == Kind::Permit), tool, context(self.read())?),
        };
        let is_spent = self.calls_max.is_some_and(|calls_max| calls > calls_max);
        if is_spent && matches!(ruling.outcome, RulingOutcome::Permitted | RulingOutcome::Asked) {
            ruling.outcome = RulingOutcome::BudgetSpent;
            ruling.policies = self.kinds.iter().filter(|(_, kind)| **kind == Kind::Budget).map(|(id, _)| id.to_string()).collect();
        }
        Ok(ruling)
    }

    /// Whether [`Self::rule_beside`] permits, found out without what would explain it.
    pub(super) fn permits_beside(&self, tool: &ToolName, calls: u64, context: impl FnOnce(&Read) -> Result<Context, String>) -> bool {
        let own = self.own.get_or_init(|| self.cut_own());
        if self.calls_max.is_some_and(|calls_max| calls > calls_max) {
            return false;
        }
        let permits = |policies: &PolicySet, read| {
            let request = context(read).and_then(|context| self.request(tool, context));
            request.is_ok_and(|(request, entities)| {
                let response = Authorizer::new().is_authorized(&request, policies, entities.as_ref().unwrap_or(&self.entities));
                response.decision() == Decision::Allow && response.diagnostics().errors().next().is_none()
            })
        };
        match (&own.policies, &own.permit) {
            (Some(policies), _) => permits(policies, &own.read),
            (None, Some(_)) => true,
            (None, None) => permits(&self.those(|kind| kind == Kind::Permit), self.read()),
        }
    }

    fn cut_own(&self) -> Own {
        let kind = |policy: &Policy| self.kinds.get(policy.id()).copied().unwrap_or(Kind::Forbid);
        let policies = || self.all.policies().map(|policy| (kind(policy), policy, policy.to_json().ok()));
        let is_own = |kind: Kind, policy: &Policy, json: Option<&Value>| match kind {
            Kind::Budget | Kind::Permit => false,
            Kind::Forbid | Kind::Ask => json.is_none_or(|json| depends_on_who_acts(&policy.principal_constraint(), json)),
        };
        let (permits, others): (Vec<_>, Vec<_>) = policies().partition(|(kind, ..)| *kind == Kind::Permit);
        // The scope of what is in the slice of one tool holds for every call of it, and what has no condition cannot fail. Where all
        // that permit are such, one speaks for all.
        let is_free = |json: &Option<Value>| json.as_ref().is_some_and(is_unconditional);
        let are_free = self.place.resource.is_some() && permits.iter().all(|(.., json)| is_free(json));
        let permits = permits.into_iter().take(if are_free { 1 } else { usize::MAX });
        let forbids: Vec<_> = others.into_iter().filter(|(kind, policy, json)| is_own(*kind, policy, json.as_ref())).collect();
        let (has_forbids, mut permit, mut read, mut chosen) = (!forbids.is_empty(), None, Read::nothing(), Vec::new());
        for (kind, policy, json) in permits.chain(forbids) {
            if kind == Kind::Permit && are_free {
                permit = Some(policy.id().to_string());
            }
            match &json {
                Some(json) => read.add(json),
                None => read = Read::all(),
            }
            chosen.push(policy.clone());
        }
        let policies = has_forbids.then(|| PolicySet::from_policies(chosen).unwrap_or_default());
        Own { permit, policies, read }
    }

    fn rule_by(&self, policies: &PolicySet, tool: &ToolName, context: Context) -> Ruling {
        let failed = |error: String| Ruling { outcome: RulingOutcome::Failed, policies: Vec::new(), errors: vec![error] };
        let (request, entities) = match self.request(tool, context) {
            Ok(asked) => asked,
            Err(error) => return failed(error),
        };
        let entities = entities.as_ref().unwrap_or(&self.entities);
        let response = Authorizer::new().is_authorized(&request, policies, entities);
        let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        policies.sort_unstable();
        let mut errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
        errors.sort_unstable();
        let is_kind = |kind: Kind| response.diagnostics().reason().any(|id| self.kinds.get(id) == Some(&kind));
        let outcome = match response.decision() {
            _ if !errors.is_empty() => RulingOutcome::Failed,
            Decision::Allow => RulingOutcome::Permitted,
            // That something forbids it does not yet say that anything permits it.
            Decision::Deny if policies.is_empty() || !self.is_permitted(&request, entities) => RulingOutcome::NotPermitted,
            Decision::Deny if is_kind(Kind::Forbid) => RulingOutcome::Forbidden,
            Decision::Deny if is_kind(Kind::Budget) => RulingOutcome::BudgetSpent,
            Decision::Deny if is_kind(Kind::Ask) => RulingOutcome::Asked,
            Decision::Deny => RulingOutcome::Forbidden,
        };
        Ruling { outcome, policies, errors }
    }

    /// What Cedar is asked of a call, and the entities with it where the slice does not hold them already.
    fn request(&self, tool: &ToolName, context: Context) -> Result<(Request, Option<Entities>), String> {
        let (resource, entities) = self.resource(tool)?;
        // Not checked against the schema again: what `context` makes is of the shape that the schema was made from.
        let request = Request::new(self.principal.clone(), self.place.action.clone(), resource, context, None);
        Ok((request.map_err(|error| error.to_string())?, entities))
    }

    fn is_permitted(&self, request: &Request, entities: &Entities) -> bool {
        let permits = self.permits.get_or_init(|| self.those(|kind| kind == Kind::Permit));
        Authorizer::new().is_authorized(request, permits, entities).decision() == Decision::Allow
    }

    /// The resource of a call, and the entities with it where the slice does not hold it already.
    fn resource(&self, tool: &ToolName) -> Result<(EntityUid, Option<Entities>), String> {
        if let Some(resource) = &self.place.resource {
            return Ok((resource.clone(), None));
        }
        let entity = self.tool.entity(tool.as_str(), &self.place.server)?;
        let resource = entity.uid();
        let entities = self.entities.iter().cloned().chain([entity]);
        Ok((resource, Some(Entities::from_entities(entities, None).map_err(|error| error.to_string())?)))
    }

    /// The entities of a call.
    #[cfg(test)]
    pub(super) fn entities_of(&self, tool: &ToolName) -> Vec<Entity> {
        self.resource(tool).unwrap().1.as_ref().unwrap_or(&self.entities).iter().cloned().collect()
    }

    /// Whether some call might be allowed or asked about.
    pub(super) fn may_ever(&self, tool: &ToolName, schema: &Schema) -> bool {
        let judge = || self.permits_anything() && self.partial(&self.standing(), Some(tool), schema) != Some(Decision::Deny);
        if self.place.resource.is_some() { *self.may_ever.get_or_init(judge) } else { judge() }
    }

    /// What every call has to expect; for a pattern, the calls of all that it covers.
    pub(super) fn prospect(&self, schema: &Schema) -> Prospect {
        if !self.permits_anything() {
            return Prospect::Deny;
        }
        let but_budget = self.those(|kind| kind != Kind::Budget);
        match (self.partial(&self.standing(), None, schema), self.partial(&but_budget, None, schema)) {
            (Some(Decision::Deny), _) => Prospect::Deny,
            (Some(Decision::Allow), Some(Decision::Allow)) => Prospect::Allow,
            (Some(Decision::Allow), Some(Decision::Deny)) => Prospect::Ask,
            _ => Prospect::Depends,
        }
    }

    /// The decision on every call of `tool`, or of whatever the slice was made for, where it does not depend on the
    /// context; nothing where it does or where the partial evaluator, which is young, cannot tell.
    fn partial(&self, policies: &PolicySet, tool: Option<&ToolName>, schema: &Schema) -> Option<Decision> {
        let (resource, entities) = match (&self.place.resource, tool) {
            (Some(resource), _) => (PartialEntityUid::from_concrete(resource.clone()), None),
            (None, Some(tool)) => {
                let (resource, entities) = self.resource(tool).ok()?;
                (PartialEntityUid::from_concrete(resource), entities)
            }
            (None, None) => (PartialEntityUid::new("Tool".parse().ok()?, None), None),
        };
        // The action's own entity comes from the schema.
        let entities = entities.as_ref().unwrap_or(&self.entities).iter().filter(|entity| entity.uid() != self.place.action).cloned();
        let entities = PartialEntities::from_concrete(Entities::from_entities(entities, None).ok()?, schema).ok()?;
        let principal = PartialEntityUid::from_concrete(self.principal.clone());
        let request = PartialRequest::new(principal, self.place.action.clone(), resource, None, schema).ok()?;
        policies.tpe(&request, &entities, schema).ok()?.decision()
    }
}

impl ToolAttributes {
    fn entity(&self, name: &str, server: &EntityUid) -> Result<Entity, String> {
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let labels = [
            ("integrity".to_owned(), text(self.integrity)),
            ("confidentiality".to_owned(), RestrictedExpression::new_set(self.confidentiality.iter().map(|label| text(label)))),
        ];
        let attributes = HashMap::from([
            ("name".to_owned(), text(name)),
            ("server".to_owned(), text(&self.server)),
            ("effect".to_owned(), text(self.effect)),
            ("returns".to_owned(), RestrictedExpression::new_record(labels).map_err(|error| error.to_string())?),
        ]);
        Entity::new(uid("Tool", name)?, attributes, HashSet::from([server.clone()])).map_err(|error| error.to_string())
    }
}

/// Whether a policy, in Cedar's JSON form, has no condition.
fn is_unconditional(json: &Value) -> bool {
    json.get("conditions").and_then(Value::as_array).is_some_and(Vec::is_empty)
}

/// Whether what a policy says of a call depends on who makes it: it names the principal, or looks at what that one has done or at its
/// chain. What all that make a call together have in common is what was asked for, on whose behalf, and what any of them was shown.
fn depends_on_who_acts(principal: &PrincipalConstraint, json: &Value) -> bool {
    let is_any = matches!(principal, PrincipalConstraint::Any | PrincipalConstraint::Is(_));
    !is_any || json.get("conditions").is_none_or(looks_at_who_acts)
}

fn looks_at_who_acts(json: &Value) -> bool {
    const COMMON: [&str; 8] = ["input", "unseen", "provenance", "behavior", "suspect", "subject", "task", "now"];
    const COMMON_OF_LEDGER: [&str; 2] = ["integrity", "confidentiality"];
    fn attribute(json: &Value) -> Option<(&Value, &str)> {
        let access = json.get(".").or_else(|| json.get("has"))?;
        Some((access.get("left")?, access.get("attr")?.as_str()?))
    }
    let is_context = |json: &Value| json.get("Var").is_some_and(|name| name == "context");
    if let Some((left, name)) = attribute(json) {
        if is_context(left) {
            return !COMMON.contains(&name);
        }
        if attribute(left).is_some_and(|(left, name)| is_context(left) && name == "ledger") && COMMON_OF_LEDGER.contains(&name) {
            return false;
        }
    }
    match json {
        Value::Object(members) => {
            members.get("Var").is_some_and(|name| name == "principal" || name == "context") || members.values().any(looks_at_who_acts)
        }
        Value::Array(items) => items.iter().any(looks_at_who_acts),
        _ => false,
    }
}
