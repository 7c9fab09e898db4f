//! Who is let in at the gateway and who is not: every way a token or a proof can be wrong, by table.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::jws::Jws;
use super::*;
use crate::execution::Executions;
use crate::model::{Digest, Entropy, ExecutionId, ExecutionStarted, Revocation, Revoked, SpiffeId, Timestamp};

const ISSUER: &str = "https://id.acme.example";
const ENDPOINT: &str = "https://gw.acme.example/mcp";
const NOW_S: i64 = 1_795_000_000;

struct Random;

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]), "kid": "k" })
    }

    fn thumbprint(&self) -> String {
        thumbprint(self.jwk().as_object().unwrap()).unwrap()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()).unwrap()))
    }
}

impl Signer for Key {
    fn kid(&self) -> &str {
        "k"
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Es256
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        Ok(self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
    }
}

/// An issuer, one execution with a credential bound to `device`, and the authenticator that knows them.
struct World {
    issuer: Key,
    device: Key,
    executions: Executions,
    authenticator: Authenticator,
    token: AccessToken,
}

impl World {
    fn new() -> Self {
        let (issuer, device) = (Key::new(), Key::new());
        let keys = KeySet::from_jwks(&json!({ "keys": [issuer.jwk()] })).unwrap();
        let token = AccessToken {
            issuer: ISSUER.to_owned(),
            agent: SpiffeId::new("acme.example".parse().unwrap(), "bot".parse().unwrap()),
            chain: Vec::new(),
            subject: Some("idp:ana".to_owned()),
            audiences: vec![ENDPOINT.to_owned()],
            execution: ExecutionId::from_parts(1, [7; 10]),
            id: "t1".to_owned(),
            issued_s: NOW_S,
            expires_s: NOW_S + 300,
            certificate: None,
            key: Some(device.thumbprint()),
            grant: Grant::default(),
        };
        let world =
            Self { authenticator: Authenticator::new(ISSUER, keys, &Random), issuer, device, executions: Executions::default(), token };
        world.started(&world.token);
        world
    }

    fn started(&self, token: &AccessToken) {
        self.executions.started(ExecutionStarted {
            at: at(token.issued_s),
            bundle: Digest::of(b""),
            execution: token.execution,
            agent: token.agent().clone(),
            subject: token.subject.clone(),
            chain: Vec::new(),
            task: None,
            grant: token.grant.clone(),
            key: token.key.clone(),
            token: token.id.clone(),
            renewal: false,
            expires: at(token.expires_s),
            proof: String::new(),
            sign_in: None,
        });
    }

    fn signed(&self) -> String {
        self.token.sign(&self.issuer).unwrap()
    }

    fn spoilt(&self, spoil: impl FnOnce(&mut Value, &mut Value)) -> String {
        let token = self.signed();
        let part = |n: usize| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap();
        let (mut header, mut claims) = (part(0), part(1));
        spoil(&mut header, &mut claims);
        self.issuer.token(&header, &claims)
    }

    fn proof(&self, token: &str) -> String {
        self.proof_with(token, |_, _| ())
    }

    fn proof_with(&self, token: &str, spoil: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.device.jwk() });
        let mut jti = [0; 12];
        Random.fill(&mut jti);
        let mut claims = json!({
            "htm": "POST", "htu": ENDPOINT, "iat": NOW_S, "jti": URL_SAFE_NO_PAD.encode(jti),
            "ath": URL_SAFE_NO_PAD.encode(Digest::of(token.as_bytes()).as_bytes()), "nonce": self.authenticator.nonce(at(NOW_S)),
        });
        spoil(&mut header, &mut claims);
        self.device.token(&header, &claims)
    }

    fn show(&self, authorization: &[&str], dpop: &[&str], now_s: i64) -> Result<Authenticated, Unauthenticated> {
        self.show_over(None, authorization, dpop, now_s)
    }

    /// The same over a connection with this certificate.
    fn show_over(
        &self,
        certificate: Option<&ClientCertificate>,
        authorization: &[&str],
        dpop: &[&str],
        now_s: i64,
    ) -> Result<Authenticated, Unauthenticated> {
        let presented = Presented { authorization, dpop, certificate, method: "POST", url: ENDPOINT, audience: ENDPOINT };
        self.authenticator.authenticate(&presented, &self.executions, at(now_s))
    }

    fn show_bound(&self, token: &str) -> Result<Authenticated, Unauthenticated> {
        self.show(&[&format!("DPoP {token}")], &[&self.proof(token)], NOW_S)
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn code(result: Result<Authenticated, Unauthenticated>) -> &'static str {
    match result {
        Ok(_) => "authenticated",
        Err(error) => error.code().unwrap_or("missing"),
    }
}

#[test]
fn a_token_with_its_proof_leads_to_its_execution() {
    let world = World::new();
    let who = world.show_bound(&world.signed()).unwrap();
    assert_eq!((who.execution.id(), &*who.token, who.expires), (world.token.execution, "t1", at(NOW_S + 300)));
    assert!(Arc::ptr_eq(&who.execution, &world.executions.find(world.token.execution).unwrap()));
    let keys = KeySet::from_jwks(&json!({ "keys": [world.issuer.jwk()] })).unwrap();
    assert_eq!(AccessToken::verify(&world.signed(), ISSUER, &keys, at(NOW_S)).unwrap(), world.token);
}

#[test]
fn every_wrong_token_is_refused() {
    let world = World::new();
    let hs256 = {
        let token = world.spoilt(|header, _| header["alg"] = json!("HS256"));
        let signed = token.rsplit_once('.').unwrap().0.to_owned();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, world.issuer.0.public_key().as_ref());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    let none = {
        let token = world.spoilt(|header, _| header["alg"] = json!("none"));
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    for (case, token) in [
        ("expired", world.spoilt(|_, claims| claims["exp"] = json!(NOW_S))),
        ("without an end", world.spoilt(|_, claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("from the future", world.spoilt(|_, claims| claims["iat"] = json!(NOW_S + 60))),
        ("for another audience", world.spoilt(|_, claims| claims["aud"] = json!("https://gw.acme.example/mcp/crm"))),
        ("for no audience", world.spoilt(|_, claims| drop(claims.as_object_mut().unwrap().remove("aud")))),
        ("of another issuer", world.spoilt(|_, claims| claims["iss"] = json!("https://id.b.example"))),
        ("alg none", none),
        ("HS256 with the public key", hs256),
        ("alg of another family", world.spoilt(|header, _| header["alg"] = json!("RS256"))),
        ("an unknown kid", world.spoilt(|header, _| header["kid"] = json!("other"))),
        ("no kid", world.spoilt(|header, _| drop(header.as_object_mut().unwrap().remove("kid")))),
        ("another kind", world.spoilt(|header, _| header["typ"] = json!("JWT"))),
        ("no kind", world.spoilt(|header, _| drop(header.as_object_mut().unwrap().remove("typ")))),
        ("a critical extension", world.spoilt(|header, _| header["crit"] = json!([]))),
        ("another's key", Key::new().token(&json!({ "typ": "at+jwt", "alg": "ES256", "kid": "k" }), &json!({}))),
        ("a token that the log does not know", world.spoilt(|_, claims| claims["jti"] = json!("t2"))),
        ("an execution that is not under way", world.spoilt(|_, claims| claims["txn"] = json!(ExecutionId::from_parts(1, [8; 10])))),
        ("a binding that is no key", world.spoilt(|_, claims| claims["cnf"] = json!({}))),
        ("no token", String::new()),
        ("too long", "x".repeat(jws::TOKEN_BYTES_MAX + 1)),
        ("padded", format!("{}=", world.signed())),
        ("four parts", format!("{}.x", world.signed())),
    ] {
        for _ in 0..2 {
            assert_eq!(code(world.show_bound(&token)), "invalid_token", "{case}");
        }
    }
    let good = world.signed();
    let proof = world.proof(&good);
    for (case, authorization, expected) in [
        ("none", vec![], "missing"),
        ("two", vec![format!("DPoP {good}"), format!("DPoP {good}")], "invalid_token"),
        ("as a bearer token", vec![format!("Bearer {good}")], "invalid_token"),
        ("by another scheme", vec![format!("Basic {good}")], "invalid_token"),
        ("after two spaces", vec![format!("DPoP  {good}")], "invalid_token"),
        ("as it should be", vec![format!("dpop {good}")], "authenticated"),
    ] {
        let authorization: Vec<_> = authorization.iter().map(String::as_str).collect();
        assert_eq!(code(world.show(&authorization, &[&proof], NOW_S)), expected, "{case}");
    }
}

#[test]
fn every_wrong_proof_is_refused() {
    let world = World::new();
    let token = world.signed();
    let another = Key::new();
    let other_key = |world: &World| {
        let claims = Jws::parse(&world.proof(&token)).unwrap().claims().clone();
        another.token(&json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": another.jwk() }), &Value::Object(claims))
    };
    let mut private = world.device.jwk();
    private["d"] = json!("AAAA");
    for (case, expected, proof) in [
        (
            "another address",
            "invalid_dpop_proof",
            world.proof_with(&token, |_, claims| claims["htu"] = json!("https://gw.acme.example/mcp/crm")),
        ),
        ("another method", "invalid_dpop_proof", world.proof_with(&token, |_, claims| claims["htm"] = json!("GET"))),
        ("another token", "invalid_dpop_proof", world.proof_with("other", |_, _| ())),
        ("no token", "invalid_dpop_proof", world.proof_with(&token, |_, claims| drop(claims.as_object_mut().unwrap().remove("ath")))),
        ("no id", "invalid_dpop_proof", world.proof_with(&token, |_, claims| drop(claims.as_object_mut().unwrap().remove("jti")))),
        ("no time", "invalid_dpop_proof", world.proof_with(&token, |_, claims| drop(claims.as_object_mut().unwrap().remove("iat")))),
        ("an old time", "invalid_dpop_proof", world.proof_with(&token, |_, claims| claims["iat"] = json!(NOW_S - 301))),
        ("another kind", "invalid_dpop_proof", world.proof_with(&token, |header, _| header["typ"] = json!("at+jwt"))),
        ("no key", "invalid_dpop_proof", world.proof_with(&token, |header, _| drop(header.as_object_mut().unwrap().remove("jwk")))),
        ("a private key", "invalid_dpop_proof", world.proof_with(&token, |header, _| header["jwk"] = private.clone())),
        ("a key that did not sign", "invalid_dpop_proof", world.proof_with(&token, |header, _| header["jwk"] = another.jwk())),
        ("another key", "invalid_token", other_key(&world)),
        ("no nonce", "use_dpop_nonce", world.proof_with(&token, |_, claims| drop(claims.as_object_mut().unwrap().remove("nonce")))),
        (
            "an old nonce",
            "use_dpop_nonce",
            world.proof_with(&token, |_, claims| claims["nonce"] = json!(world.authenticator.nonce(at(NOW_S - 120)))),
        ),
        (
            "a nonce of another server",
            "use_dpop_nonce",
            world.proof_with(&token, |_, claims| claims["nonce"] = json!(World::new().authenticator.nonce(at(NOW_S)))),
        ),
        (
            "the nonce before",
            "authenticated",
            world.proof_with(&token, |_, claims| claims["nonce"] = json!(world.authenticator.nonce(at(NOW_S - 60)))),
        ),
        ("as it should be", "authenticated", world.proof(&token)),
    ] {
        // Before and after the token and its key are remembered.
        for time in ["first", "again"] {
            let result = world.show(&[&format!("DPoP {token}")], &[&proof], NOW_S);
            let expected = if (expected, time) == ("authenticated", "again") { "invalid_dpop_proof" } else { expected };
            assert_eq!(code(result), expected, "{case}, {time}");
        }
    }
    // The same once the key is remembered.
    let after = world.proof_with(&token, |header, _| header["jwk"] = private);
    assert_eq!(code(world.show(&[&format!("DPoP {token}")], &[&after], NOW_S)), "invalid_dpop_proof");
    assert_eq!(code(world.show(&[&format!("DPoP {token}")], &[], NOW_S)), "invalid_dpop_proof", "missing");
    let two = [world.proof(&token), world.proof(&token)];
    assert_eq!(code(world.show(&[&format!("DPoP {token}")], &[&two[0], &two[1]], NOW_S)), "invalid_dpop_proof", "two");

    let refused = world.show(&[&format!("DPoP {token}")], &[], NOW_S).unwrap_err();
    assert_eq!(refused.known().agent.unwrap().as_str(), "bot");
    assert_eq!(refused.known().execution, Some(world.token.execution));
    assert!(!refused.detail().contains("eyJ"));
}

#[test]
fn a_token_that_is_bound_to_a_certificate_is_good_over_that_certificates_connections_alone() {
    let (own, stolen_by) = (ClientCertificate::of(b"own"), ClientCertificate::of(b"another"));
    let mut world = World::new();
    world.token = AccessToken { id: "t2".to_owned(), key: None, certificate: Some(own.digest().to_owned()), ..world.token.clone() };
    world.started(&world.token);
    let token = world.signed();
    let (bearer, dpop) = (format!("Bearer {token}"), format!("DPoP {token}"));
    assert_eq!(code(world.show_over(Some(&own), &[&bearer], &[], NOW_S)), "authenticated");
    let proof = world.proof(&token);
    for (case, certificate, authorization, proofs) in [
        ("another certificate", Some(&stolen_by), &bearer, &[][..]),
        ("no certificate", None, &bearer, &[]),
        ("as a token that is bound to a key", Some(&own), &dpop, &[proof.as_str()]),
        ("the same without a proof", Some(&own), &dpop, &[]),
        ("with a proof of some key besides", Some(&own), &bearer, &[proof.as_str()]),
        ("a proof in the certificate's place", None, &bearer, &[proof.as_str()]),
    ] {
        assert_eq!(code(world.show_over(certificate, &[authorization], proofs, NOW_S)), "invalid_token", "{case}");
    }
    assert_eq!(code(world.show_over(Some(&own), &[&bearer], &[], NOW_S)), "authenticated", "it was remembered, and is good still");

    // A certificate stands for no key, and nothing else is taken for either.
    let bound = World::new();
    let token = bound.signed();
    assert_eq!(code(bound.show_over(Some(&own), &[&format!("Bearer {token}")], &[], NOW_S)), "invalid_token", "bound to a key");
    for cnf in [
        json!({}),
        json!({ "jkt": "a", "x5t#S256": own.digest() }),
        json!({ "x5t": own.digest() }),
        json!({ "x5t#S256": 7 }),
        json!({ "jwk": {} }),
        json!(null),
        json!([own.digest()]),
    ] {
        let token = world.spoilt(|_, claims| claims["cnf"] = cnf.clone());
        assert_eq!(code(world.show_over(Some(&own), &[&format!("Bearer {token}")], &[], NOW_S)), "invalid_token", "{cnf}");
    }
}

#[test]
fn a_remembered_token_is_forgotten_when_it_ends() {
    let world = World::new();
    let token = world.signed();
    assert_eq!(code(world.show_bound(&token)), "authenticated");
    let late = world.proof_with(&token, |_, claims| {
        claims["iat"] = json!(NOW_S + 300);
        claims["nonce"] = json!(world.authenticator.nonce(at(NOW_S + 300)));
    });
    assert_eq!(code(world.show(&[&format!("DPoP {token}")], &[&late], NOW_S + 300)), "invalid_token", "expired");

    let revoke = |what| {
        world.executions.revoked(&Revoked {
            at: at(NOW_S),
            what,
            execution: Some(world.token.execution),
            agent: None,
            by: "a".to_owned(),
            reason: String::new(),
            finding: None,
        })
    };
    let second = AccessToken { id: "t2".to_owned(), ..world.token.clone() };
    world.started(&second);
    let second = second.sign(&world.issuer).unwrap();
    revoke(Revocation::Token("t1".to_owned()));
    assert_eq!(code(world.show_bound(&token)), "invalid_token", "the token was revoked");
    assert_eq!(code(world.show_bound(&second)), "authenticated", "the other goes on");
    revoke(Revocation::Execution(world.token.execution));
    assert_eq!(code(world.show_bound(&second)), "invalid_token", "the execution was revoked");

    let world = World::new();
    let token = world.signed();
    assert_eq!(code(world.show_bound(&token)), "authenticated");
    world.authenticator.set_keys(KeySet::from_jwks(&json!({ "keys": [Key::new().jwk()] })).unwrap());
    assert_eq!(code(world.show_bound(&token)), "invalid_token", "its key was withdrawn");
    world.authenticator.set_keys(KeySet::from_jwks(&json!({ "keys": [world.issuer.jwk()] })).unwrap());
    world.executions.forget_expired(at(NOW_S + 301));
    assert_eq!(code(world.show_bound(&token)), "invalid_token", "its execution was forgotten");
}

#[test]
fn a_bearer_token_is_shown_as_one() {
    let mut world = World::new();
    world.token.key = None;
    let token = world.signed();
    assert_eq!(code(world.show(&[&format!("Bearer {token}")], &[], NOW_S)), "authenticated");
    assert_eq!(code(world.show_bound(&token)), "invalid_token");
}

#[test]
fn the_examples_of_the_standards() {
    // RFC 7638 §3.1.
    let rsa = json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    });
    let rsa = PublicKey::from_jwk(&rsa).unwrap();
    assert_eq!(rsa.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert!(rsa.is_for(Algorithm::Rs256) && !rsa.is_for(Algorithm::Ps256), "its `alg` narrows it");
    // RFC 9449 §4.1 and §6.1.
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let proof = Jws::parse(proof).unwrap();
    let key = PublicKey::from_jwk(proof.jwk().unwrap()).unwrap();
    assert_eq!(proof.verify(&key), Ok(()));
    assert_eq!(key.thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

#[test]
fn keys_that_are_not_taken() {
    let good = Key::new().jwk();
    let spoilt = |member: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[member] = value;
        jwk
    };
    let rsa = |e: &[u8]| json!({ "kty": "RSA", "e": URL_SAFE_NO_PAD.encode(e), "n": URL_SAFE_NO_PAD.encode([0xff; 256]) });
    let ed25519 = |x: &str| {
        let x: Vec<u8> = (0..32).map(|byte| u8::from_str_radix(&x[byte * 2..byte * 2 + 2], 16).unwrap()).collect();
        json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(x) })
    };
    // RFC 8037 appendix A.2.
    assert!(PublicKey::from_jwk(&ed25519("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")).is_ok());
    assert!(PublicKey::from_jwk(&rsa(&[1, 0, 1])).is_ok() && PublicKey::from_jwk(&rsa(&[3])).is_ok());
    for (jwk, fault) in [
        (spoilt("d", json!("AAAA")), InvalidKey::Private),
        (json!({ "kty": "oct", "k": "AAAA" }), InvalidKey::Private),
        (json!({ "kty": "oct" }), InvalidKey::Unsupported),
        (spoilt("crv", json!("secp256k1")), InvalidKey::Unsupported),
        (spoilt("crv", json!("P-521")), InvalidKey::Malformed),
        (spoilt("use", json!("enc")), InvalidKey::Unsupported),
        (spoilt("alg", json!("HS256")), InvalidKey::Unsupported),
        (spoilt("alg", json!("RS256")), InvalidKey::Unsupported),
        (spoilt("x", json!("AAAA")), InvalidKey::Malformed),
        (spoilt("x", good["y"].clone()), InvalidKey::Malformed),
        (json!({ "kty": "RSA", "e": "AQAB", "n": "AAAA" }), InvalidKey::Unsupported),
        (rsa(&[1]), InvalidKey::Unsupported),
        (rsa(&[0, 0, 1]), InvalidKey::Unsupported),
        (rsa(&[1, 0, 0]), InvalidKey::Unsupported),
        (rsa(&[1, 0, 0, 0, 1]), InvalidKey::Unsupported),
        (rsa(&[]), InvalidKey::Unsupported),
        (ed25519("0000000000000000000000000000000000000000000000000000000000000000"), InvalidKey::Unsupported),
        (ed25519("0100000000000000000000000000000000000000000000000000000000000080"), InvalidKey::Unsupported),
        (ed25519("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"), InvalidKey::Unsupported),
        (ed25519("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), InvalidKey::Unsupported),
        (ed25519("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), InvalidKey::Unsupported),
        (ed25519("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), InvalidKey::Unsupported),
        (ed25519("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"), InvalidKey::Unsupported),
        (json!([]), InvalidKey::Malformed),
    ] {
        assert_eq!(PublicKey::from_jwk(&jwk).err(), Some(fault), "{jwk}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_token_changed_anywhere_is_another_token(place in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]") {
        let world = World::new();
        let token = world.signed();
        let place = place.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(place..=place, &byte);
        prop_assume!(changed != token);
        prop_assert_eq!(code(world.show_bound(&changed)), "invalid_token");
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".*", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 3)) {
        let _ = Jws::parse(&text);
        let _ = Jws::parse(&parts.join("."));
    }
}
