//! The count of overrides that nobody reviewed.

use super::world::{World, three_months};
use crate::{
    Finality, KnownBlock, Limits, Refused, StateProof, Subject, Unreviewed, UnreviewedProof, verify_unreviewed,
    verify_unreviewed_through,
};
use contract::{
    Header, MEMBERS_MAX,
    state::{organisation_key, roll_key},
};
use record::{OrgId, sha256};

fn proven(world: &World, orgs: &[&str]) -> (Finality, StateProof, Vec<StateProof>) {
    let members = orgs.iter().map(|org| {
        let org: OrgId = org.parse().unwrap();
        world.prove_value(organisation_key(&org)).1
    });
    let (finality, roll) = world.prove_value(roll_key());
    (finality, roll, members.collect())
}

fn check(world: &World, orgs: &[&str]) -> Result<Unreviewed, Refused> {
    let (finality, roll, members) = proven(world, orgs);
    verify_unreviewed(&UnreviewedProof::new(finality, roll, members).to_bytes(), &world.id(), &Limits::default())
}

/// The members' names, in the roll's order.
fn members(world: &World) -> Vec<String> {
    let roll = world.prove_value(roll_key()).1;
    let roll: contract::state::Roll =
        contract::from_cbor("roll", &roll.value, contract::state::VALUE_BYTES_MAX).unwrap();
    roll.members.iter().map(|voter| voter.org.to_string()).collect()
}

#[test]
fn the_number_of_unreviewed_overrides_is_proven_from_the_genesis_id() {
    let mut world = three_months();
    let names = members(&world);
    let orgs: Vec<&str> = names.iter().map(String::as_str).collect();
    let before = check(&world, &orgs).unwrap();
    assert_eq!(before.members.iter().map(|(_, count)| *count).sum::<u64>(), 0);
    world.break_glass("mercy");
    world.block(None);
    let after = check(&world, &orgs).unwrap();
    assert_eq!(
        after.members.iter().filter(|(_, count)| *count == 1).map(|(org, _)| org.as_str()).collect::<Vec<_>>(),
        ["mercy"]
    );
    let said = after.sentences();
    assert!(
        said.iter().any(|line| line.starts_with("mercy: 1 override that it opened is not reviewed, at height")),
        "{said:?}"
    );
}

#[test]
fn a_count_that_leaves_a_member_out_or_takes_another_one_is_refused() {
    let world = three_months();
    let names = members(&world);
    let orgs: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(check(&world, &orgs[1..]), Err(Refused::State { subject: Subject::Roll }));
    let mut swapped = orgs.clone();
    swapped.swap(0, 1);
    assert_eq!(check(&world, &swapped), Err(Refused::State { subject: Subject::Member(orgs[0].parse().unwrap()) }));
    let (finality, roll, mut members) = proven(&world, &orgs);
    members[0].value[1] ^= 1;
    let file = UnreviewedProof::new(finality, roll, members).to_bytes();
    assert!(matches!(verify_unreviewed(&file, &world.id(), &Limits::default()), Err(Refused::State { .. })));
    assert!(verify_unreviewed(b"no proof", &world.id(), &Limits::default()).is_err());
}

#[test]
fn a_count_goes_through_the_block_that_the_reader_knows_or_is_refused() {
    let world = three_months();
    let names = members(&world);
    let orgs: Vec<&str> = names.iter().map(String::as_str).collect();
    let (finality, roll, members) = proven(&world, &orgs);
    let header = Header::from_bytes(&finality.header).unwrap();
    let file = UnreviewedProof::new(finality, roll, members).to_bytes();
    let through = |height, block| {
        verify_unreviewed_through(&file, &world.id(), Some(&KnownBlock { height, block }), &Limits::default())
    };
    let (height, block) = (header.height, header.digest());
    assert_eq!(through(height, block), verify_unreviewed(&file, &world.id(), &Limits::default()));
    assert_eq!(through(height, sha256(&[b"another history"])), Err(Refused::OtherHistory { height }));
    assert_eq!(through(height + 1, block), Err(Refused::NotThroughCheckpoint { height: height + 1 }));
}

#[test]
fn more_members_than_there_may_be_are_refused_when_they_are_read() {
    let world = three_months();
    let names = members(&world);
    let (finality, roll, members) = proven(&world, &[&names[0]]);
    let file = |number| {
        let members = vec![members[0].clone(); number];
        let file = UnreviewedProof::new(finality.clone(), roll.clone(), members).to_bytes();
        verify_unreviewed(&file, &world.id(), &Limits::default())
    };
    assert_eq!(file(MEMBERS_MAX), Err(Refused::State { subject: Subject::Roll }));
    assert!(matches!(file(MEMBERS_MAX + 1), Err(Refused::Format(_))));
}
