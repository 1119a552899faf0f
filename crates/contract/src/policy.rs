//! The derivation policy: which FHIR types belong to which record type, which are essential, and what may show on the ledger.

mod changes;

use crate::{CODE_BYTES_MAX, CODES_MAX, Code, PolicyKind, document};
use record::{Digest, RecordType};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The longest policy document, in bytes.
pub const DERIVATION_POLICY_BYTES_MAX: usize = 64 * 1024;

/// The shortest time that frames may be kept for, in seconds: the last of a binding may be batched for a minute after its end.
pub const KEEP_S_MIN: u32 = 60;
/// The longest time that frames may be let go after, in seconds: a hundred years. Who wants to keep them for ever names none.
pub const KEEP_S_MAX: u32 = 3_155_760_000;
/// The narrowest window of a roll-up, in seconds.
pub const ROLL_UP_S_MIN: u32 = 10;
/// The widest window of a roll-up, in seconds.
pub const ROLL_UP_S_MAX: u32 = 3_600;

const BUILTIN: &str = include_str!("../../../policies/derivation.toml");

/// The system of the code that names a resource's FHIR type.
const TYPE_SYSTEM: &str = "fhir-type";

/// A derivation policy that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivationPolicy {
    digest: Digest,
    document: Document,
    // INVARIANT: every FHIR type of the document once.
    kinds: BTreeMap<String, RecordType>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    batch_cadence_s: u32,
    access_window_s: u32,
    essential: BTreeSet<String>,
    default_type: RecordType,
    types: BTreeMap<RecordType, Vec<String>>,
    #[serde(default)]
    refine: Vec<Refinement>,
    show: Show,
    retention: Option<Retention>,
}

/// How long frames of sensors are kept whole, and what is left of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// So many seconds after their batch became final frames may be let go.
    // INVARIANT: KEEP_S_MIN..=KEEP_S_MAX.
    pub keep_s: u32,
    /// The width of a roll-up's windows, in seconds.
    // INVARIANT: ROLL_UP_S_MIN..=ROLL_UP_S_MAX.
    pub roll_up_s: u32,
}

/// A resource of `fhir_type` that has the element `having` is of the record type `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refinement {
    #[serde(rename = "type")]
    fhir_type: String,
    having: String,
    #[serde(rename = "as")]
    kind: RecordType,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Show {
    fhir_type: bool,
    hidden_types: BTreeSet<String>,
    #[serde(default)]
    codes: Vec<ShownCodes>,
}

/// Codes of `system` in the element `code` of resources of `fhir_type` in a `category` that may show.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShownCodes {
    #[serde(rename = "type")]
    fhir_type: String,
    category: String,
    short: String,
    system: String,
    codes: BTreeSet<String>,
}

/// Why a text is no derivation policy. Its author's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDerivationPolicy {
    /// Longer than [`DERIVATION_POLICY_BYTES_MAX`].
    #[error("a derivation policy has at most {DERIVATION_POLICY_BYTES_MAX} bytes")]
    TooLarge,
    /// Not TOML, or not these keys.
    #[error("not a derivation policy: {0}")]
    Malformed(String),
    /// A version that this software does not know.
    #[error("derivation policy version {0} is unknown: this software reads version 1")]
    Version(u32),
    /// A FHIR type stands under two record types.
    #[error("`{0}` stands under two record types")]
    TypeTwice(String),
    /// Not the name of a FHIR type.
    #[error("`{0}` is no name of a FHIR type")]
    TypeName(String),
    /// An essential type that no record type lists.
    #[error("`{0}` is essential and stands under no record type")]
    EssentialUnlisted(String),
    /// A code that does not fit an entry.
    #[error("`{0}` is no code: 1 to {CODE_BYTES_MAX} printable characters without spaces")]
    BadCode(String),
    /// Zero, or longer than an hour.
    #[error("`{0}` must be 1 to 3600 seconds")]
    Seconds(&'static str),
    /// Frames would be kept for too short or too long a time.
    #[error(
        "`retention.keep_s` must be {KEEP_S_MIN} to {KEEP_S_MAX} seconds: without `[retention]` frames are kept for ever"
    )]
    KeepSeconds,
    /// Windows of a roll-up that are too narrow or too wide.
    #[error("`retention.roll_up_s` must be {ROLL_UP_S_MIN} to {ROLL_UP_S_MAX} seconds")]
    RollUpSeconds,
}

impl DerivationPolicy {
    /// Reads and checks a policy document.
    pub fn parse(text: &str) -> Result<Self, BadDerivationPolicy> {
        if text.len() > DERIVATION_POLICY_BYTES_MAX {
            return Err(BadDerivationPolicy::TooLarge);
        }
        let document: Document =
            toml::from_str(text).map_err(|e| BadDerivationPolicy::Malformed(e.message().to_owned()))?;
        if document.version != 1 {
            return Err(BadDerivationPolicy::Version(document.version));
        }
        let cadences = [("batch_cadence_s", document.batch_cadence_s), ("access_window_s", document.access_window_s)];
        if let Some((name, _)) = cadences.into_iter().find(|(_, seconds)| !(1..=3600).contains(seconds)) {
            return Err(BadDerivationPolicy::Seconds(name));
        }
        if let Some(Retention { keep_s, roll_up_s }) = document.retention {
            if !(KEEP_S_MIN..=KEEP_S_MAX).contains(&keep_s) {
                return Err(BadDerivationPolicy::KeepSeconds);
            }
            if !(ROLL_UP_S_MIN..=ROLL_UP_S_MAX).contains(&roll_up_s) {
                return Err(BadDerivationPolicy::RollUpSeconds);
            }
        }
        let kinds = kinds(&document)?;
        if let Some(unlisted) = document.essential.iter().find(|name| !kinds.contains_key(*name)) {
            return Err(BadDerivationPolicy::EssentialUnlisted(unlisted.clone()));
        }
        for shown in &document.show.codes {
            if let Some(bad) = shown.codes.iter().chain([&shown.short]).find(|code| !is_code(code)) {
                return Err(BadDerivationPolicy::BadCode(bad.clone()));
            }
        }
        Ok(Self { digest: document::digest(PolicyKind::Derivation, text.as_bytes()), document, kinds })
    }

    /// The policy that this software is delivered with.
    pub fn builtin() -> Result<Self, BadDerivationPolicy> {
        Self::parse(BUILTIN)
    }

    /// The text of [`DerivationPolicy::builtin`].
    pub fn builtin_text() -> &'static str {
        BUILTIN
    }

    /// What names the document on the ledger: SHA-256(domain ‖ exact text).
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The record type of a FHIR type, before its content is looked at.
    pub fn record_type(&self, fhir_type: &str) -> RecordType {
        self.kinds.get(fhir_type).copied().unwrap_or(self.document.default_type)
    }

    /// The record type of a resource.
    pub fn record_type_of(&self, fhir_type: &str, resource: &Value) -> RecordType {
        let refined = self.document.refine.iter().find(|refinement| {
            refinement.fhir_type == fhir_type && resource.get(&refinement.having).is_some_and(|value| !value.is_null())
        });
        refined.map_or_else(|| self.record_type(fhir_type), |refinement| refinement.kind)
    }

    /// The record type of a resource by its bytes, which are read only where they may hold what refines it.
    pub fn record_type_of_bytes(&self, fhir_type: &str, bytes: &[u8]) -> RecordType {
        let mut refining = self.document.refine.iter().filter(|refinement| refinement.fhir_type == fhir_type);
        // A key that is written with escapes has to be read. Anything but text is no resource.
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        if !refining.any(|refinement| text.contains(&refinement.having) || text.contains("\\u")) {
            return self.record_type(fhir_type);
        }
        serde_json::from_slice(bytes)
            .map_or_else(|_| self.record_type(fhir_type), |resource| self.record_type_of(fhir_type, &resource))
    }

    /// Whether versions of this FHIR type have an encrypted copy in the vaults.
    pub fn is_essential(&self, fhir_type: &str) -> bool {
        self.document.essential.contains(fhir_type)
    }

    /// What an entry may show of a resource: only words of the policy itself, never words of the resource.
    pub fn codes(&self, fhir_type: &str, resource: &Value) -> Vec<Code> {
        let show = &self.document.show;
        let mut codes = Vec::new();
        // A type that no policy lists may be any text.
        if show.fhir_type && self.kinds.contains_key(fhir_type) && !show.hidden_types.contains(fhir_type) {
            codes.push(Code { system: TYPE_SYSTEM.to_owned(), code: fhir_type.to_owned() });
        }
        for shown in show.codes.iter().filter(|shown| shown.fhir_type == fhir_type && shown.is_category_of(resource)) {
            codes.extend(shown.matching(resource));
        }
        codes.sort();
        codes.dedup();
        codes.truncate(CODES_MAX);
        codes
    }

    /// How often frames are summed up by an entry, in seconds.
    pub fn batch_cadence_s(&self) -> u32 {
        self.document.batch_cadence_s
    }

    /// How long frames of sensors are kept; none where they are kept for ever.
    pub fn retention(&self) -> Option<Retention> {
        self.document.retention
    }

    /// How long reads may be gathered into one access entry, in seconds.
    pub fn access_window_s(&self) -> u32 {
        self.document.access_window_s
    }
}

impl ShownCodes {
    fn is_category_of(&self, resource: &Value) -> bool {
        let categories = resource.get("category").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        categories.iter().flat_map(codings).any(|coding| text(coding, "code") == Some(&self.category))
    }

    fn matching<'a>(&'a self, resource: &'a Value) -> impl Iterator<Item = Code> + 'a {
        let codings = resource.get("code").map(codings).unwrap_or_default();
        codings
            .iter()
            .filter(|coding| text(coding, "system") == Some(&self.system))
            .filter_map(|coding| self.codes.get(text(coding, "code")?))
            .map(|code| Code { system: self.short.clone(), code: code.clone() })
    }
}

/// The codings of a CodeableConcept.
fn codings(concept: &Value) -> &[Value] {
    concept.get("coding").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

fn kinds(document: &Document) -> Result<BTreeMap<String, RecordType>, BadDerivationPolicy> {
    let mut kinds = BTreeMap::new();
    for (kind, names) in &document.types {
        for name in names {
            if !is_type_name(name) {
                return Err(BadDerivationPolicy::TypeName(name.clone()));
            }
            if kinds.insert(name.clone(), *kind).is_some() {
                return Err(BadDerivationPolicy::TypeTwice(name.clone()));
            }
        }
    }
    Ok(kinds)
}

fn is_type_name(name: &str) -> bool {
    name.len() <= CODE_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_code(text: &str) -> bool {
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(fhir_type: &str, resource: Value) -> String {
        let codes = DerivationPolicy::builtin().unwrap().codes(fhir_type, &resource);
        codes.iter().map(|code| format!("{}|{}", code.system, code.code)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_builtin_policy_sorts_every_type_of_the_table() {
        let policy = DerivationPolicy::builtin().unwrap();
        let table = [
            (RecordType::Sensed, "Observation Device DeviceMetric"),
            (RecordType::Analytics, "RiskAssessment DetectedIssue Flag"),
            (
                RecordType::MedicalRecord,
                "Patient AllergyIntolerance MedicationStatement MedicationRequest Immunization Condition Composition",
            ),
            (
                RecordType::MedicalService,
                "Encounter Procedure MedicationAdministration ServiceRequest DiagnosticReport Unheard",
            ),
            (RecordType::Insurance, "Coverage CoverageEligibilityRequest CoverageEligibilityResponse"),
            (RecordType::Claims, "Claim ClaimResponse ExplanationOfBenefit PaymentReconciliation"),
            (RecordType::Permission, "Consent PractitionerRole AuditEvent"),
        ];
        for (kind, names) in table {
            for name in names.split(' ') {
                assert_eq!(policy.record_type(name), kind, "{name}");
            }
        }
        assert!(policy.is_essential("Patient") && policy.is_essential("Immunization"));
        assert!(!policy.is_essential("Coverage") && !policy.is_essential("Observation"));
    }

    #[test]
    fn an_observation_derived_from_others_is_analytics() {
        let policy = DerivationPolicy::builtin().unwrap();
        assert_eq!(policy.record_type_of("Observation", &json!({})), RecordType::Sensed);
        let derived = json!({"derivedFrom": [{"reference": "Observation/1"}]});
        assert_eq!(policy.record_type_of("Observation", &derived), RecordType::Analytics);
        let of_bytes = |bytes: &[u8]| policy.record_type_of_bytes("Observation", bytes);
        assert_eq!(of_bytes(derived.to_string().as_bytes()), RecordType::Analytics);
        assert_eq!(of_bytes(br#"{"\u0064erivedFrom":[{}]}"#), RecordType::Analytics);
        assert_eq!(of_bytes(br#"{"note":[{"text":"derivedFrom nothing"}]}"#), RecordType::Sensed);
    }

    #[test]
    fn only_listed_codes_of_vital_signs_show() {
        let vital = json!([{"coding": [{"code": "vital-signs"}]}]);
        let lab = json!([{"coding": [{"code": "laboratory"}]}]);
        let pulse = json!({"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "Heart rate"});
        let hiv = json!({"coding": [{"system": "http://loinc.org", "code": "75622-1"}]});
        let check = |resource, expected| assert_eq!(shown("Observation", resource), expected);
        check(json!({"category": vital, "code": pulse}), "fhir-type|Observation loinc|8867-4");
        check(json!({"category": lab, "code": pulse}), "fhir-type|Observation");
        check(json!({"category": vital, "code": hiv}), "fhir-type|Observation");
        check(json!({"category": "vital-signs", "code": 7}), "fhir-type|Observation");
        assert_eq!(shown("Condition", json!({"category": vital, "code": pulse})), "fhir-type|Condition");
        assert_eq!(shown("Flag", json!({})), "");
        assert_eq!(shown("Jane Doe, HIV positive", json!({})), "");
    }

    #[test]
    fn a_policy_that_contradicts_itself_is_refused() {
        let check = |from: &str, to: &str, expected: BadDerivationPolicy| {
            assert!(BUILTIN.contains(from), "{from}");
            assert_eq!(DerivationPolicy::parse(&BUILTIN.replacen(from, to, 1)), Err(expected));
        };
        check("version = 1", "version = 2", BadDerivationPolicy::Version(2));
        check("batch_cadence_s = 5", "batch_cadence_s = 0", BadDerivationPolicy::Seconds("batch_cadence_s"));
        check("\"DeviceMetric\"", "\"Claim\"", BadDerivationPolicy::TypeTwice("Claim".into()));
        check("\"DeviceMetric\"", "\"Device Metric\"", BadDerivationPolicy::TypeName("Device Metric".into()));
        check("\"8867-4\"", "\"heart rate\"", BadDerivationPolicy::BadCode("heart rate".into()));
        check("essential = [", "essential = [\"Dream\",", BadDerivationPolicy::EssentialUnlisted("Dream".into()));
        let retention = |text: &str| DerivationPolicy::parse(&format!("{BUILTIN}\n[retention]\n{text}\n"));
        assert_eq!(retention("keep_s = 59\nroll_up_s = 60"), Err(BadDerivationPolicy::KeepSeconds));
        assert_eq!(retention("keep_s = 3155760001\nroll_up_s = 60"), Err(BadDerivationPolicy::KeepSeconds));
        assert_eq!(retention("keep_s = 60\nroll_up_s = 9"), Err(BadDerivationPolicy::RollUpSeconds));
        assert_eq!(retention("keep_s = 60\nroll_up_s = 3601"), Err(BadDerivationPolicy::RollUpSeconds));
        assert!(matches!(retention("keep_s = 60"), Err(BadDerivationPolicy::Malformed(_))));
        assert!(matches!(retention("keep_days = 60\nroll_up_s = 60"), Err(BadDerivationPolicy::Malformed(_))));
        let unknown = DerivationPolicy::parse(&BUILTIN.replacen("version = 1", "version = 1\nextra = 1", 1));
        assert!(matches!(unknown, Err(BadDerivationPolicy::Malformed(_))), "{unknown:?}");
        let long = " ".repeat(DERIVATION_POLICY_BYTES_MAX + 1);
        assert_eq!(DerivationPolicy::parse(&long), Err(BadDerivationPolicy::TooLarge));
    }

    #[test]
    fn frames_are_kept_for_ever_unless_a_policy_says_for_how_long() {
        assert_eq!(DerivationPolicy::builtin().unwrap().retention(), None);
        let text = format!("{BUILTIN}\n[retention]\nkeep_s = 7776000\nroll_up_s = 60\n");
        let retention = DerivationPolicy::parse(&text).unwrap().retention();
        assert_eq!(retention, Some(Retention { keep_s: 90 * 86_400, roll_up_s: 60 }));
    }

    #[test]
    fn one_changed_byte_is_another_policy() {
        let other = DerivationPolicy::parse(&format!("{BUILTIN}\n")).unwrap();
        assert_ne!(other.digest(), DerivationPolicy::builtin().unwrap().digest());
    }
}
