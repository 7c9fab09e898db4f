//! The demo's bundle: `examples/demo`, carried in the binary, with the program's own path and free ports put in.

use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, miette};
use serde_json::json;
use tokio::net::TcpListener;

use super::off;
use super::servers::Crm;
use crate::sidecar::key::Key;

/// The files of `examples/demo`.
const FILES: [(&str, &str); 21] = [
    ("bailiwick.toml", include_str!("../../../../examples/demo/bailiwick.toml")),
    ("agents/support-summarizer.toml", include_str!("../../../../examples/demo/agents/support-summarizer.toml")),
    ("agents/front-desk.toml", include_str!("../../../../examples/demo/agents/front-desk.toml")),
    ("agents/back-office.toml", include_str!("../../../../examples/demo/agents/back-office.toml")),
    ("agents/payroll.toml", include_str!("../../../../examples/demo/agents/payroll.toml")),
    ("servers/crm.toml", include_str!("../../../../examples/demo/servers/crm.toml")),
    ("servers/crm.tools.json", include_str!("../../../../examples/demo/servers/crm.tools.json")),
    ("servers/analytics.toml", include_str!("../../../../examples/demo/servers/analytics.toml")),
    ("servers/analytics.tools.json", include_str!("../../../../examples/demo/servers/analytics.tools.json")),
    ("servers/tickets.toml", include_str!("../../../../examples/demo/servers/tickets.toml")),
    ("servers/tickets.tools.json", include_str!("../../../../examples/demo/servers/tickets.tools.json")),
    ("servers/reports.toml", include_str!("../../../../examples/demo/servers/reports.toml")),
    ("servers/reports.tools.json", include_str!("../../../../examples/demo/servers/reports.tools.json")),
    ("servers/back-office.toml", include_str!("../../../../examples/demo/servers/back-office.toml")),
    ("servers/back-office.tools.json", include_str!("../../../../examples/demo/servers/back-office.tools.json")),
    ("servers/payroll.toml", include_str!("../../../../examples/demo/servers/payroll.toml")),
    ("servers/payroll.tools.json", include_str!("../../../../examples/demo/servers/payroll.tools.json")),
    ("policies/payment-details.cedar", include_str!("../../../../examples/demo/policies/payment-details.cedar")),
    ("policies/for-whom.cedar", include_str!("../../../../examples/demo/policies/for-whom.cedar")),
    ("tests/support-summarizer.toml", include_str!("../../../../examples/demo/tests/support-summarizer.toml")),
    ("tests/front-desk.toml", include_str!("../../../../examples/demo/tests/front-desk.toml")),
];

/// Where the bundle is, in the demo's home.
pub(super) const DIRECTORY: &str = "bundle";

/// Where agents take messages that have others act for them. Taken before the bundle is written, which says where.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) messages: TcpListener,
    pub(super) other: TcpListener,
}

impl Places {
    /// Takes free ones.
    pub(super) async fn take() -> miette::Result<Self> {
        let listen = || TcpListener::bind("127.0.0.1:0");
        Ok(Self { messages: listen().await.into_diagnostic()?, other: listen().await.into_diagnostic()? })
    }
}

/// Where an agent's key is, beside the bundle.
pub(super) fn key_file(home: &Path, agent: &str) -> PathBuf {
    home.join(format!("{agent}.pem"))
}

/// Writes the bundle, the data of its servers and the keys of its agents to `home`.
pub(super) async fn write(home: &Path, places: &Places) -> miette::Result<()> {
    let bundle = home.join(DIRECTORY);
    let program = std::env::current_exe().into_diagnostic()?;
    let program = program.to_str().ok_or_else(|| miette!("the path of this program is not UTF-8"))?;
    // The gateway's own are free now; it takes them itself.
    let [data, identity] = {
        let free = Places::take().await?;
        [free.messages, free.other].map(|listener| listener.local_addr())
    };
    let addresses = [
        ("127.0.0.1:8480", data),
        ("127.0.0.1:8481", identity),
        ("127.0.0.1:8482", places.messages.local_addr()),
        ("127.0.0.1:8483", places.other.local_addr()),
    ];
    let addresses: Vec<(&str, String)> =
        addresses.into_iter().map(|(declared, free)| Ok((declared, free.into_diagnostic()?.to_string()))).collect::<miette::Result<_>>()?;

    for (name, text) in FILES {
        let mut text = addresses.iter().fold(text.to_owned(), |text, (declared, free)| text.replace(declared, free));
        if let Some(agent) = name.strip_prefix("agents/").and_then(|name| name.strip_suffix(".toml")) {
            text.push_str(&generate_key(&key_file(home, agent))?);
        } else if name.ends_with(".toml") {
            text = text.replace("[\"bailiwick\",", &format!("[{},", json!(program)));
        }
        let Some(text) = off::changed(name, text) else { continue };
        let file = bundle.join(name);
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory).into_diagnostic()?;
        }
        std::fs::write(&file, text).into_diagnostic()?;
    }
    std::fs::create_dir_all(bundle.join("data")).into_diagnostic()?;
    Crm::generate(&bundle.join("data")).into_diagnostic()
}

/// Writes a new key to `file`, and says how an agent's declaration names it.
fn generate_key(file: &Path) -> miette::Result<String> {
    let key = Key::generate().into_diagnostic()?;
    write_private(file, key.to_pem().into_diagnostic()?.as_bytes())?;
    let jwk = key.jwk();
    let part = |member: &str| jwk.get(member).and_then(|part| part.as_str()).unwrap_or_default().to_owned();
    let (x, y) = (part("x"), part("y"));
    Ok(format!("\n[[agent.key]]\nkid = \"demo\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{x}\", y = \"{y}\" }}\n"))
}

fn write_private(file: &Path, bytes: &[u8]) -> miette::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).into_diagnostic()?;
    file.write_all(bytes).into_diagnostic()
}
