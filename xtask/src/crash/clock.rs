//! A clock that is set back by an hour while the gateway serves, across a restart, and forward again.
//!
//! The programs' calls of the system clock go through libfaketime (Debian `faketime`), which reads from a file how far off the
//! clock is; the monotonic clock stays what it is, as on a machine whose wall clock is set.

use std::fs;

use super::world::World;
use crate::Result;
use crate::report::Report;
use crate::tools::Tools;

/// Sets the machine's clock back for the gateway and its clients.
pub(super) fn set_back(tools: &Tools) -> Result<Report> {
    let Some(library) = library() else {
        return Ok(Report { notes: vec!["no clock was set back: that takes libfaketime".to_owned()], ..Report::default() });
    };
    let world = World::open(tools, "clock", None)?;
    let file = world.bundle.directory.with_file_name("clock.txt");
    let set = |offset: &str| fs::write(&file, format!("{offset}\n"));
    let mut world = world.with_environment(vec![
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]);
    let mut report = Report::default();
    set("+0s")?;
    let mut server = world.serve()?;
    let mut check = |offset: &str, restart: bool, begins: bool| -> Result<()> {
        let said = |what: &str| format!("{what} with the clock at {offset}");
        set(offset)?;
        if restart {
            server.must_be_running()?;
            server.kill();
            server = world.serve()?;
        }
        // An execution that began at a time that has not come yet is refused, or goes on: it is never half of each.
        let (before, answer) = (world.paid(), world.pay()?);
        let went = answer.contains("paid acme");
        report.check(if went == (world.paid() > before) { Ok(()) } else { Err(said("a call was refused and made")) });
        if begins {
            world.connect_anew()?;
            let before = world.answered();
            world.under_load(|| server.wait_until(&said("payments"), || world.answered() > before + 20))?;
        }
        report.check(world.verify(&[]));
        Ok(())
    };
    // Set back under it, it begins no execution: whether the agent's assertion was used before cannot be known.
    for (offset, restart, begins) in [
        ("+0s", false, true),
        ("-10s", false, false),
        ("-1h", false, false),
        ("-1h", true, true),
        ("-2h", true, true),
        ("+0s", false, true),
        ("+0s", true, true),
    ] {
        check(offset, restart, begins)?;
    }
    drop(server);
    report.merge(world.conclude(&[])?);
    Ok(report)
}

fn library() -> Option<String> {
    let libraries = fs::read_dir("/usr/lib").ok()?;
    let mut found = libraries.filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketime.so.1")));
    found.find(|path| path.exists()).map(|path| path.display().to_string())
}
