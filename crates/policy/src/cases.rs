//! Allow and deny cases beside a set of policies: each a sentence, and how it must be decided.

use crate::{Action, Facts, Person, Policy, Record, Request};
use record::{OrgId, OrgRole, Purpose, RecordType, Role};
use serde::Deserialize;

/// The longest file of cases, in bytes.
pub const CASES_BYTES_MAX: usize = 256 * 1024;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    #[serde(default)]
    case: Vec<Case>,
    #[serde(default)]
    row: Vec<Row>,
}

/// Why a text is no file of cases. Its author's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCases {
    /// Longer than [`CASES_BYTES_MAX`].
    #[error("a file of cases has at most {CASES_BYTES_MAX} bytes")]
    Bounds,
    /// Not TOML, or not these keys.
    #[error("{0}")]
    Malformed(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    says: String,
    allow: bool,
    role: Role,
    at: OrgRole,
    action: Action,
    #[serde(rename = "type")]
    fhir_type: String,
    record: RecordType,
    purpose: Purpose,
    #[serde(default = "normal")]
    label: String,
    #[serde(default)]
    own: bool,
    #[serde(default)]
    facts: Facts,
    #[serde(default)]
    suppressed: bool,
    /// Written by another organisation.
    #[serde(default)]
    elsewhere: bool,
    /// About no patient.
    #[serde(default)]
    unfiled: bool,
    /// A policy that must be among the reasons.
    because: Option<String>,
}

/// Which of the seven record types a role reads and writes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    says: String,
    role: Role,
    at: OrgRole,
    purpose: Purpose,
    reads: Vec<String>,
    writes: Vec<String>,
}

impl Cases {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, BadCases> {
        if text.len() > CASES_BYTES_MAX {
            return Err(BadCases::Bounds);
        }
        toml::from_str(text).map_err(|e| BadCases::Malformed(e.message().to_owned()))
    }

    /// How many cases and rows there are.
    pub fn len(&self) -> usize {
        self.case.len() + self.row.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `policy` decides otherwise, a sentence each.
    pub fn wrong(&self, policy: &Policy) -> Vec<String> {
        let (Ok(here), Ok(elsewhere)) = ("somewhere".parse(), "elsewhere".parse()) else { return Vec::new() };
        let cases = self.case.iter().filter_map(|case| case.wrong(policy, &here, &elsewhere));
        let rows = self.row.iter().flat_map(|row| row.wrong(policy, &here, &elsewhere));
        cases.chain(rows).collect()
    }

    #[cfg(test)]
    fn rows_of(&self, role: Role) -> usize {
        self.row.iter().filter(|row| row.role == role).count()
    }
}

impl Case {
    fn wrong(&self, policy: &Policy, here: &OrgId, elsewhere: &OrgId) -> Option<String> {
        let patient = if self.own || self.role != Role::Patient { "p1" } else { "p2" };
        let record = Record {
            fhir_type: &self.fhir_type,
            record_type: self.record,
            patient: (!self.unfiled).then_some(patient),
            label: &self.label,
            author: if self.elsewhere { elsewhere } else { here },
        };
        let person = person(self.role, self.at, here);
        let request = Request { person, action: self.action, record, purpose: self.purpose, facts: self.facts };
        let decision = policy.decide(&request);
        let verdict = if decision.allow { "allowed" } else { "denied" };
        let why = if decision.allow != self.allow {
            format!("{verdict}, as {}", decision.sentence())
        } else if decision.suppressed != self.suppressed {
            format!("suppressed: {}, not {}", decision.suppressed, self.suppressed)
        } else {
            let because = self.because.as_ref()?;
            if decision.reasons.iter().any(|reason| reason.policy == *because) {
                return None;
            }
            format!("{verdict}, and not because of `{because}`")
        };
        Some(format!("{}: {why}", self.says))
    }
}

impl Row {
    fn wrong(&self, policy: &Policy, here: &OrgId, elsewhere: &OrgId) -> Vec<String> {
        let facts = Facts { claim_linked: true, case_open: true, device_bound: true, ..Facts::default() };
        let sides = [(Action::Read, elsewhere, &self.reads, "reads"), (Action::Create, here, &self.writes, "writes")];
        let wrong = |(action, author, listed, verb): (Action, &OrgId, &Vec<String>, &str)| {
            let may = |record_type: &RecordType| {
                let fhir_type = example(*record_type);
                let record = Record { fhir_type, record_type: *record_type, patient: Some("p1"), label: "N", author };
                let person = person(self.role, self.at, here);
                policy.decide(&Request { person, action, record, purpose: self.purpose, facts }).allow
            };
            let allowed: Vec<&str> = RecordType::ALL.into_iter().filter(may).map(RecordType::as_str).collect();
            (allowed != *listed)
                .then(|| format!("{}: {verb} {}, not {}", self.says, allowed.join(" "), listed.join(" ")))
        };
        sides.into_iter().filter_map(wrong).collect()
    }
}

fn person(role: Role, at: OrgRole, org: &OrgId) -> Person<'_> {
    let patient = (role == Role::Patient).then_some("p1");
    Person { user: "somebody", role, org, org_role: at, patient }
}

/// One FHIR type of each record type.
fn example(record_type: RecordType) -> &'static str {
    match record_type {
        RecordType::Sensed => "Observation",
        RecordType::Analytics => "RiskAssessment",
        RecordType::MedicalRecord => "AllergyIntolerance",
        RecordType::MedicalService => "Procedure",
        RecordType::Insurance => "Coverage",
        RecordType::Claims => "Claim",
        RecordType::Permission => "Consent",
    }
}

fn normal() -> String {
    "N".to_owned()
}

#[cfg(test)]
mod tests;
