//! `/authorize`: a client of a person's asks to sign in (RFC 6749 §4.1.1, RFC 7636, RFC 8707, RFC 9207, RFC 9449 §10).
//!
//! Whose client it is and where an answer may go is found out first; before that is known nobody is sent anywhere. Then the person logs
//! in, is shown who asks for what, and allows it or not, each time anew. What was asked is carried whole from page to page, so that a
//! second window changes nothing in the first, and is checked again when it is allowed.

use axum::extract::{RawQuery, Request, State};
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use bailiwick_core::bundle::{Agent, Client, Snapshot};
use bailiwick_core::form::encode;
use bailiwick_core::identity::assertion::claims_hold;
use bailiwick_core::identity::client::{ClientDocument, ClientProof, Redirect};
use bailiwick_core::identity::{Grant, platform};
use bailiwick_core::model::{Allowed, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::asked::called;
use super::login::{Place, REQUEST_BYTES_MAX};
use super::session::{For, LoggedIn};
use super::{People, Shared, begin, consent, form, page, peer, subject, to};
use crate::token::documents::Unknown;
use crate::token::form::Form;
use crate::token::sign_in::{self, Consent, Fault};

/// Why a request is not answered as it was meant.
enum Refusal {
    /// It is not known where an answer may go: the person is told, and nobody else.
    Here { code: &'static str, sentence: &'static str, detail: String },
    /// The client is told (RFC 6749 §4.1.2.1).
    Back(Fault),
}

impl Refusal {
    fn here(code: &'static str, sentence: &'static str, detail: impl Into<String>) -> Self {
        Self::Here { code, sentence, detail: detail.into() }
    }

    fn back(code: &'static str, description: &str) -> Self {
        Self::Back(Fault { code, description: description.to_owned() })
    }
}

/// A request of a client that is declared, whose answer may go where it says.
pub(super) struct Wanted<'a> {
    pub(super) form: Form,
    /// Each agent that it is, for some people.
    declared: Vec<(&'a Agent, &'a Client)>,
    pub(super) client: &'a Client,
    pub(super) document: ClientDocument,
    pub(super) redirect: Redirect,
}

/// What is asked for, of all that has to hold for it.
pub(super) struct Asked {
    challenge: String,
    key: Option<String>,
    pub(super) resources: Vec<String>,
}

impl<'a> Wanted<'a> {
    /// Reads a request's query and finds its client.
    async fn read(people: &People, snapshot: &'a Snapshot, query: &str, now: Timestamp) -> Result<Self, Refusal> {
        const CLIENT: &str = "The request of your client cannot be read. Its maker has to mend that; nothing was changed.";
        if query.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::here("invalid_request", CLIENT, format!("the request is longer than {REQUEST_BYTES_MAX} bytes")));
        }
        let form = Form::parse(query.as_bytes()).map_err(|error| Refusal::here("invalid_request", CLIENT, error.to_string()))?;
        let id = form.one("client_id").ok_or_else(|| Refusal::here("invalid_request", CLIENT, "`client_id` is missing"))?;
        let declared: Vec<_> = snapshot
            .agents
            .values()
            .flat_map(|agent| agent.clients.iter().filter(|client| client.id == id).map(move |client| (agent, client)))
            .collect();
        let Some((_, client)) = declared.first().copied() else {
            let sentence = "No client of this name is let in here. Ask the operator to declare it; until then nobody can sign in by it.";
            return Err(Refusal::here("unauthorized_client", sentence, format!("no agent is the client `{}`", super::shortened(id))));
        };
        let document = people.identity.document(client, now).await.map_err(|error| match &error {
            Unknown::Unread(..) => {
                let sentence = "What this client says of itself cannot be read at the moment. Try again soon.";
                Refusal::here("temporarily_unavailable", sentence, error.to_string())
            }
            Unknown::Invalid(..) => {
                let sentence = "What this client says of itself is not what a client says. Its maker has to mend that.";
                Refusal::here("invalid_client_metadata", sentence, error.to_string())
            }
        })?;
        let redirect = form.one("redirect_uri").and_then(|redirect| document.redirect(redirect)).ok_or_else(|| {
            let sentence =
                "The request asks for its answer to go where this client never said that answers go. Somebody may be deceiving you.";
            let named = super::shortened(form.one("redirect_uri").unwrap_or("none"));
            Refusal::here("invalid_redirect_uri", sentence, format!("`{named}` is no redirect URI of `{id}`"))
        })?;
        Ok(Self { form, declared, client, document, redirect })
    }

    /// What it asks for.
    fn asked(&self, snapshot: &Snapshot) -> Result<Asked, Refusal> {
        let Self { form, .. } = self;
        let thumbprint = |text: &str| URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32);
        match form.one("response_type") {
            Some("code") => {}
            None => return Err(Refusal::back("invalid_request", "`response_type` is missing")),
            Some(_) => return Err(Refusal::back("unsupported_response_type", "only `code` is supported")),
        }
        if form.one("request").is_some() {
            return Err(Refusal::back("request_not_supported", "send the parameters themselves"));
        }
        if form.one("request_uri").is_some() {
            return Err(Refusal::back("request_uri_not_supported", "send the parameters themselves"));
        }
        if form.one("response_mode").is_some_and(|mode| mode != "query") {
            return Err(Refusal::back("invalid_request", "only the `response_mode` `query` is supported"));
        }
        if form.one("prompt") == Some("none") {
            return Err(Refusal::back("interaction_required", "a person is asked each time"));
        }
        let challenge = form.one("code_challenge").filter(|challenge| thumbprint(challenge));
        let challenge = challenge.filter(|_| form.one("code_challenge_method") == Some("S256"));
        let challenge = challenge.ok_or_else(|| Refusal::back("invalid_request", "a `code_challenge` by `S256` is needed (RFC 7636)"))?;
        let key = form.one("dpop_jkt");
        if key.is_some_and(|key| !thumbprint(key)) {
            return Err(Refusal::back("invalid_request", "`dpop_jkt` is no thumbprint of a key"));
        }
        let resources = sign_in::reach(snapshot, form).map_err(Refusal::Back)?;
        Ok(Asked { challenge: challenge.to_owned(), key: key.map(str::to_owned), resources })
    }

    /// The agent that the client is for this person; the sentence where it is none.
    fn agent(&self, snapshot: &Snapshot, who: &LoggedIn) -> Result<&'a Agent, &'static str> {
        let issuer = snapshot.issuers.get(&who.person().issuer).ok_or("The login service by which you logged in is declared no more.")?;
        platform::person(issuer, &who.log_in.claims).map_err(|_| "Who you logged in as is no person.")?;
        let may = |client: &Client| client.people.issuer == issuer.issuer && claims_hold(&who.log_in.claims, &client.people.claims);
        let mut agents: Vec<_> = self.declared.iter().filter(|(_, client)| may(client)).map(|(agent, _)| *agent).collect();
        agents.dedup_by_key(|agent| &agent.name);
        match agents.as_slice() {
            [agent] => Ok(agent),
            [] => Err("You are logged in, and you are not one of those who may sign in by this client. Ask its operator to let you."),
            _ => Err("This client would be several agents for you. The operator has to say which of them it is."),
        }
    }

    /// The address of an answer.
    fn answer(&self, issuer: &str, parameters: &[(&str, &str)]) -> String {
        let state = self.form.one("state").map(|state| ("state", state));
        let all: Vec<_> = parameters.iter().copied().chain(state).chain([("iss", issuer)]).collect();
        self.redirect.with(&encode(&all))
    }

    fn refused(&self, issuer: &str, fault: &Fault) -> Response {
        to(&self.answer(issuer, &[("error", fault.code), ("error_description", &fault.description)]))
    }
}

/// Shows who wants to sign in as which agent, to who is logged in.
pub(super) async fn request(State(people): Shared, RawQuery(query): RawQuery, request: Request) -> Response {
    let (peer, now, snapshot) = (peer(&request), people.now(), people.snapshot());
    let query = query.unwrap_or_default();
    let (wanted, asked) = match read(&people, &snapshot, &query, peer, now).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let Some(who) = people.who(request.headers()) else { return begin(&people, &Place::SignIn(query)).await };
    let (agent, grant) = match agreed(&people, &snapshot, &wanted, &asked, &who, peer).await {
        Ok(agreed) => agreed,
        Err(response) => return response,
    };
    let form = people.sessions.form(&who, For::SignIn(&query));
    let shown = consent::Shown { wanted: &wanted, asked: &asked, agent, grant: &grant, query: &query, form: &form, person: who.person() };
    let mut response = Html(consent::page(&shown, &snapshot, &people.reader(&who))).into_response();
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy(&wanted.redirect));
    response
}

/// Lets the client sign in, or not, by the form that was shown with its request.
pub(super) async fn answer(State(people): Shared, request: Request) -> Response {
    let (peer, now, snapshot, headers) = (peer(&request), people.now(), people.snapshot(), request.headers().clone());
    let Some(who) = people.who(&headers) else {
        people.refuse("authorize", "no_session", "nobody was logged in who let a client sign in".to_owned(), peer, None).await;
        let sentence = "Your login is over; nothing was changed. Begin again in your client.";
        return (StatusCode::FORBIDDEN, Html(page::notice("Nobody is logged in", sentence, None, None))).into_response();
    };
    let form = form(request).await.unwrap_or_default();
    let query = form.one("request").unwrap_or_default();
    if !people.sessions.has_form(&who, For::SignIn(query), form.one("form").unwrap_or_default()) {
        let detail = format!("{} let a client sign in by a form that was not shown for it in this login", called(who.person()));
        people.refuse("authorize", "invalid_form", detail, peer, None).await;
        let sentence = "This form is not one that your login was shown for this request. Nothing was changed. Begin again in your client.";
        let page = page::notice("Not allowed", sentence, None, Some(&people.reader(&who)));
        return (StatusCode::FORBIDDEN, Html(page)).into_response();
    }
    let (wanted, asked) = match read(&people, &snapshot, query, peer, now).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let (agent, grant) = match agreed(&people, &snapshot, &wanted, &asked, &who, peer).await {
        Ok(agreed) => agreed,
        Err(response) => return response,
    };
    let issuer = people.identity.issuer().url();
    if form.one("answer") != Some("allow") {
        let detail = format!("{} refused to let `{}` sign in", called(who.person()), wanted.client.id);
        people.refuse("authorize", "access_denied", detail, peer, None).await;
        return wanted.refused(issuer, &Fault { code: "access_denied", description: "the person refused".to_owned() });
    }
    let allowed = Allowed {
        client: wanted.client.id.clone(),
        by: who.person().clone(),
        redirect_uri: wanted.redirect.as_str().to_owned(),
        challenge: asked.challenge,
        resources: asked.resources,
        proves_itself: wanted.document.proof != ClientProof::None,
        key: asked.key,
    };
    let consent = Consent { agent, subject: subject(who.person()), logged_in_s: who.log_in.issued_s, allowed, grant };
    match people.identity.allow(consent).await {
        Ok(code) => to(&wanted.answer(issuer, &[("code", &code)])),
        Err(error) => {
            tracing::error!(%error, "a sign-in could not be recorded");
            wanted.refused(issuer, &Fault { code: "temporarily_unavailable", description: "try again soon".to_owned() })
        }
    }
}

/// The request and what it asks for; else what to answer, which is recorded.
async fn read<'a>(
    people: &People,
    snapshot: &'a Snapshot,
    query: &str,
    peer: Option<std::net::IpAddr>,
    now: Timestamp,
) -> Result<(Wanted<'a>, Asked), Response> {
    let wanted = match Wanted::read(people, snapshot, query, now).await {
        Ok(wanted) => wanted,
        Err(refusal) => return Err(refused(people, None, refusal, peer).await),
    };
    match wanted.asked(snapshot) {
        Ok(asked) => Ok((wanted, asked)),
        Err(refusal) => Err(refused(people, Some(&wanted), refusal, peer).await),
    }
}

/// The agent that the client is for the person who is logged in, and what it may do at most; else what to answer.
async fn agreed<'a>(
    people: &People,
    snapshot: &Snapshot,
    wanted: &Wanted<'a>,
    asked: &Asked,
    who: &LoggedIn,
    peer: Option<std::net::IpAddr>,
) -> Result<(&'a Agent, Grant), Response> {
    let agent = match wanted.agent(snapshot, who) {
        Ok(agent) => agent,
        Err(sentence) => {
            let detail = format!("{} may not sign in by `{}`", called(who.person()), wanted.client.id);
            people.refuse("authorize", "access_denied", detail, peer, None).await;
            let fault = [("error", "access_denied"), ("error_description", "the person may not sign in by this client")];
            let back = wanted.answer(people.identity.issuer().url(), &fault);
            let page = page::notice("Not allowed", sentence, Some((&back, "Back to the client")), Some(&people.reader(who)));
            return Err((StatusCode::FORBIDDEN, Html(page)).into_response());
        }
    };
    if people.identity.parts().executions.quarantined().contains_key(&agent.name) {
        let refusal = Refusal::back("access_denied", "the agent is quarantined; its operator has to release it");
        return Err(refused(people, Some(wanted), refusal, peer).await);
    }
    match sign_in::bounds(snapshot, agent, &wanted.form, &asked.resources) {
        Ok(grant) => Ok((agent, grant)),
        Err(fault) => Err(refused(people, Some(wanted), Refusal::Back(fault), peer).await),
    }
}

/// Records a refusal and answers it: to the client where it is known that an answer may go there, and else here.
async fn refused(people: &People, wanted: Option<&Wanted<'_>>, refusal: Refusal, peer: Option<std::net::IpAddr>) -> Response {
    match (refusal, wanted) {
        (Refusal::Back(fault), Some(wanted)) => {
            let detail = format!("`{}`: {}", wanted.client.id, fault.description);
            people.refuse("authorize", fault.code, detail, peer, None).await;
            wanted.refused(people.identity.issuer().url(), &fault)
        }
        (Refusal::Back(Fault { code, description }), None) => {
            here(people, code, "The request cannot be answered.", description, peer).await
        }
        (Refusal::Here { code, sentence, detail }, _) => here(people, code, sentence, detail, peer).await,
    }
}

async fn here(people: &People, code: &str, sentence: &str, detail: String, peer: Option<std::net::IpAddr>) -> Response {
    people.refuse("authorize", code, detail, peer, None).await;
    let status = if code == "temporarily_unavailable" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
    (status, Html(page::notice("Not signed in", sentence, None, None))).into_response()
}

/// The policy of the page that asks: like that of the others, except that its form may lead on to the client. Browsers hold the whole way
/// that an answer takes against `form-action`, and a client may send its browser on, so `https` is let as such; a page without a
/// script has one form, and that is ours.
fn policy(redirect: &Redirect) -> HeaderValue {
    let client = match (redirect.is_loopback(), redirect.authority().starts_with('[')) {
        (false, _) => String::new(),
        // No source of a policy can be an address of IPv6.
        (true, true) => " http:".to_owned(),
        (true, false) => format!(" http://{}", redirect.authority()),
    };
    let policy =
        format!("default-src 'none'; style-src 'self'; form-action 'self' https:{client}; base-uri 'none'; frame-ancestors 'none'");
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}
