//! What a chart says, from FHIR as people write it.

use super::*;
use serde_json::json;
use std::collections::BTreeSet;

fn now() -> TimeMs {
    TimeMs::from_instant("2026-11-21T10:00:00.000Z").unwrap()
}

fn read_all(values: &[Json]) -> Chart {
    let said: Vec<Said> = values
        .iter()
        .enumerate()
        .map(|(n, value)| Said { record: format!("{}/{n}/_history/1", value["resourceType"]), value: value.clone() })
        .collect();
    let mut turned = said.clone();
    turned.reverse();
    let chart = Chart::read(&said, now());
    assert_eq!(chart, Chart::read(&turned, now()), "the order of records decides nothing");
    chart
}

fn condition(system: &str, code: &str, status: &str) -> Json {
    json!({
        "resourceType": "Condition", "clinicalStatus": {"coding": [{"code": status}]},
        "code": {"coding": [{"system": system, "code": code}]}
    })
}

fn observation(code: &str, at: &str, value: Json) -> Json {
    let mut out = json!({
        "resourceType": "Observation", "status": "final", "code": {"coding": [{"system": LOINC, "code": code}]}, "effectiveDateTime": at
    });
    for (name, value) in value.as_object().unwrap() {
        out[name] = value.clone();
    }
    out
}

fn measured(code: &str, at: &str, value: f64, unit: &str) -> Json {
    observation(code, at, json!({"valueQuantity": {"value": value, "system": UCUM, "code": unit}}))
}

#[test]
fn a_pregnancy_is_known_by_its_codes_until_it_is_over() {
    let check =
        |value: &Json, expected| assert_eq!(read_all(std::slice::from_ref(value)).person.pregnant, expected, "{value}");
    for (system, code) in PREGNANCIES {
        check(&condition(system, code, "active"), true);
        check(&condition(system, code, "resolved"), false);
    }
    for (system, begin) in PREGNANCIES_BEGIN {
        check(&condition(system, &format!("{begin}.2"), "active"), true);
    }
    check(&condition(ICD_10_CM, "Z33.2", "active"), false);
    check(&condition(SNOMED, "38341003", "active"), false);
    let mut over = condition(SNOMED, "77386006", "active");
    over["abatementDateTime"] = "2026-10-01".into();
    check(&over, false);
    let mut refuted = condition(SNOMED, "77386006", "active");
    refuted["verificationStatus"] = json!({"coding": [{"code": "refuted"}]});
    check(&refuted, false);
}

#[test]
fn the_latest_pregnancy_status_counts_and_an_old_one_does_not() {
    let status = |at: &str, code: &str| {
        observation(
            PREGNANCY_STATUS,
            at,
            json!({"valueCodeableConcept": {"coding": [{"system": LOINC, "code": code}]}}),
        )
    };
    let (yes, no) = (status("2026-09-01T08:00:00Z", "LA15173-0"), status("2026-11-01T08:00:00Z", "LA26683-5"));
    assert!(read_all(std::slice::from_ref(&yes)).person.pregnant);
    assert!(!read_all(&[yes.clone(), no.clone()]).person.pregnant);
    let later = status("2026-11-20T10:00:00+02:00", "LA15173-0");
    assert!(read_all(&[yes, no, later]).person.pregnant);
    assert!(!read_all(&[status("2025-11-21T08:00:00Z", "LA15173-0")]).person.pregnant);
    // What is dated later than now is not known yet.
    assert!(!read_all(&[status("2026-11-21T12:00:00Z", "LA15173-0")]).person.pregnant);
}

#[test]
fn who_was_scored_by_a_scale_last_is_meant_to_be() {
    let scored = |at: &str, code: &str| {
        let score = json!({"code": {"coding": [{"system": SNOMED, "code": code}]}, "valueQuantity": {"value": 0}});
        observation("1104051000000101", at, json!({"component": [score]}))
    };
    let (two, one) =
        (scored("2026-11-20T08:00:00Z", "1104321000000108"), scored("2026-11-20T09:00:00Z", "1104311000000102"));
    assert!(read_all(std::slice::from_ref(&two)).person.spo2_scale_2);
    assert!(!read_all(&[two, one]).person.spo2_scale_2);
    assert!(!read_all(&[condition(ICD_10_CM, "J96.12", "active")]).person.spo2_scale_2);
}

#[test]
fn every_charted_code_is_of_one_variable_and_is_read_in_each_of_its_units() {
    let mut codes = BTreeSet::new();
    for (name, all, units) in CHARTED {
        let variable = Variable::named(name).unwrap();
        assert!(
            units.iter().any(|(unit, factor)| *unit == variable.spec().unit && *factor == 1.0)
                || name == "inspired-oxygen"
        );
        for code in all {
            assert!(codes.insert(*code), "{code} is of two variables");
            for (unit, factor) in units {
                let chart = read_all(&[measured(code, "2026-11-21T09:00:00Z", 50.0, unit)]);
                let charted: Vec<(Variable, f64)> = chart.charted.iter().map(|one| (one.variable, one.value)).collect();
                assert_eq!(charted, [(variable, 50.0 * factor)], "{code} {unit}");
            }
        }
    }
}

#[test]
fn a_blood_pressure_is_read_from_its_components() {
    let part = |code: &str, value: f64| json!({"code": {"coding": [{"system": LOINC, "code": code}]}, "valueQuantity": {"value": value, "system": UCUM, "code": "mm[Hg]"}});
    let panel = observation(
        "85354-9",
        "2026-11-21T09:00:00Z",
        json!({"component": [part("8480-6", 118.0), part("8462-4", 71.0)]}),
    );
    let chart = read_all(&[panel]);
    let names: Vec<&str> = chart.charted.iter().map(|one| one.variable.spec().name).collect();
    assert_eq!(names, ["systolic", "diastolic"]);
}

#[test]
fn what_does_not_count_is_left_out() {
    let good = measured("2524-7", "2026-11-21T09:00:00Z", 4.1, "mmol/L");
    let changed = |field: &str, value: Json| {
        let mut out = good.clone();
        out[field] = value;
        out
    };
    let less = json!({"value": 0.5, "comparator": "<", "system": UCUM, "code": "mmol/L"});
    for wrong in [
        changed("status", json!("entered-in-error")),
        changed("status", json!("preliminary")),
        changed("derivedFrom", json!([{"reference": "Observation/1"}])),
        changed("effectiveDateTime", json!("2026-11-19T09:00:00Z")),
        changed("effectiveDateTime", json!("2026-11-21T11:00:00Z")),
        changed("effectiveDateTime", json!("2026-11-21")),
        changed("valueQuantity", json!({"value": 4.1, "unit": "mmol/L"})),
        changed("valueQuantity", json!({"value": 4.1, "system": UCUM, "code": "mg/dL"})),
        changed("valueQuantity", less),
        json!({"resourceType": "Observation"}),
        json!(null),
    ] {
        assert!(!Chart::takes(&wrong, now()), "{wrong}");
    }
    assert!(Chart::takes(&good, now()));
}

#[test]
fn age_sex_and_height_are_known() {
    let patient = json!({"resourceType": "Patient", "birthDate": "1974-06-11", "gender": "female"});
    let metres = measured(BODY_HEIGHT, "2019-03-01T10:00:00Z", 1.68, "m");
    let person = read_all(&[patient, metres]).person;
    assert_eq!(person, Person { age_years: Some(52), male: Some(false), height_cm: Some(168), ..Person::default() });
}

#[test]
fn ages_are_whole_years_and_never_too_high() {
    let check = |born, expected| assert_eq!(age_years(born, "2026-11-21T10:00:00.000Z"), expected, "{born}");
    check("1974-06-11", Some(52));
    check("1974-11-21", Some(52));
    check("1974-11-22", Some(51));
    check("1974", Some(51));
    check("1974-10", Some(52));
    check("1974-11", Some(51));
    check("2026-11-20", Some(0));
    check("2030-01-01", None);
    check("x", None);
}
