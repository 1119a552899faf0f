//! What a patient's chart says that scores and models need: who the person is, and values that people and laboratories wrote down.
//!
//! Sources of the codes: pregnancy status, IPS value set `pregnancy-status-uv-ips` (LOINC 82810-3 with LOINC or SNOMED CT answers);
//! supervision of a pregnancy, ICD-10 Z33 to Z35 and ICD-10-CM O09, Z33.1, Z34 and Z3A; the scale of saturation, SNOMED CT (UK) codes of the
//! two scores of NEWS2, as the NEWS2 profiles of HL7 UK and HL7 Norway have them; laboratory and bedside values, LOINC.

use crate::{
    input::Person,
    predict::{Variable, WINDOW_H},
};
use record::TimeMs;
use serde_json::Value as Json;

/// FHIR types that something is taken from.
pub const TYPES: [&str; 3] = ["Patient", "Condition", "Observation"];
/// How far charted values reach back, in milliseconds: the models look no further.
pub const LOOKED_BACK_MS: u64 = WINDOW_H * 3_600_000;
/// The most charted values that count, the latest: two days of 34 variables, one an hour.
pub const CHARTED_MAX: usize = 2_048;
/// How long a pregnancy status counts, in milliseconds: 42 weeks, the longest pregnancy by ICD-10 O48.
const PREGNANCY_MS: u64 = 42 * 7 * 86_400_000;

const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";
const UCUM: &str = "http://unitsofmeasure.org";
const ICD_10: &str = "http://hl7.org/fhir/sid/icd-10";
const ICD_10_CM: &str = "http://hl7.org/fhir/sid/icd-10-cm";

/// Pregnancy status. Source: IPS, profile `Observation-pregnancy-status-uv-ips`.
const PREGNANCY_STATUS: &str = "82810-3";
/// Pregnant, as an answer.
const PREGNANT: [(&str, &str); 2] = [(LOINC, "LA15173-0"), (SNOMED, "77386006")];
/// Conditions that say so: pregnancy, normal and high-risk pregnancy.
const PREGNANCIES: [(&str, &str); 3] = [(SNOMED, "77386006"), (SNOMED, "72892002"), (SNOMED, "47200007")];
/// Beginnings of codes of conditions that say so.
const PREGNANCIES_BEGIN: [(&str, &str); 7] = [
    (ICD_10, "Z33"),
    (ICD_10, "Z34"),
    (ICD_10, "Z35"),
    (ICD_10_CM, "O09"),
    (ICD_10_CM, "Z33.1"),
    (ICD_10_CM, "Z34"),
    (ICD_10_CM, "Z3A"),
];
/// The score of saturation by scale 1 and by scale 2 of NEWS2: who was scored by a scale last is meant to be. A diagnosis alone decides nothing:
/// scale 2 is «under the direction of a competent clinical decision maker» (Royal College of Physicians, NEWS2, 2017).
const SATURATION_SCORES: [(&str, bool); 2] = [("1104311000000102", false), ("1104321000000108", true)];
const BODY_HEIGHT: &str = "8302-2";

/// What measures a variable: LOINC codes, and units with what a value in them is multiplied by. No factor rounds: they are names of the same
/// unit, or powers of ten.
type Measures = (&'static str, &'static [&'static str], &'static [(&'static str, f64)]);

/// Charted values that models take. Source: LOINC; UCUM.
const CHARTED: [Measures; 33] = [
    ("heart-rate", &["8867-4"], &[("/min", 1.0), ("{beats}/min", 1.0)]),
    ("resp-rate", &["9279-1"], &[("/min", 1.0), ("{breaths}/min", 1.0)]),
    ("systolic", &["8480-6"], &[("mm[Hg]", 1.0)]),
    ("mean-pressure", &["8478-0"], &[("mm[Hg]", 1.0)]),
    ("diastolic", &["8462-4"], &[("mm[Hg]", 1.0)]),
    ("temperature", &["8310-5"], &[("Cel", 1.0)]),
    ("oxygen-saturation", &["2708-6", "59408-5"], &[("%", 1.0)]),
    ("inspired-oxygen", &["3150-6", "19994-3"], &[("%", 0.01)]),
    ("glasgow-coma-scale", &["9269-2"], &[("{score}", 1.0), ("1", 1.0)]),
    ("urine", &["9187-6"], &[("mL", 1.0)]),
    ("weight", &["29463-7", "3141-9"], &[("kg", 1.0)]),
    ("ph", &["2744-1"], &[("[pH]", 1.0)]),
    ("paco2", &["2019-8"], &[("mm[Hg]", 1.0)]),
    ("pao2", &["2703-7"], &[("mm[Hg]", 1.0)]),
    ("bicarbonate", &["1963-8", "1959-6"], &[("mmol/L", 1.0), ("meq/L", 1.0)]),
    ("lactate", &["2524-7", "32693-4", "2518-9"], &[("mmol/L", 1.0)]),
    ("sodium", &["2951-2", "2947-0"], &[("mmol/L", 1.0), ("meq/L", 1.0)]),
    ("potassium", &["2823-3", "6298-4"], &[("mmol/L", 1.0), ("meq/L", 1.0)]),
    ("magnesium", &["19123-9"], &[("mg/dL", 1.0)]),
    ("urea-nitrogen", &["3094-0", "6299-2"], &[("mg/dL", 1.0)]),
    ("creatinine", &["2160-0", "38483-4"], &[("mg/dL", 1.0)]),
    ("glucose", &["2345-7", "2339-0"], &[("mg/dL", 1.0)]),
    ("haematocrit", &["4544-3", "20570-8"], &[("%", 1.0)]),
    ("platelets", &["777-3"], &[("10*3/uL", 1.0), ("10*9/L", 1.0)]),
    ("white-cells", &["6690-2"], &[("10*3/uL", 1.0), ("10*9/L", 1.0)]),
    ("albumin", &["1751-7"], &[("g/dL", 1.0), ("g/L", 0.1)]),
    ("alkaline-phosphatase", &["6768-6"], &[("U/L", 1.0)]),
    ("alanine-transaminase", &["1742-6"], &[("U/L", 1.0)]),
    ("aspartate-transaminase", &["1920-8"], &[("U/L", 1.0)]),
    ("bilirubin", &["1975-2"], &[("mg/dL", 1.0)]),
    ("cholesterol", &["2093-3"], &[("mg/dL", 1.0)]),
    ("troponin-i", &["10839-9"], &[("ug/L", 1.0), ("ng/mL", 1.0)]),
    ("troponin-t", &["6598-7"], &[("ug/L", 1.0), ("ng/mL", 1.0)]),
];

/// A record of the chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The record with its version, such as `Observation/7/_history/1`.
    pub record: String,
    /// What it says.
    pub value: Json,
}

/// A value that somebody wrote down.
#[derive(Debug, Clone, PartialEq)]
pub struct Charted {
    /// What was measured.
    pub variable: Variable,
    /// When.
    pub at: TimeMs,
    /// The value in the variable's unit.
    pub value: f64,
    /// The record that says so, with its version.
    pub record: String,
}

/// What a chart says at a time. The same records and time give the same chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// Who it is.
    pub person: Person,
    /// The records that this is from.
    pub about_person: Vec<String>,
    /// What was measured, in the order of time; at most [`CHARTED_MAX`].
    pub charted: Vec<Charted>,
}

/// What one record says.
#[derive(Debug, Default)]
struct Told {
    age_years: Option<u16>,
    male: Option<bool>,
    /// Since when each of these has been known.
    pregnant: Option<(TimeMs, bool)>,
    scale_2: Option<(TimeMs, bool)>,
    height_cm: Option<(TimeMs, u16)>,
    charted: Vec<(Variable, TimeMs, f64)>,
}

impl Told {
    fn about_person(&self) -> bool {
        self.age_years.is_some()
            || self.male.is_some()
            || self.pregnant.is_some()
            || self.scale_2.is_some()
            || self.height_cm.is_some()
    }
}

impl Chart {
    /// LOINC codes of what is looked for in the last [`LOOKED_BACK_MS`].
    pub fn charted_codes() -> impl Iterator<Item = &'static str> {
        CHARTED.into_iter().flat_map(|(_, codes, _)| codes.iter().copied())
    }

    /// Codes of Observations that say something of the person, whenever they were made.
    pub fn person_codes() -> impl Iterator<Item = &'static str> {
        [PREGNANCY_STATUS, BODY_HEIGHT].into_iter().chain(SATURATION_SCORES.into_iter().map(|(code, _)| code))
    }

    /// Whether a record says something at a time that a chart takes.
    pub fn takes(value: &Json, at: TimeMs) -> bool {
        let told = read(value, at);
        told.about_person() || !told.charted.is_empty()
    }

    /// What records say at a time, in whatever order they stand.
    pub fn read(records: &[Said], at: TimeMs) -> Self {
        let mut chart = Self::default();
        let (mut pregnant, mut scale_2, mut height) = (None, None, None);
        let mut told: Vec<(&str, Told)> =
            records.iter().map(|said| (said.record.as_str(), read(&said.value, at))).collect();
        told.sort_by_key(|(record, _)| *record);
        for (record, told) in told {
            if told.about_person() {
                chart.about_person.push(record.to_owned());
            }
            chart.person.age_years = told.age_years.or(chart.person.age_years);
            chart.person.male = told.male.or(chart.person.male);
            // Of two that were told at the same time the one that is more careful counts.
            pregnant = pregnant.max(told.pregnant);
            scale_2 = scale_2.max(told.scale_2);
            height = height.max(told.height_cm);
            chart.charted.extend(told.charted.into_iter().map(|(variable, at, value)| Charted {
                variable,
                at,
                value,
                record: record.to_owned(),
            }));
        }
        chart.person.pregnant = pregnant.is_some_and(|(_, pregnant)| pregnant);
        chart.person.spo2_scale_2 = scale_2.is_some_and(|(_, scale_2)| scale_2);
        chart.person.height_cm = height.map(|(_, height)| height);
        chart.charted.sort_by(|a, b| (a.at, a.variable, &a.record).cmp(&(b.at, b.variable, &b.record)));
        chart.charted.drain(..chart.charted.len().saturating_sub(CHARTED_MAX));
        chart
    }
}

/// What a record says at a time; nothing that was measured later, was entered in error, or is a result of analytics itself.
fn read(value: &Json, at: TimeMs) -> Told {
    match value["resourceType"].as_str() {
        Some("Patient") => Told {
            age_years: value["birthDate"].as_str().and_then(|born| age_years(born, &at.to_instant())),
            male: match value["gender"].as_str() {
                Some("male") => Some(true),
                Some("female") => Some(false),
                _ => None,
            },
            ..Told::default()
        },
        Some("Condition") => condition(value, at),
        Some("Observation") => observation(value, at),
        _ => Told::default(),
    }
}

fn condition(value: &Json, at: TimeMs) -> Told {
    let is = |field: &str, code: &str| {
        value[field]["coding"].as_array().is_some_and(|all| all.iter().any(|coding| coding["code"] == code))
    };
    let active = ["active", "recurrence", "relapse"].into_iter().any(|status| is("clinicalStatus", status));
    let doubted = ["refuted", "entered-in-error"].into_iter().any(|status| is("verificationStatus", status));
    let over = value["abatementDateTime"].is_string() || value["abatementPeriod"].is_object();
    let pregnancy = PREGNANCIES.into_iter().any(|(system, code)| has_code(&value["code"], system, code))
        || PREGNANCIES_BEGIN
            .into_iter()
            .any(|(system, begin)| codings(&value["code"]).any(|(of, code)| of == system && code.starts_with(begin)));
    if !active || doubted || over || !pregnancy {
        return Told::default();
    }
    // It stands until it is said to be over.
    Told { pregnant: Some((at, true)), ..Told::default() }
}

fn observation(value: &Json, at: TimeMs) -> Told {
    let mut told = Told::default();
    let counts = matches!(value["status"].as_str(), Some("final" | "amended" | "corrected"));
    let time = ["effectiveDateTime", "effectiveInstant"].into_iter().find_map(|field| value[field].as_str());
    let time = time.and_then(|time| TimeMs::from_instant(time).ok());
    let own = value["derivedFrom"].as_array().is_some_and(|from| !from.is_empty());
    let Some(time) = time.filter(|time| counts && !own && *time <= at) else { return told };
    let age_ms = at.0 - time.0;
    if has_code(&value["code"], LOINC, PREGNANCY_STATUS) && age_ms <= PREGNANCY_MS {
        let answer = &value["valueCodeableConcept"];
        told.pregnant = Some((time, PREGNANT.into_iter().any(|(system, code)| has_code(answer, system, code))));
    }
    if has_code(&value["code"], LOINC, BODY_HEIGHT) {
        let height = quantity(&value["valueQuantity"], &[("cm", 1.0), ("m", 100.0)]);
        let height = height.filter(|height| (1.0..=300.0).contains(height)).map(|height| height.round() as u16);
        told.height_cm = height.map(|height| (time, height));
    }
    let components = value["component"].as_array().map(Vec::as_slice).unwrap_or_default();
    for part in std::iter::once(value).chain(components) {
        for (code, scale_2) in SATURATION_SCORES {
            if has_code(&part["code"], SNOMED, code) {
                told.scale_2 = told.scale_2.max(Some((time, scale_2)));
            }
        }
        if age_ms > LOOKED_BACK_MS {
            continue;
        }
        let measured =
            CHARTED.into_iter().find(|(_, codes, _)| codes.iter().any(|code| has_code(&part["code"], LOINC, code)));
        let Some((name, _, units)) = measured else { continue };
        if let (Some(variable), Some(number)) = (Variable::named(name), quantity(&part["valueQuantity"], units)) {
            told.charted.push((variable, time, number));
        }
    }
    told
}

fn codings(concept: &Json) -> impl Iterator<Item = (&str, &str)> {
    let all = concept["coding"].as_array().into_iter().flatten();
    all.filter_map(|coding| Some((coding["system"].as_str()?, coding["code"].as_str()?)))
}

fn has_code(concept: &Json, system: &str, code: &str) -> bool {
    codings(concept).any(|coding| coding == (system, code))
}

/// A quantity in one of the units, multiplied by the unit's factor; none where it is a bound, such as «less than».
fn quantity(value: &Json, units: &[(&str, f64)]) -> Option<f64> {
    if value["system"] != UCUM || value["comparator"].is_string() {
        return None;
    }
    let (_, factor) = units.iter().find(|(unit, _)| value["code"] == *unit)?;
    value["value"].as_f64().map(|number| number * factor).filter(|number| number.is_finite())
}

/// Whole years from a FHIR date to an instant. Of a date without day or month the latest possible day counts.
fn age_years(born: &str, now: &str) -> Option<u16> {
    let year = |text: &str| text.get(..4)?.parse::<u16>().ok();
    let latest = match born.len() {
        4 => "12-31".to_owned(),
        7 => format!("{}-31", born.get(5..)?),
        _ => born.get(5..10)?.to_owned(),
    };
    let had_birthday = latest.as_str() <= now.get(5..10)?;
    year(now)?.checked_sub(year(born)?)?.checked_sub(u16::from(!had_birthday))
}

#[cfg(test)]
mod tests;
