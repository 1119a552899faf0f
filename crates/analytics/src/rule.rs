//! The rules: one file each, one list.
//!
//! A new rule is a new file here and a line in [`ALL`].

mod alarm_limits;
mod asystole;
mod atrial_fibrillation;
mod ecg_heart_rate;
mod ecg_rate_alarms;
mod ecg_signal_quality;
mod fall;
mod glasgow_coma_scale;
mod heart_rate_variability;
mod heart_rate_variability_day;
mod hospital_mortality;
mod line;
mod mean_arterial_pressure;
mod mews;
mod model_inputs;
mod motion;
mod news2;
mod next_hour_forecast;
mod posture;
mod pulse_rate;
mod qsofa;
mod respiration_rate;
mod revised_trauma_score;
mod score;
mod shock_index;
mod sirs;
mod skin_conductance;
mod sounding;
mod trend_forecast;
mod ventricular_fibrillation;
mod ventricular_tachycardia;
mod window_summary;

use crate::{
    chart::Chart,
    ecg::Stretch,
    finding::{Finding, Kind},
    input::{Input, Person},
};
use record::{Digest, TimeMs, sha256};

use sounding::{Definition, Sounding};

pub use glasgow_coma_scale::glasgow_coma_scale;
pub use mean_arterial_pressure::mean_arterial_pressure;
pub use mews::{MewsInputs, mews};
pub use news2::{Band, Consciousness, News2, News2Inputs, NotForNews2, news2};
pub use qsofa::{QsofaInputs, qsofa};
pub use revised_trauma_score::{TraumaInputs, revised_trauma_score, trauma_points};
pub use score::Points;
pub use sirs::{SirsInputs, sirs};

/// Every rule, in the order in which they see an input.
pub const ALL: &[Rule] = &[
    window_summary::RULE,
    ecg_heart_rate::RULE,
    ecg_signal_quality::RULE,
    asystole::RULE,
    ventricular_fibrillation::RULE,
    ventricular_tachycardia::RULE,
    ecg_rate_alarms::RULE,
    atrial_fibrillation::RULE,
    heart_rate_variability::RULE,
    heart_rate_variability_day::RULE,
    shock_index::RULE,
    news2::RULE,
    mews::RULE,
    qsofa::RULE,
    sirs::RULE,
    glasgow_coma_scale::RULE,
    revised_trauma_score::RULE,
    mean_arterial_pressure::RULE,
    pulse_rate::RULE,
    respiration_rate::RULE,
    skin_conductance::RULE,
    posture::RULE,
    fall::RULE,
    alarm_limits::RULE,
    trend_forecast::RULE,
    next_hour_forecast::RULE,
    hospital_mortality::RULE,
];

/// The rules that need beats and no samples.
pub(crate) const OF_BEATS: &[Rule] = &[
    ecg_heart_rate::RULE,
    ventricular_tachycardia::RULE,
    ecg_rate_alarms::RULE,
    atrial_fibrillation::RULE,
    heart_rate_variability::RULE,
    heart_rate_variability_day::RULE,
];

/// A rule: what it is and how it starts.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Id, such as `news2`.
    pub id: &'static str,
    /// Version; a change of what comes out is a new one.
    pub version: u32,
    /// Kind of analytics.
    pub kind: Kind,
    /// Name for people.
    pub title: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// Codes of its chief number: system, code, display.
    pub codes: &'static [(&'static str, &'static str, &'static str)],
    /// Everything that decides what comes out, by name.
    pub parameters: fn() -> Vec<(String, f64)>,
    /// Starts the rule for a person.
    pub start: fn(&Rule, &Person) -> Box<dyn Watch>,
}

/// A rule at work on one patient. It reads no clock: time is what inputs say.
pub trait Watch: std::fmt::Debug + Send {
    /// Takes one input and adds what it concludes from it.
    fn take(&mut self, _input: &Input<'_>, _out: &mut Vec<Finding>) {}

    /// What is known of the person is this from now on, in the place of what was known before.
    fn know(&mut self, _chart: &Chart) {}

    /// Takes what one input brought of the ECG's beats, after [`Watch::take`].
    fn ecg(&mut self, _stretch: &Stretch<'_>, _out: &mut Vec<Finding>) {}

    /// Nothing more will come: adds what waited for more.
    fn finish(&mut self, _out: &mut Vec<Finding>) {}

    /// Somebody took notice of the alarm `name`.
    fn acknowledge(&mut self, _name: &str, _at: TimeMs, _by: &str, _out: &mut Vec<Finding>) {}
}

impl Rule {
    /// Hash of id, version and parameters: SHA-256 over lines `name=value`, values in their shortest form.
    pub fn model(&self) -> Digest {
        let mut text = format!("{}\n{}\n", self.id, self.version);
        for (name, value) in (self.parameters)() {
            text += &format!("{name}={value}\n");
        }
        sha256(&[b"vitaltrace/model/1\0", text.as_bytes()])
    }

    /// The rule with this id.
    pub fn find(id: &str) -> Option<&'static Rule> {
        ALL.iter().find(|rule| rule.id == id)
    }
}

/// What every finding of one rule has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Author {
    rule: &'static str,
    version: u32,
    kind: Kind,
    model: Digest,
}

impl Author {
    pub(crate) fn of(rule: &Rule) -> Self {
        Self { rule: rule.id, version: rule.version, kind: rule.kind, model: rule.model() }
    }

    /// A complete finding without numbers, to be filled.
    pub(crate) fn finding(&self, from: TimeMs, until: TimeMs, inputs: Vec<Digest>) -> Finding {
        Finding {
            rule: self.rule,
            version: self.version,
            model: self.model,
            kind: self.kind,
            signal: None,
            from,
            until,
            severity: crate::finding::Severity::None,
            complete: true,
            missing: Vec::new(),
            measures: Vec::new(),
            alarm: None,
            inputs,
            records: Vec::new(),
        }
    }
}

/// The last value of one signal, as long as it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latest<T> {
    value: Option<(T, TimeMs, Digest)>,
    valid_ms: u64,
}

impl<T: Copy> Latest<T> {
    pub(crate) const fn new(valid_ms: u64) -> Self {
        Self { value: None, valid_ms }
    }
    pub(crate) fn set(&mut self, value: Option<T>, input: &Input<'_>) {
        self.value = value.map(|value| (value, input.at, input.frame));
    }
    /// The value, its time and its frame, if it is not too old at `now`.
    pub(crate) fn get(&self, now: TimeMs) -> Option<(T, TimeMs, Digest)> {
        self.value.filter(|(_, at, _)| now.0.saturating_sub(at.0) <= self.valid_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_four_kinds_of_analytics_are_there() {
        let kinds: HashSet<Kind> = ALL.iter().map(|rule| rule.kind).collect();
        assert_eq!(kinds.len(), 4);
    }

    #[test]
    fn every_rule_has_an_id_a_source_and_a_model_of_its_own() {
        let ids: HashSet<&str> = ALL.iter().map(|rule| rule.id).collect();
        let models: HashSet<Digest> = ALL.iter().map(Rule::model).collect();
        assert_eq!((ids.len(), models.len()), (ALL.len(), ALL.len()));
        assert!(ALL.iter().all(|rule| !rule.source.is_empty() && !(rule.parameters)().is_empty()));
    }

    #[test]
    fn a_changed_parameter_is_another_model() {
        let rule = ALL[0];
        let other = Rule { parameters: || vec![("window_s".into(), 61.0)], ..rule };
        assert_ne!(rule.model(), other.model());
    }
}
