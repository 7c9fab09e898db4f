//! The commands, one file each: its arguments as a struct, and `run`, which returns the exit code.

pub(crate) mod answers;
pub(crate) mod approvals;
pub(crate) mod check;
pub(crate) mod connect;
pub(crate) mod executions;
pub(crate) mod explain;
pub(crate) mod findings;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod labels;
pub(crate) mod log;
pub(crate) mod policy;
pub(crate) mod rules;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod servers;
pub(crate) mod signals;
pub(crate) mod stop;
pub(crate) mod test;
pub(crate) mod token;
