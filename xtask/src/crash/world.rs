//! What is crashed: a gateway whose log may be on a file system of its own, a tool that keeps a journal, clients under way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::compare::compare;
use crate::gateway::{self, Bundle, Reached};
use crate::process::{self, Server, free_port};
use crate::report::Report;
use crate::tools::Tools;
use crate::{Result, http};

/// Each sidecar is one execution with one credential.
const SIDECARS: usize = 2;
const CLIENTS: u64 = 8;

/// What one check crashes.
#[derive(Debug)]
pub(super) struct World<'a> {
    tools: &'a Tools,
    name: String,
    /// Its bundle.
    pub(super) bundle: Bundle,
    /// Set for the gateway and the sidecars.
    environment: Vec<(&'static str, String)>,
    /// Where it keeps its data.
    pub(super) data: PathBuf,
    journal: PathBuf,
    _tool: Server,
    sidecars: Vec<(Server, u16)>,
    next: AtomicU64,
    answered: Mutex<BTreeSet<u64>>,
}

impl<'a> World<'a> {
    /// Starts the tool and writes a bundle for it, whose data are kept in `data`.
    pub(super) fn open(tools: &'a Tools, name: &str, data: Option<&Path>) -> Result<Self> {
        let bundle = Bundle::write(tools, name, "[\"journal/pay\", \"journal/look\"]", "")?;
        let data = data.map_or_else(|| bundle.directory.join(".bailiwick"), |data| data.join("bailiwick"));
        bundle.keep_data_in(&data)?;
        let journal = bundle.directory.with_file_name("journal.txt");
        let port = free_port()?;
        let mut python = Command::new(tools.python_program("python"));
        python.arg(tools.root.join("interop/fixtures/journal.py")).arg(&journal).arg(port.to_string());
        let mut tool = Server::start(tools, &format!("{name}-journal"), &mut python)?;
        tool.wait_for_port(port)?;
        bundle.add_server(tools, "journal", &Reached::Http(format!("http://127.0.0.1:{port}/mcp")))?;
        Ok(Self {
            tools,
            name: name.to_owned(),
            bundle,
            environment: Vec::new(),
            data,
            journal,
            _tool: tool,
            sidecars: Vec::new(),
            next: AtomicU64::new(1),
            answered: Mutex::default(),
        })
    }

    /// The same, with this set for the gateway and the sidecars.
    pub(super) fn with_environment(self, environment: Vec<(&'static str, String)>) -> Self {
        Self { environment, ..self }
    }

    /// Starts the gateway and does not wait for it.
    pub(super) fn start(&self) -> Result<Server> {
        let mut command = gateway::bailiwick(self.tools);
        command.arg("serve").arg(&self.bundle.directory).envs(self.environment.iter().cloned());
        Server::start(self.tools, &format!("{}-serve", self.name), &mut command)
    }

    /// Starts the gateway and waits until it serves, and at the first time the sidecars before it.
    pub(super) fn serve(&mut self) -> Result<Server> {
        let mut server = self.start()?;
        server.wait_for_text(gateway::SERVING)?;
        self.connect()?;
        Ok(server)
    }

    fn connect(&mut self) -> Result<()> {
        while self.sidecars.len() < SIDECARS {
            let port = free_port()?;
            let line = self.bundle.connect(self.tools);
            let (program, arguments) = line.split_first().ok_or("an empty command line")?;
            let mut command = Command::new(program);
            command.args(arguments).args(["--server", "journal", "--listen", &format!("127.0.0.1:{port}")]);
            command.envs(self.environment.iter().cloned());
            let mut sidecar = Server::start(self.tools, &format!("{}-connect-{}", self.name, self.sidecars.len()), &mut command)?;
            sidecar.wait_for_text("MCP clients connect to")?;
            self.sidecars.push((sidecar, port));
        }
        Ok(())
    }

    /// Runs the gateway where it must not come up, and gives what it said of that.
    pub(super) fn refused_start(&self) -> Result<String> {
        let mut server = self.start()?;
        server.wait_for_end()
    }

    /// Pays once through a sidecar: everything that came back.
    pub(super) fn pay(&self) -> Result<String> {
        self.call(0, "pay")
    }

    /// Does `work` while clients pay, look, and try what they may not, all the time.
    pub(super) fn under_load<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let stop = &stop;
                scope.spawn(move || {
                    for turn in client.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let tool = if turn % 4 == 3 {
                            "burn"
                        } else if turn % 4 == 2 {
                            "look"
                        } else {
                            "pay"
                        };
                        let answer = self.call(client, tool);
                        // A call that a crash cut off has failed for its caller; the log has to know what came of it. While
                        // nobody is there to answer, there is no hurry.
                        if !answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
                            thread::sleep(Duration::from_millis(10));
                        }
                    }
                });
            }
            let done = work();
            stop.store(true, Ordering::Relaxed);
            done
        })
    }

    fn call(&self, client: u64, tool: &str) -> Result<String> {
        let (_, port) = self.sidecars.get(client as usize % SIDECARS).ok_or("no sidecar runs")?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let answer = http::call_tool(*port, "/mcp/journal", tool, &json!({ "to": "acme", "number": number }))?;
        if answer.contains("paid acme") {
            self.answered.lock().map_err(|_| "a client failed")?.insert(number);
        }
        Ok(answer)
    }

    /// How many payments clients were told of.
    pub(super) fn answered(&self) -> usize {
        self.answered.lock().map_or(0, |answered| answered.len())
    }

    /// How many payments reached the tool.
    pub(super) fn paid(&self) -> usize {
        process::read(&self.journal).map_or(0, |text| text.lines().count())
    }

    /// With everything in order again the gateway serves; after one more start, which closes what the last moments left open,
    /// journal, answers and log fit together, and the log verifies and grew from the checkpoints in `kept`.
    pub(super) fn conclude(&mut self, kept: &[PathBuf]) -> Result<Report> {
        let mut report = Report::default();
        let server = self.serve()?;
        let paid = self.pay()?;
        report.check(if paid.contains("paid acme") { Ok(()) } else { Err(format!("no call goes through in the end:\n{paid}")) });
        drop(server);
        let _server = self.serve()?;
        report.merge(self.compare()?);
        report.check(self.verify(kept));
        Ok(report)
    }

    /// Starts other sidecars in place of those there are: other executions.
    pub(super) fn connect_anew(&mut self) -> Result<()> {
        self.sidecars.clear();
        self.connect()
    }

    fn compare(&self) -> Result<Report> {
        let printed = self.bundle.run(self.tools, &["log", "tail", "--json", "--from", "0"])?;
        let mut records: Vec<Value> = Vec::new();
        for line in printed.output.lines() {
            records.push(serde_json::from_str(line).map_err(|why| format!("a record that cannot be read: {why}: {line}"))?);
        }
        let answered = self.answered.lock().map_err(|_| "a client failed")?.clone();
        let mut report = compare(&process::read(&self.journal)?, &answered, &records);
        report.notes.push(format!(
            "{}: {} payments reached the tool, {} answers reached a client; {} records",
            self.name,
            self.paid(),
            answered.len(),
            records.len()
        ));
        Ok(report)
    }

    /// Whether a checkpoint covers all that was recorded, so that nothing is on its way to the disk.
    pub(super) fn is_settled(&self) -> bool {
        let verified = self.bundle.run(self.tools, &["log", "verify", "--json"]);
        verified.is_ok_and(|verified| verified.output.contains("\"unsigned\":0"))
    }

    /// Verifies the whole log, and that it grew from the checkpoints in `kept`.
    pub(super) fn verify(&self, kept: &[PathBuf]) -> Result<(), String> {
        let mut arguments = vec!["log".to_owned(), "verify".to_owned()];
        for checkpoint in kept {
            arguments.extend(["--checkpoint".to_owned(), checkpoint.display().to_string()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let verified = self.bundle.run(self.tools, &arguments).map_err(|why| why.to_string())?;
        if verified.success { Ok(()) } else { Err(format!("the log does not verify:\n{}", verified.tail(20))) }
    }
}
