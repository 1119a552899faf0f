//! Ventricular fibrillation: the ECG leaves the baseline nearly all the time.
//!
//! Source: threshold crossing sample count, Arafat, Chowdhury and Hasan, Signal Image Video Process 2011;5:1: segments of three seconds, one
//! each second, the share of samples above 0.2 of the greatest; fibrillation from a mean of 48 % over eight seconds on. Very fast ventricular
//! tachycardia looks the same; both are treated alike. Movement and wide paced beats leave the baseline as well: the lead must also be wavelike, by
//! the leakage of a filter at its own frequency, Kuo and Dillman, Comput Cardiol 1978:347.

use super::{Author, Definition, Rule, Sounding, Watch};
use crate::{
    alarm::AlarmSpec,
    ecg::{self, Stretch},
    finding::{Finding, Kind, Measure, Severity},
    input::Person,
};
use record::TimeMs;
use std::{collections::VecDeque, f64::consts::TAU};

/// Length of a segment, in seconds.
const SEGMENT_S: usize = 3;
/// Segments whose mean decides: those of eight seconds.
const SEGMENTS: usize = 6;
/// How long a segment's ends are faded, in seconds.
const FADE_S: f64 = 0.25;
/// A sample counts above this share of the segment's greatest.
const LEVEL: f64 = 0.2;
/// Fibrillation from this share of counted samples on.
const SHARE: f64 = 0.48;
/// What is slower is baseline, Hz; what is faster, noise.
const BAND_HZ: (f64, f64) = (1.0, 30.0);
/// The lead is reduced to about so many samples a second.
const RATE_HZ: f64 = 125.0;
/// Waves of fibrillation are greater, peak to peak: asystole with noise leaves its baseline too. Source: coarse and fine fibrillation
/// part at 0.2 mV (Weaver et al., Ann Intern Med 1985;102:53).
const SIZE_MV: f64 = 0.2;

/// A wave is cancelled by itself half a period later; fibrillation leaves less than this. Source: Kuo and Dillman 1978, as compared by Amann,
/// Tratnig and Unterkofler, Biomed Eng Online 2005;4:60.
const LEAKAGE: f64 = 0.625;

const FIBRILLATION: Definition = Definition {
    name: "ventricular-fibrillation",
    priority: Severity::High,
    technical: false,
    spec: AlarmSpec { condition_delay_ms: 0, generation_delay_ms: 0, clear_delay_ms: 5_000, latching: true },
};

pub(super) const RULE: Rule = Rule {
    id: "ventricular-fibrillation",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Ventricular fibrillation",
    source: "Arafat, Chowdhury and Hasan 2011; Weaver et al. 1985; IEC 60601-1-8",
    codes: &[("urn:iso:std:iso:11073:10101", "148032", "Ventricular fibrillation")],
    parameters: || {
        let own = [
            ("segment_s".into(), SEGMENT_S as f64),
            ("segments".into(), SEGMENTS as f64),
            ("fade_s".into(), FADE_S),
            ("level".into(), LEVEL),
            ("share".into(), SHARE),
            ("band_low_hz".into(), BAND_HZ.0),
            ("band_high_hz".into(), BAND_HZ.1),
            ("rate_hz".into(), RATE_HZ),
            ("size_mv".into(), SIZE_MV),
            ("leakage".into(), LEAKAGE),
        ];
        own.into_iter().chain(FIBRILLATION.parameters()).chain(ecg::parameters()).collect()
    },
    start: |rule, _: &Person| {
        Box::new(Fibrillation { alarm: Sounding::new(Author::of(rule), FIBRILLATION), crossings: None })
    },
};

#[derive(Debug)]
struct Fibrillation {
    alarm: Sounding,
    crossings: Option<Crossings>,
}

/// A filter of second order, as Butterworth's.
#[derive(Debug, Clone, Default)]
struct Filter {
    b: [f64; 3],
    a: [f64; 2],
    z: [f64; 2],
}

impl Filter {
    /// Source: bilinear transform with Q of 1/sqrt(2), Bristow-Johnson's cookbook of filters.
    fn new(corner_hz: f64, rate_hz: f64, high: bool) -> Self {
        let w = TAU * corner_hz / rate_hz;
        let (cos, alpha) = (w.cos(), w.sin() / 2f64.sqrt());
        let side = if high { (1.0 + cos) / 2.0 } else { (1.0 - cos) / 2.0 };
        let middle = if high { -2.0 * side } else { 2.0 * side };
        let unit = 1.0 + alpha;
        Self { b: [side / unit, middle / unit, side / unit], a: [-2.0 * cos / unit, (1.0 - alpha) / unit], z: [0.0; 2] }
    }

    fn push(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.z[0];
        self.z = [self.b[1] * x - self.a[0] * y + self.z[1], self.b[2] * x - self.a[1] * y];
        y
    }
}

/// The lead's shares of samples away from the baseline.
#[derive(Debug)]
struct Crossings {
    /// Samples of the lead that make one here.
    step: usize,
    sum: f64,
    summed: usize,
    last: f64,
    high: Filter,
    low: Filter,
    /// Samples in a second.
    second: usize,
    samples: VecDeque<f64>,
    fresh: usize,
    /// Of the last segments, the share of samples off the baseline and the leakage.
    segments: VecDeque<(f64, f64)>,
}

impl Crossings {
    fn new(rate_hz: f64, first: f64) -> Self {
        let step = ((rate_hz / RATE_HZ).round() as usize).max(1);
        let reduced_hz = rate_hz / step as f64;
        let mut high = Filter::new(BAND_HZ.0, reduced_hz, true);
        // As if the first sample had stood for ever.
        high.z = [-high.b[0] * first, high.b[2] * first];
        Self {
            step,
            sum: 0.0,
            summed: 0,
            last: first,
            high,
            low: Filter::new(BAND_HZ.1, reduced_hz, false),
            second: reduced_hz.round() as usize,
            samples: VecDeque::new(),
            fresh: 0,
            segments: VecDeque::new(),
        }
    }

    fn extend(&mut self, values: &[f64]) {
        for &value in values {
            if value.is_finite() {
                self.last = value.clamp(-1e6, 1e6);
            }
            self.sum += self.last;
            self.summed += 1;
            if self.summed < self.step {
                continue;
            }
            let filtered = self.high.push(self.sum / self.step as f64);
            (self.sum, self.summed) = (0.0, 0);
            let filtered = self.low.push(filtered);
            if self.samples.len() >= SEGMENT_S * self.second {
                self.samples.pop_front();
            }
            self.samples.push_back(filtered);
            self.fresh += 1;
            if self.fresh >= self.second && self.samples.len() == SEGMENT_S * self.second {
                self.fresh = 0;
                let segment = self.segment();
                if self.segments.len() >= SEGMENTS {
                    self.segments.pop_front();
                }
                self.segments.push_back(segment);
            }
        }
    }

    /// Share of the segment's samples that leave the baseline, and the leakage; none of a segment too small for fibrillation.
    fn segment(&self) -> (f64, f64) {
        let (low, high) = self.samples.iter().fold((0.0f64, 0.0f64), |(low, high), &v| (low.min(v), high.max(v)));
        if high - low < SIZE_MV {
            return (0.0, 1.0);
        }
        let (count, fade) = (self.samples.len(), FADE_S * self.second as f64);
        let faded = |(n, value): (usize, &f64)| {
            let from_end = (n.min(count - 1 - n) as f64 / fade).min(1.0);
            value.abs() * (0.5 - 0.5 * (TAU / 2.0 * from_end).cos())
        };
        let faded: Vec<f64> = self.samples.iter().enumerate().map(faded).collect();
        let top = faded.iter().copied().fold(0.0, f64::max);
        let off = faded.iter().filter(|value| **value > LEVEL * top).count();
        (off as f64 / count as f64, self.leakage())
    }

    /// What is left of the segment when it is added to itself half a period of its mean frequency later.
    fn leakage(&self) -> f64 {
        let x: Vec<f64> = self.samples.iter().copied().collect();
        let size: f64 = x.iter().map(|value| value.abs()).sum();
        let steps: f64 = x.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
        let half = ((TAU / 2.0 * size / steps.max(1e-12) + 0.5) as usize).clamp(1, x.len() / 2);
        let pairs = || x.iter().zip(&x[half..]);
        let left: f64 = pairs().map(|(a, b)| (a + b).abs()).sum();
        left / pairs().map(|(a, b)| a.abs() + b.abs()).sum::<f64>().max(1e-12)
    }

    /// Mean share and leakage of the last eight seconds.
    fn mean(&self) -> Option<(f64, f64)> {
        let sum = self.segments.iter().fold((0.0, 0.0), |sum, segment| (sum.0 + segment.0, sum.1 + segment.1));
        (self.segments.len() == SEGMENTS).then_some((sum.0 / SEGMENTS as f64, sum.1 / SEGMENTS as f64))
    }
}

impl Watch for Fibrillation {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        self.alarm.hear(stretch);
        if stretch.began || stretch.quality.defect().is_some() {
            self.crossings = None;
        }
        let first = stretch.values.iter().copied().find(|value| value.is_finite());
        if stretch.quality.defect().is_some() {
            return;
        }
        let crossings = self.crossings.get_or_insert_with(|| Crossings::new(stretch.rate_hz, first.unwrap_or(0.0)));
        crossings.extend(stretch.values);
        let Some((share, leakage)) = crossings.mean() else { return };
        let there = share > SHARE && leakage < LEAKAGE;
        let measures = vec![
            Measure { name: "share-off-baseline", value: share * 100.0, unit: "%" },
            Measure { name: "leakage", value: leakage * 100.0, unit: "%" },
        ];
        let began = TimeMs(stretch.until.0.saturating_sub(1_000 * (SEGMENTS + SEGMENT_S - 1) as u64));
        out.extend(self.alarm.step(stretch, there.then_some(began), measures));
    }

    fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str, out: &mut Vec<Finding>) {
        out.extend(self.alarm.acknowledge(name, at, by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ecg::tests::{alarms, found},
        recorded::{Part, Recorded},
    };

    const SINUS: Part = Part::Sinus { per_min: 80.0, seconds: 40.0 };

    #[test]
    fn fibrillation_is_an_alarm_within_ten_seconds() {
        for rate_hz in [128.0, 250.0, 500.0] {
            let parts = [SINUS, Part::Fibrillation { seconds: 20.0 }, SINUS];
            let found = found(&RULE, &Recorded::made(71, rate_hz, 0.01, &parts));
            println!("seed 71, {rate_hz} Hz: {}", alarms(&found));
            assert!(found.len() == 1 && (43_000..=50_000).contains(&found[0].until.0));
            assert!(found[0].inputs.len() >= 8);
        }
    }

    #[test]
    fn fibrillation_that_was_there_before_the_monitor_is_an_alarm_too() {
        let found = found(&RULE, &Recorded::made(73, 250.0, 0.01, &[Part::Fibrillation { seconds: 40.0 }]));
        assert!(found.len() == 1 && found[0].until.0 <= 10_000, "seed 73: {}", alarms(&found));
    }

    #[test]
    fn other_rhythms_and_noise_are_none() {
        for part in [
            Part::Standstill { seconds: 30.0 },
            Part::Off { seconds: 30.0 },
            Part::Muscle { per_min: 80.0, mv: 0.6, seconds: 30.0 },
            Part::Extrasystoles { per_min: 90.0, every: 2, seconds: 60.0 },
            Part::AtrialFibrillation { per_min: 140.0, seconds: 60.0 },
            Part::Sinus { per_min: 170.0, seconds: 60.0 },
        ] {
            let found = found(&RULE, &Recorded::made(72, 250.0, 0.03, &[SINUS, part, SINUS]));
            assert_eq!(alarms(&found), "", "seed 72: {part:?}");
        }
    }

    #[test]
    fn the_shared_records_have_no_fibrillation() {
        for record in Recorded::all_mit_bih() {
            let found = found(&RULE, &record);
            assert_eq!(alarms(&found), "", "{}", record.name);
        }
    }
}
