//! Tool servers that are not who they were (SC-05), by what they say of themselves.

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::{Code, Kept};
use crate::detect::finding::{About, Finding, Response};
use crate::model::{ServerDescribed, ServerName, shown};

/// How many servers are known.
const SERVERS_MAX: usize = 4_096;

pub(super) const CHANGED: Code = Code {
    id: "server-changed",
    catalogue: "SC-05",
    title: "A tool server is another than it was",
    expected: "Behind the name of a server is the same program as before.",
    tags: &["attack.credential-access", "attack.t1557", "atlas.aml.t0074", "owasp.asi04"],
    guardduty: None,
    falsepositives: &["A server that was exchanged or renamed by those who run it"],
    response: Response::Notify,
    impact: 7,
    confidence: 0.5,
};

/// What each server said of itself last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Servers(Kept<ServerName, ServerDescribed>);

impl Servers {
    pub(super) fn described(&mut self, position: Position, described: &ServerDescribed) -> Option<Finding> {
        let known = self.0.entry(described.server.clone(), SERVERS_MAX, || described.clone());
        let before = std::mem::replace(known, described.clone());
        let called =
            |one: &ServerDescribed| one.name.as_deref().map_or_else(|| "nothing".to_owned(), |name| format!("`{}`", shown(name, 80)));
        let differs = [
            (before.name != described.name).then(|| format!("calls itself {} and not {} any more", called(described), called(&before))),
            (before.place != described.place).then(|| "is reached elsewhere".to_owned()),
        ];
        let differs: Vec<String> = differs.into_iter().flatten().collect();
        let seen = format!("The server `{}` {}.", described.server, differs.join(" and "));
        (!differs.is_empty()).then(|| CHANGED.about(position, described.at, About::default(), seen))
    }
}
