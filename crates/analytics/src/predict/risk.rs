//! The risk of dying in hospital, from what was measured in up to two days of intensive care.

use super::{
    bytes::BadModel,
    model::{Model, Output},
    readings::{HOUR_MS, NotTaken, Reading, Readings},
    risk_features::{self, Known},
    variable::Variable,
};
use record::{Digest, TimeMs};
use std::sync::Arc;

/// Youngest age that the models were trained for, in years.
pub const AGE_YEARS_MIN: u16 = 16;
/// What must have been measured lately for a risk to be given.
const REQUIRED: [Variable; 3] = [Variable::HEART_RATE, Variable::SYSTOLIC, Variable::GLASGOW];
/// How lately, in hours.
pub const REQUIRED_WITHIN_H: u64 = 12;
/// So much of the hours of a model must lie between the first reading and the moment: the first is not made at once.
///
/// In the training data the first reading came within half an hour for 96 of 100 patients.
const OBSERVED_SHARE: f64 = 0.9;

/// What the models know of the person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patient {
    /// Age in whole years.
    pub age_years: u16,
    /// Whether male, where known.
    pub male: Option<bool>,
    /// Height in cm, where known.
    pub height_cm: Option<f64>,
}

impl Patient {
    /// Heights outside of this were typing errors in the training data, and are not known.
    const HEIGHT_CM: std::ops::RangeInclusive<f64> = 120.0..=230.0;

    fn known(&self) -> Known {
        let height = self.height_cm.filter(|height| Self::HEIGHT_CM.contains(height));
        Known {
            age: f64::from(self.age_years),
            male: self.male.map_or(f64::NAN, |male| f64::from(u8::from(male))),
            height: height.unwrap_or(f64::NAN),
        }
    }
}

/// The model of the risk, read from its file.
#[derive(Debug, Clone, PartialEq)]
pub struct RiskModel(
    // INVARIANT: at least one output, by rising hours.
    pub(super) Model,
);

impl RiskModel {
    /// Name of the model, and of its file without `.cbor`.
    pub const ID: &'static str = "icu-mortality-1";
    const OUTPUT: &'static str = "death-in-hospital";

    /// Reads the model from the bytes of its file.
    pub fn read(bytes: &[u8]) -> Result<Self, BadModel> {
        let model = Model::read(bytes, Self::ID, |name| (name == Self::OUTPUT).then(risk_features::names))?;
        let hours: Vec<u32> = model.outputs.iter().map(|output| output.hours).collect();
        let rising =
            hours.windows(2).all(|pair| pair[0] < pair[1]) && hours.iter().all(|hours| (1..=48).contains(hours));
        if rising && !hours.is_empty() { Ok(Self(model)) } else { Err(BadModel::Outputs(Self::ID)) }
    }

    /// SHA-256 of the file.
    pub fn hash(&self) -> Digest {
        self.0.hash
    }

    /// Lengths of observation, in hours, that it has an output for.
    pub fn hours(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.outputs.iter().map(|output| output.hours)
    }

    /// The probability that a score stands for. `libm` computes the same bits on every machine.
    fn probability(score: f64) -> f64 {
        1.0 / (1.0 + libm::exp(-score))
    }

    fn output(&self, observed_h: f64) -> Option<&Output> {
        self.0.outputs.iter().rev().find(|output| observed_h >= f64::from(output.hours) * OBSERVED_SHARE)
    }
}

/// A risk, and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// The probability of dying in this hospital stay, 0 to 1.
    pub probability: f64,
    /// Lower end of the 90 % interval of the rate at which patients with such a risk died, whom the model had not seen.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// SHA-256 of the model's file.
    pub model: Digest,
    /// How many hours the model looked at.
    pub hours: u32,
    /// The earliest time that it looked at.
    pub from: TimeMs,
    /// The moment: the first that it did not look at.
    pub at: TimeMs,
    /// Variables that were not measured in these hours. The model knows what their absence means; the reader should too.
    pub missing: Vec<&'static str>,
}

/// Why no risk is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAssessed {
    /// The person is too young for the model.
    #[error("the model is not for persons under {AGE_YEARS_MIN} years")]
    TooYoung,
    /// The patient has not been observed for long enough.
    #[error("the patient was observed for {observed_min} min of the {needed_min} min that are needed")]
    Early {
        /// For how long, in minutes.
        observed_min: u64,
        /// What is needed.
        needed_min: u64,
    },
    /// Something that is needed was not measured lately.
    #[error("not measured in the last {REQUIRED_WITHIN_H} hours: {}", .0.join(", "))]
    Missing(Vec<&'static str>),
    /// Readings from after the moment have been taken already.
    #[error("the moment lies before the latest reading")]
    Past,
}

/// The risk of one patient, as readings come.
#[derive(Debug, Clone)]
pub struct Risk {
    model: Arc<RiskModel>,
    patient: Patient,
    readings: Readings,
}

impl Risk {
    /// Begins without readings.
    pub fn new(model: Arc<RiskModel>, patient: Patient) -> Self {
        Self { model, patient, readings: Readings::new() }
    }

    /// The same readings as those of another person.
    pub fn of(&self, patient: Patient) -> Self {
        Self { patient, ..self.clone() }
    }

    /// Takes a reading. The order in which readings come decides nothing.
    pub fn observe(&mut self, reading: &Reading<'_>) -> Result<(), NotTaken> {
        self.readings.take(reading)
    }

    /// The risk at a moment, from what was measured before it, and not at it.
    pub fn assess(&self, at: TimeMs) -> Result<Assessment, NotAssessed> {
        if self.patient.age_years < AGE_YEARS_MIN {
            return Err(NotAssessed::TooYoung);
        }
        if at < self.readings.latest() {
            return Err(NotAssessed::Past);
        }
        let longest = self.model.hours().max().unwrap_or_default();
        let observed_h = self.readings.window(at, longest.into()).observed_h();
        let Some(output) = self.model.output(observed_h) else {
            let needed_h = self.model.hours().min().map_or(0.0, f64::from) * OBSERVED_SHARE;
            let minutes = |hours: f64| (hours * 60.0) as u64;
            return Err(NotAssessed::Early { observed_min: minutes(observed_h), needed_min: minutes(needed_h) });
        };
        let window = self.readings.window(at, output.hours.into());
        let lacking = window.without(REQUIRED.into_iter(), REQUIRED_WITHIN_H);
        if !lacking.is_empty() {
            return Err(NotAssessed::Missing(lacking));
        }
        let row = risk_features::features(&self.patient.known(), &window);
        let probability = RiskModel::probability(output.score(&row));
        let (low, high) = output.interval(probability);
        Ok(Assessment {
            probability,
            low,
            high,
            model: self.model.hash(),
            hours: output.hours,
            from: TimeMs(at.0.saturating_sub(u64::from(output.hours) * HOUR_MS)),
            at,
            missing: window.without(Variable::all(), output.hours.into()),
        })
    }
}
