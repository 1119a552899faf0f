//! A reading as FHIR R4 Observations: patient, sensor, time, exact values, URI, digest and signature of the frame.
//!
//! Channels of a panel (ECG leads, the pressures of a cuff) become components of one Observation; every other signal one of its
//! own. Numbers stand as the device sent them, samples as whole numbers under origin and factor.

use crate::{
    Doubt, Estimate, Limits, Reading, Signal, Value, Waveform,
    decimal::Decimal,
    sensor::{self, Category, Channel, Codes, LOINC, MDC, SIGNAL, Sensor, UCUM},
};
use record::TimeMs;
use serde_json::{Map, Value as Json, json};

/// Stem of our extensions' URLs.
pub const EXTENSION: &str = "https://vitaltrace.org/fhir/StructureDefinition/";
/// System of device names: they are URNs.
const URN: &str = "urn:ietf:rfc:3986";
/// Code system of `dataAbsentReason`.
const ABSENT: &str = "http://terminology.hl7.org/CodeSystem/data-absent-reason";

/// What an Observation says beside the reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Where the frame as received can be read.
    pub frame_uri: &'a str,
    /// The patient's name for people, where the reader may see it.
    pub patient_display: Option<&'a str>,
    /// Reference of the FHIR Device, such as `Device/1`.
    pub device_reference: Option<&'a str>,
}

/// The Observations of one reading, in the order of its signals, without ids. A heartbeat has none.
pub fn observations(reading: &Reading, context: &Context<'_>) -> Vec<Json> {
    groups(&reading.signals).iter().map(|group| observation(reading, context, group)).collect()
}

/// Signals that share an Observation: positions in the reading.
struct Group {
    panel: Option<(&'static Sensor, sensor::Panel)>,
    members: Vec<usize>,
}

fn groups(signals: &[Signal]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, signal) in signals.iter().enumerate() {
        let panel = sensor::sensor_of(&signal.name)
            .and_then(|(sensor, channel)| sensor.panel.filter(|_| channel.in_panel).map(|panel| (sensor, panel)));
        let home = groups.iter_mut().find(|group| {
            let together = |&member: &usize| {
                let other: &Signal = &signals[member];
                other.offset_ms == signal.offset_ms && other.name != signal.name
            };
            panel.is_some() && group.panel == panel && group.members.iter().all(together)
        });
        match home {
            Some(group) => group.members.push(at),
            None => groups.push(Group { panel, members: vec![at] }),
        }
    }
    groups
}

fn observation(reading: &Reading, context: &Context<'_>, group: &Group) -> Json {
    let first = &reading.signals[group.members[0]];
    let known = sensor::channel(&first.name);
    let (code, category) = match group.panel {
        Some((sensor, panel)) => (concept(&panel.codes, sensor.name), panel.category),
        None => (concept_of(&first.name, known), known.map_or(Category::Exam, |channel| channel.category)),
    };
    let mut out = Map::new();
    out.insert("resourceType".into(), "Observation".into());
    let mut extensions = vec![frame_extension(reading, context)];
    if group.panel.is_none() {
        extensions.extend(doubt_extensions(reading, group.members[0]));
    }
    out.insert("extension".into(), extensions.into());
    out.insert("status".into(), "final".into());
    out.insert(
        "category".into(),
        json!([{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": category.code(),
            "display": category.display(),
        }]}]),
    );
    out.insert("code".into(), code);
    out.insert("subject".into(), reference(Some(&reading.patient), context.patient_display));
    insert_effective(&mut out, reading, group);
    out.insert("issued".into(), reading.received_at.to_instant().into());
    if group.panel.is_none() {
        insert_value(&mut out, first);
    }
    if sensor::sensor_of(&first.name).is_some_and(|(sensor, _)| sensor.is_entered) {
        out.insert("method".into(), json!({"text": "Assessed and entered by a person"}));
    }
    let mut device = reference(context.device_reference, None);
    device["identifier"] = json!({"system": URN, "value": reading.device.as_str()});
    out.insert("device".into(), device);
    if group.panel.is_some() {
        out.insert("component".into(), group.members.iter().map(|&at| component(reading, at)).collect());
    }
    Json::Object(out)
}

fn component(reading: &Reading, at: usize) -> Json {
    let signal = &reading.signals[at];
    let mut out = Map::new();
    let doubts = doubt_extensions(reading, at);
    if !doubts.is_empty() {
        out.insert("extension".into(), doubts.into());
    }
    out.insert("code".into(), concept_of(&signal.name, sensor::channel(&signal.name)));
    insert_value(&mut out, signal);
    Json::Object(out)
}

/// The code of a signal.
pub(crate) fn concept_of(signal: &str, known: Option<&Channel>) -> Json {
    match known {
        Some(channel) => concept(&channel.codes, channel.name),
        None => json!({"coding": [{"system": SIGNAL, "code": signal}], "text": signal}),
    }
}

fn concept(codes: &Codes, name: &str) -> Json {
    let mut coding: Vec<Json> =
        codes.loinc.iter().map(|(code, display)| json!({"system": LOINC, "code": code, "display": display})).collect();
    if let Some((code, display)) = codes.mdc {
        coding.push(json!({"system": MDC, "code": code.to_string(), "display": display}));
    }
    coding.push(json!({"system": SIGNAL, "code": name, "display": codes.display}));
    json!({"coding": coding, "text": codes.display})
}

/// A reference, with what people call it.
pub(crate) fn reference(to: Option<&str>, display: Option<&str>) -> Json {
    let mut out = Map::new();
    if let Some(to) = to {
        out.insert("reference".into(), to.into());
    }
    if let Some(display) = display {
        out.insert("display".into(), display.into());
    }
    Json::Object(out)
}

/// The moment of a number, the period of a waveform.
fn insert_effective(out: &mut Map<String, Json>, reading: &Reading, group: &Group) {
    let start = TimeMs(reading.measured_at.0.saturating_add_signed(reading.signals[group.members[0]].offset_ms));
    let duration_ms = group.members.iter().filter_map(|&at| match &reading.signals[at].value {
        Value::Waveform(wave) => Some(wave.duration_ms()),
        _ => None,
    });
    match duration_ms.max() {
        None => out.insert("effectiveDateTime".into(), start.to_instant().into()),
        Some(ms) => {
            let period = json!({"start": start.to_instant(), "end": start.plus_ms(ms).to_instant()});
            out.insert("effectivePeriod".into(), period)
        }
    };
}

fn insert_value(out: &mut Map<String, Json>, signal: &Signal) {
    match &signal.value {
        Value::Number { unit, value } => out.insert("valueQuantity".into(), quantity(*value, unit)),
        Value::Code(code) => {
            let system = format!("https://vitaltrace.org/fhir/CodeSystem/{}", signal.name);
            out.insert(
                "valueCodeableConcept".into(),
                json!({"coding": [{"system": system, "code": code}], "text": code}),
            )
        }
        Value::Absent(why) => {
            out.insert("dataAbsentReason".into(), json!({"coding": [{"system": ABSENT, "code": why.code()}]}))
        }
        Value::Waveform(wave) => out.insert("valueSampledData".into(), sampled_data(wave)),
    };
}

fn quantity(value: Decimal, unit: &str) -> Json {
    json!({"value": value.to_json(), "unit": unit, "system": UCUM, "code": unit})
}

fn sampled_data(wave: &Waveform) -> Json {
    use std::fmt::Write as _;
    let Limits { low, high } = wave.limits;
    let mut data = String::with_capacity(wave.samples.len() * 5);
    for sample in wave.samples.iter() {
        if !data.is_empty() {
            data.push(' ');
        }
        match sample {
            None => data.push('E'),
            sample if sample == low => data.push('L'),
            sample if sample == high => data.push('U'),
            // Writing to a string cannot fail.
            Some(sample) => _ = write!(data, "{sample}"),
        }
    }
    let mut out = json!({
        // A period in milliseconds is seldom a decimal (360 Hz), so the exact rate stands beside it.
        "extension": [{"url": format!("{EXTENSION}sampling-rate"), "valueQuantity": quantity(wave.rate_hz, "Hz")}],
        "origin": quantity(wave.origin, &wave.unit),
        "period": period_ms(wave.rate_hz).to_json(),
        "factor": wave.scale.to_json(),
    });
    for (name, limit) in [("lowerLimit", low), ("upperLimit", high)] {
        if let Some(limit) = limit {
            // Rounded only where the exact value has more digits than a JSON number carries.
            let rounded = || Decimal::from_f64(wave.origin.to_f64() + f64::from(limit) * wave.scale.to_f64());
            out[name] = wave.value_of(limit).or_else(rounded).unwrap_or(wave.origin).to_json();
        }
    }
    out["dimensions"] = 1.into();
    out["data"] = data.into();
    out
}

/// The time between samples in milliseconds, to nine decimals.
fn period_ms(rate_hz: Decimal) -> Decimal {
    Decimal::from_f64((1e12 / rate_hz.to_f64()).round() / 1e9).unwrap_or(Decimal::ZERO)
}

fn frame_extension(reading: &Reading, context: &Context<'_>) -> Json {
    let hex: String = reading.signature.iter().map(|b| format!("{b:02x}")).collect();
    let mut parts = vec![
        json!({"url": "uri", "valueUri": context.frame_uri}),
        json!({"url": "digest", "valueString": reading.digest.to_hex()}),
        json!({"url": "signature", "valueString": hex}),
        json!({"url": "counter", "valueString": reading.counter.to_string()}),
        json!({"url": "binding", "valueString": reading.binding.to_hex()}),
        json!({"url": "clock-offset", "valueQuantity":
            {"value": reading.clock_offset_ms, "unit": "ms", "system": UCUM, "code": "ms"}}),
    ];
    if let Some(gap) = reading.gap {
        parts.push(json!({"url": "missing-before", "valueString": format!("{}-{}", gap.first, gap.last)}));
    }
    json!({"extension": parts, "url": format!("{EXTENSION}frame")})
}

/// Says in an Observation how its device's clock stood to ours when it was measured, beside the frame's own times.
pub fn show_clock(observation: &mut Json, told: &Estimate) {
    let quantity = |value: Json, unit: &str| json!({"value": value, "unit": unit, "system": UCUM, "code": unit});
    let mut parts = vec![json!({"url": "offset", "valueQuantity": quantity(told.offset_ms.into(), "ms")})];
    let drift = told.drift_ppm.and_then(|ppm| Decimal::from_f64((ppm * 10.0).round() / 10.0));
    parts.extend(drift.map(|ppm| json!({"url": "drift", "valueQuantity": quantity(ppm.to_json(), "[ppm]")})));
    if let Some(extensions) = observation["extension"].as_array_mut() {
        extensions.push(json!({"extension": parts, "url": format!("{EXTENSION}device-clock")}));
    }
}

fn doubt_extensions(reading: &Reading, at: usize) -> Vec<Json> {
    let of_signal = reading.doubts.iter().filter(|(signal, _)| *signal == at);
    of_signal.map(|(_, doubt)| json!({"url": format!("{EXTENSION}doubt"), "valueCode": doubt.code()})).collect()
}

impl Doubt {
    /// A short name that stays the same.
    pub fn code(self) -> &'static str {
        match self {
            Self::Implausible => "implausible",
            Self::UnknownSignal => "unknown-signal",
            Self::OtherUnit => "other-unit",
            Self::UnknownCode => "unknown-code",
            Self::MissingSamples => "missing-samples",
        }
    }
}

#[cfg(test)]
mod tests;
