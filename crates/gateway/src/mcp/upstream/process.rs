//! A tool server that is a program: started by the gateway, spoken to line by line over its standard input and output.
//!
//! One process serves all executions. It is started when it is first needed and again, ever more slowly, when it dies. It
//! finds an environment of its own, and dies with everything that it started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::bundle::Limits;
use bailiwick_core::json;
use bailiwick_core::model::ServerName;
use serde_json::{Value, json as object};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::asking::{Asking, json_limits, ourselves};
use super::converse::{Heard, Line, converse, unanswerable};
use super::described::Described;
use super::ids::Ids;
use super::message::{self, Message, Params};
use super::news::News;
use super::under_way::{Ear, UnderWay};
use crate::mcp::parse::LEGACY;
use crate::{Answer, UpstreamError};

/// How long a program may take to answer the first question before it is taken for a legacy server, which may not know it.
const DISCOVER_PATIENCE: Duration = Duration::from_secs(5);

/// How soon a program that died is started again, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How long a call waits for a program that may not be started yet.
const BACKOFF_PATIENCE: Duration = Duration::from_secs(2);

/// How long a program has to end by itself, once it is no longer spoken to and once it was told to.
const GRACE: Duration = Duration::from_secs(2);

/// What the log keeps of what a program says on its standard error: of one line, and of one process.
const ERROR_LINE_MAX: usize = 2048;
const ERROR_BYTES_MAX: usize = 1 << 20;

/// How many lines may wait to be read by the program.
const LINES_WAITING_MAX: usize = 256;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// What it finds in its environment.
    pub(super) env: BTreeMap<String, String>,
    /// Where it runs.
    pub(super) directory: PathBuf,
    /// What files are named relative to.
    pub(super) base: PathBuf,
}

/// A tool server over standard input and output.
#[derive(Debug)]
pub(super) struct Local {
    server: ServerName,
    program: Program,
    news: Arc<News>,
    ids: Arc<Ids>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Arc<Process>>,
    /// When it may be started next, and how long it waits after that.
    next: Option<(Instant, Duration)>,
}

/// One run of the program. Dropping it ends the program.
#[derive(Debug)]
struct Process {
    described: Described,
    lines: mpsc::Sender<Vec<u8>>,
    under_way: Arc<UnderWay>,
}

impl Local {
    pub(super) fn new(server: ServerName, program: Program, news: Arc<News>, ids: Arc<Ids>) -> Self {
        Self { server, program, news, ids, state: tokio::sync::Mutex::default() }
    }

    /// What the server says it is.
    pub(super) async fn described(&self, limits: &Limits) -> Result<Arc<Described>, UpstreamError> {
        Ok(Arc::new(self.process(limits).await?.described.clone()))
    }

    /// Makes one request of the program that runs, and waits for its answer. Dropping the future cancels it at the server.
    ///
    /// Fails when none runs, rather than start one whose tools nobody has compared with what was reviewed.
    pub(super) async fn ask(&self, asking: &Asking<'_>) -> Result<Answer, UpstreamError> {
        let running = self.state.lock().await.process.clone().filter(|process| !process.under_way.is_ended());
        let process = running.ok_or_else(|| UpstreamError::Unreachable("its program ended".into()))?;
        let id = self.ids.next();
        let modern = process.described.is_modern();
        let params = if modern { asking.modern(id) } else { asking.legacy(id) };
        let mut line = ProcessLine::begin(&process, id);
        line.send(message::request(id, asking.method, &params))?;
        let answer = converse(&mut line, &asking.about(id, !modern, &self.news)).await;
        line.cancel = matches!(answer, Err(UpstreamError::TimedOut));
        answer
    }

    /// The running program, started when there is none.
    async fn process(&self, limits: &Limits) -> Result<Arc<Process>, UpstreamError> {
        let mut state = self.state.lock().await;
        if let Some(process) = state.process.as_ref().filter(|process| !process.under_way.is_ended()) {
            return Ok(Arc::clone(process));
        }
        let died = state.process.take().is_some();
        let now = Instant::now();
        let (at, wait) = state.next.unwrap_or((now, BACKOFF.0));
        // One that ran for long is started again at once, as if it had never died.
        let wait = if died && now.duration_since(at) > BACKOFF.1 { BACKOFF.0 } else { wait };
        if at > now + BACKOFF_PATIENCE {
            let seconds = at.duration_since(now).as_secs();
            return Err(UpstreamError::Unreachable(format!("its program keeps dying; it is started again in {seconds} s").into()));
        }
        tokio::time::sleep_until(at).await;
        state.next = Some((Instant::now() + wait, (wait * 2).min(BACKOFF.1)));
        let process = self.start(limits).await?;
        state.process = Some(Arc::clone(&process));
        // Whatever was known of the program before is about another run of it.
        self.news.all_changed();
        Ok(process)
    }

    async fn start(&self, limits: &Limits) -> Result<Arc<Process>, UpstreamError> {
        let (mut child, stdin, stdout) = self.spawn().await?;
        let under_way: Arc<UnderWay> = Arc::default();
        let (lines, to_write) = mpsc::channel(LINES_WAITING_MAX);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log_errors(stderr, self.server.clone()));
        }
        let reader = Reader {
            server: self.server.clone(),
            limits: json_limits(limits),
            under_way: Arc::clone(&under_way),
            news: Arc::clone(&self.news),
            lines: lines.downgrade(),
        };
        tokio::spawn(reader.run(child, stdin, stdout, to_write));
        let starting = Process { described: Described::unknown_modern(), lines, under_way };
        let described = self.describe(&starting, limits).await.map_err(|error| match error {
            UpstreamError::Lost(said) => UpstreamError::Unreachable(said),
            UpstreamError::TimedOut => UpstreamError::Unreachable("it did not answer the handshake in time".into()),
            UpstreamError::Garbage(said) => UpstreamError::Unsupported(said),
            other => other,
        })?;
        Ok(Arc::new(Process { described, ..starting }))
    }

    /// Finds the program's era: a modern question first; whoever does not answer it as a modern server would gets the
    /// legacy handshake (MCP 2026-07-28, basic/versioning).
    async fn describe(&self, process: &Process, limits: &Limits) -> Result<Described, UpstreamError> {
        let discover = Asking::own("server/discover", Params::default(), limits);
        let id = self.ids.next();
        let mut line = ProcessLine::begin(process, id);
        line.send(message::request(id, discover.method, &discover.modern(id)))?;
        line.cancel = false;
        let about = discover.about(id, true, &self.news);
        let discovered = converse(&mut line, &about);
        tokio::pin!(discovered);
        match tokio::time::timeout(DISCOVER_PATIENCE, &mut discovered).await {
            Ok(Ok(answer)) => {
                if let Some(described) = answer.body.ok().as_deref().and_then(Described::of_discover) {
                    return Ok(described);
                }
                self.initialize(process, limits).await
            }
            Ok(Err(UpstreamError::Lost(said))) => Err(UpstreamError::Lost(said)),
            Ok(Err(_)) => self.initialize(process, limits).await,
            // It may only be slow to start: whichever question it answers first tells its era.
            Err(_) => {
                let initialized = self.initialize(process, limits);
                tokio::pin!(initialized);
                tokio::select! {
                    described = &mut initialized => described,
                    answer = &mut discovered => match answer?.body.ok().as_deref().and_then(Described::of_discover) {
                        Some(described) => Ok(described),
                        None => initialized.await,
                    },
                }
            }
        }
    }

    async fn initialize(&self, process: &Process, limits: &Limits) -> Result<Described, UpstreamError> {
        let [newest, ..] = LEGACY;
        let mut params = Params::default();
        params.set("protocolVersion", &newest.into());
        // All executions share the process, so it is told what any caller might be asked. What a caller cannot be asked
        // is refused when it is asked.
        params.set("capabilities", &object!({ "elicitation": { "form": {}, "url": {} }, "sampling": {} }));
        params.set("clientInfo", &ourselves());
        let initialize = Asking::own("initialize", params, limits);
        let id = self.ids.next();
        let mut line = ProcessLine::begin(process, id);
        line.send(message::request(id, initialize.method, &initialize.params))?;
        line.cancel = false; // a handshake must not be cancelled (MCP 2025-11-25, basic/utilities/cancellation)
        let answer = converse(&mut line, &initialize.about(id, true, &self.news)).await?;
        let result = answer
            .body
            .map_err(|fault| UpstreamError::Unsupported(format!("it answered the handshake with fault {}", fault.code).into()))?;
        let described = Described::of_initialize(&result)?;
        line.send(message::notification("notifications/initialized", &object!({})))?;
        line.cancel = false;
        Ok(described)
    }

    async fn spawn(&self) -> Result<(Child, ChildStdin, ChildStdout), UpstreamError> {
        let unreachable = |said: String| UpstreamError::Unreachable(said.into());
        let Some((program, arguments)) = self.program.command.split_first() else {
            return Err(unreachable("no program is declared".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.program.directory).env_clear();
        for (name, value) in std::env::vars_os() {
            let kept =
                name.to_str().is_some_and(|name| matches!(name, "PATH" | "HOME" | "LANG" | "LANGUAGE" | "TZ") || name.starts_with("LC_"));
            if kept {
                command.env(name, value);
            }
        }
        for (name, value) in &self.program.env {
            match value.strip_prefix("file:") {
                None => command.env(name, value),
                Some(path) => {
                    let secret = read_secret(&self.program.base.join(path)).await;
                    command.env(name, secret.map_err(|error| unreachable(format!("the file for its variable `{name}`: {error}")))?.as_str())
                }
            };
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| unreachable(format!("its program `{program}` cannot be started: {error}")))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok((child, stdin, stdout)),
            _ => Err(unreachable("its program has no standard input and output".to_owned())),
        }
    }
}

/// Reads a secret from a file, without the newline that editors put at the end.
pub(crate) async fn read_secret(path: &Path) -> std::io::Result<zeroize::Zeroizing<String>> {
    let mut secret = zeroize::Zeroizing::new(tokio::fs::read_to_string(path).await?);
    let length = secret.trim_end_matches(['\r', '\n']).len();
    secret.truncate(length);
    Ok(secret)
}

/// Reads what a program says, for as long as it runs.
struct Reader {
    server: ServerName,
    limits: json::Limits,
    under_way: Arc<UnderWay>,
    news: Arc<News>,
    /// To answer what the program asks; weak, so that the program ends when nobody else speaks to it.
    lines: mpsc::WeakSender<Vec<u8>>,
}

impl Reader {
    /// Until the program ends or nobody speaks to it any more; then ends it and tells all that wait.
    async fn run(self, mut child: Child, stdin: ChildStdin, stdout: ChildStdout, mut to_write: mpsc::Receiver<Vec<u8>>) {
        let write = async move {
            let mut stdin = stdin;
            while let Some(line) = to_write.recv().await {
                if stdin.write_all(&line).await.is_err() || stdin.flush().await.is_err() {
                    break;
                }
            }
            // Dropping `stdin` here closes it, which is how a program is told to end (MCP, stdio).
        };
        let ended = {
            let write = tokio::spawn(write);
            let read = self.read(stdout);
            tokio::pin!(read);
            let mut write = AbortOnDrop(write);
            tokio::select! {
                ended = &mut read => ended,
                _ = &mut write.0 => {
                    // What it still says is heard, so that it can end in good order.
                    tokio::time::timeout(GRACE, read).await.unwrap_or_else(|_| UpstreamError::Lost("its program did not end".into()))
                }
            }
        };
        self.under_way.end_all(&ended);
        end(&mut child).await;
        tracing::info!(server = %self.server, "the program of a tool server ended");
    }

    async fn read(&self, mut stdout: ChildStdout) -> UpstreamError {
        let mut line = Vec::new();
        let mut chunk = vec![0; 16 << 10];
        loop {
            let read = match stdout.read(&mut chunk).await {
                Ok(0) | Err(_) => return UpstreamError::Lost("its program ended".into()),
                Ok(read) => read,
            };
            let mut rest = chunk.get(..read).unwrap_or_default();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let (head, tail) = rest.split_at(end);
                line.extend_from_slice(head);
                self.hear(&line);
                line.clear();
                rest = tail.get(1..).unwrap_or_default();
            }
            line.extend_from_slice(rest);
            if line.len() > self.limits.bytes_max {
                return UpstreamError::TooLarge(self.limits.bytes_max);
            }
        }
    }

    fn hear(&self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let bytes = line.len() as u64;
        let message = match message::read(line, &self.limits) {
            Ok(message) => message,
            Err(error) => {
                // Programs print things they should not. What can be told to be about a request ends that one.
                let about = serde_json::from_slice::<Value>(line).ok().and_then(|value| value.get("id").and_then(Value::as_u64));
                if !about.is_some_and(|id| self.under_way.end(id, Err(error))) {
                    tracing::warn!(server = %self.server, "a tool server wrote a line that is not the protocol");
                }
                return;
            }
        };
        match message {
            Message::Response { id: Some(id), body } => {
                if !self.under_way.end(id, Ok((Message::Response { id: Some(id), body }, bytes))) {
                    tracing::debug!(server = %self.server, id, "a tool server answered a request that nobody waits for");
                }
            }
            Message::Response { id: None, .. } => {
                tracing::warn!(server = %self.server, "a tool server could not read a request");
            }
            Message::Request { id, method, params } if method != "ping" => {
                let question = Message::Request { id: id.clone(), method: method.clone(), params };
                if self.under_way.hand_to_only((question, bytes)).is_err() {
                    self.answer(unanswerable(&id, &method, false));
                }
            }
            Message::Request { id, .. } => self.answer(message::answer(&id, &Ok(object!({})))),
            Message::Notification { method, message } => {
                if self.news.hears(&method, &message) {
                    return;
                }
                let token = message.get("params").and_then(|params| params.get("progressToken")).and_then(Value::as_u64);
                let notification = (Message::Notification { method, message }, bytes);
                let _ = match token {
                    Some(id) => self.under_way.hand(id, notification),
                    None => self.under_way.hand_to_only(notification),
                };
            }
        }
    }

    fn answer(&self, text: Vec<u8>) {
        if let Some(lines) = self.lines.upgrade() {
            let _ = lines.try_send(one_line(text));
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends a program and all that it started: it may end by itself, then it is told to, then it is made to.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let signals = [None, Some(rustix::process::Signal::TERM), Some(rustix::process::Signal::KILL)];
    for signal in signals {
        if let (Some(group), Some(signal)) = (group, signal) {
            let _ = rustix::process::kill_process_group(group, signal);
        }
        if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
            break;
        }
    }
    // The program itself is gone; what it started and left behind in its group goes too.
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// Passes on what a program says on its standard error, within bounds and with control characters escaped.
async fn log_errors(mut stderr: impl AsyncRead + Unpin, server: ServerName) {
    let mut line = Vec::new();
    let mut logged = 0;
    let mut chunk = vec![0; 4 << 10];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for &byte in chunk.get(..read).unwrap_or_default() {
            if byte != b'\n' {
                if line.len() < ERROR_LINE_MAX {
                    line.push(byte);
                }
                continue;
            }
            logged += line.len();
            if logged <= ERROR_BYTES_MAX && !line.is_empty() {
                let text: String = String::from_utf8_lossy(&line).chars().flat_map(char::escape_debug).collect();
                tracing::info!(%server, "a tool server says: {text}");
            }
            line.clear();
        }
    }
}

/// A message as one line. A newline within JSON can only be white space between its parts, since in a text it is escaped;
/// sent as it is, it would end the message early and let its sender begin another.
fn one_line(mut text: Vec<u8>) -> Vec<u8> {
    for byte in &mut text {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    text.push(b'\n');
    text
}

/// One request's part in what a program says. Dropping it before the answer cancels the request.
struct ProcessLine {
    ear: Ear,
    lines: mpsc::Sender<Vec<u8>>,
    bytes: u64,
    cancel: bool,
}

impl ProcessLine {
    fn begin(process: &Process, id: u64) -> Self {
        Self { ear: process.under_way.begin(id), lines: process.lines.clone(), bytes: 0, cancel: false }
    }

    fn send(&mut self, text: Vec<u8>) -> Result<(), UpstreamError> {
        self.lines.try_send(one_line(text)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => UpstreamError::Unreachable("its program reads nothing".into()),
            mpsc::error::TrySendError::Closed(_) => UpstreamError::Unreachable("its program ended".into()),
        })?;
        self.cancel = true;
        Ok(())
    }
}

impl Line for ProcessLine {
    async fn next(&mut self, _limits: &json::Limits) -> Result<Heard, UpstreamError> {
        let (message, bytes) = self.ear.hear().await?;
        self.bytes += bytes;
        Ok(Heard::Message(message))
    }

    async fn answer(&mut self, text: Vec<u8>) -> Result<(), UpstreamError> {
        self.lines.send(one_line(text)).await.map_err(|_| UpstreamError::Lost("its program ended".into()))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for ProcessLine {
    fn drop(&mut self) {
        if self.cancel {
            let _ = self.lines.try_send(one_line(message::cancelled(self.ear.id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_within_arguments_cannot_begin_another_message() {
        let smuggled = "{\"a\":[\n{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"tools/call\"}\r\n]}";
        let mut params = Params::default();
        params.set_raw("arguments", serde_json::value::RawValue::from_string(smuggled.to_owned()).unwrap());
        let line = one_line(message::request(1, "tools/call", &params));
        assert_eq!(line.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        let sent: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(sent["params"]["arguments"], serde_json::from_str::<Value>(smuggled).unwrap());
    }
}
