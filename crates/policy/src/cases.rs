//! The allow and deny cases in `policies/cases`, each a sentence, and properties over all roles, types and purposes.

use crate::{Action, Document, Facts, Person, Policy, Record, Request};
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
    /// Written by another organisation.
    #[serde(default)]
    elsewhere: bool,
    /// About no patient.
    #[serde(default)]
    unfiled: bool,
    /// A policy that must be among the reasons.
    because: Option<String>,
}

/// Who reads and writes which of the seven record types.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    says: String,
    role: Role,
    at: OrgRole,
    purpose: Purpose,
    reads: Vec<String>,
    writes: Vec<String>,
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
    let (org, other) = (org(), "elsewhere".parse().unwrap());
    let mut cases = 0;
    for text in [include_str!("../../../policies/cases/access.toml")] {
        let file: File = toml::from_str(text).unwrap();
        for case in &file.case {
            let patient = if case.own || case.role != Role::Patient { "p1" } else { "p2" };
            let record = Record {
                fhir_type: &case.fhir_type,
                record_type: case.record,
                patient: (!case.unfiled).then_some(patient),
                label: &case.label,
                author: if case.elsewhere { &other } else { &org },
            };
            let decision =
                policy.decide(&request(&org, case.role, case.at, case.action, record, case.purpose, case.facts));
            assert_eq!(decision.allow, case.allow, "{}: {decision:?}", case.says);
            assert_eq!(decision.suppressed, case.suppressed, "{}: {decision:?}", case.says);
            assert!(!decision.sentence().is_empty());
            if let Some(policy) = &case.because {
                assert!(decision.reasons.iter().any(|reason| reason.policy == *policy), "{}: {decision:?}", case.says);
            }
            cases += 1;
        }
    }
    assert!(cases >= 40, "{cases}");
}

#[test]
fn every_role_reads_and_writes_the_record_types_of_its_row_and_no_others() {
    let policy = Policy::builtin().unwrap();
    let (org, other) = (org(), "elsewhere".parse().unwrap());
    let matrix: Matrix = toml::from_str(include_str!("../../../policies/cases/roles.toml")).unwrap();
    for &role in Role::ALL {
        assert_eq!(matrix.row.iter().filter(|row| row.role == role).count(), 1, "one row for `{role}`");
    }
    let facts = Facts { claim_linked: true, case_open: true, device_bound: true, ..Facts::default() };
    for row in &matrix.row {
        for (action, author, listed) in [(Action::Read, &other, &row.reads), (Action::Create, &org, &row.writes)] {
            let may = |record_type| {
                let record =
                    Record { fhir_type: example(record_type), record_type, patient: Some("p1"), label: "N", author };
                policy.decide(&request(&org, row.role, row.at, action, record, row.purpose, facts)).allow
            };
            let allowed: Vec<&str> = RecordType::ALL.into_iter().filter(|t| may(*t)).map(RecordType::as_str).collect();
            assert_eq!(&allowed, listed, "{}: {action:?}", row.says);
        }
    }
}

#[test]
fn no_emergency_opens_restricted_data_without_an_override() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    for (&role, at, &action, record_type, label, &purpose) in every() {
        let entitled = matches!(role, Role::Patient | Role::Compliance | Role::Custodian);
        let discloses = matches!(
            action,
            Action::Read | Action::Search | Action::Summary | Action::ReadFrames | Action::Prove | Action::Export
        );
        if entitled || !discloses {
            continue;
        }
        // An override helps only who acts under it: with any other purpose it is as good as none.
        let break_glass = purpose != Purpose::BreakGlass;
        let facts = Facts { break_glass, claim_linked: true, case_open: true, ..Facts::default() };
        let record = Record { fhir_type: "Condition", record_type, patient: Some("p1"), label, author: &org };
        let decision = policy.decide(&request(&org, role, at, action, record, purpose, facts));
        assert!(!decision.allow, "{role} at {at} may {action:?} {record_type} {label} for {purpose}");
    }
}

/// Somebody proposes to permit everything, and the proposal is voted through: this is what still holds.
#[test]
fn no_permission_opens_what_must_never_be() {
    let careless = r#"@id("all") @reason("everything is permitted") permit (principal, action, resource);"#;
    let never = include_str!("../../../policies/access/never.cedar");
    let schema = include_str!("../../../policies/access.cedarschema");
    let documents = [Document { name: "never", text: never }, Document { name: "careless", text: careless }];
    let policy = Policy::load(schema, &documents).unwrap();
    let (org, other): (OrgId, OrgId) = (org(), "elsewhere".parse().unwrap());
    let mut permitted = 0;
    for (&role, at, &action, record_type, label, &purpose) in every() {
        for facts in [
            Facts::default(),
            Facts { break_glass: true, claim_linked: true, case_open: true, device_bound: true, ..Facts::default() },
        ] {
            let record = Record { fhir_type: "Condition", record_type, patient: Some("p1"), label, author: &other };
            let allow = policy.decide(&request(&org, role, at, action, record, purpose, facts)).allow;
            permitted += u32::from(allow);
            let reads = matches!(action, Action::Read | Action::Search | Action::Summary | Action::Export);
            let writes = matches!(action, Action::Create | Action::Update | Action::Delete);
            let care = matches!(role, Role::Responder | Role::Doctor | Role::Nurse);
            let clinical = care || matches!(role, Role::Dispatcher | Role::Administrator | Role::Engine | Role::Device);
            let never = [
                clinical && matches!(at, OrgRole::Insurer | OrgRole::Compliance),
                care && reads && !(purpose == Purpose::BreakGlass && facts.break_glass),
                role == Role::Insurer && (reads || writes),
                role == Role::Administrator && reads,
                role == Role::Compliance && (writes || reads && !facts.case_open),
                role == Role::Device && action != Action::SendFrame,
                role != Role::Device && action == Action::SendFrame,
                role != Role::Custodian && matches!(action, Action::Govern | Action::Hold | Action::Erase),
                !care && (purpose == Purpose::BreakGlass || action == Action::OpenOverride),
            ];
            assert!(!(allow && never.contains(&true)), "{role} at {at} may {action:?} for {purpose}: {never:?}");
        }
    }
    assert!(permitted > 0);
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
fn a_type_that_fhir_does_not_have_is_denied() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    for fhir_type in ["", "condition", "Resource", "Condition\"", "Medicine"] {
        let record =
            Record { fhir_type, record_type: RecordType::MedicalRecord, patient: Some("p1"), label: "N", author: &org };
        let asked =
            request(&org, Role::Doctor, OrgRole::Hospital, Action::Read, record, Purpose::Treat, Facts::default());
        let decision = policy.decide(&asked);
        assert_eq!(decision.sentence(), "the decision could not be made: FHIR R4 has no such resource type");
        assert!(!decision.allow && policy.missing(&asked).is_empty());
    }
}

/// Prints what a decision costs. A busy machine stretches the clock's time and not the thread's own.
#[test]
fn the_cost_of_a_decision_is_shown() {
    let policy = Policy::builtin().unwrap();
    let org = org();
    let record = Record {
        fhir_type: "Condition",
        record_type: RecordType::MedicalRecord,
        patient: Some("p1"),
        label: "N",
        author: &org,
    };
    let responder = |label, purpose| {
        let record = Record { label, ..record.clone() };
        request(&org, Role::Responder, OrgRole::Ems, Action::Read, record, purpose, Facts::default())
    };
    let rounds = 2_000;
    let cost = |work: &dyn Fn()| {
        let (started, spent) = (Instant::now(), thread_ns());
        (0..rounds).for_each(|_| work());
        let spent = thread_ns().zip(spent).map(|(now, then)| (now - then) as f64);
        spent.unwrap_or_else(|| started.elapsed().as_nanos() as f64) / 1e3 / f64::from(rounds)
    };
    let (normal, restricted) = (responder("N", Purpose::EmergencyTreat), responder("R", Purpose::EmergencyTreat));
    let other = responder("N", Purpose::Fraud);
    let allowed = cost(&|| assert!(policy.decide(&normal).allow));
    let suppressed = cost(&|| assert!(policy.decide(&restricted).suppressed));
    let missing = cost(&|| assert_eq!(policy.missing(&other).len(), 1));
    println!("allowed {allowed:.1} us, suppressed {suppressed:.1} us, what is missing {missing:.1} us");
}

/// What this thread has spent on a processor, in nanoseconds, where the system says so.
fn thread_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
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
