//! A house in a temporary directory, with the real program running in it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn bailiwick() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
    command.env("NO_COLOR", "1");
    command
}

/// A bundle with one agent and the demo's ticket server, and the server that runs on it.
pub(crate) struct House {
    directory: tempfile::TempDir,
    pub(crate) data: SocketAddr,
    server: Option<Child>,
}

impl House {
    /// Writes the bundle and starts the server. `agent` is added to the agent's file.
    pub(crate) fn start(agent: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (data, identity) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        drop((one, other));
        let house = Self { directory, data, server: None };
        house.write(
            "bailiwick.toml",
            &format!("trust_domain = \"acme.example\"\n[data]\nlisten = \"{data}\"\n[identity]\nlisten = \"{identity}\"\n"),
        );
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        house.write("../key.pem", &key.serialize_pem());
        let point = key.public_key_raw();
        let base64 = |bytes| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
        house.write(
            "agents/helper.toml",
            &format!(
                "[agent]\nname = \"helper\"\nowner = \"team@acme.example\"\npurpose = \"Help\"\nroles = [\"helper\"]\n\
                 [[agent.key]]\nkid = \"k1\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{}\", y = \"{}\" }}\n{agent}\n",
                base64(&point[1..33]),
                base64(&point[33..65]),
            ),
        );
        house.write(
            "servers/tickets.toml",
            &format!(
                "[server]\nname = \"tickets\"\nstdio = [{}, \"demo-server\", \"tickets\", \"--data\", \"data\"]\n\
                 [tools.list]\neffect = \"read\"\n[tools.reply]\neffect = \"send\"\ntargets = {{}}\n",
                json!(env!("CARGO_BIN_EXE_bailiwick")),
            ),
        );
        house.write("servers/tickets.tools.json", include_str!("../../../../examples/demo/servers/tickets.tools.json"));
        let mut house = house;
        house.serve();
        house
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let file = self.bundle().join(name);
        std::fs::create_dir_all(self.bundle()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// A file of the bundle.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.bundle().join(name)).unwrap()
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn serve(&mut self) {
        let said = std::fs::File::options().create(true).append(true).open(self.directory.path().join("said")).unwrap();
        let mut server = bailiwick().arg("serve").arg(self.bundle()).stdout(Stdio::null()).stderr(said).spawn().unwrap();
        wait_for("the server to listen", || {
            assert!(server.try_wait().unwrap().is_none(), "the server ended at once: {}", self.said());
            TcpStream::connect(self.data).is_ok()
        });
        self.server = Some(server);
    }

    /// What the server said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("said")).unwrap()
    }

    /// Writes a second tool server, `desk`, which is the same program with a directory of its own.
    pub(crate) fn add_desk(&self) {
        let tickets = std::fs::read_to_string(self.bundle().join("servers/tickets.toml")).unwrap();
        let desk = tickets.replace("name = \"tickets\"", "name = \"desk\"").replace("\"data\"]", "\"desk-data\"]");
        self.write("servers/desk.toml", &desk);
        self.write("servers/desk.tools.json", include_str!("../../../../examples/demo/servers/tickets.tools.json"));
    }

    /// The process of a tool server, by an argument of it.
    pub(crate) fn tool_server(&self, argument: &str) -> u32 {
        let is_it = |process: &u32| {
            let command = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            command.split('\0').any(|word| word == argument)
        };
        children(self.server_id()).into_iter().find(is_it).unwrap()
    }

    /// Asks the server to stop, and returns at once.
    pub(crate) fn ask_to_stop(&self) {
        signal(self.server_id(), "TERM");
    }

    /// Waits for the server's end, and returns the code that it ended with.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.server.take().unwrap().wait().unwrap().code()
    }

    /// Reads the bundle anew, as `POST /api/v1/bundle/reload` does.
    pub(crate) fn reload(&self) -> String {
        let mut socket = std::os::unix::net::UnixStream::connect(self.bundle().join(".bailiwick/admin.sock")).unwrap();
        write!(socket, "POST /api/v1/bundle/reload HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks the admin API, and reads its answer.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut socket = std::os::unix::net::UnixStream::connect(self.bundle().join(".bailiwick/admin.sock")).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{method} /api/v1{path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
    }

    pub(crate) fn server_id(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// Kills the server as a crash would.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Asks the server to stop and returns whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let mut server = self.server.take().unwrap();
        signal(server.id(), "TERM");
        server.wait().unwrap().success()
    }

    /// Runs a command on this house; with its output when it succeeds.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        bailiwick().args(arguments).arg("--dir").arg(self.bundle()).output().unwrap()
    }

    /// Runs a command with `--json` and reads what it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments:?} printed {text}, {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Every record of the log, in order.
    pub(crate) fn records(&self) -> Vec<Value> {
        let output = self.run(&["log", "tail", "--json", "--from", "0"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A command that acts as the agent.
    pub(crate) fn agent(&self, command: &str, arguments: &[&str]) -> Command {
        let mut agent = bailiwick();
        agent.args([command, "--agent", "helper", "--key"]).arg(self.directory.path().join("key.pem")).args(arguments);
        agent.env("BAILIWICK_URL", format!("http://{}", self.data));
        agent
    }

    /// Starts a sidecar that speaks HTTP and returns it with the line in which it says where.
    pub(crate) fn sidecar(&self, arguments: &[&str]) -> (Sidecar, String) {
        let mut child = self.agent("connect", arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.find_map(|line| line.unwrap().strip_prefix("MCP clients connect to ").map(str::to_owned)).unwrap();
        (Sidecar(child), said)
    }

    /// Starts a sidecar that speaks MCP over its standard input and output.
    pub(crate) fn connect(&self, arguments: &[&str]) -> Stdin {
        let mut command = self.agent("connect", &["--stdio"]);
        command.args(arguments);
        Stdin::start(command)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// A program that speaks JSON lines.
pub(crate) struct Stdin {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    next_id: u64,
}

impl Stdin {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, input, lines, next_id: 0 }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Value {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(_) => panic!("nothing came; the sidecar says: {}", self.ended().1),
        }
    }

    /// Sends a request and waits for its answer, past whatever else comes.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Begins a session of the revision 2025-11-25.
    pub(crate) fn initialize(&mut self) -> Value {
        let client = json!({ "name": "test", "version": "1" });
        let answer = self.ask("initialize", json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client }));
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        answer
    }

    /// Asks as a client of the revision 2026-07-28 does.
    pub(crate) fn modern(&mut self, method: &str, mut params: Value) -> Value {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        self.ask(method, params)
    }

    /// Closes its input and waits for its end: whether it ended well, and what it said.
    pub(crate) fn ended(&mut self) -> (bool, String) {
        drop(self.input.take());
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.success(), said)
    }

    /// Waits for its end without closing its input.
    pub(crate) fn exit(&mut self) -> (bool, String) {
        let input = self.input.take();
        let ended = self.ended();
        drop(input);
        ended
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sidecar that speaks HTTP, stopped when it is dropped.
pub(crate) struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

/// Sends one `tools/call` of the revision 2026-07-28 for `tool` to `/mcp` and returns all that is answered, as it came.
pub(crate) fn post(stream: impl Read + Write, host: &str, tool: &str, headers: &str) -> String {
    post_to(stream, "/mcp", host, tool, headers)
}

/// The same with a body of one's own.
pub(crate) fn post_body(stream: impl Read + Write, host: &str, tool: &str, body: &str) -> String {
    exchange(stream, "/mcp", host, tool, "", body)
}

/// The same to another path.
pub(crate) fn post_to(stream: impl Read + Write, path: &str, host: &str, tool: &str, headers: &str) -> String {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool,
        "arguments": { "since_days": 5 },
        "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} },
    } });
    exchange(stream, path, host, tool, headers, &body.to_string())
}

fn exchange(mut stream: impl Read + Write, path: &str, host: &str, tool: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n\
         mcp-name: {tool}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits until `state` holds.
pub(crate) fn wait_for(what: &str, mut state: impl FnMut() -> bool) {
    let mut left = PATIENCE;
    while !state() {
        let step = Duration::from_millis(20);
        std::thread::sleep(step);
        left = left.checked_sub(step).unwrap_or_else(|| panic!("waited in vain for {what}"));
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success());
}

/// The processes that a process started.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let listed = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |candidate: &u32| {
        let status = std::fs::read_to_string(Path::new("/proc").join(candidate.to_string()).join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == process.to_string()))
    };
    listed.filter(is_child).collect()
}
