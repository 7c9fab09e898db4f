//! What the rules find, in the shapes that others read, held against the schemas of those others.

use std::fs;
use std::process::Command;

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
    let mut report = client(tools, "findings", python(tools, "findings.py").arg(program(tools)).args([&events, &directory]))?;
    tools.python_environment("aws", &tools.root.join("interop/aws.txt"))?;
    let mut shapes = Command::new(tools.cache().join("aws/bin/python"));
    shapes.current_dir(tools.root.join("interop")).arg("clients/finding_shapes.py").arg(program(tools)).args([events, directory]);
    report.merge(client(tools, "finding-shapes", &mut shapes)?);
    Ok(report)
}
