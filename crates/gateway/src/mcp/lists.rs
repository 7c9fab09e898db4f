//! What a caller is shown: exactly what it may call, in a fixed order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::bundle::{Snapshot, Tool};
use bailiwick_core::execution::Execution;
use bailiwick_core::judge;
use bailiwick_core::model::{ServerName, ToolName};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::parse::{Era, Fault, code};
use super::route::Route;
use super::{Offered, Offers, reply};

/// How many entries one page holds.
const PAGE: usize = 500;

/// How long a list waits for a server to say what it offers; what that server has is missing from the list then.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a list is made from.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) held: &'a HashSet<ToolName>,
    pub(super) execution: &'a Execution,
    pub(super) route: &'a Route,
}

impl View<'_> {
    /// Whether some call of `name` might be allowed to this caller.
    pub(super) fn may_ever(&self, name: &ToolName) -> bool {
        let may_be_called = |tool: &Tool| tool.is_reviewed(name) && !self.held.contains(name);
        self.snapshot.tool(name).is_some_and(may_be_called) && judge::may_ever(self.snapshot, self.execution, name)
    }

    /// Whether this caller is shown anything of `server`.
    pub(super) fn sees(&self, server: &ServerName) -> bool {
        let agent = &self.execution.started().agent;
        let declared = self.snapshot.servers.get(server).into_iter().flat_map(|server| server.tools.keys());
        self.route.has(server)
            && declared.filter_map(|own| ToolName::new(server, own).ok()).any(|name| self.snapshot.policies.may_ever(agent, &name))
    }

    /// The tools: the reviewed definitions, which are those that the servers offer wherever a tool is not held back.
    pub(super) fn tools(&self, era: Era) -> Vec<Value> {
        let mut shown = Vec::new();
        for server in self.route.servers(self.snapshot) {
            for (own, tool) in &server.tools {
                let (Some(pin), Ok(name)) = (&tool.pin, ToolName::new(&server.name, own)) else { continue };
                let Value::Object(mut definition) = pin.definition.clone() else { continue };
                if !self.may_ever(&name) {
                    continue;
                }
                definition.insert("name".to_owned(), self.route.shown(&server.name, own).into());
                if let Era::Legacy(_) = era {
                    reply::legacy_tool(&mut definition);
                }
                shown.push(Value::Object(definition));
            }
        }
        shown
    }

    /// The prompts.
    pub(super) fn prompts(&self, offered: &[(ServerName, Arc<Offered>)]) -> Vec<Value> {
        self.filtered(offered, |offered| &offered.prompts, "name", "prompt:")
    }

    /// The resources.
    pub(super) fn resources(&self, offered: &[(ServerName, Arc<Offered>)]) -> Vec<Value> {
        self.filtered(offered, |offered| &offered.resources, "uri", "resource:")
    }

    /// The resource templates: one is shown when its own text, braces and all, is of a declared resource's pattern.
    pub(super) fn templates(&self, offered: &[(ServerName, Arc<Offered>)]) -> Vec<Value> {
        self.filtered(offered, |offered| &offered.templates, "uriTemplate", "resource:")
    }

    fn filtered(&self, offered: &[(ServerName, Arc<Offered>)], of: fn(&Offered) -> &Vec<Value>, key: &str, kind: &str) -> Vec<Value> {
        let mut shown = Vec::new();
        for (server, offered) in offered {
            for item in of(offered) {
                let Some(own) = item.get(key).and_then(Value::as_str) else { continue };
                let visible = ToolName::new(server, &format!("{kind}{own}")).is_ok_and(|name| self.may_ever(&name));
                let Value::Object(mut item) = item.clone() else { continue };
                if !visible {
                    continue;
                }
                let name = match kind {
                    "prompt:" => self.route.shown(server, own),
                    _ => self.route.shown_uri(self.snapshot, server, own),
                };
                item.insert(key.to_owned(), name.into());
                shown.push(Value::Object(item));
            }
        }
        shown.sort_by_key(|item| item.get(key).and_then(Value::as_str).map(str::to_owned));
        shown
    }

    /// What the servers of the route offer, those that can be asked in time.
    pub(super) async fn offered(&self, offers: &dyn Offers) -> Vec<(ServerName, Arc<Offered>)> {
        let asked = self.route.servers(self.snapshot).map(|server| async move {
            let offered = tokio::time::timeout(PATIENCE, offers.offered(&server.name)).await;
            offered.ok().and_then(Result::ok).map(|offered| (server.name.clone(), offered))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// The capabilities of all servers together, as this side keeps their promises.
pub(super) fn capabilities(offered: &[(ServerName, Arc<Offered>)], era: Era) -> Map<String, Value> {
    let any = |key: &str| offered.iter().any(|(_, offered)| offered.capabilities.contains_key(key));
    let any_subscribes = offered.iter().any(|(_, offered)| {
        offered.capabilities.get("resources").and_then(|resources| resources.get("subscribe")).and_then(Value::as_bool).unwrap_or(false)
    });
    let mut joined = Map::new();
    joined.insert("tools".to_owned(), json!({ "listChanged": true }));
    if any("prompts") {
        joined.insert("prompts".to_owned(), json!({ "listChanged": true }));
    }
    if any("resources") {
        joined.insert("resources".to_owned(), json!({ "listChanged": true, "subscribe": any_subscribes }));
    }
    if any("completions") {
        joined.insert("completions".to_owned(), json!({}));
    }
    // A legacy client may set a level, which a modern server is then told with each request.
    if any("logging") || matches!(era, Era::Legacy(_)) {
        joined.insert("logging".to_owned(), json!({}));
    }
    joined
}

/// What the servers say about their use: one server's own words, or each under its server's name.
pub(super) fn instructions(offered: &[(ServerName, Arc<Offered>)], route: &Route) -> Option<String> {
    let said = offered.iter().filter_map(|(server, offered)| Some((server, offered.instructions.as_deref()?)));
    let texts: Vec<String> = match route {
        Route::One(_) => said.map(|(_, text)| text.to_owned()).collect(),
        Route::All => said.map(|(server, text)| format!("{server}: {text}")).collect(),
    };
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// One page of a list, from where `cursor` says.
pub(super) fn page(key: &str, mut items: Vec<Value>, cursor: Option<&Value>) -> Result<Map<String, Value>, Fault> {
    let start = match cursor {
        None | Some(Value::Null) => 0,
        Some(cursor) => {
            position(cursor).ok_or_else(|| Fault::new(code::INVALID_PARAMS, "invalid_params", "the cursor is not one of ours"))?
        }
    };
    let mut result = Map::new();
    if items.len().saturating_sub(start) > PAGE {
        let next = start.saturating_add(PAGE);
        items.truncate(next);
        result.insert("nextCursor".to_owned(), URL_SAFE_NO_PAD.encode(format!("from {next}")).into());
    }
    items.drain(..start.min(items.len()));
    result.insert(key.to_owned(), Value::Array(items));
    Ok(result)
}

fn position(cursor: &Value) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor.as_str()?).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix("from ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_whole_list() {
        let items: Vec<Value> = (0..1201).map(Value::from).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = page("tools", items.clone(), cursor.as_ref()).unwrap();
            seen.extend(page["tools"].as_array().unwrap().clone());
            cursor = page.get("nextCursor").cloned();
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, items);
        for bad in [json!("x"), json!(1), json!("ZnJvbSB4")] {
            assert_eq!(page("tools", items.clone(), Some(&bad)).unwrap_err().code, code::INVALID_PARAMS);
        }
    }
}
