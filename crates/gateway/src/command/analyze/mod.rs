//! `vitaltrace analyze`: what analytics finds in a recording, offline, how far it is from what people marked there, and a drawing of a stretch.

mod beats;
mod drawing;
pub(crate) mod labels;
mod rates;

use super::{BadInput, Exit, print};
use crate::signal::{self, Source};
use analytics::{BeatClass, Finding, Monitor, Person, Rhythm, reference::LabelClass};
use anyhow::Context;
use beats::{Lead, Score};
use clap::Args;
use drawing::{Drawing, Stretch};
use labels::Labels;
use rates::{Numerics, Rated};
use record::{Digest, TimeMs, sha256};
use sensing::{Signal, Value};
use serde_json::{Value as Json, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Runs all analytics over a recording: beats of the ECG, rates of breathing and pulse, and findings of every rule.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// A WFDB header (.hea), or a .csv file: numbers, or evenly spaced samples of waveforms.
    #[arg(required_unless_present = "svg")]
    file: Option<PathBuf>,
    /// What people marked in the recording (.atr and its kin, or a .csv file of breaths): beats, rhythms and breaths are compared with it. A record without
    /// signals is analysed by its marked beats.
    #[arg(long, value_name = "FILE")]
    annotations: Option<PathBuf>,
    /// What a monitor showed at the time, as a recording of its numbers: rates of breathing and pulse are compared with it.
    #[arg(long, value_name = "FILE")]
    numerics: Option<PathBuf>,
    /// The person's age in whole years; some scores need it.
    #[arg(long)]
    age: Option<u16>,
    /// Draw a stretch, into this file (.svg), or to standard output without one.
    #[arg(long, value_name = "OUT.svg", num_args = 0..=1)]
    svg: Option<Option<PathBuf>>,
    /// The second that the drawing begins at.
    #[arg(long, value_name = "SECOND", default_value_t = 0)]
    from: u64,
    /// How many seconds are drawn.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=drawing::SECONDS_MAX))]
    seconds: u64,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Analyze {
    /// Reads, computes, prints, draws.
    pub(crate) fn run(mut self) -> anyhow::Result<Exit> {
        let file = self.recording()?;
        let name = utf8(&file)?;
        let mut source = Source::open(name)?;
        let Some(seconds) = source.seconds() else {
            let why = "a recording is analysed that ends: signals that are made up as they are read never do";
            return Err(BadInput(why.to_owned()).into());
        };
        let labels = self.annotations.as_deref().map(|path| read_labels(path, &source)).transpose()?;
        let numerics = match &self.numerics {
            None => Numerics::default(),
            Some(path) => Numerics::read(&mut Source::open(utf8(path)?)?),
        };
        let person = Person { age_years: self.age, ..Person::default() };
        let (mut analysis, is_empty) = {
            let waves = source.waves();
            let lead = Lead::find(&waves)?;
            let beats_s = lead.as_ref().map(Lead::times_s).unwrap_or_default();
            let rates = rates::rates(&waves, &beats_s, labels.as_ref(), &numerics);
            let analysis = Analysis { lead, rates, recorded_s: seconds as f64, ..Analysis::default() };
            (analysis, waves.is_empty() && seconds == 0)
        };
        match labels.as_ref().filter(|labels| is_empty && !labels.beats.is_empty()) {
            Some(labels) => analysis.of_beats(labels, &person),
            None => analysis.findings = findings(&mut source, &person),
        }
        let marked = labels.as_ref().filter(|labels| !(labels.beats.is_empty() && labels.rhythms.is_empty()));
        analysis.score =
            marked.map(|labels| Score::of(labels, analysis.lead.as_ref(), &analysis.findings, analysis.recorded_s));
        let on_output = matches!(self.svg, Some(None));
        if let Some(out) = &self.svg {
            let drawn = self.draw(&file, &source, &analysis)?;
            match out {
                None => print(&drawn),
                Some(path) => {
                    fs::write(path, drawn).with_context(|| format!("`{}` cannot be written", path.display()))?
                }
            }
        }
        if self.json {
            print(&serde_json::to_string_pretty(&analysis.to_json())?);
        } else if !on_output {
            print(&analysis.in_words());
        }
        Ok(Exit::Good)
    }

    /// The recording's file. `--svg FILE` alone draws that recording to standard output.
    fn recording(&mut self) -> anyhow::Result<PathBuf> {
        let file = match (self.file.take(), &mut self.svg) {
            (Some(file), _) => file,
            (None, Some(out)) => out.take().ok_or_else(|| BadInput("no recording is named".to_owned()))?,
            (None, None) => return Err(BadInput("no recording is named".to_owned()).into()),
        };
        match &self.svg {
            Some(None) if self.json => {
                let why = "--json and a drawing cannot both be printed: name a file for the drawing, `--svg OUT.svg`";
                Err(BadInput(why.to_owned()).into())
            }
            // A slip of the keyboard must not cost a recording.
            Some(Some(out)) if out.extension().is_none_or(|ending| ending != "svg") => {
                Err(BadInput(format!("`{}` is no name for a drawing: it has to end in .svg", out.display())).into())
            }
            _ => Ok(file),
        }
    }

    fn draw(&self, file: &Path, source: &Source, analysis: &Analysis) -> anyhow::Result<String> {
        if self.from as f64 >= analysis.recorded_s {
            return Err(
                BadInput(format!("--from {} is not before the end, at {} s", self.from, analysis.recorded_s)).into()
            );
        }
        let (lead, beats) = match &analysis.lead {
            Some(lead) => (Some(lead.name), lead.beats.as_slice()),
            None => (None, &[][..]),
        };
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let drawing = Drawing {
            name,
            recorded_s: analysis.recorded_s,
            stretch: Stretch { from_s: self.from, seconds: self.seconds },
            waves: source.waves(),
            lead,
            beats,
            beats_hz: analysis.lead.as_ref().map_or(1.0, |lead| lead.rate_hz),
            findings: &analysis.findings,
        };
        Ok(drawing.svg())
    }
}

/// What was computed.
#[derive(Default)]
struct Analysis {
    recorded_s: f64,
    lead: Option<Lead>,
    rates: Vec<Rated>,
    findings: Vec<Finding>,
    score: Option<Score>,
}

impl Analysis {
    /// A record without signals, of which only the beats are known: their rhythm.
    fn of_beats(&mut self, labels: &Labels, person: &Person) {
        let class = |class| match class {
            LabelClass::Normal | LabelClass::Supraventricular => BeatClass::Normal,
            LabelClass::Ventricular => BeatClass::Ventricular,
            LabelClass::Fusion | LabelClass::Unclassifiable => BeatClass::Unknown,
        };
        let time_of = |sample: u64| TimeMs((sample as f64 * 1_000.0 / labels.rate_hz).round() as u64);
        let beats: Vec<(TimeMs, BeatClass)> =
            labels.beats.iter().map(|label| (time_of(label.sample), class(label.class))).collect();
        let mut rhythm = Rhythm::new(person);
        let (mut next, mut second) = (0, 0u64);
        while next < beats.len() {
            let (from, until) = (TimeMs(second * 1_000), TimeMs((second + 1) * 1_000));
            let after = next + beats[next..].iter().take_while(|(at, _)| *at < until).count();
            let frame = sha256(&[b"vitaltrace/marked-second/1\0", &second.to_be_bytes()]);
            self.findings.extend(rhythm.second(frame, from, &beats[next..after]));
            (next, second) = (after, second + 1);
        }
        self.findings.extend(rhythm.finish());
        self.recorded_s = second as f64;
    }

    fn to_json(&self) -> Json {
        let lead = self.lead.as_ref();
        let beats = lead.map(|lead| lead.beats.as_slice()).unwrap_or_default();
        let beats: Vec<Json> =
            beats.iter().map(|beat| json!({"sample": beat.sample, "class": beat.class.letter()})).collect();
        let mut document = json!({
            "lead": lead.map(|lead| lead.name), "rate_hz": lead.map(|lead| lead.rate_hz), "samples_per_s": lead.map(|lead| lead.samples_per_s),
            "recorded_s": self.recorded_s, "beats": beats, "findings": self.findings,
            "rates": self.rates.iter().map(Rated::to_json).collect::<Vec<_>>()
        });
        if let Some(score) = &self.score {
            document["score"] = score.to_json();
        }
        document
    }

    fn in_words(&self) -> String {
        let mut lines = Vec::new();
        if let Some(lead) = &self.lead {
            lines.push(format!("{} beats in {} at {} samples a second", lead.beats.len(), lead.name, lead.rate_hz));
        }
        lines.extend(self.score.iter().flat_map(Score::in_words));
        lines.extend(self.rates.iter().map(Rated::in_words));
        for finding in &self.findings {
            let values: Vec<String> =
                finding.measures.iter().map(|m| format!("{} {:.1} {}", m.name, m.value, m.unit)).collect();
            let about = finding.signal.as_deref().unwrap_or("-");
            let alarm = finding.alarm.as_ref().map(|alarm| format!(" {}", alarm.name)).unwrap_or_default();
            let (rule, values) = (finding.rule, values.join(", "));
            lines.push(format!("{:>8} s  {rule}{alarm} {about}: {values}", finding.until.0 / 1_000));
        }
        lines.join("\n")
    }
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    Ok(path.to_str().ok_or_else(|| BadInput("the file's name is not UTF-8".to_owned()))?)
}

fn read_labels(path: &Path, source: &Source) -> anyhow::Result<Labels> {
    let bad = |what: &str| BadInput(format!("`{}` {what}", path.display()));
    let rate_hz =
        source.annotated_hz().ok_or_else(|| bad("marks samples, and the recording has no waves that they are of"))?;
    let labels = Labels::read(path, rate_hz)?;
    if labels.beats.is_empty() && labels.rhythms.is_empty() && labels.breaths_s.is_empty() {
        return Err(bad("marks no beats, rhythms or breaths").into());
    }
    if labels.beats.last().is_some_and(|last| last.sample as f64 / rate_hz > signal::SECONDS_MAX as f64) {
        return Err(bad("marks beats beyond a week").into());
    }
    Ok(labels)
}

/// What the rules find, times counted from the recording's beginning. Each second counts as a frame.
fn findings(source: &mut Source, person: &Person) -> Vec<Finding> {
    let mut monitor = Monitor::new(person);
    let mut found = Vec::new();
    let mut at = TimeMs(0);
    while let Some(signals) = source.next_second() {
        found.extend(exchange::assess(&mut monitor, recorded_second(at, &signals), at, &signals));
        at = at.plus_ms(1_000);
    }
    found.extend(monitor.finish());
    found
}

/// What stands for the frame of a recorded second: the digest of its time, its samples and values.
pub(crate) fn recorded_second(at: TimeMs, signals: &[Signal]) -> Digest {
    sha256(&[b"vitaltrace/recorded-second/1\0", &at.0.to_be_bytes(), &content(signals)])
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

/// The folder of shared signals, or a loud skip.
#[cfg(test)]
pub(crate) fn signals_of_tests() -> Option<PathBuf> {
    let shared = std::env::var("VITALTRACE_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").to_owned());
    let folder = Path::new(&shared).join("signals");
    if !folder.is_dir() {
        super::tell(&format!("SKIPPED: {} not found", folder.display()));
    }
    folder.is_dir().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        analyze: Analyze,
    }

    /// The recording and where its drawing goes, or what is said.
    fn check(line: &str, expected: &str) {
        let read = match Line::try_parse_from(std::iter::once("analyze").chain(line.split(' '))) {
            Err(_) => "wrong usage".to_owned(),
            Ok(Line { mut analyze }) => match analyze.recording() {
                Err(why) => why.to_string(),
                Ok(file) => format!("{} {:?}", file.display(), analyze.svg),
            },
        };
        assert_eq!(read, expected, "{line}");
    }

    #[test]
    fn a_drawing_goes_to_the_file_that_is_named_for_it_or_to_standard_output() {
        check("a.hea", "a.hea None");
        check("a.hea --svg a.svg", "a.hea Some(Some(\"a.svg\"))");
        check("--svg a.svg a.hea", "a.hea Some(Some(\"a.svg\"))");
        check("a.hea --svg", "a.hea Some(None)");
        check("--svg a.hea", "a.hea Some(None)");
        check("--svg", "no recording is named");
        check(
            "--svg a.svg --json",
            "--json and a drawing cannot both be printed: name a file for the drawing, `--svg OUT.svg`",
        );
        check("a.hea --svg a.hea", "`a.hea` is no name for a drawing: it has to end in .svg");
        check("a.hea --svg a.svg --seconds 0", "wrong usage");
        check("a.hea --svg a.svg --seconds 121", "wrong usage");
        check("--json", "wrong usage");
    }

    #[test]
    fn a_day_of_marked_beats_without_signals_is_analysed_by_its_rhythm() {
        let Some(folder) = signals_of_tests() else { return };
        let source = Source::open(folder.join("rr/nsr001.hea").to_str().unwrap()).unwrap();
        assert_eq!((source.seconds(), source.waves().len()), (Some(0), 0));
        let labels = read_labels(&folder.join("rr/nsr001.ecg"), &source).unwrap();
        let mut analysis = Analysis::default();
        analysis.of_beats(&labels, &Person::default());
        let score = Score::of(&labels, None, &analysis.findings, analysis.recorded_s);
        score.in_words().iter().for_each(|line| crate::command::tell(&format!("nsr001: {line}")));
        let fibrillation = &score.to_json()["atrial_fibrillation"];
        assert!(analysis.recorded_s > 20.0 * 3_600.0 && fibrillation["rhythms_marked"] == false);
        assert!(fibrillation["false_share"].as_f64().unwrap() <= 0.003, "{fibrillation}");
        assert!(analysis.findings.iter().any(|finding| finding.rule == "heart-rate-variability-day"));
    }
}
