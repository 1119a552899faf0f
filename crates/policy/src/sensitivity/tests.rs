//! What the rules in `policies/sensitivity.toml` say of records, and which files of rules are refused.

use super::*;
use serde_json::json;

const ICD: &str = "http://hl7.org/fhir/sid/icd-10-cm";

fn of(fhir_type: &str, system: &str, code: &str) -> (Vec<String>, Option<&'static str>) {
    let resource = json!({"resourceType": fhir_type, "code": {"coding": [{"system": system, "code": code}]}});
    let rules = Sensitivity::builtin();
    let Sensitive { categories, label } = rules.of(fhir_type, &resource);
    let bytes = serde_json::to_vec(&resource).unwrap();
    assert_eq!(rules.of_bytes(fhir_type, &bytes).categories, categories, "{system} {code} by its bytes");
    (categories, label.map(Confidentiality::code))
}

#[test]
fn codes_of_sensitive_categories_restrict_a_record() {
    for (fhir_type, system, code, categories, label) in [
        ("DocumentReference", "http://loinc.org", "34865-6", &["PSYTHPN"][..], Some("V")),
        ("Condition", ICD, "F32.1", &["PSY"], Some("R")),
        ("Condition", ICD, "F11.20", &["ETH"], Some("R")),
        ("Condition", "http://snomed.info/sct", "6525002", &["ETH"], Some("R")),
        ("Condition", ICD, "B20", &["HIV"], Some("R")),
        ("Condition", ICD, "F52.0", &["PSY", "SEX"], Some("R")),
        ("Condition", ICD, "Z31.5", &["SEX", "GDIS"], Some("R")),
        ("Condition", ICD, "T74.21XA", &["SDV"], Some("R")),
        ("Condition", ICD, "F17.210", &[], None),
        ("Condition", ICD, "S72.0", &[], None),
        ("Condition", "http://example.org", "B20", &[], None),
        ("Claim", ICD, "B20", &[], None),
        ("Consent", ICD, "B20", &[], None),
    ] {
        assert_eq!(
            of(fhir_type, system, code),
            (categories.iter().map(ToString::to_string).collect(), label),
            "{code}"
        );
    }
}

#[test]
fn a_code_anywhere_in_the_record_and_a_label_of_its_own_count() {
    let rules = Sensitivity::builtin();
    let of = |text: &str| {
        let resource: Value = serde_json::from_str(text).unwrap();
        let by_bytes = rules.of_bytes("Encounter", text.as_bytes());
        assert_eq!(by_bytes, rules.of("Encounter", &resource), "{text}");
        by_bytes.categories
    };
    assert_eq!(
        of(r#"{"reasonCode":[{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10","code" : "B20"}]}]}"#),
        ["HIV"]
    );
    assert_eq!(
        of(r#"{"reasonCode":[{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10","c\u006fde":"B20"}]}]}"#),
        ["HIV"]
    );
    assert_eq!(
        of(r#"{"reasonCode":[{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10","code":"\u00420"}]}]}"#),
        [""; 0]
    );
    let label = r#"{"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"SDV"}]}}"#;
    assert_eq!(of(label), ["SDV"]);
    assert_eq!(of(r#"{"note":[{"text":"B20"}],"id":"B20"}"#), [""; 0]);
    assert_eq!(rules.of_bytes("Encounter", b"\xff"), Sensitive::default());
}

#[test]
fn every_category_has_a_source_and_is_what_hl7_calls_it() {
    let rules = Sensitivity::parse(BUILTIN).unwrap();
    let codes: Vec<String> = rules.categories().map(|[code, ..]| code.to_owned()).collect();
    assert_eq!(codes, ["PSYTHPN", "PSY", "ETH", "HIV", "SEX", "GDIS", "SDV"]);
    assert!(
        rules.categories().all(|[_, says, label, source]| !says.is_empty() && !label.is_empty() && source.len() > 10)
    );
    for fhir_type in &rules.except {
        assert!(record::fhir::RESOURCE_TYPES.contains(&fhir_type.as_str()), "{fhir_type}");
    }
}

#[test]
fn a_file_of_rules_that_is_wrong_is_refused() {
    let refused = |text: &str| Sensitivity::parse(text).err();
    let category = "[[category]]\ncode='PSY'\nsays='x'\nlabel='R'\nsource='s'\ncodes=[]\n";
    assert_eq!(refused(category), None);
    assert_eq!(refused(&category.repeat(2)), Some(BadSensitivity::Category("PSY".to_owned())));
    assert_eq!(refused(&category.replace("'R'", "'N'")), Some(BadSensitivity::Category("PSY".to_owned())));
    assert_eq!(refused(&category.replace("'s'", "''")), Some(BadSensitivity::Category("PSY".to_owned())));
    assert!(matches!(refused("[[categories]]"), Some(BadSensitivity::Malformed(_))));
    assert_eq!(refused(&"#".repeat(SENSITIVITY_BYTES_MAX + 1)), Some(BadSensitivity::Bounds));
}
