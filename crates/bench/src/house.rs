//! The release build of `bailiwick serve` on a bundle with a noisy agent, a quiet one, and two tool servers of this process.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use bailiwick_core::model::Clock as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clock::WallClock;
use crate::upstream::{Upstream, read_message};
use crate::{Result, clock};

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, killed when this is dropped.
pub(crate) struct House {
    server: Child,
    key: EcdsaKeyPair,
    home: PathBuf,
    identity: u16,
    tokens: AtomicU64,
    /// Where agents reach it.
    pub(crate) port: u16,
}

impl House {
    /// Writes the bundle to a directory of its own and starts the server. `credential` and `limits` are lines of TOML.
    pub(crate) async fn start(name: &str, credential: &str, limits: &str, servers: &[(&str, &Upstream)]) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("bailiwick");
        if !program.exists() {
            return Err(format!("there is no {}: `cargo xtask bench` builds it", program.display()).into());
        }
        let home = std::env::temp_dir().join(format!("bailiwick-{name}-{}", std::process::id()));
        let (data, identity) = (free_port()?, free_port()?);
        let key = write(&home, (data, identity), credential, limits, servers)?;
        let said = fs::File::create(home.join("said"))?;
        let server =
            Command::new(&program).arg("serve").arg(home.join("bundle")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn()?;
        let house = Self { server, key, home, identity, tokens: AtomicU64::new(0), port: data };
        let began = clock::now();
        // A credential can be had once both doors are open and the tool servers were asked what they offer.
        while house.token("quiet").await.is_err() {
            if began.elapsed() > PATIENCE {
                return Err(format!("no server on {data}: {}", fs::read_to_string(house.home.join("said"))?).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(house)
    }

    /// Starts an execution of an agent and returns its credential (RFC 6749 §4.4, RFC 7523 §2.2), bound to no key.
    pub(crate) async fn token(&self, agent: &str) -> Result<String> {
        let (issuer, now) = (format!("http://127.0.0.1:{}", self.identity), WallClock.now().as_second());
        let jti = format!("assertion-{}", self.tokens.fetch_add(1, Ordering::Relaxed));
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "typ": "client-authentication+jwt", "alg": "ES256", "kid": "k1" }));
        let claims = part(json!({ "iss": agent, "sub": agent, "aud": issuer, "iat": now, "exp": now + 60, "jti": jti }));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| "nothing could be signed")?;
        let form = format!(
            "grant_type=client_credentials&client_id={agent}&client_assertion={signed}.{}&resource=http%3A%2F%2F127.0.0.1%3A{}%2Fmcp\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer",
            URL_SAFE_NO_PAD.encode(signature),
            self.port,
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.identity)).await?;
        let head = format!(
            "POST /token HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
            self.identity,
            form.len(),
        );
        stream.write_all(format!("{head}{form}").as_bytes()).await?;
        let (_, body) = read_message(&mut stream, &mut Vec::new()).await?.ok_or("the token service did not answer")?;
        let document: Value = serde_json::from_slice(&body)?;
        let token = document.get("access_token").and_then(Value::as_str);
        Ok(token.ok_or_else(|| format!("the token service refused: {document}"))?.to_owned())
    }

    /// The CPU time of the server up to now.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{}/task", self.server.id()))? {
            // A thread may end meanwhile.
            let Ok(scheduled) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let spent = scheduled.split_whitespace().next().ok_or("the kernel counts no CPU time")?;
            sum += Duration::from_nanos(spent.parse()?);
        }
        Ok(sum)
    }

    /// The server's resident memory now, in KiB.
    pub(crate) fn memory_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the kernel counts no memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // What stays is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn write(home: &Path, (data, identity): (u16, u16), credential: &str, limits: &str, servers: &[(&str, &Upstream)]) -> Result<EcdsaKeyPair> {
    let bundle = home.join("bundle");
    for directory in ["agents", "servers"] {
        fs::create_dir_all(bundle.join(directory))?;
    }
    fs::write(
        bundle.join("bailiwick.toml"),
        format!(
            "trust_domain = \"acme.example\"\n[data]\nlisten = \"127.0.0.1:{data}\"\n[identity]\nlisten = \"127.0.0.1:{identity}\"\n\
             [limits]\n{limits}\n"
        ),
    )?;
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key could be made")?;
    let point = key.public_key().as_ref().strip_prefix(&[4]).and_then(|point| point.split_at_checked(32));
    let (x, y) = point.map(|(x, y)| (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))).ok_or("the key is no point")?;
    let may: Vec<String> = servers.iter().map(|(name, _)| format!("\"{name}/*\"")).collect();
    for agent in ["noisy", "quiet"] {
        fs::write(
            bundle.join(format!("agents/{agent}.toml")),
            format!(
                "[agent]\nname = \"{agent}\"\nowner = \"bench@acme.example\"\npurpose = \"Call\"\n\
                 [agent.credential]\nproof = \"bearer\"\n{credential}\n[agent.may]\ncall = [{}]\n\
                 [[agent.key]]\nkid = \"k1\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{x}\", y = \"{y}\" }}\n",
                may.join(", "),
            ),
        )?;
    }
    for (name, upstream) in servers {
        let declared =
            format!("[server]\nname = \"{name}\"\nmcp = \"http://127.0.0.1:{}/mcp\"\n[tools.read]\neffect = \"read\"\n", upstream.port);
        fs::write(bundle.join(format!("servers/{name}.toml")), declared)?;
        fs::write(bundle.join(format!("servers/{name}.tools.json")), json!([crate::upstream::definition()]).to_string())?;
    }
    Ok(key)
}
