//! Agents that prove themselves by their connection alone: as a program of the gateway's machine, and by an X.509-SVID.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    string::Ia5String,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;

use super::MAY;
use super::common::{House, bailiwick, wait_for};

#[test]
fn the_sidecar_as_the_declared_program_needs_neither_key_nor_token() {
    let program = Path::new(env!("CARGO_BIN_EXE_bailiwick")).canonicalize().unwrap();
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let local = |uid: u32| format!("[[agent.federation]]\nlocal = {{ uid = {uid}, executable = {} }}\n{MAY}", json!(program));
    let ask = |house: &House| {
        let mut command = bailiwick();
        command.args(["token", "--agent", "helper", "--url", &format!("http://{}", house.data), "--json", "--local"]);
        command.arg(house.bundle().join(".bailiwick/identity.sock")).output().unwrap()
    };
    let house = House::start(&local(uid));
    let printed = ask(&house);
    let said = String::from_utf8_lossy(&printed.stderr);
    let token: serde_json::Value =
        serde_json::from_slice(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {said} {}", house.said()));
    assert_eq!(token["token_type"], "DPoP");
    let started = house.records().into_iter().find(|record| record["kind"] == "execution_started").unwrap();
    let proof = started["proof"].as_str().unwrap();
    assert!(proof.starts_with(&format!("local uid {uid} ")) && proof.contains(program.to_str().unwrap()), "{proof}");

    let house = House::start(&local(uid + 1));
    let printed = ask(&house);
    assert!(!printed.status.success() && String::from_utf8_lossy(&printed.stderr).contains("the token service refused"), "another user");
}

#[test]
fn an_x509_svid_proves_an_agent_and_its_credential_is_good_over_that_certificates_connections_alone() {
    let mut house = House::start(MAY);
    assert!(house.stop());
    let uri = |id: &str| SanType::URI(Ia5String::try_from(id).unwrap());
    let authority = |id: &str| {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.subject_alt_names = vec![uri(id)];
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    };
    let (domain, other) = (authority("spiffe://prod.example"), authority("spiffe://prod.example"));
    house
        .write("spire.json", &json!({ "keys": [{ "use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(domain.der())] }] }).to_string());
    house.write("issuers.toml", "[[issuer]]\nname = \"spire\"\nissuer = \"spiffe://prod.example\"\njwks_file = \"spire.json\"\n");
    let agent = house.read("agents/helper.toml");
    let federation = "[[agent.federation]]\nissuer = \"spire\"\nclaims = { sub = \"spiffe://prod.example/helper\" }\n";
    house.write("agents/helper.toml", &format!("{agent}{federation}[agent.credential]\nproof = \"mtls\"\n"));
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    house.write("cert.pem", &certified.cert.pem());
    house.write("key.pem", &certified.signing_key.serialize_pem());
    let settings = house.read("bailiwick.toml");
    house.write(
        "bailiwick.toml",
        &settings
            .replace("[identity]\nlisten", "[identity]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\nlisten")
            .replace("[data]\nlisten", "[data]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\nlisten"),
    );
    let [data, identity] =
        [1, 2].map(|nth| settings.split("listen = \"").nth(nth).unwrap().split('"').next().unwrap().parse::<SocketAddr>().unwrap());
    house.serve();
    // It was waited for on the other listener.
    wait_for("the identity listener", || TcpStream::connect(identity).is_ok());

    let send = |at: SocketAddr, shown: Option<&(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, head: &str, body: &str| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
        };
        let client = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(at).unwrap());
        write!(stream, "POST {head}host: {at}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = Vec::new();
        // The server may close without saying so in TLS, once its answer is whole.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let of = |authority: &CertifiedIssuer<'static, KeyPair>| svid(authority, uri("spiffe://prod.example/helper"));
    let (own, another, forged) = (of(&domain), of(&domain), of(&other));
    let ask = |shown| {
        let head = "/token HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        send(identity, shown, head, "grant_type=client_credentials")
    };
    let answer = ask(Some(&own));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("access_token"), "{answer} {}", house.said());
    assert!(ask(Some(&forged)).contains("invalid_client"), "the same names by another's key");
    assert!(ask(None).contains("invalid_client"), "no certificate is needed, and none is no proof");

    let token = answer.split("\"access_token\":\"").nth(1).unwrap().split('"').next().unwrap();
    let call = |shown, more: &str| {
        let head = format!(
            "/mcp HTTP/1.1\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\nauthorization: Bearer {token}\r\n{more}"
        );
        send(data, shown, &head, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).split(' ').nth(1).unwrap().to_owned()
    };
    assert_ne!(call(Some(&own), ""), "401", "{}", house.said());
    assert_eq!(call(Some(&another), ""), "401", "the agent's next certificate, which another credential is for");
    assert_eq!(call(None, ""), "401", "what was stolen is worth nothing without the key of the certificate");
    assert_eq!(call(Some(&own), "dpop: x\r\n"), "401");
}

fn svid(authority: &CertifiedIssuer<'static, KeyPair>, name: SanType) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    parameters.subject_alt_names = vec![name];
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, authority).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

#[test]
fn a_tool_server_of_the_house_is_believed_by_the_houses_own_authority() {
    // What offers the tools is a sidecar, with TLS in front of it that an authority of the house vouches for.
    let inside = House::start(MAY);
    let (_sidecar, url) = inside.sidecar(&["--server", "tickets"]);
    let authority = CertifiedIssuer::self_signed(
        {
            let mut parameters = CertificateParams::new(Vec::new()).unwrap();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters
        },
        KeyPair::generate().unwrap(),
    )
    .unwrap();
    let front = in_front_of(&url, svid(&authority, SanType::IpAddress([127, 0, 0, 1].into())));

    let mut house = House::start(MAY);
    assert!(house.stop());
    house.write("ca.pem", &authority.pem());
    let tickets = house.read("servers/tickets.toml");
    let stdio = tickets.lines().find(|line| line.starts_with("stdio")).unwrap();
    house.write("servers/tickets.toml", &tickets.replace(stdio, &format!("mcp = \"https://{front}/mcp\"")));
    house.serve();
    let call =
        |house: &House| house.connect(&[]).modern("tools/call", json!({ "name": "tickets__list", "arguments": { "since_days": 5 } }));
    assert!(!call(&house).to_string().contains("T-1041"), "nobody vouches for it");

    assert!(house.stop());
    house.write("bailiwick.toml", &format!("ca_file = \"ca.pem\"\n{}", house.read("bailiwick.toml")));
    house.serve();
    let answer = call(&house);
    assert!(answer.to_string().contains("T-1041"), "{answer} {}", house.said());

    // `init` believes it likewise, and writes that down.
    house.write("../mcp.json", &json!({ "mcpServers": { "tickets": { "url": format!("https://{front}/mcp") } } }).to_string());
    let first = |more: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("first");
        let mut init = bailiwick();
        init.arg("init").arg("--from").arg(house.bundle().with_file_name("mcp.json")).arg("--out").arg(&out).args(more);
        init.env("HOME", directory.path()).env_remove("XDG_CONFIG_HOME").output().unwrap();
        (std::fs::read_to_string(out.join("bailiwick.toml")).unwrap(), out.join("servers/tickets.tools.json").exists())
    };
    assert!(!first(&[]).1);
    let ca = house.bundle().join("ca.pem");
    let (settings, has_tools) = first(&["--ca", ca.to_str().unwrap()]);
    assert!(has_tools && settings.contains(&format!("ca_file = {}", json!(ca.canonicalize().unwrap()))), "{settings}");
}

/// Listens with TLS, and passes on to the plain server at `url`, until the test ends.
fn in_front_of(url: &str, (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)) -> SocketAddr {
    let behind = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut plain = tokio::net::TcpStream::connect(behind).await?;
                    tokio::io::copy_bidirectional(&mut stream, &mut plain).await
                });
            }
        });
    });
    address
}
