//! One request as the peer wants it made, and the form that it takes in each of the two eras (pure).

use bailiwick_core::bundle::Limits;
use bailiwick_core::json;
use bailiwick_core::model::ExecutionId;
use serde_json::{Map, Value, json as object};

use super::converse::About;
use super::message::Params;
use super::mirror::Mirror;
use super::news::News;
use crate::Caller;
use crate::mcp::parse::{META_CAPABILITIES, META_LOG_LEVEL, META_VERSION, MODERN};

/// The member of `_meta` that names the client.
const META_INFO: &str = "io.modelcontextprotocol/clientInfo";

/// The member of `_meta` by which progress is reported.
const PROGRESS_TOKEN: &str = "progressToken";

/// One request.
pub(super) struct Asking<'a> {
    /// The method.
    pub(super) method: &'a str,
    /// The parameters without `_meta`.
    pub(super) params: Params,
    /// What goes with a request made again with answers: `inputResponses`, `requestState`. For modern servers only.
    pub(super) answers: Map<String, Value>,
    /// `_meta` as 2026-07-28 wants it of the caller; empty for requests of our own.
    pub(super) meta: Map<String, Value>,
    /// What is repeated as `Mcp-Name`.
    pub(super) name: Option<&'a str>,
    /// Which arguments are repeated as `Mcp-Param-*`, and the arguments.
    pub(super) mirrored: Option<(&'a [Mirror], &'a Value)>,
    /// The caller; none for requests of our own.
    pub(super) caller: Option<&'a dyn Caller>,
    /// The execution that it is made for; none for requests of our own.
    pub(super) execution: Option<ExecutionId>,
    /// Bounds.
    pub(super) limits: &'a Limits,
}

impl<'a> Asking<'a> {
    /// A request of our own, on nobody's behalf.
    pub(super) fn own(method: &'a str, params: Params, limits: &'a Limits) -> Self {
        let (answers, meta) = (Map::new(), Map::new());
        Self { method, params, answers, meta, name: None, mirrored: None, caller: None, execution: None, limits }
    }

    /// The parameters for a modern server.
    pub(super) fn modern(&self, id: u64) -> Params {
        let mut meta = self.meta.clone();
        meta.insert(META_VERSION.to_owned(), MODERN.into());
        meta.entry(META_CAPABILITIES).or_insert_with(|| object!({}));
        meta.entry(META_INFO).or_insert_with(ourselves);
        if self.progress().is_some() {
            meta.insert(PROGRESS_TOKEN.to_owned(), id.into());
        }
        let mut params = self.params.clone();
        for (name, value) in &self.answers {
            params.set(name, value);
        }
        params.set("_meta", &Value::Object(meta));
        params
    }

    /// The parameters for a legacy server: what its handshake said is not repeated.
    pub(super) fn legacy(&self, id: u64) -> Params {
        let mut meta = self.meta.clone();
        meta.retain(|key, _| !key.starts_with("io.modelcontextprotocol/"));
        if self.progress().is_some() {
            meta.insert(PROGRESS_TOKEN.to_owned(), id.into());
        }
        let mut params = self.params.clone();
        if !meta.is_empty() {
            params.set("_meta", &Value::Object(meta));
        }
        params
    }

    /// What the caller can be asked, as a legacy handshake declares it.
    pub(super) fn capabilities(&self) -> Map<String, Value> {
        let mut declared = self.meta.get(META_CAPABILITIES).and_then(Value::as_object).cloned().unwrap_or_default();
        declared.retain(|name, _| matches!(name.as_str(), "elicitation" | "sampling" | "roots"));
        declared
    }

    /// Who the client says it is; untrusted, and passed on as such.
    pub(super) fn info(&self) -> Value {
        self.meta.get(META_INFO).cloned().unwrap_or_else(ourselves)
    }

    /// From which level on the caller wants to see log messages.
    pub(super) fn level(&self) -> Option<&str> {
        self.meta.get(META_LOG_LEVEL)?.as_str()
    }

    /// The caller's own progress token.
    fn progress(&self) -> Option<&Value> {
        self.meta.get(PROGRESS_TOKEN)
    }

    /// What the conversation about it is bound by.
    pub(super) fn about<'b>(&'b self, id: u64, questions: bool, news: &'b News) -> About<'b> {
        About {
            id,
            progress: self.progress().cloned(),
            caller: self.caller,
            silence_max: self.limits.upstream_timeout.std(),
            limits: json_limits(self.limits),
            questions,
            news,
        }
    }
}

/// A bundle's limits, as they bound one message of a server.
pub(super) const fn json_limits(limits: &Limits) -> json::Limits {
    json::Limits { bytes_max: limits.reply_bytes_max, depth_max: limits.depth_max }
}

/// Who we are.
pub(super) fn ourselves() -> Value {
    object!({ "name": "bailiwick", "version": env!("CARGO_PKG_VERSION") })
}
