//! Who is calling, once a credential was accepted.

use std::sync::Arc;

use crate::execution::Execution;
use crate::model::Timestamp;

/// A caller whose credential was accepted: the execution that it is of, and the credential itself by its id.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The execution.
    pub execution: Arc<Execution>,
    /// The `jti` of the credential.
    pub token: Arc<str>,
    /// When the credential expires.
    pub expires: Timestamp,
}
