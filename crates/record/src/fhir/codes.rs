//! Codes that this program writes or looks for, each with its system. Sensor codes are with the sensors.

/// A code of a system, with the display text of that system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// URI of the code system.
    pub system: &'static str,
    /// The code.
    pub code: &'static str,
    /// What the system calls it.
    pub display: &'static str,
}

/// LOINC.
pub const LOINC: &str = "http://loinc.org";
/// SNOMED CT.
pub const SNOMED: &str = "http://snomed.info/sct";
/// UCUM.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// DICOM. The URI that R4 and BALP use for it.
pub const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// HL7 v3 ParticipationType.
pub const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
/// Types of audit events.
pub const AUDIT_EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
/// Interactions of the FHIR REST interface.
pub const RESTFUL_INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
/// Types of audited entities.
pub const AUDIT_ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
/// Roles of audited entities.
pub const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
/// Types of audit sources.
pub const SECURITY_SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
/// Types of audited entities that BALP adds.
pub const BALP_ENTITY_TYPE: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
/// Subtypes of authorisation audit events that BALP adds.
pub const BALP_AUTHZ_SUBTYPE: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType";
/// Why a list or section is empty.
pub const LIST_EMPTY_REASON: &str = "http://terminology.hl7.org/CodeSystem/list-empty-reason";

const fn loinc(code: &'static str, display: &'static str) -> Code {
    Code { system: LOINC, code, display }
}
const fn dcm(code: &'static str, display: &'static str) -> Code {
    Code { system: DCM, code, display }
}

/// The patient summary itself. Source for this and the sections: IPS 2.0 `Composition-uv-ips` and its examples.
pub const PATIENT_SUMMARY: Code = loinc("60591-5", "Patient summary Document");
/// Section: allergies and intolerances.
pub const ALLERGIES: Code = loinc("48765-2", "Allergies and adverse reactions Document");
/// Section: medications.
pub const MEDICATIONS: Code = loinc("10160-0", "History of Medication use Narrative");
/// Section: problems.
pub const PROBLEMS: Code = loinc("11450-4", "Problem list - Reported");
/// Section: immunizations.
pub const IMMUNIZATIONS: Code = loinc("11369-6", "History of Immunization note");
/// Section: alerts.
pub const ALERTS: Code = loinc("104605-1", "Alert");
/// Section: procedures.
pub const PROCEDURES: Code = loinc("47519-4", "History of Procedures Document");
/// Section: results of diagnostic tests.
pub const RESULTS: Code = loinc("30954-2", "Relevant diagnostic tests/laboratory data note");
/// Section: vital signs.
pub const VITAL_SIGNS: Code = loinc("8716-3", "Vital signs note");
/// Section: problems of the past.
pub const PAST_PROBLEMS: Code = loinc("11348-0", "History of Past illness note");

/// Audit: the client of a request that moves no data. Source for this and the other DICOM codes: DICOM PS3.16, code system DCM in R4's definitions.
pub const APPLICATION: Code = dcm("110150", "Application");
/// Audit: who receives.
pub const DESTINATION_ROLE: Code = dcm("110152", "Destination Role ID");
/// Audit: who sends.
pub const SOURCE_ROLE: Code = dcm("110153", "Source Role ID");
/// Audit: who keeps the data of a request that moves none.
pub const CUSTODIAN: Code = Code {
    system: "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    code: "custodian",
    display: "Custodian",
};
/// Audit: something that security has to look at.
pub const SECURITY_ALERT: Code = dcm("110113", "Security Alert");
/// Audit: somebody shows who they are.
pub const USER_AUTHENTICATION: Code = dcm("110114", "User Authentication");
/// Audit: somebody came in, or was refused.
pub const LOGIN: Code = dcm("110122", "Login");
/// Audit: what somebody came in by is over.
pub const LOGOUT: Code = dcm("110123", "Logout");
/// Audit: the glass was broken.
pub const OVERRIDE_STARTED: Code = dcm("110127", "Emergency Override Started");
/// Audit: the glass is whole again.
pub const OVERRIDE_STOPPED: Code = dcm("110138", "Emergency Override Stopped");
/// Audit: an interaction of the REST interface.
pub const REST: Code = Code { system: AUDIT_EVENT_TYPE, code: "rest", display: "Restful Operation" };
/// Audit: an authorisation by consent.
pub const AUTHZ_CONSENT: Code =
    Code { system: BALP_AUTHZ_SUBTYPE, code: "AuthZ-Consent", display: "Consent Authorization Decision" };
/// Audit: the person who gets to see it.
pub const INFORMATION_RECIPIENT: Code = Code { system: PARTICIPATION, code: "IRCP", display: "information recipient" };
/// Audit: the person who writes it.
pub const AUTHOR: Code = Code { system: PARTICIPATION, code: "AUT", display: "author (originator)" };
