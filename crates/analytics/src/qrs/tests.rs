//! Beats against cardiologists' labels, and against what generated signals say.

use super::*;
use crate::{
    recorded::{Chance, Part, Recorded, spent_s},
    reference::matched,
};
use sensing::{
    Value,
    generated::{Story, Wearer},
};

#[test]
fn beats_of_the_shared_mit_bih_records_are_scored() {
    let (mut hits, mut misses, mut extras, mut seconds, mut samples) = (0, 0, 0, 0.0, 0);
    let mut delays = Vec::new();
    let mut errors = Vec::new();
    for record in Recorded::all_mit_bih() {
        let (mv, labels) = (&record.leads[0], record.beat_samples());
        let mut qrs = Qrs::new(360.0, QrsParameters::STANDARD).unwrap();
        let mut beats = Vec::new();
        let began = spent_s();
        for (at, &value) in mv.iter().enumerate() {
            if let Some(beat) = qrs.push(value) {
                beats.push((beat, at as u64));
            }
        }
        let end = mv.len() as u64;
        beats.extend(qrs.finish().into_iter().map(|beat| (beat, end)));
        seconds += spent_s() - began;
        samples += mv.len();
        let mut order: Vec<(u64, u64, bool)> =
            beats.iter().map(|(beat, at)| (beat.sample, at - beat.sample, beat.late)).collect();
        order.sort_unstable();
        delays.extend(order.iter().map(|&(_, delay, late)| (delay as f64 / 0.36, late)));
        let found: Vec<u64> = order.iter().map(|&(sample, ..)| sample).collect();
        let pairs = matched(&labels, &found, 54);
        errors.extend(pairs.iter().map(|&(l, b)| found[b].abs_diff(labels[l])));
        let (miss, extra) = (labels.len() - pairs.len(), found.len() - pairs.len());
        println!("{}: {} labels, {miss} missed, {extra} extra", record.name, labels.len());
        if std::env::var_os("QRS_SHOW").is_some() {
            let hit_l: std::collections::HashSet<usize> = pairs.iter().map(|p| p.0).collect();
            let hit_b: std::collections::HashSet<usize> = pairs.iter().map(|p| p.1).collect();
            println!(
                "  missed {:?}",
                (0..labels.len()).filter(|l| !hit_l.contains(l)).map(|l| labels[l]).collect::<Vec<_>>()
            );
            println!(
                "  extra {:?}",
                (0..found.len()).filter(|b| !hit_b.contains(b)).map(|b| found[b]).collect::<Vec<_>>()
            );
        }
        hits += pairs.len();
        misses += miss;
        extras += extra;
    }
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole as f64;
    if hits == 0 {
        return;
    }
    let prompt = percent(delays.iter().filter(|(ms, _)| *ms <= 400.0).count(), delays.len());
    let late = delays.iter().filter(|(_, late)| *late).count();
    delays.sort_by(|a, b| a.0.total_cmp(&b.0));
    errors.sort_unstable();
    let sensitivity = percent(hits, hits + misses);
    let precision = percent(hits, hits + extras);
    println!(
        "gross: Se {sensitivity:.3} % ({misses} missed), +P {precision:.3} % ({extras} extra); {prompt:.2} % within 400 ms, {late} found by searching back; delay median {:.0} ms, 99 % {:.0} ms, greatest {:.0} ms; \
         median error {} samples; {:.1} M samples per CPU second",
        delays[delays.len() / 2].0,
        delays[delays.len() * 99 / 100].0,
        delays[delays.len() - 1].0,
        errors[errors.len() / 2],
        samples as f64 / seconds.max(1e-9) / 1e6
    );
    assert!(sensitivity >= 99.80 && precision >= 99.85);
    assert!(prompt >= 99.0 && delays[delays.len() - 1].0 <= 2_000.0 && errors[errors.len() / 2] <= 1);
}

#[test]
fn every_beat_of_a_generated_ecg_is_found_at_every_rate() {
    for rate_hz in [128u32, 250, 360, 500, 1_000] {
        let mut wearer = Wearer::new(9, Story::Haemorrhage { onset_s: 60.0, duration_s: 120.0 }, rate_hz);
        let mut qrs = Qrs::new(f64::from(rate_hz), QrsParameters::STANDARD).unwrap();
        let (mut labels, mut found) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            let second = wearer.next_second();
            labels.extend(second.beats);
            let lead = second.signals.iter().find(|signal| signal.name == "ecg-ii").unwrap();
            let Value::Waveform(wave) = &lead.value else { panic!("an ECG is a waveform") };
            qrs.extend(wave.physical(), |beat| found.push(beat.sample));
        }
        found.extend(qrs.finish().iter().map(|beat| beat.sample));
        found.sort_unstable();
        let window = u64::from(rate_hz) * 150 / 1_000;
        let pairs = matched(&labels, &found, window);
        println!(
            "seed 9, {rate_hz} Hz: {} beats, {} missed, {} extra",
            labels.len(),
            labels.len() - pairs.len(),
            found.len() - pairs.len()
        );
        assert!(labels.len() - pairs.len() <= 1 && found.len() - pairs.len() <= 1);
    }
}

#[test]
fn values_that_are_no_numbers_do_no_harm() {
    let mut qrs = Qrs::new(360.0, QrsParameters::STANDARD).unwrap();
    for at in 0..20_000 {
        let value = match at % 4 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -1e300,
            _ => 0.0,
        };
        qrs.push(value);
    }
    assert!(Qrs::new(50.0, QrsParameters::STANDARD).is_none() && Qrs::new(f64::NAN, QrsParameters::STANDARD).is_none());
}

#[test]
fn a_flat_line_has_no_beats() {
    let mut qrs = Qrs::new(360.0, QrsParameters::STANDARD).unwrap();
    let mut beats = 0;
    qrs.extend(std::iter::repeat_n(0.5, 36_000), |_| beats += 1);
    assert_eq!(beats + qrs.finish().len(), 0);
}

#[test]
fn noise_and_wander_cost_few_beats() {
    // Muscle noise of 0.05 mV, and a baseline that wanders by 1 mV, as in Moody's noise stress test (Comput Cardiol 1984;11:381).
    type Noise = fn(f64, &mut Chance) -> f64;
    let noises: [(&str, Noise); 2] = [
        ("muscle", |_, chance| 0.05 * chance.normal()),
        ("wander", |at_s, _| (1.9 * at_s).sin() + 0.3 * (5.7 * at_s).sin()),
    ];
    for (what, noise) in noises {
        let (mut hits, mut misses, mut extras) = (0, 0, 0);
        for record in Recorded::all_mit_bih() {
            let mut chance = Chance(7);
            let mut qrs = Qrs::new(record.rate_hz, QrsParameters::STANDARD).unwrap();
            let mut found = Vec::new();
            let noisy = record.leads[0].iter().enumerate();
            let noisy = noisy.map(|(n, mv)| mv + noise(n as f64 / record.rate_hz, &mut chance));
            qrs.extend(noisy, |beat| found.push(beat.sample));
            found.extend(qrs.finish().iter().map(|beat| beat.sample));
            let labels = record.beat_samples();
            let pairs = matched(&labels, &found, 54);
            hits += pairs.len();
            misses += labels.len() - pairs.len();
            extras += found.len() - pairs.len();
        }
        if hits > 0 {
            let percent = |others: usize| 100.0 * hits as f64 / (hits + others) as f64;
            println!("seed 7, {what}: Se {:.3} %, +P {:.3} %", percent(misses), percent(extras));
            assert!(percent(misses) >= 99.7 && percent(extras) >= 99.7);
        }
    }
}

#[test]
fn a_small_beat_is_found_by_searching_back_within_two_seconds() {
    for per_min in [32.0, 45.0, 70.0, 110.0] {
        let mut record = Recorded::made(10, 250.0, 0.01, &[Part::Sinus { per_min, seconds: 300.0 }]);
        let small: Vec<usize> = record.beat_samples().iter().skip(9).step_by(10).map(|&beat| beat as usize).collect();
        for &beat in &small {
            let until = (beat + 40).min(record.leads[0].len());
            record.leads[0][beat - 40..until].iter_mut().for_each(|value| *value *= 0.27);
        }
        let mut qrs = Qrs::new(250.0, QrsParameters::STANDARD).unwrap();
        let (mut found, mut late) = (Vec::new(), 0);
        for (at, &value) in record.leads[0].iter().enumerate() {
            if let Some(beat) = qrs.push(value) {
                // The first levels take four seconds when beats are rare.
                assert!(at <= 1_250 || at as u64 - beat.sample <= 500, "seed 10, {per_min} /min");
                late += usize::from(beat.late);
                found.push(beat.sample);
            }
        }
        let hits = matched(&record.beat_samples(), &found, 37).len();
        println!(
            "seed 10, {per_min} /min: {} of {}, {late} of {} small ones late",
            hits,
            record.beats.len(),
            small.len()
        );
        assert!(late > 0 && hits * 100 >= record.beats.len() * 98 && found.len() - hits <= 1);
    }
}

#[test]
fn noise_alone_has_no_beats_and_a_slow_heart_no_others() {
    for noise_mv in [0.005, 0.02, 0.03] {
        let rare = [Part::Sinus { per_min: 24.0, seconds: 120.0 }];
        for (parts, expected) in [(&[Part::Standstill { seconds: 60.0 }][..], 0), (&rare[..], 48)] {
            let record = Recorded::made(11, 250.0, noise_mv, parts);
            let mut qrs = Qrs::new(250.0, QrsParameters::STANDARD).unwrap();
            let mut found = 0;
            qrs.extend(record.leads[0].iter().copied(), |_| found += 1);
            found += qrs.finish().len();
            assert!(found.abs_diff(expected) <= 2, "seed 11, {noise_mv} mV: {found} beats, expected {expected}");
        }
    }
}
