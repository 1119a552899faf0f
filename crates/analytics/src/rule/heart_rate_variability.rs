//! Heart rate variability over five minutes: deviation and differences of intervals, and their power in three bands.
//!
//! Source: Task Force 1996, short-term recordings; see [`crate::hrv`]. A window in which too little is normal is said to be incomplete.

use super::{Author, Rule, Watch};
use crate::{
    ecg::{self, Stretch},
    finding::{Cited, Finding, Kind, Measure},
    hrv::{self, Nn, Normal, TimeDomain},
    input::Person,
};
use record::TimeMs;

/// Length of a window, in milliseconds. Windows begin at whole multiples.
const WINDOW_MS: u64 = 300_000;
/// The least share of a window that normal intervals cover. Source: Vest et al., Physiol Meas 2018;39:105004.
const COVERED_MIN: f64 = 0.8;
/// Beats that are found by searching back come so much later, in milliseconds.
const LATE_MS: u64 = 2_000;
/// The most intervals of a window: 200 /min.
const INTERVALS_MAX: usize = 1_000;

pub(super) const RULE: Rule = Rule {
    id: "heart-rate-variability",
    version: 1,
    kind: Kind::Descriptive,
    title: "Heart rate variability over five minutes",
    source: "Task Force of the ESC and NASPE 1996; Vest et al. 2018; Lomb 1976; Scargle 1982",
    codes: &[(
        "https://vitaltrace.org/fhir/CodeSystem/rule",
        "heart-rate-variability",
        "Heart rate variability over five minutes",
    )],
    parameters: || {
        let own = [
            ("window_ms".into(), WINDOW_MS as f64),
            ("covered_min".into(), COVERED_MIN),
            ("late_ms".into(), LATE_MS as f64),
            ("intervals_max".into(), INTERVALS_MAX as f64),
        ];
        own.into_iter().chain(hrv::parameters()).chain(ecg::parameters()).collect()
    },
    start: |rule, _: &Person| Box::new(Variability { author: Author::of(rule), windows: Windows::default() }),
};

#[derive(Debug)]
struct Variability {
    author: Author,
    windows: Windows,
}

/// Normal intervals of one window after the other.
#[derive(Debug, Default)]
pub(super) struct Windows {
    normal: Normal,
    /// Number of the open window.
    number: Option<u64>,
    intervals: Vec<Nn>,
    cited: Cited,
}

/// A window that is over.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) from: TimeMs,
    pub(super) until: TimeMs,
    pub(super) intervals: Vec<Nn>,
    pub(super) cited: Cited,
}

impl Window {
    /// Measures of its intervals, and the share of the window that they cover.
    pub(super) fn time_domain(&self) -> (TimeDomain, f64) {
        let mut out = TimeDomain::default();
        self.intervals.iter().for_each(|nn| out.add(nn));
        let share = out.covered_s * 1_000.0 / WINDOW_MS as f64;
        (out, share.min(1.0))
    }

    /// Whether enough of it is normal.
    pub(super) fn counts(&self) -> bool {
        self.time_domain().1 >= COVERED_MIN
    }
}

impl Windows {
    /// Takes a stretch; gives the window that it ends.
    pub(super) fn take(&mut self, stretch: &Stretch<'_>) -> Option<Window> {
        if stretch.began || !stretch.quality.beats_count() {
            self.normal = Normal::default();
        }
        let number = *self.number.get_or_insert(stretch.from.0 / WINDOW_MS);
        let end = number.saturating_add(1).saturating_mul(WINDOW_MS);
        let mut over = None;
        if stretch.from.0 >= end.saturating_add(LATE_MS) {
            let later = self.intervals.iter().position(|nn| nn.at.0 >= end).unwrap_or(self.intervals.len());
            let intervals = std::mem::take(&mut self.intervals);
            let (now, later) = intervals.split_at(later);
            self.intervals = later.to_vec();
            self.number = Some(if stretch.began { stretch.from.0 } else { stretch.from.0 - LATE_MS } / WINDOW_MS);
            over = Some(Window {
                from: TimeMs(number * WINDOW_MS),
                until: TimeMs(end),
                intervals: now.to_vec(),
                cited: std::mem::take(&mut self.cited),
            });
        }
        self.cited.add(stretch.frame);
        if stretch.quality.beats_count() {
            for beat in stretch.beats {
                let nn = self.normal.next(beat);
                self.intervals.extend(nn.filter(|_| self.intervals.len() < INTERVALS_MAX));
            }
        }
        over
    }
}

impl Watch for Variability {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        let Some(mut window) = self.windows.take(stretch) else { return };
        let (time, share) = window.time_domain();
        let covered = Measure { name: "normal-share", value: share * 100.0, unit: "%" };
        let finding = self.author.finding(window.from, window.until, window.cited.take());
        let mut finding = Finding { signal: Some(stretch.lead.to_owned()), ..finding };
        let power = hrv::bands(&window.intervals, WINDOW_MS as f64 / 1_000.0);
        let (Some(power), Some(sdnn_s), true) = (power, time.intervals.deviation(), share >= COVERED_MIN) else {
            finding.complete = false;
            finding.missing.push("normal-intervals");
            finding.measures.push(covered);
            out.push(finding);
            return;
        };
        let ms = |name, seconds: f64| Measure { name, value: seconds * 1_000.0, unit: "ms" };
        let power_of = |name, square_s: f64| Measure { name, value: square_s * 1e6, unit: "ms2" };
        finding.measures = vec![ms("sdnn", sdnn_s), ms("mean-nn", time.intervals.mean())];
        finding.measures.extend(time.rmssd_s().map(|rmssd_s| ms("rmssd", rmssd_s)));
        finding.measures.extend(time.pnn50().map(|share| Measure { name: "pnn50", value: share * 100.0, unit: "%" }));
        finding.measures.extend([
            power_of("power-vlf", power.very_low),
            power_of("power-lf", power.low),
            power_of("power-hf", power.high),
        ]);
        if power.high > 0.0 {
            finding.measures.push(Measure { name: "lf-hf", value: power.low / power.high, unit: "1" });
        }
        finding
            .measures
            .extend([Measure { name: "intervals", value: time.intervals.count() as f64, unit: "1" }, covered]);
        out.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ecg::tests::found,
        recorded::{Part, Recorded},
    };

    #[test]
    fn five_minutes_of_sinus_rhythm_have_the_variability_they_were_made_with() {
        let found = found(&RULE, &Recorded::made(95, 250.0, 0.01, &[Part::Sinus { per_min: 70.0, seconds: 620.0 }]));
        assert_eq!(found.len(), 2);
        let measure = |name: &str| found[1].measure(name).unwrap();
        println!("seed 95: {:?}", found[1].measures);
        // Intervals of 857 ms swing by 3 % at 0.25 Hz, and 0.5 % are chance: 18.2 and 4.3 ms of deviation.
        let expected = (0.03 * 857.1f64 / 2f64.sqrt()).hypot(0.005 * 857.1);
        assert!((measure("mean-nn") - 857.0).abs() < 3.0 && (measure("sdnn") - expected).abs() < 2.0);
        assert!(measure("power-hf") > 10.0 * measure("power-lf") && measure("normal-share") > 98.0);
        assert!((measure("power-hf") - (0.03 * 857.1f64).powi(2) / 2.0).abs() < 50.0);
        assert_eq!((found[1].from, found[1].until, found[1].inputs.len()), (TimeMs(300_000), TimeMs(600_000), 300));
    }

    #[test]
    fn a_window_with_too_little_that_is_normal_is_incomplete() {
        let parts = [
            Part::Sinus { per_min: 70.0, seconds: 200.0 },
            Part::Off { seconds: 100.0 },
            Part::Extrasystoles { per_min: 70.0, every: 2, seconds: 320.0 },
        ];
        let found = found(&RULE, &Recorded::made(96, 250.0, 0.01, &parts));
        let complete: Vec<bool> = found.iter().map(|finding| finding.complete).collect();
        assert_eq!(complete, [false, false], "seed 96");
        assert!(found.iter().all(|finding| finding.measure("sdnn").is_none() && !finding.inputs.is_empty()));
    }

    #[test]
    fn windows_between_which_nothing_came_are_left_out() {
        let record = Recorded::made(97, 250.0, 0.01, &[Part::Sinus { per_min: 70.0, seconds: 320.0 }]);
        let mut windows = Windows::default();
        let mut ecg = crate::ecg::Ecg::default();
        let mut over = Vec::new();
        for start_s in [0u64, 1_200] {
            for (second, values) in record.leads[0].chunks_exact(250).enumerate() {
                let value = crate::Measured::Wave { rate_hz: 250.0, values };
                let at = TimeMs((start_s + second as u64) * 1_000);
                let input = crate::Input { frame: record::sha256(&[&at.0.to_be_bytes()]), signal: "ecg-ii", at, value };
                over.extend(windows.take(&ecg.take(&input).unwrap()).map(|window| window.from.0 / 1_000));
            }
        }
        assert_eq!(over, [0, 300, 1_200]);
    }
}
