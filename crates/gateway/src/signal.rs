//! Where a reference device's signals come from, second by second: a WFDB recording, a CSV file, or a person who does not exist.

mod csv;

use crate::command::BadInput;
use csv::Table;
use sensing::{
    Decimal, Signal, Value,
    generated::{Story, Wearer},
    sensor::{self, Channel, Kind},
    wfdb::{Header, Recording, SignalSpec},
};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    ops::Range,
    path::Path,
};

/// The largest signal file, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The longest recording, in seconds: a week.
pub(crate) const SECONDS_MAX: u64 = 7 * 86_400;
/// Samples per second of a generated ECG.
const GENERATED_ECG_HZ: u32 = 250;

/// What to say for signals of a person who does not exist.
pub(crate) const GENERATED: &str = "generated";

/// Signals, a second at a time.
pub(crate) enum Source {
    /// A recording and the second that comes next.
    Recorded(Box<Recording>, u64),
    /// A CSV file and the second that comes next.
    Table(Box<Table>, u64),
    /// Made up.
    Generated(Box<Wearer>),
}

impl Source {
    /// Opens a WFDB header (`.hea`), a CSV file, or, for the word `generated`, a made-up person who is bleeding.
    pub(crate) fn open(name: &str) -> anyhow::Result<Self> {
        if name == GENERATED {
            let story = Story::Haemorrhage { onset_s: 60.0, duration_s: 240.0 };
            return Ok(Self::Generated(Box::new(Wearer::new(1, story, GENERATED_ECG_HZ))));
        }
        let path = Path::new(name);
        if path.extension().is_some_and(|ending| ending == "csv") {
            let text = String::from_utf8(read(path)?).map_err(|_| bad(path, "is not UTF-8 text"))?;
            return Ok(Self::Table(Box::new(Table::parse(&text).map_err(|what| bad(path, &what))?), 0));
        }
        Ok(Self::Recorded(Box::new(recording(path)?), 0))
    }

    /// How long it is; nothing for what never ends.
    pub(crate) fn seconds(&self) -> Option<u64> {
        match self {
            Self::Recorded(recording, _) => Some(recording_seconds(recording)),
            Self::Table(table, _) => Some(table.seconds()),
            Self::Generated(_) => None,
        }
    }

    /// The signals of the next second; nothing at the end.
    pub(crate) fn next_second(&mut self) -> Option<Vec<Signal>> {
        match self {
            Self::Recorded(recording, next) => {
                let second = *next;
                *next += 1;
                (second < recording_seconds(recording)).then(|| recorded(recording, second))
            }
            Self::Table(table, next) => {
                let second = *next;
                *next += 1;
                (second < table.seconds()).then(|| table.second(second))
            }
            Self::Generated(wearer) => Some(wearer.next_second().signals),
        }
    }

    /// The waveforms, whole, each channel once; none of what is made up as it is read.
    pub(crate) fn waves(&self) -> Vec<Wave<'_>> {
        match self {
            Self::Recorded(recording, _) => waves(recording),
            Self::Table(table, _) => table.waves(),
            Self::Generated(_) => Vec::new(),
        }
    }

    /// How many samples of an annotation file are a second of this.
    pub(crate) fn annotated_hz(&self) -> Option<f64> {
        match self {
            Self::Recorded(recording, _) => Some(recording.header().rate_hz),
            Self::Table(table, _) => table.waves().first().map(|wave| wave.rate_hz),
            Self::Generated(_) => None,
        }
    }
}

/// A waveform, whole.
#[derive(Debug)]
pub(crate) struct Wave<'a> {
    /// The channel's name in frames.
    pub(crate) name: &'static str,
    /// The unit as the file says it; empty where it does not.
    pub(crate) unit: &'a str,
    pub(crate) rate_hz: f64,
    steps: Steps<'a>,
    origin: f64,
    scale: f64,
}

/// Samples in steps of the waveform; the least number of their width is none.
#[derive(Debug)]
enum Steps<'a> {
    Narrow(&'a [i16]),
    Wide(&'a [i32]),
}

impl Wave<'_> {
    /// How many samples.
    pub(crate) fn len(&self) -> usize {
        match self.steps {
            Steps::Narrow(samples) => samples.len(),
            Steps::Wide(samples) => samples.len(),
        }
    }

    /// Physical values of a stretch, cut at the wave's ends; not a number where there is no valid sample.
    pub(crate) fn physical(&self, range: Range<usize>) -> Vec<f64> {
        let range = range.start.min(self.len())..range.end.min(self.len());
        let value = |step: Option<i32>| step.map_or(f64::NAN, |step| self.origin + f64::from(step) * self.scale);
        match self.steps {
            Steps::Narrow(samples) => {
                let stretch = samples.get(range).unwrap_or_default().iter();
                stretch.map(|&step| value((step != i16::MIN).then_some(i32::from(step)))).collect()
            }
            Steps::Wide(samples) => {
                let stretch = samples.get(range).unwrap_or_default().iter();
                stretch.map(|&step| value((step != i32::MIN).then_some(step))).collect()
            }
        }
    }

    /// The samples of second `second`.
    pub(crate) fn second(&self, second: u64) -> Range<usize> {
        within(self.rate_hz, second)
    }
}

/// The lead that beats are looked for in: lead II, or the first one without it.
pub(crate) fn lead<'a, 'w>(waves: &'a [Wave<'w>]) -> Option<&'a Wave<'w>> {
    let mut leads = waves.iter().filter(|wave| wave.name.starts_with("ecg-"));
    waves.iter().find(|wave| wave.name == "ecg-ii").or_else(|| leads.next())
}

/// The numbers of the samples in second `second` of a signal.
fn within(rate_hz: f64, second: u64) -> Range<usize> {
    let first = |second: u64| (second as f64 * rate_hz).ceil() as usize;
    first(second)..first(second + 1)
}

fn waves(recording: &Recording) -> Vec<Wave<'_>> {
    let header = recording.header();
    channels(header)
        .filter(|(_, channel)| channel.kind == Kind::Waveform)
        .filter_map(|(at, channel)| {
            let spec = &header.signals[at];
            Some(Wave {
                name: channel.name,
                unit: &spec.unit,
                rate_hz: recording.rate_hz(at)?,
                steps: Steps::Narrow(recording.samples(at)?),
                origin: spec.origin().to_f64(),
                scale: spec.scale().to_f64(),
            })
        })
        .collect()
}

/// The signals of a record that a sensor of ours has, each channel once.
fn channels(header: &Header) -> impl Iterator<Item = (usize, &'static Channel)> {
    let mut taken = HashSet::new();
    (0..header.signals.len()).filter_map(move |at| {
        let name = header.channel(at).filter(|name| taken.insert(*name))?;
        Some((at, sensor::channel(name)?))
    })
}

fn bad(path: &Path, what: &str) -> anyhow::Error {
    BadInput(format!("`{}` {what}", path.display())).into()
}

/// A file of a bounded size.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let known = fs::metadata(path).map_err(|e| bad(path, &format!("cannot be opened: {e}")))?;
    if known.len() > FILE_BYTES_MAX {
        return Err(bad(path, &format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    fs::read(path).map_err(|e| bad(path, &format!("cannot be read: {e}")))
}

/// A WFDB record with the signal files beside its header.
pub(crate) fn recording(header: &Path) -> anyhow::Result<Recording> {
    let parsed = Header::parse(&read(header)?).map_err(|e| bad(header, &format!("is no WFDB header: {e}")))?;
    let folder = header.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    for name in parsed.files() {
        files.insert(name.to_owned(), read(&folder.join(name))?);
    }
    let recording = Recording::read(parsed, |name| files.get(name).map(Vec::as_slice));
    let recording = recording.map_err(|e| bad(header, &format!("cannot be read with its signals: {e}")))?;
    if recording_seconds(&recording) > SECONDS_MAX {
        return Err(bad(header, "is longer than a week"));
    }
    Ok(recording)
}

/// Whole seconds of a recording.
pub(crate) fn recording_seconds(recording: &Recording) -> u64 {
    let lengths = (0..recording.header().signals.len())
        .filter_map(|signal| Some(recording.samples(signal)?.len() as f64 / recording.rate_hz(signal)?));
    lengths.fold(0.0, f64::max).floor() as u64
}

/// One second of every signal of a recording that a sensor of ours has.
pub(crate) fn recorded(recording: &Recording, second: u64) -> Vec<Signal> {
    let header = recording.header();
    channels(header).filter_map(|(at, channel)| stretch(recording, at, &header.signals[at], channel, second)).collect()
}

fn stretch(recording: &Recording, at: usize, spec: &SignalSpec, channel: &Channel, second: u64) -> Option<Signal> {
    let rate_hz = recording.rate_hz(at)?;
    let range = within(rate_hz, second);
    let offset_ms = ((range.start as f64 / rate_hz - second as f64) * 1_000.0).round() as i64;
    if channel.kind == Kind::Waveform {
        let waveform = recording.waveform(at, range, channel.unit)?;
        return Some(Signal { name: channel.name.to_owned(), offset_ms, value: Value::Waveform(waveform) });
    }
    let sample = recording.samples(at)?.get(range)?.first().copied().filter(|sample| *sample != i16::MIN)?;
    let physical = spec.origin().to_f64() + f64::from(sample) * spec.scale().to_f64();
    number(channel.name, channel.unit, physical, offset_ms)
}

fn number(name: &str, unit: &str, value: f64, offset_ms: i64) -> Option<Signal> {
    let value = Decimal::from_f64((value * 1e6).round() / 1e6)?;
    Some(Signal { name: name.to_owned(), offset_ms, value: Value::Number { unit: unit.to_owned(), value } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_cut_into_whole_seconds() {
        let header = b"r 2 360 900\nr.dat 16 200(0)/mV 16 0 0 0 0 MLII\nr.dat 16 200(0)/mV 16 0 0 0 0 V5\n";
        let header = Header::parse(header).unwrap();
        let samples: Vec<u8> = (0..1_800i16).flat_map(|n| (n / 2).to_le_bytes()).collect();
        let sum = (0..900i32).sum::<i32>().rem_euclid(65_536);
        let header = Header {
            signals: header.signals.into_iter().map(|s| SignalSpec { checksum: Some(sum as u16), ..s }).collect(),
            ..header
        };
        let recording = Recording::read(header, |_| Some(&samples)).unwrap();
        let mut source = Source::Recorded(Box::new(recording), 0);
        let mut lengths = Vec::new();
        while let Some(second) = source.next_second() {
            let of: Vec<(String, usize)> = second
                .iter()
                .map(|signal| match &signal.value {
                    Value::Waveform(wave) => (signal.name.clone(), wave.samples.len()),
                    _ => (signal.name.clone(), 0),
                })
                .collect();
            lengths.push(of);
        }
        let second = vec![("ecg-ii".to_owned(), 360), ("ecg-v5".to_owned(), 360)];
        assert_eq!(lengths, vec![second.clone(), second]);
    }
}
