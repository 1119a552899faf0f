//! The cases in `policies/cases`, and properties over all roles, types and purposes.

use super::Cases;
use crate::{Action, Document, Facts, Person, Policy, Record, Request};
use record::{OrgId, OrgRole, Purpose, RecordType, Role};
use std::time::Instant;

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
fn every_case_in_the_tables_is_decided_as_it_says() {
    let policy = Policy::builtin().unwrap();
    let tables =
        [include_str!("../../../../policies/cases/access.toml"), include_str!("../../../../policies/cases/roles.toml")];
    let tables = tables.map(|text| Cases::parse(text).unwrap());
    for table in &tables {
        assert_eq!(table.wrong(&policy), Vec::<String>::new());
    }
    assert!(tables[0].len() >= 40, "{}", tables[0].len());
    for &role in Role::ALL {
        assert_eq!(tables[1].rows_of(role), 1, "one row for `{role}`");
    }
}

#[test]
fn a_case_that_is_decided_otherwise_is_named() {
    let never = Document { name: "never", text: include_str!("../../../../policies/access/never.cedar") };
    let policy = Policy::load(include_str!("../../../../policies/access.cedarschema"), &[never]).unwrap();
    let wrong = |text: &str| Cases::parse(text).unwrap().wrong(&policy);
    let case = "role = 'doctor'\nat = 'hospital'\naction = 'Read'\ntype = 'Condition'\nrecord = 'medical-record'\npurpose = 'TREAT'";
    let allowed = wrong(&format!("[[case]]\nsays = 'a doctor reads'\nallow = true\n{case}"));
    assert_eq!(allowed, ["a doctor reads: denied, as nothing permits this role to do this for this purpose"]);
    assert_eq!(wrong(&format!("[[case]]\nsays = 'no doctor reads'\nallow = false\n{case}")), Vec::<String>::new());
    let row = "[[row]]\nsays = 'doctors'\nrole = 'doctor'\nat = 'hospital'\npurpose = 'TREAT'\nreads = ['sensed']\nwrites = []";
    assert_eq!(wrong(row), ["doctors: reads , not sensed"]);
    assert!(Cases::parse("[[case]]\nsays = 1").is_err() && Cases::parse("[[cause]]").is_err());
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
    let never = include_str!("../../../../policies/access/never.cedar");
    let schema = include_str!("../../../../policies/access.cedarschema");
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
