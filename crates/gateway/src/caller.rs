//! The agent's end of a call that is under way: what a tool may show and ask before it answers.

use async_trait::async_trait;
use serde_json::Value;

use crate::ToolFault;

/// What a caller answers to a question in the middle of its call: a result, or a fault of its own.
pub type Answered = Result<Value, ToolFault>;

/// The agent's end of one call.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Shows the caller something before the answer: a notification, as the protocol's own message without an id.
    ///
    /// Resolves once there is room for it; a caller that has gone loses it.
    async fn show(&self, notification: Value);

    /// Asks the caller something in the middle of its call, such as MCP's `elicitation/create`, and waits for its answer.
    ///
    /// Fails with a fault when the caller cannot be asked; the tool is told so.
    async fn ask(&self, method: &str, params: Value) -> Answered;
}
