//! Heart rate from the ECG: beats found by the QRS detector, counted over ten seconds.
//!
//! Source: as the detector, see [`Qrs`]; ten seconds are the length of a standard ECG. Leads: II, or the first one seen without it.

use super::{Author, Rule, Watch};
use crate::{
    finding::{Cited, Finding, Kind, Measure, Severity},
    input::{Input, Measured, Person},
    qrs::{Qrs, QrsParameters},
};
use record::TimeMs;

/// Length of a window, in seconds.
const WINDOW_S: u64 = 10;
/// The lead that is preferred.
const LEAD: &str = "ecg-ii";
/// A stretch that begins further than this from the end of the one before starts the detector anew, in milliseconds.
const SEAM_MS_MAX: u64 = 20;
/// The longest interval between two beats of one rate, in seconds: below 20 /min is a pause.
const INTERVAL_S_MAX: f64 = 3.0;

pub(super) const RULE: Rule = Rule {
    id: "ecg-heart-rate",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Heart rate from the ECG",
    source: "Hamilton and Tompkins 1986; Hamilton 2002",
    codes: &[("http://loinc.org", "8867-4", "Heart rate")],
    parameters: || {
        let mut out: Vec<(String, f64)> = vec![
            ("window_s".into(), WINDOW_S as f64),
            ("interval_s_max".into(), INTERVAL_S_MAX),
            ("seam_ms_max".into(), SEAM_MS_MAX as f64),
        ];
        out.extend(QrsParameters::STANDARD.named().map(|(name, value)| (format!("qrs.{name}"), value)));
        out
    },
    start: |rule, _: &Person| Box::new(EcgHeartRate { author: Author::of(rule), lead: None }),
};

#[derive(Debug)]
struct EcgHeartRate {
    author: Author,
    lead: Option<Lead>,
}

#[derive(Debug)]
struct Lead {
    name: String,
    rate_hz: f64,
    qrs: Box<Qrs>,
    began_at: TimeMs,
    samples: u64,
    window_end: u64,
    last_beat: Option<u64>,
    intervals_s: Vec<f64>,
    beats: u64,
    cited: Cited,
    window_from: TimeMs,
}

impl Lead {
    fn new(name: &str, rate_hz: f64, at: TimeMs) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            rate_hz,
            qrs: Box::new(Qrs::new(rate_hz, QrsParameters::STANDARD)?),
            began_at: at,
            samples: 0,
            window_end: (WINDOW_S as f64 * rate_hz) as u64,
            last_beat: None,
            intervals_s: Vec::new(),
            beats: 0,
            cited: Cited::default(),
            window_from: at,
        })
    }

    fn time_of(&self, sample: u64) -> TimeMs {
        self.began_at.plus_ms((sample as f64 * 1_000.0 / self.rate_hz).round() as u64)
    }

    fn take(&mut self, author: &Author, input: &Input<'_>, values: &[f64], out: &mut Vec<Finding>) {
        self.cited.add(input.frame);
        for &value in values {
            if let Some(beat) = self.qrs.push(value) {
                self.beats += 1;
                if let Some(before) = self.last_beat.filter(|before| *before < beat.sample) {
                    let interval_s = (beat.sample - before) as f64 / self.rate_hz;
                    if interval_s <= INTERVAL_S_MAX {
                        self.intervals_s.push(interval_s);
                    }
                }
                self.last_beat = Some(beat.sample);
            }
            self.samples += 1;
            if self.samples == self.window_end {
                out.push(self.close(author));
            }
        }
    }

    fn close(&mut self, author: &Author) -> Finding {
        let until = self.time_of(self.samples);
        let from = std::mem::replace(&mut self.window_from, until);
        self.window_end += (WINDOW_S as f64 * self.rate_hz) as u64;
        let intervals_s = std::mem::take(&mut self.intervals_s);
        let beats = std::mem::take(&mut self.beats);
        let mut finding = Finding { signal: Some(self.name.clone()), ..author.finding(from, until, self.cited.take()) };
        let count = Measure { name: "beats", value: beats as f64, unit: "1" };
        if intervals_s.is_empty() {
            finding.complete = false;
            finding.missing.push("beats");
            finding.measures.push(count);
            return finding;
        }
        let mean_s = intervals_s.iter().sum::<f64>() / intervals_s.len() as f64;
        let rate = 60.0 / mean_s;
        let extreme = |pick: fn(f64, f64) -> f64, from: f64| intervals_s.iter().copied().fold(from, pick) * 1_000.0;
        finding.severity = if !(40.0..=130.0).contains(&rate) { Severity::Medium } else { Severity::None };
        finding.measures = vec![
            Measure { name: "heart-rate", value: rate, unit: "/min" },
            count,
            Measure { name: "interval-min", value: extreme(f64::min, f64::INFINITY), unit: "ms" },
            Measure { name: "interval-max", value: extreme(f64::max, 0.0), unit: "ms" },
        ];
        finding
    }
}

impl Watch for EcgHeartRate {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Measured::Wave { rate_hz, values } = input.value else { return };
        if !input.signal.starts_with("ecg-") {
            return;
        }
        let follows = self.lead.as_ref().is_some_and(|lead| {
            lead.rate_hz == rate_hz && lead.time_of(lead.samples).0.abs_diff(input.at.0) <= SEAM_MS_MAX
        });
        match &self.lead {
            Some(lead) if lead.name == input.signal && follows => {}
            Some(lead) if lead.name != input.signal && input.signal != LEAD => return,
            _ => self.lead = Lead::new(input.signal, rate_hz, input.at),
        }
        if let Some(lead) = &mut self.lead {
            lead.take(&self.author, input, values, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::sha256;
    use sensing::{
        Value,
        generated::{Story, Wearer},
    };

    fn rates(story: Story, lose: Option<u64>) -> Vec<Finding> {
        let mut wearer = Wearer::new(21, story, 360);
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        for second in 0..60u64 {
            for signal in wearer.next_second().signals {
                if let Value::Waveform(wave) = &signal.value
                    && lose != Some(second)
                {
                    let values = wave.physical();
                    let value = Measured::Wave { rate_hz: wave.rate_hz.to_f64(), values: &values };
                    let frame = sha256(&[&second.to_be_bytes()]);
                    watch.take(&Input { frame, signal: &signal.name, at: TimeMs(second * 1_000), value }, &mut out);
                }
            }
        }
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
            }
        }
    }

    #[test]
    fn a_lost_second_starts_the_detector_anew() {
        assert_eq!(rates(Story::Stable, Some(25)).len(), 5);
    }
}
