//! Classes against cardiologists' labels, and against what generated signals say.

use crate::{
    BeatClass, Qrs, QrsParameters,
    recorded::{Part, Recorded, matched},
};

/// Ventricular beats found, missed, and wrong: labelled as fusion or unclassifiable, or as anything else. Labels without a beat
/// count as missed, beats without a label as wrong.
#[derive(Default)]
struct Score {
    hits: usize,
    misses: usize,
    fusions: usize,
    wrong: usize,
}

impl Score {
    fn of(record: &Recorded) -> Self {
        let mut qrs = Qrs::new(record.rate_hz, QrsParameters::STANDARD).unwrap();
        let mut beats = Vec::new();
        qrs.extend(record.leads[0].iter().copied(), |beat| beats.push(beat));
        beats.extend(qrs.finish());
        let samples: Vec<u64> = beats.iter().map(|beat| beat.sample).collect();
        let pairs = matched(&record.beat_samples(), &samples, (0.15 * record.rate_hz) as u64);
        let mut labels = vec![None; beats.len()];
        pairs.iter().for_each(|&(l, b)| labels[b] = Some(&record.beats[l]));
        let mut score = Self::default();
        let all = record.beats.iter().filter(|label| label.is_ventricular()).count();
        for (_, label) in beats.iter().zip(labels).filter(|(beat, _)| beat.class == BeatClass::Ventricular) {
            match label.map(|label| label.symbol()) {
                Some('V' | 'E') => score.hits += 1,
                Some('F' | 'Q' | '/' | 'f') => score.fusions += 1,
                _ => score.wrong += 1,
            }
        }
        score.misses = all - score.hits;
        score
    }

    fn sensitivity(&self) -> f64 {
        100.0 * self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }

    /// As EC57 has it: fusion and unclassifiable beats that are called ventricular are not counted.
    fn predictivity(&self) -> f64 {
        100.0 * self.hits as f64 / (self.hits + self.wrong).max(1) as f64
    }

    /// With these counted as wrong.
    fn strict(&self) -> f64 {
        100.0 * self.hits as f64 / (self.hits + self.wrong + self.fusions).max(1) as f64
    }
}

#[test]
fn ventricular_beats_of_the_shared_mit_bih_records_are_told() {
    let (mut gross, mut of_three) = (Score::default(), Score::default());
    for record in Recorded::all_mit_bih() {
        let score = Score::of(&record);
        println!(
            "{}: {} found, {} missed, {} wrong, {} fusion or unclassifiable: Se {:.2} %, +P {:.2} %, with fusion as wrong {:.2} %",
            record.name,
            score.hits,
            score.misses,
            score.wrong,
            score.fusions,
            score.sensitivity(),
            score.predictivity(),
            score.strict()
        );
        let many = ["106", "119", "208"].contains(&record.name.as_str());
        if many {
            assert!(
                score.sensitivity() >= 90.0 && score.predictivity() >= 92.0 && score.strict() >= 92.0,
                "{}",
                record.name
            );
        }
        // EC57 leaves paced records out.
        for sum in [(record.name != "104").then_some(&mut gross), many.then_some(&mut of_three)].into_iter().flatten() {
            sum.hits += score.hits;
            sum.misses += score.misses;
            sum.fusions += score.fusions;
            sum.wrong += score.wrong;
        }
    }
    if gross.hits == 0 {
        return;
    }
    for (which, score) in [("all but the paced record", &gross), ("106, 119, 208", &of_three)] {
        println!(
            "V, gross of {which}: Se {:.2} %, +P {:.2} %, with fusion as wrong {:.2} %",
            score.sensitivity(),
            score.predictivity(),
            score.strict()
        );
        assert!(score.sensitivity() >= 90.0 && score.predictivity() >= 92.0);
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
        let score = Score::of(&Recorded::made(3, rate_hz, 0.02, &parts));
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
