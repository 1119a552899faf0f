//! Rates against annotators and against what generated signals say.

use super::*;
use crate::{
    recordings::{BIDMC_HZ, Bidmc, Breathing},
    reference::{errors, rate_per_min},
};
use record::sha256;

/// Findings of waveforms that come in frames of one second.
fn found(waves: &[(&str, f64, &[f64])]) -> Vec<Finding> {
    let mut watch = (RULE.start)(&RULE, &Person::default());
    let mut out = Vec::new();
    let seconds = waves.iter().map(|(_, rate_hz, values)| (values.len() as f64 / rate_hz) as usize).max().unwrap_or(0);
    for second in 0..seconds {
        let frame = sha256(&[&second.to_be_bytes()]);
        for (signal, rate_hz, values) in waves {
            let length = *rate_hz as usize;
            let Some(values) = values.get(second * length..(second + 1) * length) else { continue };
            let value = Measured::Wave { rate_hz: *rate_hz, values };
            watch.take(&Input { frame, signal, at: TimeMs(second as u64 * 1_000), value }, &mut out);
        }
    }
    watch.finish(&mut out);
    out
}

#[test]
fn respiration_of_bidmc_01_agrees_with_the_annotators_from_every_signal() {
    let record = Bidmc::read();
    let all: [(&str, f64, &[f64]); 3] = [
        ("resp-impedance", BIDMC_HZ, &record.impedance),
        ("pleth", BIDMC_HZ, &record.pleth),
        ("ecg-ii", BIDMC_HZ, &record.lead_ii),
    ];
    for (name, waves, limit) in
        [("impedance", &all[..1], 0.10), ("pleth", &all[1..2], 0.7), ("ecg", &all[2..], 1.5), ("all", &all[..], 0.2)]
    {
        let findings = found(waves);
        for (annotator, annotated) in record.annotated_s.iter().enumerate() {
            let pairs: Vec<(f64, f64)> = findings
                .iter()
                .filter_map(|finding| {
                    let from = finding.from.0 as f64 / 1_000.0;
                    Some((finding.measure("respiratory-rate")?, rate_per_min(annotated, from, 32.0)?))
                })
                .collect();
            let (mean, max) = errors(&pairs).unwrap();
            println!(
                "{} {name}, annotator {}: {} of {} windows rated, MAE {mean:.3} /min, max {max:.3}",
                record.name,
                annotator + 1,
                pairs.len(),
                findings.len()
            );
            assert!(mean <= limit, "{name}: {pairs:.2?}");
        }
    }
}

#[test]
fn generated_breathing_is_rated_from_every_signal_and_its_frames_are_cited() {
    for breaths_per_min in [8.0, 14.0, 22.0, 30.0] {
        let breathing = Breathing { rate_hz: 125.0, breaths_per_min, pulse_per_min: 84.0, seconds: 104, seed: 31 };
        let (impedance, pleth) = (breathing.impedance(), breathing.pleth());
        let waves: [(&str, f64, &[f64]); 2] = [("resp-impedance", 125.0, &impedance), ("pleth", 125.0, &pleth)];
        for (waves, close) in [(&waves[..1], 0.3), (&waves[1..], 1.0), (&waves[..], 0.3)] {
            let findings = found(waves);
            assert_eq!(findings.len(), 3);
            for finding in &findings {
                let rate = finding.measure("respiratory-rate").unwrap_or(f64::NAN);
                assert!((rate - breaths_per_min).abs() <= close, "seed 31: {breaths_per_min} is {finding:?}");
                let severe = breaths_per_min <= 8.0 || breaths_per_min >= 25.0;
                assert_eq!(finding.severity == Severity::Medium, severe);
                assert_eq!(finding.inputs.len(), 32);
            }
        }
    }
}

#[test]
fn heart_beats_in_the_impedance_are_not_taken_for_breaths() {
    let breathing = Breathing { rate_hz: 125.0, breaths_per_min: 14.0, pulse_per_min: 66.0, seconds: 72, seed: 33 };
    let pleth = breathing.pleth();
    let hearts = breathing.pulses_s();
    // No breathing reaches the electrodes: each pulse does.
    let impedance: Vec<f64> = (0..pleth.len())
        .map(|n| hearts.iter().map(|at| (-0.5 * ((n as f64 / 125.0 - at) / 0.2).powi(2)).exp()).sum())
        .collect();
    let lead = breathing.lead_ii();
    for other in [("pleth", 125.0, &pleth[..]), ("ecg-ii", 125.0, &lead)] {
        let findings = found(&[("resp-impedance", 125.0, &impedance), other]);
        assert_eq!(findings.len(), 2);
        for finding in findings {
            assert_eq!(finding.measure("impedance-quality"), Some(0.0), "seed 33: {finding:?}");
            assert!((finding.measure("respiratory-rate").unwrap_or(14.0) - 14.0).abs() < 1.0, "seed 33: {finding:?}");
        }
    }
}

#[test]
fn without_breathing_there_is_no_rate() {
    let flat = vec![500.0; 25 * 80];
    let findings = found(&[("resp-impedance", 25.0, &flat)]);
    assert_eq!(findings.len(), 2);
    assert!(findings.iter().all(|finding| !finding.complete && finding.missing == ["respiratory-rate"]));
}

#[test]
fn rates_that_do_not_agree_are_not_averaged() {
    let rated = |rate_per_min, quality| Some(Rated { rate_per_min, quality });
    assert_eq!(fused(&[rated(20.0, 1.0), rated(31.0, 0.9), None]), Some(20.0));
    assert_eq!(fused(&[rated(20.0, 0.5), rated(31.0, 0.9), None]), Some(31.0));
    assert_eq!(fused(&[None, rated(20.0, 0.5), rated(22.0, 0.5)]), Some(21.0));
    assert_eq!(fused(&[None, rated(20.0, 0.3), None]), None);
    assert_eq!(fused(&[None, None, None]), None);
}

#[test]
fn frames_of_another_length_give_the_same_rates() {
    let breathing = Breathing { rate_hz: 100.0, breaths_per_min: 17.0, pulse_per_min: 77.0, seconds: 110, seed: 35 };
    let (impedance, pleth, lead) = (breathing.impedance(), breathing.pleth(), breathing.lead_ii());
    let rates = |length: usize| -> Vec<Vec<Measure>> {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        for (n, from) in (0..impedance.len()).step_by(length).enumerate() {
            let (until, frame) = ((from + length).min(impedance.len()), sha256(&[&n.to_be_bytes()]));
            for (signal, values) in [("resp-impedance", &impedance), ("pleth", &pleth), ("ecg-ii", &lead)] {
                let value = Measured::Wave { rate_hz: 100.0, values: &values[from..until] };
                watch.take(&Input { frame, signal, at: TimeMs(from as u64 * 10), value }, &mut out);
            }
        }
        out.into_iter().map(|finding| finding.measures).collect()
    };
    let whole = rates(100);
    assert_eq!(whole.len(), 3);
    assert_eq!((rates(25), rates(400)), (whole.clone(), whole), "seed 35");
}

#[test]
fn a_lost_second_costs_no_window() {
    let breathing = Breathing { rate_hz: 100.0, breaths_per_min: 17.0, pulse_per_min: 77.0, seconds: 110, seed: 36 };
    let mut impedance = breathing.impedance();
    impedance[5_000..5_100].fill(f64::NAN);
    for finding in found(&[("resp-impedance", 100.0, &impedance)]) {
        let rate = finding.measure("respiratory-rate").unwrap();
        assert!((rate - 17.0).abs() < 1.0, "seed 36: {rate}");
    }
}
