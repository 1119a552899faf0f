//! Extraction on examples of every form, and on real resources.

use super::*;
use expect_test::{Expect, expect};

fn check(resource: &str, expected: Expect) {
    let resource: Value = serde_json::from_str(resource).unwrap();
    let rows = extract(resource["resourceType"].as_str().unwrap(), &resource);
    let shown: Vec<String> = rows
        .iter()
        .map(|row| match &row.value {
            IndexValue::Token { system, code, text } => format!("= {system}|{code} {text:?}"),
            IndexValue::Text(text) => format!("= '{text}'"),
            IndexValue::Date(range) => format!("= {}..{}", range.lo_ms, range.hi_ms),
            IndexValue::Reference { rtype, id } => format!("-> {rtype}/{id}"),
            IndexValue::Quantity { lo, hi, system, code, unit } => {
                format!("= {}..{} {system}|{code}|{unit}", lo.value(), hi.value())
            }
            IndexValue::Uri(uri) => format!("= <{uri}>"),
        })
        .zip(&rows)
        .map(|(value, row)| match row.part {
            WHOLE => format!("{} {value}\n", row.param),
            part => format!("{}#{part} {value}\n", row.param),
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
            active = |true ""
            birthdate = 0..86400000
            death-date = 86400000..172800000
            deceased = |true ""
            family = 'Müller'
            gender = |female ""
            general-practitioner -> Practitioner/p
            general-practitioner:identifier = npi|9 ""
            given = 'Ana'
            given = 'Eva'
            identifier = |8 ""
            identifier = urn:mrn|7 ""
            name = 'Ana'
            name = 'Eva'
            name = 'Müller'
            organization -> Organization/o
            phone = |555 ""
            telecom = |555 ""
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
            _security = c|R ""
            code = |local ""
            code = http://loinc.org|8867-4 "pulse"
            component-code#1 = |x ""
            date = 0..9223372036854775807
            patient -> Patient/p
            performer -> /http://h/fhir/Practitioner/2
            performer -> /urn:uuid:1
            status = |final ""
            subject -> Patient/p
            value-concept = s|v ""
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
            code = |x ""
            subject -> /a
        "#]],
    );
}

#[test]
fn a_type_without_parameters_of_its_own_has_the_common_ones() {
    let common = [
        ("_id", Kind::Token),
        ("_lastUpdated", Kind::Date),
        ("_profile", Kind::Uri),
        ("_security", Kind::Token),
        ("_source", Kind::Uri),
        ("_tag", Kind::Token),
    ];
    assert_eq!(indexed("Binary"), common);
    assert_eq!(indexed("Resource"), common);
    assert_eq!(kind("Observation", "code"), Some(Kind::Token));
    assert_eq!(kind("Binary", "code"), None);
}

#[test]
fn reference_parameters_lead_to_the_types_that_their_elements_do() {
    assert_eq!(reference_targets("Observation", "patient"), ["Patient"]);
    assert_eq!(reference_targets("Observation", "encounter"), ["Encounter"]);
    assert!(reference_targets("Observation", "subject").contains(&"Device"));
    for (rtype, param) in [("Observation", "code"), ("Observation", "nothing"), ("Binary", "subject"), ("", "")] {
        assert_eq!(reference_targets(rtype, param), [""; 0], "{rtype} {param}");
    }
}

#[test]
fn values_know_the_element_that_they_stand_in() {
    check(
        r#"{"resourceType":"Observation","code":{"coding":[{"code":"bp"}]},"valueString":"high","component":[
        {"code":{"coding":[{"code":"sys"}]},"valueQuantity":{"value":120,"unit":"mmHg","system":"u","code":"mm[Hg]"}},
        {"code":{"coding":[{"code":"dia"}]},"valueQuantity":{"value":80.5,"code":"mm[Hg]"}}]}"#,
        expect![[r#"
            code = |bp ""
            component-code#1 = |sys ""
            component-code#2 = |dia ""
            component-value-quantity#1 = 120..120 u|mm[Hg]|mmHg
            component-value-quantity#2 = 80.5..80.5 |mm[Hg]|
            value-string = 'high'
        "#]],
    );
    check(
        r#"{"resourceType":"Observation","valueCodeableConcept":{"coding":[{"system":"s","code":"v","display":"Válue"}],"text":"it"}}"#,
        expect![[r#"
            value-concept = s|v "value\nit"
            value-string#-1 = 'it'
        "#]],
    );
}

#[test]
fn amounts_are_read_in_every_form() {
    check(
        r#"{"resourceType":"RiskAssessment","prediction":[{"probabilityDecimal":0.5},{"probabilityRange":{"high":{"value":0.25}}}]}"#,
        expect![[r#"
            probability = -inf..0.25 ||
            probability = 0.5..0.5 ||
        "#]],
    );
    check(
        r#"{"resourceType":"Observation","valueQuantity":{"value":5,"comparator":"<","unit":"mg"}}"#,
        expect![[r#"
            value-quantity = -inf..4.999999999999999 ||mg
        "#]],
    );
    check(
        r#"{"resourceType":"ChargeItem","priceOverride":{"value":12.5,"currency":"EUR"},"quantity":{"unit":"none"}}"#,
        expect![[r#"
            price-override = 12.5..12.5 urn:iso:std:iso:4217|EUR|
        "#]],
    );
}

#[test]
fn addresses_conditions_and_what_is_there_are_read() {
    check(
        r#"{"resourceType":"Patient","meta":{"profile":["http://p","http://q"],"source":"urn:s"},"deceasedDateTime":"1970",
        "identifier":[{"type":{"coding":[{"system":"v2","code":"MR"}],"text":"Record number"},"value":"7"}],
        "telecom":[{"system":"email","value":"a@b"},{"system":"phone","value":"1"}]}"#,
        expect![[r#"
            _profile = <http://p>
            _profile = <http://q>
            _source = <urn:s>
            death-date = 0..31536000000
            deceased = |true ""
            email = |a@b ""
            identifier = |7 "record number"
            identifier:of-type = v2|MR|7 ""
            phone = |1 ""
            telecom = |1 ""
            telecom = |a@b ""
        "#]],
    );
    check(
        r#"{"resourceType":"ActivityDefinition","relatedArtifact":[{"type":"successor","resource":"http://s"},{"type":"depends-on","resource":"http://d"}]}"#,
        expect![[r#"
            depends-on -> /http://d
            successor -> /http://s
        "#]],
    );
}
