//! A reading as FHIR R4 Observations: patient, sensor, time, exact values, URI, digest and signature of the frame.
//!
//! Channels of a panel (ECG leads, the pressures of a cuff) become components of one Observation; every other signal one of its
//! own. Numbers stand as the device sent them, samples as whole numbers under origin and factor.

use crate::{
    Doubt, Reading, Signal, Value, Waveform,
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
        None => (concept_of(first, known), known.map_or(Category::Exam, |channel| channel.category)),
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
    out.insert("code".into(), concept_of(signal, sensor::channel(&signal.name)));
    insert_value(&mut out, signal);
    Json::Object(out)
}

fn concept_of(signal: &Signal, known: Option<&Channel>) -> Json {
    match known {
        Some(channel) => concept(&channel.codes, channel.name),
        None => json!({"coding": [{"system": SIGNAL, "code": signal.name}], "text": signal.name}),
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

fn reference(to: Option<&str>, display: Option<&str>) -> Json {
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
    let mut data = String::with_capacity(wave.samples.len() * 5);
    for sample in wave.samples.iter() {
        if !data.is_empty() {
            data.push(' ');
        }
        match sample {
            // Writing to a string cannot fail.
            Some(sample) => _ = write!(data, "{sample}"),
            None => data.push('E'),
        }
    }
    json!({
        // A period in milliseconds is seldom a decimal (360 Hz), so the exact rate stands beside it.
        "extension": [{"url": format!("{EXTENSION}sampling-rate"), "valueQuantity": quantity(wave.rate_hz, "Hz")}],
        "origin": quantity(wave.origin, &wave.unit),
        "period": period_ms(wave.rate_hz).to_json(),
        "factor": wave.scale.to_json(),
        "dimensions": 1,
        "data": data,
    })
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
mod tests {
    use super::*;
    use crate::{Absence, Binding, DeviceState, Samples, Sequence, SigningKey, admit_frame};
    use record::Id16;

    fn reading(signals: Vec<Signal>) -> Reading {
        let key = SigningKey::from_bytes(&[7; 32]);
        let device: crate::DeviceId = "urn:dev:ops:32473-monitor-1".parse().unwrap();
        let at = TimeMs::from_instant("2026-11-21T10:00:00Z").unwrap();
        let binding = Binding {
            device: device.clone(),
            key: key.verifying_key(),
            patient: "Patient/1".into(),
            binding: Id16([1; 16]),
            from: at,
            until: None,
        };
        let frame = Sequence::new(device, key).next(at, signals).unwrap();
        admit_frame(frame, &binding, &DeviceState::default(), at.plus_ms(1_040)).unwrap().0
    }

    fn number(name: &str, unit: &str, value: Decimal) -> Signal {
        Signal { name: name.into(), offset_ms: 0, value: Value::Number { unit: unit.into(), value } }
    }

    fn wave(name: &str, samples: Samples) -> Signal {
        let value = Value::Waveform(Waveform {
            unit: "mV".into(),
            rate_hz: Decimal::whole(360),
            origin: Decimal::new(-512, -2).unwrap(),
            scale: Decimal::new(5, -3).unwrap(),
            samples,
        });
        Signal { name: name.into(), offset_ms: 0, value }
    }

    fn served(signals: Vec<Signal>) -> Vec<Json> {
        let context = Context { frame_uri: "urn:frame:1", patient_display: None, device_reference: Some("Device/1") };
        observations(&reading(signals), &context)
    }

    #[test]
    fn a_cuff_gives_one_observation_with_three_components() {
        let out = served(vec![
            number("nibp-sys", "mm[Hg]", Decimal::whole(121)),
            number("nibp-dia", "mm[Hg]", Decimal::whole(79)),
            Signal { name: "nibp-mean".into(), offset_ms: 0, value: Value::Absent(Absence::Error) },
        ]);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0]["code"]["coding"][0]["code"], "85354-9");
        assert_eq!(out[0]["code"]["coding"][1]["code"], "150020");
        assert_eq!(out[0]["component"][0]["valueQuantity"]["value"], 121);
        assert_eq!(out[0]["component"][2]["dataAbsentReason"]["coding"][0]["code"], "error");
        assert_eq!(out[0]["effectiveDateTime"], "2026-11-21T10:00:00.000Z");
        assert_eq!(out[0]["subject"]["reference"], "Patient/1");
    }

    #[test]
    fn leads_give_one_observation_with_exact_samples() {
        let out = served(vec![
            wave("ecg-i", Samples::I16(vec![0, -5, i16::MIN, 32_767])),
            wave("ecg-ii", Samples::I16(vec![1, 2, 3, 4])),
        ]);
        assert_eq!(out.len(), 1);
        let data = &out[0]["component"][0]["valueSampledData"];
        assert_eq!(data["data"], "0 -5 E 32767");
        assert_eq!(data["origin"]["value"].to_string(), "-5.12");
        assert_eq!(data["factor"].to_string(), "0.005");
        assert_eq!(data["period"].to_string(), "2.777777778");
        assert_eq!(data["extension"][0]["valueQuantity"]["value"], 360);
        assert_eq!(out[0]["effectivePeriod"]["end"], "2026-11-21T10:00:00.011Z");
    }

    #[test]
    fn an_observation_says_which_frame_it_came_from() {
        let reading = reading(vec![number("temp-body", "Cel", Decimal::new(366, -1).unwrap())]);
        let out = observations(&reading, &Context { frame_uri: "https://x/frame/1", ..Context::default() });
        let frame = out[0]["extension"][0]["extension"].as_array().unwrap();
        assert_eq!(frame[0]["valueUri"], "https://x/frame/1");
        assert_eq!(frame[1]["valueString"], reading.digest.to_hex());
        assert_eq!(frame[2]["valueString"].as_str().unwrap().len(), 128);
        assert_eq!(frame[5]["valueQuantity"]["value"], -1_040);
        assert_eq!(out[0]["valueQuantity"]["value"].to_string(), "36.6");
        assert_eq!(out[0]["device"]["identifier"]["value"], "urn:dev:ops:32473-monitor-1");
    }

    #[test]
    fn doubtful_and_unknown_signals_are_kept_and_marked() {
        let out =
            served(vec![number("spo2", "%", Decimal::whole(140)), number("lactate", "mmol/L", Decimal::whole(2))]);
        assert_eq!(out[0]["extension"][1]["valueCode"], "implausible");
        assert_eq!(out[0]["valueQuantity"]["value"], 140);
        assert_eq!(out[1]["extension"][1]["valueCode"], "unknown-signal");
        assert_eq!(out[1]["code"]["coding"][0]["code"], "lactate");
    }

    #[test]
    fn every_known_channel_is_served_under_its_codes() {
        for channel in sensor::ALL.iter().flat_map(|sensor| sensor.channels) {
            let value = match channel.kind {
                sensor::Kind::Coded(codes) => Value::Code(codes[0].into()),
                _ => Value::Number { unit: channel.unit.into(), value: channel.plausible.high },
            };
            let out = served(vec![Signal { name: channel.name.into(), offset_ms: 0, value }]);
            assert_eq!(out.len(), 1, "{}", channel.name);
            let code = if channel.in_panel { &out[0]["component"][0]["code"] } else { &out[0]["code"] };
            let codes: Vec<&str> =
                code["coding"].as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap()).collect();
            assert!(codes.contains(&channel.name), "{codes:?}");
            assert!(!out[0].to_string().contains("doubt"), "{}", channel.name);
        }
    }

    #[test]
    fn two_values_of_one_channel_are_two_observations() {
        let later = Signal { offset_ms: 500, ..number("pulse", "/min", Decimal::whole(81)) };
        let out = served(vec![number("pulse", "/min", Decimal::whole(80)), later]);
        assert_eq!(out[1]["effectiveDateTime"], "2026-11-21T10:00:00.500Z");
    }
}
