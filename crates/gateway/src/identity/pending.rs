//! Authorisations that are under way: from an app's question over login and choice to the code that is good once.

use super::{grant::Given, sessions::Session};
use record::Role;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
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
        bool::from(self.browser.ct_eq(&browser_of(browser)))
    }
}

/// What a browser shows itself by, as it is kept.
pub(crate) fn browser_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The person who logged in to answer.
#[derive(Debug, Clone)]
pub(crate) struct LoggedIn {
    pub(crate) user: String,
    pub(crate) role: Role,
    /// For a patient's login: the id of the Patient.
    pub(crate) patient: Option<String>,
    pub(crate) fhir_user: Option<String>,
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

    /// Keeps it; false when too much waits already.
    fn put(&self, key: K, value: V, now: u64) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= WAITING_MAX {
            all.retain(|_, (until, _)| *until > now);
        }
        let room = all.len() < WAITING_MAX;
        if room {
            all.insert(key, (now + self.seconds, value));
        }
        room
    }

    fn get(&self, key: &K, now: u64) -> Option<V> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }

    fn take(&self, key: &K, now: u64) -> Option<V> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(key).filter(|(until, _)| *until > now).map(|(_, value)| value)
    }
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
    codes: Waiting<[u8; 32], Code>,
    /// Sessions by the hash of the code that began them, as long as their first token is good.
    redeemed: Waiting<[u8; 32], String>,
    launches: Waiting<String, Launch>,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self {
            asked: Waiting::new(ASKED_SECONDS),
            codes: Waiting::new(CODE_SECONDS),
            redeemed: Waiting::new(super::issuer::TOKEN_SECONDS),
            launches: Waiting::new(LAUNCH_SECONDS),
        }
    }

    /// Keeps a question under `id`, or what has become of it; false when too many wait.
    pub(crate) fn ask(&self, id: &str, asked: Asked, now: u64) -> bool {
        self.asked.put(id.to_owned(), asked, now)
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
        self.codes.put(browser_of(code), stands_for, now)
    }

    /// What a code stands for, the first time.
    pub(crate) fn redeem(&self, code: &str, now: u64) -> Redeemed {
        let hash = browser_of(code);
        match self.codes.take(&hash, now) {
            Some(code) => {
                self.redeemed.put(hash, code.sid.clone(), now);
                Redeemed::Good(Box::new(code))
            }
            None => self.redeemed.get(&hash, now).map_or(Redeemed::Unknown, |sid| Redeemed::Again { sid }),
        }
    }

    /// Keeps a launch; false when too many wait.
    pub(crate) fn launch(&self, id: &str, launch: Launch, now: u64) -> bool {
        self.launches.put(id.to_owned(), launch, now)
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
