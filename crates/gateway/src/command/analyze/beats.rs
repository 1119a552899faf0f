//! Beats of the lead that is looked at, and how they agree with labels.

use super::labels::Labels;
use crate::{
    command::BadInput,
    cpu::Stopwatch,
    signal::{self, Wave},
};
use analytics::{
    AlarmChange, Beat, Finding, Qrs, QrsParameters,
    reference::{BeatScore, Told, compare},
};
use record::TimeMs;
use serde_json::{Value as Json, json};

/// The name of the suspicion of atrial fibrillation among alarms.
const FIBRILLATION: &str = "atrial-fibrillation-suspected";
/// How many samples are turned into physical values at a time.
const TOGETHER: usize = 1 << 16;

/// The lead that beats were looked for in.
pub(super) struct Lead {
    pub(super) name: &'static str,
    pub(super) rate_hz: f64,
    pub(super) beats: Vec<Beat>,
    /// How fast it was looked through for beats, in samples a second of one core.
    pub(super) samples_per_s: f64,
}

impl Lead {
    /// Beats of lead II, or of the first lead without it; nothing of what has no ECG.
    pub(super) fn find(waves: &[Wave<'_>]) -> anyhow::Result<Option<Self>> {
        let Some(wave) = signal::lead(waves) else { return Ok(None) };
        let rate_hz = wave.rate_hz;
        let mut detector = Qrs::new(rate_hz, QrsParameters::STANDARD).ok_or_else(|| {
            BadInput(format!("the lead `{}` has {rate_hz} samples a second: 100 to 4000 are needed", wave.name))
        })?;
        let (mut beats, watch) = (Vec::new(), Stopwatch::start());
        for from in (0..wave.len()).step_by(TOGETHER) {
            detector.extend(wave.physical(from..from + TOGETHER), |beat| beats.push(beat));
        }
        beats.extend(detector.finish());
        let samples_per_s = wave.len() as f64 / watch.seconds();
        // One that was found by searching back comes after those behind it.
        beats.sort_by_key(|beat| beat.sample);
        Ok(Some(Self { name: wave.name, rate_hz, beats, samples_per_s }))
    }

    /// When the beats were, in seconds.
    pub(super) fn times_s(&self) -> Vec<f64> {
        self.beats.iter().map(|beat| beat.sample as f64 / self.rate_hz).collect()
    }
}

/// How what was found agrees with what people marked.
#[derive(Debug)]
pub(super) struct Score {
    /// Nothing where no lead was looked at.
    pub(super) beats: Option<BeatScore>,
    pub(super) fibrillation: Fibrillation,
}

/// How long atrial fibrillation was suspected and marked, in seconds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fibrillation {
    pub(super) recorded_s: f64,
    /// Whether rhythms were marked at all.
    pub(super) rhythms_marked: bool,
    pub(super) marked_s: f64,
    pub(super) suspected_s: f64,
    pub(super) both_s: f64,
}

impl Score {
    /// Compares beats with labels, and the time under suspicion of fibrillation with the time marked as such, of `recorded_s` seconds.
    pub(super) fn of(labels: &Labels, lead: Option<&Lead>, findings: &[Finding], recorded_s: f64) -> Self {
        let beats = lead.map(|lead| {
            let to_lead = lead.rate_hz / labels.rate_hz;
            let moved = labels.beats.iter().map(|label| analytics::reference::Label {
                sample: (label.sample as f64 * to_lead).round() as u64,
                ..*label
            });
            compare(&moved.collect::<Vec<_>>(), &lead.beats, lead.rate_hz)
        });
        let marked = labels.stretches_s(|rhythm| rhythm == "AFIB", recorded_s);
        let suspected = sounding_s(findings, FIBRILLATION, recorded_s);
        // A sum of nothing is -0.
        let length = |stretches: &[(f64, f64)]| stretches.iter().fold(0.0, |sum, (from, until)| sum + (until - from));
        let overlap = |a: &(f64, f64), b: &(f64, f64)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
        let pairs = marked.iter().flat_map(|a| suspected.iter().map(move |b| overlap(a, b)));
        let both_s = pairs.fold(0.0, |sum, both| sum + both);
        let fibrillation = Fibrillation {
            recorded_s,
            rhythms_marked: !labels.rhythms.is_empty(),
            marked_s: length(&marked),
            suspected_s: length(&suspected),
            both_s,
        };
        Self { beats, fibrillation }
    }

    /// As JSON; the counts of all beats stand first, as they always did.
    pub(super) fn to_json(&self) -> Json {
        let mut score = match &self.beats {
            None => json!({}),
            Some(score) => {
                let mut beats = told(&score.beats);
                beats["ventricular"] = told(&score.ventricular);
                beats["ventricular"]["left_out"] = json!(score.left_out);
                beats["ventricular"]["positive_predictivity_strict"] = json!(score.strict_predictivity());
                beats
            }
        };
        let fibrillation = &self.fibrillation;
        score["atrial_fibrillation"] = json!({
            "recorded_s": fibrillation.recorded_s, "rhythms_marked": fibrillation.rhythms_marked, "marked_s": fibrillation.marked_s,
            "suspected_s": fibrillation.suspected_s, "suspected_rightly_s": fibrillation.both_s,
            "false_s": fibrillation.false_s(), "false_share": fibrillation.false_share()
        });
        score
    }

    /// In words, a line each.
    pub(super) fn in_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(score) = &self.beats {
            lines.push(format!("beats against the reference: {}", told_in_words(&score.beats)));
            if score.ventricular != Told::default() || score.left_out > 0 {
                lines.push(format!(
                    "ventricular beats: {}; {} fusion or unclassifiable ones that were called ventricular are left out (EC57), with them positive predictivity {}",
                    told_in_words(&score.ventricular),
                    score.left_out,
                    percent(score.strict_predictivity())
                ));
            }
        }
        let fibrillation = &self.fibrillation;
        let marked = match fibrillation.rhythms_marked {
            true => format!(
                "marked for {:.0} s, of which {:.0} s were suspected",
                fibrillation.marked_s, fibrillation.both_s
            ),
            false => "no rhythms are marked: every suspicion counts as false".to_owned(),
        };
        lines.push(format!(
            "atrial fibrillation: suspected for {:.0} s, falsely for {:.0} s, {} of the time without it; {marked}",
            fibrillation.suspected_s,
            fibrillation.false_s(),
            percent(fibrillation.false_share())
        ));
        lines
    }
}

impl Fibrillation {
    fn false_s(&self) -> f64 {
        self.suspected_s - self.both_s
    }

    /// The share of the time without fibrillation in which it was suspected; nothing where there is no such time.
    fn false_share(&self) -> Option<f64> {
        let without_s = self.recorded_s - self.marked_s;
        (without_s > 0.0).then(|| self.false_s() / without_s)
    }
}

fn told(told: &Told) -> Json {
    json!({
        "matched": told.hits, "missed": told.misses, "wrong": told.wrong,
        "sensitivity": told.sensitivity(), "positive_predictivity": told.predictivity()
    })
}

fn told_in_words(told: &Told) -> String {
    format!(
        "sensitivity {}, positive predictivity {} ({} missed, {} wrong)",
        percent(told.sensitivity()),
        percent(told.predictivity()),
        told.misses,
        told.wrong
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or("unknown".to_owned(), |share| format!("{:.2} %", share * 100.0))
}

/// When the alarm called `name` sounded, in seconds; one that does not end sounds up to `end_s`.
fn sounding_s(findings: &[Finding], name: &str, end_s: f64) -> Vec<(f64, f64)> {
    let seconds = |at: TimeMs| at.0 as f64 / 1_000.0;
    let (mut out, mut since) = (Vec::new(), None);
    for finding in findings {
        match finding.alarm.as_ref().filter(|alarm| alarm.name == name).map(|alarm| &alarm.change) {
            Some(AlarmChange::Raised) => since = Some(seconds(finding.until)),
            Some(AlarmChange::Ended) => out.extend(since.take().map(|since| (since, seconds(finding.until)))),
            Some(AlarmChange::Acknowledged { .. }) | None => {}
        }
    }
    out.extend(since.map(|since| (since, end_s.max(since))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::{analyze::signals_of_tests, tell},
        signal::Source,
    };

    #[test]
    fn suspicion_and_marks_of_fibrillation_are_compared_by_time() {
        let labels = Labels {
            rate_hz: 1.0,
            rhythms: vec![(0, "N".to_owned()), (100, "AFIB".to_owned()), (300, "N".to_owned())],
            ..Labels::default()
        };
        let score = Score::of(&labels, None, &[], 1_000.0);
        assert_eq!((score.fibrillation.marked_s, score.fibrillation.suspected_s), (200.0, 0.0));
        let fibrillation = Fibrillation { suspected_s: 250.0, both_s: 170.0, ..score.fibrillation };
        assert_eq!((fibrillation.false_s(), fibrillation.false_share()), (80.0, Some(0.1)));
        let all = Fibrillation { recorded_s: 5.0, marked_s: 5.0, ..Fibrillation::default() };
        assert_eq!(all.false_share(), None);
    }

    #[test]
    fn ventricular_beats_of_published_records_are_scored_with_fusion_left_out() {
        let Some(folder) = signals_of_tests() else { return };
        for (record, labels) in [("106", "atr"), ("119", "rnv"), ("208", "atr")] {
            let header = folder.join(format!("mitdb/{record}.hea"));
            let source = Source::open(header.to_str().unwrap()).unwrap();
            let lead = Lead::find(&source.waves()).unwrap().unwrap();
            let labels = Labels::read(&header.with_extension(labels), 360.0).unwrap();
            let score = Score::of(&labels, Some(&lead), &[], 1_805.0);
            score.in_words().iter().for_each(|line| tell(&format!("{record}: {line}")));
            let told = score.beats.unwrap();
            let (beats, ventricular) = (told.beats, told.ventricular);
            assert!(beats.sensitivity() >= Some(0.99) && beats.predictivity() >= Some(0.99), "{record}");
            assert!(ventricular.sensitivity() >= Some(0.90) && ventricular.predictivity() >= Some(0.92), "{record}");
            assert_eq!(told.left_out > 0, record == "208", "208 alone has fusion beats that many call ventricular");
        }
    }
}
