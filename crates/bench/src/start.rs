//! Starting: how long until the program answers, with an empty log and with a long one, and what it takes when idle.

use std::fs::{self, DirBuilder};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bailiwick_core::model::{Clock as _, Timestamp};
use bailiwick_log::Storage as _;
use bailiwick_log::note::private_text;
use bailiwick_store::embedded::{self, Options};
use tempfile::TempDir;

use crate::Result;
use crate::clock::{WallClock, now};
use crate::log::{audited, on_disk, signer};
use crate::process::{self, resident_kib};
use crate::records;
use crate::table::Table;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Logs to start on: how many records, and over how long they spread until now.
const LOGS: [(u64, Duration); 4] = [(0, DAY), (1_000_000, DAY), (10_000_000, Duration::from_secs(30 * 24 * 3600)), (10_000_000, DAY)];

/// How often each start is measured; the median is shown.
const STARTS: usize = 5;

/// Measures starts.
pub(crate) fn measure() -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut table = Table::new(&[
        "records",
        "over days",
        "of them in the last 25 h",
        "first answer, nothing kept ms",
        "first answer ms",
        "greeting ms",
        "resident when idle MiB",
    ]);
    let mut last = None;
    for (count, span) in LOGS {
        drop(last.take()); // room on the disk for the next
        let house = on_disk()?;
        let ports = prepare(&house)?;
        let bytes = runtime.block_on(fill(&house.path().join(".bailiwick/log"), count, span))?;
        // The first finds a log of which nothing was folded yet, as after a change of what is kept.
        let first = start(house.path(), ports)?;
        let mut starts = (0..STARTS).map(|_| start(house.path(), ports)).collect::<Result<Vec<_>>>()?;
        starts.sort_unstable_by_key(|start| start.answered);
        let median = starts.get(STARTS / 2).ok_or("nothing was started")?;
        let days = span.as_secs_f64() / DAY.as_secs_f64();
        table.row([
            count.to_string(),
            format!("{days:.0}"),
            format!("{:.0}", count as f64 * (25.0 / 24.0 / days).min(1.0)),
            format!("{:.0}", first.answered.as_secs_f64() * 1e3),
            format!("{:.0}", median.answered.as_secs_f64() * 1e3),
            format!("{:.0}", median.greeted.as_secs_f64() * 1e3),
            format!("{:.1}", median.resident_kib as f64 / 1024.0),
        ]);
        last = Some((house, bytes));
    }
    println!("{table}");
    let Some((house, bytes)) = last else { return Ok(()) };
    println!("The longest of these logs, verified and proven from.\n");
    audited(&house.path().join(".bailiwick/log"), bailiwick_log::note::Signer::verifier(&*signer()?), bytes)
}

/// Makes a bundle and the log's key. Returns the ports of the two listeners, which are free now.
fn prepare(house: &TempDir) -> Result<(SocketAddr, SocketAddr)> {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let (data, identity) = (free()?, free()?);
    let write = |path: &str, text: &str| -> Result {
        let path = house.path().join(path);
        fs::create_dir_all(path.parent().ok_or("a file is in no directory")?)?;
        Ok(fs::write(path, text)?)
    };
    write(
        "bailiwick.toml",
        &format!("trust_domain = \"acme.example\"\n\n[data]\nlisten = \"{data}\"\n\n[identity]\nlisten = \"{identity}\"\n"),
    )?;
    write(
        "agents/invoice-clerk.toml",
        "[agent]\nname = \"invoice-clerk\"\nowner = \"ana@acme.example\"\npurpose = \"Pay the invoices of the week\"\nroles = [\"payer\"]\n",
    )?;
    let keys = house.path().join(".bailiwick/keys");
    DirBuilder::new().recursive(true).mode(0o700).create(&keys)?;
    let mut key = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(key.write(true).create_new(true), 0o600);
    writeln!(key.open(keys.join("log.key"))?, "{}", private_text("acme.example/log", &[7; 32])?)?;
    Ok((data, identity))
}

/// Fills a log with the calls of executions of a hundred records each, spread evenly over the time up to now. Returns how many
/// bytes the records have.
async fn fill(directory: &Path, count: u64, span: Duration) -> Result<u64> {
    let storage = embedded::open(directory, signer()?, Options::default())?;
    let end = WallClock.now();
    let mut bytes = 0;
    for number in 0..count {
        let ago = span.mul_f64((count - number) as f64 / count as f64);
        let at: Timestamp = end.checked_sub(ago)?;
        let run = records::execution(number / 100, 1_800_000_000_000);
        let (mut entry, place) = (Vec::with_capacity(1100), number % 100);
        match place {
            0 => records::started(at, run, &mut entry)?,
            _ if place % 2 == 1 && place < 99 => records::intent(at, run, place - 1, number, &mut entry)?,
            99 => records::denied(at, run, place - 1, number, &mut entry)?,
            _ => records::outcome(at, run, place - 1, number - 1, &mut entry)?,
        }
        bytes += entry.len() as u64;
        storage.append(entry, None).await?;
    }
    storage.close()?;
    Ok(bytes)
}

/// One start, as seen from outside.
struct Start {
    answered: Duration,
    greeted: Duration,
    resident_kib: u64,
}

/// Starts the program on the bundle in `house`, waits for its first answer and its greeting, and stops it.
fn start(house: &Path, (data, _): (SocketAddr, SocketAddr)) -> Result<Start> {
    let mut program = process::bailiwick()?;
    let began = now();
    let child = program.arg("serve").arg(house).env("RUST_LOG", "warn").stderr(Stdio::piped()).spawn()?;
    let mut child = Running(child);
    let said = child.0.stderr.take().ok_or("the program has no output")?;
    let greeting = std::thread::spawn(move || greeted(said, began));
    let answered = loop {
        if let Ok(()) = ask(data) {
            break began.elapsed();
        }
        if let Some(status) = child.0.try_wait()? {
            return Err(format!("the program ended: {status}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let greeted = greeting.join().map_err(|_| "the reader of the greeting panicked")??;
    // The allocator gives back what the start took within a few seconds.
    std::thread::sleep(Duration::from_secs(2));
    let resident_kib = resident_kib(child.0.id())?;
    Command::new("kill").arg("-TERM").arg(child.0.id().to_string()).status()?;
    child.0.wait()?;
    Ok(Start { answered, greeted, resident_kib })
}

/// The program, ended whatever happens here.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When the program has said where agents reach it. Reads on afterwards, so that it never waits to be read.
fn greeted(said: impl std::io::Read + Send + 'static, began: Instant) -> Result<Duration> {
    let mut all = String::new();
    let mut lines = BufReader::new(said).lines();
    for line in lines.by_ref() {
        let line = line?;
        if line.contains("agents") && line.contains("/mcp") {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(began.elapsed());
        }
        all.push_str(&line);
    }
    Err(format!("the program did not greet: {all}").into())
}

/// Asks for anything and waits for an answer, whatever it is.
fn ask(address: SocketAddr) -> Result {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET /mcp HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer)?;
    if answer == *b"HTTP/1.1 " { Ok(()) } else { Err("this is not an answer".into()) }
}
