//! Refusals at the door, for the trail: the first of somebody from an address is told at once, those after it together.
//!
//! Whoever guesses passwords all night writes a handful of entries on the ledger, and not a million; what was guessed at, how often and
//! from where stands there all the same.

use super::attempts::line;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How long refusals are summed up, in milliseconds.
pub(crate) const SUM_MS: u64 = 5 * 60 * 1000;
/// Sums that are kept apart; what comes from still others meanwhile is one sum.
const SUMS_MAX: usize = 256;

/// Whom somebody said to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SaidToBe {
    /// A user who is known.
    User(String),
    /// An app that is registered.
    App(String),
    /// Anybody else: what they wrote may be a password in the wrong field.
    Somebody,
}

/// Refusals that are told together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum {
    pub(crate) who: SaidToBe,
    /// None for those from too many addresses to keep apart.
    pub(crate) address: Option<IpAddr>,
    pub(crate) times: u64,
    /// Within how many milliseconds.
    pub(crate) within_ms: u64,
}

#[derive(Default)]
struct Counts {
    /// When the first was told, and how many came since.
    apart: HashMap<(SaidToBe, IpAddr), (u64, u64)>,
    /// The same of all the others.
    others: Option<(u64, u64)>,
}

/// The refusals of the last minutes.
#[derive(Default)]
pub(crate) struct Refusals {
    counts: Mutex<Counts>,
}

impl Refusals {
    /// Counts a refusal at `now` in milliseconds; whether it is to be told by itself, at once.
    pub(crate) fn is_first(&self, who: SaidToBe, address: IpAddr, now: u64) -> bool {
        let mut counts = self.counts();
        let key = (who, line(address));
        if let Some((_, more)) = counts.apart.get_mut(&key) {
            *more += 1;
            return false;
        }
        if counts.apart.len() < SUMS_MAX {
            counts.apart.insert(key, (now, 0));
            return true;
        }
        let (_, more) = counts.others.get_or_insert((now, 0));
        *more += 1;
        false
    }

    /// What is to be told by now, and is then forgotten: what was counted for [`SUM_MS`], or everything when the gateway stops.
    pub(crate) fn due(&self, now: u64, everything: bool) -> Vec<Sum> {
        let mut counts = self.counts();
        let is_due = |since: u64| everything || now.saturating_sub(since) >= SUM_MS;
        let mut sums = Vec::new();
        counts.apart.retain(|(who, address), (since, more)| {
            let due = is_due(*since);
            if due && *more > 0 {
                let within_ms = now.saturating_sub(*since);
                sums.push(Sum { who: who.clone(), address: Some(*address), times: *more, within_ms });
            }
            !due
        });
        if let Some((since, times)) = counts.others.take_if(|(since, _)| is_due(*since)) {
            sums.push(Sum { who: SaidToBe::Somebody, address: None, times, within_ms: now.saturating_sub(since) });
        }
        sums.sort();
        sums
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ada() -> SaidToBe {
        SaidToBe::User("ada".to_owned())
    }

    #[test]
    fn the_first_refusal_is_told_at_once_and_the_others_in_one_sum() {
        let refusals = Refusals::default();
        let (here, there): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert!(refusals.is_first(ada(), here, 1_000));
        for n in 0..57 {
            assert!(!refusals.is_first(ada(), here, 2_000 + n));
        }
        assert!(refusals.is_first(ada(), there, 3_000) && refusals.is_first(SaidToBe::Somebody, here, 3_000));
        assert_eq!(refusals.due(2_000 + SUM_MS - 1_001, false), []);
        let sum = Sum { who: ada(), address: Some(here), times: 57, within_ms: SUM_MS };
        assert_eq!(refusals.due(1_000 + SUM_MS, false), [sum]);
        // What was told is forgotten, and what was told by itself has no sum.
        assert_eq!(refusals.due(10 * SUM_MS, true), []);
        assert!(refusals.is_first(ada(), here, 10 * SUM_MS));
    }

    #[test]
    fn a_flood_from_everywhere_has_a_bound_and_loses_no_count() {
        let refusals = Refusals::default();
        let flood = 10_000;
        let at_once = (0..flood).filter(|n| refusals.is_first(ada(), Ipv4Addr::from_bits(*n).into(), 0)).count();
        assert_eq!(at_once, SUMS_MAX);
        let sums = refusals.due(SUM_MS, false);
        assert_eq!(sums.len(), 1, "{sums:?}");
        assert_eq!((sums[0].address, sums[0].times), (None, u64::from(flood) - SUMS_MAX as u64));
        // A line of IPv6 is one address.
        let refusals = Refusals::default();
        assert!(refusals.is_first(ada(), "2001:db8::1".parse().unwrap(), 0));
        assert!(!refusals.is_first(ada(), "2001:db8::2".parse().unwrap(), 0));
    }
}
