//! Writing: tracks as a record of one header, its signal files and its notes.
//!
//! Samples are written as they are: in 12 bits (format 212) where all of a record fit, else in 16 (format 16) or 32 (format 32, which
//! the reader here does not read). Gaps are filled with the mark for «no valid sample». WFDB's own gain and baseline are rounded where
//! origin and scale are not theirs; a comment in the header has the exact ones.

use super::{Annotation, RECORD_SIGNALS_MAX};
use crate::{
    Decimal,
    track::{NO_SAMPLE, Note, Track, Tracks, common_divisor, fraction},
};
use record::TimeMs;
use std::fmt::Write as _;

/// The most samples in a record that is written, all signals together: twelve leads at 500 Hz for three hours. They are in memory at
/// once, and what fills gaps counts.
pub const WRITTEN_SAMPLES_MAX: usize = 1 << 26;
/// The code of a note that belongs to no beat.
const NOTE: u8 = 22;
/// Labels stand before this sample: at a thousand a second, within 34 years. Each 2^31 between two take six bytes.
const SAMPLE_MAX: u64 = 1 << 40;
/// The longest text of an annotation, in bytes.
const AUX_BYTES_MAX: usize = 255;
/// The most samples of one signal in a frame.
const SAMPLES_PER_FRAME_MAX: u64 = 1_024;
/// Rates are fractions with at most this below.
const SECONDS_PER_FRAME_MAX: u64 = 3_600;

/// The files of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The header, for `NAME.hea`.
    pub header: String,
    /// The signals, for `NAME.dat`; empty where there are none.
    pub signals: Vec<u8>,
    /// Numbers, codes and gaps as annotations in milliseconds, for `NAME.note`; empty where there are none.
    pub notes: Vec<u8>,
}

/// Why tracks are not written as a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// A record's name has other characters than letters, digits, `_` and `-`, or none.
    #[error("a record's name has letters, digits, `_` and `-`")]
    Name,
    /// There is nothing to write.
    #[error("there is neither sample nor note")]
    Nothing,
    /// More signals or samples than a record may have.
    #[error("{0}")]
    TooLarge(&'static str),
    /// The rates are no multiples of one that makes frames of at most 1,024 samples.
    #[error("the rates of the signals have no common frame")]
    Rates,
    /// Annotations are out of order, or of a code that no annotation has.
    #[error("annotation {at}: {what}")]
    Annotation {
        /// Counted from 0.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// A number of bits in which a sample is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Packed12,
    I16,
    I32,
}

impl Width {
    /// The narrowest in which all samples are, and their mark for none is not.
    fn of(tracks: &[Track]) -> Self {
        let within =
            |bound: i32| tracks.iter().filter_map(Track::range).all(|(low, high)| low >= -bound && high <= bound);
        if within(2_047) {
            Self::Packed12
        } else if within(32_767) {
            Self::I16
        } else {
            Self::I32
        }
    }
    fn format(self) -> u32 {
        match self {
            Self::Packed12 => 212,
            Self::I16 => 16,
            Self::I32 => 32,
        }
    }
    fn bits(self) -> u32 {
        match self {
            Self::Packed12 => 12,
            Self::I16 => 16,
            Self::I32 => 32,
        }
    }
    /// The mark for «no valid sample».
    fn none(self) -> i32 {
        match self {
            Self::Packed12 => -2_048,
            Self::I16 => i32::from(i16::MIN),
            Self::I32 => i32::MIN,
        }
    }
}

/// Writes tracks as the record `name`.
pub fn write(name: &str, tracks: &Tracks) -> Result<Written, NotWritten> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err(NotWritten::Name);
    }
    let start = tracks.start().ok_or(NotWritten::Nothing)?;
    if tracks.tracks.len() > RECORD_SIGNALS_MAX {
        return Err(NotWritten::TooLarge("a record has at most 64 signals"));
    }
    let frame = Frame::of(&tracks.tracks)?;
    let width = Width::of(&tracks.tracks);
    let (frames, laid) = lay(&tracks.tracks, &frame, start)?;
    let mut header = format!("{name} {}", laid.len());
    write_rate(&mut header, &frame, frames, start);
    for ((track, samples), per_frame) in tracks.tracks.iter().zip(&laid).zip(&frame.samples) {
        header += &signal_line(name, track, samples, *per_frame, width);
    }
    for (at, track) in tracks.tracks.iter().enumerate() {
        // Writing to a string cannot fail.
        _ = writeln!(
            header,
            "# signal {at}: {} = {} + sample * {} {}",
            track.name, track.origin, track.scale, track.unit
        );
    }
    let signals = interleaved(&laid, &frame, width);
    Ok(Written { header, signals, notes: notes(start, &tracks.notes)? })
}

/// A record's frame: how long it lasts, and how many samples of each signal it has.
struct Frame {
    /// Frames per second, as a fraction.
    rate: (u64, u64),
    samples: Vec<u64>,
}

impl Frame {
    fn of(tracks: &[Track]) -> Result<Self, NotWritten> {
        let rates: Option<Vec<(u64, u64)>> =
            tracks.iter().map(|track| fraction(track.rate_hz.to_f64(), SECONDS_PER_FRAME_MAX)).collect();
        let rates = rates.ok_or(NotWritten::Rates)?;
        let Some((first, others)) = rates.split_first() else { return Ok(Self { rate: (1, 1), samples: vec![] }) };
        let common = others.iter().try_fold(*first, |common, rate| {
            let upper = common_divisor(common.0.checked_mul(rate.1)?, rate.0.checked_mul(common.1)?);
            let lower = common.1.checked_mul(rate.1)?;
            let shared = common_divisor(upper, lower);
            Some((upper / shared, lower / shared))
        });
        let common = common.ok_or(NotWritten::Rates)?;
        let samples = rates.iter().map(|rate| {
            let of_frame = rate.0.checked_mul(common.1)? / rate.1.checked_mul(common.0)?;
            (1..=SAMPLES_PER_FRAME_MAX).contains(&of_frame).then_some(of_frame)
        });
        let samples: Option<Vec<u64>> = samples.collect();
        Ok(Self { rate: common, samples: samples.ok_or(NotWritten::Rates)? })
    }
}

/// How many frames, and the samples of each signal from the record's start to its end, gaps filled.
fn lay(tracks: &[Track], frame: &Frame, start: TimeMs) -> Result<(u64, Vec<Vec<i32>>), NotWritten> {
    let too_long =
        NotWritten::TooLarge("a record that is written has at most 2^26 samples, those that fill gaps among them");
    let mut laid = Vec::with_capacity(tracks.len());
    let mut frames = 0u64;
    for (track, per_frame) in tracks.iter().zip(&frame.samples) {
        let mut samples: Vec<i32> = Vec::new();
        for stretch in &track.stretches {
            let after_s = (stretch.start.0.saturating_sub(start.0)) as f64 / 1_000.0;
            let first = ((after_s * track.rate_hz.to_f64()).round() as usize).max(samples.len());
            if first.saturating_add(stretch.samples.len()) > WRITTEN_SAMPLES_MAX {
                return Err(too_long);
            }
            samples.resize(first, NO_SAMPLE);
            samples.extend(&stretch.samples);
        }
        frames = frames.max((samples.len() as u64).div_ceil(*per_frame));
        laid.push(samples);
    }
    let total = frames.saturating_mul(frame.samples.iter().sum());
    if total > WRITTEN_SAMPLES_MAX as u64 {
        return Err(too_long);
    }
    for (samples, per_frame) in laid.iter_mut().zip(&frame.samples) {
        samples.resize((frames * per_frame) as usize, NO_SAMPLE);
    }
    Ok((frames, laid))
}

fn write_rate(header: &mut String, frame: &Frame, frames: u64, start: TimeMs) {
    let rate = frame.rate.0 as f64 / frame.rate.1 as f64;
    let instant = start.to_instant();
    // `2026-11-21T10:00:01.000Z` as `10:00:01.000 21/11/2026`.
    let (date, time) = instant.split_once('T').unwrap_or_default();
    let mut parts = date.split('-').rev();
    let (day, month, year) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    _ = writeln!(header, " {rate} {frames} {} {day}/{month}/{year}", time.trim_end_matches('Z'));
}

fn signal_line(name: &str, track: &Track, samples: &[i32], per_frame: u64, width: Width) -> String {
    let (origin, scale) = (track.origin.to_f64(), track.scale.to_f64());
    // The cast keeps what is too far within the numbers that a header has.
    let baseline = (-origin / scale).round() as i32;
    let mark = |sample: i32| if sample == NO_SAMPLE { width.none() } else { sample };
    let sum = samples.iter().fold(0i32, |sum, &s| sum.wrapping_add(mark(s))).rem_euclid(65_536);
    let several = if per_frame == 1 { String::new() } else { format!("x{per_frame}") };
    // A checksum is 16 bits with a sign.
    let (first, checksum) = (samples.first().map_or(0, |&s| mark(s)), sum as u16 as i16);
    format!(
        "{name}.dat {}{several} {}({baseline})/{} {} 0 {first} {checksum} 0 {}\n",
        width.format(),
        gain(track.scale),
        track.unit,
        width.bits(),
        description(&track.name)
    )
}

/// Steps per unit: the shortest text that reads back as it.
fn gain(scale: Decimal) -> f64 {
    let gain = 1.0 / scale.to_f64();
    // 1 / 0.005 in binary is 200 but for the last bits, where a short number lies as near.
    let short = (gain * 1e6).round() / 1e6;
    if (short - gain).abs() <= gain.abs() * 1e-12 { short } else { gain }
}

/// What PhysioNet's records call a signal.
fn description(name: &str) -> String {
    match name {
        "pleth" => "PLETH".to_owned(),
        "resp-impedance" => "RESP".to_owned(),
        "ibp" => "ABP".to_owned(),
        _ => match name.strip_prefix("ecg-") {
            Some(lead) => lead.to_ascii_uppercase(),
            None => name.to_owned(),
        },
    }
}

fn interleaved(laid: &[Vec<i32>], frame: &Frame, width: Width) -> Vec<u8> {
    let per_frame: Vec<usize> = frame.samples.iter().map(|&samples| samples as usize).collect();
    let mut chunks: Vec<_> =
        laid.iter().zip(&per_frame).map(|(samples, per_frame)| samples.chunks(*per_frame)).collect();
    let total: usize = laid.iter().map(Vec::len).sum();
    let mut out = Vec::with_capacity(total.saturating_mul(width.bits() as usize).div_ceil(8) + 1);
    // Of two samples in 12 bits the first one waits for the second.
    let mut waiting = None;
    for _ in 0..laid.iter().zip(&per_frame).map(|(samples, per_frame)| samples.len() / per_frame).max().unwrap_or(0) {
        for sample in chunks.iter_mut().flat_map(|chunk| chunk.next().unwrap_or_default()) {
            let sample = if *sample == NO_SAMPLE { width.none() } else { *sample };
            match (width, waiting.take()) {
                (Width::I16, _) => out.extend((sample as i16).to_le_bytes()),
                (Width::I32, _) => out.extend(sample.to_le_bytes()),
                (Width::Packed12, None) => waiting = Some(sample),
                (Width::Packed12, Some(first)) => out.extend(packed(first, sample)),
            }
        }
    }
    // Two bytes hold a last one alone.
    out.extend(waiting.map(|first| packed(first, 0)).iter().flat_map(|bytes| &bytes[..2]));
    out
}

/// Two samples of 12 bits.
fn packed(first: i32, second: i32) -> [u8; 3] {
    let (first, second) = (first as u16, second as u16);
    [first as u8, (first >> 8 & 0x0f) as u8 | (second >> 4 & 0xf0) as u8, second as u8]
}

/// Notes as annotations in milliseconds from the record's start.
fn notes(start: TimeMs, notes: &[Note]) -> Result<Vec<u8>, NotWritten> {
    if notes.is_empty() {
        return Ok(Vec::new());
    }
    let mut labels = vec![Annotation { sample: 0, code: NOTE, aux: "## time resolution: 1000".to_owned() }];
    labels.extend(notes.iter().map(|note| {
        let sample = note.at.0.saturating_sub(start.0);
        Annotation { sample, code: NOTE, aux: note.text.clone() }
    }));
    write_annotations(&labels)
}

/// Writes labels in the MIT format, in the order of their samples. Texts longer than 255 bytes are cut.
pub fn write_annotations(labels: &[Annotation]) -> Result<Vec<u8>, NotWritten> {
    let mut out = Vec::new();
    let word = |out: &mut Vec<u8>, code: u16, low: u16| out.extend((code << 10 | low).to_le_bytes());
    let mut last = 0u64;
    for (at, label) in labels.iter().enumerate() {
        let bad = |what| NotWritten::Annotation { at, what };
        let mut distance =
            label.sample.checked_sub(last).ok_or_else(|| bad("labels are in the order of their samples"))?;
        if label.sample >= SAMPLE_MAX {
            return Err(bad("a label stands within 2^40 samples"));
        }
        if !(1..=49).contains(&label.code) {
            return Err(bad("a code is 1 to 49"));
        }
        // 59 SKIP has a 32-bit distance, its high word first.
        while distance > 0x3ff {
            let step = distance.min(i32::MAX as u64);
            word(&mut out, 59, 0);
            out.extend(((step >> 16) as u16).to_le_bytes());
            out.extend((step as u16).to_le_bytes());
            distance -= step;
        }
        word(&mut out, label.code.into(), distance as u16);
        last = label.sample;
        let mut length = label.aux.len().min(AUX_BYTES_MAX);
        while !label.aux.is_char_boundary(length) {
            length -= 1;
        }
        if length > 0 {
            word(&mut out, 63, length as u16);
            out.extend(&label.aux.as_bytes()[..length]);
            out.extend((length % 2 == 1).then_some(0));
        }
    }
    word(&mut out, 0, 0);
    Ok(out)
}
