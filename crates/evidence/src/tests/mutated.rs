//! Mutated bundles: none is accepted, unless the report is the same to the letter.

use super::world::{World, three_months};
use crate::{Limits, Log, Parts, Report, assemble, verify};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const SEED: u64 = 0x5eed_2026;
/// Mutations of the file.
const BYTE_MUTATIONS: usize = 30_000;
/// Mutations of what the file says, encoded anew.
const PART_MUTATIONS: usize = 6_000;

#[test]
fn no_mutated_file_is_accepted_with_another_meaning() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let (world, other) = worlds();
    let (good, donor) = (assemble(world.prove()).to_bytes(), assemble(other.prove()).to_bytes());
    let report = verify(&good, &world.id(), &Limits::default()).unwrap();
    let mut accepted = 0;
    for _ in 0..BYTE_MUTATIONS {
        let mutated = mutate_bytes(&good, &donor, &mut rng);
        accepted += usize::from(accept(&world, &mutated, &report, seed));
    }
    println!("{BYTE_MUTATIONS} mutated files, seed {seed:#x}: {accepted} accepted, with the same report");
}

#[test]
fn no_rearranged_bundle_is_accepted_with_another_meaning() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed ^ 1);
    let (world, other) = worlds();
    let (good, donor) = (world.prove(), other.prove());
    let original = assemble(good.clone()).to_bytes();
    let report = verify(&original, &world.id(), &Limits::default()).unwrap();
    let mut accepted = 0;
    for _ in 0..PART_MUTATIONS {
        let mutated = mutate_parts(&good, &donor, &mut rng);
        let bytes = assemble(mutated).to_bytes();
        // Opening fewer records or links is no forgery: the report then says so.
        accepted += usize::from(bytes != original && accept(&world, &bytes, &report, seed));
    }
    println!("{PART_MUTATIONS} rearranged bundles, seed {seed:#x}: {accepted} accepted, with the same report");
}

fn accept(world: &World, bytes: &[u8], report: &Report, seed: u64) -> bool {
    match verify(bytes, &world.id(), &Limits::default()) {
        Err(_) => false,
        Ok(other) => {
            assert_eq!(other, *report, "seed {seed:#x}");
            true
        }
    }
}

/// Two honest worlds of one consortium: the second goes on where the first ends.
fn worlds() -> (World, World) {
    let world = three_months();
    let mut other = world.clone();
    other.block(None);
    other.record("mercy", "Patient/p1", "married");
    other.access("ambulance");
    (world, other)
}

fn seed() -> u64 {
    std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED)
}

fn mutate_bytes(good: &[u8], donor: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..7) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = bytes[at].wrapping_add(rng.random_range(1..=255)),
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        4 => bytes.insert(at, rng.random()),
        5 => {
            // A piece of another honest file in the place of a piece of the same length.
            let length = rng.random_range(1..=128.min(bytes.len() - at));
            let from =
                if rng.random() { at.min(donor.len() - length) } else { rng.random_range(0..=donor.len() - length) };
            bytes[at..at + length].copy_from_slice(&donor[from..from + length]);
            if bytes == good {
                bytes[at] ^= 1;
            }
        }
        _ => {
            let length = rng.random_range(1..=64.min(bytes.len() - at));
            let piece = bytes[at..at + length].to_vec();
            let to = rng.random_range(0..bytes.len() - length);
            bytes[to..to + length].copy_from_slice(&piece);
            if bytes == good {
                bytes[to] ^= 1;
            }
        }
    }
    bytes
}

/// Every change here forges something: what a prover may leave out freely is left alone.
fn mutate_parts(good: &Parts, donor: &Parts, rng: &mut StdRng) -> Parts {
    let mut parts = good.clone();
    let month = rng.random_range(0..parts.months.len());
    let pick = rng.random_range(0..donor.months.len());
    match rng.random_range(0..12) {
        0 => parts.finality = donor.finality.clone(),
        1 => parts.finality.certificate = donor.finality.certificate.clone(),
        2 => parts.months[month] = donor.months[pick].clone(),
        3 => parts.months[month].pseudonym = donor.months[pick].pseudonym,
        4 => parts.months[month].month = donor.months[pick].month,
        5 => {
            let item = rng.random_range(0..parts.opened.len());
            let other = rng.random_range(0..donor.opened.len());
            match rng.random_range(0..4) {
                0 => parts.opened[item].bytes = donor.opened[other].bytes.clone(),
                1 => parts.opened[item].salt = donor.opened[other].salt,
                2 => parts.opened[item].record = donor.opened[other].record.clone(),
                _ => parts.opened[item].version = rng.random_range(0..4),
            }
        }
        6 => parts.policies.access = donor.policies.access.clone(),
        choice => {
            let (Log::Present { head, entries, links }, Log::Present { head: head2, entries: entries2, .. }) =
                (&mut parts.months[month].log, &donor.months[pick].log)
            else {
                unreachable!("all three months have entries")
            };
            let (i, j) = (rng.random_range(0..entries.len()), rng.random_range(0..entries.len()));
            match choice {
                7 => entries.swap(i, j),
                8 => drop(entries.remove(i)),
                9 => entries[i] = entries2[rng.random_range(0..entries2.len())].clone(),
                10 if rng.random() => head.value = head2.value.clone(),
                10 => head.proof = head2.proof.clone(),
                _ => match rng.random_range(0..4) {
                    0 => entries[i].height = entries[i].height.wrapping_add(rng.random_range(0..3)),
                    1 => entries[i].time.0 ^= 1 << rng.random_range(0..20),
                    2 => links[0].opening.count ^= 1 << rng.random_range(0..4),
                    _ => links[0].entry ^= rng.random_range(0..3),
                },
            }
        }
    }
    parts
}
