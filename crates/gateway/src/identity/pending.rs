//! Authorisations that are under way: from an app's question over login and choice to the code that is good once.

use super::{grant::Given, hash, sessions::Session, users::User};
use record::{Role, TimeMs};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};
use subtle::ConstantTimeEq as _;

/// How long a person may take, in seconds.
const ASKED_SECONDS: u64 = 10 * 60;
/// How long a code is good, in seconds. Source: RFC 6749 section 4.1.2: ten minutes at most; SMART App Launch 2.2: about one minute.
const CODE_SECONDS: u64 = 60;
/// How long a launch may wait for its app, in seconds.
const LAUNCH_SECONDS: u64 = 5 * 60;
/// Questions, codes and launches that wait, of each.
const WAITING_MAX: usize = 4096;

/// What an app asks a person.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) app: String,
    pub(crate) redirect: String,
    pub(crate) state: Option<String>,
    pub(crate) challenge: String,
    pub(crate) nonce: Option<String>,
    pub(crate) given: Given,
    pub(crate) launch: Option<Launch>,
    /// The hash of what the person's browser shows itself by.
    pub(crate) browser: [u8; 32],
    pub(crate) person: Option<LoggedIn>,
    pub(crate) patient: Option<String>,
}

impl Asked {
    /// Whether a browser is the one that brought the question.
    pub(crate) fn is_of(&self, browser: &str) -> bool {
        bool::from(self.browser.ct_eq(&hash(browser)))
    }
}

/// The person who logged in to answer.
#[derive(Debug, Clone)]
pub(crate) struct LoggedIn {
    pub(crate) user: String,
    pub(crate) role: Role,
    /// For a patient's login: the id of the Patient.
    pub(crate) patient: Option<String>,
    pub(crate) fhir_user: Option<String>,
    /// When, in seconds since 1970: a password that was changed since was another one.
    pub(crate) at: u64,
}

impl LoggedIn {
    /// The user of that name, who logs in now.
    pub(crate) fn new(name: &str, user: &User, now: TimeMs) -> Self {
        Self {
            user: name.to_owned(),
            role: user.role,
            patient: user.patient.clone(),
            fhir_user: user.fhir_user(),
            at: user.let_in_at(now).0 / 1000,
        }
    }
}

/// What an app is launched for, from within a person's work.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// Who launched it: nobody else can use it.
    pub(crate) user: String,
    pub(crate) patient: String,
    pub(crate) encounter: Option<String>,
}

/// What a code stands for.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) sid: String,
    pub(crate) redirect: String,
    pub(crate) challenge: String,
    pub(crate) nonce: Option<String>,
    pub(crate) session: Session,
    pub(crate) person: LoggedIn,
    pub(crate) given: Given,
}

/// Things that wait for somebody, each for a time.
struct Waiting<K, V> {
    all: Mutex<HashMap<K, (u64, V)>>,
    seconds: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Waiting<K, V> {
    fn new(seconds: u64) -> Self {
        Self { all: Mutex::default(), seconds }
    }

    /// Keeps it. When too much waits already, the oldest that `may_go` gives its place; false when there is none.
    fn put(&self, key: K, value: V, now: u64, may_go: fn(&V) -> bool) -> bool {
        let mut all = self.lock();
        if all.len() >= WAITING_MAX {
            all.retain(|_, (until, _)| *until > now);
        }
        if all.len() >= WAITING_MAX {
            let oldest = all.iter().filter(|(_, (_, value))| may_go(value)).min_by_key(|(_, (until, _))| *until);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return false };
            all.remove(&oldest);
        }
        all.insert(key, (now + self.seconds, value));
        true
    }

    /// Changes what waits under a key, and not for how long; false when nothing does.
    fn change(&self, key: &K, value: V, now: u64) -> bool {
        let mut all = self.lock();
        let Some((_, waiting)) = all.get_mut(key).filter(|(until, _)| *until > now) else { return false };
        *waiting = value;
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (u64, V)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &K, now: u64) -> Option<V> {
        let all = self.lock();
        all.get(key).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }

    fn take(&self, key: &K, now: u64) -> Option<V> {
        let mut all = self.lock();
        all.remove(key).filter(|(until, _)| *until > now).map(|(_, value)| value)
    }
}

/// A code that was given.
#[derive(Debug, Clone)]
enum Stage {
    Fresh(Box<Code>),
    /// It was used, and began this session.
    Used(String),
}

/// What a code gives.
#[derive(Debug)]
pub(crate) enum Redeemed {
    /// What it stands for.
    Good(Box<Code>),
    /// It was used before: the session that it began must end.
    Again {
        /// The session.
        sid: String,
    },
    /// There is no such code, or no more.
    Unknown,
}

/// Everything that is under way.
pub(crate) struct Pending {
    asked: Waiting<String, Asked>,
    /// By the hash of the code.
    codes: Waiting<[u8; 32], Stage>,
    launches: Waiting<String, Launch>,
    /// People who look at what they let in.
    visits: Waiting<String, LoggedIn>,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self {
            asked: Waiting::new(ASKED_SECONDS),
            codes: Waiting::new(CODE_SECONDS),
            launches: Waiting::new(LAUNCH_SECONDS),
            visits: Waiting::new(ASKED_SECONDS),
        }
    }

    /// Keeps a question under `id`. Those that nobody has logged in to give way, the oldest first; false when there are none.
    pub(crate) fn ask(&self, id: &str, asked: Asked, now: u64) -> bool {
        self.asked.put(id.to_owned(), asked, now, |asked| asked.person.is_none())
    }

    /// Keeps what has become of a question, for no longer than it had; false when its time is over.
    pub(crate) fn goes_on(&self, id: &str, asked: Asked, now: u64) -> bool {
        self.asked.change(&id.to_owned(), asked, now)
    }

    /// The question of that name.
    pub(crate) fn asked(&self, id: &str, now: u64) -> Option<Asked> {
        self.asked.get(&id.to_owned(), now)
    }

    /// Ends a question.
    pub(crate) fn answered(&self, id: &str, now: u64) -> Option<Asked> {
        self.asked.take(&id.to_owned(), now)
    }

    /// Keeps what a code stands for; false when too many wait.
    pub(crate) fn code(&self, code: &str, stands_for: Code, now: u64) -> bool {
        self.codes.put(hash(code), Stage::Fresh(Box::new(stands_for)), now, |given| matches!(given, Stage::Used(_)))
    }

    /// What a code stands for, the first time.
    pub(crate) fn redeem(&self, code: &str, now: u64) -> Redeemed {
        // Under one lock: of two who bring it at the same moment, one is the second.
        let mut all = self.codes.lock();
        let Some((until, given)) = all.get_mut(&hash(code)).filter(|(until, _)| *until > now) else {
            return Redeemed::Unknown;
        };
        match given {
            Stage::Used(sid) => Redeemed::Again { sid: sid.clone() },
            Stage::Fresh(code) => {
                // It is remembered as long as the first token that it gave is good.
                *until = now + super::issuer::TOKEN_SECONDS;
                let used = Stage::Used(code.sid.clone());
                match std::mem::replace(given, used) {
                    Stage::Fresh(code) => Redeemed::Good(code),
                    Stage::Used(sid) => Redeemed::Again { sid },
                }
            }
        }
    }

    /// Keeps a launch; false when too many wait.
    pub(crate) fn launch(&self, id: &str, launch: Launch, now: u64) -> bool {
        self.launches.put(id.to_owned(), launch, now, |_| false)
    }

    /// Keeps who looks at what they let in; false when too many do.
    pub(crate) fn visits(&self, id: &str, person: LoggedIn, now: u64) -> bool {
        self.visits.put(id.to_owned(), person, now, |_| false)
    }

    /// Who looks, under that name.
    pub(crate) fn visitor(&self, id: &str, now: u64) -> Option<LoggedIn> {
        self.visits.get(&id.to_owned(), now)
    }

    /// The launch of that name, the first time.
    pub(crate) fn launched(&self, id: &str, now: u64) -> Option<Launch> {
        self.launches.take(&id.to_owned(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        Launch { user: "ana".to_owned(), patient: "ilse".to_owned(), encounter: None }
    }

    #[test]
    fn a_launch_is_good_once_and_not_for_long() {
        let pending = Pending::new();
        assert!(pending.launch("one", launch(), 100) && pending.launch("two", launch(), 100));
        assert!(pending.launched("one", 101).is_some() && pending.launched("one", 101).is_none());
        assert!(pending.launched("two", 100 + LAUNCH_SECONDS).is_none());
    }

    fn asked(person: Option<LoggedIn>) -> Asked {
        let app = crate::identity::apps::public("patient/*.rs");
        Asked {
            app: "chart".to_owned(),
            redirect: "https://app.example/back".to_owned(),
            state: None,
            challenge: String::new(),
            nonce: None,
            given: Given::to_app(&app, "patient/*.rs"),
            launch: None,
            browser: hash("browser"),
            person,
            patient: None,
        }
    }

    fn ana() -> LoggedIn {
        LoggedIn { user: "ana".to_owned(), role: Role::Doctor, patient: None, fhir_user: None, at: 100 }
    }

    #[test]
    fn a_code_that_two_bring_at_once_is_good_for_one_and_known_by_the_other() {
        let pending = Pending::new();
        let begun = Session { app: "chart".to_owned(), user: "ana".to_owned(), ..Session::default() };
        let asked = asked(None);
        let (sid, redirect, challenge) = ("s1".to_owned(), asked.redirect, asked.challenge);
        let code = Code { sid, redirect, challenge, nonce: None, session: begun, person: ana(), given: asked.given };
        assert!(pending.code("code", code, 100));
        let both = std::thread::scope(|scope| {
            let redeem = || matches!(pending.redeem("code", 101), Redeemed::Good(_));
            let threads = [scope.spawn(redeem), scope.spawn(redeem)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(both.iter().filter(|good| **good).count(), 1);
        assert!(matches!(pending.redeem("code", 101), Redeemed::Again { sid } if sid == "s1"));
        assert!(matches!(pending.redeem("another", 101), Redeemed::Unknown));
    }

    #[test]
    fn questions_that_nobody_logged_in_to_give_way_and_none_gets_more_time() {
        let pending = Pending::new();
        assert!(pending.ask("first", asked(None), 100));
        assert!(pending.goes_on("first", asked(Some(ana())), 101));
        assert!(pending.ask("0", asked(None), 101));
        for n in 1..WAITING_MAX {
            assert!(pending.ask(&n.to_string(), asked(None), 102), "{n}");
        }
        assert!(pending.asked("first", 103).is_some() && pending.asked("0", 103).is_none());
        assert!(pending.goes_on("first", asked(Some(ana())), 100 + ASKED_SECONDS - 1));
        assert!(!pending.goes_on("first", asked(Some(ana())), 100 + ASKED_SECONDS));
    }

    #[test]
    fn what_waits_has_a_bound_and_makes_room_when_its_time_is_over() {
        let pending = Pending::new();
        for n in 0..WAITING_MAX {
            assert!(pending.launch(&n.to_string(), launch(), 100));
        }
        assert!(!pending.launch("more", launch(), 101));
        assert!(pending.launch("more", launch(), 100 + LAUNCH_SECONDS));
    }
}
