//! Rates of generated modulations, alone, with noise, and without any.

use super::*;
use crate::recordings::Chance;

const WINDOW: (f64, f64) = (0.0, 32.0);

/// Beats at `pulse_per_min` that breathing at `breaths_per_min` moves by `strength`, with a second harmonic, drift and noise.
fn beats(pulse_per_min: f64, breaths_per_min: f64, strength: f64, seed: u64) -> Vec<Modulated> {
    let mut chance = Chance(seed);
    let (mut at_s, mut out, mut drift) = (0.1, Vec::new(), 0.0);
    while at_s < 32.0 {
        let phase = TAU * at_s * breaths_per_min / 60.0;
        let breath = strength * (phase.sin() + 0.3 * (2.0 * phase + 1.0).sin());
        drift += 0.03 * chance.normal();
        let interval_s = 60.0 / pulse_per_min * (1.0 + 0.04 * breath + 0.01 * chance.normal());
        out.push(Modulated {
            at_s,
            interval_s: Some(interval_s),
            level: 0.1 * breath + drift + 0.03 * chance.normal(),
            amplitude: 1.0 + 0.1 * breath + 0.03 * chance.normal(),
        });
        at_s += interval_s;
    }
    out
}

#[test]
fn generated_modulations_show_their_rate() {
    let (mut errors, mut count) = (0.0, 0);
    for seed in 0..20 {
        for (pulse, breaths) in [(60.0, 6.0), (60.0, 12.0), (80.0, 18.0), (100.0, 24.0), (120.0, 30.0), (140.0, 40.0)] {
            let Some(rate) = modulated_rate(&beats(pulse, breaths, 1.0, seed), WINDOW, &ModulationParameters::STANDARD)
            else {
                continue;
            };
            let error = (rate.rate_per_min - breaths).abs();
            assert!(error <= 2.0, "seed {seed}: {breaths} /min is {rate:.2?}");
            errors += error;
            count += 1;
        }
    }
    println!("seeds 0 to 19: {count} of 120 rated, MAE {:.3} /min", errors / f64::from(count));
    assert!(count >= 110 && errors / f64::from(count) <= 0.5);
}

#[test]
fn beats_without_modulation_have_no_clear_rate() {
    let mut qualities: Vec<f64> = (0..200)
        .filter_map(|seed| modulated_rate(&beats(80.0, 15.0, 0.0, seed), WINDOW, &ModulationParameters::STANDARD))
        .map(|rate| rate.quality)
        .collect();
    qualities.sort_by(f64::total_cmp);
    let clear = qualities.iter().filter(|quality| **quality >= 0.4).count();
    assert!(clear <= 20, "seeds 0 to 199: {clear} of 200 look like respiration");
    println!(
        "seeds 0 to 199: {} rated, {clear} of at least 0.4, quality median {:.2}, 95 % {:.2}",
        qualities.len(),
        qualities[qualities.len() / 2],
        qualities[qualities.len() * 95 / 100]
    );
}

#[test]
fn a_long_hole_leaves_no_rate() {
    let mut holed = beats(80.0, 15.0, 1.0, 3);
    holed.retain(|beat| !(10.0..15.5).contains(&beat.at_s));
    assert_eq!(modulated_rate(&holed, WINDOW, &ModulationParameters::STANDARD), None);
    assert_eq!(modulated_rate(&[], WINDOW, &ModulationParameters::STANDARD), None);
}
