//! Mutated bundles: none is accepted, unless the report is the same to the letter.

use super::{
    mutate::{mutate_bytes, mutate_parts, mutate_shown},
    world::{Shown, World, following, rounds, three_months, whole_night},
};
use crate::{Limits, Parts, Report, assemble, verify};
use rand::{SeedableRng as _, rngs::StdRng};

const SEED: u64 = 0x5eed_2026;
/// Mutations of the file.
const BYTE_MUTATIONS: usize = 30_000;
/// Mutations of a file with all that can be shown; with the others they are 100,000.
const SHOWN_MUTATIONS: usize = 64_000;
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
fn no_mutated_file_with_all_that_can_be_shown_is_accepted_with_another_meaning() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed ^ 2);
    let (world, binding) = rounds();
    let mut other = world.clone();
    other.block(None);
    other.record("mercy", "Patient/p1", "moved");
    let mut accepted = 0;
    // All of it, and the part of a range of heights.
    for range in [None, Some((3, 4))] {
        let shown = |world: &World| world.prove_shown(&Shown { range, ..whole_night(world, binding) });
        accepted += shown_otherwise(&world, &shown(&world), &shown(&other), seed, &mut rng);
    }
    println!("{SHOWN_MUTATIONS} mutated files, seed {seed:#x}: {accepted} accepted, with the same report");
}

/// Mutates a file with all that can be shown; how many mutants were accepted.
fn shown_otherwise(world: &World, parts: &Parts, donor: &Parts, seed: u64, rng: &mut StdRng) -> usize {
    let (good, donor_file) = (assemble(parts.clone()).to_bytes(), assemble(donor.clone()).to_bytes());
    let report = verify(&good, &world.id(), &Limits::default()).unwrap();
    assert!(report.current.len() > 1 && !report.devices.is_empty() && report.witnesses.len() == 4);
    assert_eq!(report.ledger_log.placed, report.entry_count);
    assert_eq!(report.gathered_shown, 3);
    let mut accepted = 0;
    for _ in 0..SHOWN_MUTATIONS / 2 {
        let mutated = mutate_bytes(&good, &donor_file, rng);
        accepted += usize::from(accept(world, &mutated, &report, seed));
    }
    // What is shown otherwise is refused, unless it was left out.
    for _ in 0..SHOWN_MUTATIONS / 64 {
        let changed = mutate_shown(parts, donor, rng);
        let words = |parts: &Parts| parts.witnesses.iter().filter(|witness| witness.word.is_some()).count();
        let left_out = changed.places.len() < parts.places.len() || words(&changed) < words(parts);
        let left_out = left_out || changed.witnesses.len() < parts.witnesses.len();
        let left_out = left_out || changed.accesses.len() < parts.accesses.len();
        let bytes = assemble(changed).to_bytes();
        assert!(
            left_out
                || bytes == good
                || !verify(&bytes, &world.id(), &Limits::default()).is_ok_and(|new| new != report),
            "seed {seed:#x}"
        );
    }
    accepted
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

/// The report without the tags of records that were never written: the same proof holds for other tags, of which it is as true.
pub(crate) fn without_absent(report: &Report) -> Report {
    let mut report = report.clone();
    report.current.retain(|current| current.version.is_some());
    report
}

fn accept(world: &World, bytes: &[u8], report: &Report, seed: u64) -> bool {
    match verify(bytes, &world.id(), &Limits::default()) {
        Err(_) => false,
        Ok(other) => {
            assert_eq!(without_absent(&other), without_absent(report), "seed {seed:#x}");
            true
        }
    }
}

/// Two honest worlds of one consortium: the second goes on where the first ends.
fn worlds() -> (World, World) {
    let world = three_months();
    let other = following(&world);
    (world, other)
}

fn seed() -> u64 {
    std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED)
}
