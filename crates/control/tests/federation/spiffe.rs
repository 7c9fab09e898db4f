//! SPIFFE: JWT-SVIDs and X.509-SVIDs of another trust domain, whose bundle is in a file or at an endpoint of either profile.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use bailiwick_control::svid::AnyCertificate;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};

use super::by_workload;
use super::support::*;
use super::vouch::{Authority, Signing, patched, serve_tls};

const WORKLOAD: &str = "spiffe://prod.example/ns/agents/bot";
const FEDERATION: &str = "[[agent.federation]]\nissuer = \"spire\"\nclaims = { sub = \"spiffe://prod.example/ns/agents/bot\" }\n";

/// The signing authority of a trust domain's X.509-SVIDs.
struct Domain(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its chain and key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Domain {
    fn new(id: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.subject_alt_names = vec![uri(id)];
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> Value {
        json!({ "use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(self.0.der())] })
    }

    /// An X.509-SVID of `id`, as SPIRE makes them, that `spoil` has changed.
    fn svid(&self, id: &str, spoil: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.subject_alt_names = vec![uri(id)];
        spoil(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// An authority below this one.
    fn below(&self, id: &str) -> (Self, CertificateDer<'static>) {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.subject_alt_names = vec![uri(id)];
        let below = CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.0).unwrap();
        let certificate = below.der().clone();
        (Self(below), certificate)
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn jwt_key(signing: &Signing, kid: &str) -> Value {
    patched(signing.jwk(kid), &json!({ "use": "jwt-svid" }))
}

fn svid(world: &World, more: &Value) -> Value {
    let now = world.clock.seconds();
    patched(json!({ "sub": WORKLOAD, "aud": [ISSUER], "iat": now, "exp": now + 300 }), more)
}

/// A world that trusts `prod.example` by the bundle in its file `bundle.json`.
async fn world(bundle: &Value) -> World {
    let world =
        World::federated("[[issuer]]\nname = \"spire\"\nissuer = \"spiffe://prod.example\"\njwks_file = \"bundle.json\"\n", FEDERATION, "")
            .await;
    std::fs::write(world.directory.path().join("bundle.json"), bundle.to_string()).unwrap();
    world
}

#[tokio::test]
async fn a_jwt_svid_is_believed_by_the_bundle_of_its_own_trust_domain() {
    let keys = [Signing::rsa(), Signing::ecdsa("P-256"), Signing::ecdsa("P-384"), Signing::ecdsa("P-521")];
    let published: Vec<Value> = keys.iter().enumerate().map(|(n, key)| jwt_key(key, &format!("k{n}"))).collect();
    let others = Signing::ecdsa("P-256");
    let foreign = patched(others.jwk("wit"), &json!({ "use": "wit-svid" }));
    let published = [published, vec![foreign, others.jwk("plain")]].concat();
    let world = world(&json!({ "keys": published, "spiffe_sequence": 1 })).await;
    for (key, (kid, algorithms)) in keys.iter().zip([
        ("k0", &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        ("k1", &["ES256"]),
        ("k2", &["ES384"]),
        ("k3", &["ES512"]),
    ]) {
        for alg in algorithms {
            for typ in [json!("JWT"), json!("JOSE"), Value::Null] {
                let header = patched(json!({ "alg": alg, "kid": kid }), &json!({ "typ": typ }));
                // Its `iss` says nothing, whatever it says.
                let token = key.token_with(&header, &svid(&world, &json!({ "iss": "https://spire.prod.example" })));
                let reply = by_workload(&world, &token).await;
                assert_eq!(reply.status, 200, "{header}: {:?}", world.refusals());
            }
        }
    }
    let es256 = &keys[1];
    let before = world.executions.len();
    for (case, patch) in [
        ("another workload", json!({ "sub": "spiffe://prod.example/ns/agents/other" })),
        ("another trust domain", json!({ "sub": "spiffe://other.example/ns/agents/bot" })),
        ("a trust domain that begins alike", json!({ "sub": "spiffe://prod.example.evil.example/ns/agents/bot" })),
        ("the trust domain itself", json!({ "sub": "spiffe://prod.example" })),
        ("an id that climbs", json!({ "sub": "spiffe://prod.example/ns/x/../agents/bot" })),
        ("an id with an end", json!({ "sub": "spiffe://prod.example/ns/agents/bot/" })),
        ("in another case", json!({ "sub": "spiffe://prod.example/ns/agents/Bot" })),
        ("no id", json!({ "sub": "bot" })),
        ("for another", json!({ "aud": ["https://other.example"] })),
        ("for another too", json!({ "aud": [ISSUER, "https://other.example"] })),
        ("for nobody", json!({ "aud": [] })),
        ("without an end", json!({ "exp": null })),
        ("expired", json!({ "exp": world.clock.seconds() - 31 })),
        ("one of our own agents", json!({ "sub": BOT, "iss": BOT })),
    ] {
        let token = es256.token_with(&json!({ "alg": "ES256", "kid": "k1" }), &svid(&world, &patch));
        assert_eq!(by_workload(&world, &token).await.error(), "invalid_grant", "{case}");
        world.clock.forward(1);
    }
    let claims = svid(&world, &json!({}));
    for (case, token) in [
        ("a key for another use", others.token_with(&json!({ "alg": "ES256", "kid": "wit" }), &claims)),
        ("a key of no use", others.token_with(&json!({ "alg": "ES256", "kid": "plain" }), &claims)),
        ("another kind of token", es256.token_with(&json!({ "alg": "ES256", "kid": "k1", "typ": "wit+jwt" }), &claims)),
        ("another's key by its id", others.token_with(&json!({ "alg": "ES256", "kid": "k1" }), &claims)),
        ("an algorithm that SVIDs do not have", es256.token_with(&json!({ "alg": "EdDSA", "kid": "k1" }), &claims)),
        ("a key of its own", others.token_with(&json!({ "alg": "ES256", "jwk": others.jwk("x") }), &claims)),
    ] {
        assert_eq!(by_workload(&world, &token).await.error(), "invalid_grant", "{case}");
        world.clock.forward(1);
    }
    assert_eq!(world.executions.len(), before);
    // By the client's assertion type that SPIFFE has of its own.
    let token = es256.token_with(&json!({ "alg": "ES256", "kid": "k1" }), &svid(&world, &json!({})));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"),
        ("client_assertion", &token),
    ];
    assert_eq!(world.post("/token", &form, Some(&world.proof())).await.status, 200);
}

#[tokio::test]
async fn a_bundle_that_went_back_is_not_taken_and_an_empty_one_takes_all_back() {
    let (old, new) = (Signing::ecdsa("P-256"), Signing::ecdsa("P-256"));
    let world = world(&json!({ "keys": [jwt_key(&old, "old")], "spiffe_sequence": 4 })).await;
    let file = world.directory.path().join("bundle.json");
    let write = |bundle: Value| {
        std::fs::write(&file, bundle.to_string()).unwrap();
        world.clock.forward(31);
    };
    let shows = async |signing: &Signing, kid: &str| by_workload(&world, &signing.token(kid, &svid(&world, &json!({})))).await.status;
    assert_eq!(shows(&old, "old").await, 200);
    write(json!({ "keys": [jwt_key(&new, "new")], "spiffe_sequence": 5 }));
    assert_eq!((shows(&new, "new").await, shows(&old, "old").await), (200, 400), "the key that was rotated out");
    write(json!({ "keys": [jwt_key(&old, "old")], "spiffe_sequence": 4 }));
    assert_eq!((shows(&new, "new").await, shows(&old, "old").await), (200, 400), "an old bundle that somebody kept");
    write(json!({ "keys": [jwt_key(&old, "old")] }));
    assert_eq!((shows(&new, "new").await, shows(&old, "old").await), (200, 400), "a bundle that hides its age");
    write(json!({ "keys": [], "spiffe_sequence": 6 }));
    assert_eq!((shows(&new, "new").await, shows(&old, "old").await), (400, 400), "everything was taken back");
}

/// A bundle endpoint whose server shows this certificate; it serves what is in `bundle`.
async fn endpoint(identity: Option<Identity>, authority: &Authority, bundle: Arc<Mutex<Value>>) -> String {
    let router = Router::new().route("/", get(async move || axum::Json(bundle.lock().unwrap().clone())));
    let address = match identity {
        None => authority.serve(router).await,
        Some((chain, key)) => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            serve_tls(config.with_no_client_auth().with_single_cert(chain, key).unwrap(), router).await
        }
    };
    format!("https://localhost:{}/", address.port())
}

#[tokio::test]
async fn a_bundle_is_read_from_an_endpoint_of_either_profile() {
    let signing = Signing::ecdsa("P-256");
    let (domain, other) = (Domain::new("spiffe://prod.example"), Domain::new("spiffe://other.example"));
    let bundle = json!({ "keys": [jwt_key(&signing, "a"), domain.root()], "spiffe_sequence": 1, "spiffe_refresh_hint": 60 });
    let authority = Authority::new();
    let server = "spiffe://prod.example/spire/server";
    for (case, identity, extra, accepted) in [
        ("by the Web's rules", None, "ca_file = \"ca.pem\"".to_owned(), true),
        ("by the Web's rules with no authority", None, String::new(), false),
        (
            "by the server's own id",
            Some(domain.svid(server, |_| ())),
            format!("endpoint_id = \"{server}\"\njwks_file = \"first.json\""),
            true,
        ),
        (
            "another server of the domain",
            Some(domain.svid(WORKLOAD, |_| ())),
            format!("endpoint_id = \"{server}\"\njwks_file = \"first.json\""),
            false,
        ),
        (
            "that id by another's roots",
            Some(other.svid(server, |_| ())),
            format!("endpoint_id = \"{server}\"\njwks_file = \"first.json\""),
            false,
        ),
        ("a certificate of the Web", None, format!("endpoint_id = \"{server}\"\njwks_file = \"first.json\""), false),
    ] {
        let url = endpoint(identity, &authority, Arc::new(Mutex::new(bundle.clone()))).await;
        let issuers = format!("[[issuer]]\nname = \"spire\"\nissuer = \"spiffe://prod.example\"\njwks_uri = \"{url}\"\n{extra}\n");
        let world = World::federated(&issuers, FEDERATION, "").await;
        authority.write(&world.directory.path().join("ca.pem"));
        std::fs::write(world.directory.path().join("first.json"), json!({ "keys": [domain.root()] }).to_string()).unwrap();
        let reply = by_workload(&world, &signing.token("a", &svid(&world, &json!({})))).await;
        assert_eq!(reply.status == 200, accepted, "{case}: {:?}", world.refusals());
    }

    // The endpoint's own roots are followed: what it served last is what its server is believed by next.
    let (next, served) = (Domain::new("spiffe://prod.example"), Arc::new(Mutex::new(bundle)));
    let url = endpoint(Some(domain.svid(server, |_| ())), &authority, Arc::clone(&served)).await;
    let issuers = format!(
        "[[issuer]]\nname = \"spire\"\nissuer = \"spiffe://prod.example\"\njwks_uri = \"{url}\"\nendpoint_id = \"{server}\"\njwks_file = \"first.json\"\n"
    );
    let world = World::federated(&issuers, FEDERATION, "").await;
    std::fs::write(world.directory.path().join("first.json"), json!({ "keys": [domain.root()] }).to_string()).unwrap();
    let shows = async |kid: &str| by_workload(&world, &signing.token(kid, &svid(&world, &json!({})))).await.status;
    assert_eq!(shows("a").await, 200);
    *served.lock().unwrap() = json!({ "keys": [jwt_key(&signing, "b"), next.root()], "spiffe_sequence": 2, "spiffe_refresh_hint": 60 });
    assert_eq!(shows("a").await, 200, "as long as the bundle is fresh");
    world.clock.forward(61);
    assert_eq!((shows("b").await, shows("a").await), (200, 400));
    *served.lock().unwrap() = json!({ "keys": [jwt_key(&signing, "c")], "spiffe_sequence": 3 });
    world.clock.forward(61);
    assert_eq!(shows("c").await, 400, "the server's certificate is of a root that was taken back");
}

/// A Workload API on a Unix socket, as SPIRE's agent serves it: gRPC over HTTP/2, a stream that stays open after the first answer, and
/// nothing for who does not send the header by which requests that a browser was made to send are told apart (Workload API §5).
#[cfg(feature = "spiffe")]
async fn workload_api(socket: &std::path::Path, jwt: Value, root: Vec<u8>) {
    use axum::http::{HeaderMap, HeaderValue};
    use axum::response::{IntoResponse as _, Response};
    use axum::routing::post;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    /// A map with one entry (`map<string, bytes>`), as this field of a message in a frame of gRPC.
    fn message(number: u8, domain: &str, value: &[u8]) -> Bytes {
        let field = |number: u8, value: &[u8]| {
            let (mut bytes, mut length) = (vec![number << 3 | 2], value.len());
            while length >= 0x80 {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            [bytes.as_slice(), value].concat()
        };
        let entry = field(number, &[field(1, domain.as_bytes()), field(2, value)].concat());
        [&[0][..], &(entry.len() as u32).to_be_bytes(), &entry].concat().into()
    }

    fn answer(headers: &HeaderMap, answer: Bytes) -> Response {
        let grpc = [("content-type", "application/grpc")];
        if headers.get("workload.spiffe.io") != Some(&HeaderValue::from_static("true")) {
            return (grpc, [("grpc-status", "3"), ("grpc-message", "security header missing from request")]).into_response();
        }
        let frames = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(Frame::data(answer)) });
        let frames = futures_util::StreamExt::chain(frames, futures_util::stream::pending());
        (grpc, axum::body::Body::new(StreamBody::new(frames))).into_response()
    }

    let domain = "spiffe://prod.example";
    let (jwt, x509) = (message(1, domain, jwt.to_string().as_bytes()), message(2, domain, &root));
    let router = Router::new()
        .route("/SpiffeWorkloadAPI/FetchJWTBundles", post(async move |headers: HeaderMap| answer(&headers, jwt.clone())))
        .route("/SpiffeWorkloadAPI/FetchX509Bundles", post(async move |headers: HeaderMap| answer(&headers, x509.clone())));
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            tokio::spawn(server.serve_connection(hyper_util::rt::TokioIo::new(stream), service));
        }
    });
}

#[cfg(feature = "spiffe")]
#[tokio::test]
async fn a_bundle_is_read_from_the_workload_api_of_the_machine() {
    let (signing, domain, other) = (Signing::ecdsa("P-256"), Domain::new("spiffe://prod.example"), Signing::ecdsa("P-256"));
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("agent.sock");
    workload_api(&socket, json!({ "keys": [signing.jwk("a")] }), domain.0.der().to_vec()).await;
    let issuers = |at: &std::path::Path, domain: &str| {
        format!("[[issuer]]\nname = \"spire\"\nissuer = \"spiffe://{domain}\"\nworkload_api = \"unix://{}\"\n", at.display())
    };
    let world = World::federated(&issuers(&socket, "prod.example"), FEDERATION, "").await;
    let reply = by_workload(&world, &signing.token("a", &svid(&world, &json!({})))).await;
    assert_eq!(reply.status, 200, "{:?}", world.refusals());
    assert_eq!(by_workload(&world, &other.token("a", &svid(&world, &json!({})))).await.error(), "invalid_grant");

    // The roots for X.509-SVIDs come by the same way.
    let server = Authority::new();
    let (certificate, key) = server.certificate();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(AnyCertificate::of(&provider)).with_single_cert(vec![certificate], key).unwrap();
    let port = serve_tls(config, world.identity.router()).await.port();
    let shown = domain.svid(WORKLOAD, |_| ());
    assert_eq!(over_tls(&world, port, &server.root(), Some(shown), "grant_type=client_credentials").await.0, 200);

    for (case, issuers) in [
        ("a trust domain that it does not know", issuers(&socket, "other.example")),
        ("nobody at the socket", issuers(&place.path().join("none"), "prod.example")),
    ] {
        let federation = FEDERATION.replace("prod.example", if case.starts_with("nobody") { "prod.example" } else { "other.example" });
        let world = World::federated(&issuers, &federation, "").await;
        let claims =
            svid(&world, &json!({ "sub": if case.starts_with("nobody") { WORKLOAD } else { "spiffe://other.example/ns/agents/bot" } }));
        assert_eq!(by_workload(&world, &signing.token("a", &claims)).await.error(), "invalid_grant", "{case}");
        assert!(world.refusals().pop().unwrap().detail.contains("Workload API"), "{case}: {:?}", world.refusals());
    }
}

/// Asks for a credential over TLS with this certificate, or none, and gives the status and the answer.
async fn over_tls(world: &World, port: u16, roots: &CertificateDer<'static>, shown: Option<Identity>, form: &str) -> (u16, Value) {
    over_tls_with(Some(&world.proof()), port, roots, shown, form).await
}

/// The same with this proof, or none.
async fn over_tls_with(
    proof: Option<&str>,
    port: u16,
    roots: &CertificateDer<'static>,
    shown: Option<Identity>,
    form: &str,
) -> (u16, Value) {
    let mut store = rustls::RootCertStore::empty();
    store.add(roots.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_root_certificates(store);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
    };
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream =
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post("/token").header("host", "localhost").header("content-type", "application/x-www-form-urlencoded");
    if let Some(proof) = proof {
        request = request.header("dpop", proof);
    }
    let request = request.body(Full::new(Bytes::from(form.to_owned()))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    (head.status.as_u16(), serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
}

#[tokio::test]
async fn an_x509_svid_proves_an_agent_by_the_roots_of_its_own_trust_domain() {
    let (domain, other) = (Domain::new("spiffe://prod.example"), Domain::new("spiffe://other.example"));
    let world = world(&json!({ "keys": [domain.root()] })).await;
    let server = Authority::new();
    let (certificate, key) = server.certificate();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(AnyCertificate::of(&provider)).with_single_cert(vec![certificate], key).unwrap();
    let port = serve_tls(config, world.identity.router()).await.port();
    let root = server.root();
    let own = "grant_type=client_credentials";
    let ask = async |shown: Option<Identity>| over_tls(&world, port, &root, shown, own).await;

    let (status, answer) = ask(Some(domain.svid(WORKLOAD, |_| ()))).await;
    assert_eq!((status, answer["token_type"].as_str()), (200, Some("DPoP")), "{answer} {:?}", world.refusals());
    let Some(bailiwick_core::model::Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
    assert_eq!((started.agent.as_str(), started.proof.as_str()), ("bot", &*format!("x509-svid spire {WORKLOAD}")));
    // An authority between the root and the leaf, and names beside the id.
    let (below, between) = domain.below("spiffe://prod.example");
    let (mut chain, key) = below.svid(WORKLOAD, |leaf| leaf.subject_alt_names.push(SanType::DnsName("bot.agents.svc".try_into().unwrap())));
    chain.push(between);
    assert_eq!(ask(Some((chain, key))).await.0, 200, "{:?}", world.refusals());

    let non_critical = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![0x03, 0x02, 0x07, 0x80]);
    let (foreign, between_foreign) = domain.below("spiffe://other.example");
    let (mut through_foreign, key) = foreign.svid(WORKLOAD, |_| ());
    through_foreign.push(between_foreign);
    let mut without_link = below.svid(WORKLOAD, |_| ());
    without_link.0.truncate(1);
    let (mut padded, padded_key) = domain.svid(WORKLOAD, |_| ());
    padded.extend(std::iter::repeat_n(server.root(), 8));
    let before = world.executions.len();
    for (case, shown) in [
        ("another workload", domain.svid("spiffe://prod.example/ns/agents/other", |_| ())),
        ("another trust domain", other.svid("spiffe://other.example/ns/agents/bot", |_| ())),
        ("this trust domain by another's roots", other.svid(WORKLOAD, |_| ())),
        ("this trust domain by the Web's roots", server.svid(uri(WORKLOAD))),
        ("the trust domain itself", domain.svid("spiffe://prod.example", |_| ())),
        ("an id that is none", domain.svid("spiffe://prod.example/ns/../agents/bot", |_| ())),
        ("two ids", domain.svid(WORKLOAD, |leaf| leaf.subject_alt_names.push(uri("spiffe://prod.example/x")))),
        ("a name and no id", domain.svid(WORKLOAD, |leaf| leaf.subject_alt_names = vec![SanType::DnsName("bot".try_into().unwrap())])),
        ("an authority", domain.svid(WORKLOAD, |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("one that may sign certificates", domain.svid(WORKLOAD, |leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("one that may sign revocations", domain.svid(WORKLOAD, |leaf| leaf.key_usages.push(KeyUsagePurpose::CrlSign))),
        ("no signatures", domain.svid(WORKLOAD, |leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement])),
        ("no key usage", domain.svid(WORKLOAD, |leaf| leaf.key_usages = Vec::new())),
        (
            "a key usage that may be passed over",
            domain.svid(WORKLOAD, |leaf| {
                leaf.key_usages = Vec::new();
                leaf.custom_extensions = vec![non_critical];
            }),
        ),
        ("for servers alone", domain.svid(WORKLOAD, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        ("for clients alone", domain.svid(WORKLOAD, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])),
        ("expired", domain.svid(WORKLOAD, |leaf| leaf.not_after = date_time_ymd(2026, 11, 1))),
        ("not yet valid", domain.svid(WORKLOAD, |leaf| leaf.not_before = date_time_ymd(2027, 1, 1))),
        ("through an authority of another domain", (through_foreign, key)),
        ("without the authority between", without_link),
        ("a chain without end", (padded, padded_key)),
    ] {
        let (status, answer) = ask(Some(shown)).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_client")), "{case}: {answer}");
        world.clock.forward(1);
    }
    assert_eq!(ask(None).await.1["error"], "invalid_client", "no certificate");
    assert_eq!(world.executions.len(), before);
    // A certificate is one proof, and an assertion beside it another: the assertion is what counts.
    let spoilt = format!("{own}&client_assertion_type={CLIENT_ASSERTION}&client_assertion=x");
    assert_eq!(over_tls(&world, port, &root, Some(domain.svid(WORKLOAD, |_| ())), &spoilt).await.1["error"], "invalid_client");
    let named = format!("{own}&client_id=other");
    assert_eq!(
        over_tls(&world, port, &root, Some(domain.svid(WORKLOAD, |_| ())), &named).await.1["error"],
        "invalid_client",
        "not who it says"
    );
    // A mesh's own certificate is in nobody's way.
    let assertion = format!("{own}&client_assertion_type={CLIENT_ASSERTION}&client_assertion={}", world.assertion());
    assert_eq!(over_tls(&world, port, &root, Some(other.svid("spiffe://other.example/mesh", |_| ())), &assertion).await.0, 200);
}

#[tokio::test]
async fn a_credential_is_bound_to_the_certificate_of_whoever_asked_for_it() {
    let domain = Domain::new("spiffe://prod.example");
    let world = world(&json!({ "keys": [domain.root()] })).await;
    let mut files = world.sources.clone();
    let tls = "tls = { cert = \"c.pem\", key = \"k.pem\" }\n";
    let agent = String::from_utf8(files["agents/bot.toml"].clone()).unwrap();
    files
        .insert("agents/bot.toml".to_owned(), agent.replace("[agent.credential]\n", "[agent.credential]\nproof = \"mtls\"\n").into_bytes());
    let problems = bailiwick_core::bundle::read(&files).map(drop).unwrap_err();
    assert!(problems.iter().any(|problem| problem.message.contains("`data` does not speak TLS itself")), "{problems:#?}");
    let settings = String::from_utf8(files["bailiwick.toml"].clone()).unwrap();
    let settings = settings.replace("8480\"\n", &format!("8480\"\n{tls}")).replace("8481\"\n", &format!("8481\"\n{tls}"));
    files.insert("bailiwick.toml".to_owned(), settings.into_bytes());
    world.bundle.activate(bailiwick_core::bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot);
    assert_eq!(world.get("/.well-known/oauth-authorization-server").await.body["tls_client_certificate_bound_access_tokens"], true);

    let server = Authority::new();
    let (certificate, key) = server.certificate();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(AnyCertificate::of(&provider)).with_single_cert(vec![certificate], key).unwrap();
    let (port, root) = (serve_tls(config, world.identity.router()).await.port(), server.root());
    let ask = async |proof: Option<&str>, shown: Option<Identity>, form: &str| over_tls_with(proof, port, &root, shown, form).await;
    let bound_to = |identity: &Identity| bailiwick_core::identity::ClientCertificate::of(&identity.0[0]).digest().to_owned();
    let copied = |identity: &Identity| (identity.0.clone(), identity.1.clone_key());

    let own = "grant_type=client_credentials";
    let svid = domain.svid(WORKLOAD, |_| ());
    let (status, answer) = ask(None, Some(copied(&svid)), own).await;
    assert_eq!((status, answer["token_type"].as_str()), (200, Some("Bearer")), "{answer} {:?}", world.refusals());
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(claims(token)["cnf"], json!({ "x5t#S256": bound_to(&svid) }));
    let Some(bailiwick_core::model::Record::ExecutionStarted(started)) = world.records().pop() else { panic!() };
    assert_eq!(started.key, Some(format!("x5t#S256 {}", bound_to(&svid))));

    // Renewed by the agent's next SVID, to which the new one is bound.
    let renewal = format!("grant_type={EXCHANGE}&subject_token_type={ACCESS_TOKEN}&subject_token={token}");
    let next = domain.svid(WORKLOAD, |_| ());
    let (status, renewed) = ask(None, Some(copied(&next)), &renewal).await;
    assert_eq!(
        (status, &claims(renewed["access_token"].as_str().unwrap())["cnf"]["x5t#S256"]),
        (200, &json!(bound_to(&next))),
        "{renewed}"
    );
    let assertion = |world: &World| format!("client_assertion_type={CLIENT_ASSERTION}&client_assertion={}", world.assertion());
    for (case, proof, shown, form, error) in [
        ("no certificate", None, None, format!("{own}&{}", assertion(&world)), "invalid_request"),
        ("a proof of a key besides", Some(world.proof()), Some(copied(&svid)), own.to_owned(), "invalid_request"),
        ("a proof in its place", Some(world.proof()), None, format!("{own}&{}", assertion(&world)), "invalid_request"),
        // By its key, the agent may bind what it begins to any certificate that it holds, and not what it goes on with.
        (
            "another certificate on renewal",
            None,
            Some(server.svid(uri("spiffe://other.example/x"))),
            format!("{renewal}&{}", assertion(&world)),
            "invalid_request",
        ),
    ] {
        let (status, answer) = ask(proof.as_deref(), shown, &form).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some(error)), "{case}: {answer}");
        world.clock.forward(1);
    }
    let (status, answer) = ask(None, Some(server.svid(uri("spiffe://other.example/x"))), &format!("{own}&{}", assertion(&world))).await;
    assert_eq!((status, answer["token_type"].as_str()), (200, Some("Bearer")), "{answer}");
}
