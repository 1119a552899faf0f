//! How members join, leave, are removed and change their keys, accepted and refused.

use crate::{
    Body, Joining, MEMBERS_MAX, MemberStep, PublicKey, Reach,
    state::{self, KeyOwner, Seat, Succession},
    testing::{MEMBERS, Said, World, check, id, joining, org, public, said},
};

fn step(name: &str, member: &str, step: MemberStep) -> Said {
    said(name, Body::Member { member: org(member), step }).nobody()
}
fn proposed(name: &str, n: u8, joining: Joining) -> Said {
    step(name, "valley", MemberStep::JoinProposed(joining)).id(n)
}
fn voted(name: &str, member: &str, n: u8, yes: bool) -> Said {
    step(name, member, MemberStep::Voted(id(n), yes))
}
fn seated(name: &str, n: u8) -> Said {
    step(name, name, MemberStep::Seated(public(n)))
}

impl World {
    /// The sets that decide from the present epoch on: from which, and how many of the sixth organisation's keys are in each.
    fn sets(&self) -> Vec<(u64, Vec<PublicKey>)> {
        let succession: Succession = self.get(&state::succession_key()).unwrap();
        succession.sets().iter().map(|set| (set.from, set.keys.clone())).collect()
    }

    fn owner(&self, n: u8) -> KeyOwner {
        self.get(&state::key_owner_key(&public(n))).unwrap()
    }

    fn seat(&self, name: &str) -> Seat {
        self.get(&state::seat_key(&org(name))).unwrap()
    }

    /// Lets blocks pass until the one that comes is at `height`.
    fn at(&mut self, height: u64) {
        assert!(height >= self.block.height);
        self.block.height = height;
    }
}

fn founders() -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> = (150..155).map(public).collect();
    keys.sort();
    keys
}

#[test]
fn a_member_rotates_its_own_entry_key_to_one_that_nobody_used() {
    let rotated = |name: &str, member: &str, key: PublicKey| step(name, member, MemberStep::EntryKeyRotated(key));
    let mut world = World::new();
    let first = world.genesis.members[2].entry_key;
    check(
        &mut world,
        [
            (rotated("mercy", "county", public(1)), "OtherOrg"),
            (rotated("mercy", "mercy", [0; 32].into()), "MemberKey"),
            (rotated("mercy", "mercy", public(150)), "MemberKey"),
            (rotated("mercy", "mercy", public(1)), "applied"),
            (rotated("mercy", "mercy", first), "MemberKey"),
            (rotated("county", "county", public(1)), "MemberKey"),
        ],
    );
    assert_eq!(world.organisation("mercy").entry_key, public(1));
    let retired: KeyOwner = world.get(&state::key_owner_key(&first)).unwrap();
    assert_eq!(retired, KeyOwner { org: org("mercy"), from: Some(0), until: Some(5) });
    assert_eq!(world.owner(1), KeyOwner { org: org("mercy"), from: Some(5), until: None });
}

#[test]
fn an_organisation_joins_by_the_vote_that_makes_more_than_two_thirds_and_then_takes_its_seat() {
    let mut world = World::new();
    check(
        &mut world,
        [
            (proposed("mercy", 1, joining()), "applied"),
            (proposed("mercy", 1, joining()), "NotNew"),
            (voted("acme", "valley", 2, true), "Unknown"),
            (voted("acme", "county", 1, true), "Unknown"),
            (voted("acme", "valley", 1, true), "applied"),
            (voted("acme", "valley", 1, false), "VotedAlready"),
            (voted("county", "valley", 1, false), "applied"),
            (voted("mercy", "valley", 1, true), "applied"),
            (voted("rescue", "valley", 1, true), "applied"),
        ],
    );
    // Three of five are not more than two thirds.
    assert!(world.get::<Seat>(&state::seat_key(&org("valley"))).is_none());
    check(
        &mut world,
        [
            (voted("watch", "valley", 1, true), "applied"),
            (voted("watch", "valley", 1, true), "Over"),
            (proposed("mercy", 2, joining()), "NotNew"),
        ],
    );
    assert_eq!(world.organisation("valley").entry_key, public(29));
    let from_next = KeyOwner { org: org("valley"), from: Some(11), until: None };
    assert_eq!((world.owner(29), world.owner(30).from), (from_next, None));
    // It is a member, and decides nothing yet.
    assert_eq!(world.sets(), [(0, founders())]);
    check(&mut world, [(seated("valley", 30), "applied"), (seated("valley", 30), "MemberKey")]);
    let mut six = founders();
    six.push(public(30));
    six.sort();
    // Taken in epoch 1, the seat counts from epoch 3 on.
    assert_eq!(world.sets(), [(0, founders()), (3, six)]);
    assert_eq!(world.seat("valley").consensus_from, Some(24));
}

#[test]
fn a_join_that_a_third_is_against_is_over_and_may_be_proposed_again() {
    check(
        &mut World::new(),
        [
            (proposed("mercy", 1, joining()), "applied"),
            (voted("acme", "valley", 1, false), "applied"),
            (voted("watch", "valley", 1, false), "applied"),
            (voted("mercy", "valley", 1, true), "Over"),
            (proposed("acme", 2, joining()), "applied"),
            (voted("watch", "valley", 2, true), "applied"),
        ],
    );
}

#[test]
fn what_is_proposed_has_keys_of_its_own_and_can_be_reached() {
    let with = |change: fn(&mut Joining)| {
        let mut other = joining();
        change(&mut other);
        proposed("mercy", 0, other)
    };
    let reach = |address: &str| {
        let reach = Reach { wrap_key: "age1valley".to_owned(), address: address.to_owned() };
        proposed("mercy", 0, Joining { reach, ..joining() })
    };
    check(
        &mut World::new(),
        [
            (with(|joining| joining.entry_key = public(150)), "MemberKey"),
            (with(|joining| joining.consensus_key = public(101)), "MemberKey"),
            (with(|joining| joining.consensus_key = joining.entry_key), "MemberKey"),
            (with(|joining| joining.entry_key = [0; 32].into()), "MemberKey"),
            (with(|joining| joining.reach.wrap_key.clear()), "Reach"),
            (with(|joining| joining.reach.wrap_key = "a b".to_owned()), "Reach"),
            (reach("valley.example"), "Reach"),
            (reach("valley.example:0"), "Reach"),
            (reach("valley.example:65536"), "Reach"),
            (reach(":9000"), "Reach"),
            (reach(&format!("{}:9000", "x".repeat(252))), "Reach"),
            (reach(&format!("{}:9000", "x".repeat(251))), "applied"),
            (reach("[::1]:9000"), "applied"),
        ],
    );
}

#[test]
fn a_member_that_left_says_nothing_more_and_its_old_proposals_are_over() {
    let mut world = World::new();
    check(
        &mut world,
        [
            (step("acme", "mercy", MemberStep::RemovalProposed).id(1), "applied"),
            (voted("acme", "mercy", 1, true), "applied"),
            (step("acme", "mercy", MemberStep::Left), "OtherOrg"),
            (step("mercy", "mercy", MemberStep::Left), "applied"),
            (voted("watch", "mercy", 1, true), "Over"),
        ],
    );
    assert!(world.organisation("mercy").left);
    let left = world.submission(seated("mercy", 40));
    assert!(world.execute(&[left]).is_err());
    let without: Vec<PublicKey> = founders().into_iter().filter(|key| *key != public(152)).collect();
    assert_eq!(world.sets(), [(0, founders()), (2, without)]);
    assert_eq!(world.owner(152), KeyOwner { org: org("mercy"), from: Some(0), until: Some(16) });
    assert_eq!(world.owner(102), KeyOwner { org: org("mercy"), from: Some(0), until: Some(5) });
}

#[test]
fn the_others_remove_a_member_by_more_than_two_thirds_of_all_and_it_comes_back_by_keys_it_never_used() {
    let mut world = World::new();
    let back = |entry_key| {
        let joining = Joining { entry_key: public(entry_key), consensus_key: public(entry_key + 1), ..joining() };
        step("acme", "mercy", MemberStep::JoinProposed(joining))
    };
    check(
        &mut world,
        [
            (step("mercy", "mercy", MemberStep::RemovalProposed), "OwnRemoval"),
            (step("acme", "nobody", MemberStep::RemovalProposed), "Unknown"),
            (step("acme", "mercy", MemberStep::RemovalProposed).id(1), "applied"),
            (voted("mercy", "mercy", 1, false), "OwnRemoval"),
            (voted("acme", "mercy", 1, true), "applied"),
            (voted("county", "mercy", 1, true), "applied"),
            (voted("rescue", "mercy", 1, true), "applied"),
            (back(60), "NotNew"),
            (voted("watch", "mercy", 1, true), "applied"),
            (voted("watch", "mercy", 1, true), "Over"),
            (back(101), "MemberKey"),
            (back(151), "MemberKey"),
            (back(60).id(2), "applied"),
            (voted("acme", "mercy", 2, true), "applied"),
            (voted("county", "mercy", 2, true), "applied"),
            (voted("rescue", "mercy", 2, true), "applied"),
        ],
    );
    assert!(!world.organisation("mercy").left);
    assert_eq!((world.seat("mercy").left_at, world.seat("mercy").consensus_from), (None, None));
}

#[test]
fn a_member_rotates_its_consensus_key_at_the_epoch_after_next() {
    let mut world = World::new();
    check(&mut world, [(step("acme", "mercy", MemberStep::Seated(public(40))), "OtherOrg")]);
    world.at(20);
    check(
        &mut world,
        [
            (seated("mercy", 152), "MemberKey"),
            (seated("mercy", 101), "MemberKey"),
            (seated("mercy", 40), "applied"),
            (seated("mercy", 152), "MemberKey"),
        ],
    );
    let mut rotated: Vec<PublicKey> = founders().into_iter().filter(|key| *key != public(152)).collect();
    rotated.push(public(40));
    rotated.sort();
    // In epoch 2 with epochs of eight blocks: from epoch 4 on, height 32.
    assert_eq!(world.sets(), [(0, founders()), (4, rotated)]);
    assert_eq!(world.owner(152), KeyOwner { org: org("mercy"), from: Some(0), until: Some(32) });
    assert_eq!(world.owner(40), KeyOwner { org: org("mercy"), from: Some(32), until: None });
}

#[test]
fn no_more_validators_change_in_an_epoch_than_a_quorum_can_do_without() {
    let mut world = World::new();
    check(
        &mut world,
        [(seated("mercy", 40), "applied"), (seated("acme", 41), "Validators"), (seated("mercy", 42), "applied")],
    );
    world.at(8);
    check(&mut world, [(seated("acme", 41), "applied"), (seated("county", 43), "Validators")]);
    world.at(17);
    check(&mut world, [(seated("county", 43), "applied")]);
    // What decided before epoch 2 is forgotten.
    assert_eq!(world.sets().iter().map(|set| set.0).collect::<Vec<_>>(), [2, 3, 4]);
    world.at(100);
    check(&mut world, [(seated("watch", 44), "applied")]);
    assert_eq!(world.sets().iter().map(|set| set.0).collect::<Vec<_>>(), [4, 14]);
}

#[test]
fn the_last_validator_does_not_leave() {
    let mut world = World::new();
    let leaves = |name: &str| step(name, name, MemberStep::Left);
    check(
        &mut world,
        [
            (leaves("acme"), "applied"),
            (leaves("county"), "applied"),
            (leaves("rescue"), "applied"),
            (leaves("watch"), "applied"),
            (leaves("mercy"), "Validators"),
            (seated("mercy", 40), "applied"),
            (leaves("mercy"), "Validators"),
        ],
    );
}

#[test]
fn a_member_moves_by_itself() {
    let mut world = World::new();
    let to = |wrap_key: &str, address: &str| {
        MemberStep::Moved(Reach { wrap_key: wrap_key.to_owned(), address: address.to_owned() })
    };
    check(
        &mut world,
        [
            (step("mercy", "county", to("age1", "a:1")), "OtherOrg"),
            (step("mercy", "mercy", to("", "a:1")), "Reach"),
            (step("mercy", "mercy", to("age1mercy", "a:1")), "applied"),
        ],
    );
    assert_eq!((world.seat("mercy").reach.address.as_str(), world.seat("mercy").wrap_from), ("a:1", 0));
    check(&mut world, [(step("mercy", "mercy", to("age1other", "a:1")), "applied")]);
    assert_eq!(world.seat("mercy").wrap_from, 5);
}

#[test]
fn a_name_that_was_founded_is_a_member_from_the_start() {
    let mut world = World::new();
    check(&mut world, [(step("mercy", "mercy", MemberStep::Moved(joining().reach)), "applied")]);
    for (name, _) in MEMBERS {
        assert_eq!((world.seat(name).consensus_from, world.seat(name).left_at), (Some(0), None), "{name}");
    }
}

#[test]
fn no_more_join_than_there_may_be() {
    let mut world = World::new();
    let founder = |n: usize| {
        let key = |what: u8| {
            let mut secret = [what; 32];
            secret[..8].copy_from_slice(&n.to_be_bytes());
            PublicKey::from(ed25519_dalek::SigningKey::from_bytes(&secret).verifying_key().to_bytes())
        };
        let mut member = world.genesis.members[0].clone();
        (member.org, member.entry_key, member.consensus_key) = (org(&format!("m{n:03}")), key(1), key(2));
        member
    };
    world.genesis.members = (0..MEMBERS_MAX).map(founder).collect();
    world.genesis.check().unwrap();
    let mut enough = 0;
    check(&mut world, [(proposed("m000", 1, joining()), "applied")]);
    for n in 0..MEMBERS_MAX * 2 / 3 {
        check(&mut world, [(voted(&format!("m{n:03}"), "valley", 1, true), "applied")]);
        enough += 1;
    }
    check(&mut world, [(voted("m200", "valley", 1, true), "MembersFull")]);
    assert_eq!(enough, 170);
    check(&mut world, [(step("m001", "m001", MemberStep::Left), "applied")]);
    check(&mut world, [(voted("m200", "valley", 1, true), "applied"), (voted("m201", "valley", 1, true), "applied")]);
    check(&mut world, [(seated("valley", 30), "applied")]);
    // The largest value of the state fits.
    assert!(world.state.values().all(|value| value.len() <= state::VALUE_BYTES_MAX));
}
