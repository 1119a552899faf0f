//! Refusals at the door, for the trail: the first of somebody from an address is told by itself, those after it together.
//!
//! Whoever guesses passwords all night writes a handful of entries on the ledger, and not a million; what was guessed at, how often and
//! from where stands there all the same.

use super::attempts::line;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// How long refusals are summed up, in milliseconds.
pub(crate) const SUM_MS: u64 = 5 * 60 * 1000;
/// Sums that are kept apart; what comes from still others meanwhile is one sum.
const SUMS_MAX: usize = 256;
/// Addresses that are kept apart of one name; what comes for it from still others is one sum.
const APART_MAX: usize = 8;
/// Refusals within [`SUM_MS`] that are told by themselves, of all names together.
const FIRSTS_MAX: usize = 64;

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

/// A refusal that is told by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) who: SaidToBe,
    pub(crate) address: IpAddr,
    /// Names the request in the audit trail.
    pub(crate) request: String,
    pub(crate) why: String,
}

/// Since when refusals of the same are counted, and how many of them are not told.
struct Count {
    since: u64,
    more: u64,
}

#[derive(Default)]
struct Counts {
    /// Those of a name and an address; without an address, those from the others.
    apart: HashMap<(SaidToBe, Option<IpAddr>), Count>,
    /// To be told by themselves.
    firsts: Vec<First>,
    /// Since when the firsts are counted, and how many there were.
    window: (u64, usize),
}

impl Counts {
    /// Where a refusal is counted of which there is no count yet.
    fn place(&self, who: SaidToBe, address: IpAddr) -> (SaidToBe, Option<IpAddr>) {
        let of_name = self.apart.keys().filter(|(name, from)| *name == who && from.is_some()).count();
        let key = (who, (of_name < APART_MAX).then_some(address));
        if self.apart.len() < SUMS_MAX || self.apart.contains_key(&key) { key } else { (SaidToBe::Somebody, None) }
    }

    /// Whether one more may be told by itself.
    fn has_room_for_a_first(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.window.0) >= SUM_MS {
            self.window = (now, 0);
        }
        if self.window.1 >= FIRSTS_MAX || self.firsts.len() >= FIRSTS_MAX {
            return false;
        }
        self.window.1 += 1;
        true
    }

    fn add(&mut self, key: (SaidToBe, Option<IpAddr>), times: u64, since: u64) {
        self.apart.entry(key).or_insert(Count { since, more: 0 }).more += times;
    }
}

/// The refusals of the last minutes.
#[derive(Default)]
pub(crate) struct Refusals {
    counts: Mutex<Counts>,
    /// There is one to be told by itself.
    news: Notify,
}

impl Refusals {
    /// Counts a refusal at `now` in milliseconds. Whoever writes it down does so beside the request: known and unknown names take the same
    /// time.
    pub(crate) fn count(&self, first: First, now: u64) {
        let mut counts = self.counts();
        let address = line(first.address);
        if let Some(count) = counts.apart.get_mut(&(first.who.clone(), Some(address))) {
            count.more += 1;
            return;
        }
        let key = counts.place(first.who.clone(), address);
        if key.1.is_none() || !counts.has_room_for_a_first(now) {
            counts.add(key, 1, now);
            return;
        }
        counts.apart.insert(key, Count { since: now, more: 0 });
        counts.firsts.push(first);
        drop(counts);
        self.news.notify_one();
    }

    /// Returns when there is a refusal to be told by itself.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Those that are to be told by themselves, and are then forgotten.
    pub(crate) fn firsts(&self) -> Vec<First> {
        std::mem::take(&mut self.counts().firsts)
    }

    /// What is to be told by now, and is then forgotten: what was counted for [`SUM_MS`], or everything when the gateway stops.
    pub(crate) fn due(&self, now: u64, everything: bool) -> Vec<Sum> {
        let mut counts = self.counts();
        let mut sums = Vec::new();
        counts.apart.retain(|(who, address), Count { since, more }| {
            let due = everything || now.saturating_sub(*since) >= SUM_MS;
            if due && *more > 0 {
                let within_ms = now.saturating_sub(*since);
                sums.push(Sum { who: who.clone(), address: *address, times: *more, within_ms });
            }
            !due
        });
        sums.sort();
        sums
    }

    /// Counts what could not be told once more: it is told in a sum.
    pub(crate) fn give_back(&self, sum: Sum, now: u64) {
        let Sum { who, address, times, within_ms } = sum;
        let mut counts = self.counts();
        let key = (who, address);
        let fits = counts.apart.len() < SUMS_MAX || counts.apart.contains_key(&key);
        counts.add(if fits { key } else { (SaidToBe::Somebody, None) }, times, now.saturating_sub(within_ms));
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

    fn first(who: SaidToBe, address: IpAddr) -> First {
        First { who, address, request: "r1".to_owned(), why: "a login failed".to_owned() }
    }

    #[test]
    fn the_first_refusal_is_told_at_once_and_the_others_in_one_sum() {
        let refusals = Refusals::default();
        let (here, there): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        refusals.count(first(ada(), here), 1_000);
        for n in 0..57 {
            refusals.count(first(ada(), here), 2_000 + n);
        }
        assert_eq!(refusals.firsts(), [first(ada(), here)]);
        refusals.count(first(ada(), there), 3_000);
        refusals.count(first(SaidToBe::Somebody, here), 3_000);
        assert_eq!(refusals.firsts(), [first(ada(), there), first(SaidToBe::Somebody, here)]);
        assert_eq!(refusals.firsts(), []);
        assert_eq!(refusals.due(1_000 + SUM_MS - 1, false), []);
        let sum = Sum { who: ada(), address: Some(here), times: 57, within_ms: SUM_MS };
        assert_eq!(refusals.due(1_000 + SUM_MS, false), std::slice::from_ref(&sum));
        // What could not be told comes again, with what came meanwhile.
        refusals.give_back(sum, 1_000 + SUM_MS);
        refusals.count(first(ada(), here), 1_500 + SUM_MS);
        let sum = Sum { who: ada(), address: Some(here), times: 58, within_ms: SUM_MS + 1_000 };
        assert_eq!(refusals.due(2_000 + SUM_MS, false), [sum]);
        // What was told is forgotten, and what was told by itself has no sum.
        assert_eq!(refusals.due(10 * SUM_MS, true), []);
        refusals.count(first(ada(), here), 10 * SUM_MS);
        assert_eq!(refusals.firsts().len(), 1);
    }

    /// One known name from many addresses took all the places: refusals of others had no names any more.
    #[test]
    fn a_flood_of_one_name_from_everywhere_has_a_bound_loses_no_count_and_hides_no_other_name() {
        let refusals = Refusals::default();
        let flood = 10_000;
        for n in 0..flood {
            refusals.count(first(ada(), Ipv4Addr::from_bits(n).into()), 0);
        }
        let bob = SaidToBe::User("bob".to_owned());
        refusals.count(first(bob.clone(), Ipv4Addr::LOCALHOST.into()), 0);
        let firsts = refusals.firsts();
        assert_eq!(firsts.len(), APART_MAX + 1);
        assert_eq!(firsts.last().map(|first| &first.who), Some(&bob));
        let times = u64::from(flood) - APART_MAX as u64;
        assert_eq!(refusals.due(SUM_MS, false), [Sum { who: ada(), address: None, times, within_ms: SUM_MS }]);
        // A line of IPv6 is one address.
        let refusals = Refusals::default();
        refusals.count(first(ada(), "2001:db8::1".parse().unwrap()), 0);
        refusals.count(first(ada(), "2001:db8::2".parse().unwrap()), 0);
        assert_eq!(refusals.firsts().len(), 1);
    }

    #[test]
    fn many_names_are_told_up_to_a_bound_and_all_of_them_are_counted() {
        let refusals = Refusals::default();
        let names = 2 * SUMS_MAX;
        for n in 0..names {
            refusals.count(first(SaidToBe::User(n.to_string()), Ipv4Addr::LOCALHOST.into()), 0);
        }
        assert_eq!(refusals.firsts().len(), FIRSTS_MAX);
        let sums = refusals.due(SUM_MS, false);
        assert_eq!(sums.len(), SUMS_MAX - FIRSTS_MAX + 1);
        assert_eq!(sums.iter().map(|sum| sum.times).sum::<u64>(), (names - FIRSTS_MAX) as u64);
    }
}
