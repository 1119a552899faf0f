//! The seven record types of the mission.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which of the seven kinds of data a resource is. The derivation policy maps FHIR types to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "kebab-case")]
#[cbor(index_only)]
pub enum RecordType {
    /// What a sensor measured.
    #[n(0)]
    Sensed,
    /// What analytics concluded.
    #[n(1)]
    Analytics,
    /// Who the patient is and what is known: allergies, medications, problems.
    #[n(2)]
    MedicalRecord,
    /// What was done: encounters, procedures, orders, reports.
    #[n(3)]
    MedicalService,
    /// Who covers it.
    #[n(4)]
    Insurance,
    /// What was billed, decided and paid.
    #[n(5)]
    Claims,
    /// Who may, and who did.
    #[n(6)]
    Permission,
}

impl RecordType {
    /// All seven, in encoding order.
    pub const ALL: [Self; 7] = [
        Self::Sensed,
        Self::Analytics,
        Self::MedicalRecord,
        Self::MedicalService,
        Self::Insurance,
        Self::Claims,
        Self::Permission,
    ];

    /// Kebab-case name, as in policies and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sensed => "sensed",
            Self::Analytics => "analytics",
            Self::MedicalRecord => "medical-record",
            Self::MedicalService => "medical-service",
            Self::Insurance => "insurance",
            Self::Claims => "claims",
            Self::Permission => "permission",
        }
    }
}
impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
