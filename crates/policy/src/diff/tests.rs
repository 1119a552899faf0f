//! Differences that a person would expect, and differences compared with decisions.

use super::*;
use crate::Bundle;
use expect_test::{Expect, expect};
use std::hash::{BuildHasher as _, RandomState};

fn types(name: &str) -> Vec<RecordType> {
    match name {
        "Observation" => vec![RecordType::Sensed, RecordType::Analytics],
        "RiskAssessment" | "DetectedIssue" => vec![RecordType::Analytics],
        "Coverage" | "CoverageEligibilityRequest" | "CoverageEligibilityResponse" => vec![RecordType::Insurance],
        "Claim" | "ClaimResponse" | "ExplanationOfBenefit" | "PaymentReconciliation" => vec![RecordType::Claims],
        "Consent" | "AuditEvent" | "Subscription" | "Organization" | "Practitioner" | "PractitionerRole" => {
            vec![RecordType::Permission]
        }
        "Encounter" | "Location" | "Task" | "Communication" => vec![RecordType::MedicalService],
        _ => vec![RecordType::MedicalRecord],
    }
}

fn changed(document: &str, from: &str, to: &str) -> Policy {
    let builtin = Bundle::builtin();
    let documents = builtin.documents().iter().map(|(name, text)| {
        let text = if name == document {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        } else {
            text.clone()
        };
        (name.clone(), text)
    });
    Bundle::new(builtin.schema().to_owned(), documents.collect()).unwrap().load().unwrap()
}

fn check(new: &Policy, gains: Expect, losses: Expect) {
    let old = Policy::builtin().unwrap();
    let difference = difference(&old, new, types).unwrap();
    gains.assert_eq(&difference.gains.join("\n"));
    losses.assert_eq(&difference.losses.join("\n"));
    assert!(!difference.names_individuals);
}

#[test]
fn nothing_differs_between_a_set_and_itself_nor_from_one_with_other_reasons() {
    check(&Policy::builtin().unwrap(), expect![""], expect![""]);
    check(&changed("clinician.cedar", "who treats a patient reads", "carers read"), expect![""], expect![""]);
}

#[test]
fn who_gains_and_who_loses_is_said_in_words() {
    let no_nurses = changed("clinician.cedar", r#"Role::"doctor", Role::"nurse""#, r#"Role::"doctor""#);
    check(
        &no_nurses,
        expect![[""]],
        expect![[r#"
            nurse at hospital: Read, Search on Location for TREAT about a patient labelled U, L, M, N unless the patient refused
            nurse at hospital: Read, Search on Location for TREAT about a patient labelled R, V when the patient consented and named what is restricted
            nurse at hospital: Read, Search on sensed records, analytics records, medical-record records, other medical-service records, Communication, Encounter, Task for TREAT labelled U, L, M, N unless the patient refused
            nurse at hospital: Read, Search on sensed records, analytics records, medical-record records, other medical-service records, Communication, Encounter, Task for TREAT labelled R, V when the patient consented and named what is restricted
            nurse at hospital: Read, Search on Location for ETREAT about a patient labelled U, L, M, N written by the own organisation
            nurse at hospital: Read, Search on Location for ETREAT about a patient labelled U, L, M, N written by another organisation unless the patient refused
            nurse at hospital: Read, Search on sensed records, analytics records, AllergyIntolerance, Condition, Immunization, Medication, MedicationRequest, MedicationStatement, Patient, RelatedPerson for ETREAT labelled U, L, M, N
            nurse at hospital: Read, Search on other medical-record records, other medical-service records, Communication, Encounter, Task for ETREAT labelled U, L, M, N written by the own organisation
            nurse at hospital: Read, Search on other medical-record records, other medical-service records, Communication, Encounter, Task for ETREAT labelled U, L, M, N written by another organisation unless the patient refused
            nurse at hospital: Summary, ReadFrames on sensed records, analytics records, medical-record records, medical-service records for TREAT labelled U, L, M, N unless the patient refused
            nurse at hospital: Summary, ReadFrames on sensed records, analytics records, medical-record records, medical-service records for TREAT labelled R, V when the patient consented and named what is restricted
            nurse at hospital: Summary, ReadFrames on sensed records, analytics records, medical-record records, medical-service records for ETREAT labelled U, L, M, N"#]],
    );
    let linked = changed("insurer.cedar", "context.claim_linked &&\n", "");
    check(
        &linked,
        expect![
            "insurer at insurer: Read, Search on sensed records, analytics records, medical-record records, other medical-service records, Communication, Encounter, Task, insurance records, claims records, other permission records, AuditEvent, Consent for HPAYMT, CLMATTCH, COVAUTH, REMITADV, COVERAGE, ELIGVER about no patient labelled U, L, M, N that no claim links unless the patient refused"
        ],
        expect![[""]],
    );
}

#[test]
fn a_policy_that_names_somebody_is_told() {
    let one = changed(
        "custodian.cedar",
        "!(resource has patient)",
        r#"!(resource has patient) && principal.org == Org::"mercy""#,
    );
    let difference = difference(&Policy::builtin().unwrap(), &one, types).unwrap();
    assert!(difference.names_individuals);
}

/// The first values of a chain that begins with a printed number; `VITALTRACE_SEED` repeats it.
fn seed() -> u64 {
    let given = std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("VITALTRACE_SEED={seed}");
    seed
}

#[test]
fn what_is_said_to_differ_is_decided_otherwise_and_nothing_else_is() {
    let old = Policy::builtin().unwrap();
    let all = r#"permit (principal, action == Action::"OpenOverride", resource)"#;
    let sets = [
        changed("clinician.cedar", r#"Role::"doctor", Role::"nurse""#, r#"Role::"doctor""#),
        changed("never.cedar", "resource has patient && !context.claim_linked", "!context.claim_linked"),
        changed("never.cedar", r#"context.consent == Consented::"deny""#, r#"context.consent != Consented::"permit""#),
        changed("break-glass.cedar", all, "permit (principal, action, resource)"),
    ];
    let mut dice = seed() | 1;
    let mut roll = |size: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % size
    };
    for new in sets {
        let (space, cubes) = cubes(&old, &new, types).unwrap();
        let mut differing = 0;
        // Random ones hardly ever differ: half of them are taken from what is said to.
        for n in 0..20_000 {
            let mut at: [usize; DIMENSIONS] = std::array::from_fn(|dimension| roll(space.sizes[dimension]));
            if n % 2 == 0 {
                let (_, cube) = cubes[roll(cubes.len())];
                at = std::array::from_fn(|dimension| {
                    let within: Vec<usize> =
                        (0..space.sizes[dimension]).filter(|v| cube[dimension] >> v & 1 == 1).collect();
                    within[roll(within.len())]
                });
            }
            (0..DIMENSIONS).filter(|d| !arises(*d, &at)).collect::<Vec<_>>().into_iter().for_each(|d| at[d] = 0);
            let decided = |policy: &Policy| {
                table::with_request(&at, &space, |request| Some(policy.decide(request).allow)).unwrap()
            };
            let said = cubes.iter().find(|(_, cube)| (0..DIMENSIONS).all(|d| cube[d] >> at[d] & 1 == 1));
            let expected = (decided(&old) != decided(&new)).then(|| decided(&new));
            assert_eq!(said.map(|(gain, _)| *gain), expected, "{at:?}");
            differing += usize::from(expected.is_some());
        }
        assert!(differing > 5_000, "{differing}");
    }
}
