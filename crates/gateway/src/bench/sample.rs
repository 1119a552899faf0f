//! Records that measurements are made on: patients with an allergy, a medication, a problem and their vital signs.

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};

const LOINC: &str = "http://loinc.org";
/// Vital signs: LOINC code, UCUM unit, lowest and highest value.
const SIGNS: [(&str, &str, u32, u32); 4] =
    [("8867-4", "/min", 50, 120), ("9279-1", "/min", 10, 30), ("59408-5", "%", 88, 100), ("8310-5", "Cel", 35, 40)];
/// Observations of each patient.
pub(super) const OBSERVATIONS: usize = 12;
/// Observations of one transaction.
const BUNDLE_LEN: usize = 100;

/// The codes that observations have.
pub(super) fn codes() -> impl Iterator<Item = &'static str> {
    SIGNS.iter().map(|(code, ..)| *code)
}

/// A code that some observations have.
pub(super) fn code(rng: &mut StdRng) -> &'static str {
    SIGNS[rng.random_range(0..SIGNS.len())].0
}

fn sign(subject: &str, rng: &mut StdRng) -> Value {
    let (code, unit, lowest, highest) = SIGNS[rng.random_range(0..SIGNS.len())];
    let (day, minute) = (rng.random_range(1..29), rng.random_range(0..60));
    json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": subject},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "effectiveDateTime": format!("2026-01-{day:02}T10:{minute:02}:00Z"),
        "valueQuantity": {
            "value": rng.random_range(lowest..highest), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit
        }
    })
}

/// An observation of a patient.
pub(super) fn observation(patient: &str, rng: &mut StdRng) -> Value {
    sign(&format!("Patient/{patient}"), rng)
}

fn transaction(entries: Vec<Value>) -> Value {
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

fn created(resource: Value) -> Value {
    let rtype = resource["resourceType"].clone();
    json!({"resource": resource, "request": {"method": "POST", "url": rtype}})
}

/// A transaction of observations of one patient.
pub(super) fn observations(patient: &str, rng: &mut StdRng) -> Value {
    transaction((0..BUNDLE_LEN).map(|_| created(observation(patient, rng))).collect())
}

/// A transaction that creates a patient with sixteen records in all.
pub(super) fn patient(number: usize, rng: &mut StdRng) -> Value {
    let me = format!("urn:uuid:00000000-0000-4000-8000-{number:012}");
    let person = json!({
        "resourceType": "Patient", "identifier": [{"system": "urn:bench", "value": number.to_string()}],
        "name": [{"family": format!("Family{}", number % 997), "given": ["Given"]}], "gender": "unknown", "birthDate": "1970-01-01"
    });
    let mut person = created(person);
    person["fullUrl"] = json!(me);
    let active = |system: &str| json!({"coding": [{"system": system, "code": "active"}]});
    let problem = json!({
        "resourceType": "Condition", "subject": {"reference": me}, "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
        "clinicalStatus": active("http://terminology.hl7.org/CodeSystem/condition-clinical")
    });
    let allergy = json!({
        "resourceType": "AllergyIntolerance", "patient": {"reference": me}, "criticality": "high",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "91936005"}]},
        "clinicalStatus": active("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical")
    });
    let medication = json!({
        "resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": {"reference": me},
        "medicationCodeableConcept": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076"}]}
    });
    let mut entries = vec![person, created(problem), created(allergy), created(medication)];
    entries.extend((0..OBSERVATIONS).map(|_| created(sign(&me, rng))));
    transaction(entries)
}
