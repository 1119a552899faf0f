//! Logins that failed: whoever guesses passwords has to wait, and nobody else.
//!
//! A name is not closed to everybody because somebody guesses at it, or else an attacker could keep a responder out: what counts is a
//! name from an address, and an address. A name that is guessed at from everywhere is slow to log in to, and open.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

/// How long failures are counted together, in milliseconds.
const WINDOW_MS: u64 = 5 * 60 * 1000;
/// Failures of one name from one address.
const PAIR_MAX: u32 = 10;
/// Failures from one address: a whole ward may be behind it.
const ADDRESS_MAX: u32 = 200;
/// Failures of one name, from then on each login takes longer.
const NAME_MAX: u32 = 100;
/// Counts that are kept; when there are more, those whose time is over go, then the older half.
const COUNTS_MAX: usize = 65_536;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    Pair(String, IpAddr),
    Address(IpAddr),
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

/// What becomes of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    Try,
    /// After a pause: many others tried.
    TrySlowly,
    Wait,
}

/// The failures of the last minutes.
#[derive(Default)]
pub(crate) struct Attempts {
    counts: Mutex<HashMap<Who, Count>>,
}

impl Attempts {
    /// Whether somebody who says to be `name` may try from `address`, at `now` in milliseconds.
    pub(crate) fn may_try(&self, name: &str, address: IpAddr, now: u64) -> May {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = |who: &Who| {
            let counted = counts.get(who).filter(|count| now.saturating_sub(count.since) < WINDOW_MS);
            counted.is_some_and(|count| count.failures >= who.most())
        };
        let [pair, from, named] = all(name, address);
        match (spent(&pair) || spent(&from), spent(&named)) {
            (true, _) => May::Wait,
            (false, true) => May::TrySlowly,
            (false, false) => May::Try,
        }
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, name: &str, address: IpAddr, now: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() + 3 > COUNTS_MAX {
            counts.retain(|_, count| now.saturating_sub(count.since) < WINDOW_MS);
        }
        if counts.len() + 3 > COUNTS_MAX {
            let mut times: Vec<u64> = counts.values().map(|count| count.since).collect();
            let middle = times.len() / 2;
            let (_, middle, _) = times.select_nth_unstable(middle);
            let middle = *middle;
            // At least half: all of the same moment go together.
            counts.retain(|_, count| count.since > middle);
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
    pub(crate) fn succeeded(&self, name: &str, address: IpAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&Who::Pair(name.to_owned(), line(address)));
    }
}

/// Whom an address stands for: of IPv6, one line has a whole /64.
pub(crate) fn line(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn all(name: &str, address: IpAddr) -> [Who; 3] {
    let (name, address) = (name.to_owned(), line(address));
    [Who::Pair(name.clone(), address), Who::Address(address), Who::Name(name)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whoever_guesses_waits_and_the_same_name_from_elsewhere_does_not() {
        let attempts = Attempts::default();
        for n in 0..PAIR_MAX {
            assert_eq!(attempts.may_try("ana", at("10.0.0.1"), 1000), May::Try, "{n}");
            attempts.failed("ana", at("10.0.0.1"), 1000);
        }
        assert_eq!(attempts.may_try("ana", at("10.0.0.1"), 1000), May::Wait);
        assert_eq!(attempts.may_try("ana", at("10.0.0.2"), 1000), May::Try);
        assert_eq!(attempts.may_try("bo", at("10.0.0.1"), 1000), May::Try);
        assert_eq!(attempts.may_try("ana", at("10.0.0.1"), 1000 + WINDOW_MS), May::Try);
    }

    #[test]
    fn a_name_that_many_guess_at_stays_open_and_a_line_of_ipv6_is_one_address() {
        let attempts = Attempts::default();
        for n in 0..NAME_MAX {
            attempts.failed("ana", at(&format!("10.0.1.{n}")), 0);
        }
        assert_eq!(attempts.may_try("ana", at("10.0.0.1"), 0), May::TrySlowly);
        for n in 0..PAIR_MAX {
            attempts.failed("bo", at(&format!("2001:db8::{n}")), 0);
        }
        assert_eq!(attempts.may_try("bo", at("2001:db8::ffff"), 0), May::Wait);
        assert_eq!(attempts.may_try("bo", at("2001:db8:0:1::1"), 0), May::Try);
    }

    #[test]
    fn a_right_password_forgets_what_was_mistyped() {
        let attempts = Attempts::default();
        for _ in 0..3 {
            (0..PAIR_MAX - 1).for_each(|_| attempts.failed("ana", at("10.0.0.1"), 0));
            attempts.succeeded("ana", at("10.0.0.1"));
        }
        assert_eq!(attempts.may_try("ana", at("10.0.0.1"), 0), May::Try);
    }

    #[test]
    fn one_address_does_not_try_every_name_and_memory_has_a_bound() {
        let attempts = Attempts::default();
        for n in 0..u64::from(ADDRESS_MAX) {
            attempts.failed(&format!("user-{n}"), at("10.0.0.1"), n);
        }
        assert_eq!(attempts.may_try("another", at("10.0.0.1"), 0), May::Wait);
        for n in 0..COUNTS_MAX as u32 {
            attempts.failed(&format!("user-{n}"), Ipv4Addr::from_bits(n).into(), u64::from(n));
        }
        assert!(attempts.counts.lock().unwrap().len() <= COUNTS_MAX);
    }
}
