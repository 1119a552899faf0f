//! The header of a record: which signals there are, where they lie, what they mean.

use super::{BadRecord, HEADER_BYTES_MAX, RECORD_SAMPLES_MAX, RECORD_SIGNALS_MAX};
use crate::{Decimal, sensor};

/// The most bytes before a file's first sample.
const OFFSET_BYTES_MAX: usize = 1 << 30;

/// A record's header.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The record's name.
    pub record: String,
    /// Frames per second; each signal has one or more samples in a frame.
    pub rate_hz: f64,
    /// Frames in the record; nothing where the header does not say.
    pub frames: Option<usize>,
    /// The signals in order.
    pub signals: Vec<SignalSpec>,
    /// Comment lines without their `#`.
    pub comments: Vec<String>,
}

/// How samples lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 16 bits, two's complement, little end first.
    I16,
    /// 8 bits, offset by 128.
    Offset8,
    /// Two samples of 12 bits in three bytes.
    Packed12,
}

/// One signal of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalSpec {
    /// File name.
    pub file: String,
    /// Format of the samples.
    pub format: Format,
    /// Samples in a frame.
    pub samples_per_frame: usize,
    /// Bytes before the first sample.
    pub offset_bytes: usize,
    /// Steps per physical unit.
    pub gain: f64,
    /// The sample that is 0 in physical units.
    pub baseline: i32,
    /// Physical unit as written, such as `mV`.
    pub unit: String,
    /// The first sample, where written.
    pub first: Option<i32>,
    /// Sum of the samples modulo 65536, where written.
    pub checksum: Option<u16>,
    /// What it is, such as `MLII`.
    pub description: String,
}

impl SignalSpec {
    /// Physical value of one step, to 15 digits.
    pub fn scale(&self) -> Decimal {
        rounded(1.0 / self.gain)
    }

    /// Physical value of sample 0, to 15 digits.
    pub fn origin(&self) -> Decimal {
        rounded(-f64::from(self.baseline) / self.gain)
    }
}

/// The fastest sampling of numbers, in hertz: what a monitor rates is written once a second or less often. A wave of breathing is faster, as two
/// samples a second cannot show sixty breaths a minute.
const NUMERICS_HZ_MAX: f64 = 2.0;

/// The name in frames of the channel that a signal of this description shows, sampled `rate_hz` times a second.
///
/// Modified lead II of an ambulatory recorder counts as lead II. The BIDMC recordings write a comma after each description: it is no part of it. `RESP` is
/// the wave of the chest's impedance, or the rate that a monitor made of it, by how often it was sampled. Nothing for signals that no sensor of ours has.
pub fn channel(description: &str, rate_hz: f64) -> Option<&'static str> {
    let description = description.trim().trim_end_matches(',').trim_end();
    let name = match description.to_ascii_uppercase().as_str() {
        "I" => "ecg-i",
        "II" | "MLII" => "ecg-ii",
        "III" | "MLIII" => "ecg-iii",
        "AVR" => "ecg-avr",
        "AVL" => "ecg-avl",
        "AVF" => "ecg-avf",
        "V" | "V1" | "MV1" => "ecg-v1",
        "V2" => "ecg-v2",
        "V3" => "ecg-v3",
        "V4" => "ecg-v4",
        "V5" => "ecg-v5",
        "V6" => "ecg-v6",
        "PLETH" => "pleth",
        "HR" => "heart-rate",
        "PULSE" => "pulse",
        "SPO2" => "spo2",
        "RESP" if rate_hz <= NUMERICS_HZ_MAX => "resp-rate",
        "RESP" => "resp-impedance",
        "ABP" | "ART" => "ibp",
        "ABPSYS" => "ibp-sys",
        "ABPDIAS" => "ibp-dia",
        "ABPMEAN" => "ibp-mean",
        "NBPSYS" => "nibp-sys",
        "NBPDIAS" => "nibp-dia",
        "NBPMEAN" => "nibp-mean",
        _ => return sensor::channel(description).map(|channel| channel.name),
    };
    Some(name)
}

fn rounded(value: f64) -> Decimal {
    let exact = Decimal::from_f64(value);
    let short = || format!("{value:.12}").parse().ok().and_then(Decimal::from_f64);
    exact.filter(|d| d.mantissa().unsigned_abs() < 10u64.pow(15)).or_else(short).unwrap_or(Decimal::ZERO)
}

impl Header {
    /// Reads a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRecord> {
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(BadRecord::TooLarge("a header has at most 64 KiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| BadRecord::Header { line: 1, what: "no UTF-8 text" })?;
        let mut comments = Vec::new();
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            match line.strip_prefix('#') {
                Some(comment) => comments.push(comment.trim().to_owned()),
                None if line.is_empty() => {}
                None => lines.push((at + 1, line)),
            }
        }
        let mut lines = lines.into_iter();
        let (line, first) = lines.next().ok_or(BadRecord::Header { line: 1, what: "no record line" })?;
        let bad = |what| BadRecord::Header { line, what };
        let mut fields = first.split_whitespace();
        let record = fields.next().unwrap_or_default().to_owned();
        if record.contains('/') {
            return Err(bad("records of several segments are not read"));
        }
        let count: usize = fields.next().and_then(|n| n.parse().ok()).ok_or_else(|| bad("no number of signals"))?;
        if count > RECORD_SIGNALS_MAX {
            return Err(BadRecord::TooLarge("a record has at most 64 signals"));
        }
        // The rate may be followed by `/counter frequency`.
        let rate_hz = match fields.next() {
            None => 250.0,
            Some(rate) => leading_f64(rate).ok_or_else(|| bad("the rate is no number"))?,
        };
        if !(rate_hz > 0.0 && rate_hz <= 1e6) {
            return Err(bad("the rate is above 0 and at most 1000000 Hz"));
        }
        let frames = match fields.next() {
            None => None,
            Some(n) => {
                Some(n.parse::<usize>().map_err(|_| bad("the number of samples is no number"))?).filter(|&n| n > 0)
            }
        };
        let mut signals = Vec::with_capacity(count);
        for signal in 0..count {
            let (line, text) = lines.next().ok_or_else(|| bad("fewer signal lines than signals"))?;
            signals.push(signal_line(signal, line, text)?);
        }
        let samples_per_frame: usize = signals.iter().map(|s| s.samples_per_frame).sum();
        if frames.is_some_and(|n| n.saturating_mul(samples_per_frame) > RECORD_SAMPLES_MAX) {
            return Err(BadRecord::TooLarge("a record has at most 2^28 samples"));
        }
        Ok(Self { record, rate_hz, frames, signals, comments })
    }

    /// Samples per second of signal `signal`.
    pub fn signal_rate_hz(&self, signal: usize) -> Option<f64> {
        Some(self.rate_hz * self.signals.get(signal)?.samples_per_frame as f64)
    }

    /// The name in frames of the channel that signal `signal` shows, see [`channel`].
    pub fn channel(&self, signal: usize) -> Option<&'static str> {
        channel(&self.signals.get(signal)?.description, self.signal_rate_hz(signal)?)
    }

    /// The signal files, each once, in order.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for signal in &self.signals {
            if !files.contains(&signal.file.as_str()) {
                files.push(&signal.file);
            }
        }
        files
    }
}

fn leading_f64(text: &str) -> Option<f64> {
    let end = text.find(['/', '(']).unwrap_or(text.len());
    text[..end].parse().ok().filter(|value: &f64| value.is_finite())
}

fn signal_line(signal: usize, line: usize, text: &str) -> Result<SignalSpec, BadRecord> {
    let bad = |what| BadRecord::Header { line, what };
    let mut fields = text.splitn(9, char::is_whitespace);
    let file = fields.next().unwrap_or_default().to_owned();
    if file.contains(['/', '\\']) {
        return Err(bad("a signal file lies beside its header"));
    }
    let format_field = fields.next().ok_or_else(|| bad("no format"))?;
    let (format, samples_per_frame, offset_bytes) = format_of(signal, format_field)
        .map_err(|e| e.unwrap_or_else(|| bad("the format is `FORMAT[xSAMPLES][+OFFSET]`, without skew")))?;
    let gain_field = fields.next().unwrap_or("200");
    let (gain_part, unit) = gain_field.split_once('/').unwrap_or((gain_field, "mV"));
    // Gain 0 means «not calibrated»; header(5) then takes 200 steps per unit.
    let gain = leading_f64(gain_part).ok_or_else(|| bad("the gain is no number"))?;
    let gain = if gain == 0.0 { 200.0 } else { gain };
    let mut next_i32 = |what| match fields.next() {
        None => Ok(None),
        Some(text) => text.parse::<i32>().map(Some).map_err(|_| bad(what)),
    };
    next_i32("the resolution is no number")?;
    let zero = next_i32("the zero is no number")?.unwrap_or(0);
    let first = next_i32("the first value is no number")?;
    let checksum = next_i32("the checksum is no number")?.map(|sum| sum.rem_euclid(65_536) as u16);
    next_i32("the block size is no number")?;
    let baseline = match gain_part.split_once('(') {
        None => zero,
        Some((_, rest)) => rest.trim_end_matches(')').parse().map_err(|_| bad("the baseline is no number"))?,
    };
    let description = fields.next().unwrap_or_default().trim().to_owned();
    let unit = unit.to_owned();
    Ok(SignalSpec { file, format, samples_per_frame, offset_bytes, gain, baseline, unit, first, checksum, description })
}

/// `FORMAT[xSAMPLES][:SKEW][+OFFSET]`. Fails with nothing where the field is no format at all.
fn format_of(signal: usize, field: &str) -> Result<(Format, usize, usize), Option<BadRecord>> {
    let (field, offset) = field.split_once('+').unwrap_or((field, "0"));
    let (field, skew) = field.split_once(':').unwrap_or((field, "0"));
    let (number, samples) = field.split_once('x').unwrap_or((field, "1"));
    let number: u32 = number.parse().map_err(|_| None)?;
    let samples: usize = samples.parse().map_err(|_| None)?;
    let offset: usize = offset.parse().map_err(|_| None)?;
    if skew != "0" || !(1..=1024).contains(&samples) || offset > OFFSET_BYTES_MAX {
        return Err(None);
    }
    let format = match number {
        16 => Format::I16,
        80 => Format::Offset8,
        212 => Format::Packed12,
        format => return Err(Some(BadRecord::Format { signal, format })),
    };
    Ok((format, samples, offset))
}
