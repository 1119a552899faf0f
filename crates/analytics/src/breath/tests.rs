//! Breaths against two annotators, and against what generated signals say.

use super::*;
use crate::{
    recordings::{BIDMC_HZ, Bidmc, Breathing, Chance, column, text},
    reference::{errors, rate_per_min},
};
use std::f64::consts::PI;

fn found(values: &[f64], rate_hz: f64) -> Vec<f64> {
    let mut breaths = Breaths::new(rate_hz, BreathParameters::STANDARD).unwrap();
    values.iter().filter_map(|value| breaths.push(*value)).map(|breath| breath.at_s).collect()
}

#[test]
fn breaths_of_bidmc_01_agree_with_both_annotators() {
    let record = Bidmc::read();
    let breaths = found(&record.impedance, BIDMC_HZ);
    for (n, annotated) in record.annotated_s.iter().enumerate() {
        let windows: Vec<(f64, f64)> = (0..15)
            .filter_map(|window| {
                let from = f64::from(window) * 32.0;
                Some((rate_per_min(&breaths, from, 32.0)?, rate_per_min(annotated, from, 32.0)?))
            })
            .collect();
        let (mean, max) = errors(&windows).unwrap();
        println!(
            "{} impedance: {} breaths, annotator {} has {}; {} windows, MAE {mean:.3} /min, max {max:.3}",
            record.name,
            breaths.len(),
            n + 1,
            annotated.len(),
            windows.len()
        );
        assert!(windows.len() == 15 && mean <= 0.10, "{windows:?}");
    }
}

#[test]
fn breaths_of_a_belt_have_no_doubles() {
    let Some(belt) = text("ppg_resp/biosppy_resp.txt") else { return };
    let breaths = found(&column(&belt, 0, '\t'), 1_000.0);
    println!("belt of 60 s: {} breaths at {breaths:.1?}", breaths.len());
    assert!(breaths.windows(2).all(|pair| pair[1] - pair[0] > 1.5) && breaths.len() >= 12);
}

#[test]
fn generated_breathing_is_counted_at_every_rate() {
    for rate_hz in [10.0, 25.0, 125.0, 500.0] {
        for breaths_per_min in [6.0, 10.0, 16.0, 24.0, 34.0, 45.0] {
            let breathing = Breathing { rate_hz, breaths_per_min, pulse_per_min: 80.0, seconds: 128, seed: 5 };
            let breaths = found(&breathing.impedance(), rate_hz);
            let pairs: Vec<(f64, f64)> = (0..4)
                .filter_map(|w| Some((rate_per_min(&breaths, f64::from(w) * 32.0, 32.0)?, breaths_per_min)))
                .collect();
            let (mean, max) = errors(&pairs).unwrap();
            assert!(mean <= 0.15 && max <= 0.4, "seed 5, {rate_hz} Hz, {breaths_per_min} /min: {pairs:.2?}");
        }
    }
}

#[test]
fn breathing_that_becomes_shallow_is_followed() {
    let breathing = Breathing { rate_hz: 25.0, breaths_per_min: 15.0, pulse_per_min: 70.0, seconds: 180, seed: 6 };
    let shallow = |(n, value): (usize, f64)| if n > 25 * 60 { 500.0 + (value - 500.0) * 0.25 } else { value };
    let values: Vec<f64> = breathing.impedance().into_iter().enumerate().map(shallow).collect();
    let breaths = found(&values, 25.0);
    let rate = rate_per_min(&breaths, 100.0, 64.0).unwrap();
    assert!((rate - 15.0).abs() < 0.3, "seed 6: {rate}");
}

#[test]
fn a_flat_line_has_no_breaths_and_no_number_does_no_harm() {
    assert_eq!(found(&[0.3; 10_000], 125.0), [0.0f64; 0]);
    let values: Vec<f64> = (0..10_000).map(|n| [f64::NAN, f64::INFINITY, 1e300, 0.0][n % 4]).collect();
    found(&values, 125.0);
    assert!(Breaths::new(f64::NAN, BreathParameters::STANDARD).is_none());
    assert!(Breaths::new(1.0, BreathParameters::STANDARD).is_none());
}

/// A chest that breathes irregularly: each breath lasts and is as deep as chance says, hearts beat in it, it moves, and it pauses.
fn irregular(seed: u64, rate_per_min: f64, heart: f64, steps: bool) -> (Vec<f64>, Vec<f64>) {
    let mut chance = Chance(seed);
    let (mut values, mut truth, mut offset) = (Vec::new(), Vec::new(), 500.0);
    let heart_hz = 1.1 + 0.5 * chance.unit();
    while values.len() < 25 * 192 {
        let length = (60.0 / rate_per_min * (1.0 + 0.15 * chance.normal())).max(0.9);
        let depth = (1.0 + 0.25 * chance.normal()).clamp(0.5, 2.5);
        let began = values.len();
        if steps && chance.unit() < 0.05 {
            offset += 3.0 * chance.normal();
        }
        for n in 0..(length * 25.0) as usize {
            let phase = n as f64 / (length * 25.0);
            let breath = if phase < 0.4 {
                0.5 - 0.5 * (PI * phase / 0.4).cos()
            } else {
                0.5 + 0.5 * (PI * (phase - 0.4) / 0.6).cos()
            };
            let at = values.len() as f64 / 25.0;
            values.push(offset + depth * breath + heart * (2.0 * PI * heart_hz * at).sin() + 0.03 * chance.normal());
        }
        truth.push((began as f64 + 0.4 * length * 25.0) / 25.0);
    }
    (values, truth)
}

#[test]
fn irregular_breathing_is_counted() {
    for (heart, steps, limit) in [(0.0, false, 0.3), (0.15, false, 0.4), (0.3, false, 0.6), (0.15, true, 0.9)] {
        let mut pairs = Vec::new();
        for seed in 0..40 {
            let (values, truth) = irregular(seed, 10.0 + seed as f64 / 2.0, heart, steps);
            let breaths = found(&values, 25.0);
            for window in 0..6 {
                let from = f64::from(window) * 32.0;
                if let (Some(rate), Some(true_rate)) =
                    (rate_per_min(&breaths, from, 32.0), rate_per_min(&truth, from, 32.0))
                {
                    pairs.push((rate, true_rate));
                }
            }
        }
        let (mean, max) = errors(&pairs).unwrap();
        println!(
            "seeds 0 to 39, heart {heart}, steps {steps}: {} windows, MAE {mean:.3} /min, max {max:.2}",
            pairs.len()
        );
        assert!(mean <= limit);
    }
}
