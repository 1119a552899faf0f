//! Forecasts of series that are known, and of a patient's day and a half.

use super::*;
use crate::input::Measured;
use record::sha256;
use sensing::{
    generated::{Story, Wearer},
    wfdb::{Header, Recording},
};
use std::path::PathBuf;

/// Runs a series through the forecaster: how many intervals there were, the share that held, mean errors of the forecast and of «no change».
fn check(values: &[Option<f64>]) -> (usize, f64, f64, f64) {
    let mut forecaster = Forecaster::new(TREND);
    let (mut count, mut held, mut error, mut plain, mut all) = (0, 0, 0.0, 0.0, 0);
    for (at, value) in values.iter().enumerate() {
        let Some((forecast, half_width)) = forecaster.step(*value) else { continue };
        let Some(Some(later)) = values.get(at + TREND.ahead).copied() else { continue };
        if let Some(value) = value {
            error += (forecast - later).abs();
            plain += (value - later).abs();
            all += 1;
        }
        if let Some(half) = half_width {
            count += 1;
            held += usize::from((forecast - later).abs() <= half);
        }
    }
    (count, held as f64 / count.max(1) as f64, error / f64::from(all.max(1)), plain / f64::from(all.max(1)))
}

#[test]
fn a_constant_is_forecast_as_itself() {
    let (count, held, error, _) = check(&[Some(80.0); 60]);
    assert!(count > 30);
    assert_eq!((held, error), (1.0, 0.0));
}

#[test]
fn there_is_no_interval_before_nine_errors_are_known() {
    let mut forecaster = Forecaster::new(TREND);
    for step in 0..TREND.ahead + 8 {
        let (_, half) = forecaster.step(Some(1.0)).unwrap();
        assert_eq!(half, None, "step {step}");
    }
    assert_eq!(forecaster.step(Some(1.0)).unwrap().1, Some(0.0));
}

#[test]
fn intervals_hold_nine_times_in_ten_on_a_noisy_series() {
    for seed in 1..=5u64 {
        // A slow wave under noise that looks random (multiplicative congruence).
        let mut state = seed;
        let values: Vec<Option<f64>> = (0..4_000)
            .map(|at| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let noise = (state >> 33) as f64 / (1u64 << 31) as f64 - 0.5;
                Some(80.0 + 5.0 * (f64::from(at) / 90.0).sin() + 6.0 * noise)
            })
            .collect();
        let (count, held, error, plain) = check(&values);
        println!("seed {seed}: {count} intervals, {:.1} % held, error {error:.2}, no change {plain:.2}", held * 100.0);
        assert!((0.87..=0.93).contains(&held), "seed {seed}: {held}");
        assert!(error < plain);
    }
}

#[test]
fn a_patients_day_and_a_half_is_scored() {
    let root = std::env::var_os("VITALTRACE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let header = root.join("signals/vitals/s00001-2896-10-10-00-31n.hea");
    let Ok(bytes) = std::fs::read(&header) else {
        println!("SKIPPED: {} not found", header.display());
        return;
    };
    let header = Header::parse(&bytes).unwrap();
    let data = std::fs::read(root.join("signals/vitals/3975656n.dat")).unwrap();
    let recording = Recording::read(header, |_| Some(&data[..])).unwrap();
    for (signal, name) in [(0, "HR"), (4, "PULSE"), (5, "RESP"), (6, "SpO2")] {
        let scale = recording.header().signals[signal].scale().to_f64();
        let values: Vec<Option<f64>> = recording
            .samples(signal)
            .unwrap()
            .iter()
            .map(|&s| (s != i16::MIN && s != 0).then(|| f64::from(s) * scale))
            .collect();
        let (count, held, error, plain) = check(&values);
        println!(
            "{name}, ten minutes ahead: {count} intervals, {:.1} % held, error {error:.2}, no change {plain:.2}",
            held * 100.0
        );
        assert!(count > 500 && held > 0.8);
    }
}

#[test]
fn a_bleeding_patient_is_forecast_out_of_range_before_the_alarm_limit() {
    let mut wearer = Wearer::new(4, Story::Haemorrhage { onset_s: 900.0, duration_s: 900.0 }, 100);
    let mut watch = (RULE.start)(&RULE, &Person::default());
    let (mut warned_s, mut limit_s) = (None, None);
    for second in 0..1_800u64 {
        for signal in wearer.next_second().signals {
            let sensing::Value::Number { value, .. } = &signal.value else { continue };
            if signal.name == "nibp-sys" && value.to_f64() <= 90.0 {
                limit_s = limit_s.or(Some(second));
            }
            let (frame, at) = (sha256(&[&second.to_be_bytes()]), TimeMs(second * 1_000));
            let mut out = Vec::new();
            watch.take(&Input { frame, signal: &signal.name, at, value: Measured::Number(value.to_f64()) }, &mut out);
            for finding in out.iter().filter(|f| f.signal.as_deref() == Some("nibp-sys")) {
                assert_eq!(finding.complete, finding.missing.is_empty());
                if finding.severity == Severity::Medium {
                    warned_s = warned_s.or(Some(second));
                }
            }
        }
    }
    println!("seed 4: forecast left its range at {warned_s:?} s, the pressure passed 90 at {limit_s:?} s");
    assert!(warned_s.unwrap() < limit_s.unwrap());
}
