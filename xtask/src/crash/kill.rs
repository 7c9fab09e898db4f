//! `kill -9` and cuts of the power at random moments, a quarter of them while the gateway still starts and recovers.

use std::fs;
use std::path::PathBuf;

use super::volume::Volume;
use super::world::World;
use super::{Moments, Plan};
use crate::Result;
use crate::gateway;
use crate::process::Server;
use crate::report::Report;
use crate::tools::Tools;

/// One in so many ends the gateway while it starts.
const ONE_IN_STARTING: u64 = 4;
/// How long it may serve before its end comes, and how long it may have been starting.
const SERVING_MS: u64 = 400;
const STARTING_MS: u64 = 120;
/// After so many ends the log is verified, while it is written to.
const VERIFY_EVERY: usize = 20;

/// Kills the gateway `plan.kills` times, on a file system that is checked in the end where that is possible.
pub(super) fn kills(tools: &Tools, plan: Plan) -> Result<Report> {
    let volume = Volume::make(tools, "crash", 2048)?;
    let mut report = torment(tools, "crash", plan.kills, plan.seed, volume.as_ref(), |server| {
        server.must_be_running()?;
        server.kill();
        Ok(())
    })?;
    match &volume {
        Some(volume) => {
            volume.unmount()?;
            report.check(volume.check());
        }
        None => report.notes.push("not on a file system of its own, which takes root and loop devices".to_owned()),
    }
    Ok(report)
}

/// Cuts the power of the gateway's disk `plan.cuts` times: what was not synced is gone when the gateway starts again.
pub(super) fn cuts(tools: &Tools, plan: Plan) -> Result<Report> {
    let Some(volume) = Volume::make(tools, "power", 1024)? else {
        return Ok(unable("the power was not cut"));
    };
    let cut = |server: &mut Server| -> Result<()> {
        server.must_be_running()?;
        // The process first: a sync that is under way while ext4 is shut down may say that it succeeded although it did not,
        // which a disk without power cannot say. See `docs/limits.md`.
        server.kill();
        volume.cut()?;
        volume.unmount()?;
        // The file system's own journal is written back first, as by a machine that starts again.
        volume.mount("rw")?;
        volume.unmount()?;
        volume.check()?;
        volume.mount("rw")
    };
    torment(tools, "power", plan.cuts, plan.seed, Some(&volume), cut)
}

/// What is said where a check needs a file system of its own and the machine gives none.
pub(super) fn unable(what: &str) -> Report {
    let note = format!("{what}: that takes root and loop devices");
    Report { notes: vec![note], ..Report::default() }
}

fn torment(
    tools: &Tools,
    name: &str,
    ends: usize,
    seed: u64,
    volume: Option<&Volume<'_>>,
    mut end: impl FnMut(&mut Server) -> Result<()>,
) -> Result<Report> {
    let mut world = World::open(tools, name, volume.map(|volume| volume.path.as_path()))?;
    let mut moments = Moments(seed);
    let mut kept = Vec::new();
    let mut report = Report::default();
    let mut starting = 0;

    let mut server = world.serve()?;
    // The very first records of a log are as likely to be lost as any.
    end(&mut server)?;
    world.under_load(|| {
        for number in 1..ends {
            server = world.start()?;
            let early = moments.below(ONE_IN_STARTING) == 0;
            if early {
                moments.pass(STARTING_MS);
                starting += usize::from(!server.printed().contains(gateway::SERVING));
            } else {
                server.wait_for_text(gateway::SERVING)?;
                let paid = world.paid();
                moments.pass(SERVING_MS);
                if number % VERIFY_EVERY == 0 {
                    // Not before it has done something again: a gateway that starts and serves nobody is no recovery.
                    server.wait_until("a payment after a crash", || world.paid() > paid)?;
                    report.check(world.verify(&kept));
                    kept.push(keep_checkpoint(&world, number)?);
                }
            }
            end(&mut server)?;
        }
        Ok(())
    })?;

    report.merge(world.conclude(&kept)?);
    report.notes.push(format!("{name}: {ends} ends from seed {seed}, {starting} of them before the gateway served"));
    Ok(report)
}

/// Copies the newest checkpoint, as a witness would.
fn keep_checkpoint(world: &World<'_>, number: usize) -> Result<PathBuf> {
    let copy = world.bundle.directory.with_file_name(format!("checkpoint-{number}"));
    fs::copy(world.data.join("log/checkpoint"), &copy)?;
    Ok(copy)
}
