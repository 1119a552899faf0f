//! Bytes from outside: no decoder takes two encodings for one thing, and nothing that is well-formed makes execution panic.
//!
//! The inputs are random, mutated, and cut and glued from good ones. `VITALTRACE_SEED` gives another seed.

#[path = "outside_bytes/target.rs"]
mod target;

use contract::{
    Block, Entry, HEADER_VERSION, Header, Holding, Signature, SignedSubmission, Submission, merkle::Frontier,
};
use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};
use record::{Digest, TimeMs};
use target::{Dice, attempt, decode, founders, play};

const SEED: u64 = 0x5eed_2026;
const RANDOM: usize = 2_000;
const MUTATED: usize = 20_000;
const INPUT_BYTES_MAX: usize = 2_048;

fn seed() -> u64 {
    std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED)
}

/// The generator for one purpose.
fn rng(seed: u64, purpose: u8) -> TestRng {
    let mut bytes = [purpose; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

fn below(rng: &mut TestRng, bound: usize) -> usize {
    rng.next_u64() as usize % bound
}

fn bytes(rng: &mut TestRng, max: usize) -> Vec<u8> {
    let mut bytes = vec![0; below(rng, max + 1)];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn entry(rng: &mut TestRng) -> Entry {
    let dice = bytes(rng, 128);
    Dice(&dice).entry(TimeMs(1_795_000_000_000))
}

fn submission(rng: &mut TestRng) -> SignedSubmission {
    let first = entry(rng);
    let mut entries: Vec<Entry> = (0..below(rng, 3)).map(|_| entry(rng)).collect();
    entries.iter_mut().for_each(|entry| entry.org = first.org.clone());
    let org = first.org.clone();
    entries.push(first);
    let submission = Submission { chain: founders().id(), org, lane: 0, first_seq: 1, entries };
    SignedSubmission::new(submission, Signature([7; 64]))
}

fn block(rng: &mut TestRng) -> Block {
    let (frontier, submissions) = (Frontier::default(), vec![submission(rng)]);
    let receipt = Holding { custodian: submissions[0].submission.org.clone(), signature: Signature([8; 64]) };
    let lists = [vec![], vec![vec![]], vec![vec![receipt; 2]]];
    let holdings = lists[below(rng, 3)].clone();
    let digest = Digest([9; 32]);
    let header = Header {
        version: HEADER_VERSION,
        chain: digest,
        epoch: 0,
        view: rng.next_u64(),
        leader: [1; 32].into(),
        parent_view: 24,
        parent: digest,
        height: 255,
        time: TimeMs(65_536),
        entry_count: submissions[0].submission.entries.len() as u32,
        body: Block::body_digest(&frontier, &submissions, &holdings),
        log_size: 0,
        log_root: digest,
        state_root: digest,
        ops_root: digest,
        ops_start: 0,
        ops_end: 1,
        validators: digest,

        next_validators: digest,
    };
    Block { header, frontier, submissions, holdings }
}

/// A good encoding of one of the formats.
fn good(rng: &mut TestRng) -> Vec<u8> {
    match below(rng, 5) {
        0 => entry(rng).to_bytes(),
        1 => submission(rng).to_bytes(),
        2 => block(rng).to_bytes(),
        3 => block(rng).header.to_bytes(),
        _ => {
            let mut genesis = founders();
            let key = |n: u8| ed25519_dalek::SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes().into();
            for (member, n) in genesis.members.iter_mut().zip(1..) {
                (member.entry_key, member.consensus_key) = (key(n), key(n + 100));
            }
            genesis.to_bytes()
        }
    }
}

/// A few bytes changed, removed, doubled, or taken from another good encoding.
fn mutate(rng: &mut TestRng, bytes: &mut Vec<u8>) {
    for _ in 0..=below(rng, 3) {
        let at = below(rng, bytes.len());
        match below(rng, 6) {
            0 => bytes[at] ^= 1 << below(rng, 8),
            1 => bytes[at] = [0, 0x17, 0x18, 0x7f, 0x80, 0x9f, 0xf6, 0xff][below(rng, 8)],
            2 => _ = bytes.remove(at),
            3 => bytes.insert(at, [0, 0x18, 0x80, 0xf6, 0xff][below(rng, 5)]),
            4 => bytes.truncate(at),
            _ => {
                let other = good(rng);
                let from = below(rng, other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn random_bytes_never_panic_and_entries_made_of_them_are_executed() {
    let seed = seed();
    println!("seed {seed:#x}");
    let mut rng = rng(seed, 1);
    let (mut taken, mut applied) = (0, 0);
    for _ in 0..RANDOM {
        let (formats, entries) = attempt(&bytes(&mut rng, INPUT_BYTES_MAX));
        (taken, applied) = (taken + formats, applied + entries);
    }
    println!("{RANDOM} random inputs: {taken} decoded, {applied} entries applied");
    assert!(applied > RANDOM, "hardly an entry is applied: the dice are no good");
}

#[test]
fn what_decodes_after_a_mutation_encodes_to_the_same_bytes() {
    let seed = seed();
    println!("seed {seed:#x}");
    let mut rng = rng(seed, 2);
    let mut taken = 0;
    for _ in 0..MUTATED {
        let mut bytes = good(&mut rng);
        assert_eq!(decode(&bytes), 1, "a good encoding is one of one format");
        mutate(&mut rng, &mut bytes);
        taken += decode(&bytes);
    }
    println!("{MUTATED} mutated inputs: {taken} decoded");
    assert!(taken > 0, "no mutation decodes: they are no good");
    assert_eq!(play(&[]), 0);
}
