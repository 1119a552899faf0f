//! The samples of a record, checked against its header.

use super::{BadRecord, Format, Header, RECORD_SAMPLES_MAX};
use crate::{Decimal, Limits, Samples, Waveform};

/// A whole record: header and samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    header: Header,
    // INVARIANT: one per signal of the header. The least i16 stands for «no valid sample» in every format.
    signals: Vec<Vec<i16>>,
}

impl Recording {
    /// Reads the signal files that `header` names; `file` gives the bytes of one.
    ///
    /// Checksums and first values are compared with the header's.
    pub fn read<'a>(header: Header, file: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, BadRecord> {
        let mut signals: Vec<Vec<i16>> = vec![Vec::new(); header.signals.len()];
        for name in header.files() {
            let bytes = file(name).ok_or_else(|| BadRecord::FileMissing(name.to_owned()))?;
            let of_file: Vec<usize> = (0..header.signals.len()).filter(|&s| header.signals[s].file == name).collect();
            let read = read_file(&header, &of_file, name, bytes)?;
            for (signal, samples) in of_file.into_iter().zip(read) {
                signals[signal] = samples;
            }
        }
        for (signal, (spec, samples)) in header.signals.iter().zip(&signals).enumerate() {
            let got = samples.iter().fold(0u16, |sum, &s| sum.wrapping_add(raw(spec.format, s) as u16));
            if let Some(expected) = spec.checksum.filter(|&expected| expected != got && header.frames.is_some()) {
                return Err(BadRecord::Checksum { signal, got, expected });
            }
        }
        Ok(Self { header, signals })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The samples of signal `signal` in steps; the least number means «no valid sample».
    pub fn samples(&self, signal: usize) -> Option<&[i16]> {
        self.signals.get(signal).map(Vec::as_slice)
    }

    /// Samples per second of signal `signal`.
    pub fn rate_hz(&self, signal: usize) -> Option<f64> {
        self.header.signal_rate_hz(signal)
    }

    /// A stretch of one signal as a waveform for a frame, samples unchanged; nothing where it has none.
    ///
    /// `unit` is UCUM. The record's own unit is not translated: `mV` is the same in both, `mmHg` is `mm[Hg]`.
    pub fn waveform(&self, signal: usize, range: std::ops::Range<usize>, unit: &str) -> Option<Waveform> {
        let (spec, samples) = (self.header.signals.get(signal)?, self.signals.get(signal)?);
        let samples = samples.get(range.start..range.end.min(samples.len())).filter(|s| !s.is_empty())?;
        Some(Waveform {
            unit: unit.to_owned(),
            rate_hz: Decimal::from_f64(self.rate_hz(signal)?)?,
            origin: spec.origin(),
            scale: spec.scale(),
            limits: Limits::NONE,
            samples: Samples::I16(samples.to_vec()),
        })
    }
}

/// The mark of a missing sample in 12 bits.
const MISSING_12: i16 = -2048;
/// The mark of a missing sample in 8 bits.
const MISSING_8: i16 = -128;

/// The sample as the file holds it, for the checksum.
fn raw(format: Format, sample: i16) -> i16 {
    match (format, sample) {
        (Format::Packed12, i16::MIN) => MISSING_12,
        (Format::Offset8, i16::MIN) => MISSING_8,
        _ => sample,
    }
}

fn read_file(header: &Header, of_file: &[usize], name: &str, bytes: &[u8]) -> Result<Vec<Vec<i16>>, BadRecord> {
    let specs: Vec<_> = of_file.iter().map(|&s| &header.signals[s]).collect();
    let (format, offset) = (specs[0].format, specs[0].offset_bytes);
    if specs.iter().any(|s| s.format != format || s.offset_bytes != offset) {
        return Err(BadRecord::Header { line: 2, what: "signals of one file have one format and one offset" });
    }
    let per_frame: usize = specs.iter().map(|s| s.samples_per_frame).sum();
    let body = bytes.get(offset..).unwrap_or_default();
    let held = match format {
        Format::I16 => body.len() / 2,
        Format::Offset8 => body.len(),
        // Two bytes of a last triple hold its first sample.
        Format::Packed12 => body.len() / 3 * 2 + usize::from(body.len() % 3 == 2),
    };
    let frames = header.frames.unwrap_or(held / per_frame);
    let wanted = frames.saturating_mul(per_frame);
    if wanted > held {
        let expected = offset
            + match format {
                Format::I16 => wanted * 2,
                Format::Offset8 => wanted,
                Format::Packed12 => wanted / 2 * 3 + wanted % 2 * 2,
            };
        return Err(BadRecord::Short { file: name.to_owned(), got: bytes.len(), expected });
    }
    if wanted > RECORD_SAMPLES_MAX {
        return Err(BadRecord::TooLarge("a record has at most 2^28 samples"));
    }
    let mut out: Vec<Vec<i16>> = specs.iter().map(|s| Vec::with_capacity(frames * s.samples_per_frame)).collect();
    let mut at = 0;
    for _ in 0..frames {
        for (spec, samples) in specs.iter().zip(&mut out) {
            for _ in 0..spec.samples_per_frame {
                samples.push(sample_at(format, body, at));
                at += 1;
            }
        }
    }
    Ok(out)
}

fn sample_at(format: Format, body: &[u8], at: usize) -> i16 {
    match format {
        Format::I16 => i16::from_le_bytes([body[2 * at], body[2 * at + 1]]),
        Format::Offset8 => marked(i16::from(body[at]) - 128, MISSING_8),
        Format::Packed12 => {
            let triple = at / 2 * 3;
            let bits = if at.is_multiple_of(2) {
                u16::from(body[triple]) | u16::from(body[triple + 1] & 0x0f) << 8
            } else {
                u16::from(body[triple + 2]) | u16::from(body[triple + 1] & 0xf0) << 4
            };
            marked((bits << 4) as i16 >> 4, MISSING_12)
        }
    }
}

fn marked(sample: i16, missing: i16) -> i16 {
    if sample == missing { i16::MIN } else { sample }
}
