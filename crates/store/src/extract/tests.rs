//! Extraction on examples of every form, and on real resources.

use super::*;
use expect_test::{Expect, expect};

fn check(resource: &str, expected: Expect) {
    let resource: Value = serde_json::from_str(resource).unwrap();
    let rows = extract(resource["resourceType"].as_str().unwrap(), &resource);
    let shown: Vec<String> = rows
        .iter()
        .map(|row| match &row.value {
            IndexValue::Token { system, code } => format!("{} = {system}|{code}\n", row.param),
            IndexValue::Text(text) => format!("{} = '{text}'\n", row.param),
            IndexValue::Date(range) => format!("{} = {}..{}\n", row.param, range.lo_ms, range.hi_ms),
            IndexValue::Reference { rtype, id } => format!("{} -> {rtype}/{id}\n", row.param),
        })
        .collect();
    expected.assert_eq(&shown.concat());
}

#[test]
fn a_patient_is_found_by_identity() {
    check(
        r#"{"resourceType":"Patient","id":"1","active":true,"identifier":[{"system":"urn:mrn","value":"7"},{"value":"8"}],
        "name":[{"family":"Müller","given":["Eva","Ana"]}],"gender":"female","birthDate":"1970-01-01","deceasedDateTime":"1970-01-02",
        "telecom":[{"system":"phone","value":"555"}],"managingOrganization":{"reference":"Organization/o"},
        "generalPractitioner":[{"reference":"Practitioner/p"},{"identifier":{"system":"npi","value":"9"}}]}"#,
        expect![[r#"
            active = |true
            birthdate = 0..86400000
            death-date = 86400000..172800000
            family = 'Müller'
            gender = |female
            general-practitioner -> Practitioner/p
            general-practitioner:identifier = npi|9
            given = 'Ana'
            given = 'Eva'
            identifier = |8
            identifier = urn:mrn|7
            name = 'Ana'
            name = 'Eva'
            name = 'Müller'
            organization -> Organization/o
            phone = |555
            telecom = |555
        "#]],
    );
}

#[test]
fn choices_and_references_are_read_in_every_form() {
    check(
        r##"{"resourceType":"Observation","status":"final","meta":{"security":[{"system":"c","code":"R"}]},
        "code":{"coding":[{"system":"http://loinc.org","code":"8867-4"},{"code":"local"}],"text":"pulse"},
        "component":[{"code":{"coding":[{"code":"x"}]}}],"valueCodeableConcept":{"coding":[{"system":"s","code":"v"}]},
        "subject":{"reference":"Patient/p/_history/3"},"effectivePeriod":{"start":"1970-01-01T00:00:00Z"},
        "performer":[{"reference":"urn:uuid:1"},{"reference":"http://h/fhir/Practitioner/2"},{"reference":"#c"},
        {"reference":"Practitioner?identifier=1"}]}"##,
        expect![[r#"
            _security = c|R
            code = |local
            code = http://loinc.org|8867-4
            combo-code = |local
            combo-code = |x
            combo-code = http://loinc.org|8867-4
            component-code = |x
            date = 0..9223372036854775807
            patient -> Patient/p
            performer -> /http://h/fhir/Practitioner/2
            performer -> /urn:uuid:1
            status = |final
            subject -> Patient/p
            value-concept = s|v
        "#]],
    );
    check(
        r#"{"resourceType":"MedicationRequest","medicationReference":{"reference":"Medication/m"},"subject":{"reference":"Group/g"}}"#,
        expect![[r#"
            medication -> Medication/m
            subject -> Group/g
        "#]],
    );
}

#[test]
fn elements_of_another_form_are_passed_over() {
    check(
        r#"{"resourceType":"Observation","status":7,"code":"x","subject":["a",{"reference":3}],"effectiveDateTime":"soon","performer":{}}"#,
        expect![[r#"
            code = |x
            combo-code = |x
            subject -> /a
        "#]],
    );
}

#[test]
fn a_type_without_parameters_of_its_own_has_the_common_ones() {
    assert_eq!(
        indexed("Basic"),
        [("_id", Kind::Token), ("_lastUpdated", Kind::Date), ("_security", Kind::Token), ("_tag", Kind::Token)]
    );
    assert_eq!(kind("Observation", "code"), Some(Kind::Token));
    assert_eq!(kind("Basic", "code"), None);
}

#[test]
fn the_table_is_sound() {
    for (rtype, parameters) in table::TYPES {
        assert!(is_type(rtype), "{rtype}");
        assert_eq!(table::TYPES.iter().filter(|(other, _)| other == rtype).count(), 1, "{rtype}");
        for parameter in *parameters {
            let (path, _) = filter(parameter.path);
            assert!(path.split('.').all(|name| name.starts_with(|c: char| c.is_ascii_lowercase())), "{rtype} {path}");
            assert!(path.matches('[').count() == path.matches(']').count(), "{rtype} {path}");
            let kinds = parameters.iter().filter(|p| p.name == parameter.name).map(|p| p.kind);
            assert!(kinds.into_iter().all(|kind| kind == parameter.kind), "{rtype} {}", parameter.name);
        }
    }
}

#[test]
fn reference_parameters_lead_to_the_types_that_their_elements_do() {
    assert_eq!(reference_targets("Observation", "patient"), ["Patient"]);
    assert_eq!(reference_targets("Observation", "encounter"), ["Encounter"]);
    assert!(reference_targets("Observation", "subject").contains(&"Device"));
    for (rtype, param) in [("Observation", "code"), ("Observation", "nothing"), ("Basic", "subject"), ("", "")] {
        assert_eq!(reference_targets(rtype, param), [""; 0], "{rtype} {param}");
    }
}
