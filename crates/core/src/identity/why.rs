//! Why a token proves an agent, or does not: every question that is asked of it, with what was found.
//!
//! For the operator who writes a federation and the one who has to find out why a workload is refused. The questions are those
//! that the token service asks, put by the same functions; here all of them are answered, also after the first no. Nothing is
//! said from which the token could be put together again: no signature, and of its claims those alone that are asked for.

use serde::Serialize;
use serde_json::Value;

use super::assertion::{self, Trust};
use super::jws::{InvalidJwt, Jws};
use super::platform;
use crate::bundle::{Issuer, Snapshot};
use crate::model::{AgentName, Timestamp};

/// How many characters of a value are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// What was asked of a token, and what came out.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The issuer's name in the bundle; absent when it is none of them.
    pub issuer: Option<String>,
    /// Its kind.
    pub kind: Option<&'static str>,
    /// What is asked of each token of the issuer.
    pub asked: Vec<Asked>,
    /// What each agent's federation asks besides.
    pub federations: Vec<Federated>,
    /// The agents that it proves: one, or it proves none.
    pub proves: Vec<AgentName>,
    /// The whole of it in a sentence.
    pub verdict: String,
}

/// One question.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Its name.
    pub question: &'static str,
    /// Whether the token passes.
    pub holds: bool,
    /// What was found.
    pub found: String,
}

/// What one `[[agent.federation]]` asks.
#[derive(Clone, Debug, Serialize)]
pub struct Federated {
    /// The agent.
    pub agent: AgentName,
    /// The issuer that it names.
    pub issuer: String,
    /// Whether that is the token's.
    pub is_issuer: bool,
    /// Its claims.
    pub claims: Vec<Claim>,
    /// Whether all of it holds.
    pub holds: bool,
}

/// One claim that a federation asks for.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// The value that it must have.
    pub wanted: String,
    /// The value that it has, as JSON; absent when it is not there.
    pub found: Option<String>,
    /// Whether they are the same.
    pub holds: bool,
}

impl Why {
    /// Of a text that is no token at all.
    pub fn unreadable(error: &InvalidJwt) -> Self {
        let asked = Asked { question: "shape", holds: false, found: error.to_string() };
        Self::of(None, vec![asked], Vec::new())
    }

    /// Of a token of nobody whom the bundle trusts.
    pub fn unknown(token: &Jws<'_>, snapshot: &Snapshot) -> Self {
        let found = match token.issuer() {
            Some(issuer) => format!("no issuer `{}` is declared in issuers.toml", shown(issuer)),
            None => "the token has no `iss`, and its `sub` is of no SPIFFE trust domain that is declared".to_owned(),
        };
        let asked = Asked { question: "issuer", holds: false, found };
        Self::of(None, vec![asked], federations(token, snapshot, None))
    }

    /// Of a token of `issuer`, with its keys or why they could not be had.
    pub fn explain(token: &Jws<'_>, snapshot: &Snapshot, issuer: &Issuer, trust: Result<&Trust<'_>, String>, now: Timestamp) -> Self {
        let mut asked = Vec::new();
        match trust {
            Ok(trust) => {
                let answers = assertion::answers(token, trust, now);
                asked.extend(answers.map(|(question, answer)| Asked {
                    question,
                    holds: answer.is_ok(),
                    found: found(question, token, trust, &answer, now),
                }));
            }
            Err(found) => asked.push(Asked { question: "signature", holds: false, found }),
        }
        let rules = platform::workload(issuer, token.claims());
        let found = match &rules {
            Ok(()) => format!("it is what a workload of `{}` shows", issuer.kind.as_str()),
            Err(error) => error.to_string(),
        };
        asked.push(Asked { question: "kind", holds: rules.is_ok(), found });
        Self::of(Some(issuer), asked, federations(token, snapshot, Some(issuer)))
    }

    fn of(issuer: Option<&Issuer>, asked: Vec<Asked>, federations: Vec<Federated>) -> Self {
        let holds = asked.iter().all(|asked| asked.holds);
        let mut matching: Vec<AgentName> = federations.iter().filter(|one| one.holds).map(|one| one.agent.clone()).collect();
        matching.dedup();
        let refused = asked.iter().find(|asked| !asked.holds);
        let listed = || matching.iter().map(|agent| format!("`{agent}`")).collect::<Vec<_>>().join(", ");
        let verdict = match (refused, matching.as_slice()) {
            (Some(asked), []) => format!("it is refused: {}", asked.found),
            (Some(asked), _) => format!("it has the claims of {}, and is refused: {}", listed(), asked.found),
            (None, []) => "it is genuine, and its claims are those of no agent".to_owned(),
            (None, [agent]) => format!("it proves the agent `{agent}`"),
            (None, _) => format!("it has the claims of several agents, {}, so that the client has to name one by `client_id`", listed()),
        };
        let is_reviewed = holds && !matching.is_empty() && issuer.is_some_and(|issuer| issuer.review.is_some());
        let verdict = if is_reviewed { format!("{verdict}, if the API server says so too (it was not asked)") } else { verdict };
        Self {
            issuer: issuer.map(|issuer| issuer.name.clone()),
            kind: issuer.map(|issuer| issuer.kind.as_str()),
            asked,
            federations,
            proves: if holds { matching } else { Vec::new() },
            verdict,
        }
    }
}

/// What each agent's federations ask of the token: first those of its own issuer.
fn federations(token: &Jws<'_>, snapshot: &Snapshot, issuer: Option<&Issuer>) -> Vec<Federated> {
    let mut all: Vec<Federated> = Vec::new();
    for agent in snapshot.agents.values() {
        for federation in &agent.federation {
            let is_issuer = issuer.is_some_and(|issuer| issuer.issuer == federation.issuer);
            let claim = |(name, wanted): (&String, &String)| {
                let value = assertion::reach(token.claims(), name);
                let holds = value.is_some_and(|value| assertion::is(value, wanted));
                Claim { name: name.clone(), wanted: wanted.clone(), found: value.map(shown_value), holds }
            };
            let claims: Vec<Claim> = federation.claims.iter().map(claim).collect();
            let holds = is_issuer && assertion::claims_match(token.claims(), &federation.claims);
            all.push(Federated { agent: agent.name.clone(), issuer: federation.issuer.clone(), is_issuer, claims, holds });
        }
    }
    all.sort_by_key(|one| !one.is_issuer);
    all
}

/// What there is to say of one answer.
fn found(question: &str, token: &Jws<'_>, trust: &Trust<'_>, answer: &Result<(), InvalidJwt>, now: Timestamp) -> String {
    let fault = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let kid = token.kid().map_or_else(|| "none".to_owned(), |kid| format!("`{}`", shown(kid)));
    match (question, answer) {
        ("algorithm", Ok(())) => format!("`{}`", token.algorithm().as_str()),
        ("algorithm", _) => format!("`{}`, and the issuer may sign with {}", token.algorithm().as_str(), trust.algorithms.join(", ")),
        ("signature", Ok(())) => format!("by the issuer's key, `kid` {kid}"),
        ("signature", _) => format!("{fault}; its `kid` is {kid}"),
        ("issuer", Ok(())) => trust.issuer.map_or_else(|| "by the trust domain of `sub`".to_owned(), |issuer| format!("`{issuer}`")),
        ("audience", Ok(())) => format!("`{}` and no other", trust.audience),
        ("audience", _) => {
            let has = token.claims().get("aud").map_or_else(|| "absent".to_owned(), shown_value);
            format!("`aud` is {has}, and has to be \"{}\" and no other: ask the platform for a token with that audience", trust.audience)
        }
        ("time", Ok(())) => match token.seconds("exp") {
            Ok(Some(expires_s)) => format!("it expires in {} s", expires_s.saturating_sub(now.as_second())),
            _ => fault,
        },
        ("time", Err(InvalidJwt::Expired)) => match token.seconds("exp") {
            Ok(Some(expires_s)) => format!("it expired {} s ago", now.as_second().saturating_sub(expires_s)),
            _ => fault,
        },
        (_, Ok(())) => "as it should be".to_owned(),
        _ => fault,
    }
}

fn shown_value(value: &Value) -> String {
    shown(&value.to_string())
}

fn shown(text: &str) -> String {
    crate::model::shown(text, SHOWN_CHARS_MAX)
}
