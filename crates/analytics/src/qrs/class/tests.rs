//! Classes against cardiologists' labels, and against what generated signals say.

use crate::{
    BeatClass, Qrs, QrsParameters,
    recorded::{Part, Recorded},
    reference::{BeatScore, Label, LabelClass, compare},
};

/// How the beats of the first lead agree with the labels.
fn score(record: &Recorded) -> BeatScore {
    let mut qrs = Qrs::new(record.rate_hz, QrsParameters::STANDARD).unwrap();
    let mut beats = Vec::new();
    qrs.extend(record.leads[0].iter().copied(), |beat| beats.push(beat));
    beats.extend(qrs.finish());
    let label = |label: &sensing::wfdb::Annotation| {
        Some(Label { sample: label.sample, class: LabelClass::of_symbol(label.symbol())? })
    };
    let labels: Vec<Label> = record.beats.iter().filter_map(label).collect();
    assert_eq!(labels.len(), record.beats.len(), "every label of a beat has a class");
    compare(&labels, &beats, record.rate_hz)
}

fn percent(share: Option<f64>) -> f64 {
    100.0 * share.unwrap_or(0.0)
}

fn told(score: &BeatScore) -> String {
    let v = score.ventricular;
    format!(
        "{} found, {} missed, {} wrong, {} fusion or unclassifiable: Se {:.2} %, +P {:.2} %, with fusion as wrong {:.2} %",
        v.hits,
        v.misses,
        v.wrong,
        score.left_out,
        percent(v.sensitivity()),
        percent(v.predictivity()),
        percent(score.strict_predictivity())
    )
}

#[test]
fn ventricular_beats_of_the_shared_mit_bih_records_are_told() {
    let (mut gross, mut of_three) = (BeatScore::default(), BeatScore::default());
    for record in Recorded::all_mit_bih() {
        let score = score(&record);
        println!("{}: {}", record.name, told(&score));
        let many = ["106", "119", "208"].contains(&record.name.as_str());
        if many {
            let v = score.ventricular;
            let both = percent(v.sensitivity()) >= 90.0 && percent(v.predictivity()) >= 92.0;
            assert!(both && percent(score.strict_predictivity()) >= 92.0, "{}", record.name);
        }
        // EC57 leaves paced records out.
        for sum in [(record.name != "104").then_some(&mut gross), many.then_some(&mut of_three)].into_iter().flatten() {
            sum.ventricular.hits += score.ventricular.hits;
            sum.ventricular.misses += score.ventricular.misses;
            sum.ventricular.wrong += score.ventricular.wrong;
            sum.left_out += score.left_out;
        }
    }
    if gross.ventricular.hits == 0 {
        return;
    }
    for (which, score) in [("all but the paced record", &gross), ("106, 119, 208", &of_three)] {
        println!("V, gross of {which}: {}", told(score));
        let v = score.ventricular;
        assert!(percent(v.sensitivity()) >= 90.0 && percent(v.predictivity()) >= 92.0);
    }
}

#[test]
fn ventricular_beats_of_a_generated_ecg_are_told() {
    for rate_hz in [128.0, 250.0, 360.0, 500.0, 1_000.0] {
        let parts = [
            Part::Sinus { per_min: 72.0, seconds: 60.0 },
            Part::Extrasystoles { per_min: 76.0, every: 5, seconds: 120.0 },
            Part::Extrasystoles { per_min: 70.0, every: 2, seconds: 120.0 },
            Part::Sinus { per_min: 90.0, seconds: 60.0 },
        ];
        let score = score(&Recorded::made(3, rate_hz, 0.02, &parts)).ventricular;
        println!(
            "seed 3, {rate_hz} Hz: {} ventricular beats found, {} missed, {} wrong",
            score.hits, score.misses, score.wrong
        );
        assert!(score.hits > 80 && score.misses <= 2 && score.wrong == 0);
    }
}

#[test]
fn usual_beats_may_be_wide() {
    let parts = [Part::Ventricular { per_min: 80.0, seconds: 120.0 }];
    let record = Recorded::made(4, 360.0, 0.02, &parts);
    let mut qrs = Qrs::new(360.0, QrsParameters::STANDARD).unwrap();
    let mut beats = Vec::new();
    qrs.extend(record.leads[0].iter().copied(), |beat| beats.push(beat.class));
    assert!(beats.len() > 150 && !beats.contains(&BeatClass::Ventricular), "seed 4: {beats:?}");
    assert!(beats[..8].iter().all(|class| *class == BeatClass::Unknown), "the first beats have no class yet");
}
