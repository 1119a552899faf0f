//! Respiration rate over 32 seconds: from chest impedance, from the plethysmogram and from the ECG, fused.
//!
//! Source: breaths of the impedance, see [`Breaths`](crate::Breaths), with the quality of Charlton et al., Biomed Signal Process Control
//! 2021;65:102339; modulations of pulses and QRS complexes, see [`modulated_rate`](crate::modulated_rate). Rates are fused by quality and precision where they
//! agree. Signals: `resp-impedance`, `pleth`, `ecg-ii` or the first lead seen without it. Unit: `/min`.

mod sources;

use super::{
    Author, Rule, Watch,
    line::{self, Frames},
};
use crate::{
    breath::BreathParameters,
    finding::{Finding, Kind, Measure, Severity},
    input::{Input, Measured, Person},
    modulation::ModulationParameters,
    pulse::PulseParameters,
    qrs::QrsParameters,
};
use record::TimeMs;
use sources::{Ecg, Impedance, Pleth, Rated};

/// Length of a window, in seconds. Source: Karlen et al. 2013, 32 s.
const WINDOW_S: u64 = 32;
const WINDOW_MS: u64 = WINDOW_S * 1_000;
/// A window is assessed so many seconds after its end: until then its breaths and beats are certain.
const DELAY_S: u64 = 5;
/// Rates further apart than this are not of the same breathing, /min. Source: Karlen et al. 2013.
const SPREAD_PER_MIN: f64 = 4.0;
/// Standard errors of a rate of good quality, /min, of impedance, plethysmogram and ECG: what an error of 0.15 s in the first and last breath
/// of a window makes at 20 /min, and a quarter of the distance of two lines that a spectrum of 32 s keeps apart.
const ERROR_PER_MIN: [f64; 3] = [0.14, 0.5, 0.5];
/// Below this quality a rate is shown and not used, of impedance, plethysmogram and ECG: fewer than one window in ten without
/// respiration reaches it.
const QUALITY_MIN: [f64; 3] = [0.6, 0.4, 0.4];
/// Impedance breaths within this share of the pulse rate are heart beats.
const HEART_SHARE: f64 = 0.05;
/// Up to here and from there on, medium, /min. Source: values that score 3 in NEWS2 (Royal College of Physicians, 2017).
const SEVERE_PER_MIN: (f64, f64) = (8.0, 25.0);

/// Names of the three sources' measures: rate and quality.
const NAMES: [(&str, &str); 3] =
    [("impedance", "impedance-quality"), ("pleth", "pleth-quality"), ("ecg", "ecg-quality")];

pub(super) const RULE: Rule = Rule {
    id: "respiration-rate",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Respiration rate from waveforms",
    source: "Charlton et al. 2016 and 2021; Karlen et al. 2013; Lázaro et al. 2014",
    codes: &[("http://loinc.org", "9279-1", "Respiratory rate")],
    parameters: || {
        let mut out: Vec<(String, f64)> = vec![
            ("window_s".into(), WINDOW_S as f64),
            ("delay_s".into(), DELAY_S as f64),
            ("spread_per_min".into(), SPREAD_PER_MIN),
            ("heart_share".into(), HEART_SHARE),
            ("severe_low_per_min".into(), SEVERE_PER_MIN.0),
            ("severe_high_per_min".into(), SEVERE_PER_MIN.1),
        ];
        for ((name, _), (error, quality)) in NAMES.iter().zip(ERROR_PER_MIN.iter().zip(QUALITY_MIN)) {
            out.push((format!("{name}.error_per_min"), *error));
            out.push((format!("{name}.quality_min"), quality));
        }
        out.extend(line::named().map(|(name, value)| (name.to_owned(), value)));
        let prefixed = |prefix: &'static str| move |(name, value)| (format!("{prefix}.{name}"), value);
        out.extend(sources::named().map(prefixed("source")));
        out.extend(BreathParameters::STANDARD.named().map(prefixed("breath")));
        out.extend(PulseParameters::STANDARD.named().map(prefixed("pulse")));
        out.extend(ModulationParameters::STANDARD.named().map(prefixed("modulation")));
        out.extend(QrsParameters::STANDARD.named().map(prefixed("qrs")));
        out
    },
    start: |rule, _: &Person| {
        Box::new(RespirationRate {
            author: Author::of(rule),
            impedance: Impedance::default(),
            pleth: Pleth::default(),
            ecg: Ecg::default(),
            frames: Frames::default(),
            window_from: None,
            until: TimeMs(0),
        })
    },
};

#[derive(Debug)]
struct RespirationRate {
    author: Author,
    impedance: Impedance,
    pleth: Pleth,
    ecg: Ecg,
    frames: Frames,
    window_from: Option<TimeMs>,
    /// The latest time that a waveform reached.
    until: TimeMs,
}

impl Watch for RespirationRate {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Measured::Wave { rate_hz, values } = input.value else { return };
        if !(rate_hz.is_finite() && rate_hz > 0.0) || values.is_empty() {
            return;
        }
        let until = match input.signal {
            "resp-impedance" => self.impedance.take(input, rate_hz, values),
            "pleth" => self.pleth.take(input, rate_hz, values),
            signal if signal.starts_with("ecg-") => self.ecg.take(input, rate_hz, values),
            _ => None,
        };
        let Some(until) = until else { return };
        self.frames.add(input.at, until, input.frame);
        let from = *self.window_from.get_or_insert(input.at);
        if until.0.saturating_sub(from.0) > 4 * WINDOW_MS || until.plus_ms(WINDOW_MS) < from {
            // Time leapt: what was before is over.
            self.window_from = Some(input.at);
            self.until = until;
        }
        self.until = self.until.max(until);
        self.close_after(DELAY_S * 1_000, out);
    }

    fn finish(&mut self, out: &mut Vec<Finding>) {
        self.close_after(0, out);
    }
}

impl RespirationRate {
    /// Closes the windows that ended so many milliseconds ago.
    fn close_after(&mut self, delay_ms: u64, out: &mut Vec<Finding>) {
        while let Some(from) = self.window_from
            && self.until.0.saturating_sub(from.0) >= WINDOW_MS + delay_ms
        {
            let until = from.plus_ms(WINDOW_MS);
            out.extend(self.close(from, until));
            self.window_from = Some(until);
            self.frames.forget(until);
        }
    }

    fn close(&mut self, from: TimeMs, until: TimeMs) -> Option<Finding> {
        let heart_per_min = self.pleth.rate_per_min(from, until).or_else(|| self.ecg.heart_per_min(from, until));
        let mut impedance = self.impedance.rate(from, until);
        if let (Some(rated), Some(heart)) = (&mut impedance, heart_per_min)
            && (rated.rate_per_min / heart - 1.0).abs() <= HEART_SHARE
        {
            rated.quality = 0.0;
        }
        let rates = [impedance, self.pleth.rate(from, until), self.ecg.rate(from, until)];
        let inputs = self.frames.within(from, until);
        if inputs.is_empty() {
            return None;
        }
        let mut finding = self.author.finding(from, until, inputs);
        match fused(&rates) {
            Some(rate) => {
                finding.measures.push(Measure { name: "respiratory-rate", value: rate, unit: "/min" });
                let (low, high) = SEVERE_PER_MIN;
                let whole = rate.round();
                finding.severity = if whole <= low || whole >= high { Severity::Medium } else { Severity::None };
            }
            None => {
                finding.complete = false;
                finding.missing.push("respiratory-rate");
            }
        }
        for ((name, quality), rated) in NAMES.iter().zip(rates) {
            if let Some(rated) = rated {
                finding.measures.push(Measure { name, value: rated.rate_per_min, unit: "/min" });
                finding.measures.push(Measure { name: quality, value: rated.quality, unit: "1" });
            }
        }
        Some(finding)
    }
}

/// The mean of the rates that agree, weighted by quality and precision. Of groups that do not agree, the weightiest counts.
fn fused(rates: &[Option<Rated>; 3]) -> Option<f64> {
    let weighted: Vec<(f64, f64)> = rates
        .iter()
        .zip(ERROR_PER_MIN.iter().zip(QUALITY_MIN))
        .filter_map(|(rated, (error, quality_min))| {
            let rated = rated.filter(|rated| rated.quality >= quality_min)?;
            Some((rated.rate_per_min, (rated.quality / error).powi(2)))
        })
        .collect();
    let agreeing = |centre: f64| weighted.iter().filter(move |(rate, _)| (rate - centre).abs() <= SPREAD_PER_MIN);
    let weight = |centre: f64| agreeing(centre).map(|(_, weight)| weight).sum::<f64>();
    let (centre, _) = weighted.iter().max_by(|a, b| weight(a.0).total_cmp(&weight(b.0)))?;
    let sum: f64 = agreeing(*centre).map(|(rate, weight)| rate * weight).sum();
    Some(sum / weight(*centre))
}

#[cfg(test)]
mod tests;
