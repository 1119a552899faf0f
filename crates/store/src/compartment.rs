//! The compartment of a patient: by which of its parameters a record belongs to one.
//!
//! Source: FHIR R4 4.0.1, `CompartmentDefinition/patient`, <https://hl7.org/fhir/R4/compartmentdefinition-patient.html>.

use crate::{
    extract::kind,
    search::{Criterion, Match},
};

/// Types that have records in a patient's compartment, in the order of their names, with the parameters that put them there.
const PATIENT: [(&str, &[&str]); 67] = [
    ("Account", &["subject"]),
    ("AdverseEvent", &["subject"]),
    ("AllergyIntolerance", &["patient", "recorder", "asserter"]),
    ("Appointment", &["actor"]),
    ("AppointmentResponse", &["actor"]),
    ("AuditEvent", &["patient"]),
    ("Basic", &["patient", "author"]),
    ("BodyStructure", &["patient"]),
    ("CarePlan", &["patient", "performer"]),
    ("CareTeam", &["patient", "participant"]),
    ("ChargeItem", &["subject"]),
    ("Claim", &["patient", "payee"]),
    ("ClaimResponse", &["patient"]),
    ("ClinicalImpression", &["subject"]),
    ("Communication", &["subject", "sender", "recipient"]),
    ("CommunicationRequest", &["subject", "sender", "recipient", "requester"]),
    ("Composition", &["subject", "author", "attester"]),
    ("Condition", &["patient", "asserter"]),
    ("Consent", &["patient"]),
    ("Coverage", &["policy-holder", "subscriber", "beneficiary", "payor"]),
    ("CoverageEligibilityRequest", &["patient"]),
    ("CoverageEligibilityResponse", &["patient"]),
    ("DetectedIssue", &["patient"]),
    ("DeviceRequest", &["subject", "performer"]),
    ("DeviceUseStatement", &["subject"]),
    ("DiagnosticReport", &["subject"]),
    ("DocumentManifest", &["subject", "author", "recipient"]),
    ("DocumentReference", &["subject", "author"]),
    ("Encounter", &["subject"]),
    ("EnrollmentRequest", &["subject"]),
    ("EpisodeOfCare", &["patient"]),
    ("ExplanationOfBenefit", &["patient", "payee"]),
    ("FamilyMemberHistory", &["patient"]),
    ("Flag", &["patient"]),
    ("Goal", &["patient"]),
    ("Group", &["member"]),
    ("ImagingStudy", &["patient"]),
    ("Immunization", &["patient"]),
    ("ImmunizationEvaluation", &["patient"]),
    ("ImmunizationRecommendation", &["patient"]),
    ("Invoice", &["subject", "patient", "recipient"]),
    ("List", &["subject", "source"]),
    ("MeasureReport", &["patient"]),
    ("Media", &["subject"]),
    ("MedicationAdministration", &["patient", "performer", "subject"]),
    ("MedicationDispense", &["subject", "patient", "receiver"]),
    ("MedicationRequest", &["subject"]),
    ("MedicationStatement", &["subject"]),
    ("MolecularSequence", &["patient"]),
    ("NutritionOrder", &["patient"]),
    ("Observation", &["subject", "performer"]),
    ("Patient", &["link"]),
    ("Person", &["patient"]),
    ("Procedure", &["patient", "performer"]),
    ("Provenance", &["patient"]),
    ("QuestionnaireResponse", &["subject", "author"]),
    ("RelatedPerson", &["patient"]),
    ("RequestGroup", &["subject", "participant"]),
    ("ResearchSubject", &["individual"]),
    ("RiskAssessment", &["subject"]),
    ("Schedule", &["actor"]),
    ("ServiceRequest", &["subject", "performer"]),
    ("Specimen", &["subject"]),
    ("SupplyDelivery", &["patient"]),
    ("SupplyRequest", &["subject"]),
    ("Task", &["patient", "focus"]),
    ("VisionPrescription", &["patient"]),
];

/// What a criterion is called that no single parameter decides.
const COMPARTMENT: &str = "_compartment";

impl Criterion {
    /// That a record of a type is in the compartment of a patient; none where no record of the type is in any.
    pub fn in_compartment_of(patient: &str, rtype: &str) -> Option<Self> {
        let at = PATIENT.binary_search_by(|(of, _)| (*of).cmp(rtype)).ok()?;
        let one = |param: &&str| Self::reference(*param, "Patient", patient);
        let mut criteria: Vec<Self> =
            PATIENT[at].1.iter().filter(|param| kind(rtype, param).is_some()).map(one).collect();
        if rtype == "Patient" {
            // Whose compartment it is.
            criteria.push(Self::code("_id", patient));
        }
        if criteria.len() <= 1 {
            return criteria.pop();
        }
        let under = |Self { param, any, .. }: Self| any.into_iter().map(move |of| (param.clone(), of));
        let any = criteria.into_iter().flat_map(under);
        let any = any.map(|(param, of)| Match::Under { param, of: Box::new(of) }).collect();
        Some(Self { param: COMPARTMENT.to_owned(), negate: false, any })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::{Kind, reference_targets};

    #[test]
    fn every_parameter_of_the_compartment_is_one_that_refers_to_a_patient() {
        assert!(PATIENT.is_sorted_by_key(|(rtype, _)| *rtype));
        for (rtype, params) in PATIENT {
            for param in params {
                assert_eq!(kind(rtype, param), Some(Kind::Reference), "{rtype}.{param}");
                assert!(reference_targets(rtype, param).contains(&"Patient"), "{rtype}.{param}");
            }
        }
    }

    #[test]
    fn a_type_with_one_way_in_is_asked_for_by_it_and_one_with_none_is_in_no_compartment() {
        let encounters = Criterion::in_compartment_of("a", "Encounter");
        assert_eq!(encounters, Some(Criterion::reference("subject", "Patient", "a")));
        assert_eq!(Criterion::in_compartment_of("a", "Observation").unwrap().any.len(), 2);
        assert_eq!(Criterion::in_compartment_of("a", "Patient").unwrap().any.len(), 2);
        assert_eq!(Criterion::in_compartment_of("a", "Medication"), None);
    }
}
