//! The agents' side: their declarations and credentials, made before anything is measured.

use std::sync::Arc;

use bailiwick_core::model::Clock as _;
use serde_json::{Value, json};

use crate::Result;
use crate::clock::WallClock;
use crate::http::post;
use crate::key::{Key, unique};

/// Where a gateway is reached.
#[derive(Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) data: u16,
    pub(crate) identity: u16,
}

/// An agent of a bundle.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) name: &'static str,
    /// Whether having a credential is enough; otherwise each request needs a new proof (RFC 9449).
    pub(crate) is_bearer: bool,
    pub(crate) key: Arc<Key>,
}

impl Agent {
    /// Its declaration. `credential` and `may` are lines of TOML beyond what every agent has.
    pub(crate) fn declaration(&self, credential: &str, may: &str) -> String {
        let proof = if self.is_bearer { "bearer" } else { "dpop" };
        format!(
            "[agent]\nname = \"{}\"\nowner = \"bench@acme.example\"\npurpose = \"Call as fast as it goes\"\nroles = [\"caller\"]\n\
             [agent.credential]\nproof = \"{proof}\"\n{credential}\n[agent.may]\n{may}\n\
             [[agent.key]]\nkid = \"k1\"\njwk = {}\n",
            self.name,
            self.key.jwk_toml()
        )
    }

    /// Starts an execution and returns its credential for the resource at `path` (RFC 6749 §4.4, RFC 7523 §2.2).
    pub(crate) async fn credential(&self, Doors { data, identity }: Doors, path: &str) -> Result<String> {
        let form = format!("grant_type=client_credentials&resource=http%3A%2F%2F127.0.0.1%3A{data}{}", path.replace('/', "%2F"));
        self.asked(identity, &form).await.map(|(token, _)| token)
    }

    /// Has itself act for the execution of `token`, and returns the credential and the id of the execution that began (RFC 8693).
    pub(crate) async fn delegated(&self, Doors { identity, .. }: Doors, token: &str) -> Result<(String, String)> {
        let exchange = |token: &str, kind: &str| {
            format!(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={token}\
                 &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3A{kind}"
            )
        };
        let to = format!("&audience=spiffe%3A%2F%2Facme.example%2Fagent%2F{}", self.name);
        let (delegation, _) = self.asked(identity, &(exchange(token, "access_token") + &to)).await?;
        self.asked(identity, &exchange(&delegation, "jwt")).await
    }

    /// Asks the token service, and returns the token and the execution.
    async fn asked(&self, identity: u16, asked: &str) -> Result<(String, String)> {
        let issuer = format!("http://127.0.0.1:{identity}");
        let at = WallClock.now();
        let now = at.as_second();
        let mut nonce = None;
        for attempt in 0..2 {
            let claims = json!({ "iss": self.name, "sub": self.name, "aud": issuer, "iat": now, "exp": now + 60, "jti": unique() });
            let assertion = self.key.token(&json!({ "typ": "client-authentication+jwt", "alg": "ES256", "kid": "k1" }), &claims)?;
            let form = format!(
                "{asked}&client_id={}&client_assertion={assertion}\
                 &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer",
                self.name,
            );
            let mut headers = "content-type: application/x-www-form-urlencoded\r\n".to_owned();
            // A credential is bound to the key of the proof that it was asked for with.
            if !self.is_bearer {
                let proof = self.key.proof(&format!("{issuer}/token"), None, nonce.as_deref(), at)?;
                headers.push_str(&format!("dpop: {proof}\r\n"));
            }
            let answer = post(identity, "/token", &headers, form.as_bytes()).await?;
            let document: Value = serde_json::from_slice(&answer.body)?;
            let text = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
            match text("access_token") {
                Some(token) => return Ok((token, text("execution").unwrap_or_default())),
                None if attempt == 0 => nonce = answer.header("dpop-nonce"),
                None => return Err(format!("the token service refused: {document}").into()),
            }
        }
        Err("the token service never accepts its own nonce".into())
    }
}
