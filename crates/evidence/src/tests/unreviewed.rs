//! The count of overrides that nobody reviewed.

use super::world::{World, three_months};
use crate::{Finality, Limits, Refused, StateProof, Subject, Unreviewed, UnreviewedProof, verify_unreviewed};
use contract::state::{organisation_key, roll_key};
use record::OrgId;

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
