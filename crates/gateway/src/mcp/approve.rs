//! What a client is told of a call that waits for a person, in the way that this client understands.
//!
//! A client that can open pages is asked to (elicitation in URL mode): of 2026-07-28 with a sealed `requestState`, with which it
//! makes the same call again; of 2025-11-25 by the error that this revision has for it. Any other gets an error that says where
//! the page is. A client that can wait is held until somebody has answered, for as long as the bundle says.

use std::time::Duration;

use bailiwick_log::Position;
use http::StatusCode;
use serde_json::json;

use super::exchange::Exchange;
use super::parse::{Era, code};
use super::reply::{self, META_DECISION, Settled};
use super::seal::State;
use crate::{Extras, Refusal, authz};

/// How long a call is held that comes back because its person opened the page: a client calls again as soon as it is opened. Less
/// than clients wait for an answer.
const OPENED: Duration = Duration::from_secs(20);

/// The revision that has an error for pages that have to be opened first.
const PAGES: &str = "2025-11-25";

impl Exchange {
    /// Waits for a person's answer to what was asked with the intent at `ask`, as long as this client is held. Whether it came.
    pub(super) async fn is_answered(&self, ask: Position) -> bool {
        let snapshot = self.face.gateway.parts().bundle.load();
        let mut hold = snapshot.settings.approvals.hold.std();
        if self.opened == Some(ask) {
            hold = hold.max(OPENED);
        }
        let execution = &self.who.execution;
        // Whoever is held counts among the calls of its execution, so that an agent cannot wait in any number.
        let Some(_place) = execution.place(snapshot.settings.limits.calls_per_execution_max) else { return false };
        tokio::select! {
            biased;
            () = execution.stopped(&self.who.token) => false,
            () = execution.heard_from_people(ask) => true,
            () = tokio::time::sleep(hold) => false,
        }
    }

    /// Tells the client that a person was asked.
    pub(super) fn asked(&self, refusal: &Refusal, extras: &Extras) -> Option<Settled> {
        let Refusal::Asked { code, intent, ask } = *refusal else { return None };
        let snapshot = self.face.gateway.parts().bundle.load();
        let approvals = &snapshot.settings.approvals;
        let context = authz::denial(&self.who.execution, approvals, code, ask);
        let page = approvals.page(ask);
        let asked = reply::Asked { code, record: intent, context, page: page.as_deref() };
        let Some(page) = page.as_deref().filter(|_| self.can_open_pages(ask)) else {
            return Some(reply::in_era(reply::asked(&asked, self.call.method, self.era), self.era));
        };
        let message = format!("A person has to approve this call of `{}`. The page shows what it would do.", self.call.tool);
        Some(match self.era {
            Era::Modern => {
                let params = json!({ "mode": "url", "message": message, "url": page });
                let kept = ["requestState", "inputResponses"];
                let extras = extras.iter().filter(|(key, _)| kept.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone()));
                match self.close(&State::Approval { ask, extras: extras.collect() }) {
                    Ok(state) => Settled::result(json!({
                        "resultType": "input_required",
                        "inputRequests": { "approval": { "method": "elicitation/create", "params": params } },
                        "requestState": state,
                        "_meta": { META_DECISION: { "verdict": "ask", "code": code.as_str(), "record": intent, "context": asked.context } },
                    })),
                    Err(settled) => settled,
                }
            }
            Era::Legacy(_) => {
                let elicitation = json!({ "mode": "url", "elicitationId": format!("approval-{ask}"), "message": message, "url": page });
                let decision = json!({ "verdict": "ask", "code": code.as_str(), "record": intent, "context": asked.context });
                let data = json!({ "elicitations": [elicitation], META_DECISION: decision });
                let error = json!({ "code": code::URL_ELICITATION, "message": message, "data": data });
                Settled { status: StatusCode::OK, body: Err(error) }
            }
        })
    }

    /// Whether this client says that it opens pages, and has not just opened this one or said that it opens none: nobody is sent to
    /// the same page over and over.
    fn can_open_pages(&self, ask: Position) -> bool {
        let protocol = match self.era {
            Era::Modern => matches!(self.call.method, "tools/call" | "prompts/get" | "resources/read"),
            Era::Legacy(revision) => revision == PAGES,
        };
        protocol && !self.declined && self.opened != Some(ask) && self.lacks("elicitation/create", &json!({ "mode": "url" })).is_none()
    }
}
