//! Shared signals: what an issuer says of its people and agents stops them here, and two gateways tell each other over HTTPS.

use std::net::SocketAddr;
use std::time::Duration;

use bailiwick_control::issuer::KeyFiles as _;
use bailiwick_control::signals::Signals;
use bailiwick_control::token::{Identity, Parts, Reason};
use bailiwick_core::bundle;
use bailiwick_core::model::{Revocation, Signal, SignalEnd};
use bailiwick_core::recovery::Recovery;
use bailiwick_log::Position;

use super::support::*;
use super::vouch::{Authority, serve_tls_on};
use super::*;

pub(crate) const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

/// A house that hears a provider's signals, and where they are sent.
pub(crate) struct Hearing {
    pub(crate) world: World,
    pub(crate) provider: Provider,
    pub(crate) signals: Arc<Signals>,
    pub(crate) address: SocketAddr,
}

impl Hearing {
    /// One whose transmitter is declared with `more`; `bot` is the provider's `svc-bot`.
    pub(crate) async fn start(more: &str) -> Self {
        let provider = Provider::start().await;
        let issuers =
            format!("{}[[transmitter]]\nname = \"idp\"\nof = \"idp\"\njwks_uri = \"{}/keys\"\n{more}", provider.declared(), provider.url);
        let federation = "[[agent.federation]]\nissuer = \"idp\"\nclaims = { sub = \"svc-bot\" }\n";
        let world = World::federated(&issuers, federation, "").await;
        let signals = Signals::new(Arc::clone(&world.identity));
        let address = serve(signals.router()).await;
        Self { world, provider, signals, address }
    }

    /// A signal as it should be, for a test to spoil.
    pub(crate) fn set(&self, event: &str, payload: Value, subject: Value, spoil: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({ "alg": "ES256", "typ": "secevent+jwt", "kid": "a" });
        let mut claims = json!({
            "iss": self.provider.url, "aud": ISSUER, "iat": self.world.clock.seconds(), "jti": unique(), "sub_id": subject,
            "events": { event: payload },
        });
        spoil(&mut header, &mut claims);
        self.provider.keys.lock().unwrap()[0].1.sign(&header, &claims)
    }

    pub(crate) fn person(&self, sub: &str) -> Value {
        json!({ "format": "iss_sub", "iss": self.provider.url, "sub": sub })
    }

    pub(crate) fn session_revoked(&self, sub: &str) -> String {
        self.set(&format!("{CAEP}session-revoked"), json!({ "reason_admin": { "en": "left" } }), self.person(sub), |_, _| ())
    }

    pub(crate) async fn send(&self, set: &str) -> Reply {
        post_set(self.address, "/signals/idp", set, &[]).await
    }

    /// An execution of `bot` for this person.
    pub(crate) async fn acting_for(&self, sub: &str) -> Arc<bailiwick_core::execution::Execution> {
        let person = self.provider.token(&self.world, "a", json!({ "sub": sub }));
        let reply = self.world.ask(&[("grant_type", EXCHANGE), ("subject_token", &person), ("subject_token_type", JWT)]).await;
        self.world.identity.authenticator().read(reply.token(), &self.world.executions, self.world.now()).unwrap().1
    }

    pub(crate) fn heard(&self) -> Vec<Signal> {
        heard(&self.world)
    }
}

pub(crate) async fn post_set(address: SocketAddr, path: &str, set: &str, more: &[(&str, &str)]) -> Reply {
    let headers = [&[("content-type", "application/secevent+jwt"), ("accept", "application/json")], more].concat();
    post_to(&format!("http://{address}{path}"), &headers, set.as_bytes().to_vec()).await
}

fn heard(world: &World) -> Vec<Signal> {
    world.records().into_iter().filter_map(|record| if let Record::Signal(signal) = record { Some(signal) } else { None }).collect()
}

#[tokio::test]
async fn what_an_issuer_says_of_its_people_and_agents_stops_them_and_no_more() {
    let house = Hearing::start("on = { \"token-claims-change\" = \"revoke\" }\n").await;
    let person = |sub: &str| house.person(sub);
    let caep = |name: &str| format!("{CAEP}{name}");
    let risc = |name: &str| format!("{RISC}{name}");
    let credential = |change: &str| json!({ "credential_type": "password", "change_type": change });
    let risk = |level: &str| json!({ "principal": "USER", "current_level": level, "risk_reason": "impossible travel" });
    let aliases = |names: Value| json!({ "format": "aliases", "identifiers": names });
    let other_user = json!({ "format": "iss_sub", "iss": "https://b.example", "sub": "7" });
    for (case, event, payload, subject, stops) in [
        ("a session", caep("session-revoked"), json!({}), person("ana"), true),
        (
            "a session of a person",
            caep("session-revoked"),
            json!({}),
            json!({ "format": "complex", "user": person("ana"), "session": { "format": "opaque", "id": "s" } }),
            true,
        ),
        ("by one of several names", caep("session-revoked"), json!({}), aliases(json!([other_user, person("ana")])), true),
        ("somebody else's session", caep("session-revoked"), json!({}), person("bo"), false),
        ("an unknown name", caep("session-revoked"), json!({}), json!({ "format": "email", "email": "ana@acme.example" }), false),
        (
            "a device",
            caep("session-revoked"),
            json!({}),
            json!({ "format": "complex", "device": { "format": "opaque", "id": "d" } }),
            false,
        ),
        ("a risk", caep("risk-level-change"), risk("HIGH"), person("ana"), true),
        ("a lesser risk", caep("risk-level-change"), risk("MEDIUM"), person("ana"), false),
        ("a credential taken back", caep("credential-change"), credential("revoke"), person("ana"), true),
        ("a new credential", caep("credential-change"), credential("create"), person("ana"), false),
        ("claims, as declared", caep("token-claims-change"), json!({ "claims": {} }), person("ana"), true),
        (
            "a device that does not comply",
            caep("device-compliance-change"),
            json!({ "previous_status": "compliant", "current_status": "not-compliant" }),
            person("ana"),
            false,
        ),
        ("an account", risc("account-disabled"), json!({ "reason": "hijacking" }), person("ana"), true),
        ("what nobody knows", "https://b.example/event".to_owned(), json!({}), person("ana"), false),
    ] {
        let (before, execution) = (house.heard().len(), house.acting_for("ana").await);
        let reply = house.send(&house.set(&event, payload, subject, |_, _| ())).await;
        assert_eq!((reply.status, reply.body), (202, Value::Null), "{case}");
        assert_eq!(execution.is_revoked(), stops, "{case}");
        let heard = house.heard();
        assert_eq!(heard.len(), before + 1, "{case}: each is on the log");
        let told = heard.last().unwrap();
        assert_eq!(
            (told.transmitter.as_str(), told.code == SignalEnd::Revoked),
            ("idp", stops || case == "somebody else's session"),
            "{case}: {told:?}"
        );
        // Who logs in again from then on may be acted for.
        house.world.clock.forward(1);
        assert_eq!(execution.is_revoked(), stops);
    }
    let Some(Record::Revoked(revoked)) = house.world.records().into_iter().find(|record| matches!(record, Record::Revoked(_))) else {
        panic!()
    };
    assert_eq!((revoked.what, revoked.by.as_str()), (Revocation::Subject("idp:ana".to_owned()), "transmitter idp"));

    // An agent that proves itself by the issuer's tokens: its risk holds it until a person releases it.
    let running = house.acting_for("cy").await;
    let agent = json!({ "principal": "AGENT", "current_level": "HIGH", "reason_admin": { "de": "Angriff", "en": "attack" } });
    assert_eq!(house.send(&house.set(&caep("risk-level-change"), agent, person("svc-bot"), |_, _| ())).await.status, 202);
    assert!(running.is_stopped() && !running.is_revoked());
    let quarantined = house.world.executions.quarantined().values().next().unwrap().clone();
    assert_eq!((quarantined.agent.as_str(), quarantined.by.as_str(), quarantined.reason.as_str()), ("bot", "transmitter idp", "attack"));
    let low = json!({ "principal": "AGENT", "current_level": "LOW", "previous_level": "HIGH" });
    assert_eq!(house.send(&house.set(&caep("risk-level-change"), low, person("svc-bot"), |_, _| ())).await.status, 202);
    assert!(running.is_stopped(), "no transmitter releases anybody");
    let by = Reason::of("ops", "looked at");
    house.world.identity.release(&quarantined.agent, by).await.unwrap();
    assert!(!running.is_stopped());
    assert_eq!(house.send(&house.set(&caep("session-revoked"), json!({}), person("svc-bot"), |_, _| ())).await.status, 202);
    assert!(running.is_revoked(), "and its session ends what it runs");

    // The framework's own.
    for (event, payload) in [("verification", json!({ "state": "s1" })), ("stream-updated", json!({ "status": "paused", "reason": "r" }))] {
        let event = format!("https://schemas.openid.net/secevent/ssf/event-type/{event}");
        let stream = json!({ "format": "opaque", "id": "stream-7" });
        assert_eq!(house.send(&house.set(&event, payload, stream, |_, _| ())).await.status, 202, "{event}");
        assert_eq!(house.heard().last().unwrap().code, SignalEnd::Noted);
    }
}

/// A gateway that is served over HTTPS as `localhost`.
struct Gateway {
    world: World,
    signals: Arc<Signals>,
    running: tokio::task::JoinHandle<std::convert::Infallible>,
}

impl Gateway {
    fn origin(listener: &std::net::TcpListener) -> String {
        format!("https://localhost:{}", listener.local_addr().unwrap().port())
    }

    async fn serve(world: World, authority: &Authority, listener: std::net::TcpListener) -> Self {
        let signals = Signals::new(Arc::clone(&world.identity));
        serve_tls_on(listener, authority.server(), world.identity.router().merge(signals.router()));
        let running = tokio::spawn(Arc::clone(&signals).run());
        Self { world, signals, running }
    }

    /// The signals that were heard, once there are so many.
    async fn heard(&self, count: usize) -> Vec<Signal> {
        wait_for(&self.world, |world| heard(world).len() >= count).await;
        heard(&self.world)
    }
}

/// Waits until the log has what `is_there` looks for.
async fn wait_for(world: &World, is_there: impl Fn(&World) -> bool) {
    let waited = async {
        while !is_there(world) {
            let end = Position(world.log.storage().len());
            if is_there(world) {
                return;
            }
            world.log.storage().reached(end).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap_or_else(|_| panic!("{}", world.log_text()));
}

fn listener() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn by(who: &str) -> Reason {
    Reason::of(who, "seen mailing strangers")
}

#[tokio::test]
async fn a_gateway_tells_another_over_https_and_what_it_could_not_tell_it_tells_later() {
    let (door_a, door_b, authority) = (listener(), listener(), Authority::new());
    let (origin_a, origin_b) = (Gateway::origin(&door_a), Gateway::origin(&door_b));
    let stream = format!(
        "origin = \"{origin_a}\"\n[[stream]]\nname = \"to-b\"\naudience = \"{origin_b}\"\n[stream.push]\nurl = \"{origin_b}/signals/a\"\nca_file = \"ca.pem\"\n"
    );
    let a = World::start_with("", &stream).await;
    let issuers = format!(
        "[[issuer]]\nname = \"a\"\nissuer = \"{origin_a}\"\nca_file = \"ca.pem\"\n[[transmitter]]\nname = \"a\"\nof = \"a\"\nper_hour = 2\n"
    );
    let federation = "[[agent.federation]]\nissuer = \"a\"\nclaims = { sub = \"spiffe://acme.example/agent/other\" }\n";
    let b = World::federated(&issuers, federation, &format!("origin = \"{origin_b}\"\n")).await;
    for world in [&a, &b] {
        authority.write(&world.directory.path().join("ca.pem"));
    }
    let running = {
        let claims =
            json!({ "iss": BOT, "sub": BOT, "aud": origin_b, "iat": b.clock.seconds(), "exp": b.clock.seconds() + 60, "jti": unique() });
        let assertion = b.bot.sign(&json!({ "alg": "ES256", "kid": "k1" }), &claims);
        let form = [("grant_type", "client_credentials"), ("client_assertion_type", CLIENT_ASSERTION), ("client_assertion", &assertion)];
        let proof = b.proof_with(|_, claims| claims["htu"] = json!(format!("{origin_b}/token")));
        let reply = b.post("/token", &form, Some(&proof)).await;
        b.identity.authenticator().read(reply.token(), &b.executions, b.now()).unwrap().1
    };
    let a = Gateway::serve(a, &authority, door_a).await;
    // Nobody listens at B yet, so this is told when somebody does; and where the stream is stands on disk before anything is told.
    wait_until_placed(&a).await;
    a.world.identity.quarantine("other".parse().unwrap(), by("unix:ops")).await.unwrap();
    let b = Gateway::serve(b, &authority, door_b).await;
    let told = b.heard(1).await;
    assert_eq!(
        (told[0].code, told[0].reason.as_str(), told[0].agents[0].as_str()),
        (SignalEnd::Quarantined, "seen mailing strangers", "bot"),
        "{told:?}"
    );
    assert!(running.is_stopped());
    assert!(b.world.refusals().is_empty(), "{:?}", b.world.refusals());

    // A person, by the name that A's tokens give: theirs at B are `a:` and that.
    a.world.identity.revoke_all(Revocation::Subject("idp:ana".to_owned()), by("unix:ops")).await.unwrap();
    assert_eq!(b.heard(2).await[1].subject.as_deref(), Some("a:idp:ana"));
    assert!(b.world.executions.is_barred("a:idp:ana", b.world.clock.seconds(), b.world.now()));

    // A stops, and something happens to it before its streams go on: it is told by the next that opens the same files. What B heard
    // it is not told again.
    a.running.abort();
    let _ = a.running.await;
    a.world.identity.release(&"other".parse().unwrap(), by("unix:ops")).await.unwrap();
    drop(a.signals);
    let again = tokio::spawn(Signals::new(Arc::clone(&a.world.identity)).run());
    let told = b.heard(3).await;
    assert_eq!((told.len(), told[2].code), (3, SignalEnd::Noted), "a release frees nobody elsewhere: {told:?}");
    assert_eq!(told.iter().map(|signal| &signal.token).collect::<std::collections::HashSet<_>>().len(), 3);
    again.abort();
    b.running.abort();
}

/// Waits until A's stream has its place: what happens from then on is told.
async fn wait_until_placed(gateway: &Gateway) {
    let waited = async {
        while gateway.world.files.load("signals.json").unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_asks_another_over_https_is_told_everything_once() {
    let (door_a, door_b, authority) = (listener(), listener(), Authority::new());
    let (origin_a, origin_b) = (Gateway::origin(&door_a), Gateway::origin(&door_b));
    let issuer_b = format!("[[issuer]]\nname = \"b\"\nissuer = \"{origin_b}\"\nca_file = \"ca.pem\"\n");
    let stream = format!("origin = \"{origin_a}\"\n[[stream]]\nname = \"for-b\"\naudience = \"{origin_b}\"\npoll_by = \"plain\"\n");
    let a = World::federated(&issuer_b, "", &stream).await;
    // B proves itself by its own issuer's key, and holds no secret.
    let mut files = a.sources.clone();
    files
        .get_mut("agents/plain.toml")
        .unwrap()
        .extend_from_slice(b"\n[[agent.federation]]\nissuer = \"b\"\nclaims = { sub = \"plain\" }\n");
    a.bundle.activate(bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot);
    let issuers = format!(
        "[[issuer]]\nname = \"a\"\nissuer = \"{origin_a}\"\nca_file = \"ca.pem\"\n[[transmitter]]\nname = \"a\"\nof = \"a\"\n\
         [transmitter.poll]\nurl = \"{origin_a}/ssf/poll/for-b\"\ntoken_url = \"{origin_a}/token\"\nclient_id = \"plain\"\n"
    );
    let b = World::federated(&issuers, "", &format!("origin = \"{origin_b}\"\n")).await;
    for world in [&a, &b] {
        authority.write(&world.directory.path().join("ca.pem"));
    }
    let a = Gateway::serve(a, &authority, door_a).await;
    // From its first question on; so it has to have asked.
    let b = Gateway::serve(b, &authority, door_b).await;
    let waited = async {
        while a.signals.place_of("for-b").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap_or_else(|_| panic!("{:?}", a.world.refusals()));
    for person in ["idp:ana", "idp:bo", "idp:cy"] {
        a.world.identity.revoke_all(Revocation::Subject(person.to_owned()), by("unix:ops")).await.unwrap();
    }
    let people: Vec<_> = b.heard(3).await.into_iter().filter_map(|signal| signal.subject).collect();
    assert_eq!(people, ["a:idp:ana", "a:idp:bo", "a:idp:cy"]);
    // What B owes A is said at once, and A's place moves past it.
    let end = a.world.log.storage().len();
    let waited = async {
        while a.signals.place_of("for-b").is_none_or(|place| place.0 + 1 < end) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap();
    a.running.abort();
    b.running.abort();
}

#[tokio::test]
async fn a_signal_is_acted_on_once_also_after_a_restart_and_what_waits_for_a_person_goes_on_waiting() {
    let house = Hearing::start("per_hour = 1\n").await;
    let (first, second) = (house.acting_for("ana").await, house.acting_for("bo").await);
    let (one, two) = (house.session_revoked("ana"), house.session_revoked("bo"));
    assert_eq!((house.send(&one).await.status, house.send(&two).await.status), (202, 202));
    assert!(first.is_revoked() && !second.is_revoked(), "the second is more than this transmitter may stop within an hour");
    let mut recovery = Recovery::new(&[]);
    for (position, record) in house.world.records().into_iter().enumerate() {
        recovery.fold(Position(position as u64), record);
    }
    // The same from a kept fold.
    let root = bailiwick_log::tree::Hash::of_nothing();
    let kept = bailiwick_core::recovery::Kept::read(&recovery.keep(Position(0), Position(9), &root)).unwrap();
    let recovery = Recovery::resume(&[], kept);
    let executions = Arc::clone(recovery.executions());
    let identity = Identity::open(Parts { executions: Arc::clone(&executions), ..house.world.identity.parts().clone() }).unwrap();
    let signals = Signals::new(identity);
    let address = serve(signals.router()).await;
    let before = house.heard().len();
    for set in [&one, &two] {
        assert_eq!(post_set(address, "/signals/idp", set, &[]).await.status, 202, "it is acknowledged again");
    }
    assert_eq!(house.heard().len(), before, "and nothing is done again");
    assert_eq!(executions.heard().stopped_lately("idp", house.world.now()), 1);
    let held = executions.heard().held();
    assert_eq!((held.len(), held[0].1.subject.as_deref(), held[0].1.code), (1, Some("idp:bo"), SignalEnd::Held));
}
