//! What will happen, by models that are files: the risk of dying in hospital, and vital signs an hour ahead.
//!
//! A model is read from the bytes of its file ([`RiskModel::read`], [`TrendModel::read`]); what it says cites the SHA-256 of these bytes.
//! [`Risk`] and [`Trends`] take one patient's [`Reading`]s as they come, in any order, and answer for a moment from what was measured before
//! it: the same model, readings and moment give the same bits on every machine. Where too little was measured they say why and guess nothing.
//!
//! ```
//! use analytics::predict::{Patient, Reading, Risk, RiskModel, Variable};
//! use record::TimeMs;
//!
//! let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/icu-mortality-1.cbor"));
//! let model = RiskModel::read(file)?;
//! let mut risk = Risk::new(model.into(), Patient { age_years: 71, male: Some(false), height_cm: None });
//! for hour in 0..24 {
//!     for (name, value) in [("heart-rate", 96.0), ("systolic", 104.0), ("glasgow-coma-scale", 13.0)] {
//!         let variable = Variable::named(name).ok_or("no such variable")?;
//!         let at = TimeMs(hour * 3_600_000);
//!         risk.observe(&Reading { variable, at, value, unit: variable.spec().unit })?;
//!     }
//! }
//! let assessed = risk.assess(TimeMs(24 * 3_600_000))?;
//! assert!(assessed.hours == 24 && assessed.low < assessed.high && assessed.missing.contains(&"lactate"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: trained on the PhysioNet/CinC Challenge 2012 (Silva et al., Computing in Cardiology 2012;39:245) by `models/train/train.py`.
//! Figures, protocol and limits: `models/README.md`. For research, not for treating anybody.

mod bands;
mod bytes;
mod linear;
mod model;
mod readings;
mod risk;
mod risk_features;
mod shipped;
mod trees;
mod trend;
mod trend_features;
mod variable;

#[cfg(test)]
mod tests;

pub use bytes::{BadModel, MODEL_BYTES_MAX};
pub use readings::{NotTaken, READINGS_MAX, Reading, WINDOW_H};
pub use risk::{AGE_YEARS_MIN, Assessment, NotAssessed, Patient, REQUIRED_WITHIN_H, Risk, RiskModel};
pub use shipped::{risk_model, trend_model};
pub use trend::{COVERAGE, Forecast, NotForecast, TrendModel, Trends};
pub use variable::{VARIABLES, Variable, VariableSpec};

/// A model that this program can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// Name, and the name of its file under `models/` without `.cbor`.
    pub id: &'static str,
    /// What it says, for people.
    pub title: &'static str,
    /// What it is not for, for people.
    pub limits: &'static str,
}

/// Every model. Source of the limits: `models/README.md`.
pub const MODELS: [KnownModel; 2] = [
    KnownModel {
        id: RiskModel::ID,
        title: "Risk of dying in hospital",
        limits: "For research, not for treating anybody: no medical device, not validated in the field. Made from adults in the intensive care \
                 units of one hospital, some twenty years ago: a risk of 0.3 means that three in ten of such patients there died in that \
                 stay, soon or weeks later. It says how ill, not when, and not why.",
    },
    KnownModel {
        id: TrendModel::ID,
        title: "Vital signs an hour ahead",
        limits: "For research, not for treating anybody: no medical device, not validated in the field. Made from adults in the intensive care \
                 units of one hospital, some twenty years ago. Nine in ten intervals held there, over all patients and hours; for one \
                 patient fewer may. It knows nothing of what is being done for the patient.",
    },
];
