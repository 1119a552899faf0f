//! What analytics reads: one measured value or stretch, and the frame it came in.

use record::{Digest, TimeMs};

/// One value of one signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Input<'a> {
    /// Digest of the signed frame, which findings cite.
    pub frame: Digest,
    /// The signal's name, as in frames: `heart-rate`, `spo2`, `nibp-sys`, `ecg-ii`.
    pub signal: &'a str,
    /// When it was measured; for a waveform, its first sample.
    pub at: TimeMs,
    /// The value.
    pub value: Measured<'a>,
}

/// A measured value in the unit that the signal always has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measured<'a> {
    /// A number.
    Number(f64),
    /// A code, such as `supine`, or `A`, `C`, `V`, `P`, `U` of `consciousness`.
    Code(&'a str),
    /// The sensor said that it has no value.
    Absent,
    /// Evenly spaced physical values; not a number where there is none.
    Wave {
        /// Samples per second.
        rate_hz: f64,
        /// The values.
        values: &'a [f64],
    },
}

/// No measured number is larger: sums of squares stay finite.
const NUMBER_MAX: f64 = 1e12;

impl Measured<'_> {
    /// The number, where it is one that can be measured.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(value) if value.abs() <= NUMBER_MAX => Some(*value),
            _ => None,
        }
    }
}

/// What scores and models must know of the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Person {
    /// Age in whole years, where known.
    pub age_years: Option<u16>,
    /// Whether male, where known; neither for who is neither.
    pub male: Option<bool>,
    /// Height in whole cm, where known.
    pub height_cm: Option<u16>,
    /// Whether known to be pregnant.
    pub pregnant: bool,
    /// Whether a clinician decided for SpO2 scale 2 of NEWS2 (hypercapnic respiratory failure).
    pub spo2_scale_2: bool,
}
