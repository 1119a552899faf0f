//! In which order independent entries come does not matter, and which are independent is announced.

use super::{Dice, play, propose, record};
use crate::{
    AlarmStep, Body, ClaimStep, CustodyStep, DeviceStep, Executed, MemberStep, OverrideStep, PolicyKind, PolicyStep,
    Priority, Receipt, SignedSubmission, apply,
    state::{self, ActivePolicy, Key, Membership, Organisation, Seat, State},
    testing::{World, commitment, digest, id, org, pseudonym, public, said, seeded},
    touched,
};
use proptest::prelude::*;
use record::Purpose;
use std::{cell::RefCell, collections::BTreeSet};

/// The state, and which keys of it were asked for.
struct Watched<'a> {
    world: &'a World,
    asked: RefCell<BTreeSet<Key>>,
}

impl State for Watched<'_> {
    fn read(&self, key: &Key) -> Option<&[u8]> {
        self.asked.borrow_mut().insert(*key);
        self.world.state.get(key).map(Vec::as_slice)
    }
}

/// What is written, never read, and named by the state alone: the term that the activation of a policy ends, and the terms of keys that a
/// change of membership begins and ends, and the set that it leads to.
fn replaced_terms(world: &World, signed: &SignedSubmission) -> Vec<Key> {
    match &signed.submission.entries[0].body {
        Body::Policy { kind, step: PolicyStep::Activated, .. } => {
            let active = world.get::<ActivePolicy>(&state::policy_key(*kind));
            active.map(|active| state::policy_term_key(*kind, &active.document)).into_iter().collect()
        }
        Body::Member { member, step } => {
            let held = world.get::<Organisation>(&state::organisation_key(member)).map(|held| held.entry_key);
            let seat = world.get::<Seat>(&state::seat_key(member)).map(|seat| seat.consensus_key);
            let joining = match step {
                MemberStep::Voted(id, _) => world.get::<Membership>(&state::membership_key(id)),
                _ => None,
            };
            let joins = joining.and_then(|held| held.joining).map(|joining| joining.entry_key);
            let kept = world.block.height / world.genesis.epoch_blocks + 2;
            let keys = [held, seat, joins].into_iter().flatten().map(|key| state::key_owner_key(&key));
            keys.chain([state::set_key(kept)]).collect()
        }
        _ => Vec::new(),
    }
}

/// Two submissions by lanes of their own, that nothing but their keys ties together.
fn two(world: &mut World, dice: [Dice; 2]) -> [SignedSubmission; 2] {
    let [one, other] = dice.map(|dice| propose(world, dice));
    [world.submission(one.lane(10)), world.submission(other.lane(11))]
}

/// What became of both, in an order that does not depend on who came first.
fn by_lane(executed: &Executed) -> Vec<Receipt> {
    let mut receipts: Vec<_> = executed.receipts.iter().map(|one| Receipt { index: 0, ..one.clone() }).collect();
    receipts.sort_by_key(|receipt| receipt.lane);
    receipts
}

proptest! {
    #![proptest_config(seeded(512))]

    #[test]
    fn an_entry_reads_and_writes_nothing_but_what_it_announces(
        rolls in prop::collection::vec(any::<Dice>(), 0..120), tried in prop::collection::vec(any::<Dice>(), 16)
    ) {
        let (mut world, _) = play(&rolls);
        for dice in tried {
            let proposed = propose(&world, dice);
            let signed = world.submission(proposed.lane(9));
            let entry = &signed.submission.entries[0];
            let announced = touched(std::slice::from_ref(&signed));
            let watched = Watched { world: &world, asked: RefCell::default() };
            let written = apply::apply(&watched, &world.block, entry, &entry.digest()).unwrap_or_default();
            let unannounced = |key: &&Key| announced.binary_search(*key).is_err();
            let asked = watched.asked.into_inner();
            prop_assert_eq!(asked.iter().find(unannounced), None, "{:?} reads it", entry);
            let replaced = replaced_terms(&world, &signed);
            let surprise = written.keys().filter(unannounced).find(|key| !replaced.contains(key));
            prop_assert_eq!(surprise, None, "{:?} writes it", entry);
        }
    }

    #[test]
    fn two_entries_of_which_none_writes_what_the_other_announces_give_the_same_in_either_order(
        rolls in prop::collection::vec(any::<Dice>(), 0..120), pairs in prop::collection::vec(any::<[Dice; 2]>(), 16)
    ) {
        let (world, _) = play(&rolls);
        for dice in pairs {
            let mut world = world.clone();
            let [one, other] = two(&mut world, dice);
            let spoils = |one: &SignedSubmission, other: &SignedSubmission| {
                let announced = touched(std::slice::from_ref(other));
                let written = world.execute(std::slice::from_ref(one)).unwrap().writes;
                written.keys().any(|key| announced.binary_search(key).is_ok())
            };
            let independent = !spoils(&one, &other) && !spoils(&other, &one);
            let forth = world.execute(&[one.clone(), other.clone()]);
            let back = world.execute(&[other.clone(), one.clone()]);
            let (Ok(forth), Ok(back)) = (forth, back) else {
                prop_assert!(!independent, "{:?}\n{:?}", one.submission.entries, other.submission.entries);
                continue;
            };
            let same = forth.writes == back.writes && by_lane(&forth) == by_lane(&back);
            // Whoever differs by order is announced as dependent.
            prop_assert!(same || !independent, "{:?}\n{:?}", one.submission.entries, other.submission.entries);
            prop_assert_eq!(forth.log.size(), back.log.size());
        }
    }

    #[test]
    fn the_order_of_independent_entries_does_not_matter(
        order in Just((0u8..24).collect::<Vec<_>>()).prop_shuffle(), kinds in prop::collection::vec(any::<u8>(), 24)
    ) {
        let mut world = World::new();
        let until = world.block.time.plus_ms(1_000);
        let submissions: Vec<_> = (0u8..24)
            .map(|n| {
                let own = n + 1;
                let body = match kinds[usize::from(n)] % 7 {
                    0 => record(&world, own, 1, true),
                    1 => Body::Override { id: id(own), step: OverrideStep::Opened(until), reason: commitment(n) },
                    2 => Body::Device { device: digest(own), step: DeviceStep::Bound(id(own), public(own)) },
                    3 => Body::Alarm { id: id(own), step: AlarmStep::Raised, priority: Priority::Low },
                    4 => Body::Link { other: pseudonym(200), same: true },
                    5 => Body::Custody { id: id(own), step: CustodyStep::Held, records: digest(n), count: 1 },
                    _ => Body::Claim {
                        id: id(own),
                        step: ClaimStep::Submitted,
                        insurer: org("acme"),
                        amount: commitment(n),
                        services: vec![digest(own)],
                    },
                };
                let entry = said("mercy", body).patient(own).purpose(Purpose::BreakGlass).lane(u32::from(n));
                world.submission(entry)
            })
            .collect();
        let shuffled: Vec<_> = order.iter().map(|n| submissions[usize::from(*n)].clone()).collect();
        let (one, other) = (world.execute(&submissions).unwrap(), world.execute(&shuffled).unwrap());
        prop_assert!(one.receipts.iter().all(|receipt| receipt.refused.is_none()), "{:?}", one.receipts);
        prop_assert_eq!(one.writes, other.writes);
    }
}

#[test]
fn entries_that_touch_a_common_key_are_announced_as_dependent() {
    let raised = || Body::Alarm { id: id(1), step: AlarmStep::Raised, priority: Priority::Low };
    let billed = |n| Body::Claim {
        id: id(n),
        step: ClaimStep::Submitted,
        insurer: org("acme"),
        amount: commitment(n),
        services: vec![digest(9)],
    };
    let proposed = |n| Body::Policy { kind: PolicyKind::Access, document: digest(2), step: PolicyStep::Proposed(n) };
    let bound = |n, key| Body::Device { device: digest(n), step: DeviceStep::Bound(id(n), public(key)) };
    let pairs = [
        ("one alarm", raised(), raised()),
        ("one service", billed(1), billed(2)),
        ("one document", proposed(101), proposed(102)),
        ("one key", bound(1, 3), bound(2, 3)),
    ];
    for (what, one, other) in pairs {
        let mut world = World::new();
        let one = world.submission(said("mercy", one).patient(1));
        let other = world.submission(said("county", other).patient(2));
        let forth = world.execute(&[one.clone(), other.clone()]).unwrap();
        let back = world.execute(&[other.clone(), one.clone()]).unwrap();
        assert_ne!(by_lane(&forth), by_lane(&back), "{what}");
        assert_ne!(forth.writes, back.writes, "{what}");
        let [one, other] = [one, other].map(|signed| touched(&[signed]).into_iter().collect::<BTreeSet<_>>());
        // Both read the access policy that they were decided under; that ties no two entries together, the second key does.
        assert!(one.intersection(&other).count() > 1, "{what}");
    }
}
