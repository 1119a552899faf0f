//! `docs/access.md`: every role, purpose and record type, as the policies decide. `UPDATE_EXPECT=1` writes the page.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use expect_test::expect_file;
use policy::{Action, Consented, Facts, Person, Policy, Record, Request};
use record::{OrgId, OrgRole, Purpose, RecordType, Role};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Which FHIR type stands for a record type, as in `policies/cases/roles.toml`.
const EXAMPLES: [(RecordType, &str); 7] = [
    (RecordType::Sensed, "Observation"),
    (RecordType::Analytics, "RiskAssessment"),
    (RecordType::MedicalRecord, "AllergyIntolerance"),
    (RecordType::MedicalService, "Procedure"),
    (RecordType::Insurance, "Coverage"),
    (RecordType::Claims, "Claim"),
    (RecordType::Permission, "Consent"),
];

/// A fact in words, and what brings it about.
type Fact = (&'static str, fn(&mut Facts));

/// What is decided at most: with every fact in its favour, and which of them it takes.
const FACTS: [Fact; 5] = [
    ("an open override", |facts| facts.break_glass = true),
    ("a claim or request that links the record", |facts| facts.claim_linked = true),
    ("an open case", |facts| facts.case_open = true),
    ("the device bound", |facts| facts.device_bound = true),
    ("being made a delegate", |facts| facts.consent = Consented::Delegate),
];

const INTRODUCTION: &str = "\
# Who may do what

Written by a test from the policies in [`policies/access`](../policies/access): `UPDATE_EXPECT=1 cargo test -p policy --test access`.
Another test of the same name fails when this page and the policies differ.

Each cell says what a role may do at most, for one purpose of use, with a record of one type about a patient: **r** read and search,
**w** create and update, **d** delete. A small letter after it names what else it takes; a dash means nothing. The record is not
restricted and was written by the own organisation; a patient's own login asks for its own records. One FHIR type stands for each record
type: sensed Observation, analytics RiskAssessment, medical record AllergyIntolerance, medical service Procedure, insurance Coverage, claims
Claim, permission Consent. Purposes that are not listed give nothing.

What holds besides, for everybody: records labelled R or V, or restricted by [`policies/sensitivity.toml`](../policies/sensitivity.toml),
stay closed to all but the patient, compliance within a case and the custodian who keeps them; treatment opens them with a consent that
names them, and an emergency with an override alone. A patient's refusal closes everyday treatment and payment.
";

#[derive(Deserialize)]
struct Roles {
    row: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    says: String,
    role: Role,
    at: OrgRole,
}

struct Asker<'a> {
    policy: &'a Policy,
    org: &'a OrgId,
}

impl Asker<'_> {
    fn decide(
        &self,
        row: &Row,
        action: Action,
        kind: (RecordType, &str),
        purpose: Purpose,
        facts: Facts,
    ) -> policy::Decision {
        let patient = (row.role == Role::Patient).then_some("own");
        let person = Person { user: "somebody", role: row.role, org: self.org, org_role: row.at, patient };
        let (record_type, fhir_type) = kind;
        let record = Record { fhir_type, record_type, patient: Some("own"), label: "N", author: self.org };
        self.policy.decide(&Request { person, action, record, purpose, facts })
    }

    /// What it takes beside the purpose, and the policies that permit it; nothing, when nothing helps.
    fn at_most(
        &self,
        row: &Row,
        action: Action,
        kind: (RecordType, &str),
        purpose: Purpose,
    ) -> Option<(Option<usize>, Vec<policy::Reason>)> {
        let plain = self.decide(row, action, kind, purpose, Facts::default());
        if plain.allow {
            return Some((None, plain.reasons));
        }
        FACTS.iter().enumerate().find_map(|(n, (_, meet))| {
            let mut facts = Facts::default();
            meet(&mut facts);
            let decision = self.decide(row, action, kind, purpose, facts);
            decision.allow.then_some((Some(n), decision.reasons))
        })
    }
}

fn page() -> String {
    let policy = Policy::builtin().unwrap();
    let org: OrgId = "somewhere".parse().unwrap();
    let asker = Asker { policy: &policy, org: &org };
    let roles: Roles = toml::from_str(include_str!("../../../policies/cases/roles.toml")).unwrap();
    let mut text = INTRODUCTION.to_owned();
    for row in &roles.row {
        let at = match row.at {
            OrgRole::Ems => "an emergency medical service",
            OrgRole::Hospital => "a hospital",
            OrgRole::Insurer => "an insurer",
            OrgRole::Compliance => "a compliance entity",
        };
        text += &format!("\n## {} at {at}\n\n{}.\n", row.role.as_str(), capital(&row.says));
        let mut reasons: BTreeMap<String, String> = BTreeMap::new();
        let mut taken = [false; FACTS.len()];
        let mut lines = Vec::new();
        for &purpose in Purpose::ALL {
            let mut cells = Vec::new();
            for kind in EXAMPLES {
                let mut words = Vec::new();
                // A letter stands for both actions where they are decided alike.
                for (letter, action) in [("r", Action::Read), ("w", Action::Create), ("d", Action::Delete)] {
                    let Some((takes, why)) = asker.at_most(row, action, kind, purpose) else { continue };
                    reasons.extend(why.into_iter().map(|reason| (reason.policy, reason.sentence)));
                    let mark = takes.map_or(String::new(), |n| {
                        taken[n] = true;
                        format!("<sup>{}</sup>", letter_of(n))
                    });
                    words.push(format!("{letter}{mark}"));
                }
                cells.push(if words.is_empty() { "–".to_owned() } else { words.join(" ") });
            }
            if cells.iter().any(|cell| cell != "–") {
                lines.push(format!("| {purpose} | {} |", cells.join(" | ")));
            }
        }
        if lines.is_empty() {
            text += "\nNo record of any of the types, for any purpose.\n";
            continue;
        }
        text +=
            "\n| purpose | sensed | analytics | medical record | medical service | insurance | claims | permission |\n";
        text += "|---|---|---|---|---|---|---|---|\n";
        text += &(lines.join("\n") + "\n");
        let takes = FACTS.iter().enumerate().filter(|(n, _)| taken[*n]);
        let takes: Vec<String> =
            takes.map(|(n, (says, _))| format!("<sup>{}</sup> with {says}", letter_of(n))).collect();
        if !takes.is_empty() {
            text += &format!("\n{}.\n", takes.join("; "));
        }
        text += "\nWhy:\n\n";
        for (id, sentence) in reasons {
            text += &format!("- `{id}`: {sentence}\n");
        }
    }
    text
}

fn letter_of(n: usize) -> char {
    ['a', 'b', 'c', 'd', 'e'][n]
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[test]
fn the_page_about_access_is_what_the_policies_decide() {
    expect_file!["../../../docs/access.md"].assert_eq(&page());
}

/// The page speaks of reading and creating: searching and updating are decided alike.
#[test]
fn what_may_be_read_may_be_searched_and_what_may_be_created_updated() {
    let policy = Policy::builtin().unwrap();
    let org: OrgId = "somewhere".parse().unwrap();
    let asker = Asker { policy: &policy, org: &org };
    let roles: Roles = toml::from_str(include_str!("../../../policies/cases/roles.toml")).unwrap();
    let mut compared = 0;
    for row in &roles.row {
        for &purpose in Purpose::ALL {
            for kind in EXAMPLES {
                for (one, other) in [(Action::Read, Action::Search), (Action::Create, Action::Update)] {
                    let of = |action| asker.at_most(row, action, kind, purpose).map(|(takes, _)| takes);
                    assert_eq!(of(one), of(other), "{} {purpose} {kind:?}", row.role);
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, Role::ALL.len() * Purpose::ALL.len() * EXAMPLES.len() * 2);
}
