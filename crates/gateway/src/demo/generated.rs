//! The small patient that the demonstration makes itself when no folder of bundles is given.
//!
//! Nobody real: a made-up woman with two allergies, two medications, two problems, immunizations, a hospital and a doctor.

use serde_json::{Value, json};

/// The identifier system of the made-up patients.
pub(crate) const IDENTIFIER_SYSTEM: &str = "https://vitaltrace.org/demo/patient";

/// The bundles in loading order: hospital, practitioner, patient.
pub(crate) fn bundles() -> Vec<Value> {
    vec![hospital(), practitioner(), patient()]
}

fn conditional(resource: &Value, system: &str, value: &str) -> Value {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    json!({
        "resource": resource,
        "request": {"method": "POST", "url": kind, "ifNoneExist": format!("identifier={system}|{value}")}
    })
}

fn hospital() -> Value {
    let system = "https://vitaltrace.org/demo/organization";
    let organization = json!({
        "resourceType": "Organization", "identifier": [{"system": system, "value": "mercy"}],
        "active": true, "name": "Mercy Hospital"
    });
    let location = json!({
        "resourceType": "Location", "identifier": [{"system": "https://vitaltrace.org/demo/location", "value": "mercy-er"}],
        "status": "active", "name": "Mercy Hospital, emergency room"
    });
    json!({
        "resourceType": "Bundle", "type": "batch",
        "entry": [
            conditional(&organization, system, "mercy"),
            conditional(&location, "https://vitaltrace.org/demo/location", "mercy-er")
        ]
    })
}

fn practitioner() -> Value {
    let system = "https://vitaltrace.org/demo/practitioner";
    let practitioner = json!({
        "resourceType": "Practitioner", "identifier": [{"system": system, "value": "okafor"}],
        "active": true, "name": [{"family": "Okafor", "given": ["Adaeze"], "prefix": ["Dr."]}]
    });
    json!({"resourceType": "Bundle", "type": "batch", "entry": [conditional(&practitioner, system, "okafor")]})
}

const PATIENT: &str = "urn:uuid:6c1d7a52-3d5b-4b0e-9f53-0f6a5b1c2d3e";

fn concept(system: &str, code: &str, display: &str) -> Value {
    json!({"coding": [{"system": system, "code": code, "display": display}], "text": display})
}

fn patient() -> Value {
    const SNOMED: &str = "http://snomed.info/sct";
    const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
    const ACTIVE: &str = "http://terminology.hl7.org/CodeSystem/condition-clinical";
    const ALLERGY_ACTIVE: &str = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical";
    let subject = json!({"reference": PATIENT});
    let allergy = |code: &str, display: &str, criticality: &str| {
        json!({
            "resourceType": "AllergyIntolerance", "patient": subject, "criticality": criticality, "type": "allergy",
            "clinicalStatus": concept(ALLERGY_ACTIVE, "active", "Active"),
            "code": concept(SNOMED, code, display), "recordedDate": "2019-03-02T09:00:00Z"
        })
    };
    let medication = |code: &str, display: &str| {
        json!({
            "resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": subject,
            "medicationCodeableConcept": concept(RXNORM, code, display), "authoredOn": "2026-01-12T10:00:00Z",
            "requester": {"reference": "Practitioner?identifier=https://vitaltrace.org/demo/practitioner|okafor"}
        })
    };
    let condition = |code: &str, display: &str| {
        json!({
            "resourceType": "Condition", "subject": subject, "clinicalStatus": concept(ACTIVE, "active", "Active"),
            "code": concept(SNOMED, code, display), "onsetDateTime": "2015-06-01"
        })
    };
    let immunization = |code: &str, display: &str, date: &str| {
        json!({
            "resourceType": "Immunization", "status": "completed", "patient": subject, "occurrenceDateTime": date,
            "vaccineCode": concept("http://hl7.org/fhir/sid/cvx", code, display)
        })
    };
    let observation = |code: &str, display: &str, value: f64, unit: &str| {
        json!({
            "resourceType": "Observation", "status": "final", "subject": subject,
            "code": concept("http://loinc.org", code, display), "effectiveDateTime": "2026-01-12T10:05:00Z",
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
        })
    };
    let person = json!({
        "resourceType": "Patient",
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": "1974-0611"}],
        "active": true, "name": [{"use": "official", "family": "Brandt", "given": ["Ilse"]}],
        "gender": "female", "birthDate": "1974-06-11",
        "managingOrganization": {"reference": "Organization?identifier=https://vitaltrace.org/demo/organization|mercy"}
    });
    let others = [
        allergy("91936005", "Allergy to penicillin", "high"),
        allergy("300916003", "Latex allergy", "low"),
        medication("855332", "Warfarin sodium 5 MG Oral Tablet"),
        medication("197884", "Lisinopril 40 MG Oral Tablet"),
        condition("49436004", "Atrial fibrillation"),
        condition("59621000", "Essential hypertension"),
        immunization("140", "Influenza, seasonal, injectable, preservative free", "2025-10-20"),
        immunization("113", "Td (adult)", "2021-05-04"),
        observation("8480-6", "Systolic blood pressure", 138.0, "mm[Hg]"),
        observation("8867-4", "Heart rate", 72.0, "/min"),
    ];
    let mut entries = vec![json!({
        "fullUrl": PATIENT, "resource": person, "request": {"method": "POST", "url": "Patient"}
    })];
    for (number, resource) in others.iter().enumerate() {
        entries.push(json!({
            "fullUrl": format!("urn:uuid:6c1d7a52-3d5b-4b0e-9f53-{:012x}", number + 1),
            "request": {"method": "POST", "url": resource["resourceType"]},
            "resource": resource
        }));
    }
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}
