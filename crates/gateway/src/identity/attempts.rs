//! Logins that failed: whoever guesses passwords has to wait, and nobody else.
//!
//! A name is not closed to everybody because somebody guesses at it, or else an attacker could keep a responder out: what counts is a
//! name from an address, and an address; a name from everywhere has room for what only many machines can do.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// How long failures are counted together, in milliseconds.
const WINDOW_MS: u64 = 5 * 60 * 1000;
/// Failures of one name from one address.
const PAIR_MAX: u32 = 10;
/// Failures from one address: a whole ward may be behind it.
const ADDRESS_MAX: u32 = 200;
/// Failures of one name.
const NAME_MAX: u32 = 1000;
/// Counts that are kept; when there are more, those whose time is over go, then all.
const COUNTS_MAX: usize = 65_536;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    Pair(String, String),
    Address(String),
    Name(String),
}

impl Who {
    fn most(&self) -> u32 {
        match self {
            Self::Pair(..) => PAIR_MAX,
            Self::Address(_) => ADDRESS_MAX,
            Self::Name(_) => NAME_MAX,
        }
    }
}

#[derive(Clone, Copy)]
struct Count {
    failures: u32,
    since: u64,
}

/// The failures of the last minutes.
#[derive(Default)]
pub(crate) struct Attempts {
    counts: Mutex<HashMap<Who, Count>>,
}

impl Attempts {
    /// Whether somebody who says to be `name` may try from `address`, at `now` in milliseconds.
    pub(crate) fn may_try(&self, name: &str, address: &str, now: u64) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        all(name, address).iter().all(|who| {
            counts
                .get(who)
                .is_none_or(|count| now.saturating_sub(count.since) >= WINDOW_MS || count.failures < who.most())
        })
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, name: &str, address: &str, now: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() + 3 > COUNTS_MAX {
            counts.retain(|_, count| now.saturating_sub(count.since) < WINDOW_MS);
        }
        if counts.len() + 3 > COUNTS_MAX {
            counts.clear();
        }
        for who in all(name, address) {
            let count = counts.entry(who).or_insert(Count { failures: 0, since: now });
            if now.saturating_sub(count.since) >= WINDOW_MS {
                *count = Count { failures: 0, since: now };
            }
            count.failures = count.failures.saturating_add(1);
        }
    }

    /// Notes that a password was right: what was mistyped before is forgotten.
    pub(crate) fn succeeded(&self, name: &str, address: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&Who::Pair(name.to_owned(), address.to_owned()));
    }
}

fn all(name: &str, address: &str) -> [Who; 3] {
    let (name, address) = (name.to_owned(), address.to_owned());
    [Who::Pair(name.clone(), address.clone()), Who::Address(address), Who::Name(name)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_guesses_waits_and_the_same_name_from_elsewhere_does_not() {
        let attempts = Attempts::default();
        for n in 0..PAIR_MAX {
            assert!(attempts.may_try("ana", "10.0.0.1", 1000), "{n}");
            attempts.failed("ana", "10.0.0.1", 1000);
        }
        assert!(!attempts.may_try("ana", "10.0.0.1", 1000));
        assert!(attempts.may_try("ana", "10.0.0.2", 1000) && attempts.may_try("bo", "10.0.0.1", 1000));
        assert!(attempts.may_try("ana", "10.0.0.1", 1000 + WINDOW_MS));
    }

    #[test]
    fn a_right_password_forgets_what_was_mistyped() {
        let attempts = Attempts::default();
        for _ in 0..3 {
            (0..PAIR_MAX - 1).for_each(|_| attempts.failed("ana", "10.0.0.1", 0));
            attempts.succeeded("ana", "10.0.0.1");
        }
        assert!(attempts.may_try("ana", "10.0.0.1", 0));
    }

    #[test]
    fn one_address_does_not_try_every_name_and_memory_has_a_bound() {
        let attempts = Attempts::default();
        for n in 0..ADDRESS_MAX {
            attempts.failed(&format!("user-{n}"), "10.0.0.1", 0);
        }
        assert!(!attempts.may_try("another", "10.0.0.1", 0));
        for n in 0..COUNTS_MAX {
            attempts.failed(&format!("user-{n}"), &format!("10.0.0.{n}"), 0);
        }
        assert!(attempts.counts.lock().unwrap().len() <= COUNTS_MAX);
    }
}
