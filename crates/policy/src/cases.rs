//! The allow and deny cases in `policies/cases`, each a sentence, and properties over all roles, types and purposes.

use crate::{Action, Facts, Person, Policy, Record, Request};
use record::{OrgId, OrgRole, Purpose, RecordType, Role};
use serde::Deserialize;
use std::time::Instant;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
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
}

fn normal() -> String {
    "N".to_owned()
}

fn org() -> OrgId {
    "somewhere".parse().unwrap()
}

fn request<'a>(
    org: &'a OrgId,
    role: Role,
    at: OrgRole,
    action: Action,
    record: Record<'a>,
    purpose: Purpose,
    facts: Facts,
) -> Request<'a> {
    let patient = (role == Role::Patient).then_some("p1");
    Request { person: Person { user: "somebody", role, org, org_role: at, patient }, action, record, purpose, facts }
}

#[test]
fn every_case_in_the_table_is_decided_as_it_says() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    let mut cases = 0;
    for text in [include_str!("../../../policies/cases/access.toml")] {
        let file: File = toml::from_str(text).unwrap();
        for case in &file.case {
            let patient = if case.own || case.role != Role::Patient { "p1" } else { "p2" };
            let record = Record {
                fhir_type: &case.fhir_type,
                record_type: case.record,
                patient: Some(patient),
                label: &case.label,
                author: &org,
            };
            let decision =
                policy.decide(&request(&org, case.role, case.at, case.action, record, case.purpose, case.facts));
            assert_eq!(decision.allow, case.allow, "{}: {decision:?}", case.says);
            assert_eq!(decision.suppressed, case.suppressed, "{}: {decision:?}", case.says);
            assert!(!decision.sentence().is_empty());
            cases += 1;
        }
    }
    assert!(cases >= 40, "{cases}");
}

#[test]
fn no_emergency_opens_restricted_data_without_an_override() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    let clinical = [Role::Dispatcher, Role::Responder, Role::Doctor, Role::Nurse, Role::Administrator, Role::Insurer];
    for (&role, at, &action, record_type, label, &purpose) in every() {
        if !clinical.contains(&role) || !matches!(action, Action::Read | Action::Search | Action::Summary) {
            continue;
        }
        let record = Record { fhir_type: "Condition", record_type, patient: Some("p1"), label, author: &org };
        let facts = Facts { claim_linked: true, case_open: true, ..Facts::default() };
        let decision = policy.decide(&request(&org, role, at, action, record, purpose, facts));
        assert!(!decision.allow, "{role} at {at} may {action:?} {record_type} {label} for {purpose}");
    }
}

#[test]
fn an_insurers_people_never_act_in_a_clinical_role_even_under_break_glass() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    let facts =
        Facts { break_glass: true, claim_linked: true, case_open: true, device_bound: true, ..Facts::default() };
    for (&role, _, &action, record_type, label, &purpose) in every() {
        let clinical =
            matches!(role, Role::Dispatcher | Role::Responder | Role::Doctor | Role::Nurse | Role::Administrator);
        if clinical {
            let record = Record { fhir_type: "Condition", record_type, patient: Some("p1"), label, author: &org };
            assert!(!policy.decide(&request(&org, role, OrgRole::Insurer, action, record, purpose, facts)).allow);
        }
    }
}

#[test]
fn nobody_but_the_patient_and_a_custodian_writes_consent() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    let facts = Facts { break_glass: true, claim_linked: true, case_open: true, ..Facts::default() };
    for (&role, at, &action, _, label, &purpose) in every() {
        if !matches!(action, Action::Create | Action::Update | Action::Delete)
            || matches!(role, Role::Patient | Role::Custodian)
        {
            continue;
        }
        let record = Record {
            fhir_type: "Consent",
            record_type: RecordType::Permission,
            patient: Some("p1"),
            label,
            author: &org,
        };
        assert!(!policy.decide(&request(&org, role, at, action, record, purpose, facts)).allow, "{role} at {at}");
    }
}

#[test]
fn a_decision_is_quick() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    let record = || Record {
        fhir_type: "Condition",
        record_type: RecordType::MedicalRecord,
        patient: Some("p1"),
        label: "N",
        author: &org,
    };
    let started = Instant::now();
    let rounds = 2_000;
    for _ in 0..rounds {
        let request = request(
            &org,
            Role::Responder,
            OrgRole::Ems,
            Action::Read,
            record(),
            Purpose::EmergencyTreat,
            Facts::default(),
        );
        assert!(policy.decide(&request).allow);
    }
    println!("one decision: {:.1} us", started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
}

type Combination = (&'static Role, OrgRole, &'static Action, RecordType, &'static str, &'static Purpose);

/// Every role at every organisation, for restricted labels and every purpose but break-glass.
fn every() -> impl Iterator<Item = Combination> {
    Role::ALL.iter().flat_map(|role| {
        OrgRole::ALL.into_iter().flat_map(move |at| {
            Action::ALL.iter().flat_map(move |action| {
                [RecordType::MedicalRecord, RecordType::MedicalService].into_iter().flat_map(move |record_type| {
                    ["R", "V"].into_iter().flat_map(move |label| {
                        Purpose::ALL.iter().map(move |purpose| (role, at, action, record_type, label, purpose))
                    })
                })
            })
        })
    })
}
