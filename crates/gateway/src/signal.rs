//! Where a reference device's signals come from, second by second: a WFDB recording, a CSV file, or a person who does not exist.

use crate::command::BadInput;
use sensing::{
    Decimal, Signal, Value,
    generated::{Story, Wearer},
    sensor::{self, Kind},
    wfdb::{Header, Recording, SignalSpec},
};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

/// The largest signal file, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The longest recording, in seconds: a week.
const SECONDS_MAX: u64 = 7 * 86_400;
/// Samples per second of a generated ECG.
const GENERATED_ECG_HZ: u32 = 250;

/// What to say for signals of a person who does not exist.
pub(crate) const GENERATED: &str = "generated";

/// Signals, a second at a time.
pub(crate) enum Source {
    /// A recording and the second that comes next.
    Recorded(Box<Recording>, u64),
    /// Rows of numbers, by second, with their milliseconds in it.
    Numbers(BTreeMap<u64, Vec<Signal>>, u64),
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
            return Ok(Self::Numbers(numbers(&text).map_err(|what| bad(path, &what))?, 0));
        }
        Ok(Self::Recorded(Box::new(recording(path)?), 0))
    }

    /// How long it is; nothing for what never ends.
    pub(crate) fn seconds(&self) -> Option<u64> {
        match self {
            Self::Recorded(recording, _) => Some(recording_seconds(recording)),
            Self::Numbers(rows, _) => Some(rows.keys().next_back().map_or(0, |last| last + 1)),
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
            Self::Numbers(rows, next) => {
                let now = rows.remove(next);
                *next += 1;
                (now.is_some() || !rows.is_empty()).then(|| now.unwrap_or_default())
            }
            Self::Generated(wearer) => Some(wearer.next_second().signals),
        }
    }
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
    let mut taken = HashSet::new();
    let mut signals = Vec::new();
    for (at, spec) in recording.header().signals.iter().enumerate() {
        let Some(name) = spec.channel().filter(|name| !taken.contains(name)) else { continue };
        let Some(signal) = stretch(recording, at, spec, name, second) else { continue };
        taken.insert(name);
        signals.push(signal);
    }
    signals
}

fn stretch(recording: &Recording, at: usize, spec: &SignalSpec, name: &str, second: u64) -> Option<Signal> {
    let channel = sensor::channel(name)?;
    let rate_hz = recording.rate_hz(at)?;
    let first = (second as f64 * rate_hz).ceil() as usize;
    let next = ((second + 1) as f64 * rate_hz).ceil() as usize;
    let offset_ms = ((first as f64 / rate_hz - second as f64) * 1_000.0).round() as i64;
    if channel.kind == Kind::Waveform {
        let waveform = recording.waveform(at, first..next, channel.unit)?;
        return Some(Signal { name: name.to_owned(), offset_ms, value: Value::Waveform(waveform) });
    }
    let sample = recording.samples(at)?.get(first..next)?.first().copied().filter(|sample| *sample != i16::MIN)?;
    let physical = spec.origin().to_f64() + f64::from(sample) * spec.scale().to_f64();
    number(name, channel.unit, physical, offset_ms)
}

fn number(name: &str, unit: &str, value: f64, offset_ms: i64) -> Option<Signal> {
    let value = Decimal::from_f64((value * 1e6).round() / 1e6)?;
    Some(Signal { name: name.to_owned(), offset_ms, value: Value::Number { unit: unit.to_owned(), value } })
}

/// Reads `time_s,heart-rate,spo2,...`: a time in seconds, then a number of each signal, or nothing where there is none.
fn numbers(text: &str) -> Result<BTreeMap<u64, Vec<Signal>>, String> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let (_, head) = lines.next().ok_or("is empty")?;
    let mut columns = head.split(',').map(str::trim);
    if columns.next() != Some("time_s") {
        return Err("has no first column `time_s`".to_owned());
    }
    let mut channels = Vec::new();
    for name in columns {
        let channel = sensor::channel(name).filter(|channel| channel.kind == Kind::Numeric);
        channels.push(channel.ok_or_else(|| format!("has a column `{name}` that no sensor measures as a number"))?);
    }
    let mut rows: BTreeMap<u64, Vec<Signal>> = BTreeMap::new();
    for (line, row) in lines {
        let wrong = |what: &str| format!("has {what} in line {line}");
        let mut cells = row.split(',').map(str::trim);
        let time_s: f64 = cells.next().and_then(|cell| cell.parse().ok()).ok_or_else(|| wrong("no time"))?;
        if !(0.0..SECONDS_MAX as f64).contains(&time_s) {
            return Err(wrong("a time that is negative or beyond a week"));
        }
        let second = time_s.floor() as u64;
        let offset_ms = ((time_s - time_s.floor()) * 1_000.0).round() as i64;
        let of_second = rows.entry(second).or_default();
        // In this order: what is left over is not taken from the cells.
        for (channel, cell) in channels.iter().zip(cells.by_ref()).filter(|(_, cell)| !cell.is_empty()) {
            let value: f64 = cell.parse().map_err(|_| wrong("a value that is no number"))?;
            of_second.extend(number(channel.name, channel.unit, value, offset_ms));
        }
        if cells.next().is_some() {
            return Err(wrong("more values than columns"));
        }
        if of_second.len() > sensing::SIGNALS_MAX {
            return Err(wrong("more values in one second than a frame carries"));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let read = match numbers(text) {
            Err(what) => what,
            Ok(rows) => rows
                .iter()
                .map(|(second, signals)| {
                    let all: Vec<String> = signals
                        .iter()
                        .map(|signal| match &signal.value {
                            Value::Number { unit, value } => {
                                format!("{}+{}ms {value} {unit}", signal.name, signal.offset_ms)
                            }
                            _ => "no number".to_owned(),
                        })
                        .collect();
                    format!("{second}: {}", all.join(", "))
                })
                .collect::<Vec<_>>()
                .join("; "),
        };
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn numbers_are_read_from_csv_and_faults_are_named() {
        check(
            "time_s,heart-rate,spo2\n0,71,97.5\n1.5,72,\n",
            "0: heart-rate+0ms 71 /min, spo2+0ms 97.5 %; 1: heart-rate+500ms 72 /min",
        );
        check("", "is empty");
        check("t,spo2\n", "has no first column `time_s`");
        check("time_s,ecg-ii\n", "has a column `ecg-ii` that no sensor measures as a number");
        check("time_s,spo2\nx,97\n", "has no time in line 2");
        check("time_s,spo2\n-1,97\n", "has a time that is negative or beyond a week in line 2");
        check("time_s,spo2\n0,high\n", "has a value that is no number in line 2");
        check("time_s,spo2\n0,97,98\n", "has more values than columns in line 2");
    }

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
