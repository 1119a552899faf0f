//! Whose record a resource is: the elements that name its patient.

use super::{ResourceType, json::Node};
use std::borrow::Cow;

/// Where a type names the patient whose record it is, most telling element first.
///
/// Source: R4 `CompartmentDefinition/patient` and its search parameters, without those by which a patient merely took part
/// (recorder, asserter, performer, author, payee, ...): taking part in a record does not make it one's own. `Task.for`,
/// `Device.patient` and `Contract.subject` are not in that compartment and are added.
const PATIENT_ELEMENTS: &[(&str, &[&str])] = &[
    ("Account", &["subject"]),
    ("AdverseEvent", &["subject"]),
    ("AllergyIntolerance", &["patient"]),
    ("Appointment", &["participant.actor"]),
    ("AppointmentResponse", &["actor"]),
    ("AuditEvent", &["entity.what", "agent.who"]),
    ("Basic", &["subject"]),
    ("BodyStructure", &["patient"]),
    ("CarePlan", &["subject"]),
    ("CareTeam", &["subject"]),
    ("ChargeItem", &["subject"]),
    ("Claim", &["patient"]),
    ("ClaimResponse", &["patient"]),
    ("ClinicalImpression", &["subject"]),
    ("Communication", &["subject"]),
    ("CommunicationRequest", &["subject"]),
    ("Composition", &["subject"]),
    ("Condition", &["subject"]),
    ("Consent", &["patient"]),
    ("Contract", &["subject"]),
    ("Coverage", &["beneficiary", "subscriber", "policyHolder"]),
    ("CoverageEligibilityRequest", &["patient"]),
    ("CoverageEligibilityResponse", &["patient"]),
    ("DetectedIssue", &["patient"]),
    ("Device", &["patient"]),
    ("DeviceRequest", &["subject"]),
    ("DeviceUseStatement", &["subject"]),
    ("DiagnosticReport", &["subject"]),
    ("DocumentManifest", &["subject"]),
    ("DocumentReference", &["subject"]),
    ("Encounter", &["subject"]),
    ("EnrollmentRequest", &["candidate"]),
    ("EpisodeOfCare", &["patient"]),
    ("ExplanationOfBenefit", &["patient"]),
    ("FamilyMemberHistory", &["patient"]),
    ("Flag", &["subject"]),
    ("Goal", &["subject"]),
    ("GuidanceResponse", &["subject"]),
    ("ImagingStudy", &["subject"]),
    ("Immunization", &["patient"]),
    ("ImmunizationEvaluation", &["patient"]),
    ("ImmunizationRecommendation", &["patient"]),
    ("Invoice", &["subject"]),
    ("List", &["subject"]),
    ("MeasureReport", &["subject"]),
    ("Media", &["subject"]),
    ("MedicationAdministration", &["subject"]),
    ("MedicationDispense", &["subject"]),
    ("MedicationRequest", &["subject"]),
    ("MedicationStatement", &["subject"]),
    ("MolecularSequence", &["patient"]),
    ("NutritionOrder", &["patient"]),
    ("Observation", &["subject"]),
    ("Person", &["link.target"]),
    ("Procedure", &["subject"]),
    ("Provenance", &["target"]),
    ("QuestionnaireResponse", &["subject"]),
    ("RelatedPerson", &["patient"]),
    ("RequestGroup", &["subject"]),
    ("ResearchSubject", &["individual"]),
    ("RiskAssessment", &["subject"]),
    ("Schedule", &["actor"]),
    ("ServiceRequest", &["subject"]),
    ("Specimen", &["subject"]),
    ("SupplyDelivery", &["patient"]),
    ("SupplyRequest", &["deliverTo"]),
    ("Task", &["for"]),
    ("VisionPrescription", &["patient"]),
];

/// The reference to the patient whose record `root` is.
pub(super) fn patient_reference(rtype: ResourceType, root: Node<'_>) -> Option<Cow<'_, str>> {
    let row = PATIENT_ELEMENTS.binary_search_by(|(name, _)| (*name).cmp(rtype.as_str())).ok()?;
    PATIENT_ELEMENTS[row].1.iter().find_map(|path| first_patient(root, path))
}

fn first_patient<'a>(node: Node<'a>, path: &str) -> Option<Cow<'a, str>> {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    node.get(key)?.each().find_map(|item| {
        if !rest.is_empty() {
            return first_patient(item, rest);
        }
        let text = item.get("reference")?.as_str()?;
        let said = item.get("type").and_then(Node::as_str).is_some_and(|said| said == "Patient");
        (said && !text.starts_with('#') || names_a_patient(&text)).then_some(text)
    })
}

/// `Patient/1`, `https://host/fhir/Patient/1/_history/2`, `Patient?identifier=...`, and `urn:` references, whose type shows
/// only after they are resolved.
fn names_a_patient(text: &str) -> bool {
    let before = |end: usize| end == 0 || text[..end].ends_with('/');
    text.starts_with("urn:") || text.rfind("Patient/").is_some_and(before) || text.starts_with("Patient?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::{Limits, RESOURCE_TYPES, Resource};

    fn patient_of(text: &str) -> Option<String> {
        Resource::parse(text.as_bytes(), Limits::default()).unwrap().patient_reference().map(Cow::into_owned)
    }

    #[test]
    fn the_table_is_sorted_and_names_only_known_types() {
        assert!(PATIENT_ELEMENTS.is_sorted_by_key(|(name, _)| name));
        assert!(PATIENT_ELEMENTS.iter().all(|(name, _)| RESOURCE_TYPES.contains(name)));
    }

    #[test]
    fn a_record_names_its_patient_by_the_element_of_its_type() {
        let cases = [
            (r#"{"resourceType":"Observation","subject":{"reference":"Patient/1"}}"#, Some("Patient/1")),
            (r#"{"resourceType":"Observation","subject":{"reference":"Group/1"}}"#, None),
            (r##"{"resourceType":"Observation","subject":{"reference":"#p","type":"Patient"}}"##, None),
            (r#"{"resourceType":"Observation","performer":[{"reference":"Patient/1"}]}"#, None),
            (r#"{"resourceType":"Consent","patient":{"reference":"urn:uuid:7"}}"#, Some("urn:uuid:7")),
            (r#"{"resourceType":"Coverage","subscriber":{"reference":"Patient/2"}}"#, Some("Patient/2")),
            (
                r#"{"resourceType":"Task","for":{"reference":"http://a/Patient/3/_history/1"}}"#,
                Some("http://a/Patient/3/_history/1"),
            ),
            (
                r#"{"resourceType":"Provenance","target":[{"reference":"Claim/1"},{"reference":"Patient/4"}]}"#,
                Some("Patient/4"),
            ),
            (
                r#"{"resourceType":"AuditEvent","entity":[{"what":{"reference":"NoPatient/1"}},{"what":{"reference":"Patient/5"}}]}"#,
                Some("Patient/5"),
            ),
            (
                r#"{"resourceType":"Patient","id":"p6","link":[{"other":{"reference":"Patient/7"}}]}"#,
                Some("Patient/p6"),
            ),
            (r#"{"resourceType":"Patient"}"#, None),
            (r#"{"resourceType":"Organization","id":"o"}"#, None),
        ];
        for (text, expected) in cases {
            assert_eq!(patient_of(text).as_deref(), expected, "{text}");
        }
    }
}
