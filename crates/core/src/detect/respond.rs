//! What is to be done about what was found: planned from the log alone, within what the operator ordered.
//!
//! A [`Responder`] folds the log: the findings, what was done about each, who is held and what was stopped by itself within the last
//! hour. Asked what is due it says so by the bundle's [`Orders`]; whoever does it puts the records of that on the log, where the
//! responder finds them. It never plans to stop more within an hour than it may, whatever it is told was found; what goes beyond waits
//! for a person. What is on its way counts from when it was planned, so that a log which cannot be written makes no room for more.

mod orders;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

pub use self::orders::{Case, InvalidPattern, Mode, Orders, Pattern, When};
use super::finding::Response;
use crate::model::{
    AgentName, Caution, Digest, ExecutionId, Found, Hold, Quarantined, Record, Released, Responded, ResponseEnd, Revocation, Settled,
    Settlement, Timestamp,
};

/// Over which time it is counted what was stopped by itself, in seconds.
const HOUR_S: i64 = 3_600;

/// After how long nothing is done by itself any more about what happened, in seconds: what is read late, from an old log or from what a cloud
/// says of last year, is for people.
const STALE_S: i64 = 6 * 3_600;

/// How many findings it is remembered of what was done about them. The one that was heard of longest ago makes room.
const KNOWN_MAX: usize = 16_384;

/// How many findings wait for a person; the oldest makes room, and stays on the log.
const HELD_MAX: usize = 1_024;

/// How many revoked executions are known, so that none is revoked twice.
const REVOKED_MAX: usize = 4_096;

/// How many stops are remembered: more than any ceiling.
const STOPS_MAX: usize = 4_096;

/// Who does what nobody in particular does.
pub const BY: &str = "bailiwick";

/// Plans what is done about findings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Responder {
    /// The findings about which something may have to be done, by the record of each.
    open: BTreeMap<Position, Case>,
    /// What was done about each finding.
    known: BTreeMap<Digest, Known>,
    /// The names of those, by when they were first heard of.
    order: VecDeque<Digest>,
    /// When something was stopped by itself, oldest first.
    stops: VecDeque<Timestamp>,
    quarantined: BTreeSet<AgentName>,
    cautioned: BTreeMap<AgentName, Caution>,
    revoked: VecDeque<ExecutionId>,
    /// What waits for a person, by its record.
    held: BTreeMap<Position, Responded>,
    /// What was planned and is not on the log yet. A process that ends forgets it, and plans it again.
    #[serde(skip)]
    under_way: BTreeMap<Digest, UnderWay>,
}

/// What was planned for one finding.
#[derive(Clone, Debug, PartialEq)]
struct UnderWay {
    found: Position,
    /// Whether it stops something, and the record of that was not heard of yet.
    stops: bool,
    /// The agent that is quarantined by it.
    quarantines: Option<AgentName>,
    /// Whether it is to be planned again, since it failed.
    again: bool,
}

/// What is known of one finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Its newest record.
    pub found: Position,
    /// The agent that it is about.
    pub agent: Option<AgentName>,
    /// The execution that it is about.
    pub execution: Option<ExecutionId>,
    /// The most that was answered, and what became of it.
    pub answered: Option<(Response, ResponseEnd)>,
    /// The records of what was done because of it, by itself or by a person.
    pub acts: Vec<(Response, Position)>,
    /// Whether a person has decided about it, so that nothing more is done by itself.
    pub settled: bool,
}

/// What is to be done about a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The finding.
    pub case: Case,
    /// The record of it.
    pub found: Position,
    /// What is done.
    pub response: Response,
    /// Whether, and what the record says.
    pub step: Step,
}

/// Whether something is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is to be done now, and then recorded.
    Do,
    /// It is only to be recorded: what becomes of it, why, and what was done already.
    Note(ResponseEnd, String, Vec<Position>),
}

impl Planned {
    /// The record that says what became of it.
    pub fn record(&self, at: Timestamp, code: ResponseEnd, detail: String, acts: Vec<Position>) -> Responded {
        Responded {
            at,
            finding: self.case.finding,
            found: self.found,
            agent: self.case.agent.clone(),
            execution: self.case.execution,
            response: self.response,
            code,
            detail,
            acts,
            settles: None,
            by: BY.to_owned(),
            reason: String::new(),
        }
    }
}

/// What of an agent a response holds, which a release lifts.
const fn holds(response: Response) -> Option<Hold> {
    match response {
        Response::Lower | Response::Ask => Some(Hold::Caution),
        Response::Quarantine => Some(Hold::Quarantine),
        Response::Record | Response::Notify | Response::Revoke => None,
    }
}

/// Whether a response stops something, so that a detector gone wrong could stop everything.
const fn stops(response: Response) -> bool {
    matches!(response, Response::Quarantine | Response::Revoke)
}

impl Responder {
    /// Takes in the record at `position`. The same records in the order of the log give the same responder.
    pub fn fold(&mut self, position: Position, record: &Record) {
        match record {
            Record::Finding(found) => self.found(position, found),
            Record::Response(responded) => self.responded(position, responded),
            Record::Settled(Settled { finding, code: Settlement::FalsePositive | Settlement::Benign, .. }) => self.settle(finding),
            Record::Quarantined(quarantined) => self.quarantined(position, quarantined),
            Record::Cautioned(cautioned) => {
                let response = if cautioned.caution == Caution::Ask { Response::Ask } else { Response::Lower };
                self.cautioned.insert(cautioned.agent.clone(), cautioned.caution);
                self.acted(cautioned.finding.as_ref(), response, position);
            }
            Record::Revoked(revoked) => {
                if let Revocation::Execution(execution) = revoked.what {
                    if self.revoked.len() >= REVOKED_MAX {
                        self.revoked.pop_front();
                    }
                    self.revoked.push_back(execution);
                }
                if let Some(finding) = &revoked.finding {
                    self.stopped(finding, revoked.at);
                }
                self.acted(revoked.finding.as_ref(), Response::Revoke, position);
            }
            Record::Released(released) => self.released(released),
            _ => {}
        }
    }

    fn found(&mut self, position: Position, found: &Found) {
        let case = Case::of(&found.finding);
        if !self.known.contains_key(&case.finding) {
            if self.order.len() >= KNOWN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(case.finding);
        }
        let known = self.known.entry(case.finding).or_insert_with(|| Known {
            found: position,
            agent: case.agent.clone(),
            execution: case.execution,
            answered: None,
            acts: Vec::new(),
            settled: false,
        });
        known.found = position;
        if !known.settled {
            self.open.retain(|_, open| open.finding != case.finding);
            self.open.insert(position, case);
        }
    }

    fn responded(&mut self, position: Position, responded: &Responded) {
        if let Some(settles) = responded.settles {
            self.held.remove(&settles);
        }
        if let Some(known) = self.known.get_mut(&responded.finding) {
            match responded.code {
                ResponseEnd::Failed => {}
                ResponseEnd::Dismissed | ResponseEnd::Undone => known.settled = true,
                code => {
                    // What a person decided stands.
                    known.settled |= responded.by != BY;
                    let before = known.answered.filter(|(response, before)| match (before, code) {
                        (ResponseEnd::DryRun, ResponseEnd::DryRun) => *response >= responded.response,
                        // What was only said is forgotten once something is done.
                        (ResponseEnd::DryRun, _) => false,
                        _ => *response > responded.response,
                    });
                    known.answered = before.or(Some((responded.response, code)));
                    if code == ResponseEnd::Done {
                        let new = responded.acts.iter().map(|act| (responded.response, *act));
                        new.for_each(|act| {
                            if !known.acts.contains(&act) {
                                known.acts.push(act)
                            }
                        });
                    }
                }
            }
        }
        match responded.code {
            ResponseEnd::Failed => return,
            ResponseEnd::Dismissed | ResponseEnd::Undone => self.settle(&responded.finding),
            ResponseEnd::Held => {
                if self.held.len() >= HELD_MAX {
                    self.held.pop_first();
                }
                self.held.insert(position, responded.clone());
            }
            ResponseEnd::Done | ResponseEnd::DryRun | ResponseEnd::Nothing => {}
        }
        self.open.retain(|found, open| open.finding != responded.finding || *found > responded.found);
        // What was planned for a later record of the same finding goes on.
        if self.under_way.get(&responded.finding).is_some_and(|under_way| under_way.found <= responded.found) {
            self.under_way.remove(&responded.finding);
        }
    }

    /// Nothing more is done about a finding by itself.
    fn settle(&mut self, finding: &Digest) {
        if let Some(known) = self.known.get_mut(finding) {
            known.settled = true;
        }
        self.open.retain(|_, open| open.finding != *finding);
        self.held.retain(|_, held| held.finding != *finding);
    }

    fn quarantined(&mut self, position: Position, quarantined: &Quarantined) {
        self.quarantined.insert(quarantined.agent.clone());
        // What is said again for those who read back a day is no news; what the log could not be told at once is.
        let Some(finding) = &quarantined.finding else { return };
        let known = self.known.get(finding);
        let is_untold = known.is_some_and(|known| known.acts.iter().all(|(done, _)| *done != Response::Quarantine));
        if quarantined.at == quarantined.since || is_untold {
            self.stopped(finding, quarantined.at);
            self.acted(Some(finding), Response::Quarantine, position);
        }
    }

    fn released(&mut self, released: &Released) {
        if released.lifts(Hold::Quarantine) {
            self.quarantined.remove(&released.agent);
        }
        if released.lifts(Hold::Caution) {
            self.cautioned.remove(&released.agent);
        }
        // A person looked at it: what held the agent does not hold it again.
        let of_agent = self.known.values_mut().filter(|known| known.agent.as_ref() == Some(&released.agent));
        for known in of_agent {
            let answered = known.answered.map(|(response, _)| response);
            let responses = known.acts.iter().map(|(response, _)| *response).chain(answered);
            known.settled |= responses.filter_map(holds).any(|hold| released.lifts(hold));
        }
        let known = &self.known;
        self.open.retain(|_, open| known.get(&open.finding).is_none_or(|known| !known.settled));
    }

    /// Something was stopped by itself, at that time.
    fn stopped(&mut self, finding: &Digest, at: Timestamp) {
        if let Some(under_way) = self.under_way.get_mut(finding) {
            under_way.stops = false;
        }
        if self.stops.len() >= STOPS_MAX {
            self.stops.pop_front();
        }
        self.stops.push_back(at);
    }

    /// Something was done because of a finding, as the record at `position` says.
    fn acted(&mut self, finding: Option<&Digest>, response: Response, position: Position) {
        let Some(known) = finding.and_then(|finding| self.known.get_mut(finding)) else { return };
        if !known.acts.iter().any(|(done, _)| *done == response) {
            known.acts.push((response, position));
        }
    }

    /// What is to be done now, in the order in which it was found: each once, until the log says what became of it or
    /// [`Self::failed`] does. `owner` says who answers for an agent.
    pub fn due(&mut self, orders: &Orders, owner: &dyn Fn(&AgentName) -> Option<String>, now: Timestamp) -> Vec<Planned> {
        let mut planned = Vec::new();
        self.let_go_of_settled(now);
        let open: Vec<(Position, Case)> = self.open.iter().map(|(found, case)| (*found, case.clone())).collect();
        for (found, case) in open {
            let before = self.under_way.get(&case.finding);
            if before.is_some_and(|before| before.found >= found && !before.again) {
                continue;
            }
            let response = orders.response(&case, owner);
            if !self.is_more(&case.finding, response) {
                self.open.remove(&found);
                continue;
            }
            let step = self.step(&case, response, orders, now);
            let stopped_before = self.under_way.get(&case.finding).is_some_and(|before| before.stops);
            let under_way = UnderWay {
                found,
                stops: stopped_before || (step == Step::Do && stops(response)),
                quarantines: case.agent.clone().filter(|_| step == Step::Do && response == Response::Quarantine),
                again: false,
            };
            self.under_way.insert(case.finding, under_way);
            planned.push(Planned { case, found, response, step });
        }
        planned
    }

    /// Whether something may be due.
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Notes at `now` that what was planned for a finding could not be done or not be recorded: it is due again, unless a person has decided
    /// about it meanwhile.
    pub fn failed(&mut self, finding: &Digest, now: Timestamp) {
        if self.open.values().any(|open| open.finding == *finding) {
            if let Some(under_way) = self.under_way.get_mut(finding) {
                under_way.again = true;
            }
        } else if self.under_way.remove(finding).is_some_and(|under_way| under_way.stops) {
            self.stopped(finding, now);
        }
    }

    /// What failed, and is not to be done again since a person has decided about it, counts like what was done.
    fn let_go_of_settled(&mut self, now: Timestamp) {
        let open: BTreeSet<Digest> = self.open.values().map(|case| case.finding).collect();
        let over = self.under_way.iter().filter(|(finding, under_way)| under_way.again && !open.contains(*finding));
        for finding in over.map(|(finding, _)| *finding).collect::<Vec<_>>() {
            self.failed(&finding, now);
        }
    }

    /// Whether `response` is more than what was answered of a finding. What was only said would be done is nothing: each record of such a
    /// finding is answered, so that what was found in a dry run is not acted on later by whoever reads the log again.
    fn is_more(&self, finding: &Digest, response: Response) -> bool {
        match self.known.get(finding).and_then(|known| known.answered) {
            Some((_, ResponseEnd::DryRun)) => true,
            Some((answered, _)) => response > answered,
            None => true,
        }
    }

    fn step(&self, case: &Case, response: Response, orders: &Orders, now: Timestamp) -> Step {
        let note = |code, why: &str| Step::Note(code, why.to_owned(), Vec::new());
        let held_by_another = |agent: &AgentName| {
            let by_another =
                |(finding, under_way): (&Digest, &UnderWay)| *finding != case.finding && under_way.quarantines.as_ref() == Some(agent);
            self.quarantined.contains(agent) || self.under_way.iter().any(by_another)
        };
        let acts = self.known.get(&case.finding).into_iter().flat_map(|known| &known.acts);
        let done: Vec<Position> = acts.filter(|(done, _)| *done == response).map(|(_, act)| *act).collect();
        match (response, &case.agent, case.execution) {
            (Response::Record | Response::Notify, ..) => return note(ResponseEnd::Done, ""),
            (Response::Revoke, _, None) => return note(ResponseEnd::Nothing, "it is about no execution of this house"),
            (Response::Lower | Response::Ask | Response::Quarantine, None, _) => {
                return note(ResponseEnd::Nothing, "it is about no agent of this house");
            }
            // Done, and then the record of that was lost with the process.
            _ if !done.is_empty() => return Step::Note(ResponseEnd::Done, String::new(), done),
            _ if now.duration_since(case.last).as_secs() > STALE_S => {
                return note(ResponseEnd::Nothing, "the last of it was too long ago for anything to be done by itself");
            }
            (Response::Lower | Response::Ask | Response::Quarantine, Some(agent), _) if held_by_another(agent) => {
                return note(ResponseEnd::Nothing, "the agent is quarantined already");
            }
            (Response::Lower, Some(agent), _) if self.cautioned.contains_key(agent) => {
                return note(ResponseEnd::Nothing, "the agent is under caution already");
            }
            (Response::Ask, Some(agent), _) if self.cautioned.get(agent) == Some(&Caution::Ask) => {
                return note(ResponseEnd::Nothing, "people are asked about the agent's calls already");
            }
            (Response::Revoke, _, Some(execution)) if self.revoked.contains(&execution) => {
                return note(ResponseEnd::Nothing, "the execution was revoked already");
            }
            _ => {}
        }
        if orders.mode == Mode::DryRun {
            return note(ResponseEnd::DryRun, "");
        }
        let is_counted = self.under_way.get(&case.finding).is_some_and(|under_way| under_way.stops);
        if stops(response) && !is_counted && self.stopped_lately(now) >= orders.stops_per_hour {
            let many = format!("{} stops within an hour are as many as there may be without a person", orders.stops_per_hour);
            return Step::Note(ResponseEnd::Held, many, Vec::new());
        }
        Step::Do
    }

    /// How much was stopped by itself within the hour before `now`, and is about to be.
    pub fn stopped_lately(&self, now: Timestamp) -> usize {
        let lately = self.stops.iter().filter(|at| now.duration_since(**at).as_secs() <= HOUR_S).count();
        // However long ago that was planned: it is in effect, or will be, and the log says so later than now.
        let under_way = self.under_way.values().filter(|under_way| under_way.stops).count();
        lately.saturating_add(under_way)
    }

    /// What is known of a finding.
    pub fn known(&self, finding: &Digest) -> Option<&Known> {
        self.known.get(finding)
    }

    /// The findings that are known, by the beginning of their names.
    pub fn named(&self, beginning: &str) -> Vec<Digest> {
        self.known.keys().filter(|finding| finding.to_string().starts_with(beginning)).copied().collect()
    }

    /// The responses that wait for a person, by the record of each, oldest first.
    pub const fn held(&self) -> &BTreeMap<Position, Responded> {
        &self.held
    }

    /// The other findings because of which the agent is held like this, beside `finding`.
    pub fn others(&self, finding: &Digest, agent: &AgentName, hold: Hold) -> Vec<Digest> {
        let is_other = |(name, known): &(&Digest, &Known)| {
            let answered = known.answered.filter(|(_, code)| matches!(code, ResponseEnd::Done | ResponseEnd::Nothing));
            *name != finding
                && !known.settled
                && known.agent.as_ref() == Some(agent)
                && answered.is_some_and(|(response, _)| holds(response) == Some(hold))
        };
        self.known.iter().filter(is_other).map(|(name, _)| *name).collect()
    }
}
