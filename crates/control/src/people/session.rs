//! Who is logged in: sessions in memory, each behind a cookie that nobody can guess, and the forms that each was shown.
//!
//! A session ends by itself after half an hour, when its person logs out, when another rule for logins comes into force, when the
//! person's sessions are revoked, and with the program. A form is bound to the session and to what it answers: it is of no use to
//! another, nor for another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use bailiwick_core::model::{Digest, Entropy, Person, Timestamp};
use bailiwick_log::Position;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// How long a session lasts, in seconds.
pub(super) const LIFE_S: i64 = 1_800;

/// The most sessions at once; the oldest makes room.
const SESSIONS_MAX: usize = 1_024;

/// The sessions.
pub(super) struct Sessions {
    /// By the digest of what the cookie holds, so that a look at the memory gives no cookie away.
    kept: Mutex<HashMap<Digest, Session>>,
    forms: hmac::Key,
}

/// What a login said of a person.
#[derive(Clone, Debug)]
pub(super) struct LogIn {
    /// Who it is.
    pub(super) person: Person,
    /// All that the login service says.
    pub(super) claims: Arc<Map<String, Value>>,
    /// When it said so, in seconds since the epoch.
    pub(super) issued_s: i64,
    /// Whether the person may answer what agents ask.
    pub(super) approves: bool,
}

/// What a form is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum For<'a> {
    /// Logging out.
    LogOut,
    /// Answering an ask.
    Ask(Position),
    /// Letting a client sign in that asked by exactly this.
    SignIn(&'a str),
}

struct Session {
    log_in: LogIn,
    until_s: i64,
    /// The digest of the rule that the person logged in by.
    rule: Digest,
}

/// A person who is logged in.
#[derive(Clone, Debug)]
pub(super) struct LoggedIn {
    /// What the login said.
    pub(super) log_in: LogIn,
    session: Digest,
}

impl LoggedIn {
    /// Who it is.
    pub(super) const fn person(&self) -> &Person {
        &self.log_in.person
    }
}

impl Sessions {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Self { kept: Mutex::default(), forms: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// Opens a session and gives what its cookie is to hold.
    pub(super) fn open(&self, log_in: LogIn, rule: Digest, now: Timestamp, entropy: &dyn Entropy) -> String {
        let mut id = [0; 32];
        entropy.fill(&mut id);
        let id = URL_SAFE_NO_PAD.encode(id);
        let now_s = now.as_second();
        let mut kept = self.kept();
        kept.retain(|_, session| session.until_s > now_s);
        if kept.len() >= SESSIONS_MAX {
            let oldest = kept.iter().min_by_key(|(_, session)| session.until_s).map(|(id, _)| *id);
            oldest.map(|oldest| kept.remove(&oldest));
        }
        kept.insert(Digest::of(id.as_bytes()), Session { log_in, until_s: now_s.saturating_add(LIFE_S), rule });
        id
    }

    /// Whose session this cookie stands for, as long as the rule that the person logged in by is in force.
    pub(super) fn find(&self, cookie: &str, rule: Digest, now: Timestamp) -> Option<LoggedIn> {
        let id = Digest::of(cookie.as_bytes());
        let kept = self.kept();
        let session = kept.get(&id).filter(|session| session.until_s > now.as_second() && session.rule == rule)?;
        Some(LoggedIn { log_in: session.log_in.clone(), session: id })
    }

    /// Ends the session.
    pub(super) fn close(&self, who: &LoggedIn) {
        self.kept().remove(&who.session);
    }

    /// What a form of this session carries that is for this.
    pub(super) fn form(&self, who: &LoggedIn, what: For<'_>) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.forms, &bound(who, what)))
    }

    /// Whether a form is one that this session was shown for this.
    pub(super) fn has_form(&self, who: &LoggedIn, what: For<'_>, form: &str) -> bool {
        URL_SAFE_NO_PAD.decode(form).is_ok_and(|tag| hmac::verify(&self.forms, &bound(who, what), &tag).is_ok())
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Digest, Session>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bound(who: &LoggedIn, what: For<'_>) -> Vec<u8> {
    let what = match what {
        For::LogOut => "log out".to_owned(),
        For::Ask(ask) => format!("ask {}", ask.0),
        For::SignIn(request) => format!("sign in {request}"),
    };
    [who.session.as_bytes().as_slice(), what.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn person(name: &str) -> LogIn {
        let person = Person { issuer: "idp".to_owned(), subject: name.to_owned(), name: None };
        LogIn { person, claims: Arc::default(), issued_s: 0, approves: true }
    }

    #[test]
    fn a_form_answers_one_ask_in_one_session_and_a_session_ends() {
        let (dice, rule) = (Counting(0.into()), Digest::of(b"rule"));
        let sessions = Sessions::new(&dice);
        let (ana, bo) = (sessions.open(person("ana"), rule, at(0), &dice), sessions.open(person("bo"), rule, at(0), &dice));
        let (ana, bo) = (sessions.find(&ana, rule, at(1)).unwrap(), sessions.find(&bo, rule, at(1)).unwrap());
        let form = sessions.form(&ana, For::Ask(Position(7)));
        assert!(sessions.has_form(&ana, For::Ask(Position(7)), &form));
        for (who, what) in [(&bo, For::Ask(Position(7))), (&ana, For::Ask(Position(8))), (&ana, For::LogOut), (&ana, For::SignIn("7"))] {
            assert!(!sessions.has_form(who, what, &form), "{who:?} {what:?}");
        }
        assert!(!sessions.has_form(&ana, For::Ask(Position(7)), ""));
        let form = sessions.form(&ana, For::SignIn("client_id=a&state=1"));
        assert!(sessions.has_form(&ana, For::SignIn("client_id=a&state=1"), &form));
        assert!(!sessions.has_form(&ana, For::SignIn("client_id=a&state=2"), &form), "another request");

        let cookie = sessions.open(person("ana"), rule, at(0), &dice);
        assert_eq!(sessions.find(&cookie, rule, at(LIFE_S - 1)).unwrap().log_in.person, person("ana").person);
        assert!(sessions.find(&cookie, rule, at(LIFE_S)).is_none(), "it is over");
        assert!(sessions.find(&cookie, Digest::of(b"another rule"), at(1)).is_none(), "the rule has changed");
        assert!(sessions.find("guess", rule, at(1)).is_none());
        sessions.close(&sessions.find(&cookie, rule, at(1)).unwrap());
        assert!(sessions.find(&cookie, rule, at(1)).is_none(), "logged out");
    }

    #[test]
    fn sessions_stay_within_their_bound() {
        let rule = Digest::of(b"rule");
        struct Numbered(std::sync::atomic::AtomicU64);
        impl Entropy for Numbered {
            fn fill(&self, bytes: &mut [u8]) {
                let number = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
                bytes.iter_mut().zip(number.iter().cycle()).for_each(|(byte, from)| *byte = *from);
            }
        }
        let dice = Numbered(0.into());
        let sessions = Sessions::new(&dice);
        let first = sessions.open(person("first"), rule, at(0), &dice);
        for n in 0..SESSIONS_MAX {
            sessions.open(person(&n.to_string()), rule, at(1), &dice);
        }
        assert_eq!(sessions.kept().len(), SESSIONS_MAX);
        assert!(sessions.find(&first, rule, at(2)).is_none(), "the oldest made room");
    }
}
