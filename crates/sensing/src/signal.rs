//! What one frame carries: named numbers, codes, absences and stretches of waveform.

use crate::Decimal;

/// The longest name of a signal, in bytes.
pub(crate) const SIGNAL_NAME_BYTES_MAX: usize = 48;
/// The longest unit or code, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 64;
/// The greatest distance of a signal's time from its frame's time: ten minutes, in milliseconds.
pub(crate) const OFFSET_MS_MAX: i64 = 600_000;
/// The fastest sampling, in hertz.
pub(crate) const RATE_HZ_MAX: i32 = 100_000;

/// One named value or stretch of values, at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The signal's name; those of [`crate::sensor::ALL`] are known, others are kept. 1 to 48 of `a-z 0-9 - .`.
    pub name: String,
    /// Milliseconds from the frame's device time to the value, or to the first sample. At most ten minutes either way.
    pub offset_ms: i64,
    /// What was measured.
    pub value: Value,
}

/// What a sensor said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// One number with its UCUM unit.
    Number {
        /// UCUM unit, such as `mm[Hg]`.
        unit: String,
        /// The number.
        value: Decimal,
    },
    /// One code of the signal's own list, such as `supine`.
    Code(String),
    /// Nothing was measured, and why.
    Absent(Absence),
    /// Evenly spaced samples.
    Waveform(Waveform),
}

/// Why a value is absent: a code of `http://terminology.hl7.org/CodeSystem/data-absent-reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The sensor is there but found no value.
    Unknown,
    /// The measurement failed.
    Error,
    /// The measurement was not made.
    NotPerformed,
    /// The sensor is detached for a while.
    TempUnknown,
}

impl Absence {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Error, Self::NotPerformed, Self::TempUnknown];

    /// The FHIR code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Error => "error",
            Self::NotPerformed => "not-performed",
            Self::TempUnknown => "temp-unknown",
        }
    }
    /// The reason with this FHIR code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// Evenly spaced whole-number samples and how they become physical values: `origin` + sample × `scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waveform {
    /// UCUM unit of the physical value.
    pub unit: String,
    /// Samples per second.
    pub rate_hz: Decimal,
    /// Physical value of sample 0.
    pub origin: Decimal,
    /// Physical value of one step.
    pub scale: Decimal,
    /// The samples that stand for «at or beyond what the sensor can measure».
    pub limits: Limits,
    /// The samples; the least number of their width means «no valid sample».
    pub samples: Samples,
}

/// The ends of what a sensor can measure, in samples: one that equals an end says «this or beyond». No sample lies outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// The lower end, where the device says it.
    pub low: Option<i32>,
    /// The upper end, where the device says it.
    pub high: Option<i32>,
}

impl Limits {
    /// No end is known.
    pub const NONE: Self = Self { low: None, high: None };
}

impl Waveform {
    /// The physical value of each sample; not a number where there is no valid sample.
    pub fn physical(&self) -> Vec<f64> {
        let (origin, scale) = (self.origin.to_f64(), self.scale.to_f64());
        self.samples.iter().map(|s| s.map_or(f64::NAN, |s| origin + f64::from(s) * scale)).collect()
    }

    /// The exact physical value of one sample; nothing when it has more digits than a decimal may have.
    pub fn value_of(&self, sample: i32) -> Option<Decimal> {
        self.origin.plus_steps(sample, self.scale)
    }

    /// How long the stretch lasts, in milliseconds, rounded down.
    pub fn duration_ms(&self) -> u64 {
        (self.samples.len() as f64 * 1000.0 / self.rate_hz.to_f64()) as u64
    }
}

/// Samples in the width the device sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Samples {
    /// 16 bits each.
    I16(Vec<i16>),
    /// 32 bits each.
    I32(Vec<i32>),
}

impl Samples {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::I16(samples) => samples.len(),
            Self::I32(samples) => samples.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The samples in order; nothing where there is no valid sample.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Option<i32>> + '_> {
        match self {
            Self::I16(samples) => Box::new(samples.iter().map(|&s| (s != i16::MIN).then_some(i32::from(s)))),
            Self::I32(samples) => Box::new(samples.iter().map(|&s| (s != i32::MIN).then_some(s))),
        }
    }
    /// The least and the greatest valid sample.
    pub fn range(&self) -> Option<(i32, i32)> {
        fn over<T: Copy + Ord>(samples: &[T], none: T) -> Option<(T, T)> {
            let mut valid = samples.iter().copied().filter(|&s| s != none);
            let first = valid.next()?;
            Some(valid.fold((first, first), |(low, high), s| (low.min(s), high.max(s))))
        }
        match self {
            Self::I16(samples) => over(samples, i16::MIN).map(|(low, high)| (low.into(), high.into())),
            Self::I32(samples) => over(samples, i32::MIN),
        }
    }
}

/// Whether `name` may name a signal.
pub(crate) fn is_signal_name(name: &str) -> bool {
    (1..=SIGNAL_NAME_BYTES_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_number_marks_a_sample_that_is_not_valid() {
        let samples = Samples::I16(vec![3, i16::MIN, -4]);
        assert_eq!(samples.iter().collect::<Vec<_>>(), [Some(3), None, Some(-4)]);
        assert_eq!(samples.range(), Some((-4, 3)));
        assert_eq!(Samples::I32(vec![i32::MIN]).range(), None);
    }

    #[test]
    fn physical_values_follow_origin_and_scale() {
        let wave = Waveform {
            unit: "mV".into(),
            rate_hz: Decimal::whole(360),
            origin: Decimal::new(-512, -2).unwrap(),
            scale: Decimal::new(5, -3).unwrap(),
            limits: Limits::NONE,
            samples: Samples::I16(vec![1024, 995]),
        };
        assert_eq!(wave.value_of(995).unwrap().to_string(), "-0.145");
        assert_eq!(Waveform { origin: Decimal::new(1, -18).unwrap(), ..wave.clone() }.value_of(i32::MAX), None);
        assert_eq!(wave.physical()[0], 0.0);
        assert!((wave.physical()[1] - -0.145).abs() < 1e-12);
        assert_eq!(wave.duration_ms(), 5);
    }
}
