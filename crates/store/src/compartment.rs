//! Compartments: by which of its parameters a record belongs to a patient, an encounter, a practitioner, a related person or a device.
//!
//! Source: FHIR R4 4.0.1, `CompartmentDefinition`, <https://hl7.org/fhir/R4/compartmentdefinition.html>; npm `hl7.fhir.r4.examples` 4.0.1.
//! A Task belongs to its patient here as well, which R4 leaves out.

use crate::{
    extract::kind,
    search::{Criterion, Match},
};
use std::borrow::Cow;

/// A type that has records in a compartment, with the parameters that put them there.
type Row = (&'static str, &'static [&'static str]);

/// A kind of compartment.
struct Compartment {
    /// The FHIR type of what it is about.
    of: &'static str,
    /// R4's name for it.
    name: &'static str,
    /// Whether the record that it is about is in it.
    has_its_own: bool,
    /// The types, in the order of their names.
    types: &'static [Row],
}

const COMPARTMENTS: [Compartment; 5] = [
    Compartment { of: "Patient", name: "patient", has_its_own: true, types: PATIENT },
    Compartment { of: "Encounter", name: "encounter", has_its_own: true, types: ENCOUNTER },
    Compartment { of: "RelatedPerson", name: "relatedPerson", has_its_own: true, types: RELATED_PERSON },
    Compartment { of: "Practitioner", name: "practitioner", has_its_own: true, types: PRACTITIONER },
    Compartment { of: "Device", name: "device", has_its_own: false, types: DEVICE },
];

/// The types that have compartments, each with R4's name for them.
pub fn compartments() -> [(&'static str, &'static str); COMPARTMENTS.len()] {
    COMPARTMENTS.map(|Compartment { of, name, .. }| (of, name))
}

/// Of a patient.
const PATIENT: &[Row] = &[
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

/// Of an encounter.
const ENCOUNTER: &[Row] = &[
    ("CarePlan", &["encounter"]),
    ("CareTeam", &["encounter"]),
    ("ChargeItem", &["context"]),
    ("Claim", &["encounter"]),
    ("ClinicalImpression", &["encounter"]),
    ("Communication", &["encounter"]),
    ("CommunicationRequest", &["encounter"]),
    ("Composition", &["encounter"]),
    ("Condition", &["encounter"]),
    ("DeviceRequest", &["encounter"]),
    ("DiagnosticReport", &["encounter"]),
    ("DocumentManifest", &["related-ref"]),
    ("DocumentReference", &["encounter"]),
    ("ExplanationOfBenefit", &["encounter"]),
    ("Media", &["encounter"]),
    ("MedicationAdministration", &["context"]),
    ("MedicationRequest", &["encounter"]),
    ("NutritionOrder", &["encounter"]),
    ("Observation", &["encounter"]),
    ("Procedure", &["encounter"]),
    ("QuestionnaireResponse", &["encounter"]),
    ("RequestGroup", &["encounter"]),
    ("ServiceRequest", &["encounter"]),
    ("VisionPrescription", &["encounter"]),
];

/// Of a related person.
const RELATED_PERSON: &[Row] = &[
    ("AdverseEvent", &["recorder"]),
    ("AllergyIntolerance", &["asserter"]),
    ("Appointment", &["actor"]),
    ("AppointmentResponse", &["actor"]),
    ("Basic", &["author"]),
    ("CarePlan", &["performer"]),
    ("CareTeam", &["participant"]),
    ("ChargeItem", &["enterer", "performer-actor"]),
    ("Claim", &["payee"]),
    ("Communication", &["sender", "recipient"]),
    ("CommunicationRequest", &["sender", "recipient", "requester"]),
    ("Composition", &["author"]),
    ("Condition", &["asserter"]),
    ("Coverage", &["policy-holder", "subscriber", "payor"]),
    ("DocumentManifest", &["author", "recipient"]),
    ("DocumentReference", &["author"]),
    ("Encounter", &["participant"]),
    ("ExplanationOfBenefit", &["payee"]),
    ("Invoice", &["recipient"]),
    ("MedicationAdministration", &["performer"]),
    ("MedicationStatement", &["source"]),
    ("Observation", &["performer"]),
    ("Patient", &["link"]),
    ("Person", &["link"]),
    ("Procedure", &["performer"]),
    ("Provenance", &["agent"]),
    ("QuestionnaireResponse", &["author", "source"]),
    ("RequestGroup", &["participant"]),
    ("Schedule", &["actor"]),
    ("ServiceRequest", &["performer"]),
    ("SupplyRequest", &["requester"]),
];

/// Of a practitioner.
const PRACTITIONER: &[Row] = &[
    ("Account", &["subject"]),
    ("AdverseEvent", &["recorder"]),
    ("AllergyIntolerance", &["recorder", "asserter"]),
    ("Appointment", &["actor"]),
    ("AppointmentResponse", &["actor"]),
    ("AuditEvent", &["agent"]),
    ("Basic", &["author"]),
    ("CarePlan", &["performer"]),
    ("CareTeam", &["participant"]),
    ("ChargeItem", &["enterer", "performer-actor"]),
    ("Claim", &["enterer", "provider", "payee", "care-team"]),
    ("ClaimResponse", &["requestor"]),
    ("ClinicalImpression", &["assessor"]),
    ("Communication", &["sender", "recipient"]),
    ("CommunicationRequest", &["sender", "recipient", "requester"]),
    ("Composition", &["subject", "author", "attester"]),
    ("Condition", &["asserter"]),
    ("CoverageEligibilityRequest", &["enterer", "provider"]),
    ("CoverageEligibilityResponse", &["requestor"]),
    ("DetectedIssue", &["author"]),
    ("DeviceRequest", &["requester", "performer"]),
    ("DiagnosticReport", &["performer"]),
    ("DocumentManifest", &["subject", "author", "recipient"]),
    ("DocumentReference", &["subject", "author", "authenticator"]),
    ("Encounter", &["practitioner", "participant"]),
    ("EpisodeOfCare", &["care-manager"]),
    ("ExplanationOfBenefit", &["enterer", "provider", "payee", "care-team"]),
    ("Flag", &["author"]),
    ("Group", &["member"]),
    ("Immunization", &["performer"]),
    ("Invoice", &["participant"]),
    ("Linkage", &["author"]),
    ("List", &["source"]),
    ("Media", &["subject", "operator"]),
    ("MedicationAdministration", &["performer"]),
    ("MedicationDispense", &["performer", "receiver"]),
    ("MedicationRequest", &["requester"]),
    ("MedicationStatement", &["source"]),
    ("MessageHeader", &["receiver", "author", "responsible", "enterer"]),
    ("NutritionOrder", &["provider"]),
    ("Observation", &["performer"]),
    ("Patient", &["general-practitioner"]),
    ("PaymentNotice", &["provider"]),
    ("PaymentReconciliation", &["requestor"]),
    ("Person", &["practitioner"]),
    ("PractitionerRole", &["practitioner"]),
    ("Procedure", &["performer"]),
    ("Provenance", &["agent"]),
    ("QuestionnaireResponse", &["author", "source"]),
    ("RequestGroup", &["participant", "author"]),
    ("ResearchStudy", &["principalinvestigator"]),
    ("RiskAssessment", &["performer"]),
    ("Schedule", &["actor"]),
    ("ServiceRequest", &["performer", "requester"]),
    ("Specimen", &["collector"]),
    ("SupplyDelivery", &["supplier", "receiver"]),
    ("SupplyRequest", &["requester"]),
    ("VisionPrescription", &["prescriber"]),
];

/// Of a device.
const DEVICE: &[Row] = &[
    ("Account", &["subject"]),
    ("Appointment", &["actor"]),
    ("AppointmentResponse", &["actor"]),
    ("AuditEvent", &["agent"]),
    ("ChargeItem", &["enterer", "performer-actor"]),
    ("Claim", &["procedure-udi", "item-udi", "detail-udi", "subdetail-udi"]),
    ("Communication", &["sender", "recipient"]),
    ("CommunicationRequest", &["sender", "recipient"]),
    ("Composition", &["author"]),
    ("DetectedIssue", &["author"]),
    ("DeviceRequest", &["device", "subject", "requester", "performer"]),
    ("DeviceUseStatement", &["device"]),
    ("DiagnosticReport", &["subject"]),
    ("DocumentManifest", &["subject", "author"]),
    ("DocumentReference", &["subject", "author"]),
    ("ExplanationOfBenefit", &["procedure-udi", "item-udi", "detail-udi", "subdetail-udi"]),
    ("Flag", &["author"]),
    ("Group", &["member"]),
    ("Invoice", &["participant"]),
    ("List", &["subject", "source"]),
    ("Media", &["subject"]),
    ("MedicationAdministration", &["device"]),
    ("MessageHeader", &["target"]),
    ("Observation", &["subject", "device"]),
    ("Provenance", &["agent"]),
    ("QuestionnaireResponse", &["author"]),
    ("RequestGroup", &["author"]),
    ("RiskAssessment", &["performer"]),
    ("Schedule", &["actor"]),
    ("ServiceRequest", &["performer", "requester"]),
    ("Specimen", &["subject"]),
    ("SupplyRequest", &["requester"]),
];

/// What a criterion is called that no single parameter decides.
const COMPARTMENT: &str = "_compartment";

/// The types of which records are in compartments of this kind, in the order of their names; none if there is no such kind.
pub fn types_within(of: &str) -> Vec<&'static str> {
    let Some(compartment) = COMPARTMENTS.iter().find(|compartment| compartment.of == of) else { return Vec::new() };
    let mut types: Vec<&str> = compartment.types.iter().map(|(rtype, _)| *rtype).collect();
    if compartment.has_its_own && !types.contains(&compartment.of) {
        types.push(compartment.of);
        types.sort_unstable();
    }
    types
}

impl Criterion {
    /// That a record, whatever its type, is in the compartment of the record `of/id`.
    pub fn in_compartment(of: &str, id: &str) -> Self {
        Self::one(COMPARTMENT, Match::Within { of: of.to_owned(), id: id.to_owned() })
    }

    /// What it asks of records of a type.
    pub(crate) fn of_type(&self, rtype: &str) -> Cow<'_, Self> {
        match self.any.as_slice() {
            [Match::Within { of, id }] => {
                let nothing = || Self { param: COMPARTMENT.to_owned(), negate: false, any: Vec::new() };
                let within = Self::in_compartment_of(of, id, rtype).unwrap_or_else(nothing);
                Cow::Owned(Self { negate: self.negate, ..within })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// That a record of a type is in the compartment of the record `of/id`; none where no record of the type is in any.
    pub fn in_compartment_of(of: &str, id: &str, rtype: &str) -> Option<Self> {
        let compartment = COMPARTMENTS.iter().find(|compartment| compartment.of == of)?;
        let at = compartment.types.binary_search_by(|(name, _)| (*name).cmp(rtype));
        let params = at.map_or(&[][..], |at| compartment.types[at].1);
        let one = |param: &&str| Self::reference(*param, of, id);
        let mut criteria: Vec<Self> = params.iter().filter(|param| kind(rtype, param).is_some()).map(one).collect();
        if compartment.has_its_own && rtype == of {
            criteria.push(Self::code("_id", id));
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
    fn every_parameter_of_a_compartment_is_one_that_refers_to_what_it_is_about() {
        for Compartment { of, types, .. } in COMPARTMENTS {
            assert!(types.is_sorted_by(|(one, _), (other, _)| one < other), "{of}");
            for (rtype, params) in types {
                for param in *params {
                    assert_eq!(kind(rtype, param), Some(Kind::Reference), "{rtype}.{param}");
                    assert!(reference_targets(rtype, param).contains(&of), "{rtype}.{param} to {of}");
                }
            }
        }
    }

    #[test]
    fn a_type_with_one_way_in_is_asked_for_by_it_and_one_with_none_is_in_no_compartment() {
        let within = Criterion::in_compartment_of;
        assert_eq!(within("Patient", "a", "Encounter"), Some(Criterion::reference("subject", "Patient", "a")));
        assert_eq!(within("Patient", "a", "Observation").unwrap().any.len(), 2);
        assert_eq!(within("Patient", "a", "Patient").unwrap().any.len(), 2);
        assert_eq!(within("Patient", "a", "Medication"), None);
        assert_eq!(within("Encounter", "a", "Observation"), Some(Criterion::reference("encounter", "Encounter", "a")));
        assert_eq!(within("Encounter", "a", "Encounter"), Some(Criterion::code("_id", "a")));
        assert_eq!(within("Practitioner", "a", "Claim").unwrap().any.len(), 4);
        assert_eq!(within("Device", "a", "Device"), None);
        assert_eq!(within("Location", "a", "Encounter"), None);
        for Compartment { of, has_its_own, .. } in COMPARTMENTS {
            let types = types_within(of);
            assert!(types.is_sorted_by(|one, other| one < other), "{types:?}");
            assert!(types.iter().all(|rtype| within(of, "a", rtype).is_some()), "{of}");
            assert_eq!(types.contains(&of), has_its_own, "{of}");
        }
        assert!(types_within("Location").is_empty());
        let any = Criterion::in_compartment("Patient", "a");
        assert_eq!(any.of_type("Encounter").into_owned(), within("Patient", "a", "Encounter").unwrap());
        assert!(any.of_type("Medication").any.is_empty());
    }
}
