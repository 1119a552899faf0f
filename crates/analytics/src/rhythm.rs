//! A record of nothing but beats, such as the labels of a Holter recording: what those rules say of it that need no more.

use crate::{
    ecg::{Heard, Stretch},
    finding::Finding,
    input::Person,
    qrs::BeatClass,
    quality::{Gates, Quality},
    rule::{OF_BEATS, Watch},
};
use record::{Digest, TimeMs};

/// What stands for the lead in findings about beats alone.
const LEAD: &str = "beats";

/// The rules of the ECG that need beats and no samples, at work on one person. The same beats give the same findings.
#[derive(Debug)]
pub struct Rhythm {
    watches: Vec<Box<dyn Watch>>,
    quality: Quality,
    last: Option<TimeMs>,
}

impl Rhythm {
    /// Starts the rules for a person.
    pub fn new(person: &Person) -> Self {
        let watches = OF_BEATS.iter().map(|rule| (rule.start)(rule, person)).collect();
        // Whoever labelled the beats saw the signal: a second of it counts as good.
        Self { watches, quality: Quality::new(1.0, Gates::Open), last: None }
    }

    /// Takes the beats of the second that begins at `from`, in their order; seconds come in order, each once. `frame` is what findings cite.
    pub fn second(&mut self, frame: Digest, from: TimeMs, beats: &[(TimeMs, BeatClass)]) -> Vec<Finding> {
        let began = self.quality.seconds() == 0;
        let mut heard = Vec::with_capacity(beats.len());
        for &(at, class) in beats {
            let before = self.last.replace(at).filter(|before| *before < at);
            let interval_s = before.map(|before| (at.0 - before.0) as f64 / 1_000.0);
            heard.push(Heard { at, interval_s, class, likeness: 1.0 });
        }
        self.quality.extend(&[0.0]);
        let stretch = Stretch {
            lead: LEAD,
            frame,
            rate_hz: 1.0,
            began,
            from,
            until: from.plus_ms(1_000),
            values: &[],
            beats: &heard,
            quality: &self.quality,
        };
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.ecg(&stretch, &mut out);
        }
        out
    }

    /// Nothing more will come: gives what waited for more.
    pub fn finish(&mut self) -> Vec<Finding> {
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.finish(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AlarmChange,
        recorded::{Chance, Part, Recorded, shared},
    };
    use record::sha256;
    use sensing::wfdb::annotations;
    use std::fs;

    fn found(seconds: u64, beats: &[(TimeMs, BeatClass)]) -> Vec<Finding> {
        let mut rhythm = Rhythm::new(&Person::default());
        let mut out = Vec::new();
        let mut next = 0;
        for second in 0..seconds {
            let until = next + beats[next..].iter().take_while(|(at, _)| at.0 < (second + 1) * 1_000).count();
            let frame = sha256(&[&second.to_be_bytes()]);
            out.extend(rhythm.second(frame, TimeMs(second * 1_000), &beats[next..until]));
            next = until;
        }
        out.extend(rhythm.finish());
        out
    }

    fn alarms(found: &[Finding]) -> Vec<&str> {
        let raised = found.iter().filter_map(|finding| finding.alarm.as_ref());
        raised.filter(|alarm| alarm.change == AlarmChange::Raised).map(|alarm| alarm.name).collect()
    }

    #[test]
    fn beats_alone_tell_their_rhythm() {
        let mut chance = Chance(41);
        let mut at_ms = 0.0;
        let irregular: Vec<(TimeMs, BeatClass)> = (0..300)
            .map(|_| {
                at_ms += 350.0 + 700.0 * chance.unit();
                (TimeMs(at_ms as u64), BeatClass::Normal)
            })
            .collect();
        assert_eq!(alarms(&found(180, &irregular)), ["atrial-fibrillation-suspected"], "seed 41");
        let run = |n: u64| if (100..110).contains(&n) { BeatClass::Ventricular } else { BeatClass::Normal };
        let regular: Vec<(TimeMs, BeatClass)> = (0..300).map(|n| (TimeMs(n * 500), run(n))).collect();
        assert_eq!(alarms(&found(150, &regular)), ["ventricular-tachycardia"]);
        let rates: Vec<f64> = found(150, &regular).iter().filter_map(|finding| finding.measure("heart-rate")).collect();
        assert!(rates.len() >= 14 && rates.iter().all(|rate| (rate - 120.0).abs() < 1e-9), "{rates:?}");
    }

    #[test]
    fn beats_alone_and_beats_of_a_lead_tell_the_same_rhythm() {
        let sinus = Part::Sinus { per_min: 70.0, seconds: 60.0 };
        let record =
            Recorded::made(42, 250.0, 0.01, &[sinus, Part::AtrialFibrillation { per_min: 95.0, seconds: 120.0 }]);
        let of_lead = crate::ecg::tests::found(crate::Rule::find("atrial-fibrillation").unwrap(), &record);
        let beats: Vec<(TimeMs, BeatClass)> =
            record.beats.iter().map(|beat| (TimeMs(beat.sample * 4), BeatClass::Normal)).collect();
        let alone = found(180, &beats);
        assert_eq!(
            (alarms(&of_lead), alarms(&alone)),
            (alarms(&alone), vec!["atrial-fibrillation-suspected"]),
            "seed 42"
        );
    }

    #[test]
    fn alarms_of_a_day_of_sinus_rhythm_are_hardly_ever_on() {
        let Some(folder) = shared("rr") else { return };
        let labels = annotations(&fs::read(folder.join("nsr001.ecg")).unwrap()).unwrap();
        let class = |ventricular| if ventricular { BeatClass::Ventricular } else { BeatClass::Normal };
        let beats: Vec<(TimeMs, BeatClass)> = labels
            .iter()
            .filter(|label| label.is_beat())
            .map(|label| (TimeMs(label.sample * 1_000 / 128), class(label.is_ventricular())))
            .collect();
        let seconds = beats.last().unwrap().0.0 / 1_000 + 1;
        let found = found(seconds, &beats);
        let mut on_ms = 0;
        let mut since = None;
        for finding in found.iter().filter(|finding| finding.rule == "atrial-fibrillation") {
            match finding.alarm.as_ref().unwrap().change {
                AlarmChange::Raised => since = Some(finding.until),
                _ => on_ms += since.take().map_or(0, |since| finding.until.0 - since.0),
            }
        }
        println!("nsr001: suspicion of fibrillation sounds for {} s of {seconds} s", on_ms / 1_000);
        assert!(seconds > 20 * 3_600 && on_ms <= 3 * seconds);
    }
}
