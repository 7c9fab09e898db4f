//! Attacks on who is calling, over real sockets: forged and borrowed tokens, proofs, sessions and ids. The table of
//! `docs/attacks.md` says where each is described.

use aws_lc_rs::hmac;
use bailiwick_core::identity::{Signer as _, thumbprint};
use bailiwick_core::model::Ending;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{Key, soon};
use crate::support::{Agent, World, open, send};

const PATH: &str = "/mcp/crm";

fn encoded(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token's header and claims.
fn parts(token: &str) -> (Value, Value) {
    let part = |n: usize| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap();
    (part(0), part(1))
}

/// `header` and `claims` as texts, signed by `key` as ES256 whatever they say.
fn signed(key: &Key, header: &str, claims: &str) -> String {
    let text = format!("{}.{}", encoded(header), encoded(claims));
    let signature = key.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", encoded(signature))
}

#[tokio::test]
async fn no_forged_or_altered_token_is_taken() {
    let world = World::start().await;
    let mut agent = world.agent("bot");
    let good = agent.token.clone();
    let (header, claims) = parts(&good);
    let now = world.now().as_second();
    let attacker = Key::new();
    // Nobody may be asked for keys that a token names.
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trap_url = format!("http://{}/jwks", trap.local_addr().unwrap());

    let by = |key: &Key, spoil: &dyn Fn(&mut Value, &mut Value)| {
        let (mut header, mut claims) = (header.clone(), claims.clone());
        spoil(&mut header, &mut claims);
        signed(key, &header.to_string(), &claims.to_string())
    };
    let head = |name: &str, value: Value| by(&world.issuer, &|header, _| header[name] = value.clone());
    let claim = |name: &str, value: Value| by(&world.issuer, &|_, claims| claims[name] = value.clone());
    let forged = |name: &str, value: Value| by(&attacker, &|header, _| header[name] = value.clone());
    let unsigned = |alg: &str| {
        let mut header = header.clone();
        header["alg"] = json!(alg);
        format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
    };
    let hmac = |alg: hmac::Algorithm, name: &str, secret: &[u8]| {
        let text = unsigned(name);
        let tag = hmac::sign(&hmac::Key::new(alg, secret), text.as_bytes());
        format!("{text}.{}", encoded(tag.as_ref()))
    };
    let text = good.rsplit_once('.').unwrap().0.to_owned();
    let with_signature = |signature: &[u8]| format!("{text}.{}", encoded(signature));
    let signature = URL_SAFE_NO_PAD.decode(good.rsplit_once('.').unwrap().1).unwrap();
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32).map(|byte| u8::from_str_radix(&order[byte * 2..byte * 2 + 2], 16).unwrap()).collect();
    let der = {
        let integer = |half: &[u8]| [&[2, 33, 0], half].concat();
        [vec![48, 70], integer(&signature[..32]), integer(&signature[32..])].concat()
    };
    let public = {
        let jwk = world.issuer.jwk();
        let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        [vec![4], coordinate("x"), coordinate("y")].concat()
    };
    let doubled = |text: &Value, member: &str| text.to_string().replacen('{', &format!("{{{member},"), 1);

    let cases: Vec<(&str, String)> = vec![
        ("alg none", format!("{}.", unsigned("none"))),
        ("alg None, signed", format!("{}.AAAA", unsigned("None"))),
        ("no alg", by(&world.issuer, &|header, _| drop(header.as_object_mut().unwrap().remove("alg")))),
        ("HS256 with the public point", hmac(hmac::HMAC_SHA256, "HS256", &public)),
        ("HS512 with the public point", hmac(hmac::HMAC_SHA512, "HS512", &public)),
        ("HS256 with the published key", hmac(hmac::HMAC_SHA256, "HS256", json!(world.issuer.jwk()).to_string().as_bytes())),
        ("HS256 with no secret", hmac(hmac::HMAC_SHA256, "HS256", b"")),
        ("RS256 of a P-256 key", head("alg", json!("RS256"))),
        ("PS256 of a P-256 key", head("alg", json!("PS256"))),
        ("ES384 of a P-256 key", head("alg", json!("ES384"))),
        ("ES256K", head("alg", json!("ES256K"))),
        ("EdDSA of a P-256 key", head("alg", json!("EdDSA"))),
        ("alg that is no text", head("alg", json!(["ES256"]))),
        ("another's key under our kid", by(&attacker, &|_, _| ())),
        ("a key in the header", forged("jwk", json!(attacker.jwk()))),
        ("a key in the header, without kid", {
            by(&attacker, &|header, _| {
                drop(header.as_object_mut().unwrap().remove("kid"));
                header["jwk"] = json!(attacker.jwk());
            })
        }),
        ("jku", forged("jku", json!(trap_url))),
        ("x5u", forged("x5u", json!(trap_url))),
        ("x5c", forged("x5c", json!([STANDARD.encode(b"certificate")]))),
        ("kid that is a URL", forged("kid", json!(trap_url))),
        ("kid that is a path", forged("kid", json!("../../../../dev/null"))),
        ("kid that is SQL", forged("kid", json!("k1' OR '1'='1"))),
        ("kid that is a command", forged("kid", json!("k1|touch x"))),
        ("kid with an end of text in it", head("kid", json!("k1\0"))),
        ("kid in another case", head("kid", json!("K1"))),
        ("kid that is a number", head("kid", json!(1))),
        ("kid that is a list", head("kid", json!(["k1"]))),
        ("no kid", by(&world.issuer, &|header, _| drop(header.as_object_mut().unwrap().remove("kid")))),
        ("crit", head("crit", json!(["exp"]))),
        ("empty crit", head("crit", json!([]))),
        ("b64 false", head("b64", json!(false))),
        ("compressed", head("zip", json!("DEF"))),
        ("typ of a proof", head("typ", json!("dpop+jwt"))),
        ("typ of an ID token", head("typ", json!("JWT"))),
        ("typ of a client's assertion", head("typ", json!("client-authentication+jwt"))),
        ("typ with a space", head("typ", json!("at+jwt "))),
        ("typ of another tree", head("typ", json!("text/at+jwt"))),
        ("no typ", by(&world.issuer, &|header, _| drop(header.as_object_mut().unwrap().remove("typ")))),
        ("encrypted, five parts", format!("{}.AAAA.AAAA.AAAA.AAAA", encoded(r#"{"alg":"dir","enc":"A256GCM","typ":"at+jwt"}"#))),
        ("one token within another", signed(&world.issuer, &header.to_string(), &good)),
        ("a claim twice", signed(&world.issuer, &header.to_string(), &doubled(&claims, r#""aud":"https://b.example""#))),
        ("a claim twice, once escaped", signed(&world.issuer, &header.to_string(), &doubled(&claims, r#""\u0061ud":"https://b.example""#))),
        ("a header member twice", signed(&world.issuer, &doubled(&header, r#""alg":"none""#), &claims.to_string())),
        ("a header member twice, once escaped", signed(&world.issuer, &doubled(&header, r#""\u0061lg":"none""#), &claims.to_string())),
        ("claims after claims", signed(&world.issuer, &header.to_string(), &format!("{claims}{claims}"))),
        ("claims that are a list", signed(&world.issuer, &header.to_string(), &format!("[{claims}]"))),
        ("claims that are not UTF-8", format!("{}.{}.AAAA", encoded(header.to_string()), encoded(b"{\"iss\":\"\xff\"}"))),
        ("nested without end", signed(&world.issuer, &header.to_string(), &format!("{}{}", "[".repeat(4000), "]".repeat(4000)))),
        ("aud of another endpoint", claim("aud", json!(format!("{}/mcp/other", world.origin)))),
        ("aud with a slash", claim("aud", json!(format!("{}{PATH}/", world.origin)))),
        ("aud in another case", claim("aud", json!(format!("{}/MCP/CRM", world.origin)))),
        ("aud that begins so", claim("aud", json!(format!("{}/mcp/cr", world.origin)))),
        ("no aud in it", claim("aud", json!([]))),
        ("aud of a number", claim("aud", json!(5))),
        ("aud of an object", claim("aud", json!({ "aud": format!("{}{PATH}", world.origin) }))),
        ("aud within a list", claim("aud", json!([[format!("{}{PATH}", world.origin)]]))),
        ("iss with a slash", claim("iss", json!("http://127.0.0.1:1/"))),
        ("iss in a list", claim("iss", json!(["http://127.0.0.1:1"]))),
        ("exp before", claim("exp", json!(now - 1))),
        ("exp negative", claim("exp", json!(-1))),
        ("exp as a text", claim("exp", json!((now + 300).to_string()))),
        ("exp as nothing", claim("exp", Value::Null)),
        ("exp true", claim("exp", json!(true))),
        ("exp below all", claim("exp", json!(-1e300))),
        ("exp a year ago as a fraction", claim("exp", json!(now as f64 - 31_536_000.5))),
        ("nbf to come", claim("nbf", json!(now + 3600))),
        ("nbf as a text", claim("nbf", json!("0"))),
        ("nbf beyond all", claim("nbf", json!(1e300))),
        ("iat to come", claim("iat", json!(now + 3600))),
        ("iat beyond all", claim("iat", json!(u64::MAX))),
        ("another execution", claim("txn", json!("0199b2a0-0000-7000-8000-000000000000"))),
        ("an id that the log does not know", claim("jti", json!("token-0"))),
        ("r and s of nought", with_signature(&[0; 64])),
        ("r and s of the order", with_signature(&[order.clone(), order.clone()].concat())),
        ("r of nought", with_signature(&[&[0; 32], &signature[32..]].concat())),
        ("s of nought", with_signature(&[&signature[..32], &[0; 32]].concat())),
        ("s of the order", with_signature(&[&signature[..32], &order].concat())),
        ("DER in place of raw", with_signature(&der)),
        ("a byte less", with_signature(&signature[..63])),
        ("a byte more", with_signature(&[&signature[..], &[0]].concat())),
        ("twice", with_signature(&[&signature[..], &signature[..]].concat())),
        ("no signature", with_signature(&[])),
        ("another's token's signature", format!("{text}.{}", world.agent("bot").token.rsplit_once('.').unwrap().1)),
        ("padded", format!("{}==", good)),
        ("in the other alphabet", format!("{text}.{}", "+/".repeat(43))),
        ("with a part before", format!("e30.{}", good)),
        ("as JSON", json!({ "payload": encoded(claims.to_string()), "signatures": [] }).to_string()),
        ("longer than any", format!("{text}.{}", "A".repeat(17_000))),
    ];
    for (case, token) in cases {
        for memory in ["first", "again"] {
            // With a proof of the agent's own key for this very token.
            agent.token.clone_from(&token);
            let reply = send(world.modern(&agent, PATH, "tools/list", json!({}))).await;
            assert_eq!(reply.status, 401, "{case}, {memory}: {reply:?}");
            assert_eq!(reply.body["error"], "invalid_token", "{case}: {reply:?}");
            assert!(!reply.body.to_string().contains(&token), "{case}");
        }
        let refused = world.refusals().await.pop().unwrap();
        assert_eq!((refused.stage.as_str(), refused.code.as_str()), ("authenticate", "invalid_token"), "{case}");
        assert!(!refused.detail.is_empty() && !refused.detail.contains("eyJ"), "{case}: {}", refused.detail);
    }
    assert!(world.intents().await.is_empty(), "something of this became a call");
    let asked = tokio::time::timeout(std::time::Duration::ZERO, trap.accept()).await;
    assert!(asked.is_err(), "somebody asked for the keys that a token named");
    agent.token = good;
    assert_eq!(send(world.modern(&agent, PATH, "tools/list", json!({}))).await.status, 200, "the token itself is good");
}

#[tokio::test]
async fn no_forged_or_borrowed_proof_is_taken() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let now = world.now().as_second();
    let own = json!(agent.key.jwk());
    let url = format!("{}{PATH}", world.origin);
    let good_header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": own });
    let good_claims = || parts(&world.proof(&agent, "POST", PATH, |_| ())).1;
    let head = |name: &str, value: Value| {
        let mut header = good_header.clone();
        header[name] = value;
        signed(&agent.key, &header.to_string(), &good_claims().to_string())
    };
    let without = |name: &str| {
        let (mut header, mut claims) = (good_header.clone(), good_claims());
        header.as_object_mut().unwrap().remove(name);
        claims.as_object_mut().unwrap().remove(name);
        signed(&agent.key, &header.to_string(), &claims.to_string())
    };
    let claim = |name: &str, value: Value| world.proof(&agent, "POST", PATH, |claims| claims[name] = value);
    let jwk_with = |name: &str, value: Value| {
        let mut jwk = own.clone();
        jwk[name] = value;
        head("jwk", jwk)
    };
    let thief = Key::new();
    let by_thief = |jwk: &Value| {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        signed(&thief, &header.to_string(), &good_claims().to_string())
    };
    let port = world.address.port();
    let mut cases: Vec<(String, &str, String)> = Vec::new();
    let mut case = |name: &str, code: &'static str, proof: String| cases.push((name.to_owned(), code, proof));
    case("typ of a token", "invalid_dpop_proof", head("typ", json!("at+jwt")));
    case("typ JWT", "invalid_dpop_proof", head("typ", json!("JWT")));
    case("no typ", "invalid_dpop_proof", without("typ"));
    case("alg none", "invalid_dpop_proof", head("alg", json!("none")));
    case("alg HS256", "invalid_dpop_proof", head("alg", json!("HS256")));
    case("alg of another family", "invalid_dpop_proof", head("alg", json!("RS256")));
    case("crit", "invalid_dpop_proof", head("crit", json!(["htm"])));
    case("b64 false", "invalid_dpop_proof", head("b64", json!(false)));
    case("kid in place of the key", "invalid_dpop_proof", without("jwk"));
    case("no object for a key", "invalid_dpop_proof", head("jwk", json!("key")));
    case("the token itself", "invalid_dpop_proof", agent.token.clone());
    case("a shared secret", "invalid_dpop_proof", head("jwk", json!({ "kty": "oct", "k": "c2VjcmV0" })));
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        case(&format!("private member {member}"), "invalid_dpop_proof", jwk_with(member, json!("AAAA")));
    }
    case("a point off the curve", "invalid_dpop_proof", jwk_with("y", own["x"].clone()));
    case(
        "the point of nought",
        "invalid_dpop_proof",
        head("jwk", json!({ "kty": "EC", "crv": "P-256", "x": encoded([0; 32]), "y": encoded([0; 32]) })),
    );
    case("a point of another curve", "invalid_dpop_proof", jwk_with("crv", json!("P-384")));
    case("a key of no use", "invalid_dpop_proof", head("jwk", json!({ "kty": "RSA", "n": encoded([0xff; 256]), "e": "AQ" })));
    case("the thief's key", "invalid_token", by_thief(&json!(thief.jwk())));
    case("the bound key, not signed by it", "invalid_dpop_proof", by_thief(&own));
    for (name, method) in [("another", "GET"), ("lower case", "post"), ("with a space", "POST "), ("none", "")] {
        case(&format!("method {name}"), "invalid_dpop_proof", claim("htm", json!(method)));
    }
    case("no method", "invalid_dpop_proof", without("htm"));
    case("no address", "invalid_dpop_proof", without("htu"));
    case("addresses", "invalid_dpop_proof", claim("htu", json!([url])));
    for htu in [
        format!("{}/mcp", world.origin),
        format!("{url}/"),
        format!("{}//mcp/crm", world.origin),
        format!("{}/mcp/./crm", world.origin),
        format!("{}/mcp/x/../crm", world.origin),
        format!("{}/mcp/x/%2e%2e/crm", world.origin),
        format!("{}/mcp%2Fcrm", world.origin),
        format!("{}/mcp\\crm", world.origin),
        format!("{}/MCP/crm", world.origin),
        format!("{}?{PATH}", world.origin),
        format!("{}#{PATH}", world.origin),
        format!("https://127.0.0.1:{port}{PATH}"),
        format!("http://127.0.0.1{PATH}"),
        format!("http://127.0.0.1:0{port}{PATH}"),
        format!("http://127.0.0.2:{port}{PATH}"),
        format!("http://localhost:{port}{PATH}"),
        format!("http://127.1:{port}{PATH}"),
        format!("http://user@127.0.0.1:{port}{PATH}"),
        format!("http://127.0.0.1:{port}@b.example{PATH}"),
        format!("http://127.0.0.1:{port}.b.example{PATH}"),
        format!("http:/127.0.0.1:{port}{PATH}"),
        format!("//127.0.0.1:{port}{PATH}"),
        PATH.to_owned(),
        format!(" {url}"),
        format!("{url}\n"),
        format!("{url}\0"),
    ] {
        case(&format!("address {htu}"), "invalid_dpop_proof", claim("htu", json!(htu)));
    }
    case("no ath", "invalid_dpop_proof", without("ath"));
    case("ath of another token", "invalid_dpop_proof", claim("ath", json!(encoded([7; 32]))));
    case("ath padded", "invalid_dpop_proof", claim("ath", json!(format!("{}=", good_claims()["ath"].as_str().unwrap()))));
    case("ath in a list", "invalid_dpop_proof", claim("ath", json!([good_claims()["ath"]])));
    case("no jti", "invalid_dpop_proof", without("jti"));
    case("empty jti", "invalid_dpop_proof", claim("jti", json!("")));
    case("jti of a number", "invalid_dpop_proof", claim("jti", json!(5)));
    case("no iat", "invalid_dpop_proof", without("iat"));
    for iat in [
        json!(now - 400),
        json!(now + 400),
        json!(-now),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(now.to_string()),
        Value::Null,
    ] {
        case(&format!("iat {iat}"), "invalid_dpop_proof", claim("iat", iat));
    }
    case("expired", "invalid_dpop_proof", claim("exp", json!(now - 1)));
    case("not yet", "invalid_dpop_proof", claim("nbf", json!(now + 400)));
    case("no nonce", "use_dpop_nonce", without("nonce"));
    for nonce in
        [json!(""), json!(5), json!([world.authenticator.nonce(world.now())]), json!(World::start().await.authenticator.nonce(world.now()))]
    {
        case(&format!("nonce {nonce}"), "use_dpop_nonce", claim("nonce", nonce));
    }
    case(
        "two in one header",
        "invalid_dpop_proof",
        format!("{}, {}", world.proof(&agent, "POST", PATH, |_| ()), world.proof(&agent, "POST", PATH, |_| ())),
    );
    case("longer than any", "invalid_dpop_proof", claim("more", json!("x".repeat(17_000))));
    let with_proof = |proof: &str| {
        let mut request = world.modern(&agent, PATH, "tools/list", json!({}));
        request.headers_mut().insert("dpop", HeaderValue::from_bytes(proof.as_bytes()).unwrap());
        request
    };
    // Before the agent's key is remembered, and after.
    for memory in ["first", "again"] {
        for (name, code, proof) in &cases {
            let reply = send(with_proof(proof)).await;
            assert_eq!((reply.status, reply.body["error"].as_str()), (401, Some(*code)), "{name}, {memory}: {reply:?}");
        }
        assert_eq!(send(with_proof(&world.proof(&agent, "POST", PATH, |_| ()))).await.status, 200, "{memory}");
    }
    assert!(world.intents().await.is_empty());
    assert!(world.refusals().await.iter().all(|refused| !refused.detail.contains("eyJ")), "a credential is on the log");
}

#[tokio::test]
async fn a_key_under_which_anybody_can_sign_binds_nothing() {
    let world = World::start().await;
    // The neutral element of Ed25519: with R the same and S of nought, its signature is good for every message.
    let neutral = [&[1_u8][..], &[0; 31]].concat();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(&neutral) });
    let bound = thumbprint(jwk.as_object().unwrap()).unwrap();
    let agent = world.agent_with("bot", |token| token.key = Some(bound));
    let claims = parts(&world.proof(&agent, "POST", PATH, |_| ())).1;
    let text = format!("{}.{}", encoded(json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk }).to_string()), encoded(claims.to_string()));
    let signature = [&neutral[..], &[0; 32]].concat();
    let library = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, &neutral);
    assert!(library.verify(text.as_bytes(), &signature).is_ok(), "the library alone would take it");
    let mut request = world.modern(&agent, PATH, "tools/list", json!({}));
    request.headers_mut().insert("dpop", format!("{text}.{}", encoded(signature)).parse().unwrap());
    let reply = send(request).await;
    assert_eq!((reply.status, reply.body["error"].as_str()), (401, Some("invalid_dpop_proof")), "{reply:?}");
}

#[tokio::test]
async fn a_proof_that_comes_on_many_connections_at_once_is_taken_once() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let proof = world.proof(&agent, "POST", PATH, |_| ());
    let requests = (0..16).map(|_| {
        let mut request = world.modern(&agent, PATH, "tools/call", json!({ "name": "query", "arguments": {} }));
        request.headers_mut().insert("dpop", proof.parse().unwrap());
        tokio::spawn(send(request))
    });
    let replies = futures_util::future::join_all(requests.collect::<Vec<_>>()).await;
    let mut statuses: Vec<u16> = replies.into_iter().map(|reply| reply.unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [&[200][..], &[401; 15]].concat());
    assert_eq!(world.intents().await.len(), 1);
}

/// The status that is answered to bytes as they are.
async fn raw(world: &World, lines: &[String]) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let text = format!("{}\r\n\r\n", lines.join("\r\n"));
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_token_is_taken_from_one_authorization_header_and_nowhere_else() {
    let world = World::start().await;
    let (agent, plain) = (world.agent("bot"), world.agent("plain"));
    let asked = |agent: &Agent, authorization: Option<String>| {
        let mut request = world.modern(agent, "/mcp", "tools/list", json!({}));
        request.headers_mut().remove("authorization");
        if let Some(authorization) = authorization {
            request.headers_mut().insert("authorization", HeaderValue::from_str(&authorization).unwrap());
        }
        request
    };
    let bearer = format!("Bearer {}", plain.token);
    assert_eq!(send(asked(&plain, Some(bearer.clone()))).await.status, 200, "the token itself is good");
    // In the query (RFC 6750 §2.3), in a form (§2.2), and in headers that are not it.
    let mut query = asked(&plain, None);
    *query.uri_mut() = format!("{}/mcp?access_token={}", world.origin, plain.token).parse().unwrap();
    let mut form = asked(&plain, None);
    form.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    *form.body_mut() = Full::new(format!("access_token={}", plain.token).into());
    let mut requests = vec![("query", query), ("form", form)];
    for name in ["proxy-authorization", "x-authorization", "x-forwarded-authorization", "cookie", "dpop"] {
        let mut request = asked(&plain, None);
        request.headers_mut().insert(name, bearer.parse().unwrap());
        requests.push((name, request));
    }
    for (scheme, text) in [
        ("none", plain.token.clone()),
        ("another", format!("Basic {}", plain.token)),
        ("two", format!("Bearer Bearer {}", plain.token)),
        ("a tab", format!("Bearer\t{}", plain.token)),
        ("two spaces", format!("Bearer  {}", plain.token)),
        ("two in one", format!("Bearer {0}, Bearer {0}", plain.token)),
        ("parameters", format!("Bearer token=\"{}\"", plain.token)),
        ("DPoP without a binding", format!("DPoP {}", plain.token)),
        ("nothing", "Bearer".to_owned()),
    ] {
        requests.push((scheme, asked(&plain, Some(text))));
    }
    // A bound token with its proof, and the scheme of one that is not bound.
    for scheme in ["Bearer", "bearer", "BEARER", "DPoP,Bearer", "Bearer,DPoP"] {
        requests.push((scheme, asked(&agent, Some(format!("{scheme} {}", agent.token)))));
    }
    let mut twice = asked(&plain, Some(bearer.clone()));
    twice.headers_mut().append("authorization", bearer.parse().unwrap());
    requests.push(("twice", twice));
    for (case, request) in requests {
        let reply = send(request).await;
        assert_eq!(reply.status, 401, "{case}: {reply:?}");
    }
    // Written in two ways, and with a proof beside the proof.
    let proof = || world.proof(&agent, "GET", "/mcp", |_| ());
    let line = |more: &[String]| {
        let first = ["GET /mcp HTTP/1.1".to_owned(), format!("Host: {}", world.address), "Connection: close".to_owned()];
        [&first[..], more].concat()
    };
    let bound = format!("DPoP {}", agent.token);
    for (case, more, status) in [
        ("as it should be", vec![format!("Authorization: {bound}"), format!("DPoP: {}", proof())], "405"),
        ("two spellings", vec![format!("Authorization: {bound}"), format!("authorization: {bearer}"), format!("DPoP: {}", proof())], "401"),
        ("two proofs", vec![format!("Authorization: {bound}"), format!("DPoP: {}", proof()), format!("dpop: {}", proof())], "401"),
        ("a folded line", vec![format!("Authorization: {bound}"), format!("DPoP: {}\r\n {}", proof(), proof())], "400"),
    ] {
        let answer = raw(&world, &line(&more)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{case}: {answer}");
    }
    assert!(world.intents().await.is_empty());
}

#[tokio::test]
async fn another_executions_session_is_of_no_use_by_any_handle() {
    let world = World::start().await;
    let (victim, thief) = (world.agent("bot"), world.agent("bot"));
    let session = world.session(&victim, PATH, json!({ "elicitation": {} })).await;
    let own = world.session(&thief, PATH, json!({ "elicitation": {} })).await;
    assert!(session.len() >= 32 && session != own);
    let call = |id: u64, name: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": name, "_meta": { "progressToken": 5 } } });
    let (_, mut asking) = open(world.legacy(&victim, PATH, &session, &call(7, "ask"))).await;
    let question = asking.next().await.unwrap();
    let (_, mut slow) = open(world.legacy(&victim, PATH, &session, &call(8, "slow"))).await;
    assert_eq!(slow.next().await.unwrap()["params"]["progressToken"], 5);

    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept", "content": { "name": "Mallory" } } });
    let cancel = |id: u64| json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
    let subscribe = json!({ "jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": { "uri": "test://one" } });
    let level = json!({ "jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": { "level": "emergency" } });
    // With the victim's session id: there is no such session for the thief.
    for message in [&answer, &cancel(7), &cancel(8), &subscribe, &level, &call(9, "query")] {
        assert_eq!(send(world.legacy(&thief, PATH, &session, message)).await.status, 404, "{message}");
    }
    for method in ["GET", "DELETE"] {
        let mut request = world.request(&thief, method, PATH, "");
        request.headers_mut().insert("mcp-session-id", session.parse().unwrap());
        assert_eq!(send(request).await.status, 404, "{method}");
    }
    // With both, which no two parsers need read alike.
    let mut both = world.legacy(&thief, PATH, &own, &answer);
    both.headers_mut().append("mcp-session-id", session.parse().unwrap());
    assert_eq!(send(both).await.status, 400);
    // With the victim's ids in the thief's own session, they name nothing.
    for message in [&answer, &cancel(7), &cancel(8)] {
        assert_eq!(send(world.legacy(&thief, PATH, &own, message)).await.status, 202, "{message}");
    }
    // In another session of the victim's own, they name nothing either.
    let second = world.session(&victim, PATH, json!({ "elicitation": {} })).await;
    for message in [&answer, &cancel(7), &cancel(8)] {
        assert_eq!(send(world.legacy(&victim, PATH, &second, message)).await.status, 202, "{message}");
    }
    // A session id that a client brings to the handshake is not the one it gets (fixation).
    let initialize =
        json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "protocolVersion": "2025-11-25", "capabilities": {} } });
    let mut fixed = world.legacy(&thief, PATH, "", &initialize);
    fixed.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    let reply = send(fixed).await;
    assert!(reply.status == 200 && reply.header("mcp-session-id") != session, "{reply:?}");

    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept", "content": { "name": "Ada" } } });
    assert_eq!(send(world.legacy(&victim, PATH, &session, &answer)).await.status, 202);
    assert_eq!(asking.next().await.unwrap()["result"]["content"][0]["text"], "Hello, Ada", "what the thief answered was not heard");
    assert_eq!(send(world.legacy(&victim, PATH, &session, &cancel(8))).await.status, 202);
    while slow.next().await.is_some() {}
    let outcomes = [world.outcome(1).await.code, world.outcome(2).await.code];
    assert_eq!(outcomes, [Ending::Done, Ending::Cancelled], "only its own client cancelled it, and last");

    // The session does not outlive the right to it.
    victim.execution.stop();
    assert_eq!(send(world.legacy(&victim, PATH, &session, &cancel(8))).await.status, 401);
}

#[tokio::test]
async fn equal_ids_and_tokens_of_two_executions_are_kept_apart() {
    let world = World::start().await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "ask", "_meta": { "progressToken": 1 } } });
    let mut streams = Vec::new();
    for name in ["Ada", "Bob"] {
        let agent = world.agent("bot");
        let session = world.session(&agent, PATH, json!({ "elicitation": {} })).await;
        let (_, mut stream) = open(world.legacy(&agent, PATH, &session, &call)).await;
        let question = stream.next().await.unwrap()["id"].clone();
        streams.push((name, agent, session, stream, question));
    }
    assert_eq!(streams[0].4, streams[1].4, "the ids collide, which is the case in question");
    for (name, agent, session, _, question) in streams.iter().rev() {
        let answer = json!({ "jsonrpc": "2.0", "id": question, "result": { "action": "accept", "content": { "name": name } } });
        assert_eq!(send(world.legacy(agent, PATH, session, &answer)).await.status, 202);
    }
    for (name, _, _, mut stream, _) in streams {
        let reply = stream.next().await.unwrap();
        assert_eq!((&reply["id"], reply["result"]["content"][0]["text"].as_str()), (&json!(1), Some(format!("Hello, {name}").as_str())));
    }
}

#[tokio::test]
async fn a_call_under_an_id_that_is_taken_does_not_shield_the_first_from_being_cancelled() {
    let world = World::start().await;
    let agent = world.agent("bot");
    let session = world.session(&agent, PATH, json!({})).await;
    let call = |name: &str| json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": name, "_meta": { "progressToken": 1 } } });
    let (_, mut slow) = open(world.legacy(&agent, PATH, &session, &call("slow"))).await;
    assert_eq!(slow.next().await.unwrap()["method"], "notifications/progress");
    assert_eq!(send(world.legacy(&agent, PATH, &session, &call("query"))).await.text(), "{}");
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
    assert_eq!(send(world.legacy(&agent, PATH, &session, &cancel)).await.status, 202);
    while slow.next().await.is_some() {}
    assert_eq!(world.outcome(2).await.code, Ending::Cancelled);
}
