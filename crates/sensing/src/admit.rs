//! Whether a frame is taken: signature, binding, sequence and clock.

use crate::{BadFrame, Binding, Decimal, DeviceId, Frame, NO_PREVIOUS, Signal, Value, sensor, verify::Signed};
use record::{Digest, Id16, TimeMs};
use serde::{Deserialize, Serialize};

/// How far a device's clock may run ahead of ours: one minute, in milliseconds.
pub const CLOCK_AHEAD_MS_MAX: u64 = 60_000;
/// How old a frame may be when it comes: one day, in milliseconds. Devices store frames while they are offline.
pub const CLOCK_BEHIND_MS_MAX: u64 = 86_400_000;

/// What is known of a device's sequence: the last frame that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Its counter; 0 before the first frame.
    pub last_counter: u64,
    /// Its digest; 32 zero bytes before the first frame.
    pub last_digest: Digest,
    /// Its device time.
    pub last_device_time: TimeMs,
}

impl Default for DeviceState {
    fn default() -> Self {
        Self { last_counter: 0, last_digest: NO_PREVIOUS, last_device_time: TimeMs(0) }
    }
}

/// Why a frame was not admitted. The device's or its sender's fault; no health data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The frame carries no signature.
    #[error("the frame is not signed")]
    Unsigned,
    /// The signature is not that of the bound device's key over these bytes.
    #[error("the signature of device `{device}` does not fit the frame")]
    BadSignature {
        /// The device that the frame names.
        device: DeviceId,
    },
    /// The frame names another device than the binding.
    #[error("device `{device}` is not bound")]
    UnknownDevice {
        /// The device that the frame names.
        device: DeviceId,
    },
    /// The counter was used before: the same frame again, or an old one.
    #[error("counter {got} is not above {last} for device `{device}`")]
    Replayed {
        /// The device.
        device: DeviceId,
        /// The frame's counter.
        got: u64,
        /// The last admitted counter.
        last: u64,
    },
    /// Another frame with the last counter was admitted: two hold the key.
    #[error("device `{device}` signed two frames with counter {counter}")]
    Cloned {
        /// The device.
        device: DeviceId,
        /// The counter used twice.
        counter: u64,
        /// Digest of the frame that was admitted.
        admitted: Digest,
        /// Digest of this frame.
        got: Digest,
    },
    /// The frame follows the last one by its counter but not by its digest: two hold the key, or the device lost its memory.
    #[error("frame {counter} of device `{device}` does not follow the frame before it")]
    ChainBroken {
        /// The device.
        device: DeviceId,
        /// The frame's counter.
        counter: u64,
        /// The digest that the frame names.
        got: Digest,
        /// The digest of the last admitted frame.
        expected: Digest,
    },
    /// More bytes than a frame may have.
    #[error("a frame of {got} bytes is longer than {max}", max = crate::FRAME_BYTES_MAX)]
    TooLarge {
        /// How many bytes came.
        got: usize,
    },
    /// The bytes break a rule of the format.
    #[error("the frame is malformed: {0}")]
    Malformed(&'static str),
    /// The device's clock is further from ours than any honest delay explains.
    #[error("the clock of device `{device}` is {offset_ms} ms from ours")]
    ClockTooFar {
        /// The device.
        device: DeviceId,
        /// Device time minus receipt time.
        offset_ms: i64,
    },
    /// The device was not bound to the patient at the frame's time.
    #[error("device `{device}` was not bound at {at}")]
    OutsideBinding {
        /// The device.
        device: DeviceId,
        /// The frame's time.
        at: TimeMs,
    },
}

impl From<BadFrame> for Reject {
    fn from(bad: BadFrame) -> Self {
        match bad {
            BadFrame::TooLarge { got } => Self::TooLarge { got },
            BadFrame::Unsigned => Self::Unsigned,
            BadFrame::Malformed(what) => Self::Malformed(what),
        }
    }
}

impl Reject {
    /// A short name that stays the same, for entries, metrics and answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::BadSignature { .. } => "bad-signature",
            Self::UnknownDevice { .. } => "unknown-device",
            Self::Replayed { .. } => "replayed",
            Self::Cloned { .. } => "cloned",
            Self::ChainBroken { .. } => "chain-broken",
            Self::TooLarge { .. } => "too-large",
            Self::Malformed(_) => "malformed",
            Self::ClockTooFar { .. } => "clock-too-far",
            Self::OutsideBinding { .. } => "outside-binding",
        }
    }

    /// Whether this is worth an entry on the ledger: it needed the device's key, or shows that two hold it.
    pub fn is_evidence(&self) -> bool {
        matches!(
            self,
            Self::Replayed { .. } | Self::Cloned { .. } | Self::ChainBroken { .. } | Self::OutsideBinding { .. }
        )
    }
}

/// Counters that never came: `first` to `last`, both missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// The first missing counter.
    pub first: u64,
    /// The last missing counter.
    pub last: u64,
}

/// Something about a signal that a reader should know. The value is kept as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// A value lies outside the sensor's plausible range.
    Implausible,
    /// No sensor of ours has a signal of this name.
    UnknownSignal,
    /// The unit is not the signal's unit, so the range was not checked.
    OtherUnit,
    /// The code is not in the signal's list.
    UnknownCode,
    /// Some samples are marked as not valid.
    MissingSamples,
}

/// An admitted frame: who measured what, when, and that it was them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The device.
    pub device: DeviceId,
    /// FHIR reference of the patient.
    pub patient: String,
    /// Id of the binding on the ledger.
    pub binding: Id16,
    /// The frame's counter.
    pub counter: u64,
    /// The counters missing before it.
    pub gap: Option<Gap>,
    /// The device's clock at the beginning of the frame.
    pub measured_at: TimeMs,
    /// Our clock at receipt.
    pub received_at: TimeMs,
    /// Device time minus receipt time, in milliseconds: the clock's offset and the way's delay together.
    pub clock_offset_ms: i64,
    /// By how many milliseconds the device's clock went back since the last frame; 0 as a rule.
    pub clock_step_back_ms: u64,
    /// Digest of the frame.
    pub digest: Digest,
    /// Digest of the frame before, as the device says.
    pub previous: Digest,
    /// The device's signature.
    pub signature: [u8; 64],
    /// What was measured.
    pub signals: Vec<Signal>,
    /// Doubts, each with the position of its signal in `signals`.
    pub doubts: Vec<(usize, Doubt)>,
}

impl Reading {
    /// Whether the frame names the digest of the frame admitted before it. After a gap it cannot.
    pub fn is_linked(&self) -> bool {
        self.gap.is_none()
    }
}

/// Admits one frame: `decode` and [`admit_frame`] in one step, for callers who know the device beforehand.
pub fn admit(
    bytes: &[u8],
    binding: &Binding,
    state: &DeviceState,
    received_at: TimeMs,
) -> Result<(Reading, DeviceState), Reject> {
    admit_frame(Frame::decode(bytes)?, binding, state, received_at)
}

/// Admits a decoded frame, or says why not. On success the state is that after the frame; the caller keeps it.
///
/// Nothing about sequence or clock is judged before the signature holds, so nobody without the key learns or changes anything.
pub fn admit_frame(
    frame: Frame,
    binding: &Binding,
    state: &DeviceState,
    received_at: TimeMs,
) -> Result<(Reading, DeviceState), Reject> {
    if *frame.device() != binding.device {
        return Err(Reject::UnknownDevice { device: frame.device().clone() });
    }
    admit_signed(Signed::one(frame, &binding.key)?, binding, state, received_at)
}

/// Admits a frame whose signature was checked, alone or among many, or says why not; otherwise as [`admit_frame`].
pub fn admit_signed(
    signed: Signed,
    binding: &Binding,
    state: &DeviceState,
    received_at: TimeMs,
) -> Result<(Reading, DeviceState), Reject> {
    if *signed.frame().device() != binding.device {
        return Err(Reject::UnknownDevice { device: signed.frame().device().clone() });
    }
    if *signed.key() != binding.key {
        return Err(Reject::BadSignature { device: signed.frame().device().clone() });
    }
    let frame = signed.into_frame();
    let gap = check_sequence(&frame, state)?;
    let clock_offset_ms = check_clock(&frame, received_at)?;
    check_binding(&frame, binding)?;

    let (digest, signature) = (frame.digest(), *frame.signature());
    let pack = frame.into_pack();
    let next = DeviceState { last_counter: pack.counter, last_digest: digest, last_device_time: pack.device_time };
    let reading = Reading {
        device: pack.device,
        patient: binding.patient.clone(),
        binding: binding.binding,
        counter: pack.counter,
        gap,
        measured_at: pack.device_time,
        received_at,
        clock_offset_ms,
        clock_step_back_ms: state.last_device_time.0.saturating_sub(pack.device_time.0),
        digest,
        previous: pack.previous,
        signature,
        doubts: doubts(&pack.signals),
        signals: pack.signals,
    };
    Ok((reading, next))
}

fn check_sequence(frame: &Frame, state: &DeviceState) -> Result<Option<Gap>, Reject> {
    let (got, last) = (frame.counter(), state.last_counter);
    // Where the last frame is not known, only that its counter was used, a repetition is no copy of the key.
    let known = state.last_digest != NO_PREVIOUS;
    if got == last && known && frame.digest() != state.last_digest {
        let (device, admitted) = (frame.device().clone(), state.last_digest);
        return Err(Reject::Cloned { device, counter: got, admitted, got: frame.digest() });
    }
    if got <= last {
        return Err(Reject::Replayed { device: frame.device().clone(), got, last });
    }
    if got - last > 1 {
        return Ok(Some(Gap { first: last + 1, last: got - 1 }));
    }
    if frame.previous() != state.last_digest {
        let (device, expected) = (frame.device().clone(), state.last_digest);
        return Err(Reject::ChainBroken { device, counter: got, got: frame.previous(), expected });
    }
    Ok(None)
}

fn check_clock(frame: &Frame, received_at: TimeMs) -> Result<i64, Reject> {
    let (device_ms, our_ms) = (frame.device_time().0, received_at.0);
    let offset_ms = i64::try_from(i128::from(device_ms) - i128::from(our_ms)).unwrap_or(i64::MIN);
    let far =
        device_ms.saturating_sub(our_ms) > CLOCK_AHEAD_MS_MAX || our_ms.saturating_sub(device_ms) > CLOCK_BEHIND_MS_MAX;
    if far { Err(Reject::ClockTooFar { device: frame.device().clone(), offset_ms }) } else { Ok(offset_ms) }
}

fn check_binding(frame: &Frame, binding: &Binding) -> Result<(), Reject> {
    let at = frame.device_time();
    let within = at >= binding.from && binding.until.is_none_or(|until| at < until);
    if within { Ok(()) } else { Err(Reject::OutsideBinding { device: frame.device().clone(), at }) }
}

fn doubts(signals: &[Signal]) -> Vec<(usize, Doubt)> {
    let mut doubts = Vec::new();
    for (at, signal) in signals.iter().enumerate() {
        doubts.extend(doubts_of(signal).into_iter().flatten().map(|doubt| (at, doubt)));
    }
    doubts
}

fn doubts_of(signal: &Signal) -> [Option<Doubt>; 2] {
    let Some(channel) = sensor::channel(&signal.name) else {
        return [Some(Doubt::UnknownSignal), None];
    };
    match &signal.value {
        Value::Absent(_) => [None, None],
        Value::Code(code) => [(!channel.knows_code(code)).then_some(Doubt::UnknownCode), None],
        Value::Number { unit, value } => [channel.doubt(unit, *value, *value), None],
        Value::Waveform(wave) => {
            let missing = wave.samples.iter().any(|sample| sample.is_none()).then_some(Doubt::MissingSamples);
            let Some((low, high)) = wave.samples.range() else { return [missing, None] };
            let at = |sample| wave.origin.to_f64() + f64::from(sample) * wave.scale.to_f64();
            let (a, b) = (at(low), at(high));
            let bounds = (Decimal::from_f64(a.min(b)), Decimal::from_f64(a.max(b)));
            let (Some(low), Some(high)) = bounds else { return [missing, Some(Doubt::Implausible)] };
            [missing, channel.doubt(&wave.unit, low, high)]
        }
    }
}

#[cfg(test)]
mod tests;
