//! Bytes from outside: no bytes make admission or the readers of recordings panic, also when the device's key signed them.
//!
//! The inputs are random, and cut and changed from good ones. `VITALTRACE_SEED` gives another seed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; the seed is said")]

#[path = "outside_bytes/target.rs"]
mod target;

use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};
use record::TimeMs;
use sensing::{
    Frame, Pack, Sequence,
    generated::{Story, Wearer},
};
use target::{DEVICE, NOW, attempt, key};

const SEED: u64 = 0x5eed_2026;
const RANDOM: usize = 4_000;
const MUTATED: usize = 4_000;

fn rng(purpose: u8) -> TestRng {
    let seed = std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    println!("seed {seed:#x}");
    let mut bytes = [purpose; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

fn below(rng: &mut TestRng, bound: usize) -> usize {
    rng.next_u64() as usize % bound
}

/// The payload of a frame: what stands between the envelope's head and the signature.
fn payload(frame: &Frame) -> Vec<u8> {
    let envelope = target::enveloped(&[]);
    // The head's length without the payload's own two or three bytes of length; an empty payload has one.
    let head = envelope.len() - 66 - 1;
    let at = head + if frame.bytes()[head] == 0x59 { 3 } else { 2 };
    frame.bytes()[at..frame.bytes().len() - 66].to_vec()
}

/// A frame with a few of the signals of a second.
fn good(rng: &mut TestRng, wearer: &mut Wearer) -> Frame {
    let mut signals = wearer.next_second().signals;
    while signals.len() > 3 {
        signals.swap_remove(below(rng, signals.len()));
    }
    let frame = Sequence::new(DEVICE.parse().unwrap(), key().clone()).next(TimeMs(NOW.0 - 40), signals).unwrap();
    let pack: Pack = frame.into_pack();
    Frame::sign(pack, key()).unwrap()
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = rng(1);
    for _ in 0..RANDOM {
        let mut bytes = vec![0; below(&mut rng, 512)];
        rng.fill_bytes(&mut bytes);
        attempt(&bytes);
    }
}

#[test]
fn what_a_device_signs_never_panics_and_a_batch_judges_as_single_checks_do() {
    let mut rng = rng(2);
    let mut wearer = Wearer::new(1, Story::Stable, 50);
    let mut admitted = 0;
    for _ in 0..MUTATED {
        let frame = good(&mut rng, &mut wearer);
        let mut bytes = if below(&mut rng, 4) == 0 { frame.bytes().to_vec() } else { payload(&frame) };
        assert_eq!(attempt(&bytes), 1, "a good frame is admitted");
        for _ in 0..=below(&mut rng, 3) {
            let at = below(&mut rng, bytes.len());
            match below(&mut rng, 4) {
                0 => bytes[at] ^= 1 << below(&mut rng, 8),
                1 => bytes[at] = [0, 0x17, 0x18, 0x1b, 0x7f, 0x80, 0x9f, 0xc4, 0xf6, 0xfb, 0xff][below(&mut rng, 11)],
                2 => _ = bytes.remove(at),
                _ => bytes.insert(at, [0, 0x18, 0x3b, 0x80, 0xf6, 0xff][below(&mut rng, 6)]),
            }
        }
        admitted += attempt(&bytes);
    }
    println!("{MUTATED} mutated inputs: {admitted} admitted");
    assert!(admitted > 0, "no mutation is admitted: they are no good");
}
