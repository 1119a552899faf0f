//! Skin conductance over a minute: its tonic level, and the responses that rise from it.
//!
//! Source: as the detector, see [`Responses`]; 1 to 3 responses a minute are usual at rest (Dawson, Schell and Filion,
//! Handbook of Psychophysiology, 2017). Unit: `uS`. Signal: `gsr`.

use super::{
    Author, Rule, Watch,
    line::{self, Frames, Joint, Line},
};
use crate::{
    conductance::{Response, ResponseParameters, Responses},
    finding::{Finding, Kind, Measure},
    input::{Input, Measured, Person},
    smooth::{Blocks, keep_latest, median},
};
use record::TimeMs;
use std::collections::VecDeque;

/// Length of a window, in seconds.
const WINDOW_S: u64 = 60;
/// A window is assessed so many seconds after its end: until then its responses are certain, as a rule.
const DELAY_S: u64 = 10;
/// Values a second that the level is the median of.
const LEVEL_HZ: f64 = 2.0;
/// The most responses remembered: more than one a second is none.
const RESPONSES_MAX: usize = 128;
/// The most values remembered for the level: two windows.
const LEVELS_MAX: usize = 512;

pub(super) const RULE: Rule = Rule {
    id: "skin-conductance",
    version: 1,
    kind: Kind::Descriptive,
    title: "Skin conductance of one minute",
    source: "Boucsein et al., Psychophysiology 2012;49:1017",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "skin-conductance", "Skin conductance of one minute")],
    parameters: || {
        let mut out: Vec<(String, f64)> = vec![
            ("window_s".into(), WINDOW_S as f64),
            ("delay_s".into(), DELAY_S as f64),
            ("level_hz".into(), LEVEL_HZ),
        ];
        out.extend(line::named().map(|(name, value)| (name.to_owned(), value)));
        out.extend(ResponseParameters::STANDARD.named().map(|(name, value)| (format!("response.{name}"), value)));
        out
    },
    start: |rule, _: &Person| {
        Box::new(SkinConductance { author: Author::of(rule), running: None, frames: Frames::default() })
    },
};

#[derive(Debug)]
struct SkinConductance {
    author: Author,
    running: Option<Running>,
    frames: Frames,
}

#[derive(Debug)]
struct Running {
    line: Line,
    detector: Box<Responses>,
    blocks: Blocks,
    levels: VecDeque<(TimeMs, f64)>,
    responses: VecDeque<(TimeMs, Response)>,
    window_from: TimeMs,
}

impl Watch for SkinConductance {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Measured::Wave { rate_hz, values } = input.value else { return };
        if input.signal != "gsr" {
            return;
        }
        let joint = self.running.as_mut().map_or(Joint::Anew, |running| running.line.join(input, rate_hz));
        let missing = match joint {
            Joint::After(missing) => missing,
            Joint::Anew => {
                self.frames = Frames::default();
                self.running = Running::new(input, rate_hz);
                0
            }
        };
        let Some(running) = &mut self.running else { return };
        for value in std::iter::repeat_n(f64::NAN, missing as usize).chain(values.iter().copied()) {
            running.push(value);
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

impl SkinConductance {
    /// Closes the windows that ended so many milliseconds ago.
    fn close_after(&mut self, delay_ms: u64, out: &mut Vec<Finding>) {
        let Some(running) = &mut self.running else { return };
        while running.line.until().0.saturating_sub(running.window_from.0) >= WINDOW_S * 1_000 + delay_ms {
            let from = running.window_from;
            let until = from.plus_ms(WINDOW_S * 1_000);
            running.window_from = until;
            let finding = self.author.finding(from, until, self.frames.within(from, until));
            out.push(running.close(finding));
            self.frames.forget(until);
        }
    }
}

impl Running {
    fn new(input: &Input<'_>, rate_hz: f64) -> Option<Self> {
        Some(Self {
            detector: Box::new(Responses::new(rate_hz, ResponseParameters::STANDARD)?),
            line: Line::new(input, rate_hz),
            blocks: Blocks::new(rate_hz, LEVEL_HZ),
            levels: VecDeque::new(),
            responses: VecDeque::new(),
            window_from: input.at,
        })
    }

    fn push(&mut self, value: f64) {
        if let Some((block, mean)) = self.blocks.push(value) {
            let at = self.line.time_of(self.blocks.time_of(block as f64));
            // A block with a hole in it is left out.
            if mean.is_finite() {
                keep_latest(&mut self.levels, (at, mean), LEVELS_MAX);
            }
        }
        if let Some(response) = self.detector.push(value) {
            keep_latest(&mut self.responses, (self.line.time_of(response.peak_s), response), RESPONSES_MAX);
        }
    }

    fn close(&mut self, mut finding: Finding) -> Finding {
        let (from, until) = (finding.from, finding.until);
        let within = |at: &TimeMs| (from..until).contains(at);
        let level = median(self.levels.iter().filter(|(at, _)| within(at)).map(|(_, value)| *value));
        let amplitudes: Vec<f64> =
            self.responses.iter().filter(|(at, _)| within(at)).map(|(_, response)| response.amplitude_us).collect();
        self.levels.retain(|(at, _)| *at >= until);
        self.responses.retain(|(at, _)| *at >= until);
        finding.signal = Some("gsr".to_owned());
        match level {
            Some(value) => finding.measures.push(Measure { name: "tonic-level", value, unit: "uS" }),
            None => {
                finding.complete = false;
                finding.missing.push("tonic-level");
            }
        }
        let per_min = amplitudes.len() as f64 * 60.0 / WINDOW_S as f64;
        finding.measures.push(Measure { name: "responses", value: per_min, unit: "/min" });
        if !amplitudes.is_empty() {
            let mean = amplitudes.iter().sum::<f64>() / amplitudes.len() as f64;
            let largest = amplitudes.iter().copied().fold(0.0, f64::max);
            finding.measures.push(Measure { name: "amplitude-mean", value: mean, unit: "uS" });
            finding.measures.push(Measure { name: "amplitude-max", value: largest, unit: "uS" });
        }
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::sha256;

    fn found(values: &[f64], lose: Option<usize>) -> Vec<Finding> {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        for (second, values) in values.chunks(4).enumerate().filter(|(second, _)| Some(*second) != lose) {
            let frame = sha256(&[&second.to_be_bytes()]);
            let value = Measured::Wave { rate_hz: 4.0, values };
            watch.take(&Input { frame, signal: "gsr", at: TimeMs(second as u64 * 1_000), value }, &mut out);
        }
        out
    }

    #[test]
    fn a_minute_has_a_level_and_its_responses() {
        // A response of 0.5 uS every 15 s, from the fifth second on.
        let shape = |s: f64| if s < 0.0 { 0.0 } else { ((-s / 3.0).exp() - (-s / 0.75).exp()) / 0.4725 };
        let at = |n: usize| n as f64 / 4.0;
        let values: Vec<f64> = (0..4 * 200)
            .map(|n| 5.0 + (0..14).map(|k| 0.5 * shape(at(n) - 5.0 - 15.0 * f64::from(k))).sum::<f64>())
            .collect();
        for lose in [None, Some(70)] {
            let findings = found(&values, lose);
            assert_eq!(findings.len(), 3);
            for finding in &findings {
                assert_eq!(finding.measure("responses"), Some(4.0));
                assert!((finding.measure("tonic-level").unwrap() - 5.0).abs() < 0.1);
                assert!((finding.measure("amplitude-mean").unwrap() - 0.5).abs() < 0.06, "{finding:?}");
            }
            assert_eq!(findings[1].inputs.len(), if lose.is_some() { 59 } else { 60 });
        }
    }

    #[test]
    fn a_minute_without_a_number_has_no_level() {
        let findings = found(&[f64::NAN; 4 * 75], None);
        assert_eq!((findings.len(), findings[0].complete), (1, false));
        assert_eq!(findings[0].missing, ["tonic-level"]);
    }
}
