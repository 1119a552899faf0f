//! Measures against what they are by definition, computed here in another way.

use super::*;
use crate::recorded::{Chance, shared};
use sensing::wfdb::annotations;
use std::{f64::consts::TAU, fs};

/// Intervals one after the other, all normal.
fn series(intervals_s: &[f64]) -> Vec<Nn> {
    let mut at_s = 0.0;
    let mut before_s = None;
    let mut next = |&interval_s: &f64| {
        at_s += interval_s;
        let difference_s = before_s.replace(interval_s).map(|before_s| interval_s - before_s);
        Nn { at: TimeMs((at_s * 1_000.0_f64).round() as u64), interval_s, difference_s }
    };
    intervals_s.iter().map(&mut next).collect()
}

fn time_domain(intervals_s: &[f64]) -> TimeDomain {
    let mut out = TimeDomain::default();
    series(intervals_s).iter().for_each(|nn| out.add(nn));
    out
}

fn near(got: f64, expected: f64, share: f64) {
    assert!((got - expected).abs() <= share * expected.abs(), "{got}, expected {expected}");
}

#[test]
fn five_intervals_have_the_measures_that_a_pencil_gives() {
    let found = time_domain(&[0.800, 0.850, 0.790, 0.860, 0.800]);
    near(found.intervals.mean(), 0.820, 1e-12);
    // Deviations -20, 30, -30, 40, -20 ms: squares add up to 4200, over four.
    near(found.intervals.deviation().unwrap(), 0.001_05f64.sqrt(), 1e-9);
    // Differences 50, -60, 70, -60 ms: squares add up to 14600, over four; three are above 50 ms.
    near(found.rmssd_s().unwrap(), 0.003_65f64.sqrt(), 1e-9);
    assert_eq!(found.pnn50(), Some(0.75));
}

#[test]
fn measures_of_random_intervals_are_those_of_their_definitions() {
    let mut chance = Chance(91);
    let intervals_s: Vec<f64> = (0..500).map(|_| 0.85 + 0.05 * chance.normal()).collect();
    let found = time_domain(&intervals_s);
    let mean = intervals_s.iter().sum::<f64>() / 500.0;
    let variance = intervals_s.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 499.0;
    let differences: Vec<f64> = intervals_s.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let rmssd = (differences.iter().map(|d| d * d).sum::<f64>() / 499.0).sqrt();
    let pnn50 = differences.iter().filter(|d| d.abs() > 0.05).count() as f64 / 499.0;
    near(found.intervals.deviation().unwrap(), variance.sqrt(), 1e-9);
    near(found.rmssd_s().unwrap(), rmssd, 1e-9);
    near(found.pnn50().unwrap(), pnn50, 1e-12);
}

#[test]
fn the_triangle_of_a_triangular_histogram_is_the_histogram() {
    let mut histogram = Histogram::default();
    // 12 bins up and 20 down: counts fall by 60/12 and 60/20 a bin from 60 at the top.
    let mut all = 0;
    for bin in 0..BINS as i64 {
        let count = if bin <= 100 { 60 - 5 * (100 - bin) } else { 60 - 3 * (bin - 100) };
        for _ in 0..count.max(0) {
            histogram.add((bin as f64 + 0.5) * BIN_S);
            all += 1;
        }
    }
    assert_eq!(histogram.tinn_s(), Some(32.0 * BIN_S));
    assert_eq!(histogram.triangular_index(), Some(f64::from(all) / 60.0));
    assert_eq!((Histogram::default().tinn_s(), Histogram::default().triangular_index()), (None, None));
}

/// Intervals of five minutes that swing around 0.8 s, each swing with an amplitude and a frequency.
fn swinging(swings: &[(f64, f64)]) -> Vec<Nn> {
    let mut intervals_s = Vec::new();
    let mut at_s = 0.0;
    while at_s < 300.0 {
        // The interval that ends at the time that it helps to make: a few steps find it.
        let swing = |end_s: f64| 0.8 + swings.iter().map(|(a, f)| a * (TAU * f * end_s).cos()).sum::<f64>();
        let interval_s = (0..20).fold(0.8, |interval_s, _| swing(at_s + interval_s));
        intervals_s.push(interval_s);
        at_s += interval_s;
    }
    series(&intervals_s)
}

#[test]
fn a_swing_has_half_its_squared_amplitude_as_power_in_its_band() {
    let found = bands(&swinging(&[(0.03, 0.02), (0.04, 0.1), (0.02, 0.25)]), 300.0).unwrap();
    println!("{found:?}");
    near(found.very_low, 0.03f64.powi(2) / 2.0, 0.06);
    near(found.low, 0.04f64.powi(2) / 2.0, 0.06);
    near(found.high, 0.02f64.powi(2) / 2.0, 0.06);
    let alone = bands(&swinging(&[(0.04, 0.1)]), 300.0).unwrap();
    assert!(alone.high < 0.02 * alone.low && alone.very_low < 0.02 * alone.low, "{alone:?}");
}

#[test]
fn missing_beats_change_the_spectrum_little() {
    let mut intervals = swinging(&[(0.04, 0.1), (0.02, 0.25)]);
    let before = intervals.len();
    // Three stretches of twelve seconds, as movements have it.
    let lost = [40_000..52_000, 130_000..142_000, 251_000..263_000];
    intervals.retain(|nn| !lost.iter().any(|lost| lost.contains(&nn.at.0)));
    assert!(intervals.len() < before * 9 / 10);
    let found = bands(&intervals, 300.0).unwrap();
    near(found.low, 0.04f64.powi(2) / 2.0, 0.15);
    // Some of the greater swing leaks through the gaps.
    near(found.high, 0.02f64.powi(2) / 2.0, 0.25);
    assert_eq!(bands(&intervals[..50], 300.0), None);
}

#[test]
fn all_frequencies_together_have_the_variance() {
    // Evenly spaced, the periodogram is that of the discrete Fourier transform, computed here plainly.
    let mut chance = Chance(93);
    let values: Vec<f64> = (0..300).map(|_| 0.03 * chance.normal()).collect();
    let intervals: Vec<Nn> = values
        .iter()
        .enumerate()
        .map(|(n, value)| Nn { at: TimeMs(n as u64 * 1_000), interval_s: 0.9 + value, difference_s: None })
        .collect();
    let found = bands(&intervals, 300.0).unwrap();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let slope = values.iter().enumerate().map(|(n, v)| (n as f64 - middle) * (v - mean)).sum::<f64>()
        / (0..300).map(|n| (f64::from(n) - middle).powi(2)).sum::<f64>();
    let power = |multiple: usize| {
        let part = |wave: fn(f64) -> f64| {
            let term = |(n, v): (usize, &f64)| {
                (v - mean - slope * (n as f64 - middle)) * wave(TAU * (multiple * n) as f64 / count)
            };
            values.iter().enumerate().map(term).sum::<f64>()
        };
        2.0 * (part(f64::cos).powi(2) + part(f64::sin).powi(2)) / count.powi(2)
    };
    near(found.very_low, (1..=12).map(power).sum(), 1e-6);
    near(found.low, (13..=45).map(power).sum(), 1e-6);
    near(found.high, (46..=120).map(power).sum(), 1e-6);
}

fn beat(at_s: f64, interval_s: Option<f64>, class: BeatClass) -> Heard {
    Heard { at: TimeMs((at_s * 1_000.0) as u64), interval_s, class, likeness: 1.0 }
}

#[test]
fn only_intervals_between_normal_beats_count() {
    let (n, v) = (BeatClass::Normal, BeatClass::Ventricular);
    let mut normal = Normal::default();
    let mut seen = Vec::new();
    let beats = [(0.8, n), (0.8, n), (0.8, n), (0.5, v), (1.1, n), (0.8, n), (0.55, n), (1.05, n), (0.82, n), (0.8, n)];
    let mut at_s = 0.0;
    for (interval_s, class) in beats {
        at_s += interval_s;
        let found = normal.next(&beat(at_s, Some(interval_s), class));
        seen.push(found.map(|nn| (nn.interval_s, nn.difference_s.is_some())));
    }
    // The first beat has no known beat before it; around the ventricular beat and the premature one nothing counts, nor differences across them.
    let (alone, after) = (Some((0.8, false)), Some((0.8, true)));
    assert_eq!(seen, [None, alone, after, None, None, alone, None, None, Some((0.82, false)), after]);
}

#[test]
fn a_rate_that_stays_changed_counts_again() {
    let mut normal = Normal::default();
    let seen: Vec<bool> = [0.9, 0.9, 0.6, 0.6, 0.6, 0.6, 0.6]
        .iter()
        .map(|&interval_s| normal.next(&beat(0.0, Some(interval_s), BeatClass::Normal)).is_some())
        .collect();
    assert_eq!(seen, [false, true, false, false, false, true, true]);
}

#[test]
fn a_day_of_sinus_rhythm_has_the_variability_of_a_healthy_heart() {
    let Some(folder) = shared("rr") else { return };
    let labels = annotations(&fs::read(folder.join("nsr001.ecg")).unwrap()).unwrap();
    let mut normal = Normal::default();
    let (mut day, mut histogram, mut windows) = (TimeDomain::default(), Histogram::default(), Vec::new());
    let mut before_s = None;
    for label in labels.iter().filter(|label| label.is_beat()) {
        let at_s = label.sample as f64 / 128.0;
        let interval_s = before_s.replace(at_s).map(|before_s| at_s - before_s);
        let class = if label.symbol() == 'N' { BeatClass::Normal } else { BeatClass::Ventricular };
        if let Some(nn) = normal.next(&beat(at_s, interval_s, class)) {
            day.add(&nn);
            histogram.add(nn.interval_s);
            let window = (at_s / 300.0) as usize;
            windows.resize(windows.len().max(window + 1), Spread::default());
            windows[window].add(nn.interval_s);
        }
    }
    let mut means = Spread::default();
    windows.iter().filter(|window| window.count() > 200).for_each(|window| means.add(window.mean()));
    let ms = |value: Option<f64>| value.unwrap() * 1_000.0;
    let (sdnn, sdann) = (ms(day.intervals.deviation()), ms(means.deviation()));
    let index = histogram.triangular_index().unwrap();
    println!(
        "nsr001: SDNN {sdnn:.0} ms, SDANN {sdann:.0} ms, RMSSD {:.0} ms, triangular index {index:.0}, TINN {:.0} ms",
        ms(day.rmssd_s()),
        ms(histogram.tinn_s())
    );
    // Normal values of the Task Force, three deviations: SDNN 141 (39), SDANN 127 (35), RMSSD 27 (12), index 37 (15).
    assert!((24.0..=258.0).contains(&sdnn) && (22.0..=232.0).contains(&sdann) && sdann < sdnn);
    assert!((3.0..=63.0).contains(&ms(day.rmssd_s())) && (5.0..=82.0).contains(&index));
}
