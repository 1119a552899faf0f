//! Pulse rate over 32 seconds from the plethysmogram: of good pulses only.
//!
//! Source: as the detector, see [`Pulses`]. Unit: `/min`. Signal: `pleth`.

use super::{
    Author, Rule, Watch,
    line::{self, Frames, Joint, Line},
};
use crate::{
    finding::{Finding, Kind, Measure, Severity},
    input::{Input, Measured, Person},
    pulse::{Pulse, PulseParameters, Pulses, pulse_rate},
    smooth::keep_latest,
};
use record::TimeMs;
use std::collections::VecDeque;

/// Length of a window, in seconds, as for the respiration rate.
const WINDOW_S: u64 = 32;
/// A window is assessed so many seconds after its end: until then its pulses are certain.
const DELAY_S: u64 = 3;
/// The least share of good pulses. Source: half of a window, as Karlen et al. 2013 ask for.
const GOOD_MIN: f64 = 0.5;
/// The most pulses remembered: two windows at 300 /min.
const PULSES_MAX: usize = 512;
/// From and up to here, nothing to do, /min. Source: values that do not score 3 in NEWS2 (Royal College of Physicians, 2017).
const USUAL_PER_MIN: (f64, f64) = (41.0, 130.0);

pub(super) const RULE: Rule = Rule {
    id: "pulse-rate",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Pulse rate from the plethysmogram",
    source: "Elgendi et al. 2013; Orphanidou et al. 2015",
    codes: &[("http://loinc.org", "8889-8", "Heart rate by Pulse oximetry")],
    parameters: || {
        let mut out: Vec<(String, f64)> = vec![
            ("window_s".into(), WINDOW_S as f64),
            ("delay_s".into(), DELAY_S as f64),
            ("good_min".into(), GOOD_MIN),
            ("usual_low_per_min".into(), USUAL_PER_MIN.0),
            ("usual_high_per_min".into(), USUAL_PER_MIN.1),
        ];
        out.extend(line::named().map(|(name, value)| (name.to_owned(), value)));
        out.extend(PulseParameters::STANDARD.named().map(|(name, value)| (format!("pulse.{name}"), value)));
        out
    },
    start: |rule, _: &Person| {
        let (pulses, frames) = (VecDeque::new(), Frames::default());
        Box::new(PulseRate { author: Author::of(rule), running: None, pulses, frames })
    },
};

#[derive(Debug)]
struct PulseRate {
    author: Author,
    running: Option<Running>,
    pulses: VecDeque<(TimeMs, Pulse)>,
    frames: Frames,
}

#[derive(Debug)]
struct Running {
    line: Line,
    detector: Box<Pulses>,
    window_from: TimeMs,
}

impl Watch for PulseRate {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Measured::Wave { rate_hz, values } = input.value else { return };
        if input.signal != "pleth" {
            return;
        }
        let joint = self.running.as_mut().map_or(Joint::Anew, |running| running.line.join(input, rate_hz));
        let missing = match joint {
            Joint::After(missing) => missing,
            Joint::Anew => {
                self.pulses.clear();
                self.frames = Frames::default();
                let detector = Pulses::new(rate_hz, PulseParameters::STANDARD).map(Box::new);
                self.running = detector.map(|detector| Running {
                    line: Line::new(input, rate_hz),
                    detector,
                    window_from: input.at,
                });
                0
            }
        };
        let Some(running) = &mut self.running else { return };
        for value in std::iter::repeat_n(f64::NAN, missing as usize).chain(values.iter().copied()) {
            if let Some(pulse) = running.detector.push(value) {
                keep_latest(&mut self.pulses, (running.line.time_of(pulse.at_s), pulse), PULSES_MAX);
            }
        }
        running.line.add(values.len());
        let now = running.line.until();
        self.frames.add(input.at, now, input.frame);
        self.close_after(DELAY_S * 1_000, out);
    }

    fn finish(&mut self, out: &mut Vec<Finding>) {
        self.close_after(0, out);
    }
}

impl PulseRate {
    /// Closes the windows that ended so many milliseconds ago.
    fn close_after(&mut self, delay_ms: u64, out: &mut Vec<Finding>) {
        while let Some(running) = &mut self.running
            && running.line.until().0.saturating_sub(running.window_from.0) >= WINDOW_S * 1_000 + delay_ms
        {
            let from = running.window_from;
            running.window_from = from.plus_ms(WINDOW_S * 1_000);
            let until = running.window_from;
            out.push(self.close(from, until));
        }
    }

    fn close(&mut self, from: TimeMs, until: TimeMs) -> Finding {
        let pulses: Vec<Pulse> =
            self.pulses.iter().filter(|(at, _)| (from..until).contains(at)).map(|(_, pulse)| *pulse).collect();
        let mut finding = Finding {
            signal: Some("pleth".to_owned()),
            ..self.author.finding(from, until, self.frames.within(from, until))
        };
        self.pulses.retain(|(at, _)| *at >= until);
        self.frames.forget(until);
        let rated = pulse_rate(&pulses);
        match rated.filter(|(_, good)| *good >= GOOD_MIN) {
            Some((rate, _)) => {
                let (low, high) = USUAL_PER_MIN;
                let usual = (low..=high).contains(&rate.round());
                finding.severity = if usual { Severity::None } else { Severity::Medium };
                finding.measures.push(Measure { name: "pulse-rate", value: rate, unit: "/min" });
            }
            None => {
                finding.complete = false;
                finding.missing.push("good-pulses");
            }
        }
        let good = rated.map_or(0.0, |(_, good)| good);
        finding.measures.push(Measure { name: "pulses", value: pulses.len() as f64, unit: "1" });
        finding.measures.push(Measure { name: "quality", value: good, unit: "1" });
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        recordings::{Breathing, Chance},
        reference::rate_per_min,
    };
    use record::sha256;

    fn found(values: &[f64], lose: Option<usize>) -> Vec<Finding> {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        for (second, values) in values.chunks(100).enumerate().filter(|(second, _)| Some(*second) != lose) {
            let frame = sha256(&[&second.to_be_bytes()]);
            let value = Measured::Wave { rate_hz: 100.0, values };
            watch.take(&Input { frame, signal: "pleth", at: TimeMs(second as u64 * 1_000), value }, &mut out);
        }
        out
    }

    const BREATHING: Breathing =
        Breathing { rate_hz: 100.0, breaths_per_min: 15.0, pulse_per_min: 75.0, seconds: 105, seed: 2 };

    #[test]
    fn a_window_gives_the_rate_of_its_pulses_and_cites_its_frames() {
        for lose in [None, Some(40)] {
            let findings = found(&BREATHING.pleth(), lose);
            assert_eq!(findings.len(), 3);
            for (n, finding) in findings.iter().enumerate() {
                let truth = rate_per_min(&BREATHING.pulses_s(), n as f64 * 32.0, 32.0).unwrap();
                let rate = finding.measure("pulse-rate").unwrap();
                assert!((rate - truth).abs() < 0.8, "seed 2: {rate} of {truth}");
                assert_eq!(finding.inputs.len(), if lose.is_some() && n == 1 { 31 } else { 32 });
            }
        }
    }

    #[test]
    fn noise_has_no_pulse_rate() {
        let mut chance = Chance(4);
        let values: Vec<f64> = (0..100 * 80).map(|_| chance.normal()).collect();
        let findings = found(&values, None);
        assert_eq!(findings.len(), 2);
        for finding in findings {
            assert!(!finding.complete && finding.measure("pulse-rate").is_none(), "seed 4: {finding:?}");
        }
    }
}
