//! What will happen, by models that are files: the risk of dying in hospital, and vital signs an hour ahead.
//!
//! A model is read from the bytes of its file ([`RiskModel::read`], [`TrendModel::read`]); what it says cites the SHA-256 of these bytes.
//! [`Risk`] and [`Trends`] take one patient's [`Reading`]s as they come, in any order, and answer for a moment from what was measured before
//! it: the same model, readings and moment give the same bits on every machine. Where too little was measured they say why and guess nothing.
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
mod trees;
mod trend;
mod trend_features;
mod variable;

#[cfg(test)]
mod tests;

pub use bytes::{BadModel, MODEL_BYTES_MAX};
pub use readings::{NotTaken, READINGS_MAX, Reading, WINDOW_H};
pub use risk::{AGE_YEARS_MIN, Assessment, NotAssessed, Patient, REQUIRED_WITHIN_H, Risk, RiskModel};
pub use trend::{COVERAGE, Forecast, NotForecast, TrendModel, Trends};
pub use variable::{VARIABLES, Variable, VariableSpec};

/// A model that this program can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// Name, and the name of its file under `models/` without `.cbor`.
    pub id: &'static str,
    /// What it says, for people.
    pub title: &'static str,
}

/// Every model.
pub const MODELS: [KnownModel; 2] = [
    KnownModel { id: RiskModel::ID, title: "Risk of dying in hospital" },
    KnownModel { id: TrendModel::ID, title: "Vital signs an hour ahead" },
];
