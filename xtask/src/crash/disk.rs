//! A disk that is full, and one that is read-only: before the gateway starts, and under it while it serves.

use super::kill::unable;
use super::volume::Volume;
use super::world::World;
use crate::Result;
use crate::process::Server;
use crate::report::Report;
use crate::tools::Tools;

/// How many calls are tried on a gateway that cannot record them.
const TRIES: usize = 20;

/// A full disk: nothing goes out that is not recorded, and with space given back it goes on.
pub(super) fn full(tools: &Tools) -> Result<Report> {
    let Some(volume) = Volume::make(tools, "full", 32)? else {
        return Ok(unable("no disk was filled"));
    };
    let mut world = World::open(tools, "full", Some(&volume.path))?;
    let mut report = Report::default();
    let mut server = world.serve()?;
    world.under_load(|| {
        let before = world.paid();
        server.wait_until("payments", || world.paid() > before + 20)?;
        volume.fill()?;
        failed(&world, &mut server)
    })?;
    report.merge(refuses(&world, "a full disk")?);
    server.must_be_running()?;
    server.kill();

    let said = world.refused_start()?;
    report.check(says(&said, &["No space left on device", "data directory", "free space"]));
    volume.empty()?;
    report.merge(world.conclude(&[])?);
    volume.unmount()?;
    report.check(volume.check());
    Ok(report)
}

/// A disk that turns read-only under the gateway, as ext4 does when its device fails; and one that is so from the start.
pub(super) fn read_only(tools: &Tools) -> Result<Report> {
    let Some(volume) = Volume::make(tools, "read-only", 64)? else {
        return Ok(unable("no disk was made read-only"));
    };
    let mut world = World::open(tools, "read-only", Some(&volume.path))?;
    let mut report = Report::default();
    let mut server = world.serve()?;
    world.under_load(|| {
        let before = world.paid();
        server.wait_until("payments", || world.paid() > before + 20)
    })?;
    // At a moment without a sync under way: one that ext4 aborts amid may say that it succeeded. See `docs/limits.md`.
    server.wait_until("its newest checkpoint", || world.is_settled())?;
    volume.turn_read_only()?;
    failed(&world, &mut server)?;
    report.merge(refuses(&world, "a read-only disk")?);
    server.must_be_running()?;
    server.kill();

    volume.unmount()?;
    volume.mend()?;
    volume.mount("ro")?;
    let said = world.refused_start()?;
    report.check(says(&said, &["Read-only file system", "data directory", "mount it writable"]));
    volume.unmount()?;
    volume.mount("rw")?;
    report.merge(world.conclude(&[])?);
    volume.unmount()?;
    report.check(volume.check());
    Ok(report)
}

/// Waits until the gateway has found out that its log cannot be written.
fn failed(world: &World<'_>, server: &mut Server) -> Result<()> {
    server.wait_until("a call that could not be recorded", || world.pay().is_ok_and(|answer| answer.contains("not_recorded")))
}

/// The gateway lives, says of every call that it is not done and whose move it is, and nothing reaches the tool.
fn refuses(world: &World<'_>, on: &str) -> Result<Report> {
    let mut report = Report::default();
    let before = world.paid();
    let refused = |answer: &str| answer.starts_with("HTTP/1.1 503 ") && answer.contains("not_recorded: ");
    let answers = (0..TRIES).map(|_| world.pay()).collect::<Result<Vec<_>>>()?;
    report.check(match answers.iter().find(|answer| !refused(answer)) {
        None => Ok(()),
        Some(answer) => Err(format!("on {on} a call is answered otherwise than by a refusal:\n{answer}")),
    });
    let after = world.paid();
    report.check(if after == before { Ok(()) } else { Err(format!("on {on} {} payments went out", after - before)) });
    Ok(report)
}

fn says(said: &str, parts: &[&str]) -> Result<(), String> {
    // Long lines of an error are wrapped for the terminal.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
    match parts.iter().find(|part| !said.contains(**part)) {
        None => Ok(()),
        Some(part) => Err(format!("a start that cannot be says nothing of `{part}`:\n{said}")),
    }
}
