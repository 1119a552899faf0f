//! Findings as FHIR R4: Observation, RiskAssessment for forecasts, DetectedIssue and Flag for alarms.

use crate::{
    finding::{Alarm, AlarmChange, Finding, Kind, Measure, Severity},
    predict::{KnownModel, MODELS, RiskModel, TrendModel},
    rule::Rule,
};
use serde_json::{Map, Value as Json, json};

/// Stem of our extensions' URLs.
const EXTENSION: &str = "https://vitaltrace.org/fhir/StructureDefinition/";
const RULE: &str = "https://vitaltrace.org/fhir/CodeSystem/rule";
const MODEL: &str = "https://vitaltrace.org/fhir/CodeSystem/model";
const UCUM: &str = "http://unitsofmeasure.org";

/// Rules that measure a vital sign.
const VITAL_SIGNS: &[&str] = &["ecg-heart-rate", "mean-arterial-pressure", "pulse-rate", "respiration-rate"];

/// What a resource says beside the finding.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Reference of the patient, such as `Patient/1`.
    pub patient: &'a str,
    /// References of the sensed records it rests on, with their versions: `Observation/7/_history/1`.
    pub derived_from: &'a [String],
    /// Reference of the Device that stands for the engine, if there is one.
    pub engine: Option<&'a str>,
}

/// The resources that show a finding, without ids: one, or for an alarm that begins to sound a DetectedIssue and a Flag.
pub fn resources(finding: &Finding, context: &Context<'_>) -> Vec<Json> {
    match (finding.kind, &finding.alarm) {
        (Kind::EventTriggered, Some(alarm)) => {
            let issue = detected_issue(finding, alarm, context);
            match alarm.change {
                AlarmChange::Raised => vec![issue, flag(finding, alarm, context, "active")],
                AlarmChange::Ended => vec![issue, flag(finding, alarm, context, "inactive")],
                AlarmChange::Acknowledged { .. } => vec![issue],
            }
        }
        (Kind::Predictive, _) => vec![risk_assessment(finding, context)],
        _ => vec![observation(finding, context)],
    }
}

fn observation(finding: &Finding, context: &Context<'_>) -> Json {
    let mut out = opened("Observation", finding);
    out.insert("status".into(), "final".into());
    let category = if VITAL_SIGNS.contains(&finding.rule) { "vital-signs" } else { "survey" };
    out.insert(
        "category".into(),
        json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category}]}]),
    );
    out.insert("code".into(), code(finding));
    out.insert("subject".into(), json!({"reference": context.patient}));
    let period = json!({"start": finding.from.to_instant(), "end": finding.until.to_instant()});
    out.insert("effectivePeriod".into(), period);
    insert_engine(&mut out, "device", context);
    // The chief number is the value; without one it is said to be missing.
    let chief = finding.measures.first().filter(|_| finding.complete);
    match chief {
        Some(measure) => out.insert("valueQuantity".into(), quantity(measure)),
        None => out.insert("dataAbsentReason".into(), absent("unknown")),
    };
    let interpretation = match finding.severity {
        Severity::None => None,
        Severity::Low | Severity::Medium => Some(("A", "Abnormal")),
        Severity::High => Some(("AA", "Critical abnormal")),
    };
    if let Some((code, display)) = interpretation {
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
        out.insert(
            "interpretation".into(),
            json!([{"coding": [{"system": system, "code": code, "display": display}]}]),
        );
    }
    insert_references(&mut out, "derivedFrom", finding, context);
    let parts = finding.measures.iter().skip(usize::from(chief.is_some()));
    let mut components: Vec<Json> =
        parts.map(|measure| json!({"code": part(measure.name), "valueQuantity": quantity(measure)})).collect();
    components
        .extend(finding.missing.iter().map(|name| json!({"code": part(name), "dataAbsentReason": absent("unknown")})));
    if !components.is_empty() {
        out.insert("component".into(), components.into());
    }
    Json::Object(out)
}

/// The model file that a rule asks, where it asks one.
fn model_of(rule: &str) -> Option<&'static KnownModel> {
    let id = match rule {
        "hospital-mortality" => RiskModel::ID,
        "next-hour-forecast" => TrendModel::ID,
        _ => return None,
    };
    MODELS.iter().find(|model| model.id == id)
}

fn risk_assessment(finding: &Finding, context: &Context<'_>) -> Json {
    let mut out = opened("RiskAssessment", finding);
    out.insert("status".into(), "final".into());
    let model = model_of(finding.rule);
    let mut method = code(finding);
    if let (Some(model), Some(codings)) = (model, method["coding"].as_array_mut()) {
        // The version is the hash of the model's file: nothing else says which model it was.
        let version = finding.model.to_hex();
        codings.push(json!({"system": MODEL, "version": version, "code": model.id, "display": model.title}));
    }
    out.insert("method".into(), method);
    out.insert("subject".into(), json!({"reference": context.patient}));
    // Of a forecast of the coming hour, the moment at which it was made.
    let made = if finding.rule == "next-hour-forecast" { finding.from } else { finding.until };
    out.insert("occurrenceDateTime".into(), made.to_instant().into());
    insert_engine(&mut out, "performer", context);
    insert_references(&mut out, "basis", finding, context);
    let prediction = if finding.rule == "hospital-mortality" { mortality(finding) } else { Some(forecast(finding)) };
    if let Some(prediction) = prediction {
        out.insert("prediction".into(), json!([prediction]));
    }
    let absent = |finding: &Finding| match (finding.missing.is_empty(), finding.complete) {
        (true, _) => None,
        (false, true) => Some(format!("Not measured: {}.", finding.missing.join(", "))),
        (false, false) => Some(format!("Nothing is predicted, for want of: {}.", finding.missing.join(", "))),
    };
    let notes =
        model.map(|model| model.limits.to_owned()).into_iter().chain(absent(finding).filter(|_| model.is_some()));
    let notes: Vec<Json> = notes.map(|text| json!({"text": text})).collect();
    if !notes.is_empty() {
        out.insert("note".into(), notes.into());
    }
    Json::Object(out)
}

/// A vital sign at a later time. Where there is an interval, `probabilityDecimal` is how likely it holds what comes.
fn forecast(finding: &Finding) -> Json {
    let signal = finding.signal.as_deref().unwrap_or("value");
    let number = |name| finding.measure(name).map(shown);
    let mut text = format!("{signal} at {}: {}", finding.until, number("forecast").unwrap_or_else(|| "unknown".into()));
    if let (Some(low), Some(high)) = (number("low"), number("high")) {
        text += &format!(" ({low} to {high})");
    }
    let risk = if finding.severity >= Severity::Medium { "moderate" } else { "low" };
    let mut prediction = json!({
        "extension": numbers(finding), "outcome": {"text": text}, "qualitativeRisk": qualitative(risk),
        "whenPeriod": {"start": finding.from.to_instant(), "end": finding.until.to_instant()}
    });
    if let Some(coverage) = finding.measure("coverage") {
        prediction["probabilityDecimal"] = json!(coverage / 100.0);
    }
    prediction
}

/// Death in this hospital stay, whenever that ends: there is no `when`.
fn mortality(finding: &Finding) -> Option<Json> {
    let probability = finding.measure("probability")?;
    let risk = match finding.severity {
        Severity::High => "high",
        Severity::Medium => "moderate",
        Severity::Low | Severity::None => "low",
    };
    Some(json!({
        "extension": numbers(finding), "outcome": {"text": "death in this hospital stay"}, "probabilityDecimal": probability,
        "qualitativeRisk": qualitative(risk)
    }))
}

fn numbers(finding: &Finding) -> Json {
    let values: Vec<Json> =
        finding.measures.iter().map(|m| json!({"url": m.name, "valueQuantity": quantity(m)})).collect();
    json!([{"extension": values, "url": format!("{EXTENSION}forecast")}])
}

fn qualitative(risk: &str) -> Json {
    json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/risk-probability", "code": risk}]})
}

fn detected_issue(finding: &Finding, alarm: &Alarm, context: &Context<'_>) -> Json {
    let mut out = opened("DetectedIssue", finding);
    out.insert("status".into(), "final".into());
    let kind = if alarm.technical { "technical alarm" } else { "physiological alarm" };
    out.insert("code".into(), json!({"coding": alarm_codings(finding, alarm), "text": kind}));
    let severity = match finding.severity {
        Severity::High => "high",
        Severity::Medium => "moderate",
        Severity::Low | Severity::None => "low",
    };
    out.insert("severity".into(), severity.into());
    out.insert("patient".into(), json!({"reference": context.patient}));
    out.insert("identifiedDateTime".into(), finding.until.to_instant().into());
    insert_engine(&mut out, "author", context);
    if !context.derived_from.is_empty() {
        let details: Vec<Json> = context.derived_from.iter().map(|to| json!({"reference": to})).collect();
        out.insert("evidence".into(), json!([{"detail": details}]));
    }
    let change = match &alarm.change {
        AlarmChange::Raised => "raised",
        AlarmChange::Ended => "ended",
        AlarmChange::Acknowledged { .. } => "acknowledged",
    };
    let values: Vec<String> =
        finding.measures.iter().map(|m| format!("{} {} {}", m.name, shown(m.value), m.unit)).collect();
    let since = alarm.condition_since;
    out.insert(
        "detail".into(),
        format!("{} {change}, condition since {since}: {}", alarm.name, values.join(", ")).into(),
    );
    if let AlarmChange::Acknowledged { by } = &alarm.change {
        let mitigation = json!({"action": {"text": "acknowledged"}, "date": finding.until.to_instant(), "author": {"reference": by}});
        out.insert("mitigation".into(), json!([mitigation]));
    }
    Json::Object(out)
}

fn flag(finding: &Finding, alarm: &Alarm, context: &Context<'_>, status: &str) -> Json {
    let mut out = opened("Flag", finding);
    out.insert("status".into(), status.into());
    let category = if alarm.technical { "admin" } else { "clinical" };
    out.insert(
        "category".into(),
        json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": category}]}]),
    );
    out.insert("code".into(), json!({"coding": alarm_codings(finding, alarm), "text": alarm.name}));
    out.insert("subject".into(), json!({"reference": context.patient}));
    let mut period = json!({"start": alarm.condition_since.to_instant()});
    if alarm.change == AlarmChange::Ended {
        period["end"] = finding.until.to_instant().into();
    }
    out.insert("period".into(), period);
    insert_engine(&mut out, "author", context);
    Json::Object(out)
}

/// Type and extension: rule, version, model, the finding's digest, and the frames it rests on.
fn opened(resource_type: &str, finding: &Finding) -> Map<String, Json> {
    let mut parts = vec![
        json!({"url": "rule", "valueCode": finding.rule}),
        json!({"url": "version", "valuePositiveInt": finding.version}),
        json!({"url": "model", "valueString": finding.model.to_hex()}),
        json!({"url": "digest", "valueString": finding.digest().to_hex()}),
        json!({"url": "complete", "valueBoolean": finding.complete}),
    ];
    parts.extend(finding.inputs.iter().map(|frame| json!({"url": "frame", "valueString": frame.to_hex()})));
    let mut out = Map::new();
    out.insert("resourceType".into(), resource_type.into());
    out.insert("extension".into(), json!([{"extension": parts, "url": format!("{EXTENSION}finding")}]));
    out
}

fn code(finding: &Finding) -> Json {
    let rule = Rule::find(finding.rule);
    let title = rule.map_or(finding.rule, |rule| rule.title);
    let text = finding.signal.as_ref().map_or_else(|| title.to_owned(), |signal| format!("{title}: {signal}"));
    let mut coding: Vec<Json> = Vec::new();
    for (system, code, display) in rule.map_or(&[][..], |rule| rule.codes) {
        coding.push(json!({"system": system, "code": code, "display": display}));
    }
    if !coding.iter().any(|coding| coding["system"] == RULE) {
        coding.push(json!({"system": RULE, "code": finding.rule, "display": title}));
    }
    json!({"coding": coding, "text": text})
}

/// The alarm's name, and the codes that others have for what its rule finds.
fn alarm_codings(finding: &Finding, alarm: &Alarm) -> Vec<Json> {
    let own = json!({"system": "https://vitaltrace.org/fhir/CodeSystem/alarm", "code": alarm.name});
    let codes = Rule::find(finding.rule).map_or(&[][..], |rule| rule.codes);
    let others = codes.iter().filter(|(system, ..)| *system != RULE);
    let others = others.map(|(system, code, display)| json!({"system": system, "code": code, "display": display}));
    std::iter::once(own).chain(others).collect()
}

fn part(name: &str) -> Json {
    json!({"coding": [{"system": "https://vitaltrace.org/fhir/CodeSystem/measure", "code": name}], "text": name})
}

fn quantity(measure: &Measure) -> Json {
    json!({"value": measure.value, "unit": measure.unit, "system": UCUM, "code": measure.unit})
}

fn absent(code: &str) -> Json {
    json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": code}]})
}

/// A number for people, to one decimal.
fn shown(value: f64) -> String {
    format!("{value:.1}")
}

fn insert_engine(out: &mut Map<String, Json>, field: &str, context: &Context<'_>) {
    if let Some(engine) = context.engine {
        out.insert(field.into(), json!({"reference": engine}));
    }
}

/// The frames and the charted records that a finding rests on.
fn insert_references(out: &mut Map<String, Json>, field: &str, finding: &Finding, context: &Context<'_>) {
    let references: Vec<Json> =
        context.derived_from.iter().chain(&finding.records).map(|to| json!({"reference": to})).collect();
    if !references.is_empty() {
        out.insert(field.into(), references.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::{Input, Measured, Person},
        monitor::Monitor,
        recorded::{Part, Recorded},
    };
    use record::{TimeMs, sha256};

    fn found(signal: &str, values: &[f64], every_s: u64) -> Vec<Json> {
        let mut monitor = Monitor::new(&Person::default());
        let derived_from = ["Observation/1/_history/1".to_owned()];
        let context = Context { patient: "Patient/1", derived_from: &derived_from, engine: Some("Device/engine") };
        let mut out = Vec::new();
        for (n, value) in values.iter().enumerate() {
            let at = TimeMs(n as u64 * every_s * 1_000);
            let frame = sha256(&[&n.to_be_bytes()]);
            let input = Input { frame, signal, at, value: Measured::Number(*value) };
            out.extend(monitor.take(&input).iter().flat_map(|finding| resources(finding, &context)));
        }
        out
    }

    #[test]
    fn an_alarm_is_a_detected_issue_and_a_flag() {
        let out = found("nibp-sys", &[85.0], 1);
        let issue = out.iter().find(|r| r["resourceType"] == "DetectedIssue").unwrap();
        assert_eq!((&issue["severity"], &issue["code"]["coding"][0]["code"]), (&json!("high"), &json!("systolic-low")));
        assert_eq!(issue["evidence"][0]["detail"][0]["reference"], "Observation/1/_history/1");
        let flag = out.iter().find(|r| r["resourceType"] == "Flag").unwrap();
        assert_eq!((&flag["status"], &flag["subject"]["reference"]), (&json!("active"), &json!("Patient/1")));
    }

    #[test]
    fn a_tachycardia_has_its_code_in_the_nomenclature_of_devices() {
        let sinus = Part::Sinus { per_min: 75.0, seconds: 30.0 };
        let parts = [sinus, Part::Ventricular { per_min: 160.0, seconds: 8.0 }];
        let record = Recorded::made(99, 250.0, 0.01, &parts);
        let mut monitor = Monitor::new(&Person::default());
        let mut out = Vec::new();
        for (second, values) in record.leads[0].chunks_exact(250).enumerate() {
            let value = Measured::Wave { rate_hz: 250.0, values };
            let input = Input { frame: sha256(&[]), signal: "ecg-ii", at: TimeMs(second as u64 * 1_000), value };
            let context = Context { patient: "Patient/1", derived_from: &[], engine: None };
            out.extend(monitor.take(&input).iter().flat_map(|finding| resources(finding, &context)));
        }
        for kind in ["DetectedIssue", "Flag"] {
            let found = out.iter().find(|r| r["resourceType"] == kind).unwrap();
            assert_eq!(found["code"]["coding"][0]["code"], "ventricular-tachycardia");
            assert_eq!(found["code"]["coding"][1]["code"], "148160");
        }
    }

    #[test]
    fn a_risk_names_its_model_by_hash_and_says_what_it_is_not_for() {
        let rule = Rule::find("hospital-mortality").unwrap();
        let measure = |name, value| Measure { name, value, unit: "1" };
        let model = sha256(&[b"model"]);
        let finding = Finding {
            model,
            severity: Severity::Medium,
            measures: vec![measure("probability", 0.31), measure("low", 0.2), measure("high", 0.4)],
            missing: vec!["lactate"],
            records: vec!["Observation/7/_history/2".into()],
            ..crate::rule::Author::of(rule).finding(TimeMs(0), TimeMs(86_400_000), vec![sha256(&[])])
        };
        let frames = ["Observation/1/_history/1".to_owned()];
        let context = Context { patient: "Patient/1", derived_from: &frames, engine: None };
        let risk = resources(&finding, &context).remove(0);
        let prediction = &risk["prediction"][0];
        assert_eq!(
            (&risk["resourceType"], &prediction["probabilityDecimal"]),
            (&json!("RiskAssessment"), &json!(0.31))
        );
        assert_eq!(prediction["qualitativeRisk"]["coding"][0]["code"], "moderate");
        let method =
            risk["method"]["coding"].as_array().unwrap().iter().find(|coding| coding["system"] == MODEL).unwrap();
        assert_eq!((&method["code"], &method["version"]), (&json!("icu-mortality-1"), &json!(model.to_hex())));
        let basis: Vec<&Json> = risk["basis"].as_array().unwrap().iter().map(|to| &to["reference"]).collect();
        assert_eq!(basis, ["Observation/1/_history/1", "Observation/7/_history/2"]);
        assert!(risk["note"][0]["text"].as_str().unwrap().starts_with("For research, not for treating anybody"));
        assert_eq!(risk["note"][1]["text"], "Not measured: lactate.");
        let nothing = Finding { complete: false, measures: Vec::new(), missing: vec!["age"], ..finding };
        let nothing = resources(&nothing, &context).remove(0);
        assert_eq!(
            (nothing.get("prediction"), &nothing["note"][1]["text"]),
            (None, &json!("Nothing is predicted, for want of: age."))
        );
    }

    #[test]
    fn an_incomplete_score_has_no_value() {
        let out = found("spo2", &[97.0], 1);
        let score = out.iter().find(|r| r["code"]["coding"][0]["code"] == "1104051000000101").unwrap();
        assert_eq!(score.get("valueQuantity"), None);
        assert_eq!(score["dataAbsentReason"]["coding"][0]["code"], "unknown");
        assert!(score["component"].as_array().unwrap().len() >= 7);
    }

    #[test]
    fn a_summary_is_an_observation_and_a_forecast_a_risk_assessment() {
        let out = found("heart-rate", &[120.0; 30], 30);
        let summary = out.iter().find(|r| r["code"]["coding"][0]["code"] == "window-summary").unwrap();
        assert_eq!(summary["valueQuantity"]["value"], 120.0);
        assert_eq!(summary["derivedFrom"][0]["reference"], "Observation/1/_history/1");
        assert_eq!(summary["extension"][0]["extension"][0]["valueCode"], "window-summary");
        let risks: Vec<&Json> = out.iter().filter(|r| r["resourceType"] == "RiskAssessment").collect();
        let last = &risks.last().unwrap()["prediction"][0];
        assert_eq!(last["qualitativeRisk"]["coding"][0]["code"], "moderate");
        assert!(last["outcome"]["text"].as_str().unwrap().ends_with("120.0 (120.0 to 120.0)"), "{last}");
    }
}
