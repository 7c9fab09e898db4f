//! The approvals listener: people prove who they are, see what is asked, and answer, and let clients of theirs sign in; programs ask how
//! their own asks stand.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /approvals`, `GET /approvals/{id}` | shows what is asked, to who is logged in |
//! | `POST /approvals/{id}` | answers, by the form that was shown with it |
//! | `GET /authorize` | shows who wants to sign in as which agent, to who is logged in ([`authorize`]) |
//! | `POST /authorize` | lets it, or refuses, by the form that was shown with it |
//! | `GET /login`, `GET /callback` | logs in by OpenID Connect |
//! | `POST /logout` | ends the session |
//! | `POST /access/v1/requests`, `GET /access/v1/requests/{id}` | AuthZEN Access Request and Approval, by an execution's credential |
//!
//! It answers under its own origin alone, no answer may be kept or framed, and no page has a script. What does not hold is
//! recorded (`docs/spec/approvals.md`).

pub(crate) mod asked;
mod authorize;
mod consent;
mod login;
mod page;
mod session;
mod tasks;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST, HeaderName, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use bailiwick_core::bundle::{Issuer, Listen, Login, Snapshot};
use bailiwick_core::model::{AgentName, Digest, ExecutionId, Person, Refused, Timestamp};
use bailiwick_log::Position;
use tokio::sync::Semaphore;

use self::asked::{Asked, called};
use self::login::{Desk, Logins, Place, Providers};
use self::page::Reader;
use self::session::{For, LoggedIn, Sessions};
use crate::approvals::{Answer, Approvals};
use crate::token::Identity;
use crate::token::form::Form;

/// The longest form that is read, in bytes.
const BODY_BYTES_MAX: usize = 16 << 10;

/// The most requests under way at once.
const REQUESTS_MAX: usize = 64;

/// The most logins that are being finished at once.
const REDEEMING_MAX: usize = 16;

/// The most asks on the page that lists them.
const LISTED_MAX: usize = 200;

/// What every answer says: it is nobody's to keep, to frame or to script.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    // With `no-referrer` a browser would send its forms with `Origin: null` (Fetch §3.2), as another page's are sent.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// The people who answer, and the programs that wait for them.
pub struct People {
    identity: Arc<Identity>,
    approvals: Approvals,
    /// The bundle's directory, which secret files are named relative to.
    base: PathBuf,
    listen: Listen,
    logins: Logins,
    providers: Providers,
    sessions: Sessions,
    room: Semaphore,
    /// Codes that are being redeemed: who comes with made-up ones has the login service asked, and keeps nobody else waiting.
    redeeming: Semaphore,
}

impl People {
    /// Those of the listener `listen`, on the bundle in the directory `base`.
    pub fn new(identity: Arc<Identity>, approvals: Approvals, base: PathBuf, listen: Listen) -> Arc<Self> {
        let entropy = Arc::clone(&identity.parts().entropy);
        Arc::new(Self {
            approvals,
            base,
            listen,
            logins: Logins::new(entropy.as_ref()),
            sessions: Sessions::new(entropy.as_ref()),
            providers: Providers::default(),
            room: Semaphore::new(REQUESTS_MAX),
            redeeming: Semaphore::new(REDEEMING_MAX),
            identity,
        })
    }

    /// The endpoints. Serve them with the peer's address as [`ConnectInfo<SocketAddr>`].
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/", get(|| async { to("/approvals") }))
            .route("/approvals", get(list))
            .route("/approvals/{id}", get(show).post(answer))
            .route("/authorize", get(authorize::request).post(authorize::answer))
            .route("/login", get(log_in))
            .route("/callback", get(come_back))
            .route("/logout", post(log_out))
            .route("/style.css", get(style))
            .route("/access/v1/requests", post(tasks::request))
            .route("/access/v1/requests/{id}", get(tasks::status))
            .fallback(nothing)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(Arc::clone(self), guard))
            .with_state(Arc::clone(self))
    }

    fn now(&self) -> Timestamp {
        self.identity.parts().clock.now()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.identity.parts().bundle.load()
    }

    /// A cookie's full name. Where there is TLS, a browser takes it from nobody but this very host.
    fn cookie_name(&self, name: &str) -> String {
        if self.is_secure() { format!("__Host-{name}") } else { name.to_owned() }
    }

    fn is_secure(&self) -> bool {
        self.listen.origin.starts_with("https://")
    }

    /// Lax, since people come by links in messages; what changes anything wants a form besides.
    fn cookie(&self, name: &str, value: &str, life_s: i64) -> HeaderValue {
        let secure = if self.is_secure() { "; Secure" } else { "" };
        let name = self.cookie_name(name);
        // Both are letters of base64url and so always fit.
        HeaderValue::try_from(format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}"))
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// What the browser's cookie of this name holds; nothing where it sends two, of which one may be another's.
    fn cookie_of<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let name = self.cookie_name(name);
        let all = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
        let mut found = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(own, _)| *own == name).map(|(_, value)| value);
        found.next().filter(|_| found.next().is_none())
    }

    /// Who is logged in, by the rule for logins that is in force.
    fn who(&self, headers: &HeaderMap) -> Option<LoggedIn> {
        let snapshot = self.snapshot();
        let rule = rule(snapshot.settings.approvals.login.as_ref()?);
        let who = self.sessions.find(self.cookie_of(headers, SESSION)?, rule, self.now())?;
        let executions = &self.identity.parts().executions;
        (!executions.is_barred(&subject(who.person()), who.log_in.issued_s, self.now())).then_some(who)
    }

    /// Who is logged in and may answer what agents ask; else what to answer to who may not, or to nobody.
    fn approver(&self, headers: &HeaderMap) -> Result<LoggedIn, Option<Response>> {
        let who = self.who(headers).ok_or(None)?;
        if who.log_in.approves {
            return Ok(who);
        }
        let sentence = "You are logged in, and you are not one of those who may answer. Ask the operator to make you one.";
        let page = page::notice("Not for you", sentence, None, Some(&self.reader(&who)));
        Err(Some((StatusCode::FORBIDDEN, Html(page)).into_response()))
    }

    fn reader(&self, who: &LoggedIn) -> Reader {
        Reader { name: called(who.person()), log_out: self.sessions.form(who, For::LogOut) }
    }

    async fn asked(&self, ask: Position) -> Option<Asked> {
        let (execution, ask) = self.approvals.find(ask)?;
        Some(Asked::of(execution, ask, &self.identity.parts().log, self.now()).await)
    }

    /// Records what did not hold, unless there is too much of it.
    async fn refuse(&self, stage: &str, code: &str, detail: String, peer: Option<IpAddr>, of: Option<(AgentName, ExecutionId)>) {
        let (agent, execution) = of.unzip();
        let refused = Refused {
            at: self.now(),
            stage: stage.to_owned(),
            code: code.to_owned(),
            detail,
            peer: peer.map(|peer| peer.to_string()),
            agent,
            execution,
        };
        self.identity.note_refused(refused, peer).await;
    }
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People").field("listen", &self.listen).finish_non_exhaustive()
    }
}

const SESSION: &str = "bailiwick-session";
const LOGIN: &str = "bailiwick-login";

type Shared = State<Arc<People>>;

/// What stands for a rule for logins: sessions by another are over.
fn rule(login: &Login) -> Digest {
    Digest::of(format!("{login:?}").as_bytes())
}

/// A person as subjects are written.
fn subject(person: &Person) -> String {
    format!("{}:{}", person.issuer, person.subject)
}

fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}

fn to(place: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

/// Lets through what is meant for this origin, a bounded number at once, and says of every answer what may be done with it.
async fn guard(State(people): Shared, request: Request, next: Next) -> Response {
    let mut response = match people.room.try_acquire() {
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "too many requests are under way").into_response(),
        Ok(_) if !people.is_for_us(&request) => {
            let sentence = format!("This is {}; open it by that address.", people.listen.origin);
            (StatusCode::FORBIDDEN, Html(page::notice("Another address", &sentence, None, None))).into_response()
        }
        Ok(_place) => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    if people.is_secure() {
        response.headers_mut().insert("strict-transport-security", HeaderValue::from_static("max-age=31536000"));
    }
    response
}

impl People {
    /// Whether the request names this origin as its host and, where a browser says so, comes from a page of it: no other name
    /// may lead here (DNS rebinding), and no other page may have its forms answered here.
    fn is_for_us(&self, request: &Request) -> bool {
        let own = self.listen.origin.split_once("://").map_or("", |(_, host)| host);
        let host = request.uri().authority().map(|host| host.as_str()).or_else(|| request.headers().get(HOST)?.to_str().ok());
        let from_us = |header: &HeaderValue| header.as_bytes() == self.listen.origin.as_bytes();
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        host.is_some_and(|host| host.eq_ignore_ascii_case(own)) && (is_safe || request.headers().get(ORIGIN).is_none_or(from_us))
    }
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, page::STYLE).into_response()
}

async fn nothing(State(people): Shared, headers: HeaderMap) -> Response {
    let reader = people.who(&headers).map(|who| people.reader(&who));
    let page = page::notice("Nothing here", "There is no such page.", Some(("/approvals", "All approvals")), reader.as_ref());
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

async fn list(State(people): Shared, headers: HeaderMap) -> Response {
    let who = match people.approver(&headers) {
        Ok(who) => who,
        Err(other) => return other.unwrap_or_else(|| to("/login")),
    };
    let now = people.now();
    let asks: Vec<_> = people.approvals.list().into_iter().map(|(execution, ask)| Asked::brief(execution, ask, now)).collect();
    Html(page::list(&asks, LISTED_MAX, &people.reader(&who), now)).into_response()
}

async fn show(State(people): Shared, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let ask = id.parse().ok().map(Position);
    let log_in = || to(&ask.map_or_else(|| "/login".to_owned(), |ask| format!("/login?to={}", ask.0)));
    let who = match people.approver(&headers) {
        Ok(who) => who,
        Err(other) => return other.unwrap_or_else(log_in),
    };
    let Some(ask) = ask else { return unknown(&people, &who) };
    shown(&people, &who, ask).await
}

async fn shown(people: &People, who: &LoggedIn, ask: Position) -> Response {
    let Some(asked) = people.asked(ask).await else { return unknown(people, who) };
    let form = people.sessions.form(who, For::Ask(ask));
    Html(page::ask(&asked, &people.snapshot(), &form, &people.reader(who), people.now())).into_response()
}

fn unknown(people: &People, who: &LoggedIn) -> Response {
    let sentence = "Nothing with this number waits for an answer, or its execution has ended.";
    let page = page::notice("No such ask", sentence, Some(("/approvals", "All approvals")), Some(&people.reader(who)));
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

async fn answer(State(people): Shared, Path(id): Path<String>, request: Request) -> Response {
    let (peer, headers) = (peer(&request), request.headers().clone());
    let who = people.approver(&headers);
    let who = match who {
        Ok(who) => Some(who),
        Err(Some(response)) => {
            let detail = format!("who is no approver answered record {}", shortened(&id));
            people.refuse("approve", "not_an_approver", detail, peer, None).await;
            return response;
        }
        Err(None) => None,
    };
    let Some(who) = who else {
        people.refuse("approve", "no_session", format!("nobody was logged in who answered record {}", shortened(&id)), peer, None).await;
        let page = page::notice("Nobody is logged in", "Log in to answer; nothing was changed.", Some(("/login", "Log in")), None);
        return (StatusCode::FORBIDDEN, Html(page)).into_response();
    };
    let Some(ask) = id.parse().ok().map(Position) else { return unknown(&people, &who) };
    let form = form(request).await;
    let given = form.as_ref().and_then(|form| form.one("form")).unwrap_or_default();
    if !people.sessions.has_form(&who, For::Ask(ask), given) {
        let of = people.approvals.find(ask).map(|(execution, _)| (execution.started().agent.clone(), execution.id()));
        let detail = format!("{} answered record {} with a form that was not shown for it in this login", called(who.person()), ask.0);
        people.refuse("approve", "invalid_form", detail, peer, of).await;
        let place = format!("/approvals/{}", ask.0);
        let sentence = "This form is not one that your login was shown for this ask. Nothing was changed; look at it again.";
        let page = page::notice("Not answered", sentence, Some((&place, "Look at it again")), Some(&people.reader(&who)));
        return (StatusCode::FORBIDDEN, Html(page)).into_response();
    }
    let answer = match form.as_ref().and_then(|form| form.one("answer")) {
        Some("approve") => Answer::Approve { endorse: false },
        Some("endorse") => Answer::Approve { endorse: true },
        Some("refuse") => Answer::Refuse,
        _ => return shown(&people, &who, ask).await,
    };
    let place = format!("/approvals/{}", ask.0);
    match people.approvals.answer(ask, answer, who.person().clone()).await {
        Ok(_) => to(&place),
        Err(error) => {
            let sentence = format!("Nothing was changed: {error}.");
            let page = page::notice("Not answered", &sentence, Some((&place, "Look at it again")), Some(&people.reader(&who)));
            (StatusCode::CONFLICT, Html(page)).into_response()
        }
    }
}

/// The form of a request, if it is one.
async fn form(request: Request) -> Option<Form> {
    let kind = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    if kind.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
        return None;
    }
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.ok()?;
    Form::parse(&body).ok()
}

fn shortened(text: &str) -> String {
    bailiwick_core::model::shown(text, 40)
}

/// The rule for logins and its issuer, in force now.
fn declared(snapshot: &Snapshot) -> Result<(&Login, &Issuer), login::Refusal> {
    let login = snapshot.settings.approvals.login.as_ref();
    let issuer = login.and_then(|login| snapshot.issuers.get(&login.issuer));
    login.zip(issuer).ok_or_else(|| login::Refusal::unavailable("the bundle in force declares no login"))
}

async fn log_in(State(people): Shared, RawQuery(query): RawQuery) -> Response {
    let query = Form::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let ask = query.one("to").and_then(|to| to.parse().ok()).map(Position);
    begin(&people, &ask.map_or(Place::Approvals, Place::Ask)).await
}

/// Sends the browser to log in, and from there to `place`.
async fn begin(people: &People, place: &Place) -> Response {
    let snapshot = people.snapshot();
    let begun = async {
        let (login, issuer) = declared(&snapshot)?;
        let provider = people.providers.of(issuer, people.identity.foreign(), people.now()).await?;
        let begun = people.logins.begin(place, people.now(), people.identity.parts().entropy.as_ref());
        let address = provider.address(login, &format!("{}/callback", people.listen.origin), &begun);
        Ok((begun.cookie, address))
    };
    match begun.await {
        Ok((cookie, address)) => {
            let mut response = to(&address);
            response.headers_mut().append(SET_COOKIE, people.cookie(LOGIN, &cookie, login::LIFE_S));
            response
        }
        // The issuer's fault, which is said in the server's log and not recorded for each who tries.
        Err(refusal) => refused(people, &refusal, place),
    }
}

async fn come_back(State(people): Shared, RawQuery(query): RawQuery, request: Request) -> Response {
    let (peer, now, snapshot) = (peer(&request), people.now(), people.snapshot());
    let answer = Form::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let resumed = people.logins.resume(people.cookie_of(request.headers(), LOGIN), answer.one("state"), now);
    let again = resumed.as_ref().map_or(Place::Approvals, |resumed| resumed.to.clone());
    let finished = async {
        let resumed = resumed?;
        let (login, issuer) = declared(&snapshot)?;
        let busy = |_| login::Refusal::unavailable("too many logins are being finished");
        let _place = people.redeeming.try_acquire().map_err(busy)?;
        let provider = people.providers.of(issuer, people.identity.foreign(), now).await?;
        let desk = Desk {
            logins: &people.logins,
            provider: &provider,
            foreign: people.identity.foreign(),
            fetcher: &people.identity.parts().fetcher,
            issuer,
            login,
            base: &people.base,
            redirect: &format!("{}/callback", people.listen.origin),
        };
        let log_in = desk.finish(&resumed, &answer, now).await?;
        tracing::info!(person = called(&log_in.person), "logged in");
        let cookie = people.sessions.open(log_in, rule(login), now, people.identity.parts().entropy.as_ref());
        Ok::<_, login::Refusal>((cookie, resumed.to))
    };
    match finished.await {
        Ok((cookie, place)) => {
            let mut response = to(&place.path());
            response.headers_mut().append(SET_COOKIE, people.cookie(SESSION, &cookie, session::LIFE_S));
            response.headers_mut().append(SET_COOKIE, people.cookie(LOGIN, "", 0));
            response
        }
        Err(refusal) => {
            people.refuse("login", refusal.code, refusal.detail.clone(), peer, None).await;
            refused(&people, &refusal, &again)
        }
    }
}

/// A login that came to nothing. It is not tried again by itself, which could go on for ever.
fn refused(people: &People, refusal: &login::Refusal, place: &Place) -> Response {
    tracing::warn!(code = refusal.code, detail = refusal.detail, "nobody was logged in");
    let again = if let Place::SignIn(_) = place { place.path() } else { "/login".to_owned() };
    let page = page::notice("Not logged in", refusal.sentence, Some((&again, "Log in")), None);
    let status = if refusal.code == "login_unavailable" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
    let mut response = (status, Html(page)).into_response();
    response.headers_mut().append(SET_COOKIE, people.cookie(LOGIN, "", 0));
    response
}

async fn log_out(State(people): Shared, request: Request) -> Response {
    // A body is read of nobody but who is logged in: a slow one takes up a place.
    if let Some(who) = people.who(request.headers()) {
        let form = form(request).await.unwrap_or_default();
        if !people.sessions.has_form(&who, For::LogOut, form.one("form").unwrap_or_default()) {
            return to("/approvals");
        }
        people.sessions.close(&who);
    }
    let page = page::notice("Logged out", "You are logged out here.", Some(("/login", "Log in")), None);
    let mut response = Html(page).into_response();
    response.headers_mut().append(SET_COOKIE, people.cookie(SESSION, "", 0));
    response
}
