//! Fibrillation in shared and generated recordings, and a day of sinus rhythm.

use super::*;
use crate::{
    ecg::tests::{alarms, found},
    recorded::{Chance, Part, Recorded, mat_v5, shared},
};
use sensing::wfdb::annotations;
use std::fs;

/// Time judged and time under suspicion, in seconds, of beats at these times.
fn suspected(beats: impl IntoIterator<Item = (f64, BeatClass)>) -> (f64, f64) {
    let mut irregularity = Irregularity::default();
    let (mut judged_s, mut suspected_s) = (0.0, 0.0);
    let (mut before_s, mut verdict_s): (Option<f64>, Option<f64>) = (None, None);
    for (at_s, class) in beats {
        let interval_s = before_s.replace(at_s).map(|before_s| at_s - before_s);
        let beat = Heard { at: TimeMs((at_s * 1_000.0) as u64), interval_s, class, likeness: 1.0 };
        if let Some(verdict) = irregularity.take(&beat) {
            let since_s = verdict_s.replace(at_s).unwrap_or(at_s);
            judged_s += at_s - since_s;
            suspected_s += if verdict.is_suspicious() { at_s - since_s } else { 0.0 };
        }
    }
    (judged_s, suspected_s)
}

#[test]
fn a_day_of_sinus_rhythm_is_hardly_ever_suspected() {
    let Some(folder) = shared("rr") else { return };
    let labels = annotations(&fs::read(folder.join("nsr001.ecg")).unwrap()).unwrap();
    let class = |ventricular| if ventricular { BeatClass::Ventricular } else { BeatClass::Normal };
    let beats = labels.iter().filter(|label| label.is_beat());
    let beats = beats.map(|label| (label.sample as f64 / 128.0, class(label.is_ventricular())));
    let (judged_s, suspected_s) = suspected(beats);
    println!("nsr001: {suspected_s:.0} s of {judged_s:.0} s, {:.3} %", 100.0 * suspected_s / judged_s);
    assert!(judged_s > 20.0 * 3_600.0 && suspected_s <= 0.003 * judged_s);
}

#[test]
fn the_shared_fibrillation_is_found_in_both_leads() {
    let Some(folder) = shared("rr") else { return };
    let (rows, signal) = mat_v5(&fs::read(folder.join("TestAFdata.mat")).unwrap(), "signal").unwrap();
    for lead in signal.chunks_exact(rows) {
        let record =
            Recorded { name: "TestAFdata".into(), rate_hz: 128.0, leads: vec![lead.to_vec()], beats: Vec::new() };
        let found = found(&RULE, &record);
        println!("TestAFdata: {}", alarms(&found));
        assert!(found.len() == 1 && found[0].until.0 <= 120_000 && found[0].inputs.len() > 20);
    }
}

#[test]
fn the_shared_records_of_other_rhythms_are_hardly_ever_suspected() {
    for record in Recorded::all_mit_bih() {
        let found = found(&RULE, &record);
        println!("{}: {}", record.name, alarms(&found));
        assert!(found.len() <= 2, "{}", record.name);
    }
}

#[test]
fn generated_fibrillation_is_suspected_and_its_end_is_noticed() {
    let sinus = Part::Sinus { per_min: 70.0, seconds: 120.0 };
    let parts = [sinus, Part::AtrialFibrillation { per_min: 95.0, seconds: 120.0 }, sinus];
    let found = found(&RULE, &Recorded::made(81, 250.0, 0.01, &parts));
    let seconds: Vec<u64> = found.iter().map(|finding| finding.until.0 / 1_000).collect();
    assert!(found.len() == 2, "seed 81: {}", alarms(&found));
    assert!((130..180).contains(&seconds[0]) && (240..340).contains(&seconds[1]), "seed 81: {seconds:?}");
}

#[test]
fn extrasystoles_breathing_and_noise_are_no_fibrillation() {
    for part in [
        Part::Extrasystoles { per_min: 80.0, every: 2, seconds: 200.0 },
        Part::Extrasystoles { per_min: 80.0, every: 5, seconds: 200.0 },
        Part::Muscle { per_min: 80.0, mv: 0.7, seconds: 200.0 },
        Part::Sinus { per_min: 55.0, seconds: 200.0 },
    ] {
        let sinus = Part::Sinus { per_min: 70.0, seconds: 60.0 };
        assert_eq!(
            alarms(&found(&RULE, &Recorded::made(82, 250.0, 0.01, &[sinus, part, sinus]))),
            "",
            "seed 82: {part:?}"
        );
    }
}

#[test]
fn entropy_is_that_of_its_definition() {
    // Three intervals: of the two pairs of neighbours one match begins, and goes on. The tolerance must grow to reach five matches or its end.
    let alternating: Vec<f64> = (0..INTERVALS).map(|n| if n % 2 == 0 { 0.6 } else { 1.0 }).collect();
    // Whatever is alike goes on alike: no entropy but that of tolerance and mean.
    assert!((entropy(&alternating) - ((2.0 * TOLERANCE_S).ln() - 0.8f64.ln())).abs() < 1e-12);
    let mut chance = Chance(83);
    let random: Vec<f64> = (0..INTERVALS).map(|_| 0.4 + 0.8 * chance.unit()).collect();
    let (mut alike, mut both, mut tolerance_s) = (0, 0, TOLERANCE_S);
    while both < MATCHES {
        (alike, both) = (0, 0);
        for a in 0..INTERVALS - 1 {
            for b in 0..a {
                if (random[a] - random[b]).abs() < tolerance_s {
                    alike += 1;
                    both += u32::from((random[a + 1] - random[b + 1]).abs() < tolerance_s);
                }
            }
        }
        tolerance_s += TOLERANCE_STEP_S;
    }
    tolerance_s -= TOLERANCE_STEP_S;
    let mean_s = random.iter().sum::<f64>() / INTERVALS as f64;
    let expected = (f64::from(alike) / f64::from(both) * 2.0 * tolerance_s / mean_s).ln();
    assert!((entropy(&random) - expected).abs() < 1e-9, "seed 83");
    assert!((differences(&[0.8, 1.0, 0.8]) - 0.2 / (2.6 / 3.0)).abs() < 1e-12);
}
