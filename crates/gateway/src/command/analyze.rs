//! `vitaltrace analyze`: what analytics finds in a recording, offline.

use super::{BadInput, Exit, print};
use crate::signal::{self, Source};
use analytics::{Beat, Finding, Monitor, Person, Qrs, QrsParameters};
use clap::Args;
use record::{TimeMs, sha256};
use sensing::{
    Signal, Value,
    wfdb::{self, Recording},
};
use serde_json::{Value as Json, json};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// A beat within this distance of a reference beat is that beat, in seconds. Source: ANSI/AAMI EC57.
const MATCH_S: f64 = 0.150;

/// Runs all analytics over a recording: beats of the ECG, and findings of every rule.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// A WFDB header (.hea), or a .csv file of numbers.
    file: PathBuf,
    /// Reference beats of the record (.atr): sensitivity and positive predictivity are computed.
    #[arg(long, value_name = "FILE.atr")]
    annotations: Option<PathBuf>,
    /// The person's age in whole years; some scores need it.
    #[arg(long)]
    age: Option<u16>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Analyze {
    /// Reads, computes, prints.
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let name = self.file.to_str().ok_or_else(|| BadInput("the file's name is not UTF-8".to_owned()))?;
        let mut source = Source::open(name)?;
        let lead = match &source {
            Source::Recorded(recording, _) => Some(beats(recording, &self.file)?),
            _ => None,
        };
        let score = match (&self.annotations, &lead) {
            (None, _) => None,
            (Some(reference), Some(lead)) => Some(score(reference, lead)?),
            (Some(_), None) => return Err(BadInput("only WFDB recordings have annotations".to_owned()).into()),
        };
        let findings = findings(&mut source, Person { age_years: self.age, ..Person::default() });
        if self.json {
            print(&serde_json::to_string_pretty(&document(lead.as_ref(), &findings, score.as_ref()))?);
        } else {
            print(&in_words(lead.as_ref(), &findings, score.as_ref()));
        }
        Ok(Exit::Good)
    }
}

/// The lead that beats were looked for in.
struct Lead {
    name: &'static str,
    rate_hz: f64,
    beats: Vec<Beat>,
    /// How fast it was looked through for beats, in samples a second, on one core.
    samples_per_s: f64,
}

/// How found beats and reference beats agree.
struct Score {
    found: u64,
    missed: u64,
    wrong: u64,
}

impl Score {
    fn sensitivity(&self) -> Option<f64> {
        share(self.found, self.found + self.missed)
    }
    fn predictivity(&self) -> Option<f64> {
        share(self.found, self.found + self.wrong)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Beats of lead II, or of the first lead without it.
fn beats(recording: &Recording, file: &Path) -> anyhow::Result<Lead> {
    let specs = recording.header().signals.iter().enumerate();
    let leads: Vec<(usize, &'static str)> =
        specs.filter_map(|(at, spec)| Some((at, spec.channel().filter(|name| name.starts_with("ecg-"))?))).collect();
    let lead = leads.iter().find(|(_, name)| *name == "ecg-ii").or(leads.first());
    let Some(&(at, name)) = lead else {
        return Err(BadInput(format!("`{}` has no lead of an ECG", file.display())).into());
    };
    let (rate_hz, samples) = (recording.rate_hz(at).unwrap_or_default(), recording.samples(at).unwrap_or_default());
    let detector = Qrs::new(rate_hz, QrsParameters::STANDARD);
    let mut detector = detector.ok_or_else(|| {
        BadInput(format!("`{}` has {rate_hz} samples a second: 100 to 4000 are needed", file.display()))
    })?;
    let spec = &recording.header().signals[at];
    let (origin, scale) = (spec.origin().to_f64(), spec.scale().to_f64());
    let physical = |sample: &i16| if *sample == i16::MIN { f64::NAN } else { origin + f64::from(*sample) * scale };
    let (mut beats, begin) = (Vec::new(), Instant::now());
    detector.extend(samples.iter().map(physical), |beat| beats.push(beat));
    beats.extend(detector.finish());
    let samples_per_s = samples.len() as f64 / begin.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(Lead { name, rate_hz, beats, samples_per_s })
}

/// Compares beats with a reference, beat by beat.
fn score(reference: &Path, lead: &Lead) -> anyhow::Result<Score> {
    let annotations = wfdb::annotations(&signal::read(reference)?);
    let annotations =
        annotations.map_err(|e| BadInput(format!("`{}` is no annotation file: {e}", reference.display())))?;
    let expected: Vec<u64> = annotations.iter().filter(|a| a.is_beat()).map(|a| a.sample).collect();
    let got: Vec<u64> = lead.beats.iter().map(|beat| beat.sample).collect();
    Ok(compare(&expected, &got, (MATCH_S * lead.rate_hz).round() as u64))
}

/// Both in order. Each reference beat is matched at most once, by the earliest beat that reaches it.
fn compare(expected: &[u64], got: &[u64], reach: u64) -> Score {
    let mut score = Score { found: 0, missed: 0, wrong: 0 };
    let (mut e, mut g) = (0, 0);
    while let (Some(&wanted), Some(&beat)) = (expected.get(e), got.get(g)) {
        if wanted.abs_diff(beat) <= reach {
            score.found += 1;
            e += 1;
            g += 1;
        } else if wanted < beat {
            score.missed += 1;
            e += 1;
        } else {
            score.wrong += 1;
            g += 1;
        }
    }
    score.missed += (expected.len() - e) as u64;
    score.wrong += (got.len() - g) as u64;
    score
}

/// What the rules find, times counted from the recording's beginning. Each second counts as a frame.
fn findings(source: &mut Source, person: Person) -> Vec<Finding> {
    let mut monitor = Monitor::new(&person);
    let mut found = Vec::new();
    let mut at = TimeMs(0);
    while let Some(signals) = source.next_second() {
        let frame = sha256(&[b"vitaltrace/recorded-second/1\0", &at.0.to_be_bytes(), &content(&signals)]);
        found.extend(exchange::assess(&mut monitor, frame, at, &signals));
        at = at.plus_ms(1_000);
    }
    found.extend(monitor.finish());
    found
}

/// The samples and values of a second as bytes.
fn content(signals: &[Signal]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for signal in signals {
        bytes.extend_from_slice(signal.name.as_bytes());
        bytes.push(0);
        match &signal.value {
            Value::Number { value, .. } => bytes.extend_from_slice(value.to_string().as_bytes()),
            Value::Code(code) => bytes.extend_from_slice(code.as_bytes()),
            Value::Absent(why) => bytes.extend_from_slice(why.code().as_bytes()),
            Value::Waveform(wave) => {
                wave.samples
                    .iter()
                    .for_each(|sample| bytes.extend_from_slice(&sample.unwrap_or(i32::MIN).to_be_bytes()));
            }
        }
        bytes.push(0);
    }
    bytes
}

fn document(lead: Option<&Lead>, findings: &[Finding], score: Option<&Score>) -> Json {
    let beats = lead.map(|lead| lead.beats.as_slice()).unwrap_or_default();
    let beats: Vec<Json> =
        beats.iter().map(|beat| json!({"sample": beat.sample, "class": beat.class.letter()})).collect();
    let mut document = json!({
        "lead": lead.map(|lead| lead.name), "rate_hz": lead.map(|lead| lead.rate_hz), "samples_per_s": lead.map(|lead| lead.samples_per_s), "beats": beats, "findings": findings
    });
    if let Some(score) = score {
        document["score"] = json!({
            "matched": score.found, "missed": score.missed, "wrong": score.wrong,
            "sensitivity": score.sensitivity(), "positive_predictivity": score.predictivity()
        });
    }
    document
}

fn in_words(lead: Option<&Lead>, findings: &[Finding], score: Option<&Score>) -> String {
    let mut lines = Vec::new();
    if let Some(lead) = lead {
        lines.push(format!("{} beats in {} at {} samples a second", lead.beats.len(), lead.name, lead.rate_hz));
    }
    if let Some(score) = score {
        let percent =
            |share: Option<f64>| share.map_or("unknown".to_owned(), |share| format!("{:.2} %", share * 100.0));
        lines.push(format!(
            "against the reference: sensitivity {}, positive predictivity {} ({} missed, {} wrong)",
            percent(score.sensitivity()),
            percent(score.predictivity()),
            score.missed,
            score.wrong
        ));
    }
    for finding in findings {
        let values: Vec<String> =
            finding.measures.iter().map(|m| format!("{} {:.1} {}", m.name, m.value, m.unit)).collect();
        let about = finding.signal.as_deref().unwrap_or("-");
        let alarm = finding.alarm.as_ref().map(|alarm| format!(" {}", alarm.name)).unwrap_or_default();
        lines.push(format!("{:>8} s  {}{alarm} {about}: {}", finding.until.0 / 1_000, finding.rule, values.join(", ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &[u64], got: &[u64], matched: u64, missed: u64, wrong: u64) {
        let score = compare(expected, got, 5);
        assert_eq!((score.found, score.missed, score.wrong), (matched, missed, wrong), "{expected:?} {got:?}");
    }

    #[test]
    fn beats_are_matched_within_reach_and_once() {
        check(&[10, 20, 30], &[12, 20, 29], 3, 0, 0);
        check(&[10, 20, 30], &[10, 30], 2, 1, 0);
        check(&[10], &[8, 12], 1, 0, 1);
        check(&[10, 100], &[50], 0, 2, 1);
        check(&[], &[5], 0, 0, 1);
        check(&[5], &[], 0, 1, 0);
    }

    #[test]
    fn a_published_record_is_scored() {
        let shared = std::env::var("VITALTRACE_SHARED")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").to_owned());
        let header = Path::new(&shared).join("signals/mitdb/100.hea");
        if !header.exists() {
            crate::command::tell(&format!("SKIPPED: {} not found", header.display()));
            return;
        }
        let lead = beats(&signal::recording(&header).unwrap(), &header).unwrap();
        let score = score(&header.with_extension("atr"), &lead).unwrap();
        assert_eq!(lead.name, "ecg-ii");
        assert!(score.sensitivity().unwrap() > 0.99, "{} missed", score.missed);
        assert!(score.predictivity().unwrap() > 0.99, "{} wrong", score.wrong);
    }
}
