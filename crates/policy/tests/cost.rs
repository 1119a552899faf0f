//! Prints what it costs to look for sensitive codes and to weigh a Consent; by the clock, which a busy machine stretches.

use policy::{Directive, Matter, Person, Sensitivity, Use};
use record::{OrgRole, Purpose, Role, TimeMs, fhir::Confidentiality};
use serde_json::json;
use std::{collections::BTreeMap, hint::black_box, time::Instant};

#[test]
fn the_cost_of_sensitivity_and_consent_is_shown() {
    let record = json!({
        "resourceType": "Condition", "id": "c1", "meta": {"versionId": "1", "lastUpdated": "2026-11-21T10:00:00.000Z"},
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-category", "code": "encounter-diagnosis"}]}],
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "44054006", "display": "Diabetes"}], "text": "Diabetes"},
        "subject": {"reference": "Patient/p1"}, "note": [{"text": "controlled ".repeat(60)}]
    });
    let bytes = serde_json::to_vec(&record).unwrap();
    let rules = Sensitivity::builtin();
    let purpose = json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]);
    let consent = json!({
        "resourceType": "Consent", "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "provision": {"type": "permit", "purpose": purpose, "provision": [
            {"type": "deny", "securityLabel": [{"system": Confidentiality::SYSTEM, "code": "R"}]},
            {"type": "permit", "securityLabel": [{"system": Confidentiality::SYSTEM, "code": "R"}], "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]}
        ]}
    });
    let consent_bytes = serde_json::to_vec(&consent).unwrap();
    let org = "mercy".parse().unwrap();
    let person = Person { user: "okafor", role: Role::Doctor, org: &org, org_role: OrgRole::Hospital, patient: None };
    let meant = BTreeMap::new();
    let of = Use {
        person: &person,
        purpose: Purpose::Treat,
        at: TimeMs(1_795_000_000_000),
        changes: false,
        matter: Matter {
            fhir_type: "Condition",
            id: Some("c1"),
            author: &org,
            label: Confidentiality::Normal,
            categories: &[],
            resource: None,
        },
        meant: &meant,
    };
    let rounds = 5_000;
    let cost = |work: &dyn Fn()| {
        let started = Instant::now();
        (0..rounds).for_each(|_| work());
        started.elapsed().as_nanos() as f64 / 1e3 / f64::from(rounds)
    };
    let look = cost(&|| assert!(rules.of_bytes("Condition", black_box(&bytes)).categories.is_empty()));
    let read = cost(&|| {
        let consent = serde_json::from_slice(black_box(&consent_bytes)).unwrap();
        assert!(Directive::read(&consent).is_some());
    });
    let directive = Directive::read(&consent).unwrap();
    let weigh = cost(&|| assert_eq!(black_box(&directive).says(black_box(&of)), policy::Consented::Permit));
    println!("codes of {} bytes {look:.1} us, a Consent read {read:.1} us, weighed {weigh:.1} us", bytes.len());
}
