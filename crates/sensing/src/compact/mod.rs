//! Frames for storage: those of a device one after another, in fewer bytes, each given back to the byte that was signed.
//!
//! What frames repeat is written once: names, units, scales, the digest of the frame before. Numbers and samples are written as what
//! the ones before did not foresee. A frame that our own encoding of what it says does not give back byte for byte is kept as it is.
//! The format has no page in `spec/`: it is one gateway's own, and its first byte is its version.

mod bits;
mod samples;

use crate::{
    Absence, BATCH_FRAMES_MAX, Decimal, DeviceId, FRAME_BYTES_MAX, Frame, Limits, NO_PREVIOUS, Pack, SAMPLES_MAX,
    SIGNALS_MAX, Samples, Signal, Value, Waveform,
};
use bits::{Reader, Writer};
use record::{Digest, TimeMs, sha256};

/// The format's version.
const VERSION: u64 = 1;
/// The most frames together.
pub const FRAMES_MAX: usize = BATCH_FRAMES_MAX;

/// Why bytes give back no frames. Ours: they were damaged in storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// They end too early.
    #[error("the packed frames end too early")]
    Short,
    /// There is something after the last frame.
    #[error("something follows the packed frames")]
    Long,
    /// They are of another version of the format.
    #[error("the packed frames are of version {0}")]
    Version(u64),
    /// A number is out of its range.
    #[error("a number of the packed frames is out of its range")]
    Number,
    /// A text is no UTF-8.
    #[error("a text of the packed frames is no UTF-8")]
    Text,
    /// What was read makes no frame.
    #[error("the packed frames say what no frame says")]
    Frame,
}

/// More frames than go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} frames are more than {FRAMES_MAX}, or one is longer than {FRAME_BYTES_MAX} bytes")]
pub struct TooMany(pub usize);

/// Packs the bytes of frames. Those of one device in the order of their counters become shortest; any others are given back as well.
pub fn pack(frames: &[&[u8]]) -> Result<Vec<u8>, TooMany> {
    if frames.len() > FRAMES_MAX || frames.iter().any(|frame| frame.len() > FRAME_BYTES_MAX) {
        return Err(TooMany(frames.len()));
    }
    let mut out = Writer::default();
    out.number(VERSION);
    out.number(frames.len() as u64);
    let mut known = Known::default();
    for bytes in frames {
        known.add(&mut out, bytes, Frame::decode(bytes).ok().as_ref());
        known.digest = sha256(&[bytes]);
    }
    Ok(out.finish())
}

/// Packs one frame by itself.
pub fn pack_one(frame: &Frame) -> Vec<u8> {
    let mut out = Writer::default();
    out.number(VERSION);
    out.number(1);
    Known::default().add(&mut out, frame.bytes(), Some(frame));
    out.finish()
}

/// Gives back the bytes of the frames.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Bad> {
    let mut from = Reader::new(bytes);
    let version = from.number()?;
    if version != VERSION {
        return Err(Bad::Version(version));
    }
    let count = bounded(from.number()?, FRAMES_MAX)?;
    let mut frames = Vec::new();
    let mut known = Known::default();
    for _ in 0..count {
        let frame = if from.bit()? {
            let (pack, signature) = known.read(&mut from)?;
            Frame::assemble(&pack, &signature).filter(|frame| frame.len() <= FRAME_BYTES_MAX).ok_or(Bad::Frame)?
        } else {
            let length = bounded(from.number()?, FRAME_BYTES_MAX)?;
            from.bytes(length)?
        };
        known.digest = sha256(&[&frame]);
        frames.push(frame);
    }
    if from.is_at_end() { Ok(frames) } else { Err(Bad::Long) }
}

fn bounded(value: u64, most: usize) -> Result<usize, Bad> {
    usize::try_from(value).ok().filter(|value| *value <= most).ok_or(Bad::Number)
}

/// What the frames so far have said.
struct Known {
    device: Option<DeviceId>,
    counter: u64,
    time_ms: i64,
    step_ms: i64,
    /// Of the frame before.
    digest: Digest,
    /// Every kind of signal that came, with what it said last.
    kinds: Vec<(Kind, Last)>,
    /// The kinds in the frame before.
    order: Vec<usize>,
}

impl Default for Known {
    fn default() -> Self {
        let (device, kinds, order) = (None, Vec::new(), Vec::new());
        Self { device, counter: 0, time_ms: 0, step_ms: 0, digest: NO_PREVIOUS, kinds, order }
    }
}

/// What a signal says every time.
#[derive(Clone, PartialEq, Eq)]
struct Kind {
    name: String,
    says: Says,
}

#[derive(Clone, PartialEq, Eq)]
enum Says {
    /// Unit and the power of ten of the last digit.
    Number(String, i8),
    Code,
    Absent,
    Waveform {
        unit: String,
        rate_hz: Exact,
        origin: Exact,
        scale: Exact,
        limits: Limits,
        wide: bool,
    },
}

/// A decimal by its digits: 37 is not 37.0.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Exact(i64, i8);

impl From<Decimal> for Exact {
    fn from(decimal: Decimal) -> Self {
        Self(decimal.mantissa(), decimal.exponent())
    }
}

/// What a signal said last.
#[derive(Clone, Default)]
struct Last {
    offset_ms: i64,
    mantissa: i64,
    code: String,
    before: samples::Before,
    /// How many samples.
    samples: usize,
}

impl Kind {
    fn of(signal: &Signal) -> Self {
        let says = match &signal.value {
            Value::Number { unit, value } => Says::Number(unit.clone(), value.exponent()),
            Value::Code(_) => Says::Code,
            Value::Absent(_) => Says::Absent,
            Value::Waveform(wave) => Says::Waveform {
                unit: wave.unit.clone(),
                rate_hz: wave.rate_hz.into(),
                origin: wave.origin.into(),
                scale: wave.scale.into(),
                limits: wave.limits,
                wide: matches!(wave.samples, Samples::I32(_)),
            },
        };
        Self { name: signal.name.clone(), says }
    }

    fn write(&self, out: &mut Writer) {
        let exact = |out: &mut Writer, Exact(mantissa, exponent): Exact| {
            out.signed(mantissa);
            out.signed(exponent.into());
        };
        out.text(&self.name);
        match &self.says {
            Says::Number(unit, exponent) => {
                out.bits(0, 2);
                out.text(unit);
                out.signed((*exponent).into());
            }
            Says::Code => out.bits(1, 2),
            Says::Absent => out.bits(2, 2),
            Says::Waveform { unit, rate_hz, origin, scale, limits, wide } => {
                out.bits(3, 2);
                out.text(unit);
                [*rate_hz, *origin, *scale].into_iter().for_each(|decimal| exact(out, decimal));
                for limit in [limits.low, limits.high] {
                    out.bit(limit.is_some());
                    limit.into_iter().for_each(|limit| out.signed(limit.into()));
                }
                out.bit(*wide);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let exponent = |from: &mut Reader<'_>| i8::try_from(from.signed()?).map_err(|_| Bad::Number);
        let exact = |from: &mut Reader<'_>| Ok(Exact(from.signed()?, exponent(from)?));
        let limit = |from: &mut Reader<'_>| match from.bit()? {
            true => i32::try_from(from.signed()?).map(Some).map_err(|_| Bad::Number),
            false => Ok(None),
        };
        let name = from.text()?;
        let says = match from.bits(2)? {
            0 => Says::Number(from.text()?, exponent(from)?),
            1 => Says::Code,
            2 => Says::Absent,
            _ => Says::Waveform {
                unit: from.text()?,
                rate_hz: exact(from)?,
                origin: exact(from)?,
                scale: exact(from)?,
                limits: Limits { low: limit(from)?, high: limit(from)? },
                wide: from.bit()?,
            },
        };
        Ok(Self { name, says })
    }
}

impl Known {
    /// Writes a frame of these bytes: what it says where our own encoding gives the bytes back, else the bytes.
    fn add(&mut self, out: &mut Writer, bytes: &[u8], frame: Option<&Frame>) {
        let is_ours =
            |frame: &&Frame| Frame::assemble(frame.pack(), frame.signature()).is_some_and(|again| again == bytes);
        let ours = frame.filter(is_ours);
        out.bit(ours.is_some());
        match ours {
            Some(frame) => self.write(out, frame),
            None => {
                out.number(bytes.len() as u64);
                out.bytes(bytes);
            }
        }
    }

    fn write(&mut self, out: &mut Writer, frame: &Frame) {
        let pack = frame.pack();
        let same_device = self.device.as_ref() == Some(&pack.device);
        out.bit(same_device);
        if !same_device {
            out.text(pack.device.as_str());
            self.device = Some(pack.device.clone());
        }
        out.signed(pack.counter.wrapping_sub(self.counter).wrapping_sub(1).cast_signed());
        self.counter = pack.counter;
        let follows = pack.previous == self.digest;
        out.bit(follows);
        if !follows {
            out.bytes(pack.previous.as_ref());
        }
        // Device times have at most 48 bits.
        let time_ms = pack.device_time.0.cast_signed();
        out.signed(time_ms - self.time_ms - self.step_ms);
        (self.step_ms, self.time_ms) = (time_ms - self.time_ms, time_ms);
        out.bytes(frame.signature());
        let kinds: Vec<Kind> = pack.signals.iter().map(Kind::of).collect();
        let same_order = kinds.len() == self.order.len()
            && kinds
                .iter()
                .zip(&self.order)
                .all(|(kind, at)| self.kinds.get(*at).is_some_and(|(known, _)| known == kind));
        out.bit(same_order);
        if !same_order {
            self.order.clear();
            out.number(kinds.len() as u64);
            for kind in kinds {
                let at = self.kinds.iter().position(|(known, _)| *known == kind).unwrap_or(self.kinds.len());
                out.number(at as u64);
                if at == self.kinds.len() {
                    kind.write(out);
                    self.kinds.push((kind, Last::default()));
                }
                self.order.push(at);
            }
        }
        for (signal, at) in pack.signals.iter().zip(&self.order) {
            if let Some((_, last)) = self.kinds.get_mut(*at) {
                write_value(out, signal, last);
            }
        }
    }

    fn read(&mut self, from: &mut Reader<'_>) -> Result<(Pack, [u8; 64]), Bad> {
        if !from.bit()? {
            self.device = Some(from.text()?.parse().map_err(|_| Bad::Frame)?);
        }
        let device = self.device.clone().ok_or(Bad::Frame)?;
        self.counter = self.counter.wrapping_add(1).wrapping_add(from.signed()?.cast_unsigned());
        let previous = match from.bit()? {
            true => self.digest,
            false => Digest(from.bytes(32)?.try_into().map_err(|_| Bad::Short)?),
        };
        let foreseen = self.time_ms.checked_add(self.step_ms).ok_or(Bad::Number)?;
        let time_ms = foreseen.checked_add(from.signed()?).filter(|ms| (0..1 << 60).contains(ms)).ok_or(Bad::Number)?;
        (self.step_ms, self.time_ms) = (time_ms - self.time_ms, time_ms);
        let signature = from.bytes(64)?.try_into().map_err(|_| Bad::Short)?;
        if !from.bit()? {
            self.order.clear();
            for _ in 0..bounded(from.number()?, SIGNALS_MAX)? {
                let at = bounded(from.number()?, self.kinds.len())?;
                if at == self.kinds.len() {
                    self.kinds.push((Kind::read(from)?, Last::default()));
                }
                self.order.push(at);
            }
        }
        let mut signals = Vec::with_capacity(self.order.len());
        let mut left = SAMPLES_MAX;
        for at in &self.order {
            let (kind, last) = self.kinds.get_mut(*at).ok_or(Bad::Frame)?;
            signals.push(read_value(from, kind, last, &mut left)?);
        }
        let device_time = TimeMs(time_ms.cast_unsigned());
        Ok((Pack { device, counter: self.counter, previous, device_time, signals }, signature))
    }
}

fn write_value(out: &mut Writer, signal: &Signal, last: &mut Last) {
    let moved = signal.offset_ms != last.offset_ms;
    out.bit(moved);
    if moved {
        out.signed(signal.offset_ms - last.offset_ms);
        last.offset_ms = signal.offset_ms;
    }
    match &signal.value {
        Value::Number { value, .. } => {
            // Mantissas have at most 57 bits.
            out.signed(value.mantissa() - last.mantissa);
            last.mantissa = value.mantissa();
        }
        Value::Code(code) => {
            let same = *code == last.code;
            out.bit(same);
            if !same {
                out.text(code);
                last.code.clone_from(code);
            }
        }
        Value::Absent(why) => {
            let at = Absence::ALL.iter().position(|reason| reason == why).unwrap_or(0);
            out.bits(at as u64, 2);
        }
        Value::Waveform(wave) => write_waveform(out, wave, last),
    }
}

fn write_waveform(out: &mut Writer, wave: &Waveform, last: &mut Last) {
    let same_count = wave.samples.len() == last.samples;
    out.bit(same_count);
    if !same_count {
        out.number(wave.samples.len() as u64);
        last.samples = wave.samples.len();
    }
    // A missing sample is foreseen as the one before, and named.
    let mut valid = i32::try_from(last.before[0]).unwrap_or(0);
    let mut missing = Vec::new();
    let filled: Vec<i32> = wave
        .samples
        .iter()
        .enumerate()
        .map(|(at, sample)| {
            match sample {
                Some(sample) => valid = sample,
                None => missing.push(at),
            }
            valid
        })
        .collect();
    out.bit(!missing.is_empty());
    if !missing.is_empty() {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in missing {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == at => *count += 1,
                _ => runs.push((at, 1)),
            }
        }
        out.number(runs.len() as u64);
        let mut end = 0;
        for (first, count) in runs {
            out.number((first - end) as u64);
            out.number(count as u64);
            end = first + count;
        }
    }
    samples::write(out, &filled, &mut last.before);
}

fn read_value(from: &mut Reader<'_>, kind: &Kind, last: &mut Last, left: &mut usize) -> Result<Signal, Bad> {
    if from.bit()? {
        last.offset_ms = last.offset_ms.checked_add(from.signed()?).ok_or(Bad::Number)?;
    }
    let decimal = |Exact(mantissa, exponent): Exact| decimal(mantissa, exponent).ok_or(Bad::Number);
    let value = match &kind.says {
        Says::Number(unit, exponent) => {
            last.mantissa = last.mantissa.checked_add(from.signed()?).ok_or(Bad::Number)?;
            Value::Number { unit: unit.clone(), value: decimal(Exact(last.mantissa, *exponent))? }
        }
        Says::Code => {
            if !from.bit()? {
                last.code = from.text()?;
            }
            Value::Code(last.code.clone())
        }
        Says::Absent => Value::Absent(*Absence::ALL.get(from.bits(2)? as usize).ok_or(Bad::Number)?),
        Says::Waveform { unit, rate_hz, origin, scale, limits, wide } => Value::Waveform(Waveform {
            unit: unit.clone(),
            rate_hz: decimal(*rate_hz)?,
            origin: decimal(*origin)?,
            scale: decimal(*scale)?,
            limits: *limits,
            samples: read_samples(from, last, *wide, left)?,
        }),
    };
    Ok(Signal { name: kind.name.clone(), offset_ms: last.offset_ms, value })
}

/// A decimal by its digits, also one that came from a binary float and has up to 17.
fn decimal(mantissa: i64, exponent: i8) -> Option<Decimal> {
    Decimal::new(mantissa, exponent).or_else(|| {
        let float: f64 = format!("{mantissa}e{exponent}").parse().ok()?;
        Decimal::from_f64(float).filter(|decimal| Exact::from(*decimal) == Exact(mantissa, exponent))
    })
}

fn read_samples(from: &mut Reader<'_>, last: &mut Last, wide: bool, left: &mut usize) -> Result<Samples, Bad> {
    if !from.bit()? {
        last.samples = bounded(from.number()?, SAMPLES_MAX)?;
    }
    *left = left.checked_sub(last.samples).ok_or(Bad::Number)?;
    let mut runs = Vec::new();
    if from.bit()? {
        let mut end = 0;
        for _ in 0..bounded(from.number()?, last.samples)? {
            let first = end + bounded(from.number()?, last.samples)?;
            end = first + bounded(from.number()?, last.samples)?;
            if end > last.samples {
                return Err(Bad::Number);
            }
            runs.push(first..end);
        }
    }
    let mut samples = samples::read(from, last.samples, &mut last.before)?;
    for at in runs.into_iter().flatten() {
        samples[at] = i32::MIN;
    }
    if wide {
        return Ok(Samples::I32(samples));
    }
    let narrow =
        |sample: i32| if sample == i32::MIN { Ok(i16::MIN) } else { i16::try_from(sample).map_err(|_| Bad::Number) };
    Ok(Samples::I16(samples.into_iter().map(narrow).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests;
