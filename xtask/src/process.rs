//! Programs that a check runs: to their end, or as servers that are stopped when the check is over.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::tools::Tools;

/// How often a server that is waited for is looked at, and how many times: one minute.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSES_MAX: u32 = 3_000;

/// What a program that ran to its end left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Whether it exited with 0.
    pub(crate) success: bool,
    /// Everything that it printed, both streams in the order in which they were written.
    pub(crate) output: String,
    /// Where the same text is kept.
    pub(crate) log: PathBuf,
}

impl Ended {
    /// The last `lines` lines of what was printed, for an error message.
    pub(crate) fn tail(&self, lines: usize) -> String {
        tail(&self.output, lines)
    }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// Runs a program to its end with its output in a log file, and on the terminal too if `verbose`.
///
/// # Errors
/// Only when the program cannot be started; a program that fails is told by [`Ended::success`].
pub(crate) fn run(tools: &Tools, name: &str, command: &mut Command) -> Result<Ended> {
    let log = tools.log_file(name)?;
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().map_err(|why| format!("cannot start {:?}: {why}", command.get_program()))?;
    // The parent's copies of the writing end must go, or the reader would wait for them for ever.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut output = String::new();
    let mut kept = File::create(&log)?;
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        std::io::Write::write_all(&mut kept, text.as_bytes())?;
        if tools.verbose {
            print!("{text}");
        }
        output.push_str(&text);
        line.clear();
    }
    Ok(Ended { success: child.wait()?.success(), output, log })
}

/// A server that lives as long as this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts a server; what it prints goes to a log file.
    pub(crate) fn start(tools: &Tools, name: &str, command: &mut Command) -> Result<Self> {
        let log = tools.log_file(name)?;
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|why| format!("cannot start {:?}: {why}", command.get_program()))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Waits until something accepts connections on a loopback port, as long as the server lives.
    pub(crate) fn wait_for_port(&mut self, port: u16) -> Result<()> {
        self.wait_for(&format!("port {port} to open"), |_| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Waits until the server has printed a text.
    pub(crate) fn wait_for_text(&mut self, text: &str) -> Result<()> {
        self.wait_for(&format!("it to print `{text}`"), |printed| printed.contains(text))
    }

    /// Waits until something holds, as long as the server lives.
    pub(crate) fn wait_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
        self.wait_for(what, |_| holds())
    }

    /// Ends the server as a crash would, at once and without a word to it.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; then there is nothing left to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// An error that says what it printed if it has ended by itself.
    pub(crate) fn must_be_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("{} ended by itself ({status}):\n{}", self.name, tail(&self.printed(), 30)).into()),
            None => Ok(()),
        }
    }

    /// Waits until the server has ended with a failure, and gives what it printed.
    pub(crate) fn wait_for_end(&mut self) -> Result<String> {
        for _ in 0..PAUSES_MAX {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Err(format!("{} ended as if all was well", self.name).into()),
                Some(_) => return Ok(self.printed()),
                None => std::thread::sleep(PAUSE),
            }
        }
        Err(format!("{} did not end within a minute:\n{}", self.name, tail(&self.printed(), 30)).into())
    }

    fn wait_for(&mut self, what: &str, mut come: impl FnMut(&str) -> bool) -> Result<()> {
        for _ in 0..PAUSES_MAX {
            if come(&self.printed()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended ({status}) while we waited for {what}:\n{}", self.name, tail(&self.printed(), 30)).into());
            }
            std::thread::sleep(PAUSE);
        }
        Err(format!("{} kept us waiting for {what} for a minute:\n{}", self.name, tail(&self.printed(), 30)).into())
    }

    /// What the server has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback port that nobody listens on at the moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The text of a file, or an error that names it.
pub(crate) fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(text)
}
