//! `vitaltrace bench ecg`: how many samples of one ECG lead a second of one core takes in: beats alone, rhythm, variability, and every rule of the ECG.

use crate::{
    command::{BadInput, Exit, print},
    cpu::Stopwatch,
    signal::{self, Source},
};
use analytics::{Input, Measured, Monitor, Person, Qrs, QrsParameters, Rule};
use anyhow::Context;
use clap::{Args, builder::RangedU64ValueParser};
use record::{TimeMs, sha256};
use sensing::{
    Value,
    generated::{Story, Wearer},
};
use serde::Serialize;
use std::path::PathBuf;

/// Samples a second of the made-up lead: as the MIT-BIH records.
const GENERATED_HZ: u32 = 360;
/// How much of it is made up; it is taken in again and again.
const GENERATED_S: u64 = 600;
/// The seed that it is made of.
const SEED: u64 = 1;
/// How many samples are handed over at a time: a second, as a frame brings them.
const FRAME_S: f64 = 1.0;

/// What is measured: its name, and the rules that it runs; nothing for beats alone. Rules are told of beats and quality, which is found beside.
const RUNS: [(&str, Option<&[&str]>); 4] = [
    ("qrs", None),
    (
        "rhythm",
        Some(&[
            "asystole",
            "ventricular-fibrillation",
            "ventricular-tachycardia",
            "ecg-rate-alarms",
            "atrial-fibrillation",
        ]),
    ),
    ("hrv", Some(&["heart-rate-variability", "heart-rate-variability-day"])),
    (
        "ecg",
        Some(&[
            "ecg-heart-rate",
            "ecg-signal-quality",
            "asystole",
            "ventricular-fibrillation",
            "ventricular-tachycardia",
            "ecg-rate-alarms",
            "atrial-fibrillation",
            "heart-rate-variability",
            "heart-rate-variability-day",
            "respiration-rate",
        ]),
    ),
];

/// Measures analytics of the ECG on one core, in samples a second of its time.
#[derive(Debug, Args)]
pub(crate) struct Ecg {
    /// A recording (.hea or .csv) that is measured too, beside a made-up person.
    #[arg(long, value_name = "FILE")]
    signal: Option<PathBuf>,
    /// How many seconds of a core each run takes.
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<u32>::new().range(1..=600))]
    seconds: u32,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What one run showed.
#[derive(Debug, Serialize)]
struct Run {
    what: &'static str,
    signal: String,
    /// Samples a second of a core's own time: what others do on the machine does not count.
    samples_per_s: f64,
    cores: u32,
}

#[derive(Debug, Serialize)]
struct Runs {
    runs: Vec<Run>,
}

/// One lead.
struct Lead {
    name: String,
    rate_hz: f64,
    mv: Vec<f64>,
}

impl Ecg {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let mut leads = vec![generated()?];
        leads.extend(self.signal.as_deref().map(recorded).transpose()?);
        let mut runs = Vec::new();
        for lead in &leads {
            for (what, rules) in RUNS {
                let samples_per_s = match rules {
                    None => beats(lead, f64::from(self.seconds))?,
                    Some(rules) => rules_of(lead, rules, f64::from(self.seconds))?,
                };
                runs.push(Run { what, signal: lead.name.clone(), samples_per_s, cores: 1 });
            }
        }
        let runs = Runs { runs };
        if self.json {
            print(&serde_json::to_string_pretty(&runs)?);
        } else {
            for run in &runs.runs {
                let (what, signal, millions) = (run.what, &run.signal, run.samples_per_s / 1e6);
                print(&format!("{what:<8} {signal:<12} {millions:>8.1} million samples a second of one core"));
            }
        }
        Ok(Exit::Good)
    }
}

/// Lead II of somebody who does not exist.
fn generated() -> anyhow::Result<Lead> {
    let mut wearer = Wearer::new(SEED, Story::Haemorrhage { onset_s: 120.0, duration_s: 300.0 }, GENERATED_HZ);
    let mut mv = Vec::with_capacity((u64::from(GENERATED_HZ) * GENERATED_S) as usize);
    for _ in 0..GENERATED_S {
        for signal in wearer.next_second().signals {
            if let Value::Waveform(wave) = &signal.value
                && signal.name == "ecg-ii"
            {
                mv.extend(wave.physical());
            }
        }
    }
    anyhow::ensure!(!mv.is_empty(), "made-up people have no lead II");
    Ok(Lead { name: signal::GENERATED.to_owned(), rate_hz: f64::from(GENERATED_HZ), mv })
}

/// Lead II of a recording, or its first lead.
fn recorded(path: &std::path::Path) -> anyhow::Result<Lead> {
    let source = Source::open(path.to_str().ok_or_else(|| BadInput("the file's name is not UTF-8".to_owned()))?)?;
    let waves = source.waves();
    let wave = signal::lead(&waves).ok_or_else(|| BadInput(format!("`{}` has no lead of an ECG", path.display())))?;
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Lead { name, rate_hz: wave.rate_hz, mv: wave.physical(0..wave.len()) })
}

/// Samples a second in which beats are found, over at least so many seconds of a core.
fn beats(lead: &Lead, seconds: f64) -> anyhow::Result<f64> {
    let mut qrs = Qrs::new(lead.rate_hz, QrsParameters::STANDARD).ok_or_else(|| {
        BadInput(format!("`{}` has {} samples a second: 100 to 4000 are needed", lead.name, lead.rate_hz))
    })?;
    let (watch, mut samples, mut found) = (Stopwatch::start(), 0usize, 0u64);
    while !watch.has_spent(seconds) {
        qrs.extend(lead.mv.iter().copied(), |_| found += 1);
        samples += lead.mv.len();
    }
    // What nobody looks at might not be computed.
    std::hint::black_box(found);
    Ok(samples as f64 / watch.seconds())
}

/// Samples a second that these rules take in, with beats and quality, over at least so many seconds of a core.
fn rules_of(lead: &Lead, rules: &[&str], seconds: f64) -> anyhow::Result<f64> {
    let found: Option<Vec<&Rule>> = rules.iter().map(|rule| Rule::find(rule)).collect();
    let mut monitor = Monitor::of(found.context("a rule that is measured is not there")?, &Person::default());
    let frame = ((lead.rate_hz * FRAME_S) as usize).max(1);
    let (watch, mut samples, mut number, mut told) = (Stopwatch::start(), 0usize, 0u64, 0usize);
    while !watch.has_spent(seconds) {
        for values in lead.mv.chunks_exact(frame) {
            let at = TimeMs((samples as f64 * 1_000.0 / lead.rate_hz).round() as u64);
            let value = Measured::Wave { rate_hz: lead.rate_hz, values };
            let input = Input { frame: sha256(&[&number.to_be_bytes()]), signal: "ecg-ii", at, value };
            told += monitor.take(&input).len();
            samples += values.len();
            number += 1;
        }
    }
    std::hint::black_box(told);
    Ok(samples as f64 / watch.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_takes_in_samples_and_names_rules_that_are_there() {
        let whole = generated().unwrap();
        let lead = Lead { mv: whole.mv[..3_600].to_vec(), ..whole };
        for (what, rules) in RUNS {
            let samples_per_s = match rules {
                None => beats(&lead, 0.01).unwrap(),
                Some(rules) => rules_of(&lead, rules, 0.01).unwrap(),
            };
            assert!(samples_per_s > 100_000.0, "{what}: {samples_per_s}");
        }
        assert!(rules_of(&lead, &["no-such-rule"], 0.01).is_err());
        let slow = Lead { rate_hz: 50.0, ..lead };
        assert!(beats(&slow, 0.01).unwrap_err().is::<BadInput>());
    }
}
