//! Records as a busy gateway writes them, made fast enough that writing them is not what is measured.

use std::io::Write as _;

use bailiwick_core::model::{ExecutionId, Record, Timestamp};
use bailiwick_log::{Entry, Expected};

use crate::Result;

const DIGEST: &str = "sha256:0b1c2d3e4f5061728394a5b6c7d8e9f00b1c2d3e4f5061728394a5b6c7d8e9f0";

/// A call's record as it is stored, about 1,000 bytes, in the place of its execution that it claims.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Option<Expected>,
}

impl Entry for Stored {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn expected(&self) -> Option<Expected> {
        self.expected
    }
}

/// The execution with this number, begun at the given millisecond.
pub(crate) fn execution(number: u64, unix_ms: u64) -> ExecutionId {
    let mut random = [0; 10];
    random.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    ExecutionId::from_parts(unix_ms, random)
}

/// The start of an execution whose credential lives for an hour.
pub(crate) fn started(at: Timestamp, execution: ExecutionId, out: &mut Vec<u8>) -> Result {
    let expires = Timestamp::from_second(at.as_second().saturating_add(3600))?;
    write!(
        out,
        r#"{{"kind":"execution_started","at":"{at}","bundle":"{DIGEST}","execution":"{execution}","agent":"invoice-clerk","subject":"user:ana@acme.example","task":"Pay the invoices of this week that the accountants have approved","grant":[],"token":"{execution}.1","expires":"{expires}","proof":"private_key_jwt 2026-01"}}"#
    )?;
    Ok(())
}

/// An allowed call of `execution`.
pub(crate) fn intent(at: Timestamp, execution: ExecutionId, sequence: u64, position: u64, out: &mut Vec<u8>) -> Result {
    write!(
        out,
        r#"{{"kind":"intent","at":"{at}","bundle":"{DIGEST}","state":{position},"execution":"{execution}","sequence":{sequence},"agent":"invoice-clerk","subject":"user:ana@acme.example","tool":"tickets/search","effect":"read","protocol":"mcp","method":"tools/call","arguments_digest":"{DIGEST}","arguments":{{"query":"invoice {position} of this week","limit":20,"status":["open","approved"]}},"facts":{{"calls":{sequence},"labels":{{"integrity":"trusted"}}}},"verdict":"allow","code":"allowed","policies":["agents/invoice-clerk.toml#call"],"answers":{{"reasonable":{{"holds":true,"because":"call {sequence} of at most 200; nothing untrusted was read"}},"role":{{"holds":true,"because":"the agent's role includes `tickets/search`"}},"delegation":{{"holds":true,"because":"the agent acts for user:ana@acme.example itself"}},"normal":{{"holds":null,"because":"no baseline is kept yet"}}}}}}"#
    )?;
    Ok(())
}

/// A call that was denied: nothing ends it.
pub(crate) fn denied(at: Timestamp, execution: ExecutionId, sequence: u64, position: u64, out: &mut Vec<u8>) -> Result {
    let mut allowed = Vec::new();
    intent(at, execution, sequence, position, &mut allowed)?;
    let denied = String::from_utf8(allowed)?.replace(r#""verdict":"allow","code":"allowed""#, r#""verdict":"deny","code":"forbidden""#);
    out.extend_from_slice(denied.as_bytes());
    Ok(())
}

/// The end of the call whose intent is at `intent`.
pub(crate) fn outcome(at: Timestamp, execution: ExecutionId, sequence: u64, intent: u64, out: &mut Vec<u8>) -> Result {
    write!(
        out,
        r#"{{"kind":"outcome","at":"{at}","intent":{intent},"execution":"{execution}","sequence":{sequence},"agent":"invoice-clerk","tool":"tickets/search","code":"done","bytes":2210,"duration_us":18402,"labels":{{"integrity":"untrusted"}}}}"#
    )?;
    Ok(())
}

/// Fails unless what is made here is what the gateway reads.
pub(crate) fn check() -> Result {
    let (at, execution) = (Timestamp::from_second(1_800_000_000)?, execution(1, 1_800_000_000_000));
    let mut all = [const { Vec::new() }; 4];
    let [start, call, end, denial] = &mut all;
    started(at, execution, start)?;
    intent(at, execution, 7, 1_000_000, call)?;
    outcome(at, execution, 8, 1_000_000, end)?;
    denied(at, execution, 9, 1_000_000, denial)?;
    for entry in &all {
        Record::read(entry).map_err(|error| format!("{error} in {}", String::from_utf8_lossy(entry)))?;
    }
    Ok(())
}
