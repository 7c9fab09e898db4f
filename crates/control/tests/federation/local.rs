//! The local attestor: programs of this machine, over a Unix socket, as the kernel knows them.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bailiwick_control::token::attest::Peer;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};

use super::support::*;

/// Tells a copy of this program what to ask for; see [`another_program_asks`].
const ASK: &str = "BAILIWICK_TEST_ASK";

fn digest(file: &Path) -> String {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &std::fs::read(file).unwrap())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A token service on a socket beside its usual one, where `bot` is the program that `local` says.
async fn world(local: &str) -> (World, PathBuf) {
    let world = World::federated("", &format!("[[agent.federation]]\nlocal = {local}\n"), "").await;
    let socket = world.directory.path().join("identity.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let identity = Arc::clone(&world.identity);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let peer = Arc::new(Peer::of(&stream.peer_cred().unwrap()).unwrap());
            let router = identity.router().layer(axum::Extension(peer));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)),
            );
        }
    });
    (world, socket)
}

/// Asks over the socket as this process, with this proof.
async fn ask(socket: &Path, proof: &str, form: &str) -> (u16, String) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("/token")
        .header("host", "localhost")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("dpop", proof)
        .body(Full::new(Bytes::from(form.to_owned())))
        .unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    (head.status.as_u16(), String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

/// Not a check: what a copy of this program does in another's place.
#[tokio::test]
async fn another_program_asks() {
    let Ok(order) = std::env::var(ASK) else { return };
    let (socket, proof) = order.split_once(' ').unwrap();
    let (status, _) = ask(Path::new(socket), proof, "grant_type=client_credentials").await;
    println!("answered {status}");
}

/// Lets the program at `path`, a copy of this one, ask; gives the status that it got.
async fn asked_by(path: &Path, socket: &Path, world: &World) -> u16 {
    let output = tokio::process::Command::new(path)
        .args(["--exact", "local::another_program_asks", "--nocapture"])
        .env(ASK, format!("{} {}", socket.display(), world.proof()))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("answered ").nth(1).and_then(|rest| rest.get(..3)).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_program_of_this_machine_is_known_by_its_user_file_and_digest() {
    let own = std::env::current_exe().unwrap().canonicalize().unwrap();
    let place = tempfile::tempdir().unwrap();
    let uid = std::fs::metadata(place.path()).unwrap().uid();
    let sha256 = digest(&own);
    let own_text = own.display();
    for (case, local, status) in [
        ("as declared", format!("{{ uid = {uid}, executable = \"{own_text}\", sha256 = \"{sha256}\" }}"), 200),
        ("any digest", format!("{{ uid = {uid}, executable = \"{own_text}\" }}"), 200),
        ("another user", format!("{{ uid = {}, executable = \"{own_text}\", sha256 = \"{sha256}\" }}", uid + 1), 400),
        ("another group", format!("{{ uid = {uid}, gid = 4294967294, executable = \"{own_text}\" }}"), 400),
        ("another file", format!("{{ uid = {uid}, executable = \"/bin/true\", sha256 = \"{sha256}\" }}"), 400),
        (
            "another digest",
            format!("{{ uid = {uid}, executable = \"{own_text}\", sha256 = \"{}\" }}", sha256.replace(['0', '1'], "2")),
            400,
        ),
    ] {
        let (world, socket) = world(&local).await;
        let (answered, body) = ask(&socket, &world.proof(), "grant_type=client_credentials&client_id=bot").await;
        assert_eq!(answered, status, "{case}: {body} {:?}", world.refusals());
        if status == 200 {
            let Some(bailiwick_core::model::Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
            assert!(started.proof.starts_with(&format!("local uid {uid}")) && started.proof.ends_with(&sha256), "{}", started.proof);
            assert!(started.key.is_some(), "bound to the caller's key");
            // Who asks over the network is no program of this machine.
            let form = [("grant_type", "client_credentials"), ("client_id", "bot")];
            assert_eq!(world.post("/token", &form, Some(&world.proof())).await.error(), "invalid_client");
        } else {
            let detail = world.refusals().pop().unwrap().detail;
            assert!(detail.contains(&sha256) && detail.contains("that of no agent"), "{case}: {detail}");
        }
        assert_eq!(ask(&socket, &world.proof(), "grant_type=client_credentials&client_id=other").await.0, 400, "{case}: another agent");
    }

    // Another program of the same user: the same bytes elsewhere, and other bytes in the declared place.
    let copy = place.path().join("bot");
    std::fs::copy(&own, &copy).unwrap();
    let (world_of_own, socket) = world(&format!("{{ uid = {uid}, executable = \"{own_text}\", sha256 = \"{sha256}\" }}")).await;
    assert_eq!(asked_by(&copy, &socket, &world_of_own).await, 400, "a copy elsewhere");
    let declared = format!("{{ uid = {uid}, executable = \"{}\", sha256 = \"{sha256}\" }}", copy.canonicalize().unwrap().display());
    let (world_of_copy, socket) = world(&declared).await;
    assert_eq!(asked_by(&copy, &socket, &world_of_copy).await, 200, "{:?}", world_of_copy.refusals());
    let replaced = place.path().join("new");
    std::fs::copy(&own, &replaced).unwrap();
    std::fs::OpenOptions::new().append(true).open(&replaced).unwrap().write_all(b"evil").unwrap();
    std::fs::set_permissions(&replaced, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&replaced, &copy).unwrap();
    assert_eq!(asked_by(&copy, &socket, &world_of_copy).await, 400, "what was put into its place");
}

#[tokio::test]
async fn only_a_declared_program_that_is_not_quarantined_has_svids_and_each_is_on_the_log() {
    use bailiwick_control::spiffe::WorkloadApi;
    use bailiwick_control::token::Reason;
    use bailiwick_core::bundle;
    use bailiwick_core::model::Record;
    use tower::ServiceExt as _;

    let (uid, own) = (std::fs::metadata("/proc/self").unwrap().uid(), std::fs::canonicalize(std::env::current_exe().unwrap()).unwrap());
    let (world, _) = world(&format!("{{ uid = {uid}, executable = \"{}\" }}", own.display())).await;
    let (near, _far) = UnixStream::pair().unwrap();
    let peer = Arc::new(Peer::of(&near.peer_cred().unwrap()).unwrap());
    // The method, what it is sent, and whether the request says that it means this API; the status, as gRPC numbers them, and the answer.
    let exchange = async |method: &str, message: &[u8], marked: bool| {
        let body = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
        let mut request = http::Request::post(format!("/SpiffeWorkloadAPI/{method}")).header("content-type", "application/grpc");
        if marked {
            request = request.header("workload.spiffe.io", "true");
        }
        let router = WorkloadApi::new(Arc::clone(&world.identity)).router().layer(axum::Extension(Arc::clone(&peer)));
        let response = router.oneshot(request.body(axum::body::Body::from(body)).unwrap()).await.unwrap();
        (response.headers().get("grpc-status").map_or(0, |status| status.to_str().unwrap().parse::<u8>().unwrap()), response.into_body())
    };
    let call = async |method: &str, message: &[u8], marked: bool| exchange(method, message, marked).await.0;
    let declare = |from: &str, to: &str| {
        let mut files = world.sources.clone();
        let text = String::from_utf8(files["agents/bot.toml"].clone()).unwrap();
        assert!(text.contains(from), "{text}");
        files.insert("agents/bot.toml".to_owned(), text.replace(from, to).into_bytes());
        world.bundle.activate(bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot);
    };
    // `JWTSVIDRequest` with one audience, and with two.
    let (one, two) = (&b"\x0a\x04peer"[..], &b"\x0a\x04peer\x0a\x05other"[..]);
    assert_eq!(call("FetchX509SVID", b"", true).await, 7, "the agent's file says nothing of it");
    assert_eq!(call("FetchJWTSVID", one, true).await, 7, "nor of the audience");
    declare("name = \"bot\"", "name = \"bot\"\nx509_svid = true\noutbound = [{ audience = \"peer\" }]");
    assert_eq!(call("FetchJWTSVID", one, true).await, 7, "what the agent has read is not known here");
    declare("name = \"bot\"", "name = \"bot\"\nx509_svid = true\noutbound = [{ audience = \"peer\", after_untrusted = true }]");
    assert_eq!([call("FetchX509SVID", b"", true).await, call("FetchJWTSVID", one, true).await], [0, 0]);
    let issued =
        world.records().into_iter().filter_map(|record| if let Record::TokenIssued(issued) = record { Some(issued) } else { None });
    let audiences: Vec<_> = issued.map(|issued| (issued.audience, issued.execution, issued.by.starts_with("local uid"))).collect();
    assert_eq!(audiences, [("x509-svid".to_owned(), None, true), ("peer".to_owned(), None, true)]);

    // What was given out is valid by this API too, for its audience alone (`ValidateJWTSVIDRequest`).
    let answered = async |method: &str, message: &[u8]| {
        let bytes = axum::body::to_bytes(exchange(method, message, true).await.1, 1 << 16).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let answer = answered("FetchJWTSVID", one).await;
    let is_token = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let svid: String = answer[answer.find("eyJ").unwrap()..].chars().take_while(is_token).collect();
    let validate = |audience: &str, svid: &str| {
        let field = |number: u8, text: &str| {
            let (mut bytes, mut length) = (vec![number << 3 | 2], text.len());
            while length >= 0x80 {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            [&bytes, text.as_bytes()].concat()
        };
        [field(1, audience), field(2, svid)].concat()
    };
    assert_eq!(call("ValidateJWTSVID", &validate("peer", &svid), true).await, 0);
    assert!(answered("ValidateJWTSVID", &validate("peer", &svid)).await.contains("spiffe://acme.example/agent/bot"));
    let access = world.ask(&[]).await.token().to_owned();
    let elsewhere = Key::new().sign(
        &serde_json::json!({ "alg": "ES256", "kid": "k" }),
        &serde_json::json!({ "sub": "spiffe://b.example/x", "aud": "peer", "exp": i64::MAX }),
    );
    let unsigned = format!("{}.AAAA", svid.rsplit_once('.').unwrap().0);
    for (case, audience, svid) in [
        ("another audience", "other", &svid),
        ("no audience", "", &svid),
        ("a signature of nobody", "peer", &unsigned),
        ("our own access token", GATEWAY, &access),
        ("a trust domain that is not known", "peer", &elsewhere),
    ] {
        assert_eq!(call("ValidateJWTSVID", &validate(audience, svid), true).await, 3, "{case}");
    }

    assert_eq!(call("FetchX509SVID", b"", false).await, 3, "a request that does not say what it means");
    assert_eq!(call("FetchJWTSVID", two, true).await, 3, "two audiences");
    assert_eq!(call("FetchWITSVID", b"", true).await, 12, "what there is not");
    let reason = Reason::of("ops", "");
    world.identity.quarantine("bot".parse().unwrap(), reason).await.unwrap();
    assert_eq!([call("FetchX509SVID", b"", true).await, call("FetchJWTSVID", one, true).await], [7, 7], "a quarantined agent");
    world.identity.release(&"bot".parse().unwrap(), Reason::of("ops", "")).await.unwrap();
    assert_eq!(call("FetchX509Bundles", b"", true).await, 0);
    declare(&own.display().to_string(), "/usr/bin/another");
    for method in ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles", "ValidateJWTSVID"] {
        assert_eq!(call(method, b"", true).await, 7, "{method} by another program");
    }
    let refused = world.refusals().pop().unwrap();
    assert_eq!((refused.stage.as_str(), refused.code.as_str()), ("workload", "permission_denied"));
}
