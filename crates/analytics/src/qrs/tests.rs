//! Beats against cardiologists' labels, and against what generated signals say.

use super::*;
use sensing::{
    Value,
    generated::{Story, Wearer},
    wfdb::{Header, Recording, annotations},
};
use std::{fs, path::PathBuf, time::Instant};

/// Matches beats to labels one to one, nearest first within 150 ms, as ANSI/AAMI EC57 does. Gives matches and signed errors.
fn matched(labels: &[u64], beats: &[u64], window: u64) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut next = 0;
    for (l, &label) in labels.iter().enumerate() {
        while next < beats.len() && beats[next] + window < label {
            next += 1;
        }
        let mut best: Option<(u64, usize)> = None;
        for (b, &beat) in beats.iter().enumerate().skip(next) {
            if beat > label + window {
                break;
            }
            let nearer_other = labels.get(l + 1).is_some_and(|&after| after.abs_diff(beat) < label.abs_diff(beat));
            if !nearer_other && best.is_none_or(|(distance, _)| label.abs_diff(beat) < distance) {
                best = Some((label.abs_diff(beat), b));
            }
        }
        if let Some((_, b)) = best {
            pairs.push((l, b));
            next = b + 1;
        }
    }
    pairs
}

fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("VITALTRACE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let records = root.join("signals/mitdb");
    if !records.is_dir() {
        println!("SKIPPED: {} not found", records.display());
    }
    records.is_dir().then_some(records)
}

#[test]
fn beats_of_the_shared_mit_bih_records_are_scored() {
    let Some(folder) = shared() else { return };
    let (mut hits, mut misses, mut extras, mut seconds, mut samples) = (0, 0, 0, 0.0, 0);
    let mut delays = Vec::new();
    let mut errors = Vec::new();
    for record in ["100", "103", "104", "105", "106", "116", "119", "208"] {
        let header = Header::parse(&fs::read(folder.join(format!("{record}.hea"))).unwrap()).unwrap();
        let data = fs::read(folder.join(format!("{record}.dat"))).unwrap();
        let recording = Recording::read(header, |_| Some(&data[..])).unwrap();
        let mv: Vec<f64> = recording.samples(0).unwrap().iter().map(|&s| (f64::from(s) - 1024.0) / 200.0).collect();
        let labels =
            ["atr", "rnv"].iter().find_map(|kind| fs::read(folder.join(format!("{record}.{kind}"))).ok()).unwrap();
        let labels: Vec<u64> =
            annotations(&labels).unwrap().iter().filter(|label| label.is_beat()).map(|label| label.sample).collect();
        let mut qrs = Qrs::new(360.0, QrsParameters::STANDARD).unwrap();
        let mut beats = Vec::new();
        let began = Instant::now();
        for (at, &value) in mv.iter().enumerate() {
            if let Some(beat) = qrs.push(value) {
                beats.push((beat, at as u64));
            }
        }
        let end = mv.len() as u64;
        beats.extend(qrs.finish().into_iter().map(|beat| (beat, end)));
        seconds += began.elapsed().as_secs_f64();
        samples += mv.len();
        let mut order: Vec<(u64, u64, bool)> =
            beats.iter().map(|(beat, at)| (beat.sample, at - beat.sample, beat.late)).collect();
        order.sort_unstable();
        delays.extend(order.iter().map(|&(_, delay, late)| (delay as f64 / 0.36, late)));
        let found: Vec<u64> = order.iter().map(|&(sample, ..)| sample).collect();
        let pairs = matched(&labels, &found, 54);
        errors.extend(pairs.iter().map(|&(l, b)| found[b].abs_diff(labels[l])));
        let (miss, extra) = (labels.len() - pairs.len(), found.len() - pairs.len());
        println!("{record}: {} labels, {miss} missed, {extra} extra", labels.len());
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
    delays.sort_by(|a, b| a.0.total_cmp(&b.0));
    errors.sort_unstable();
    let sensitivity = percent(hits, hits + misses);
    let precision = percent(hits, hits + extras);
    println!(
        "gross: Se {sensitivity:.3} % ({misses} missed), +P {precision:.3} % ({extras} extra); delay median {:.0} ms, 99 % {:.0} ms, greatest {:.0} ms; \
         median error {} samples; {:.1} M samples/s",
        delays[delays.len() / 2].0,
        delays[delays.len() * 99 / 100].0,
        delays[delays.len() - 1].0,
        errors[errors.len() / 2],
        samples as f64 / seconds / 1e6
    );
    assert!(sensitivity >= 99.80 && precision >= 99.85);
    assert!(
        delays[delays.len() * 99 / 100].0 <= 400.0
            && delays[delays.len() - 1].0 <= 2_000.0
            && errors[errors.len() / 2] <= 1
    );
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
