//! The demo's bundle: `examples/demo`, carried in the binary, with the program's own path and free ports put in.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use miette::{IntoDiagnostic, miette};
use serde_json::json;

use super::off;
use super::servers::Crm;
use crate::sidecar::key::Key;

/// The files of `examples/demo`.
const FILES: [(&str, &str); 12] = [
    ("bailiwick.toml", include_str!("../../../../examples/demo/bailiwick.toml")),
    ("agents/support-summarizer.toml", include_str!("../../../../examples/demo/agents/support-summarizer.toml")),
    ("servers/crm.toml", include_str!("../../../../examples/demo/servers/crm.toml")),
    ("servers/crm.tools.json", include_str!("../../../../examples/demo/servers/crm.tools.json")),
    ("servers/analytics.toml", include_str!("../../../../examples/demo/servers/analytics.toml")),
    ("servers/analytics.tools.json", include_str!("../../../../examples/demo/servers/analytics.tools.json")),
    ("servers/tickets.toml", include_str!("../../../../examples/demo/servers/tickets.toml")),
    ("servers/tickets.tools.json", include_str!("../../../../examples/demo/servers/tickets.tools.json")),
    ("servers/reports.toml", include_str!("../../../../examples/demo/servers/reports.toml")),
    ("servers/reports.tools.json", include_str!("../../../../examples/demo/servers/reports.tools.json")),
    ("policies/payment-details.cedar", include_str!("../../../../examples/demo/policies/payment-details.cedar")),
    ("tests/support-summarizer.toml", include_str!("../../../../examples/demo/tests/support-summarizer.toml")),
];

/// The agent's key, beside the bundle.
pub(super) const KEY_FILE: &str = "support-summarizer.pem";

/// Writes the bundle and the data of its servers to `bundle`, and the agent's key to `home`.
pub(super) fn write(bundle: &Path, home: &Path) -> miette::Result<()> {
    let program = std::env::current_exe().into_diagnostic()?;
    let program = program.to_str().ok_or_else(|| miette!("the path of this program is not UTF-8"))?;
    let key = Key::generate().into_diagnostic()?;
    write_private(&home.join(KEY_FILE), key.to_pem().into_diagnostic()?.as_bytes())?;
    let [data, identity] = free_ports()?;

    for (name, text) in FILES {
        let mut text = text.to_owned();
        match name {
            "bailiwick.toml" => {
                text = text.replace("127.0.0.1:8480", &data.to_string()).replace("127.0.0.1:8481", &identity.to_string());
            }
            "agents/support-summarizer.toml" => {
                let jwk = key.jwk();
                let part = |member: &str| jwk.get(member).and_then(|part| part.as_str()).unwrap_or_default().to_owned();
                text.push_str(&format!(
                    "\n[[agent.key]]\nkid = \"demo\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{}\", y = \"{}\" }}\n",
                    part("x"),
                    part("y")
                ));
            }
            _ if name.ends_with(".toml") => text = text.replace("[\"bailiwick\",", &format!("[{},", json!(program))),
            _ => {}
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

/// Two addresses that are free now.
fn free_ports() -> miette::Result<[SocketAddr; 2]> {
    let listen = || TcpListener::bind("127.0.0.1:0").into_diagnostic();
    let (one, other) = (listen()?, listen()?);
    Ok([one.local_addr().into_diagnostic()?, other.local_addr().into_diagnostic()?])
}

fn write_private(file: &Path, bytes: &[u8]) -> miette::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).into_diagnostic()?;
    file.write_all(bytes).into_diagnostic()
}
