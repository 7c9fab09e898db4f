//! What the rules find, in the shapes that others read, held against the schemas of those others.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::gateway::program;
use crate::interop::{client, python};
use crate::process::{Server, free_port};
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
    report.merge(bucket(tools)?);
    Ok(report)
}

/// A trail in a bucket, as moto answers for S3 and boto3 filled it.
fn bucket(tools: &Tools) -> Result<Report> {
    let directory = tools.cache().join("trail-bucket");
    fs::create_dir_all(&directory)?;
    let aws = |name: &str| Command::new(tools.cache().join("aws/bin").join(name));
    let port = free_port()?;
    let mut s3 = Server::start(tools, "moto-s3", aws("moto_server").args(["-H", "127.0.0.1", "-p", &port.to_string()]))?;
    s3.wait_for_port(port)?;
    let mut trail = aws("python");
    trail.current_dir(tools.root.join("interop")).arg("clients/trail_bucket.py").arg(program(tools));
    client(tools, "trail-bucket", trail.arg(format!("http://127.0.0.1:{port}")).arg(directory))
}
