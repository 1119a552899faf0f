//! Heart rate from the ECG: beats found by the QRS detector, counted over ten seconds.
//!
//! Source: as the detector, see [`crate::Qrs`]; ten seconds are the length of a standard ECG. A window whose signal cannot be trusted has no
//! rate and says so.

use super::{Author, Rule, Watch};
use crate::{
    ecg::{self, Stretch},
    finding::{Cited, Finding, Kind, Measure, Severity},
    input::Person,
};
use record::TimeMs;

/// Length of a window, in seconds.
const WINDOW_S: u64 = 10;
/// The longest interval between two beats of one rate, in seconds: below 20 /min is a pause.
const INTERVAL_S_MAX: f64 = 3.0;

pub(super) const RULE: Rule = Rule {
    id: "ecg-heart-rate",
    version: 2,
    kind: Kind::Diagnostic,
    title: "Heart rate from the ECG",
    source: "Hamilton and Tompkins 1986; Hamilton 2002; signal quality, Orphanidou et al. 2015",
    codes: &[("http://loinc.org", "8867-4", "Heart rate"), ("urn:iso:std:iso:11073:10101", "147842", "ECG heart rate")],
    parameters: || {
        let mut out: Vec<(String, f64)> =
            vec![("window_s".into(), WINDOW_S as f64), ("interval_s_max".into(), INTERVAL_S_MAX)];
        out.extend(ecg::parameters());
        out
    },
    start: |rule, _: &Person| Box::new(EcgHeartRate { author: Author::of(rule), window: None }),
};

#[derive(Debug)]
struct EcgHeartRate {
    author: Author,
    window: Option<Window>,
}

/// A window that is being filled.
#[derive(Debug)]
struct Window {
    from: TimeMs,
    intervals_s: Vec<f64>,
    beats: u64,
    cited: Cited,
}

impl Window {
    fn new(from: TimeMs) -> Self {
        Self { from, intervals_s: Vec::new(), beats: 0, cited: Cited::default() }
    }

    fn close(mut self, author: &Author, stretch: &Stretch<'_>) -> Finding {
        let signal = Some(stretch.lead.to_owned());
        let mut finding = Finding { signal, ..author.finding(self.from, stretch.until, self.cited.take()) };
        let quality = Measure { name: "signal-quality", value: stretch.quality.index(), unit: "1" };
        let count = Measure { name: "beats", value: self.beats as f64, unit: "1" };
        let trusted = stretch.quality.beats_count();
        if !trusted || self.intervals_s.is_empty() {
            finding.complete = false;
            finding.missing.push(if trusted { "beats" } else { "signal" });
            finding.measures = if trusted { vec![count, quality] } else { vec![quality] };
            return finding;
        }
        let mean_s = self.intervals_s.iter().sum::<f64>() / self.intervals_s.len() as f64;
        let rate = 60.0 / mean_s;
        let extreme =
            |pick: fn(f64, f64) -> f64, from: f64| self.intervals_s.iter().copied().fold(from, pick) * 1_000.0;
        finding.severity = if !(40.0..=130.0).contains(&rate) { Severity::Medium } else { Severity::None };
        finding.measures = vec![
            Measure { name: "heart-rate", value: rate, unit: "/min" },
            count,
            Measure { name: "interval-min", value: extreme(f64::min, f64::INFINITY), unit: "ms" },
            Measure { name: "interval-max", value: extreme(f64::max, 0.0), unit: "ms" },
            quality,
        ];
        finding
    }
}

impl Watch for EcgHeartRate {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        if stretch.began {
            self.window = None;
        }
        let window = self.window.get_or_insert_with(|| Window::new(stretch.from));
        window.cited.add(stretch.frame);
        window.beats += stretch.beats.len() as u64;
        let intervals = stretch.beats.iter().filter_map(|beat| beat.interval_s);
        window.intervals_s.extend(intervals.filter(|interval_s| *interval_s <= INTERVAL_S_MAX));
        if stretch.until >= window.from.plus_ms(WINDOW_S * 1_000)
            && let Some(window) = self.window.take()
        {
            out.push(window.close(&self.author, stretch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Input, Measured, Monitor,
        ecg::tests::found,
        recorded::{Part, Recorded},
    };
    use record::sha256;
    use sensing::{
        Value,
        generated::{Story, Wearer},
    };

    fn rates(story: Story, lose: Option<u64>) -> Vec<Finding> {
        let mut wearer = Wearer::new(21, story, 360);
        let mut monitor = Monitor::new(&Person::default());
        let mut out = Vec::new();
        for second in 0..60u64 {
            for signal in wearer.next_second().signals {
                if let Value::Waveform(wave) = &signal.value
                    && lose != Some(second)
                {
                    let values = wave.physical();
                    let value = Measured::Wave { rate_hz: wave.rate_hz.to_f64(), values: &values };
                    let frame = sha256(&[&second.to_be_bytes()]);
                    let at = TimeMs(second * 1_000);
                    out.extend(monitor.take(&Input { frame, signal: &signal.name, at, value }));
                }
            }
        }
        out.retain(|finding| finding.rule == RULE.id);
        out
    }

    #[test]
    fn the_rate_of_a_generated_ecg_is_found() {
        for (story, expected) in [(Story::Stable, 78.0), (Story::Tachycardia { from_s: -10.0, until_s: 1e6 }, 160.0)] {
            let found = rates(story, None);
            assert_eq!(found.len(), 6);
            for finding in &found[1..] {
                let rate = finding.measure("heart-rate").unwrap();
                assert!((rate - expected).abs() < expected * 0.04, "seed 21: {rate}, expected {expected}");
                assert_eq!(finding.signal.as_deref(), Some("ecg-ii"));
                assert_eq!(finding.inputs.len(), 10);
                assert!(finding.measure("signal-quality").unwrap() > 0.9);
            }
        }
    }

    #[test]
    fn a_lost_second_starts_the_detector_anew() {
        assert_eq!(rates(Story::Stable, Some(25)).len(), 5);
    }

    #[test]
    fn a_bad_signal_has_no_rate() {
        let parts = [
            Part::Sinus { per_min: 70.0, seconds: 30.0 },
            Part::Muscle { per_min: 70.0, mv: 0.6, seconds: 30.0 },
            Part::Sinus { per_min: 70.0, seconds: 40.0 },
        ];
        let found = found(&RULE, &Recorded::made(22, 250.0, 0.01, &parts));
        let complete: Vec<bool> = found.iter().map(|finding| finding.complete).collect();
        assert_eq!(complete, [true, true, true, false, false, false, true, true, true, true], "seed 22");
        assert_eq!((&found[4].missing[..], found[4].measure("heart-rate")), (&["signal"][..], None));
    }
}
