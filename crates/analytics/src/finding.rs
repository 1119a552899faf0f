//! A finding: what a rule concluded, from which frames, under which model.

use record::{Digest, TimeMs, sha256};
use serde::Serialize;

/// The most frames that one finding cites; a window of a minute at ten frames a second.
pub const CITED_MAX: usize = 600;

/// The four kinds of analytics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What happened.
    Descriptive,
    /// What it means.
    Diagnostic,
    /// What must be done now.
    EventTriggered,
    /// What will happen.
    Predictive,
}

/// How serious a finding is, by the rule's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    None,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
}

/// One number of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measure {
    /// What it is, such as `mean`.
    pub name: &'static str,
    /// The number, finite.
    pub value: f64,
    /// UCUM unit.
    pub unit: &'static str,
}

/// What happened to an alarm.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmChange {
    /// It began to sound.
    Raised,
    /// Its condition ended; a latching alarm goes on.
    Ended,
    /// Somebody took notice of it.
    Acknowledged {
        /// Who.
        by: String,
    },
}

/// An alarm's part of a finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alarm {
    /// The alarm's name, such as `spo2-low`.
    pub name: &'static str,
    /// What happened.
    pub change: AlarmChange,
    /// Whether it is about the equipment and not about the patient.
    pub technical: bool,
    /// When the condition began.
    pub condition_since: TimeMs,
    /// Whether it sounds until somebody acknowledges it.
    pub latching: bool,
}

/// What a rule concluded. The same inputs give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Id of the rule.
    pub rule: &'static str,
    /// Version of the rule.
    pub version: u32,
    /// Hash of the rule's named parameters.
    pub model: Digest,
    /// Kind of analytics.
    pub kind: Kind,
    /// The signal it is about, where it is about one.
    pub signal: Option<String>,
    /// The earliest input's time.
    pub from: TimeMs,
    /// The latest input's time; for a forecast, the time it is for.
    pub until: TimeMs,
    /// How serious.
    pub severity: Severity,
    /// Whether every input that the rule needs was there.
    pub complete: bool,
    /// Inputs that were not.
    pub missing: Vec<&'static str>,
    /// The numbers, the chief one first. An incomplete score has no chief number.
    pub measures: Vec<Measure>,
    /// What happened to an alarm.
    pub alarm: Option<Alarm>,
    /// The frames it rests on, in the order of their arrival, each once.
    pub inputs: Vec<Digest>,
    /// The records of the chart it rests on beside frames, by version, such as `Observation/7/_history/1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
}

impl Finding {
    /// The finding as bytes: JSON in the order of its fields.
    pub fn bytes(&self) -> Vec<u8> {
        // Every field is a string, a finite number or a list of such: there is nothing that JSON cannot hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 of [`Finding::bytes`].
    pub fn digest(&self) -> Digest {
        sha256(&[b"vitaltrace/finding/1\0", &self.bytes()])
    }

    /// The number called `name`.
    pub fn measure(&self, name: &str) -> Option<f64> {
        self.measures.iter().find(|measure| measure.name == name).map(|measure| measure.value)
    }
}

/// Frames to cite: each once, in order, at most [`CITED_MAX`], the oldest dropped first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cited(Vec<Digest>);

impl Cited {
    pub(crate) fn add(&mut self, frame: Digest) {
        if self.0.contains(&frame) {
            return;
        }
        if self.0.len() >= CITED_MAX {
            self.0.remove(0);
        }
        self.0.push(frame);
    }
    pub(crate) fn list(&self) -> Vec<Digest> {
        self.0.clone()
    }
    pub(crate) fn take(&mut self) -> Vec<Digest> {
        std::mem::take(&mut self.0)
    }
}
