//! Programs that run while something is measured, and what they cost.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::{Result, clock};

/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program. It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    log: std::path::PathBuf,
}

impl Program {
    /// Starts it with all that it says in `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let said = File::create(log)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().map_err(|error| format!("{} does not start: {error}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens on `port`.
    pub(crate) async fn wait_until_it_listens(&self, port: u16) -> Result {
        let began = clock::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if began.elapsed() > PATIENCE {
                return Err(format!("nothing listens on {port}; {} says what happened", self.log.display()).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The CPU time of the program and its children up to now, user and system.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        let mut waiting = vec![self.child.id()];
        while let Some(id) = waiting.pop() {
            for thread in fs::read_dir(format!("/proc/{id}/task"))? {
                let thread = thread?.path();
                // Nanoseconds on a CPU, where `stat` counts ticks of 10 ms.
                let scheduled = fs::read_to_string(thread.join("schedstat"))?;
                let spent = scheduled.split_whitespace().next().ok_or("the kernel counts no CPU time")?;
                sum += Duration::from_nanos(spent.parse()?);
                let children = fs::read_to_string(thread.join("children"))?;
                waiting.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        Ok(sum)
    }

    /// Its resident memory now, in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        resident_kib(self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // So that a master ends its workers too.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// A port on loopback that nothing listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The resident memory of a process, in KiB.
pub(crate) fn resident_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the kernel counts no memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The release build of `bailiwick` beside this program, where `cargo xtask bench` puts both.
pub(crate) fn bailiwick() -> Result<Command> {
    let program = std::env::current_exe()?.with_file_name("bailiwick");
    if program.exists() {
        Ok(Command::new(program))
    } else {
        Err(format!("there is no {}: `cargo xtask bench` builds it", program.display()).into())
    }
}
