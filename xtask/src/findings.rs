//! What the rules find, in the shape that others read, held against the schema of those others.

use std::fs;

use crate::Result;
use crate::gateway::program;
use crate::interop::{client, python};
use crate::report::Report;
use crate::tools::Tools;

/// Judges kept events of CloudTrail with the program as it is, and has what it prints validated by what is not ours.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let directory = tools.cache().join("findings");
    fs::create_dir_all(&directory)?;
    let events = tools.root.join("eval/cloudtrail/corpus/invictus.jsonl.gz");
    client(tools, "findings", python(tools, "findings.py").arg(program(tools)).args([events, directory]))
}
