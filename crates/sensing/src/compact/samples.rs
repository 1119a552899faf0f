//! Samples as what a polynomial through the ones before did not foresee, in Rice codes (Robinson, Shorten, CUED/F-INFENG/TR.156, 1994).

use super::{
    Bad,
    bits::{Reader, Writer, folded, rice_bits, unfolded},
};

/// The highest degree but one of the polynomials: 0 foresees nothing, 1 the last sample, 2 the line through two, 3 the parabola through three.
const ORDERS: usize = 4;
/// Samples with one parameter of the code.
const BLOCK: usize = 64;
/// The greatest parameter of the code.
const K_MAX: u32 = 31;

/// The three samples before, the last one first.
pub(super) type Before = [i64; 3];

/// What is foreseen.
fn foreseen(order: usize, before: &Before) -> i64 {
    let [a, b, c] = *before;
    match order {
        0 => 0,
        1 => a,
        2 => 2 * a - b,
        _ => 3 * a - 3 * b + c,
    }
}

fn push(before: &mut Before, sample: i64) {
    *before = [sample, before[0], before[1]];
}

/// What was not foreseen of each sample.
fn errors(samples: &[i32], order: usize, mut before: Before) -> Vec<u64> {
    let error = |&sample: &i32| {
        let error = i64::from(sample) - foreseen(order, &before);
        push(&mut before, sample.into());
        folded(error)
    };
    samples.iter().map(error).collect()
}

/// The parameter under which a block is shortest.
fn best_k(errors: &[u64]) -> u32 {
    let bits = |k: u32| errors.iter().map(|&error| rice_bits(error, k)).sum::<u64>();
    // The code is shortest near the binary logarithm of the mean.
    let mean = errors.iter().sum::<u64>() / errors.len().max(1) as u64;
    let near = mean.checked_ilog2().unwrap_or(0).min(K_MAX);
    (near.saturating_sub(1)..=(near + 1).min(K_MAX)).min_by_key(|k| bits(*k)).unwrap_or(near)
}

/// Writes samples without missing ones, and leaves the last three in `before`.
pub(super) fn write(out: &mut Writer, samples: &[i32], before: &mut Before) {
    // The degree with the least sum of errors; trying the code under each makes it less than a hundredth shorter, and takes three times as long.
    let tried = (0..ORDERS).map(|order| (order, errors(samples, order, *before)));
    let Some((order, errors)) = tried.min_by_key(|(_, errors)| errors.iter().sum::<u64>()) else { return };
    out.bits(order as u64, 2);
    for errors in errors.chunks(BLOCK) {
        let k = best_k(errors);
        out.bits(k.into(), 5);
        errors.iter().for_each(|&error| out.rice(error, k));
    }
    samples.iter().for_each(|&sample| push(before, sample.into()));
}

/// Reads `count` samples.
pub(super) fn read(from: &mut Reader<'_>, count: usize, before: &mut Before) -> Result<Vec<i32>, Bad> {
    let order = from.bits(2)? as usize;
    let mut samples = Vec::new();
    let mut k = 0;
    for at in 0..count {
        if at % BLOCK == 0 {
            k = from.bits(5)? as u32;
        }
        let error = unfolded(from.rice(k)?);
        let sample = foreseen(order, before).checked_add(error).and_then(|sample| i32::try_from(sample).ok());
        let sample = sample.ok_or(Bad::Number)?;
        push(before, sample.into());
        samples.push(sample);
    }
    Ok(samples)
}
