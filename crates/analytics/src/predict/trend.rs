//! Vital signs an hour ahead, with intervals that held nine times in ten for patients whom the model had not seen.

use super::{
    bytes::BadModel,
    model::Model,
    readings::{HOUR_MS, NotTaken, Reading, Readings, WINDOW_H},
    risk::AGE_YEARS_MIN,
    trend_features,
    variable::Variable,
};
use record::{Digest, TimeMs};
use std::sync::Arc;

/// Share of next values that an interval holds.
pub const COVERAGE: f64 = 0.9;

/// The model of the forecasts, read from its file.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendModel(
    // INVARIANT: an output for each target, in their order.
    Model,
);

impl TrendModel {
    /// Name of the model, and of its file without `.cbor`.
    pub const ID: &'static str = "next-hour-1";

    /// Reads the model from the bytes of its file.
    pub fn read(bytes: &[u8]) -> Result<Self, BadModel> {
        let target = |name: &str| trend_features::TARGETS.into_iter().find(|target| target.spec().name == name);
        let model = Model::read(bytes, Self::ID, |name| target(name).map(trend_features::names))?;
        let targets = trend_features::TARGETS.iter().map(|target| target.spec().name);
        if targets.eq(model.outputs.iter().map(|output| output.name.as_str())) {
            Ok(Self(model))
        } else {
            Err(BadModel::Outputs(Self::ID))
        }
    }

    /// SHA-256 of the file.
    pub fn hash(&self) -> Digest {
        self.0.hash
    }

    /// Whether it looks at a variable.
    pub fn looks_at(variable: Variable) -> bool {
        trend_features::BESIDE.contains(&variable)
    }

    /// What it forecasts.
    pub fn targets() -> impl Iterator<Item = Variable> {
        trend_features::TARGETS.into_iter()
    }
}

/// What a variable is expected to be: its last value in the coming hour, where it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// What is forecast.
    pub variable: Variable,
    /// The value that is as likely passed as not, in the variable's unit.
    pub value: f64,
    /// Lower end of the interval that holds [`COVERAGE`] of what came.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// SHA-256 of the model's file.
    pub model: Digest,
    /// The last value before the moment.
    pub now: f64,
    /// The moment: the coming hour begins.
    pub at: TimeMs,
    /// The coming hour's end.
    pub until: TimeMs,
    /// Variables beside it that had no value in the last hour.
    pub missing: Vec<&'static str>,
}

/// Why nothing is forecast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForecast {
    /// The person is too young for the model.
    #[error("the model is not for persons under {AGE_YEARS_MIN} years")]
    TooYoung,
    /// The model does not forecast this.
    #[error("`{0}` is not forecast")]
    NoTarget(&'static str),
    /// It was not measured in the last hour.
    #[error("`{0}` was not measured in the last hour")]
    Missing(&'static str),
    /// Readings from after the moment have been taken already.
    #[error("the moment lies before the latest reading")]
    Past,
}

/// The trends of one patient, as readings come.
#[derive(Debug, Clone)]
pub struct Trends {
    model: Arc<TrendModel>,
    age_years: u16,
    readings: Readings,
}

impl Trends {
    /// Begins without readings.
    pub fn new(model: Arc<TrendModel>, age_years: u16) -> Self {
        Self { model, age_years, readings: Readings::new() }
    }

    /// The same readings as those of somebody of another age.
    pub fn for_age(&self, age_years: u16) -> Self {
        Self { age_years, ..self.clone() }
    }

    /// Takes a reading. The order in which readings come decides nothing.
    pub fn observe(&mut self, reading: &Reading<'_>) -> Result<(), NotTaken> {
        self.readings.take(reading)
    }

    /// What `variable` will be in the hour that begins at a moment, from what was measured before it, and not at it.
    pub fn forecast(&self, variable: Variable, at: TimeMs) -> Result<Forecast, NotForecast> {
        if self.age_years < AGE_YEARS_MIN {
            return Err(NotForecast::TooYoung);
        }
        let name = variable.spec().name;
        let output = self.model.0.outputs.iter().find(|output| output.name == name);
        let output = output.ok_or(NotForecast::NoTarget(name))?;
        if at < self.readings.latest() {
            return Err(NotForecast::Past);
        }
        let window = self.readings.window(at, WINDOW_H);
        let age = f64::from(self.age_years);
        let row = trend_features::row(age, &window, variable).ok_or(NotForecast::Missing(name))?;
        let value = row.now + output.score(&row.features);
        let (low, high) = output.interval(row.spread);
        Ok(Forecast {
            variable,
            value,
            low: value + low,
            high: value + high,
            model: self.model.hash(),
            now: row.now,
            at,
            until: at.plus_ms(HOUR_MS),
            missing: window.without(trend_features::BESIDE.into_iter(), 1),
        })
    }
}
