//! Ventricular tachycardia: three or more ventricular beats in a row, faster than 100 /min; sustained from 30 seconds on.
//!
//! Source: AHA/ACC/HRS guideline 2017 (Al-Khatib et al., Circulation 2018;138:e272), section 2.2.1. Classes of beats: see [`crate::BeatClass`]. A
//! tachycardia that was there before the monitor has no usual beats beside it and is told by its rate alone.

use super::{Author, Definition, Rule, Sounding, Watch};
use crate::{
    alarm::AlarmSpec,
    ecg::{self, Heard, Stretch},
    finding::{Finding, Kind, Measure, Severity},
    input::Person,
    qrs::BeatClass,
};
use record::TimeMs;

/// Beats of a run.
const BEATS_MIN: u32 = 3;
/// A run is faster, /min.
const RATE_PER_MIN: f64 = 100.0;
/// A run is over after so long without a beat, in milliseconds.
const OVER_MS: u64 = 2_000;
/// A run is sustained from here on, in milliseconds.
const SUSTAINED_MS: u64 = 30_000;

const RUN: Definition = Definition {
    name: "ventricular-tachycardia",
    priority: Severity::High,
    technical: false,
    spec: AlarmSpec { condition_delay_ms: 0, generation_delay_ms: 0, clear_delay_ms: 5_000, latching: true },
};
const SUSTAINED: Definition = Definition {
    name: "ventricular-tachycardia-sustained",
    priority: Severity::High,
    technical: false,
    spec: AlarmSpec { condition_delay_ms: SUSTAINED_MS, generation_delay_ms: 0, clear_delay_ms: 5_000, latching: true },
};

pub(super) const RULE: Rule = Rule {
    id: "ventricular-tachycardia",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Ventricular tachycardia",
    source: "AHA/ACC/HRS guideline 2017 for ventricular arrhythmias; IEC 60601-1-8",
    codes: &[("urn:iso:std:iso:11073:10101", "148160", "Ventricular tachycardia")],
    parameters: || {
        let own = [
            ("beats_min".into(), f64::from(BEATS_MIN)),
            ("rate_per_min".into(), RATE_PER_MIN),
            ("over_ms".into(), OVER_MS as f64),
        ];
        let alarms = RUN.parameters().into_iter().chain(SUSTAINED.parameters());
        own.into_iter().chain(alarms).chain(ecg::parameters()).collect()
    },
    start: |rule, _: &Person| {
        let author = Author::of(rule);
        let (run, sustained) = (Sounding::new(author, RUN), Sounding::new(author, SUSTAINED));
        Box::new(VentricularTachycardia { run, sustained, beats: None })
    },
};

#[derive(Debug)]
struct VentricularTachycardia {
    run: Sounding,
    sustained: Sounding,
    beats: Option<Run>,
}

/// Ventricular beats in a row.
#[derive(Debug, Clone, Copy)]
struct Run {
    beats: u32,
    first: TimeMs,
    last: TimeMs,
}

impl Run {
    /// The run after another beat: longer, begun, or over.
    fn after(run: Option<Self>, beat: &Heard) -> Option<Self> {
        match (beat.class, run) {
            (BeatClass::Ventricular, Some(run)) if beat.interval_s.is_some() => {
                Some(Self { beats: run.beats + 1, last: beat.at, ..run })
            }
            (BeatClass::Ventricular, _) => Some(Self { beats: 1, first: beat.at, last: beat.at }),
            _ => None,
        }
    }

    fn per_min(&self) -> f64 {
        let lasting_ms = self.last.0.saturating_sub(self.first.0).max(1);
        60_000.0 * f64::from(self.beats - 1) / lasting_ms as f64
    }

    fn is_tachycardia(&self) -> bool {
        self.beats >= BEATS_MIN && self.per_min() > RATE_PER_MIN
    }
}

impl Watch for VentricularTachycardia {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        self.run.hear(stretch);
        self.sustained.hear(stretch);
        if stretch.began || !stretch.quality.beats_count() {
            self.beats = None;
        }
        if !stretch.quality.beats_count() {
            return;
        }
        // A short run may begin and end within one stretch: the longest that there was counts.
        let mut seen: Option<Run> = None;
        for beat in stretch.beats {
            self.beats = Run::after(self.beats, beat);
            let fast = self.beats.filter(Run::is_tachycardia);
            seen = fast.or(seen);
        }
        self.beats = self.beats.filter(|run| stretch.until.0.saturating_sub(run.last.0) <= OVER_MS);
        let run = seen.or(self.beats.filter(Run::is_tachycardia));
        let measures = run.map_or_else(Vec::new, |run| {
            vec![
                Measure { name: "beats", value: f64::from(run.beats), unit: "1" },
                Measure { name: "rate", value: run.per_min(), unit: "/min" },
            ]
        });
        let since = run.map(|run| run.first);
        out.extend(self.run.step(stretch, since, measures.clone()));
        out.extend(self.sustained.step(stretch, since, measures));
    }

    fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str, out: &mut Vec<Finding>) {
        let both = [&mut self.run, &mut self.sustained];
        out.extend(both.into_iter().filter_map(|alarm| alarm.acknowledge(name, at, by)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ecg::tests::{alarms, found},
        recorded::{Part, Recorded},
    };
    use expect_test::{Expect, expect};

    fn check(part: Part, expect: Expect) {
        let sinus = Part::Sinus { per_min: 75.0, seconds: 40.0 };
        let found = found(&RULE, &Recorded::made(61, 250.0, 0.01, &[sinus, part, sinus]));
        expect.assert_eq(&alarms(&found));
        assert!(found.iter().all(|finding| !finding.inputs.is_empty()));
    }

    #[test]
    fn a_run_of_ventricular_beats_is_a_tachycardia() {
        check(
            Part::Ventricular { per_min: 160.0, seconds: 4.0 },
            expect![[r#"
            42 ventricular-tachycardia Raised High, since 40
        "#]],
        );
    }

    #[test]
    fn a_run_of_thirty_seconds_is_sustained() {
        check(
            Part::Ventricular { per_min: 180.0, seconds: 45.0 },
            expect![[r#"
            42 ventricular-tachycardia Raised High, since 40
            71 ventricular-tachycardia-sustained Raised High, since 40
        "#]],
        );
    }

    #[test]
    fn slow_runs_single_beats_and_couplets_are_none() {
        check(Part::Ventricular { per_min: 80.0, seconds: 20.0 }, expect![[""]]);
        check(Part::Extrasystoles { per_min: 80.0, every: 2, seconds: 60.0 }, expect![[""]]);
        check(Part::Sinus { per_min: 160.0, seconds: 30.0 }, expect![[""]]);
    }

    /// The seconds of the third beats of fast runs of beats with these labels.
    fn third_beats(record: &Recorded, ventricular: fn(char) -> bool) -> Vec<u64> {
        let mut run: Option<Run> = None;
        let mut out = Vec::new();
        for label in &record.beats {
            let at = TimeMs((label.sample as f64 * 1_000.0 / record.rate_hz) as u64);
            let class = if ventricular(label.symbol()) { BeatClass::Ventricular } else { BeatClass::Normal };
            run = Run::after(run, &Heard { at, interval_s: Some(1.0), class, likeness: 1.0 });
            if run.is_some_and(|run| run.beats == BEATS_MIN && run.is_tachycardia()) {
                out.push(at.0 / 1_000);
            }
        }
        out
    }

    #[test]
    fn tachycardias_of_the_shared_records_are_those_of_their_labels() {
        for record in Recorded::all_mit_bih() {
            let labelled = third_beats(&record, |symbol| matches!(symbol, 'V' | 'E'));
            // A fusion beat comes from the ventricles too, in part.
            let possible = third_beats(&record, |symbol| matches!(symbol, 'V' | 'E' | 'F'));
            let found = found(&RULE, &record);
            let raised: Vec<u64> =
                found.iter().filter_map(|finding| Some(finding.alarm.as_ref()?.condition_since.0 / 1_000)).collect();
            println!("{}: third ventricular beats by label in s {labelled:?}, alarms since {raised:?}", record.name);
            // A latching alarm that nobody acknowledges sounds once.
            if let Some(first) = labelled.first() {
                assert!(raised.first().is_some_and(|since| since.abs_diff(*first) <= 3), "{}", record.name);
            }
            for since in &raised {
                assert!(possible.iter().any(|third| third.abs_diff(*since) <= 3), "{}", record.name);
            }
        }
    }
}
