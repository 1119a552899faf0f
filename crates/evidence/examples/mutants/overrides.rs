//! Counts of overrides that a colluding quorum could sign: rolls and members of any kind, proven as they are, with faults before and after.

use crate::{
    Finality, StateProof,
    bodies::{self, integer},
    case::bent,
    consortium,
    world::{ORGS, Proven, World, entry_key},
};
use contract::{
    MEMBERS_MAX,
    state::{Key, organisation_key, roll_key},
    to_cbor,
};
use evidence::UnreviewedProof;
use rand::{RngExt as _, rngs::StdRng};
use record::{Digest, OrgId};
use std::collections::BTreeMap;

/// The parts of a count.
type Counted = (Finality, StateProof, Vec<StateProof>);

/// Files about one header of `world`, on which whoever decides wrote what they like about the members; with the genesis id that is trusted.
pub(crate) fn proven(world: &World, count: usize, rng: &mut StdRng) -> Vec<(&'static str, Digest, Vec<u8>)> {
    let (good, donor) = (counted(world, rng), counted(world, rng));
    let cases = (0..count).map(|_| {
        let (finality, roll, members) = if rng.random_bool(0.4) { good.clone() } else { spoiled(&good, &donor, rng) };
        let (id, finality) = if rng.random_bool(0.05) {
            let (_, id, forged) = consortium::forged(world, &finality, rng);
            (id, forged)
        } else {
            (world.id(), finality)
        };
        let bytes = UnreviewedProof::new(finality, roll, members).to_bytes();
        if rng.random_bool(0.2) { ("miscounted", id, bent(&bytes, rng)) } else { ("counted", id, bytes) }
    });
    cases.collect()
}

/// As many members as there may be, and one more.
pub(crate) fn full(world: &World, rng: &mut StdRng) -> [Vec<u8>; 2] {
    [MEMBERS_MAX, MEMBERS_MAX + 1].map(|number| {
        let names: Vec<OrgId> = (0..number).map(|i| format!("x{i:03}").parse().unwrap()).collect();
        let writes = writes(&names, role, rng);
        let (finality, roll, members) = prove(world, &names, writes);
        UnreviewedProof::new(finality, roll, members).to_bytes()
    })
}

/// The members, more often than not; else any names, which may stand twice and out of order.
fn names(rng: &mut StdRng) -> Vec<OrgId> {
    if rng.random_bool(0.6) {
        return ORGS.iter().map(|(org, _)| org.parse().unwrap()).collect();
    }
    (0..rng.random_range(0..6)).map(|_| bodies::org(rng)).collect()
}

/// A count of any members, of whom some values are missing or bent.
fn counted(world: &World, rng: &mut StdRng) -> Counted {
    let names = names(rng);
    let mut writes = writes(&names, any_role, rng);
    for value in writes.values_mut() {
        if rng.random_bool(0.05) {
            *value = value.as_deref().map(|value| bent(value, rng));
        } else if rng.random_bool(0.05) {
            *value = None;
        }
    }
    prove(world, &names, writes)
}

/// The roll of these members, and a value for each of them.
fn writes(names: &[OrgId], role: fn(&mut StdRng) -> u64, rng: &mut StdRng) -> BTreeMap<Key, Option<Vec<u8>>> {
    let voters: Vec<(&OrgId, u64)> = names.iter().map(|org| (org, role(rng))).collect();
    // Encoded as the state's `Roll` is.
    let mut writes = BTreeMap::from([(roll_key(), Some(to_cbor(&(voters,))))]);
    for org in names {
        let key = entry_key(org.as_str()).verifying_key().to_bytes().into();
        writes.insert(organisation_key(org), Some(to_cbor(&bodies::member(key, rng))));
    }
    writes
}

fn role(rng: &mut StdRng) -> u64 {
    rng.random_range(0..4)
}

/// Now and then one that there is not.
fn any_role(rng: &mut StdRng) -> u64 {
    if rng.random_bool(0.03) { integer(rng) } else { role(rng) }
}

fn prove(world: &World, names: &[OrgId], writes: BTreeMap<Key, Option<Vec<u8>>>) -> Counted {
    let mut sealed = world.sealed();
    sealed.writes.push(writes);
    let keys: Vec<Key> = [roll_key()].into_iter().chain(names.iter().map(organisation_key)).collect();
    let (finality, proofs) = sealed.prove_keys(&keys);
    let mut proofs = proofs.into_iter().map(|proof| match proof {
        Proven::Value(proof) => proof,
        // That there is no value is no proof of one.
        Proven::Absent(proof) => StateProof { value: Vec::new(), proof },
    });
    (finality, proofs.next().unwrap(), proofs.collect())
}

/// One change that takes no key; some pieces are those of another honest file.
fn spoiled(good: &Counted, donor: &Counted, rng: &mut StdRng) -> Counted {
    let (mut finality, mut roll, mut members) = good.clone();
    let choice = rng.random_range(0..11);
    match choice {
        0 => finality = donor.0.clone(),
        1 => roll = donor.1.clone(),
        2 => members.clone_from(&donor.2),
        3 => roll.value = bent(&roll.value, rng),
        _ => {}
    }
    if members.is_empty() {
        members.push(roll.clone());
        return (finality, roll, members);
    }
    let (i, j) = (rng.random_range(0..members.len()), rng.random_range(0..members.len()));
    match choice {
        4 => drop(members.remove(i)),
        5 => members.insert(i, members[j].clone()),
        6 => members.swap(i, j),
        7 => members[i].value = members[j].value.clone(),
        8 => members[i].value = bent(&members[i].value, rng),
        9 => members[i].proof = bent(&members[i].proof, rng),
        10 => members[i] = roll.clone(),
        _ => {}
    }
    (finality, roll, members)
}
