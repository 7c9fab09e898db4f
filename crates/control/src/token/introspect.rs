//! `/introspect`: what a credential says, to the agent that it was issued to (RFC 7662).

use serde_json::{Value, json};

use super::answer::Refusal;
use super::{Asked, Identity};

impl Identity {
    /// Answers an introspection request. Whatever is wrong with the token, the answer is only that it is not active.
    pub(super) async fn introspect(&self, asked: &Asked) -> Result<Value, Refusal> {
        let Asked { form, now, .. } = asked;
        let snapshot = self.parts.bundle.load();
        let client = self.client(&snapshot, asked).await?.ok_or_else(|| Refusal::client("the client did not authenticate"))?;
        let text = form.one("token").ok_or_else(|| Refusal::request("`token` is missing").of(&client.agent.name))?;
        let inactive = json!({ "active": false });
        let Ok((token, execution)) = self.authenticator.read(text, &self.parts.executions, *now) else { return Ok(inactive) };
        if *token.agent() != client.agent.name {
            return Ok(inactive);
        }
        let agent = token.agent.to_string();
        let mut answer = json!({
            "active": true,
            "iss": token.issuer,
            "sub": token.sub(),
            "aud": token.audiences,
            "client_id": agent,
            "txn": token.execution,
            "jti": token.id,
            "iat": token.issued_s,
            "exp": token.expires_s,
            "token_type": if token.key.is_some() { "DPoP" } else { "Bearer" },
        });
        if let Some(members) = answer.as_object_mut() {
            if let Some(act) = token.act() {
                members.insert("act".to_owned(), act);
            }
            if let Some(cnf) = token.confirmation() {
                members.insert("cnf".to_owned(), cnf);
            }
            // What the execution may do now, which a renewal may have narrowed after this token was signed.
            let grant = execution.grant();
            if !grant.is_unrestricted() {
                members.insert("authorization_details".to_owned(), json!(*grant));
            }
        }
        Ok(answer)
    }
}
