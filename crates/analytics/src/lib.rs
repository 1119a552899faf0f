//! What it means: readings in, `Finding`s out.
//!
//! A [`Monitor`] runs every [`Rule`] of [`rule::ALL`] on one patient's [`Input`]s as they come. What a rule concludes is a
//! [`Finding`]: numbers, severity, the frames it rests on, and the hash of the model it was made by. [`fhir`] shows it as resources.
//!
//! Everything here is pure and streaming: no clock is read, nothing is spawned, and the same inputs give the same bytes.

mod chart;
mod input;
mod monitor;
mod rhythm;

pub mod predict;
pub mod rule;

mod alarm;
mod breath;
mod conductance;
mod ecg;
mod hrv;
mod modulation;
mod pulse;
mod qrs;
mod quality;
mod smooth;
mod turns;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod recordings;

pub mod fhir;
mod finding;

pub mod reference;

pub use alarm::{AlarmSpec, AlarmState, AlarmStep};
pub use breath::{Breath, BreathParameters, Breaths};
pub use chart::{CHARTED_MAX, Chart, Charted, LOOKED_BACK_MS, Said, TYPES as CHART_TYPES};
pub use conductance::{Response, ResponseParameters, Responses};
pub use finding::{Alarm, AlarmChange, CITED_MAX, Finding, Kind, Measure, Severity};
pub use input::{Input, Measured, Person};
pub use modulation::{Modulated, ModulatedRate, ModulationParameters, modulated_rate};
pub use monitor::Monitor;
pub use pulse::{Pulse, PulseParameters, Pulses};
pub use qrs::{Beat, BeatClass, Qrs, QrsParameters};
pub use rhythm::Rhythm;
pub use rule::{Rule, Watch};
