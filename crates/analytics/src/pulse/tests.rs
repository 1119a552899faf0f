//! Pulses against the ECG of the same recording, and against what generated signals say.

use super::*;
use crate::{
    Qrs, QrsParameters,
    recordings::{BIDMC_HZ, Bidmc, Breathing, Chance, column, text},
    reference::{errors, rate_per_min},
};

fn found(values: &[f64], rate_hz: f64) -> Vec<Pulse> {
    let mut pulses = Pulses::new(rate_hz, PulseParameters::STANDARD).unwrap();
    values.iter().filter_map(|value| pulses.push(*value)).collect()
}

#[test]
fn the_pulse_rate_of_bidmc_01_is_the_heart_rate_of_its_ecg() {
    let record = Bidmc::read();
    let mut qrs = Qrs::new(BIDMC_HZ, QrsParameters::STANDARD).unwrap();
    let mut beats = Vec::new();
    qrs.extend(record.lead_ii.iter().copied(), |beat| beats.push(beat.sample as f64 / BIDMC_HZ));
    beats.extend(qrs.finish().iter().map(|beat| beat.sample as f64 / BIDMC_HZ));
    beats.sort_by(f64::total_cmp);
    let pulses = found(&record.pleth, BIDMC_HZ);
    let windows: Vec<(f64, f64)> = (0..15)
        .filter_map(|window| {
            let from = f64::from(window) * 32.0;
            let (rate, _) = pulse_rate(pulses.iter().filter(|pulse| (from..from + 32.0).contains(&pulse.at_s)))?;
            Some((rate, rate_per_min(&beats, from, 32.0)?))
        })
        .collect();
    let (mean, max) = errors(&windows).unwrap();
    println!(
        "{}: {} pulses, {} good, {} beats; pulse rate against ECG: {} windows, MAE {mean:.3} /min, max {max:.3}",
        record.name,
        pulses.len(),
        pulses.iter().filter(|pulse| pulse.good).count(),
        beats.len(),
        windows.len()
    );
    assert!(windows.len() == 15 && mean <= 0.8);
}

#[test]
fn most_pulses_of_clean_recordings_are_good() {
    // (file, column, separator, samples a second, least share of good pulses)
    for (name, at, separator, rate_hz, share) in [
        ("biosppy_ppg.txt", 0, '\t', 1_000.0, 0.6),
        ("heartpy_data.csv", 0, ',', 100.0, 0.6),
        ("heartpy_data2.csv", 1, ',', 117.0, 0.3),
    ] {
        let Some(text) = text(&format!("ppg_resp/{name}")) else { return };
        let values = column(&text, at, separator);
        let pulses = found(&values, rate_hz);
        let rate = pulse_rate(&pulses);
        println!(
            "{name}: {:.1} s, {} pulses, rate and good share {rate:.2?}",
            values.len() as f64 / rate_hz,
            pulses.len()
        );
        assert!(rate.unwrap().1 >= share);
    }
}

#[test]
fn generated_pulses_are_found_at_every_rate() {
    for rate_hz in [25.0, 50.0, 100.0, 125.0, 500.0] {
        for pulse_per_min in [35.0, 40.0, 60.0, 80.0, 110.0, 150.0, 180.0, 200.0] {
            let breathing = Breathing { rate_hz, breaths_per_min: 15.0, pulse_per_min, seconds: 120, seed: 8 };
            let expected: Vec<f64> = breathing.pulses_s().into_iter().filter(|at| (4.0..116.0).contains(at)).collect();
            let all = found(&breathing.pleth(), rate_hz);
            let pulses: Vec<&Pulse> = all.iter().filter(|pulse| (4.0..116.0).contains(&pulse.at_s)).collect();
            assert!(pulses.len().abs_diff(expected.len()) <= 1, "seed 8, {rate_hz} Hz, {pulse_per_min} /min");
            let good = pulses.iter().filter(|pulse| pulse.good).count();
            assert!(good * 10 >= pulses.len() * 9, "seed 8, {rate_hz} Hz, {pulse_per_min} /min: {good} good");
            let (rate, _) = pulse_rate(pulses.iter().copied()).unwrap();
            let truth = rate_per_min(&expected, 0.0, 120.0).unwrap();
            assert!((rate - truth).abs() < 0.5, "seed 8, {rate_hz} Hz: {rate} of {truth}");
        }
    }
}

#[test]
fn noise_has_hardly_a_good_pulse() {
    let mut chance = Chance(12);
    let mut last = 0.0;
    let values: Vec<f64> = (0..125 * 120)
        .map(|_| {
            last = 0.95 * last + chance.normal();
            last
        })
        .collect();
    let pulses = found(&values, 125.0);
    let good = pulses.iter().filter(|pulse| pulse.good).count();
    println!("seed 12: {good} of {} peaks of noise are good pulses", pulses.len());
    assert!(good * 10 <= pulses.len());
}

#[test]
fn a_flat_line_has_no_pulses_and_no_number_does_no_harm() {
    assert_eq!(found(&[0.3; 10_000], 125.0).len(), 0);
    let values: Vec<f64> = (0..10_000).map(|n| [f64::NAN, f64::INFINITY, 1e300, 0.0][n % 4]).collect();
    found(&values, 125.0);
    assert!(Pulses::new(f64::NAN, PulseParameters::STANDARD).is_none());
    assert!(Pulses::new(10.0, PulseParameters::STANDARD).is_none());
}
